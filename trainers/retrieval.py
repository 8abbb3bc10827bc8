"""A text encoder that puts a query next to what is relevant to it: contrastive loss, hard negatives, the Trainer."""

from __future__ import annotations

import functools
import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import torch
from datasets import Dataset, DatasetDict, concatenate_datasets
from peft import PeftModel
from scipy.sparse import csr_matrix
from torch import nn
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

from .arguments import ModelArguments
from .baselines.resource_recommendation import alike_for_all, at_random, by_rank, by_similarity, mean_of_last, popularity
from .checkpoints import load_classifier
from .columns import column_array, column_values, first_rows, hashes_of
from .gradient_cache import backward_in_parts
from .model_selection import changed
from .parser import ConfigurationError
from .ranking import MEMORY, Scores, rank_resources
from .recommendation_evaluation import METRIC
from .recommendation_settings import (
    TOKENS,
    PairCollator,
    RecommendationSettings,
    encode,
    encode_resources,
    history_in_words,
    title_of,
)
from .recommender import Recommender
from .reranking import FOLDER, Reranker, RerankTrainer
from .resource_recommendation import RecommendationTrainer
from .text_encoder import embed, embed_texts, write_layout

TOO_CLOSE = 0.95
"""A hard negative is at most so close to a query as this share of what is relevant is on average: closer ones are likely
relevant, too, and nobody said so (Moreira et al. 2024)."""
POOL = 30  # hard negatives of a query to choose from
NEGATIVES_OF_A_LIST = 4
"""A cross-encoder learns from lists of one relevant resource and so many hard negatives."""
MOST_TOPICS = 2000
"""What answers many a topic is told from so many topics of the catalogue; a larger one is sampled."""
SHARES = (1.0, 0.75, 0.5, 0.25, 0.0)  # of the trained weights in the mean with those before; 0 takes back the training


def contrastive_loss(
    queries: torch.Tensor, resources: torch.Tensor, pairs: torch.Tensor, relevant: torch.Tensor, scale: float,
    both_ways: bool = True,
) -> torch.Tensor:  # fmt: skip
    """How far each pair stands behind all others of the batch (InfoNCE, van den Oord et al. 2018), summed over pairs.

    What is relevant to a query beside the pair's own resource is neither a negative nor a positive of that pair.

    Args:
        queries: Embeddings (queries, width).
        resources: Embeddings (resources, width).
        pairs: int64 (pairs, 2): which query, which resource.
        relevant: Bool (queries, resources).
        scale: Factor of the products.
        both_ways: Also ask for the query among all queries, given the resource; the mean of both.
    """
    scores = scale * queries @ resources.T
    own = scores[pairs[:, 0], pairs[:, 1]]
    others = scores.masked_fill(relevant, -1e9)
    losses = torch.logaddexp(own, others[pairs[:, 0]].logsumexp(1)) - own
    if both_ways:
        losses = (losses + torch.logaddexp(own, others.T[pairs[:, 1]].logsumexp(1)) - own) / 2
    return losses.sum()


class RetrievalTrainer(RecommendationTrainer):
    """Trains a text encoder so that a query lies next to what is relevant to it, against the whole batch of all processes.

    Args:
        chunk_size: So many texts are held in memory with their graph (gradient caching); 0 holds all.
        hard_negatives: Of each pair, mined with the encoder as it was before each epoch.
        both_ways: See `contrastive_loss`.
        rerank: A cross-encoder reads so many of the best of a list together with the query; 0 is none.
        mix: After training take the mean with the weights before that is best on validation (WiSE-FT, Wortsman et al. 2022).
        workers: Processes that turn texts into tokens; None for this one.
        kwargs: As for `RecommendationTrainer`.
    """

    def __init__(
        self, *, settings: RecommendationSettings, splits: DatasetDict, resources: Dataset, model: PreTrainedModel,
        processing_class: PreTrainedTokenizerBase, chunk_size: int = 0, hard_negatives: int = 0, both_ways: bool = True,
        rerank: int = 0, mix: bool = True, workers: int | None = None, **kwargs,
    ):  # fmt: skip
        if min(chunk_size, hard_negatives, rerank) < 0:
            raise ConfigurationError("--chunk_size, --hard_negatives and --rerank are 0 or more.")
        self.settings, self.chunk_size, self.hard_negatives, self.both_ways = settings, chunk_size, hard_negatives, both_ways
        settings.rerank, self.reranker = rerank, None
        self.catalogue = resources
        self.copies = first_rows(hashes_of(column_values(resources, "group_id")))
        self.query_texts, owners, self.pairs = self._training_pairs(splits["train"])
        if len(self.pairs) < 2:
            raise ConfigurationError("there is no second pair of a query and a resource to train on.")
        # query -> all that is relevant to its topic or learner, nearly equal copies included
        self.relevant = _relevance(owners, self.pairs, self.copies)
        queries = self._tokens_of(self.query_texts, processing_class)
        self.tokens = resources.map(
            encode_resources, batched=True, remove_columns=resources.column_names, features=TOKENS, num_proc=workers,
            fn_kwargs={"tokenizer": processing_class, "settings": settings}, desc="tokens of the catalogue",
        )  # fmt: skip
        collate = PairCollator(processing_class, queries, self.tokens, chunk_size)
        asked, found = self.pairs.T
        length = column_array(queries, "length").astype(np.int32)[asked]
        length += column_array(self.tokens, "length").astype(np.int32)[found]
        pairs = {"pair": np.arange(len(self.pairs), dtype=np.int32), "query": asked, "resource": found, "length": length}
        pairs = pyarrow.table({**pairs, "row": owners.astype(np.int32)[asked]})
        kwargs["args"].ddp_find_unused_parameters = False  # queries and resources pass one after the other
        self.row_column = "row"
        super().__init__(
            settings=settings, splits=splits, resources=resources, model=model, processing_class=processing_class,
            train_dataset=Dataset(pairs), data_collator=collate, **kwargs,
        )  # fmt: skip
        if chunk_size and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            raise ConfigurationError(
                "--chunk_size: each process goes through another number of parts, and a model that is cut over the processes "
                "cannot follow. Take ddp.yaml, or leave the option out."
            )
        self._before = None
        if mix and not isinstance(model, PeftModel):
            self._before = {name: p.detach().cpu().clone() for name, p in model.named_parameters() if p.requires_grad}
        self.untuned: dict[str, np.ndarray] = {}
        self.share, self.mixing = 1.0, "none"
        if hard_negatives:
            self.add_callback(_MineBeforeEachEpoch(self))

    def _tokens_of(self, texts: list[str], tokenizer: PreTrainedTokenizerBase) -> Dataset:
        blocks = (encode(texts[start : start + 1000], tokenizer, self.settings) for start in range(0, len(texts), 1000))
        return concatenate_datasets([Dataset.from_dict(block, features=TOKENS) for block in blocks])

    def evaluation_rows(self, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """The validation queries, and then the catalogue."""
        queries = self._tokens_of(self._in_words("validation"), tokenizer)
        return concatenate_datasets([queries, self.tokens])

    @functools.cached_property
    def read(self) -> list[str]:
        """What the encoder reads of each resource, for the evaluation."""
        return [self.settings.read_resource(row) for row in self.resources]

    def _training_pairs(self, rows: Dataset) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Texts of queries, the topic or learner of each, and pairs (query, resource)."""
        if self.settings.query == "topic":
            texts, counts = [self.settings.read_query(row) for row in rows], map(len, column_values(rows, "resource_ids"))
            found = self.number_of.of(itertools.chain.from_iterable(column_values(rows, "resource_ids")))
            owners, pairs = np.arange(len(texts)), np.empty((len(found), 2), np.int32)
            pairs[:, 0], pairs[:, 1] = np.repeat(owners.astype(np.int32), list(counts)), found
            return texts, owners, pairs
        texts, owners, pairs = [], [], []
        for i, row in enumerate(rows):
            numbers = self.number_of.of(row["history"]).tolist()
            for step in range(1, len(numbers)):
                if numbers[step] not in numbers[:step]:
                    pairs.append((len(texts), numbers[step]))
                    texts.append(history_in_words([title_of(self.resources[n]) for n in numbers[:step]]))
                    owners.append(i)
        return texts, np.array(owners, np.int64), np.array(pairs, np.int32).reshape(-1, 2)

    def _in_words(self, split: str) -> list[str]:
        queries = self.asked[split].queries
        if self.settings.query == "topic":
            return [self.settings.read_query(vars(query)) for query in queries]
        return [history_in_words([title_of(self.resources[n]) for n in query.history]) for query in queries]

    # ---- loss ---------------------------------------------------------------------------------------------------------

    def loss_terms(self, model, inputs):
        embeddings = torch.cat([embed(model, part, self.settings.pooling) for part in inputs["parts"]])
        return self.contrast(embeddings, inputs), self.count_items(inputs).to(embeddings.device), None

    def count_items(self, inputs):
        return torch.tensor(len(inputs["pairs"]))

    def contrast(self, embeddings: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """The loss summed over the pairs of all processes, of which the value is shared among them.

        Every process computes the loss of the whole batch and passes the gradient of it to its own texts.
        """
        asked, found = inputs["queries"], inputs["resources"]
        embeddings = embeddings[inputs["order"]]
        pairs = torch.stack([asked[inputs["pairs"][:, 0]], found[inputs["pairs"][:, 1]]], dim=1)
        queries, asked = self._of_everyone(embeddings[: len(asked)], asked)
        resources, found = self._of_everyone(embeddings[len(inputs["queries"]) :], found)
        pairs = torch.cat(self._gathered(pairs))
        wanted = pairs.T.contiguous()
        places = torch.stack([torch.searchsorted(asked, wanted[0]), torch.searchsorted(found, wanted[1])], dim=1)
        rows, columns = asked.cpu().numpy(), self.copies[found.cpu().numpy()]
        relevant = torch.from_numpy(self.relevant[rows][:, columns].toarray() > 0).to(embeddings.device)
        total = contrastive_loss(queries, resources, places, relevant, self.settings.scale, self.both_ways)
        total = total + 0 * embeddings.sum()  # a process whose texts all stand elsewhere takes part all the same
        return total - total.detach() * (1 - 1 / self._processes)

    @property
    def _processes(self) -> int:
        return self.accelerator.num_processes if self.model.training else 1

    def _gathered(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """Rows of each process, without a gradient."""
        if self._processes == 1:
            return [rows]
        sizes = self.accelerator.gather(torch.tensor([len(rows)], device=rows.device)).tolist()
        padded = rows.new_zeros((max(sizes), *rows.shape[1:]))
        padded[: len(rows)] = rows.detach()
        everyone = self.accelerator.gather(padded).view(len(sizes), max(sizes), *rows.shape[1:])
        return [own[:size] for own, size in zip(everyone, sizes, strict=True)]

    def _of_everyone(self, vectors: torch.Tensor, numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The texts of all processes, each once, by number; those of this process keep their gradient."""
        if self._processes == 1:
            return vectors, numbers
        parts = self._gathered(vectors)
        parts[self.accelerator.process_index] = vectors
        every = torch.cat(self._gathered(numbers))
        _, first = np.unique(every.cpu().numpy(), return_index=True)
        first = torch.from_numpy(first).to(vectors.device)
        return torch.cat(parts)[first], every[first]

    def training_step(self, model, inputs, num_items_in_batch=None):
        """As in Trainer; with `chunk_size` through `gradient_cache.backward_in_parts`."""
        if not self.chunk_size:
            return super().training_step(model, inputs, num_items_in_batch)
        model.train()
        inputs = self._prepare_inputs(inputs)

        def embed_part(part: dict[str, torch.Tensor]) -> torch.Tensor:
            with self.compute_loss_context_manager():
                return embed(model, part, self.settings.pooling)

        def loss_of(embeddings: torch.Tensor) -> torch.Tensor:
            return self.contrast(embeddings, inputs) / num_items_in_batch * self.accelerator.num_processes

        return backward_in_parts(
            embed_part, inputs["parts"], loss_of, self.accelerator.backward, lambda: self.accelerator.no_sync(model)
        )

    # ---- hard negatives -----------------------------------------------------------------------------------------------

    def mine(self, each: int) -> np.ndarray:
        """So many hard negatives of each pair, as the encoder sees it now: int64 (pairs, each), -1 where there is none.

        Only what is relevant to another training query can be one: never a resource of a held-out topic, never a near-copy.
        """
        usable = np.unique(self.pairs[:, 1])
        queries, found = (
            torch.from_numpy(embed_texts(self.model, self.processing_class, self.settings, texts)).to(self.model.device)
            for texts in (self.query_texts, [self.read[i] for i in usable])
        )
        place, relevant = np.searchsorted(usable, self.pairs[:, 1]), self.relevant[:, self.copies[usable]]
        order = np.argsort(self.pairs[:, 0], kind="stable")
        asked, starts = np.unique(self.pairs[order, 0], return_index=True)
        pairs_of, block = np.split(order, starts[1:]), max(1, MEMORY // (4 * len(usable)))
        negatives = np.full((len(self.pairs), each), -1, np.int64)
        for first in range(0, len(asked), block):
            rows, groups = asked[first : first + block], pairs_of[first : first + block]
            scores = queries[torch.from_numpy(rows)] @ found.T
            near = torch.stack([scores[row, torch.from_numpy(place[own])].mean() for row, own in enumerate(groups)])
            known = relevant[rows].tocoo()
            scores[torch.from_numpy(known.row.astype(np.int64)), torch.from_numpy(known.col.astype(np.int64))] = -torch.inf
            scores[scores > TOO_CLOSE * near[:, None]] = -torch.inf
            best = scores.topk(min(POOL, len(usable)), dim=1)
            for own, values, places in zip(groups, best.values.isfinite().cpu(), best.indices.cpu(), strict=True):
                pool = usable[places[values].numpy()]
                if len(pool):
                    negatives[own] = pool[np.arange(len(own) * each).reshape(len(own), -1) % len(pool)]
        return negatives

    def remove_checkpoints(self) -> None:
        """As in EduTrainer, with what was mined for them."""
        super().remove_checkpoints()
        if self.is_world_process_zero():
            shutil.rmtree(Path(self.args.output_dir) / "hard_negatives", ignore_errors=True)

    # ---- evaluation ---------------------------------------------------------------------------------------------------

    def vectors_of(self, model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Embeddings of a batch of texts."""
        return embed(model, inputs, self.settings.pooling)

    def validation_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """See `metrics_of`; the rows are the validation queries and then the catalogue."""
        asked = len(self.asked["validation"].ids)
        return self.metrics_of(by_similarity(prediction.predictions[:asked], prediction.predictions[asked:]))

    def fit(self) -> dict[str, float]:
        """As in EduTrainer; what the encoder says before is kept for the baselines, and its weights for the mean (`mix`)."""
        if not self.untuned:
            texts = {"resources": self.read, **{s: self._in_words(s) for s in self.asked}}
            self.untuned = {name: embed_texts(self.model, self.processing_class, self.settings, t) for name, t in texts.items()}
        cost = super().fit()
        if self._before is not None:
            self._mix()
        if self.settings.rerank:
            self.reranker = self._train_reranker()
        return cost

    def _train_reranker(self) -> Reranker:
        """A cross-encoder from the same checkpoint, trained on what this encoder takes for relevant and is not."""
        asked, tokenizer, settings = self.asked["validation"], self.processing_class, self.settings
        negatives = self.mine(NEGATIVES_OF_A_LIST)
        lists = [
            (self.query_texts[q], [self.read[r], *(self.read[n] for n in own)])
            for (q, r), own in zip(self.pairs, negatives, strict=True)
            if (own >= 0).all()
        ]
        if not lists:
            raise ConfigurationError("--rerank finds no hard negatives to learn from: there are too few topics.")
        queries, found = self._in_words("validation"), embed_texts(self.model, tokenizer, settings, self.read)
        scores = by_similarity(embed_texts(self.model, tokenizer, settings, queries), found)
        top = rank_resources(scores, asked.relevant, len(self.read), asked.seen, settings.rerank).top
        best = [
            (query, [self.read[i] for i in own if i >= 0], np.isin(own[own >= 0], wanted))
            for query, own, wanted in zip(queries, top, asked.relevant, strict=True)
        ]
        folder = Path(self.args.output_dir) / FOLDER
        again = {"resume_from_checkpoint": "auto"} if folder.is_dir() and self.args.resume_from_checkpoint else {}
        args = changed(self.args, output_dir=str(folder), push_to_hub=False, metric_for_best_model=METRIC, **again)
        model = load_classifier(self.checkpoint, 1, ModelArguments(), tokenizer)
        trainer = RerankTrainer(
            lists=lists, validation=best, max_length=2 * settings.max_length, model=model, args=args, processing_class=tokenizer
        )
        trainer.fit()
        trainer.remove_checkpoints()
        return Reranker(trainer.model.eval(), tokenizer, 2 * settings.max_length)

    @torch.no_grad()
    def _mix(self) -> None:
        """Put the best mean of the weights before and after training into the model."""
        parameters = dict(self.model.named_parameters())
        trained = {name: parameters[name].clone() for name in self._before}
        found = {}
        for share in SHARES:
            self._take(share, trained)
            found[share] = self.validation_metrics(EvalPrediction(self.logits(self.eval_dataset), None))[METRIC]
        self.share = max(found, key=found.get)
        self._take(self.share, trained)
        told = ", ".join(f"{share:.2f} {value:.4f}" for share, value in found.items())
        self.mixing = f"share of the trained weights {self.share:g}; nDCG@10 on validation by share: {told}"

    def _take(self, share: float, trained: dict[str, torch.Tensor]) -> None:
        for name, p in self.model.named_parameters():
            if name in trained:
                before = self._before[name].to(p.device)
                p.copy_(before + share * (trained[name] - before))

    def recommender(self) -> Recommender:
        """The trained recommender, as `load` will give it."""
        if not self.settings.topics and self.settings.query == "topic":
            topics = [row for rows in self.splits.values() for row in rows]
            kept = np.random.default_rng(self.args.seed).permutation(len(topics))[:MOST_TOPICS]
            self.settings.topics = [  # names of the catalogue's topics; nothing of what is relevant to them
                {name: topics[i][name] for name in ("text", "path", "language")} for i in np.sort(kept)
            ]
        parts = self.model.eval(), self.settings, self.resources, self.model, self.processing_class
        return Recommender(*parts, reranker=self.reranker)

    def baselines(self, recommender: Recommender) -> dict[str, Scores]:
        """Scores of the test queries by the baselines of the field."""
        asked, n = self.asked["test"], len(self.resources)
        words, untuned = recommender.lexical, by_similarity(self.untuned["test"], self.untuned["resources"])
        systems, opened = {"random": at_random(n, self.args.seed)}, self.openings("train", "validation")
        if self.settings.query == "history":
            systems, texts, found = self.past_baselines(asked), self._in_words("test"), self.untuned["resources"]
            untuned = by_similarity(mean_of_last([query.history for query in asked.queries], found), found)
        else:
            texts = [query.text for query in asked.queries]
            if len(opened):
                systems["popular"] = alike_for_all(popularity(opened, n))

        def bm25(rows: np.ndarray) -> np.ndarray:
            return np.stack([words.scores(texts[row]) for row in rows])

        return {**systems, "BM25": bm25, "encoder, not tuned": untuned, "BM25 + encoder, not tuned": by_rank(bm25, untuned)}

    def merge_example(self) -> dict[str, torch.Tensor]:
        """A batch on which an adapter is compared with its merged weights."""
        rows = [self.eval_dataset[i] for i in range(min(4, len(self.eval_dataset)))]
        return self._prepare_inputs(self.data_collator(rows))

    def save_model_folder(self, folder: Path, task: str, settings: dict, merge_adapter: bool) -> None:
        """As in EduTrainer, with what SentenceTransformer reads."""
        super().save_model_folder(folder, task, settings, merge_adapter)
        write_layout(folder, self.model.config.hidden_size, self.settings)
        if self.reranker is not None:
            self.reranker.model.save_pretrained(folder / FOLDER)
            self.reranker.tokenizer.save_pretrained(folder / FOLDER)


def _relevance(owners: np.ndarray, pairs: np.ndarray, copies: np.ndarray) -> csr_matrix:
    """Query x group of near-copies: 1 where any pair of the query's topic or learner has one of the group."""
    shape = (int(owners.max(initial=-1)) + 1, int(copies.max()) + 1)
    owned = csr_matrix((np.ones(len(pairs), np.float32), (owners[pairs[:, 0]], copies[pairs[:, 1]])), shape=shape)
    return owned[owners]


class _MineBeforeEachEpoch(TrainerCallback):
    """Mines hard negatives with the encoder as it is when an epoch begins; a resumed run finds those of its epoch on disk."""

    def __init__(self, trainer: RetrievalTrainer):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        trainer, epoch = self.trainer, int((state.epoch or 0) + 1e-6)
        file = Path(args.output_dir) / "hard_negatives" / f"epoch_{epoch}.npy"
        if file.is_file():
            trainer.data_collator.negatives = np.load(file, allow_pickle=False)
            return
        training = trainer.model.training
        trainer.data_collator.negatives = trainer.mine(trainer.hard_negatives)
        trainer.model.train(training)
        trainer.accelerator.wait_for_everyone()  # nobody may find the file while another still looks for it
        if trainer.is_world_process_zero():
            file.parent.mkdir(parents=True, exist_ok=True)
            unfinished = file.with_name(f"unfinished_{file.name}")
            np.save(unfinished, trainer.data_collator.negatives)
            unfinished.replace(file)  # a run that is killed leaves all of it or nothing
