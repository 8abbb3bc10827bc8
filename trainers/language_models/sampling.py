"""Several continuations of each prompt: the most probable one, and others drawn from the model.

What is drawn depends on the seed, the prompt's number and the continuation's, never on how prompts fall into batches: each
continuation has uniform numbers of its own, and takes at each step the token in whose share of the probability its number falls.

Prompts are read once, those that begin alike (questions about one text) from where they part, and the keys and values of a prompt
serve all its continuations; see `packing`. Architectures with another attention go through transformers' `generate`, with the
same draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from .packing import SharedPrompts, share_beginning, shared_tokens, shares_beginnings


@dataclass
class Continuation:
    """What a model wrote behind a prompt.

    Attributes:
        tokens: Token ids, without the stop token.
        log_likelihood: Mean log-probability of a token, the stop token included, in nats, at temperature 1.
        finished: Whether it came to its stop token.
    """

    tokens: list[int] = field(default_factory=list)
    log_likelihood: float = 0.0
    finished: bool = False


@dataclass
class Sampling:
    """How continuations are drawn.

    Attributes:
        count: Continuations of a prompt; the first takes the most probable token each time, the others are drawn.
        temperature: Of the others; 1 draws as the model's probabilities say.
        top_p: They draw among the most probable tokens that make up this share of the probability (Holtzman et al. 2020).
        max_new_tokens: Tokens of a continuation at most.
        seed: Of the draws.
    """

    count: int = 1
    temperature: float = 1.0
    top_p: float = 0.95
    max_new_tokens: int = 64
    seed: int = 0


class _Draws:
    """The continuations of some prompts as they grow, a row each."""

    def __init__(self, numbers: Sequence[int], sampling: Sampling, stop: Sequence[int]):
        self.sampling, self.stop = sampling, set(stop)
        self.rows = [Continuation() for _ in numbers for _ in range(sampling.count)]
        greedy = np.full(sampling.max_new_tokens, -1.0)
        self.uniform = np.stack(
            [
                np.random.default_rng([sampling.seed, number, i]).random(sampling.max_new_tokens) if i else greedy
                for number in numbers for i in range(sampling.count)
            ]
        )  # fmt: skip
        self.step = 0

    def choose(self, logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """The next token of each of `rows`, int64 (rows,), from their logits, (rows, vocabulary); finished rows stay so."""
        logits = logits.float()
        best, log_probabilities = logits.argmax(dim=-1), logits.log_softmax(dim=-1)
        drawn = best
        if self.sampling.count > 1:
            uniform = torch.as_tensor(self.uniform[rows, self.step], dtype=torch.float32, device=logits.device)
            shares, order = (logits / self.sampling.temperature).softmax(dim=-1).topk(min(512, logits.shape[-1]), dim=-1)
            total = shares.cumsum(dim=-1)
            shares = shares.masked_fill(total - shares >= self.sampling.top_p, 0.0)
            total = shares.cumsum(dim=-1)
            place = torch.searchsorted(total, uniform.clamp(min=0)[:, None] * total[:, -1:], right=True)
            place = place.minimum((shares > 0).sum(dim=-1, keepdim=True) - 1)
            drawn = torch.where(uniform < 0, best, order.gather(1, place)[:, 0])
        likelihoods = log_probabilities.gather(1, drawn[:, None])[:, 0].tolist()
        for row, token, likelihood in zip(rows, drawn.tolist(), likelihoods, strict=True):
            text = self.rows[row]
            if not text.finished:
                n = len(text.tokens)
                text.log_likelihood += (likelihood - text.log_likelihood) / (n + 1)
                text.finished = token in self.stop
                text.tokens += [] if text.finished else [token]
        self.step += 1
        return drawn

    def over(self, prompts: Sequence[int]) -> list[bool]:
        """Of each of `prompts`, whether all its continuations are finished."""
        count = self.sampling.count
        return [all(text.finished for text in self.rows[p * count : (p + 1) * count]) for p in prompts]


@torch.no_grad()
def continue_prompts(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], sampling: Sampling, *, stop: Sequence[int], pad_token_id: int,
    batch_size: int = 64,
) -> list[list[Continuation]]:  # fmt: skip
    """Continuations of each prompt, in batches; they do not depend on the batches.

    Args:
        model: A causal language model, or one with an encoder that reads the prompt.
        prompts: Token ids.
        sampling: How many, and how.
        stop: Tokens that end a continuation.
        pad_token_id: Token of the padding; it is masked.
        batch_size: Continuations a batch.

    Returns:
        For each prompt `sampling.count` continuations, the greedy one first.
    """
    order = sorted(range(len(prompts)), key=lambda i: list(prompts[i]))  # what begins alike stands together
    size = max(1, batch_size // sampling.count)
    found: list[list[Continuation]] = [[] for _ in prompts]
    training = model.training
    model.eval()
    write = _write_shared if not model.config.is_encoder_decoder and shares_beginnings(model) else _write_generic
    try:
        for start in range(0, len(order), size):
            numbers = order[start : start + size]
            draws = _Draws(numbers, sampling, stop)
            write(model, [list(prompts[i]) for i in numbers], draws, pad_token_id)
            for place, number in enumerate(numbers):
                found[number] = draws.rows[place * sampling.count : (place + 1) * sampling.count]
    finally:
        model.train(training)
    return found


def _write_shared(model: PreTrainedModel, prompts: list[list[int]], draws: _Draws, pad_token_id: int) -> None:
    """Prompts packed into one row, then a token a step for all continuations."""
    count, device = draws.sampling.count, next(model.parameters()).device
    shared, logits = _read(model, prompts)
    lengths = torch.tensor([len(p) for p in prompts], device=device)
    alive, cache = list(range(len(prompts))), DynamicCache()
    logits = logits.repeat_interleave(count, dim=0)
    for step in range(draws.sampling.max_new_tokens):
        rows = [p * count + i for p in alive for i in range(count)]
        tokens = draws.choose(logits, rows)
        over = draws.over(alive)
        if all(over):
            break
        if sum(over) > len(over) // 4:
            kept = torch.tensor([i for i, done in enumerate(over) if not done], device=device)
            alive = [alive[i] for i in kept.tolist()]
            in_batch = (kept[:, None] * count + torch.arange(count, device=device)).flatten()
            shared, lengths, tokens = shared.select(kept), lengths[kept], tokens[in_batch]
            if step:
                cache.batch_select_indices(in_batch)
        positions = (lengths + step).repeat_interleave(count)[:, None]
        output = model(
            input_ids=tokens[:, None], position_ids=positions, past_key_values=cache, use_cache=True, shared_prompts=shared
        )
        logits = output.logits[:, -1]


def _read(model: PreTrainedModel, prompts: list[list[int]]) -> tuple[SharedPrompts, torch.Tensor]:
    """Keys and values of prompts, and the logits behind each, (prompts, vocabulary)."""
    device = next(model.parameters()).device
    ids, positions, places, start = [], [], [], 0
    while start < len(prompts):  # neighbours that share most of what they are
        end = start + 1
        while end < len(prompts) and 2 * shared_tokens([prompts[start], prompts[end]]) > len(prompts[start]):
            end += 1
        group = share_beginning([(p, []) for p in prompts[start:end]])
        base, shared = len(ids), shared_tokens(prompts[start:end])
        ids, positions = ids + group["input_ids"], positions + group["positions"]
        behind = base + len(prompts[start])
        places.append(list(range(base, behind)))
        for prompt in prompts[start + 1 : end]:
            own = len(prompt) - shared
            places.append([*range(base, base + shared), *range(behind, behind + own)])
            behind += own
        start = end
    inputs = {"input_ids": torch.tensor([ids], device=device), "position_ids": torch.tensor([positions], device=device)}
    last = torch.tensor([place[-1] for place in places], device=device)
    output = model(**inputs, use_cache=True, past_key_values=DynamicCache(), logits_to_keep=last)
    return SharedPrompts.of(output.past_key_values, places), output.logits[0]


class _Processor(LogitsProcessor):
    """Lets `generate` take what `_Draws` chooses."""

    def __init__(self, draws: _Draws):
        self.draws = draws

    def __call__(self, input_ids, scores):
        chosen = self.draws.choose(scores, range(len(scores)))
        return torch.full_like(scores, -torch.inf).scatter(1, chosen[:, None], 0.0)


def _write_generic(model: PreTrainedModel, prompts: list[list[int]], draws: _Draws, pad_token_id: int) -> None:
    device, longest = next(model.parameters()).device, max(map(len, prompts))
    ids = torch.full((len(prompts), longest), pad_token_id, device=device)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        own = slice(0, len(prompt)) if model.config.is_encoder_decoder else slice(longest - len(prompt), longest)
        ids[row, own], mask[row, own] = torch.tensor(prompt, device=device), 1
    count = draws.sampling.count
    model.generate(
        input_ids=ids.repeat_interleave(count, dim=0), attention_mask=mask.repeat_interleave(count, dim=0), do_sample=False,
        max_new_tokens=draws.sampling.max_new_tokens, eos_token_id=sorted(draws.stop), pad_token_id=pad_token_id, use_cache=True,
        logits_processor=LogitsProcessorList([_Processor(draws)]),
    )  # fmt: skip
