"""A trained model as an ONNX file: the same predictions, for any number of rows of any length; int8 close to them."""

import csv
import json

import numpy as np
import pytest
import torch
from conftest import load_recipe
from untrained import untrained

from trainers import essay_scoring, knowledge_tracing, outcome_prediction, question_answering, resource_recommendation
from trainers.onnx_model import TOLERANCE, OnnxModel, find_onnx, graph_of, largest_changes, largest_difference
from trainers.parser import ConfigurationError

pytest.importorskip("onnxruntime")
export_onnx = load_recipe("export_onnx")


@pytest.fixture(scope="module")
def exported(finished_run, sample, tmp_path_factory):
    """The essay scorer as float32, and as int8 with its loss on graded essays; what is said of both."""
    folder, test, facts = tmp_path_factory.mktemp("onnx"), sample.splits["test"], {}
    graded = folder / "graded.csv"
    with graded.open("w") as file:
        table = csv.writer(file)
        table.writerow(["text", "prompt", "grade", "writer"])
        rows = zip(test["text"], test["prompt_id"], test["scores"], test["learner_id"], strict=True)
        table.writerows((text, prompt, score[0], learner) for text, prompt, score, learner in rows)
    measured = ["--input_file", str(graded), "--prompt_column", "prompt", "--score_column", "grade", "--learner_column", "writer"]
    for kind, more in (("fp32", []), ("int8", ["--int8", *measured])):
        facts[kind] = export_onnx.main(["--model", str(finished_run), "--output_dir", str(folder / kind), *more])
    return folder, facts


def test_onnxruntime_scores_essays_as_torch_does(exported, finished_run, sample):
    folder, _ = exported
    test, ours = sample.splits["test"], essay_scoring.load(finished_run)
    theirs = essay_scoring.load(folder / "fp32")
    assert isinstance(theirs.model, OnnxModel) and find_onnx(folder / "fp32") and find_onnx(finished_run) is None
    for rows, size in ((1, 1), (7, 3), (len(test), 32)):  # any number of rows, of the lengths that they have
        columns = (test["text"][:rows], test["prompt_id"][:rows])
        assert np.allclose(ours.logits(*columns, size), theirs.logits(*columns, size), atol=TOLERANCE)
    a, b = (scorer.predict_columns(test["text"], test["prompt_id"]) for scorer in (ours, theirs))
    assert {k: v.tolist() for k, v in a.items() if "unrounded" not in k} == {
        k: v.tolist() for k, v in b.items() if "unrounded" not in k
    }
    assert np.allclose(a["score_unrounded"], b["score_unrounded"], atol=2e-4)


def test_another_models_file_would_be_noticed(exported, finished_run):
    """The twin: the comparison that the export is refused by sees a single weight that was moved."""
    folder, _ = exported
    scorer = essay_scoring.load(finished_run)
    graph = graph_of("essay_scoring", scorer)
    assert largest_difference(graph, folder / "fp32" / "model.onnx") <= TOLERANCE
    with torch.no_grad():
        scorer.model.classifier.weight[0, 0] += 0.1
    assert largest_difference(graph, folder / "fp32" / "model.onnx") > 10 * TOLERANCE


def test_predict_reads_the_folder(exported, finished_run, sample, predict, tmp_path):
    test, told = sample.splits["test"], []
    new = tmp_path / "new.jsonl"
    new.write_text("".join(json.dumps({"t": t, "p": p}) + "\n" for t, p in zip(test["text"], test["prompt_id"], strict=True)))
    for name in (finished_run, exported[0] / "fp32"):
        out = tmp_path / "out.csv"
        predict.main(["--model", str(name), "--input_file", str(new), "--text_column", "t", "--prompt_column", "p",
                      "--output_file", str(out)])  # fmt: skip
        told.append([row["score"] for row in csv.DictReader(out.open())])
    assert told[0] == told[1]


def test_int8_is_smaller_and_tells_what_it_changes(exported, sample):
    folder, facts = exported
    sizes = {kind: (folder / kind / "model.onnx").stat().st_size for kind in ("fp32", "int8")}
    assert sizes["int8"] < 0.7 * sizes["fp32"]  # tiny models are mostly names; MiniLM is 3.9 times as small
    assert facts["int8"]["int8_difference"] > 0 and facts["fp32"]["fp32_difference"] <= TOLERANCE
    assert json.loads((folder / "int8" / "onnx.json").read_text()) == facts["int8"]
    test = sample.splits["test"]
    whole, small = (essay_scoring.load(folder / kind).predict(test["text"], test["prompt_id"], rounded=False) for kind in sizes)
    assert 0 < np.abs(whole - small).max() < 1.0


def test_the_loss_of_int8_is_measured_on_graded_essays(exported, finished_run, sample):
    facts = exported[1]["int8"]
    kappa = json.loads((finished_run / "metrics.json").read_text())["test"]["quadratic_weighted_kappa"]
    found = facts["metrics"][0]
    assert found["metric"] == "quadratic_weighted_kappa" and found["first"] == pytest.approx(kappa, abs=1e-6)
    assert facts["rows_compared"] == len(sample.splits["test"]) and "score_unrounded" in facts["largest_changes"]
    assert found["interval"][0] <= found["difference"] <= found["interval"][1]
    assert "metrics" not in exported[1]["fp32"]  # no truth, no metric


@pytest.mark.parametrize(
    ("module", "options"),
    [
        (question_answering, {}), (resource_recommendation, {}), (outcome_prediction, {}),
        (knowledge_tracing, {"architecture": "lstm"}), (knowledge_tracing, {"architecture": "attention"}),
    ],
    ids=lambda value: value.__name__.removeprefix("trainers.") if hasattr(value, "__name__") else value.get("architecture", ""),
)  # fmt: skip
def test_other_models_predict_alike(module, options, tiny_model, tmp_path):
    source = untrained(module.__name__.removeprefix("trainers."), tmp_path / "model", tiny_model, **options)
    facts = export_onnx.main(["--model", str(source), "--output_dir", str(tmp_path / "onnx")])
    ours, theirs = module.load(source), module.load(tmp_path / "onnx")
    assert isinstance(theirs.model, OnnxModel) and facts["fp32_difference"] <= TOLERANCE
    inputs = module.probe(ours)
    changes = largest_changes(ours.predict_columns(**inputs), theirs.predict_columns(**inputs))
    assert all(value <= 1e-3 for value in changes.values()), changes
    if module is knowledge_tracing:  # questions put side by side go through the same graph
        learners = [{"learner_id": "L1", **{k: v[0] for k, v in inputs.items()}}]
        a, b = ours.mastery(learners), theirs.mastery(learners)
        assert np.allclose(a["mastery"], b["mastery"], atol=2e-4) and len(a["mastery"]) == 3


def test_what_cannot_be_exported_is_refused(finished_run, exported, tmp_path, monkeypatch):
    def refused(what, *words):
        with pytest.raises(ConfigurationError, match=what):
            export_onnx.main(list(words))

    new = ("--output_dir", str(tmp_path / "new"))
    refused("no model folder", "--model", str(tmp_path / "nothing"), *new)
    refused("not empty", "--model", str(finished_run), "--output_dir", str(finished_run))
    refused("an ONNX file already", "--model", str(exported[0] / "fp32"), *new)
    refused("required: --model", *new)
    with pytest.raises(ConfigurationError, match="qa_tutoring are not exported.*llama.cpp"):
        graph_of("qa_tutoring", type("Tutor", (), {"model": None}))
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in (exported[0] / "fp32").iterdir():
        (broken / path.name).write_bytes(path.read_bytes() if path.suffix != ".onnx" else path.read_bytes()[:1000])
    with pytest.raises(ConfigurationError, match="could not load model.onnx"):
        essay_scoring.load(broken)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="edu-recipes\\[onnx\\]"):
        OnnxModel(broken / "model.onnx", None)


def test_nothing_of_the_training_data_is_copied(exported):
    names = {path.name for path in (exported[0] / "fp32").iterdir()}
    assert not names & {"predictions.csv", "options.yaml", "rejected_rows.csv", "model.safetensors", "metrics.json"}
    assert {"model.onnx", "edu_recipes.json", "hybrid.safetensors", "tokenizer.json", "onnx.json"} <= names
