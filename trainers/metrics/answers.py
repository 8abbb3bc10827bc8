"""Whether an answer says what the references say: exact match and F1 as SQuAD counts them, and ROUGE-L."""

import re
import string
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import datasets
import evaluate
import numpy as np

PUNCTUATION = str.maketrans("", "", string.punctuation)
ROUGE = "rouge-score 0.1.2: lower-case runs of ASCII letters and digits, no stemmer, F-measure"
"""How ROUGE-L is counted, for the report."""


def normalize_answer(text: str) -> str:
    """SQuAD's normalizer: lower case, no ASCII punctuation, no articles, single spaces.

    >>> normalize_answer("The  King's men!")
    'kings men'
    """
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text.lower().translate(PUNCTUATION)).split())


def token_f1(prediction: str, reference: str) -> float:
    """F1 of the two bags of normalized words; two empty ones agree."""
    a, b = normalize_answer(prediction).split(), normalize_answer(reference).split()
    shared = (Counter(a) & Counter(b)).total()
    return 2 * shared / (len(a) + len(b)) if shared else float(not a and not b)


def rouge_l(prediction: str, reference: str) -> float:
    """ROUGE-L (Lin 2004), the F-measure of the longest common subsequence; see `ROUGE`."""
    return _scorer().score(reference, prediction)["rougeL"].fmeasure


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # brings nltk, which takes a second

    return RougeScorer(["rougeL"], use_stemmer=False)


def answer_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """The scores of each question, against the reference that agrees best.

    Args:
        predictions: An answer a question, '' where it is left unanswered.
        references: The references of each question, [] where it has no answer: then '' is right and all else is wrong.

    Returns:
        exact_match, f1, rouge_l: float arrays (questions,), 0 to 1.
    """
    scores = np.zeros((len(predictions), 3))
    for i, (said, known) in enumerate(zip(predictions, references, strict=True)):
        if not known or not said:
            scores[i] = float(not known and not said)
            continue
        key = normalize_answer(said)
        scores[i] = (
            max(float(key == normalize_answer(r)) for r in known),
            max(token_f1(said, r) for r in known),
            max(rouge_l(said, r) for r in known),
        )
    return dict(zip(("exact_match", "f1", "rouge_l"), scores.T, strict=True))


class AnswerMetrics(evaluate.Metric):
    """`AnswerMetrics().compute(predictions=["the king"], references=[["A king", "his son"]])`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=answer_scores.__doc__,
            citation="Rajpurkar, Jia and Liang (2018). Know What You Don't Know: Unanswerable Questions for SQuAD. ACL. "
            "Lin (2004). ROUGE: A Package for Automatic Evaluation of Summaries.",
            inputs_description="predictions: an answer a question; references: a list of answers a question, [] for none",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.List(datasets.Value("string"))}
            ),
        )

    def _compute(self, predictions, references) -> dict[str, float]:
        return {name: float(values.mean()) for name, values in answer_scores(predictions, references).items()}
