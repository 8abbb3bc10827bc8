"""What a path policy must beat: policies that need no training, one that sees the truth, and degrees for prerequisites."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ..path_settings import PathSettings
from ..simulators import Policy, Seen, Simulator, random_reachable

PRIVILEGED = "privileged: look-ahead on the true state"
"""A policy that cannot exist outside a simulator; a line to see how far there is to go, no baseline to beat."""


def path_baselines(settings: PathSettings) -> dict[str, Callable[[Simulator], Policy]]:
    """Name -> what makes the policy for a simulator; only the one called `PRIVILEGED` looks at it.

    random: any concept. random, reachable: any that is reachable. topological: what leads to the goals, in the order of
    `PathRules.order`, each as many times in a row as the moves allow; where these do not suffice, the first of them. greedy
    mastery: of what leads to the goals and is not mastered by the answers, the first in that order that is reachable. The
    privileged one takes what brings most mastery of the goals by the truth.
    """
    return {
        "random": lambda _: _anything,
        "random, reachable": lambda _: random_reachable,
        "topological": lambda _: _Topological(settings),
        "greedy mastery": lambda _: _GreedyMastery(settings),
        PRIVILEGED: _look_ahead,
    }


def _anything(seen: Seen, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, seen.goals.shape[1], len(seen.goals))


class _Topological:
    def __init__(self, settings: PathSettings):
        self.rules, self.steps = settings.rules, settings.steps

    def __call__(self, seen: Seen, rng: np.random.Generator) -> np.ndarray:
        order, done = self.rules.order, self.steps - seen.steps_left
        wanted = self.rules.leads_to(seen.goals)[:, order]
        place = done * np.minimum(wanted.sum(1), self.steps) // self.steps
        return order[(wanted.cumsum(1) > place[:, None]).argmax(1)]


class _GreedyMastery:
    def __init__(self, settings: PathSettings):
        self.settings, order = settings, settings.rules.order
        self.rank = np.empty(len(order), dtype=int)
        self.rank[order] = np.arange(len(order))

    def __call__(self, seen: Seen, rng: np.random.Generator) -> np.ndarray:
        settings, rules = self.settings, self.settings.rules
        mastery = settings.estimator.now(seen.concepts, seen.correct)
        wanted = seen.reachable & rules.leads_to(seen.goals) & (mastery < settings.mastered_at)
        first = np.where(wanted, self.rank, len(self.rank)).argmin(1)
        weakest = np.where(seen.reachable, mastery, 2.0).argmin(1)
        return np.where(wanted.any(1), first, weakest)


def _look_ahead(simulator: Simulator) -> Policy:
    def policy(seen: Seen, rng: np.random.Generator) -> np.ndarray:
        promise = np.where(seen.reachable, simulator.hidden_promise(seen.goals), -np.inf)
        # the goals alone may be worked out, and none of them reachable
        return np.where(np.isfinite(promise).any(1), promise.argmax(1), random_reachable(seen, rng))

    return policy


# ---- which concept comes first ---------------------------------------------------------------------------------------


def prerequisite_baselines(
    train: dict[str, np.ndarray], test: dict[str, np.ndarray], labels: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Logistic models of a pair, without text or with the untuned encoder.

    Args:
        train: Features -> float array (pairs, 2, width), of each pair and of the pair turned round, without what the pair itself
            adds to them. "node degree": how many training prerequisites start and end at either concept; "degree and paths";
            "untuned encoder"; all of these together.
        test: Likewise.
        labels: Int array (training pairs,).

    Returns:
        Name -> log odds that the first is a prerequisite of the second, and the same turned round; float arrays (test pairs,).
    """
    systems = {}
    for name, features in train.items():
        systems[name] = pair_scores(fit_pairs(features, labels), test[name])
    return systems


def fit_pairs(features: np.ndarray, labels: np.ndarray) -> Pipeline:
    """A scaler and a logistic regression of pairs and of the pairs turned round, which are no prerequisites.

    Args:
        features: Float array (pairs, 2, width).
        labels: Int array (pairs,).
    """
    both = np.concatenate([features[:, 0], features[:, 1]])
    target = np.concatenate([labels, np.zeros_like(labels)])
    strength = 0.01 if features.shape[2] > 50 else 1.0
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000)).fit(both, target)


def pair_scores(model: Pipeline, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log odds that the first is a prerequisite of the second, and the same turned round; two float arrays (pairs,)."""
    return tuple(model.decision_function(features[:, side]) for side in (0, 1))
