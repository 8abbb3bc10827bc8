"""Measure how fast an essay scorer trains, from the usual example script to this repository's recipe, rung by rung.

    python recipes/benchmarks/throughput.py --data_dir data
    python recipes/benchmarks/throughput.py --dataset_name sample_school --batch_size 8 --steps 20
    python recipes/benchmarks/throughput.py --data_dir data --quality --prompt_id 4 --seeds 42 43

Every rung (RUNGS) changes one thing and trains the same checkpoint on the same essays:

- --steps x --batch_size seeded random training essays go through every rung exactly once, however it batches them. So
  samples a second is essays by seconds, and no lucky draw of short essays flatters a rung.
- The ladder is climbed with the first half of them and descended with the other, so that a slow drift of the machine meets
  every rung alike; each pass has a process, and so a peak memory (ru_maxrss, libraries included), of its own.
- Three updates on other essays warm up, untimed. An update is timed with its collating, clipping and optimizer step.
- TFLOP/s counts what the real tokens need; padding is no work. The peak is the fastest of a few matrix products, before,
  between and after the passes: where its range is wide, the machine was not idle and the run says little.
- Half of the essays have fewer of one length than an epoch has: that favours the rungs that do not group by length.

--quality shows what the speed costs: plain fp32 training with dynamic padding (padding to --max_length is the same
mathematics, only slower) beside the recipe on one prompt; the last weights of each, calibrated and scored alike.

In --output_dir: throughput.json and figures/throughput.png, or quality.json.
"""

import argparse
import logging
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from datasets import DatasetDict
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, Trainer, TrainingArguments, set_seed

from edu_datasets import EssayDataset, halve_validation, load_essays
from trainers import report, throughput
from trainers.arguments import DEFAULT_ENCODER, ModelArguments, RecipeTrainingArguments
from trainers.base import use_all_cores
from trainers.checkpoints import find_checkpoint, load_classifier, load_tokenizer
from trainers.essay_evaluation import agreement_by_prompt
from trainers.essay_scoring import EssayScorer, EssayTrainer
from trainers.essay_settings import EssayCollator, EssaySettings, encode
from trainers.parser import ConfigurationError, RecipeParser, run
from trainers.precision import supports_bf16

RUNGS = (
    "example",  # transformers' Trainer: fp32, padded to max_length, the checkpoint's dropout and attention
    "+ dynamic padding",  # to the longest essay of the batch
    "+ bf16",  # where the device computes it natively
    "+ no dropout",
    "+ similar lengths",  # in a batch, batches in random order
    "+ lean attention",  # trainers/attention.py on a CPU; on a GPU nothing changes
    "recipe",  # its Trainer, which keeps freed memory; lengths padded to a multiple of 32
)
WARM_UP = 3  # untimed updates before each pass


@dataclass
class BenchmarkArguments:
    """Options of the benchmark; what they set is the same on every rung."""

    _argument_group_name = "benchmark"

    model_name_or_path: str = field(default=DEFAULT_ENCODER, metadata={"help": "a folder or a Hub id"})
    dataset_name: str | None = field(default=None, metadata={"help": "asap where it is at hand, else sample_school"})
    data_dir: str | None = field(default=None, metadata={"help": "public data sets; else the variable EDU_DATA_DIR"})
    fold: int = field(default=0, metadata={"help": "which fold of a data set with published folds"})
    output_dir: str = field(default="runs/benchmarks/throughput", metadata={"help": "where the results are written"})
    batch_size: int = field(default=16, metadata={"help": "essays an update"})
    steps: int = field(default=40, metadata={"help": "timed updates a rung, an even number: half in each of two passes"})
    max_length: int = field(default=512, metadata={"help": "tokens of an essay at most"})
    learning_rate: float = field(default=1e-4, metadata={"help": "learning rate"})
    seed: int = field(default=42, metadata={"help": "seed of the rows and of the training"})
    quality: bool = field(default=False, metadata={"help": "compare what the trained models are worth instead"})
    prompt_id: str = field(default="4", metadata={"help": "--quality: the prompt whose essays are scored"})
    seeds: list[int] = field(default_factory=lambda: [42, 43], metadata={"help": "--quality: one training each"})
    num_train_epochs: int = field(default=3, metadata={"help": "--quality: epochs of a training"})
    rung: str | None = field(default=None, metadata={"help": argparse.SUPPRESS})  # these three are for its own processes
    pass_number: int | None = field(default=None, metadata={"help": argparse.SUPPRESS})
    result_file: str | None = field(default=None, metadata={"help": argparse.SUPPRESS})

    def __post_init__(self):
        if self.steps < 2 or self.steps % 2 or self.batch_size < 1:
            raise ConfigurationError("--steps must be an even number from 2 on, and --batch_size 1 or more.")
        if self.dataset_name is None:
            folder = self.data_dir or os.environ.get("EDU_DATA_DIR")
            self.dataset_name = "asap" if folder and (Path(folder) / "asap").is_dir() else "sample_school"


def make_trainer(args: BenchmarkArguments, data: EssayDataset, epochs: int = 1) -> tuple[Trainer, EssaySettings]:
    """The Trainer of `args.rung` on the splits of `data`, with settings that fit its model."""
    added = RUNGS[1 : RUNGS.index(args.rung) + 1]  # what this rung has beyond the first
    set_seed(args.seed)
    checkpoint = find_checkpoint(args.model_name_or_path)
    tokenizer = load_tokenizer(checkpoint)
    known = {k: getattr(data, k) for k in ("score_names", "score_ranges", "score_step", "prompts")}
    settings = EssaySettings(max_length=args.max_length, **known)
    if "+ no dropout" in added:
        own = ModelArguments(attn_implementation=None if "+ lean attention" in added else "sdpa")
        model = load_classifier(checkpoint, settings.num_labels(), own, tokenizer)
    else:
        model = AutoModelForSequenceClassification.from_pretrained(
            checkpoint.path, num_labels=settings.num_labels(), problem_type="regression", dtype=torch.float32
        )
    settings = settings.for_model(model, tokenizer)
    splits = data.splits.map(encode, batched=True, fn_kwargs={"tokenizer": tokenizer, "settings": settings})
    common = dict(
        output_dir=args.output_dir, per_device_train_batch_size=args.batch_size, learning_rate=args.learning_rate, seed=args.seed,
        num_train_epochs=epochs, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    if "recipe" in added:
        common |= dict(eval_strategy="no", load_best_model_at_end=False, head_learning_rate=3 * args.learning_rate)
        trainer = EssayTrainer(
            settings=settings, splits=splits, checkpoint=checkpoint, model=model, args=RecipeTrainingArguments(**common),
            processing_class=tokenizer, data_collator=EssayCollator(tokenizer),
        )  # fmt: skip
    else:
        padding = "longest" if "+ dynamic padding" in added else "max_length"
        trainer = (throughput.GroupedTrainer if "+ similar lengths" in added else Trainer)(
            model=model, args=TrainingArguments(**common, bf16="+ bf16" in added and supports_bf16(common["use_cpu"])),
            train_dataset=splits["train"].select_columns(["input_ids", "labels"]), processing_class=tokenizer,
            data_collator=DataCollatorWithPadding(tokenizer, padding, settings.max_length),
        )  # fmt: skip
    return trainer, settings


def measure(args: BenchmarkArguments) -> dict:
    """One pass of one rung: warm up, then time half of the essays."""
    data = load_essays(args.dataset_name, data_dir=args.data_dir, fold=args.fold)
    train, warm_up = data.splits["train"], WARM_UP * args.batch_size
    rows = np.random.default_rng(args.seed).permutation(len(train))
    rows = np.resize(rows, warm_up + args.steps * args.batch_size)  # a small split repeats
    rows = np.concatenate([rows[:warm_up], np.split(rows[warm_up:], 2)[args.pass_number]])
    data.splits = DatasetDict(train=train.select(rows), validation=data.splits["validation"].select([0]))
    return throughput.time_training(make_trainer(args, data)[0], warm_up)


def train_and_score(args: BenchmarkArguments) -> dict:
    """Train one rung on one prompt; its test kappa with the last weights, calibrated on rows that training did not see."""
    data = load_essays(args.dataset_name, data_dir=args.data_dir, fold=args.fold, prompt_ids=[args.prompt_id])
    data.splits = halve_validation(data.splits, seed=42)
    trainer, settings = make_trainer(args, data, args.num_train_epochs)
    trainer.add_callback(timer := throughput.StepTimer())
    trainer.train()
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)  # scored in fp32, as everywhere
    scorer = EssayScorer(model.eval(), trainer.processing_class, settings)
    rows, test = data.splits["calibration"], data.splits["test"]
    raw = settings.scale(scorer.predict(rows["text"], rows["prompt_id"], rounded=False), rows["prompt_id"])
    line = settings.fit_calibration(raw, np.array(rows["scores"], float), list(rows["prompt_id"]))
    scorer.settings = replace(settings, calibration=line)
    scores = scorer.predict(test["text"], test["prompt_id"])
    result = agreement_by_prompt(scores, np.array(test["scores"], float), test["prompt_id"], settings)["mean"]
    return {"quadratic_weighted_kappa": result["quadratic_weighted_kappa"], "seconds": sum(timer.seconds)}


def main(argv: list[str] | None = None) -> dict:
    """Climb the ladder, or compare quality, or measure one rung. Returns the content of the json; raises on error."""
    # 1. Options, log, and the same cores for every rung
    words = list(sys.argv[1:] if argv is None else argv)
    (args,) = RecipeParser((BenchmarkArguments,), description=__doc__).parse(words)
    logging.basicConfig(level=logging.WARNING if args.rung else logging.INFO, format="%(message)s")
    use_all_cores()

    # 2. A process of its own for one rung
    if args.rung:
        report.write_json(args.result_file, results := (train_and_score if args.quality else measure)(args))
        return results

    def alone(*more: str) -> dict:
        return throughput.in_own_process(__file__, [*words, *more])

    # 3. What a faster training is worth
    if args.quality:
        rungs, table = {}, [["", *[f"QWK, seed {s}" for s in args.seeds], "mean QWK", "mean seconds"]]
        for rung in (RUNGS[1], RUNGS[-1]):
            runs = [alone("--rung", rung, "--seed", str(s)) for s in args.seeds]
            rungs[rung] = {k: [r[k] for r in runs] for k in ("quadratic_weighted_kappa", "seconds")}
            kappas, seconds = rungs[rung].values()
            table.append([rung, *[f"{k:.3f}" for k in kappas], f"{mean(kappas):.3f}", f"{mean(seconds):.0f}"])
        results, name = {"rungs": rungs}, "quality.json"

    else:  # 4. The ladder, up and down
        passes, peaks = throughput.climb(RUNGS, lambda rung, n: alone("--rung", rung, "--pass_number", str(n)))
        results, name = {**throughput.summarize(passes, peaks), "passes": passes}, "throughput.json"
        table = throughput.throughput_table(results["rungs"])
        throughput.draw_throughput(Path(args.output_dir) / "figures" / "throughput.png", results["rungs"])

    # 5. Report
    options = {k: v for k, v in vars(args).items() if v is not None and not k.endswith("_dir")}
    results = {**throughput.processor_features(), "options": options, **results}
    report.write_json(Path(args.output_dir) / name, results)
    print(f"\n{report.as_markdown(table)}\n\nSaved in {args.output_dir}")
    return results


if __name__ == "__main__":
    run(main)
