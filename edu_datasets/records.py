"""Learners' records and what became of them: UCI's two tables, OULAD, the sample school, a Hub data set, a school's own file.

What is known only after the day of the prediction must not stand among the features. The loaders of the public sets leave it
out by a cut-off; in a file of the user's own, dates behind the cut-off and columns that give the target away are refused.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets

from .arrow_cache import column_values, is_on_disk
from .errors import DataError, in_file
from .essays import find_data_dir, read_hub
from .files import Table, as_text, closest, own_files, read_table, unknown_data_set
from .oulad import read_oulad
from .provenance import Provenance
from .record_rows import (
    Cutoff,
    Part,
    RecordColumns,
    find_cutoff,
    find_kinds,
    find_target,
    read_rows,
    refuse_twins,
    targets,
    to_number,
)
from .row_arrays import column_keys, count_different, select_rows
from .school_generator import TERM_DAYS, school_records
from .splits import check_limits, connected_groups, find_leaks, fold_numbers, shorten

logger = logging.getLogger(__name__)

TASKS = ("regression", "binary", "multiclass")
BUILT_IN = ("sample_school", "student_mat", "dropout_academic_success", "oulad")

MAT_GROUPS = {
    "background": ("school", "sex", "age", "address", "nursery"),
    "family": ("famsize", "Pstatus", "Medu", "Fedu", "Mjob", "Fjob", "guardian", "famrel", "famsup", "internet"),
    "school life": ("reason", "traveltime", "studytime", "failures", "schoolsup", "paid", "activities", "higher", "absences"),
    "leisure and health": ("romantic", "freetime", "goout", "Dalc", "Walc", "health"),
    "earlier grades": ("G1", "G2"),
}  # fmt: skip
DROPOUT_GROUPS = {
    "background": ("Marital status", "Nacionality", "Displaced", "Educational special needs", "Gender",
                   "Age at enrollment", "International"),
    "family": ("Mother's qualification", "Father's qualification", "Mother's occupation", "Father's occupation"),
    "application": ("Application mode", "Application order", "Course", "Daytime/evening attendance",
                    "Previous qualification", "Previous qualification (grade)", "Admission grade"),
    "money": ("Debtor", "Tuition fees up to date", "Scholarship holder"),
    "economy": ("Unemployment rate", "Inflation rate", "GDP"),
    **{
        f"semester {n}": tuple(
            f"Curricular units {th} sem ({what})"
            for what in ("credited", "enrolled", "evaluations", "approved", "grade", "without evaluations")
        )
        for n, th in ((1, "1st"), (2, "2nd"))
    },
}  # fmt: skip
DROPOUT_CODES = (
    "Marital status", "Application mode", "Course", "Daytime/evening attendance", "Previous qualification", "Nacionality",
    "Mother's qualification", "Father's qualification", "Mother's occupation", "Father's occupation", "Displaced",
    "Educational special needs", "Debtor", "Tuition fees up to date", "Gender", "Scholarship holder", "International",
)  # fmt: skip
NEAR_OUTCOME = ("Debtor", "Tuition fees up to date")
DROPOUT_LATER = {
    "enrolment": (*NEAR_OUTCOME, *DROPOUT_GROUPS["semester 1"], *DROPOUT_GROUPS["semester 2"]),
    "semester1": DROPOUT_GROUPS["semester 2"],
    "semester2": (),
}
"""What is not known yet at each cut-off. Who owes fees is not known at enrolment: nobody does."""

SCHOOL_GROUPS = {
    "background": ("grade", "language_learner", "support", "days_registered_late"),
    "earlier grades": ("previous_grade",),
    "presence": ("attendance", "homework_share"),
    "quizzes": ("answers", "quiz_mean", "quiz_mean_14_days", "days_since_last_answer"),
}


@dataclass
class RecordDataset(Provenance):
    """Records ready for a recipe.

    Attributes:
        splits: train, validation and test with the columns of `schema.RECORDS`.
        name: What the data set is called in the card.
        target: What is predicted.
        task: 'regression', 'binary' or 'multiclass'.
        classes: The names of the classes in order, [] for regression; of two the second is what an alert is for.
        positive_class: The class an alert is for; '' for regression and where several classes name none.
        number_columns: The names of the entries of `numbers`.
        category_columns: The names of the entries of `categories`.
        feature_groups: Feature -> the group it is explained with.
        subgroup_columns: The names of the entries of `subgroups`.
        cutoff: The day or stage of the prediction in words, '' where there is none.
    """

    splits: DatasetDict
    name: str
    target: str
    task: str
    classes: list[str]
    positive_class: str
    number_columns: list[str]
    category_columns: list[str]
    feature_groups: dict[str, str]
    subgroup_columns: list[str]
    cutoff: str = ""

    def fold_splits(self, k: int, seed: int) -> dict[str, DatasetDict]:
        """Cut train and validation together into `k` folds for cross-validation; the test split is not in them.

        Returns:
            fold_0, fold_1, ...: test (the fold), validation (a fifth of the rest), train.
        """
        pool = concatenate_datasets([self.splits["train"], self.splits["validation"]])
        folds = _folds(pool, self.task, k, seed)
        return {f"fold_{n}": _cut(pool, self.task, seed, folds == n) for n in range(k)}

    def summary(self) -> str:
        """Counts by split and features by group, for `--check_data` and the log."""
        lines = [f"{self.name}: {self.rows_read:,} rows read, {len(self.rejected)} left out. {self.split_protocol}"]
        lines += [f"  outside of the protocol: {', '.join(f'{n:,} {why}' for why, n in self.left_out.items())}"] * bool(
            self.left_out
        )
        lines += [f"  {self.task} of '{self.target}'" + (f", known at {self.cutoff}" if self.cutoff else "")]
        heads = self.classes or ["mean", "sd"]
        lines += [f"  {'':10} {'rows':>8} {'learners':>9} " + " ".join(f"{h[:12]:>12}" for h in heads)]
        for split, rows in self.splits.items():
            y = targets(rows)
            values = [np.mean(y == c) for c in range(len(self.classes))] or [y.mean(), y.std()]
            keys = column_keys(rows, "group_id")
            unknown = int(np.count_nonzero(keys == 0))  # each is taken for another learner
            learners = unknown + count_different(keys) - (unknown > 0)
            lines += [f"  {split:10} {len(rows):8,} {learners:9,} " + " ".join(f"{v:12.3f}" for v in values)]
        sizes = Counter(self.feature_groups.values())
        groups = ", ".join(f"{g} ({n})" for g, n in sizes.items()) if max(sizes.values()) > 1 else "each by itself"
        lines += [f"  {len(self.number_columns)} numbers and {len(self.category_columns)} categories, in groups: {groups}"]
        return "\n".join(lines)

    def facts(self) -> dict:
        """What the report says of the data; no id and no record."""
        return self.source_facts({s: len(d) for s, d in self.splits.items()}) | {
            "target": self.target, "task": self.task, "classes": self.classes, "positive_class": self.positive_class,
            "cutoff": self.cutoff,
        }  # fmt: skip


def load_records(
    dataset_name: str = "sample_school",
    *,
    data_dir: str | Path | None = None,
    train_file: str | Path | None = None,
    validation_file: str | Path | None = None,
    test_file: str | Path | None = None,
    columns: RecordColumns | None = None,
    task: str | None = None,
    positive_class: str | None = None,
    cutoff: str | float | None = None,
    earlier_grades: bool = False,
    split: str = "forward",
    withdrawn: bool = False,
    fold: int = 0,
    folds: int = 5,
    split_by: str | None = None,
    seed: int = 42,
    encoding: str | None = None,
    separator: str | None = None,
    skip_bad_rows: bool = False,
    revision: str | None = None,
    max_train_samples: int | None = None,
    max_eval_samples: int | None = None,
    streaming: bool = False,
) -> RecordDataset:
    """Load records and split them by learner, with what was known at a cut-off as features.

    Args:
        dataset_name: One of `BUILT_IN`, or a Hub id (with a slash). Ignored with `train_file`.
        data_dir: The folder that holds the public sets; else the environment variable EDU_DATA_DIR.
        train_file: A table of the user's own, see `files.read_table`. What is not given of validation and test is cut from it.
        validation_file: Likewise.
        test_file: Likewise.
        columns: The user's column names. Of a built-in set, `drop` and `subgroups` count, and the sample school's `target` may
            be 'final_grade'.
        task: 'regression', 'binary' or 'multiclass'; None finds it: a target of more than ten different numbers is a quantity.
        positive_class: The class an alert is for; None takes one that says so ('fail', say) or else the rarer of two.
        cutoff: The day of the prediction: a number (OULAD 30, sample school 42 by default) or, in a user's file, a date. For
            dropout_academic_success 'enrolment', 'semester1' (default) or 'semester2'.
        earlier_grades: Keep student_mat's G1 and G2, with which the task is easy.
        split: 'forward' trains OULAD on 2013J and tests on 2014J; 'random' mixes both, to show how that inflates the figures.
        withdrawn: Keep OULAD's learners who withdrew after the cut-off, as failed; `time` is then their lead time.
        fold: Which fold is the test split.
        folds: The number of folds.
        split_by: A column of the user's file; rows with one value stay on one side. None takes the learner column.
        seed: Seed of the split.
        encoding: See `files.read_table`.
        separator: See `files.read_table`.
        skip_bad_rows: Leave rows that cannot be used out, and list them, instead of ending the run.
        revision: The revision of a Hub data set.
        max_train_samples: Keep a random part of training.
        max_eval_samples: Keep a random part of validation and of test.
        streaming: Keep the rows of the user's own files on disk, see `arrow_cache`.

    Raises:
        DataError: With file, row and column.
    """
    check_limits(max_train_samples, max_eval_samples)
    if folds < 2 or fold not in range(folds):
        raise DataError("there is no such fold.", found=f"{fold} of {folds}", expected=f"2 folds at least, 0 to {folds - 1}")
    if task not in (None, *TASKS):
        raise DataError("unknown task.", found=task, expected=f"one of {', '.join(TASKS)}")
    built_in = None if train_file else dataset_name
    for name, used, only in (
        ("--earlier_grades", earlier_grades, "student_mat"), ("--split", split != "forward", "oulad"),
        ("--withdrawn", withdrawn, "oulad"),
    ):  # fmt: skip
        if used and built_in != only:
            raise DataError(f"{name} is an option of {only}.", fix="Leave it out.")
    columns = columns or RecordColumns()
    if files := own_files(train_file, validation_file, test_file):
        tables = {s: read_table(path, encoding, separator, streaming) for s, path in files.items()}
        source = _Source(tables, columns, Path(train_file).name, day=find_cutoff(cutoff, columns))
    elif "/" in dataset_name:
        source = _Source(read_hub(dataset_name, revision), columns, dataset_name, day=find_cutoff(cutoff, columns))
    elif dataset_name == "sample_school":
        source = _sample_school(columns, cutoff)
    elif dataset_name == "student_mat":
        source = _student_mat(find_data_dir(data_dir) / "student_performance", cutoff, earlier_grades)
    elif dataset_name == "dropout_academic_success":
        source = _dropout(find_data_dir(data_dir) / "student_performance" / dataset_name, cutoff)
    elif dataset_name == "oulad":
        source = _oulad(find_data_dir(data_dir) / "oulad", cutoff, split, withdrawn)
    else:
        raise unknown_data_set(dataset_name, BUILT_IN, ", or a Hub id such as user/records")
    if built_in in BUILT_IN:
        mine = source.columns
        source.columns = replace(mine, drop=(*mine.drop, *columns.drop), subgroups=columns.subgroups or mine.subgroups)
    source.task, source.positive_class = task or source.task, positive_class or source.positive_class
    with in_file(source.tables["train"].path):
        data = _assemble(source, split_by, (fold, folds, seed), skip_bad_rows, streaming)
    data.splits = shorten(data.splits, max_train_samples, max_eval_samples, seed)
    for warning in data.warnings:
        logger.warning("%s", warning)
    return data


def read_records(
    path: str | Path,
    number_columns: Sequence[str],
    category_columns: Sequence[str],
    columns: RecordColumns | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    skip_bad_rows: bool = False,
) -> tuple[Dataset, list[int], list[tuple[str, int, str]]]:
    """Read records to predict: the features a model was trained on, no target.

    Returns:
        The records (`schema.RECORDS`, target nan), the file's row number of each, and (file, row, reason) of the rows left out.
    """
    table = read_table(path, encoding, separator)
    kinds = dict.fromkeys(number_columns, "number") | dict.fromkeys(category_columns, "code")
    part = read_rows(table, columns or RecordColumns(), None, kinds, None, None, skip_bad_rows)
    return part.dataset, part.rows, part.rejected


# ---- from rows to a data set ----------------------------------------------------------------------------------------


@dataclass
class _Source:
    """Tables, one a split that is given, and what is known of them."""

    tables: dict[str, Table]
    columns: RecordColumns
    name: str
    task: str | None = None
    positive_class: str | None = None
    groups: dict[str, str] = field(default_factory=dict)
    day: Cutoff | None = None
    cutoff: str = ""
    licence: str = "not stated"
    protocol: str = ""
    left_out: dict[str, int] = field(default_factory=dict)
    rows_read: int | None = None
    warnings: list[str] = field(default_factory=list)


def _assemble(
    source: _Source, split_by: str | None, folds: tuple[int, int, int], skip: bool, streaming: bool = False
) -> RecordDataset:  # fmt: skip
    """Find target and features in the training file, read all files, and cut what was not given."""
    columns, train = source.columns, source.tables["train"]
    target = find_target(train, columns.target, source.task, source.positive_class)
    for option, names in (
        ("--subgroup_columns", columns.subgroups), ("--category_columns", columns.categories), ("--drop_columns", columns.drop),
        ("--split_by", [split_by] if split_by else []),
    ):  # fmt: skip
        for name in names:
            train.column(name, option)
            if name == columns.target:
                raise DataError("the target cannot be this, too.", column=name, fix=f"Take it out of {option}.")
    kinds, not_features = find_kinds(train, columns, split_by, streaming)
    parts = {s: read_rows(t, columns, target, kinds, source.day, split_by, skip, streaming) for s, t in source.tables.items()}
    warnings = [*source.warnings]
    if not_features:
        warnings.append(f"Not among the features: {', '.join(not_features)}.")
    if target.task == "binary" and not source.positive_class:
        warnings.append(f"Alerts are for '{target.positive_class}'; --positive_class names another class.")
    y = targets(parts["train"].dataset)
    if y.min() == y.max():
        raise DataError(
            "the target is the same in every row.", file=train.path, column=columns.target, expected="two values at least"
        )
    warnings += refuse_twins(parts["train"], columns, kinds, target)
    given = DatasetDict({s: part.dataset for s, part in parts.items()})
    protocol = source.protocol or _check_given_splits(given, parts, columns, split_by)
    missing = [s for s in ("validation", "test") if s not in given]
    if missing:
        fold, n_folds, seed = folds
        train_rows = given["train"]
        test = _folds(train_rows, target.task, n_folds, seed) == fold if "test" in missing else np.zeros(len(train_rows), bool)
        cut = _cut(train_rows, target.task, seed, test)
        if missing == ["test"]:
            cut["train"] = concatenate_datasets([cut["train"], cut.pop("validation")])
        given.update(cut)
        unit = split_by or columns.learner
        how = [f"test is fold {fold} of {n_folds}"] * ("test" in missing)
        how += ["validation a fifth of the rest"] * ("validation" in missing)
        balanced = "quantity" if target.task == "regression" else "class"
        protocol += f"{' and '.join(how).capitalize()}, {f'by {unit}, ' if unit else ''}balanced by {balanced}, seed {seed}."
    trained = set(targets(given["train"]).tolist()) if target.classes else ()
    for i, name in enumerate(target.classes):
        if i not in trained:
            raise DataError(
                "the class is too rare: no row of it is left to train on.", file=train.path, column=columns.target, found=name,
                fix="Bring more rows of it, or leave it out.",
            )  # fmt: skip
    numbers = [name for name, kind in kinds.items() if kind == "number"]
    return RecordDataset(
        DatasetDict({s: given[s] for s in ("train", "validation", "test")}), source.name, columns.target, target.task,
        target.classes, target.positive_class, numbers, [name for name in kinds if name not in numbers],
        {name: source.groups.get(name, name) for name in kinds}, list(columns.subgroups),
        cutoff=source.cutoff or (source.day.stated if source.day else ""), split_protocol=protocol, licence=source.licence,
        rows_read=source.rows_read or sum(p.rows_read for p in parts.values()),
        rejected=[r for p in parts.values() for r in p.rejected], left_out=source.left_out, warnings=warnings,
    )  # fmt: skip


def _check_given_splits(given: DatasetDict, parts: dict[str, Part], columns: RecordColumns, split_by: str | None) -> str:
    """Refuse a learner, a record or a group that stands in two files."""
    what = [("learner_id", "learner", columns.learner), ("group_id", split_by, split_by)]
    what += [("record_id", "id", columns.record_id)]
    for column, word, name in what:
        for _, split, other, row, other_row in find_leaks(given, [column]) if name else []:
            raise DataError(
                f"the {word} stands in row {parts[split].rows[row]} of {parts[split].path.name} ({split}) too.",
                file=parts[other].path, row=parts[other].rows[other_row], column=name,
                expected="nobody in two splits, or the test result means nothing", fix="Take the rows out of one of the files.",
            )  # fmt: skip
    return f"Given files: {', '.join(f'{p.path.name} as {s}' for s, p in parts.items())}. " if len(parts) > 1 else ""


def _folds(dataset: Dataset, task: str, k: int, seed: int) -> np.ndarray:
    """The fold of each row; no group is cut, and classes or fifths of a quantity are balanced."""
    y, streaming = targets(dataset), is_on_disk(dataset)
    strata = np.searchsorted(np.quantile(y, [0.2, 0.4, 0.6, 0.8]), y) if task == "regression" else y
    groups = connected_groups(column_values(dataset, "group_id"), streaming=streaming)
    return fold_numbers(groups, strata, k, seed, streaming)


def _cut(dataset: Dataset, task: str, seed: int, test: np.ndarray) -> DatasetDict:
    """Test as stated by a bool for each row, validation a fifth of the rest, train; without test rows two splits."""
    validation = ~test
    validation[validation] = _folds(select_rows(dataset, validation), task, 5, seed) == 0
    splits = {"train": ~(test | validation), "validation": validation} | ({"test": test} if test.any() else {})
    return DatasetDict({name: select_rows(dataset, rows) for name, rows in splits.items()})


# ---- built-in data sets ---------------------------------------------------------------------------------------------


def _groups(groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return {column: group for group, columns in groups.items() for column in columns}


def _no_cutoff(name: str, cutoff: object) -> None:
    if cutoff is not None:
        raise DataError(f"{name} has no cut-off.", found=cutoff, fix="Leave --cutoff out.")


def _day_or(cutoff: str | float | None, default: float) -> Cutoff:
    if cutoff is None:
        return Cutoff(f"{default:g}", default)
    if (day := to_number(as_text(cutoff))) is None:
        raise DataError("the cut-off is no day.", found=cutoff, expected="a number of days since the start")
    return Cutoff(as_text(cutoff), day)


def _sample_school(columns: RecordColumns, cutoff: str | float | None) -> _Source:
    """The embedded default, see school_generator.py: 400 fictional learners, their term so far, and how it ended."""
    day = _day_or(cutoff, 42.0)
    if not 0 < day.day < TERM_DAYS:
        raise DataError("the cut-off is outside of the term.", found=day.stated, expected=f"a day from 1 to {TERM_DAYS - 1}")
    rows = school_records(day.day)
    table = Table(Path("sample_school"), {name: [r[name] for r in rows] for name in rows[0]}, list(range(1, len(rows) + 1)))
    table.columns["term_ends"] = [float(TERM_DAYS)] * len(rows)
    target, other = ("final_grade", "outcome") if columns.target == "final_grade" else ("outcome", "final_grade")
    columns = RecordColumns(
        target, learner="learner_id", record_id="learner_id", outcome_time="term_ends",
        subgroups=("grade", "language_learner"), categories=("grade",), drop=(other,),
    )  # fmt: skip
    return _Source(
        {"train": table}, columns, "sample_school (fictional)", positive_class="failed" if target == "outcome" else None,
        groups=_groups(SCHOOL_GROUPS), day=day, cutoff=f"day {day.stated}", licence="apache-2.0",
    )  # fmt: skip


def _student_mat(folder: Path, cutoff: object, earlier_grades: bool) -> _Source:
    """UCI Student Performance, mathematics (Cortez and Silva 2008): 395 pupils, final grade G3 from 0 to 20.

    A row: school 'GP', sex 'F', age 18, address 'U', famsize 'GT3', ..., absences 6, G1 5, G2 6, G3 6. The file is separated
    by semicolons and quotes its texts, and G1 and G2 too.
    """
    _no_cutoff("student_mat", cutoff)
    table = _expect(read_table(folder / "student-mat.csv"), [*_groups(MAT_GROUPS), "G3"])
    grades = (
        "G1 and G2, the grades of the first two periods, are among the features: that is easy, and no early warning."
        if earlier_grades
        else "G1 and G2, the grades of the first two periods, are left out; many published figures keep them."
    )
    columns = RecordColumns(
        "G3", subgroups=("sex", "address", "school"), drop=() if earlier_grades else MAT_GROUPS["earlier grades"]
    )
    return _Source(
        {"train": table}, columns, "student_mat", "regression", groups=_groups(MAT_GROUPS),
        cutoff="the second grade" if earlier_grades else "",
        licence="cc-by-4.0 as UCI lists it; not stated in the copy",
        warnings=[grades, "absences are those of the whole year, known at its end alone."],
    )  # fmt: skip


def _dropout(folder: Path, cutoff: str | float | None) -> _Source:
    """UCI Predict Students' Dropout and Academic Success (Martins et al. 2021): 4,424 students, three classes.

    A row: Marital status 1, Application mode 17, ..., Curricular units 2nd sem (grade) 13.67, ..., GDP 1.74, Target
    'Graduate'. The file is separated by semicolons, begins with a byte order mark, and one column's name ends with a tab.
    """
    stage = "semester1" if cutoff is None else as_text(cutoff)
    if stage not in DROPOUT_LATER:
        close = closest(stage, DROPOUT_LATER)
        raise DataError(
            "unknown cut-off." + (f" Did you mean '{close}'?" if close else ""), found=stage,
            expected=f"one of {', '.join(DROPOUT_LATER)}",
        )  # fmt: skip
    table = _expect(read_table(folder / "data.csv"), [*_groups(DROPOUT_GROUPS), "Target"])
    near = [
        "Debtor and 'Tuition fees up to date' are near the outcome: who is about to leave stops paying. Compare with "
        "--drop_columns Debtor 'Tuition fees up to date'."
    ]
    columns = RecordColumns(
        "Target", subgroups=("Gender", "Scholarship holder", "International"), categories=DROPOUT_CODES,
        drop=DROPOUT_LATER[stage],
    )  # fmt: skip
    return _Source(
        {"train": table}, columns, "dropout_academic_success", "multiclass", "Dropout", _groups(DROPOUT_GROUPS),
        cutoff={"enrolment": "enrolment", "semester1": "the end of semester 1", "semester2": "the end of semester 2"}[stage],
        licence="cc-by-4.0 as UCI lists it; not stated in the copy", warnings=near if stage != "enrolment" else [],
    )  # fmt: skip


def _expect(table: Table, names: Sequence[str]) -> Table:
    for name in names:
        if name not in table.columns:
            raise DataError("the column is missing.", file=table.path, row=1, column=name, expected="UCI's original file")
    return table


def _oulad(folder: Path, cutoff: str | float | None, split: str, withdrawn: bool) -> _Source:
    """OULAD, see oulad.py: the October presentations of 2013 to train on and of 2014 to test on, fail against pass."""
    if split not in ("forward", "random"):
        raise DataError("unknown split.", found=split, expected="forward or random")
    day = _day_or(cutoff, 30.0)
    found = read_oulad(folder, day.day, withdrawn=withdrawn)
    table, left_out, warnings = found.table, dict(found.left_out), []
    kept = "Withdrawn after the cut-off counts as fail" if withdrawn else "Withdrawn left out"
    protocol = f"J presentations, {kept}, Distinction counts as pass, learners enrolled on day {day.stated}. "
    if split == "random":
        tables = {"train": table}
        warnings = ["The split is random over both years: figures are higher than a school's next year will be."]
    else:
        early = [p == "2013J" for p in table.columns["presentation"]]
        seen = {learner for learner, e in zip(table.columns["learner"], early, strict=True) if e}
        new = [learner not in seen and not e for learner, e in zip(table.columns["learner"], early, strict=True)]
        left_out["in both years"] = len(table) - sum(early) - sum(new)
        tables = {"train": table.where(early), "test": table.where(new)}
        known = set(tables["train"].columns["module"])
        for module in sorted(set(tables["test"].columns["module"]) - known):
            n = tables["test"].columns["module"].count(module)
            warnings.append(f"{n:,} test rows are of module {module}, which has no presentation in training.")
        protocol += "Train 2013J, test 2014J without learners of 2013J. "
    columns = RecordColumns(
        "outcome", learner="learner", record_id="record_id", outcome_time="outcome_day",
        subgroups=("gender", "age_band", "imd_band", "disability"), drop=("presentation", "age_band", "imd_band"),
    )  # fmt: skip
    return _Source(
        tables, columns, "oulad", "binary", "fail", found.groups, day, f"day {day.stated}",
        "cc-by-4.0 as the Open University states it; not stated in the copy", protocol, left_out, found.rows_read, warnings,
    )  # fmt: skip
