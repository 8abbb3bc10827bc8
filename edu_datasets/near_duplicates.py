"""Texts that say nearly the same: copies, second prints, re-uploads.

Two texts are near-duplicates where their words are equal without case and punctuation, or where, from `LEAST_WORDS` words on,
their sets of three-word shingles have a Jaccard similarity of `SIMILARITY` at least. Candidates are found by MinHash in bands
(Broder 1997), so that no text is compared with all others, and each candidate is checked against its true similarity.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

LEAST_WORDS = 8
SIMILARITY = 0.8
BANDS, ROWS = 16, 4  # a pair of similarity 0.8 meets in some band with a probability of 0.9998


def near_duplicate_groups(texts: Sequence[str]) -> np.ndarray:
    """Number the groups of texts that are near-duplicates, directly or through others.

    Args:
        texts: The texts; '' is nobody's duplicate.

    Returns:
        int64 array of shape (texts,): the group of each text.

    >>> near_duplicate_groups(["Area of a circle", "area of a circle!", "Angles", ""]).tolist()
    [0, 0, 1, 2]
    """
    words = [re.findall(r"\w+", text.lower()) for text in texts]
    shingles = [_shingles(w) if len(w) >= LEAST_WORDS else None for w in words]
    rng = np.random.default_rng(0)
    times, plus = rng.integers(1, 2**63, (2, BANDS * ROWS), dtype=np.uint64) | np.uint64(1)
    first: dict[object, int] = {}
    edges = [(0, 0)]
    for i, (named, own) in enumerate(zip(words, shingles, strict=True)):
        if not named:
            continue
        edges.append((i, first.setdefault(" ".join(named), i)))
        if own is None:
            continue
        smallest = (own[:, None] * times + plus >> np.uint64(32)).min(0).reshape(BANDS, ROWS)
        for other in {first.setdefault((band, row.tobytes()), i) for band, row in enumerate(smallest)} - {i}:
            shared = len(np.intersect1d(own, shingles[other], assume_unique=True))
            if shared >= SIMILARITY * (len(own) + len(shingles[other]) - shared):
                edges.append((i, other))
    a, b = np.array(edges).T
    graph = coo_matrix((np.ones(len(a)), (a, b)), shape=(len(texts),) * 2)
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _shingles(words: Sequence[str]) -> np.ndarray:
    """The hashes of all three words in a row, each once, sorted; the same in every process."""
    known = {w: int.from_bytes(hashlib.blake2b(w.encode("utf-8", "surrogatepass"), digest_size=8).digest()) for w in set(words)}
    h = np.array([known[w] for w in words], dtype=np.uint64)
    mixed = (h[:-2] * np.uint64(3) ^ h[1:-1] * np.uint64(5)) + h[2:]
    return np.unique(mixed * np.uint64(0x9E3779B97F4A7C15))
