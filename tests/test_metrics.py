"""Agreement metrics, the calibration, and the traps of pooled and uncalibrated kappa."""

import evaluate
import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from trainers.calibration import to_scale, variance_match
from trainers.essay_evaluation import agreement_by_prompt, human_agreement, kappa_of_draws
from trainers.essay_settings import EssaySettings
from trainers.metrics import Agreement, QuadraticWeightedKappa
from trainers.metrics.quadratic_weighted_kappa import quadratic_weighted_kappa

RNG = np.random.default_rng(0)
TWO_PROMPTS = EssaySettings(score_ranges={"a": [(0, 3)], "b": [(10, 60)]})


def test_kappa_equals_the_matrix_definition():
    for low, high, step in ((0, 3, 1), (2, 12, 1), (1, 5, 0.5)):
        grid = np.arange(low, high + step / 2, step)
        human = RNG.choice(grid, 200)
        machine = np.clip(human + step * RNG.integers(-1, 2, 200), low, high)
        expected = cohen_kappa_score((machine / step).astype(int), (human / step).astype(int), weights="quadratic")
        assert quadratic_weighted_kappa(machine, human, low, high, step) == pytest.approx(expected, abs=1e-12)


def test_kappa_refuses_scores_that_cannot_be_given():
    with pytest.raises(ValueError, match="not on the grid 0 to 3"):
        quadratic_weighted_kappa([1, 4], [1, 2], 0, 3)
    with pytest.raises(ValueError, match="not on the grid"):
        quadratic_weighted_kappa([1.5, 2], [1, 2], 0, 3)


def test_metrics_work_through_evaluate_with_no_network():
    both = evaluate.combine([Agreement(), Agreement()]).compute(predictions=[1.0, 2.0, 3.0], references=[1.0, 2.0, 5.0])
    assert QuadraticWeightedKappa().compute(predictions=[1, 2], references=[1, 2], low=0, high=3) == {
        "quadratic_weighted_kappa": 1.0
    }
    alone = Agreement().compute(predictions=[1.0, 2.0, 3.0], references=[1.0, 2.0, 5.0])
    assert alone["exact_agreement"] == pytest.approx(2 / 3) and alone["root_mean_squared_error"] == pytest.approx((4 / 3) ** 0.5)
    assert any(v == pytest.approx(2 / 3) for v in both.values())


def test_a_constant_a_prompt_gains_nothing_where_pooling_would_praise_it():
    prompts = ["a"] * 100 + ["b"] * 100
    human = np.concatenate([RNG.integers(0, 4, 100), RNG.integers(30, 45, 100)]).astype(float)[:, None]
    constant = np.array([1.0] * 100 + [37.0] * 100)[:, None]
    by_prompt = agreement_by_prompt(constant, human, prompts, TWO_PROMPTS)["mean"]
    assert by_prompt["quadratic_weighted_kappa"] == pytest.approx(0, abs=0.01)
    assert quadratic_weighted_kappa(constant[:, 0], human[:, 0], 0, 60) > 0.9  # the trap, open


def test_raters_are_compared_on_the_scale_of_one_rater():
    """Where the score is a sum of two ratings, the score's range is not the raters'."""
    first = RNG.integers(1, 7, 200).astype(float)[:, None]
    second = np.clip(first + RNG.integers(-1, 2, (200, 1)), 1, 6)
    settings = EssaySettings(score_ranges={"a": [(2, 12)]})
    found = human_agreement(first, second, ["a"] * 200, settings)["mean"]["quadratic_weighted_kappa"]
    assert found == pytest.approx(cohen_kappa_score(first[:, 0], second[:, 0], weights="quadratic"))
    assert human_agreement(np.full((2, 1), np.nan), second[:2], ["a"] * 2, settings) is None


def test_variance_matching_undoes_shrinkage():
    human = np.rint(RNG.normal(3, 1, 500)).clip(1, 5)
    shrunk = 3 + 0.3 * (human - 3) + RNG.normal(0, 0.1, 500)
    slope, intercept = variance_match(shrunk, human)
    matched = slope * shrunk + intercept
    assert matched.std() == pytest.approx(human.std()) and matched.mean() == pytest.approx(human.mean())
    before = quadratic_weighted_kappa(to_scale(shrunk, 1, 5, 1), human, 1, 5)
    assert quadratic_weighted_kappa(to_scale(matched, 1, 5, 1), human, 1, 5) > before + 0.1


def test_variance_matching_survives_constants_and_missing_scores():
    assert variance_match(np.full(5, 0.5), np.array([1, 2, 3, np.nan, 2.0])) == (1.0, 1.5)
    assert variance_match(np.array([0.1]), np.array([np.nan])) == (1.0, 0.0)


def test_scores_are_rounded_to_the_rubric():
    assert to_scale(np.array([-1, 1.26, 2.2, 9.0]), 1, 5, 0.5).tolist() == [1, 1.5, 2, 5]


def test_kappa_of_bootstrap_samples_is_the_kappa_of_the_rows_that_were_drawn():
    rng = np.random.default_rng(0)
    a, b = rng.integers(1, 7, 60).astype(float), rng.integers(1, 7, 60).astype(float)
    drawn = rng.integers(60, size=(5, 60))
    counts = np.stack([np.bincount(d, minlength=60) for d in drawn]).astype(float)
    assert np.allclose(kappa_of_draws(a, b, counts), [quadratic_weighted_kappa(a[d], b[d], 1, 6) for d in drawn])
    assert kappa_of_draws(np.full(60, 3.0), np.full(60, 3.0), counts).tolist() == [0] * 5
