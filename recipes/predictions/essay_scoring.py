"""Score essays with a model of recipes/essay_scoring.py.

The file needs a column with the text (--text_column), and one with the prompt (--prompt_column) where the model knows several.
The output has one row an essay: its id or row number, its prompt, the rounded score and the unrounded one, the lowest and
highest score of its 90% interval, and whether a human should read it (send_to_human, reason). --explain also writes
scores.html: the essays, each sentence coloured by what it did to the score, and how near the next score is. An empty essay gets
the lowest score and goes to a human. A model trained with --protocol cross_prompt also takes new prompts: name them with their
range in --prompts_file.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edu_datasets import DataError, EssayColumns
from edu_datasets.essays import read_essays, read_prompts
from trainers import essay_report, report
from trainers.essay_scoring import load
from trainers.parser import ConfigurationError

from . import PredictArguments


@dataclass
class Arguments:
    """The columns of the file."""

    _argument_group_name = "essay scoring"

    text_column: str = field(default="text", metadata={"help": "column with the essay"})
    prompt_column: str | None = field(default=None, metadata={"help": "column that names the prompt"})
    prompts_file: str | None = field(
        default=None, metadata={"help": "table of new prompts: prompt_id, prompt, score_min, score_max"}
    )


def predict(args: PredictArguments, own: Arguments) -> Sequence[tuple]:
    """A row an essay; returns the rows that were left out."""
    # 1. Read and check all rows before anything is computed
    columns = EssayColumns(own.text_column, (), own.prompt_column, args.id_column)
    essays, rows, rejected = read_essays(args.input_file, columns, args.file_encoding, args.separator, args.skip_bad_rows)

    # 2. Load the model and check that it knows every prompt
    scorer = load(args.model, args.model_revision, args.trust_remote_code)
    if own.prompts_file:
        wordings, ranges = read_prompts(own.prompts_file)
        for prompt in set(ranges) - set(scorer.settings.prompt_ids):
            scorer.add_prompt(prompt, *ranges[prompt], wordings[prompt])
    known = scorer.settings.prompt_ids
    prompts = list(essays["prompt_id"]) if own.prompt_column else known * len(rows)
    if not own.prompt_column and len(known) > 1:
        raise ConfigurationError(f"the model knows the prompts {', '.join(known)}: name the column with --prompt_column.")
    for row, prompt in zip(rows, prompts, strict=True):
        if prompt not in known:
            raise DataError(
                "the model was not trained on this prompt.", file=args.input_file, row=row, column=own.prompt_column,
                found=prompt, expected=f"one of {', '.join(known)}",
            )  # fmt: skip

    # 3. Score and write
    columns = scorer.predict_columns(essays["text"], prompts, args.batch_size)
    ids = essays["essay_id"] if args.id_column else rows
    report.write_csv(args.output_file, {"essay_id": ids, "prompt_id": prompts, **columns})
    if args.explain:
        explanations = [scorer.explain(text, prompt) for text, prompt in zip(essays["text"], prompts, strict=True)]
        page = Path(args.output_file).with_suffix(".html")
        essay_report.write_explanations(page, ids, explanations, columns, scorer.settings)
    return rejected
