"""A school's own concepts and their prerequisites: two tables, every cell checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .concept_graph import find_circle
from .errors import DataError
from .files import Table, as_text, check_names, closest, refuse_bad_rows

MAX_NAME, MAX_CHARACTERS = 200, 20_000  # what is longer is a broken quote or another column
TRUE, FALSE = ("1", "true", "yes"), ("0", "false", "no")


@dataclass
class ConceptColumns:
    """The user's names for the columns of the two tables; None where a table has none."""

    concept: str = "concept"
    text: str | None = None
    before: str = "before"
    after: str = "after"
    label: str | None = None


def read_concepts(table: Table, columns: ConceptColumns) -> dict[str, str]:
    """Concept -> its text, or its name where there are no texts.

    Raises:
        DataError: A concept or its text is missing or far too long, or a concept stands twice or alone.
    """
    names = table.column(columns.concept, "--concept_column")
    texts = table.column(columns.text, "--text_column") if columns.text else names
    found: dict[str, str] = {}
    first_row: dict[str, int] = {}
    for name, text, row in zip(map(as_text, names), map(as_text, texts), table.rows, strict=True):
        place = {"file": table.path, "row": row}
        check_names((name, text), **place)
        if not name:
            raise DataError("the concept is missing.", **place, column=columns.concept)
        if not text:
            raise DataError("the concept has no text.", **place, column=columns.text, fix="Write its name there, at least.")
        for cell, column, most in ((name, columns.concept, MAX_NAME), (text, columns.text, MAX_CHARACTERS)):
            if len(cell) > most:
                raise DataError(
                    f"the cell has {len(cell):,} characters.", **place, column=column, expected=f"at most {most:,}",
                    fix="Look for a quote that never closes, or for the wrong column.",
                )  # fmt: skip
        if name in found:
            raise DataError(f"the concept stands in row {first_row[name]} too.", **place, column=columns.concept, found=name)
        found[name], first_row[name] = text, row
    if len(found) < 2:
        raise DataError("there is one concept only.", file=table.path, expected="several, or there is nothing to put in order")
    return found


def read_prerequisites(
    table: Table, columns: ConceptColumns, concepts: Sequence[str], break_cycles: bool, skip: bool
) -> tuple[list[tuple[int, int, int]], list[tuple[str, int, str]], dict[str, int]]:
    """Pairs (before, after, label) of the concepts' numbers, the rows left out, and how often which good rows were left aside.

    Raises:
        DataError: A column is not there; unless `skip`, a concept is missing, unknown or its own prerequisite, or a label is
            neither 1 nor 0 or contradicts another row; or, unless `break_cycles`, the prerequisites go round in a circle.
    """
    before = table.column(columns.before, "--before_column")
    after = table.column(columns.after, "--after_column")
    labels = table.column(columns.label, "--label_column") if columns.label else ["1"] * len(table)
    numbers = {concept: i for i, concept in enumerate(concepts)}
    first: dict[tuple[int, int], tuple[int, int]] = {}
    problems: list[DataError] = []
    again = 0
    for cells, label, row in zip(zip(before, after, strict=True), labels, table.rows, strict=True):
        place = {"file": table.path, "row": row}
        try:
            pair = _pair(cells, numbers, columns, place)
            said = as_text(label).lower()
            if said not in TRUE + FALSE:
                raise DataError(
                    "the label is neither 1 nor 0.", **place, column=columns.label, found=label,
                    expected=f"1 where the concept of '{columns.before}' comes first, else 0",
                )  # fmt: skip
            if first.setdefault(pair, (int(said in TRUE), row))[0] != int(said in TRUE):
                raise DataError(
                    f"the pair has another label in row {first[pair][1]}.", **place, column=columns.label, found=label,
                    fix="Decide for one of them.",
                )  # fmt: skip
            again += first[pair][1] != row
        except DataError as error:
            problems.append(error)
    refuse_bad_rows(problems, skip, first, table.path)
    if not break_cycles:
        _refuse_circles(table, columns, concepts, first)
    pairs = [(*pair, said) for pair, (said, _) in first.items()]
    rejected = [(table.path.name, error.row, str(error)) for error in problems]
    return pairs, rejected, {"pairs that stand twice": again} if again else {}


def _pair(cells: tuple, numbers: Mapping[str, int], columns: ConceptColumns, place: dict) -> tuple[int, int]:
    """The numbers of the two concepts of a row."""
    names = [as_text(cell) for cell in cells]
    for name, column in zip(names, (columns.before, columns.after), strict=True):
        if not name:
            raise DataError("the concept is missing.", **place, column=column)
        if name not in numbers:
            close = closest(name, numbers)
            raise DataError(
                "there is no such concept." + (f" Did you mean '{close}'?" if close else ""), **place, column=column, found=name,
                expected="a concept of the concepts file", fix="Add it there, or correct the name.",
            )  # fmt: skip
    if names[0] == names[1]:
        raise DataError("the concept is its own prerequisite.", **place, column=columns.after, found=names[1])
    return numbers[names[0]], numbers[names[1]]


def _refuse_circles(
    table: Table, columns: ConceptColumns, concepts: Sequence[str], first: Mapping[tuple[int, int], tuple[int, int]]
) -> None:
    edges = np.array([pair for pair, (said, _) in first.items() if said], dtype=np.int64).reshape(-1, 2)
    circle = find_circle(len(concepts), edges)
    if circle:
        steps = list(zip(circle, circle[1:], strict=False))
        told = concepts[circle[0]] + "".join(f" -> {concepts[b]} (row {first[a, b][1]})" for a, b in steps)
        raise DataError(
            f"the prerequisites go round in a circle: {told}.", file=table.path, row=first[steps[0]][1], column=columns.after,
            fix="Take one of these rows out, or let --break_cycles true choose.",
        )  # fmt: skip
