"""Answers of learners to questions, in order: from the public formats of knowledge tracing and from a school's own logs.

A question with several concepts is one answer with a set of them. Files that write such an answer several times, once a
concept, are merged where they say which rows belong together and are refused where they do not: a model could read the answer
off the row before.
"""

from __future__ import annotations

import gzip
import itertools
import logging
import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.compute as pc
from datasets import Dataset, DatasetDict, concatenate_datasets

from .arrow_cache import BLOCK, RowWriter, column_values
from .errors import DataError, in_file
from .essays import find_data_dir
from .files import (
    Table,
    as_seconds,
    as_text,
    check_names,
    closest,
    own_files,
    read_table,
    refuse_bad_rows,
    unknown_data_set,
)
from .provenance import Provenance
from .row_arrays import FirstRows, column_keys
from .schema import RESPONSES
from .school_generator import school_answers
from .splits import check_limits, connected_groups, cross_validation_splits, cut_missing, k_folds, shared_keys, shorten

logger = logging.getLogger(__name__)

LEARNERS = 64  # whose answers are in memory at a time, with streaming
SEPARATOR = ";"
TRUE, FALSE = ("1", "1.0", "true", "yes", "correct", "right"), ("0", "0.0", "false", "no", "incorrect", "wrong")
EXPANDED = (
    "assist2009_updated writes an answer to a question with several concepts several times, one row a concept, and does not say "
    "which rows belong together: a model reads the answer off the row before (where two concepts alternate, 85%% of the answers "
    "equal the one before). Its figures are too high; do not compare them with others."
)
BUILT_IN = ("sample_school", "assist2015", "assist2009_updated", "statics", "assistments2009", "assistments2015")


@dataclass
class ResponseColumns:
    """The user's names for the columns of a log with an answer a row; None where the file has none."""

    learner: str = "learner"
    correct: str = "correct"
    concepts: str | None = "concepts"
    question: str | None = None
    time: str | None = None


@dataclass
class ResponseDataset(Provenance):
    """Answers ready for a recipe.

    Attributes:
        splits: train, validation and test with the columns of `schema.RESPONSES`.
        name: What the data set is called in the card.
        concepts: The names of the concepts; number 1 is the first.
        questions: The names of the questions, [] where answers name concepts only.
    """

    splits: DatasetDict
    name: str
    concepts: list[str]
    questions: list[str] = field(default_factory=list)

    def most_concepts(self) -> int:
        """The most concepts that one question has."""
        blocks = (b for rows in self.splits.values() for b in answer_blocks(rows, "concepts"))
        return max(pc.max(pc.list_value_length(b)).as_py() or 0 for b in blocks)

    def fold_splits(self, k: int, seed: int) -> dict[str, DatasetDict]:
        """Cut the learners of train and validation into `k` folds; the test split is not in them.

        Returns:
            fold_0, fold_1, ...: test (the fold), validation (a fifth of the rest), train.
        """
        pool = concatenate_datasets([self.splits["train"], self.splits["validation"]])
        return cross_validation_splits(pool, connected_groups(column_values(pool, "group_id")), [""] * len(pool), k, seed)

    def summary(self) -> str:
        """Counts by split, for the log."""
        lines = [f"{self.name}: {self.rows_read:,} rows read, {len(self.rejected)} left out. {self.split_protocol}"]
        lines += [f"  {'':10} {'learners':>9} {'answers':>9} {'correct':>8} {'median':>7} {'longest':>8}"]
        for split, rows in self.splits.items():
            lengths = np.concatenate([pc.list_value_length(b).to_numpy() for b in column_blocks(rows, "correct")])
            share = sum(pc.sum(b).as_py() or 0 for b in answer_blocks(rows, "correct")) / max(lengths.sum(), 1)
            lines += [f"  {split:10} {len(rows):9,} {lengths.sum():9,} {share:8.3f} {np.median(lengths):7.0f} {lengths.max():8,}"]
        return "\n".join([*lines, f"  {len(self.concepts)} concepts, {len(self.questions)} questions with a name of their own"])

    def facts(self) -> dict:
        """What the report says of the data; no id."""
        return self.source_facts({s: len(d) for s, d in self.splits.items()})


def column_blocks(rows: Dataset, column: str) -> Iterator[pyarrow.ChunkedArray]:
    """A column of `schema.RESPONSES` as Arrow has it, some learners at a time."""
    for table in rows.select_columns([column]).with_format("arrow").iter(BLOCK):
        yield table.column(0)


def answer_blocks(rows: Dataset, column: str) -> Iterator[pyarrow.ChunkedArray]:
    """The entries of all answers in that column, learner by learner."""
    yield from map(pc.list_flatten, column_blocks(rows, column))


def load_responses(
    dataset_name: str = "sample_school",
    *,
    data_dir: str | Path | None = None,
    train_file: str | Path | None = None,
    validation_file: str | Path | None = None,
    test_file: str | Path | None = None,
    columns: ResponseColumns | None = None,
    sort_by_time: bool = False,
    seed: int = 42,
    encoding: str | None = None,
    separator: str | None = None,
    skip_bad_rows: bool = False,
    max_train_samples: int | None = None,
    max_eval_samples: int | None = None,
    streaming: bool = False,
) -> ResponseDataset:
    """Load answers and split them by learner.

    Args:
        dataset_name: One of `BUILT_IN`. Ignored with `train_file`.
        data_dir: The folder that holds the public sets; else the environment variable EDU_DATA_DIR.
        train_file: A log with an answer a row, see `files.read_table`. What is not given of validation and test is cut from it.
        validation_file, test_file: Likewise.
        columns: The user's column names.
        sort_by_time: Put a learner's answers in the order of their times, instead of refusing another order.
        seed: Seed of the split.
        encoding, separator: See `files.read_table`.
        skip_bad_rows: Leave rows that cannot be used out, and list them, instead of ending the run.
        max_train_samples, max_eval_samples: Keep a random part of the learners.
        streaming: Keep the answers of the user's own files on disk, see `arrow_cache`; the rows of a learner must stand together.

    Raises:
        DataError: With file, row and column.
    """
    check_limits(max_train_samples, max_eval_samples)
    if files := own_files(train_file, validation_file, test_file):
        how = (columns or ResponseColumns(), encoding, separator, sort_by_time, skip_bad_rows, streaming)
        parts = {s: read_log(path, *how) for s, path in files.items()}
        with in_file(train_file):
            data = _assemble(parts, Path(train_file).name, seed, streaming)
    elif dataset_name == "sample_school":
        data = _load_sample_school(seed)
    elif dataset_name in ("assist2015", "assist2009_updated"):
        folder = find_data_dir(data_dir) / "kt" / dataset_name
        data = _load_three_lines(folder, dataset_name, seed)
    elif dataset_name == "statics":
        data = _load_three_lines(find_data_dir(data_dir) / "kt" / "STATICS", dataset_name, seed, prefix="STATICS")
    elif dataset_name in ("assistments2009", "assistments2015"):
        data = _load_assistments(find_data_dir(data_dir) / "kt" / dataset_name, dataset_name, seed)
    else:
        raise unknown_data_set(dataset_name, BUILT_IN)
    data.splits = shorten(data.splits, max_train_samples, max_eval_samples, seed)
    for warning in data.warnings:
        logger.warning("%s", warning)
    return data


# ---- three lines a learner ------------------------------------------------------------------------------------------


def read_three_lines(path: str | Path) -> Iterator[tuple[int, list[int], list[int]]]:
    """Read the format of DKVMN: number of answers, concept of each, 0 or 1 of each; three lines a learner, as a stream.

    A comma at the end of a line is no value. Lines are read one learner at a time, so that a file of any size fits.

    Yields:
        (number of the first line, concepts, correct).

    Raises:
        DataError: A line is missing, a value is no number, the counts differ, or an answer is neither 0 nor 1.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no file {path}.", fix="Check --data_dir, or the name of the file.")
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="ascii") as file:
            lines = ((number, line.strip()) for number, line in enumerate(file, start=1))
            lines = ((number, line) for number, line in lines if line)
            for number, line in lines:
                (count,) = _integers([line], path, number)
                rows = [next(lines, None) for _ in range(2)]
                if None in rows:
                    raise DataError("the file ends within a learner.", file=path, row=number, expected="three lines a learner")
                concepts, correct = (_integers(text.rstrip(",").split(","), path, at) for at, text in rows)
                for (at, _), values in zip(rows, (concepts, correct), strict=True):
                    if len(values) != count:
                        raise DataError(
                            f"the line has {len(values)} values.", file=path, row=at, expected=f"{count}, as line {number} says"
                        )
                if wrong := [v for v in correct if v not in (0, 1)]:
                    raise DataError("an answer is neither 0 nor 1.", file=path, row=rows[1][0], found=wrong[0])
                if wrong := [v for v in concepts if v < 1]:
                    raise DataError("a concept has a number below 1.", file=path, row=rows[0][0], found=wrong[0])
                yield number, concepts, correct
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise DataError(f"the file is damaged or no text ({type(error).__name__}).", file=path) from error


def _integers(values: Sequence[str], path: Path, row: int) -> list[int]:
    try:
        return [int(v) for v in values]
    except ValueError as error:
        raise DataError(
            "a value is no whole number.", file=path, row=row,
            expected="three lines a learner: how many answers, their concepts, 0 or 1 of each",
        ) from error  # fmt: skip


def three_lines_dataset(path: str | Path) -> Dataset:
    """A file of three lines a learner as `schema.RESPONSES`, kept on disk and not in memory."""

    def rows() -> Iterator[dict]:
        for number, concepts, correct in read_three_lines(path):
            yield {
                "learner_id": f"line {number}", "group_id": f"{Path(path).name} {number}", "questions": [0] * len(correct),
                "concepts": [[c] for c in concepts], "correct": correct, "times": [math.nan] * len(correct),
            }  # fmt: skip

    try:
        return Dataset.from_generator(rows, features=RESPONSES)
    except Exception as error:  # datasets wraps what the generator raises
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, DataError):
            cause = cause.__cause__
        raise cause or error from None


def _load_three_lines(folder: Path, name: str, seed: int, prefix: str | None = None) -> ResponseDataset:
    """The distributed split by learner; validation is a fifth of the training learners, 1,000 of them where that is fewer."""
    found = {}
    for split in ("train", "test"):
        stem = f"{prefix or name}_{split}.csv"
        path = next((p for p in (folder / stem, folder / f"{stem}.gz") if p.is_file()), folder / stem)
        found[split] = three_lines_dataset(path)
    learners = len(found["train"])  # to choose and calibrate, 1,000 are enough: the others are worth more as training
    cut = k_folds(np.arange(learners), [""] * learners, max(5, learners // 1000), seed)
    parts = {"train": np.sort(np.concatenate(cut[1:])), "validation": cut[0]}
    splits = DatasetDict({**{s: found["train"].select(r) for s, r in parts.items()}, "test": found["test"]})
    most = max(max(c[0] for c in row) for d in found.values() for row in d["concepts"] if row)
    return ResponseDataset(
        splits, name, [str(i) for i in range(1, most + 1)], licence="not stated; ASSISTments has its own terms of use",
        split_protocol=f"Distributed test split, by learner; validation is {len(cut[0])} of the {learners} others, seed {seed}.",
        rows_read=sum(len(c) for d in found.values() for c in d["correct"]),
        warnings=[EXPANDED.replace("%%", "%")] if name == "assist2009_updated" else [],
    )  # fmt: skip


# ---- a log with an answer a row -------------------------------------------------------------------------------------


@dataclass
class AnswerLog:
    """One file's answers, with names in place of numbers.

    Attributes:
        path: The file.
        learners: Learner -> (time, question, concepts, correct, row in the file) of each answer, oldest first.
        rejected: (file, row, reason) of each row that was left out.
        rows_read: Rows of the file.
    """

    path: Path
    learners: dict[str, list[tuple]] | StoredAnswers
    rejected: list[tuple[str, int, str]]
    rows_read: int


class StoredAnswers:
    """The answers of a table on disk, whose rows of a learner stand together; read anew each time.

    Args:
        table: As `read_table` gives it with `streaming`.
        columns: Its names.
        sort_by_time: Put each learner's answers in the order of their times.
        problems: Gets what is wrong with rows that cannot be used.

    Attributes:
        disorder: What is wrong with the order of a learner's answers, the first of it; None where nothing is.
        names: Those of the concepts and of the questions.

    Raises:
        DataError: A learner stands in two places.
    """

    def __init__(self, table: Table, columns: ResponseColumns, sort_by_time: bool, problems: list[DataError]):
        self.table, self.columns, self.sort_by_time = table, columns, sort_by_time
        self.disorder, self.names, self._count = None, (set(), set()), 0
        first = FirstRows()
        for learner, answers in self.items(problems):
            row = min(a[4] for a in answers)
            if before := first.add(learner, row):
                raise DataError(
                    f"the rows of a learner do not stand together: the first are from row {before} on.", file=table.path, row=row,
                    column=columns.learner, expected="with --streaming, each learner's rows one after the other",
                    fix="Sort the file by learner, or leave --streaming out.",
                )  # fmt: skip
            _add_names(answers, self.names)
            self._count += 1
            try:
                _check_order(answers, table.path, columns)
            except DataError as error:
                self.disorder = self.disorder or error

    def __len__(self) -> int:
        return self._count

    def items(self, problems: list[DataError] | None = None) -> Iterator[tuple[str, list[tuple]]]:
        """Each learner with the answers; see `AnswerLog`."""
        found = _answers(self.table, self.columns, [] if problems is None else problems)
        for learner, rows in itertools.groupby(found, key=operator.itemgetter(0)):
            answers = [answer for _, answer in rows]
            if self.sort_by_time:
                answers.sort(key=_time)
            yield learner, answers


def _add_names(answers: list[tuple], names: tuple[set[str], set[str]]) -> None:
    """The names of concepts and questions, where they have one."""
    for _, question, asked, *_ in answers:
        names[0].update(asked)
        if question:
            names[1].add(question)


def read_log(
    path: str | Path, columns: ResponseColumns, encoding: str | None = None, separator: str | None = None,
    sort_by_time: bool = False, skip: bool = False, streaming: bool = False,
) -> AnswerLog:  # fmt: skip
    """Read a table with an answer a row and check every cell.

    Concepts of one question stand in one cell, separated by ';'.

    Raises:
        DataError: A learner, concept or answer is missing, an answer is neither right nor wrong, times run backwards, or one
            answer stands in several rows; or with `streaming` the rows of a learner do not stand together.
    """
    table = read_table(path, encoding, separator, streaming)
    problems: list[DataError] = []
    if streaming:
        learners = StoredAnswers(table, columns, sort_by_time, problems)
        refuse_bad_rows(problems, skip, learners, table.path)
        if learners.disorder:
            raise learners.disorder
    else:
        learners = {}
        for learner, answer in _answers(table, columns, problems):
            learners.setdefault(learner, []).append(answer)
        refuse_bad_rows(problems, skip, learners, table.path)
        for rows in learners.values():
            if sort_by_time:
                rows.sort(key=_time)
            _check_order(rows, table.path, columns)
    return AnswerLog(table.path, learners, [(table.path.name, e.row, str(e)) for e in problems], len(table))


def _time(answer: tuple) -> float:
    return answer[0]


def _answers(table: Table, columns: ResponseColumns, problems: list[DataError]) -> Iterator[tuple[str, tuple]]:
    """(learner, answer) of each row that can be used; what is wrong with the others is added to `problems`."""
    n, path = len(table), table.path
    learners = table.column(columns.learner, "--learner_column")
    answers = table.column(columns.correct, "--correct_column")
    if columns.concepts is None and columns.question is None:
        raise DataError("neither concepts nor questions were named.", fix="Use --concept_column, --question_column or both.")
    concepts = table.column(columns.concepts, "--concept_column") if columns.concepts else None
    questions = table.column(columns.question, "--question_column") if columns.question else itertools.repeat("", n)
    times = table.column(columns.time, "--time_column") if columns.time else itertools.repeat(None, n)
    asked = questions if concepts is None else concepts
    for row, learner, question, named, answer, time in zip(table.rows, learners, questions, asked, answers, times, strict=True):
        try:
            learner, question = as_text(learner), as_text(question)
            named = _concepts(question if concepts is None else named)
            if not learner:
                raise DataError("the learner is missing.", file=path, row=row, column=columns.learner)
            if not named:
                raise DataError("the concept is missing.", file=path, row=row, column=columns.concepts or columns.question)
            right = _right(answer)
            if right is None:
                raise DataError(
                    "the answer is neither right nor wrong.", file=path, row=row, column=columns.correct,
                    found=answer if len(as_text(answer)) <= 8 else None, expected="1 or 0 (true or false)",
                    fix="Answers with part of the points must be rounded or left out.",
                )  # fmt: skip
            seconds = as_seconds(time, path, row, columns.time) if columns.time else math.nan
            check_names((learner, question, *named), file=path, row=row)
        except DataError as error:
            problems.append(error)
            continue
        yield learner, (seconds, question, named, right, row)


def _check_order(rows: list[tuple], path: Path, columns: ResponseColumns) -> None:
    """Times do not run backwards, and no answer is written once a concept."""
    for before, after in zip(rows, rows[1:], strict=False):
        if after[0] < before[0]:  # nan compares false
            raise DataError(
                "the time is before that of the learner's answer before.", file=path, row=after[4], column=columns.time,
                expected="a learner's answers from the oldest to the newest", fix="Add --sort_by_time true to sort them.",
            )  # fmt: skip
        same = after[0] == before[0] and after[1] == before[1] != "" and after[3] == before[3]
        if same and after[2] != before[2]:
            raise DataError(
                f"rows {before[4]} and {after[4]} are one answer, written once for each concept.", file=path, row=after[4],
                column=columns.concepts, expected="a row an answer: a model would read the answer off the row before",
                fix=f"Write its concepts into one cell, separated by '{SEPARATOR}'.",
            )  # fmt: skip


def _concepts(value: object) -> tuple[str, ...]:
    parts = value if isinstance(value, (list, tuple)) else as_text(value).split(SEPARATOR)
    return tuple(dict.fromkeys(p for p in map(as_text, parts) if p))


def _right(value: object) -> int | None:
    text = as_text(value).lower()
    return 1 if text in TRUE else 0 if text in FALSE else None


def _assemble(parts: dict[str, AnswerLog], name: str, seed: int, streaming: bool = False) -> ResponseDataset:
    """Number concepts and questions, check that no learner stands on two sides, and cut what was not given."""
    names: tuple[set[str], set[str]] = (set(), set())
    for part in parts.values():
        if isinstance(part.learners, StoredAnswers):
            for known, own in zip(names, part.learners.names, strict=True):
                known |= own
        else:
            for answers in part.learners.values():
                _add_names(answers, names)
    concepts, questions = (sorted(known, key=_natural) for known in names)
    numbers = {c: i for i, c in enumerate(concepts, start=1)}, {q: i for i, q in enumerate(questions, start=1)}
    given = DatasetDict({s: _numbered(part, *numbers, streaming) for s, part in parts.items()})
    for split, other, *_ in shared_keys({s: column_keys(rows, "learner_id") for s, rows in given.items()}):
        raise DataError(
            f"a learner stands in {parts[split].path.name} ({split}) too.", file=parts[other].path,
            expected="no learner in two splits, or the test result means nothing",
            fix="Take the learner out of one of the files.",
        )  # fmt: skip
    protocol = "".join(f"{p.path.name} as {s}. " for s, p in parts.items()) if len(parts) > 1 else ""
    missing = [s for s in ("validation", "test") if s not in given]
    if missing:
        learners = len(given["train"])
        given = cut_missing(given, np.arange(learners), [""] * learners, seed)
        protocol += f"{' and '.join(missing).capitalize()} cut from the training file by learner, seed {seed}."
    return ResponseDataset(
        DatasetDict({s: given[s] for s in ("train", "validation", "test")}), name, concepts, questions, split_protocol=protocol,
        rows_read=sum(p.rows_read for p in parts.values()), rejected=[r for p in parts.values() for r in p.rejected],
    )  # fmt: skip


def number_answers(log: AnswerLog, concepts: Sequence[str], questions: Sequence[str]) -> Dataset:
    """A log as `schema.RESPONSES` for a trained tracer, whose concepts and questions are numbered already.

    A question that the tracer does not know is 0.

    Raises:
        DataError: A concept is not among `concepts`.
    """
    numbers = {c: i for i, c in enumerate(concepts, start=1)}
    for answers in log.learners.values():
        for *_, asked, _, row in answers:
            if unknown := [c for c in asked if c not in numbers]:
                close = closest(unknown[0], concepts)
                raise DataError(
                    "the model was not trained on this concept." + (f" Did you mean '{close}'?" if close else ""),
                    file=log.path, row=row, found=unknown[0] if len(unknown[0]) <= 40 else None,
                    expected=f"one of its {len(concepts)} concepts; they stand in edu_recipes.json",
                )  # fmt: skip
    return _numbered(log, numbers, {q: i for i, q in enumerate(questions, start=1)})


def _natural(name: str) -> tuple:
    return (0, int(name), "") if name.isdecimal() else (1, 0, name)


def _numbered(part: AnswerLog, concepts: dict[str, int], questions: dict[str, int], streaming: bool = False) -> Dataset:
    with RowWriter(RESPONSES, streaming, LEARNERS) as rows:
        for learner, answers in part.learners.items():
            rows.append(
                {
                    "learner_id": learner, "group_id": learner, "questions": [questions.get(a[1], 0) for a in answers],
                    "concepts": [[concepts[c] for c in a[2]] for a in answers], "correct": [a[3] for a in answers],
                    "times": [a[0] for a in answers],
                }
            )  # fmt: skip
        return rows.dataset()


def _load_sample_school(seed: int) -> ResponseDataset:
    """The embedded default, see school_generator.py: one term of 400 fictional learners, whose true mastery is known."""
    answers = school_answers()
    learners: dict[str, list[tuple]] = {}
    for row, answer in enumerate(answers, start=1):
        named = tuple(answer[name] for name in ("time", "question", "concepts", "correct"))
        learners.setdefault(answer["learner"], []).append((*named, row))
    log = AnswerLog(Path("sample_school"), learners, [], len(answers))
    data = _assemble({"train": log}, "sample_school (fictional)", seed)
    data.licence = "apache-2.0"
    return data


# ---- ASSISTments ----------------------------------------------------------------------------------------------------


def _load_assistments(folder: Path, name: str, seed: int) -> ResponseDataset:
    """ASSISTments 2009-2010 and 2015 as their site gives them. Not run on the real files: written from their column lists.

    2009: order_id, user_id, problem_id, skill_id, correct, one row a skill; rows of one order_id are one answer. Rows without
    a skill are left out, as the field does. 2015: user_id, log_id, sequence_id, correct; answers with part of the points are
    left out, and the sequence stands for the concept.
    """
    path = next((p for p in sorted(folder.glob("*.csv*"))), folder / f"{name}.csv")
    table = read_table(path)
    if name == "assistments2009":
        log = _merge_skills(table)
    else:
        log = _from_sequences(table)
    data = _assemble({"train": log}, name, seed)
    data.licence = "not stated; ASSISTments has its own terms of use"
    return data


def _merge_skills(table: Table) -> AnswerLog:
    cells = [
        table.column(c, "the columns of the distribution:") for c in ("order_id", "user_id", "problem_id", "skill_id", "correct")
    ]
    merged: dict[tuple[str, str], list] = {}
    rejected = []
    for row, order, user, problem, skill, correct in zip(table.rows, *cells, strict=True):
        right, skills = _right(correct), _concepts(skill)
        if right is None or not skills:
            rejected.append((table.path.name, row, "no skill" if right is not None else "the answer is neither right nor wrong"))
            continue
        answer = merged.setdefault((as_text(user), as_text(order)), [float(order), as_text(problem), (), right, row])
        answer[2] = tuple(dict.fromkeys((*answer[2], *skills)))
    learners: dict[str, list[tuple]] = {}
    for (user, _), answer in sorted(merged.items(), key=lambda item: item[1][0]):
        learners.setdefault(user, []).append((math.nan, *answer[1:]))
    return AnswerLog(table.path, learners, rejected, len(table))


def _from_sequences(table: Table) -> AnswerLog:
    cells = [table.column(c, "the columns of the distribution:") for c in ("log_id", "user_id", "sequence_id", "correct")]
    learners: dict[str, list[tuple]] = {}
    rejected = []
    for row, _, user, sequence, correct in sorted(zip(table.rows, *cells, strict=True), key=lambda r: float(r[1])):
        right = _right(correct)
        if right is None:
            rejected.append((table.path.name, row, "the answer has part of the points"))
            continue
        learners.setdefault(as_text(user), []).append((math.nan, "", (as_text(sequence),), right, row))
    return AnswerLog(table.path, learners, rejected, len(table))
