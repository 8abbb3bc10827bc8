"""Wrong options: of the answer's kind, wrong, and unlike each other; or fewer than asked, with the reason."""

import itertools
import re
import zlib

import numpy as np
import pytest

from edu_datasets.passages import load_passages
from trainers.distractors import (
    DistractorChecks,
    answer_kind,
    answer_spans,
    choose_distractors,
    distractor_report,
    kinds_agree,
    lexical_reader,
    other_answers,
    spans_like,
)
from trainers.metrics.embeddings import sentence_encoder

STORY = (
    "On Monday Mia went to the market with her brother Tom. She bought three apples and a loaf of bread. Tom wanted the red "
    "kite, but it cost 12 dollars. Because it rained, they ran home and ate soup in the kitchen. On Friday old Mr. Hale gave "
    "Mia the kite and seven candles, and Tom was very happy."
)


def embed(texts):
    """Words, hashed into a vector of length 1: texts are alike as far as they share words."""
    assert len(texts), "an encoder has nothing to do with no text"
    table = np.zeros((len(texts), 4096))
    for row, text in zip(table, texts, strict=True):
        for word in re.findall(r"\w+", text.lower()):
            row[zlib.crc32(word.encode()) % 4096] += 1
    return table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-9)


CHECKS = DistractorChecks(embed)


def judge(answer, distractors, question="What is told?", context=STORY, checks=CHECKS):
    answers = [answer] if isinstance(answer, str) else answer
    return checks.judge([context], [question], [answers], [distractors])[0]


def reason(answer, distractor, **others):
    return judge(answer, [distractor], **others)[0].reason


def choose(answer, candidates, count=3, checks=CHECKS):
    return choose_distractors(checks, [STORY], ["What is told?"], [[answer]], [candidates], count)[0]


# ---- kinds and candidates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, texts",
    [
        ("yes or no", ["Yes", "no", "No, it was late."]),
        ("number", ["3", "Seven", "two turtles", "about 20", "12 dollars", "a hundred", "1/2", "twenty-one days"]),
        ("date", ["Monday", "on Friday", "1342", "3:30", "Saturday afternoon", "in the morning"]),
        ("name", ["Mia", "Mr. Hale", "Tom and Mia", "Élodie", "Grace Hopper"]),
        ("reason", ["because it rained", "to buy bread", "So he would win", "in order to see"]),
        ("clause", ["she ran home", "ran home", "He's tired", "The dog was wet", "Playing with Tom", "Washed the dog"]),
        ("phrase", ["a red kite", "kite", "in the kitchen", "to the market", "her father's hat", "", "?!", "no one"]),
    ],
)
def test_an_answer_has_a_kind(kind, texts):
    assert {text: answer_kind(text) for text in texts} == dict.fromkeys(texts, kind)


def test_a_capital_at_the_start_makes_no_name_of_a_word_that_the_text_writes_small():
    assert answer_kind("Kite") == "name" and answer_kind("Kite", STORY) == "phrase" and answer_kind("Mia", STORY) == "name"
    assert kinds_agree("name", "phrase") and not kinds_agree("number", "phrase")


@pytest.mark.parametrize(
    "answer, some, never",
    [
        ("three apples", ["twelve apples", "seven apples", "four apples"], ["three apples", "3 apples"]),
        ("12 dollars", ["3 dollars", "7 dollars", "13 dollars"], ["12 dollars"]),
        ("Monday", ["Friday", "Sunday"], ["Monday"]),
        ("Mia", ["Tom", "Mr. Hale"], ["Mia", "She", "Because", "On"]),
        ("a candle", ["the market", "the kitchen"], ["seven candles", "kitchen"]),
        ("in the garden", ["to the market", "in the kitchen"], ["the kitchen"]),
        ("they hid", ["it rained", "they ran home"], ["ran home"]),
        ("sang a song", ["ran home", "ate soup in the kitchen"], ["they ran home"]),
        ("Because she slept.", ["Because it rained.", "Because they ran home."], ["because it rained"]),
        ("Yes", ["No"], ["Yes"]),
    ],
)
def test_the_text_offers_candidates_like_the_answer(answer, some, never):
    spans = spans_like(STORY, answer)
    assert set(some) <= set(spans) and not set(never) & set(spans)
    assert all(answer_kind(span, STORY) == answer_kind(answer, STORY) for span in spans)
    assert spans == spans_like(STORY, answer) and spans[:2] == spans_like(STORY, answer, limit=2)
    assert len(spans) == len({span.lower() for span in spans})


def test_no_candidate_holds_the_answer_or_is_a_part_of_it():
    assert "the kite" not in spans_like(STORY, "the red kite") and "the red kite" not in spans_like(STORY, "a kite")
    assert spans_like("", "a kite") == [] and spans_like("kite kite", "kite") == [] and spans_like(STORY, "") == []


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("Old Ida Holm built it. Later Holm left.", ["Ida Holm", "Holm"]), ("1502 was cold.", ["1502"]), ("", []),
        ("They waited. Nobody came.", []), ("He saw the mill. He left the mill.", ["the mill"]),
        ("On 3 June the ferry left.", ["on 3 June", "the ferry"]), ("It closed because of rain.", ["because of rain"]),
    ],
)  # fmt: skip
def test_a_text_has_spans_to_ask_for(text, spans):
    assert answer_spans(text) == spans


def test_texts_in_any_script_are_read():
    story = "Élodie acheta trois pommes à Zoë. 王さまは赤い凧を買った。 Кот спит на крыше 🪁!"
    for answer in ("Élodie", "王さま", "кот", "🪁", "trois pommes"):
        spans_like(story, answer)
        assert reason(answer, answer, context=story) == "says the answer"
    assert reason("кот", "🪁", context=story) == "has no words"
    assert "Zoë" in spans_like("Elle vit Zoë et Élodie.", "Élodie")
    assert reason("un café", "un cafe\u0301") == "says the answer"


# ---- wrong ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer, again",
    [
        ("the red kite", "Red kite!"),
        ("a kite", "the big red kite"),
        ("three apples", "3 apples"),
        ("12", "twelve"),
        ("They ate warm soup in the kitchen.", "In the kitchen they ate soup"),
        (["her brother", "Tom"], "Tom Hale"),
    ],
)
def test_the_answer_in_other_words_is_refused(answer, again):
    verdict = judge(answer, [again])[0]
    assert not verdict.wrong and verdict.reason == "says the answer"


def test_where_the_checks_are_open_another_way_to_say_the_answer_passes():
    """The twin: the same distractor, compared by words, by meaning, and not at all."""
    answer, again = "They ate warm soup in the kitchen.", "In the kitchen they ate soup"
    assert not judge(answer, [again], checks=DistractorChecks(embed, same_meaning=2))[0].wrong
    assert not judge(answer, [again], checks=DistractorChecks(embed, same_f1=2))[0].wrong
    assert judge(answer, [again], checks=DistractorChecks(embed, same_f1=2, same_meaning=2))[0].wrong


@pytest.mark.parametrize(
    "answer, other",
    [
        ("Tom bought three red apples there", "Tom bought seven red apples there"),
        ("Mia gave Hale the red kite", "Tom gave Hale the red kite"),
        ("She was hungry", "She was not hungry"),
        ("he liked the kite", "he didn't like the kite"),
        ("on Monday", "on Friday"),
        ("hungry", "not hungry"),
    ],
)
def test_other_numbers_people_and_denials_are_no_other_words(answer, other):
    assert judge(answer, [other])[0].wrong and judge(other, [answer])[0].wrong


def test_what_the_text_answers_too_is_refused():
    story = "Mia owns a black dog. Tom has a cat. They live by the sea."
    asked = {"question": "What black animal does Mia own?", "context": "A black animal that Mia owns is Rex. Tom is here."}
    assert lexical_reader([asked["context"]], [asked["question"]]) == ["Rex"]
    assert reason("her dog", "Rex", **asked) == "is what the text answers"
    asked["question"] = "What black animal does nobody own?"
    assert judge("her dog", ["Rex"], **asked)[0].wrong

    def reader(contexts, questions):
        assert contexts == [story] and questions == ["Who has a pet?"]
        return ["Tom"]

    read = {"question": "Who has a pet?", "context": story, "checks": DistractorChecks(embed, answer_with=reader)}
    assert reason("Mia", "Tom", **read) == "is what the text answers"
    assert judge("Mia", ["Tom"], context=story)[0].wrong


# ---- plausible ------------------------------------------------------------------------------------------------------


def test_a_number_for_a_number():
    verdicts = judge("three apples", ["seven apples", "the market", "Tom", "because it rained"])
    assert [v.reason for v in verdicts] == ["", *["is another kind of answer"] * 3]
    assert [v.same_kind for v in verdicts] == [True, False, False, False] and all(v.wrong for v in verdicts)


def test_lengths_and_topics_are_alike():
    long = "the kitchen with the soup and the bread and the market with the candles"
    assert reason("the red kite", "the market") == ""
    assert reason("the red kite", long) == "is of another length"
    assert reason("the red kite", "a moon") == "is off topic"
    assert reason("the red kite", " ?!") == "has no words" and reason("the red kite", "") == "has no words"


def test_a_question_without_an_answer_has_no_plausible_option():
    assert not judge([], ["the market"])[0].plausible


# ---- distinct, and chosen -------------------------------------------------------------------------------------------


def test_of_two_that_say_the_same_one_stays():
    verdicts = judge("the red kite", ["the market", "The market.", "the market", "a loaf"])
    assert [v.distinct for v in verdicts].count(False) == 2 and verdicts[3].distinct
    assert {v.reason for v in verdicts if not v.distinct} == {"says another option again"}
    assert len(choose("the red kite", ["the market", "The market.", "the market", "a loaf"]).chosen) == 2


def test_one_that_may_not_stand_takes_nobody_elses_place():
    verdicts = judge("the red kite", ["the market", "the market and the loaf of bread and the kitchen and the soup"])
    assert [v.reason for v in verdicts] == ["", "is of another length"]


def test_the_order_of_the_candidates_changes_nothing():
    candidates = ["the market", "a loaf of bread", "the market place", "the kitchen", "Tom", "the kite"]
    chosen = choose("the red kite", candidates).chosen
    verdicts = dict(zip(candidates, judge("the red kite", candidates), strict=True))
    for order in itertools.islice(itertools.permutations(candidates), 0, 720, 37):
        assert choose("the red kite", list(order)).chosen == chosen
        assert dict(zip(order, judge("the red kite", list(order)), strict=True)) == verdicts


def test_a_question_is_judged_alike_alone_and_among_others():
    alone = judge("the red kite", ["the market"])
    batch = CHECKS.judge([STORY] * 2, ["What?"] * 2, [["three apples"], ["the red kite"]], [["seven apples"], ["the market"]])
    assert batch[1] == alone


def test_the_chosen_are_unlike_each_other(monkeypatch):
    """The twin, which looks at closeness alone, takes the first nearly twice."""
    candidates = ["the red bread", "the red soup", "kite market"]
    assert choose("the red kite", candidates, 2).chosen == ["the red bread", "kite market"]
    monkeypatch.setattr("trainers.distractors.DIVERSITY", 0)
    assert choose("the red kite", candidates, 2).chosen == ["the red bread", "the red soup"]


def test_where_nothing_is_possible_there_are_fewer_with_the_reason():
    choice = choose("three apples", ["3 apples", "Tom", "", "seven apples"])
    assert choice.chosen == ["seven apples"]
    assert choice.rejected == [
        ("3 apples", "says the answer"),
        ("Tom", "is another kind of answer"),
        ("", "has no words"),
    ]
    assert choose("three apples", []).chosen == [] and choose("three apples", ["Tom"]).chosen == []


def test_what_is_not_needed_is_told_too():
    candidates = spans_like(STORY, "the garden")
    choice = choose("the garden", candidates, 2)
    assert len(choice.chosen) == 2 and {*choice.chosen, *(text for text, _ in choice.rejected)} == set(candidates)
    assert "others are better" in dict(choice.rejected).values()


def test_nothing_in_nothing_out():
    assert CHECKS.judge([], [], [], []) == [] and choose_distractors(CHECKS, [], [], [], []) == []
    assert CHECKS.judge([STORY], ["What?"], [["a kite"]], [[]]) == [[]] and other_answers([], []) == []
    with pytest.raises(ValueError, match="no question"):
        distractor_report(CHECKS, [], [], [], {"human": []}, [])
    with pytest.raises(ValueError):
        CHECKS.judge([STORY], ["What?"], [["a kite"]], [])


# ---- the report -----------------------------------------------------------------------------------------------------


def test_the_report_counts_distractors_and_draws_stories():
    answers = [["three apples"], ["the red kite"]]
    systems = {
        "good": [["seven apples"], ["the market", "a loaf", "the kitchen"]],
        "again": [["3 apples"], ["red kite"]],
        "odd": [["the market"], ["a moon", "the market", "the market"]],
        "none": [[], []],
    }
    table = distractor_report(CHECKS, [STORY] * 2, ["What?"] * 2, answers, systems, ["a", "b"], seed=1)
    values = {name: {what: cell["value"] for what, cell in row.items()} for name, row in table.items()}
    assert values["good"] == {"offered": 2, "wrong": 1, "plausible": 1, "both": 1, "distinct": 1, "same_kind": 1}
    assert values["again"]["wrong"] == values["again"]["both"] == 0 and values["again"]["plausible"] == 1
    assert values["odd"] == {"offered": 2, "wrong": 1, "plausible": 0.5, "both": 0.5, "distinct": 0.75, "same_kind": 0.75}
    assert values["none"] == {"offered": 0}
    low, high = table["odd"]["plausible"]["interval"]
    assert low == 0 and high == pytest.approx(2 / 3) and table["good"]["wrong"]["interval"] == [1, 1]
    assert table == distractor_report(CHECKS, [STORY] * 2, ["What?"] * 2, answers, systems, ["a", "b"], seed=1)


def test_other_answers_come_from_other_stories():
    answers, stories = [["a"], ["b", "B"], ["c"], []], ["x", "x", "y", "y"]
    drawn = other_answers(answers, stories, count=2, seed=3)
    assert drawn[0] == drawn[1] == ["c"] and set(drawn[2]) == set(drawn[3]) == {"a", "b"}
    assert drawn == other_answers(answers, stories, count=2, seed=3)


# ---- with the encoder that the thresholds were chosen for ------------------------------------------------------------


@pytest.fixture(scope="module")
def checks():
    return DistractorChecks(sentence_encoder())


def test_a_synonym_is_refused_by_its_meaning(checks):
    story = "Ben had a bicycle that was broken. His mother sold hers. He fixed his bicycle in the yard."
    again, other = judge("He fixed his bicycle", ["He repaired his bike", "He sold his bike"], context=story, checks=checks)
    assert (again.wrong, again.reason) == (False, "says the answer") and (other.wrong, other.reason) == (True, "")
    assert judge("He fixed his bicycle", ["He repaired his bike"], context=story)[0].wrong  # words alone do not tell


@pytest.mark.real_data
def test_what_people_wrote_passes_and_answers_to_other_questions_do_not(checks):
    """The shares that were measured on the split that the thresholds were chosen on, with room for the smaller sample."""
    rows = load_passages("mctest160").splits["validation"]
    contexts, questions, answers, stories = (rows[c][:] for c in ("context", "question", "answers", "story_id"))
    systems = {
        "human": rows["distractors"][:],
        "from the text": [spans_like(c, a[0], 3) for c, a in zip(contexts, answers, strict=True)],
        "random": other_answers(answers, stories),
        "right": answers,
    }
    table = distractor_report(checks, contexts, questions, answers, systems, stories)
    share = {name: {what: cell["value"] for what, cell in row.items()} for name, row in table.items()}
    assert share["human"]["wrong"] > 0.9 and share["human"]["plausible"] > 0.7 and share["human"]["distinct"] > 0.9
    assert share["random"]["wrong"] > 0.97 and share["random"]["plausible"] < 0.15 and share["random"]["same_kind"] < 0.6
    assert table["human"]["both"]["interval"][0] > table["random"]["both"]["interval"][1] + 0.3
    assert share["right"]["wrong"] == share["right"]["both"] == 0 and share["right"]["plausible"] > 0.95
    assert share["from the text"]["wrong"] > 0.9 and share["from the text"]["offered"] > 2.5
