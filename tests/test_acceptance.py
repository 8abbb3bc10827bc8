"""The gate lets pass what is as good as a human, and names what is not."""

import numpy as np
import pytest

from trainers.acceptance import MAX_DEGRADATION, MAX_MEAN_DIFFERENCE, acceptance, is_sum
from trainers.metrics.quadratic_weighted_kappa import quadratic_weighted_kappa

ROWS = 600
CRITERIA = {"quadratic_weighted_kappa", "pearsonr", "standardized_mean_difference", "degradation"}
NOBODY = np.full(ROWS, np.nan)


def rating(of: np.ndarray, noise: float, rng, low=1, high=6, step=1) -> np.ndarray:
    """Someone's whole score of an essay worth `of`."""
    return np.clip(low + step * np.rint((of + noise * rng.normal(size=len(of)) - low) / step), low, high)


@pytest.fixture
def people():
    """A score of record and two raters who err a little; and the essays' worth."""
    rng = np.random.default_rng(0)
    worth = rng.normal(3.5, 1.2, ROWS)
    return rating(worth, 0.3, rng), rating(worth, 0.5, rng), rating(worth, 0.5, rng), worth, rng


def test_a_machine_that_errs_as_a_human_does_passes(people):
    human, first, second, worth, rng = people
    result = acceptance(rating(worth, 0.5, rng), human, first, second, 1, 6)
    assert result["passed"] and result["failed"] == [] and result["quadratic_weighted_kappa"] > 0.75
    assert result["human_kappa"] > 0.7 and abs(result["degradation"]) < 0.05


def test_a_machine_that_never_dares_an_outer_score_fails_kappa_alone(people):
    """It ranks essays as people do, and its mean is right."""
    human = people[0]
    timid = np.where(human >= 5, 4.0, np.where(human <= 2, 3.0, human))
    result = acceptance(timid, human, NOBODY, NOBODY, 1, 6)
    assert result["failed"] == ["quadratic_weighted_kappa"] and not result["passed"] and result["pearsonr"] > 0.8


def test_a_machine_that_ranks_badly_fails_correlation(people):
    """Kappa is never above the correlation, so that it fails too."""
    human, _, _, worth, rng = people
    result = acceptance(rating(worth, 1.5, rng), human, NOBODY, NOBODY, 1, 6)
    assert result["failed"] == ["quadratic_weighted_kappa", "pearsonr"]
    assert result["quadratic_weighted_kappa"] <= result["pearsonr"] < 0.7


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_machine_too_kind_or_too_harsh_to_all_fails_the_mean_difference_alone(shift):
    human = np.clip(np.rint(np.random.default_rng(1).normal(15, 5, ROWS)), 1, 29)
    result = acceptance(human + shift, human, NOBODY, NOBODY, 0, 30)
    assert result["failed"] == ["standardized_mean_difference"] and result["quadratic_weighted_kappa"] > 0.95
    assert result["standardized_mean_difference"] == pytest.approx(shift / human.std())
    assert abs(result["standardized_mean_difference"]) > MAX_MEAN_DIFFERENCE


def test_a_machine_that_is_good_but_far_behind_two_humans_fails_the_degradation_alone(people):
    human, _, _, worth, rng = people
    machine = rating(worth, 0.7, rng)
    result = acceptance(machine, human, human, human, 1, 6)
    assert result["failed"] == ["degradation"] and result["human_kappa"] == 1
    assert result["degradation"] == pytest.approx(1 - quadratic_weighted_kappa(machine, human, 1, 6))
    assert MAX_DEGRADATION < result["degradation"] < 0.3


def test_a_machine_better_than_a_second_rater_is_no_degradation(people):
    human, _, _, worth, rng = people
    first, second = rating(worth, 1.2, rng), rating(worth, 1.2, rng)
    result = acceptance(human, human, first, second, 1, 6)
    assert result["degradation"] < 0 and result["passed"]


def test_where_one_person_rated_there_is_no_degradation_and_it_is_not_asked_for(people):
    human, first, _, worth, rng = people
    for second in (NOBODY, np.where(np.arange(ROWS) == 0, first, np.nan)):  # none, and a single essay
        result = acceptance(rating(worth, 0.3, rng), human, first, second, 1, 6)
        assert result["human_kappa"] is result["machine_rater_kappa"] is result["degradation"] is None and result["passed"]


def test_only_essays_with_two_ratings_are_compared_with_the_raters(people):
    human, first, second, worth, rng = people
    machine, half = rating(worth, 0.5, rng), np.arange(ROWS) < ROWS // 2
    gaps = acceptance(machine, human, np.where(half, first, np.nan), second, 1, 6)
    only = acceptance(machine[half], human[half], first[half], second[half], 1, 6)
    for name in ("human_kappa", "machine_rater_kappa", "degradation"):
        assert gaps[name] == only[name]
    assert gaps["quadratic_weighted_kappa"] != only["quadratic_weighted_kappa"]


@pytest.mark.parametrize(("name", "score"), [
    ("sum", lambda a, b: a + b), ("sum, a third rater in places", lambda a, b: np.where(np.abs(a - b) > 1, 2 * b, a + b)),
])  # fmt: skip
def test_a_sum_of_two_ratings_is_recognized(people, name, score):
    _, first, second, _, _ = people
    assert is_sum(score(first, second), first, second), name


@pytest.mark.parametrize("score", [np.maximum, np.minimum, lambda a, b: a, lambda a, b: (a + b) / 2])
def test_a_score_on_the_scale_of_one_rater_is_no_sum(people, score):
    _, first, second, _, _ = people
    assert not is_sum(score(first, second), first, second)


def test_a_perfect_machine_passes_on_sums_and_on_half_points():
    rng = np.random.default_rng(2)
    worth = rng.normal(3.5, 1.2, ROWS)
    first, second = rating(worth, 0.4, rng), rating(worth, 0.4, rng)
    assert acceptance(first + second, first + second, first, second, 2, 12)["passed"]
    first, second, human = (rating(worth, 0.4, rng, 1, 6, 0.5) for _ in range(3))
    halves = acceptance(human, human, first, second, 1, 6, 0.5)
    assert halves["passed"] and abs(halves["degradation"]) < 0.05


def test_every_criterion_can_fail_and_constant_scores_fail_without_an_error(people):
    human, first, second, _, _ = people
    result = acceptance(np.full(ROWS, 6.0), human, first, second, 1, 6)
    assert set(result["failed"]) == CRITERIA and result["quadratic_weighted_kappa"] == pytest.approx(0, abs=0.01)


def test_raters_may_give_finer_scores_than_the_score_of_record(people):
    """Two raters with half points, a whole score of record: nothing at loading asks the raters to stay on its grid."""
    human, _, _, worth, rng = people
    first, second = rating(worth, 0.5, rng, 1, 6, 0.5), rating(worth, 0.5, rng, 1, 6, 0.5)
    result = acceptance(rating(worth, 0.5, rng), human, first, second, 1, 6)
    assert result["passed"] and result["human_kappa"] > 0.7
