"""Tiny models built from a config, the recipes as modules, and the marker for real data."""

import importlib.util
import json
import os
import re
import sys
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models; subprocesses too
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers and datasets read it
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from edu_datasets import load_dialogues, load_essays

ROOT = Path(__file__).parent.parent


def load_recipe(name: str, path: Path | None = None):
    """The module of recipes/<name>.py, or of a copy at `path`."""
    if (folder := str(ROOT / "recipes")) not in sys.path:
        sys.path.insert(0, folder)  # as Python does for a script
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", path or ROOT / "recipes" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def essay_scoring():
    return load_recipe("essay_scoring")


@pytest.fixture(scope="session")
def predict():
    return load_recipe("predict")


@pytest.fixture(scope="session")
def sample():
    return load_essays("sample_school")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory, sample) -> str:
    """A folder with a BERT of two small layers, random weights, and a tokenizer of 500 word pieces."""
    folder = tmp_path_factory.mktemp("tiny_model")
    # the commonest words and all letters: unlike a trained vocabulary, the same in every process
    words = Counter(w for text in sample.splits["train"]["text"] for w in re.findall(r"\w+|[^\w\s]", text.lower()))
    letters = sorted({c for word in words for c in word})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *letters, *(f"##{c}" for c in letters), *sorted(words, key=lambda w: (-words[w], w))]
    vocabulary = {piece: i for i, piece in enumerate(list(dict.fromkeys(pieces))[:500])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(t, vocabulary[t]) for t in ("[CLS]", "[SEP]")],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=256,
    )  # fmt: skip
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(fast), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=256, initializer_range=0.3,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return str(folder)


CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""SmolLM2's chat template, but for the system turn that it adds where there is none; it marks no replies."""


def chat_tokenizer(template: str | None = CHATML, special: tuple[str, ...] = (), words: int = 150) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer whose merges spell the commonest words of the sample's dialogues; the same in every process."""
    turns = [turn["text"] for row in load_dialogues("sample_school").splits["train"]["turns"] for turn in row]
    counts = Counter(w for text in turns for w in re.findall(r" [a-z]+", text))
    common = sorted(counts, key=lambda w: (-counts[w], w))[:words]
    merges: dict[tuple[str, str], None] = {}
    for word in common:
        letters = word.replace(" ", "Ġ")
        merges |= {(letters[:i], letters[i]): None for i in range(1, len(letters))}
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *special)
    pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(a + b for a, b in merges)]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocabulary, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(special))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=template
    )


def tiny_llama(tokenizer: PreTrainedTokenizerFast, **options) -> LlamaForCausalLM:
    """Two small layers with grouped heads and random weights, in evaluation mode."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=64, max_position_embeddings=2048, initializer_range=0.1, tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=None, eos_token_id=tokenizer.eos_token_id, **options,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def tiny_chat_model(tmp_path_factory) -> str:
    """A folder with a small causal language model and a tokenizer with a chat template."""
    folder, tokenizer = tmp_path_factory.mktemp("tiny_chat_model"), chat_tokenizer()
    tokenizer.save_pretrained(folder)
    tiny_llama(tokenizer).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, essay_scoring, tiny_model) -> Path:
    """What the essay recipe leaves behind."""
    out = tmp_path_factory.mktemp("finished") / "run"
    metrics = essay_scoring.main(
        ["--model_name_or_path", tiny_model, "--output_dir", str(out), "--num_train_epochs", "2", "--disable_tqdm", "true"]
    )
    assert metrics == json.loads((out / "metrics.json").read_text())
    return out


@pytest.fixture(scope="session")
def finished_tracer(tmp_path_factory) -> Path:
    """A whole run of knowledge tracing on the sample school."""
    out = tmp_path_factory.mktemp("finished") / "tracer"
    load_recipe("knowledge_tracing").main(
        ["--output_dir", str(out), "--num_train_epochs", "2", "--hidden_size", "16", "--disable_tqdm", "true"]
    )
    return out


@pytest.fixture(scope="session")
def finished_predictor(tmp_path_factory) -> Path:
    """A whole run of outcome prediction on the sample school."""
    out = tmp_path_factory.mktemp("finished") / "predictor"
    load_recipe("outcome_prediction").main(
        ["--output_dir", str(out), "--num_train_epochs", "2", "--hidden_size", "16", "--disable_tqdm", "true"]
    )
    return out


@pytest.fixture(scope="session")
def finished_path(tmp_path_factory, tiny_model) -> Path:
    """A whole run of learning paths on the sample school: both models."""
    out = tmp_path_factory.mktemp("finished") / "path"
    load_recipe("learning_path").main(
        ["--model_name_or_path", tiny_model, "--output_dir", str(out), "--num_train_epochs", "2", "--pair_epochs", "2",
         "--train_learners", "400", "--judged_learners", "20", "--judge_seeds", "3", "--hidden_size", "16", "--steps", "8",
         "--disable_tqdm", "true"]
    )  # fmt: skip
    return out


@pytest.fixture(scope="session")
def finished_recommender(tmp_path_factory, tiny_model) -> Path:
    """A whole run of resource recommendation for the topics of the sample school."""
    out = tmp_path_factory.mktemp("finished") / "recommender"
    load_recipe("resource_recommendation").main(
        ["--model_name_or_path", tiny_model, "--output_dir", str(out), "--num_train_epochs", "1", "--disable_tqdm", "true"]
    )
    return out


@pytest.fixture(scope="session")
def finished_tutor(tmp_path_factory, tiny_chat_model) -> Path:
    """A whole run of tutoring on the sample school."""
    out = tmp_path_factory.mktemp("finished") / "tutor"
    load_recipe("qa_tutoring").main(
        ["--model_name_or_path", tiny_chat_model, "--output_dir", str(out), "--num_train_epochs", "2", "--disable_tqdm", "true",
         "--precision", "fp32", "--max_length", "2048", "--max_new_tokens", "24", "--asked_moves", "4",
         "--simulated_students", "4"]
    )  # fmt: skip
    return out


@pytest.fixture(scope="session")
def finished_writer(tmp_path_factory, tiny_chat_model) -> Path:
    """A whole run of content generation on the sample school."""
    out = tmp_path_factory.mktemp("finished") / "writer"
    load_recipe("content_generation").main(
        ["--model_name_or_path", tiny_chat_model, "--output_dir", str(out), "--num_train_epochs", "2", "--disable_tqdm", "true",
         "--precision", "fp32", "--max_length", "1600", "--max_new_tokens", "24", "--candidates", "4", "--test_questions", "24",
         "--ranking_questions", "8"]
    )  # fmt: skip
    return out


@pytest.fixture(scope="session")
def finished_histories(tmp_path_factory, tiny_model) -> Path:
    """A whole run of resource recommendation for the learners of the sample school."""
    out = tmp_path_factory.mktemp("finished") / "histories"
    load_recipe("resource_recommendation").main(
        ["--query", "history", "--model_name_or_path", tiny_model, "--output_dir", str(out), "--num_train_epochs", "4",
         "--disable_tqdm", "true"]
    )  # fmt: skip
    return out


@pytest.fixture(scope="session")
def finished_reader(tmp_path_factory, tiny_model) -> Path:
    """A whole run of question answering on the sample school."""
    out = tmp_path_factory.mktemp("finished") / "reader"
    load_recipe("question_answering").main(
        ["--model_name_or_path", tiny_model, "--output_dir", str(out), "--num_train_epochs", "2", "--max_length", "256",
         "--also_test_on", "sample_school", "--disable_tqdm", "true"]
    )  # fmt: skip
    return out


LONGEST = (
    "test_publishing", "test_learning_path", "test_resource_recommendation", "test_content_generation", "test_qa_tutoring",
    "test_question_answering",
)  # files that take minutes begin first, so that no worker waits for one of them at the end  # fmt: skip


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="fuzz and faults in full: thousands of examples, half an hour")


def pytest_terminal_summary(terminalreporter):
    counts = [v for report in terminalreporter.getreports("passed") for name, v in report.user_properties if name == "count"]
    if counts:
        terminalreporter.section("counts")
        terminalreporter.write_line("\n".join(counts))


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(name) if (name := item.path.stem) in LONGEST else len(LONGEST))
    for item in items:
        if item.get_closest_marker("real_data") and not os.environ.get("EDU_DATA_DIR"):
            item.add_marker(pytest.mark.skip(reason="needs the public data sets: set EDU_DATA_DIR"))
