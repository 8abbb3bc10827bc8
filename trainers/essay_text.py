"""An essay as text: its sentences, and what in it is a copy of itself."""

from __future__ import annotations

import re

COPIED_WORDS = 12
"""So many words in a row that stood in the essay before are a copy."""


def sentences(text: str) -> list[str]:
    """Cut a text into sentences; joined without a separator they are the text again.

    A sentence ends with ., ! or ? (and closing quotes or brackets) before white space, or at a line break.

    >>> sentences("It rains. Why? I stay.")
    ['It rains. ', 'Why? ', 'I stay.']
    """
    start = len(text) - len(text.lstrip())  # white space in front belongs to the first sentence
    ends = [m.end() for m in re.finditer(r"[.!?]+[\"'”’)\]]*\s+|\n+\s*", text) if m.end() > start]
    bounds = [0, *ends, len(text)]
    return [text[a:b] for a, b in zip(bounds, bounds[1:], strict=False) if b > a] if text.strip() else []


def without_copies(text: str) -> str:
    """The text without what it repeats of itself, so that pasting an essay twice gains nothing.

    Words that belong to `COPIED_WORDS` words in a row which stood earlier in the text, in whatever case and punctuation,
    are left out.
    """
    spans = list(re.finditer(r"\S+", text))
    words = [(i, re.sub(r"\W+", "", m.group().lower())) for i, m in enumerate(spans)]
    words = [(i, word) for i, word in words if word]  # a mark that stands alone is no word
    seen: dict[tuple[str, ...], int] = {}
    copied: set[int] = set()
    for k in range(len(words) - COPIED_WORDS + 1):
        key = tuple(word for _, word in words[k : k + COPIED_WORDS])
        first = seen.setdefault(key, k)
        if first + COPIED_WORDS <= k:  # a run of one word overlaps itself and is no copy
            copied.update(range(words[k][0], words[k + COPIED_WORDS - 1][0] + 1))
    return " ".join(m.group() for i, m in enumerate(spans) if i not in copied) if copied else text
