"""A policy over concepts: from a learner's answers so far, what to learn next towards any goals.

A causal transformer reads a path so far, a token before each move: the concept and the answer before it, how often each concept
was answered rightly and wrongly by then, the mastery of all concepts as estimated by then, and how many moves are left. What it
has read goes to three readouts:

- the exam: how likely each concept is answered rightly at the end if a given move is made next and moves go on as in the logs;
- the answer to the next question, whatever it is about;
- the moves, as in a decision transformer (Chen et al. 2021): how likely each return is, given the goals, and how likely each move
  is, given the return that came of it. By Bayes' rule the two tell which return a move promises, whatever the habits in the logs.

Goals and return enter behind the transformer, since they would tell the first readout what it is to predict. One file that needs
transformers and torch alone: it is saved with the weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput


class PathTransformerConfig(PreTrainedConfig):
    """How many concepts there are, and how large the policy is.

    Args:
        num_concepts: Number of concepts.
        num_counts: Numbers that tell of a concept's answers.
        num_returns: Returns that are told apart, from 0 to 1; what lies between belongs to its two neighbours in part.
        steps: Moves of a path at most.
        hidden_size, num_hidden_layers, num_attention_heads: Of the transformer.
        dropout: Of its layers.
    """

    model_type = "edu_path_transformer"

    def __init__(
        self, num_concepts: int = 2, num_counts: int = 3, num_returns: int = 11, steps: int = 20, hidden_size: int = 64,
        num_hidden_layers: int = 2, num_attention_heads: int = 4, dropout: float = 0.0, **kwargs,
    ):  # fmt: skip
        self.num_concepts, self.num_counts, self.num_returns, self.steps = num_concepts, num_counts, num_returns, steps
        self.hidden_size, self.num_hidden_layers, self.num_attention_heads = hidden_size, num_hidden_layers, num_attention_heads
        self.dropout = dropout
        super().__init__(**kwargs)


@dataclass
class PathOutput(ModelOutput):
    """What is predicted before each move.

    `logits`: float (learners, moves, goal sets, concepts), of each move given goals and return, where these are given; `returns`:
    float (learners, moves, goal sets, returns), logits of each return given the goals.
    `exam`: float (learners, moves, concepts), of a right answer at the end, after the move that is made, where moves are given.
    `answer`: float (learners, moves), of a right answer to the question of that move.
    `states`: float (learners, moves, width).
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    returns: torch.FloatTensor | None = None
    exam: torch.FloatTensor | None = None
    answer: torch.FloatTensor | None = None
    states: torch.FloatTensor | None = None


class PathTransformer(PreTrainedModel):
    """What comes of each move, and which moves lead to a return."""

    config_class = PathTransformerConfig
    main_input_name = "concepts"

    def __init__(self, config: PathTransformerConfig):
        super().__init__(config)
        width, n = config.hidden_size, config.num_concepts
        self.answered = nn.Embedding(2 * n + 1, width)  # a concept answered wrongly, or rightly; 0 nothing yet
        self.state = nn.Linear((1 + config.num_counts) * n, width)
        self.steps_left = nn.Embedding(config.steps + 1, width)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(width)
        self.move = nn.Embedding(n, width)
        self.after_move = nn.Linear(width, width)
        self.exam = nn.Linear(width, n)
        self.own_gain = nn.Linear(width, n)  # what a move does to the concept it is about
        self.kept = nn.Embedding(n, 1)  # how far mastery that is estimated now lasts to the end
        self.answer = nn.Linear(width, n)
        self.goals, self.aim = nn.Linear(n, width), nn.Linear(config.num_returns, width, bias=False)
        self.choice = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, n)
        )
        self.outlook = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, config.num_returns))
        self.post_init()
        nn.init.normal_(self.move.weight)  # moves are told apart from the start

    def get_input_embeddings(self) -> None:
        """There is no table of words."""

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=5**0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(
        self,
        concepts: torch.LongTensor,
        correct: torch.LongTensor,
        counts: torch.FloatTensor,
        mastery: torch.FloatTensor,
        steps_left: torch.LongTensor,
        moves: torch.LongTensor | None = None,
        goals: torch.FloatTensor | None = None,
        returns: torch.FloatTensor | None = None,
        **kwargs,
    ) -> PathOutput:
        """Predict before each move. Padding stands at the end and reaches nothing.

        Args:
            concepts: int64 (learners, moves), the concept before each move, from 1; 0 where there was none.
            correct: int64 (learners, moves), 0 or 1, the answer before each move.
            counts: float (learners, moves, concepts, num_counts), of the answers before each move, scaled to about 1.
            mastery: float (learners, moves, concepts), 0 to 1, estimated from the answers before each move.
            steps_left: int64 (learners, moves), this one included.
            moves: int64 (learners, moves), the move that is made, from 0.
            goals: float (learners, goal sets, concepts), 1 for a goal.
            returns: float (learners, goal sets), the share of the goals that is mastered at the end.
        """
        known = self.log_odds(mastery)
        tokens = self.answered(torch.where(concepts > 0, 2 * concepts - 1 + correct, 0))
        tokens = tokens + self.state(torch.cat([known, counts.flatten(2)], dim=-1))
        tokens = tokens + self.steps_left(steps_left.clamp(0, self.config.steps))
        for layer in self.layers:
            tokens = layer(tokens)
        output = PathOutput(states=self.norm(tokens))
        if moves is not None:
            hidden = nn.functional.gelu(self.after_move(output.states) + self.move(moves))
            gain = self.own_gain(output.states).gather(-1, moves[..., None])
            output.exam = self.exam(hidden) + known * self.kept.weight[:, 0]
            output.exam = output.exam.scatter_add(-1, moves[..., None], gain)
            output.answer = self.answer(output.states).gather(-1, moves[..., None])[..., 0]
        if goals is not None:
            aims = output.states[:, :, None] + self.goals(goals)[:, None]
            output.returns = self.outlook(aims)
            output.logits = self.choice(aims + self.aim(self.shares(returns, self.config.num_returns))[:, None])
        return output

    @staticmethod
    def shares(returns: torch.Tensor, num_returns: int) -> torch.Tensor:
        """To which of the returns that are told apart each belongs, in what part: float (..., num_returns), with the sum 1."""
        known = torch.linspace(0, 1, num_returns, device=returns.device)
        return (1 - (returns[..., None] - known).abs() * (num_returns - 1)).clamp(min=0)

    def promises(self, states: torch.Tensor, goals: torch.Tensor, reachable: torch.Tensor) -> torch.Tensor:
        """The return that is expected of every move that could be made next, by Bayes' rule.

        Args:
            states: float (learners, width), of the last token.
            goals: float (learners, concepts).
            reachable: bool (learners, concepts).

        Returns:
            float (learners, moves), 0 to 1; 0 for what is not reachable.
        """
        aims, known = states + self.goals(goals), torch.eye(self.config.num_returns, device=states.device)
        moves = self.choice(aims[:, None] + self.aim(known)).masked_fill(~reachable[:, None], -1e9).softmax(-1)
        both = self.outlook(aims).softmax(-1)[..., None] * moves  # (learners, returns, moves)
        return (torch.linspace(0, 1, len(known), device=states.device)[:, None] * both).sum(1) / both.sum(1).clamp(min=1e-9)

    def outcomes(self, states: torch.Tensor, mastery: torch.Tensor) -> torch.Tensor:
        """The probability of a right answer at the end, for every move that could be made next.

        Args:
            states: float (learners, width), of the last token.
            mastery: float (learners, concepts), as given to the last token.

        Returns:
            float (learners, moves, concepts), 0 to 1.
        """
        hidden = nn.functional.gelu(self.after_move(states)[:, None] + self.move.weight)
        logits = self.exam(hidden) + (self.log_odds(mastery) * self.kept.weight[:, 0])[:, None]
        return (logits + torch.diag_embed(self.own_gain(states))).sigmoid()

    @staticmethod
    def log_odds(mastery: torch.Tensor) -> torch.Tensor:
        """Of probabilities, within -4 and 4."""
        return mastery.clamp(0.018, 0.982).logit()


class _Layer(nn.Module):
    """A token looks at itself and those before it."""

    def __init__(self, config: PathTransformerConfig):
        super().__init__()
        width, self.heads = config.hidden_size, config.num_attention_heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.forward_part = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(config.dropout), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        learners, length, width = tokens.shape
        qkv = self.qkv(self.norms[0](tokens)).view(learners, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        tokens = tokens + self.out(seen.transpose(1, 2).reshape(learners, length, width))
        return tokens + self.forward_part(self.norms[1](tokens))
