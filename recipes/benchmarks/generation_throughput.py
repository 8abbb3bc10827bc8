"""Measure how fast questions are written: one by one, as `generate` does it, and in batches that read each text once.

    python recipes/benchmarks/generation_throughput.py

A language model writes the most probable question for each of some answers of the sample school, one request after the other
with transformers' `generate`, and in batches with `language_models.sampling`, a process each, in the order one by one, batched,
batched, one by one; in fp32. The words must be the same. Beside it the rate of batches with several candidates of each question.

In --output_dir: generation_throughput.json.
"""

import argparse
import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from edu_datasets import load_passages
from trainers import report, throughput
from trainers.arguments import DEFAULT_LANGUAGE_MODEL, ModelArguments
from trainers.base import keep_freed_memory, peak_memory_mib, use_all_cores
from trainers.checkpoints import find_checkpoint, load_tokenizer
from trainers.generation_settings import GenerationSettings, RequestEncoder, known_controls, question_request
from trainers.language_models.loading import load_language_model
from trainers.language_models.sampling import Sampling, continue_prompts
from trainers.parser import RecipeParser, run

ALONE, BATCHED, MANY = "one by one", "batched", "batched, several candidates"


@dataclass
class BenchmarkArguments:
    """Options of the benchmark; what they set is the same for all ways."""

    _argument_group_name = "benchmark"

    model_name_or_path: str = field(default=DEFAULT_LANGUAGE_MODEL, metadata={"help": "the language model"})
    questions: int = field(default=48, metadata={"help": "questions to write"})
    candidates: int = field(default=8, metadata={"help": "candidates of a question, where there are several"})
    max_new_tokens: int = field(default=24, metadata={"help": "tokens of a question at most"})
    batch_size: int = field(default=64, metadata={"help": "questions or candidates a batch"})
    output_dir: str = field(default="runs/benchmarks/generation", metadata={"help": "where the results are written"})
    way: str | None = field(default=None, metadata={"help": argparse.SUPPRESS})  # these two are for its own processes
    result_file: str | None = field(default=None, metadata={"help": argparse.SUPPRESS})


def measure(args: BenchmarkArguments) -> dict:
    """One way in this process: seconds, questions, tokens and words of what was written."""
    data = load_passages("sample_school")
    rows = [row for row in data.splits["train"] if row["answers"]][: args.questions]
    checkpoint = find_checkpoint(args.model_name_or_path)
    tokenizer = load_tokenizer(checkpoint)
    model = load_language_model(checkpoint, ModelArguments()).eval()
    settings = GenerationSettings(
        known_controls(data.splits["train"], data.attribute_names), max_length=2048, max_new_tokens=args.max_new_tokens
    ).for_model(model, tokenizer, data.splits["train"], answers=False, distractors=False)
    encoder = RequestEncoder(settings, tokenizer)
    prompts = [encoder.prompt(question_request(row, data.attribute_names, settings)) for row in rows]
    how = {"stop": settings.stop, "pad_token_id": tokenizer.pad_token_id}
    sampling = Sampling(args.candidates if args.way == MANY else 1, max_new_tokens=args.max_new_tokens)
    keep_freed_memory()
    continue_prompts(model, prompts[:1], Sampling(max_new_tokens=2), batch_size=1, **how)  # warms up
    start = time.perf_counter()
    if args.way == ALONE:
        written = [_generate(model, prompt, args.max_new_tokens, **how) for prompt in prompts]
    else:
        found = continue_prompts(model, prompts, sampling, batch_size=args.batch_size, **how)
        written = [text.tokens for own in found for text in own]
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds, "questions": len(written), "tokens": sum(map(len, written)), "mib": peak_memory_mib(),
        "texts": tokenizer.batch_decode(written) if args.way != MANY else [],
    }  # fmt: skip


@torch.no_grad()
def _generate(model, prompt: list[int], max_new_tokens: int, stop: list[int], pad_token_id: int) -> list[int]:
    ids = torch.tensor([prompt])
    written = model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=stop,
        pad_token_id=pad_token_id,
    )[0, len(prompt) :].tolist()  # fmt: skip
    return written[: next((i for i, token in enumerate(written) if token in stop), len(written))]


def main(argv: list[str] | None = None) -> dict:
    """Measure all ways. Returns the content of the json file."""
    parser = RecipeParser((BenchmarkArguments,), description=__doc__)
    (args,) = parser.parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    use_all_cores()
    if args.result_file:
        report.write_json(args.result_file, result := measure(args))
        return result
    words = [str(w) for name, value in parser.resolved.items() for w in (f"--{name}", value)]
    order = (ALONE, BATCHED, MANY, BATCHED, ALONE)
    passes = [{"way": way, **throughput.in_own_process(__file__, [*words, "--way", way])} for way in order]
    texts = [p.pop("texts") for p in passes]
    same = sum(len(set(own)) == 1 for own in zip(*(t for t in texts if t), strict=True))
    seconds = {way: [p["seconds"] for p in passes if p["way"] == way] for way in dict.fromkeys(order)}
    # a pass is disturbed by what else runs, never hastened: the fastest of each way counts, and the worst pair is told
    rates = {way: max(p["questions"] / p["seconds"] for p in passes if p["way"] == way) for way in seconds}
    least = min(seconds[ALONE]) / max(seconds[BATCHED])
    results = {"passes": passes, "machine": throughput.processor_features(), "rates": rates, "questions": args.questions,
               "same_words": same, "least_ratio": least}  # fmt: skip
    table = [["", "questions/s", "x one by one", "memory, MiB"]]
    for way, rate in rates.items():
        memory = max(p["mib"] for p in passes if p["way"] == way)
        table.append([way, f"{rate:.2f}", f"{rate / rates[ALONE]:.1f}", f"{memory:,.0f}"])
    report.write_json(Path(args.output_dir) / "generation_throughput.json", results)
    told = f"At least {least:.1f} times in any two passes. The same words in {same} of {args.questions}."
    print(f"\n{report.as_markdown(table)}\n\n{told} Saved in {args.output_dir}")
    return results


if __name__ == "__main__":
    run(main)
