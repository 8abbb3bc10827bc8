"""Where a learner can go on: two masks over concepts, and the chain of prerequisites that a concept stands in for.

`reachable` and `prerequisites_met` are two notions. Reachable is what lies near the concept that was learnt last; a move
elsewhere teaches nothing. Met is whether the learner has mastered what comes before. A path that heeds the first alone sends
learners to what they cannot understand yet; one that heeds the second alone wastes its moves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .parser import ConfigurationError


class PathRules:
    """The rules of a path over a graph of prerequisites, for many learners at once.

    Args:
        n_concepts: Number of concepts.
        edges: Pairs (before, after) of concept numbers, without circles.
        near_only: Whether a learner goes on near the last concept alone; else everything offered is reachable.
        offered: Numbers of the concepts that can be learnt; all where not given.

    Attributes:
        order: All concepts, what needs fewest others, the indirect ones among them, first; by number where that is equal.
    """

    def __init__(
        self, n_concepts: int, edges: Sequence[Sequence[int]], near_only: bool = False, offered: Sequence[int] | None = None
    ):
        self.n_concepts, self.near_only = n_concepts, near_only
        self.before = np.zeros((n_concepts, n_concepts), dtype=bool)  # whether the second is a prerequisite of the first
        for first, then in edges:
            self.before[then, first] = True
        after = self.before.T
        around = after | self.before
        self.near = np.eye(n_concepts, dtype=bool) | around | (self.before.astype(np.int32) @ around > 0)
        self.leads = np.eye(n_concepts, dtype=bool)  # whether the first is the second, or comes before it
        while True:
            further = self.leads | (after.astype(np.int32) @ self.leads > 0)
            if (further == self.leads).all():
                break
            self.leads = further
        self.offered = np.zeros(n_concepts, dtype=bool)
        self.offered[list(range(n_concepts) if offered is None else offered)] = True
        self.order = np.argsort(self.leads.sum(0), kind="stable")  # a concept has more before it than each of those has

    def places(self, concepts: np.ndarray) -> np.ndarray:
        """Where learners stood before each move and after the last: a move out of reach leads nowhere.

        Args:
            concepts: Int array (learners, moves), the oldest first.

        Returns:
            Int array (learners, moves + 1); -1 before the first.
        """
        where = np.full((len(concepts), concepts.shape[1] + 1), -1)
        for step, move in enumerate(concepts.T):
            here = where[:, step]
            went = self.reachable(here)[np.arange(len(here)), move]
            where[:, step + 1] = np.where(went, move, here)
        return where

    def reachable(self, places: np.ndarray) -> np.ndarray:
        """Bool array (..., concepts): where learners can go on from `places`; from -1, everywhere."""
        if not self.near_only:
            return np.broadcast_to(self.offered, (*places.shape, self.n_concepts))
        return ((places < 0)[..., None] | self.near[places]) & self.offered

    def support(self, mastery: np.ndarray) -> np.ndarray:
        """The mastery of the weakest prerequisite of each concept, 1 where it has none.

        Args:
            mastery: Float array (learners, concepts), 0 to 1.
        """
        found = np.ones_like(mastery)
        for concept in np.flatnonzero(self.before.any(1)):
            found[:, concept] = mastery[:, self.before[concept]].min(1)
        return found

    def prerequisites_met(self, mastery: np.ndarray, at_least: float) -> np.ndarray:
        """Bool array (learners, concepts): whether all prerequisites are mastered to the degree `at_least`."""
        return self.support(mastery) >= at_least

    def allowed(self, reachable: np.ndarray, mastery: np.ndarray, at_least: float) -> np.ndarray:
        """Both masks at once; where they leave nothing, what is reachable and best supported.

        Args:
            reachable: Bool array (learners, concepts), at least one in each row.
            mastery: Float array (learners, concepts), 0 to 1, estimated.
            at_least: See `prerequisites_met`.

        Raises:
            ConfigurationError: A learner can go nowhere.
        """
        if not reachable.any(1).all():
            raise ConfigurationError("a learner can go nowhere: every concept is skipped, mastered or out of reach.")
        support = self.support(mastery)
        both = reachable & (support >= at_least)
        best = np.where(reachable, support, -1.0).max(1, keepdims=True)
        return np.where(both.any(1, keepdims=True), both, reachable & (support >= best))

    def leads_to(self, goals: np.ndarray) -> np.ndarray:
        """Bool array (learners, concepts): the goals and all that comes before any of them."""
        return np.asarray(goals, np.int32) @ self.leads.T.astype(np.int32) > 0

    def chain(self, concept: int, goal: int) -> list[int]:
        """A shortest chain of prerequisites from `concept` to `goal`, both included; empty where none leads there."""
        came: dict[int, int] = {concept: -1}
        line = [concept]
        for here in line:
            if here == goal:
                break
            for then in np.flatnonzero(self.before[:, here]).tolist():
                if then not in came:
                    came[then] = here
                    line.append(then)
        if goal not in came:
            return []
        chain = [goal]
        while came[chain[-1]] >= 0:
            chain.append(came[chain[-1]])
        return chain[::-1]
