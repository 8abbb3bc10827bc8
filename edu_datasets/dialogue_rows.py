"""From a table or a list of messages to checked dialogues: every turn is looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from .arrow_cache import RowWriter
from .errors import DataError
from .files import Table, as_text, check_names, check_text, closest, refuse_bad_rows
from .row_arrays import FirstRows, row_numbers
from .schema import DIALOGUES
from .splits import text_key
from .tutoring import MOVES, Dialogue, Turn

ROLES = dict.fromkeys(("learner", "student", "pupil", "user"), "learner") | dict.fromkeys(
    ("tutor", "teacher", "assistant"), "tutor"
)
MAX_TURN, MAX_GROUNDING = 20_000, 50_000  # characters; what is longer is another column


@dataclass
class DialogueColumns:
    """The user's names for the columns; None where the file has none.

    A file has either a turn a row, with `dialogue`, `role` and `text`, or a dialogue a row, with a list of turns in `messages`:
    [{"role": "user", "content": "..."}, {"role": "assistant", "content": "...", "move": "hint"}]. There the column `dialogue` may
    be missing, and a first message of the system becomes the context.
    """

    dialogue: str = "dialogue_id"
    role: str = "role"
    text: str = "text"
    messages: str = "messages"
    move: str | None = None
    problem_id: str | None = None
    problem: str | None = None
    solution: str | None = None
    context: str | None = None
    profile: str | None = None
    learner: str | None = None


FACTS = {
    "problem_id": "--problem_id_column", "problem": "--problem_column", "solution": "--solution_column",
    "context": "--context_column", "profile": "--profile_column", "learner": "--learner_column",
}  # fmt: skip


@dataclass
class Part:
    """One file's dialogues, with the file's row number of each."""

    path: Path
    dataset: Dataset
    rows: Sequence[int]
    rejected: list[tuple[str, int, str]]
    rows_read: int
    dropped: int = 0  # empty turns of a published file


Place = Callable[[Dialogue, int, str], dict]
"""Where a turn stands: (dialogue, number of the turn, 'role', 'text' or 'move') -> row and column for a message."""


def to_dialogues(table: Table, columns: DialogueColumns) -> tuple[Path, Iterator[Dialogue], Place]:
    """A table of the user's as dialogues, not checked yet, one in memory at a time, and where their turns stand."""
    named = {field: name for field in FACTS if (name := getattr(columns, field))}
    for name_of, name in named.items():
        table.column(name, FACTS[name_of])
    if columns.messages in table.columns:
        return table.path, _from_messages(table, columns, named), lambda d, i, _: _in_list(d, i, columns)
    if columns == DialogueColumns() and columns.role not in table.columns:
        raise DataError(
            "there is neither a column 'messages' nor a column 'role'.", file=table.path,
            expected=table.names_told() or "a header with one of them",
            fix="Name a list of turns with --messages_column, or columns with a turn a row with --role_column and --text_column.",
        )  # fmt: skip
    return table.path, _from_turns(table, columns, named), lambda d, i, key: _in_rows(d, i, columns, key)


def _in_list(dialogue: Dialogue, i: int, columns: DialogueColumns) -> dict:
    return {"row": dialogue.row, "column": f"{columns.messages}[{dialogue.turns[i].place}]"}


def _in_rows(dialogue: Dialogue, i: int, columns: DialogueColumns, key: str) -> dict:
    return {"row": dialogue.turns[i].place, "column": getattr(columns, key)}


def _from_turns(table: Table, columns: DialogueColumns, named: dict[str, str]) -> Iterator[Dialogue]:
    """A turn a row; the rows of a dialogue stand together."""
    ids = map(as_text, table.column(columns.dialogue, "--dialogue_column"))
    roles = table.column(columns.role, "--role_column")
    texts = table.column(columns.text, "--text_column")
    moves = table.column(columns.move, "--move_column") if columns.move else [""] * len(table)
    first_row, dialogue = FirstRows(), None
    for i, (row, name) in enumerate(zip(table.rows, ids, strict=True)):
        if not name:
            raise DataError("the dialogue's id is missing.", file=table.path, row=row, column=columns.dialogue)
        new = dialogue is None or name != dialogue.dialogue_id
        if new and first_row.add(name, row):
            raise DataError(
                "the dialogue was interrupted by another one.", file=table.path, row=row, column=columns.dialogue,
                expected="the turns of a dialogue one below the other", fix="Sort the file by dialogue, then by time.",
            )  # fmt: skip
        if new and dialogue is not None:
            yield dialogue
        dialogue = Dialogue(row, name, []) if new else dialogue
        facts = {field: as_text(table.columns[column][i]) for field, column in named.items()}
        _add_facts(dialogue, facts, named, table.path, row)
        dialogue.turns.append(_turn(roles[i], as_text(texts[i]), as_text(moves[i]), row))
    yield dialogue


def _from_messages(table: Table, columns: DialogueColumns, named: dict[str, str]) -> Iterator[Dialogue]:
    """A dialogue a row, with a list of messages. A first message of the system is the context."""
    ids = table.columns.get(columns.dialogue)
    first_row = FirstRows()
    for i, row in enumerate(table.rows):
        name = as_text(ids[i]) if ids else f"row {row}"
        before = first_row.add(name, row) if name and ids else None
        if not name or before:
            problem = f"the dialogue's id stands in row {before} too." if name else "the dialogue's id is missing."
            raise DataError(problem, file=table.path, row=row, column=columns.dialogue)
        dialogue = Dialogue(row, name, [])
        try:
            dialogue.turns = _turns_of(table.columns[columns.messages][i], table.path, row, columns.messages)
        except DataError as error:
            dialogue.error = error
        if dialogue.turns and dialogue.turns[0].role == "system":
            dialogue.context = dialogue.turns.pop(0).text
        facts = {field: as_text(table.columns[column][i]) for field, column in named.items()}
        _add_facts(dialogue, facts, named, table.path, row)
        yield dialogue


def _turns_of(messages: object, path: Path, row: int, column: str) -> list[Turn]:
    """The messages of one cell."""
    if not isinstance(messages, list) or not messages:
        raise DataError(
            "there is no list of messages.", file=path, row=row, column=column,
            expected='[{"role": "user", "content": "..."}, ...]',
        )  # fmt: skip
    turns = []
    for number, message in enumerate(messages):
        text = _content(message, path, row, f"{column}[{number}]")
        turns.append(_turn(message["role"], text, as_text(message.get("move")), number))
    return turns


def _content(message: object, path: Path, row: int, column: str) -> str:
    """The text of one message."""
    if not isinstance(message, dict) or not message.get("role"):
        raise DataError("the message has no role.", file=path, row=row, column=column, expected='{"role": ..., "content": ...}')
    content = message.get("content", message.get("text"))
    if isinstance(content, list):  # parts, as chat services write them
        if not all(isinstance(part, dict) and part.get("type") == "text" for part in content):
            raise DataError("the message holds more than text.", file=path, row=row, column=column, expected="text alone")
        content = "\n".join(as_text(part.get("text")) for part in content)
    if content is not None and not isinstance(content, str):
        raise DataError("the content is no text.", file=path, row=row, column=column, found=type(content).__name__)
    return as_text(content)


def _turn(role: object, text: str, move: str, place: int) -> Turn:
    role = as_text(role).lower()
    role = ROLES.get(role, role)
    return Turn(role, text, move.lower(), move, role == "tutor", place=place)


def _add_facts(dialogue: Dialogue, facts: dict[str, str], named: dict[str, str], path: Path, row: int) -> None:
    """What the file says of the dialogue; in a file with a turn a row it may stand in one of the rows or in all."""
    for name, value in facts.items():
        attribute = "learner_id" if name == "learner" else name
        known = getattr(dialogue, attribute)
        if known and value and known != value:
            raise DataError(
                "the value differs from that of the dialogue's rows before.", file=path, row=row, column=named[name],
                expected="one value a dialogue",
            )  # fmt: skip
        setattr(dialogue, attribute, known or value)


# ---- checks ---------------------------------------------------------------------------------------------------------


def check_dialogues(
    path: Path, dialogues: Iterable[Dialogue], where: Place, source: str, split_by: str, merge: bool, skip: bool,
    open_end: bool = False, published: bool = False, streaming: bool = False,
) -> Part:  # fmt: skip
    """Dialogues as `schema.DIALOGUES`, every turn looked at. A published file's empty turns are left out and counted."""
    rows, problems, read, dropped = row_numbers(streaming), [], 0, 0
    with RowWriter(DIALOGUES, streaming) as records:
        for dialogue in dialogues:
            read += 1
            try:
                if dialogue.error:
                    raise dialogue.error
                if published:
                    empty = [turn for turn in dialogue.turns if not turn.text.strip()]
                    dialogue.turns = [turn for turn in dialogue.turns if turn.text.strip()]
                    dropped += len(empty)
                turns = _check_turns(dialogue, path, where, merge, open_end)
                group = _unit(dialogue, split_by, path)
                check_names((dialogue.dialogue_id, dialogue.learner_id, dialogue.problem_id), file=path, row=dialogue.row)
            except DataError as error:
                problems.append(error)
                continue
            records.append(_record(dialogue, turns, source, group))
            rows.append(dialogue.row)
        refuse_bad_rows(problems, skip, rows, path, unit="dialogue")
        rejected = [(path.name, error.row or 0, str(error)) for error in problems]
        return Part(path, records.dataset(), rows, rejected, read, dropped)


def _record(dialogue: Dialogue, turns: Sequence[Turn], source: str, group: str) -> dict:
    """A row of `schema.DIALOGUES`."""
    return {
        "dialogue_id": dialogue.dialogue_id, "source": source, "learner_id": dialogue.learner_id,
        "problem_id": dialogue.problem_id, "group_id": group, "problem": dialogue.problem, "solution": dialogue.solution,
        "context": dialogue.context, "profile": dialogue.profile,
        "turns": [
            {
                "role": t.role, "text": t.text, "move": t.move, "source_move": t.source_move, "target": t.target,
                "alternatives": [{"text": text, "move": move} for text, move in t.alternatives],
            }
            for t in turns
        ],
    }  # fmt: skip


def _check_turns(dialogue: Dialogue, path: Path, where: Place, merge: bool, open_end: bool) -> list[Turn]:
    """The turns of a dialogue, where they can be used."""
    for what in ("problem", "solution", "context", "profile"):
        if text := getattr(dialogue, what):
            check_text(text, f"the {what}", MAX_GROUNDING, file=path, row=dialogue.row, column=what)
    turns: list[Turn] = []
    for i, turn in enumerate(dialogue.turns):
        if turn.role not in ("learner", "tutor"):
            close = closest(turn.role, ROLES)
            raise DataError(
                "the role is unknown." + (f" Did you mean '{close}'?" if close else ""), file=path, **where(dialogue, i, "role"),
                expected=f"one of {', '.join(ROLES)}",
            )  # fmt: skip
        check_text(turn.text, "the turn", MAX_TURN, file=path, **where(dialogue, i, "text"))
        if turn.move and (turn.role == "learner" or turn.move not in MOVES):
            close = closest(turn.move, MOVES) if turn.role == "tutor" else None
            raise DataError(
                "a learner's turn has a tutor's move." if turn.role == "learner"
                else "the move is unknown." + (f" Did you mean '{close}'?" if close else ""),
                file=path, **where(dialogue, i, "move"),
                expected="an empty cell" if turn.role == "learner" else f"one of {', '.join(MOVES)}, or nothing",
            )  # fmt: skip
        if turns and turns[-1].role == turn.role:
            if not merge:
                raise DataError(
                    f"the {turn.role} has two turns in a row.", file=path, **where(dialogue, i, "role"),
                    expected="learner and tutor in turns", fix="To make one turn of them, add --merge_turns true.",
                )  # fmt: skip
            turns[-1] = _merged(turns[-1], turn)
        else:
            turns.append(turn)
    roles = [turn.role for turn in turns]
    place = {"file": path, "row": dialogue.row}
    if "learner" not in roles:
        raise DataError("the dialogue has no turn of a learner.", **place)
    if open_end and roles[-1] != "learner":
        raise DataError("the dialogue does not end with the learner's turn.", **place, expected="a turn to reply to")
    if not open_end and not any(turn.target for turn in turns):
        raise DataError("the dialogue has no turn of a tutor.", **place, expected="at least one, to learn from")
    return turns


def _merged(first: Turn, second: Turn) -> Turn:
    """Two turns of one speaker as one, with the first move that is more than generic."""
    moves = [(t.move, t.source_move) for t in (first, second)]
    move = next((m for m in moves if m[0] not in ("", "generic")), moves[0] if moves[0][0] else moves[1])
    return Turn(first.role, f"{first.text}\n{second.text}", *move, target=first.target and second.target, place=first.place)


def _unit(dialogue: Dialogue, split_by: str, path: Path) -> str:
    """What the split may not cut. A problem without an id is known by its text."""
    itself = dialogue.conversation or dialogue.dialogue_id
    if split_by == "dialogue":
        return itself
    if split_by == "problem":
        return dialogue.problem_id or text_key(dialogue.problem) or itself
    unit = dialogue.learner_id if split_by == "learner" else dialogue.units[split_by]
    if not unit:
        raise DataError(f"the {split_by} is missing.", file=path, row=dialogue.row, fix="Name its column, or split otherwise.")
    return unit
