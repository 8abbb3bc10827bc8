"""What a model of records reads: a record as text or as numbers, saved with the model."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from datasets import Dataset
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase

from .columns import column_array, entry_array
from .parser import ConfigurationError

ENCODINGS = ("numeric", "text")
MOST_BINS, LEAST_ROWS = 24, 24  # bins of a number; training rows in each
MOST_ROWS = 100_000  # that they are found from
BLOCK = 4096
LEVELS = ("very low", "low", "rather low", "middling", "rather high", "high", "very high")
"""What a text calls a number, by where its bin lies among those of its column."""


@dataclass
class RecordSettings:
    """What is saved in edu_recipes.json.

    Attributes:
        task: 'regression', 'binary' or 'multiclass'.
        classes: Names in order.
        positive: The number of the class an alert is for.
        number_columns, category_columns: Names of the features in order.
        category_values: For each category column the values seen in training; number 1 is the first, 0 is missing or new.
        feature_groups: Feature -> the group it is explained with.
        usual_numbers, usual_categories: The medians and the commonest values of training: what an explanation compares with.
        encoding: 'numeric' (`models.record_transformer`) or 'text' (a pretrained encoder reads the record).
        max_length: Tokens of a record at most ('text').
        bins: 'text': the bins of each number, see `bin_edges`.
        usual_bins: 'text': the commonest of them, -1 where most have no number.
        mean, sd: Of the training target; a regression learns (target - mean) / sd.
        class_weights: Of the loss, one a class; all 1 where none were asked for.
        temperature: Logits are divided by it, so that probabilities mean what they say; fitted on calibration.
        bias: Added to the logits of each class after that.
        threshold: From where on the positive class is predicted (binary), fitted on validation.
    """

    task: str
    classes: list[str]
    number_columns: list[str]
    category_columns: list[str]
    category_values: list[list[str]]
    feature_groups: dict[str, str]
    usual_numbers: list[float] = field(default_factory=list)
    usual_categories: list[str] = field(default_factory=list)
    encoding: str = "numeric"
    max_length: int = 256
    bins: list[list[float]] = field(default_factory=list)
    usual_bins: list[int] = field(default_factory=list)
    mean: float = 0.0
    sd: float = 1.0
    class_weights: list[float] = field(default_factory=list)
    positive: int = 0
    temperature: float = 1.0
    bias: list[float] = field(default_factory=list)
    threshold: float = 0.5

    def __post_init__(self):
        if self.encoding not in ENCODINGS:
            raise ConfigurationError(f"--encoding is {self.encoding!r}; expected one of {', '.join(ENCODINGS)}.")

    @classmethod
    def fit(cls, data, train: Dataset, encoding: str, weigh_classes: bool, max_length: int) -> RecordSettings:
        """Settings from the training rows of a `edu_datasets.RecordDataset`.

        Args:
            data: Names, task and classes.
            train: Columns of `edu_datasets.schema.RECORDS`.
            encoding: 'numeric' or 'text'.
            weigh_classes: Give rare classes more weight: the number of rows over classes times rows of the class.
            max_length: Of a text.
        """
        y = column_array(train, "target")
        counts = [Counter() for _ in data.category_columns]
        for block in train.select_columns(["categories"]).iter(BLOCK):
            for count, column in zip(counts, zip(*block["categories"], strict=True), strict=True):
                count.update(column)
        values = [sorted(set(count) - {""}) for count in counts]
        commonest = [count.most_common(1)[0][0] for count in counts]
        medians = [_median(entry_array(train, "numbers", i)) for i in range(len(data.number_columns))]
        settings = cls(
            data.task, list(data.classes), list(data.number_columns), list(data.category_columns), values,
            dict(data.feature_groups), medians, commonest, encoding, max_length,
        )  # fmt: skip
        if data.task == "regression":
            settings.mean, settings.sd = float(y.mean()), float(y.std()) or 1.0
        else:
            counts = np.bincount(y.astype(int), minlength=len(data.classes))
            weights = len(y) / (len(counts) * np.maximum(counts, 1)) if weigh_classes else np.ones(len(counts))
            settings.class_weights, settings.bias = weights.tolist(), [0.0] * len(counts)
            classes = settings.classes
            settings.positive = classes.index(data.positive_class) if data.positive_class else len(classes) - 1
        if encoding == "text":
            settings.bins = bin_edges(train, settings)
            settings.usual_bins = [
                _commonest_bin(entry_array(train, "numbers", i), edges) for i, edges in enumerate(settings.bins)
            ]
        return settings

    def num_labels(self) -> int:
        """Outputs of the model."""
        return max(len(self.classes), 1)

    def outcomes(self, logits: np.ndarray) -> np.ndarray:
        """What is predicted, in the units of the target.

        Args:
            logits: Float array (rows, num_labels).

        Returns:
            Probabilities (rows, classes), calibrated; or values (rows,) of a regression.
        """
        logits = np.asarray(logits, float)
        if self.task == "regression":
            return self.mean + self.sd * logits[:, 0]
        scaled = logits / self.temperature + np.array(self.bias)
        odds = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)


def encode(batch: dict[str, list], settings: RecordSettings, tokenizer: PreTrainedTokenizerBase | None = None) -> dict[str, list]:
    """What the model reads; for `Dataset.map(batched=True)`.

    Args:
        batch: numbers, categories, and target where there is one.
        settings: The model's.
        tokenizer: For the encoding 'text'.

    Returns:
        labels (standardized values, or class numbers), length; and input_ids, or numbers_in and categories_in.
    """
    out: dict[str, list] = {}
    if settings.encoding == "text":
        texts = [as_text(n, c, settings) for n, c in zip(batch["numbers"], batch["categories"], strict=True)]
        out["input_ids"] = tokenizer(texts, truncation=True, max_length=settings.max_length)["input_ids"]
        out["length"] = [len(ids) for ids in out["input_ids"]]
    else:
        tables = [{value: i for i, value in enumerate(values, start=1)} for values in settings.category_values]
        out["numbers_in"] = [[math.nan if v is None else float(v) for v in row] for row in batch["numbers"]]
        out["categories_in"] = [[t.get(v, 0) for t, v in zip(tables, row, strict=True)] for row in batch["categories"]]
        out["length"] = [1] * len(out["numbers_in"])
    if "target" in batch:
        out["labels"] = [(v - settings.mean) / settings.sd if settings.task == "regression" else v for v in batch["target"]]
    return out


def as_text(numbers: Sequence[float], categories: Sequence[str], settings: RecordSettings) -> str:
    """A record in words: what is unusual in it, column by column.

    What most records share is not said: it would make all texts nearly alike, and so what an encoder sees in them. With all
    columns said it did not learn (recipes/RESULTS.md). A number is said with its level, which an encoder reads better
    than digits.

    >>> as_text([3.0, float("nan")], ["yes"], settings)  # doctest: +SKIP
    'absences is low, 3. quiz is unknown. support is yes.'
    """
    said = []
    for name, value, edges, usual in zip(settings.number_columns, numbers, settings.bins, settings.usual_bins, strict=True):
        value = math.nan if value is None else value
        if (place := _bin(value, edges)) != usual:
            level = LEVELS[round(place * (len(LEVELS) - 1) / max(len(edges) - 2, 1))]
            said.append(f"{name} is {level}, {value:.4g}." if place >= 0 else f"{name} is unknown.")
    for name, value, usual in zip(settings.category_columns, categories, settings.usual_categories, strict=True):
        if value != usual:
            said.append(f"{name} is {value or 'unknown'}.")
    return " ".join(said) or "all is as usual."


def _bin(value: float, edges: Sequence[float]) -> int:
    """Which bin a number is in, the first or last where it lies outside; -1 for none."""
    return -1 if math.isnan(value) else bisect_right(edges, value, 1, len(edges) - 1) - 1


def _commonest_bin(column: np.ndarray, edges: Sequence[float]) -> int:
    """The bin (see `_bin`) that most numbers are in, the one that comes first where several are."""
    bins = np.searchsorted(edges[1:-1], column, side="right")
    bins[np.isnan(column)] = -1
    return int(Counter(bins.tolist()).most_common(1)[0][0])


def _median(column: np.ndarray) -> float:
    known = column[~np.isnan(column)]
    return float(np.median(known)) if len(known) else 0.0


def bin_edges(train: Dataset, settings: RecordSettings) -> list[list[float]]:
    """Edges of the bins of each number: where a small tree of that column alone would split the training rows.

    As in Gorishniy, Rubachev and Babenko (2022), 'target-aware bins'. A column without two values has one bin. Of more than
    `MOST_ROWS` rows every so many are enough.
    """
    y = column_array(train, "target")
    tree = DecisionTreeRegressor if settings.task == "regression" else DecisionTreeClassifier
    edges = []
    for place in range(len(train[0]["numbers"])):
        column = entry_array(train, "numbers", place)
        known = ~np.isnan(column)
        x = column[known]
        lowest, highest = (float(x.min()), float(x.max())) if len(x) else (0.0, 0.0)
        if lowest == highest:
            edges.append([lowest, lowest + 1.0])
            continue
        fitted = tree(max_leaf_nodes=MOST_BINS, min_samples_leaf=min(LEAST_ROWS, len(x) // 2 or 1), random_state=0)
        some = slice(None, None, -(-len(x) // MOST_ROWS))
        fitted.fit(x[some, None], y[known][some])
        inner = fitted.tree_.threshold[fitted.tree_.feature >= 0]
        edges.append(sorted({lowest, highest, *map(float, inner)}))
    return edges


class RecordCollator:
    """Records to a batch."""

    def __init__(self, settings: RecordSettings, tokenizer: PreTrainedTokenizerBase | None = None):
        self.settings = settings
        self.pad = DataCollatorWithPadding(tokenizer) if settings.encoding == "text" else None

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        """input_ids and attention_mask, or numbers and categories; labels where the rows have them."""
        if self.pad is not None:
            batch = dict(self.pad([{"input_ids": row["input_ids"]} for row in rows]))
        else:
            batch = {"numbers": torch.tensor([row["numbers_in"] for row in rows], dtype=torch.float32)}
            batch["categories"] = torch.tensor([row["categories_in"] for row in rows], dtype=torch.int64).view(len(rows), -1)
            batch["numbers"] = batch["numbers"].view(len(rows), -1)
        if "labels" in rows[0]:
            kind = torch.float32 if self.settings.task == "regression" else torch.int64
            batch["labels"] = torch.tensor([row["labels"] for row in rows]).to(kind)
        return batch
