"""A table is read whole, with the row numbers of the spreadsheet, or the error says where it is broken."""

import csv
import gzip
import io
import json

import pyarrow
import pyarrow.parquet
import pytest

from edu_datasets import DataError
from edu_datasets.files import read_table

RECORDS = [{"text": "Dear Ms Okafor", "score": 5}, {"text": "No, thanks", "score": 2}]


def write(path, content):
    """Text is written as UTF-8, line ends untouched; a name that ends in .gz is packed."""
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def parquet(records):
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), buffer)
    return buffer.getvalue()


def refusal(path, *args, **kwargs) -> str:
    with pytest.raises(DataError) as error:
        read_table(path, *args, **kwargs)
    assert error.value.exit_code == 2
    return str(error.value)


# ---- kinds of files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_of_a_csv_is_found_in_its_header(tmp_path, separator):
    path = write(tmp_path / "essays.csv", f'text{separator}score\nplain{separator}5\n"a{separator}b"{separator}2\n')
    assert read_table(path).columns == {"text": ["plain", f"a{separator}b"], "score": ["5", "2"]}


def test_a_separator_inside_a_quoted_column_name_does_not_count(tmp_path):
    path = write(tmp_path / "essays.csv", '"text, as written, unchanged";score\nplain;5\n')
    assert read_table(path).columns == {"text, as written, unchanged": ["plain"], "score": ["5"]}


def test_a_stated_separator_wins_over_the_one_in_the_header(tmp_path):
    path = write(tmp_path / "essays.csv", "text, as written|score\nplain|5\n")
    assert list(read_table(path, separator="|").columns) == ["text, as written", "score"]


def test_a_tsv_is_cut_at_tabs_whatever_else_its_header_holds(tmp_path):
    path = write(tmp_path / "essays.tsv", "text, as written, unchanged\tscore\nYes, yes\t5\n")
    assert read_table(path).columns == {"text, as written, unchanged": ["Yes, yes"], "score": ["5"]}


CONTENTS = {
    ".csv": 'text,score\nDear Ms Okafor,5\n"No, thanks",2\n',
    ".tsv": "text\tscore\nDear Ms Okafor\t5\nNo, thanks\t2\n",
    ".json": json.dumps(RECORDS, indent=2),
    ".jsonl": "\n".join(map(json.dumps, RECORDS)) + "\n",
    ".parquet": parquet(RECORDS),
}


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("kind", CONTENTS)
def test_every_kind_of_file_gives_the_same_table_plain_or_packed(tmp_path, kind, packed):
    table = read_table(write(tmp_path / f"essays{kind}{packed}", CONTENTS[kind]))
    assert table.columns["text"] == ["Dear Ms Okafor", "No, thanks"]
    assert list(map(int, table.columns["score"])) == [5, 2]
    assert list(table.columns) == ["text", "score"] and len(table) == 2


def test_a_file_name_in_capitals_with_other_dots_is_read(tmp_path):
    assert len(read_table(write(tmp_path / "Essays v1.2.CSV", CONTENTS[".csv"]))) == 2


def test_json_may_hold_columns_instead_of_records(tmp_path):
    columns = {"text": ["one", "two"], "score": [1, 2]}
    assert read_table(write(tmp_path / "essays.json", json.dumps(columns))).columns == columns


def test_a_key_that_some_json_records_lack_is_an_empty_cell_there(tmp_path):
    table = read_table(write(tmp_path / "essays.jsonl", '{"text": "one"}\n{"text": "two", "score": 2}\n'))
    assert table.columns == {"text": ["one", "two"], "score": [None, 2]}


def test_json_columns_of_different_length_are_refused(tmp_path):
    assert "differ in length" in refusal(write(tmp_path / "essays.json", '{"text": ["one", "two"], "score": [1]}'))


# ---- encodings --------------------------------------------------------------------------------------------------------


def test_a_byte_order_mark_is_no_part_of_the_first_column_name(tmp_path):
    path = write(tmp_path / "essays.csv", "text,score\nCafé,5\n".encode("utf-8-sig"))
    assert read_table(path).columns == {"text": ["Café"], "score": ["5"]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_a_byte_order_mark_is_no_part_of_the_name_where_the_encoding_is_stated_either(tmp_path, encoding):
    path = write(tmp_path / "essays.csv", "\ufefftext,score\nCafé,5\n".encode(encoding))
    assert list(read_table(path, encoding=encoding).columns) == ["text", "score"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_known_by_its_byte_order_mark(tmp_path, encoding):
    path = write(tmp_path / "essays.csv", "\ufefftext\tscore\nCafé “au lait”\t5\n".encode(encoding))
    assert read_table(path).columns == {"text": ["Café “au lait”"], "score": ["5"]}


def test_lines_that_are_not_utf_8_are_read_as_windows_1252_and_the_others_are_not(tmp_path, caplog):
    lines = [b"text,score", "Café – “late”,1".encode("cp1252"), "Crème “brûlée”,2".encode(), b"plain,3"]
    table = read_table(write(tmp_path / "essays.csv", b"\n".join(lines)))
    assert table.columns["text"] == ["Café – “late”", "Crème “brûlée”", "plain"]
    assert "1 of 4 lines" in caplog.text and "Windows-1252" in caplog.text


def test_a_stated_encoding_is_followed(tmp_path):
    path = write(tmp_path / "essays.csv", "text,score\nŽluťoučký kůň,5\n".encode("iso-8859-2"))
    assert read_table(path, encoding="iso-8859-2").columns["text"] == ["Žluťoučký kůň"]


def test_a_wrong_stated_encoding_is_refused_with_the_row(tmp_path):
    path = write(tmp_path / "essays.csv", "text,score\nplain,1\nCafé,5\n".encode("cp1252"))
    message = refusal(path, encoding="utf-8")
    assert "essays.csv, row 3" in message and "not in the encoding utf-8" in message


def test_an_encoding_that_does_not_exist_is_refused(tmp_path):
    assert "unknown encoding 'utf-9'" in refusal(write(tmp_path / "essays.csv", "text,score\na,1\n"), encoding="utf-9")


def test_a_byte_that_is_in_no_encoding_is_named_with_its_row(tmp_path):
    message = refusal(write(tmp_path / "essays.csv", b"text,score\nplain,1\nbro\x81ken,2\n"))
    assert "essays.csv, row 3" in message and "0x81" in message and "--file_encoding" in message


# ---- rows -------------------------------------------------------------------------------------------------------------


def test_rows_are_numbered_as_a_spreadsheet_numbers_them(tmp_path):
    content = 'text,score\r\n"one\r\nwith ""two"" lines",1\r\n\r\ntwo,2\r\n'  # the quoted line break is inside row 2
    table = read_table(write(tmp_path / "essays.csv", content))
    assert table.columns["text"] == ['one\r\nwith "two" lines', "two"]
    assert table.rows == [2, 4]


def test_lines_of_jsonl_keep_their_number_past_an_empty_line(tmp_path):
    assert read_table(write(tmp_path / "essays.jsonl", '{"text": "one"}\n\n{"text": "two"}\n')).rows == [1, 3]


def test_a_long_field_is_read_whole(tmp_path):
    table = read_table(write(tmp_path / "essays.csv", f"text,score\n{'word ' * 100_000},1\n"))
    assert len(table.columns["text"][0]) == 500_000


def test_an_unclosed_quote_is_reported_in_the_row_where_it_opens(tmp_path):
    content = 'text,score\n"one\nline more",1\ntwo,2\n"three,3\nfour,4\n"five",5\nsix,6\n'
    message = refusal(write(tmp_path / "essays.csv", content))
    assert "essays.csv, row 4" in message and "line 5 of the file" in message and "does not close" in message


def test_a_reader_with_default_settings_swallows_those_rows_in_silence():
    """The trap that the test above closes: without strict reading two of five rows are gone and nothing is said."""
    content = 'text,score\none,1\ntwo,2\n"three,3\nfour,4\n"five",5\n'
    assert len(list(csv.reader(io.StringIO(content)))) - 1 == 3


def test_a_row_with_a_field_too_many_is_refused_with_its_number(tmp_path):
    message = refusal(write(tmp_path / "essays.csv", "text,score\none,1\ntwo, really,2\n"))
    assert "essays.csv, row 3" in message and "the row has 3 fields" in message and "2 fields separated by ','" in message


def test_a_row_with_another_separator_is_refused_and_the_separator_named(tmp_path):
    message = refusal(write(tmp_path / "essays.csv", "text,score\none,1\ntwo;2\n"))
    assert "essays.csv, row 3" in message and "separated by ';'" in message


def test_a_separator_of_several_characters_is_refused(tmp_path):
    path = write(tmp_path / "essays.csv", "text||score\none||1\n")
    assert "'||'" in refusal(path, separator="||")


def test_a_column_that_stands_twice_is_refused(tmp_path):
    message = refusal(write(tmp_path / "essays.csv", "text,score,score\none,1,2\n"))
    assert "row 1" in message and "columns 2 and 3" in message


def test_a_column_without_a_name_is_refused(tmp_path):
    message = refusal(write(tmp_path / "essays.csv", "text,,score\none,x,2\n"))
    assert "row 1" in message and "column 2 has no name" in message


@pytest.mark.parametrize(
    ("bad", "says"), [('{"text": "two"', "not valid json"), ('["two", 2]', "not an object"), ("two,2", "not valid json")]
)
def test_a_bad_line_of_jsonl_is_refused_with_its_number(tmp_path, bad, says):
    message = refusal(write(tmp_path / "essays.jsonl", '{"text": "one", "score": 1}\n' + bad + "\n"))
    assert "essays.jsonl, row 2" in message and says in message


# ---- files ------------------------------------------------------------------------------------------------------------


def test_a_missing_file_is_named_with_the_one_that_was_probably_meant(tmp_path):
    write(tmp_path / "essays.csv", CONTENTS[".csv"])
    message = refusal(tmp_path / "esays.csv")
    assert str(tmp_path / "esays.csv") in message and "Did you mean 'essays.csv'?" in message


@pytest.mark.parametrize("name", ["essays.csv", "essays.jsonl", "essays.csv.gz"])
@pytest.mark.parametrize("content", ["", " \n\n"])
def test_an_empty_file_is_refused(tmp_path, name, content):
    message = refusal(write(tmp_path / name, content))
    assert name in message and "empty" in message


@pytest.mark.parametrize(("name", "content"), [("essays.csv", "text,score\n"), ("essays.json", "[]")])
def test_a_file_without_rows_is_refused(tmp_path, name, content):
    message = refusal(write(tmp_path / name, content))
    assert name in message and "no rows" in message and "at least one" in message


def test_a_parquet_file_without_rows_is_refused(tmp_path):
    empty = pyarrow.table({"text": pyarrow.array([], pyarrow.string())})
    pyarrow.parquet.write_table(empty, tmp_path / "essays.parquet")
    assert "no rows" in refusal(tmp_path / "essays.parquet")


def test_a_text_file_that_is_called_parquet_is_refused(tmp_path):
    message = refusal(write(tmp_path / "essays.parquet", CONTENTS[".csv"]))
    assert "essays.parquet" in message and "parquet" in message.split(":", 1)[1]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_column_that_stands_twice_is_refused_in_parquet_too(tmp_path, streaming):
    path = tmp_path / "essays.parquet"
    pyarrow.parquet.write_table(pyarrow.table([["a"], ["b"]], names=["text", "text"]), path)
    with pytest.raises(DataError, match="essays.parquet, row 1: columns 1 and 2 have the same name"):
        read_table(path, streaming=streaming)


def test_a_binary_file_is_refused(tmp_path):
    message = refusal(write(tmp_path / "essays.csv", b"PK\x03\x04\x14\x00\x08\x00" + bytes(range(256))))
    assert "essays.csv" in message and "binary" in message and "csv (UTF-8)" in message


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: data[:20] + b"\xff\xff\xff\xff" + data[24:]])
def test_a_damaged_gzip_file_is_refused(tmp_path, damage):
    packed = gzip.compress(CONTENTS[".csv"].encode() * 50)
    path = tmp_path / "essays.csv.gz"
    path.write_bytes(damage(packed))
    message = refusal(path)
    assert "essays.csv.gz" in message and "damaged" in message


def test_an_unknown_kind_of_file_is_refused_with_the_kinds_that_are_known(tmp_path):
    message = refusal(write(tmp_path / "essays.xlsx", b"PK\x03\x04"))
    assert "essays.xlsx" in message and "'.xlsx'" in message and ".csv" in message and ".parquet" in message


def test_a_misspelt_column_is_refused_with_the_one_that_was_probably_meant(tmp_path):
    table = read_table(write(tmp_path / "essays.csv", CONTENTS[".csv"]))
    with pytest.raises(DataError, match="Did you mean 'score'.*--score_column score"):
        table.column("scores", "--score_column")
