"""A mastery interval holds the true share of correct answers as often as it says."""

import numpy as np
import pytest

from trainers.mastery import LEAST, fit_spread, mastery_interval


def learners(rho: float, number: int = 40_000, seed: int = 0):
    """True shares around a prediction, and two answers of each."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.2, 0.9, number)
    strength = 1 / rho - 1
    truth = rng.beta(p * strength, (1 - p) * strength)
    first, second = ((rng.random(number) < truth).astype(int) for _ in range(2))
    return p, truth, first, second


@pytest.mark.parametrize("rho", [0.05, 0.2])
def test_the_spread_of_true_shares_is_found_from_pairs_of_answers(rho):
    p, truth, first, second = learners(rho)
    spread = fit_spread(np.zeros(len(p), int), p, first, second)
    assert spread == [(0, pytest.approx(rho, abs=0.01))]
    low, high = mastery_interval(p, np.zeros(len(p), int), spread)
    assert np.mean((low <= truth) & (truth <= high)) == pytest.approx(0.9, abs=0.01)


def test_answers_that_share_nothing_leave_a_narrow_interval():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.2, 0.9, 40_000)
    first, second = ((rng.random(len(p)) < p).astype(int) for _ in range(2))
    ((_, rho),) = fit_spread(np.zeros(len(p), int), p, first, second)
    assert LEAST <= rho < 0.02


def test_more_answers_make_a_mastery_surer():
    parts = [learners(rho, 5000, seed) for seed, rho in enumerate((0.3, 0.1))]
    seen = np.repeat([0, 20], 5000)
    p, _, first, second = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    spread = fit_spread(seen, p, first, second)
    assert [start for start, _ in spread] == [0, 12]
    low, high = mastery_interval(np.array([0.6, 0.6]), np.array([2, 30]), spread)
    assert high[0] - low[0] > high[1] - low[1] and np.all((low < 0.6) & (0.6 < high))


def test_too_few_pairs_share_one_estimate():
    p, _, first, second = learners(0.2, 150)
    assert len(fit_spread(np.arange(150) % 20, p, first, second)) == 1
    assert fit_spread(*(np.zeros(0, int),) * 4) == [(0, 0.5)], "nothing is known where there is no pair"
