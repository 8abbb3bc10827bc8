"""The benchmark of training beside a plain Trainer: the same examples, the same loss. No wall-clock."""

import json

import pytest
import torch
from conftest import ROOT

from trainers import throughput
from trainers.parser import ConfigurationError


@pytest.fixture(scope="module")
def benchmark():
    return throughput.load_script(ROOT / "recipes/benchmarks/training_speed.py")


def test_both_ways_train_on_the_same_and_are_told(benchmark, tmp_path, monkeypatch, capsys):
    def in_this_process(script, words):
        return benchmark.main([*words, "--result_file", str(tmp_path / "result.json")])

    monkeypatch.setattr(throughput, "in_own_process", in_this_process)
    options = ["hidden_size=8", "max_train_samples=40"]
    found = benchmark.main(
        ["--recipes", "knowledge_tracing", "--sample_school", "true", "--options", *options, "--output_dir", str(tmp_path)]
    )["knowledge_tracing"]
    assert [p["way"] for p in found["passes"]] == ["plain Trainer", "recipe", "recipe", "plain Trainer"]
    assert len({p["counted"] for p in found["passes"]}) == 1 and found["ratios"][0] <= found["ratio"] <= found["ratios"][1]
    assert json.loads((tmp_path / "training_speed_knowledge_tracing.json").read_text()) == found
    assert (tmp_path / "training_speed.png").is_file() and "knowledge_tracing, recipe" in capsys.readouterr().out


def test_a_language_model_learns_the_same_tokens_either_way(benchmark, tiny_chat_model, tmp_path):
    learnt = {}
    for way in ("plain Trainer", "recipe"):
        args = benchmark.BenchmarkArguments(
            recipes=["content_generation"], sample_school=True, train_samples=20, output_dir=str(tmp_path), way=way,
            options=[f"model_name_or_path={tiny_chat_model}", "use_peft=false", "max_length=1600"],
        )  # fmt: skip
        learnt[way] = benchmark.measure(args)["counted"]
    assert learnt["plain Trainer"] == learnt["recipe"] > 100


def test_the_plain_loss_is_that_of_the_recipe(benchmark, tiny_model, tmp_path):
    words = ["--dataset_name", "sample_school", "--model_name_or_path", tiny_model, "--output_dir", str(tmp_path), "--precision",
             "fp32", "--max_train_samples", "8"]  # fmt: skip
    ours = benchmark.trainer_of("question_answering", words)
    plain = benchmark.plain_trainer(ours, "question_answering")
    batch = ours.data_collator([ours.train_dataset[i] for i in range(4)])
    ours.model.eval()
    torch.testing.assert_close(plain.compute_loss(ours.model, batch), ours.compute_loss(ours.model, batch))


def test_a_recipe_without_this_benchmark_is_refused(benchmark):
    with pytest.raises(ConfigurationError, match="expected some of"):
        benchmark.main(["--recipes", "essay_scorin"])
