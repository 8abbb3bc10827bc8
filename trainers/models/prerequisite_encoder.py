"""Which of two concepts comes first: an encoder reads their texts, and a readout tells relation from direction.

The log odds that a is a prerequisite of b are s(a, b) + d(a, b). The relation s is the same both ways round, the direction d
changes its sign: d(a, b) = g(a, b) - g(b, a). So the model cannot hold that each of two concepts comes before the other, unless
their relation is strong and their direction none. Beside the texts it may read counts from a graph of known prerequisites. To
both adds a part that is linear in texts and counts, with which training can begin as a logistic regression. One file that needs
transformers and torch alone: it is saved with the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput


class PrerequisiteEncoderConfig(PreTrainedConfig):
    """Which encoder, and how large the readout is.

    Args:
        encoder: The configuration of the text encoder, as a dictionary.
        concept_counts: Counts of the graph for a concept.
        pair_counts: Counts of the graph for a pair, half of them for the pair turned round.
        hidden_size: Width of the readout.
        dropout: Of the readout.
    """

    model_type = "edu_prerequisite_encoder"

    def __init__(
        self, encoder: dict[str, Any] | None = None, concept_counts: int = 0, pair_counts: int = 0, hidden_size: int = 128,
        dropout: float = 0.1, **kwargs,
    ):  # fmt: skip
        self.encoder = encoder or {"model_type": "bert"}
        self.concept_counts, self.pair_counts = concept_counts, pair_counts
        self.hidden_size, self.dropout = hidden_size, dropout
        super().__init__(**kwargs)


@dataclass
class PrerequisiteOutput(ModelOutput):
    """`logits`: float (pairs, 2), log odds that the first concept is a prerequisite of the second, and turned round."""

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None


class PrerequisiteEncoder(PreTrainedModel):
    """Log odds of a prerequisite, both ways round."""

    config_class = PrerequisiteEncoderConfig
    main_input_name = "input_ids"

    def __init__(self, config: PrerequisiteEncoderConfig):
        super().__init__(config)
        self.encoder = AutoModel.from_config(AutoConfig.for_model(**config.encoder))
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None  # the mean over the tokens is read
        self.classifier = _Readout(config, self.encoder.config.hidden_size)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The encoder's table of words."""
        return self.encoder.get_input_embeddings()

    def forward(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.LongTensor,
        pairs: torch.LongTensor | None = None,
        concept_counts: torch.FloatTensor | None = None,
        pair_counts: torch.FloatTensor | None = None,
        **kwargs,
    ) -> PrerequisiteOutput:
        """Judge pairs of concepts.

        Args:
            input_ids: int64 (texts, tokens), each concept of the batch once.
            attention_mask: int64 (texts, tokens).
            pairs: int64 (pairs, 2), rows of `input_ids`; the texts two by two where not given.
            concept_counts: float (pairs, 2, concept_counts), of the first and of the second concept; 0 where nothing is known.
            pair_counts: float (pairs, 2, pair_counts / 2), of the pair and of the pair turned round.
        """
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        mask = attention_mask[..., None].to(hidden.dtype)
        texts = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
        if pairs is None:
            pairs = torch.arange(len(texts) // 2 * 2, device=texts.device).view(-1, 2)
        config, n = self.config, len(pairs)
        if concept_counts is None:
            concept_counts = texts.new_zeros(n, 2, config.concept_counts)
        if pair_counts is None:
            pair_counts = texts.new_zeros(n, 2, config.pair_counts // 2)
        return PrerequisiteOutput(logits=self.classifier(texts[pairs], concept_counts, pair_counts))


class _Readout(nn.Module):
    def __init__(self, config: PrerequisiteEncoderConfig, width: int):
        super().__init__()
        hidden, counts = config.hidden_size, config.pair_counts
        self.concept = nn.Linear(width + config.concept_counts, hidden)
        self.relation = self._net(3 * hidden + 1 + counts // 2, config)
        self.direction = self._net(3 * hidden + counts, config)
        self.linear = nn.Linear(2 * width + 2 * config.concept_counts + counts, 1)

    @staticmethod
    def _net(width: int, config: PrerequisiteEncoderConfig) -> nn.Sequential:
        hidden = config.hidden_size
        return nn.Sequential(nn.Dropout(config.dropout), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, 1))

    @torch.no_grad()
    def begin_with(self, weight: torch.Tensor, bias: float) -> None:
        """Make the linear part that of a logistic regression, and be nothing else until more is learnt.

        Args:
            weight: float (features,), of the difference and the product of the two texts' embeddings, each of length 1, of the
                concepts' counts, and of the pair's.
            bias: Of the regression.
        """
        self.linear.weight.copy_(weight[None])
        self.linear.bias.fill_(bias)
        for net in (self.relation, self.direction):
            nn.init.zeros_(net[-1].weight)
            nn.init.zeros_(net[-1].bias)

    def forward(self, texts: torch.Tensor, concept_counts: torch.Tensor, pair_counts: torch.Tensor) -> torch.Tensor:
        """Logits (pairs, 2) from texts (pairs, 2, width) and counts (pairs, 2, ...)."""
        alike = nn.functional.cosine_similarity(texts[:, 0], texts[:, 1], dim=-1)[:, None]
        concepts = nn.functional.gelu(self.concept(torch.cat([texts, concept_counts], dim=-1)))
        (a, b), (there, back) = concepts.unbind(1), pair_counts.unbind(1)
        relation = self.relation(torch.cat([(a - b).abs(), a * b, a + b, alike, there + back], dim=-1))
        forth = self.direction(torch.cat([a, b, a * b, there, back], dim=-1))
        turned = self.direction(torch.cat([b, a, a * b, back, there], dim=-1))
        direction = forth - turned
        read = nn.functional.normalize(texts, dim=-1)
        other = read.flip(1)
        counts = [torch.cat([v, v.flip(1)], dim=-1) for v in (concept_counts, pair_counts)]
        plain = self.linear(torch.cat([read - other, read * other, *counts], dim=-1))[..., 0]
        return plain + torch.cat([relation + direction, relation - direction], dim=-1)
