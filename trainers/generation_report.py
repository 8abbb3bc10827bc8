"""What a run of content generation leaves behind: its tables, figures and card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .generation_evaluation import MAP_AT, SAMPLES
from .metrics.answers import ROUGE
from .reading_level import LEVELS
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

METRIC = "rouge_l"
SHOWN = {"bleu": "BLEU-4", "chrf": "chrF", "similarity": "similarity", "round_trip_f1": "round-trip F1", "leaks": "leaks",
         "grade": "grade", "words": "words"}  # fmt: skip


def results_table(results: dict[str, Any]) -> list[list[str]]:
    """One line a system: ROUGE-L with its interval, our lead over it, and more metrics; the first is the header."""
    table = [["", SHORT[METRIC], "95% interval", f"{results['system']} minus it", *SHOWN.values()]]
    for name, row in systems(results).items():
        spans = results["intervals"].get(name, {})
        interval = " to ".join(map(number, spans["interval"])) if "interval" in spans else "-"
        behind = "{:+.3f} to {:+.3f}".format(*spans["behind"]) if "behind" in spans else "-"
        table.append([name, _cell(row, METRIC), interval, behind, *(_cell(row, m) for m in SHOWN)])
    return table


def _cell(row: dict[str, float], metric: str) -> str:
    if metric not in row:
        return "-"
    return f"{row[metric]:.1f}" if metric in ("bleu", "chrf", "grade", "words") else number(row[metric])


def gain_table(results: dict[str, Any]) -> list[list[str]] | None:
    """What re-ranking adds to the most probable question."""
    if not results["gain"]:
        return None
    table = [["re-ranking adds", "difference", "95% interval"]]
    for name, (difference, low, high) in results["gain"].items():
        table.append([SHOWN.get(name, SHORT.get(name, name)), f"{difference:+.3f}", f"{low:+.3f} to {high:+.3f}"])
    return table


def sets_table(results: dict[str, Any]) -> list[list[str]]:
    """How much alike the candidates are, and why they were refused."""
    found = results["sets"]
    table = [["candidates", ""], [f"the same as another of the first {SAMPLES}", number(found["duplicates"])]]
    table += [["the same, among those that are offered", number(found["duplicates_offered"])]]
    table += [[f"Self-BLEU of the first {SAMPLES}", f"{found['self_bleu']:.1f}"], ["may stand", number(found["kept"])]]
    return table + [[f"refused: {reason}", number(share)] for reason, share in results["refused"].items()]


def map_table(results: dict[str, Any]) -> list[list[str]]:
    """MAP@N of all questions about a text."""
    table = [["MAP@N with ROUGE-L", *(f"N = {n}" for n in MAP_AT)]]
    rows = dict(results["map_at"])
    if results["from_texts_alone"]:
        rows[f"{results['system']}, from the text alone"] = results["from_texts_alone"]
    return table + [[name, *(number(row[f"map_at_{n}"]) for n in MAP_AT)] for name, row in rows.items()]


def attributes_table(results: dict[str, Any]) -> list[list[str]] | None:
    """Whether questions are of the kind that was asked for."""
    if not results["attributes"]:
        return None
    table = [["the judge sees what was asked for", *(f"{name} ({row['n']})" for name, row in results["attributes"].items())]]
    for system in next(iter(results["attributes"].values())):
        if system != "n":
            table.append([system, *(number(row[system]["accuracy"]) for row in results["attributes"].values())])
    return table


def levels_table(results: dict[str, Any]) -> list[list[str]] | None:
    """The reading levels of questions, asked for and not."""
    if not results["levels"]:
        return None
    table = [["reading level asked for", *LEVELS]]
    return table + [[asked or "none", *(number(row[level]) for level in LEVELS)] for asked, row in results["levels"].items()]


def distractors_table(results: dict[str, Any]) -> list[list[str]] | None:
    """What the checks say of wrong options."""
    if not results["distractors"]:
        return None
    shares = ("wrong", "plausible", "both", "distinct", "same_kind")
    table = [["wrong options", "offered", *(name.replace("_", " ") for name in shares), "both, 95%"]]
    for system, row in results["distractors"].items():
        cells = [f"{row['offered']['value']:.1f}", *(number(row[name]["value"]) if name in row else "-" for name in shares)]
        table.append([system, *cells, " to ".join(map(number, row["both"]["interval"])) if "both" in row else "-"])
    return table


def tables(results: dict[str, Any], studies: dict[str, Any]) -> dict[str, list[list[str]] | None]:
    """Every table of a run, by its name in the card; None where there is nothing to tell."""
    folds = studies.get("cross_validation")
    return {
        "table": results_table(results),
        "gain_table": gain_table(results),
        "sets_table": sets_table(results),
        "map_table": map_table(results),
        "attributes_table": attributes_table(results),
        "levels_table": levels_table(results),
        "distractors_table": distractors_table(results),
        "folds_table": folds_table(folds, results["system"], METRIC) if folds else None,
    }


def draw_report(folder: Path, results: dict[str, Any]) -> None:
    """Bars of ROUGE-L with intervals, beside how often a reader finds the answer again."""
    plt = pyplot()
    fig, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained", sharey=True)
    draw_bars(left, results, METRIC)
    left.set_xlabel(f"{SHORT[METRIC]} on test")
    draw_bars(right, results, "round_trip_f1", intervals=False)
    right.axvline(results["baselines"]["human"]["round_trip_f1"], color=HUMAN_COLOR, lw=1, label="people's questions")
    right.set_xlabel("round-trip F1 on test")
    right.legend(frameon=False, fontsize=8)
    save_figure(fig, folder / "questions.png")


def write_generation_card(folder: Path, facts: dict[str, Any]) -> None:
    """`report.write_card` with the tables of a writer of questions."""
    facts = facts | {name: markdown_or_nothing(table) for name, table in tables(facts["results"], facts).items()}
    kind = "text-generation" if not facts["encoder_decoder"] else "text2text-generation"
    write_card(folder, "generation_card.md", facts | {"metric": METRIC, "pipeline_tag": kind, "rouge": ROUGE})
