"""Quadratic weighted kappa as an `evaluate` metric that needs no network."""

import datasets
import evaluate
import numpy as np


def quadratic_weighted_kappa(
    predictions: np.ndarray, references: np.ndarray, low: float | None = None, high: float | None = None, step: float = 1
) -> float:
    """Agreement of two ratings beyond chance, disagreements weighed by their square (Cohen 1968).

    Args:
        predictions: Float array (rows,) of scores on the grid low, low + step, ..., high.
        references: Likewise.
        low: Lowest score that can be given; None where scores may be anything, as two raters' may.
        high: Highest score that can be given, or None.
        step: Distance of neighbouring scores.

    Returns:
        -1 to 1; 0 is chance, 1 is perfect. 0 where both ratings are one and the same constant.

    Raises:
        ValueError: A score is off the grid or outside the range, or there are no rows.
    """
    a, b = (np.asarray(x, float) for x in (predictions, references))
    if len(a) == 0 or len(a) != len(b):
        raise ValueError(f"kappa needs two ratings of the same rows, got {len(a)} and {len(b)}")
    for values in (a, b) if low is not None else ():
        steps = (values - low) / step
        if not (np.allclose(steps, np.rint(steps)) and steps.min() > -0.5 and steps.max() < (high - low) / step + 0.5):
            raise ValueError(f"a score is not on the grid {low:g} to {high:g} in steps of {step:g}")
    # with quadratic weights kappa is a ratio of mean squared differences: no matrix is needed, and the range cancels
    expected = a.var() + b.var() + (a.mean() - b.mean()) ** 2
    return float(1 - np.mean((a - b) ** 2) / expected) if expected > 0 else 0.0


class QuadraticWeightedKappa(evaluate.Metric):
    """`QuadraticWeightedKappa().compute(predictions=[2, 3], references=[2, 4], low=1, high=6)`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=quadratic_weighted_kappa.__doc__,
            citation="Cohen, J. (1968). Weighted kappa. Psychological Bulletin 70(4).",
            inputs_description="predictions and references: scores on the grid low, low + step, ..., high",
            features=datasets.Features({"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}),
        )

    def _compute(self, predictions, references, low, high, step=1) -> dict[str, float]:
        return {"quadratic_weighted_kappa": quadratic_weighted_kappa(predictions, references, low, high, step)}
