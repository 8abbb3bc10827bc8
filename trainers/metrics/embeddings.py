"""Sentences as vectors, to compare what replies mean instead of their words."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import AutoModel

from ..arguments import DEFAULT_ENCODER
from ..checkpoints import explained, find_checkpoint, load_tokenizer
from ..parser import ConfigurationError

logger = logging.getLogger(__name__)


def sentence_encoder(name: str = DEFAULT_ENCODER) -> Callable[[Sequence[str]], np.ndarray]:
    """A function from texts to float32 array (texts, dimensions), rows of length 1: the mean of an encoder's last layer.

    Raises:
        ConfigurationError: The encoder cannot be found or loaded.
    """
    checkpoint = find_checkpoint(name)
    tokenizer = load_tokenizer(checkpoint)
    with explained(checkpoint):
        model = AutoModel.from_pretrained(checkpoint.path, revision=checkpoint.revision, dtype=torch.float32).eval()

    @torch.no_grad()
    def embed(texts: Sequence[str]) -> np.ndarray:
        found = []
        for start in range(0, len(texts), 64):
            part = list(texts[start : start + 64])
            inputs = tokenizer(part, padding=True, truncation=True, max_length=256, return_tensors="pt")
            mask = inputs["attention_mask"][..., None]
            mean = (model(**inputs).last_hidden_state * mask).sum(dim=1) / mask.sum(dim=1)
            found.append(torch.nn.functional.normalize(mean).numpy())
        return np.concatenate(found)

    return embed


def sentence_encoder_if_there(what: str, name: str = DEFAULT_ENCODER) -> Callable[[Sequence[str]], np.ndarray] | None:
    """As `sentence_encoder`; None, with a warning that `what` is not measured, where the encoder cannot be found."""
    try:
        return sentence_encoder(name)
    except ConfigurationError as error:
        logger.warning("%s is not measured: %s", what, error)
        return None
