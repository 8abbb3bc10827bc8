"""The traps of essay scoring, each with a twin in which it is open and does its damage.

Others stand beside what they belong to: pooled kappa in test_metrics, order after batching in test_essay_scoring, leaks in
test_splits, quotes in test_essays, doubled essays in test_gaming, rows drawn one by one in test_intervals.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict

from edu_datasets.schema import ESSAYS
from trainers import essay_scoring
from trainers.acceptance import MAX_DEGRADATION, acceptance
from trainers.calibration import to_scale, variance_match
from trainers.checkpoints import find_checkpoint, load_tokenizer
from trainers.essay_evaluation import agreement_by_prompt
from trainers.essay_scoring import EssayScorer, EssayTrainer
from trainers.essay_settings import EssaySettings
from trainers.intervals import conformal_radius
from trainers.metrics.quadratic_weighted_kappa import quadratic_weighted_kappa


def kappa(scores, human, low=1, high=6):
    return quadratic_weighted_kappa(to_scale(scores, low, high, 1), human, low, high)


# ---- 1 pooled kappa -----------------------------------------------------------------------------------------------------


def test_scores_of_several_prompts_are_never_pooled():
    """A scorer that knows the prompt and nothing of the essay."""
    rng = np.random.default_rng(0)
    ranges = {"1": (2, 12), "3": (0, 3), "8": (0, 60)}
    prompts = np.repeat(list(ranges), 200)
    human = np.concatenate([rng.integers(6, 12, 200), rng.integers(0, 4, 200), rng.integers(30, 46, 200)]).astype(float)
    constant = np.array([np.rint(human[prompts == p].mean()) for p in prompts])
    settings = EssaySettings(score_ranges={p: [r] for p, r in ranges.items()})
    found = agreement_by_prompt(constant[:, None], human[:, None], prompts, settings)["mean"]
    assert abs(found["quadratic_weighted_kappa"]) < 0.01 and found["pearsonr"] == 0
    assert quadratic_weighted_kappa(constant, human, 0, 60) > 0.9  # the twin


# ---- 2 calibration on test ----------------------------------------------------------------------------------------------


def scores_and_humans(rng, n, skill):
    """Humans on a scale of 1 to 6, and a machine of some skill on a scale of its own."""
    worth = rng.normal(size=2 * n)
    human = to_scale(3.5 + 1.2 * worth, 1, 6, 1)
    return 0.5 + 0.1 * (skill * worth + (1 - skill**2) ** 0.5 * rng.normal(size=2 * n)), human


@pytest.mark.parametrize(("fit", "skill", "gain"), [
    (lambda raw, human: np.polyfit(raw, human, 1), 0.0, 0.03),  # a line turns even noise the right way round
    (variance_match, 0.7, 0.01),
])  # fmt: skip
def test_a_line_fitted_on_the_test_rows_praises_itself(fit, skill, gain):
    """Few rows, as a school has them; the mean of many schools."""
    rng, honest, leaking = np.random.default_rng(0), [], []
    n = 15
    for _ in range(400):
        raw, human = scores_and_humans(rng, n, skill)
        for results, rows in ((honest, slice(n)), (leaking, slice(n, None))):  # fitted on calibration, on test
            slope, intercept = fit(raw[rows], human[rows])
            results.append(kappa(slope * raw[n:] + intercept, human[n:]))
    assert np.mean(leaking) > np.mean(honest) + gain
    if skill == 0:
        assert abs(np.mean(honest)) < 0.03


TOPICS = {"river": (1, 6), "phones": (0, 30)}


def make_splits():
    """Essays whose length and words tell their score, in the canonical columns."""
    rng, splits, number = np.random.default_rng(0), {}, 0
    for name, n in (("train", 40), ("validation", 25), ("calibration", 25), ("test", 25)):
        rows = []
        for topic, (low, high) in TOPICS.items():
            for worth in rng.random(n):
                words = [f"{'fine' if rng.random() < worth else 'dull'} {topic} {rng.choice(list('abcdefgh'))}."
                         for _ in range(int(5 + 10 * worth))]  # fmt: skip
                score = [float(np.clip(np.rint(low + (high - low) * (worth + 0.05 * rng.normal())), low, high))]
                rows.append([f"E{number}", f"L{number}", f"L{number}", topic, " ".join(words), score, score, score, [topic]])
                number += 1
        splits[name] = Dataset.from_dict(dict(zip(ESSAYS, map(list, zip(*rows, strict=True)), strict=True)), features=ESSAYS)
    return DatasetDict(splits)


def score_run(splits, raw, monkeypatch):
    """`EssayTrainer.score_beside_baselines` with given logits in place of a trained model."""
    monkeypatch.setattr(essay_scoring, "kappa_intervals", lambda *_: {})  # a thousand draws that nothing here asks for
    settings = EssaySettings(score_ranges={p: [r] for p, r in TOPICS.items()})
    settings.fit_targets(np.array(splits["train"]["scores"]), splits["train"]["prompt_id"])
    trainer = SimpleNamespace(
        settings=settings, splits=splits, fused=True, human_share=0.1, hybrid=None, subgroup_columns=[], ours="hybrid",
        logits=lambda dataset: np.array([raw[i] for i in dataset["essay_id"]])[:, None],
    )  # fmt: skip
    result, predictions = EssayTrainer.score_beside_baselines(trainer)
    return result, predictions, trainer


def test_the_human_scores_of_the_test_split_change_no_prediction(monkeypatch):
    splits, rng = make_splits(), np.random.default_rng(1)
    raw = {i: s[0] / TOPICS[p][1] + 0.3 * rng.normal()
           for d in splits.values() for i, p, s in zip(d["essay_id"], d["prompt_id"], d["scores"], strict=True)}  # fmt: skip
    result, predictions, trainer = score_run(splits, raw, monkeypatch)
    test = splits["test"].to_dict()
    mirrored = [[TOPICS[p][1] - s[0] + TOPICS[p][0]] for p, s in zip(test["prompt_id"], test["scores"], strict=True)]
    test |= dict.fromkeys(("scores", "rater1_scores", "rater2_scores"), mirrored)
    other = DatasetDict({**splits, "test": Dataset.from_dict(test, features=ESSAYS)})
    upside_down, same, other_trainer = score_run(other, raw, monkeypatch)
    for name, column in predictions["scores"].items():
        assert np.array_equal(column, same["scores"][name]), name
    assert trainer.settings.calibration == other_trainer.settings.calibration
    assert result["sent_to_human"] == upside_down["sent_to_human"]
    # what is measured on test did change, so that the comparison could have failed
    assert result["test"]["quadratic_weighted_kappa"] > 0.7 and upside_down["test"]["quadratic_weighted_kappa"] < 0
    # the twin: fitted on test, the calibration would have moved with the scores
    human, prompts = np.array(splits["test"]["scores"]), splits["test"]["prompt_id"]
    logits = trainer.logits(splits["test"])
    leaking = [trainer.settings.fit_calibration(logits, h, prompts) for h in (human, np.sqrt(human))]
    assert leaking[0] != leaking[1]


def test_the_human_scores_of_calibration_do_change_the_predictions(monkeypatch):
    """The other side of the test above: what may be looked at is looked at."""
    splits, rng = make_splits(), np.random.default_rng(1)
    raw = {i: rng.normal() for d in splits.values() for i in d["essay_id"]}
    _, predictions, _ = score_run(splits, raw, monkeypatch)
    calibration = splits["calibration"].to_dict()
    for i in range(0, len(calibration["scores"]), 2):
        calibration["scores"][i] = [float(TOPICS[calibration["prompt_id"][i]][0])]
    other = DatasetDict({**splits, "calibration": Dataset.from_dict(calibration, features=ESSAYS)})
    _, changed, _ = score_run(other, raw, monkeypatch)
    assert changed["scores"]["score_unrounded"].mean() < predictions["scores"]["score_unrounded"].mean()


# ---- 3 the order of predictions -----------------------------------------------------------------------------------------


class CountTokens(torch.nn.Module):
    """A model that says how many tokens it was shown."""

    config, device = SimpleNamespace(num_labels=1), "cpu"

    def forward(self, input_ids, attention_mask):
        return SimpleNamespace(logits=attention_mask.sum(1, keepdim=True).float())


def test_predictions_come_back_in_the_order_of_the_essays(tiny_model, sample):
    """Batches hold similar lengths, so that essays are read in another order than they came."""
    settings = EssaySettings(score_ranges=sample.score_ranges, max_length=256)
    scorer = EssayScorer(CountTokens(), load_tokenizer(find_checkpoint(tiny_model)), settings)
    test = sample.splits["test"]
    inputs = [settings.input_template.format(text=t, prompt_id=p) for t, p in zip(test["text"], test["prompt_id"], strict=True)]
    tokens = np.array([min(len(ids), 256) for ids in scorer.tokenizer(inputs)["input_ids"]])
    assert len(set(tokens.tolist())) > 10
    for batch_size in (1, 4, 64):
        assert scorer.logits(test["text"], test["prompt_id"], batch_size)[:, 0].tolist() == tokens.tolist()
    assert not np.array_equal(np.sort(tokens)[::-1], tokens)


def test_scrambled_predictions_are_worth_nothing():
    """The twin: the same good scores, each on another essay."""
    rng = np.random.default_rng(0)
    raw, human = scores_and_humans(rng, 300, 0.9)
    slope, intercept = variance_match(raw, human)
    scores, by_length = slope * raw + intercept, rng.permutation(600)
    assert kappa(scores, human) > 0.8 and abs(kappa(scores[by_length], human)) < 0.1


# ---- 4 the sum of two raters --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def summed():
    """Two raters from 1 to 6, their sum as the score, and a machine that errs more than a rater does."""
    rng = np.random.default_rng(0)
    worth = rng.normal(3.5, 1.2, 2000)
    first, second = (to_scale(worth + 0.7 * rng.normal(size=2000), 1, 6, 1) for _ in range(2))
    return to_scale(2 * (worth + 1.0 * rng.normal(size=2000)), 2, 12, 1), first + second, first, second


def test_a_machine_is_held_against_one_rater_and_not_against_the_sum(summed):
    """The sum of two ratings errs less than either: to agree with it is easier than to agree with a rater."""
    machine, human, first, second = summed
    result = acceptance(machine, human, first, second, 2, 12)
    assert result["human_kappa"] == pytest.approx(quadratic_weighted_kappa(first, second, 1, 6))
    naive = result["human_kappa"] - quadratic_weighted_kappa(machine, human, 2, 12)  # the twin
    assert naive < result["degradation"] - 0.02


def test_a_machine_that_fails_could_pass_against_the_sum():
    rng = np.random.default_rng(1)
    worth = rng.normal(3.5, 1.2, 2000)
    first, second = (to_scale(worth + 0.8 * rng.normal(size=2000), 1, 6, 1) for _ in range(2))
    machine = to_scale(2 * (worth + 1.2 * rng.normal(size=2000)), 2, 12, 1)
    result = acceptance(machine, first + second, first, second, 2, 12)
    naive = result["human_kappa"] - quadratic_weighted_kappa(machine, first + second, 2, 12)
    assert "degradation" in result["failed"] and result["degradation"] > MAX_DEGRADATION > naive


def test_a_rater_against_a_sum_that_holds_the_rating_agrees_with_himself(summed):
    """The other twin: people look better than they are, and every machine worse."""
    machine, human, first, second = summed
    honest = acceptance(machine, human, first, second, 2, 12)["human_kappa"]
    assert quadratic_weighted_kappa(2 * first, human, 2, 12) > honest + 0.1


# ---- 5 the range of the rubric ------------------------------------------------------------------------------------------

RUBRIC, OBSERVED = (EssaySettings(score_ranges={"7": [r]}) for r in ((0, 30), (2, 24)))  # prompt 7 of ASAP


def test_a_score_that_no_graded_essay_reached_can_be_given():
    better = np.array([[27.2], [0.6]])
    assert RUBRIC.rounded(better, ["7", "7"]).ravel().tolist() == [27, 1]
    assert OBSERVED.rounded(better, ["7", "7"]).ravel().tolist() == [24, 2]  # the twin


def test_scores_off_the_observed_range_would_stop_the_evaluation():
    human = np.array([2.0, 9.0, 24.0, 27.0])
    assert quadratic_weighted_kappa(human, human, 0, 30) == 1
    with pytest.raises(ValueError, match="not on the grid 2 to 24"):
        quadratic_weighted_kappa(human, human, 2, 24)


def test_a_range_of_training_scores_would_change_what_an_ordinal_model_can_say():
    """Half a point of 30 is another score than half a point of 22; an ordinal head would lack outputs."""
    middle = np.array([[0.5]])
    assert RUBRIC.calibrated(middle, ["7"]) == 15 and OBSERVED.calibrated(middle, ["7"]) == 13
    ordinal = [EssaySettings(score_ranges=s.score_ranges, loss="corn").num_labels() for s in (RUBRIC, OBSERVED)]
    assert ordinal == [30, 22]
    assert RUBRIC.scale([[30.0]], ["7"]) == 1 < OBSERVED.scale([[30.0]], ["7"])


# ---- 6 intervals from rows that chose or taught -------------------------------------------------------------------------


def test_intervals_from_the_rows_a_model_was_fitted_on_cover_too_little():
    rng, open_trap, ours = np.random.default_rng(0), [], []
    truth = rng.normal(size=30)
    for _ in range(60):
        x, held, fresh = (rng.normal(size=(n, 30)) for n in (50, 50, 300))
        y, y_held, y_fresh = (part @ truth + 3 * rng.normal(size=len(part)) for part in (x, held, fresh))
        weights = np.linalg.solve(x.T @ x + 0.1 * np.eye(30), x.T @ y)
        errors = np.abs(fresh @ weights - y_fresh)
        open_trap.append(np.mean(errors <= conformal_radius(np.abs(x @ weights - y))))
        ours.append(np.mean(errors <= conformal_radius(np.abs(held @ weights - y_held))))
    assert np.mean(ours) == pytest.approx(0.9, abs=0.03) and np.mean(open_trap) < 0.7


def test_intervals_from_the_rows_that_chose_the_checkpoint_cover_too_little():
    """Thirty checkpoints, equally good; the one that was lucky on validation is kept."""
    rng, open_trap, ours = np.random.default_rng(0), [], []
    for _ in range(400):
        validation, calibration, fresh = (np.abs(rng.normal(size=(30, n))) for n in (20, 20, 200))
        kept = np.argmin(validation.mean(axis=1))
        open_trap.append(np.mean(fresh[kept] <= conformal_radius(validation[kept])))
        ours.append(np.mean(fresh[kept] <= conformal_radius(calibration[kept])))
    assert np.mean(ours) == pytest.approx(0.9, abs=0.02) and np.mean(open_trap) < 0.82
