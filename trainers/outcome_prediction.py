"""Outcome prediction: the Trainer, its report, and the predictor that anyone loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from . import drift, outcome_report, report
from .adapters import find_base, load_merged
from .arguments import ModelArguments
from .artifact import load_artifact
from .base import EduTrainer
from .baselines.outcome_prediction import outcome_baselines
from .checkpoints import Checkpoint, find_checkpoint, load_classifier, load_exported, load_tokenizer, load_trained_classifier
from .explanation import GroupEffects, explain_groups
from .fairness import standardized_differences
from .metrics.probabilities import reliability
from .models.record_transformer import RecordTransformer, RecordTransformerConfig
from .outcome_evaluation import class_metrics, fit_vector_scaling, group_rates, outcome_intervals, regression_metrics
from .parser import ConfigurationError
from .record_settings import RecordCollator, RecordSettings, encode

AutoConfig.register(RecordTransformerConfig.model_type, RecordTransformerConfig, exist_ok=True)
AutoModel.register(RecordTransformerConfig, RecordTransformer, exist_ok=True)


def new_record_transformer(settings: RecordSettings, edges: list[list[float]], **options: Any) -> RecordTransformer:
    """A model with random weights for these columns.

    Args:
        settings: The columns.
        edges: See `record_settings.bin_edges`.
        options: See `RecordTransformerConfig`.
    """
    sizes = [len(values) for values in settings.category_values]
    RecordTransformerConfig.register_for_auto_class()
    RecordTransformer.register_for_auto_class("AutoModel")  # the file goes with the weights, for a stranger
    return RecordTransformer(RecordTransformerConfig(edges, sizes, num_labels=settings.num_labels(), **options))


class OutcomeTrainer(EduTrainer):
    """Trains a model of records: squared error for a value, cross-entropy for classes, weighed by class where asked.

    Args:
        settings: What the model reads; gets the fitted calibration and threshold.
        splits: train, validation (chooses the checkpoint), calibration and test, with the columns of
            `edu_datasets.schema.RECORDS` and of `record_settings.encode`.
        checkpoint: What the model was built from; None where it is new.
        alert_share: Share of learners that somebody has the time to look after, 0 to 1; sets the threshold.
        subgroup_columns: Names of the entries of the column subgroups.
        kwargs: As for `EduTrainer`.
    """

    def __init__(self, *, settings: RecordSettings, splits: DatasetDict, checkpoint: Checkpoint | None,
                 alert_share: float = 0.2, subgroup_columns: Sequence[str] = (), **kwargs):  # fmt: skip
        if not 0 < alert_share < 1:
            raise ConfigurationError(f"--alert_share is {alert_share}; expected a share between 0 and 1.")
        kwargs["args"].label_names, kwargs["args"].greater_is_better = ["labels"], False
        super().__init__(
            train_dataset=splits["train"], eval_dataset=splits["validation"],
            data_collator=RecordCollator(settings, kwargs.get("processing_class")), **kwargs,
        )  # fmt: skip
        self.settings, self.splits, self.checkpoint = settings, splits, checkpoint
        self.alert_share, self.subgroup_columns = alert_share, list(subgroup_columns)
        self._weights = torch.tensor(settings.class_weights) if settings.classes else None

    def loss_terms(self, model, inputs):
        labels = inputs["labels"]
        outputs = model(**{k: v for k, v in inputs.items() if k != "labels"})
        each = getattr(outputs, "member_logits", None)  # each member learns for itself: that is what makes their mean better
        each = (outputs.logits[None] if each is None else each).float()
        if self._weights is None:
            losses = (each[..., 0] - labels) ** 2
            return losses.sum() / len(each), torch.tensor(len(labels), device=labels.device), outputs
        weights = self._weights.to(each.device)
        losses = nn.functional.cross_entropy(each.flatten(0, 1), labels.repeat(len(each)), weights, reduction="sum")
        return losses / len(each), self.count_items(inputs), outputs

    def count_items(self, inputs):
        """Rows; with class weights their sum, so that an update is a mean whatever classes it holds."""
        labels = inputs["labels"]
        return torch.tensor(float(len(labels))) if self._weights is None else self._weights.to(labels.device)[labels].sum()

    # ---- after training -----------------------------------------------------------------------------------------------

    @property
    def ours(self) -> str:
        """What the table calls the model."""
        return {"numeric": "transformer on numbers", "text": "encoder on text"}[self.settings.encoding]

    @property
    def regression(self) -> bool:
        """Whether a value is predicted, not a class."""
        return self.settings.task == "regression"

    def score_beside_baselines(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Calibrate on the calibration rows, score test once, beside the baselines, calibrated alike.

        Returns:
            The report: "system", "test", "ablation" (none), "baselines", "intervals", "subgroups"; of classes also "reliability"
            and "alert". And of the test rows: "outcomes", probabilities (rows, classes) or values (rows,).
        """
        settings, splits = self.settings, self.splits
        target = {s: np.array(splits[s]["target"][:], float) for s in ("calibration", "test")}
        fitted = outcome_baselines(splits, settings.task, settings.num_labels(), self.args.seed)
        raw = {name: {s: predict(splits[s]) for s in target} for name, predict in fitted.items()}
        raw[self.ours] = {s: self.logits(splits[s]) for s in target}
        systems, held = {}, {}
        for name, logits in raw.items():
            if self.regression:
                systems[name] = settings.outcomes(logits["test"]) if name == self.ours else logits["test"]
                continue
            settings.temperature, settings.bias = fit_vector_scaling(logits["calibration"], target["calibration"].astype(int))
            systems[name], held[name] = (settings.outcomes(logits[s]) for s in ("test", "calibration"))
        test, y = splits["test"], target["test"]
        groups = [group or f"row {i}" for i, group in enumerate(test["group_id"])]  # an unknown learner is one alone
        result: dict[str, Any] = {"system": self.ours, "ablation": {}}
        if self.regression:
            results = {name: regression_metrics(values, y) for name, values in systems.items()}
            result["intervals"] = outcome_intervals(systems, y, groups, self.ours, self.args.seed, True)
            result["subgroups"] = {
                name: standardized_differences(systems[self.ours], y, column, [""] * len(y), groups)
                for name, column in self._subgroups(test).items()
            }
        else:
            time = np.array(test["time"][:], float)
            results = {name: class_metrics(p, y.astype(int), settings.positive, time) for name, p in systems.items()}
            positive = {name: p[:, settings.positive] for name, p in systems.items()}
            hit = (y == settings.positive).astype(int)
            settings.threshold = float(np.quantile(held[self.ours][:, settings.positive], 1 - self.alert_share))
            result["intervals"] = outcome_intervals(positive, hit, groups, self.ours, self.args.seed, False)
            result["alert"] = {
                "class": settings.classes[settings.positive], "threshold": settings.threshold,
                "share": float(np.mean(positive[self.ours] >= settings.threshold)),
            }  # fmt: skip
            result["reliability"] = {name: reliability(p, hit, 10) for name, p in positive.items() if name != "majority"}
            result["subgroups"] = {
                name: group_rates(positive[self.ours], hit, settings.threshold, column, groups, self.args.seed)
                for name, column in self._subgroups(test).items()
            }
        return {**result, "test": results.pop(self.ours), "baselines": results}, {"outcomes": systems[self.ours]}

    def _subgroups(self, rows: Dataset) -> dict[str, list[str]]:
        return {name: [row[i] for row in rows["subgroups"]] for i, name in enumerate(self.subgroup_columns)}

    def predictor(self) -> OutcomePredictor:
        """The trained predictor, as `load` will give it."""
        return OutcomePredictor(self.model.eval(), self.settings, self.processing_class)

    def check(self, summary: str, rejected: Sequence[tuple]) -> dict:
        """What `--check_data` prints: counts, rows left out, the cost of a training. Trains nothing."""
        return report.print_check(summary, rejected, {"training": self.estimate_cost()})

    def save_run(self, results: dict, predictions: dict[str, Any], facts: dict, merge_adapter: bool) -> dict[str, Any]:
        """Save the model with all it needs and write the report; the content of metrics.json is returned.

        Args:
            results: See `score_beside_baselines`.
            predictions: Likewise.
            facts: What the report says beside: options, cost, data (`RecordDataset.facts`), search and folds, encodings.
            merge_adapter: Save an adapter merged into its base.
        """
        output, settings, test = Path(self.args.output_dir), self.settings, self.splits["test"]
        protocol = {k: facts[k] for k in ("target", "task", "cutoff", "warnings", "left_out", "rows")}
        protocol |= {"dataset": facts["dataset_name"], "split": facts["split_protocol"], "seed": self.args.seed}
        protocol |= {"encoding": settings.encoding, "features": settings.number_columns + settings.category_columns}
        protocol |= {} if self.regression else {"calibration": "temperature and class biases, on rows that chose nothing"}
        studies = {k: facts[k] for k in ("search", "cross_validation", "encodings") if k in facts}
        metrics = {**results, "cost": self.whole_cost(facts["cost"]), "protocol": protocol, **studies}
        if not self.is_world_process_zero():
            return metrics
        columns = {"record_id": test["record_id"][:], **outcome_columns(settings, predictions["outcomes"])}
        y = test["target"][:]
        columns["outcome"] = y if self.regression else [settings.classes[int(v)] for v in y]
        columns["group_id"] = test["group_id"][:]
        facts = self.save_results("outcome_prediction", asdict(settings), metrics, columns, facts, merge_adapter)
        inputs = {"numbers": test["numbers"][:], "categories": test["categories"][:]}
        drift.write_reference(output, "outcome_prediction", settings, inputs, columns)
        figures = output / "figures"
        rows = test.select(range(min(100, len(test))))
        effects = self.predictor().explain(rows["numbers"][:], rows["categories"][:])
        outcome_report.draw_effects(figures / "effects.png", effects, facts["target"])
        if self.regression:
            outcome_report.draw_scatter(figures / "values.png", predictions["outcomes"], np.array(y), facts["target"])
        else:
            report.draw_calibration(figures / "calibration.png", results["reliability"])
        outcome_report.write_outcome_card(
            output, {**facts, **asdict(settings), "results": results, "additivity_error": effects.additivity_error}
        )
        self.remove_checkpoints_when_done()
        tables = outcome_report.tables(results, studies).values()
        metric = outcome_report.metric_of(results)
        print("", *(report.as_text(t) for t in tables if t), report.verdict(results, metric), sep="\n\n")
        print(f"\nSaved in {self.args.output_dir}")
        return metrics

    def publish(self) -> None:
        """`publish_run` with some of the test records."""
        rows = self.splits["test"].select(range(min(200, len(self.splits["test"]))))
        numbers = [[None if v != v else v for v in row] for row in rows["numbers"][:]]  # json knows no nan
        self.publish_run(load, "outcome_prediction", {"numbers": numbers, "categories": rows["categories"][:]})


def outcome_columns(settings: RecordSettings, outcomes: np.ndarray) -> dict[str, Sequence]:
    """The columns that predictions.csv and predict.py write.

    Returns:
        predicted (a value, or the most probable class); of classes also probability_<class> for each, and alert (true, false)
        where the probability of the positive class reaches the threshold.
    """
    if settings.task == "regression":
        return {"predicted": outcomes.round(4)}
    columns: dict[str, Sequence] = {"predicted": [settings.classes[i] for i in outcomes.argmax(axis=1)]}
    columns |= {f"probability_{name}": outcomes[:, i].round(6) for i, name in enumerate(settings.classes)}
    return columns | {"alert": np.where(outcomes[:, settings.positive] >= settings.threshold, "true", "false")}


# ---- the predictor that anyone loads --------------------------------------------------------------------------------


@dataclass
class OutcomePredictor:
    """A trained predictor: model, settings, and the tokenizer where records are read as text."""

    model: PreTrainedModel
    settings: RecordSettings
    tokenizer: PreTrainedTokenizerBase | None = None

    @torch.no_grad()
    def logits(self, numbers: Sequence, categories: Sequence, batch_size: int = 64) -> np.ndarray:
        """The model's outputs, float array (rows, num_labels), before calibration."""
        batch = encode({"numbers": list(numbers), "categories": list(categories)}, self.settings, self.tokenizer)
        rows = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
        collate, found = RecordCollator(self.settings, self.tokenizer), []
        for start in range(0, len(rows), batch_size):
            inputs = {k: v.to(self.model.device) for k, v in collate(rows[start : start + batch_size]).items()}
            found.append(self.model(**inputs).logits.float().cpu().numpy())
        return np.concatenate(found) if found else np.zeros((0, self.settings.num_labels()))

    def predict(self, numbers: Sequence, categories: Sequence) -> np.ndarray:
        """Calibrated probabilities (rows, classes), or values (rows,) of a regression.

        Args:
            numbers: A row a record, in the order of `settings.number_columns`; nan or None where missing.
            categories: Likewise of `settings.category_columns`; '' where missing.
        """
        return self.settings.outcomes(self.logits(numbers, categories))

    def predict_columns(self, numbers: Sequence, categories: Sequence) -> dict[str, Sequence]:
        """What predict.py writes; see `outcome_columns`."""
        return outcome_columns(self.settings, self.predict(numbers, categories))

    def explain(self, numbers: Sequence, categories: Sequence) -> GroupEffects:
        """What each group of features did to each prediction; see `explanation.explain_groups`.

        In units of the target, or of the log odds of the class an alert is for.
        """
        settings = self.settings

        def outcome(n, c):
            logits = self.logits(n, c)
            if settings.task == "regression":
                return settings.outcomes(logits)
            p = settings.outcomes(logits)[:, settings.positive]
            return np.log(np.clip(p, 1e-9, 1)) - np.log(np.clip(1 - p, 1e-9, 1))

        columns = settings.number_columns, settings.category_columns
        usual = settings.usual_numbers, settings.usual_categories
        return explain_groups(outcome, numbers, categories, columns, settings.feature_groups, usual)


def load(name: str | Path, revision: str = "main", trust_remote_code: bool = False) -> OutcomePredictor:
    """Load a trained predictor: a folder or a Hub id; a whole model, a merged one, or an adapter.

    Raises:
        ConfigurationError: It is no predictor of outcomes, or cannot be loaded.
    """
    checkpoint = find_checkpoint(str(name), revision)
    artifact = load_artifact(checkpoint, "outcome_prediction")
    settings = artifact.read_settings(RecordSettings)
    try:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if settings.encoding == "numeric":
            model = load_exported(checkpoint) or RecordTransformer.from_pretrained(checkpoint.path, revision=checkpoint.revision)
            return OutcomePredictor(model.float().eval().to(device), settings)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the model '{checkpoint.name}' could not be loaded: {str(error).splitlines()[0]}") from error
    tokenizer = load_tokenizer(checkpoint, trust_remote_code)
    if checkpoint.file("adapter_config.json") is None:
        model = load_trained_classifier(checkpoint, trust_remote_code)
    else:
        base, folder = find_base(checkpoint, artifact)
        args = ModelArguments(trust_remote_code=trust_remote_code)
        model = load_merged(load_classifier(base, settings.num_labels(), args, tokenizer), folder)
    return OutcomePredictor(model.float().eval().to(device), settings, tokenizer)


def probe(predictor: OutcomePredictor) -> dict[str, list]:
    """The usual record and others of nobody, on which a published model is compared with the one here."""
    usual, settings = predictor.settings.usual_numbers, predictor.settings
    numbers = [[v * factor for v in usual] for factor in (1.0, 0.5, 1.5)] + [[None] * len(usual)]
    return {"numbers": numbers, "categories": [settings.usual_categories] * 3 + [[""] * len(settings.category_columns)]}
