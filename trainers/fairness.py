"""Whether a machine treats groups of learners alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .intervals import bootstrap_interval

MIN_GROUP = 20
"""Groups of fewer learners are merged, and hidden where they are still fewer: a figure of three learners says nothing of a
group and too much of the three."""
MAX_DIFFERENCE = 0.10
"""|standardized difference| above which a group is flagged (Williamson, Xi and Breyer 2012)."""


def merge_small(groups: Sequence[str], units: Sequence, least: int = MIN_GROUP) -> np.ndarray:
    """Rows of groups below `least` become 'other groups', or '' (hidden) where those are too few together as well.

    Args:
        groups: The group of each row; '' is unknown and stays.
        units: The learner of each row: it is learners that are counted.
        least: The least number of learners.
    """
    merged, units = np.array([str(g) for g in groups], dtype=object), np.asarray(units)
    small = [g for g in sorted(set(merged)) if g and len(set(units[merged == g].tolist())) < least]
    rows = np.isin(merged.astype(str), small)
    merged[rows] = "other groups" if len(set(units[rows].tolist())) >= least else ""
    return merged


def standardized_differences(
    machine: np.ndarray,
    human: np.ndarray,
    groups: Sequence[str],
    strata: Sequence[str],
    units: Sequence,
    seed: int = 0,
) -> dict[str, dict[str, float | bool | list[float]]]:
    """For each group: how much more the machine gives it than the humans do, in standard deviations.

    Difference of standardized means: machine and human scores are each standardized over all rows of a stratum (a prompt),
    then the mean difference is taken over the rows of a group. A machine that is too kind to everyone alike shows 0 for
    every group; that is what the standardized mean difference of the whole is for.

    Args:
        machine: Float array (rows,), scores in any units.
        human: Likewise, nan where unknown.
        groups: The group of each row, '' where unknown.
        strata: The prompt of each row.
        units: What the bootstrap draws: the learner of each row.
        seed: Of the bootstrap.

    Returns:
        group -> n, difference, interval (95%), flagged (|difference| above `MAX_DIFFERENCE` and the interval leaves out 0).
    """
    known = ~np.isnan(human)
    machine, human, strata = np.asarray(machine, float)[known], np.asarray(human, float)[known], np.asarray(strata)[known]
    units, gap = np.asarray(units)[known], np.zeros(known.sum())
    for stratum in np.unique(strata):
        here = strata == stratum
        if human[here].std() > 0 and machine[here].std() > 0:
            gap[here] = (machine[here] - machine[here].mean()) / machine[here].std()
            gap[here] -= (human[here] - human[here].mean()) / human[here].std()
    merged = merge_small(np.array(groups, dtype=object)[known], units)
    table = {}
    for group in sorted({g for g in merged if g}):
        rows = np.flatnonzero(merged == group)
        interval = bootstrap_interval(lambda drawn, own=gap[rows]: own[drawn].mean(), units[rows], seed=seed)
        difference = float(gap[rows].mean())
        sure = interval[0] > 0 or interval[1] < 0
        table[group] = {
            "n": len(rows), "difference": difference, "interval": list(interval),
            "flagged": bool(abs(difference) > MAX_DIFFERENCE and sure),
        }  # fmt: skip
    return table
