"""Tutoring in dialogue: the Trainer, its report, and the tutor that anyone loads."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from . import report, tutoring_report
from .answer_leaks import can_leak, leaks
from .artifact import load_artifact
from .baselines.qa_tutoring import constant_replies, nearest_replies, predicted_moves
from .checkpoints import find_checkpoint, load_tokenizer
from .columns import column_array, column_values
from .intervals import bootstrap_counts, interval_of
from .language_models.generation import generate_replies
from .language_models.loading import load_trained_language_model
from .language_models.packing import shares_beginnings
from .language_models.trainer import LanguageModelTrainer
from .metrics.embeddings import sentence_encoder_if_there
from .metrics.replies import check_sacrebleu
from .parser import ConfigurationError
from .simulated_student import tutor_a_simulated_student
from .text_classifier import train_text_classifier
from .tutoring_evaluation import (
    BOOTSTRAP_DRAWS,
    Case,
    Reply,
    bleu_intervals,
    cases_of,
    human_metrics,
    leak_report,
    move_metrics,
    obedience,
    reply_metrics,
    similarity,
)
from .tutoring_settings import (
    SHARED,
    TOKENS,
    TutoringSettings,
    beginnings,
    encode,
    encode_history,
    share_histories,
    split_move,
)

logger = logging.getLogger(__name__)

OURS, BASE = "tutor", "base model"


@dataclass
class EvaluationSize:
    """How much is generated for the evaluation.

    Attributes:
        replies: Turns of the test split to reply to; None for all.
        asked_moves: Of these, turns for which each move is asked for.
        students: Of these, turns from which a simulated student is tutored.
        batch_size: Replies a batch.
    """

    replies: int | None = None
    asked_moves: int = 40
    students: int = 20
    batch_size: int = 16


class TutoringTrainer(LanguageModelTrainer):
    """Trains a causal language model to write a tutor's turns; see `tutoring_settings` for what it reads.

    Args:
        settings: The layout.
        splits: train, validation and test with the columns of `edu_datasets.schema.DIALOGUES` and `mastery`. Training learns the
            targets alone, not their alternatives: `edu_datasets.every_reply` makes rows of those.
        size: Of the evaluation.
        share: Let the good replies of one turn share what was said before, where the model's attention allows it.
        workers: Processes that turn texts into tokens; None for this one.
        kwargs: As for `LanguageModelTrainer`.

    Raises:
        ConfigurationError: sacrebleu is missing, or a dialogue does not fit into `max_length`.
    """

    def __init__(
        self, *, settings: TutoringSettings, splits: DatasetDict, size: EvaluationSize, share: bool = True,
        workers: int | None = None, **kwargs,
    ):  # fmt: skip
        check_sacrebleu()
        most = getattr(kwargs["model"].config, "max_position_embeddings", None)
        if most is not None and settings.max_length > most:
            raise ConfigurationError(f"--max_length is {settings.max_length:,}; the model reads {most:,} tokens at most.")
        self.settings, self.splits, self.size, self.row_column = settings, splits, size, "dialogue"
        self.workers = workers
        packing = kwargs.get("packing", True)
        self.shared = share and packing and shares_beginnings(kwargs["model"])
        if share and packing and not self.shared:
            logger.warning("this architecture does not let replies share a history: each reads it anew.")
        self.rows = self._encode(splits, settings, kwargs["processing_class"])
        super().__init__(stop=settings.stop, train_dataset=self.rows["train"], eval_dataset=self.rows["validation"], **kwargs)

    def _encode(self, splits: DatasetDict, settings: TutoringSettings, tokenizer: PreTrainedTokenizerBase) -> DatasetDict:
        encoded = DatasetDict(
            {
                split: rows.map(
                    encode, batched=True, batch_size=64, with_indices=True, remove_columns=rows.column_names, features=TOKENS,
                    fn_kwargs={"settings": settings, "tokenizer": tokenizer}, num_proc=self.workers, desc=f"tokens of {split}",
                )
                for split, rows in splits.items()
            }
        )  # fmt: skip
        if self.shared and "train" in encoded:
            encoded["train"] = encoded["train"].map(
                share_histories, batched=True, remove_columns=list(TOKENS), features=SHARED, desc="histories"
            )
        return encoded

    def fit(self) -> dict[str, float]:
        """As in `EduTrainer`; the cost also has the tutor's tokens a second, those that were learnt."""
        cost = super().fit()
        if "train_tokens_per_second" in cost:
            learnt = cost["epochs"] * int(column_array(self.train_dataset, "learnt").sum())
            cost["train_tutor_tokens_per_second"] = round(learnt / cost["train_seconds"], 1)
        return cost

    # ---- after training -----------------------------------------------------------------------------------------------

    def tutor(self, settings: TutoringSettings | None = None) -> Tutor:
        """The tutor as it is now, as `load` will give it."""
        return Tutor(self.model.eval(), settings or self.settings, self.processing_class)

    def score_beside_baselines(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Reply to the test cases once, beside people, the baselines and the base model.

        Returns:
            The report: "system", "test", "ablation" (none), "baselines", "intervals" (BLEU, drawn by problem), "perplexity",
            "moves", "obedience", "leaks", "student"; None where the data does not allow it. And "cases" and "replies" of test.
        """
        settings, size, seed = self.settings, self.size, self.args.seed
        cases = cases_of(self.splits["test"], size.replies, seed)
        if not cases:
            raise ConfigurationError("the test split has no tutor's turn that follows a learner's: there is nothing to reply to.")
        train = cases_of(self.splits["train"])
        plain = settings.without_moves()
        plain_rows = self._encode(DatasetDict(test=self.splits["test"]), plain, self.processing_class)["test"]
        systems = {"constant reply": constant_replies(cases), "nearest reply": nearest_replies(train, cases)}
        likelihoods = {}
        with self.untuned():
            likelihoods[BASE] = self.negative_log_likelihoods(plain_rows)
            systems[BASE] = self.tutor(plain).reply_to(cases, batch_size=size.batch_size)
        likelihoods[OURS] = self.negative_log_likelihoods(self.rows["test"])
        tutor = self.tutor()
        systems[OURS] = tutor.reply_to(cases, batch_size=size.batch_size)

        results = {"human": human_metrics(cases)} | {name: reply_metrics(cases, said) for name, said in systems.items()}
        if (embed := sentence_encoder_if_there("similarity of meaning")) is not None:
            for name, said in systems.items():
                results[name]["similarity"] = similarity(cases, said, embed)
        perplexity = self._perplexity(likelihoods, plain_rows)
        for name, row in perplexity.items():
            results[name]["perplexity"] = row["perplexity"]
        moves = self._moves(train, cases, systems[OURS])
        if moves is not None:
            results[OURS] |= {"move_accuracy": moves[OURS]["accuracy"], "move_macro_f1": moves[OURS]["macro_f1"]}
        report = {
            "system": OURS, "test": results.pop(OURS), "ablation": {}, "baselines": results,
            "intervals": bleu_intervals(cases, systems, OURS, seed), "perplexity": perplexity, "moves": moves,
            "leaks": leak_report(cases, systems, seed), **self._with_judge(tutor, plain, cases),
        }  # fmt: skip
        if report["obedience"]:
            report["test"]["obedience"] = report["obedience"]["tutor"]["share"]
        return report, {"cases": cases, "replies": systems[OURS]}

    def _perplexity(self, likelihoods: dict[str, np.ndarray], plain_rows) -> dict[str, dict[str, Any]]:
        """Perplexity of the tutors' own turns of test, of each model, drawing problems.

        It is a token of the words and their stop token: what a model pays for writing the move first is counted, the move's
        tokens are not, so that a tutor that names its moves is not praised for them.
        """
        test = self.splits["test"]
        ids = (column_values(test, name) for name in ("problem_id", "dialogue_id"))
        units = [problem or dialogue for problem, dialogue in zip(*ids, strict=True)]
        tokens = np.bincount(column_array(plain_rows, "dialogue"), column_array(plain_rows, "learnt"), minlength=len(test))
        counts = bootstrap_counts(units, BOOTSTRAP_DRAWS, self.args.seed)
        values, drawn = {}, {}
        for name, nats in likelihoods.items():
            rows = plain_rows if name == BASE else self.rows["test"]
            nats = np.bincount(column_array(rows, "dialogue"), nats, minlength=len(test))
            values[name] = float(np.exp(nats.sum() / tokens.sum()))
            drawn[name] = np.exp(counts @ nats / np.maximum(counts @ tokens, 1))
        spans = {name: {"perplexity": value, "interval": list(interval_of(drawn[name]))} for name, value in values.items()}
        spans[BASE]["behind"] = list(interval_of(drawn[OURS] - drawn[BASE]))
        return spans

    def _moves(self, train: Sequence[Case], cases: Sequence[Case], ours: Sequence[Reply]) -> dict[str, Any] | None:
        """How well moves are predicted; None where the data names none."""
        known = any(reply.move for case in cases for reply in case.references)
        if not self.settings.moves or not known:
            return None
        systems = predicted_moves(train, cases, self.args.seed) | {OURS: [reply.move for reply in ours]}
        return {name: move_metrics(cases, moves, self.args.seed) for name, moves in systems.items()}

    def _with_judge(self, tutor: Tutor, plain: TutoringSettings, cases: Sequence[Case]) -> dict[str, Any]:
        """What needs a judge of moves: whether a move that is asked for is made, and a simulated student."""
        held_out = [reply for case in cases_of(self.splits["validation"]) for reply in case.references]
        judge = train_text_classifier([r.text for r in held_out], [r.move for r in held_out], self.args.seed)
        found: dict[str, Any] = {"obedience": None, "student": None}
        if judge is None:
            logger.warning("validation names too few moves to train a judge of them: whether moves are obeyed is not measured.")
            return found
        size, seed = self.size, self.args.seed
        drawn = np.random.default_rng(seed).permutation(len(cases))
        moves = [move for move in self.settings.moves if move in judge.classes_]
        known = any(reply.move for case in cases for reply in case.references)
        if moves and known and size.asked_moves:
            asked = [(cases[i], move) for i in sorted(drawn[: size.asked_moves].tolist()) for move in moves]
            said = tutor.reply_to([case for case, _ in asked], [move for _, move in asked], size.batch_size)
            triples = [(case, move, reply) for (case, move), reply in zip(asked, said, strict=True)]
            found["obedience"] = obedience(triples, judge, cases, moves, seed)
        open_cases = [cases[i] for i in drawn if can_leak(cases[i].dialogue, cases[i].history)][: size.students]
        if open_cases:
            speakers = {OURS: tutor.reply}
            speakers["constant reply"] = lambda dialogues, **_: constant_replies(dialogues)
            found["student"] = {
                name: tutor_a_simulated_student(speak, open_cases, judge, seed=seed) for name, speak in speakers.items()
            }
            with self.untuned():
                base = self.tutor(plain)
                found["student"][BASE] = tutor_a_simulated_student(base.reply, open_cases, judge, seed=seed)
            self.model.eval()
        return found

    def check(self, summary: str, rejected: Sequence[tuple]) -> dict:
        """What `--check_data` prints: counts, rows left out, tokens, the cost of a training. Trains nothing."""
        tokens = {}
        for split, rows in self.rows.items():
            length, learnt = column_array(rows, "length"), int(column_array(rows, "learnt").sum())
            tokens[split] = {"rows": len(rows), "tokens": int(length.sum()), "learnt": learnt, "longest": int(length.max())}
            tokens[split]["shortened"] = self._shortened(rows)
        return report.print_check(summary, rejected, {**tokens, "training": self.estimate_cost()})

    @staticmethod
    def _shortened(rows: Dataset) -> int:
        """How many rows had turns left out before them."""
        return int((column_array(rows, "shortened") > 0).sum())

    def save_run(self, results: dict, predictions: dict[str, Any], facts: dict, merge_adapter: bool) -> dict[str, Any]:
        """Save the tutor with all it needs and write the report; the content of metrics.json is returned.

        Args:
            results: See `score_beside_baselines`.
            predictions: Likewise.
            facts: What the report says beside: options, cost, data (`DialogueDataset.facts`), search and folds.
            merge_adapter: Save an adapter merged into its base.
        """
        output, settings, cases = Path(self.args.output_dir), self.settings, predictions["cases"]
        protocol = {"dataset": facts["dataset_name"], "split": facts["split_protocol"], "seed": self.args.seed}
        protocol |= {k: facts[k] for k in ("rows", "left_out", "warnings", "split_by", "moves")}
        learnt = int(column_array(self.rows["train"], "learnt").sum())
        protocol |= {"replied_to": len(cases), "learnt_tokens": learnt, "packed": self.packed, "histories_shared": self.shared}
        protocol |= {"replies_found_by": settings.replies_found_by, "base_quantization": self.checkpoint.quantization}
        protocol |= {"shortened": {s: self._shortened(rows) for s, rows in self.rows.items()}}
        protocol |= {"generation": "greedy", "max_new_tokens": settings.max_new_tokens}
        studies = {k: facts[k] for k in ("search", "cross_validation") if k in facts}
        metrics = {**results, "cost": self.whole_cost(facts["cost"]), "protocol": protocol, **studies}
        if not self.is_world_process_zero():
            return metrics
        columns = {"dialogue_id": [case.dialogue["dialogue_id"] for case in cases]}
        columns |= {"turn": [len(case.history) + 1 for case in cases]}
        columns |= reply_columns([case.dialogue | {"turns": case.history} for case in cases], predictions["replies"])
        columns |= {"moves_of_people": [";".join(dict.fromkeys(r.move for r in c.references if r.move)) for c in cases]}
        columns |= {"problem_id": [case.dialogue["problem_id"] for case in cases]}
        facts = self.save_results("qa_tutoring", asdict(settings), metrics, columns, facts, merge_adapter)
        tutoring_report.draw_report(output / "figures", results)
        tutoring_report.write_tutoring_card(
            output,
            {**facts, **asdict(settings), "results": results, "protocol": protocol, "quantization": self.checkpoint.quantization},
        )
        self.remove_checkpoints_when_done()
        tables = tutoring_report.tables(results, studies).values()
        print("", *(report.as_text(t) for t in tables if t), report.verdict(results, tutoring_report.METRIC), sep="\n\n")
        print(f"\nSaved in {self.args.output_dir}")
        return metrics

    def publish(self) -> None:
        """`publish_run` with some of the test cases."""
        cases = cases_of(self.splits["test"], 8, self.args.seed)
        dialogues = [
            case.dialogue | {"turns": [{k: t[k] for k in ("role", "text", "move")} for t in case.history]} for case in cases
        ]
        self.publish_run(load, "qa_tutoring", {"dialogues": dialogues})


def reply_columns(dialogues: Sequence[dict], replies: Sequence[Reply]) -> dict[str, list]:
    """The columns that predictions.csv and predict.py write: move, reply, gives_away (true, false; '' where nothing could be)."""
    given = [
        str(leaks(dialogue, reply.text)).lower() if can_leak(dialogue, dialogue["turns"]) else ""
        for dialogue, reply in zip(dialogues, replies, strict=True)
    ]
    return {"move": [r.move for r in replies], "reply": [r.text for r in replies], "gives_away": given}


# ---- the tutor that anyone loads ------------------------------------------------------------------------------------


@dataclass
class Tutor:
    """A trained tutor: model, settings, tokenizer."""

    model: PreTrainedModel
    settings: TutoringSettings
    tokenizer: PreTrainedTokenizerBase

    def reply(
        self, dialogues: Sequence[dict], moves: Sequence[str | None] | None = None, batch_size: int = 16,
        temperature: float = 0.0, seed: int = 0,
    ) -> list[Reply]:  # fmt: skip
        """The tutor's next turn in each dialogue.

        Args:
            dialogues: {"turns": [{"role": "learner" or "tutor", "text": ..., "move": ...}, ...], and what is known of "problem",
                "solution", "context", "profile", "mastery"}; the last turn is the learner's.
            moves: The move that is asked for, one a dialogue; None leaves it to the tutor.
            batch_size: Dialogues a batch; the replies do not depend on it.
            temperature: 0 always says the most probable.
            seed: Of the draws above 0.

        Raises:
            ConfigurationError: The tutor does not know the move, or a dialogue does not fit into its window.
        """
        settings = self.settings
        wanted = list(moves) if moves is not None else [None] * len(dialogues)
        prompts = [
            encode_history(dialogue, dialogue["turns"], settings, self.tokenizer, number)
            for number, dialogue in enumerate(dialogues)
        ]
        known = {move: beginnings(settings, self.tokenizer, move) for move in dict.fromkeys(wanted)}
        written = generate_replies(
            self.model, prompts, stop=settings.stop, pad_token_id=self.tokenizer.pad_token_id,
            max_new_tokens=settings.max_new_tokens, batch_size=batch_size, beginnings=[known[move] for move in wanted],
            temperature=temperature, seed=seed,
        )  # fmt: skip
        texts = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        replies = (split_move(text) if settings.moves else ("", text.strip()) for text in texts)
        finished = [len(tokens) < settings.max_new_tokens for tokens in written]  # the stop token is not among them
        return [Reply(text, move, end) for (move, text), end in zip(replies, finished, strict=True)]

    def reply_to(self, cases: Sequence[Case], moves: Sequence[str | None] | None = None, batch_size: int = 16) -> list[Reply]:
        """`reply` to the cases of an evaluation, each after what people said before it."""
        return self.reply([case.dialogue | {"turns": case.history} for case in cases], moves, batch_size)

    def predict_columns(self, dialogues: Sequence[dict], moves: Sequence[str | None] | None = None, batch_size: int = 16) -> dict:
        """What predict.py writes, see `reply_columns`."""
        return reply_columns(dialogues, self.reply(dialogues, moves, batch_size))


def load(name: str | Path, revision: str = "main", trust_remote_code: bool = False) -> Tutor:
    """Load a trained tutor: a folder or a Hub id, whole or an adapter.

    Raises:
        ConfigurationError: It is no tutor, or cannot be loaded.
    """
    checkpoint = find_checkpoint(str(name), revision)
    artifact = load_artifact(checkpoint, "qa_tutoring")
    settings = artifact.read_settings(TutoringSettings)
    tokenizer = load_tokenizer(checkpoint, trust_remote_code)
    model = load_trained_language_model(checkpoint, trust_remote_code)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Tutor(model.eval().to(device), settings, tokenizer)


def probe(tutor: Tutor) -> dict[str, list]:
    """Dialogues of nobody, on which a published model is compared with the one here."""
    first = [{"role": "learner", "text": "I think 1/2 + 1/3 is 2/5.", "move": ""}]
    then = [
        *first,
        {"role": "tutor", "text": "Is 2/5 more than 1/2?", "move": ""},
        {"role": "learner", "text": "No.", "move": ""},
    ]
    exercise = {"problem": "Work out 1/2 + 1/3.", "solution": "5/6"}
    return {"dialogues": [exercise | {"turns": first}, exercise | {"turns": then}]}
