"""What the data is: load, check, split. Knows nothing of torch or of a Trainer."""

from .errors import DataError
from .essays import EssayColumns, EssayDataset, load_essays
from .splits import halve_validation

__all__ = ["DataError", "EssayColumns", "EssayDataset", "halve_validation", "load_essays"]
