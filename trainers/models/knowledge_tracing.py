"""A tracer of knowledge: from a learner's answers so far, how likely the next one is correct.

Two architectures read the same inputs: 'lstm' (DKT, Piech et al. 2015, with the concept that is asked now at the readout) and
'attention' (after AKT, Ghosh et al. 2020: what is asked now looks back at what was answered then, with a bias towards recent
answers as in ALiBi, Press et al. 2022). Both read numbers that tell the history, such as counts of past successes and failures
(PFA, Pavlik et al. 2009), at the readout. Several members of the same kind may learn side by side; their logits are averaged
(deep ensembles, Lakshminarayanan et al. 2017). One file that needs transformers and torch alone: it is saved with the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput


class KnowledgeTracingConfig(PreTrainedConfig):
    """How large the tracer is, and what it reads.

    Args:
        num_concepts: Number of concepts; 0 stands for none.
        num_questions: Number of questions that are known by themselves; 0 where the data names concepts only.
        num_features: Numbers a step that tell the history.
        hidden_size: Width.
        num_hidden_layers: Layers over the answers.
        num_attention_heads: Heads ('attention').
        architecture: 'lstm' or 'attention'.
        dropout: Of embeddings, layers and readout.
        num_members: Tracers whose logits are averaged.
    """

    model_type = "edu_knowledge_tracing"
    keys_to_ignore_at_inference = ["member_logits"]

    def __init__(
        self, num_concepts: int = 1, num_questions: int = 0, num_features: int = 0, hidden_size: int = 128,
        num_hidden_layers: int = 1, num_attention_heads: int = 4, architecture: str = "lstm", dropout: float = 0.1,
        num_members: int = 1, **kwargs,
    ):  # fmt: skip
        self.num_concepts, self.num_questions, self.num_features = num_concepts, num_questions, num_features
        self.hidden_size, self.num_hidden_layers, self.num_attention_heads = hidden_size, num_hidden_layers, num_attention_heads
        self.architecture, self.dropout, self.num_members = architecture, dropout, num_members
        super().__init__(**kwargs)


@dataclass
class TracingOutput(ModelOutput):
    """`logits`: float (learners, steps), of a correct answer at each step, from the answers before it. `member_logits`: float
    (members, learners, steps), whose mean they are."""

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    member_logits: torch.FloatTensor | None = None


class KnowledgeTracingModel(PreTrainedModel):
    """Logits of a correct answer at each step, given all answers before it and what is asked at it."""

    config_class = KnowledgeTracingConfig
    main_input_name = "concepts"

    def __init__(self, config: KnowledgeTracingConfig):
        super().__init__(config)
        self.members = nn.ModuleList(_Tracer(config) for _ in range(config.num_members))
        self.post_init()

    def get_input_embeddings(self) -> None:
        """There is no table of words."""

    def forward(
        self,
        concepts: torch.LongTensor,
        correct: torch.LongTensor,
        questions: torch.LongTensor | None = None,
        features: torch.FloatTensor | None = None,
        num_queries: int = 0,
        **kwargs,
    ) -> TracingOutput:
        """Trace. Padding stands at the end and reaches nothing.

        Args:
            concepts: int64 (learners, steps, concepts a step); 0 is none.
            correct: int64 (learners, steps), 0 or 1; what stands at a step reaches only the steps after it.
            questions: int64 (learners, steps); 0 is unknown.
            features: float (learners, steps, num_features), of the answers before each step.
            num_queries: The last so many steps are questions that are put side by side: each sees the answers before the
                first of them, and none sees another.
        """
        before = self.visible_answers(concepts.shape[1], num_queries).to(concepts.device)
        each = torch.stack([member(concepts, correct, questions, features, num_queries, before) for member in self.members])
        return TracingOutput(logits=each.mean(dim=0), member_logits=each)

    @staticmethod
    def visible_answers(steps: int, num_queries: int = 0) -> torch.Tensor:
        """How many answers each step sees: those before it, and before the first query. int64 (steps,)."""
        return torch.arange(steps).clamp(max=steps - num_queries)

    @torch.no_grad()
    def rescale_logits(self, slope: float, intercept: float) -> None:
        """From now on give slope x logit + intercept: a calibration that is part of the weights."""
        for member in self.members:
            last = member.readout[-1]
            last.weight.mul_(slope)
            last.bias.mul_(slope).add_(intercept)
            member.base_rate.weight.mul_(slope)


class _Tracer(nn.Module):
    """One member: logits (learners, steps)."""

    def __init__(self, config: KnowledgeTracingConfig):
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.concept = nn.Embedding(config.num_concepts + 1, width, padding_idx=0)
        self.answer = nn.Embedding(2 * (config.num_concepts + 1), width)  # a concept answered wrongly, or rightly
        self.difficulty = nn.Embedding(config.num_questions + 1, 1, padding_idx=0)  # of a question (Rasch)
        self.variation = nn.Embedding(config.num_concepts + 1, width, padding_idx=0)  # how that shifts the concept
        self.features = nn.Linear(config.num_features, width) if config.num_features else None
        self.dropout = nn.Dropout(config.dropout)
        if config.architecture == "lstm":
            self.history = nn.LSTM(width, width, config.num_hidden_layers, batch_first=True)
        elif config.architecture == "attention":
            self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        else:
            raise ValueError(f"architecture is {config.architecture!r}; expected lstm or attention")
        self.start = nn.Parameter(torch.zeros(width))  # the state before the first answer
        self.readout = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(width, 1))
        self.base_rate = nn.Embedding(config.num_concepts + 1, 1, padding_idx=0)

    def forward(self, concepts, correct, questions, features, num_queries, before) -> torch.Tensor:
        asked = self._mean(self.concept, concepts)
        if questions is not None and self.config.num_questions:
            asked = asked + self.difficulty(questions) * self._mean(self.variation, concepts)
        answered = self._mean(self.answer, concepts + correct[..., None] * (self.config.num_concepts + 1), concepts)
        asked, answered = self.dropout(asked), self.dropout(answered)
        steps = concepts.shape[1]
        if self.config.architecture == "lstm":
            states = self.history(answered[:, : steps - num_queries])[0]
            states = torch.cat([self.start.expand(asked.shape[0], 1, -1), states], dim=1)[:, before]
        else:
            states = self.start.expand_as(asked)
            for layer in self.layers:
                states = layer(asked, answered, states, before)
        now = asked if self.features is None or features is None else asked + self.features(features)
        return self.readout(torch.cat([states, now], dim=-1)).squeeze(-1) + self._mean(self.base_rate, concepts).squeeze(-1)

    @staticmethod
    def _mean(table: nn.Embedding, ids: torch.Tensor, concepts: torch.Tensor | None = None) -> torch.Tensor:
        """The mean over the concepts of a step, (learners, steps, width)."""
        if ids.shape[2] == 1 and table.padding_idx == 0:
            return table(ids[:, :, 0])
        known = ((ids if concepts is None else concepts) > 0).unsqueeze(-1)
        return (table(ids) * known).sum(dim=2) / known.sum(dim=2).clamp(min=1)


class _Layer(nn.Module):
    """What is asked at a step looks at the steps before it; each head forgets at a rate of its own, which is learnt."""

    def __init__(self, config: KnowledgeTracingConfig):
        super().__init__()
        width, self.heads = config.hidden_size, config.num_attention_heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.forward_part = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.forgetting = nn.Parameter(torch.linspace(-0.7, -6.2, self.heads))  # log of a rate a step
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, asked: torch.Tensor, answered: torch.Tensor, states: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        learners, steps, width = asked.shape

        def split(x):
            return x.view(learners, steps, self.heads, -1).transpose(1, 2)

        query, key, value = split(self.query(asked + states)), split(self.key(asked)), split(self.value(answered))
        at = torch.arange(steps, device=asked.device)
        hidden = at[None, :] >= before[:, None]  # the answer at a step is what is asked for
        distance = (before[:, None] - 1 - at[None, :]).clamp(min=0)
        scores = query @ key.transpose(-1, -2) / math.sqrt(width // self.heads)
        scores = scores - self.forgetting.exp()[:, None, None] * distance
        weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
        weights = weights.masked_fill(hidden, 0.0)  # the first step has nothing before it
        seen = self.out((self.dropout(weights) @ value).transpose(1, 2).reshape(learners, steps, width))
        states = self.norms[0](states + self.dropout(seen))
        return self.norms[1](states + self.dropout(self.forward_part(states)))
