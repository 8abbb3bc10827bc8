"""How good ranked lists are, from the ranks of what is relevant, and whom they put in the light."""

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

DEPTH = 10
"""How much of a list somebody looks at."""
RECALLS = (20, 100)


def ranking_metrics(ranks: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Metrics of each query, from the ranks of its relevant resources among all resources; what is relevant is so alike.

    Args:
        ranks: For each query an int array (relevant,), 1 is the best; none may be empty.

    Returns:
        Float arrays (queries,), all 0 to 1:
        ndcg_at_10: discounted gain of the first ten, divided by that of a perfect list (Järvelin and Kekäläinen 2002).
        recall_at_20, recall_at_100: share of the relevant resources among the first 20 or 100.
        mrr: 1 / rank of the first relevant resource.
        map: mean over the relevant resources of the precision at their rank (average precision).

    Raises:
        ValueError: A query has nothing relevant.
    """
    if any(len(r) == 0 for r in ranks):
        raise ValueError("a query without a relevant resource cannot be judged")
    discount = 1 / np.log2(np.arange(2, DEPTH + 2))
    ideal = np.cumsum(discount)
    found = [np.sort(np.asarray(r)) for r in ranks]
    table = {"ndcg_at_10": [discount[r[r <= DEPTH] - 1].sum() / ideal[min(len(r), DEPTH) - 1] for r in found]}
    table |= {f"recall_at_{k}": [np.mean(r <= k) for r in found] for k in RECALLS}
    table |= {"mrr": [1 / r[0] for r in found], "map": [np.mean(np.arange(1, len(r) + 1) / r) for r in found]}
    return {name: np.array(values, float) for name, values in table.items()}


def exposure_metrics(top: np.ndarray, resources: int, counts: np.ndarray | None = None) -> dict[str, float]:
    """Whom the lists of all queries put in the light.

    Args:
        top: Int array (queries, depth), the numbers of the resources in each list, -1 where a list is shorter.
        resources: How many there are.
        counts: Float array (resources,), how often each was opened in training; None where nothing was.

    Returns:
        coverage_at_10: share of all resources that stand in a list.
        gini_at_10: how unevenly places in lists are shared, 0 (all alike) to 1 (one resource has them all).
        novelty_at_10: mean of -log2 of the share of openings of what is listed, in bits (Zhou et al. 2010); only with `counts`.
    """
    listed = top[top >= 0]
    places = np.sort(np.bincount(listed, minlength=resources))
    rank = np.arange(1, resources + 1)
    gini = ((2 * rank - resources - 1) @ places) / (resources * max(places.sum(), 1))
    result = {"coverage_at_10": float(np.mean(places > 0)), "gini_at_10": float(gini)}
    if counts is not None:
        share = (counts + 1) / (counts.sum() + resources)  # what nobody opened is new, not infinitely so
        result["novelty_at_10"] = float(-np.log2(share[listed]).mean()) if len(listed) else 0.0
    return result


class RankingMetrics(evaluate.Metric):
    """`RankingMetrics().compute(predictions=[[3, 1, 2]], references=[[1]])`: whole ranked lists, and what is relevant."""

    def _info(self) -> evaluate.MetricInfo:
        numbers = datasets.List(datasets.Value("int64"))
        return evaluate.MetricInfo(
            description=ranking_metrics.__doc__,
            citation="Järvelin and Kekäläinen (2002). Cumulated gain-based evaluation of IR techniques. ACM TOIS 20(4).",
            inputs_description="predictions: all resources of each query, the best first; references: those that are relevant",
            features=datasets.Features({"predictions": numbers, "references": numbers}),
        )

    def _compute(self, predictions, references) -> dict[str, float]:
        ranks = []
        for listed, relevant in zip(predictions, references, strict=True):
            place = {resource: rank for rank, resource in enumerate(listed, start=1)}
            if missing := set(relevant) - set(place):
                raise ValueError(f"a list lacks {len(missing)} relevant resources: whole lists are judged, never samples")
            ranks.append(np.array([place[r] for r in relevant]))
        return {name: float(values.mean()) for name, values in ranking_metrics(ranks).items()}
