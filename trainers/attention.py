"""Attention for training on a CPU in bf16.

The eager attention of transformers scales and casts its large score matrix several times, and memory is what a CPU lacks;
the fused attention of torch is slow backward there. This one does the same arithmetic with two products and one softmax.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, eager_mask

LEAN = "lean"
"""Its name for `attn_implementation`."""


def lean_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Softmax attention; the scores stay in the dtype of the query, the softmax adds up in float32 within.

    Args:
        module: The attention layer; its `num_key_value_groups` tells how many query heads share a key head.
        query: (batch, heads, tokens, head size); key and value likewise, with as many heads or fewer.
        attention_mask: Added to the scores, (batch, 1, tokens, tokens), or None.
        scaling: Factor of the scores; 1 / sqrt(head size) where None.
        dropout: Share of the attention weights that are dropped.

    Returns:
        The output, (batch, tokens, heads, head size), and None for the weights.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    # scaled before the product: the query is smaller than the scores
    scores = torch.matmul(query * (query.shape[-1] ** -0.5 if scaling is None else scaling), key.transpose(2, 3))
    if attention_mask is not None:
        scores.add_(attention_mask[..., : key.shape[2]].to(scores.dtype))
    weights = torch.softmax(scores, dim=-1)
    if dropout > 0:
        weights = nn.functional.dropout(weights, dropout, module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


def leave_flash(model: PreTrainedModel, attention: str = "sdpa") -> str | None:
    """Give a model another attention in the place of flash attention, which computes in bf16 and fp16 alone.

    Returns:
        The attention that was left, None where it is no flash attention.
    """
    left = model.config._attn_implementation
    if not left or "flash" not in left:
        return None
    model.set_attn_implementation(attention)
    return left


AttentionInterface.register(LEAN, lean_attention)
AttentionMaskInterface.register(LEAN, eager_mask)
