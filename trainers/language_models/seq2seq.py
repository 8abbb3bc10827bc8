"""Models with an encoder that reads a request and a decoder that writes: their batches and their loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from .packing import IGNORED


@dataclass
class Seq2SeqCollator:
    """Requests and what is to be written for a batch, padded at the end.

    Attributes:
        pad_token_id: Token of the padding.
        decoder_start_token_id: What the decoder begins with.
    """

    pad_token_id: int
    decoder_start_token_id: int

    def __call__(self, rows: Sequence[dict]) -> dict[str, torch.Tensor]:
        """Rows have input_ids, and labels of what is to be written. Of the batch, all int64:

        input_ids and attention_mask, (rows, longest request); labels and decoder_input_ids, (rows, longest writing);
        label_counts (rows,).
        """
        ids, labels = ([torch.tensor(row[name], dtype=torch.long) for row in rows] for name in ("input_ids", "labels"))
        shifted = [torch.cat([row.new_tensor([self.decoder_start_token_id]), row[:-1]]) for row in labels]

        def pad(parts: list[torch.Tensor], value: int) -> torch.Tensor:
            return nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=value)

        return {
            "input_ids": pad(ids, self.pad_token_id),
            "attention_mask": pad([torch.ones_like(row) for row in ids], 0),
            "labels": pad(labels, IGNORED),
            "decoder_input_ids": pad(shifted, self.pad_token_id),
            "label_counts": torch.tensor([len(row) for row in labels]),
        }


def written_token_losses(model: nn.Module, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The cross-entropy of each token to write, float32 (tokens,), and the row of the batch it is in, int64 (tokens,)."""
    passed = {k: inputs[k] for k in ("input_ids", "attention_mask", "decoder_input_ids")}
    logits = model(**passed, use_cache=False).logits
    known = inputs["labels"] != IGNORED
    losses = nn.functional.cross_entropy(logits[known].float(), inputs["labels"][known], reduction="none")
    return losses, known.nonzero()[:, 0]
