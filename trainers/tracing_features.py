"""What a learner's answers so far say of the next one, as numbers: counts, shares, and how long ago.

The numbers of a step come from the steps before it alone. They are what logistic models of learning and trees use (PFA, Pavlik
et al. 2009; Best-LR, Gervet et al. 2020), and the tracer reads them at its readout.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

HISTORY = (
    "concept_successes", "concept_failures", "concept_rate", "concept_last", "concept_steps_ago", "concept_seconds_ago",
    "successes", "failures", "rate", "last_five", "streak", "question_successes", "question_failures", "seconds_ago",
)  # fmt: skip
PRIOR_ANSWERS = 3.0  # a rate starts at the base rate as if so many answers had been given
LONGEST = 10  # of a streak
LONG_AGO = 1e9  # seconds


class History:
    """The answers of one learner so far.

    Args:
        base_rate: What a rate is before any answer, 0 to 1.
    """

    def __init__(self, base_rate: float = 0.7):
        self.base_rate = base_rate
        self.concepts: dict[int, list] = defaultdict(lambda: [0, 0, None])  # right, wrong, (step, answer, time) of the last
        self.questions: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        self.right = self.steps = self.streak = 0
        self.recent: list[int] = []
        self.time = math.nan

    def add(self, question: int, concepts: Sequence[int], answer: int, time: float) -> None:
        """One more answer: the question's number (0 unknown), its concepts, 0 or 1, seconds (nan unknown)."""
        for c in concepts:
            counts = self.concepts[c]
            counts[1 - answer] += 1
            counts[2] = (self.steps, answer, time)
        if question:
            self.questions[question][1 - answer] += 1
        self.right += answer
        self.steps += 1
        self.streak = max(self.streak, 0) + 1 if answer else min(self.streak, 0) - 1
        self.recent = [*self.recent[-4:], answer]
        self.time = time

    def features(self, question: int, concepts: Sequence[int], time: float) -> list[float]:
        """The numbers of `HISTORY` for a question that is asked now; counts are means over its concepts.

        Counts as log(1 + n), rates and the last five as shares from 0 to 1, `concept_last` -1, 0 (never) or 1, the streak of
        equal answers with their sign, divided by 5, distances as log(1 + n) and 0 where there was none.
        """
        known = [self.concepts[c] for c in concepts if c in self.concepts]
        n = max(len(concepts), 1)
        right, wrong = sum(k[0] for k in known) / n, sum(k[1] for k in known) / n
        last = max((k[2] for k in known), default=None)
        asked = self.questions.get(question, (0, 0)) if question else (0, 0)
        return [
            math.log1p(right),
            math.log1p(wrong),
            (right + PRIOR_ANSWERS * self.base_rate) / (right + wrong + PRIOR_ANSWERS),
            sum(2 * k[2][1] - 1 for k in known) / len(known) if known else 0.0,
            math.log1p(self.steps - 1 - last[0]) if last else 0.0,
            _log_gap(time - last[2]) if last else 0.0,
            math.log1p(self.right),
            math.log1p(self.steps - self.right),
            (self.right + PRIOR_ANSWERS * self.base_rate) / (self.steps + PRIOR_ANSWERS),
            (sum(self.recent) + self.base_rate) / (len(self.recent) + 1),
            max(-LONGEST, min(LONGEST, self.streak)) / 5,
            math.log1p(asked[0]),
            math.log1p(asked[1]),
            _log_gap(time - self.time),
        ]


def history_features(
    questions: Sequence[int], concepts: Sequence[Sequence[int]], correct: Sequence[int], times: Sequence[float],
    base_rate: float = 0.7,
) -> tuple[np.ndarray, History]:  # fmt: skip
    """The numbers of each answer of one learner, and the history at the end.

    Args:
        questions: Number of each question, 0 unknown.
        concepts: The concepts of each question.
        correct: 0 or 1 of each answer; that of a step enters the steps behind it alone.
        times: Seconds, nan unknown.
        base_rate: See `History`.

    Returns:
        Float32 array (answers, 14) in the order of `HISTORY`, and the `History`.
    """
    history, rows = History(base_rate), []
    for question, asked, answer, time in zip(questions, concepts, correct, times, strict=True):
        rows.append(history.features(question, asked, time))
        history.add(question, asked, answer, time)
    return np.array(rows, np.float32).reshape(-1, len(HISTORY)), history


def _log_gap(seconds: float) -> float:
    return math.log1p(min(max(seconds, 0.0), LONG_AGO)) if not math.isnan(seconds) else 0.0
