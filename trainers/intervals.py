"""Intervals: of a single score (split conformal), and of a statistic over a test split (bootstrap)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import t as student


def conformal_radius(errors: np.ndarray, level: float = 0.9) -> float:
    """How far to reach on both sides of a prediction so that the truth lies within with probability `level`.

    Split conformal prediction (Vovk et al. 2005; Lei et al. 2018): it holds for any model, as long as the rows of `errors`
    were used for nothing else and new rows come from the same source. Errors may be divided by a difficulty of each row
    first; the radius is then multiplied by the difficulty of the new row.

    Args:
        errors: Float array (rows,), absolute errors on calibration rows, nan where the truth is unknown.
        level: Between 0 and 1.

    Returns:
        The radius in the units of `errors`; inf where there are too few rows for this level.
    """
    errors = np.sort(np.asarray(errors, float)[~np.isnan(errors)])
    rank = math.ceil((len(errors) + 1) * level)
    return float(errors[rank - 1]) if 0 < rank <= len(errors) else math.inf


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float], groups: Sequence, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of a statistic, drawing whole groups with replacement (Efron 1979).

    Args:
        statistic: Called with row numbers, int64 array (rows drawn,); nan is left out.
        groups: The group of each row: what the split did not cut, a learner say. Rows of one group are drawn together.
        level: Between 0 and 1.
        draws: How many samples.
        seed: Of the draws.

    Returns:
        (lower, upper).
    """
    members = _members(groups)
    rng = np.random.default_rng(seed)
    drawn = (rng.integers(len(members), size=len(members)) for _ in range(draws))
    return interval_of([statistic(np.concatenate([members[g] for g in sample])) for sample in drawn], level)


def bootstrap_counts(groups: Sequence, draws: int = 1000, seed: int = 0) -> np.ndarray:
    """How often each row is drawn in each sample, for statistics that are sums over rows; groups as above.

    Returns:
        Float64 array (draws, rows).
    """
    members = _members(groups)
    counts = np.random.default_rng(seed).multinomial(len(members), np.full(len(members), 1 / len(members)), size=draws)
    table = np.empty((draws, sum(map(len, members))))
    for g, rows in enumerate(members):
        table[:, rows] = counts[:, [g]]
    return table


def interval_of(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Lower and upper percentile of bootstrapped values; nan is left out."""
    tail = (1 - level) / 2
    lower, upper = np.nanquantile(values, [tail, 1 - tail])
    return float(lower), float(upper)


def paired_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Student's interval of a mean: of a few seeds, say, or of the differences of two systems seed by seed.

    Args:
        values: Float array (seeds,), at least one; of one alone nothing is known, and the interval has no ends.
        level: Between 0 and 1.
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        return -math.inf, math.inf
    reach = student.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - reach), float(values.mean() + reach)


def _members(groups: Sequence) -> list[np.ndarray]:
    """The rows of each group."""
    numbers = np.unique(np.asarray(groups), return_inverse=True)[1]
    return np.split(np.argsort(numbers, kind="stable"), np.cumsum(np.bincount(numbers))[:-1])
