"""The hybrid weighs the model against what can be counted, says how sure it is, and calls a human where it should."""

import json
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset
from sklearn.feature_extraction.text import TfidfVectorizer

from trainers.baselines.essay_scoring import STRONGEST, essay_baselines
from trainers.calibration import variance_match
from trainers.essay_features import SURFACE, EssayFeatures, PromptRidge, hashed_words, surface_features
from trainers.essay_scoring import fit_hybrid
from trainers.essay_settings import ANY, EssaySettings
from trainers.gaming import attacks, gaming_texts
from trainers.hybrid import ARRAYS, FACTS, Hybrid, minimal_variance_weight
from trainers.intervals import conformal_radius

HELD = ("validation", "calibration")

# ---- simulated readings: numbers without texts --------------------------------------------------------------------------


class School:
    """Essays of some prompts as numbers: worth, human score, model, and what a ridge reads; all scaled to 0..1.

    Args:
        rows: Split -> prompt -> number of essays.
        model, ridge: Standard deviation of their errors; `human` is that of the human score.
        hard: How far the size of all errors depends on the length of the essay.
    """

    def __init__(self, rows, model=0.06, ridge=0.06, human=0.04, hard=0.0, scores=1, seed=0):
        rng = np.random.default_rng(seed)
        self.prompts, self.human, self.model, self.read = {}, {}, {}, {p: {} for by in rows.values() for p in by}
        for split, by_prompt in rows.items():
            n = sum(by_prompt.values())
            self.prompts[split] = [p for p, count in by_prompt.items() for _ in range(count)]
            worth, surface = 0.5 + 0.15 * rng.normal(size=(n, scores)), rng.normal(size=(n, len(SURFACE)))
            spread = np.exp(hard * surface[:, [SURFACE.index("fourth_root_of_words")]])
            self.human[split], self.model[split], counted = (
                worth + noise * spread * rng.normal(size=(n, scores)) for noise in (human, model, ridge)
            )
            for prompt in by_prompt:
                here = np.array(self.prompts[split]) == prompt
                self.read[prompt][split] = {
                    "ridge": counted[here], "surface": surface[here], "on_topic": rng.uniform(0.3, 0.9, here.sum()),
                    "familiar": rng.uniform(0.3, 0.9, here.sum()), "copied": np.zeros(here.sum()),
                    "empty": np.zeros(here.sum(), bool),
                }  # fmt: skip

    def fit(self, human_share=0.1, fused=True, new_prompts=()):
        every = [*self.read, *new_prompts]
        read = {p: {s: r for s, r in self.read.get(p, {}).items() if s in HELD} for p in every}
        steps = {p: np.full(self.model["validation"].shape[1], 0.1) for p in every}
        return Hybrid(dict.fromkeys(every), steps, fused).fit(read, self.model, self.human, self.prompts, human_share)

    def read_by(self, hybrid, split="test"):
        counted = {p: r[split] for p, r in self.read.items() if split in r}
        return hybrid.read_counted(counted, self.prompts[split], self.model[split])

    def error(self, scores, split="test"):
        return float(np.sqrt(np.mean((scores - self.human[split]) ** 2)))


def one_prompt(held=150, test=1500, **noise):
    return School({"validation": {"a": held}, "calibration": {"a": held}, "test": {"a": test}}, **noise)


# ---- fusion -----------------------------------------------------------------------------------------------------------


def test_a_model_of_noise_gets_no_weight_and_does_no_harm():
    school = one_prompt(model=5.0)
    hybrid = school.fit()
    assert hybrid.weight["a"] == pytest.approx(0, abs=0.01)
    alone = school.error(school.read["a"]["test"]["ridge"])
    assert school.error(school.read_by(hybrid).scores) == pytest.approx(alone, rel=0.05)
    useful = one_prompt()
    assert useful.error(useful.read_by(useful.fit()).scores) < 0.9 * alone


def test_a_perfect_model_gets_all_the_weight():
    school = one_prompt(model=0.0)
    assert school.fit().weight["a"] == pytest.approx(1, abs=0.03)
    assert one_prompt(ridge=5.0).fit().weight["a"] == pytest.approx(1, abs=0.01)


def test_two_scorers_that_err_apart_are_better_together():
    school = one_prompt(model=0.1, ridge=0.1, held=400)
    hybrid = school.fit()
    assert hybrid.weight["a"] == pytest.approx(0.5, abs=0.1)
    one_alone = [school.error(scores) for scores in (school.model["test"], school.read["a"]["test"]["ridge"])]
    assert school.error(school.read_by(hybrid).scores) < 0.85 * min(one_alone)


def test_the_weight_is_the_one_that_a_search_would_find():
    rng = np.random.default_rng(0)
    worth = rng.normal(size=80)
    model, ridge, human = (worth + s * rng.normal(size=80) for s in (0.5, 0.8, 0.3))
    grid = np.linspace(0, 1, 1001)
    found = grid[np.argmin([np.mean((w * model + (1 - w) * ridge - human) ** 2) for w in grid])]
    assert minimal_variance_weight(model, ridge, human) == pytest.approx(found, abs=1e-3)
    with_gap = minimal_variance_weight(np.append(model, 9), np.append(ridge, -9), np.append(human, np.nan))
    assert with_gap == minimal_variance_weight(model, ridge, human)


def test_where_nothing_tells_model_and_ridge_apart_they_count_alike():
    same = np.ones(5)
    assert minimal_variance_weight(same, same, same) == minimal_variance_weight(same, same * 2, same * np.nan) == 0.5


def test_without_fusion_the_scores_are_those_of_the_model():
    school = one_prompt()
    reading = school.read_by(school.fit(fused=False))
    slope, intercept = variance_match(school.model["calibration"][:, 0], school.human["calibration"][:, 0])
    assert np.allclose(reading.scores, slope * school.model["test"] + intercept) and np.isfinite(reading.radius).all()


# ---- intervals and doubts ---------------------------------------------------------------------------------------------


def test_nine_in_ten_human_scores_lie_inside_their_interval():
    covered = []
    for seed in range(30):
        school = one_prompt(held=200, test=500, hard=0.5, seed=seed)
        reading = school.read_by(school.fit())
        covered.append(np.mean(np.abs(reading.scores - school.human["test"]) <= reading.radius))
    assert np.mean(covered) == pytest.approx(0.9, abs=0.02)


def test_essays_that_are_hard_to_score_get_wider_intervals():
    school = one_prompt(held=800, hard=0.6)
    reading = school.read_by(school.fit())
    error, radius = np.abs(reading.scores - school.human["test"])[:, 0], reading.radius[:, 0]
    wide = radius > np.median(radius)
    assert error[wide].mean() > 1.5 * error[~wide].mean()
    assert all(np.mean(error[half] <= radius[half]) == pytest.approx(0.9, abs=0.06) for half in (wide, ~wide))


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_as_many_essays_go_to_a_human_as_was_asked(share):
    rates = []
    for seed in range(20):
        school = one_prompt(held=200, hard=0.5, seed=seed)
        rates.append(np.mean(school.read_by(school.fit(human_share=share)).doubts == "uncertain"))
    assert np.mean(rates) == pytest.approx(share, abs=0.02)


def test_nobody_is_uncertain_where_no_essay_is_to_go_to_a_human():
    school = one_prompt(hard=0.5)
    assert "uncertain" not in school.read_by(school.fit(human_share=0)).doubts


def test_with_too_few_graded_essays_for_an_interval_every_essay_is_uncertain():
    school = one_prompt(held=8, test=50)
    reading = school.read_by(school.fit())
    assert np.isinf(reading.radius).all() and set(reading.doubts) <= {"uncertain", "off topic", "unfamiliar language"}
    assert np.isfinite(reading.scores).all()


def test_the_first_reason_is_told():
    school = one_prompt(held=100, test=6)
    hybrid, counted = school.fit(), school.read["a"]["test"]
    counted["on_topic"][:], counted["familiar"][:] = 0.6, 0.6
    counted["empty"][0] = True
    counted["copied"][:2] = 0.9
    counted["on_topic"][:3] = 0.01
    counted["familiar"][:4] = 0.01
    hybrid.least["a"][2] = 0
    assert list(school.read_by(hybrid).doubts) == ["empty", "copied within itself", "off topic", "unfamiliar language", "", ""]


def test_one_honest_essay_in_a_hundred_is_taken_for_off_topic():
    school = one_prompt(held=500, test=4000)
    doubts = school.read_by(school.fit(human_share=0)).doubts
    assert 0 < np.mean(doubts == "off topic") < 0.025 and 0 < np.mean(doubts == "unfamiliar language") < 0.025


# ---- several prompts, several scores, gaps ----------------------------------------------------------------------------


def test_a_prompt_with_few_calibration_rows_takes_what_is_fitted_on_all():
    few = 19
    school = School({"validation": {"a": 60, "b": few}, "calibration": {"a": 60, "b": few}, "test": {"a": 5, "b": 5}})
    hybrid = school.fit()
    fused = np.zeros((60 + few, 1))
    for prompt in "ab":
        here = np.array(school.prompts["calibration"]) == prompt
        weight = hybrid.weight[prompt]
        fused[here] = weight * school.model["calibration"][here] + (1 - weight) * school.read[prompt]["calibration"]["ridge"]
    human = school.human["calibration"]
    pooled = variance_match(fused[:, 0], human[:, 0])
    assert hybrid.lines["b"][0] == pytest.approx(pooled) and hybrid.lines["a"][0] != pytest.approx(pooled)
    assert hybrid.lines["a"][0] == pytest.approx(variance_match(fused[:60, 0], human[:60, 0]))
    assert hybrid.weight["b"] != hybrid.weight["a"] and np.isfinite(hybrid.radius["b"]).all()


def test_with_twenty_rows_a_prompt_has_its_own_line():
    rows = {"a": 60, "b": 20}
    school = School({"validation": rows, "calibration": rows})
    school.human["calibration"][60:] += 0.3  # the humans of b are kinder
    hybrid = school.fit()
    gap = (hybrid.lines["b"] - hybrid.lines["a"])[0] @ np.array([0.5, 1])
    assert gap == pytest.approx(0.3, abs=0.06)


def test_a_prompt_is_read_alike_whatever_stands_beside_it():
    """The rows of the prompts may come in any order."""
    school = School({"validation": {"a": 60, "b": 60}, "calibration": {"a": 60, "b": 60}, "test": {"a": 20, "b": 20}})
    hybrid, order = school.fit(), np.random.default_rng(0).permutation(40)
    reading = school.read_by(hybrid)
    places = {p: [i for i in order if school.prompts["test"][i] == p] for p in "ab"}
    counted = {p: {n: v[np.array(places[p]) % 20] for n, v in school.read[p]["test"].items()} for p in "ab"}
    prompts = [school.prompts["test"][i] for i in order]
    again = hybrid.read_counted(counted, prompts, school.model["test"][order])
    assert np.allclose(again.scores, reading.scores[order]) and np.allclose(again.radius, reading.radius[order])
    assert list(again.doubts) == list(reading.doubts[order])


def test_missing_scores_of_several_are_left_out():
    rows, covered = {"validation": {"a": 80, "b": 80}, "calibration": {"a": 80, "b": 80}, "test": {"a": 200, "b": 200}}, []
    for seed in range(20):
        school, rng = School(rows, scores=3, seed=seed), np.random.default_rng(seed)
        for split in HELD:
            school.human[split][:, 1:][rng.random((160, 2)) < 0.3] = np.nan
            school.human[split][80:, 2] = np.nan  # the third score was never given on b
        hybrid = school.fit()
        reading = school.read_by(hybrid)
        assert reading.scores.shape == reading.radius.shape == (400, 3)
        assert np.isfinite(reading.scores).all() and np.isfinite(reading.radius).all()
        assert hybrid.radius["b"][2] == hybrid.radius["a"][2]
        covered.append(np.mean(np.abs(reading.scores - school.human["test"]) <= reading.radius, axis=0))
    assert np.mean(covered, axis=0) == pytest.approx([0.9] * 3, abs=0.03)


def test_a_score_that_nobody_gave_on_calibration_has_no_interval_and_breaks_nothing():
    school = School({"validation": {"a": 60}, "calibration": {"a": 60}, "test": {"a": 10}}, scores=2)
    school.human["calibration"][:, 1] = np.nan
    reading = school.read_by(school.fit())
    assert np.isfinite(reading.scores).all() and np.isinf(reading.radius[:, 1]).all() and np.isfinite(reading.radius[:, 0]).all()


# ---- real features ----------------------------------------------------------------------------------------------------

GOOD = ["zymurgy", "quixotry", "jabberwock", "flibbert", "wuthering"]
PLAIN = ["moggle", "snoffle", "drumbo", "plinket", "grizzum"]
TOPICS = {"river": ["kayakka", "delfinu", "brackwash", "ferribo"], "phones": ["telefonka", "ringtuna", "tapskreen", "sellulo"]}


def write_essays(n, prompt, rng):
    """Texts of made-up words; the more of the good ones and the longer, the better."""
    worth = rng.random(n)
    texts = []
    for w in worth:
        chosen = [rng.choice(GOOD if rng.random() < w else PLAIN) if rng.random() < 0.7 else rng.choice(TOPICS[prompt])
                  for _ in range(int(20 + 30 * w))]  # fmt: skip
        texts.append(". ".join(" ".join(chosen[i : i + 6]).capitalize() for i in range(0, len(chosen), 6)) + ".")
    return texts, np.clip(worth + 0.05 * rng.normal(size=n), 0, 1)[:, None]


@pytest.fixture(scope="module")
def written():
    """A hybrid fitted on texts of two prompts, its ridges and splits; the model is half noise."""
    rng, splits, targets = np.random.default_rng(0), {}, {}
    for split, n in (("train", 50), ("validation", 30), ("calibration", 30), ("test", 20)):
        parts = [write_essays(n, p, rng) for p in TOPICS]
        splits[split] = {"text": [t for texts, _ in parts for t in texts], "prompt_id": [p for p in TOPICS for _ in range(n)]}
        targets[split] = np.concatenate([y for _, y in parts])
    raw, ridges, read = essay_baselines(splits, targets, [ANY])
    model = {s: np.clip(targets[s] + 0.15 * rng.normal(size=targets[s].shape), 0, 1) for s in splits if s != "train"}
    datasets = {s: Dataset.from_dict(d) for s, d in splits.items()}
    settings = EssaySettings("{text}", score_ranges={p: [(0.0, 5.0)] for p in TOPICS}, new_prompts=True)
    hybrid = fit_hybrid(settings, datasets, ridges, read, model, targets, True, 0.1)
    return hybrid, splits, targets, model, raw


def test_the_ridge_learns_what_makes_these_essays_good(written):
    _, _, targets, _, raw = written
    assert np.corrcoef(raw[STRONGEST]["test"][:, 0], targets["test"][:, 0])[0, 1] > 0.9


def test_what_was_read_beforehand_gives_what_texts_give(written):
    hybrid, splits, _, model, _ = written
    texts, prompts = splits["test"]["text"], splits["test"]["prompt_id"]
    order = np.random.default_rng(0).permutation(len(texts))
    whole = hybrid.read(texts, prompts, model["test"])
    mixed = hybrid.read([texts[i] for i in order], [prompts[i] for i in order], model["test"][order])
    assert np.allclose(mixed.scores, whole.scores[order]) and list(mixed.doubts) == list(whole.doubts[order])


def test_a_saved_hybrid_reads_as_the_one_that_was_fitted(written, tmp_path):
    hybrid, splits, _, model, _ = written
    hybrid.save(tmp_path)
    again = Hybrid.load(tmp_path / ARRAYS, tmp_path / FACTS)
    texts = [*splits["test"]["text"], "", "something else entirely"]
    prompts, scores = [*splits["test"]["prompt_id"], "river", "phones"], np.vstack([model["test"], [[0.9]], [[0.9]]])
    one, two = (h.read(texts, prompts, scores) for h in (hybrid, again))
    assert np.array_equal(one.scores, two.scores) and np.array_equal(one.radius, two.radius)
    assert list(one.doubts) == list(two.doubts) and np.array_equal(one.certainty, two.certainty)


def test_no_interval_survives_saving(written, tmp_path):
    hybrid = replace(written[0], radius=dict.fromkeys(written[0].ridges, np.array([np.inf])))
    hybrid.save(tmp_path)
    again = Hybrid.load(tmp_path / ARRAYS, tmp_path / FACTS)
    assert again.radius["river"] == np.inf
    assert "Infinity" not in (tmp_path / FACTS).read_text()  # which is no json


def test_the_saved_files_hold_no_word_that_a_learner_wrote(written, tmp_path):
    hybrid, splits, *_ = written
    hybrid.save(tmp_path)
    content = (tmp_path / ARRAYS).read_bytes() + (tmp_path / FACTS).read_bytes()
    words = {w.lower() for t in splits["train"]["text"] for w in re.findall(r"\w+", t)} - set(TOPICS)
    assert words == {*GOOD, *PLAIN, *sum(TOPICS.values(), [])}
    assert not any(word.encode() in content.lower() for word in words)
    assert json.loads((tmp_path / FACTS).read_text())["prompts"] == [*sorted(TOPICS), "*"]
    # the twin: a vocabulary would hold them all
    vocabulary = pickle.dumps(TfidfVectorizer().fit(splits["train"]["text"]))
    assert all(word.encode() in vocabulary for word in words)


@pytest.mark.parametrize("text", ["", " ", "\n \t\n"])
def test_an_empty_essay_gets_the_lowest_score_and_goes_to_a_human(written, text):
    hybrid, splits, _, model, _ = written
    reading = hybrid.read([splits["test"]["text"][0], text], ["river", "river"], np.array([model["test"][0], [1.0]]))
    assert reading.scores[1] == 0 and reading.doubts[1] == "empty" and reading.scores[0] > 0


def test_essays_about_something_else_are_doubted(written):
    hybrid, *_ = written
    for prompt in TOPICS:
        for texts in gaming_texts().values():
            assert all(hybrid.read(texts, [prompt] * len(texts), np.full((len(texts), 1), 0.5)).doubts)
    foreign, _ = write_essays(20, "phones", np.random.default_rng(5))
    doubts = hybrid.read(foreign, ["river"] * 20, np.full((20, 1), 0.5)).doubts
    other = ("off topic", "unfamiliar language")
    honest, _ = write_essays(200, "river", np.random.default_rng(6))
    honest = hybrid.read(honest, ["river"] * 200, np.full((200, 1), 0.5)).doubts
    assert np.mean(np.isin(doubts, other)) > 0.8 and np.mean(np.isin(honest, other)) < 0.2


def test_an_essay_that_is_pasted_twice_gains_nothing_and_goes_to_a_human(written):
    hybrid, splits, _, model, _ = written
    texts, prompts = splits["test"]["text"], splits["test"]["prompt_id"]
    once, twice = (hybrid.read(ts, prompts, model["test"]) for ts in (texts, [f"{t} {t}" for t in texts]))
    assert np.allclose(once.scores, twice.scores) and np.allclose(once.radius, twice.radius)
    assert set(twice.doubts) == {"copied within itself"} and "copied within itself" not in once.doubts


def test_a_new_prompt_is_scored_as_the_prompts_together(written):
    hybrid, splits, targets, model, _ = written
    hybrid.add_prompt("bees", ANY)
    texts, scores = splits["test"]["text"], model["test"]
    new, pooled = (hybrid.read(texts, [p] * len(texts), scores) for p in ("bees", ANY))
    assert np.array_equal(new.scores, pooled.scores) and np.array_equal(new.radius, pooled.radius)
    assert np.corrcoef(new.scores[:, 0], targets["test"][:, 0])[0, 1] > 0.9
    with pytest.raises(KeyError):
        hybrid.read(["text"], ["never added"], scores[:1])


def test_what_a_new_prompt_takes_is_fitted_on_the_rows_of_all(written):
    hybrid, splits, targets, model, _ = written
    read = hybrid.ridges[ANY].read(splits["validation"]["text"])
    expected = minimal_variance_weight(model["validation"][:, 0], read["ridge"][:, 0], targets["validation"][:, 0])
    assert hybrid.weight[ANY] == pytest.approx(expected)
    assert np.isfinite(hybrid.radius[ANY]).all() and hybrid.least[ANY][0] > 0


# ---- features ---------------------------------------------------------------------------------------------------------


def test_surface_features_are_those_counted_by_hand():
    row = dict(zip(SURFACE, surface_features(["Rivers flow, and rivers bend. Why? I wonder!"])[0], strict=True))
    assert row["words"] == 8 and row["different_words"] == 7 and row["type_token_ratio"] == 7 / 8
    assert row["sentences"] == 3 and row["words_a_sentence"] == pytest.approx(8 / 3) and row["commas_a_word"] == 1 / 8
    assert row["other_punctuation_a_word"] == 2 / 8 and row["long_words"] == 0 and row["square_root_of_words"] == 8**0.5
    assert row["characters"] == 44 and row["mean_word_length"] == pytest.approx(33 / 8)


def test_no_text_breaks_the_features():
    odd = ["", " ", "...", "?", "a", "word " * 5000, "é\u0301 ñ 漢字 😀", "\x00"]
    assert surface_features(odd).shape == (8, 13) and np.isfinite(surface_features(odd)).all()
    assert surface_features([]).shape == (0, 13) and hashed_words(odd).shape[0] == 8
    ridge = PromptRidge.fit(["some words here"] * 4, np.array([[0.0], [1.0], [0.5], [np.nan]]))
    read = ridge.read(odd)
    assert all(np.isfinite(v).all() and len(v) == 8 for v in read.values())
    assert read["empty"].tolist() == [True] * 4 + [False] * 3 + [True] and read["copied"][5] > 0.9 and read["copied"][4] == 0


def test_words_that_stand_in_too_few_essays_are_left_out_and_rows_have_length_one():
    features = EssayFeatures.fit(["river bank", "river boat", "river bend", "bank"])
    assert len(features.columns) == 1  # river alone stands in three
    norms = np.sqrt(features.words(["river river bank", "boat"]).power(2).sum(axis=1))
    assert np.asarray(norms).ravel().tolist() == [1, 0]


def test_a_heap_of_fitting_words_is_told_from_an_essay(sample):
    """Its words are those of the prompt, but hardly any pair of them stands in an essay."""
    phones, ferry = ([r["text"] for r in sample.splits["train"] if r["prompt_id"] == p] for p in ("phones", "ferry"))
    honest = [r["text"] for s in ("validation", "test") for r in sample.splits[s] if r["prompt_id"] == "phones"]
    features = EssayFeatures.fit(phones, hashed_words(ferry))
    stuffed = attacks(honest, ["phones"] * len(honest))["keyword stuffing"][1]
    fitting, essays = (features.oddity(texts, features.words(texts)) for texts in (stuffed, honest))
    assert fitting["on_topic"].mean() > essays["on_topic"].mean() and fitting["familiar"].max() < essays["familiar"].min()


def test_an_essay_of_another_prompt_is_less_on_topic_than_any_of_its_own(sample):
    """The twin, a topic that does not know the other prompts, takes one for the other."""
    texts = {p: [r["text"] for r in sample.splits["train"] if r["prompt_id"] == p] for p in ("ferry", "phones")}
    test = {p: [r["text"] for s in ("validation", "test") for r in sample.splits[s] if r["prompt_id"] == p] for p in texts}

    def overlap(others):
        features = EssayFeatures.fit(texts["phones"], others)
        own, foreign = (features.words(test[p]) @ features.topic for p in ("phones", "ferry"))
        return np.mean(foreign[:, None] >= own[None, :])

    assert overlap(hashed_words(texts["ferry"])) < 0.05 < overlap(None)


def test_a_ridge_masks_missing_scores():
    texts, targets = write_essays(40, "river", np.random.default_rng(2))
    both = np.hstack([targets, targets])
    both[::2, 1] = np.nan
    ridge, half = PromptRidge.fit(texts, both), PromptRidge.fit(texts, targets)
    assert np.allclose(ridge.read(texts)["ridge"][:, 0], half.read(texts)["ridge"][:, 0])
    assert np.corrcoef(ridge.read(texts)["ridge"][::2, 1], targets[::2, 0])[0, 1] > 0.7
    one = PromptRidge.fit(texts, np.where(np.arange(40)[:, None] == 3, 0.4, np.nan))
    assert np.allclose(one.read(texts)["ridge"], 0.4)


@pytest.mark.parametrize("texts", [["我喜欢在河边散步。", "渡船每天早上过河。", "老师说作业很重要。"], ["one", "two", "three"]])
def test_essays_that_share_no_word_are_scored_by_their_surface(texts):
    """As those in a script without spaces are."""
    ridge = PromptRidge.fit(texts, np.array([[0.0], [0.5], [1.0]]))
    assert np.isfinite(ridge.read([*texts, ""])["ridge"]).all()


def test_the_radius_is_that_of_errors_to_lines_fitted_without_their_row():
    """Where difficulty tells nothing; the twin, errors to the line of all rows, is smaller."""
    school = one_prompt(held=30)
    hybrid = school.fit(fused=False)
    hybrid.difficulty[:] = [0, 0, 0, 0, 1]
    held = (school.read["a"]["calibration"], school.model["calibration"], school.human["calibration"])
    hybrid._fit_lines_and_radius({"a": held[0]}, held[1], held[2], {"a": np.ones(30, bool)})
    model, human = held[1][:, 0], held[2][:, 0]
    errors = []
    for k in range(30):
        slope, intercept = variance_match(np.delete(model, k), np.delete(human, k))
        errors.append(abs(slope * model[k] + intercept - human[k]))
    assert hybrid.radius["a"] == pytest.approx(conformal_radius(np.array(errors)))
    slope, intercept = variance_match(model, human)
    assert conformal_radius(np.abs(slope * model + intercept - human)) < hybrid.radius["a"]
