"""From a table or a SQuAD file to checked questions: every cell is looked at, every answer is found in its context."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from datasets import Dataset

from .arrow_cache import RowWriter
from .errors import DataError
from .files import (
    Table,
    as_text,
    check_names,
    check_text,
    decode,
    parse_json,
    read_bytes,
    read_table,
    refuse_again,
    refuse_bad_rows,
)
from .row_arrays import FirstRows, row_numbers
from .schema import PASSAGES
from .spans import Span, best_span
from .splits import text_key, text_keys

MAX_CONTEXT, MAX_QUESTION, MAX_ANSWER = 100_000, 2_000, 10_000  # characters; what is longer is another column
YES, NO = ("true", "1", "yes"), ("false", "0", "no", "")


@dataclass
class PassageColumns:
    """The user's names for the canonical columns; None or () where the file has none.

    `answers` names one column or several, a reference each; a cell holds a text, a list of texts, or what SQuAD has on the Hub:
    {"text": [...], "answer_start": [...]}. `distractors` likewise, without offsets.
    """

    context: str = "context"
    question: str = "question"
    answers: Sequence[str] = ("answers",)
    answer_start: str | None = None
    impossible: str | None = None
    question_id: str | None = None
    story: str | None = None
    attributes: Sequence[str] = ()
    distractors: Sequence[str] = ()


@dataclass
class Part:
    """One file's questions, with the file's row number of each.

    `dropped` counts distractors of a published file that are the answer or stand twice.
    """

    path: Path
    dataset: Dataset
    rows: Sequence[int]
    rejected: list[tuple[str, int, str]] = field(default_factory=list)
    rows_read: int = 0
    dropped: int = 0


def read_file(
    path: str | Path, columns: PassageColumns, encoding: str | None = None, separator: str | None = None, streaming: bool = False
) -> tuple[Table, PassageColumns]:  # fmt: skip
    """Read a table, or a json file in SQuAD's layout, whose column names are known; with `streaming` a table on disk."""
    path = Path(path)
    if not streaming and ".json" in [s.lower() for s in path.suffixes[-2:]] and path.is_file():
        content = parse_json(decode(read_bytes(path), path, encoding), path)
        if isinstance(content, dict) and "data" in content:
            return _squad(content, path, columns)
    return read_table(path, encoding, separator, streaming), columns


def _squad(content: dict, path: Path, columns: PassageColumns) -> tuple[Table, PassageColumns]:
    """SQuAD's layout as a table; the first question is row 1. Single values of an article or paragraph are its questions' too."""
    records: list[dict] = []

    def entries(value: object, name: str, place: str) -> list[tuple[dict, str]]:
        found = value.get(name) if isinstance(value, dict) else None
        if not isinstance(found, list) or not all(isinstance(v, dict) for v in found):
            raise DataError(
                "not in SQuAD's layout.", file=path, row=len(records) + 1, column=f"{place}{name}", expected="a list of objects"
            )
        return [(v, f"{place}{name}[{i}].") for i, v in enumerate(found)]

    def single(value: dict) -> dict:
        return {k: v for k, v in value.items() if isinstance(v, (str, int, float, bool))}

    for article, at in entries(content, "data", ""):
        for paragraph, under in entries(article, "paragraphs", at):
            for question, _ in entries(paragraph, "qas", under):
                records.append({**single(article), **single(paragraph), **question})
    if not records:
        raise DataError("the file has no questions.", file=path, expected="at least one")
    names = list(dict.fromkeys(name for record in records for name in record))
    table = Table(path, {n: [r.get(n) for r in records] for n in names}, list(range(1, len(records) + 1)))
    known = {
        field: name
        for field, name in (("question_id", "id"), ("story", "title"), ("impossible", "is_impossible"))
        if name in names
    }
    distractors = columns.distractors or (["distractors"] if "distractors" in names else [])
    return table, replace(PassageColumns(), **known, attributes=columns.attributes, distractors=distractors)


def read_rows(
    table: Table, columns: PassageColumns, *, free: bool = False, published: bool = False, skip: bool = False,
    need_answers: bool = True, need_question: bool = True, streaming: bool = False,
) -> Part:  # fmt: skip
    """Map the user's columns to `schema.PASSAGES` and check every cell.

    Args:
        table: The file.
        columns: Its column names.
        free: Answers may be in their writers' own words. Otherwise each must stand in its context.
        published: The file is a public one, whose faulty distractors are left out and counted.
        skip: Leave rows that cannot be used out, and list them.
        need_answers: Otherwise the columns of answers may be missing.
        need_question: Otherwise the column of questions is not read.
        streaming: Keep the rows on disk.

    Raises:
        DataError: With file, row and column, and never a word of the text.
    """
    path, n = table.path, len(table)
    table.column(columns.context, "--context_column")
    if need_question:
        table.column(columns.question, "--question_column")
    have_answers = need_answers or all(c in table.columns for c in columns.answers)
    for option, names in (
        ("--answer_column", columns.answers if have_answers else ()), ("--story_column", [columns.story]),
        ("--answer_start_column", [columns.answer_start]), ("--impossible_column", [columns.impossible]),
        ("--id_column", [columns.question_id]), ("--attribute_columns", columns.attributes),
        ("--distractor_columns", columns.distractors),
    ):  # fmt: skip
        for name in names:
            if name is not None:
                table.column(name, option)
    if not have_answers:
        columns = replace(columns, answers=(), answer_start=None, impossible=None)

    rows, problems, dropped = row_numbers(streaming), [], 0
    passages, first_row = FirstRows(streaming), FirstRows(streaming)
    with RowWriter(PASSAGES, streaming) as questions:
        for i, row in enumerate(table.rows):
            try:
                record = _read_row(table, columns, i, free, need_question)
                record["distractors"], faulty = _distractors(table, columns, i, record["answers"], published)
                check_names((record["question_id"], record["story_id"], *record["attributes"]), file=path, row=row)
                if columns.question_id:
                    fix = "Give every question an id of its own, or leave --id_column out."
                    before = first_row.find(record["question_id"])
                    refuse_again(before, file=path, row=row, column=columns.question_id, fix=fix)
            except DataError as error:
                problems.append(error)
                continue
            story = record["story_id"] or path.name
            record["passage_id"] = f"{story}#{passages.number_within(story, record['context'])}"
            record["story_id"] = record["story_id"] or record["passage_id"]
            if columns.question_id:
                first_row.add(record["question_id"], row)
            dropped += faulty
            questions.append(record)
            rows.append(row)
        refuse_bad_rows(problems, skip, rows, path)
        rejected = [(path.name, _row_of(e), str(e)) for e in problems]
        return Part(path, questions.dataset(), rows, rejected, n, dropped)


def _row_of(error: DataError) -> int:
    return error.row or 0


def _read_row(table: Table, columns: PassageColumns, i: int, free: bool, need_question: bool) -> dict:
    """One row as `schema.PASSAGES`, but for passage_id and distractors; story_id '' where there is no column of stories."""
    path, row = table.path, table.rows[i]

    def cell(column: str, what: str, most: int) -> str:
        value = table.columns[column][i]
        if value is not None and not isinstance(value, (str, int, float)):
            raise DataError(f"{what} is no text.", file=path, row=row, column=column, found=type(value).__name__)
        text = value if isinstance(value, str) else as_text(value)  # offsets count outer white space
        return check_text(text, what, most, file=path, row=row, column=column)

    context = cell(columns.context, "the context", MAX_CONTEXT)
    question = cell(columns.question, "the question", MAX_QUESTION).strip() if need_question else ""
    question_id = as_text(table.columns[columns.question_id][i]) if columns.question_id else f"row {row}"
    story = as_text(table.columns[columns.story][i]) if columns.story else ""
    for what, value, column in (("id", question_id, columns.question_id), ("story", story, columns.story)):
        if column and not value:
            raise DataError(f"the {what} is missing.", file=path, row=row, column=column)
    answers, starts = _references(table, columns, i)
    for answer in answers:
        check_text(answer, "an answer", MAX_ANSWER, file=path, row=row, column=columns.answers[0])
    if columns.impossible:
        _check_impossible(table, columns, i, answers)
    if starts:
        spans = [_at(context, *pair, table, columns, i) for pair in zip(answers, starts, strict=True)]
    else:
        answers = [a.strip() for a in answers]
        spans = [best_span(context, a, question) for a in answers]
        if not free and not all(span and span.literal for span in spans):
            raise DataError(
                "the answer does not stand in the context.", file=path, row=row, column=columns.answers[0],
                expected="words of the context, in their order",
                fix="If answers are in their writers' own words, say --free_answers true: the nearest span is trained on.",
            )  # fmt: skip
    return {
        "question_id": question_id, "story_id": story, "context": context, "question": question, "answers": answers,
        "answer_starts": [s.start if s else -1 for s in spans], "answer_ends": [s.end if s else -1 for s in spans],
        "answer_f1s": [s.f1 if s else 0.0 for s in spans], "answerable": bool(answers),
        "attributes": [as_text(table.columns[c][i]) for c in columns.attributes],
    }  # fmt: skip


def _references(table: Table, columns: PassageColumns, i: int) -> tuple[list[str], list]:
    """The answers of row `i`, and their offsets, [] where the file has none."""
    path, row = table.path, table.rows[i]
    answers: list[str] = []
    starts: list = []
    for name in columns.answers:
        value = _open(table.columns[name][i], path, row, name)
        if isinstance(value, dict):
            value = [{"text": t, "answer_start": s} for t, s in _pairs(value, path, row, name)]
        if not isinstance(value, list):
            answers += [value] if as_text(value) else []
            continue
        for item in value:
            answers.append(item.get("text") if isinstance(item, dict) else item)
            if isinstance(item, dict) and item.get("answer_start") is not None:
                starts.append(item["answer_start"])
    answers = [a if isinstance(a, str) else as_text(a) for a in answers]
    if columns.answer_start and answers:
        value = _open(table.columns[columns.answer_start][i], path, row, columns.answer_start)
        starts = value if isinstance(value, list) else [value] if as_text(value) else []
    if starts and len(starts) != len(answers):
        raise DataError(
            f"{len(answers)} answers have {len(starts)} offsets.", file=path, row=row,
            column=columns.answer_start or columns.answers[0], expected="one offset for each answer",
        )  # fmt: skip
    return answers, starts


def _open(value: object, path: Path, row: int, column: str) -> object:
    """A cell that holds json as a list or a dictionary, any other as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            if value.lstrip().startswith(("{'text'", "['")):
                raise DataError(
                    "the cell holds a Python list, which a csv file cannot keep.", file=path, row=row, column=column,
                    expected='a text, or json: ["...", "..."]', fix="Save the table as jsonl or parquet.",
                ) from error  # fmt: skip
    return list(value) if isinstance(value, tuple) else value


def _pairs(value: dict, path: Path, row: int, column: str) -> list[tuple]:
    """SQuAD's cell on the Hub: {"text": [...], "answer_start": [...]}."""
    texts = value.get("text")
    starts = value.get("answer_start")
    starts = [None] * len(texts) if starts is None and isinstance(texts, list) else starts
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        raise DataError(
            "the cell is not in SQuAD's layout.", file=path, row=row, column=column,
            expected='{"text": [...], "answer_start": [...]}, equally long',
        )  # fmt: skip
    return list(zip(texts, starts, strict=True))


def _check_impossible(table: Table, columns: PassageColumns, i: int, answers: list[str]) -> None:
    value = as_text(table.columns[columns.impossible][i]).lower()
    problem = None
    if value not in (*YES, *NO):
        problem = "neither true nor false."
    elif value in YES and answers:
        problem = "the question is marked as impossible and has an answer."
    elif value in NO and not answers:
        problem = "the question has no answer and is not marked as impossible."
    if problem:
        raise DataError(problem, file=table.path, row=table.rows[i], column=columns.impossible)


def _at(context: str, answer: str, start: object, table: Table, columns: PassageColumns, i: int) -> Span:
    """The span of an answer whose offset is stated."""
    place = {"file": table.path, "row": table.rows[i], "column": columns.answer_start or columns.answers[0]}
    try:
        number = int(start)
        whole = number == float(start) and not isinstance(start, bool)
    except (TypeError, ValueError, OverflowError):
        number, whole = 0, False
    if not whole:
        raise DataError("the offset is no whole number.", **place, expected="the character the answer begins at, from 0 on")
    last = len(context) - len(answer)
    if not 0 <= number <= last:
        raise DataError(
            "the offset lies outside of the context.", **place, found=number,
            expected=f"0 to {last}" if last >= 0 else "an answer that is shorter than its context",
        )  # fmt: skip
    end = number + len(answer)
    if context[number:end] != answer:
        elsewhere = context.find(answer)
        raise DataError(
            "the answer does not begin at this offset.", **place, found=number,
            expected=f"{elsewhere}, where it stands" if elsewhere >= 0 else "an answer that stands in the context",
            fix="Offsets count characters, not bytes, and from 0 on. Without offsets the answer is looked for.",
        )  # fmt: skip
    return Span(number, end, 1.0, True)


def _distractors(table: Table, columns: PassageColumns, i: int, answers: list[str], published: bool) -> tuple[list[str], int]:
    """The distractors of row `i`, and how many of a published file are left out."""
    path, row = table.path, table.rows[i]
    found: list[str] = []
    dropped = 0
    right = set(text_keys(answers))
    for name in columns.distractors:
        value = _open(table.columns[name][i], path, row, name)
        for text in (value if isinstance(value, list) else [value]):  # fmt: skip
            if not (text := as_text(text)):
                continue
            check_text(text, "a distractor", MAX_ANSWER, file=path, row=row, column=name)
            key = text_key(text)
            problem = "a distractor is the answer." if key in right else "a distractor stands twice." * (key in text_keys(found))
            if problem and not published:
                raise DataError(problem, file=path, row=row, column=name, expected="wrong answers, each once")
            if problem:
                dropped += 1
            else:
                found.append(text)
    return found, dropped
