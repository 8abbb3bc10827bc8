"""Measure how fast answers are found in logits, beside a loop over windows of the usual kind, which must find the same.

    python recipes/benchmarks/decoding.py
    python recipes/benchmarks/decoding.py --dataset_name fairytaleqa --data_dir data --model runs/fairytaleqa_minilm

The loop is what question-answering scripts have, transformers' own among them: it takes each window from the data set of windows,
the best 20 starts and ends of it, and every pair of them that is a span of the text, a dictionary each; sorts them, cuts their
words out, and takes a softmax over the best 20. Ours looks at all spans, not at those of the best 20 ends alone; where it finds a
better one that is counted. Both begin with the same data set and logits, and what they prepare is timed. Logits are the model's
where one is given, else noise with three likely spans in each window. Both take turns, loop, ours, ours, loop, in one process on
one thread; --clock processor leaves out the time that other processes took on a shared machine.

In --output_dir: decoding.json.
"""

import logging
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from datasets import Dataset

from edu_datasets import load_passages
from trainers import report, throughput
from trainers.answer_decoding import Windows, answers_of, decode
from trainers.answering_settings import CHARACTERS, NO_ANSWER, AnsweringSettings, encode
from trainers.arguments import DEFAULT_ENCODER
from trainers.checkpoints import find_checkpoint, load_tokenizer
from trainers.parser import RecipeParser, run
from trainers.question_answering import load


@dataclass
class BenchmarkArguments:
    """Options of the benchmark; what they set is the same for both ways."""

    _argument_group_name = "benchmark"

    dataset_name: str = field(default="sample_school", metadata={"help": "see edu_datasets.load_passages"})
    data_dir: str | None = field(default=None, metadata={"help": "public data sets; else the variable EDU_DATA_DIR"})
    model: str | None = field(default=None, metadata={"help": "folder of a trained reader; made logits without one"})
    output_dir: str = field(default="runs/benchmarks/decoding", metadata={"help": "where the results are written"})
    questions: int = field(default=1000, metadata={"help": "questions of a pass; fewer are repeated"})
    max_length: int = field(default=384, metadata={"help": "tokens of a window at most, without --model"})
    seed: int = field(default=42, metadata={"help": "seed of made logits"})
    clock: str = field(default="wall", metadata={"help": "wall or processor", "choices": ["wall", "processor"]})


def as_dataset(windows: dict[str, list]) -> Dataset:
    """The columns of `encode` that tell where tokens stand, as a trainer holds them."""
    return Dataset.from_dict({name: windows[name] for name in ("question", "first", *CHARACTERS)})


def decode_in_a_loop(logits: np.ndarray, windows: Dataset, contexts: list[str], settings: AnsweringSettings) -> list[dict]:
    """The answer to each question, by looping over windows and pairs of tokens: text, score, probability, no_answer_score."""
    of_question = defaultdict(list)
    for w, question in enumerate(windows["question"][:]):
        of_question[question].append(w)
    answers = []
    for question, context in enumerate(contexts):
        found, no_answer = [], np.inf
        for w in of_question[question]:
            start_logits, end_logits, window = logits[w, :, 0], logits[w, :, 1], windows[w]
            first, char_starts, char_ends = window["first"], window["char_starts"], window["char_ends"]
            no_answer = min(no_answer, float(start_logits[NO_ANSWER]) + float(end_logits[NO_ANSWER]))
            last = first + len(char_starts)
            starts = np.argsort(start_logits)[-1 : -settings.n_best - 1 : -1].tolist()
            ends = np.argsort(end_logits)[-1 : -settings.n_best - 1 : -1].tolist()
            for start in starts:
                for end in ends:
                    if not first <= start < last or not first <= end < last:
                        continue
                    if end < start or end - start + 1 > settings.max_answer_length:
                        continue
                    found.append(
                        {
                            "offsets": (char_starts[start - first], char_ends[end - first]),
                            "score": start_logits[start] + end_logits[end],
                            "start_logit": start_logits[start],
                            "end_logit": end_logits[end],
                        }
                    )
        best = sorted(found, key=lambda span: span["score"], reverse=True)[: settings.n_best]
        for span in best:
            span["text"] = context[span["offsets"][0] : span["offsets"][1]].strip()
        scores = np.array([span["score"] for span in best] + [no_answer])
        powers = np.exp(scores - scores.max())
        for span, probability in zip(best, powers / powers.sum(), strict=False):
            span["probability"] = probability
        top = best[0] if best else {"text": "", "score": -np.inf}
        answers.append({**top, "no_answer_score": no_answer - float(top["score"])})
    return answers


def made_logits(windows: dict[str, list], seed: int) -> np.ndarray:
    """Noise, and in each window three spans of some words that stand out, as a trained model has them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(windows["length"]), max(windows["length"]), 2)).astype(np.float32)
    for w, first in enumerate(windows["first"]):
        last = first + len(windows["char_starts"][w]) - 1
        for start in rng.integers(first, last + 1, 3):
            logits[w, start, 0] += (height := rng.normal(5, 1))
            logits[w, min(start + rng.integers(0, 8), last), 1] += height
    return logits


def main(argv: list[str] | None = None) -> dict:
    """Decode both ways, twice each. Returns the content of the json file; raises where ours finds less than the loop."""
    # 1. Options, windows and logits
    (args,) = RecipeParser((BenchmarkArguments,), description=__doc__).parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    rows = load_passages(args.dataset_name, data_dir=args.data_dir).splits["test"]
    rows = rows.select(np.resize(np.arange(len(rows)), args.questions))
    contexts, questions = rows["context"][:], rows["question"][:]
    reader = load(args.model) if args.model else None
    tokenizer = reader.tokenizer if reader else load_tokenizer(find_checkpoint(DEFAULT_ENCODER))
    settings = replace(reader.settings if reader else AnsweringSettings(max_length=args.max_length), choose_by="score")
    windows = encode({"context": contexts, "question": questions}, range(len(rows)), tokenizer, settings)
    logits = reader.logits(windows) if reader else made_logits(windows, args.seed)

    # 2. Both ways in turn
    held, now = as_dataset(windows), time.process_time if args.clock == "processor" else time.perf_counter

    def ours():
        found = decode(logits, Windows.of(held), len(rows), settings.n_best, settings.max_answer_length)
        return answers_of(found, contexts, settings)

    ways = {"loop": lambda: decode_in_a_loop(logits, held, contexts, settings), "ours": ours}
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    answers = {}
    for way in ("loop", "ours", "ours", "loop"):
        start = now()
        answers[way] = ways[way]()
        seconds[way].append(now() - start)

    # 3. The answers must be equal, but where the best span is not made of the loop's best 20 starts and ends
    loop, found = np.array([answer["no_answer_score"] for answer in answers["loop"]]), answers["ours"].no_answer
    texts = zip(answers["loop"], answers["ours"].texts, strict=True)
    equal = np.isclose(loop, found, atol=1e-4) & [answer["text"] == text for answer, text in texts]
    same, better = int(equal.sum()), int((loop > found + 1e-4).sum())
    if same + better < len(rows):
        raise AssertionError(f"{len(rows) - same - better} of {len(rows)} answers differ")

    # 4. Report
    rates = {way: 2 * len(rows) / sum(times) for way, times in seconds.items()}
    results = {
        "clock": args.clock, "seconds": seconds, "questions_per_second": rates, "times_faster": rates["ours"] / rates["loop"],
        "equal_answers": same, "better_spans": better, "windows": len(windows["length"]),
        "machine": throughput.processor_features(),
    }  # fmt: skip
    report.write_json(Path(args.output_dir) / "decoding.json", results)
    table = [["", "questions/s", "x loop"], *([way, f"{r:,.0f}", f"{r / rates['loop']:.1f}"] for way, r in rates.items())]
    print(f"\n{report.as_markdown(table)}\n\n{same:,} equal answers, {better:,} better spans. Saved in {args.output_dir}")
    return results


if __name__ == "__main__":
    run(main)
