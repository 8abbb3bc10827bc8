"""Learners who are simulated, to judge what to learn next and to make logs to train on; many at once, in numpy.

A simulator knows how its learners learn, and what it knows must not reach a policy. `play` therefore hands a policy a `Seen` and
nothing else: the goals, the concepts practised, whether the answers were right, and where the learner can go on. `exam`, `score`
and `outcome` are the judge's. What begins with `hidden_` is the truth itself, for a privileged baseline that is marked as such.
While a simulator is `sealed` it answers none of these.

Three families, which share no equation: `KnowledgeSpace`, where prerequisites decide how much is learnt and nothing is forgotten,
`SchoolTerm`, where what is not practised fades, and `TracedLearners`, where a tracer that was fitted on real answers says what a
learner can do. A policy that gains in one of them only has learnt the simulator, not how to teach. Gains in a simulator are no
promise of gains in a classroom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from scipy.special import erf


@dataclass
class Seen:
    """All that a policy may see.

    Attributes:
        goals: Bool array (learners, concepts).
        concepts: Int array (learners, steps so far), the concept of each answer, the oldest first; the warm-up is among them.
        correct: Int array (learners, steps so far), 0 or 1.
        reachable: Bool array (learners, concepts), where each learner can go on; a move elsewhere teaches nothing.
        steps_left: How many moves are left, this one included.
    """

    goals: np.ndarray
    concepts: np.ndarray
    correct: np.ndarray
    reachable: np.ndarray
    steps_left: int


MOST_DRAWS = 200  # rounds of drawing learners

Policy = Callable[[Seen, np.random.Generator], np.ndarray]
"""(what is seen, a generator) -> the next concept of each learner, int array (learners,)."""


@dataclass
class Outcome:
    """What became of each learner in an episode.

    Attributes:
        start, end: Float arrays (learners,), the share of the goals that is mastered, 0 to 1; start is below 1.
        wasted: Float array (learners,), the share of moves that were not reachable and taught nothing.
        violations: Float array (learners,), the share of moves to a concept some prerequisite of which was not mastered.
    """

    start: np.ndarray
    end: np.ndarray
    wasted: np.ndarray
    violations: np.ndarray

    @property
    def promotion(self) -> np.ndarray:
        """Ep of each learner, (end - start) / (full - start): 1 where all goals are mastered, negative where some were lost."""
        return (self.end - self.start) / (1 - self.start)

    def means(self) -> dict[str, float]:
        """Ep, waste and violations, each the mean over learners; report them together."""
        columns = {"ep": self.promotion, "waste": self.wasted, "violations": self.violations}
        return {name: float(values.mean()) for name, values in columns.items()}


def play(simulator: Simulator, policy: Policy, learners: int, steps: int = 20, seed: int = 0) -> tuple[Seen, Outcome]:
    """One episode of so many learners: a warm-up, an exam, `steps` moves of the policy, the exam again.

    With one seed every policy meets the same learners, and the same luck in answering: differences are paired.

    Args:
        simulator: The simulator.
        policy: Chooses the next concept of every learner.
        learners: How many.
        steps: How many moves.
        seed: Seed of the learners, of their answers and of the policy's generator.

    Returns:
        All that was seen, for logs, and the outcome.
    """
    rng = np.random.default_rng([seed, 2])
    seen = simulator.reset(learners, seed)
    for left in range(steps, 0, -1):
        seen.reachable, seen.steps_left = simulator.reachable(), left
        concepts = np.asarray(policy(seen, rng))
        correct = simulator.step(concepts)
        seen.concepts = np.concatenate([seen.concepts, concepts[:, None]], axis=1)
        seen.correct = np.concatenate([seen.correct, correct[:, None]], axis=1)
    seen.reachable, seen.steps_left = simulator.reachable(), 0
    return seen, simulator._outcome()


def random_reachable(seen: Seen, rng: np.random.Generator) -> np.ndarray:
    """The policy that takes any reachable concept, all alike: a strong baseline."""
    return np.where(seen.reachable, rng.random(seen.reachable.shape), -1).argmax(1)


class RandomHabits:
    """Random reachable play by learners who differ: the play that logs are made of; for one episode.

    One in four moves as `random_reachable` does. Of the others each likes some concepts better than others, and stays with what
    she or he did last as often as her or his habit is. Where all wander alike, hardly a log shows what becomes of a learner who
    stays with a concept until it is mastered, and a policy that does so is in the dark.
    """

    def __init__(self):
        self._stays: np.ndarray | None = None
        self._likes = np.zeros(0)

    def __call__(self, seen: Seen, rng: np.random.Generator) -> np.ndarray:
        learners, who = len(seen.goals), np.arange(len(seen.goals))
        if self._stays is None:
            own = rng.random(learners) < 0.75
            self._stays = np.where(own, rng.random(learners), 0.0)
            self._likes = np.where(own[:, None], rng.normal(size=seen.goals.shape), 0.0)
        drawn = np.where(seen.reachable, self._likes + rng.gumbel(size=seen.goals.shape), -np.inf).argmax(1)
        last = seen.concepts[:, -1] if seen.concepts.shape[1] else drawn
        stays = seen.reachable[who, last] & (rng.random(learners) < self._stays)
        return np.where(stays, last, drawn)


class Simulator:
    """What simulators share: drawing learners, asking, counting, exams.

    Args:
        n_concepts: Number of concepts.
        prerequisites: Pairs (before, after) of concept numbers, without circles.
        warm_up: Answers before the episode; learners who then master all goals are left out and others drawn.
        fewest_goals, most_goals: A learner's goals are so many different concepts, any number in between being as likely.

    Raises:
        ValueError: The prerequisites go round in a circle or name other concepts, or the goals do not fit.
    """

    mastered_at = 0.5
    """The probability of a correct answer from which on a concept counts as mastered."""

    def __init__(
        self,
        n_concepts: int,
        prerequisites: Sequence[tuple[int, int]],
        warm_up: int = 20,
        fewest_goals: int = 3,
        most_goals: int = 10,
    ):
        self.n_concepts, self.warm_up = n_concepts, warm_up
        self.before = np.zeros((n_concepts, n_concepts), dtype=bool)  # whether the second is a prerequisite of the first
        for first, then in prerequisites:
            if not (0 <= first < n_concepts and 0 <= then < n_concepts):
                raise ValueError(f"the prerequisite {(first, then)} names a concept that is none of 0 to {n_concepts - 1}")
            self.before[then, first] = True
        if np.linalg.matrix_power(self.before.astype(float), n_concepts).any():
            raise ValueError("the prerequisites go round in a circle")
        if not 1 <= fewest_goals <= most_goals <= n_concepts:
            raise ValueError(f"{fewest_goals} to {most_goals} goals of {n_concepts} concepts cannot be drawn")
        self.fewest_goals, self.most_goals = fewest_goals, most_goals
        self.offered = np.ones(n_concepts, dtype=bool)  # what can be a goal and be learnt at all
        self._state: dict[str, np.ndarray] = {}
        self._sealed = False

    # what a policy may use

    def reset(self, learners: int, seed: int = 0) -> Seen:
        """Draw learners, let them warm up, and give them the first exam.

        Returns:
            Their goals, and the answers of the warm-up.
        """
        if learners < 1:
            raise ValueError(f"an episode of {learners} learners cannot be played")
        rng, self._luck = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
        found: list[dict[str, np.ndarray]] = []
        while sum(len(part["goals"]) for part in found) < learners:
            if len(found) == MOST_DRAWS:
                raise ValueError("nothing is left to learn: nearly all learners master all their goals before the first move")
            self._state = self._draw(learners, rng)
            size = rng.integers(self.fewest_goals, self.most_goals + 1, learners)
            order = np.where(self.offered, rng.random((learners, self.n_concepts)), 2.0)
            goals = order.argsort(1).argsort(1) < size[:, None]
            log = []
            for _ in range(self.warm_up):
                concepts = self._warm_up_move(rng)
                log.append((concepts, self._ask_and_teach(concepts, rng)[0]))
            concepts, correct = (np.array(column, dtype=np.int64).reshape(-1, learners).T for column in zip(*log, strict=True))
            keep = self._score(goals) < 1
            part = {**self._state, "goals": goals, "concepts": concepts, "correct": correct.astype(np.int8)}
            found.append({name: values[keep] for name, values in part.items()})
        whole = {name: np.concatenate([part[name] for part in found])[:learners] for name in found[0]}
        self._goals, concepts, correct = (whole.pop(name) for name in ("goals", "concepts", "correct"))
        self._state, self._steps = whole, 0
        self._wasted, self._violations = np.zeros((2, learners))
        self._start = self._score(self._goals)
        return Seen(self._goals.copy(), concepts, correct, self.reachable(), 0)

    def reachable(self) -> np.ndarray:
        """Bool array (learners, concepts): where each learner can go on. Not the same as having the prerequisites."""
        return np.ones((len(self._goals), self.n_concepts), dtype=bool)

    def step(self, concepts: np.ndarray) -> np.ndarray:
        """Each learner answers a question on a concept, and learns from it where it is reachable.

        Args:
            concepts: Int array (learners,).

        Returns:
            Int8 array (learners,), 1 for a correct answer. A move that is not reachable is answered too, and teaches nothing: the
            learner does not say so.
        """
        concepts = np.asarray(concepts)
        if concepts.shape != (len(self._goals),) or concepts.min() < 0 or concepts.max() >= self.n_concepts:
            raise ValueError(f"a step needs one concept, 0 to {self.n_concepts - 1}, of each of {len(self._goals)} learners")
        unmet = (self.before[concepts] & ~self._mastered()).any(1) if self.before.any() else np.zeros(len(concepts), dtype=bool)
        correct, taught = self._ask_and_teach(concepts, self._luck)
        self._violations += unmet
        self._wasted += ~taught
        self._steps += 1
        return correct

    # the judge's

    def exam(self, seed: int, questions: int = 4) -> np.ndarray:
        """Answers of each learner to some questions on each concept; nothing is taught. What logs end with.

        Returns:
            Float32 array (learners, concepts), the share of correct answers.
        """
        self._open()
        rng, chance = np.random.default_rng([seed, 3]), self._chance(self._state)
        return np.mean([rng.random(chance.shape) < chance for _ in range(questions)], axis=0, dtype=np.float32)

    def score(self, goals: np.ndarray) -> np.ndarray:
        """Float array (learners,), the share of the goals (bool array (learners, concepts)) that is mastered."""
        self._open()
        return self._score(goals)

    def outcome(self) -> Outcome:
        """What became of each learner since `reset`."""
        self._open()
        return self._outcome()

    # the truth

    @contextmanager
    def sealed(self) -> Iterator[None]:
        """Within, the judge's and what begins with `hidden_` raise: a policy decides by what it has seen, or not at all."""
        self._sealed = True
        try:
            yield
        finally:
            self._sealed = False

    def _open(self) -> None:
        if self._sealed:
            raise PermissionError("a policy that is not marked as privileged looked at the learners' true mastery")

    def hidden_mastery(self) -> np.ndarray:
        """Float array (learners, concepts), the probability of a correct answer to a plain question. Not for a policy."""
        self._open()
        return self._chance(self._state)

    def hidden_promise(self, goals: np.ndarray) -> np.ndarray:
        """Float array (learners, concepts): the sum of `hidden_mastery` over the goals if a concept were learnt next, -inf where
        that is not worked out. Not for a policy."""
        return (self.hidden_mastery_after() * goals[:, None]).sum(2)

    def hidden_mastery_after(self) -> np.ndarray:
        """Float array (learners, concepts, concepts): `hidden_mastery` if the second index were learnt next. Not for a policy."""
        self._open()
        learners, after, state = len(self._goals), [], self._state
        for concept in range(self.n_concepts):
            after.append(self._chance(self._taught(state, np.full(learners, concept))))
        return np.stack(after, axis=1)

    def _score(self, goals: np.ndarray) -> np.ndarray:
        return (self._mastered() & goals).sum(1) / goals.sum(1)

    def _outcome(self) -> Outcome:
        steps = max(self._steps, 1)
        return Outcome(self._start, self._score(self._goals), self._wasted / steps, self._violations / steps)

    def _mastered(self) -> np.ndarray:
        return self._chance(self._state) >= self.mastered_at

    def _ask_and_teach(self, concepts: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The answers, and whether each learner learnt from hers; the answer comes first, and does not change what is learnt."""
        self._state = self._waited(self._state)
        correct = rng.random(len(concepts)) < self._answer_chance(concepts, rng)
        taught = self._may_go(concepts)
        learnt = self._taught(self._state, concepts)
        self._state = {
            name: np.where(taught.reshape(-1, *[1] * (values.ndim - 1)), learnt[name], values)
            for name, values in self._state.items()
        }
        return correct.astype(np.int8), taught

    # what a simulator is made of; a state is a dictionary of arrays with a row for each learner

    def _draw(self, learners: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def _chance(self, state: dict[str, np.ndarray]) -> np.ndarray:
        """(learners, concepts), the probability of a correct answer to a plain question."""
        raise NotImplementedError

    def _taught(self, state: dict[str, np.ndarray], concepts: np.ndarray) -> dict[str, np.ndarray]:
        """The state after learning one concept each."""
        raise NotImplementedError

    def _warm_up_move(self, rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, self.n_concepts, len(next(iter(self._state.values()))))

    def _waited(self, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The state when the next question comes."""
        return state

    def _answer_chance(self, concepts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return self._chance(self._state)[np.arange(len(concepts)), concepts]

    def _may_go(self, concepts: np.ndarray) -> np.ndarray:
        return np.ones(len(concepts), dtype=bool)


# ---- the knowledge space --------------------------------------------------------------------------------------------


class KnowledgeSpace(Simulator):
    """KSS, the simulator of cognitive structure (Liu et al. 2019): ten concepts, three-parameter answers, nothing is forgotten.

    With theta a learner's ability on a concept and b the concept's difficulty:

        ability at first   theta_i = a whole number, -3 to 0, less 0.1 i
        difficulty         ten whole numbers, 0 to 5, in ascending order given to the concepts 5, 0, 1, 2, 3, 4, 6, 7, 8, 9
        an answer          P(correct on i) = 0.25 + 0.75 / (1 + exp(-8.5 (theta_i - b_i)))
        learning i         adds x = 0.5 (5 - theta_i) exp(-sum over the prerequisites q of i of (5 - theta_q)) to i, x/2 to each
                           concept that i is a prerequisite of, x/4 to those behind, and so on; theta ends at 5
        reachable from i   i, what it is a prerequisite of, its prerequisites, and what is next to these
        mastered           P >= 0.5
        warm-up            20 moves: nine in ten to the first concept in the order 0, 5, 6, 1, 2, 7, 3, 4, 8, 9 with P < 0.6, the
                           others to any concept
        goals              3 to 10 concepts

    Args:
        seed: Seed of the difficulties.
        warm_up: Moves before the episode.
    """

    EDGES = ((0, 1), (0, 2), (1, 3), (2, 4), (2, 8), (3, 4), (4, 8), (5, 4), (5, 9), (6, 7), (7, 8), (8, 9))
    EASIEST_FIRST = (5, 0, 1, 2, 3, 4, 6, 7, 8, 9)
    ORDER = np.array([0, 5, 6, 1, 2, 7, 3, 4, 8, 9])
    MOST = 5.0

    def __init__(self, seed: int = 0, warm_up: int = 20):
        super().__init__(10, self.EDGES, warm_up)
        self.difficulty = np.zeros(self.n_concepts)
        self.difficulty[list(self.EASIEST_FIRST)] = np.sort(np.random.default_rng(seed).integers(0, 6, self.n_concepts))
        after = self.before.T
        self._passed_on = np.linalg.inv(np.eye(self.n_concepts) - after / 2)  # the sum over all ways of 1/2 a step
        around = after | self.before
        self._near = np.eye(self.n_concepts, dtype=bool) | around | (self.before.astype(int) @ around > 0)

    def reachable(self) -> np.ndarray:
        last = self._state["last"]
        return (last < 0)[:, None] | self._near[last]

    def _draw(self, learners: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        ability = rng.integers(-3, 1, (learners, self.n_concepts)) - 0.1 * np.arange(self.n_concepts)
        return {"ability": ability, "last": np.full(learners, -1)}

    def _chance(self, state: dict[str, np.ndarray]) -> np.ndarray:
        return 0.25 + 0.75 / (1 + np.exp(-8.5 * (state["ability"] - self.difficulty)))

    def _taught(self, state: dict[str, np.ndarray], concepts: np.ndarray) -> dict[str, np.ndarray]:
        missing = self.MOST - state["ability"]
        discount = np.exp(-(missing * self.before[concepts]).sum(1))
        gain = 0.5 * missing[np.arange(len(concepts)), concepts] * discount
        ability = state["ability"] + gain[:, None] * self._passed_on[concepts]
        return {"ability": np.minimum(ability, self.MOST), "last": concepts}

    def _may_go(self, concepts: np.ndarray) -> np.ndarray:
        return self.reachable()[np.arange(len(concepts)), concepts]

    def _warm_up_move(self, rng: np.random.Generator) -> np.ndarray:
        anywhere = super()._warm_up_move(rng)
        first = self.ORDER[(self._chance(self._state)[:, self.ORDER] < 0.6).argmax(1)]
        return np.where(rng.random(len(anywhere)) < 0.9, first, anywhere)


# ---- the school term ------------------------------------------------------------------------------------------------


class SchoolTerm(Simulator):
    """Learning and forgetting over a graph of concepts, by the equations of the sample school (edu_datasets/school_generator.py).

    With s(x) = 1 / (1 + exp(-x)), a learner's ability a ~ N(0, 1) and grade 7 to 10, and a concept's depth, the edges on the
    longest way to it:

        mastery        m_c = k_c + l_c
        known before   k_c = 0.9 a + 0.35 (grade - 8.5) - 0.2 (depth_c - 3) + N(0, 0.5)
        learning       an answer on c adds 0.5 (0.2 + 0.8 r) max(0, 1 - l_c / 3) to l_c, r the mean of s(m) over the prerequisites
                       of c, 1 where it has none
        forgetting     l shrinks to exp(-d / 25) of itself in d days; five answers a session, a session every 7/3 days
        an answer      P(correct) = 0.12 + 0.85 s(1.3 (m_c - difficulty)), a question of five of the concept, N(0, 0.6) hard
        mastered       P >= 0.7 on a question of difficulty 0
        reachable      everything
        warm-up        20 answers on any of the 14 concepts that the grade is taught
        goals          3 to 10 concepts

    The bias against language learners in the sample school's worded questions is not here.

    Args:
        n_concepts: Number of concepts, in the order in which they are taught.
        prerequisites: Pairs (before, after) of concept numbers, without circles.
        seed: Seed of the questions.
        warm_up: Answers before the episode.
    """

    GAIN, MOST_LEARNT, FORGETTING_DAYS = 0.5, 3.0, 25.0
    GUESS, RANGE, SLOPE = 0.12, 0.85, 1.3
    QUESTIONS, ANSWERS_A_SESSION, SESSION_DAYS, TAUGHT = 5, 5, 7 / 3, 14
    mastered_at = 0.7

    def __init__(self, n_concepts: int, prerequisites: Sequence[tuple[int, int]], seed: int = 0, warm_up: int = 20):
        super().__init__(n_concepts, prerequisites, warm_up, min(3, n_concepts), min(10, n_concepts))
        self.difficulty = np.random.default_rng(seed).normal(0, 0.6, (n_concepts, self.QUESTIONS))
        self.depth = np.zeros(n_concepts)
        for _ in range(n_concepts):
            self.depth = np.where(self.before.any(1), np.where(self.before, self.depth + 1, 0).max(1), 0)
        self._share = self.before / np.maximum(self.before.sum(1, keepdims=True), 1)

    def _draw(self, learners: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        grade, ability = rng.integers(7, 11, learners), rng.normal(size=learners)
        own = rng.normal(0, 0.5, (learners, self.n_concepts))
        known = 0.9 * ability[:, None] + 0.35 * (grade - 8.5)[:, None] - 0.2 * (self.depth - 3) + own
        return {"known": known, "learnt": np.zeros_like(known), "grade": grade, "answers": np.zeros(learners, dtype=int)}

    def _chance(self, state: dict[str, np.ndarray]) -> np.ndarray:
        return self._probability(state["known"] + state["learnt"])

    def _probability(self, margin: np.ndarray) -> np.ndarray:
        return self.GUESS + self.RANGE * _logistic(self.SLOPE * margin)

    def _taught(self, state: dict[str, np.ndarray], concepts: np.ndarray) -> dict[str, np.ndarray]:
        rows = np.arange(len(concepts))
        mastery = _logistic(state["known"] + state["learnt"])
        ready = np.where(self.before[concepts].any(1), (mastery * self._share[concepts]).sum(1), 1.0)
        room = np.maximum(0, 1 - state["learnt"][rows, concepts] / self.MOST_LEARNT)
        learnt = state["learnt"].copy()
        learnt[rows, concepts] += self.GAIN * (0.2 + 0.8 * ready) * room
        return {**state, "learnt": learnt, "answers": state["answers"] + 1}

    def _waited(self, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        answers = state["answers"]
        days = np.where((answers % self.ANSWERS_A_SESSION == 0) & (answers > 0), self.SESSION_DAYS, 0.0)
        return {**state, "learnt": state["learnt"] * np.exp(-days / self.FORGETTING_DAYS)[:, None]}

    def _answer_chance(self, concepts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        rows = np.arange(len(concepts))
        question = rng.integers(0, self.QUESTIONS, len(concepts))
        mastery = (self._state["known"] + self._state["learnt"])[rows, concepts]
        return self._probability(mastery - self.difficulty[concepts, question])

    def _warm_up_move(self, rng: np.random.Generator) -> np.ndarray:
        taught = min(self.TAUGHT, self.n_concepts)
        first = np.round((self._state["grade"] - 7) * (self.n_concepts - taught) / 3).astype(int)
        return first + rng.integers(0, taught, len(first))


# ---- learners as a tracer knows them --------------------------------------------------------------------------------


class TracedLearners(Simulator):
    """Learners as a tracer of knowledge sees them (as the KES of Liu et al. 2019): fitted on real answers, no equation of ours.

        start          the first answers of a real learner, which are the warm-up
        an answer      P(correct on c) = what the tracer says after all answers so far; the answer is drawn from it
        learning       the tracer reads the answer, and what it says of every concept changes
        mastered       P >= 0.7
        reachable      every concept that somebody answered
        goals          3 to 10 of these

    Args:
        weights: Name -> array, the weights of a `models.knowledge_tracing` of one member with one LSTM layer, without features or
            questions.
        concepts: Int array (real learners, warm-up), the concepts of their first answers, from 0.
        correct: Int array (real learners, warm-up), 0 or 1.
        prerequisites: Pairs (before, after) of concept numbers, without circles; none where no graph is known.
        offered: Bool array (concepts,), what can be learnt; all where not given.

    Raises:
        ValueError: There are no real learners, or the weights are another model's.
    """

    mastered_at = 0.7

    def __init__(
        self,
        weights: Mapping[str, np.ndarray],
        concepts: np.ndarray,
        correct: np.ndarray,
        prerequisites: Sequence[tuple[int, int]] = (),
        offered: np.ndarray | None = None,
    ):
        names = ("concept", "answer", "history.weight_ih_l0", "history.weight_hh_l0", "readout.0", "readout.3", "base_rate")
        w = {name.removeprefix("members.0."): np.asarray(value, np.float32) for name, value in weights.items()}
        missing = [n for n in names if n not in w and f"{n}.weight" not in w]
        if missing or any(n.startswith(("members.", "features.", "history.weight_ih_l1")) for n in w):
            raise ValueError("simulated learners need a tracer of one member with one LSTM layer and without features")
        n = len(w["concept.weight"]) - 1
        self.first_concepts, self.first_correct = np.asarray(concepts), np.asarray(correct)
        if len(self.first_concepts) < 1 or self.first_concepts.shape != self.first_correct.shape:
            raise ValueError("simulated learners begin with the answers of real ones: there are none long enough")
        can = np.ones(n, dtype=bool) if offered is None else np.asarray(offered, bool)
        fewest, most = min(3, int(can.sum())), min(10, int(can.sum()))
        super().__init__(n, prerequisites, self.first_concepts.shape[1], fewest, most)
        self.offered = can
        width = w["concept.weight"].shape[1]
        self._answer, self._into, self._onward = w["answer.weight"], w["history.weight_ih_l0"].T, w["history.weight_hh_l0"].T
        self._bias = w["history.bias_ih_l0"] + w["history.bias_hh_l0"]
        self._from_state = w["readout.0.weight"][:, :width].T
        self._asked = w["concept.weight"][1:] @ w["readout.0.weight"][:, width:].T + w["readout.0.bias"]
        self._out, self._base = w["readout.3.weight"][0], w["readout.3.bias"] + w["base_rate.weight"][1:, 0]

    def reachable(self) -> np.ndarray:
        return np.tile(self.offered, (len(self._goals), 1))

    def hidden_promise(self, goals: np.ndarray) -> np.ndarray:
        """As in any simulator, for the goals alone: each is answered correctly or not, as likely as the tracer says."""
        self._open()
        now, found = self._chance(self._state), np.full(goals.shape, -np.inf)
        for concept in np.flatnonzero(goals.any(0)):
            rows = np.flatnonzero(goals[:, concept])
            state, asked = {name: values[rows] for name, values in self._state.items()}, np.full(len(rows), concept)
            right = now[rows, concept][:, None]
            after = [self._chance(self._read(state, asked, np.full(len(rows), answer))) for answer in (0, 1)]
            found[rows, concept] = ((after[0] * (1 - right) + after[1] * right) * goals[rows]).sum(1)
        return found

    def hidden_mastery_after(self) -> np.ndarray:
        self._open()
        learners, after, now = len(self._goals), [], self._chance(self._state)
        for concept in range(self.n_concepts):
            asked = np.full(learners, concept)
            wrong, right = (self._chance(self._read(self._state, asked, np.full(learners, a))) for a in (0, 1))
            after.append(wrong + now[:, [concept]] * (right - wrong))
        return np.stack(after, axis=1)

    def _draw(self, learners: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        empty = np.zeros((2, learners, self._onward.shape[0]), np.float32)
        who = rng.integers(0, len(self.first_concepts), learners)
        return {"output": empty[0], "cell": empty[1], "who": who, "answers": np.zeros(learners, dtype=int)}

    def _warm_up_move(self, rng: np.random.Generator) -> np.ndarray:
        return self.first_concepts[self._state["who"], self._state["answers"]]

    def _ask_and_teach(self, concepts: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        state, n = self._state, len(concepts)
        luck = rng.random(n)
        if state["answers"][0] < self.warm_up:  # what the real learner answered
            correct, taught = self.first_correct[state["who"], state["answers"]] > 0, np.ones(n, dtype=bool)
        else:
            correct, taught = luck < self._chance(state)[np.arange(n), concepts], self._may_go(concepts)
        read = self._read(state, concepts, correct.astype(int))
        self._state = {k: np.where(taught.reshape(-1, *[1] * (v.ndim - 1)), read[k], v).astype(v.dtype) for k, v in state.items()}
        return correct.astype(np.int8), taught

    def _may_go(self, concepts: np.ndarray) -> np.ndarray:
        return self.offered[concepts]

    def _read(self, state: dict[str, np.ndarray], concepts: np.ndarray, correct: np.ndarray) -> dict[str, np.ndarray]:
        """The state after one more answer each; an LSTM cell."""
        answered = self._answer[concepts + 1 + correct * (self.n_concepts + 1)]
        gates = answered @ self._into + state["output"] @ self._onward + self._bias
        enter, keep, new, show = np.split(gates, 4, axis=1)
        cell = _logistic(keep) * state["cell"] + _logistic(enter) * np.tanh(new)
        return {**state, "cell": cell, "output": _logistic(show) * np.tanh(cell), "answers": state["answers"] + 1}

    def _chance(self, state: dict[str, np.ndarray]) -> np.ndarray:
        hidden = (state["output"] @ self._from_state)[:, None] + self._asked
        hidden = 0.5 * hidden * (1 + erf(hidden / np.sqrt(2, dtype=np.float32)))  # GELU
        return _logistic((hidden @ self._out + self._base).astype(float))


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
