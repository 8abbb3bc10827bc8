"""How written replies compare with what people wrote: BLEU, chrF, ROUGE-L, distinct n-grams, repetition.

BLEU and chrF are sacrebleu's. Both are sums over replies before they are one number, so that a bootstrap only adds up again.
Neither knows whether a reply helps: a bland turn that everybody could say scores well.
"""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

from ..parser import ConfigurationError

BLEU_STATISTICS = 10  # correct and total n-grams of four orders, length, closest reference length
INSTALL = "pip install 'edu-recipes[generation]'"


def check_sacrebleu() -> None:
    """Raise ConfigurationError where sacrebleu is not installed; told before training, not behind it."""
    if importlib.util.find_spec("sacrebleu") is None:
        raise ConfigurationError(f"BLEU and chrF need sacrebleu: {INSTALL}.")


def bleu_statistics(replies: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """What BLEU adds up, int64 array (replies, 10).

    Args:
        replies: The texts.
        references: One or more for each.
    """
    bleu, rows = _bleu(), np.zeros((len(replies), BLEU_STATISTICS), np.int64)
    for row, reply, known in zip(rows, replies, references, strict=True):
        score = bleu.sentence_score(reply, list(known))
        row[:] = [*score.counts, *score.totals, score.sys_len, score.ref_len]
    return rows


def bleu_of(statistics: np.ndarray) -> float:
    """BLEU of a corpus (Papineni et al. 2002), 0 to 100, from the sum over its replies of `bleu_statistics`."""
    from sacrebleu import BLEU

    sums = [int(v) for v in statistics]
    return float(BLEU.compute_bleu(sums[:4], sums[4:8], sums[8], sums[9], smooth_method="exp").score)


def chrf_of(replies: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """chrF of a corpus (Popović 2015), 0 to 100; of several references the best counts."""
    from sacrebleu import CHRF

    most = max(map(len, references))
    columns = [[known[i] if i < len(known) else None for known in references] for i in range(most)]
    return float(CHRF().corpus_score(list(replies), columns).score)


def rouge_l(reply: str, reference: str) -> float:
    """ROUGE-L (Lin 2004): F1 of the longest common subsequence of lower-case runs of ASCII letters and digits, 0 to 1."""
    a, b = words(reply), words(reference)
    row = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for j, y in enumerate(b, start=1):
            diagonal, row[j] = row[j], diagonal + 1 if x == y else max(row[j], row[j - 1])
    return 2 * row[-1] / (len(a) + len(b)) if row[-1] else 0.0


def distinct(replies: Sequence[str], n: int) -> float:
    """Different n-grams of words per n-gram over all replies (Li et al. 2016), 0 to 1; low where all replies are alike."""
    grams = Counter(gram for reply in replies for gram in _grams(words(reply), n))
    return len(grams) / max(1, grams.total())


def repeats_itself(reply: str, before: Sequence[str] = (), n: int = 4) -> bool:
    """Whether a reply says four words in a row twice, or says again what its speaker said before."""
    grams = _grams(words(reply), n)
    return len(set(grams)) < len(grams) or " ".join(words(reply)) in {" ".join(words(text)) for text in before}


def words(text: str) -> list[str]:
    """Lower-case runs of ASCII letters and digits."""
    return re.findall(r"[a-z0-9]+", text.lower())


def _grams(tokens: list[str], n: int) -> list[tuple[str, ...]]:
    return list(zip(*(tokens[i:] for i in range(n)), strict=False))


def _bleu():
    from sacrebleu import BLEU

    return BLEU(effective_order=True)  # of a single sentence; sums do not depend on it


def reply_scores(replies: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU, chrF (0 to 100), ROUGE-L against the best reference, distinct-1 and distinct-2 (0 to 1), words a reply."""
    check_sacrebleu()
    return {
        "bleu": bleu_of(bleu_statistics(replies, references).sum(axis=0)),
        "chrf": chrf_of(replies, references),
        "rouge_l": float(np.mean([max(rouge_l(r, k) for k in known) for r, known in zip(replies, references, strict=True)])),
        "distinct_1": distinct(replies, 1),
        "distinct_2": distinct(replies, 2),
        "words": float(np.mean([len(reply.split()) for reply in replies])),
    }


class ReplyMetrics(evaluate.Metric):
    """`ReplyMetrics().compute(predictions=["Try again."], references=[["Try again!", "Look again."]])`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=reply_scores.__doc__,
            citation="Post (2018). A Call for Clarity in Reporting BLEU Scores. WMT.",
            inputs_description="predictions: a text a row; references: a list of one or more texts a row",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.List(datasets.Value("string"))}
            ),
        )

    def _compute(self, predictions, references) -> dict[str, float]:
        return reply_scores(predictions, references)
