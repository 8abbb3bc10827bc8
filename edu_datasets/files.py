"""Tables from csv, tsv, json, jsonl and parquet files, plain or gzip, with the row numbers a user sees.

A file is read whole or not at all: a quote that never closes, a row with a field too many or a byte that is not text
ends in a `DataError` that names the row, where csv readers with default settings would swallow rows in silence.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import difflib
import gzip
import io
import itertools
import json
import logging
import math
import re
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path

from .arrow_cache import BLOCK, StoredRows, decode_column, decode_json_lines, text_batches
from .errors import DataError
from .row_arrays import row_numbers

logger = logging.getLogger(__name__)

SUFFIXES = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".parquet")
SEPARATORS = (",", "\t", ";", "|")
GUARDED = re.compile(r"'+[=+\-@\t\r\n＝＋－＠]")  # what `trainers.report.safe_cell` has put an apostrophe before
BROKEN = re.compile(r"[\x00\ud800-\udfff]")  # json allows half of a surrogate pair
csv.field_size_limit(2**31 - 1)  # an overlong field is reported by its row, not by the csv module


@dataclass
class Table:
    """A file as columns of equal length.

    Attributes:
        path: The file.
        columns: Column name -> its values: `str` for csv and tsv ('' where empty), the json or parquet value elsewhere.
        rows: The number of each row as the user sees it (see `DataError`).
    """

    path: Path
    columns: dict[str, Sequence]
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, keep: Sequence[bool]) -> Table:
        """The rows for which `keep` is true."""
        columns = {name: [v for v, k in zip(values, keep, strict=True) if k] for name, values in self.columns.items()}
        return Table(self.path, columns, [row for row, k in zip(self.rows, keep, strict=True) if k])

    def has_names(self) -> bool:
        """Whether the columns are called by names, which may be told; else the first row may be an essay, or a learner."""
        return all(map(_is_name, self.columns)) and not any(_is_one_of(c, self.columns[c][:100]) for c in self.columns)

    def names_told(self) -> str | None:
        """The names of the columns, for a message; None where they may be none, such as the first learner of a bare list."""
        told = f"one of the columns {', '.join(map(repr, self.columns))}"
        return told if len(self.columns) > 1 and self.has_names() else None

    def column(self, name: str, option: str) -> Sequence:
        """The values of column `name`.

        Args:
            name: The column as the file names it.
            option: The command line option that would name another column, for the message.

        Raises:
            DataError: There is no such column; the message says which one is close.
        """
        if name in self.columns:
            return self.columns[name]
        if not self.columns:
            raise DataError("the rows have no columns.", file=self.path, expected=f"a column '{name}'")
        if not self.has_names():
            raise DataError(
                f"there is no column '{name}', and the first row does not look like a header.",
                file=self.path,
                row=1,
                expected="the names of the columns",
                fix=f"Put a header above the data, and name the column with {option}.",
            )
        only = next(iter(self.columns))
        if len(self.columns) == 1 and (other := [s for s in SEPARATORS if s in only]):
            raise DataError(
                "the header has one column.", file=self.path, row=1, found=only, expected=f"columns, '{name}' among them",
                fix=f"It seems to be separated by {other[0]!r}: say so with --separator, or leave --separator out.",
            )  # fmt: skip
        close = closest(name, self.columns)
        raise DataError(
            f"there is no column '{name}'." + (f" Did you mean '{close}'?" if close else ""),
            file=self.path,
            expected=self.names_told(),
            fix=f"Name the right one with {option}" + (f" {close}." if close else "."),
        )


def _is_name(text: str) -> bool:
    """Whether a column may be called so: no long text, no sentence, no number, no date, no json, not only signs."""
    return 0 < len(text) <= 40 and not re.match(r".*\"|[\[{]|.*[.!]$|[\s\d.,:TZe+-]+$|\W+$", text)


def _is_one_of(name: str, values: Sequence[object]) -> bool:
    """Whether a header is as the cells below it, but for figures: l1 above l2 and l3."""
    return re.sub(r"\d+", "0", name) in {re.sub(r"\d+", "0", v) for v in values if isinstance(v, str)}


def closest(name: str, names: Iterable[str]) -> str | None:
    """The name in `names` that `name` was probably meant to be, or None."""
    by_lower = {str(n).lower(): n for n in names}
    found = difflib.get_close_matches(str(name).lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def own_files(
    train_file: str | Path | None, validation_file: str | Path | None, test_file: str | Path | None
) -> dict[str, str | Path]:
    """The files of a user's own by split; {} where there are none.

    Raises:
        DataError: The training file is missing.
    """
    if (validation_file or test_file) and not train_file:
        raise DataError("a validation or test file needs a training file.", fix="Name it with --train_file.")
    return {s: p for s, p in (("train", train_file), ("validation", validation_file), ("test", test_file)) if p}


def refuse_bad_rows(problems: Sequence[DataError], skip: bool, used: Sized, path: str | Path, unit: str = "row") -> None:
    """End the reading of a file where a row cannot be used, unless such rows are skipped, or where none is left.

    Args:
        problems: What is wrong with each row that cannot be used.
        skip: Leave such rows out.
        used: The others.
        path: The file.
        unit: What a row is called.

    Raises:
        DataError: The first problem, how many more there are, and how to leave such rows out; or that no row can be used.
    """
    if problems and not skip:
        more = f" The same file has {len(problems) - 1} more {unit}s that cannot be used." if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more} To leave such {unit}s out and have them listed, add --skip_bad_rows.")
    if not used:
        raise DataError(f"no {unit} can be used.", file=path)


def refuse_again(before: int | None, *, file: str | Path, row: int, column: str | None, fix: str) -> None:
    """Refuse a row whose id stood in an earlier one, if there is one `before`; `fix` says what to do."""
    if before is not None:
        raise DataError(f"the id stands in row {before} too.", file=file, row=row, column=column, fix=fix)


def unknown_data_set(
    name: str, known: Sequence[str], others: str = "", fix: str = "Your own file goes to --train_file."
) -> DataError:
    """What is told of a data set that is not among the `known`; `others` says what else may be named."""
    close = closest(name, known)
    return DataError(
        "unknown data set." + (f" Did you mean '{close}'?" if close else ""), found=name,
        expected=f"one of {', '.join(known)}{others}", fix=fix,
    )  # fmt: skip


def as_text(value: object) -> str:
    """A cell as text without outer white space; 3.0 as '3', null as ''."""
    if isinstance(value, float):
        return "" if math.isnan(value) else str(int(value)) if value.is_integer() else repr(float(value))
    return "" if value is None else str(value).strip()


def as_seconds(value: object, path: Path, row: int, column: str) -> float:
    """A time as seconds: a number as it is, or a date with or without a time (ISO 8601; UTC where no zone is stated).

    Raises:
        DataError: It is neither. What may be a learner's id is not shown.
    """
    text = as_text(value)
    with contextlib.suppress(ValueError):
        if math.isfinite(seconds := float(text)):
            return seconds
    try:
        moment = value if isinstance(value, datetime.datetime) else datetime.datetime.fromisoformat(text)
        return moment.replace(tzinfo=moment.tzinfo or datetime.UTC).timestamp()
    except ValueError as error:
        raise DataError(
            "not a time.", file=path, row=row, column=column,
            found=text if re.fullmatch(r"[\d\s.:,/TZ+-]{1,24}|[A-Za-z]{1,8}", text) else None,
            expected="a number (seconds), or a date such as 2026-09-01 or 2026-09-01T08:30:00",
        ) from error  # fmt: skip


def check_text(text: str, what: str, most: int, *, file: Path, row: int, column: str | None) -> str:
    """`text`, where it can be used.

    Args:
        text: The text.
        what: What it is, for the message: 'the question', say.
        most: The most characters it may have.
        file: The file it comes from.
        row: Its row.
        column: Its column.

    Raises:
        DataError: It is empty, too long, or holds half a character or a zero byte.
    """
    if not text.strip():
        raise DataError(f"{what} is empty.", file=file, row=row, column=column, expected="a text")
    if len(text) > most:
        raise DataError(
            f"{what} has {len(text):,} characters.", file=file, row=row, column=column, expected=f"at most {most:,}",
            fix="Look for a quote that never closes, or for the wrong column.",
        )  # fmt: skip
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:  # json allows half of a surrogate pair
        raise DataError(f"{what} holds half a character.", file=file, row=row, column=column) from error
    if "\x00" in text:
        raise DataError(f"{what} holds a zero byte.", file=file, row=row, column=column)
    return text


def check_names(names: Iterable[object], *, file: Path, row: int) -> None:
    """Refuse a row of which an id or another name holds half a character or a zero byte, which no table can keep."""
    if any(BROKEN.search(as_text(name)) for name in names):
        raise DataError("an id or a name in the row holds half a character or a zero byte.", file=file, row=row)


def require_file(path: str | Path) -> None:
    """Raise a `DataError` where there is no such file."""
    path = Path(path)
    if not path.is_file():
        close = closest(path.name, [p.name for p in path.parent.iterdir()]) if path.parent.is_dir() else None
        raise DataError(
            f"there is no file {path}." + (f" Did you mean '{close}'?" if close else ""),
            fix="Paths are taken from the folder the command runs in.",
        )


def read_table(
    path: str | Path, encoding: str | None = None, separator: str | None = None, streaming: bool = False
) -> Table:  # fmt: skip
    """Read a table.

    Args:
        path: A .csv, .tsv, .txt, .json, .jsonl or .parquet file, or one of them with .gz behind.
        encoding: The encoding of a text file. None reads UTF-8 (with or without a byte order mark) and, line by line
            where a line is not UTF-8, Windows-1252; how many lines that were is logged.
        separator: The separator of a csv file. None finds it in the header.
        streaming: Keep its columns on disk and a block of rows in memory, for files of any size.

    Raises:
        DataError: The file is missing, empty, not text, of another kind, or not a regular table.
    """
    path = Path(path)
    suffixes = [s.lower() for s in path.suffixes]
    kind = suffixes[-2] if len(suffixes) > 1 and suffixes[-1] == ".gz" else (suffixes or [""])[-1]
    require_file(path)
    if kind not in SUFFIXES:
        raise DataError("unknown kind of file.", file=path, found=kind, expected=f"one of {', '.join(SUFFIXES)}")
    if kind == ".parquet":
        return _read_parquet(path, streaming)
    if streaming and kind == ".json":
        raise DataError("a .json file is read whole.", file=path, fix="With --streaming bring csv, tsv, jsonl or parquet.")
    separator = separator or ("\t" if kind == ".tsv" else None)
    if streaming:
        lines = stream_lines(path, encoding)
        return _stream_json(path, lines) if kind == ".jsonl" else _read_delimited(path, lines, separator, streaming)
    text = decode(read_bytes(path), path, encoding)
    if kind in (".json", ".jsonl"):
        return _read_json(path, text, lines=kind == ".jsonl")
    return _read_delimited(path, io.StringIO(text, newline=""), separator)


def read_own_table(path: str | Path, encoding: str | None = None, separator: str | None = None) -> Table:
    """Read a table that a recipe wrote, such as mastery.csv or predictions.csv, with its texts as they were.

    Recipes put an apostrophe before what a spreadsheet would run as a formula (`trainers.report.safe_cell`); it is taken away
    here. Arguments and errors are those of `read_table`.
    """
    table = read_table(path, encoding, separator)
    columns = {_without_apostrophe(name): [_without_apostrophe(v) for v in values] for name, values in table.columns.items()}
    return Table(table.path, columns, table.rows)


def _without_apostrophe(value: object) -> object:
    return value[1:] if isinstance(value, str) and GUARDED.match(value) else value


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, unpacked where it is gzip."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"the gzip file is damaged ({error}).", file=path, fix="Download or copy it again.") from error
    if not data.strip():
        raise DataError("the file is empty.", file=path, expected="a header and at least one row")
    return data


def decode(data: bytes, path: Path, encoding: str | None = None) -> str:
    """Bytes to text; line by line UTF-8 or else Windows-1252 where no `encoding` is stated.

    Raises:
        DataError: The bytes are not text, or not in `encoding`.
    """
    if encoding is None and data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    if encoding is None and b"\x00" in data[:65536]:
        raise _binary(path)
    try:
        return data.decode(encoding or "utf-8-sig").removeprefix("\ufeff")
    except LookupError as error:
        raise _unknown_encoding(encoding) from error
    except UnicodeError as error:
        if encoding is not None:
            line = data[: getattr(error, "start", 0)].count(b"\n") + 1
            raise DataError(
                f"line {line} of the file is not in the encoding {encoding}.", file=path, row=line,
                fix="Leave --file_encoding out to detect it.",
            ) from error  # fmt: skip
    return "\n".join(_decode_lines(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), path))


def _binary(path: Path) -> DataError:
    return DataError("the file is binary, not text.", file=path, expected="a text table", fix="Export the sheet as csv (UTF-8).")


def _unknown_encoding(name: str) -> DataError:
    return DataError(f"unknown encoding '{name}'.", fix="Use utf-8, cp1252 or utf-16, say.")


def _decode_lines(lines: Iterable[bytes], path: Path) -> Iterator[str]:
    """Each line from UTF-8 or else from Windows-1252; how many were the latter is logged at the end."""
    number, other = 0, 0
    for number, line in enumerate(lines, start=1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            try:
                text = line.decode("cp1252")
            except UnicodeDecodeError as error:
                raise DataError(
                    "the line is neither UTF-8 nor Windows-1252.", file=path, row=number, found=f"byte 0x{line[error.start]:02X}",
                    fix="State the file's encoding with --file_encoding, or save it as UTF-8.",
                ) from error  # fmt: skip
            other += 1
        yield text
    if other:
        logger.warning("%s: %d of %d lines are not UTF-8 and were read as Windows-1252", path.name, other, number)


def stream_lines(path: Path, encoding: str | None = None) -> Iterator[str]:
    """The lines of a text file with their ends, decoded as `decode` does, one in memory at a time.

    Raises:
        DataError: As `read_bytes` and `decode`.
    """
    number = 0
    with path.open("rb") as raw:
        opened = gzip.open(raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw
        try:
            begin = opened.peek(4)[:4]
            if encoding is None and begin[:2] in (b"\xff\xfe", b"\xfe\xff"):
                encoding = "utf-16"
            if encoding is None:
                if begin[:3] == b"\xef\xbb\xbf":
                    opened.read(3)
                yield from _decode_lines(_text_lines(opened, path), path)
            else:
                text = io.TextIOWrapper(opened, encoding, newline="\n")
                yield next(text, "").removeprefix("\ufeff")
                for number, line in enumerate(text, start=2):  # noqa: B007 (told in the message)
                    yield line
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"the file is damaged ({error}).", file=path, fix="Download or copy it again.") from error
        except LookupError as error:
            raise _unknown_encoding(encoding) from error
        except UnicodeError as error:
            raise DataError(
                f"line {number + 1} of the file is not in the encoding {encoding}.", file=path, row=number + 1,
                fix="Leave --file_encoding out to detect it.",
            ) from error  # fmt: skip


def _text_lines(lines: Iterable[bytes], path: Path) -> Iterator[bytes]:
    for line in lines:
        if b"\x00" in line:
            raise _binary(path)
        yield line


def _read_delimited(path: Path, lines: Iterable[str], separator: str | None, streaming: bool = False) -> Table:
    """A table with a header; with `streaming` its columns stay on disk."""
    lines, above = iter(lines), []
    for line in lines:
        above.append(line)
        if line.strip("\r\n"):
            break
    named = re.sub(r'"[^"]*"', "", above[-1].strip("\r\n")) if above else ""  # quoted names may hold a separator
    separator = "\t" if separator == "\\t" else separator
    if separator is not None and len(separator) != 1:
        raise DataError("the separator is not one character.", found=separator, fix="Use --separator ';', say.")
    if separator is None:
        separator = max(SEPARATORS, key=named.count) if any(map(named.count, SEPARATORS)) else ","
    records = _csv_records(path, itertools.chain(above, lines), separator)
    header = [name.strip() for name in next(records, (0, []))[1]]
    _check_header(header, path)
    if not header:
        raise DataError("the file is empty.", file=path, expected="a header and at least one row")
    rows = row_numbers(streaming)
    checked = _of_one_length(path, records, len(header), separator, rows)
    if streaming:
        stored = StoredRows(text_batches(checked, header), decode_column)
        columns = stored.columns(header)
    else:
        kept = list(checked)
        columns = {name: [r[i] for r in kept] for i, name in enumerate(header)}
    if not rows:
        raise DataError("the file has a header and no rows.", file=path, expected="at least one row")
    return Table(path, columns, rows)


def _csv_records(path: Path, lines: Iterable[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """(row number, cells) of each row that is not empty."""
    reader = csv.reader(lines, delimiter=separator, strict=True)
    row, line = 0, 1
    try:
        for record in reader:
            row += 1
            if any(record):
                yield row, record
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"a quote opens in this row (line {line} of the file) and does not close ({error}).",
            file=path,
            row=row + 1,
            fix='Inside a quoted field write a quote twice (""), and close every field that opens one.',
        ) from error


def _of_one_length(
    path: Path, records: Iterable[tuple[int, list[str]]], fields: int, separator: str, rows: array | list[int]
) -> Iterator[list[str]]:  # fmt: skip
    """The cells of each row, whose numbers are added to `rows`."""
    for row, record in records:
        if len(record) != fields:
            others = [s for s in SEPARATORS if s != separator and s.join(record).count(s) + 1 == fields]
            hint = f" The row seems to be separated by {others[0]!r}." if len(record) == 1 and others else ""
            raise DataError(
                f"the row has {len(record)} fields.{hint}",
                file=path,
                row=row,
                expected=f"{fields} fields separated by {separator!r}, as in the header",
                fix="Quote fields that contain the separator, or name another one with --separator.",
            )
        rows.append(row)
        yield record


def _check_header(header: Sequence[str], path: Path) -> None:
    if twice := sorted({n for n in header if header.count(n) > 1}):
        first, second = [i for i, name in enumerate(header, start=1) if name == twice[0]][:2]
        raise DataError(f"columns {first} and {second} have the same name in the header.", file=path, row=1)
    if "" in header:
        raise DataError(f"column {list(header).index('') + 1} has no name in the header.", file=path, row=1)


def parse_json(text: str, path: Path, row: int | None = None) -> object:
    """The value that `text` is.

    Raises:
        DataError: It is not json; `row`, or else the line of the file, is named.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is another ValueError
        where = row or getattr(error, "lineno", 1)
        raise DataError(f"not valid json ({type(error).__name__}).", file=path, row=where) from error


def _read_json(path: Path, text: str, lines: bool) -> Table:
    records: list[tuple[int, dict]] = []
    parts = enumerate(text.split("\n"), start=1) if lines else [(1, text)]
    for row, part in parts:
        if not part.strip():
            continue
        value = parse_json(part, path, row if lines else None)
        if lines:
            records.append((row, value))
        elif isinstance(value, dict) and value and all(isinstance(v, list) for v in value.values()):
            lengths = {len(v) for v in value.values()}
            if len(lengths) > 1:
                raise DataError(f"the columns differ in length: {sorted(lengths)}.", file=path)
            records += enumerate((dict(zip(value, r, strict=True)) for r in zip(*value.values(), strict=True)), start=1)
        else:
            records += enumerate(value if isinstance(value, list) else [value], start=1)
    for row, record in records:
        if not isinstance(record, dict):
            raise DataError("the record is not an object.", file=path, row=row, expected='{"column": value, ...}')
    if not records:
        raise DataError("the file has no rows.", file=path, expected="at least one record")
    names = list(dict.fromkeys(name for _, record in records for name in record))
    return Table(path, {n: [r.get(n) for _, r in records] for n in names}, [row for row, _ in records])


def _stream_json(path: Path, lines: Iterable[str]) -> Table:
    """Records of json, a line each, kept on disk as they are; names are those of all records."""
    rows, names = row_numbers(streaming=True), {}

    def checked() -> Iterator[list[str]]:
        for row, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            record = parse_json(line, path, row)
            if not isinstance(record, dict):
                raise DataError("the record is not an object.", file=path, row=row, expected='{"column": value, ...}')
            names.update(dict.fromkeys(record))
            rows.append(row)
            yield [json.dumps(record)]  # ascii: halves of surrogate pairs stay what they are

    stored = StoredRows(text_batches(checked(), ["record"]), lambda batch, _: decode_json_lines(batch, names))
    if not rows:
        raise DataError("the file has no rows.", file=path, expected="at least one record")
    return Table(path, stored.columns(names), rows)


def _validated(rows):
    """Rows of Arrow whose texts are utf-8 and whose offsets lie within; damaged bytes may be neither."""
    rows.validate(full=True)
    return rows


def _read_parquet(path: Path, streaming: bool = False) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path if streaming else pyarrow.BufferReader(read_bytes(path)))
        count, names = file.metadata.num_rows, file.schema_arrow.names
        _check_header(names, path)
        if streaming:
            batches = map(_validated, file.iter_batches(BLOCK))
            columns = StoredRows(batches, decode_column).columns(names) if count else {}
        else:
            columns = _validated(file.read()).to_pydict()
    except DataError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:  # ValueError: a date that there is not
        raise DataError(f"not a readable parquet file ({type(error).__name__}).", file=path) from error
    if not count:
        raise DataError("the file has no rows.", file=path, expected="at least one row")
    return Table(path, columns, range(1, count + 1))
