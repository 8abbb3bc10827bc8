"""Two runs on the same rows: who is better, what may be chance, and what cannot be compared."""

import csv
import shutil

import numpy as np
import pytest
from conftest import load_recipe

from trainers.comparison import Difference, compare_runs, find_layout, judge_run
from trainers.parser import ConfigurationError
from trainers.report import write_csv

compare = load_recipe("compare")


def essays(rng, noise, true=None, learners=60, essays_each=3):
    """Predictions of a run whose scores are the human ones with noise; the essays of a learner go wrong together."""
    rows = learners * essays_each
    true = rng.integers(0, 7, rows).astype(float) if true is None else true
    scores = true + noise * (rng.normal(size=rows) + np.repeat(rng.normal(size=learners), essays_each))
    return {
        "essay_id": [f"E{i}" for i in range(rows)], "prompt_id": ["one"] * rows, "score": np.clip(np.rint(scores), 0, 6),
        "send_to_human": ["false"] * rows, "human_score": true, "group_id": [f"L{i // essays_each}" for i in range(rows)],
    }  # fmt: skip


def test_two_equals_differ_by_chance_in_19_of_20_tests():
    rng, covered = np.random.default_rng(1), 0
    for seed in range(200):
        first = essays(rng, 1.0)
        second = essays(rng, 1.0, first["human_score"])
        result = compare_runs(first, second, draws=200, seed=seed)
        low, high = result.differences[0].interval
        covered += low <= 0 <= high
    assert 0.90 <= covered / 200 <= 0.99 and result.unit == "learner" and result.units == 60 and result.rows == 180


def test_drawing_rows_where_learners_go_wrong_together_would_claim_too_much():
    """The twin of the test above: with the unit taken away the intervals are too narrow."""
    rng, covered = np.random.default_rng(1), 0
    for seed in range(150):
        first = essays(rng, 1.0, learners=20, essays_each=10)
        second = essays(rng, 1.0, first["human_score"], learners=20, essays_each=10)
        for table in (first, second):
            del table["group_id"]
        result = compare_runs(first, second, draws=200, seed=seed)
        low, high = result.differences[0].interval
        covered += low <= 0 <= high
    assert covered / 150 < 0.88 and result.unit == "row" and "drawn by row" in result.sentence()


def test_a_clear_difference_is_told_in_words(tmp_path, capsys):
    rng = np.random.default_rng(0)
    good = essays(rng, 0.4)
    bad = essays(rng, 1.6, good["human_score"])
    order = rng.permutation(len(good["essay_id"]))
    write_csv(tmp_path / "good.csv", {k: np.asarray(v)[order] for k, v in good.items()})  # rows are paired by id, not by place
    write_csv(tmp_path / "bad.csv", bad)
    result = compare.main([str(tmp_path / "bad.csv"), str(tmp_path / "good.csv"), "--output_file", str(tmp_path / "out.json")])
    printed = capsys.readouterr().out
    assert "good.csv" in printed and "180 rows of essay_scoring were paired" in printed
    assert "B is better than A" in printed and "drawn by learner" in printed and (tmp_path / "out.json").is_file()
    verdicts = {d.metric: d.verdict() for d in result.differences}
    assert verdicts["quadratic_weighted_kappa"] == verdicts["mean_absolute_error"] == "better", "an error that falls is better"
    back = compare.main([str(tmp_path / "good.csv"), str(tmp_path / "bad.csv")])
    assert back.differences[0].verdict() == "worse" and "B is worse than A" in back.sentence()
    same = compare.main([str(tmp_path / "good.csv"), str(tmp_path / "good.csv")])
    assert same.differences[0].difference == 0 and same.differences[0].verdict() == "may be chance"


def test_a_metric_that_cannot_be_computed_is_never_better():
    assert Difference("roc_auc", 0.5, 0.6, (float("nan"), float("nan"))).verdict() == "may be chance"


def test_lists_are_judged_by_all_that_is_relevant():
    lists = {
        "query": ["q"] * 3, "rank": [1, 2, 3], "resource_id": ["a", "b", "c"], "score": [3, 2, 1], "relevant": [0, 1, 0],
        "relevant_resources": [2] * 3, "group_id": ["g"] * 3,
    }  # fmt: skip
    found = judge_run("resource_recommendation", lists).values()
    assert found["ndcg_at_10"] == pytest.approx((1 / np.log2(3)) / (1 + 1 / np.log2(3))) and found["mrr_at_10"] == 0.5
    del lists["relevant_resources"]
    with pytest.raises(ConfigurationError, match="older version"):
        judge_run("resource_recommendation", lists)


def test_values_are_compared_by_their_error():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=200)
    first, second = ({"record_id": range(200), "predicted": truth + s * rng.normal(size=200), "outcome": truth} for s in (1, 0.2))
    result = compare_runs(first, second)
    assert result.differences[0].metric == "root_mean_squared_error" and result.differences[0].verdict() == "better"


def broken(tmp_path, change):
    first = essays(np.random.default_rng(0), 1.0)
    second = {k: list(v) for k, v in first.items()}
    second = change(second) or second
    write_csv(tmp_path / "a.csv", first)
    write_csv(tmp_path / "b.csv", second)
    return [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]


def test_runs_that_cannot_be_compared_are_refused(tmp_path):
    def refused(change, what, *more):
        with pytest.raises(ConfigurationError, match=what):
            compare.main([*broken(tmp_path, change), *more])

    refused(lambda t: {k: v[:100] for k, v in t.items()}, "100 are in both, 80 only in .*a.csv, 0 only in .*--common_rows")
    refused(lambda t: t.update(essay_id=[f"x{i}" for i in range(180)]), "no row of .* is in")
    refused(lambda t: t.update(human_score=[6 - v for v in t["human_score"]]), "the truth of 1?[0-9]{2} of 180 rows differs")
    refused(lambda t: t.update(essay_id=["E0"] * 180), "179 rows have the essay_id of another row")
    refused(lambda t: {k if k != "human_score" else "human_style": v for k, v in t.items()}, "has a column human_score")
    refused(lambda t: {"record_id": t["essay_id"], "predicted": t["score"], "outcome": t["score"]}, "one recipe")
    refused(lambda t: {"name": t["essay_id"]}, "does not look like the predictions.csv")
    refused(lambda t: t.update(score=["high"] * 180), "a cell that should hold a number does not")
    refused(lambda t: None, "there is no column 'class'", "--unit_column", "class")
    refused(lambda t: None, "draws must be 100", "--draws", "3")
    with pytest.raises(ConfigurationError, match="name two runs"):
        compare.main([str(tmp_path / "a.csv")])
    with pytest.raises(ValueError, match="there is no file"):
        compare.main([str(tmp_path / "a.csv"), str(tmp_path / "c.csv")])


def test_common_rows_are_compared_where_that_is_asked_for(tmp_path):
    words = broken(tmp_path, lambda t: {k: v[:100] for k, v in t.items()})
    result = compare.main([*words, "--common_rows", "--unit_column", "essay_id"])
    assert result.rows == 100 and result.left_out == (80, 0) and result.unit == "essay_id" and result.units == 100


def test_no_message_holds_an_id(tmp_path):
    for change in (lambda t: t.update(essay_id=["E0"] * 180), lambda t: t.update(human_score=[0] * 180)):
        with pytest.raises(ConfigurationError) as error:
            compare.main(broken(tmp_path, change))
        assert "E0" not in str(error.value) and "L0" not in str(error.value)


def test_very_many_rows_are_drawn_less_often(monkeypatch):
    monkeypatch.setattr("trainers.comparison.MOST_CELLS", 180 * 150)
    first = essays(np.random.default_rng(0), 1.0)
    assert compare_runs(first, first).draws == 150


def test_a_layout_is_known_by_its_columns(finished_run, tmp_path):
    shutil.copy(finished_run / "predictions.csv", tmp_path / "renamed.csv")
    with (tmp_path / "renamed.csv").open() as file:
        assert find_layout(next(csv.DictReader(file)), "renamed.csv") == "essay_scoring"
