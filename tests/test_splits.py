"""What belongs together stays on one side of a split."""

import numpy as np
import pytest
from datasets import Dataset, DatasetDict

from edu_datasets import DataError
from edu_datasets.splits import connected_groups, find_leaks, halve_validation, k_folds, split_by_group


@pytest.fixture(scope="module")
def essays() -> Dataset:
    """150 essays of 50 learners on two prompts; 15 essays were copied from another learner."""
    rng = np.random.default_rng(0)
    texts = [f"Essay number {i} about something of its own." for i in range(150)]
    for copy in rng.choice(np.arange(50, 150), 15, replace=False):
        texts[copy] = texts[copy - 50 + 1].upper()
    return Dataset.from_dict({"learner_id": [f"L{i % 50}" for i in range(150)], "text": texts, "prompt_id": ["a", "a", "b"] * 50})


@pytest.fixture(scope="module")
def groups(essays) -> np.ndarray:
    return connected_groups(essays["learner_id"], [t.lower() for t in essays["text"]])


# ---- groups -----------------------------------------------------------------------------------------------------------


def test_rows_are_joined_by_a_learner_by_a_text_and_through_others():
    learners = ["ann", "ann", "bob", "cyd", "dan"]
    texts = ["one", "two", "two", "three", "four"]  # ann and bob share 'two', so that all of ann joins all of bob
    assert connected_groups(learners, texts).tolist() == [0, 0, 0, 1, 2]


def test_an_unknown_learner_joins_nothing():
    assert len(set(connected_groups(["", "", ""], ["one", "two", "three"]).tolist())) == 3


def test_a_value_of_one_key_does_not_join_the_same_value_of_another_key():
    assert len(set(connected_groups(["same", "other"], ["text", "same"]).tolist())) == 2


def test_a_long_chain_of_shared_values_is_one_group():
    n = 500
    learners = [f"L{i // 2}" for i in range(n)]
    texts = [f"T{(i + 1) // 2}" for i in range(n)]
    assert set(connected_groups(learners, texts).tolist()) == {0}


# ---- folds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 5, 7])
def test_folds_cover_every_row_once_and_cut_no_group(essays, groups, k):
    folds = k_folds(groups, essays["prompt_id"], k, seed=1)
    assert len(folds) == k and all(len(fold) for fold in folds)
    assert sorted(np.concatenate(folds).tolist()) == list(range(len(essays)))
    for i, fold in enumerate(folds):
        others = np.concatenate([f for j, f in enumerate(folds) if j != i])
        assert not set(groups[fold]) & set(groups[others])


def test_folds_keep_the_shares_of_the_prompts(essays):
    groups, prompts = np.arange(len(essays)), np.array(essays["prompt_id"])
    for fold in k_folds(groups, prompts, k=5, seed=1):
        assert np.mean(prompts[fold] == "b") == pytest.approx(1 / 3, abs=0.05)


def test_a_prompt_with_fewer_rows_than_folds_is_no_obstacle():
    folds = k_folds(np.arange(12), ["rare"] * 2 + ["common"] * 10, k=5, seed=1)
    assert sorted(np.concatenate(folds).tolist()) == list(range(12))


def test_fewer_groups_than_folds_are_refused():
    with pytest.raises(DataError, match="3 groups.*5 parts.*at least 5 groups.*--validation_file"):
        k_folds([0, 0, 1, 1, 2, 2], ["a"] * 6, k=5, seed=1)


# ---- train, validation, test ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 42])
def test_a_split_by_group_leaks_neither_learner_nor_text_and_loses_no_row(essays, groups, seed):
    splits = split_by_group(essays, groups, essays["prompt_id"], seed)
    assert find_leaks(splits, ["learner_id", "text"]) == []
    rows = [row for part in splits.values() for row in zip(part["learner_id"], part["text"], strict=True)]
    assert sorted(rows) == sorted(zip(essays["learner_id"], essays["text"], strict=True))
    shares = {name: len(part) / len(essays) for name, part in splits.items()}
    assert shares == pytest.approx({"train": 0.6, "validation": 0.2, "test": 0.2}, abs=0.05)


def test_a_random_split_of_the_same_essays_leaks_both(essays):
    """The trap that the test above closes: without groups the same data leaks learners and texts."""
    rows = np.random.default_rng(0).permutation(len(essays))
    parts = {"train": rows[:90], "validation": rows[90:120], "test": rows[120:]}
    leaks = find_leaks(DatasetDict({name: essays.select(part) for name, part in parts.items()}), ["learner_id", "text"])
    assert {column for column, *_ in leaks} == {"learner_id", "text"}


def test_a_split_is_the_same_for_the_same_seed_and_another_for_another(essays, groups):
    first, again, other = (split_by_group(essays, groups, essays["prompt_id"], seed)["test"]["text"] for seed in (3, 3, 4))
    assert list(first) == list(again) and list(first) != list(other)


# ---- leaks ------------------------------------------------------------------------------------------------------------


def dataset(texts) -> Dataset:
    return Dataset.from_dict({"text": texts})


def test_a_shared_text_is_found_despite_case_and_white_space_and_located():
    splits = DatasetDict(train=dataset(["Other.", "My  dog\n is Big."]), test=dataset(["More.", "Else.", " my dog is big. "]))
    assert find_leaks(splits, ["text"]) == [("text", "train", "test", 1, 2)]


def test_a_text_shared_by_validation_and_test_is_found_too():
    splits = DatasetDict(train=dataset(["a"]), validation=dataset(["b", "c"]), test=dataset(["c"]))
    assert find_leaks(splits, ["text"]) == [("text", "validation", "test", 1, 0)]


def test_a_text_that_stands_twice_in_one_split_and_an_empty_one_are_no_leaks():
    assert find_leaks(DatasetDict(train=dataset(["a", "A", ""]), test=dataset(["b", " "])), ["text"]) == []


# ---- validation and calibration ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three_splits(essays, groups) -> DatasetDict:
    """The essays with the group a split may not cut: the learner alone, so that copied texts must be found again."""
    return split_by_group(essays.add_column("group_id", essays["learner_id"]), groups, essays["prompt_id"], seed=1)


@pytest.mark.parametrize("seed", [0, 1, 42])
def test_halving_validation_leaks_neither_learner_nor_text_and_loses_no_row(three_splits, seed):
    halved = halve_validation(three_splits, seed)
    assert find_leaks(halved, ["learner_id", "text"]) == []
    before, after = three_splits["validation"]["text"], [*halved["validation"]["text"], *halved["calibration"]["text"]]
    assert sorted(before) == sorted(after) and len(halved["calibration"]) == pytest.approx(len(before) / 2, abs=4)
    for name in ("train", "test"):
        assert halved[name]["text"][:] == three_splits[name]["text"][:]


def test_a_learner_with_copied_texts_goes_to_one_half_with_whom_she_copied_from():
    rows = {"group_id": ["ann", "ann", "bob", "bob", "cyd", "dan"], "prompt_id": ["a"] * 6,
            "text": ["one", "Same text", "same  TEXT", "two", "three", "four"]}  # fmt: skip
    splits = DatasetDict(train=dataset(["x"]), validation=Dataset.from_dict(rows), test=dataset(["y"]))
    for seed in range(10):
        halved = halve_validation(splits, seed)
        assert any({"ann", "bob"} <= set(halved[half]["group_id"]) for half in ("validation", "calibration"))


def test_both_halves_hold_every_prompt(three_splits):
    halved = halve_validation(three_splits, seed=0)
    shares = [np.mean(np.array(halved[half]["prompt_id"]) == "b") for half in ("validation", "calibration")]
    assert shares == pytest.approx([1 / 3, 1 / 3], abs=0.15)


def test_halves_are_the_same_for_the_same_seed_and_others_for_another(three_splits):
    first, again, other = (list(halve_validation(three_splits, seed)["calibration"]["text"]) for seed in (3, 3, 4))
    assert first == again != other


def test_validation_of_one_learner_cannot_be_halved_and_says_so(three_splits, caplog):
    alone = Dataset.from_dict({"group_id": ["ann"] * 4, "prompt_id": ["a"] * 4, "text": ["one", "two", "three", "four"]})
    halved = halve_validation(DatasetDict({**three_splits, "validation": alone}), seed=0)
    assert halved["validation"]["text"][:] == halved["calibration"]["text"][:] == alone["text"][:]
    assert "cannot be halved" in caplog.text
