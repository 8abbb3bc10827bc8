"""Measure ranking over a million resources, and training, beside sentence-transformers.

    python recipes/benchmarks/retrieval_throughput.py --ranking
    python recipes/benchmarks/retrieval_throughput.py --data_dir data

--ranking: the best ten of 1 million resources for 1,000 queries, random vectors of the width of MiniLM, by `rank_resources`, as
lists are made and judged, and by sentence-transformers' own semantic_search (its default blocks, and blocks as small as ours;
scalar products, since the vectors have length 1), a process each, in the order ours, theirs, theirs, ours. Told are seconds and
how far the peak memory of the process rose above the vectors; what they find must be the same.

Without it: both train the same encoder on the same pairs of topic and lecture (LectureBank, one fold), in batches of the same
size, in the same precision, in the order theirs, ours, ours, theirs, ..., a process each, so that a slow drift of the machine
meets both alike; the first updates warm up, untimed. After training, nDCG@10 on the validation topics. The ratio has an interval
over the pairs of passes (Student's t). sentence-transformers trains with MultipleNegativesRankingLoss in both directions, no
duplicates in a batch, its padding, and its defaults otherwise.

In --output_dir: retrieval_ranking.json or retrieval_throughput.json.
"""

import argparse
import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from scipy.stats import t
from transformers import set_seed

from edu_datasets import load_resources
from trainers import report, throughput
from trainers.arguments import DEFAULT_ENCODER, ModelArguments, RecipeTrainingArguments
from trainers.base import peak_memory_mib, use_all_cores
from trainers.baselines.resource_recommendation import by_similarity
from trainers.checkpoints import find_checkpoint, load_encoder, load_tokenizer
from trainers.parser import RecipeParser, run
from trainers.ranking import rank_resources
from trainers.recommendation_evaluation import METRIC
from trainers.recommendation_settings import RecommendationSettings
from trainers.retrieval import RetrievalTrainer
from trainers.text_encoder import embed_texts

THEIRS, OURS = "sentence-transformers", "recipe"
SEARCHES = (OURS, f"{THEIRS}, small blocks", THEIRS)
WIDTH = 384
WARM_UP = 5  # untimed updates
SMALL_BLOCK = 65_536  # resources; with 1,000 queries as much memory as `ranking.MEMORY`


@dataclass
class BenchmarkArguments:
    """Options of the benchmark; what they set is the same for both ways."""

    _argument_group_name = "benchmark"

    ranking: bool = field(default=False, metadata={"help": "measure ranking instead of training"})
    queries: int = field(default=1000, metadata={"help": "ranking: queries"})
    resources: int = field(default=1_000_000, metadata={"help": "ranking: resources"})
    data_dir: str | None = field(default=None, metadata={"help": "public data sets; else the variable EDU_DATA_DIR"})
    dataset_name: str = field(default="lecturebank", metadata={"help": "a data set with topics"})
    model_name_or_path: str = field(default=DEFAULT_ENCODER, metadata={"help": "the text encoder"})
    updates: int = field(default=60, metadata={"help": "training: timed updates of a pass"})
    batch_size: int = field(default=32, metadata={"help": "training: pairs of a batch"})
    precision: str = field(default="auto", metadata={"help": "training: auto, bf16 or fp32"})
    rounds: int = field(default=3, metadata={"help": "training: so many passes of each"})
    seed: int = field(default=42, metadata={"help": "seed of the vectors and of the training"})
    output_dir: str = field(default="runs/benchmarks/retrieval", metadata={"help": "where the results are written"})
    way: str | None = field(default=None, metadata={"help": argparse.SUPPRESS})  # these two are for its own processes
    result_file: str | None = field(default=None, metadata={"help": argparse.SUPPRESS})


# ---- ranking --------------------------------------------------------------------------------------------------------


def measure_ranking(args: BenchmarkArguments) -> dict:
    """One search in this process: seconds, MiB above the vectors, a digest of what was found."""
    generator = torch.Generator().manual_seed(args.seed)
    vectors = [torch.randn(n, WIDTH, generator=generator) for n in (args.queries, args.resources)]
    for own in vectors:
        own /= own.norm(dim=1, keepdim=True)
    before, start = peak_memory_mib(), time.perf_counter()
    if args.way == OURS:
        queries, resources = (own.numpy() for own in vectors)
        nothing = [np.zeros(0, np.int64)] * len(queries)
        found = rank_resources(by_similarity(queries, resources), nothing, len(resources), depth=10).top
    else:
        from sentence_transformers.util import dot_score, semantic_search

        blocks = {} if args.way == THEIRS else {"query_chunk_size": args.queries, "corpus_chunk_size": SMALL_BLOCK}
        found = [
            [hit["corpus_id"] for hit in hits] for hits in semantic_search(*vectors, top_k=10, score_function=dot_score, **blocks)
        ]
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "mib": peak_memory_mib() - before, "digest": digest(found)}


def digest(found: Sequence[Sequence[int]]) -> str:
    """Of the numbers that were found for each query, in whatever order."""
    return hashlib.sha256(np.sort(np.array(found, np.int64), axis=1).tobytes()).hexdigest()


# ---- training -------------------------------------------------------------------------------------------------------


def measure_training(args: BenchmarkArguments) -> dict:
    """One pass of one way: pairs a second, and nDCG@10 on validation afterwards."""
    data = load_resources(args.dataset_name, data_dir=args.data_dir)
    checkpoint, settings = find_checkpoint(args.model_name_or_path), RecommendationSettings(max_length=64)
    tokenizer = load_tokenizer(checkpoint)
    set_seed(args.seed)
    options = RecipeTrainingArguments(
        output_dir=args.output_dir, per_device_train_batch_size=args.batch_size, learning_rate=3e-5, seed=args.seed,
        precision=args.precision, max_steps=args.updates + WARM_UP, save_strategy="no", eval_strategy="no", report_to="none",
        load_best_model_at_end=False, disable_tqdm=True, metric_for_best_model=METRIC,
    )  # fmt: skip
    ours = RetrievalTrainer(
        settings=settings, splits=data.topics, resources=data.resources, opened={}, checkpoint=checkpoint, args=options,
        model=load_encoder(checkpoint, ModelArguments()), processing_class=tokenizer, mix=False,
    )  # fmt: skip
    timer = throughput.StepTimer(WARM_UP)
    if args.way == OURS:
        ours.add_callback(timer)
        ours.train()
        ours.use_full_precision()
        texts = (ours._in_words("validation"), ours.read)
        vectors = [embed_texts(ours.model, tokenizer, settings, t) for t in texts]
    else:
        vectors = train_theirs(args, ours, checkpoint.path, options.precision, timer)
    pairs = args.batch_size * len(timer.seconds)
    return {"seconds": sum(timer.seconds), "samples": pairs, METRIC: ours.metrics_of(by_similarity(*vectors))[METRIC]}


def train_theirs(
    args: BenchmarkArguments, ours: RetrievalTrainer, path: str, precision: str, timer: throughput.StepTimer
) -> list[np.ndarray]:
    """Train with sentence-transformers; embeddings of the validation queries and of the catalogue."""
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        losses,
    )
    from sentence_transformers.training_args import BatchSamplers

    model = SentenceTransformer(path, device=None if torch.cuda.is_available() else "cpu")
    model.max_seq_length = ours.settings.max_length
    pairs = {
        "anchor": [ours.query_texts[q] for q, _ in ours.pairs],
        "positive": [ours.read[r] for _, r in ours.pairs],
    }
    options = SentenceTransformerTrainingArguments(
        output_dir=args.output_dir, per_device_train_batch_size=args.batch_size, learning_rate=3e-5, seed=args.seed,
        max_steps=args.updates + WARM_UP, warmup_steps=0.1, bf16=precision == "bf16", use_cpu=not torch.cuda.is_available(),
        save_strategy="no", report_to="none", disable_tqdm=True, batch_sampler=BatchSamplers.NO_DUPLICATES,
    )  # fmt: skip
    loss = losses.MultipleNegativesRankingLoss(
        model, scale=ours.settings.scale, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
    )
    trainer = SentenceTransformerTrainer(
        model=model, args=options, train_dataset=Dataset.from_dict(pairs), loss=loss, callbacks=[timer]
    )
    trainer.train()
    model.float()
    texts = (ours._in_words("validation"), ours.read)
    return [model.encode(t, normalize_embeddings=True, show_progress_bar=False) for t in texts]


def ratio_interval(ours: list[float], theirs: list[float]) -> tuple[float, list[float]]:
    """Geometric mean of the ratio of paired rates, and its 95% interval (Student's t on logarithms)."""
    logs = np.log(np.array(ours) / np.array(theirs))
    reach = t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / len(logs) ** 0.5 if len(logs) > 1 else np.inf
    return float(np.exp(logs.mean())), [float(np.exp(logs.mean() - reach)), float(np.exp(logs.mean() + reach))]


def main(argv: list[str] | None = None) -> dict:
    """Measure ranking, or training. Returns the content of the json file."""
    parser = RecipeParser((BenchmarkArguments,), description=__doc__)
    (args,) = parser.parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    use_all_cores()
    if args.result_file:
        report.write_json(args.result_file, result := (measure_ranking if args.ranking else measure_training)(args))
        return result
    options = {k: v for k, v in parser.resolved.items() if k != "ranking"}
    words = [str(w) for name, value in options.items() for w in (f"--{name}", value)] + ["--ranking"] * args.ranking
    order = (*SEARCHES, *SEARCHES[::-1]) if args.ranking else ((THEIRS, OURS, OURS, THEIRS) * args.rounds)[: 2 * args.rounds]
    passes = [{"way": way, **throughput.in_own_process(__file__, [*words, "--way", way])} for way in order]
    results = {"passes": passes, "machine": throughput.processor_features()}
    if args.ranking:
        name, table = "retrieval_ranking.json", [["", "seconds", "MiB above the vectors", "the same ten"]]
        for way in SEARCHES:
            own = [p for p in passes if p["way"] == way]
            same = all(p["digest"] == passes[0]["digest"] for p in own)
            seconds = " and ".join(f"{p['seconds']:.1f}" for p in own)
            table.append([way, seconds, f"{max(p['mib'] for p in own):,.0f}", "yes" if same else "no"])
    else:
        rates = {way: [p["samples"] / p["seconds"] for p in passes if p["way"] == way] for way in (THEIRS, OURS)}
        ratio, span = ratio_interval(rates[OURS], rates[THEIRS])
        results |= {"samples_per_second": rates, "ratio": ratio, "interval": span}
        name, table = "retrieval_throughput.json", [["", "pairs/s", "nDCG@10 on validation"]]
        for way, own in rates.items():
            quality = [p[METRIC] for p in passes if p["way"] == way]
            table.append([way, " ".join(f"{rate:.1f}" for rate in own), " ".join(report.number(q) for q in quality)])
        table.append(["ratio", f"{ratio:.2f}, 95% {span[0]:.2f} to {span[1]:.2f}", ""])
    report.write_json(Path(args.output_dir) / name, results)
    print(f"\n{report.as_markdown(table)}\n\nSaved in {args.output_dir}")
    return results


if __name__ == "__main__":
    run(main)
