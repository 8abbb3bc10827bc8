"""The tracer sees the past alone, learns what can be learnt, and is loaded as it was trained."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import load_recipe
from datasets import Dataset
from sklearn.metrics import roc_auc_score

from edu_datasets import DataError
from edu_datasets.schema import RESPONSES
from edu_datasets.school_generator import school_answers, true_mastery
from trainers.baselines.knowledge_tracing import _fit_bkt, _predict_bkt, read_steps, tracing_baselines
from trainers.knowledge_tracing import KnowledgeTracer, load, new_tracer, pairs_in_succession
from trainers.models.knowledge_tracing import KnowledgeTracingModel
from trainers.parser import ConfigurationError
from trainers.tracing_features import HISTORY, history_features
from trainers.tracing_settings import IGNORED, TracingCollator, TracingSettings, as_batch, encode

ARCHITECTURES = ["lstm", "attention"]
NAN = float("nan")


@pytest.fixture(scope="module")
def recipe():
    return load_recipe("knowledge_tracing")


def answers(steps: int, seed: int = 0, concepts: int = 5) -> dict[str, list]:
    """One learner's answers to questions with one or two concepts, a minute apart."""
    rng = np.random.default_rng(seed)
    return {
        "questions": rng.integers(1, 9, steps).tolist(),
        "concepts": [rng.permutation(np.arange(1, concepts + 1))[: rng.integers(1, 3)].tolist() for _ in range(steps)],
        "correct": rng.integers(0, 2, steps).tolist(),
        "times": (60.0 * np.arange(steps)).tolist(),
    }


def tracer(architecture: str, cls=KnowledgeTracingModel, **options) -> KnowledgeTracer:
    settings = TracingSettings([f"c{i}" for i in range(1, 6)], [f"q{i}" for i in range(1, 9)], 12, 4, 2, spread=[(0, 0.1)])
    torch.manual_seed(0)
    model = new_tracer(settings, architecture=architecture, hidden_size=16, num_attention_heads=2, num_hidden_layers=2, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.__class__ = cls
    return KnowledgeTracer(model.eval(), settings)


# ---- what a step sees -----------------------------------------------------------------------------------------------


class Unmasked(KnowledgeTracingModel):
    """A twin whose steps see their own answer."""

    @staticmethod
    def visible_answers(steps, num_queries=0):
        return torch.arange(1, steps + 1).clamp(max=steps - num_queries)


def change_of_earlier_predictions(traced: KnowledgeTracer) -> float:
    """The most that any prediction moves when the answer at its step, and all that comes after it, is another."""
    before, most = answers(30), 0.0
    p = traced.predict(**before)
    for step in (0, 1, 11, 12, 13, 25, 29):  # in the first window, at its edge, in the context of the next, at the end
        after, other = {k: list(v) for k, v in before.items()}, answers(30, seed=1)
        after["correct"][step:] = [1 - a for a in before["correct"][step:]]
        for column in ("questions", "concepts"):
            after[column][step + 1 :] = other[column][step + 1 :]
        after["times"][step + 1 :] = [t + 5000 for t in before["times"][step + 1 :]]
        most = max(most, float(np.abs(traced.predict(**after) - p)[: step + 1].max()))
    return most


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_future_answer_changes_no_earlier_prediction(architecture):
    assert change_of_earlier_predictions(tracer(architecture)) < 1e-6
    assert change_of_earlier_predictions(tracer(architecture, Unmasked)) > 1e-3, "the twin without the mask gives itself away"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_earlier_answer_changes_later_predictions(architecture):
    traced, before = tracer(architecture), answers(10)
    p = traced.predict(**before)
    before["correct"][2] = 1 - before["correct"][2]
    assert np.abs(traced.predict(**before) - p)[3:].max() > 1e-4


def test_features_come_from_the_steps_before_alone():
    row = answers(20)
    features, _ = history_features(*row.values())
    for step in range(20):
        changed = {k: list(v) for k, v in row.items()}
        changed["correct"][step:] = [1 - a for a in row["correct"][step:]]
        assert np.array_equal(history_features(*changed.values())[0][: step + 1], features[: step + 1])


def test_features_are_what_they_say():
    rows, history = history_features([1, 1, 2], [[1], [1, 2], [2]], [1, 0, 1], [0.0, 10.0, 30.0], base_rate=0.5)
    table = [dict(zip(HISTORY, row.tolist(), strict=True)) for row in rows]
    log2, one_each = np.log1p(1), np.log1p(0.5)
    assert table[0]["concept_rate"] == table[0]["rate"] == 0.5 and table[0]["concept_last"] == 0 == table[0]["seconds_ago"]
    assert table[1]["concept_successes"] == pytest.approx(one_each) and table[1]["question_successes"] == pytest.approx(log2)
    assert table[1]["concept_last"] == 1 and table[1]["concept_seconds_ago"] == pytest.approx(np.log1p(10))
    assert table[2]["concept_failures"] == pytest.approx(log2) and table[2]["concept_last"] == -1
    assert table[2]["streak"] == pytest.approx(-0.2) and table[2]["rate"] == pytest.approx(2.5 / 5)
    assert history.concepts[2][:2] == [1, 1] and history.steps == 3


# ---- windows --------------------------------------------------------------------------------------------------------


def test_no_answer_is_thrown_away_and_none_is_asked_twice():
    settings = TracingSettings(["a"] * 5, [], window=12, context=4, concepts_per_step=2)
    batch = {k: [v] for k, v in answers(30).items()}
    windows = encode(batch, [7], settings)
    assert windows["learner"] == [7] * 3 and windows["start"] == [0, 12, 24] and windows["length"] == [12, 16, 10]
    asked = [labels[labels != IGNORED] for labels in windows["labels"]]
    assert np.concatenate(asked).tolist() == batch["correct"][0]
    assert [int((labels == IGNORED).sum()) for labels in windows["labels"]] == [0, 4, 4]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_changes_nothing(architecture):
    traced = tracer(architecture)
    collate, learners = TracingCollator(2), [answers(n, seed=n) for n in (3, 9, 5)]
    windows = encode({k: [row[k] for row in learners] for k in learners[0]}, [0, 1, 2], traced.settings)
    batch = collate([dict(zip(windows, values, strict=True)) for values in zip(*windows.values(), strict=True)])
    labels = batch.pop("labels")
    with torch.no_grad():
        together = traced.model(**batch).logits.sigmoid()
    for row, learner in enumerate(learners):
        assert together[row][labels[row] != IGNORED].numpy() == pytest.approx(traced.predict(**learner), abs=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_questions_put_side_by_side_do_not_see_each_other(architecture):
    traced, row = tracer(architecture), answers(14)
    together, _ = as_batch(traced.settings, *row.values(), queries=[1, 2, 3])
    with torch.no_grad():
        logits = traced.model(**together, num_queries=3).logits[0, -3:]
        for i, concept in enumerate((1, 2, 3)):
            alone, _ = as_batch(traced.settings, *row.values(), queries=[concept])
            assert traced.model(**alone).logits[0, -1] == pytest.approx(logits[i].item(), abs=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_several_members_give_the_mean_of_each_and_are_calibrated_together(architecture):
    traced = tracer(architecture, num_members=3)
    batch, _ = as_batch(traced.settings, *answers(10).values())
    with torch.no_grad():
        output = traced.model(**batch)
        assert output.logits.numpy() == pytest.approx(output.member_logits.mean(0).numpy(), abs=1e-6)
        assert output.member_logits.std(0).min() > 0, "they are not the same"
        traced.model.rescale_logits(0.5, 0.25)
        assert traced.model(**batch).logits.numpy() == pytest.approx(0.5 * output.logits.numpy() + 0.25, abs=1e-5)


# ---- baselines ------------------------------------------------------------------------------------------------------


def test_bkt_recovers_the_parameters_it_was_drawn_from():
    rng = np.random.default_rng(0)
    known, steps, longest = rng.random(3000) < 0.3, rng.integers(3, 13, 3000), 12
    drawn = np.full((3000, longest), -1, np.int8)
    for t in range(longest):
        right = rng.random(3000) < np.where(known, 0.9, 0.25)
        drawn[:, t] = np.where(t < steps, right, -1)
        known = known | (rng.random(3000) < 0.2)
    found = _fit_bkt(drawn)
    assert found == pytest.approx((0.3, 0.2, 0.25, 0.1), abs=0.03)
    p = _predict_bkt(drawn, found)[drawn >= 0]
    assert p.mean() == pytest.approx(np.mean(drawn[drawn >= 0]), abs=0.01)


def simulated(learners: int, seed: int, steps: int = 40, concepts: int = 4, rate=None) -> Dataset:
    """Answers of learners with an ability, to concepts with an ease, who get better with practice; or random ones."""
    rng, rows = np.random.default_rng(seed), []
    ease = np.linspace(-1, 1, concepts)
    for i in range(learners):
        ability, practised, row = rng.normal(), np.zeros(concepts), {"questions": [0] * steps, "concepts": [], "correct": []}
        for c in rng.integers(0, concepts, steps):
            p = rate or 1 / (1 + np.exp(-(ability + ease[c] + 0.15 * practised[c] - 0.5)))
            row["concepts"].append([int(c) + 1])
            row["correct"].append(int(rng.random() < p))
            practised[c] += 1
        rows.append(row | {"learner_id": f"L{i}", "group_id": f"{seed} {i}", "times": [NAN] * steps})
    return Dataset.from_list(rows, features=RESPONSES)


def test_baselines_rank_as_they_know_more():
    train, test = (read_steps(simulated(n, seed), 4, 0.5) for n, seed in ((300, 0), (150, 1)))
    systems = tracing_baselines(train, test)
    auc = {name: roc_auc_score(test.correct, p) for name, p in systems.items()}
    assert auc["base rate"] == 0.5 < auc["concept mean"] < auc["PFA"] < auc["Best-LR"]
    assert all(np.all((p > 0) & (p < 1)) for p in systems.values())


def test_an_answer_stands_in_one_pair():
    steps = read_steps(simulated(3, 0, steps=9, concepts=2), 2, 0.5)
    seen, predicted, first, second = pairs_in_succession(steps, np.arange(27) / 27)
    counts = [[int((steps.concepts[steps.learner == i][:, c] > 0).sum()) for c in (1, 2)] for i in range(3)]
    assert len(seen) == sum(n // 2 for row in counts for n in row) and set(seen % 2) == {0}
    assert np.array_equal(steps.correct[(predicted * 27).round().astype(int)], first)


# ---- whole runs -----------------------------------------------------------------------------------------------------


def as_log(path, rows: Dataset, prefix: str):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["learner", "concepts", "correct"])
        for row in rows:
            writer.writerows(
                [prefix + row["learner_id"], f"c{c[0]}", a] for c, a in zip(row["concepts"], row["correct"], strict=True)
            )
    return str(path)


def train(recipe, folder, name, learners=(160, 60, 120), steps=40, rate=None, *words):
    files = [
        word for i, (split, n) in enumerate(zip(("train", "validation", "test"), learners, strict=True))
        for word in (f"--{split}_file", as_log(folder / f"{name}_{split}.csv", simulated(n, i, steps, rate=rate), split))
    ]  # fmt: skip
    out = folder / name
    argv = [*files, "--output_dir", str(out), "--hidden_size", "16", "--num_train_epochs", "6", "--learning_rate", "0.01",
            "--disable_tqdm", "true", *words]  # fmt: skip
    return recipe.main(argv), out, argv


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    return train(recipe, tmp_path_factory.mktemp("tracing"), "run")


def test_a_tracer_learns_what_can_be_learnt(finished):
    metrics, out, _ = finished
    auc = {name: row["roc_auc"] for name, row in metrics["baselines"].items()} | {"ours": metrics["test"]["roc_auc"]}
    assert auc["ours"] > auc["concept mean"] + 0.03 and auc["ours"] > auc["Best-LR"] - 0.02
    assert metrics["test"]["expected_calibration_error"] < 0.05
    low, high = metrics["intervals"]["tracer (LSTM)"]["interval"]
    assert low < auc["ours"] < high
    assert [span["from"] for span in metrics["history_lengths"]] == [0, 1, 5, 20]


def test_predictions_have_a_row_an_answer_and_a_stranger_gets_the_same(finished):
    metrics, out, argv = finished
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    given = list(csv.DictReader(open(argv[5])))
    assert [(r["learner_id"], r["concepts"], r["correct"]) for r in rows] == [
        (g["learner"], g["concepts"], g["correct"]) for g in given
    ]
    test = simulated(120, 2)
    loaded = load(out)
    p = loaded.predict_columns(*(test[c][:] for c in ("questions", "concepts", "correct", "times")))["probability"]
    assert p == pytest.approx([float(r["probability"]) for r in rows], abs=1e-5)
    code = (
        "import sys, torch; from transformers import AutoModel; "
        f"m = AutoModel.from_pretrained({str(out)!r}, trust_remote_code=True).eval(); "
        "n = m.config.num_features; c = torch.tensor([[[1], [2]]]); "
        "print(m(concepts=c, correct=torch.tensor([[1, 0]]), features=torch.zeros(1, 2, n)).logits.tolist()); "
        "assert not any(n.startswith('trainers') for n in sys.modules)"
    )
    alone = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=out.parent, timeout=120)
    assert alone.returncode == 0, alone.stderr[-2000:]
    with torch.no_grad():
        ours = loaded.model(
            concepts=torch.tensor([[[1], [2]]]), correct=torch.tensor([[1, 0]]), features=torch.zeros(1, 2, len(HISTORY))
        )
    assert json.loads(alone.stdout) == pytest.approx(ours.logits.tolist()[0], abs=1e-5) or np.allclose(
        json.loads(alone.stdout), ours.logits.tolist(), atol=1e-5
    )


def test_mastery_tells_each_concept_of_each_learner_with_an_interval(finished):
    metrics, out, _ = finished
    rows = list(csv.DictReader((out / "mastery.csv").open()))
    assert len(rows) == 120 * 4 and list(rows[0]) == [
        "learner_id",
        "concept",
        "mastery",
        "mastery_low",
        "mastery_high",
        "answers",
    ]
    assert all(0 <= float(r["mastery_low"]) < float(r["mastery"]) < float(r["mastery_high"]) <= 1 for r in rows)
    assert sum(int(r["answers"]) for r in rows) == 120 * 40
    assert (out / "mastery.png").stat().st_size > 5000
    easy, hard = ([float(r["mastery"]) for r in rows if r["concept"] == c] for c in ("c4", "c1"))
    assert np.mean(easy) > np.mean(hard) + 0.1
    predictions = list(csv.DictReader((out / "predictions.csv").open()))
    share = {
        i: np.mean([int(r["correct"]) for r in predictions if r["learner_id"] == i]) for i in {r["learner_id"] for r in rows}
    }
    by_learner = {i: np.mean([float(r["mastery"]) for r in rows if r["learner_id"] == i]) for i in share}
    assert np.corrcoef([share[i] for i in share], [by_learner[i] for i in share])[0, 1] > 0.8


def test_predict_tells_what_new_learners_can_do(finished, predict, tmp_path):
    _, out, _ = finished
    path = tmp_path / "new.csv"
    path.write_text("pupil,skill,right\n" + "ann,c1,yes\n" * 8 + "bob,c1,no\n" * 8 + "cy,c4;c1,1\n")
    argv = ["--model", str(out), "--input_file", str(path), "--learner_column", "pupil", "--concept_column", "skill",
            "--correct_column", "right", "--output_file", str(tmp_path / "mastery.csv")]  # fmt: skip
    predict.main(argv)
    rows = {(r["learner_id"], r["concept"]): r for r in csv.DictReader((tmp_path / "mastery.csv").open())}
    assert len(rows) == 3 * 4 and rows["ann", "c1"]["answers"] == "8" and rows["cy", "c1"]["answers"] == "1"
    assert float(rows["ann", "c1"]["mastery_low"]) > float(rows["bob", "c1"]["mastery"]) + 0.1
    assert (tmp_path / "mastery.png").is_file()
    path.write_text("pupil,skill,right\nann,c1,1\nann,c11,1\n")
    with pytest.raises(DataError) as error:
        predict.main(argv)
    assert all(word in str(error.value) for word in ("new.csv", "row 3", "not trained on this concept", "Did you mean 'c1'"))


def test_the_sample_school_is_traced_to_its_true_mastery(recipe, tmp_path):
    """The generator knows what each learner can do after the last answer; intervals hold it about as often as they say."""
    out = tmp_path / "school"
    metrics = recipe.main(["--output_dir", str(out), "--hidden_size", "32", "--disable_tqdm", "true"])
    assert metrics["test"]["roc_auc"] > metrics["baselines"]["concept mean"]["roc_auc"] + 0.02
    last = {a["learner"]: a["time"] / 86_400 for a in school_answers()}
    truth, rows = {}, list(csv.DictReader((out / "mastery.csv").open()))
    for i in {r["learner_id"] for r in rows}:
        truth[i] = true_mastery(i, last[i])
    seen = [r for r in rows if int(r["answers"]) >= 3]
    p, low, high = (np.array([float(r[c]) for r in seen]) for c in ("mastery", "mastery_low", "mastery_high"))
    true = np.array([truth[r["learner_id"]][r["concept"]] for r in seen])
    assert np.corrcoef(p, true)[0, 1] > 0.7 and 0.8 < np.mean((low <= true) & (true <= high))
    assert np.mean(high - low) < 0.75 * 0.9, "an interval that says something"


def test_random_answers_cannot_be_predicted(recipe, tmp_path):
    """Labels that are a coin's: whoever gets more than a half reads the answer somewhere."""
    metrics, _, _ = train(recipe, tmp_path, "coin", (200, 60, 600), 40, 0.5, "--num_train_epochs", "3")
    assert metrics["test"]["roc_auc"] == pytest.approx(0.5, abs=0.01)  # over 23,400 answers


@pytest.mark.parametrize(
    "words, message",
    [
        (["--architecture", "gru"], "architecture"),
        (["--window", "1"], "--window is 1"),
        (["--metric_for_best_model", "f1"], "expected one of roc_auc"),
        (["--hidden_sizes", "8"], "hidden_size"),
    ],
)
def test_an_option_that_cannot_be_followed_is_told(words, message, recipe, tmp_path):
    with pytest.raises((ConfigurationError, SystemExit)) as error:
        train(recipe, tmp_path, "wrong", (10, 5, 5), 4, None, *words)
    assert isinstance(error.value, SystemExit) or message in str(error.value)


def test_what_is_no_tracer_is_told(tmp_path, finished):
    with pytest.raises(ConfigurationError, match="no model"):
        load(tmp_path)
    _, out, _ = finished
    for name in ("config.json", "edu_recipes.json"):
        (tmp_path / name).write_bytes((out / name).read_bytes())
    with pytest.raises(ConfigurationError, match="could not be loaded"):
        load(tmp_path)
