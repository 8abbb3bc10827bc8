"""What a tracer reads: how answers become windows of numbers, saved with the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow.compute as pc
import torch
from datasets import Dataset

from .parser import ConfigurationError
from .tracing_features import HISTORY, History, history_features

LEARNERS = 64  # that are in memory at a time
IGNORED = -100  # label of a step that is context, or padding
WINDOW = ("learner", "start", "length", "concepts", "questions", "correct", "features", "labels")


@dataclass
class TracingSettings:
    """What is saved in edu_recipes.json.

    Attributes:
        concepts: Names; number 1 is the first.
        questions: Names of questions that are known by themselves.
        window: Answers a window is asked about.
        context: Answers before a window that are read but not asked about.
        concepts_per_step: The most concepts of one question; more are cut.
        base_rate: Share of correct answers in training.
        spread: (answers on the concept from which on it holds, overdispersion) of `mastery_interval`, fitted on calibration.
    """

    concepts: list[str]
    questions: list[str] = field(default_factory=list)
    window: int = 150
    context: int = 50
    concepts_per_step: int = 1
    base_rate: float = 0.7
    spread: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self):
        if self.window < 2 or self.context < 0:
            raise ConfigurationError(f"--window is {self.window} and --context {self.context}; expected 2 or more, 0 or more.")


def share_correct(learners: Dataset) -> float:
    """The share of right answers of all learners, who have the columns of `edu_datasets.schema.RESPONSES`."""
    right = answers = 0
    for block in learners.select_columns(["correct"]).with_format("arrow").iter(16 * LEARNERS):
        values = pc.list_flatten(block["correct"])
        right, answers = right + (pc.sum(values).as_py() or 0), answers + len(values)
    return right / answers


def encode(batch: dict[str, list], indices: Sequence[int], settings: TracingSettings) -> dict[str, list]:
    """Cut learners into windows; for `Dataset.map(batched=True, with_indices=True)`.

    A sequence longer than a window becomes several: nothing is thrown away. Each begins with the answers before it
    (`settings.context`), whose labels are `IGNORED`, and the features of a step know the whole history.

    Returns:
        A row a window: learner (row number in `batch`'s data set), start (number of its first label), length (steps), and flat
        arrays concepts (length x concepts_per_step), questions, correct, features (length x 14), labels.
    """
    rows: dict[str, list] = {
        k: [] for k in ("learner", "start", "length", "concepts", "questions", "correct", "features", "labels")
    }
    for i, asked, concepts, correct, times in zip(
        indices, batch["questions"], batch["concepts"], batch["correct"], batch["times"], strict=True
    ):
        features, _ = history_features(asked, concepts, correct, times, settings.base_rate)
        padded, answers = padded_concepts(concepts, settings.concepts_per_step), np.array(correct, np.int64)
        for start in range(0, len(answers), settings.window):
            first, end = max(0, start - settings.context), min(len(answers), start + settings.window)
            labels = answers[first:end].copy()
            labels[: start - first] = IGNORED
            values = (i, start, end - first, padded[first:end].ravel(), np.array(asked[first:end]), answers[first:end])
            for column, value in zip(rows, (*values, features[first:end].ravel(), labels), strict=True):
                rows[column].append(value)
    return rows


def padded_concepts(concepts: Sequence[Sequence[int]], most: int) -> np.ndarray:
    """Int64 array (steps, most); 0 is none."""
    padded = np.zeros((len(concepts), most), np.int64)
    for row, numbers in zip(padded, concepts, strict=True):
        row[: len(numbers)] = numbers[:most]
    return padded


@dataclass
class TracingCollator:
    """Windows to a batch, padded at the end to the longest."""

    concepts_per_step: int

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        """Tensors (windows, steps, ...); labels are `IGNORED` where padded."""
        longest = max(row["length"] for row in rows)
        shapes = {"concepts": (self.concepts_per_step,), "features": (len(HISTORY),)}
        batch = {}
        for name in ("concepts", "questions", "correct", "features", "labels"):
            kind, shape = np.float32 if name == "features" else np.int64, shapes.get(name, ())
            padded = np.full((len(rows), longest, *shape), IGNORED if name == "labels" else 0, kind)
            for target, row in zip(padded, rows, strict=True):
                target[: row["length"]] = np.asarray(row[name]).reshape(-1, *shape)
            batch[name] = torch.from_numpy(padded)
        return batch


def as_batch(
    settings: TracingSettings, questions: Sequence[int], concepts: Sequence[Sequence[int]], correct: Sequence[int],
    times: Sequence[float], queries: Sequence[int] = (),
) -> tuple[dict[str, torch.Tensor], History]:  # fmt: skip
    """One learner's last answers (a window and its context), then a question on each concept of `queries`.

    Returns:
        The model's inputs for a batch of one, and the learner's history.
    """
    features, history = history_features(questions, concepts, correct, times, settings.base_rate)
    first = max(0, len(correct) - settings.window - settings.context)
    asked = [[c] for c in queries]
    now = [history.features(0, c, history.time) for c in asked]
    features = np.concatenate([features[first:], np.array(now, np.float32).reshape(-1, len(HISTORY))])
    padded = padded_concepts([*concepts[first:], *asked], settings.concepts_per_step)
    inputs = {
        "concepts": torch.from_numpy(padded)[None], "features": torch.from_numpy(features)[None],
        "questions": torch.tensor([[*questions[first:], *(0 for _ in asked)]]),
        "correct": torch.tensor([[*correct[first:], *(0 for _ in asked)]]),
    }  # fmt: skip
    return inputs, history
