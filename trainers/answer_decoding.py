"""From the logits of windows to the answers of questions: the n best spans of each, for all windows at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from datasets import Dataset
from numpy.lib.stride_tricks import sliding_window_view

from .answering_settings import CHARACTERS, NO_ANSWER, AnsweringSettings

CHUNK = 128  # windows whose pairs of tokens are in memory together; few enough for a processor's cache


@dataclass
class Windows:
    """Which question each window belongs to, and where its tokens stand in the text; see `answering_settings.encode`.

    Attributes:
        question: Int array (windows,).
        first: Int array (windows,), the token that the text begins at.
        count: Int array (windows,), tokens of the text.
        char_starts: Int array (tokens of the text, window after window); char_ends likewise.
    """

    question: np.ndarray
    first: np.ndarray
    count: np.ndarray
    char_starts: np.ndarray
    char_ends: np.ndarray

    @classmethod
    def of(cls, columns: dict[str, Sequence] | Dataset) -> Windows:
        """From what `encode` returns: lists, or the data set that was made of them, which is quicker."""
        if isinstance(columns, Dataset):
            table = columns.with_format("arrow", columns=["question", "first", *CHARACTERS])[:]
            lists = [table[c].combine_chunks() for c in CHARACTERS]
            places = [table["question"], table["first"], lists[0].value_lengths(), *(each.flatten() for each in lists)]
            return cls(*(place.to_numpy().astype(np.int64) for place in places))
        count = np.fromiter(map(len, columns["char_starts"]), np.int64, len(columns["char_starts"]))
        flat = [np.fromiter(chain.from_iterable(columns[c]), np.int64, count.sum()) for c in CHARACTERS]
        return cls(np.asarray(columns["question"], np.int64), np.asarray(columns["first"], np.int64), count, *flat)

    def characters(self, tokens: np.ndarray) -> np.ndarray:
        """Where spans of tokens of the text, int array (windows, n, 2), stand in it; 0, 0 where they are -1."""
        before = np.cumsum(self.count) - self.count  # tokens of the windows in front of each
        spans = np.zeros_like(tokens)
        there = tokens[..., 0] >= 0
        first, last = (tokens + before[:, None, None])[there].T
        spans[there] = np.column_stack([self.char_starts[first], self.char_ends[last]])
        return spans

    def __len__(self) -> int:
        return len(self.question)


@dataclass
class WindowSpans:
    """The n best spans of each window, the best first: what is kept of its logits.

    Attributes:
        scores: Float array (windows, n), sum of the two logits, falling; -inf where there are fewer.
        tokens: Int array (windows, n, 2), first and last token, counted from where the text begins; -1 where there are fewer.
        no_answer: Float array (windows,), the same sum for no answer.
    """

    scores: np.ndarray
    tokens: np.ndarray
    no_answer: np.ndarray

    def packed(self) -> np.ndarray:
        """All of it in one float32 array (windows, 1 + 3 n), for a Trainer to collect; see `unpacked`."""
        parts = [self.no_answer[:, None], self.scores, *self.tokens.transpose(2, 0, 1)]
        return np.concatenate(parts, axis=1, dtype=np.float32)

    @classmethod
    def unpacked(cls, array: np.ndarray) -> WindowSpans:
        """From what `packed` gives."""
        scores, first, last = np.split(array[:, 1:], 3, axis=1)
        return cls(scores.astype(float), np.stack([first, last], axis=2).astype(np.int64), array[:, 0].astype(float))


@dataclass
class Candidates:
    """The n best spans of each question, the best first.

    Attributes:
        spans: Int array (questions, n, 2), characters from and to; 0, 0 where there are fewer.
        scores: Float array (questions, n), sum of the two logits, falling; -inf where there are fewer.
        no_answer: Float array (questions,), the same sum for no answer, in the window that is surest of one.
    """

    spans: np.ndarray
    scores: np.ndarray
    no_answer: np.ndarray

    def no_answer_scores(self) -> np.ndarray:
        """By how much no answer is scored above the best span; float array (questions,), inf where there is no span."""
        return self.no_answer - self.scores[:, 0]

    def probabilities(self) -> np.ndarray:
        """Softmax over the spans and no answer; float array (questions, n + 1), no answer last."""
        scores = np.column_stack([self.scores, self.no_answer])
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    def expected_overlap(self, first: int | None = None) -> np.ndarray:
        """What each span, or each of the `first`, is expected to share with the right one, were that drawn from `probabilities`.

        Shared characters are counted as an F1; no answer shares nothing. To choose the span with the highest expectation is
        minimum Bayes risk decoding (Kumar and Byrne 2004): the boundaries that most of the likely spans agree on.

        Returns:
            Float array (questions, n or first), 0 to 1.
        """
        start, end = self.spans[..., 0], self.spans[..., 1]
        here, there, length = start[:, :first, None], end[:, :first, None], end - start
        shared = np.minimum(there, end[:, None]) - np.maximum(here, start[:, None])
        f1 = 2 * np.maximum(shared, 0) / np.maximum(length[:, :first, None] + length[:, None], 1)
        return (f1 @ self.probabilities()[:, :-1, None])[..., 0]

    def choose(self, by: str) -> tuple[np.ndarray, np.ndarray]:
        """One span a question, and how much it is expected to share with the right one.

        Args:
            by: 'score' or 'overlap', see `AnsweringSettings.choose_by`.

        Returns:
            Int array (questions, 2), characters; float array (questions,), 0 to 1.
        """
        expected = self.expected_overlap(1 if by == "score" else None)
        best = expected.argmax(axis=1)
        rows = np.arange(len(expected))
        return self.spans[rows, best], expected[rows, best]


def decode(logits: np.ndarray, windows: Windows, questions: int, n_best: int = 20, max_answer_length: int = 30) -> Candidates:
    """Find the spans of each question with the highest sum of start and end logit, of all spans of its text.

    Args:
        logits: Float array (windows, tokens, 2): start and end; as wide as the longest window or wider.
        windows: Which question they belong to, and where they stand.
        questions: How many questions there are; windows count them from 0.
        n_best: Spans of a question at most.
        max_answer_length: Tokens of a span at most.
    """
    found = find_spans(logits, windows.first, windows.count, n_best, max_answer_length)
    return best_of_questions(found, windows.question, windows.characters(found.tokens), questions)


def find_spans(
    logits: np.ndarray, first: np.ndarray, count: np.ndarray, n_best: int = 20, max_answer_length: int = 30
) -> WindowSpans:  # fmt: skip
    """The best spans of each window.

    Args:
        logits: Float array (windows, tokens, 2): start and end.
        first: Int array (windows,), the token that the text begins at.
        count: Int array (windows,), tokens of the text.
        n_best: Spans of a window at most.
        max_answer_length: Tokens of a span at most.
    """
    no_answer = logits[:, NO_ANSWER].sum(axis=1, dtype=np.float64)
    found = WindowSpans(np.full((len(first), n_best), -np.inf), np.full((len(first), n_best, 2), -1, np.int64), no_answer)
    by_length = np.argsort(first + count, kind="stable")  # little of a chunk is padding
    for a in range(0, len(first), CHUNK):
        rows = by_length[a : a + CHUNK]
        _find_in_chunk(logits, rows, first[rows], count[rows], max_answer_length, found)
    return found


def best_of_questions(found: WindowSpans, question: np.ndarray, spans: np.ndarray, questions: int) -> Candidates:
    """The best spans of each question from those of its windows.

    Args:
        found: See `find_spans`.
        question: Int array (windows,), whose window each is.
        spans: Their characters, see `Windows.characters`.
        questions: How many questions there are.
    """
    scores, n_best = found.scores, found.scores.shape[1]
    no_answer = np.full(questions, np.inf)
    np.minimum.at(no_answer, question, found.no_answer)
    best = Candidates(np.zeros((questions, n_best, 2), np.int64), np.full((questions, n_best), -np.inf), no_answer)

    alone = np.bincount(question, minlength=questions)[question] == 1  # no other window of its question
    best.spans[question[alone]], best.scores[question[alone]] = spans[alone], scores[alone]
    kept = ~alone[:, None] & (scores > -np.inf)
    whose, rank, scores, spans = _merged(np.broadcast_to(question[:, None], scores.shape)[kept], scores[kept], spans[kept])
    first = rank < n_best
    best.spans[whose[first], rank[first]], best.scores[whose[first], rank[first]] = spans[first], scores[first]
    return best


def _find_in_chunk(
    logits: np.ndarray, rows: np.ndarray, first: np.ndarray, count: np.ndarray, max_answer_length: int, found: WindowSpans
) -> None:
    """Write the n best spans of some windows to `found`, the best first.

    A start is worth itself and the best end within its reach. The n best spans begin at the n best such starts, since each other
    start is worth less than n of them; so only these are looked at, each with all ends within reach.
    """
    last = first + count
    tokens = np.arange(last.max(initial=1))
    inside = (tokens >= first[:, None]) & (tokens < last[:, None])
    start, end = (np.where(inside, logits[rows, : len(tokens), side], -np.inf) for side in (0, 1))
    reach, k = min(max_answer_length, len(tokens)), min(found.scores.shape[1], len(tokens))
    ends = np.pad(end, ((0, 0), (0, reach - 1)), constant_values=-np.inf)
    begin = np.sort(np.argpartition(start + _best_in_reach(ends, reach), -k, axis=1)[:, -k:], axis=1)
    row = np.arange(len(rows))[:, None]
    pairs = start[row, begin][:, :, None] + sliding_window_view(ends, reach, axis=1)[row, begin]
    pairs = pairs.reshape(len(rows), k * reach)
    n = min(found.scores.shape[1], k * reach)
    best = np.sort(np.argpartition(pairs, -n, axis=1)[:, -n:], axis=1)
    best = best[row, np.argsort(-pairs[row, best], axis=1, kind="stable")]  # of equal scores the first in the text
    found.scores[rows, :n] = pairs[row, best]
    there, place = np.nonzero(pairs[row, best] > -np.inf)
    at = best[there, place]
    token = begin[there, at // reach] - first[there]
    found.tokens[rows[there], place] = np.column_stack([token, token + at % reach])


def _merged(question: np.ndarray, scores: np.ndarray, spans: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Spans of several windows as question, rank, score and characters; of a span that two windows hold the better one stays."""
    order = np.lexsort((-scores, spans[:, 1], spans[:, 0], question))
    question, scores, spans = question[order], scores[order], spans[order]
    new = np.r_[True, (np.diff(question) != 0) | (np.diff(spans, axis=0) != 0).any(axis=1)][: len(order)]
    question, scores, spans = question[new], scores[new], spans[new]
    order = np.lexsort((spans[:, 1], spans[:, 0], -scores, question))
    question, scores, spans = question[order], scores[order], spans[order]
    return question, np.arange(len(question)) - np.searchsorted(question, question), scores, spans


def _best_in_reach(ends: np.ndarray, reach: int) -> np.ndarray:
    """The maximum of `reach` values from each on; the windows are doubled until they are as wide."""
    best, width = ends, 1
    while 2 * width <= reach:
        best, width = np.maximum(best[:, :-width], best[:, width:]), 2 * width
    return np.maximum(best[:, : ends.shape[1] - reach + 1], best[:, reach - width :])


# ---- from spans to answers ------------------------------------------------------------------------------------------


@dataclass
class Answers:
    """One answer a question, whether or not it is given in the end.

    Attributes:
        texts: The words of the text; '' where no span was found.
        spans: Int array (questions, 2), where they stand: `context[start:end]`.
        no_answer: Float array (questions,), the higher the likelier that the text holds no answer.
        confidence: Float array (questions,), how likely the answer is right; a probability where it was calibrated.
    """

    texts: list[str]
    spans: np.ndarray
    no_answer: np.ndarray
    confidence: np.ndarray

    def abstain(self, threshold: float | None) -> np.ndarray:
        """Which questions are left unanswered; bool array (questions,)."""
        nothing = np.array([not text for text in self.texts], bool)
        return nothing if threshold is None else nothing | (self.no_answer >= threshold)


def joined(parts: Sequence[Answers]) -> Answers:
    """The answers of several parts of the questions as one."""
    texts = [text for part in parts for text in part.texts]
    return Answers(texts, *(np.concatenate([getattr(p, c) for p in parts]) for c in ("spans", "no_answer", "confidence")))


def answers_of(candidates: Candidates, contexts: Iterable[str], settings: AnsweringSettings) -> Answers:
    """The answer to each question: the chosen span without the white space at its ends, and the calibrated confidence."""
    spans, expected = candidates.choose(settings.choose_by)
    said = [context[start:end] for context, (start, end) in zip(contexts, spans.tolist(), strict=True)]
    texts = [words.strip() for words in said]  # some tokenizers count the space before a word to it
    spans = spans.copy()
    for i in [i for i, (words, text) in enumerate(zip(said, texts, strict=True)) if len(words) > len(text)]:
        spans[i, 0] += len(said[i]) - len(said[i].lstrip())
        spans[i, 1] = spans[i, 0] + len(texts[i])
    slope, intercept = settings.confidence
    confidence = 1 / (1 + np.exp(-(slope * log_odds(expected) + intercept)))
    return Answers(texts, spans, candidates.no_answer_scores(), confidence)


def log_odds(p: np.ndarray) -> np.ndarray:
    """Log odds of probabilities, kept finite."""
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return np.log(p / (1 - p))
