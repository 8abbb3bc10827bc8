"""Dialogues reach a recipe turn by turn with the tutor's moves, no problem is on two sides, and what is broken is refused with
its place and without a word of what was said."""

import gzip
import json
import re
from collections import Counter
from pathlib import Path

import pytest

import edu_datasets.dialogues as dialogues
from edu_datasets import DataError, DialogueColumns, every_reply, halve_validation, load_dialogues, read_dialogues
from edu_datasets.files import Table
from edu_datasets.schema import DIALOGUES
from edu_datasets.school_generator import CONCEPTS, school_learners
from edu_datasets.splits import find_leaks
from edu_datasets.tutoring import MOVES, SOURCE_MOVES, read_cima

HEADER = "dialogue_id,role,text,move,problem_id"
COLUMNS = DialogueColumns(move="move", problem_id="problem_id")


def write(path, text: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def pack(path, content: object):
    """Json, or jsonl where the name says so, as gzip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(r) + "\n" for r in content) if ".jsonl" in path.name else json.dumps(content)
    path.write_bytes(gzip.compress(text.encode()))
    return path


def turns(number: int, first: int = 0) -> list[str]:
    """Rows of a file with a turn a row: two dialogues a problem, four turns each."""
    rows = []
    for d in range(first, first + number):
        rows += [f"d{d},student,I got {d}.,,p{d // 2}", f"d{d},teacher,How did you get {d}?,question,p{d // 2}"]
        rows += [f"d{d},pupil,I added {d}.,,p{d // 2}", f"d{d},tutor,Try it with {d + 1}.,hint,p{d // 2}"]
    return rows


def own(path, *rows: str, header: str = HEADER):
    return write(path, "\n".join([header, *rows]) + "\n")


def messages(path, chats: list, **more):
    return write(path, "".join(json.dumps({"messages": chat, **more}) + "\n" for chat in chats))


def chat(number: int, system: str | None = None) -> list[dict]:
    said = [{"role": "user", "content": f"I got {number}."}, {"role": "assistant", "content": f"Why {number}?"}]
    return [{"role": "system", "content": system}, *said] if system else said


def every_row(data) -> list[dict]:
    return [row for split in data.splits.values() for row in split]


def leaks(splits, column: str = "problem_id") -> list:
    return find_leaks(splits, [column])


# ---- a school's own file --------------------------------------------------------------------------------------------


def test_a_turn_a_row_becomes_a_dialogue_a_row(tmp_path):
    data = load_dialogues(train_file=own(tmp_path / "own.csv", *turns(20)), columns=COLUMNS)
    rows = every_row(data)
    assert len(rows) == data.rows_read == 20 and set(data.splits["train"].features) == set(DIALOGUES)
    row = next(r for r in rows if r["dialogue_id"] == "d3")
    assert [t["role"] for t in row["turns"]] == ["learner", "tutor", "learner", "tutor"] and row["problem_id"] == "p1"
    assert [t["move"] for t in row["turns"]] == ["", "question", "", "hint"]
    assert [t["target"] for t in row["turns"]] == [False, True, False, True], "the tutor's turns are to learn, no others"
    assert row["turns"][3]["text"] == "Try it with 4." and row["source"] == "own.csv"
    assert data.move_counts("test") == {"question": len(data.splits["test"]), "hint": len(data.splits["test"])}


def test_what_the_file_knows_of_a_dialogue_may_stand_in_one_of_its_rows(tmp_path):
    header = "dialogue_id,role,text,task,answer,lesson,about,who"
    rows = ["a,user,Help!,1 + 1,2,Sums.,slow reader,L1", "a,assistant,Count on.,,,,,"]
    columns = DialogueColumns(problem="task", solution="answer", context="lesson", profile="about", learner="who")
    path = own(tmp_path / "own.csv", *rows, "a,user,So 2?,,,,,", header=header)
    found, numbers, _ = read_dialogues(path, columns)
    row = found[0]
    assert (row["problem"], row["solution"], row["context"]) == ("1 + 1", "2", "Sums.")
    assert (row["profile"], row["learner_id"], numbers) == ("slow reader", "L1", [2])


def test_chat_messages_are_dialogues_and_the_systems_message_is_the_context(tmp_path):
    path = messages(tmp_path / "chats.jsonl", [chat(n, f"You are a tutor. Text {n}.") for n in range(10)])
    data = load_dialogues(train_file=path)
    row = next(r for r in every_row(data) if r["dialogue_id"] == "row 4")
    assert row["context"] == "You are a tutor. Text 3." and [t["text"] for t in row["turns"]] == ["I got 3.", "Why 3?"]
    assert data.move_counts("test") == {"": 2}


def test_a_message_may_be_in_parts_and_name_its_move(tmp_path):
    said = [{"role": "user", "content": [{"type": "text", "text": "Why"}, {"type": "text", "text": "2?"}]}]
    said += [{"role": "assistant", "content": "Count.", "move": "Hint"}, {"role": "user", "content": "Ok."}]
    found, _, _ = read_dialogues(messages(tmp_path / "chats.jsonl", [said], session="s1"), DialogueColumns(dialogue="session"))
    assert found[0]["dialogue_id"] == "s1" and found[0]["turns"][0]["text"] == "Why\n2?"
    assert found[0]["turns"][1]["move"] == "hint" and found[0]["turns"][1]["source_move"] == "Hint"


def test_turns_in_a_row_are_merged_when_asked(tmp_path):
    rows = [*turns(20), "x,user,One.,,px", "x,user,Two.,,px", "x,tutor,Hi.,generic,px", "x,tutor,Why?,question,px"]
    path = own(tmp_path / "own.csv", *rows)
    with pytest.raises(DataError, match="row 83, column 'role': the learner has two turns in a row.*--merge_turns"):
        load_dialogues(train_file=path, columns=COLUMNS)
    data = load_dialogues(train_file=path, columns=COLUMNS, merge_turns=True)
    row = next(r for r in every_row(data) if r["dialogue_id"] == "x")
    assert [(t["text"], t["move"]) for t in row["turns"]] == [("One.\nTwo.", ""), ("Hi.\nWhy?", "question")]


def test_a_dialogue_may_begin_with_the_tutor_and_end_with_the_learner(tmp_path):
    rows = [*turns(20), "x,tutor,Hello.,,px", "x,user,Hi.,,px", "x,tutor,Ready?,,px", "x,user,Yes.,,px"]
    data = load_dialogues(train_file=own(tmp_path / "own.csv", *rows), columns=COLUMNS)
    assert any(row["turns"][0]["role"] == "tutor" and row["turns"][-1]["role"] == "learner" for row in every_row(data))


def test_dialogues_that_cannot_be_used_are_listed_when_asked(tmp_path):
    rows = [*turns(20), "x,user,One.,,px", "x,user,Two.,,px", "y,user,One.,,py"]
    data = load_dialogues(train_file=own(tmp_path / "own.csv", *rows), columns=COLUMNS, skip_bad_rows=True)
    assert [(file, row) for file, row, _ in data.rejected] == [("own.csv", 83), ("own.csv", 84)]
    assert data.rows_read == 22 == len(every_row(data)) + len(data.rejected)


def test_dialogues_to_go_on_with_end_with_the_learner(tmp_path):
    found, rows, _ = read_dialogues(own(tmp_path / "own.csv", "a,user,Help!,,p"), COLUMNS)
    assert rows == [2] and [t["text"] for t in found[0]["turns"]] == ["Help!"]
    with pytest.raises(DataError, match="row 2: the dialogue does not end with the learner's turn"):
        read_dialogues(own(tmp_path / "b.csv", *turns(1)), COLUMNS)


def test_fewer_rows_when_asked(tmp_path):
    path = own(tmp_path / "own.csv", *turns(40))
    data = load_dialogues(train_file=path, columns=COLUMNS, max_train_samples=5, max_eval_samples=2)
    assert {s: len(rows) for s, rows in data.splits.items()} == {"train": 5, "validation": 2, "test": 2}


# ---- splits ---------------------------------------------------------------------------------------------------------


def test_no_problem_is_on_two_sides(tmp_path):
    path = own(tmp_path / "own.csv", *turns(60))
    data = load_dialogues(train_file=path, columns=COLUMNS)
    assert not leaks(data.splits) and data.split_by == "problem" and "by problem" in data.split_protocol
    for fold in data.fold_splits(3, seed=1).values():
        assert not leaks(fold) and not set(fold["test"]["problem_id"]) & set(data.splits["test"]["problem_id"])
    assert not leaks(halve_validation(data.splits, seed=0))
    assert leaks(load_dialogues(train_file=path, columns=COLUMNS, split_by="dialogue").splits), "which parts a problem"


def test_a_problem_without_an_id_is_known_by_its_text(tmp_path):
    wording = ("Work out {}", "work  out {}")  # case and white space do not count
    rows = [f"d{d},user,I got {d}.,{wording[d % 2].format(d // 2)}\nd{d},tutor,Why {d}?," for d in range(60)]
    path = own(tmp_path / "own.csv", *rows, header="dialogue_id,role,text,task")
    data = load_dialogues(train_file=path, columns=DialogueColumns(problem="task"))
    assert not leaks(data.splits, "problem") and len({row["group_id"] for row in every_row(data)}) == 30


def test_a_learner_is_kept_on_one_side_when_asked(tmp_path):
    columns = DialogueColumns(move="move", learner="problem_id")
    data = load_dialogues(train_file=own(tmp_path / "own.csv", *turns(60)), columns=columns, split_by="learner")
    assert not leaks(data.splits, "learner_id") and data.split_by == "learner"


def test_two_versions_of_one_dialogue_stay_together(tmp_path):
    said = [
        [*chat(n), {"role": "user", "content": "Ok."}, {"role": "assistant", "content": f"Version {k}"}]
        for n in range(20)
        for k in (0, 1)
    ]
    data = load_dialogues(train_file=messages(tmp_path / "chats.jsonl", said))
    firsts = [{row["turns"][0]["text"] for row in d} for d in data.splits.values()]
    assert sum(map(len, firsts)) == len(set().union(*firsts)) == 20


def test_files_of_ones_own_for_each_split_are_compared(tmp_path):
    train, test = own(tmp_path / "train.csv", *turns(20)), own(tmp_path / "test.csv", *turns(4, first=20))
    data = load_dialogues(train_file=train, test_file=test, columns=COLUMNS)
    assert len(data.splits["test"]) == 4 and len(every_row(data)) == 24 and not data.warnings
    known = own(tmp_path / "known.csv", "z,user,Anew,,p1", "z,tutor,Yes.,,p1")
    data = load_dialogues(train_file=train, test_file=known, columns=COLUMNS)
    assert any("1 of 1 dialogues of test share a problem with" in w for w in data.warnings) and not data.left_out
    data = load_dialogues(train_file=train, test_file=known, columns=COLUMNS, overlaps="problems")
    assert sum(data.left_out.values()) > 0 and "p1" not in {row["problem_id"] for row in data.splits["train"]}
    twin = own(tmp_path / "twin.csv", *(row.replace("d7", "e7") for row in turns(1, first=7)))
    with pytest.raises(DataError, match=r"twin.csv, row 2: the dialogue stands in row 30 of train.csv \(train\) too"):
        load_dialogues(train_file=train, test_file=twin, columns=COLUMNS)


# ---- published layouts ----------------------------------------------------------------------------------------------

NOUNS = ("box", "tree", "table", "bed", "bunny", "dog", "bag", "plant", "cat")


def cima_entry(noun: str, said: int, ticks=((True, False, False, False, False), (False, True, True, False, False))) -> dict:
    talk = ["Please try to fill in the blank.", f"What is {noun}?", f"It is {noun}o.", "Ok, so dietro?"][:said]
    return {
        "past_convo": talk, "engPrep": "is behind the", "prep": "e dietro", "engObj": noun, "obj": f"l'{noun}o",
        "engColor": "pink", "color": "rosa", "grammarRules": "[]", "studentActions": ["True", "False", "False", "False"],
        "tutorResponses": [f"Reply {i}" for i in range(len(ticks))], "tutorActions": [list(t) for t in ticks], "tutorKeys": [],
    }  # fmt: skip


def cima(folder, **change) -> None:
    entries = {str(2 * i + k): cima_entry(noun, said) for i, noun in enumerate(NOUNS) for k, said in enumerate((2, 4))}
    entries["0"].update(change)
    pack(folder / "tutoring" / "cima" / "dataset.json.gz", {"prepDataset": entries, "shapeDataset": {}})


def test_cima_has_its_replies_as_alternatives_and_holds_nouns_out(tmp_path):
    cima(tmp_path)
    data = load_dialogues("cima", data_dir=tmp_path)
    assert data.rows_read == 18 and data.split_by == "noun" and "by noun" in data.split_protocol
    nouns = [set(d["group_id"]) for d in data.splits.values()]
    assert set().union(*nouns) == set(NOUNS) and sum(map(len, nouns)) == 9 and min(map(len, nouns)) >= 2
    row = next(r for r in every_row(data) if r["dialogue_id"] == "3")
    assert row["problem"] == "Say in Italian: ... is behind the pink tree." and row["solution"] == "e dietro l'treeo rosa"
    *history, last = row["turns"]
    assert [t["role"] for t in history] == ["tutor", "learner", "tutor", "learner"] and not any(t["target"] for t in history)
    assert last["target"] and (last["text"], last["move"], last["source_move"]) == ("Reply 0", "question", "question")
    assert last["alternatives"] == [{"text": "Reply 1", "move": "correction"}], "a correction with a hint is a correction"


@pytest.mark.parametrize("unit", ["problem", "dialogue", "preposition", "colour"])
def test_cima_is_split_otherwise_when_asked(unit, tmp_path):
    entries = {}
    for i in range(30):
        entry = cima_entry(NOUNS[i % 9], 2 + 2 * (i % 2))
        entry.update(engPrep=f"is at{i % 6}", engColor=f"colour{i % 5}")
        entries[str(i)] = entry
    pack(tmp_path / "tutoring" / "cima" / "dataset.json.gz", {"prepDataset": entries})
    data = load_dialogues("cima", data_dir=tmp_path, split_by=unit)
    assert data.split_by == unit and not leaks(data.splits, "group_id") and all(len(d) for d in data.splits.values())


def test_a_conversation_of_cima_is_one_at_all_its_lengths(tmp_path):
    cima(tmp_path)
    found = read_cima(tmp_path / "tutoring" / "cima" / "dataset.json.gz")
    assert all(a.conversation == b.conversation for a, b in zip(found[::2], found[1::2], strict=True))
    assert len({d.conversation for d in found}) == 9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tutorActions": [[False] * 5] * 2}, ("row 1, column 'tutorActions'", "no move is ticked", "confirmation")),
        ({"tutorActions": [[True] * 4] * 2}, ("row 1", "five booleans")),
        ({"tutorActions": []}, ("row 1", "2 replies have 0 actions")),
        ({"past_convo": None}, ("row 1, column 'past_convo'", "the key is missing")),
    ],
)
def test_a_broken_entry_of_cima_is_refused_with_its_place(change, words, tmp_path):
    cima(tmp_path, **change)
    with pytest.raises(DataError) as error:
        load_dialogues("cima", data_dir=tmp_path)
    assert all(word in str(error.value) for word in (*words, "dataset.json.gz")) and "Reply" not in str(error.value)


def mathdial(qid: int, name: str = "Ana", confused: str | None = "the units") -> dict:
    said = [f"Teacher: (generic)Hi {name}, question {qid}?", f"{name}: It is {qid}.", "Teacher: (focus)Look again: at what?"]
    said += ["Student: At the end.", "Teacher: (telling)It is half.", "Teacher: (probing)Why?", "Student: ", f"{name}: Aha."]
    return {
        "qid": qid, "scenario": 1, "question": f"Question {qid}?", "ground_truth": f"Solution {qid}",
        "student_incorrect_solution": f"Wrong {qid}", "student_profile": f"{name} is in grade 7.",
        "teacher_described_confusion": confused, "self-correctness": None, "conversation": "|EOM|".join(said),
    }  # fmt: skip


def test_mathdial_names_every_move_and_every_speaker_but_the_teacher_is_the_learner(tmp_path, caplog):
    pack(tmp_path / "tutoring" / "mathdial" / "test.jsonl.gz", [mathdial(i // 2, confused=None if i else "x") for i in range(40)])
    data = load_dialogues("mathdial", data_dir=tmp_path)
    assert data.rows_read == 40 and not leaks(data.splits) and "training part of MathDial is not there" in caplog.text
    assert "40 empty turns were left out." in data.warnings
    row = next(r for r in every_row(data) if r["dialogue_id"] == "3 row 8")
    assert [t["role"] for t in row["turns"]] == ["tutor", "learner", "tutor", "learner", "tutor", "learner"]
    assert [t["move"] for t in row["turns"]] == ["generic", "", "hint", "", "telling", ""], "the first of two that were merged"
    assert row["turns"][2]["text"] == "Look again: at what?" and row["turns"][4]["text"] == "It is half.\nWhy?"
    assert row["turns"][2]["source_move"] == "focus" and row["context"] == "Learner's solution: Wrong 3"
    assert row["profile"] == "Ana is in grade 7." and row["solution"] == "Solution 3"


def test_mathdial_with_its_training_part_leaves_known_problems_out_when_asked(tmp_path):
    folder = tmp_path / "tutoring" / "mathdial"
    write(folder / "train.jsonl", "".join(json.dumps(mathdial(i, "Bo")) + "\n" for i in range(30)))
    pack(folder / "test.jsonl.gz", [mathdial(i) for i in range(25, 35)])
    data = load_dialogues("mathdial", data_dir=tmp_path)
    assert len(data.splits["test"]) == 10 and not data.left_out
    assert "5 of 10 dialogues of test share a problem with 5 of train." in data.warnings
    unseen = load_dialogues("mathdial", data_dir=tmp_path, overlaps="problems")
    assert list(unseen.left_out.values()) == [5] and not leaks(unseen.splits)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("(generic)", "", ("row 1, column 'conversation'", "no move", "(probing)")),
        ("(focus)", "(praise)", ("row 1", "no move", "Found: 'praise'")),
        ("Ana: It", "It", ("row 1, column 'conversation'", "no speaker")),
    ],
)
def test_a_broken_dialogue_of_mathdial_is_refused_with_its_place(old, new, words, tmp_path):
    record = mathdial(0)
    record["conversation"] = record["conversation"].replace(old, new)
    pack(tmp_path / "tutoring" / "mathdial" / "test.jsonl.gz", [record])
    with pytest.raises(DataError) as error:
        load_dialogues("mathdial", data_dir=tmp_path)
    assert all(word in str(error.value) for word in (*words, "test.jsonl.gz")) and "Look" not in str(error.value)


def bridge(session: int, turn: int, strategy: str = "provide_hint", expert: str = "Try a sketch.") -> dict:
    says = [("tutor", "Hello."), ("tutor", f"What is {session} + {turn}?"), ("student", ""), ("student", f"{session}{turn}")]
    history = [{"id": i, "text": text, "time": "16:0", "user": user} for i, (user, text) in enumerate(says)]
    return {
        "c_id": f"{session}_{turn}", "lesson_topic": "3.6D.Sums", "c_h": history,
        "c_r": [{"id": 4, "text": "That's incorrect.", "time": "16:1", "user": "tutor"}],
        "c_r_": [{"user": "tutor", "text": "Hm.", "is_revised": True}, {"user": "tutor", "text": expert, "is_revised": True}],
        "c_revision": [], "e": "guess", "z_what": strategy, "z_why": "hint_mistake",
    }  # fmt: skip


@pytest.fixture
def bridge_folder(tmp_path):
    splits = {
        "train": [*(bridge(s, 1) for s in range(10)), bridge(20, 1), bridge(21, 1), bridge(30, 1)],
        "validation": [bridge(20, 1, "ask_question", "Why?"), bridge(22, 1)],
        "test": [bridge(21, 1, "Said goodbye", "Bye."), bridge(21, 2), bridge(22, 1), bridge(30, 9), bridge(31, 1)],
    }
    for name, items in splits.items():
        pack(tmp_path / "tutoring" / "bridge" / f"{name}.json.gz", items)
    return tmp_path


def test_bridge_learns_the_experts_reply_and_not_the_novices(bridge_folder):
    data = load_dialogues("bridge", data_dir=bridge_folder)
    row = data.splits["test"][0]
    assert [(t["role"], t["text"], t["target"]) for t in row["turns"]] == [
        ("tutor", "Hello.\nWhat is 21 + 1?", False), ("learner", "211", False), ("tutor", "Hm.\nBye.", True),
    ]  # fmt: skip
    assert row["turns"][2]["move"] == "generic" and row["turns"][2]["source_move"] == "other" and row["problem_id"] == "21"
    assert data.splits["validation"][0]["turns"][-1]["move"] == "question" and row["problem"] == "3.6D.Sums"
    assert "20 empty turns were left out." in data.warnings


def test_a_picture_in_a_chat_is_not_read_as_words(bridge_folder):
    pasted = f"Look: data:image/png;base64,{'iVBORw0KGgo/+' * 300}= Which side is longer?"
    pack(bridge_folder / "tutoring" / "bridge" / "test.json.gz", [bridge(31, 1, expert=pasted)])
    data = load_dialogues("bridge", data_dir=bridge_folder)
    assert data.splits["test"][0]["turns"][-1]["text"] == "Hm.\nLook: [picture] Which side is longer?"


def test_what_stands_in_two_published_splits_is_reported_and_left_out_of_training(bridge_folder):
    data = load_dialogues("bridge", data_dir=bridge_folder)
    assert {s: len(d) for s, d in data.splits.items()} == {"train": 11, "validation": 1, "test": 5}
    assert "1 of 2 dialogues of validation share a dialogue with 1 of train." in data.warnings
    assert "1 of 5 dialogues of test share a dialogue with 1 of train." in data.warnings
    assert "3 of 5 dialogues of test share a problem with 2 of train." in data.warnings
    assert sum(data.left_out.values()) == 3 and data.rows_read == 20 == len(every_row(data)) + 3
    strict = load_dialogues("bridge", data_dir=bridge_folder, overlaps="problems")
    assert len(strict.splits["train"]) == 10 and not leaks(strict.splits)


def test_kept_overlaps_do_leak(bridge_folder):
    data = load_dialogues("bridge", data_dir=bridge_folder, overlaps="keep")
    assert len(every_row(data)) == 20 and not data.left_out and leaks(data.splits) and len(data.warnings) == 7


SOCRATIC = """<problem>
Return the nth number.
</problem>
<bug_code>
1. def f(n):
2.   return n - 1
</bug_code>
<bug_desc>
Line 2 subtracts.
</bug_desc>
<bug_fixes>
Replace - by +.
</bug_fixes>
<unit_tests>
assert f(1) == 2
</unit_tests>
<stu_desc>
A beginner.
</stu_desc>
<dialogue>
User: Help, it is wrong {n}.
\t<alt>It does not work.
Assistant: What does f(1) return?
\t<alt>What did you try
and what came out?
\t<alt>Which line is it?
User: It returns 0. Let me change it.
<code>
1. def f(n):
2.   return n + 1

</code>
\t<alt>I do not know.
Assistant: Well done.
</dialogue>"""


def test_socratic_debugging_has_alternatives_and_the_students_code(tmp_path):
    folder = tmp_path / "tutoring" / "socratic_debugging"
    for name, numbers in (("train", range(12)), ("test", range(12, 14))):
        rows = [
            {"file": f"{n}_{n}_f_conversational_thread_{k}.txt", "text": SOCRATIC.replace("{n}", f"{n}{k}")}
            for n in numbers for k in (1, 2)
        ]  # fmt: skip
        pack(folder / f"{name}.jsonl.gz", rows)
    data = load_dialogues("socratic_debugging", data_dir=tmp_path)
    row = data.splits["test"][0]
    assert not data.warnings and not leaks(data.splits) and row["problem_id"] == "12_12_f"
    assert row["problem"] == "Return the nth number.\n\nThe student's code:\n1. def f(n):\n2.   return n - 1"
    assert row["solution"] == "Line 2 subtracts.\nReplace - by +." and row["profile"] == "A beginner."
    assert [t["text"] for t in row["turns"]] == [
        "Help, it is wrong 121.", "What does f(1) return?",
        "It returns 0. Let me change it.\n1. def f(n):\n2.   return n + 1", "Well done.",
    ]  # fmt: skip
    assert [a["text"] for a in row["turns"][1]["alternatives"]] == ["What did you try\nand what came out?", "Which line is it?"]
    assert not row["turns"][2]["alternatives"] and data.move_counts("test") == {"": 16}


@pytest.mark.parametrize(("old", "word"), [("<problem>", "no <problem>"), ("<dialogue>", "no <dialogue>")])
def test_a_broken_socratic_file_is_refused_with_its_row(old, word, tmp_path):
    folder = tmp_path / "tutoring" / "socratic_debugging"
    rows = [{"file": "a.txt", "text": SOCRATIC}, {"file": "b.txt", "text": SOCRATIC.replace(old, "")}]
    for name in ("train", "test"):
        pack(folder / f"{name}.jsonl.gz", rows)
    with pytest.raises(DataError, match=f"train.jsonl.gz, row 2, column 'text': there is {word}"):
        load_dialogues("socratic_debugging", data_dir=tmp_path)


def test_every_good_reply_is_a_row_to_train_on(tmp_path):
    cima(tmp_path)
    train = load_dialogues("cima", data_dir=tmp_path).splits["train"]
    more = every_reply(train)
    assert len(more) == 2 * len(train) and len(set(more["dialogue_id"])) == len(more)
    for row in more:
        assert sum(t["target"] for t in row["turns"]) == 1 and row["turns"][-1]["target"]
    assert [row["turns"][-1]["text"] for row in more][:2] == ["Reply 0", "Reply 1"]
    assert Counter(row["turns"][-1]["move"] for row in more) == {"question": len(train), "correction": len(train)}


def test_several_sets_are_one_and_can_be_told_apart(bridge_folder):
    cima(bridge_folder)
    data = load_dialogues("cima+bridge", data_dir=bridge_folder)
    assert data.name == "cima + bridge" and data.rows_read == 38 and data.split_by == "noun + problem"
    assert Counter(data.splits["test"]["source"])["bridge"] == 5 and all("cima" in set(d["source"]) for d in data.splits.values())
    assert all(row["dialogue_id"].startswith(f"{row['source']}/") for row in every_row(data))
    assert len({row["dialogue_id"] for row in every_row(data)}) == len(every_row(data))
    assert any(w.startswith("bridge: ") for w in data.warnings) and all(r.startswith("bridge: ") for r in data.left_out)
    assert "cima: cc-by-2.5" in data.licence and "cima + bridge" in data.summary()


def test_a_hub_data_set_is_read_like_a_file(monkeypatch):
    def read_hub(name, revision):
        return {"train": Table(Path(f"{name} (train)"), {"messages": [chat(n) for n in range(20)]}, list(range(1, 21)))}

    monkeypatch.setattr(dialogues, "read_hub", read_hub)
    data = load_dialogues("user/chats")
    assert data.rows_read == 20 and data.name == "user/chats" and set(data.splits) == {"train", "validation", "test"}


# ---- moves ----------------------------------------------------------------------------------------------------------


def test_every_move_of_a_source_has_one_of_ours_and_mathdials_stay_four():
    assert all(move in MOVES for table in SOURCE_MOVES.values() for move in table.values())
    assert len(set(SOURCE_MOVES["mathdial"].values())) == 4, "or figures on its moves could not be compared"
    assert set().union(*(table.values() for table in SOURCE_MOVES.values())) == set(MOVES)


def test_the_table_in_the_docstring_is_the_one_in_use():
    import edu_datasets.tutoring as tutoring

    rows = re.findall(r"^    (\w+) +(\S+) +(\S+) +(.+)$", tutoring.__doc__.split("Bridge (strategy)\n")[1], re.MULTILINE)
    assert [row[0] for row in rows] == list(MOVES)
    for ours, in_cima, in_mathdial, in_bridge in rows:
        for source, names in (("cima", [in_cima]), ("mathdial", [in_mathdial]), ("bridge", re.findall(r"\w+_\w+", in_bridge))):
            assert set(names) - {"-"} == {theirs for theirs, move in SOURCE_MOVES[source].items() if move == ours}


# ---- the sample school ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def school():
    return load_dialogues()


def test_the_sample_school_is_the_default_and_splits_by_problem(school):
    rows = every_row(school)
    assert len(rows) == school.rows_read == 62 and not school.warnings and not leaks(school.splits)
    assert all(count == 2 for count in Counter(row["problem_id"] for row in rows).values())
    assert all(school.move_counts(s).keys() <= set(MOVES) for s in school.splits)
    assert set(school.move_counts("train")) == set(MOVES), "every move can be learnt"
    assert all(4 <= len(row["turns"]) <= 8 and row["turns"][-1]["role"] == "tutor" for row in rows)


def test_the_dialogues_of_the_sample_school_are_about_its_learners_and_concepts(school):
    path = Path(dialogues.__file__).parent / "sample_school" / "dialogues.jsonl"
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    grades = {row["learner_id"]: row["grade"] for row in school_learners()[:48]}
    assert {record["concept"] for record in records} == set(CONCEPTS)
    assert all(record["profile"].startswith(f"Grade {grades[record['learner_id']]}") for record in records)


def test_tutors_of_the_sample_school_do_not_give_the_solution_away(school):
    for row in every_row(school):
        solution, said = row["solution"].lower(), row["problem"].lower()
        for turn in row["turns"]:
            if turn["role"] == "tutor" and solution in turn["text"].lower():
                assert solution in said, f"{row['dialogue_id']}: before the learner said it"
            said += " " + turn["text"].lower()
        assert solution in said, f"{row['dialogue_id']}: the learner finds it"


def test_what_tutors_of_the_sample_school_compute_is_right(school):
    number = r"(-?\d[\d,]*(?:\.\d+)?)"
    checked = 0
    for row in every_row(school):
        for text in [t["text"] for t in row["turns"] if t["role"] == "tutor"] + [row["turns"][-2]["text"]]:
            for a, sign, b, c in re.findall(rf"(?<![+\-×÷/] ){number} ([+\-×÷]) {number} (?:=|is) {number}(?!/)", text):
                a, b, c = (float(v.replace(",", "")) for v in (a, b, c))
                assert {"+": a + b, "-": a - b, "×": a * b, "÷": a / (b or 1)}[sign] == pytest.approx(c), text
                checked += 1
    assert checked >= 20


# ---- broken inputs --------------------------------------------------------------------------------------------------

BROKEN_TURNS: dict[str, tuple[list[str], dict, tuple[str, ...]]] = {}


def broken(name: str, rows: list[str], *words: str, **options) -> None:
    BROKEN_TURNS[name] = rows, options, words


broken("no dialogue column", [], "no column 'session'", "--dialogue_column", dialogue="session")
broken("no role column", [], "no column 'speaker'", "--role_column", role="speaker")
broken("no text column", [], "Did you mean 'text'", "--text_column text", text="texts")
broken("no move column", [], "no column 'act'", "--move_column", move="act")
broken("no problem column", [], "no column 'task'", "--problem_column", problem="task")
broken("no learner column", [], "no column 'pupil'", "--learner_column", learner="pupil")
broken("no dialogue id", [",user,zebra,,p"], "row 82, column 'dialogue_id'", "the dialogue's id is missing")
broken("a dialogue in two places", ["x,user,zebra,,p", "y,user,zebra,,p", "x,tutor,zebra,,p"], "row 84", "interrupted")
broken("no role", ["x,,zebra,,p"], "row 82, column 'role'", "the role is unknown", "learner")
broken("a role that is a name", ["x,Quagga,zebra,,p"], "row 82, column 'role'", "the role is unknown")
broken("a role misspelt", ["x,tutr,zebra,,p"], "row 82", "Did you mean 'tutor'")
broken("an empty turn", ["x,user,  ,,p"], "row 82, column 'text'", "the turn is empty")
broken("two turns of the learner", ["x,user,zebra,,p", "x,user,quagga,,p"], "row 83", "two turns in a row", "--merge_turns")
broken("two turns of the tutor", ["x,tutor,zebra,,p", "x,tutor,quagga,,p"], "row 83", "the tutor has two turns in a row")
broken("an unknown move", ["x,user,zebra,,p", "x,tutor,zebra,quagga,p"], "row 83, column 'move'", "unknown", "confirmation")
broken("a move misspelt", ["x,user,zebra,,p", "x,tutor,zebra,hnt,p"], "row 83", "Did you mean 'hint'")
broken("a learner with a move", ["x,user,zebra,hint,p"], "row 82, column 'move'", "a learner's turn has a tutor's move")
broken("no tutor", ["x,user,zebra,,p"], "row 82", "no turn of a tutor")
broken("no learner", ["x,tutor,zebra,,p"], "row 82", "no turn of a learner")
broken("two problems in one dialogue", ["x,user,zebra,,p", "x,tutor,zebra,,q"], "row 83, column 'problem_id'", "differs")
broken("a turn too long", ["x,user," + "zebra " * 5000 + ",,p"], "row 82, column 'text'", "at most 20,000")
broken("a zero byte", ["x,user,ze\x00bra,,p"], "binary")
broken("a field too many", ["x,user,zebra, quagga,,p"], "row 82", "6 fields", "5 fields")
broken("a quote that stays open", ['x,user,"zebra,,p'], "row 82", "a quote opens")
broken("too few dialogues", ["SHORT"], "cannot be cut into 5 parts")


@pytest.mark.parametrize("name", BROKEN_TURNS)
def test_a_broken_turn_is_refused_with_its_place_and_without_its_text(name, tmp_path):
    rows, columns, words = BROKEN_TURNS[name]
    rows = turns(4) if rows == ["SHORT"] else [*turns(20), *rows]
    columns = DialogueColumns(**{"move": "move", "problem_id": "problem_id", **columns})
    with pytest.raises(DataError) as error:
        load_dialogues(train_file=own(tmp_path / "own.csv", *rows), columns=columns)
    message = str(error.value)
    assert all(word in message for word in words), message
    assert "own.csv" in message or name == "too few dialogues"
    assert not re.search("zebra|quagga", message, re.IGNORECASE), "never a word of what was said"


USER, TUTOR = {"role": "user", "content": "zebra"}, {"role": "assistant", "content": "quagga"}
BROKEN_CHATS = {
    "no list": ("zebra", ("row 21, column 'messages'", "no list of messages")),
    "an empty list": ([], ("row 21, column 'messages'", "no list of messages")),
    "a message that is a text": (["zebra"], ("row 21, column 'messages[0]'", "the message has no role")),
    "a message without a role": ([{"content": "zebra"}], ("row 21, column 'messages[0]'", "the message has no role")),
    "a message without content": ([USER, {"role": "assistant"}], ("row 21, column 'messages[1]'", "the turn is empty")),
    "content that is null": ([USER, {**TUTOR, "content": None}], ("row 21, column 'messages[1]'", "the turn is empty")),
    "content that is a number": ([USER, {**TUTOR, "content": 7}], ("column 'messages[1]'", "the content is no text", "int")),
    "a picture": ([{"role": "user", "content": [{"type": "image_url"}]}, TUTOR], ("'messages[0]'", "more than text")),
    "a tool": ([USER, {"role": "tool", "content": "quagga"}], ("row 21, column 'messages[1]'", "the role is unknown")),
    "a system's message in the middle": ([USER, {"role": "system", "content": "quagga"}], ("'messages[1]'", "role is unknown")),
    "two turns behind a system's message": (
        [{"role": "system", "content": "zebra"}, USER, USER], ("row 21, column 'messages[2]'", "two turns in a row"),
    ),
    "an unknown move": ([USER, {**TUTOR, "move": "quagga"}], ("row 21, column 'messages[1]'", "the move is unknown")),
    "half a character": ([{"role": "user", "content": "zebra \ud800"}, TUTOR], ("'messages[0]'", "half a character")),
    "the learner alone": ([USER], ("row 21", "no turn of a tutor")),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_CHATS)
def test_a_broken_chat_is_refused_with_its_place_and_without_its_text(name, tmp_path):
    said, words = BROKEN_CHATS[name]
    path = messages(tmp_path / "chats.jsonl", [*(chat(n) for n in range(20)), said])
    with pytest.raises(DataError) as error:
        load_dialogues(train_file=path)
    message = str(error.value)
    assert all(word in message for word in (*words, "chats.jsonl")), message
    assert "zebra" not in message and "quagga" not in message


def test_chats_with_one_id_and_broken_lines_are_refused(tmp_path):
    path = messages(tmp_path / "chats.jsonl", [chat(1), chat(2)], dialogue_id="zebra")
    with pytest.raises(DataError, match="row 2, column 'dialogue_id': the dialogue's id stands in row 1 too"):
        load_dialogues(train_file=path)
    with pytest.raises(DataError, match="row 2: not valid json"):
        load_dialogues(train_file=write(path, json.dumps({"messages": chat(1)}) + '\n{"messages": [zebra\n'))


def test_a_file_of_another_layout_is_told_both_that_can_be_read(tmp_path):
    path = write(tmp_path / "own.jsonl", '{"dialogue_id": 1, "turns": ["zebra"]}\n')
    with pytest.raises(DataError, match="neither a column 'messages' nor.*'turns'.*--messages_column.*--role_column"):
        load_dialogues(train_file=path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dataset_name": "cimma"}, ("Did you mean 'cima'",)),
        ({"dataset_name": "cima+bridges"}, ("Did you mean 'bridge'", "joined by '+'")),
        ({"test_file": "x.csv"}, ("needs a training file", "--train_file")),
        ({"max_train_samples": 0}, ("--max_train_samples is 0",)),
        ({"overlaps": "drop"}, ("--overlaps", "'drop'", "dialogues, problems, keep")),
        ({"split_by": "noun"}, ("unknown unit of the split", "problem, dialogue, learner")),
        ({"dataset_name": "bridge", "data_dir": "."}, ("there is no", "train.json")),
        ({"dataset_name": "bridge", "data_dir": "/nowhere"}, ("there is no folder /nowhere",)),
    ],
)
def test_broken_options_are_refused_with_what_is_expected(options, words):
    with pytest.raises(DataError) as error:
        load_dialogues(**options)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_split_by_learner_needs_their_ids(tmp_path):
    with pytest.raises(DataError, match="own.csv, row 2: the learner is missing"):
        load_dialogues(train_file=own(tmp_path / "own.csv", *turns(20)), columns=COLUMNS, split_by="learner")


# ---- the real files -------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_cima_has_what_its_readme_counts():
    data = load_dialogues("cima")
    rows = every_row(data)
    assert data.rows_read == len(rows) == 1135 and not data.rejected and not leaks(data.splits, "group_id")
    assert len({row["group_id"] for row in rows}) == 9 and sum(len(every_reply(d)) for d in data.splits.values()) == 3315
    assert all(row["turns"][0]["role"] == "tutor" and row["turns"][-1]["target"] for row in rows)
    assert all(len(set(d["group_id"])) >= 2 and len(d) >= 0.15 * 1135 for d in data.splits.values())


@pytest.mark.real_data
def test_mathdial_bridge_and_socratic_debugging_have_what_their_readme_counts():
    data = load_dialogues("mathdial")
    assert data.rows_read == 599 and not data.rejected and len({row["problem_id"] for row in every_row(data)}) == 394
    moves = Counter(t["source_move"] for row in every_row(data) for t in row["turns"] if t["target"])
    assert set(moves) == {"focus", "probing", "generic", "telling"} and moves.most_common(1)[0][0] == "focus"
    data = load_dialogues("bridge", overlaps="keep")
    assert data.rows_read == 700 and len(data.rejected) == 2 and {s: len(d) for s, d in data.splits.items()} == {
        "train": 418, "validation": 71, "test": 209,
    }  # fmt: skip
    assert "93 of 209 dialogues of test share a dialogue with 93 of train." in data.warnings
    assert "27 of 71 dialogues of validation share a dialogue with 27 of train." in data.warnings
    data = load_dialogues("bridge")
    assert {s: len(d) for s, d in data.splits.items()} == {"train": 298, "validation": 58, "test": 209}
    data = load_dialogues("socratic_debugging")
    assert data.rows_read == 150 and len(data.splits["test"]) == 16 and not data.warnings
