"""A log with an answer a row; whether it was right is the truth, and is always there."""

from typing import Any

from edu_datasets import DataError, ResponseColumns
from edu_datasets.responses import number_answers, read_log
from trainers.arguments import AnswerLogArguments
from trainers.knowledge_tracing import KnowledgeTracer

from . import FileArguments, NewData


class Arguments(AnswerLogArguments):
    """The columns of the log."""

    _argument_group_name = "knowledge tracing"


def read(path: str, args: FileArguments, own: Any, tracer: KnowledgeTracer) -> NewData:
    """Read a log for a tracer. Concepts that it does not know are taken out, and how many there were is told for each learner.

    Raises:
        DataError: It cannot be read, or the tracer knows none of its concepts.
    """
    columns = ResponseColumns(own.learner_column, own.correct_column, own.concept_column, own.question_column, own.time_column)
    log = read_log(path, columns, args.file_encoding, args.separator, own.sort_by_time, args.skip_bad_rows)
    trained, unknown = set(tracer.settings.concepts), []
    for learner, answers in list(log.learners.items()):
        kept = [(*a[:2], [c for c in a[2] if c in trained], *a[3:]) for a in answers]
        kept = [a for a in kept if a[2]]
        if kept:
            log.learners[learner] = kept
            unknown.append(1 - len(kept) / len(answers))
        else:
            del log.learners[learner]
    if not log.learners:
        raise DataError(
            "the model was trained on none of the concepts.", file=path, column=own.concept_column,
            expected="some of its concepts; they stand in edu_recipes.json",
        )  # fmt: skip
    rows = number_answers(log, tracer.settings.concepts, tracer.settings.questions)
    inputs = {name: rows[name][:] for name in ("questions", "concepts", "correct", "times")}
    lengths = [len(c) for c in inputs["correct"]]
    known = {
        "learner_id": [i for i, n in zip(rows["learner_id"][:], lengths, strict=True) for _ in range(n)],
        "step": [s for n in lengths for s in range(1, n + 1)], "correct": [v for c in inputs["correct"] for v in c],
        "unknown_concepts": [u for u, n in zip(unknown, lengths, strict=True) for _ in range(n)],
    }  # fmt: skip
    return NewData(inputs, known, True, len(log.rejected))
