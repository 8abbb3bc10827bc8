"""A trained model as an ONNX file, run by onnxruntime in the place of the torch model: smaller, faster on a CPU, without torch's
kernels. Exported by recipes/export_onnx.py.

Needs the extra onnx: pip install 'edu-recipes[onnx]'.
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedConfig
from transformers.utils import ModelOutput

from .models.knowledge_tracing import KnowledgeTracingModel
from .parser import ConfigurationError

FILE_NAME = "model.onnx"
FACTS = "onnx.json"
TOLERANCE = 1e-4
"""How far an exported model may be from the torch model, in its outputs."""
LENGTHS = ((1, 5), (3, 40), (2, 97))
"""Batches (rows, tokens or steps) on which both are compared."""
BESIDE = (
    "edu_recipes.json", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt", "*.model", "hybrid.*",
    "catalogue.*", "openings.json", "reference.json", "reranker/*",
)  # fmt: skip
"""What a folder with an ONNX file needs of the model's folder."""


# ---- running --------------------------------------------------------------------------------------------------------


class OnnxModel:
    """Called as the torch model is, and gives its outputs by name; always on the CPU.

    Args:
        path: The ONNX file.
        config: The model's configuration.
    """

    device = torch.device("cpu")

    def __init__(self, path: Path, config: PreTrainedConfig):
        require("onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its own kinds, and what protobuf raises for a damaged file
            first = str(error).strip().split("\n")[0][:200]
            raise ConfigurationError(f"onnxruntime could not load {path.name}: {first}. Export the model again.") from error
        self.config = config
        self.reads = [given.name for given in self.session.get_inputs()]
        self.gives = [given.name for given in self.session.get_outputs()]

    def __call__(self, **inputs: Any) -> ModelOutput:
        """The outputs for these inputs (tensors); inputs that the graph does not read are left out."""
        if "before" in self.reads:  # of a tracer
            inputs["before"] = KnowledgeTracingModel.visible_answers(inputs["concepts"].shape[1], inputs.get("num_queries", 0))
        found = self.session.run(self.gives, {name: inputs[name].numpy() for name in self.reads})
        return ModelOutput(zip(self.gives, map(torch.from_numpy, found), strict=True))

    def eval(self) -> OnnxModel:
        """Itself: there is nothing to train."""
        return self

    def float(self) -> OnnxModel:
        """Itself."""
        return self

    def to(self, device: Any) -> OnnxModel:
        """Itself, which stays on the CPU."""
        return self


def find_onnx(folder: str | Path) -> Path | None:
    """The ONNX file of a folder that `export_model` wrote; None for any other folder, or a name on the Hub."""
    path = Path(folder) / FILE_NAME
    return path if path.is_file() and not (Path(folder) / "model.safetensors").is_file() else None


def require(package: str) -> None:
    """Raise a `ConfigurationError` that says how to install what is missing."""
    if importlib.util.find_spec(package) is None:
        raise ConfigurationError(f"this needs {package}: pip install 'edu-recipes[onnx]'.")


# ---- exporting ------------------------------------------------------------------------------------------------------


@dataclass
class Graph:
    """What is exported.

    Attributes:
        module: Called with the inputs by name; gives a tensor for each of `outputs`.
        inputs: Name -> its dtype and its axes, of which 'rows' and 'length' vary.
        outputs: Names.
        most: Ids are below this number.
    """

    module: nn.Module
    inputs: dict[str, tuple[torch.dtype, tuple[str | int, ...]]]
    outputs: tuple[str, ...]
    most: int

    def example(self, rows: int, length: int, seed: int = 0) -> dict[str, torch.Tensor]:
        """Inputs of nobody, the last row half as long as the others."""
        random = torch.Generator().manual_seed(seed)
        size, batch = {"rows": rows, "length": length}, {}
        for name, (dtype, axes) in self.inputs.items():
            shape = [size.get(axis, axis) for axis in axes]
            if dtype is torch.float32:
                batch[name] = torch.randn(shape, generator=random)
            elif name == "attention_mask":
                batch[name] = torch.ones(shape, dtype=dtype)
                batch[name][-1, (length + 1) // 2 :] = 0
            elif name == "before":
                batch[name] = KnowledgeTracingModel.visible_answers(length, length // 3)
            else:
                most = {"correct": 2, "token_type_ids": 2}.get(name, self.most)
                batch[name] = torch.randint(0, most, shape, generator=random)
        return batch


class _Reading(nn.Module):
    """A model of texts whose outputs of these names are a tuple."""

    def __init__(self, model: nn.Module, outputs: Sequence[str]):
        super().__init__()
        self.model, self.outputs = model, outputs

    def forward(self, input_ids, attention_mask, token_type_ids=None) -> tuple[torch.Tensor, ...]:
        more = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        given = self.model(input_ids=input_ids, attention_mask=attention_mask, **more)
        return tuple(given[name] for name in self.outputs)


class _Predicting(nn.Module):
    """A model of records."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, numbers, categories) -> tuple[torch.Tensor, ...]:
        return (self.model(numbers, categories).logits,)


class _Tracing(nn.Module):
    """A tracer that is told how many answers each step sees, so that answers and questions go through one graph."""

    def __init__(self, model: KnowledgeTracingModel):
        super().__init__()
        self.members = model.members

    def forward(self, concepts, correct, questions, features, before) -> tuple[torch.Tensor, ...]:
        each = [member(concepts, correct, questions, features, 0, before) for member in self.members]
        return (torch.stack(each).mean(dim=0),)


def graph_of(task: str, predictor: Any) -> Graph:
    """What of a trained predictor is exported.

    Args:
        task: The recipe.
        predictor: What its `load` gives.

    Raises:
        ConfigurationError: Models of this recipe, or of this kind, are not exported.
    """
    model, text = predictor.model, {n: (torch.int64, ("rows", "length")) for n in ("input_ids", "attention_mask")}
    if isinstance(model, OnnxModel):
        raise ConfigurationError("the model is an ONNX file already.")
    if task == "knowledge_tracing":
        config, steps = model.config, ("rows", "length")
        inputs = {
            "concepts": (torch.int64, (*steps, predictor.settings.concepts_per_step)), "correct": (torch.int64, steps),
            "questions": (torch.int64, steps), "features": (torch.float32, (*steps, config.num_features)),
            "before": (torch.int64, ("length",)),
        }  # fmt: skip
        most = 1 + min(config.num_concepts, config.num_questions or config.num_concepts)
        return Graph(_Tracing(model), inputs, ("logits",), most)
    if task == "outcome_prediction" and predictor.settings.encoding == "numeric":
        settings = predictor.settings
        inputs = {
            "numbers": (torch.float32, ("rows", len(settings.number_columns))),
            "categories": (torch.int64, ("rows", len(settings.category_columns))),
        }
        return Graph(_Predicting(model), inputs, ("logits",), 1 + min(map(len, settings.category_values), default=0))
    if task == "resource_recommendation" and predictor.settings.architecture == "sequential":
        raise ConfigurationError("a sequential recommender is small: it is not exported; --architecture encoder is.")
    if task not in ("essay_scoring", "outcome_prediction", "question_answering", "resource_recommendation"):
        raise ConfigurationError(
            f"models of {task} are not exported to ONNX; those of essay_scoring, question_answering, resource_recommendation "
            "(encoder), outcome_prediction and knowledge_tracing are. For a language model use a GGUF converter and llama.cpp."
        )
    if task == "question_answering" and "token_type_ids" in predictor.tokenizer.model_input_names:
        text["token_type_ids"] = text["input_ids"]
    names = {"question_answering": ("start_logits", "end_logits"), "resource_recommendation": ("last_hidden_state",)}
    outputs = names.get(task, ("logits",))
    if hasattr(model, "set_attn_implementation"):
        model.set_attn_implementation("eager")
    return Graph(_Reading(model, outputs), text, outputs, model.config.vocab_size)


def export_model(graph: Graph, path: Path) -> float:
    """Write an ONNX file whose rows and lengths vary, and compare it with the torch model.

    Returns:
        The largest difference of an output.

    Raises:
        ConfigurationError: It cannot be exported, or gives other outputs.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        require(package)
    batch = graph.example(3, 11)
    axes = {"rows": torch.export.Dim("rows"), "length": torch.export.Dim("length")}
    shapes = {
        name: {i: axes[a] for i, a in enumerate(own) if a in axes} for name, (_, own) in graph.inputs.items()
    }  # fmt: skip
    try:
        with _quietly():
            torch.onnx.export(
                graph.module.eval(), (), str(path), kwargs=batch, input_names=list(batch), output_names=list(graph.outputs),
                dynamic_shapes=shapes, dynamo=True, external_data=False, verbose=False, optimize=True,
            )  # fmt: skip
    except Exception as error:  # torch.export raises many kinds
        first = " ".join(str(error).split())[:300]
        raise ConfigurationError(f"this architecture cannot be exported: {type(error).__name__}: {first}") from error
    difference = largest_difference(graph, path)
    if not difference <= TOLERANCE:
        raise ConfigurationError(f"the exported model gives other outputs than the torch model: {difference:.1e} apart.")
    return difference


@torch.no_grad()
def largest_difference(graph: Graph, path: Path) -> float:
    """The largest difference of an output of the file from the torch model, on batches of several shapes."""
    exported, worst = OnnxModel(path, PreTrainedConfig()), 0.0
    for seed, (rows, length) in enumerate(LENGTHS):
        batch = graph.example(rows, length, seed)
        ours = graph.module(**batch)
        run = exported.session.run(list(graph.outputs), {name: batch[name].numpy() for name in exported.reads})
        mask = batch["attention_mask"].bool() if "attention_mask" in batch else None  # what stands on padding is read by nobody
        for a, b in zip(ours, map(torch.from_numpy, run), strict=True):
            gap = (a - b).abs()
            if mask is not None and gap.shape[:2] == mask.shape:
                gap = gap[mask]
            worst = max(worst, float(gap.max()))
    return worst


def quantize(path: Path, reduce_range: bool = False) -> None:
    """Hold the weights of an ONNX file as int8, a scale a channel; activations are quantised as they come (dynamic).

    Args:
        path: The file, in place.
        reduce_range: 7 bits a weight, for processors that add up int8 products in 16 bits (x86 without VNNI).
    """
    require("onnxruntime")
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, _quietly():
        small = Path(folder) / FILE_NAME
        quantize_dynamic(path, small, per_channel=True, reduce_range=reduce_range, weight_type=QuantType.QInt8)
        shutil.copy(small, path)


def copy_beside(source: Path, target: Path) -> None:
    """Copy what predicting needs beside the weights: see `BESIDE`."""
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        name = path.relative_to(source).as_posix()
        if any(fnmatch(name, pattern) for pattern in BESIDE):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target / name)


def largest_changes(before: dict[str, Sequence], after: dict[str, Sequence]) -> dict[str, float]:
    """How far two tables of predictions are apart, column by column.

    Returns:
        Of numbers the largest difference; of anything else the share of rows that differ.
    """
    changes = {}
    for name, values in before.items():
        a, b = np.asarray(values), np.asarray(after[name])
        if a.shape != b.shape:  # lists of another length
            changes[name] = 1.0
        elif a.dtype.kind in "fiu":
            gaps = np.abs(a.astype(float) - b.astype(float))
            changes[name] = float(np.nanmax(gaps)) if len(gaps) else 0.0
        else:
            changes[name] = float(np.mean(a.astype(str) != b.astype(str))) if len(a) else 0.0
    return changes


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what exporters and quantisers log of their own doing."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
