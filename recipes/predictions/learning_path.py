"""Propose learning paths with a model of recipes/learning_path.py, or judge pairs of concepts.

The file is a log with an answer a row (--learner_column, --concept_column, --correct_column ...), and --goal names what the
learner is to master. The output has a row a step of each learner's path: the concept, how many questions on it, its estimated
mastery and why it is there; a .png beside it draws the first learner's path. --mastery_file (learner_id, concept, mastery, as
knowledge tracing writes it) takes the place of the estimate, --mastered says what a teacher knows to be mastered, --skip leaves
concepts out. A learner for whom there is no path has a row with step 0 and the reason. Without --goal the file has pairs of
concepts or of texts (--before_column, --after_column), and the output says how likely the first is a prerequisite of the second.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edu_datasets import DataError, ResponseColumns, read_mastery
from edu_datasets.files import as_text, check_names, read_table
from edu_datasets.responses import number_answers, read_log
from trainers import path_report, report
from trainers.arguments import AnswerLogArguments
from trainers.learning_path import UnreachableGoal, load
from trainers.parser import ConfigurationError

from . import PredictArguments


@dataclass
class Arguments(AnswerLogArguments):
    """The columns of the file, and where the learners are to come."""

    _argument_group_name = "learning path"

    goal: list[str] = field(default_factory=list, metadata={"help": "concepts that the learners are to master"})
    mastery_file: str | None = field(default=None, metadata={"help": "table with learner_id, concept, mastery (0 to 1)"})
    mastered: list[str] = field(default_factory=list, metadata={"help": "concepts that count as mastered, whatever was answered"})
    skip: list[str] = field(default_factory=list, metadata={"help": "concepts that are not to be on a path"})
    steps: int | None = field(default=None, metadata={"help": "questions of a path at most; as in training if not given"})
    before_column: str = field(default="before", metadata={"help": "pairs: column with the prerequisite"})
    after_column: str = field(default="after", metadata={"help": "pairs: column with what may need it"})


def predict(args: PredictArguments, own: Arguments) -> Sequence[tuple]:
    """A row a step of a path, or a row a pair where no goal is named; returns the rows that were left out."""
    return propose_paths(args, own) if own.goal else judge_pairs(args, own)


def propose_paths(args: PredictArguments, own: Arguments) -> Sequence[tuple]:
    """A row a step of each learner's path; returns the rows that were left out."""
    # 1. What each learner answered, and what is known to be mastered
    advisor = load(args.model, args.model_revision, args.trust_remote_code)
    names = advisor.settings.concepts
    goals, skip, mastered = advisor.numbers(own.goal, "goal"), advisor.numbers(own.skip), advisor.numbers(own.mastered)
    if own.steps is not None and own.steps < 1:
        raise ConfigurationError(f"--steps is {own.steps}; expected a whole number from 1 on.")
    columns = ResponseColumns(own.learner_column, own.correct_column, own.concept_column, own.question_column, own.time_column)
    log = read_log(args.input_file, columns, args.file_encoding, args.separator, own.sort_by_time, args.skip_bad_rows)
    told = read_mastery(own.mastery_file, args.file_encoding, args.separator, known=names) if own.mastery_file else {}
    learners = {row["learner_id"]: row for row in number_answers(log, names, [])}

    # 2. A path each; a learner of whom mastery alone is told has answered nothing
    written: dict[str, list] = {c: [] for c in ("learner_id", "step", "concept", "questions", "mastery", "reason")}
    for learner in [*learners, *(name for name in told if name not in learners)]:
        row = learners.get(learner, {"concepts": [], "correct": []})
        answers = [(c - 1, a) for asked, a in zip(row["concepts"], row["correct"], strict=True) for c in asked]
        known = told.get(learner, {})
        mastery = np.array([known[name][0] if name in known else np.nan for name in names])
        mastery[mastered] = 1.0
        asked, said = [c for c, _ in answers], [a for _, a in answers]
        try:
            path = advisor.path(asked, said, goals, mastery, skip, own.steps)
            why_none = "all goals are mastered by the estimate, or nothing is in reach"
        except UnreachableGoal as reason:  # for this learner; others may have mastered what is skipped
            path, why_none = [], str(reason)
        if learner == next(iter(learners)):
            now = np.where(np.isnan(mastery), advisor.mastery(asked, said), mastery)
            moves = [step["concept"] for step in path for _ in range(step["questions"])]
            path_report.draw_path(Path(args.output_file).with_suffix(".png"), advisor.settings, moves, goals, now)
        rows = [
            (number, names[step["concept"]], step["questions"], round(step["mastery"], 4), advisor.explain(step))
            for number, step in enumerate(path, start=1)
        ]
        for cells in rows or [(0, "", 0, "", why_none)]:  # a row in is a row out
            for column, cell in zip(written.values(), (learner, *cells), strict=True):
                column.append(cell)
    report.write_csv(args.output_file, written)
    return log.rejected


def judge_pairs(args: PredictArguments, own: Arguments) -> Sequence[tuple]:
    """A row a pair of concepts; no row is left out."""
    table = read_table(args.input_file, args.file_encoding, args.separator)
    named = (own.before_column, "--before_column"), (own.after_column, "--after_column")
    before, after = ([as_text(cell) for cell in table.column(*column)] for column in named)
    for cells, (column, _) in zip((before, after), named, strict=True):
        for cell, row in zip(cells, table.rows, strict=True):
            check_names((cell,), file=table.path, row=row)
            if not cell:
                raise DataError("the concept is missing.", file=table.path, row=row, column=column)
    advisor = load(args.model, args.model_revision, args.trust_remote_code)
    probability = advisor.prerequisite_probability(before, after).round(6)
    report.write_csv(args.output_file, {"before": before, "after": after, "probability": probability})
    return []
