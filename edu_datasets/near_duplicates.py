"""Texts that say nearly the same: copies, second prints, re-uploads.

Two texts are near-duplicates where their words are equal without case and punctuation, or where, from `LEAST_WORDS` words on,
their sets of three-word shingles have a Jaccard similarity of `SIMILARITY` at least. Candidates are found by MinHash in bands
(Broder 1997), so that no text is compared with all others, and each candidate is checked against its true similarity.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from .row_arrays import first_rows, key_of, zeros

LEAST_WORDS = 8
SIMILARITY = 0.8
BANDS, ROWS = 16, 4  # a pair of similarity 0.8 meets in some band with a probability of 0.9998


def near_duplicate_groups(texts: Sequence[str], streaming: bool = False) -> np.ndarray:
    """Number the groups of texts that are near-duplicates, directly or through others.

    Args:
        texts: The texts; '' is nobody's duplicate.
        streaming: Keep the signatures (128 bytes a text) on disk; `texts` is read once in order, and candidates once more.

    Returns:
        int64 array of shape (texts,): the group of each text.

    >>> near_duplicate_groups(["Area of a circle", "area of a circle!", "Angles", ""]).tolist()
    [0, 0, 1, 2]
    """
    n, rng = len(texts), np.random.default_rng(0)
    times, plus = rng.integers(1, 2**63, (2, BANDS * ROWS), dtype=np.uint64) | np.uint64(1)
    mix = rng.integers(1, 2**63, ROWS, dtype=np.uint64) | np.uint64(1)
    bands = zeros((BANDS, n), np.uint64, streaming)
    whole = np.zeros(n, np.uint64)
    for i, text in enumerate(texts):
        if named := _words(text):
            whole[i] = key_of(" ".join(named))
            if len(named) >= LEAST_WORDS:
                smallest = (_shingles(named)[:, None] * times + plus >> np.uint64(32)).min(0).reshape(BANDS, ROWS)
                bands[:, i] = (smallest * mix).sum(1) | np.uint64(1)  # 0 has no signature
    a, b = _with_first(whole)
    found = np.unique(np.concatenate([i * n + other for i, other in map(_with_first, bands)]))

    @functools.lru_cache(maxsize=256)
    def shingles(row: int) -> np.ndarray:
        return _shingles(_words(texts[row]))

    near = np.zeros(len(found), bool)
    for k, pair in enumerate(found):
        one, other = map(shingles, divmod(int(pair), n))
        shared = len(np.intersect1d(one, other, assume_unique=True))
        near[k] = shared >= SIMILARITY * (len(one) + len(other) - shared)
    more = np.divmod(found[near], n)
    a, b = np.concatenate([a, more[0]]), np.concatenate([b, more[1]])
    graph = coo_matrix((np.ones(len(a), bool), (a, b)), shape=(n, n))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _with_first(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows whose key stood before, and for each the first that has it; 0 is no key."""
    first = first_rows(keys)
    later = np.flatnonzero(first != np.arange(len(keys)))
    return later, first[later].astype(np.int64)


def _shingles(words: Sequence[str]) -> np.ndarray:
    """The hashes of all three words in a row, each once, sorted; the same in every process."""
    known = {w: int.from_bytes(hashlib.blake2b(w.encode("utf-8", "surrogatepass"), digest_size=8).digest()) for w in set(words)}
    h = np.array([known[w] for w in words], dtype=np.uint64)
    mixed = (h[:-2] * np.uint64(3) ^ h[1:-1] * np.uint64(5)) + h[2:]
    return np.unique(mixed * np.uint64(0x9E3779B97F4A7C15))
