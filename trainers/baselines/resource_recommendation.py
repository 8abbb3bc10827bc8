"""The cheap strong baselines of recommendation: chance, popularity, neighbours, EASE, words, an encoder that was not tuned."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix, diags
from scipy.stats import rankdata

from ..ranking import Scores

logger = logging.getLogger(__name__)

RECENT = 0.1
"""Recent popularity counts this share of the openings, the latest."""
SHRINKAGE = 10.0  # of the cosine of two resources that few opened
RIDGE = 100.0  # of EASE
MOST_FOR_EASE = 20_000  # resources; it inverts a matrix of their squared number
LAST = 5  # resources of a history that stand for it
RANK_CONSTANT = 60  # of reciprocal rank fusion


def at_random(resources: int, seed: int = 0) -> Scores:
    """Scores drawn anew for each query, the same in every run."""
    return lambda rows: np.stack([np.random.default_rng((seed, row)).random(resources, np.float32) for row in rows])


def alike_for_all(scores: np.ndarray) -> Scores:
    """The same scores, float (resources,), for each query."""
    return lambda rows: np.tile(scores.astype(np.float32), (len(rows), 1))


def by_similarity(queries: np.ndarray, resources: np.ndarray) -> Scores:
    """Scalar products of embeddings, float32 (queries, width) and (resources, width)."""
    return lambda rows: queries[rows] @ resources.T


def by_rank(*systems: Scores) -> Scores:
    """Reciprocal rank fusion (Cormack, Clarke and Büttcher 2009) of several systems; equal scores share their mean rank."""

    def scores(rows: np.ndarray) -> np.ndarray:
        each = (rankdata(-system(rows), axis=1, method="average") for system in systems)
        return sum(1 / (RANK_CONSTANT + ranks) for ranks in each).astype(np.float32)

    return scores


def popularity(opened: np.ndarray, resources: int, recent: bool = False) -> np.ndarray:
    """How often each resource was opened; with `recent` only the latest tenth of all openings counts.

    Args:
        opened: Int array (openings,), resource numbers, oldest first.
        resources: How many there are.
        recent: See above.

    Returns:
        Float array (resources,).
    """
    last = opened[-max(1, round(RECENT * len(opened))) :] if recent else opened
    return np.bincount(last, minlength=resources).astype(float)


def history_baselines(
    learners: np.ndarray, opened: np.ndarray, resources: int, histories: Sequence[np.ndarray], seed: int = 0
) -> dict[str, Scores]:
    """Fit on the openings before the split begins.

    Args:
        learners: Int array (openings,), learner numbers from 0 on, oldest first.
        opened: Int array (openings,), resource numbers.
        resources: How many there are.
        histories: For each query what the learner had opened, oldest first.
        seed: Of chance.

    Returns:
        Name -> scores: random, popular, recently popular, item-kNN (cosine with shrinkage, as in Dacrema et al. 2019), EASE
        (Steck 2019); item-kNN and EASE say the popular to a learner without a history.
    """
    counts = popularity(opened, resources)
    tail = 1e-6 * counts / max(counts.max(), 1)  # where nothing else tells
    pairs = np.unique(np.stack([learners, opened], axis=1), axis=0)
    seen = csr_matrix((np.ones(len(pairs)), pairs.T), shape=(int(learners.max()) + 1, resources))
    together = (seen.T @ seen).tocsr()
    own = np.sqrt(together.diagonal())
    cosine = together.multiply(1 / np.maximum(own, 1)[:, None]).multiply(1 / np.maximum(own, 1)[None]).tocsr()
    cosine.data *= together.data / (together.data + SHRINKAGE)
    cosine = (cosine - diags(cosine.diagonal())).tocsr()

    def neighbours(rows: np.ndarray) -> np.ndarray:
        return (rows_of(histories, rows, resources) @ cosine).toarray().astype(np.float32) + tail.astype(np.float32)

    systems = {
        "random": at_random(resources, seed), "popular": alike_for_all(counts),
        "recently popular": alike_for_all(popularity(opened, resources, recent=True) + tail), "item-kNN": neighbours,
    }  # fmt: skip
    if resources <= MOST_FOR_EASE:
        inverse = np.linalg.inv(together.toarray() + RIDGE * np.eye(resources))
        weights = (-inverse / np.diag(inverse)).astype(np.float32)
        np.fill_diagonal(weights, 0)
        systems["EASE"] = lambda rows: rows_of(histories, rows, resources) @ weights + tail.astype(np.float32)
    else:
        logger.warning("EASE is left out: it inverts a matrix of %s resources, %s at most.", resources, MOST_FOR_EASE)
    return systems


def rows_of(histories: Sequence[np.ndarray], rows: np.ndarray, resources: int) -> csr_matrix:
    """Which resources stand in these histories, float32 (rows, resources)."""
    each = [np.unique(histories[row]) for row in rows]
    ends = np.cumsum([0, *map(len, each)])
    return csr_matrix((np.ones(ends[-1], np.float32), np.concatenate(each).astype(np.int64), ends), shape=(len(rows), resources))


def mean_of_last(histories: Sequence[np.ndarray], embeddings: np.ndarray) -> np.ndarray:
    """The mean embedding of the last few resources of each history, float32 (histories, width); zeros for an empty one."""
    empty = np.zeros(embeddings.shape[1], np.float32)
    return np.stack([embeddings[h[-LAST:]].mean(0) if len(h) else empty for h in histories])
