"""From any table to canonical records: what each column is, what each cell says, and what must not be a feature.

The kind of a column is found in the training file. A cell of another kind is an error of its row; a column that numbers or
names the rows, or says the same in all of them, is no feature; one that is the target under another name is refused.
"""

from __future__ import annotations

import datetime
import functools
import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset

from .arrow_cache import BLOCK, RowWriter, column_values, is_on_disk
from .errors import DataError
from .files import Table, as_text, check_names, closest, refuse_again, refuse_bad_rows
from .row_arrays import FirstRows, blocks, count_different, from_values, key_of, keys_of, row_numbers, zeros
from .schema import RECORDS

MISSING = ("", "?")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
WRITTEN_NUMBER = re.compile(r"[+-]?\d+,\d+|[+-]?\d+([.,]\d+)?\s*%")
ID_NAME = re.compile(r"(^|[\W_])[iI][dD]([\W_]|$)|[a-z]I[dD]$")
FAILING = ("fail", "failed", "dropout", "dropped out", "withdrawn", "withdrew", "at risk", "left")
MOST_CLASSES = 20
FIRST = 65_536  # rows that show of most columns that they do not tell the target
MOST_NUMBERS_OF_CLASSES = 10  # a target of more different numbers is a quantity


@dataclass
class RecordColumns:
    """The user's names for the columns of a table with a record a row; None where the file has none.

    Every column that has no other part is a feature.

    Attributes:
        target: What to predict.
        learner: Whose record it is; without it every row is another learner.
        record_id: What names the row in the predictions.
        time: The day on which the row was written down, a number or a date; it lies before the cut-off.
        outcome_time: The day on which the outcome fell, for the lead time of an alert.
        subgroups: What fairness is measured over. They are features too unless `drop` names them.
        categories: Columns of numbers that are codes.
        drop: Columns that are no features.
    """

    target: str = "target"
    learner: str | None = None
    record_id: str | None = None
    time: str | None = None
    outcome_time: str | None = None
    subgroups: Sequence[str] = ()
    categories: Sequence[str] = ()
    drop: Sequence[str] = ()


# ---- what a cell says -----------------------------------------------------------------------------------------------


def present(value: object) -> str:
    """A cell as text, '' where it is missing."""
    text = as_text(value)
    return "" if text in MISSING else text


@functools.lru_cache(maxsize=4096)
def to_number(text: str) -> float | None:
    """A number as programs write it, None for any other text; 'nan', 'inf' and '1_000' are texts."""
    number = float(text) if NUMBER.fullmatch(text) else math.nan
    return number if math.isfinite(number) else None


def _shown(text: str) -> str:
    """A wrong cell as a message may show it; what may be a learner's text or id is described."""
    return text if re.fullmatch(r"[A-Za-z/]{1,8}|[\d.,]{1,3}%?|\d+,\d+", text) else f"a text of {len(text)} characters"


def _number(table: Table, column: str, i: int) -> float:
    text = present(table.columns[column][i])
    number = to_number(text) if text else math.nan
    if number is None:
        raise DataError(
            "not a number.", file=table.path, row=table.rows[i], column=column, found=_shown(text),
            expected="a number as in the rest of the column, or an empty cell (or '?') where there is none",
            fix=f"If its numbers are codes, name the column with --category_columns '{column}'.",
        )  # fmt: skip
    return number


def _category(table: Table, column: str, i: int, kind: str) -> str:
    value = table.columns[column][i]
    if isinstance(value, (list, dict)):
        raise DataError("the cell holds a list.", file=table.path, row=table.rows[i], column=column, expected="one value")
    text = present(value)
    if kind == "text" and text and to_number(text) is not None:
        raise DataError(
            "a number in a column of texts.", file=table.path, row=table.rows[i], column=column,
            expected="a text as in the rest of the column, or an empty cell where there is none",
            fix=f"If its numbers are names too, name the column with --category_columns '{column}'.",
        )  # fmt: skip
    return text


def _day(value: object) -> float | None:
    """A day as a number: a number as it is, a date (ISO 8601) as days since 1970; None where it is neither."""
    if isinstance(value, datetime.date):
        value = value.isoformat()
    text = as_text(value)
    if (number := to_number(text)) is not None:
        return number
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=moment.tzinfo or datetime.UTC).timestamp() / 86_400


@dataclass
class Cutoff:
    """The day of the prediction as the user wrote it and as a number; dates and numbers do not mix."""

    stated: str
    day: float

    def read(self, table: Table, column: str, i: int) -> float:
        value = table.columns[column][i]
        text, day = present(value), _day(value)
        dates = to_number(self.stated) is None
        if text and (day is None or (to_number(text) is None) != dates):
            raise DataError(
                "not a day as the cut-off is.", file=table.path, row=table.rows[i], column=column,
                found=text if len(text) <= 24 and re.fullmatch(r"[\d\s.:/T-]+", text) else None,
                expected="a date such as 2026-09-01" if dates else "a number of days",
            )  # fmt: skip
        return day if text else math.nan


def find_cutoff(stated: str | float | None, columns: RecordColumns) -> Cutoff | None:
    """The cut-off for a user's file, which needs a column that it cuts."""
    if stated is None:
        if name := columns.time or columns.outcome_time:
            raise DataError(f"the column '{name}' is a time, but there is no cut-off.", fix="State the day with --cutoff.")
        return None
    if not (columns.time or columns.outcome_time):
        raise DataError(
            "there is a cut-off, but no column that says when a row was written down.", found=stated,
            fix="Name it with --time_column, or the day of the outcome with --outcome_time_column.",
        )  # fmt: skip
    if (day := _day(stated)) is None:
        raise DataError("the cut-off is no day.", found=stated, expected="a number of days, or a date such as 2026-09-01")
    return Cutoff(as_text(stated), day)


# ---- from a table to canonical rows ---------------------------------------------------------------------------------


@dataclass
class Target:
    """What is predicted: the task, and the classes in order."""

    task: str
    classes: list[str]
    positive_class: str = ""

    def read(self, table: Table, column: str, i: int) -> float:
        text = present(table.columns[column][i])
        if not text:
            raise DataError("the target is missing.", file=table.path, row=table.rows[i], column=column)
        if self.task == "regression":
            if (number := to_number(text)) is None:
                raise DataError(
                    "the target is not a number.", file=table.path, row=table.rows[i], column=column, found=_shown(text),
                    fix="Write the decimal comma as a point." if WRITTEN_NUMBER.fullmatch(text) else None,
                )  # fmt: skip
            return number
        if (name := _class_name(text)) not in self.classes:
            raise DataError(
                "the class stands in no row of the training file.", file=table.path, row=table.rows[i], column=column,
                found=_shown(name), expected=f"one of {', '.join(self.classes)}",
            )  # fmt: skip
        return float(self.classes.index(name))


def _class_name(text: str) -> str:
    """'1.0' and '1' are one class."""
    number = to_number(text)
    return text if number is None else as_text(number)


def find_target(table: Table, column: str, task: str | None, positive: str | None) -> Target:
    """The task and its classes from the target column of the training file, or as stated."""
    values, counts = table.column(column, "--target_column"), Counter()
    present_rows = numbers = 0
    different: set[float] = set()
    for text in filter(None, map(present, values)):
        present_rows += 1
        if (number := to_number(text)) is not None:
            numbers += 1
            if len(different) <= MOST_NUMBERS_OF_CLASSES:
                different.add(number)
        if (name := _class_name(text)) in counts or len(counts) <= MOST_CLASSES:
            counts[name] += 1
    if task is None:
        quantity = numbers > present_rows / 2 and len(different) > MOST_NUMBERS_OF_CLASSES
        task = "regression" if quantity else None
    if task == "regression":
        if positive:
            raise DataError("a quantity has no classes.", column=column, found=positive, fix="Leave --positive_class out.")
        return Target(task, [])
    if len(counts) > MOST_CLASSES:
        names = map(_class_name, filter(None, map(present, values)))
        raise DataError(
            f"the target has {count_different(keys_of(names))} different values.", file=table.path, column=column,
            expected=f"numbers, or at most {MOST_CLASSES} classes", fix="Name another column with --target_column.",
        )  # fmt: skip
    by_lower: dict[str, str] = {}
    for name in counts:
        if (other := by_lower.setdefault(name.lower(), name)) != name:
            i = next(i for i, v in enumerate(values) if _class_name(present(v)) == name)
            raise DataError(
                f"the class differs from '{other}' in capital letters alone.", file=table.path, row=table.rows[i],
                column=column, found=name, fix="Write each class in one way.",
            )  # fmt: skip
    classes = sorted(counts, key=lambda c: (0, to_number(c), "") if to_number(c) is not None else (1, 0.0, c))
    if len(classes) < 2:
        raise DataError(
            "the target is the same in every row.", file=table.path, column=column, found=_shown(classes[0]) if classes else "",
            expected="two different values at least", fix="Name another column with --target_column, or bring all outcomes.",
        )  # fmt: skip
    if task == "binary" and len(classes) > 2:
        raise DataError(
            f"the target has {len(classes)} classes.", file=table.path, column=column, expected="two for --task binary",
            fix="Use --task multiclass.",
        )  # fmt: skip
    if positive and positive not in classes:
        raise DataError("there is no such class.", column=column, found=positive, expected=f"one of {', '.join(classes)}")
    if len(classes) > 2 or task == "multiclass":
        return Target("multiclass", classes, positive or "")
    telling = [c for c in classes if c.lower() in FAILING]
    positive = positive or (telling[0] if len(telling) == 1 else min(reversed(classes), key=counts.get))
    return Target("binary", sorted(classes, key=lambda c: c == positive), positive)


@dataclass
class _Cells:
    """What the cells of a column are, counted: those that are present, and among them numbers, and different ones.

    Attributes:
        written: Different cells with a number that no program reads.
        values: The numbers, in order.
    """

    present: int
    numbers: int
    different: int
    written: int
    values: np.ndarray

    def numbers_rows(self, named_so: bool) -> bool:
        """Whether the numbers number the rows: whole and different, and counting up by one or of a column `named_so`."""
        values = self.values
        if len(values) <= 2 or not all(map(float.is_integer, values)):
            return False
        if all(np.all(values[b.start + 1 : b.stop + 1] - values[b] == 1) for b in blocks(len(values) - 1)):
            return True
        return named_so and count_different(values.copy()) == len(values)


def _look_at(cells: Sequence, streaming: bool) -> _Cells:
    keys, written, numbers = (zeros(len(cells), kind, streaming) for kind in (np.uint64, np.uint64, float))
    n_keys = n_written = n_numbers = 0
    for text in filter(None, map(present, cells)):
        keys[n_keys] = key = key_of(text)
        n_keys += 1
        if (number := to_number(text)) is not None:
            numbers[n_numbers] = number
            n_numbers += 1
        elif WRITTEN_NUMBER.fullmatch(text):
            written[n_written] = key
            n_written += 1
    different = (count_different(found) for found in (keys[:n_keys], written[:n_written]))
    return _Cells(n_keys, n_numbers, *different, numbers[:n_numbers])


def find_kinds(
    table: Table, columns: RecordColumns, split_by: str | None, streaming: bool = False
) -> tuple[dict[str, str], list[str]]:  # fmt: skip
    """Feature -> 'number', 'text' or 'code' (a text that may look like a number), and what was left out, in words.

    The majority of a column's cells decides; a cell that differs is an error of its row.
    """
    taken = {columns.target, columns.learner, columns.record_id, columns.time, columns.outcome_time, split_by, *columns.drop}
    kinds, words, n = {}, [], len(table)
    for name in [c for c in table.columns if c not in taken]:
        found = _look_at(table.columns[name], streaming)
        if found.different < 2 and found.present in (0, n):
            words.append(f"'{name}' (the same in every row)" if found.present else f"'{name}' (empty)")
        elif name in columns.categories:
            kinds[name] = "code"
        elif not found.numbers and found.written > found.different / 2:
            i = next(i for i, v in enumerate(table.columns[name]) if WRITTEN_NUMBER.fullmatch(present(v)))
            raise DataError(
                "the column's numbers are written as no program reads them.", file=table.path, row=table.rows[i], column=name,
                found=_shown(present(table.columns[name][i])), expected="3.5 for 3,5 and 80 for 80%",
                fix=f"If they are names, name the column with --category_columns '{name}'.",
            )  # fmt: skip
        elif found.numbers >= found.present / 2:
            if found.numbers == n and found.numbers_rows(bool(ID_NAME.search(name))):
                words.append(f"'{name}' (numbers the rows)")
            else:
                kinds[name] = "number"
        elif found.different > n / 2:
            words.append(f"'{name}' (a name or a text: {found.different} different values in {n} rows)")
        else:
            kinds[name] = "text"
    if not kinds:
        raise DataError(
            "no column is left to predict from.", file=table.path, found=", ".join(words) or None,
            expected="a column beside the target at least",
        )  # fmt: skip
    return kinds, words


@dataclass
class Part:
    """One file's records, with the file's row number of each."""

    path: Path
    dataset: Dataset
    rows: Sequence[int]
    rejected: list[tuple[str, int, str]]
    rows_read: int


def read_rows(
    table: Table,
    columns: RecordColumns,
    target: Target | None,
    kinds: Mapping[str, str],
    cutoff: Cutoff | None,
    split_by: str | None,
    skip: bool,
    streaming: bool = False,
) -> Part:
    """Map the user's columns to `schema.RECORDS` and check every cell; without a target, records to predict."""
    path = table.path
    for name in kinds:
        if name not in table.columns:
            close = closest(name, table.columns)
            raise DataError(
                "there is no such column, which the model is trained on." + (f" Did you mean '{close}'?" if close else ""),
                file=path, row=1, column=name,
            )  # fmt: skip
    if target:
        table.column(columns.target, "--target_column")
    ids = table.column(columns.record_id, "--id_column") if columns.record_id else None
    learners = table.column(columns.learner, "--learner_column") if columns.learner else None
    unit = table.column(split_by, "--split_by") if split_by else learners
    for option, name in (("--time_column", columns.time), ("--outcome_time_column", columns.outcome_time)):
        if name and cutoff:
            table.column(name, option)
    numbers = [name for name, kind in kinds.items() if kind == "number"]
    categories = [name for name, kind in kinds.items() if kind != "number"]
    for name in columns.subgroups if target else ():
        table.column(name, "--subgroup_columns")

    rows, first_row = row_numbers(streaming), FirstRows(streaming)
    problems: list[DataError] = []
    with RowWriter(RECORDS, streaming) as records:
        for i, row in enumerate(table.rows):
            try:
                record_id = as_text(ids[i]) if ids is not None else f"row {row}"
                learner = as_text(learners[i]) if learners is not None else ""
                if not record_id:
                    raise DataError("the id is missing.", file=path, row=row, column=columns.record_id)
                if ids is not None:
                    fix = "Give every record an id of its own, or name the column with --learner_column."
                    refuse_again(first_row.find(record_id), file=path, row=row, column=columns.record_id, fix=fix)
                if columns.learner and not learner:
                    raise DataError("the learner is missing.", file=path, row=row, column=columns.learner)
                values = (
                    record_id, learner, as_text(unit[i]) if unit is not None else "",
                    _lead_time(table, columns, i, cutoff) if cutoff else math.nan,
                    [_number(table, name, i) for name in numbers],
                    [_category(table, name, i, kinds[name]) for name in categories],
                    target.read(table, columns.target, i) if target else math.nan,
                    [present(table.columns[name][i]) if name in table.columns else "" for name in columns.subgroups],
                )  # fmt: skip
                check_names((record_id, learner, values[2], *values[5], *values[7]), file=path, row=row)
            except DataError as error:
                problems.append(error)
                continue
            if ids is not None:
                first_row.add(record_id, row)
            rows.append(row)
            records.append(dict(zip(RECORDS, values, strict=True)))
        refuse_bad_rows(problems, skip, rows, path)
        rejected = [(path.name, e.row, str(e)) for e in problems]
        return Part(path, records.dataset(), rows, rejected, len(table))


def _lead_time(table: Table, columns: RecordColumns, i: int, cutoff: Cutoff) -> float:
    """Days from the cut-off to the outcome, nan where unknown; refuses a row that the cut-off does not allow."""
    if columns.time:
        day = cutoff.read(table, columns.time, i)
        if not day < cutoff.day:  # nan, too
            raise DataError(
                "the time is missing." if math.isnan(day) else "the row is dated on the cut-off or after it.",
                file=table.path, row=table.rows[i], column=columns.time, expected=f"a day before {cutoff.stated}",
                fix="What became known later cannot predict: bring the record as it was before the cut-off.",
            )  # fmt: skip
    if not columns.outcome_time:
        return math.nan
    day = cutoff.read(table, columns.outcome_time, i)
    if day < cutoff.day:
        raise DataError(
            "the outcome fell before the cut-off.", file=table.path, row=table.rows[i], column=columns.outcome_time,
            expected=f"a day from {cutoff.stated} on", fix="Who has left by then is not to be predicted: take the row out.",
        )  # fmt: skip
    return day - cutoff.day


# ---- columns that give the target away ------------------------------------------------------------------------------


def refuse_twins(part: Part, columns: RecordColumns, kinds: Mapping[str, str], target: Target) -> list[str]:
    """Refuse the target under another name, and return a warning for each column that tells it alone.

    A twin of a class is a column of which each value goes with one class and each class with one value, or that is empty in one
    of two classes and nowhere else; a twin of a quantity rises or falls with it in every row.

    Raises:
        DataError: Names the column.
    """
    regression, warnings = target.task == "regression", []
    y = _ranks(targets(part.dataset), is_on_disk(part.dataset))
    begin = part.dataset.select(range(min(FIRST, len(y))))
    places = {"numbers": itertools.count(), "categories": itertools.count()}
    for name, kind in kinds.items():
        column = "numbers" if kind == "number" else "categories"
        place = next(places[column])
        if len(y) > FIRST and not _may_tell(*_known(begin, column, place), y[:FIRST], kind, regression, y.max() + 1 == len(y)):
            continue
        known, values = _known(part.dataset, column, place)
        if not known.any():
            continue
        outcome = _ranks(y[known])
        enough = known.sum() > len(y) / 2 and values.max() > 0 and outcome.max() > 0
        if regression:
            ordered = kind == "number" and _ordered(values, outcome)
            twin = enough and (ordered or (outcome.max() < len(outcome) / 2 and _one_to_one(values, outcome)))
        else:
            twin = (enough and _one_to_one(values, outcome)) or _one_to_one(known, y)
            if enough and not twin and _tells(values, outcome, kind):
                warnings.append(
                    f"The column '{name}' tells the target alone: none of its values goes with two classes. If it was not "
                    f"known on the day of the prediction, leave it out with --drop_columns '{name}'."
                )
        if twin:
            raise DataError(
                f"the column is the target '{columns.target}' under another name: each tells the other in every row.",
                file=part.path, column=name, fix=f"Leave it out with --drop_columns '{name}'.",
            )  # fmt: skip
    return warnings


def targets(dataset: Dataset) -> np.ndarray:
    """The target of each row, float64 array."""
    return from_values(column_values(dataset, "target"), float, is_on_disk(dataset))


def _known(dataset: Dataset, column: str, place: int) -> tuple[np.ndarray, np.ndarray]:
    """Where a feature is known, bool array (rows,), and the values that are known numbered, those of numbers in order."""
    values = _entries(dataset, column, place)
    known = ~np.isnan(values) if column == "numbers" else values != 0
    return known, _ranks(values[known])


def _may_tell(
    known: np.ndarray, values: np.ndarray, y: np.ndarray, kind: str, regression: bool, all_different: bool
) -> bool:  # fmt: skip
    """Whether the first rows leave it open that a column tells the target; hardly one does, and the others need no more memory.

    Args:
        known, values: Of the column in these rows, see `_known`.
        y: Their targets, numbered in order.
        kind: Of the column.
        regression: Whether the target is a quantity.
        all_different: Whether no two rows of all have one target.
    """
    if not known.any():
        return True
    outcome = _ranks(y[known])
    alone = _pairs(values, outcome) == values.max() + 1
    if regression:
        return alone and (kind != "number" or not all_different or _ordered(values, outcome))
    parted = kind != "number" or values.max() == outcome.max() or _parted(values, outcome)
    return (alone and parted) or _pairs(known, y) == count_different(known.copy())


def _entries(dataset: Dataset, column: str, place: int) -> np.ndarray:
    """One entry of each list: float64 array of a number, uint64 array of keys of a category, 0 where it is ''."""
    found, start = np.empty(len(dataset), float if column == "numbers" else np.uint64), 0
    for table in dataset.select_columns([column]).with_format("arrow").iter(BLOCK):
        block = pc.list_element(table.column(0), place)
        values = block.to_numpy() if column == "numbers" else keys_of(block.to_pylist())
        found[start : start + len(values)] = values
        start += len(values)
    return found


def _ranks(values: np.ndarray, streaming: bool = False) -> np.ndarray:
    """The number of each value in order, int32 array; with less memory than `np.unique` takes for it."""
    different = zeros(len(values), values.dtype, streaming)
    different[:] = values
    different.sort()
    different = different[np.r_[True, different[1:] != different[:-1]][: len(different)]]
    ranks = zeros(len(values), np.int32, streaming)
    for start in range(0, len(values), BLOCK):
        ranks[start : start + BLOCK] = np.searchsorted(different, values[start : start + BLOCK])
    return ranks


def _pairs(a: np.ndarray, b: np.ndarray) -> int:
    """How many different pairs of numbers from 0 on there are."""
    both = a.astype(np.int64)
    both *= int(b.max()) + 1
    both += b
    return count_different(both)


def _one_to_one(a: np.ndarray, b: np.ndarray) -> bool:
    return _pairs(a, b) == count_different(a.copy()) == count_different(b.copy()) > 1


def _ordered(values: np.ndarray, outcome: np.ndarray) -> bool:
    return np.array_equal(values, outcome) or np.array_equal(values.max() - values, outcome)


def _parted(values: np.ndarray, outcome: np.ndarray) -> bool:
    """Whether thresholds part the classes."""
    return np.count_nonzero(np.diff(outcome[np.argsort(values, kind="stable")])) == outcome.max()


def _tells(values: np.ndarray, outcome: np.ndarray, kind: str) -> bool:
    """Whether thresholds part the classes, or values that stand five times on average go with one class each."""
    if _pairs(values, outcome) > values.max() + 1 or np.bincount(outcome).min() < 5:
        return False
    if kind == "number":
        return _parted(values, outcome)
    return values.max() + 1 <= len(values) / 5
