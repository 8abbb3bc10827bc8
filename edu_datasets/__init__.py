"""What the data is: load, check, split. Knows nothing of torch or of a Trainer."""

from .errors import DataError
from .essays import EssayColumns, EssayDataset, load_essays

__all__ = ["DataError", "EssayColumns", "EssayDataset", "load_essays"]
