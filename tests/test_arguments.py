"""Options that make a training faster or smaller: the same model comes out, or one message says what is missing."""

import importlib.util
import shutil

import pytest
import torch
from conftest import load_recipe
from safetensors.torch import load_file
from transformers import AttentionInterface, modeling_utils
from transformers.masking_utils import AttentionMaskInterface

from trainers.arguments import ModelArguments, RecipeTrainingArguments
from trainers.language_models.packing import packed_attention, packed_mask
from trainers.parser import ConfigurationError

SHORT = [
    "--optim", "sgd", "--max_grad_norm", "0", "--precision", "fp32", "--num_train_epochs", "1", "--max_train_samples", "24",
    "--max_eval_samples", "8", "--disable_tqdm", "true",
]  # fmt: skip
ESSAYS = ["--learning_rate", "0.05", "--max_length", "48", "--gaming_essays", "0", "--group_lengths", "false"]
TUTOR = [
    "--learning_rate", "0.5", "--max_length", "512", "--max_new_tokens", "8", "--use_peft", "false", "--test_replies", "2",
    "--instruction", "Tutor.", "--asked_moves", "0", "--simulated_students", "0",
]  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory, tiny_model, tiny_chat_model):
    """What a recipe makes of the sample school with these options."""

    def train(recipe: str, *more: str) -> dict[str, torch.Tensor]:
        folder = tmp_path_factory.mktemp("run")
        model, words = {"essay_scoring": (tiny_model, ESSAYS), "qa_tutoring": (tiny_chat_model, TUTOR)}[recipe]
        load_recipe(recipe).main(["--model_name_or_path", model, "--output_dir", str(folder), *words, *SHORT, *more])
        return load_file(folder / "model.safetensors")

    return train


@pytest.fixture(scope="module")
def plain(weights):
    return {recipe: weights(recipe) for recipe in ("essay_scoring", "qa_tutoring")}


def same(one: dict, two: dict) -> bool:
    return one.keys() == two.keys() and all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


@pytest.mark.parametrize("recipe", ["essay_scoring", "qa_tutoring"])
def test_activations_computed_anew_give_the_same_model(recipe, weights, plain, monkeypatch):
    anew, checkpoint = [], modeling_utils.checkpoint
    monkeypatch.setattr(modeling_utils, "checkpoint", lambda *args, **kwargs: anew.append(1) or checkpoint(*args, **kwargs))
    assert same(weights(recipe, "--activation_checkpointing", "true"), plain[recipe]) and anew


def test_a_compiled_model_is_the_same_model(weights, plain, monkeypatch):
    """With the backend that needs no compiler."""
    compiled, of = [], torch.compile
    monkeypatch.setattr(torch, "compile", lambda model, **options: compiled.append(options["backend"]) or of(model, **options))
    words = ["--torch_compile", "true", "--torch_compile_backend", "eager"]
    assert same(weights("essay_scoring", *words), plain["essay_scoring"]) and "eager" in str(compiled)


def test_flash_attention_trains_packed_and_is_left_for_the_evaluation(weights, plain, monkeypatch):
    """A stand-in that refuses float32 outside of autocast, as flash attention does; it computes what the packed one does."""
    called = []

    def half_alone(module, query, key, value, attention_mask, **kwargs):
        called.append(kwargs["position_ids"].shape[1])
        if (query.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")) or attention_mask is not None:
            raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
        return packed_attention(module, query, key, value, None, **kwargs)

    AttentionInterface.register("flash_stand_in", half_alone)
    AttentionMaskInterface.register("flash_stand_in", packed_mask)
    monkeypatch.setattr(modeling_utils, "is_flash_attention_requested", lambda *args, **kwargs: False)
    words = ["--precision", "bf16", "--attn_implementation"]
    found, expected = (weights("qa_tutoring", *words, name) for name in ("flash_stand_in", "packed"))
    assert same(found, expected) and max(called) > 512, "a batch is one row"


# ---- what is missing ------------------------------------------------------------------------------------------------


def refused(make, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match) as error:
        make()
    assert error.value.exit_code == 2


def test_what_an_option_needs_and_is_not_there_is_one_message(monkeypatch, tmp_path, tiny_model):
    def options(**more):
        return lambda: RecipeTrainingArguments(output_dir=str(tmp_path), **more)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    refused(options(torch_compile=True), "C\\+\\+ compiler")
    assert options(torch_compile=True, torch_compile_backend="eager")().torch_compile
    refused(lambda: ModelArguments(attn_implementation="flash_attention_2"), "needs a GPU")
    find = importlib.util.find_spec
    for there, match in ((False, "pip install liger-kernel"), (True, "needs a GPU")):
        kernels = object() if there else None
        monkeypatch.setattr(importlib.util, "find_spec", lambda n, k=kernels: k if n == "liger_kernel" else find(n))
        refused(options(use_liger_kernel=True), match)


def test_activation_checkpointing_is_refused_where_a_model_cannot_do_it(tmp_path):
    words = ["--output_dir", str(tmp_path / "run"), "--activation_checkpointing", "true", "--max_train_samples", "16"]
    refused(lambda: load_recipe("knowledge_tracing").main(words), "--activation_checkpointing")
