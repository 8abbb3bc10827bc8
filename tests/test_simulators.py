"""Simulated learners learn as their equations say, tell a policy nothing they should not, and are the same for every policy."""

import numpy as np
import pytest

from edu_datasets import load_concepts, school_generator
from trainers.simulators import KnowledgeSpace, Outcome, SchoolTerm, Seen, play, random_reachable


def random_move(seen, rng):
    return rng.integers(0, seen.goals.shape[1], len(seen.goals))


@pytest.fixture(scope="module")
def graph():
    return load_concepts(split="none").graph


@pytest.fixture
def school(graph):
    return SchoolTerm(len(graph), graph.edges, seed=1)


@pytest.fixture(params=["knowledge space", "school term"])
def simulator(request, graph):
    return KnowledgeSpace(1) if request.param == "knowledge space" else SchoolTerm(len(graph), graph.edges, seed=1)


# ---- what every simulator does ----------------------------------------------------------------------------------------


def test_learners_begin_with_a_warm_up_and_something_left_to_learn(simulator):
    seen = simulator.reset(200, seed=3)
    assert seen.concepts.shape == seen.correct.shape == (200, 20) and set(np.unique(seen.correct)) == {0, 1}
    assert seen.goals.shape == (200, simulator.n_concepts) and set(seen.goals.sum(1)) == set(range(3, 11))
    assert (simulator.score(seen.goals) < 1).all(), "a learner who has reached all goals cannot be promoted"


def test_an_episode_is_told_whole(simulator):
    seen, outcome = play(simulator, random_reachable, 50, steps=12, seed=5)
    assert seen.concepts.shape == seen.correct.shape == (50, 32) and seen.steps_left == 0
    assert outcome.start.shape == outcome.end.shape == outcome.promotion.shape == (50,)
    assert outcome.wasted.sum() == 0, "reachable moves are not wasted"
    assert set(outcome.means()) == {"ep", "waste", "violations"}


def test_every_policy_meets_the_same_learners_and_the_same_luck(simulator):
    seen, outcome = play(simulator, random_reachable, 40, seed=5)
    again, same = play(simulator, random_reachable, 40, seed=5)
    other, different = play(simulator, lambda s, rng: np.zeros(len(s.goals), dtype=int), 40, seed=5)
    assert (seen.concepts == again.concepts).all() and (outcome.end == same.end).all()
    assert (seen.goals == other.goals).all() and (seen.correct[:, :20] == other.correct[:, :20]).all()
    assert (outcome.start == different.start).all() and not (outcome.end == different.end).all()
    assert not (play(simulator, random_reachable, 40, seed=6)[0].goals == seen.goals).all()


def test_promotion_is_the_share_of_what_was_missing():
    outcome = Outcome(*(np.array(v) for v in ([0.0, 0.5, 0.5], [1.0, 0.75, 0.25], [0.0, 0, 0], [0.0, 0, 0.3])))
    assert outcome.promotion.tolist() == [1.0, 0.5, -0.5]
    assert outcome.means() == pytest.approx({"ep": 1 / 3, "waste": 0.0, "violations": 0.1})


def test_a_policy_sees_answers_and_never_the_truth(simulator, monkeypatch):
    def forbidden(self, *_):
        raise AssertionError("a policy looked at the truth")

    for name in ("hidden_mastery", "hidden_mastery_after"):
        monkeypatch.setattr(type(simulator), name, forbidden)
    seen, _ = play(simulator, random_reachable, 20)
    assert set(vars(seen)) == {"goals", "concepts", "correct", "reachable", "steps_left"}
    with pytest.raises(AssertionError, match="looked at the truth"):  # the twin
        play(simulator, lambda s, rng: simulator.hidden_mastery().argmin(1), 20)


def test_changing_the_goals_one_was_shown_does_not_change_the_exam(simulator):
    def cheat(seen: Seen, rng):
        seen.goals[:] = False
        seen.goals[:, 0] = True
        return random_reachable(seen, rng)

    honest, cheated = (play(simulator, policy, 50, seed=2)[1] for policy in (random_reachable, cheat))
    assert (honest.end == cheated.end).all() and (honest.start == cheated.start).all()


def test_looking_ahead_at_the_truth_is_better_than_chance(simulator):
    def privileged(seen, rng):
        gain = (simulator.hidden_mastery_after() * seen.goals[:, None]).sum(2)
        return np.where(seen.reachable, gain, -1).argmax(1)

    ahead, chance = (play(simulator, policy, 300, seed=4)[1].means()["ep"] for policy in (privileged, random_reachable))
    assert ahead > chance + 0.02


def test_what_would_be_learnt_is_what_is_learnt(simulator):
    seen = simulator.reset(30, seed=1)
    move = random_reachable(seen, np.random.default_rng(0))
    simulator._state = simulator._waited(simulator._state)
    expected = simulator.hidden_mastery_after()[np.arange(30), move]
    simulator._waited = lambda state: state
    simulator.step(move)
    assert np.allclose(simulator.hidden_mastery(), expected)


@pytest.mark.parametrize("concepts", [[0, 1], [0, 1, 99], [0, 1, -1], [[0], [1], [2]]])
def test_a_step_needs_one_concept_of_each_learner(concepts, simulator):
    simulator.reset(3)
    with pytest.raises(ValueError, match="one concept"):
        simulator.step(np.array(concepts))


def test_a_graph_with_a_circle_or_a_stranger_is_refused():
    with pytest.raises(ValueError, match="circle"):
        SchoolTerm(3, [(0, 1), (1, 2), (2, 0)])
    with pytest.raises(ValueError, match="circle"):
        SchoolTerm(3, [(1, 1)])
    with pytest.raises(ValueError, match="none of 0 to 2"):
        SchoolTerm(3, [(0, 3)])
    with pytest.raises(ValueError, match="0 learners"):
        KnowledgeSpace().reset(0)


def test_a_thousand_learners_are_asked_at_once(simulator, monkeypatch):
    asked, ask = [], simulator._ask_and_teach
    monkeypatch.setattr(simulator, "_ask_and_teach", lambda concepts, rng: asked.append(len(concepts)) or ask(concepts, rng))
    play(simulator, random_reachable, 1000, 20)
    assert set(asked) == {1000} and len(asked) <= 20 + 5 * 20, "a few warm-ups, one question a step"


# ---- the knowledge space ----------------------------------------------------------------------------------------------


def learn_by_hand(ability, concept):
    """One learner, one concept, edge by edge."""
    before = [a for a, b in KnowledgeSpace.EDGES if b == concept]
    gain = 0.5 * (5 - ability[concept]) * np.exp(-sum(5 - ability[q] for q in before))

    def pass_on(c, x):
        ability[c] = min(5, ability[c] + x)
        for following in [b for a, b in KnowledgeSpace.EDGES if a == c]:
            pass_on(following, x / 2)

    pass_on(concept, gain)


def test_learning_follows_the_equation_for_every_concept_and_all_learners_at_once():
    space = KnowledgeSpace(0)
    rng = np.random.default_rng(0)
    ability = rng.uniform(-3, 5, (200, 10))
    concepts = rng.integers(0, 10, 200)
    expected = ability.copy()
    for row, concept in zip(expected, concepts, strict=True):
        learn_by_hand(row, concept)
    found = space._taught({"ability": ability, "last": concepts}, concepts)["ability"]
    assert np.allclose(found, expected) and (found > ability).any()


def test_answers_and_difficulties_are_those_of_the_public_environment():
    space = KnowledgeSpace(0)
    given = space.difficulty[list(space.EASIEST_FIRST)]
    assert (
        (np.diff(given) >= 0).all() and set(given) <= set(range(6)) and (KnowledgeSpace(1).difficulty != space.difficulty).any()
    )
    state = {"ability": np.tile(space.difficulty, (3, 1)) + np.array([[0], [1], [-1]])}
    assert np.allclose(
        space._chance(state).T, [0.25 + 0.75 / 2, 0.25 + 0.75 / (1 + np.exp(-8.5)), 0.25 + 0.75 / (1 + np.exp(8.5))]
    )


def test_where_a_learner_can_go_on():
    space = KnowledgeSpace(0)
    near = {c: set(np.flatnonzero(space._near[c])) for c in range(10)}
    assert near[0] == {0, 1, 2}
    assert near[3] == {3, 4, 1, 0}  # itself, what follows, its prerequisite, and what is next to that
    assert near[9] == {9, 5, 8, 4, 2, 7}
    assert near[6] == {6, 7}


def test_an_unreachable_move_is_answered_and_teaches_nothing():
    space = KnowledgeSpace(1)
    seen = space.reset(100, seed=2)
    before, last = space.hidden_mastery(), space._state["last"].copy()
    move = np.where(seen.reachable, -1, np.arange(10)).max(1)
    answer = space.step(move)
    assert set(np.unique(answer)) <= {0, 1} and (space.hidden_mastery() == before).all() and (space._state["last"] == last).all()
    assert (space.outcome().wasted == 1).all()


def test_a_violation_is_a_move_before_some_prerequisite_is_mastered():
    space = KnowledgeSpace(1)
    seen = space.reset(300, seed=2)
    mastered = space.hidden_mastery() >= 0.5
    move = random_reachable(seen, np.random.default_rng(0))
    space.step(move)
    unmet = [any(not mastered[i, a] for a, b in space.EDGES if b == c) for i, c in enumerate(move)]
    assert space.outcome().violations.tolist() == unmet and 0 < sum(unmet) < 300


def test_the_usual_policies_gain_what_was_measured_before():
    """FIELD: random .144 (waste .59, violations .45), random reachable .356 (0, .27); three seeds of 1,500 learners."""
    table = {
        policy: np.mean([list(play(KnowledgeSpace(s), policy, 600, seed=s)[1].means().values()) for s in range(3)], axis=0)
        for policy in (random_move, random_reachable)
    }
    assert table[random_move] == pytest.approx([0.144, 0.59, 0.45], abs=0.06)
    assert table[random_reachable] == pytest.approx([0.356, 0.0, 0.27], abs=0.08)


# ---- the school term --------------------------------------------------------------------------------------------------


def test_the_school_learns_as_the_sample_school_does(school, graph):
    names = ("GAIN", "MOST_LEARNT", "FORGETTING_DAYS", "GUESS", "RANGE", "SLOPE", "TAUGHT", "ANSWERS_A_SESSION")
    assert all(getattr(SchoolTerm, name) == getattr(school_generator, name) for name in names)
    assert (school.depth == school_generator._depths()).all() and (school.before == school_generator._before()).all()
    margin = np.linspace(-3, 3, 7)
    assert np.allclose(school._probability(margin), school_generator._probability(margin))


def test_what_is_practised_is_learnt_and_what_is_not_fades(school):
    school.reset(200, seed=1)
    before = school.hidden_mastery()
    for _ in range(10):  # two sessions
        school.step(np.full(200, 3))
    after = school.hidden_mastery()
    assert (after[:, 3] > before[:, 3]).all() and (np.delete(after, 3, axis=1) <= np.delete(before, 3, axis=1)).all()
    assert (np.delete(after, 3, axis=1) < np.delete(before, 3, axis=1)).any()


def test_prerequisites_make_learning_faster(school):
    concept = int(np.flatnonzero(school.before.any(1))[-1])
    state = {"known": np.zeros((2, 24)), "learnt": np.zeros((2, 24)), "answers": np.ones(2, dtype=int)}
    state["known"][:, school.before[concept]] = [[-3], [3]]
    weak, strong = school._taught(state, np.full(2, concept))["learnt"][:, concept]
    assert strong > 2 * weak > 0


def test_answers_are_as_often_right_as_the_truth_says(school):
    seen = school.reset(4000, seed=1)
    chance = school.hidden_mastery()[:, 5]
    answers = school.step(np.full(4000, 5))
    assert seen.goals.shape == (4000, 24)
    high = chance > np.median(chance)
    assert answers[high].mean() - answers[~high].mean() == pytest.approx(chance[high].mean() - chance[~high].mean(), abs=0.06)
