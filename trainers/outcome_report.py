"""What a run of outcome prediction leaves behind: its tables, figures and card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .explanation import GroupEffects
from .report import (
    BASELINE_COLORS,
    MODEL_COLOR,
    as_label,
    folds_table,
    markdown_or_nothing,
    number,
    pyplot,
    save_figure,
    systems_table,
    write_card,
)
from .report import subgroup_table as difference_table

OF_CLASSES = (
    "average_precision", "recall_at_10_percent", "recall_at_20_percent", "accuracy", "macro_f1", "brier_score",
    "expected_calibration_error",
)  # fmt: skip
OF_VALUES = ("mean_absolute_error", "r2")


def metric_of(results: dict[str, Any]) -> str:
    """The metric that tables lead with."""
    return "roc_auc" if "roc_auc" in results["test"] else "root_mean_squared_error"


def results_table(results: dict[str, Any]) -> list[list[str]]:
    """See `report.systems_table`."""
    metric = metric_of(results)
    return systems_table(results, metric, OF_CLASSES if metric == "roc_auc" else OF_VALUES)


def subgroup_table(results: dict[str, Any]) -> list[list[str]] | None:
    """Groups: rates of false alerts and missed ones beside all others; of values, standardized differences."""
    if not any(results["subgroups"].values()):
        return None
    if metric_of(results) != "roc_auc":
        return difference_table(results["subgroups"])
    table = [["group", "rows", "FPR", "FPR gap, 95%", "FNR", "FNR gap, 95%", "ABROCA", "ABROCA by chance"]]
    for column, groups in results["subgroups"].items():
        for group, row in groups.items():
            cells = [f"{column}: {group}", str(row["n"])]
            for kind in ("positive", "negative"):
                span = "{:+.2f} to {:+.2f}".format(*row[f"false_{kind}_gap_interval"])
                cells += [f"{row[f'false_{kind}_rate']:.2f}", f"{row[f'false_{kind}_gap']:+.2f} ({span})"]
            table.append([*cells, number(row["abroca"]), number(row["abroca_by_chance"])])
    return table


def tables(results: dict[str, Any], studies: dict[str, Any]) -> dict[str, list[list[str]] | None]:
    """Every table of a run, by its name in the card; None where there is nothing to tell."""
    folds, encodings = studies.get("cross_validation"), studies.get("encodings")
    return {
        "table": results_table(results),
        "subgroup_table": subgroup_table(results),
        "folds_table": folds_table(folds, results["system"], metric_of(results)) if folds else None,
        "encodings_table": [["encoding", "validation loss"], *([k, number(v)] for k, v in encodings.items())]
        if encodings
        else None,
    }


def draw_effects(path: Path, effects: GroupEffects, target: str) -> None:
    """Bars: how far each group of features moves a prediction, up or down, on average."""
    plt = pyplot()
    size = np.abs(effects.effects).mean(axis=0)
    order = np.argsort(size)
    fig, ax = plt.subplots(figsize=(6, 0.36 * len(order) + 1.1), layout="constrained")
    ax.barh(range(len(order)), size[order], color=MODEL_COLOR)
    ax.set_yticks(range(len(order)), [as_label(effects.groups[i], 40) for i in order])
    ax.set_xlabel(f"mean movement of the prediction of {as_label(target, 40)}")
    save_figure(fig, path)


def draw_scatter(path: Path, predicted: np.ndarray, observed: np.ndarray, target: str) -> None:
    """Predicted against observed values, a dot a test record."""
    plt = pyplot()
    fig, ax = plt.subplots(figsize=(4.2, 4), layout="constrained")
    ends = [min(observed.min(), predicted.min()), max(observed.max(), predicted.max())]
    ax.plot(ends, ends, color=BASELINE_COLORS[0], lw=1)
    ax.plot(observed, predicted, ".", color=MODEL_COLOR, alpha=0.5)
    ax.set(xlabel=f"{as_label(target, 40)}, observed", ylabel="predicted")
    save_figure(fig, path)


def write_outcome_card(folder: Path, facts: dict[str, Any]) -> None:
    """`report.write_card` with the tables of a predictor of outcomes."""
    results = facts["results"]
    metric = metric_of(results)
    facts = facts | {name: markdown_or_nothing(table) for name, table in tables(results, facts).items()}
    kind = "tabular-regression" if metric != "roc_auc" else "tabular-classification"
    write_card(folder, "outcome_card.md", facts | {"metric": metric, "pipeline_tag": kind})
