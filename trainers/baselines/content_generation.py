"""Questions that need no language model: the most typical one, how such questions begin and the answer, the nearest known one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from datasets import Dataset
from sklearn.feature_extraction.text import TfidfVectorizer

from ..metrics.replies import rouge_l

TYPICAL_OF = 200  # training questions, drawn at random, among which the typical one is looked for
BEGINNING = 3  # words


def generation_baselines(train: Dataset, rows: Dataset, control: int | None, seed: int) -> dict[str, list[str]]:
    """A question for each of `rows`, which tell text, answer and attributes.

    Args:
        train: The training split, columns of `edu_datasets.schema.PASSAGES`.
        rows: Likewise.
        control: Which entry of attributes tells how a question begins; None for none.
        seed: Of the draws.

    Returns:
        'constant question': the training question that is most like all others (mean ROUGE-L). 'beginning + answer': the
        commonest first words of training questions with this attribute, then the answer; it gives the answer away. 'nearest
        question': that of the training answer and text with the highest cosine of tf-idf.
    """
    asked = train["question"][:]
    drawn = [asked[i] for i in np.random.default_rng(seed).permutation(len(asked))[:TYPICAL_OF]]
    typical = max(drawn, key=lambda q: sum(rouge_l(q, other) for other in drawn))

    beginnings: dict[str, Counter[str]] = defaultdict(Counter)
    for question, kind in zip(asked, _kinds(train, control), strict=True):
        for key in (kind, None):
            beginnings[key][" ".join(question.split()[:BEGINNING])] += 1
    begun = [
        f"{beginnings[kind if kind in beginnings else None].most_common(1)[0][0]} {answers[0] if answers else ''}".strip(" .?")
        + "?"
        for kind, answers in zip(_kinds(rows, control), rows["answers"], strict=True)
    ]

    known = _read(train)
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+").fit(known)
    table = vectorizer.transform(known).T.tocsc()
    similarity = vectorizer.transform(_read(rows))
    nearest = [asked[int(np.asarray((similarity[i] @ table).argmax(axis=1)).item())] for i in range(len(rows))]
    return {"constant question": [typical] * len(rows), "beginning + answer": begun, "nearest question": nearest}


def _kinds(rows: Dataset, control: int | None) -> list[str]:
    return [values[control] if control is not None else "" for values in rows["attributes"]]


def _read(rows: Dataset) -> Sequence[str]:
    """The answer counts as much as all of the text."""
    texts = []
    for context, answers in zip(rows["context"], rows["answers"], strict=True):
        answer = answers[0] if answers else ""
        texts.append(f"{' '.join([answer] * max(1, len(context.split()) // max(1, len(answer.split()))))} {context}")
    return texts
