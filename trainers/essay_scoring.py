"""Essay scoring: losses, the Trainer, its report, and the scorer that anyone loads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import DatasetDict
from torch import nn
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase

from . import drift, essay_report, report
from .adapters import find_base, load_merged
from .arguments import ModelArguments
from .artifact import load_artifact
from .base import EduTrainer
from .baselines.essay_scoring import essay_baselines
from .checkpoints import Checkpoint, find_checkpoint, load_classifier, load_tokenizer, load_trained_classifier, output_layer
from .columns import column_array
from .essay_evaluation import (
    agreement_by_prompt,
    automation_curve,
    coverage_by_prompt,
    gate,
    human_agreement,
    kappa_intervals,
    subgroup_differences,
    truncation_report,
)  # fmt: skip
from .essay_settings import ANY, EssayCollator, EssaySettings, encode
from .explanation import Explanation, explain
from .gaming import gaming_report, gaming_texts
from .hybrid import ARRAYS, FACTS, LEVEL, Hybrid, Reading
from .parser import ConfigurationError

METRICS = {
    "quadratic_weighted_kappa": True, "exact_agreement": True, "adjacent_agreement": True, "pearsonr": True,
    "standardized_mean_difference": False, "mean_absolute_error": False, "root_mean_squared_error": False, "loss": False,
}  # metric -> whether greater is better; Trainer would guess so for all but the loss  # fmt: skip
RANK_WEIGHT = 0.4  # brings the ListNet term to the size of the squared error
RANK_TEMPERATURE = 0.1  # of the softmax over scores scaled to 0..1


# ---- training -------------------------------------------------------------------------------------------------------


class EssayTrainer(EduTrainer):
    """Trains a sequence classifier on essay scores; missing scores are masked.

    Args:
        settings: Loss, ranges, levels; gets the fitted calibration.
        splits: train, validation (chooses the checkpoint, fuses), calibration and test, with the columns of
            `edu_datasets.schema.ESSAYS` and of `encode`.
        checkpoint: What the model was built from.
        hybrid: Fuse the model's score with words and surface features.
        human_share: Share of essays with the widest intervals that are to go to a human, 0 to 1.
        subgroup_columns: Names of the entries of the column subgroups.
        kwargs: As for `EduTrainer`.

    Raises:
        ConfigurationError: 'mse+rank' with gradient accumulation: essays are ranked within a batch, and an accumulated
            batch is never whole.
    """

    def __init__(self, *, settings: EssaySettings, splits: DatasetDict, checkpoint: Checkpoint, hybrid: bool = True,
                 human_share: float = 0.1, subgroup_columns: Sequence[str] = (), **kwargs):  # fmt: skip
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
        self.fused, self.human_share, self.hybrid = hybrid, human_share, None
        self.subgroup_columns = list(subgroup_columns)
        self._levels = torch.from_numpy(settings.levels())
        prompts = np.array(settings.prompt_ids, object)[column_array(splits["train"], "prompt_index")]
        settings.fit_targets(column_array(splits["train"], "scores"), prompts)
        self._targets = torch.from_numpy(settings.target_table()).float()

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
        mean, sd = self._targets.to(labels.device)[inputs["prompt_index"]].unbind(-1)
        total, count = ((logits - (labels - mean) / sd)[known] ** 2).sum(), known.sum()
        if self.settings.loss == "mse+rank":
            total = total + self._rank_term(mean + sd * logits, labels, inputs["prompt_index"], model.training)
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

    def _rank_term(self, scores, labels, prompt_index, training: bool) -> torch.Tensor:
        """ListNet over the essays of each prompt in the batch of all processes, in units of the summed squared error."""
        processes = self.accelerator.num_processes if training else 1
        rows = torch.cat([scores, labels, prompt_index[:, None].float()], dim=1)
        if processes > 1:
            most = self.accelerator.gather(torch.tensor([len(rows)], device=rows.device)).max()
            padded = nn.functional.pad(rows.detach(), (0, 0, 0, int(most) - len(rows)), value=float("nan"))
            everyone = self.accelerator.gather(padded).view(processes, int(most), -1)
            # own rows keep their gradient; the other processes bring theirs
            parts = [p for i, p in enumerate(everyone) if i != self.accelerator.process_index]
            rows = torch.cat([rows, *parts])
            rows = rows[~rows[:, -1].isnan()]
        outputs = scores.shape[1]
        scores, targets, prompts = rows[:, :outputs], rows[:, outputs:-1], rows[:, -1]
        terms = []
        for prompt in prompts.unique():
            for s in range(scores.shape[1]):
                here = (prompts == prompt) & ~targets[:, s].isnan()
                if here.sum() > 1:
                    wanted = (targets[here, s] / RANK_TEMPERATURE).softmax(0)
                    terms.append(-(wanted * (scores[here, s] / RANK_TEMPERATURE).log_softmax(0)).sum())
        if not terms:
            return scores.sum() * 0
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

    def score_beside_baselines(self) -> tuple[dict[str, dict], dict[str, Any]]:
        """Fuse on validation, calibrate on calibration, score test once, beside the baselines, calibrated alike.

        Returns:
            The report: "system" ("hybrid" or "model"); "test", its results; "ablation", the model alone; "baselines";
            "intervals", "gate", "coverage", "automation", "subgroups"; "sent_to_human", doubt -> share of the test
            essays. And of the test rows, in rubric units: "scores", the columns of `score_columns`; "rounded" and "human",
            float arrays (rows, scores).
        """
        settings, splits = self.settings, self.splits
        human = {s: np.array(d["scores"], float) for s, d in splits.items()}
        prompts = {s: list(d["prompt_id"]) for s, d in splits.items()}
        targets = {s: settings.scale(human[s], prompts[s]) for s in splits}
        baselines, ridges, read = essay_baselines(splits, targets, [ANY] * settings.new_prompts)
        held = [s for s in splits if s != "train"]
        raw = {s: settings.raw_scores(self.logits(splits[s]), prompts[s]) for s in held}

        def calibrated(scores):
            settings.calibration = settings.fit_calibration(scores["calibration"], human["calibration"], prompts["calibration"])
            return {s: settings.calibrated(scores[s], prompts[s]) for s in held}

        unrounded = {name: calibrated(scores)["test"] for name, scores in baselines.items()}
        model = calibrated(raw)  # the last one fitted is the one that settings keep
        scaled = {s: settings.scale(model[s], prompts[s]) for s in held}
        self.hybrid = fit_hybrid(settings, splits, ridges, read, scaled, targets, self.fused, self.human_share)
        read = {p: r["test"] for p, r in read.items() if "test" in r}
        reading = self.hybrid.read_counted(read, prompts["test"], scaled["test"])
        ours, radius = in_rubric_units(settings, prompts["test"], reading)
        if self.fused:
            unrounded["model alone"] = model["test"]
        unrounded[self.ours] = ours

        test = splits["test"]
        systems = {name: settings.rounded(u, prompts["test"]) for name, u in unrounded.items()}
        results = {name: agreement_by_prompt(r, human["test"], prompts["test"], settings) for name, r in systems.items()}
        people = human_agreement(*(np.array(test[f"rater{i}_scores"], float) for i in (1, 2)), prompts["test"], settings)
        flat = {name: {**r["mean"], "prompts": r["prompts"]} for name, r in ({"human-human": people} | results).items() if r}
        rounded = systems[self.ours]
        rows = (human["test"], prompts["test"])
        result = {
            "system": self.ours,
            "test": flat.pop(self.ours),
            "ablation": {n: flat.pop(n) for n in ("model alone",) if n in flat},
            "baselines": flat,
            "intervals": kappa_intervals(systems, *rows, test["group_id"], settings, self.ours),
            "gate": gate(rounded, test, settings),
            "coverage": coverage_by_prompt(ours, radius, *rows, settings),
            "automation": automation_curve(rounded, ours, radius, reading.certainty, *rows, settings),
            "subgroups": subgroup_differences(ours, test, self.subgroup_columns),
            "sent_to_human": {d: float(np.mean(reading.doubts == d)) for d in sorted(set(reading.doubts)) if d},
        }
        columns = score_columns(settings, prompts["test"], ours, radius, reading.doubts)
        return result, {"scores": columns, "rounded": rounded, "human": human["test"]}

    @property
    def ours(self) -> str:
        """What the table calls the scores that predict.py gives."""
        return "hybrid" if self.fused else "model"

    def scorer(self) -> EssayScorer:
        """The trained scorer, as `load` will give it."""
        return EssayScorer(self.model.eval(), self.processing_class, self.settings, self.hybrid)

    def try_to_fool(self, essays_a_prompt: int) -> dict[str, dict]:
        """`gaming.gaming_report` on a random part of the test essays; nothing where `essays_a_prompt` is 0."""
        test, scorer, settings = self.splits["test"], self.scorer(), self.settings
        if not essays_a_prompt:
            return {}
        prompts, human = np.array(test["prompt_id"]), np.array(test["scores"], float)[:, 0]
        rng, rows = np.random.default_rng(self.args.seed), []
        for prompt in sorted(set(prompts.tolist())):
            rows += rng.permutation(np.flatnonzero(prompts == prompt))[:essays_a_prompt].tolist()

        def score(texts, prompt_ids):
            unrounded, _, doubts = scorer.read(texts, prompt_ids)
            return unrounded[:, 0], doubts != ""

        spread = {p: float(np.nanstd(human[prompts == p])) or 1.0 for p in set(prompts.tolist())}
        lowest = {p: settings.score_ranges[p][0][0] for p in spread}
        return gaming_report(score, [test[i]["text"] for i in rows], prompts[rows].tolist(), spread, lowest, self.args.seed)

    def check(self, summary: str, rejected: Sequence[tuple]) -> dict:
        """What `--check_data` prints: counts, rows left out, shortened essays, the cost of a training. Trains nothing."""
        check = {"shortened": truncation_report(self.splits["train"]), "training": self.estimate_cost()}
        return report.print_check(summary, rejected, check)

    def save_run(self, results: dict, predictions: dict[str, Any], facts: dict, merge_adapter: bool) -> dict[str, Any]:
        """Save the model with all it needs and write the report; the content of metrics.json is returned.

        Args:
            results: See `score_beside_baselines` and `try_to_fool`.
            predictions: Likewise.
            facts: What the report says beside: options, cost, data (`EssayDataset.facts`), search and folds.
            merge_adapter: Save an adapter merged into its base.
        """
        output, settings, test = Path(self.args.output_dir), self.settings, self.splits["test"]
        shortened = {s: truncation_report(d) for s, d in self.splits.items()}
        protocol = {"dataset": facts["dataset_name"], "split": facts["split_protocol"], "rows": facts["rows"]}
        protocol |= {"shortened": shortened}
        protocol |= {"calibration": "variance matching for each prompt, on the half of validation that chose nothing"}
        protocol |= {"seed": self.args.seed, "fusion": "ridge on the other half of validation" if self.fused else "none"}
        studies = {k: facts[k] for k in ("search", "cross_validation", "cross_prompt", "learning_curve") if k in facts}
        metrics = {**results, "cost": self.whole_cost(facts["cost"]), "protocol": protocol, **studies}
        if not self.is_world_process_zero():
            return metrics
        fold_calibration(self.model, settings)
        columns = {"essay_id": test["essay_id"], "prompt_id": test["prompt_id"], **predictions["scores"]}
        columns |= {f"human_{name}": predictions["human"][:, s] for s, name in enumerate(settings.score_names)}
        columns |= {"group_id": test["group_id"]}
        facts = self.save_results("essay_scoring", asdict(settings), metrics, columns, facts, merge_adapter)
        self.hybrid.save(output)
        inputs = {"texts": test["text"][:], "prompt_ids": test["prompt_id"][:]}
        drift.write_reference(
            output, "essay_scoring", settings, inputs, columns, vocabulary=drift.vocabulary_of(self.splits["train"]["text"])
        )
        figures = output / "figures"
        essay_report.draw_agreement(figures / "agreement.png", results)
        essay_report.draw_confusion(
            figures / "confusion.png", predictions["rounded"], predictions["human"], test["prompt_id"], settings.score_ranges,
            settings.score_step,
        )  # fmt: skip
        people = results["baselines"].get("human-human", {}).get("quadratic_weighted_kappa")
        essay_report.draw_automation(figures / "automation.png", results["automation"], LEVEL, people)
        if "learning_curve" in studies:
            essay_report.draw_graded_essays(figures / "graded_essays.png", studies["learning_curve"], self.ours, people)
        own = {
            "results": results, "level": LEVEL, "prompt_ids": settings.prompt_ids, "num_labels": settings.num_labels(),
            "truncated": shortened["test"]["essays_shortened"],
        }  # fmt: skip
        essay_report.write_essay_card(output, {**facts, **asdict(settings), **own})
        self.remove_checkpoints_when_done()
        tables = [*essay_report.tables(results, studies).values(), report.verdict(results, essay_report.METRIC)]
        print("", *(t if isinstance(t, str) else report.as_text(t) for t in tables if t), sep="\n\n")
        print(f"\nSaved in {self.args.output_dir}")
        return metrics

    def publish(self) -> None:
        """`publish_run` with the test essays."""
        test = self.splits["test"]
        self.publish_run(load, "essay_scoring", {"texts": test["text"][:], "prompt_ids": test["prompt_id"][:]})


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
        fitted = (settings.calibration[prompt], settings.score_ranges[prompt], settings.target_table()[0])
        for s, ((slope, intercept), (low, high), (mean, sd)) in enumerate(zip(*fitted, strict=True)):
            layer.weight[s] *= slope * (high - low) * sd
            layer.bias[s] = low + (high - low) * (slope * (mean + sd * layer.bias[s]) + intercept)
    settings.calibration, settings.targets, settings.folded = {}, {}, True


# ---- the scorer that anyone loads -----------------------------------------------------------------------------------


def fit_hybrid(
    settings: EssaySettings, splits: DatasetDict, ridges: dict, read: dict, model: dict[str, np.ndarray],
    human: dict[str, np.ndarray], fused: bool, human_share: float,
) -> Hybrid:  # fmt: skip
    """The hybrid of the prompts that were trained on; a prompt that was not is treated as if every prompt were new.

    Args:
        settings: Ranges and step.
        splits: train, validation, calibration.
        ridges, read: See `essay_baselines`.
        model, human, fused, human_share: See `Hybrid`.
    """
    held, trained = ("validation", "calibration"), set(splits["train"]["prompt_id"])
    prompts = {s: list(splits[s]["prompt_id"]) for s in held}
    steps = {p: settings.scaled_steps(p) for p in settings.prompt_ids}
    hybrid = Hybrid({p: r for p, r in ridges.items() if p in trained}, steps, fused)
    hybrid.fit(read, model, human, prompts, human_share)
    if untrained := [p for p in ridges if p not in trained]:
        ridge, finest = ridges[untrained[0]], np.min([steps[p] for p in trained], axis=0)
        pooled = Hybrid({ANY: ridge}, {ANY: finest}, fused, difficulty=hybrid.difficulty)
        counted = {s: ridge.read(list(splits[s]["text"])) for s in held}
        pooled.fit({ANY: counted}, model, human, {s: [ANY] * len(p) for s, p in prompts.items()}, human_share)
        for prompt in untrained:
            hybrid.add_prompt(prompt, ANY, of=pooled)
    return hybrid


def in_rubric_units(settings: EssaySettings, prompt_ids: Sequence[str], reading: Reading) -> tuple[np.ndarray, np.ndarray]:
    """Unrounded scores and radius of a reading, float arrays (rows, scores) in rubric units."""
    low, high = settings.bounds(prompt_ids)
    return low + (high - low) * reading.scores, (high - low) * reading.radius


def score_columns(
    settings: EssaySettings, prompt_ids: Sequence[str], unrounded: np.ndarray, radius: np.ndarray, doubts: np.ndarray
) -> dict[str, np.ndarray]:
    """The columns that predictions.csv and predict.py write.

    Returns:
        For each score: name, the rounded score; name_unrounded; name_low and name_high, the outermost scores that can be
        given inside the interval. send_to_human, true or false, and reason, '' where there is none.
    """
    low, high = settings.bounds(prompt_ids)
    rounded, step = settings.rounded(unrounded, prompt_ids), settings.score_step
    radius = np.minimum(radius, high - low)
    lower = np.clip(low + step * np.ceil((unrounded - radius - low) / step - 1e-9), low, rounded)
    upper = np.clip(low + step * np.floor((unrounded + radius - low) / step + 1e-9), rounded, high)
    columns: dict[str, np.ndarray] = {}
    for s, name in enumerate(settings.score_names):
        columns |= {name: rounded[:, s], f"{name}_unrounded": unrounded[:, s].round(4)}
        columns |= {f"{name}_low": lower[:, s], f"{name}_high": upper[:, s]}
    return columns | {"send_to_human": np.where(doubts != "", "true", "false"), "reason": doubts}


@dataclass
class EssayScorer:
    """A trained essay scorer: model, tokenizer, settings, and the hybrid where the folder has one."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    settings: EssaySettings
    hybrid: Hybrid | None = None

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
        prompts = self._prompts(texts, prompt_ids)
        scores, _, _ = self.read(texts, prompts, batch_size)
        return self.settings.rounded(scores, prompts) if rounded else scores

    def predict_columns(
        self, texts: Sequence[str], prompt_ids: Sequence[str] | None = None, batch_size: int = 32
    ) -> dict[str, np.ndarray]:
        """As `predict`, with intervals, and whether a human should read the essay; see `score_columns`."""
        prompts = self._prompts(texts, prompt_ids)
        return score_columns(self.settings, prompts, *self.read(texts, prompts, batch_size))

    def add_prompt(self, prompt_id: str, low: float, high: float, prompt: str = "") -> None:
        """Let a model trained with --protocol cross_prompt score a new prompt; see `EssaySettings.add_prompt`."""
        self.settings.add_prompt(prompt_id, low, high, prompt)
        if self.hybrid is not None:
            self.hybrid.steps[prompt_id] = self.settings.scaled_steps(prompt_id)
            self.hybrid.add_prompt(prompt_id, ANY)

    def explain(self, text: str, prompt_id: str | None = None, score_name: str | None = None) -> Explanation:
        """What moved the score of an essay, and how near the next one is; see `explanation.explain`."""
        (prompt,) = self._prompts([text], None if prompt_id is None else [prompt_id])
        s = self.settings.score_names.index(score_name) if score_name else 0
        low, high = self.settings.score_ranges[prompt][s]
        return explain(
            lambda texts: self.predict(texts, [prompt] * len(texts), rounded=False)[:, s], text, low, high,
            self.settings.score_step,
        )  # fmt: skip

    def read(
        self, texts: Sequence[str], prompt_ids: Sequence[str], batch_size: int = 32
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Unrounded scores, half the width of their intervals (float arrays (essays, scores), rubric units), and doubts.

        Without a hybrid the scores are the model's own, the width is infinite, and only an empty essay is doubted.
        """
        raw = self.settings.raw_scores(self.logits(texts, prompt_ids, batch_size), prompt_ids)
        scores = self.settings.calibrated(raw, prompt_ids)
        if self.hybrid is None or not len(texts):
            empty = np.array([re.search(r"\w", t) is None for t in texts], bool)
            scores[empty] = self.settings.bounds(prompt_ids)[0][empty]
            return scores, np.full(scores.shape, np.inf), np.where(empty, "empty", "").astype(object)
        reading = self.hybrid.read(texts, prompt_ids, self.settings.scale(scores, prompt_ids))
        return *in_rubric_units(self.settings, prompt_ids, reading), reading.doubts

    @torch.no_grad()
    def logits(self, texts: Sequence[str], prompt_ids: Sequence[str], batch_size: int = 32) -> np.ndarray:
        """The model's outputs, float32 array (essays, num_labels)."""
        logits = np.zeros((len(texts), self.model.config.num_labels), np.float32)
        if not len(texts):
            return logits
        batch = encode({"text": list(texts), "prompt_id": list(prompt_ids)}, self.tokenizer, self.settings)
        collate = EssayCollator(self.tokenizer)
        order = np.argsort([-n for n in batch["length"]], kind="stable")
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            inputs = collate([{"input_ids": batch["input_ids"][i], "prompt_index": 0} for i in rows])
            inputs = {k: inputs[k].to(self.model.device) for k in ("input_ids", "attention_mask")}
            logits[rows] = self.model(**inputs).logits.float().cpu().numpy()
        return logits

    def _prompts(self, texts: Sequence[str], prompt_ids: Sequence[str] | None) -> list[str]:
        known = self.settings.prompt_ids
        prompts = list(prompt_ids) if prompt_ids is not None else known[:1] * len(texts) if len(known) == 1 else []
        if len(prompts) != len(texts):
            raise ConfigurationError(f"the model scores {len(known)} prompts: name the prompt of each essay.")
        if unknown := sorted(set(prompts) - set(known)):
            raise ConfigurationError(f"the model was not trained on prompt '{unknown[0]}'; it knows {', '.join(known)}.")
        return prompts


def load(name: str | Path, revision: str = "main", trust_remote_code: bool = False) -> EssayScorer:
    """Load a trained essay scorer: a folder or a Hub id; a whole model, a merged one, or an adapter.

    Raises:
        ConfigurationError: It is no essay scorer, or cannot be loaded.
    """
    checkpoint = find_checkpoint(str(name), revision)
    artifact = load_artifact(checkpoint, "essay_scoring")
    settings = artifact.read_settings(EssaySettings)
    tokenizer = load_tokenizer(checkpoint, trust_remote_code)
    args = ModelArguments(trust_remote_code=trust_remote_code)
    if checkpoint.file("adapter_config.json") is None:
        model = load_trained_classifier(checkpoint, trust_remote_code)
    else:
        base, folder = find_base(checkpoint, artifact)
        model = load_merged(load_classifier(base, settings.num_labels(), args, tokenizer), folder)
    arrays, facts = checkpoint.file(ARRAYS), checkpoint.file(FACTS)
    hybrid = Hybrid.load(arrays, facts) if arrays and facts else None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return EssayScorer(model.float().eval().to(device), tokenizer, settings, hybrid)


def probe(scorer: EssayScorer) -> dict[str, list[str]]:
    """Texts of our own for each prompt, on which a published model is compared with the one here."""
    texts, prompts = gaming_texts()["off_topic"], scorer.settings.prompt_ids
    return {"texts": texts * len(prompts), "prompt_ids": [p for p in prompts for _ in texts]}
