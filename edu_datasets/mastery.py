"""What each learner can do, as knowledge tracing has written it: mastery.csv."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from datasets import DatasetDict

from .errors import DataError
from .files import as_text, check_names, closest, read_own_table

SHOWN = 3  # concepts from either end
COLUMNS = ("learner_id", "concept", "mastery")
INTERVAL = ("mastery_low", "mastery_high")
Mastery = dict[str, dict[str, tuple[float, float, float]]]


def read_mastery(
    path: str | Path, encoding: str | None = None, separator: str | None = None, known: Sequence[str] | None = None
) -> Mastery:
    """Read mastery.csv of `recipes/knowledge_tracing.py` or of `predict.py`; a row a learner and concept.

        learner_id,concept,mastery,mastery_low,mastery_high,answers
        L009,fractions,0.3120,0.1830,0.4610,7

    Args:
        path: The file.
        encoding, separator: See `files.read_own_table`.
        known: What a model knows; other concepts are refused.

    Returns:
        Learner -> concept -> mastery and the ends of its interval, 0 to 1; the ends are nan where their columns are not there.

    Raises:
        DataError: A column is missing, a number is none or not between 0 and 1, a learner has a concept twice, or a concept is
            not among `known`.
    """
    table = read_own_table(path, encoding, separator)
    ids, concepts, values = (table.column(name, "mastery.csv of knowledge_tracing") for name in COLUMNS)
    ends = [table.columns.get(name, [math.nan] * len(ids)) for name in INTERVAL]
    learners: Mastery = defaultdict(dict)
    for i, row in enumerate(table.rows):
        learner, concept = as_text(ids[i]), as_text(concepts[i])
        check_names((learner, concept), file=table.path, row=row)
        for name, value in zip(COLUMNS, (learner, concept), strict=False):
            if not value:
                raise DataError("the cell is empty.", file=table.path, row=row, column=name)
        if known is not None and concept not in known:
            close = closest(concept, known)
            raise DataError(
                "the model knows no such concept." + (f" Did you mean '{close}'?" if close else ""), file=table.path, row=row,
                column="concept", found=concept, expected=f"one of its {len(known)} concepts; they stand in edu_recipes.json",
            )  # fmt: skip
        if concept in learners[learner]:
            raise DataError("the learner has this concept twice.", file=table.path, row=row, column="concept", found=concept)
        low, high = (
            column[i] if column[i] is math.nan else _share(column[i], table.path, row, name)
            for name, column in zip(INTERVAL, ends, strict=True)
        )
        learners[learner][concept] = (_share(values[i], table.path, row, "mastery"), low, high)
    return dict(learners)


def mastery_in_words(mastery: Mastery) -> dict[str, str]:
    """Learner -> the concepts that are mastered least and most, for a tutor to read.

    'weakest fractions 31% (18 to 46%), ...; strongest ...'
    """
    return {learner: _in_words(known) for learner, known in mastery.items()}


def add_mastery(splits: DatasetDict, mastery: dict[str, str]) -> DatasetDict:
    """Give dialogues a column `mastery`, '' where nothing is known of the learner.

    Args:
        splits: Dialogues with a column learner_id.
        mastery: See `mastery_in_words`; {} leaves the column empty.

    Raises:
        DataError: Not one learner of the dialogues is known.
    """
    found = DatasetDict(
        {
            s: rows.map(_mastery_of, batched=True, fn_kwargs={"mastery": mastery}, desc=f"mastery of {s}")
            for s, rows in splits.items()
        }
    )
    if mastery and not any(any(rows["mastery"]) for rows in found.values()):
        raise DataError(
            "no learner of the mastery file is in the dialogues.", expected="the same learner ids in both",
            fix="Name the learner's column of the dialogues with --learner_column.",
        )  # fmt: skip
    return found


def _mastery_of(batch: dict[str, list], mastery: dict[str, str]) -> dict[str, list[str]]:
    return {"mastery": [mastery.get(learner, "") for learner in batch["learner_id"]]}


def _share(value: object, path: Path, row: int, column: str) -> float:
    try:
        number = float(as_text(value))
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise DataError("the value is no probability.", file=path, row=row, column=column, found=value, expected="0 to 1")
    return number


def _in_words(known: dict[str, tuple[float, float, float]]) -> str:
    ordered = sorted(known, key=lambda concept: known[concept][0])
    weakest = ordered[:SHOWN]
    strongest = [concept for concept in ordered[: -SHOWN - 1 : -1] if concept not in weakest]

    def told(concept: str) -> str:
        value, low, high = known[concept]
        return f"{concept} {value:.0%}" + ("" if math.isnan(low) else f" ({100 * low:.0f} to {high:.0%})")

    parts = [f"{name} {', '.join(map(told, found))}" for name, found in (("weakest", weakest), ("strongest", strongest)) if found]
    return "; ".join(parts)
