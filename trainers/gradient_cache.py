"""Gradients of a loss over a whole batch, with the memory of a part of it.

A contrastive loss compares every text of a batch with every other, so its batch cannot be accumulated. Gradient caching (Gao,
Zhang, Han and Callan 2021, "Scaling deep contrastive learning batch size under memory limited setup") computes all embeddings
without a graph, the loss and its gradient with regard to the embeddings alone, and then each part of the batch again, with a
graph and that gradient. The result is the gradient of the whole batch, for one more forward pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch


def backward_in_parts(
    embed: Callable[[Any], torch.Tensor],
    parts: Sequence[Any],
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    backward: Callable[[torch.Tensor], None] = torch.Tensor.backward,
    hold: Callable[[], AbstractContextManager] = contextlib.nullcontext,
) -> torch.Tensor:
    """Add the gradient of a loss over all parts to the parameters, holding the graph of one part at a time.

    Args:
        embed: From a part to its embeddings (texts, width), with a graph where gradients are on. It is called twice for each
            part with the same random numbers, so that dropout drops the same.
        parts: What `embed` takes.
        loss_of: From the embeddings of all parts, one after the other, (all texts, width), to a scalar.
        backward: What starts the backward pass of a scalar (accelerate's, which scales fp16).
        hold: Gives a context in which processes do not share gradients yet (DDP's no_sync); for all parts but the last.

    Returns:
        The loss, without a graph.
    """
    states, found = [], []
    with torch.no_grad():
        for part in parts:
            states.append(_RandomState())
            found.append(embed(part))
    leaves = [embeddings.detach().float().requires_grad_() for embeddings in found]
    with torch.enable_grad():
        loss = loss_of(torch.cat(leaves))
    gradients = torch.autograd.grad(loss, leaves)
    for i, (part, state, gradient) in enumerate(zip(parts, states, gradients, strict=True)):
        with contextlib.nullcontext() if i == len(parts) - 1 else hold():
            with state.again():
                embeddings = embed(part)
            backward((embeddings.float() * gradient).sum())
    return loss.detach()


class _RandomState:
    """The state of the random numbers, of the processor and of the current device, when this was made."""

    def __init__(self):
        self.cpu = torch.get_rng_state()
        self.device = torch.cuda.get_rng_state() if torch.cuda.is_available() else None

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """Draw the same numbers once more, then go on as if nothing had been drawn."""
        devices = [] if self.device is None else [torch.cuda.current_device()]
        with torch.random.fork_rng(devices=devices):
            torch.set_rng_state(self.cpu)
            if self.device is not None:
                torch.cuda.set_rng_state(self.device)
            yield
