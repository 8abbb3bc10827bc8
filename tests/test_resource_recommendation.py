"""Resources are ranked whole and judged fairly; training sees nothing that is held out, and serving shows what may be shown."""

import contextlib
import csv
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, load_recipe
from safetensors.torch import load_file
from transformers import EvalPrediction

from edu_datasets import DataError, load_resources
from trainers import gradient_cache, ranking, retrieval
from trainers.arguments import ModelArguments, RecipeTrainingArguments
from trainers.baselines.resource_recommendation import alike_for_all, at_random, by_rank, history_baselines, popularity
from trainers.checkpoints import find_checkpoint, load_encoder, load_tokenizer
from trainers.fusion import fit_weights, fused
from trainers.gradient_cache import backward_in_parts
from trainers.lexical import LexicalIndex, words_of
from trainers.metrics import RankingMetrics
from trainers.metrics.ranking import exposure_metrics, ranking_metrics
from trainers.models.sequential_recommender import SequentialRecommender
from trainers.next_resource import IGNORED, HistoryCollator, full_catalogue_loss, new_sequential_recommender, windows_of
from trainers.parser import ConfigurationError
from trainers.ranking import rank_resources
from trainers.recommendation_evaluation import METRICS, JudgedQueries, judge
from trainers.recommendation_settings import RecommendationSettings
from trainers.recommender import Filters, Query, Recommender
from trainers.reranking import with_reranker
from trainers.resource_recommendation import load
from trainers.retrieval import SHARES, TOO_CLOSE, RetrievalTrainer, contrastive_loss
from trainers.text_encoder import embed, embed_texts

RECIPE = ROOT / "recipes/resource_recommendation.py"


@pytest.fixture(scope="module")
def recipe():
    return load_recipe("resource_recommendation")


@pytest.fixture(scope="module")
def school():
    return load_resources()


# ---- metrics and ranking --------------------------------------------------------------------------------------------


def test_metrics_are_those_computed_by_hand():
    values = ranking_metrics([np.array([1, 3]), np.array([12]), np.array([2, 1, 30])])
    two, three = 1 + 1 / np.log2(3), 1 + 1 / np.log2(3) + 0.5
    assert values["ndcg_at_10"] == pytest.approx([1.5 / two, 0, two / three])
    assert values["recall_at_20"] == pytest.approx([1, 1, 2 / 3]) and values["recall_at_100"] == pytest.approx([1, 1, 1])
    assert values["mrr"] == pytest.approx([1, 1 / 12, 1]) and values["map"] == pytest.approx([5 / 6, 1 / 12, (1 + 1 + 0.1) / 3])
    with pytest.raises(ValueError, match="without a relevant"):
        ranking_metrics([np.array([1]), np.array([], int)])


def test_exposure_tells_a_single_star_from_an_even_library():
    one, all_of_them = np.zeros((50, 10), int), np.arange(500).reshape(50, 10) % 100
    star, even = exposure_metrics(one, 100), exposure_metrics(all_of_them, 100)
    assert star == pytest.approx({"coverage_at_10": 0.01, "gini_at_10": 0.99})
    assert even == pytest.approx({"coverage_at_10": 1.0, "gini_at_10": 0.0}, abs=1e-9)
    counts = np.r_[1000.0, np.ones(99)]
    assert exposure_metrics(one, 100, counts)["novelty_at_10"] < 1 < 8 < exposure_metrics(one + 5, 100, counts)["novelty_at_10"]


def test_the_evaluate_metric_judges_whole_lists_and_refuses_samples():
    metric = RankingMetrics()
    found = metric.compute(predictions=[[3, 1, 2], [1, 2, 3]], references=[[1], [1, 2]])
    assert found["mrr"] == pytest.approx(0.75) and found["ndcg_at_10"] == pytest.approx((1 / np.log2(3) + 1) / 2)
    with pytest.raises(ValueError, match="never samples"):
        metric.compute(predictions=[[3, 1]], references=[[2]])


def test_a_sample_of_the_catalogue_would_turn_the_order_of_two_systems():
    """The twin: against 99 sampled resources the system wins that is never quite wrong, though its top ten is empty."""
    n, rng = 10_000, np.random.default_rng(0)
    full = {"sharp": np.where(rng.random(300) < 0.35, 3, 6000), "vague": np.full(300, 40)}
    sampled = {name: 1 + rng.binomial(99, (ranks - 1) / n) for name, ranks in full.items()}
    ndcg = {
        kind: {name: ranking_metrics([np.array([r]) for r in ranks])["ndcg_at_10"].mean() for name, ranks in systems.items()}
        for kind, systems in (("full", full), ("sampled", sampled))
    }
    assert ndcg["full"]["sharp"] > 0.1 > ndcg["full"]["vague"] == 0
    assert ndcg["sampled"]["vague"] > 0.7 > ndcg["sampled"]["sharp"]


def test_the_full_catalogue_is_ranked_in_blocks_of_any_size(monkeypatch):
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(30, 500)).astype(np.float32)
    relevant = [rng.choice(500, 5, replace=False) for _ in range(30)]
    whole = rank_resources(lambda rows: scores[rows].copy(), relevant, 500)
    order = np.argsort(-scores, axis=1)
    assert np.array_equal(whole.top, order[:, :10])
    for row in range(30):
        assert np.array_equal(order[row][whole.ranks[row] - 1], relevant[row])
    monkeypatch.setattr(ranking, "MEMORY", 8 * 500 * 7)
    cut = rank_resources(lambda rows: scores[rows].copy(), relevant, 500)
    assert np.array_equal(cut.top, whole.top) and all(map(np.array_equal, cut.ranks, whole.ranks))


def test_who_says_nothing_gets_what_chance_gets_and_not_what_the_file_begins_with():
    relevant = [np.arange(5)] * 400
    nothing = rank_resources(lambda rows: np.zeros((len(rows), 100), np.float32), relevant, 100)
    assert not np.array_equal(np.sort(nothing.ranks[0]), np.arange(1, 6))
    chance = rank_resources(at_random(100), relevant, 100)
    assert np.mean(chance.ranks) == pytest.approx(50.5, abs=2)
    drawn = [rank_resources(lambda rows: np.zeros((1, 100), np.float32), relevant[:1], 100, seed=s).ranks[0] for s in range(300)]
    assert np.mean(drawn) == pytest.approx(50.5, abs=3)


def test_what_was_seen_is_not_recommended_and_lists_may_be_short():
    found = rank_resources(
        lambda rows: np.tile(np.arange(5.0, dtype=np.float32), (len(rows), 1)), [np.array([0])], 5, [[4, 3, 2]]
    )
    assert found.top.tolist() == [[1, 0, -1, -1, -1]] and found.ranks[0].tolist() == [2]


def test_a_list_alone_is_that_of_the_whole_ranking():
    """Serving wants no ranks, and does not pay for them; equals stand in the same order all the same."""
    scores = np.random.default_rng(0).integers(0, 40, size=(20, 300)).astype(np.float32)
    nothing, one = ([np.arange(n)] * 20 for n in (0, 1))
    alone, whole = (rank_resources(lambda rows: scores[rows].copy(), relevant, 300) for relevant in (nothing, one))
    assert np.array_equal(alone.top, whole.top) and np.array_equal(alone.scores, whole.scores)
    assert np.array_equal(alone.scores, -np.sort(-scores, axis=1)[:, :10])


def asked_of(relevant, groups, cold=None, cold_relevant=None) -> JudgedQueries:
    n = len(relevant)
    cold = np.zeros(n, bool) if cold is None else np.array(cold)
    nobody = cold_relevant or [wanted[:0] for wanted in relevant]
    return JudgedQueries(list(groups), list(groups), [Query(g) for g in groups], relevant, cold, nobody)


def test_every_metric_has_an_interval_that_draws_whole_groups():
    rng = np.random.default_rng(0)
    relevant = [rng.choice(200, 3, replace=False) for _ in range(30)]
    relevant = [wanted for wanted in relevant for _ in range(4)]  # four queries of each group say the same
    noise = rng.normal(size=(30, 200)).astype(np.float32).repeat(4, axis=0)
    better = noise.copy()
    for row, wanted in enumerate(relevant):
        better[row, wanted] += 2
    systems = {"noise": lambda rows: noise[rows], "ours": lambda rows: better[rows]}
    results, more, _ = judge(systems, asked_of(relevant, [f"g{i // 4}" for i in range(120)]), 200, "ours")
    spans = more["intervals"]
    assert "behind" not in spans["ours"] and set(spans["noise"]["metrics"]) == set(METRICS)
    for name, own in spans.items():
        for metric, span in own["metrics"].items():
            low, high = span["interval"]
            assert low <= results[name][metric] <= high, (name, metric)
    assert spans["noise"]["behind"] == spans["noise"]["metrics"]["ndcg_at_10"]["behind"] and spans["noise"]["behind"][0] > 0
    alone = judge(systems, asked_of(relevant, [f"q{i}" for i in range(120)]), 200, "ours")[1]["intervals"]
    width, narrow = (high - low for low, high in (spans["ours"]["interval"], alone["ours"]["interval"]))
    assert width > 1.5 * narrow, "the twin: queries of one group drawn one by one would promise too much"


def test_new_learners_new_resources_and_those_of_training_topics_are_told_apart():
    descending = np.arange(10, 0, -1, dtype=np.float32)  # resource 0 is the first for everybody
    asked = asked_of([np.array([0, 3]), np.array([5])], "ab", [False, True], [np.array([3]), np.array([], np.int64)])
    systems = {"ours": lambda rows: np.tile(descending, (len(rows), 1))}
    slices = judge(systems, asked, 10, "ours", trained=np.array([0, 1, 2, 3]))[1]["slices"]
    found = {name: row["ndcg_at_10"]["ours"] for name, row in slices.items()}
    assert found["learners with a history"] == pytest.approx((1 + 1 / np.log2(5)) / (1 + 1 / np.log2(3)))
    assert found["new learners"] == pytest.approx(1 / np.log2(7))
    assert found["new resources"] == pytest.approx(1 / np.log2(4)), "resource 0 is relevant too, and takes no place above it"
    assert found["without resources of training topics"] == pytest.approx((1 + 1 / np.log2(3)) / 2), "0 and 3; 4 and then 5"
    assert slices["new resources"]["queries"] == 1 and slices["new resources"]["intervals"]["ours"] == pytest.approx([0.5, 0.5])


# ---- the loss over a batch ------------------------------------------------------------------------------------------


def texts_of_a_batch(model: str, pairs: int):
    tokenizer = load_tokenizer(find_checkpoint(model))
    words = np.array([f"{a}{b}" for a in "bdfglmnprst" for b in ("an", "el", "or", "ish", "um")])
    rng = np.random.default_rng(0)
    return [
        dict(tokenizer([" ".join(rng.choice(words, rng.integers(2, 9))) for _ in range(64)], padding=True, return_tensors="pt"))
        for _ in range(2 * pairs // 64)
    ]


def gradients(model, parts, relevant, cached: bool):
    model.zero_grad()
    half = len(relevant)

    def embed_part(part):
        return embed(model, part, "mean")

    def loss_of(vectors):
        pairs = torch.stack([torch.arange(half), torch.arange(half)], dim=1)
        return contrastive_loss(vectors[:half], vectors[half:], pairs, relevant, 20.0) / half

    torch.manual_seed(7)
    if cached:
        loss = backward_in_parts(embed_part, parts, loss_of)
    else:
        loss = loss_of(torch.cat([embed_part(part) for part in parts]))
        loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return loss.detach(), found, torch.rand(1)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_batch_of_512_has_the_same_loss_and_gradient_through_the_cache(dropout, tiny_model, monkeypatch):
    model = load_encoder(find_checkpoint(tiny_model), ModelArguments(dropout=dropout, attention_dropout=dropout)).train()
    parts, relevant = texts_of_a_batch(tiny_model, 512), torch.eye(512, dtype=torch.bool)
    relevant[3, 5] = relevant[100, 7] = True
    direct, cached = gradients(model, parts, relevant, False), gradients(model, parts, relevant, True)
    assert cached[0].item() == pytest.approx(direct[0].item(), rel=1e-5) and direct[0] > 1
    assert set(direct[1]) == set(cached[1]) and len(direct[1]) > 20
    for name, gradient in direct[1].items():
        assert torch.allclose(cached[1][name], gradient, atol=1e-5 + 1e-4 * gradient.abs().max()), name
    assert torch.equal(direct[2], cached[2]), "the random numbers go on as if nothing had been drawn twice"
    if dropout:  # the twin: with other random numbers in the second pass it is the gradient of another loss
        monkeypatch.setattr(gradient_cache._RandomState, "again", contextlib.nullcontext)
        open_trap = gradients(model, parts, relevant, True)[1]
        assert max((open_trap[n] - g).abs().max() / g.abs().max() for n, g in direct[1].items() if g.abs().max() > 0) > 0.05


def test_the_cache_holds_the_graph_of_one_part_at_a_time(tiny_model):
    model = load_encoder(find_checkpoint(tiny_model), ModelArguments()).train()
    held, most = [0], [0]

    def embed_part(part):
        vectors = embed(model, part, "mean")
        if vectors.requires_grad:
            held[0] += 1
            most[0] = max(most[0], held[0])
        return vectors

    def backward(loss):
        loss.backward()
        held[0] -= 1

    backward_in_parts(embed_part, texts_of_a_batch(tiny_model, 128), lambda v: (v[:128] * v[128:]).sum(), backward)
    assert most[0] == 1


def duplicate_batch():
    """Two topics far apart; the second and the third pair are of the same topic."""
    east, west = torch.tensor([1.0, 0]), torch.tensor([-1.0, 0])
    queries, resources = torch.stack([east, west]), torch.stack([east, west, west])
    pairs = torch.tensor([[0, 0], [1, 1], [1, 2]])
    relevant = torch.tensor([[True, False, False], [False, True, True]])
    return queries, resources, pairs, relevant


def test_what_is_relevant_to_the_same_topic_is_no_negative():
    queries, resources, pairs, relevant = duplicate_batch()
    assert contrastive_loss(queries, resources, pairs, relevant, 20.0) < 1e-6
    alone = torch.zeros_like(relevant)
    alone[pairs[:, 0], pairs[:, 1]] = True
    for i, (q, r) in enumerate(pairs.tolist()):  # the twin: each pair alone knows what is relevant
        mask = torch.zeros_like(relevant)
        mask[q, r] = True
        open_trap = contrastive_loss(queries, resources, pairs[[i]], mask, 20.0, both_ways=False)
        assert open_trap > 0.69 if i else open_trap < 1e-6, "a duplicate positive that counts as a negative costs log 2"


def test_the_loss_is_that_of_a_plain_softmax_where_nothing_is_masked():
    torch.manual_seed(0)
    queries, resources = (torch.nn.functional.normalize(torch.randn(6, 8), dim=1) for _ in range(2))
    pairs = torch.stack([torch.arange(6)] * 2, dim=1)
    scores = 20 * queries @ resources.T
    ways = [torch.nn.functional.cross_entropy(s, torch.arange(6), reduction="sum") for s in (scores, scores.T)]
    eye = torch.eye(6, dtype=torch.bool)
    assert contrastive_loss(queries, resources, pairs, eye, 20.0, False) == pytest.approx(ways[0].item(), rel=1e-5)
    assert contrastive_loss(queries, resources, pairs, eye, 20.0) == pytest.approx(sum(ways).item() / 2, rel=1e-5)


# ---- the trainer of texts -------------------------------------------------------------------------------------------


def retrieval_trainer(tiny_model, school, folder, **options) -> RetrievalTrainer:
    checkpoint = find_checkpoint(tiny_model)
    args = RecipeTrainingArguments(
        output_dir=str(folder), metric_for_best_model="ndcg_at_10", per_device_train_batch_size=16, precision="fp32"
    )
    return RetrievalTrainer(
        settings=RecommendationSettings(max_length=48), splits=school.topics, resources=school.resources,
        opened=school.interactions, checkpoint=checkpoint, model=load_encoder(checkpoint, ModelArguments()), args=args,
        processing_class=load_tokenizer(checkpoint), **options,
    )  # fmt: skip


def test_a_batch_holds_each_text_once_and_knows_what_is_relevant(tiny_model, school, tmp_path):
    trainer = retrieval_trainer(tiny_model, school, tmp_path)
    rows = [trainer.train_dataset[i] for i in range(40)]
    batch = trainer.data_collator(rows)
    assert len(batch["queries"]) == len({r["query"] for r in rows}) < 40 and len(batch["resources"]) == len(
        {r["resource"] for r in rows}
    )
    assert [(int(batch["queries"][q]), int(batch["resources"][r])) for q, r in batch["pairs"]] == [
        (r["query"], r["resource"]) for r in rows
    ]
    trainer.data_collator.chunk_size = 7
    cut = trainer.data_collator(rows)
    assert len(cut["parts"]) == -(-len(cut["order"]) // 7)
    with torch.no_grad():
        whole, parts = (torch.cat([embed(trainer.model.eval(), p, "mean") for p in b["parts"]])[b["order"]] for b in (batch, cut))
    assert torch.allclose(whole, parts, atol=1e-5)


def test_near_copies_of_a_relevant_resource_are_relevant_in_training(tiny_model, school, tmp_path):
    trainer = retrieval_trainer(tiny_model, school, tmp_path)
    sizes = np.bincount(trainer.copies)
    shared = [g for g in np.flatnonzero(sizes > 1) if any(trainer.copies[r] == g for r in trainer.pairs[:, 1])]
    assert sizes.max() > 1
    for group in shared:
        owners = {q for q, r in trainer.pairs if trainer.copies[r] == group}
        assert all(trainer.relevant[int(q), int(group)] > 0 for q in owners)


def test_the_trainer_spares_another_pair_of_the_same_topic(tiny_model, school, tmp_path):
    trainer = retrieval_trainer(tiny_model, school, tmp_path)
    first, other = (np.flatnonzero(trainer.pairs[:, 0] == topic) for topic in (0, 1))
    only = next(i for i in other if not trainer.relevant[0, trainer.copies[trainer.pairs[i, 1]]])
    batch = trainer.data_collator([trainer.train_dataset[int(i)] for i in (first[0], first[1], only)])
    topic = [0, 1, *(int(trainer.pairs[only, 1] == r) for r in batch["resources"])]  # queries, and then resources
    embeddings = torch.empty(len(topic), 2)
    embeddings[batch["order"]] = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])[topic]  # all of one topic in one place
    assert trainer.contrast(embeddings, batch) < 1e-6
    trainer.relevant = trainer.relevant.tolil()  # the twin: the topic does not know its second resource
    trainer.relevant[0, trainer.copies[trainer.pairs[first[1], 1]]] = 0
    trainer.relevant = trainer.relevant.tocsr()
    assert trainer.contrast(embeddings, batch) > 0.69, "a duplicate positive that counts as a negative costs log 2 at least"


def test_no_positive_and_no_hard_negative_comes_from_a_held_out_topic(tiny_model, school, tmp_path):
    trainer = retrieval_trainer(tiny_model, school, tmp_path, hard_negatives=3)
    held = {r for s in ("validation", "test") for ids in school.topics[s]["resource_ids"] for r in ids}
    copies = {trainer.copies[trainer.number_of[r]] for r in held}
    negatives = trainer.mine(3)
    assert negatives.shape == (len(trainer.pairs), 3) and (negatives >= 0).mean() > 0.9
    used = set(negatives[negatives >= 0].tolist()) | set(trainer.pairs[:, 1].tolist())
    assert not copies & {trainer.copies[r] for r in used} and copies
    for (query, _), own in zip(trainer.pairs, negatives, strict=True):
        assert not any(trainer.relevant[int(query), int(trainer.copies[r])] for r in own if r >= 0)
    # the twin: a pool of all resources would hold some of a held-out topic
    assert copies & {trainer.copies[r] for r in range(len(trainer.resources))}


def test_hard_negatives_are_near_and_not_suspiciously_so(tiny_model, school, tmp_path):
    trainer = retrieval_trainer(tiny_model, school, tmp_path, hard_negatives=1)
    negatives, usable = trainer.mine(1)[:, 0], np.unique(trainer.pairs[:, 1])
    queries, found = (
        embed_texts(trainer.model, trainer.processing_class, trainer.settings, t) for t in (trainer.query_texts, trainer.read)
    )
    for query in np.unique(trainer.pairs[:, 0]):
        own = trainer.pairs[:, 0] == query
        scores = found @ queries[query]
        most = TOO_CLOSE * scores[trainer.pairs[own, 1]].mean()
        mined = negatives[own][negatives[own] >= 0]
        assert len(set(mined.tolist())) > 1, "the pairs of a topic do not share one negative"
        assert scores[mined].max() <= most + 1e-6 and scores[mined].mean() > scores[usable][scores[usable] <= most].mean()


def test_hard_negatives_are_the_same_in_blocks_of_any_size(tiny_model, school, tmp_path, monkeypatch):
    trainer = retrieval_trainer(tiny_model, school, tmp_path)
    whole = trainer.mine(2)
    monkeypatch.setattr(retrieval, "MEMORY", 4 * len(np.unique(trainer.pairs[:, 1])) * 3)
    assert np.array_equal(trainer.mine(2), whole)


# ---- whole runs -----------------------------------------------------------------------------------------------------


def arguments(model, out, *more: str) -> list[str]:
    """A short run: SGD without clipping, since Adam would hide a wrong scale of the gradient."""
    return [
        "--model_name_or_path", model, "--output_dir", str(out), "--precision", "fp32", "--optim", "sgd", "--learning_rate",
        "0.05", "--max_grad_norm", "0", "--num_train_epochs", "2", "--per_device_train_batch_size", "24", "--max_length", "48",
        "--hard_negatives", "1", "--mix", "false", "--logging_steps", "1", "--disable_tqdm", "true", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def one_process(recipe, tiny_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "run"
    with (out.parent / "log").open("w") as log, contextlib.redirect_stdout(log):
        recipe.main(arguments(tiny_model, out))
    return out


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def far(a: dict, b: dict) -> float:
    return max((a[name].float() - b[name].float()).abs().max().item() for name in a)


def test_a_batch_in_chunks_gives_the_same_model(recipe, one_process, tiny_model, tmp_path):
    recipe.main(arguments(tiny_model, tmp_path / "run", "--chunk_size", "8"))
    assert far(weights(one_process), weights(tmp_path / "run")) < 1e-4
    assert far(weights(one_process), weights_before(tiny_model)) > 1e-3, "a model that learns nothing would pass"


def weights_before(tiny_model) -> dict[str, torch.Tensor]:
    return load_encoder(find_checkpoint(tiny_model), ModelArguments()).state_dict()


def test_whoever_loads_the_folder_gets_the_lists_of_predictions_csv(finished_recommender, school):
    rows = list(csv.DictReader((finished_recommender / "predictions.csv").open()))
    topics = {row["topic_id"]: row for row in school.topics["test"]}
    recommender = load(finished_recommender)
    queries = [{k: topics[t][k] for k in ("text", "path", "language")} for t in dict.fromkeys(r["query"] for r in rows)]
    columns = recommender.predict_columns(queries)
    assert columns["resource_id"] == [r["resource_id"] for r in rows]
    assert columns["score"] == pytest.approx([float(r["score"]) for r in rows], abs=2e-3)
    again = recommender.predict_columns(queries, school.resources.to_list())
    assert again["resource_id"] == columns["resource_id"]


def test_sentence_transformers_computes_the_same_embeddings(finished_recommender):
    from sentence_transformers import SentenceTransformer

    recommender = load(finished_recommender)
    theirs = SentenceTransformer(str(finished_recommender), device="cpu").encode(recommender.read[:20])
    assert theirs == pytest.approx(recommender.embeddings[:20], abs=1e-5)


def test_the_report_has_every_baseline_and_no_learner(finished_recommender):
    metrics = json.loads((finished_recommender / "metrics.json").read_text())
    assert {"random", "popular", "BM25", "encoder, not tuned", "BM25 + encoder, not tuned"} <= set(metrics["baselines"])
    assert metrics["system"] == "encoder + words" and list(metrics["ablation"]) == ["encoder"]
    assert metrics["protocol"]["resources"] == 162 and "full catalogue" in metrics["protocol"]["ranking"]
    assert set(metrics["weights"]) == {"encoder", "words (BM25)", "encoder, other topics", "words, other topics"}
    text = (finished_recommender / "README.md").read_text() + json.dumps(metrics)
    assert "L001" not in text and "fictional" in text and not (finished_recommender / "hard_negatives").exists()
    assert metrics["baselines"]["BM25"]["ndcg_at_10"] > metrics["baselines"]["random"]["ndcg_at_10"] + 0.1


def test_histories_are_recommended_for_beside_their_baselines(finished_histories):
    out = finished_histories
    metrics = json.loads((out / "metrics.json").read_text())
    names = {"random", "popular", "recently popular", "item-kNN", "EASE", "BM25", "encoder, not tuned"}
    assert names <= set(metrics["baselines"]) and metrics["system"] == "sequential model + openings"
    assert metrics["test"]["ndcg_at_10"] > metrics["baselines"]["random"]["ndcg_at_10"] + 0.02
    assert {"new learners", "new resources", "learners with a history"} <= set(metrics["slices"])
    assert "novelty_at_10" in metrics["test"] and (out / "openings.json").is_file()
    rows, recommender = list(csv.DictReader((out / "predictions.csv").open())), load(out)
    data = load_resources()
    test = {row["learner_id"]: row["history"] for row in data.histories("test")}
    asked = list(dict.fromkeys(r["query"] for r in rows))
    columns = recommender.predict_columns([{"history": test[name]} for name in asked])
    assert columns["resource_id"] == [r["resource_id"] for r in rows]
    seen = {(name, r) for name in asked for r in test[name]}
    assert not any((r["query"], r["resource_id"]) in seen for r in rows)


def test_a_stranger_loads_the_sequential_model_with_plain_transformers(finished_histories):
    out = finished_histories
    code = (
        "import torch; from transformers import AutoModel; "
        f"m = AutoModel.from_pretrained({str(out)!r}, trust_remote_code=True).eval(); "
        "o = m(history=torch.tensor([[1, 5, 9]])); print((o.states[0, 3] @ o.vectors.T).argmax().item())"
    )
    alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=out.parent, timeout=600)
    assert alone.returncode == 0, alone.stderr[-2000:]
    with torch.no_grad():
        ours = load(out).model(history=torch.tensor([[1, 5, 9]]))
    assert int(alone.stdout) == (ours.states[0, 3] @ ours.vectors.T).argmax().item()


def test_a_history_may_be_read_by_the_text_encoder_too(recipe, tiny_model, tmp_path):
    metrics = recipe.main(
        ["--query", "history", "--architecture", "encoder", "--model_name_or_path", tiny_model, "--num_train_epochs", "1",
         "--max_train_samples", "30", "--max_eval_samples", "30", "--output_dir", str(tmp_path / "run"), "--disable_tqdm", "true"]
    )  # fmt: skip
    assert metrics["system"] == "encoder + openings" and "item-kNN" in metrics["baselines"]
    assert load(tmp_path / "run").predict_columns([{"history": ["R001"]}])["rank"] == list(range(1, 11))


def test_a_cross_encoder_has_its_say_on_the_best_and_is_loaded_with_the_rest(recipe, tiny_model, tmp_path, school):
    out = tmp_path / "run"
    metrics = recipe.main(
        ["--model_name_or_path", tiny_model, "--output_dir", str(out), "--num_train_epochs", "1", "--rerank", "12", "--mix",
         "false", "--learning_rate", "1e-3", "--disable_tqdm", "true"]
    )  # fmt: skip
    assert "read together" in metrics["weights"] and (out / "reranker" / "model.safetensors").is_file()
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    topics = {row["topic_id"]: row for row in school.topics["test"]}
    queries = [{k: topics[t][k] for k in ("text", "path")} for t in dict.fromkeys(r["query"] for r in rows)]
    assert load(out).predict_columns(queries)["resource_id"] == [r["resource_id"] for r in rows]


def test_only_the_best_of_a_list_are_read_together_and_the_others_stay_behind_them():
    class Longest:
        asked: list[list[str]] = []

        def scores(self, query, texts):
            self.asked.append(list(texts))
            return np.array([len(text) for text in texts], np.float32)

    table, texts = np.arange(6, dtype=np.float32)[None, None], ["a", "bb", "ccc", "dddd", "e", "ff"]
    more = with_reranker(
        lambda rows: table.copy(), np.ones(1, np.float32), ["q"], texts, Longest(), 3, lambda row: np.ones(6, bool)
    )
    found = more(np.array([0]))
    assert found.shape == (2, 1, 6) and found[1, 0].tolist() == [1, 1, 1, 4, 1, 2]
    assert Longest.asked == [["ff", "e", "dddd"]] and np.array_equal(more(np.array([0])), found) and len(Longest.asked) == 1


class FirstLast:
    """A cross-encoder that turns every list round."""

    def scores(self, query, texts):
        return np.arange(len(texts), dtype=np.float32)


def test_what_is_read_together_is_what_may_be_shown(finished_recommender, finished_histories):
    topics, histories = load(finished_recommender), load(finished_histories)
    cases = ((topics, topics.query("fractions"), Filters(languages=["de"])), (histories, histories.query(history=["R001"]), None))
    for recommender, query, filters in cases:
        before = [p.resource_id for p in recommender.recommend([query], 8, filters)[0]]
        recommender.settings.rerank, recommender.reranker = 8, FirstLast()
        recommender.settings.weights["read together"] = 100.0
        after = [p.resource_id for p in recommender.recommend([query], 8, filters)[0]]
        assert after == before[::-1], "the best of the whole catalogue would leave this list as it was"
        nobody = recommender.recommend([query], 8, Filters(languages=["xx"]))
        assert nobody == [[]]


def without_its_base(folder, copy):
    """The folder on a machine that does not have the checkpoint of the training."""
    shutil.copytree(folder, copy)
    artifact = json.loads((copy / "edu_recipes.json").read_text())
    artifact["base_model"]["name"] = "/nowhere/encoder"
    (copy / "edu_recipes.json").write_text(json.dumps(artifact))
    return load(copy)


def test_a_trained_folder_needs_no_base_checkpoint_but_to_read_what_is_new(finished_recommender, finished_histories, tmp_path):
    topics = without_its_base(finished_recommender, tmp_path / "topics")
    assert topics.predict_columns([{"text": "angles"}]) == load(finished_recommender).predict_columns([{"text": "angles"}])
    histories = without_its_base(finished_histories, tmp_path / "histories")
    query = [{"history": ["R001", "R009"]}]
    assert histories.predict_columns(query) == load(finished_histories).predict_columns(query)
    with pytest.raises(ConfigurationError, match="new resources cannot be read"):
        histories.with_catalogue([{"resource_id": "x", "text": "Cells and plants"}])


@pytest.mark.parametrize("merge", ["true", "false"])
def test_an_adapter_gives_the_lists_it_was_judged_by(merge, recipe, tiny_model, tmp_path, school):
    out = tmp_path / "run"
    recipe.main(
        ["--model_name_or_path", tiny_model, "--output_dir", str(out), "--num_train_epochs", "1", "--use_peft", "--lora_r", "4",
         "--learning_rate", "1e-2", "--merge_adapter", merge, "--disable_tqdm", "true"]
    )  # fmt: skip
    assert (out / "adapter_model.safetensors").is_file() is (merge == "false")
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    topics = {row["topic_id"]: row for row in school.topics["test"]}
    queries = [{k: topics[t][k] for k in ("text", "path")} for t in dict.fromkeys(r["query"] for r in rows)]
    assert load(out).predict_columns(queries)["resource_id"] == [r["resource_id"] for r in rows]


def test_folds_leave_the_test_topics_alone_and_check_data_trains_nothing(recipe, tiny_model, tmp_path, school, capsys):
    out = tmp_path / "run"
    metrics = recipe.main(
        ["--model_name_or_path", tiny_model, "--output_dir", str(out), "--num_train_epochs", "1", "--cv_folds", "2",
         "--disable_tqdm", "true"]
    )  # fmt: skip
    table = metrics["cross_validation"]
    assert len(table["folds"]) == 2 and "BM25" in table["baselines"]
    held = set(school.topics["test"]["topic_id"])
    for splits in school.fold_splits(2, 42).values():
        assert not held & {t for rows in splits.values() for t in rows["topic_id"]}
    check = recipe.main(["--model_name_or_path", tiny_model, "--output_dir", str(tmp_path / "check"), "--check_data"])
    assert check["training"]["updates"] > 0 and "resources" in capsys.readouterr().out
    assert not list((tmp_path / "check").iterdir())


def test_of_many_topics_a_sample_tells_what_answers_all(tiny_model, school, tmp_path, monkeypatch):
    monkeypatch.setattr(retrieval, "MOST_TOPICS", 5)
    topics = retrieval_trainer(tiny_model, school, tmp_path).recommender().settings.topics
    assert len(topics) == 5 and {t["text"] for t in topics} <= set(school.all_topics["text"])
    assert all(set(topic) == {"text", "path", "language"} for topic in topics), "nothing of what is relevant to them"


def test_the_mean_of_weights_is_never_worse_on_validation(tiny_model, school, tmp_path):
    trainer = retrieval_trainer(tiny_model, school, tmp_path)
    trainer.args.num_train_epochs, trainer.args.learning_rate = 2, 1e-2
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    trainer.fit()
    after = dict(trainer.model.named_parameters())
    found = {float(share): float(value) for share, value in re.findall(r"(\d\.\d\d) (\d\.\d{4})", trainer.mixing)}
    assert tuple(found) == SHARES and len(set(found.values())) > 2 and found[trainer.share] == max(found.values())
    kept = trainer.validation_metrics(EvalPrediction(trainer.logits(trainer.eval_dataset), None))["ndcg_at_10"]
    assert kept == pytest.approx(found[trainer.share], abs=1e-4), "the weights that were chosen are those that are kept"
    assert f"share of the trained weights {trainer.share:g};" in trainer.mixing
    assert any(not torch.equal(before[n], after[n]) for n in before) is (trainer.share > 0)


def test_a_training_that_only_harms_is_taken_back(tiny_model, school, tmp_path, monkeypatch):
    trainer = retrieval_trainer(tiny_model, school, tmp_path)
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    with torch.no_grad():
        for p in trainer.model.parameters():
            p.add_(float(p.requires_grad))
    monkeypatch.setattr(trainer, "validation_metrics", lambda _: {"ndcg_at_10": float(far(before, current(trainer)) < 1e-5)})
    trainer._mix()
    assert trainer.share == 0 and all(torch.equal(before[n], p) for n, p in trainer.model.named_parameters())


def current(trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in trainer.model.named_parameters()}


# ---- nothing from the future ----------------------------------------------------------------------------------------


def log_of(folder, learners: int = 40, days: int = 60, late: str = "") -> list[str]:
    """A log in which learners open what their group likes; `late` is what everybody opens after the test split begins."""
    rng, n = np.random.default_rng(0), 30
    words = [f"{a}{b}" for a in "bdfglmnprst" for b in ("an", "el", "or")]
    library = folder / "library.csv"
    rows = [f"r{i},All about {words[i]} and {words[i // 3]},cc0-1.0,7,en" for i in range(n)]
    library.write_text("resource,text,licence,level,language\n" + "\n".join(rows) + "\n")
    lines = []
    for day in range(days):
        for i in rng.choice(learners, 12, replace=False):
            liked = (i % 3) * 10 + rng.integers(10)
            liked = late if late and day >= 55 else f"r{liked}"
            lines.append(f"u{i},{liked},2026-{1 + day // 28:02}-{1 + day % 28:02}T08:{i:02}")
    log = folder / "log.csv"
    log.write_text("learner,resource,time\n" + "\n".join(lines) + "\n")
    return ["--resources_file", str(library), "--interactions_file", str(log), "--query", "history"]


def test_an_opening_after_the_split_changes_no_list(recipe, tiny_model, tmp_path):
    """Test openings are targets; the lists for the same learners and histories must not know them."""
    lists = []
    for name, late in (("as it was", ""), ("another end", "r29")):
        folder = tmp_path / name.replace(" ", "_")
        folder.mkdir()
        recipe.main(
            [*log_of(folder, late=late), "--model_name_or_path", tiny_model, "--output_dir", str(folder / "run"),
             "--num_train_epochs", "2", "--validation_from", "2026-02-20", "--test_from", "2026-02-28", "--disable_tqdm", "true"]
        )  # fmt: skip
        rows = csv.DictReader((folder / "run" / "predictions.csv").open())
        lists.append({(r["query"], r["rank"]): (r["resource_id"], float(r["score"])) for r in rows})
    shared = set(lists[0]) & set(lists[1])
    assert len(shared) > 50 and all(lists[0][key][0] == lists[1][key][0] for key in shared)
    # who is asked for together moves the last digit
    assert all(lists[0][key][1] == pytest.approx(lists[1][key][1], abs=1e-4) for key in shared)


def test_the_twin_that_counts_all_openings_would_know_them():
    past, future = np.arange(30).repeat(3), np.full(300, 29)
    fair, open_trap = popularity(past, 30), popularity(np.r_[past, future], 30)
    assert fair.argmax() != 29 or fair[29] == fair[0]
    ranks = [
        rank_resources(alike_for_all(c), [np.array([29])] * 50, 30, seed=s).ranks[0][0] for c, s in ((fair, 1), (open_trap, 1))
    ]
    assert ranks[1] == 1 < ranks[0]


# ---- histories ------------------------------------------------------------------------------------------------------


def sequential(resources: int = 12, cls=SequentialRecommender, **options) -> SequentialRecommender:
    torch.manual_seed(0)
    settings = RecommendationSettings("history", "sequential", history_length=6)
    texts = np.random.default_rng(0).normal(size=(resources, 8)).astype(np.float32)
    model = new_sequential_recommender(settings, texts, np.arange(resources - 1).repeat(2), hidden_size=16, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.__class__ = cls
    return model.eval()


def test_what_is_opened_later_changes_no_earlier_state():
    model, history = sequential(), torch.tensor([[3, 1, 4, 1, 5, 9]])
    with torch.no_grad():
        before = model(history=history).states
        for place in range(6):
            changed = history.clone()
            changed[0, place] = 12
            states = model(history=changed).states
            assert torch.allclose(states[0, : place + 1], before[0, : place + 1], atol=1e-6)
            assert (states[0, place + 1 :] - before[0, place + 1 :]).abs().max() > 1e-3


def test_padding_changes_nothing():
    model, collate = sequential(), HistoryCollator()
    histories = [[3, 1], [5, 9, 2, 6], []]
    batch = collate([{"history": h, "labels": [IGNORED] * (len(h) + 1)} for h in histories])
    with torch.no_grad():
        together = model(history=batch["history"]).states
        for row, history in enumerate(histories):
            alone = model(history=torch.tensor([history], dtype=torch.int64).reshape(1, -1)).states[0, -1]
            assert torch.allclose(together[row, len(history)], alone, atol=1e-5)


@pytest.mark.parametrize("length, steps", [(6, 3), (6, 6), (6, 7), (6, 8), (6, 40), (1, 9), (5, 23)])
def test_every_opening_is_asked_for_once_with_what_came_before(length, steps):
    history = np.random.default_rng(steps).permutation(np.arange(1, steps + 1)).tolist()
    asked = []
    for read, labels in windows_of(history, length):
        assert len(read) <= length and len(labels) == len(read) + 1
        start = next(i for i in range(steps) if history[i : i + len(read)] == read)
        for place, label in enumerate(labels):
            if label != IGNORED:
                asked.append(start + place)
                assert history[start + place] == label + 1
                assert start == 0 or place >= length // 2, "enough of what came before is there"
    assert sorted(asked) == list(range(steps))


def test_what_was_opened_before_is_not_asked_for_again():
    ((read, labels),) = windows_of([4, 4, 2, 4], 6)
    assert read == [4, 4, 2, 4] and labels == [3, IGNORED, 1, IGNORED, IGNORED]


def test_a_loss_in_blocks_is_the_loss():
    torch.manual_seed(0)
    states, vectors, labels = (
        torch.randn(50, 8, requires_grad=True),
        torch.randn(30, 8, requires_grad=True),
        torch.arange(50) % 30,
    )
    whole = full_catalogue_loss(states, vectors, labels)
    expected = torch.autograd.grad(whole, (states, vectors))
    cut = full_catalogue_loss(states, vectors, labels, memory=4 * 30 * 7)
    assert cut.item() == pytest.approx(whole.item(), rel=1e-5)
    assert all(
        torch.allclose(a, b, atol=1e-5) for a, b in zip(torch.autograd.grad(cut, (states, vectors)), expected, strict=True)
    )


def test_a_resource_that_nobody_opened_is_known_by_its_text(finished_histories):
    out = finished_histories
    model = load(out).model
    data = load_resources()
    opened = set(data.rows(data.interactions["train"]["resource_id"]).tolist())
    cold = sorted(set(range(len(data.resources))) - opened)
    assert cold and model.own.weight[cold].abs().max() == 0 < model.own.weight[sorted(opened)].abs().mean()
    assert model.popularity[cold].unique().numel() == 1, "it was no negative: it may not have been there"


def test_a_new_resource_joins_the_catalogue_by_its_text(finished_histories, school):
    recommender = load(finished_histories)
    rows = school.resources.to_list()[:40]
    twin = {**rows[7], "resource_id": "new", "title": rows[7]["title"]}
    bigger = recommender.with_catalogue([*rows, twin])
    _, vectors = bigger.model_scores([Query()])
    text = recommender.model.project(torch.from_numpy(bigger.embeddings[[40]])).detach().numpy()
    assert vectors[40, :-1] == pytest.approx(text[0], abs=1e-5) and bigger.known[bigger.on_shelf].tolist() == [*range(40), -1]
    assert len(bigger.recommend([bigger.query(history=["R001"])], k=41)[0]) == 40


def test_how_likely_what_nobody_opened_is_can_be_learnt_on_validation(finished_histories, school):
    """To training it was never there; on validation others were, and their openings weigh what is new."""
    found = load(finished_histories)
    opened = school.rows(school.interactions["train"]["resource_id"])
    assert np.array_equal(np.flatnonzero(found.never_opened), np.setdiff1d(np.arange(len(school.resources)), opened))
    assert list(found.weights).index("never opened") == 3 and found.start_weights()["never opened"] == 0
    found.lately = popularity(opened, len(school.resources), recent=True)
    queries, new = [found.query(history=["R001", "R009"])] * 60, np.flatnonzero(found.never_opened)
    features = found.features(queries)
    assert np.array_equal(features(np.array([0]))[3, 0], found.never_opened)
    for wanted, sign in ((np.tile(new, 60), 1), (np.tile(np.setdiff1d(opened, [0, 8]), 60), -1)):
        weights = fit_weights(features, found.start_weights(), [wanted[i : i + 1] for i in range(60)])
        assert sign * weights["never opened"] > 0.5
    shelf = [{"resource_id": "new", "text": "Cells and plants"}, school.resources[0]]
    assert found.with_catalogue(shelf).never_opened[:2].tolist() == [True, False]


# ---- baselines ------------------------------------------------------------------------------------------------------


def test_words_are_found_by_their_stems_and_a_query_without_words_finds_nothing():
    index = LexicalIndex(["Hidden Markov Models", "The model of a cell", "", "Parsing"])
    scores = index.scores("Markov model")
    assert scores.argmax() == 0 and scores[1] > 0 == scores[2] == scores[3]
    assert not index.scores("the of zzz").any() and words_of("Bus, glass and gases: studies") == ["bus", "glass", "gase", "study"]


def test_neighbours_and_ease_learn_who_goes_with_whom():
    rng = np.random.default_rng(0)
    learners, opened = np.repeat(np.arange(200), 6), np.concatenate([rng.permutation(10)[:6] + 10 * (i % 3) for i in range(200)])
    histories = [np.array([0, 1]), np.array([12, 15]), np.zeros(0, np.int64)]
    systems = history_baselines(learners, opened, 30, histories)
    for name in ("item-kNN", "EASE"):
        scores = systems[name](np.arange(3))
        for row, (first, last) in enumerate(((0, 10), (10, 20))):
            own = scores[row].copy()
            own[histories[row]] = -9
            assert first <= own.argmax() < last, name
        assert scores[2].max() > 0 and falls(popularity(opened, 30)[np.argsort(-scores[2])]), "the popular to a newcomer"
    lately = systems["recently popular"](np.array([0]))[0]
    assert falls(np.bincount(opened[-120:], minlength=30)[np.argsort(-lately)])
    assert not falls(popularity(opened, 30)[np.argsort(-lately)])


def falls(values: np.ndarray) -> bool:
    return bool((np.diff(values) <= 0).all())


def test_fusion_of_ranks_prefers_what_both_find_good_to_the_favourite_of_one():
    one, two = np.array([[3.0, 2, 1, 0]]), np.array([[0.0, 2, 1, 3]])
    found = by_rank(lambda rows: one[rows], lambda rows: two[rows])(np.array([0]))[0]
    assert found == pytest.approx([1 / 61 + 1 / 64, 2 / 62, 2 / 63, 1 / 64 + 1 / 61]) and found.argmax() == 1
    undecided = by_rank(lambda rows: one[rows], lambda rows: 0 * one[rows])(np.array([0]))[0]
    assert undecided == pytest.approx([1 / (60 + rank) + 1 / 62.5 for rank in (1, 2, 3, 4)]), "equals share their mean rank"


def test_weights_find_the_feature_that_tells():
    rng = np.random.default_rng(0)
    relevant = [rng.choice(200, 8, replace=False) for _ in range(80)]
    noise, signal = rng.normal(size=(2, 80, 200)).astype(np.float32)
    for row, wanted in enumerate(relevant):
        signal[row, wanted] += 2
    weights = fit_weights(lambda rows: np.stack([noise[rows], signal[rows]]), {"noise": 1.0, "signal": 0.0}, relevant)
    assert weights["signal"] > 4 * abs(weights["noise"])
    few = fit_weights(lambda rows: np.stack([noise[rows], signal[rows]]), {"noise": 1.0, "signal": 0.0}, relevant[:2])
    assert 0 < few["signal"] < weights["signal"] and few["noise"] > weights["noise"], "two queries move little"
    scores = fused(lambda rows: np.stack([noise[rows], signal[rows]]), weights)
    before, after = (
        ranking_metrics(rank_resources(s, relevant, 200).ranks)["ndcg_at_10"].mean() for s in (lambda r: noise[r].copy(), scores)
    )
    assert after > before + 0.3


# ---- serving --------------------------------------------------------------------------------------------------------


def test_filters_let_through_what_may_be_shown(finished_recommender):
    recommender = load(finished_recommender)
    query = recommender.query("equivalent fractions")
    rows = {row["resource_id"]: row for row in recommender.resources}
    wanted = Filters(languages=["en"], levels=["7", "8"], licences=["cc-by-4.0"], kinds=["text", "video"])
    found = [rows[p.resource_id] for p in recommender.recommend([query], 10, wanted)[0]]
    assert found and all(r["language"] == "en" and r["licence"] == "cc-by-4.0" and r["level"] in "78" for r in found)
    assert recommender.recommend([query], 5, Filters(languages=["xx"])) == [[]]
    before = {"adding fractions": {"equivalent fractions"}}
    filters, ready = Filters(prerequisites=before), []
    for mastered in (set(), {"equivalent fractions"}):
        lists = recommender.recommend([query], 162, filters, [mastered])[0]
        ready.append({p.resource_id for p in lists if "adding fractions" in rows[p.resource_id]["topics"]})
    assert not ready[0] and ready[1]


def test_every_place_has_a_reason(finished_recommender, finished_histories):
    topics = load(finished_recommender)
    places = topics.recommend([topics.query("equivalent fractions")], 20)[0]
    named = [p for p in places if p.reason.startswith("names")]
    assert all(p.reason for p in places) and named
    assert all(any(w in topics.read[p.resource].lower() for w in ("fraction", "equivalent")) for p in named)
    histories = load(finished_histories)
    lists = histories.recommend([histories.query(history=["R001", "R009"]), histories.query()], 10)
    assert all(p.reason for found in lists for p in found)
    assert all(p.reason.startswith("opened often") for p in lists[1]), "nothing is known of this learner"


def test_nothing_is_said_to_be_opened_often_that_nobody_opened(finished_histories, school):
    recommender = load(finished_histories)
    new = {"resource_id": "new", "text": "Cells and plants"}
    places = recommender.with_catalogue([*school.resources.to_list(), new]).recommend([recommender.query()], 163)[0]
    reasons = {p.resource_id: p.reason for p in places}
    ids = [row["resource_id"] for row in recommender.resources]
    never = {ids[i] for i in np.flatnonzero(recommender.never_opened & (recommender.lately == 0))} | {"new"}
    assert len(never) > 1 and {reasons[i] for i in never} == {"nobody is known to have opened it"}
    assert {reasons[i] for i in ids if i not in never} == {"opened often lately", "opened often"}


def test_predict_writes_lists_for_topics(finished_recommender, predict, tmp_path):
    path = tmp_path / "topics.csv"
    path.write_text("name,about\nq1,fractions\nq2,angles of a triangle\n")
    argv = ["--model", str(finished_recommender), "--input_file", str(path), "--text_column", "about", "--id_column", "name",
            "--output_file", str(tmp_path / "lists.csv"), "--k", "3", "--languages", "en"]  # fmt: skip
    predict.main(argv)
    rows = list(csv.DictReader((tmp_path / "lists.csv").open()))
    assert [(r["query"], r["rank"]) for r in rows] == [(q, str(k)) for q in ("q1", "q2") for k in (1, 2, 3)]
    assert all(r["title"] and r["reason"] for r in rows)
    other = tmp_path / "other.csv"
    other.write_text(
        "resource,about,licence,level,language\nx1,Cells and plants,cc0-1.0,7,en\nx2,Halves and thirds,cc0-1.0,7,en\n"
    )
    predict.main([*argv, "--resources_file", str(other)])
    assert {r["resource_id"] for r in csv.DictReader((tmp_path / "lists.csv").open())} == {"x1", "x2"}
    path.write_text("name,about\nq1,fractions\nq2,\n")
    with pytest.raises(DataError, match="row 3.*"):
        predict.main(argv)


def with_template(folder, copy, template: str):
    """The folder with a model that reads more of a topic."""
    shutil.copytree(folder, copy)
    artifact = json.loads((copy / "edu_recipes.json").read_text())
    artifact["settings"]["query_template"] = template
    (copy / "edu_recipes.json").write_text(json.dumps(artifact))
    return copy


def test_predict_asks_what_the_model_was_trained_to_read(finished_recommender, predict, tmp_path, monkeypatch):
    folder = with_template(finished_recommender, tmp_path / "model", "{path}{text} ({language})")
    (tmp_path / "topics.csv").write_text("text,above,tongue\nangles,geometry; triangles,en\nfractions,,de\n")
    argv = ["--model", str(folder), "--input_file", str(tmp_path / "topics.csv"), "--k", "2", "--output_file"]
    for column, words in (("path", ["--language_column", "tongue"]), ("language", ["--path_column", "above"])):
        with pytest.raises(ConfigurationError, match=f"reads the {column} of a topic.* --{column}_column"):
            predict.main([*argv, str(tmp_path / "lists.csv"), *words])
    asked, embed_all = [], Recommender._embed
    monkeypatch.setattr(Recommender, "_embed", lambda self, texts: asked.extend(texts) or embed_all(self, texts))
    predict.main([*argv, str(tmp_path / "lists.csv"), "--path_column", "above", "--language_column", "tongue"])
    assert {"geometry > triangles > angles (en)", "fractions (de)"} <= set(asked)


def test_a_query_for_which_nothing_is_left_has_a_row_that_says_so(finished_recommender, predict, tmp_path):
    (tmp_path / "topics.csv").write_text("text\nfractions\nangles\n")
    (tmp_path / "shelf.csv").write_text("resource,text,level,language\nx1,Halves,7,en\nx2,Hälften,8,de\n")
    argv = ["--model", str(finished_recommender), "--input_file", str(tmp_path / "topics.csv"), "--resources_file"]
    argv += [str(tmp_path / "shelf.csv"), "--output_file", str(tmp_path / "lists.csv"), "--languages", "en", "--levels", "8"]
    predict.main(argv)
    rows = list(csv.DictReader((tmp_path / "lists.csv").open()))
    assert [(r["query"], r["rank"], r["resource_id"], r["reason"]) for r in rows] == [
        (topic, "0", "", "nothing is left that may be shown") for topic in ("fractions", "angles")
    ]


def test_columns_of_another_catalogue_may_have_other_names(finished_recommender, predict, tmp_path):
    (tmp_path / "topics.csv").write_text("text\nfractions\n")
    (tmp_path / "shelf.csv").write_text(
        "resource,text,name,rights,grade,tongue,sort,about\nx1,Halves,First,free,7,en,video,fractions\n"
        "x2,Thirds,Second,free,8,de,text,angles\n"
    )
    renamed = dict(title="name", licence="rights", level="grade", language="tongue", kind="sort", topics="about")
    argv = ["--model", str(finished_recommender), "--input_file", str(tmp_path / "topics.csv"), "--resources_file"]
    argv += [str(tmp_path / "shelf.csv"), "--output_file", str(tmp_path / "lists.csv"), "--languages", "en", "--levels", "7"]
    argv += ["--licences", "free", "--kinds", "video"]
    with pytest.raises(ConfigurationError, match="no resource has the language 'en'"):
        predict.main(argv)
    predict.main([*argv, *(word for name, column in renamed.items() for word in (f"--{name}_column", column))])
    assert [r["title"] for r in csv.DictReader((tmp_path / "lists.csv").open())] == ["First"]
    with pytest.raises(DataError, match="no column 'grades'.*--level_column"):
        predict.main([*argv, "--level_column", "grades"])


@pytest.mark.parametrize(
    "words, message",
    [
        (["--k", "0"], "--k is 0"),
        (["--languages", "english"], "no resource has the language 'english'; there are de, en, es"),
        (["--licences", "cc-by-4.0", "free"], "no resource has the licence 'free'"),
        (["--prerequisites_file", "FILE"], "give both"),
        (["--mastery_file", "FILE"], "give both"),
        (["--mastery_file", "FILE", "--prerequisites_file", "BEFORE"], "no resource has any of the topics"),
        (["--opt_out_file", "FILE"], "this model is asked for topics"),
        (["--resources_file", "nowhere.csv"], "there is no file nowhere.csv"),
    ],
)
def test_predict_refuses_what_would_show_nothing_or_too_much(words, message, finished_recommender, predict, tmp_path):
    (tmp_path / "topics.csv").write_text("text\nfractions\n")
    (tmp_path / "file.csv").write_text("learner,learner_id,concept,mastery\nann,ann,angles,0.9\n")
    (tmp_path / "before.csv").write_text("before,after\nx,y\n")
    files = {"FILE": str(tmp_path / "file.csv"), "BEFORE": str(tmp_path / "before.csv")}
    argv = ["--model", str(finished_recommender), "--input_file", str(tmp_path / "topics.csv")]
    with pytest.raises((ConfigurationError, DataError)) as error:
        predict.main([*argv, "--output_file", str(tmp_path / "lists.csv"), *(files.get(w, w) for w in words)])
    assert message in str(error.value) and error.value.exit_code == 2 and not (tmp_path / "lists.csv").exists()


def test_predict_forgets_the_history_of_who_opted_out(finished_histories, predict, tmp_path, caplog):
    (tmp_path / "log.csv").write_text("learner,resource,time\nann,R001,1\nann,R009,2\nbob,R001,1\nbob,R009,2\n")
    (tmp_path / "away.csv").write_text("learner\nbob\nBob 7\n")
    (tmp_path / "mastery.csv").write_text("learner_id,concept,mastery\nann,whole numbers,0.9\nbob,whole numbers,0.1\n")
    (tmp_path / "before.csv").write_text("before,after\nwhole numbers,decimals\n")
    argv = ["--model", str(finished_histories), "--input_file", str(tmp_path / "log.csv"), "--k", "150",
            "--output_file", str(tmp_path / "lists.csv"), "--opt_out_file", str(tmp_path / "away.csv")]  # fmt: skip
    predict.main(argv)
    rows = list(csv.DictReader((tmp_path / "lists.csv").open()))
    lists = {name: [r["resource_id"] for r in rows if r["query"] == name] for name in ("ann", "bob")}
    assert "R001" not in lists["ann"] and "R001" in lists["bob"] and lists["ann"] != lists["bob"]
    newcomer = load(finished_histories).predict_columns([{}], k=150)["resource_id"]
    assert lists["bob"] == newcomer
    assert "1 of the 2 learners who opted out are not in the log" in caplog.text and "Bob 7" not in caplog.text
    predict.main([*argv, "--mastery_file", str(tmp_path / "mastery.csv"), "--prerequisites_file", str(tmp_path / "before.csv")])
    rows = list(csv.DictReader((tmp_path / "lists.csv").open()))
    topics = {row["resource_id"]: row["topics"] for row in load(finished_histories).resources}
    with_decimals = {
        name: sum("decimals" in topics[r["resource_id"]] for r in rows if r["query"] == name) for name in ("ann", "bob")
    }
    assert with_decimals["ann"] > 0 == with_decimals["bob"]


def test_predict_asks_for_a_learner_who_opened_nothing(finished_histories, predict, tmp_path):
    (tmp_path / "log.csv").write_text("learner,resource,time\nann,,\nbob,R001,1\nbob,R009,2\n")
    argv = ["--model", str(finished_histories), "--input_file", str(tmp_path / "log.csv"), "--output_file"]
    predict.main([*argv, str(tmp_path / "lists.csv")])
    rows = list(csv.DictReader((tmp_path / "lists.csv").open()))
    newcomer = load(finished_histories).predict_columns([{}])["resource_id"]
    assert [r["resource_id"] for r in rows if r["query"] == "ann"] == newcomer
    assert [r["resource_id"] for r in rows if r["query"] == "bob"] != newcomer
    (tmp_path / "log.csv").write_text("learner,resource,time\nann,,\n,,5\n")
    with pytest.raises(DataError, match="row 3.*the learner is missing"):
        predict.main([*argv, str(tmp_path / "lists.csv")])
    with pytest.raises(ConfigurationError, match="a learner's list is named by --learner_column"):
        predict.main([*argv, str(tmp_path / "lists.csv"), "--id_column", "time"])


def test_a_history_may_hold_what_is_no_longer_on_the_shelf(finished_histories, predict, school, tmp_path):
    """The model knows it and reads it; it is not shown, and its words are no filter."""
    known = load(finished_histories)
    shelf = [row for row in school.resources.to_list() if row["resource_id"] not in ("R001", "R009")]
    smaller = known.with_catalogue(shelf)
    whole, part = (r.recommend([r.query(history=["R001", "R009"])], 162)[0] for r in (known, smaller))
    assert [(p.resource_id, p.reason) for p in part] == [(p.resource_id, p.reason) for p in whole]
    assert [p.score for p in part] == pytest.approx([p.score for p in whole], abs=1e-4)
    everything = smaller.recommend([smaller.query(history=["R001"])], 200, again=True)[0]
    assert len(everything) == len(shelf) and not {"R001", "R009"} & {p.resource_id for p in everything}
    (tmp_path / "shelf.csv").write_text("resource,text,language\nx1,Halves and thirds,en\nR002,Whole numbers,en\n")
    (tmp_path / "log.csv").write_text("learner,resource,time\nann,R001,1\nann,R009,2\n")
    argv = ["--model", str(finished_histories), "--input_file", str(tmp_path / "log.csv"), "--output_file"]
    argv += [str(tmp_path / "lists.csv"), "--resources_file", str(tmp_path / "shelf.csv")]
    predict.main(argv)
    assert {r["resource_id"] for r in csv.DictReader((tmp_path / "lists.csv").open())} == {"x1", "R002"}
    with pytest.raises(ConfigurationError, match="no resource has the language 'de'; there is en"):
        predict.main([*argv, "--languages", "de"])


def test_who_opted_out_is_in_no_training(tmp_path):
    args = log_of(tmp_path)
    (tmp_path / "away.csv").write_text("learner\nu1\nu2\n")
    data = load_resources(resources_file=args[1], interactions_file=args[3], opt_out_file=tmp_path / "away.csv")
    learners = {i for rows in data.interactions.values() for i in rows["learner_id"]}
    assert not {"u1", "u2"} & learners and "u3" in learners
    assert data.left_out["openings of learners who opted out"] > 0


# ---- what cannot be followed ----------------------------------------------------------------------------------------

SHELF = [f"r{i},All about subject number {i},cc0-1.0,7,en,t{i % 10}" for i in range(40)]
LOG = [f"u{i},r{(i + d) % 40},2026-09-{d + 1:02}T08:{i:02}" for i in range(8) for d in range(20)]
BROKEN = {
    "no topics": (SHELF, None, ["--topics_column", "subject"], "no column 'subject'"),
    "neither topics nor a log": (SHELF, None, [], "neither topics nor interactions"),
    "histories without a log": (SHELF, None, ["--topics_column", "topics", "--query", "history"], "no interactions"),
    "topics without a column of them": (SHELF, LOG, ["--query", "topic"], "no topics to find resources for"),
    "one resource only": (SHELF[:1], LOG[:1], ["--query", "history"], "1 resource"),
    "an empty text": (["r0,,cc0-1.0,7,en,t0", *SHELF[1:]], None, ["--topics_column", "topics"], "row 2"),
    "duplicate ids": ([*SHELF, SHELF[3]], None, ["--topics_column", "topics"], "row 42"),
    "an unknown resource in the log": (SHELF, [*LOG, "u1,r99,2026-09-05"], ["--query", "history"], "no such resource"),
    "times of two kinds": (SHELF, [*LOG, "u1,r1,17"], ["--query", "history"], "the time is a number"),
    "a time that is none": (SHELF, [*LOG, "u1,r1,soon"], ["--query", "history"], "soon"),
    "two topics": ([s[:-2] + f"t{i % 2}" for i, s in enumerate(SHELF)], None, ["--topics_column", "topics"], "2 topics"),
    "a sequential model for topics": (
        SHELF, None, ["--topics_column", "topics", "--architecture", "sequential"], "reads histories",
    ),
    "a template without a resource": (SHELF, None, ["--topics_column", "topics", "--resource_template", "{kind}"], "must hold"),
    "a template with a foreign field": (SHELF, None, ["--topics_column", "topics", "--query_template", "{title}"], "must hold"),
    "a template that cannot be read": (SHELF, None, ["--topics_column", "topics", "--query_template", "{text"], "cannot be read"),
    "the topics in the resource": (
        SHELF, None, ["--topics_column", "topics", "--resource_template", "{title} {text} {topics}"], "which topic it",
    ),
    "accumulation": (SHELF, None, ["--topics_column", "topics", "--gradient_accumulation_steps", "2"], "--chunk_size"),
    "a metric of another task": (SHELF, None, ["--topics_column", "topics", "--metric_for_best_model", "f1"], "ndcg_at_10"),
    "a negative chunk": (SHELF, None, ["--topics_column", "topics", "--chunk_size", "-1"], "0 or more"),
    "texts of no length": (SHELF, None, ["--topics_column", "topics", "--max_length", "2"], "--max_length is 2"),
    "a scale of nothing": (SHELF, None, ["--topics_column", "topics", "--scale", "0"], "--scale is 0"),
    "folds of time": (SHELF, LOG, ["--query", "history", "--cv_folds", "3"], "one order in time"),
    "an adapter for histories": (SHELF, LOG, ["--query", "history", "--use_peft"], "--architecture encoder"),
    "a training file": (SHELF, LOG, ["--query", "history", "--train_file", "x.csv"], "--resources_file"),
    "everybody opted out": (SHELF, LOG, ["--query", "history", "--opt_out_file", "OUT"], "all learners opted out"),
    "a fold that is not there": (SHELF, None, ["--topics_column", "topics", "--fold", "7"], "no such fold"),
    "a history of no length": (SHELF, LOG, ["--query", "history", "--history_length", "0"], "--history_length is 0"),
    "a test that never comes": (SHELF, LOG, ["--query", "history", "--test_from", "2030-01-01"], "cannot be cut"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_followed_is_told_in_one_message(name, recipe, tiny_model, tmp_path):
    shelf, log, words, message = BROKEN[name]
    (tmp_path / "library.csv").write_text("resource,text,licence,level,language,topics\n" + "\n".join(shelf) + "\n")
    argv = ["--resources_file", str(tmp_path / "library.csv"), "--output_dir", str(tmp_path / "run")]
    if log is not None:
        (tmp_path / "log.csv").write_text("learner,resource,time\n" + "\n".join(log) + "\n")
        argv += ["--interactions_file", str(tmp_path / "log.csv")]
    (tmp_path / "away.csv").write_text("learner\n" + "".join(f"u{i}\n" for i in range(8)))
    words = [str(tmp_path / "away.csv") if w == "OUT" else w for w in words]
    with pytest.raises((ConfigurationError, DataError)) as error:
        recipe.main([*argv, "--model_name_or_path", tiny_model, *words])
    assert message in str(error.value) and error.value.exit_code == 2 and "\n\n" not in str(error.value)


def test_what_is_no_recommender_is_told(finished_run, finished_recommender, tmp_path):
    with pytest.raises(ConfigurationError, match="trained for essay_scoring"):
        load(finished_run)
    for name in ("config.json", "edu_recipes.json"):
        (tmp_path / name).write_bytes((finished_recommender / name).read_bytes())
    with pytest.raises(ConfigurationError, match="could not be loaded"):
        load(tmp_path)


# ---- the benchmark --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def benchmark():
    return load_recipe("retrieval_throughput", ROOT / "recipes/benchmarks/retrieval_throughput.py")


def test_the_benchmark_finds_the_same_ten_by_every_search(benchmark):
    options = {"ranking": True, "queries": 20, "resources": 5000}
    found = [benchmark.measure_ranking(benchmark.BenchmarkArguments(**options, way=way)) for way in benchmark.SEARCHES]
    assert len({row["digest"] for row in found}) == 1


def test_the_benchmark_measures_the_ranking_that_serves(benchmark, monkeypatch):
    asked = []
    monkeypatch.setattr(benchmark, "rank_resources", lambda *args, **how: asked.append(how) or rank_resources(*args, **how))
    benchmark.measure_ranking(benchmark.BenchmarkArguments(ranking=True, queries=3, resources=50, way=benchmark.OURS))
    assert asked == [{"depth": 10}]


def test_lists_are_the_same_ten_only_with_the_same_resources_for_each_query(benchmark):
    same = benchmark.digest([[1, 2, 9], [4, 5, 6]])
    assert same == benchmark.digest([[9, 1, 2], [6, 5, 4]])
    assert same != benchmark.digest([[4, 5, 6], [1, 2, 9]]) and same != benchmark.digest([[1, 3, 8], [4, 5, 6]])


def test_the_benchmark_trains_both_ways_on_the_same_pairs(benchmark, tiny_model, tmp_path):
    options = {"model_name_or_path": tiny_model, "updates": 3, "batch_size": 8, "precision": "fp32", "output_dir": str(tmp_path)}
    for way in (benchmark.OURS, benchmark.THEIRS):
        args = benchmark.BenchmarkArguments(dataset_name="sample_school", **options, way=way)
        row = benchmark.measure_training(args)
        assert row["samples"] == 24 and 0 < row["ndcg_at_10"] <= 1


def test_the_interval_of_a_ratio_holds_it_and_one_round_says_nothing(benchmark):
    ratio, (low, high) = benchmark.ratio_interval([11.0, 12.1, 9.9], [10.0, 10.0, 10.0])
    assert low < ratio < high and ratio == pytest.approx((11 * 12.1 * 9.9) ** (1 / 3) / 10)
    assert benchmark.ratio_interval([1.0], [1.0])[1] == [0.0, np.inf]


# ---- the real checkpoint --------------------------------------------------------------------------------------------


def test_the_sample_school_is_the_default_and_the_real_encoder_finds_its_resources(recipe, tmp_path):
    metrics = recipe.main(["--output_dir", str(tmp_path / "run"), "--num_train_epochs", "1", "--disable_tqdm", "true"])
    ndcg = {name: row["ndcg_at_10"] for name, row in metrics["baselines"].items()} | {"ours": metrics["test"]["ndcg_at_10"]}
    assert ndcg["ours"] > 0.4 > ndcg["random"] and ndcg["encoder, not tuned"] > ndcg["random"] + 0.2
    assert "fictional" in metrics["protocol"]["dataset"]
    first = load(tmp_path / "run").predict_columns([{"text": "adding fractions"}], k=1)
    assert first["reason"] and first["score"][0] == first["score"][0]
