"""The loss of the tokens that are learnt, and of no other.

A vocabulary of 50 thousand makes the logits of a batch by far its largest tensor; where only a tutor's turns are learnt, most of
them would be thrown away. They are computed at the labelled positions alone.
"""

from __future__ import annotations

import inspect

import torch
from torch import nn

from .packing import IGNORED


def token_losses(model: nn.Module, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The cross-entropy of each labelled token.

    Args:
        model: A causal language model, bare or wrapped by peft or a launcher.
        inputs: A batch of `ChatCollator`.

    Returns:
        Float32 tensor (labelled tokens,), and int64 tensor (labelled tokens,): the conversation of the batch that each is in.
    """
    targets = inputs["labels"][:, 1:]
    known = targets != IGNORED
    columns = known.any(dim=0).nonzero()[:, 0]  # the position before a label predicts it
    passed = {k: inputs[k] for k in ("input_ids", "position_ids", "attention_mask") if k in inputs}
    if _keeps_logits(model):
        logits = model(**passed, logits_to_keep=columns, use_cache=False).logits
    else:
        logits = model(**passed, use_cache=False).logits[:, columns]
    known, targets = known[:, columns], targets[:, columns]
    losses = nn.functional.cross_entropy(logits[known].float(), targets[known], reduction="none")
    if "position_ids" in inputs:  # packed
        ends = inputs["lengths"].cumsum(0)
        return losses, torch.searchsorted(ends, columns + 1, right=True)
    return losses, known.nonzero()[:, 0]


def _keeps_logits(model: nn.Module) -> bool:
    """Whether the architecture computes logits at chosen positions."""
    while inner := getattr(model, "module", None) or getattr(model, "_orig_mod", None):
        model = inner
    if hasattr(model, "get_base_model"):
        model = model.get_base_model()
    return "logits_to_keep" in inspect.signature(type(model).forward).parameters
