"""How good recommendations are: every system ranks the full catalogue, the same queries, with intervals that draw queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from .columns import RowNumbers, column_values
from .intervals import bootstrap_counts, interval_of
from .metrics.ranking import exposure_metrics, ranking_metrics
from .ranking import Ranking, Scores, rank_resources
from .recommender import Query

METRIC = "ndcg_at_10"
METRICS = ("ndcg_at_10", "recall_at_20", "recall_at_100", "mrr", "map")


@dataclass
class JudgedQueries:
    """Queries whose relevant resources are known.

    Attributes:
        ids: Topic or learner of each.
        groups: What intervals draw together: topics of one parent, a learner.
        queries: What is asked.
        relevant: The numbers of the relevant resources of each.
        cold: Whether the learner is new, bool (queries,); False for topics.
        cold_relevant: Of the relevant resources those that nobody opened in training.
    """

    ids: list[str]
    groups: list[str]
    queries: list[Query]
    relevant: list[np.ndarray]
    cold: np.ndarray
    cold_relevant: list[np.ndarray]

    @property
    def seen(self) -> list[np.ndarray] | None:
        """What each learner opened before and is not recommended again; None for topics."""
        histories = [query.history for query in self.queries]
        return histories if any(len(h) for h in histories) else None


def read_queries(rows: Dataset, number_of: RowNumbers, kind: str) -> JudgedQueries:
    """Rows of `edu_datasets.schema.TOPICS` ('topic') or HISTORIES ('history') as queries; those without a target are left out.

    Args:
        rows: See above.
        number_of: The numbers of the resources, by resource_id.
        kind: 'topic' or 'history'.
    """
    numbers = number_of.of
    if kind == "topic":
        relevant = [numbers(ids) for ids in column_values(rows, "resource_ids")]
        queries = [Query(row["text"], row["path"], row["language"]) for row in rows]
        nobody = [r[:0] for r in relevant]
        return JudgedQueries(rows["topic_id"][:], rows["group_id"][:], queries, relevant, np.zeros(len(rows), bool), nobody)
    rows = [row for row in rows if row["targets"]]
    learners = [row["learner_id"] for row in rows]
    targets = [numbers(row["targets"]) for row in rows]
    cold = [t[np.array(row["cold_targets"], bool)] for t, row in zip(targets, rows, strict=True)]
    queries = [Query(history=numbers(row["history"])) for row in rows]
    return JudgedQueries(learners, learners, queries, targets, np.array([r["cold_learner"] for r in rows], bool), cold)


def judge(
    systems: dict[str, Scores], asked: JudgedQueries, resources: int, ours: str, counts: np.ndarray | None = None,
    trained: np.ndarray | None = None, seed: int = 0,
) -> tuple[dict[str, dict[str, float]], dict[str, Any], Ranking]:  # fmt: skip
    """Rank with every system.

    Args:
        systems: Name -> scores of the queries.
        asked: The queries.
        resources: How many there are.
        ours: The system whose lists are kept and that the others are compared with.
        counts: How often each resource was opened in training, for novelty; None for topics.
        trained: The numbers of resources that a training topic has. A model knows these by heart and where they belong: how
            systems compare among all others is told beside.
        seed: Of ties and intervals.

    Returns:
        System -> metrics, means over queries; {"intervals": system -> see `intervals_of`, "slices": see `cold_slices`}; the lists
        of ours.
    """
    rankings = {
        name: rank_resources(scores, asked.relevant, resources, asked.seen, seed=seed) for name, scores in systems.items()
    }
    each = {name: ranking_metrics(ranking.ranks) for name, ranking in rankings.items()}
    results = {
        name: {m: float(values[m].mean()) for m in METRICS} | exposure_metrics(rankings[name].top, resources, counts)
        for name, values in each.items()
    }
    slices = cold_slices(rankings, asked, seed)
    if trained is not None and len(trained):
        hidden = [np.setdiff1d(trained, wanted) for wanted in asked.relevant]
        ranks = {name: rank_resources(s, asked.relevant, resources, hidden, seed=seed).ranks for name, s in systems.items()}
        slices["without resources of training topics"] = _slice(ranks, asked.groups, seed)
    return results, {"intervals": intervals_of(each, asked.groups, ours, seed), "slices": slices}, rankings[ours]


def intervals_of(
    each: Mapping[str, Mapping[str, np.ndarray]], groups: Sequence[str], ours: str, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """95% intervals by bootstrap; the same draws of whole groups for every system and metric.

    Args:
        each: System -> metric -> value of each query, float (queries,).
        groups: Of the queries.
        ours: The system that the others are compared with.
        seed: Of the draws.

    Returns:
        System -> {"interval", "behind" (ours minus it; ours has none)} of nDCG@10, and "metrics": metric -> the same of each.
    """
    drawn = bootstrap_counts(groups, seed=seed)
    drawn /= drawn.sum(axis=1, keepdims=True)
    found = {}
    for name, values in each.items():
        spans = {m: {"interval": list(interval_of(drawn @ values[m]))} for m in METRICS}
        if name != ours:
            for m in METRICS:
                spans[m]["behind"] = list(interval_of(drawn @ (each[ours][m] - values[m])))
        found[name] = {**spans[METRIC], "metrics": spans}
    return found


def cold_slices(rankings: dict[str, Ranking], asked: JudgedQueries, seed: int = 0) -> dict[str, dict[str, Any]]:
    """nDCG@10 of learners without a history and of others, and of the resources that nobody opened in training.

    A cold resource is ranked among all: where it is wanted, what else is relevant takes no place above it.

    Returns:
        Slice -> {"queries": number, "ndcg_at_10": {system: value}, "intervals": {system: 95% interval}}; only slices that have
        queries.
    """
    slices: dict[str, dict[str, Any]] = {}
    groups = np.array(asked.groups)
    for name, rows in (("learners with a history", ~asked.cold), ("new learners", asked.cold)):
        if asked.cold.any() and rows.any():
            chosen = np.flatnonzero(rows)
            ranks = {system: [ranking.ranks[i] for i in chosen] for system, ranking in rankings.items()}
            slices[name] = _slice(ranks, groups[chosen], seed)
    chosen = [i for i, cold in enumerate(asked.cold_relevant) if len(cold)]
    if chosen:
        ranks = {system: [] for system in rankings}
        for system, ranking in rankings.items():
            for i in chosen:
                cold = np.isin(asked.relevant[i], asked.cold_relevant[i])
                warm, own = ranking.ranks[i][~cold], ranking.ranks[i][cold]
                ranks[system].append(own - (warm[None] < own[:, None]).sum(axis=1))
        slices["new resources"] = _slice(ranks, groups[chosen], seed)
    return slices


def _slice(ranks: Mapping[str, Sequence[np.ndarray]], groups: Sequence[str], seed: int) -> dict[str, Any]:
    """Of the ranks by system: how many queries, nDCG@10, its intervals."""
    drawn = bootstrap_counts(groups, seed=seed)
    drawn /= drawn.sum(axis=1, keepdims=True)
    values = {system: ranking_metrics(own)[METRIC] for system, own in ranks.items()}
    return {
        "queries": len(groups), METRIC: {system: float(own.mean()) for system, own in values.items()},
        "intervals": {system: list(interval_of(drawn @ own)) for system, own in values.items()},
    }  # fmt: skip
