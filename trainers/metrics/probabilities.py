"""What probabilities of an event are worth: how well they rank, how often they are right, whether they mean what they say."""

import datasets
import evaluate
import numpy as np
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

BINS = 10


def probability_metrics(predictions: np.ndarray, references: np.ndarray, threshold: float = 0.5) -> dict[str, float]:
    """Metrics of predicted probabilities of an event.

    Args:
        predictions: Float array (rows,), 0 to 1.
        references: Int array (rows,), 1 where the event came, else 0.
        threshold: From where on a row counts as predicted to have the event.

    Returns:
        roc_auc: 0.5 is chance; nan where only one class is there.
        average_precision: area under precision over recall; the share of events is chance.
        accuracy, macro_f1: at the threshold, 0 to 1.
        brier_score, root_mean_squared_error: mean squared error of the probability, and its root.
        log_loss: in nats.
        expected_calibration_error: see `expected_calibration_error`.
    """
    p, y = np.asarray(predictions, float), np.asarray(references, int)
    both = 0 < y.sum() < len(y)
    inside = np.clip(p, 1e-7, 1 - 1e-7)
    brier = float(np.mean((p - y) ** 2))
    return {
        "roc_auc": float(roc_auc_score(y, p)) if both else float("nan"),
        "average_precision": float(average_precision_score(y, p)) if both else float("nan"),
        "accuracy": float(np.mean((p >= threshold) == y)),
        "macro_f1": float(f1_score(y, p >= threshold, average="macro", zero_division=0)),
        "brier_score": brier,
        "root_mean_squared_error": brier**0.5,
        "log_loss": float(-np.mean(y * np.log(inside) + (1 - y) * np.log(1 - inside))),
        "expected_calibration_error": expected_calibration_error(p, y),
    }


def reliability(predictions: np.ndarray, references: np.ndarray, bins: int = BINS) -> list[dict[str, float]]:
    """Rows in bins of equal width by predicted probability: mean prediction, share observed, rows; empty bins are left out."""
    p, y = np.asarray(predictions, float), np.asarray(references, float)
    number = np.minimum((p * bins).astype(int), bins - 1)
    rows, predicted, observed = (np.bincount(number, weights=w, minlength=bins) for w in (np.ones(len(p)), p, y))
    return [
        {"predicted": float(predicted[b] / rows[b]), "observed": float(observed[b] / rows[b]), "rows": int(rows[b])}
        for b in np.flatnonzero(rows)
    ]


def expected_calibration_error(predictions: np.ndarray, references: np.ndarray, bins: int = BINS) -> float:
    """Mean distance of prediction and share observed over the bins of `reliability`, weighed by rows (Naeini et al. 2015)."""
    table = reliability(predictions, references, bins)
    return sum(b["rows"] * abs(b["predicted"] - b["observed"]) for b in table) / max(len(predictions), 1)


def auc_draws(predictions: np.ndarray, references: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The area under the ROC curve of bootstrap samples, without drawing rows.

    Args:
        predictions: Float array (rows,).
        references: Int array (rows,), 0 or 1.
        counts: Array (draws, rows), how often each row is in each sample; see `intervals.bootstrap_counts`.

    Returns:
        Float array (draws,).
    """
    order = np.argsort(predictions, kind="stable")
    p, y = np.asarray(predictions)[order], np.asarray(references)[order].astype(bool)
    last = np.append(np.flatnonzero(np.diff(p)), len(p) - 1)  # the last row of each value: ties count half
    values = np.empty(len(counts))
    for i, row in enumerate(counts):
        weights = row[order]
        below = np.diff(np.cumsum(weights * ~y)[last], prepend=0.0)
        above = np.diff(np.cumsum(weights * y)[last], prepend=0.0)
        ranked = np.cumsum(below) - 0.5 * below
        total = below.sum() * above.sum()
        values[i] = (above * ranked).sum() / total if total else np.nan
    return values


class ProbabilityMetrics(evaluate.Metric):
    """`ProbabilityMetrics().compute(predictions=[0.2, 0.9], references=[0, 1])`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=probability_metrics.__doc__,
            citation="Naeini, Cooper and Hauskrecht (2015). Obtaining well calibrated probabilities. AAAI.",
            inputs_description="predictions: probabilities; references: 0 or 1",
            features=datasets.Features({"predictions": datasets.Value("float64"), "references": datasets.Value("int64")}),
        )

    def _compute(self, predictions, references, threshold=0.5) -> dict[str, float]:
        return probability_metrics(predictions, references, threshold)
