"""What a run of essay scoring leaves behind: its tables, figures, explanations and card."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from .essay_settings import EssaySettings
from .explanation import Explanation
from .report import (
    ALONE_COLOR,
    BASELINE_COLORS,
    HUMAN_COLOR,
    MODEL_COLOR,
    SHORT,
    as_label,
    folds_table,
    markdown_or_nothing,
    number,
    pyplot,
    save_figure,
    subgroup_table,
    systems,
    write_card,
)

RAISED, LOWERED = "31, 95, 168", "217, 138, 31"
METRIC = "quadratic_weighted_kappa"
STUDIES = ("cross_validation", "cross_prompt")


def results_table(results: dict[str, Any], metric: str = METRIC) -> list[list[str]]:
    """One line a system, one column a prompt, the mean with its interval and a few more metrics; the first is the header.

    Args:
        results: See `EssayTrainer.score_beside_baselines`.
        metric: The metric of the prompts' columns.
    """
    prompts = list(results["test"]["prompts"])
    shown = prompts if len(prompts) <= 10 else []
    more = ["exact_agreement", "adjacent_agreement", "root_mean_squared_error"]
    table = [["", "mean " + SHORT[metric], "95% interval", *[f"{p}" for p in shown], *[SHORT[m] for m in more]]]
    for name, result in systems(results).items():
        cells = []
        for p in shown:
            values = [v[metric] for v in result["prompts"].get(p, {}).values()]
            cells.append(number(sum(values) / len(values)) if values else "-")
        interval = results["intervals"].get(name, {}).get("interval")
        span = " to ".join(map(number, interval)) if interval else "-"
        table.append([name, number(result[metric]), span, *cells, *[number(result[m]) for m in more]])
    return table


def tables(results: dict[str, Any], studies: dict[str, Any]) -> dict[str, list[list[str]] | None]:
    """Every table of a run, by its name in the card; None where there is nothing to tell."""
    folds = {k: studies[k] and folds_table(studies[k], results["system"], METRIC) for k in STUDIES if k in studies}
    return {
        "table": results_table(results),
        "gate": gate_table(results["gate"]),
        "gaming_table": gaming_table(results["gaming"]) if results.get("gaming") else None,
        "subgroup_table": subgroup_table(results["subgroups"]) if any(results["subgroups"].values()) else None,
        **{f"{name}_table": table for name, table in folds.items()},
        "graded_table": graded_table(studies["learning_curve"]) if "learning_curve" in studies else None,
    }


def gate_table(gate: dict[str, dict[str, dict]]) -> list[list[str]]:
    """The gate, one line a prompt and score."""
    table = [["prompt", "QWK", "r", "SMD", "human-human", "machine-human", "degradation", "passed"]]
    for prompt, scores in gate.items():
        for name, g in scores.items():
            keys = ("quadratic_weighted_kappa", "pearsonr", "standardized_mean_difference", "human_kappa", "machine_rater_kappa")
            cells = [number(g[k]) if g[k] is not None else "-" for k in (*keys, "degradation")]
            table.append([prompt + (f", {name}" if len(scores) > 1 else ""), *cells, "yes" if g["passed"] else "no"])
    return table


def gaming_table(gaming: dict[str, dict]) -> list[list[str]]:
    """The gaming suite, one line an attack."""
    table = [["attack", "essays", "shift (SD)", "to a human", "bar", "passed"]]
    for attack, row in gaming.items():
        passed = ("yes" if row["passed"] else "no") if row["bar"] else "-"
        share = f"{row['sent_to_human']:.0%}"
        table.append([attack, str(row["essays"]), f"{row['shift']:+.2f}", share, row["bar"] or "-", passed])
    return table


def graded_table(curve: list[dict[str, Any]]) -> list[list[str]]:
    """The metric against the number of graded essays, see `model_selection.learning_curve`; one column a system."""
    names = list(curve[0]["systems"])
    table = [["essays a prompt", *names]]
    for point in curve:
        values = [point["systems"][name] for name in names]
        table.append([str(point["rows"]), *["{:.3f} ({:.3f} to {:.3f})".format(v["mean"], *v["interval"]) for v in values]])
    return table


def write_explanations(
    path: Path, ids: Sequence, explanations: Sequence[Explanation], columns: dict[str, Sequence], settings: EssaySettings
) -> None:
    """A page for a teacher: each essay with its sentences coloured by what they did to the (first) score.

    Args:
        path: Where to; it holds the learners' texts and stays with the user.
        ids: What the essays are called.
        explanations: One an essay.
        columns: Of the same essays, see `essay_scoring.score_columns`.
        settings: Score names and step.
    """
    name, essays = settings.score_names[0], []
    for i, (title, e) in enumerate(zip(ids, explanations, strict=True)):
        most = max([abs(v) for v in e.effects] or [0]) or 1.0
        shades = [f"rgba({RAISED if v > 0 else LOWERED}, {0.6 * abs(v) / most:.2f})" for v in e.effects]
        essays.append(
            {
                **vars(e), "title": title, "marked": zip(e.sentences, e.effects, shades, strict=True),
                "interval": f"{columns[name + '_low'][i]:g} to {columns[name + '_high'][i]:g}", "doubt": columns["reason"][i],
            }
        )  # fmt: skip
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    page = environment.get_template("explanation.html").render(essays=essays, step=settings.score_step)
    path.write_text(page, encoding="utf-8")


# ---- figures --------------------------------------------------------------------------------------------------------


def draw_agreement(path: Path, results: dict[str, Any], metric: str = METRIC) -> None:
    """Bars of the metric by prompt: baselines, model, humans."""
    plt = pyplot()
    prompts, rows = list(results["test"]["prompts"]), systems(results)
    machines = [n for n in rows if not n.startswith("human") and n != "prompt mean"]
    fig, ax = plt.subplots(figsize=(max(6, 1.1 * len(prompts) + 2), 3.6))
    width = 0.8 / len(machines)
    for i, name in enumerate(machines):
        own = {results["system"]: MODEL_COLOR, "model alone": ALONE_COLOR}
        color = own.get(name, BASELINE_COLORS[i % len(BASELINE_COLORS)])
        heights = [_mean_over_scores(rows[name], p, metric) for p in prompts]
        ax.bar([x + (i - (len(machines) - 1) / 2) * width for x in range(len(prompts))], heights, width, label=name, color=color)
    for name in rows:
        if name.startswith("human"):
            for x, p in enumerate(prompts):
                ax.hlines(
                    _mean_over_scores(rows[name], p, metric), x - 0.42, x + 0.42, color=HUMAN_COLOR, lw=2,
                    label=name if x == 0 else None,
                )  # fmt: skip
    ax.set_xticks(range(len(prompts)), [as_label(str(p), 14) for p in prompts])
    ax.set_xlabel("prompt")
    ax.set_ylabel("quadratic weighted kappa")
    ax.set_ylim(min(0, *ax.get_ylim()), 1)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.24), ncol=3, fontsize=8, frameon=False)
    save_figure(fig, path)


def draw_confusion(path: Path, scores, human, prompt_ids: Sequence[str], ranges: dict, step: float) -> None:
    """How often each human score got each model score, a panel a prompt; rows sum to 1."""
    import numpy as np

    plt = pyplot()
    prompts = list(ranges)[:12]
    columns = min(4, len(prompts))
    lines = -(-len(prompts) // columns)
    fig, axes = plt.subplots(lines, columns, figsize=(2.6 * columns, 2.7 * lines), squeeze=False, layout="constrained")
    for ax in axes.flat[len(prompts) :]:
        ax.axis("off")
    ids = np.asarray(prompt_ids)
    for ax, prompt in zip(axes.flat, prompts, strict=False):
        low, high = ranges[prompt][0]
        here = (ids == prompt) & ~np.isnan(human[:, 0])
        size = round((high - low) / step) + 1
        counts = np.zeros((size, size))
        cells = [np.rint((x[here, 0] - low) / step).astype(int) for x in (human, scores)]
        np.add.at(counts, tuple(cells), 1)
        ax.imshow(counts / counts.sum(1, keepdims=True).clip(1), cmap="Blues", vmin=0, vmax=1, origin="lower")
        ticks = range(size) if size <= 8 else range(0, size, -(-size // 6))
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_ticks(list(ticks), [f"{low + t * step:g}" for t in ticks], fontsize=7)
        if size <= 8:
            for i, j in np.argwhere(counts > 0):
                shade = "white" if counts[i, j] / counts[i].sum() > 0.5 else "black"
                ax.text(j, i, int(counts[i, j]), ha="center", va="center", fontsize=7, color=shade)
        ax.set_title(as_label(f"prompt {prompt}"), fontsize=9)
        ax.set_xlabel("model", fontsize=8)
        ax.set_ylabel("human", fontsize=8)
    save_figure(fig, path)


def draw_automation(path: Path, curve: list[dict[str, float]], level: float, people: float | None) -> None:
    """Agreement and coverage against the share of essays that is scored automatically.

    Args:
        path: Where to.
        curve: See `essay_evaluation.automation_curve`.
        level: The coverage that intervals promise.
        people: Mean kappa of two humans, None where unknown.
    """
    plt = pyplot()
    shares = [100 * row["share"] for row in curve]
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.4), layout="constrained")
    lines = (("quadratic_weighted_kappa", "QWK of these", MODEL_COLOR), ("exact_agreement", "exact agreement", ALONE_COLOR))
    for key, label, color in (*lines, ("quadratic_weighted_kappa_together", "QWK, humans score the rest", BASELINE_COLORS[3])):
        left.plot(shares, [row[key] for row in curve], marker=".", color=color, label=label)
    if people is not None:
        left.axhline(people, color=HUMAN_COLOR, lw=1.5, label="QWK of two humans")
    left.legend(loc="upper center", bbox_to_anchor=(0.5, 1.22), ncol=2, frameon=False, fontsize=8)
    right.plot(shares, [row["coverage"] for row in curve], marker=".", color=MODEL_COLOR)
    right.axhline(level, color=BASELINE_COLORS[2], ls="--", lw=1)
    right.set_ylim(0.5, 1)
    left.set_ylabel("agreement with the human score")
    right.set_ylabel("human scores inside the interval")
    for ax in (left, right):
        ax.set_xlabel("share scored automatically (%)")
    save_figure(fig, path)


def draw_graded_essays(path: Path, curve: list[dict[str, Any]], ours: str, people: float | None) -> None:
    """The test metric against the number of graded essays of each prompt, with 95% bands.

    Args:
        path: Where to.
        curve: See `model_selection.learning_curve`.
        ours: What the trained system is called.
        people: Mean kappa of two humans, None where unknown.
    """
    plt = pyplot()
    fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    numbers = [point["rows"] for point in curve]
    colors = {ours: MODEL_COLOR, "model alone": ALONE_COLOR, "tf-idf + surface, ridge": BASELINE_COLORS[3]}
    for name, color in colors.items():
        if all(name in point["systems"] for point in curve):
            values = [point["systems"][name] for point in curve]
            ax.plot(numbers, [v["mean"] for v in values], marker="o", ms=3, color=color, label=name)
            low, high = zip(*(v["interval"] for v in values), strict=True)
            ax.fill_between(numbers, low, high, color=color, alpha=0.15, lw=0)
    if people is not None:
        ax.axhline(people, color=HUMAN_COLOR, lw=1.5, label="two humans")
    ax.set_xscale("log")
    ax.set_xticks(numbers, [str(n) for n in numbers])
    ax.minorticks_off()
    ax.set(xlabel="graded essays of each prompt", ylabel="mean QWK on test")
    ax.legend(frameon=False, fontsize=8)
    save_figure(fig, path)


def _mean_over_scores(result: dict, prompt: str, metric: str) -> float:
    values = [v[metric] for v in result["prompts"].get(prompt, {}).values()]
    return sum(values) / len(values) if values else 0.0


# ---- card -----------------------------------------------------------------------------------------------------------


def write_essay_card(folder: Path, facts: dict[str, Any]) -> None:
    """`report.write_card` with the tables of an essay scorer, and kappa of each prompt in the model-index."""
    results = facts["results"]
    more = []
    for prompt, scores in results["test"]["prompts"].items():
        for score, values in scores.items():
            name = f"quadratic_weighted_kappa, prompt {prompt}" + (f", {score}" if len(scores) > 1 else "")
            more.append((METRIC, name, values[METRIC]))
    facts = facts | {k: results.get(k, {}) for k in ("coverage", "sent_to_human", "gaming")}
    facts |= {name: markdown_or_nothing(table) for name, table in tables(results, facts).items()}
    facts |= {"fused": results["system"] == "hybrid", "metric": METRIC, "pipeline_tag": "text-classification"}
    write_card(folder, "essay_card.md", facts, more)
