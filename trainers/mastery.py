"""How sure a mastery is: an interval around the predicted share of correct answers.

A tracer predicts how likely a learner answers correctly. Two answers of one learner to one concept, in succession, tell how much
the learner's true share differs from that: if the prediction were the truth, what is left of the two answers would be
independent; the more they have in common, the wider true shares lie around the prediction. As in the beta-binomial model
(Skellam 1948), the true share is Beta distributed with the prediction as its mean and the overdispersion rho as its spread:
variance rho x p x (1 - p). Rho is estimated by moments, by how many answers on the concept were seen, and drawn to that of all
pairs together where there are few.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import beta

SEEN = (0, 1, 3, 6, 12)
"""Answers on a concept from which on rho is estimated anew."""
FEWEST = 200  # pairs of answers for an entry of its own
PULL = 1000  # pairs that the estimate from all pairs counts for: with fewer of its own, an entry is noise
LEAST, MOST = 0.005, 0.5  # rho is noise below, and no longer a share above


def fit_spread(seen: np.ndarray, predicted: np.ndarray, first: np.ndarray, second: np.ndarray) -> list[tuple[int, float]]:
    """Overdispersion by number of answers seen, from pairs of answers in succession on one concept.

    Args:
        seen: Int array (pairs,), answers on the concept before the first of the pair.
        predicted: Float array (pairs,), probability of the first, from the answers before it.
        first, second: Int arrays (pairs,), 0 or 1.

    Returns:
        (answers seen, rho) for each entry of `SEEN` with `FEWEST` pairs; the first entry always.
    """
    pooled = _overdispersion(predicted, first, second) if len(seen) else MOST
    table: list[tuple[int, float]] = []
    for low, high in zip(SEEN, (*SEEN[1:], np.inf), strict=True):
        rows = (seen >= low) & (seen < high)
        if (few := rows.sum() < FEWEST) and table:
            continue
        own = pooled if few else _overdispersion(predicted[rows], first[rows], second[rows])
        rho = (rows.sum() * own + PULL * pooled) / (rows.sum() + PULL)
        table.append((low, float(np.clip(rho, LEAST, MOST))))
    return table


def _overdispersion(p: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    """What two answers share beyond their predictions, as a part of p x (1 - p)."""
    left = [answers - p for answers in (first, second)]  # the second is easier by what the first taught: each around its mean
    shared = np.mean((left[0] - left[0].mean()) * (left[1] - left[1].mean()))
    return float(shared / max(np.mean(p * (1 - p)), 1e-6))


def mastery_interval(
    mastery: np.ndarray, seen: np.ndarray, spread: Sequence[tuple[int, float]], level: float = 0.9
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bound of the true share of correct answers.

    Args:
        mastery: Float array, predicted probability of a correct answer.
        seen: Int array, answers on the concept so far.
        spread: See `fit_spread`.
        level: Probability that the truth lies between.
    """
    starts, rhos = zip(*spread, strict=True)
    rho = np.array(rhos)[np.searchsorted(starts, seen, side="right") - 1]
    strength = 1 / rho - 1  # a + b of the Beta distribution
    p = np.clip(mastery, 1e-3, 1 - 1e-3)
    tail = (1 - level) / 2
    return beta.ppf(tail, p * strength, (1 - p) * strength), beta.ppf(1 - tail, p * strength, (1 - p) * strength)
