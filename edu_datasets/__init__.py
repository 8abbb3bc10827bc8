"""What the data is: load, check, split. Knows nothing of torch or of a Trainer."""

from .errors import DataError
from .essays import EssayColumns, EssayDataset, load_essays
from .records import RecordColumns, RecordDataset, load_records
from .responses import ResponseColumns, ResponseDataset, load_responses
from .splits import halve_validation

__all__ = [
    "DataError",
    "EssayColumns",
    "EssayDataset",
    "RecordColumns",
    "RecordDataset",
    "ResponseColumns",
    "ResponseDataset",
    "halve_validation",
    "load_essays",
    "load_records",
    "load_responses",
]
