"""A number for each row (keys, groups, folds, row numbers), and rows by their number: in memory, or with `streaming` on disk.

A million numbers are little beside their texts, and much beside what a pipeline holds that reads those block by block.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow
import xxhash
from datasets import Dataset

from .arrow_cache import cache_folder, column_values, is_on_disk

LONG = 65_536
"""From so many rows on, `streaming` keeps numbers on disk; operations take so many at a time."""


def zeros(shape: int | tuple[int, ...], dtype: type, streaming: bool) -> np.ndarray:
    """Zeros, with `streaming` in a nameless file that is mapped into memory, where they are many."""
    if not streaming or np.prod(shape) < LONG:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(dir=cache_folder(), suffix=".numbers") as file:
        if hasattr(os, "posix_fallocate"):  # a disk that is full is an error here, and would kill the process later
            os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        return np.asarray(np.memmap(file, dtype, "w+", shape=shape))


def from_values(values: Iterable, dtype: type, streaming: bool) -> np.ndarray:
    """As `np.fromiter`; with `streaming` many numbers go to a nameless file that is mapped into memory."""
    if not streaming:
        return np.fromiter(values, dtype)
    values = iter(values)
    if len(block := np.fromiter(itertools.islice(values, LONG), dtype)) < LONG:
        return block
    with tempfile.TemporaryFile(dir=cache_folder(), suffix=".numbers") as file:
        while len(block):
            block.tofile(file)
            block = np.fromiter(itertools.islice(values, LONG), dtype)
        file.flush()
        return np.asarray(np.memmap(file, dtype, "r+"))


def blocks(n: int) -> Iterator[slice]:
    """`n` rows in turn, `LONG` at a time."""
    return (slice(start, min(start + LONG, n)) for start in range(0, n, LONG))


def select_rows(dataset: Dataset, rows: np.ndarray) -> Dataset:
    """`dataset.select`; of a dataset on disk the row numbers are kept there too, and found again by the next run.

    Args:
        dataset: Any.
        rows: Row numbers, or a bool for each row.
    """
    files = [file["filename"] for file in dataset.cache_files]
    if rows.dtype == bool:
        chosen = zeros(int(np.count_nonzero(rows)), np.int64, bool(files))
        end = 0
        for block in blocks(len(rows)):
            found = np.flatnonzero(rows[block])
            chosen[end : end + len(found)] = found + block.start
            end += len(found)
        rows = chosen
    if not files or not len(rows) or (known := _rows_in_file(dataset, files)) is None:
        return dataset.select(rows)
    name = xxhash.xxh3_128(dataset._fingerprint.encode())  # of what the file of the rows was made from
    name.update(np.ascontiguousarray(rows, np.int64))
    path = cache_folder() / f"{name.hexdigest()}.rows.arrow"
    if not path.is_file():
        numbers = zeros(len(rows), np.uint64, streaming=True)
        for block in blocks(len(rows)):
            numbers[block] = rows[block] if not len(known) else known[rows[block]]
        _write_rows(path, numbers)
    return Dataset.from_file(files[0], dataset.info, dataset.split, str(path))


def _rows_in_file(dataset: Dataset, files: list[str]) -> np.ndarray | None:
    """The row of its one file that each row of a dataset is, empty where they are all its rows; None for another dataset."""
    whole = Dataset.from_file(files[0])
    if len(files) > 2 or dataset.features != whole.features or dataset.data.num_rows != len(whole):
        return None
    if len(files) == 1:
        return np.empty(0, np.uint64) if len(dataset) == len(whole) else None
    table = pyarrow.ipc.open_stream(pyarrow.memory_map(files[1])).read_all()
    return table.column(0).to_numpy() if table.column_names == ["indices"] else None


def _write_rows(path: Path, numbers: np.ndarray) -> None:
    """A file of row numbers as `datasets` reads it; it is whole or not there."""
    batch = pyarrow.record_batch([pyarrow.array(numbers)], ["indices"])
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file, pyarrow.ipc.new_stream(file, batch.schema) as writer:
            writer.write_batch(batch)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


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
        if len(self._new) >= LONG // 4:
            keys = np.fromiter(self._new, np.uint64, len(self._new))
            rows, order = np.fromiter(self._new.values(), np.int64, len(self._new)), np.argsort(keys)
            places = np.searchsorted(self._keys, keys[order])
            self._keys, self._rows = self._insert(self._keys, places, keys[order]), self._insert(self._rows, places, rows[order])
            self._new = {}

    def _insert(self, values: np.ndarray, places: np.ndarray, new: np.ndarray) -> np.ndarray:
        """As `np.insert`."""
        count = len(values) + len(new)
        together = zeros(count, values.dtype, self.streaming)
        old = np.ones(count, bool)
        old[places + np.arange(len(new))] = False
        together[old], together[~old] = values, new
        return together


def key_of(text: str) -> int:
    """A number of 64 bits for a text; among a million texts two share one with a chance of 3 in 100 million."""
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"))


def keys_of(texts: Iterable[str], streaming: bool = False) -> np.ndarray:
    """`key_of` of each text, uint64 array; 0 for ''."""
    return from_values((key_of(t) if t else 0 for t in texts), np.uint64, streaming)


def column_keys(dataset: Dataset, name: str) -> np.ndarray:
    """`key_of` of each value of a column of texts, on disk where the dataset is."""
    return keys_of(column_values(dataset, name), is_on_disk(dataset))


def count_different(values: np.ndarray) -> int:
    """How many different values there are; they are sorted in place, since a set of a million takes too much memory."""
    values.sort()
    return bool(len(values)) + sum(
        int(np.count_nonzero(values[b.start + 1 : b.stop + 1] != values[b])) for b in blocks(len(values) - 1)
    )


def row_numbers(streaming: bool) -> array | list[int]:
    """An empty list of row numbers, of 4 bytes each with `streaming`."""
    return array("I") if streaming else []


SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that different numbers times this are different; and their first bits are as good as random."""


def first_rows(keys: np.ndarray, streaming: bool = False) -> np.ndarray:
    """The first row with the key of each row, int32 array; a row with key 0 is its own. With less memory than `np.unique`."""
    n = len(keys)
    first, begin = zeros(n, np.int32, streaming), np.empty(n, np.uint8)
    for block in blocks(n):
        first[block] = np.arange(block.start, block.stop)
        begin[block] = np.where(keys[block], keys[block] >> np.uint64(60), 16)
    for number in range(16):
        rows = np.flatnonzero(begin == number).astype(np.int32)
        order = np.argsort(keys[rows], kind="stable").astype(np.int32)
        rows, own = rows[order], keys[rows[order]]
        new = np.r_[True, own[1:] != own[:-1]][: len(own)]
        first[rows] = rows[new][np.cumsum(new, dtype=np.int32) - 1]
    return first
