"""What a tutor reads and how it says what it does: the layout of a conversation, saved with the model.

The system turn holds an instruction, then, in this order and each only where it is known and asked for (`--grounding`):

    You are a tutor. Help the learner to find the answer, and leave the work to the learner. Never give the solution away ...
    Begin your turn with its move: [question] [hint] [correction] [confirmation] [telling] [generic].

    Exercise: Work out 1/2 + 1/3.
    Solution, for the tutor alone: 5/6
    Course text: Fractions can be added once ...
    Learner: Grade 7. Adds tops and bottoms.
    Mastery of the learner: weakest fractions 31% (18 to 46%), ... strongest percentages 82% (70 to 91%).

The learner is the template's user and the tutor its assistant. A tutor's turn begins with its move in brackets, its control
token: '[hint] Look at the two bottoms.' A model writes it first, so that it is the prediction of the move; a move that is asked
for is put there instead. Where the data names no moves there is neither the sentence nor the token.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from datasets import Features, List, Value
from transformers import PreTrainedTokenizerBase

from .language_models.chat import TRIED, Message, encode_chat, encode_prompt
from .language_models.packing import IGNORED, share_beginning
from .parser import ConfigurationError

PARTS = {
    "problem": "Exercise",
    "solution": "Solution, for the tutor alone",
    "context": "Course text",
    "profile": "Learner",
    "mastery": "Mastery of the learner",
}
"""What the system turn may hold, by the name of the column, and how it is announced."""
INSTRUCTION = (
    "You are a tutor. Help the learner to find the answer, and leave the work to the learner. Never give the solution away "
    "before the learner has found it. Answer in one to three short sentences."
)
MOVE = re.compile(r"\s*\[(\w+)\]\s*")
ROLES = {"learner": "user", "tutor": "assistant"}
TOKENS = Features(
    {
        "dialogue": Value("int64"), "input_ids": List(Value("int32")), "labels": List(Value("int32")), "length": Value("int64"),
        "learnt": Value("int64"), "shortened": Value("int32"),
    }
)  # fmt: skip
"""A row that is learnt, see `encode`."""
SHARED = Features({**TOKENS, "dialogue": List(Value("int64")), "positions": List(Value("int32"))})
"""Several that have their history in common, see `share_histories`."""


@dataclass
class TutoringSettings:
    """What is saved in edu_recipes.json.

    Attributes:
        moves: The moves that can be asked for and are predicted; [] where the data names none.
        grounding: Which of `PARTS` enter the system turn.
        instruction: The first lines of the system turn.
        max_length: Tokens of a conversation at most; of a longer one the oldest turns are left out.
        max_new_tokens: Tokens of a reply at most.
        stop: Tokens that end a reply.
        replies_found_by: How the chat template tells replies, see `chat.check_template`.
    """

    moves: list[str]
    grounding: list[str] = field(default_factory=lambda: list(PARTS))
    instruction: str = INSTRUCTION
    max_length: int = 1024
    max_new_tokens: int = 96
    stop: list[int] = field(default_factory=list)
    replies_found_by: str = "prefix"

    def __post_init__(self):
        for part in self.grounding:
            if part not in PARTS:
                raise ConfigurationError(f"--grounding {part} is unknown; expected some of {', '.join(PARTS)}.")

    def without_moves(self) -> TutoringSettings:
        """The same layout for a model that knows no moves."""
        return replace(self, moves=[])

    def system(self, dialogue: dict) -> str:
        """The system turn of a dialogue (`edu_datasets.schema.DIALOGUES`, and mastery where it is known)."""
        lines = [self.instruction]
        if self.moves:
            lines.append(f"Begin your turn with its move: {' '.join(f'[{move}]' for move in self.moves)}.")
        known = [(PARTS[part], dialogue.get(part) or "") for part in PARTS if part in self.grounding]
        return "\n".join([*lines, "", *(f"{title}: {text}" for title, text in known if text)]).strip()

    def messages(self, dialogue: dict, turns: Sequence[dict]) -> list[Message]:
        """The conversation as the chat template takes it."""
        told = [{"role": "system", "content": self.system(dialogue)}]
        for turn in turns:
            move = turn.get("move") if turn["role"] == "tutor" and turn.get("move") in self.moves else ""
            told.append({"role": ROLES[turn["role"]], "content": f"[{move}] {turn['text']}" if move else turn["text"]})
        return told


def encode(
    batch: dict[str, list], indices: Sequence[int], settings: TutoringSettings, tokenizer: PreTrainedTokenizerBase
) -> dict[str, list]:
    """Dialogues as tokens, with labels of the tutor's targets; for `Dataset.map(batched=True, with_indices=True)`.

    A dialogue longer than `max_length` becomes several rows. Each begins with the system turn and goes on with the last turns
    that fit before its last target, so that every target is learnt once.

    Args:
        batch: Columns of `edu_datasets.schema.DIALOGUES`, and mastery where it is known.
        indices: Row numbers.
        settings: The layout.
        tokenizer: With a chat template.

    Returns:
        A row a window: dialogue (row number), input_ids, labels, length (tokens), learnt (labelled tokens), shortened (turns that
        were left out before it).
    """
    rows: dict[str, list] = {k: [] for k in TOKENS}
    dialogues = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
    for number, dialogue in zip(indices, dialogues, strict=True):
        for ids, labels, left_out in _windows(dialogue, settings, tokenizer, number):
            learnt = sum(label != IGNORED for label in labels)
            for column, value in zip(rows, (number, ids, labels, len(ids), learnt, left_out), strict=True):
                rows[column].append(value)
    return rows


def share_histories(rows: dict[str, list]) -> dict[str, list]:
    """Rows of `encode` that go on from one history become one, in which it stands once; for `Dataset.map(batched=True)`.

    They have to stand together, as `edu_datasets.every_reply` leaves them. A history ends where the first reply to learn begins.

    Returns:
        The columns `SHARED`; length counts the history once, learnt all replies.
    """
    found: dict[str, list] = {k: [] for k in SHARED}
    each = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
    for _, group in itertools.groupby(each, _history):
        group = list(group)
        row = share_beginning([(own["input_ids"], own["labels"]) for own in group])
        row |= {"dialogue": [own["dialogue"] for own in group], "length": len(row["input_ids"])}
        row |= {"learnt": sum(own["learnt"] for own in group), "shortened": group[0]["shortened"]}
        for column, values in found.items():
            values.append(row[column])
    return found


def _history(row: dict) -> list[int]:
    """The tokens before the first that is learnt."""
    return row["input_ids"][: next(i for i, label in enumerate(row["labels"]) if label != IGNORED)]


def _windows(
    dialogue: dict, settings: TutoringSettings, tokenizer: PreTrainedTokenizerBase, number: int
) -> list[tuple[list[int], list[int], int]]:
    turns, found = dialogue["turns"], []
    rest = max((i + 1 for i, turn in enumerate(turns) if turn["target"]), default=0)
    while rest:
        for start in range(rest):
            part = turns[start:rest]
            messages = settings.messages(dialogue, part)
            ids, labels = encode_chat(tokenizer, messages, [False, *(turn["target"] for turn in part)])
            if len(ids) <= settings.max_length:
                break
            if start == max(0, rest - 2):  # not even the learner's last turn and the reply
                raise ConfigurationError(too_long(number, len(ids), settings.max_length))
        found.append((ids, labels, start))
        rest = max((i + 1 for i, turn in enumerate(turns[:start]) if turn["target"]), default=0)
    return found


def too_long(number: int, tokens: int, max_length: int) -> str:
    """What is said of a dialogue whose system turn leaves no room."""
    return (
        f"dialogue {number + 1}: its system turn with the last turns has {tokens:,} tokens; --max_length is {max_length:,}. "
        "Raise --max_length, take less into --grounding (problem solution context ...), or shorten that text."
    )


def encode_history(
    dialogue: dict, turns: Sequence[dict], settings: TutoringSettings, tokenizer: PreTrainedTokenizerBase, number: int = 0
) -> list[int]:
    """The prompt for the tutor's next turn; the oldest turns are left out where there is no room for all and a reply.

    Raises:
        ConfigurationError: Not even the last turn fits.
    """
    room = settings.max_length - settings.max_new_tokens
    for start in range(max(1, len(turns))):
        ids = encode_prompt(tokenizer, settings.messages(dialogue, turns[start:]))
        if len(ids) <= room:
            return ids
    raise ConfigurationError(too_long(number, len(ids) + settings.max_new_tokens, settings.max_length))


def beginnings(settings: TutoringSettings, tokenizer: PreTrainedTokenizerBase, move: str | None = None) -> list[list[int]]:
    """The token ids of the control token of each move, or of the one that is asked for.

    Raises:
        ConfigurationError: The tutor does not know this move.
    """
    if move and move not in settings.moves:
        known = ", ".join(settings.moves) or "none: its data named no moves"
        raise ConfigurationError(f"the tutor does not know the move '{move}'; it knows {known}.")
    return [_control_token(name, tokenizer) for name in ([move] if move else settings.moves)]


def _control_token(name: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids of '[name]' as they stand at the beginning of a reply."""
    messages = [*TRIED[:2], {"role": "assistant", "content": f"[{name}] Yes."}]
    reply = [label for label in encode_chat(tokenizer, messages, [True] * 3)[1] if label != IGNORED]
    for end in range(1, len(reply)):
        written = tokenizer.decode(reply[:end]).strip()
        if written == f"[{name}]":
            return reply[:end]
        if len(written) > len(name) + 2:
            break
    raise ConfigurationError(
        f"the tokenizer joins the control token [{name}] with what follows: --moves false goes without moves."
    )


def split_move(text: str) -> tuple[str, str]:
    """A tutor's turn as written by the model -> its move ('' where it names none) and its words.

    >>> split_move("[hint] Look at the bottoms.")
    ('hint', 'Look at the bottoms.')
    """
    found = MOVE.match(text)
    return (found[1], text[found.end() :].strip()) if found else ("", text.strip())
