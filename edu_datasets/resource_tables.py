"""A school's own resources, topics and interactions: three tables, every cell checked."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, replace

import numpy as np
from datasets import Dataset

from .arrow_cache import RowWriter, column_values, is_on_disk
from .errors import DataError
from .files import Table, as_seconds, as_text, check_names, closest, refuse_again, refuse_bad_rows
from .row_arrays import FirstRows, row_numbers, select_rows
from .schema import CATALOGUE, OPENINGS, TOPICS

SEPARATOR = ";"
MAX_CHARACTERS = 500_000  # a long book chapter; what is longer is a broken quote or another column
MAX_NAME = 80
TOPIC_BLOCK = 256  # topics that are in memory at a time while they are written: each has the ids of all its resources
LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*")

KINDS = ("", "a number", "a date", "a date with a time zone")  # of a time; '' where there is none

Rejected = list[tuple[str, int, str]]


@dataclass
class ResourceColumns:
    """The user's names for the columns of the three tables; None where a table has none."""

    resource: str = "resource"
    text: str = "text"
    title: str | None = None
    kind: str | None = None
    licence: str | None = "licence"
    level: str | None = "level"
    language: str | None = "language"
    topics: str | None = None
    learner: str = "learner"
    time: str = "time"
    topic: str = "topic"
    parent: str | None = None


class ResourceIds:
    """The ids of a catalogue and the row of each, in 16 bytes an id."""

    def __init__(self, resources: Dataset):
        self.resources, self._rows = resources, FirstRows(is_on_disk(resources))
        for row, name in enumerate(self):
            self._rows.add(name, row)

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[str]:
        return column_values(self.resources, "resource_id")

    def rows(self, names: Iterable[str]) -> np.ndarray:
        """The rows of these ids, all of which are there, int64 array."""
        return np.fromiter(map(self._rows.find, names), np.int64)


def read_resources(table: Table, columns: ResourceColumns, skip: bool, streaming: bool = False) -> tuple[Dataset, Rejected]:
    """Rows of `schema.CATALOGUE`, and (file, row, reason) of the rows left out; with `streaming` on disk.

    Raises:
        DataError: A column is not there; or, unless `skip`, an id, a text or a licence is missing, an id stands twice, a language
            is no code, or a cell is far too long.
    """
    names = ("resource", "title", "text", "kind", "licence", "level", "language", "topics")
    stated = {name: column for name in names if (column := getattr(columns, name))}
    cells = {name: table.column(column, f"--{name}_column") for name, column in stated.items()}
    first_row = FirstRows(streaming)

    def read(i: int, row: int) -> dict:
        cell = dict.fromkeys(names, "") | {name: as_text(values[i]) for name, values in cells.items()}
        place = {"file": table.path, "row": row}
        for name, what in (("resource", "id"), ("text", "text"), ("licence", "licence")):
            if name in stated and not cell[name]:
                fix = "Write 'unknown' where nobody knows it; learners can then be spared it." if name == "licence" else None
                raise DataError(f"the {what} of the resource is missing.", **place, column=stated[name], fix=fix)
        for name, most in {**dict.fromkeys(stated, MAX_NAME), "title": 1000, "text": MAX_CHARACTERS, "topics": 10_000}.items():
            if len(cell[name]) > most:
                raise DataError(
                    f"the cell has {len(cell[name]):,} characters.", **place, column=stated[name], expected=f"at most {most:,}",
                    fix="Look for a quote that never closes, or for the wrong column.",
                )  # fmt: skip
        _refuse_half_characters(cell["title"] + cell["text"], place, columns.text)
        _check_language(cell["language"], place, columns.language)
        before = first_row.add(cell["resource"], row)
        refuse_again(before, **place, column=columns.resource, fix="Give every resource an id of its own.")
        cell["topics"] = named_topics(cells["topics"][i]) if columns.topics else []
        check_names((*cell.values(), *cell["topics"]), **place)
        return {"resource_id": cell.pop("resource"), **cell}

    problems: list[DataError] = []
    with RowWriter(CATALOGUE, streaming) as rows:
        for _, resource in _read_each(table, read, problems):
            rows.append(resource)
        left_out = _left_out(table, problems, skip, rows)
        return rows.dataset(), left_out


def read_interactions(
    table: Table, columns: ResourceColumns, known: Iterable[str], skip: bool, newcomers: bool = False,
    streaming: bool = False,
) -> tuple[Dataset, bool, Rejected]:  # fmt: skip
    """Rows of `schema.OPENINGS`, whether times are dates, and (file, row, reason) of the rows left out.

    Args:
        table: The table.
        columns: The user's column names.
        known: The ids of the resources.
        skip: Leave rows that cannot be used out.
        newcomers: A row without a resource names a learner who opened nothing; its resource is '' and its time -inf.
        streaming: Keep the rows on disk.

    Raises:
        DataError: A column is not there; or, unless `skip`, a learner or a resource is missing, a resource is unknown, a time is
            none or is written in another way than most. No message holds a learner's id.
    """
    learners = table.column(columns.learner, "--learner_column")
    resources = table.column(columns.resource, "--resource_column")
    times = table.column(columns.time, "--time_column")

    def read(i: int, row: int) -> tuple[tuple[str, str, float], str]:
        learner, resource, time = (as_text(cells[i]) for cells in (learners, resources, times))
        check_names((learner,), file=table.path, row=row)
        if newcomers and learner and not resource:
            return (learner, "", -math.inf), ""
        for value, what, column in ((learner, "learner", columns.learner), (resource, "resource", columns.resource),
                                    (time, "time", columns.time)):  # fmt: skip
            if not value:
                raise DataError(f"the {what} is missing.", file=table.path, row=row, column=column)
        if resource not in known:
            close = None if skip else closest(resource, known)  # what was found is not shown: it may be a learner's id
            raise DataError(
                "there is no such resource." + (f" Did you mean '{close}'?" if close else ""), file=table.path, row=row,
                column=columns.resource, expected="the id of a row of the resources", fix="Add it there, or name another column.",
            )  # fmt: skip
        seconds = as_seconds(times[i], table.path, row, columns.time)
        return (learner, resource, seconds), kind_of_time(time)

    problems: list[DataError] = []
    numbers, kinds = row_numbers(streaming), bytearray()
    with RowWriter(OPENINGS, streaming) as openings:
        for row, (opening, kind) in _read_each(table, read, problems):
            openings.append(dict(zip(OPENINGS, opening, strict=True)))
            numbers.append(row)
            kinds.append(KINDS.index(kind))
        kind = np.frombuffer(kinds, np.uint8)
        first = {k: int(np.argmax(kind == k)) for k in set(kinds) - {0}}
        usual = max(first, key=lambda k: (np.sum(kind == k), -first[k]), default=0)  # the first may be the odd one
        problems += [
            DataError(
                f"the time is {KINDS[kind[i]]}, that of row {numbers[first[usual]]} is {KINDS[usual]}.", file=table.path,
                row=numbers[i], column=columns.time,
                expected="all times written in the same way, or none can be said to be the earlier",
            )
            for i in np.flatnonzero((kind > 0) & (kind != usual))
        ]  # fmt: skip
        kept = np.flatnonzero((kind == 0) | (kind == usual))
        left_out = _left_out(table, sorted(problems, key=lambda e: e.row), skip, range(len(kept)))
        return openings.dataset().select(kept), KINDS[usual] != "a number", left_out


def read_catalogue(table: Table, columns: ResourceColumns, skip: bool) -> tuple[Dataset, Rejected]:
    """`read_resources`; title, kind, licence, level, language and topics without a stated name are those so called, if any."""
    names = ("title", "kind", "licence", "level", "language", "topics")
    stated = {n: getattr(columns, n) or (n if n in table.columns else None) for n in names}
    return read_resources(table, replace(columns, **stated), skip)


def read_prerequisite_names(table: Table) -> dict[str, set[str]]:
    """Topic -> the topics that come before it, from a table with the columns before and after.

    Raises:
        DataError: A column is not there, or a cell is empty.
    """
    found: dict[str, set[str]] = {}
    cells = (table.column(name, "a column of --prerequisites_file:") for name in ("before", "after"))
    for before, after, row in zip(*cells, table.rows, strict=True):
        for name, column in ((as_text(before), "before"), (as_text(after), "after")):
            if not name:
                raise DataError("the topic is missing.", file=table.path, row=row, column=column)
        found.setdefault(as_text(after), set()).add(as_text(before))
    return found


def read_learners(table: Table, columns: ResourceColumns) -> set[str]:
    """The learners that a table names, in the column that names them in the log.

    Raises:
        DataError: The column is not there, or a cell is empty.
    """
    learners = [as_text(value) for value in table.column(columns.learner, "--learner_column")]
    for learner, row in zip(learners, table.rows, strict=True):
        if not learner:
            raise DataError("the learner is missing.", file=table.path, row=row, column=columns.learner)
    return set(learners)


def opted_out_unknown(unknown: int, named: int) -> str:
    """What is told where learners who opted out have no opening; it holds no id."""
    return (
        f"{unknown} of the {named} learners who opted out are not in the log: their openings are used all the same if their ids "
        "are written in another way there."
    )


def read_topics(
    resources: Dataset, resource_table: Table, topics: Table | None, columns: ResourceColumns, streaming: bool = False
) -> Dataset:  # fmt: skip
    """Rows of `schema.TOPICS`: the topics that the resources name, described by a table of their own where there is one.

    Raises:
        DataError: No resource has a topic, a topic of a resource is not in the table, stands there twice, has no text, or lies
            below itself.
    """
    relevant: dict[str, int] = {}  # and its number
    named, answers = row_numbers(streaming), row_numbers(streaming)
    for i, own in enumerate(column_values(resources, "topics")):
        for topic in own:
            named.append(relevant.setdefault(topic, len(relevant)))
            answers.append(i)
    if not relevant:
        raise DataError("no resource has a topic.", file=resource_table.path, column=columns.topics)
    texts, parents, languages = {t: t for t in relevant}, dict.fromkeys(relevant, ""), dict.fromkeys(relevant, "")
    if topics is not None:
        texts, parents, languages = _described(topics, columns)
        for i, row in enumerate(resource_table.rows):
            for name in named_topics(resource_table.columns[columns.topics][i]):
                if name not in texts:
                    close = closest(name, texts)
                    raise DataError(
                        f"the topic is not among those of {topics.path.name}." + (f" Did you mean '{close}'?" if close else ""),
                        file=resource_table.path, row=row, column=columns.topics, found=name,
                    )  # fmt: skip
    order, counts = np.argsort(named, kind="stable"), np.bincount(named)
    ids = column_values(select_rows(resources, np.asarray(answers, np.int64)[order]), "resource_id")
    with RowWriter(TOPICS, streaming, TOPIC_BLOCK) as found:
        for topic, count in zip(relevant, counts, strict=True):
            path = [texts[above] for above in path_above(topic, parents)]
            found.append(
                {
                    "topic_id": topic, "group_id": parents[topic] or topic, "text": texts[topic], "path": path,
                    "language": languages[topic], "resource_ids": list(itertools.islice(ids, count)),
                }
            )  # fmt: skip
        return found.dataset()


def _described(table: Table, columns: ResourceColumns) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Topic -> its text, the topic above ('' at the top), and its language, where the table has such a column."""
    ids = [as_text(v) for v in table.column(columns.topic, "--topic_column")]
    texts = [as_text(v) for v in table.column(columns.text, "--text_column")]
    above = [as_text(v) for v in table.column(columns.parent, "--parent_column")] if columns.parent else [""] * len(ids)
    languages = [as_text(v) for v in table.columns.get(columns.language, [""] * len(ids))]
    first_row: dict[str, int] = {}
    for topic, text, language, row in zip(ids, texts, languages, table.rows, strict=True):
        _check_language(language, {"file": table.path, "row": row}, columns.language)
        check_names((topic, text), file=table.path, row=row)
        if not topic or not text:
            name = columns.text if topic else columns.topic
            raise DataError(
                "the topic is missing." if not topic else "the topic has no text.", file=table.path, row=row, column=name
            )
        if topic in first_row:
            raise DataError(
                f"the topic stands in row {first_row[topic]} too.", file=table.path, row=row, column=columns.topic, found=topic
            )
        first_row[topic] = row
    parents = dict(zip(ids, above, strict=True))
    for topic, parent in parents.items():
        place = {"file": table.path, "row": first_row[topic], "column": columns.parent}
        if parent and parent not in parents:
            close = closest(parent, parents)
            raise DataError("there is no such topic." + (f" Did you mean '{close}'?" if close else ""), **place, found=parent)
    for topic, parent in parents.items():
        if path_above(topic, parents) is None:
            place = {"file": table.path, "row": first_row[topic], "column": columns.parent}
            raise DataError("the topic lies below itself.", **place, found=parent)
    return dict(zip(ids, texts, strict=True)), parents, dict(zip(ids, languages, strict=True))


def named_topics(cell: object) -> list[str]:
    """The topics of a cell: a list, or names separated by ';'."""
    parts = cell if isinstance(cell, (list, tuple)) else as_text(cell).split(SEPARATOR)
    return list(dict.fromkeys(name for part in parts if (name := as_text(part))))


def path_above(topic: str, parents: Mapping[str, str]) -> list[str] | None:
    """The topics above `topic`, the outermost first; None where they go round in a circle."""
    path: list[str] = []
    while topic := parents[topic]:
        if topic in path:
            return None
        path.insert(0, topic)
    return path


def kind_of_time(value: object) -> str:
    """'a number', 'a date', or 'a date with a time zone'."""
    text = as_text(value)
    try:
        float(text)
        return "a number"
    except ValueError:
        return "a date with a time zone" if re.search(r":.*(Z|[+-]\d\d:?\d\d)$", text) else "a date"


def _read_each(table: Table, read: Callable[[int, int], object], problems: list[DataError]) -> Iterator[tuple[int, object]]:
    """The number of each row, and what `read` (position, row number) makes of it; those that it refuses go to `problems`."""
    for i, row in enumerate(table.rows):
        try:
            found = read(i, row)
        except DataError as error:
            problems.append(error)
            continue
        yield row, found


def _left_out(table: Table, problems: list[DataError], skip: bool, rows: Sized) -> Rejected:
    refuse_bad_rows(problems, skip, rows, table.path)
    return [(table.path.name, e.row, str(e)) for e in problems]


def _check_language(code: str, place: dict, column: str | None) -> None:
    if code and not LANGUAGE.fullmatch(code):
        raise DataError(
            "not a language.", **place, column=column, found=code,
            expected="a code such as en, es or pt-BR, or an empty cell where it is unknown",
        )  # fmt: skip


def _refuse_half_characters(text: str, place: dict, column: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:  # json allows half of a surrogate pair
        raise DataError("the text holds half a character.", **place, column=column) from error
    if "\x00" in text:
        raise DataError("the text holds a zero byte.", **place, column=column)
