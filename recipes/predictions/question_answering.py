"""Answer questions with a model of recipes/question_answering.py.

The file has a column with the text (--context_column) and one with the question (--question_column). The output has a row a
question: the answer, where it stands in the text (answer_start, answer_end, in characters from 0 on), how likely it is right,
and whether the model abstained. --explain also writes a page (.html) with the answers marked in the texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edu_datasets import PassageColumns, read_passages
from trainers import answering_report, report
from trainers.question_answering import load

from . import PredictArguments


@dataclass
class Arguments:
    """The columns of the file."""

    _argument_group_name = "question answering"

    context_column: str = field(default="context", metadata={"help": "column with the text that is asked about"})
    question_column: str = field(default="question", metadata={"help": "column with the question"})


def predict(args: PredictArguments, own: Arguments) -> Sequence[tuple]:
    """A row a question; returns the rows that were left out."""
    columns = PassageColumns(own.context_column, own.question_column, answers=(), question_id=args.id_column)
    asked, rows, rejected = read_passages(args.input_file, columns, args.file_encoding, args.separator, args.skip_bad_rows)
    reader = load(args.model, args.model_revision, args.trust_remote_code)
    contexts, questions = asked["context"][:], asked["question"][:]
    answers = reader.predict_columns(contexts, questions, args.batch_size)
    ids = asked["question_id"][:] if args.id_column else rows
    report.write_csv(args.output_file, {"question_id": ids, **answers})
    if args.explain:
        page = Path(args.output_file).with_suffix(".html")
        answering_report.write_marked_texts(page, ids, questions, contexts, answers)
    return rejected
