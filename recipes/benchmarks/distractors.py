"""Ask the checks of wrong options about people's, about those found in the text, and about some that must fail.

    python recipes/benchmarks/distractors.py --data_dir data

On the test split of MCTest, no model trained: what share is judged wrong, plausible and both; people's options, the first three
spans that `spans_like` finds, the best three by `choose_distractors`, and as controls answers to questions about other stories,
which should seldom be plausible, and the right answer itself, which is never wrong. --qa_model lets a trained reader look for
second right answers.

In --output_dir: distractors.json.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from edu_datasets import load_passages
from trainers import report
from trainers.base import use_all_cores
from trainers.distractors import DistractorChecks, choose_distractors, distractor_report, other_answers, spans_like
from trainers.generation_report import distractors_table
from trainers.metrics.embeddings import sentence_encoder
from trainers.parser import RecipeParser, run
from trainers.question_writer import load_question_reader


@dataclass
class BenchmarkArguments:
    """Options of the benchmark."""

    _argument_group_name = "benchmark"

    data_dir: str | None = field(default=None, metadata={"help": "public data sets; else the variable EDU_DATA_DIR"})
    dataset_name: str = field(default="mctest", metadata={"help": "a data set with distractors"})
    questions: int | None = field(default=None, metadata={"help": "test questions; all where not given"})
    qa_model: str | None = field(default=None, metadata={"help": "a trained reader; else a lexical one"})
    seed: int = field(default=42, metadata={"help": "of the draws"})
    output_dir: str = field(default="runs/benchmarks/distractors", metadata={"help": "where the results are written"})


def main(argv: list[str] | None = None) -> dict:
    """Measure. Returns the content of the json file."""
    (args,) = RecipeParser((BenchmarkArguments,), description=__doc__).parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    use_all_cores()
    rows = load_passages(args.dataset_name, data_dir=args.data_dir).splits["test"].filter(lambda row: len(row["distractors"]) > 0)
    rows = rows.select(range(min(len(rows), args.questions or len(rows))))
    contexts, questions, answers, stories = (rows[c][:] for c in ("context", "question", "answers", "story_id"))
    checks = DistractorChecks(sentence_encoder(), load_question_reader(args.qa_model) if args.qa_model else None)
    spans = [spans_like(context, known[0]) for context, known in zip(contexts, answers, strict=True)]
    chosen = choose_distractors(checks, contexts, questions, answers, spans)
    systems = {
        "human": rows["distractors"][:], "from the text, the first": [own[:3] for own in spans],
        "from the text, chosen": [choice.chosen for choice in chosen],
        "control: answers to other stories": other_answers(answers, stories, 3, args.seed),
        "control: the right answer": [known[:1] for known in answers],
    }  # fmt: skip
    found = distractor_report(checks, contexts, questions, answers, systems, stories, args.seed)
    results = {"dataset": args.dataset_name, "questions": len(rows), "seed": args.seed, "distractors": found}
    report.write_json(Path(args.output_dir) / "distractors.json", results)
    print(f"\n{report.as_markdown(distractors_table(results))}\n\nSaved in {args.output_dir}")
    return results


if __name__ == "__main__":
    run(main)
