"""Essay scoring: template and tokens, losses, calibration, the Trainer, and the scorer that anyone loads."""

from __future__ import annotations

import logging
import string
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from torch import nn
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase

from . import report
from .adapters import is_adapter, load_merged
from .arguments import ModelArguments
from .artifact import edu_recipes_version, load_artifact
from .base import EduTrainer, best_step
from .baselines.essay_scoring import essay_baselines
from .calibration import to_scale, variance_match
from .checkpoints import Checkpoint, find_checkpoint, load_classifier, load_tokenizer, load_trained_classifier, output_layer
from .metrics.agreement import agreement
from .metrics.quadratic_weighted_kappa import quadratic_weighted_kappa
from .parser import ConfigurationError
from .precision import device_name

logger = logging.getLogger(__name__)

LOSSES = ("mse", "corn", "mse+rank")
METRICS = {
    "quadratic_weighted_kappa": True, "exact_agreement": True, "adjacent_agreement": True, "pearsonr": True,
    "standardized_mean_difference": False, "mean_absolute_error": False, "root_mean_squared_error": False, "loss": False,
}  # metric -> whether greater is better; Trainer would guess so for all but the loss  # fmt: skip
RANK_WEIGHT = 0.02  # brings the ListNet term to the size of the squared error
RANK_TEMPERATURE = 0.1  # of the softmax over scores scaled to 0..1
HEAD_TOKENS = 128  # of a long essay's beginning; the rest of max_length comes from its end


@dataclass
class EssaySettings:
    """All that turns an essay into tokens and a logit into a score; saved with the model.

    Attributes:
        input_template: What the model reads; {text}, {prompt_id} and {prompt} (the task's wording) are filled in.
        max_length: Tokens a model input has at most.
        long_essays: 'head_tail' keeps the beginning and the end of a longer essay, 'head' the beginning.
        score_names: What each output means.
        score_ranges: prompt_id -> one (lowest, highest) a score name, in rubric units.
        score_step: Distance of neighbouring scores, in rubric units.
        prompts: prompt_id -> the task's wording, for {prompt}.
        loss: 'mse'; 'corn', ordinal (Shi et al. 2021); 'mse+rank', with ListNet over the essays of a prompt in a batch
            (Cao et al. 2007), as in R2BERT (Yang et al. 2020).
        calibration: prompt_id -> one (slope, intercept) a score name, on the raw score scaled to 0..1.
        folded: Whether calibration and range stand in the head already, so that a logit is a score in rubric units.
    """

    input_template: str = "Prompt {prompt_id}: {text}"
    max_length: int = 512
    long_essays: str = "head_tail"
    score_names: list[str] = field(default_factory=lambda: ["score"])
    score_ranges: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    score_step: float = 1.0
    prompts: dict[str, str] = field(default_factory=dict)
    loss: str = "mse"
    calibration: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    folded: bool = False

    def __post_init__(self):
        try:
            fields = {name for _, name, _, _ in string.Formatter().parse(self.input_template) if name is not None}
        except ValueError as error:
            raise ConfigurationError(f"--input_template {self.input_template!r} cannot be read: {error}.") from error
        if "text" not in fields or fields - {"text", "prompt_id", "prompt"}:
            raise ConfigurationError(
                f"--input_template {self.input_template!r} must hold {{text}} and may hold {{prompt_id}} and {{prompt}}."
            )
        if self.loss not in LOSSES:
            raise ConfigurationError(f"--loss is {self.loss!r}; expected one of {', '.join(LOSSES)}.")
        if self.long_essays not in ("head_tail", "head"):
            raise ConfigurationError(f"--long_essays is {self.long_essays!r}; expected head_tail or head.")
        if self.max_length < 16:
            raise ConfigurationError(f"--max_length is {self.max_length}; expected 16 or more.")

    def for_model(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> EssaySettings:
        """A copy whose max_length the model can read."""
        positions = getattr(model.config, "max_position_embeddings", None) or self.max_length
        limit = min(self.max_length, positions, tokenizer.model_max_length)
        if limit < self.max_length:
            logger.info("the checkpoint reads %d tokens at most: max_length is %d, not %d", limit, limit, self.max_length)
        return replace(self, max_length=limit)

    @property
    def prompt_ids(self) -> list[str]:
        """The prompts in the order of `prompt_index`."""
        return list(self.score_ranges)

    def bounds(self, prompt_ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest score of each row, two float arrays (rows, scores)."""
        table = np.array([self.score_ranges[p] for p in prompt_ids], float).reshape(-1, len(self.score_names), 2)
        return table[..., 0], table[..., 1]

    def levels(self) -> np.ndarray:
        """How many different scores can be given; int64 array (prompts, scores)."""
        low, high = self.bounds(self.prompt_ids)
        return np.rint((high - low) / self.score_step).astype(np.int64) + 1

    def num_labels(self) -> int:
        """Outputs of the model: one a score, or with 'corn' one a score and threshold."""
        return len(self.score_names) * (int(self.levels().max()) - 1 if self.loss == "corn" else 1)

    def scale(self, scores: np.ndarray, prompt_ids: Sequence[str]) -> np.ndarray:
        """Rubric units to 0..1 by each prompt's range; float array (rows, scores)."""
        low, high = self.bounds(prompt_ids)
        return (np.asarray(scores, float) - low) / (high - low)

    def raw_scores(self, logits: np.ndarray, prompt_ids: Sequence[str]) -> np.ndarray:
        """The model's own scores, scaled to 0..1, before calibration.

        Args:
            logits: Float array (rows, num_labels).
            prompt_ids: The prompt of each row.

        Returns:
            Float64 array (rows, scores); with 'corn' the expected score.
        """
        logits = np.asarray(logits, np.float64)
        if self.folded:
            return self.scale(logits, prompt_ids)
        if self.loss != "corn":
            return logits
        thresholds = self.levels()[[self.prompt_ids.index(p) for p in prompt_ids]] - 1  # (rows, scores)
        steps = (1 / (1 + np.exp(-logits))).reshape(len(logits), len(self.score_names), -1)
        above = np.cumprod(steps, axis=-1)  # P(score above threshold k)
        counted = np.arange(above.shape[-1]) < thresholds[..., None]
        return (above * counted).sum(-1) / thresholds

    def calibrated(self, raw: np.ndarray, prompt_ids: Sequence[str]) -> np.ndarray:
        """Raw scores in 0..1 to rubric units with the saved calibration, not rounded; float array (rows, scores)."""
        identity = [(1.0, 0.0)] * len(self.score_names)
        line = np.array([self.calibration.get(p, identity) for p in prompt_ids], float).reshape(*np.shape(raw), 2)
        low, high = self.bounds(prompt_ids)
        return low + (high - low) * (line[..., 0] * raw + line[..., 1])

    def rounded(self, scores: np.ndarray, prompt_ids: Sequence[str]) -> np.ndarray:
        """Scores in rubric units to the nearest that can be given."""
        low, high = self.bounds(prompt_ids)
        return to_scale(scores, low, high, self.score_step)

    def fit_calibration(self, raw: np.ndarray, human: np.ndarray, prompt_ids: Sequence[str]) -> dict:
        """Variance matching for each prompt and score.

        Args:
            raw: Float array (rows, scores), scaled to 0..1; validation rows only.
            human: Float array (rows, scores) in rubric units, nan where missing.
            prompt_ids: The prompt of each row.

        Returns:
            prompt_id -> [(slope, intercept), ...], for `calibration`.
        """
        prompts, target = np.asarray(prompt_ids), self.scale(human, prompt_ids)
        return {
            p: [variance_match(raw[prompts == p, s], target[prompts == p, s]) for s in range(len(self.score_names))]
            for p in self.prompt_ids
        }


# ---- from essays to tokens ------------------------------------------------------------------------------------------


def encode(
    batch: dict[str, list], tokenizer: PreTrainedTokenizerBase, settings: EssaySettings
) -> dict[str, list]:
    """Essays to model inputs; for `Dataset.map(batched=True)`, training and prediction alike.

    Args:
        batch: Columns prompt_id, text and, where known, scores (see `edu_datasets.schema.ESSAYS`).
        tokenizer: The checkpoint's.
        settings: Template and length.

    Returns:
        input_ids; length (tokens); truncated (tokens left out, 0 for most); prompt_index; labels (scores scaled to 0..1).
    """
    texts = [
        settings.input_template.format(text=t, prompt_id=p, prompt=settings.prompts.get(p, ""))
        for t, p in zip(batch["text"], batch["prompt_id"], strict=True)
    ]
    ids = tokenizer(texts, truncation=False, verbose=False)["input_ids"]
    cut = [shorten(i, settings, tokenizer) for i in ids]
    encoded = {
        "input_ids": cut,
        "length": [len(i) for i in cut],
        "truncated": [len(i) - len(c) for i, c in zip(ids, cut, strict=True)],
        "prompt_index": [settings.prompt_ids.index(p) for p in batch["prompt_id"]],
    }
    if "scores" in batch:
        encoded["labels"] = settings.scale(np.array(batch["scores"], float), batch["prompt_id"]).tolist()
    return encoded


def shorten(ids: list[int], settings: EssaySettings, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """At most max_length tokens; a closing special token stays."""
    limit = settings.max_length
    if len(ids) <= limit:
        return ids
    tail = 1 if ids[-1] in tokenizer.all_special_ids else 0
    if settings.long_essays == "head_tail":
        tail = max(limit - HEAD_TOKENS, limit // 2)
    return ids[: limit - tail] + (ids[-tail:] if tail else [])


@dataclass
class EssayCollator:
    """Pads a batch to its longest essay, rounded up to a multiple that keeps the number of shapes small.

    Returns input_ids and attention_mask, int64 (essays, tokens); labels, float32 (essays, scores) with nan for missing;
    prompt_index, int64 (essays,).
    """

    tokenizer: PreTrainedTokenizerBase
    multiple: int = 32

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        limit = getattr(self.tokenizer, "model_max_length", 10**9)
        longest = max(len(r["input_ids"]) for r in rows)
        multiple = self.multiple if -(-longest // self.multiple) * self.multiple <= limit else None
        batch = self.tokenizer.pad(
            {"input_ids": [r["input_ids"] for r in rows]}, pad_to_multiple_of=multiple, return_tensors="pt"
        )
        inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
        if "labels" in rows[0]:
            inputs["labels"] = torch.tensor([r["labels"] for r in rows], dtype=torch.float32)
        inputs["prompt_index"] = torch.tensor([r["prompt_index"] for r in rows])
        return inputs


# ---- training -------------------------------------------------------------------------------------------------------


class EssayTrainer(EduTrainer):
    """Trains a sequence classifier on essay scores; missing scores are masked.

    Args:
        settings: Loss, ranges, levels; gets the fitted calibration.
        splits: train, validation and test with the columns of `edu_datasets.schema.ESSAYS` and of `encode`.
        checkpoint: What the model was built from.
        kwargs: As for `EduTrainer`.

    Raises:
        ConfigurationError: 'mse+rank' with gradient accumulation: essays are ranked within a batch, and an accumulated
            batch is never whole.
    """

    def __init__(self, *, settings: EssaySettings, splits: DatasetDict, checkpoint: Checkpoint, **kwargs):
        if settings.loss == "mse+rank" and kwargs["args"].gradient_accumulation_steps > 1:
            raise ConfigurationError(
                "--loss mse+rank compares the essays of a batch, which accumulation cuts: set "
                "--gradient_accumulation_steps 1 and raise --per_device_train_batch_size."
            )
        metric = (kwargs["args"].metric_for_best_model or "loss").removeprefix("eval_")
        if metric not in METRICS:
            raise ConfigurationError(f"--metric_for_best_model is {metric!r}; expected one of {', '.join(METRICS)}.")
        kwargs["args"].greater_is_better = METRICS[metric]
        kwargs["args"].label_names = ["labels", "prompt_index"]
        super().__init__(
            compute_metrics=self.validation_metrics, train_dataset=splits["train"], eval_dataset=splits["validation"], **kwargs
        )
        self.settings, self.splits, self.checkpoint = settings, splits, checkpoint
        self._levels = torch.from_numpy(settings.levels())
        if settings.loss != "corn" and (bias := output_layer(kwargs["model"]).bias) is not None:
            with torch.no_grad():  # start at the mean score, not at the lowest
                bias.copy_(torch.from_numpy(np.nanmean(np.array(splits["train"]["labels"], float), axis=0)))

    def loss_terms(self, model, inputs):
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        logits, labels = outputs.logits.float(), inputs["labels"]
        if self.settings.loss == "corn":
            targets = self._corn_targets(labels, inputs["prompt_index"])
            known = targets >= 0
            losses = nn.functional.binary_cross_entropy_with_logits(
                logits.reshape(targets.shape)[known], targets[known].float(), reduction="sum"
            )
            return losses, known.sum(), outputs
        known = ~labels.isnan()
        total, count = ((logits - labels)[known] ** 2).sum(), known.sum()
        if self.settings.loss == "mse+rank":
            total = total + self._rank_term(logits, labels, inputs["prompt_index"], model.training)
        return total, count, outputs

    def count_items(self, inputs):
        if self.settings.loss == "corn":
            return (self._corn_targets(inputs["labels"], inputs["prompt_index"]) >= 0).sum()
        return (~inputs["labels"].isnan()).sum()

    def _corn_targets(self, labels: torch.Tensor, prompt_index: torch.Tensor) -> torch.Tensor:
        """For each score and threshold k: is the score above k, given that it is above k - 1? -1 where not asked.

        Shape (essays, scores, thresholds).
        """
        steps = self._levels.to(labels.device)[prompt_index] - 1  # thresholds of the essay's prompt
        level = (labels * steps).round()[..., None]  # nan stays nan and compares false
        k = torch.arange(int(self._levels.max()) - 1, device=labels.device)
        asked = (level >= k) & (k < steps[..., None])
        return torch.where(asked, (level > k).long(), -1)

    def _rank_term(self, logits, labels, prompt_index, training: bool) -> torch.Tensor:
        """ListNet over the essays of each prompt in the batch of all processes, in units of the summed squared error."""
        processes = self.accelerator.num_processes if training else 1
        rows = torch.cat([logits, labels, prompt_index[:, None].float()], dim=1)
        if processes > 1:
            most = self.accelerator.gather(torch.tensor([len(rows)], device=rows.device)).max()
            padded = nn.functional.pad(rows.detach(), (0, 0, 0, int(most) - len(rows)), value=float("nan"))
            everyone = self.accelerator.gather(padded).view(processes, int(most), -1)
            # own rows keep their gradient; the other processes bring theirs
            parts = [p for i, p in enumerate(everyone) if i != self.accelerator.process_index]
            rows = torch.cat([rows, *parts])
            rows = rows[~rows[:, -1].isnan()]
        scores, targets, prompts = rows[:, : logits.shape[1]], rows[:, logits.shape[1] : -1], rows[:, -1]
        terms = []
        for prompt in prompts.unique():
            for s in range(scores.shape[1]):
                here = (prompts == prompt) & ~targets[:, s].isnan()
                if here.sum() > 1:
                    wanted = (targets[here, s] / RANK_TEMPERATURE).softmax(0)
                    terms.append(-(wanted * (scores[here, s] / RANK_TEMPERATURE).log_softmax(0)).sum())
        if not terms:
            return logits.sum() * 0
        term = RANK_WEIGHT * torch.stack(terms).mean()
        count = (~targets.isnan()).sum()
        # every process sees the same value but only its own gradient, and processes average their gradients
        return (term.detach() + processes * (term - term.detach())) * count / processes

    def validation_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """Agreement on validation after variance matching there; it chooses the checkpoint and is never reported."""
        labels, prompt_index = prediction.label_ids
        prompts = [self.settings.prompt_ids[i] for i in prompt_index]
        low, high = self.settings.bounds(prompts)
        human = low + (high - low) * labels
        raw = self.settings.raw_scores(prediction.predictions, prompts)
        line = replace(self.settings, calibration=self.settings.fit_calibration(raw, human, prompts))
        scores = line.rounded(line.calibrated(raw, prompts), prompts)
        return agreement_by_prompt(scores, human, prompts, self.settings)["mean"]


    # ---- after training -----------------------------------------------------------------------------------------------

    def score_beside_baselines(self) -> tuple[dict[str, dict], dict[str, np.ndarray]]:
        """Calibrate on validation, score test once, and put the baselines beside it, calibrated alike on the same rows.

        Returns:
            {"test": {metric: mean over prompts, ..., "prompts": {...}}, "baselines": {name: the same}}, and the columns
            "unrounded", "score" and "human", float arrays (rows, scores), of the test rows in rubric units.
        """
        settings, splits = self.settings, {s: self.splits[s] for s in ("train", "validation", "test")}
        human = {s: np.array(d["scores"], float) for s, d in splits.items()}
        prompts = {s: list(d["prompt_id"]) for s, d in splits.items()}
        targets = {s: settings.scale(human[s], prompts[s]) for s in splits}
        raw = {s: settings.raw_scores(self.logits(splits[s]), prompts[s]) for s in ("validation", "test")}
        results, test = {}, prompts["test"]
        for name, scores in {**essay_baselines(splits, targets), "model": raw}.items():
            settings.calibration = settings.fit_calibration(scores["validation"], human["validation"], prompts["validation"])
            unrounded = settings.calibrated(scores["test"], test)
            score = settings.rounded(unrounded, test)
            results[name] = agreement_by_prompt(score, human["test"], test, settings)
        raters = [np.array(splits["test"][f"rater{i}_scores"], float) for i in (1, 2)]
        if people := human_agreement(*raters, test, settings):
            results = {"human-human": people, **results}
        flat = {name: {**r["mean"], "prompts": r["prompts"]} for name, r in results.items()}
        columns = {"unrounded": unrounded, "score": score, "human": human["test"]}
        return {"test": flat.pop("model"), "baselines": flat}, columns

    def check(self, summary: str, rejected: Sequence[tuple]) -> dict:
        """What `--check_data` prints: counts, rows left out, shortened essays, the cost of a training. Trains nothing."""
        check = {"shortened": truncation_report(self.splits["train"]), "training": self.estimate_cost()}
        print(summary, *(f"  left out: {reason}" for _, _, reason in rejected), sep="\n")
        for name, values in check.items():
            print(f"  {name}: " + ", ".join(f"{k} {v}" for k, v in values.items()))
        return check

    def save_run(
        self, results: dict, predictions: dict[str, np.ndarray], facts: dict, merge_adapter: bool
    ) -> dict[str, Any]:
        """Save the model with all it needs and write the report; the content of metrics.json is returned.

        Args:
            results: See `score_beside_baselines`.
            predictions: Likewise.
            facts: What the report says beside: options, cost, data (`EssayDataset.facts`), search and folds.
            merge_adapter: Save an adapter merged into its base.
        """
        output, settings, test = Path(self.args.output_dir), self.settings, self.splits["test"]
        shortened = {s: truncation_report(d) for s, d in self.splits.items()}
        cost = {**facts["cost"], "device": device_name(), "precision": self.args.precision, "processes": self.args.world_size}
        protocol = {"dataset": facts["dataset_name"], "split": facts["split_protocol"], "rows": facts["rows"]}
        protocol |= {"shortened": shortened}
        protocol |= {"calibration": "variance matching on validation, for each prompt", "seed": self.args.seed}
        metrics = {**results, "cost": cost, "protocol": protocol}
        metrics |= {k: facts[k] for k in ("search", "cross_validation") if k in facts}
        if not self.is_world_process_zero():
            return metrics
        fold_calibration(self.model, settings)
        self.save_model_folder(output, "essay_scoring", asdict(settings), merge_adapter)
        report.write_json(output / "metrics.json", metrics)
        options = facts["options"] | facts.get("search", {}).get("best", {})
        report.write_options(output / "options.yaml", options)
        columns = {"essay_id": test["essay_id"], "prompt_id": test["prompt_id"]}
        for s, name in enumerate(settings.score_names):
            columns |= {name: predictions["score"][:, s], f"{name}_unrounded": predictions["unrounded"][:, s].round(4)}
            columns |= {f"human_{name}": predictions["human"][:, s]}
        report.write_csv(output / "predictions.csv", columns)
        if facts["rejected_rows"]:
            files, rows, reasons = zip(*facts["rejected_rows"], strict=True)
            report.write_csv(output / "rejected_rows.csv", {"file": files, "row": rows, "reason": reasons})
        figures = output / "figures"
        report.draw_agreement(figures / "agreement.png", results)
        report.draw_confusion(
            figures / "confusion.png", predictions["score"], predictions["human"], test["prompt_id"], settings.score_ranges,
            settings.score_step,
        )  # fmt: skip
        report.draw_learning_curve(figures / "learning_curve.png", self.state.log_history, best_step(self.state))
        report.write_card(
            output,
            {
                **facts, **asdict(settings), "cost": cost, "results": results, "name": output.absolute().name,
                "task": "essay_scoring", "pipeline_tag": "text-classification", "repo": output.absolute().name,
                "base_model": self.checkpoint.title(), "license": self.checkpoint.licence, "version": edu_recipes_version(),
                "dataset_type": facts["dataset_name"].split(" ")[0], "adapter": is_adapter(output),
                "fictional": "fictional" in facts["dataset_name"], "prompt_ids": settings.prompt_ids,
                "num_labels": settings.num_labels(), "truncated": shortened["test"]["essays_shortened"],
                "command": report.command("recipes/essay_scoring.py", options),
            },
        )  # fmt: skip
        self.remove_checkpoints_when_done()
        print(f"\n{report.as_text(report.results_table(results))}\n\n{report.verdict(results)}\nSaved in {self.args.output_dir}")
        return metrics


def agreement_by_prompt(
    scores: np.ndarray, human: np.ndarray, prompt_ids: Sequence[str], settings: EssaySettings
) -> dict[str, dict]:
    """Agreement for each prompt, and its plain mean over prompts and scores.

    Scores of different prompts are never pooled: on pooled rows a constant a prompt reaches a kappa of 0.96 on ASAP.

    Args:
        scores: Float array (rows, scores), rounded, in rubric units.
        human: Likewise, nan where missing.
        prompt_ids: The prompt of each row.

    Returns:
        {"mean": {metric: value}, "prompts": {prompt_id: {score name: {metric: value}}}}; metrics are
        quadratic_weighted_kappa and those of `metrics.agreement`.
    """
    prompts, by_prompt, every = np.asarray(prompt_ids), {}, []
    for prompt in settings.prompt_ids:
        by_prompt[prompt] = {}
        for s, (name, (low, high)) in enumerate(zip(settings.score_names, settings.score_ranges[prompt], strict=True)):
            here = (prompts == prompt) & ~np.isnan(human[:, s]) & ~np.isnan(scores[:, s])
            if not here.any():
                continue
            a, b = scores[here, s], human[here, s]
            kappa = quadratic_weighted_kappa(a, b, low, high, settings.score_step)
            by_prompt[prompt][name] = {"quadratic_weighted_kappa": kappa, **agreement(a, b, settings.score_step)}
            every.append(by_prompt[prompt][name])
    mean = {k: float(np.mean([e[k] for e in every])) for k in every[0]} if every else {}
    if every:  # differences of both signs would cancel in a mean
        mean["standardized_mean_difference"] = float(np.mean([abs(e["standardized_mean_difference"]) for e in every]))
    return {"mean": mean, "prompts": by_prompt}


def human_agreement(
    rater1: np.ndarray, rater2: np.ndarray, prompt_ids: Sequence[str], settings: EssaySettings
) -> dict[str, dict] | None:
    """Rater against rater, on the scale of one rater (where the score is their sum, that is another than the score's).

    Args:
        rater1: Float array (rows, scores), nan where unknown.
        rater2: Likewise.

    Returns:
        As `agreement_by_prompt`; None where no essay has two ratings.
    """
    both = ~np.isnan(rater1) & ~np.isnan(rater2)
    if not both.any():
        return None
    prompts = np.asarray(prompt_ids)
    ranges = {}
    for p in settings.prompt_ids:
        seen = [np.concatenate([r[(prompts == p) & both[:, s], s] for r in (rater1, rater2)]) for s in range(both.shape[1])]
        ranges[p] = [(v.min(), v.max()) if len(v) else (0.0, 1.0) for v in seen]
    single = EssaySettings(score_names=settings.score_names, score_ranges=ranges, score_step=settings.score_step)
    return agreement_by_prompt(np.where(both, rater1, np.nan), np.where(both, rater2, np.nan), prompt_ids, single)


def fold_calibration(model: nn.Module, settings: EssaySettings) -> None:
    """Put calibration and range into the head where one line serves all rows, so that a raw logit is the score.

    In place; nothing happens with several prompts or an ordinal head.
    """
    if settings.loss == "corn" or len(settings.prompt_ids) != 1 or settings.folded:
        return
    prompt = settings.prompt_ids[0]
    layer = output_layer(model)
    if layer.bias is None:
        return
    with torch.no_grad():
        for s, ((slope, intercept), (low, high)) in enumerate(
            zip(settings.calibration[prompt], settings.score_ranges[prompt], strict=True)
        ):
            layer.weight[s] *= slope * (high - low)
            layer.bias[s] = low + (high - low) * (slope * layer.bias[s] + intercept)
    settings.calibration, settings.folded = {}, True


def truncation_report(dataset: Dataset) -> dict[str, float]:
    """Share of essays that were shortened, and of tokens that were left out, 0 to 1, of an encoded data set."""
    left_out, kept = np.array(dataset["truncated"]), np.array(dataset["length"])
    return {
        "essays_shortened": round(float(np.mean(left_out > 0)), 4),
        "tokens_left_out": round(float(left_out.sum() / (left_out.sum() + kept.sum())), 4),
    }


# ---- the scorer that anyone loads -----------------------------------------------------------------------------------


@dataclass
class EssayScorer:
    """A trained essay scorer: model, tokenizer and settings."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    settings: EssaySettings

    @torch.no_grad()
    def predict(
        self, texts: Sequence[str], prompt_ids: Sequence[str] | None = None, batch_size: int = 32, rounded: bool = True
    ) -> np.ndarray:
        """Score essays, in fp32.

        Args:
            texts: The essays.
            prompt_ids: The prompt of each; may be left out where the model knows one only.
            batch_size: Essays a step.
            rounded: Round to scores that can be given; else the calibrated score as it is.

        Returns:
            Float64 array (essays, scores) in rubric units.

        Raises:
            ConfigurationError: A prompt the model was not trained on.
        """
        known = self.settings.prompt_ids
        prompts = list(prompt_ids) if prompt_ids is not None else known[:1] * len(texts) if len(known) == 1 else []
        if len(prompts) != len(texts):
            raise ConfigurationError(f"the model scores {len(known)} prompts: name the prompt of each essay.")
        if unknown := sorted(set(prompts) - set(known)):
            raise ConfigurationError(f"the model was not trained on prompt '{unknown[0]}'; it knows {', '.join(known)}.")
        if not texts:
            return np.zeros((0, len(self.settings.score_names)))
        batch = encode({"text": list(texts), "prompt_id": prompts}, self.tokenizer, self.settings)
        collate = EssayCollator(self.tokenizer)
        logits = np.zeros((len(texts), self.model.config.num_labels), np.float32)
        order = np.argsort([-n for n in batch["length"]], kind="stable")
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            inputs = collate([{"input_ids": batch["input_ids"][i], "prompt_index": 0} for i in rows])
            inputs = {k: inputs[k].to(self.model.device) for k in ("input_ids", "attention_mask")}
            logits[rows] = self.model(**inputs).logits.float().cpu().numpy()
        scores = self.settings.calibrated(self.settings.raw_scores(logits, prompts), prompts)
        return self.settings.rounded(scores, prompts) if rounded else scores


def load(name: str | Path, revision: str = "main", trust_remote_code: bool = False) -> EssayScorer:
    """Load a trained essay scorer: a folder or a Hub id; a whole model, a merged one, or an adapter.

    Raises:
        ConfigurationError: It is no essay scorer, or cannot be loaded.
    """
    checkpoint = find_checkpoint(str(name), revision)
    artifact = load_artifact(checkpoint, "essay_scoring")
    try:
        settings = EssaySettings(**artifact.settings)
    except TypeError as error:
        raise ConfigurationError(
            f"edu_recipes.json of {checkpoint.name} was written by version {artifact.version}: {error}. Update edu-recipes."
        ) from error
    tokenizer = load_tokenizer(checkpoint, trust_remote_code)
    args = ModelArguments(trust_remote_code=trust_remote_code)
    adapter = checkpoint.file("adapter_config.json")
    if adapter is None:
        model = load_trained_classifier(checkpoint, trust_remote_code)
    else:
        base = find_checkpoint(artifact.base_model["name"], artifact.base_model["revision"])
        if artifact.base_model["sha256"] not in (None, base.sha256()):
            raise ConfigurationError(f"the adapter was trained on other weights than {base.name} has here (sha256 differs).")
        model = load_merged(load_classifier(base, settings.num_labels(), args, tokenizer), adapter.parent)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return EssayScorer(model.float().eval().to(device), tokenizer, settings)
