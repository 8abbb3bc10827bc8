"""How well a learner has mastered each concept, from answers alone: Best-LR (Gervet et al. 2020) on counts.

A logistic model of the next answer on a concept. It reads how often the concept was answered rightly and wrongly (PFA, Pavlik,
Cen and Koedinger 2009), how often in a row rightly (a wrong answer voids what stood before it), the same of its prerequisites and
of what follows it, and all answers together. What it estimates is the probability of a right answer, 0 to 1; the truth of a
simulator never enters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

FEATURES = (
    "one", "right", "wrong", "right_in_a_row", "answered", "right_of_all", "wrong_of_all",
    "right_before", "wrong_before", "in_a_row_before", "right_behind", "wrong_behind", "in_a_row_behind",
)  # fmt: skip
"""What the model reads of a concept; `before` is the mean over its prerequisites, `behind` over what follows it."""
LONGEST = 6  # right answers in a row that count
MOST_ANSWERS = 150_000  # that the model is fitted on


@dataclass
class MasteryEstimator:
    """Estimated mastery of every concept after every answer; fitted with `fit_best_lr`, saved as numbers.

    Attributes:
        shared: Float list (features,), what holds for all concepts.
        own: Float lists (concepts, features), what a concept adds.
        edges: Pairs (before, after) of concept numbers.
    """

    shared: list[float]
    own: list[list[float]]
    edges: list[list[int]]

    def __post_init__(self):
        n = len(self.own)
        self._weights = np.asarray(self.own, np.float32).reshape(n, -1) + np.asarray(self.shared, np.float32)
        self._before, self._behind = _shares(n, self.edges)

    def along(self, concepts: np.ndarray, correct: np.ndarray) -> np.ndarray:
        """Mastery before each answer and after the last.

        Args:
            concepts: Int array (learners, answers), from 0, the oldest first.
            correct: Int array (learners, answers), 0 or 1.

        Returns:
            Float32 array (learners, answers + 1, concepts), 0 to 1.
        """
        return self.of_counts(count_answers(concepts, correct, len(self.own)))

    def now(self, concepts: np.ndarray, correct: np.ndarray) -> np.ndarray:
        """Mastery after the last answer, float32 (learners, concepts); arguments as for `along`."""
        return self.of_counts([values[:, -1:] for values in count_answers(concepts, correct, len(self.own))])[:, 0]

    def of_counts(self, counts: Sequence[np.ndarray]) -> np.ndarray:
        """Mastery, float32 (learners, steps, concepts), from what `count_answers` gives."""
        features = _features(*counts, self._before, self._behind)
        return 1 / (1 + np.exp(-np.einsum("ltcf,cf->ltc", features, self._weights)))


def fit_best_lr(
    concepts: np.ndarray, correct: np.ndarray, n_concepts: int, edges: Sequence[Sequence[int]], seed: int = 0
) -> MasteryEstimator:
    """Fit on logs.

    Args:
        concepts: Int array (learners, answers), from 0.
        correct: Int array (learners, answers), 0 or 1.
        n_concepts: Number of concepts; one that nobody answered is estimated by what holds for all.
        edges: Pairs (before, after) of concept numbers.
        seed: Of the learners that are drawn where there are more than `MOST_ANSWERS` answers.
    """
    most = max(1, MOST_ANSWERS // concepts.shape[1])
    rows = np.random.default_rng(seed).permutation(len(concepts))[:most]
    concepts, correct = np.asarray(concepts)[rows], np.asarray(correct)[rows]
    before, behind = _shares(n_concepts, edges)
    width, x = len(FEATURES), []
    for start in range(0, len(concepts), 500):  # memory stays bounded
        asked, said = concepts[start : start + 500], correct[start : start + 500]
        features = _features(*(v[:, :-1] for v in count_answers(asked, said, n_concepts)), before, behind)
        learner, step = np.indices(asked.shape)
        x.append(features[learner, step, asked].reshape(-1, width))
    x, asked = np.concatenate(x), concepts.ravel()
    columns = np.concatenate([np.tile(np.arange(width), (len(x), 1)), width * (1 + asked)[:, None] + np.arange(width)], axis=1)
    cells = np.concatenate([x, x], axis=1).ravel()
    rows = np.repeat(np.arange(len(x)), 2 * width)
    sparse = csr_matrix((cells, (rows, columns.ravel())), (len(x), width * (1 + n_concepts)))
    y = correct.ravel()
    if y.min() == y.max():  # all right, or all wrong: nothing to tell apart
        weights = np.zeros(width * (1 + n_concepts))
        weights[0] = 4.0 if y.min() else -4.0
    else:
        weights = LogisticRegression(C=1.0, max_iter=200, fit_intercept=False).fit(sparse, y).coef_[0]
    table = weights.reshape(1 + n_concepts, width).round(6)
    return MasteryEstimator(table[0].tolist(), table[1:].tolist(), [list(map(int, e)) for e in edges])


def count_answers(concepts: np.ndarray, correct: np.ndarray, n_concepts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right answers, wrong answers and right ones in a row on each concept, before each answer and after the last.

    Returns:
        Three float32 arrays (learners, answers + 1, concepts).
    """
    concepts, correct = np.asarray(concepts), np.asarray(correct)
    learners, answers = concepts.shape
    right, wrong, row = np.zeros((3, learners, answers + 1, n_concepts), np.float32)
    who = np.arange(learners)
    for step in range(answers):
        for table in (right, wrong, row):
            table[:, step + 1] = table[:, step]
        asked, said = concepts[:, step], correct[:, step]
        right[who, step + 1, asked] += said
        wrong[who, step + 1, asked] += 1 - said
        row[who, step + 1, asked] = np.minimum((row[who, step, asked] + 1) * said, LONGEST)
    return right, wrong, row


def _features(right: np.ndarray, wrong: np.ndarray, row: np.ndarray, before: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """Float32 (learners, steps, concepts, features) in the order of `FEATURES`."""
    answered = (right + wrong > 0).astype(np.float32)
    all_right, all_wrong = (np.broadcast_to(np.log1p(v.sum(-1, keepdims=True)), v.shape) for v in (right, wrong))
    right, wrong = np.log1p(right), np.log1p(wrong)
    around = [values @ matrix for matrix in (before, behind) for values in (right, wrong, row)]
    return np.stack([np.ones_like(right), right, wrong, row, answered, all_right, all_wrong, *around], axis=-1)


def _shares(n_concepts: int, edges: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Two matrices that take the mean over a concept's prerequisites, and over what follows it."""
    before = np.zeros((n_concepts, n_concepts), np.float32)
    for first, then in edges:
        before[first, then] = 1
    behind = before.T
    return before / np.maximum(before.sum(0), 1), behind / np.maximum(behind.sum(0), 1)
