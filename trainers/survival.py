"""A Trainer that loses nothing: not to a kill, a signal, a full disk, nor to a loss that is no number."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import distributed as dist
from torch import nn
from transformers import EarlyStoppingCallback, Trainer
from transformers.trainer_utils import rotate_checkpoints

from .failures import NoFiniteLoss, RunStopped, is_out_of_space
from .resuming import seal

NEVER = 1 << 62  # an update that does not come
SHOWN_ROWS = 64
AT_ONCE = 1.0
"""Ctrl-C reaches a process from the terminal and from its launcher, so often within this many seconds."""


class StopSignals:
    """SIGTERM and the first SIGINT, which are noted instead of obeyed.

    Attributes:
        noted: The number of the signal that came; 0 for none.
    """

    def __init__(self):
        self.noted, self._when = 0, 0.0

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Note signals inside this context. One that came too late for anybody to ask is obeyed at its end."""
        if threading.current_thread() is not threading.main_thread():  # only there can a handler be set
            yield
            return
        self.noted = 0
        before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if self.noted:
            os.kill(os.getpid(), self.noted)

    def _note(self, number: int, frame: object) -> None:
        now = time.monotonic()
        if self.noted and number == signal.SIGINT and now - self._when > AT_ONCE:
            raise KeyboardInterrupt
        if not self.noted:
            self.noted, self._when = number, now
            if number == signal.SIGINT and int(os.environ.get("RANK", 0)) == 0:
                os.write(2, b"\nStopping after this update, with a checkpoint. Ctrl-C again stops at once.\n")


class SurvivingTrainer(Trainer):
    """Trainer with checkpoints that are known to be whole, and that stops in order.

    - A checkpoint is sealed (`resuming.seal`) when all of it is written, and older ones are removed only then.
    - SIGTERM and the first SIGINT (Ctrl-C) let it finish the update, save and stop; a second SIGINT stops it at once.
    - A loss or a gradient that is no number stops it before anything else is saved. Nothing waits for the device at each update:
      what went wrong first is noted there, and looked at when losses are logged, before each evaluation and each save.
    - A resumed run counts on where early stopping was, and does no update more than it would have done.
    """

    def train(self, *args, **kwargs):
        """As in Trainer. Raises `RunStopped` where the run ends before its time."""
        self.args.logging_nan_inf_filter = False  # it puts numbers in the place of losses that are none
        self._first_bad: torch.Tensor | None = None
        self._saved_at, self._processors = None, None
        self._signals = StopSignals()
        with self._signals.caught():
            return super().train(*args, **kwargs)

    # ---- epochs and updates -------------------------------------------------------------------------------------------

    def _run_epoch(self, **kwargs) -> None:
        stopping = [c for c in self.callback_handler.callbacks if isinstance(c, EarlyStoppingCallback)]
        if self.state.global_step >= self.state.max_steps or any(
            c.early_stopping_patience_counter >= c.early_stopping_patience for c in stopping
        ):  # the checkpoint was the last one
            self.control.should_training_stop = True
            return
        super()._run_epoch(**kwargs)
        self._stop_if_no_number()
        self._stop_if_asked()

    def _maybe_log_save_evaluate(self, *args, **kwargs) -> None:
        if self.control.should_log or self.control.should_evaluate or self.control.should_save:
            self._stop_if_no_number()
        super()._maybe_log_save_evaluate(*args, **kwargs)
        if self.state.epoch % 1 and not self.control.should_training_stop:  # else `_run_epoch` ends the epoch first
            self._stop_if_asked()

    def _load_callback_state(self) -> None:
        super()._load_callback_state()
        saved = self.state.stateful_callbacks.get(EarlyStoppingCallback.__name__)
        for callback in self.callback_handler.callbacks:
            if saved and isinstance(callback, EarlyStoppingCallback):
                for name, value in saved["attributes"].items():
                    setattr(callback, name, value)

    def anyone(self, number: int) -> int:
        """The largest of the numbers that all processes bring, found by the processors, so that no device is waited for."""
        if self.args.world_size == 1:
            return number
        if self._processors is None:
            self._processors = dist.new_group(backend="gloo")
        largest = torch.tensor(number)
        dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=self._processors)
        return int(largest)

    def _stop_if_asked(self) -> None:
        number = self.anyone(self._signals.noted)
        if not number:
            return
        if self._saved_at != self.state.global_step:
            self._save_checkpoint(self.model, trial=None)
        raise RunStopped(
            f"stopped by {signal.Signals(number).name} after update {self.state.global_step} of {self.state.max_steps}. "
            f"All of it is saved in {self._checkpoint_folder()}; --resume_from_checkpoint auto goes on from there.",
            exit_code=128 + number,
        )

    # ---- losses -------------------------------------------------------------------------------------------------------

    def rows_of_update(self, update: int, processes: Sequence[int]) -> list[int]:
        """The rows of the training split that these processes read for an update; none where that is not known.

        Args:
            update: Counted from 0, over all epochs.
            processes: Their numbers.
        """
        return []

    def _get_grad_norm(self, model: nn.Module, grad_norm: torch.Tensor | float | None = None) -> torch.Tensor | float | None:
        norm = super()._get_grad_norm(model, grad_norm)
        bad = torch.zeros(2, dtype=torch.bool, device=self._tr_loss.device)  # of the loss, of the gradient
        bad[0] = ~self._tr_loss.isfinite()
        if not self.args.fp16:  # there a gradient overflows now and then, and its update is left out
            whole = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
            bad[1] = ~whole.isfinite() if isinstance(whole, torch.Tensor) else not math.isfinite(whole or 0)
        now = torch.where(bad, self.state.global_step, NEVER)
        self._first_bad = now if self._first_bad is None else torch.minimum(self._first_bad, now)
        return norm

    def _stop_if_no_number(self) -> None:
        if self._first_bad is None:
            return
        found = self.accelerator.gather(self._first_bad.view(1, 2)).tolist()  # a row a process
        first = min(map(min, found))
        if first == NEVER:
            return
        losses = [process for process, (loss, _) in enumerate(found) if loss == first]
        rows = self.rows_of_update(first, losses or range(len(found)))
        names = ", ".join(map(str, rows[:SHOWN_ROWS])) + (f" and {len(rows) - SHOWN_ROWS} more" if rows[SHOWN_ROWS:] else "")
        told = f". Its batch: the rows of the training split, counted from 0: {names}. Look at them first" if rows else ""
        args = self.args
        raise NoFiniteLoss(
            f"the {'loss' if losses else 'gradient'} is no finite number at update {first + 1} of {self.state.max_steps}{told}. "
            f"Then try a lower --learning_rate ({args.learning_rate:g} now), --max_grad_norm 1 ({args.max_grad_norm:g} now) or "
            f"--precision fp32 ({args.precision} now). What was saved before is kept: --resume_from_checkpoint auto goes on from "
            "there, with other options."
        )

    # ---- checkpoints --------------------------------------------------------------------------------------------------

    def _checkpoint_folder(self) -> Path:
        return Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"

    def _save_checkpoint(self, model: nn.Module, trial: None) -> None:
        self._stop_if_no_number()
        folder, limit = self._checkpoint_folder(), self.args.save_total_limit
        self.args.save_total_limit = None  # older ones stay until the new one is whole
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                seal(folder)
        except Exception as error:
            if not is_out_of_space(error):
                raise
            if self.args.should_save:
                shutil.rmtree(folder, ignore_errors=True)
            raise RunStopped(
                f"{folder.name} could not be saved in {self.args.output_dir}: there is no space left (or the quota is used up). "
                f"{self._what_stays()} Make room and go on with --resume_from_checkpoint auto.",
                of_all=False,
            ) from error
        finally:
            self.args.save_total_limit = limit
        if self.args.should_save:
            rotate_checkpoints(self.args.output_dir, limit, self.state.best_model_checkpoint, use_mtime=True)
        self._saved_at = self.state.global_step

    def _what_stays(self) -> str:
        steps = [int(p.name.split("-")[1]) for p in Path(self.args.output_dir).glob("checkpoint-*") if p.name[11:].isdigit()]
        return f"checkpoint-{max(steps)} stays as it is." if steps else "There is no older one."
