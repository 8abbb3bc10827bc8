"""What a run of question answering leaves behind: its tables, figures and card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from .report import (
    BASELINE_COLORS,
    MODEL_COLOR,
    SHORT,
    folds_table,
    markdown_or_nothing,
    number,
    pyplot,
    save_figure,
    systems,
    systems_table,
    write_card,
)

SHOWN = ("rouge_l", "f1", "exact_match", "answered", "confidence_roc_auc", "expected_calibration_error")
LEXICAL = "best lexical sentence"
TABLE_SHARES = (1.0, 0.8, 0.6, 0.4, 0.2)


def results_table(results: dict[str, Any]) -> list[list[str]]:
    """See `report.systems_table`; the leading metric is the run's own."""
    return systems_table(results, results["metric"], [m for m in SHOWN if m != results["metric"]])


def coverage_table(results: dict[str, Any]) -> list[list[str]]:
    """Share of right answers if only the surest are given, one line a system."""
    curves = {name: curve for name, curve in results["risk_coverage"].items() if name in (LEXICAL, results["system"])}
    table = [["right answers among the surest", *(f"{share:.0%}" for share in TABLE_SHARES)]]
    for name, curve in curves.items():
        points = [min(curve, key=lambda p, share=share: abs(p["coverage"] - share)) for share in TABLE_SHARES]
        table.append([name, *(number(point["right"]) for point in points)])
    return table


def kinds_table(results: dict[str, Any]) -> list[list[str]] | None:
    """The leading metric for each kind of question; None where no kind is known."""
    if not results["kinds"]:
        return None
    names = [name for name in systems(results) if name in next(iter(next(iter(results["kinds"].values())).values()))]
    table = [[f"{SHORT[results['metric']]} by kind", "questions", *names]]
    for attribute, values in results["kinds"].items():
        for value, row in values.items():
            table.append([f"{attribute}: {value}", str(row["questions"]), *(number(row[name]) for name in names)])
    return table


def elsewhere_table(results: dict[str, Any]) -> list[list[str]] | None:
    """The results on other data sets, one line a system; None where there are none."""
    rows: list[list[str]] = []
    for name, other in results.get("elsewhere", {}).items():
        header, *lines = results_table(other)
        rows = rows or [["data set", "questions", *(cell or "system" for cell in header)]]
        rows += [[name, str(other["questions"]), *line] for line in lines]
    return rows or None


def tables(results: dict[str, Any], studies: dict[str, Any]) -> dict[str, list[list[str]] | None]:
    """Every table of a run, by its name in the card; None where there is nothing to tell."""
    folds = studies.get("cross_validation")
    return {
        "table": results_table(results),
        "coverage_table": coverage_table(results),
        "kinds_table": kinds_table(results),
        "elsewhere_table": elsewhere_table(results),
        "folds_table": folds_table(folds, results["system"], results["metric"]) if folds else None,
    }


def ceiling_sentence(ceiling: dict[str, float]) -> str:
    """How far spans can go, in words."""
    reach = ", ".join(f"{SHORT[m]} {number(ceiling[m])}" for m in ("rouge_l", "f1", "exact_match"))
    return f"The best span of each text would reach {reach} on the {ceiling['questions']:,} test questions that have an answer."


def draw_risk_coverage(path: Path, results: dict[str, Any]) -> None:
    """Share of wrong answers against the share of questions that are answered, the surest first; a line a system."""
    plt = pyplot()
    fig, ax = plt.subplots(figsize=(5, 3.6), layout="constrained")
    for i, (name, curve) in enumerate(results["risk_coverage"].items()):
        ours = name == results["system"]
        style = {"color": MODEL_COLOR, "lw": 2} if ours else {"color": BASELINE_COLORS[1 + i % 3], "lw": 1}
        ax.plot([p["coverage"] for p in curve], [1 - p["right"] for p in curve], marker=".", label=name, **style)
    ax.set(xlabel="share of the questions that are answered", ylabel="wrong answers (ROUGE-L below 0.5)")
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.legend(frameon=False, fontsize=8)
    save_figure(fig, path)


def write_answering_card(folder: Path, facts: dict[str, Any]) -> None:
    """`report.write_card` with the tables of a reader."""
    results = facts["results"]
    facts = facts | {name: markdown_or_nothing(table) for name, table in tables(results, facts).items()}
    more = [("roc_auc", "abstention_roc_auc", results["abstention"]["roc_auc"])] if results["abstention"] else []
    facts |= {"metric": results["metric"], "ceiling_sentence": ceiling_sentence(facts["ceiling"])}
    write_card(folder, "question_answering_card.md", facts | {"pipeline_tag": "question-answering"}, more)


def write_marked_texts(
    path: str | Path, titles: Sequence[str], questions: Sequence[str], contexts: Sequence[str], columns: dict[str, Sequence]
) -> None:
    """A page with each text, its question, and the answer marked where it stands.

    Args:
        path: Where to.
        titles: What each question is called.
        questions, contexts: Of each.
        columns: See `question_answering.answer_columns`.
    """
    rows = []
    for i, (title, question, context) in enumerate(zip(titles, questions, contexts, strict=True)):
        given = columns["answer_start"][i] != ""
        start, end = (int(columns[c][i]) if given else 0 for c in ("answer_start", "answer_end"))
        parts, sure = (context[:start], context[start:end], context[end:]), columns["confidence"][i]
        rows.append({"title": title, "question": question, "parts": parts, "given": given, "confidence": sure})
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    Path(path).write_text(environment.get_template("answers.html").render(rows=rows), encoding="utf-8")
