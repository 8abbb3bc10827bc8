"""Replies in batches: padded at the left, stopped where the template stops, and begun as one of several given beginnings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel, set_seed

Tokens = Sequence[int]


class OneOfBeginnings(LogitsProcessor):
    """Lets a reply begin only as one of the given beginnings; which one, the model chooses. Behind it anything goes.

    Args:
        beginnings: For each row of the batch the token ids of its beginnings, none of which begins another; [] leaves it free.
        prompt_length: Tokens of the padded prompts.
    """

    def __init__(self, beginnings: Sequence[Sequence[Tokens]], prompt_length: int):
        self.beginnings = [[list(tokens) for tokens in row] for row in beginnings]
        self.prompt_length = prompt_length
        self.longest = max((len(tokens) for row in self.beginnings for tokens in row), default=0)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        step = input_ids.shape[1] - self.prompt_length
        if step >= self.longest:
            return scores
        for row, choices in enumerate(self.beginnings):
            written = input_ids[row, self.prompt_length :].tolist()
            allowed = {tokens[step] for tokens in choices if len(tokens) > step and tokens[:step] == written}
            if allowed:
                kept = torch.full_like(scores[row], -torch.inf)
                index = torch.tensor(sorted(allowed), device=scores.device)
                kept[index] = scores[row, index]
                scores[row] = kept
        return scores


@torch.no_grad()
def generate_replies(
    model: PreTrainedModel,
    prompts: Sequence[Tokens],
    *,
    stop: Sequence[int],
    pad_token_id: int,
    max_new_tokens: int,
    batch_size: int = 16,
    beginnings: Sequence[Sequence[Tokens]] | None = None,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[list[int]]:
    """A reply to each prompt, in batches of similar length.

    Args:
        model: A causal language model.
        prompts: Token ids.
        stop: Tokens that end a reply.
        pad_token_id: Token of the padding; it is masked.
        max_new_tokens: Tokens of a reply at most.
        batch_size: Prompts a batch.
        beginnings: See `OneOfBeginnings`, one list a prompt; None leaves all free.
        temperature: 0 takes the most probable token each time; above, tokens are drawn, at 1 as the model's probabilities say.
        seed: Of the draws.

    Returns:
        Token ids of each reply, without the stop token.
    """
    device = next(model.parameters()).device
    if temperature > 0:
        set_seed(seed)
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    replies: list[list[int]] = [[] for _ in prompts]
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            longest = max(len(prompts[i]) for i in rows)
            ids = torch.full((len(rows), longest), pad_token_id, device=device)
            mask = torch.zeros_like(ids)
            for row, i in enumerate(rows):
                ids[row, longest - len(prompts[i]) :] = torch.tensor(prompts[i], device=device)
                mask[row, longest - len(prompts[i]) :] = 1
            choices = OneOfBeginnings([beginnings[i] for i in rows] if beginnings else [], longest)
            sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
            written = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                eos_token_id=list(stop),
                pad_token_id=pad_token_id,
                logits_processor=LogitsProcessorList([choices]),
                use_cache=True,
                **sampling,
            )[:, longest:].tolist()
            for i, tokens in zip(rows, written, strict=True):
                end = next((k for k, token in enumerate(tokens) if token in stop), len(tokens))
                replies[i] = tokens[:end]
    finally:
        model.train(was_training)
    return replies
