"""What can be counted in an essay: words and word pairs, and surface features. For baselines and for the hybrid.

Words are hashed, so a published model holds no word that a learner wrote.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import normalize

from .essay_text import without_copies

WORD = r"[\w'@]+"
HASHED_COLUMNS = 2**18
MOST_COLUMNS = 30_000
RIDGE_ALPHAS = (0.3, 1.0, 3.0, 10.0)
SURFACE_WEIGHT = 0.25  # surface features at a quarter, so that a ridge's penalty weighs them as it weighs words
SURFACE = (
    "words", "characters", "square_root_of_words", "fourth_root_of_words", "mean_word_length", "sd_word_length",
    "long_words", "type_token_ratio", "different_words", "sentences", "words_a_sentence", "commas_a_word",
    "other_punctuation_a_word",
)  # fmt: skip


def surface_features(texts: Sequence[str]) -> np.ndarray:
    """Thirteen counts that know nothing of content; what a text repeats of itself does not count.

    Returns:
        Float array (texts, 13), in the order of `SURFACE`; long_words is the share of words over six letters.
    """
    rows = []
    for text in map(without_copies, texts):
        words = re.findall(WORD, text.lower())
        n = max(len(words), 1)
        lengths = np.array([len(w) for w in words] or [0])
        sentences = max(len(re.findall(r"[.!?]+(?:\s|$)", text)), 1)
        rows.append([
            len(words), len(text), n**0.5, n**0.25, lengths.mean(), lengths.std(), np.mean(lengths > 6),
            len(set(words)) / n, len(set(words)), sentences, n / sentences, text.count(",") / n,
            len(re.findall(r"[^\w\s,.]", text)) / n,
        ])  # fmt: skip
    return np.array(rows, float).reshape(len(rows), len(SURFACE))


@dataclass
class EssayFeatures:
    """tf-idf of hashed words and word pairs beside standardized surface features, fitted on the essays of one prompt.

    Attributes:
        columns: int64 array (kept,), the hashed columns in use, ascending.
        idf: float64 array (kept,).
        topic: float64 array (kept,), of length 1: from the mean essay of other prompts to the mean essay of this one.
        surface_mean, surface_scale: float64 arrays (13,).
    """

    columns: np.ndarray
    idf: np.ndarray
    topic: np.ndarray
    surface_mean: np.ndarray
    surface_scale: np.ndarray

    @classmethod
    def fit(cls, texts: Sequence[str], others: csr_matrix | None = None) -> EssayFeatures:
        """Words that stand in three essays or more (fewer where there are fewer essays), the most frequent 30,000.

        Args:
            texts: Training essays of one prompt.
            others: `hashed_words` of other prompts' training essays; without them the topic is what stands in the essays
                themselves.
        """
        counts = hashed_words(texts)
        frequency = np.asarray((counts > 0).sum(axis=0)).ravel()
        kept = np.flatnonzero(frequency >= min(3, len(texts)))
        kept = kept if len(kept) else np.flatnonzero(frequency)  # hardly any word twice: a few essays, or another script
        kept = np.sort(kept[np.argsort(-frequency[kept], kind="stable")[:MOST_COLUMNS]])
        frequency = frequency[kept]
        idf = np.log((1 + len(texts)) / (1 + frequency)) + 1
        surface = surface_features(texts)
        scale = surface.std(axis=0)
        features = cls(kept, idf, np.zeros(len(kept)), surface.mean(axis=0), np.where(scale > 0, scale, 1.0))
        topic = np.asarray(features.words(texts, counts).mean(axis=0)).ravel()
        if others is not None and others.shape[0]:
            topic = topic - np.asarray(features.words([], others).mean(axis=0)).ravel()
        features.topic = topic / max(np.linalg.norm(topic), 1e-12)
        return features

    def words(self, texts: Sequence[str], counts: csr_matrix | None = None) -> csr_matrix:
        """tf-idf with sublinear tf, rows of length 1; sparse float array (texts, kept). `counts` saves hashing again."""
        used = (hashed_words(texts) if counts is None else counts)[:, self.columns].tocsr()
        used.data = 1 + np.log(used.data)
        if not len(self.columns):
            return used
        return normalize(used.multiply(self.idf).tocsr())

    def surface(self, texts: Sequence[str]) -> np.ndarray:
        """Standardized surface features, float array (texts, 13)."""
        return (surface_features(texts) - self.surface_mean) / self.surface_scale

    def oddity(self, texts: Sequence[str], words: csr_matrix) -> dict[str, np.ndarray]:
        """How an essay may differ from the graded ones; float arrays (texts,), 0 to 1 where nothing else is said.

        Returns:
            on_topic: cosine with `topic`, from -1 on; familiar: share of the word pairs that training essays have, too (a heap
            of fitting words has few of them); copied: share of the words that repeat the essay itself; empty: whether there
            is no word, bool.
        """
        pairs = hashed_words(texts, (2, 2))
        length = np.array([len(t.split()) for t in texts])
        left = np.array([len(without_copies(t).split()) for t in texts])
        return {
            "on_topic": words @ self.topic,
            "familiar": _sum(pairs[:, self.columns]) / np.maximum(_sum(pairs), 1),
            "copied": 1 - left / np.maximum(length, 1),
            "empty": np.array([re.search(r"\w", t) is None for t in texts], bool),
        }


def _sum(counts: csr_matrix) -> np.ndarray:
    return np.asarray(counts.sum(axis=1)).ravel()


def hashed_words(texts: Sequence[str], ngram_range: tuple[int, int] = (1, 2)) -> csr_matrix:
    """Counts of words and word pairs by hashed column; sparse float array (texts, `HASHED_COLUMNS`)."""
    hasher = HashingVectorizer(
        n_features=HASHED_COLUMNS, ngram_range=ngram_range, token_pattern=WORD, alternate_sign=False, norm=None
    )
    return hasher.transform([without_copies(t) for t in texts]).tocsr()


@dataclass
class PromptRidge:
    """A ridge on words and surface features of one prompt: the strongest cheap scorer, as an object that can be saved.

    Attributes:
        features: Fitted on the training essays.
        weights: float64 array (kept + 13, scores).
        bias: float64 array (scores,).
    """

    features: EssayFeatures
    weights: np.ndarray
    bias: np.ndarray

    @classmethod
    def fit(cls, texts: Sequence[str], targets: np.ndarray, others: csr_matrix | None = None) -> PromptRidge:
        """Each score by a ridge whose strength is chosen by leave-one-out on the training essays.

        Args:
            texts: Training essays of one prompt.
            targets: Float array (texts, scores), scaled to 0..1, nan where missing.
            others: `hashed_words` of training essays of other prompts, for telling them apart.
        """
        features = EssayFeatures.fit(texts, others)
        x = features_of(features, hashed_words(texts), texts)[0]
        weights, bias = np.zeros((x.shape[1], targets.shape[1])), np.zeros(targets.shape[1])
        for score, y in enumerate(targets.T):
            known = np.flatnonzero(~np.isnan(y))
            if len(known) > 1:
                ridge = RidgeCV(RIDGE_ALPHAS).fit(x[known], y[known])
                weights[:, score], bias[score] = ridge.coef_, ridge.intercept_
            elif len(known):
                bias[score] = y[known[0]]
        return cls(features, weights, bias)

    def read(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Everything that is counted in essays of the prompt.

        Returns:
            ridge: float array (texts, scores), scaled to 0..1; surface: (texts, 13); and `EssayFeatures.oddity`.
        """
        counts = hashed_words(texts)
        x, words, surface = features_of(self.features, counts, texts)
        return {
            "ridge": x @ self.weights + self.bias, "surface": surface, **self.features.oddity(texts, words),
        }  # fmt: skip


def features_of(features: EssayFeatures, counts: csr_matrix, texts: Sequence[str]) -> tuple[csr_matrix, csr_matrix, np.ndarray]:
    """What a ridge reads, words and surface features side by side, and both of them alone."""
    words, surface = features.words(texts, counts), features.surface(texts)
    return hstack([words, csr_matrix(SURFACE_WEIGHT * surface)]).tocsr(), words, surface
