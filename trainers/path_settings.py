"""What a path policy reads, saved with it; and the logs that it learns from."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from datasets import Dataset, Features, List, Value

from .best_lr import LONGEST, MasteryEstimator, count_answers
from .parser import ConfigurationError
from .path_rules import PathRules
from .simulators import RandomHabits, Simulator, play

DECODES = ("mastery", "return")
GOAL_SETS = 4  # that each log is read with
LOGS = Features(
    {
        "cohort": Value("string"), "concepts": List(Value("int32")), "correct": List(Value("int8")),
        "goals": List(Value("int32")), "exam": List(Value("float32")),
    }
)  # fmt: skip
"""One learner's episode a row: all answers, the warm-up among them, and at the end an exam.

    {"cohort": "knowledge space 10003", "concepts": [0, 0, 5, ...], "correct": [0, 1, 1, ...], "goals": [2, 4, 7],
     "exam": [1.0, 1.0, 0.25, 0.75, 0.5, ...]}

Concepts count from 0. The exam is the share of right answers to a few questions on each concept, not the truth: a right one may
be a guess.
"""


@dataclass
class PathSettings:
    """What is saved in edu_recipes.json.

    Attributes:
        concepts: Ids of the concepts; number 0 is the first.
        texts: Their texts.
        edges: Prerequisites (before, after), numbers.
        simulator: The learners that the policy was trained on, in words; '' where there is no policy.
        steps: Moves of a path.
        warm_up: Answers before the first move, in the logs.
        near_only: Whether learners go on near the last concept alone.
        offered: Numbers of the concepts that can be learnt.
        mastered_at: The probability of a right answer from which on a concept counts as mastered.
        met_at: The estimated mastery from which on a prerequisite counts as met; chosen on learners of their own.
        exception_at: How much more worth a concept must be, whose prerequisites are not met, to be taken all the same; None for
            never. Chosen likewise, see `path_policy`.
        decode: Where the share of the goals comes from that a move is expected to lead to: 'mastery' adds up what the exam
            readout predicts, goal by goal; 'return' asks which returns moves like it came with. Chosen likewise.
        best_lr: "shared" and "own" of the `MasteryEstimator`.
        pairs: What the prerequisite model needs beside its weights: "max_length" and "edges", the prerequisites it was trained
            on; empty where there is no such model.
    """

    concepts: list[str]
    texts: list[str]
    edges: list[list[int]]
    simulator: str = ""
    steps: int = 20
    warm_up: int = 20
    near_only: bool = False
    offered: list[int] = field(default_factory=list)
    mastered_at: float = 0.5
    met_at: float = 0.5
    exception_at: float | None = None
    decode: str = "mastery"
    best_lr: dict[str, list] = field(default_factory=dict)
    pairs: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.decode not in DECODES:
            raise ConfigurationError(f"--decode is {self.decode!r}; expected one of {', '.join(DECODES)}.")
        for name in ("steps", "warm_up"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"--{name} is {getattr(self, name)}; expected 1 or more.")

    @functools.cached_property
    def rules(self) -> PathRules:
        """The two masks."""
        return PathRules(len(self.concepts), self.edges, self.near_only, self.offered)

    @functools.cached_property
    def estimator(self) -> MasteryEstimator:
        """Mastery from answers."""
        return MasteryEstimator(self.best_lr["shared"], self.best_lr["own"], self.edges)

    def learn_estimator(self, estimator: MasteryEstimator) -> None:
        """Take over a fitted estimator."""
        self.best_lr = {"shared": estimator.shared, "own": estimator.own}
        self.__dict__.pop("estimator", None)


# ---- logs -----------------------------------------------------------------------------------------------------------


@dataclass
class Cohort:
    """Learners who play together.

    Attributes:
        name: Of the simulator, and of whoever its learners are drawn from.
        simulator: Where they learn.
        seed: Of the learners and of their luck.
        learners: How many.
    """

    name: str
    simulator: Simulator
    seed: int
    learners: int

    @property
    def label(self) -> str:
        """Two cohorts with one label are the same learners."""
        return f"{self.name} {self.seed}"


def make_logs(cohorts: Sequence[Cohort], steps: int) -> Dataset:
    """Let cohorts move at random (`RandomHabits`), and give them an exam: the columns of `LOGS`, a row a learner."""
    found: dict[str, list] = {name: [] for name in LOGS}
    for cohort in cohorts:
        seen, _ = play(cohort.simulator, RandomHabits(), cohort.learners, steps, cohort.seed)
        found["cohort"] += [cohort.label] * cohort.learners
        found["goals"] += [np.flatnonzero(row) for row in seen.goals]
        for name, values in (
            ("concepts", seen.concepts),
            ("correct", seen.correct),
            ("exam", cohort.simulator.exam(cohort.seed)),
        ):
            found[name] += list(values)
    return Dataset.from_dict(found, features=LOGS)


def stacked(logs: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """The concepts and the answers of all logs, two int arrays (learners, answers)."""
    return tuple(np.array(logs.with_format("numpy")[name][:], np.int64) for name in ("concepts", "correct"))


def encode(batch: dict[str, list], indices: Sequence[int], settings: PathSettings) -> dict[str, list]:
    """From which answer on each log is known; for `Dataset.map(batched=True, with_indices=True)`.

    Of every other log the answers before that are forgotten, and estimated mastery alone is left of them: so the policy also
    learns to go by what somebody else says is mastered. And each log is read with other goals too, drawn at random: its moves
    aimed at none, and the exam tells what came of all (hindsight, Andrychowicz et al. 2017).

    Returns:
        start (number of the first answer that is known), goal_sets (`GOAL_SETS` of one size, the log's own goals first), length
        (moves).
    """
    known_from, sets = [], []
    for i, goals in zip(indices, batch["goals"], strict=True):
        rng = np.random.default_rng(i)
        known_from.append(int(rng.integers(0, settings.warm_up + 1)) if i % 2 else 0)
        others = [rng.permutation(len(settings.concepts))[: len(goals)].tolist() for _ in range(GOAL_SETS - 1)]
        sets.append([list(goals), *others])
    length = [len(concepts) - settings.warm_up for concepts in batch["concepts"]]
    return {"start": known_from, "goal_sets": sets, "length": length}


@dataclass
class PathCollator:
    """Logs to a batch: tokens before each move, what came of it, and what could have been done."""

    settings: PathSettings

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        """The inputs of `models.path_transformer`, and beside them

        reachable: bool (learners, moves, concepts); next_correct: float (learners, moves), the answer to each move;
        exam_answers: float (learners, concepts).
        """
        settings, n = self.settings, len(self.settings.concepts)
        concepts, correct = (np.array([row[name] for row in rows], np.int64) for name in ("concepts", "correct"))
        exam, first = np.array([row["exam"] for row in rows], np.float32), settings.warm_up
        goals = np.zeros((len(rows), GOAL_SETS, n), np.float32)
        for target, row in zip(goals, rows, strict=True):
            np.put_along_axis(target, np.asarray(row["goal_sets"]), 1, axis=1)
        counts = count_answers(concepts, correct, n)
        mastery = settings.estimator.of_counts([values[:, first:-1] for values in counts])
        at, known_from = np.arange(first, concepts.shape[1]), np.array([int(row["start"]) for row in rows])
        batch = path_tokens(concepts, correct, counts, mastery, at, 1, known_from)
        batch |= {"moves": concepts[:, first:], "next_correct": correct[:, first:].astype(np.float32), "goals": goals}
        batch |= {"reachable": settings.rules.reachable(settings.rules.places(concepts)[:, first:-1]).copy()}
        batch |= {"returns": (exam[:, None] * goals).sum(2) / goals.sum(2), "exam_answers": exam}
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in batch.items()}


def path_tokens(
    concepts: np.ndarray, correct: np.ndarray, counts: Sequence[np.ndarray], mastery: np.ndarray, at: np.ndarray, steps_left: int,
    known_from: np.ndarray | int = 0,
) -> dict[str, np.ndarray]:  # fmt: skip
    """The tokens before the moves of a path, as `models.path_transformer` reads them.

    Args:
        concepts: Int array (learners, answers), from 0.
        correct: Int array (learners, answers).
        counts: See `best_lr.count_answers`.
        mastery: Float array (learners, moves, concepts), estimated before each move.
        at: Int array (moves,), how many answers there are before each move.
        steps_left: Before the last of the moves, it included.
        known_from: Int array (learners,), the first answer that is known; what was before is in `mastery` alone.

    Returns:
        concepts, correct, counts, mastery, steps_left.
    """
    learners, who = len(concepts), np.arange(len(concepts))
    known_from = np.broadcast_to(known_from, learners)
    right, wrong = (values[:, at] - values[who, known_from][:, None] for values in counts[:2])
    told = np.stack([np.log1p(right), np.log1p(wrong), np.minimum(counts[2][:, at], right) / LONGEST], axis=-1)
    last = np.zeros((2, learners, len(at)), np.int64)
    if (at > 0).any():
        read = (at > 0) & (at > known_from[:, None])
        last[0], last[1] = np.where(read, concepts[:, at - 1] + 1, 0), np.where(read, correct[:, at - 1], 0)
    left = np.tile(steps_left + np.arange(len(at))[::-1], (learners, 1))
    return {"concepts": last[0], "correct": last[1], "counts": told, "mastery": mastery.astype(np.float32), "steps_left": left}
