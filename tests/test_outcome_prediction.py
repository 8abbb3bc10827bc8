"""Outcomes are predicted from what was known, beside baselines, calibrated, explained; the model is loaded as it was trained."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, load_recipe
from datasets import Dataset

from edu_datasets import DataError, RecordColumns, load_records
from trainers.explanation import explain_groups
from trainers.metrics.probabilities import expected_calibration_error
from trainers.models.record_transformer import RecordTransformer, RecordTransformerConfig
from trainers.outcome_evaluation import abroca, class_metrics, fit_vector_scaling, group_rates, regression_metrics
from trainers.outcome_prediction import OutcomeTrainer, load
from trainers.parser import ConfigurationError
from trainers.record_settings import RecordSettings, as_text, bin_edges, encode

NAN = float("nan")


@pytest.fixture(scope="module")
def recipe():
    return load_recipe("outcome_prediction")


# ---- what the model reads -------------------------------------------------------------------------------------------


def settings_of(**more) -> RecordSettings:
    names = dict(number_columns=["attendance", "quiz"], category_columns=["grade"], category_values=[["7", "8"]])
    return RecordSettings("binary", ["yes", "no"], **names, feature_groups={}, class_weights=[1, 1], bias=[0, 0], **more)


def test_a_record_in_words_says_what_is_unusual_alone():
    levels = dict(bins=[[0.0, 0.5, 0.9, 1.0], [0.0, 10.0, 20.0]], usual_bins=[2, 1], usual_categories=["8"])
    settings = settings_of(encoding="text", **levels)
    assert as_text([0.6, 12.0], ["7"], settings) == "attendance is middling, 0.6. grade is 7."
    assert as_text([-3.0, 9.9], ["8"], settings) == "attendance is very low, -3. quiz is very low, 9.9."
    assert as_text([NAN, 12.0], [""], settings) == "attendance is unknown. grade is unknown."
    assert as_text([1.5, None], ["8"], settings) == "quiz is unknown."
    assert as_text([0.95, 12.0], ["8"], settings) == "all is as usual."


def test_texts_of_records_are_mostly_unlike():
    """On texts that are nearly alike an encoder does not learn."""
    data = load_records("sample_school", columns=RecordColumns())
    settings = RecordSettings.fit(data, data.splits["train"], "text", False, 256)
    rows = data.splits["train"]
    texts = [set(as_text(n, c, settings).split()) for n, c in zip(rows["numbers"][:], rows["categories"][:], strict=True)]
    shared = [len(a & b) / max(len(a | b), 1) for a, b in zip(texts, texts[1:], strict=False)]
    assert np.mean(shared) < 0.5


def test_a_category_that_training_lacks_is_read_as_missing():
    batch = {"numbers": [[1.0, NAN], [None, 2.0]], "categories": [["8"], ["9"]], "target": [0.0, 1.0]}
    out = encode(batch, settings_of())
    assert out["categories_in"] == [[2], [0]] and out["labels"] == [0.0, 1.0]
    assert np.isnan(out["numbers_in"][0][1]) and np.isnan(out["numbers_in"][1][0])


def test_bins_lie_where_the_outcome_changes():
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, 400)
    rows = [{"numbers": [a, 3.0, NAN if a < 0.5 else a], "target": float(a > 0.7)} for a in x]
    edges = bin_edges(Dataset.from_list(rows), settings_of())
    assert min(abs(e - 0.7) for e in edges[0]) < 0.02 and edges[0][0] == x.min() and edges[0][-1] == x.max()
    assert edges[1] == [3.0, 4.0], "a constant has one bin"
    assert edges[2][0] >= 0.5, "missing values are in no bin"


def record_model(**options) -> RecordTransformer:
    torch.manual_seed(0)
    return RecordTransformer(
        RecordTransformerConfig([[0.0, 1.0, 4.0], [0.0, 2.0]], [2, 3], num_labels=2, hidden_size=16, **options)
    ).eval()


def test_numbers_enter_piece_by_piece_and_missing_ones_have_a_token_of_their_own():
    model, category = record_model(), torch.tensor([[1, 2]])
    with torch.no_grad():

        def logits(*numbers):
            return model(torch.tensor([numbers]), category).logits[0]

        assert torch.equal(logits(9.0, 1.0), logits(4.0, 1.0)) and not torch.equal(logits(2.0, 1.0), logits(4.0, 1.0))
        assert not torch.allclose(logits(NAN, 1.0), logits(0.0, 1.0)) and torch.isfinite(logits(NAN, NAN)).all()
        new, missing = (model(torch.tensor([[1.0, 1.0]]), torch.tensor([[c, 2]])).logits for c in (1, 0))
        assert not torch.equal(new, missing)


def test_a_record_is_predicted_alone_as_among_others(tmp_path):
    model = record_model(dropout=0.5)
    numbers, categories = torch.rand(5, 2), torch.randint(0, 3, (5, 2))
    with torch.no_grad():
        together = model(numbers, categories).logits
        assert torch.allclose(model(numbers[2:3], categories[2:3]).logits[0], together[2], atol=1e-6)
        model.save_pretrained(tmp_path)
        assert torch.equal(RecordTransformer.from_pretrained(tmp_path).eval()(numbers, categories).logits, together)


def test_members_learn_for_themselves_and_their_mean_is_given():
    model, numbers, categories = record_model(num_members=3), torch.rand(5, 2), torch.randint(0, 3, (5, 2))
    output = model(numbers, categories)
    assert torch.allclose(output.logits, output.member_logits.mean(0), atol=1e-6)
    assert output.member_logits.std(0).min() > 0, "they are not the same"
    trainer, labels = OutcomeTrainer.__new__(OutcomeTrainer), torch.tensor([0, 1, 0, 1, 1])
    trainer._weights = torch.tensor([1.0, 3.0])
    loss, weight, _ = trainer.loss_terms(model, {"numbers": numbers, "categories": categories, "labels": labels})
    of_each = [torch.nn.functional.cross_entropy(logits, labels, trainer._weights) for logits in output.member_logits]
    assert torch.allclose(loss / weight, torch.stack(of_each).mean(), atol=1e-6)


# ---- metrics --------------------------------------------------------------------------------------------------------


def test_an_alert_for_a_tenth_finds_those_most_at_risk_and_tells_the_lead():
    target = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    p = np.array([0.9, 0.3, 0.4, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
    time = np.array([30.0, 10.0, *[NAN] * 8])
    found = class_metrics(np.column_stack([1 - p, p]), target, 1, time)
    assert found["recall_at_10_percent"] == 0.5 == found["recall_at_20_percent"] and found["lead_days_at_20_percent"] == 30
    assert found["roc_auc"] == pytest.approx(15 / 16) and found["accuracy"] == pytest.approx(0.9)
    assert "lead_days_at_20_percent" not in class_metrics(np.column_stack([1 - p, p]), target, 1, np.full(10, NAN))


def test_r2_is_0_for_the_mean_and_1_for_the_truth():
    y = np.array([1.0, 2.0, 6.0])
    assert regression_metrics(y, y)["r2"] == 1 and regression_metrics(np.full(3, 3.0), y)["r2"] == pytest.approx(0)
    assert regression_metrics(y + 2, y)["root_mean_squared_error"] == 2 == regression_metrics(y + 2, y)["mean_absolute_error"]


def test_vector_scaling_makes_overconfident_weighted_logits_mean_what_they_say():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(30_000, 3))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = (p.cumsum(axis=1) < rng.random((30_000, 1))).sum(axis=1)
    temperature, bias = fit_vector_scaling(4 * logits + np.array([1.0, 0.0, -1.0]), y)
    scaled = (4 * logits + np.array([1.0, 0.0, -1.0])) / temperature + np.array(bias)
    q = np.exp(scaled) / np.exp(scaled).sum(axis=1, keepdims=True)
    assert temperature == pytest.approx(4, abs=0.15) and np.abs(q - p).max() < 0.05
    assert expected_calibration_error(q[:, 0], (y == 0).astype(int)) < 0.01


def fairness_sample(shift: float, seed: int = 0, n: int = 2000):
    """Two groups of equal need; the model gives one of them `shift` more log odds of an alert."""
    rng = np.random.default_rng(seed)
    group = np.where(np.arange(n) % 2, "late", "early")
    risk = rng.normal(size=n)
    y = (rng.random(n) < 1 / (1 + np.exp(-risk))).astype(int)
    return 1 / (1 + np.exp(-(risk + shift * (group == "late")))), y, group


def test_a_group_that_is_alarmed_too_often_shows():
    p, y, group = fairness_sample(1.5)
    late = group_rates(p, y, 0.6, group, np.arange(len(y)))["late"]
    assert late["false_positive_gap"] > 0.2 and late["false_positive_gap_interval"][0] > 0.1
    assert late["false_negative_gap"] < -0.1 and late["abroca"] <= late["abroca_by_chance"] + 0.01, (
        "it ranks within a group alike"
    )
    fair = group_rates(*fairness_sample(0.0)[:2], 0.6, group, np.arange(len(y)))["late"]
    low, high = fair["false_positive_gap_interval"]
    assert low < 0 < high


def test_abroca_sees_a_group_that_is_ranked_at_random():
    p, y, group = fairness_sample(0.0)
    blind = np.where(group == "late", np.random.default_rng(1).random(len(p)), p)
    assert abroca(blind, y, group == "late") > 0.1 > abroca(p, y, group == "late") and np.isnan(abroca(p, y, group == "none"))


def test_groups_of_few_learners_are_hidden():
    p, y, group = fairness_sample(0.0)
    few = np.where(np.arange(len(p)) < 10, "tiny", group)
    assert set(group_rates(p, y, 0.5, few, np.arange(len(p)))) == {"late", "early"}


# ---- explanation ----------------------------------------------------------------------------------------------------


def test_a_linear_model_is_explained_in_its_order_and_its_effects_add_up():
    weights, effect = np.array([3.0, -1.0, 0.5, 0.0]), {"": 0.0, "a": 0.0, "b": 2.0}

    def linear(numbers, categories):
        return np.array(numbers, float) @ weights + np.array([effect[c[0]] for c in categories])

    rng = np.random.default_rng(0)
    names = (["w3", "w1", "w05", "w0"], ["c"])
    groups = {n: n for columns in names for n in columns}
    rows = rng.normal(size=(200, 4)).tolist(), [["a" if r else "b"] for r in rng.integers(0, 2, 200)]
    found = explain_groups(linear, *rows, names, groups, ([0.0] * 4, ["a"]))
    size = dict(zip(found.groups, np.abs(found.effects).mean(axis=0), strict=True))
    assert sorted(size, key=size.get) == ["w0", "w05", "w1", "c", "w3"] and found.additivity_error < 1e-9
    assert found.effects[:, 0] == pytest.approx(3 * np.array(rows[0])[:, 0]) and found.reference == 0

    def together(numbers, categories):
        return np.prod(np.array(numbers, float)[:, :2], axis=1)

    assert explain_groups(together, *rows, names, groups, ([0.0] * 4, ["a"])).additivity_error > 0.5


# ---- whole runs -----------------------------------------------------------------------------------------------------


def write(path, rows: list[dict]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def records(n: int, kind: str, seed: int = 0) -> list[dict]:
    """Learners whose outcome hangs on attendance (above a threshold), homework and a category; a class or a number."""
    rng, rows = np.random.default_rng(seed), []
    for i in range(n):
        attendance, homework, track = rng.uniform(0.3, 1), rng.normal(), str(rng.choice(["a", "b", "c"]))
        z = 2.0 * (attendance > 0.7) + 0.8 * homework + {"a": 0.0, "b": -1.0, "c": 1.0}[track] - 1
        row = {"id": f"R{i}", "attendance": round(attendance, 3), "homework": "" if i % 17 == 0 else round(homework, 3)}
        row |= {"track": track, "noise": round(rng.normal(), 3), "shift": ("early", "late")[i % 2]}
        if kind == "number":
            rows.append(row | {"target": round(60 + 8 * z + rng.normal(0, 4), 1)})
        else:
            rows.append(row | {"target": "passed" if rng.random() < 1 / (1 + np.exp(-z)) else "failed"})
    return rows


def train(recipe, folder, name: str, kind: str = "class", *words, n: int = 900):
    out = folder / name
    argv = ["--train_file", write(folder / f"{name}.csv", records(n, kind)), "--id_column", "id", "--output_dir", str(out),
            "--num_train_epochs", "12", "--hidden_size", "32", "--subgroup_columns", "shift",
            "--disable_tqdm", "true", *words]  # fmt: skip
    return recipe.main(argv), out, argv


@pytest.fixture(scope="module")
def classified(recipe, tmp_path_factory):
    return train(recipe, tmp_path_factory.mktemp("outcome"), "run")


@pytest.fixture(scope="module")
def valued(recipe, tmp_path_factory):
    return train(recipe, tmp_path_factory.mktemp("value"), "run", "number")


def test_a_class_is_predicted_about_as_well_as_it_can_be(classified):
    metrics, out, _ = classified
    auc = {name: row["roc_auc"] for name, row in metrics["baselines"].items()}
    assert auc["majority"] == 0.5 < metrics["test"]["roc_auc"] - 0.2
    assert metrics["test"]["roc_auc"] > max(auc.values()) - 0.03 and metrics["test"]["expected_calibration_error"] < 0.12
    assert metrics["alert"]["class"] == "failed" and set(metrics["subgroups"]["shift"]) == {"early", "late"}
    low, high = metrics["intervals"]["transformer on numbers"]["interval"]
    assert low < metrics["test"]["roc_auc"] < high
    card = (out / "README.md").read_text()
    assert "| shift: late |" in card and "failed" in card and (out / "figures" / "effects.png").stat().st_size > 5000


def test_a_number_is_predicted_about_as_well_as_it_can_be(valued):
    metrics, out, _ = valued
    assert metrics["test"]["r2"] > metrics["baselines"]["linear regression"]["r2"] - 0.02 > 0.4
    assert metrics["test"]["root_mean_squared_error"] < metrics["baselines"]["mean"]["root_mean_squared_error"] * 0.8
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    error = [float(r["predicted"]) - float(r["outcome"]) for r in rows]
    assert np.sqrt(np.mean(np.square(error))) == pytest.approx(metrics["test"]["root_mean_squared_error"], abs=1e-3)


def test_the_explanation_finds_what_the_outcome_hangs_on(valued):
    _, out, _ = valued
    predictor, rows = load(out), records(200, "number", seed=5)
    s = predictor.settings
    numbers = [[float(r[c]) if r[c] != "" else NAN for c in s.number_columns] for r in rows]
    effects = predictor.explain(numbers, [[r[c] for c in s.category_columns] for r in rows])
    size = dict(zip(effects.groups, np.abs(effects.effects).mean(axis=0), strict=True))
    assert min(size["attendance"], size["homework"], size["track"]) > 2 * max(size["noise"], size["shift"])


def test_whoever_loads_the_model_gets_the_same_predictions(classified):
    _, out, argv = classified
    written = {r["record_id"]: r for r in csv.DictReader((out / "predictions.csv").open())}
    predictor = load(out)
    s = predictor.settings
    rows = [r for r in csv.DictReader(open(argv[1])) if r["id"] in written]
    numbers = [[float(r[c]) if r[c] else NAN for c in s.number_columns] for r in rows]
    columns = predictor.predict_columns(numbers, [[r[c] for c in s.category_columns] for r in rows])
    for i, row in enumerate(rows):
        mine = written[row["id"]]
        assert float(mine["probability_failed"]) == pytest.approx(columns["probability_failed"][i], abs=1e-5)
        assert (mine["alert"], mine["predicted"]) == (columns["alert"][i], columns["predicted"][i])
    code = (
        "import sys, torch; from transformers import AutoModel; "
        f"m = AutoModel.from_pretrained({str(out)!r}, trust_remote_code=True).eval(); "
        "numbers, categories = torch.zeros(1, len(m.config.bin_edges)), torch.ones(1, len(m.config.category_sizes)).long(); "
        "print(m(numbers, categories).logits.tolist())"
    )
    alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=out.parent, timeout=120)
    assert alone.returncode == 0, alone.stderr[-2000:]
    with torch.no_grad():
        ours = predictor.model(
            torch.zeros(1, len(s.number_columns)), torch.ones(1, len(s.category_columns), dtype=torch.long)
        ).logits
    assert np.allclose(json.loads(alone.stdout), ours.tolist(), atol=1e-5)


def test_records_are_read_as_text_with_lora_and_the_better_encoding_stays(recipe, tmp_path, tiny_model):
    metrics, out, _ = train(
        recipe, tmp_path, "both", "class", "--encoding", "best", "--model_name_or_path", tiny_model, "--use_peft",
        "--class_weights", "--num_train_epochs", "3", "--learning_rate", "1e-3", n=300,
    )  # fmt: skip
    losses = metrics["encodings"]
    assert set(losses) == {"numeric", "text"} and metrics["protocol"]["encoding"] == min(losses, key=losses.get)
    text, text_out, argv = train(
        recipe, tmp_path, "text", "class", "--encoding", "text", "--model_name_or_path", tiny_model, "--use_peft",
        "--merge_adapter", "false", "--num_train_epochs", "3", "--learning_rate", "1e-2", n=300,
    )  # fmt: skip
    assert text["system"] == "encoder on text" and (text_out / "adapter_model.safetensors").is_file()
    written = list(csv.DictReader((text_out / "predictions.csv").open()))
    predictor = load(text_out)
    s = predictor.settings
    given = {r["id"]: r for r in csv.DictReader(open(argv[1]))}
    rows = [given[r["record_id"]] for r in written]
    numbers = [[float(r[c]) if r[c] else NAN for c in s.number_columns] for r in rows]
    p = predictor.predict(numbers, [[r[c] for c in s.category_columns] for r in rows])
    assert p[:, 1] == pytest.approx([float(r["probability_failed"]) for r in written], abs=1e-4)


def test_class_weights_change_the_loss_by_their_own_sum(recipe, classified):
    """Accumulated or not, an update is the weighted mean over all its rows."""
    trainer = OutcomeTrainer.__new__(OutcomeTrainer)
    trainer._weights = torch.tensor([1.0, 3.0])
    model = load(classified[1]).model
    rows = {
        "numbers": torch.rand(6, len(model.config.bin_edges)),
        "categories": torch.ones(6, len(model.config.category_sizes)).long(),
    }
    labels = torch.tensor([0, 0, 0, 1, 1, 0])
    whole = trainer.loss_terms(model, {**rows, "labels": labels})
    parts = [trainer.loss_terms(model, {k: v[i:j] for k, v in ({**rows, "labels": labels}).items()}) for i, j in ((0, 2), (2, 6))]
    assert whole[1] == 10 == sum(p[1] for p in parts) and torch.allclose(whole[0], sum(p[0] for p in parts), atol=1e-5)
    expected = torch.nn.functional.cross_entropy(whole[2].logits, labels, trainer._weights)
    assert torch.allclose(whole[0] / whole[1], expected, atol=1e-6)


def test_folds_leave_the_test_split_alone(recipe, tmp_path):
    metrics, out, _ = train(recipe, tmp_path, "folds", "class", "--cv_folds", "3", "--num_train_epochs", "2", n=300)
    table = metrics["cross_validation"]
    assert len(table["folds"]) == 3 and table["mean"]["roc_auc"] == pytest.approx(
        np.mean([f["roc_auc"] for f in table["folds"].values()])
    )


def test_random_outcomes_cannot_be_predicted(recipe, tmp_path):
    rows = records(2000, "class")
    rng = np.random.default_rng(3)
    for row in rows:
        row["target"] = "passed" if rng.random() < 0.5 else "failed"
    argv = ["--train_file", write(tmp_path / "coin.csv", rows), "--id_column", "id", "--hidden_size", "16",
            "--num_train_epochs", "3", "--output_dir", str(tmp_path / "out"), "--disable_tqdm", "true"]  # fmt: skip
    metrics = recipe.main(argv)
    low, high = metrics["intervals"]["transformer on numbers"]["interval"]
    assert low < 0.5 < high and high - low < 0.15


@pytest.mark.parametrize(
    "words, message",
    [
        (("--encoding", "words"), "encoding"),
        (("--alert_share", "2"), "--alert_share"),
        (("--target_colum", "x"), "target_column"),
    ],
)
def test_an_option_that_cannot_be_followed_is_told(words, message, recipe, tmp_path):
    with pytest.raises(ConfigurationError, match=message):
        train(recipe, tmp_path, "wrong", "class", *words, n=60)


def test_predict_tells_the_outcome_of_new_learners(classified, predict, tmp_path):
    _, out, argv = classified
    rows = [{k: v for k, v in r.items() if k != "target"} for r in csv.DictReader(open(argv[1]))][:20]
    path = write(tmp_path / "new.csv", rows)
    words = ["--model", str(out), "--input_file", path, "--id_column", "id", "--output_file", str(tmp_path / "p.csv")]
    predict.main([*words, "--explain"])
    found = list(csv.DictReader((tmp_path / "p.csv").open()))
    assert [r["record_id"] for r in found] == [r["id"] for r in rows] and {r["alert"] for r in found} <= {"true", "false"}
    assert all(float(r["probability_passed"]) + float(r["probability_failed"]) == pytest.approx(1, abs=1e-5) for r in found)
    assert {"effect_attendance", "effect_track"} <= set(found[0])
    rows[3]["attendance"] = "often"
    write(tmp_path / "new.csv", rows)
    with pytest.raises(DataError) as error:
        predict.main(words)
    assert all(word in str(error.value) for word in ("new.csv", "row 5", "attendance"))


def test_the_sample_school_is_the_default(recipe, tmp_path):
    metrics = recipe.main(["--output_dir", str(tmp_path / "run"), "--num_train_epochs", "8", "--disable_tqdm", "true"])
    assert "fictional" in metrics["protocol"]["dataset"] and metrics["test"]["roc_auc"] > 0.6
    assert "fictional" in (tmp_path / "run" / "README.md").read_text()


def test_folds_and_seeds_are_averaged_in_one_table(classified, tmp_path, capsys):
    _, out, _ = classified
    metrics = json.loads((out / "metrics.json").read_text())
    for i, gap in enumerate((0.0, 0.02)):
        metrics["test"]["roc_auc"] += gap
        (tmp_path / f"{i}.json").write_text(json.dumps(metrics))
    average = load_recipe("mean_of_folds", ROOT / "recipes/benchmarks/mean_of_folds.py")
    files = [str(tmp_path / f"{i}.json") for i in range(2)]
    means = average.main(["--metrics_files", *files])
    ours = means["transformer on numbers"]
    assert ours["mean"]["roc_auc"] == pytest.approx(metrics["test"]["roc_auc"] - 0.01) and ours["sd"]["roc_auc"] == pytest.approx(
        0.02 / 2**0.5
    )
    low, high = means["logistic regression"]["behind"]
    same_low, same_high = average.main(["--metrics_files", *files, "--seeds"])["logistic regression"]["behind"]
    assert (same_high - same_low) == pytest.approx((high - low) * 2**0.5), "seeds share their test rows: no gain in certainty"
    assert "transformer on numbers minus it" in capsys.readouterr().out
