"""How good predicted outcomes are: ranking, alerts within a budget, calibration, error, and whether groups fare alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.metrics import f1_score, roc_curve

from .fairness import merge_small
from .intervals import bootstrap_counts, bootstrap_interval, interval_of
from .metrics.probabilities import auc_draws, probability_metrics

BUDGETS = (0.1, 0.2)
"""Shares of learners that somebody has the time to look after."""
GRID = np.linspace(0, 1, 201)  # of false positive rates, for ABROCA


def class_metrics(probabilities: np.ndarray, target: np.ndarray, positive: int, time: np.ndarray) -> dict[str, float]:
    """Metrics of a classifier; the positive class against the rest is what an alert is for.

    Args:
        probabilities: Float array (rows, classes).
        target: Int array (rows,), class numbers.
        positive: The number of the class an alert is for.
        time: Float array (rows,), days from the prediction to the outcome, nan unknown.

    Returns:
        Those of `probability_metrics` for the positive class, with accuracy and macro_f1 of the most probable of all classes;
        recall_at_10_percent, recall_at_20_percent: share of the positive rows among the 10% and 20% that are most probable;
        lead_days_at_20_percent, the mean of `time` over the positive rows among them, where known.
    """
    p, y = probabilities[:, positive], (target == positive).astype(int)
    guess = probabilities.argmax(axis=1)
    result = probability_metrics(p, y)
    result |= {"accuracy": float(np.mean(guess == target))}
    result |= {"macro_f1": float(f1_score(target, guess, average="macro", zero_division=0))}
    order = np.argsort(-p, kind="stable")
    for budget in BUDGETS:
        alerted = order[: max(1, round(budget * len(p)))]
        result[f"recall_at_{round(100 * budget)}_percent"] = float(y[alerted].sum() / max(y.sum(), 1))
        lead = time[alerted][(y[alerted] == 1) & ~np.isnan(time[alerted])]
    if len(lead):
        result["lead_days_at_20_percent"] = float(lead.mean())
    return result


def regression_metrics(predicted: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """root_mean_squared_error and mean_absolute_error in units of the target; r2, 1 is perfect and 0 the mean of the rows."""
    error = predicted - target
    return {
        "root_mean_squared_error": float(np.sqrt(np.mean(error**2))),
        "mean_absolute_error": float(np.mean(np.abs(error))),
        "r2": float(1 - np.mean(error**2) / np.var(target)) if np.var(target) > 0 else 0.0,
    }


def fit_vector_scaling(logits: np.ndarray, target: np.ndarray, strength: float = 1.0) -> tuple[float, list[float]]:
    """Temperature and a bias for each class that make softmax probabilities mean what they say (Guo et al. 2017).

    Args:
        logits: Float array (rows, classes), of rows that chose nothing.
        target: Int array (rows,).
        strength: Of the pull of the biases to 0 and of the temperature to 1, in rows: few rows move little.

    Returns:
        (temperature, biases).
    """
    classes = logits.shape[1]

    def cost(parameters: np.ndarray) -> float:
        scaled = logits * np.exp(parameters[0]) + parameters[1:]
        top = scaled.max(axis=1)
        likelihood = scaled[np.arange(len(target)), target] - top - np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float(-likelihood.sum() + strength * (parameters**2).sum())

    found = minimize(cost, np.zeros(classes + 1), method="L-BFGS-B").x
    return float(np.exp(-found[0])), (found[1:] - found[1:].mean()).tolist()


def outcome_intervals(
    systems: dict[str, np.ndarray], target: np.ndarray, groups: Sequence, ours: str, seed: int, regression: bool
) -> dict[str, dict[str, list[float]]]:
    """95% interval of each system's AUC (or RMSE), and of ours minus it, drawing learners.

    Args:
        systems: Name -> probability of the positive class, or value; float array (rows,).
        target: 1 where the positive class came, else 0; or the values.
        groups: The learner of each row.
        ours: Which system is the recipe's.
        seed: Of the draws.
        regression: Whether it is RMSE.
    """
    counts = bootstrap_counts(groups, seed=seed)
    draws = {
        name: np.sqrt((counts @ (p - target) ** 2) / counts.sum(axis=1)) if regression else auc_draws(p, target, counts)
        for name, p in systems.items()
    }
    table = {name: {"interval": list(interval_of(values))} for name, values in draws.items()}
    for name, values in draws.items():
        if name != ours:
            table[name]["behind"] = list(interval_of(draws[ours] - values))
    return table


def group_rates(
    p: np.ndarray, y: np.ndarray, threshold: float, groups: Sequence[str], learners: Sequence, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """For each group against all others: false positive and false negative rate of the alert, and ABROCA.

    ABROCA (Gardner, Brooks and Baker 2019) is the area between two ROC curves; chance alone makes it positive, so it comes with
    what it is when learners are dealt to the groups at random (95th percentile of 200 deals).

    Args:
        p: Float array (rows,), probability of the positive class.
        y: Int array (rows,), 1 where it came.
        threshold: An alert is given from here on.
        groups: The group of each row, '' unknown.
        learners: Whom the bootstrap draws, and who are counted: groups of few are merged or hidden.
        seed: Of draws and deals.

    Returns:
        group -> n, false_positive_rate, false_negative_rate, false_positive_gap and false_negative_gap (the group minus all
        others), each gap with "..._interval" (95%); abroca, abroca_by_chance. Only groups with both outcomes on both sides.
    """
    merged, learners = merge_small(groups, learners), np.asarray(learners)
    known, alert = merged != "", p >= threshold
    table: dict[str, dict[str, Any]] = {}
    rng = np.random.default_rng(seed)
    for group in sorted(set(merged[known].tolist())):
        inside = (merged == group) & known
        outside = ~inside & known
        if not all(0 < y[side].sum() < side.sum() for side in (inside, outside)):
            continue
        row: dict[str, Any] = {"n": int(inside.sum())}
        for kind, wrong, of in (("positive", alert, y == 0), ("negative", ~alert, y == 1)):

            def gap(rows: np.ndarray, wrong=wrong, of=of, inside=inside, outside=outside) -> float:
                sides = [rows[side[rows] & of[rows]] for side in (inside, outside)]
                return wrong[sides[0]].mean() - wrong[sides[1]].mean() if all(map(len, sides)) else float("nan")

            rows = np.flatnonzero(known)
            row[f"false_{kind}_rate"] = float(wrong[inside & of].mean())
            row[f"false_{kind}_gap"] = float(gap(rows))
            drawn = bootstrap_interval(lambda at, gap=gap, rows=rows: gap(rows[at]), learners[rows], draws=300, seed=seed)
            row[f"false_{kind}_gap_interval"] = list(drawn)
        row["abroca"] = abroca(p[known], y[known], inside[known])
        chance = [abroca(p[known], y[known], rng.permutation(inside[known])) for _ in range(200)]
        row["abroca_by_chance"] = float(np.nanquantile(chance, 0.95))
        table[group] = row
    return table


def abroca(p: np.ndarray, y: np.ndarray, inside: np.ndarray) -> float:
    """Area between the ROC curves of two groups, 0 to 1; nan where one of them lacks an outcome."""
    curves = []
    for side in (inside, ~inside):
        if not 0 < y[side].sum() < side.sum():
            return float("nan")
        false_rate, true_rate, _ = roc_curve(y[side], p[side])
        curves.append(np.interp(GRID, false_rate, true_rate))
    return float(np.trapezoid(np.abs(curves[0] - curves[1]), GRID))
