"""Essays: a column with the text, one with the prompt where the model knows several, and scores where they are known."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edu_datasets import DataError, EssayColumns
from edu_datasets.essays import read_essays
from trainers.essay_scoring import EssayScorer
from trainers.parser import ConfigurationError

from . import FileArguments, NewData


@dataclass
class Arguments:
    """The columns of the file."""

    _argument_group_name = "essay scoring"

    text_column: str = field(default="text", metadata={"help": "column with the essay"})
    prompt_column: str | None = field(default=None, metadata={"help": "column that names the prompt"})
    score_column: list[str] = field(default_factory=list, metadata={"help": "people's scores, where known; several are traits"})
    learner_column: str | None = field(default=None, metadata={"help": "column that names the writer"})


def read(path: str, args: FileArguments, own: Any, scorer: EssayScorer) -> NewData:
    """Read a file for a scorer.

    Raises:
        DataError, ConfigurationError: It cannot be read, or the model does not know a prompt.
    """
    settings = scorer.settings
    if own.score_column and len(own.score_column) != len(settings.score_names):
        raise ConfigurationError(f"--score_column: the model gives {len(settings.score_names)} scores; name as many columns.")
    columns = EssayColumns(own.text_column, own.score_column, own.prompt_column, None, own.learner_column)
    essays, rows, rejected = read_essays(path, columns, args.file_encoding, args.separator, args.skip_bad_rows)
    prompts = list(essays["prompt_id"])
    if not own.prompt_column:
        if len(settings.prompt_ids) > 1:
            known = ", ".join(settings.prompt_ids)
            raise ConfigurationError(f"the model knows the prompts {known}: name the column with --prompt_column.")
        prompts = settings.prompt_ids * len(rows)
    for row, prompt in zip(rows, prompts, strict=True):
        if prompt not in settings.prompt_ids:
            raise DataError(
                "the model was not trained on this prompt.", file=path, row=row, column=own.prompt_column, found=prompt,
                expected=f"one of {', '.join(settings.prompt_ids)}",
            )  # fmt: skip
    known = {"essay_id": essays["essay_id"][:], "prompt_id": prompts, "group_id": essays["learner_id"][:]}
    scores = np.array(essays["scores"][:], float)
    known |= {f"human_{name}": scores[:, i] for i, name in enumerate(settings.score_names)} if own.score_column else {}
    return NewData({"texts": essays["text"][:], "prompt_ids": prompts}, known, bool(own.score_column), len(rejected))
