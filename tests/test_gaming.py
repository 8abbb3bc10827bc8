"""Essays written to fool a scorer: each attack is what it says, and the bars tell a scorer that falls for it."""

import configparser
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

from trainers.essay_text import sentences, without_copies
from trainers.gaming import MAX_DOUBLING_SHIFT, STUFFED_WORDS, attacks, gaming_report, gaming_texts

EVERY_ATTACK = {
    "doubled", "shuffled sentences", "keyword stuffing", "off-topic text", "another language", "empty", "another prompt's essay",
}  # fmt: skip


@pytest.fixture(scope="module")
def school(sample):
    """Thirty essays of three prompts."""
    rows = sample.splits["train"].select(range(30))
    return list(rows["text"]), list(rows["prompt_id"])


def words(texts):
    return [len(t.split()) for t in texts]


# ---- the attacks ------------------------------------------------------------------------------------------------------


def test_each_attack_comes_from_an_essay(school):
    texts, prompts = school
    made = attacks(texts, prompts)
    assert set(made) == EVERY_ATTACK
    for attack, (rows, changed) in made.items():
        assert len(rows) == len(changed) > 0 and set(rows.tolist()) <= set(range(30)), attack
        assert attack == "shuffled sentences" or rows.tolist() == list(range(30))


def test_an_essay_is_doubled_and_nothing_else(school):
    texts, prompts = school
    rows, doubled = attacks(texts, prompts)["doubled"]
    assert [t.split() for t in doubled] == [texts[i].split() * 2 for i in rows]
    assert [without_copies(t).split() for t in doubled] == [t.split() for t in texts]


def test_shuffled_sentences_are_the_same_in_another_order(school):
    texts, prompts = school
    rows, shuffled = attacks(texts, prompts)["shuffled sentences"]
    for i, text in zip(rows, shuffled, strict=True):
        before = [s.strip() for s in sentences(texts[i])]
        assert all(s in text for s in before) and Counter(text.split()) == Counter(texts[i].split())
        assert text.split() != texts[i].split()


def test_essays_of_one_or_two_sentences_are_not_shuffled():
    texts = ["One. Two. Three.", "One. Two.", "One", "Four. Five. Six. Seven."]
    rows, _ = attacks(texts, ["a"] * 4)["shuffled sentences"]
    assert rows.tolist() == [0, 3]
    assert attacks(["One. Two."], ["a"])["shuffled sentences"][1] == []


def test_another_prompts_essay_is_never_one_of_the_same_prompt(school):
    texts, prompts = school
    prompt_of = dict(zip(texts, prompts, strict=True))
    for seed in range(5):
        rows, foreign = attacks(texts, prompts, seed)["another prompt's essay"]
        assert all(prompt_of[text] != prompts[i] for i, text in zip(rows, foreign, strict=True))


def test_with_one_prompt_there_is_no_other_prompts_essay(school):
    assert set(attacks(school[0], ["a"] * 30)) == EVERY_ATTACK - {"another prompt's essay"}


def test_stuffing_is_made_of_words_of_the_prompt_and_of_no_sentence():
    texts = ["The ferry crosses the river again.", "A ferry and the river today.", "Phones distract pupils at school.",
             "Pupils love phones at home."]  # fmt: skip
    _, stuffed = attacks(texts, ["f", "f", "p", "p"])["keyword stuffing"]
    assert words(stuffed) == [STUFFED_WORDS] * 4 and not any(re.search(r"[.!?]", t) for t in stuffed)
    assert {"ferry", "river"} < set(stuffed[0].split()) <= {"ferry", "crosses", "river", "again", "today"}
    assert {"phones", "pupils"} < set(stuffed[3].split()) and "ferry" not in stuffed[3]


def test_essays_without_a_single_long_word_can_be_attacked_too():
    made = attacks(["no", "so it is", ""], ["a", "a", "b"])
    assert words(made["keyword stuffing"][1]) == [STUFFED_WORDS] * 3


def test_the_same_seed_makes_the_same_attacks(school):
    first, again, other = ({a: t for a, (_, t) in attacks(*school, seed).items()} for seed in (1, 1, 2))
    assert first == again
    assert {a for a in first if first[a] != other[a]} == EVERY_ATTACK - {"doubled", "empty"}


def test_our_texts_have_the_length_of_an_essay_and_are_all_different():
    ours = gaming_texts()
    assert set(ours) == {"off_topic", "other_language"} and all(len(texts) >= 10 for texts in ours.values())
    every = ours["off_topic"] + ours["other_language"]
    assert all(100 <= n <= 340 for n in words(every)) and len(set(every)) == len(every)
    assert all(without_copies(text) == text for text in every)


def test_our_texts_are_installed_with_the_package():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    patterns = config["options.package_data"]["trainers"].split()
    assert any(Path("gaming_texts.json").match(pattern) for pattern in patterns)


# ---- the bars ---------------------------------------------------------------------------------------------------------

SPREAD, LOWEST = {"ferry": 1.0, "mind": 1.0, "phones": 1.0}, {"ferry": 1.0, "mind": 1.0, "phones": 1.0}


def scorer(read, send=lambda text: False):
    """One that gives a point for 50 words of what `read` leaves of a text, from 1 on."""

    def score(texts, prompts):
        return np.array([1 + len(read(t).split()) / 50 for t in texts]), np.array([send(t) for t in texts])

    return score


def test_a_scorer_that_reads_copies_once_gains_nothing_from_a_doubled_essay(school):
    doubled = gaming_report(scorer(without_copies), *school, SPREAD, LOWEST)["doubled"]
    assert doubled["shift"] == 0 and doubled["passed"] and doubled["essays"] == 30


def test_a_scorer_that_counts_raw_words_is_fooled_and_told_so(school):
    """The twin with the trap open."""
    doubled = gaming_report(scorer(str), *school, SPREAD, LOWEST)["doubled"]
    assert doubled["shift"] == pytest.approx(np.mean(words(school[0])) / 50) and doubled["shift"] > 5 * MAX_DOUBLING_SHIFT
    assert not doubled["passed"]


def test_the_shift_is_counted_in_standard_deviations_of_each_prompt():
    texts, prompts = ["one two. three four. five six."] * 2, ["a", "b"]
    doubled = gaming_report(scorer(str), texts, prompts, {"a": 0.5, "b": 4.0}, {"a": 1, "b": 1})["doubled"]
    assert doubled["shift"] == pytest.approx((6 / 50 / 0.5 + 6 / 50 / 4) / 2)


def empty_row(value, sent, school):
    def score(texts, prompts):
        blank = np.array([not t.strip() for t in texts])
        return np.where(blank, value, 3.0), blank & sent

    return gaming_report(score, *school, SPREAD, LOWEST)["empty"]


def test_an_empty_essay_must_get_the_lowest_score_and_go_to_a_human(school):
    assert empty_row(1.0, True, school)["passed"]
    assert not empty_row(1.0, False, school)["passed"]
    assert not empty_row(1.5, True, school)["passed"]


def test_the_lowest_score_is_that_of_each_prompt(school):
    def score(texts, prompts):
        return np.array([{"ferry": 0.0, "mind": 2.0, "phones": 10.0}[p] for p in prompts]), np.ones(len(texts), bool)

    lowest = {"ferry": 0.0, "mind": 2.0, "phones": 10.0}
    assert gaming_report(score, *school, SPREAD, lowest)["empty"]["passed"]
    assert not gaming_report(score, *school, SPREAD, {**lowest, "mind": 1.0})["empty"]["passed"]


def test_shuffled_sentences_must_lose(school):
    """A scorer that counts words gives the same score and fails; one that minds the order passes."""
    assert not gaming_report(scorer(str), *school, SPREAD, LOWEST)["shuffled sentences"]["passed"]
    whole = set(school[0])

    def mind_order(texts, prompts):
        return np.array([3.0 if t in whole else 2.0 for t in texts]), np.zeros(len(texts), bool)

    shuffled = gaming_report(mind_order, *school, SPREAD, LOWEST)["shuffled sentences"]
    assert shuffled["passed"] and shuffled["shift"] == -1


@pytest.mark.parametrize("attack", ["off-topic text", "another language", "keyword stuffing", "another prompt's essay"])
def test_texts_about_something_else_must_go_to_a_human(attack, school):
    texts, prompts = school
    trusting = gaming_report(scorer(str), texts, prompts, SPREAD, LOWEST)
    wary = gaming_report(scorer(str, lambda t: t not in texts), texts, prompts, SPREAD, LOWEST)
    assert not trusting[attack]["passed"] and trusting[attack]["sent_to_human"] == 0
    if attack != "another prompt's essay":  # which is an honest essay, for a scorer that does not know of prompts
        assert wary[attack]["passed"] and wary[attack]["sent_to_human"] == 1
    assert not wary["another prompt's essay"]["passed"]


def test_the_report_says_how_many_honest_essays_go_to_a_human(school):
    texts, prompts = school
    chosen = set(texts[:6])
    report = gaming_report(scorer(str, lambda t: t in chosen), texts, prompts, SPREAD, LOWEST)
    assert report["none"]["sent_to_human"] == pytest.approx(0.2) and report["none"]["shift"] == 0
    assert list(report)[0] == "none" and set(report) == EVERY_ATTACK | {"none"}


def test_an_attack_that_no_essay_allows_is_left_out():
    report = gaming_report(scorer(str), ["One. Two.", "Three."], ["a", "a"], {"a": 1.0}, {"a": 1.0})
    assert "shuffled sentences" not in report and "doubled" in report
