"""The Open University's learning analytics: six or seven tables joined to what was known of an enrolment on one day.

Nothing that happened on that day or after enters: submissions are cut by their date, clicks by theirs. The day a learner
left and the final result are the outcome, never a feature. What the tables do not say is when a mark came back; it counts as
known on the day of its submission.

Source: Kuzilek, Hlosta and Zdrahal (2017), Scientific Data 4:170171.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .errors import DataError
from .files import Table, read_table

COLUMNS = {
    "courses": ("code_module", "code_presentation", "module_presentation_length"),
    "assessments": ("code_module", "code_presentation", "id_assessment", "assessment_type", "date", "weight"),
    "studentInfo": (
        "code_module", "code_presentation", "id_student", "gender", "region", "highest_education", "imd_band", "age_band",
        "num_of_prev_attempts", "studied_credits", "disability", "final_result",
    ),
    "studentRegistration": ("code_module", "code_presentation", "id_student", "date_registration", "date_unregistration"),
    "studentAssessment": ("id_assessment", "id_student", "date_submitted", "is_banked", "score"),
    "vle": ("id_site", "code_module", "code_presentation", "activity_type"),
    "studentVle": ("code_module", "code_presentation", "id_student", "id_site", "date", "sum_click"),
}  # fmt: skip
EDUCATION = (
    "No Formal quals", "Lower Than A Level", "A Level or Equivalent", "HE Qualification", "Post Graduate Qualification",
)  # fmt: skip
AGES = ("0-35", "35-55", "55<=")
IMD_BANDS = tuple(f"{low}-{low + 10}%" for low in range(0, 100, 10))
RESULTS = ("Pass", "Distinction", "Fail", "Withdrawn")
FIRST_DAY = -60  # clicks before it count as on it

BACKGROUND = ("gender", "region", "disability", "education_level", "age_level", "imd_level")
COURSE = ("module", "studied_credits", "previous_attempts", "registered_days_before_start")
ASSESSMENTS = (
    "assessments_due", "share_of_due_submitted", "weight_due", "assessments_submitted", "carried_over", "score_of_due",
    "weighted_score_of_due", "mean_score", "lowest_score", "last_score", "tutor_marked_score", "computer_marked_score",
    "days_early", "days_early_last", "late_submissions", "days_since_last_submission",
)  # fmt: skip
CLICKS = ("clicks", "active_days", "active_days_of_last_14", "days_since_last_click")


@dataclass
class Enrolments:
    """What was known of each enrolment of the October presentations at the start of a day.

    Attributes:
        table: A row an enrolment: record_id, learner, presentation, outcome ('pass' or 'fail'), outcome_day, the bands as text
            (age_band, imd_band), and the features.
        left_out: Reason -> number of enrolments that are not in the table.
        rows_read: Enrolments in studentInfo.
        groups: Feature -> its group.
    """

    table: Table
    left_out: dict[str, int]
    rows_read: int
    groups: dict[str, str]


@dataclass
class _Assessment:
    presentation: tuple[str, str]  # module, presentation
    kind: str
    due: float  # nan where the table gives no date: a final exam
    weight: float


@dataclass
class _Enrolment:
    """One row of studentInfo with what the other tables say of it."""

    registered: float = math.nan
    left: float = math.nan
    handed_in: list[tuple[str, float, float]] = field(default_factory=list)  # assessment, day, score
    carried_over: list[str] = field(default_factory=list)


def read_oulad(
    folder: str | Path, day: float = 30, presentations: tuple[str, ...] = ("2013J", "2014J"), withdrawn: bool = False
) -> Enrolments:
    """Join the tables of OULAD.

    Args:
        folder: Holds the distribution's csv files, plain or gzip. With studentVle.csv there are features of clicks, too (it is
            read as a stream; written from the published column list and not run on the real file).
        day: The day of the prediction, counted from the start of the presentation; only rows dated before it are used.
        presentations: The presentations to keep.
        withdrawn: Keep learners who withdrew later, as failed. Else they are left out.

    Raises:
        DataError: A file or column is missing, a cell is no number where one is due, the tables do not fit together.
    """
    folder = Path(folder)
    info = _read(folder, "studentInfo")
    lengths = _lengths(folder, presentations, day)
    assessments = _assessments(folder)
    of_presentation: dict[tuple[str, str], list[str]] = {}
    for name, assessment in assessments.items():
        of_presentation.setdefault(assessment.presentation, []).append(name)
    enrolments = _registrations(folder, set(presentations))
    _submissions(folder, assessments, enrolments, day)
    left_out: Counter[str] = Counter()
    records, rows, keys = [], [], []
    for i, row in enumerate(info.rows):
        cells = {name: info.columns[name][i] for name in COLUMNS["studentInfo"]}
        presentation = cells["code_presentation"]
        if presentation not in presentations:
            left_out["another presentation"] += 1
            continue
        key = (cells["code_module"], presentation, cells["id_student"])
        enrolment = enrolments.get(key)
        if enrolment is None:
            raise DataError("the enrolment has no registration.", file=info.path, row=row, fix="Is studentRegistration whole?")
        result = _one_of(info, "final_result", i, RESULTS)
        withdrew = result == "Withdrawn"
        if withdrew and not withdrawn:
            left_out["withdrawn"] += 1
        elif withdrew and math.isnan(enrolment.left):
            left_out["withdrawn on an unknown day"] += 1
        elif enrolment.left < day or enrolment.registered >= day:
            left_out["not enrolled on the day"] += 1
        else:
            over = enrolment.left if withdrew else lengths[key[:2]]
            known = {
                "record_id": "/".join(key), "learner": key[2], "presentation": presentation,
                "outcome": "fail" if result in ("Fail", "Withdrawn") else "pass", "outcome_day": over,
                "age_band": cells["age_band"], "imd_band": _imd_band(info, i),
                **_background(info, i, enrolment), **_assessed(enrolment, assessments, of_presentation.get(key[:2], []), day),
            }  # fmt: skip
            records.append(known)
            rows.append(row)
            keys.append(key)
    if not records:
        raise DataError(f"no enrolment of {', '.join(presentations)} is left on day {day:g}.", file=info.path)
    table = Table(info.path, {name: [r[name] for r in records] for name in records[0]}, rows)
    clicks = _clicks(folder, keys, day)
    table.columns |= clicks
    groups = dict.fromkeys(BACKGROUND, "background") | dict.fromkeys(COURSE, "course")
    groups |= dict.fromkeys(ASSESSMENTS, "assessments") | dict.fromkeys(clicks, "clicks")
    return Enrolments(table, dict(left_out), len(info), groups)


# ---- the tables -----------------------------------------------------------------------------------------------------


def _find(folder: Path, name: str) -> Path:
    return next((p for p in (folder / f"{name}.csv", folder / f"{name}.csv.gz") if p.is_file()), folder / f"{name}.csv")


def _read(folder: Path, name: str) -> Table:
    table = read_table(_find(folder, name), separator=",")
    for column in COLUMNS[name]:
        if column not in table.columns:
            raise DataError("the column is missing.", file=table.path, row=1, column=column, expected=f"OULAD's {name}.csv")
        # missing cells are empty in some copies and '?' in others
        table.columns[column] = ["" if cell == "?" else cell for cell in map(str.strip, table.columns[column])]
    return table


def _number(table: Table, column: str, i: int) -> float:
    text = table.columns[column][i]
    try:
        return float(text) if text else math.nan
    except ValueError as error:
        raise DataError(
            "not a number.", file=table.path, row=table.rows[i], column=column, expected="a number, empty or '?'"
        ) from error


def _one_of(table: Table, column: str, i: int, values: tuple[str, ...]) -> str:
    text = table.columns[column][i]
    if text not in values:
        raise DataError(
            "unknown value.", file=table.path, row=table.rows[i], column=column, found=text,
            expected=f"one of {', '.join(values)}",
        )  # fmt: skip
    return text


def _lengths(folder: Path, presentations: tuple[str, ...], day: float) -> dict[tuple[str, str], float]:
    """(module, presentation) -> days; the day of the prediction lies before the end of each."""
    table = _read(folder, "courses")
    lengths = {}
    for i in range(len(table)):
        key = (table.columns["code_module"][i], table.columns["code_presentation"][i])
        lengths[key] = _number(table, "module_presentation_length", i)
        if key[1] in presentations and not day < lengths[key]:
            raise DataError(
                f"the cut-off is day {day:g}, when {'/'.join(key)} is over.", file=table.path, row=table.rows[i],
                column="module_presentation_length", found=lengths[key], fix="Choose an earlier --cutoff.",
            )  # fmt: skip
    return lengths


def _assessments(folder: Path) -> dict[str, _Assessment]:
    table = _read(folder, "assessments")
    return {
        table.columns["id_assessment"][i]: _Assessment(
            (table.columns["code_module"][i], table.columns["code_presentation"][i]),
            _one_of(table, "assessment_type", i, ("TMA", "CMA", "Exam")),
            _number(table, "date", i),
            _number(table, "weight", i),
        )
        for i in range(len(table))
    }


def _registrations(folder: Path, presentations: set[str]) -> dict[tuple[str, str, str], _Enrolment]:
    table = _read(folder, "studentRegistration")
    return {
        (table.columns["code_module"][i], presentation, table.columns["id_student"][i]): _Enrolment(
            _number(table, "date_registration", i), _number(table, "date_unregistration", i)
        )
        for i in range(len(table))
        if (presentation := table.columns["code_presentation"][i]) in presentations
    }


def _submissions(folder: Path, assessments: dict[str, _Assessment], enrolments: dict, day: float) -> None:
    """Give each enrolment what it handed in before the day, oldest first, and the marks it carried over."""
    table = _read(folder, "studentAssessment")
    seen: dict[tuple[str, str], int] = {}
    for i, row in enumerate(table.rows):
        name, student = table.columns["id_assessment"][i], table.columns["id_student"][i]
        if name not in assessments:
            raise DataError(
                "the assessment is not in assessments.csv.", file=table.path, row=row, column="id_assessment", found=name
            )
        if (first := seen.setdefault((name, student), row)) != row:
            raise DataError(f"the submission stands in row {first} too.", file=table.path, row=row, column="id_assessment")
        submitted = _number(table, "date_submitted", i)
        enrolment = enrolments.get((*assessments[name].presentation, student))
        if math.isnan(submitted):
            raise DataError("the day is missing.", file=table.path, row=row, column="date_submitted", expected="a number")
        if enrolment is None or submitted >= day:
            continue
        if table.columns["is_banked"][i] == "1":
            enrolment.carried_over.append(name)
        else:
            enrolment.handed_in.append((name, submitted, _number(table, "score", i)))
    for enrolment in enrolments.values():
        enrolment.handed_in.sort(key=lambda submission: submission[1])


# ---- features -------------------------------------------------------------------------------------------------------


def _background(info: Table, i: int, enrolment: _Enrolment) -> dict:
    band = _imd_band(info, i)
    return {
        "gender": info.columns["gender"][i], "region": info.columns["region"][i], "disability": info.columns["disability"][i],
        "education_level": float(EDUCATION.index(_one_of(info, "highest_education", i, EDUCATION))),
        "age_level": float(AGES.index(_one_of(info, "age_band", i, AGES))),
        "imd_level": float(IMD_BANDS.index(band)) if band else math.nan,
        "module": info.columns["code_module"][i], "studied_credits": _number(info, "studied_credits", i),
        "previous_attempts": _number(info, "num_of_prev_attempts", i),
        "registered_days_before_start": -enrolment.registered,
    }  # fmt: skip


def _imd_band(info: Table, i: int) -> str:
    """A band of deprivation, '' unknown; the distribution writes 10-20 without the percent sign of its sisters."""
    if info.columns["imd_band"][i] == "10-20":
        return "10-20%"
    return _one_of(info, "imd_band", i, ("", *IMD_BANDS))


def _assessed(enrolment: _Enrolment, assessments: dict[str, _Assessment], names: list[str], day: float) -> dict:
    """The features `ASSESSMENTS`; nan where there is nothing yet to take them of."""
    scores = {name: score for name, _, score in enrolment.handed_in}
    due = [n for n in names if assessments[n].due < day and n not in enrolment.carried_over]
    weights = [assessments[n].weight for n in due]
    marked = [s for s in scores.values() if not math.isnan(s)]
    early = [assessments[n].due - at for n, at, _ in enrolment.handed_in if not math.isnan(assessments[n].due)]
    of_kind = {kind: [s for n, s in scores.items() if assessments[n].kind == kind] for kind in ("TMA", "CMA")}
    got = [_or_zero(scores.get(n, 0.0)) for n in due]  # what was due and is not there has no points
    values = (
        len(due), _mean([n in scores for n in due]), sum(weights), len(scores), len(enrolment.carried_over), _mean(got),
        sum(w * g for w, g in zip(weights, got, strict=True)) / sum(weights) if sum(weights) else math.nan,
        _mean(marked), min(marked, default=math.nan), marked[-1] if marked else math.nan, _mean(of_kind["TMA"]),
        _mean(of_kind["CMA"]), _mean(early), early[-1] if early else math.nan, sum(e < 0 for e in early),
        day - enrolment.handed_in[-1][1] if enrolment.handed_in else math.nan,
    )  # fmt: skip
    return dict(zip(ASSESSMENTS, map(float, values), strict=True))


def _mean(values: list) -> float:
    values = [v for v in values if not math.isnan(v)]
    return sum(values) / len(values) if values else math.nan


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _clicks(folder: Path, keys: list[tuple[str, str, str]], day: float) -> dict[str, list[float]]:
    """Clicks before the day by kind of page and how lately there were any, from studentVle.csv read as a stream."""
    path = _find(folder, "studentVle")
    if not path.is_file():
        return {}
    vle = _read(folder, "vle")
    kind_of = {vle.columns["id_site"][i]: vle.columns["activity_type"][i] for i in range(len(vle))}
    kinds = sorted(set(kind_of.values()))
    counts = np.zeros((len(keys), len(kinds)))
    active = np.zeros((len(keys), max(1, math.ceil(day) - FIRST_DAY)), dtype=bool)
    for enrolment, kind, when, clicks in _stream_clicks(path, keys, kind_of, kinds):
        before = when < day
        np.add.at(counts, (enrolment[before], kind[before]), clicks[before])
        active[enrolment[before], np.maximum(when[before], FIRST_DAY) - FIRST_DAY] = True
    last = np.where(active.any(1), active.shape[1] - active[:, ::-1].argmax(1) - 1.0 + FIRST_DAY, np.nan)
    totals = (counts.sum(1), active.sum(1), active[:, -14:].sum(1), day - last)
    found = dict(zip(CLICKS, totals, strict=True)) | {f"clicks_{k}": counts[:, i] for i, k in enumerate(kinds)}
    return {name: values.astype(float).tolist() for name, values in found.items()}


def _stream_clicks(path: Path, keys: list, kind_of: dict[str, str], kinds: list[str]):
    """Yield arrays of the clicks of `keys`: place in `keys`, place in `kinds`, day, number of clicks."""
    import pyarrow
    import pyarrow.compute as pc
    from pyarrow import csv

    wanted = pyarrow.array(["/".join(key) for key in keys])
    sites, kind_of_site = pyarrow.array(list(kind_of)), np.array([kinds.index(k) for k in kind_of.values()])
    convert = csv.ConvertOptions(
        include_columns=list(COLUMNS["studentVle"]), column_types=dict.fromkeys(COLUMNS["studentVle"], pyarrow.string())
    )
    row = 2
    try:
        for batch in csv.open_csv(path, convert_options=convert):
            cells = {name: batch.column(name) for name in COLUMNS["studentVle"]}
            place = pc.index_in(
                pc.binary_join_element_wise(cells["code_module"], cells["code_presentation"], cells["id_student"], "/"), wanted
            )
            site = pc.index_in(cells["id_site"], sites)
            whole = {name: pc.match_substring_regex(cells[name], "^-?[0-9]+$") for name in ("date", "sum_click")}
            for name, good, expected in (
                ("id_site", pc.is_valid(site), "a site of vle.csv"),
                ("date", whole["date"], "a whole number"),
                ("sum_click", whole["sum_click"], "a whole number"),
            ):
                if (first := pc.index(good, False).as_py()) >= 0:
                    raise DataError("the cell cannot be used.", file=path, row=row + first, column=name, expected=expected)
            mine = pc.is_valid(place).to_numpy(zero_copy_only=False)
            yield (
                pc.fill_null(place, 0).to_numpy(zero_copy_only=False)[mine],
                kind_of_site[site.to_numpy(zero_copy_only=False)[mine]],
                *(pc.cast(cells[n], pyarrow.int64()).to_numpy()[mine] for n in ("date", "sum_click")),
            )
            row += len(batch)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowKeyError) as error:
        raise DataError(
            f"not OULAD's studentVle.csv ({type(error).__name__}).", file=path,
            expected=f"the columns {', '.join(COLUMNS['studentVle'])}",
        ) from error  # fmt: skip
