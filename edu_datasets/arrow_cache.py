"""Rows on disk in place of memory: what `--streaming` reads and what it makes of it, as Arrow files in one folder.

The folder is that of the environment variable EDU_RECIPES_CACHE, or else `edu-recipes` among the user's caches. It holds texts of
learners; `edu-recipes clear-cache` empties it.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
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


def select_rows(dataset: Dataset, rows: np.ndarray) -> Dataset:
    """`dataset.select`; of a dataset on disk the row numbers are kept there too, in a file named by them and by the dataset."""
    if not dataset.cache_files:
        return dataset.select(rows)
    name = xxhash.xxh3_128(dataset._fingerprint.encode())  # the file holds rows of the first table: others for another
    name.update(np.ascontiguousarray(rows, np.int64))
    return dataset.select(rows, indices_cache_file_name=str(cache_folder() / f"{name.hexdigest()}.rows.arrow"))


class FirstRows:
    """The row in which each key stood first, in 16 bytes a key and not as texts.

    Args:
        streaming: Keep them on disk.

    >>> first = FirstRows()
    >>> first.add("a", 2), first.add("b", 3), first.add("a", 4)
    (None, None, 2)
    """

    def __init__(self, streaming: bool = False):
        self.streaming = streaming
        self._keys, self._rows = np.empty(0, np.uint64), np.empty(0, np.int64)
        self._new: dict[int, int] = {}

    def __contains__(self, key: str) -> bool:
        return self.find(key) is not None

    def find(self, key: str) -> int | None:
        """The row in which `key` stood first; None where it did not."""
        return self._find(key_of(key))

    def _find(self, number: int) -> int | None:
        if number in self._new:
            return self._new[number]
        i = int(np.searchsorted(self._keys, np.uint64(number)))
        return int(self._rows[i]) if i < len(self._keys) and self._keys[i] == number else None

    def add(self, key: str, row: int) -> int | None:
        """The row in which `key` stood before; None where it is new, and `row` is kept."""
        if (before := self._find(number := key_of(key))) is None:
            self._put(number, row)
        return before

    def number_within(self, group: str, key: str) -> int:
        """The number, from 1 on, of `key` among the different keys that came with `group`; needs a `FirstRows` of its own."""
        both = key_of(f"{group}\0{key}")
        if (number := self._find(both)) is None:
            alone = key_of(group)
            number = (self._find(alone) or 0) + 1
            self._put(alone, number)
            self._put(both, number)
        return number

    def _put(self, number: int, row: int) -> None:
        i = int(np.searchsorted(self._keys, np.uint64(number)))
        if i < len(self._keys) and self._keys[i] == number:
            self._rows[i] = row
            return
        self._new[number] = row
        if len(self._new) >= 4 * BLOCK:
            keys = np.fromiter(self._new, np.uint64, len(self._new))
            rows, order = np.fromiter(self._new.values(), np.int64, len(self._new)), np.argsort(keys)
            places = np.searchsorted(self._keys, keys[order])
            self._keys, self._rows = self._insert(self._keys, places, keys[order]), self._insert(self._rows, places, rows[order])
            self._new = {}

    def _insert(self, values: np.ndarray, places: np.ndarray, new: np.ndarray) -> np.ndarray:
        """As `np.insert`."""
        count = len(values) + len(new)
        together = np.asarray(numbers_on_disk((count,), values.dtype)) if self.streaming else np.empty(count, values.dtype)
        old = np.ones(count, bool)
        old[places + np.arange(len(new))] = False
        together[old], together[~old] = values, new
        return together


def key_of(text: str) -> int:
    """A number of 64 bits for a text; among a million texts two share one with a chance of 3 in 100 million."""
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


def keys_of(texts: Iterable[str]) -> np.ndarray:
    """`key_of` of each text, uint64 array; 0 for ''."""
    return np.fromiter((key_of(t) if t else 0 for t in texts), np.uint64)


def row_numbers(streaming: bool) -> array | list[int]:
    """An empty list of row numbers, of 4 bytes each with `streaming`."""
    return array("I") if streaming else []


def numbers_on_disk(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """Zeros in a nameless file that is mapped into memory."""
    with tempfile.TemporaryFile(dir=cache_folder(), suffix=".numbers") as file:
        return np.memmap(file, dtype, "w+", shape=shape)
