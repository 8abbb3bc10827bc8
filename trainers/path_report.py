"""What a run of learning paths leaves behind: its tables, figures and card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .baselines.learning_path import PRIVILEGED
from .path_settings import PathSettings
from .report import (
    BASELINE_COLORS,
    HUMAN_COLOR,
    MODEL_COLOR,
    as_label,
    as_text,
    draw_bars,
    markdown_or_nothing,
    number,
    pyplot,
    save_figure,
    systems,
    verdict,
    write_card,
)

MOST_DRAWN = 40  # concepts of a figure


def paths_table(results: dict[str, Any]) -> list[list[str]]:
    """One line a policy: Ep with its interval, our difference to it, waste and violations; the first is the header."""
    table = [["", "Ep", "95% interval", f"{results['system']} minus it", "waste", "violations"]]
    for name, row in systems(results).items():
        spans = results["intervals"][name]
        behind = "{:+.3f} to {:+.3f}".format(*spans["behind"]) if "behind" in spans else "-"
        interval = " to ".join(map(number, spans["interval"]))
        table.append([name, number(row["ep"]), interval, behind, number(row["waste"]), number(row["violations"])])
    return table


def pairs_table(results: dict[str, Any]) -> list[list[str]]:
    """One line a model of prerequisites: AUC with its interval, our difference to it, direction."""
    table = [["", "AUC", "95% interval", f"{results['system']} minus it", "direction"]]
    for name, row in systems(results).items():
        spans = results["intervals"][name]
        behind = "{:+.3f} to {:+.3f}".format(*spans["behind"]) if "behind" in spans else "-"
        table.append(
            [name, number(row["roc_auc"]), " to ".join(map(number, spans["interval"])), behind, number(row["direction"])]
        )
    return table


def slices_table(results: dict[str, Any]) -> list[list[str]] | None:
    """AUC and direction by what training knows of the two concepts, one line a model."""
    slices = results["slices"]
    if not slices:
        return None
    table = [["AUC / direction", *(f"{part} ({row['pairs']})" for part, row in slices.items())]]
    for name in systems(results):
        cells = [f"{number(row[name]['roc_auc'])} / {number(row[name]['direction'])}" for row in slices.values()]
        table.append([name, *cells])
    return table


def tables(results: dict[str, Any]) -> dict[str, list[list[str]] | None]:
    """Every table of a run, by its name in the card; None where there is nothing to tell.

    Args:
        results: Of the policy, with those of the prerequisite model under "prerequisites"; or of that model alone.
    """
    pairs = results.get("prerequisites") or (results if "slices" in results else None)
    return {
        "table": paths_table(results) if "slices" not in results else None,
        "pairs_table": pairs_table(pairs) if pairs else None,
        "slices_table": slices_table(pairs) if pairs else None,
    }


def metric_of(results: dict[str, Any]) -> str:
    """The metric that a table leads with."""
    return "ep" if "ep" in results["test"] else "roc_auc"


def print_tables(results: dict[str, Any]) -> None:
    """The tables of a run, and whether it was worth it."""
    said = [as_text(table) for table in tables(results).values() if table]
    print("", *said, *(verdict(part, metric_of(part)) for part in (results, results.get("prerequisites")) if part), sep="\n\n")


def draw_promotion(path: Path, results: dict[str, Any]) -> None:
    """Bars: Ep of each policy with its interval, violations beside."""
    plt = pyplot()
    size = (8.2, 0.36 * len(results["intervals"]) + 1.1)
    fig, (left, right) = plt.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    draw_bars(left, results, "ep", colors={PRIVILEGED: HUMAN_COLOR})
    left.set_xlabel("Ep, share of what was missing that is reached")
    draw_bars(right, results, "violations", intervals=False, colors={PRIVILEGED: HUMAN_COLOR})
    right.set(xlabel="violations, share of moves", xlim=(0, None))
    save_figure(fig, path)


def draw_path(
    path: Path, settings: PathSettings, moves: Sequence[int], goals: Sequence[int], mastery: np.ndarray,
    names: Sequence[str] | None = None,
) -> None:  # fmt: skip
    """A path over the graph: what the learner has mastered by the answers, the goals, and when which concept comes.

    Args:
        path: Where to.
        settings: With the graph.
        moves: Numbers of concepts, in order.
        goals: Numbers of concepts.
        mastery: Float array (concepts,), estimated before the first move.
        names: What concepts are called; their ids where not given.
    """
    plt = pyplot()
    rules, names = settings.rules, settings.concepts if names is None else names
    wanted = np.zeros((1, len(settings.concepts)), bool)
    wanted[0, list(goals)] = True
    shown = set(np.flatnonzero(rules.leads_to(wanted)[0]).tolist()) | set(map(int, moves))
    drawn = sorted(shown, key=lambda c: (c not in set(moves) | set(goals), c))[:MOST_DRAWN]
    depth = dict.fromkeys(range(len(settings.concepts)), 0)
    for concept in rules.order:
        before = np.flatnonzero(rules.before[concept])
        depth[int(concept)] = 1 + max((depth[int(b)] for b in before), default=-1)
    levels: dict[int, list[int]] = {}
    for i, concept in enumerate(drawn):
        levels.setdefault(depth[concept] if settings.edges else i // 8, []).append(concept)
    at = {
        c: (level, (i + 0.5) / len(row)) for level, row in enumerate(levels[k] for k in sorted(levels)) for i, c in enumerate(row)
    }
    height = max(len(row) for row in levels.values())
    fig, ax = plt.subplots(figsize=(1.7 * len(levels) + 1.6, 0.62 * height + 1.2), layout="constrained")
    for first, then in settings.edges:
        if first in at and then in at:
            ax.annotate(
                "", at[then], at[first], arrowprops={"arrowstyle": "->", "color": BASELINE_COLORS[0], "shrinkA": 9, "shrinkB": 9}
            )
    when: dict[int, list[str]] = {}
    for step, move in enumerate(moves, start=1):
        when.setdefault(int(move), []).append(str(step))
    x, y = zip(*(at[c] for c in drawn), strict=True)
    edge = [HUMAN_COLOR if c in set(goals) else "none" for c in drawn]
    dots = ax.scatter(
        x, y, c=[mastery[c] for c in drawn], cmap="RdYlBu", vmin=0, vmax=1, s=220, edgecolors=edge, linewidths=2, zorder=3
    )
    for concept in drawn:
        steps = when.get(concept, [])
        said = ", ".join(steps[:6]) + (" ..." if len(steps) > 6 else "")
        ax.annotate(as_label(names[concept]), at[concept], (0, -15), textcoords="offset points", ha="center", fontsize=7)
        ax.annotate(
            said, at[concept], (0, 11), textcoords="offset points", ha="center", fontsize=7, color=MODEL_COLOR, weight="bold"
        )
    ax.set(xlim=(-0.6, len(levels) - 0.4), ylim=(-0.12, 1.12), xticks=[], yticks=[])
    ax.spines[["left", "bottom"]].set_visible(False)
    fig.colorbar(dots, ax=ax, label="estimated mastery at the start", shrink=0.7)
    save_figure(fig, path)


def draw_pairs(path: Path, results: dict[str, Any]) -> None:
    """Bars: AUC of each model of prerequisites with its interval, direction beside."""
    plt = pyplot()
    size = (8.2, 0.36 * len(results["intervals"]) + 1.1)
    fig, (left, right) = plt.subplots(1, 2, figsize=size, sharey=True, layout="constrained")
    draw_bars(left, results, "roc_auc")
    left.set(xlabel="AUC", xlim=(0.4, 1))
    draw_bars(right, results, "direction", intervals=False)
    right.set(xlabel="direction", xlim=(0.4, 1))
    save_figure(fig, path)


def write_path_card(folder: Path, facts: dict[str, Any]) -> None:
    """`report.write_card` with the tables of a run of learning paths."""
    results = facts["results"]
    pairs = results.get("prerequisites")
    metric = metric_of(results)
    facts = facts | {name: markdown_or_nothing(table) for name, table in tables(results).items()}
    facts |= {"metric": metric, "pairs_verdict": verdict(pairs, "roc_auc") if pairs else ""}
    facts["kept"] = (pairs or results).get("kept", "")
    kind = "reinforcement-learning" if metric == "ep" else "text-classification"
    more = [(m, f"prerequisites: {m}", v) for m, v in pairs["test"].items()] if pairs else []
    write_card(folder, "path_card.md", facts | {"pipeline_tag": kind}, more)
