"""LanguageModelTrainer: what every recipe that trains a causal language model on conversations shares."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import torch
from datasets import Dataset
from peft import PeftModel
from transformers import EvalPrediction, PreTrainedModel

from ..arguments import ModelArguments
from ..attention import leave_flash
from ..base import EduTrainer
from ..checkpoints import Checkpoint
from ..parser import ConfigurationError
from .loading import load_language_model
from .loss import token_losses
from .packing import PACKED, ChatCollator, keeps_apart

logger = logging.getLogger(__name__)

METRICS = ("perplexity", "loss")


class LanguageModelTrainer(EduTrainer):
    """Trains a causal language model on the labelled tokens of conversations, each token of an update alike.

    Data sets have the columns input_ids, labels and length, see `chat.encode_chat`.

    Args:
        checkpoint: What the model was built from.
        model_args: How it was built.
        stop: Tokens that end a reply; saved as the model's generation config.
        packing: Pack a batch into one row, where the model keeps packed conversations apart; pad it else.
        kwargs: As for `EduTrainer`.
    """

    model_inputs = ("input_ids", "attention_mask", "position_ids")
    merge_tolerance = 1e-2  # logits are ten times those of a classifier, behind dozens of layers

    def __init__(self, *, checkpoint: Checkpoint, model_args: ModelArguments, stop: list[int], packing: bool = True, **kwargs):
        args, model, tokenizer = (kwargs[name] for name in ("args", "model", "processing_class"))
        metric = (args.metric_for_best_model or "loss").removeprefix("eval_")
        if metric not in METRICS:
            raise ConfigurationError(f"--metric_for_best_model is {metric!r}; expected one of {', '.join(METRICS)}.")
        args.greater_is_better, args.label_names = False, ["label_counts"]
        self.packed = packing and keeps_apart(model)
        if not model.config.is_encoder_decoder:
            self.full_precision_attention = PACKED
        if packing and not self.packed:
            logger.warning("this architecture does not keep packed conversations apart: batches are padded instead.")
        for module in model.modules():  # peft would cast every input to the adapter's float32, for autocast to cast it back
            if hasattr(module, "cast_input_dtype_enabled"):
                module.cast_input_dtype_enabled = False
        model.generation_config.eos_token_id = stop
        model.generation_config.pad_token_id = tokenizer.pad_token_id
        self.checkpoint, self.model_args, self.stop = checkpoint, model_args, stop
        super().__init__(
            compute_metrics=self.validation_metrics, data_collator=ChatCollator(tokenizer.pad_token_id, self.packed), **kwargs
        )
        if getattr(model, "is_loaded_in_4bit", False) and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            raise ConfigurationError("--load_in_4bit keeps the model whole on each GPU: take ddp.yaml, not FSDP2 or ZeRO.")

    def loss_terms(self, model, inputs):
        losses, rows = token_losses(model, inputs)
        by_row = torch.zeros(len(inputs["label_counts"]), device=losses.device).index_add(0, rows, losses.detach())
        return losses.sum(), torch.tensor(len(losses), device=losses.device), SimpleNamespace(logits=by_row)

    def count_items(self, inputs):
        return inputs["label_counts"].sum()

    def validation_metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """Perplexity of the labelled tokens of validation; it chooses the checkpoint and is never reported."""
        return {"perplexity": float(np.exp(prediction.predictions.sum() / prediction.label_ids.sum()))}

    def negative_log_likelihoods(self, dataset: Dataset) -> np.ndarray:
        """The sum over the labelled tokens of each row, in nats, float array (rows,)."""
        return self.logits(dataset)

    def use_full_precision(self) -> None:
        """As in `EduTrainer`; a base in 4 bit is replaced by the one it was made from, under the trained adapter."""
        model = self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        if not getattr(model, "is_loaded_in_4bit", False):
            return super().use_full_precision()
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            base = load_language_model(self.checkpoint, self.model_args)
            leave_flash(base, self.full_precision_attention)
            base.generation_config = model.generation_config
            self.model = PeftModel.from_pretrained(base, folder).float().to(self.args.device)
        self.model_wrapped = self.model

    @contextlib.contextmanager
    def untuned(self) -> Iterator[PreTrainedModel]:
        """The model as it was before the training, in the place of `self.model`; for comparison."""
        trained = self.model
        try:
            if isinstance(trained, PeftModel):
                with trained.disable_adapter():
                    yield trained
            else:
                self.model = load_language_model(self.checkpoint, self.model_args).to(self.args.device)
                leave_flash(self.model, self.full_precision_attention)
                self.model.generation_config = trained.generation_config
                self.model_wrapped = self.model
                yield self.model
        finally:
            self.model = self.model_wrapped = trained
