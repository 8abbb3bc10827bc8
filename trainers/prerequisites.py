"""Which concept comes before which: the Trainer of the prerequisite model, its counts, metrics and baselines."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from peft import PeftModel
from scipy.sparse import csr_matrix
from sklearn.metrics import roc_auc_score
from torch import nn
from transformers import AutoConfig, AutoModel, EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase

from . import path_report
from .arguments import ModelArguments, RecipeTrainingArguments
from .base import EduTrainer
from .baselines.learning_path import fit_pairs, pair_scores, prerequisite_baselines
from .checkpoints import Checkpoint, load_encoder
from .intervals import bootstrap_counts, interval_of
from .metrics.probabilities import auc_draws
from .model_selection import changed
from .models.prerequisite_encoder import PrerequisiteEncoder, PrerequisiteEncoderConfig
from .parser import ConfigurationError
from .path_settings import PathSettings
from .report import write_json
from .resuming import checkpoint_to_resume

logger = logging.getLogger(__name__)

CONCEPT_COUNTS = ("prerequisite_of", "needs", "unknown")
PAIR_COUNTS = ("ways_of_two", "common_followers", "common_prerequisites")
PREREQUISITE_FOLDER = "prerequisite_model"
"""Where the model lies in a run that trains a policy too."""
UNKNOWN_SHARE = 0.25
"""Of the concepts in training pairs, the share whose counts are hidden, so that the model also learns to judge by texts alone."""
BOOTSTRAP_DRAWS = 1000
LEAST_SPREAD = 1e-6  # standard deviation of a feature that is read
OURS, TEXT_ALONE = "prerequisite model", "prerequisite model, text alone"
ALL_FEATURES = "untuned encoder, degree and paths"

AutoConfig.register(PrerequisiteEncoderConfig.model_type, PrerequisiteEncoderConfig, exist_ok=True)
AutoModel.register(PrerequisiteEncoderConfig, PrerequisiteEncoder, exist_ok=True)


def new_prerequisite_encoder(checkpoint: Checkpoint, args: ModelArguments, **options: Any) -> PrerequisiteEncoder:
    """The checkpoint's encoder with a new readout.

    Args:
        checkpoint: A text encoder.
        args: How it is built.
        options: See `PrerequisiteEncoderConfig`.
    """
    encoder = load_encoder(checkpoint, args)
    counts = {"concept_counts": len(CONCEPT_COUNTS), "pair_counts": 2 * len(PAIR_COUNTS)}
    PrerequisiteEncoderConfig.register_for_auto_class()
    PrerequisiteEncoder.register_for_auto_class("AutoModel")  # the file goes with the weights, for a stranger
    model = PrerequisiteEncoder(PrerequisiteEncoderConfig(encoder.config.to_dict(), **counts, **options))
    model.encoder = encoder
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = None  # as in PrerequisiteEncoder, which reads the mean over the tokens
    return model


# ---- what the graph of known prerequisites tells --------------------------------------------------------------------


class KnownPrerequisites:
    """Counts over a graph of prerequisites, for pairs of concepts; what a pair itself adds is taken out.

    A pair that training holds would otherwise be told by its own edge. A concept that nothing is known of has counts of 0, and
    says so.

    Args:
        n_concepts: Number of concepts.
        edges: Pairs (before, after) of concept numbers.
    """

    def __init__(self, n_concepts: int, edges: Sequence[Sequence[int]]):
        before, after = np.asarray(edges, dtype=np.int64).reshape(-1, 2).T
        self.n_concepts = n_concepts
        self.matrix = csr_matrix((np.ones(len(before)), (before, after)), shape=(n_concepts, n_concepts))
        self.matrix.data[:] = 1
        self.out, self.into = (np.asarray(self.matrix.sum(axis)).ravel() for axis in (1, 0))
        self.twice = (self.matrix @ self.matrix).toarray()
        self.followers = (self.matrix @ self.matrix.T).toarray()
        self.needed = (self.matrix.T @ self.matrix).toarray()

    def counts(self, pairs: np.ndarray, hidden: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Counts of pairs.

        Args:
            pairs: Int array (pairs, 2); -1 is a concept outside the graph.
            hidden: Bool array (pairs, 2), of which concepts nothing is to be told, as if they were new.

        Returns:
            Float32 arrays (pairs, 2, `CONCEPT_COUNTS`) and (pairs, 2, `PAIR_COUNTS`), log(1 + count) but for `unknown`, 0 or 1.
        """
        a, b = np.asarray(pairs, dtype=np.int64).reshape(-1, 2).T
        inside = (a >= 0) & (b >= 0)
        there, back = (np.asarray(self.matrix[x, y]).ravel() * inside for x, y in ((a, b), (b, a)))
        # a pair's own edge, either way round, is no evidence for it
        out = np.stack([self.out[a] - there, self.out[b] - back], axis=1)
        into = np.stack([self.into[a] - back, self.into[b] - there], axis=1)
        known = (np.stack([a, b], axis=1) >= 0) & (out + into > 0)
        concept = np.stack([np.log1p(out), np.log1p(into), np.zeros_like(out)], axis=2) * known[..., None]
        concept[..., 2] = ~known
        pair = np.stack(
            [np.stack([table[x, y] for table in (self.twice, self.followers, self.needed)], axis=1) for x, y in ((a, b), (b, a))],
            axis=1,
        )
        pair = np.log1p(pair) * inside[:, None, None]
        if hidden is not None:
            concept[hidden], pair[hidden.any(1)] = (0.0, 0.0, 1.0), 0.0
        return concept.astype(np.float32), pair.astype(np.float32)


@dataclass
class PairCollator:
    """Pairs to a batch; each concept is read once."""

    tokenizer: PreTrainedTokenizerBase
    texts: Sequence[str]
    max_length: int

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        """input_ids, attention_mask, pairs, concept_counts, pair_counts, and labels where the rows have them."""
        pairs = np.array([row["pair"] for row in rows], np.int64)
        names, index = np.unique(pairs, return_inverse=True)
        read = self.tokenizer(
            [self.texts[i] for i in names], truncation=True, max_length=self.max_length, padding=True, return_tensors="pt"
        )
        batch = {name: read[name] for name in ("input_ids", "attention_mask")}
        batch["pairs"] = torch.from_numpy(index.reshape(-1, 2).astype(np.int64))
        for name, width in (("concept_counts", len(CONCEPT_COUNTS)), ("pair_counts", len(PAIR_COUNTS))):
            values = np.array([row[name] for row in rows], np.float32).reshape(-1, 2, width)
            batch[name] = torch.from_numpy(values)
        if "label" in rows[0]:
            batch["labels"] = torch.tensor([int(row["label"]) for row in rows])
        return batch


# ---- the Trainer ----------------------------------------------------------------------------------------------------


class PrerequisiteTrainer(EduTrainer):
    """Trains the prerequisite model with cross-entropy both ways round: a prerequisite, turned round, is none.

    Args:
        settings: Concepts and their texts; gets what the model needs beside its weights.
        splits: train, validation (chooses the checkpoint) and test with the columns of `edu_datasets.schema.PREREQUISITES`.
        checkpoint: What the encoder comes from.
        max_length: Tokens of a text at most.
        kwargs: As for `EduTrainer`.
    """

    def __init__(
        self, *, settings: PathSettings, splits: DatasetDict, checkpoint: Checkpoint, max_length: int = 64, **kwargs
    ):  # fmt: skip
        if max_length < 3:
            raise ConfigurationError(f"--max_length is {max_length}; expected 3 or more.")
        self.settings, self.texts, self.checkpoint, self.max_length = settings, settings.texts, checkpoint, max_length
        number = {name: i for i, name in enumerate(settings.concepts)}
        self.pairs = {
            s: np.array([[number[a], number[b]] for a, b in zip(rows["before"], rows["after"], strict=True)]).reshape(-1, 2)
            for s, rows in splits.items()
        }
        self.rows = splits
        self.labels = labels = {s: np.array(rows["label"][:], np.int64) for s, rows in splits.items()}
        self.edges = self.pairs["train"][labels["train"] == 1]
        self.known = KnownPrerequisites(len(number), self.edges)
        settings.pairs = {"max_length": max_length, "edges": self.edges.tolist()}
        hidden = np.random.default_rng(kwargs["args"].seed).random((len(labels["train"]), 2)) < UNKNOWN_SHARE
        self.encoded, self.hidden, self.kept = {}, hidden, ""
        for split, pairs in self.pairs.items():
            concept, pair = self.known.counts(pairs, hidden if split == "train" else None)
            columns = {"pair": pairs.tolist(), "label": labels[split].tolist(), "length": [1] * len(pairs)}
            columns |= {
                name: v.reshape(len(pairs), -1).tolist() for name, v in (("concept_counts", concept), ("pair_counts", pair))
            }
            self.encoded[split] = Dataset.from_dict(columns)
        kwargs["args"].label_names, kwargs["args"].greater_is_better = ["labels"], True
        super().__init__(
            compute_metrics=self.validation_metrics, train_dataset=self.encoded["train"],
            eval_dataset=self.encoded["validation"],
            data_collator=PairCollator(kwargs["processing_class"], self.texts, max_length), new_modules=("classifier",), **kwargs,
        )  # fmt: skip

    def loss_terms(self, model, inputs):
        labels = inputs["labels"].float()
        outputs = model(**{k: v for k, v in inputs.items() if k != "labels"})
        target = torch.stack([labels, torch.zeros_like(labels)], dim=1)
        loss = nn.functional.binary_cross_entropy_with_logits(outputs.logits.float(), target, reduction="sum")
        return loss, self.count_items(inputs), outputs

    def count_items(self, inputs):
        return torch.tensor(2 * len(inputs["labels"]), device=inputs["labels"].device)

    @staticmethod
    def validation_metrics(prediction: EvalPrediction) -> dict[str, float]:
        """On validation; it chooses the checkpoint and is never reported."""
        return pair_metrics(prediction.predictions[:, 0], prediction.predictions[:, 1], prediction.label_ids)

    def score_beside_baselines(self) -> dict[str, Any]:
        """Score the test pairs once.

        Returns:
            "system"; "test" and "baselines": roc_auc and direction; "ablation": the model without counts; "intervals" of roc_auc,
            drawing pairs; "slices": the same metrics by what training knows of a pair, with the number of pairs; "kept": whether
            training bettered the logistic regression that it began with.
        """
        y = np.array(self.rows["test"]["label"][:], np.int64)
        systems = prerequisite_baselines(
            self._features("train"), self._features("test"), np.array(self.rows["train"]["label"][:], np.int64)
        )
        blind = self._without_counts(self.encoded["test"])
        systems[TEXT_ALONE] = tuple(self.logits(blind).astype(float).T)
        systems[OURS] = tuple(self.logits(self.encoded["test"]).astype(float).T)
        results = {name: pair_metrics(*scores, y) for name, scores in systems.items()}
        counts = bootstrap_counts(np.arange(len(y)), BOOTSTRAP_DRAWS, self.args.seed)
        if y.all():
            logger.warning("No test pair is without a relation: an AUC of 0.5 says nothing here, direction alone does.")
        known = y.any() and not y.all()
        draws = {n: auc_draws(there, y, counts) if known else np.full(len(counts), 0.5) for n, (there, _) in systems.items()}
        intervals = {name: {"interval": list(interval_of(values))} for name, values in draws.items()}
        for name, values in draws.items():
            if name != OURS:
                intervals[name]["behind"] = list(interval_of(draws[OURS] - values))
        return {
            "system": OURS, "test": results.pop(OURS), "ablation": {TEXT_ALONE: results.pop(TEXT_ALONE)}, "baselines": results,
            "intervals": intervals, "slices": self._slices(systems, y), "kept": self.kept,
        }  # fmt: skip

    def _slices(self, systems: dict[str, tuple], y: np.ndarray) -> dict[str, dict[str, Any]]:
        unseen, implied = (np.array(self.rows["test"][name][:], int) for name in ("unseen", "implied"))
        parts = {"both concepts seen": unseen == 0, "one unseen": unseen == 1, "both unseen": unseen == 2}
        parts["not implied by a chain"] = implied == 0
        return {
            part: {"pairs": int(rows.sum()), "prerequisites": int(y[rows].sum()), **{
                name: pair_metrics(there[rows], back[rows], y[rows]) for name, (there, back) in systems.items()
            }}
            for part, rows in parts.items() if 0 < y[rows].sum() < rows.sum()
        }  # fmt: skip

    def _features(self, split: str, hidden: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """What the baselines read of a pair and of the pair turned round, float (pairs, 2, width)."""
        pairs = self.pairs[split]
        (concept, pair), texts = self.known.counts(pairs, hidden), self._untuned()
        rows = len(pairs)
        degrees = np.stack([concept.reshape(rows, -1), concept[:, ::-1].reshape(rows, -1)], axis=1)
        paths = np.stack([pair.reshape(rows, -1), pair[:, ::-1].reshape(rows, -1)], axis=1)
        a, b = texts[pairs[:, 0]], texts[pairs[:, 1]]
        said = np.stack([np.concatenate([x - y, x * y], axis=1) for x, y in ((a, b), (b, a))], axis=1)
        return {
            "node degree": degrees, "degree and paths": np.concatenate([degrees, paths], axis=2), "untuned encoder": said,
            ALL_FEATURES: np.concatenate([said, degrees, paths], axis=2),
        }  # fmt: skip

    @torch.no_grad()
    def _untuned(self) -> np.ndarray:
        """Embeddings of all concepts by the encoder as it came."""
        if not hasattr(self, "_came"):
            encoder, found = load_encoder(self.checkpoint, ModelArguments()).to(self.args.device).eval(), []
            how = {"truncation": True, "max_length": self.max_length, "padding": True, "return_tensors": "pt"}
            for start in range(0, len(self.texts), 256):
                read = self.processing_class(self.texts[start : start + 256], **how).to(self.args.device)
                mask = read["attention_mask"][..., None]
                hidden = encoder(input_ids=read["input_ids"], attention_mask=read["attention_mask"])[0]
                found.append(nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).cpu().numpy())
            self._came = np.concatenate(found)
        return self._came

    def _without_counts(self, rows: Dataset) -> Dataset:
        n = len(rows)
        concept, pair = self.known.counts(np.zeros((n, 2), int), np.ones((n, 2), bool))
        kept = rows.remove_columns(["concept_counts", "pair_counts"])
        kept = kept.add_column("concept_counts", concept.reshape(n, -1).tolist())
        return kept.add_column("pair_counts", pair.reshape(n, -1).tolist())

    def begin_as_regression(self) -> float:
        """Begin with a logistic regression on the untuned encoder's texts and the counts; its AUC on validation is returned.

        Of two, one fitted on all counts and one with some hidden, as in training, the better on validation is taken: the first
        where concepts are known, the second where they are new.
        """
        y, there = self.labels["train"], self._features("validation")[ALL_FEATURES]
        fitted = [fit_pairs(self._features("train", hidden)[ALL_FEATURES], y) for hidden in (None, self.hidden)]
        aucs = [pair_metrics(*pair_scores(model, there), self.labels["validation"])["roc_auc"] for model in fitted]
        scale, regression = fitted[int(np.argmax(aucs))]
        # an encoder may have dimensions that never change: what tells pairs apart there is rounding
        weight = np.where(scale.scale_ > LEAST_SPREAD, regression.coef_[0] / scale.scale_, 0.0)
        bias = float(regression.intercept_[0] - weight @ scale.mean_)
        model = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        model.classifier.begin_with(torch.from_numpy(weight).to(self.args.device, torch.float32), bias)
        return max(aucs)

    def fit(self) -> dict[str, Any]:
        """`EduTrainer.fit` from a logistic regression on; where training did not better it on validation, it is kept."""
        started = self.begin_as_regression()
        first = {name: p.detach().clone() for name, p in self.model.named_parameters() if p.requires_grad}
        cost = super().fit()
        reached = pair_metrics(*self.logits(self.encoded["validation"]).T, self.labels["validation"])["roc_auc"]
        logger.info("AUC on validation: %.4f as a logistic regression, %.4f after training.", started, reached)
        self.kept = "the fine-tuned model" if reached > started else "the logistic regression that training began with"
        if reached <= started:
            parameters = dict(self.model.named_parameters())
            with torch.no_grad():
                for name, value in first.items():
                    parameters[name].copy_(value)
        return cost

    def fit_and_score(self, merge_adapter: bool) -> dict[str, Any]:
        """Train, score and save what is a part of a larger run; a run that is resumed does not do it twice.

        Returns:
            See `score_beside_baselines`; with "cost".
        """
        folder = Path(self.args.output_dir)
        if goes_on(self.args) and (folder / "metrics.json").is_file():
            return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        cost = self.fit()
        results = {**self.score_beside_baselines(), "cost": self.whole_cost(cost)}
        if folder.name != PREREQUISITE_FOLDER:  # no part of a larger run: `save_run` saves it
            return results
        if self.is_world_process_zero():
            self.save_model_folder(folder, "learning_path", asdict(self.settings), merge_adapter)
            write_json(folder / "metrics.json", results)
        self.accelerator.wait_for_everyone()
        self.remove_checkpoints()
        return results

    def save_run(self, results: dict[str, Any], facts: dict[str, Any], merge_adapter: bool) -> dict[str, Any]:
        """Save the model alone, where no policy was trained, and write the report; the content of metrics.json is returned.

        Args:
            results: See `fit_and_score`.
            facts: What the report says beside: options, data (`edu_datasets.PathDataset.facts`).
            merge_adapter: Save an adapter merged into its base.
        """
        output, test = Path(self.args.output_dir), self.rows["test"]
        protocol = {k: facts[k] for k in ("rows", "warnings", "circles")} | {"dataset": facts["dataset_name"]}
        protocol |= {"split": facts["split_protocol"], "seed": self.args.seed, "max_length": self.max_length}
        metrics = {**results, "protocol": protocol}
        p = 1 / (1 + np.exp(-self.logits(self.encoded["test"]).astype(float)))
        if not self.is_world_process_zero():
            return metrics
        columns = {name: test[name][:] for name in ("before", "after", "label", "unseen", "implied")}
        columns |= {"probability": p[:, 0].round(6), "turned_round": p[:, 1].round(6)}
        facts = self.save_results("learning_path", asdict(self.settings), metrics, columns, facts, merge_adapter)
        path_report.draw_pairs(output / "figures" / "prerequisites.png", results)
        path_report.write_path_card(output, {**facts, "results": results, "settings": self.settings, "protocol": protocol})
        self.remove_checkpoints_when_done()
        path_report.print_tables(results)
        print(f"\nSaved in {self.args.output_dir}")
        return metrics


def part_arguments(args: RecipeTrainingArguments, part: bool, epochs: float, learning_rate: float) -> RecipeTrainingArguments:
    """The arguments of the prerequisite model's training.

    Args:
        args: Of the run. Where its `--resume_from_checkpoint true` means the first training, it is made to say auto.
        part: Whether another training follows; then all is kept in a folder of its own.
        epochs: Of this training.
        learning_rate: Of the encoder; the readout learns ten times as fast.

    Raises:
        ConfigurationError: See `resuming.checkpoint_to_resume`.
    """
    options: dict[str, Any] = {"num_train_epochs": epochs, "learning_rate": learning_rate, "metric_for_best_model": "roc_auc"}
    options |= {"head_learning_rate": 10 * learning_rate, "early_stopping_patience": None}
    options["per_device_train_batch_size"] = max(1, 32 // args.world_size)  # 32 pairs an update on any number of processes
    if not part:
        return changed(args, **options)
    folder = Path(args.output_dir) / PREREQUISITE_FOLDER
    if goes_on(args):
        if not any(Path(args.output_dir).glob("checkpoint-*")) and any(folder.glob("*")):
            args.resume_from_checkpoint = "auto"
        options["resume_from_checkpoint"] = "auto"
    checkpoint_to_resume(args)  # told before the first training, not before the second
    return changed(args, output_dir=str(folder), push_to_hub=False, max_steps=-1, **options)


def goes_on(args: RecipeTrainingArguments) -> bool:
    """Whether the run goes on with what an earlier start of it left."""
    return str(args.resume_from_checkpoint or "false").strip().lower() not in ("false", "0")


def pair_metrics(there: np.ndarray, back: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """How well scores tell prerequisites.

    Args:
        there: Float array (pairs,), of the first being a prerequisite of the second.
        back: Float array (pairs,), of the second being one of the first.
        labels: Int array (pairs,).

    Returns:
        roc_auc: of prerequisites against the other pairs; 0.5 where there is one kind alone.
        direction: share of the prerequisites that score higher than when turned round; a tie counts half.
    """
    labels = np.asarray(labels)
    auc = float(roc_auc_score(labels, there)) if 0 < labels.sum() < len(labels) else 0.5
    gap = (there - back)[labels == 1]
    return {"roc_auc": auc, "direction": float(np.mean((gap > 0) + 0.5 * (gap == 0))) if len(gap) else 0.5}


@torch.no_grad()
def prerequisite_logits(
    model: PreTrainedModel, collate: PairCollator, known: KnownPrerequisites, pairs: np.ndarray, places: np.ndarray,
    batch_size: int = 256,
) -> np.ndarray:  # fmt: skip
    """Logits of pairs of texts, float (pairs, 2).

    Args:
        model: A trained one, in evaluation mode.
        collate: With the texts.
        known: The prerequisites it was trained on.
        pairs: Int array (pairs, 2), rows of the texts.
        places: Int array (texts,), the number of each text in `known`; -1 where it is new.
        batch_size: Pairs a step.
    """
    found = [np.zeros((0, 2))]
    for start in range(0, len(pairs), batch_size):
        part = pairs[start : start + batch_size]
        concept, pair = known.counts(places[part])
        rows = [
            dict(zip(("pair", "concept_counts", "pair_counts"), row, strict=True))
            for row in zip(part, concept, pair, strict=True)
        ]
        inputs = {k: v.to(model.device) for k, v in collate(rows).items()}
        found.append(model(**inputs).logits.float().cpu().numpy().astype(float))
    return np.concatenate(found)
