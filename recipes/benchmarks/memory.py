"""Compute what fits on which card: the memory of a training step of stock models, whole, with LoRA and with QLoRA.

    python recipes/benchmarks/memory.py
    python recipes/benchmarks/memory.py --validate

Nothing is downloaded and no GPU is needed: models are built from their published configurations without weights (fake tensors),
and a training step is run on them as the recipes run it (fp32 weights, bf16 autocast, dropout off, fused attention, the loss at
learnt positions). Every tensor that autograd keeps for the way back is counted once, by its storage:

    peak = weights + gradients + optimizer + activations + what CUDA itself takes

- weights: 4 bytes a parameter; with QLoRA linear layers at 4.127 bits (NF4, double quantisation), the rest at 4 bytes.
- gradients: 4 bytes a trained parameter. They come while activations go, so that less is needed without accumulation.
- optimizer: AdamW, 8 bytes a trained parameter.
- activations: what is kept, bf16 copies of the weights that autocast makes among them, and the gradient of the logits. a + b x
  layers, from models of one and two layers. With --activation_checkpointing: a + b, the input of each layer, 2 bytes a number,
  and the copies of trained weights.
- CUDA: 0.8 GB of context and 5 percent lost between blocks, both assumed.

`--validate` runs the installed checkpoints (MiniLM, SmolLM2-135M) on this CPU in fp32, reads the highest anonymous memory above
that before the model was built (RssAnon, which has no files that are mapped), and compares it with the same computation.
Every figure of the table is computed, none is measured.
"""

import argparse
import contextlib
import gc
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    DebertaV2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.masking_utils import AttentionMaskInterface
from transformers.utils import logging as transformers_logging

GB = 1e9
CARDS = (8, 16, 24, 48, 80)
CONTEXT, FRAGMENTS = 0.8 * GB, 1.05
NF4 = (4 + 8 / 64 + 32 / (64 * 256)) / 8
"""Bytes of a weight in NF4: 4 bit, 8 bit for each 64 weights, 32 bit for each 256 of those."""
LORA_RANK = 16
LEARNT = 2  # one token of so many is learnt


@dataclass(frozen=True)
class Kind:
    """A stock model, and how long its inputs are here.

    Attributes:
        name: The checkpoint.
        config: Its published configuration.
        batch, length: Inputs of a step, and tokens of each.
    """

    name: str
    config: PreTrainedConfig
    batch: int
    length: int

    @property
    def writes(self) -> bool:
        """Whether it is a language model, and no classifier."""
        return isinstance(self.config, LlamaConfig)


def deberta(layers: int, width: int) -> DebertaV2Config:
    """DeBERTa-v3's."""
    return DebertaV2Config(
        vocab_size=128100, hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64,
        intermediate_size=4 * width, type_vocab_size=0, relative_attention=True, pos_att_type=["p2c", "c2p"],
        position_buckets=256, norm_rel_ebd="layer_norm", share_att_key=True, position_biased_input=False,
        max_relative_positions=-1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=1,
    )  # fmt: skip


def llama(layers: int, width: int, heads: int, key_heads: int, inner: int, words: int = 49152, tied: bool = True) -> LlamaConfig:
    """SmolLM2's and Llama 3's."""
    return LlamaConfig(
        vocab_size=words, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=key_heads,
        intermediate_size=inner, tie_word_embeddings=tied, max_position_embeddings=8192,
    )  # fmt: skip


MINILM = BertConfig(
    vocab_size=30522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536,
    hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=1,
)  # fmt: skip
KINDS = (
    Kind("all-MiniLM-L6-v2", MINILM, 16, 512),
    Kind("deberta-v3-base", deberta(12, 768), 16, 512),
    Kind("deberta-v3-large", deberta(24, 1024), 16, 512),
    Kind("SmolLM2-135M", llama(30, 576, 9, 3, 1536), 8, 1024),
    Kind("SmolLM2-360M", llama(32, 960, 15, 5, 2560), 8, 1024),
    Kind("SmolLM2-1.7B", llama(24, 2048, 32, 32, 8192), 8, 1024),
    Kind("Llama-3.2-3B", llama(28, 3072, 24, 8, 8192, 128256), 8, 1024),
    Kind("Llama-3.1-8B", llama(32, 4096, 32, 8, 14336, 128256, tied=False), 8, 1024),
)
WAYS = ("full", "full, checkpointed", "LoRA", "LoRA, checkpointed", "QLoRA", "QLoRA, checkpointed")


# ---- a step on fake tensors -----------------------------------------------------------------------------------------


class _Fused(torch.autograd.Function):
    """Attention that keeps what a fused kernel keeps: query, key, value, output, and a number a query and head."""

    @staticmethod
    def forward(ctx, query, key, value):
        output = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, output, query.new_empty(query.shape[:3], dtype=torch.float32))
        return output

    @staticmethod
    def backward(ctx, gradient):
        return ctx.saved_tensors[:3]


def fused_attention(module, query, key, value, attention_mask, **kwargs) -> tuple[torch.Tensor, None]:
    """Of the interface of transformers; see `_Fused`."""
    return _Fused.apply(query, key, value).transpose(1, 2).contiguous(), None


AttentionInterface.register("fused", fused_attention)
AttentionMaskInterface.register("fused", lambda *args, **kwargs: None)


class _InFourBits(nn.Module):
    """A frozen linear layer in 4 bit: unpacked for a product and forgotten, so that autograd keeps nothing of it."""

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx, states, width):
            return states.new_empty((*states.shape[:-1], width), dtype=torch.bfloat16)

        @staticmethod
        def backward(ctx, gradient):
            return gradient, None

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features

    def forward(self, states):
        return self.Product.apply(states, self.out_features)


class _Adapted(nn.Module):
    """A frozen layer with LoRA beside it."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer
        self.down = nn.Linear(layer.in_features, LORA_RANK, bias=False)
        self.up = nn.Linear(LORA_RANK, layer.out_features, bias=False)

    def forward(self, states):
        return self.layer(states) + self.up(self.down(states))


def adapt(model: PreTrainedModel, in_four_bits: bool) -> float:
    """Freeze a model and put LoRA on every linear layer but its head; the bytes of the layers that are kept in 4 bit."""
    model.requires_grad_(False)
    packed = 0.0
    for owner in list(model.modules()):
        for name, layer in list(owner.named_children()):
            if isinstance(layer, nn.Linear) and name not in ("lm_head", "classifier"):
                if in_four_bits:
                    packed += layer.weight.numel() * NF4
                    layer = _InFourBits(layer)
                setattr(owner, name, _Adapted(layer))
    if (head := getattr(model, "classifier", None)) is not None:
        head.requires_grad_(True)
    else:  # as peft does: what goes into the first layer asks for a gradient
        model.get_input_embeddings().register_forward_hook(lambda module, args, output: output.requires_grad_())
    return packed


@contextlib.contextmanager
def counted(model: nn.Module) -> Iterator[Callable[[], int]]:
    """Context that counts what autograd keeps for the way back, each storage once, the model's own weights not; in bytes."""
    own = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # held, so that no other storage takes its number
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield lambda: sum(storage.nbytes() for storage in kept.values())


def step(kind: Kind, layers: int, way: str, bf16: bool) -> dict[str, float]:
    """The bytes of a training step of a model with so many layers: weights, trained weights, activations, input of a layer."""
    config = type(kind.config)(**{**kind.config.to_dict(), "num_hidden_layers": layers})
    attention = "eager" if isinstance(config, DebertaV2Config) else "fused"
    build = AutoModelForCausalLM if kind.writes else AutoModelForSequenceClassification
    with FakeTensorMode():
        model = build.from_config(config, attn_implementation=attention, dtype=torch.float32).train()
        packed = adapt(model, way.startswith("QLoRA")) if "LoRA" in way else 0.0
        ids = torch.zeros(kind.batch, kind.length, dtype=torch.long)
        with counted(model) as kept, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            if kind.writes:
                columns = torch.zeros(kind.batch * kind.length // LEARNT, dtype=torch.long)
                output = model.model(input_ids=ids.view(1, -1), position_ids=torch.arange(ids.numel())[None], use_cache=False)
                logits = model.lm_head(output.last_hidden_state[0, columns])
                nn.functional.cross_entropy(logits.float(), columns, reduction="sum")
            else:
                logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
                nn.functional.mse_loss(logits.float(), torch.zeros_like(logits))
        weights = sum(p.numel() for p in model.parameters()) * 4 + packed
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        size = 2 if bf16 else 4
        backwards = logits.numel() * (4 + size)  # the gradient of the logits, and of their float32 copy
    return {
        "weights": weights, "trained": trained, "activations": kept() + backwards,
        "layer_input": kind.batch * kind.length * config.hidden_size * size,
    }  # fmt: skip


def memory(kind: Kind, way: str, bf16: bool = True) -> dict[str, float]:
    """The memory of a training step in bytes, by part; see the top of this file. `peak` is without what CUDA takes."""
    layers = kind.config.num_hidden_layers
    one, two = (step(kind, n, way, bf16) for n in (1, 2))
    whole = {k: one[k] + (layers - 1) * (two[k] - one[k]) for k in ("weights", "trained", "activations")}
    if way.endswith("checkpointed"):
        copies = 2 * whole["trained"] if bf16 else 0
        whole["activations"] = one["activations"] + layers * one["layer_input"] + copies
    parts = {
        "weights": whole["weights"], "gradients": 4 * whole["trained"], "optimizer": 8 * whole["trained"],
        "activations": whole["activations"],
    }  # fmt: skip
    return parts | {"peak": sum(parts.values())}


def parameters(config: PreTrainedConfig) -> int:
    """How many a model of this configuration has."""
    with torch.device("meta"):
        build = AutoModelForCausalLM if isinstance(config, LlamaConfig) else AutoModelForSequenceClassification
        return sum(p.numel() for p in build.from_config(config).parameters())


# ---- the table ------------------------------------------------------------------------------------------------------


def smallest_card(peak: float) -> str:
    """The smallest card that a peak fits on."""
    needed = peak * FRAGMENTS + CONTEXT
    return next((f"{card} GB" for card in CARDS if needed <= card * GB), "several cards")


def table() -> str:
    """The table in markdown, a row a model and a way."""
    lines = [
        "| model (GB, all computed) | batch x tokens | training | weights | gradients | optimizer | activations | peak | card |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for kind in KINDS:
        count = parameters(kind.config)
        size = f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.0f}M"
        for way in WAYS:
            if way.startswith("QLoRA") and not kind.writes:
                continue  # the recipes with an encoder have no 4 bit
            found = memory(kind, way)
            cells = [f"{found[k] / GB:.2f}" for k in ("weights", "gradients", "optimizer", "activations")]
            needed = found["peak"] * FRAGMENTS + CONTEXT
            lines.append(
                f"| {kind.name} ({size}) | {kind.batch} x {kind.length} | {way} | {' | '.join(cells)} | {needed / GB:.1f} | "
                f"{smallest_card(found['peak'])} |"
            )
    return "\n".join(lines)


# ---- validation -----------------------------------------------------------------------------------------------------


def measure(kind: Kind) -> int:
    """The highest anonymous memory of three training steps of an installed checkpoint on this CPU, above that before it."""
    from trainers.arguments import DEFAULT_ENCODER, DEFAULT_LANGUAGE_MODEL, ModelArguments
    from trainers.checkpoints import find_checkpoint, load_encoder
    from trainers.language_models.loading import load_language_model
    from trainers.throughput import MemoryCurve, anonymous_memory_mib

    checkpoint = find_checkpoint(DEFAULT_LANGUAGE_MODEL if kind.writes else DEFAULT_ENCODER)
    args = ModelArguments(attn_implementation="sdpa")
    trial = torch.randn(64, 64, requires_grad=True)  # threads and their buffers are no part of the model
    (trial @ trial).sum().backward()
    del trial
    gc.collect()
    before = anonymous_memory_mib()
    if kind.writes:
        model = load_language_model(checkpoint, args)
    else:
        model = nn.ModuleDict({"encoder": load_encoder(checkpoint, args), "head": nn.Linear(kind.config.hidden_size, 1)})
    gc.collect()
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)
    with MemoryCurve(0.002) as curve:
        for _ in range(3):
            ids = torch.randint(5, 1000, (kind.batch, kind.length))
            if kind.writes:
                columns = torch.arange(0, kind.batch * kind.length, LEARNT)
                places = torch.arange(kind.length).repeat(kind.batch)[None]
                states = model.model(input_ids=ids.view(1, -1), position_ids=places, use_cache=False).last_hidden_state
                loss = nn.functional.cross_entropy(model.lm_head(states[0, columns]).float(), ids.view(-1)[columns])
                del states
            else:
                loss = model["head"](model["encoder"](input_ids=ids).last_hidden_state[:, 0]).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            del loss
    return int((max(curve.mib) - before) * 2**20)


def validate() -> str:
    """Computed beside measured, a row a model."""
    lines = ["| model, fp32 on CPU | batch x tokens | computed | measured | error |", "| --- | --- | --- | --- | --- |"]
    for kind in (KINDS[0], KINDS[3]):
        kind = replace(kind, batch=8 if kind.writes else 16, length=128)
        command = [sys.executable, __file__, "--measure", kind.name, "--batch", str(kind.batch), "--length", str(kind.length)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        measured, computed = json.loads(done.stdout.splitlines()[-1]), memory(kind, "full", bf16=False)["peak"]
        lines.append(
            f"| {kind.name} | {kind.batch} x {kind.length} | {computed / GB:.2f} GB | {measured / GB:.2f} GB | "
            f"{100 * (computed / measured - 1):+.0f}% |"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Print the table, or the validation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--validate", action="store_true", help="compare with what is measured on this CPU")
    parser.add_argument("--measure", choices=[kind.name for kind in KINDS], help=argparse.SUPPRESS)
    parser.add_argument("--batch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--length", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    transformers_logging.set_verbosity_error()
    if args.measure:
        kind = next(kind for kind in KINDS if kind.name == args.measure)
        print(json.dumps(measure(replace(kind, batch=args.batch, length=args.length))))
    else:
        print(validate() if args.validate else table())


if __name__ == "__main__":
    main()
