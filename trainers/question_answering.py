"""Question answering: the Trainer, its report, and the reader that anyone loads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset, DatasetDict, Features
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase

from . import answering_report, report
from .adapters import find_base, load_merged
from .answer_decoding import (
    Answers,
    Windows,
    WindowSpans,
    answers_of,
    best_of_questions,
    decode,
    find_spans,
    joined,
    log_odds,
)
from .answering_evaluation import (
    abstention,
    answer_intervals,
    by_kind,
    fit_threshold,
    human_answers,
    risk_coverage,
    score_answers,
)
from .answering_settings import CHARACTERS, PLACES, TARGETS, WINDOW, AnsweringCollator, AnsweringSettings, encode
from .arguments import ModelArguments
from .artifact import load_artifact
from .base import EduTrainer
from .baselines.question_answering import answering_baselines
from .calibration import platt
from .checkpoints import Checkpoint, find_checkpoint, load_reader, load_tokenizer, load_trained_reader
from .columns import column_array, column_values
from .metrics.answers import ROUGE, answer_scores
from .metrics.probabilities import expected_calibration_error, reliability
from .parser import ConfigurationError

METRICS = {"rouge_l": True, "f1": True, "exact_match": True, "loss": False}  # whether greater is better
MADE = "unanswerable"
"""The split with the test questions that were put to other passages of their story: they have no answer there."""
QUESTIONS_A_STEP = 512  # whose windows are in memory together, in `Reader.predict`
ROWS_A_STEP = 4096  # questions whose logits are in memory together, or windows whose tokens' places are


# ---- training -------------------------------------------------------------------------------------------------------


class QuestionAnsweringTrainer(EduTrainer):
    """Trains a stock question-answering head: the tokens that an answer begins and ends with, [CLS] for no answer.

    The loss is the mean of the two cross-entropies, over the windows that teach something; each window counts by the weights of
    its targets, see `answering_settings.encode`.

    Args:
        settings: Lengths and decoding; gets the fitted threshold and confidence.
        splits: train, validation (chooses the checkpoint), calibration and test, with the columns of
            `edu_datasets.schema.PASSAGES`; where there is `MADE`, its questions tell how well abstention works.
        checkpoint: What the model was built from.
        attribute_names: Names of the entries of the column attributes.
        workers: Processes that turn texts into tokens; None for this one.
        kwargs: As for `EduTrainer`; processing_class is the tokenizer.

    Raises:
        ConfigurationError: No answer of the training split stands in its text, or another metric is to choose the checkpoint.
    """

    def __init__(self, *, settings: AnsweringSettings, splits: DatasetDict, checkpoint: Checkpoint,
                 attribute_names: Sequence[str] = (), workers: int | None = None, **kwargs):  # fmt: skip
        metric = (kwargs["args"].metric_for_best_model or "loss").removeprefix("eval_")
        if metric not in METRICS:
            raise ConfigurationError(f"--metric_for_best_model is {metric!r}; expected one of {', '.join(METRICS)}.")
        kwargs["args"].greater_is_better, kwargs["args"].label_names = METRICS[metric], ["weights"]
        self.metric = "f1" if metric == "loss" else metric  # the one that tables lead with
        self.settings, self.splits, self.checkpoint, self.row_column = settings, splits, checkpoint, "question"
        self.attribute_names, self.tokenizer, self.workers = list(attribute_names), kwargs["processing_class"], workers
        train, self._validation_windows = (self._windows(splits[s], s) for s in ("train", "validation"))
        weight = np.fromiter((sum(own) if own else -1.0 for own in column_values(train, "weights")), np.float32, len(train))
        taught = np.flatnonzero(weight >= 0)
        if not (weight > 0).any():
            raise ConfigurationError("no answer of the training questions shares a word with its text: nothing to learn.")
        super().__init__(
            compute_metrics=self.validation_metrics, train_dataset=train.select(taught).remove_columns(CHARACTERS),
            eval_dataset=self._validation_windows.remove_columns(CHARACTERS), data_collator=AnsweringCollator(self.tokenizer),
            new_modules=("qa_outputs",), **kwargs,
        )  # fmt: skip
        self.windows = {"train": len(train), "train with a target": len(taught), "validation": len(self._validation_windows)}

    def _windows(self, rows: Dataset, name: str = "questions") -> Dataset:
        """`encode` of a split."""
        unknown = {"token_type_ids"} - set(self.tokenizer.model_input_names)
        return rows.map(
            encode, batched=True, batch_size=512, with_indices=True, remove_columns=rows.column_names,
            features=Features({name: kind for name, kind in WINDOW.items() if name not in unknown}),
            fn_kwargs={"tokenizer": self.tokenizer, "settings": self.settings}, num_proc=self.workers, desc=f"windows of {name}",
        )  # fmt: skip

    def loss_terms(self, model, inputs):
        outputs = model(**{k: v for k, v in inputs.items() if k not in (*TARGETS, *PLACES)})
        logits = torch.stack([outputs.start_logits, outputs.end_logits], dim=-1).float()
        # padding is no candidate, so that the loss does not depend on the batch
        logits = logits.masked_fill(inputs["attention_mask"][..., None] == 0, torch.finfo(torch.float32).min)
        targets = torch.stack([inputs["starts"], inputs["ends"]], dim=-1)  # (windows, references, 2)
        losses = -logits.log_softmax(dim=1).gather(1, targets).mean(dim=-1)
        return (losses * inputs["weights"]).sum(), inputs["weights"].sum(), SimpleNamespace(logits=logits)

    def count_items(self, inputs):
        return inputs["weights"].sum()

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """As in Trainer; of the logits of an evaluation the best spans of each window are kept."""
        loss, logits, labels = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
        if logits is None or self.compute_metrics is None:
            return loss, logits, labels
        places = (inputs[name].cpu().numpy() for name in PLACES)
        found = find_spans(logits.cpu().numpy(), *places, self.settings.n_best, self.settings.max_answer_length)
        return loss, torch.from_numpy(found.packed()).to(logits.device), labels

    def validation_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """On validation, with the threshold that is best there; it chooses the checkpoint and is never reported."""
        rows, windows, found = self.splits["validation"], self._validation_windows, WindowSpans.unpacked(prediction.predictions)
        spans = [Windows.of(part).characters(found.tokens[a : a + len(part)]) for a, part in _parts(windows)]
        best = best_of_questions(found, column_array(windows, "question"), np.concatenate(spans), len(rows))
        answers = answers_of(best, column_values(rows, "context"), self.settings)
        metrics, _ = score_answers(answers, rows["answers"][:], self._fit_threshold(answers, rows))
        return metrics

    # ---- after training -----------------------------------------------------------------------------------------------

    @property
    def ours(self) -> str:
        """What the table calls the model."""
        return "reader"

    def answers(self, rows: Dataset) -> Answers:
        """The model's answers to the questions of a split, abstention apart."""
        answers = []
        for _, part in _parts(rows):
            windows = self._windows(part)
            logits = self.logits(windows.remove_columns(CHARACTERS))
            found = decode(logits, Windows.of(windows), len(part), self.settings.n_best, self.settings.max_answer_length)
            answers.append(answers_of(found, part["context"], self.settings))
        return joined(answers)

    def _fit_threshold(self, answers: Answers, rows: Dataset) -> float | None:
        scores = answer_scores(answers.texts, rows["answers"][:])["f1"]
        answerable = np.array(rows["answerable"][:], bool)
        return fit_threshold(answers.no_answer, np.where(answerable, scores, 0.0), answerable)

    def score_beside_baselines(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Fit the threshold and the confidence on the calibration questions, score test once, beside the baselines.

        Returns:
            The report: "system", "test", "ablation" (without abstention, where it abstains), "baselines", "intervals" (of the
            leading metric, drawn by story), "abstention", "risk_coverage", "reliability" (of the confidence), "kinds". And of
            the test questions: "answers", "scores".
        """
        settings, held = self.settings, self.splits["calibration"]
        settings.threshold, settings.confidence = None, (1.0, 0.0)
        self._systems = answering_baselines(self.splits["train"]) | {self.ours: self.answers}
        read = {name: answer(held) for name, answer in self._systems.items()}
        self._thresholds = {name: self._fit_threshold(answers, held) for name, answers in read.items()}
        settings.threshold = self._thresholds[self.ours]
        _, each = score_answers(read[self.ours], held["answers"][:], None)
        settings.confidence = platt(log_odds(read[self.ours].confidence), each["right"].astype(int))

        test = self.splits["test"]
        result, answers, each = self.score(test)
        ours, answerable = answers[self.ours], np.array(test["answerable"][:], bool)
        result["ablation"] = {}
        if settings.threshold is not None:
            result["ablation"]["without abstention"] = score_answers(ours, test["answers"][:], None)[0]
        result["abstention"] = abstention(ours.no_answer, answerable, made=False)
        if result["abstention"] is None and len(self.splits.get(MADE, ())):
            no_answer = self.answers(self.splits[MADE]).no_answer
            known = np.r_[answerable, np.zeros(len(no_answer), bool)]
            result["abstention"] = abstention(np.r_[ours.no_answer, no_answer], known, made=True)
        result["risk_coverage"] = {name: risk_coverage(answers[name].confidence, each[name]) for name in answers}
        result["reliability"] = {self.ours: reliability(ours.confidence, each[self.ours]["right"])}
        leading = {name: values[self.metric] for name, values in each.items()}
        result["kinds"] = by_kind(test["attributes"][:], self.attribute_names, leading)
        return result, {"answers": ours, "scores": each[self.ours]}

    def score(self, rows: Dataset) -> tuple[dict[str, Any], dict[str, Answers], dict[str, dict[str, np.ndarray]]]:
        """Score questions beside the baselines, with what `score_beside_baselines` has fitted: of test, or of another data set.

        Returns:
            "system", "metric", "questions", "test", "baselines" (among them people, where questions have two references) and
            "intervals"; the answers of each system; the scores of each question.
        """
        references, ours = rows["answers"][:], self.ours
        answers = {name: answer(rows) for name, answer in self._systems.items()}
        metrics, each = {}, {}
        for name, given in answers.items():
            metrics[name], each[name] = score_answers(given, references, self._thresholds[name])
        metrics[ours]["expected_calibration_error"] = expected_calibration_error(answers[ours].confidence, each[ours]["right"])
        leading = {name: values[self.metric] for name, values in each.items()}
        result: dict[str, Any] = {"system": ours, "metric": self.metric, "questions": len(rows), "test": metrics.pop(ours)}
        people = human_answers(references)
        result["baselines"] = ({"human-human": people[0]} if people else {}) | metrics
        leading |= {"human-human": people[1][self.metric]} if people else {}
        result["intervals"] = answer_intervals(leading, rows["story_id"][:], ours, self.args.seed)
        return result, answers, each

    def reader(self) -> Reader:
        """The trained reader, as `load` will give it."""
        return Reader(self.model.eval(), self.tokenizer, self.settings)

    def check(self, summary: str, rejected: Sequence[tuple], ceiling: dict[str, float]) -> dict:
        """What `--check_data` prints: counts, rows left out, the ceiling, the cost of a training. Trains nothing."""
        check = {"windows": self.windows, "ceiling of spans": ceiling, "training": self.estimate_cost()}
        return report.print_check(summary, rejected, check)

    def save_run(self, results: dict, predictions: dict[str, Any], facts: dict, merge_adapter: bool) -> dict[str, Any]:
        """Save the model with all it needs and write the report; the content of metrics.json is returned.

        Args:
            results: See `score_beside_baselines`; with "elsewhere", name of a data set -> its `score`.
            predictions: Likewise.
            facts: What the report says beside: options, cost, data (`PassageDataset.facts`), ceiling, search and folds.
            merge_adapter: Save an adapter merged into its base.
        """
        output, settings, test = Path(self.args.output_dir), self.settings, self.splits["test"]
        protocol = {k: facts[k] for k in ("rows", "answers", "ceiling", "left_out", "warnings")}
        protocol |= {"dataset": facts["dataset_name"], "split": facts["split_protocol"], "seed": self.args.seed, "rouge_l": ROUGE}
        protocol |= {"windows": self.windows, "calibration": "threshold and confidence, on questions that chose nothing"}
        studies = {k: facts[k] for k in ("search", "cross_validation") if k in facts}
        metrics = {**results, "cost": self.whole_cost(facts["cost"]), "protocol": protocol, **studies}
        if not self.is_world_process_zero():
            return metrics
        columns = {"question_id": test["question_id"][:], **answer_columns(predictions["answers"], settings.threshold)}
        columns |= {name: values.round(4) for name, values in predictions["scores"].items()}
        columns |= {"story_id": test["story_id"][:]}
        facts = self.save_results("question_answering", asdict(settings), metrics, columns, facts, merge_adapter)
        figures = output / "figures"
        report.draw_calibration(figures / "calibration.png", results["reliability"])
        answering_report.draw_risk_coverage(figures / "risk_coverage.png", results)
        answering_report.write_answering_card(output, {**facts, **asdict(settings), "results": results, "rouge": ROUGE})
        self.remove_checkpoints_when_done()
        tables = answering_report.tables(results, studies).values()
        print("", *(report.as_text(t) for t in tables if t), report.verdict(results, self.metric), sep="\n\n")
        print(answering_report.ceiling_sentence(facts["ceiling"]), f"\nSaved in {self.args.output_dir}", sep="\n")
        return metrics

    def publish(self) -> None:
        """`publish_run` with some of the test questions."""
        rows = self.splits["test"].select(range(min(100, len(self.splits["test"]))))
        self.publish_run(load, "question_answering", {"contexts": rows["context"][:], "questions": rows["question"][:]})


def _parts(rows: Dataset) -> Iterator[tuple[int, Dataset]]:
    """`ROWS_A_STEP` rows at a time, and which is the first."""
    for start in range(0, len(rows), ROWS_A_STEP):
        yield start, rows.select(range(start, min(start + ROWS_A_STEP, len(rows))))


def answer_columns(answers: Answers, threshold: float | None) -> dict[str, Sequence]:
    """The columns that predictions.csv and predict.py write.

    Returns:
        answer, '' where it abstains; answer_start, answer_end, characters of the text, empty where it abstains; confidence, the
        probability that the answer is right, given or withheld; abstained, true or false.
    """
    abstain = answers.abstain(threshold)
    spans = [["", ""] if none else span for none, span in zip(abstain, answers.spans.tolist(), strict=True)]
    return {
        "answer": ["" if none else text for none, text in zip(abstain, answers.texts, strict=True)],
        "answer_start": [str(start) for start, _ in spans],
        "answer_end": [str(end) for _, end in spans],
        "confidence": answers.confidence.round(4),
        "abstained": np.where(abstain, "true", "false"),
    }


# ---- the reader that anyone loads -----------------------------------------------------------------------------------


class Answer(NamedTuple):
    """An answer from a text: `context[start:end]`; text '' and -1, -1 where the reader abstains."""

    text: str
    start: int
    end: int
    confidence: float


@dataclass
class Reader:
    """A trained reader: model, tokenizer, settings."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    settings: AnsweringSettings

    def predict(self, contexts: Sequence[str], questions: Sequence[str], batch_size: int = 32) -> list[Answer]:
        """Answer questions, in fp32.

        Args:
            contexts: The text of each question.
            questions: As many.
            batch_size: Windows a step.

        Returns:
            An answer a question; confidence is the probability that it is right (ROUGE-L of 0.5 or more).
        """
        answers = self.answers(contexts, questions, batch_size)
        rows = zip(answers.texts, answers.spans.tolist(), answers.confidence.tolist(), strict=True)
        withheld = answers.abstain(self.settings.threshold)
        return [
            Answer("", -1, -1, sure) if none else Answer(text, *span, sure)
            for none, (text, span, sure) in zip(withheld, rows, strict=True)
        ]

    def predict_columns(self, contexts: Sequence[str], questions: Sequence[str], batch_size: int = 32) -> dict[str, Sequence]:
        """As `predict`, in columns; see `answer_columns`."""
        return answer_columns(self.answers(contexts, questions, batch_size), self.settings.threshold)

    def answers(self, contexts: Sequence[str], questions: Sequence[str], batch_size: int = 32) -> Answers:
        """The best span for each question, whether or not it is sure enough to be given."""
        if not len(questions):
            return Answers([], np.zeros((0, 2), int), np.zeros(0), np.zeros(0))
        parts = []
        for start in range(0, len(questions), QUESTIONS_A_STEP):
            texts, asked = (list(column[start : start + QUESTIONS_A_STEP]) for column in (contexts, questions))
            windows = encode({"context": texts, "question": asked}, range(len(asked)), self.tokenizer, self.settings)
            logits = self.logits(windows, batch_size)
            found = decode(logits, Windows.of(windows), len(asked), self.settings.n_best, self.settings.max_answer_length)
            parts.append(answers_of(found, texts, self.settings))
        return joined(parts)

    @torch.no_grad()
    def logits(self, windows: dict[str, list], batch_size: int = 32) -> np.ndarray:
        """Start and end logits, float32 array (windows, tokens, 2); from the longest window to the shortest, and put back."""
        order = np.argsort([-n for n in windows["length"]], kind="stable")
        logits = np.zeros((len(order), max(windows["length"]), 2), np.float32)
        collate, names = AnsweringCollator(self.tokenizer), [n for n in ("input_ids", "token_type_ids") if n in windows]
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            inputs = collate([{name: windows[name][i] for name in names} for i in rows])
            outputs = self.model(**{k: v.to(self.model.device) for k, v in inputs.items()})
            both = torch.stack([outputs.start_logits, outputs.end_logits], dim=-1)[:, : logits.shape[1]]
            logits[rows, : both.shape[1]] = both.float().cpu().numpy()
        return logits


def load(name: str | Path, revision: str = "main", trust_remote_code: bool = False) -> Reader:
    """Load a trained reader: a folder or a Hub id; a whole model, a merged one, or an adapter.

    Raises:
        ConfigurationError: It is no reader, or cannot be loaded.
    """
    checkpoint = find_checkpoint(str(name), revision)
    artifact = load_artifact(checkpoint, "question_answering")
    settings = artifact.read_settings(AnsweringSettings)
    tokenizer = load_tokenizer(checkpoint, trust_remote_code)
    if checkpoint.file("adapter_config.json") is None:
        model = load_trained_reader(checkpoint, trust_remote_code)
    else:
        base, folder = find_base(checkpoint, artifact)
        model = load_merged(load_reader(base, ModelArguments(trust_remote_code=trust_remote_code)), folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Reader(model.float().eval().to(device), tokenizer, settings)


PROBE = (
    "The ferry across the Arle leaves at seven in the morning and at noon. In winter it does not run on Sundays, because the "
    "ferryman then walks to his sister's farm in the hills. Whoever must cross rings the bell on the north bank."
)


def probe(reader: Reader) -> dict[str, list[str]]:
    """A text of our own and questions to it, on which a published model is compared with the one here."""
    asked = ["When does the ferry leave?", "Why does the ferry not run on Sundays?", "Where is the bell?", "What does it cost?"]
    return {"contexts": [PROBE, PROBE, PROBE, PROBE * 12], "questions": asked}
