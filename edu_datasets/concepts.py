"""Concepts and their prerequisites: LectureBank, the sample school's mathematics, a school's own tables.

Two things come out. The graph, without circles, is for learning paths. The pairs, with a label, are for a model that says which
concept comes before which, and their split must not give the answer away. If a comes before b and b before c, then a comes
before c: pairs held out at random can be read off a chain of training pairs, and how often a concept is a prerequisite tells
most of the rest. So concepts are held out, not pairs (`split='concepts'`): a pair belongs to the test split if it names a test
concept, and no training pair does; no chain of training pairs can then reach it. LectureBank's published split of pairs is
there for comparison, with the pairs that such a chain gives away marked.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict

from .concept_graph import ConceptGraph, adjacency, break_circles, closure
from .concept_tables import ConceptColumns, read_concepts, read_prerequisites
from .errors import DataError, in_file
from .essays import find_data_dir
from .files import closest, decode, read_bytes, read_table, unknown_data_set
from .provenance import Provenance
from .schema import CONCEPTS, PREREQUISITES
from .school_generator import CONCEPTS as SCHOOL_CONCEPTS
from .school_generator import PREREQUISITES as SCHOOL_PREREQUISITES
from .splits import connected_groups, k_folds, text_keys

logger = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")
PROTOCOLS = ("concepts", "published", "none")
BUILT_IN = ("sample_school", "lecturebank", "lecturebank_208")


@dataclass
class ConceptDataset(Provenance):
    """Concepts ready for a recipe.

    Attributes:
        concepts: The concepts with the columns of `schema.CONCEPTS`; number 0 of the graph is the first.
        graph: All prerequisites, without circles.
        splits: train, validation and test with the columns of `schema.PREREQUISITES`; empty where nothing is split.
        name: What the data set is called in the card.
        circles: One shortest circle of concept ids for each prerequisite that was removed from the graph.
        removed: The prerequisites (before, after) that were removed from the graph; they stay among the pairs.
    """

    concepts: Dataset
    graph: ConceptGraph
    splits: DatasetDict
    name: str
    circles: list[list[str]] = field(default_factory=list)
    removed: list[tuple[str, str]] = field(default_factory=list)

    def summary(self) -> str:
        """Counts, for `--check_data` and the log."""
        depth = _depths(self.graph)
        lines = [
            f"{self.name}: {self.rows_read:,} rows read, {len(self.rejected)} left out, {sum(self.left_out.values()):,} aside. "
            + self.split_protocol,
            f"  {len(self.concepts):,} concepts, {len(self.graph.edges):,} prerequisites, {self.graph.closure.nnz:,} with the "
            f"indirect ones; {(depth == 0).sum():,} concepts need nothing, the longest chain has {depth.max()} steps",
            f"  {len(self.removed)} prerequisites removed from the graph, each closed a circle",
        ]
        if self.splits:
            lines += [f"  {'':10} {'pairs':>8} {'positive':>9} {'one unseen':>11} {'both':>6} {'implied':>8}"]
        for split, rows in self.splits.items():
            unseen, implied = np.array(rows["unseen"]), np.array(rows["implied"])
            counts = f"{sum(rows['label']):9,} {(unseen == 1).sum():11,} {(unseen == 2).sum():6,} {implied.sum():8,}"
            lines += [f"  {split:10} {len(rows):8,} {counts}"]
        return "\n".join(lines)

    def facts(self) -> dict:
        """What the report says of the data."""
        rows = {s: len(d) for s, d in self.splits.items()} | {"concepts": len(self.concepts)}
        rows |= {"prerequisites": len(self.graph.edges), "removed": len(self.removed)}
        return self.source_facts(rows) | {"circles": self.circles}


def load_concepts(
    dataset_name: str = "sample_school",
    *,
    data_dir: str | Path | None = None,
    concepts_file: str | Path | None = None,
    prerequisites_file: str | Path | None = None,
    columns: ConceptColumns | None = None,
    break_cycles: bool = False,
    split: str = "concepts",
    negatives: int = 1,
    fold: int = 0,
    folds: int = 5,
    seed: int = 42,
    encoding: str | None = None,
    separator: str | None = None,
    skip_bad_rows: bool = False,
) -> ConceptDataset:
    """Load concepts, make their graph, and split pairs of them.

    Args:
        dataset_name: One of `BUILT_IN`; lecturebank are the 322 topics of 2020, lecturebank_208 the 208 of 2019 with all pairs
            annotated. Ignored with `concepts_file`.
        data_dir: The folder that holds the public sets; else the environment variable EDU_DATA_DIR.
        concepts_file: A table with a concept a row: its name and, optional, a text that describes it.
        prerequisites_file: A table with a pair a row: before, after and, optional, a label (1 or 0); without it all are
            prerequisites.
        columns: The user's column names.
        break_cycles: Break circles in the user's prerequisites by the rule of `concept_graph.break_circles`, instead of refusing
            them. Public sets are always treated so.
        split: 'concepts' holds concepts out, 'published' takes LectureBank's split of pairs, 'none' makes no pairs.
        negatives: Pairs that are no prerequisites, drawn at random for each that is, where the data has none.
        fold: Which fold of the concepts, or which of the five published splits, is the test.
        folds: The number of folds.
        seed: Seed of the split and of the negatives.
        encoding: See `files.read_table`.
        separator: See `files.read_table`.
        skip_bad_rows: Leave rows that cannot be used out, and list them, instead of ending the run.

    Raises:
        DataError: With file, row and column.
    """
    if split not in PROTOCOLS:
        close = closest(split, PROTOCOLS)
        hint = f" Did you mean '{close}'?" if close else ""
        raise DataError(f"unknown split.{hint}", found=split, expected=f"one of {', '.join(PROTOCOLS)}")
    if folds < 2 or fold not in range(folds):
        raise DataError("there is no such fold.", found=f"{fold} of {folds}", expected=f"2 folds at least, 0 to {folds - 1}")
    if negatives < 1:
        raise DataError(f"--negatives is {negatives}.", expected="a whole number from 1 on")
    if split == "published" and (concepts_file or dataset_name != "lecturebank"):
        raise DataError("only lecturebank has a published split.", fix="Use --split concepts.")
    if bool(concepts_file) != bool(prerequisites_file):
        raise DataError(
            "concepts and their prerequisites are two files.", found="one of them",
            fix="Name both, with --concepts_file and --prerequisites_file.",
        )  # fmt: skip
    if concepts_file:
        concepts, prerequisites = (read_table(path, encoding, separator) for path in (concepts_file, prerequisites_file))
        texts = read_concepts(concepts, columns or ConceptColumns())
        source = _Source(concepts.path.name, texts, [], rows_read=len(concepts) + len(prerequisites))
        source.pairs, source.rejected, source.left_out = read_prerequisites(
            prerequisites, columns or ConceptColumns(), list(texts), break_cycles, skip_bad_rows
        )
    elif dataset_name == "sample_school":
        numbers = {c: i for i, c in enumerate(SCHOOL_CONCEPTS)}
        pairs = [(numbers[a], numbers[b], 1) for a, b in SCHOOL_PREREQUISITES]
        source = _Source("sample_school (fictional)", dict(zip(numbers, numbers, strict=True)), pairs, licence="apache-2.0")
        source.rows_read = len(numbers) + len(pairs)
    elif dataset_name == "lecturebank":
        source = _lecturebank(find_data_dir(data_dir) / "lecturebank", fold if split == "published" else None)
    elif dataset_name == "lecturebank_208":
        source = _lecturebank_208(find_data_dir(data_dir) / "lecturebank")
    else:
        raise unknown_data_set(dataset_name, BUILT_IN, fix="Your own tables go to --concepts_file and --prerequisites_file.")
    with in_file(concepts_file or dataset_name):
        data = _assemble(source, split, (fold, folds, seed), negatives)
    for warning in data.warnings:
        logger.warning("%s", warning)
    return data


# ---- from pairs to a data set ---------------------------------------------------------------------------------------


@dataclass
class _Source:
    """Concepts by id, and pairs (before, after, label) of their numbers; `sides` where a split of the pairs is published."""

    name: str
    texts: dict[str, str]
    pairs: list[tuple[int, int, int]]
    sides: list[int] | None = None  # 0 train, 2 test
    licence: str = "not stated"
    rows_read: int = 0
    rejected: list[tuple[str, int, str]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def _assemble(source: _Source, split: str, folds: tuple[int, int, int], negatives: int) -> ConceptDataset:
    ids, n = list(source.texts), len(source.texts)
    pairs = np.array(source.pairs, dtype=np.int64).reshape(-1, 3)
    positive = np.unique(pairs[pairs[:, 2] == 1, :2], axis=0)
    if not len(positive):
        raise DataError(f"{source.name} has no prerequisite.", expected="one pair with the label 1 at least")
    edges, removed, circles = break_circles(n, positive)
    warnings = list(source.warnings)
    if removed:
        warnings.append(
            f"{len(removed)} of {len(positive)} prerequisites close circles: removed from the graph, kept among the pairs."
        )
    splits, protocol = (DatasetDict(), "No split.") if split == "none" else _split(source, pairs, split, folds, negatives)
    return ConceptDataset(
        Dataset.from_dict({"concept_id": ids, "text": list(source.texts.values())}, features=CONCEPTS), ConceptGraph(ids, edges),
        splits, source.name, [[ids[c] for c in circle] for circle in circles], [(ids[a], ids[b]) for a, b in removed],
        split_protocol=protocol, licence=source.licence, rows_read=source.rows_read, rejected=source.rejected,
        left_out=source.left_out, warnings=warnings,
    )  # fmt: skip


def _split(
    source: _Source, pairs: np.ndarray, split: str, folds: tuple[int, int, int], negatives: int
) -> tuple[DatasetDict, str]:
    """Give each pair its side, draw negatives where a side has none, and mark what training tells of each."""
    fold, k, seed = folds
    n, rng = len(source.texts), np.random.default_rng(seed)
    if split == "published":
        place, side = np.zeros(n, dtype=np.int64), np.array(source.sides)
        train = np.flatnonzero(side == 0)
        side[rng.permutation(train)[: len(train) // 10]] = 1
        protocol = f"Published split {fold} of pairs, validation a tenth of the training prerequisites, seed {seed}"
    else:
        place = _hold_out_concepts(source, pairs, folds)
        side = place[pairs[:, :2]].max(1)
        held = ", ".join(f"{count} {name}" for count, name in zip(np.bincount(place, minlength=3), SPLITS, strict=True))
        protocol = f"Concepts are held out ({held}), test is fold {fold} of {k}, seed {seed}"
    matrix = adjacency(n, pairs[pairs[:, 2] == 1, :2])
    related = closure(matrix).tocoo()
    taken = np.concatenate([related.row * n + related.col, pairs[:, 0] * n + pairs[:, 1]])
    told = ""
    for number in range(3):
        here = pairs[side == number]
        if not (here[:, 2] == 1).any():
            raise DataError(
                f"no prerequisite is left for {SPLITS[number]}.", expected="more prerequisites",
                fix="Set another --seed, or --split none where no model of prerequisites is wanted.",
            )  # fmt: skip
        if here[:, 2].all():
            drawn = _draw_negatives(np.tile(here, (negatives, 1)), place, taken, rng)
            taken = np.concatenate([taken, drawn[:, 0] * n + drawn[:, 1]])
            pairs, side = np.concatenate([pairs, drawn]), np.concatenate([side, np.full(len(drawn), number)])
            protocol += f"; {len(drawn)} negatives of {SPLITS[number]} drawn"
            told = ", none of which is a prerequisite in any split, or follows from them by a chain"
    known = pairs[(side == 0) & (pairs[:, 2] == 1), :2]
    chains = closure(adjacency(n, known))
    before, after = pairs[:, 0], pairs[:, 1]
    columns = {
        "before": before, "after": after, "label": pairs[:, 2], "unseen": (~np.isin(pairs[:, :2], known)).sum(1),
        "implied": (np.asarray(chains[before, after] + chains[after, before]).ravel() > 0) & (side > 0),
    }  # fmt: skip
    ids = np.array(list(source.texts))
    columns |= {name: ids[columns[name]] for name in ("before", "after")}
    rows = Dataset.from_dict({name: values.tolist() for name, values in columns.items()}, features=PREREQUISITES)
    return DatasetDict({s: rows.select(np.flatnonzero(side == i)) for i, s in enumerate(SPLITS)}), protocol + told + "."


def _hold_out_concepts(source: _Source, pairs: np.ndarray, folds: tuple[int, int, int]) -> np.ndarray:
    """0 train, 1 validation or 2 test for each concept; equal texts stay together, much and little connected are spread."""
    fold, k, seed = folds
    n = len(source.texts)
    groups = connected_groups(text_keys(list(source.texts.values())))
    if (number := len(set(groups.tolist()))) < max(k, 3):
        raise DataError(
            f"{number} different concepts cannot be cut into {k} folds.", expected=f"{max(k, 3)} at least",
            fix="Bring more concepts, lower --folds, or set --split none where no model of prerequisites is wanted.",
        )  # fmt: skip
    degree = np.bincount(pairs[pairs[:, 2] == 1, :2].ravel(), minlength=n)
    strata = np.searchsorted((1, 4, 10), degree, side="right")
    place = np.zeros(n, dtype=np.int64)
    test = k_folds(groups, strata, k, seed)[fold]
    rest = np.setdiff1d(np.arange(n), test)
    place[test] = 2
    place[rest[k_folds(groups[rest], strata[rest], min(5, len(set(groups[rest].tolist()))), seed)[0]]] = 1
    return place


def _draw_negatives(positive: np.ndarray, place: np.ndarray, taken: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As many pairs without a chain in either direction, the places of their concepts distributed as those of `positive`.

    No prerequisite of any split is drawn, nor what follows from them by a chain: the negatives of training are those of somebody
    who knows the whole graph, the test prerequisites among it, and so a little cleaner than a school's would be. A graph so dense
    that there are not enough gives fewer.
    """
    n = len(place)
    there = [np.flatnonzero(place == p) for p in range(3)]
    open_pairs = positive[:, :2]
    found = np.zeros((0, 3), dtype=np.int64)
    for _ in range(50):
        a, b = (
            np.array(
                [there[p][int(u * len(there[p]))] for p, u in zip(place[ends], rng.random(len(ends)), strict=True)], dtype=int
            )
            for ends in open_pairs.T
        )
        code = a * n + b
        good = (a != b) & ~np.isin(code, taken) & ~np.isin(b * n + a, taken)
        good[np.setdiff1d(np.arange(len(code)), np.unique(code, return_index=True)[1])] = False
        found = np.concatenate([found, np.stack([a, b, np.zeros_like(a)], axis=1)[good]])
        taken = np.concatenate([taken, code[good]])
        open_pairs = open_pairs[~good]
        if not len(open_pairs):
            break
    return found


def _depths(graph: ConceptGraph) -> np.ndarray:
    """The number of steps of the longest chain to each concept."""
    depth = np.zeros(len(graph), dtype=np.int64)
    for concept in graph.topological_order:
        after = graph.adjacency[concept].indices
        depth[after] = np.maximum(depth[after], depth[concept] + 1)
    return depth


# ---- LectureBank ----------------------------------------------------------------------------------------------------


def _lecturebank(folder: Path, fold: int | None) -> _Source:
    """LectureBank, 322 topics (Li, Fabbri, Tung, Radev 2019; Li et al. 2020): the edges of published split `fold`, or all.

    Topics: '1|spelling correction', counted from 1. Edges: '23,67', before and after, counted **from 0**. Test negatives are
    published for each split, training negatives are not.
    """
    if fold is not None and fold > 4:
        raise DataError("there is no such published split.", found=fold, expected="0 to 4")
    path = folder / "322topics_final.tsv"
    lines = [line.split("|") for line in _lines(path)]
    for row, line in enumerate(lines, start=1):
        if len(line) != 2 or line[0] != str(row):
            raise DataError("the line is no topic.", file=path, row=row, expected=f"{row}|name")
    source = _Source("lecturebank", {number: name.strip() for number, name in lines}, [], [], rows_read=len(lines))
    stems = {"train_edges_positive": (1, 0), "test_edges_positive": (1, 2), "test_edges_negative": (0, 2)}
    for stem, (label, side) in stems.items():
        path = folder / "322_split" / f"{stem}_{fold or 0}.txt"
        for row, (before, after) in _numbers(path, 2) if label or fold is not None else ():
            if max(before, after) >= len(lines):
                raise DataError("there is no such topic.", file=path, row=row, expected=f"0 to {len(lines) - 1}")
            source.rows_read += 1
            source.pairs.append((before, after, label))
            source.sides.append(side)
    return source


def _lecturebank_208(folder: Path) -> _Source:
    """LectureBank, 208 topics (Li, Fabbri, Tung, Radev 2019), nearly all pairs of them annotated.

    Topics: '2,Anaphora Resolution,https://...' or NULL for the link; a name may hold commas. Pairs: '2,3,0', before, after and
    label, of the topics' ids. Pairs of a topic with itself, of topics without a name and with contradictory labels are rejected.
    """
    path = folder / "208topics.csv"
    texts: dict[str, str] = {}
    for row, line in enumerate(_lines(path), start=1):
        number, *rest = line.split(",")
        while rest and (rest[-1].strip() in ("NULL", "") or rest[-1].startswith("http")):
            rest.pop()
        if not number.isdigit() or not rest:
            raise DataError("the line is no topic.", file=path, row=row, expected="id,name,link")
        texts[number] = ",".join(rest).strip()
    numbers = {topic: i for i, topic in enumerate(texts)}
    path = folder / "prerequisite_annotation.csv.gz"
    source = _Source("lecturebank_208", texts, [], rows_read=len(texts))
    said: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for row, (before, after, label) in _numbers(path, 3):
        source.rows_read += 1
        if before == after:
            source.rejected.append((path.name, row, "the topic is its own prerequisite"))
        elif str(before) not in numbers or str(after) not in numbers:
            source.rejected.append((path.name, row, "a topic without a name"))
        else:
            said.setdefault((str(before), str(after)), []).append((label, row))
    for (before, after), found in said.items():
        if len({label for label, _ in found}) > 1:
            source.rejected += [(path.name, row, "the labels of the pair contradict each other") for _, row in found]
        else:
            source.pairs.append((numbers[before], numbers[after], found[0][0]))
    source.left_out["pairs that stand twice"] = source.rows_read - len(texts) - len(source.rejected) - len(source.pairs)
    return source


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(f"there is no file {path}.", fix="Check --data_dir, or the name of the file.")
    return [line for line in decode(read_bytes(path), path).splitlines() if line.strip()]


def _numbers(path: Path, width: int) -> list[tuple[int, tuple[int, ...]]]:
    """(row, whole numbers) of each line of a file without a header."""
    rows = []
    for row, line in enumerate(_lines(path), start=1):
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != width or not all(cell.isdigit() for cell in cells):
            raise DataError("the line is another one.", file=path, row=row, found=line, expected=f"{width} whole numbers")
        rows.append((row, tuple(map(int, cells))))
    return rows
