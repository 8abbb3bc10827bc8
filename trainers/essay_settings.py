"""What turns an essay into tokens and a logit into a score: template, length, ranges, calibration."""

from __future__ import annotations

import logging
import string
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from .calibration import own_or_all, to_scale, variance_match
from .essay_text import without_copies
from .parser import ConfigurationError

logger = logging.getLogger(__name__)

ANY = "*"
"""In place of a prompt: what was fitted on all prompts, for a prompt that was not trained on."""
LOSSES = ("mse", "corn", "mse+rank")
HEAD_TOKENS = 128  # of a long essay's beginning; the rest of max_length comes from its end


@dataclass
class EssaySettings:
    """All that turns an essay into tokens and a logit into a score; saved with the model.

    Attributes:
        input_template: What the model reads; {text}, {prompt_id} and {prompt} (the task's wording) are filled in.
        max_length: Tokens a model input has at most.
        long_essays: 'head_tail' keeps the beginning and the end of a longer essay, 'head' the beginning.
        score_names: What each output means.
        score_ranges: prompt_id -> one (lowest, highest) a score name, in rubric units.
        score_step: Distance of neighbouring scores, in rubric units.
        prompts: prompt_id -> the task's wording, for {prompt}.
        loss: 'mse'; 'corn', ordinal (Shi et al. 2021); 'mse+rank', with ListNet over the essays of a prompt in a batch
            (Cao et al. 2007), as in R2BERT (Yang et al. 2020).
        targets: prompt_id -> one (mean, standard deviation) a score name, of the training scores scaled to 0..1: what the
            model learns is the score in standard deviations from the mean of its prompt. On 0..1 a prompt whose scores fill
            a small part of its scale (10 to 60 points, most of them 30 to 45) would hardly count in a squared error.
        calibration: prompt_id -> one (slope, intercept) a score name, on the raw score scaled to 0..1.
        new_prompts: Whether prompts without graded essays may be scored (`add_prompt`); the input must not name its prompt.
        folded: Whether calibration and range stand in the head already, so that a logit is a score in rubric units.
    """

    input_template: str = "Prompt {prompt_id}: {text}"
    max_length: int = 512
    long_essays: str = "head_tail"
    score_names: list[str] = field(default_factory=lambda: ["score"])
    score_ranges: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    score_step: float = 1.0
    prompts: dict[str, str] = field(default_factory=dict)
    loss: str = "mse"
    targets: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    calibration: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    new_prompts: bool = False
    folded: bool = False

    def __post_init__(self):
        try:
            fields = {name for _, name, _, _ in string.Formatter().parse(self.input_template) if name is not None}
        except ValueError as error:
            raise ConfigurationError(f"--input_template {self.input_template!r} cannot be read: {error}.") from error
        if "text" not in fields or fields - {"text", "prompt_id", "prompt"}:
            raise ConfigurationError(
                f"--input_template {self.input_template!r} must hold {{text}} and may hold {{prompt_id}} and {{prompt}}."
            )
        if self.new_prompts and "prompt_id" in fields:
            raise ConfigurationError("--protocol cross_prompt: a new prompt has no {prompt_id} to learn; use {text} or {prompt}.")
        if self.loss not in LOSSES:
            raise ConfigurationError(f"--loss is {self.loss!r}; expected one of {', '.join(LOSSES)}.")
        if self.long_essays not in ("head_tail", "head"):
            raise ConfigurationError(f"--long_essays is {self.long_essays!r}; expected head_tail or head.")
        if self.max_length < 16:
            raise ConfigurationError(f"--max_length is {self.max_length}; expected 16 or more.")

    def for_model(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> EssaySettings:
        """A copy whose max_length the model can read."""
        positions = getattr(model.config, "max_position_embeddings", None) or self.max_length
        limit = min(self.max_length, positions, tokenizer.model_max_length)
        if limit < self.max_length:
            logger.info("the checkpoint reads %d tokens at most: max_length is %d, not %d", limit, limit, self.max_length)
        return replace(self, max_length=limit)

    @property
    def prompt_ids(self) -> list[str]:
        """The prompts in the order of `prompt_index`."""
        return list(self.score_ranges)

    def fill_template(self, text: str, prompt_id: str) -> str:
        """What the model reads of an essay."""
        wording = self.prompts.get(prompt_id, "")
        return self.input_template.format(text=without_copies(text), prompt_id=prompt_id, prompt=wording)

    def _fitted(self) -> list[str]:
        return self.prompt_ids + [ANY] * self.new_prompts

    def add_prompt(self, prompt_id: str, low: float, high: float, prompt: str = "") -> None:
        """Let the model score a prompt it was not trained on; needs `new_prompts`.

        Args:
            prompt_id: Its name.
            low, high: The range of its scores.
            prompt: The task's wording, for {prompt}.

        Raises:
            ConfigurationError: The model was not trained for new prompts.
        """
        if not self.new_prompts:
            raise ConfigurationError("the model was not trained for new prompts: train it with --protocol cross_prompt.")
        self.score_ranges[prompt_id] = [(low, high)] * len(self.score_names)
        self.prompts[prompt_id] = prompt
        self.targets[prompt_id], self.calibration[prompt_id] = self.targets[ANY], self.calibration[ANY]

    def bounds(self, prompt_ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest score of each row, two float arrays (rows, scores)."""
        table = np.array([self.score_ranges[p] for p in prompt_ids], float).reshape(-1, len(self.score_names), 2)
        return table[..., 0], table[..., 1]

    def levels(self) -> np.ndarray:
        """How many different scores can be given; int64 array (prompts, scores)."""
        low, high = self.bounds(self.prompt_ids)
        return np.rint((high - low) / self.score_step).astype(np.int64) + 1

    def scaled_steps(self, prompt_id: str) -> np.ndarray:
        """Distance of neighbouring scores of a prompt where its range is 0..1; float array (scores,)."""
        low, high = np.array(self.score_ranges[prompt_id], float).T
        return self.score_step / (high - low)

    def num_labels(self) -> int:
        """Outputs of the model: one a score, or with 'corn' one a score and threshold."""
        return len(self.score_names) * (int(self.levels().max()) - 1 if self.loss == "corn" else 1)

    def scale(self, scores: np.ndarray, prompt_ids: Sequence[str]) -> np.ndarray:
        """Rubric units to 0..1 by each prompt's range; float array (rows, scores)."""
        low, high = self.bounds(prompt_ids)
        return (np.asarray(scores, float) - low) / (high - low)

    def fit_targets(self, scores: np.ndarray, prompt_ids: Sequence[str]) -> None:
        """Set `targets` from training scores, float array (rows, scores) in rubric units, nan where missing."""
        scaled, prompts = self.scale(scores, prompt_ids), np.asarray(prompt_ids)
        for prompt in self._fitted():
            columns = [column[own_or_all(prompts == prompt, column, few=2)] for column in scaled.T]
            self.targets[prompt] = [(float(np.nanmean(c)), float(np.nanstd(c)) or 1.0) for c in columns]

    def target_table(self) -> np.ndarray:
        """`targets` in the order of `prompt_index`, float array (prompts, scores, 2); (0, 1) where none were fitted."""
        plain = [(0.0, 1.0)] * len(self.score_names)
        return np.array([self.targets.get(p, plain) for p in self.prompt_ids], float)

    def raw_scores(self, logits: np.ndarray, prompt_ids: Sequence[str]) -> np.ndarray:
        """The model's own scores, scaled to 0..1, before calibration.

        Args:
            logits: Float array (rows, num_labels).
            prompt_ids: The prompt of each row.

        Returns:
            Float64 array (rows, scores); with 'corn' the expected score.
        """
        logits = np.asarray(logits, np.float64)
        if self.folded:
            return self.scale(logits, prompt_ids)
        if self.loss != "corn":
            mean, sd = self.target_table()[[self.prompt_ids.index(p) for p in prompt_ids]].transpose(2, 0, 1)
            return mean + sd * logits
        thresholds = self.levels()[[self.prompt_ids.index(p) for p in prompt_ids]] - 1  # (rows, scores)
        steps = (1 / (1 + np.exp(-logits))).reshape(len(logits), len(self.score_names), -1)
        above = np.cumprod(steps, axis=-1)  # P(score above threshold k)
        counted = np.arange(above.shape[-1]) < thresholds[..., None]
        return (above * counted).sum(-1) / thresholds

    def calibrated(self, raw: np.ndarray, prompt_ids: Sequence[str]) -> np.ndarray:
        """Raw scores in 0..1 to rubric units with the saved calibration, not rounded; float array (rows, scores)."""
        identity = [(1.0, 0.0)] * len(self.score_names)
        line = np.array([self.calibration.get(p, identity) for p in prompt_ids], float).reshape(*np.shape(raw), 2)
        low, high = self.bounds(prompt_ids)
        return low + (high - low) * (line[..., 0] * raw + line[..., 1])

    def rounded(self, scores: np.ndarray, prompt_ids: Sequence[str]) -> np.ndarray:
        """Scores in rubric units to the nearest that can be given."""
        low, high = self.bounds(prompt_ids)
        return to_scale(scores, low, high, self.score_step)

    def fit_calibration(self, raw: np.ndarray, human: np.ndarray, prompt_ids: Sequence[str]) -> dict:
        """Variance matching for each prompt and score; prompts with few rows take the line of all.

        Args:
            raw: Float array (rows, scores), scaled to 0..1; never of test rows.
            human: Float array (rows, scores) in rubric units, nan where missing.
            prompt_ids: The prompt of each row.

        Returns:
            prompt_id -> [(slope, intercept), ...], for `calibration`.
        """
        prompts, target = np.asarray(prompt_ids), self.scale(human, prompt_ids)
        lines = {}
        for prompt in self._fitted():
            chosen = [own_or_all(prompts == prompt, column) for column in target.T]
            lines[prompt] = [variance_match(raw[rows, s], target[rows, s]) for s, rows in enumerate(chosen)]
        return lines


# ---- from essays to tokens ------------------------------------------------------------------------------------------


def encode(batch: dict[str, list], tokenizer: PreTrainedTokenizerBase, settings: EssaySettings) -> dict[str, list]:
    """Essays to model inputs; for `Dataset.map(batched=True)`, training and prediction alike.

    Args:
        batch: Columns prompt_id, text and, where known, scores (see `edu_datasets.schema.ESSAYS`).
        tokenizer: The checkpoint's.
        settings: Template and length.

    Returns:
        input_ids; length (tokens); truncated (tokens left out, 0 for most); prompt_index; labels (scores scaled to 0..1).
    """
    texts = [settings.fill_template(t, p) for t, p in zip(batch["text"], batch["prompt_id"], strict=True)]
    ids = tokenizer(texts, truncation=False, verbose=False)["input_ids"]
    cut = [shorten(i, settings, tokenizer) for i in ids]
    encoded = {
        "input_ids": cut,
        "length": [len(i) for i in cut],
        "truncated": [len(i) - len(c) for i, c in zip(ids, cut, strict=True)],
        "prompt_index": [settings.prompt_ids.index(p) for p in batch["prompt_id"]],
    }
    if "scores" in batch:
        encoded["labels"] = settings.scale(np.array(batch["scores"], float), batch["prompt_id"]).tolist()
    return encoded


def shorten(ids: list[int], settings: EssaySettings, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """At most max_length tokens; a closing special token stays."""
    limit = settings.max_length
    if len(ids) <= limit:
        return ids
    tail = 1 if ids[-1] in tokenizer.all_special_ids else 0
    if settings.long_essays == "head_tail":
        tail = max(limit - HEAD_TOKENS, limit // 2)
    return ids[: limit - tail] + (ids[-tail:] if tail else [])


@dataclass
class EssayCollator:
    """Pads a batch to its longest essay, rounded up to a multiple that keeps the number of shapes small.

    Returns input_ids and attention_mask, int64 (essays, tokens); labels, float32 (essays, scores) with nan for missing;
    prompt_index, int64 (essays,).
    """

    tokenizer: PreTrainedTokenizerBase
    multiple: int = 32

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        limit = getattr(self.tokenizer, "model_max_length", 10**9)
        longest = max(len(r["input_ids"]) for r in rows)
        multiple = self.multiple if -(-longest // self.multiple) * self.multiple <= limit else None
        batch = self.tokenizer.pad(
            {"input_ids": [r["input_ids"] for r in rows]}, pad_to_multiple_of=multiple, return_tensors="pt"
        )
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        if "labels" in rows[0]:
            inputs["labels"] = torch.tensor([r["labels"] for r in rows], dtype=torch.float32)
        inputs["prompt_index"] = torch.tensor([r["prompt_index"] for r in rows])
        return inputs
