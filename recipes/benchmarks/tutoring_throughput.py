"""Measure how fast a tutor trains beside a plain Trainer: tutor tokens a second, the tokens that are learnt.

    python recipes/benchmarks/tutoring_throughput.py --dataset_name cima --data_dir data

The plain way is transformers' Trainer as its examples use it: float32, batches in random order, padded to their longest, torch's
attention, logits and loss over all positions (labels of -100 included). Both ways train the same adapter on the same checkpoint,
with all good replies of the same dialogues, batch size and masks, a process each, in the order plain, recipe, recipe, plain;
an update warms each up, untimed. Between them stand the recipe's parts, one more in each rung. Where replies share what was said
before, a row of a batch is a dialogue, else a reply.

In --output_dir: tutoring_throughput.json.
"""

import argparse
import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch
from datasets import DatasetDict
from peft import TaskType
from transformers import DataCollatorForSeq2Seq, PrinterCallback, Trainer, TrainingArguments, set_seed

from edu_datasets import add_mastery, every_reply, load_dialogues
from trainers import report, throughput
from trainers.adapters import add_lora
from trainers.arguments import DEFAULT_LANGUAGE_MODEL, AdapterArguments, ModelArguments, RecipeTrainingArguments
from trainers.base import peak_memory_mib, use_all_cores
from trainers.checkpoints import find_checkpoint, load_tokenizer
from trainers.language_models.chat import check_template, stop_tokens
from trainers.language_models.loading import load_language_model
from trainers.language_models.packing import PACKED
from trainers.parser import RecipeParser, run
from trainers.qa_tutoring import EvaluationSize, TutoringTrainer
from trainers.tutoring_settings import TutoringSettings

RUNGS = {  # name: (EduTrainer or not, precision, attention, packing, sharing)
    "plain Trainer": (False, "fp32", "sdpa", False, False),
    "+ logits where there are labels": (True, "fp32", "sdpa", False, False),
    "+ bf16": (True, "auto", "sdpa", False, False),
    "+ packing": (True, "auto", PACKED, True, False),
    "recipe (+ one history for all replies)": (True, "auto", PACKED, True, True),
}


@dataclass
class BenchmarkArguments:
    """Options of the benchmark; what they set is the same for all rungs."""

    _argument_group_name = "benchmark"

    data_dir: str | None = field(default=None, metadata={"help": "public data sets; else the variable EDU_DATA_DIR"})
    dataset_name: str = field(default="cima", metadata={"help": "see edu_datasets.load_dialogues"})
    model_name_or_path: str = field(default=DEFAULT_LANGUAGE_MODEL, metadata={"help": "the checkpoint"})
    output_dir: str = field(default="runs/benchmarks/tutoring", metadata={"help": "where the results are written"})
    dialogues: int = field(default=96, metadata={"help": "dialogues of a pass, drawn at random"})
    batch_size: int = field(default=16, metadata={"help": "rows an update"})
    max_length: int = field(default=512, metadata={"help": "tokens of a dialogue at most"})
    seed: int = field(default=42, metadata={"help": "seed of the rows and of the training"})
    ends: bool = field(default=False, metadata={"help": "measure the first rung and the last alone"})
    rung: str | None = field(default=None, metadata={"help": argparse.SUPPRESS})  # these three are for its own processes
    pass_number: int | None = field(default=None, metadata={"help": argparse.SUPPRESS})
    result_file: str | None = field(default=None, metadata={"help": argparse.SUPPRESS})


def make_trainer(args: BenchmarkArguments) -> Trainer:
    """The Trainer of a rung, with the rows of the pass."""
    recipe, precision, attention, packing, share = RUNGS[args.rung]
    set_seed(args.seed)
    checkpoint = find_checkpoint(args.model_name_or_path)
    tokenizer = load_tokenizer(checkpoint)
    data = load_dialogues(args.dataset_name, data_dir=args.data_dir)
    rows = every_reply(data.splits["train"].shuffle(args.seed).select(range(args.dialogues)))
    few = data.splits["validation"].select(range(2))
    moves = list(filter(None, data.move_counts("train")))
    settings = TutoringSettings(
        moves, max_length=args.max_length, stop=stop_tokens(tokenizer), replies_found_by=check_template(tokenizer)
    )
    model_args = ModelArguments(model_name_or_path=args.model_name_or_path, attn_implementation=attention)
    model = load_language_model(checkpoint, model_args)
    model = add_lora(model, AdapterArguments(use_peft=True), TaskType.CAUSAL_LM, checkpoint.name)
    options = dict(
        output_dir=args.output_dir, per_device_train_batch_size=args.batch_size, learning_rate=5e-4, seed=args.seed,
        num_train_epochs=1, save_strategy="no", eval_strategy="no", load_best_model_at_end=False, report_to="none",
        disable_tqdm=True, use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    splits = add_mastery(DatasetDict(train=rows, validation=few, test=few), {})
    ours = TutoringTrainer(
        settings=settings, splits=splits, size=EvaluationSize(), checkpoint=checkpoint, model_args=model_args, packing=packing,
        share=share, model=model, processing_class=tokenizer,
        args=RecipeTrainingArguments(**options, precision=precision, group_lengths=False, metric_for_best_model="loss"),
    )  # fmt: skip
    if recipe:
        return ours
    columns = [c for c in ours.train_dataset.column_names if c not in ("input_ids", "labels", "learnt")]
    return Trainer(
        model=model, args=TrainingArguments(**options), train_dataset=ours.train_dataset.remove_columns(columns),
        data_collator=DataCollatorForSeq2Seq(tokenizer), processing_class=tokenizer,
    )  # fmt: skip


def measure(args: BenchmarkArguments) -> dict:
    """One pass of one rung."""
    trainer = make_trainer(args)
    rows = trainer.train_dataset
    trainer.remove_callback(PrinterCallback)
    trainer.train_dataset = rows.select(range(min(len(rows), args.batch_size)))
    trainer.train()
    trainer.train_dataset = rows
    trainer.add_callback(timer := throughput.StepTimer())
    trainer.train()
    tokens = {"learnt": sum(trainer.train_dataset["learnt"]), "tokens": sum(map(len, trainer.train_dataset["input_ids"]))}
    return {"seconds": sum(timer.seconds), **tokens, "peak_memory_mib": peak_memory_mib()}


def main(argv: list[str] | None = None) -> dict:
    """Measure all rungs twice. Returns the content of the json file."""
    parser = RecipeParser((BenchmarkArguments,), description=__doc__)
    (args,) = parser.parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    use_all_cores()
    if args.result_file:
        report.write_json(args.result_file, result := measure(args))
        return result
    words = [str(w) for name, value in parser.resolved.items() if name != "ends" for w in (f"--{name}", value)]
    rungs = [list(RUNGS)[0], list(RUNGS)[-1]] if args.ends else list(RUNGS)
    passes = []
    for number, order in enumerate((rungs, rungs[::-1])):
        for rung in order:
            found = throughput.in_own_process(__file__, [*words, "--rung", rung, "--pass_number", str(number)])
            passes.append({"rung": rung, "pass": number, **found})
            logging.info("pass %d  %-32s %8.2f tutor tokens/s", number + 1, rung, found["learnt"] / found["seconds"])
    results = {"rungs": {}, "passes": passes, "machine": throughput.processor_features()}
    table = [["", "tutor tokens/s", "tokens/s", "MiB", "x plain Trainer"]]
    for rung in rungs:
        own = [p for p in passes if p["rung"] == rung]
        total = {k: sum(p[k] for p in own) for k in ("seconds", "learnt", "tokens")}
        row = {
            "tutor_tokens_per_second": total["learnt"] / total["seconds"],
            "tokens_per_second": total["tokens"] / total["seconds"],
            "peak_memory_mib": max(p["peak_memory_mib"] for p in own),
        }  # fmt: skip
        first = results["rungs"].get(rungs[0], row)["tutor_tokens_per_second"]
        results["rungs"][rung] = row | {"over_plain": row["tutor_tokens_per_second"] / first}
        table.append(
            [rung, f"{row['tutor_tokens_per_second']:.1f}", f"{row['tokens_per_second']:,.0f}", f"{row['peak_memory_mib']:,.0f}",
             f"{results['rungs'][rung]['over_plain']:.2f}"]
        )  # fmt: skip
    report.write_json(Path(args.output_dir) / "tutoring_throughput.json", results)
    print(f"\n{report.as_markdown(table)}\n\nSaved in {args.output_dir}")
    return results


if __name__ == "__main__":
    run(main)
