"""A transformer over the resources that a learner opened: which one is next?

After SASRec (Kang and McAuley 2018) with a softmax over the full catalogue, which keeps what it promises where sampled losses do
not (Petrov and Macdonald 2023). A resource is its text, projected, plus an embedding of its own, which is dropped at random in
training: what is new has none and is known by its text alone. One file that needs transformers and torch alone: it is saved with
the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput


class SequentialRecommenderConfig(PreTrainedConfig):
    """How large the recommender is.

    Args:
        num_resources: Resources of the catalogue; they count from 1, 0 is padding.
        text_size: Width of the text embeddings.
        hidden_size, num_hidden_layers, num_attention_heads: Of the transformer.
        history_length: Resources of a history at most.
        dropout: Of embeddings and layers.
        id_dropout: How often a resource is known by its text alone in training.
    """

    model_type = "edu_sequential_recommender"

    def __init__(
        self, num_resources: int = 1, text_size: int = 384, hidden_size: int = 64, num_hidden_layers: int = 2,
        num_attention_heads: int = 2, history_length: int = 50, dropout: float = 0.2, id_dropout: float = 0.2, **kwargs,
    ):  # fmt: skip
        self.num_resources, self.text_size, self.history_length = num_resources, text_size, history_length
        self.hidden_size, self.num_hidden_layers, self.num_attention_heads = hidden_size, num_hidden_layers, num_attention_heads
        self.dropout, self.id_dropout = dropout, id_dropout
        super().__init__(**kwargs)


@dataclass
class SequentialOutput(ModelOutput):
    """`states`: float (histories, 1 + resources, width + 1), before each opening and after the last; `vectors`: float
    (catalogue, width + 1). The scalar product of the two is the logit of opening a resource next."""

    loss: torch.FloatTensor | None = None
    states: torch.FloatTensor | None = None
    vectors: torch.FloatTensor | None = None


class SequentialRecommender(PreTrainedModel):
    """States of histories and vectors of resources, whose products are logits of what is opened next."""

    config_class = SequentialRecommenderConfig
    main_input_name = "history"

    def __init__(self, config: SequentialRecommenderConfig):
        super().__init__(config)
        width = config.hidden_size
        self.register_buffer("text", torch.zeros(config.num_resources, config.text_size), persistent=True)
        self.project = nn.Linear(config.text_size, width, bias=False)
        self.own = nn.Embedding(config.num_resources, width)
        self.popularity = nn.Parameter(torch.zeros(config.num_resources))
        self.start = nn.Parameter(torch.zeros(width))
        self.position = nn.Embedding(config.history_length + 1, width)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(config.dropout)
        self.post_init()
        nn.init.zeros_(self.own.weight)  # what nobody opened stays at its text

    def get_input_embeddings(self) -> None:
        """There is no table of words."""

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
            if getattr(module, "bias", None) is not None:
                nn.init.zeros_(module.bias)

    def vectors(self) -> torch.Tensor:
        """The resources of the catalogue, float (catalogue, width)."""
        own = self.own.weight
        if self.training and self.config.id_dropout:
            own = own * (torch.rand(len(own), 1, device=own.device) >= self.config.id_dropout)
        return self.project(self.text) + own

    def forward(self, history: torch.LongTensor, **kwargs) -> SequentialOutput:
        """Read histories.

        Args:
            history: int64 (histories, resources), from 1, oldest first; 0 pads the end and reaches nothing before it.
        """
        vectors = self.vectors()
        padded = torch.cat([vectors.new_zeros(1, vectors.shape[1]), vectors])
        opened = nn.functional.embedding(history, padded)
        states = torch.cat([self.start.expand(len(history), 1, -1), opened], dim=1)
        states = self.dropout(states + self.position.weight[: states.shape[1]])
        for layer in self.layers:
            states = layer(states)
        states = self.norm(states)
        one = states.new_ones(*states.shape[:2], 1)
        vectors = torch.cat([vectors, self.popularity[:, None].to(vectors.dtype)], dim=1)
        return SequentialOutput(states=torch.cat([states, one], dim=-1), vectors=vectors)


class _Layer(nn.Module):
    def __init__(self, config: SequentialRecommenderConfig):
        super().__init__()
        width, self.heads, self.rate = config.hidden_size, config.num_attention_heads, config.dropout
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.forward_part = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        histories, length, width = states.shape
        qkv = self.qkv(self.norms[0](states)).view(histories, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        rate = self.rate if self.training else 0.0
        seen = nn.functional.scaled_dot_product_attention(query, key, value, dropout_p=rate, is_causal=True)
        states = states + self.dropout(self.out(seen.transpose(1, 2).reshape(histories, length, width)))
        return states + self.dropout(self.forward_part(self.norms[1](states)))
