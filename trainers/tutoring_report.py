"""What a run of tutoring leaves behind: its tables, figures and card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .report import (
    HUMAN_COLOR,
    SHORT,
    draw_bars,
    folds_table,
    markdown_or_nothing,
    number,
    pyplot,
    save_figure,
    systems,
    write_card,
)

METRIC = "bleu"
SHOWN = ("perplexity", "chrf", "rouge_l", "similarity", "distinct_2", "repeats", "unfinished", "words")


def results_table(results: dict[str, Any]) -> list[list[str]]:
    """One line a system: BLEU with its interval, our lead over it, and more metrics; the first is the header."""
    heads = [SHORT.get(m, m.replace("_", "-")) for m in SHOWN]
    table = [["", SHORT[METRIC], "95% interval", f"{results['system']} minus it", *heads]]
    for name, row in systems(results).items():
        spans = results["intervals"].get(name, {})
        behind = "{:+.2f} to {:+.2f}".format(*spans["behind"]) if "behind" in spans else "-"
        interval = "{:.2f} to {:.2f}".format(*spans["interval"]) if "interval" in spans else "-"
        table.append([name, _cell(row, METRIC), interval, behind, *(_cell(row, m) for m in SHOWN)])
    return table


def _cell(row: dict[str, float], metric: str) -> str:
    if metric not in row:
        return "-"
    return f"{row[metric]:.2f}" if metric in ("bleu", "chrf", "perplexity", "words") else number(row[metric])


def perplexity_table(results: dict[str, Any]) -> list[list[str]]:
    """Perplexity on people's turns, with intervals."""
    table = [["perplexity of people's turns", "", "95% interval", f"{results['system']} minus it"]]
    for name, row in results["perplexity"].items():
        behind = "{:+.2f} to {:+.2f}".format(*row["behind"]) if "behind" in row else "-"
        table.append([name, f"{row['perplexity']:.2f}", "{:.2f} to {:.2f}".format(*row["interval"]), behind])
    return table


def moves_table(results: dict[str, Any]) -> list[list[str]] | None:
    """How well the tutor's next move is predicted."""
    if not results["moves"]:
        return None
    table = [["move predicted by", "macro-F1", "95% interval", "accuracy", "turns"]]
    for name, row in results["moves"].items():
        span = " to ".join(map(number, row["interval"]))
        table.append([name, number(row["macro_f1"]), span, number(row["accuracy"]), str(row["n"])])
    return table


def obedience_table(results: dict[str, Any]) -> list[list[str]] | None:
    """How often a move that is asked for is seen, beside how often people's moves are."""
    if not results["obedience"]:
        return None
    found = results["obedience"]
    table = [["the judge sees the move", "tutor, asked for it", "95% interval", "turns", "people who made it"]]
    row, span = found["tutor"], " to ".join(map(number, found["tutor"]["interval"]))
    rows = [("each move alike", row["share"], span, row["n"], found["human_each_move_alike"])]
    rows += [(move, row["obeyed"], "-", row["asked"], row["human"]) for move, row in found["moves"].items()]
    for title, share, span, turns, people in rows:
        table.append([title, number(share), span, str(turns), "-" if people is None else number(people)])
    return [*table, ["as often as people make them", "-", "-", "-", number(found["human"]["share"])]]


def leaks_table(results: dict[str, Any]) -> list[list[str]] | None:
    """The share of replies that give the solution away, and what became of simulated students."""
    if not results["leaks"]:
        return None
    table = [["gives the solution away", "share", "95% interval", "replies that could"]]
    for name, row in results["leaks"].items():
        table.append([name, number(row["share"]), " to ".join(map(number, row["interval"])), str(row["n"])])
    return table


def student_table(results: dict[str, Any]) -> list[list[str]] | None:
    """Success and telling with a rule-based simulated student."""
    if not results["student"]:
        return None
    turns = next(iter(results["student"].values()))["turns"]
    table = [["with a simulated student", f"success@{turns}", "95% interval", f"telling@{turns}", "95% interval", "students"]]
    for name, row in results["student"].items():
        cells = [cell for end in ("success", "telling") for cell in (row[end]["share"], row[end]["interval"])]
        spans = [number(c) if isinstance(c, float) else " to ".join(map(number, c)) for c in cells]
        table.append([name, *spans, str(row["success"]["n"])])
    return table


def tables(results: dict[str, Any], studies: dict[str, Any]) -> dict[str, list[list[str]] | None]:
    """Every table of a run, by its name in the card; None where there is nothing to tell."""
    folds = studies.get("cross_validation")
    return {
        "table": results_table(results),
        "perplexity_table": perplexity_table(results),
        "moves_table": moves_table(results),
        "obedience_table": obedience_table(results),
        "leaks_table": leaks_table(results),
        "student_table": student_table(results),
        "folds_table": folds_table(folds, results["system"], METRIC) if folds else None,
    }


def draw_report(folder: Path, results: dict[str, Any]) -> None:
    """Bars of the leading metric with intervals; and, where moves were asked for, which were seen."""
    plt = pyplot()
    fig, ax = plt.subplots(figsize=(6, 2.6), layout="constrained")
    draw_bars(ax, results, METRIC)
    if METRIC in results["baselines"]["human"]:
        ax.axvline(results["baselines"]["human"][METRIC], color=HUMAN_COLOR, lw=1, label="one human against the others")
        ax.legend(frameon=False, fontsize=8)
    ax.set_xlabel(f"{SHORT[METRIC]} on test")
    save_figure(fig, folder / "replies.png")
    if not results["obedience"]:
        return
    matrix, moves = results["obedience"]["matrix"], list(results["obedience"]["moves"])
    fig, ax = plt.subplots(figsize=(4.6, 4), layout="constrained")
    ax.imshow([[n / max(1, sum(row)) for n in row] for row in matrix], cmap="Blues", vmin=0, vmax=1)
    for i, row in enumerate(matrix):
        for j, n in enumerate(row):
            ax.text(j, i, str(n), ha="center", va="center", fontsize=8, color="white" if n > sum(row) / 2 else "black")
    ax.set_xticks(range(len(moves)), moves, rotation=45, ha="right", fontsize=8)
    ax.set_yticks(range(len(moves)), moves, fontsize=8)
    ax.set(xlabel="move that is seen", ylabel="move that was asked for")
    save_figure(fig, folder / "asked_moves.png")


def write_tutoring_card(folder: Path, facts: dict[str, Any]) -> None:
    """`report.write_card` with the tables of a tutor."""
    facts = facts | {name: markdown_or_nothing(table) for name, table in tables(facts["results"], facts).items()}
    write_card(folder, "tutoring_card.md", facts | {"metric": METRIC, "pipeline_tag": "text-generation"})
