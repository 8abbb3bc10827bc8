"""How good written questions are: like people's, answerable, not giving the answer away, of the kind asked for, not all alike."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .answering_evaluation import answer_intervals
from .candidate_ranking import Candidate, Reader
from .metrics.answers import normalize_answer, token_f1
from .metrics.replies import bleu_of, bleu_statistics, chrf_of, rouge_l
from .question_checks import gives_away
from .reading_level import LEVELS, mean_grade, reading_level
from .text_classifier import macro_f1, train_text_classifier

Row = dict[str, Any]
"""A row of `edu_datasets.schema.PASSAGES`."""
Embed = Callable[[Sequence[str]], np.ndarray]
SAMPLES = 5  # questions for one answer, among which duplicates are counted
MAP_AT = (1, 3, 5, 10)


def question_values(questions: Sequence[str], rows: Sequence[Row], reader: Reader) -> dict[str, np.ndarray]:
    """What each question is worth, float arrays (questions,).

    Args:
        questions: A question a row.
        rows: What they were written for.
        reader: Answers them.

    Returns:
        rouge_l with the question people asked, 0 to 1; round_trip_f1, token F1 of the reader's answer with the nearest accepted
        one; leaks, 1 where the answer stands in it.
    """
    read = reader([row["context"] for row in rows], list(questions))
    trips = [max((token_f1(said, a) for a in row["answers"]), default=np.nan) for said, row in zip(read, rows, strict=True)]
    return {
        "rouge_l": np.array([rouge_l(q, row["question"]) for q, row in zip(questions, rows, strict=True)]),
        "round_trip_f1": np.array(trips, float),
        "leaks": np.array([gives_away(q, row["answers"]) for q, row in zip(questions, rows, strict=True)], float),
    }


def question_metrics(
    questions: Sequence[str], rows: Sequence[Row], values: dict[str, np.ndarray], embed: Embed | None, human: bool = False
) -> dict[str, float]:
    """The means of `question_values`, and of a system as a whole: bleu (BLEU-4) and chrf, 0 to 100, similarity (cosine of
    embeddings), grade (Flesch and Kincaid), words a question. Of people's own questions what compares them with themselves is
    left out.
    """
    found = {name: float(np.nanmean(own)) for name, own in values.items() if not (human and name == "rouge_l")}
    if not human:
        people = [[row["question"]] for row in rows]
        found |= {"bleu": bleu_of(bleu_statistics(questions, people).sum(axis=0)), "chrf": chrf_of(questions, people)}
        if embed is not None:
            ours, theirs = embed(list(questions)), embed([known for (known,) in people])
            found["similarity"] = float((ours * theirs).sum(axis=1).mean())
    return found | {"grade": mean_grade(questions), "words": float(np.mean([len(q.split()) for q in questions]))}


def gain(
    values: dict[str, np.ndarray], before: dict[str, np.ndarray], groups: Sequence[str], seed: int
) -> dict[str, list[float]]:
    """What re-ranking adds to each of `question_values`: [difference, lower, upper] of its 95% interval, drawing groups."""
    found = {}
    for name, own in values.items():
        spans = answer_intervals({"after": own, "before": before[name]}, groups, "after", seed)
        if "behind" in spans["before"]:
            found[name] = [float(np.mean(own) - np.mean(before[name])), *spans["before"]["behind"]]
    return found


# ---- many questions about one text ------------------------------------------------------------------------------------


def set_metrics(raw: Sequence[Sequence[Candidate]], offered: Sequence[Sequence[Candidate]]) -> dict[str, float]:
    """How much alike the questions for one answer are.

    Args:
        raw: The candidates in the order they were written.
        offered: The same, ranked.

    Returns:
        duplicates: of the first `SAMPLES` written, the share that is the same as an earlier one, but for case and punctuation;
        duplicates_offered: likewise of the first of those that passed; self_bleu: mean BLEU of one of the first written against
        the others, 0 to 100 (Zhu et al. 2018), high where all are alike; kept: the share of candidates that may stand.
    """
    first = [[c.question for c in row[:SAMPLES]] for row in raw]
    passed = [[c.question for c in row if not c.reason][:SAMPLES] for row in offered]
    pairs = [(q, row[:i] + row[i + 1 :]) for row in first for i, q in enumerate(row) if len(row) > 1]
    bleus = bleu_statistics([q for q, _ in pairs], [others for _, others in pairs]) if pairs else np.zeros((0, 10))
    bleus = bleus[bleus[:, 7] > 0]  # a question of fewer than four tokens has no BLEU-4
    every = [c for row in offered for c in row]
    return {
        "duplicates": _repeated(first),
        "duplicates_offered": _repeated(passed),
        "self_bleu": float(np.mean([bleu_of(row) for row in bleus])) if len(bleus) else 0.0,
        "kept": float(np.mean([not c.reason for c in every])),
    }


def _repeated(rows: Sequence[Sequence[str]]) -> float:
    counts = [len(row) - len({normalize_answer(q) for q in row}) for row in rows]
    return sum(counts) / max(1, sum(map(len, rows)))


def refused_shares(offered: Sequence[Sequence[Candidate]]) -> dict[str, float]:
    """The share of all candidates that each gate refused, the largest first."""
    reasons = Counter(c.reason for row in offered for c in row if c.reason)
    total = sum(map(len, offered))
    return {reason: count / total for reason, count in reasons.most_common()}


def map_at(questions: Sequence[Sequence[str]], rows: Sequence[Row]) -> dict[str, float]:
    """MAP@N with ROUGE-L (Zhao et al. 2022): how near the nearest of N questions about a text comes to each that people asked.

    It can only grow with N: compare at the same N, and look at duplicates beside it.

    Args:
        questions: For each row the questions written for it, the best first; those of one text are put together, all firsts
            before all seconds.
        rows: What people asked.
    """
    pools: dict[str, list[str]] = defaultdict(list)
    for place in range(max(map(len, questions), default=0)):
        for row, own in zip(rows, questions, strict=True):
            if place < len(own) and own[place] not in pools[row["context"]]:
                pools[row["context"]].append(own[place])
    found = {}
    for n in MAP_AT:
        nearest = [max((rouge_l(q, row["question"]) for q in pools[row["context"]][:n]), default=0.0) for row in rows]
        found[f"map_at_{n}"] = float(np.mean(nearest))
    return found


# ---- control ----------------------------------------------------------------------------------------------------------


def attribute_accuracy(
    questions: dict[str, Sequence[str]], rows: Sequence[Row], names: Sequence[str], controls: dict[str, list[str]],
    judged_from: Sequence[Row], seed: int,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Whether questions are of the kind that was asked for, as a classifier of words sees it.

    Args:
        questions: System -> a question a row; people's are among them.
        rows: What was asked for.
        names: The names of the entries of attributes.
        controls: Which of them can be asked for, and for which values.
        judged_from: People's questions that the model has not learnt from, to train the judge.
        seed: Of the judge.

    Returns:
        Control -> system -> {"accuracy", "macro_f1"}, and "n" of the questions that were asked for it. Controls that the judge
        cannot learn, because it sees fewer than two kinds, are left out.
    """
    found = {}
    for control in controls:
        place = names.index(control)
        judge = train_text_classifier([r["question"] for r in judged_from], [r["attributes"][place] for r in judged_from], seed)
        known = [i for i, row in enumerate(rows) if row["attributes"][place] in controls[control]]
        if judge is None or not known:
            continue
        asked = [rows[i]["attributes"][place] for i in known]
        table: dict[str, Any] = {"n": len(known)}
        for system, own in questions.items():
            seen = judge.predict([own[i] for i in known]).tolist()
            table[system] = {"accuracy": float(np.mean(np.equal(seen, asked))), "macro_f1": macro_f1(seen, asked)}
        found[control] = table
    return found


def level_shares(questions: dict[str, Sequence[str]]) -> dict[str, dict[str, float]]:
    """What was asked for (a level, or '' for any) -> the share of questions of each reading level."""
    return {
        asked: {level: float(np.mean([reading_level(q) == level for q in own])) for level in LEVELS}
        for asked, own in questions.items()
    }
