"""Several conversations in one row of tokens, without padding, and without one seeing another.

Positions start anew at 0 with each conversation, and that is all that a model is told: transformers builds a block-diagonal
mask from it (`masking_utils.find_packed_sequence_indices`), flash attention takes the sequences apart, and the attention here
computes each sequence by itself. It needs no matrix over the whole row, so that scores stay in the cache of a processor, and the
time grows with the square of a conversation, not of the batch. `keeps_apart` asks a model whether it listens to positions.

Conversations that begin alike (many questions about one text) can share that beginning: it stands once, and positions that go
back to p > 0 begin another end behind the first p tokens of the sequence. [0 1 2 3 4 2 3] is two conversations of five and four
tokens that share two. The attention here alone reads positions so; `shares_beginnings` asks a model whether it is in use.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AttentionInterface, DynamicCache, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from ..attention import leave_flash

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
    shared_prompts: SharedPrompts | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Causal softmax attention within each sequence of a packed row; with a mask or a cache all keys that the mask shows.

    Args:
        module: The attention layer.
        query: (batch, heads, tokens, head size); key and value likewise, with as many heads or fewer.
        attention_mask: None where `position_ids` tell all.
        scaling: Factor of the scores; 1 / sqrt(head size) where None.
        dropout: Share of the attention weights that are dropped.
        position_ids: (batch or 1, tokens); where they do not go on by one, a sequence begins, or another end of it.
        shared_prompts: What the rows of a batch go on from, a token each, beside their own keys.

    Returns:
        The output, (batch, tokens, heads, head size), and None for the weights.
    """
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    dropout = dropout if module.training else 0.0
    on_cpu = query.device.type == "cpu"
    if shared_prompts is not None:
        return shared_prompts.attend(query * scaling, key, value, module.layer_idx), None
    if attention_mask is not None or query.shape[2] != key.shape[2]:
        if on_cpu:
            return _attend(query * scaling, key, value, _bias(attention_mask, query, key), dropout), None
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, position_ids=position_ids, **kwargs
        )
    outputs = []
    for start, end, ends in [(0, query.shape[2], (query.shape[2],))] if position_ids is None else sequences(position_ids):
        q, k, v = (states[:, :, start:end] for states in (query, key, value))
        if on_cpu:
            outputs.append(_attend(q * scaling, k, v, _future(ends, q.dtype, q.device), dropout))
        else:
            mask = {"is_causal": True} if len(ends) == 1 else {"attn_mask": _future(ends, q.dtype, q.device)}
            attended = nn.functional.scaled_dot_product_attention(
                q, k, v, dropout_p=dropout, scale=scaling, enable_gqa=query.shape[1] != key.shape[1], **mask
            )
            outputs.append(attended.transpose(1, 2))
    return torch.cat(outputs, dim=1).contiguous(), None


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: torch.Tensor, dropout: float) -> torch.Tensor:
    """Attention by two products and a softmax in the dtype of the query; heads that share a key go through together.

    Args:
        query: (batch, heads, tokens, size), scaled.
        key: (batch, fewer heads, keys, size); value likewise.
        bias: Added to the scores, broadcast to (batch, heads, tokens, keys); may be larger in the last two.
        dropout: Share of the attention weights that are dropped.

    Returns:
        (batch, tokens, heads, size).
    """
    batch, heads, tokens, size = query.shape
    keys, shared = key.shape[2], heads // key.shape[1] * tokens
    scores = torch.matmul(query.reshape(batch, key.shape[1], shared, size), key.transpose(2, 3))
    scores.view(batch, heads, tokens, keys).add_(bias[..., :tokens, :keys])
    weights = torch.softmax(scores, dim=-1)
    if dropout > 0:
        weights = nn.functional.dropout(weights, dropout)
    return torch.matmul(weights, value).view(batch, heads, tokens, size).transpose(1, 2)


def _bias(mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """A mask as what is added to the scores: booleans say what is seen; without one a single query sees all keys."""
    if mask is None:
        return query.new_zeros(1, 1).expand(query.shape[2], key.shape[2])
    if mask.dtype != torch.bool:
        return mask.to(query.dtype)
    return torch.zeros_like(mask, dtype=query.dtype).masked_fill_(~mask, torch.finfo(query.dtype).min)


def _future(ends: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(tokens, tokens) or more, minus infinity where a token does not see another; `ends` as in `sequences`."""
    if len(ends) == 1:  # few sizes, so that they can be kept
        return _triangle(1 << max(0, ends[0] - 1).bit_length(), dtype, device)
    return _several_ends(ends, dtype, device)


@functools.lru_cache(maxsize=8)
def _triangle(tokens: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.full((tokens, tokens), -math.inf, dtype=dtype, device=device).triu_(1)


@functools.lru_cache(maxsize=16)  # every layer asks for those of a batch
def _several_ends(ends: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    shared, *borders = ends
    hidden = torch.full((borders[-1], borders[-1]), -math.inf, dtype=dtype, device=device).triu_(1)
    for start, end in zip(borders[:-1], borders[1:], strict=True):
        hidden[start:end, shared:start] = -math.inf
    return hidden


def sequences(position_ids: torch.Tensor) -> list[tuple[int, int, tuple[int, ...]]]:
    """The sequences of a packed row: where each begins and ends, and how it is made, counted from where it begins.

    That is (tokens,), or for one with several ends the tokens that these share and where each of them is over.

    >>> sequences(torch.tensor([[0, 1, 2, 0, 1, 2, 3, 4, 2, 3]]))
    [(0, 3, (3,)), (3, 10, (2, 5, 7))]
    """
    if not bool((position_ids == position_ids[:1]).all()):
        raise ValueError("conversations are packed into one row, not into several of different positions")
    row = position_ids[0]
    breaks = [0, *((row[1:] - row[:-1] != 1).nonzero()[:, 0] + 1).tolist(), len(row)]
    first = row[breaks[:-1]].tolist()
    starts = [b for b, at in zip(breaks, first, strict=False) if at == 0 or b == 0] + [len(row)]
    found = []
    for start, end in zip(starts[:-1], starts[1:], strict=True):
        inner = [b - start for b in breaks if start < b <= end]
        shared = {at for b, at in zip(breaks, first, strict=False) if start < b < end}
        if len(shared) > 1:
            raise ValueError("the ends of a sequence go on from one place")
        found.append((start, end, (*shared, *inner)))
    return found


@dataclass
class SharedPrompts:
    """Prompts that were read once, each of which as many rows of a batch go on from.

    Attributes:
        keys: For each layer (prompts, heads with keys, tokens, head size); values likewise.
        bias: (prompts, 1, 1, tokens), 0, or minus infinity where a shorter prompt is padded.
    """

    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    bias: torch.Tensor

    @classmethod
    def of(cls, cache: DynamicCache, places: Sequence[Sequence[int]]) -> SharedPrompts:
        """The prompts of a packed row that was read with `cache`; `places` are the tokens of each in that row."""
        longest, device = max(map(len, places)), cache.layers[0].keys.device
        index = torch.tensor([[*place, *[0] * (longest - len(place))] for place in places], device=device)
        lengths = torch.tensor([len(place) for place in places], device=device)
        padded = torch.arange(longest, device=device) >= lengths[:, None]
        bias = torch.zeros(padded.shape, dtype=cache.layers[0].keys.dtype, device=device).masked_fill(padded, -math.inf)
        keys, values = (
            [getattr(layer, name)[0][:, index].transpose(0, 1).contiguous() for layer in cache.layers]
            for name in ("keys", "values")
        )
        return cls(keys, values, bias[:, None, None])

    def select(self, prompts: torch.Tensor) -> SharedPrompts:
        """Some of the prompts, int64 (prompts,)."""
        return SharedPrompts([k[prompts] for k in self.keys], [v[prompts] for v in self.values], self.bias[prompts])

    def attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layer: int) -> torch.Tensor:
        """One token a row attends to its prompt and to what was written behind it.

        Args:
            query: (rows, heads, 1, size), scaled; the rows of a prompt stand together, as many of each.
            key: (rows, heads with keys, tokens written, size); value likewise.
            layer: Which keys and values of the prompts.

        Returns:
            (rows, 1, heads, size).
        """
        rows, heads, _, size = query.shape
        prompts, shared = len(self.bias), key.shape[1]
        query = query.reshape(rows, shared, heads // shared, size)
        own = torch.matmul(query, key.transpose(2, 3))
        of_prompt = self._by_prompt(query, prompts)
        before = torch.matmul(of_prompt, self.keys[layer].transpose(2, 3)) + self.bias
        before = self._by_row(before, rows)
        weights = torch.softmax(torch.cat([before, own], dim=-1), dim=-1)
        told = torch.matmul(self._by_prompt(weights[..., : before.shape[-1]], prompts), self.values[layer])
        found = self._by_row(told, rows) + torch.matmul(weights[..., before.shape[-1] :], value)
        return found.reshape(rows, 1, heads, size)

    @staticmethod
    def _by_prompt(states: torch.Tensor, prompts: int) -> torch.Tensor:
        """(rows, shared, group, n) -> (prompts, shared, rows of a prompt x group, n)."""
        rows, shared, group, n = states.shape
        return states.view(prompts, rows // prompts, shared, group, n).transpose(1, 2).reshape(prompts, shared, -1, n)

    @staticmethod
    def _by_row(states: torch.Tensor, rows: int) -> torch.Tensor:
        """The way back."""
        prompts, shared, _, n = states.shape
        return states.view(prompts, shared, rows // prompts, -1, n).transpose(1, 2).reshape(rows, shared, -1, n)


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
    device, training, flash = next(model.parameters()).device, model.training, leave_flash(model)
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
        if flash:  # it takes sequences apart by the positions that the model passes on
            model.set_attn_implementation(flash)
    scale = alone.abs().max().clamp(min=1)
    return bool(((packed - alone).abs().max() / scale).item() < tolerance)


@torch.no_grad()
def shares_beginnings(model: PreTrainedModel, tolerance: float = 1e-3) -> bool:
    """Whether this model computes two conversations with one beginning as it computes each alone; tried on a few tokens."""
    if model.config._attn_implementation != PACKED:
        return False
    device, training = next(model.parameters()).device, model.training
    whole = [torch.tensor([[1, 2, 3, *end]], device=device) for end in ((4, 5), (6, 7, 8))]
    model.eval()
    try:
        alone = [model(input_ids=ids, use_cache=False).logits for ids in whole]
        ids, positions = torch.cat([whole[0], whole[1][:, 3:]], dim=1), torch.tensor([[0, 1, 2, 3, 4, 3, 4, 5]], device=device)
        packed = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    except (TypeError, ValueError, IndexError):  # no such arguments
        return False
    finally:
        model.train(training)
    alone = torch.cat([alone[0], alone[1][:, 3:]], dim=1)
    return bool(((packed - alone).abs().max() / alone.abs().max().clamp(min=1)).item() < tolerance)


def shared_tokens(conversations: Sequence[Sequence[int]]) -> int:
    """How many tokens all conversations begin with, short of the last of any."""
    first, shared = conversations[0], min(len(ids) for ids in conversations) - 1
    for ids in conversations[1:]:
        shared = next((i for i in range(shared) if ids[i] != first[i]), shared)
    return shared


def share_beginning(conversations: Sequence[tuple[Sequence[int], Sequence[int]]]) -> dict[str, list[int]]:
    """Conversations as one sequence in which the beginning that all share stands once.

    Args:
        conversations: input_ids and labels of each; they share no more than what stands before the first label.

    Returns:
        input_ids, labels, positions; each int list (tokens,).
    """
    first, labels = conversations[0]
    unlearnt = (next((i for i, label in enumerate(own) if label != IGNORED), len(ids)) for ids, own in conversations)
    shared = min(shared_tokens([ids for ids, _ in conversations]), min(unlearnt) - 1)
    found = {"input_ids": list(first), "labels": list(labels), "positions": list(range(len(first)))}
    for ids, labels in conversations[1:]:
        found["input_ids"] += ids[shared:]
        found["labels"] += [IGNORED, *labels[shared + 1 :]]  # the token before it belongs to another conversation
        found["positions"] += range(shared, len(ids))
    return found


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
        """Rows have input_ids and labels, and positions where conversations share their beginning. Of the batch, all int64:

        label_counts (rows,): how many tokens of each are learnt. lengths (rows,). input_ids and labels, (1, all tokens) with
        position_ids where packed, else (rows, longest) with attention_mask.
        """
        ids, labels = ([torch.tensor(row[name], dtype=torch.long) for row in rows] for name in ("input_ids", "labels"))
        counts = torch.stack([(row[1:] != IGNORED).sum() for row in labels])  # nothing predicts the first token
        batch = {"label_counts": counts, "lengths": torch.tensor([len(row) for row in ids])}
        if self.packed:
            positions = torch.cat([torch.as_tensor(row.get("positions", range(len(row["input_ids"])))) for row in rows])
            for row in labels:
                row[0] = IGNORED  # the token before it belongs to another conversation
            tokens = {"input_ids": torch.cat(ids), "labels": torch.cat(labels), "position_ids": positions}
            return batch | {name: row[None] for name, row in tokens.items()}
        pad = functools.partial(nn.utils.rnn.pad_sequence, batch_first=True)
        batch |= {"input_ids": pad(ids, padding_value=self.pad_token_id), "labels": pad(labels, padding_value=IGNORED)}
        return batch | {"attention_mask": pad([torch.ones_like(row) for row in ids])}
