"""Draw what every recipe reached on public data, beside its best baseline and people: the figure of README.

    python recipes/benchmarks/overview.py

Reads the metrics.json of the runs in recipes/RESULTS.md (`recipes/results/`); folds and seeds are averaged. Writes
recipes/results/overview.png, and prints the table.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from trainers import report

RESULTS = Path(__file__).parents[1] / "results"
RUNS = (
    ("essay scoring", "ASAP, five folds", "essay_scoring/asap_fold_*.json", "quadratic_weighted_kappa", 1),
    ("outcome prediction", "OULAD, day 30", "outcome_prediction/oulad_day_30.json", "roc_auc", 1),
    ("knowledge tracing", "ASSISTments 2015", "knowledge_tracing/assist2015_seed_*.json", "roc_auc", 1),
    ("question answering", "FairytaleQA", "question_answering/fairytaleqa_minilm_seed_42.json", "rouge_l", 1),
    ("content generation", "FairytaleQA", "content_generation/fairytaleqa_smollm2_seed_42.json", "rouge_l", 1),
    ("learning path", "KSS", "learning_path/knowledge_space.json", "ep", 1),
    ("resource recommendation", "LectureBank, five folds", "resource_recommendation/lecturebank_fold_*.json", "ndcg_at_10", 1),
    ("tutoring", "CIMA and Bridge", "qa_tutoring/cima_bridge_smollm2_seed_42.json", "bleu", 100),
)  # fmt: skip
"""Recipe, data, files, metric, and what the metric is at best."""
PEOPLE = ("human", "human-human")


def measured(files: str, metric: str, most: float) -> tuple[float, str, float, float | None]:
    """The recipe's metric, the best baseline and its metric, and that of people where there is one; 0 to 1, means of files."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob(files))]
    baselines = {
        name: float(np.mean([run["baselines"][name][metric] for run in runs])) / most
        for name, row in runs[0]["baselines"].items() if metric in row
    }  # fmt: skip
    people = next((baselines.pop(name) for name in PEOPLE if name in baselines), None)
    cheap = {name: value for name, value in baselines.items() if not name.startswith("privileged")}
    best = max(cheap, key=cheap.get)
    return float(np.mean([run["test"][metric] for run in runs])) / most, best, cheap[best], people


def draw(path: Path, rows: list[tuple]) -> None:
    """A line a recipe: from the best baseline to the recipe."""
    figure, axes = report.pyplot().subplots(figsize=(7.2, 3.9), layout="constrained")
    for y, (recipe, data, metric, ours, _, baseline, people) in enumerate(rows[::-1]):
        axes.plot([baseline, ours], [y, y], color=report.BASELINE_COLORS[0], linewidth=3, zorder=1)
        points = [(baseline, report.BASELINE_COLORS[3], "best baseline"), (ours, report.MODEL_COLOR, "recipe")]
        points += [(people, report.HUMAN_COLOR, "people")] if people is not None else []
        for x, color, label in points:
            axes.scatter(x, y, color=color, s=42, zorder=2, label=label if y == 0 or label == "people" else None)
        axes.text(-0.02, y, f"{recipe}\n", ha="right", va="center", fontsize=9)
        axes.text(-0.02, y, f"\n{data}, {report.SHORT.get(metric, metric)}", ha="right", va="center", fontsize=7, color="#666666")
    axes.set(xlim=(0, 1), yticks=[], xlabel="the metric of each task (BLEU of 100); more is better")
    handles = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    axes.legend(handles.values(), handles.keys(), frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, 1.12))
    report.save_figure(figure, path)


def main(argv: list[str] | None = None) -> list[tuple]:
    """Write the figure. Returns (recipe, data, metric, recipe's, best baseline, its, people's) of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", default=RESULTS / "overview.png", type=Path, help="where the figure is written")
    args = parser.parse_args(argv)
    rows = [(recipe, data, metric, *measured(files, metric, most)) for recipe, data, files, metric, most in RUNS]
    draw(args.figure, rows)
    table = [["", "data", "metric", "recipe", "best baseline", "", "people"]]
    table += [[r, d, report.SHORT.get(m, m), f"{o:.3f}", f"{b:.3f}", n, f"{p:.3f}" if p else ""] for r, d, m, o, n, b, p in rows]
    print(report.as_markdown(table))
    return rows


if __name__ == "__main__":
    main()
