"""The writer of questions as it is used: requests in, checked and ranked questions with their wrong options out."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from . import question_answering
from .candidate_ranking import Candidate, Reader, rank, score
from .distractors import Choice, DistractorChecks, Embed, answer_spans, choose_distractors, spans_like
from .essay_text import sentences
from .generation_settings import ANSWER, DISTRACTOR, LEVEL, GenerationSettings, Request, RequestEncoder, question_request
from .language_models.sampling import Sampling, continue_prompts
from .lexical import words_of
from .metrics.answers import normalize_answer
from .question_checks import ANOTHER_KIND, asks_for_another_kind

logger = logging.getLogger(__name__)

ANSWERS_TRIED = 2  # answers that are asked for, for each question that is wanted
SURPLUS = "others are better"


def nearest_sentences(contexts: Sequence[str], questions: Sequence[str]) -> list[str]:
    """The sentence of each text that has most of the question's words that carry meaning, the shortest of equal ones.

    A reader that needs no training: what it says is long, so that its F1 with an answer is low, but higher where it found the
    place.
    """
    found = []
    for context, question in zip(contexts, questions, strict=True):
        asked = set(words_of(question))
        found.append(max(sentences(context), key=lambda s: (len(asked & set(words_of(s))), -len(s)), default="").strip())
    return found


@dataclass
class QuizItem:
    """A question about a text, with all that was checked of it.

    Attributes:
        question: The words.
        answers: The accepted answers, the first of which it was written for.
        reason: Why it may not stand, '' where it may.
        scores: See `candidate_ranking.SCORES`.
        distractors: Wrong options, and which were rejected and why; None where none were asked for.
    """

    question: str
    answers: list[str]
    reason: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    distractors: Choice | None = None


@dataclass
class QuestionWriter:
    """A trained writer of questions.

    Attributes:
        model: The language model.
        settings: The layout.
        tokenizer: Its tokenizer.
        reader: Tries to answer what is written.
        trained_reader: Whether it was trained to: then what it cannot answer is refused.
        attribute_names: The names of the entries of attributes in the rows of `write`.
    """

    model: PreTrainedModel
    settings: GenerationSettings
    tokenizer: PreTrainedTokenizerBase
    reader: Reader = nearest_sentences
    trained_reader: bool = False
    attribute_names: list[str] = field(default_factory=list)

    def _continue(self, requests: Sequence[Request], sampling: Sampling, batch_size: int):
        encoder = RequestEncoder(self.settings, self.tokenizer)
        prompts = [encoder.prompt(request, number) for number, request in enumerate(requests)]
        if encoder.shortened:
            logger.warning("%d texts are longer than the model reads: what is asked is about their beginning.", encoder.shortened)
        return continue_prompts(
            self.model,
            prompts,
            sampling,
            stop=self.settings.stop,
            pad_token_id=self.tokenizer.pad_token_id,
            batch_size=batch_size,
        )

    def _words(self, tokens: Sequence[int]) -> str:
        return " ".join(self.tokenizer.decode(tokens, skip_special_tokens=True).split())

    def write(
        self, rows: Sequence[dict], sampling: Sampling, batch_size: int = 64, level: str = "",
        controls: dict[str, str] | None = None,
    ) -> list[list[Candidate]]:  # fmt: skip
        """Candidates for each row, with scores and the reasons of the gates, in the order they were written.

        Args:
            rows: context, answers and attributes of each, as in `edu_datasets.schema.PASSAGES`; its question is not read.
            sampling: How many are written, and how.
            batch_size: Candidates a batch; what is written does not depend on it.
            level: The reading level to ask for.
            controls: Attributes to ask for, in place of those of the rows.

        Raises:
            ConfigurationError: The model does not know the level or a control.
        """
        for name, value in (({LEVEL: level} if level else {}) | (controls or {})).items():
            self.settings.check_control(name, value)
        requests = [question_request({"question": "", **row}, self.attribute_names, self.settings, level) for row in rows]
        for request in requests if controls else ():
            told = {**request.fields, **controls}
            request.fields = {name: told[name] for name in ("answer", *self.settings.controls, LEVEL) if name in told}
        found = [
            [Candidate(self._words(c.tokens), c.finished, {"likelihood": c.log_likelihood}) for c in own]
            for own in self._continue(requests, sampling, batch_size)
        ]
        score(
            [row["context"] for row in rows], [row["answers"] for row in rows], found, self.reader, self.trained_reader, level
        )  # fmt: skip
        return found

    def answers(self, contexts: Sequence[str], sampling: Sampling, controls: dict[str, str] | None = None,
                batch_size: int = 64) -> list[list[str]]:  # fmt: skip
        """Answers worth asking for in each text, as many as are drawn and each once.

        First those that the model writes, where it has learnt to, the likeliest first: of these the ones whose words all stand in
        the text, for what a small model makes up is right by chance. Then spans of the text.
        """
        told = {name: controls[name] for name in self.settings.controls if name in (controls or {})}
        written: Sequence = [[]] * len(contexts)
        if ANSWER in self.settings.written:
            written = self._continue([Request(context, told, ANSWER) for context in contexts], sampling, batch_size)
        found = []
        for context, own in zip(contexts, written, strict=True):
            likeliest = sorted((c for c in own if c.finished), key=lambda c: -c.log_likelihood)
            texts = [self._words(c.tokens) for c in likeliest]
            said = set(words_of(context))
            different: dict[str, str] = {}
            for text in (*(t for t in texts if words_of(t) and said.issuperset(words_of(t))), *answer_spans(context)):
                if key := normalize_answer(text):
                    different.setdefault(key, text)
            found.append(list(different.values())[: sampling.count])
        return found

    def distractor_checks(self, embed: Embed) -> DistractorChecks:
        """The checks of wrong options; a trained reader looks for second right answers."""
        return DistractorChecks(embed, self.reader if self.trained_reader else None)

    def wrong_answers(self, contexts: Sequence[str], questions: Sequence[str], answers: Sequence[Sequence[str]],
                      sampling: Sampling, batch_size: int = 64) -> list[list[str]]:  # fmt: skip
        """Wrong answers as the model writes them, unchecked; none where it has not learnt to."""
        if DISTRACTOR not in self.settings.written:
            return [[] for _ in contexts]
        requests = [
            Request(context, {"question": question, "answer": known[0] if known else ""}, DISTRACTOR)
            for context, question, known in zip(contexts, questions, answers, strict=True)
        ]
        return [[self._words(c.tokens) for c in own if c.finished] for own in self._continue(requests, sampling, batch_size)]

    def distractors(self, contexts: Sequence[str], questions: Sequence[str], answers: Sequence[Sequence[str]],
                    checks: DistractorChecks, count: int, sampling: Sampling, batch_size: int = 64) -> list[Choice]:  # fmt: skip
        """Wrong options: written, where the model has learnt to, found in the text, and answers to other questions about it."""
        elsewhere: dict[str, list[str]] = {}
        for context, known in zip(contexts, answers, strict=True):
            elsewhere.setdefault(context, []).extend(known[:1])
        candidates = [
            [*written, *spans_like(context, known[0] if known else ""), *(a for a in elsewhere[context] if a not in known)]
            for context, known, written in zip(
                contexts, answers, self.wrong_answers(contexts, questions, answers, sampling, batch_size), strict=True
            )
        ]  # fmt: skip
        return choose_distractors(checks, contexts, questions, answers, candidates, count)

    def questions(
        self, contexts: Sequence[str], count: int, sampling: Sampling, answers: Sequence[Sequence[str]] | None = None,
        controls: dict[str, str] | None = None, level: str = "", batch_size: int = 64,
    ) -> list[list[QuizItem]]:  # fmt: skip
        """Questions about texts.

        Args:
            contexts: The texts.
            count: How many questions for each at most, where the writer finds the answers.
            sampling: Candidates of a question; answers are drawn likewise.
            answers: The accepted answers to ask for, one question a text; None lets the writer find some.
            controls: Attributes to ask for.
            level: The reading level to ask for.
            batch_size: Candidates a batch.

        Returns:
            For each text its questions: those that may stand, the best first, then the others with their reasons, of which
            `SURPLUS` is that there are `count` better ones.
        """
        if answers is None:
            drawn = replace(sampling, count=ANSWERS_TRIED * count)
            found = self.answers(contexts, drawn, controls, batch_size)
        else:
            found = [[known] for known in answers]
        asked = [(text, [known] if isinstance(known, str) else list(known)) for text, own in enumerate(found) for known in own]
        rows = [
            {"context": contexts[text], "answers": known, "attributes": [""] * len(self.attribute_names)} for text, known in asked
        ]
        items: list[list[QuizItem]] = [[] for _ in contexts]
        for (text, known), own in zip(asked, self.write(rows, sampling, batch_size, level, controls), strict=True):
            for c in own if answers is None else ():
                if not c.reason and asks_for_another_kind(c.question, known[0], contexts[text]):
                    c.reason = ANOTHER_KIND
            items[text] += [QuizItem(c.question, known, c.reason, c.scores) for c in rank(own, self.settings.weights)[:1]]
        together = defaultdict(list)  # a text may stand in several rows
        for context, own in zip(contexts, items, strict=True):
            together[context] += own
        ranked = [item for own in together.values() for item in _without_repetition(own, self.settings.weights)]
        place = {id(item): number for number, item in enumerate(ranked)}
        items = [sorted(own, key=lambda item: place[id(item)]) for own in items]
        for own in items if answers is None else ():
            for item in [item for item in own if not item.reason][count:]:
                item.reason = SURPLUS
        return items

    def predict_columns(self, contexts: Sequence[str], answers: Sequence[str], batch_size: int = 64) -> dict[str, list]:
        """The most probable question for each answer, and why it may not stand; for comparing a published model with this one."""
        once = Sampling(max_new_tokens=self.settings.max_new_tokens)
        told = self.questions(contexts, 1, once, [[answer] if answer else [] for answer in answers], batch_size=batch_size)
        return {"question": [own[0].question for own in told], "reason": [own[0].reason for own in told]}


def _without_repetition(items: list[QuizItem], weights: dict[str, float]) -> list[QuizItem]:
    """Items of one text ranked, with a reason for each that asks again."""
    candidates = [Candidate(item.question, True, item.scores, reason=item.reason) for item in items]
    place = {id(candidate): item for candidate, item in zip(candidates, items, strict=True)}
    for candidate in (ranked := rank(candidates, weights)):
        place[id(candidate)].reason = candidate.reason
    return [place[id(candidate)] for candidate in ranked]


def load_question_reader(name: str | None) -> Reader:
    """A model of recipes/question_answering.py as a function from contexts and questions to answers; None: `nearest_sentences`.

    Raises:
        ConfigurationError: It is no reader, or cannot be loaded.
    """
    if name is None:
        return nearest_sentences
    reader = question_answering.load(name)
    return lambda contexts, questions: reader.answers(contexts, questions).texts


def reader_name(name: str | None) -> str:
    """What the report calls the reader of the round trip."""
    return "lexical: the sentence with most words of the question" if name is None else f"trained: {Path(name).name}"
