"""Predict outcomes with a model of recipes/outcome_prediction.py.

The file has the columns the model was trained on, without the outcome. The output has a row a record: what is predicted, the
probability of each class, and whether that is an alert; --explain adds what each group of features did to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edu_datasets import RecordColumns
from edu_datasets.records import read_records
from trainers import report
from trainers.outcome_prediction import load

from . import PredictArguments


@dataclass
class Arguments:
    """The model knows its columns."""

    _argument_group_name = "outcome prediction"


def predict(args: PredictArguments, own: Arguments) -> Sequence[tuple]:
    """A row a record; returns the rows that were left out."""
    predictor = load(args.model, args.model_revision, args.trust_remote_code)
    settings, columns = predictor.settings, RecordColumns(record_id=args.id_column)
    features = settings.number_columns, settings.category_columns
    records, rows, rejected = read_records(
        args.input_file, *features, columns, args.file_encoding, args.separator, args.skip_bad_rows
    )
    numbers, categories = records["numbers"][:], records["categories"][:]
    written = {"record_id": records["record_id"][:] if args.id_column else rows, **predictor.predict_columns(numbers, categories)}
    if args.explain:
        effects = predictor.explain(numbers, categories)
        written |= {f"effect_{group}": effects.effects[:, i].round(4) for i, group in enumerate(effects.groups)}
    report.write_csv(args.output_file, written)
    return rejected
