"""BM25 over the words of resources (Robertson and Zaragoza 2009), computed by bm25s."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import bm25s
import numpy as np
from bm25s.stopwords import STOPWORDS_EN


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, without English stop words and plural endings (the S-stemmer of Harman 1991).

    >>> words_of("Introduction to the Hidden Markov Models")
    ['introduction', 'hidden', 'markov', 'model']
    """
    return [_singular(w) for w in re.findall(r"\w+", text.lower()) if w not in STOPWORDS_EN]


@functools.cache
def _singular(word: str) -> str:
    if len(word) < 4 or not word.endswith("s") or word.endswith(("us", "ss")):
        return word
    if word.endswith("ies") and not word.endswith(("eies", "aies")):
        return word[:-3] + "y"
    return word[:-1]


class LexicalIndex:
    """BM25 scores of all resources for any query.

    Args:
        texts: What is read of each resource.
    """

    def __init__(self, texts: Sequence[str]):
        self._index = bm25s.BM25(method="lucene")
        self._size = len(texts)
        # a text without words still is a resource
        self._index.index([words_of(text) or [""] for text in texts], show_progress=False)

    def scores(self, query: str) -> np.ndarray:
        """Float32 array (resources,); 0 where no word is shared."""
        words = [w for w in words_of(query) if w in self._index.vocab_dict]
        return self._index.get_scores(words) if words else np.zeros(self._size, np.float32)
