"""Tell what learners can do, with a model of recipes/knowledge_tracing.py.

The file is a log with an answer a row (--learner_column, --concept_column, --correct_column ...). The output has a row a
learner and concept: the probability of a correct answer now, its 90% interval, and how many answers were seen; mastery.png
beside it is the same as a heat map.
"""

from collections.abc import Sequence
from pathlib import Path

from edu_datasets import ResponseColumns
from edu_datasets.responses import number_answers, read_log
from trainers import report, tracing_report
from trainers.arguments import AnswerLogArguments
from trainers.knowledge_tracing import load

from . import PredictArguments


class Arguments(AnswerLogArguments):
    """The columns of the log."""

    _argument_group_name = "knowledge tracing"


def predict(args: PredictArguments, own: Arguments) -> Sequence[tuple]:
    """A row a learner and concept; returns the rows that were left out."""
    columns = ResponseColumns(own.learner_column, own.correct_column, own.concept_column, own.question_column, own.time_column)
    log = read_log(args.input_file, columns, args.file_encoding, args.separator, own.sort_by_time, args.skip_bad_rows)
    tracer = load(args.model, args.model_revision, args.trust_remote_code)
    mastery = tracer.mastery(number_answers(log, tracer.settings.concepts, tracer.settings.questions))
    report.write_csv(args.output_file, mastery)
    tracing_report.draw_mastery(Path(args.output_file).with_suffix(".png"), mastery, tracer.settings.concepts)
    return log.rejected
