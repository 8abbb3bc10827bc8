"""What recipes/predict.py does for each recipe's models: a module a recipe, with its options and its predictions."""

from dataclasses import dataclass, field


@dataclass
class PredictArguments:
    """What to predict, with which model."""

    _argument_group_name = "prediction"

    model: str = field(metadata={"help": "folder of a trained recipe, or a Hub id"})
    input_file: str = field(metadata={"help": "csv, tsv, json, jsonl or parquet, .gz too"})
    output_file: str = field(default="predictions.csv", metadata={"help": "where the predictions are written"})
    file_encoding: str | None = field(default=None, metadata={"help": "encoding of the file; found out where not given"})
    separator: str | None = field(default=None, metadata={"help": "separator of a csv; found out where not given"})
    id_column: str | None = field(default=None, metadata={"help": "column with an id, copied to the output"})
    explain: bool = field(default=False, metadata={"help": "tell what moved each prediction, or mark answers in the texts"})
    skip_bad_rows: bool = field(default=False, metadata={"help": "leave rows that cannot be used out and list them"})
    batch_size: int = field(default=32, metadata={"help": "rows a step"})
    model_revision: str = field(default="main", metadata={"help": "branch, tag or commit on the Hub"})
    trust_remote_code: bool = field(default=False, metadata={"help": "run code that the model's repository brings"})
