"""The options that every recipe with a causal language model shares."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..parser import ConfigurationError


@dataclass
class LanguageModelArguments:
    """How conversations become tokens, and replies are written."""

    _argument_group_name = "language model"

    chat_template: str | None = field(
        default=None, metadata={"help": "a file with a chat template in Jinja, or 'plain'; the checkpoint's own where not given"}
    )
    max_length: int = field(default=1024, metadata={"help": "tokens of a conversation at most; of longer ones the last turns"})
    packing: bool = field(
        default=True, metadata={"help": "put a batch into one row without padding, no conversation seeing another; false pads"}
    )
    max_new_tokens: int = field(default=96, metadata={"help": "tokens of a reply at most"})
    load_in_4bit: bool = field(
        default=False, metadata={"help": "keep the frozen weights in 4 bit (QLoRA); needs a GPU and bitsandbytes"}
    )

    def __post_init__(self):
        if self.max_new_tokens < 1:
            raise ConfigurationError(f"--max_new_tokens is {self.max_new_tokens}; expected a whole number from 1 on.")
        if self.max_length <= self.max_new_tokens + 32:
            raise ConfigurationError(
                f"--max_length is {self.max_length}; expected room for a reply (--max_new_tokens {self.max_new_tokens}) and what "
                "comes before it."
            )
