"""What a run leaves behind: metrics.json, predictions.csv, figures, the model card, the printed table."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import logging
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, FileSystemLoader

from .essay_settings import EssaySettings
from .explanation import Explanation

RAISED, LOWERED = "31, 95, 168", "217, 138, 31"
PACKAGES = ("transformers", "datasets", "peft", "torch", "accelerate")
MODEL_COLOR, ALONE_COLOR, HUMAN_COLOR = "#1f5fa8", "#7fb0e0", "#d98a1f"
BASELINE_COLORS = ("#c9cdd3", "#aab0b8", "#8a929c", "#6b7480")


def write_json(path: str | Path, content: dict) -> None:
    """Write json that other tools read: two spaces, utf-8."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_csv(path: str | Path, columns: dict[str, Sequence]) -> None:
    """Write columns of equal length as a csv file (utf-8)."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_options(path: str | Path, options: dict) -> None:
    """The resolved options as YAML, which `--config` takes back."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(yaml.safe_dump(options, sort_keys=True, allow_unicode=True), encoding="utf-8")


def systems(results: dict[str, Any]) -> dict[str, dict]:
    """Every row of the table in order: people, baselines, ablations, and at the end the system itself."""
    return {**results["baselines"], **results["ablation"], results["system"]: results["test"]}


def results_table(results: dict[str, Any], metric: str = "quadratic_weighted_kappa") -> list[list[str]]:
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
            cells.append(_number(sum(values) / len(values)) if values else "-")
        interval = results["kappa_intervals"].get(name, {}).get("interval")
        span = " to ".join(map(_number, interval)) if interval else "-"
        table.append([name, _number(result[metric]), span, *cells, *[_number(result[m]) for m in more]])
    return table


def gate_table(gate: dict[str, dict[str, dict]]) -> list[list[str]]:
    """The gate, one line a prompt and score."""
    table = [["prompt", "QWK", "r", "SMD", "human-human", "machine-human", "degradation", "passed"]]
    for prompt, scores in gate.items():
        for name, g in scores.items():
            keys = ("quadratic_weighted_kappa", "pearsonr", "standardized_mean_difference", "human_kappa", "machine_rater_kappa")
            cells = [_number(g[k]) if g[k] is not None else "-" for k in (*keys, "degradation")]
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


def subgroup_table(subgroups: dict[str, dict[str, dict]]) -> list[list[str]]:
    """Standardized differences, one line a group."""
    table = [["group", "essays", "difference (SD)", "95% interval", "flagged"]]
    for column, groups in subgroups.items():
        for group, row in groups.items():
            span = " to ".join(f"{v:+.2f}" for v in row["interval"])
            flagged = "yes" if row["flagged"] else "no"
            table.append([f"{column}: {group}", str(row["n"]), f"{row['difference']:+.2f}", span, flagged])
    return table


def folds_table(study: dict[str, Any], ours: str, metric: str = "quadratic_weighted_kappa") -> list[list[str]]:
    """Folds of a cross-validation, or prompts that were left out: the metric of each, the mean, and that of the others.

    Args:
        study: See `model_selection.cross_validate`.
        ours: What the trained system is called.
    """
    folds = study["folds"]
    table = [["", *folds, "mean", "sd"]]
    own = [*(f[metric] for f in folds.values()), study["mean"][metric], study["sd"][metric]]
    table.append([ours, *map(_number, own)])
    for name, row in {**study["ablation"], **study["baselines"]}.items():
        table.append([name, *["" for _ in folds], _number(row[metric]), ""])
    return table


def graded_table(curve: list[dict[str, Any]]) -> list[list[str]]:
    """The metric against the number of graded essays, see `model_selection.learning_curve`; one column a system."""
    names = list(curve[0]["systems"])
    table = [["essays a prompt", *names]]
    for point in curve:
        values = [point["systems"][name] for name in names]
        table.append([str(point["rows"]), *["{:.3f} ({:.3f} to {:.3f})".format(v["mean"], *v["interval"]) for v in values]])
    return table


def _number(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}"  # + 0.0 turns -0.0 into 0.0


SHORT = {
    "quadratic_weighted_kappa": "QWK",
    "exact_agreement": "exact",
    "adjacent_agreement": "adjacent",
    "root_mean_squared_error": "RMSE",
}


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


def _table(table: list[list[str]] | Any) -> str:
    return as_markdown(table) if table else ""


def verdict(results: dict[str, Any], metric: str = "quadratic_weighted_kappa") -> str:
    """Whether it was worth training: it beside the best baseline that is no human, in a sentence."""
    machines = {n: r[metric] for n, r in results["baselines"].items() if not n.startswith("human")}
    best = max(machines, key=machines.get)
    gap = results["test"][metric] - machines[best]
    ours, (low, high) = results["system"], results["kappa_intervals"][best]["behind"]
    span = f"95% interval of the difference: {low:+.3f} to {high:+.3f}"
    if gap <= 0:
        return f"The {ours} does not beat the best baseline: {best} is {-gap:.3f} {SHORT[metric]} better or equal ({span})."
    sure = "" if low > 0 else "; it may be chance"
    return f"The {ours} is {gap:.3f} {SHORT[metric]} above the best baseline, {best} ({span}{sure})."


def command(script: str, options: dict) -> str:
    """The command that gives this run again; files by their names, without the folders of this machine."""
    words = [f"python {script}"]
    for name, value in options.items():
        values = value if isinstance(value, list) else [value]
        values = [Path(v).name if name.endswith(("_file", "_dir")) else str(v) for v in values]
        words.append(f"--{name} {' '.join(shlex.quote(v) for v in values)}")
    return " \\\n  ".join(words)


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


def draw_agreement(path: Path, results: dict[str, Any], metric: str = "quadratic_weighted_kappa") -> None:
    """Bars of the metric by prompt: baselines, model, humans."""
    plt = _pyplot()
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
    ax.set_xticks(range(len(prompts)), [str(p)[:14] for p in prompts])
    ax.set_xlabel("prompt")
    ax.set_ylabel("quadratic weighted kappa")
    ax.set_ylim(min(0, *ax.get_ylim()), 1)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.24), ncol=3, fontsize=8, frameon=False)
    _save(fig, path)


def draw_confusion(path: Path, scores, human, prompt_ids: Sequence[str], ranges: dict, step: float) -> None:
    """How often each human score got each model score, a panel a prompt; rows sum to 1."""
    import numpy as np

    plt = _pyplot()
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
        ax.set_title(f"prompt {prompt}"[:24], fontsize=9)
        ax.set_xlabel("model", fontsize=8)
        ax.set_ylabel("human", fontsize=8)
    _save(fig, path)


def draw_automation(path: Path, curve: list[dict[str, float]], level: float, people: float | None) -> None:
    """Agreement and coverage against the share of essays that is scored automatically.

    Args:
        path: Where to.
        curve: See `essay_evaluation.automation_curve`.
        level: The coverage that intervals promise.
        people: Mean kappa of two humans, None where unknown.
    """
    plt = _pyplot()
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
    _save(fig, path)


def draw_graded_essays(path: Path, curve: list[dict[str, Any]], ours: str, people: float | None) -> None:
    """The test metric against the number of graded essays of each prompt, with 95% bands.

    Args:
        path: Where to.
        curve: See `model_selection.learning_curve`.
        ours: What the trained system is called.
        people: Mean kappa of two humans, None where unknown.
    """
    plt = _pyplot()
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
    _save(fig, path)


def draw_learning_curve(path: Path, log_history: list[dict], best_step: int | None) -> None:
    """Training and validation loss, and the validation metric, by epoch; the kept checkpoint is marked."""
    plt = _pyplot()
    train = [(r["epoch"], r["loss"]) for r in log_history if "loss" in r]
    valid = [(r["epoch"], r["eval_loss"]) for r in log_history if "eval_loss" in r]
    kappa = [(r["epoch"], r["eval_quadratic_weighted_kappa"]) for r in log_history if "eval_quadratic_weighted_kappa" in r]
    fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for ax in (left, right):
        ax.xaxis.get_major_locator().set_params(integer=True)
    if train:
        left.plot(*zip(*train, strict=True), color=BASELINE_COLORS[1], marker=".", label="training")
    if valid:
        left.plot(*zip(*valid, strict=True), color=MODEL_COLOR, marker="o", ms=3, label="validation")
    left.set(xlabel="epoch", ylabel="loss", yscale="log")
    left.legend(frameon=False, fontsize=8)
    if kappa:
        right.plot(*zip(*kappa, strict=True), color=MODEL_COLOR, marker="o", ms=3)
    for row in log_history:
        if row.get("step") == best_step and "eval_quadratic_weighted_kappa" in row:
            right.plot(row["epoch"], row["eval_quadratic_weighted_kappa"], "o", ms=9, mfc="none", color=HUMAN_COLOR, label="kept")
            right.legend(frameon=False, fontsize=8)
    right.set(xlabel="epoch", ylabel="validation QWK")
    _save(fig, path)


def _mean_over_scores(result: dict, prompt: str, metric: str) -> float:
    values = [v[metric] for v in result["prompts"].get(prompt, {}).values()]
    return sum(values) / len(values) if values else 0.0


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    logging.getLogger("matplotlib").setLevel(logging.WARNING)
    import matplotlib.pyplot as plt

    return plt


def _save(fig, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for ax in fig.axes:
        ax.spines[["top", "right"]].set_visible(False)
    fig.savefig(path, dpi=130, bbox_inches="tight")
    _pyplot().close(fig)


# ---- card -----------------------------------------------------------------------------------------------------------


def write_card(folder: str | Path, facts: dict[str, Any]) -> None:
    """README.md of a model: every metric in the model-index, results beside baselines, how to load, limits.

    Args:
        folder: The model's folder.
        facts: What card.md fills in: name, task, pipeline_tag, base_model, license, dataset_name, dataset_license,
            results (see `results_table`), protocol, options, cost, adapter (bool), score_names, prompts.
    """
    results = facts["results"]
    metrics = {k: v for k, v in results["test"].items() if isinstance(v, float)}
    dataset = {"dataset_type": facts["dataset_type"], "dataset_name": facts["dataset_name"], "dataset_split": "test"}
    evaluation = [
        EvalResult(facts["pipeline_tag"], metric_type=name, metric_value=round(value, 4), metric_name=name, **dataset)
        for name, value in metrics.items()
    ]
    for prompt, scores in results["test"]["prompts"].items():
        for score, values in scores.items():
            name = f"quadratic_weighted_kappa, prompt {prompt}" + (f", {score}" if len(scores) > 1 else "")
            value = round(values["quadratic_weighted_kappa"], 4)
            evaluation.append(
                EvalResult(
                    facts["pipeline_tag"], metric_type="quadratic_weighted_kappa", metric_value=value, metric_name=name, **dataset
                )
            )
    data = ModelCardData(
        model_name=facts["name"],
        base_model=facts["base_model"] if "/" in facts["base_model"] else None,
        license=facts["license"] or "other",
        library_name="peft" if facts["adapter"] else "transformers",
        pipeline_tag=facts["pipeline_tag"],
        tags=["edu-recipes", facts["task"], "education"],
        eval_results=evaluation,
    )
    card = ModelCard.from_template(
        data,
        template_path=str(Path(__file__).parent / "card.md"),
        table=as_markdown(results_table(results)),
        gate=as_markdown(gate_table(results["gate"])),
        gaming_table=_table(results.get("gaming") and gaming_table(results["gaming"])),
        subgroup_table=_table(any(results["subgroups"].values()) and subgroup_table(results["subgroups"])),
        cross_prompt_table=_table(facts["cross_prompt"] and folds_table(facts["cross_prompt"], results["system"])),
        graded_table=_table(facts["learning_curve"] and graded_table(facts["learning_curve"])),
        **{k: results.get(k, {}) for k in ("coverage", "sent_to_human", "gaming")},
        fused=results["system"] == "hybrid",
        verdict=verdict(results),
        versions=", ".join(f"{p} {importlib.metadata.version(p)}" for p in PACKAGES),
        **{k: v for k, v in facts.items() if k not in ("license", "base_model")},
        base=facts["base_model"],
    )
    (Path(folder) / "README.md").write_text(str(card), encoding="utf-8")
