"""Metrics of probabilities, against scikit-learn and against figures that are known."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from trainers.calibration import platt
from trainers.intervals import bootstrap_counts
from trainers.metrics import ProbabilityMetrics
from trainers.metrics.probabilities import auc_draws, expected_calibration_error, probability_metrics, reliability


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    p = rng.random(500).round(2)  # with ties
    return p, (rng.random(500) < p).astype(int)


def test_metrics_agree_with_scikit_learn(sample):
    p, y = sample
    found = ProbabilityMetrics().compute(predictions=p, references=y)
    assert found["roc_auc"] == pytest.approx(roc_auc_score(y, p)) and found["brier_score"] == pytest.approx(
        brier_score_loss(y, p)
    )
    assert found["log_loss"] == pytest.approx(log_loss(y, np.clip(p, 1e-7, 1 - 1e-7)))
    assert found["root_mean_squared_error"] == pytest.approx(found["brier_score"] ** 0.5)


def test_one_class_alone_cannot_be_ranked():
    assert np.isnan(probability_metrics(np.array([0.2, 0.4]), np.array([1, 1]))["roc_auc"])


def test_probabilities_that_mean_what_they_say_have_no_calibration_error():
    p = np.repeat([0.25, 0.75], 400)
    y = np.tile([1, 0, 0, 0, 1, 1, 1, 0], 100)
    y = np.r_[np.tile([1, 0, 0, 0], 100), np.tile([1, 1, 1, 0], 100)]
    assert expected_calibration_error(p, y) == pytest.approx(0)
    assert expected_calibration_error(p + 0.1, y) == pytest.approx(0.1)
    assert sum(b["rows"] for b in reliability(p, y)) == 800 and len(reliability(p, y)) == 2


def test_bootstrapped_auc_is_that_of_the_drawn_rows(sample):
    p, y = sample
    counts = bootstrap_counts(np.arange(500) // 5, draws=20, seed=1)
    slow = [roc_auc_score(np.repeat(y, row.astype(int)), np.repeat(p, row.astype(int))) for row in counts]
    assert auc_draws(p, y, counts) == pytest.approx(slow)


def test_platt_undoes_a_stretched_and_shifted_logit():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=20_000)
    y = (rng.random(20_000) < 1 / (1 + np.exp(-truth))).astype(int)
    slope, intercept = platt(3 * truth - 1, y)
    assert slope == pytest.approx(1 / 3, abs=0.02) and intercept == pytest.approx(1 / 3, abs=0.05)
    assert platt(truth, np.ones(20_000, int)) == (1.0, 0.0) and platt(-truth, y) == (1.0, 0.0)
