"""The one error that bad data raises: which file, row and column, what was found, what is expected, what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


class DataError(ValueError):
    """Data that cannot be used as it is.

    Args:
        problem: What is wrong, in a sentence. Never a learner's text or id.
        file: The file the data came from; only its name is shown.
        row: The row as a spreadsheet numbers it: the header of a csv is row 1; in jsonl the line; in json and
            parquet the first record is row 1.
        column: The column as the user's file names it.
        found: The offending value, shortened. Leave it out where it would be a learner's text or id.
        expected: What should stand there.
        fix: What the user can do.

    `exit_code` makes `trainers.parser.run` end the program with this message and no traceback.
    """

    exit_code = 2

    def __init__(
        self,
        problem: str,
        *,
        file: str | Path | None = None,
        row: int | None = None,
        column: str | None = None,
        found: object = None,
        expected: str | None = None,
        fix: str | None = None,
    ):
        self.file, self.row, self.column = file, row, column
        place = [Path(file).name] if file is not None else []
        place += [f"row {row}"] if row is not None else []
        place += [f"column '{column}'"] if column is not None else []
        text = f"{', '.join(place)}: {problem}" if place else problem
        if found is not None:
            text += f" Found: {shorten(found)}."
        if expected is not None:
            text += f" Expected: {expected}."
        if fix is not None:
            text += f" {fix}"
        super().__init__(text)


@contextlib.contextmanager
def in_file(file: str | Path) -> Iterator[None]:
    """Context in which a `DataError` that names no file, such as that of a split, is said to be of `file`."""
    try:
        yield
    except DataError as error:
        if error.file is None and Path(file).name not in str(error):
            error.file, error.args = file, (f"{Path(file).name}: {error}",)
        raise


def shorten(value: object, limit: int = 40) -> str:
    """`value` as it would be typed, at most `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
