"""What a run of knowledge tracing leaves behind: its tables, figures and card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .report import (
    BASELINE_COLORS,
    MODEL_COLOR,
    as_label,
    folds_table,
    markdown_or_nothing,
    number,
    pyplot,
    save_figure,
    systems,
    systems_table,
    write_card,
)

METRIC = "roc_auc"
SHOWN = ("accuracy", "log_loss", "root_mean_squared_error", "expected_calibration_error")
MOST_LEARNERS, MOST_CONCEPTS = 30, 40  # of the heat map


def history_table(results: dict[str, Any]) -> list[list[str]]:
    """AUC by the number of answers before the one that is predicted, one line a system."""
    spans = results["history_lengths"]
    names = [f"{s['from']}" if s["from"] == s["to"] else f"{s['from']}-{s['to'] or ''}" for s in spans]
    table = [["AUC after so many answers", *names], ["answers predicted", *(f"{s['answers']:,}" for s in spans)]]
    return table + [[system, *(number(s["roc_auc"][system]) for s in spans)] for system in systems(results)]


def tables(results: dict[str, Any], studies: dict[str, Any]) -> dict[str, list[list[str]] | None]:
    """Every table of a run, by its name in the card; None where there is nothing to tell."""
    folds = studies.get("cross_validation")
    return {
        "table": systems_table(results, METRIC, SHOWN),
        "history_table": history_table(results),
        "folds_table": folds_table(folds, results["system"], METRIC) if folds else None,
    }


def draw_history_lengths(path: Path, results: dict[str, Any]) -> None:
    """AUC against the number of answers before, a line a system."""
    plt = pyplot()
    fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    spans, names = results["history_lengths"], list(systems(results))
    for i, name in enumerate(names[1:]):  # a base rate ranks nobody
        ours = name == results["system"]
        color = MODEL_COLOR if ours else BASELINE_COLORS[i % len(BASELINE_COLORS)]
        style = {"lw": 2} if ours else {"lw": 1, "ls": ("-", "--", ":", "-.")[i % 4]}
        ax.plot([s["roc_auc"][name] for s in spans], marker=".", color=color, label=name, **style)
    ax.set_xticks(range(len(spans)), [f"{s['from']}+" if s["to"] != s["from"] else str(s["from"]) for s in spans])
    ax.set(xlabel="answers before", ylabel="AUC on test")
    ax.legend(frameon=False, fontsize=8)
    save_figure(fig, path)


def draw_mastery(path: Path, mastery: dict[str, Sequence], concepts: Sequence[str]) -> None:
    """A heat map of mastery, learners by concepts, pale where the interval is wide; the first thirty learners.

    It names learners and stays with the user.
    """
    plt = pyplot()
    width = len(concepts)
    rows = min(MOST_LEARNERS, len(mastery["learner_id"]) // width)

    def grid(column: str) -> np.ndarray:
        return np.array(mastery[column][: rows * width], float).reshape(rows, width)

    often = np.argsort(-grid("answers").sum(axis=0), kind="stable")[:MOST_CONCEPTS]
    values, spans = grid("mastery")[:, often], (grid("mastery_high") - grid("mastery_low"))[:, often]
    fig, ax = plt.subplots(figsize=(0.28 * len(often) + 2.4, 0.24 * rows + 2.0), layout="constrained")
    drawn = ax.imshow(values, cmap="RdYlBu", vmin=0, vmax=1, alpha=np.clip(1.2 - spans, 0.15, 1.0), aspect="auto")
    ax.set_xticks(range(len(often)), [as_label(concepts[c]) for c in often], rotation=90, fontsize=7)
    ax.set_yticks(range(rows), [as_label(str(i)) for i in mastery["learner_id"][: rows * width : width]], fontsize=7)
    fig.colorbar(drawn, ax=ax, label="probability of a correct answer", shrink=0.8)
    save_figure(fig, path)


def write_tracing_card(folder: Path, facts: dict[str, Any]) -> None:
    """`report.write_card` with the tables of a tracer."""
    facts = facts | {name: markdown_or_nothing(table) for name, table in tables(facts["results"], facts).items()}
    write_card(folder, "tracing_card.md", facts | {"metric": METRIC, "pipeline_tag": "tabular-classification"})
