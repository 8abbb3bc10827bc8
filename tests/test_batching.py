"""Batches of similar length in random order, the same updates however they are cut."""

import numpy as np
import pytest
from transformers.trainer_pt_utils import LengthGroupedSampler

from trainers.batching import LengthBatchSampler
from trainers.parser import ConfigurationError

LENGTHS = np.random.default_rng(0).integers(20, 400, 517)


def test_each_example_comes_once_an_epoch():
    batches = list(LengthBatchSampler(LENGTHS, 8, num_processes=2, accumulation_steps=3, seed=1))
    assert sorted(i for b in batches for i in b) == list(range(517))
    assert len(batches) == len(LengthBatchSampler(LENGTHS, 8, 2, 3, 1)) and len(batches) % 6 == 0


@pytest.mark.parametrize(("batch_size", "processes", "steps"), [(24, 1, 1), (12, 2, 1), (12, 1, 2), (4, 2, 3)])
def test_an_update_sees_the_same_examples_however_it_is_cut(batch_size, processes, steps):
    whole = [set(b) for b in LengthBatchSampler(LENGTHS, 24, seed=3)]
    batches = list(LengthBatchSampler(LENGTHS, batch_size, processes, steps, seed=3))
    parts = processes * steps
    assert [set(sum(batches[i : i + parts], [])) for i in range(0, len(batches), parts)] == whole


def test_epochs_differ_and_repeat_by_seed():
    sampler, again = LengthBatchSampler(LENGTHS, 8, seed=5), LengthBatchSampler(LENGTHS, 8, seed=5)
    first = list(sampler)
    sampler.set_epoch(1)
    again.set_epoch(1)
    assert list(sampler) == list(again) != first


def drift(batches: list[list[int]], lengths: np.ndarray) -> float:
    """Correlation of a batch's place with its length."""
    return abs(np.corrcoef(np.arange(len(batches)), [lengths[b].mean() for b in batches])[0, 1])


def test_length_does_not_drift_as_it_does_with_stock_grouping():
    lengths = np.random.default_rng(1).integers(20, 400, 4000)
    ours = list(LengthBatchSampler(lengths, 8, seed=0))
    stock = list(LengthGroupedSampler(8, lengths=lengths.tolist()))
    assert drift(ours[:50], lengths) < 0.3
    assert drift([stock[i : i + 8] for i in range(0, 400, 8)], lengths) > 0.9  # the trap, open


def test_batches_hold_similar_lengths():
    padding = [1 - LENGTHS[b].mean() / LENGTHS[b].max() for b in LengthBatchSampler(LENGTHS, 8, seed=0)]
    at_random = [1 - LENGTHS[b].mean() / LENGTHS[b].max() for b in LengthBatchSampler(LENGTHS, 8, seed=0, by_length=False)]
    assert np.mean(padding) < 0.1 < np.mean(at_random)


def test_too_few_examples_for_the_processes_are_refused():
    with pytest.raises(ConfigurationError, match="3 training examples cannot be shared by 4 processes"):
        LengthBatchSampler([5, 6, 7], 1, num_processes=4)
