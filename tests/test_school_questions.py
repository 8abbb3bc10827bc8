"""What a school asks before it trusts a scorer, each asked of a whole run of the recipe with a tiny model."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from edu_datasets import load_essays
from trainers.base import EduTrainer
from trainers.essay_scoring import load
from trainers.essay_settings import ANY
from trainers.parser import ConfigurationError

CURVE = ["--learning_curve", "12", "24", "--learning_curve_draws", "2"]
ATTACKS = {
    "none", "doubled", "shuffled sentences", "keyword stuffing", "off-topic text", "another language", "empty",
    "another prompt's essay",
}  # fmt: skip


@pytest.fixture(scope="module")
def run_options(tmp_path_factory, tiny_model) -> list[str]:
    """Everything asked at once."""
    out = tmp_path_factory.mktemp("school") / "run"
    return ["--model_name_or_path", tiny_model, "--output_dir", str(out), "--num_train_epochs", "2", "--protocol",
            "cross_prompt", *CURVE, "--gaming_essays", "4", "--human_share", "0.2", "--disable_tqdm", "true"]  # fmt: skip


@pytest.fixture(scope="module")
def school(run_options, essay_scoring) -> Path:
    essay_scoring.main(run_options)
    return Path(run_options[3])


@pytest.fixture(scope="module")
def metrics(school) -> dict:
    return json.loads((school / "metrics.json").read_text())


def test_is_the_machine_good_enough(metrics, school):
    card = (school / "README.md").read_text()
    for prompt in ("ferry", "mind", "phones"):
        gate = metrics["gate"][prompt]["score"]
        assert gate["passed"] is (
            gate["quadratic_weighted_kappa"] >= 0.7 and gate["pearsonr"] >= 0.7 and gate["degradation"] <= 0.1
            and abs(gate["standardized_mean_difference"]) <= 0.15
        )  # fmt: skip
        assert re.search(rf"^\| {prompt} \|.*\| (yes|no) \|$", card, re.M)


def test_how_sure_is_a_score(metrics, school):
    rows = list(csv.DictReader((school / "predictions.csv").open()))
    inside = [float(r["score_low"]) <= float(r["human_score"]) <= float(r["score_high"]) for r in rows]
    assert all(float(r["score_low"]) <= float(r["score"]) <= float(r["score_high"]) for r in rows)
    assert np.mean(inside) == pytest.approx(metrics["coverage"]["all"]["coverage"], abs=1e-6)


def test_how_much_work_is_saved(metrics, school):
    curve = metrics["automation"]
    assert [row["share"] for row in curve] == sorted((r["share"] for r in curve), reverse=True) and curve[0]["share"] == 1
    assert curve[0]["quadratic_weighted_kappa"] == pytest.approx(curve[0]["quadratic_weighted_kappa_together"])
    together = [row["quadratic_weighted_kappa_together"] for row in curve]
    assert together[-1] > together[0]  # a human who scores the rest helps
    assert (school / "figures" / "automation.png").stat().st_size > 5000
    rows = list(csv.DictReader((school / "predictions.csv").open()))
    assert {r["send_to_human"] for r in rows} <= {"true", "false"}
    assert all((r["send_to_human"] == "true") == (r["reason"] != "") for r in rows)


def test_groups_of_ten_learners_are_hidden(metrics, school):
    """Nobody of the sample school's ten test learners can be told from a figure of two or three of them."""
    assert metrics["subgroups"] == {"grade": {}, "language_learner": {}}
    assert "no group" in (school / "README.md").read_text()


def test_is_it_fair(tmp_path, tiny_model, essay_scoring):
    """400 learners, of whom eight came at night: a figure of so few would tell too much."""
    rng = np.random.default_rng(0)
    words, shifts = ("phones", "help", "learn", "call", "class"), ["early"] * 196 + ["late"] * 196 + ["night"] * 8
    lengths = rng.integers(2, 40, len(shifts))
    rows = [
        {"text": " ".join(rng.choice(words, n)), "score": round(min(n / 10, 4) * 2) / 2 - (s == "early"), "shift": s}
        for n, s in zip(lengths, shifts, strict=True)
    ]
    with (tmp_path / "essays.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    out = tmp_path / "run"
    metrics = essay_scoring.main(["--train_file", str(tmp_path / "essays.csv"), "--subgroup_columns", "shift",
                                  "--model_name_or_path", tiny_model, "--output_dir", str(out), "--num_train_epochs", "2",
                                  "--gaming_essays", "0", "--disable_tqdm", "true"])  # fmt: skip
    groups, card = metrics["subgroups"]["shift"], (out / "README.md").read_text()
    assert set(groups) == {"early", "late"} and min(g["n"] for g in groups.values()) >= 20
    assert groups["early"]["difference"] > 0.1 > -0.1 > groups["late"]["difference"], "humans give early learners less"
    assert all(g["flagged"] and f"| shift: {name} |" in card for name, g in groups.items()) and "shift: night" not in card


def test_can_it_be_fooled(metrics, school):
    assert set(metrics["gaming"]) == ATTACKS
    fooled = {attack for attack, row in metrics["gaming"].items() if not row["passed"]}
    assert fooled <= {"shuffled sentences", "another prompt's essay"}, "what counts of words alone finds the others"
    card = (school / "README.md").read_text()
    assert all(f"| {attack} |" in card for attack in ATTACKS)


def test_what_of_a_new_prompt(metrics, school, predict, tmp_path):
    left_out = metrics["cross_prompt"]["folds"]
    assert set(left_out) == {"without_ferry", "without_mind", "without_phones"}
    assert metrics["cross_prompt"]["mean"]["quadratic_weighted_kappa"] == pytest.approx(
        np.mean([f["quadratic_weighted_kappa"] for f in left_out.values()])
    )
    own = json.loads((school / "without_ferry" / "metrics.json").read_text())
    tested = [p for p, scores in own["test"]["prompts"].items() if scores]
    assert tested == ["ferry"], "tested on the prompt that was left out and on nothing else"

    # and through predict.py, a prompt that nobody graded, on a scale of its own
    (tmp_path / "prompts.csv").write_text('prompt_id,prompt,score_min,score_max\nlibrary,"Should it open on Sundays?",10,50\n')
    essays = ["The library should open on Sundays because we have time then.", "No.", " "]
    rows = [{"text": t, "task": "library"} for t in essays]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    argv = ["--model", str(school), "--input_file", str(tmp_path / "new.jsonl"), "--prompt_column", "task",
            "--output_file", str(tmp_path / "scores.csv")]  # fmt: skip
    with pytest.raises(ValueError, match="not trained on this prompt"):
        predict.main(argv)
    predict.main([*argv, "--prompts_file", str(tmp_path / "prompts.csv")])
    scored = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert all(10 <= float(r["score"]) <= 50 for r in scored) and len(scored) == 3
    assert (scored[2]["score"], scored[2]["reason"]) == ("10.0", "empty")


def test_a_model_of_one_school_does_not_score_new_prompts(school, finished_run):
    in_domain = load(finished_run)
    with pytest.raises(ConfigurationError, match="--protocol cross_prompt"):
        in_domain.add_prompt("library", 0, 10)
    assert ANY in load(school).settings.targets and ANY not in in_domain.settings.targets


def test_how_many_essays_must_be_graded(metrics, school):
    curve = metrics["learning_curve"]
    assert [point["rows"] for point in curve] == [12, 24]
    for point in curve:
        assert {"hybrid", "model alone", "tf-idf + surface, ridge"} <= set(point["systems"])
        for system in point["systems"].values():
            assert system["interval"][0] <= system["mean"] <= system["interval"][1]
    tests = [json.loads((school / "learning_curve" / f"{n}_{d}" / "metrics.json").read_text()) for n in (12, 24) for d in (0, 1)]
    assert {t["baselines"]["human-human"]["quadratic_weighted_kappa"] for t in tests} == {
        metrics["baselines"]["human-human"]["quadratic_weighted_kappa"]
    }, "each point is measured on the same test essays"
    assert (school / "figures" / "graded_essays.png").stat().st_size > 5000


def test_essays_of_a_smaller_number_are_among_those_of_a_larger():
    data = load_essays("sample_school")
    few, more = (data.graded(n, seed=1) for n in (12, 24))
    ids = [set(d["train"]["essay_id"]) | set(d["validation"]["essay_id"]) for d in (few, more)]
    assert ids[0] < ids[1] and not ids[1] & set(data.splits["test"]["essay_id"])


def test_what_is_finished_is_not_trained_again(school, run_options, essay_scoring, monkeypatch):
    trained = []
    fit = EduTrainer.fit
    monkeypatch.setattr(EduTrainer, "fit", lambda self: trained.append(self.args.output_dir) or fit(self))
    essay_scoring.main(run_options)
    assert trained == [str(school)], "cross-prompt and curve runs were kept, the model itself is trained"


def test_what_moved_this_score(school, predict, tmp_path):
    text = "Phones help us to learn. <script>alert(1)</script> My brother was hurt and I was called at once! I agree."
    (tmp_path / "one.jsonl").write_text(json.dumps({"text": text, "prompt_id": "phones", "id": "<b>"}) + "\n")
    predict.main(["--model", str(school), "--input_file", str(tmp_path / "one.jsonl"), "--prompt_column", "prompt_id",
                  "--id_column", "id", "--output_file", str(tmp_path / "s.csv"), "--explain"])  # fmt: skip
    page = (tmp_path / "s.html").read_text()
    assert "<script>" not in page and "<b>" not in page and "&lt;script&gt;" in page
    assert len(re.findall(r'<mark [^>]*title="[+-]\d', page)) == len(load(school).explain(text, "phones").sentences) == 3
    assert re.search(r"(more|less) would give \d", page)
