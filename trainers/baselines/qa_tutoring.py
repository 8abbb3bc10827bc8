"""The cheap baselines of tutoring: one reply for all, the reply that people gave to the most similar learner, likely moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from ..text_classifier import train_text_classifier
from ..tutoring_evaluation import Case, Reply

CONSTANT = "What have you tried so far?"


def constant_replies(cases: Sequence[Case]) -> list[Reply]:
    """The same open question to everybody."""
    return [Reply(CONSTANT, "question") for _ in cases]


def nearest_replies(train: Sequence[Case], cases: Sequence[Case]) -> list[Reply]:
    """The first reply of the training case whose exercise and last turn are most similar (cosine of tf-idf, words and pairs)."""
    known = [_read(case) for case in train]
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+").fit(known)
    similarity = vectorizer.transform([_read(case) for case in cases]) @ vectorizer.transform(known).T
    rows = np.asarray(similarity.argmax(axis=1)).ravel()
    return [train[row].references[0] for row in rows]


def predicted_moves(train: Sequence[Case], cases: Sequence[Case], seed: int = 0) -> dict[str, list[str]]:
    """The move of each case, by those that know nothing of language.

    Returns:
        'majority': the commonest move of training; 'words of the last turn': logistic regression on tf-idf, see
        `text_classifier.train_text_classifier`. {} where training names no moves.
    """
    pairs = [(_read(case), reply.move) for case in train for reply in case.references if reply.move]
    if not pairs:
        return {}
    moves = [move for _, move in pairs]
    found = {"majority": [max(sorted(set(moves)), key=moves.count)] * len(cases)}
    classifier = train_text_classifier(*zip(*pairs, strict=True), seed=seed)
    if classifier is not None:
        found["words of the last turn"] = classifier.predict([_read(case) for case in cases]).tolist()
    return found


def _read(case: Case) -> str:
    last = case.history[-1]["text"] if case.history else ""
    return f"{last} {last} {case.dialogue['problem']}"  # what was said counts more than what it was about
