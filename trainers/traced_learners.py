"""Simulated learners from real answers: a tracer is fitted on one half of the learners, and its learners begin as they did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict
from transformers import set_seed

from .arguments import RecipeTrainingArguments
from .knowledge_tracing import KnowledgeTracingTrainer, load, new_tracer
from .model_selection import changed
from .parser import ConfigurationError
from .simulators import TracedLearners
from .tracing_settings import LEARNERS, TracingSettings, share_correct

HIDDEN_SIZE = 64
OPTIONS = {"learning_rate": 3e-3, "per_device_train_batch_size": 32, "per_device_eval_batch_size": 128, "weight_decay": 0.01}


def traced_learners(
    rows: Dataset, concepts: Sequence[str], edges: Sequence[Sequence[int]], folder: str | Path, args: RecipeTrainingArguments,
    epochs: float, warm_up: int,
) -> TracedLearners:  # fmt: skip
    """Fit a tracer on answers and make a simulator of it.

    Args:
        rows: Learners with the columns of `edu_datasets.schema.RESPONSES`, concepts counted from 1 as in `concepts`.
        concepts: Names.
        edges: Prerequisites (before, after), numbers from 0.
        folder: Where the tracer is kept; where a run that is resumed has left one, it is not fitted again.
        args: Of the run.
        epochs: Over the windows of nine tenths of the learners; the best on the last tenth stays.
        warm_up: Answers that a learner begins with; learners with fewer are traced, but are nobody's beginning.

    Raises:
        ConfigurationError: Hardly a learner has so many answers.
    """
    folder = Path(folder)
    asked, said, offered, most = [], [], np.zeros(len(concepts), bool), 1
    for block in rows.select_columns(["concepts", "correct"]).iter(LEARNERS):
        for learner, answers in zip(block["concepts"], block["correct"], strict=True):
            offered[[c - 1 for numbers in learner for c in numbers]] = True
            most = max(most, *map(len, learner))
            if len(answers) >= warm_up:
                asked.append([numbers[0] - 1 for numbers in learner[:warm_up]])
                said.append(answers[:warm_up])
    if len(asked) < 10:
        raise ConfigurationError(f"{len(asked)} learners have {warm_up} answers or more; lower --warm_up, or bring more answers.")
    word = str(args.resume_from_checkpoint or "false").strip().lower()
    if word in ("false", "0") or not (folder / "edu_recipes.json").is_file():
        _fit(rows, concepts, most, folder, args, epochs)
    weights = {name: value.numpy() for name, value in load(folder).model.cpu().state_dict().items()}
    return TracedLearners(weights, np.array(asked), np.array(said), [tuple(e) for e in edges], offered)


def _fit(
    rows: Dataset, concepts: Sequence[str], most: int, folder: Path, args: RecipeTrainingArguments, epochs: float
) -> None:  # fmt: skip
    """Train a tracer on nine tenths of the learners, whose questions have `most` concepts at most; save it in `folder`."""
    order = np.random.default_rng(args.seed).permutation(len(rows))
    parts = {"validation": order[: max(1, len(order) // 10)], "train": order[max(1, len(order) // 10) :]}
    splits = DatasetDict({s: rows.select(np.sort(part)) for s, part in parts.items()})
    settings = TracingSettings(list(concepts), concepts_per_step=most, base_rate=share_correct(splits["train"]))
    set_seed(args.seed)
    model = new_tracer(settings, num_features=0, architecture="lstm", hidden_size=HIDDEN_SIZE, dropout=0.1)
    own = changed(
        args, output_dir=str(folder), num_train_epochs=epochs, metric_for_best_model="log_loss", early_stopping_patience=None,
        max_steps=-1, push_to_hub=False,
        resume_from_checkpoint="auto" if args.resume_from_checkpoint else "false", **OPTIONS,
    )  # fmt: skip
    trainer = KnowledgeTracingTrainer(settings=settings, splits=splits, model=model, args=own)
    trainer.fit()
    if trainer.is_world_process_zero():
        trainer.save_model_folder(folder, "knowledge_tracing", asdict(settings), merge_adapter=False)
    trainer.accelerator.wait_for_everyone()
    trainer.remove_checkpoints()
