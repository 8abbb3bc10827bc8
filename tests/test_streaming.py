"""Files of any size: what --streaming reads is what is read without it, and nothing is left on disk that should not be."""

import csv
import gzip
import json

import numpy as np
import pytest
from conftest import load_recipe
from hypothesis import given, settings
from hypothesis import strategies as st

from edu_datasets import EssayColumns, arrow_cache, load_essays
from edu_datasets.arrow_cache import FirstRows, RowWriter, cache_folder, column_values
from edu_datasets.errors import DataError
from edu_datasets.files import read_table
from edu_datasets.schema import ESSAYS
from trainers.throughput import MemoryCurve


@pytest.fixture(autouse=True)
def small_blocks(tmp_path, monkeypatch):
    """A cache of its own, and blocks so small that every test has several."""
    monkeypatch.setenv("EDU_RECIPES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(arrow_cache, "BLOCK", 16)


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
    assert told[0] == told[1] and f"row {row + 2}" in told[0]
    left = [load_essays(train_file=path, columns=COLUMNS, streaming=s, skip_bad_rows=True).facts() for s in (True, False)]
    assert left[0] == left[1] and left[0]["rows"]["rejected"] == 1


def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch):
    """The twin that keeps rows in memory grows by more than their texts."""
    monkeypatch.setattr(arrow_cache, "BLOCK", 1024)
    rows = ([*row[:3], f"{row[3]} " + "word " * 400, row[4]] for row in essay_rows(20_000))
    path = write_csv(tmp_path / "essays.csv", NAMES, rows)
    grown = {}
    for streaming in (True, False):
        with MemoryCurve(0.01) as curve:
            data = load_essays(train_file=path, columns=COLUMNS, streaming=streaming)
        grown[streaming] = max(curve.mib) - curve.mib[0]
        del data
    assert grown[True] < 20 and grown[False] > 40, grown


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
