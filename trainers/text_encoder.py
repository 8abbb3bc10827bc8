"""Embeddings of texts: pooled, of length 1, and saved so that `SentenceTransformer(folder)` computes the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .checkpoints import Checkpoint
from .recommendation_settings import RecommendationSettings, encode
from .report import write_json

POOLING_FILE = "1_Pooling/config.json"
TEXTS_A_STEP = 4096
"""Texts whose tokens are in memory together."""
LAYOUT = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", POOLING_FILE)
"""What SentenceTransformer reads beside the weights and the tokenizer."""


def embed(model: nn.Module, inputs: dict[str, torch.Tensor], pooling: str) -> torch.Tensor:
    """Embeddings of length 1, float32 (texts, width).

    Args:
        model: A text encoder, perhaps wrapped.
        inputs: input_ids and attention_mask, int64 (texts, tokens).
        pooling: 'mean' or 'cls'.
    """
    hidden = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])[0].float()
    if pooling == "mean":
        mask = inputs["attention_mask"][..., None].to(hidden.dtype)
        hidden = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)
    else:
        hidden = hidden[:, 0]
    return nn.functional.normalize(hidden, dim=-1)


@torch.no_grad()
def embed_texts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: RecommendationSettings, texts: Sequence[str],
    batch_size: int = 64,
) -> np.ndarray:  # fmt: skip
    """Embeddings of texts, float32 (texts, width), in batches of similar length."""
    model.eval()
    device, found = model.device, np.zeros((len(texts), model.config.hidden_size), np.float32)
    for first in range(0, len(texts), TEXTS_A_STEP):
        encoded = encode(texts[first : first + TEXTS_A_STEP], tokenizer, settings)
        order = np.argsort([-n for n in encoded["length"]], kind="stable")
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = tokenizer.pad({"input_ids": [encoded["input_ids"][i] for i in rows]}, return_tensors="pt").to(device)
            found[first + rows] = embed(model, batch, settings.pooling).cpu().numpy()
    return found


def pooling_of(checkpoint: Checkpoint) -> str:
    """How the checkpoint's own sentence-transformers layout pools: 'cls' or 'mean'; 'mean' where it has none."""
    path = checkpoint.file(POOLING_FILE)
    said = json.loads(path.read_text(encoding="utf-8")) if path else {}
    return "cls" if said.get("pooling_mode_cls_token") or said.get("pooling_mode") == "cls" else "mean"


def write_layout(folder: Path, width: int, settings: RecommendationSettings) -> None:
    """Write what SentenceTransformer reads beside the weights; see `LAYOUT`.

    What stands before the first field of a template becomes its prompt ("query: " for e5).
    """
    kinds = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]
    pooling = {f"pooling_mode_{kind}": kind.split("_")[0] == settings.pooling for kind in ("cls_token", "mean_tokens")}
    prompts = {
        name: template.split("{")[0]
        for name, template in (("query", settings.query_template), ("document", settings.resource_template))
    }
    write_json(folder / "modules.json", modules)
    write_json(folder / POOLING_FILE, {"word_embedding_dimension": width, **pooling})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": settings.max_length, "do_lower_case": False})
    write_json(
        folder / "config_sentence_transformers.json",
        {"model_type": "SentenceTransformer", "prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )
