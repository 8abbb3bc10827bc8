"""Which concept comes before which: a graph without cycles, and how to make one of prerequisites that go round in circles."""

from __future__ import annotations

import functools
import heapq
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from .errors import DataError


class ConceptGraph:
    """Prerequisites among concepts.

    Args:
        names: The ids of the concepts; concept number 0 is the first.
        edges: Pairs (before, after) of concept numbers, shape (edges, 2).

    Raises:
        DataError: The prerequisites go round in a circle, or a concept is its own prerequisite.
    """

    def __init__(self, names: Sequence[str], edges: Iterable[Sequence[int]]):
        self.names = list(names)
        self.edges = np.array(sorted({(int(a), int(b)) for a, b in edges}), dtype=np.int64).reshape(-1, 2)
        self.adjacency = adjacency(len(self.names), self.edges)
        if circle := find_circle(len(self.names), self.edges):
            raise DataError(f"the prerequisites go round in a circle: {' -> '.join(self.names[c] for c in circle)}.")

    def __len__(self) -> int:
        return len(self.names)

    @functools.cached_property
    def topological_order(self) -> np.ndarray:
        """All concept numbers, none before a prerequisite; among those that may come next, the first in `names`."""
        missing = np.asarray(self.adjacency.sum(0), dtype=np.int64).ravel()
        ready = np.flatnonzero(missing == 0).tolist()
        order = []
        while ready:
            order.append(heapq.heappop(ready))
            for after in self.adjacency[order[-1]].indices:
                missing[after] -= 1
                if missing[after] == 0:
                    heapq.heappush(ready, int(after))
        return np.array(order, dtype=np.int64)

    @functools.cached_property
    def closure(self) -> csr_matrix:
        """(concepts, concepts), 1 where a chain of prerequisites leads from the row to the column."""
        return closure(self.adjacency)


def adjacency(n: int, edges: np.ndarray) -> csr_matrix:
    """(n, n), 1 where the row is a prerequisite of the column."""
    before, after = np.asarray(edges, dtype=np.int64).reshape(-1, 2).T
    matrix = csr_matrix((np.ones(len(before), np.int32), (before, after)), shape=(n, n))
    matrix.data[:] = 1
    return matrix


def closure(matrix: csr_matrix) -> csr_matrix:
    """(n, n), 1 where a chain of one edge or more leads from the row to the column; cycles are allowed."""
    found = matrix.astype(np.int32)
    while True:
        more = found + found @ matrix
        more.data[:] = 1
        if more.nnz == found.nnz:
            return found
        found = more


def find_circle(n: int, edges: np.ndarray) -> list[int] | None:
    """The shortest circle through the first concept that lies on one, its first concept again at the end; None without one."""
    matrix = adjacency(n, edges)
    _, knot = connected_components(matrix, directed=True, connection="strong")
    loops = matrix.diagonal() > 0
    inside = np.flatnonzero(loops | (np.bincount(knot, minlength=n)[knot] > 1))
    return _chain(matrix, inside[0], inside[0]) if len(inside) else None


def break_circles(n: int, edges: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int]], list[list[int]]]:
    """Remove edges until no circle is left.

    The rule: concepts that lead to each other are put in a line, greedily (Eades, Lin and Smyth 1993). One that is prerequisite
    of none of the rest goes to the end; else one that needs none of the rest, or else the one with the most edges to the rest
    less those from it, goes to the front; the first by number among equals. Edges that run against the line are removed.

    Returns:
        The edges that stay; those removed; for each of these a shortest circle that it closed.
    """
    edges = np.asarray(edges, dtype=np.int64).reshape(-1, 2)
    matrix = adjacency(n, edges)
    _, knot = connected_components(matrix, directed=True, connection="strong")
    place = np.zeros(n, dtype=np.int64)
    for number in np.flatnonzero(np.bincount(knot) > 1):
        rest = np.flatnonzero(knot == number)
        front, end = [], []
        while len(rest):
            inner = matrix[rest][:, rest]
            out, into = (np.asarray(inner.sum(axis)).ravel() for axis in (1, 0))
            pick = int(np.argmax(np.select([out == 0, into == 0], [2 * n, n], out - into)))
            (end if out[pick] == 0 else front).append(rest[pick])
            rest = np.delete(rest, pick)
        for i, concept in enumerate([*front, *reversed(end)]):
            place[concept] = i
    before, after = edges.T
    against = (knot[before] == knot[after]) & (place[before] >= place[after])
    removed = [(int(a), int(b)) for a, b in edges[against]]
    return edges[~against], removed, [[a, *_chain(matrix, b, a)] if a != b else [a, a] for a, b in removed]


def _chain(matrix: csr_matrix, start: int, goal: int) -> list[int]:
    """A shortest chain of one edge or more from `start` to `goal`."""
    came: dict[int, int] = {}
    line = [int(start)]
    for concept in line:
        for after in matrix[concept].indices:
            if int(after) not in came:
                came[int(after)] = concept
                line.append(int(after))
        if int(goal) in came:
            break
    chain = [int(goal), came[int(goal)]]
    while chain[-1] != int(start):
        chain.append(came[chain[-1]])
    return chain[::-1]
