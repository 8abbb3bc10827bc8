"""Write questions with a model of recipes/content_generation.py.

The file has a column with texts (--context_column), and, where the answers are known, one with the answer (--answer_column); a
row is then a question. Without it the model finds answers worth asking for, --questions_per_text for each text. The output has a
row a question: the answer, the wrong options, whether it may stand, and why not. --quiz_format writes those that may stand as a
quiz too: csv, gift (Moodle), moodle_xml or qti (QTI 2.1). A teacher approves it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edu_datasets import PassageColumns, read_passages
from trainers import report
from trainers.content_generation import load
from trainers.language_models.sampling import Sampling
from trainers.metrics.embeddings import sentence_encoder
from trainers.parser import ConfigurationError
from trainers.question_writer import QuizItem
from trainers.quiz_formats import FORMATS, QuizQuestion, write_quiz

from . import PredictArguments

logger = logging.getLogger(__name__)


@dataclass
class Arguments:
    """What to write."""

    _argument_group_name = "content generation"

    context_column: str = field(default="context", metadata={"help": "column with the text"})
    answer_column: list[str] = field(
        default_factory=list, metadata={"help": "columns with the accepted answers; the model finds answers where not given"}
    )
    questions_per_text: int = field(default=5, metadata={"help": "questions for a text, where the model finds the answers"})
    candidates: int = field(default=8, metadata={"help": "questions written for each that is kept"})
    control: list[str] = field(default_factory=list, metadata={"help": "what to ask for, such as attribute=character"})
    reading_level: str = field(default="", metadata={"help": "easy, medium or hard; any where not given"})
    distractors: int = field(default=3, metadata={"help": "wrong options of a question at most; 0 for short answers"})
    qa_model: str | None = field(default=None, metadata={"help": "a trained reader that tries to answer what is written"})
    quiz_format: str | None = field(default=None, metadata={"help": "write a quiz too: csv, gift, moodle_xml or qti"})
    quiz_title: str = field(default="Quiz", metadata={"help": "what the quiz is called"})
    temperature: float = field(default=1.0, metadata={"help": "of the draws; higher is more varied"})
    seed: int = field(default=42, metadata={"help": "of the draws"})

    def __post_init__(self):
        if self.quiz_format is not None and self.quiz_format not in FORMATS:
            raise ConfigurationError(f"--quiz_format is {self.quiz_format}; expected one of {', '.join(FORMATS)}.")
        for name, least in (("questions_per_text", 1), ("candidates", 1), ("distractors", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ConfigurationError(f"--{name} is {getattr(self, name)}; expected a whole number from {least} on.")
        if self.temperature <= 0:
            raise ConfigurationError(f"--temperature is {self.temperature}; expected more than 0.")
        for control in self.control:
            if "=" not in control:
                raise ConfigurationError(f"--control {control}: expected a name and a value, such as attribute=character.")


def predict(args: PredictArguments, own: Arguments) -> Sequence[tuple]:
    """A row a question; returns the rows that were left out."""
    columns = PassageColumns(own.context_column, answers=tuple(own.answer_column), question_id=args.id_column)
    texts, rows, rejected = read_passages(
        args.input_file,
        columns,
        args.file_encoding,
        args.separator,
        args.skip_bad_rows,
        need_question=False,
        need_answers=bool(own.answer_column),
    )
    embed = sentence_encoder() if own.distractors else None  # what is missing is told before anything is written
    writer = load(args.model, args.model_revision, args.trust_remote_code, own.qa_model)
    answers = texts["answers"][:] if own.answer_column else None
    if answers and not all(answers):
        empty = rows[[bool(known) for known in answers].index(False)]
        raise ConfigurationError(
            f"{Path(args.input_file).name}, row {empty}, column {own.answer_column[0]}: there is no answer; expected one in each "
            "row, or no --answer_column."
        )
    sampling = Sampling(own.candidates, own.temperature, max_new_tokens=writer.settings.max_new_tokens, seed=own.seed)
    contexts, controls = texts["context"][:], dict(control.split("=", 1) for control in own.control)
    told = writer.questions(
        contexts, own.questions_per_text, sampling, answers, controls, own.reading_level, max(args.batch_size, own.candidates)
    )
    items = [(row, item) for row, quiz in enumerate(told) for item in quiz]
    if own.quiz_format == "gift":
        for _, item in items:
            item.reason = item.reason or "GIFT cannot hold an arrow in an answer" * any("->" in answer for answer in item.answers)
    kept = [(row, item) for row, item in items if not item.reason]
    name = Path(args.input_file).name
    rejected += [(name, rows[row], "no answer worth asking for was found") for row, quiz in enumerate(told) if not quiz]
    if embed is not None and kept:
        checks = writer.distractor_checks(embed)
        asked = ([contexts[row] for row, _ in kept], [item.question for _, item in kept], [item.answers for _, item in kept])
        choices = writer.distractors(*asked, checks, own.distractors, sampling, args.batch_size)
        for (_, item), choice in zip(kept, choices, strict=True):
            item.distractors = choice
    ids = texts["question_id"][:] if args.id_column else rows
    report.write_csv(args.output_file, _columns(items, ids))
    if own.quiz_format:
        path = Path(args.output_file).with_suffix(FORMATS[own.quiz_format])
        path = path.with_stem(f"{path.stem}_quiz") if path == Path(args.output_file) else path
        if not kept:
            path.unlink(missing_ok=True)  # an earlier run's
            logger.warning("no question may stand: there is no quiz, and %s says why.", Path(args.output_file).name)
            return rejected
        numbered = enumerate(kept, start=1)
        write_quiz(path, [_quiz_question(contexts[row], item, own.quiz_title, n) for n, (row, item) in numbered], own.quiz_format,
                   own.quiz_title)  # fmt: skip
    return rejected


def _columns(items: Sequence[tuple[int, QuizItem]], ids: Sequence) -> dict[str, list]:
    """The columns of the output."""
    chosen = [item.distractors.chosen if item.distractors else [] for _, item in items]
    refused = [item.distractors.rejected if item.distractors else [] for _, item in items]
    return {
        "text_id": [ids[row] for row, _ in items],
        "question": [item.question for _, item in items],
        "answer": [item.answers[0] for _, item in items],
        "distractors": [" | ".join(own) for own in chosen],
        "kept": [str(not item.reason).lower() for _, item in items],
        "reason": [item.reason for _, item in items],
        "rejected_distractors": [" | ".join(f"{text} ({reason})" for text, reason in own) for own in refused],
        **{name: [round(item.scores[name], 4) for _, item in items] for name in (items[0][1].scores if items else ())},
    }


def _quiz_question(context: str, item: QuizItem, title: str, number: int) -> QuizQuestion:
    chosen = tuple(item.distractors.chosen) if item.distractors else ()
    return QuizQuestion(item.question, tuple(item.answers), chosen, context, f"{title} {number}", tags=("generated",))
