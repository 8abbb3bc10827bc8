"""Mean pooling inside a stock architecture.

Stock BERT classifiers read the first token, while most sentence encoders were trained for the mean of all tokens. One more
stock layer brings the mean to the first token: its attention starts uniform, and training may sharpen it from there. The
result is an ordinary BERT with one layer more, which plain transformers loads with no code of ours. recipes/RESULTS.md has
both ways side by side.
"""

from __future__ import annotations

import copy

import torch
from transformers import PreTrainedModel

MEAN_OVER_TOKEN = 8.0  # how much more the mean weighs than the token's own state, before the layer norm


def add_mean_pooling(model: PreTrainedModel) -> list[str]:
    """Append the mean layer to a BERT- or RoBERTa-like sequence classifier, in place; ModernBERT has a switch for it.

    Returns:
        The part of parameter names that tells the new layer; nothing where there is none, because the model pools by mean
        on its own or has no such layers and is left as it is.
    """
    if hasattr(model.config, "classifier_pooling"):  # ModernBERT
        model.config.classifier_pooling = "mean"
        return []
    encoder = getattr(model.base_model, "encoder", None)
    layers = getattr(encoder, "layer", None)
    if layers is None or not hasattr(layers[-1], "attention") or not hasattr(layers[-1].attention, "self"):
        return []
    if not all(hasattr(layers[-1].attention.self, n) for n in ("query", "key", "value")):
        return []
    layer = copy.deepcopy(layers[-1])
    attention, output = layer.attention.self, layer.attention.output
    identity = torch.eye(model.config.hidden_size)
    std = model.config.initializer_range
    with torch.no_grad():
        attention.query.weight.zero_()  # query 0: every token weighs the same
        attention.key.weight.normal_(0, std)  # but not 0 too, or neither would get a gradient
        attention.value.weight.copy_(identity)
        output.dense.weight.copy_(MEAN_OVER_TOKEN * identity)
        layer.intermediate.dense.weight.normal_(0, std)
        layer.output.dense.weight.zero_()  # the feed-forward part starts as nothing
        for norm in (output.LayerNorm, layer.output.LayerNorm):
            norm.weight.fill_(1)
            norm.bias.zero_()
        for linear in (attention.query, attention.key, attention.value, output.dense, layer.intermediate.dense,
                       layer.output.dense):  # fmt: skip
            linear.bias.zero_()
        # the dense layer in front of the head starts as the identity; a tanh follows, and 0.5 keeps it out of saturation
        pooler = getattr(model.base_model, "pooler", None)
        dense = getattr(pooler, "dense", None) or getattr(getattr(model, "classifier", None), "dense", None)
        if dense is not None and dense.weight.shape[0] == dense.weight.shape[1]:
            dense.weight.copy_(0.5 * identity)
            dense.bias.zero_()
    if hasattr(attention, "layer_idx"):
        attention.layer_idx = len(layers)
    layers.append(layer)
    model.config.num_hidden_layers += 1
    return [f"layer.{len(layers) - 1}."]
