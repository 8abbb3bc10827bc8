"""What an essay scorer must beat: people, the mean, length, surface features, word counts.

Each baseline is fitted on the same training rows, calibrated on the same validation rows in the same way as the model,
and scored on the same test rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from datasets import Dataset
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

RIDGE_ALPHAS = (0.3, 1.0, 3.0, 10.0)
"""Strengths tried on validation."""


def surface_features(texts: Sequence[str]) -> np.ndarray:
    """Thirteen counts that know nothing of content.

    Returns:
        Float array (texts, 13): words, characters, square and fourth root of the words, mean word length, its sd, share of
        words over six letters, type-token ratio, different words, sentences, words a sentence, commas a word, other
        punctuation a word.
    """
    rows = []
    for text in texts:
        words = re.findall(r"[\w'@]+", text.lower())
        n = max(len(words), 1)
        lengths = np.array([len(w) for w in words] or [0])
        sentences = max(len(re.findall(r"[.!?]+(?:\s|$)", text)), 1)
        rows.append(
            [
                len(words), len(text), n**0.5, n**0.25, lengths.mean(), lengths.std(), np.mean(lengths > 6),
                len(set(words)) / n, len(set(words)), sentences, n / sentences, text.count(",") / n,
                len(re.findall(r"[^\w\s,.]", text)) / n,
            ]  # fmt: skip
        )
    return np.array(rows, float)


def essay_baselines(splits: dict[str, Dataset], targets: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Raw scores of every baseline.

    Args:
        splits: train, validation, test with the columns prompt_id and text.
        targets: For each split, float array (rows, scores), each score scaled to 0..1 by its prompt's range; nan missing.

    Returns:
        Baseline -> {"validation": array (rows, scores), "test": likewise}, scaled as the targets, not calibrated.
    """
    shape = {s: targets[s].shape for s in ("validation", "test")}
    names = ("prompt mean", "length, ridge", "surface features, ridge", "tf-idf + surface, ridge")
    raw = {name: {s: np.full(shape[s], np.nan) for s in shape} for name in names}
    prompts = {s: np.array(d["prompt_id"]) for s, d in splits.items()}
    texts = {s: np.array(d["text"], dtype=object) for s, d in splits.items()}
    for prompt in sorted(set(prompts["train"])):
        here = {s: prompts[s] == prompt for s in splits}
        parts = {s: texts[s][here[s]].tolist() for s in splits}
        surface = {s: surface_features(t) for s, t in parts.items() if t}
        scaler = StandardScaler().fit(surface["train"])
        surface = {s: scaler.transform(f) for s, f in surface.items()}
        words = TfidfVectorizer(
            ngram_range=(1, 2), min_df=min(3, len(parts["train"])), max_features=30_000, sublinear_tf=True,
            token_pattern=r"[\w'@]+",
        )  # fmt: skip
        words.fit(parts["train"] if any(map(str.split, parts["train"])) else ["empty"])
        features = {
            "length, ridge": {s: f[:, [0, 2, 3]] for s, f in surface.items()},
            "surface features, ridge": surface,
            "tf-idf + surface, ridge": {
                # surface features at a quarter, so that the penalty weighs them as it weighs words
                s: hstack([words.transform(parts[s]), csr_matrix(0.25 * f)]).tocsr() for s, f in surface.items()
            },
        }
        for score in range(targets["train"].shape[1]):
            y = {s: targets[s][here[s], score] for s in splits}
            known = ~np.isnan(y["train"])
            if not known.any():
                continue
            for s in shape:
                raw["prompt mean"][s][here[s], score] = y["train"][known].mean()
            for name, x in features.items():
                ridge = _best_ridge(x, y, known)
                for s in shape:
                    if s in x:
                        raw[name][s][here[s], score] = ridge.predict(x[s])
    return raw


def _best_ridge(x: dict, y: dict[str, np.ndarray], known: np.ndarray) -> Ridge:
    """The ridge whose strength has the smallest squared error on validation."""
    best, least = None, np.inf
    for alpha in RIDGE_ALPHAS:
        ridge = Ridge(alpha=alpha, solver="auto").fit(x["train"][np.flatnonzero(known)], y["train"][known])
        error = np.nanmean((ridge.predict(x["validation"]) - y["validation"]) ** 2) if "validation" in x else 0.0
        if best is None or error < least:
            best, least = ridge, error
    return best
