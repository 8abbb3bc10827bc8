"""Columns of a data set as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow.compute as pc
import xxhash
from datasets import Dataset

BLOCK = 4096


def column_array(dataset: Dataset, name: str) -> np.ndarray:
    """A column of numbers, or of lists of one length, as an array (rows, ...); no Python list of all rows is made on the way."""
    rows = dataset.select_columns([name]).with_format("numpy")
    return np.concatenate([np.asarray(block[name]) for block in rows.iter(BLOCK)]) if len(rows) else np.empty(0)


def entry_array(dataset: Dataset, name: str, place: int) -> np.ndarray:
    """One entry of each list of numbers in a column, float64 array (rows,)."""
    blocks = dataset.select_columns([name]).with_format("arrow").iter(BLOCK)
    found = [pc.list_element(block[name], place).to_numpy() for block in blocks]
    return np.concatenate(found) if found else np.empty(0)


def column_values(dataset: Dataset, name: str) -> Iterator[Any]:
    """The values of a column, a block in memory at a time."""
    for block in dataset.select_columns([name]).iter(BLOCK):
        yield from block[name]


def hashes_of(texts: Iterable[str]) -> np.ndarray:
    """A number for each text, the same in every process, uint64 array."""
    return np.fromiter((xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass")) for text in texts), np.uint64)


def first_rows(keys: np.ndarray) -> np.ndarray:
    """The first row with the key of each row, int32 array (rows,); with less memory than `np.unique`."""
    order = np.argsort(keys, kind="stable").astype(np.int32)
    keys, first = keys[order], np.empty(len(keys), np.int32)
    new = np.r_[True, keys[1:] != keys[:-1]][: len(keys)]
    first[order] = order[new][np.cumsum(new, dtype=np.int32) - 1]
    return first


class RowNumbers:
    """The row of each value of a column of different texts, in 12 bytes a row."""

    def __init__(self, dataset: Dataset, name: str):
        keys = hashes_of(column_values(dataset, name))
        self._rows = np.argsort(keys).astype(np.int32)
        self._keys = keys[self._rows]

    def of(self, texts: Iterable[str]) -> np.ndarray:
        """The rows of these texts, int64 array (texts,).

        Raises:
            KeyError: One of them is not there.
        """
        keys = hashes_of(texts)
        places = np.searchsorted(self._keys, keys)
        if not np.array_equal(self._keys.take(places, mode="clip"), keys):
            raise KeyError("a text that is not in the column")
        return self._rows[places].astype(np.int64)

    def __getitem__(self, text: str) -> int:
        return int(self.of([text])[0])
