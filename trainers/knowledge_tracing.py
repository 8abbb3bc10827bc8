"""Knowledge tracing: the Trainer, its report, and the tracer that anyone loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from sklearn.metrics import roc_auc_score
from torch import nn
from transformers import AutoConfig, AutoModel, EvalPrediction

from . import drift, report, tracing_report
from .artifact import load_artifact
from .base import EduTrainer
from .baselines.knowledge_tracing import Steps, read_steps, tracing_baselines
from .calibration import platt
from .checkpoints import find_checkpoint, load_exported
from .intervals import bootstrap_counts, interval_of
from .mastery import fit_spread, mastery_interval
from .metrics.probabilities import auc_draws, probability_metrics, reliability
from .models.knowledge_tracing import KnowledgeTracingConfig, KnowledgeTracingModel
from .parser import ConfigurationError
from .tracing_features import HISTORY
from .tracing_settings import IGNORED, LEARNERS, TracingCollator, TracingSettings, as_batch, encode

METRICS = {"roc_auc": True, "accuracy": True, "log_loss": False, "loss": False}  # whether greater is better
STARTS = ((0, 0), (1, 4), (5, 19), (20, 99), (100, None))
"""Answers before the one that is predicted, for the table of how a tracer does with little to go by."""
BOOTSTRAP_DRAWS = 300

AutoConfig.register(KnowledgeTracingConfig.model_type, KnowledgeTracingConfig, exist_ok=True)
AutoModel.register(KnowledgeTracingConfig, KnowledgeTracingModel, exist_ok=True)


def new_tracer(settings: TracingSettings, **options: Any) -> KnowledgeTracingModel:
    """A tracer with random weights for these concepts and questions.

    Args:
        settings: What it reads.
        options: See `KnowledgeTracingConfig`.
    """
    features = options.pop("num_features", None)
    config = KnowledgeTracingConfig(
        len(settings.concepts), len(settings.questions), len(HISTORY) if features is None else features, **options
    )
    KnowledgeTracingConfig.register_for_auto_class()
    KnowledgeTracingModel.register_for_auto_class("AutoModel")  # the file goes with the weights, for a stranger
    return KnowledgeTracingModel(config)


class KnowledgeTracingTrainer(EduTrainer):
    """Trains a tracer on windows of answers, with cross-entropy over every answer that is not context.

    Args:
        settings: What the model reads; gets the fitted spread.
        splits: train, validation (chooses the checkpoint), calibration and test, with the columns of
            `edu_datasets.schema.RESPONSES`, one learner a row.
        num_proc: Processes that cut learners into windows; None for this one.
        kwargs: As for `EduTrainer`.
    """

    checkpoint = None  # nothing was pretrained

    def __init__(self, *, settings: TracingSettings, splits: DatasetDict, num_proc: int | None = None, **kwargs):
        metric = (kwargs["args"].metric_for_best_model or "loss").removeprefix("eval_")
        if metric not in METRICS:
            raise ConfigurationError(f"--metric_for_best_model is {metric!r}; expected one of {', '.join(METRICS)}.")
        kwargs["args"].greater_is_better = METRICS[metric]
        kwargs["args"].label_names = ["labels"]
        self.settings, self.splits, self.row_column, self.num_proc = settings, splits, "learner", num_proc
        self.windows = {split: self.cut(rows, split) for split, rows in splits.items()}
        super().__init__(
            compute_metrics=self.validation_metrics, train_dataset=self.windows["train"], eval_dataset=self.windows["validation"],
            data_collator=TracingCollator(settings.concepts_per_step), **kwargs,
        )  # fmt: skip

    def cut(self, learners: Dataset, name: str) -> Dataset:
        """The windows of these learners; see `tracing_settings.encode`."""
        return learners.map(
            encode, batched=True, batch_size=LEARNERS, with_indices=True, fn_kwargs={"settings": self.settings},
            remove_columns=learners.column_names, num_proc=self.num_proc, desc=f"windows of {name}",
        ).with_format("numpy")  # fmt: skip

    def loss_terms(self, model, inputs):
        labels = inputs["labels"]
        outputs = model(**{k: v for k, v in inputs.items() if k != "labels"})
        known = labels != IGNORED
        each = outputs.member_logits.float()[:, known]  # each member learns for itself: that is what makes their mean better
        targets = labels[known].float().expand_as(each)
        loss = nn.functional.binary_cross_entropy_with_logits(each, targets, reduction="sum") / len(each)
        return loss, known.sum(), outputs

    def count_items(self, inputs):
        return (inputs["labels"] != IGNORED).sum()

    def validation_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """On validation; it chooses the checkpoint and is never reported."""
        known = prediction.label_ids != IGNORED
        labels, p = prediction.label_ids[known], 1 / (1 + np.exp(-prediction.predictions[known].astype(float)))
        inside = np.clip(p, 1e-7, 1 - 1e-7)
        return {
            "roc_auc": float(roc_auc_score(labels, p)) if 0 < labels.mean() < 1 else 0.5,
            "accuracy": float(np.mean((p >= 0.5) == labels)),
            "log_loss": float(-np.mean(np.where(labels == 1, np.log(inside), np.log(1 - inside)))),
        }

    # ---- after training -----------------------------------------------------------------------------------------------

    def answer_logits(self, windows: Dataset) -> np.ndarray:
        """The logit of each answer, float array (answers,), learner by learner in order."""
        logits = self.logits(windows)
        return np.concatenate(
            [row[: len(labels)][labels != IGNORED] for row, labels in zip(logits, windows["labels"], strict=True)]
        )

    def score_beside_baselines(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Calibrate on the calibration learners, score the test learners once, beside the baselines.

        Metrics are over all answers but each learner's first, as DKT and pyKT count.

        Returns:
            The report: "system", "test", "ablation" (none), "baselines", "intervals" (AUC, drawn by learner), "history_lengths",
            "reliability". And of the test answers: "probability", "steps".
        """
        settings, concepts = self.settings, len(self.settings.concepts)
        steps = {s: read_steps(self.splits[s], concepts, settings.base_rate) for s in ("train", "calibration", "test")}
        slope, intercept = platt(self.answer_logits(self.windows["calibration"]), steps["calibration"].correct)
        self.model.rescale_logits(slope, intercept)
        # a mastery is of a concept, not of one question: how far it is off shows where the question is not told
        unnamed = self.splits["calibration"].map(lambda row: {"questions": [0] * len(row["questions"])})
        of_concepts = 1 / (1 + np.exp(-self.answer_logits(self.cut(unnamed, "concepts")).astype(float)))
        settings.spread = fit_spread(*pairs_in_succession(steps["calibration"], of_concepts))

        systems = tracing_baselines(steps["train"], steps["test"], self.args.seed)
        ours = 1 / (1 + np.exp(-self.answer_logits(self.windows["test"]).astype(float)))
        systems[self.ours] = ours
        later = steps["test"].step > 0
        results = {name: probability_metrics(p[later], steps["test"].correct[later]) for name, p in systems.items()}
        return {
            "system": self.ours,
            "test": results.pop(self.ours),
            "ablation": {},
            "baselines": results,
            "intervals": auc_intervals(systems, steps["test"], self.ours, self.args.seed),
            "history_lengths": by_history_length(systems, steps["test"]),
            "reliability": {self.ours: reliability(ours[later], steps["test"].correct[later])},
        }, {"probability": ours, "steps": steps["test"]}

    @property
    def ours(self) -> str:
        """What the table calls the tracer."""
        return {"lstm": "tracer (LSTM)", "attention": "tracer (attention)"}[self.model.config.architecture]

    def tracer(self) -> KnowledgeTracer:
        """The trained tracer, as `load` will give it."""
        return KnowledgeTracer(self.model.eval(), self.settings)

    def check(self, summary: str, rejected: Sequence[tuple]) -> dict:
        """What `--check_data` prints: counts, rows left out, the cost of a training. Trains nothing."""
        check = {"windows": {s: len(w) for s, w in self.windows.items()}, "training": self.estimate_cost()}
        return report.print_check(summary, rejected, check)

    def save_run(self, results: dict, predictions: dict[str, Any], facts: dict) -> dict[str, Any]:
        """Save the tracer with all it needs and write the report; the content of metrics.json is returned.

        Args:
            results: See `score_beside_baselines`.
            predictions: Likewise.
            facts: What the report says beside: options, cost, data (`ResponseDataset.facts`), search and folds.
        """
        output, settings, test, steps = Path(self.args.output_dir), self.settings, self.splits["test"], predictions["steps"]
        protocol = {"dataset": facts["dataset_name"], "split": facts["split_protocol"], "rows": facts["rows"]}
        protocol |= {"warnings": facts["warnings"], "seed": self.args.seed}
        protocol |= {"scored": "all answers but each learner's first", "window": settings.window, "context": settings.context}
        protocol |= {"calibration": "logistic, on learners that chose nothing; part of the weights"}
        studies = {k: facts[k] for k in ("search", "cross_validation") if k in facts}
        metrics = {**results, "cost": self.whole_cost(facts["cost"]), "protocol": protocol, **studies}
        if not self.is_world_process_zero():
            return metrics
        ids = np.array(test["learner_id"])[steps.learner]
        names = np.array(["", *settings.concepts], dtype=object)
        asked = [";".join(names[steps.concepts[i].indices]) for i in range(len(ids))]
        columns = {"learner_id": ids, "step": steps.step + 1, "concepts": asked, "correct": steps.correct}
        columns |= {"probability": predictions["probability"].round(6)}
        facts = self.save_results("knowledge_tracing", asdict(settings), metrics, columns, facts)
        inputs = {name: test[name][:] for name in ("questions", "concepts", "correct", "times")}
        drift.write_reference(output, "knowledge_tracing", settings, inputs, columns)
        mastery = self.tracer().mastery(test)
        report.write_csv(output / "mastery.csv", mastery)
        tracing_report.draw_mastery(output / "mastery.png", mastery, settings.concepts)
        report.draw_calibration(output / "figures" / "calibration.png", results["reliability"])
        tracing_report.draw_history_lengths(output / "figures" / "history_length.png", results)
        tracing_report.write_tracing_card(output, {**facts, **asdict(settings), "results": results, "config": self.model.config})
        self.remove_checkpoints_when_done()
        tables = tracing_report.tables(results, studies).values()
        print("", *(report.as_text(t) for t in tables if t), report.verdict(results, tracing_report.METRIC), sep="\n\n")
        print(f"\nSaved in {self.args.output_dir}")
        return metrics

    def publish(self) -> None:
        """`publish_run` with the test learners' answers."""
        rows = self.splits["test"].select(range(min(100, len(self.splits["test"]))))
        columns = ("questions", "concepts", "correct", "times")
        self.publish_run(load, "knowledge_tracing", {c: rows[c][:] for c in columns})


def pairs_in_succession(steps: Steps, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """For `mastery.fit_spread`: each two answers of a learner that follow each other on a concept; each answer in one pair.

    Returns:
        Answers on the concept before the first, its probability, both answers; arrays (pairs,).
    """
    rows, concepts = steps.concepts.nonzero()
    order = np.lexsort((rows, concepts, steps.learner[rows]))
    rows, concepts = rows[order], concepts[order]
    new = np.r_[True, (np.diff(concepts) != 0) | (np.diff(steps.learner[rows]) != 0)]
    seen = np.arange(len(rows)) - np.maximum.accumulate(np.where(new, np.arange(len(rows)), 0))
    first = np.flatnonzero((seen[:-1] % 2 == 0) & ~new[1:])
    return seen[first], predicted[rows[first]], steps.correct[rows[first]], steps.correct[rows[first + 1]]


def auc_intervals(systems: dict[str, np.ndarray], steps: Steps, ours: str, seed: int) -> dict[str, dict]:
    """95% interval of each system's AUC, and of ours minus it, drawing learners."""
    later = steps.step > 0
    counts = bootstrap_counts(steps.learner[later], BOOTSTRAP_DRAWS, seed)
    draws = {name: auc_draws(p[later], steps.correct[later], counts) for name, p in systems.items()}
    table = {name: {"interval": list(interval_of(values))} for name, values in draws.items()}
    for name, values in draws.items():
        if name != ours:
            table[name]["behind"] = list(interval_of(draws[ours] - values))
    return table


def by_history_length(systems: dict[str, np.ndarray], steps: Steps) -> list[dict[str, Any]]:
    """AUC by the number of answers before the one that is predicted: {"from", "to", "answers", "roc_auc": {system: value}}."""
    table = []
    for low, high in STARTS:
        rows = (steps.step >= low) & (steps.step <= (np.inf if high is None else high))
        y = steps.correct[rows]
        if 0 < y.sum() < len(y):
            values = {name: float(roc_auc_score(y, p[rows])) for name, p in systems.items()}
            table.append({"from": low, "to": high, "answers": len(y), "roc_auc": values})
    return table


# ---- the tracer that anyone loads -----------------------------------------------------------------------------------


@dataclass
class KnowledgeTracer:
    """A trained tracer: model and settings."""

    model: KnowledgeTracingModel
    settings: TracingSettings

    @torch.no_grad()
    def predict(
        self, questions: Sequence[int], concepts: Sequence[Sequence[int]], correct: Sequence[int], times: Sequence[float]
    ) -> np.ndarray:
        """The probability that each answer of one learner is correct, from the answers before it.

        Args:
            questions: Numbers from 1 as in `settings.questions`, 0 unknown.
            concepts: Of each question, numbers from 1 as in `settings.concepts`.
            correct: 0 or 1.
            times: Seconds, nan unknown.

        Returns:
            Float array (answers,), 0 to 1.
        """
        batch = {"questions": [questions], "concepts": [concepts], "correct": [correct], "times": [times]}
        windows = encode(batch, [0], self.settings)
        collate, found = TracingCollator(self.settings.concepts_per_step), []
        for row in (dict(zip(windows, values, strict=True)) for values in zip(*windows.values(), strict=True)):
            inputs = collate([row])
            labels = inputs.pop("labels")
            logits = self.model(**{k: v.to(self.model.device) for k, v in inputs.items()}).logits.cpu()
            found.append(logits[labels != IGNORED])
        return torch.cat(found).sigmoid().numpy().astype(float)

    def predict_columns(
        self, questions: Sequence, concepts: Sequence, correct: Sequence, times: Sequence
    ) -> dict[str, np.ndarray]:
        """`predict` for several learners, one after the other: {"probability": float array (all answers,)}."""
        each = [self.predict(*row) for row in zip(questions, concepts, correct, times, strict=True)]
        return {"probability": np.concatenate(each) if each else np.zeros(0)}

    @torch.no_grad()
    def mastery(self, learners: Dataset, level: float = 0.9) -> dict[str, list]:
        """What each learner can do after the last answer: a row a learner and concept.

        Args:
            learners: Columns of `edu_datasets.schema.RESPONSES`.
            level: Of the interval, see `mastery.mastery_interval`.

        Returns:
            Columns learner_id, concept, mastery (probability of a correct answer now, 0 to 1), mastery_low, mastery_high,
            answers (of the learner on the concept).
        """
        settings, columns = self.settings, {}
        numbers = list(range(1, len(settings.concepts) + 1))
        ids, values, seen = [], [], []
        for row in learners:
            inputs, history = as_batch(settings, row["questions"], row["concepts"], row["correct"], row["times"], numbers)
            inputs = {k: v.to(self.model.device) for k, v in inputs.items()}
            logits = self.model(**inputs, num_queries=len(numbers)).logits[0, -len(numbers) :]
            values.append(logits.sigmoid().cpu().numpy().astype(float))
            seen.append([sum(history.concepts[c][:2]) if c in history.concepts else 0 for c in numbers])
            ids += [row["learner_id"]] * len(numbers)
        mastery, answers = np.concatenate(values), np.concatenate(seen)
        low, high = mastery_interval(mastery, answers, settings.spread, level)
        columns |= {"learner_id": ids, "concept": settings.concepts * len(learners), "mastery": mastery.round(4).tolist()}
        columns |= {"mastery_low": low.round(4).tolist(), "mastery_high": high.round(4).tolist(), "answers": answers.tolist()}
        return columns


def load(name: str | Path, revision: str = "main", trust_remote_code: bool = False) -> KnowledgeTracer:
    """Load a trained tracer: a folder or a Hub id. No code of the folder is run.

    Raises:
        ConfigurationError: It is no tracer, or cannot be loaded.
    """
    checkpoint = find_checkpoint(str(name), revision)
    artifact = load_artifact(checkpoint, "knowledge_tracing")
    settings = artifact.read_settings(TracingSettings)
    try:
        model = load_exported(checkpoint) or KnowledgeTracingModel.from_pretrained(checkpoint.path, revision=checkpoint.revision)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the tracer '{checkpoint.name}' could not be loaded: {str(error).splitlines()[0]}") from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return KnowledgeTracer(model.float().eval().to(device), settings)


def probe(tracer: KnowledgeTracer) -> dict[str, list]:
    """Answers of nobody, on which a published model is compared with the one here."""
    concepts = [[1 + i % len(tracer.settings.concepts)] for i in range(60)]
    correct = [int(i % 3 > 0) for i in range(60)]
    return {"questions": [[0] * 60], "concepts": [concepts], "correct": [correct], "times": [[60.0 * i for i in range(60)]]}
