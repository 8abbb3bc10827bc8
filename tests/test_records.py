"""Records reach a recipe with what was known on the day of the prediction, and nothing later, in splits that cut no learner."""

import csv
import gzip
import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from datasets import concatenate_datasets

from edu_datasets import DataError, RecordColumns, halve_validation, load_records
from edu_datasets.records import DROPOUT_CODES, DROPOUT_GROUPS, MAT_GROUPS, read_records
from edu_datasets.schema import RECORDS
from edu_datasets.splits import find_leaks

SPLITS = ("train", "validation", "test")
ID_CANARY, TEXT_CANARY = "pupil-4711", "Xanthippe"
"""Stand in every id and in a text; no message may hold them."""


def every_row(data):
    """All splits in one."""
    return concatenate_datasets([data.splits[s] for s in SPLITS])


def as_dicts(data) -> dict[str, dict]:
    """record_id -> feature, target and subgroups by name."""
    return {
        r["record_id"]: {
            **dict(zip(data.number_columns, r["numbers"], strict=True)),
            **dict(zip(data.category_columns, r["categories"], strict=True)),
            "target": data.classes[int(r["target"])] if data.classes else r["target"],
            "subgroups": r["subgroups"], "time": r["time"],
        }
        for r in every_row(data)
    }  # fmt: skip


def same(a, b) -> bool:
    """Equal, where nan equals nan."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def write_csv(path: Path, rows: list[dict], separator=",", encoding="utf-8", **how) -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=separator, **how)
        writer.writeheader()
        writer.writerows(rows)
    return path


def learners_on_two_sides(splits) -> list:
    return find_leaks(splits, ["learner_id"])


# ---- a school's own file ------------------------------------------------------------------------------------------------


def rows(n=60, name="a") -> list[dict]:
    """Records of n learners: two numbers, two categories, and whether they passed."""
    rng = np.random.default_rng(len(name) + n)
    return [
        {
            "id": f"{ID_CANARY}-{name}{i}", "points": round(float(rng.normal(50, 10)), 1), "absences": int(rng.integers(0, 9)),
            "school": "abc"[rng.integers(3)], "support": ("yes", "no")[rng.integers(2)], "day": 10 + i % 15,
            "passed": ("yes", "yes", "no")[rng.integers(3)],
        }
        for i in range(n)
    ]  # fmt: skip


def changed(row: int, **cells) -> list[dict]:
    """Records of which the one in spreadsheet row `row` has other cells."""
    table = rows()
    table[row - 2].update(cells)
    return table


COLUMNS = RecordColumns(target="passed", record_id="id", learner="id", drop=["day"])


def test_every_row_of_an_own_file_reaches_a_split_with_its_own_names(tmp_path):
    data = load_records(train_file=write_csv(tmp_path / "mine.csv", rows()), columns=COLUMNS)
    assert data.rows_read == 60 == sum(len(data.splits[s]) for s in SPLITS) and data.rejected == [] == list(data.left_out)
    assert data.splits["train"].features == RECORDS and data.name == "mine.csv" and data.target == "passed"
    assert data.number_columns == ["points", "absences"] and data.category_columns == ["school", "support"]
    assert data.feature_groups == {c: c for c in ("points", "absences", "school", "support")}
    found = as_dicts(data)
    for row in rows():
        mine = found[row["id"]]
        assert mine == {
            **{c: row[c] for c in data.feature_groups},
            "target": row["passed"],
            "subgroups": [],
            "time": mine["time"],
        }
        assert math.isnan(mine["time"])
    assert all(
        len(data.splits[s]) == pytest.approx(60 * share, abs=3) for s, share in zip(SPLITS, (0.64, 0.16, 0.2), strict=True)
    )


def test_the_rarer_of_two_classes_is_what_an_alert_is_for_and_the_log_says_so(tmp_path):
    path = write_csv(tmp_path / "mine.csv", rows())
    data = load_records(train_file=path, columns=COLUMNS)
    assert (data.task, data.classes, data.positive_class) == ("binary", ["yes", "no"], "no")
    assert any("'no'" in w and "--positive_class" in w for w in data.warnings)
    data = load_records(train_file=path, columns=COLUMNS, positive_class="yes")
    assert data.classes == ["no", "yes"] and not data.warnings


def test_a_class_that_says_so_is_what_an_alert_is_for_even_where_it_is_common(tmp_path):
    table = [{**r, "passed": {"yes": "Failed", "no": "Passed"}[r["passed"]]} for r in rows()]
    data = load_records(train_file=write_csv(tmp_path / "mine.csv", table), columns=COLUMNS)
    assert data.classes == ["Passed", "Failed"]


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (range(11), "regression", []),
        (range(10), "multiclass", [str(i) for i in range(10)]),
        (["1.0", "0", "1"], "binary", ["1", "0"]),
        (["low", "middle", "high"], "multiclass", ["high", "low", "middle"]),
    ],
)
def test_the_task_is_found_from_the_target(tmp_path, values, task, classes):
    values = list(values)
    path = write_csv(tmp_path / "mine.csv", [{**r, "passed": values[i % len(values)]} for i, r in enumerate(rows())])
    data = load_records(train_file=path, columns=COLUMNS)
    assert data.task == task and sorted(data.classes) == sorted(classes)


def test_a_stated_task_counts(tmp_path):
    path = write_csv(tmp_path / "mine.csv", [{**r, "passed": i % 4} for i, r in enumerate(rows())])
    data = load_records(train_file=path, columns=COLUMNS, task="regression")
    assert data.task == "regression" and data.classes == [] and set(every_row(data)["target"]) == {0.0, 1.0, 2.0, 3.0}


def test_empty_cells_and_question_marks_are_missing(tmp_path):
    table = rows()
    table[3]["points"], table[4]["points"], table[5]["school"], table[6]["school"] = "", "?", "?", " "
    found = as_dicts(load_records(train_file=write_csv(tmp_path / "mine.csv", table), columns=COLUMNS))
    assert all(math.isnan(found[table[i]["id"]]["points"]) for i in (3, 4))
    assert all(found[table[i]["id"]]["school"] == "" for i in (5, 6))


def test_a_byte_order_mark_and_a_tab_are_no_part_of_a_column_name(tmp_path):
    table = [{**{k + "\t" if k == "school" else k: v for k, v in r.items()}} for r in rows()]
    path = write_csv(tmp_path / "mine.csv", table, separator=";", encoding="utf-8-sig", lineterminator="\r\n")
    data = load_records(train_file=path, columns=COLUMNS)
    assert data.category_columns == ["school", "support"] and data.rows_read == 60


def test_columns_that_number_or_name_the_rows_or_say_one_thing_are_no_features(tmp_path):
    table = [
        {
            **r, "row": i + 1, "student_id": 9 * i * i + 4, "name": f"{TEXT_CANARY} {i}", "country": "PT", "notes": "",
            "remark": f"says {i % 40}",
        }
        for i, r in enumerate(rows())
    ]  # fmt: skip
    data = load_records(train_file=write_csv(tmp_path / "mine.csv", table), columns=COLUMNS)
    assert set(data.feature_groups) == {"points", "absences", "school", "support"}
    (warning,) = [w for w in data.warnings if w.startswith("Not among the features")]
    assert all(f"'{c}'" in warning for c in ("row", "student_id", "name", "country", "notes", "remark"))
    assert TEXT_CANARY not in warning and ID_CANARY not in warning


def test_numbers_that_are_codes_are_categories_where_they_are_named(tmp_path):
    path = write_csv(tmp_path / "mine.csv", rows())
    data = load_records(train_file=path, columns=replace(COLUMNS, categories=["absences"]))
    assert data.category_columns == ["absences", "school", "support"] and data.number_columns == ["points"]
    assert isinstance(as_dicts(data)[rows()[0]["id"]]["absences"], str)


def test_subgroups_are_kept_beside_the_features_and_alone_where_they_are_dropped(tmp_path):
    path = write_csv(tmp_path / "mine.csv", rows())
    data = load_records(train_file=path, columns=replace(COLUMNS, subgroups=["support"]))
    assert data.subgroup_columns == ["support"] and "support" in data.category_columns
    data = load_records(train_file=path, columns=replace(COLUMNS, subgroups=["support"], drop=["day", "support"]))
    assert "support" not in data.feature_groups and {r["subgroups"][0] for r in every_row(data)} == {"yes", "no"}


def test_a_learner_with_several_rows_stays_in_one_split(tmp_path):
    table = [{**r, "who": f"L{i % 20}"} for i, r in enumerate(rows())]
    path = write_csv(tmp_path / "mine.csv", table)
    columns = replace(COLUMNS, learner="who")
    for seed in range(3):
        assert learners_on_two_sides(load_records(train_file=path, columns=columns, seed=seed).splits) == []
    without = load_records(train_file=path, columns=replace(COLUMNS, learner=None, drop=["day", "who"])).splits
    who = {r["id"]: r["who"] for r in table}  # the twin: where nobody says whose rows they are, learners are cut
    assert {who[i] for i in without["train"]["record_id"]} & {who[i] for i in without["test"]["record_id"]}


def test_split_by_keeps_a_class_in_one_split_and_out_of_the_features(tmp_path):
    table = [{**r, "form": f"{i % 9}b"} for i, r in enumerate(rows())]
    data = load_records(train_file=write_csv(tmp_path / "mine.csv", table), columns=COLUMNS, split_by="form")
    assert find_leaks(data.splits, ["group_id"]) == [] and "form" not in data.feature_groups
    assert "by form" in data.split_protocol


def test_folds_are_stratified_cover_every_row_and_leave_the_rest_for_validation(tmp_path):
    path = write_csv(tmp_path / "mine.csv", rows(100))
    tests = []
    for fold in range(5):
        data = load_records(train_file=path, columns=COLUMNS, fold=fold)
        tests += data.splits["test"]["record_id"]
        shares = [np.mean(data.splits[s]["target"]) for s in SPLITS]
        assert max(shares) - min(shares) < 0.09 and len(data.splits["validation"]) == pytest.approx(16, abs=2)
        assert find_leaks(data.splits, ["record_id"]) == []
    assert sorted(tests) == sorted(r["id"] for r in rows(100))
    assert len(load_records(train_file=path, columns=COLUMNS, folds=10, fold=9).splits["test"]) == pytest.approx(10, abs=2)


def test_folds_of_a_quantity_are_balanced_too(tmp_path):
    table = [{**r, "passed": i} for i, r in enumerate(rows(100))]
    path = write_csv(tmp_path / "mine.csv", [{**r, "points": (r["passed"] * 37) % 100} for r in table])
    for fold in range(5):
        test = load_records(train_file=path, columns=COLUMNS, fold=fold).splits["test"]
        assert np.mean(test["target"]) == pytest.approx(49.5, abs=6)


def test_cross_validation_leaves_test_alone_and_cuts_no_learner(tmp_path):
    table = [{**r, "who": f"L{i % 30}"} for i, r in enumerate(rows(90))]
    data = load_records(train_file=write_csv(tmp_path / "mine.csv", table), columns=replace(COLUMNS, learner="who"))
    held_out = set(data.splits["test"]["record_id"])
    folds = data.fold_splits(4, seed=7)
    pool = sorted([*data.splits["train"]["record_id"], *data.splits["validation"]["record_id"]])
    assert sorted(i for f in folds.values() for i in f["test"]["record_id"]) == pool
    for fold in folds.values():
        assert find_leaks(fold, ["learner_id", "record_id"]) == []
        assert not held_out & {i for s in SPLITS for i in fold[s]["record_id"]}


def test_halving_validation_cuts_no_learner_and_keeps_both_classes(tmp_path):
    table = [{**r, "who": f"L{i % 80}"} for i, r in enumerate(rows(160))]
    data = load_records(train_file=write_csv(tmp_path / "mine.csv", table), columns=replace(COLUMNS, learner="who"))
    halved = halve_validation(data.splits, seed=1)
    assert find_leaks(halved, ["learner_id"]) == []
    assert set(halved["validation"]["target"]) == set(halved["calibration"]["target"]) == {0.0, 1.0}


def test_given_files_are_kept_as_given_and_what_is_missing_is_cut(tmp_path):
    files = {s: write_csv(tmp_path / f"{s}.csv", rows(n, s)) for s, n in zip(SPLITS, (60, 20, 30), strict=True)}
    data = load_records(**{f"{s}_file": path for s, path in files.items()}, columns=COLUMNS)
    assert [len(data.splits[s]) for s in SPLITS] == [60, 20, 30] and data.rows_read == 110
    assert all(f"{s}.csv as {s}" in data.split_protocol for s in SPLITS)
    data = load_records(train_file=files["train"], test_file=files["test"], columns=COLUMNS)
    assert len(data.splits["test"]) == 30 and len(data.splits["validation"]) == pytest.approx(12, abs=2)
    data = load_records(train_file=files["train"], validation_file=files["validation"], columns=COLUMNS)
    assert len(data.splits["validation"]) == 20 and len(data.splits["train"]) + len(data.splits["test"]) == 60


def test_max_samples_shorten_the_splits_and_nothing_else(tmp_path):
    path = write_csv(tmp_path / "mine.csv", rows())
    whole = load_records(train_file=path, columns=COLUMNS)
    short = load_records(train_file=path, columns=COLUMNS, max_train_samples=9, max_eval_samples=5)
    assert [len(short.splits[s]) for s in SPLITS] == [9, 5, 5]
    assert all(set(short.splits[s]["record_id"]) < set(whole.splits[s]["record_id"]) for s in SPLITS)


def test_skip_bad_rows_leaves_them_out_and_lists_each(tmp_path):
    table = rows()
    table[0]["points"], table[5]["passed"], table[9]["support"], table[20]["id"] = "good", "", "7", table[19]["id"]
    data = load_records(train_file=write_csv(tmp_path / "mine.csv", table), columns=COLUMNS, skip_bad_rows=True)
    assert [(name, row) for name, row, _ in data.rejected] == [("mine.csv", row) for row in (2, 7, 11, 22)]
    reasons = " / ".join(reason for *_, reason in data.rejected)
    assert all(word in reasons for word in ("not a number", "target is missing", "column of texts", "row 21 too"))
    assert data.rows_read == 60 == sum(len(data.splits[s]) for s in SPLITS) + 4
    assert ID_CANARY not in json.dumps(data.facts())


def test_rows_before_the_cutoff_are_taken_and_the_lead_time_runs_from_it(tmp_path):
    table = [{**r, "left": 30 + i % 20 if i % 2 else ""} for i, r in enumerate(rows())]
    columns = replace(COLUMNS, time="day", outcome_time="left", drop=[])
    data = load_records(train_file=write_csv(tmp_path / "mine.csv", table), columns=columns, cutoff=25)
    found = as_dicts(data)
    assert {"day", "left"}.isdisjoint(data.feature_groups) and data.cutoff == "25"
    assert found[table[3]["id"]]["time"] == 8.0 and math.isnan(found[table[2]["id"]]["time"])


def test_a_cutoff_may_be_a_date(tmp_path):
    table = [{**r, "day": f"2026-09-{r['day']}"} for r in rows()]
    path = write_csv(tmp_path / "mine.csv", table)
    columns = replace(COLUMNS, time="day", drop=[])
    assert load_records(train_file=path, columns=columns, cutoff="2026-09-25").rows_read == 60
    data = load_records(train_file=path, columns=columns, cutoff="2026-09-24", skip_bad_rows=True)
    assert len(data.rejected) == sum(r["day"] == "2026-09-24" for r in table) == 4


def test_a_column_that_parts_the_classes_by_a_threshold_is_warned_of(tmp_path):
    table = [{**r, "mark": round(r["points"] / 100, 3) + (r["passed"] == "yes")} for r in rows()]
    data = load_records(train_file=write_csv(tmp_path / "mine.csv", table), columns=COLUMNS)
    assert any("'mark' tells the target alone" in w and "--drop_columns 'mark'" in w for w in data.warnings)


def test_json_lines_with_nulls_and_numbers_are_records_too(tmp_path):
    table = rows()
    table[2]["points"] = table[3]["school"] = None
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in table))
    found = as_dicts(load_records(train_file=path, columns=COLUMNS))
    assert math.isnan(found[table[2]["id"]]["points"]) and found[table[3]["id"]]["school"] == ""


def test_records_to_predict_need_no_target_and_keep_their_row_numbers(tmp_path):
    table = [{k: v for k, v in r.items() if k != "passed"} for r in rows(8)]
    table[2]["points"], table[3]["school"], table[4]["support"] = "many", "new", 7
    path = write_csv(tmp_path / "new.csv", table)
    found, numbers, rejected = read_records(
        path, ["points", "absences"], ["school", "support"], RecordColumns(record_id="id"), skip_bad_rows=True
    )
    assert numbers == [2, 3, 5, 6, 7, 8, 9] and [r[:2] for r in rejected] == [("new.csv", 4)]
    assert found["categories"][2] == ["new", table[3]["support"]] and found["categories"][3][1] == "7"
    assert all(map(math.isnan, found["target"]))
    with pytest.raises(DataError, match="new.csv, row 1, column 'absence': there is no such column.*Did you mean 'absences'"):
        read_records(path, ["absence"], [])


# ---- the sample school --------------------------------------------------------------------------------------------------


def test_the_sample_school_loads_with_groups_for_the_teacher():
    data = load_records()
    assert data.rows_read == 400 == len(every_row(data)) and data.classes == ["passed", "failed"]
    assert learners_on_two_sides(data.splits) == [] and data.subgroup_columns == ["grade", "language_learner"]
    assert set(data.feature_groups.values()) == {"background", "earlier grades", "presence", "quizzes"}
    assert "final_grade" not in data.feature_groups and "outcome" not in data.feature_groups
    assert set(every_row(data)["time"]) == {42.0} and data.cutoff == "day 42"
    assert "sample_school" in data.summary() and "failed" in data.summary()


def test_the_sample_school_has_a_quantity_and_earlier_days_too():
    data = load_records(columns=RecordColumns(target="final_grade"), cutoff=14)
    assert data.task == "regression" and "outcome" not in data.feature_groups and set(every_row(data)["time"]) == {70.0}
    with pytest.raises(DataError, match="outside of the term. Found: '90'. Expected: a day from 1 to 83"):
        load_records(cutoff=90)


# ---- UCI: student performance -------------------------------------------------------------------------------------------

MAT_NUMBERS = (
    "age", "Medu", "Fedu", "traveltime", "studytime", "failures", "famrel", "freetime", "goout", "Dalc", "Walc", "health",
    "absences", "G1", "G2",
)  # fmt: skip
MAT_HEADER = (
    "school;sex;age;address;famsize;Pstatus;Medu;Fedu;Mjob;Fjob;reason;guardian;traveltime;studytime;failures;schoolsup;famsup;"
    "paid;activities;nursery;higher;internet;romantic;famrel;freetime;goout;Dalc;Walc;health;absences;G1;G2;G3"
)


def write_mat(folder: Path, n=60) -> Path:
    """A small student-mat.csv: semicolons, quoted texts, G1 and G2 in quotes too."""
    rng = np.random.default_rng(0)
    lines = [MAT_HEADER]
    for _ in range(n):
        cells = []
        for name in MAT_HEADER.split(";"):
            number = int(rng.integers(0, 20 if name in ("G1", "G2", "G3", "absences") else 5))
            cells.append(f'"{"AB"[number % 2]}"' if name not in (*MAT_NUMBERS, "G3") else str(number))
            if name in ("G1", "G2"):
                cells[-1] = f'"{number}"'
        lines.append(";".join(cells))
    (folder / "student_performance").mkdir(parents=True, exist_ok=True)
    path = folder / "student_performance" / "student-mat.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_student_mat_leaves_the_earlier_grades_out_unless_asked_and_says_so(tmp_path):
    write_mat(tmp_path)
    without = load_records("student_mat", data_dir=tmp_path)
    assert not {"G1", "G2", "G3"} & set(without.feature_groups) and any(
        "G1 and G2" in w and "left out" in w for w in without.warnings
    )
    data = load_records("student_mat", data_dir=tmp_path, earlier_grades=True)
    assert sorted(data.number_columns) == sorted(MAT_NUMBERS) and data.task == "regression" and data.target == "G3"
    assert any("among the features" in w for w in data.warnings)
    assert set(data.feature_groups.values()) == set(MAT_GROUPS) and len(data.feature_groups) == 32
    assert data.subgroup_columns == ["sex", "address", "school"]


def test_a_column_of_a_public_set_may_be_dropped(tmp_path):
    write_mat(tmp_path)
    data = load_records("student_mat", data_dir=tmp_path, columns=RecordColumns(drop=["sex", "absences"], subgroups=["sex"]))
    assert not {"sex", "absences", "G1"} & set(data.feature_groups) and data.subgroup_columns == ["sex"]


@pytest.mark.real_data
def test_student_mat_comes_whole_on_five_folds():
    tests = []
    for fold in range(5):
        data = load_records("student_mat", fold=fold, earlier_grades=True)
        tests += data.splits["test"]["record_id"]
    assert sorted(tests) == sorted(f"row {i}" for i in range(2, 397)) and data.rows_read == 395
    assert (len(data.number_columns), len(data.category_columns)) == (15, 17)
    assert sum(t == 0 for t in every_row(data)["target"]) == 38


# ---- UCI: dropout and academic success ----------------------------------------------------------------------------------


def write_dropout(folder: Path, n=90) -> Path:
    """A small data.csv: a byte order mark, CRLF, semicolons, and a name that ends with a tab."""
    names = [c for group in DROPOUT_GROUPS.values() for c in group]
    rng = np.random.default_rng(0)
    head = [f'"{c}\t"' if c == "Daytime/evening attendance" else c for c in [*names, "Target"]]
    lines = [";".join(head)]
    for i in range(n):
        cells = [str(rng.integers(0, 9)) if c in DROPOUT_CODES else f"{rng.normal(10, 3):.1f}" for c in names]
        lines.append(";".join([*cells, ("Graduate", "Dropout", "Enrolled")[i % 3 if i % 4 else 0]]))
    folder = folder / "student_performance" / "dropout_academic_success"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.csv").write_bytes(("\ufeff" + "\r\n".join(lines) + "\r\n").encode())
    return folder / "data.csv"


@pytest.mark.parametrize(
    ("cutoff", "known", "unknown"),
    [
        ("enrolment", ("Admission grade", "Scholarship holder"), ("Debtor", "Tuition fees up to date", "1st", "2nd")),
        ("semester1", ("Debtor", "1st"), ("2nd",)),
        ("semester2", ("Debtor", "1st", "2nd"), ()),
    ],
)
def test_dropout_knows_at_each_cutoff_what_was_known_then(tmp_path, cutoff, known, unknown):
    write_dropout(tmp_path)
    data = load_records("dropout_academic_success", data_dir=tmp_path, cutoff=cutoff)
    assert all(any(word in c for c in data.feature_groups) for word in known)
    assert not any(word in c for c in data.feature_groups for word in unknown)
    assert any("near the outcome" in w for w in data.warnings) == (cutoff != "enrolment")
    assert data.classes == ["Dropout", "Enrolled", "Graduate"] and data.positive_class == "Dropout"
    assert data.subgroup_columns == ["Gender", "Scholarship holder", "International"]


def test_dropout_reads_codes_as_categories_and_the_name_with_the_tab(tmp_path):
    write_dropout(tmp_path)
    data = load_records("dropout_academic_success", data_dir=tmp_path, cutoff="semester2")
    assert set(data.category_columns) == set(DROPOUT_CODES) and len(data.number_columns) == 19
    assert "Daytime/evening attendance" in data.category_columns and "Marital status" in data.category_columns
    assert data.feature_groups["Debtor"] == "money"


@pytest.mark.real_data
def test_dropout_comes_whole_and_each_fold_has_the_shares_of_the_classes():
    data = load_records("dropout_academic_success", cutoff="semester2", fold=3)
    counts = Counter(data.classes[int(t)] for t in every_row(data)["target"])
    assert counts == {"Graduate": 2209, "Dropout": 1421, "Enrolled": 794} and data.rows_read == 4424
    for split in SPLITS:
        assert np.mean(np.array(data.splits[split]["target"]) == 0) == pytest.approx(0.321, abs=0.003)
    assert (len(data.number_columns), len(data.category_columns)) == (19, 17)


# ---- OULAD --------------------------------------------------------------------------------------------------------------

PRESENTATIONS = (("AAA", "2013J", 268), ("AAA", "2014J", 269), ("BBB", "2014J", 262), ("AAA", "2013B", 240))
EVERY_RESULT = ("Pass", "Fail", "Distinction", "Pass", "Withdrawn")


def oulad_tables(clicks=False) -> dict[str, list[dict]]:
    """A small OULAD: learners 1 to 40 in AAA 2013J, 31 to 70 in AAA 2014J, 71 to 80 in BBB 2014J, 81 to 85 in AAA 2013B.

    Each presentation has TMA 1 (day 19, weight 10), CMA (day 25, 0), TMA 2 (day 54, 20) and an exam without a date.
    """
    tables = {name: [] for name in ("courses", "assessments", "studentInfo", "studentRegistration", "studentAssessment", "vle")}
    members = {0: range(1, 41), 1: range(31, 71), 2: range(71, 81), 3: range(81, 86)}
    for p, (module, presentation, length) in enumerate(PRESENTATIONS):
        key = {"code_module": module, "code_presentation": presentation}
        tables["courses"].append({**key, "module_presentation_length": length})
        for k, (kind, date, weight) in enumerate((("TMA", 19, 10), ("CMA", 25, 0), ("TMA", 54, 20), ("Exam", "", 100))):
            tables["assessments"].append(
                {**key, "id_assessment": 1000 * p + k, "assessment_type": kind, "date": date, "weight": weight}
            )
        tables["vle"] += [
            {"id_site": 10 * p + k, **key, "activity_type": kind, "week_from": "", "week_to": ""}
            for k, kind in enumerate(("quiz", "forumng"))
        ]
        for i in members[p]:
            result = EVERY_RESULT[i % 5]
            left = "" if result != "Withdrawn" or i == 24 else 20 if i % 2 == 0 else 100
            tables["studentInfo"].append(
                {
                    **key, "id_student": i, "gender": "MF"[i % 2], "region": ("Scotland", "Wales", "Ireland")[i % 3],
                    "highest_education": ("A Level or Equivalent", "HE Qualification", "No Formal quals")[i % 3],
                    "imd_band": ("10-20", "0-10%", "90-100%", "")[i % 4], "age_band": ("0-35", "35-55", "55<=")[i % 3],
                    "num_of_prev_attempts": i % 2, "studied_credits": 60 + 30 * (i % 3), "disability": "NNY"[i % 3],
                    "final_result": result,
                }
            )  # fmt: skip
            registered = 35 if i == 3 else "" if i == 11 else -30 - i % 7
            tables["studentRegistration"].append(
                {**key, "id_student": i, "date_registration": registered, "date_unregistration": 0 if i == 6 else left}
            )
            hand_in = [(0, 18 + i % 5, 50 + i % 50), (2, 50 + i % 8, 40 + i % 50)] + [(1, 24, 80)] * (i % 2 == 0)
            for k, day, score in hand_in:
                banked = i == 7 and k == 0
                tables["studentAssessment"].append(
                    {
                        "id_assessment": 1000 * p + k, "id_student": i, "date_submitted": -1 if banked else day,
                        "is_banked": int(banked), "score": "" if i == 8 and k == 0 else score,
                    }
                )  # fmt: skip
    if clicks:
        tables["studentVle"] = [
            {**{c: r[c] for c in ("code_module", "code_presentation", "id_student")}, "id_site": 10 * p + day % 2, "date": day,
             "sum_click": 1 + r["id_student"] % 3}
            for r in tables["studentInfo"]
            for p in [[q[:2] for q in PRESENTATIONS].index((r["code_module"], r["code_presentation"]))]
            for day in (-80, -5, 3, 17, 25 + r["id_student"] % 4, 31, 60)[r["id_student"] % 5 == 0 :]
        ]  # fmt: skip
    return tables


def write_oulad(folder: Path, tables: dict[str, list[dict]], missing="") -> Path:
    """In the distribution's bytes: every value quoted and CRLF, studentAssessment bare; three files as gzip."""
    folder = folder / "oulad"
    folder.mkdir(parents=True, exist_ok=True)
    for name, records in tables.items():
        filled = [{k: missing if v == "" else v for k, v in r.items()} for r in records]
        quoted = {} if name == "studentAssessment" else {"quoting": csv.QUOTE_ALL, "lineterminator": "\r\n"}
        path = write_csv(folder / f"{name}.csv", filled, **quoted)
        if name.startswith("student") and name != "studentVle":
            path.with_suffix(".csv.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    return folder


def oulad(folder: Path, tables: dict[str, list[dict]] | None = None, missing="", **options):
    write_oulad(folder, oulad_tables() if tables is None else tables, missing)
    return load_records("oulad", data_dir=folder, **options)


def changed_tables(table: str, where: dict, cells: dict, clicks=False) -> dict[str, list[dict]]:
    """The small OULAD with other cells in the rows of a table that have the values `where`."""
    tables = oulad_tables(clicks)
    hit = [r for r in tables[table] if all(r[k] == v for k, v in where.items())]
    assert hit
    for record in hit:
        record.update(cells)
    return tables


def test_oulad_trains_on_2013j_and_tests_on_new_learners_of_2014j(tmp_path):
    data = oulad(tmp_path)
    years = {s: {i.split("/")[1] for i in data.splits[s]["record_id"]} for s in SPLITS}
    assert years == {"train": {"2013J"}, "validation": {"2013J"}, "test": {"2014J"}}
    assert learners_on_two_sides(data.splits) == []
    assert {int(i) for i in data.splits["test"]["learner_id"]} <= set(range(41, 81))
    assert data.classes == ["pass", "fail"] and data.task == "binary"
    assert any("module BBB, which has no presentation in training" in w for w in data.warnings)
    assert "2013J" in data.split_protocol and data.licence.startswith("cc-by-4.0")


def test_every_enrolment_of_oulad_is_in_a_split_or_counted_with_a_reason(tmp_path):
    data = oulad(tmp_path)
    assert data.rows_read == 95 == len(every_row(data)) + sum(data.left_out.values())
    gone = {"another presentation": 5, "withdrawn": 18, "not enrolled on the day": 2, "in both years": 8}
    assert data.left_out == gone  # learner 6 left on day 0, learner 3 registered on day 35
    found = as_dicts(data)
    assert not {"AAA/2013J/6", "AAA/2013J/3", "AAA/2013J/4"} & set(found)
    assert found["AAA/2013J/2"]["target"] == "pass"  # a distinction


def test_oulad_takes_the_features_of_one_learner_from_what_was_there_on_day_30(tmp_path):
    """Learner 12 handed in TMA 1 on day 20 (due 19, 62 points) and the CMA on day 24 (due 25, 80 points)."""
    mine = as_dicts(oulad(tmp_path))["AAA/2013J/12"]
    want = {
        "assessments_due": 2, "share_of_due_submitted": 1, "weight_due": 10, "assessments_submitted": 2, "carried_over": 0,
        "score_of_due": 71, "weighted_score_of_due": 62, "mean_score": 71, "lowest_score": 62, "last_score": 80,
        "tutor_marked_score": 62, "computer_marked_score": 80, "days_early": 0, "days_early_last": 1, "late_submissions": 1,
        "days_since_last_submission": 6, "registered_days_before_start": 35, "studied_credits": 60, "previous_attempts": 0,
        "module": "AAA", "gender": "M", "region": "Scotland", "education_level": 2, "age_level": 0, "imd_level": 1,
        "disability": "N", "target": "pass", "time": 238, "subgroups": ["M", "0-35", "10-20%", "N"],
    }  # fmt: skip
    missing = {k for k in want if k not in mine}  # what is the same for all in the small school is no feature
    assert missing == {"assessments_due", "weight_due", "computer_marked_score", "module"} - set(mine)
    assert mine == {k: v for k, v in want.items() if k not in missing}


def test_oulad_counts_a_mark_of_an_earlier_attempt_by_itself(tmp_path):
    mine = as_dicts(oulad(tmp_path))["AAA/2013J/7"]
    assert mine["carried_over"] == 1 and mine["assessments_submitted"] == 0 and math.isnan(mine["mean_score"])
    assert mine["share_of_due_submitted"] == 0  # of the CMA; TMA 1 is no longer due
    missing = as_dicts(oulad(tmp_path))["AAA/2013J/8"]  # TMA 1 without a mark
    assert missing["mean_score"] == 80 and missing["assessments_submitted"] == 2 and missing["score_of_due"] == 40


@pytest.mark.parametrize("missing", ["", "?"])
def test_oulad_takes_empty_cells_and_question_marks_as_missing(tmp_path, missing):
    data = oulad(tmp_path, missing=missing)
    found = as_dicts(data)
    assert math.isnan(found["AAA/2013J/11"]["registered_days_before_start"]) and math.isnan(found["AAA/2013J/27"]["imd_level"])
    assert found["AAA/2013J/27"]["subgroups"][2] == "" and len(every_row(data)) == 62
    assert {s[2] for s in every_row(data)["subgroups"]} == {"10-20%", "0-10%", "90-100%", ""}


LATER = [
    ("studentAssessment", {"id_assessment": 2}, {"score": 1}),
    ("studentAssessment", {"id_assessment": 2}, {"date_submitted": 30}),
    ("studentAssessment", {"id_assessment": 1002, "id_student": 55}, {"date_submitted": 200, "score": ""}),
    ("assessments", {"id_assessment": 2}, {"date": 31, "weight": 70}),
    ("studentVle", {"date": 31}, {"sum_click": 900}),
    ("studentVle", {"date": 60}, {"date": 30}),
    ("studentRegistration", {"id_student": 12}, {"date_unregistration": 30}),
    ("studentRegistration", {"id_student": 19}, {"date_unregistration": 260}),
]


@pytest.mark.parametrize(("table", "where", "cells"), LATER)
def test_nothing_dated_on_the_cutoff_or_after_changes_a_feature_of_oulad(tmp_path, table, where, cells):
    before = oulad(tmp_path / "a", oulad_tables(clicks=True))
    after = oulad(tmp_path / "b", changed_tables(table, where, cells, clicks=True))
    assert same(as_dicts(before), as_dicts(after)) and before.feature_groups == after.feature_groups


@pytest.mark.parametrize(
    ("table", "where", "cells"),
    [
        ("studentAssessment", {"id_assessment": 2}, {"date_submitted": 29}),
        ("studentAssessment", {"id_assessment": 0}, {"score": 1}),
        ("assessments", {"id_assessment": 2}, {"date": 29}),
        ("studentVle", {"date": 31}, {"date": 29}),
    ],
)
def test_the_same_rows_dated_before_the_cutoff_do(tmp_path, table, where, cells):
    """The twin of the test above, with the trap open."""
    before = oulad(tmp_path / "a", oulad_tables(clicks=True))
    after = oulad(tmp_path / "b", changed_tables(table, where, cells, clicks=True))
    assert not same(as_dicts(before), as_dicts(after))


def test_neither_the_result_nor_the_day_of_leaving_is_a_feature_of_oulad(tmp_path):
    data = oulad(tmp_path, withdrawn=True)
    named = " ".join(data.feature_groups)
    assert not any(word in named for word in ("unregist", "result", "outcome", "left", "presentation"))
    flipped = oulad_tables()
    for record in flipped["studentInfo"]:
        record["final_result"] = {"Pass": "Fail", "Fail": "Pass"}.get(record["final_result"], record["final_result"])
    before, after = as_dicts(oulad(tmp_path / "a")), as_dicts(oulad(tmp_path / "b", flipped))
    assert any(before[i]["target"] != after[i]["target"] for i in before)
    drop = {"target"}
    assert same(*({i: {k: v for k, v in r.items() if k not in drop} for i, r in found.items()} for found in (before, after)))


def test_later_withdrawals_count_as_failed_with_their_lead_time_where_they_are_asked_for(tmp_path):
    data = oulad(tmp_path, withdrawn=True)
    found = as_dicts(data)
    assert found["AAA/2013J/19"]["target"] == "fail" and found["AAA/2013J/19"]["time"] == 70  # left on day 100
    assert "AAA/2013J/14" not in found and data.left_out["withdrawn on an unknown day"] == 1  # day 20; learner 24
    assert data.rows_read == len(found) + sum(data.left_out.values())


def test_the_random_split_of_oulad_mixes_the_years_still_by_learner_and_says_what_it_does(tmp_path):
    data = oulad(tmp_path, split="random")
    assert {i.split("/")[1] for i in data.splits["test"]["record_id"]} == {"2013J", "2014J"}
    assert learners_on_two_sides(data.splits) == [] and "in both years" not in data.left_out
    assert any("random" in w and "higher" in w for w in data.warnings)


def test_oulad_at_the_start_has_no_assessments_and_at_day_60_more(tmp_path):
    start, later = oulad(tmp_path, cutoff=0), oulad(tmp_path, cutoff=60)
    assert set(start.feature_groups.values()) == {"background", "course", "assessments"}  # a carried over mark
    assert [c for c, g in start.feature_groups.items() if g == "assessments"] == ["carried_over"]
    assert as_dicts(later)["AAA/2013J/12"]["assessments_submitted"] == 3 and later.cutoff == "day 60"


def test_clicks_are_counted_by_kind_up_to_the_cutoff(tmp_path):
    mine = as_dicts(oulad(tmp_path, oulad_tables(clicks=True)))["AAA/2013J/13"]  # two clicks on days -80, -5, 3, 17 and 26
    assert mine["clicks"] == 10 and mine["active_days"] == 5 and mine["days_since_last_click"] == 4
    assert mine["clicks_quiz"] == 4 and mine["clicks_forumng"] == 6
    plain = oulad(tmp_path / "plain")
    assert "clicks" not in plain.feature_groups.values()


def test_clicks_may_be_gzip_and_an_enrolment_without_any_has_none(tmp_path):
    tables = oulad_tables(clicks=True)
    tables["studentVle"] = [r for r in tables["studentVle"] if r["id_student"] != 13]
    folder = write_oulad(tmp_path, tables)
    (folder / "studentVle.csv.gz").write_bytes(gzip.compress((folder / "studentVle.csv").read_bytes()))
    (folder / "studentVle.csv").unlink()
    mine = as_dicts(load_records("oulad", data_dir=tmp_path))["AAA/2013J/13"]
    assert mine["clicks"] == 0 and math.isnan(mine["days_since_last_click"])


OULAD_BROKEN = [
    ("studentAssessment", 2, {"score": "good"}, "studentAssessment.csv.gz, row 2, column 'score': not a number"),
    ("studentAssessment", 3, {"date_submitted": ""}, "row 3, column 'date_submitted': the day is missing"),
    ("studentAssessment", 3, {"id_assessment": 77}, "row 3, column 'id_assessment': the assessment is not in assessments.csv"),
    ("studentAssessment", 3, {"id_assessment": 0, "id_student": 1}, "row 3, .*stands in row 2 too"),
    ("studentInfo", 4, {"final_result": "Passed"}, "studentInfo.csv.gz, row 4, column 'final_result'.*Expected: one of Pass"),
    ("studentInfo", 3, {"age_band": "old"}, "row 3, column 'age_band': unknown value"),
    ("studentInfo", 5, {"id_student": 4444}, "row 5: the enrolment has no registration"),
    ("studentRegistration", 2, {"date_registration": "June"}, "studentRegistration.csv.gz, row 2, column 'date_registration'"),
    ("assessments", 2, {"assessment_type": "Essay"}, "assessments.csv, row 2, column 'assessment_type': unknown value"),
    ("courses", 2, {"module_presentation_length": 20}, "courses.csv, row 2, .*day 30, when AAA/2013J is over"),
    ("studentVle", 9, {"date": "x"}, "studentVle.csv, row 9, column 'date'.*a whole number"),
    ("studentVle", 9, {"id_site": 777}, "studentVle.csv, row 9, column 'id_site'.*a site of vle.csv"),
]


@pytest.mark.parametrize(("table", "row", "cells", "words"), OULAD_BROKEN)
def test_a_broken_table_of_oulad_is_refused_with_file_row_and_column(tmp_path, table, row, cells, words):
    tables = oulad_tables(clicks=True)
    tables[table][row - 2].update(cells)
    with pytest.raises(DataError, match=words):
        oulad(tmp_path, tables)


def test_an_oulad_that_lacks_a_table_or_a_column_is_refused(tmp_path):
    tables = oulad_tables()
    tables["studentInfo"] = [{k: v for k, v in r.items() if k != "imd_band"} for r in tables["studentInfo"]]
    with pytest.raises(DataError, match="studentInfo.csv.gz, row 1, column 'imd_band': the column is missing"):
        oulad(tmp_path, tables)
    (write_oulad(tmp_path, oulad_tables()) / "assessments.csv").unlink()
    with pytest.raises(DataError, match="no file .*assessments.csv"):
        load_records("oulad", data_dir=tmp_path)


@pytest.fixture(scope="module")
def real_oulad():
    return load_records("oulad", cutoff=30)


@pytest.mark.real_data
def test_oulad_comes_whole_and_forward_in_time(real_oulad):
    data = real_oulad
    assert data.rows_read == 32_593 == len(every_row(data)) + sum(data.left_out.values()) and data.rejected == []
    assert len(data.splits["train"]) + len(data.splits["validation"]) == 6465 and len(data.splits["test"]) == 7112
    assert learners_on_two_sides(data.splits) == []
    assert {i.split("/")[1] for i in data.splits["test"]["record_id"]} == {"2014J"}
    shares = [np.mean(data.splits[s]["target"]) for s in SPLITS]
    assert shares == pytest.approx([0.308, 0.308, 0.265], abs=0.005)


@pytest.mark.real_data
def test_no_feature_of_oulad_comes_from_later_than_its_cutoff(real_oulad):
    found = dict(zip(real_oulad.number_columns, np.array(every_row(real_oulad)["numbers"][:]).T, strict=True))
    assert np.nanmin(found["days_since_last_submission"]) > 0 and np.nanmin(found["registered_days_before_start"]) > -30
    assert found["assessments_due"].max() <= 4 and set(real_oulad.feature_groups.values()) == {
        "background",
        "course",
        "assessments",
    }


# ---- broken files of one's own ------------------------------------------------------------------------------------------

BROKEN = []


def case(*words):
    """Register a function (folder) -> arguments of `load_records`; `words` must be in the message."""

    def register(build):
        BROKEN.append(pytest.param(build, words, id=build.__name__))
        return build

    return register


def own(folder: Path, table: list[dict], columns: RecordColumns = COLUMNS, **options) -> dict:
    return {"train_file": write_csv(folder / "mine.csv", table), "columns": columns, **options}


@case("mine.csv", "no column 'pased'", "Did you mean 'passed'?", "--target_column passed")
def misspelt_target(folder):
    return own(folder, rows(), replace(COLUMNS, target="pased"))


@case("mine.csv", "no column 'who'", "--learner_column")
def learner_column_that_is_not_there(folder):
    return own(folder, rows(), replace(COLUMNS, learner="who"))


@case("mine.csv", "no column 'sex'", "--subgroup_columns")
def subgroup_column_that_is_not_there(folder):
    return own(folder, rows(), replace(COLUMNS, subgroups=["sex"]))


@case("mine.csv", "no column 'points2'", "Did you mean 'points'?", "--drop_columns")
def dropped_column_that_is_not_there(folder):
    return own(folder, rows(), replace(COLUMNS, drop=["points2"]))


@case("mine.csv", "no column 'form'", "--split_by")
def split_by_a_column_that_is_not_there(folder):
    return own(folder, rows(), split_by="form")


@case("column 'passed'", "cannot be this, too", "--subgroup_columns")
def target_as_subgroup(folder):
    return own(folder, rows(), replace(COLUMNS, subgroups=["passed"]))


@case("mine.csv", "row 9", "column 'passed'", "target is missing", "--skip_bad_rows")
def target_missing(folder):
    return own(folder, changed(9, passed="?"))


@case("mine.csv", "column 'passed'", "same in every row", "--target_column")
def constant_target(folder):
    return own(folder, [{**r, "passed": "yes"} for r in rows()])


@case("mine.csv", "column 'points'", "same in every row")
def constant_quantity(folder):
    return own(folder, [{**r, "points": 7.5} for r in rows()], replace(COLUMNS, target="points"), task="regression")


@case("mine.csv", "row 9", "column 'points'", "target is not a number", "Found: 'absent'")
def quantity_in_words(folder):
    return own(folder, changed(9, points="absent"), replace(COLUMNS, target="points"))


@case("mine.csv", "row 9", "column 'points'", "Found: '7,5'", "decimal comma as a point")
def quantity_with_a_decimal_comma(folder):
    return own(folder, changed(9, points="7,5"), replace(COLUMNS, target="points"))


@case("mine.csv", "row 9", "column 'passed'", "differs from 'yes' in capital letters alone", "Found: 'Yes'")
def class_in_two_ways(folder):
    table = [{**r, "passed": "yes" if i % 3 else "no"} for i, r in enumerate(rows())]
    table[7]["passed"] = "Yes"
    return own(folder, table)


@case("mine.csv", "column 'name'", "60 different values", "at most 20 classes", "--target_column")
def names_as_the_target(folder):
    return own(folder, [{**r, "name": f"{TEXT_CANARY} {i}"} for i, r in enumerate(rows())], replace(COLUMNS, target="name"))


@case("column 'school'", "3 classes", "--task multiclass")
def three_classes_for_two(folder):
    return own(folder, rows(), replace(COLUMNS, target="school"), task="binary")


@case("column 'passed'", "no such class", "Found: 'maybe'", "one of no, yes")
def positive_class_that_is_not_there(folder):
    return own(folder, rows(), positive_class="maybe")


@case("column 'points'", "quantity has no classes", "--positive_class")
def positive_class_of_a_quantity(folder):
    return own(folder, rows(), replace(COLUMNS, target="points"), positive_class="yes")


@case("unknown task", "Found: 'ranking'", "regression, binary, multiclass")
def task_that_is_none(folder):
    return own(folder, rows(), task="ranking")


@case("column 'passed'", "too rare", "Found: 'moved'")
def class_of_one_row(folder):
    table = rows()
    table[30]["passed"] = "moved"
    return own(folder, table, fold=4)  # it falls into the test split


@case("mine.csv", "row 9", "column 'points'", "not a number", "Found: 'ill'", "empty cell", "--category_columns 'points'")
def text_in_a_column_of_numbers(folder):
    return own(folder, changed(9, points="ill"))


@case("mine.csv", "row 9", "column 'points'", "not a number", "Found: 'NaN'")
def nan_in_words(folder):
    return own(folder, changed(9, points="NaN"))


@case("mine.csv", "row 9", "column 'points'", "not a number", "Found: 'inf'")
def infinite_number(folder):
    return own(folder, changed(9, points="inf"))


@case("mine.csv", "row 9", "column 'points'", "a text of 20 characters")
def id_in_a_column_of_numbers(folder):
    return own(folder, changed(9, points=f"{ID_CANARY} {TEXT_CANARY}"))


@case("mine.csv", "row 9", "column 'school'", "a number in a column of texts", "--category_columns 'school'")
def number_in_a_column_of_texts(folder):
    return own(folder, changed(9, school="7"))


@case("mine.csv", "row 2", "column 'points'", "no program reads", "3.5 for 3,5", "--category_columns 'points'")
def column_with_decimal_commas(folder):
    return own(folder, [{**r, "points": str(r["points"]).replace(".", ",")} for r in rows()])


@case("mine.csv", "row 2", "column 'share'", "80 for 80%")
def column_with_percent_signs(folder):
    return own(folder, [{**r, "share": f"{i % 90}%"} for i, r in enumerate(rows())])


@case("mine.csv", "column 'result'", "the target 'passed' under another name", "--drop_columns 'result'")
def target_under_another_name(folder):
    return own(folder, [{**r, "result": {"yes": 1, "no": 0}[r["passed"]]} for r in rows()])


@case("mine.csv", "column 'left on'", "the target 'passed' under another name")
def filled_where_somebody_failed_alone(folder):
    return own(folder, [{**r, "left on": i if r["passed"] == "no" else ""} for i, r in enumerate(rows())])


@case("mine.csv", "column 'percent'", "the target 'points' under another name")
def quantity_in_another_unit(folder):
    return own(folder, [{**r, "percent": 120 - 2 * r["points"]} for r in rows()], replace(COLUMNS, target="points"))


@case("mine.csv", "row 9", "column 'id'", "the id is missing")
def id_missing(folder):
    return own(folder, changed(9, id=""))


@case("mine.csv", "row 9", "column 'id'", "row 2 too", "--learner_column")
def id_twice(folder):
    return own(folder, changed(9, id=rows()[0]["id"]))


@case("mine.csv", "row 9", "column 'who'", "the learner is missing")
def learner_missing(folder):
    table = [{**r, "who": f"L{i % 20}"} for i, r in enumerate(rows())]
    table[7]["who"] = ""
    return own(folder, table, replace(COLUMNS, learner="who"))


@case("test.csv", "row 4", "column 'id'", "row 9 of mine.csv (train) too", "nobody in two splits")
def learner_in_two_splits(folder):
    test = rows(20, "test")
    test[2]["id"] = rows()[7]["id"]
    return own(folder, rows(), test_file=write_csv(folder / "test.csv", test))


@case("test.csv", "row 4", "column 'passed'", "stands in no row of the training file", "Found: 'maybe'", "yes, no")
def class_of_the_test_file_alone(folder):
    test = rows(20, "test")
    test[2]["passed"] = "maybe"
    return own(folder, rows(), test_file=write_csv(folder / "test.csv", test))


@case("test.csv", "row 1", "column 'school'", "no such column")
def feature_missing_from_the_test_file(folder):
    test = [{k: v for k, v in r.items() if k != "school"} for r in rows(20, "test")]
    return own(folder, rows(), test_file=write_csv(folder / "test.csv", test))


@case("test.csv", "row 4", "column 'points'", "not a number")
def text_in_a_column_of_numbers_of_the_test_file(folder):
    test = rows(20, "test")
    test[2]["points"] = "ill"
    return own(folder, rows(), test_file=write_csv(folder / "test.csv", test))


@case("--train_file")
def nothing_but_a_test_file(folder):
    return {"test_file": write_csv(folder / "test.csv", rows()), "columns": COLUMNS}


TIMED = replace(COLUMNS, time="day", drop=[])


@case("mine.csv", "row 12", "column 'day'", "on the cut-off or after it", "a day before 20", "--skip_bad_rows")
def row_after_the_cutoff(folder):
    return own(folder, rows(), TIMED, cutoff=20)


@case("mine.csv", "row 9", "column 'day'", "the time is missing")
def time_missing(folder):
    return own(folder, changed(9, day=""), TIMED, cutoff=40)


@case("mine.csv", "row 9", "column 'day'", "not a day as the cut-off is", "a number of days")
def date_under_a_cutoff_in_days(folder):
    return own(folder, changed(9, day="2026-09-01"), TIMED, cutoff=40)


@case("mine.csv", "row 2", "column 'day'", "not a day as the cut-off is", "2026-09-01")
def days_under_a_cutoff_that_is_a_date(folder):
    return own(folder, rows(), TIMED, cutoff="2026-10-01")


@case("cut-off is no day", "Found: 'Easter'")
def cutoff_that_is_no_day(folder):
    return own(folder, rows(), TIMED, cutoff="Easter")


@case("column 'day' is a time", "--cutoff")
def time_without_a_cutoff(folder):
    return own(folder, rows(), TIMED)


@case("no column that says when", "--time_column", "--outcome_time_column")
def cutoff_without_a_time(folder):
    return own(folder, rows(), cutoff=40)


@case("mine.csv", "row 9", "column 'left'", "outcome fell before the cut-off", "a day from 40 on")
def outcome_before_the_cutoff(folder):
    table = [{**r, "left": 50 + i} for i, r in enumerate(rows())]
    table[7]["left"] = 39
    return own(folder, table, replace(COLUMNS, outcome_time="left"), cutoff=40)


@case("mine.csv", "no column is left to predict from")
def only_an_id_and_a_target(folder):
    return own(folder, [{"id": r["id"], "passed": r["passed"], "day": 1} for r in rows()])


@case("4 groups", "5 parts")
def fewer_learners_than_folds(folder):
    return own(folder, [{**r, "who": i % 4} for i, r in enumerate(rows())], replace(COLUMNS, learner="who"))


@case("no such fold", "Found: '5 of 5'")
def fold_that_is_not_there(folder):
    return own(folder, rows(), fold=5)


@case("--max_eval_samples is 0")
def no_samples(folder):
    return own(folder, rows(), max_eval_samples=0)


@case("unknown data set", "Did you mean 'oulad'?", "--train_file")
def misspelt_data_set(folder):
    return {"dataset_name": "oulat", "data_dir": folder}


@case("student_mat has no cut-off", "--cutoff")
def cutoff_of_student_mat(folder):
    write_mat(folder)
    return {"dataset_name": "student_mat", "data_dir": folder, "cutoff": 3}


@case("unknown cut-off", "Did you mean 'semester1'?", "enrolment, semester1, semester2")
def misspelt_semester(folder):
    write_dropout(folder)
    return {"dataset_name": "dropout_academic_success", "data_dir": folder, "cutoff": "semester_1"}


@case("cut-off is no day", "Found: 'semester1'")
def semester_for_oulad(folder):
    (folder / "oulad").mkdir()
    return {"dataset_name": "oulad", "data_dir": folder, "cutoff": "semester1"}


@case("unknown split", "forward or random")
def split_that_is_none(folder):
    return {"dataset_name": "oulad", "data_dir": folder, "split": "backward"}


@case("--earlier_grades is an option of student_mat")
def earlier_grades_of_another_set(folder):
    return own(folder, rows(), earlier_grades=True)


@case("data.csv", "row 1", "column 'Debtor'", "UCI's original file")
def recoded_copy_of_a_public_set(folder):
    path = write_dropout(folder)
    path.write_bytes(path.read_bytes().replace(b"Debtor", b"debtor_status"))
    return {"dataset_name": "dropout_academic_success", "data_dir": folder}


@case("no file", "student-mat.csv")
def public_set_that_is_not_there(folder):
    (folder / "student_performance").mkdir()
    return {"dataset_name": "student_mat", "data_dir": folder}


@pytest.mark.parametrize(("build", "words"), BROKEN)
def test_broken_records_are_refused_with_place_and_remedy_and_nothing_is_told(tmp_path, build, words):
    arguments = build(tmp_path)
    with pytest.raises(DataError) as error:
        load_records(**arguments)
    message = str(error.value)
    assert all(word in message for word in words), message
    assert TEXT_CANARY not in message and ID_CANARY not in message
