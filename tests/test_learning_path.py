"""A path heeds both masks, is chosen from answers alone, is judged on others, and says why; the pair model has a direction."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, load_recipe
from datasets import DatasetDict
from safetensors.torch import load_file

from edu_datasets import load_concepts, load_paths
from edu_datasets.paths import KNOWLEDGE_SPACE
from trainers.arguments import RecipeTrainingArguments
from trainers.base import EduTrainer
from trainers.baselines.learning_path import PRIVILEGED, path_baselines
from trainers.best_lr import count_answers, fit_best_lr
from trainers.cohorts import PARTS, make_cohorts
from trainers.hub import published_files
from trainers.knowledge_tracing import KnowledgeTracer, new_tracer
from trainers.learning_path import (
    PathAdvisor,
    PathTrainer,
    UnreachableGoal,
    decoded_by,
    load,
    new_path_transformer,
    probe,
)
from trainers.models.path_transformer import PathTransformer
from trainers.models.prerequisite_encoder import PrerequisiteEncoder, PrerequisiteEncoderConfig
from trainers.parser import ConfigurationError
from trainers.path_evaluation import check_apart, choose_masks, judge, summarize
from trainers.path_policy import PathPolicy
from trainers.path_rules import PathRules
from trainers.path_settings import Cohort, PathCollator, PathSettings, encode, make_logs, stacked
from trainers.prerequisites import ALL_FEATURES, KnownPrerequisites, PrerequisiteTrainer, pair_metrics
from trainers.simulators import KnowledgeSpace, RandomHabits, Seen, Simulator, TracedLearners, play, random_reachable
from trainers.tracing_settings import TracingSettings

EDGES = [list(edge) for edge in KnowledgeSpace.EDGES]


@pytest.fixture(scope="module")
def recipe():
    return load_recipe("learning_path")


def space_settings(**options) -> PathSettings:
    """Of the knowledge space, with an estimator of a few hundred logs."""
    names = [str(i) for i in range(10)]
    return PathSettings(names, names, EDGES, "KSS", near_only=True, offered=list(range(10)), **options)


@pytest.fixture(scope="module")
def space():
    """Settings with an estimator, and the logs that it was fitted on."""
    settings = space_settings()
    logs = make_logs([Cohort("space", KnowledgeSpace(seed), seed, 150) for seed in range(100, 104)], 20)
    settings.learn_estimator(fit_best_lr(*stacked(logs), 10, EDGES))
    return settings, logs


def untrained(settings: PathSettings, cls=PathTransformer, seed: int = 0) -> PathTransformer:
    torch.manual_seed(seed)
    model = new_path_transformer(settings, hidden_size=16, num_attention_heads=2)
    model.__class__ = cls
    return model.eval()


# ---- where a learner can go on ----------------------------------------------------------------------------------------


def chosen(*numbers: int) -> np.ndarray:
    return np.isin(np.arange(5), numbers)


def letters(rows: np.ndarray) -> list[str]:
    return ["".join(np.array(list("abcde"))[row]) for row in rows]


FORK = PathRules(5, [(0, 1), (0, 2), (1, 3), (2, 3)], near_only=True)  # a before b and c, both before d; e alone


def test_prerequisites_are_met_for_many_learners_at_once():
    mastery = np.stack([chosen(), chosen(0), chosen(0, 1), chosen(0, 1, 2)]).astype(float)
    assert letters(FORK.prerequisites_met(mastery, 0.5)) == ["ae", "abce", "abce", "abcde"]
    assert FORK.support(np.full((1, 5), 0.4) * [1, 2, 1, 1, 1])[0].tolist() == [1, 0.4, 0.4, 0.4, 1], "the weakest counts"


def test_where_one_can_go_on_is_not_where_prerequisites_are_met():
    assert letters(FORK.reachable(np.array([0, 1, 4, -1]))) == ["abc", "abcd", "e", "abcde"]
    assert FORK.reachable(np.array([1]))[0, 3] and not FORK.prerequisites_met(chosen(1)[None].astype(float), 0.5)[0, 3]
    assert letters(PathRules(5, [], offered=[0, 3]).reachable(np.array([1, -1]))) == ["ad", "ad"]


def test_what_leads_to_goals_and_by_which_chain():
    assert letters(FORK.leads_to(np.stack([chosen(3), chosen(1, 4)]))) == ["abcd", "abe"]
    assert FORK.chain(0, 3) == [0, 1, 3] and FORK.chain(3, 0) == [] and FORK.chain(4, 4) == [4]
    ahead = np.argsort(FORK.order)
    assert all(ahead[a] < ahead[b] for a, b in [(0, 1), (0, 2), (1, 3), (2, 3)])


def test_the_rules_are_those_of_the_simulator(space):
    settings, _ = space
    assert KNOWLEDGE_SPACE == KnowledgeSpace.EDGES
    rules, simulator = settings.rules, KnowledgeSpace(1)
    seen, _ = play(simulator, lambda s, rng: rng.integers(0, 10, len(s.goals)), 60, seed=1)  # half of it out of reach
    assert (rules.reachable(rules.places(seen.concepts)[:, -1]) == seen.reachable).all()
    before = {c: [a for a, b in EDGES if b == c] for c in range(10)}
    mastered = np.random.default_rng(0).random((50, 10)) < 0.5
    met = rules.prerequisites_met(mastered.astype(float), 0.5)
    assert met.tolist() == [[all(row[a] for a in before[c]) for c in range(10)] for row in mastered]


def test_where_both_masks_leave_nothing_the_best_supported_is_taken():
    rules = PathRules(3, [[0, 1], [2, 1]], True)
    mastery, reachable = np.array([[0.2, 0.9, 0.4]]), np.array([[False, True, False]])
    assert rules.allowed(reachable, mastery, 0.5).tolist() == [[False, True, False]]
    assert rules.allowed(np.array([[True, True, False]]), mastery, 0.5).tolist() == [[True, False, False]]
    with pytest.raises(ConfigurationError, match="nowhere"):
        rules.allowed(np.zeros((1, 3), bool), mastery, 0.5)


class Truth:
    """An estimator that knows the truth; for tests of the masks alone."""

    def __init__(self, simulator):
        self.simulator = simulator

    def along(self, concepts, correct):
        return np.repeat(self.simulator.hidden_mastery()[:, None], concepts.shape[1] + 1, axis=1)


def masked(settings, simulator, **options) -> PathPolicy:
    """An untrained policy that is told the truth, so that what it violates is the masks' doing."""
    heed, seed = options.pop("heed_prerequisites", True), options.pop("seed", 0)
    settings = replace(settings, met_at=0.5, **options)
    settings.__dict__["estimator"] = Truth(simulator)
    return PathPolicy(untrained(settings, seed=seed), settings, heed)


def test_with_the_truth_known_the_masks_let_nothing_unmet_through_and_waste_nothing(space):
    settings, _ = space
    let_through = []
    for seed in range(3):  # other weights each: some happen to prefer what is met
        simulator = KnowledgeSpace(seed)
        _, strict = play(simulator, masked(settings, simulator, seed=seed), 80, seed=seed)
        _, open_ = play(simulator, masked(settings, simulator, seed=seed, heed_prerequisites=False), 80, seed=seed)
        assert strict.wasted.sum() == 0 == open_.wasted.sum()
        stuck = strict.violations > 0  # nothing met was in reach: where the warm-up left them, or next to it
        assert strict.violations.mean() < 0.02 and stuck.mean() < 0.3
        let_through.append(open_.violations.mean())
    assert np.mean(let_through) > 0.2, "the twin without the mask lets unmet prerequisites through"


def test_the_less_an_exception_must_promise_the_more_there_are(space):
    settings, _ = space
    simulator, shares = KnowledgeSpace(0), []
    for price in (None, 1.0, 0.002, 0.0):
        policy = masked(settings, simulator, exception_at=price)
        shares.append(play(simulator, policy, 80, seed=0)[1].violations.mean())
    assert shares[0] == shares[1] < shares[2] <= shares[3]


# ---- mastery from answers -------------------------------------------------------------------------------------------


def test_mastery_is_estimated_from_the_answers_before_alone(space):
    settings, logs = space
    concepts, correct = (values[:40] for values in stacked(logs))
    along = settings.estimator.along(concepts, correct)
    assert along.shape == (40, 41, 10) and ((along > 0) & (along < 1)).all()
    assert np.allclose(settings.estimator.now(concepts, correct), along[:, -1], atol=1e-6)
    changed = correct.copy()
    changed[:, 25:] = 1 - changed[:, 25:]
    other = settings.estimator.along(concepts, changed)
    assert np.allclose(other[:, :26], along[:, :26], atol=1e-6) and not np.allclose(other[:, 26:], along[:, 26:], atol=1e-3)


def test_estimated_mastery_comes_near_the_truth_that_it_never_saw(space):
    settings, _ = space
    simulator = KnowledgeSpace(7)
    seen, _ = play(simulator, random_reachable, 300, seed=7)
    truth = simulator.hidden_mastery() >= 0.5
    asked = count_answers(seen.concepts, seen.correct, 10)
    known = asked[0][:, -1] + asked[1][:, -1] > 1
    mastery = settings.estimator.now(seen.concepts, seen.correct)
    assert mastery[truth & known].mean() > mastery[~truth & known].mean() + 0.3


def test_counts_are_what_they_say():
    right, wrong, row = count_answers(np.array([[1, 1, 0, 1, 1]]), np.array([[1, 1, 1, 0, 1]]), 2)
    assert right[0, :, 1].tolist() == [0, 1, 2, 2, 2, 3] and wrong[0, :, 1].tolist() == [0, 0, 0, 0, 1, 1]
    assert row[0, :, 1].tolist() == [0, 1, 2, 2, 0, 1] and right[0, -1, 0] == 1 == row[0, -1, 0]


def test_answers_that_are_all_right_are_no_error():
    estimator = fit_best_lr(np.zeros((5, 4), int), np.ones((5, 4), int), 2, [])
    assert (estimator.now(np.zeros((1, 2), int), np.ones((1, 2), int)) > 0.9).all()


# ---- the sequence model ---------------------------------------------------------------------------------------------


class GivesReturnsAway(PathTransformer):
    """A twin that reads goals and return before its readouts."""

    def forward(self, concepts, correct, counts, mastery, steps_left, moves=None, goals=None, returns=None, **kwargs):
        mastery = (mastery + 0.1 * returns[:, :1, None] * goals[:, :1]).clamp(0, 1)
        return super().forward(concepts, correct, counts, mastery, steps_left, moves, goals, returns)


def batch_of(space, rows=8) -> dict[str, torch.Tensor]:
    settings, logs = space
    read = logs.select(range(rows)).map(encode, batched=True, with_indices=True, fn_kwargs={"settings": settings})
    return PathCollator(settings)(list(read.with_format("numpy")))


def exam_of(model, batch, **changes) -> torch.Tensor:
    names = ("concepts", "correct", "counts", "mastery", "steps_left", "moves", "goals", "returns")
    with torch.no_grad():
        return model(**({name: batch[name] for name in names} | changes)).exam


def test_what_will_come_of_a_path_is_not_told_to_what_predicts_it(space):
    batch, model = batch_of(space), untrained(space[0])
    expected = exam_of(model, batch)
    other = {"goals": 1 - batch["goals"], "returns": 1 - batch["returns"]}
    assert torch.equal(exam_of(model, batch, **other), expected)
    twin = untrained(space[0], GivesReturnsAway)
    assert not torch.allclose(exam_of(twin, batch, **other), exam_of(twin, batch), atol=1e-4), "the twin gives it away"


def test_a_later_token_changes_nothing_before_it(space):
    batch, model = batch_of(space), untrained(space[0])
    expected, later = exam_of(model, batch), {}
    for name in ("concepts", "correct", "counts", "mastery"):
        later[name] = batch[name].clone()
        later[name][:, 12:] = batch[name].flip(0)[:, 12:]
    found = exam_of(model, batch, **later)
    assert torch.allclose(found[:, :12], expected[:, :12], atol=1e-6) and not torch.allclose(found, expected, atol=1e-3)


def test_the_outcome_of_every_move_is_that_of_the_move_made(space):
    batch, model = batch_of(space), untrained(space[0])
    names = ("concepts", "correct", "counts", "mastery", "steps_left", "moves")
    with torch.no_grad():
        output = model(**{name: batch[name] for name in names})
        every = model.outcomes(output.states[:, 5], batch["mastery"][:, 5])
    made = every[torch.arange(len(every)), batch["moves"][:, 5]]
    assert torch.allclose(made, output.exam[:, 5].sigmoid(), atol=1e-5)


def test_a_log_is_read_with_other_goals_and_with_what_came_of_these(space):
    """Hindsight: the exam tells the return of any goals, and the moves aimed at none."""
    batch, logs = batch_of(space), space[1]
    own = [np.flatnonzero(row[0]).tolist() for row in batch["goals"].numpy()]
    assert own == [sorted(goals) for goals in logs["goals"][:8]], "the log's own goals first"
    size = batch["goals"].sum(2)
    assert (size == size[:, :1]).all() and (batch["goals"][:, 1:] != batch["goals"][:, :1]).any(), "others, as many"
    exams = batch["exam_answers"][:, None].expand_as(batch["goals"])
    expected = [[exams[i, k][goals > 0].mean() for k, goals in enumerate(sets)] for i, sets in enumerate(batch["goals"])]
    assert torch.allclose(batch["returns"], torch.tensor(expected))


def test_what_a_move_promises_is_bayes_rule_over_the_returns(space):
    batch, model = batch_of(space), untrained(space[0])
    names = ("concepts", "correct", "counts", "mastery", "steps_left")
    returns, reachable = torch.linspace(0, 1, model.config.num_returns), batch["reachable"][:, 7]
    joint = []
    with torch.no_grad():
        for r in returns:
            told = model(**{name: batch[name] for name in names}, goals=batch["goals"], returns=torch.full((8, 4), r))
            moves = told.logits[:, 7, 0].masked_fill(~reachable, -torch.inf).softmax(-1)
            joint.append(told.returns[:, 7, 0].softmax(-1)[:, len(joint), None] * moves)
        promised = model.promises(told.states[:, 7], batch["goals"][:, 0], reachable)
    joint = torch.stack(joint, dim=1)
    expected = (joint * returns[:, None]).sum(1) / joint.sum(1).clamp(min=1e-9)
    assert torch.allclose(promised, expected, atol=1e-5) and (promised[~reachable] == 0).all() and (promised[reachable] > 0).all()
    share = model.shares(torch.tensor([0.0, 0.25, 1.0]), 11)
    assert torch.allclose(share.sum(1), torch.ones(3)) and torch.allclose(share @ returns, torch.tensor([0.0, 0.25, 1.0]))


def test_the_tokens_of_play_are_those_of_training(space):
    """What the collator makes of a log is what the policy makes of the same learner in play."""
    settings, logs = space
    batch, model = batch_of(space, 2), untrained(settings)
    whole = batch["counts"][0]  # the first log is known whole
    concepts, correct = (values[:1] for values in stacked(logs))
    policy, step = PathPolicy(model, settings), 6
    asked, said = concepts[:, : 20 + step], correct[:, : 20 + step]
    goals = batch["goals"][:1, 0].numpy() > 0
    mastery = settings.estimator.along(asked, said)[:, -1 - step :]
    worth = policy.worth(asked, said, mastery, goals, 20 - step)
    names = ("concepts", "correct", "counts", "mastery", "steps_left")
    with torch.no_grad():
        states = model(**{name: batch[name][:1] for name in names}).states
        outcome = model.outcomes(states[:, step], batch["mastery"][:1, step])
    assert whole.shape == (20, 10, 3)
    expected = (outcome * batch["goals"][:1, :1]).sum(2) / goals.sum()
    assert np.allclose(worth, expected.numpy(), atol=1e-5)


# ---- who learns, and who is judged ----------------------------------------------------------------------------------


def test_logs_are_random_play_that_wastes_nothing_and_ends_with_an_exam(space):
    settings, logs = space
    _, outcome = play(KnowledgeSpace(1), RandomHabits(), 200, seed=1)
    assert outcome.wasted.sum() == 0
    exam = np.array(logs["exam"])
    assert (
        exam.shape == (600, 10) and set(np.unique(exam)) <= {0, 0.25, 0.5, 0.75, 1} and {len(r) for r in logs["concepts"]} == {40}
    )
    stays = [np.mean(np.diff(row[20:]) == 0) for row in stacked(logs)[0]]
    assert np.quantile(stays, 0.1) < 0.35 and np.quantile(stays, 0.9) > 0.8, "some wander, some stay"


def test_no_cohort_is_logged_and_judged(space):
    settings, _ = space
    args = RecipeTrainingArguments(use_cpu=True)
    cohorts = make_cohorts(
        "knowledge_space", space_settings(), DatasetDict(), args, train_learners=200, judged_learners=20, judge_seeds=20,
        tracer_epochs=1,
    )  # fmt: skip
    labels = [c.label for part in PARTS for c in cohorts[part]]
    assert len(labels) == len(set(labels)) and len(cohorts["judging"]) == 20
    starts = [play(c.simulator, random_reachable, 20, 1, c.seed)[0] for part in PARTS for c in cohorts[part][:3]]
    first = [s.concepts[:, :20].tobytes() + s.correct[:, :20].tobytes() for s in starts]
    assert len(set(first)) == len(first), "other seeds are other learners"


class Replay:
    """Knows logged learners again by their warm-up, and does what the best of their logs did; else it moves at random."""

    def __init__(self, logs):
        self.best = {}
        for row in logs:
            key = (tuple(row["concepts"][:20]), tuple(row["correct"][:20]))
            worth = sum(row["exam"][g] for g in row["goals"])
            if worth > self.best.get(key, (-1, []))[0]:
                self.best[key] = (worth, row["concepts"][20:])

    def __call__(self, seen, rng):
        move = random_reachable(seen, rng)
        for i, (asked, said) in enumerate(zip(seen.concepts[:, :20].tolist(), seen.correct[:, :20].tolist(), strict=True)):
            if found := self.best.get((tuple(asked), tuple(said))):
                move[i] = found[1][seen.concepts.shape[1] - 20]
        return move


def test_the_topological_baseline_takes_the_first_concepts_on_the_way_to_the_goals():
    edges = [[i, i + 1] for i in range(8)]  # 0 to 8 in a chain, 9 alone
    settings = PathSettings([*"abcdefghij"], [*"abcdefghij"], edges, steps=4)
    policy = path_baselines(settings)["topological"](None)
    goals = np.zeros((3, 10), bool)
    goals[[0, 1, 2], [7, 1, 9]] = True
    moves = [policy(Seen(goals, np.zeros((3, 0), int), np.zeros((3, 0), int), ~goals, left), None) for left in (4, 3, 2, 1)]
    assert np.transpose(moves).tolist() == [[0, 1, 2, 3], [0, 0, 1, 1], [9, 9, 9, 9]]


def test_learners_who_are_judged_must_not_stand_in_the_logs(space, tmp_path):
    judging = [Cohort("space", KnowledgeSpace(s), s, 60) for s in (1, 2)]
    others = [Cohort("space", KnowledgeSpace(s), s, 60) for s in (11, 12)]

    def logged_often(cohorts):  # each learner several times, with other moves
        rows = []
        for cohort in cohorts:
            for k in range(8):
                luck = np.random.default_rng(k)
                seen, _ = play(cohort.simulator, lambda s, _, luck=luck: random_reachable(s, luck), 60, 20, cohort.seed)
                exam = cohort.simulator.exam(cohort.seed)
                columns = seen.concepts.tolist(), seen.correct.tolist(), map(np.flatnonzero, seen.goals), exam
                rows += [
                    dict(zip(("concepts", "correct", "goals", "exam"), row, strict=True)) for row in zip(*columns, strict=True)
                ]
        return rows

    replays = {"honest": Replay(logged_often(others)), "open": Replay(logged_often(judging))}
    systems = {"random": lambda _: random_reachable, **{name: lambda _, r=r: r for name, r in replays.items()}}
    table = judge(systems, judging, 20)
    assert np.allclose(table["honest"]["ep"], table["random"]["ep"]), "logs of others tell nothing of these learners"
    assert (table["open"]["ep"] > table["random"]["ep"] + 0.05).all(), "the twin knows the judged learners again"

    check_apart([c.label for c in others], [c.label for c in judging])
    logs = DatasetDict({"train": make_logs(judging, 20), "validation": make_logs(others, 20)})
    with pytest.raises(ConfigurationError, match="space 1.*judged and stand in the logs"):
        PathTrainer(
            settings=space[0], splits=logs, choosing=others, judging=judging, model=untrained(space[0]),
            args=RecipeTrainingArguments(output_dir=str(tmp_path), use_cpu=True),
        )  # fmt: skip


def graded(simulator):
    """A policy that asks the judge which concepts are mastered, one goal at a time, and goes where prerequisites are."""
    rules = PathRules(10, EDGES, near_only=True)

    def policy(seen, rng):
        mastered = [simulator.score(np.broadcast_to(one, seen.goals.shape)) for one in np.eye(10, dtype=bool)]
        allowed = rules.allowed(seen.reachable, np.stack(mastered, axis=1), 1.0)
        return random_reachable(replace(seen, reachable=allowed), rng)

    return policy


def test_a_policy_that_peeks_at_the_true_mastery_is_caught(space):
    """The privileged line alone may look; an unsealed simulator is the twin in which peeking pays."""
    settings, _ = space
    cohorts = [Cohort("space", KnowledgeSpace(s), s, 60) for s in (1, 2)]
    for look in (path_baselines(settings)[PRIVILEGED], graded):
        with pytest.raises(PermissionError, match="true mastery"):
            judge({"a policy of ours": look}, cohorts, 20)
        table = judge({PRIVILEGED: look, "random, reachable": lambda _: random_reachable}, cohorts, 20)
        assert table[PRIVILEGED]["violations"].mean() < table["random, reachable"]["violations"].mean() - 0.1
    simulator = cohorts[0].simulator
    for look in (simulator.hidden_mastery, simulator.hidden_mastery_after, simulator.outcome, lambda: simulator.exam(0)):
        with pytest.raises(PermissionError), simulator.sealed():
            look()
        look()  # open again


def test_judging_is_paired_and_its_intervals_are_of_the_differences():
    cohorts = [Cohort("space", KnowledgeSpace(s), s, 40) for s in range(4)]
    table = judge({"a": lambda _: random_reachable, "b": lambda _: random_reachable}, cohorts, 10)
    assert all((table["a"][m] == table["b"][m]).all() for m in table["a"])
    table["b"]["ep"] = table["b"]["ep"] - 0.1
    means, intervals = summarize(table, "a")
    assert intervals["b"]["behind"] == pytest.approx([0.1, 0.1]) and means["a"]["ep"] == pytest.approx(means["b"]["ep"] + 0.1)
    low, high = intervals["a"]["interval"]
    assert low < means["a"]["ep"] < high


def test_masks_are_chosen_within_the_violations_that_are_accepted(space):
    settings = replace(space[0])
    settings.learn_estimator(space[0].estimator)
    cohorts = [Cohort("space", KnowledgeSpace(s), s, 40) for s in (50, 51)]
    trials, chosen = choose_masks(untrained(settings), settings, cohorts, 0.05)
    assert chosen[0] == {k: getattr(settings, k) for k in ("decode", "met_at", "exception_at")}
    taken, other = (next(t for t in trials if choice.items() <= t.items()) for choice in chosen)
    assert taken["violations"] <= 0.05 and {t["decode"] for t in (taken, other)} == {"mastery", "return"}
    assert taken["ep"] >= other["ep"] or other["violations"] > 0.05
    assert all(t["waste"] == 0 for t in trials)


# ---- what a policy learns -------------------------------------------------------------------------------------------


class OncePractised(Simulator):
    """Six concepts; one question on a concept and it is mastered for good. Whoever practises each open goal once is done."""

    def __init__(self):
        super().__init__(6, [], warm_up=6, fewest_goals=2, most_goals=3)

    def _draw(self, learners, rng):
        return {"mastered": (rng.random((learners, 6)) < 0.3).astype(float)}

    def _chance(self, state):
        return 0.1 + 0.85 * state["mastered"]

    def _taught(self, state, concepts):
        mastered = state["mastered"].copy()
        if not self.warming_up:
            mastered[np.arange(len(concepts)), concepts] = 1.0
        return {"mastered": mastered}

    def reset(self, learners, seed=0):
        self.warming_up = True
        seen = super().reset(learners, seed)
        self.warming_up = False
        return seen


def test_a_policy_learns_what_there_is_to_learn(tmp_path):
    """In a world where one question on each open goal is enough, it soon does nearly that; random play does not."""
    names = [str(i) for i in range(6)]
    settings = PathSettings(names, names, [], "once", steps=4, warm_up=6, offered=list(range(6)))

    def cohorts(first, count, learners):
        return [Cohort("once", OncePractised(), first + i, learners) for i in range(count)]

    logs = DatasetDict({"train": make_logs(cohorts(1000, 4, 300), 4), "validation": make_logs(cohorts(2000, 1, 100), 4)})
    settings.learn_estimator(fit_best_lr(*stacked(logs["train"]), 6, []))
    torch.manual_seed(0)
    args = RecipeTrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, num_train_epochs=8, learning_rate=5e-3, precision="fp32", disable_tqdm=True,
        per_device_train_batch_size=64, metric_for_best_model="loss",
    )  # fmt: skip
    trainer = PathTrainer(
        settings=settings, splits=logs, choosing=cohorts(3000, 2, 60), judging=cohorts(0, 4, 60),
        model=new_path_transformer(settings, hidden_size=32), args=args,
    )  # fmt: skip
    trainer.fit()
    results = trainer.score_beside_baselines()
    low, _ = results["intervals"]["random, reachable"]["behind"]
    assert low > 0.1 and results["test"]["ep"] > 0.7
    assert results["test"]["waste"] == 0 == results["test"]["violations"]
    other = {"mastery": "return", "return": "mastery"}[settings.decode]
    assert set(results["ablation"]) == {decoded_by(other)}, "the other decode stands in the table"
    assert [choice["decode"] for choice in results["chosen"]] == [settings.decode, other]
    assert results["ablation"][decoded_by(other)]["ep"] > results["baselines"]["random, reachable"]["ep"] + 0.1

    aimed = replace(settings, decode="mastery")
    advisor = PathAdvisor(aimed, PathPolicy(trainer.model, aimed))
    for goals in ([0, 3], [1, 5], [2, 4]):
        path = advisor.path([], [], goals, mastery=np.full(6, 0.1))
        assert {step["concept"] for step in path} == set(goals), "a path leads to its goals, and here nothing else is needed"


# ---- learners made of real answers ----------------------------------------------------------------------------------


def traced(**options) -> tuple[TracedLearners, KnowledgeTracer]:
    tracing = TracingSettings([f"c{i}" for i in range(5)], window=60, context=0)
    torch.manual_seed(0)
    model = new_tracer(tracing, num_features=0, architecture="lstm", hidden_size=8, dropout=0.0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.6)
    rng = np.random.default_rng(0)
    first = rng.integers(0, 5, (30, 6)), rng.integers(0, 2, (30, 6))
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    return TracedLearners(weights, *first, **options), KnowledgeTracer(model, tracing)


def test_traced_learners_answer_as_the_tracer_says():
    simulator, tracer = traced()
    seen = simulator.reset(20, seed=1)
    for step in range(4):
        now = simulator.hidden_mastery()
        for i in range(0, 20, 7):
            for concept in range(5):
                asked = [*seen.concepts[i], concept]
                p = tracer.predict([0] * len(asked), [[c + 1] for c in asked], [*seen.correct[i], 0], [float("nan")] * len(asked))
                assert p[-1] == pytest.approx(now[i, concept], abs=1e-5)
        move = np.full(20, step % 5)
        said = simulator.step(move)
        seen.concepts = np.concatenate([seen.concepts, move[:, None]], axis=1)
        seen.correct = np.concatenate([seen.correct, said[:, None]], axis=1)


def test_traced_learners_begin_with_real_answers_and_go_where_somebody_answered():
    offered = np.array([True, True, False, True, True])
    simulator, _ = traced(offered=offered)
    seen = simulator.reset(40, seed=2)
    real = {row.tobytes() for row in np.concatenate([simulator.first_concepts, simulator.first_correct], axis=1).astype(int)}
    assert {row.tobytes() for row in np.concatenate([seen.concepts, seen.correct], axis=1).astype(int)} <= real
    assert not seen.goals[:, 2].any() and not seen.reachable[:, 2].any() and seen.reachable[:, 0].all()
    _, outcome = play(simulator, lambda s, rng: np.full(len(s.goals), 2), 40, seed=2)
    assert (outcome.wasted == 1).all() and (outcome.end == outcome.start).all()


def test_the_promise_of_a_traced_goal_is_the_mean_over_its_answers():
    simulator, _ = traced()
    seen = simulator.reset(25, seed=3)
    whole = (simulator.hidden_mastery_after() * seen.goals[:, None]).sum(2)
    promise = simulator.hidden_promise(seen.goals)
    assert np.allclose(promise[seen.goals], whole[seen.goals], atol=1e-6) and np.isinf(promise[~seen.goals]).all()


def test_a_tracer_of_another_kind_makes_no_learners():
    _, tracer = traced()
    weights = {name: value.numpy() for name, value in tracer.model.state_dict().items()}
    for others in (
        {k: v for k, v in weights.items() if "history" not in k},
        weights | {k.replace("members.0", "members.1"): v for k, v in weights.items()},
    ):
        with pytest.raises(ValueError, match="one member with one LSTM layer"):
            TracedLearners(others, np.zeros((2, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="none long enough"):
        TracedLearners(weights, np.zeros((0, 3)), np.zeros((0, 3)))


class NothingLeft(OncePractised):
    def _chance(self, state):
        return 0.9 + 0 * state["mastered"]


def test_learners_with_nothing_left_to_learn_are_no_endless_search():
    with pytest.raises(ValueError, match="nothing is left to learn"):
        NothingLeft().reset(10)


# ---- which concept comes first ----------------------------------------------------------------------------------------


def pair_model() -> PrerequisiteEncoder:
    bert = {"model_type": "bert", "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 32, "max_position_embeddings": 32}  # fmt: skip
    torch.manual_seed(0)
    model = PrerequisiteEncoder(PrerequisiteEncoderConfig(bert, 3, 6, hidden_size=16)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def test_turning_a_pair_round_turns_its_direction_and_keeps_its_relation():
    model, ids = pair_model(), torch.randint(5, 60, (6, 7))
    mask, pairs = torch.ones_like(ids), torch.tensor([[0, 1], [2, 3], [4, 4]])
    counts, paths = torch.rand(3, 2, 3), torch.rand(3, 2, 3)
    with torch.no_grad():
        there = model(ids, mask, pairs, counts, paths).logits
        back = model(ids, mask, pairs.flip(1), counts.flip(1), paths.flip(1)).logits
        assert torch.allclose(there, back.flip(1), atol=1e-5), "the pair turned round is the same pair"
        assert (there[:2, 0] - there[:2, 1]).abs().min() > 1e-3, "and its two directions differ"
        same = model(ids, mask, torch.tensor([[4, 4]])).logits
        assert same[0, 0].item() == pytest.approx(same[0, 1].item(), abs=1e-6), "no concept comes before itself"
        two_by_two = model(ids, mask).logits
        assert torch.allclose(two_by_two[0], model(ids, mask, torch.tensor([[0, 1]])).logits[0], atol=1e-6)


def test_the_model_can_begin_as_a_logistic_regression_of_texts_and_counts():
    model, ids = pair_model(), torch.randint(5, 60, (2, 7))
    weight, counts, paths = torch.randn(2 * 16 + 2 * 3 + 6), torch.rand(1, 2, 3), torch.rand(1, 2, 3)
    model.classifier.begin_with(weight, 0.3)
    with torch.no_grad():
        found = model(ids, torch.ones_like(ids), torch.tensor([[0, 1]]), counts, paths).logits[0]
        a, b = torch.nn.functional.normalize(model.encoder(ids).last_hidden_state.mean(1), dim=-1)
    for logit, (x, y), (i, j) in zip(found, ((a, b), (b, a)), ((0, 1), (1, 0)), strict=True):
        read = torch.cat([x - y, x * y, counts[0, i], counts[0, j], paths[0, i], paths[0, j]])
        assert logit.item() == pytest.approx((read @ weight + 0.3).item(), abs=1e-4)


def test_training_that_did_not_better_where_it_began_is_undone(recipe, tiny_model, tmp_path, monkeypatch):
    """On validation, the prerequisite model is never below the regression of all that the baselines read."""

    def ruin(trainer):
        with torch.no_grad():
            for parameter in trainer.model.parameters():
                parameter.zero_()
        return {"train_seconds": 0.0}

    trainers = []
    monkeypatch.setattr(EduTrainer, "fit", ruin)
    monkeypatch.setattr(PrerequisiteTrainer, "save_run", lambda trainer, *_: trainers.append(trainer) or {})
    monkeypatch.setattr(recipe, "publish", lambda _: None)
    words = ["--model_name_or_path", tiny_model, "--output_dir", str(tmp_path), *SMALL, "--simulator", "none"]
    recipe.main(words)
    assert "began with" in trainers[0].kept
    found = trainers[0].logits(trainers[0].encoded["validation"])
    started = trainers[0].begin_as_regression()
    assert np.array_equal(found, trainers[0].logits(trainers[0].encoded["validation"])) and found.std() > 0
    reached = pair_metrics(*found.T, trainers[0].labels["validation"])["roc_auc"]
    assert reached == pytest.approx(started, abs=1e-3) and started > 0.5


def test_a_pair_is_not_told_by_its_own_edge():
    """Counts leave the pair's own edge out; a twin that keeps it tells a prerequisite of two otherwise unknown concepts."""
    known = KnownPrerequisites(7, [[0, 1], [2, 3], [2, 4]])
    concept, pair = known.counts(np.array([[0, 1], [1, 0], [5, 6], [2, 3]]))
    assert (concept[0] == concept[2]).all() and (concept[0, :, 2] == 1).all(), "as unknown as a pair without an edge"
    assert (concept[1] == concept[0]).all() and not pair[0].any()
    assert concept[3, 0, 0] == pytest.approx(np.log1p(1)) and concept[3, 1, 2] == 1, "its other edge is still told"
    assert known.out[0] == 1 == known.into[1], "the twin: whole counts would give the pair away"
    new, _ = known.counts(np.array([[-1, 2]]))
    assert (new[0, 0] == [0, 0, 1]).all() and new[0, 1, 0] == pytest.approx(np.log1p(2))


def test_paths_of_two_and_common_neighbours_are_counted():
    known = KnownPrerequisites(5, [[0, 1], [1, 2], [0, 3], [3, 2], [4, 2]])
    _, pair = known.counts(np.array([[0, 2], [1, 3]]))
    assert np.expm1(pair[0, 0]).round(4).tolist() == [2, 0, 0] and not pair[0, 1].any(), "0 to 2 by 1 and by 3, not back"
    assert np.expm1(pair[1, 0]).round(4).tolist() == [0, 1, 1], "1 and 3 share what follows and what they need"
    hidden, nothing = known.counts(np.array([[0, 2]]), np.array([[True, False]]))
    assert (hidden[0, 0] == [0, 0, 1]).all() and hidden[0, 1, 1] > 0 and not nothing.any()


def test_direction_is_of_prerequisites_alone_and_a_tie_counts_half():
    found = pair_metrics(np.array([2.0, 1.0, 0.0, -1.0]), np.array([1.0, 1.0, 5.0, -5.0]), np.array([1, 1, 1, 0]))
    assert found["direction"] == pytest.approx(0.5) and found["roc_auc"] == 1.0


@pytest.mark.real_data
def test_degrees_tell_lecturebank_as_measured_before():
    """FIELD: degree alone has an AUC of .878 and a direction of .903 on the published splits."""
    from trainers.baselines.learning_path import prerequisite_baselines

    found = []
    for fold in range(5):
        data = load_concepts("lecturebank", split="published", fold=fold)
        number = {c: i for i, c in enumerate(data.concepts["concept_id"][:])}
        pairs = {
            s: np.array([[number[a], number[b]] for a, b in zip(r["before"], r["after"], strict=True)])
            for s, r in data.splits.items()
        }
        label = {s: np.array(r["label"][:]) for s, r in data.splits.items()}
        known = KnownPrerequisites(len(number), pairs["train"][label["train"] == 1])
        read = {}
        for split in ("train", "test"):
            concept, _ = known.counts(pairs[split])
            rows = len(concept)
            read[split] = {"d": np.stack([concept.reshape(rows, -1), concept[:, ::-1].reshape(rows, -1)], axis=1)}
        found.append(pair_metrics(*prerequisite_baselines(read["train"], read["test"], label["train"])["d"], label["test"]))
    assert np.mean([f["roc_auc"] for f in found]) == pytest.approx(0.878, abs=0.03)
    assert np.mean([f["direction"] for f in found]) == pytest.approx(0.903, abs=0.03)


# ---- whole runs -----------------------------------------------------------------------------------------------------

TABLES = {
    "concepts.csv": ["concept,text", *(f"c{i},about number {i}" for i in range(12))],
    "prerequisites.csv": ["before,after", *(f"c{i},c{i + 1}" for i in range(11)), *(f"c{i},c{i + 2}" for i in range(0, 10, 2))],
}
SMALL = [
    "--train_learners", "200", "--judged_learners", "20", "--judge_seeds", "2", "--hidden_size", "16", "--steps", "4",
    "--num_train_epochs", "2", "--pair_epochs", "2", "--tracer_epochs", "2", "--warm_up", "6", "--disable_tqdm", "true",
    "--precision", "fp32",
]  # fmt: skip


def write(folder: Path, **changes: list[str]) -> list[str]:
    """Own tables in a folder, and the options that name them; a table that is changed to None is not there."""
    words = []
    for name, lines in (TABLES | {f"{k}.csv": v for k, v in changes.items()}).items():
        if lines is not None:
            (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
            option = "--train_file" if name == "answers.csv" else f"--{name.removesuffix('.csv')}_file"
            words += [option, str(folder / name)]
    return words


def answers(learners=60, length=9, concepts=12) -> list[str]:
    rng = np.random.default_rng(0)
    rows = [(f"L{i}", int(rng.integers(0, concepts))) for i in range(learners) for _ in range(length)]
    return ["learner,concepts,correct", *(f"{who},c{c},{int(rng.random() < 0.3 + 0.05 * c)}" for who, c in rows)]


def test_what_a_run_leaves_behind(finished_path):
    metrics = json.loads((finished_path / "metrics.json").read_text())
    assert set(metrics["test"]) == {"ep", "waste", "violations"} and metrics["test"]["waste"] == 0
    assert {"random", "random, reachable", "topological", "greedy mastery", PRIVILEGED} == set(metrics["baselines"])
    assert all(len(eps) == 3 for eps in metrics["seeds"].values()) and metrics["masks"]
    assert {"node degree", "degree and paths", "untuned encoder", ALL_FEATURES} == set(metrics["prerequisites"]["baselines"])
    paths = list(csv.DictReader((finished_path / "predictions.csv").open()))
    assert len(paths) == 20 * 8 and set(paths[0]) == {"learner", "step", "concept", "correct"}
    card = (finished_path / "README.md").read_text()
    assert f"Decoded by {metrics['protocol']['decode']}: " in card and f"decoded by {metrics['chosen'][1]['decode']} |" in card
    assert "no gains in a classroom" in card and "never read from the simulator" in card and "direction" in card
    assert PRIVILEGED not in card.split("**Gains")[0].split("The sequence policy")[-1], (
        "the verdict leaves the privileged line out"
    )
    assert {p.name for p in (finished_path / "figures").iterdir()} == {
        "promotion.png", "path.png", "prerequisites.png", "learning_curve.png"
    }  # fmt: skip


def test_what_is_published_holds_both_models_and_no_learner(finished_path):
    files = published_files(finished_path)
    assert {"model.safetensors", "path_transformer.py", "edu_recipes.json", "prerequisite_model/model.safetensors",
            "prerequisite_model/edu_recipes.json", "prerequisite_model/prerequisite_encoder.py"} <= set(files)  # fmt: skip
    assert not [f for f in files if f.endswith((".csv", ".yaml", ".bin")) or f.startswith("tracers")]
    settings = json.loads((finished_path / "edu_recipes.json").read_text())["settings"]
    assert set(settings["best_lr"]) == {"shared", "own"} and len(settings["concepts"]) == 24


def test_a_stranger_gets_both_models(finished_path):
    advisor = load(finished_path)
    code = (
        "import json, sys, torch; from transformers import AutoModel; "
        f"p = AutoModel.from_pretrained({str(finished_path)!r}, trust_remote_code=True).eval(); n = p.config.num_concepts; "
        f"q = AutoModel.from_pretrained({str(finished_path / 'prerequisite_model')!r}, trust_remote_code=True).eval(); "
        "z = torch.zeros(1, 2, dtype=torch.long); "
        "e = p(z, z, torch.zeros(1, 2, n, 3), torch.full((1, 2, n), 0.5), z + 3, moves=z).exam; "
        "i = torch.tensor([[5, 6], [7, 8]]); l = q(i, torch.ones_like(i)).logits; "
        "assert not any(name.startswith('trainers') for name in sys.modules); print(json.dumps([e.tolist(), l.tolist()]))"
    )
    alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=finished_path.parent, timeout=300)
    assert alone.returncode == 0, alone.stderr[-2000:]
    exam, logits = json.loads(alone.stdout.splitlines()[-1])
    z, i = torch.zeros(1, 2, dtype=torch.long), torch.tensor([[5, 6], [7, 8]])
    with torch.no_grad():
        n = advisor.policy.model.config.num_concepts
        ours = advisor.policy.model(z, z, torch.zeros(1, 2, n, 3), torch.full((1, 2, n), 0.5), z + 3, moves=z).exam
        assert np.allclose(exam, ours.numpy(), atol=1e-4)
        assert np.allclose(logits, advisor.encoder(i, torch.ones_like(i)).logits.numpy(), atol=1e-4)


def test_what_is_loaded_advises_as_what_was_trained(finished_path):
    first, again = load(finished_path), load(finished_path)
    columns, same = (advisor.predict_columns(**probe(advisor)) for advisor in (first, again))
    assert (
        columns == same and len(columns["learner"]) and set(columns["learner"]) <= {0, 1, 2} and len(columns["probability"]) == 20
    )
    alone = load(finished_path / "prerequisite_model")
    assert alone.policy is None and alone.predict_columns(**probe(alone))["probability"] == pytest.approx(columns["probability"])


def test_each_concept_of_a_path_says_why_it_is_there(finished_path):
    advisor = load(finished_path)
    names = advisor.settings.concepts
    goal = names.index("linear functions")
    asked = advisor.numbers(["whole numbers", "decimals", "whole numbers", "ratio"])
    path = advisor.path(asked, [1, 0, 1, 0], [goal], steps=12)
    assert path and sum(step["questions"] for step in path) <= 12
    for step in path:
        why = advisor.explain(step)
        assert why.split(";")[0] and (step["chain"] == [] or step["chain"][0] == step["concept"])
        if len(step["chain"]) > 1:
            edges = {tuple(e) for e in advisor.settings.edges}
            assert step["chain"][-1] == goal and all(e in edges for e in zip(step["chain"], step["chain"][1:], strict=False))
        assert step["met"] or "exception" in why
    known = np.full(len(names), 0.999)
    assert advisor.path(asked, [1, 0, 1, 0], [goal], known) == [], "nothing to do where all is mastered"
    known[goal] = 0.1
    assert sum(step["questions"] for step in advisor.path([], [], [goal], known, steps=12)), "mastery alone is enough to begin"


def test_a_learner_can_skip_and_a_teacher_overrides(finished_path):
    advisor = load(finished_path)
    names = advisor.settings.concepts
    goal, before = names.index("ratio"), names.index("equivalent fractions")
    with pytest.raises(ConfigurationError, match="needs 'equivalent fractions'.*--mastered"):
        advisor.path([], [], [goal], skip=[before])
    mastery = np.full(len(names), np.nan)
    mastery[[before, names.index("whole numbers")]] = 1.0
    path = advisor.path([], [], [goal], mastery, skip=[before])
    assert path and before not in {step["concept"] for step in path}


def test_what_is_mastered_needs_nothing_before_it_any_more(finished_path):
    """A learner who has mastered a concept, the goal or one in between, may skip what led to it, mastered or not."""
    advisor = load(finished_path)
    names = advisor.settings.concepts
    goal, between, first = (names.index(name) for name in ("ratio", "equivalent fractions", "whole numbers"))
    assert advisor.settings.rules.chain(first, goal) and between in np.flatnonzero(advisor.settings.rules.before[goal])
    for mastered in (goal, between):
        mastery = np.zeros(len(names))
        with pytest.raises(UnreachableGoal, match="'whole numbers'"):
            advisor.path([], [], [goal], mastery, skip=[first])
        mastery[np.flatnonzero(advisor.settings.rules.before[goal]) if mastered == between else goal] = 1.0
        path = advisor.path([], [], [goal], mastery, skip=[first])
        assert first not in {step["concept"] for step in path} and bool(path) == (mastered == between)


def test_predict_skips_what_a_teacher_says_is_mastered_and_names_whom_it_cannot_help(finished_path, predict, tmp_path):
    log, out = tmp_path / "answers.csv", tmp_path / "path.csv"
    log.write_text("learner,concepts,correct\n" + "ann,equivalent fractions,0\n" * 3 + "bob,equivalent fractions,0\n" * 3)
    words = ["--model", str(finished_path), "--input_file", str(log), "--output_file", str(out)]
    words += ["--goal", "ratio", "--skip", "equivalent fractions"]
    predict.main([*words, "--mastered", "equivalent fractions"])
    rows = list(csv.DictReader(out.open()))
    assert {r["learner_id"] for r in rows} == {"ann", "bob"} and all(r["step"] != "0" for r in rows)
    assert not [r for r in rows if "equivalent fractions" in (r["concept"], *r["reason"].split("'"))], "skipped, and not missed"
    told = tmp_path / "mastery.csv"
    told.write_text("learner_id,concept,mastery\nbob,equivalent fractions,1.0\n")
    predict.main([*words, "--mastery_file", str(told)])
    rows = list(csv.DictReader(out.open()))
    refused = [r for r in rows if r["learner_id"] == "ann"]
    assert len(refused) == 1 and refused[0]["step"] == "0" and "needs 'equivalent fractions'" in refused[0]["reason"]
    assert [r["step"] for r in rows if r["learner_id"] == "bob"][0] == "1", "one learner does not end the file"


def test_predict_proposes_paths_for_a_file(finished_path, predict, tmp_path):
    log, out = tmp_path / "answers.csv", tmp_path / "path.csv"
    log.write_text("learner,concepts,correct\n" + "ann,whole numbers,1\nann,ratio;decimals,0\n" + "bob,whole numbers,0\n")
    words = ["--model", str(finished_path), "--input_file", str(log), "--output_file", str(out), "--goal", "proportion"]
    predict.main([*words, "--steps", "6"])
    rows = list(csv.DictReader(out.open()))
    assert {r["learner_id"] for r in rows} == {"ann", "bob"} and (tmp_path / "path.png").stat().st_size > 3000
    assert all(r["reason"] and 0 < float(r["mastery"]) < 1 for r in rows if r["step"] != "0")
    told = tmp_path / "mastery.csv"
    told.write_text("learner_id,concept,mastery\n" + "".join(f"cy,{c},0.99\n" for c in load(finished_path).settings.concepts))
    predict.main([*words, "--mastery_file", str(told)])
    rows = {r["learner_id"]: r for r in csv.DictReader(out.open())}
    assert rows["cy"]["step"] == "0" and "mastered" in rows["cy"]["reason"], "all is mastered: a row says so"
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("before,after\nfractions of a whole,ratio\nratio,fractions of a whole\n")
    predict.main(["--model", str(finished_path), "--input_file", str(pairs), "--output_file", str(out)])
    p = [float(r["probability"]) for r in csv.DictReader(out.open())]
    assert len(p) == 2 and p[0] != p[1]


@pytest.fixture(scope="module")
def own_run(recipe, tiny_model, tmp_path_factory):
    """A run on own tables with answers: learners made of these."""
    folder = tmp_path_factory.mktemp("own")
    words = write(folder, answers=answers())
    argv = [*words, "--text_column", "text", "--model_name_or_path", tiny_model, "--output_dir", str(folder / "run"), *SMALL,
            "--tracer_epochs", "4", "--num_train_epochs", "1"]  # fmt: skip
    return recipe.main(argv), folder / "run", argv


def test_own_tables_with_answers_make_their_own_learners(own_run):
    metrics, out, _ = own_run
    assert "tracers" in metrics["protocol"]["simulator"] and "two halves" in metrics["protocol"]["split"]
    assert metrics["test"]["waste"] == 0
    logs, judging = (load_file(out / "tracers" / half / "model.safetensors") for half in ("logs", "judge"))
    assert any(not torch.equal(logs[name], judging[name]) for name in logs), "two tracers, of two halves of the learners"


def test_the_halves_share_no_learner(tmp_path):
    write(tmp_path, answers=answers())
    data = load_paths(
        concepts_file=tmp_path / "concepts.csv", prerequisites_file=tmp_path / "prerequisites.csv",
        answers_file=tmp_path / "answers.csv", split="none",
    )  # fmt: skip
    logs, judged = (set(data.halves[half]["learner_id"]) for half in ("logs", "judge"))
    assert len(logs) == len(judged) == 30 and not logs & judged
    assert {c for rows in data.halves["logs"]["concepts"] for asked in rows for c in asked} <= set(range(1, 13))


def small_run(folder: Path, name: str, model: str, *more: str) -> list[str]:
    words = ["--text_column", "text", "--model_name_or_path", model, "--output_dir", str(folder / name)]
    return [*write(folder), *words, *SMALL, *more]


def test_lora_trains_the_text_part_and_both_ways_of_saving_agree(recipe, tiny_model, tmp_path):
    found = {}
    for name, merge in (("merged", "true"), ("alone", "false")):
        lora = ["--simulator", "none", "--use_peft", "--lora_r", "4", "--merge_adapter", merge]
        recipe.main(small_run(tmp_path, name, tiny_model, *lora))
        advisor = load(tmp_path / name)
        found[name] = advisor.prerequisite_probability(["c0", "c5", "something new"], ["c1", "c2", "c3"])
    assert (tmp_path / "alone" / "adapter_config.json").is_file() and not (tmp_path / "merged" / "adapter_config.json").exists()
    assert np.allclose(found["merged"], found["alone"], atol=1e-5)


def test_a_chain_of_concepts_leaves_direction_alone_to_be_told(recipe, tiny_model, tmp_path, caplog):
    metrics = recipe.main(small_run(tmp_path, "chain", tiny_model, "--simulator", "none"))
    assert metrics["test"]["roc_auc"] == 0.5 and metrics["intervals"]["node degree"]["interval"] == [0.5, 0.5]
    assert "direction alone" in caplog.text and not metrics["slices"]


def test_folds_of_pairs_are_averaged_with_what_is_known_of_them(recipe, tiny_model, tmp_path, capsys):
    for fold in "01":
        words = ["--model_name_or_path", tiny_model, "--output_dir", str(tmp_path / fold), "--fold", fold, *SMALL]
        recipe.main([*words, "--simulator", "none"])  # the sample school: the small tables are one chain, without negatives
    folds = [json.loads((tmp_path / fold / "metrics.json").read_text()) for fold in "01"]
    capsys.readouterr()
    average = load_recipe("mean_of_folds", ROOT / "recipes/benchmarks/mean_of_folds.py")
    means = average.main(["--metrics_files", *(str(tmp_path / fold / "metrics.json") for fold in "01")])
    assert means[folds[0]["system"]]["mean"]["direction"] == pytest.approx(np.mean([f["test"]["direction"] for f in folds]))
    part = next(iter(folds[0]["slices"]))
    rows, table = [f["slices"][part] for f in folds if part in f["slices"]], capsys.readouterr().out
    degree = np.mean([row["node degree"]["roc_auc"] for row in rows])
    assert f"{part} ({sum(row['pairs'] for row in rows)})" in table and f"| node degree | {degree:.3f} /" in table


# ---- broken input ---------------------------------------------------------------------------------------------------


def changed(table: str, row: int, line: str) -> dict[str, list[str]]:
    """The tables, with one line changed; row as a spreadsheet numbers it."""
    lines = list(TABLES[f"{table}.csv"])
    lines[row - 1] = line
    return {table: lines}


BROKEN = {
    "circle": (changed("prerequisites", 13, "c3,c0"), [], ["circle", "row", "--break_cycles"]),
    "itself": (changed("prerequisites", 4, "c2,c2"), [], ["row 4", "own prerequisite", "c2"]),
    "unknown": (changed("prerequisites", 5, "c3,c44"), [], ["row 5", "no such concept", "c44"]),
    "twice": (changed("concepts", 3, "c0,about"), [], ["row 3", "stands in row 2 too"]),
    "no text": (changed("concepts", 4, "c2,"), [], ["row 4", "no text"]),
    "no name": (changed("concepts", 4, ",text"), [], ["row 4", "concept is missing"]),
    "one concept": ({"concepts": TABLES["concepts.csv"][:2]}, [], ["one concept only"]),
    "no header": (changed("prerequisites", 1, "from,to"), [], ["before"]),
    "empty pairs": ({"prerequisites": ["before,after"]}, [], ["prerequisites.csv"]),
    "one table": ({"prerequisites": None}, [], ["two files"]),
    "stranger in the log": ({"answers": [*answers(), "L1,c99,1"]}, [], ["c99", "concepts file"]),
    "no answer": ({"answers": [*answers(), "L1,c1,maybe"]}, [], ["answers.csv", "neither right nor wrong"]),
    "no learner": ({"answers": [*answers(), ",c1,1"]}, [], ["learner is missing"]),
    "few learners": ({"answers": answers(5)}, [], ["learners cannot be cut"]),
    "short answers": ({"answers": answers(60, 3)}, [], ["--warm_up"]),
    "simulator": ({}, ["--simulator", "classroom"], ["--simulator is 'classroom'", "knowledge_space"]),
    "no log": ({}, ["--simulator", "tracer"], ["needs answers", "--train_file"]),
    "other space": ({}, ["--simulator", "knowledge_space"], ["--dataset_name knowledge_space"]),
    "published": ({}, ["--split", "published"], ["published split"]),
    "split": ({}, ["--split", "concept"], ["Did you mean 'concepts'"]),
    "fold": ({}, ["--fold", "9"], ["no such fold"]),
    "negatives": ({}, ["--negatives", "0"], ["--negatives is 0"]),
    "one seed": ({}, ["--judge_seeds", "1"], ["--judge_seeds is 1"]),
    "hardly a learner": ({}, ["--train_learners", "3"], ["--train_learners is 3"]),
    "violations": ({}, ["--most_violations", "2"], ["--most_violations is 2"]),
    "no steps": ({}, ["--steps", "0"], ["--steps is 0"]),
    "no warm-up": ({}, ["--warm_up", "0"], ["--warm_up is 0"]),
    "no tokens": ({}, ["--max_length", "1"], ["--max_length is 1"]),
    "folds": ({}, ["--cv_folds", "3"], ["--fold 0 to 4"]),
    "metric": ({}, ["--metric_for_best_model", "ep"], ["expected loss"]),
    "test file": ({}, ["--test_file", "x.csv"], ["one file with all answers"]),
    "renamed": ({}, ["--learn_rate", "1"], ["learning_rate"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_used_is_told(name, recipe, tiny_model, tmp_path):
    tables, words, said = BROKEN[name]
    argv = [*write(tmp_path, **tables), "--model_name_or_path", tiny_model, "--output_dir", str(tmp_path / "run"), *SMALL, *words]
    with pytest.raises(ValueError) as error:
        recipe.main([*argv, "--text_column", "text"])
    assert error.value.exit_code == 2 and all(word in str(error.value) for word in said), str(error.value)


def test_a_circle_can_be_broken_by_the_stated_rule_and_is_told(recipe, tiny_model, tmp_path, capsys):
    argv = small_run(tmp_path, "run", tiny_model, "--break_cycles", "--check_data")
    write(tmp_path, **changed("prerequisites", 13, "c3,c0"))
    assert "prerequisite model" in recipe.main(argv)
    assert "taken out: about number 3 -> about number 0, which closes" in capsys.readouterr().out


MASTERY = ["learner_id,concept,mastery", "ann,ratio,0.5"]
WRONG_QUESTIONS = {
    "goal": (["--goal", "astrology"], None, ["no goal 'astrology'"]),
    "skip": (["--goal", "ratio", "--skip", "magic"], None, ["no concept 'magic'"]),
    "skipped goal": (["--goal", "ratio", "--skip", "ratio"], None, ["'ratio' is a goal and is to be skipped"]),
    "steps": (["--goal", "ratio", "--steps", "0"], None, ["--steps is 0"]),
    "answers": (
        ["--goal", "ratio"], "learner,concepts,correct\nann,ratios,1\n", ["row 2", "not trained on this concept", "ratio"],
    ),
    "nobody": (["--goal", "ratio"], "learner,concepts,correct\n", ["no"]),
    "mastery": (["--goal", "ratio"], [*MASTERY, "ann,decimals,1.5"], ["row 3", "no probability", "1.5"]),
    "mastery word": (["--goal", "ratio"], [*MASTERY, "ann,decimals,good"], ["row 3", "no probability"]),
    "mastery twice": (["--goal", "ratio"], [*MASTERY, "ann,ratio,0.6"], ["row 3", "concept twice"]),
    "mastery of what": (["--goal", "ratio"], [*MASTERY, "ann,ratoi,0.6"], ["row 3", "Did you mean 'ratio'"]),
    "mastery of whom": (["--goal", "ratio"], [*MASTERY, ",ratio,0.6"], ["row 3", "learner_id", "empty"]),
    "mastery column": (["--goal", "ratio"], ["learner,concept,mastery", "ann,ratio,0.5"], ["learner_id"]),
    "no pair": ([], "before,after\nratio,\n", ["row 2", "concept is missing"]),
    "no columns": ([], "a,b\nratio,ratio\n", ["before"]),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_QUESTIONS)
def test_what_cannot_be_answered_is_told(name, finished_path, predict, tmp_path):
    words, content, said = WRONG_QUESTIONS[name]
    log = tmp_path / "log.csv"
    log.write_text(content if isinstance(content, str) else "learner,concepts,correct\nann,ratio,1\n")
    if isinstance(content, list):
        (tmp_path / "mastery.csv").write_text("\n".join(content) + "\n")
        words = [*words, "--mastery_file", str(tmp_path / "mastery.csv")]
    argv = ["--model", str(finished_path), "--input_file", str(log), "--output_file", str(tmp_path / "out.csv"), *words]
    with pytest.raises(ValueError) as error:
        predict.main(argv)
    assert error.value.exit_code == 2 and all(word in str(error.value) for word in said), str(error.value)
    assert not (tmp_path / "out.csv").exists()


def test_what_is_no_path_model_is_told(finished_path, tmp_path):
    with pytest.raises(ConfigurationError, match="no model"):
        load(tmp_path)
    for name in ("config.json", "edu_recipes.json"):
        (tmp_path / name).write_bytes((finished_path / name).read_bytes())
    with pytest.raises(ConfigurationError, match="could not be loaded"):
        load(tmp_path)
    with pytest.raises(ConfigurationError, match="prerequisites alone"):
        load(finished_path / "prerequisite_model").path([], [], [0])
    with pytest.raises(ConfigurationError, match="needs a goal"):
        load(finished_path).path([], [], [])
    with pytest.raises(ConfigurationError, match="no text"):
        load(finished_path).prerequisite_probability(["ratio", " "], ["ratio", "decimals"])
