"""How hard a text is to read: the grade of Flesch and Kincaid, and three levels of it that can be asked for."""

from __future__ import annotations

import functools
import importlib.util
import math
import re
from collections.abc import Sequence

from .essay_text import sentences
from .parser import ConfigurationError

LEVELS = {"easy": (-math.inf, 2.0), "medium": (2.0, 5.0), "hard": (5.0, math.inf)}
"""Grades of US schools from and to, the first included. A question of ten short words has about grade 3."""


def check_pyphen() -> None:
    """Raise ConfigurationError where pyphen is not installed; told before training, not behind it."""
    if importlib.util.find_spec("pyphen") is None:
        raise ConfigurationError("reading levels need pyphen: pip install 'edu-recipes[generation]'.")


def reading_grade(text: str) -> float:
    """The grade of Flesch and Kincaid (Kincaid et al. 1975) of an English text; 0 where it has no words.

    0.39 words a sentence + 11.8 syllables a word - 15.59. Syllables are where pyphen's dictionary lets a word be hyphenated: a
    little fewer than are spoken.
    """
    words = re.findall(r"[^\W\d_]+", text)
    if not words:
        return 0.0
    parts = sum(bool(re.search(r"\w", part)) for part in sentences(text))
    return 0.39 * len(words) / max(1, parts) + 11.8 * sum(map(_syllables, words)) / len(words) - 15.59


def reading_level(text: str) -> str:
    """Which of `LEVELS` a text has.

    >>> reading_level("Who hid it?")
    'easy'
    """
    grade = reading_grade(text)
    return next(name for name, (low, high) in LEVELS.items() if low <= grade < high)


def mean_grade(texts: Sequence[str]) -> float:
    """The mean of `reading_grade`."""
    return sum(map(reading_grade, texts)) / max(1, len(texts))


@functools.cache
def _hyphenation():
    import pyphen

    return pyphen.Pyphen(lang="en_US", left=1, right=1)


@functools.lru_cache(maxsize=50_000)
def _syllables(word: str) -> int:
    return len(_hyphenation().positions(word.lower())) + 1
