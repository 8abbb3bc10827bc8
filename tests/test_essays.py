"""Essays reach a recipe whole, on their scale, and in splits that do not leak, whatever file they come from."""

import csv
import functools
import gzip
import io
import json
import math
import os
import re
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from datasets import concatenate_datasets

from edu_datasets import DataError, EssayColumns, load_essays
from edu_datasets.essays import SAMPLE_SCHOOL, read_asap, read_essays
from edu_datasets.files import read_table
from edu_datasets.schema import ESSAYS
from edu_datasets.splits import find_leaks
from trainers.calibration import to_scale, variance_match
from trainers.metrics.quadratic_weighted_kappa import quadratic_weighted_kappa

SPLITS = ("train", "validation", "test")


def every_row(data):
    """All splits in one."""
    return concatenate_datasets([data.splits[s] for s in SPLITS])


def write_csv(path, rows):
    """Records as a csv file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows(n=60, learners=15, name="E"):
    """Essays of `learners` learners in 5 classes on two prompts, scored 1 to 4."""
    return [
        {
            "id": f"{name}{i}", "who": f"{name}-L{i % learners}", "class": f"{name}-C{i % learners % 5}",
            "task": "ab"[i // learners % 2],
            "essay": f"Essay {name}{i} says something of its own.", "grade": i % 4 + 1,
        }
        for i in range(n)
    ]  # fmt: skip


COLUMNS = EssayColumns(text="essay", scores=["grade"], prompt="task", essay_id="id", learner="who")


def lengths(data) -> dict[str, int]:
    return {s: len(data.splits[s]) for s in SPLITS}


def learners_on_two_sides(splits, column="learner_id") -> bool:
    return any(leak[0] == column for leak in find_leaks(splits, [column]))


# ---- sample school ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def essays(sample):
    return every_row(sample)


def by_prompt(sample, essays):
    """(prompt, lowest, highest score, its rows) for each prompt."""
    for prompt, [(low, high)] in sample.score_ranges.items():
        yield prompt, low, high, essays.select([i for i, p in enumerate(essays["prompt_id"]) if p == prompt])


def test_every_essay_of_the_sample_school_reaches_a_split(sample, essays):
    table = read_table(SAMPLE_SCHOOL / "essays.csv")
    assert len(table) == len(essays) == sample.rows_read == 140 and sample.rejected == []
    assert dict(zip(table.columns["essay_id"], table.columns["text"], strict=True)) == dict(
        zip(essays["essay_id"], essays["text"], strict=True)
    )
    assert essays.features == ESSAYS


def test_the_tables_of_the_sample_school_fit_together(essays):
    learners = read_table(SAMPLE_SCHOOL / "learners.csv").columns["learner_id"]
    prompts = read_table(SAMPLE_SCHOOL / "prompts.csv").columns["prompt_id"]
    for keys in (learners, prompts, list(essays["essay_id"])):
        assert len(keys) == len(set(keys)) and all(keys)
    assert set(essays["learner_id"]) <= set(learners)
    assert set(essays["prompt_id"]) == set(prompts)


def test_the_sample_school_keeps_each_learner_and_text_in_one_split(sample):
    assert find_leaks(sample.splits, ["learner_id", "text", "essay_id"]) == []


def test_the_sample_school_brings_prompts_subgroups_and_a_split_of_every_prompt(sample):
    assert all(len(wording) > 50 for wording in sample.prompts.values()) and len(sample.prompts) == 3
    assert sample.subgroup_columns == ["grade", "language_learner"]
    assert {s[1] for s in every_row(sample)["subgroups"]} == {"yes", "no"}
    assert all(set(sample.splits[s]["prompt_id"]) == set(sample.prompts) for s in SPLITS)


def test_scores_of_the_sample_school_lie_in_the_range_of_their_prompt(sample, essays):
    for _, low, high, part in by_prompt(sample, essays):
        for column in ("scores", "rater1_scores", "rater2_scores"):
            scores = np.array(part[column])
            assert scores.min() >= low and scores.max() <= high and np.array_equal(scores, np.rint(scores))


def test_the_raters_of_the_sample_school_agree_as_people_do(sample, essays):
    for prompt, low, high, part in by_prompt(sample, essays):
        first, second = np.array(part["rater1_scores"])[:, 0], np.array(part["rater2_scores"])[:, 0]
        assert 0.1 < np.mean(first != second) < 0.6, prompt
        assert 0.7 < quadratic_weighted_kappa(first, second, low, high) < 0.97, prompt


def test_length_alone_does_not_score_the_sample_school(sample, essays):
    for prompt, low, high, part in by_prompt(sample, essays):
        words = np.array([len(text.split()) for text in part["text"]], float)
        human = np.array(part["scores"])[:, 0]
        slope, intercept = variance_match(words, human)  # on the same rows, which flatters length
        assert quadratic_weighted_kappa(to_scale(slope * words + intercept, low, high, 1), human, low, high) < 0.6, prompt


def test_some_essays_of_the_sample_school_are_equally_long_and_score_differently(sample, essays):
    for prompt, _, _, part in by_prompt(sample, essays):
        scored = [(len(text.split()), score[0]) for text, score in zip(part["text"], part["scores"], strict=True)]
        assert sum(a[0] == b[0] and a[1] != b[1] for a, b in combinations(scored, 2)) >= 3, prompt


def test_no_two_essays_of_the_sample_school_share_a_sentence(essays):
    found = defaultdict(set)
    for essay_id, text in zip(essays["essay_id"], essays["text"], strict=True):
        for sentence in re.split(r"[.!?\n]+", text):
            words = re.findall(r"[\w']+", sentence.lower())
            if len(words) >= 6:
                found[" ".join(words)].add(essay_id)
    assert len(found) > 500
    assert {sentence: ids for sentence, ids in found.items() if len(ids) > 1} == {}


# ---- ASAP -------------------------------------------------------------------------------------------------------------

ASAP_HEADER = [
    "essay_id", "essay_set", "essay", "rater1_domain1", "rater2_domain1", "rater3_domain1", "domain1_score",
    "rater1_domain2", "rater2_domain2", "domain2_score",
    *(f"rater{r}_trait{t}" for r in (1, 2, 3) for t in range(1, 7)),
]  # fmt: skip
ASAP_COUNTS = {"1": 1783, "2": 1800, "3": 1726, "4": 1772, "5": 1805, "6": 1800, "7": 1569, "8": 723}


def asap_lines():
    """20 lines in ASAP's layout, two prompts; line i is essay 100 + i."""
    lines = []
    for i in range(20):
        essay = f'"Essay {i} said ""hello"" to @PERSON1."' if i % 3 else f"Essay {i} is bare, with a comma."
        score = 2 + i % 5 * 2
        row = [str(100 + i), str(1 + i % 2), essay, str(score // 2), str(score - score // 2), "", str(score), *[""] * 21]
        lines.append(row if i % 2 == 0 else [*row[:6], str(i // 2 % 5 + 1), *row[7:]])
    lines[1][2], lines[2][2] = '"A “caf\u00e9” – mine"', '"A “ca\u00f1on” – mine"'
    lines[7][2] = '"An essay that opens a quote and never closes it.'
    lines[8][2] = '"An essay behind it."'
    return lines


def write_asap(folder: Path, encodings=("utf-8",), name="training_set_rel3.tsv", end="\r\n"):
    """A small ASAP in `folder`/asap, its lines in turn in `encodings`, with five folds."""
    folder = folder / "asap"
    folder.mkdir(parents=True)
    lines = ["\t".join(line) for line in [ASAP_HEADER, *asap_lines()]]
    data = b"".join((line + end).encode(encodings[i % len(encodings)]) for i, line in enumerate(lines))
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    ids = np.arange(100, 120)
    for fold in range(5):
        (folder / f"folds/fold_{fold}").mkdir(parents=True)
        order = np.roll(ids, 4 * fold)
        for split, part in (("train", order[:12]), ("dev", order[12:16]), ("test", order[16:])):
            (folder / f"folds/fold_{fold}/{split}_ids.txt").write_text("".join(f"{i}\n" for i in part))
    return folder / name


@pytest.mark.parametrize("name", ["training_set_rel3.tsv", "training_set_rel3.tsv.gz"])
def test_asap_is_read_without_csv_quoting(tmp_path, name):
    path = write_asap(tmp_path, name=name)
    table = read_asap(path)
    assert table.columns["essay_id"] == [str(i) for i in range(100, 120)] and table.rows == list(range(2, 22))
    assert table.columns["essay"][0] == "Essay 0 is bare, with a comma."
    assert table.columns["essay"][4] == 'Essay 4 said "hello" to @PERSON1.'
    assert table.columns["essay"][7] == '"An essay that opens a quote and never closes it.'
    assert table.columns["essay"][8] == "An essay behind it."


def test_csv_quoting_would_lose_asap_essays(tmp_path):
    """The trap that the test above closes."""
    text = write_asap(tmp_path).read_text()
    assert len(list(csv.reader(io.StringIO(text), delimiter="\t"))) - 1 < 20


@pytest.mark.parametrize("encodings", [("utf-8", "cp1252"), ("cp1252", "utf-8"), ("cp1252",)])
def test_asap_lines_may_be_windows_1252_or_utf_8(tmp_path, encodings):
    essays = read_asap(write_asap(tmp_path, encodings)).columns["essay"]
    assert essays[1] == "A “café” – mine" and essays[2] == "A “cañon” – mine"


def test_asap_comes_on_its_published_folds_with_its_ranges_and_raters(tmp_path):
    write_asap(tmp_path)
    tests = []
    for fold in range(5):
        data = load_essays("asap", data_dir=tmp_path, fold=fold)
        assert lengths(data) == {"train": 12, "validation": 4, "test": 4} and data.rows_read == 20
        assert f"fold {fold}" in data.split_protocol
        tests += data.splits["test"]["essay_id"]
    assert sorted(tests) == [str(i) for i in range(100, 120)]
    assert data.score_ranges == {"1": [(2.0, 12.0)], "2": [(1.0, 6.0)]}
    first = next(row for row in every_row(data) if row["essay_id"] == "104")
    assert (first["prompt_id"], first["scores"]) == ("1", [10.0])
    assert (first["rater1_scores"], first["rater2_scores"]) == ([5.0], [5.0])


def test_asap_with_a_missing_column_or_a_torn_line_is_refused(tmp_path):
    path = write_asap(tmp_path, end="\n")
    whole = path.read_text()
    path.write_text(whole.replace("domain1_score", "score", 1))
    with pytest.raises(DataError, match="training_set_rel3.tsv, row 1, column 'domain1_score'"):
        load_essays("asap", data_dir=tmp_path)
    path.write_text(whole[: whole.index("Essay 5")])
    with pytest.raises(DataError, match="training_set_rel3.tsv, row 7: the row has 3 fields. Expected: 28"):
        load_essays("asap", data_dir=tmp_path)


def test_asap_that_lacks_essays_of_its_folds_is_refused_with_the_place(tmp_path):
    path = write_asap(tmp_path, end="\n")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:20]))  # without essay 119, the last of fold 0's test
    with pytest.raises(DataError, match="test_ids.txt, row 4: 1 ids are not in training_set_rel3.tsv"):
        load_essays("asap", data_dir=tmp_path)


@pytest.fixture(scope="module")
def asap_folder():
    return Path(os.environ["EDU_DATA_DIR"]) / "asap"


@pytest.fixture(scope="module")
def asap(asap_folder):
    """Loads one fold of the real ASAP, once."""
    return functools.cache(lambda fold: load_essays("asap", data_dir=asap_folder.parent, fold=fold))


@pytest.mark.real_data
def test_asap_has_all_its_essays(asap):
    data = asap(0)
    assert data.rows_read == 12_978 and data.rejected == []
    assert Counter(every_row(data)["prompt_id"]) == ASAP_COUNTS
    assert not any("\ufffd" in text for text in every_row(data)["text"])


@pytest.mark.real_data
@pytest.mark.parametrize("fold", range(5))
def test_each_fold_of_asap_is_complete_and_disjoint(asap, fold):
    ids = [set(asap(fold).splits[s]["essay_id"]) for s in SPLITS]
    assert sum(map(len, ids)) == len(set.union(*ids)) == 12_978
    assert [len(i) / 12_978 for i in ids] == pytest.approx([0.6, 0.2, 0.2], abs=0.01)


@pytest.mark.real_data
def test_the_asap_essay_with_the_unclosed_quote_does_not_swallow_its_successors(asap_folder):
    table = read_asap(asap_folder / "training_set_rel3.tsv.gz")
    essays = dict(zip(table.columns["essay_id"], table.columns["essay"], strict=True))
    assert {"10534", "10535", "10536"} <= set(essays)
    assert "\n" not in essays["10534"] and len(essays["10534"].split()) < 400
    assert essays["10535"] not in essays["10534"]


@pytest.mark.real_data
def test_csv_with_default_quoting_loses_two_asap_essays(asap_folder):
    """The trap that the tests above close."""
    text = gzip.decompress((asap_folder / "training_set_rel3.tsv.gz").read_bytes()).decode()
    csv.field_size_limit(2**31 - 1)
    assert len(list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t"))) == 12_976


@pytest.mark.real_data
def test_asap_in_its_original_bytes_reads_to_the_same_texts(asap_folder):
    original = read_asap(asap_folder / "sample_original_encoding.tsv")
    decoded = read_asap(asap_folder / "training_set_rel3.tsv.gz")
    row_of = {essay_id: i for i, essay_id in enumerate(decoded.columns["essay_id"])}
    rows = [row_of[essay_id] for essay_id in original.columns["essay_id"]]
    assert len(rows) == 132
    assert sum(not essay.isascii() for essay in original.columns["essay"]) > 30
    for name in ASAP_HEADER:
        assert original.columns[name] == [decoded.columns[name][row] for row in rows], name


# ---- ASAP 2.0 and ELLIPSE ---------------------------------------------------------------------------------------------


def test_asap_2_keeps_its_prompts_range_and_subgroups(tmp_path):
    (tmp_path / "asap2").mkdir()
    assignments = {"Exploring Venus": "Explain how well the author supports it.", "Driverless cars": "Take a position."}
    write_csv(
        tmp_path / "asap2/ASAP2_train_sourcetexts.csv",
        [
            {
                "essay_id": f"AAAVUP1431900015957{i}", "score": i % 4 + 1, "full_text": f"The author says, \"{i}\",\nand more.",
                "assignment": assignments[prompt], "prompt_name": prompt,
                "economically_disadvantaged": ("Economically disadvantaged", "Not economically disadvantaged")[i % 2],
                "student_disability_status": "Not identified as having disability", "ell_status": ("No", "Yes")[i % 2],
                "race_ethnicity": "White", "gender": "FM"[i % 2], "grade_level": 8.0,
                "source_text_1": "Venus, sometimes called the evening star, ...",
            }
            for i, prompt in enumerate(list(assignments) * 15)
        ],
    )  # fmt: skip
    data = load_essays("asap2", data_dir=tmp_path)
    assert sum(lengths(data).values()) == data.rows_read == 30
    assert data.score_ranges == {"Driverless cars": [(1.0, 6.0)], "Exploring Venus": [(1.0, 6.0)]}
    assert data.prompts == assignments and data.licence == "cc-by-nc-sa-4.0"
    assert data.subgroup_columns == [
        "economically_disadvantaged", "student_disability_status", "ell_status", "race_ethnicity", "gender", "grade_level",
    ]  # fmt: skip
    row = next(r for r in every_row(data) if r["essay_id"].endswith("1595729"))
    assert row["subgroups"][0] == "Not economically disadvantaged" and row["subgroups"][2:5] == ["Yes", "White", "M"]
    assert row["text"] == 'The author says, "29",\nand more.'


ELLIPSE_SCORES = ["Overall", "Cohesion", "Syntax", "Vocabulary", "Phraseology", "Grammar", "Conventions"]


def ellipse_rows(n, name="B"):
    return [
        {
            "text_id_kaggle": f"{name}{i:04}", "full_text": f"I think {name}{i} is important.",
            "gender": ("Female", "Male")[i % 2], "grade": 8 + i % 5, "race_ethnicity": "Hispanic/Latino",
            "num_words": 5, "num_words2": 5, "SES": "Economically disadvantaged", "prompt": "Career commitment",
            **{score: 1 + (i + j) % 9 / 2 for j, score in enumerate(ELLIPSE_SCORES)},
        }
        for i in range(n)
    ]  # fmt: skip


def test_ellipse_gives_seven_scores_in_half_points_and_its_own_test_set(tmp_path):
    (tmp_path / "ellipse").mkdir()
    write_csv(tmp_path / "ellipse/ELLIPSE_Final_github_train.csv", ellipse_rows(40))
    write_csv(tmp_path / "ellipse/ELLIPSE_Final_github_test.csv", ellipse_rows(10, "T"))
    data = load_essays("ellipse", data_dir=tmp_path)
    assert data.score_names == ELLIPSE_SCORES and data.score_step == 0.5
    assert data.score_ranges == {"all": [(1.0, 5.0)] * 7}
    assert data.subgroup_columns == ["gender", "grade", "race_ethnicity", "SES"]
    assert set(data.splits["test"]["essay_id"]) == {f"T{i:04}" for i in range(10)}
    assert len(data.splits["train"]) + len(data.splits["validation"]) == 40 and len(data.splits["validation"]) == 8
    row = next(r for r in every_row(data) if r["essay_id"] == "B0003")
    assert row["scores"] == [2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 1.0]
    assert row["subgroups"] == ["Male", "11", "Hispanic/Latino", "Economically disadvantaged"]


@pytest.mark.parametrize("name", ["asap", "asap2", "ellipse"])
def test_a_public_data_set_that_is_not_there_is_refused_with_the_file_it_needs(tmp_path, name):
    (tmp_path / name).mkdir()
    needs = {"asap": "training_set_rel3.tsv", "asap2": "ASAP2_train_sourcetexts.csv", "ellipse": "ELLIPSE_Final_github_train.csv"}
    with pytest.raises(DataError, match=needs[name]):
        load_essays(name, data_dir=tmp_path)


# ---- a school's own file ----------------------------------------------------------------------------------------------


def test_every_row_of_an_own_file_reaches_a_split_with_its_own_names(tmp_path):
    data = load_essays(train_file=write_csv(tmp_path / "mine.csv", rows()), columns=COLUMNS)
    assert data.rows_read == 60 == sum(lengths(data).values()) and data.rejected == []
    assert data.score_ranges == {"a": [(1.0, 4.0)], "b": [(1.0, 4.0)]} and data.score_step == 1 and data.name == "mine.csv"
    want = {r["id"]: (r["who"], r["task"], r["essay"], [float(r["grade"])]) for r in rows()}
    have = {r["essay_id"]: (r["learner_id"], r["prompt_id"], r["text"], r["scores"]) for r in every_row(data)}
    assert have == want


def test_several_scores_may_have_empty_cells_which_become_nan(tmp_path):
    table = [{**r, "style": "" if i % 3 else i % 7 / 2} for i, r in enumerate(rows())]
    table[15]["grade"] = table[45]["grade"] = ""
    columns = EssayColumns(text="essay", scores=["grade", "style"], essay_id="id")
    data = load_essays(train_file=write_csv(tmp_path / "mine.csv", table), columns=columns)
    scores = {r["essay_id"]: r["scores"] for r in every_row(data)}
    assert len(scores) == 60 and data.score_names == ["grade", "style"] and data.score_step == 0.5
    assert scores["E3"] == [4.0, 1.5] and scores["E6"] == [3.0, 3.0]
    assert scores["E1"][0] == 2.0 and math.isnan(scores["E1"][1])
    assert math.isnan(scores["E15"][0]) and scores["E15"][1] == 0.5
    assert data.score_ranges == {"all": [(1.0, 4.0), (0.0, 3.0)]}


def test_an_essay_without_any_score_is_refused(tmp_path):
    table = rows()
    table[3]["grade"] = ""
    with pytest.raises(DataError, match="mine.csv, row 5, column 'grade': the essay has no score"):
        load_essays(train_file=write_csv(tmp_path / "mine.csv", table), columns=COLUMNS)


def test_half_points_are_found_and_keep_their_step(tmp_path):
    table = [{**r, "grade": 1 + i % 5 / 2} for i, r in enumerate(rows())]
    data = load_essays(train_file=write_csv(tmp_path / "mine.csv", table), columns=COLUMNS)
    assert data.score_step == 0.5 and data.score_ranges["a"] == [(1.0, 3.0)]


def test_a_learner_stays_in_one_split_where_the_column_is_named(tmp_path):
    path = write_csv(tmp_path / "mine.csv", rows())
    splits = load_essays(train_file=path, columns=COLUMNS).splits
    assert not learners_on_two_sides(splits) and len(set(splits["test"]["learner_id"])) >= 2


def test_without_that_column_the_same_learners_are_cut(tmp_path):
    """The twin of the test above: the same file leaks learners where nobody says who wrote what."""
    path = write_csv(tmp_path / "mine.csv", [{**r, "essay": r["who"] + " " + r["essay"]} for r in rows()])
    splits = load_essays(train_file=path, columns=EssayColumns(text="essay", scores=["grade"], prompt="task")).splits
    writers = {s: {text.split()[0] for text in splits[s]["text"]} for s in SPLITS}
    assert writers["train"] & writers["test"]


def classes_on_two_sides(splits) -> bool:
    classes = {name: {(int(learner.split("L")[1]) % 5) for learner in part["learner_id"]} for name, part in splits.items()}
    return any(classes[a] & classes[b] for a, b in combinations(classes, 2))


def test_split_by_keeps_a_class_in_one_split(tmp_path):
    path = write_csv(tmp_path / "mine.csv", rows())
    data = load_essays(train_file=path, columns=COLUMNS, split_by="class")
    assert not classes_on_two_sides(data.splits) and "class" in data.split_protocol
    assert classes_on_two_sides(load_essays(train_file=path, columns=COLUMNS).splits)  # by learner alone they are cut


def test_a_text_that_two_learners_hand_in_stays_in_one_split(tmp_path):
    table = rows()
    for i in range(0, 60, 6):
        table[i]["essay"] = table[(i + 7) % 60]["essay"].upper().replace(" ", "  ")
    for seed in range(3):
        data = load_essays(train_file=write_csv(tmp_path / "mine.csv", table), columns=COLUMNS, seed=seed)
        assert find_leaks(data.splits, ["text", "learner_id"]) == []


def test_given_splits_are_kept_as_given(tmp_path):
    files = {f"{s}_file": write_csv(tmp_path / f"{s}.csv", rows(n, name=s)) for s, n in zip(SPLITS, (40, 20, 30), strict=True)}
    data = load_essays(**files, columns=COLUMNS)
    assert lengths(data) == {"train": 40, "validation": 20, "test": 30} and data.rows_read == 90
    assert all(essay_id.startswith(s) for s in SPLITS for essay_id in data.splits[s]["essay_id"])
    assert all(f"{s}.csv as {s}" in data.split_protocol for s in SPLITS)


@pytest.mark.parametrize(("given", "cut"), [("test", "validation"), ("validation", "test")])
def test_the_split_that_is_not_given_is_cut_from_the_training_file(tmp_path, given, cut):
    train, other = write_csv(tmp_path / "train.csv", rows()), write_csv(tmp_path / "other.csv", rows(20, name="O"))
    data = load_essays(train_file=train, **{f"{given}_file": other}, columns=COLUMNS)
    assert len(data.splits[given]) == 20 and len(data.splits["train"]) + len(data.splits[cut]) == 60
    assert len(data.splits[cut]) == pytest.approx(12, abs=4) and not learners_on_two_sides(data.splits)


def test_learners_in_two_given_splits_are_counted_in_the_log_and_not_named(tmp_path, caplog):
    train, test = rows(), [{**r, "who": f"E-L{i}"} for i, r in enumerate(rows(20, name="O"))]
    load_essays(
        train_file=write_csv(tmp_path / "train.csv", train), test_file=write_csv(tmp_path / "test.csv", test), columns=COLUMNS
    )
    assert "15 learners stand in two of the given splits" in caplog.text and "E-L" not in caplog.text


def test_a_test_file_without_a_training_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="--train_file"):
        load_essays(test_file=write_csv(tmp_path / "test.csv", rows()), columns=COLUMNS)


def test_the_prompts_file_gives_wording_and_range(tmp_path):
    prompts = [
        {"prompt_id": "a", "prompt": "Describe your school.", "score_min": 0, "score_max": 6},
        {"prompt_id": "b", "prompt": "Argue for or against.", "score_min": 1, "score_max": 4},
    ]
    path = write_csv(tmp_path / "mine.csv", rows())
    data = load_essays(train_file=path, columns=COLUMNS, prompts_file=write_csv(tmp_path / "prompts.csv", prompts))
    assert data.score_ranges == {"a": [(0.0, 6.0)], "b": [(1.0, 4.0)]}
    assert data.prompts == {"a": "Describe your school.", "b": "Argue for or against."}


def test_a_range_upside_down_in_the_prompts_file_is_refused(tmp_path):
    prompts = write_csv(tmp_path / "prompts.csv", [{"prompt_id": "a", "score_min": 6, "score_max": 0}])
    with pytest.raises(DataError, match="prompts.csv, row 2, column 'score_min'"):
        load_essays(train_file=write_csv(tmp_path / "mine.csv", rows()), columns=COLUMNS, prompts_file=prompts)


def test_prompt_ids_keep_these_prompts_alone(tmp_path):
    path = write_csv(tmp_path / "mine.csv", rows())
    data = load_essays(train_file=path, columns=COLUMNS, prompt_ids=["b"])
    assert {p for s in SPLITS for p in data.splits[s]["prompt_id"]} == {"b"} == set(data.score_ranges)
    assert sum(lengths(data).values()) == sum(r["task"] == "b" for r in rows())
    with pytest.raises(DataError, match="no such prompt. Found: 'c'. Expected: one of a, b"):
        load_essays(train_file=path, columns=COLUMNS, prompt_ids=["c"])


def test_max_samples_shorten_the_splits_and_nothing_else(tmp_path):
    path = write_csv(tmp_path / "mine.csv", rows())
    whole = load_essays(train_file=path, columns=COLUMNS)
    short = load_essays(train_file=path, columns=COLUMNS, max_train_samples=20, max_eval_samples=6)
    assert lengths(short) == {"train": 20, "validation": 6, "test": 6}
    for split in SPLITS:
        assert set(short.splits[split]["essay_id"]) < set(whole.splits[split]["essay_id"])


@pytest.mark.parametrize("most", [0, -1])
def test_a_number_of_samples_below_one_is_refused(tmp_path, most):
    path = write_csv(tmp_path / "mine.csv", rows())
    with pytest.raises(DataError, match="max_train_samples"):
        load_essays(train_file=path, columns=COLUMNS, max_train_samples=most)


def test_skip_bad_rows_leaves_them_out_and_lists_each(tmp_path):
    table = rows()
    table[0]["essay"], table[5]["grade"], table[9]["grade"], table[11]["task"], table[20]["id"] = "", "good", "", "", "E19"
    data = load_essays(train_file=write_csv(tmp_path / "mine.csv", table), columns=COLUMNS, skip_bad_rows=True)
    assert [(name, row) for name, row, _ in data.rejected] == [("mine.csv", row) for row in (2, 7, 11, 13, 22)]
    reasons = " / ".join(reason for *_, reason in data.rejected)
    assert all(word in reasons for word in ("empty", "not a score", "no score", "prompt is missing", "row 21 too"))
    assert data.rows_read == 60 == sum(lengths(data).values()) + len(data.rejected)


def test_a_prediction_reads_essays_without_scores_and_keeps_their_row_numbers(tmp_path):
    table = [{"id": r["id"], "task": r["task"], "essay": r["essay"]} for r in rows(6)]
    table[2]["essay"], table[3]["task"] = " ", ""  # an empty essay is scored, too: it gets the lowest score
    path = write_csv(tmp_path / "new.csv", table)
    essays, numbers, rejected = read_essays(path, EssayColumns("essay", (), "task", "id"), skip_bad_rows=True)
    assert list(essays["essay_id"]) == ["E0", "E1", "E2", "E4", "E5"] and numbers == [2, 3, 4, 6, 7]
    assert essays["text"][2] == "" and [r[:2] for r in rejected] == [("new.csv", 5)]


def test_long_numeric_ids_stay_apart_where_a_file_holds_them_as_floats(tmp_path):
    """pandas turns a column of whole numbers with a gap into floats."""
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({**r, "id": 12345670.0 + i}) + "\n" for i, r in enumerate(rows())))
    data = load_essays(train_file=path, columns=COLUMNS)
    assert sorted(every_row(data)["essay_id"]) == [str(12345670 + i) for i in range(60)]


def test_rows_without_an_id_are_called_by_their_number(tmp_path):
    path = write_csv(tmp_path / "mine.csv", rows())
    data = load_essays(train_file=path, columns=EssayColumns(text="essay", scores=["grade"]))
    assert {int(i.removeprefix("row ")) for i in every_row(data)["essay_id"]} == set(range(2, 62))


# ---- folds ------------------------------------------------------------------------------------------------------------


def test_folds_for_cross_validation_cover_train_and_validation_and_leave_test_alone(sample):
    folds = list(sample.fold_splits(4, seed=7).values())
    held_out = set(sample.splits["test"]["essay_id"])
    pool = set(sample.splits["train"]["essay_id"]) | set(sample.splits["validation"]["essay_id"])
    assert sorted(i for fold in folds for i in fold["test"]["essay_id"]) == sorted(pool)
    for fold in folds:
        ids = [set(fold[s]["essay_id"]) for s in SPLITS]
        assert sum(map(len, ids)) == len(set.union(*ids)) == len(pool) and not set.union(*ids) & held_out
        assert find_leaks(fold, ["learner_id", "text"]) == []


def test_folds_keep_what_split_by_keeps(tmp_path):
    path = write_csv(tmp_path / "mine.csv", rows())
    data = load_essays(train_file=path, columns=EssayColumns(text="essay", scores=["grade"]), split_by="who")
    writer = {r["essay"]: r["who"] for r in rows()}
    for fold in data.fold_splits(2, seed=7).values():
        here = {s: {writer[text] for text in fold[s]["text"]} for s in SPLITS}
        assert not any(here[a] & here[b] for a, b in combinations(SPLITS, 2))


# ---- new prompts, fewer graded essays -----------------------------------------------------------------------------------


def test_a_prompt_is_left_out_of_training_whole_and_is_all_of_the_test(sample):
    parts = sample.prompt_splits()
    assert list(parts) == [f"without_{p}" for p in sample.score_ranges]
    for prompt in sample.score_ranges:
        splits = parts[f"without_{prompt}"]
        assert set(splits["test"]["prompt_id"]) == {prompt}
        for split in SPLITS:
            mine = {i for i, p in zip(sample.splits[split]["essay_id"], sample.splits[split]["prompt_id"], strict=True)
                    if (p == prompt) == (split == "test")}  # fmt: skip
            assert set(splits[split]["essay_id"]) == mine
        assert find_leaks(splits, ["learner_id", "text"]) == []


def test_one_prompt_cannot_be_left_out(tmp_path):
    data = load_essays(train_file=write_csv(tmp_path / "mine.csv", rows()), columns=COLUMNS, prompt_ids=["a"])
    with pytest.raises(DataError, match="1 prompt.*2 or more"):
        data.prompt_splits()


def pool_of(splits) -> set[str]:
    return set(splits["train"]["essay_id"]) | set(splits["validation"]["essay_id"])


@pytest.mark.parametrize("seed", [0, 7])
def test_so_many_graded_essays_of_each_prompt_are_drawn_and_no_learner_stands_on_two_sides(sample, seed):
    for n in (8, 16, 24):
        splits = sample.graded(n, seed)
        counts = Counter([*splits["train"]["prompt_id"], *splits["validation"]["prompt_id"]])
        assert counts == dict.fromkeys(sample.score_ranges, n)
        assert len(splits["validation"]) == pytest.approx(len(sample.score_ranges) * n / 4, abs=3)
        assert splits["test"]["essay_id"][:] == sample.splits["test"]["essay_id"][:]
        assert find_leaks(splits, ["learner_id", "text", "essay_id"]) == []


def test_fewer_graded_essays_are_some_of_the_more(sample):
    """So that a learning curve grows by what is added, and not by luck."""
    small, middle, large = (pool_of(sample.graded(n, seed=3)) for n in (8, 12, 24))
    assert small < middle < large
    assert pool_of(sample.graded(12, seed=4)) != middle == pool_of(sample.graded(12, seed=3))


def test_graded_essays_are_never_taken_from_test(sample):
    most = min(Counter([*sample.splits["train"]["prompt_id"], *sample.splits["validation"]["prompt_id"]]).values())
    assert not pool_of(sample.graded(most, seed=0)) & set(sample.splits["test"]["essay_id"])


def test_too_few_or_more_graded_essays_than_there_are_are_refused(sample):
    counts = Counter([*sample.splits["train"]["prompt_id"], *sample.splits["validation"]["prompt_id"]])
    for n in (0, 7, max(counts.values()) + 1):
        with pytest.raises(DataError, match=f"{n} graded essays of prompt '.*8 to"):
            sample.graded(n, seed=0)


# ---- the Hub ----------------------------------------------------------------------------------------------------------


def test_a_hub_data_set_that_cannot_be_reached_is_refused_by_name():
    """conftest sets HF_HUB_OFFLINE=1."""
    with pytest.raises(DataError, match="someone/graded-essays.*Hub.*--train_file"):
        load_essays("someone/graded-essays")


def test_a_data_set_with_a_slash_is_read_with_its_splits(tmp_path, monkeypatch):
    """The Hub's path through `load_dataset`, on a data set folder of the same layout."""
    folder = tmp_path / "user" / "essays"
    folder.mkdir(parents=True)
    for split, first, n in (("train", 0, 24), ("test", 24, 6)):
        rows = [f"essay number {i} about the river,{i % 4}" for i in range(first, first + n)]
        (folder / f"{split}.csv").write_text("\n".join(["essay,grade", *rows]))
    monkeypatch.chdir(tmp_path)
    data = load_essays("user/essays", columns=EssayColumns(text="essay", scores=["grade"]))
    assert len(data.splits["test"]) == 6 and len(data.splits["train"]) + len(data.splits["validation"]) == 24
    assert data.score_ranges == {"all": [(0.0, 3.0)]} and data.rows_read == 30
