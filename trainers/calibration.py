"""Fitting a model's raw scores to the scale of the human scores, never on test."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

FEW = 20
"""A prompt with fewer rows takes what is fitted on the rows of all prompts."""


def own_or_all(rows: np.ndarray, human: np.ndarray, few: int = FEW) -> np.ndarray:
    """The rows of a prompt, or all rows where fewer than `few` of its own have a score.

    Args:
        rows: Bool array (rows,), those of the prompt.
        human: Float array (rows,), nan where there is no score.
        few: The least number of scores that are fitted on their own.
    """
    return rows if (~np.isnan(human[rows])).sum() >= few else np.ones(len(rows), bool)


def variance_match(raw: np.ndarray, human: np.ndarray) -> tuple[float, float]:
    """Slope and intercept that give `raw` the mean and the standard deviation of `human`.

    A model trained on squared error shrinks towards the mean; rounded to a rubric, it then gives the outer scores too
    rarely, which quadratic weighted kappa punishes. Matching the variance undoes that.

    Args:
        raw: Float array (rows,).
        human: Float array (rows,), nan where there is no score.

    Returns:
        (slope, intercept); (1, difference of the means) where `raw` hardly varies or fewer than 3 rows have a score.
    """
    known = ~np.isnan(human)
    raw, human = np.asarray(raw, float)[known], np.asarray(human, float)[known]
    if len(raw) == 0:
        return 1.0, 0.0
    slope = human.std() / raw.std() if len(raw) > 2 and raw.std() > 1e-6 else 1.0
    return float(slope), float(human.mean() - slope * raw.mean())


def to_scale(scores: np.ndarray, low: float, high: float, step: float) -> np.ndarray:
    """Scores rounded to the nearest that can be given, within [low, high]."""
    return np.clip(low + step * np.rint((np.asarray(scores) - low) / step), low, high)


def platt(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Slope and intercept that make logits into log odds of what was observed (Platt 1999).

    Args:
        logits: Float array (rows,).
        labels: Int array (rows,), 0 or 1.

    Returns:
        (slope, intercept); (1, 0) where only one class is there or the slope would not be positive.
    """
    labels = np.asarray(labels)
    if labels.min() == labels.max():
        return 1.0, 0.0
    line = LogisticRegression(C=np.inf).fit(np.asarray(logits, float)[:, None], labels)
    slope, intercept = float(line.coef_[0, 0]), float(line.intercept_[0])
    return (slope, intercept) if slope > 0 else (1.0, 0.0)
