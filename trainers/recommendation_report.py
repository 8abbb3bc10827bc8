"""What a run of resource recommendation leaves behind: its tables, figures and card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .ranking import Ranking
from .recommendation_evaluation import METRIC, METRICS, JudgedQueries
from .recommendation_settings import title_of
from .report import (
    SHORT,
    draw_bars,
    folds_table,
    markdown_or_nothing,
    number,
    pyplot,
    save_figure,
    systems,
    systems_table,
    write_card,
)

EXPOSURE = ("coverage_at_10", "gini_at_10", "novelty_at_10")


def more_table(results: dict[str, Any]) -> list[list[str]]:
    """One line a system: the other metrics, each with its interval."""
    others = [m for m in METRICS if m != METRIC]
    table = [["95% intervals", *(SHORT[m] for m in others)]]
    for name, row in systems(results).items():
        spans = results["intervals"][name]["metrics"]
        table.append([name, *(_with_interval(row[m], spans[m]["interval"]) for m in others)])
    return table


def slices_table(results: dict[str, Any]) -> list[list[str]] | None:
    """nDCG@10 of new learners and new resources, or without what training topics have; one line a system."""
    slices = results["slices"]
    if not slices:
        return None
    table = [["nDCG@10, 95% intervals", *slices], ["queries", *(f"{s['queries']:,}" for s in slices.values())]]
    return table + [
        [system, *(_with_interval(s[METRIC][system], s["intervals"][system]) for s in slices.values())]
        for system in systems(results)
    ]


def _with_interval(value: float, span: Sequence[float]) -> str:
    return f"{number(value)} ({' to '.join(map(number, span))})"


def weights_table(results: dict[str, Any]) -> list[list[str]]:
    """How the features are weighed."""
    return [["feature", "weight"], *([name, f"{value:+.3f}"] for name, value in results["weights"].items())]


def tables(results: dict[str, Any], studies: dict[str, Any]) -> dict[str, list[list[str]] | None]:
    """Every table of a run, by its name in the card; None where there is nothing to tell."""
    folds = studies.get("cross_validation")
    return {
        "table": systems_table(results, METRIC, [m for m in EXPOSURE if m in results["test"]]),
        "more_table": more_table(results),
        "slices_table": slices_table(results),
        "weights_table": weights_table(results) if len(results["ablation"]) else None,
        "folds_table": folds_table(folds, results["system"], METRIC) if folds else None,
    }


def list_columns(ranking: Ranking, asked: JudgedQueries, resources: Sequence[Mapping[str, Any]]) -> dict[str, Sequence]:
    """The columns of predictions.csv, a row a place in a list: query, rank, resource_id, title, score, relevant (0 or 1),
    relevant_resources (how many the query has), group_id (what intervals draw together)."""
    places = [
        (query, rank, int(r), float(score), int(r in set(asked.relevant[i].tolist())), len(asked.relevant[i]), asked.groups[i])
        for i, query in enumerate(asked.ids)
        for rank, (r, score) in enumerate(zip(ranking.top[i], ranking.scores[i], strict=True), start=1)
        if r >= 0
    ]
    return {
        "query": [p[0] for p in places], "rank": [p[1] for p in places],
        "resource_id": [resources[p[2]]["resource_id"] for p in places],
        "title": [title_of(resources[p[2]]) for p in places], "score": [round(p[3], 6) for p in places],
        "relevant": [p[4] for p in places], "relevant_resources": [p[5] for p in places], "group_id": [p[6] for p in places],
    }  # fmt: skip


def draw_systems(path: Path, results: dict[str, Any]) -> None:
    """Bars: nDCG@10 of each system with its interval."""
    plt = pyplot()
    fig, ax = plt.subplots(figsize=(6.4, 0.36 * len(results["intervals"]) + 1.1), layout="constrained")
    draw_bars(ax, results, METRIC)
    ax.set_xlabel("nDCG@10 on test, 95% interval")
    save_figure(fig, path)


def write_recommendation_card(folder: Path, facts: dict[str, Any]) -> None:
    """`report.write_card` with the tables of a recommender."""
    results = facts["results"]
    facts = facts | {name: markdown_or_nothing(table) for name, table in tables(results, facts).items()}
    kind = {"encoder": "sentence-similarity", "sequential": "other"}[facts["architecture"]]
    library = "sentence-transformers" if facts["architecture"] == "encoder" and not facts["adapter"] else facts["library_name"]
    write_card(folder, "recommendation_card.md", facts | {"metric": METRIC, "pipeline_tag": kind, "library_name": library})
