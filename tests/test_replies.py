"""Metrics of what is written, against sacrebleu and by hand."""

import numpy as np
import pytest
from sacrebleu import corpus_bleu

from trainers.metrics import ReplyMetrics
from trainers.metrics.replies import bleu_of, bleu_statistics, chrf_of, distinct, repeats_itself, reply_scores, rouge_l

REPLIES = ["What did you try so far?", "Look at the last digit again.", "Yes, that is right, well done."]
REFERENCES = [
    ["What have you tried so far?", "Tell me what you tried."],
    ["Look again at the last digit."],
    ["Yes, well done.", "Right."],
]


def test_bleu_adds_up_to_sacrebleus():
    """Some replies have two references, some one: sacrebleu takes them as lists with holes."""
    columns = [[known[i] if i < len(known) else None for known in REFERENCES] for i in range(2)]
    assert bleu_of(bleu_statistics(REPLIES, REFERENCES).sum(axis=0)) == pytest.approx(corpus_bleu(REPLIES, columns).score)
    one, two = (bleu_statistics(REPLIES[rows], REFERENCES[rows]) for rows in (slice(0, 1), slice(1, 3)))
    assert np.array_equal(np.concatenate([one, two]), bleu_statistics(REPLIES, REFERENCES))
    assert bleu_of(bleu_statistics(REPLIES, [[r] for r in REPLIES]).sum(axis=0)) == pytest.approx(100)


def test_more_references_never_hurt():
    fewer = [known[:1] for known in REFERENCES]
    assert chrf_of(REPLIES, REFERENCES) >= chrf_of(REPLIES, fewer) > 10


def test_rouge_l_is_the_longest_common_subsequence():
    assert rouge_l("the cat sat", "the cat sat") == 1 and rouge_l("", "a") == 0
    assert rouge_l("look at the last digit", "look again at the digit") == pytest.approx(2 * 4 / 10)


def test_replies_that_are_all_alike_show():
    assert distinct(["a b c"] * 10, 1) == pytest.approx(0.1) and distinct(["a b", "c d"], 1) == 1 and distinct([""], 2) == 0
    assert repeats_itself("do it now and then do it now and then") and not repeats_itself("Do it now.")
    assert repeats_itself("Try again!", ["Well, no.", "Try again."]) and not repeats_itself("Try again!", ["Try it again."])


def test_the_metric_is_evaluates():
    found = ReplyMetrics().compute(predictions=REPLIES, references=REFERENCES)
    assert found == reply_scores(REPLIES, REFERENCES) and set(found) >= {"bleu", "chrf", "rouge_l"}
