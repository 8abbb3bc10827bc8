"""How well questions were answered, how well a system knows when it does not know, and where that differs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from .answer_decoding import Answers
from .intervals import bootstrap_counts, interval_of
from .metrics.answers import answer_scores

RIGHT = 0.5
"""The ROUGE-L from which on an answer counts as right."""
SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)
"""Shares of the questions that are answered, for the risk-coverage curve."""
FEW = 20
"""A kind of question with fewer questions is not told apart."""
BOOTSTRAP_DRAWS = 1000


def fit_threshold(no_answer: np.ndarray, scores: np.ndarray, answerable: np.ndarray) -> float | None:
    """The no-answer score from which on to abstain, so that the mean score of these questions is highest.

    Args:
        no_answer: Float array (questions,), the higher the likelier that there is no answer.
        scores: Float array (questions,), what each answer is worth if it is given; 0 for unanswerable questions.
        answerable: Bool array (questions,); abstaining is worth 1 where it is False, else 0.

    Returns:
        The threshold; None, never to abstain, where all are answerable or abstaining never helps.
    """
    if answerable.all():
        return None
    order = np.argsort(no_answer, kind="stable")
    rising = np.clip(no_answer[order], -1e30, 1e30)  # without a span the score is infinite
    # the first k are answered, the others are not
    worth = np.r_[0, np.cumsum(scores[order])] + np.r_[np.cumsum(~answerable[order][::-1])[::-1], 0]
    possible = np.r_[True, np.diff(rising) > 0, True]  # equal scores are not told apart
    k = int(np.argmax(np.where(possible, worth, -1)))
    if k == len(rising):
        return None
    return float(rising[k] - 1 if k == 0 else (rising[k - 1] + rising[k]) / 2)


def score_answers(
    answers: Answers, references: Sequence[Sequence[str]], threshold: float | None
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """What a system's answers are worth.

    Args:
        answers: To each question of a split.
        references: Of each question, [] where it has no answer.
        threshold: The no-answer score from which on it abstains, None never.

    Returns:
        Metrics: exact_match, f1, rouge_l, over all questions, abstention counting as an empty answer; answered, the share of
        questions that are answered; confidence_roc_auc, how well the confidence ranks right answers (ROUGE-L of `RIGHT` or
        more) above others, abstention apart, 0.5 where all are right or none. And of each question, float arrays
        (questions,): exact_match, f1, rouge_l, and right, 1 or 0, abstention apart.
    """
    each = answer_scores(answers.texts, references)
    answerable = np.array([bool(known) for known in references])
    right = ((each["rouge_l"] >= RIGHT) & answerable).astype(float)
    abstain = answers.abstain(threshold)
    each = {name: np.where(abstain, ~answerable, values).astype(float) for name, values in each.items()}
    metrics = {name: float(values.mean()) for name, values in each.items()}
    metrics["answered"] = float(1 - abstain.mean())
    metrics["confidence_roc_auc"] = _roc_auc(right, answers.confidence)
    return metrics, {**each, "right": right}


def abstention(no_answer: np.ndarray, answerable: np.ndarray, made: bool) -> dict[str, Any] | None:
    """How well the no-answer score tells questions without an answer from others.

    Args:
        no_answer: Float array (questions,), the higher the likelier that there is none.
        answerable: Bool array (questions,).
        made: Whether the unanswerable ones were made by putting questions to other passages.

    Returns:
        roc_auc, questions, unanswerable, made; None where all questions have an answer, or none has.
    """
    if answerable.all() or not answerable.any():
        return None
    value = _roc_auc(~answerable, np.clip(no_answer, -1e30, 1e30))
    return {"roc_auc": value, "questions": len(answerable), "unanswerable": int((~answerable).sum()), "made": made}


def _roc_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    return float(roc_auc_score(labels, scores)) if 0 < np.mean(labels) < 1 else 0.5


def human_answers(references: Sequence[Sequence[str]]) -> tuple[dict[str, float], dict[str, np.ndarray]] | None:
    """The first reference against the others, where a question has several: how far people agree.

    Returns:
        Metrics, and the scores of each question, nan where it has one reference or none; None where no question has two.
    """
    several = np.array([len(known) > 1 for known in references])
    if not several.any():
        return None
    asked = [known for known in references if len(known) > 1]
    each = answer_scores([known[0] for known in asked], [known[1:] for known in asked])
    table = {name: np.full(len(references), np.nan) for name in each}
    for name, values in each.items():
        table[name][several] = values
    return {name: float(values.mean()) for name, values in each.items()}, table


def answer_intervals(
    values: dict[str, np.ndarray], stories: Sequence[str], ours: str, seed: int
) -> dict[str, dict[str, list[float]]]:
    """95% interval of the mean of each system, and of ours minus it, drawing whole stories.

    Args:
        values: System -> score of each question, float array (questions,), nan where it has none.
        stories: The story of each question.
        ours: Which system the others are compared with.
        seed: Of the draws.

    Returns:
        System -> "interval" and, but for ours and where a score is missing, "behind".
    """
    counts = bootstrap_counts(stories, BOOTSTRAP_DRAWS, seed)
    means = {}
    for name, own in values.items():
        known = ~np.isnan(own)
        drawn = counts[:, known]
        with np.errstate(invalid="ignore"):  # a draw without such a question is left out
            means[name] = drawn @ own[known] / drawn.sum(axis=1)
    table = {name: {"interval": list(interval_of(draws))} for name, draws in means.items()}
    for name, draws in means.items():
        if name != ours and not np.isnan(values[name]).any():
            table[name]["behind"] = list(interval_of(means[ours] - draws))
    return table


def risk_coverage(confidence: np.ndarray, each: dict[str, np.ndarray]) -> list[dict[str, float]]:
    """What the answers are worth if only the surest are given, the rest left to a person.

    Args:
        confidence: Float array (questions,).
        each: See `score_answers`.

    Returns:
        For each of `SHARES`: coverage, the share that is answered; rouge_l and right, means over these.
    """
    surest = np.argsort(-confidence, kind="stable")
    curve = []
    for share in SHARES:
        rows = surest[: max(1, round(share * len(surest)))]
        curve.append({"coverage": len(rows) / len(surest), **{m: float(each[m][rows].mean()) for m in ("rouge_l", "right")}})
    return curve


def by_kind(
    attributes: Sequence[Sequence[str]], names: Sequence[str], values: dict[str, np.ndarray]
) -> dict[str, dict[str, dict[str, float]]]:
    """Mean scores for each kind of question.

    Args:
        attributes: Of each question one entry a name, '' unknown.
        names: What they are called.
        values: System -> score of each question.

    Returns:
        name -> value -> questions, and the mean of each system; kinds of fewer than `FEW` questions are left out.
    """
    table: dict[str, dict[str, dict[str, float]]] = {}
    for i, name in enumerate(names):
        column = np.array([row[i] for row in attributes])
        for value in sorted(set(column.tolist()) - {""}):
            rows = column == value
            if rows.sum() >= FEW:
                means = {system: float(own[rows].mean()) for system, own in values.items()}
                table.setdefault(name, {})[value] = {"questions": int(rows.sum()), **means}
    return table
