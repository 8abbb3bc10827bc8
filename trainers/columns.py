"""Columns of a data set as arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from datasets import Dataset

BLOCK = 65_536


def column_array(dataset: Dataset, name: str) -> np.ndarray:
    """A column of numbers, or of lists of one length, as an array (rows, ...); no Python list of all rows is made on the way."""
    rows = dataset.select_columns([name]).with_format("numpy")
    return np.concatenate([np.asarray(block[name]) for block in rows.iter(BLOCK)]) if len(rows) else np.empty(0)


def column_values(dataset: Dataset, name: str) -> Iterator[Any]:
    """The values of a column, a block in memory at a time."""
    for block in dataset.select_columns([name]).iter(BLOCK // 16):
        yield from block[name]
