"""What a question gets without any model: the first sentence, or the sentence that shares most of its words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from datasets import Dataset

from ..answer_decoding import Answers
from ..essay_text import sentences


def answering_baselines(train: Dataset) -> dict[str, Callable[[Dataset], Answers]]:
    """Fit on the training texts.

    Args:
        train: Columns of `edu_datasets.schema.PASSAGES`.

    Returns:
        Name -> function from a split to its answers. 'best lexical sentence' takes the sentence with the largest share of the
        question's words, weighed by how rare they are in the training texts (inverse document frequency); of equal ones the
        shortest. Its confidence is that share; the first sentence is always as sure.
    """
    texts = set(train["context"])
    found = Counter(word for text in texts for word in set(_words(text)))
    rare = {word: float(np.log((len(texts) + 1) / (n + 0.5))) for word, n in found.items()}
    unknown = float(np.log((len(texts) + 1) / 0.5))

    def lexical(context: str, question: str) -> tuple[int, int, float]:
        asked = {word: rare.get(word, unknown) for word in _words(question)}
        best = (0, 0, -1.0)
        for start, end, words in _read(context):
            share = sum(weight for word, weight in asked.items() if word in words) / max(sum(asked.values()), 1e-9)
            if share > best[2] or (share == best[2] and end - start < best[1] - best[0]):
                best = (start, end, share)
        return best

    def first(context: str, question: str) -> tuple[int, int, float]:
        return (*(_read(context) or ((0, 0, ()),))[0][:2], 0.0)

    def answerer(find: Callable[[str, str], tuple[int, int, float]]) -> Callable[[Dataset], Answers]:
        def answer(rows: Dataset) -> Answers:
            contexts = rows["context"][:]
            found = np.array([find(c, q) for c, q in zip(contexts, rows["question"], strict=True)], float).reshape(-1, 3)
            spans, sure = found[:, :2].astype(int), found[:, 2]
            return Answers([c[a:b] for c, (a, b) in zip(contexts, spans.tolist(), strict=True)], spans, -sure, sure)

        return answer

    return {"first sentence": answerer(first), "best lexical sentence": answerer(lexical)}


def _words(text: str) -> list[str]:
    """Runs of letters and digits in lower case."""
    return re.findall(r"\w+", text.lower())


@lru_cache(maxsize=4096)
def _read(context: str) -> tuple[tuple[int, int, frozenset[str]], ...]:
    """The sentences of a text: characters from and to, without white space around them, and their words."""
    found, at = [], 0
    for sentence in sentences(context):
        said = sentence.strip()
        start = at + len(sentence) - len(sentence.lstrip())
        if said:
            found.append((start, start + len(said), frozenset(_words(said))))
        at += len(sentence)
    return tuple(found)
