"""Recommend resources with a model of recipes/resource_recommendation.py.

For a model of topics the file has a topic a row (--text_column); for a model of histories it is a log of who opened what, when.
The output has a row a place in a list: query, rank, resource, title, score and the reason. What may be shown is filtered by
--languages, --levels, --licences, --kinds; with --prerequisites_file (before, after) and a learner's --mastery_file (as
knowledge tracing writes it) by what the learner is ready for. Learners in --opt_out_file get lists as newcomers do.
--resources_file chooses from another catalogue.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from edu_datasets import DataError, ResourceColumns, read_mastery
from edu_datasets.files import Table, as_text, read_table, require_file
from edu_datasets.resource_tables import (
    read_catalogue,
    read_interactions,
    read_learners,
    read_prerequisite_names,
)
from trainers import report
from trainers.parser import ConfigurationError
from trainers.recommender import Filters
from trainers.resource_recommendation import load

from . import PredictArguments


@dataclass
class Arguments:
    """The columns of the files, what may be shown, and to whom."""

    _argument_group_name = "resource recommendation"

    text_column: str = field(default="text", metadata={"help": "topics: column with the topic; catalogue: with the text"})
    learner_column: str = field(default="learner", metadata={"help": "log: column that names the learner"})
    time_column: str = field(default="time", metadata={"help": "log: column with the time of an opening"})
    k: int = field(default=10, metadata={"help": "length of a list"})
    resource_column: str = field(default="resource", metadata={"help": "log or catalogue: column with the id of a resource"})
    languages: list[str] = field(default_factory=list, metadata={"help": "only resources in these languages"})
    levels: list[str] = field(default_factory=list, metadata={"help": "only resources of these levels"})
    licences: list[str] = field(default_factory=list, metadata={"help": "only resources with these licences"})
    kinds: list[str] = field(default_factory=list, metadata={"help": "only resources of these kinds"})
    prerequisites_file: str | None = field(default=None, metadata={"help": "table with topics: before, after"})
    mastery_file: str | None = field(default=None, metadata={"help": "learner_id, concept, mastery; asks for prerequisites"})
    mastered_from: float = field(default=0.7, metadata={"help": "mastery from which on a topic counts as mastered"})
    opt_out_file: str | None = field(default=None, metadata={"help": "table of learners whose history is not used"})
    resources_file: str | None = field(default=None, metadata={"help": "another catalogue: resource, title, text, level ..."})


def predict(args: PredictArguments, own: Arguments) -> Sequence[tuple]:
    """A row a place in a list; returns the rows that were left out."""
    # 1. The catalogue, and what may be shown of it
    if own.k < 1:
        raise ConfigurationError(f"--k is {own.k}; expected 1 or more.")
    if bool(own.prerequisites_file) != bool(own.mastery_file):
        raise ConfigurationError("--prerequisites_file says what comes before what, --mastery_file who is ready: give both.")
    for path in (own.resources_file, own.prerequisites_file, own.mastery_file, own.opt_out_file):
        if path:
            require_file(path)
    recommender = load(args.model, args.model_revision, args.trust_remote_code)
    columns = ResourceColumns(own.resource_column, own.text_column, learner=own.learner_column, time=own.time_column)
    left_out = []
    if own.resources_file:
        catalogue, left_out = read_catalogue(_read(own.resources_file, args), columns, args.skip_bad_rows)
        recommender = recommender.with_catalogue(catalogue)
    if not recommender.resources:
        raise ConfigurationError("a published model brings no catalogue: name yours with --resources_file.")
    prerequisites = read_prerequisite_names(_read(own.prerequisites_file, args)) if own.prerequisites_file else {}
    filters = Filters(own.languages, own.levels, own.licences, own.kinds, prerequisites)
    filters.check(recommender.resources)
    mastery = None
    if own.mastery_file:
        known = read_mastery(own.mastery_file, args.file_encoding, args.separator)
        mastery = {i: {c for c, (value, _, _) in concepts.items() if value >= own.mastered_from} for i, concepts in known.items()}

    # 2. The queries: a topic a row, or all that a learner opened
    table, rejected = _read(args.input_file, args), []
    if recommender.settings.query == "topic":
        if own.mastery_file or own.opt_out_file:
            raise ConfigurationError("--mastery_file and --opt_out_file are about learners; this model is asked for topics.")
        texts = [as_text(value) for value in table.column(own.text_column, "--text_column")]
        for text, row in zip(texts, table.rows, strict=True):
            if not text:
                raise DataError("the topic has no text.", file=table.path, row=row, column=own.text_column)
        names = table.column(args.id_column, "--id_column") if args.id_column else texts
        queries, mastered = [recommender.query(text) for text in texts], None
    else:
        opened, _, rejected = read_interactions(table, columns, recommender.number_of, args.skip_bad_rows)
        away = read_learners(_read(own.opt_out_file, args), columns) if own.opt_out_file else set()
        histories: dict[str, list[str]] = {}
        for learner, resource, _ in sorted(opened, key=lambda row: row[2]):
            histories.setdefault(learner, []).extend([] if learner in away else [resource])
        names, queries = list(histories), [recommender.query(history=history) for history in histories.values()]
        mastered = None if mastery is None else [mastery.get(name, set()) for name in names]

    # 3. Recommend and write
    lists = recommender.recommend(queries, own.k, filters, mastered)
    places = [(name, rank, place) for name, found in zip(names, lists, strict=True) for rank, place in enumerate(found, start=1)]
    written = {"query": [name for name, _, _ in places], "rank": [rank for _, rank, _ in places]}
    written |= {c: [getattr(place, c) for _, _, place in places] for c in ("resource_id", "title", "score", "reason")}
    report.write_csv(args.output_file, written)
    return [*left_out, *rejected]


def _read(path: str, args: PredictArguments) -> Table:
    """A table of the user's."""
    return read_table(path, args.file_encoding, args.separator)
