"""What a file holds for a trained model: its inputs, and the truth where the file has it. A module a recipe.

For what does more than predict: recipes/export_onnx.py measures what int8 costs, recipes/check_drift.py looks at a new term.
"""

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType

from trainers.parser import ConfigurationError


@dataclass
class FileArguments:
    """How the file is read."""

    _argument_group_name = "file"

    input_file: str | None = field(default=None, metadata={"help": "csv, tsv, json, jsonl or parquet, .gz too"})
    file_encoding: str | None = field(default=None, metadata={"help": "encoding of the file; found out where not given"})
    separator: str | None = field(default=None, metadata={"help": "separator of a csv; found out where not given"})
    skip_bad_rows: bool = field(default=False, metadata={"help": "leave rows that cannot be used out"})


@dataclass
class NewData:
    """A file as a model and a judge read it.

    Attributes:
        inputs: What `predict_columns` takes.
        known: The columns of predictions.csv beside what is predicted: names of rows, units, and the truth.
        judged: Whether the truth is there.
        rejected: How many rows were left out.
    """

    inputs: dict[str, Sequence]
    known: dict[str, Sequence]
    judged: bool
    rejected: int


def module_of(task: str, what: str) -> ModuleType:
    """The module that reads files for models of `task`.

    Raises:
        ConfigurationError: There is none; `what` says what cannot be done then.
    """
    if task not in (names := [module.name for module in pkgutil.iter_modules(__path__)]):
        raise ConfigurationError(f"{what} of a model of {task} is not possible; it is for {', '.join(names)}.")
    return importlib.import_module(f"{__name__}.{task}")
