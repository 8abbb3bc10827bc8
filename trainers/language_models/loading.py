"""Language models, causal or with an encoder: from a checkpoint to train on, in 4 bit on a GPU, and as they were saved."""

from __future__ import annotations

import importlib.util
import json
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BitsAndBytesConfig,
    GenerationConfig,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from ..adapters import load_merged
from ..arguments import AdapterArguments, ModelArguments
from ..checkpoints import Checkpoint, explained, find_named_base, load_config
from ..parser import ConfigurationError
from .packing import PACKED


def load_language_model(checkpoint: Checkpoint, args: ModelArguments, load_in_4bit: bool = False) -> PreTrainedModel:
    """A stock `AutoModelForCausalLM` or `AutoModelForSeq2SeqLM` in float32; quantised weights of a package are unpacked to it.

    Args:
        checkpoint: Where from.
        args: Dropout, attention, remote code.
        load_in_4bit: Keep the frozen weights in NF4 (QLoRA, Dettmers et al. 2023); the rest computes in bf16.

    Raises:
        ConfigurationError: It cannot be found or loaded, or 4 bit is not possible here.
    """
    more: dict[str, Any] = {}
    if load_in_4bit:
        check_4bit(checkpoint)
        more["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
        )
        more["device_map"] = {"": torch.cuda.current_device()}
    elif checkpoint.gguf_file:
        more |= {"gguf_file": checkpoint.gguf_file, "quantization_config": GgufConfig(dequantize=True)}
    config = load_config(checkpoint, args)
    with explained(checkpoint):
        model = _kind(config).from_pretrained(
            checkpoint.path,
            revision=checkpoint.revision,
            config=config,
            dtype=torch.float32,
            attn_implementation=args.attn_implementation or _attention(config),
            trust_remote_code=args.trust_remote_code,
            **more,
        )
    # the checkpoint's ways of sampling are not what is evaluated
    model.generation_config = GenerationConfig(decoder_start_token_id=getattr(config, "decoder_start_token_id", None))
    return model


def _kind(config: PreTrainedConfig) -> type:
    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM


def _attention(config: PreTrainedConfig) -> str | None:
    return None if config.is_encoder_decoder else PACKED


def load_trained_language_model(checkpoint: Checkpoint, trust_remote_code: bool = False) -> PreTrainedModel:
    """A trained model as it was saved, in float32; an adapter is merged into the base that its file names.

    Raises:
        ConfigurationError: It, or an adapter's base, cannot be found or loaded.
    """
    adapter = checkpoint.file("adapter_config.json")
    base = checkpoint
    if adapter is not None:
        base = find_named_base(checkpoint, json.loads(adapter.read_text(encoding="utf-8"))["base_model_name_or_path"])
    with explained(base):
        options = {"revision": base.revision, "trust_remote_code": trust_remote_code}
        config = AutoConfig.from_pretrained(base.path, **options)
        model = _kind(config).from_pretrained(base.path, dtype=torch.float32, attn_implementation=_attention(config), **options)
    return load_merged(model, adapter.parent) if adapter is not None else model


def check_adapter(checkpoint: Checkpoint, args: AdapterArguments, load_in_4bit: bool, hub_strategy: str = "end") -> None:
    """Whether these options of an adapter are possible with this base.

    Raises:
        ConfigurationError: 4 bit without an adapter; an adapter alone, saved or pushed, on a base whose weights were quantised
            before: its file would name the Hub's model, which has other weights.
    """
    if load_in_4bit and not args.use_peft:
        raise ConfigurationError("--load_in_4bit freezes the weights: it needs an adapter, --use_peft true.")
    if not args.use_peft or checkpoint.quantization is None:
        return
    why = (
        f"the weights of {checkpoint.name} here were {checkpoint.quantization} before: an adapter alone would not fit the Hub's."
    )
    if not args.merge_adapter:
        raise ConfigurationError(f"--merge_adapter false: {why} Leave the option out.")
    if hub_strategy != "end":
        raise ConfigurationError(f"--hub_strategy {hub_strategy} pushes adapters meanwhile: {why} Take end.")


def check_4bit(checkpoint: Checkpoint) -> None:
    """Whether 4 bit is possible here.

    Raises:
        ConfigurationError: There is no GPU or no bitsandbytes, or the weights come from a GGUF file.
    """
    if not torch.cuda.is_available():
        raise ConfigurationError("--load_in_4bit needs a CUDA GPU, and there is none. Leave the option out.")
    if checkpoint.gguf_file:
        raise ConfigurationError(
            f"--load_in_4bit: the weights of {checkpoint.name} here come from a GGUF file, which cannot be quantised again; "
            "uninstall that package to take those of the Hub."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigurationError("--load_in_4bit needs bitsandbytes: pip install bitsandbytes.")
