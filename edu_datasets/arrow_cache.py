"""Rows on disk in place of memory: what `--streaming` reads and what it makes of it, as Arrow files in one folder.

The folder is that of the environment variable EDU_RECIPES_CACHE, or else `edu-recipes` among the user's caches. It holds texts of
learners; `edu-recipes clear-cache` empties it.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import xxhash
from datasets import Dataset, Features

BLOCK = 4096
"""Rows that are in memory at a time."""


def cache_folder() -> Path:
    """The folder of the Arrow files; it is made where it is missing."""
    own, common = os.environ.get("EDU_RECIPES_CACHE"), os.environ.get("XDG_CACHE_HOME")
    folder = Path(own) if own else Path(common or Path.home() / ".cache") / "edu-recipes"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class RowWriter:
    """Canonical rows as they are read, to a `Dataset`: in memory, or with `streaming` in a file that is mapped into memory.

    The file is named by its content, so that what was made of the same rows before (tokens) is found again. As a
    context it leaves no unfinished file behind where an error ends it.

    Args:
        features: The columns.
        streaming: Keep the rows on disk.
        block: Rows that are in memory at a time, where they are larger than most.
    """

    def __init__(self, features: Features, streaming: bool = False, block: int | None = None):
        self.features, self.streaming, self.block, self.count = features, streaming, block or BLOCK, 0
        self._block: dict[str, list] = {name: [] for name in features}
        self._file = self._writer = None
        self._hash = xxhash.xxh3_128()

    def __len__(self) -> int:
        return self.count

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, *error) -> None:
        self.discard()

    def append(self, row: dict[str, Any]) -> None:
        """Add a row that has every column."""
        for name, values in self._block.items():
            values.append(row[name])
        self.count += 1
        if self.streaming and self.count % self.block == 0:
            self._flush()

    def _flush(self) -> None:
        schema = self.features.arrow_schema
        if self._writer is None:
            self._file = tempfile.NamedTemporaryFile(dir=cache_folder(), suffix=".part", delete=False)
            self._writer = pyarrow.ipc.new_stream(self._file, schema)
        columns = [pyarrow.array(values, schema.field(name).type) for name, values in self._block.items()]
        batch = pyarrow.record_batch(columns, schema=schema)
        self._hash.update(batch.serialize())
        self._writer.write_batch(batch)
        self._block = {name: [] for name in self.features}

    def dataset(self) -> Dataset:
        """All rows that were added."""
        if not self.streaming:
            return Dataset.from_dict(self._block, features=self.features)
        self._flush()
        self._writer.close()
        self._file.close()
        self._hash.update(self.features.arrow_schema.to_string().encode())
        path = cache_folder() / f"{self._hash.hexdigest()}.arrow"
        if path.is_file():  # the same rows: what hangs on this file's date stays valid
            os.unlink(self._file.name)
        else:
            os.replace(self._file.name, path)
        pyarrow.default_memory_pool().release_unused()  # it keeps what it has freed
        return Dataset.from_file(str(path))

    def discard(self) -> None:
        """Leave no unfinished file behind."""
        if self._file is not None and Path(self._file.name).is_file():
            self._file.close()
            os.unlink(self._file.name)


class StoredColumn(Sequence):
    """A column of a `StoredRows`, read block by block."""

    def __init__(self, rows: StoredRows, name: str):
        self.rows, self.name = rows, name

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i):
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        i = i + len(self) if i < 0 else i
        if not 0 <= i < len(self):
            raise IndexError(i)
        number = self.rows.number_of(i)
        return self.rows.block(number, self.name)[i - self.rows.starts[number]]

    def __iter__(self) -> Iterator:
        for number in range(len(self.rows.starts) - 1):
            yield from self.rows.block(number, self.name)


class StoredRows:
    """Rows of a file, written to a nameless file and mapped into memory; a column of a block at a time is decoded.

    Args:
        batches: Blocks of rows.
        decode: What makes the values of a column of a block, by its name; those of others may come along.
    """

    def __init__(self, batches: Iterable[pyarrow.RecordBatch], decode: Callable[[pyarrow.RecordBatch, str], dict[str, list]]):
        self.decode = decode
        handle, name = tempfile.mkstemp(dir=cache_folder(), suffix=".rows")
        try:
            sizes, writer = [], None
            with os.fdopen(handle, "wb") as file:
                for batch in batches:
                    writer = writer or pyarrow.ipc.new_file(file, batch.schema)
                    writer.write_batch(batch)
                    sizes.append(batch.num_rows)
                if writer:
                    writer.close()
            self._file = pyarrow.ipc.open_file(pyarrow.memory_map(name)) if sizes else None
        finally:
            os.unlink(name)  # the map holds it for as long as it is needed, and no text is left behind
        self.starts = [0, *itertools.accumulate(sizes)]
        self._number, self._values = -1, {}

    def __len__(self) -> int:
        return self.starts[-1]

    def number_of(self, i: int) -> int:
        """The number of the block that row `i` is in."""
        if self._number >= 0 and self.starts[self._number] <= i < self.starts[self._number + 1]:
            return self._number
        return bisect_right(self.starts, i) - 1

    def block(self, number: int, name: str) -> list:
        """The values of a column in a block."""
        if number != self._number:
            self._number, self._values = number, {}
        if name not in self._values:
            self._values |= self.decode(self._file.get_batch(number), name)
        return self._values[name]

    def columns(self, names: Iterable[str]) -> dict[str, StoredColumn]:
        """These columns."""
        return {name: StoredColumn(self, name) for name in names}


def text_batches(records: Iterable[Sequence[str]], names: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
    """Records of texts as blocks of string columns."""
    block: list[Sequence[str]] = []

    def batch():
        columns = [pyarrow.array([r[i] for r in block], pyarrow.string()) for i in range(len(names))]
        return pyarrow.record_batch(columns, list(names))

    for record in records:
        block.append(record)
        if len(block) == BLOCK:
            yield batch()
            block = []
    if block:
        yield batch()


def decode_column(batch: pyarrow.RecordBatch, name: str) -> dict[str, list]:
    """A column of a block as it is."""
    return {name: batch.column(name).to_pylist()}


def decode_json_lines(batch: pyarrow.RecordBatch, names: Sequence[str]) -> dict[str, list]:
    """A block of lines of json as columns."""
    records = [json.loads(line) for line in batch.column(0).to_pylist()]
    return {name: [r.get(name) for r in records] for name in names}


def column_values(dataset: Dataset, name: str) -> Iterator[Any]:
    """The values of a column, a block in memory at a time (iterating `dataset[name]` reads whole rows)."""
    for block in dataset.select_columns([name]).iter(BLOCK):
        yield from block[name]


def is_on_disk(dataset: Dataset) -> bool:
    """Whether the rows are in files, as `--streaming` leaves them."""
    return bool(dataset.cache_files)
