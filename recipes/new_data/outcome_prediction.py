"""Records: the columns that the model was trained on, and the outcome where it is known."""

from dataclasses import dataclass, field
from typing import Any

from edu_datasets import DataError, RecordColumns
from edu_datasets.files import as_text, read_table
from edu_datasets.records import read_records
from trainers.outcome_prediction import OutcomePredictor

from . import FileArguments, NewData


@dataclass
class Arguments:
    """The columns of the file; the features the model knows."""

    _argument_group_name = "outcome prediction"

    target_column: str | None = field(default=None, metadata={"help": "column with the outcome, where known"})
    learner_column: str | None = field(default=None, metadata={"help": "column that names the learner"})


def read(path: str, args: FileArguments, own: Any, predictor: OutcomePredictor) -> NewData:
    """Read a file for a predictor.

    Raises:
        DataError: It cannot be read, or an outcome is not one of the model's.
    """
    settings = predictor.settings
    features = settings.number_columns, settings.category_columns
    columns = RecordColumns(learner=own.learner_column)
    records, rows, rejected = read_records(path, *features, columns, args.file_encoding, args.separator, args.skip_bad_rows)
    inputs = {"numbers": records["numbers"][:], "categories": records["categories"][:]}
    known: dict[str, list] = {"record_id": records["record_id"][:], "group_id": records["learner_id"][:]}
    if own.target_column is None:
        return NewData(inputs, known, False, len(rejected))
    table = read_table(path, args.file_encoding, args.separator)
    cells = dict(zip(table.rows, map(as_text, table.column(own.target_column, "--target_column")), strict=True))
    known["outcome"] = [_outcome(cells[row], settings.classes, path, row, own.target_column) for row in rows]
    return NewData(inputs, known, True, len(rejected))


def _outcome(cell: str, classes: list[str], path: str, row: int, column: str) -> str | float:
    if classes:
        if cell in classes:
            return cell
        expected = f"one of {', '.join(classes)}"
    else:
        try:
            return float(cell)
        except ValueError:
            expected = "a number"
    raise DataError("not an outcome that the model predicts.", file=path, row=row, column=column, found=cell, expected=expected)
