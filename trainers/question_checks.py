"""What is checked of a question that a model wrote, before anybody sees it.

The checks are gates, in this order, and the first that does not open is the reason that is told:

* no question: nothing was written, it has fewer than two words, or it was cut off.
* gives the answer away: all words of an accepted answer that carry meaning stand in it (`gives_away`).
* not in the text: it names somebody, or a number, that neither text nor answer names.
* not answerable: a reader of the text answers something else entirely (`LEAST_ROUND_TRIP`); only where a trained reader is at
  hand, since the lexical one often misses.
* another reading level than was asked for.
* asked already: another question about the text says the same, with a better score (`same_question`).

Where the writer found the answer itself, one more stands before the last: the question asks for another kind of answer
(`asks_for_another_kind`).

They know words, not the world: a question may pass that makes no sense.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .distractors import PREPOSITIONS, answer_kind
from .lexical import words_of
from .metrics.answers import normalize_answer, token_f1
from .reading_level import reading_level

NO_QUESTION, LEAK, UNSUPPORTED, UNANSWERABLE, WRONG_LEVEL, AGAIN = REASONS = (
    "no question", "gives the answer away", "not in the text", "not answerable", "another reading level", "asked already",
)  # fmt: skip
ANOTHER_KIND = "asks for another kind of answer"
ASKED_KINDS = tuple(
    (re.compile(pattern, re.I), kinds)
    for pattern, kinds in (
        (r"\bhow (?:many|much)\b|\b(?:what|which) (?:year|day|month|date|age|number)\b", {"number", "date"}),
        (r"^who\b", {"name", "phrase", "clause", "number"}),
        (r"^why\b", {"reason", "clause"}),
        (r"^where\b", {"name", "phrase", "clause"}),
        (r"^when\b", {"date", "number", "clause"}),
    )
)
"""What a question asks for, and the kinds of `answer_kind` that people answer it with: 98% of those of FairytaleQA and MCTest."""
LEAST_ROUND_TRIP = 0.1  # token F1 of what the reader answers with the answer
SAME_F1 = 0.9  # token F1 from which on two questions are one
FEWEST_WORDS = 2


def gives_away(question: str, answers: Sequence[str]) -> bool:
    """Whether a question holds an accepted answer: word for word, or all of its words that carry meaning.

    One such word that both share proves nothing ('the king' in 'Why did the king weep?' for 'he had lost the king's ring'): all
    must be there.

    >>> gives_away("Who built the mill, the monks?", ["monks"]), gives_away("Who built the mill?", ["monks of the mill"])
    (True, False)
    """
    asked, whole = set(words_of(question)), f" {normalize_answer(question)} "
    for answer in answers:
        said = set(words_of(answer))
        if (said and said <= asked) or (not said and answer.strip() and f" {normalize_answer(answer)} " in whole):
            return True
    return False


def same_question(a: str, b: str) -> bool:
    """Whether two questions say the same, but for articles, case, punctuation and hardly a word."""
    return token_f1(a, b) >= SAME_F1


def unsupported(question: str, context: str, answers: Sequence[str]) -> list[str]:
    """Names and numbers of a question that stand neither in the text nor in an answer.

    A name is a word with a capital that is not the first of a sentence. The word is looked for in any case.
    """
    known = {word.lower() for text in (context, *answers) for word in re.findall(r"\w+", text)}
    named = re.findall(r"(?<=[\w,;:'’\"“] )[A-Z]\w+|\w*\d\w*", question)
    return [word for word in named if word.lower().removesuffix("'s") not in known and word != "I"]


def asks_for_another_kind(question: str, answer: str, context: str) -> bool:
    """Whether a question asks who, when, where, why or how many, and the answer is no such thing.

    >>> text = "The mill was built in 1342."
    >>> [asks_for_another_kind("When was the mill built?", answer, text) for answer in ("in 1342", "the mill", "in the end")]
    [False, True, False]
    """
    kind = answer_kind(answer, context)
    for asked, kinds in ASKED_KINDS:
        if asked.search(question):
            begins = (answer.lower().split() or [""])[0]
            return kind not in kinds and not (kind == "phrase" and "date" in kinds and begins in PREPOSITIONS)
    return False


def refuse(
    question: str, context: str, answers: Sequence[str], *, finished: bool = True, round_trip: float | None = None,
    level: str = "",
) -> str:  # fmt: skip
    """Why a question may not stand, or '': the gates but for the last, which needs the others about the text.

    Args:
        question: The question.
        context: The text it is about.
        answers: The accepted answers.
        finished: Whether the model came to an end.
        round_trip: Token F1 of a trained reader's answer; None where there is none.
        level: The reading level that was asked for, '' for any.
    """
    if not finished or len(re.findall(r"\w+", question)) < FEWEST_WORDS:
        return NO_QUESTION
    if gives_away(question, answers):
        return LEAK
    if unsupported(question, context, answers):
        return UNSUPPORTED
    if round_trip is not None and round_trip < LEAST_ROUND_TRIP:
        return UNANSWERABLE
    return WRONG_LEVEL if level and reading_level(question) != level else ""
