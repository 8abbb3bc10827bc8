"""What a tutor's replies are worth: cases to reply to, and the metrics of all systems on the same cases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from sklearn.pipeline import Pipeline

from .answer_leaks import can_leak, leaks
from .intervals import bootstrap_counts, bootstrap_interval, interval_of
from .metrics.replies import BLEU_STATISTICS, bleu_of, bleu_statistics, chrf_of, distinct, repeats_itself, rouge_l
from .text_classifier import macro_f1

BOOTSTRAP_DRAWS = 300


class Reply(NamedTuple):
    """What a tutor says, the move it makes with it ('' where none is named), and whether it came to its end by itself."""

    text: str
    move: str = ""
    finished: bool = True


@dataclass
class Case:
    """A place in a dialogue where the tutor is to speak.

    Attributes:
        dialogue: Its row of `edu_datasets.schema.DIALOGUES`.
        history: The turns before, as people said them.
        references: What people said here; the first is the dialogue's own turn.
        unit: What is drawn together for an interval: the problem, or the dialogue where no problem is named.
        group: What the split does not cut.
        number: Row number of the dialogue.
    """

    dialogue: dict
    history: list[dict]
    references: list[Reply]
    unit: str
    group: str
    number: int


def cases_of(dialogues: Dataset, most: int | None = None, seed: int = 0) -> list[Case]:
    """A case for each turn that is a target and follows a turn of the learner.

    Args:
        dialogues: Columns of `edu_datasets.schema.DIALOGUES`.
        most: Keep so many, drawn at random; None keeps all.
        seed: Of the draw.
    """
    cases = []
    for number, row in enumerate(dialogues):
        dialogue = {k: v for k, v in row.items() if k != "turns"}
        for i, turn in enumerate(row["turns"]):
            if turn["target"] and i:
                known = [turn, *turn["alternatives"]]
                references = [Reply(reply["text"], reply["move"]) for reply in known]
                unit = row["problem_id"] or row["dialogue_id"]
                cases.append(Case(dialogue, row["turns"][:i], references, unit, row["group_id"], number))
    if most is not None and most < len(cases):
        cases = [cases[i] for i in sorted(np.random.default_rng(seed).permutation(len(cases))[:most].tolist())]
    return cases


def reply_metrics(cases: Sequence[Case], replies: Sequence[Reply]) -> dict[str, float]:
    """BLEU, chrF, ROUGE-L against the references; words, distinct n-grams, the shares that repeat, do not end, and leak."""
    texts, references = [reply.text for reply in replies], [[r.text for r in case.references] for case in cases]
    before = [[turn["text"] for turn in case.history if turn["role"] == "tutor"] for case in cases]
    metrics = {
        "bleu": bleu_of(bleu_statistics(texts, references).sum(axis=0)),
        "chrf": chrf_of(texts, references),
        "rouge_l": float(np.mean([max(rouge_l(t, r) for r in known) for t, known in zip(texts, references, strict=True)])),
        **style_metrics(texts, before),
        "unfinished": float(np.mean([not reply.finished for reply in replies])),
    }
    leaked = leaked_replies(cases, replies)
    return metrics | ({"leak_rate": float(np.mean(leaked[0]))} if len(leaked[0]) else {})


def style_metrics(texts: Sequence[str], before: Sequence[Sequence[str]]) -> dict[str, float]:
    """Words a reply, distinct-1 and distinct-2, and the share of replies that repeat themselves or an earlier turn."""
    return {
        "words": float(np.mean([len(text.split()) for text in texts])),
        "distinct_1": distinct(texts, 1),
        "distinct_2": distinct(texts, 2),
        "repeats": float(np.mean([repeats_itself(text, said) for text, said in zip(texts, before, strict=True)])),
    }


def leaked_replies(cases: Sequence[Case], replies: Sequence[Reply]) -> tuple[np.ndarray, list[str]]:
    """Whether each reply gives the solution away, of those that could: bool array, and the unit of each."""
    rows = [i for i, case in enumerate(cases) if can_leak(case.dialogue, case.history)]
    return np.array([leaks(cases[i].dialogue, replies[i].text) for i in rows], bool), [cases[i].unit for i in rows]


def human_metrics(cases: Sequence[Case]) -> dict[str, float]:
    """What people's own replies come to: style and leaks of all of them; and, where there are several to a case, the first of
    them against the others. One reference less is at hand there, so that its BLEU is not on the scale of the systems'.
    """
    texts = [reply.text for case in cases for reply in case.references]
    before = [[t["text"] for t in c.history if t["role"] == "tutor"] for c in cases for _ in c.references]
    metrics = style_metrics(texts, before)
    every = [(case, reply) for case in cases for reply in case.references]
    leaked, _ = leaked_replies([case for case, _ in every], [reply for _, reply in every])
    metrics |= {"leak_rate": float(leaked.mean())} if len(leaked) else {}
    several = [case for case in cases if len(case.references) > 1]
    if several:
        first, others = [c.references[0].text for c in several], [[r.text for r in c.references[1:]] for c in several]
        metrics["bleu"] = bleu_of(bleu_statistics(first, others).sum(axis=0))
        metrics["chrf"] = chrf_of(first, others)
        metrics["rouge_l"] = float(np.mean([max(rouge_l(t, r) for r in known) for t, known in zip(first, others, strict=True)]))
    return metrics


def bleu_intervals(
    cases: Sequence[Case], systems: dict[str, Sequence[Reply]], ours: str, seed: int
) -> dict[str, dict[str, list[float]]]:
    """The interval (95%) of each system's BLEU, and of how far it is behind ours, drawing problems.

    Returns:
        System -> {"interval": [lower, upper], "behind": [lower, upper]}; ours has no "behind".
    """
    counts = bootstrap_counts([case.unit for case in cases], BOOTSTRAP_DRAWS, seed)
    references = [[r.text for r in case.references] for case in cases]
    drawn = {}
    for name, replies in systems.items():
        sums = counts @ bleu_statistics([reply.text for reply in replies], references)
        drawn[name] = np.array([bleu_of(row) if row[BLEU_STATISTICS - 1] else np.nan for row in sums])
    return {
        name: {"interval": list(interval_of(values))}
        | ({} if name == ours else {"behind": list(interval_of(drawn[ours] - values))})
        for name, values in drawn.items()
    }


def rate(hits: Sequence[bool], units: Sequence[str], seed: int) -> dict[str, Any]:
    """A share with its interval, drawing units: {"share", "interval", "n"}."""
    hits = np.asarray(hits, float)
    interval = bootstrap_interval(lambda rows: float(hits[rows].mean()), units, draws=BOOTSTRAP_DRAWS, seed=seed)
    return {"share": float(hits.mean()), "interval": list(interval), "n": len(hits)}


def leak_report(cases: Sequence[Case], systems: dict[str, Sequence[Reply]], seed: int) -> dict[str, Any] | None:
    """The share of replies that give the solution away, of people (all references) and of each system; None where none could."""
    every = [(case, reply) for case in cases for reply in case.references]
    measured = {"human": leaked_replies([case for case, _ in every], [reply for _, reply in every])}
    measured |= {name: leaked_replies(cases, replies) for name, replies in systems.items()}
    if not len(measured["human"][0]):
        return None
    return {name: rate(hits, units, seed) for name, (hits, units) in measured.items()}


def move_metrics(cases: Sequence[Case], moves: Sequence[str], seed: int) -> dict[str, Any]:
    """How well moves are predicted, over the cases whose references name one.

    Where people made several moves, each of them is right: the true move is then the predicted one if it is among them, and that
    of the first reference if it is not.

    Returns:
        {"accuracy", "macro_f1", "interval" (of macro-F1, 95%), "n"}.
    """
    rows = [i for i, case in enumerate(cases) if any(reply.move for reply in case.references)]
    known = [[reply.move for reply in cases[i].references if reply.move] for i in rows]
    said = [moves[i] for i in rows]
    true = np.array([move if move in right else right[0] for move, right in zip(said, known, strict=True)], dtype=object)
    predicted = np.array(said, dtype=object)
    units = [cases[i].unit for i in rows]
    interval = bootstrap_interval(lambda r: macro_f1(predicted[r], true[r]), units, draws=BOOTSTRAP_DRAWS, seed=seed)
    return {
        "accuracy": float(np.mean(predicted == true)), "macro_f1": macro_f1(predicted, true), "interval": list(interval),
        "n": len(rows),
    }  # fmt: skip


def obedience(
    asked: Sequence[tuple[Case, str, Reply]], judge: Pipeline, cases: Sequence[Case], moves: Sequence[str], seed: int
) -> dict[str, Any]:
    """How often a tutor makes the move it was asked for, as a classifier of turns sees it.

    Args:
        asked: (case, move that was asked for, what the tutor said).
        judge: See `text_classifier.train_text_classifier`.
        cases: The same judge reads people's replies here; how often it sees their own label is as much as a tutor can reach.
        moves: The moves.
        seed: Of the intervals.

    Returns:
        "tutor" and "human" (see `rate`), "human_each_move_alike" (the mean of people's share over the moves: all are asked for as
        often, while people make some more often), "judge_macro_f1" on people's replies, "moves": move -> {"asked", "obeyed",
        "human" (None where no person made it)}, "matrix": rows the moves asked for, columns the moves seen, both in the order of
        `moves`.
    """
    seen = judge.predict([reply.text for _, _, reply in asked])
    wanted = np.array([move for _, move, _ in asked], dtype=object)
    matrix = [[int(np.sum((wanted == a) & (seen == b))) for b in moves] for a in moves]
    people = [(case, reply) for case in cases for reply in case.references if reply.move]
    labels = np.array([reply.move for _, reply in people], dtype=object)
    judged = judge.predict([reply.text for _, reply in people])
    by_move = {m: float(np.mean(judged[labels == m] == m)) if (labels == m).any() else None for m in moves}
    return {
        "tutor": rate(seen == wanted, [case.unit for case, _, _ in asked], seed),
        "human": rate(judged == labels, [case.unit for case, _ in people], seed),
        "human_each_move_alike": float(np.mean(made)) if (made := [v for v in by_move.values() if v is not None]) else None,
        "judge_macro_f1": macro_f1(judged, labels),
        "moves": {
            m: {"asked": int((wanted == m).sum()), "obeyed": float(np.mean(seen[wanted == m] == m)), "human": by_move[m]}
            for m in moves if (wanted == m).any()
        },
        "matrix": matrix,
    }  # fmt: skip


Embed = Callable[[Sequence[str]], np.ndarray]


def similarity(cases: Sequence[Case], replies: Sequence[Reply], embed: Embed) -> float:
    """Mean over the cases of the cosine of a reply and the reference nearest to it, -1 to 1.

    Args:
        cases: With references.
        replies: One a case.
        embed: Texts -> float array (texts, dimensions) with rows of length 1.
    """
    texts = [reply.text for reply in replies] + [r.text for case in cases for r in case.references]
    vectors = embed(texts)
    said, known = vectors[: len(replies)], vectors[len(replies) :]
    ends = np.cumsum([len(case.references) for case in cases])
    best = [
        float((known[end - len(case.references) : end] @ row).max()) for case, end, row in zip(cases, ends, said, strict=True)
    ]
    return float(np.mean(best))
