"""The lean attention is the attention of transformers: same outputs, same gradients, and no trace in what is saved."""

import pytest
import torch
from transformers import AutoModel, BertConfig, LlamaConfig, RobertaConfig

from trainers.attention import LEAN, lean_attention

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 60}
CONFIGS = {
    "bert": BertConfig(**SIZES, max_position_embeddings=64, initializer_range=0.3),
    "roberta": RobertaConfig(**SIZES, max_position_embeddings=66, initializer_range=0.3, pad_token_id=1),
    "llama, grouped keys": LlamaConfig(**SIZES, num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3),
}


def both(name):
    """The same weights with eager and with lean attention, without dropout."""
    torch.manual_seed(0)
    eager = AutoModel.from_config(CONFIGS[name], attn_implementation="eager").eval()
    lean = AutoModel.from_config(CONFIGS[name], attn_implementation=LEAN).eval()
    lean.load_state_dict(eager.state_dict())
    assert lean.config._attn_implementation == LEAN
    return eager, lean


def inputs():
    """Three essays of different length, padded."""
    torch.manual_seed(1)
    lengths = torch.tensor([21, 13, 4])
    mask = (torch.arange(21) < lengths[:, None]).long()
    return {"input_ids": torch.where(mask == 1, torch.randint(5, 60, (3, 21)), 1), "attention_mask": mask}


@pytest.mark.parametrize("name", CONFIGS)
def test_outputs_and_gradients_are_those_of_eager_attention_with_padding(name):
    eager, lean = both(name)
    batch = inputs()
    seen = batch["attention_mask"][..., None].float()
    weight = torch.randn(3, 21, 32, generator=torch.Generator().manual_seed(2))
    outputs = [model(**batch).last_hidden_state * seen for model in (eager, lean)]
    assert torch.allclose(*outputs, atol=1e-5) and outputs[0].std() > 0.1
    for output in outputs:
        (output * weight).sum().backward()
    gradients = [dict(model.named_parameters()) for model in (eager, lean)]
    for parameter, of_eager in gradients[0].items():
        if of_eager.grad is not None:
            assert torch.allclose(of_eager.grad, gradients[1][parameter].grad, atol=1e-3, rtol=1e-4), parameter
    assert sum(p.grad is not None and p.grad.abs().sum() > 0 for p in gradients[1].values()) > 10


def test_what_stands_in_the_padding_changes_nothing():
    _, lean = both("bert")
    batch = inputs()
    other = {**batch, "input_ids": torch.where(batch["attention_mask"] == 1, batch["input_ids"], 33)}
    with torch.no_grad():
        one, two = lean(**batch).last_hidden_state, lean(**other).last_hidden_state
    seen = batch["attention_mask"] == 1
    assert torch.allclose(one[seen], two[seen], atol=1e-6)


def test_an_essay_gets_the_same_outputs_alone_and_in_a_padded_batch():
    _, lean = both("roberta")
    batch = inputs()
    with torch.no_grad():
        together = lean(**batch).last_hidden_state[2, :4]
        alone = lean(input_ids=batch["input_ids"][2:, :4], attention_mask=batch["attention_mask"][2:, :4]).last_hidden_state[0]
    assert torch.allclose(together, alone, atol=1e-5)


class Layer(torch.nn.Module):
    """A layer that asks for attention."""


def test_grouped_key_heads_serve_their_neighbours():
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 6, 5, 8), torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5, 8)
    output, weights = lean_attention(Layer(), query, key, value, None)
    assert output.shape == (2, 5, 6, 8) and weights is None
    for head in range(6):  # heads 0 and 1 share the first key head
        expected = torch.softmax(query[:, head] @ key[:, head // 2].transpose(1, 2) / 8**0.5, -1) @ value[:, head // 2]
        assert torch.allclose(output[:, :, head], expected, atol=1e-6)


def test_a_given_scaling_is_used():
    query, key, value = (torch.randn(1, 2, 4, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))
    own, default = (lean_attention(Layer(), query, key, value, None, scaling=s)[0] for s in (8**-0.5, None))
    assert torch.equal(own, default)
    assert not torch.allclose(own, lean_attention(Layer(), query, key, value, None, scaling=1.0)[0], atol=1e-3)


def test_the_query_is_left_as_it_was():
    """The scores are changed in place; the inputs must not be."""
    tensors = [torch.randn(1, 2, 4, 8, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    mask = torch.zeros(1, 1, 4, 4)
    before = [t.clone() for t in (*tensors, mask)]
    lean_attention(Layer(), *tensors, mask)
    assert all(torch.equal(a, b) for a, b in zip((*tensors, mask), before, strict=True))


def test_attention_weights_are_dropped_in_training_alone():
    query, key, value = (torch.randn(1, 2, 16, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))
    layer, plain = Layer(), lean_attention(Layer(), query, key, value, None)[0]
    torch.manual_seed(0)
    assert not torch.allclose(lean_attention(layer.train(), query, key, value, None, dropout=0.5)[0], plain, atol=1e-3)
    assert torch.equal(lean_attention(layer.eval(), query, key, value, None, dropout=0.5)[0], plain)


def test_bf16_stays_bf16_and_near_the_full_precision():
    query, key, value = (torch.randn(1, 2, 32, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))
    full = lean_attention(Layer(), query, key, value, None)[0]
    half = lean_attention(Layer(), *(t.bfloat16() for t in (query, key, value)), torch.zeros(1, 1, 32, 32))[0]
    assert half.dtype == torch.bfloat16 and torch.allclose(half.float(), full, atol=0.05)


def test_a_saved_model_names_no_attention_that_others_do_not_have(tmp_path):
    _, lean = both("bert")
    lean.save_pretrained(tmp_path)
    assert LEAN not in (tmp_path / "config.json").read_text()
    again = AutoModel.from_pretrained(tmp_path).eval()
    assert again.config._attn_implementation != LEAN
    with torch.no_grad():
        batch = inputs()
        seen = batch["attention_mask"] == 1
        assert torch.allclose(again(**batch).last_hidden_state[seen], lean(**batch).last_hidden_state[seen], atol=1e-5)
