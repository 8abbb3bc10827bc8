"""The cheap strong baselines of knowledge tracing: base rate, concept mean, PFA, Best-LR, BKT, trees on history features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from scipy.sparse import csr_matrix, diags, hstack
from sklearn.linear_model import LogisticRegression

from ..tracing_features import HISTORY, history_features

PRIOR = 5.0  # answers at the base rate that a concept's mean starts with
BKT_ROUNDS = 20
CONCEPT_RIGHT, CONCEPT_WRONG = HISTORY.index("concept_successes"), HISTORY.index("concept_failures")
COUNTS = [HISTORY.index(c) for c in ("successes", "failures", "question_successes", "question_failures")]


@dataclass
class Steps:
    """The answers of all learners of a split, one a row.

    Attributes:
        features: Float32 (answers, 14), see `tracing_features`.
        concepts: Sparse (answers, concepts + 1); the concepts of an answer share a weight of 1.
        questions: Int64 (answers,), 0 unknown.
        correct: Int64 (answers,).
        learner: Int64 (answers,), row number of the learner.
        step: Int64 (answers,), from 0.
    """

    features: np.ndarray
    concepts: csr_matrix
    questions: np.ndarray
    correct: np.ndarray
    learner: np.ndarray
    step: np.ndarray


def read_steps(learners: Dataset, num_concepts: int, base_rate: float) -> Steps:
    """Lay out a split with the columns of `edu_datasets.schema.RESPONSES`."""
    features, indices, weights, ends, questions, correct, owner, step = [], [], [], [0], [], [], [], []
    for i, row in enumerate(learners):
        features.append(history_features(row["questions"], row["concepts"], row["correct"], row["times"], base_rate)[0])
        for concepts in row["concepts"]:
            indices += concepts
            weights += [1 / len(concepts)] * len(concepts)
            ends.append(len(indices))
        questions += row["questions"]
        correct += row["correct"]
        owner.append(np.full(len(row["correct"]), i))
        step.append(np.arange(len(row["correct"])))
    shape = (len(correct), num_concepts + 1)
    return Steps(
        np.concatenate(features), csr_matrix((weights, indices, ends), shape), np.array(questions), np.array(correct),
        np.concatenate(owner), np.concatenate(step),
    )  # fmt: skip


def tracing_baselines(train: Steps, test: Steps, seed: int = 42) -> dict[str, np.ndarray]:
    """Fit on the answers of `train`; the probability of a correct answer for each of `test`, from the answers before it.

    Returns:
        Name -> float array (answers of test,).
    """
    base = train.correct.mean()
    right, asked = train.concepts.T @ train.correct, np.asarray(train.concepts.sum(axis=0)).ravel()
    concept_mean = (right + PRIOR * base) / (asked + PRIOR)
    name, trees = _trees(train, test, concept_mean, seed)
    return {
        "base rate": np.full(len(test.correct), base),
        "concept mean": test.concepts @ concept_mean,
        "BKT": _bkt(train, test),
        "PFA": _logistic(_pfa(train), train.correct, _pfa(test)),
        "Best-LR": _logistic(_best_lr(train, train), train.correct, _best_lr(test, train)),
        name: trees,
    }


def _pfa(steps: Steps) -> csr_matrix:
    """Each concept's ease, and what successes and failures on it are worth (Pavlik, Cen and Koedinger 2009)."""
    counts = [diags(steps.features[:, i].astype(float)) @ steps.concepts for i in (CONCEPT_RIGHT, CONCEPT_WRONG)]
    return hstack([steps.concepts, *counts]).tocsr()


def _best_lr(steps: Steps, train: Steps) -> csr_matrix:
    """PFA with the counts over all concepts, and the questions' ease (Gervet et al. 2020)."""
    known = np.where(steps.questions <= train.questions.max(), steps.questions, 0)
    one_hot = (np.ones(len(known)), (np.arange(len(known)), known))
    questions = csr_matrix(one_hot, (len(known), train.questions.max() + 1))
    return hstack([_pfa(steps), csr_matrix(steps.features[:, COUNTS].astype(float)), questions]).tocsr()


def _logistic(x: csr_matrix, y: np.ndarray, test: csr_matrix) -> np.ndarray:
    return LogisticRegression(C=1.0, max_iter=300).fit(x, y).predict_proba(test)[:, 1]


def _trees(train: Steps, test: Steps, concept_mean: np.ndarray, seed: int) -> tuple[str, np.ndarray]:
    """Boosted trees on the history features and the concept's mean; LightGBM where it is installed."""
    x, x_test = (np.column_stack([s.features, s.concepts @ concept_mean]) for s in (train, test))
    try:
        from lightgbm import LGBMClassifier
    except ImportError:
        from sklearn.ensemble import HistGradientBoostingClassifier

        trees = HistGradientBoostingClassifier(max_iter=300, learning_rate=0.05, random_state=seed)
        return "gradient boosting, history", trees.fit(x, train.correct).predict_proba(x_test)[:, 1]
    trees = LGBMClassifier(
        n_estimators=300, learning_rate=0.05, num_leaves=63, min_child_samples=100, verbose=-1, random_state=seed,
        n_jobs=torch.get_num_threads(),  # its own choice ignores OMP_NUM_THREADS, and waits in a spin where cores are shared
    )  # fmt: skip
    return "LightGBM, history", trees.fit(x, train.correct).predict_proba(x_test)[:, 1]


# ---- Bayesian knowledge tracing -------------------------------------------------------------------------------------


def _bkt(train: Steps, test: Steps) -> np.ndarray:
    """Two states a concept, learnt and not, without forgetting (Corbett and Anderson 1995); fitted by expectation
    maximization. An answer with several concepts is predicted by their mean."""
    predicted, weight = np.zeros(len(test.correct)), np.zeros(len(test.correct))
    fallback = train.correct.mean()
    for concept in np.flatnonzero(np.asarray(test.concepts.sum(axis=0)).ravel()):
        answers, _ = _sequences(train, concept)
        own, rows = _sequences(test, concept)
        p = _predict_bkt(own, _fit_bkt(answers)) if len(answers) else np.full(own.shape, fallback)
        known = own >= 0
        share = np.asarray(test.concepts[rows[known], concept].todense()).ravel()
        predicted[rows[known]] += share * p[known]
        weight[rows[known]] += share
    return np.where(weight > 0, predicted / np.maximum(weight, 1e-9), fallback)


def _sequences(steps: Steps, concept: int) -> tuple[np.ndarray, np.ndarray]:
    """The answers on a concept, int8 (learners, longest), -1 where there is none, and the row of each."""
    rows = np.flatnonzero(np.asarray(steps.concepts[:, [concept]].todense()).ravel())
    learners, counts = np.unique(steps.learner[rows], return_counts=True)
    answers = np.full((len(learners), counts.max(initial=0)), -1, np.int8)
    where = np.zeros(answers.shape, np.int64)
    inside = np.arange(answers.shape[1])[None, :] < counts[:, None]
    answers[inside], where[inside] = steps.correct[rows], rows  # rows are in the order of learners and steps
    return answers, where


def _fit_bkt(answers: np.ndarray) -> tuple[float, float, float, float]:
    """(known at first, learnt a step, guess, slip); guess and slip stay below a half."""
    known, learn, guess, slip = 0.4, 0.15, 0.2, 0.1
    for _ in range(BKT_ROUNDS):
        right = np.array([guess, 1 - slip])  # of a state
        n, longest = answers.shape
        seen, correct = answers >= 0, answers[..., None] == 1
        emission = np.where(seen[..., None], np.where(correct, right, 1 - right), 1.0)
        move = np.array([[1 - learn, learn], [0.0, 1.0]])
        forward, scale = np.empty((n, longest, 2)), np.empty((n, longest, 1))
        state = np.tile([1 - known, known], (n, 1))
        for t in range(longest):
            if t:
                state = forward[:, t - 1] @ move
            forward[:, t] = state * emission[:, t]
            scale[:, t] = forward[:, t].sum(axis=1, keepdims=True)
            forward[:, t] /= scale[:, t]
        backward = np.ones((n, longest, 2))
        for t in range(longest - 2, -1, -1):
            backward[:, t] = (backward[:, t + 1] * emission[:, t + 1]) @ move.T / scale[:, t + 1]
        posterior = forward * backward * seen[..., None]
        pairs = forward[:, :-1, 0] * learn * emission[:, 1:, 1] * backward[:, 1:, 1] / scale[:, 1:, 0] * seen[:, 1:]
        states = posterior.sum(axis=(0, 1)) + 1e-9
        before = (posterior[:, :-1, 0] * seen[:, 1:]).sum() + 1e-9
        known = float(np.clip(posterior[:, 0, 1].mean(), 0.01, 0.99))
        learn = float(np.clip(pairs.sum() / before, 0.001, 0.9))
        guess = float(np.clip(posterior[..., 0][answers == 1].sum() / states[0], 0.01, 0.49))
        slip = float(np.clip(posterior[..., 1][answers == 0].sum() / states[1], 0.01, 0.49))
    return known, learn, guess, slip


def _predict_bkt(answers: np.ndarray, parameters: tuple[float, float, float, float]) -> np.ndarray:
    """Probability of a correct answer at each step, from the answers before it."""
    known, learn, guess, slip = parameters
    state, p = np.full(len(answers), known), np.empty(answers.shape)
    for t in range(answers.shape[1]):
        p[:, t] = state * (1 - slip) + (1 - state) * guess
        right = answers[:, t] == 1
        learnt = np.where(right, state * (1 - slip) / p[:, t], state * slip / (1 - p[:, t]))
        state = learnt + (1 - learnt) * learn
    return p
