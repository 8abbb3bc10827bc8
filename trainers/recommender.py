"""What a trained recommender does for a school: rank what may be shown, and say why."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .baselines.resource_recommendation import mean_of_last
from .fusion import Features, fused
from .lexical import LexicalIndex, words_of
from .models.sequential_recommender import SequentialRecommender
from .parser import ConfigurationError
from .ranking import rank_resources
from .recommendation_settings import RecommendationSettings, history_in_words, title_of
from .reranking import FEATURE as READ_TOGETHER
from .reranking import Reranker, with_reranker
from .text_encoder import embed_texts

TOPIC_FEATURES = {"encoder": 1.0, "words (BM25)": 0.3, "encoder, other topics": -0.6, "words, other topics": 0.0}
HISTORY_FEATURES = {"model": 1.0, "like the last opened": 0.0, "opened lately": 0.0, "never opened": 0.0}
"""Feature -> the weight it begins with; see `Recommender.features`."""
CLOSE = 0.3  # a cosine from which on a reason speaks of closeness


@dataclass
class Query:
    """What resources are asked for: a topic in words, or the history of a learner.

    Attributes:
        text: The topic.
        path: The topics above, the outermost first.
        language: Of the topic, '' unknown.
        history: The numbers of the resources that the learner opened, oldest first.
    """

    text: str = ""
    path: Sequence[str] = ()
    language: str = ""
    history: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass
class Filters:
    """What may be recommended; an empty list lets everything through.

    Attributes:
        languages, levels, licences, kinds: As the resources state them; what states none passes only where none is asked.
        prerequisites: Topic -> the topics that come before it.
    """

    languages: Sequence[str] = ()
    levels: Sequence[str] = ()
    licences: Sequence[str] = ()
    kinds: Sequence[str] = ()
    prerequisites: Mapping[str, Collection[str]] = field(default_factory=dict)

    def allowed(self, resources: Sequence[Mapping[str, Any]], mastered: Collection[str] | None = None) -> np.ndarray:
        """Bool array (resources,).

        Args:
            resources: Columns of `edu_datasets.schema.RESOURCES`.
            mastered: The topics that the learner has mastered; None does not ask for prerequisites.
        """
        wanted = {"language": self.languages, "level": self.levels, "licence": self.licences, "kind": self.kinds}
        passed = np.ones(len(resources), bool)
        for column, values in wanted.items():
            if values:
                passed &= np.array([row[column] in values for row in resources], bool)
        if mastered is not None:
            passed &= np.array([self.prerequisites_met(row["topics"], mastered) for row in resources], bool)
        return passed

    def check(self, resources: Sequence[Mapping[str, Any]]) -> None:
        """Refuse what would be met by no resource, or by every one, for a word that the catalogue does not use.

        Raises:
            ConfigurationError: Says which option, and what there is.
        """
        wanted = {"language": self.languages, "level": self.levels, "licence": self.licences, "kind": self.kinds}
        for column, values in wanted.items():
            there = sorted({row[column] for row in resources} - {""})
            for value in values:
                if value not in there:
                    raise ConfigurationError(
                        f"--{column}s: no resource has the {column} {value!r}; there {'are' if len(there) > 1 else 'is'} "
                        f"{', '.join(there[:20]) or 'none'}."
                    )
        topics = {topic for row in resources for topic in row["topics"]}
        if self.prerequisites and not topics & set(self.prerequisites):
            raise ConfigurationError(
                "--prerequisites_file: no resource has any of the topics in the column after; the topics of the catalogue are "
                f"{', '.join(sorted(topics)[:5]) or 'not known'}."
            )

    def prerequisites_met(self, topics: Sequence[str], mastered: Collection[str]) -> bool:
        """Whether all that comes before any of the topics is mastered."""
        return all(set(self.prerequisites.get(topic, ())) <= set(mastered) for topic in topics)


@dataclass
class Recommendation:
    """One place of a list: the number of the resource, its id and title, its score (of no unit), and why it is there."""

    resource: int
    resource_id: str
    title: str
    score: float
    reason: str


class Recommender:
    """A trained recommender and the catalogue it chooses from.

    Args:
        model: The text encoder, or a sequential recommender.
        settings: What the model reads, and the fitted weights.
        resources: The catalogue, rows of `edu_datasets.schema.RESOURCES`.
        encoder: The text encoder of the embeddings: the model itself, or with a sequential one the checkpoint of its texts.
        tokenizer: Of the encoder.
        embeddings: Float32 (resources, width), where they are known.
        lately: How often each resource was opened lately, float (resources,); zeros where not given.
        known: For each resource its number in a sequential model, -1 where it is new; in order where not given.
        reranker: A cross-encoder that reads the best `settings.rerank` of each list.
        on_shelf: What may be recommended, bool (resources,); the rest is known from histories alone. All where not given.
    """

    def __init__(
        self, model: PreTrainedModel, settings: RecommendationSettings, resources: Sequence[Mapping[str, Any]],
        encoder: PreTrainedModel | None, tokenizer: PreTrainedTokenizerBase | None, embeddings: np.ndarray | None = None,
        lately: np.ndarray | None = None, known: np.ndarray | None = None, reranker: Reranker | None = None,
        on_shelf: np.ndarray | None = None,
    ):  # fmt: skip
        self.reranker = reranker
        self.model, self.settings, self.resources = model, settings, list(resources)
        self.encoder, self.tokenizer = encoder, tokenizer
        self.read = [settings.read_resource(row) for row in self.resources]
        self.embeddings = self._embed(self.read) if embeddings is None else embeddings
        self.lately = np.zeros(len(self.resources)) if lately is None else lately
        self.known = np.arange(len(self.resources)) if known is None else known
        self.on_shelf = np.ones(len(self.resources), bool) if on_shelf is None else on_shelf

    @functools.cached_property
    def lexical(self) -> LexicalIndex:
        """BM25 over what is read of the resources."""
        return LexicalIndex(self.read)

    @functools.cached_property
    def number_of(self) -> dict[str, int]:
        """resource_id -> its number."""
        return {row["resource_id"]: i for i, row in enumerate(self.resources)}

    @property
    def never_opened(self) -> np.ndarray:
        """Whether nobody opened a resource in training, bool (resources,); beside an encoder the last openings alone tell."""
        return self.lately == 0 if self.settings.architecture == "encoder" else self._untrained

    @functools.cached_property
    def _untrained(self) -> np.ndarray:
        """Whether a sequential model knows a resource by its text alone: its own embedding begins at 0 and moves with use."""
        own = self.model.own.weight.detach().cpu().numpy()
        return (self.known < 0) | ~own[np.maximum(self.known, 0)].any(axis=1)

    # ---- scores -------------------------------------------------------------------------------------------------------

    def start_weights(self) -> dict[str, float]:
        """The features of this recommender, with the weights that fitting begins with and is pulled to."""
        weights = TOPIC_FEATURES if self.settings.query == "topic" else HISTORY_FEATURES
        return weights | ({READ_TOGETHER: 0.0} if self.reranker else {})

    @property
    def weights(self) -> dict[str, float]:
        """Those fitted on validation, of the features of this recommender; see `features`."""
        return {name: self.settings.weights.get(name, value) for name, value in self.start_weights().items()}

    def model_scores(self, queries: Sequence[Query]) -> tuple[np.ndarray, np.ndarray]:
        """Vectors of queries and of resources, float32, whose scalar product is what the model alone says."""
        if self.settings.architecture == "sequential":
            return self._read_histories([query.history for query in queries])
        return self._embed(self._in_words(queries)) * np.float32(self.settings.scale), self.embeddings

    def features(self, queries: Sequence[Query], shown: Callable[[int], np.ndarray] | None = None) -> Features:
        """The scores that the ranking weighs; they come in the order of `start_weights`.

        Of a topic: the encoder's cosine times `scale`; BM25; and for each, how well a resource answers the topics of the
        catalogue altogether (the logarithm of its summed exponentials), which tells what answers many a topic and none in
        particular (Dinu et al. 2015 call it a hub). Only the names of these topics are used, never what is relevant to them.
        Of a history: the model's logit; the cosine to the mean of the last few resources times `scale`; the logarithm of how
        often a resource was opened lately; and whether it was never opened, for how likely that is training cannot tell, and
        validation can. Of both, where there is a cross-encoder, what it says of the best.

        Args:
            queries: Topics or histories.
            shown: From the number of a query to what may be shown to it, bool (resources,); all but its history if not given.
        """
        features = self._features(queries)
        if self.reranker is None:
            return features
        first = np.array([value for name, value in self.weights.items() if name != READ_TOGETHER], np.float32)
        shown = shown or (lambda row: _without(self.on_shelf, queries[row].history))
        return with_reranker(features, first, self._in_words(queries), self.read, self.reranker, self.settings.rerank, shown)

    def _features(self, queries: Sequence[Query]) -> Features:
        of_query, of_resource = self.model_scores(queries)
        if self.settings.query == "topic":
            shared = np.stack(self._other_topics)
            texts = [query.text for query in queries]

            def topic_features(rows: np.ndarray) -> np.ndarray:
                words = np.stack([self.lexical.scores(texts[row]) for row in rows])
                own = np.stack([of_query[rows] @ of_resource.T, words])
                return np.concatenate([own, np.broadcast_to(shared[:, None], (2, *words.shape))])

            return topic_features
        last = mean_of_last([query.history for query in queries], self.embeddings) * np.float32(self.settings.scale)
        shared = np.stack([np.log1p(self.lately), self.never_opened]).astype(np.float32)

        def history_features(rows: np.ndarray) -> np.ndarray:
            own = np.stack([of_query[rows] @ of_resource.T, last[rows] @ self.embeddings.T])
            return np.concatenate([own, np.broadcast_to(shared[:, None], own.shape)])

        return history_features

    @functools.cached_property
    def _other_topics(self) -> tuple[np.ndarray, np.ndarray]:
        """How well each resource answers all topics of the catalogue, by the encoder and by words; float32 (resources,) each."""
        topics = self.settings.topics
        if not topics:
            return np.zeros(len(self.read), np.float32), np.zeros(len(self.read), np.float32)
        asked = self._embed([self.settings.read_query(topic) for topic in topics]) * self.settings.scale
        by_encoder, by_words = np.full((2, len(self.read)), -np.inf)
        for topic, vector in zip(topics, asked, strict=True):
            by_encoder = np.logaddexp(by_encoder, self.embeddings @ vector)
            by_words = np.logaddexp(by_words, self.lexical.scores(topic["text"]))
        return by_encoder.astype(np.float32), by_words.astype(np.float32)

    def _in_words(self, queries: Sequence[Query]) -> list[str]:
        if self.settings.query == "topic":
            return [self.settings.read_query(vars(query)) for query in queries]
        return [history_in_words([title_of(self.resources[i]) for i in query.history]) for query in queries]

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        if self.encoder is None:
            raise ConfigurationError("the text encoder of this recommender is not here: new resources cannot be read.")
        return embed_texts(self.encoder, self.tokenizer, self.settings, texts)

    @torch.no_grad()
    def _read_histories(self, histories: Sequence[np.ndarray], batch_size: int = 256) -> tuple[np.ndarray, np.ndarray]:
        """The last state of each history, and the vectors of the catalogue."""
        model: SequentialRecommender = self.model.eval()
        most, found = model.config.history_length, []
        rows = [1 + self.known[h][self.known[h] >= 0][-most:] for h in histories]
        for start in range(0, max(len(rows), 1), batch_size):
            batch = rows[start : start + batch_size]
            padded = torch.zeros((len(batch), max(map(len, batch), default=0)), dtype=torch.int64)
            for target, row in zip(padded, batch, strict=True):
                target[: len(row)] = torch.from_numpy(row)
            output = model(padded.to(model.device))
            ends = torch.tensor([len(row) for row in batch], dtype=torch.int64)
            found.append(output.states[torch.arange(len(batch)), ends].float().cpu().numpy())
        vectors, new = output.vectors.float().cpu().numpy()[np.maximum(self.known, 0)], self.known < 0
        if new.any():  # known by its text alone, and not popular yet
            vectors[new, :-1] = model.project(torch.from_numpy(self.embeddings[new]).to(model.device)).cpu().numpy()
            vectors[new, -1] = float(model.popularity.min())
        return np.concatenate(found), vectors

    # ---- lists --------------------------------------------------------------------------------------------------------

    def recommend(
        self, queries: Sequence[Query], k: int = 10, filters: Filters | None = None,
        mastered: Sequence[Collection[str] | None] | None = None, again: bool = False,
    ) -> list[list[Recommendation]]:  # fmt: skip
        """A list for each query.

        Args:
            queries: Topics or histories; a learner who opted out has an empty history.
            k: Its length at most; it is shorter where fewer resources may be shown.
            filters: What may be shown.
            mastered: For each query the topics that the learner has mastered; prerequisites are asked for where it is given.
            again: Recommend what stands in the history, too.
        """
        if not len(queries):
            return []
        filters, weights = filters or Filters(), self.weights
        topics = [None if own is None else frozenset(own) for own in mastered or [None] * len(queries)]
        allowed = {own: self.on_shelf & filters.allowed(self.resources, own) for own in set(topics)}

        def shown(row: int) -> np.ndarray:
            return _without(allowed[topics[row]], () if again else queries[row].history)

        def weighed(rows: np.ndarray) -> np.ndarray:
            table = fused(features, weights)(rows)
            for own, row in zip(table, rows.tolist(), strict=True):
                own[~shown(row)] = -np.inf
            return table

        features, nothing = self.features(queries, shown), [np.zeros(0, np.int64)] * len(queries)
        ranking = rank_resources(weighed, nothing, len(self.resources), depth=k)
        lists = []
        for row, (query, top, scores) in enumerate(zip(queries, ranking.top, ranking.scores, strict=True)):
            table = features(np.array([row]))[:, 0]
            parts = np.array(list(weights.values()))[:, None] * (table - table.mean(axis=1, keepdims=True))
            lists.append(
                [
                    Recommendation(
                        int(i), self.resources[i]["resource_id"], title_of(self.resources[i]), float(score),
                        self._reason(query, int(i), parts[:, i]),
                    )
                    for i, score in zip(top, scores, strict=True) if i >= 0
                ]
            )  # fmt: skip
        return lists

    def _reason(self, query: Query, number: int, parts: np.ndarray) -> str:
        """Why a resource stands in a list, from what moved its score."""
        if self.settings.query == "topic":
            asked = {word: shown for shown in re.findall(r"\w+", query.text) for word in words_of(shown)}
            shared = [shown for word, shown in asked.items() if word in set(words_of(self.read[number]))]
            return f"names {', '.join(shared)}" if shared else "close in meaning"
        moved = list(self.weights)[parts.argmax()]
        if len(query.history):
            near = self.embeddings[query.history] @ self.embeddings[number]
            closest = int(query.history[near.argmax()])
            if near.max() >= CLOSE and moved != "opened lately":
                return f"goes with '{title_of(self.resources[closest])}'"
        if self.lately[number] == 0 and self.never_opened[number]:
            return "nobody is known to have opened it"
        if moved == "opened lately" or not len(query.history):
            return "opened often lately" if self.lately[number] > 0 else "opened often"
        return "opened by learners with a like history"

    def predict_columns(
        self, queries: Sequence[Mapping[str, Any]], resources: Sequence[Mapping[str, Any]] | None = None, k: int = 10
    ) -> dict[str, Sequence]:
        """Lists as columns, a row a place.

        Args:
            queries: Each {"text", "path", "language"} of a topic, or {"history": resource ids, oldest first}.
            resources: Another catalogue to choose from.
            k: Length of a list.

        Returns:
            query (its number), rank, resource_id, score, reason.
        """
        recommender = self if resources is None else self.with_catalogue(resources)
        lists = recommender.recommend([recommender.query(**query) for query in queries], k)
        places = [(q, rank, p) for q, found in enumerate(lists) for rank, p in enumerate(found, start=1)]
        return {
            "query": [q for q, _, _ in places], "rank": [rank for _, rank, _ in places],
            "resource_id": [p.resource_id for _, _, p in places], "score": [round(p.score, 4) for _, _, p in places],
            "reason": [p.reason for _, _, p in places],
        }  # fmt: skip

    def query(self, text: str = "", path: Sequence[str] = (), language: str = "", history: Sequence[str] = ()) -> Query:
        """A query in words and ids; what is not in the catalogue is left out of a history."""
        numbers = [self.number_of[i] for i in history if i in self.number_of]
        return Query(text, path, language, np.array(numbers, np.int64))

    def with_catalogue(self, resources: Sequence[Mapping[str, Any]]) -> Recommender:
        """The same model before another catalogue; what it knows of a resource it finds by its id.

        A sequential model still reads in a history what is not in the catalogue any more.
        """
        blank = dict.fromkeys(("title", "text", "kind", "licence", "level", "language"), "") | {"topics": []}
        rows = [{**blank, **row} for row in resources]
        embeddings = self._embed([self.settings.read_resource(row) for row in rows])
        here = np.array([self.number_of.get(row["resource_id"], -1) for row in rows], np.int64)
        gone = np.zeros(0, np.int64)
        if self.settings.architecture == "sequential":
            gone = np.setdiff1d(np.arange(len(self.resources)), here)
            rows += [self.resources[i] for i in gone]
            embeddings = np.concatenate([embeddings, self.embeddings[gone]])
        here = np.concatenate([here, gone])
        known = np.where(here >= 0, self.known[here] if len(self.known) else -1, -1)
        lately = np.where(here >= 0, self.lately[here] if len(self.lately) else 0, 0)
        on_shelf = np.arange(len(rows)) < len(resources)
        parts = self.model, self.settings, rows, self.encoder, self.tokenizer, embeddings, lately, known, self.reranker
        return Recommender(*parts, on_shelf=on_shelf)


def _without(allowed: np.ndarray, history: Sequence[int]) -> np.ndarray:
    """What is allowed and does not stand in a history, bool (resources,)."""
    shown = allowed.copy()
    shown[np.asarray(history, np.int64)] = False
    return shown
