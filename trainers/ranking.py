"""Rank all resources for a query, block by block: never a sample of them, and never the whole table of scores in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .metrics.ranking import DEPTH

MEMORY = 2**28
"""Bytes that a block of scores may take."""

Scores = Callable[[np.ndarray], np.ndarray]
"""From the numbers of some queries, int64 (queries,), to their scores, float32 (queries, resources); it may be overwritten."""


@dataclass
class Ranking:
    """Where the relevant resources of each query stand, and what stands at the top.

    Attributes:
        ranks: For each query the ranks of its relevant resources, from 1, in their order.
        top: Int array (queries, depth), resource numbers, the best first; -1 where there are no more.
        scores: Float array (queries, depth) of these.
    """

    ranks: list[np.ndarray]
    top: np.ndarray
    scores: np.ndarray


def rank_resources(
    scores: Scores, relevant: Sequence[np.ndarray], resources: int, seen: Sequence[np.ndarray] | None = None,
    depth: int = DEPTH, seed: int = 0,
) -> Ranking:  # fmt: skip
    """Rank the full catalogue for each query.

    Equal scores are put in an order drawn once from the seed, the same for every query: in the order of the file, a system
    that says nothing would profit from how the file is sorted.

    Args:
        scores: Of the queries.
        relevant: For each query the numbers of its relevant resources.
        resources: How many there are.
        seen: For each query the numbers of resources that cannot be recommended (opened before).
        depth: How much of the top is kept.
        seed: Of the order of equals.
    """
    priority = np.random.default_rng(seed).permutation(resources)
    depth = min(depth, resources)
    block = max(1, MEMORY // (8 * resources))
    ranks: list[np.ndarray] = []
    top, kept = np.full((len(relevant), depth), -1), np.full((len(relevant), depth), -np.inf)
    for start in range(0, len(relevant), block):
        rows = np.arange(start, min(start + block, len(relevant)))
        for row, own in zip(rows, scores(rows), strict=True):
            if seen is not None:
                own[seen[row]] = -np.inf
            ascending = np.sort(own) if len(relevant[row]) else np.partition(own, -depth)  # a list alone needs less
            better = resources - np.searchsorted(ascending, own[relevant[row]], side="right")
            equal = resources - better - np.searchsorted(ascending, own[relevant[row]], side="left")
            for i in np.flatnonzero(equal > 1):
                number = relevant[row][i]
                better[i] += np.sum(priority[own == own[number]] < priority[number])
            ranks.append(better + 1)
            candidates = np.flatnonzero(own >= max(ascending[-depth], np.finfo(np.float32).min))
            best = candidates[np.lexsort((priority[candidates], -own[candidates]))][:depth]
            top[row, : len(best)], kept[row, : len(best)] = best, own[best]
    return Ranking(ranks, top, kept)
