"""Conversations as tokens: a tokenizer's chat template, and which of its tokens the model has to write.

A model learns the replies (the turns of the role 'assistant') and nothing else: not what the system or the user says, not the
header that the template puts before a reply, but the token behind it, without which it would never stop. Where a template marks
the replies with `{% generation %}`, the mark is followed; where it does not, a reply is what stands behind the rendering of all
that precedes it. Either way it reaches up to the first control token, that one included. `check_template` tries this on a made
conversation before anything is trained, and refuses what does not come out token for token.
"""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ..parser import ConfigurationError
from .packing import IGNORED

Message = dict[str, str]
"""{"role": "system", "user" or "assistant", "content": ...}"""

PLAIN = Path(__file__).with_name("plain_chat.jinja")
MARK = re.compile(r"\{%-?\s*generation\s*-?%\}")
TRIED: list[Message] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "What is 2 + 3?"},
    {"role": "assistant", "content": "Count on from two."},
    {"role": "user", "content": "5?"},
    {"role": "assistant", "content": "[confirmation] Yes, five."},
]


def use_chat_template(tokenizer: PreTrainedTokenizerBase, template: str | None) -> None:
    """Give the tokenizer another chat template: 'plain' (which any tokenizer can write), or a file; None keeps its own.

    Raises:
        ConfigurationError: There is no such file.
    """
    if template is None:
        return
    path = PLAIN if template == "plain" else Path(template)
    if not path.is_file():
        raise ConfigurationError(f"--chat_template {template}: there is no such file; the one that is built in is called plain.")
    tokenizer.chat_template = path.read_text(encoding="utf-8")


def check_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """Whether replies can be found in this tokenizer's chat template token for token.

    Returns:
        How they are found: 'generation' (the template marks them) or 'prefix' (by rendering what precedes them).

    Raises:
        ConfigurationError: There is no template, it refuses a system turn, a reply does not come out as it went in, it does not
            end in a control token, or the prompt for a reply differs from what precedes it in training.
    """
    if not tokenizer.chat_template:
        raise ConfigurationError(
            "the checkpoint has no chat template: choose one that was trained for chat, or give it --chat_template plain."
        )
    how = "generation" if MARK.search(tokenizer.chat_template) else "prefix"
    ids, spans = find_replies(tokenizer, TRIED)
    replies = [i for i, message in enumerate(TRIED) if message["role"] == "assistant"]
    for i, (start, end) in zip(replies, spans, strict=True):
        written = tokenizer.decode(ids[start : end - 1]).strip()
        if written != TRIED[i]["content"]:
            raise ConfigurationError(
                f"the chat template ({how}) does not bring a reply out as it went in: {written!r} for {TRIED[i]['content']!r}. "
                "Take another checkpoint, or give it a template with --chat_template."
            )
        if encode_prompt(tokenizer, TRIED[:i]) != ids[:start]:
            raise ConfigurationError(
                "the chat template asks for a reply with other tokens than stand before it in training: its "
                "add_generation_prompt does not fit. Give it a template that does with --chat_template."
            )
    return how


def encode_chat(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], learn: Sequence[bool]
) -> tuple[list[int], list[int]]:
    """A conversation as tokens, and the labels of those to learn.

    Args:
        tokenizer: With a chat template.
        messages: The conversation.
        learn: One a message; only replies are learnt.

    Returns:
        Token ids, and labels of the same length: the token where it belongs to a reply to learn, `IGNORED` elsewhere.
    """
    ids, spans = find_replies(tokenizer, messages)
    labels = [IGNORED] * len(ids)
    wanted = [flag for message, flag in zip(messages, learn, strict=True) if message["role"] == "assistant"]
    for (start, end), flag in zip(spans, wanted, strict=True):
        if flag:
            labels[start:end] = ids[start:end]
    return ids, labels


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """A conversation as tokens, up to where a reply begins."""
    text = _render(tokenizer, _without_controls(tokenizer, messages), add_generation_prompt=True)
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def stop_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens at which a reply ends: the one of the template, and the tokenizer's own."""
    ids, spans = find_replies(tokenizer, TRIED)
    stops = {ids[end - 1] for _, end in spans} | {tokenizer.eos_token_id}
    return sorted(stops - {None})


def find_replies(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> tuple[list[int], list[tuple[int, int]]]:
    """A conversation as tokens, and where each reply stands: its first token, and the one behind its stop token.

    Raises:
        ConfigurationError: The template refuses the conversation, or does not let the replies be found.
    """
    messages = _without_controls(tokenizer, messages)
    if MARK.search(tokenizer.chat_template):
        ids, spans = _marked(tokenizer, messages)
    else:
        ids, spans = _by_prefix(tokenizer, messages)
    if len(spans) != sum(message["role"] == "assistant" for message in messages):
        raise ConfigurationError(
            f"the chat template marks {len(spans)} replies of {sum(m['role'] == 'assistant' for m in messages)}: "
            "{% generation %} must enclose each. Give it a template that does with --chat_template."
        )
    controls = _controls(tokenizer)
    found = []
    for start, end in spans:
        stop = next((i for i in range(start, min(end + 1, len(ids))) if ids[i] in controls), None)
        if stop is None:
            raise ConfigurationError(
                "the chat template does not end a reply in a control token: a model trained on it would never stop. Take another "
                "checkpoint, or give it a template with --chat_template plain."
            )
        found.append((start, stop + 1))
    return ids, found


def _marked(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> tuple[list[int], list[tuple[int, int]]]:
    """Replies by the template's `{% generation %}`."""
    with _refusals():
        encoded = tokenizer.apply_chat_template(list(messages), return_dict=True, return_assistant_tokens_mask=True)
    mask = [0, *encoded["assistant_masks"], 0]
    starts = [i for i in range(len(mask) - 1) if mask[i + 1] > mask[i]]
    ends = [i for i in range(len(mask) - 1) if mask[i + 1] < mask[i]]
    return list(encoded["input_ids"]), list(zip(starts, ends, strict=True))


def _by_prefix(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> tuple[list[int], list[tuple[int, int]]]:
    """Replies by what the template renders before them; a span ends before the first token behind the reply's text."""
    text = _render(tokenizer, messages)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    first = [start for start, _ in encoded["offset_mapping"]]
    behind = [end for _, end in encoded["offset_mapping"]]
    controls, ids, spans = _controls(tokenizer), encoded["input_ids"], []
    for i, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        head = _render(tokenizer, messages[:i], add_generation_prompt=True)
        if not text.startswith(head) or not text[len(head) :].lstrip().startswith(message["content"].strip()):
            raise ConfigurationError(
                "the chat template does not mark replies with {% generation %}, and they cannot be found without: it renders a "
                "turn otherwise once others follow. Give it a template that marks them with --chat_template."
            )
        end = text.index(message["content"].strip(), len(head)) + len(message["content"].strip())
        stop = bisect.bisect_left(first, end)
        while stop < len(ids) and ids[stop] not in controls and not text[first[stop] : behind[stop]].strip():
            stop += 1  # white space between a reply and its stop token
        spans.append((bisect.bisect_right(behind, len(head)), stop))
    return ids, spans


def _render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], add_generation_prompt: bool = False) -> str:
    with _refusals():
        return tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=add_generation_prompt)


def _controls(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that only a template may write."""
    return _special(tokenizer, len(tokenizer))[0]


@functools.lru_cache(maxsize=8)  # a tokenizer takes a millisecond to tell, and is asked several times a conversation
def _special(tokenizer: PreTrainedTokenizerBase, size: int) -> tuple[set[int], re.Pattern]:
    """`_controls`, and a pattern that finds their names in a text."""
    found = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special} | set(tokenizer.all_special_ids)
    names = sorted((tokenizer.convert_ids_to_tokens(i) for i in found), key=len, reverse=True)
    return found, re.compile("|".join(re.escape(name) for name in names if len(name) > 1) or "(?!)")


def _without_controls(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[Message]:
    """What looks like a control token in somebody's words is broken by a space: nobody ends a turn by typing its name."""
    pattern = _special(tokenizer, len(tokenizer))[1]
    return [{**m, "content": pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", m["content"])} for m in messages]


class _refusals:
    """Turns what a template raises into a message."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if isinstance(error, TemplateError):
            raise ConfigurationError(
                f"the chat template refuses the conversation: {str(error).splitlines()[0][:200]}. Recipes write a system turn, "
                "and a tutor may begin; give the checkpoint a template that takes both with --chat_template plain."
            ) from error
        return False
