"""A Trainer that publishes: before, while and after it trains, and never at the price of the training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo
from transformers import Trainer

from .hub import (
    PublishingError,
    check_access,
    how_to_finish,
    publish,
    push_checkpoint,
    verify,
    what_went_wrong,
)

logger = logging.getLogger(__name__)


class PublishingTrainer(Trainer):
    """Trainer with another way to the Hub: one commit of a finished model, no pickles, and failures that are told.

    Trainer would push the whole output folder with training_args.bin, die at the start of a refused token, and never ask its
    background pushes how they ended.
    """

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Ask the Hub for the repository before training; what it refuses is told at once and stops nothing."""
        if not self.is_world_process_zero():
            return
        folder = self.args.output_dir
        self.hub_model_id = self.args.hub_model_id or Path(folder).absolute().name
        try:
            self.hub_model_id = check_access(self.hub_model_id, self.args.hub_token, self.args.hub_private_repo)
        except PublishingError as error:
            logger.warning("%s Training goes on; at its end: %s", error, how_to_finish(folder, self.hub_model_id))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """With `--hub_strategy every_save`: push a checkpoint's weights to the branch `training`, in the background.

        The branch main only ever holds a finished model: weights, calibration and card that belong together.
        """
        if not self.is_world_process_zero() or self.args.hub_strategy == "end":
            return
        self._tell_failed_pushes()
        if self._pushes() and not self.args.hub_always_push:  # the one before has not ended
            return
        push = push_checkpoint(checkpoint_folder, self.hub_model_id, self.args.hub_token, self.state.global_step)
        self._pushes().append(push)

    def _finish_current_push(self) -> None:
        wait(self._pushes())
        self._tell_failed_pushes()

    def _pushes(self) -> list[Future]:
        if not isinstance(getattr(self, "push_in_progress", None), list):
            self.push_in_progress = []
        return self.push_in_progress

    def _tell_failed_pushes(self) -> None:
        for push in [p for p in self._pushes() if p.done()]:
            self._pushes().remove(push)
            if error := push.exception():
                logger.warning("a checkpoint was %s Training goes on.", what_went_wrong(error))

    def push_to_hub(
        self, commit_message: str | None = "Publish the model", blocking: bool = True, token: str | None = None,
        revision: str | None = None, private: bool | None = None, **kwargs,
    ) -> CommitInfo:  # fmt: skip
        """Publish the finished folder; see `hub.publish`."""
        name = getattr(self, "hub_model_id", None) or self.args.hub_model_id or Path(self.args.output_dir).absolute().name
        private = self.args.hub_private_repo if private is None else private
        return publish(self.args.output_dir, name, token or self.args.hub_token, private, commit_message)

    def publish_run(self, load: Callable[[str], Any], task: str, inputs: dict[str, Sequence]) -> None:
        """With `--push_to_hub`: publish the saved run; with `--verify_push` look at it as a stranger would.

        Args:
            load: Of the task's module.
            task: The recipe's name.
            inputs: The test rows, as `predict_columns` takes them.

        Raises:
            PublishingError: The run is complete on disk but not on the Hub, or predicts otherwise from there.
        """
        if self.args.push_to_hub and self.is_world_process_zero():
            self._finish_current_push()
            commit = self.push_to_hub()
            logger.info("published: %s", commit.commit_url)
            if self.args.verify_push:
                verify(commit, load(self.args.output_dir), task, inputs, self.args.hub_token)
        self.accelerator.wait_for_everyone()
