"""The next resource of a learner: a transformer over histories, trained with a softmax over the full catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict, Features, List, Value
from torch import nn
from torch.utils.checkpoint import checkpoint as recompute
from transformers import EvalPrediction

from .baselines.resource_recommendation import by_rank, by_similarity, mean_of_last, popularity
from .columns import RowNumbers, column_values
from .models.sequential_recommender import SequentialRecommender, SequentialRecommenderConfig
from .ranking import MEMORY, Scores
from .recommendation_settings import RecommendationSettings, history_in_words, title_of
from .recommender import Recommender
from .resource_recommendation import RecommendationTrainer

IGNORED = -100
"""The label of a step that is not asked."""


def new_sequential_recommender(
    settings: RecommendationSettings, embeddings: np.ndarray, opened: np.ndarray, **options: Any
) -> SequentialRecommender:
    """A recommender with random weights that knows the texts of a catalogue, and begins with how popular each resource is.

    Args:
        settings: The length of a history.
        embeddings: Of the resources' texts, float32 (resources, width); they are kept as they are.
        opened: What was opened in training, resource numbers.
        options: See `SequentialRecommenderConfig`.
    """
    config = SequentialRecommenderConfig(*embeddings.shape, history_length=settings.history_length, **options)
    SequentialRecommenderConfig.register_for_auto_class()
    SequentialRecommender.register_for_auto_class("AutoModel")  # the file goes with the weights, for a stranger
    model = SequentialRecommender(config)
    counts = popularity(opened, len(embeddings))
    with torch.no_grad():
        model.text.copy_(torch.from_numpy(embeddings))
        model.popularity.copy_(torch.from_numpy(np.log((counts + 1) / (counts.sum() + len(counts)))))
    return model


def windows_of(history: Sequence[int], length: int) -> list[tuple[list[int], list[int]]]:
    """Cut a history so that each opening is asked for once, with what came before as context.

    Args:
        history: Resources, from 1, oldest first.
        length: Resources that the model reads at most.

    Returns:
        (what is read, at most `length`; labels, one more: the resource from 0 that is opened next at each point, `IGNORED` where
        it was opened before or belongs to another window).
    """
    news = [IGNORED if r in history[:i] else r - 1 for i, r in enumerate(history)]
    found = [(list(history[:length]), news[: length + 1])]
    step = max(1, length // 2)
    for first in range(length + 1, len(history), step):
        last = min(first + step, len(history))  # the labels of this window are those from first to last
        start = last - 1 - length
        found.append((list(history[start : last - 1]), [IGNORED] * (first - start) + news[first:last]))
    return [(read, labels + [IGNORED] * (len(read) + 1 - len(labels))) for read, labels in found]


WINDOW = Features(
    {"history": List(Value("int32")), "labels": List(Value("int32")), "length": Value("int64"), "row": Value("int64")}
)
"""A window of a history, see `encode`."""


def encode(batch: dict[str, list], indices: Sequence[int], numbers: RowNumbers, length: int) -> dict[str, list]:
    """Histories to windows; for `Dataset.map(batched=True, with_indices=True)`.

    Args:
        batch: Columns of `edu_datasets.schema.HISTORIES`.
        indices: Row numbers.
        numbers: Of the resources.
        length: Resources that the model reads at most.

    Returns:
        A row a window that asks for something: history and labels, see `windows_of`; length; row, that of the history.
    """
    windows = [
        {"history": read, "labels": labels, "length": len(labels), "row": i}
        for i, history in zip(indices, batch["history"], strict=True)
        for read, labels in windows_of((numbers.of(history) + 1).tolist(), length)
        if any(label != IGNORED for label in labels)
    ]
    return {name: [window[name] for window in windows] for name in WINDOW}


def encode_ends(batch: dict[str, list], indices: Sequence[int], numbers: RowNumbers, length: int) -> dict[str, list]:
    """As `encode`, with the last window of each history that has a target, in which nothing is asked for."""
    asked = zip(indices, batch["history"], batch["targets"], strict=True)
    ends = {i: (numbers.of(history) + 1).tolist()[-length:] for i, history, targets in asked if targets}
    return {
        "history": list(ends.values()), "labels": [[IGNORED] * (len(h) + 1) for h in ends.values()],
        "length": [len(h) + 1 for h in ends.values()], "row": list(ends),
    }  # fmt: skip


class HistoryCollator:
    """Histories to a batch: history, int64 (histories, resources) with 0 at the end; labels, int64 (histories, 1 + resources)."""

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        longest = max(len(row["history"]) for row in rows)
        history = torch.zeros((len(rows), longest), dtype=torch.int64)
        labels = torch.full((len(rows), longest + 1), IGNORED)
        for i, row in enumerate(rows):
            history[i, : len(row["history"])] = torch.tensor(row["history"], dtype=torch.int64)
            labels[i, : len(row["labels"])] = torch.tensor(row["labels"], dtype=torch.int64)
        return {"history": history, "labels": labels}


def full_catalogue_loss(states: torch.Tensor, vectors: torch.Tensor, labels: torch.Tensor, memory: int = MEMORY) -> torch.Tensor:
    """Cross-entropy of a softmax over all resources, summed; no more than `memory` bytes of logits at a time.

    Args:
        states: Float (openings, width).
        vectors: Float (resources, width).
        labels: int64 (openings,), resources from 0.
        memory: Bytes; logits of earlier blocks are computed again in the backward pass.
    """

    def part(states: torch.Tensor, vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy((states @ vectors.T).float(), labels, reduction="sum")

    block = max(1, memory // (4 * len(vectors)))
    if len(states) <= block:
        return part(states, vectors, labels)
    blocks = zip(states.split(block), labels.split(block), strict=True)
    return sum(recompute(part, own, vectors, wanted, use_reentrant=False) for own, wanted in blocks)


class NextResourceTrainer(RecommendationTrainer):
    """Trains a sequential recommender on what learners opened, in order, with a softmax over all that anybody opened.

    Args:
        settings: The length of a history.
        splits: Histories, see `edu_datasets.schema.HISTORIES`.
        resources: The catalogue.
        model: See `new_sequential_recommender`.
        kwargs: As for `RecommendationTrainer`.
    """

    def __init__(
        self, *, settings: RecommendationSettings, splits: DatasetDict, resources: Dataset, model: SequentialRecommender, **kwargs
    ):
        self.row_column = "row"
        told = {"numbers": RowNumbers(resources, "resource_id"), "length": settings.history_length}
        rows = splits["train"].map(
            encode, batched=True, batch_size=256, with_indices=True, remove_columns=splits["train"].column_names,
            features=WINDOW, fn_kwargs=told, desc="histories of train",
        )  # fmt: skip
        self.texts = model.text.cpu().numpy()
        # what nobody opened may not have been there yet: it is no negative, and stays at its text
        opened = np.zeros(len(resources), bool)
        for labels in column_values(rows, "labels"):
            opened[[label for label in labels if label != IGNORED]] = True
        self.opened_once = torch.from_numpy(np.flatnonzero(opened))
        super().__init__(
            settings=settings, splits=splits, resources=resources, model=model, train_dataset=rows,
            data_collator=HistoryCollator(), **kwargs,
        )  # fmt: skip

    def evaluation_rows(self, tokenizer: None) -> Dataset:
        """The validation histories."""
        rows = self.splits["validation"]
        return rows.map(
            encode_ends, batched=True, with_indices=True, remove_columns=rows.column_names, features=WINDOW,
            fn_kwargs={"numbers": self.number_of, "length": self.settings.history_length}, desc="histories of validation",
        )  # fmt: skip

    def loss_terms(self, model, inputs):
        labels = inputs["labels"]
        output = model(history=inputs["history"])
        known, opened = labels != IGNORED, self.opened_once.to(labels.device)
        wanted = torch.searchsorted(opened, labels[known])
        return full_catalogue_loss(output.states[known], output.vectors[opened], wanted), known.sum(), output

    def count_items(self, inputs):
        return (inputs["labels"] != IGNORED).sum()

    def vectors_of(self, model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """The state after the last opening of each history, (histories, width + 1)."""
        ends = (inputs["history"] > 0).sum(dim=1)
        return model(history=inputs["history"]).states[torch.arange(len(ends), device=ends.device), ends]

    @torch.no_grad()
    def validation_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """See `metrics_of`."""
        model = self.model.eval()
        vectors = model(history=torch.zeros((1, 0), dtype=torch.int64, device=model.device)).vectors
        return self.metrics_of(by_similarity(prediction.predictions, vectors.float().cpu().numpy()))

    def recommender(self) -> Recommender:
        """The trained recommender, as `load` will give it."""
        return Recommender(self.model.eval(), self.settings, self.resources, None, None, self.texts)

    def baselines(self, recommender: Recommender) -> dict[str, Scores]:
        """Scores of the test queries by the baselines of the field."""
        asked, words = self.asked["test"], recommender.lexical
        histories = [query.history for query in asked.queries]
        texts = [history_in_words([title_of(self.resources[n]) for n in history]) for history in histories]
        untuned = by_similarity(mean_of_last(histories, self.texts), self.texts)

        def bm25(rows: np.ndarray) -> np.ndarray:
            return np.stack([words.scores(texts[row]) for row in rows])

        return {
            **self.past_baselines(asked), "BM25": bm25, "encoder, not tuned": untuned,
            "BM25 + encoder, not tuned": by_rank(bm25, untuned),
        }  # fmt: skip
