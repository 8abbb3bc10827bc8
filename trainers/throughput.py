"""How fast a training runs, and how fast the device could: timed steps, counted tokens, needed arithmetic, the peak."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback

from .base import peak_memory_mib
from .batching import LengthBatchSampler
from .report import BASELINE_COLORS, MODEL_COLOR, pyplot, save_figure

logger = logging.getLogger(__name__)

PRODUCT_SIZES = ((2048, 2048, 2048), (4096, 4096, 4096), (4096, 384, 1536), (1024, 384, 1536))
"""Matrix products (rows, inner, columns): two large squares, and a batch of tokens through a feed-forward layer."""
FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
"""Vector and bf16 features of x86 and arm, as /proc/cpuinfo names them."""


# ---- the device -----------------------------------------------------------------------------------------------------


def processor_features() -> dict[str, Any]:
    """What measured: the processor's name, those of FEATURES it has, torch's threads, the GPU if any, library versions."""
    facts: dict[str, Any] = {"processor": platform.processor() or platform.machine(), "features": []}
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.is_file() else []:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            facts["processor"] = value.strip()
        elif key.strip() in ("flags", "Features"):
            facts["features"] = [f for f in FEATURES if f in value.split()]
    facts["threads"] = torch.get_num_threads()
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts | {name: importlib.metadata.version(name) for name in ("torch", "transformers", "accelerate")}


def matrix_product_peak(dtype: torch.dtype, sizes: Sequence[tuple[int, int, int]] = PRODUCT_SIZES, seconds: float = 1.0) -> float:
    """The most arithmetic the device does in matrix products, in FLOP/s: the highest median over the sizes.

    Args:
        dtype: Of both factors and of the product.
        sizes: (rows, inner, columns) of each product.
        seconds: Each size is repeated for so long, and five times at least.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rates = []
    for rows, inner, columns in sizes:
        a, b = (torch.randn(shape, device=device).to(dtype) for shape in ((rows, inner), (inner, columns)))
        times: list[float] = []
        for _ in range(2):  # the first product of a shape is slower
            a @ b
        while len(times) < 5 or sum(times) < seconds:
            start = now()
            a @ b
            times.append(now() - start)
        rates.append(2 * rows * inner * columns / median(times))
    return max(rates)


def measure_peaks() -> dict[str, float]:
    """The peak of matrix products in TFLOP/s, by precision."""
    return {name: matrix_product_peak(dtype) / 1e12 for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}


def now() -> float:
    """The clock in seconds, after the device has done all it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


# ---- the work -------------------------------------------------------------------------------------------------------


def training_flops(model: nn.Module, lengths: Sequence[int], once: Sequence[str] = ("pooler", "classifier", "score")) -> float:
    """FLOPs that forward and backward need: the useful work, whatever padding adds to it.

    Every weight of a linear layer costs 2 FLOPs a token forward and 4 backward, 2 of them only where it is trained. Attention
    adds two products of 2 x hidden size x length squared a layer and example forward, and twice that backward. Embeddings,
    norms, softmax and dropout are not counted.

    Args:
        model: A transformer; its config tells hidden_size and num_hidden_layers.
        lengths: Real tokens of each example, without padding.
        once: Names of modules that see one vector an example, not every token; they are not counted.
    """
    each = sum(
        m.weight.numel() * (6 if m.weight.requires_grad else 4)
        for n, m in model.named_modules()
        if isinstance(m, nn.Linear) and not set(once) & set(n.split("."))
    )
    squares = sum(length**2 for length in lengths)
    return float(each) * sum(lengths) + 12.0 * model.config.num_hidden_layers * model.config.hidden_size * squares


@dataclass
class CountingCollator:
    """A data collator that counts what goes through it.

    Attributes:
        collate: The collator that does the work; its batches have an attention_mask.
        samples: Examples so far.
        tokens: Real tokens so far.
        positions: Tokens and padding so far.
    """

    collate: Callable[[list[dict]], dict[str, torch.Tensor]]
    samples: int = 0
    tokens: int = 0
    positions: int = 0

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        batch = self.collate(rows)
        self.samples += len(rows)
        self.tokens += int(batch["attention_mask"].sum())
        self.positions += batch["attention_mask"].numel()
        return batch


class StepTimer(TrainerCallback):
    """Times the updates of the latest training, each from the end of the one before, so that collating is part of it.

    Args:
        warmup_steps: The first updates, which are not timed.

    Attributes:
        seconds: Of each timed update.
    """

    def __init__(self, warmup_steps: int = 0):
        self.warmup_steps = warmup_steps
        self.seconds: list[float] = []

    def on_train_begin(self, args, state, control, **kwargs):
        self.seconds, self._last = [], now()

    def on_step_end(self, args, state, control, **kwargs):
        before, self._last = self._last, now()
        if state.global_step > self.warmup_steps:
            self.seconds.append(self._last - before)


class GroupedTrainer(Trainer):
    """transformers' Trainer with nothing changed but the batches: of similar length, in random order."""

    def get_train_dataloader(self) -> DataLoader:
        lengths = [len(ids) for ids in self.train_dataset["input_ids"]]
        batches = LengthBatchSampler(lengths, self._train_batch_size, seed=self.args.seed)
        loader = DataLoader(self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator)
        return self.accelerator.prepare(loader)


def time_training(trainer: Trainer, warm_up: int) -> dict[str, float]:
    """Train on the first `warm_up` rows of `train_dataset`, then time an epoch of the rest.

    Returns:
        seconds, steps, samples, tokens (real ones), positions (tokens and padding), flops (see `training_flops`), and
        peak_memory_mib of the process.
    """
    rows = trainer.train_dataset
    trainer.remove_callback(PrinterCallback)
    trainer.train_dataset = rows.select(range(warm_up))
    trainer.train()
    trainer.train_dataset = rows.select(range(warm_up, len(rows)))
    trainer.data_collator = counter = CountingCollator(trainer.data_collator)
    trainer.add_callback(timer := StepTimer())
    trainer.train()
    lengths = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    return {
        "seconds": sum(timer.seconds), "steps": len(timer.seconds), "samples": counter.samples, "tokens": counter.tokens,
        "positions": counter.positions, "flops": training_flops(trainer.model, lengths), "peak_memory_mib": peak_memory_mib(),
    }  # fmt: skip


# ---- a ladder of ways to train --------------------------------------------------------------------------------------


def in_own_process(script: str, words: Sequence[str]) -> dict:
    """Run `script` with these words and `--result_file FILE`; the json that it writes there."""
    quiet = dict.fromkeys(("HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_PROGRESS_BARS"), "1")
    quiet["TRANSFORMERS_VERBOSITY"] = "error"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        command = [sys.executable, script, *words, "--result_file", str(file)]
        subprocess.run(command, check=True, env={**os.environ, **quiet})
        return json.loads(file.read_text(encoding="utf-8"))


def anonymous_memory_mib() -> float:
    """Memory of this process that no file backs, in MiB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


class MemoryCurve:
    """Reads `anonymous_memory_mib` again and again while the block runs.

    Attributes:
        mib: What was read.
    """

    def __init__(self, seconds: float = 0.05):
        self.seconds, self.mib, self._over = seconds, [anonymous_memory_mib()], threading.Event()

    def __enter__(self) -> MemoryCurve:
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def _read(self) -> None:
        while not self._over.wait(self.seconds):
            self.mib.append(anonymous_memory_mib())

    def __exit__(self, *error):
        self._over.set()
        self._thread.join()

    def thinned(self, points: int = 200) -> list[float]:
        """The highest of each of so many stretches of equal length."""
        return [round(float(max(part)), 1) for part in np.array_split(self.mib, points) if len(part)]


def load_script(path: Path) -> ModuleType:
    """A recipe as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def climb(rungs: Sequence[str], measure: Callable[[str, int], dict]) -> tuple[list[dict], list[dict]]:
    """Measure every rung in order, then in reverse, so that a slow drift of the machine meets all alike.

    Args:
        rungs: Names of the ways to train.
        measure: From a rung and the number of the pass, 0 or 1, to what `time_training` returns.

    Returns:
        The measurements in the order they were taken, with rung and pass, and the peaks before, between and after.
    """
    done, peaks = [], [measure_peaks()]
    for number, order in enumerate((rungs, rungs[::-1])):
        for rung in order:
            done.append({"rung": rung, "pass": number, **measure(rung, number)})
            logger.info("pass %d  %-24s %8.2f samples/s", number + 1, rung, done[-1]["samples"] / done[-1]["seconds"])
        peaks.append(measure_peaks())
    return done, peaks


def summarize(passes: Sequence[dict], peaks: Sequence[dict]) -> dict[str, dict]:
    """What `climb` measured, as rates.

    Returns:
        {"peak_tflops": {precision: {"median", "range"}}, "rungs": {rung: {"seconds": of each pass, "samples",
        "samples_per_second", "tokens_per_second" (real ones), "padding" (share of all positions), "tflops", "share_of_bf16_peak",
        "peak_memory_mib", "over_first", "over_second"}}}; the last two are factors in samples a second.
    """
    peak = {}
    for name in peaks[0]:
        values = [p[name] for p in peaks]
        peak[name] = {"median": median(values), "range": [min(values), max(values)]}
    rungs: dict[str, dict] = {}
    for rung in dict.fromkeys(p["rung"] for p in passes):
        own = [p for p in passes if p["rung"] == rung]
        total = {k: sum(p[k] for p in own) for k in ("seconds", "samples", "tokens", "positions", "flops")}
        tflops = total["flops"] / total["seconds"] / 1e12
        rungs[rung] = {
            "seconds": [p["seconds"] for p in own],
            "samples": total["samples"],
            "samples_per_second": total["samples"] / total["seconds"],
            "tokens_per_second": total["tokens"] / total["seconds"],
            "padding": 1 - total["tokens"] / total["positions"],
            "tflops": tflops,
            "share_of_bf16_peak": tflops / peak["bf16"]["median"],
            "peak_memory_mib": max(p["peak_memory_mib"] for p in own),
        }
    first, second = [r["samples_per_second"] for r in rungs.values()][:2]
    for r in rungs.values():
        r |= {"over_first": r["samples_per_second"] / first, "over_second": r["samples_per_second"] / second}
    return {"peak_tflops": peak, "rungs": rungs}


def throughput_table(rungs: dict[str, dict]) -> list[list[str]]:
    """The rungs of `summarize` for `report.as_markdown`; the first line is the header."""
    first, second = list(rungs)[:2]
    table = [["", "samples/s", "tokens/s", "padding", "TFLOP/s", "of bf16 peak", "MiB", f"x {first}", f"x {second}"]]
    for name, r in rungs.items():
        rates = [f"{r['samples_per_second']:.2f}", f"{r['tokens_per_second']:,.0f}", f"{r['padding']:.0%}"]
        work = [f"{r['tflops']:.3f}", f"{r['share_of_bf16_peak']:.0%}", f"{r['peak_memory_mib']:,.0f}"]
        table.append([name, *rates, *work, f"{r['over_first']:.1f}", f"{r['over_second']:.1f}"])
    return table


def draw_throughput(path: Path, rungs: dict[str, dict]) -> None:
    """A bar for each rung of `summarize`: samples a second, and the factor over the first rung."""
    plt = pyplot()
    names, rates = list(rungs), [r["samples_per_second"] for r in rungs.values()]
    colors = [MODEL_COLOR if n.startswith("recipe") else BASELINE_COLORS[1] for n in names]
    fig, ax = plt.subplots(figsize=(7, 0.42 * len(names) + 0.9))
    bars = ax.barh(names, rates, color=colors)
    ax.bar_label(bars, [f"{r:.1f}  (x {r / rates[0]:.1f})" for r in rates], padding=4, fontsize=8)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.2 * max(rates))
    ax.set_xlabel("training samples a second")
    save_figure(fig, path)
