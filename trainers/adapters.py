"""LoRA, rsLoRA and DoRA: put on, saved alone or merged, and loaded so that the outputs are the trained ones."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from .arguments import AdapterArguments
from .artifact import Artifact
from .checkpoints import Checkpoint, find_named_base
from .parser import ConfigurationError


def add_lora(model: PreTrainedModel, args: AdapterArguments, task_type: TaskType, base_name: str) -> PeftModel:
    """Freeze `model` and put a LoRA adapter on it; a head for the task is trained whole and saved with the adapter.

    LoRA: Hu et al. 2021; rsLoRA: Kalajdzievski 2023; DoRA: Liu et al. 2024.

    Args:
        model: A model with its head.
        args: Rank, scale, dropout, target modules.
        task_type: peft's task; for SEQ_CLS peft keeps the head, for FEATURE_EXTRACTION there is none and the pooler stays out.
        base_name: The Hub id that the adapter's file names as its base, never a path of this machine.

    Raises:
        ConfigurationError: The target modules are not in the model.
    """
    targets = args.lora_target_modules
    head = task_type not in (TaskType.FEATURE_EXTRACTION, TaskType.CAUSAL_LM)
    pooler = [n for n, m in model.named_modules() if n.endswith("pooler") and list(m.parameters())]
    config = LoraConfig(
        task_type=task_type,
        r=args.lora_r,
        lora_alpha=args.lora_alpha,
        lora_dropout=args.lora_dropout,
        target_modules="all-linear" if targets == ["all-linear"] else targets,
        use_rslora=args.use_rslora,
        use_dora=args.use_dora,
        # a pooler that the checkpoint never used must be trained whole, like the head
        modules_to_save=["classifier", "score", "qa_outputs", *({n.rsplit(".", 1)[-1] for n in pooler})] if head else None,
        exclude_modules=r".*pooler.*" if task_type == TaskType.FEATURE_EXTRACTION else None,
    )
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        linear = sorted({n.rsplit(".", 1)[-1] for n, m in model.named_modules() if isinstance(m, nn.Linear)})
        raise ConfigurationError(
            f"--lora_target_modules {' '.join(targets)} is not in the model; it has {', '.join(linear)}, or all-linear."
        ) from error
    adapted.peft_config["default"].base_model_name_or_path = base_name
    return adapted


def is_adapter(folder: str | Path) -> bool:
    """Whether the folder holds an adapter and not a whole model."""
    return (Path(folder) / "adapter_config.json").is_file()


def find_base(checkpoint: Checkpoint, artifact: Artifact) -> tuple[Checkpoint, Path]:
    """The base that an adapter was trained on, and the folder of the adapter's weights.

    Raises:
        ConfigurationError: The base cannot be found or has other weights, or the adapter has none.
    """
    base = find_named_base(checkpoint, artifact.base_model["name"], artifact.base_model["revision"])
    if artifact.base_model["sha256"] not in (None, base.sha256()):
        raise ConfigurationError(f"the adapter was trained on other weights than {base.name} has here (sha256 differs).")
    weights = checkpoint.file("adapter_model.safetensors")
    if weights is None:
        raise ConfigurationError(f"{checkpoint.name} has no adapter_model.safetensors.")
    return base, weights.parent


def load_merged(base: PreTrainedModel, folder: str | Path) -> PreTrainedModel:
    """`base` with the adapter in `folder` merged in.

    This is the way to load DoRA: `AutoModel...from_pretrained(folder)` drops its magnitudes in silence and gives other
    outputs.
    """
    return PeftModel.from_pretrained(base, str(folder)).merge_and_unload()


def merge(model: PeftModel, inputs: dict[str, torch.Tensor], tolerance: float = 1e-3) -> PreTrainedModel:
    """Merge an adapter into its base, and refuse if that changes the outputs.

    Args:
        model: The trained model, in evaluation mode and float32.
        inputs: A batch to compare on.
        tolerance: Largest difference of an output: a logit, or a hidden state.

    Raises:
        RuntimeError: The merged model gives other outputs.
    """
    model.eval()
    with torch.no_grad():
        before = _tensors(model(**inputs))
        merged = model.merge_and_unload()
        pairs = zip(before, _tensors(merged(**inputs)), strict=True)
        difference = max((a - b).abs().max().item() for a, b in pairs)
    if difference > tolerance:
        raise RuntimeError(f"merging the adapter changed an output by {difference:.2g}; save it alone: --merge_adapter false")
    return merged


def _tensors(outputs: ModelOutput) -> list[torch.Tensor]:
    """Logits, of whatever name."""
    return [value for value in outputs.to_tuple() if isinstance(value, torch.Tensor)]
