"""What learning paths are made of: concepts in a graph, and answers of learners where there are any."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import DatasetDict, concatenate_datasets

from .concept_graph import ConceptGraph
from .concept_tables import ConceptColumns
from .concepts import BUILT_IN as CONCEPT_SETS
from .concepts import ConceptDataset, load_concepts
from .errors import DataError, in_file
from .files import closest, unknown_data_set
from .responses import BUILT_IN as ANSWER_SETS
from .responses import LEARNERS, ResponseColumns, ResponseDataset, load_responses

KNOWLEDGE_SPACE = ((0, 1), (0, 2), (1, 3), (2, 4), (2, 8), (3, 4), (4, 8), (5, 4), (5, 9), (6, 7), (7, 8), (8, 9))
"""The prerequisites of the ten concepts of KSS (Liu et al. 2019), which have no texts."""
HALVES = ("logs", "judge")


@dataclass
class PathDataset:
    """Concepts, their graph, and answers.

    Attributes:
        graph: The concepts by id, and their prerequisites without circles.
        texts: Of each concept; its id where there is none.
        concepts: What was loaded of concepts; its splits of pairs are empty where no model of prerequisites can be trained. None
            where only answers are there.
        answers: What was loaded of answers, None where there are none.
        halves: "logs" and "judge", the answers of two halves of the learners with the columns of `schema.RESPONSES`, concepts
            counted from 1 in the order of `graph.names`; empty without answers.
        name: What the data is called in the card.
    """

    graph: ConceptGraph
    texts: list[str]
    concepts: ConceptDataset | None
    answers: ResponseDataset | None
    halves: DatasetDict
    name: str

    @property
    def pairs(self) -> DatasetDict:
        """Pairs with the columns of `schema.PREREQUISITES`; empty where there are none."""
        return self.concepts.splits if self.concepts else DatasetDict()

    @property
    def circles(self) -> list[list[str]]:
        """The texts along a shortest circle for each prerequisite (its first two) that was taken out of the graph."""
        text = dict(zip(self.graph.names, self.texts, strict=True))
        return [[text[concept] for concept in circle] for circle in (self.concepts.circles if self.concepts else [])]

    def summary(self) -> str:
        """Counts, for `--check_data` and the log."""
        lines = [data.summary() for data in (self.concepts, self.answers) if data]
        lines += [f"  taken out: {circle[0]} -> {circle[1]}, which closes {' -> '.join(circle)}" for circle in self.circles]
        lines += [f"  {half}: {len(rows):,} learners" for half, rows in self.halves.items()]
        return "\n".join(lines or [f"{self.name}: {len(self.graph)} concepts, {len(self.graph.edges)} prerequisites"])

    def facts(self) -> dict:
        """What the report says of the data; no id of a learner."""
        parts = [data.facts() for data in (self.concepts, self.answers) if data]
        parts = parts or [
            {
                "dataset_name": self.name, "dataset_license": "apache-2.0", "split_protocol": "", "warnings": [],
                "rows": {"concepts": len(self.graph), "prerequisites": len(self.graph.edges), "rejected": 0}, "rejected_rows": [],
            }
        ]  # fmt: skip
        together = {**parts[0], **{k: v for k, v in parts[-1].items() if k in ("dataset_license",)}, "dataset_name": self.name}
        for key in ("warnings", "rejected_rows"):
            together[key] = [entry for part in parts for entry in part[key]]
        together["circles"] = self.circles
        together["split_protocol"] = " ".join(part["split_protocol"] for part in parts if part["split_protocol"])
        if self.halves:
            together["split_protocol"] += (
                " Learners with answers were cut into two halves: of one the policy learns, the other it is judged on."
            )
            together["rows"] |= {f"learners_{half}": len(rows) for half, rows in self.halves.items()}
        return together


def load_paths(
    dataset_name: str = "sample_school",
    *,
    data_dir: str | Path | None = None,
    concepts_file: str | Path | None = None,
    prerequisites_file: str | Path | None = None,
    concept_columns: ConceptColumns | None = None,
    answers_file: str | Path | None = None,
    answer_columns: ResponseColumns | None = None,
    with_answers: bool = False,
    break_cycles: bool = False,
    split: str = "concepts",
    negatives: int = 1,
    fold: int = 0,
    seed: int = 42,
    encoding: str | None = None,
    separator: str | None = None,
    skip_bad_rows: bool = False,
    sort_by_time: bool = False,
    max_learners: int | None = None,
    streaming: bool = False,
) -> PathDataset:
    """Load what a run of learning paths needs.

    Args:
        dataset_name: A set of concepts (`concepts.BUILT_IN`), knowledge_space, or a set of answers (`responses.BUILT_IN`), whose
            concepts have no graph. Ignored for what files give.
        data_dir: The folder that holds the public sets; else the environment variable EDU_DATA_DIR.
        concepts_file, prerequisites_file, concept_columns, break_cycles, split, negatives, fold: See `load_concepts`.
        answers_file, answer_columns, sort_by_time: A log, see `load_responses`; its concepts must be among those of the concepts
            file, where there is one.
        with_answers: Load the answers of the sample school too.
        seed: Of the splits.
        encoding, separator, skip_bad_rows: See `files.read_table`.
        max_learners: Keep a random part of the learners.
        streaming: Keep the answers of the user's own file on disk, see `load_responses`.

    Raises:
        DataError: With file, row and column.
    """
    names = (*CONCEPT_SETS, "knowledge_space", *(n for n in ANSWER_SETS if n not in CONCEPT_SETS))
    if not (concepts_file or prerequisites_file or answers_file) and dataset_name not in names:
        raise unknown_data_set(dataset_name, names, fix="Your own tables go to --concepts_file and --prerequisites_file.")
    how = {"data_dir": data_dir, "seed": seed, "encoding": encoding, "separator": separator, "skip_bad_rows": skip_bad_rows}
    concepts = answers = None
    if concepts_file or prerequisites_file or (not answers_file and dataset_name in CONCEPT_SETS):
        concepts = load_concepts(
            dataset_name, concepts_file=concepts_file, prerequisites_file=prerequisites_file, columns=concept_columns,
            break_cycles=break_cycles, split=split, negatives=negatives, fold=fold, **how,
        )  # fmt: skip
    if answers_file or (not concepts_file and dataset_name in ANSWER_SETS and (with_answers or not concepts)):
        answers = load_responses(
            dataset_name, train_file=answers_file, columns=answer_columns, sort_by_time=sort_by_time, streaming=streaming, **how
        )
    if concepts is None and answers is None:
        graph = ConceptGraph([str(i) for i in range(10)], KNOWLEDGE_SPACE)
        return PathDataset(graph, graph.names, None, None, DatasetDict(), "knowledge_space (simulated)")
    graph = concepts.graph if concepts else ConceptGraph(answers.concepts, [])
    texts = concepts.concepts["text"][:] if concepts else answers.concepts
    with in_file(answers_file or "answers"):
        halves = _halves(answers, graph, seed, max_learners) if answers else DatasetDict()
    name = " with answers of ".join(data.name for data in (concepts, answers) if data)
    return PathDataset(graph, texts, concepts, answers, halves, concepts.name if concepts and not answers_file else name)


def _halves(answers: ResponseDataset, graph: ConceptGraph, seed: int, most: int | None) -> DatasetDict:
    """Two halves of all learners, with the concepts numbered as in the graph."""
    rows = concatenate_datasets([answers.splits[s] for s in ("train", "validation", "test")])
    numbers = {name: i for i, name in enumerate(graph.names, start=1)}
    for name in answers.concepts:
        if name not in numbers:
            close = closest(name, graph.names)
            raise DataError(
                "the answers name a concept that the concepts file lacks." + (f" Did you mean '{close}'?" if close else ""),
                found=name, expected=f"one of {len(graph)} concepts", fix="Add it there, or correct the name.",
            )  # fmt: skip
    table = [0, *(numbers[name] for name in answers.concepts)]
    rows = rows.map(_renumber, batched=True, batch_size=LEARNERS, fn_kwargs={"table": table}, desc="numbering concepts")
    order = np.random.default_rng(seed).permutation(len(rows))[:most]
    if len(order) < 20:
        raise DataError(f"{len(order)} learners cannot be cut into halves to learn from and to judge on.", expected="20 at least")
    cut = len(order) // 2
    return DatasetDict({half: rows.select(np.sort(part)) for half, part in zip(HALVES, (order[:cut], order[cut:]), strict=True)})


def _renumber(batch: dict[str, list], table: list[int]) -> dict[str, list]:
    return {"concepts": [[[table[c] for c in asked] for asked in learner] for learner in batch["concepts"]]}
