"""Which hyperparameters: cross-validation, and a search. Neither ever sees the test split."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DatasetDict

from .arguments import ModelArguments, RecipeTrainingArguments
from .base import EduTrainer
from .parser import ConfigurationError
from .report import write_json

logger = logging.getLogger(__name__)


def cross_validate(
    make_trainer: Callable[..., EduTrainer],
    folds: list[DatasetDict],
    args: RecipeTrainingArguments,
    model_name: str,
) -> dict[str, Any]:
    """Train and score once a fold; a fold that is finished is not trained again when the run is started anew.

    Args:
        make_trainer: Called with splits, arguments and checkpoint.
        folds: For each fold train, validation (for early stopping and calibration) and test (the fold), all cut from
            train and validation of the run.
        args: The run's; each fold writes to output_dir/fold_k.
        model_name: The checkpoint.

    Returns:
        {"folds": [{metric: value}, ...], "mean": {...}, "sd": {...}, "baselines": {name: mean over folds}}; sd with n - 1.
    """
    results = []
    for k, splits in enumerate(folds):
        folder = Path(args.output_dir) / f"fold_{k}"
        file = folder / "metrics.json"
        if not file.is_file():
            trainer = make_trainer(splits, _changed(args, output_dir=str(folder), resume_from_checkpoint="auto"), model_name)
            trainer.fit()
            scored, _ = trainer.score_beside_baselines()
            if trainer.is_world_process_zero():
                write_json(file, scored)
            trainer.remove_checkpoints()
        else:
            scored = json.loads(file.read_text())
        results.append(scored)
        logger.info("fold %d of %d: %s", k + 1, len(folds), _short(scored["test"]))
    values = {m: np.array([r["test"][m] for r in results]) for m in _numbers(results[0]["test"])}
    table = {
        "folds": [_numbers(r["test"]) for r in results],
        "mean": {m: float(v.mean()) for m, v in values.items()},
        "sd": {m: float(v.std(ddof=1)) for m, v in values.items()},
        "baselines": {
            name: {m: float(np.mean([r["baselines"][name][m] for r in results])) for m in values}
            for name in results[0]["baselines"]
        },
    }
    logger.info("cross-validation, mean of %d folds: %s", len(folds), _short(table["mean"]))
    return table


def search_hyperparameters(
    make_trainer: Callable[..., EduTrainer],
    splits: DatasetDict,
    args: RecipeTrainingArguments,
    space: dict[str, tuple],
    model_args: ModelArguments,
) -> dict[str, Any]:
    """Try `args.hp_search` settings and put the best into `args` and `model_args` (optuna's TPE sampler).

    Each trial is written to output_dir/search/trials.jsonl when it ends; a run that is started anew goes on from there.

    Args:
        make_trainer: Called with splits, arguments and checkpoint.
        splits: The metric is the one on validation.
        args: The run's; changed in place.
        space: Option -> ("float", low, high) on a log scale, ("int", low, high), or ("choice", value, ...). Options are
            training options or model_name_or_path.
        model_args: Changed in place where the checkpoint is among the choices.

    Returns:
        {"best": {option: value}, "value": metric (negative where less is better), "trials": number}.

    Raises:
        ConfigurationError: optuna is not installed, or several processes would search apart.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigurationError("--hp_search needs optuna: pip install 'edu-recipes[search]'.") from error
    if args.world_size > 1:
        raise ConfigurationError("--hp_search runs in one process: start it with python, and the final run with accelerate.")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kinds = {
        "float": lambda low, high: optuna.distributions.FloatDistribution(low, high, log=True),
        "int": optuna.distributions.IntDistribution,
        "choice": lambda *values: optuna.distributions.CategoricalDistribution(values),
    }
    distributions = {option: kinds[kind](*values) for option, (kind, *values) in space.items()}
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=args.seed))
    folder = Path(args.output_dir) / "search"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "trials.jsonl"
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    for trial in done:
        study.add_trial(
            optuna.trial.create_trial(params=trial["settings"], distributions=distributions, value=trial["value"])
        )
    for number in range(len(done), args.hp_search):
        trial = study.ask(distributions)
        options = dict(trial.params)
        name = options.pop("model_name_or_path", model_args.model_name_or_path)
        inner = _changed(args, output_dir=str(folder / "trial"), resume_from_checkpoint="false", **options)
        trainer = make_trainer(splits, inner, name)
        trainer.fit()
        value = trainer.state.best_metric * (1 if inner.greater_is_better else -1)
        trainer.remove_checkpoints()
        study.tell(trial, value)
        with file.open("a") as out:
            out.write(json.dumps({"settings": trial.params, "value": value}) + "\n")
        logger.info("trial %d of %d: %.4f with %s", number + 1, args.hp_search, value, trial.params)
    for option, value in study.best_params.items():
        setattr(model_args if option == "model_name_or_path" else args, option, value)
    return {"best": study.best_params, "value": study.best_value, "trials": len(study.trials)}


def _changed(args: RecipeTrainingArguments, **options: object) -> RecipeTrainingArguments:
    changed = copy.deepcopy(args)
    for option, value in options.items():
        setattr(changed, option, value)
    return changed


def _numbers(result: dict) -> dict[str, float]:
    return {k: v for k, v in result.items() if isinstance(v, float)}


def _short(result: dict) -> str:
    return ", ".join(f"{k} {v:.3f}" for k, v in _numbers(result).items())
