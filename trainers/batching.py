"""Which examples share a batch, and in which order the batches come."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from .parser import ConfigurationError

POOL = 50  # global batches that are sorted by length together


class LengthBatchSampler:
    """Batches of similar length, in random order, each example once an epoch.

    Every update sees the same examples whether they come in one batch, in several accumulated ones or over several
    processes: a global batch is drawn first and then cut. Stock length grouping runs each pool from its longest to its
    shortest example, so that training drifts where length goes with the label; here the order of the batches is random.

    Yields batches process by process: batch i belongs to process i % num_processes, as accelerate shards them.

    Args:
        lengths: Tokens of each example.
        batch_size: Examples a device and step.
        num_processes: Number of processes.
        accumulation_steps: Batches a process adds up for one update.
        seed: Seed; with the epoch it fixes the order.
        by_length: False draws batches at random.

    Raises:
        ConfigurationError: There are fewer examples than processes times accumulation steps.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        num_processes: int = 1,
        accumulation_steps: int = 1,
        seed: int = 0,
        by_length: bool = True,
    ):
        self.lengths = np.asarray(lengths)
        self.parts = num_processes * accumulation_steps
        self.accumulation_steps, self.num_processes = accumulation_steps, num_processes
        self.updates = -(-len(self.lengths) // (batch_size * self.parts))
        self.seed, self.by_length, self.epoch = seed, by_length, 0
        if len(self.lengths) // self.updates < self.parts:
            raise ConfigurationError(
                f"{len(self.lengths)} training examples cannot be shared by {num_processes} processes with "
                f"{accumulation_steps} accumulation steps; use fewer of either."
            )

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.updates * self.parts

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = rng.permutation(len(self.lengths))
        # global batches differ by one example at most, so that none is left over
        cuts = np.linspace(0, len(order), self.updates + 1).round().astype(int)
        if self.by_length:
            for start in range(0, self.updates, POOL):
                pool = slice(cuts[start], cuts[min(start + POOL, self.updates)])
                order[pool] = order[pool][np.argsort(self.lengths[order[pool]], kind="stable")]
        for i in rng.permutation(self.updates):
            for part in np.array_split(order[cuts[i] : cuts[i + 1]], self.parts):
                yield part.tolist()

    def examples_of(self, update: int, processes: Sequence[int]) -> list[int]:
        """The examples that these processes see in an update, which is counted from 0 over all epochs."""
        again = copy.copy(self)
        again.epoch, within = divmod(update, self.updates)
        batches = list(itertools.islice(again, within * self.parts, (within + 1) * self.parts))
        return [i for process in processes for batch in batches[process :: self.num_processes] for i in batch]
