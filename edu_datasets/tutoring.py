"""The public sets of tutoring dialogues, read into one layout, and the table of their moves.

A tutor's move is what a turn does for the learner. Every set has names of its own; ours are few and ordered by how much of the
work they leave to the learner:

    question      asks the learner to explain, check or try, and points nowhere in particular
    hint          points to the next step, a rule or a part of the problem; the step itself is left to the learner
    correction    says that, or where, the learner's turn is wrong
    confirmation  says that the learner's turn is right
    telling       does a step, explains a concept in full or gives the answer
    generic       all else: a greeting, praise for effort, how the session goes, goodbye

    ours          CIMA            MathDial    Bridge (strategy)
    question      question        probing     ask_question, provide_similar_problem
    hint          hint            focus       provide_hint, provide_strategy, simplify_question
    correction    correction      -           provide_correction
    confirmation  confirmation    -           affirm_correct_answer
    telling       -               telling     explain_concept, provide_example
    generic       other           generic     encourage_student, and all strategies in an expert's own words

Why so. MathDial's teachers call it probing when they ask for an explanation, a self-correction or a changed problem, and focus
when they narrow the problem down or recall what matters, which is what the others call a hint; telling reveals a strategy or an
answer. In Bridge a strategy or a simpler question leaves the step to the learner, whereas a concept explained and an example
worked do the thinking. CIMA's tutors may tick several: how the turn answers the learner goes before how it goes on, so that the
first of correction, confirmation, question, hint and other counts. CIMA calls a word's translation a hint too. All ticks stand
in `source_move`. Socratic Debugging names no moves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import DataError
from .files import as_text, decode, parse_json, read_bytes, read_table

MOVES = ("question", "hint", "correction", "confirmation", "telling", "generic")
SOURCE_MOVES = {
    "cima": {
        "correction": "correction", "confirmation": "confirmation", "question": "question", "hint": "hint", "other": "generic",
    },
    "mathdial": {"probing": "question", "focus": "hint", "telling": "telling", "generic": "generic"},
    "bridge": {
        "ask_question": "question", "provide_similar_problem": "question", "provide_hint": "hint", "provide_strategy": "hint",
        "simplify_question": "hint", "provide_correction": "correction", "affirm_correct_answer": "confirmation",
        "explain_concept": "telling", "provide_example": "telling", "encourage_student": "generic",
    },
}  # fmt: skip
"""Set -> its move -> ours, as in the table above; CIMA's in the order in which several ticks are read."""

CIMA_TICKS = ("question", "hint", "correction", "confirmation", "other")  # the order of the file
CIMA_UNITS = {"noun": "engObj", "preposition": "engPrep", "colour": "engColor"}


@dataclass
class Turn:
    """What one of the two says; see `schema.DIALOGUES` for the fields. Alternatives are (text, move)."""

    role: str
    text: str
    move: str = ""
    source_move: str = ""
    target: bool = False
    alternatives: list[tuple[str, str]] = field(default_factory=list)
    place: int = 0  # its row in a file with a turn a row, its number in a list of messages


@dataclass
class Dialogue:
    """One dialogue as its file tells it, before any check.

    `conversation` is the same for dialogues that share their beginning. `units` are other things that a split may keep together.
    `error` is what was found wrong while reading.
    """

    row: int
    dialogue_id: str
    turns: list[Turn]
    problem_id: str = ""
    problem: str = ""
    solution: str = ""
    context: str = ""
    profile: str = ""
    learner_id: str = ""
    conversation: str = ""
    units: dict[str, str] = field(default_factory=dict)
    error: DataError | None = None


def read_cima(path: str | Path) -> list[Dialogue]:
    """CIMA (Stasaski, Kao and Hearst 2020, CC BY 2.5): the conversation so far and one to ten good replies to it, a row each.

    Crowd workers play learner and tutor; the exercise is a phrase in Italian, of one of 9 nouns, 6 prepositions and 6 colours.
    One conversation stands there at several lengths: only the reply is a target, its other versions are alternatives.

    An entry: past_convo ["Try to fill in the blank", "Is it rosa?"] (tutor first), engPrep 'is behind the', engColor 'pink',
    engObj 'tree', prep, obj and color in Italian, tutorResponses ['...', ...], tutorActions [[True, False, ...], ...], ...
    """
    path = Path(path)
    content = parse_json(decode(read_bytes(path), path), path)
    entries = content.get("prepDataset") if isinstance(content, dict) else None
    if not isinstance(entries, dict) or not entries:
        raise DataError("there are no conversations.", file=path, column="prepDataset", expected="CIMA's dataset.json")
    found = []
    for row, (name, entry) in enumerate(entries.items(), start=1):
        said, replies, ticks, *words = _cells(
            entry, ("past_convo", "tutorResponses", "tutorActions", "engPrep", "engColor", "engObj", "prep", "obj", "color"),
            path, row,
        )  # fmt: skip
        if not replies or len(replies) != len(ticks):
            raise DataError(f"{len(replies)} replies have {len(ticks)} actions.", file=path, row=row, column="tutorActions")
        exercise = " ".join(words[:3])
        moves = [_cima_move(flags, path, row) for flags in ticks]
        turns = [Turn("learner" if i % 2 else "tutor", text) for i, text in enumerate(said)]
        others = [(text, move) for text, (move, _) in zip(replies[1:], moves[1:], strict=True)]
        turns.append(Turn("tutor", replies[0], *moves[0], target=True, alternatives=others))
        units = {unit: entry[key] for unit, key in CIMA_UNITS.items()}
        found.append(Dialogue(row, name, turns, exercise, f"Say in Italian: ... {exercise}.", " ".join(words[3:]), units=units))
    begun: dict[tuple[str, ...], str] = {}
    for dialogue in sorted(found, key=lambda d: len(d.turns)):  # a conversation is named by its shortest version
        said = [turn.text for turn in dialogue.turns[:-1]]
        versions = [(dialogue.problem_id, *said[: k + 1]) for k in range(len(said))]
        dialogue.conversation = next((begun[v] for v in versions if v in begun), dialogue.dialogue_id)
        begun[versions[-1]] = dialogue.conversation
    return found


def _cima_move(flags: Sequence[bool], path: Path, row: int) -> tuple[str, str]:
    """Our move and CIMA's, joined by '+' where several are ticked."""
    ticked = [name for name, flag in zip(CIMA_TICKS, flags, strict=False) if flag is True]
    if len(flags) != len(CIMA_TICKS) or not ticked:
        raise DataError(
            "no move is ticked.", file=path, row=row, column="tutorActions",
            expected=f"five booleans, one of them true: {', '.join(CIMA_TICKS)}",
        )  # fmt: skip
    table = SOURCE_MOVES["cima"]
    return table[next(name for name in table if name in ticked)], "+".join(ticked)


def read_mathdial(path: str | Path) -> list[Dialogue]:
    """MathDial (Macina et al. 2023, CC BY-SA 4.0): teachers help a language model that plays a student with a wrong solution.

    A record: qid 5000012, question, ground_truth, student_incorrect_solution, student_profile 'Ana is a 7th grade student. ...',
    teacher_described_confusion, conversation 'Teacher: (probing)Why?|EOM|Ana: Because ...'. Who is not Teacher is the student.
    """
    table = read_table(path)
    names = ("qid", "question", "ground_truth", "student_incorrect_solution", "student_profile", "conversation")
    cells = [[as_text(v) for v in table.column(name, "the distribution's column")] for name in names]
    confusions = [as_text(v) for v in table.columns.get("teacher_described_confusion", [""] * len(table))]
    found = []
    for row, confusion, qid, question, solution, wrong, profile, said in zip(table.rows, confusions, *cells, strict=True):
        turns = []
        for part in said.split("|EOM|"):
            speaker, colon, text = part.partition(":")
            if not colon:
                raise DataError(
                    "a turn has no speaker.", file=table.path, row=row, column="conversation", expected="'Teacher: ...'"
                )
            text = text.strip()
            if speaker.strip() != "Teacher":
                turns.append(Turn("learner", text))
                continue
            label = re.match(r"\((\w+)\)", text)
            if not label or label[1] not in SOURCE_MOVES["mathdial"]:
                raise DataError(
                    "a teacher's turn has no move.", file=table.path, row=row, column="conversation",
                    found=label[1] if label else None, expected=f"({'), ('.join(SOURCE_MOVES['mathdial'])}) before the text",
                )  # fmt: skip
            turns.append(Turn("tutor", text[label.end() :].strip(), SOURCE_MOVES["mathdial"][label[1]], label[1], True))
        profile += f" Confused about: {confusion}" * bool(confusion)
        found.append(Dialogue(row, f"{qid} row {row}", turns, qid, question, solution, f"Learner's solution: {wrong}", profile))
    return found


def read_bridge(path: str | Path) -> list[Dialogue]:
    """Bridge (Wang et al. 2024, MIT): the last turns of a chat before a pupil's mistake, and how an expert would go on.

    The tutors in the chats are novices: their turns are no targets. Several experts answered one chat, a row each. `problem` is
    the lesson's topic, all that is known of it; `problem_id` is the session, of which several moments may stand in the file.
    A picture that was pasted into the chat, thousands of characters, is [picture].

    An item: c_id '4110653_19' (session and turn), lesson_topic, c_h [{"user": "student", "text": "4 m", ...}, ...], c_r (the
    novice's reply), c_r_ [{"user": "tutor", "text": "Hm, not quite", ...}] (the expert's), e, z_what 'provide_hint', z_why, ...
    """
    path = Path(path)
    items = parse_json(decode(read_bytes(path), path), path)
    if not isinstance(items, list) or not items:
        raise DataError("there is no list of chats.", file=path, expected="Bridge's train.json, validation.json or test.json")
    found = []
    for row, item in enumerate(items, start=1):
        name, topic, history, reply, strategy = _cells(item, ("c_id", "lesson_topic", "c_h", "c_r_", "z_what"), path, row)
        turns = [
            Turn({"tutor": "tutor", "student": "learner"}.get(m.get("user"), str(m.get("user"))), _without_pictures(m))
            for m in history
        ]
        move = SOURCE_MOVES["bridge"].get(strategy, "generic")
        text = "\n".join(t for m in reply if (t := _without_pictures(m)))
        turns.append(Turn("tutor", text, move, strategy if strategy in SOURCE_MOVES["bridge"] else "other", True))
        found.append(Dialogue(row, f"{name} row {row}", turns, name.rpartition("_")[0], topic))
    return found


def _without_pictures(message: dict) -> str:
    return re.sub(r"data:image/[\w.+-]+;base64,[\w+/=]+", "[picture]", as_text(message.get("text")))


def read_socratic(path: str | Path) -> list[Dialogue]:
    """Socratic Debugging (Al-Hossami et al. 2023): a tutor leads a student to a bug by questions; no moves are named.

    A record: file '0_0_fibonacci_conversational_thread_1.txt', text '<problem>...</problem><bug_code>...</bug_code>...
    <dialogue>User: ...\\nAssistant: ...\\n\\t<alt>another good turn\\n...</dialogue>'. The student's code at a point of the
    dialogue, `<code>...</code>`, belongs to the turn before it. Alternatives of the student's turns are not kept.
    """
    table = read_table(path)
    names, texts = (table.column(name, "the distribution's column") for name in ("file", "text"))
    found = []
    for row, name, text in zip(table.rows, names, texts, strict=True):
        sections = {tag: body.strip() for tag, body in re.findall(r"<(\w+)>(.*?)</\1>", text, re.DOTALL)}
        dialogue = re.search(r"<dialogue>(.*?)(?:</dialogue>|\Z)", text, re.DOTALL)
        for tag, there in (("problem", "problem" in sections), ("dialogue", dialogue)):
            if not there:
                raise DataError(f"there is no <{tag}>.", file=table.path, row=row, column="text")
        code = sections.get("bug_code", "")
        problem = sections["problem"] + f"\n\nThe student's code:\n{code}" * bool(code)
        solution = "\n".join(filter(None, (sections.get("bug_desc"), sections.get("bug_fixes"))))
        stem = re.sub(r"_conversational_thread.*|\.txt$", "", name)
        turns = _socratic_turns(dialogue[1], table.path, row)
        found.append(Dialogue(row, Path(name).stem, turns, stem, problem, solution, profile=sections.get("stu_desc", "")))
    return found


def _socratic_turns(text: str, path: Path, row: int) -> list[Turn]:
    turns: list[Turn] = []
    alternative = False
    for line in text.strip().split("\n"):
        speaker = re.match(r"\s*(User|Assistant):\s*(.*)", line)
        other = re.match(r"\s*<alt>\s*(.*)", line)
        if speaker:
            tutor = speaker[1] == "Assistant"
            turns.append(Turn("tutor" if tutor else "learner", speaker[2], target=tutor))
            alternative = False
        elif not turns:
            raise DataError("the dialogue begins without a speaker.", file=path, row=row, column="text", expected="User: ...")
        elif other:
            alternative = True
            if turns[-1].role == "tutor" and other[1].strip():
                turns[-1].alternatives.append((other[1].strip(), ""))
        elif alternative and "<code>" not in line:
            if turns[-1].alternatives and line.strip():
                said, move = turns[-1].alternatives.pop()
                turns[-1].alternatives.append((f"{said}\n{line.strip()}", move))
        else:
            alternative = False
            turns[-1].text += "\n" + re.sub(r"</?code>", "", line).rstrip()
    for turn in turns:
        turn.text = re.sub(r"\n{2,}", "\n", turn.text).strip()
    return turns


def _cells(entry: object, names: Iterable[str], path: Path, row: int) -> list:
    """The values of `names` in one object of a json file."""
    if not isinstance(entry, dict):
        raise DataError("the record is not an object.", file=path, row=row, expected='{"key": value, ...}')
    for name in names:
        if entry.get(name) is None:
            raise DataError("the key is missing.", file=path, row=row, column=name)
    return [entry[name] for name in names]
