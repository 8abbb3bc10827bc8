"""Which move a tutor's turn makes: a classifier of its words, the judge of whether a tutor did what it was asked to.

It is trained on replies that the tutor has not learnt from. How well it knows people's moves is printed beside every figure that
it gives: what it does not recognise in people it cannot recognise in a model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline, make_union

FEWEST = 2  # replies of a move, and moves, without which there is nothing to tell apart


def train_move_classifier(texts: Sequence[str], moves: Sequence[str], seed: int = 0) -> Pipeline | None:
    """Logistic regression over words, pairs of words and parts of words (tf-idf).

    Args:
        texts: Turns.
        moves: The move of each; turns without a move ('') are left out.
        seed: Of the solver.

    Returns:
        Something with `predict(texts)`; None where fewer than two moves have two turns.
    """
    known = [(text, move) for text, move in zip(texts, moves, strict=True) if move]
    counts = {move: sum(m == move for _, m in known) for move in dict.fromkeys(m for _, m in known)}
    if sum(count >= FEWEST for count in counts.values()) < FEWEST:
        return None
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[?!=]")
    parts = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    model = LogisticRegression(C=4.0, class_weight="balanced", max_iter=2000, random_state=seed)
    return make_pipeline(make_union(words, parts), model).fit([text for text, _ in known], [move for _, move in known])


def macro_f1(predicted: Sequence[str], true: Sequence[str]) -> float:
    """Mean over the moves that occur among the true ones of F1, 0 to 1."""
    predicted, true = np.asarray(predicted), np.asarray(true)
    scores = []
    for move in sorted(set(true.tolist())):
        hit = np.sum((predicted == move) & (true == move))
        scores.append(2 * hit / (np.sum(predicted == move) + np.sum(true == move)))
    return float(np.mean(scores)) if scores else 0.0
