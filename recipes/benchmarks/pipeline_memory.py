"""Measure the memory of a recipe's data pipeline from ten thousand to a million rows of your own file, with --streaming.

    python recipes/benchmarks/pipeline_memory.py --recipe essay_scoring

For each size a made-up file is written, row by row, and the recipe reads, checks, splits and encodes it as with --check_data
--streaming, with a tiny model of the default checkpoint's tokenizer; then it makes batches for training. Each size has a process
of its own, in which the memory that no file backs (RssAnon, Linux) is read every 50 milliseconds. Nothing is trained: what a
baseline or a model holds beside comes on top.

In --output_dir: pipeline_memory_<recipe>.json, and a figure with the curves.
"""

import argparse
import csv
import itertools
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from trainers import report, throughput
from trainers.arguments import DEFAULT_ENCODER, DEFAULT_LANGUAGE_MODEL
from trainers.base import EduTrainer, use_all_cores
from trainers.checkpoints import find_checkpoint, load_tokenizer
from trainers.parser import RecipeParser, run

WORDS = 60  # of a text


@dataclass
class BenchmarkArguments:
    """Options of the benchmark."""

    _argument_group_name = "benchmark"

    recipe: str = field(default="essay_scoring", metadata={"help": "the recipe"})
    rows: list[int] = field(default_factory=lambda: [10_000, 100_000, 1_000_000], metadata={"help": "rows of the file"})
    batches: int = field(default=200, metadata={"help": "training batches to make"})
    streaming: bool = field(default=True, metadata={"help": "false shows what it costs to hold all in memory"})
    seed: int = field(default=42, metadata={"help": "seed of the made-up rows"})
    output_dir: str = field(default="runs/benchmarks/memory", metadata={"help": "where the results are written"})
    result_file: str | None = field(default=None, metadata={"help": argparse.SUPPRESS})  # for its own processes


# ---- made-up files: the names of the columns, then a row at a time, and the options that name them ---------------------


def texts(rng: np.random.Generator) -> Iterator[str]:
    """Texts of 60 made-up words, each as good as new."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, rng.integers(2, 4))) for _ in range(5000)], object)
    while True:
        for row in rng.integers(0, len(words), (1000, WORDS)):
            yield " ".join(words[row])


def essays(rng: np.random.Generator, rows: int) -> Iterator[list]:
    """Essays of five prompts, four by a learner."""
    yield ["id", "learner", "prompt", "text", "score"]
    for i, text in zip(range(rows), texts(rng), strict=False):
        yield [f"e{i}", f"l{i // 4}", f"p{i % 5}", text, int(rng.integers(1, 7))]


def questions(rng: np.random.Generator, rows: int) -> Iterator[list]:
    """Two questions on each text, four texts of a story; the answer is three words of the text."""
    yield ["id", "story", "context", "question", "answers", "kind"]
    several, text = texts(rng), ""
    for i in range(rows):
        text = text if i % 2 else next(several)
        words, (asked, answer) = text.split(), rng.integers(0, WORDS - 8, 2)
        question = " ".join(["Who", *words[asked : asked + 8]]) + "?"
        yield [f"q{i}", f"s{i // 8}", text, question, " ".join(words[answer : answer + 3]), f"k{i % 3}"]


def turns(rng: np.random.Generator, rows: int) -> Iterator[list]:
    """Six turns of a dialogue, four dialogues on a problem."""
    yield ["dialogue_id", "role", "text", "move", "problem_id", "problem", "learner"]
    for i, text in zip(range(rows), texts(rng), strict=False):
        number, tutor = i // 6, i % 2
        said = ["tutor", text, ("question", "hint", "telling")[i // 2 % 3]] if tutor else ["learner", text, ""]
        yield [f"d{number}", *said, f"p{number // 4}", f"Problem {number // 4}", f"l{number}"]


def answers(rng: np.random.Generator, rows: int) -> Iterator[list]:
    """A hundred answers of each learner to a thousand questions on forty concepts, every fourth question on two."""
    yield ["learner", "time", "question", "concepts", "correct"]
    for i in range(rows):
        question = int(rng.integers(0, 1000))
        concepts = f"c{question % 40}" + f";c{question % 39}" * (question % 4 == 0)
        yield [f"l{i // 100}", i % 100 * 60, f"q{question}", concepts, int((question * 7 + i) % 10 < 6)]


def records(rng: np.random.Generator, rows: int) -> Iterator[list]:
    """A record of each learner: seven numbers, three categories, an outcome that goes with the grade."""
    yield "learner grade age attendance homework quiz late answers language support course passed".split()
    for i in range(rows):
        a, b, c, d, noise = rng.normal(size=5).tolist()
        yield [
            f"l{i}", round(60 + 15 * a, 1), 12 + i % 7, round(0.8 + 0.1 * b, 4), round(0.5 + 0.2 * c, 4) if i % 20 else "",
            round(0.6 + 0.1 * a + 0.1 * d, 4), i % 5, int(100 + 30 * c), f"language {i % 9}" if i % 30 else "",
            ("yes", "no", "no")[i % 3], f"course {i % 40}", "yes" if a + noise > -0.5 else "no",
        ]  # fmt: skip


def library(rng: np.random.Generator, rows: int) -> Iterator[list]:
    """Resources of forty to a topic."""
    yield ["resource", "title", "text", "topics", "language", "level", "licence"]
    for i, text in zip(range(rows), texts(rng), strict=False):
        yield [f"r{i}", f"Resource {i}", text, f"topic {i // 40}", "en", i % 9, "cc-by-4.0"]


def openings(rng: np.random.Generator, rows: int) -> Iterator[list]:
    """Fifty openings of each learner among 20,000 resources."""
    yield ["learner", "resource", "time"]
    for i in range(rows):
        yield [f"l{i % (rows // 50)}", f"r{int(20_000 * rng.random() ** 2)}", i]


FILES = {
    "knowledge_tracing": (answers, "--train_file", "--time_column time --question_column question"),
    "learning_path": (answers, "--train_file", "--time_column time"),
    "outcome_prediction": (records, "--train_file", "--learner_column learner --id_column learner --target_column passed"),
    "essay_scoring": (
        essays, "--train_file", "--id_column id --learner_column learner --prompt_column prompt --max_length 128",
    ),
    "question_answering": (
        questions, "--train_file", "--id_column id --story_column story --attribute_columns kind --max_length 256",
    ),
    "content_generation": (questions, "--train_file", "--id_column id --story_column story --attribute_columns kind"),
    "qa_tutoring": (
        turns, "--train_file",
        "--move_column move --problem_id_column problem_id --problem_column problem --learner_column learner",
    ),
    "resource_recommendation": (library, "--resources_file", "--topics_column topics --title_column title"),
    "resource_recommendation by history": (openings, "--interactions_file", "--query history --resources_file library.csv"),
}  # fmt: skip
"""Recipe -> what writes its rows, the option that names their file, and others."""
ENCODERS = ("essay_scoring", "question_answering", "resource_recommendation", "resource_recommendation by history")
LANGUAGE_MODELS = ("content_generation", "qa_tutoring")
"""Recipes that begin with a pretrained model."""


def write_file(path: Path, rows: Iterator[list]) -> None:
    """Rows to a csv file, or to jsonl by the names of the first."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def tiny_model(name: str, folder: Path) -> str:
    """A model of two narrow layers with the tokenizer of a default checkpoint."""
    tokenizer = load_tokenizer(find_checkpoint(name))
    shape = {"vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
             "intermediate_size": 64, "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    if name == DEFAULT_ENCODER:
        BertModel(BertConfig(**shape)).save_pretrained(folder)
    else:
        LlamaForCausalLM(LlamaConfig(**shape, tie_word_embeddings=True)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


# ---- measuring --------------------------------------------------------------------------------------------------------


def measure(args: BenchmarkArguments) -> dict:
    """One size in this process: the curve of anonymous memory, its highest point, seconds."""
    rows, option, words = FILES[args.recipe]
    recipe = throughput.load_script(Path(__file__).parents[1] / f"{args.recipe.split()[0]}.py")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EDU_RECIPES_CACHE"] = folder  # nothing of it stays
        path = Path(folder) / "rows.csv"
        write_file(path, rows(np.random.default_rng(args.seed), args.rows[0]))
        if "library.csv" in words:
            write_file(Path(folder) / "library.csv", library(np.random.default_rng(args.seed), 20_000))
        options = words.replace("library.csv", f"{folder}/library.csv").split()
        words = [option, str(path), "--check_data", "--streaming", str(args.streaming), "--output_dir", f"{folder}/run"]
        names = [n for n, own in ((DEFAULT_ENCODER, ENCODERS), (DEFAULT_LANGUAGE_MODEL, LANGUAGE_MODELS)) if args.recipe in own]
        words += ["--model_name_or_path", tiny_model(names[0], Path(folder) / "model")] if names else []

        def make_batches(trainer):
            """In place of the steps that tell how long a training takes: what a step holds is not the pipeline's."""
            for _ in itertools.islice(trainer.get_train_dataloader(), args.batches):
                pass
            return {}

        EduTrainer.estimate_cost = make_batches
        start = time.perf_counter()
        with throughput.MemoryCurve() as curve:
            recipe.main([*words, *options])
    seconds = time.perf_counter() - start
    return {"rows": args.rows[0], "seconds": seconds, "anonymous_mib": max(curve.mib), "curve": curve.thinned()}


def draw(path: Path, sizes: list[dict], recipe: str) -> None:
    """The curves, each over its own run."""
    figure, axes = report.pyplot().subplots(figsize=(6.4, 3.6), layout="constrained")
    for size, color in zip(sizes, (*report.BASELINE_COLORS[2:3], report.ALONE_COLOR, report.MODEL_COLOR), strict=False):
        axes.plot(np.linspace(0, 1, len(size["curve"])), size["curve"], label=f"{size['rows']:,} rows", color=color)
    axes.set(xlabel="share of the run", ylabel="anonymous memory, MiB", title=recipe.replace("_", " "), ylim=(0, None))
    axes.legend(frameon=False)
    report.save_figure(figure, path)


def main(argv: list[str] | None = None) -> dict:
    """Measure all sizes. Returns the content of the json file."""
    parser = RecipeParser((BenchmarkArguments,), description=__doc__)
    (args,) = parser.parse(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    use_all_cores()
    if args.result_file:
        report.write_json(args.result_file, result := measure(args))
        return result
    options = [w for k in ("recipe", "batches", "streaming", "seed") for w in (f"--{k}", str(getattr(args, k)))]
    sizes = [throughput.in_own_process(__file__, [*options, "--rows", str(rows)]) for rows in args.rows]
    growth = sizes[-1]["anonymous_mib"] / sizes[0]["anonymous_mib"]
    results = {"recipe": args.recipe, "sizes": sizes, "growth": growth, "machine": throughput.processor_features()}
    table = [["rows", "anonymous memory, MiB", "seconds"]]
    table += [[f"{s['rows']:,}", f"{s['anonymous_mib']:,.0f}", f"{s['seconds']:,.0f}"] for s in sizes]
    output = Path(args.output_dir)
    report.write_json(output / f"pipeline_memory_{args.recipe.replace(' ', '_')}.json", results)
    draw(output / f"pipeline_memory_{args.recipe.replace(' ', '_')}.png", sizes, args.recipe)
    print(f"\n{report.as_markdown(table)}\n\nThe last is {growth:.2f} times the first. Saved in {args.output_dir}")
    return results


if __name__ == "__main__":
    run(main)
