"""Content generation: the Trainer, its report, and the writer of questions that anyone loads."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict, Features
from transformers import PreTrainedTokenizerBase

from . import generation_report, report
from .answering_evaluation import answer_intervals
from .artifact import load_artifact
from .baselines.content_generation import generation_baselines
from .candidate_ranking import fit_weights, rank
from .checkpoints import find_checkpoint, load_tokenizer
from .columns import column_array, column_values, first_rows, hashes_of
from .distractors import distractor_report, other_answers
from .generation_evaluation import (
    attribute_accuracy,
    gain,
    level_shares,
    map_at,
    question_metrics,
    question_values,
    refused_shares,
    set_metrics,
)
from .generation_settings import ANSWER, DISTRACTOR, TOKENS, GenerationSettings, encode
from .language_models.loading import load_trained_language_model
from .language_models.packing import shares_beginnings
from .language_models.sampling import Sampling
from .language_models.seq2seq import Seq2SeqCollator, written_token_losses
from .language_models.trainer import LanguageModelTrainer
from .metrics.embeddings import sentence_encoder_if_there
from .metrics.replies import check_sacrebleu
from .parser import ConfigurationError
from .question_writer import QuestionWriter, load_question_reader, reader_name
from .reading_level import LEVELS, check_pyphen

logger = logging.getLogger(__name__)

OURS, GREEDY, BASE = "writer", "most probable question", "base model"
METRIC = "rouge_l"


@dataclass
class EvaluationSize:
    """How much is written for the evaluation.

    Attributes:
        candidates: Questions written for each that is kept.
        questions: Questions of the test split to write; None for all.
        ranking_questions: Questions of the validation split on which the ranking is fitted.
        asked_levels: Test questions for which each reading level is asked for.
        batch_size: Candidates a batch.
    """

    candidates: int = 5
    questions: int | None = None
    ranking_questions: int = 60
    asked_levels: int = 40
    batch_size: int = 64

    def __post_init__(self):
        for name, least in (("candidates", 1), ("test_questions", 1), ("ranking_questions", 0)):
            value = self.questions if name == "test_questions" else getattr(self, name)
            if value is not None and value < least:
                raise ConfigurationError(f"--{name} is {value}; expected a whole number from {least} on.")


class ContentGenerationTrainer(LanguageModelTrainer):
    """Trains a stock language model to write questions about a text; see `generation_settings` for what it reads.

    Requests about one text share a row in which the text stands once, where the model's attention allows it.

    Args:
        settings: The layout; gets the fitted weights of the ranking.
        splits: train, validation and test with the columns of `edu_datasets.schema.PASSAGES`.
        attribute_names: Names of the entries of the column attributes.
        size: Of the evaluation.
        share_texts: Let requests about one text share it.
        qa_model: A trained reader for the round trip, see `load_question_reader`.
        workers: Processes that turn texts into tokens; None for this one.
        kwargs: As for `LanguageModelTrainer`.

    Raises:
        ConfigurationError: sacrebleu or pyphen is missing, no question of a split has an answer, or a text does not fit into
            `max_length`.
    """

    def __init__(self, *, settings: GenerationSettings, splits: DatasetDict, attribute_names: Sequence[str],
                 size: EvaluationSize, share_texts: bool = True, qa_model: str | None = None, workers: int | None = None,
                 **kwargs):  # fmt: skip
        check_sacrebleu(), check_pyphen()
        model, tokenizer = kwargs["model"], kwargs["processing_class"]
        most = getattr(model.config, "max_position_embeddings", None)
        if most is not None and settings.max_length > most:
            raise ConfigurationError(f"--max_length is {settings.max_length:,}; the model reads {most:,} tokens at most.")
        self.size, self.qa_model, self.reader = size, qa_model, load_question_reader(qa_model)
        self.settings, self.attribute_names = settings, list(attribute_names)
        answerable = {s: np.flatnonzero(column_array(rows, "answerable")) for s, rows in splits.items()}
        self.splits = DatasetDict({s: rows.select(answerable[s]) for s, rows in splits.items()})
        self.row_column, self._written_for = "rows", answerable["train"]
        self.without_answer = sum(len(rows) for rows in splits.values()) - sum(len(rows) for rows in self.splits.values())
        if empty := [split for split, rows in self.splits.items() if not len(rows)]:
            raise ConfigurationError(
                f"no question of {' and '.join(empty)} has an answer, and each question is written for one. Name the column with "
                "--answer_column."
            )
        packing = kwargs.pop("packing", True) and not settings.encoder_decoder
        self.shared = share_texts and packing and shares_beginnings(model)
        if share_texts and packing and not self.shared:
            logger.warning("this architecture does not let requests share a text: each reads it anew.")
        self.workers, seed = workers, kwargs["args"].seed
        self.rows = {split: self._encode(self.splits[split], tokenizer, seed, split) for split in ("train", "validation")}
        longest = max(column_array(rows, "longest").max() for rows in self.rows.values())
        if most is not None and longest > most:
            raise ConfigurationError(
                f"a request has {longest:,} tokens, and the model reads {most:,}. Does --answer_column hold answers?"
            )
        super().__init__(
            stop=settings.stop, packing=packing, train_dataset=self.rows["train"], eval_dataset=self.rows["validation"], **kwargs
        )
        if settings.encoder_decoder:
            self.model_inputs = ("input_ids", "attention_mask", "decoder_input_ids")
            self.data_collator = Seq2SeqCollator(tokenizer.pad_token_id, model.config.decoder_start_token_id)

    def _encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase, seed: int, name: str) -> Dataset:
        """`encode` of a split, texts in the order in which they stand first."""
        order = np.arange(len(rows))
        if self.shared:
            order = np.argsort(first_rows(hashes_of(column_values(rows, "context"))), kind="stable")
        rows = rows.select_columns(["context", "question", "answers", "attributes", "distractors"]).select(order)
        told = {"numbers": order, "names": self.attribute_names, "tokenizer": tokenizer, "settings": self.settings}
        return rows.map(
            encode, batched=True, with_indices=True, remove_columns=rows.column_names,
            features=Features({name: kind for name, kind in TOKENS.items() if self.shared or name != "positions"}),
            fn_kwargs={**told, "share": self.shared, "seed": seed}, num_proc=self.workers, desc=f"tokens of {name}",
        )  # fmt: skip

    @property
    def shortened(self) -> int:
        """How many texts of training and validation lost sentences."""
        return sum(int(column_array(rows, "shortened").sum()) for rows in self.rows.values())

    def rows_of_update(self, update: int, processes: Sequence[int]) -> list[int]:
        return self._written_for[super().rows_of_update(update, processes)].tolist()

    def loss_terms(self, model, inputs):
        if not self.settings.encoder_decoder:
            return super().loss_terms(model, inputs)
        losses, rows = written_token_losses(model, inputs)
        by_row = torch.zeros(len(inputs["label_counts"]), device=losses.device).index_add(0, rows, losses.detach())
        return losses.sum(), torch.tensor(len(losses), device=losses.device), SimpleNamespace(logits=by_row)

    # ---- after training -----------------------------------------------------------------------------------------------

    def writer(self) -> QuestionWriter:
        """The writer as it is now, as `load` will give it."""
        names = self.attribute_names
        return QuestionWriter(
            self.model.eval(), self.settings, self.processing_class, self.reader, self.qa_model is not None, names
        )

    def score_beside_baselines(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Fit the ranking on validation, then write for test once, beside people, the baselines and the base model.

        Returns:
            The report: "system", "test", "ablation" (without re-ranking), "baselines", "intervals" (of ROUGE-L, drawn by story),
            "gain" of re-ranking, "sets" (duplicates, Self-BLEU, MAP@N), "refused", "attributes", "levels", "distractors"; None
            where the data does not allow it. And "rows" and "ranked" of test.
        """
        size, seed, names = self.size, self.args.seed, self.attribute_names
        held = _drawn(self.splits["validation"], size.ranking_questions, seed)
        writer, embed = self.writer(), sentence_encoder_if_there("similarity of meaning, and of distractors anything,")
        sampling = Sampling(size.candidates, max_new_tokens=self.settings.max_new_tokens, seed=seed)
        self.settings.weights = fit_weights(writer.write(held, sampling, size.batch_size), [row["question"] for row in held])

        test = _drawn(self.splits["test"], size.questions, seed)
        raw = writer.write(test, sampling, size.batch_size)
        ranked = [rank(row, self.settings.weights) for row in raw]
        asked = {OURS: [row[0].question for row in ranked], GREEDY: [row[0].question for row in raw]}
        with self.untuned():
            plain = QuestionWriter(self.model.eval(), self.settings, self.processing_class, self.reader, False, names)
            once = Sampling(max_new_tokens=self.settings.max_new_tokens)
            asked[BASE] = [row[0].question for row in plain.write(test, once, size.batch_size)]
        self.model.eval()
        control = names.index(first) if (first := next(iter(self.settings.controls), None)) else None
        rows = Dataset.from_list(test, features=self.splits["test"].features)
        baselines = generation_baselines(self.splits["train"], rows, control, seed)
        systems = {"human": [row["question"] for row in test]} | baselines | {name: asked[name] for name in (BASE, GREEDY, OURS)}

        values = {name: question_values(own, test, self.reader) for name, own in systems.items()}
        table = {name: question_metrics(own, test, values[name], embed, name == "human") for name, own in systems.items()}
        stories = [row["story_id"] for row in test]
        leading = {name: own[METRIC] for name, own in values.items() if name != "human"}
        result = {
            "system": OURS, "metric": METRIC, "questions": len(test), "test": table.pop(OURS),
            "ablation": {GREEDY: table.pop(GREEDY)}, "baselines": table,
            "intervals": answer_intervals(leading, stories, OURS, seed),
            "gain": gain(values[OURS], values[GREEDY], stories, seed),
            "sets": set_metrics(raw, ranked), "refused": refused_shares(ranked),
            "map_at": {OURS: map_at([[c.question for c in row if not c.reason] for row in ranked], test)}
            | {name: map_at([[q] for q in systems[name]], test) for name in (GREEDY, *baselines)},
            "attributes": attribute_accuracy(
                systems, test, names, self.settings.controls, list(self.splits["validation"]), seed
            ),
            "levels": self._levels(writer, test), "distractors": self._distractors(writer, embed, sampling),
            "from_texts_alone": self._from_texts_alone(writer, test, sampling),
        }  # fmt: skip
        for name in ("duplicates", "self_bleu"):
            result["test"][name] = result["sets"][name]
        return result, {"rows": test, "ranked": ranked}

    def _levels(self, writer: QuestionWriter, test: list[dict]) -> dict[str, dict[str, float]] | None:
        """Reading levels of the most probable questions, asked for and not."""
        if not self.settings.reading_levels or not self.size.asked_levels:
            return None
        rows, once = test[: self.size.asked_levels], Sampling(max_new_tokens=self.settings.max_new_tokens)
        told = {level: writer.write(rows, once, self.size.batch_size, level=level) for level in ("", *LEVELS)}
        return level_shares({level: [row[0].question for row in own] for level, own in told.items()})

    def _distractors(self, writer: QuestionWriter, embed, sampling: Sampling) -> dict[str, dict] | None:
        """What the checks say of wrong answers, people's and ours, on the test questions that have some."""
        rows = _drawn(self.splits["test"].filter(lambda row: len(row["distractors"]) > 0), self.size.questions, self.args.seed)
        if not rows or embed is None:
            return None
        checks, seed = writer.distractor_checks(embed), self.args.seed
        asked = [[row[name] for row in rows] for name in ("context", "question", "answers")]
        chosen = writer.distractors(*asked, checks, 3, sampling)
        stories = [row["story_id"] for row in rows]
        systems = {"human": [row["distractors"] for row in rows], "chosen among many": [choice.chosen for choice in chosen]}
        if DISTRACTOR in self.settings.written:
            systems["first that were written"] = [list(dict.fromkeys(own))[:3] for own in writer.wrong_answers(*asked, sampling)]
        systems["answers to other stories"] = other_answers(asked[2], stories, 3, seed)
        return distractor_report(checks, *asked, systems, stories, seed)

    def _from_texts_alone(self, writer: QuestionWriter, test: list[dict], sampling: Sampling) -> dict[str, float] | None:
        """MAP@N where the writer also chooses the answers, which people's questions do not tell."""
        if ANSWER not in self.settings.written:
            return None
        texts = list(dict.fromkeys(row["context"] for row in test))
        quiz = writer.questions(texts, max(5, sampling.count), sampling)
        told = {text: [item.question for item in own if not item.reason] for text, own in zip(texts, quiz, strict=True)}
        return map_at([told[row["context"]] for row in test], test)

    def check(self, summary: str, rejected: Sequence[tuple]) -> dict[str, Any]:
        """What `--check_data` prints: counts, rows left out, tokens, the cost of a training. Trains nothing."""
        tokens = {}
        for split, rows in self.rows.items():
            length, learnt = column_array(rows, "length"), int(column_array(rows, "learnt").sum())
            tokens[split] = {"rows": len(rows), "tokens": int(length.sum()), "learnt": learnt, "longest": int(length.max())}
        tokens["questions"] = {"left out because they have no answer": self.without_answer}
        tokens["texts"] = {"shortened": self.shortened, "read once for all questions": str(self.shared).lower()}
        return report.print_check(summary, rejected, {**tokens, "training": self.estimate_cost()})

    def save_run(self, results: dict, predictions: dict[str, Any], facts: dict, merge_adapter: bool) -> dict[str, Any]:
        """Save the writer with all it needs and write the report; the content of metrics.json is returned.

        Args:
            results: See `score_beside_baselines`.
            predictions: Likewise.
            facts: What the report says beside: options, cost, data (`PassageDataset.facts`), search and folds.
            merge_adapter: Save an adapter merged into its base.
        """
        output, settings = Path(self.args.output_dir), self.settings
        protocol = {"dataset": facts["dataset_name"], "split": facts["split_protocol"], "seed": self.args.seed}
        protocol |= {k: facts[k] for k in ("rows", "left_out", "warnings", "attributes")}
        learnt = int(column_array(self.rows["train"], "learnt").sum())
        protocol |= {"written": settings.written, "learnt_tokens": learnt, "texts_shared": self.shared}
        protocol |= {"base_quantization": self.checkpoint.quantization, "shortened_texts": self.shortened}
        protocol |= {"without_answer": self.without_answer, "ranking_questions": self.size.ranking_questions}
        protocol |= {"candidates": self.size.candidates, "ranking": settings.weights, "round_trip": reader_name(self.qa_model)}
        studies = {k: facts[k] for k in ("search", "cross_validation") if k in facts}
        metrics = {**results, "cost": self.whole_cost(facts["cost"]), "protocol": protocol, **studies}
        if not self.is_world_process_zero():
            return metrics
        rows, ranked = predictions["rows"], predictions["ranked"]
        columns = {"question_id": [row["question_id"] for row in rows], "question": [own[0].question for own in ranked]}
        columns |= {"kept": [str(not own[0].reason).lower() for own in ranked], "reason": [own[0].reason for own in ranked]}
        columns |= {name: [round(own[0].scores[name], 4) for own in ranked] for name in ranked[0][0].scores}
        columns |= {"story_id": [row["story_id"] for row in rows]}
        facts = self.save_results("content_generation", asdict(settings), metrics, columns, facts, merge_adapter)
        generation_report.draw_report(output / "figures", results)
        generation_report.write_generation_card(
            output,
            {**facts, **asdict(settings), "results": results, "protocol": protocol, "quantization": self.checkpoint.quantization},
        )
        self.remove_checkpoints_when_done()
        tables = generation_report.tables(results, studies).values()
        print("", *(report.as_text(t) for t in tables if t), report.verdict(results, METRIC), sep="\n\n")
        print(f"\nSaved in {self.args.output_dir}")
        return metrics

    def publish(self) -> None:
        """`publish_run` with some of the test questions."""
        rows = _drawn(self.splits["test"], 8, self.args.seed)
        texts = {
            "contexts": [row["context"] for row in rows],
            "answers": [row["answers"][0] if row["answers"] else "" for row in rows],
        }
        self.publish_run(load, "content_generation", texts)


def _drawn(rows: Dataset, count: int | None, seed: int) -> list[dict]:
    """Some rows drawn at random, in their order; all where `count` is None."""
    if count is None or count >= len(rows):
        return list(rows)
    return list(rows.select(sorted(np.random.default_rng(seed).permutation(len(rows))[:count].tolist())))


# ---- the writer that anyone loads -------------------------------------------------------------------------------------


def load(
    name: str | Path, revision: str = "main", trust_remote_code: bool = False, qa_model: str | None = None
) -> QuestionWriter:
    """Load a trained writer: a folder or a Hub id, whole or an adapter.

    Args:
        name: Which.
        revision: Branch, tag or commit on the Hub.
        trust_remote_code: Run code that its repository brings.
        qa_model: A trained reader that tries to answer what is written.

    Raises:
        ConfigurationError: It is no writer, or cannot be loaded.
    """
    checkpoint = find_checkpoint(str(name), revision)
    settings = load_artifact(checkpoint, "content_generation").read_settings(GenerationSettings)
    check_pyphen()
    tokenizer = load_tokenizer(checkpoint, trust_remote_code)
    model = load_trained_language_model(checkpoint, trust_remote_code)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return QuestionWriter(model.eval().to(device), settings, tokenizer, load_question_reader(qa_model), qa_model is not None)


def probe(writer: QuestionWriter) -> dict[str, list]:
    """Texts of nobody, on which a published model is compared with the one here."""
    text = "The mill was built in 1342. Monks ground their barley there and charged farmers one sack in sixteen."
    return {"contexts": [text, text], "answers": ["monks", "one sack in sixteen"]}
