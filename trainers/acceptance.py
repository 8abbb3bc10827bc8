"""The acceptance gate of ETS for automated scores (Williamson, Xi and Breyer 2012), as code."""

from __future__ import annotations

import numpy as np

from .metrics.agreement import agreement
from .metrics.quadratic_weighted_kappa import quadratic_weighted_kappa

MIN_KAPPA = MIN_CORRELATION = 0.70
MAX_DEGRADATION = 0.10
MAX_MEAN_DIFFERENCE = 0.15


def is_sum(scores: np.ndarray, rater1: np.ndarray, rater2: np.ndarray) -> bool:
    """Whether a score is rather the sum of the two ratings than a score on the scale of one rater."""
    gap_to_sum = np.abs(scores - (rater1 + rater2))
    gap_to_mean = np.abs(scores - (rater1 + rater2) / 2)
    return bool(np.nanmean(gap_to_sum) < np.nanmean(gap_to_mean))


def acceptance(
    machine: np.ndarray,
    human: np.ndarray,
    rater1: np.ndarray,
    rater2: np.ndarray,
    low: float,
    high: float,
    step: float = 1,
) -> dict[str, float | bool | None]:
    """Machine scores of one prompt against the gate.

    Agreement of two humans is that of one rater with the other. Where the score is the sum of both, the machine is halved
    and rounded, and compared with each rater in turn: a machine that is compared with the sum looks better than any single
    human could, since the sum errs less than a rater does.

    Args:
        machine: Float array (rows,), rounded, in rubric units.
        human: Likewise, the score of record.
        rater1: Float array (rows,), nan where unknown.
        rater2: Likewise.
        low, high: The range of `human`.
        step: Distance of neighbouring scores.

    Returns:
        quadratic_weighted_kappa, pearsonr, standardized_mean_difference of machine and score of record; human_kappa and
        machine_rater_kappa on the scale of one rater, degradation (their difference), None without two ratings; passed,
        and failed: the names of the criteria that are not met.
    """
    values = agreement(machine, human, step)
    result: dict = {
        "quadratic_weighted_kappa": quadratic_weighted_kappa(machine, human, low, high, step),
        "pearsonr": values["pearsonr"],
        "standardized_mean_difference": values["standardized_mean_difference"],
        "human_kappa": None,
        "machine_rater_kappa": None,
        "degradation": None,
    }
    both = ~np.isnan(rater1) & ~np.isnan(rater2)
    if both.sum() > 1:
        machine, rater1, rater2 = machine[both], rater1[both], rater2[both]
        if is_sum(human[both], rater1, rater2):
            machine = step * np.floor(machine / 2 / step + 0.5)
        result["human_kappa"] = quadratic_weighted_kappa(rater1, rater2)
        kappas = [quadratic_weighted_kappa(machine, rater) for rater in (rater1, rater2)]
        result["machine_rater_kappa"] = float(np.mean(kappas))
        result["degradation"] = result["human_kappa"] - result["machine_rater_kappa"]
    criteria = {
        "quadratic_weighted_kappa": result["quadratic_weighted_kappa"] >= MIN_KAPPA,
        "pearsonr": result["pearsonr"] >= MIN_CORRELATION,
        "standardized_mean_difference": abs(result["standardized_mean_difference"]) <= MAX_MEAN_DIFFERENCE,
        "degradation": result["degradation"] is None or result["degradation"] <= MAX_DEGRADATION,
    }
    result["failed"] = [name for name, met in criteria.items() if not met]
    result["passed"] = not result["failed"]
    return result
