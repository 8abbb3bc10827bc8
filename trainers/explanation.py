"""What moved a prediction, for a teacher: each part is left out in turn (occlusion, Zeiler and Fergus 2014)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .essay_text import sentences


@dataclass
class Explanation:
    """Why an essay got its score.

    Attributes:
        score: Rounded, in rubric units.
        unrounded: The same before rounding.
        to_next: How much the unrounded score lacks for the next higher score, in rubric units; None at the highest.
        to_previous: How much it may lose before it falls to the next lower one; None at the lowest.
        sentences: The sentences in order; joined they are the essay.
        effects: For each sentence the score with it minus the score without it, in rubric units: above 0 it raised the score.
    """

    score: float
    unrounded: float
    to_next: float | None
    to_previous: float | None
    sentences: list[str]
    effects: list[float]

    def strongest(self, most: int = 3) -> list[tuple[str, float]]:
        """The sentences that moved the score most, up or down, with their effects."""
        order = sorted(range(len(self.effects)), key=lambda i: -abs(self.effects[i]))
        return [(self.sentences[i], self.effects[i]) for i in order[:most]]


def explain(score: Callable[[list[str]], np.ndarray], text: str, low: float, high: float, step: float = 1) -> Explanation:
    """Leave out each sentence in turn and see how the score moves.

    Effects do not add up to the score: sentences say things twice, and a shorter essay is another essay.

    Args:
        score: Texts to unrounded scores in rubric units, float array (texts,).
        text: The essay.
        low, high: The range of the rubric.
        step: Distance of neighbouring scores.
    """
    parts = sentences(text)
    without = ["".join(parts[:i] + parts[i + 1 :]) for i in range(len(parts))]
    values = np.asarray(score([text, *without]), float)
    whole = float(np.clip(values[0], low, high))
    level = np.clip(np.rint((whole - low) / step), 0, round((high - low) / step))
    rounded = float(low + step * level)
    return Explanation(
        score=rounded,
        unrounded=whole,
        to_next=None if rounded >= high else float(rounded + step / 2 - whole),
        to_previous=None if rounded <= low else float(whole - (rounded - step / 2)),
        sentences=parts,
        effects=[float(v) for v in values[0] - values[1:]],
    )


@dataclass
class GroupEffects:
    """What each group of features did to each prediction.

    Attributes:
        groups: Names.
        effects: Float array (records, groups): the outcome with the group minus the outcome with it at the reference record.
        values: Float array (records,), the outcomes themselves.
        reference: The outcome of the reference record.
        additivity_error: How far the effects of a record are from adding up to its distance from the reference, as a share of
            that distance (means over records): 0 for a linear model, large where groups say things twice or work together.
    """

    groups: list[str]
    effects: np.ndarray
    values: np.ndarray
    reference: float
    additivity_error: float


def explain_groups(
    outcome: Callable[[list, list], np.ndarray],
    numbers: Sequence[Sequence[float]],
    categories: Sequence[Sequence[str]],
    columns: tuple[Sequence[str], Sequence[str]],
    groups: dict[str, str],
    reference: tuple[Sequence[float], Sequence[str]],
) -> GroupEffects:
    """Put each group of features to a reference record in turn and see how the outcome moves.

    Args:
        outcome: Numbers and categories of records to outcomes, float array (records,); effects are in its units.
        numbers, categories: The records.
        columns: Names of the numbers and of the categories.
        groups: Column -> its group.
        reference: Numbers and categories of a usual record.
    """
    numbers, categories = (np.array(rows, dtype=object).reshape(len(rows), -1) for rows in (numbers, categories))
    values = np.asarray(outcome(numbers.tolist(), categories.tolist()), float)
    usual = float(outcome([list(reference[0])], [list(reference[1])])[0])
    names, effects = list(dict.fromkeys(groups.values())), []
    for name in names:
        without = []
        for rows, of, usually in zip((numbers, categories), columns, reference, strict=True):
            changed = rows.copy()
            for i, column in enumerate(of):
                if groups[column] == name:
                    changed[:, i] = usually[i]
            without.append(changed.tolist())
        effects.append(values - np.asarray(outcome(*without), float))
    table = np.stack(effects, axis=1)
    error = np.mean(np.abs(table.sum(axis=1) - (values - usual))) / max(np.mean(np.abs(values - usual)), 1e-9)
    return GroupEffects(names, table, values, usual, float(error))
