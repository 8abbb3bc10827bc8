"""The throughput benchmark on a tiny model: what it counts, and that every rung gets the same essays. No wall-clock."""

import importlib.util
import json
import sys

import pytest
import torch
from conftest import ROOT
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForSequenceClassification, PrinterCallback, Trainer, TrainingArguments

from trainers import throughput
from trainers.parser import ConfigurationError


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_throughput", ROOT / "recipes/benchmarks/throughput.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def words(tiny_model, tmp_path):
    return [
        "--model_name_or_path", tiny_model, "--dataset_name", "sample_school", "--output_dir", str(tmp_path / "out"),
        "--steps", "4", "--batch_size", "2", "--max_length", "256",
    ]  # fmt: skip


def classifier(folder: str):
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, attn_implementation="eager")


def test_flops_are_those_computed_by_hand_and_padding_is_none(tiny_model):
    """Two layers: four 32 x 32 and two 32 x 64 matrices each; examples of 3 and 5 tokens."""
    linear = 2 * (4 * 32 * 32 + 2 * 32 * 64)
    expected = 6 * linear * (3 + 5) + 12 * 2 * 32 * (3**2 + 5**2)
    assert throughput.training_flops(classifier(tiny_model), [3, 5]) == expected


def test_flops_are_those_torch_counts(tiny_model):
    model = classifier(tiny_model)
    ids = torch.randint(5, 400, (1, 60))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids).logits.sum().backward()
    assert throughput.training_flops(model, [60]) == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_the_collator_counts_real_tokens_and_positions():
    counter = throughput.CountingCollator(lambda rows: {"attention_mask": torch.tensor([[1, 1, 1], [1, 0, 0]])})
    counter([{}, {}])
    counter([{}, {}])
    assert (counter.samples, counter.tokens, counter.positions) == (4, 8, 12)


def test_the_timer_leaves_warm_up_out_and_starts_anew(tiny_model, tmp_path):
    args = TrainingArguments(
        output_dir=str(tmp_path), max_steps=5, per_device_train_batch_size=2, use_cpu=True, save_strategy="no",
        report_to="none", disable_tqdm=True,
    )  # fmt: skip
    rows = [{"input_ids": [5, 6, 7], "labels": 0.5}] * 10
    timer = throughput.StepTimer(warmup_steps=2)
    trainer = Trainer(model=classifier(tiny_model), args=args, train_dataset=rows, callbacks=[timer])
    trainer.remove_callback(PrinterCallback)
    for _ in range(2):
        trainer.train()
        assert len(timer.seconds) == 3 and min(timer.seconds) > 0


def test_the_peak_and_the_processor_are_known():
    for dtype in (torch.float32, torch.bfloat16):
        assert throughput.matrix_product_peak(dtype, sizes=((32, 16, 8), (8, 8, 8)), seconds=0) > 0
    facts = throughput.processor_features()
    assert facts["processor"] and set(facts["features"]) <= set(throughput.FEATURES) and facts["threads"] >= 1


def test_rates_are_totals_of_both_passes():
    passes = [
        {"rung": rung, "pass": n, "seconds": seconds, "samples": 10, "tokens": 80, "positions": 100, "flops": 4e12,
         "peak_memory_mib": 100 + n}
        for rung, n, seconds in (("a", 0, 3.0), ("b", 0, 1.0), ("b", 1, 1.0), ("a", 1, 5.0))
    ]  # fmt: skip
    summary = throughput.summarize(passes, [{"bf16": 5.0}, {"bf16": 8.0}, {"bf16": 9.0}])
    assert summary["peak_tflops"]["bf16"] == {"median": 8.0, "range": [5.0, 9.0]}
    a, b = summary["rungs"]["a"], summary["rungs"]["b"]
    assert (a["samples_per_second"], b["samples_per_second"], b["over_first"], a["over_second"]) == (2.5, 10, 4, 0.25)
    assert b["tflops"] == 4 and b["share_of_bf16_peak"] == 0.5 and a["padding"] == pytest.approx(0.2)
    assert a["seconds"] == [3.0, 5.0] and a["peak_memory_mib"] == 101
    header, *rows = throughput.throughput_table(summary["rungs"])
    assert [r[0] for r in rows] == ["a", "b"] and all(len(r) == len(header) for r in rows)


def test_every_rung_gets_the_same_essays_and_the_order_is_mirrored(benchmark, words, tmp_path, monkeypatch):
    """The whole ladder, in this process, since sixteen others would only import the libraries again."""
    events = []

    def here(script, more):
        events.append(more[more.index("--rung") + 1])
        return benchmark.main([*more, "--result_file", str(tmp_path / "pass.json")])

    monkeypatch.setattr(throughput, "in_own_process", here)
    monkeypatch.setattr(throughput, "measure_peaks", lambda: events.append("peak") or {"fp32": 0.1, "bf16": 0.2})
    returned = benchmark.main(words)
    ladder = list(benchmark.RUNGS)
    assert events == ["peak", *ladder, "peak", *ladder[::-1], "peak"]
    saved = json.loads((tmp_path / "out" / "throughput.json").read_text())
    assert saved == returned and list(saved["rungs"]) == ladder
    assert {r["samples"] for r in saved["rungs"].values()} == {8} and all(p["steps"] == 2 for p in saved["passes"])
    for number in (0, 1):  # the same essays, so the same tokens
        assert len({p["tokens"] for p in saved["passes"] if p["pass"] == number}) == 1
    example, dynamic, *_ = saved["rungs"].values()
    assert example["padding"] > dynamic["padding"] and dynamic["over_second"] == 1
    positions = [p["positions"] for p in saved["passes"] if p["rung"] == "example"]
    assert positions == [4 * 256, 4 * 256] and (tmp_path / "out" / "figures" / "throughput.png").is_file()


def test_rungs_differ_as_they_say(benchmark, words, sample):
    parser = benchmark.RecipeParser((benchmark.BenchmarkArguments,))
    modules = {}
    for rung in benchmark.RUNGS:
        (args,) = parser.parse([*words, "--rung", rung])
        trainer, _ = benchmark.make_trainer(args, sample)
        config = trainer.model.config
        modules[rung] = (
            type(trainer).__name__, trainer.args.bf16, config.hidden_dropout_prob, config.attention_probs_dropout_prob,
            config._attn_implementation, config.num_hidden_layers,
        )  # fmt: skip
    bf16, lean = benchmark.supports_bf16(True), "sdpa" if torch.cuda.is_available() else "lean"
    assert list(modules.values()) == [
        ("Trainer", False, 0.1, 0.1, "sdpa", 2),
        ("Trainer", False, 0.1, 0.1, "sdpa", 2),
        ("Trainer", bf16, 0.1, 0.1, "sdpa", 2),
        ("Trainer", bf16, 0, 0, "sdpa", 2),
        ("GroupedTrainer", bf16, 0, 0, "sdpa", 2),
        ("GroupedTrainer", bf16, 0, 0, lean, 2),
        ("EssayTrainer", bf16, 0, 0, lean, 2),
    ]


def test_a_rung_runs_in_a_process_of_its_own(benchmark, words):
    done = throughput.in_own_process(benchmark.__file__, [*words, "--rung", "recipe", "--pass_number", "1"])
    assert done["samples"] == 4 and done["positions"] >= done["tokens"] > 0 and done["peak_memory_mib"] > 0


def test_quality_compares_plain_training_with_the_recipe(benchmark, words, sample, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        throughput, "in_own_process", lambda s, more: benchmark.main([*more, "--result_file", str(tmp_path / "pass.json")])
    )
    prompt = sample.splits["train"]["prompt_id"][0]
    more = ["--quality", "--prompt_id", prompt, "--seeds", "1", "2", "--num_train_epochs", "1"]
    rungs = benchmark.main([*words, *more])["rungs"]
    assert list(rungs) == ["+ dynamic padding", "recipe"]
    for result in rungs.values():
        assert len(result["seconds"]) == 2 and all(-1 <= k <= 1 for k in result["quadratic_weighted_kappa"])
    assert "mean QWK" in capsys.readouterr().out and (tmp_path / "out" / "quality.json").is_file()


def test_steps_that_cannot_be_halved_are_refused(benchmark, words):
    with pytest.raises(ConfigurationError, match="even number"):
        benchmark.main([*words, "--steps", "5"])
