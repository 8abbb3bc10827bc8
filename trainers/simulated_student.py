"""A rule-based simulated student, to see where a tutor's turns lead. It is no learner and no language model.

Its error model. The student has made a mistake and does not know the solution. After each turn of the tutor it

    says the solution, if the tutor has just said it                      (it was told)
    says the solution with a probability that depends on the tutor's move (it found it)
        question 0.15, hint 0.30, correction 0.20, telling 0.40, confirmation 0.05, generic 0.02
    says else, in turns, one of a few sentences that say nothing new

and stops once it has said the solution. The probabilities are assumptions: they rank a tutor that points at the next step above
one that chats or gives in, and they are the same for all tutors, as are the random numbers. What comes out says whether a tutor
goes on tutoring over several turns; it says nothing of what people would learn. success@k and telling@k are those of Macina et
al. (2023).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from .answer_leaks import can_leak, leaks
from .tutoring_evaluation import Case, Reply, rate

FINDS = {"question": 0.15, "hint": 0.30, "correction": 0.20, "telling": 0.40, "confirmation": 0.05, "generic": 0.02}
STUCK = (
    "I do not see it yet.",
    "I would still say what I said before.",
    "Can you put it in another way?",
    "I am not sure what to do next.",
)
Tutors = Callable[[Sequence[dict]], list[Reply]]
"""Dialogues with their turns so far -> what the tutor says next in each."""


def tutor_a_simulated_student(
    tutor: Tutors, cases: Sequence[Case], judge: Pipeline, turns: int = 5, seed: int = 0
) -> dict[str, Any] | None:
    """Let a tutor go on with the simulated student from each case.

    Args:
        tutor: See `Tutors`.
        cases: Where nobody has said the solution yet; others are left out.
        judge: Tells the move of a turn by its words, the same for all tutors.
        turns: Of the tutor at most.
        seed: Of the student.

    Returns:
        {"success", "telling": see `tutoring_evaluation.rate`, "turns"}: the share of students who found the solution within
        `turns` without being told, and of those who were told; None where no case is left.
    """
    cases = [case for case in cases if can_leak(case.dialogue, case.history)]
    if not cases:
        return None
    chance = np.random.default_rng(seed).random((len(cases), turns))
    said = [list(case.history) for case in cases]
    ended = [""] * len(cases)
    for turn in range(turns):
        going = [i for i, end in enumerate(ended) if not end]
        if not going:
            break
        replies = tutor([{**cases[i].dialogue, "turns": said[i]} for i in going])
        moves = judge.predict([reply.text for reply in replies])
        for i, reply, move in zip(going, replies, moves, strict=True):
            if leaks(cases[i].dialogue, reply.text):
                ended[i] = "telling"
            elif chance[i, turn] < FINDS.get(move, 0.0):
                ended[i] = "success"
            said[i] += [
                {"role": "tutor", "text": reply.text, "move": reply.move},
                {"role": "learner", "text": STUCK[turn % len(STUCK)], "move": ""},
            ]
    units = [case.unit for case in cases]
    return {end: rate([e == end for e in ended], units, seed) for end in ("success", "telling")} | {"turns": turns}
