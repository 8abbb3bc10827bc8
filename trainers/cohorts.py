"""Which simulated learners a policy learns from, its masks are chosen on, and it is judged on: never the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from datasets import DatasetDict

from .arguments import RecipeTrainingArguments
from .parser import ConfigurationError
from .path_settings import Cohort, PathSettings
from .simulators import KnowledgeSpace, SchoolTerm, Simulator
from .traced_learners import traced_learners

SIMULATORS = {
    "knowledge_space": "the knowledge space (KSS, Liu et al. 2019), question difficulties drawn anew for each cohort",
    "school_term": "the school term (learning and forgetting over the graph), questions drawn anew for each cohort",
    "tracer": "learners as tracers of knowledge know them; the one that judges was fitted on one half of the learners, the one "
    "that logs come from on the other",
}
PARTS = {"train": 10_000, "validation": 20_000, "choosing": 30_000, "judging": 0}
"""The first seed of each part."""
LOGGED = 64  # cohorts that the training logs come from, at most


def which_simulator(wanted: str | None, dataset_name: str, answers: bool, concepts: bool, pairs: bool) -> str:
    """The simulator that `--simulator` names, or that fits the data.

    Args:
        wanted: One of `SIMULATORS`, 'none', or None.
        dataset_name: `--dataset_name`.
        answers: Whether there are answers of real learners.
        concepts: Whether there are concepts with a graph.
        pairs: Whether there are pairs to train a prerequisite model on.

    Raises:
        ConfigurationError: There is no such simulator, or the data is not what it needs.
    """
    if wanted not in (None, "none", *SIMULATORS):
        raise ConfigurationError(f"--simulator is {wanted!r}; expected one of {', '.join(SIMULATORS)} or none.")
    found = wanted or ("knowledge_space" if not (answers or concepts) else "tracer" if answers else "school_term")
    if found == "tracer" and not answers:
        raise ConfigurationError("--simulator tracer needs answers of learners: name them with --train_file or --dataset_name.")
    if found == "knowledge_space" and (answers or concepts):
        raise ConfigurationError("--simulator knowledge_space has its own ten concepts: add --dataset_name knowledge_space.")
    if found == "school_term" and not concepts:
        raise ConfigurationError(f"--simulator school_term needs a graph of concepts, and {dataset_name} has none with texts.")
    if found == "none" and not pairs:
        raise ConfigurationError("--simulator none leaves nothing to train: there are no pairs of concepts either.")
    return found


def make_cohorts(
    kind: str, settings: PathSettings, halves: DatasetDict, args: RecipeTrainingArguments, *, train_learners: int,
    judged_learners: int, judge_seeds: int, tracer_epochs: float,
) -> dict[str, list[Cohort]]:  # fmt: skip
    """The learners of each of `PARTS`; `settings` learns where they can go and when a concept counts as mastered.

    Args:
        kind: One of `SIMULATORS`.
        settings: Concepts, graph and warm-up; changed in place.
        halves: "logs" and "judge", answers with the columns of `edu_datasets.schema.RESPONSES`; for the tracer.
        args: Of the run; tracers are kept in output_dir/tracers.
        train_learners: Learners of the training logs.
        judged_learners: Learners of a cohort that is judged, and of one the masks are chosen on.
        judge_seeds: Cohorts that are judged.
        tracer_epochs: See `traced_learners`.
    """
    for name, value in (("train_learners", train_learners), ("judged_learners", judged_learners)):
        if value < 20:
            raise ConfigurationError(f"--{name} is {value}; expected 20 or more.")
    n, edges = len(settings.concepts), [tuple(edge) for edge in settings.edges]
    logged = min(LOGGED, train_learners // 10)
    how_many = {"train": logged, "validation": max(2, logged // 10), "choosing": 6, "judging": judge_seeds}
    learners = dict.fromkeys(("train", "validation"), train_learners // logged)
    cohorts: dict[str, list[Cohort]] = {}
    if kind == "tracer":
        fit = partial(
            traced_learners, concepts=settings.concepts, edges=edges, args=args, epochs=tracer_epochs, warm_up=settings.warm_up
        )
        made = {half: fit(halves[half], folder=Path(args.output_dir) / "tracers" / half) for half in ("logs", "judge")}
    for part, first in PARTS.items():
        cohorts[part] = []
        for seed in range(first, first + how_many[part]):
            if kind == "tracer":
                half = "judge" if part == "judging" else "logs"
                name, simulator = f"tracer of the half '{half}'", made[half]
            else:
                name, simulator = kind.replace("_", " "), _simulated(kind, n, edges, seed, settings.warm_up)
            cohorts[part].append(Cohort(name, simulator, seed, learners.get(part, judged_learners)))
    judge = cohorts["judging"][0].simulator if judge_seeds else cohorts["train"][0].simulator
    settings.simulator, settings.mastered_at, settings.near_only = SIMULATORS[kind], judge.mastered_at, kind == "knowledge_space"
    offered = np.logical_and.reduce([c.simulator.offered for part in cohorts.values() for c in part[:1]])
    settings.offered = np.flatnonzero(offered).tolist()
    return cohorts


def _simulated(kind: str, n: int, edges: Sequence[tuple[int, int]], seed: int, warm_up: int) -> Simulator:
    if kind == "knowledge_space":
        return KnowledgeSpace(seed, warm_up)
    return SchoolTerm(n, edges, seed, warm_up)
