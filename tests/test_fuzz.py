"""Whatever stands in a user's file, it is read or refused with one message: fuzzed cells, headers, bytes and options.

A few files a loader are tried with all tests, the same each time. In full, with counts:

    python -m pytest tests/test_fuzz.py --full -s
"""

import copy
import csv
import datetime
import functools
import gzip
import importlib
import io
import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import yaml
from conftest import ROOT, load_recipe
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edu_datasets import (
    ConceptColumns,
    DataError,
    DialogueColumns,
    EssayColumns,
    PassageColumns,
    RecordColumns,
    ResourceColumns,
    ResponseColumns,
    load_concepts,
    load_dialogues,
    load_essays,
    load_passages,
    load_paths,
    load_records,
    load_resources,
    load_responses,
    read_dialogues,
    read_mastery,
    read_passages,
)
from edu_datasets.essays import read_prompts
from edu_datasets.files import as_text, read_own_table, read_table
from edu_datasets.resource_tables import read_prerequisite_names
from trainers import report, tracing_report
from trainers.checkpoints import Checkpoint, find_named_base
from trainers.hub import published_files
from trainers.model_selection import folder_name
from trainers.parser import ConfigurationError, RecipeParser

CANARY = "Zq7x"  # in every text and id of a learner; no message may hold it
FEW, MANY = 25, 1000  # files a loader, in the short form and in full

# ---- what may stand in a cell ---------------------------------------------------------------------------------------

NASTY = [
    "", " ", "?", "nan", "NaN", "inf", "-Infinity", "1e309", "-1e999", "1e-400", "9" * 400, "-0", "0.1", "1_000", "1,5", "50%",
    "7 / 10", "0x1F", "٣", "²", "½", "Ⅳ", "١٢", "true", "FALSE", "Yes", "None", "null", "#N/A", "2026-13-01", "31.12.2026",
    "01/02/2026", "2026-09-01T25:00", "2026-09-01T08:30:00+99:00", "0001-01-01", "9999-12-31T23:59:59-14:00", "\x00", "a\x00b",
    "\x1b[31mred", "\x07", "\x85", "\u2028", "\ufeff", "\u202eabc\u202c", "אבג", "e" + "\u0301" * 50, "İ", "ß", "ﬁ", "👩‍👩‍👧‍👦",
    "=1+1", "@SUM(A1)", "-1+1", "+cmd|' /C calc'!A0", "\t=x", "'=1", "'", '"', '""', '"open', ",", ";", ";;;", "a;b", "|", "\t",
    "\n", "\r", "a\rb", "a\r\nb", "../../etc/passwd", "/etc/passwd", "C:\\x", "con", "{", "[", '["a"', '["a", "a"]', "[[[]]]",
    '{"text": ["a"], "answer_start": [0]}', '{"text": "a"}', "$\\frac", "<script>", "{{ x }}", "%s", "x" * 90, "x" * 3_000,
    "word " * 30_000,
]  # fmt: skip
VALUES = [
    None, True, False, 0, 1, -1, 3.0, 0.5, 10**30, 10**400, -(2**63) - 1, 1e300, float("nan"), float("inf"), [], [None], ["a"],
    [1, "a"], [[]], {}, {"a": 1}, {"text": ["a"], "answer_start": [0]}, {"text": [1], "answer_start": ["0"]},
    [{"role": "user"}], [{"role": "tutor", "content": "x"}], [{"text": None}], "\ud800", "a\udfffb",
]  # what json and parquet hold beside texts  # fmt: skip
texts = st.one_of(st.sampled_from(NASTY), st.text(max_size=12), st.floats().map(repr), st.integers().map(str))
values = st.one_of(texts, st.sampled_from(VALUES))
TYPED = [
    b"\x00\xff", b"Dear", Decimal("1.50"), Decimal("1E+500"), datetime.date(2026, 9, 1), datetime.datetime(1, 1, 1),
    datetime.datetime(9999, 12, 31, tzinfo=datetime.timezone(datetime.timedelta(hours=-14))), datetime.time(8),
]  # what parquet holds, too  # fmt: skip
typed = st.one_of(values, st.sampled_from(TYPED))
KINDS = ("csv", "csv.gz", "semicolon.csv", "utf16.csv", "tsv", "txt", "json", "columns.json", "jsonl", "jsonl.gz", "parquet")
TEXT_KINDS = [kind for kind in KINDS if "json" not in kind and kind != "parquet"]


def as_cell(value: object) -> str:
    """A value as csv holds it."""
    if isinstance(value, (list, dict)):
        return json.dumps(value)
    return "" if value is None else str(value)


def as_bytes(kind: str, header: list[str], rows: list[list]) -> bytes:
    """A table as a file of that kind; cells that it cannot hold become texts."""
    name = kind.removesuffix(".gz")
    if name == "parquet":
        data = as_parquet(header, rows)
    elif "json" in name:
        records = [dict(zip(header, row, strict=False)) for row in rows]
        if name == "jsonl":
            data = "\n".join(map(json.dumps, records)).encode()
        elif name == "columns.json":
            data = json.dumps({n: [r[i] for r in rows] for i, n in enumerate(header)}).encode()
        else:
            data = json.dumps(records).encode()
    else:
        text = io.StringIO()
        separator = "\t" if name == "tsv" else ";" if "semicolon" in name else ","
        writer = csv.writer(text, delimiter=separator, quoting=csv.QUOTE_ALL if name == "txt" else csv.QUOTE_MINIMAL)
        writer.writerows([header, *([as_cell(v) for v in row] for row in rows)])
        data = text.getvalue().encode("utf-16" if "utf16" in name else "utf-8", errors="replace")
    return gzip.compress(data, mtime=0) if kind.endswith(".gz") else data


def as_file(kind: str, records: list[dict]) -> bytes:
    """Records as a file of that kind."""
    return as_bytes(kind, list(records[0]), [list(record.values()) for record in records])


def as_parquet(header: list[str], rows: list[list]) -> bytes:
    """Columns of the types that their values have, or of texts where these do not go together."""
    file, columns = io.BytesIO(), {}
    for i, name in enumerate(header):
        cells = [row[i] for row in rows]
        try:
            array = pyarrow.array(cells)
            pyarrow.parquet.write_table(pyarrow.table({"tried": array}), io.BytesIO())
        except (pyarrow.ArrowException, ValueError, TypeError, OverflowError):
            array = pyarrow.array([as_cell(v).encode(errors="replace").decode() for v in cells])
        columns[i] = array, name.encode(errors="replace").decode()
    arrays, names = zip(*columns.values(), strict=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(list(arrays), names=list(names)), file)
    return file.getvalue()


# ---- a file that is mostly right ------------------------------------------------------------------------------------


@dataclass
class Loader:
    """A loader and files that it reads.

    Attributes:
        files: Name -> its records, as the loader wants them.
        load: Called with name -> path, and whether to skip bad rows; returns a data set, or None where no rows are counted.
        private: Columns with texts or ids of learners.
        rows: From the data set: how many rows were used, or set aside for a stated reason that is no fault of theirs.
        units: How many rows records are: of dialogues a turn a row is none.
        kinds: The kinds of files that can hold it.
        document: The first file as json that has more than cells.
        streams: It can read with --streaming.
    """

    files: dict[str, list[dict]]
    load: Callable
    private: tuple[str, ...] = ()
    rows: Callable | None = None
    units: Callable[[list[dict]], int] = len
    kinds: tuple[str, ...] = KINDS
    document: list | dict | None = None
    streams: bool = False


@dataclass
class Fuzzed:
    """One file of a loader as it was changed."""

    name: str
    kind: str
    data: bytes
    rows: int | None  # None where nobody can say
    skip: bool
    streaming: bool = False


def is_row(row: list, kind: str) -> bool:
    """Whether a reader sees a row: an empty line of csv is none."""
    return kind not in TEXT_KINDS or any(map(as_cell, row))


def ways(loader: Loader) -> st.SearchStrategy:
    """Whether bad rows are skipped, and whether rows stay on disk."""
    return st.tuples(st.integers(0, 3).map(bool), st.booleans() if loader.streams else st.just(False))


@st.composite
def tables(draw, loader: Loader) -> Fuzzed:
    """A file with a few cells, a column or the header changed."""
    name = draw(st.sampled_from(list(loader.files)))
    records, kind = loader.files[name], draw(st.sampled_from(loader.kinds))
    header = list(records[0])
    rows = [copy.deepcopy(list(r.values())) for r in records]
    if draw(st.integers(0, 9)) == 0:
        rows = rows[: draw(st.integers(1, len(rows)))]
    cells = texts if kind in TEXT_KINDS else typed if kind == "parquet" else values

    def cell(column: int) -> object:
        value = draw(cells)
        marked = header[column] in loader.private and isinstance(value, str) and value.strip() and draw(st.booleans())
        return f"{CANARY}{value}" if marked else value

    for _ in range(draw(st.integers(0, 5))):
        column = draw(st.integers(0, len(header) - 1))
        rows[draw(st.integers(0, len(rows) - 1))][column] = cell(column)
    if draw(st.integers(0, 4)) == 0:
        column = draw(st.integers(0, len(header) - 1))
        value = cell(column)
        for row in rows:
            row[column] = value
    if draw(st.integers(0, 4)) == 0:
        rows.append(list(draw(st.sampled_from(rows))))
    if draw(st.integers(0, 4)) == 0:
        header[draw(st.integers(0, len(header) - 1))] = draw(st.one_of(texts, st.sampled_from(header)))
    if kind in TEXT_KINDS and draw(st.integers(0, 19)) == 0:
        header, rows = [as_cell(v) for v in rows[0]], rows[1:] or rows  # as if the file had none
    there = [dict(zip(header, row, strict=True)) for row in rows if is_row(row, kind)]
    return Fuzzed(name, kind, as_bytes(kind, header, rows), loader.units(there), *draw(ways(loader)))


@st.composite
def damaged(draw, loader: Loader) -> Fuzzed:
    """A right file of which bytes are changed, or that is called by another name."""
    name, kind = draw(st.sampled_from(list(loader.files))), draw(st.sampled_from(loader.kinds))
    data = bytearray(
        json.dumps(loader.document).encode() if kind == "json" and loader.document else as_file(kind, loader.files[name])
    )
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        change = draw(st.sampled_from(("cut", "flip", "insert", "remove", "repeat")))
        if change == "cut":
            del data[at:]
        elif change == "flip" and at < len(data):
            data[at] = draw(st.integers(0, 255))
        elif change == "insert":
            data[at:at] = draw(
                st.one_of(st.binary(max_size=8), st.sampled_from([b'"', b",", b"\n", b"\x00", b"\xff\xfe", b"\r", b"9" * 5000]))
            )
        elif change == "remove":
            del data[at : at + draw(st.integers(1, 40))]
        else:
            data[at:at] = data[max(0, at - 40) : at]
    kind = draw(st.sampled_from((kind, kind, kind, *KINDS)))
    return Fuzzed(name, kind, bytes(data), None, *draw(ways(loader)))


@st.composite
def nested(draw, loader: Loader) -> Fuzzed:
    """A json file with a few values changed, however deep they lie."""
    document = copy.deepcopy(loader.document)
    for _ in range(draw(st.integers(1, 4))):
        inside, key = draw(st.sampled_from(list(_places(document))))
        change = draw(st.sampled_from(("put", "put", "remove", "repeat")))
        if change == "put":
            inside[key] = draw(values)
        elif change == "repeat" and isinstance(inside, list):
            inside.append(copy.deepcopy(inside[key]))
        else:
            del inside[key]
        if not any(True for _ in _places(document)):
            break
    return Fuzzed(next(iter(loader.files)), "json", json.dumps(document).encode(), None, *draw(ways(loader)))


def _places(value: object) -> Iterator[tuple]:
    """(container, key or position) of everything inside `value`."""
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield value, key
        yield from _places(value[key])


# ---- the loaders ----------------------------------------------------------------------------------------------------


def essays() -> Loader:
    said = "Dear {} {}, phones help us learn, since number {} shows it. We can look things up {}."
    rows = [
        {"id": f"{CANARY}-{i}", "pupil": f"{CANARY} P{i % 15}", "prompt": ("phones", "ferry")[i % 2],
         "text": said.format(CANARY, i, i * 7 % 11, "quickly " * (i % 5)), "score": str(1 + i * 7 % 5),
         "first": str(1 + i % 5), "second": str(1 + i % 4), "group": ("yes", "no")[i % 3 > 0]}
        for i in range(30)
    ]  # fmt: skip

    def load(paths, skip, **more):
        columns = EssayColumns("text", ["score"], "prompt", "id", "pupil", ["first"], ["second"], ["group"])
        return load_essays(train_file=paths["essays"], columns=columns, skip_bad_rows=skip, **more)

    return Loader(
        {"essays": rows}, load, ("id", "pupil", "text"), rows=lambda data: sum(map(len, data.splits.values())), streams=True
    )


def prompts() -> Loader:
    rows = [{"prompt_id": f"p{i}", "prompt": f"Write about {i}.", "score_min": "1", "score_max": f"{4 + i}"} for i in range(4)]
    return Loader({"prompts": rows}, lambda paths, skip: read_prompts(paths["prompts"]) and None)


def records() -> Loader:
    rows = [
        {"id": f"{CANARY}{i}", "pupil": f"{CANARY} P{i}", "attendance": f"{0.5 + i * 37 % 50 / 100}", "quiz": str(i * 31 % 100),
         "grade": ("7", "8", "9")[i % 3], "route": ("bus", "foot", "")[i * 5 % 3], "day": str(i % 40),
         "outcome": ("passed", "failed")[i * 7 % 10 < 3]}
        for i in range(40)
    ]  # fmt: skip

    def load(paths, skip):
        columns = RecordColumns("outcome", "pupil", "id", time="day", categories=["grade"], subgroups=["route"])
        return load_records(train_file=paths["records"], columns=columns, cutoff=42, skip_bad_rows=skip)

    return Loader({"records": rows}, load, ("id", "pupil"), rows=lambda data: sum(map(len, data.splits.values())))


def quantities() -> Loader:
    loader = records()
    rows = [{k: v for k, v in r.items() if k not in ("day", "id")} for r in loader.files["records"]]
    for i, row in enumerate(rows):
        row |= {"outcome": str(i * 13 % 37), "written": f"2026-0{1 + i % 8}-1{i % 9}", "ended": f"2026-11-{10 + i % 9}"}

    def load(paths, skip):
        columns = RecordColumns("outcome", "pupil", time="written", outcome_time="ended")
        return load_records(train_file=paths["records"], columns=columns, cutoff="2026-10-01", skip_bad_rows=skip)

    return Loader({"records": rows}, load, loader.private, loader.rows)


def answers_of(learners: int = 24, each: int = 5) -> list[dict]:
    skills = ("adding", "fractions", "adding; fractions", "angles")
    return [
        {"pupil": f"{CANARY} P{i // each}", "item": f"q{i % 7}", "skill": skills[i * 3 % 4], "right": str(i * 5 % 3 % 2),
         "at": f"2026-09-01T08:{i % 60:02d}:00"}
        for i in range(learners * each)
    ]  # fmt: skip


def responses() -> Loader:
    def load(paths, skip, **more):
        columns = ResponseColumns("pupil", "right", "skill", "item", "at")
        return load_responses(train_file=paths["answers"], columns=columns, skip_bad_rows=skip, sort_by_time=True, **more)

    def rows(data):
        return sum(len(c) for split in data.splits.values() for c in split["correct"])

    return Loader({"answers": answers_of()}, load, ("pupil",), rows, streams=True)


def questions(free: bool, **more) -> Loader:
    texts = [
        f"{CANARY} told story {n}: the keeper {n} rang the {w} bell and the town woke up." for n, w in enumerate("abcdefghij")
    ]
    rows = [
        {"id": f"{CANARY}{i}", "lesson": f"L{i % 10}", "context": texts[i % 10], "question": f"What did keeper {i % 10} do, {i}?",
         "answers": f"rang the {'abcdefghij'[i % 10]} bell", "wrong": json.dumps([f"a horn {i}", "a drum"]), "kind": "explicit"}
        for i in range(30)
    ]  # fmt: skip

    def load(paths, skip, **more):
        columns = PassageColumns("context", "question", ["answers"], None, None, "id", "lesson", ["kind"], ["wrong"])
        return load_passages(train_file=paths["questions"], columns=columns, free_answers=free, skip_bad_rows=skip, **more)

    return Loader({"questions": rows}, load, ("id", "context", "question", "answers", "wrong"), used_questions, streams=True)


def used_questions(data) -> int:
    return sum(map(len, data.splits.values()))


def turns() -> Loader:
    rows = []
    for d in range(12):
        facts = {"dialogue": f"{CANARY}{d}", "pupil": f"{CANARY} P{d}", "problem": f"Work out {d} + 1/2."}
        for t in range(4):
            role = ("learner", "tutor")[t % 2]
            move = "hint" if role == "tutor" else ""
            rows.append(facts | {"role": role, "text": f"{CANARY} turn {d}.{t} is {d * t}", "move": move})

    def load(paths, skip, **more):
        columns = DialogueColumns("dialogue", "role", "text", move="move", problem="problem", learner="pupil")
        return load_dialogues(train_file=paths["turns"], columns=columns, skip_bad_rows=skip, merge_turns=True, **more)

    def dialogues(rows):
        return len({str(row.get("dialogue")) for row in rows})

    return Loader({"turns": rows}, load, ("dialogue", "pupil", "problem", "text"), used_questions, dialogues, streams=True)


def messages() -> Loader:
    def said(d):
        turn = [
            {"role": "user", "content": f"{CANARY} {d}: 2/5?"},
            {"role": "assistant", "content": f"Is it {d}?", "move": "hint"},
        ]
        return [{"role": "system", "content": "Course text."}, *turn, *turn]

    rows = [{"dialogue_id": f"{CANARY}{d}", "messages": said(d), "task": f"Work out {d} + 1/2."} for d in range(12)]

    def load(paths, skip, **more):
        columns = DialogueColumns(problem="task", move="move")
        return load_dialogues(train_file=paths["chats"], columns=columns, skip_bad_rows=skip, **more)

    kinds = ("json", "jsonl", "parquet")
    return Loader(
        {"chats": rows}, load, ("dialogue_id", "messages", "task"), used_questions, kinds=kinds, document=rows, streams=True
    )


def squad() -> Loader:
    def paragraph(n):
        context = f"{CANARY} told story {n}: the keeper rang the bell."
        asked = [
            {"id": f"{CANARY}{n}.{i}", "question": f"What did keeper {n} do, {i}?", "is_impossible": i == 2,
             "answers": [{"text": "rang the bell", "answer_start": context.index("rang")}] * (i < 2),
             "distractors": [f"a horn {i}"]}
            for i in range(3)
        ]  # fmt: skip
        return {"context": context, "qas": asked}

    document = {"version": "2.0", "data": [{"title": f"{CANARY} {n}", "paragraphs": [paragraph(n)]} for n in range(10)]}

    def load(paths, skip, **more):
        return load_passages(train_file=paths["squad"], skip_bad_rows=skip, **more)

    return Loader({"squad": []}, load, rows=used_questions, kinds=("json",), document=document, streams=True)


def open_dialogues() -> Loader:
    """What a tutor replies to."""
    rows = [{**row, "role": role} for row, role in zip(turns().files["turns"], ("user", "tutor", "pupil", "") * 12, strict=True)]
    rows = [{k: row[k] for k in ("dialogue", "role", "text", "problem")} for row in rows if row["role"]]

    def load(paths, skip):
        found, numbers, rejected = read_dialogues(
            paths["turns"], DialogueColumns("dialogue", problem="problem"), skip_bad_rows=skip, merge_turns=True
        )
        assert len(found) == len(numbers) and (skip or not rejected)

    return Loader({"turns": rows}, load, ("dialogue", "text", "problem"))


def texts_to_ask_about() -> Loader:
    rows = [{key: row[key] for key in ("id", "context", "answers")} for row in questions(True).files["questions"]]

    def load(paths, skip):
        columns = PassageColumns("context", answers=["answers"], question_id="id")
        found, _, rejected = read_passages(paths["texts"], columns, skip_bad_rows=skip, need_question=False, need_answers=True)
        assert len(found) + len(rejected) == len(read_table(paths["texts"]))

    return Loader({"texts": rows}, load, ("id", "context", "answers"))


def resources() -> Loader:
    words = "apple bridge circle dragon engine forest garden hammer island jungle kettle lemon".split()
    catalogue = [
        {"resource": f"R{i}", "title": f"{words[i % 12]} {i}", "text": f"All about the {words[i % 12]}, the {words[i * 5 % 12]} "
         f"and the {words[i * 7 % 11]} in lesson {i}.", "kind": "video", "licence": "cc-by-4.0", "level": str(i % 3),
         "language": "en", "topics": f"t{i % 6};t{(i + 1) % 6}"}
        for i in range(24)
    ]  # fmt: skip
    opened = [
        {"learner": f"{CANARY} P{i % 9}", "resource": f"R{i * 7 % 24}", "time": f"2026-09-{1 + i // 3:02d}T08:{i % 60:02d}"}
        for i in range(60)
    ]
    topics = [{"topic": f"t{i}", "text": f"Topic {words[i]}", "parent": f"t{i - 1}" if i % 3 else ""} for i in range(6)]
    away = [{"learner": f"{CANARY} P1"}, {"learner": f"{CANARY} P2"}]

    def load(paths, skip):
        columns = ResourceColumns(title="title", kind="kind", topics="topics", parent="parent")
        data = load_resources(
            resources_file=paths["resources"], interactions_file=paths["interactions"], topics_file=paths["topics"],
            opt_out_file=paths["away"], columns=columns, folds=2, skip_bad_rows=skip,
        )  # fmt: skip
        data.topic_rows = len(read_table(paths["topics"]))
        return data

    def rows(data):
        opened = sum(map(len, data.interactions.values()))
        aside = sum(n for why, n in data.left_out.items() if why.startswith(("interactions", "openings")))
        return len(data.resources) + opened + aside + data.topic_rows

    files = {"resources": catalogue, "interactions": opened, "topics": topics, "away": away}
    return Loader(files, load, ("learner",), rows)


def concepts() -> Loader:
    names = [f"concept {i}" for i in range(16)]
    chain = [{"before": names[i], "after": names[j], "label": "1"} for i in range(16) for j in (i + 1, i + 3) if j < 16]

    def load(paths, skip):
        columns = ConceptColumns(text="text", label="label")
        return load_concepts(
            concepts_file=paths["concepts"], prerequisites_file=paths["pairs"], columns=columns, skip_bad_rows=skip,
            break_cycles=True, split="none",
        )  # fmt: skip

    files = {"concepts": [{"concept": n, "text": f"All about {n}."} for n in names], "pairs": chain}
    return Loader(files, load, (), None)


def paths() -> Loader:
    skills = ("adding", "fractions", "angles", "circles")
    pairs = [{"before": a, "after": b} for a, b in zip(skills, skills[1:], strict=False)]

    def load(paths, skip):
        columns = ResponseColumns("pupil", "right", "skill", "item", "at")
        return load_paths(
            concepts_file=paths["concepts"], prerequisites_file=paths["pairs"], answers_file=paths["answers"],
            answer_columns=columns, split="none", skip_bad_rows=skip, sort_by_time=True,
        )  # fmt: skip

    files = {"concepts": [{"concept": s} for s in skills], "pairs": pairs, "answers": answers_of()}
    return Loader(files, load, ("pupil",))


def mastery() -> Loader:
    rows = [
        {
            "learner_id": f"{CANARY} P{i // 3}",
            "concept": f"c{i % 3}",
            "mastery": f"0.{i}",
            "mastery_low": "0.1",
            "mastery_high": "0.9",
        }
        for i in range(9)
    ]
    return Loader({"mastery": rows}, lambda paths, skip: read_mastery(paths["mastery"]) and None, ("learner_id",))


def prerequisite_names() -> Loader:
    rows = [{"before": f"t{i}", "after": f"t{i + 1}"} for i in range(5)]
    return Loader({"topics": rows}, lambda paths, skip: read_prerequisite_names(read_table(paths["topics"])) and None)


LOADERS = {
    "essays": essays(), "prompts": prompts(), "records": records(), "quantities": quantities(), "responses": responses(),
    "literal answers": questions(False), "free answers": questions(True), "turns": turns(), "messages": messages(),
    "squad": squad(), "open dialogues": open_dialogues(), "texts to ask about": texts_to_ask_about(),
    "resources": resources(), "concepts": concepts(), "paths": paths(), "mastery": mastery(),
    "prerequisite names": prerequisite_names(),
}  # fmt: skip


# ---- what every loader must do --------------------------------------------------------------------------------------


class Told(logging.Handler):
    """What the log says, whatever its level."""

    def __init__(self):
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def check(loader: Loader, fuzzed: Fuzzed, folder: Path) -> str:
    """Load files of which one is fuzzed. Returns 'read' or 'refused'; anything else is an error."""
    files = {}
    for name, rows in loader.files.items():
        kind = fuzzed.kind if name == fuzzed.name else loader.kinds[0]
        files[name] = folder / f"{name}_of_ours.{kind}"
        files[name].write_bytes(fuzzed.data if name == fuzzed.name else as_file(kind, rows))
    log, root = Told(), logging.getLogger()
    root.addHandler(log)
    try:
        data = loader.load(files, fuzzed.skip, **({"streaming": True} if fuzzed.streaming else {}))
    except (DataError, ConfigurationError) as error:
        message = str(error)
        assert error.exit_code == 2 and any(path.name in message for path in files.values()), message
        assert CANARY not in message, message
        return "refused"
    finally:
        root.removeHandler(log)
    told = "\n".join(log.lines)
    if data is not None:
        told += data.summary() + json.dumps(data.facts(), default=str)
    assert CANARY not in told, told
    if loader.rows and data is not None:
        used, rejected = loader.rows(data), len(data.rejected)
        assert used + rejected == data.rows_read, (used, rejected, data.rows_read)
        assert fuzzed.skip or not rejected
        if fuzzed.rows is not None and len(files) == 1:
            assert data.rows_read == fuzzed.rows
    return "read"


def fuzz(strategy, check: Callable[[object], str], full: bool, name: str, few: int = FEW, many: int = MANY) -> None:
    """`check` on many examples, with the counts of what it returns printed."""
    counts: Counter[str] = Counter()

    @settings(
        max_examples=many if full else few, derandomize=not full, deadline=None, database=None, print_blob=False,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def run(example):
        counts[check(example)] += 1

    run()
    print(f"\n{name}: {counts.total():,} examples, " + ", ".join(f"{n:,} {what}" for what, n in sorted(counts.items())))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDU_RECIPES_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def full(request) -> bool:
    return request.config.getoption("--full")


@pytest.mark.parametrize("name", LOADERS)
def test_the_unchanged_files_are_read(name, tmp_path):
    """So that what is refused below is refused for its change."""
    loader = LOADERS[name]
    first = next(iter(loader.files))
    for kind in loader.kinds:
        rows = loader.files[first]
        data = as_file(kind, rows) if rows else json.dumps(loader.document).encode()
        assert check(loader, Fuzzed(first, kind, data, loader.units(rows) if rows else None, False), tmp_path) == "read"


@pytest.mark.parametrize("name", [name for name, loader in LOADERS.items() if loader.document])
def test_changed_documents_are_read_or_refused(name, tmp_path, full):
    loader = LOADERS[name]
    fuzz(nested(loader), lambda fuzzed: check(loader, fuzzed, tmp_path), full, f"documents of {name}")


@pytest.mark.parametrize("name", [name for name in LOADERS if name != "squad"])
def test_changed_tables_are_read_or_refused(name, tmp_path, full):
    loader = LOADERS[name]
    fuzz(tables(loader), lambda fuzzed: check(loader, fuzzed, tmp_path), full, f"tables of {name}")


@pytest.mark.parametrize("name", LOADERS)
def test_damaged_files_are_read_or_refused(name, tmp_path, full):
    loader = LOADERS[name]
    fuzz(damaged(loader), lambda fuzzed: check(loader, fuzzed, tmp_path), full, f"damaged files of {name}", FEW // 2, MANY // 2)


# ---- what was found -------------------------------------------------------------------------------------------------

FOUND = {
    "half a character in a name": ("responses", "answers", "jsonl", {3: {"pupil": "a\ud800"}}, "row 4", "half a character"),
    "a zero byte in an essay's id": ("essays", "essays", "json", {0: {"id": "a\x00b"}}, "row 1", "zero byte"),
    "a score that no float can hold": ("essays", "essays", "json", {2: {"score": 10**400}}, "row 3", "not a score"),
    "a highest score likewise": ("prompts", "prompts", "json", {1: {"score_max": 10**400}}, "row 2", "not a score"),
    "a time without end": ("responses", "answers", "csv", {3: {"at": "inf"}}, "row 5", "not a time"),
    "a topic whose topic above is missing further up": (
        "resources", "topics", "csv", {0: {"parent": "t2"}, 2: {"parent": "nowhere"}}, "row 4", "there is no such topic"),
    "an offset that is no place": (
        "literal answers", "questions", "jsonl", {5: {"answers": [{"text": "rang", "answer_start": float("inf")}]}}, "row 6",
        "the offset is no whole number"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOUND)
def test_what_ended_in_a_traceback_is_refused_by_its_row(case, tmp_path):
    name, file, kind, changes, *words = FOUND[case]
    loader = LOADERS[name]
    rows = [row | changes.get(i, {}) for i, row in enumerate(loader.files[file])]
    paths = {other: tmp_path / f"{other}.{kind}" for other in loader.files}
    for other, path in paths.items():
        path.write_bytes(as_file(kind, rows if other == file else loader.files[other]))
    with pytest.raises(DataError) as error:
        loader.load(paths, False)
    assert [word for word in (f"{file}.{kind}", *words) if word not in str(error.value)] == [], error.value


def test_a_concept_may_be_called_two_in_superscript(tmp_path):
    loader = LOADERS["responses"]
    data = as_file("csv", [row | {"skill": row["skill"].replace("angles", "²")} for row in loader.files["answers"]])
    assert check(loader, Fuzzed("answers", "csv", data, len(loader.files["answers"]), False), tmp_path) == "read"


def test_a_number_of_thousands_of_digits_is_no_json(tmp_path):
    path = tmp_path / "essays.jsonl"
    path.write_text('{"text": "fine", "score": 1}\n{"text": "long", "score": ' + "9" * 5000 + "}\n")
    with pytest.raises(DataError, match="essays.jsonl, row 2: not valid json"):
        read_table(path)


@pytest.mark.parametrize("records", ["{}", "[{}]", "[{}, {}]"])
def test_records_without_a_column_are_refused(records, tmp_path):
    path = tmp_path / "essays.json"
    path.write_text(records)
    with pytest.raises(DataError, match="essays.json: the rows have no columns"):
        read_table(path).column("text", "--text_column")


@pytest.mark.parametrize("streaming", [False, True])
def test_a_parquet_file_with_damaged_letters_is_refused(streaming, tmp_path):
    path = tmp_path / "essays.parquet"
    data = as_file("parquet", [{"text": "abcdefgh" * 4}])
    path.write_bytes(data.replace(b"abcdefgh", b"abc\xddefgh"))
    with pytest.raises(DataError, match="essays.parquet: not a readable parquet file"):
        read_table(path, streaming=streaming)


@pytest.mark.parametrize(
    "header",
    ["Zq7x", "Zq7x,fractions,0.5", "Zq7x,R1,2026-09-01", "Zq7x,R1,1e+37", "Zq7x,learner", "Zq7x,Zq7x", '{"id": "Zq7x"}',
     "Zq7x was here.", "Zq7x1,fractions", "Zq7x,?"],
)  # fmt: skip
def test_a_first_row_that_may_be_a_learner_is_not_told(header, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(f"{header}\n{header.replace('Zq7x', 'Zq7x0' if 'x1' in header else 'other')}\n")
    with pytest.raises(DataError) as error:
        read_table(path).column("pupil", "--learner_column")
    assert CANARY not in str(error.value) and "log.csv" in str(error.value)
    with pytest.raises(DataError) as error:
        load_dialogues(train_file=path)
    assert CANARY not in str(error.value)


# ---- predict.py -----------------------------------------------------------------------------------------------------


@dataclass
class Prediction:
    """A finished run's model and files that it predicts for; the first is the input, others go to the option of their name.

    Attributes:
        fixture: The run.
        files: See `Loader`.
        options: More words.
        private: See `Loader`.
        id_column: Of the input and of the output, where both have a row for a row.
        per_row: From the output, how many rows of the input it answers; None where learners share rows.
        slow: Writes text, which the short form leaves out.
    """

    fixture: str
    files: dict[str, list[dict]]
    options: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    id_columns: tuple[str, str] | None = None
    per_row: Callable | None = len
    slow: bool = False


def predictions() -> dict[str, Prediction]:
    scored = [{"id": f"{CANARY}{i}", "text": f"{CANARY} {i}: phones help us learn.", "task": "phones"} for i in range(6)]
    learners = [
        {"id": f"{CANARY}{i}", "language_learner": "no", "support": "no", "days_registered_late": "0",
         "previous_grade": str(50 + i), "attendance": "0.9", "homework_share": "0.8", "answers": "9", "quiz_mean": "0.7",
         "quiz_mean_14_days": "0.5", "days_since_last_answer": "3", "grade": "7"}
        for i in range(6)
    ]  # fmt: skip
    log = [{"learner": f"{CANARY} P{i // 3}", "concepts": "percentages;area", "correct": str(i % 2)} for i in range(9)]
    known = [{"learner_id": f"{CANARY} P{i}", "concept": "percentages", "mastery": "0.5"} for i in range(3)]
    asked = [{"id": f"{CANARY}{i}", "context": f"{CANARY} {i}: the keeper rang.", "question": "Who rang?"} for i in range(6)]
    opened = [{"learner": f"{CANARY} P{i % 2}", "resource": f"R00{1 + i}", "time": f"2026-09-0{1 + i}"} for i in range(5)]
    pairs = [{"before": "fractions", "after": "percentages"} for _ in range(3)]
    said = [
        {"dialogue_id": f"{CANARY}{i // 3}", "role": ("learner", "tutor")[i % 3 % 2], "text": f"{CANARY} turn {i}"}
        for i in range(6)
    ]
    named, short = ("--id_column", "id"), ("--distractors", "0", "--candidates", "1", "--questions_per_text", "1")
    texts = ("id", "context", "question")
    return {
        "essays": Prediction(
            "finished_run", {"input": scored}, (*named, "--prompt_column", "task"), ("id", "text"), ("id", "essay_id")
        ),
        "records": Prediction("finished_predictor", {"input": learners}, named, ("id",), ("id", "record_id")),
        "mastery": Prediction("finished_tracer", {"input": log}, (), ("learner",), per_row=None),
        "paths": Prediction(
            "finished_path", {"input": log, "mastery_file": known}, ("--goal", "proportion"), ("learner", "learner_id"),
            per_row=None,
        ),
        "pairs": Prediction("finished_path", {"input": pairs}),
        "answers": Prediction("finished_reader", {"input": asked}, named, texts, ("id", "question_id")),
        "topics": Prediction(
            "finished_recommender", {"input": [{"text": f"fractions {i}"} for i in range(4)]},
            per_row=lambda table: sum(rank in ("0", "1") for rank in table.columns["rank"]),
        ),
        "histories": Prediction(
            "finished_histories", {"input": opened, "opt_out_file": [{"learner": "P9"}]}, (), ("learner",), per_row=None
        ),
        "replies": Prediction("finished_tutor", {"input": said}, (), ("dialogue_id", "text"), per_row=None, slow=True),
        "questions": Prediction("finished_writer", {"input": asked}, (*named, *short), texts, per_row=None, slow=True),
    }  # fmt: skip


PREDICTIONS = predictions()


def predicting(task: Prediction, model: Path, folder: Path) -> Loader:
    """predict.py as a loader, with what its output must hold."""
    main = load_recipe("predict").main

    def load(paths, skip):
        given, out = paths["input"], folder / "out.csv"
        left_out = out.with_suffix(".rejected.csv")
        left_out.unlink(missing_ok=True)
        more = [word for name, path in paths.items() if name != "input" for word in (f"--{name}", str(path))]
        words = ["--model", str(model), "--input_file", str(given), "--output_file", str(out), *task.options, *more]
        main([*words, "--skip_bad_rows", str(skip).lower()])
        written = read_own_table(out)
        rejected = read_own_table(left_out).columns["row"] if left_out.is_file() else []
        known = {as_text(value) for path in paths.values() for column in read_table(path).columns.values() for value in column}
        for values in written.columns.values():
            assert not {"nan", "inf", "-inf"} & set(values) - known, "a prediction is a number"
        if task.per_row:
            table = read_table(given)
            assert task.per_row(written) + len(rejected) == len(table)
            if task.id_columns:
                before, after = task.id_columns
                pairs = zip(map(str, table.rows), map(as_text, table.columns[before]), strict=True)
                assert written.columns[after] == [name for row, name in pairs if row not in rejected]

    return Loader(task.files, load, task.private)


@pytest.mark.parametrize("name", PREDICTIONS)
def test_predictions_are_made_or_refused(name, tmp_path, full, request, monkeypatch):
    task = PREDICTIONS[name]
    if task.slow and not full:
        pytest.skip("writing takes minutes: only with --full")
    model = request.getfixturevalue(task.fixture)
    loader = predicting(task, model, tmp_path)
    module = importlib.import_module(f"predictions.{json.loads((model / 'edu_recipes.json').read_text())['task']}")
    monkeypatch.setattr(module, "load", functools.cache(module.load))
    many = MANY // (50 if task.slow else 10)
    fuzz(tables(loader), lambda fuzzed: check(loader, fuzzed, tmp_path), full, f"tables to predict {name}", FEW // 3, many)


# ---- options --------------------------------------------------------------------------------------------------------

RECIPES = sorted(path.stem for path in (ROOT / "recipes/configs").iterdir())
loose = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)), max_leaves=5,
)  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_options_are_followed_or_refused(name, tmp_path, full):
    """In YAML, in any text that is called so, and on the command line."""
    recipe, file = load_recipe(name), tmp_path / "run.yaml"
    names = sorted(set(vars(options(recipe).parse([])[0])) | {"output_dir", "learning_rate", "report_to", "config", "debug"})
    keys = st.one_of(*[st.sampled_from(names)] * 4, texts)
    lines = st.dictionaries(keys, loose, min_size=1, max_size=2).map(lambda d: yaml.safe_dump(d).encode())
    broken = st.one_of(st.text(max_size=30).map(lambda text: text.encode(errors="replace")), st.binary(max_size=30))
    content = st.one_of(lines, lines, lines, broken)
    word = st.one_of(keys.map(lambda key: f"--{key}"), st.tuples(keys, texts).map("--{0[0]}={0[1]}".format), texts)
    words = st.one_of(st.just([]), st.just([]), st.lists(word, max_size=3))

    def check(example) -> str:
        data, more = example
        file.write_bytes(data)
        try:
            options(recipe).parse(["--config", str(file), "--output_dir", str(tmp_path / "run"), *more])
        except ConfigurationError as error:
            assert error.exit_code == 2 and str(error)
            return "refused"
        except SystemExit as stopped:
            assert stopped.code == 0  # --help
        assert not (tmp_path / "run").exists()
        return "followed"

    fuzz(st.tuples(content, words), check, full, f"options of {name}", FEW, MANY // 4)


def options(recipe) -> RecipeParser:
    parser = RecipeParser(recipe.OPTIONS)
    parser.set_defaults(**recipe.DEFAULTS)
    return parser


# ---- csv that a spreadsheet opens -----------------------------------------------------------------------------------

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-1+1", "@SUM(A1)", "\t=x", "\r=x", "\n=x", "＝1+1", "'=1", "''@x"]


def test_no_cell_of_a_csv_begins_a_formula(tmp_path):
    path = tmp_path / "out.csv"
    report.write_csv(path, {"=id": FORMULAS, "text": FORMULAS, "number": [-1.5] * len(FORMULAS)})
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file, strict=True)
    assert header == ["'=id", "text", "number"] and len(rows) == len(FORMULAS)
    assert all(cell.startswith("'") for *cells, _ in rows for cell in cells)
    assert {number for *_, number in rows} == {"-1.5"}, "a number stays one"


def test_what_was_written_is_read_back(tmp_path, full):
    names = st.one_of(texts, st.sampled_from(FORMULAS), st.sampled_from(["-17", "+4", "-0.5", "'-17", "=A1"]))
    names = names.map(lambda text: text.replace("\x00", "").encode(errors="replace").decode())
    path = tmp_path / "out.csv"

    def check(columns) -> str:
        first, second = ([name for pair in columns for name in pair[i : i + 1]] for i in range(2))
        report.write_csv(path, {"row": list(range(len(first))), "id": first, "text": second})
        table = read_own_table(path)
        assert table.columns["id"] == first and table.columns["text"] == second
        return "read back"

    fuzz(st.lists(st.tuples(names, names), min_size=1, max_size=6), check, full, "csv", 4 * FEW)


@pytest.mark.parametrize("learner", ["-17", "=A1", "'=A1", "+4", "@home", "a\rb"])
def test_a_learner_is_the_same_in_mastery_csv_and_after_it(learner, finished_tracer, finished_path, tmp_path):
    log = [{"learner": name, "concepts": "percentages", "correct": str(i % 2)} for i in range(4) for name in (learner, "other")]
    given, mastery, path = (tmp_path / name for name in ("log.csv", "mastery.csv", "path.csv"))
    given.write_bytes(as_file("csv", log))
    predict = load_recipe("predict").main
    predict(["--model", str(finished_tracer), "--input_file", str(given), "--output_file", str(mastery)])
    assert set(read_mastery(mastery)) == {learner, "other"}
    words = ["--model", str(finished_path), "--input_file", str(given), "--output_file", str(path), "--goal", "proportion"]
    predict([*words, "--mastery_file", str(mastery)])
    assert set(read_own_table(path).columns["learner_id"]) == {learner, "other"}, (
        "the log's learners and the mastery's are the same"
    )


# ---- paths from data ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../../up", "/etc/x", "a/b", "..", ".", "", "con", "a\x00b", "~", "C:\\x", "x" * 80, "👩‍👩‍👧" * 16, "a\nb", "%2e%2e"]
)
def test_the_folder_of_a_part_lies_in_the_run_whatever_a_prompt_is_called(name, tmp_path):
    folder = tmp_path / folder_name(f"without_{name}")
    folder.mkdir()
    assert folder.resolve().parent == tmp_path.resolve()
    assert folder_name("without_phones") == "without_phones" and folder_name("fold_0") == "fold_0"
    others = [f"without_{name}/", f"without_{name.upper()}x", f"without_{name.lower()}x"]
    assert len({folder_name(f"without_{name}"), *map(folder_name, others)}) == len({f"without_{name}", *others})


@pytest.mark.parametrize("name", ["/home/somebody/model", "../model", "models/../../model", "~/model", "./model"])
def test_an_adapter_of_the_hub_names_no_folder_here_as_its_base(name):
    with pytest.raises(ConfigurationError, match="from the Hub"):
        find_named_base(Checkpoint("user/adapter", "user/adapter"), name)


def test_predictions_are_not_written_over_their_input(finished_tracer, tmp_path):
    given = tmp_path / "log.csv"
    given.write_text("learner,concepts,correct\nA,area,1\n")
    (tmp_path / "link.csv").symlink_to(given)
    for out in (given, tmp_path / "link.csv", tmp_path):
        with pytest.raises(ConfigurationError, match="--output_file"):
            load_recipe("predict").main(["--model", str(finished_tracer), "--input_file", str(given), "--output_file", str(out)])
    assert given.read_text().endswith("A,area,1\n")


def test_a_figure_shows_any_name(tmp_path):
    names = ["$\\frac$", "$x^", "a\nb", "x" * 5000, "👩‍👩‍👧", "\u202eאב", "{}%s"]
    mastery = {"learner_id": names, "concept": ["c"] * len(names), "answers": [1] * len(names)}
    mastery |= {"mastery": [0.5] * len(names), "mastery_low": [0.1] * len(names), "mastery_high": [0.9] * len(names)}
    tracing_report.draw_mastery(tmp_path / "mastery.png", mastery, ["$\\nothing$"])
    assert (tmp_path / "mastery.png").stat().st_size > 1000


def test_a_link_out_of_a_model_is_not_published(finished_tracer, tmp_path):
    folder = shutil.copytree(finished_tracer, tmp_path / "model")
    assert "metrics.json" in published_files(folder)
    (tmp_path / "secret").write_text("{}")
    (folder / "tokenizer.json").symlink_to(tmp_path / "secret")
    with pytest.raises(ConfigurationError, match="tokenizer.json .* is a link"):
        published_files(folder)
