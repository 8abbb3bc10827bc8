"""Answers are read as they are, in order, one answer a step; what cannot be read is refused with its row."""

import gzip
import math

import numpy as np
import pytest

from edu_datasets import DataError, ResponseColumns, load_responses
from edu_datasets.responses import EXPANDED, read_log, three_lines_dataset
from edu_datasets.school_generator import CONCEPTS, school_answers

HEADER = "learner,time,question,concepts,correct"


def write(path, text: str):
    path.write_text(text, encoding="utf-8")
    return path


def log(path, *rows: str, header: str = HEADER):
    return write(path, "\n".join([header, *rows]) + "\n")


def learners(number: int, answers: int = 4) -> list[str]:
    """Rows of a log: each learner answers the questions q0, q1 ..., correctly where the number is even."""
    return [f"L{i},{10 * t},q{t},c{t % 3};c{(t + 1) % 3},{(i + t) % 2}" for i in range(number) for t in range(answers)]


TIMED = ResponseColumns(question="question", time="time")


# ---- a school's own log ---------------------------------------------------------------------------------------------


def test_a_log_becomes_a_row_a_learner_and_a_set_of_concepts_a_question(tmp_path):
    data = load_responses(train_file=log(tmp_path / "a.csv", *learners(20)), columns=TIMED)
    rows = [row for split in data.splits.values() for row in split]
    assert sorted(r["learner_id"] for r in rows) == sorted(f"L{i}" for i in range(20))
    assert data.concepts == ["c0", "c1", "c2"] and data.questions == ["q0", "q1", "q2", "q3"] and data.most_concepts() == 2
    row = next(r for r in rows if r["learner_id"] == "L0")
    assert row["concepts"] == [[1, 2], [2, 3], [3, 1], [1, 2]] and row["questions"] == [1, 2, 3, 4]
    assert row["correct"] == [0, 1, 0, 1] and row["times"] == [0.0, 10.0, 20.0, 30.0]
    assert data.rows_read == 80 and "learner" in data.split_protocol


def test_no_learner_is_on_two_sides(tmp_path):
    data = load_responses(train_file=log(tmp_path / "a.csv", *learners(40)), columns=TIMED)
    ids = [set(rows["learner_id"]) for rows in data.splits.values()]
    assert sum(map(len, ids)) == len(set().union(*ids)) == 40
    for fold in data.fold_splits(4, seed=0).values():
        parts = [set(fold[s]["learner_id"]) for s in ("train", "validation", "test")]
        assert sum(map(len, parts)) == len(set().union(*parts)) and not parts[2] & ids[2], "the test learners are in no fold"


def test_dates_are_times(tmp_path):
    rows = ["a,2026-09-01T08:00:00,q,c,1", "a,2026-09-01T08:00:30,q,c,0", "b,2026-09-01,q,c,1", "c,2026-09-01,q,c,1"]
    found = read_log(log(tmp_path / "a.csv", *rows), TIMED).learners
    assert found["a"][1][0] - found["a"][0][0] == 30


def test_answers_out_of_order_are_sorted_when_asked(tmp_path):
    path = log(tmp_path / "a.csv", "a,9,q1,c,1", "a,3,q2,c,0", "b,1,q1,c,1")
    found = read_log(path, TIMED, sort_by_time=True).learners
    assert [a[1] for a in found["a"]] == ["q2", "q1"]


def test_a_log_without_times_keeps_its_order_and_says_nothing_of_time(tmp_path):
    path = log(tmp_path / "a.csv", "a,c1,1", "a,c2,0", "b,c1,1", header="learner,concepts,correct")
    found = read_log(path, ResponseColumns()).learners
    assert [a[2] for a in found["a"]] == [("c1",), ("c2",)] and all(math.isnan(a[0]) for a in found["a"])


def test_the_question_stands_for_the_concept_where_there_is_none(tmp_path):
    path = log(tmp_path / "a.csv", "a,q1,1", "b,q2,0", header="learner,question,correct")
    found = read_log(path, ResponseColumns(concepts=None, question="question")).learners
    assert found["a"][0][2] == ("q1",)


def test_rows_that_cannot_be_read_are_listed_when_asked(tmp_path):
    path = log(tmp_path / "a.csv", *learners(20), "L0,99,q9,c1,maybe", "L1,99,q9,,1")
    data = load_responses(train_file=path, columns=TIMED, skip_bad_rows=True)
    assert [(file, row) for file, row, _ in data.rejected] == [("a.csv", 82), ("a.csv", 83)]
    assert data.rows_read == 82 == sum(len(c) for s in data.splits.values() for c in s["correct"]) + len(data.rejected)


def test_files_of_ones_own_for_each_split(tmp_path):
    paths = {
        f"{s}_file": log(tmp_path / f"{s}.csv", *(r.replace("L", s) for r in learners(5)))
        for s in ("train", "validation", "test")
    }
    data = load_responses(**paths, columns=TIMED)
    assert {s: len(rows) for s, rows in data.splits.items()} == {"train": 5, "validation": 5, "test": 5}


BROKEN_LOGS = {
    "an answer that is neither right nor wrong": (["a,1,q,c,2"], ("row 2", "'correct'", "neither right nor wrong", "2")),
    "an answer with part of the points": (["a,1,q,c,0.5"], ("row 2", "0.5", "rounded or left out")),
    "no answer": (["a,1,q,c,"], ("row 2", "'correct'")),
    "no learner": ([",1,q,c,1"], ("row 2", "the learner is missing", "'learner'")),
    "no concept": (["a,1,q,,1"], ("row 2", "the concept is missing", "'concepts'")),
    "a time that is none": (["a,soon,q,c,1"], ("row 2", "not a time", "soon", "2026-09-01")),
    "times that run backwards": (["a,5,q,c,1", "a,4,r,c,1"], ("row 3", "before that of the learner's answer", "--sort_by_time")),
    "one answer in a row for each concept": (["a,5,q,c,1", "a,5,q,d,1"], ("rows 2 and 3", "one answer", "';'")),
    "no rows": ([], ("no ",)),
}


@pytest.mark.parametrize("name", BROKEN_LOGS)
def test_a_broken_log_is_refused_with_its_row(name, tmp_path):
    rows, words = BROKEN_LOGS[name]
    with pytest.raises(DataError) as error:
        load_responses(train_file=log(tmp_path / "own.csv", *rows), columns=TIMED)
    assert all(word in str(error.value) for word in (*words, "own.csv")), str(error.value)


def test_a_learner_in_two_files_is_refused_without_being_named(tmp_path):
    paths = {f"{s}_file": log(tmp_path / f"{s}.csv", "Xanthippe,1,q,c,1", f"{s},1,q,c,0") for s in ("train", "test")}
    with pytest.raises(DataError, match="no learner in two splits") as error:
        load_responses(**paths, columns=TIMED)
    assert "test.csv" in str(error.value) and "train.csv" in str(error.value) and "Xanthippe" not in str(error.value)


@pytest.mark.parametrize(
    "columns, words",
    [
        (ResponseColumns(learner="pupil"), ("no column 'pupil'", "--learner_column")),
        (ResponseColumns(correct="right"), ("no column 'right'", "--correct_column")),
        (ResponseColumns(concepts="skil"), ("no column 'skil'", "--concept_column")),
        (ResponseColumns(question="item"), ("no column 'item'", "--question_column")),
        (ResponseColumns(time="when"), ("no column 'when'", "--time_column")),
        (ResponseColumns(concepts=None), ("neither concepts nor questions", "--question_column")),
    ],
)
def test_a_column_that_is_not_there_is_named_with_its_option(columns, words, tmp_path):
    with pytest.raises(DataError) as error:
        load_responses(train_file=log(tmp_path / "a.csv", *learners(3)), columns=columns)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_misspelt_data_set_is_told_the_right_name():
    with pytest.raises(DataError, match="Did you mean 'assist2015'"):
        load_responses("asist2015")
    with pytest.raises(DataError, match="--train_file"):
        load_responses(test_file="x.csv")


# ---- three lines a learner ------------------------------------------------------------------------------------------


def test_three_lines_are_a_learner(tmp_path):
    text = "3\n1,1,7\n0,1,1\n2\n9,9,\n1,0,\n"  # some copies end a line with a comma
    rows = three_lines_dataset(write(tmp_path / "a.csv", text))
    assert rows["concepts"][:] == [[[1], [1], [7]], [[9], [9]]] and rows["correct"][:] == [[0, 1, 1], [1, 0]]
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert three_lines_dataset(tmp_path / "b.csv.gz")["correct"][:] == rows["correct"][:]


BROKEN_LINES = {
    "a count that does not fit": ("3\n1,1\n0,1,1\n", ("row 2", "2 values", "3")),
    "answers that do not fit": ("2\n1,1\n0,1,1\n", ("row 3", "3 values")),
    "an answer that is neither 0 nor 1": ("2\n1,1\n0,2\n", ("row 3", "neither 0 nor 1", "2")),
    "a word": ("2\n1,one\n0,1\n", ("row 2", "no whole number")),
    "a concept below 1": ("2\n0,1\n0,1\n", ("row 2", "below 1")),
    "an end within a learner": ("2\n1,1\n", ("ends within a learner",)),
    "a table": ("learner,correct\na,1\n", ("row 1", "three lines a learner")),
    "another encoding": ("2\n1,1\n0,1\né", ("damaged or no text",)),
}


@pytest.mark.parametrize("name", BROKEN_LINES)
def test_broken_lines_are_refused_with_their_number(name, tmp_path):
    text, words = BROKEN_LINES[name]
    with pytest.raises(DataError) as error:
        three_lines_dataset(write(tmp_path / "own.csv", text))
    assert all(word in str(error.value) for word in (*words, "own.csv")), str(error.value)


def public(folder, name: str, text: str):
    (folder / "kt" / name).mkdir(parents=True)
    for split in ("train", "test"):
        write(folder / "kt" / name / f"{name}_{split}.csv", text)
    return folder


@pytest.mark.parametrize("name", ["assist2015", "assist2009_updated"])
def test_the_expanded_set_is_loaded_with_a_warning_that_says_why(name, tmp_path, caplog):
    data = load_responses(name, data_dir=public(tmp_path, name, "2\n1,2\n1,1\n" * 10))
    warned = EXPANDED.replace("%%", "%") in caplog.text
    assert warned is (name == "assist2009_updated") and bool(data.warnings) is warned
    assert len(data.splits["test"]) == 10 and len(data.splits["train"]) + len(data.splits["validation"]) == 10


# ---- ASSISTments, in the layout of its site -------------------------------------------------------------------------


def test_assistments_2009_rows_of_one_order_are_one_answer(tmp_path):
    (tmp_path / "kt" / "assistments2009").mkdir(parents=True)
    rows = ["order_id,user_id,problem_id,skill_id,correct"]
    for user in range(10):
        rows += [f"{100 * user + 2},{user},p2,7,0", f"{100 * user + 1},{user},p1,5,1", f"{100 * user + 1},{user},p1,6,1"]
        rows += [f"{100 * user + 3},{user},p3,,1"]
    write(tmp_path / "kt" / "assistments2009" / "skill_builder.csv", "\n".join(rows) + "\n")
    data = load_responses("assistments2009", data_dir=tmp_path)
    row = data.splits["test"][0]
    names = [[data.concepts[c - 1] for c in step] for step in row["concepts"]]
    assert names == [["5", "6"], ["7"]] and row["correct"] == [1, 0], "in order, and the answer of a pair of skills stands once"
    assert len(data.rejected) == 10 and data.rejected[0][2] == "no skill"


def test_assistments_2015_leaves_answers_with_part_of_the_points_out(tmp_path):
    (tmp_path / "kt" / "assistments2015").mkdir(parents=True)
    rows = ["user_id,log_id,sequence_id,correct"]
    rows += [f"{u},{10 * u + t},{5000 + t},{c}" for u in range(10) for t, c in enumerate(("1", "0.25", "0"))]
    write(tmp_path / "kt" / "assistments2015" / "2015.csv", "\n".join(rows) + "\n")
    data = load_responses("assistments2015", data_dir=tmp_path)
    assert all(row["correct"] == [1, 0] for split in data.splits.values() for row in split) and len(data.rejected) == 10


# ---- the real files -------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_the_distributed_files_have_what_their_readme_counts():
    data = load_responses("assist2015")
    counts = {s: (len(rows), sum(map(len, rows["correct"]))) for s, rows in data.splits.items()}
    assert counts["test"] == (5905, 199_761) and counts["train"][0] + counts["validation"][0] == 13_935
    assert counts["train"][1] + counts["validation"][1] == 484_040 and len(data.concepts) == 100
    assert np.mean([a for row in data.splits["test"]["correct"] for a in row]) == pytest.approx(0.7319, abs=1e-4)


# ---- the sample school ----------------------------------------------------------------------------------------------


def test_the_sample_school_has_every_answer_of_its_learners_once_and_in_order():
    data = load_responses("sample_school")
    rows = [row for split in data.splits.values() for row in split]
    answers = school_answers()
    assert sum(len(r["correct"]) for r in rows) == data.rows_read == len(answers) and len(rows) == 400
    assert set(data.concepts) == set(CONCEPTS) and len(data.questions) == 144 and data.most_concepts() == 2
    mine = next(r for r in rows if r["learner_id"] == "L007")
    theirs = [a for a in answers if a["learner"] == "L007"]
    assert [data.questions[q - 1] for q in mine["questions"]] == [a["question"] for a in theirs]
    assert [{data.concepts[c - 1] for c in named} for named in mine["concepts"]] == [set(a["concepts"]) for a in theirs]
    assert mine["correct"] == [a["correct"] for a in theirs] and mine["times"] == [a["time"] for a in theirs]


def test_the_sample_school_is_split_by_learner():
    ids = [set(rows["learner_id"]) for rows in load_responses("sample_school").splits.values()]
    assert sum(map(len, ids)) == len(set().union(*ids)) == 400 and [len(i) for i in ids] == [240, 80, 80]
