"""Questions about texts, to answer or to learn to ask: SQuAD's layout, FairytaleQA, MCTest, SciQ, the sample school, a Hub data
set, a school's own file.

Answers in their writers' own words get the span of the text that says most of them, see spans.py; how far such spans can go at
best is `PassageDataset.ceiling`.
"""

from __future__ import annotations

import logging
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict, concatenate_datasets

from .arrow_cache import RowWriter, column_values, is_on_disk
from .errors import DataError, in_file
from .essays import SAMPLE_SCHOOL, find_data_dir, read_hub
from .files import Table, decode, own_files, read_bytes, read_table, unknown_data_set
from .passage_rows import Part, PassageColumns, read_file, read_rows
from .provenance import Provenance
from .row_arrays import column_keys, count_different, first_rows, keys_of
from .schema import PASSAGES
from .spans import best_span, exact_match, rouge_l, token_f1
from .splits import (
    check_limits,
    connected_groups,
    cross_validation_splits,
    cut_missing,
    find_leaks,
    shared_keys,
    shorten,
    text_key,
    text_keys,
)

logger = logging.getLogger(__name__)

BUILT_IN = (
    "sample_school", "fairytaleqa", "xquad_en", "squad", "squad_v2", "mctest", "mctest160", "mctest500", "sciq", "squad_qg",
)  # fmt: skip
ELSEWHERE_F1 = 0.5  # a text in which a span comes nearer to the answer than this may well answer the question


@dataclass
class PassageDataset(Provenance):
    """Questions ready for a recipe.

    Attributes:
        splits: train, validation and test with the columns of `schema.PASSAGES`; a set for evaluation has test alone.
        name: What the data set is called in the card.
        attribute_names: The names of the entries of `attributes`.
    """

    splits: DatasetDict
    name: str
    attribute_names: list[str] = field(default_factory=list)

    def ceiling(self, split: str = "test") -> dict[str, float]:
        """How well the spans in `split` say what the answers say: the most that an extractive model can reach.

        A question counts with its best span against its nearest reference, as in the evaluation of a model.

        Returns:
            exact_match, f1, rouge_l: means over the answerable questions; questions: how many these are.
        """
        names = {"exact_match": exact_match, "f1": token_f1, "rouge_l": rouge_l}
        scores = {name: array("d") for name in names}
        for context, answers, starts, ends in self._columns(split, "context", "answers", "answer_starts", "answer_ends"):
            spans = {context[a:b] for a, b in zip(starts, ends, strict=True) if a >= 0}
            if answers:
                for name, measure in names.items():
                    scores[name].append(max((measure(s, answer) for s in spans for answer in answers), default=0.0))
        return {name: float(np.mean(values or [np.nan])) for name, values in scores.items()} | {"questions": len(scores["f1"])}

    def answer_counts(self, split: str) -> dict[str, int]:
        """How the answers of `split` stand in their contexts.

        Returns:
            literal: word for word, case and white space apart; near: a span shares words; nowhere: no word of it stands there;
            unanswerable: questions without an answer.
        """
        kinds: Counter[str] = Counter()
        for context, answers, starts, ends in self._columns(split, "context", "answers", "answer_starts", "answer_ends"):
            kinds["unanswerable"] += not answers
            for key, start, end in zip(text_keys(answers), starts, ends, strict=True):
                literal = text_key(context[max(start, 0) : end]) == key
                kinds["nowhere" if start < 0 else "literal" if literal else "near"] += 1
        return {kind: kinds[kind] for kind in ("literal", "near", "nowhere", "unanswerable")}

    def _columns(self, split: str, *names: str) -> Iterator[tuple]:
        """The values of these columns, row by row."""
        return zip(*(column_values(self.splits[split], name) for name in names), strict=True)

    def fold_splits(self, k: int, seed: int) -> dict[str, DatasetDict]:
        """Cut the stories of train and validation into `k` folds; the test split is not in them.

        Returns:
            fold_0, fold_1, ...: test (the fold), validation (a fifth of the rest, more where stories are few), train.
        """
        pool = concatenate_datasets([self.splits["train"], self.splits["validation"]])
        return cross_validation_splits(pool, _groups(pool), _strata(pool), k, seed, few_groups=True)

    def summary(self) -> str:
        """Counts by split, for `--check_data` and the log."""
        lines = [f"{self.name}: {self.rows_read:,} questions read, {len(self.rejected)} cannot be used. {self.split_protocol}"]
        lines += [f"  {count:,} left out: {reason}" for reason, count in self.left_out.items()]
        heads = ("questions", "stories", "passages", "words", "literal", "near", "nowhere", "unanswerable")
        lines += [f"  {'':10} " + " ".join(f"{h:>9}" for h in heads[:-1]) + f" {heads[-1]}"]
        for split, rows in self.splits.items():
            new = first_rows(column_keys(rows, "passage_id"), is_on_disk(rows)) == np.arange(len(rows), dtype=np.int32)
            words = sum(len(c.split()) for c, first in zip(column_values(rows, "context"), new, strict=True) if first)
            stories, passages = count_different(column_keys(rows, "story_id")), int(new.sum())
            counts = [len(rows), stories, passages, round(words / passages), *self.answer_counts(split).values()]
            lines += [f"  {split:10} " + " ".join(f"{c:9,}" for c in counts[:-1]) + f" {counts[-1]:12,}"]
        names = ", ".join(self.attribute_names) or "none"
        return "\n".join([*lines, "  literal, near, nowhere: how answers stand in their contexts", f"  attributes: {names}"])

    def facts(self) -> dict:
        """What the report says of the data; no text."""
        return self.source_facts({s: len(d) for s, d in self.splits.items()}) | {
            "attributes": self.attribute_names, "answers": {split: self.answer_counts(split) for split in self.splits},
        }  # fmt: skip


def load_passages(
    dataset_name: str = "sample_school",
    *,
    data_dir: str | Path | None = None,
    train_file: str | Path | None = None,
    validation_file: str | Path | None = None,
    test_file: str | Path | None = None,
    columns: PassageColumns | None = None,
    free_answers: bool = False,
    seed: int = 42,
    encoding: str | None = None,
    separator: str | None = None,
    skip_bad_rows: bool = False,
    revision: str | None = None,
    max_train_samples: int | None = None,
    max_eval_samples: int | None = None,
    streaming: bool = False,
) -> PassageDataset:
    """Load questions about texts and split them so that no story and no context stands on two sides.

    Args:
        dataset_name: One of `BUILT_IN`, or a Hub id (with a slash). Ignored with `train_file`.
        data_dir: The folder that holds the public sets; else the environment variable EDU_DATA_DIR.
        train_file: A table of the user's own, see `files.read_table`, or a json file in SQuAD's layout. What is not given of
            validation and test is cut from it, 20 percent each.
        validation_file: Likewise.
        test_file: Likewise.
        columns: The user's column names. A file in SQuAD's layout needs none; `attributes` and `distractors` may name keys of
            its questions.
        free_answers: In the user's own file, or a Hub set, answers may be in their writers' own words.
        seed: Seed of the split.
        encoding: See `files.read_table`.
        separator: See `files.read_table`.
        skip_bad_rows: Leave rows that cannot be used out, and list them, instead of ending the run.
        revision: The revision of a Hub data set.
        max_train_samples: Keep a random part of training.
        max_eval_samples: Keep a random part of validation and of test.
        streaming: Keep the rows of the user's own files on disk, see `arrow_cache`; not of a json file.

    Raises:
        DataError: With file, row and column.
    """
    check_limits(max_train_samples, max_eval_samples)
    columns = columns or PassageColumns()
    if files := own_files(train_file, validation_file, test_file):
        tables = {s: read_file(path, columns, encoding, separator, streaming) for s, path in files.items()}
        parts = {s: read_rows(*t, free=free_answers, skip=skip_bad_rows, streaming=streaming) for s, t in tables.items()}
        data = PassageDataset(DatasetDict(), Path(train_file).name, list(columns.attributes))
        _refuse_leaks(parts, columns)
    elif "/" in dataset_name:
        tables = read_hub(dataset_name, revision)
        parts = {s: read_rows(t, columns, free=free_answers, skip=skip_bad_rows) for s, t in tables.items()}
        data = PassageDataset(DatasetDict(), dataset_name, list(columns.attributes))
    elif dataset_name == "sample_school":
        data, parts = _sample_school()
    elif dataset_name == "fairytaleqa":
        data, parts = _fairytaleqa(find_data_dir(data_dir) / "fairytaleqa")
    elif dataset_name in ("xquad_en", "squad", "squad_v2"):
        data, parts = _squad(find_data_dir(data_dir) / "qa" / dataset_name, dataset_name)
    elif dataset_name in ("mctest", "mctest160", "mctest500"):
        data, parts = _mctest(find_data_dir(data_dir) / "qa" / "mctest", dataset_name)
    elif dataset_name == "sciq":
        data, parts = _sciq(find_data_dir(data_dir) / "qa" / "sciq")
    elif dataset_name == "squad_qg":
        data, parts = _squad_qg(find_data_dir(data_dir) / "qa" / "squad_qg")
    else:
        raise unknown_data_set(dataset_name, BUILT_IN, ", or a Hub id such as user/questions")
    with in_file(next(iter(parts.values())).path):
        _finish(data, parts, seed)
    data.splits = shorten(data.splits, max_train_samples, max_eval_samples, seed)
    for warning in data.warnings:
        logger.warning("%s", warning)
    return data


def read_passages(
    path: str | Path,
    columns: PassageColumns | None = None,
    encoding: str | None = None,
    separator: str | None = None,
    skip_bad_rows: bool = False,
    need_question: bool = True,
    need_answers: bool = False,
) -> tuple[Dataset, list[int], list[tuple[str, int, str]]]:
    """Read questions to answer, or, without `need_question`, texts to ask about, whatever questions stand beside them.

    No column of answers is needed, unless `need_answers`.

    Returns:
        The questions (`schema.PASSAGES`), the file's row number of each, and (file, row, reason) of the rows left out.
    """
    table, columns = read_file(path, columns or PassageColumns(), encoding, separator)
    part = read_rows(table, columns, free=True, skip=skip_bad_rows, need_answers=need_answers, need_question=need_question)
    return part.dataset, part.rows, part.rejected


def add_unanswerable(dataset: Dataset, share: float, seed: int) -> Dataset:
    """Add questions put to another passage of the same story, which does not hold their answer.

    A passage may be asked a question where no answer of it stands, where no span of it comes nearer to one than an F1 of
    `ELSEWHERE_F1`, and where neither text is part of the other (FairytaleQA joins sections). Somebody who reads closely may still
    find some of them answered there in other words: for training, not for a test.

    Args:
        dataset: Questions of one split.
        share: The share of unanswerable questions to reach, those that are there included; below 1. Fewer are added where there
            are no more, each question once at most.
        seed: Seed of the choice.

    Returns:
        The dataset with the made questions behind: question_id is the question's and the passage's, joined by ' @ '.

    Raises:
        DataError: The share is out of range, or nothing says which passages are of one story.
    """
    if not 0 <= share < 1:
        raise DataError("the share of unanswerable questions is not below 1.", found=share, expected="0 to 1, 1 excluded")
    passage, story = (column_keys(dataset, name) for name in ("passage_id", "story_id"))
    answerable = np.flatnonzero(np.fromiter(column_values(dataset, "answerable"), bool))
    wanted = round((share * len(dataset) - (len(dataset) - len(answerable))) / (1 - share))
    if wanted > 0 and np.array_equal(passage, story):
        raise DataError(
            "unanswerable questions are put to another text of their story, and nothing says which texts are of one story.",
            fix="Name the column that says it with --story_column, or leave --unanswerable_share out.",
        )
    first = np.sort(np.unique(passage, return_index=True)[1])  # where each passage stands first, a story's after the other's
    first = first[np.argsort(story[first], kind="stable")]
    stories = story[first]
    rng = np.random.default_rng(seed)
    with RowWriter(PASSAGES, is_on_disk(dataset)) as made:
        for i in rng.permutation(answerable):
            if len(made) >= wanted:
                break
            row, (start, end) = dataset[int(i)], np.searchsorted(stories, [story[i], story[i] + np.uint64(1)])
            for j in rng.permutation(end - start):
                other = dataset[int(first[start + j])]
                text = other["context"]
                if text in row["context"] or row["context"] in text:
                    continue
                spans = [best_span(text, answer) for answer in row["answers"]]
                if all(span is None or span.f1 < ELSEWHERE_F1 for span in spans):
                    nothing = {"answers": [], "answer_starts": [], "answer_ends": [], "answer_f1s": [], "distractors": []}
                    nothing |= {"question_id": f"{row['question_id']} @ {other['passage_id']}", "answerable": False}
                    made.append({**row, **nothing, "passage_id": other["passage_id"], "context": text})
                    break
        if len(made) < wanted:
            logger.warning("%d of %d wanted unanswerable questions could be made", len(made), wanted)
        return concatenate_datasets([dataset, made.dataset()]) if len(made) else dataset


# ---- splits ---------------------------------------------------------------------------------------------------------


def _groups(dataset: Dataset) -> np.ndarray:
    """Rows that may not be parted: one story, one context, or one question with the same answer."""
    contexts = text_keys(column_values(dataset, "context"))
    streaming = is_on_disk(dataset)
    return connected_groups(column_values(dataset, "story_id"), contexts, _pair_keys(dataset), streaming=streaming)


def _pair_keys(dataset: Dataset) -> Iterator[str]:
    """A question together with its answers; '' where it has none, since anybody may ask the same in vain."""
    pairs = zip(column_values(dataset, "question"), column_values(dataset, "answers"), strict=True)
    return ("\n".join(text_keys([q, *sorted(a)])) if q and a else "" for q, a in pairs)


def _strata(dataset: Dataset) -> np.ndarray:
    """What the parts should have alike: the share of unanswerable questions."""
    return np.fromiter(column_values(dataset, "answerable"), bool)


def _finish(data: PassageDataset, parts: dict[str, Part], seed: int) -> None:
    """Report what stands on two sides of given splits, and cut what was not given."""
    given = DatasetDict({s: part.dataset for s, part in parts.items()})
    data.rows_read += sum(part.rows_read for part in parts.values())
    data.rejected += [r for part in parts.values() for r in part.rejected]
    if dropped := sum(part.dropped for part in parts.values()):
        data.warnings.append(f"{dropped} distractors that are the answer or stand twice were left out.")
    data.warnings += _overlaps(given)
    missing = [s for s in ("validation", "test") if s not in given]
    if "train" in given and missing:
        train = given["train"]
        given = cut_missing(given, _groups(train), _strata(train), seed)
        data.split_protocol += f"{' and '.join(missing).capitalize()} cut from the training file, by story, seed {seed}."
    data.splits = DatasetDict({s: given[s] for s in ("train", "validation", "test") if s in given})


def _overlaps(given: DatasetDict) -> list[str]:
    """Sentences on what stands in two splits, as published or as given."""
    if len(given) < 2:
        return []
    counts: Counter[tuple[str, str, str]] = Counter()
    for column in ("story_id", "context"):
        counts.update((column, split, other) for _, split, other, _, _ in find_leaks(given, [column]))
    pairs = {split: keys_of(_pair_keys(rows), is_on_disk(rows)) for split, rows in given.items()}
    counts.update(("pair", split, other) for split, other, _, _ in shared_keys(pairs))
    what = {"story_id": "a story", "context": "a context", "pair": "question and answer"}
    return [f"{n} questions of {o} share {what[column]} with {s}." for (column, s, o), n in counts.items()]


def _refuse_leaks(parts: dict[str, Part], columns: PassageColumns) -> None:
    """Refuse a story, a context or an id that stands in two of the user's files."""
    if len(parts) < 2:
        return
    given = DatasetDict({s: part.dataset for s, part in parts.items()})
    checks = [("question_id", "id", columns.question_id), ("story_id", "story", columns.story)]
    for column, word, name in [*checks, ("context", "context", columns.context)]:
        for _, split, other, row, other_row in find_leaks(given, [column]) if name else []:
            raise DataError(
                f"the {word} stands in row {parts[split].rows[row]} of {parts[split].path.name} ({split}) too.",
                file=parts[other].path, row=parts[other].rows[other_row], column=name,
                expected="no text in two splits, or the test result means nothing", fix="Take it out of one of the files.",
            )  # fmt: skip


# ---- built-in data sets ---------------------------------------------------------------------------------------------


def _first(folder: Path, names: Sequence[str], source: str) -> Path:
    """The first of `names` in `folder`, plain or gzip."""
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    raise DataError(f"there is no {' or '.join(names)} in {folder}.", fix=f"It comes from {source}.")


def _sample_school() -> tuple[PassageDataset, dict[str, Part]]:
    """The embedded default, see sample_school/README.md: texts of a fictional school's course, and questions about them."""
    attributes = ["subject", "ex-or-im"]
    table, columns = read_file(SAMPLE_SCHOOL / "passages.json", PassageColumns(attributes=attributes))
    data = PassageDataset(DatasetDict(), "sample_school (fictional)", attributes, licence="apache-2.0")
    return data, {"train": read_rows(table, columns)}


def _fairytaleqa(folder: Path) -> tuple[PassageDataset, dict[str, Part]]:
    """FairytaleQA (Xu et al. 2022): 10,580 questions of education experts on 278 stories, in the distributed split by story.

    A row: story_name 'brave-tin-soldier', story_section '...', question, answer1, answer2 '' where nobody else answered,
    local-or-sum 'local', attribute 'action', ex-or-im 'explicit', ex-or-im2 ''.
    """
    attributes = ["attribute", "local-or-sum", "ex-or-im"]
    columns = PassageColumns(
        "story_section", "question", ("answer1", "answer2"), story="story_name", attributes=attributes
    )  # fmt: skip
    parts = {
        split: read_rows(read_table(_first(folder, [f"{name}.jsonl"], "uci-soe/FairytaleQAData on GitHub")), columns, free=True)
        for split, name in (("train", "train"), ("validation", "val"), ("test", "test"))
    }
    return PassageDataset(
        DatasetDict(), "fairytaleqa", attributes, split_protocol="The distributed split, by story.",
        licence="apache-2.0 as the repository states it",
    ), parts  # fmt: skip


def _squad(folder: Path, name: str) -> tuple[PassageDataset, dict[str, Part]]:
    """SQuAD's layout: XQuAD's English part (evaluation alone), SQuAD 1.1 and 2.0 (not run on their real files).

    The development set, whose answers alone are public, is the test split here; validation is cut from train, by article.
    """
    if name == "xquad_en":
        files, protocol = {"test": "xquad.en.json"}, "For evaluation alone: 240 paragraphs of SQuAD 1.1's development set."
    else:
        version = {"squad": "v1.1", "squad_v2": "v2.0"}[name]
        files, protocol = {"train": f"train-{version}.json", "test": f"dev-{version}.json"}, "SQuAD's development set as test. "
    paths = {s: _first(folder, [file], "rajpurkar.github.io/SQuAD-explorer, or deepmind/xquad") for s, file in files.items()}
    parts = {s: read_rows(*read_file(path, PassageColumns())) for s, path in paths.items()}
    return PassageDataset(DatasetDict(), name, split_protocol=protocol, licence="cc-by-sa-4.0"), parts


def _mctest(folder: Path, name: str) -> tuple[PassageDataset, dict[str, Part]]:
    """MCTest (Richardson, Burges and Renshaw 2013): 660 stories for children, 4 questions each, 4 options each.

    `mctest160` and `mctest500` are its two sets, `mctest` both together. `sentences` says whether one sentence answers the
    question, or multiple. The crowd workers' ids are dropped.
    """
    sets = {"mctest": ("mc160", "mc500"), "mctest160": ("mc160",), "mctest500": ("mc500",)}[name]
    columns = PassageColumns(question_id="id", story="story_id", attributes=["sentences"], distractors=["distractors"])
    parts = {}
    for split, short in (("train", "train"), ("validation", "dev"), ("test", "test")):
        tables = [read_mctest(_first(folder, [f"{s}.{short}.tsv"], "Microsoft Research's MCTest")) for s in sets]
        read = [read_rows(table, columns, free=True, published=True) for table in tables]
        parts[split] = Part(
            read[0].path, concatenate_datasets([p.dataset for p in read]), [r for p in read for r in p.rows],
            [r for p in read for r in p.rejected], sum(p.rows_read for p in read), sum(p.dropped for p in read),
        )  # fmt: skip
    return PassageDataset(
        DatasetDict(), name, ["sentences"],
        split_protocol="The distributed split, by story; its publishers ask to use test once.",
        licence="Microsoft Research licence: research use, to be passed on with the data",
    ), parts  # fmt: skip


def read_mctest(path: str | Path) -> Table:
    """Read MCTest's mcNNN.SPLIT.tsv (no header, 23 fields) and the answers beside it in mcNNN.SPLIT.ans.

    The fields: id, author, story, then four times question, option A, B, C, D. A question begins with 'one: ' or 'multiple: '.
    Line breaks of the story are written as backslash newline, tabs as backslash tab.

    Raises:
        DataError: A line has another number of fields, an answer is no letter from A to D, or the files differ in length.
    """
    path = Path(path)
    key = path.with_name(path.name.replace(".tsv", ".ans"))
    if not key.is_file():
        raise DataError(f"there is no {key.name} beside {path.name}.", fix="The answers come in a file of their own.")
    lines = [line.rstrip("\r").split("\t") for line in decode(read_bytes(path), path).split("\n") if line.strip()]
    letters = [line.split() for line in decode(read_bytes(key), key).split("\n") if line.strip()]
    if len(lines) != len(letters):
        raise DataError(f"there are {len(letters)} lines of answers.", file=key, expected=f"{len(lines)}, one a story")
    columns: dict[str, list] = {c: [] for c in ("id", "story_id", "context", "question", "answers", "sentences", "distractors")}
    rows = []
    for row, (fields, right) in enumerate(zip(lines, letters, strict=True), start=1):
        if len(fields) != 23:
            raise DataError(f"the row has {len(fields)} fields.", file=path, row=row, expected="23, separated by tabs")
        if len(right) != 4 or set(right) - set("ABCD"):
            raise DataError("not four letters.", file=key, row=row, expected="A, B, C or D for each of four questions")
        story = fields[2].replace("\\newline", "\n").replace("\\tab", "\t")
        for number in range(4):
            asked, *options = fields[3 + 5 * number : 8 + 5 * number]
            sentences, colon, question = asked.partition(":")
            if not colon or sentences.strip() not in ("one", "multiple"):
                raise DataError(f"question {number + 1} begins neither with 'one:' nor with 'multiple:'.", file=path, row=row)
            answer = options.pop("ABCD".index(right[number]))
            values = (f"{fields[0]}/{number + 1}", fields[0], story, question.strip(), answer, sentences.strip(), options)
            for name, value in zip(columns, values, strict=True):
                columns[name].append(value)
            rows.append(row)
    return Table(path, columns, rows)


def _sciq(folder: Path) -> tuple[PassageDataset, dict[str, Part]]:
    """SciQ (Welbl, Liu and Gardner 2017, CC BY-NC 3.0): science questions with three distractors, most with a supporting text.

    Written from the published layout, train.json, valid.json and test.json; not run on the real files. A record: question,
    distractor3, distractor1, distractor2, correct_answer, support '' where there is none: such questions are left out.
    """
    columns = PassageColumns(
        "support", "question", ("correct_answer",), distractors=("distractor1", "distractor2", "distractor3")
    )
    data = PassageDataset(DatasetDict(), "sciq", split_protocol="The distributed split.", licence="cc-by-nc-3.0")
    parts, without = {}, 0
    for split, name in (("train", "train"), ("validation", "valid"), ("test", "test")):
        table = read_table(_first(folder, [f"{name}.json"], "allenai.org/data/sciq"))
        keep = [bool(str(text or "").strip()) for text in table.column("support", "the distribution's column")]
        without += keep.count(False)
        parts[split] = read_rows(table.where(keep), columns, free=True, published=True)
    data.left_out = {"no supporting text": without} if without else {}
    data.rows_read = without
    return data, parts


def _squad_qg(folder: Path) -> tuple[PassageDataset, dict[str, Part]]:
    """SQuAD-QG (Ushio, Alva-Manchego and Camacho-Collados 2022, CC BY-SA 4.0): SQuAD 1.1 cut anew, to learn to ask.

    Written from the published columns, train.jsonl, validation.jsonl and test.jsonl; not run on the real files. A record:
    question, paragraph, answer, sentence, paragraph_answer (the paragraph with the answer between two '<hl>'), ...
    """
    parts = {}
    for split in ("train", "validation", "test"):
        table = read_table(_first(folder, [f"{split}.jsonl"], "lmqg/qg_squad on the Hub"))
        marked = table.column("paragraph_answer", "the distribution's column")
        before = [str(text).partition("<hl>")[0] for text in marked]
        cells = zip(
            table.column("paragraph", "the distribution's column"), before, table.columns.get("answer", before), strict=True
        )
        placed = [p.startswith(b + str(a)) for p, b, a in cells]
        table.columns["answer_start"] = [len(b) if ok else None for b, ok in zip(before, placed, strict=True)]
        parts[split] = read_rows(table, PassageColumns("paragraph", "question", ("answer",), "answer_start"), free=True)
    return PassageDataset(
        DatasetDict(), "squad_qg", split_protocol="The distributed split.", licence="cc-by-sa-4.0"
    ), parts  # fmt: skip
