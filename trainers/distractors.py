"""Wrong options for a multiple choice question: candidates from the text itself, and checks that any candidate must pass.

What is asked of an option are the rules of item writing (Haladyna, Downing and Rodriguez 2002): one option alone is right, the
others are plausible, alike in content and form and about as long, and no two say the same.

* Wrong: it says neither an accepted answer again nor what a reader of the text answers. Two texts say the same where one holds
  the other, where their words agree (token F1 of `SAME_F1` or more) or their meaning does (cosine of `SAME_MEANING` or more).
  Texts that name other numbers, dates or people, or of which one alone denies, are not the same however alike they look.
* Plausible: it is of the answer's kind (`answer_kind`), about as long, and no farther from answer and text than most random
  answers to other questions are (`ON_TOPIC`).
* Distinct: it does not say another option again.

The thresholds were chosen on MCTest's train and dev splits (1,800 questions, 5,400 distractors that people wrote) with the
default encoder, all-MiniLM-L6-v2; another encoder wants its own:

* `SAME_F1`, `SAME_MEANING`: of equal steps of 0.05 the lowest at which at most 5% of people's distractors are taken for the
  answer (4.9%; at 0.75 7.1%).
* `ON_TOPIC`: what 10% of answers to questions about other stories reach, and 93% of people's distractors.
* `LENGTH_RATIO`, `LENGTH_DIFFERENCE`: 93% of people's distractors keep to one of the two, 64% of random answers.

The checks are no human judgement. They do not know the world: a synonym with a low cosine passes as wrong, and so does a true
answer that nobody listed. Where two people answered a question of FairytaleQA's test split differently, half of the second
answers pass as wrong. A distractor that differs from a long answer in one word is refused as the same, though people write such.
Spans of the text are of the answer's kind and on topic by the way they are found, so that they pass more often than people's
distractors do; that does not make them better. Words and rules are English; in another language nearly all answers are of one
kind.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from .essay_text import sentences
from .intervals import bootstrap_counts, interval_of
from .lexical import words_of
from .metrics.answers import normalize_answer, token_f1

Embed = Callable[[Sequence[str]], np.ndarray]
"""From texts to float array (texts, dimensions), rows of length 1; see `metrics.embeddings.sentence_encoder`."""
Reader = Callable[[Sequence[str], Sequence[str]], list[str]]
"""From contexts and questions to an answer each, '' where there is none."""

SAME_F1 = 0.8
SAME_MEANING = 0.8
ON_TOPIC = 0.4
TEXT_WEIGHT = 0.5  # of the words that stand in the text, beside the likeness to the answer
LENGTH_RATIO = 2
LENGTH_DIFFERENCE = 3  # words
DIVERSITY = 0.5  # of the likeness to options already chosen, beside closeness
AGAIN = "says another option again"

# ---- what an answer is ------------------------------------------------------------------------------------------------

WORD = re.compile(r"\d+(?:[.,:/]\d+)*|[^\W_]+(?:['’-][^\W_]+)*")
DETERMINERS = frozenset("a an the this these those my your his her its our their some any no each every another".split())
PREPOSITIONS = frozenset(
    "in on at to for from with by into onto about after before behind beside between near over through under up down out "
    "off".split()
)
SMALL = DETERMINERS | PREPOSITIONS | frozenset(
    "and or but of as if that than then there here not too very so all both who whom whose what which where when how why because "
    "while until now just still also again away back always never ever soon even much many more most other such him them us me "
    "himself herself themselves".split()
)  # fmt: skip
SUBJECTS = frozenset("i you he she it we they".split())
NUMBERS = dict(zip(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen "
    "nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million".split(),
    map(str, [*range(21), *range(30, 100, 10), 100, 1000, 1_000_000]), strict=True,
))  # fmt: skip
AMOUNTS = frozenset("hundreds thousands millions dozen dozens half once twice".split()) | NUMBERS.keys()
ABOUT = frozenset("a about around almost nearly over only just at least most more than exactly".split())
SERIES = {
    word: i
    for i, words in enumerate(
        [
            "monday tuesday wednesday thursday friday saturday sunday",
            "january february march april june july august september october november december",  # may is a verb
            "spring summer autumn winter",
            "morning noon afternoon evening night midnight",
            "today yesterday tomorrow tonight",
            "christmas easter halloween thanksgiving",
            "first second third fourth fifth sixth seventh eighth ninth tenth",
        ]
    )
    for word in words.split()
}
ORDINALS = 6
CLOCK = re.compile(r"1\d{3}|20\d\d|\d{1,2}:\d\d")
NO_NAMES = SMALL | SUBJECTS
TITLES = ("mr", "mrs", "ms", "dr")
FINITE = frozenset(
    "is are was were am be been has have had do does did can could will would should must may might isn't aren't wasn't "
    "weren't hasn't haven't hadn't don't doesn't didn't can't couldn't won't wouldn't shouldn't became began bit blew bought "
    "broke brought built came caught chose cried cut dug drank drew drove ate fell felt fought found flew forgot gave got grew "
    "hid held hit hurt kept knew laid led left let lost made met paid put ran rang read rode said sang sat saw sent shook slept "
    "sold spent stole stood swam swept swung taught told thought threw took tried went woke won wore wrote".split()
)
PLAIN = frozenset(
    "ask be bring build buy call carry catch chase clean climb come cook cut do draw drink drive eat feed fight find fly get "
    "give go grow have help hide hit hold jump keep kick learn leave let listen look make meet move open pay pick play pull "
    "push put read ride run say see sell send share sing sit sleep stay stop swim take talk teach tell throw try use visit wait "
    "wake walk want wash watch wear win work write".split()
)


PARTS = (  # a letter for a sort of word, see _part_of_speech
    ("d", DETERMINERS),
    ("p", PREPOSITIONS),
    ("j", frozenset(("and", "or", "of"))),
    ("-", NO_NAMES | FINITE | PLAIN),
)


def answer_kind(text: str, context: str = "") -> str:
    """What an answer is, by the words it begins with and the verbs it holds.

    Args:
        text: The answer.
        context: The text it answers from: a word that stands there in small letters is no name, whatever its capital says.

    Returns:
        The first that fits of 'yes or no'; 'reason': begins with because, since, in order to, so, or to and a verb; 'clause':
        begins with a verb or with I, you, he, she, it, we, they, or holds a verb; 'date': up to five words with a day, month,
        season, feast, time of day, year or clock time; 'number': begins with a number, or about, over ... and a number; 'name':
        all words but small ones have a capital; else 'phrase'.

    >>> [answer_kind(text) for text in ("about 20 dogs", "on Monday", "Mr. Coffee", "to buy milk", "ran home", "her red hat")]
    ['number', 'date', 'name', 'reason', 'clause', 'phrase']
    """
    words = _words(text)
    low = [w.lower() for w in words]
    if not low:
        return "phrase"
    second = low[1] if len(low) > 1 else ""
    if low[0] in ("yes", "no", "true", "false") and (not second or re.match(r"\W*\w+\s*[,.;!]", text)):
        return "yes or no"
    purpose = low[0] == "to" and second and second not in SMALL and words[1][0].islower()
    if low[0] in ("because", "since") or low[:3] == ["in", "order", "to"] or low[0] == "so" and len(low) > 2 or purpose:
        return "reason"
    if _verb_at(low) is not None:
        return "clause"
    if len(low) <= 5 and any(SERIES.get(w, ORDINALS) != ORDINALS or CLOCK.fullmatch(w) or w == "o'clock" for w in low):
        return "date"
    start = next((w for w in low if w not in ABOUT), "")
    if start[:1].isdigit() or start.split("-")[0] in AMOUNTS:
        return "number"
    telling = [w for w in words if w.lower() not in SMALL]
    names = all(w[0].isupper() for w in telling) and (len(telling) > 1 or telling and _may_be_name(telling[0], context))
    return "name" if names else "phrase"


def kinds_agree(a: str, b: str) -> bool:
    """Whether two kinds can stand beside each other: a person may be named or described, else they must be the same."""
    return a == b or {a, b} == {"name", "phrase"}


def _words(text: str) -> list[str]:
    """Words as they are written, without 's."""
    return [re.sub(r"'s$", "", w.replace("’", "'")) for w in WORD.findall(text)]


@lru_cache(maxsize=4096)
def _written(context: str) -> frozenset[str]:
    return frozenset(_words(context))


def _may_be_name(word: str, context: str) -> bool:
    low = word.lower()
    return word[0].isupper() and low not in _written(context) and low.partition("'")[0] not in NO_NAMES


def _verb_at(low: Sequence[str]) -> int | None:
    """Where the first verb of some words in lower case is, or the pronoun in front of it; None where they hold none."""
    for i, word in enumerate(low):
        stem, before = word.partition("'")[0], low[i - 1] if i else ""
        more = i + 1 < len(low)
        past = len(word) > 4 - (i == 0) and word.endswith("ed") and not word.endswith("eed")
        if (
            (stem in SUBJECTS and more and before not in PREPOSITIONS)
            or (word in FINITE and len(low) > 1)
            or (past and before not in SMALL)
            or (i == 0 and more and (word in PLAIN or word.removesuffix("s") in PLAIN or len(word) > 5 and word.endswith("ing")))
        ):
            return i
    return None


# ---- candidates from the text ---------------------------------------------------------------------------------------


def spans_like(context: str, answer: str, limit: int = 20) -> list[str]:
    """Candidates for wrong options, from the text itself.

    Of a number or date, the answer with another number or date of the text in its place; of a name, other words that the text
    writes with a capital only; of a phrase, runs of words between small words, verbs and punctuation, with the article or
    preposition in front where the answer has one; of a clause or a reason, parts of sentences; of yes, no.

    Args:
        context: The text.
        answer: What they should be like; none holds all words of it, or only words of it.
        limit: At most so many.

    Returns:
        Different candidates of the answer's kind, written as it is (capital, full stop): first those nearest in length, then
        those that the text says most often, then in the order of the text.
    """
    kind = answer_kind(answer, context)
    finders = {"yes or no": _opposite, "number": _swapped, "date": _swapped, "name": _names, "phrase": _phrases}
    own, length = set(words_of(answer)), len(answer.split())
    if not _words(answer):
        return []
    found: dict[str, str] = {}
    said: Counter[str] = Counter()
    for span in finders.get(kind, _clauses)(context, answer):
        words = set(words_of(span))
        key = normalize_answer(span)
        if key and (kind == "yes or no" or words and not (words <= own or own <= words)) and answer_kind(span, context) == kind:
            found.setdefault(key, _written_like(span, answer, context))
            said[key] += 1
    ordered = sorted(found, key=lambda key: (abs(len(found[key].split()) - length), -said[key]))
    return [found[key] for key in ordered[:limit]]


def answer_spans(context: str) -> list[str]:
    """Spans of a text that a question can ask for: names, dates and numbers with what they count, reasons, phrases.

    Returns:
        Different spans, written as within a sentence: the first of every sentence, then the second of every sentence and so on,
        each sentence's in the order of the sorts above, and of two that share all words of one the earlier sort.

    >>> answer_spans("Monks built the first mill in 1342. It had two wheels because the river was wide.")
    ['the first mill', 'two wheels', 'in 1342', 'because the river was wide']
    """
    names, found = sorted(dict.fromkeys(_names(context, "")), key=len, reverse=True), []
    for sentence in sentences(context):
        named = [name for name in names if re.search(rf"\b{re.escape(name)}\b", sentence)]
        counted = _runs(sentence, lambda word: "n" if _series(word) else _part_of_speech(word), "p?d?w?n[nw]{0,2}")
        reasons = [span for piece in _pieces(sentence) for span in re.findall(r"\bbecause [a-z].*", piece)]
        phrases = _runs(sentence, _part_of_speech, "(?:d|(?<=[pj]))w{1,3}(?!w)")
        own: list[tuple[str, set[str]]] = []
        for span in (*named, *counted, *reasons, *phrases):
            words = set(words_of(span))
            if words and not any(words <= other or other <= words for _, other in own):
                own.append((_written_like(span, "", context), words))
        found += [(place, len(found), span) for place, (span, _) in enumerate(own)]
    return list({normalize_answer(span): span for *_, span in sorted(found)}.values())


def _opposite(context: str, answer: str) -> list[str]:
    return [{"yes": "no", "no": "yes", "true": "false", "false": "true"}[_words(answer)[0].lower()]]


def _swapped(context: str, answer: str) -> list[str]:
    """The answer with another number or date in place of its own: each one of the text, then those next to it."""
    spans = []
    for own in WORD.finditer(answer):
        word = own.group()
        if series := _series(word):
            others = [w for w in WORD.findall(context) if _series(w) == series] + _next_to(word)
            others = [_numbered_like(w, word) for w in others if _figures(w) != _figures(word)]
            spans += [answer[: own.start()] + other + answer[own.end() :] for other in others]
    return spans


def _next_to(word: str) -> list[str]:
    """The numbers around a whole number, in steps of its last figure that is no zero; the rest of a series of dates."""
    value = NUMBERS.get(word.lower(), word)
    if value.isdecimal():
        step = 10 ** (len(value) - len(value.rstrip("0"))) if int(value) else 1
        return [str(n) for k in (1, -1, 2, -2) if (n := int(value) + k * step) >= 0]
    return [w.capitalize() if word[0].isupper() else w for w in SERIES if str(SERIES[w]) == _series(word)]


def _series(word: str) -> str:
    """What a number or date can be exchanged with: '' for other words, and for one, which is seldom a number."""
    word = word.lower()
    if word[0].isdigit():
        return re.sub(r"\d", "9", word) if CLOCK.fullmatch(word) else "number"
    return "number" if word in NUMBERS and word != "one" else str(SERIES.get(word, ""))


def _numbered_like(number: str, other: str) -> str:
    """A number in words or figures, as the other is."""
    if other[0].isdigit():
        return NUMBERS.get(number.lower(), number)
    return next((word for word, value in NUMBERS.items() if value == number), number)


def _names(context: str, answer: str) -> list[str]:
    # a capital may only begin a sentence, unless it stands behind a small letter too
    capital = r"[^\W\d_a-z]\w*"
    behind = re.findall(rf"(?<=[^\W\d_A-Z] )(?:(?i:mrs?|ms|dr)\.? )?{capital}(?: {capital})*", context)
    inside = set(_words(" ".join(behind)))
    found = _runs(context, lambda word: "n" if word in inside and _may_be_name(word, context) else "-", "n+")
    return [name for name in found if name.lower() not in TITLES]


def _phrases(context: str, answer: str) -> list[str]:
    """Up to three words in a row behind a small word, with the article, preposition and second run that the answer has."""
    own = [w.lower() for w in _words(answer)]
    front = "pd?" if own[0] in PREPOSITIONS else "d" if own[0] in DETERMINERS else "(?<=[dpj])"
    second = "(?:jd?w{1,3})?" if {"and", "or", "of"} & set(own) else ""
    return _runs(context, _part_of_speech, rf"{front}w{{1,3}}(?!w){second}")


def _part_of_speech(word: str) -> str:
    """A letter: determiner, preposition, joint, verb or another word that no phrase has (-), any other word (w)."""
    word = word.lower()
    for letter, group in PARTS:
        if word in group:
            return letter
    return "-" if "'" in word or word.endswith(("ed", "ing", "ly")) else "w"


def _runs(context: str, letter: Callable[[str], str], pattern: str) -> list[str]:
    """The words of the text, between marks of punctuation, whose letters match a pattern."""
    spans = []
    for piece in _pieces(context):
        words = list(WORD.finditer(piece))
        letters = "".join(letter(word) for word in _words(piece))
        for found in re.finditer(pattern, letters):
            span = piece[words[found.start()].start() : words[found.end() - 1].end()]
            spans.append(re.sub(r"['’]s$", "", span))
    return spans


def _clauses(context: str, answer: str) -> list[str]:
    """Parts of sentences with a verb, beginning as the answer does: with who does it, with the verb, with because, so or to."""
    own = [w.lower() for w in _words(answer)]
    if own[0] == "to":
        return [span for piece in _pieces(context) for span in re.findall(r"\bto [a-z].*", piece)]
    opening = own[0] if own[0] in ("because", "since", "so") else ""
    verb_first = not opening and own[0] not in SUBJECTS and _verb_at(own) == 0
    spans = []
    for piece in _pieces(context):
        for part in re.split(r"(?i)\b(?:and|but|because|so|then|when|while|until|after|before)\b", piece):
            low = [w.lower() for w in _words(part)]
            verb = _verb_at(low)
            if verb is None or len(low) > max(6, 2 * len(own)):
                continue
            subject = low[verb].partition("'")[0] in SUBJECTS
            if verb_first:
                part = part[list(WORD.finditer(part))[min(verb + subject, len(low) - 1)].start() :]
            if verb_first or verb > 0 or subject:
                spans.append(f"{opening} {_written_like(part, opening, context)}" if opening else part)
    return spans


def _pieces(context: str) -> list[str]:
    """A text between its marks of punctuation."""
    return [piece for piece in re.split(r"(?i)(?<!\bmr)(?<!\bmrs)(?<!\bms)(?<!\bdr)[.!?;:,()\"“”\n]+", context) if piece.strip()]


def _written_like(span: str, answer: str, context: str) -> str:
    """With the capital and the full stop of the answer."""
    span = " ".join(span.split()).rstrip(".")
    if answer[:1].isupper():
        span = span[0].upper() + span[1:]
    elif not _may_be_name(_words(span)[0], context):
        span = span[0].lower() + span[1:]
    return span + "." * answer.rstrip().endswith(".")


# ---- checks ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What the checks say of one distractor.

    Attributes:
        wrong: It says no accepted answer again, nor what the reader answers.
        plausible: It is of the answer's kind, about as long, and on topic.
        distinct: It says no other option again that is preferred to it.
        same_kind: It is of the answer's kind.
        closeness: How near it is to the answer and the text; the higher the more plausible, about 0 to 1.5.
        reason: Why it may not stand, '' where it may.
    """

    wrong: bool
    plausible: bool
    distinct: bool
    same_kind: bool
    closeness: float
    reason: str


def lexical_reader(contexts: Sequence[str], questions: Sequence[str]) -> list[str]:
    """Answers that need no model: where a sentence has all words of a question, what it says besides.

    Args:
        contexts: The text of each question.
        questions: The questions.

    Returns:
        An answer each: the sentence's other words but for small ones; '' where no sentence has all words, which is usual.

    >>> lexical_reader(["Mia saw a red kite. She ran."], ["What did Mia see?"]), lexical_reader(["Mia saw it."], ["Who saw it?"])
    ([''], ['Mia'])
    """
    return [_read(context, question) for context, question in zip(contexts, questions, strict=True)]


def _read(context: str, question: str) -> str:
    asked = {w for w in words_of(question) if w not in SMALL and w not in ("do", "did", "doe")}
    for sentence in sentences(context) if asked else ():
        if asked <= set(words_of(sentence)):
            left = (w for w in _words(sentence) if w.lower() not in NO_NAMES and w.lower() not in FINITE)
            return " ".join(w for w in left if not asked & set(words_of(w)))
    return ""


@dataclass
class DistractorChecks:
    """Judges distractors: whether they are wrong, plausible and distinct, see the head of this module.

    Attributes:
        embed: Texts as vectors.
        answer_with: Reads the text and answers the questions, `lexical_reader` where it is None; the better it reads, the more
            second right answers are found.
        same_f1: The token F1 from which on two texts say the same.
        same_meaning: The cosine from which on they do.
        on_topic: The closeness from which on a distractor is on topic.
    """

    embed: Embed
    answer_with: Reader | None = None
    same_f1: float = SAME_F1
    same_meaning: float = SAME_MEANING
    on_topic: float = ON_TOPIC

    def judge(
        self,
        contexts: Sequence[str],
        questions: Sequence[str],
        answers: Sequence[Sequence[str]],
        distractors: Sequence[Sequence[str]],
    ) -> list[list[Verdict]]:
        """Judge the distractors of some questions.

        Args:
            contexts: The text of each question.
            questions: The questions.
            answers: The accepted answers of each.
            distractors: The distractors of each, in any order: a verdict does not depend on it.

        Returns:
            A verdict each.

        Raises:
            ValueError: The four differ in length.
        """
        return self._judged(contexts, questions, answers, distractors)[0]

    def _judged(
        self,
        contexts: Sequence[str],
        questions: Sequence[str],
        answers: Sequence[Sequence[str]],
        distractors: Sequence[Sequence[str]],
    ) -> tuple[list[list[Verdict]], dict[str, np.ndarray]]:
        """Verdicts, and the vectors of all texts."""
        read = (self.answer_with or lexical_reader)(contexts, questions) if len(questions) else []
        rows = list(zip(contexts, answers, distractors, read, strict=True))
        different = {text for _, known, offered, reply in rows for text in (*known, *offered, reply)}
        texts = sorted(different, key=lambda text: (len(text), text))  # the same batches in whatever order they come
        vectors = dict(zip(texts, self.embed(texts), strict=True)) if texts else {}
        return [self._judge_one(*row, vectors) for row in rows], vectors

    def _judge_one(
        self, context: str, answers: Sequence[str], distractors: Sequence[str], reply: str, vectors: dict[str, np.ndarray]
    ) -> list[Verdict]:
        kinds = {answer_kind(answer, context) for answer in answers}
        known = frozenset(words_of(context))
        found: dict[str, Verdict] = {}
        for text in sorted(set(distractors)):
            words, likeness = words_of(text), max((float(vectors[text] @ vectors[a]) for a in answers), default=0.0)
            closeness = likeness + TEXT_WEIGHT * sum(word in known for word in words) / max(1, len(words))
            same_kind = any(kinds_agree(answer_kind(text, context), kind) for kind in kinds)
            not_wrong = _first_that_holds(
                {
                    "says the answer": any(_holds(text, a) or self._agree(text, a, context, vectors) for a in answers),
                    "is what the text answers": bool(reply) and self._agree(text, reply, context, vectors),
                }
            )
            implausible = _first_that_holds(
                {
                    "has no words": not _words(text),
                    "is another kind of answer": not same_kind,
                    "is of another length": not any(_about_as_long(text, a) for a in answers),
                    "is off topic": closeness < self.on_topic,
                }
            )
            found[text] = Verdict(not not_wrong, not implausible, True, same_kind, closeness, not_wrong or implausible)
        # of two that say the same, the one stays that may stand, then the closer one
        distinct: list[str] = []
        for text in sorted(found, key=lambda text: (found[text].reason != "", -found[text].closeness, text)):
            if any(_holds(text, other) or self._agree(text, other, context, vectors) for other in distinct):
                found[text] = replace(found[text], distinct=False, reason=found[text].reason or AGAIN)
            else:
                distinct.append(text)
        first = {text: i for i, text in reversed(list(enumerate(distractors)))}
        repeated = {text: replace(v, distinct=False, reason=v.reason or AGAIN) for text, v in found.items()}
        return [(found if first[text] == i else repeated)[text] for i, text in enumerate(distractors)]

    def _agree(self, a: str, b: str, context: str, vectors: dict[str, np.ndarray]) -> bool:
        """Whether two texts say the same by their words or their meaning."""
        if _contradict(a, b, context):
            return False
        return token_f1(_plain(a), _plain(b)) >= self.same_f1 or float(vectors[a] @ vectors[b]) >= self.same_meaning


def _first_that_holds(reasons: dict[str, bool]) -> str:
    return next((reason for reason, holds in reasons.items() if holds), "")


def _about_as_long(text: str, answer: str) -> bool:
    a, b = len(text.split()), len(answer.split())
    return abs(a - b) <= LENGTH_DIFFERENCE or max(a, b) <= LENGTH_RATIO * min(a, b)


def _plain(text: str) -> str:
    """In small letters, an accent one sign, a letter as wide as all others, numbers in figures."""
    text = unicodedata.normalize("NFKC", text.lower())
    return re.sub(r"[^\W\d_]+", lambda word: NUMBERS.get(word.group(), word.group()), text)


def _holds(a: str, b: str) -> bool:
    """Whether one text holds the words of the other in a row, not denied: 'not hungry' does not hold 'hungry'."""
    a, b = (normalize_answer(re.sub(r"(\b(?:not|no|never)|n['’]t) ", r"\1", _plain(text))) for text in (a, b))
    return bool(a and b) and (f" {a} " in f" {b} " or f" {b} " in f" {a} ")


def _contradict(a: str, b: str, context: str) -> bool:
    """Whether two texts name other numbers or dates, or other people of the text, or one of them alone denies."""
    for facts in (_figures, lambda text: _people(text, context)):
        here, there = facts(a), facts(b)
        if here - there and there - here:
            return True
    return _denies(a) != _denies(b)


def _figures(text: str) -> set[str]:
    """Numbers and dates, each in one way of writing."""
    words = (part for word in _words(_plain(text)) for part in word.split("-"))
    return {w.replace(",", "") for w in words if w[0].isdigit() or w in AMOUNTS or w in SERIES}


def _people(text: str, context: str) -> set[str]:
    return {word for word in _words(text) if word in _written(context) and _may_be_name(word, context)}


def _denies(text: str) -> bool:
    return re.search(r"\b(not|no|never|nobody|nothing)\b|n['’]t\b", text.lower()) is not None


# ---- the best of many -----------------------------------------------------------------------------------------------


@dataclass
class Choice:
    """The options chosen for one question.

    Attributes:
        chosen: The distractors, the most plausible first.
        rejected: The other candidates in the order given, each with the reason.
    """

    chosen: list[str]
    rejected: list[tuple[str, str]]


def choose_distractors(
    checks: DistractorChecks,
    contexts: Sequence[str],
    questions: Sequence[str],
    answers: Sequence[Sequence[str]],
    candidates: Sequence[Sequence[str]],
    count: int = 3,
) -> list[Choice]:
    """Choose options among candidates: those that may stand, the closest first, and unlike each other.

    One after the other is chosen by its closeness less `DIVERSITY` times its likeness to the nearest one chosen before
    (maximal marginal relevance, Carbonell and Goldstein 1998).

    Args:
        checks: What the candidates must pass.
        contexts: The text of each question.
        questions: The questions.
        answers: The accepted answers of each.
        candidates: The candidates of each, in any order: it changes nothing of what is chosen.
        count: How many are wanted; there are fewer where no more may stand.

    Raises:
        ValueError: The sequences differ in length.
    """
    verdicts, vectors = checks._judged(contexts, questions, answers, candidates)
    choices = []
    for row, own in zip(candidates, verdicts, strict=True):
        left = sorted((-v.closeness, text) for text, v in zip(row, own, strict=True) if not v.reason)
        chosen: list[str] = []
        while left and len(chosen) < count:
            near = [max((float(vectors[text] @ vectors[other]) for other in chosen), default=0.0) for _, text in left]
            best = min(range(len(left)), key=lambda i: left[i][0] + DIVERSITY * near[i])
            chosen.append(left.pop(best)[1])
        spare = {text for _, text in left}
        rejected = [
            (text, v.reason or "others are better") for text, v in zip(row, own, strict=True) if v.reason or text in spare
        ]
        choices.append(Choice(chosen, rejected))
    return choices


# ---- how good distractors are -----------------------------------------------------------------------------------------


SHARES: dict[str, Callable[[Verdict], bool]] = {
    "wrong": lambda v: v.wrong,
    "plausible": lambda v: v.plausible,
    "both": lambda v: v.wrong and v.plausible,
    "distinct": lambda v: v.distinct,
    "same_kind": lambda v: v.same_kind,
}
"""What is counted in the report."""


def distractor_report(
    checks: DistractorChecks,
    contexts: Sequence[str],
    questions: Sequence[str],
    answers: Sequence[Sequence[str]],
    systems: dict[str, Sequence[Sequence[str]]],
    groups: Sequence[str],
    seed: int = 0,
) -> dict[str, dict[str, dict]]:
    """What the checks say of the distractors of several systems.

    Args:
        checks: The checks.
        contexts: The text of each question.
        questions: The questions.
        answers: The accepted answers of each.
        systems: Name -> the distractors of each question, none where it has none.
        groups: What the split did not cut, a story say: drawn together for the intervals.
        seed: Of the draws.

    Returns:
        System -> 'offered', distractors a question; and of these the share that is 'wrong', 'plausible', 'both', 'distinct' and
        of the 'same_kind', left out where none was offered; each with its 'value' and 95% 'interval'.

    Raises:
        ValueError: There is no question, or the sequences differ in length.
    """
    if not len(questions):
        raise ValueError("there is no question to report on")
    counts = bootstrap_counts(groups, seed=seed)
    table: dict[str, dict[str, dict]] = {}
    for name, distractors in systems.items():
        verdicts = checks.judge(contexts, questions, answers, distractors)
        offered = np.array([len(own) for own in verdicts], float)
        sums = {"offered": (offered, np.ones(len(offered)))}
        for what, said in SHARES.items() if offered.any() else ():
            sums[what] = (np.array([sum(map(said, own)) for own in verdicts], float), offered)
        with np.errstate(invalid="ignore"):  # a draw without a distractor is left out
            table[name] = {
                what: {"value": float(a.sum() / b.sum()), "interval": list(interval_of((counts @ a) / (counts @ b)))}
                for what, (a, b) in sums.items()
            }
    return table


def other_answers(answers: Sequence[Sequence[str]], groups: Sequence[str], count: int = 3, seed: int = 0) -> list[list[str]]:
    """Answers to questions about other texts, at random: what should be judged wrong and seldom plausible.

    Args:
        answers: The accepted answers of each question, of which the first counts.
        groups: The text or story of each question.
        count: How many to draw; fewer where there are no more.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    drawn = []
    for group in groups:
        others = sorted({known[0] for known, other in zip(answers, groups, strict=True) if known and other != group})
        drawn.append([others[i] for i in rng.permutation(len(others))[:count]])
    return drawn
