"""What a run leaves behind: metrics.json, predictions.csv, figures, the model card, the printed table."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import logging
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, FileSystemLoader

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
NUMBER = re.compile(r"[+-]?\d+(\.\d+)?", re.ASCII)
PACKAGES = ("transformers", "datasets", "peft", "torch", "accelerate")
MODEL_COLOR, ALONE_COLOR, HUMAN_COLOR = "#1f5fa8", "#7fb0e0", "#d98a1f"
BASELINE_COLORS = ("#c9cdd3", "#aab0b8", "#8a929c", "#6b7480")


SHORT = {
    "quadratic_weighted_kappa": "QWK",
    "exact_agreement": "exact",
    "adjacent_agreement": "adjacent",
    "root_mean_squared_error": "RMSE",
    "mean_absolute_error": "MAE",
    "r2": "R2",
    "roc_auc": "AUC",
    "average_precision": "PR-AUC",
    "macro_f1": "macro-F1",
    "brier_score": "Brier",
    "log_loss": "log loss",
    "expected_calibration_error": "ECE",
    "ep": "Ep",
    "ndcg_at_10": "nDCG@10",
    "recall_at_20": "Recall@20",
    "recall_at_100": "Recall@100",
    "mrr": "MRR",
    "map": "MAP",
    "coverage_at_10": "coverage",
    "gini_at_10": "Gini",
    "novelty_at_10": "novelty",
    "bleu": "BLEU",
    "chrf": "chrF",
    "recall_at_10_percent": "recall at 10%",
    "recall_at_20_percent": "recall at 20%",
    "exact_match": "EM",
    "f1": "F1",
    "rouge_l": "ROUGE-L",
    "confidence_roc_auc": "AUC of confidence",
}
"""What tables call a metric; one that is not here goes by its own name."""
ERRORS = (
    "root_mean_squared_error", "mean_absolute_error", "brier_score", "log_loss", "expected_calibration_error", "loss",
    "perplexity",
)  # less is better  # fmt: skip


def write_json(path: str | Path, content: dict) -> None:
    """Write json that other tools read: two spaces, utf-8; all of it or nothing, since a run that is resumed reads it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    unfinished.replace(path)


def write_csv(path: str | Path, columns: dict[str, Sequence]) -> None:
    """Write columns of equal length as a csv file (utf-8); texts as `safe_cell` has them, numbers as they are."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        # the writer's own line end, which is \r\n, makes it quote a lone \r too
        writer = csv.writer(SimpleNamespace(write=lambda line: file.write(line.removesuffix("\r\n") + "\n")))
        writer.writerow(map(safe_cell, columns))
        writer.writerows([safe_cell(v) for v in row] for row in zip(*columns.values(), strict=True))


def safe_cell(value: Any) -> Any:
    """A text with an apostrophe in front where a spreadsheet would run it as a formula; any other value as it is.

    That is what a spreadsheet's user types to say that a cell is text. It is put before = + - @, a tab, a line's end (and the
    wide forms of the signs) also where apostrophes stand there already, so that a program gets the text back if it takes one
    apostrophe away where only apostrophes come before such a sign: `edu_datasets.files.read_own_table` does. A number that is
    written as text, such as the id -17, is no formula and stays.
    """
    if not isinstance(value, str) or NUMBER.fullmatch(value) or not FORMULA.match(value):
        return value
    return f"'{value}"


def write_options(path: str | Path, options: dict) -> None:
    """The resolved options as YAML, which `--config` takes back."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(yaml.safe_dump(options, sort_keys=True, allow_unicode=True), encoding="utf-8")


def systems(results: dict[str, Any]) -> dict[str, dict]:
    """Every row of the table in order: people, baselines, ablations, and at the end the system itself."""
    return {**results["baselines"], **results.get("ablation", {}), results["system"]: results["test"]}


def systems_table(results: dict[str, Any], metric: str, shown: Sequence[str]) -> list[list[str]]:
    """One line a system: `metric` with its interval, our difference to it, and the metrics `shown`; the first is the header."""
    heads = [SHORT.get(m, m.replace("_", " ")) for m in shown]
    table = [["", SHORT[metric], "95% interval", f"{results['system']} minus it", *heads]]
    for name, row in systems(results).items():
        spans = results["intervals"].get(name, {})
        interval = " to ".join(map(number, spans["interval"])) if spans else "-"
        behind = "{:+.3f} to {:+.3f}".format(*spans["behind"]) if "behind" in spans else "-"
        table.append([name, number(row[metric]), interval, behind, *(number(row[m]) if m in row else "-" for m in shown)])
    return table


def subgroup_table(subgroups: dict[str, dict[str, dict]]) -> list[list[str]]:
    """Standardized differences, one line a group."""
    table = [["group", "essays", "difference (SD)", "95% interval", "flagged"]]
    for column, groups in subgroups.items():
        for group, row in groups.items():
            span = " to ".join(f"{v:+.2f}" for v in row["interval"])
            flagged = "yes" if row["flagged"] else "no"
            table.append([f"{column}: {group}", str(row["n"]), f"{row['difference']:+.2f}", span, flagged])
    return table


def folds_table(study: dict[str, Any], ours: str, metric: str) -> list[list[str]]:
    """Folds of a cross-validation, or prompts that were left out: the metric of each, the mean, and that of the others.

    Args:
        study: See `model_selection.cross_validate`.
        ours: What the trained system is called.
        metric: Which one.
    """
    folds = study["folds"]
    table = [["", *folds, "mean", "sd"]]
    own = [*(f[metric] for f in folds.values()), study["mean"][metric], study["sd"][metric]]
    table.append([ours, *map(number, own)])
    for name, row in {**study["ablation"], **study["baselines"]}.items():
        table.append([name, *["" for _ in folds], number(row[metric]) if metric in row else "-", ""])
    return table


def number(value: float) -> str:
    """Three decimals; never -0.000."""
    return f"{round(value, 3) + 0.0:.3f}"


def as_text(table: list[list[str]]) -> str:
    """A table for the terminal."""
    widths = [max(len(r[i]) for r in table) for i in range(len(table[0]))]
    lines = [r[0].ljust(widths[0]) + "".join("  " + c.rjust(w) for c, w in zip(r[1:], widths[1:], strict=True)) for r in table]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def as_markdown(table: list[list[str]]) -> str:
    """A table for the card."""
    header, *rows = [[c.replace("|", "\\|") for c in r] for r in table]
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join("| " + " | ".join(r) + " |" for r in [header, rule, *rows])


def markdown_or_nothing(table: list[list[str]] | Any) -> str:
    """A table for the card, '' where there is none."""
    return as_markdown(table) if table else ""


def verdict(results: dict[str, Any], metric: str) -> str:
    """Whether it was worth training: it beside the best baseline that is no human and sees no more than it, in a sentence."""
    machines = {n: r[metric] for n, r in results["baselines"].items() if not n.startswith(("human", "privileged"))}
    best = (min if metric in ERRORS else max)(machines, key=machines.get)
    sign, name = -1 if metric in ERRORS else 1, SHORT.get(metric, metric)
    gap = sign * (results["test"][metric] - machines[best])
    ours, (low, high) = results["system"], results["intervals"][best]["behind"]
    span = f"95% interval of the difference: {low:+.3f} to {high:+.3f}"
    if gap <= 0:
        return f"The {ours} does not beat the best baseline: {best} is {-gap:.3f} {name} better or equal ({span})."
    sure = "" if (low > 0 if sign > 0 else high < 0) else "; it may be chance"
    return f"The {ours} is {gap:.3f} {name} better than the best baseline, {best} ({span}{sure})."


def command(script: str, options: dict) -> str:
    """The command that gives this run again; files by their names, without the folders of this machine."""
    words = [f"python {script}"]
    for name, value in options.items():
        values = value if isinstance(value, list) else [value]
        local = name.endswith(("_file", "_dir"))
        values = [Path(v).name if local or (name == "qa_model" and Path(v).exists()) else str(v) for v in values]
        words.append(f"--{name} {' '.join(shlex.quote(v) for v in values)}")
    return " \\\n  ".join(words)


# ---- figures --------------------------------------------------------------------------------------------------------


def draw_learning_curve(path: Path, log_history: list[dict], best_step: int | None, metric: str) -> None:
    """Training and validation loss, and the metric on validation, by epoch; the kept checkpoint is marked."""
    plt = pyplot()
    train = [(r["epoch"], r["loss"]) for r in log_history if "loss" in r]
    valid = [(r["epoch"], r["eval_loss"]) for r in log_history if "eval_loss" in r]
    chosen = [(r["epoch"], r[f"eval_{metric}"]) for r in log_history if f"eval_{metric}" in r]
    fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for ax in (left, right):
        ax.xaxis.get_major_locator().set_params(integer=True)
    if train:
        left.plot(*zip(*train, strict=True), color=BASELINE_COLORS[1], marker=".", label="training")
    if valid:
        left.plot(*zip(*valid, strict=True), color=MODEL_COLOR, marker="o", ms=3, label="validation")
    left.set(xlabel="epoch", ylabel="loss", yscale="log")
    if train or valid:
        left.legend(frameon=False, fontsize=8)
    if chosen:
        right.plot(*zip(*chosen, strict=True), color=MODEL_COLOR, marker="o", ms=3)
    for row in log_history:
        if row.get("step") == best_step and f"eval_{metric}" in row:
            right.plot(row["epoch"], row[f"eval_{metric}"], "o", ms=9, mfc="none", color=HUMAN_COLOR, label="kept")
            right.legend(frameon=False, fontsize=8)
    right.set(xlabel="epoch", ylabel=f"validation {SHORT.get(metric, metric)}")
    save_figure(fig, path)


def draw_calibration(path: Path, tables: dict[str, list[dict[str, float]]]) -> None:
    """Reliability diagrams: what happened against what was predicted, a line a system, and how many rows a bin holds.

    Args:
        path: Where to.
        tables: System -> bins with "predicted", "observed" and "rows", see `metrics.probabilities.reliability`; the last
            system is the one of the run.
    """
    plt = pyplot()
    fig, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.4), layout="constrained")
    left.plot([0, 1], [0, 1], color=BASELINE_COLORS[0], lw=1)
    for i, (name, bins) in enumerate(tables.items()):
        color = MODEL_COLOR if i == len(tables) - 1 else BASELINE_COLORS[1 + i % 3]
        left.plot([b["predicted"] for b in bins], [b["observed"] for b in bins], marker=".", color=color, label=name)
    left.set(xlabel="predicted probability", ylabel="share observed", xlim=(0, 1), ylim=(0, 1))
    left.legend(frameon=False, fontsize=8)
    right.bar([b["predicted"] for b in bins], [b["rows"] for b in bins], width=0.03, color=MODEL_COLOR)
    right.set(xlabel="predicted probability", ylabel="rows", xlim=(0, 1))
    save_figure(fig, path)


def pyplot() -> ModuleType:
    """matplotlib.pyplot without a display."""
    import matplotlib

    matplotlib.use("Agg")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    import matplotlib.pyplot as plt

    return plt


def as_label(name: str, most: int = 24) -> str:
    """A name for a figure: on one line, at most so long, and with a dollar that begins no formula."""
    return " ".join(name.split())[:most].replace("$", r"\$")


def draw_bars(
    ax: Axes, results: dict[str, Any], metric: str, intervals: bool = True, colors: dict[str, str] | None = None
) -> None:  # fmt: skip
    """A bar for each system that has an interval, the recipe's at the bottom.

    Args:
        ax: Where.
        results: "system", "test", "ablation", "baselines" and "intervals" of metrics.json.
        metric: Of each system.
        intervals: Draw the 95% interval, which is of the leading metric.
        colors: Of systems that have one of their own.
    """
    rows = {name: row for name, row in systems(results).items() if name in results["intervals"]}
    own = dict.fromkeys(results.get("ablation", {}), ALONE_COLOR) | {results["system"]: MODEL_COLOR} | (colors or {})
    values = [row[metric] for row in rows.values()]
    ends = [results["intervals"][name]["interval"] for name in rows]
    reach = [[abs(value - end[side]) for value, end in zip(values, ends, strict=True)] for side in (0, 1)]
    shades = [own.get(name, BASELINE_COLORS[1]) for name in rows]
    ax.barh(list(rows), values, xerr=reach if intervals else None, color=shades, error_kw={"lw": 1, "capsize": 2})
    ax.set_ylim(len(rows) - 0.5, -0.5)


def save_figure(fig: Figure, path: Path) -> None:
    """Write a figure as png and close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for ax in fig.axes:
        ax.spines[["top", "right"]].set_visible(False)
    fig.savefig(path, dpi=130, bbox_inches="tight")
    pyplot().close(fig)


# ---- card -----------------------------------------------------------------------------------------------------------


def write_card(folder: str | Path, template: str, facts: dict[str, Any], more: Sequence[tuple[str, str, float]] = ()) -> None:
    """README.md of a model: every metric in the model-index, results beside baselines, how to load, limits.

    Args:
        folder: The model's folder.
        template: A file beside card.md that extends it.
        facts: What the template fills in. Always: name, task, pipeline_tag, library_name, base_model, license, dataset_name,
            dataset_type, dataset_license, results (its "test" holds the metrics), metric, options, cost, adapter (bool).
        more: (metric, its name in the index, value) of further entries of the model-index.
    """
    results = facts["results"]
    dataset = {"dataset_type": facts["dataset_type"], "dataset_name": facts["dataset_name"], "dataset_split": "test"}
    entries = [(name, name, value) for name, value in results["test"].items() if isinstance(value, float)]
    evaluation = [
        EvalResult(facts["pipeline_tag"], metric_type=metric, metric_value=round(value, 4), metric_name=name, **dataset)
        for metric, name, value in [*entries, *more]
    ]
    data = ModelCardData(
        model_name=facts["name"],
        base_model=facts["base_model"] if "/" in facts["base_model"] else None,
        license=facts["license"] or "other",
        library_name=facts["library_name"],
        pipeline_tag=facts["pipeline_tag"],
        tags=["edu-recipes", facts["task"], "education"],
        eval_results=evaluation,
    )
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), trim_blocks=False)
    text = environment.get_template(template).render(
        card_data=data.to_yaml(),
        verdict=verdict(results, facts["metric"]),
        versions=", ".join(f"{p} {importlib.metadata.version(p)}" for p in PACKAGES),
        base=facts["base_model"],
        **{k: v for k, v in facts.items() if k not in ("license", "base_model")},
    )
    ModelCard(text).save(Path(folder) / "README.md")


def print_check(summary: str, rejected: Sequence[tuple], check: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Print what `--check_data` tells: the data's summary, why rows were left out, and named counts, which are returned."""
    print(summary, *(f"  left out: {reason}" for _, _, reason in rejected), sep="\n")
    for name, values in check.items():
        told = {k: round(v, 3) if isinstance(v, float) else v for k, v in values.items()}
        print(f"  {name}: " + ", ".join(f"{k} {v}" for k, v in told.items()))
    return check
