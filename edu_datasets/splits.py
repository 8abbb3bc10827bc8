"""Splits that cannot leak: what belongs together (a learner, a text) stays on one side."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from datasets import Dataset, DatasetDict
from sklearn.model_selection import StratifiedGroupKFold

from .arrow_cache import column_values, is_on_disk
from .errors import DataError
from .row_arrays import SPREAD, blocks, first_rows, keys_of, select_rows, zeros

logger = logging.getLogger(__name__)


MANY_GROUPS = 50_000
"""So many groups are dealt out in random order: chance balances their strata, and stratifying takes minutes."""


def connected_groups(*keys: Iterable[str], streaming: bool = False) -> np.ndarray:
    """Number the groups of rows that share a value in any of `keys`, directly or through others.

    Args:
        keys: Values of one length, one a row; '' means unknown and joins nothing.
        streaming: Keep what is known of each row on disk.

    Returns:
        int64 array of shape (rows,): the group of each row.

    >>> connected_groups(["a", "b", "c"], ["x", "x", "y"]).tolist()
    [0, 0, 1]
    """
    group = np.empty(0, np.int32)
    for i, values in enumerate(keys):
        joined = first_rows(keys_of(values, streaming), streaming)
        group = _join(group, joined, streaming) if i else joined
    numbers, found = zeros(len(group), np.int64, streaming), 0
    for block in blocks(len(group)):  # numbered as they come
        first = group[block] == np.arange(block.start, block.stop)
        numbers[block] = np.cumsum(first) + (found - 1)
        found += int(np.count_nonzero(first))
        numbers[block] = numbers[group[block]]
    return numbers


def _join(group: np.ndarray, joined: np.ndarray, streaming: bool) -> np.ndarray:
    """Groups, each told by its first row, after each row has come together with the row `joined`."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = [np.flatnonzero(group[b] != group[joined[b]]) + b.start for b in blocks(len(group))]
    if not sum(map(len, edges)):
        return group
    a = np.concatenate([group[rows] for rows in edges])
    b = np.concatenate([group[joined[rows]] for rows in edges])
    graph = coo_matrix((np.ones(len(a), bool), (a, b)), shape=(len(group),) * 2)
    component, keys = connected_components(graph, directed=False)[1], zeros(len(group), np.uint64, streaming)
    for block in blocks(len(group)):
        keys[block] = (component[group[block]].astype(np.uint64) + 1) * SPREAD
    return first_rows(keys, streaming)


def fold_numbers(groups: Sequence[int], strata: Iterable[str], k: int, seed: int, streaming: bool = False) -> np.ndarray:
    """Cut rows into `k` folds; a group is never cut, and the shares of the strata are kept as far as groups allow (by chance,
    from `MANY_GROUPS` on).

    Args:
        groups: The group of each row, see `connected_groups`.
        strata: What to balance, one value a row (the prompt, say).
        k: Number of folds, at least 2.
        seed: Seed of the shuffle.
        streaming: Keep what is known of each row on disk.

    Returns:
        The fold of each row, from 0 on; an array of the smallest unsigned integers that hold it.

    Raises:
        DataError: There are fewer groups than folds.
    """
    groups = np.asarray(groups)
    known = np.zeros(int(groups.max(initial=-1)) + 1, bool)
    known[groups] = True
    n_groups = int(known.sum())
    if n_groups < k:
        raise DataError(
            f"{n_groups} groups (learners or different texts) cannot be cut into {k} parts.",
            expected=f"at least {k} groups",
            fix="Bring more data, or give the splits as files: --train_file, --validation_file, --test_file.",
        )
    folds = zeros(len(groups), np.min_scalar_type(k), streaming)
    if n_groups > MANY_GROUPS:
        order, place = (zeros(n, np.int64, streaming) for n in (n_groups, len(known)))
        for block in blocks(n_groups):
            order[block] = np.arange(block.start, block.stop)
        np.random.default_rng(seed).shuffle(order)
        np.cumsum(known, out=place)
        for block in blocks(len(groups)):
            folds[block] = order[place[groups[block]] - 1] % k
        return folds
    labels = np.unique(np.asarray(list(strata)), return_inverse=True)[1]
    k_most = int(np.bincount(labels).max())
    if k_most < k:  # sklearn stratifies only where some stratum could reach every fold
        labels = np.zeros(len(labels), dtype=int)
    folder = StratifiedGroupKFold(n_splits=k, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a rare prompt that does not reach every fold is no fault
        for number, (_, test) in enumerate(folder.split(np.zeros(len(labels)), labels, groups)):
            folds[test] = number
    return folds


def k_folds(groups: Sequence[int], strata: Iterable[str], k: int, seed: int) -> list[np.ndarray]:
    """The rows of each of the `fold_numbers`, disjoint int64 arrays in ascending order, together all rows."""
    folds = fold_numbers(groups, strata, k, seed)
    return [np.flatnonzero(folds == i) for i in range(k)]


def split_by_group(dataset: Dataset, groups: Sequence[int], strata: Iterable[str], seed: int) -> DatasetDict:
    """Train, validation and test with 60, 20 and 20 percent of the rows, no group cut, strata balanced."""
    folds = fold_numbers(groups, strata, 5, seed, is_on_disk(dataset))
    parts = {"train": folds >= 2, "validation": folds == 1, "test": folds == 0}
    return DatasetDict({name: select_rows(dataset, rows) for name, rows in parts.items()})


def cut_missing(given: DatasetDict, groups: Sequence[int], strata: Sequence[str], seed: int) -> DatasetDict:
    """Cut what is missing of validation and test from the training rows, a fifth each, no group cut, strata balanced.

    Args:
        given: The splits there are, train among them.
        groups: The group of each training row, see `connected_groups`.
        strata: What to balance, one value a training row.
        seed: Seed of the cut.
    """
    train, missing = given["train"], [s for s in ("validation", "test") if s not in given]
    if len(missing) == 2:
        return split_by_group(train, groups, strata, seed)
    if missing:
        folds = fold_numbers(groups, strata, 5, seed, is_on_disk(train))
        parts = {missing[0]: folds == 0, "train": folds != 0}
        given = DatasetDict({**given, **{name: select_rows(train, rows) for name, rows in parts.items()}})
    return given


def cross_validation_splits(
    pool: Dataset, groups: np.ndarray, strata: Sequence[str], k: int, seed: int, few_groups: bool = False
) -> dict[str, DatasetDict]:
    """Splits for each of `k` folds, no group cut, strata balanced.

    Args:
        pool: All rows.
        groups: The group of each row, see `connected_groups`.
        strata: What to balance, one value a row.
        k: Number of folds.
        seed: Seed of the cuts.
        few_groups: Where the rest has fewer than five groups, let validation be one of them instead of refusing.

    Returns:
        fold_0, fold_1, ...: test (the fold), validation (a fifth of the rest), train.
    """
    strata, splits = np.asarray(strata), {}
    for number, fold in enumerate(k_folds(groups, strata, k, seed)):
        rest = np.setdiff1d(np.arange(len(pool)), fold)
        n_parts = min(5, len(set(groups[rest]))) if few_groups else 5
        inner = k_folds(groups[rest], strata[rest], n_parts, seed)[0]
        parts = {"train": np.delete(rest, inner), "validation": rest[inner], "test": fold}
        splits[f"fold_{number}"] = DatasetDict({s: pool.select(rows) for s, rows in parts.items()})
    return splits


def check_limits(max_train_samples: int | None, max_eval_samples: int | None) -> None:
    """Raise a `DataError` where a limit of `shorten` is below 1."""
    for name, most in (("--max_train_samples", max_train_samples), ("--max_eval_samples", max_eval_samples)):
        if most is not None and most < 1:
            raise DataError(f"{name} is {most}.", expected="a whole number from 1 on")


def shorten(splits: DatasetDict, max_train_samples: int | None, max_eval_samples: int | None, seed: int) -> DatasetDict:
    """At most so many random rows of training, and of each other split, in their order; None keeps all."""
    short = {}
    for split, rows in splits.items():
        most = max_train_samples if split == "train" else max_eval_samples
        if most is not None and most < len(rows):
            rows = rows.select(np.sort(np.random.default_rng(seed).permutation(len(rows))[:most]))
        short[split] = rows
    return DatasetDict(short)


def halve_validation(splits: DatasetDict, seed: int) -> DatasetDict:
    """Give half of the validation split to calibration, no group and no text cut, prompts or classes balanced.

    What chose a checkpoint has seen the scores it was chosen on: calibration and intervals need rows of their own.

    Args:
        splits: Splits with a column group_id or story_id; text or context, and prompt_id, target or answerable, are heeded where
            they are there.
        seed: Seed of the cut.

    Returns:
        The splits, with validation halved and its other half as "calibration". Where validation is one group it cannot be
        cut, and serves as both.
    """
    rows = splits["validation"]
    names, streaming = rows.column_names, is_on_disk(rows)
    texts = [text_keys(column_values(rows, c)) for c in ("text", "context") if c in names]
    strata = next((column_values(rows, c) for c in ("prompt_id", "target", "answerable") if c in names), [""] * len(rows))
    groups = connected_groups(column_values(rows, "group_id" if "group_id" in names else "story_id"), *texts, streaming=streaming)
    if groups.max() == groups.min():
        logger.warning("validation cannot be halved: the same rows choose the checkpoint and calibrate")
        return DatasetDict({**splits, "calibration": rows})
    folds = fold_numbers(groups, strata, 2, seed, streaming)
    halves = {"validation": select_rows(rows, folds == 1), "calibration": select_rows(rows, folds == 0)}
    return DatasetDict({**splits, **halves})


def text_key(text: str) -> str:
    """What two texts share that differ in case and white space alone."""
    return " ".join(text.lower().split())


def text_keys(texts: Iterable[str]) -> Iterator[str]:
    """`text_key` of each."""
    return map(text_key, texts)


def find_leaks(splits: DatasetDict, columns: Sequence[str]) -> list[tuple[str, str, str, int, int]]:
    """Rows of two splits that share a value.

    Args:
        splits: The splits.
        columns: String columns to compare; '' is no value. Case and white space do not count.

    Returns:
        (column, split, other split, row in split, row in other split) for each shared value, rows counted from 0.
    """
    leaks = []
    for column in columns if len(splits) > 1 else ():
        texts = {name: text_keys(map(str, column_values(rows, column))) for name, rows in splits.items()}
        keys = {name: keys_of(texts[name], is_on_disk(rows)) for name, rows in splits.items()}
        leaks += [(column, *leak) for leak in shared_keys(keys)]
    return leaks


def shared_keys(keys: dict[str, np.ndarray]) -> list[tuple[str, str, int, int]]:
    """Rows of two splits that share a key.

    Args:
        keys: Split -> the key of each row, see `keys_of`; 0 is no value.

    Returns:
        (split, other split, row in split, row in other split) for each row of a split that has the key of an earlier one.
    """
    leaks, names = [], list(keys)
    known, split_of, row_of = np.empty(0, np.uint64), np.empty(0, np.int8), np.empty(0, np.int64)
    for number, name in enumerate(names):
        own = keys[name]
        place = np.searchsorted(known, own)
        before = (own != 0) & (place < len(known))
        before[before] = known[place[before]] == own[before]
        leaks += [(names[split_of[place[row]]], name, int(row_of[place[row]]), int(row)) for row in np.flatnonzero(before)]
        rows = np.flatnonzero(~before & (own != 0))
        new, first = np.unique(own[rows], return_index=True)
        known = np.concatenate([known, new])
        split_of = np.concatenate([split_of, np.full(len(new), number, np.int8)])
        row_of = np.concatenate([row_of, rows[first]])
        order = np.argsort(known)
        known, split_of, row_of = known[order], split_of[order], row_of[order]
    return leaks
