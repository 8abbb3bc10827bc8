"""Recommend resources with a model of recipes/resource_recommendation.py.

For a model of topics the file has a topic a row (--text_column); for a model of histories it is a log of who opened what, when,
in which a row without a resource asks for a learner who opened nothing. The output has a row a place in a list: query, rank,
resource, title, score and the reason; where nothing may be shown, a row says so. What may be shown is filtered by --languages,
--levels, --licences, --kinds; with --prerequisites_file (before, after) and a learner's --mastery_file (as knowledge tracing
writes it) by what the learner is ready for. Learners in --opt_out_file get lists as newcomers do. --resources_file chooses from
another catalogue.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from edu_datasets import DataError, ResourceColumns, read_mastery
from edu_datasets.files import Table, as_text, check_names, read_table, require_file
from edu_datasets.resource_tables import (
    named_topics,
    opted_out_unknown,
    read_catalogue,
    read_interactions,
    read_learners,
    read_prerequisite_names,
)
from trainers import report
from trainers.parser import ConfigurationError
from trainers.recommendation_settings import fields_of
from trainers.recommender import Filters, Query, Recommender
from trainers.resource_recommendation import load

from . import PredictArguments

NOTHING = "nothing is left that may be shown"
"""The reason of an empty list."""


@dataclass
class Arguments:
    """The columns of the files, what may be shown, and to whom."""

    _argument_group_name = "resource recommendation"

    text_column: str = field(default="text", metadata={"help": "topics: column with the topic; catalogue: with the text"})
    path_column: str | None = field(default=None, metadata={"help": "topics: column with the topics above, separated by ';'"})
    language_column: str | None = field(default=None, metadata={"help": "topics, catalogue: column with the language"})
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
    title_column: str | None = field(default=None, metadata={"help": "catalogue: column with the title; title if there"})
    kind_column: str | None = field(default=None, metadata={"help": "catalogue: column with the kind; kind if there"})
    licence_column: str | None = field(default=None, metadata={"help": "catalogue: column with the licence; licence if there"})
    level_column: str | None = field(default=None, metadata={"help": "catalogue: column with the level; level if there"})
    topics_column: str | None = field(default=None, metadata={"help": "catalogue: column with the topics; topics if there"})


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
    columns = ResourceColumns(
        own.resource_column, own.text_column, own.title_column, own.kind_column, own.licence_column, own.level_column,
        own.language_column, own.topics_column, own.learner_column, own.time_column,
    )  # fmt: skip
    left_out = []
    if own.resources_file:
        catalogue, left_out = read_catalogue(_read(own.resources_file, args), columns, args.skip_bad_rows)
        recommender = recommender.with_catalogue(catalogue)
    if not recommender.resources:
        raise ConfigurationError("a published model brings no catalogue: name yours with --resources_file.")
    prerequisites = read_prerequisite_names(_read(own.prerequisites_file, args)) if own.prerequisites_file else {}
    filters = Filters(own.languages, own.levels, own.licences, own.kinds, prerequisites)
    filters.check([row for row, there in zip(recommender.resources, recommender.on_shelf, strict=True) if there])
    mastery = None
    if own.mastery_file:
        known = read_mastery(own.mastery_file, args.file_encoding, args.separator)
        mastery = {i: {c for c, (value, _, _) in concepts.items() if value >= own.mastered_from} for i, concepts in known.items()}

    # 2. The queries: a topic a row, or all that a learner opened
    table, rejected, mastered = _read(args.input_file, args), [], None
    if recommender.settings.query == "topic":
        if own.mastery_file or own.opt_out_file:
            raise ConfigurationError("--mastery_file and --opt_out_file are about learners; this model is asked for topics.")
        queries = ask_topics(table, own, recommender)
        names = table.column(args.id_column, "--id_column") if args.id_column else [query.text for query in queries]
        for name, row in zip(names, table.rows, strict=True):
            check_names((name,), file=table.path, row=row)
    else:
        if args.id_column:
            raise ConfigurationError("--id_column names topics; a learner's list is named by --learner_column.")
        opened, _, rejected = read_interactions(table, columns, recommender.number_of, args.skip_bad_rows, newcomers=True)
        away = read_learners(_read(own.opt_out_file, args), columns) if own.opt_out_file else set()
        histories: dict[str, list[str]] = {}
        for learner, resource, _ in map(dict.values, sorted(opened, key=lambda row: row["time"])):
            histories.setdefault(learner, []).extend([resource] if resource and learner not in away else [])
        if unknown := away - set(histories):
            logging.warning("%s", opted_out_unknown(len(unknown), len(away)))
        names, queries = list(histories), [recommender.query(history=history) for history in histories.values()]
        mastered = None if mastery is None else [mastery.get(name, set()) for name in names]

    # 3. Recommend and write
    columns = ("resource_id", "title", "score", "reason")
    written = []
    for name, found in zip(names, recommender.recommend(queries, own.k, filters, mastered), strict=True):
        written += [(name, rank, *(getattr(place, c) for c in columns)) for rank, place in enumerate(found, start=1)]
        if not found:  # a row in is a row out
            written.append((name, 0, "", "", "", NOTHING))
    report.write_csv(args.output_file, dict(zip(("query", "rank", *columns), zip(*written, strict=True), strict=True)))
    return [*left_out, *rejected]


def ask_topics(table: Table, own: Arguments, recommender: Recommender) -> list[Query]:
    """A query a row, with all that the model was trained to read of a topic.

    Raises:
        ConfigurationError: The model reads the topics above or the language, and no column of them is named.
        DataError: A column is not there, or a topic has no text.
    """
    reads = fields_of(recommender.settings.query_template)
    for name, column in (("path", own.path_column), ("language", own.language_column)):
        if name in reads and not column:
            raise ConfigurationError(f"this model reads the {name} of a topic: name its column with --{name}_column.")
    texts = [as_text(value) for value in table.column(own.text_column, "--text_column")]
    for text, row in zip(texts, table.rows, strict=True):
        if not text:
            raise DataError("the topic has no text.", file=table.path, row=row, column=own.text_column)
    nothing = [""] * len(texts)
    paths = table.column(own.path_column, "--path_column") if "path" in reads else nothing
    languages = table.column(own.language_column, "--language_column") if "language" in reads else nothing
    return [
        recommender.query(text, named_topics(path), as_text(language))
        for text, path, language in zip(texts, paths, languages, strict=True)
    ]


def _read(path: str, args: PredictArguments) -> Table:
    """A table of the user's."""
    return read_table(path, args.file_encoding, args.separator)
