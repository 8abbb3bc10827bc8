"""A machine that treats one group of learners worse is found out; one that does not is left in peace."""

import numpy as np
import pytest

from trainers.fairness import MAX_DIFFERENCE, MIN_GROUP, merge_small, standardized_differences

PROMPTS = {"a": (0.0, 1.0), "b": (30.0, 12.0), "c": (500.0, 80.0)}  # mean and standard deviation of the human scores


def school(seed=0, rows=1200, noise=0.3):
    """Human scores on prompts of very different scales, a machine that errs at random, and groups of learners."""
    rng = np.random.default_rng(seed)
    prompts = rng.choice(list(PROMPTS), rows)
    mean, sd = np.array([PROMPTS[p] for p in prompts]).T
    z = rng.normal(size=rows)
    groups = rng.choice(["north", "south", "evening"], rows, p=[0.5, 0.4, 0.1])
    return mean + sd * z, mean + sd * (z + noise * rng.normal(size=rows)), groups, prompts, sd


def test_a_machine_that_is_harsh_on_one_group_is_flagged_for_it_and_for_no_other():
    human, machine, groups, prompts, sd = school()
    harsh = machine - 0.5 * sd * (groups == "evening")
    table = standardized_differences(harsh, human, groups, prompts, np.arange(len(human)))
    # 0.5 below the others is 0.45 below the mean of all, in standard deviations of the machine (1.04 with noise and malice)
    assert table["evening"]["difference"] == pytest.approx(-0.45 / 1.05, abs=0.05)
    assert table["evening"]["interval"][0] < table["evening"]["difference"] < table["evening"]["interval"][1] < 0
    assert [g for g, row in table.items() if row["flagged"]] == ["evening"]
    assert {g: row["n"] for g, row in table.items()} == {g: int(np.sum(groups == g)) for g in set(groups)}


def test_a_machine_that_favours_a_group_is_flagged_with_the_other_sign():
    human, machine, groups, prompts, sd = school()
    kind = standardized_differences(machine + 0.5 * sd * (groups == "evening"), human, groups, prompts, np.arange(len(human)))
    assert kind["evening"]["flagged"] and kind["evening"]["difference"] > MAX_DIFFERENCE


def test_a_machine_that_is_too_kind_to_everyone_is_unfair_to_nobody():
    human, machine, groups, prompts, sd = school()
    fair = standardized_differences(machine, human, groups, prompts, np.arange(len(human)))
    kind = standardized_differences(machine + 2 * sd, human, groups, prompts, np.arange(len(human)))
    assert not any(row["flagged"] for row in (*fair.values(), *kind.values()))
    for group, row in kind.items():
        assert row["difference"] == pytest.approx(fair[group]["difference"]) and abs(row["difference"]) < 0.1


def test_a_hard_prompt_is_no_unfairness_to_the_group_that_wrote_it():
    """The evening class alone wrote prompt c, where the machine is too kind to everyone."""
    rng = np.random.default_rng(1)
    groups = rng.choice(["day", "evening"], 600, p=[0.8, 0.2])
    prompts = np.where(groups == "evening", "c", "a")
    human = rng.normal(size=600)
    machine = human + 0.3 * rng.normal(size=600) + 0.5 * (prompts == "c")
    by_prompt = standardized_differences(machine, human, groups, prompts, np.arange(600))
    assert set(by_prompt) == {"day", "evening"} and not any(row["flagged"] for row in by_prompt.values())
    # the twin: as if there were one prompt
    pooled = standardized_differences(machine, human, groups, ["all"] * 600, np.arange(600))
    assert pooled["evening"]["flagged"] and pooled["evening"]["difference"] > 0.3


def test_scales_of_prompts_do_not_count():
    human, machine, groups, prompts, sd = school()
    harsh = machine - 0.5 * sd * (groups == "evening")
    stretched = np.where(prompts == "a", 1000.0, 1.0)
    one, two = (standardized_differences(harsh * f, human * f, groups, prompts, np.arange(len(human))) for f in (1.0, stretched))
    assert {g: row["difference"] for g, row in one.items()} == pytest.approx({g: row["difference"] for g, row in two.items()})


def merged(groups):
    return merge_small(groups, np.arange(len(groups))).tolist()


def test_small_groups_are_told_together_or_not_at_all():
    groups = ["big"] * 30 + ["few"] * 12 + ["fewer"] * 10 + [""] * 25
    assert merged(groups) == ["big"] * 30 + ["other groups"] * 22 + [""] * 25
    assert merged(["big"] * 30 + ["few"] * (MIN_GROUP - 1)) == ["big"] * 30 + [""] * (MIN_GROUP - 1)
    assert merged(["edge"] * MIN_GROUP) == ["edge"] * MIN_GROUP


def test_many_essays_of_few_learners_are_a_small_group():
    learners = np.append(np.arange(60) % 5, np.arange(100, 130))
    assert merge_small(["five"] * 60 + ["big"] * 30, learners).tolist() == [""] * 60 + ["big"] * 30


def test_no_figure_of_a_handful_of_learners_is_shown():
    human, machine, _, prompts, _ = school(rows=100)
    groups = ["north"] * 60 + ["three"] * 3 + ["sixteen"] * 16 + [""] * 21
    table = standardized_differences(machine, human, groups, prompts, np.arange(100))
    assert set(table) == {"north"}  # the 19 are too few together as well, and unknown is no group
    hidden_by_scores = human.copy()
    hidden_by_scores[:45] = np.nan  # 15 of north are left with a score
    table = standardized_differences(machine, hidden_by_scores, groups, prompts, np.arange(100))
    assert set(table) == {"other groups"} and table["other groups"]["n"] == 15 + 19


def test_essays_without_a_human_score_are_left_out():
    human, machine, groups, prompts, _ = school(rows=300)
    known = np.random.default_rng(0).random(300) < 0.8
    gaps = np.where(known, human, np.nan)
    units = np.arange(300)
    with_gaps = standardized_differences(machine, gaps, groups, prompts, units)
    without = standardized_differences(machine[known], human[known], groups[known], prompts[known], units[known])
    assert with_gaps == without


def test_chance_alone_is_seldom_flagged():
    flagged = 0
    for seed in range(40):
        human, machine, _, prompts, _ = school(seed, rows=60, noise=0.6)
        table = standardized_differences(machine, human, ["one"] * 30 + ["two"] * 30, prompts, np.arange(60), seed)
        flagged += table["one"]["flagged"]
    assert flagged <= 6


def test_many_essays_of_a_learner_are_one_proof():
    """Twenty learners wrote the group's six hundred essays: the interval is that of twenty."""
    human, machine, _, prompts, sd = school(rows=1200)
    groups = np.array(["twenty"] * 600 + ["rest"] * 600)
    learners = np.where(groups == "twenty", np.arange(1200) % 20, np.arange(1200))
    luck = np.random.default_rng(1).normal(size=20)[np.arange(1200) % 20] * (groups == "twenty")
    machine = machine + sd * luck
    by_learner, by_essay = (
        standardized_differences(machine, human, groups, prompts, units)["twenty"] for units in (learners, np.arange(1200))
    )
    assert by_learner["difference"] == by_essay["difference"]
    assert np.ptp(by_learner["interval"]) > 3 * np.ptp(by_essay["interval"])


def test_a_prompt_where_nothing_varies_breaks_nothing():
    human, machine, groups, prompts, _ = school(rows=300)
    human = np.where(prompts == "a", 2.0, human)
    table = standardized_differences(machine, human, groups, prompts, np.arange(300))
    assert all(np.isfinite(row["difference"]) for row in table.values())
