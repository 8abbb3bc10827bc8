"""Measure how fast a tracer trains beside a plain PyTorch loop, and how much memory a large log takes.

    python recipes/benchmarks/tracing_throughput.py --data_dir data
    python recipes/benchmarks/tracing_throughput.py --memory

The loop is what one writes without a Trainer: the same model and windows, kept in memory, shuffled, padded to the longest of
the batch, AdamW, clipping. Both train on the same learners, in the order loop, recipe, recipe, loop, a process each; the
first updates warm up, untimed.

--memory writes logs of 10 thousand and of 1 million answers in the three-line format, trains an epoch of 50 updates on each and
reads the anonymous memory of the process (RssAnon): what is mapped from disk is not in it.

In --output_dir: tracing_throughput.json or tracing_memory.json.
"""

import argparse
import logging
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from datasets import DatasetDict
from torch.nn.utils import clip_grad_norm_
from torch.utils.data import DataLoader
from transformers import set_seed

from edu_datasets.responses import load_responses, three_lines_dataset
from trainers import report, throughput
from trainers.arguments import RecipeTrainingArguments
from trainers.base import peak_memory_mib, use_all_cores
from trainers.knowledge_tracing import KnowledgeTracingTrainer, new_tracer
from trainers.parser import RecipeParser, run
from trainers.tracing_settings import TracingCollator, TracingSettings

WAYS = ("plain loop", "recipe")
WARM_UP = 5  # untimed updates
SIZES = (10_000, 1_000_000)  # answers
SEQUENCE = 50  # answers of a learner, --memory
MEMORY_UPDATES = 50


@dataclass
class BenchmarkArguments:
    """Options of the benchmark; what they set is the same for both ways."""

    _argument_group_name = "benchmark"

    data_dir: str | None = field(default=None, metadata={"help": "public data sets; else the variable EDU_DATA_DIR"})
    dataset_name: str = field(default="assist2015", metadata={"help": "see edu_datasets.load_responses"})
    output_dir: str = field(default="runs/benchmarks/tracing", metadata={"help": "where the results are written"})
    learners: int = field(default=2000, metadata={"help": "training learners of a pass"})
    batch_size: int = field(default=32, metadata={"help": "windows an update"})
    hidden_size: int = field(default=128, metadata={"help": "width of the model"})
    architecture: str = field(default="lstm", metadata={"help": "lstm or attention"})
    seed: int = field(default=42, metadata={"help": "seed of the rows and of the training"})
    memory: bool = field(default=False, metadata={"help": "measure memory instead"})
    way: str | None = field(default=None, metadata={"help": argparse.SUPPRESS})  # these three are for its own processes
    pass_number: int | None = field(default=None, metadata={"help": argparse.SUPPRESS})
    result_file: str | None = field(default=None, metadata={"help": argparse.SUPPRESS})


def make_trainer(args: BenchmarkArguments, splits: DatasetDict, concepts: int, epochs: float) -> KnowledgeTracingTrainer:
    """The recipe's Trainer on these splits."""
    settings = TracingSettings([str(i) for i in range(1, concepts + 1)])
    set_seed(args.seed)
    model = new_tracer(settings, architecture=args.architecture, hidden_size=args.hidden_size)
    options = RecipeTrainingArguments(
        output_dir=args.output_dir, per_device_train_batch_size=args.batch_size, learning_rate=2e-3, seed=args.seed,
        precision="fp32", num_train_epochs=epochs, save_strategy="no", eval_strategy="no", load_best_model_at_end=False,
        report_to="none", disable_tqdm=True, use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    return KnowledgeTracingTrainer(settings=settings, splits=splits, model=model, args=options)


def train_in_a_plain_loop(trainer: KnowledgeTracingTrainer, args: BenchmarkArguments) -> list[float]:
    """One epoch over the trainer's windows without it; seconds of each update."""
    device, model = trainer.args.device, trainer.model.train()
    windows = [trainer.train_dataset[i] for i in range(len(trainer.train_dataset))]
    collate = TracingCollator(trainer.settings.concepts_per_step)
    loader = DataLoader(windows, args.batch_size, shuffle=True, collate_fn=collate)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    seconds, last = [], throughput.now()
    for batch in loader:
        inputs = {k: v.to(device) for k, v in batch.items()}
        labels = inputs.pop("labels")
        logits = model(**inputs).logits
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[labels >= 0], labels[labels >= 0].float())
        optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        before, last = last, throughput.now()
        seconds.append(last - before)
    return seconds


def measure(args: BenchmarkArguments) -> dict:
    """One pass of one way."""
    data = load_responses(args.dataset_name, data_dir=args.data_dir, max_train_samples=args.learners, seed=args.seed)
    few = data.splits["validation"].select(range(20))
    splits = DatasetDict(train=data.splits["train"], validation=few, calibration=few, test=few)
    trainer = make_trainer(args, splits, len(data.concepts), 1)
    if args.way == "plain loop":
        seconds = train_in_a_plain_loop(trainer, args)
    else:
        trainer.add_callback(timer := throughput.StepTimer())
        trainer.train()
        seconds = timer.seconds
    answers = sum(map(len, data.splits["train"]["correct"]))
    share = (len(seconds) - WARM_UP) / len(seconds)  # batches differ in length; the warm-up is a few of many
    return {"seconds": sum(seconds[WARM_UP:]), "samples": answers * share, "peak_memory_mib": peak_memory_mib()}


def measure_memory(args: BenchmarkArguments) -> dict:
    """Read, window and train on a log of `args.learners` learners; the highest anonymous memory on the way, in MiB."""
    rng = np.random.default_rng(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        with path.open("w") as file:
            for _ in range(args.learners):
                concepts, correct = rng.integers(1, 101, SEQUENCE), rng.integers(0, 2, SEQUENCE)
                file.write(f"{SEQUENCE}\n{','.join(map(str, concepts))}\n{','.join(map(str, correct))}\n")
        rows = three_lines_dataset(path)
        few = rows.select(range(20))
        trainer = make_trainer(args, DatasetDict(train=rows, validation=few, calibration=few, test=few), 100, 1)
        peak, step = [throughput.anonymous_memory_mib()], trainer.training_step

        def watched(*words, **named):
            loss = step(*words, **named)
            peak.append(throughput.anonymous_memory_mib())
            return loss

        trainer.training_step, trainer.args.max_steps = watched, MEMORY_UPDATES
        start = time.perf_counter()
        trainer.train()
    return {"answers": args.learners * SEQUENCE, "anonymous_mib": max(peak), "seconds": time.perf_counter() - start}


def main(argv: list[str] | None = None) -> dict:
    """Measure both ways, or both sizes. Returns the content of the json file."""
    parser = RecipeParser((BenchmarkArguments,), description=__doc__)
    (args,) = parser.parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    use_all_cores()
    if args.result_file:
        report.write_json(args.result_file, result := (measure_memory if args.memory else measure)(args))
        return result
    options = {k: v for k, v in parser.resolved.items() if k != "memory"}
    words = [str(w) for name, value in options.items() for w in (f"--{name}", value)]
    if args.memory:
        sizes = {n: ["--memory", "--learners", str(n // SEQUENCE)] for n in SIZES}
        measured = [throughput.in_own_process(__file__, [*words, *own]) for own in sizes.values()]
        growth = measured[-1]["anonymous_mib"] / measured[0]["anonymous_mib"]
        results, name = {"sizes": measured, "growth": growth, "machine": throughput.processor_features()}, "tracing_memory.json"
        table = [["answers", "anonymous MiB"]] + [[f"{m['answers']:,}", f"{m['anonymous_mib']:,.0f}"] for m in measured]
    else:
        passes = [
            {"way": way, **throughput.in_own_process(__file__, [*words, "--way", way, "--pass_number", str(i)])}
            for i, way in enumerate((*WAYS, *WAYS[::-1]))
        ]
        rates = {}
        for way in WAYS:
            own = [p for p in passes if p["way"] == way]
            rates[way] = sum(p["samples"] for p in own) / sum(p["seconds"] for p in own)
        results = {"passes": passes, "answers_per_second": rates, "machine": throughput.processor_features()}
        name, table = "tracing_throughput.json", [["", "answers/s", "x plain loop"]]
        table += [[way, f"{rate:,.0f}", f"{rate / rates[WAYS[0]]:.2f}"] for way, rate in rates.items()]
    report.write_json(Path(args.output_dir) / name, results)
    print(f"\n{report.as_markdown(table)}\n\nSaved in {args.output_dir}")
    return results


if __name__ == "__main__":
    run(main)
