"""Learning resources, the topics they answer and who opened them: LectureBank, MARS, Learning Equality, the sample school, a
school's own tables.

Two tasks, two splits. Resources for a topic: whole topics are held out, those with the same parent together, and what training
may use holds no resource of a held-out topic and none that says nearly the same. The next resource of a learner: time is cut
for everybody at once. Holding out the last resource of each learner would train on what others opened after it.
"""

from __future__ import annotations

import csv
import functools
import io
import itertools
import logging
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict, Features, concatenate_datasets

from .arrow_cache import BLOCK, RowWriter, column_values, is_on_disk
from .errors import DataError, in_file
from .essays import find_data_dir
from .files import Table, as_seconds, as_text, decode, read_bytes, read_table, require_file, unknown_data_set
from .near_duplicates import LEAST_WORDS, near_duplicate_groups
from .provenance import Provenance
from .resource_tables import (
    TOPIC_BLOCK,
    ResourceColumns,
    ResourceIds,
    kind_of_time,
    opted_out_unknown,
    path_above,
    read_interactions,
    read_learners,
    read_resources,
    read_topics,
)
from .row_arrays import column_keys, count_different, first_rows
from .schema import CATALOGUE, HISTORIES, INTERACTIONS, OPENINGS, RESOURCES, TOPICS
from .school_generator import CONCEPTS
from .school_views import school_resources, school_views
from .splits import connected_groups, k_folds

logger = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
BUILT_IN = ("sample_school", "lecturebank", "mars", "learning_equality")
FLAGS = {"repeated": 6, "cold_learner": 8, "cold_resource": 8}  # and the width of their columns in the summary


@dataclass
class ResourceDataset(Provenance):
    """Resources ready for a recipe.

    Attributes:
        resources: The whole catalogue with the columns of `schema.RESOURCES`; all of it is ranked.
        topics: train, validation and test with the columns of `schema.TOPICS`; empty where there are none.
        interactions: train, validation and test with the columns of `schema.INTERACTIONS`; empty where there are none.
        name: What the data set is called in the card.
        all_topics: The topics before the split, with all relevant resources.
        trainable: Bool array (resources,): what training on topics may use, as positive and as negative.
        train_only: Topics that the source does not test on.
        all_interactions: The interactions before a sample of the learners was drawn: what those who are left had opened.
    """

    resources: Dataset
    topics: DatasetDict
    interactions: DatasetDict
    name: str
    all_topics: Dataset
    trainable: np.ndarray
    train_only: frozenset[str] = frozenset()
    all_interactions: DatasetDict = field(default_factory=DatasetDict)

    @functools.cached_property
    def _ids(self) -> ResourceIds:
        return ResourceIds(self.resources)

    def rows(self, resource_ids: Iterable[str]) -> np.ndarray:
        """The rows in `resources` of these ids, an int64 array."""
        return self._ids.rows(resource_ids)

    def histories(self, split: str, repeats: bool = False, rolling: bool = False) -> Dataset:
        """What is known of each learner, and what is to be predicted (`schema.HISTORIES`).

        Args:
            split: 'train', 'validation' or 'test'. Of 'test' the history holds training and validation.
            repeats: Keep targets that the learner had opened before, too.
            rolling: A row for each target, whose history is all that the learner opened before it, in the split too; else a row
                for each learner, whose history ends where the split begins.

        Returns:
            A row a learner with a target, or a row a target; of 'train' a row for every learner of the split, without targets.
        """
        if not self.interactions:
            raise DataError(f"{self.name} has no interactions.", fix="Name a file of them with --interactions_file.")
        before = [self.all_interactions[name] for name in SPLITS[: SPLITS.index(split)]] or [self.interactions["train"]]
        past, split_rows = concatenate_datasets(before), self.interactions[split]
        if rolling and split != "train":
            return self._rolling(past, split_rows, repeats)
        rows = past if split == "train" else split_rows
        if split != "train" and not repeats:
            rows = rows.select(np.flatnonzero(~np.fromiter(column_values(rows, "repeated"), bool, len(rows))))
        names, counts, ordered = _by_learner(rows, rows)
        histories, targets = _runs(ordered, counts), itertools.repeat([])
        if split != "train":
            _, counts, ordered = _by_learner(past, rows)
            histories, targets = _runs(ordered, counts), histories
        with RowWriter(HISTORIES, is_on_disk(self.resources)) as found:
            for name, known, wanted in zip(names, histories, targets, strict=False):
                found.append(_history(name, known, wanted))
            return found.dataset()

    @staticmethod
    def _rolling(past: Dataset, split: Dataset, repeats: bool) -> Dataset:
        """A row for each target."""
        known: dict[str, list[dict]] = defaultdict(list)
        for row in past.to_list():
            known[row["learner_id"]].append(row)
        rows = []
        for row in split.to_list():
            learner = row["learner_id"]
            rows += [_history(learner, known[learner], [row])] if repeats or not row["repeated"] else []
            known[learner].append(row)
        return _dataset(rows, HISTORIES)

    def queries(self, kind: str, rolling: bool = False) -> DatasetDict:
        """What resources are asked for in each split: the topics ('topic'), or the learners' histories ('history').

        Raises:
            DataError: There are none.
        """
        if kind == "history":
            return DatasetDict({split: self.histories(split, rolling=rolling) for split in SPLITS})
        if not self.topics:
            raise DataError(
                f"{self.name} has no topics to find resources for.",
                fix="Name the column of the topics with --topics_column, or set --query history.",
            )
        return self.topics

    def fold_splits(self, k: int, seed: int) -> dict[str, DatasetDict]:
        """Cut the topics of train and validation into `k` folds; the test topics are in none, and none trains on their resources.

        Returns:
            fold_0, fold_1, ...: test (the fold), validation (a fifth of the rest), train.
        """
        ids = {t for s in ("train", "validation") for t in column_values(self.topics[s], "topic_id")}
        side = np.array(["train" if t in ids & self.train_only else "" for t in self.all_topics["topic_id"]], dtype=object)
        rows = np.array([i for i, t in enumerate(self.all_topics["topic_id"]) if t in ids - self.train_only])
        groups = connected_groups(column_values(self.all_topics.select(rows), "group_id"))
        splits = {}
        for number, fold in enumerate(_cut_topics(groups, k, seed)):
            sides = side.copy()
            sides[rows] = fold
            splits[f"fold_{number}"] = _hold_out(self.all_topics, sides, self._ids)[0]
        return splits

    def summary(self) -> str:
        """Counts by split, for `--check_data` and the log."""
        aside = f", {sum(self.left_out.values()):,} aside" if self.left_out else ""
        lines = [f"{self.name}: {self.rows_read:,} rows read, {len(self.rejected)} left out{aside}. {self.split_protocol}"]
        lines += [f"  {len(self.resources):,} resources; {self._duplicates():,} of them nearly repeat another"]
        for column in ("language", "licence", "level", "kind"):
            counts = Counter(column_values(self.resources, column)).most_common(6)
            lines += [f"  {column:10} " + ", ".join(f"{value or 'unknown'} ({n:,})" for value, n in counts)]
        if self.topics:
            lines += [f"  {'':10} {'topics':>12} {'relevant':>9}"]
            for split, rows in self.topics.items():
                lines += [f"  {split:10} {len(rows):12,} {sum(map(len, column_values(rows, 'resource_ids'))):9,}"]
        if self.interactions:
            lines += [
                f"  {'':10} {'interactions':>12} {'learners':>9} {'resources':>9} {'again':>6} {'cold l.':>8} {'cold r.':>8}"
            ]
            for split, rows in self.interactions.items():
                flags = " ".join(f"{np.mean(np.fromiter(column_values(rows, c), bool)):{w}.2f}" for c, w in FLAGS.items())
                sizes = " ".join(f"{_different(rows, c):9,}" for c in ("learner_id", "resource_id"))
                lines += [f"  {split:10} {len(rows):12,} {sizes} {flags}"]
        return "\n".join(lines)

    def facts(self) -> dict:
        """What the report says of the data; no id and no text."""
        topics, opened = ({s: len(d) for s, d in splits.items()} for splits in (self.topics, self.interactions))
        return self.source_facts(
            {"resources": len(self.resources), "topics": topics, "interactions": opened, "near_duplicates": self._duplicates()}
        )

    def _duplicates(self) -> int:
        return len(self.resources) - _different(self.resources, "group_id")


def load_resources(
    dataset_name: str = "sample_school",
    *,
    data_dir: str | Path | None = None,
    resources_file: str | Path | None = None,
    interactions_file: str | Path | None = None,
    topics_file: str | Path | None = None,
    opt_out_file: str | Path | None = None,
    columns: ResourceColumns | None = None,
    min_resources: int | None = None,
    fold: int = 0,
    folds: int = 5,
    validation_from: str | float | None = None,
    test_from: str | float | None = None,
    seed: int = 42,
    encoding: str | None = None,
    separator: str | None = None,
    skip_bad_rows: bool = False,
    max_train_samples: int | None = None,
    max_eval_samples: int | None = None,
    streaming: bool = False,
) -> ResourceDataset:
    """Load resources, and split topics by parent and interactions by time.

    Args:
        dataset_name: One of `BUILT_IN`. Ignored with `resources_file`.
        data_dir: The folder that holds the public sets; else the environment variable EDU_DATA_DIR.
        resources_file: A table with a resource a row: its id, text, licence, level, language, perhaps title, kind and topics
            (separated by ';'). Topics, interactions or both are needed.
        interactions_file: A table with a row each time a learner opened a resource: learner, resource, time.
        topics_file: A table that describes the topics: topic and text, and, optional, parent, the topic above. Without it a topic
            is searched for by its name.
        opt_out_file: A table with a column of learners whose openings are used for nothing.
        columns: The user's column names.
        min_resources: Topics with fewer relevant resources are no queries; their resources are ranked all the same. None takes 5
            for lecturebank and 1 elsewhere.
        fold: Which fold of the topics is the test split.
        folds: The number of folds.
        validation_from: The time from which on interactions are validation: a date or a number, as the times in the file. None
            cuts before the last fifth of the interactions.
        test_from: The time from which on they are test. None cuts before the last tenth.
        seed: Seed of the split of topics.
        encoding: See `files.read_table`.
        separator: See `files.read_table`.
        skip_bad_rows: Leave rows that cannot be used out, and list them, instead of ending the run.
        max_train_samples: Keep a random part of the topics and of the learners of training.
        max_eval_samples: Keep a random part of those of validation and of test; their histories stay whole.
        streaming: Keep the rows of the user's own files on disk, see `arrow_cache`.

    Raises:
        DataError: With file, row and column.
    """
    for name, most in (
        ("--max_train_samples", max_train_samples), ("--max_eval_samples", max_eval_samples), ("--min_resources", min_resources),
    ):  # fmt: skip
        if most is not None and most < 1:
            raise DataError(f"{name} is {most}.", expected="a whole number from 1 on")
    if folds < 2 or fold not in range(folds):
        raise DataError("there is no such fold.", found=f"{fold} of {folds}", expected=f"2 folds at least, 0 to {folds - 1}")
    if resources_file:
        files = (resources_file, interactions_file)
        tables = [read_table(path, encoding, separator, streaming) if path else None for path in files]
        tables.append(read_table(topics_file, encoding, separator) if topics_file else None)
        source = _own_tables(*tables, columns or ResourceColumns(), skip_bad_rows, streaming)
    elif interactions_file or topics_file:
        raise DataError("interactions and topics need the resources they name.", fix="Name their file with --resources_file.")
    elif dataset_name == "sample_school":
        source = _sample_school()
    elif dataset_name == "lecturebank":
        source = _lecturebank(find_data_dir(data_dir) / "lecturebank")
    elif dataset_name == "mars":
        source = _mars(find_data_dir(data_dir) / "recommendation" / "mars_en")
    elif dataset_name == "learning_equality":
        source = _learning_equality(find_data_dir(data_dir) / "learning_equality")
    else:
        raise unknown_data_set(dataset_name, BUILT_IN, fix="Your own tables go to --resources_file and --interactions_file.")
    source.make_tables()
    source.min_resources = min_resources or source.min_resources
    if opt_out_file:
        away = read_learners(read_table(opt_out_file, encoding, separator), columns or ResourceColumns())
        out = [learner if learner in away else None for learner in column_values(source.interactions, "learner_id")]
        kept = source.interactions.select(np.flatnonzero([learner is None for learner in out]))
        source.left_out["openings of learners who opted out"] = len(source.interactions) - len(kept)
        if unknown := away - set(out):
            source.warnings.append(opted_out_unknown(len(unknown), len(away)))
        if len(source.interactions) and not len(kept):
            raise DataError("all learners opted out.", file=Path(opt_out_file))
        source.interactions = kept
    with in_file(resources_file or dataset_name):
        data = _assemble(source, (fold, folds, seed), (validation_from, test_from))
    most = {"train": max_train_samples, "validation": max_eval_samples, "test": max_eval_samples}
    for name, limit in most.items():
        for splits, column in ((data.topics, "topic_id"), (data.interactions, "learner_id")):
            if limit is not None and splits:
                units = list(dict.fromkeys(splits[name][column]))
                kept = {units[i] for i in np.random.default_rng(seed).permutation(len(units))[:limit]}
                splits[name] = splits[name].select([i for i, unit in enumerate(splits[name][column]) if unit in kept])
    for warning in data.warnings:
        logger.warning("%s", warning)
    return data


# ---- from rows to a data set ----------------------------------------------------------------------------------------


@dataclass
class _Source:
    """What the files say, with canonical names, and what is known of them."""

    name: str
    resources: Dataset | list[dict]  # schema.CATALOGUE
    topics: Dataset | list[dict] = field(default_factory=list)  # schema.TOPICS
    interactions: Dataset | list[dict] = field(default_factory=list)  # schema.OPENINGS
    dated: bool = False
    min_resources: int = 1
    train_only: set[str] = field(default_factory=set)  # topics that are no test
    licence: str = "not stated"
    rows_read: int = 0
    rejected: list[tuple[str, int, str]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def make_tables(self) -> None:
        """Make data sets of lists."""
        for name, features in (("resources", CATALOGUE), ("topics", TOPICS), ("interactions", OPENINGS)):
            if isinstance(rows := getattr(self, name), list):
                setattr(self, name, _dataset(rows, features))


class _Said(Sequence):
    """What each resource says: its text, with the title where the text is short."""

    def __init__(self, resources: Dataset):
        self.resources = resources

    def __len__(self) -> int:
        return len(self.resources)

    def __getitem__(self, i: int) -> str:
        row = self.resources[i]
        return self._said(row["title"], row["text"])

    def __iter__(self) -> Iterator[str]:
        return map(self._said, *(column_values(self.resources, name) for name in ("title", "text")))

    @staticmethod
    def _said(title: str, text: str) -> str:
        return text if len(text.split()) >= LEAST_WORDS else f"{title} {text}"


def _assemble(source: _Source, folds: tuple[int, int, int], cuts: tuple) -> ResourceDataset:
    if len(source.resources) < 2:
        raise DataError(f"{source.name} has {len(source.resources)} resource.", expected="several, or there is nothing to choose")
    groups = near_duplicate_groups(_Said(source.resources), streaming=is_on_disk(source.resources))
    if groups.max() == 0:
        raise DataError(f"the resources of {source.name} all have the same text.", expected="texts that tell them apart")
    resources = source.resources.map(
        _with_group, batched=True, batch_size=BLOCK, with_indices=True, fn_kwargs={"groups": groups}, features=RESOURCES,
        desc="near-duplicates",
    )  # fmt: skip
    left_out, protocol = source.left_out, ""
    answers = np.fromiter(map(len, column_values(source.topics, "resource_ids")), np.int64)
    all_topics = queries = source.topics.select(np.flatnonzero(answers >= source.min_resources))
    if few := len(source.topics) - len(queries):
        left_out[f"topics with fewer than {source.min_resources} resources"] = few
    topics, trainable = DatasetDict(), np.ones(len(resources), bool)
    if len(source.topics):
        fold, k, seed = folds
        sides = np.full(len(queries), "train", dtype=object)
        free = np.flatnonzero([t not in source.train_only for t in column_values(queries, "topic_id")])
        if not len(free):
            raise DataError(f"no topic has {source.min_resources} resources.", fix="Lower --min_resources.")
        sides[free] = _cut_topics(connected_groups(column_values(all_topics.select(free), "group_id")), k, seed)[fold]
        topics, trainable, gone = _hold_out(all_topics, sides, ResourceIds(resources))
        protocol = (
            f"Topics: test is fold {fold} of {k}, validation a fifth of the rest, topics of one parent together, seed {seed}; "
            f"{(~trainable).sum():,} resources are relevant to a held-out topic, or nearly the same, and not used in training"
            + (f"; {gone} training topics lost all of theirs. " if gone else ". ")
        )
    interactions = DatasetDict()
    if len(source.interactions):
        interactions, told = _cut_time(source, *cuts)
        protocol += told
    elif any(cut is not None for cut in cuts):
        raise DataError(f"{source.name} has no interactions to cut by time.", fix="Leave --validation_from and --test_from out.")
    return ResourceDataset(
        resources, topics, interactions, source.name, all_topics, trainable, frozenset(source.train_only),
        DatasetDict(interactions),
        split_protocol=protocol, licence=source.licence, rows_read=source.rows_read, rejected=source.rejected, left_out=left_out,
        warnings=source.warnings,
    )  # fmt: skip


def _history(learner: str, past: Sequence[Mapping], targets: Sequence[Mapping]) -> dict:
    targets = list({row["resource_id"]: row for row in targets}.values())  # each once
    return {
        "learner_id": learner, "history": [row["resource_id"] for row in past], "times": [row["time"] for row in past],
        "targets": [row["resource_id"] for row in targets], "cold_learner": not past,
        "cold_targets": [row["cold_resource"] for row in targets],
    }  # fmt: skip


def _with_group(batch: dict[str, list], indices: Sequence[int], groups: np.ndarray) -> dict[str, list]:
    return {"group_id": [str(groups[i]) for i in indices]}


def _different(rows: Dataset, name: str) -> int:
    """How many different values a column of texts has."""
    return count_different(column_keys(rows, name))


def _by_learner(rows: Dataset, wanted: Dataset) -> tuple[list[str], np.ndarray, Dataset]:
    """The learners of `wanted` in the order in which they stand first there.

    Returns:
        Their ids; how many of `rows` each has; these rows, a learner's after the other's.
    """
    _, first = np.unique(keys := column_keys(wanted, "learner_id"), return_index=True)
    first = np.sort(first)
    learners, own = keys[first], keys if rows is wanted else column_keys(rows, "learner_id")
    sorter = np.argsort(learners)
    place = np.searchsorted(learners, own, sorter=sorter).clip(max=max(len(learners) - 1, 0))
    number = np.where(learners[sorter[place]] == own, sorter[place], -1) if len(learners) else np.full(len(own), -1)
    order = np.argsort(number, kind="stable")[np.sum(number < 0) :]
    counts = np.bincount(number[number >= 0], minlength=len(learners))
    return list(column_values(wanted.select(first), "learner_id")), counts, rows.select(order)


def _runs(rows: Dataset, counts: Iterable[int]) -> Iterator[list[dict]]:
    """The rows in runs of these lengths."""
    columns = zip(*(column_values(rows, name) for name in rows.column_names), strict=True)
    each = (dict(zip(rows.column_names, values, strict=True)) for values in columns)
    return (list(itertools.islice(each, count)) for count in counts)


def _dataset(rows: Sequence[Mapping], features: Features) -> Dataset:
    return Dataset.from_dict({name: [row[name] for row in rows] for name in features}, features=features)


def _cut_topics(groups: np.ndarray, k: int, seed: int) -> list[np.ndarray]:
    """`k` ways to name the side of each topic: 'test' a fold, 'validation' a fifth of the rest, 'train'; no group is cut."""
    number = len(set(groups.tolist()))
    if number < max(k, 3):
        raise DataError(
            f"{len(groups)} topics in {number} groups cannot be cut into {k} folds.", expected=f"{max(k, 3)} groups at least",
            fix="Bring more topics, lower --folds or --min_resources, or leave the topics out and give interactions.",
        )  # fmt: skip
    ways = []
    for test in k_folds(groups, [""] * len(groups), k, seed):
        sides = np.full(len(groups), "train", dtype=object)
        sides[test] = "test"
        rest = np.flatnonzero(sides == "train")
        inner = min(5, len(set(groups[rest].tolist())))
        sides[rest[k_folds(groups[rest], [""] * len(rest), inner, seed)[0]]] = "validation"
        ways.append(sides)
    return ways


def _hold_out(topics: Dataset, sides: Sequence[str], ids: ResourceIds) -> tuple[DatasetDict, np.ndarray, int]:
    """Topics by side; those of training keep only resources that are not relevant to another and nearly repeat none that is.

    Returns:
        The splits; bool array (resources,) of what training may use; how many training topics have nothing left.
    """
    streaming = is_on_disk(ids.resources)
    group = first_rows(column_keys(ids.resources, "group_id"), streaming)
    held = np.zeros(len(group), bool)  # by the first of a group
    for relevant, side in zip(column_values(topics, "resource_ids"), sides, strict=True):
        if side != "train":
            held[group[ids.rows(relevant)]] = True
    trainable = ~held[group]
    parts = {s: topics.select(np.flatnonzero(np.asarray(sides) == s)) for s in SPLITS}
    with RowWriter(TOPICS, streaming, TOPIC_BLOCK) as kept:
        for row in parts["train"]:
            relevant = row["resource_ids"]
            row["resource_ids"] = [r for r, usable in zip(relevant, trainable[ids.rows(relevant)], strict=True) if usable]
            if row["resource_ids"]:
                kept.append(row)
        if not len(kept):
            raise DataError("no topic is left to train on: each shares its resources with a held-out one.")
        gone, parts["train"] = len(parts["train"]) - len(kept), kept.dataset()
    return DatasetDict(parts), trainable, gone


def _cut_time(source: _Source, validation_from: str | float | None, test_from: str | float | None) -> tuple[DatasetDict, str]:
    """Cut the interactions at two times, the same for everybody."""
    learners, learner = _numbered(source.interactions, "learner_id")
    resources, resource = _numbered(source.interactions, "resource_id")
    time = np.fromiter(column_values(source.interactions, "time"), np.float64)
    order = np.lexsort((resource, learner, time))
    learner, resource, time = learner[order], resource[order], time[order]
    twice = np.r_[False, (np.diff(learner) == 0) & (np.diff(resource) == 0) & (np.diff(time) == 0)]
    if twice.any():
        source.left_out["interactions that stand twice"] = int(twice.sum())
        learner, resource, time = learner[~twice], resource[~twice], time[~twice]
    cut = [
        time[int(share * len(time))] if stated is None else _stated_time(stated, source.dated, option)
        for share, stated, option in ((0.8, validation_from, "--validation_from"), (0.9, test_from, "--test_from"))
    ]
    shown = [_show_time(t, source.dated) for t in cut]
    side = np.searchsorted(np.sort(cut), time, side="right").astype(np.int8)
    if not cut[0] < cut[1] or len(np.unique(side)) < 3:
        raise DataError(
            f"the interactions cannot be cut for validation at {shown[0]} and for test at {shown[1]}.",
            expected=f"some before, between and after; they reach from {_show_time(time[0], source.dated)} to "
            f"{_show_time(time[-1], source.dated)}",
            fix="Set --validation_from and --test_from.",
        )  # fmt: skip
    starts = np.array([-math.inf, *cut])
    flags = {
        "repeated": ~_first(learner.astype(np.int64) * len(resources) + resource),
        "cold_learner": (_earliest(learner, time) >= starts[side]) & (side > 0),
        "cold_resource": _earliest(resource, time) >= cut[0],
    }
    with RowWriter(INTERACTIONS, is_on_disk(source.interactions)) as rows:
        for i in range(len(time)):
            known = {"learner_id": learners[learner[i]], "resource_id": resources[resource[i]], "time": float(time[i])}
            rows.append(known | {name: bool(values[i]) for name, values in flags.items()})
        opened = rows.dataset()
    parts = {s: opened.select(np.flatnonzero(side == i)) for i, s in enumerate(SPLITS)}
    told = f"Interactions: time is cut for all learners at once, validation from {shown[0]}, test from {shown[1]}."
    return DatasetDict(parts), told


def _numbered(rows: Dataset, name: str) -> tuple[list[str], np.ndarray]:
    """The different values of a column of texts in their order, and the number of each row's, int32 array."""
    numbers: dict[str, int] = {}
    number = np.fromiter((numbers.setdefault(v, len(numbers)) for v in column_values(rows, name)), np.int32, len(rows))
    names = sorted(numbers)
    rank = np.empty(len(names), np.int32)
    rank[[numbers[v] for v in names]] = np.arange(len(names))
    return names, rank[number]


def _first(values: np.ndarray) -> np.ndarray:
    """Whether a value stands for the first time."""
    first = np.zeros(len(values), bool)
    first[np.unique(values, return_index=True)[1]] = True
    return first


def _earliest(keys: np.ndarray, time: np.ndarray) -> np.ndarray:
    """The earliest time of each row's key; rows are in order of time."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return time[first][inverse]


def _stated_time(value: str | float, dated: bool, option: str) -> float:
    kind = kind_of_time(value)
    if (kind == "a number") == dated:
        raise DataError(f"{option} is {kind}.", expected="a date, as the times in the file" if dated else "a number of seconds")
    return as_seconds(value, Path("the command line"), None, option)


def _show_time(seconds: float, dated: bool) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M") if dated else f"{seconds:,.0f} s"


# ---- a school's own tables ------------------------------------------------------------------------------------------


def _own_tables(
    resources: Table, interactions: Table | None, topics: Table | None, columns: ResourceColumns, skip: bool, streaming: bool
) -> _Source:
    if interactions is None and columns.topics is None:
        raise DataError(
            "there are neither topics nor interactions to learn from.", file=resources.path,
            fix="Name the column of the topics with --topics_column, or a file with --interactions_file.",
        )  # fmt: skip
    if topics is not None and columns.topics is None:
        raise DataError(
            "a topics file needs the topics of each resource.", file=resources.path, fix="Name their column with --topics_column."
        )
    rows, rejected = read_resources(resources, columns, skip, streaming)
    source = _Source(resources.path.name, rows, rejected=rejected)
    source.rows_read = sum(len(table) for table in (resources, interactions, topics) if table)
    if columns.topics:
        source.topics = read_topics(rows, resources, topics, columns, streaming)
    if interactions is not None:
        ids = ResourceIds(rows)
        source.interactions, source.dated, rejected = read_interactions(interactions, columns, ids, skip, streaming=streaming)
        source.rejected = source.rejected + rejected
    licences = Counter(filter(None, column_values(rows, "licence")))
    source.licence = "; ".join(f"{licence} ({n:,})" for licence, n in licences.most_common(5)) or "not stated"
    return source


# ---- built-in data sets ---------------------------------------------------------------------------------------------


def _sample_school() -> _Source:
    """The embedded default: the library of a fictional school (sample_school/resources.csv), and who opened what in a term."""
    library, views = school_resources(), school_views()
    rows = [{**{n: r[n] for n in RESOURCES if n in r}, "topics": list(r["concepts"])} for r in library]
    topics = [
        {
            "topic_id": concept, "group_id": concept, "text": concept, "path": [], "language": "en",
            "resource_ids": [r["resource_id"] for r in library if concept in r["concepts"]],
        }
        for concept in CONCEPTS
    ]  # fmt: skip
    opened = [{"learner_id": v["learner"], "resource_id": v["resource"], "time": v["time"]} for v in views]
    return _Source(
        "sample_school (fictional)", rows, topics, opened, licence="apache-2.0", rows_read=len(rows) + len(views),
    )  # fmt: skip


def _lecturebank(folder: Path) -> _Source:
    """LectureBank (Li, Fabbri, Tung, Radev 2019): 7,500 lectures by title and link, and the topic of each in a taxonomy.

    A row: ID 0, Instructor '...', Title 'NLP Resources', Topic 133, URL 'http://...', Venue 'Yale', Year 2018, separated by tabs,
    without quoting. The taxonomy is coded in the digits: 133 lies below 13, and 13 below 1. Rows with one URL are one resource.
    """
    names = _taxonomy(folder / "taxonomy.csv")
    table = _tab_separated(folder / "alldata.tsv.gz", ("ID", "Instructor", "Title", "Topic", "URL", "Venue", "Year"))
    source = _Source("lecturebank", [], min_resources=5, rows_read=len(table) + len(names))
    by_url: dict[str, dict] = {}
    cells = (table.columns[name] for name in ("ID", "Title", "Topic", "URL"))
    for row, number, title, topic, url in zip(table.rows, *cells, strict=True):
        if topic not in names:
            source.rejected.append((table.path.name, row, "the topic is not in the taxonomy"))
            continue
        found = by_url.setdefault(url or f"row {row}", _resource(number, title))
        found["topics"] = list(dict.fromkeys([*found["topics"], topic]))
    source.resources = list(by_url.values())
    source.left_out["rows that repeat another's link"] = len(table) - len(source.rejected) - len(by_url)
    source.topics = _topics_of(
        source.resources,
        names,
        {t: [t[:n] for n in range(1, len(t)) if t[:n] in names] for t in names},
        {t: t[:-1] for t in names},
    )
    source.warnings = ["There are titles only, no lecture texts, and a title such as 'Introduction' tells no topic."]
    return source


def _taxonomy(path: Path) -> dict[str, str]:
    """Topic id -> name; the file has an empty third column without a name."""
    require_file(path)
    rows = list(csv.reader(io.StringIO(decode(read_bytes(path), path), newline="")))
    if not rows or rows[0][:2] != ["Topic ID", "Topic"]:
        raise DataError("the header is another one.", file=path, row=1, expected="Topic ID, Topic")
    return {row[0].strip(): row[1].strip() for row in rows[1:] if any(row)}


def _tab_separated(path: Path, header: Sequence[str]) -> Table:
    """A table separated by tabs in which a quote is a character as any other."""
    require_file(path)
    lines = [line.split("\t") for line in decode(read_bytes(path), path).replace("\r\n", "\n").rstrip("\n").split("\n")]
    if lines[0] != list(header):
        raise DataError("the header is another one.", file=path, row=1, expected=", ".join(header))
    for row, line in enumerate(lines, start=1):
        if len(line) != len(header):
            raise DataError(f"the row has {len(line)} fields.", file=path, row=row, expected=f"{len(header)} separated by tabs")
    columns = {name: [line[i].strip() for line in lines[1:]] for i, name in enumerate(header)}
    return Table(path, columns, list(range(2, len(lines) + 1)))


def _mars(folder: Path) -> _Source:
    """MARS, English part (Hafsa, Wattebled, Jacques, Jourdan 2023): what learners of office software watched, 2016 to 2021.

    An item: item_id 510, language 'en', name 'What is OneDrive for Business?', description (the transcript, or empty),
    Difficulty, Software "['OneDrive']", Theme "[]", type 'tutorial', ... An interaction: item_id, user_id, created_at. The number
    of views of an item is that of the day of the export and would tell the future: it is not read. Neither are the ratings,
    which follow the watched share and stand for views that are among the interactions.
    """
    items, views = (read_table(folder / name) for name in ("items_en.csv.gz", "implicit_ratings_en.csv.gz"))
    named = (items.column(c, "a column of the distribution:") for c in
             ("item_id", "name", "description", "type", "Difficulty", "language", "Software", "Theme"))  # fmt: skip
    resources = [
        _resource(number, title, text, kind=kind, level="" if level == "N/A" else level, language=language)
        | {"topics": list(dict.fromkeys(re.findall(r"'([^']+)'", software + theme)))}
        for number, title, text, kind, level, language, software, theme in zip(*named, strict=True)
    ]
    columns = ResourceColumns(resource="item_id", learner="user_id", time="created_at")
    interactions, dated, _ = read_interactions(views, columns, {r["resource_id"] for r in resources}, skip=False)
    return _Source("mars_en", resources, interactions=interactions, dated=dated, rows_read=len(items) + len(views))


def _learning_equality(folder: Path) -> _Source:
    """Learning Equality's curriculum recommendations (Kaggle 2022). Not run on the real files: written from their column lists.

    topics.csv: id, title, description, channel, category, level, language, parent, has_content. content.csv: id, title,
    description, kind, text, language, copyright_holder, license. correlations.csv: topic_id, content_ids (separated by blanks).
    Topics of one channel stay together; those of the category 'source' are in training only, as the competition had it.
    """
    topics, content, correlations = (
        read_table(next((p for p in (folder / f"{name}.csv", folder / f"{name}.csv.gz") if p.is_file()), folder / f"{name}.csv"))
        for name in ("topics", "content", "correlations")
    )
    option = "a column of the distribution:"
    cells = (content.column(c, option) for c in ("id", "title", "description", "kind", "text", "language", "license"))
    for table in (topics, content):
        first_row: dict[str, int] = {}
        for number, row in zip(table.column("id", option), table.rows, strict=True):
            if first_row.setdefault(number, row) != row:
                first = first_row[number]
                raise DataError(f"the id stands in row {first} too.", file=table.path, row=row, column="id", found=number)
    source = _Source("learning_equality", [], rows_read=len(topics) + len(content) + len(correlations))
    for row, number, title, description, kind, text, language, licence in zip(content.rows, *cells, strict=True):
        whole = "\n\n".join(part.strip() for part in (description, text) if part.strip())
        if title.strip() or whole:
            source.resources.append(_resource(number, title, whole, kind=kind, language=language, licence=licence))
        else:
            source.rejected.append((content.path.name, row, "neither a title nor a text"))
    known = {r["resource_id"]: r for r in source.resources}
    names = ("id", "title", "description", "channel", "category", "language", "parent")
    described = dict(zip(topics.column("id", option), zip(*(topics.column(c, option) for c in names), strict=True), strict=True))
    for row, topic, ids in zip(
        correlations.rows, *(correlations.column(c, option) for c in ("topic_id", "content_ids")), strict=True
    ):
        if topic not in described:
            raise DataError("the topic is not in topics.csv.", file=correlations.path, row=row, column="topic_id", found=topic)
        for resource in ids.split():
            if resource in known:
                known[resource]["topics"].append(topic)
            else:
                source.rejected.append((correlations.path.name, row, "a resource that is not in content.csv, or has no text"))
    parents = {t: cells[6] if cells[6] in described else "" for t, cells in described.items()}
    above = {t: path_above(t, parents) or [] for t in described}
    texts = {t: " ".join(f"{cells[1]} {cells[2]}".split()) for t, cells in described.items()}
    source.topics = _topics_of(source.resources, texts, above, {t: cells[3] for t, cells in described.items()})
    for topic in source.topics:
        topic["path"] = [described[t][1] for t in above[topic["topic_id"]]]
        topic["language"] = described[topic["topic_id"]][5]
    source.train_only = {t for t, cells in described.items() if cells[4] == "source"}
    return source


def _resource(number: str, title: str, text: str = "", **more: str) -> dict:
    """A row of `schema.RESOURCES` without group_id, what is not stated ''."""
    empty = {"kind": "", "licence": "", "level": "", "language": "", "topics": []}
    return {"resource_id": as_text(number), "title": title.strip(), "text": text.strip(), **empty, "topics": [], **more}


def _topics_of(
    resources: Sequence[Mapping], names: Mapping[str, str], above: Mapping[str, Sequence[str]], groups: Mapping[str, str]
) -> list[dict]:
    """Rows of `schema.TOPICS` for the topics that the resources name."""
    relevant: dict[str, list[str]] = {}
    for row in resources:
        for topic in row["topics"]:
            relevant.setdefault(topic, []).append(row["resource_id"])
    return [
        {
            "topic_id": topic, "group_id": groups[topic], "text": names[topic], "path": [names[t] for t in above[topic]],
            "language": "", "resource_ids": ids,
        }
        for topic, ids in relevant.items()
    ]  # fmt: skip
