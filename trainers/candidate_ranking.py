"""Over-generate and re-rank: of many questions that were written for one answer, which to keep, and why not the others.

A candidate's score is a weighted sum of three, each compared with the other candidates for the same answer:

* round_trip: token F1 of what a reader of the text answers with the answer the question was written for (Alberti et al. 2019).
* likelihood: mean log-probability of its tokens under the model that wrote it.
* agreement: mean ROUGE-L with the other candidates: the one that says what most say loses least whichever is right (minimum
  Bayes risk; Kumar and Byrne 2004).

Those that pass the gates of `question_checks` come before all others. The weights are fitted on questions of the validation
split.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .metrics.answers import token_f1
from .metrics.replies import rouge_l
from .question_checks import AGAIN, refuse, same_question

SCORES = ("round_trip", "likelihood", "agreement")
DEFAULT_WEIGHTS = {"round_trip": 1.0, "likelihood": 0.5, "agreement": 1.0}
TRIED = {"round_trip": (0.0, 0.25, 0.5, 1.0), "likelihood": (0.0, 0.25, 0.5, 1.0), "agreement": (0.0, 0.5, 1.0, 2.0)}
Reader = Callable[[Sequence[str], Sequence[str]], list[str]]
"""From contexts and questions to an answer each."""


@dataclass
class Candidate:
    """A question that was written for an answer.

    Attributes:
        question: The words.
        finished: Whether the model came to an end.
        scores: By the names of `SCORES`.
        total: Their weighted sum.
        reason: Why it may not stand, '' where it may.
    """

    question: str
    finished: bool = True
    scores: dict[str, float] = field(default_factory=dict)
    total: float = 0.0
    reason: str = ""


def score(
    contexts: Sequence[str], answers: Sequence[Sequence[str]], candidates: Sequence[Sequence[Candidate]], reader: Reader,
    trained: bool, level: str = "",
) -> None:  # fmt: skip
    """Fill in the scores of candidates, and the reasons of the gates.

    Args:
        contexts: The text of each answer.
        answers: The accepted answers.
        candidates: The candidates for each answer, with their likelihood.
        reader: Answers the questions.
        trained: Whether it was trained to, so that what it cannot answer is refused.
        level: The reading level that was asked for, '' for any.
    """
    pairs = sorted({(context, c.question) for context, row in zip(contexts, candidates, strict=True) for c in row})
    read = dict(zip(pairs, reader(*zip(*pairs, strict=True)), strict=True)) if pairs else {}
    for context, known, row in zip(contexts, answers, candidates, strict=True):
        agreement = _agreement([c.question for c in row])
        for candidate, agrees in zip(row, agreement, strict=True):
            reply = read[context, candidate.question]
            f1 = max((token_f1(reply, answer) for answer in known), default=0.0)
            candidate.scores |= {"round_trip": f1, "agreement": agrees}
            candidate.reason = refuse(
                candidate.question, context, known, finished=candidate.finished, round_trip=f1 if trained else None, level=level
            )


def _agreement(questions: Sequence[str]) -> list[float]:
    """Mean ROUGE-L of each with the others; 0 where there are none."""
    table = {(a, b): rouge_l(a, b) for a, b in itertools.combinations(sorted(set(questions)), 2)}
    table |= {(b, a): value for (a, b), value in table.items()}
    n = len(questions) - 1
    return [(sum(table.get((q, o), 1.0) for o in questions) - 1.0) / n if n else 0.0 for q in questions]


def rank(candidates: Sequence[Candidate], weights: dict[str, float] | None = None) -> list[Candidate]:
    """The candidates for one answer, the best first; what says the same as a better one gets its reason.

    Args:
        candidates: With scores.
        weights: See `fit_weights`; `DEFAULT_WEIGHTS` where there are none.
    """
    weights = weights or DEFAULT_WEIGHTS
    for candidate in candidates:
        candidate.total = sum(weight * candidate.scores[name] for name, weight in weights.items())
    ranked = sorted(candidates, key=lambda c: (c.reason not in ("", AGAIN), -c.total))
    for i, candidate in enumerate(ranked):
        again = any(same_question(candidate.question, other.question) for other in ranked[:i])
        candidate.reason = candidate.reason if candidate.reason not in ("", AGAIN) else AGAIN * again
    return sorted(ranked, key=lambda c: (c.reason != "", -c.total))


def fit_weights(candidates: Sequence[Sequence[Candidate]], references: Sequence[str]) -> dict[str, float]:
    """The weights with which the question that comes first is most like people's, in the mean of ROUGE-L.

    Args:
        candidates: Of questions of the validation split, with scores.
        references: What people asked.

    Returns:
        One of the combinations of `TRIED`; of equal ones the first. `DEFAULT_WEIGHTS` without questions.
    """
    if not candidates:
        return dict(DEFAULT_WEIGHTS)
    worth = [np.array([rouge_l(c.question, known) for c in row]) for row, known in zip(candidates, references, strict=True)]
    values = [np.array([[c.scores[name] for name in SCORES] for c in row]) for row in candidates]
    refused = [np.array([c.reason not in ("", AGAIN) for c in row]) for row in candidates]
    best, found = -1.0, DEFAULT_WEIGHTS
    for tried in itertools.product(*(TRIED[name] for name in SCORES)):
        weights = np.array(tried)
        chosen = [w[np.lexsort((-(v @ weights), no))[0]] for w, v, no in zip(worth, values, refused, strict=True)]
        if (mean := float(np.mean(chosen))) > best + 1e-9:
            best, found = mean, dict(zip(SCORES, tried, strict=True))
    return dict(found)
