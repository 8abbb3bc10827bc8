"""Files of any size: what --streaming reads is what is read without it, and nothing is left on disk that should not be."""

import csv
import gzip
import json
import pickle

import numpy as np
import pytest
from conftest import load_recipe
from datasets import Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from edu_datasets import (
    DialogueColumns,
    EssayColumns,
    PassageColumns,
    RecordColumns,
    ResourceColumns,
    ResponseColumns,
    arrow_cache,
    load_dialogues,
    load_essays,
    load_passages,
    load_paths,
    load_records,
    load_resources,
    load_responses,
    row_arrays,
)
from edu_datasets.arrow_cache import RowWriter, cache_folder, column_values
from edu_datasets.errors import DataError
from edu_datasets.files import read_table
from edu_datasets.row_arrays import FirstRows, select_rows
from edu_datasets.schema import ESSAYS
from edu_datasets.school_generator import school_answers, school_records
from trainers.base import EduTrainer
from trainers.throughput import MemoryCurve


@pytest.fixture(autouse=True)
def small_blocks(tmp_path, monkeypatch):
    """A cache of its own, and blocks so small that every test has several."""
    monkeypatch.setenv("EDU_RECIPES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(arrow_cache, "BLOCK", 16)
    monkeypatch.setattr(row_arrays, "LONG", 64)


def write_csv(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def same_table(streamed, whole):
    assert list(streamed.columns) == list(whole.columns) and list(streamed.rows) == list(whole.rows)
    for name, values in whole.columns.items():
        assert list(streamed.columns[name]) == list(values)
        assert [streamed.columns[name][i] for i in (0, -1)] == [values[0], values[-1]]
        assert streamed.columns[name][1:3] == list(values)[1:3]


def same_splits(streamed, whole):
    assert {s: len(d) for s, d in streamed.items()} == {s: len(d) for s, d in whole.items()}
    for split, rows in whole.items():
        for name in rows.column_names:
            np.testing.assert_equal(list(column_values(streamed[split], name)), list(column_values(rows, name)))


# ---- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "tsv", "csv.gz", "jsonl", "jsonl.gz", "parquet"])
def test_a_table_on_disk_has_the_cells_of_one_in_memory(kind, tmp_path):
    last = [[i, str(i)] if "json" in kind else i / 3 for i in range(50)]
    cells = [[i, f'a "text"\r\nof {i} lines; ünïcode', "" if i % 7 else None, last[i]] for i in range(50)]
    names, path = ["id", "text", "empty", "more"], tmp_path / f"rows.{kind}"
    if "json" in kind:
        content = "\n\n".join(json.dumps(dict(zip(names[: 3 + i % 2], row, strict=False))) for i, row in enumerate(cells))
    elif kind == "parquet":
        import pyarrow.parquet

        columns = [list(column) for column in zip(*cells, strict=True)]
        pyarrow.parquet.write_table(pyarrow.table(columns, names), path, row_group_size=20)
    else:
        write_csv(tmp_path / "rows.csv", names, cells)
        content = (tmp_path / "rows.csv").read_bytes().decode()
        content = content.replace(",", "\t") if kind == "tsv" else content
    if kind != "parquet":
        path.write_bytes(gzip.compress(content.encode()) if kind.endswith("gz") else content.encode())
    same_table(read_table(path, streaming=True), read_table(path))
    assert not list(cache_folder().iterdir()), "the file of the table has no name"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("stated", [True, False])
def test_a_table_is_decoded_alike(encoding, stated, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes("\r\ntext;score\r\ncafé;1\r\nnaïve;2\r\n".encode(encoding))
    same_table(*(read_table(path, encoding if stated else None, streaming=streaming) for streaming in (True, False)))


@pytest.mark.parametrize(
    "content",
    [b"", b"text,score\n", b"text,score\na,1\nb\n", b'text,score\na,1\n"b,2\n', b"text,text\na,b\n", b"text,score\na\x00,1\n",
     b"text,score\n\x81\x8d,1\n", b"\x1f\x8b\x08broken", b"\n\n"],
)  # fmt: skip
def test_a_broken_table_is_refused_in_the_same_place(content, tmp_path):
    path, told = tmp_path / "rows.csv", []
    path.write_bytes(content)
    for streaming in (True, False):
        with pytest.raises(DataError) as error:
            read_table(path, streaming=streaming)
        told.append((error.value.row, error.value.column))
    assert told[0] == told[1] and not list(cache_folder().iterdir())


def test_json_is_read_whole_and_says_so(tmp_path):
    (tmp_path / "rows.json").write_text("[]")
    with pytest.raises(DataError, match="jsonl or parquet"):
        read_table(tmp_path / "rows.json", streaming=True)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.lists(st.sampled_from(["a", "b", "c", "", "é"]), max_size=60))
def test_the_first_row_of_a_key_is_the_first(keys):
    first, seen = FirstRows(), {}
    for row, key in enumerate(keys):
        assert first.find(key) == seen.get(key) == first.add(key, row)
        seen.setdefault(key, row)


def test_the_first_row_is_found_among_many():
    first = FirstRows()
    assert not any(first.add(str(i), i) is not None for i in range(1000))
    assert [first.add(str(i), -1) for i in range(1000)] == list(range(1000))


def test_the_same_rows_are_one_file_and_others_another(tmp_path):
    def written(texts):
        writer = RowWriter(ESSAYS, streaming=True)
        for i, text in enumerate(texts):
            blank = dict.fromkeys(("learner_id", "group_id", "prompt_id"), "") | dict.fromkeys(
                ("scores", "rater1_scores", "rater2_scores", "subgroups"), []
            )
            writer.append({"essay_id": str(i), "text": text, **blank})
        return writer.dataset()

    one, two, other = written(["a"] * 40), written(["a"] * 40), written(["a"] * 39 + ["b"])
    assert one.cache_files == two.cache_files != other.cache_files and one["text"][:] == ["a"] * 40
    assert one._fingerprint == two._fingerprint, "what was made of it before is found again"
    assert len(list(cache_folder().iterdir())) == 2


# ---- essays -----------------------------------------------------------------------------------------------------------

COLUMNS = EssayColumns("text", ["score"], "prompt", "id", "learner")
NAMES = ["id", "learner", "prompt", "text", "score"]


def essay_rows(count=120):
    texts = [f"Essay {i // 2 if i % 10 == 0 else i} of a learner." for i in range(count)]  # some stand twice
    return [[f"e{i}", f"l{i // 3}", f"p{i % 2}", texts[i], 1 + i % 5] for i in range(count)]


def test_essays_are_split_alike(tmp_path):
    path = write_csv(tmp_path / "essays.csv", NAMES, essay_rows())
    streamed, whole = (load_essays(train_file=path, columns=COLUMNS, streaming=s) for s in (True, False))
    same_splits(streamed.splits, whole.splits)
    assert streamed.facts() == whole.facts() and streamed.summary() == whole.summary()
    assert streamed.score_ranges == whole.score_ranges and streamed.splits["train"].cache_files


@pytest.mark.parametrize("row, column, value", [(60, 4, "12x"), (60, 3, ""), (60, 0, "e3"), (60, 2, ""), (60, 4, "")])
def test_a_bad_essay_is_told_alike_and_can_be_left_out(row, column, value, tmp_path):
    rows = essay_rows()
    rows[row][column] = value
    path, told = write_csv(tmp_path / "essays.csv", NAMES, rows), []
    for streaming in (True, False):
        with pytest.raises(DataError) as error:
            load_essays(train_file=path, columns=COLUMNS, streaming=streaming)
        told.append(str(error.value))
    assert told[0] == told[1] and f"row {row + 2}" in told[0] and not list(cache_folder().iterdir())
    left = [load_essays(train_file=path, columns=COLUMNS, streaming=s, skip_bad_rows=True).facts() for s in (True, False)]
    assert left[0] == left[1] and left[0]["rows"]["rejected"] == 1


def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch):
    """The twin that keeps rows in memory grows by more than their texts."""
    monkeypatch.setattr(arrow_cache, "BLOCK", 1024)
    monkeypatch.setattr(row_arrays, "LONG", 4096)
    rows = ([*row[:3], f"{row[3]} " + "word " * 400, row[4]] for row in essay_rows(20_000))
    path = write_csv(tmp_path / "essays.csv", NAMES, rows)
    grown = {}
    for streaming in (True, False):
        with MemoryCurve(0.01) as curve:
            data = load_essays(train_file=path, columns=COLUMNS, streaming=streaming)
        grown[streaming] = max(curve.mib) - curve.mib[0]
        del data
    assert grown[True] < 20 and grown[False] > 40, grown


def test_rows_chosen_twice_over_are_those_of_their_own_dataset_in_another_process_too():
    with RowWriter(Features({"n": Value("int64")}), streaming=True) as writer:
        for n in range(20):
            writer.append({"n": n})
        rows = writer.dataset()
    even, odd = (select_rows(rows, np.arange(first, 20, 2)) for first in (0, 1))
    chosen = [select_rows(half, np.array([1, 3])) for half in (even, odd)]
    again = [pickle.loads(pickle.dumps(part)) for part in chosen]  # as a worker gets them
    assert [part["n"][:] for part in chosen] == [part["n"][:] for part in again] == [[2, 6], [3, 7]]


def made() -> dict[str, int]:
    """The files of the cache, and when each was written."""
    return {p.name: p.stat().st_mtime_ns for p in cache_folder().iterdir()}


def test_tokens_are_found_again_and_a_run_is_the_same(tmp_path, tiny_model):
    recipe, path = load_recipe("essay_scoring"), write_csv(tmp_path / "essays.csv", NAMES, essay_rows())
    words = ["--train_file", str(path), "--text_column", "text", "--prompt_column", "prompt", "--learner_column", "learner",
             "--id_column", "id", "--model_name_or_path", tiny_model, "--num_train_epochs", "1", "--gaming_essays", "0",
             "--precision", "fp32", "--disable_tqdm", "true"]  # fmt: skip
    files = []
    results = []
    for name, streaming in (("one", "true"), ("two", "true"), ("whole", "false")):
        results.append(recipe.main([*words, "--streaming", streaming, "--output_dir", str(tmp_path / name)])["test"])
        files.append(sorted(p.name for p in cache_folder().iterdir()))
    assert results[0] == results[1] == results[2] and files[0] == files[1] == files[2], "nothing was encoded twice"
    assert any(name.startswith("cache-") for name in files[0])


# ---- questions about texts, and dialogues -----------------------------------------------------------------------------


def write_lines(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def rows_of(splits):
    return [row for rows in splits.values() for row in rows]


PASSAGES = PassageColumns(question_id="id", story="story", attributes=["subject"], distractors=["wrong"])
DIALOGUES = DialogueColumns(
    move="move", problem_id="problem_id", problem="problem", solution="solution", profile="profile", learner="learner"
)


def question_rows():
    return [
        {"id": row["question_id"], "story": row["story_id"], "context": row["context"], "question": row["question"],
         "answers": row["answers"], "wrong": row["distractors"], "subject": row["attributes"][0]}
        for row in rows_of(load_passages("sample_school").splits)
    ]  # fmt: skip


def turn_rows():
    """A turn a row, what is known of the dialogue beside its first."""
    facts = ("problem_id", "problem", "solution", "profile", "learner_id")
    return [
        [f"D{d}", turn["role"], turn["text"], turn["move"], *(row[c] if t == 0 else "" for c in facts)]
        for d, row in enumerate(rows_of(load_dialogues("sample_school").splits))
        for t, turn in enumerate(row["turns"])
    ]  # fmt: skip


TURN = ["dialogue_id", "role", "text", "move", "problem_id", "problem", "solution", "profile", "learner"]


@pytest.mark.parametrize("named", [True, False])
def test_questions_are_split_alike(named, tmp_path):
    path = write_lines(tmp_path / "questions.jsonl", question_rows())
    columns = PASSAGES if named else PassageColumns()  # without stories each text is one
    streamed, whole = (load_passages(train_file=path, columns=columns, free_answers=True, streaming=s) for s in (True, False))
    same_splits(streamed.splits, whole.splits)
    assert streamed.facts() == whole.facts() and streamed.summary() == whole.summary()
    assert streamed.ceiling() == whole.ceiling() and streamed.splits["train"].cache_files
    names = {row["passage_id"]: (row["story_id"], row["context"]) for row in rows_of(whole.splits)}
    assert len(set(names.values())) == len(names) == len({row["context"] for row in rows_of(whole.splits)})


def test_dialogues_are_split_alike(tmp_path):
    rows = turn_rows()
    path, messages = write_csv(tmp_path / "turns.csv", TURN, rows), {}
    for name, role, text, move, *facts in rows:
        row = messages.setdefault(name, {"dialogue_id": name, "messages": [], **dict(zip(TURN[4:], facts, strict=True))})
        row["messages"].append({"role": role, "content": text, "move": move})
    written = write_lines(tmp_path / "messages.jsonl", messages.values())
    found = [load_dialogues(train_file=p, columns=DIALOGUES, streaming=s) for p in (path, written) for s in (True, False)]
    for one, other in (found[:2], found[2:]):
        same_splits(one.splits, other.splits)
        assert one.facts() == other.facts() and one.summary() == other.summary() and one.splits["train"].cache_files
    assert found[0].facts()["rows"] == found[2].facts()["rows"] and found[0].facts()["moves"] == found[2].facts()["moves"]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_dialogue_in_two_pieces_is_refused(streaming, tmp_path):
    rows = turn_rows()
    rows.append(rows[0])
    path = write_csv(tmp_path / "turns.csv", TURN, rows)
    with pytest.raises(DataError, match=rf"turns.csv, row {len(rows) + 1}, .*interrupted by another one.*Sort the file"):
        load_dialogues(train_file=path, columns=DIALOGUES, streaming=streaming)


@pytest.mark.parametrize(
    "column, value", [("context", ""), ("id", None), ("answers", ["nowhere to be read"]), ("wrong", [""]), ("question", "")]
)
def test_a_bad_question_is_told_alike_and_nothing_is_left_behind(column, value, tmp_path):
    rows = [row | {"answers": [row["context"].split(".")[0]]} for row in question_rows()]
    rows[60][column] = rows[3]["id"] if column == "id" else rows[60]["answers"] if column == "wrong" else value
    path, told = write_lines(tmp_path / "questions.jsonl", rows), []
    for streaming in (True, False):
        with pytest.raises(DataError) as error:
            load_passages(train_file=path, columns=PASSAGES, streaming=streaming)
        told.append(str(error.value))
    assert told[0] == told[1] and "row 61" in told[0] and not list(cache_folder().iterdir())
    left = [load_passages(train_file=path, columns=PASSAGES, streaming=s, skip_bad_rows=True) for s in (True, False)]
    assert left[0].facts() == left[1].facts() and len(left[0].rejected) == 1


@pytest.mark.parametrize("column, value", [(0, ""), (1, "parrot"), (2, ""), (3, "shout"), (8, "another one")])
def test_a_bad_turn_is_told_alike_and_nothing_is_left_behind(column, value, tmp_path):
    rows = turn_rows()
    tutor = next(i for i, row in enumerate(rows) if i > 200 and row[1] == "tutor" and row[0] == rows[i - 1][0])
    rows[tutor][column] = value
    path, told = write_csv(tmp_path / "turns.csv", TURN, rows), []
    for streaming in (True, False):
        with pytest.raises(DataError) as error:
            load_dialogues(train_file=path, columns=DIALOGUES, streaming=streaming)
        told.append(str(error.value))
    assert told[0] == told[1] and f"row {tutor + 2}" in told[0] and not list(cache_folder().iterdir())


def test_what_stands_in_two_files_is_told_alike(tmp_path):
    questions, turns = question_rows(), turn_rows()
    asked = [write_lines(tmp_path / f"q{i}.jsonl", rows) for i, rows in enumerate((questions[:100], questions[90:]))]
    said = [write_csv(tmp_path / f"t{i}.csv", TURN, rows) for i, rows in enumerate((turns, turns[: len(turns) // 2]))]
    for load, files, columns, words in (
        (load_passages, asked, PASSAGES, {"free_answers": True}), (load_dialogues, said, DIALOGUES, {}),
    ):  # fmt: skip
        told = []
        for streaming in (True, False):
            with pytest.raises(DataError, match=r"stands in row \d+ of \w+.\w+ \(train\) too") as error:
                load(train_file=files[0], test_file=files[1], columns=columns, streaming=streaming, **words)
            told.append(str(error.value))
        assert told[0] == told[1]


def test_a_squad_file_is_read_whole(tmp_path):
    path = tmp_path / "squad.json"
    path.write_text(json.dumps({"data": []}))
    with pytest.raises(DataError, match="read whole"):
        load_passages(train_file=path, streaming=True)


RESOURCE = ["resource", "title", "text", "kind", "licence", "level", "language", "topics"]
LIBRARY = ResourceColumns(title="title", kind="kind", topics="topics")


def write_library(folder):
    """The sample school's library and its log, in no order and with an opening that stands twice."""
    school = load_resources("sample_school")
    rows = [[row["resource_id"], *(row[n] for n in RESOURCE[1:-1]), ";".join(row["topics"])] for row in school.resources]
    log = [[row["learner_id"], row["resource_id"], row["time"]] for row in rows_of(school.interactions)]
    log = [log[i] for i in np.random.default_rng(0).permutation(len(log))] + log[:1]
    return {
        "resources_file": write_csv(folder / "library.csv", RESOURCE, rows),
        "interactions_file": write_csv(folder / "log.csv", ["learner", "resource", "time"], log),
    }


def test_resources_are_split_alike(tmp_path):
    files, school = write_library(tmp_path), load_resources("sample_school")
    streamed, whole = (load_resources(**files, columns=LIBRARY, min_resources=2, streaming=s) for s in (True, False))
    assert streamed.facts() == whole.facts() and streamed.summary() == whole.summary()
    assert streamed.resources.to_list() == whole.resources.to_list() == school.resources.to_list()
    assert streamed.resources.cache_files and streamed.topics["train"].cache_files and streamed.interactions["train"].cache_files
    for name in ("topics", "interactions"):
        same_splits(getattr(streamed, name), getattr(whole, name))
    same_splits(whole.interactions, school.interactions)
    for one, other in zip(streamed.fold_splits(3, 0).values(), whole.fold_splits(3, 0).values(), strict=True):
        same_splits(one, other)
    for split in whole.interactions:
        for more in ({}, {"repeats": True}, {"rolling": True}):
            found = [data.histories(split, **more).to_list() for data in (streamed, whole, school)]
            assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    "file, column, value",
    [
        ("resources_file", 2, ""),
        ("resources_file", 0, "R003"),
        ("interactions_file", 1, "R999"),
        ("interactions_file", 2, "2026-01-01"),
    ],
)
def test_a_bad_resource_or_opening_is_told_alike(file, column, value, tmp_path):
    files = write_library(tmp_path)
    with files[file].open(encoding="utf-8", newline="") as opened:
        header, *rows = csv.reader(opened)
    rows[40][column] = value
    write_csv(files[file], header, rows)
    told, left = [], []
    for streaming in (True, False):
        with pytest.raises(DataError) as error:
            load_resources(**files, columns=LIBRARY, streaming=streaming)
        told.append(str(error.value))
        assert not list(cache_folder().glob("*.part")) and not list(cache_folder().glob("*.rows"))
        if file == "interactions_file":
            left.append(load_resources(**files, columns=LIBRARY, streaming=streaming, skip_bad_rows=True).facts())
    assert told[0] == told[1] and "row 42" in told[0] and left[:1] == left[1:]


QUESTION_WORDS = ["--id_column", "id", "--story_column", "story", "--attribute_columns", "subject", "--max_length"]
TURN_WORDS = [word for name in TURN[3:] for word in (f"--{name}_column", name)]
RECIPES = {
    "question_answering": ("tiny_model", [*QUESTION_WORDS, "256", "--free_answers", "true"]),
    "content_generation": ("tiny_chat_model", [*QUESTION_WORDS, "1600", "--distractor_columns", "wrong"]),
    "qa_tutoring": ("tiny_chat_model", [*TURN_WORDS, "--max_length", "2048"]),
    "resource_recommendation": ("tiny_model", ["--topics_column", "topics", "--title_column", "title", "--min_resources", "2"]),
    "resource_recommendation, next": ("tiny_model", ["--query", "history", "--title_column", "title"]),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_encodes_alike_and_once(name, tmp_path, request, monkeypatch):
    model, words = RECIPES[name]
    name = name.partition(",")[0]
    if name == "resource_recommendation":
        files = write_library(tmp_path)
    elif name == "qa_tutoring":
        files = {"train_file": write_csv(tmp_path / "rows.csv", TURN, turn_rows())}
    else:
        files = {"train_file": write_lines(tmp_path / "rows.jsonl", question_rows())}
    encoded, checks, cached = [], [], []

    def keep(trainer):
        encoded.append([rows.to_list() for rows in (trainer.train_dataset, trainer.eval_dataset)])
        return {}

    monkeypatch.setattr(EduTrainer, "estimate_cost", keep)
    words = [*words, *(word for option, path in files.items() for word in (f"--{option}", str(path)))]
    words += ["--model_name_or_path", request.getfixturevalue(model), "--check_data", "true"]
    for streaming in ("true", "true", "false"):
        argv = [*words, "--streaming", streaming, "--output_dir", str(tmp_path / "run"), "--disable_tqdm", "true"]
        checks.append(load_recipe(name).main(argv))
        cached.append(made())
    assert checks[0] == checks[1] == checks[2] and encoded[0] == encoded[1] == encoded[2]
    assert cached[0] == cached[1] == cached[2], "nothing was encoded twice"
    assert sum(file.startswith("cache-") for file in cached[0]) >= 2


# ---- answers, and records ---------------------------------------------------------------------------------------------

ANSWERED = ResponseColumns(question="question", time="time")
ANSWER = ["learner", "time", "question", "concepts", "correct"]
ABOUT = RecordColumns("outcome", learner="learner_id", record_id="learner_id", subgroups=["grade"], categories=["grade"],
                      drop=["final_grade"])  # fmt: skip


def answer_rows(count=6000):
    """Answers of the sample school, learner by learner."""
    rows = [[a["learner"], a["time"], a["question"], ";".join(a["concepts"]), a["correct"]] for a in school_answers()]
    return sorted(rows, key=lambda row: row[:2])[:count]


def record_rows():
    """The sample school's records, with cells that are missing."""
    rows = [["" if value != value else value for value in row.values()] for row in school_records(42.0)]
    for i, row in enumerate(rows):
        row[2 + i % 3] = "" if i % 11 == 0 else row[2 + i % 3]
    return list(school_records(42.0)[0]), rows


def told_by(load, path, **words):
    """The error of both ways to read a file, which leave nothing on disk."""
    told = []
    for streaming in (True, False):
        with pytest.raises(DataError) as error:
            load(train_file=path, streaming=streaming, **words)
        told.append(str(error.value))
        assert not list(cache_folder().iterdir())
    assert told[0] == told[1]
    return told[0]


@pytest.mark.parametrize("columns", [ANSWERED, ResponseColumns(concepts=None, question="question")])
def test_answers_are_split_and_numbered_alike(columns, tmp_path):
    path = write_csv(tmp_path / "answers.csv", ANSWER, answer_rows())
    streamed, whole = (load_responses(train_file=path, columns=columns, streaming=s) for s in (True, False))
    same_splits(streamed.splits, whole.splits)
    assert (streamed.concepts, streamed.questions) == (whole.concepts, whole.questions)
    assert streamed.facts() == whole.facts() and streamed.summary() == whole.summary()
    assert streamed.most_concepts() == whole.most_concepts() and streamed.splits["train"].cache_files
    for one, other in zip(streamed.fold_splits(3, 0).values(), whole.fold_splits(3, 0).values(), strict=True):
        same_splits(one, other)


def test_answers_are_sorted_within_their_learner(tmp_path):
    rows = answer_rows()
    shuffled = [row for _, row in sorted(zip(np.random.default_rng(0).random(len(rows)), rows, strict=True))]
    shuffled.sort(key=lambda row: row[0])
    path = write_csv(tmp_path / "answers.csv", ANSWER, shuffled)
    assert "before that of the learner's answer before" in told_by(load_responses, path, columns=ANSWERED)
    found = [load_responses(train_file=path, columns=ANSWERED, sort_by_time=True, streaming=s) for s in (True, False)]
    same_splits(found[0].splits, found[1].splits)


def test_a_learner_in_two_pieces_is_refused_without_being_named(tmp_path):
    rows = [["Xanthippe", 0, "q", "c", 1], *answer_rows(), ["Xanthippe", 1, "q", "c", 0]]
    path = write_csv(tmp_path / "answers.csv", ANSWER, rows)
    with pytest.raises(DataError, match="do not stand together.*from row 2 on.*Sort the file by learner") as error:
        load_responses(train_file=path, columns=ANSWERED, streaming=True)
    assert error.value.row == len(rows) + 1 and "Xanthippe" not in str(error.value) and not list(cache_folder().iterdir())
    assert load_responses(train_file=path, columns=ANSWERED).rows_read == len(rows)


@pytest.mark.parametrize("column, value", [(0, ""), (1, "soon"), (1, -5), (3, ""), (4, "0.5")])
def test_a_bad_answer_is_told_alike_and_can_be_left_out(column, value, tmp_path):
    rows = answer_rows()
    rows[601][column] = value
    path = write_csv(tmp_path / "answers.csv", ANSWER, rows)
    assert "row 603" in told_by(load_responses, path, columns=ANSWERED)
    if value != -5:
        left = [load_responses(train_file=path, columns=ANSWERED, skip_bad_rows=True, streaming=s) for s in (True, False)]
        same_splits(left[0].splits, left[1].splits)
        assert left[0].facts() == left[1].facts() and len(left[0].rejected) == 1


def test_a_learner_in_two_files_is_told_alike(tmp_path):
    rows = answer_rows()
    files = [write_csv(tmp_path / f"{n}.csv", ANSWER, part) for n, part in enumerate((rows[:2000], rows[1990:]))]
    told = []
    for streaming in (True, False):
        with pytest.raises(DataError, match="no learner in two splits") as error:
            load_responses(train_file=files[0], test_file=files[1], columns=ANSWERED, streaming=streaming)
        told.append(str(error.value))
    assert told[0] == told[1]


def test_halves_of_learners_are_alike(tmp_path):
    path = write_csv(tmp_path / "answers.csv", ANSWER, answer_rows())
    columns = ResponseColumns(time="time")
    found = [load_paths(answers_file=path, answer_columns=columns, max_learners=50, streaming=s) for s in (True, False)]
    same_splits(found[0].halves, found[1].halves)
    assert found[0].facts() == found[1].facts() and found[0].texts == found[1].texts and found[0].halves["logs"].cache_files


@pytest.mark.parametrize("target", ["outcome", "final_grade"])
def test_records_are_split_alike(target, tmp_path, monkeypatch):
    header, rows = record_rows()
    path = write_csv(tmp_path / "records.csv", header, rows)
    other = {"outcome": "final_grade", "final_grade": "outcome"}[target]
    columns = RecordColumns(target, learner="learner_id", record_id="learner_id", subgroups=["grade"], drop=[other])
    whole = load_records(train_file=path, columns=columns)
    monkeypatch.setattr("edu_datasets.record_rows.FIRST", 16)
    streamed = load_records(train_file=path, columns=columns, streaming=True)
    same_splits(streamed.splits, whole.splits)
    assert streamed.facts() == whole.facts() and streamed.summary() == whole.summary()
    names = ("number_columns", "category_columns", "classes", "subgroup_columns")
    assert all(getattr(streamed, n) == getattr(whole, n) for n in names) and streamed.splits["train"].cache_files
    for one, two in zip(streamed.fold_splits(3, 0).values(), whole.fold_splits(3, 0).values(), strict=True):
        same_splits(one, two)


@pytest.mark.parametrize(
    "column, value", [("attendance", "often"), ("learner_id", ""), ("learner_id", "L003"), ("outcome", ""), ("support", "3")]
)
def test_a_bad_record_is_told_alike_and_can_be_left_out(column, value, tmp_path):
    header, rows = record_rows()
    rows[60][header.index(column)] = rows[3][header.index(column)] if value == "L003" else value
    path = write_csv(tmp_path / "records.csv", header, rows)
    assert "row 62" in told_by(load_records, path, columns=ABOUT)
    left = [load_records(train_file=path, columns=ABOUT, skip_bad_rows=True, streaming=s) for s in (True, False)]
    same_splits(left[0].splits, left[1].splits)
    assert left[0].facts() == left[1].facts() and len(left[0].rejected) == 1


@pytest.mark.parametrize("twin", ["code", "number", "only where it fails", "many classes", "the same"])
def test_what_is_wrong_with_a_column_is_told_alike(twin, tmp_path, monkeypatch):
    monkeypatch.setattr("edu_datasets.record_rows.FIRST", 16)
    header, rows = record_rows()
    outcome, grade = header.index("outcome"), header.index("final_grade")
    for i, row in enumerate(rows):
        failed = row[outcome] == "failed"
        row.append(
            {"code": f"code {failed}", "number": row[grade], "only where it fails": 3 + i % 2 if failed else "",
             "many classes": f"class {i % 30}", "the same": "yes"}[twin]
        )  # fmt: skip
    path = write_csv(tmp_path / "records.csv", [*header, "more"], rows)
    target = {"number": "final_grade", "many classes": "more", "the same": "more"}.get(twin, "outcome")
    drop = [name for name in ("outcome", "final_grade") if name != target]
    told = told_by_columns(path, RecordColumns(target, learner="learner_id", drop=drop))
    assert {"many classes": "30 different values", "the same": "the same in every row"}.get(twin, "under another name") in told


def told_by_columns(path, columns):
    """As `told_by`; the rows may have been written."""
    told = []
    for streaming in (True, False):
        with pytest.raises(DataError) as error:
            load_records(train_file=path, columns=columns, streaming=streaming)
        told.append(str(error.value))
        assert not [p for p in cache_folder().iterdir() if p.suffix != ".arrow"]
    assert told[0] == told[1]
    return told[0]


@pytest.mark.parametrize("encoding", ["numeric", "text"])
def test_records_are_encoded_once_and_a_run_is_the_same(encoding, tmp_path, tiny_model):
    path = write_csv(tmp_path / "records.csv", *record_rows())
    words = ["--target_column", "outcome", "--learner_column", "learner_id", "--id_column", "learner_id", "--drop_columns",
             "final_grade", "--category_columns", "grade", "--encoding", encoding, "--hidden_size", "8",
             "--model_name_or_path", tiny_model, "--precision", "fp32"]  # fmt: skip
    same_run("outcome_prediction", path, words, tmp_path)


@pytest.mark.parametrize("name", ["knowledge_tracing", "learning_path"])
def test_answers_are_encoded_once_and_a_run_is_the_same(name, tmp_path):
    path = write_csv(tmp_path / "answers.csv", ANSWER, answer_rows())
    words = ["--time_column", "time", "--hidden_size", "8"]
    if name == "learning_path":
        words += ["--train_learners", "40", "--judged_learners", "20", "--judge_seeds", "2", "--steps", "3", "--warm_up", "6",
                  "--tracer_epochs", "1", "--num_attention_heads", "2"]  # fmt: skip
    same_run(name, path, words, tmp_path)


def same_run(name, path, words, folder):
    """Two runs from the disk and one from memory end alike, and the second finds what the first has made."""
    recipe, results, files = load_recipe(name), [], []
    words = [*words, "--train_file", str(path), "--num_train_epochs", "1", "--disable_tqdm", "true"]
    for out, streaming in (("one", "true"), ("two", "true"), ("whole", "false")):
        metrics = recipe.main([*words, "--streaming", streaming, "--output_dir", str(folder / out)])
        results.append((metrics["test"], metrics["baselines"], (folder / out / "predictions.csv").read_text()))
        files.append(made())
    assert results[0] == results[1] == results[2]
    assert files[0] == files[1] == files[2], "nothing was encoded twice"
    assert any(file.startswith("cache-") for file in files[0])
