"""The essay recipe on tiny models: equal updates however they are cut, resume, adapters, losses, what comes out."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, load_recipe
from peft import AutoPeftModelForSequenceClassification
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from trainers.checkpoints import find_checkpoint, load_tokenizer
from trainers.essay_scoring import EssayTrainer, load
from trainers.essay_settings import EssayCollator, EssaySettings, encode, shorten

LOSSES = ("mse", "corn", "mse+rank")


@pytest.fixture(scope="session")
def trait_file(tmp_path_factory, sample) -> Path:
    """Essays with two scores, one of them missing in places, on scales of different length."""
    rows = sample.splits["train"]
    path = tmp_path_factory.mktemp("data") / "traits.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "prompt", "text", "content", "language"])
        for i, row in enumerate(rows):
            language = "" if i % 3 == 0 else int(min(row["scores"][0], 3))
            writer.writerow([f"e{i}", row["prompt_id"], row["text"], int(row["scores"][0]), language])
    return path


def arguments(model: str, data: Path, out: Path, *more: str) -> list[str]:
    """A short run: SGD without clipping, since Adam would hide a wrong scale of the gradient."""
    return [
        "--model_name_or_path", model, "--train_file", str(data), "--prompt_column", "prompt", "--id_column", "id",
        "--score_column", "content", "language", "--output_dir", str(out), "--precision", "fp32", "--optim", "sgd",
        "--learning_rate", "0.02", "--head_learning_rate", "0.02", "--max_grad_norm", "0", "--num_train_epochs", "2",
        "--per_device_train_batch_size", "12", "--max_length", "96", "--logging_steps", "1", "--disable_tqdm", "true", *more,
    ]  # fmt: skip


def logits(folder: Path, data: Path) -> torch.Tensor:
    """The saved model's raw outputs for a few essays."""
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    texts = [row["text"] for row in csv.DictReader(data.open(encoding="utf-8"))][:16]
    with torch.no_grad():
        return model(**tokenizer(texts, padding=True, truncation=True, max_length=96, return_tensors="pt")).logits


# ---- the same update, however a batch is cut ------------------------------------------------------------------------


@pytest.fixture(scope="session")
def whole_batch_runs(tmp_path_factory, essay_scoring, tiny_model, trait_file) -> dict[str, Path]:
    """One process, no accumulation, for each loss."""
    runs = {}
    for loss in LOSSES:
        runs[loss] = tmp_path_factory.mktemp("runs") / loss.replace("+", "_")
        essay_scoring.main(arguments(tiny_model, trait_file, runs[loss], "--loss", loss))
    return runs


@pytest.mark.parametrize("loss", ["mse", "corn"])
def test_accumulated_batches_give_the_same_model(loss, whole_batch_runs, tmp_path, essay_scoring, tiny_model, trait_file):
    cut = ["--per_device_train_batch_size", "3", "--gradient_accumulation_steps", "4"]
    essay_scoring.main(arguments(tiny_model, trait_file, tmp_path / "run", "--loss", loss, *cut))
    assert torch.allclose(logits(tmp_path / "run", trait_file), logits(whole_batch_runs[loss], trait_file), atol=1e-4)


def test_training_moves_the_model(whole_batch_runs, tiny_model, trait_file):
    """The comparisons above would pass on models that learn nothing."""
    runs = [logits(whole_batch_runs[loss], trait_file) for loss in ("mse", "mse+rank")]
    assert runs[0].std() > 1e-2 and not torch.allclose(*runs, atol=1e-3)


def test_adam_would_hide_what_sgd_shows(tmp_path, essay_scoring, tiny_model, trait_file, whole_batch_runs, monkeypatch):
    """The twin with the trap open: dividing each accumulated batch by its own count gives another model."""
    from trainers.base import EduTrainer

    def mean_of_means(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        total, count, outputs = self.loss_terms(model, inputs)
        loss = total / count / (self.args.gradient_accumulation_steps if model.training else 1)
        return (loss, {"logits": outputs.logits}) if return_outputs else loss

    monkeypatch.setattr(EduTrainer, "compute_loss", mean_of_means)
    cut = ["--per_device_train_batch_size", "3", "--gradient_accumulation_steps", "4"]
    essay_scoring.main(arguments(tiny_model, trait_file, tmp_path / "run", *cut))
    assert not torch.allclose(logits(tmp_path / "run", trait_file), logits(whole_batch_runs["mse"], trait_file), atol=1e-4)


# ---- an unfinished run ----------------------------------------------------------------------------------------------


def test_an_unfinished_run_is_not_overwritten_unasked(tmp_path, essay_scoring, tiny_model, trait_file):
    (tmp_path / "run" / "checkpoint-3").mkdir(parents=True)
    with pytest.raises(ValueError, match="checkpoints of an unfinished run.*--resume_from_checkpoint auto"):
        essay_scoring.main(arguments(tiny_model, trait_file, tmp_path / "run"))
    assert (tmp_path / "run" / "checkpoint-3").is_dir()


# ---- adapters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [[], ["--use_rslora"], ["--use_dora"]])
def test_an_adapter_predicts_the_same_alone_and_merged(kind, tmp_path, essay_scoring, tiny_model, trait_file, sample):
    flags = ["--use_peft", "--lora_r", "4", *kind]
    for run, merge in (("merged", "true"), ("alone", "false")):
        essay_scoring.main(arguments(tiny_model, trait_file, tmp_path / run, *flags, "--merge_adapter", merge))
    assert not (tmp_path / "alone" / "model.safetensors").exists()
    texts, prompts = sample.splits["test"]["text"], sample.splits["test"]["prompt_id"]
    merged, alone = (load(tmp_path / run).predict(texts, prompts, rounded=False) for run in ("merged", "alone"))
    assert np.allclose(merged, alone, atol=1e-4) and merged.std() > 0.01
    auto = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "alone", num_labels=2)
    raw = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    inputs = AutoTokenizer.from_pretrained(tmp_path / "merged")(texts[:4], padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.allclose(auto.eval()(**inputs).logits, raw(**inputs).logits, atol=1e-4)


def test_a_dora_folder_read_by_plain_transformers_would_differ(tmp_path, essay_scoring, tiny_model, trait_file):
    """The trap that `load` closes: the magnitudes are dropped in silence."""
    flags = ["--use_peft", "--use_dora", "--merge_adapter", "false", "--optim", "adamw_torch", "--learning_rate", "0.02"]
    essay_scoring.main(arguments(tiny_model, trait_file, tmp_path / "run", *flags))
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "run", num_labels=2)
    right = load(tmp_path / "run").model
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run")
    inputs = tokenizer(["one essay about a ferry and the river"], return_tensors="pt")
    with torch.no_grad():
        assert not torch.allclose(plain.eval()(**inputs).logits, right(**inputs).logits, atol=1e-5)


# ---- what comes out -------------------------------------------------------------------------------------------------


def test_everything_is_there_and_checkpoints_are_gone(finished_run):
    files = {str(p.relative_to(finished_run)) for p in finished_run.rglob("*") if p.is_file()}
    assert files >= {
        "model.safetensors", "config.json", "tokenizer.json", "edu_recipes.json", "metrics.json", "predictions.csv",
        "README.md", "options.yaml", "figures/agreement.png", "figures/confusion.png", "figures/learning_curve.png",
    }  # fmt: skip
    assert not any(f.startswith("checkpoint-") for f in files)


def test_the_loaded_model_gives_the_scores_in_predictions_csv(finished_run, sample, predict, tmp_path):
    rows = list(csv.DictReader((finished_run / "predictions.csv").open()))
    test = sample.splits["test"]
    assert [r["essay_id"] for r in rows] == test["essay_id"][:]
    assert [float(r["human_score"]) for r in rows] == [s[0] for s in test["scores"]]
    scorer = load(finished_run)
    unrounded = scorer.predict(test["text"], test["prompt_id"], batch_size=3, rounded=False)[:, 0]
    assert np.allclose(unrounded, [float(r["score_unrounded"]) for r in rows], atol=2e-4)
    # and through predict.py, from another kind of file
    new = tmp_path / "new.jsonl"
    new.write_text("".join(json.dumps({"t": t, "p": p}) + "\n" for t, p in zip(test["text"], test["prompt_id"], strict=True)))
    predict.main(["--model", str(finished_run), "--input_file", str(new), "--text_column", "t", "--prompt_column", "p",
                  "--output_file", str(tmp_path / "scores.csv")])  # fmt: skip
    scored = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert [r["score"] for r in scored] == [r["score"] for r in rows]


def test_predictions_in_length_order_would_be_scrambled(finished_run, sample):
    """The twin: without putting the order back, rows would carry other essays' scores."""
    test = sample.splits["test"]
    unrounded = load(finished_run).predict(test["text"], test["prompt_id"], rounded=False)[:, 0]
    by_length = np.argsort([-len(t) for t in test["text"]])
    assert not np.allclose(unrounded, unrounded[by_length], atol=2e-4)


def test_the_card_holds_every_prompt_and_no_learner(finished_run, sample):
    card = (finished_run / "README.md").read_text()
    metrics = json.loads((finished_run / "metrics.json").read_text())["test"]
    header = yaml.safe_load(card.split("---")[1])
    index = {m["name"]: m["value"] for m in header["model-index"][0]["results"][0]["metrics"]}
    assert index["quadratic_weighted_kappa, prompt ferry"] == pytest.approx(
        metrics["prompts"]["ferry"]["score"]["quadratic_weighted_kappa"], abs=1e-4
    )
    assert "fictional" in card and "tf-idf + surface, ridge" in card
    for split in sample.splits.values():
        for text, essay_id, learner in zip(split["text"], split["essay_id"], split["learner_id"], strict=True):
            assert text[:40] not in card and not re.search(rf"\b({essay_id}|{learner})\b", card)
    assert str(finished_run.parent) not in card  # no path of this machine


def test_the_cards_own_snippet_runs(finished_run, monkeypatch):
    monkeypatch.chdir(finished_run.parent)
    snippet = re.search(r"```python\n(.*?)```", (finished_run / "README.md").read_text(), re.S).group(1)
    scope: dict = {}
    exec(snippet, scope)
    assert scope["scores"].shape == (1, 1)


def test_the_written_options_run_again(finished_run, tmp_path, essay_scoring):
    again = essay_scoring.main(["--config", str(finished_run / "options.yaml"), "--output_dir", str(tmp_path / "again")])
    first = json.loads((finished_run / "metrics.json").read_text())
    assert again["test"] == first["test"]


def test_one_prompt_is_folded_into_the_head_so_that_the_pipeline_gives_the_score(tmp_path, essay_scoring, tiny_model, sample):
    texts = [t[:300] for t in sample.splits["test"]["text"][:5]]

    def scores(name: str, *more: str) -> tuple[list[float], np.ndarray]:
        out = tmp_path / name
        essay_scoring.main(["--model_name_or_path", tiny_model, "--output_dir", str(out), "--prompt_ids", "phones",
                            "--input_template", "{text}", "--disable_tqdm", "true", *more])  # fmt: skip
        raw = pipeline("text-classification", model=str(out), tokenizer=str(out), function_to_apply="none")(texts)
        return [r["score"] for r in raw], load(out).predict(texts, rounded=False)[:, 0]

    raw, ours = scores("model", "--hybrid", "false")
    assert np.allclose(raw, ours, atol=1e-3) and 0 < ours.mean() < 7 and ours.std() > 0.1
    raw, ours = scores("hybrid")  # words and surface features stand outside the head
    assert not np.allclose(raw, ours, atol=1e-2)


def last_state(out: Path) -> dict:
    """The Trainer's state in the newest checkpoint that was kept."""
    last = max(out.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    return json.loads((last / "trainer_state.json").read_text())


def script_metric(monkeypatch, name: str, values: list[float]) -> None:
    """Evaluations report these values in turn: what is kept is tested here, not what is learnt."""
    turn = iter(values)
    monkeypatch.setattr(EssayTrainer, "validation_metrics", lambda self, prediction: {name: next(turn)})


def same_weights(out: Path, checkpoint: Path) -> bool:
    kept, other = load_file(out / "model.safetensors"), load_file(checkpoint / "model.safetensors")
    return all(torch.equal(kept[n], other[n]) for n in other)


@pytest.mark.parametrize(
    "metric, values, best",
    [("quadratic_weighted_kappa", [0.3, 0.1, 0.5, 0.4, 0.2], 3), ("root_mean_squared_error", [1.3, 1.4, 1.1, 1.2, 1.5], 3)],
)
def test_early_stopping_keeps_the_best_checkpoint(metric, values, best, tmp_path, essay_scoring, tiny_model, monkeypatch):
    """Trainer would take any metric that does not end in loss for one where more is better, and keep the worst."""
    out = tmp_path / "run"
    script_metric(monkeypatch, metric, values)
    essay_scoring.main(["--model_name_or_path", tiny_model, "--output_dir", str(out), "--num_train_epochs", "30",
                        "--metric_for_best_model", metric, "--early_stopping_patience", "2", "--keep_checkpoints",
                        "--disable_tqdm", "true"])  # fmt: skip
    state = last_state(out)
    assert state["epoch"] == len(values) and state["best_metric"] == values[best - 1]
    checkpoints = sorted(out.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    assert same_weights(out, Path(state["best_model_checkpoint"])) and not same_weights(out, checkpoints[-1])
    assert int(checkpoints[-1].name.split("-")[1]) / len(values) * best == int(state["best_model_checkpoint"].split("-")[-1])


def test_cross_validation_and_search_leave_the_test_split_alone(tmp_path, essay_scoring, tiny_model, sample):
    out = tmp_path / "run"
    essay_scoring.SEARCH_SPACE, space = (
        {"learning_rate": ("float", 1e-4, 1e-2), "model_name_or_path": ("choice", tiny_model)},
        essay_scoring.SEARCH_SPACE,
    )
    argv = ["--model_name_or_path", tiny_model, "--output_dir", str(out), "--num_train_epochs", "1", "--disable_tqdm", "true"]
    try:
        metrics = essay_scoring.main([*argv, "--cv_folds", "3", "--hp_search", "2"])
    finally:
        essay_scoring.SEARCH_SPACE = space
    table = metrics["cross_validation"]
    assert len(table["folds"]) == 3 and table["sd"]["quadratic_weighted_kappa"] >= 0
    assert table["mean"]["quadratic_weighted_kappa"] == pytest.approx(
        np.mean([f["quadratic_weighted_kappa"] for f in table["folds"].values()])
    )
    assert "tf-idf + surface, ridge" in table["baselines"]
    assert len((out / "search" / "trials.jsonl").read_text().splitlines()) == 2 == metrics["search"]["trials"]
    options = yaml.safe_load((out / "options.yaml").read_text())
    assert options["learning_rate"] == metrics["search"]["best"]["learning_rate"] and "hp_search" not in options
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    assert [r["essay_id"] for r in rows] == sample.splits["test"]["essay_id"][:]


def test_check_data_counts_and_trains_nothing(tmp_path, essay_scoring, tiny_model, capsys):
    essay_scoring.main(["--model_name_or_path", tiny_model, "--output_dir", str(tmp_path / "run"), "--check_data"])
    printed = capsys.readouterr().out
    assert "140 rows read" in printed and "phones" in printed and "minutes" in printed
    assert not list(tmp_path.rglob("*.safetensors"))


def test_folds_are_averaged_in_one_table(finished_run, tmp_path, capsys):
    """Two folds that differ by a known amount; the interval of a mean of two is narrower than that of one."""
    folds = load_recipe("mean_of_folds", ROOT / "recipes/benchmarks/mean_of_folds.py")
    first = json.loads((finished_run / "metrics.json").read_text())
    second = json.loads((finished_run / "metrics.json").read_text())
    second["test"]["quadratic_weighted_kappa"] += 0.02
    for name, metrics in (("a", first), ("b", second)):
        (tmp_path / f"{name}.json").write_text(json.dumps(metrics))
    table = folds.main(["--metrics_files", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    kappa = first["test"]["quadratic_weighted_kappa"]
    assert table["hybrid"]["mean"] == pytest.approx(kappa + 0.01) and table["hybrid"]["folds"] == [kappa, kappa + 0.02]
    low, high = first["intervals"]["model alone"]["behind"]
    assert table["model alone"]["behind"][1] - table["model alone"]["behind"][0] == pytest.approx((high - low) / 2**0.5)
    printed = capsys.readouterr().out
    assert "| prompt | coverage |" in printed and "| doubled |" in printed and "2 of 2" in printed
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(ValueError, match="c.json is no metrics.json"):
        folds.main(["--metrics_files", str(tmp_path / "c.json")])


# ---- parts ----------------------------------------------------------------------------------------------------------


def test_long_essays_keep_their_beginning_and_their_end(tiny_model):
    tokenizer = load_tokenizer(find_checkpoint(tiny_model))
    ids = [2, *range(100, 400), 3]  # [CLS] ... [SEP]
    head = shorten(ids, EssaySettings(max_length=64, long_essays="head"), tokenizer)
    both = shorten(ids, EssaySettings(max_length=64, long_essays="head_tail"), tokenizer)
    assert head == [2, *range(100, 162), 3] and both == [2, *range(100, 131), *range(369, 400), 3]
    settings = EssaySettings(score_ranges={"p": [(1, 6)]}, max_length=32)
    encoded = encode({"text": [" ".join(f"river {i}" for i in range(50)), "short"], "prompt_id": ["p", "p"]}, tokenizer, settings)
    assert encoded["length"][0] == 32 and encoded["truncated"][0] > 60 and encoded["truncated"][1] == 0


def test_corn_gives_the_expected_score():
    settings = EssaySettings(score_ranges={"a": [(0, 3)], "b": [(0, 1)]}, loss="corn")
    assert settings.num_labels() == 3
    sure, unsure = 50.0, 0.0
    logits = np.array([[sure, sure, -sure], [unsure, unsure, unsure], [unsure, sure, sure]])
    raw = settings.raw_scores(logits, ["a", "a", "b"])[:, 0]
    assert raw == pytest.approx([2 / 3, (0.5 + 0.25 + 0.125) / 3, 0.5])


def test_missing_scores_are_padded_and_scaled_by_prompt(tiny_model):
    tokenizer = load_tokenizer(find_checkpoint(tiny_model))
    settings = EssaySettings(score_names=["x", "y"], score_ranges={"a": [(0, 4), (1, 3)], "b": [(10, 60), (1, 3)]})
    essays = {"text": ["one", "two three"], "prompt_id": ["a", "b"], "scores": [[1, float("nan")], [35, 2]]}
    rows = encode(essays, tokenizer, settings)
    batch = EssayCollator(tokenizer)([{k: rows[k][i] for k in rows} for i in range(2)])
    assert batch["labels"][0, 0] == 0.25 and batch["labels"][0, 1].isnan() and batch["labels"][1].tolist() == [0.5, 0.5]
    assert batch["input_ids"].shape == (2, 32) and batch["attention_mask"].sum(1).tolist() == rows["length"]
    assert batch["prompt_index"].tolist() == [0, 1]


# ---- the script -----------------------------------------------------------------------------------------------------


def test_a_copy_in_another_folder_runs(tmp_path, tiny_model, monkeypatch):
    copy = tmp_path / "my_recipe.py"
    copy.write_text((ROOT / "recipes/essay_scoring.py").read_text())
    monkeypatch.chdir(tmp_path)
    metrics = load_recipe("essay_scoring_copy", copy).main(
        ["--model_name_or_path", tiny_model, "--num_train_epochs", "1", "--disable_tqdm", "true"]
    )
    assert metrics["test"]["prompts"].keys() == {"ferry", "mind", "phones"}
    assert (tmp_path / "runs/essay_scoring/metrics.json").is_file()


def test_accelerate_launch_runs_the_script(tmp_path, tiny_model):
    command = [sys.executable, "-m", "accelerate.commands.launch", str(ROOT / "recipes/essay_scoring.py")]
    argv = ["--model_name_or_path", tiny_model, "--num_train_epochs", "1", "--output_dir", str(tmp_path / "run")]
    done = subprocess.run([*command, *argv], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "mean QWK" in done.stdout and "best baseline" in done.stdout


def test_the_real_checkpoint_learns_and_reloads(tmp_path, essay_scoring):
    """MiniLM end to end, in the precision of this machine, with LoRA merged in."""
    out = tmp_path / "run"
    metrics = essay_scoring.main(
        ["--output_dir", str(out), "--prompt_ids", "phones", "--num_train_epochs", "4", "--use_peft", "--learning_rate", "1e-3",
         "--head_learning_rate", "1e-3", "--max_length", "160", "--disable_tqdm", "true"]
    )  # fmt: skip
    assert metrics["test"]["quadratic_weighted_kappa"] > 0.3
    base = json.loads((out / "edu_recipes.json").read_text())["base_model"]
    assert base["name"] == "sentence-transformers/all-MiniLM-L6-v2" and len(base["sha256"]) == 64
    assert 1 <= load(out).predict(["phones should stay in the bag because we learn more"]).item() <= 6


def test_a_tracker_gets_the_curve(tmp_path, essay_scoring, tiny_model, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    essay_scoring.main(["--model_name_or_path", tiny_model, "--output_dir", str(tmp_path / "run"), "--num_train_epochs", "1",
                        "--report_to", "tensorboard", "--disable_tqdm", "true"])  # fmt: skip
    assert list((tmp_path / "board").rglob("events.out.tfevents.*"))
