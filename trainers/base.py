"""EduTrainer: what every recipe needs and transformers' Trainer leaves out or gets wrong."""

from __future__ import annotations

import ctypes
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from torch import nn
from torch.utils.data import DataLoader
from transformers import EarlyStoppingCallback, EvalPrediction, TrainerCallback, TrainerState
from transformers.trainer_utils import EvalLoopOutput

from . import report
from .adapters import is_adapter, merge
from .arguments import RecipeTrainingArguments
from .artifact import edu_recipes_version, new_artifact
from .attention import leave_flash
from .batching import LengthBatchSampler
from .columns import column_array
from .parser import ConfigurationError
from .precision import device_name
from .publishing import PublishingTrainer
from .resuming import checkpoint_to_resume
from .sharding import choose_layers, fill, outline
from .survival import SurvivingTrainer

NEW_MODULES = ("classifier", "score.", "pooler")


class EduTrainer(SurvivingTrainer, PublishingTrainer, ABC):
    """A Trainer whose update does not depend on how a batch is cut, and whose evaluation keeps the order of the rows.

    A subclass gives the loss as a sum and a count (`loss_terms`, `count_items`); division happens here, once for all
    accumulated batches of all processes. Batches are grouped by length (`LengthBatchSampler`); evaluation runs from
    long to short and gives predictions back in the order of the data set. Data sets need a column `length`.

    Args:
        args: See `RecipeTrainingArguments`.
        new_modules: Parts of parameter names that were not pretrained and learn at `--head_learning_rate`.
        kwargs: As for Trainer.
    """

    # the loss is divided by the items of the whole update already; the heads would drop num_items_in_batch
    loss_is_scaled_for_ga = True
    model_inputs = ("input_ids", "attention_mask")
    """What of a batch the model takes beside the labels."""
    full_precision_attention = "sdpa"
    """What takes the place of flash attention when the training is over."""
    merge_tolerance = 1e-3
    """How far merging an adapter may move a logit."""
    row_column: str | None = None
    """A column of the training data that names the row, or the rows, of the training split that each was made of."""

    def __init__(self, *, args: RecipeTrainingArguments, new_modules: Sequence[str] = NEW_MODULES, **kwargs):
        args.remove_unused_columns = False  # the collator picks what it needs
        if args.activation_checkpointing and not getattr(kwargs["model"], "supports_gradient_checkpointing", False):
            raise ConfigurationError("--activation_checkpointing: this architecture cannot do it; it is small. Leave it out.")
        if args.use_cpu:
            keep_freed_memory()
            use_all_cores()
        try:
            super().__init__(args=args, **kwargs)
        except (ValueError, RuntimeError, ImportError) as error:  # an optimizer, a tracker that is not there
            raise ConfigurationError(" ".join(str(error).split())) from error
        self.model_accepts_loss_kwargs = False
        self.new_modules = tuple(new_modules)
        self._eval_order: np.ndarray | None = None
        self._batch_sampler: LengthBatchSampler | None = None
        self._outline: nn.Module | None = None
        self.add_callback(_ShowEpochToSampler(self))
        if args.early_stopping_patience is not None:
            self.add_callback(EarlyStoppingCallback(args.early_stopping_patience))

    # ---- loss ---------------------------------------------------------------------------------------------------------

    @abstractmethod
    def loss_terms(self, model: nn.Module, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """The sum of the losses of a batch's items (scalar), their number (scalar), and the model's output."""

    @abstractmethod
    def count_items(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """How many items `loss_terms` will sum over in this batch; scalar."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        total, count, outputs = self.loss_terms(model, inputs)
        if num_items_in_batch is None or not model.training:
            loss = total / count.clamp(min=1)
        else:  # processes average their gradients, so each multiplies its share by their number
            loss = total / num_items_in_batch.clamp(min=1) * self.accelerator.num_processes
        return (loss, {"logits": outputs.logits}) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor | None:
        if not batch_samples:
            return None
        items = sum(self.count_items(batch).to(device) for batch in batch_samples)
        return self.accelerator.gather(items).sum() if self.args.world_size > 1 else items

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """As in Trainer; parameters in `new_modules` learn at `--head_learning_rate` where that is given."""
        optimizer = super().create_optimizer(model)
        if self.args.head_learning_rate is not None:
            named = (model or self.model).named_parameters()
            new = {id(p) for n, p in named if any(part in n for part in self.new_modules)}
            for group in list(optimizer.param_groups):
                params = group["params"]
                group["params"] = [p for p in params if id(p) not in new]
                if len(group["params"]) < len(params):
                    own = [p for p in params if id(p) in new]
                    optimizer.add_param_group({**group, "params": own, "lr": self.args.head_learning_rate})
        return optimizer

    # ---- batches ------------------------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> DataLoader:
        args = self.args
        self._batch_sampler = LengthBatchSampler(
            column_array(self.train_dataset, "length"),
            self._train_batch_size,
            args.world_size,
            args.gradient_accumulation_steps,
            args.data_seed if args.data_seed is not None else args.seed,
            args.group_lengths,
        )
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=self._batch_sampler,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory and not args.use_cpu,
            persistent_workers=args.dataloader_persistent_workers,
        )
        even, self.accelerator.even_batches = self.accelerator.even_batches, False  # the sampler is even already
        try:
            return self.accelerator.prepare(loader)
        finally:
            self.accelerator.even_batches = even

    def rows_of_update(self, update: int, processes: Sequence[int]) -> list[int]:
        if self._batch_sampler is None:
            return []
        examples = self._batch_sampler.examples_of(update, processes)
        rows = self.train_dataset.select(examples)[self.row_column] if self.row_column else examples
        return sorted({int(row) for own in rows for row in np.atleast_1d(own)})

    def get_eval_dataloader(self, eval_dataset: Dataset | None = None) -> DataLoader:
        return super().get_eval_dataloader(self._long_to_short(self.eval_dataset if eval_dataset is None else eval_dataset))

    def get_test_dataloader(self, test_dataset: Dataset) -> DataLoader:
        return super().get_test_dataloader(self._long_to_short(test_dataset))

    def _long_to_short(self, dataset: Dataset) -> Dataset:
        self._eval_order = np.argsort(-column_array(dataset, "length"), kind="stable")
        return dataset.select(self._eval_order)

    def evaluation_loop(self, *args, **kwargs) -> EvalLoopOutput:
        """As in Trainer, with predictions, labels and metrics in the order of the data set."""
        inverse = np.argsort(self._eval_order)

        def restore(arrays):
            return tuple(a[inverse] for a in arrays) if isinstance(arrays, tuple) else None if arrays is None else arrays[inverse]

        compute_metrics = self.compute_metrics
        if compute_metrics is not None:
            self.compute_metrics = lambda p: compute_metrics(EvalPrediction(restore(p.predictions), restore(p.label_ids)))
        try:
            output = super().evaluation_loop(*args, **kwargs)
        finally:
            self.compute_metrics = compute_metrics
        return output._replace(predictions=restore(output.predictions), label_ids=restore(output.label_ids))

    # ---- a run --------------------------------------------------------------------------------------------------------

    def fit(self) -> dict[str, float]:
        """Train or go on training, then hold the best checkpoint in full precision, ready for the final evaluation.

        Returns:
            The cost: seconds, examples and tokens a second, peak memory in MiB, updates.

        Raises:
            ConfigurationError: See `checkpoint_to_resume`.
            RunStopped: See `SurvivingTrainer`.
        """
        checkpoint = checkpoint_to_resume(self.args)
        if checkpoint is None:  # said to start anew: an old checkpoint must not be taken for this run's later
            self.remove_checkpoints()
            self.accelerator.wait_for_everyone()
        start = time.perf_counter()
        tokens = int(column_array(self.train_dataset, "length").sum())
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            self._outline = outline(self.model)
        if self.is_fsdp_enabled:
            choose_layers(self.accelerator.state.fsdp_plugin, self.model)
        result = self.train(resume_from_checkpoint=checkpoint)
        seconds = time.perf_counter() - start
        self.callback_handler.callbacks = [c for c in self.callback_handler.callbacks if not isinstance(c, EarlyStoppingCallback)]
        self.use_full_precision()
        self.model.eval()
        cost = {
            "train_seconds": round(seconds, 1),
            "updates": self.state.global_step,
            "epochs": round(result.metrics.get("epoch", self.state.epoch or 0), 2),
            "peak_memory_mib": peak_memory_mib(),
        }
        if checkpoint is None:  # a resumed run has seen only a part of its time
            examples = cost["epochs"] * len(self.train_dataset)
            cost["train_examples_per_second"] = round(examples / seconds, 2)
            cost["train_tokens_per_second"] = round(cost["epochs"] * tokens / seconds)
        return cost

    def estimate_cost(self) -> dict[str, float]:
        """What training would cost on this machine, from two timed steps on middling batches; nothing is trained.

        Returns:
            updates, tokens (in all epochs), minutes.
        """
        lengths = column_array(self.train_dataset, "length")
        size = min(self._train_batch_size, len(lengths))
        middle = np.argsort(lengths, kind="stable")[len(lengths) // 2 - size // 2 :][:size]
        batch = self._prepare_inputs(self.data_collator([self.train_dataset[int(i)] for i in middle]))
        self.model.to(self.args.device).train()
        start = 0.0
        for step in range(3):
            if step == 1:  # the first step warms up
                start = time.perf_counter()
            with self.accelerator.autocast():
                loss = self.compute_loss(self.model, batch)
            loss.backward()
            self.model.zero_grad()
        rate = 2 * lengths[middle].sum() / (time.perf_counter() - start)
        tokens = int(lengths.sum() * self.args.num_train_epochs)
        updates = -(-len(lengths) // (self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size))
        minutes = tokens / rate / 60 / self.args.world_size
        return {"updates": int(updates * self.args.num_train_epochs), "tokens": tokens, "minutes": round(float(minutes), 1)}

    def use_full_precision(self) -> None:
        """Predict in fp32 from now on, so that whoever loads the model gets the same numbers on any device."""
        model = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        if self._outline is not None:  # the model was cut over the processes
            model, self._outline = fill(self._outline, model), None
        self.model = self.model_wrapped = model.float()
        leave_flash(model, self.full_precision_attention)

    def logits(self, dataset: Dataset) -> np.ndarray:
        """The model's outputs for `dataset`, float32 array (rows, outputs), in its order."""
        metrics, self.compute_metrics = self.compute_metrics, None
        try:
            return self.predict(dataset).predictions
        finally:
            self.compute_metrics = metrics

    def save_model_folder(self, folder: Path, task: str, settings: dict, merge_adapter: bool) -> None:
        """Save weights (safetensors), tokenizer and edu_recipes.json so that `trainers.<task>.load(folder)` predicts alike.

        Args:
            folder: Where to.
            task: The recipe's name.
            settings: The task's own, for edu_recipes.json.
            merge_adapter: Merge a LoRA adapter into its base first, after comparing outputs on a batch.
        """
        model = self.model.eval()
        for name in ("adapter_config.json", "adapter_model.safetensors", "config.json", "model.safetensors"):
            (folder / name).unlink(missing_ok=True)  # an earlier run's, of the other kind
        if isinstance(model, PeftModel) and merge_adapter:
            batch = self.merge_example()
            model = merge(model, {k: batch[k] for k in self.model_inputs if k in batch}, self.merge_tolerance)
        model.save_pretrained(folder)
        if self.processing_class is not None:
            self.processing_class.save_pretrained(folder)
        new_artifact(task, settings, self.checkpoint).save(folder)

    def merge_example(self) -> dict[str, torch.Tensor]:
        """A batch on which an adapter is compared with its merged weights."""
        rows = [self.train_dataset[i] for i in range(min(4, len(self.train_dataset)))]
        return self._prepare_inputs(self.data_collator(rows))

    def save_results(
        self, task: str, settings: dict, metrics: dict[str, Any], predictions: dict[str, Sequence], facts: dict[str, Any],
        merge_adapter: bool = True,
    ) -> dict[str, Any]:  # fmt: skip
        """Write what every run leaves behind: the model's folder, metrics.json, options.yaml, predictions.csv, the rows that
        were left out, the learning curve.

        Args:
            task: The recipe's name.
            settings: The task's own, for edu_recipes.json.
            metrics: The content of metrics.json.
            predictions: The columns of predictions.csv, one row a test row.
            facts: Options, cost, and what the data set says of itself; the studies that were made.
            merge_adapter: Save an adapter merged into its base.

        Returns:
            What the card of any task needs, see `report.write_card`.
        """
        output, metric = Path(self.args.output_dir), self.args.metric_for_best_model.removeprefix("eval_")
        self.save_model_folder(output, task, settings, merge_adapter)
        report.write_json(output / "metrics.json", metrics)
        options = facts["options"] | facts.get("search", {}).get("best", {})
        options.pop("hp_search", None)  # what was found stands in its place
        report.write_options(output / "options.yaml", options)
        report.write_csv(output / "predictions.csv", predictions)
        if facts["rejected_rows"]:
            files, rows, reasons = zip(*facts["rejected_rows"], strict=True)
            report.write_csv(output / "rejected_rows.csv", {"file": files, "row": rows, "reason": reasons})
        curve = output / "figures" / "learning_curve.png"
        report.draw_learning_curve(curve, self.state.log_history, best_step(self.state), metric)
        adapter, base = is_adapter(output), self.checkpoint
        return {
            **facts, "cost": metrics["cost"], "name": output.absolute().name, "task": task, "adapter": adapter,
            "library_name": "peft" if adapter else "transformers", "repo": self.hub_model_id or output.absolute().name,
            "base_model": base.title() if base else "", "license": base.licence if base else "apache-2.0",
            "version": edu_recipes_version(), "dataset_type": facts["dataset_name"].split(" ")[0],
            "fictional": "fictional" in facts["dataset_name"], "command": report.command(f"recipes/{task}.py", options),
        }  # fmt: skip

    def whole_cost(self, cost: dict[str, float]) -> dict[str, Any]:
        """The cost of `fit`, and what it was paid on."""
        return {**cost, "device": device_name(), "precision": self.args.precision, "processes": self.args.world_size}

    def remove_checkpoints_when_done(self) -> None:
        """`remove_checkpoints`, unless `--keep_checkpoints` was given."""
        if not self.args.keep_checkpoints:
            self.remove_checkpoints()

    def remove_checkpoints(self) -> None:
        """Delete the checkpoints in output_dir; they are for resuming."""
        if self.is_world_process_zero():
            for folder in Path(self.args.output_dir).glob("checkpoint-*"):
                shutil.rmtree(folder, ignore_errors=True)


class _ShowEpochToSampler(TrainerCallback):
    """Tells the sampler the epoch; accelerate does not reach it through a resumed, sharded loader."""

    def __init__(self, trainer: EduTrainer):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        if self.trainer._batch_sampler is not None:
            self.trainer._batch_sampler.set_epoch(int((state.epoch or 0) + 1e-6))


def best_step(state: TrainerState) -> int | None:
    """The step of the checkpoint that was kept."""
    return int(state.best_model_checkpoint.rsplit("-", 1)[1]) if state.best_model_checkpoint else None


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors for the next step instead of giving it back to the kernel.

    Activations are allocated and freed every step; handing their pages back and faulting them in again is system time.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError):
        pass  # another C library


def use_all_cores() -> None:
    """Share the cores among the processes of this machine; `accelerate launch` gives a lone process one of them.

    OMP_NUM_THREADS above 1, or set where no launcher is at work, is left as it is.
    """
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ or "LOCAL_WORLD_SIZE" in os.environ
    if launched and os.environ.get("OMP_NUM_THREADS") == "1":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def peak_memory_mib() -> float:
    """Peak memory of the device, or of this process on CPU, in MiB."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20)
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 1024))
