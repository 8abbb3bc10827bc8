"""What turns a question and a text into windows of tokens, and answers into targets."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from datasets import Features, List, Value
from torch import nn
from transformers import PreTrainedTokenizerBase

from .parser import ConfigurationError

logger = logging.getLogger(__name__)

NO_ANSWER = 0
"""The token that a window points at where it holds no answer: the first, [CLS] of most encoders."""
TARGETS = ("starts", "ends", "weights")
PLACES = ("first", "count")
CHARACTERS = ("char_starts", "char_ends")
WINDOW = Features(
    {
        "question": Value("int64"), "input_ids": List(Value("int32")), "token_type_ids": List(Value("int8")),
        "length": Value("int64"), "first": Value("int32"), "count": Value("int32"),
        "char_starts": List(Value("int32")), "char_ends": List(Value("int32")),
        "starts": List(Value("int32")), "ends": List(Value("int32")), "weights": List(Value("float32")),
    }
)  # fmt: skip
"""A window, see `encode`; token_type_ids where the tokenizer has them."""
CHOICES = ("score", "overlap")
LEAST_CONTEXT = 16  # tokens of the text that a window has beyond the overlap


@dataclass
class AnsweringSettings:
    """All that turns a question and a text into windows, and their logits into an answer; saved with the model.

    Attributes:
        max_length: Tokens of a window at most, the question's among them.
        doc_stride: Tokens that two windows of one text share; what is longer than that may be cut by both.
        max_question_length: Tokens that are read of a question.
        max_answer_length: Tokens of an answer at most.
        n_best: Spans of a question that are weighed against each other.
        choose_by: 'score' takes the best-scored span; 'overlap' the one that shares most with all likely ones, see
            `answer_decoding.Candidates.expected_overlap`.
        threshold: The no-answer score from which on it abstains, fitted on calibration; None never abstains.
        confidence: Slope and intercept from the raw confidence to the log odds that an answer is right, fitted on calibration.
    """

    max_length: int = 512
    doc_stride: int = 128
    max_question_length: int = 64
    max_answer_length: int = 30
    n_best: int = 20
    choose_by: str = "overlap"
    threshold: float | None = None
    confidence: tuple[float, float] = (1.0, 0.0)

    def __post_init__(self):
        for name in ("doc_stride", "max_question_length", "max_answer_length", "n_best"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"--{name} is {getattr(self, name)}; expected a whole number from 1 on.")
        if self.choose_by not in CHOICES:
            raise ConfigurationError(f"--choose_by is {self.choose_by!r}; expected one of {', '.join(CHOICES)}.")
        if self.max_answer_length > self.doc_stride:
            raise ConfigurationError(
                f"--max_answer_length {self.max_answer_length} is more than --doc_stride {self.doc_stride}: no window would hold "
                "the whole of an answer that stands where one ends."
            )
        least = self.max_question_length + self.doc_stride + LEAST_CONTEXT + 4  # 4 special tokens at most
        if self.max_length < least:
            raise ConfigurationError(
                f"--max_length is {self.max_length}; with --max_question_length {self.max_question_length} and --doc_stride "
                f"{self.doc_stride} a window needs {least} tokens or more."
            )

    def for_model(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> AnsweringSettings:
        """A copy whose max_length the model can read.

        Raises:
            ConfigurationError: The tokenizer cannot say where its tokens stand, or the model reads too few of them.
        """
        if not tokenizer.is_fast:
            raise ConfigurationError(
                "the checkpoint's tokenizer does not know where a token stands in the text (it is no 'fast' one); use another."
            )
        positions = getattr(model.config, "max_position_embeddings", None) or self.max_length
        limit = min(self.max_length, positions, tokenizer.model_max_length)
        if limit < self.max_length:
            logger.info("the checkpoint reads %d tokens at most: max_length is %d, not %d", limit, limit, self.max_length)
        return replace(self, max_length=limit)


# ---- from questions to windows --------------------------------------------------------------------------------------


def encode(
    batch: dict[str, list], questions: Sequence[int], tokenizer: PreTrainedTokenizerBase, settings: AnsweringSettings
) -> dict[str, list]:
    """Questions to windows, several where a text is long; for `Dataset.map(batched=True)`, training and prediction alike.

    Where answers are known, a window teaches the spans of them that it holds whole, each as much as the span says of its
    answer (`answer_f1s`), and no answer where it holds none of any span. It teaches nothing (no targets) where it holds a part
    of one that another window holds whole, or where the question has an answer and no span says a word of it. A span that is
    longer than any window is taught as far as the window with most of it goes.

    Args:
        batch: Columns question and context and, where known, answerable, answer_starts, answer_ends and answer_f1s
            (`edu_datasets.schema.PASSAGES`).
        questions: The number of each question in its split.
        tokenizer: The checkpoint's.
        settings: Lengths.

    Returns:
        A row a window. question: its number; input_ids, and token_type_ids where the tokenizer has them; length: tokens;
        first: the token that the text begins at, and count: how many it has; char_starts, char_ends: where each of these stands
        in the text; and where answers are known, starts, ends: tokens, and weights, which add up to 1 at most.
    """
    asked = _shortened(batch["question"], tokenizer, settings.max_question_length)
    encoded = tokenizer(
        asked, batch["context"], truncation="only_second", max_length=settings.max_length, stride=settings.doc_stride,
        return_overflowing_tokens=True, return_offsets_mapping=True, return_attention_mask=False, padding=False,
    )  # fmt: skip
    which, known = encoded["overflow_to_sample_mapping"], "answer_starts" in batch
    windows: dict[str, list] = {"question": [questions[i] for i in which], "input_ids": encoded["input_ids"]}
    if "token_type_ids" in encoded:
        windows["token_type_ids"] = encoded["token_type_ids"]
    windows["length"] = [len(ids) for ids in encoded["input_ids"]]
    firsts, places = [], []
    for w in range(len(which)):
        inside = [t for t, part in enumerate(encoded.sequence_ids(w)) if part == 1]
        firsts.append(inside[0] if inside else 0)
        offsets = encoded["offset_mapping"][w]
        places.append(np.array([offsets[t] for t in inside], np.int64).reshape(-1, 2))
    windows |= {"first": firsts, "count": list(map(len, places)), "char_starts": [p[:, 0].tolist() for p in places]}
    windows |= {"char_ends": [p[:, 1].tolist() for p in places]}
    if known:
        spans = zip(batch["answer_starts"], batch["answer_ends"], batch["answer_f1s"], batch["answerable"], strict=True)
        targets: list[dict[str, list]] = [{} for _ in which]
        of_question: list[list[int]] = [[] for _ in batch["question"]]
        for w, i in enumerate(which):
            of_question[i].append(w)
        for own, (starts, ends, f1s, answerable) in zip(of_question, spans, strict=True):
            found = _targets([places[w] for w in own], list(zip(starts, ends, f1s, strict=True)), answerable)
            for w, target in zip(own, found, strict=True):
                tokens = [[firsts[w] + t for t in pair] if pair else [NO_ANSWER] * 2 for pair, _ in target]
                targets[w] = {"starts": [t[0] for t in tokens], "ends": [t[1] for t in tokens], "weights": [x for _, x in target]}
        windows |= {name: [target[name] for target in targets] for name in TARGETS}
    return windows


def _shortened(questions: Sequence[str], tokenizer: PreTrainedTokenizerBase, most: int) -> list[str]:
    """Questions cut behind their token number `most`."""
    offsets = tokenizer(list(questions), add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [q[: places[most - 1][1]] if len(places) > most else q for q, places in zip(questions, offsets, strict=True)]


def _targets(
    windows: Sequence[np.ndarray], spans: Sequence[tuple[int, int, float]], answerable: bool
) -> list[list[tuple[tuple[int, int] | None, float]]]:
    """What each window of one question teaches: (tokens of the text or None for no answer, weight), [] for nothing.

    Args:
        windows: For each the characters of its tokens of the text, int array (tokens, 2).
        spans: Characters and F1 of each answer; -1 where none of its words stands in the text.
        answerable: Whether the question has an answer.
    """
    shared = np.array([[_shared(tokens, *span[:2]) for span in spans] for tokens in windows]).reshape(len(windows), len(spans))
    found = shared.any(axis=0)
    if answerable and not found.any():
        return [[] for _ in windows]
    spans, shared = [span for span, there in zip(spans, found, strict=True) if there], shared[:, found]
    taught = shared == [end - start for start, end, _ in spans]
    cut = np.flatnonzero(~taught.any(axis=0))  # longer than any window
    taught[shared[:, cut].argmax(axis=0), cut] = True
    targets: list[list[tuple[tuple[int, int] | None, float]]] = []
    for tokens, own, some in zip(windows, taught, shared.any(axis=1), strict=True):
        here = [spans[s] for s in np.flatnonzero(own)]
        held = [((_token_at(tokens[:, 1], a), _token_before(tokens[:, 0], b)), f1 / len(spans)) for a, b, f1 in here]
        targets.append(held if held or some else [(None, 1.0)])
    return targets


def _shared(tokens: np.ndarray, start: int, end: int) -> int:
    """How many characters of a span lie in a window; 0 where the span stands nowhere (-1)."""
    return max(0, min(end, int(tokens[-1, 1])) - max(start, int(tokens[0, 0]))) if len(tokens) else 0


def _token_at(ends: np.ndarray, start: int) -> int:
    """The first token that ends behind a character."""
    return int(np.searchsorted(ends, start, side="right"))


def _token_before(starts: np.ndarray, end: int) -> int:
    """The last token that begins before a character."""
    return int(np.searchsorted(starts, end, side="left")) - 1


@dataclass
class AnsweringCollator:
    """Pads a batch to its longest window, rounded up to a multiple that keeps the number of shapes small.

    Returns input_ids, attention_mask and, where the rows have them, token_type_ids, int64 (windows, tokens); starts, ends, int64,
    and weights, float32, (windows, references), weight 0 where a window has fewer; first and count, int64 (windows,), see
    `encode`.
    """

    tokenizer: PreTrainedTokenizerBase
    multiple: int = 32

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        padded = -(-longest // self.multiple) * self.multiple
        width = padded if padded <= getattr(self.tokenizer, "model_max_length", 10**9) else longest
        fill = {"input_ids": self.tokenizer.pad_token_id, "token_type_ids": self.tokenizer.pad_token_type_id}
        inputs = {
            name: torch.tensor([list(row[name]) + [value] * (width - len(row[name])) for row in rows])
            for name, value in fill.items() if name in rows[0]
        }  # fmt: skip
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        inputs["attention_mask"] = (torch.arange(width) < lengths[:, None]).long()
        inputs |= {name: torch.tensor([row[name] for row in rows]) for name in PLACES if name in rows[0]}
        if TARGETS[0] in rows[0]:
            most = max(1, *(len(row["weights"]) for row in rows))
            for name in TARGETS:
                kind = torch.float32 if name == "weights" else torch.int64
                values = [list(row[name]) + [0] * (most - len(row[name])) for row in rows]
                inputs[name] = torch.tensor(values, dtype=kind)
        return inputs
