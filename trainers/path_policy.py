"""A trained policy at work: which concept next, of those that the two masks allow, and when an exception is worth it.

Strictly heeded, `prerequisites_met` can lock a learner in: where the way to a goal leads over a concept whose own prerequisites
lie elsewhere, nothing that is allowed ever gets there. So a concept that is not met may be taken where it promises much more than
all that are: `exception_at` is how much, and it is chosen so that exceptions stay within what a teacher accepts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from .best_lr import count_answers
from .models.path_transformer import PathTransformer
from .path_settings import PathSettings, path_tokens
from .simulators import Seen

MOST_CELLS = 4_000_000  # outcomes that are computed at once


@dataclass
class PathPolicy:
    """A policy for `simulators.play`. It reads what a `Seen` holds, and estimates mastery from the answers.

    Attributes:
        model: The trained transformer, in evaluation mode.
        settings: Its settings.
        heed_prerequisites: False leaves the mask `prerequisites_met` out, to see what it is for.
    """

    model: PathTransformer
    settings: PathSettings
    heed_prerequisites: bool = True

    def __call__(self, seen: Seen, rng: np.random.Generator) -> np.ndarray:
        """The next concept of each learner, int array (learners,)."""
        made = self.settings.steps - seen.steps_left
        mastery = self.settings.estimator.along(seen.concepts, seen.correct)[:, -1 - made :]
        worth = self.worth(seen.concepts, seen.correct, mastery, seen.goals, seen.steps_left)
        return self.choose(worth, seen.reachable, mastery[:, -1])

    def choose(self, worth: np.ndarray, reachable: np.ndarray, mastery: np.ndarray) -> np.ndarray:
        """The move of most worth that is reachable, and whose prerequisites are met or which is worth an exception.

        Args:
            worth: Float array (learners, concepts), see `worth`.
            reachable: Bool array (learners, concepts), at least one in each row.
            mastery: Float array (learners, concepts), estimated.

        Returns:
            Int array (learners,).
        """
        allowed, price = reachable, 0.0
        if self.heed_prerequisites:
            allowed = self.settings.rules.allowed(reachable, mastery, self.settings.met_at)
            price = np.inf if self.settings.exception_at is None else self.settings.exception_at
        return np.where(allowed, worth, np.where(reachable, worth - price, -np.inf)).argmax(1)

    @torch.no_grad()
    def worth(
        self, concepts: np.ndarray, correct: np.ndarray, mastery: np.ndarray, goals: np.ndarray, steps_left: int
    ) -> np.ndarray:
        """What each next move is worth.

        Args:
            concepts: Int array (learners, answers), from 0.
            correct: Int array (learners, answers).
            mastery: Float array (learners, moves, concepts), estimated before each move of the path so far and before the next.
            goals: Bool array (learners, concepts).
            steps_left: Moves that are left, this one included.

        Returns:
            Float array (learners, concepts): the share of the goals that is expected to be answered rightly at the end.
        """
        config, device, n = self.model.config, self.model.device, mastery.shape[2]
        mastery = mastery[:, -config.steps :]
        at = concepts.shape[1] - np.arange(mastery.shape[1])[::-1]
        tokens = path_tokens(concepts, correct, count_answers(concepts, correct, n), mastery, at, steps_left)
        inputs = {name: torch.from_numpy(np.ascontiguousarray(values)).to(device) for name, values in tokens.items()}
        states = self.model(**inputs).states[:, -1]
        aims = torch.from_numpy(goals.astype(np.float32)).to(device)
        if self.settings.decode == "return":
            reachable = self.settings.rules.reachable(self.settings.rules.places(concepts)[:, -1])
            told = torch.from_numpy(reachable.copy()).to(device)
            return self.model.promises(states, aims, told).cpu().numpy().astype(float)
        each = max(1, MOST_CELLS // config.num_concepts**2)
        found = [
            torch.einsum("lmc,lc->lm", self.model.outcomes(s, m), g)
            for s, m, g in zip(states.split(each), inputs["mastery"][:, -1].split(each), aims.split(each), strict=True)
        ]
        return torch.cat(found).cpu().numpy().astype(float) / goals.sum(1, keepdims=True)
