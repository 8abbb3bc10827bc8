"""Questions reach a recipe with answers that stand where the offsets say, no story is on two sides, and what is broken is refused
with its row and without a word of the text."""

import gzip
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import edu_datasets.passages as passages
from edu_datasets import DataError, PassageColumns, add_unanswerable, halve_validation, load_passages, read_passages
from edu_datasets.files import Table
from edu_datasets.passages import read_mctest
from edu_datasets.schema import PASSAGES
from edu_datasets.spans import best_span, exact_match, find_words, rouge_l, token_f1
from edu_datasets.splits import find_leaks


def write(path, text: str):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def lines(path, rows: list[dict]):
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def context(number: int) -> str:
    return f"Lamp {number} was lit by keeper{number} at dusk, and ship{number} came home."


def table(stories: int, sections: int = 2) -> list[dict]:
    """Two questions on each section of each story."""
    rows = []
    for story in range(stories):
        for section in range(sections):
            n = story * sections + section
            for what, answer in (("Who lit", f"keeper{n}"), ("What came after", f"ship{n}")):
                rows.append({"story": f"s{story}", "context": context(n), "question": f"{what} lamp {n}?", "answers": answer})
    return rows


def squad(questions: list[dict], title: str = "Lamps", text: str | None = None) -> dict:
    return {"version": "1", "data": [{"title": title, "paragraphs": [{"context": text or context(0), "qas": questions}]}]}


STORIES = PassageColumns(story="story")
PLACES = ("answers", "answer_f1s", "answer_starts", "answer_ends")


def every_row(data) -> list[dict]:
    return [row for split in data.splits.values() for row in split]


# ---- a school's own file --------------------------------------------------------------------------------------------


def test_a_table_becomes_questions_with_answers_where_the_offsets_say(tmp_path):
    data = load_passages(train_file=lines(tmp_path / "own.jsonl", table(10)), columns=STORIES)
    rows = every_row(data)
    assert len(rows) == data.rows_read == 40 and set(data.splits["train"].features) == set(PASSAGES)
    for row in rows:
        (start,), (end,) = row["answer_starts"], row["answer_ends"]
        assert row["context"][start:end] == row["answers"][0] and row["answer_f1s"] == [1.0] and row["answerable"]
    assert {row["passage_id"] for row in rows if row["story_id"] == "s3"} == {"s3#1", "s3#2"}
    assert "own.jsonl" in data.name and "by story" in data.split_protocol


@pytest.mark.parametrize(
    "cell",
    [
        "keeper0", ["keeper0"], '["keeper0"]', {"text": ["keeper0"], "answer_start": [context(0).index("keeper0")]},
        [{"text": "keeper0", "answer_start": context(0).index("keeper0")}],
    ],
)  # fmt: skip
def test_an_answer_may_be_a_text_a_list_or_what_squad_has_on_the_hub(cell, tmp_path):
    rows = [{"context": context(0), "question": "Who?", "answers": cell}]
    found, numbers, rejected = read_passages(lines(tmp_path / "own.jsonl", rows))
    assert found["answers"][:] == [["keeper0"]] and found["answer_starts"][:] == [[context(0).index("keeper0")]]
    assert numbers == [1] and not rejected


def test_several_columns_are_several_references_and_empty_cells_are_none(tmp_path):
    text = f'text,ask,a1,a2,d1,d2,kind\n"{context(0)}",Who?,keeper0,,x,y,why\n"{context(1)}",Who?,keeper1,by keeper1,x,,who\n'
    columns = PassageColumns("text", "ask", ("a1", "a2"), attributes=["kind"], distractors=["d1", "d2"])
    found, _, _ = read_passages(write(tmp_path / "own.csv", text), columns)
    assert found["answers"][:] == [["keeper0"], ["keeper1", "by keeper1"]]
    assert found["distractors"][:] == [["x", "y"], ["x"]] and found["attributes"][:] == [["why"], ["who"]]


def test_offsets_count_the_white_space_before_a_context(tmp_path):
    rows = [{"context": "  " + context(0), "question": "Who?", "answers": ["keeper0"], "at": 2 + context(0).index("keeper0")}]
    found, _, _ = read_passages(lines(tmp_path / "own.jsonl", rows), PassageColumns(answer_start="at"))
    assert found[0]["context"][found[0]["answer_starts"][0] : found[0]["answer_ends"][0]] == "keeper0"


def test_a_question_without_an_answer_is_kept_as_such(tmp_path):
    rows = [*table(10), {"story": "s0", "context": context(0), "question": "Why did it rain?", "answers": ""}]
    data = load_passages(train_file=lines(tmp_path / "own.jsonl", rows), columns=STORIES)
    (row,) = (row for row in every_row(data) if not row["answerable"])
    assert row["answers"] == row["answer_starts"] == [] and row["question"] == "Why did it rain?"
    assert sum(data.answer_counts(s)["unanswerable"] for s in data.splits) == 1


def test_answers_in_ones_own_words_are_refused_until_they_are_said_to_be_free(tmp_path):
    rows = table(10)
    rows[5]["answers"] = "it was keeper2 who did"
    path = lines(tmp_path / "own.jsonl", rows)
    with pytest.raises(DataError, match="row 6, column 'answers': the answer does not stand in the context.*--free_answers"):
        load_passages(train_file=path, columns=STORIES)
    data = load_passages(train_file=path, columns=STORIES, free_answers=True)
    counts = [data.answer_counts(s) for s in data.splits]
    assert sum(c["literal"] for c in counts) == 39 and sum(c["near"] + c["nowhere"] for c in counts) == 1


def test_rows_that_cannot_be_used_are_listed_when_asked(tmp_path):
    rows = table(10)
    rows[3]["question"], rows[7]["context"] = "", " "
    data = load_passages(train_file=lines(tmp_path / "own.jsonl", rows), columns=STORIES, skip_bad_rows=True)
    assert [(file, row) for file, row, _ in data.rejected] == [("own.jsonl", 4), ("own.jsonl", 8)]
    assert data.rows_read == 40 == len(every_row(data)) + len(data.rejected)


def test_questions_to_answer_need_no_answers_and_texts_to_ask_about_no_questions(tmp_path):
    path = write(tmp_path / "ask.csv", f'context,question\n"{context(0)}",Who?\n')
    found, rows, _ = read_passages(path)
    assert rows == [2] and not found[0]["answerable"] and found[0]["question"] == "Who?"
    found, _, _ = read_passages(write(tmp_path / "texts.csv", f'context\n"{context(0)}"\n'), need_question=False)
    assert found[0]["question"] == "" and found[0]["context"] == context(0)


def test_fewer_rows_when_asked(tmp_path):
    path = lines(tmp_path / "own.jsonl", table(20))
    data = load_passages(train_file=path, columns=STORIES, max_train_samples=7, max_eval_samples=3)
    assert {s: len(rows) for s, rows in data.splits.items()} == {"train": 7, "validation": 3, "test": 3}


# ---- spans ----------------------------------------------------------------------------------------------------------


def brute_force(text: str, answer: str) -> float:
    keys, wanted = [w.key for w in find_words(text)], Counter(w.key for w in find_words(answer))
    best = 0.0
    for i in range(len(keys)):
        for j in range(i, len(keys)):
            shared = (Counter(keys[i : j + 1]) & wanted).total()
            best = max(best, 2 * shared / (j - i + 1 + wanted.total()))
    return best


def test_the_best_span_is_as_good_as_trying_all_of_them():
    rng = np.random.default_rng(0)
    words = [*"abcdefg", "the", "red", "old", "king", "queen", "well-made", "sea"]
    for _ in range(300):
        text = " ".join(rng.choice(words, 25))
        answer = " ".join(rng.choice(words, rng.integers(1, 7)))
        span = best_span(text, answer)
        assert (span.f1 if span else 0.0) == pytest.approx(1.0 if span and span.literal else brute_force(text, answer))


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("She saw the\nold king.", "THE OLD KING", "the\nold king"),  # case and line breaks do not count
        ("The kingdom was his, for a king he was.", "king", "king"),  # not a part of a word
        ("They found her--asleep--under a tree.", "asleep under the tree", "asleep--under a tree"),
        ("He went home because he was tired of work.", "he felt tired", "he was tired"),
        ("Nothing of that.", "they sailed away", None),
        ('"Hush," said he.', "hush", "Hush"),
    ],
)
def test_a_span_is_found(text, answer, expected):
    span = best_span(text, answer)
    assert (span and text[span.start : span.end]) == expected


def test_of_several_occurrences_the_one_near_the_questions_words_is_taken():
    far = "filler " * 20
    text = f"The king slept. {far}The wolf came and the king ran into the forest."
    span = best_span(text, "the king", "Who ran into the forest?")
    assert span.start == text.rindex("the king")
    assert best_span(text, "the king", "Who slept?").start == 0


def test_measures_are_those_of_squad_and_of_rouge():
    assert exact_match("The red fox!", "red fox") == 1 and exact_match("red foxes", "red fox") == 0
    assert token_f1("the old red fox", "red fox ran") == pytest.approx(2 / 3)
    assert token_f1("", "") == 1 and token_f1("fox", "") == 0
    assert rouge_l("police killed the gunman", "police kill the gunman") == pytest.approx(0.75)
    assert rouge_l("a b c d", "d c b a") == 0.25 and rouge_l("", "a") == 0


def test_the_ceiling_is_what_the_spans_reach(tmp_path):
    rows = table(10)
    rows[0]["answers"] = "it was keeper0"
    for row in rows[1:]:
        row["answers"] = row["answers"].upper()
    data = load_passages(train_file=lines(tmp_path / "own.jsonl", rows), columns=STORIES, free_answers=True)
    scores = {s: data.ceiling(s) for s in data.splits}
    (split,) = (s for s, rows in data.splits.items() if "s0" in rows["story_id"][:])
    n = scores[split]["questions"]
    assert scores[split]["f1"] == pytest.approx((n - 1 + 2 * 2 / (4 + 3)) / n), "was lit by keeper0"
    assert all(scores[s]["exact_match"] == scores[s]["rouge_l"] == 1 for s in data.splits if s != split)


# ---- splits ---------------------------------------------------------------------------------------------------------


def leaks(splits) -> list:
    return find_leaks(splits, ["story_id", "context"])


def test_no_story_and_no_context_is_on_two_sides(tmp_path):
    path = lines(tmp_path / "own.jsonl", table(20))
    data = load_passages(train_file=path, columns=STORIES)
    assert not leaks(data.splits) and not data.warnings
    for fold in data.fold_splits(4, seed=1).values():
        assert not leaks(fold) and not set(fold["test"]["story_id"]) & set(data.splits["test"]["story_id"])
    assert not leaks(halve_validation(data.splits, seed=0))


def test_rows_split_at_random_do_leak(tmp_path):
    data = load_passages(train_file=lines(tmp_path / "own.jsonl", table(20)), columns=STORIES)
    pool = passages.concatenate_datasets(list(data.splits.values())).shuffle(seed=0)
    assert leaks({"train": pool.select(range(60)), "test": pool.select(range(60, 80))})


def test_stories_that_share_a_context_or_a_question_and_answer_are_one(tmp_path):
    rows = table(20)
    rows[0]["context"] = rows[79]["context"] = "The same text with keeper0 and ship39 in it."  # s0 and s19
    rows[10].update(question="Who is it?", answers="lamp")  # s2 and s12
    rows[50].update(question="Who  IS it?", answers="Lamp")
    data = load_passages(train_file=lines(tmp_path / "own.jsonl", rows), columns=STORIES)
    side = {story: split for split, d in data.splits.items() for story in d["story_id"]}
    assert side["s0"] == side["s19"] and side["s2"] == side["s12"]


def test_without_stories_a_text_is_its_own(tmp_path):
    data = load_passages(train_file=lines(tmp_path / "own.jsonl", table(20)))
    assert not leaks(data.splits) and len({row["story_id"] for row in every_row(data)}) == 40


def test_files_of_ones_own_for_each_split(tmp_path):
    rows, names = table(18), ("train", "validation", "test")
    files = {f"{s}_file": lines(tmp_path / f"{s}.jsonl", rows[24 * i : 24 * i + 24]) for i, s in enumerate(names)}
    data = load_passages(**files, columns=STORIES)
    assert {s: len(d) for s, d in data.splits.items()} == {"train": 24, "validation": 24, "test": 24}
    data = load_passages(train_file=files["train_file"], test_file=files["test_file"], columns=STORIES)
    assert len(data.splits["test"]) == 24 and len(data.splits["train"]) + len(data.splits["validation"]) == 24


@pytest.mark.parametrize(
    ("change", "columns", "words"),
    [
        ({"story": "s0"}, STORIES, ("row 3", "'story'", "the story stands in row 1 of train.jsonl (train) too")),
        ({"context": context(0)}, STORIES, ("row 3", "'context'", "the context stands in row 1 of train.jsonl")),
        ({"id": "q0"}, PassageColumns(question_id="id"), ("row 3", "'id'", "the id stands in row 1")),
    ],
)
def test_a_story_a_context_or_an_id_in_two_files_is_refused(change, columns, words, tmp_path):
    rows = [{**row, "id": f"q{i}"} for i, row in enumerate(table(6))]
    test = [dict(row) for row in rows[12:]]
    test[2].update(change)
    if "context" in change:
        test[2]["answers"] = "keeper0"
    with pytest.raises(DataError) as error:
        load_passages(
            train_file=lines(tmp_path / "train.jsonl", rows[:12]), test_file=lines(tmp_path / "test.jsonl", test), columns=columns
        )
    assert all(word in str(error.value) for word in (*words, "test.jsonl")), str(error.value)


# ---- unanswerable questions -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    path = lines(tmp_path_factory.mktemp("many") / "own.jsonl", table(20, sections=3))
    return load_passages(train_file=path, columns=STORIES).splits["train"]


def test_unanswerable_questions_are_put_to_another_passage_of_the_story(many):
    more = add_unanswerable(many, 0.25, seed=0)
    made = more.select(range(len(many), len(more)))
    assert len(made) / len(more) == pytest.approx(0.25, abs=0.01) and more.select(range(len(many)))[:] == many[:]
    by_question = {row["question"]: row for row in many}
    for row in made:
        source = by_question[row["question"]]
        assert row["story_id"] == source["story_id"] and row["passage_id"] != source["passage_id"]
        assert not row["answerable"] and not row["answers"] and source["answers"][0] not in row["context"]
        assert row["context"] in many["context"][:]
    assert len(set(made["question_id"])) == len(made)


def test_the_made_questions_are_the_same_each_time_and_others_with_another_seed(many):
    first, again, other = (add_unanswerable(many, 0.25, seed)["question_id"][:] for seed in (0, 0, 1))
    assert first == again != other


def test_what_is_unanswerable_already_counts(many):
    more = add_unanswerable(many, 0.25, seed=0)
    assert len(add_unanswerable(more, 0.25, seed=1)) == len(more)
    assert len(add_unanswerable(many, 0.0, seed=0)) == len(many)


def test_a_passage_that_holds_the_answer_or_the_other_text_is_not_asked(tmp_path):
    first, second = "The fox hid in the barn.", "The hen saw it in the barn."
    rows = [
        {"story": "s", "context": first, "question": "Where did it hide?", "answers": "in the barn"},
        {"story": "s", "context": second, "question": "Who saw it?", "answers": "The hen"},
        {"story": "s", "context": f"{first}\n{second}", "question": "Who hid?", "answers": "The fox"},
    ]
    found, _, _ = read_passages(lines(tmp_path / "own.jsonl", rows), STORIES)
    made = add_unanswerable(found, 0.9, seed=0).to_list()[3:]
    assert [(row["question"], row["context"]) for row in made] == [("Who saw it?", first)]


@pytest.mark.parametrize("share", [1, -0.1, 1.5])
def test_a_share_that_cannot_be_reached_is_refused(share, many):
    with pytest.raises(DataError, match="0 to 1"):
        add_unanswerable(many, share, seed=0)


def test_without_stories_there_is_no_other_passage_and_that_is_told(tmp_path, caplog):
    path = lines(tmp_path / "own.jsonl", table(3))
    alone, _, _ = read_passages(path, PassageColumns())
    with pytest.raises(DataError, match="--story_column"):
        add_unanswerable(alone, 0.2, seed=0)
    assert len(add_unanswerable(alone, 0.0, seed=0)) == len(alone)
    few, _, _ = read_passages(path, STORIES)
    made = len(add_unanswerable(few, 0.9, seed=0)) - len(few)
    assert made == len(few) and f"{made} of {9 * len(few)} wanted unanswerable questions" in caplog.text


# ---- published layouts ----------------------------------------------------------------------------------------------


def test_squad_with_unanswerable_questions(tmp_path):
    start = context(0).index("keeper0")
    articles = []
    for n in range(10):
        yes = {"id": f"a{n}", "question": f"Who lit {n}?", "answers": [{"text": f"keeper{n}", "answer_start": start}] * 2}
        no = {"id": f"b{n}", "question": "Why?", "answers": [], "plausible_answers": [{"text": "lamp", "answer_start": 0}]}
        articles += squad(
            [{**yes, "is_impossible": False}, {**no, "is_impossible": True}], f"Article {n}", context(n)
        )["data"]  # fmt: skip
    for name, part in (("train", articles[:7]), ("dev", articles[7:])):
        write(tmp_path / "qa" / "squad_v2" / f"{name}-v2.0.json", json.dumps({"version": "v2.0", "data": part}))
    data = load_passages("squad_v2", data_dir=tmp_path)
    assert len(data.splits["test"]) == 6 and set(data.splits["test"]["story_id"]) == {"Article 7", "Article 8", "Article 9"}
    assert Counter(data.splits["test"]["answerable"]) == {True: 3, False: 3}
    assert all(row["answer_starts"] == [start, start] for row in every_row(data) if row["answerable"])
    own = load_passages(train_file=tmp_path / "qa" / "squad_v2" / "train-v2.0.json")
    assert own.rows_read == 14 and not leaks(own.splits), "the same layout, as a user's own file"


def fairytale(story: str, n: int, **more) -> dict:
    return {
        "story_name": story, "story_section": context(n), "question": f"Who lit lamp {n}?", "answer1": f"keeper{n} lit it",
        "answer2": "", "local-or-sum": "local", "attribute": "character", "ex-or-im": "explicit", "ex-or-im2": "", **more,
    }  # fmt: skip


def test_fairytaleqa_keeps_its_split_and_reports_what_stands_on_two_sides(tmp_path, caplog):
    folder = tmp_path / "fairytaleqa"
    twin = fairytale("other", 1, answer2="by keeper1")
    splits = {"train": [fairytale("a", 0), fairytale("b", 1)], "val": [fairytale("c", 2)], "test": [fairytale("d", 3), twin]}
    for name, rows in splits.items():
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in rows).encode()))
    data = load_passages("fairytaleqa", data_dir=tmp_path)
    assert {s: len(d) for s, d in data.splits.items()} == {"train": 2, "validation": 1, "test": 2}
    row = data.splits["test"][1]
    assert row["answers"] == ["keeper1 lit it", "by keeper1"] and row["attributes"] == ["character", "local", "explicit"]
    assert [row["context"][a:b] for a, b in zip(row["answer_starts"], row["answer_ends"], strict=True)] == [
        "lit by keeper1",
        "by keeper1",
    ]
    assert data.warnings == ["1 questions of test share a context with train."] and "share a context" in caplog.text
    assert data.facts()["answers"]["test"] == {"literal": 1, "near": 2, "nowhere": 0, "unanswerable": 0}


def mctest(path, stories: int, first: int = 0):
    rows, answers = [], []
    for n in range(first, first + stories):
        fields = [f"mc160.x.{n}", "Author: 123;Work Time(s): 9", f"Story {n}.\\newline{context(n)}"]
        for q in range(4):
            options = [f"keeper{n}", "a bird", "the old captain", "nobody"]
            options.insert(q, options.pop(0))
            fields += [f"{'one' if q % 2 else 'multiple'}: Who lit lamp {n}, {q}?", *options]
        rows.append("\t".join(fields))
        answers.append("A\tB\tC\tD")
    write(path.with_suffix(".ans"), "\n".join(answers) + "\n")
    return write(path, "\n".join(rows) + "\n")


def test_mctest_has_distractors_and_whether_one_sentence_answers(tmp_path):
    for i, split in enumerate(("train", "dev", "test")):
        mctest(tmp_path / "qa" / "mctest" / f"mc160.{split}.tsv", 2, first=2 * i)
    data = load_passages("mctest160", data_dir=tmp_path)
    row = data.splits["validation"][3]
    assert row["question_id"] == "mc160.x.2/4" and row["story_id"] == "mc160.x.2" and row["question"] == "Who lit lamp 2, 3?"
    assert row["answers"] == ["keeper2"] and row["distractors"] == ["a bird", "the old captain", "nobody"]
    assert row["attributes"] == ["one"] and row["context"].startswith("Story 2.\nLamp 2")
    assert "123" not in json.dumps(every_row(data)), "the crowd workers' ids are dropped"


@pytest.mark.parametrize(
    ("old", "new", "name", "words"),
    [
        ("\tkeeper0\n", "\n", "x.tsv", ("row 1", "22 fields", "23")),
        ("one: Who", "Who", "x.tsv", ("row 1", "question 2", "'one:'")),
        ("A\tB\tC\tD\n", "A\tB\tC\tE\n", "x.ans", ("row 1", "four letters")),
        ("A\tB\tC\tD\n", "A\tB\tC\n", "x.ans", ("row 1", "four letters")),
        ("A\tB\tC\tD\nA", "A", "x.ans", ("1 lines of answers", "2, one a story")),
    ],
)
def test_broken_mctest_files_are_refused_with_their_row(old, new, name, words, tmp_path):
    path = mctest(tmp_path / "x.tsv", 2)
    broken_file = tmp_path / name
    assert old in broken_file.read_text()
    broken_file.write_text(broken_file.read_text().replace(old, new))
    with pytest.raises(DataError) as error:
        read_mctest(path)
    message = str(error.value)
    assert all(word in message for word in (*words, name)) and "keeper" not in message, message


def test_sciq_leaves_questions_without_a_text_out_and_counts_them(tmp_path):
    for i, name in enumerate(("train", "valid", "test")):
        rows = [
            {"question": f"Who lit lamp {n}?", "distractor3": "a bird", "distractor1": "the sea", "distractor2": "a bird",
             "correct_answer": f"keeper{n}", "support": context(n) if n % 2 else ""} for n in range(4 * i, 4 * i + 4)
        ]  # fmt: skip
        write(tmp_path / "qa" / "sciq" / f"{name}.json", json.dumps(rows))
    data = load_passages("sciq", data_dir=tmp_path)
    assert data.left_out == {"no supporting text": 6} and data.rows_read == 12 == len(every_row(data)) + 6
    assert data.splits["train"][0]["distractors"] == ["the sea", "a bird"], "one that stands twice is kept once"
    assert data.warnings == ["6 distractors that are the answer or stand twice were left out."]


def test_squad_qg_takes_the_marked_occurrence(tmp_path):
    text = "A lamp is a lamp."
    for i, split in enumerate(("train", "validation", "test")):
        row = {"question": "What is it?", "paragraph": f"{text} {i}", "answer": "lamp", "sentence": text,
               "paragraph_answer": f"A lamp is a <hl> lamp <hl>. {i}", "paragraph_sentence": f"<hl> {text} <hl> {i}"}  # fmt: skip
        lines(tmp_path / "qa" / "squad_qg" / f"{split}.jsonl", [row])
    data = load_passages("squad_qg", data_dir=tmp_path)
    assert data.splits["test"][0]["answer_starts"] == [text.rindex("lamp")]
    assert "3 questions" not in " ".join(data.warnings) and any("question and answer" in w for w in data.warnings)


def test_a_hub_data_set_is_read_with_the_users_columns(tmp_path, monkeypatch):
    def read_hub(name, revision):
        cells = [{"text": [row["answers"]], "answer_start": [row["context"].index(row["answers"])]} for row in table(10)]
        columns = {c: [row[c] for row in table(10)] for c in ("context", "question", "story")} | {"answers": cells}
        return {"train": Table(Path(f"{name} (train)"), columns, list(range(1, 41)))}

    monkeypatch.setattr(passages, "read_hub", read_hub)
    data = load_passages("user/questions", columns=STORIES)
    assert data.rows_read == 40 and data.name == "user/questions" and not leaks(data.splits)


# ---- the sample school ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def school():
    return load_passages()


def test_the_sample_school_is_the_default_and_each_answer_stands_in_its_text(school):
    rows = every_row(school)
    assert len(rows) == school.rows_read == 223 and not school.warnings and not school.rejected
    assert sum(not row["answerable"] for row in rows) == 19 and sum(bool(row["distractors"]) for row in rows) == 70
    assert all(school.ceiling(s)["exact_match"] == 1 for s in school.splits)
    assert {tuple(row["attributes"]) for row in rows if row["answerable"]} == {
        (subject, kind)
        for subject in ("history", "science", "geography", "civics", "mathematics")
        for kind in ("explicit", "implicit")
    }


def test_no_question_of_the_sample_school_gives_its_answer_away(school):
    for row in every_row(school):
        for answer in row["answers"]:
            assert not re.search(rf"\b{re.escape(answer)}\b", row["question"], re.IGNORECASE), row["question_id"]
        for text in row["distractors"]:
            assert all(token_f1(text, answer) < 1 for answer in row["answers"]), row["question_id"]
        assert len(row["distractors"]) in (0, 3)


def test_the_lessons_of_the_sample_school_are_short_and_no_question_is_asked_twice(school):
    rows = every_row(school)
    assert all(80 <= len(text.split()) <= 160 for text in {row["context"] for row in rows})
    assert len({row["question"] for row in rows}) == len(rows) == len({row["question_id"] for row in rows})
    assert not leaks(school.splits) and "unanswerable" in school.summary()


# ---- broken inputs --------------------------------------------------------------------------------------------------

TEXT = "zebra Lamp 0 was lit by the quagga at dusk."
GOOD = {"context": TEXT, "question": "Which quagga lit it?", "answers": "the quagga", "at": TEXT.index("the quagga")}
BROKEN_ROWS: dict[str, tuple[dict, dict, tuple[str, ...]]] = {}


def broken(name: str, change: dict, *words: str, **columns) -> None:
    BROKEN_ROWS[name] = change, columns, words


broken("no context column", {}, "no column 'text'", "--context_column", context="text")
broken("no question column", {}, "no column 'asked'", "--question_column", question="asked")
broken("no answer column", {}, "Did you mean 'answers'", "--answer_column answers", answers=["answer"])
broken("no offset column", {}, "no column 'start'", "--answer_start_column", answer_start="start")
broken("no story column", {}, "no column 'tale'", "--story_column", story="tale")
broken("no attribute column", {}, "no column 'kind'", "--attribute_columns", attributes=["kind"])
broken("no distractor column", {}, "no column 'wrong'", "--distractor_columns", distractors=["wrong"])
broken("an empty question", {"question": "  "}, "row 21, column 'question'", "the question is empty")
broken("an empty context", {"context": ""}, "row 21, column 'context'", "the context is empty")
broken("an answer elsewhere", {"answers": "quagga zebra"}, "row 21, column 'answers'", "does not stand", "--free_answers")
broken("an empty answer in a list", {"answers": ["the quagga", ""]}, "row 21, column 'answers'", "an answer is empty")
broken("an offset before the text", {"at": -1}, "row 21, column 'at'", "outside of", "Found: -1", answer_start="at")
broken("an offset behind the text", {"at": 5000}, "row 21, column 'at'", "5000", "0 to 33", answer_start="at")
broken("an offset one off", {"at": 25}, "row 21", "not begin at", "24, where it stands", "not bytes", answer_start="at")
broken("an offset that is a word", {"at": "here"}, "row 21", "the offset is no whole number", answer_start="at")
broken("an offset that is a fraction", {"at": 2.5}, "row 21", "the offset is no whole number", answer_start="at")
broken("an answer too long", {"answers": TEXT * 2, "at": 0}, "row 21", "shorter than its context", answer_start="at")
broken("two answers, one offset", {"answers": ["Lamp", "dusk"], "at": [6]}, "2 answers have 1 offsets", answer_start="at")
broken("uneven lists", {"answers": {"text": ["the quagga"], "answer_start": []}}, "row 21", "SQuAD's layout", "equally long")
broken("a dictionary without texts", {"answers": {"texts": []}}, "row 21, column 'answers'", "SQuAD's layout")
broken("a Python list in a cell", {"answers": "{'text': array(['quagga'])}"}, "row 21", "Python list", "jsonl or parquet")
broken("a context that is a list", {"context": [TEXT]}, "row 21", "the context is no text", "list")
broken("half a character", {"question": "zebra \ud800?"}, "row 21, column 'question'", "half a character")
broken("a zero byte", {"context": TEXT + "\x00"}, "row 21, column 'context'", "zero byte")
broken("a context too long", {"context": "zebra " * 20_000}, "row 21", "120,000 characters", "at most 100,000")
broken("a question that is a text", {"question": "zebra " * 500}, "row 21", "3,000 characters", "at most 2,000")
broken("an id twice", {"id": "q1"}, "row 21, column 'id'", "the id stands in row 2 too", question_id="id")
broken("no id", {"id": " "}, "row 21, column 'id'", "the id is missing", question_id="id")
broken("no story", {"story": None}, "row 21, column 'story'", "the story is missing", story="story")
broken("impossible, but answered", {"no": True}, "row 21, column 'no'", "and has an answer", impossible="no")
broken("possible, but not answered", {"answers": ""}, "row 21, column 'no'", "is not marked", impossible="no")
broken("neither possible nor impossible", {"no": "maybe"}, "row 21", "neither true nor false", impossible="no")
broken("a distractor that is right", {"x": ["The  Quagga"]}, "row 21, column 'x'", "is the answer", distractors=["x"])
broken("a distractor twice", {"x": ["zebra", "Zebra"]}, "row 21, column 'x'", "stands twice", distractors=["x"])


@pytest.mark.parametrize("name", BROKEN_ROWS)
def test_a_broken_row_is_refused_with_its_place_and_without_its_text(name, tmp_path):
    change, columns, words = BROKEN_ROWS[name]
    rows = [{**row, "id": f"q{i}", "no": False, "at": row["context"].index(row["answers"])} for i, row in enumerate(table(5))]
    rows.append({**GOOD, "id": "q20", "no": False, "story": "s", **change})
    with pytest.raises(DataError) as error:
        load_passages(train_file=lines(tmp_path / "own.jsonl", rows), columns=PassageColumns(**columns))
    message = str(error.value)
    assert all(word in message for word in (*words, "own.jsonl")), message
    assert "zebra" not in message and "quagga" not in message, "never a word of the text"


def nested(**change) -> str:
    question = {"id": "a", "question": "Which quagga?", "answers": [{"text": "the quagga", "answer_start": 24}]}
    return json.dumps(squad([{**question, **change}], text=TEXT))


BROKEN_SQUAD = {
    "json that ends early": (nested()[:-4], ("not valid json", "row 1")),
    "data that is no list": ('{"data": {"title": "zebra"}}', ("column 'data'", "SQuAD's layout", "a list of objects")),
    "an article without paragraphs": ('{"data": [{"title": "zebra"}]}', ("column 'data[0].paragraphs'",)),
    "a paragraph without questions": ('{"data": [{"paragraphs": [{"context": "zebra"}]}]}', ("data[0].paragraphs[0].qas",)),
    "a question that is no object": ('{"data": [{"paragraphs": [{"context": "zebra", "qas": ["q"]}]}]}', ("qas", "row 1")),
    "no questions at all": ('{"data": []}', ("no questions",)),
    "an offset of another file": (
        nested(answers=[{"text": "the quagga", "answer_start": 25}]),
        ("row 1", "begin at this offset"),
    ),
    "an answer without a text": (nested(answers=[{"answer_start": 24}]), ("row 1", "an answer is empty")),
    "an empty question": (nested(question=""), ("row 1", "the question is empty")),
    "a question marked as impossible": (nested(is_impossible=True), ("row 1", "'is_impossible'", "and has an answer")),
}


@pytest.mark.parametrize("name", BROKEN_SQUAD)
def test_a_broken_squad_file_is_refused_with_its_place_and_without_its_text(name, tmp_path):
    text, words = BROKEN_SQUAD[name]
    with pytest.raises(DataError) as error:
        load_passages(train_file=write(tmp_path / "own.json", text))
    message = str(error.value)
    assert all(word in message for word in (*words, "own.json")), message
    assert "zebra" not in message and "quagga" not in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dataset_name": "fairytale"}, ("Did you mean 'fairytaleqa'",)),
        ({"dataset_name": "races"}, ("unknown data set", "--train_file")),
        ({"test_file": "x.csv"}, ("needs a training file", "--train_file")),
        ({"max_eval_samples": 0}, ("--max_eval_samples is 0", "from 1 on")),
        ({"dataset_name": "mctest", "data_dir": "."}, ("there is no mc160.train.tsv",)),
        ({"train_file": "nowhere.csv"}, ("there is no file nowhere.csv",)),
        ({"train_file": "nowhere.json"}, ("there is no file nowhere.json",)),
    ],
)
def test_broken_options_are_refused_with_what_is_expected(options, words):
    with pytest.raises(DataError) as error:
        load_passages(**options)
    assert all(word in str(error.value) for word in words), str(error.value)


# ---- the real files -------------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_fairytaleqa_has_what_its_readme_counts_and_its_spans_are_the_best():
    data = load_passages("fairytaleqa")
    assert {s: len(d) for s, d in data.splits.items()} == {"train": 8548, "validation": 1025, "test": 1007}
    assert {s: len(set(d["story_id"])) for s, d in data.splits.items()} == {"train": 232, "validation": 23, "test": 23}
    assert not data.warnings and not data.rejected, "no story, no section, no question with its answer on two sides"
    assert data.answer_counts("test") == {"literal": 1021, "near": 831, "nowhere": 162, "unanswerable": 0}
    ceiling = data.ceiling("test")
    assert ceiling["questions"] == 1007 and ceiling["rouge_l"] == pytest.approx(0.852, abs=0.002)
    assert ceiling["f1"] == pytest.approx(0.865, abs=0.002) and ceiling["exact_match"] == pytest.approx(0.678, abs=0.002)
    short = [row for row in data.splits["validation"] if len(row["context"]) < 400][:20]
    for row in short:
        for answer, f1, start, end in zip(*(row[c] for c in PLACES), strict=True):
            literal = row["context"][max(start, 0) : end].lower().split() == answer.lower().split()
            assert f1 == pytest.approx(1.0 if literal else brute_force(row["context"], answer))
    more = add_unanswerable(data.splits["validation"], 0.2, seed=0)
    assert sum(not a for a in more["answerable"]) == round(0.2 * len(more))


@pytest.mark.real_data
def test_xquad_and_mctest_have_what_their_readme_counts():
    data = load_passages("xquad_en")
    assert list(data.splits) == ["test"] and len(data.splits["test"]) == 1190 and len(set(data.splits["test"]["story_id"])) == 48
    assert data.answer_counts("test")["literal"] == 1190 and data.ceiling("test")["exact_match"] == 1
    data = load_passages("mctest")
    assert {s: len(d) for s, d in data.splits.items()} == {"train": 1480, "validation": 320, "test": 840}
    assert all(len(row["distractors"]) == 3 for row in data.splits["test"]) and not data.warnings
