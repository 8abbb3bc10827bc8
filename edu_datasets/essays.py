"""Scored essays: ASAP, ASAP 2.0, ELLIPSE, the sample school, a Hub data set, a school's own file."""

from __future__ import annotations

import logging
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets

from .arrow_cache import RowWriter, column_values, is_on_disk
from .errors import DataError, in_file
from .files import (
    Table,
    as_text,
    check_names,
    check_text,
    decode,
    own_files,
    read_bytes,
    read_table,
    refuse_again,
    refuse_bad_rows,
    unknown_data_set,
)
from .provenance import Provenance
from .row_arrays import FirstRows, row_numbers
from .schema import ESSAYS
from .splits import (
    check_limits,
    connected_groups,
    cross_validation_splits,
    find_leaks,
    k_folds,
    shorten,
    split_by_group,
    text_keys,
)

logger = logging.getLogger(__name__)

MAX_CHARACTERS = 100_000  # a 15,000-word essay; what is longer is a broken quote or another column
MAX_PROMPT_CHARACTERS = 80
SAMPLE_SCHOOL = Path(__file__).parent / "sample_school"

ASAP_RANGES = {"1": (2, 12), "2": (1, 6), "3": (0, 3), "4": (0, 3), "5": (0, 4), "6": (0, 4), "7": (0, 30), "8": (0, 60)}
ASAP_ROWS = 12_978
ASAP2_SUBGROUPS = (
    "economically_disadvantaged", "student_disability_status", "ell_status", "race_ethnicity", "gender", "grade_level",
)  # fmt: skip
ELLIPSE_SCORES = ("Overall", "Cohesion", "Syntax", "Vocabulary", "Phraseology", "Grammar", "Conventions")
ELLIPSE_SUBGROUPS = ("gender", "grade", "race_ethnicity", "SES")


@dataclass
class EssayColumns:
    """The user's names for the canonical columns; None where the file has none."""

    text: str = "text"
    scores: Sequence[str] = ("score",)
    prompt: str | None = None
    essay_id: str | None = None
    learner: str | None = None
    rater1_scores: Sequence[str] = ()
    rater2_scores: Sequence[str] = ()
    subgroups: Sequence[str] = ()


@dataclass
class EssayDataset(Provenance):
    """Essays ready for a recipe.

    Attributes:
        splits: train, validation and test with the columns of `schema.ESSAYS`.
        name: What the data set is called in the card.
        score_names: The names of the entries of `scores`.
        score_ranges: prompt_id -> one (lowest, highest) possible score a score name, in rubric units.
        score_step: The distance of neighbouring scores, in rubric units.
        prompts: prompt_id -> the task as the learners read it, '' where unknown.
        subgroup_columns: The names of the entries of `subgroups`.
    """

    splits: DatasetDict
    name: str
    score_names: list[str]
    score_ranges: dict[str, list[tuple[float, float]]]
    score_step: float = 1.0
    prompts: dict[str, str] = field(default_factory=dict)
    subgroup_columns: list[str] = field(default_factory=list)

    def fold_splits(self, k: int, seed: int) -> dict[str, DatasetDict]:
        """Cut train and validation together into `k` folds for cross-validation; the test split is not in them.

        Returns:
            fold_0, fold_1, ...: test (the fold), validation (a fifth of the rest, for early stopping and calibration), train.
        """
        pool, groups = self._pool()
        return cross_validation_splits(pool, groups, pool["prompt_id"], k, seed)

    def prompt_splits(self) -> dict[str, DatasetDict]:
        """Leave each prompt out in turn: what a school can expect on a new prompt without graded essays.

        Returns:
            without_<prompt_id>: train and validation of the other prompts, test of this one.
        """
        prompts = list(self.score_ranges)
        if len(prompts) < 2:
            raise DataError("leaving a prompt out needs several.", found=f"{len(prompts)} prompt", expected="2 or more")
        splits = {}
        for prompt in prompts:
            parts = {s: _where(self.splits[s], set(prompts) - {prompt}) for s in ("train", "validation")}
            splits[f"without_{prompt}"] = DatasetDict({**parts, "test": _where(self.splits["test"], {prompt})})
        return splits

    def graded(self, essays_a_prompt: int, seed: int) -> DatasetDict:
        """What there would be if so many essays of each prompt had been graded: train (3/4) and validation; all of test.

        Essays are drawn from train and validation; smaller numbers with the same seed are parts of larger ones.

        Raises:
            DataError: Fewer than 8, or more than there are.
        """
        pool, groups = self._pool()
        prompts, rng = np.array(pool["prompt_id"]), np.random.default_rng(seed)
        rank = np.zeros(len(pool))
        rank[rng.permutation(len(pool))] = np.arange(len(pool))
        chosen = []
        for prompt in self.score_ranges:
            rows = np.flatnonzero(prompts == prompt)
            if not 8 <= essays_a_prompt <= len(rows):
                raise DataError(
                    f"{essays_a_prompt} graded essays of prompt '{prompt}' cannot be had.", found=essays_a_prompt,
                    expected=f"8 to {len(rows)}",
                )  # fmt: skip
            chosen.append(rows[np.argsort(rank[rows])][:essays_a_prompt])
        rows = np.concatenate(chosen)
        inner = k_folds(groups[rows], prompts[rows], 4, seed)[0]
        parts = {"train": np.delete(rows, inner), "validation": rows[inner]}
        return DatasetDict({**{s: pool.select(r) for s, r in parts.items()}, "test": self.splits["test"]})

    def _pool(self) -> tuple[Dataset, np.ndarray]:
        """Train and validation together, and the group of each row."""
        pool = concatenate_datasets([self.splits["train"], self.splits["validation"]])
        return pool, _groups(pool)

    def push_to_hub(self, name: str, private: bool | None = None, token: str | None = None) -> None:
        """Publish the splits as a Hub data set, which `--dataset_name user/name` loads again with the same split.

        Columns: essay_id, learner_id, prompt_id, text, one a score, rater1_<score> and rater2_<score> where there are two
        raters, and one a subgroup. Learners and essays get numbers in place of their ids. Only publish texts whose writers
        agreed.

        Args:
            name: user/name.
            private: Whether a new repository is private.
            token: None for the one of `hf auth login` or HF_TOKEN.
        """
        flat, numbers, essays = {}, {}, 0
        for split, rows in self.splits.items():
            columns = {c: rows[c][:] for c in ("essay_id", "learner_id", "prompt_id", "text")}
            columns["learner_id"] = [v and str(numbers.setdefault(v, len(numbers))) for v in columns["learner_id"]]
            columns["essay_id"] = [str(essays + i) for i in range(len(rows))]
            essays += len(rows)
            for prefix, lists in (("", "scores"), ("rater1_", "rater1_scores"), ("rater2_", "rater2_scores")):
                for s, score in enumerate(self.score_names):
                    values = [r[s] if r and not np.isnan(r[s]) else None for r in rows[lists]]
                    if not prefix or any(v is not None for v in values):
                        columns[prefix + score] = values
            columns |= {c: [r[i] for r in rows["subgroups"]] for i, c in enumerate(self.subgroup_columns)}
            flat[split] = Dataset.from_dict(columns)
        DatasetDict(flat).push_to_hub(name, private=private, token=token)

    def facts(self) -> dict:
        """What the report says of the data; no text and no id."""
        return self.source_facts({s: len(d) for s, d in self.splits.items()})

    def summary(self) -> str:
        """A table of rows, prompts, scores and lengths, for `--check_data` and the log."""
        lines = [f"{self.name}: {self.rows_read} rows read, {len(self.rejected)} left out. {self.split_protocol}"]
        lines += [f"  score '{n}'" + ("" if i else f" (step {self.score_step:g})") for i, n in enumerate(self.score_names)]
        lines += [f"  {'prompt':12} {'range':>9} {'train':>7} {'valid.':>7} {'test':>7} {'words':>7}"]
        counts = [Counter(column_values(self.splits[s], "prompt_id")) for s in ("train", "validation", "test")]
        words = Counter()
        train = self.splits["train"]
        for prompt, text in zip(column_values(train, "prompt_id"), column_values(train, "text"), strict=True):
            words[prompt] += len(text.split())
        for prompt, ranges in self.score_ranges.items():
            span, mean = "{:g}-{:g}".format(*ranges[0]), words[prompt] / max(counts[0][prompt], 1)
            lines += [f"  {prompt[:12]:12} {span:>9} " + " ".join(f"{c[prompt]:7}" for c in counts) + f" {mean:7.0f}"]
        return "\n".join(lines)


def load_essays(
    dataset_name: str = "sample_school",
    *,
    data_dir: str | Path | None = None,
    train_file: str | Path | None = None,
    validation_file: str | Path | None = None,
    test_file: str | Path | None = None,
    columns: EssayColumns | None = None,
    prompts_file: str | Path | None = None,
    prompt_ids: Sequence[str] = (),
    score_range: Sequence[float] | None = None,
    score_step: float | None = None,
    split_by: str | None = None,
    fold: int = 0,
    seed: int = 42,
    encoding: str | None = None,
    separator: str | None = None,
    skip_bad_rows: bool = False,
    revision: str | None = None,
    max_train_samples: int | None = None,
    max_eval_samples: int | None = None,
    streaming: bool = False,
) -> EssayDataset:
    """Load essays and split them so that no learner and no text stands on two sides.

    Args:
        dataset_name: 'sample_school', 'asap', 'asap2', 'ellipse', or a Hub id (with a slash). Ignored with `train_file`.
        data_dir: The folder that holds the public sets; else the environment variable EDU_DATA_DIR.
        train_file: A table of the user's own, see `files.read_table`. What is not given of validation and test is cut
            from it, 20 percent each.
        validation_file: Likewise.
        test_file: Likewise.
        columns: The user's column names.
        prompts_file: A table with the columns prompt_id and, each optional, prompt, score_min, score_max.
        prompt_ids: Keep only these prompts.
        score_range: (lowest, highest) possible score of every prompt. None takes it from `prompts_file` or else the
            lowest and highest score seen in all rows of the prompt.
        score_step: Distance of neighbouring scores; None finds 1, 0.5 or 0.25.
        split_by: A column of the user's file; rows with one value stay on one side. None takes the learner column.
        fold: Which of the five published ASAP folds, 0 to 4.
        seed: Seed of the split.
        encoding: See `files.read_table`.
        separator: See `files.read_table`.
        skip_bad_rows: Leave rows without a text or a usable score out, and list them, instead of ending the run.
        revision: The revision of a Hub data set.
        max_train_samples: Keep a random part of training.
        max_eval_samples: Keep a random part of validation and of test.
        streaming: Keep the rows of the user's own files on disk, see `arrow_cache`.

    Raises:
        DataError: With file, row and column.
    """
    if score_range and (len(score_range) != 2 or not -math.inf < score_range[0] < score_range[1] < math.inf):
        raise DataError("the score range is not a lowest and a higher highest score.", found=list(score_range))
    check_limits(max_train_samples, max_eval_samples)
    if score_step is not None and not 0 < score_step < math.inf:
        raise DataError(f"--score_step is {score_step}.", expected="a number above 0")
    columns = columns or EssayColumns()
    if len(set(columns.scores)) < len(columns.scores):
        raise DataError("--score_column names a column twice.")
    options = {
        "score_range": score_range or None, "score_step": score_step, "skip": skip_bad_rows, "prompt_ids": list(prompt_ids),
        "limits": (max_train_samples, max_eval_samples), "seed": seed, "streaming": streaming,
    }  # fmt: skip
    task = read_prompts(prompts_file) if prompts_file else ({}, {})
    if files := own_files(train_file, validation_file, test_file):
        tables = {split: read_table(path, encoding, separator, streaming) for split, path in files.items()}
        with in_file(train_file):
            return _assemble(tables, columns, Path(train_file).name, task, split_by, seed, options)
    if "/" in dataset_name:
        tables = read_hub(dataset_name, revision)
        return _assemble(tables, columns, dataset_name, task, split_by, seed, options)
    if dataset_name == "sample_school":
        return _load_sample_school(seed, options)
    if dataset_name == "asap":
        return _load_asap(find_data_dir(data_dir) / "asap", fold, options)
    if dataset_name == "asap2":
        return _load_asap2(find_data_dir(data_dir) / "asap2", split_by, seed, options)
    if dataset_name == "ellipse":
        return _load_ellipse(find_data_dir(data_dir) / "ellipse", split_by, seed, options)
    names = ["sample_school", "asap", "asap2", "ellipse"]
    raise unknown_data_set(dataset_name, names, ", or a Hub id such as user/essays")


def read_essays(
    path: str | Path,
    columns: EssayColumns,
    encoding: str | None = None,
    separator: str | None = None,
    skip_bad_rows: bool = False,
) -> tuple[Dataset, list[int], list[tuple[str, int, str]]]:
    """Read essays to score: no score column is needed, and an essay may be empty.

    Returns:
        The essays (`schema.ESSAYS`), the file's row number of each, and (file, row, reason) of the rows left out.
    """
    part = _read_rows(read_table(path, encoding, separator), columns, need_scores=False, skip=skip_bad_rows)
    return part.dataset, part.rows, part.rejected


def read_prompts(path: str | Path) -> tuple[dict[str, str], dict[str, tuple[float, float]]]:
    """prompt_id -> the task's text, and prompt_id -> (lowest, highest) score where the file states them."""
    table = read_table(path)
    ids = [as_text(v) for v in table.column("prompt_id", "a header 'prompt_id' in the prompts file:")]
    texts = dict(zip(ids, map(as_text, table.columns.get("prompt", [""] * len(ids))), strict=True))
    for row, *cells in zip(table.rows, ids, map(as_text, table.columns.get("prompt", ids)), strict=True):
        check_names(cells, file=table.path, row=row)
    ranges = {}
    if len(one := {"score_min", "score_max"} & set(table.columns)) == 1:
        raise DataError(f"there is '{one.pop()}' alone.", file=path, row=1, expected="score_min and score_max, or neither")
    if {"score_min", "score_max"} <= set(table.columns):
        for i, prompt in enumerate(ids):
            low, high = (_as_number(table, c, i) for c in ("score_min", "score_max"))
            if not low < high:
                raise DataError(
                    "the lowest score is not below the highest.", file=path, row=table.rows[i], column="score_min",
                    found=table.columns["score_min"][i],
                )  # fmt: skip
            ranges[prompt] = (low, high)
    return texts, ranges


def find_data_dir(data_dir: str | Path | None) -> Path:
    """`data_dir`, or else the folder that the environment variable EDU_DATA_DIR names."""
    folder = data_dir or os.environ.get("EDU_DATA_DIR")
    if not folder:
        raise DataError(
            "no folder with the public data sets was named.", fix="Set --data_dir or the environment variable EDU_DATA_DIR."
        )
    if not Path(folder).is_dir():
        raise DataError(f"there is no folder {folder}.", fix="Check --data_dir or the environment variable EDU_DATA_DIR.")
    return Path(folder)


# ---- from a table to canonical rows ---------------------------------------------------------------------------------


@dataclass
class _Part:
    """One file's essays, with the file's row number of each."""

    path: Path
    dataset: Dataset
    rows: Sequence[int]
    rejected: list[tuple[str, int, str]]
    rows_read: int


def _read_rows(
    table: Table, columns: EssayColumns, *, need_scores: bool, skip: bool, split_by: str | None = None, streaming: bool = False
) -> _Part:  # fmt: skip
    """Map the user's columns to `schema.ESSAYS` and check every cell."""
    path, n = table.path, len(table)
    texts = table.column(columns.text, "--text_column")
    have = need_scores or all(c in table.columns for c in columns.scores)
    if have:
        for name in columns.scores:
            table.column(name, "--score_column")
    prompts = table.column(columns.prompt, "--prompt_column") if columns.prompt else ["all"] * n
    ids = table.column(columns.essay_id, "--id_column") if columns.essay_id else None
    learners = table.column(columns.learner, "--learner_column") if columns.learner else [""] * n
    unit = table.column(split_by, "--split_by") if split_by else learners
    for option, names in (("--rater1_column", columns.rater1_scores), ("--rater2_column", columns.rater2_scores)):
        for name in names:
            table.column(name, option)
    for name in columns.subgroups:
        table.column(name, "--subgroup_columns")
    blank = [math.nan] * len(columns.scores)

    rows, prompts_seen, first_row = row_numbers(streaming), set(), FirstRows(streaming)
    problems: list[DataError] = []
    with RowWriter(ESSAYS, streaming) as essays:
        for i, row in enumerate(table.rows):
            try:
                text = _check_text(table, columns.text, texts[i], i, may_be_empty=not need_scores)
                essay_id, prompt = as_text(ids[i]) if ids is not None else f"row {row}", as_text(prompts[i])
                if not prompt:
                    raise DataError("the prompt is missing.", file=path, row=row, column=columns.prompt)
                if len(prompt) > MAX_PROMPT_CHARACTERS:
                    raise DataError(
                        f"the prompt has {len(prompt)} characters.", file=path, row=row, column=columns.prompt,
                        expected=f"a name of at most {MAX_PROMPT_CHARACTERS} characters",
                        fix="Name the column of the prompts with --prompt_column; their wording goes to --prompts_file.",
                    )  # fmt: skip
                if not essay_id:
                    raise DataError("the id is missing.", file=path, row=row, column=columns.essay_id)
                if ids is not None:
                    fix = "Give every essay an id of its own, or leave --id_column out."
                    refuse_again(first_row.find(essay_id), file=path, row=row, column=columns.essay_id, fix=fix)
                scores = [_as_number(table, c, i) for c in columns.scores] if have else blank
                if need_scores and all(map(math.isnan, scores)):
                    raise DataError("the essay has no score.", file=path, row=row, column=columns.scores[0], expected="a number")
                raters = [
                    [_as_number(table, c, i) for c in names] or blank for names in (columns.rater1_scores, columns.rater2_scores)
                ]
                groups = (table.columns[c][i] for c in columns.subgroups)
                check_names((essay_id, prompt, learners[i], unit[i], *groups), file=path, row=row)
            except DataError as error:
                problems.append(error)
                continue
            if ids is not None:
                first_row.add(essay_id, row)
            rows.append(row)
            prompts_seen.add(prompt)
            subgroups = [as_text(table.columns[c][i]) for c in columns.subgroups]
            values = (essay_id, as_text(learners[i]), as_text(unit[i]), prompt, text, scores, *raters, subgroups)
            essays.append(dict(zip(ESSAYS, values, strict=True)))
        refuse_bad_rows(problems, skip, rows, path)
        if need_scores and (n_prompts := len(prompts_seen)) > max(1, len(rows) // 3):
            raise DataError(
                f"{len(rows)} essays answer {n_prompts} prompts.", file=path, column=columns.prompt,
                expected="three essays a prompt at least", fix="Name the column of the prompts with --prompt_column.",
            )  # fmt: skip
        rejected = [(path.name, e.row, str(e)) for e in problems]
        return _Part(path, essays.dataset(), rows, rejected, n)


def _check_text(table: Table, column: str, value: object, i: int, may_be_empty: bool) -> str:
    text = as_text(value)
    if text or not may_be_empty:
        check_text(text, "the essay", MAX_CHARACTERS, file=table.path, row=table.rows[i], column=column)
    return text


def _shown(value: object) -> object:
    """A wrong score as a message may show it; what may be a learner's text or id is described."""
    text = str(value).strip()
    if len(text) <= 12 and re.fullmatch(r"[A-Za-z]{1,8}|[\d.,/+\-% ]+|[A-F][+-]", text):
        return value
    return f"a text of {len(text)} characters"


def _as_number(table: Table, column: str, i: int) -> float:
    """A score cell as a float; nan where it is empty."""
    value = table.columns[column][i]
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        comma = isinstance(value, str) and value.strip().replace(",", "", 1).isdigit()
        raise DataError(
            "not a score.", file=table.path, row=table.rows[i], column=column, found=_shown(value),
            expected="a number, or an empty cell where there is none",
            fix="Write the decimal comma as a point." if comma else None,
        )  # fmt: skip
    return number


# ---- from rows to a data set ----------------------------------------------------------------------------------------


def _assemble(
    tables: dict[str, Table],
    columns: EssayColumns,
    name: str,
    task: tuple[dict, dict],
    split_by: str | None,
    seed: int,
    options: dict,
    **facts: object,
) -> EssayDataset:
    """Tables, one a split that the user gave, to an `EssayDataset` with all three splits."""
    parts = {
        split: _read_rows(
            table, columns, need_scores=True, skip=options["skip"], split_by=split_by, streaming=options["streaming"]
        )
        for split, table in tables.items()
    }
    given = DatasetDict({split: part.dataset for split, part in parts.items()})
    protocol = _check_given_splits(given, parts, has_ids=columns.essay_id is not None)
    missing = [s for s in ("validation", "test") if s not in given]
    splits = dict(given)
    if missing:
        part = parts["train"]
        groups = _groups(part.dataset)
        cut = split_by_group(part.dataset, groups, column_values(part.dataset, "prompt_id"), seed)
        if len(missing) == 1:
            other = "test" if missing[0] == "validation" else "validation"
            cut["train"] = concatenate_datasets([cut["train"], cut[other]])
        splits |= {s: cut[s] for s in ["train", *missing]}
        unit = f"{split_by or columns.learner} and text" if (split_by or columns.learner) else "text"
        protocol += f"{' and '.join(missing).capitalize()} cut from the training file, grouped by {unit}, seed {seed}."
    data = EssayDataset(
        splits=DatasetDict({s: splits[s] for s in ("train", "validation", "test")}),
        name=name,
        score_names=[str(c) for c in columns.scores],
        score_ranges={},
        prompts=task[0],
        subgroup_columns=list(columns.subgroups),
        split_protocol=protocol,
        rows_read=sum(p.rows_read for p in parts.values()),
        rejected=[r for p in parts.values() for r in p.rejected],
    )
    for key, value in facts.items():
        setattr(data, key, value)
    return _finish(data, task[1], options, parts)


def _groups(dataset: Dataset) -> np.ndarray:
    """Essays that may not be parted: one learner's (or what `--split_by` names), or one text."""
    texts = text_keys(column_values(dataset, "text"))
    return connected_groups(column_values(dataset, "group_id"), texts, streaming=is_on_disk(dataset))


def _finish(data: EssayDataset, ranges: dict[str, tuple], options: dict, parts: dict[str, _Part]) -> EssayDataset:
    """Keep the prompts asked for; find ranges and step; refuse what cannot be learnt."""
    if wanted := options["prompt_ids"]:
        known = sorted(set(data.splits["train"]["prompt_id"]))
        for prompt in wanted:
            if prompt not in known:
                raise DataError("there is no such prompt.", found=prompt, expected=f"one of {', '.join(known)}")
        data.splits = DatasetDict({s: _where(d, set(wanted)) for s, d in data.splits.items()})
    data.splits = shorten(data.splits, *options["limits"], options["seed"])
    counts = {split: Counter(column_values(rows, "prompt_id")) for split, rows in data.splits.items()}
    for split in ("validation", "test"):
        for prompt in sorted(set(counts[split]) - set(counts["train"])):
            part = parts.get(split)
            row = part.rows[list(part.dataset["prompt_id"]).index(prompt)] if part else None
            raise DataError(
                f"{counts[split][prompt]} essays in {split} answer a prompt that no training essay answers.",
                file=part.path if part else None, row=row, found=prompt, expected="prompts that stand in training too",
                fix="A scale cannot be learnt without scores: grade some essays of this prompt, or leave it out.",
            )  # fmt: skip
        if not counts[split]:
            raise DataError(f"the {split} split is empty.", fix="Bring more essays.")
    lowest, highest = _extremes(data.splits)
    data.score_step = options["score_step"] or _find_step(parts, data.score_names)
    data.score_ranges = {}
    for prompt in sorted(counts["train"]):
        stated = options["score_range"] or ranges.get(prompt)
        spans = []
        for name, low, high in zip(data.score_names, lowest[prompt], highest[prompt], strict=True):
            if not stated and math.isnan(low):
                raise DataError(f"prompt '{prompt}' lacks one of the scores {', '.join(data.score_names)} in every row.")
            least, most = map(float, stated or (low, high))
            if not low < high:
                raise DataError(
                    f"every essay of prompt '{prompt}' has the same {name}: there is nothing to learn.",
                    column=name, found=least, expected="at least two different scores a prompt",
                )  # fmt: skip
            if not least < most:
                raise DataError("the lowest possible score is not below the highest.", found=(least, most))
            spans.append((least, most))
        data.score_ranges[prompt] = spans
    _check_ranges(data, parts)
    return data


def _extremes(splits: DatasetDict) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """prompt_id -> the lowest, and the highest, of each score in all splits; nan where there is none."""
    lowest: dict[str, list[float]] = {}
    highest: dict[str, list[float]] = {}
    for rows in splits.values():
        for prompt, scores in zip(column_values(rows, "prompt_id"), column_values(rows, "scores"), strict=True):
            for found, further in ((lowest, min), (highest, max)):
                if prompt not in found:
                    found[prompt] = list(scores)
                for i, score in enumerate(scores):
                    known = found[prompt][i]
                    found[prompt][i] = score if math.isnan(known) else known if math.isnan(score) else further(known, score)
    return lowest, highest


def _check_ranges(data: EssayDataset, parts: dict[str, _Part]) -> None:
    """Refuse the first score outside its prompt's range, or off the grid of steps."""
    for part in parts.values():
        prompts, given = (column_values(part.dataset, c) for c in ("prompt_id", "scores"))
        for row, prompt, scores in zip(part.rows, prompts, given, strict=True):
            for score, name, (low, high) in zip(scores, data.score_names, data.score_ranges.get(prompt, []), strict=False):
                if math.isnan(score):
                    continue
                steps = (score - low) / data.score_step
                if not low <= score <= high or abs(steps - round(steps)) > 1e-6:
                    raise DataError(
                        "the score cannot be given.", file=part.path, row=row, column=name, found=score,
                        expected=f"{low:g} to {high:g} in steps of {data.score_step:g} for prompt '{prompt}'",
                        fix="Correct the score, or state --score_range and --score_step.",
                    )  # fmt: skip


def _find_step(parts: dict[str, _Part], names: Sequence[str]) -> float:
    """1, 0.5 or 0.25: the largest grid that all scores lie on."""
    step = 1.0
    for part in parts.values():
        for row, scores in zip(part.rows, column_values(part.dataset, "scores"), strict=True):
            for score, name in zip(scores, names, strict=True):
                while not math.isnan(score) and not math.isclose(score / step, round(score / step), abs_tol=1e-9):
                    step /= 2
                    if step < 0.25:
                        raise DataError(
                            "the score lies on no grid of 1, 0.5 or 0.25 points.", file=part.path, row=row, column=name,
                            found=score, fix="State the distance of neighbouring scores with --score_step.",
                        )  # fmt: skip
    return step


def _check_given_splits(given: DatasetDict, parts: dict[str, _Part], has_ids: bool) -> str:
    """Refuse an id or a text that stands in two files; count learners that do."""
    for column, split, other, row, other_row in find_leaks(given, ["essay_id", "text"] if has_ids else ["text"]):
        raise DataError(
            f"the {'id' if column == 'essay_id' else 'text'} stands in row {parts[split].rows[row]} of "
            f"{parts[split].path.name} ({split}) too.",
            file=parts[other].path, row=parts[other].rows[other_row],
            expected="no essay in two splits, or the test result means nothing",
            fix="Take it out of one of the files.",
        )  # fmt: skip
    learners = len(find_leaks(given, ["learner_id"]))
    if learners:
        logger.warning("%d learners stand in two of the given splits: the test result is that of known learners", learners)
    names = [f"{p.path.name} as {s}" for s, p in parts.items()] if len(parts) > 1 else []
    return f"Given files: {', '.join(names)}. " if names else ""


def _where(dataset: Dataset, prompts: set[str]) -> Dataset:
    return dataset.select([i for i, p in enumerate(column_values(dataset, "prompt_id")) if p in prompts])


# ---- public data sets -----------------------------------------------------------------------------------------------


def _load_sample_school(seed: int, options: dict) -> EssayDataset:
    """The embedded default, see sample_school/README.md: 140 essays of 48 fictional learners on three prompts."""
    table = read_table(SAMPLE_SCHOOL / "essays.csv")
    learners = read_table(SAMPLE_SCHOOL / "learners.csv")
    row_of = {learner: i for i, learner in enumerate(learners.columns["learner_id"])}
    for name in ("grade", "language_learner"):
        table.columns[name] = [learners.columns[name][row_of[lid]] for lid in table.columns["learner_id"]]
    columns = EssayColumns(
        prompt="prompt_id", essay_id="essay_id", learner="learner_id", rater1_scores=["rater1_score"],
        rater2_scores=["rater2_score"], subgroups=["grade", "language_learner"],
    )  # fmt: skip
    task = read_prompts(SAMPLE_SCHOOL / "prompts.csv")
    return _assemble({"train": table}, columns, "sample_school (fictional)", task, None, seed, options, licence="apache-2.0")


def read_asap(path: str | Path) -> Table:
    """Read ASAP's training_set_rel3.tsv, plain or gzip, in its original bytes or decoded.

    The file is tab separated without csv quoting: an essay wrapped in quotes has them doubled inside, and one (10534)
    opens a quote that never closes, so that csv readers swallow its two successors. Most lines are Windows-1252, 31
    are UTF-8. Source: Kaggle, The Hewlett Foundation: Automated Essay Scoring (2012).

    A row: essay_id 1, essay_set '1', essay 'Dear local newspaper, ...', rater1_domain1 '4', rater2_domain1 '4',
    domain1_score '8', ...

    Raises:
        DataError: A line has another number of fields than the header.
    """
    path = Path(path)
    lines = decode(read_bytes(path), path).split("\n")
    header = lines[0].rstrip("\r").split("\t")
    for name in ("essay_id", "essay_set", "essay", "rater1_domain1", "rater2_domain1", "domain1_score"):
        if name not in header:
            raise DataError("the column is missing.", file=path, row=1, column=name, expected="ASAP's training_set_rel3.tsv")
    records, rows = [], []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip("\r"):
            continue
        record = line.rstrip("\r").split("\t")
        if len(record) != len(header):
            raise DataError(f"the row has {len(record)} fields.", file=path, row=number, expected=f"{len(header)} fields")
        records.append(record)
        rows.append(number)
    table = Table(path, {name: [r[i] for r in records] for i, name in enumerate(header)}, rows)
    table.columns["essay"] = [_unquote(text) for text in table.columns["essay"]]
    return table


def _unquote(text: str) -> str:
    """ASAP's quoting: one outer pair of quotes, doubled ones inside; a lone opening quote stays."""
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    return text.replace('""', '"')


def _load_asap(folder: Path, fold: int, options: dict) -> EssayDataset:
    """ASAP on the five standard folds of Taghipour and Ng (EMNLP 2016): folds/fold_k/{train,dev,test}_ids.txt."""
    if fold not in range(5):
        raise DataError("there is no such fold.", found=fold, expected="0 to 4")
    path = next((p for n in ("training_set_rel3.tsv", "training_set_rel3.tsv.gz") if (p := folder / n).is_file()), None)
    if path is None:
        raise DataError(f"there is no training_set_rel3.tsv in {folder}.", fix="It comes from Kaggle's asap-aes competition.")
    table = read_asap(path)
    columns = EssayColumns(
        text="essay", scores=["domain1_score"], prompt="essay_set", essay_id="essay_id",
        rater1_scores=["rater1_domain1"], rater2_scores=["rater2_domain1"],
    )  # fmt: skip
    part = _read_rows(table, columns, need_scores=True, skip=options["skip"])
    row_of = {essay_id: i for i, essay_id in enumerate(part.dataset["essay_id"])}
    rejected_ids = {as_text(table.columns["essay_id"][table.rows.index(row)]) for _, row, _ in part.rejected}
    splits, seen = {}, {}
    for split, file_name in (("train", "train_ids.txt"), ("validation", "dev_ids.txt"), ("test", "test_ids.txt")):
        ids_path = folder / "folds" / f"fold_{fold}" / file_name
        if not ids_path.is_file():
            raise DataError(f"there is no {ids_path}.", fix="The ids of the standard folds stand in nusnlp/nea on GitHub.")
        ids = ids_path.read_text().split()
        for n, i in enumerate(ids, start=1):
            if i in seen:
                raise DataError(f"the id stands in {seen[i]} too.", file=ids_path, row=n, expected="each id in one split")
            seen[i] = file_name
        ids = [i for i in ids if i not in rejected_ids]
        unknown = [n for n, i in enumerate(ids, start=1) if i not in row_of]
        if unknown:
            raise DataError(
                f"{len(unknown)} ids are not in {path.name}.", file=ids_path, row=unknown[0],
                fix=f"The file should have {ASAP_ROWS:,} essays; {len(row_of):,} were read.",
            )  # fmt: skip
        splits[split] = part.dataset.select([row_of[i] for i in ids])
    data = EssayDataset(
        splits=DatasetDict(splits), name="asap", score_names=["score"], score_ranges={},
        split_protocol=f"The standard five-fold split (Taghipour and Ng 2016), fold {fold}.",
        licence="not stated (Kaggle competition rules)", rows_read=part.rows_read, rejected=part.rejected,
    )  # fmt: skip
    data = _finish(data, ASAP_RANGES, options, {"": part})
    if leaks := find_leaks(data.splits, ["text"]):
        data.split_protocol += f" {len(leaks)} texts stand in two of its splits, as published."
    return data


def _load_asap2(folder: Path, split_by: str | None, seed: int, options: dict) -> EssayDataset:
    """ASAP 2.0 (scrosseye/ASAP_2.0, CC BY-NC-SA 4.0): 24,278 source-based essays on seven prompts, scores 1 to 6.

    Written from the published column list; not run on the real file. A row: essay_id 'AAAVUP14319000159574', score 4,
    full_text 'The author ...', assignment 'In ...', prompt_name 'Exploring Venus', economically_disadvantaged
    'Economically disadvantaged', student_disability_status, ell_status 'No', race_ethnicity, gender 'F'.
    """
    table = _read_first(folder, ["ASAP2_train_sourcetexts.csv", "ASAP2.csv", "train.csv"])
    subgroups = [c for c in ASAP2_SUBGROUPS if c in table.columns]
    columns = EssayColumns(text="full_text", prompt="prompt_name", essay_id="essay_id", subgroups=subgroups)
    ranges = {as_text(p): (1.0, 6.0) for p in table.column("prompt_name", "--prompt_column")}
    task = dict(zip(map(as_text, table.columns["prompt_name"]), table.columns.get("assignment", []), strict=False))
    return _assemble({"train": table}, columns, "asap2", (task, ranges), split_by, seed, options, licence="cc-by-nc-sa-4.0")


def _load_ellipse(folder: Path, split_by: str | None, seed: int, options: dict) -> EssayDataset:
    """ELLIPSE (scrosseye, CC BY-NC-SA 4.0): some 6,500 essays of English learners, overall and six analytic scores.

    Written from the published column list; not run on the real file. Scores 1 to 5 in steps of 0.5. A row:
    text_id_kaggle 'BA5...', full_text 'I think ...', gender 'Female', grade 10, race_ethnicity, SES, prompt 'Career
    commitment', Overall 3.0, Cohesion 3.5, Syntax 3.0, Vocabulary 3.0, Phraseology 3.0, Grammar 2.5, Conventions 3.0.
    """
    tables = {"train": _read_first(folder, ["ELLIPSE_Final_github_train.csv", "ELLIPSE_Final_github.csv", "train.csv"])}
    if (test := folder / "ELLIPSE_Final_github_test.csv").is_file():
        tables["test"] = read_table(test)
    train = tables["train"]
    columns = EssayColumns(
        text="full_text", scores=ELLIPSE_SCORES, essay_id="text_id_kaggle",
        subgroups=[c for c in ELLIPSE_SUBGROUPS if c in train.columns],
    )  # fmt: skip  # one rubric serves its 29 prompts, so that they share a scale: no prompt column
    options = {**options, "score_step": options["score_step"] or 0.5}
    task = ({}, {"all": (1.0, 5.0)})
    return _assemble(tables, columns, "ellipse", task, split_by, seed, options, licence="cc-by-nc-sa-4.0")


def _read_first(folder: Path, names: Sequence[str]) -> Table:
    for name in names:
        if (folder / name).is_file():
            return read_table(folder / name)
    raise DataError(f"there is none of {', '.join(names)} in {folder}.", fix="Download the data set into this folder.")


def read_hub(name: str, revision: str | None) -> dict[str, Table]:
    """A Hub data set's splits as tables; row 1 is the first record."""
    from datasets import load_dataset

    try:
        splits = load_dataset(name, revision=revision)
    except (FileNotFoundError, ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise DataError(
            f"the data set {name} could not be loaded from the Hub ({type(error).__name__}: {str(error)[:200]}).",
            fix="Check the name and the network; your own file goes to --train_file.",
        ) from error
    keep = {s: splits[s] for s in ("train", "validation", "test") if s in splits}
    if "train" not in keep:
        raise DataError(f"{name} has no split 'train'.", found=list(splits))
    return {s: Table(Path(f"{name} ({s})"), d.to_dict(), list(range(1, len(d) + 1))) for s, d in keep.items()}
