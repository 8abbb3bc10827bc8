"""Several scores in one ranking: their weights, fitted on queries that no model was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize

from .ranking import Scores

Features = Callable[[np.ndarray], np.ndarray]
"""From the numbers of some queries, int64 (queries,), to float32 (features, queries, resources)."""

CANDIDATES = 1000
"""The best so many resources by each feature take part in fitting."""
STRENGTH = 5.0
"""Of the pull of the weights to where they began: a score of validation topics moves them little. With 0.1 they overfitted: on
LectureBank's validation topics of fold 0 (cross-fitted, encoder not tuned) nDCG@10 fell from 0.34 to 0.32."""


def fit_weights(
    features: Features, start: dict[str, float], relevant: Sequence[np.ndarray], seen: Sequence[np.ndarray] | None = None
) -> dict[str, float]:
    """Weights with which relevant resources get most of a softmax over the catalogue.

    The likelihood of a query is the softmax's mass on all of its relevant resources together: it is earned at the top of the
    list, where a list is read. Features are standardized within a query first, so that one pull suits all.

    Args:
        features: Of the queries.
        start: Feature -> weight to begin with, in the order of `features`.
        relevant: For each query the numbers of its relevant resources.
        seen: For each query the resources that are not ranked.

    Returns:
        Feature -> weight, of the features as they are.
    """
    tables, hits = [], []
    for row, wanted in enumerate(relevant):
        table = features(np.array([row]))[:, 0].astype(float)
        most = min(CANDIDATES, table.shape[1])
        pool = np.unique(np.concatenate([wanted, np.argpartition(-table, most - 1, axis=1)[:, :most].ravel()]))
        pool = pool[np.isin(pool, wanted) | ~np.isin(pool, [] if seen is None else seen[row])]
        tables.append(table[:, pool])
        hits.append(np.isin(pool, wanted))
    spread = np.mean([table.std(axis=1) for table in tables], axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    first = np.array(list(start.values())) * spread
    tables = [table / spread[:, None] for table in tables]

    def cost(weights: np.ndarray) -> tuple[float, np.ndarray]:
        total = STRENGTH * np.sum((weights - first) ** 2)
        slope = 2 * STRENGTH * (weights - first)
        for table, hit in zip(tables, hits, strict=True):
            logits = weights @ table
            exp = np.exp(logits - logits.max())
            every, wanted = exp / exp.sum(), np.where(hit, exp, 0) / max(exp[hit].sum(), 1e-300)
            total -= np.log(max(every[hit].sum(), 1e-300))
            slope += table @ (every - wanted)
        return total, slope

    found = minimize(cost, first, jac=True, method="L-BFGS-B").x / spread
    return dict(zip(start, found.tolist(), strict=True))


def fused(features: Features, weights: dict[str, float]) -> Scores:
    """The weighted sum of the features; they come in the order of `weights`."""
    values = np.array(list(weights.values()), np.float32)
    return lambda rows: np.tensordot(values, features(rows), axes=1)
