"""The mean over the folds of a data set, or over seeds: one table of several runs' metrics.json.

    for k in 0 1 2 3 4; do
      accelerate launch recipes/essay_scoring.py --config recipes/configs/essay_scoring/asap_minilm.yaml --fold $k \\
        --output_dir runs/asap_minilm/fold_$k
    done
    python recipes/benchmarks/mean_of_folds.py --metrics_files runs/asap_minilm/fold_*/metrics.json

The test splits of the folds must not overlap. The interval of a difference comes from the bootstrap of each fold: the
variance of a mean of independent folds is the mean of their variances, divided by their number. With --seeds the runs share one
test split, and so does the interval: it is the mean of theirs.
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trainers import report
from trainers.parser import ConfigurationError, RecipeParser, run

METRIC = "quadratic_weighted_kappa"


@dataclass
class FoldsArguments:
    """Which runs."""

    _argument_group_name = "folds"

    metrics_files: list[str] = field(metadata={"help": "metrics.json of each fold"})
    seeds: bool = field(default=False, metadata={"help": "the runs differ in their seed alone"})
    output_file: str | None = field(default=None, metadata={"help": "write the means as json, too"})


def main(argv: list[str] | None = None) -> dict:
    """Print the table. Returns {system: {"prompts": {prompt: mean}, "mean": ..., "folds": [...], "behind": [lower, upper]}}."""
    (args,) = RecipeParser((FoldsArguments,), description=__doc__).parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folds = [read_metrics(path) for path in args.metrics_files]
    if "prompts" not in folds[0]["test"]:
        means = {name: mean_metrics(folds, name, args.seeds) for name in folds[0]["systems"]}
        print(f"{len(folds)} {'seeds' if args.seeds else 'folds'}\n\n{report.as_markdown(metrics_table(means, folds[0]))}\n")
        for table in (alert_table(folds), pair_table(folds)):
            if len(table) > 1 and not args.seeds:
                print(report.as_markdown(table))
        if args.output_file:
            report.write_json(args.output_file, means)
        return means
    systems = {name: average([f["systems"][name] for f in folds]) for name in folds[0]["systems"]}
    for name, row in systems.items():
        spans = [f["intervals"][name]["behind"] for f in folds if "behind" in f["intervals"].get(name, {})]
        if len(spans) == len(folds):
            row["behind"] = interval(systems[folds[0]["system"]]["mean"] - row["mean"], spans)
    prompts = list(systems[folds[0]["system"]]["prompts"])
    table = [["", "mean QWK", *prompts, "by Fisher's z", f"{folds[0]['system']} minus it, 95%"]]
    for name, row in systems.items():
        span = "{:+.3f} to {:+.3f}".format(*row["behind"]) if "behind" in row else "-"
        cells = [row["mean"], *row["prompts"].values(), row["fisher"]]
        table.append([name, *(f"{round(value, 3) + 0.0:.3f}" for value in cells), span])
    print(f"{len(folds)} folds\n\n{report.as_markdown(table)}\n")
    tables = (fold_table(folds), prompt_table(folds), gaming_table(folds))
    print("\n\n".join(report.as_markdown(t) for t in tables if len(t) > 1))
    if args.output_file:
        report.write_json(args.output_file, systems)
    return systems


def interval(gap: float, spans: list[list[float]]) -> list[float]:
    """95% interval of a mean difference of independent folds, from the interval of each."""
    reach = 1.96 * np.sqrt(sum(((high - low) / 3.92) ** 2 for low, high in spans)) / len(spans)
    return [float(gap - reach), float(gap + reach)]


def mean_metrics(folds: list[dict], name: str, seeds: bool) -> dict:
    """Of one system: mean and standard deviation (n - 1) of each metric, and how far ours lies above it in the first."""
    rows = [fold["systems"][name] for fold in folds]
    shared = [m for m, v in rows[0].items() if isinstance(v, float) and all(m in row for row in rows)]
    means = {m: float(np.mean([row[m] for row in rows])) for m in shared}
    found: dict = {"mean": means, "sd": {m: float(np.std([row[m] for row in rows], ddof=len(rows) > 1)) for m in shared}}
    spans = [fold["intervals"][name]["behind"] for fold in folds if "behind" in fold["intervals"].get(name, {})]
    if len(spans) == len(folds):
        metric = leading_metric(folds[0])
        gap = np.mean([fold["test"][metric] for fold in folds]) - means[metric]
        found["behind"] = np.mean(spans, axis=0).tolist() if seeds else interval(float(gap), spans)
    return found


def leading_metric(metrics: dict) -> str:
    """The metric whose intervals a run has."""
    found = (m for m in ("roc_auc", "ndcg_at_10", "ep", "root_mean_squared_error") if m in metrics["test"])
    return metrics.get("metric") or next(found)


def metrics_table(means: dict[str, dict], first: dict) -> list[list[str]]:
    """One line a system: each metric as mean and standard deviation, and ours minus it."""
    metrics = list(means[first["system"]]["mean"])
    table = [["", *(report.SHORT.get(m, m.replace("_", " ")) for m in metrics), f"{first['system']} minus it, 95%"]]
    for name, row in means.items():
        cells = [f"{row['mean'][m]:.3f} ({row['sd'][m]:.3f})" if m in row["mean"] else "-" for m in metrics]
        table.append([name, *cells, "{:+.3f} to {:+.3f}".format(*row["behind"]) if "behind" in row else "-"])
    return table


def alert_table(folds: list[dict]) -> list[list[str]]:
    """How groups fare under the alert: mean rates, and the mean gap to all others with its interval; groups of every fold."""
    table = [["group", "FPR", "FPR gap, 95%", "FNR", "FNR gap, 95%"]]
    for column, groups in folds[0].get("subgroups", {}).items():
        for group in groups:
            rows = [fold["subgroups"][column].get(group, {}) for fold in folds]
            if not all("false_positive_gap" in row for row in rows):
                continue
            cells = [f"{column}: {group}"]
            for kind in ("positive", "negative"):
                gap = float(np.mean([row[f"false_{kind}_gap"] for row in rows]))
                span = "{:+.3f} to {:+.3f}".format(*interval(gap, [row[f"false_{kind}_gap_interval"] for row in rows]))
                cells += [_mean([row[f"false_{kind}_rate"] for row in rows]), f"{gap:+.3f} ({span})"]
            table.append(cells)
    return table


def pair_table(folds: list[dict]) -> list[list[str]]:
    """Pairs of concepts by what training tells of them, one line a system: AUC and direction, means over the folds with such."""
    slices = [fold.get("slices", {}) for fold in folds]
    parts = {part: [s[part] for s in slices if part in s] for part in dict.fromkeys(p for s in slices for p in s)}
    parts = {part: rows for part, rows in parts.items() if "pairs" in rows[0]}
    table = [["AUC / direction", *(f"{part} ({sum(row['pairs'] for row in rows)})" for part, rows in parts.items())]]
    for name in folds[0]["systems"] if parts else ():
        means = [[np.mean([row[name][m] for row in rows]) for m in ("roc_auc", "direction")] for rows in parts.values()]
        table.append([name, *(f"{auc:.3f} / {direction:.3f}" for auc, direction in means)])
    return table


def read_metrics(path: str) -> dict:
    """A run's metrics.json, with the rows of its table as "systems"."""
    try:
        metrics = json.loads(Path(path).read_text(encoding="utf-8"))
        return metrics | {"systems": report.systems(metrics)}
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"{path} is no metrics.json of a recipe: {error}.") from error


def average(rows: list[dict]) -> dict:
    """Means over folds of the metric, by prompt and of all prompts."""
    prompts = {
        p: float(np.mean([np.mean([s[METRIC] for s in row["prompts"][p].values()]) for row in rows])) for p in rows[0]["prompts"]
    }
    return {
        "mean": float(np.mean([row[METRIC] for row in rows])),
        "fisher": float(np.mean([row[f"{METRIC}_fisher"] for row in rows])),
        "prompts": prompts,
        "folds": [row[METRIC] for row in rows],
    }


def fold_table(folds: list[dict]) -> list[list[str]]:
    """What a school looks at, one line a fold: agreement, coverage, the worst prompt, time."""
    table = [["fold", "QWK", "coverage", "largest SMD", "largest degradation", "minutes of training"]]
    for k, metrics in enumerate(folds):
        gates = [g for scores in metrics["gate"].values() for g in scores.values()]
        smd = max(abs(g["standardized_mean_difference"]) for g in gates)
        degradation = max((g["degradation"] for g in gates if g["degradation"] is not None), default=float("nan"))
        values = (metrics["test"][METRIC], metrics["coverage"]["all"]["coverage"], smd, degradation)
        whole = "train_examples_per_second" in metrics["cost"]  # a resumed run has seen only a part of its time
        table.append([str(k), *(f"{v:.3f}" for v in values), f"{metrics['cost']['train_seconds'] / 60:.0f}" if whole else "-"])
    return table


def prompt_table(folds: list[dict]) -> list[list[str]]:
    """The gate and the intervals, one line a prompt and score: the mean over folds, and the worst fold in brackets."""
    table = [["prompt", "coverage", "width", "r", "SMD", "human-human", "machine-human", "degradation"]]
    for prompt, scores in folds[0]["gate"].items():
        for name in scores:
            gates = [f["gate"][prompt][name] for f in folds]
            spans = [f["coverage"][prompt] for f in folds]
            row = [prompt + (f", {name}" if len(scores) > 1 else "")]
            row += [_mean([s[k] for s in spans]) for k in ("coverage", "width")] + [_mean([g["pearsonr"] for g in gates])]
            row += [_with_worst([g["standardized_mean_difference"] for g in gates], by=abs)]
            row += [_mean([g[k] for g in gates]) for k in ("human_kappa", "machine_rater_kappa")]
            table.append([*row, _with_worst([g["degradation"] for g in gates], by=float)])
    return table


def gaming_table(folds: list[dict]) -> list[list[str]]:
    """The gaming suite over all folds: essays together, means weighed by essays."""
    table = [["attack", "essays", "shift (SD)", "to a human", "bar", "folds passed"]]
    for attack, first in folds[0].get("gaming", {}).items():
        rows = [f["gaming"][attack] for f in folds]
        essays = [r["essays"] for r in rows]
        shift, share = (float(np.average([r[k] for r in rows], weights=essays)) for k in ("shift", "sent_to_human"))
        passed = f"{sum(r['passed'] for r in rows)} of {len(rows)}" if first["bar"] else "-"
        table.append([attack, str(sum(essays)), f"{shift:+.3f}", f"{share:.0%}", first["bar"] or "-", passed])
    return table


def _mean(values: list[float | None]) -> str:
    known = [v for v in values if v is not None]
    return f"{np.mean(known):.3f}" if known else "-"


def _with_worst(values: list[float | None], by: Callable[[float], float]) -> str:
    known = [v for v in values if v is not None]
    return f"{np.mean(known):+.3f} ({max(known, key=by):+.3f})" if known else "-"


if __name__ == "__main__":
    run(main)
