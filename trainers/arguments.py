"""The options that every recipe shares, in four groups: data, model, adapter, training."""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, DistributedType, PartialState
from transformers import TrainingArguments

from .parser import ConfigurationError
from .precision import supports_bf16

DEFAULT_ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_LANGUAGE_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


@dataclass
class DataArguments:
    """Which data, and how it is split."""

    _argument_group_name = "data"

    dataset_name: str = field(
        default="sample_school", metadata={"help": "built-in data set, or a Hub id with a slash (user/essays)"}
    )
    dataset_revision: str | None = field(default=None, metadata={"help": "revision of a Hub data set"})
    data_dir: str | None = field(
        default=None, metadata={"help": "folder with the public data sets; else the environment variable EDU_DATA_DIR"}
    )
    train_file: str | None = field(
        default=None, metadata={"help": "your own csv, tsv, json, jsonl or parquet file (.gz too); replaces dataset_name"}
    )
    validation_file: str | None = field(default=None, metadata={"help": "cut from the training file where not given"})
    test_file: str | None = field(default=None, metadata={"help": "cut from the training file where not given"})
    file_encoding: str | None = field(default=None, metadata={"help": "encoding of your files; found out where not given"})
    separator: str | None = field(default=None, metadata={"help": "separator of your csv; found out where not given"})
    skip_bad_rows: bool = field(
        default=False, metadata={"help": "leave rows that cannot be used out and list them, instead of stopping"}
    )
    streaming: bool = field(
        default=False, metadata={"help": "keep rows and tokens on disk and a block of them in memory: for files of any size"}
    )
    preprocessing_num_workers: int | None = field(default=None, metadata={"help": "processes that turn texts into tokens"})
    split_by: str | None = field(
        default=None, metadata={"help": "a column of your file whose values stay on one side of a split (class, school)"}
    )
    fold: int = field(default=0, metadata={"help": "which fold of a data set with published folds"})
    split_seed: int = field(default=42, metadata={"help": "seed of the split; --seed is that of the training"})
    max_train_samples: int | None = field(default=None, metadata={"help": "use a random part of training, for a trial"})
    max_eval_samples: int | None = field(default=None, metadata={"help": "use a random part of validation and test"})
    subgroup_columns: list[str] = field(
        default_factory=list, metadata={"help": "columns that say which group a learner is in, kept for fairness tables"}
    )
    check_data: bool = field(
        default=False, metadata={"help": "read, check, split, count, estimate the cost, and stop before training"}
    )


@dataclass
class AnswerLogArguments:
    """The columns of a log with an answer a row, which a trained model reads."""

    _argument_group_name = "answer log"

    learner_column: str = field(default="learner", metadata={"help": "column that names the learner"})
    correct_column: str = field(default="correct", metadata={"help": "column with 1 or 0 (true or false)"})
    concept_column: str | None = field(default="concepts", metadata={"help": "column with the concepts, separated by ';'"})
    question_column: str | None = field(default=None, metadata={"help": "column that names the question, or holds it"})
    time_column: str | None = field(default=None, metadata={"help": "column with the time: seconds, or a date with a time"})
    sort_by_time: bool = field(default=False, metadata={"help": "sort a learner's answers by time instead of refusing disorder"})


@dataclass
class ModelArguments:
    """Which checkpoint, and how it is built."""

    _argument_group_name = "model"

    model_name_or_path: str = field(
        default=DEFAULT_ENCODER, metadata={"help": "a folder or a Hub id; the default needs no Hub with the extra 'offline'"}
    )
    model_revision: str = field(default="main", metadata={"help": "branch, tag or commit on the Hub"})
    trust_remote_code: bool = field(default=False, metadata={"help": "run code that the model's repository brings"})
    dropout: float = field(
        default=0.0, metadata={"help": "dropout of hidden states; 0 suits regression and is a quarter faster on CPU"}
    )
    attention_dropout: float = field(
        default=0.0, metadata={"help": "dropout of attention weights; above 0 it halves the speed on CPU"}
    )
    attn_implementation: str | None = field(
        default=None, metadata={"help": "eager, sdpa, flash_attention_2 ...; the fastest for the device where not given"}
    )

    def __post_init__(self):
        wanted, device = self.attn_implementation or "", torch.cuda.is_available()
        if wanted.startswith("flash_attention") and not device:
            raise ConfigurationError(f"--attn_implementation {wanted} needs a GPU, and there is none. Leave the option out.")
        if wanted == "flash_attention_2" and importlib.util.find_spec("flash_attn") is None:
            raise ConfigurationError(f"--attn_implementation {wanted} needs flash-attn: pip install flash-attn.")


@dataclass
class AdapterArguments:
    """LoRA, with the names of trl's ModelConfig."""

    _argument_group_name = "adapter (LoRA)"

    use_peft: bool = field(default=False, metadata={"help": "train a LoRA adapter instead of all weights"})
    lora_r: int = field(default=16, metadata={"help": "rank"})
    lora_alpha: int = field(default=32, metadata={"help": "scale; the update is multiplied by lora_alpha / lora_r"})
    lora_dropout: float = field(default=0.0, metadata={"help": "dropout in front of the adapter"})
    lora_target_modules: list[str] = field(
        default_factory=lambda: ["all-linear"], metadata={"help": "modules that get an adapter"}
    )
    use_rslora: bool = field(default=False, metadata={"help": "scale by lora_alpha / sqrt(lora_r) (Kalajdzievski 2023)"})
    use_dora: bool = field(default=False, metadata={"help": "learn magnitude and direction apart (Liu et al. 2024)"})
    merge_adapter: bool = field(
        default=True, metadata={"help": "save the model with the adapter merged in; false saves the adapter alone"}
    )

    def merges(self) -> bool:
        """Whether a whole model is saved: always, but for an adapter that is to stay alone."""
        return self.merge_adapter or not self.use_peft

    def __post_init__(self):
        if self.lora_r < 1:
            raise ConfigurationError(f"--lora_r is {self.lora_r}; expected a whole number from 1 on.")
        if not 0 <= self.lora_dropout < 1:
            raise ConfigurationError(f"--lora_dropout is {self.lora_dropout}; expected 0 to below 1.")


@dataclass
class RecipeTrainingArguments(TrainingArguments):
    """transformers' TrainingArguments with a precision that fits the device, early stopping, folds and a search.

    Differs from TrainingArguments in these defaults: output_dir, eval_strategy and save_strategy 'epoch',
    load_best_model_at_end, save_total_limit 2, warmup_steps 0.1 (a share), logging_steps 10, hub_strategy 'end'.
    """

    _argument_group_name = "training (transformers' TrainingArguments and ours)"

    output_dir: str = field(default="runs/recipe", metadata={"help": "where everything that comes out is written"})
    eval_strategy: str = field(default="epoch", metadata={"help": "no, steps or epoch"})
    save_strategy: str = field(default="epoch", metadata={"help": "no, steps, epoch or best"})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "keep the checkpoint that was best on validation"})
    save_total_limit: int | None = field(default=2, metadata={"help": "how many checkpoints stay on disk"})
    warmup_steps: float = field(default=0.1, metadata={"help": "warm-up steps; a number below 1 is a share of all steps"})
    logging_steps: float = field(default=10, metadata={"help": "log every so many steps"})
    per_device_train_batch_size: int = field(default=16, metadata={"help": "examples a device and step"})
    per_device_eval_batch_size: int = field(default=16, metadata={"help": "examples a device and evaluation step"})
    precision: str = field(
        default="auto",
        metadata={"help": "auto, bf16, fp16 or fp32; auto takes bf16 where the device computes it natively, CPU too",
                  "choices": ["auto", "bf16", "fp16", "fp32"]},
    )  # fmt: skip
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "stop after so many evaluations without a better validation metric"}
    )
    cv_folds: int = field(
        default=0, metadata={"help": "cross-validate on so many folds of train and validation first; test is not in them"}
    )
    hp_search: int = field(default=0, metadata={"help": "try so many settings on validation first (extra 'search')"})
    group_lengths: bool = field(
        default=True, metadata={"help": "batches of similar length, in random order; false batches at random"}
    )

    head_learning_rate: float | None = field(
        default=None, metadata={"help": "learning rate of the layers that were not pretrained; learning_rate if not given"}
    )
    keep_checkpoints: bool = field(
        default=False, metadata={"help": "keep the checkpoints of a finished run (they are for resuming)"}
    )
    hub_strategy: str = field(
        default="end", metadata={"help": "end, or every_save: weights of each checkpoint go to the branch training meanwhile"}
    )
    verify_push: bool = field(
        default=False, metadata={"help": "load what was pushed in a fresh process and fail if it predicts otherwise"}
    )

    def __post_init__(self):
        if self.precision not in ("auto", "bf16", "fp16", "fp32"):
            raise ConfigurationError(f"--precision is {self.precision!r}; expected auto, bf16, fp16 or fp32.")
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"--{name} is {getattr(self, name)}; expected a whole number from 1 on.")
        if not 0 < self.learning_rate < math.inf:
            raise ConfigurationError(f"--learning_rate is {self.learning_rate}; expected a number above 0.")
        if self.num_train_epochs <= 0 and self.max_steps <= 0:
            raise ConfigurationError(f"--num_train_epochs is {self.num_train_epochs}; expected a number above 0.")
        if self.early_stopping_patience is not None and self.early_stopping_patience < 1:
            raise ConfigurationError(f"--early_stopping_patience is {self.early_stopping_patience}; expected 1 or more.")
        for name in ("cv_folds", "hp_search"):
            if getattr(self, name) < 0 or (name == "cv_folds" and self.cv_folds == 1):
                raise ConfigurationError(f"--{name} is {getattr(self, name)}; expected 0 or a larger number.")
        if not torch.cuda.is_available() and not getattr(torch.backends, "mps", torch).is_available():
            self.use_cpu = True
        self.set_precision()
        self.check_kernels()
        if self.use_cpu and self.ddp_backend is None and int(os.environ.get("WORLD_SIZE", 1)) > 1:
            self.ddp_backend = "gloo"
        if self.hub_strategy not in ("end", "every_save"):
            raise ConfigurationError(
                f"--hub_strategy is {self.hub_strategy!r}; expected end or every_save. Whole checkpoints are not published: "
                "the states of optimizer and scheduler are pickles."
            )
        if self.verify_push and not self.push_to_hub:
            raise ConfigurationError("--verify_push looks at what --push_to_hub published: give both.")
        below_a_file = next((p for p in Path(self.output_dir).absolute().parents if p.exists() and not p.is_dir()), None)
        if below_a_file or Path(self.output_dir).is_file():
            raise ConfigurationError(
                f"--output_dir {self.output_dir} cannot be a folder: {below_a_file or self.output_dir} is a file."
            )
        super().__post_init__()

    def check_kernels(self) -> None:
        """Whether what `--use_liger_kernel` and `--torch_compile` need is here; else they would end a run after minutes."""
        if self.use_liger_kernel and importlib.util.find_spec("liger_kernel") is None:
            raise ConfigurationError("--use_liger_kernel needs liger-kernel: pip install liger-kernel, or leave the option out.")
        if self.use_liger_kernel and self.use_cpu:
            raise ConfigurationError("--use_liger_kernel needs a GPU, and there is none. Leave the option out.")
        if self.torch_compile_mode or self.torch_compile_backend:
            self.torch_compile = True
        compiles = self.torch_compile and self.torch_compile_backend in (None, "inductor")
        if compiles and self.use_cpu and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "g++", "clang++"))):
            raise ConfigurationError("--torch_compile needs a C++ compiler on CPU (g++ or clang++), and there is none.")

    def set_precision(self) -> None:
        """Take the precision that fits the device where it is 'auto'; set transformers' own options for it."""
        if self.precision == "auto":
            self.precision = "bf16" if supports_bf16(self.use_cpu) else "fp32"
        self.bf16, self.fp16 = self.precision == "bf16", self.precision == "fp16"
        self.mixed_precision = {"fp32": "no"}.get(self.precision, self.precision)  # what the Trainer reads
        # an earlier trainer of this process may have left the state of another precision, or of a model that was cut
        AcceleratorState._reset_state()
        shared = PartialState._shared_state
        if shared.get("distributed_type") == DistributedType.FSDP:
            on_cpu = shared["device"].type == "cpu"
            shared["distributed_type"] = DistributedType.MULTI_CPU if on_cpu else DistributedType.MULTI_GPU
