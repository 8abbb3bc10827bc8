"""A text is cut into sentences and put together again unharmed; what it repeats of itself is found."""

import re

import pytest

from trainers.essay_text import COPIED_WORDS, sentences, without_copies

ODD = [
    "no stop at all",
    "One. Two! Three? Four",
    'He said "Stop." Then (why?) he left.',
    "“Really?” she asked. ‘Yes.’ And so on…",
    "Wait... what?! No!!! Well.",
    "a.b.c www.example.org 3.14 is no end. But this is.",
    "Dr. Smith e.g. came at 5 p.m. today.",
    "First line\nsecond line\n\n\nthird paragraph.",
    "windows\r\nline ends\r\n\r\nand tabs\t.\tx",
    "trailing space. ",
    "trailing break.\n",
    " one space before. And after.",
    "...",
    "?! ?! ?!",
    "x",
    "non-breaking\u00a0space.\u00a0Next. \u2028 separators \u2029 end",
    "我喜欢河。你呢？ 我也是。",
    "مرحبا. كيف الحال؟ بخير.",
    "emoji 😀. next 👍🏽!",
    ". starts with a stop. Goes on",
    "a\n",
    "null\x00byte. and \x0bvertical tab. end",
]


@pytest.mark.parametrize("text", ["", " ", "\n\n", "\t \r\n"])
def test_nothing_has_no_sentences(text):
    assert sentences(text) == []


@pytest.mark.parametrize("text", ODD)
def test_sentences_joined_are_the_text(text):
    parts = sentences(text)
    assert "".join(parts) == text and all(part.strip() for part in parts)


@pytest.mark.parametrize("text", ["\n\nDear reader. Hello.", "  \n indented. Hello.", "\r\nHello. There."])
def test_a_text_that_begins_with_an_empty_line_is_whole_too(text):
    parts = sentences(text)
    assert "".join(parts) == text and all(part.strip() for part in parts) and len(parts) == 2


def test_sentences_end_where_a_reader_would_end_them():
    text = 'It rained. "Why now?" asked Ann! We waited (an hour.) Then\nwe went 3.5 km home'
    assert [s.strip() for s in sentences(text)] == [
        "It rained.", '"Why now?"', "asked Ann!", "We waited (an hour.)", "Then", "we went 3.5 km home",
    ]  # fmt: skip


# ---- copies -----------------------------------------------------------------------------------------------------------

ESSAY = (
    "Phones should stay in the bag during lessons. First, a ringing phone stops everybody, not only its owner. Second, "
    "we learn more when we talk to each other.\n\nSome say that phones help us look things up, but a teacher can do that. "
    "In the end the phone is not the problem; we are."
)


@pytest.mark.parametrize("text", [*ODD, ESSAY, "the cat and the dog and the cat and the dog", "", "  spaces   kept\n\n"])
def test_an_honest_text_is_left_as_it_is(text):
    assert without_copies(text) == text


@pytest.mark.parametrize("sep", [" ", "\n\n", "  -- "])
@pytest.mark.parametrize("change", [str, str.upper, lambda t: t.replace(",", "").replace(".", "!"), lambda t: f"“{t}”"])
def test_a_second_copy_is_found_in_whatever_case_and_punctuation(sep, change):
    left = without_copies(ESSAY + sep + change(ESSAY)).split()
    assert left[: len(ESSAY.split())] == ESSAY.split() and not any(w.strip("-!“”") for w in left[len(ESSAY.split()) :])


@pytest.mark.parametrize("mark", [" .", " ,", " -", " ..."])
def test_marks_that_stand_alone_hide_no_copy(mark):
    words = ESSAY.split()
    strewn = " ".join(w + mark if i % 11 == 0 else w for i, w in enumerate(words))
    assert len(re.findall(r"\w+", without_copies(f"{ESSAY} {strewn}"))) <= len(re.findall(r"\w+", ESSAY)) + 5


def test_a_copy_pasted_many_times_or_in_part_gains_nothing():
    words = ESSAY.split()
    assert without_copies("\n".join([ESSAY] * 5)).split() == words
    assert without_copies(ESSAY + " " + " ".join(words[10:40])).split() == words
    assert without_copies(" ".join(words[10:40]) + " new end.").endswith("new end.")


def test_what_comes_between_and_after_copies_stays():
    left = without_copies(f"{ESSAY} But there is one thing more. {ESSAY} That is all.")
    assert left.split() == f"{ESSAY} But there is one thing more. That is all.".split()


def test_a_copy_begins_at_twelve_words():
    """A phrase that a writer repeats is style, not fraud."""
    words = [f"word{i}" for i in range(COPIED_WORDS)]
    phrase, run = " ".join(words[:-1]), " ".join(words)
    assert without_copies(f"{phrase} and {phrase}") == f"{phrase} and {phrase}"
    assert without_copies(f"{run} and {run}") == f"{run} and"


def test_a_word_said_over_and_over_counts_twelve_times():
    """A run of one word overlaps itself and is a copy from twice twelve words on."""
    assert len(without_copies("no " * (2 * COPIED_WORDS - 1)).split()) == 2 * COPIED_WORDS - 1
    for times in (2 * COPIED_WORDS, 40, 500):
        assert without_copies("no " * times).split() == ["no"] * COPIED_WORDS
        assert len(without_copies("no yes " * times).split()) == COPIED_WORDS


@pytest.mark.parametrize("text", [ESSAY, f"{ESSAY} {ESSAY}", "no " * 100, f"{ESSAY} so. {ESSAY[50:]} {ESSAY.lower()} ok", *ODD])
def test_a_text_without_its_copies_has_none(text):
    once = without_copies(text)
    assert without_copies(once) == once


def test_the_sample_school_copies_nothing(sample):
    for split in sample.splits.values():
        assert all(without_copies(text) == text for text in split["text"])
