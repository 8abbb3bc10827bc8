"""Which hyperparameters: cross-validation, and a search. Neither ever sees the test split."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DatasetDict

from .arguments import ModelArguments, RecipeTrainingArguments
from .base import EduTrainer
from .failures import NoFiniteLoss
from .parser import ConfigurationError
from .report import write_json

logger = logging.getLogger(__name__)

LEAST_UPDATES = 60
"""A part of the data is trained on for this many updates at least."""


def score_each(
    make_trainer: Callable[..., EduTrainer],
    parts: dict[str, DatasetDict],
    args: RecipeTrainingArguments,
    model_name: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Train and score once for each part; a part that is finished is not trained again when the run is started anew.

    Args:
        make_trainer: Called with splits, arguments and checkpoint.
        parts: Name -> train, validation (for early stopping and calibration) and test.
        args: The run's; each part writes to output_dir/<name>, see `folder_name`.
        model_name: The checkpoint, None for a model from scratch.

    Returns:
        Name -> what the trainer's `score_beside_baselines` reports.
    """
    results = {}
    for name, splits in parts.items():
        folder = Path(args.output_dir) / folder_name(name)
        file = folder / "metrics.json"
        if not file.is_file():
            inner = changed(args, output_dir=str(folder), resume_from_checkpoint="auto", push_to_hub=False)
            trainer = make_trainer(splits, inner, model_name)
            updates = inner.num_train_epochs * len(trainer.train_dataset) / inner.train_batch_size
            if updates < LEAST_UPDATES:  # so that few rows are not read too seldom to learn at all
                trainer.args.num_train_epochs = float(
                    np.ceil(LEAST_UPDATES * inner.train_batch_size / len(trainer.train_dataset))
                )
            trainer.fit()
            scored, _ = trainer.score_beside_baselines()
            if trainer.is_world_process_zero():
                write_json(file, scored)
            trainer.remove_checkpoints()
        else:
            scored = json.loads(file.read_text())
        results[name] = scored
        logger.info("%s, %d of %d: %s", name, len(results), len(parts), _short(scored["test"]))
    return results


def cross_validate(
    make_trainer: Callable[..., EduTrainer],
    folds: dict[str, DatasetDict],
    args: RecipeTrainingArguments,
    model_name: str | None = None,
) -> dict[str, Any]:
    """Train and score once a fold, or once for each prompt that is left out; see `score_each`.

    Returns:
        {"folds": {name: {metric: value}}, "mean": {...}, "sd": {...}, "baselines": {name: mean over folds}}, the same for
        "ablation"; sd with n - 1.
    """
    results = list((named := score_each(make_trainer, folds, args, model_name)).values())
    shared = [m for m in _numbers(results[0]["test"]) if all(m in r["test"] for r in results)]  # a fold may be too small for one
    values = {m: np.array([r["test"][m] for r in results]) for m in shared}

    def mean_of(kind: str) -> dict[str, dict[str, float]]:
        everywhere = set.intersection(*(set(r[kind]) for r in results))
        rows = {name: [r[kind][name] for r in results] for name in results[0][kind] if name in everywhere}
        return {
            name: {m: float(np.mean([r[m] for r in each])) for m in values if all(m in r for r in each)}
            for name, each in rows.items()
        }

    table = {
        "folds": {name: _numbers(r["test"]) for name, r in named.items()},
        "mean": {m: float(v.mean()) for m, v in values.items()},
        "sd": {m: float(v.std(ddof=1)) for m, v in values.items()},
        "baselines": mean_of("baselines"),
        "ablation": mean_of("ablation"),
    }
    logger.info("mean of %d: %s", len(folds), _short(table["mean"]))
    return table


def folder_name(part: str) -> str:
    """What the folder of a part is called: the part, or, where a prompt's name is in it that is no file name, a tidy one."""
    tidy = re.sub(r"[^\w-]", "_", part.lower())[:60]
    return part if part == tidy else f"{tidy}_{hashlib.sha256(part.encode()).hexdigest()[:8]}"


def learning_curve(
    make_trainer: Callable[..., EduTrainer],
    drawn: dict[int, list[DatasetDict]],
    args: RecipeTrainingArguments,
    model_name: str,
    metric: str,
) -> list[dict[str, Any]]:
    """How the test metric grows with the number of graded rows; see `score_each`.

    Args:
        make_trainer: Called with splits, arguments and checkpoint.
        drawn: Number of rows -> as many splits as draws, all with the same test.
        args: The run's; each part writes to output_dir/learning_curve/<number>_<draw>.
        model_name: The checkpoint.
        metric: What is drawn; the trainers report `intervals` of it.

    Returns:
        For each number: "rows", and "systems": name -> {"mean": over draws, "interval": [lower, upper]}. The interval (95%)
        holds what the test split is by chance (bootstrap) and what the draws are by chance (variance of their mean).
    """
    parts = {f"{n}_{draw}": splits for n, draws in drawn.items() for draw, splits in enumerate(draws)}
    inner = changed(args, output_dir=str(Path(args.output_dir) / "learning_curve"))
    results, curve = score_each(make_trainer, parts, inner, model_name), []
    for n, draws in drawn.items():
        here = [results[f"{n}_{draw}"] for draw in range(len(draws))]
        rows = [{**r["baselines"], **r["ablation"], r["system"]: r["test"]} for r in here]
        point: dict[str, Any] = {"rows": n, "systems": {}}
        for name in (n for n in rows[0] if all(n in r for r in rows)):
            values = np.array([r[name][metric] for r in rows])
            spans = [r["intervals"][name]["interval"] for r in here if name in r["intervals"]]
            by_test = np.mean([((high - low) / 3.92) ** 2 for low, high in spans]) if spans else 0.0
            by_draw = values.var(ddof=1) / len(values) if len(values) > 1 else 0.0
            reach = 1.96 * float(np.sqrt(by_test + by_draw))
            mean = float(values.mean())
            point["systems"][name] = {"mean": mean, "interval": [mean - reach, mean + reach]}
        curve.append(point)
    return curve


def search_hyperparameters(
    make_trainer: Callable[..., EduTrainer],
    splits: DatasetDict,
    args: RecipeTrainingArguments,
    space: dict[str, tuple],
    model_args: ModelArguments | None = None,
) -> dict[str, Any]:
    """Try `args.hp_search` settings and put the best into `args` and `model_args` (optuna's TPE sampler).

    Each trial is written to output_dir/search/trials.jsonl when it ends; a run that is started anew goes on from there.

    Args:
        make_trainer: Called with splits, arguments and checkpoint.
        splits: The metric is the one on validation.
        args: The run's; changed in place.
        space: Option -> ("float", low, high) on a log scale, ("int", low, high), or ("choice", value, ...). Options are
            training options or model_name_or_path.
        model_args: Changed in place where the checkpoint is among the choices; None for a model from scratch.

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
    states = optuna.trial.TrialState
    for trial in done:
        told = {"state": states.FAIL if trial["value"] is None else states.COMPLETE, "value": trial["value"]}
        study.add_trial(optuna.trial.create_trial(params=trial["settings"], distributions=distributions, **told))
    for number in range(len(done), args.hp_search):
        trial = study.ask(distributions)
        options = dict(trial.params)
        name = options.pop("model_name_or_path", model_args and model_args.model_name_or_path)
        inner = changed(args, output_dir=str(folder / "trial"), resume_from_checkpoint="false", push_to_hub=False, **options)
        trainer = make_trainer(splits, inner, name)
        try:
            trainer.fit()
            value = trainer.state.best_metric * (1 if inner.greater_is_better else -1)
        except NoFiniteLoss as stopped:  # these settings will not do; others may
            logger.warning("trial %d of %d with %s: %s", number + 1, args.hp_search, trial.params, stopped)
            value = None
        trainer.remove_checkpoints()
        study.tell(trial, value, state=states.FAIL if value is None else states.COMPLETE)
        with file.open("a") as out:
            out.write(json.dumps({"settings": trial.params, "value": value}) + "\n")
        if value is not None:
            logger.info("trial %d of %d: %.4f with %s", number + 1, args.hp_search, value, trial.params)
    if not study.get_trials(states=[states.COMPLETE]):
        raise ConfigurationError(f"--hp_search: no trial of {args.hp_search} ended with a finite loss. Look at the data first.")
    for option, value in study.best_params.items():
        setattr(model_args if option == "model_name_or_path" else args, option, value)
    return {"best": study.best_params, "value": study.best_value, "trials": len(study.trials)}


def fit_best(
    make_trainer: Callable[..., EduTrainer], splits: DatasetDict, args: RecipeTrainingArguments, candidates: Sequence[str]
) -> tuple[EduTrainer, dict[str, Any], dict[str, float]]:
    """Train each candidate and keep the one with the best metric on validation; a single one is just trained.

    Args:
        make_trainer: Called with splits, arguments and `encoding`, the candidate.
        splits: The metric is the one on validation.
        args: The run's; each of several candidates keeps its checkpoints in output_dir/<candidate>.
        candidates: Names.

    Returns:
        The trainer that was kept, its cost, and each candidate's metric.
    """
    best, cost, values = None, {}, {}
    for name in candidates:
        own = changed(args, output_dir=str(Path(args.output_dir) / name)) if len(candidates) > 1 else args
        trainer = make_trainer(splits, own, encoding=name)
        own_cost = trainer.fit()
        values[name] = trainer.state.best_metric
        sign = 1 if trainer.args.greater_is_better else -1
        if best is None or sign * values[name] > sign * best.state.best_metric:
            best, cost = trainer, own_cost
        if len(candidates) > 1:
            trainer.remove_checkpoints()
            trainer.args.output_dir = args.output_dir
            logger.info("%s: %.4f on validation", name, values[name])
    return best, cost, values


def changed(args: RecipeTrainingArguments, **options: object) -> RecipeTrainingArguments:
    """A copy of the arguments with other values."""
    changed = copy.deepcopy(args)
    for option, value in options.items():
        setattr(changed, option, value)
    changed.set_precision()
    return changed


def _numbers(result: dict) -> dict[str, float]:
    return {k: v for k, v in result.items() if isinstance(v, float)}


def _short(result: dict) -> str:
    return ", ".join(f"{k} {v:.3f}" for k, v in _numbers(result).items())
