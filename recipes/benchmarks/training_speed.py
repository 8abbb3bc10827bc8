"""Measure how fast a recipe trains beside a plain transformers Trainer, on the same examples and the same model.

    python recipes/benchmarks/training_speed.py

The recipe is run up to the training, and its trainer is timed over an epoch of some examples. The plain way is transformers' own
Trainer with the same model, loss, batch size and accumulation, its own batches at random, in fp32, with the checkpoint's own
dropout, each example padded to the longest of its batch; language models read each request for itself, with the loss of
transformers. Each way has a process of its own, in the order plain, recipe, recipe, plain. Of outcome prediction the seconds that
LightGBM takes are told as well.

Essays, tutoring and retrieval have benchmarks of their own: throughput.py, tutoring_throughput.py, retrieval_throughput.py.

Tokens are real ones, without padding. Of transformers the needed arithmetic a second is told as a share of what the machine
does in bf16 matrix products.

In --output_dir: training_speed_<recipe>.json, and a figure.
"""

import argparse
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from transformers import DataCollatorForSeq2Seq, EarlyStoppingCallback, PrinterCallback, Trainer, TrainingArguments

from trainers import report, throughput
from trainers.base import EduTrainer, keep_freed_memory, peak_memory_mib, use_all_cores
from trainers.baselines.outcome_prediction import outcome_baselines
from trainers.columns import column_array
from trainers.parser import ConfigurationError, RecipeParser, run

PLAIN, RECIPE = "plain Trainer", "recipe"
RUNS = {
    "question_answering": ("fairytaleqa_minilm", 240, ["--dropout", "0.1", "--attention_dropout", "0.1"], "windows", None),
    "content_generation": (
        "fairytaleqa_smollm2", None, ["--share_texts", "false", "--packing", "false"], "learnt tokens", "learnt"
    ),
    "knowledge_tracing": ("assist2015_lstm", 4000, [], "answers", "length"),
    "outcome_prediction": ("oulad_numeric", None, [], "records", None),
}  # fmt: skip
"""Recipe -> configuration, training rows, options of the plain way, what is counted, and the column that counts it."""
LANGUAGE_MODELS = ("content_generation",)
TRANSFORMERS = ("question_answering", *LANGUAGE_MODELS)
"""Of these the arithmetic is counted; the words of an answer are chosen where it is learnt alone, which is left out."""
LEARNT = 1500
"""So many tokens to learn has the epoch of a language model: the first texts of the split, with all questions about each."""


@dataclass
class BenchmarkArguments:
    """Options of the benchmark; what they set is the same for both ways."""

    _argument_group_name = "benchmark"

    recipes: list[str] = field(default_factory=lambda: list(RUNS), metadata={"help": "which"})
    data_dir: str | None = field(default=None, metadata={"help": "public data sets; else the variable EDU_DATA_DIR"})
    train_samples: int | None = field(default=None, metadata={"help": "training rows; a number for each recipe where not given"})
    sample_school: bool = field(default=False, metadata={"help": "the embedded sample in place of public data, for a trial"})
    options: list[str] = field(default_factory=list, metadata={"help": "more options of the recipe, as name=value"})
    output_dir: str = field(default="runs/benchmarks/training", metadata={"help": "where the results are written"})
    way: str | None = field(default=None, metadata={"help": argparse.SUPPRESS})  # these two are for its own processes
    result_file: str | None = field(default=None, metadata={"help": argparse.SUPPRESS})


class Reached(Exception):
    """The recipe came to its training."""

    def __init__(self, trainer: EduTrainer):
        self.trainer = trainer


def trainer_of(recipe: str, words: list[str]) -> EduTrainer:
    """What the recipe would train."""

    def stop(trainer):
        raise Reached(trainer)

    fit, EduTrainer.fit = EduTrainer.fit, stop
    try:
        throughput.load_script(Path(__file__).parents[1] / f"{recipe}.py").main(words)
    except Reached as reached:
        return reached.trainer
    finally:
        EduTrainer.fit = fit
    raise RuntimeError(f"{recipe} trains nothing")


class PlainTrainer(Trainer):
    """transformers' Trainer with the loss of a recipe."""

    def __init__(self, recipe: EduTrainer, **kwargs):
        super().__init__(**kwargs)
        self.recipe, self.model_accepts_loss_kwargs = recipe, False

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        total, count, outputs = self.recipe.loss_terms(model, inputs)
        return (total / count, outputs) if return_outputs else total / count


def plain_trainer(ours: EduTrainer, recipe: str) -> Trainer:
    """The plain way to train the same."""
    args = TrainingArguments(
        output_dir=ours.args.output_dir, per_device_train_batch_size=ours.args.per_device_train_batch_size, num_train_epochs=1,
        gradient_accumulation_steps=ours.args.gradient_accumulation_steps, learning_rate=ours.args.learning_rate,
        seed=ours.args.seed, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=ours.args.use_cpu,
        remove_unused_columns=False,
    )  # fmt: skip
    if recipe in LANGUAGE_MODELS:
        rows = ours.train_dataset.select_columns(["input_ids", "labels", "learnt", "length"])
        collate = DataCollatorForSeq2Seq(ours.processing_class)
        return Trainer(
            model=ours.model, args=args, train_dataset=rows,
            data_collator=lambda batch: collate([{k: row[k] for k in ("input_ids", "labels")} for row in batch]),
        )  # fmt: skip
    return PlainTrainer(ours, model=ours.model, args=args, train_dataset=ours.train_dataset, data_collator=ours.data_collator)


def measure(args: BenchmarkArguments) -> dict:
    """One way in this process: seconds of an epoch, what was counted in it, peak memory."""
    (recipe,) = args.recipes
    configuration, rows, plain, _, counted = RUNS[recipe]
    data = ["--config", str(Path(__file__).parents[1] / f"configs/{recipe}/{configuration}.yaml")]
    words = ["--dataset_name", "sample_school"] if args.sample_school else data
    words += ["--data_dir", args.data_dir] if args.data_dir else []
    words += ["--max_train_samples", str(args.train_samples or rows)] if args.train_samples or rows else []
    words += [w for option in args.options for w in (f"--{option.split('=')[0]}", option.split("=", 1)[1])]
    words += ["--output_dir", str(Path(args.output_dir) / "run"), "--disable_tqdm", "true", "--num_train_epochs", "1"]
    trainer = ours = trainer_of(recipe, [*words, *([*plain, "--precision", "fp32"] if args.way == PLAIN else [])])
    if args.way == PLAIN:
        trainer = plain_trainer(ours, recipe)
    trainer.args.eval_strategy = trainer.args.save_strategy = "no"
    trainer.args.load_best_model_at_end = False
    trainer.remove_callback(EarlyStoppingCallback)
    trainer.remove_callback(PrinterCallback)
    keep_freed_memory()
    rows = trainer.train_dataset
    if counted == "learnt":
        learnt = np.cumsum(column_array(rows, counted))
        rows = rows.select(range(int(np.searchsorted(learnt[:-1], LEARNT)) + 1))
    trainer.train_dataset = rows.select(range(min(len(rows), 2 * ours.args.train_batch_size)))
    trainer.train()  # warms up
    trainer.train_dataset = rows
    trainer.add_callback(timer := throughput.StepTimer())
    trainer.train()
    result = {
        "seconds": sum(timer.seconds), "counted": int(column_array(rows, counted).sum()) if counted else len(rows),
        "tokens": int(column_array(rows, "length").sum()), "updates": len(timer.seconds), "peak_memory_mib": peak_memory_mib(),
    }  # fmt: skip
    if recipe in TRANSFORMERS:
        result["flops"] = throughput.training_flops(ours.model, column_array(rows, "length").tolist(), ("pooler", "lm_head"))
    if recipe == "outcome_prediction" and args.way == PLAIN:
        start = time.perf_counter()
        task, classes = ours.settings.task, len(ours.settings.classes)
        result["baselines"] = list(outcome_baselines(ours.splits, task, classes, ours.args.seed))
        result["baseline_seconds"] = time.perf_counter() - start
    return result


def compare(args: BenchmarkArguments, recipe: str) -> tuple[dict, list[list[str]]]:
    """Both ways twice: the content of the json file, and the lines of the table."""
    words = ["--recipes", recipe, "--output_dir", args.output_dir, "--sample_school", str(args.sample_school)]
    words += ["--options", *args.options] if args.options else []
    words += [w for k in ("data_dir", "train_samples") if (v := getattr(args, k)) is not None for w in (f"--{k}", str(v))]
    peaks = [throughput.measure_peaks()] if recipe in TRANSFORMERS else []
    passes = [{"way": w, **throughput.in_own_process(__file__, [*words, "--way", w])} for w in (PLAIN, RECIPE, RECIPE, PLAIN)]
    peaks += [throughput.measure_peaks()] if peaks else []
    peak = float(np.mean([p["bf16"] for p in peaks])) if peaks else None
    rates = {w: [p["counted"] / p["seconds"] for p in passes if p["way"] == w] for w in (PLAIN, RECIPE)}
    ratios = [ours / plain for ours in rates[RECIPE] for plain in rates[PLAIN]]
    unit = RUNS[recipe][3]
    results = {
        "recipe": recipe, "unit": unit, "passes": passes, "ratio": float(np.mean(rates[RECIPE]) / np.mean(rates[PLAIN])),
        "ratios": [min(ratios), max(ratios)], "bf16_peak_tflops": peak, "machine": throughput.processor_features(),
    }  # fmt: skip
    lines = []
    for way, own in rates.items():
        mine = [p for p in passes if p["way"] == way]
        seconds = sum(p["seconds"] for p in mine)
        tokens = sum(p["tokens"] for p in mine) / seconds
        share = f"{sum(p['flops'] for p in mine) / seconds / 1e12 / peak:.0%}" if peak else "-"
        memory = max(p["peak_memory_mib"] for p in mine)
        ratio = f"{results['ratio']:.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if way == RECIPE else "1"
        lines.append([f"{recipe}, {way}", f"{np.mean(own):,.1f} {unit}", f"{tokens:,.0f}", share, f"{memory:,.0f}", ratio])
    return results, lines


def main(argv: list[str] | None = None) -> dict[str, dict]:
    """Measure both ways of each recipe. Returns the contents of the json files."""
    parser = RecipeParser((BenchmarkArguments,), description=__doc__)
    (args,) = parser.parse(argv)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    use_all_cores()
    if unknown := [r for r in args.recipes if r not in RUNS]:
        raise ConfigurationError(f"--recipes: {unknown[0]} has no such benchmark; expected some of {', '.join(RUNS)}.")
    if args.result_file:
        report.write_json(args.result_file, result := measure(args))
        return result
    heads = ["", "a second", "tokens or steps a second", "of bf16 peak", "peak memory, MiB", "x plain Trainer (any two passes)"]
    table, found = [heads], {}
    for recipe in args.recipes:
        found[recipe], lines = compare(args, recipe)
        table += lines
        report.write_json(Path(args.output_dir) / f"training_speed_{recipe}.json", found[recipe])
    draw(Path(args.output_dir) / "training_speed.png", found)
    print(f"\n{report.as_markdown(table)}\n\nSaved in {args.output_dir}")
    return found


def draw(path: Path, found: dict[str, dict]) -> None:
    """A bar a recipe: how many times as fast, with the range of any two passes."""
    figure, axes = report.pyplot().subplots(figsize=(6, 0.6 * len(found) + 1.2), layout="constrained")
    for y, one in enumerate(reversed(found.values())):
        low, high = one["ratios"]
        axes.barh(y, one["ratio"], color=report.MODEL_COLOR, height=0.5)
        axes.plot([low, high], [y, y], color="black", linewidth=1)
        axes.text(high, y, f"  {one['ratio']:.1f}", va="center")
    axes.axvline(1, color=report.HUMAN_COLOR, linewidth=1)
    axes.set(yticks=range(len(found)), yticklabels=[r.replace("_", " ") for r in reversed(found)], xlabel="times a plain Trainer")
    report.save_figure(figure, path)


if __name__ == "__main__":
    run(main)
