"""The cheap strong baselines of outcome prediction: the majority, a linear model, boosted trees."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROUNDS, PATIENCE = 2000, 50  # of boosting


def outcome_baselines(splits: DatasetDict, task: str, classes: int, seed: int = 42) -> dict[str, Callable[[Dataset], np.ndarray]]:
    """Fit on train; boosted trees stop on validation.

    Args:
        splits: train and validation, columns of `edu_datasets.schema.RECORDS`.
        task: 'regression', 'binary' or 'multiclass'.
        classes: Their number.
        seed: Of the trees.

    Returns:
        Name -> function from a split to logits (rows, classes), or to values (rows,) of a regression.
    """
    regression = task == "regression"
    y = {s: np.array(splits[s]["target"][:], float if regression else int) for s in ("train", "validation")}
    if regression:
        constant = np.full(1, y["train"].mean())
        most = {"mean": lambda rows: np.repeat(constant, len(rows))}
    else:
        shares = np.log(np.maximum(np.bincount(y["train"], minlength=classes) / len(y["train"]), 1e-6))
        most = {"majority": lambda rows: np.tile(shares, (len(rows), 1))}
    linear_name = "linear regression" if regression else "logistic regression"
    tree_name, trees = _trees(splits, y, regression, classes, seed)
    return {**most, linear_name: _linear(splits["train"], y["train"], regression, classes), tree_name: trees}


def _numbers(rows: Dataset) -> np.ndarray:
    return np.array(rows["numbers"][:], float).reshape(len(rows), -1)


def _categories(rows: Dataset) -> np.ndarray:
    return np.array(rows["categories"][:], dtype=object).reshape(len(rows), -1)


def _linear(train: Dataset, y: np.ndarray, regression: bool, classes: int) -> Callable[[Dataset], np.ndarray]:
    """Numbers standardized, missing ones at the mean with a column that says so; categories one-hot."""
    numbers, categories = _numbers(train), _categories(train)
    number_columns = list(range(numbers.shape[1]))
    category_columns = list(range(numbers.shape[1], numbers.shape[1] + categories.shape[1]))
    prepare = ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(SimpleImputer(add_indicator=True, keep_empty_features=True), StandardScaler()),
                number_columns,
            ),
            ("categories", OneHotEncoder(handle_unknown="ignore", min_frequency=5), category_columns),
        ]
    )
    model = RidgeCV(np.logspace(-2, 4, 13)) if regression else LogisticRegression(C=0.3, max_iter=2000)
    pipeline = make_pipeline(prepare, model).fit(np.concatenate([numbers.astype(object), categories], axis=1), y)

    def predict(rows: Dataset) -> np.ndarray:
        x = np.concatenate([_numbers(rows).astype(object), _categories(rows)], axis=1)
        return pipeline.predict(x) if regression else _logits(pipeline.predict_proba(x), model.classes_, classes)

    return predict


def _trees(
    splits: DatasetDict, y: dict[str, np.ndarray], regression: bool, classes: int, seed: int
) -> tuple[str, Callable[[Dataset], np.ndarray]]:
    """LightGBM where it is installed, scikit-learn's histogram boosting else; categories as categories."""
    values = [{v: i for i, v in enumerate(sorted(set(column)))} for column in _categories(splits["train"]).T]

    def table(rows: Dataset) -> np.ndarray:
        numbers, categories = _numbers(rows), _categories(rows)
        codes = [[known.get(v, np.nan) for v in column] for known, column in zip(values, categories.T, strict=True)]
        return np.column_stack([numbers, *codes]) if codes else numbers

    x = {s: table(splits[s]) for s in ("train", "validation")}
    which = list(range(x["train"].shape[1] - len(values), x["train"].shape[1]))
    try:
        import lightgbm
    except ImportError:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        kind = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
        model = kind(learning_rate=0.05, max_iter=300, categorical_features=which or None, early_stopping=True, random_state=seed)
        model.fit(x["train"], y["train"])
        name = "gradient boosting"
    else:
        kind = lightgbm.LGBMRegressor if regression else lightgbm.LGBMClassifier
        model = kind(
            n_estimators=ROUNDS, learning_rate=0.03, num_leaves=15, min_child_samples=20, subsample=0.8, subsample_freq=1,
            colsample_bytree=0.8, cat_smooth=20, random_state=seed, verbose=-1,
            n_jobs=torch.get_num_threads(),  # its own choice ignores OMP_NUM_THREADS, and waits in a spin where cores are shared
        )  # fmt: skip
        model.fit(
            x["train"], y["train"], eval_X=(x["validation"],), eval_y=(y["validation"],), categorical_feature=which or "auto",
            callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
        )  # fmt: skip
        name = "LightGBM"

    def predict(rows: Dataset) -> np.ndarray:
        return model.predict(table(rows)) if regression else _logits(model.predict_proba(table(rows)), model.classes_, classes)

    return name, predict


def _logits(probabilities: np.ndarray, known: np.ndarray, classes: int) -> np.ndarray:
    """Logarithms of probabilities, in the order of all classes; one that training lacks is as good as impossible."""
    logits = np.full((len(probabilities), classes), np.log(1e-6))
    logits[:, known.astype(int)] = np.log(np.clip(probabilities, 1e-6, 1.0))
    return logits
