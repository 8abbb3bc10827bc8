"""A small transformer over the columns of a record: each number and each category is a token.

Numbers enter by piecewise-linear encoding (Gorishniy, Rubachev and Babenko 2022): how far a value has come through each of a
few bins of its column, which keeps thresholds sharp, then a linear layer of the column's own. A missing value is a token of its
own. The tokens go through a transformer with normalisation in front (FT-Transformer, Gorishniy et al. 2021) and a readout token.
Several members of the same kind may learn side by side; their logits are averaged.
One file that needs transformers and torch alone: it is saved with the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput


class RecordTransformerConfig(PreTrainedConfig):
    """What a record holds, and how large the model is.

    Args:
        bin_edges: For each number column the edges of its bins, ascending; two edges are one bin.
        category_sizes: For each category column the number of its values; 0 stands for one that is missing or new.
        hidden_size, num_hidden_layers, num_attention_heads: Of the transformer.
        dropout: Of the feed-forward parts and the readout.
        num_members: Transformers whose logits are averaged.
        kwargs: As for any configuration; num_labels is the number of outputs.
    """

    model_type = "edu_record_transformer"

    def __init__(
        self, bin_edges: list[list[float]] | None = None, category_sizes: list[int] | None = None, hidden_size: int = 64,
        num_hidden_layers: int = 2, num_attention_heads: int = 4, dropout: float = 0.1, num_members: int = 1,
        **kwargs,
    ):  # fmt: skip
        self.bin_edges, self.category_sizes = bin_edges or [], category_sizes or []
        self.hidden_size, self.num_hidden_layers, self.num_attention_heads = hidden_size, num_hidden_layers, num_attention_heads
        self.dropout, self.num_members = dropout, num_members
        super().__init__(**kwargs)


@dataclass
class RecordOutput(ModelOutput):
    """`logits`: float (records, num_labels). `member_logits`: float (members, records, num_labels), whose mean they are."""

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    member_logits: torch.FloatTensor | None = None


class RecordTransformer(PreTrainedModel):
    """Outputs for records of numbers and categories."""

    config_class = RecordTransformerConfig
    main_input_name = "numbers"

    def __init__(self, config: RecordTransformerConfig):
        super().__init__(config)
        numbers, sizes = len(config.bin_edges), [size + 1 for size in config.category_sizes]
        bins = max([len(edges) - 1 for edges in config.bin_edges], default=1)
        low, high = torch.zeros(2, numbers, bins)
        for column, edges in enumerate(config.bin_edges):
            low[column, : len(edges) - 1], high[column, : len(edges) - 1] = torch.tensor(edges[:-1]), torch.tensor(edges[1:])
        used, starts = high > low, [sum(sizes[:i]) for i in range(len(sizes))]
        self.register_buffer("starts", torch.tensor(starts, dtype=torch.long), persistent=True)
        self.register_buffer("low", low, persistent=True)
        self.register_buffer("span", torch.where(used, high - low, torch.ones(())), persistent=True)
        self.register_buffer("used", used, persistent=True)
        self.members = nn.ModuleList(_Member(config, numbers, bins, sum(sizes)) for _ in range(config.num_members))
        self.post_init()

    def get_input_embeddings(self) -> None:
        """There is no table of words."""

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=5**0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, numbers: torch.FloatTensor, categories: torch.LongTensor, **kwargs) -> RecordOutput:
        """Predict.

        Args:
            numbers: float (records, number columns), nan where missing.
            categories: int64 (records, category columns), from 1; 0 is missing or new.
        """
        known = ~numbers.isnan()
        come = (numbers.nan_to_num()[..., None] - self.low) / self.span
        pieces = come.clamp(0, 1) * self.used  # 0 before a bin, 1 behind it
        each = torch.stack([member(pieces, known, categories + self.starts) for member in self.members])
        return RecordOutput(logits=each.mean(dim=0), member_logits=each)


class _Member(nn.Module):
    """One transformer: logits (records, num_labels)."""

    def __init__(self, config: RecordTransformerConfig, numbers: int, bins: int, values: int):
        super().__init__()
        width = config.hidden_size
        self.weight = nn.Parameter(torch.empty(numbers, bins, width))  # of each bin of each column
        self.bias = nn.Parameter(torch.empty(numbers, width))
        self.missing = nn.Parameter(torch.empty(numbers, width))
        self.category = nn.Embedding(max(values, 1), width)
        self.readout_token = nn.Parameter(torch.empty(width))
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.norm, self.dropout = nn.LayerNorm(width), nn.Dropout(config.dropout)
        self.classifier = nn.Linear(width, config.num_labels)
        for parameter in (self.weight, self.bias, self.missing, self.category.weight, self.readout_token):
            nn.init.normal_(parameter, std=width**-0.5)

    def forward(self, pieces: torch.Tensor, known: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
        tokens = torch.einsum("rcb,cbw->rcw", pieces, self.weight) + self.bias
        tokens = torch.where(known[..., None], tokens, self.missing)
        tokens = torch.cat([tokens, self.category(categories)], dim=1)
        tokens = torch.cat([self.readout_token.expand(tokens.shape[0], 1, -1), tokens], dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.classifier(self.dropout(self.norm(tokens[:, 0]).relu()))


class _Layer(nn.Module):
    def __init__(self, config: RecordTransformerConfig):
        super().__init__()
        width, self.heads = config.hidden_size, config.num_attention_heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.forward_part = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(2 * width, width)
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        records, length, width = tokens.shape
        qkv = self.qkv(self.norms[0](tokens)).view(records, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(records, length, width)
        tokens = tokens + self.out(seen)
        return tokens + self.forward_part(self.norms[1](tokens))
