"""Several conversations in one row of tokens, without padding, and without one seeing another.

Positions start anew at 0 with each conversation, and that is all that a model is told: transformers builds a block-diagonal
mask from it (`masking_utils.find_packed_sequence_indices`), flash attention takes the sequences apart, and the attention here
computes each sequence by itself. It needs no matrix over the whole row, so that scores stay in the cache of a processor, and the
time grows with the square of a conversation, not of the batch. `keeps_apart` asks a model whether it listens to positions.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

PACKED = "packed"
"""The name of this attention for `attn_implementation`."""
IGNORED = -100  # label of a token that is not learnt


def packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_ids: torch.Tensor | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Causal softmax attention within each sequence of a packed row; with a mask or a cache it is torch's own.

    Args:
        module: The attention layer.
        query: (batch, heads, tokens, head size); key and value likewise, with as many heads or fewer.
        attention_mask: None where `position_ids` tell all.
        scaling: Factor of the scores; 1 / sqrt(head size) where None.
        dropout: Share of the attention weights that are dropped.
        position_ids: (batch or 1, tokens); a sequence begins wherever they do not go on by one.

    Returns:
        The output, (batch, tokens, heads, head size), and None for the weights.
    """
    if attention_mask is not None or query.shape[2] != key.shape[2]:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, position_ids=position_ids, **kwargs
        )
    starts = [0, query.shape[2]] if position_ids is None else sequence_starts(position_ids)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    outputs = []
    for start, end in zip(starts[:-1], starts[1:], strict=True):
        q, k, v = (states[:, :, start:end] for states in (query, key, value))
        if query.device.type == "cpu":
            outputs.append(_causal(q * scaling, k, v, dropout if module.training else 0.0))
        else:
            attended = nn.functional.scaled_dot_product_attention(
                q, k, v, dropout_p=dropout, scale=scaling, is_causal=True, enable_gqa=query.shape[1] != key.shape[1]
            )
            outputs.append(attended.transpose(1, 2))
    return torch.cat(outputs, dim=1).contiguous(), None


def _causal(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, dropout: float) -> torch.Tensor:
    """One sequence, with two products and a softmax in the dtype of the query; heads that share a key go through together."""
    batch, heads, tokens, size = query.shape
    shared = (batch, key.shape[1], heads // key.shape[1] * tokens, size)
    scores = torch.matmul(query.reshape(shared), key.transpose(2, 3)).view(batch, heads, tokens, tokens)
    scores.add_(_future(1 << max(0, tokens - 1).bit_length(), scores.dtype, scores.device)[:tokens, :tokens])
    weights = torch.softmax(scores, dim=-1)
    if dropout > 0:
        weights = nn.functional.dropout(weights, dropout)
    return torch.matmul(weights.view(*shared[:3], tokens), value).view(batch, heads, tokens, -1).transpose(1, 2)


@functools.lru_cache(maxsize=8)
def _future(tokens: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(tokens, tokens), minus infinity where a key lies behind its query."""
    return torch.full((tokens, tokens), -math.inf, dtype=dtype, device=device).triu_(1)


def sequence_starts(position_ids: torch.Tensor) -> list[int]:
    """Where the sequences of a packed row begin, and at the end the number of its tokens.

    >>> sequence_starts(torch.tensor([[0, 1, 2, 0, 1]]))
    [0, 3, 5]
    """
    if not bool((position_ids == position_ids[:1]).all()):
        raise ValueError("conversations are packed into one row, not into several of different positions")
    breaks = (position_ids[0, 1:] - position_ids[0, :-1] != 1).nonzero()[:, 0] + 1
    return [0, *breaks.tolist(), position_ids.shape[1]]


def packed_mask(attention_mask: torch.Tensor | None = None, **kwargs) -> torch.Tensor | None:
    """No mask where there is no padding, no window and no cache, see `packed_attention`; else that of torch's attention."""
    if attention_mask is None and kwargs["q_length"] == kwargs["kv_length"] and kwargs.get("local_size") is None:
        return None
    return sdpa_mask(attention_mask=attention_mask, **kwargs)


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, packed_mask)


@torch.no_grad()
def keeps_apart(model: PreTrainedModel, tolerance: float = 1e-3) -> bool:
    """Whether this model computes two packed sequences as it computes each alone; tried on a few tokens."""
    device, training = next(model.parameters()).device, model.training
    first, second = torch.arange(1, 6, device=device)[None], torch.arange(3, 9, device=device)[None]
    model.eval()
    try:
        alone = torch.cat([model(input_ids=ids, use_cache=False).logits for ids in (first, second)], dim=1)
        positions = torch.cat([torch.arange(ids.shape[1], device=device) for ids in (first, second)])[None]
        packed = model(input_ids=torch.cat([first, second], dim=1), position_ids=positions, use_cache=False).logits
    except (TypeError, ValueError, IndexError):  # no such arguments
        return False
    finally:
        model.train(training)
    scale = alone.abs().max().clamp(min=1)
    return bool(((packed - alone).abs().max() / scale).item() < tolerance)


@dataclass
class ChatCollator:
    """Conversations to a batch: packed into one row, or padded at the end to the longest.

    Attributes:
        pad_token_id: Token of the padding.
        packed: Whether to pack.
    """

    pad_token_id: int
    packed: bool = True

    def __call__(self, rows: Sequence[dict]) -> dict[str, torch.Tensor]:
        """Rows have input_ids and labels. Of the batch, all int64:

        label_counts (rows,): how many tokens of each are learnt. lengths (rows,). input_ids and labels, (1, all tokens) with
        position_ids where packed, else (rows, longest) with attention_mask.
        """
        ids, labels = ([torch.tensor(row[name], dtype=torch.long) for row in rows] for name in ("input_ids", "labels"))
        counts = torch.stack([(row[1:] != IGNORED).sum() for row in labels])  # nothing predicts the first token
        batch = {"label_counts": counts, "lengths": torch.tensor([len(row) for row in ids])}
        if self.packed:
            positions = torch.cat([torch.arange(len(row)) for row in ids])
            for row in labels:
                row[0] = IGNORED  # the token before it belongs to another conversation
            tokens = {"input_ids": torch.cat(ids), "labels": torch.cat(labels), "position_ids": positions}
            return batch | {name: row[None] for name, row in tokens.items()}
        pad = functools.partial(nn.utils.rnn.pad_sequence, batch_first=True)
        batch |= {"input_ids": pad(ids, padding_value=self.pad_token_id), "labels": pad(labels, padding_value=IGNORED)}
        return batch | {"attention_mask": pad([torch.ones_like(row) for row in ids])}
