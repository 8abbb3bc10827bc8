"""What kind a short text is: which move a tutor's turn makes, what a question asks for. A classifier of its words, the judge of
whether a language model did what it was asked to.

It is trained on texts that the model has not learnt from. How well it knows people's is printed beside every figure that it
gives: what it does not recognise in people it cannot recognise in a model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline, make_union

FEWEST = 2  # texts of a kind, and kinds, without which there is nothing to tell apart


def train_text_classifier(texts: Sequence[str], kinds: Sequence[str], seed: int = 0) -> Pipeline | None:
    """Logistic regression over words, pairs of words and parts of words (tf-idf).

    Args:
        texts: Turns, or questions.
        kinds: The kind of each; those without one ('') are left out.
        seed: Of the solver.

    Returns:
        Something with `predict(texts)`; None where fewer than two kinds have two texts.
    """
    known = [(text, kind) for text, kind in zip(texts, kinds, strict=True) if kind]
    counts = Counter(kind for _, kind in known)
    if sum(count >= FEWEST for count in counts.values()) < FEWEST:
        return None
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[?!=]")
    parts = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    model = LogisticRegression(C=4.0, class_weight="balanced", max_iter=2000, random_state=seed)
    return make_pipeline(make_union(words, parts), model).fit([text for text, _ in known], [kind for _, kind in known])


def macro_f1(predicted: Sequence[str], true: Sequence[str]) -> float:
    """Mean over the kinds that occur among the true ones of F1, 0 to 1."""
    predicted, true = np.asarray(predicted), np.asarray(true)
    scores = []
    for kind in sorted(set(true.tolist())):
        hit = np.sum((predicted == kind) & (true == kind))
        scores.append(2 * hit / (np.sum(predicted == kind) + np.sum(true == kind)))
    return float(np.mean(scores)) if scores else 0.0
