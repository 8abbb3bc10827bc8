"""Resource recommendation: what both Trainers share (see `retrieval` and `next_resource`), the report, and how it is loaded."""

from __future__ import annotations

import functools
import itertools
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from safetensors.numpy import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModel, EvalPrediction, PreTrainedTokenizerBase

from . import recommendation_report, report
from .adapters import load_merged
from .arguments import ModelArguments
from .artifact import Artifact, load_artifact
from .base import EduTrainer
from .baselines.resource_recommendation import by_similarity, history_baselines, popularity
from .checkpoints import Checkpoint, find_checkpoint, load_encoder, load_exported, load_tokenizer, load_trained_classifier
from .columns import RowNumbers, column_values
from .fusion import fit_weights, fused
from .metrics.ranking import ranking_metrics
from .models.sequential_recommender import SequentialRecommender, SequentialRecommenderConfig
from .parser import ConfigurationError
from .ranking import Scores, rank_resources
from .recommendation_evaluation import METRIC, METRICS, JudgedQueries, judge, read_queries
from .recommendation_settings import RecommendationSettings
from .recommender import Recommender
from .reranking import FOLDER, Reranker
from .text_encoder import embed_texts

CATALOGUE, ARRAYS, OPENINGS = "catalogue.jsonl", "catalogue.safetensors", "openings.json"
"""The catalogue and its arrays stay on this machine; how often each resource was opened lately is published."""

AutoConfig.register(SequentialRecommenderConfig.model_type, SequentialRecommenderConfig, exist_ok=True)
AutoModel.register(SequentialRecommenderConfig, SequentialRecommender, exist_ok=True)


class RecommendationTrainer(EduTrainer):
    """What both ways to recommend share: the catalogue, the judged queries, the report.

    Args:
        settings: What is read; gets the fitted weights.
        splits: train, validation (chooses the checkpoint, weighs the features) and test, with the columns of
            `edu_datasets.schema.TOPICS` or HISTORIES.
        resources: The whole catalogue, columns of `edu_datasets.schema.RESOURCES`.
        opened: train and validation openings, columns of `edu_datasets.schema.INTERACTIONS`; empty where there are none.
        checkpoint: Of the text encoder.
        fuse: Weigh the model's score with others, see `Recommender.features`; False ranks by the model alone.
        kwargs: As for `EduTrainer`.
    """

    def __init__(
        self, *, settings: RecommendationSettings, splits: DatasetDict, resources: Dataset, opened: Mapping[str, Dataset],
        checkpoint: Checkpoint, fuse: bool = True, **kwargs,
    ):  # fmt: skip
        metric = (kwargs["args"].metric_for_best_model or METRIC).removeprefix("eval_")
        if metric not in METRICS:
            raise ConfigurationError(f"--metric_for_best_model is {metric!r}; expected one of {', '.join(METRICS)}.")
        if kwargs["args"].gradient_accumulation_steps > 1 and settings.architecture == "encoder":
            raise ConfigurationError(
                "every pair is compared with its whole batch, which accumulation cuts: set --gradient_accumulation_steps 1, "
                "raise --per_device_train_batch_size, and bound the memory with --chunk_size."
            )
        kwargs["args"].greater_is_better, kwargs["args"].label_names = True, ["labels"]
        self.settings, self.splits, self.checkpoint, self.fuse = settings, splits, checkpoint, fuse
        self.catalogue, self.opened = resources, opened
        self.judged_queries = {split: self._judged_queries(split) for split in ("validation", "test")}
        for split, number in self.judged_queries.items():
            if not number:
                raise ConfigurationError(f"nobody opens anything new in {split}: choose other times with --validation_from.")
        rows = self.evaluation_rows(kwargs.get("processing_class"))
        super().__init__(compute_metrics=self.validation_metrics, eval_dataset=rows, **kwargs)

    @functools.cached_property
    def number_of(self) -> RowNumbers:
        """The number of each resource by its id."""
        return RowNumbers(self.catalogue, "resource_id")

    @functools.cached_property
    def resources(self) -> list[dict]:
        """The catalogue in memory, for the evaluation."""
        return self.catalogue.to_list()

    @functools.cached_property
    def asked(self) -> dict[str, JudgedQueries]:
        """The queries of validation and test, for the evaluation."""
        return {s: read_queries(self.splits[s], self.number_of, self.settings.query) for s in self.judged_queries}

    def _judged_queries(self, split: str) -> int:
        rows = self.splits[split]
        return len(rows) if self.settings.query == "topic" else sum(map(bool, column_values(rows, "targets")))

    @abstractmethod
    def evaluation_rows(self, tokenizer: PreTrainedTokenizerBase | None) -> Dataset:
        """What is evaluated on validation; `vectors_of` gives a vector for each row."""

    @abstractmethod
    def vectors_of(self, model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """A vector for each row of an evaluation batch."""

    @abstractmethod
    def validation_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """See `metrics_of`."""

    @abstractmethod
    def recommender(self) -> Recommender:
        """The trained recommender, as `load` will give it."""

    @abstractmethod
    def baselines(self, recommender: Recommender) -> dict[str, Scores]:
        """Scores of the test queries by the baselines of the field."""

    def openings(self, *splits: str) -> np.ndarray:
        """What was opened in these splits, resource numbers, oldest first."""
        found = [self.number_of.of(column_values(self.opened[s], "resource_id")) for s in splits if s in self.opened]
        return np.concatenate([np.zeros(0, np.int64), *found])

    def trained_resources(self) -> np.ndarray:
        """The numbers of the resources that a training topic has."""
        ids = itertools.chain.from_iterable(column_values(self.splits["train"], "resource_ids"))
        return np.unique(self.number_of.of(ids))

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """A vector a row, and no loss: what is judged is the ranking of the full catalogue."""
        with torch.no_grad(), self.compute_loss_context_manager():
            vectors = self.vectors_of(model, self._prepare_inputs(inputs)).float()
        return None, vectors, torch.arange(len(vectors), device=vectors.device)

    def metrics_of(self, scores: Scores) -> dict[str, float]:
        """On validation; they choose the checkpoint and are never reported."""
        asked = self.asked["validation"]
        ranks = rank_resources(scores, asked.relevant, len(self.catalogue), asked.seen).ranks
        return {name: float(values.mean()) for name, values in ranking_metrics(ranks).items()}

    # ---- after training -----------------------------------------------------------------------------------------------

    @property
    def ours(self) -> str:
        """What the table calls the ranking that predict.py gives."""
        return f"{self.alone} + {'words' if self.settings.query == 'topic' else 'openings'}" if self.fuse else self.alone

    @property
    def alone(self) -> str:
        """What the table calls the model."""
        return {"encoder": "encoder", "sequential": "sequential model"}[self.settings.architecture]

    def score_beside_baselines(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Weigh the features on validation, rank the catalogue for the test queries once, beside the baselines.

        Returns:
            The report: "system", "test", "ablation" (the model alone), "baselines", "intervals" (nDCG@10, drawn by topic group or
            learner), "slices", "weights". And "ranking": the lists of the test queries.
        """
        settings, resources = self.settings, len(self.resources)
        self.judged = recommender = self.recommender()
        if self.fuse:
            asked = self.asked["validation"]
            recommender.lately, reranker = self._lately("train"), recommender.reranker
            for recommender.reranker in (None, reranker) if reranker else (None,):  # the best of the others are read together
                features = recommender.features(asked.queries)
                settings.weights = fit_weights(features, recommender.weights, asked.relevant, asked.seen)
        else:  # the model comes first
            settings.weights = {name: float(i == 0) for i, name in enumerate(recommender.start_weights())}
        asked = self.asked["test"]
        recommender.lately = self._lately("train", "validation")
        weights = recommender.weights
        systems = self.baselines(recommender)
        systems[self.alone] = by_similarity(*recommender.model_scores(asked.queries))
        systems[self.ours] = fused(recommender.features(asked.queries), weights)
        opened = self.openings("train", "validation")
        counts = popularity(opened, resources) if len(opened) else None
        trained = self.trained_resources() if settings.query == "topic" else None
        results, found, ranking = judge(systems, asked, resources, self.ours, counts, trained, self.args.seed)
        test = results.pop(self.ours)
        ablation = {self.alone: results.pop(self.alone)} if self.fuse else {}
        report = {"system": self.ours, "test": test, "ablation": ablation, "baselines": results, **found, "weights": weights}
        return report, {"ranking": ranking}

    def past_baselines(self, asked: JudgedQueries) -> dict[str, Scores]:
        """Baselines that know what was opened before the test split begins; see `history_baselines`."""
        learners = [i for s in ("train", "validation") for i in self.opened[s]["learner_id"]]
        numbers = np.unique(learners, return_inverse=True)[1]
        histories = [query.history for query in asked.queries]
        opened = self.openings("train", "validation")
        return history_baselines(numbers, opened, len(self.resources), histories, self.args.seed)

    def _lately(self, *splits: str) -> np.ndarray:
        opened = self.openings(*splits)
        return popularity(opened, len(self.resources), recent=True) if len(opened) else np.zeros(len(self.resources))

    def check(self, summary: str, rejected: Sequence[tuple]) -> dict:
        """What `--check_data` prints: counts, rows left out, the cost of a training. Trains nothing."""
        check = {"judged queries": self.judged_queries, "training": self.estimate_cost()}
        return report.print_check(summary, rejected, check)

    def save_run(self, results: dict, predictions: dict[str, Any], facts: dict, merge_adapter: bool) -> dict[str, Any]:
        """Save the recommender with its catalogue and write the report; the content of metrics.json is returned.

        Args:
            results: See `score_beside_baselines`.
            predictions: Likewise.
            facts: What the report says beside: options, cost, data (`ResourceDataset.facts`), search and folds.
            merge_adapter: Save an adapter merged into its base.
        """
        output, asked = Path(self.args.output_dir), self.asked["test"]
        protocol = {"dataset": facts["dataset_name"], "split": facts["split_protocol"], "rows": facts["rows"]}
        protocol |= {"left_out": facts["left_out"], "warnings": facts["warnings"], "seed": self.args.seed}
        protocol |= {"query": self.settings.query, "architecture": self.settings.architecture, "resources": len(self.resources)}
        protocol |= {"ranking": "the full catalogue, never a sample; equals in random order", "queries": len(asked.ids)}
        protocol |= {"mean_of_weights": self.mixing} if self.settings.architecture == "encoder" else {}
        protocol |= {"fusion": "weights fitted on validation, which chose the checkpoint, too"} if self.fuse else {}
        studies = {k: facts[k] for k in ("search", "cross_validation") if k in facts}
        metrics = {**results, "cost": self.whole_cost(facts["cost"]), "protocol": protocol, **studies}
        if not self.is_world_process_zero():
            return metrics
        columns = recommendation_report.list_columns(predictions["ranking"], asked, self.resources)
        facts = self.save_results("resource_recommendation", asdict(self.settings), metrics, columns, facts, merge_adapter)
        self.save_catalogue(output)
        recommendation_report.draw_systems(output / "figures" / "systems.png", results)
        card = {**facts, **asdict(self.settings), "results": results, "pairs": len(self.train_dataset), "queries": len(asked.ids)}
        recommendation_report.write_recommendation_card(output, card | {"example": self.example()})
        self.remove_checkpoints_when_done()
        tables = recommendation_report.tables(results, studies).values()
        print("", *(report.as_text(t) for t in tables if t), report.verdict(results, METRIC), sep="\n\n")
        print(f"\nSaved in {self.args.output_dir}")
        return metrics

    def save_catalogue(self, folder: Path) -> None:
        """Write what the recommender that was judged chooses from: texts stay here, counts of openings go with the model."""
        with (folder / CATALOGUE).open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in self.resources)
        lately = self._lately("train", "validation")
        save_file({"embeddings": self.judged.embeddings, "lately": lately}, folder / ARRAYS)
        (folder / OPENINGS).unlink(missing_ok=True)
        if self.settings.query == "history":
            report.write_json(folder / OPENINGS, dict(zip(self.catalogue["resource_id"], lately.tolist(), strict=True)))

    def example(self) -> str:
        """Python that asks the recommender for a list, for the card."""
        if self.settings.query == "topic":
            return f'\nrecommender.predict_columns([{{"text": {self.splits["train"][0]["text"]!r}}}])'
        return f'\nrecommender.predict_columns([{{"history": [{self.resources[0]["resource_id"]!r}]}}])'

    def publish(self) -> None:
        """`publish_run` with the test queries and a part of the catalogue."""
        rows, part = self.splits["test"].select(range(min(20, len(self.splits["test"])))).to_list(), self.resources[:200]
        if self.settings.query == "topic":
            queries = [{name: row[name] for name in ("text", "path", "language")} for row in rows]
        else:  # what is not in the part has no title elsewhere, by which a reason could call it
            known = {row["resource_id"] for row in part}
            queries = [{"history": [i for i in row["history"] if i in known]} for row in rows]
        self.publish_run(load, "resource_recommendation", {"queries": queries, "resources": part})


# ---- the recommender that anyone loads ------------------------------------------------------------------------------


def load(name: str | Path, revision: str = "main", trust_remote_code: bool = False) -> Recommender:
    """Load a trained recommender: a folder or a Hub id; a whole model, a merged one, or an adapter. No code of it is run.

    A folder brings its catalogue; a published model does not, and takes one with `Recommender.with_catalogue`.

    Raises:
        ConfigurationError: It is no recommender, or cannot be loaded.
    """
    checkpoint = find_checkpoint(str(name), revision)
    artifact = load_artifact(checkpoint, "resource_recommendation")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    args = ModelArguments(trust_remote_code=trust_remote_code)
    settings = artifact.read_settings(RecommendationSettings)
    try:
        if settings.architecture == "sequential":
            model = SequentialRecommender.from_pretrained(checkpoint.path, revision=checkpoint.revision).float().eval().to(device)
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"the recommender '{checkpoint.name}' could not be loaded: {str(error).splitlines()[0]}"
        ) from error
    if settings.architecture == "sequential":
        try:  # it reads what is new in the catalogue
            base = _base_of(artifact)
            encoder, tokenizer = load_encoder(base, args).eval().to(device), load_tokenizer(base, trust_remote_code)
        except ConfigurationError:
            encoder = tokenizer = None
    else:
        tokenizer = load_tokenizer(checkpoint, trust_remote_code)
        if checkpoint.file("adapter_config.json") is None:
            model = load_exported(checkpoint) or load_encoder(checkpoint, args)
        else:
            adapter = checkpoint.file("adapter_model.safetensors").parent
            model = load_merged(load_encoder(_base_of(artifact), args), adapter)
        encoder = model = model.float().eval().to(device)
    resources, embeddings, lately = _catalogue(checkpoint, model, settings)
    reranker = None
    if settings.rerank and (config := checkpoint.file(f"{FOLDER}/config.json")):
        own = Checkpoint(f"{checkpoint.name}/{FOLDER}", str(config.parent))
        checkpoint.file(f"{FOLDER}/model.safetensors"), checkpoint.file(f"{FOLDER}/tokenizer.json")
        reranker = Reranker(load_trained_classifier(own).eval().to(device), load_tokenizer(own), 2 * settings.max_length)
    return Recommender(model, settings, resources, encoder, tokenizer, embeddings, lately, reranker=reranker)


def _base_of(artifact: Artifact) -> Checkpoint:
    """The checkpoint that the training started from.

    Raises:
        ConfigurationError: It is not here, or has other weights.
    """
    base = find_checkpoint(artifact.base_model["name"], artifact.base_model["revision"])
    if artifact.base_model["sha256"] not in (None, base.sha256()):
        raise ConfigurationError(f"the recommender was trained on other weights than {base.name} has here (sha256 differs).")
    return base


def _catalogue(checkpoint: Checkpoint, model: nn.Module, settings: RecommendationSettings) -> tuple[list, np.ndarray, np.ndarray]:
    """The catalogue of a folder; of a published model the ids it knows, without texts."""
    path, arrays = checkpoint.file(CATALOGUE), checkpoint.file(ARRAYS)
    if path and arrays:
        with path.open(encoding="utf-8") as file:
            stored = load_file(arrays)
            return [json.loads(line) for line in file], stored["embeddings"], stored["lately"]
    opened = json.loads(found.read_text(encoding="utf-8")) if (found := checkpoint.file(OPENINGS)) else {}
    blank = dict.fromkeys(("group_id", "title", "text", "kind", "licence", "level", "language"), "")
    resources = [{**blank, "resource_id": i, "title": i, "topics": []} for i in opened]
    known = model.text.cpu().numpy() if settings.architecture == "sequential" else np.zeros((len(resources), 1), np.float32)
    return resources, known, np.array(list(opened.values()), float)


def embed_again(folder: str | Path) -> None:
    """Replace the embeddings of a folder's catalogue by those of the model that lies there: it has been exported or quantised."""
    recommender, path = load(folder), Path(folder) / ARRAYS
    if path.is_file():
        embeddings = embed_texts(recommender.model, recommender.tokenizer, recommender.settings, recommender.read)
        save_file({"embeddings": embeddings, "lately": recommender.lately}, path)


def probe(recommender: Recommender) -> dict[str, list]:
    """A catalogue and queries of nobody, on which a published model is compared with the one here."""
    texts = (("Fractions", "Adding parts of a whole."), ("Photosynthesis", "How plants use light."), ("Verbs", "Words that do."))
    resources = [{"resource_id": f"probe {i}", "title": title, "text": text} for i, (title, text) in enumerate(texts)]
    topic = recommender.settings.query == "topic"
    return {"queries": [{"text": "plants"} if topic else {"history": ["probe 1"]}, {}], "resources": resources}
