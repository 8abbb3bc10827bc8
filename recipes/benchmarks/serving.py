"""Measure how fast essays are scored: the torch model, the same model as ONNX, and as ONNX with int8 weights.

    python recipes/benchmarks/serving.py
    python recipes/benchmarks/serving.py --model runs/essay_scoring --seconds 10

Each way has a process of its own, with all cores. It loads the scorer as predict.py does and asks it --batch_sizes essays at a
time, drawn from --words words each, for --seconds after a warm-up; told are the median and the 95th percentile of the time that a
request takes, essays a second, how long loading takes, how large the weights are, and the peak memory of the process. Two
figures are told apart: the whole scorer (tokens, model, words, intervals), which is what a user waits for, and its model alone.
The ways are measured in turn, up and down, so that a slow drift of the machine meets all alike. Without --model a scorer with
the weights of --model_name_or_path and a new head is made: time does not depend on what was learnt.

In --output_dir: serving.json and figures/serving.png.
"""

import argparse
import logging
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from edu_datasets import load_essays
from trainers import report, throughput
from trainers.arguments import DEFAULT_ENCODER, ModelArguments
from trainers.artifact import new_artifact
from trainers.base import peak_memory_mib, use_all_cores
from trainers.checkpoints import find_checkpoint, load_classifier, load_tokenizer
from trainers.essay_scoring import load
from trainers.essay_settings import EssayCollator, EssaySettings, encode
from trainers.parser import RecipeParser, run

TORCH, ONNX, INT8 = "torch, fp32", "onnx, fp32", "onnx, int8"
WAYS = {TORCH: None, ONNX: (), INT8: ("--int8",)}
"""Way -> the options of recipes/export_onnx.py."""
PROMPT = "essay"


@dataclass
class BenchmarkArguments:
    """Options of the benchmark; what they set is the same for all ways."""

    _argument_group_name = "benchmark"

    model: str | None = field(default=None, metadata={"help": "folder of a trained essay scorer"})
    model_name_or_path: str = field(default=DEFAULT_ENCODER, metadata={"help": "without --model: the checkpoint"})
    batch_sizes: list[int] = field(default_factory=lambda: [1, 8, 32], metadata={"help": "essays of a request"})
    words: int = field(default=300, metadata={"help": "words of an essay"})
    seconds: float = field(default=2.0, metadata={"help": "each batch size is asked for so long, and five times at least"})
    seed: int = field(default=42, metadata={"help": "seed of the essays"})
    output_dir: str = field(default="runs/benchmarks/serving", metadata={"help": "where the results are written"})
    way: str | None = field(default=None, metadata={"help": argparse.SUPPRESS})  # these three are for its own processes
    folder: str | None = field(default=None, metadata={"help": argparse.SUPPRESS})
    result_file: str | None = field(default=None, metadata={"help": argparse.SUPPRESS})


def make_scorer(args: BenchmarkArguments, folder: Path) -> Path:
    """A scorer that has learnt nothing, saved as the recipe saves one."""
    checkpoint = find_checkpoint(args.model_name_or_path)
    tokenizer = load_tokenizer(checkpoint)
    settings = EssaySettings(score_ranges={PROMPT: [(0, 6)]}, targets={PROMPT: [(0.5, 0.2)]}, calibration={PROMPT: [(1.0, 0.0)]})
    model = load_classifier(checkpoint, settings.num_labels(), ModelArguments(), tokenizer)
    settings = settings.for_model(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    new_artifact("essay_scoring", asdict(settings), checkpoint).save(folder)
    return folder


def essays(count: int, words: int, seed: int) -> list[str]:
    """Texts of so many words each, in the words of the sample school."""
    known = [word for text in load_essays("sample_school").splits["train"]["text"] for word in text.split()]
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(known, words).tolist()) for _ in range(count)]


def measure(args: BenchmarkArguments) -> dict:
    """One way in this process: {"load_seconds", "peak_memory_mib", "sizes": {size: {"scorer", "model": see `timed`}}}."""
    start = time.perf_counter()
    scorer = load(args.folder)
    seconds, prompt, sizes = time.perf_counter() - start, scorer.settings.prompt_ids[0], {}
    collate = EssayCollator(scorer.tokenizer)
    for size in args.batch_sizes:
        texts, prompts = essays(size, args.words, args.seed), [prompt] * size
        ids = encode({"text": texts, "prompt_id": prompts}, scorer.tokenizer, scorer.settings)["input_ids"]
        batch = collate([{"input_ids": row, "prompt_index": 0} for row in ids])
        batch = {name: batch[name].to(scorer.model.device) for name in ("input_ids", "attention_mask")}
        sizes[str(size)] = {
            "scorer": timed(lambda t=texts, p=prompts, n=size: scorer.predict_columns(t, p, n), size, args.seconds),
            "model": timed(lambda b=batch: _without_gradient(scorer.model, b), size, args.seconds),
            "tokens": int(np.mean([len(row) for row in ids])),
        }
    return {"load_seconds": seconds, "peak_memory_mib": peak_memory_mib(), "sizes": sizes}


def _without_gradient(model, batch):
    import torch

    with torch.inference_mode():
        return model(**batch)


def timed(ask, size: int, seconds: float) -> dict[str, float]:
    """Call `ask` for so long, after two calls that warm up: {"times": seconds of each call, "size": of a call}."""
    times: list[float] = []
    for _ in range(2):
        ask()
    while len(times) < 5 or sum(times) < seconds:
        start = throughput.now()
        ask()
        times.append(throughput.now() - start)
    return {"times": times, "size": size}


def summarize(passes: list[dict], sizes: list[int]) -> dict[str, dict]:
    """Way -> size -> "p50_ms", "p95_ms", "essays_per_second" of the scorer, the same of "model", and what loading takes."""
    summary: dict[str, dict] = {}
    for way in WAYS:
        own = [p for p in passes if p["way"] == way]
        summary[way] = {k: min(p[k] for p in own) for k in ("load_seconds", "peak_memory_mib", "weights_mib")} | {"sizes": {}}
        for size in sizes:
            row = {}
            for what in ("scorer", "model"):
                times = np.concatenate([p["sizes"][str(size)][what]["times"] for p in own])
                p50, p95 = (float(1000 * q) for q in np.quantile(times, [0.5, 0.95]))
                row[what] = {"p50_ms": p50, "p95_ms": p95, "essays_per_second": float(size * len(times) / times.sum())}
            summary[way]["sizes"][str(size)] = row | {"tokens": own[0]["sizes"][str(size)]["tokens"]}
    return summary


def table_of(summary: dict[str, dict], what: str) -> list[list[str]]:
    """A line a way for `report.as_markdown`; the first is the header."""
    sizes = list(next(iter(summary.values()))["sizes"])
    head = [f"batch {s}: p50 / p95 ms" for s in sizes] + [f"essays/s at {sizes[-1]}", f"x {TORCH}"]
    table = [[what, *head, "weights MiB", "peak MiB", "loads in s"]]
    first = summary[TORCH]["sizes"][sizes[-1]][what]["essays_per_second"]
    for way, row in summary.items():
        cells = [f"{row['sizes'][s][what]['p50_ms']:.0f} / {row['sizes'][s][what]['p95_ms']:.0f}" for s in sizes]
        rate = row["sizes"][sizes[-1]][what]["essays_per_second"]
        cost = [f"{row['weights_mib']:.0f}", f"{row['peak_memory_mib']:,.0f}", f"{row['load_seconds']:.1f}"]
        table.append([way, *cells, f"{rate:.1f}", f"{rate / first:.2f}", *cost])
    return table


def draw(path: Path, summary: dict[str, dict]) -> None:
    """Essays a second and the median time of a request, by batch size; a line a way."""
    plt = report.pyplot()
    fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    colors = (report.BASELINE_COLORS[2], report.ALONE_COLOR, report.MODEL_COLOR)
    for (way, row), color in zip(summary.items(), colors, strict=True):
        sizes = [int(s) for s in row["sizes"]]
        for ax, key in ((left, "p50_ms"), (right, "essays_per_second")):
            ax.plot(sizes, [r["scorer"][key] for r in row["sizes"].values()], marker="o", color=color, label=way)
    for ax, label in ((left, "median time of a request (ms)"), (right, "essays a second")):
        ax.set(xlabel="essays of a request", ylabel=label, xscale="log", xticks=sizes, xticklabels=map(str, sizes))
        ax.set_ylim(bottom=0)
    left.legend(frameon=False, fontsize=8)
    report.save_figure(fig, path)


def main(argv: list[str] | None = None) -> dict:
    """Measure all ways, or one. Returns the content of serving.json; raises on error."""
    # 1. Options, log, and all cores for every way
    words = list(sys.argv[1:] if argv is None else argv)
    (args,) = RecipeParser((BenchmarkArguments,), description=__doc__).parse(words)
    logging.basicConfig(level=logging.WARNING if args.way else logging.INFO, format="%(message)s")
    use_all_cores()
    if args.way:  # a process of its own
        report.write_json(args.result_file, results := measure(args))
        return results

    # 2. The scorer as each way has it
    output = Path(args.output_dir)
    made = output / "scorer"
    source = Path(args.model) if args.model else made if (made / "config.json").is_file() else make_scorer(args, made)
    folders = {}
    for way, options in WAYS.items():
        folders[way] = source if options is None else output / ("int8" if options else "fp32")
        if options is not None:
            for path in sorted(folders[way].glob("*")) if folders[way].is_dir() else []:
                path.unlink()  # of an earlier measurement
            script = Path(__file__).parent.parent / "export_onnx.py"
            command = [sys.executable, str(script), "--model", str(source), "--output_dir", str(folders[way]), *options]
            subprocess.run(command, check=True, capture_output=True)

    # 3. In turn, up and down
    passes = []
    for way in [*WAYS, *reversed(WAYS)]:
        found = throughput.in_own_process(__file__, [*words, "--way", way, "--folder", str(folders[way])])
        weights = folders[way] / ("model.safetensors" if way == TORCH else "model.onnx")
        passes.append({"way": way, **found, "weights_mib": weights.stat().st_size / 2**20})
        logging.info("%s: loaded in %.1f s", way, found["load_seconds"])

    # 4. Report
    summary = summarize(passes, args.batch_sizes)
    draw(output / "figures" / "serving.png", summary)
    options = {k: v for k, v in vars(args).items() if v is not None and not k.endswith("_dir")}
    results = {**throughput.processor_features(), "options": options, "ways": summary}
    report.write_json(output / "serving.json", results)
    for what in ("scorer", "model"):
        print(f"\n{report.as_markdown(table_of(summary, what))}")
    print(f"\nSaved in {output}")
    return results


if __name__ == "__main__":
    run(main)
