"""Intervals hold what they promise: of a single score (conformal), and of a mean over learners (bootstrap)."""

import math

import numpy as np
import pytest

from trainers.intervals import bootstrap_interval, conformal_radius

# ---- of a single score ------------------------------------------------------------------------------------------------


def test_nine_in_ten_new_scores_lie_within_the_radius():
    """On skewed errors too: nothing is assumed of their distribution."""
    for seed, draw in enumerate((np.random.Generator.standard_normal, np.random.Generator.standard_exponential)):
        rng, inside = np.random.default_rng(seed), []
        for _ in range(300):
            radius = conformal_radius(np.abs(draw(rng, 50)), 0.9)
            inside.append(np.mean(np.abs(draw(rng, 200)) <= radius))
        assert np.mean(inside) == pytest.approx(0.9, abs=0.02)


def test_the_plain_quantile_of_few_errors_covers_too_little():
    """The trap that the rank closes: with 20 rows the 90% quantile of the errors covers 86% of the new ones."""
    rng, plain, ours = np.random.default_rng(0), [], []
    for _ in range(500):
        errors, fresh = np.abs(rng.normal(size=20)), np.abs(rng.normal(size=200))
        plain.append(np.mean(fresh <= np.quantile(errors, 0.9)))
        ours.append(np.mean(fresh <= conformal_radius(errors, 0.9)))
    assert np.mean(plain) < 0.88 and 0.89 < np.mean(ours) < 0.93


def difficult_essays(rng, rows):
    """Absolute errors, and the difficulty that spreads them: 1 or 4."""
    difficulty = rng.choice([1.0, 4.0], rows)
    return np.abs(difficulty * rng.normal(size=rows)), difficulty


def test_easy_and_difficult_essays_are_covered_alike_where_errors_are_divided_by_the_difficulty():
    rng, easy, hard = np.random.default_rng(1), [], []
    for _ in range(200):
        errors, difficulty = difficult_essays(rng, 100)
        radius = conformal_radius(errors / difficulty, 0.9)
        fresh, difficulty = difficult_essays(rng, 400)
        inside = fresh <= radius * difficulty
        easy.append(inside[difficulty == 1].mean())
        hard.append(inside[difficulty == 4].mean())
    assert np.mean(easy) == pytest.approx(0.9, abs=0.02) and np.mean(hard) == pytest.approx(0.9, abs=0.02)


def test_one_width_for_all_would_fail_the_difficult_essays():
    """The twin: 90% of all are covered, but the difficult ones pay for the easy ones."""
    rng, easy, hard = np.random.default_rng(1), [], []
    for _ in range(200):
        radius = conformal_radius(difficult_essays(rng, 100)[0], 0.9)
        fresh, difficulty = difficult_essays(rng, 400)
        easy.append(np.mean(fresh[difficulty == 1] <= radius))
        hard.append(np.mean(fresh[difficulty == 4] <= radius))
    assert (np.mean(easy) + np.mean(hard)) / 2 == pytest.approx(0.9, abs=0.02) and np.mean(easy) > 0.97 > 0.85 > np.mean(hard)


@pytest.mark.parametrize(
    ("rows", "level", "rank"),
    [(9, 0.9, 9), (10, 0.9, 10), (19, 0.9, 18), (99, 0.9, 90), (4, 0.5, 3), (3, 0.5, 2), (39, 0.95, 38)],
)
def test_the_radius_is_the_error_at_the_rank_counted_by_hand(rows, level, rank):
    errors = np.random.default_rng(rows).permutation(np.arange(1, rows + 1)) / 10
    assert conformal_radius(errors, level) == rank / 10


@pytest.mark.parametrize("errors", [[], [0.1] * 8, [math.nan] * 50, [0.1] * 8 + [math.nan] * 50])
def test_too_few_known_errors_give_no_interval(errors):
    assert conformal_radius(np.array(errors), 0.9) == math.inf


def test_rows_without_a_score_change_nothing():
    errors = np.random.default_rng(0).random(40)
    gaps = np.insert(errors, [0, 7, 7, 40], math.nan)
    assert conformal_radius(gaps, 0.9) == conformal_radius(errors, 0.9)


# ---- of a statistic ---------------------------------------------------------------------------------------------------


def test_the_interval_of_a_mean_holds_the_truth_as_often_as_it_says():
    rng, held = np.random.default_rng(0), 0
    for seed in range(200):
        values = rng.normal(5, 2, 60)
        low, high = bootstrap_interval(lambda rows, v=values: v[rows].mean(), np.arange(60), draws=200, seed=seed)
        held += low <= 5 <= high
    assert 180 <= held <= 198


COPIES = 5
LEARNERS = np.random.default_rng(3).permutation(np.repeat(np.arange(40), COPIES))
OF_A_LEARNER = np.random.default_rng(4).normal(size=40)
VALUES = OF_A_LEARNER[LEARNERS]  # each learner says the same five times


def test_rows_of_a_learner_that_say_the_same_make_nothing_surer():
    by_learner = bootstrap_interval(lambda rows: VALUES[rows].mean(), LEARNERS)
    assert by_learner == pytest.approx(bootstrap_interval(lambda rows: OF_A_LEARNER[rows].mean(), np.arange(40)))


def test_drawing_rows_instead_of_learners_would_be_far_too_sure():
    """The twin: the same rows, drawn one by one."""
    by_learner = bootstrap_interval(lambda rows: VALUES[rows].mean(), LEARNERS)
    by_row = bootstrap_interval(lambda rows: VALUES[rows].mean(), np.arange(len(VALUES)))
    assert np.ptp(by_row) < 0.6 * np.ptp(by_learner)  # 1 / sqrt(5) is 0.45


def test_a_learner_is_drawn_with_every_row_or_not_at_all():
    learners = np.array(["bo", "ann", "cy", "ann", "bo", "ann", "dee"])

    def whole(rows):
        times = {name: np.bincount(rows, minlength=7)[learners == name] for name in set(learners)}
        assert all(len(set(t.tolist())) == 1 for t in times.values()) and sum(t[0] for t in times.values()) == 4
        return float(len(rows))

    low, high = bootstrap_interval(whole, learners, draws=200)
    assert low < high  # samples differ in size as learners do


def test_the_same_seed_gives_the_same_interval_and_a_sample_without_a_value_is_left_out():
    values = np.random.default_rng(5).normal(size=30)

    def mean(rows):
        return values[rows].mean() if 0 in rows else math.nan

    first, again, other = (bootstrap_interval(mean, np.arange(30), seed=s) for s in (1, 1, 2))
    assert first == again != other and np.isfinite(first).all()


def test_a_wider_level_gives_a_wider_interval():
    values = np.random.default_rng(6).normal(size=50)
    spans = [np.ptp(bootstrap_interval(lambda rows: values[rows].mean(), np.arange(50), level)) for level in (0.5, 0.9, 0.99)]
    assert spans == sorted(spans) and spans[0] < spans[-1] / 2
