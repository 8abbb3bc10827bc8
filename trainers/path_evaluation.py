"""How policies are judged: by play with learners of their own, in pairs, with an interval of the difference."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .baselines.learning_path import PRIVILEGED
from .intervals import paired_interval
from .models.path_transformer import PathTransformer
from .parser import ConfigurationError
from .path_policy import PathPolicy
from .path_settings import DECODES, Cohort, PathSettings
from .simulators import Policy, Simulator, play

logger = logging.getLogger(__name__)

MEASURES = ("ep", "waste", "violations")
MET_AT = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
"""Shares of the way from `mastered_at` to 1 that are tried for `met_at`."""
EXCEPTIONS = (0.0, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.15)
"""What is tried for `exception_at`, from the most exceptions to the least; the last resort is none."""


def judge(
    systems: Mapping[str, Callable[[Simulator], Policy]], cohorts: Sequence[Cohort], steps: int
) -> dict[str, dict[str, np.ndarray]]:
    """Let every policy teach every cohort: the same learners with the same luck.

    Only the policy called `PRIVILEGED` may look at the truth.

    Args:
        systems: Name -> what makes the policy for a simulator.
        cohorts: The learners.
        steps: Moves of an episode.

    Returns:
        Name -> each of `MEASURES` -> float array (cohorts,), the mean over the cohort's learners.

    Raises:
        PermissionError: Another policy looked at the truth.
    """
    table = {}
    for name, make in systems.items():
        table[name] = _teach(make, cohorts, steps, sealed=name != PRIVILEGED)
        logger.info("%s: %s", name, ", ".join(f"{m} {v.mean():.3f}" for m, v in table[name].items()))
    return table


def _teach(
    make: Callable[[Simulator], Policy], cohorts: Sequence[Cohort], steps: int, sealed: bool = True
) -> dict[str, np.ndarray]:
    rows = []
    for cohort in cohorts:
        with cohort.simulator.sealed() if sealed else contextlib.nullcontext():
            _, outcome = play(cohort.simulator, make(cohort.simulator), cohort.learners, steps, cohort.seed)
        rows.append(outcome.means())
    return {measure: np.array([row[measure] for row in rows]) for measure in MEASURES}


def summarize(table: Mapping[str, Mapping[str, np.ndarray]], ours: str) -> tuple[dict[str, dict], dict[str, dict]]:
    """Means over cohorts, and intervals of Ep and of our lead in Ep, paired by cohort.

    Returns:
        Name -> measure -> mean; and name -> {"interval", "behind"}, 95%, Student's.
    """
    means = {name: {measure: float(values.mean()) for measure, values in rows.items()} for name, rows in table.items()}
    intervals = {name: {"interval": list(paired_interval(rows["ep"]))} for name, rows in table.items()}
    for name, rows in table.items():
        if name != ours:
            intervals[name]["behind"] = list(paired_interval(table[ours]["ep"] - rows["ep"]))
    return means, intervals


def check_apart(logged: Sequence[str], judging: Sequence[str]) -> None:
    """Refuse learners who are judged and stand in the logs too, or in those the masks were chosen on.

    Raises:
        ConfigurationError: Two cohorts have one label.
    """
    both = sorted(set(logged) & set(judging))
    if both:
        raise ConfigurationError(
            f"the learners of '{both[0]}' are judged and stand in the logs: what is learnt of them is no result."
        )


def choose_masks(
    model: PathTransformer, settings: PathSettings, cohorts: Sequence[Cohort], most_violations: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Choose `decode`, `met_at` and `exception_at` on cohorts that are neither logged nor judged; written into `settings`.

    `met_at` is the lowest that keeps violations within half of what is accepted, `exception_at` the lowest that keeps them within
    nine tenths of it: the judged learners are others.

    Args:
        model: The trained transformer.
        settings: Changed in place.
        cohorts: The learners.
        most_violations: Share of moves, 0 to 1.

    Returns:
        Every trial: decode, met_at, exception_at, and the means of `MEASURES`. And decode, met_at and exception_at of the best
        trial of each decode, the one that was taken first.
    """
    trials: list[dict[str, Any]] = []

    def attempt(**choice: Any) -> dict[str, Any]:
        tried = PathPolicy(model, dataclasses.replace(settings, **choice))
        found = _teach(lambda _: tried, cohorts, settings.steps)
        trials.append({**choice, **{m: float(found[m].mean()) for m in MEASURES}})
        return trials[-1]

    def lowest(option: str, values: Sequence[float], most: float, **others: Any) -> dict[str, Any] | None:
        """The trial with the lowest value that keeps violations within `most`, by halving; None where none does."""
        low, high, found = 0, len(values), None
        while low < high:
            middle = (low + high) // 2
            tried = attempt(**others, **{option: values[middle]})
            if tried["violations"] <= most:
                found, high = tried, middle
            else:
                low = middle + 1
        return found

    levels = [round(settings.mastered_at + share * (1 - settings.mastered_at), 3) for share in MET_AT]

    def merit(trial: dict[str, Any]) -> tuple[bool, float]:
        """Within the violations that are accepted Ep counts; beyond, how few they are."""
        within = trial["violations"] <= most_violations
        return within, trial["ep"] if within else -trial["violations"]

    best = []
    for decode in DECODES:
        how = {"decode": decode, "exception_at": None}
        if not settings.edges:  # nothing can be violated
            best.append(attempt(**how, met_at=levels[0]))
            continue
        strict = lowest("met_at", levels, most_violations / 2, **how) or attempt(**how, met_at=levels[-1])
        how["met_at"] = strict["met_at"]
        del how["exception_at"]
        eased = lowest("exception_at", EXCEPTIONS, 0.9 * most_violations, **how) or strict
        best.append(max(strict, eased, key=merit))
    best.sort(key=merit, reverse=True)
    chosen = [{k: trial[k] for k in ("decode", "met_at", "exception_at")} for trial in best]
    settings.decode, settings.met_at, settings.exception_at = chosen[0].values()
    logger.info("masks: %s", ", ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in best[0].items()))
    return trials, chosen
