"""The span of a text that says what an answer says, and how well it says it: exact match, F1, ROUGE-L.

Answers that people wrote in their own words stand nowhere in the text. What an extractive model can learn of them is the span
with the best F1; how good that span is, is the ceiling of every such model.
"""

from __future__ import annotations

import bisect
import functools
import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

ARTICLES = ("a", "an", "the")
PUNCTUATION = str.maketrans("", "", string.punctuation)
WORD, CORE, NO_LETTER = re.compile(r"(?:(?!--)[^\s—–])+"), re.compile(r"\w(?:.*\w)?"), re.compile(r"[\W_]+")
NEAR = 15  # words on either side that may tell one occurrence of an answer from another


class Span(NamedTuple):
    """Characters `start` to `end` of a context, their F1 against an answer, and whether they are its very words."""

    start: int
    end: int
    f1: float
    literal: bool


class Word(NamedTuple):
    """A word in lower case without punctuation, and where it stands."""

    key: str
    start: int
    end: int


class Folded(NamedTuple):
    """A text in lower case with single spaces; `here[i]` is where its word i begins, `there[i]` where in the text."""

    text: str
    here: list[int]
    there: list[int]

    def place(self, character: int) -> int:
        """The character of the text that became `character` here."""
        i = bisect.bisect_right(self.here, character) - 1
        return self.there[i] + character - self.here[i]


@functools.lru_cache(maxsize=512)
def fold(text: str) -> Folded:
    """`text` without what does not matter where a word-for-word answer is looked for.

    >>> fold("The  King").text
    'the king'
    """
    words, here, there, length = [], [], [], 0
    for match in re.finditer(r"\S+", text):
        word, lower = match.group(), match.group().lower()
        words.append(lower if len(lower) == len(word) else word)
        here.append(length)
        there.append(match.start())
        length += len(word) + 1
    return Folded(" ".join(words), here, there)


@functools.lru_cache(maxsize=512)
def find_words(text: str) -> tuple[Word, ...]:
    """The words that count in an F1: no articles, no punctuation. White space and dashes part words, hyphens do not.

    >>> [word.key for word in find_words("The well-known queen--she sang.")]
    ['wellknown', 'queen', 'she', 'sang']
    """
    found = []
    for match in WORD.finditer(text):
        word, start = match.group(), match.start()
        if word.isalnum():
            key, end = word.lower(), match.end()
        elif core := CORE.search(word):
            key = NO_LETTER.sub("", core.group().lower())
            start, end = start + core.start(), start + core.end()
        else:
            continue
        if key and key not in ARTICLES:
            found.append(Word(key, start, end))
    return tuple(found)


def best_span(context: str, answer: str, question: str = "") -> Span | None:
    """Find the span with the best F1 against an answer.

    An answer that stands in the context word for word (case and white space apart) is found as it stands. Of several spans that
    are equally good the shortest is taken, and of these the one with most words of the question around it.

    A best span begins and ends with a word of the answer, each matched once at most. So starts are words of the answer, and an
    end is tried only while all words of the answer together could still reach the best F1 so far.

    Returns:
        The span, or None where no word of the answer stands in the context.
    """
    if literal := _word_for_word(context, answer):
        return Span(*_nearest(literal, context, question), 1.0, True)
    words = find_words(context)
    wanted = Counter(word.key for word in find_words(answer))
    size = wanted.total()
    places = [i for i, word in enumerate(words) if word.key in wanted]
    best, found = 0.0, []
    for n, first in enumerate(places):
        left, shared = dict(wanted), 0
        for last in places[n:]:
            length = last - first + 1
            if 2 * size / (length + size) < best:
                break
            if not left[words[last].key]:
                continue
            left[words[last].key] -= 1
            shared += 1
            f1 = 2 * shared / (length + size)
            if f1 > best:
                best, found = f1, []
            if f1 == best:
                found.append((first, last))
    if not found:
        return None
    shortest = min(last - first for first, last in found)
    spans = [(words[first].start, words[last].end) for first, last in found if last - first == shortest]
    return Span(*_nearest(spans, context, question), best, False)


def _word_for_word(context: str, answer: str) -> list[tuple[int, int]]:
    """Where the answer stands, case and white space apart, and not as a part of longer words."""
    folded, key = fold(context), " ".join(answer.lower().split())
    found = []
    at = folded.text.find(key) if key else -1
    while at >= 0:
        before, after = folded.text[max(at - 1, 0) : at], folded.text[at + len(key) : at + len(key) + 1]
        if not re.match(r"\w", before) and not re.match(r"\w", after):
            found.append((folded.place(at), folded.place(at + len(key) - 1) + 1))
        at = folded.text.find(key, at + 1)
    return found


def _nearest(spans: Sequence[tuple[int, int]], context: str, question: str) -> tuple[int, int]:
    """The span with most words of the question within `NEAR` words of it; the first of several."""
    if len(spans) == 1:
        return spans[0]
    words = find_words(context)
    asked = {word.key for word in find_words(question)}

    def words_near(span: tuple[int, int]) -> int:
        before = [word.key for word in words if word.end <= span[0]][-NEAR:]
        after = [word.key for word in words if word.start >= span[1]][:NEAR]
        return len(asked.intersection([*before, *after]))

    return max(spans, key=words_near)


def normalise(text: str) -> str:
    """SQuAD's normaliser: lower case, no ASCII punctuation, no articles, single spaces."""
    text = text.lower().translate(PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(prediction: str, answer: str) -> float:
    """1 where the two are equal after `normalise`, else 0."""
    return float(normalise(prediction) == normalise(answer))


def token_f1(prediction: str, answer: str) -> float:
    """SQuAD's F1 of the bags of words."""
    a, b = normalise(prediction).split(), normalise(answer).split()
    shared = (Counter(a) & Counter(b)).total()
    return 2 * shared / (len(a) + len(b)) if shared else float(not a and not b)


def rouge_l(prediction: str, answer: str) -> float:
    """ROUGE-L F1 over lower-case runs of ASCII letters and digits, no stemmer."""
    a, b = (re.findall(r"[a-z0-9]+", text.lower()) for text in (prediction, answer))
    row = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for j, y in enumerate(b, start=1):
            diagonal, row[j] = row[j], diagonal + 1 if x == y else max(row[j], row[j - 1])
    return 2 * row[-1] / (len(a) + len(b)) if row[-1] else 0.0
