"""A model that was cut over several devices to be trained, whole again on each of them to be judged and saved.

FSDP2 and ZeRO stage 3 leave a part of every weight on each device, in modules that only work when all processes call them
together. What comes after a training here (calibration, baselines, generation, the saved folder) takes a plain model.
"""

from __future__ import annotations

import contextlib
import copy

import torch
from accelerate import FullyShardedDataParallelPlugin
from torch import nn
from torch.distributed.tensor import DTensor

WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module")  # what compiling and checkpointing put into names


def layers_to_cut(model: nn.Module) -> list[str]:
    """The classes of the layers that FSDP2 gathers one after the other.

    They are the architecture's own (`_no_split_modules`), but for one around the table of words: accelerate cuts that table by
    itself, and what lies in a group already cannot be put into a second one.
    """
    words = model.get_input_embeddings()
    around = {type(m).__name__ for m in model.modules() if any(part is words for part in m.modules())}
    there = {type(m).__name__ for m in model.modules()}
    return sorted(set(getattr(model, "_no_split_modules", None) or ()) & there - around)


def choose_layers(plugin: FullyShardedDataParallelPlugin, model: nn.Module) -> None:
    """Tell accelerate which layers FSDP2 gathers: those that were named for this model, else its own (`layers_to_cut`)."""
    there = {type(m).__name__ for m in model.modules()}
    if not there & set(plugin.transformer_cls_names_to_wrap or ()):  # none, or those of an earlier model of this process
        plugin.transformer_cls_names_to_wrap = layers_to_cut(model)


def outline(model: nn.Module) -> nn.Module:
    """A copy of a model in which every parameter is empty; what is one parameter twice stays one."""
    empty = {id(p): nn.Parameter(p.new_empty(0), requires_grad=p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, empty)


@torch.no_grad()
def fill(outlined: nn.Module, sharded: nn.Module) -> nn.Module:
    """Put the weights of a sharded model into the `outline` that was made before; every process calls it and has them all.

    Args:
        outlined: From `outline`.
        sharded: The same model, trained, wrapped by FSDP2 or DeepSpeed.

    Returns:
        `outlined`, a plain model on the device of the weights.
    """
    weights = {_plain(name): p for name, p in sharded.named_parameters()}
    for name, parameter in outlined.named_parameters():
        parameter.data = _whole(weights[name])
    for name, buffer in sharded.named_buffers():
        owner, _, last = _plain(name).rpartition(".")
        setattr(outlined.get_submodule(owner), last, buffer.detach().clone())
    return outlined


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _whole(parameter: nn.Parameter) -> torch.Tensor:
    if isinstance(parameter, DTensor):
        return parameter.full_tensor().detach().clone()
    with contextlib.ExitStack() as gathered:
        if hasattr(parameter, "ds_id"):  # ZeRO stage 3
            import deepspeed

            gathered.enter_context(deepspeed.zero.GatheredParameters([parameter]))
        return parameter.detach().clone()
