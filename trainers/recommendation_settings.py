"""What a recommender reads of a topic, a history and a resource: templates, length, batches."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, List, Value
from transformers import PreTrainedTokenizerBase

from .parser import ConfigurationError

QUERIES = ("topic", "history")
ARCHITECTURES = ("encoder", "sequential")
QUERY_FIELDS = {"text", "path", "language"}
RESOURCE_FIELDS = {"title", "text", "kind", "level", "language", "topics"}
HISTORY_TITLES = 5
"""A history is put in words by so many of its last resources."""
TITLE_WORDS = 12
"""A resource without a title is called by so many of its first words."""


@dataclass
class RecommendationSettings:
    """All that turns texts into tokens and similarities into a ranking; saved with the model.

    Attributes:
        query: 'topic', or 'history': the resources that a learner opened.
        architecture: 'encoder', a text encoder for queries and resources; 'sequential', a transformer over histories.
        query_template: What the encoder reads of a query: {text}, {path} (the topics above, each followed by ' > '), {language}.
        resource_template: What it reads of a resource: {title}, {text}, {kind}, {level}, {language}, {topics}.
        max_length: Tokens of a text at most.
        pooling: 'mean' over the tokens, or 'cls', the first; the result is divided by its length.
        scale: Factor of the cosine in the softmax (1 / temperature).
        history_length: 'sequential' reads so many of the last resources.
        rerank: A cross-encoder reads so many of the best of a list together with the query; 0 is none.
        topics: "text", "path" and "language" of each topic of the catalogue: names alone, never what is relevant to them.
        weights: Feature -> weight in the ranking, fitted on validation; see `fusion`.
    """

    query: str = "topic"
    architecture: str = "encoder"
    query_template: str = "{text}"
    resource_template: str = "{title} {text}"
    max_length: int = 128
    pooling: str = "mean"
    scale: float = 20.0
    history_length: int = 50
    rerank: int = 0
    topics: list[dict[str, Any]] = field(default_factory=list)
    weights: dict[str, float] = field(default_factory=dict)

    def __post_init__(self):
        for name, value, allowed in (
            ("query", self.query, QUERIES), ("architecture", self.architecture, ARCHITECTURES),
            ("pooling", self.pooling, ("mean", "cls")),
        ):  # fmt: skip
            if value not in allowed:
                raise ConfigurationError(f"--{name} is {value!r}; expected {' or '.join(allowed)}.")
        if self.architecture == "sequential" and self.query == "topic":
            raise ConfigurationError("--architecture sequential reads histories: set --query history, or leave it out.")
        for option, template, known, needed in (
            ("query_template", self.query_template, QUERY_FIELDS, {"text"}),
            ("resource_template", self.resource_template, RESOURCE_FIELDS, {"title", "text"}),
        ):
            try:
                fields = fields_of(template)
            except ValueError as error:
                raise ConfigurationError(f"--{option} {template!r} cannot be read: {error}.") from error
            if fields - known or not fields & needed:
                raise ConfigurationError(
                    f"--{option} {template!r} must hold {' or '.join(f'{{{n}}}' for n in sorted(needed))}; known are "
                    f"{', '.join(f'{{{n}}}' for n in sorted(known))}."
                )
            if self.query == "topic" and "topics" in fields:
                raise ConfigurationError(
                    "--resource_template holds {topics}: a resource would tell which topic it is relevant to."
                )
        for name, least in (("max_length", 8), ("history_length", 1)):
            if getattr(self, name) < least:
                raise ConfigurationError(f"--{name} is {getattr(self, name)}; expected {least} or more.")
        if self.scale <= 0:
            raise ConfigurationError(f"--scale is {self.scale}; expected a number above 0.")

    def read_query(self, query: Mapping[str, Any]) -> str:
        """What the encoder reads of a query with "text" and perhaps "path" and "language"."""
        path = "".join(f"{name} > " for name in query.get("path") or [])
        filled = self.query_template.format(text=query["text"], path=path, language=query.get("language") or "")
        return " ".join(filled.split())

    def read_resource(self, resource: Mapping[str, Any]) -> str:
        """What the encoder reads of a resource with the columns of `edu_datasets.schema.RESOURCES`."""
        filled = {n: resource.get(n) or "" for n in RESOURCE_FIELDS} | {"topics": ", ".join(resource.get("topics") or [])}
        return " ".join(self.resource_template.format(**filled).split())


def fields_of(template: str) -> set[str]:
    """The names in braces of a template."""
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def title_of(resource: Mapping[str, Any]) -> str:
    """What a list calls a resource: its title, or its first words."""
    return resource.get("title") or " ".join(resource["text"].split()[:TITLE_WORDS])


def history_in_words(titles: Sequence[str]) -> str:
    """What an encoder reads of a history: the titles of the last resources, the latest first."""
    return "; ".join(titles[::-1][:HISTORY_TITLES])


# ---- from texts to batches ------------------------------------------------------------------------------------------


def encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, settings: RecommendationSettings) -> dict[str, list]:
    """Texts to model inputs, training and prediction alike.

    Returns:
        input_ids, at most `max_length` each; length (tokens).
    """
    ids = tokenizer(list(texts), truncation=True, max_length=settings.max_length)["input_ids"] if len(texts) else []
    return {"input_ids": ids, "length": [len(i) for i in ids]}


TOKENS = Features({"input_ids": List(Value("int32")), "length": Value("int64")})
"""What `encode` gives."""


def encode_resources(batch: dict[str, list], tokenizer: PreTrainedTokenizerBase, settings: RecommendationSettings) -> dict:
    """`encode` of what is read of resources; for `Dataset.map(batched=True)`."""
    rows = (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))
    return encode([settings.read_resource(row) for row in rows], tokenizer, settings)


class PairCollator:
    """Pairs of a query and a resource to a batch in which each text stands once; or texts alone to a padded batch.

    Args:
        tokenizer: The checkpoint's.
        queries: The tokens of each query, see `TOKENS`.
        resources: The tokens of each resource.
        chunk_size: So many texts are padded together; 0 pads the queries together and the resources together.

    Attributes:
        negatives: Hard negatives of each pair, resource numbers, int64 (pairs, n), that join its batch; -1 is none.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, queries: Dataset, resources: Dataset, chunk_size: int = 0):
        self.tokenizer, self.queries, self.resources, self.chunk_size = tokenizer, queries, resources, chunk_size
        self.negatives: np.ndarray | None = None

    def __call__(self, rows: list[dict]) -> dict[str, Any]:
        """Of texts: input_ids and attention_mask, int64 (texts, tokens). Of pairs:

        parts: a list of such, all queries and then all resources, or of similar length; order: int64 (texts,), where each
        text, the queries first, stands among the rows of all parts; queries, resources: int64, the number of each text;
        pairs: int64 (pairs, 2), which of the queries and which of the resources.
        """
        if "input_ids" in rows[0]:
            return self._pad([row["input_ids"] for row in rows])
        asked, found = [row["query"] for row in rows], [row["resource"] for row in rows]
        queries, first = np.unique(asked, return_inverse=True)
        wanted = np.array(found)
        if self.negatives is not None:
            own = self.negatives[[row["pair"] for row in rows]].ravel()
            wanted = np.concatenate([wanted, own[own >= 0]])
        resources = np.unique(wanted)
        pairs = np.stack([first, np.searchsorted(resources, found)], axis=1)
        texts = [*self.queries[queries]["input_ids"], *self.resources[resources]["input_ids"]]
        if self.chunk_size:
            order = np.argsort([len(t) for t in texts], kind="stable")
            cuts = [order[i : i + self.chunk_size] for i in range(0, len(order), self.chunk_size)]
        else:
            cuts = [np.arange(len(queries)), np.arange(len(queries), len(texts))]
        return {
            "parts": [self._pad([texts[i] for i in cut]) for cut in cuts],
            "order": torch.from_numpy(np.argsort(np.concatenate(cuts), kind="stable")),
            "queries": torch.from_numpy(queries), "resources": torch.from_numpy(resources), "pairs": torch.from_numpy(pairs),
        }  # fmt: skip

    def _pad(self, ids: list[list[int]]) -> dict[str, torch.Tensor]:
        batch = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt")
        return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
