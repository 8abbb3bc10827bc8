"""A cross-encoder that reads a query and a resource together and has its say on the best of a list (Nogueira and Cho 2019)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from datasets import Dataset
from torch import nn
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase

from .base import EduTrainer
from .fusion import Features
from .metrics.ranking import ranking_metrics

METRIC = "ndcg_at_10"
FEATURE = "read together"
FOLDER = "reranker"
"""Where it is saved, in the folder of its recommender."""


class Reranker:
    """A sequence classifier with one output: how well a resource answers a query.

    Args:
        model: The classifier.
        tokenizer: Its tokenizer.
        max_length: Tokens of a query and a resource at most; the resource is cut.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int):
        self.model, self.tokenizer, self.max_length = model, tokenizer, max_length

    @torch.no_grad()
    def scores(self, query: str, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
        """Logits of the texts, float32 (texts,)."""
        self.model.eval()
        pairs = read_together(self.tokenizer, query, texts, self.max_length)
        found = []
        for start in range(0, len(texts), batch_size):
            part = {name: values[start : start + batch_size] for name, values in pairs.items()}
            batch = self.tokenizer.pad(part, return_tensors="pt").to(self.model.device)
            found.append(self.model(**batch).logits[:, 0].float().cpu().numpy())
        return np.concatenate(found) if found else np.zeros(0, np.float32)


def read_together(tokenizer: PreTrainedTokenizerBase, query: str, texts: Sequence[str], max_length: int) -> dict[str, list]:
    """The tokens of a query with each text."""
    both = tokenizer([query] * len(texts), list(texts), truncation="longest_first", max_length=max_length)
    return {name: both[name] for name in both if name in tokenizer.model_input_names and name != "attention_mask"}


def with_reranker(features: Features, weights: np.ndarray, queries: Sequence[str], texts: Sequence[str],
                  reranker: Reranker, depth: int, shown: Callable[[int], np.ndarray]) -> Features:  # fmt: skip
    """The features and one more: what the cross-encoder says of the best `depth`; all others get the least that it said of these.

    It reads what may be shown alone: the best of the whole catalogue may all be filtered out, and the list would be as it was.

    Args:
        features: Of the queries.
        weights: Of the features, for the best; float (features,).
        queries: What is read of the queries.
        texts: What is read of the resources.
        reranker: The cross-encoder.
        depth: So many of each query are read.
        shown: From the number of a query to what may be shown to it, bool (resources,).
    """
    known: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def more(rows: np.ndarray) -> np.ndarray:
        table = features(rows)
        said = np.empty((1, *table.shape[1:]), np.float32)
        for place, row in enumerate(rows.tolist()):
            if row not in known:
                may = np.flatnonzero(shown(row))
                best = may[np.argsort(-np.tensordot(weights, table[:, place, may], 1), kind="stable")[:depth]]
                known[row] = best, reranker.scores(queries[row], [texts[i] for i in best])
            best, scores = known[row]
            said[0, place] = scores.min() if len(best) else 0
            said[0, place, best] = scores
        return np.concatenate([table, said])

    return more


class ListCollator:
    """Lists of pairs, the relevant one first, to a batch with a row a pair."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        """input_ids, attention_mask and perhaps token_type_ids, int64 (lists x pairs, tokens); labels: 0 for each list."""
        names = [name for name in rows[0] if name in self.tokenizer.model_input_names]
        pairs = {name: [values for row in rows for values in row[name]] for name in names}
        batch = dict(self.tokenizer.pad(pairs, return_tensors="pt"))
        return batch | {"labels": torch.zeros(len(rows), dtype=torch.int64)}


class RerankTrainer(EduTrainer):
    """Trains a cross-encoder so that what is relevant stands above hard negatives of the same query (softmax over the list).

    Args:
        lists: (query, texts), the relevant text first, as many texts in each.
        validation: (query, texts of the best of its list, which of them are relevant).
        max_length: Tokens of a query and a resource at most.
        kwargs: As for `EduTrainer`.
    """

    checkpoint = None

    def __init__(
        self, *, lists: Sequence[tuple[str, list[str]]], validation: Sequence[tuple[str, list[str], np.ndarray]], max_length: int,
        processing_class: PreTrainedTokenizerBase, **kwargs,
    ):  # fmt: skip
        def rows(pairs) -> Dataset:
            tokens = [read_together(processing_class, query, texts, max_length) for query, texts in pairs]
            return Dataset.from_list([{**row, "length": sum(map(len, row["input_ids"]))} for row in tokens])

        self.hits = [hit for _, _, hit in validation]
        kwargs["args"].greater_is_better, kwargs["args"].label_names = True, ["labels"]
        super().__init__(
            train_dataset=rows(lists), eval_dataset=rows([(q, [text]) for q, texts, _ in validation for text in texts]),
            compute_metrics=self.validation_metrics, processing_class=processing_class,
            data_collator=ListCollator(processing_class), **kwargs,
        )  # fmt: skip

    def rows_of_update(self, update: int, processes: Sequence[int]) -> list[int]:
        """None: its lists are no rows of the training split."""
        return []

    def loss_terms(self, model: nn.Module, inputs: dict[str, torch.Tensor]):
        outputs = model(**{name: values for name, values in inputs.items() if name != "labels"})
        labels = inputs["labels"]
        losses = nn.functional.cross_entropy(outputs.logits.float().view(len(labels), -1), labels, reduction="sum")
        return losses, self.count_items(inputs), outputs

    def count_items(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.tensor(len(inputs["labels"]), device=inputs["labels"].device)

    def validation_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """nDCG@10 of the lists in the order of the cross-encoder alone, of those that hold anything relevant."""
        ends = np.cumsum([len(hit) for hit in self.hits])[:-1]
        ranks = []
        for scores, hit in zip(np.split(prediction.predictions[:, 0], ends), self.hits, strict=True):
            if hit.any():
                place = np.empty(len(hit), np.int64)
                place[np.argsort(-scores, kind="stable")] = np.arange(1, len(hit) + 1)
                ranks.append(place[hit])
        return {METRIC: float(ranking_metrics(ranks)[METRIC].mean()) if ranks else 0.0}
