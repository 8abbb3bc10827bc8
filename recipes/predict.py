"""Score a file of essays with a trained model: a folder, a Hub id; whole, merged or adapter.

    python recipes/predict.py --model runs/essay_scoring --input_file new_essays.csv --output_file scores.csv

The file needs a column with the text (--text_column), and one with the prompt (--prompt_column) where the model knows
several. The output has one row an essay: its id or row number, its prompt, the rounded score and the unrounded one, the
lowest and highest score of its 90% interval, and whether a human should read it (send_to_human, reason).
--explain also writes scores.html: the essays, each sentence coloured by what it did to the score, and how near the next
score is. An empty essay gets the lowest score and goes to a human. A model trained with --protocol cross_prompt also takes
new prompts: name them with their range in --prompts_file. Rows that cannot be scored end the run, or with --skip_bad_rows
are left out and listed in scores.rejected.csv.
"""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from edu_datasets import DataError, EssayColumns
from edu_datasets.essays import read_essays, read_prompts
from trainers import report
from trainers.essay_scoring import load
from trainers.parser import ConfigurationError, RecipeParser, run


@dataclass
class PredictArguments:
    """What to score, with which model."""

    _argument_group_name = "prediction"

    model: str = field(metadata={"help": "folder of a trained recipe, or a Hub id"})
    input_file: str = field(metadata={"help": "csv, tsv, json, jsonl or parquet, .gz too"})
    output_file: str = field(default="scores.csv", metadata={"help": "where the scores are written"})
    text_column: str = field(default="text", metadata={"help": "column with the essay"})
    prompt_column: str | None = field(default=None, metadata={"help": "column that names the prompt"})
    prompts_file: str | None = field(
        default=None, metadata={"help": "table of new prompts: prompt_id, prompt, score_min, score_max"}
    )
    id_column: str | None = field(default=None, metadata={"help": "column with an id, copied to the output"})
    encoding: str | None = field(default=None, metadata={"help": "encoding of the file; found out where not given"})
    separator: str | None = field(default=None, metadata={"help": "separator of a csv; found out where not given"})
    skip_bad_rows: bool = field(default=False, metadata={"help": "leave rows that cannot be scored out and list them"})
    explain: bool = field(default=False, metadata={"help": "write a page that shows what moved each score"})
    batch_size: int = field(default=32, metadata={"help": "essays a step"})
    model_revision: str = field(default="main", metadata={"help": "branch, tag or commit on the Hub"})
    trust_remote_code: bool = field(default=False, metadata={"help": "run code that the model's repository brings"})


def main(argv: list[str] | None = None) -> Path:
    """Score the file. Returns the path of the output; raises on error."""
    (args,) = RecipeParser((PredictArguments,), description=__doc__).parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    output = Path(args.output_file)
    if not output.absolute().parent.is_dir():
        raise ConfigurationError(f"--output_file: there is no folder {output.parent}.")

    # 1. Read and check all rows before anything is computed
    columns = EssayColumns(args.text_column, (), args.prompt_column, args.id_column)
    essays, rows, rejected = read_essays(args.input_file, columns, args.encoding, args.separator, args.skip_bad_rows)

    # 2. Load the model and check that it knows every prompt
    scorer = load(args.model, args.model_revision, args.trust_remote_code)
    if args.prompts_file:
        wordings, ranges = read_prompts(args.prompts_file)
        for prompt in set(ranges) - set(scorer.settings.prompt_ids):
            scorer.add_prompt(prompt, *ranges[prompt], wordings[prompt])
    known = scorer.settings.prompt_ids
    prompts = list(essays["prompt_id"]) if args.prompt_column else known * len(rows)
    if not args.prompt_column and len(known) > 1:
        raise ConfigurationError(f"the model knows the prompts {', '.join(known)}: name the column with --prompt_column.")
    for row, prompt in zip(rows, prompts, strict=True):
        if prompt not in known:
            raise DataError(
                "the model was not trained on this prompt.", file=args.input_file, row=row, column=args.prompt_column,
                found=prompt, expected=f"one of {', '.join(known)}",
            )  # fmt: skip

    # 3. Score and write
    columns = scorer.predict_columns(essays["text"], prompts, args.batch_size)
    ids = essays["essay_id"] if args.id_column else rows
    report.write_csv(output, {"essay_id": ids, "prompt_id": prompts, **columns})
    if args.explain:
        explanations = [scorer.explain(text, prompt) for text, prompt in zip(essays["text"], prompts, strict=True)]
        report.write_explanations(output.with_suffix(".html"), ids, explanations, columns, scorer.settings)
    if rejected:
        names, numbers, reasons = zip(*rejected, strict=True)
        report.write_csv(output.with_suffix(".rejected.csv"), {"file": names, "row": numbers, "reason": reasons})
    logging.info("%d essays scored, %d rows left out: %s", len(rows), len(rejected), output.name)
    return output


if __name__ == "__main__":
    run(main)
