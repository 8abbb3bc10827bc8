"""What recipes/benchmarks/memory.py computes of a training step."""

import importlib.util
import sys
from dataclasses import replace

import pytest
import torch
from conftest import ROOT


@pytest.fixture(scope="module")
def computed():
    spec = importlib.util.spec_from_file_location("memory", ROOT / "recipes/benchmarks/memory.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["memory"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def kind(computed):
    return computed.Kind("tiny", computed.llama(4, 64, 4, 2, 128, words=500), 2, 32)


def test_parameters_are_those_that_are_published(computed):
    published = {"all-MiniLM-L6-v2": 22.7e6, "deberta-v3-base": 184e6, "deberta-v3-large": 435e6, "SmolLM2-135M": 134.5e6,
                 "SmolLM2-360M": 362e6, "SmolLM2-1.7B": 1.71e9, "Llama-3.2-3B": 3.21e9, "Llama-3.1-8B": 8.03e9}  # fmt: skip
    for kind in computed.KINDS:
        assert computed.parameters(kind.config) == pytest.approx(published[kind.name], rel=0.01)


def test_a_step_takes_what_the_formula_says(computed, kind):
    count = computed.parameters(kind.config)
    full, lora, qlora = (computed.memory(kind, way) for way in ("full", "LoRA", "QLoRA"))
    assert (full["weights"], full["gradients"], full["optimizer"]) == (4 * count, 4 * count, 8 * count)
    rank, width, inner = computed.LORA_RANK, 64, 128
    adapter = 4 * rank * (2 * (width + width) + 2 * (width + 32) + 3 * (width + inner))  # layers x (q o, k v, gate up down)
    assert lora["gradients"] == 4 * adapter and lora["weights"] == full["weights"] + 4 * adapter
    assert qlora["weights"] < lora["weights"] and qlora["activations"] < lora["activations"]
    again = computed.memory(kind, "full, checkpointed")
    assert again["activations"] < full["activations"] and again["weights"] == full["weights"]


def test_activations_grow_with_the_batch_and_with_the_layers(computed, kind):
    one, two = (computed.memory(replace(kind, batch=n), "full", bf16=False)["activations"] for n in (2, 4))
    assert two == pytest.approx(2 * one, rel=0.02)
    three = computed.step(kind, 3, "full", True)["activations"]
    by_two = [computed.step(kind, n, "full", True)["activations"] for n in (1, 2)]
    assert three == 2 * by_two[1] - by_two[0], "a + b x layers"


def test_what_is_counted_is_what_autograd_keeps(computed):
    """A linear layer keeps its input, a GELU too, each storage once; weights are not counted again."""
    layer, states = torch.nn.Linear(8, 4), torch.zeros(16, 8)
    with computed.counted(layer) as kept:
        (torch.nn.functional.gelu(layer(states)).sum() + layer(states).sum()).backward()
    assert kept() == 4 * (16 * 8 + 16 * 4)
