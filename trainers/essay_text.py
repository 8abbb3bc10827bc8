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
    ends = [m.end() for m in re.finditer(r"[.!?]+[\"'”’)\]]*\s+|\n+\s*", text)]
    bounds = [0, *ends, len(text)]
    pieces = [text[a:b] for a, b in zip(bounds, bounds[1:], strict=False) if b > a]
    return [p for p in pieces if p.strip()] if text.strip() else []


def without_copies(text: str) -> str:
    """The text without what it repeats of itself, so that pasting an essay twice gains nothing.

    Words that belong to `COPIED_WORDS` words in a row which stood earlier in the text, in whatever case and punctuation,
    are left out.
    """
    spans = list(re.finditer(r"\S+", text))
    words = [re.sub(r"\W+", "", m.group().lower()) or m.group() for m in spans]
    seen: dict[tuple[str, ...], int] = {}
    copied = [False] * len(words)
    for i in range(len(words) - COPIED_WORDS + 1):
        key = tuple(words[i : i + COPIED_WORDS])
        first = seen.setdefault(key, i)
        if first + COPIED_WORDS <= i:  # a run of one word overlaps itself and is no copy
            copied[i : i + COPIED_WORDS] = [True] * COPIED_WORDS
    if not any(copied):
        return text
    return " ".join(m.group() for m, copy in zip(spans, copied, strict=True) if not copy)
