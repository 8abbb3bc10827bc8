"""What a writer of questions reads, and what it is asked for: the layout of a request, saved with the model.

    Text: Millbrook takes its name from a water mill that stood on the north bank of the river Arle ...

    Answer: the north bank
    Attribute: setting
    Ex-or-im: explicit
    Reading level: easy
    Write: question

The text comes first, so that the many requests about one text begin alike and it is read once (`language_models.packing`). Every
field behind it is a control: it stands there where it is known or asked for. `Write:` is one of `WRITTEN`: a question for the
answer; a wrong answer to a question, which then stands in the field `Question`; or an answer that is worth asking for.

A causal model gets the request as the user's turn of its chat template, an instruction as the system's; a model with an encoder
reads it as it stands. Learnt is what is to be written, with its stop token, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from datasets import Dataset, Features, List, Value
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .columns import column_values
from .essay_text import sentences
from .language_models.chat import check_template, encode_chat, encode_prompt, stop_tokens, use_chat_template
from .language_models.packing import IGNORED, share_beginning
from .parser import ConfigurationError
from .reading_level import LEVELS, reading_level

QUESTION, DISTRACTOR, ANSWER = WRITTEN = ("question", "wrong answer", "answer")
"""What can be asked for."""
INSTRUCTION = (
    "You write exercises about a text for learners. A question is answered by the given answer and does not give it away."
)
LEVEL = "reading level"
FIELDS = ("text", "answer", "question", "write")
MOST_VALUES = 50  # of an attribute: what has more is a text or an id
MOST_ENDS = 12  # requests about one text in one row; more of them become another row
FRAME = 128  # tokens of instruction, fields and template
TOKENS = Features(
    {
        "input_ids": List(Value("int32")), "labels": List(Value("int32")), "positions": List(Value("int32")),
        "length": Value("int64"), "longest": Value("int64"), "learnt": Value("int64"), "shortened": Value("bool"),
        "rows": List(Value("int64")),
    }
)  # fmt: skip
"""A row that is learnt, see `encode`; positions where requests share their text."""


@dataclass
class GenerationSettings:
    """What is saved in edu_recipes.json.

    Attributes:
        controls: Names of attributes that can be asked for, and the values that training had of each, the commonest first.
        reading_levels: Whether a reading level can be asked for.
        written: Which of `WRITTEN` were learnt.
        instruction: The system turn.
        max_length: Tokens of a request with what is written at most; of a longer text its last sentences are left out.
        max_new_tokens: Tokens that are written at most.
        encoder_decoder: Whether the model has an encoder.
        stop: Tokens that end what is written.
        replies_found_by: How the chat template tells replies, see `chat.check_template`; '' without one.
        weights: Of the scores by which candidates are ranked, see `candidate_ranking.SCORES`; fitted on validation.
    """

    controls: dict[str, list[str]] = field(default_factory=dict)
    reading_levels: bool = True
    written: list[str] = field(default_factory=lambda: list(WRITTEN))
    instruction: str = INSTRUCTION
    max_length: int = 640
    max_new_tokens: int = 48
    encoder_decoder: bool = False
    stop: list[int] = field(default_factory=list)
    replies_found_by: str = ""
    weights: dict[str, float] = field(default_factory=dict)

    def for_model(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, train: Dataset, answers: bool, distractors: bool,
        chat_template: str | None = None,
    ) -> GenerationSettings:  # fmt: skip
        """The same layout as this model writes it, for what its training questions can teach.

        Args:
            model: A causal model, or one with an encoder.
            tokenizer: Gets the chat template.
            train: The training split.
            answers: Learn to write answers, where there are some.
            distractors: Learn to write wrong answers, where there are some.
            chat_template: See `chat.use_chat_template`.

        Raises:
            ConfigurationError: The chat template does not let what is written be found.
        """
        has_answers, has_distractors = (any(column_values(train, name)) for name in ("answers", "distractors"))
        written = [QUESTION] + [DISTRACTOR] * (distractors and has_distractors) + [ANSWER] * (answers and has_answers)
        if model.config.is_encoder_decoder:
            return replace(self, written=written, encoder_decoder=True, stop=[tokenizer.eos_token_id])
        use_chat_template(tokenizer, chat_template)
        return replace(self, written=written, replies_found_by=check_template(tokenizer), stop=stop_tokens(tokenizer))

    def check_control(self, name: str, value: str) -> None:
        """Raise ConfigurationError where the model does not know the control, or this value of it."""
        known = {**self.controls, **({LEVEL: list(LEVELS)} if self.reading_levels else {})}
        if name not in known:
            have = ", ".join(known) or "none: its data had no attributes"
            raise ConfigurationError(f"the model has no control '{name}'; it has {have}.")
        if value not in known[name]:
            raise ConfigurationError(f"the control '{name}' has no value '{value}'; expected one of {', '.join(known[name])}.")

    def request(self, context: str, fields: dict[str, str], write: str = QUESTION) -> str:
        """The words of a request."""
        told = [f"{name.capitalize()}: {' '.join(value.split())}" for name, value in fields.items() if value]
        return "\n".join([f"Text: {context}", "", *told, f"Write: {write}"])


def known_controls(train: Dataset, names: Sequence[str], wanted: Sequence[str] | None = None) -> dict[str, list[str]]:
    """The values that each attribute has in training, the commonest first.

    Args:
        train: The training split.
        names: The names of the entries of attributes.
        wanted: Which of them are controls; None for all.

    Raises:
        ConfigurationError: One of them is no attribute of the data.
    """
    for name in names if wanted is None else wanted:
        if name.lower() in (*FIELDS, LEVEL):
            raise ConfigurationError(f"--attribute_columns {name}: a request has a field of this name; rename the column.")
        if name not in names:
            raise ConfigurationError(f"--controls {name}: the data has no such attribute; it has {', '.join(names) or 'none'}.")
    counts: dict[str, Counter[str]] = {name: Counter() for name in names if wanted is None or name in wanted}
    for values in column_values(train, "attributes"):
        for name, value in zip(names, values, strict=True):
            if value and name in counts:
                counts[name][value] += 1
    for name, found in counts.items():
        if len(found) > MOST_VALUES:
            raise ConfigurationError(
                f"--controls: the attribute '{name}' has {len(found)} different values; expected {MOST_VALUES} at most, since "
                "each can be asked for and stands in the card. Name the attributes to ask for with --controls."
            )
    return {name: [value for value, _ in found.most_common()] for name, found in counts.items() if found}


@dataclass
class Request:
    """Something to write about a text.

    Attributes:
        context: The text.
        fields: answer, question, controls; '' where it is not known.
        write: One of `WRITTEN`.
        target: What people wrote; None where it is asked for.
    """

    context: str
    fields: dict[str, str]
    write: str = QUESTION
    target: str | None = None


def question_request(row: dict, names: Sequence[str], settings: GenerationSettings, level: str = "") -> Request:
    """The request for the question of a row of `edu_datasets.schema.PASSAGES`, with its answer and its attributes."""
    answer = row["answers"][0] if row["answers"] else ""
    controls = {n: v for n, v in zip(names, row["attributes"], strict=True) if v in settings.controls.get(n, ())}
    fields = {"answer": answer, **controls, LEVEL: level if settings.reading_levels else ""}
    return Request(row["context"], fields, QUESTION, row["question"])


def requests_of(row: dict, names: Sequence[str], settings: GenerationSettings, rng: np.random.Generator) -> list[Request]:
    """All that a row of `edu_datasets.schema.PASSAGES` teaches.

    Its question, with the reading level that people's has told every second time, so that it need not be; each distractor; and
    its answer, where answers are learnt.
    """
    level = reading_level(row["question"]) if rng.random() < 0.5 else ""
    found = [question_request(row, names, settings, level)]
    if DISTRACTOR in settings.written and row["answers"]:
        told = {"question": row["question"], "answer": row["answers"][0]}
        found += [Request(row["context"], told, DISTRACTOR, wrong) for wrong in row["distractors"]]
    if ANSWER in settings.written and row["answers"]:
        controls = {name: value for name, value in found[0].fields.items() if name in settings.controls}
        found.append(Request(row["context"], controls, ANSWER, row["answers"][0]))
    return found


class RequestEncoder:
    """Requests as tokens.

    Args:
        settings: The layout.
        tokenizer: With a chat template, for a causal model.
    """

    def __init__(self, settings: GenerationSettings, tokenizer: PreTrainedTokenizerBase):
        self.settings, self.tokenizer = settings, tokenizer
        self._fitting: dict[str, str] = {}  # texts that were looked at

    @property
    def shortened(self) -> int:
        """How many texts lost sentences."""
        return sum(map(self.was_shortened, self._fitting))

    def was_shortened(self, text: str) -> bool:
        """Whether a text that was looked at lost sentences."""
        return self._fitting[text] != text

    def prompt(self, request: Request, number: int = 0) -> list[int]:
        """The token ids of a request, up to where the writing begins.

        Raises:
            ConfigurationError: Not even a sentence of the text fits.
        """
        words = self.settings.request(self._fit(request, number), request.fields, request.write)
        if self.settings.encoder_decoder:
            return self.tokenizer(words)["input_ids"]
        return encode_prompt(self.tokenizer, self._messages(words))

    def learn(self, request: Request, number: int = 0) -> tuple[list[int], list[int]]:
        """The token ids of a request and its labels: of the whole conversation, or, with an encoder, of what is written alone."""
        words = self.settings.request(self._fit(request, number), request.fields, request.write)
        if self.settings.encoder_decoder:
            return self.tokenizer(words)["input_ids"], self.tokenizer(text_target=request.target)["input_ids"]
        messages = [*self._messages(words), {"role": "assistant", "content": request.target}]
        return encode_chat(self.tokenizer, messages, [False, False, True])

    def _messages(self, words: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": self.settings.instruction}, {"role": "user", "content": words}]

    def _fit(self, request: Request, number: int) -> str:
        """As many sentences of the text as there is room for, the same for all requests about it."""
        text = request.context
        if text not in self._fitting:
            room = self.settings.max_length - self.settings.max_new_tokens - FRAME
            parts = sentences(text)
            ends = np.cumsum([len(self.tokenizer(part, add_special_tokens=False)["input_ids"]) for part in parts])
            kept = int((ends <= room).sum())
            if not kept:
                raise ConfigurationError(
                    f"text {number + 1}: its first sentence has {int(ends[0]):,} tokens, and --max_length "
                    f"{self.settings.max_length:,} leaves room for {max(0, room):,}. Raise --max_length, or cut the text into "
                    "shorter ones."
                )
            self._fitting[text] = "".join(parts[:kept])
        return self._fitting[text]


def encode(
    batch: dict[str, list], indices: Sequence[int], numbers: np.ndarray, names: Sequence[str], tokenizer: PreTrainedTokenizerBase,
    settings: GenerationSettings, share: bool, seed: int,
) -> dict[str, list]:  # fmt: skip
    """What questions teach, as token rows; for `Dataset.map(batched=True, with_indices=True)`.

    Args:
        batch: Columns of `edu_datasets.schema.PASSAGES`, the questions of a text one below the other.
        indices: Where they stand.
        numbers: The number in its split of each question, by where it stands, int64 array.
        names: The names of the entries of attributes.
        tokenizer: The checkpoint's.
        settings: The layout.
        share: Put requests about one text into one row in which it stands once.
        seed: Of which questions tell their reading level.

    Returns:
        A row a text (or a request): input_ids, labels, length (tokens), longest (tokens of the longest request with what is
        written), learnt (labelled tokens), rows (the numbers of the questions it was made of), shortened (the text is, this being
        its first row) and, where shared, positions.
    """
    encoder = RequestEncoder(settings, tokenizer)
    texts: dict[str, list] = {}
    for i, *values in zip(indices, *batch.values(), strict=True):
        row, number, rng = dict(zip(batch, values, strict=True)), int(numbers[i]), np.random.default_rng(seed)
        rng.bit_generator.advance(number)  # each question draws once
        conversations = texts.setdefault(row["context"], [])
        conversations += [(number, encoder.learn(r, number)) for r in requests_of(row, names, settings, rng)]
    found: dict[str, list] = {name: [] for name in TOKENS if share or name != "positions"}
    for text, conversations in texts.items():
        together = MOST_ENDS if share else 1
        for start in range(0, len(conversations), together):
            own, part = zip(*conversations[start : start + together], strict=True)
            row = share_beginning(part) if share else dict(zip(("input_ids", "labels"), part[0], strict=True))
            length = len(row["input_ids"])
            row |= {"length": length, "longest": max(row["positions"]) + 1 if share else length, "rows": sorted(set(own))}
            row |= {"learnt": sum(label != IGNORED for label in row["labels"])}
            row |= {"shortened": start == 0 and encoder.was_shortened(text)}
            for name, value in row.items():
                found[name].append(value)
    return found
