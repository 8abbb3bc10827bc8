"""Tutoring dialogues, to learn the tutor's turns: CIMA, MathDial, Bridge, Socratic Debugging, the sample school, chat messages, a
Hub data set, a school's own file. The public sets and the moves are in tutoring.py.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets

from .arrow_cache import column_values, is_on_disk
from .dialogue_rows import DialogueColumns, Part, check_dialogues, to_dialogues
from .errors import DataError, in_file
from .essays import SAMPLE_SCHOOL, find_data_dir, read_hub
from .files import own_files, read_table, unknown_data_set
from .provenance import Provenance
from .row_arrays import column_keys, keys_of
from .schema import DIALOGUES
from .splits import (
    check_limits,
    connected_groups,
    cross_validation_splits,
    cut_missing,
    shared_keys,
    shorten,
    text_keys,
)
from .tutoring import CIMA_UNITS, MOVES, Dialogue, read_bridge, read_cima, read_mathdial, read_socratic

logger = logging.getLogger(__name__)

BUILT_IN = ("sample_school", "cima", "mathdial", "bridge", "socratic_debugging")
OVERLAPS = ("dialogues", "problems", "keep")
SPLITS = ("train", "validation", "test")


@dataclass
class DialogueDataset(Provenance):
    """Dialogues ready for a recipe.

    Attributes:
        splits: train, validation and test with the columns of `schema.DIALOGUES`.
        name: What the data set is called in the card.
        split_by: What the split does not cut: 'problem', 'dialogue', 'learner', in CIMA 'noun', 'preposition' or 'colour'.
    """

    splits: DatasetDict
    name: str
    split_by: str = "problem"

    def move_counts(self, split: str) -> dict[str, int]:
        """How often tutors make each move in `split`, alternatives included; '' is a turn without a named move."""
        counts: Counter[str] = Counter()
        for turns in column_values(self.splits[split], "turns"):
            for turn in turns:
                if turn["target"]:
                    counts.update([turn["move"], *(other["move"] for other in turn["alternatives"])])
        return {move: counts[move] for move in (*MOVES, "") if counts[move]}

    def fold_splits(self, k: int, seed: int) -> dict[str, DatasetDict]:
        """Cut train and validation together into `k` folds; the test split is not in them.

        Returns:
            fold_0, fold_1, ...: test (the fold), validation (a fifth of the rest), train.
        """
        pool = concatenate_datasets([self.splits["train"], self.splits["validation"]])
        return cross_validation_splits(pool, _groups(pool), list(column_values(pool, "source")), k, seed)

    def summary(self) -> str:
        """Counts by split, for `--check_data` and the log."""
        lines = [f"{self.name}: {self.rows_read:,} dialogues read, {len(self.rejected)} cannot be used. {self.split_protocol}"]
        lines += [f"  {count:,} left out: {reason}" for reason, count in self.left_out.items()]
        lines += [f"  {'':10} {'dialogues':>9} {'problems':>9} {'turns':>9} {'to learn':>9} {'words':>9}  moves"]
        for split, rows in self.splits.items():
            turns, targets, words = 0, 0, 0
            for dialogue in column_values(rows, "turns"):
                learnt = [turn["text"] for turn in dialogue if turn["target"]]
                turns, targets, words = turns + len(dialogue), targets + len(learnt), words + sum(len(t.split()) for t in learnt)
            problems = np.count_nonzero(np.unique(column_keys(rows, "problem_id")))
            moves = ", ".join(f"{move or 'not named'} {n:,}" for move, n in self.move_counts(split).items())
            lines += [
                f"  {split:10} {len(rows):9,} {problems:9,} {turns:9,} {targets:9,} {words / max(targets, 1):9.1f}  {moves}"
            ]
        return "\n".join([*lines, "  moves: with those of alternatives"])

    def facts(self) -> dict:
        """What the report says of the data; no text and no id."""
        return self.source_facts({s: len(d) for s, d in self.splits.items()}) | {
            "split_by": self.split_by, "moves": {split: self.move_counts(split) for split in self.splits},
        }  # fmt: skip


def load_dialogues(
    dataset_name: str = "sample_school",
    *,
    data_dir: str | Path | None = None,
    train_file: str | Path | None = None,
    validation_file: str | Path | None = None,
    test_file: str | Path | None = None,
    columns: DialogueColumns | None = None,
    split_by: str | None = None,
    overlaps: str | None = None,
    merge_turns: bool = False,
    seed: int = 42,
    encoding: str | None = None,
    separator: str | None = None,
    skip_bad_rows: bool = False,
    revision: str | None = None,
    max_train_samples: int | None = None,
    max_eval_samples: int | None = None,
    streaming: bool = False,
) -> DialogueDataset:
    """Load tutoring dialogues and split them so that no problem stands on two sides.

    Args:
        dataset_name: One of `BUILT_IN`, several joined by '+', or a Hub id (with a slash). Ignored with `train_file`.
        data_dir: The folder that holds the public sets; else the environment variable EDU_DATA_DIR.
        train_file: A table of the user's own with a turn a row, or jsonl with a list of messages a row, see `files.read_table`.
            What is not given of validation and test is cut from it, 20 percent each.
        validation_file: Likewise.
        test_file: Likewise.
        columns: The user's column names.
        split_by: 'problem', 'dialogue' or 'learner'; in CIMA also 'noun', 'preposition' or 'colour'. None takes 'problem', in
            CIMA 'noun', since its exercises are combinations of them.
        overlaps: What becomes of a training dialogue that stands in a given validation or test split too: 'dialogues' leaves it
            out, 'problems' leaves all dialogues on such a problem out, 'keep' keeps them, as the published figures do. None is
            'dialogues' for a published split, and 'keep' for files of the user's own. What overlaps is told in any case.
        merge_turns: Make one turn of several in a row of one speaker, instead of refusing them. Public sets are merged.
        seed: Seed of the split.
        encoding: See `files.read_table`.
        separator: See `files.read_table`.
        skip_bad_rows: Leave dialogues that cannot be used out, and list them, instead of ending the run.
        revision: The revision of a Hub data set.
        max_train_samples: Keep a random part of training.
        max_eval_samples: Keep a random part of validation and of test.
        streaming: Keep the rows of the user's own files on disk, see `arrow_cache`.

    Raises:
        DataError: With file, row and column, and never a word of the dialogue.
    """
    check_limits(max_train_samples, max_eval_samples)
    if overlaps not in (None, *OVERLAPS):
        raise DataError("unknown choice of --overlaps.", found=overlaps, expected=f"one of {', '.join(OVERLAPS)}")
    units = ("problem", "dialogue", "learner", *(CIMA_UNITS if dataset_name == "cima" and not train_file else ()))
    if split_by not in (None, *units):
        raise DataError("unknown unit of the split.", found=split_by, expected=f"one of {', '.join(units)}")
    columns = columns or DialogueColumns()
    how = {"split_by": split_by or "problem", "merge": merge_turns, "skip": skip_bad_rows}
    names = dataset_name.split("+")
    if files := own_files(train_file, validation_file, test_file):
        tables = {s: read_table(path, encoding, separator, streaming) for s, path in files.items()}
        name = Path(train_file).name
        how["streaming"] = streaming
        parts = {s: check_dialogues(*to_dialogues(table, columns), name, **how) for s, table in tables.items()}
        _refuse_twins(parts)
        with in_file(train_file):
            data = _assemble(parts, name, how["split_by"], seed, overlaps or "keep")
    elif "/" in dataset_name:
        tables = read_hub(dataset_name, revision)
        parts = {s: check_dialogues(*to_dialogues(table, columns), dataset_name, **how) for s, table in tables.items()}
        data = _assemble(parts, dataset_name, how["split_by"], seed, overlaps or "dialogues")
    elif unknown := [name for name in names if name not in BUILT_IN]:
        raise unknown_data_set(unknown[0], BUILT_IN, ", several joined by '+', or a Hub id such as user/dialogues")
    else:
        data = _combine([_built_in(name, data_dir, split_by, overlaps or "dialogues", seed) for name in names])
    data.splits = shorten(data.splits, max_train_samples, max_eval_samples, seed)
    for warning in data.warnings:
        logger.warning("%s", warning)
    return data


def read_dialogues(
    path: str | Path,
    columns: DialogueColumns | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    skip_bad_rows: bool = False,
    merge_turns: bool = False,
) -> tuple[Dataset, list[int], list[tuple[str, int, str]]]:
    """Read dialogues that a tutor is to go on with: each ends with the learner's turn.

    Returns:
        The dialogues (`schema.DIALOGUES`), the file's row number of each, and (file, row, reason) of those left out.
    """
    file, dialogues, where = to_dialogues(read_table(path, encoding, separator), columns or DialogueColumns())
    part = check_dialogues(file, dialogues, where, Path(path).name, "problem", merge_turns, skip_bad_rows, open_end=True)
    return part.dataset, part.rows, part.rejected


def every_reply(dataset: Dataset) -> Dataset:
    """One row for each good turn: a dialogue as it was, and, up to each alternative, once more with that as its one target.

    For training; an evaluation compares with all alternatives of a turn at once.
    """
    return dataset.map(_every_reply, batched=True, batch_size=256, features=DIALOGUES, desc="good replies")


def _every_reply(batch: dict[str, list]) -> dict[str, list]:
    rows = []
    for values in zip(*batch.values(), strict=True):
        row = dict(zip(batch, values, strict=True))
        rows.append({**row, "turns": [{**turn, "alternatives": []} for turn in row["turns"]]})
        for t, turn in enumerate(row["turns"]):
            for k, other in enumerate(turn["alternatives"]):
                before = [{**said, "target": False, "alternatives": []} for said in row["turns"][:t]]
                instead = {**turn, **other, "source_move": "", "target": True, "alternatives": []}
                rows.append({**row, "dialogue_id": f"{row['dialogue_id']}/{t}/{k}", "turns": [*before, instead]})
    return {name: [row[name] for row in rows] for name in batch}


# ---- splits ---------------------------------------------------------------------------------------------------------


def _histories(dataset: Dataset) -> Iterator[str]:
    """What two versions of one dialogue have in common: the problem, and all that is said before the last turn to learn."""
    for problem, turns in zip(column_values(dataset, "problem"), column_values(dataset, "turns"), strict=True):
        last = max((i for i, turn in enumerate(turns) if turn["target"]), default=len(turns))
        yield "\n".join(text_keys([problem, *(turn["text"] for turn in turns[:last])]))


def _groups(dataset: Dataset) -> np.ndarray:
    return connected_groups(column_values(dataset, "group_id"), _histories(dataset), streaming=is_on_disk(dataset))


def _assemble(parts: dict[str, Part], name: str, split_by: str, seed: int, overlaps: str, protocol: str = "") -> DialogueDataset:
    """Leave out of training what stands in the other given splits, and cut what was not given."""
    given, left_out, warnings = _without_overlaps(DatasetDict({s: part.dataset for s, part in parts.items()}), overlaps)
    missing = [s for s in ("validation", "test") if s not in given]
    if missing:
        train = given["train"]
        if len(missing) == 2 and split_by in CIMA_UNITS:
            given = _hold_out(train, seed)
        else:
            given = cut_missing(given, _groups(train), column_values(train, "source"), seed)
        protocol += f"{' and '.join(missing).capitalize()} cut from the training file, by {split_by}, seed {seed}."
    return DialogueDataset(
        DatasetDict({s: given[s] for s in SPLITS}), name, split_by, split_protocol=protocol,
        rows_read=sum(p.rows_read for p in parts.values()), rejected=[r for p in parts.values() for r in p.rejected],
        left_out=left_out, warnings=warnings,
    )  # fmt: skip


def _hold_out(dataset: Dataset, seed: int) -> DatasetDict:
    """Test and validation of a few whole units each, drawn until they have 15 percent of the rows; large units train."""
    sizes = Counter(dataset["group_id"])
    small = [unit for unit in sorted(sizes) if sizes[unit] <= len(dataset) / 5]
    side = dict.fromkeys(sizes, "train")
    drawn = iter(np.random.default_rng(seed).permutation(small).tolist())
    for split in ("test", "validation"):
        rows = 0
        while rows < 0.15 * len(dataset) and (unit := next(drawn, None)) is not None:
            side[unit], rows = split, rows + sizes[unit]
    sides = [side[unit] for unit in dataset["group_id"]]
    return DatasetDict({s: dataset.select([i for i, other in enumerate(sides) if other == s]) for s in SPLITS})


def _without_overlaps(given: DatasetDict, overlaps: str) -> tuple[DatasetDict, dict[str, int], list[str]]:
    """Count what stands in two given splits, and leave it out of the earlier one.

    Returns:
        The splits, reason -> number of dialogues left out, and sentences on what was found.
    """
    if len(given) < 2:
        return given, {}, []
    keys = {s: {"history": keys_of(_histories(d)), "problem": column_keys(d, "problem_id")} for s, d in given.items()}
    names = [s for s in SPLITS if s in given]
    kept, left_out, found = dict(given), {}, []
    for i, split in enumerate(names):
        drop = np.zeros(len(given[split]), bool)
        for other in names[i + 1 :]:
            for what in ("history", "problem"):
                own, others = keys[split][what], keys[other][what]
                rows, hit = np.isin(own, others) & (own != 0), np.isin(others, own) & (others != 0)
                if not rows.any():
                    continue
                word = "a dialogue" if what == "history" else "a problem"
                found.append(f"{hit.sum()} of {len(others)} dialogues of {other} share {word} with {rows.sum()} of {split}.")
                if overlaps == "problems" or (overlaps == "dialogues" and what == "history"):
                    drop |= rows
        if drop.any():
            left_out[f"dialogues of {split} that share a {overlaps[:-1]} with {' or '.join(names[i + 1 :])}"] = int(drop.sum())
            kept[split] = given[split].select(np.flatnonzero(~drop))
    return DatasetDict(kept), left_out, found


def _refuse_twins(parts: dict[str, Part]) -> None:
    """Refuse a dialogue that stands in two of the user's files from the first word to the last."""
    if len(parts) < 2:
        return
    keys = {split: keys_of(_whole(part.dataset)) for split, part in parts.items()}
    for split, other, row, other_row in shared_keys(keys):
        raise DataError(
            f"the dialogue stands in row {parts[split].rows[row]} of {parts[split].path.name} ({split}) too.",
            file=parts[other].path, row=parts[other].rows[other_row],
            expected="no dialogue in two splits, or the test result means nothing", fix="Take it out of one of the files.",
        )  # fmt: skip


def _whole(dataset: Dataset) -> Iterator[str]:
    """What a dialogue says from the first word to the last."""
    for problem, turns in zip(column_values(dataset, "problem"), column_values(dataset, "turns"), strict=True):
        yield "\n".join(text_keys([problem, *(turn["text"] for turn in turns)]))


def _combine(sets: Sequence[DialogueDataset]) -> DialogueDataset:
    """Several data sets as one; `source` tells them apart, and ids begin with it."""
    if len(sets) == 1:
        return sets[0]

    def prefixed(row: dict) -> dict:
        ids = ("dialogue_id", "learner_id", "problem_id", "group_id")
        return {**row, **{c: row[c] and f"{row['source']}/{row[c]}" for c in ids}}

    rows = {s: [prefixed(row) for d in sets for row in d.splits[s]] for s in SPLITS}
    return DialogueDataset(
        DatasetDict({s: Dataset.from_list(r, features=DIALOGUES) for s, r in rows.items()}),
        " + ".join(d.name for d in sets), " + ".join(dict.fromkeys(d.split_by for d in sets)),
        split_protocol=" ".join(f"{d.name}: {d.split_protocol}" for d in sets),
        licence="; ".join(f"{d.name}: {d.licence}" for d in sets), rows_read=sum(d.rows_read for d in sets),
        rejected=[r for d in sets for r in d.rejected],
        left_out={f"{d.name}: {reason}": n for d in sets for reason, n in d.left_out.items()},
        warnings=[f"{d.name}: {warning}" for d in sets for warning in d.warnings],
    )  # fmt: skip


# ---- built-in data sets ---------------------------------------------------------------------------------------------


def _built_in(name: str, data_dir: str | Path | None, split_by: str | None, overlaps: str, seed: int) -> DialogueDataset:
    """A built-in set: its files, what the split keeps together, and what a reader must know."""
    if name == "sample_school":
        files, read = {"train": SAMPLE_SCHOOL / "dialogues.jsonl"}, _read_sample_school
    else:
        folder = find_data_dir(data_dir) / "tutoring" / name
        stems, read = {
            "cima": ({"train": "dataset.json"}, read_cima),
            "mathdial": ({"train": "train.jsonl", "test": "test.jsonl"}, read_mathdial),
            "bridge": ({s: f"{s}.json" for s in SPLITS}, read_bridge),
            "socratic_debugging": ({"train": "train.jsonl", "test": "test.jsonl"}, read_socratic),
        }[name]
        files = {
            s: next((p for p in (folder / stem, folder / f"{stem}.gz") if p.is_file()), folder / stem)
            for s, stem in stems.items()
        }
    warnings, protocol = [], "The distributed split. " if len(files) > 1 else ""
    if name == "mathdial" and not files["train"].is_file():
        files, protocol = {"train": files["test"]}, "MathDial's test part alone, split anew. "
        warnings.append("The training part of MathDial is not there: figures cannot be compared with published ones.")
    split_by = split_by or ("noun" if name == "cima" else "problem")
    parts = {}
    for split, path in files.items():
        if not path.is_file():
            raise DataError(f"there is no {path}.", fix="Check --data_dir; sources and licences stand in the loader's docstring.")
        parts[split] = check_dialogues(path, read(path), _in_public, name, split_by, merge=True, skip=True, published=True)
    data = _assemble(parts, name, split_by, seed, overlaps, protocol)
    if dropped := sum(part.dropped for part in parts.values()):
        warnings.append(f"{dropped} empty turns were left out.")
    data.warnings[:0] = warnings
    data.licence = {
        "sample_school": "apache-2.0", "cima": "cc-by-2.5", "mathdial": "cc-by-sa-4.0", "bridge": "mit",
        "socratic_debugging": "not stated; the paper calls it freely available for research",
    }[name]  # fmt: skip
    data.name = "sample_school (fictional)" if name == "sample_school" else name
    return data


def _read_sample_school(path: Path) -> Iterator[Dialogue]:
    """The embedded default, see sample_school/README.md: fictional learners and their tutors on school mathematics."""
    columns = DialogueColumns(
        messages="turns", problem_id="problem_id", problem="problem", solution="solution", profile="profile",
        learner="learner_id",
    )  # fmt: skip
    return to_dialogues(read_table(path), columns)[1]


def _in_public(dialogue: Dialogue, i: int, key: str) -> dict:
    return {"row": dialogue.row, "column": f"turn {i + 1}"}
