"""How far two ratings agree: exact, adjacent, correlation, standardized mean difference, error."""

import datasets
import evaluate
import numpy as np


def agreement(predictions: np.ndarray, references: np.ndarray, step: float = 1) -> dict[str, float]:
    """Agreement of machine and human scores.

    Args:
        predictions: Float array (rows,), machine scores in rubric units.
        references: Float array (rows,), human scores in rubric units.
        step: Distance of neighbouring scores.

    Returns:
        exact_agreement: share of equal scores, 0 to 1.
        adjacent_agreement: share of scores at most one step apart, 0 to 1.
        pearsonr: -1 to 1; 0 where one of them is constant.
        standardized_mean_difference: (mean machine - mean human) / sd human, in human standard deviations, the
            definition of Williamson, Xi and Breyer (2012) with the human sd; 0 where the humans are constant.
        mean_absolute_error, root_mean_squared_error: in rubric units.
    """
    a, b = np.asarray(predictions, float), np.asarray(references, float)
    gap = np.abs(a - b)
    correlated = a.std() > 0 and b.std() > 0
    return {
        "exact_agreement": float(np.mean(gap < step / 2)),
        "adjacent_agreement": float(np.mean(gap < 1.5 * step)),
        "pearsonr": float(np.corrcoef(a, b)[0, 1]) if correlated else 0.0,
        "standardized_mean_difference": float((a.mean() - b.mean()) / b.std()) if b.std() > 0 else 0.0,
        "mean_absolute_error": float(gap.mean()),
        "root_mean_squared_error": float(np.sqrt(np.mean(gap**2))),
    }


class Agreement(evaluate.Metric):
    """`Agreement().compute(predictions=[2, 3], references=[2, 4])`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=agreement.__doc__,
            citation="Williamson, Xi and Breyer (2012). A framework for evaluation and use of automated scoring. EM:IP 31(1).",
            inputs_description="predictions and references: scores in rubric units",
            features=datasets.Features({"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}),
        )

    def _compute(self, predictions, references, step=1) -> dict[str, float]:
        return agreement(predictions, references, step)
