"""A new term beside the one a model was tested on: few false alarms, real changes found, nothing of a learner kept."""

import csv
import json

import numpy as np
import pytest
from conftest import load_recipe

from edu_datasets import DataError, load_records, load_responses
from trainers import drift
from trainers.drift import changes_table, compare_signals, independence, make_reference, measure_drop, read_reference, summarize
from trainers.parser import ConfigurationError

check_drift = load_recipe("check_drift")


def term(rng, rows, shift=0.0, missing=0.1, phones=0.3):
    """Signals of a term: correlated numbers, one with few values, one with gaps, one all alike, and categories."""
    common = rng.normal(size=rows)
    numbers = {f"number {i}": 0.7 * common + rng.normal(size=rows) + shift for i in range(3)}
    numbers |= {"long tail": np.exp(common), "grade": np.round(rng.normal(8, 1, rows)), "constant": np.full(rows, 7.0)}
    numbers["gaps"] = np.where(rng.random(rows) < missing, np.nan, rng.normal(size=rows))
    return numbers | {"prompt": rng.choice(["phones", "ferry", "dog"], rows, p=[phones, 0.6 - phones + 0.1, 0.3]).astype(object)}


def check(old, new, seed=0):
    return compare_signals({"signals": summarize(old)}, new, tables=499, seed=seed)


@pytest.mark.parametrize(("before", "now"), [(200, 150), (40, 25), (1000, 60)])
def test_an_unchanged_term_raises_an_alarm_in_one_check_of_twenty(before, now):
    rng, alarms, one = np.random.default_rng(before), 0, 0
    for seed in range(200):
        changes = check(term(rng, before), term(rng, now), seed)
        alarms += changes[0].corrected <= 0.05
        one += min(c.p for c in changes) <= 0.05
    assert alarms / 200 <= 0.10
    assert one / 200 > 0.15, "the twin: without the correction for eight signals"


@pytest.mark.parametrize(
    ("change", "signal"),
    [({"shift": 0.6}, "number"), ({"missing": 0.4}, "gaps"), ({"phones": 0.65}, "prompt")],
)
def test_a_change_is_found_and_named(change, signal):
    rng = np.random.default_rng(0)
    found = [check(term(rng, 300), term(rng, 200, **change))[0] for _ in range(20)]
    assert all(c.corrected <= 0.05 and c.signal.startswith(signal) for c in found)
    if signal == "gaps":
        assert found[0].before.startswith("missing") and found[0].before != found[0].now
    assert "CHANGED" in changes_table(found, 0.05)[1]


def test_what_lies_outside_all_that_was_seen_is_found():
    rng = np.random.default_rng(0)
    old = {"constant": np.full(100, 7.0), "grade": rng.integers(7, 10, 100).astype(float), "kind": np.array(["a"] * 100, object)}
    new = {"constant": np.full(50, 7.1), "grade": np.full(50, 8.5), "kind": np.array(["never seen"] * 50, object)}
    assert {c.signal for c in check(old, new) if c.corrected <= 0.05} == {"constant", "grade", "kind"}


def test_learners_with_many_rows_would_raise_false_alarms():
    """Rows of one learner are alike; one row of each is taken. The twin takes all rows."""
    rng = np.random.default_rng(3)

    class Settings:
        number_columns, category_columns, category_values, classes = ["score"], [], [], []

    def learners(n):
        own = np.repeat(rng.normal(size=n), 20)
        units = [f"L{i // 20}" for i in range(20 * n)]
        return {"numbers": [[v] for v in own], "categories": [[]] * len(own)}, {"predicted": own, "group_id": units}

    alarms = {"one of each": 0, "all": 0}
    for seed in range(60):
        terms = [learners(30), learners(20)]
        for kind in alarms:
            told = [(inputs, {**c, "group_id": [""] * len(c["group_id"])} if kind == "all" else c) for inputs, c in terms]
            old, new = (drift.signals_of("outcome_prediction", Settings, *t, seed=seed) for t in told)
            alarms[kind] += check(old, new, seed)[0].corrected <= 0.05
    assert alarms["one of each"] <= 7 and alarms["all"] > 30


def test_the_distribution_under_no_change_is_that_of_all_tables_with_these_margins():
    # Fisher's tea: 2 x 2 tables with margins 4, 4 and 4, 4; a table as uneven as (4, 0) has 2 chances in 70
    p = independence(np.array([[4, 0], [0, 4]]), 20000, np.random.default_rng(0))
    assert p == pytest.approx(2 / 70, abs=0.004)
    assert independence(np.array([[5, 0], [9, 0]]), 99, np.random.default_rng(0)) == 1.0


def write(path, columns):
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(zip(*columns.values(), strict=True))
    return str(path)


def essay_file(path, rows, change=lambda text: text):
    return write(path, {
        "text": [change(t) for t in rows["text"]], "prompt": rows["prompt_id"], "writer": rows["learner_id"],
        "score": [s[0] for s in rows["scores"]],
    })  # fmt: skip


def run(folder, path, tmp_path, *more):
    words = ["--model", str(folder), "--input_file", path, "--output_file", str(tmp_path / "drift.json"), *more]
    result = check_drift.main(words)
    assert json.loads((tmp_path / "drift.json").read_text()) == result
    return result


def test_essays_of_a_new_term(finished_run, sample, tmp_path, capsys):
    columns = ("--prompt_column", "prompt", "--learner_column", "writer")
    test, old = sample.splits["test"], sample.splits["validation"]
    same = run(finished_run, essay_file(tmp_path / "same.csv", old), tmp_path, *columns)
    assert not same["alarm"] and "No change is shown" in capsys.readouterr().out and same["metric"] is None
    graded = (*columns, "--score_column", "score")
    short = essay_file(tmp_path / "short.csv", test, lambda text: "Zyx qwv " + " ".join(text.split()[:12]))
    found = run(finished_run, short, tmp_path, *graded)
    assert found["alarm"] and {"words", "words_not_in_training"} <= set(found["changed"])
    printed = capsys.readouterr().out
    assert "ALARM" in printed and found["metric"]["metric"] == "quadratic_weighted_kappa"
    assert test["text"][0][:20] not in printed and test["learner_id"][0] not in printed
    # last term's file in place of the reference
    before = ("--reference_file", essay_file(tmp_path / "last.csv", test))
    assert not run(finished_run, str(tmp_path / "same.csv"), tmp_path, *columns, *before)["alarm"]
    assert "words" in run(finished_run, short, tmp_path, *columns, *before)["changed"]


def test_records_of_a_new_year(finished_predictor, tmp_path):
    data = load_records("sample_school")

    def year(rows, change=lambda v: v):
        numbers = {n: [change(r[i]) for r in rows["numbers"]] for i, n in enumerate(data.number_columns)}
        numbers = {n: ["" if v != v else v for v in column] for n, column in numbers.items()}
        categories = {n: [r[i] for r in rows["categories"]] for i, n in enumerate(data.category_columns)}
        outcome = [data.classes[int(t)] if data.classes else t for t in rows["target"]]
        return {**numbers, **categories, "who": rows["learner_id"][:], "result": outcome}

    rows, words = data.splits["validation"], ("--learner_column", "who", "--target_column", "result")
    same = run(finished_predictor, write(tmp_path / "same.csv", year(rows)), tmp_path, *words)
    assert not same["alarm"] and same["metric"] and not same["metric"]["worse"]
    shifted = run(finished_predictor, write(tmp_path / "new.csv", year(rows, lambda v: 3 * v + 1)), tmp_path, *words)
    assert set(data.number_columns[:3]) & set(shifted["changed"])
    strange = write(tmp_path / "strange.csv", year(rows) | {"result": ["perhaps"] * len(rows)})
    with pytest.raises(DataError, match=r"strange.csv, row 2, column 'result': not an outcome"):
        run(finished_predictor, strange, tmp_path, *words)


def test_answers_of_a_new_term(finished_tracer, tmp_path):
    data = load_responses("sample_school")

    def log(rows, guessed=False, rename=False):
        rng = np.random.default_rng(0)
        table = {"learner": [], "concepts": [], "correct": [], "question": [], "time": []}
        for row in rows:
            for i, (concepts, correct) in enumerate(zip(row["concepts"], row["correct"], strict=True)):
                names = [data.concepts[c - 1] for c in concepts]
                table["concepts"].append("new chapter" if rename and i % 3 == 0 else ";".join(names))
                table["learner"].append(row["learner_id"])
                table["correct"].append(rng.integers(2) if guessed else correct)
                table["question"].append(data.questions[q - 1] if (q := row["questions"][i]) else "")
                table["time"].append(row["times"][i])
        return table

    words = ("--time_column", "time", "--question_column", "question")
    rows = data.splits["validation"]
    same = run(finished_tracer, write(tmp_path / "same.csv", log(rows)), tmp_path, *words)
    assert not same["alarm"] and same["metric"]["metric"] == "roc_auc" and not same["metric"]["worse"]
    guessed = run(finished_tracer, write(tmp_path / "guessed.csv", log(rows, guessed=True)), tmp_path, *words)
    assert "share correct" in guessed["changed"]
    # two epochs teach this tracer so little that becoming worse cannot show; a model that knows something is tested below
    assert guessed["metric"]["now"] == pytest.approx(0.5, abs=0.03)
    renamed = run(finished_tracer, write(tmp_path / "new.csv", log(rows, rename=True)), tmp_path, *words)
    assert "share of concepts not in training" in renamed["changed"]
    none = {**log(rows), "concepts": ["new chapter"] * len(log(rows)["correct"])}
    with pytest.raises(DataError, match="trained on none of the concepts"):
        run(finished_tracer, write(tmp_path / "none.csv", none), tmp_path, *words)


def test_the_reference_holds_counts_and_no_learner(finished_run, finished_tracer, finished_predictor, sample):
    test = sample.splits["test"]
    for folder in (finished_run, finished_tracer, finished_predictor):
        kept = json.loads((folder / "reference.json").read_text())
        assert set(kept) <= {"task", "rows", "signals", "metric", "vocabulary"}
        for summary in kept["signals"].values():
            counts = summary["counts"]
            assert all(isinstance(n, int) for n in (counts.values() if isinstance(counts, dict) else counts))
            assert set(summary) == ({"counts"} if isinstance(counts, dict) else {"edges", "counts", "missing", "median"})
    kept = json.loads((finished_run / "reference.json").read_text())
    named = {key for s in kept["signals"].values() if isinstance(s["counts"], dict) for key in s["counts"]}
    assert set(test["prompt_id"]) & named and not named & {*test["essay_id"], *test["learner_id"]}
    assert kept["rows"] == len(set(test["learner_id"])) < len(test)
    bits = read_reference(finished_run / "reference.json", "essay_scoring")["vocabulary"]
    assert len(bits) == drift.BUCKETS and np.array_equal(bits, drift.vocabulary_of(sample.splits["train"]["text"]))


def test_a_reference_that_is_not_there_or_damaged_is_told(finished_run, tmp_path):
    with pytest.raises(ConfigurationError, match="--reference_file"):
        read_reference(tmp_path / "reference.json", "essay_scoring")
    (tmp_path / "reference.json").write_text("{")
    with pytest.raises(ConfigurationError, match="damaged"):
        read_reference(tmp_path / "reference.json", "essay_scoring")
    with pytest.raises(ConfigurationError, match="of another model"):
        read_reference(finished_run / "reference.json", "knowledge_tracing")
    with pytest.raises(ConfigurationError, match="no signal in common"):
        check({"a": np.zeros(30)}, {"b": np.zeros(30)})
    with pytest.raises(ConfigurationError, match="no drift check for models of qa_tutoring"):
        drift.signals_of("qa_tutoring", None, {}, {})
    with pytest.raises(ConfigurationError, match="name the new data"):
        check_drift.main(["--model", str(finished_run)])


def test_a_model_that_became_worse_is_told_with_an_interval():
    rng = np.random.default_rng(0)

    class Settings:
        number_columns, category_columns, category_values, classes, positive = ["x"], [], [], ["no", "yes"], 1

    def year(noise, rows=400):
        x = rng.normal(size=rows)
        p = 1 / (1 + np.exp(-(x + noise * rng.normal(size=rows))))
        y = np.where(rng.random(rows) < 1 / (1 + np.exp(-2 * x)), "yes", "no")
        columns = {"record_id": [f"r{i}" for i in range(rows)], "predicted": np.where(p > 0.5, "yes", "no"), "outcome": y}
        return {"numbers": [[v] for v in x], "categories": [[]] * rows}, columns | {"probability_no": 1 - p, "probability_yes": p}

    inputs, columns = year(0)
    reference = make_reference("outcome_prediction", Settings, inputs, columns)
    same = measure_drop(reference, "outcome_prediction", year(0)[1])
    assert not same.worse and same.interval[0] < 0 < same.interval[1] and "not shown" in same.sentence()
    worse = measure_drop(reference, "outcome_prediction", year(4)[1])
    assert worse.worse and worse.now < worse.before and "has become worse: AUC" in worse.sentence()
