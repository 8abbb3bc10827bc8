"""Questions with their texts, and people's answers where they are known."""

from dataclasses import dataclass, field
from typing import Any

from edu_datasets import PassageColumns, read_passages
from trainers.question_answering import Reader

from . import FileArguments, NewData


@dataclass
class Arguments:
    """The columns of the file."""

    _argument_group_name = "question answering"

    context_column: str = field(default="context", metadata={"help": "column with the text that is asked about"})
    question_column: str = field(default="question", metadata={"help": "column with the question"})
    answers_column: list[str] = field(default_factory=list, metadata={"help": "people's answers, where known"})
    story_column: str | None = field(default=None, metadata={"help": "column that names the story"})


def read(path: str, args: FileArguments, own: Any, reader: Reader) -> NewData:
    """Read a file for a reader.

    Raises:
        DataError: It cannot be read.
    """
    columns = PassageColumns(own.context_column, own.question_column, tuple(own.answers_column), story=own.story_column)
    asked, _, rejected = read_passages(path, columns, args.file_encoding, args.separator, args.skip_bad_rows)
    known = {"question_id": asked["question_id"][:], "story_id": asked["story_id"][:]}
    known |= {"references": asked["answers"][:]} if own.answers_column else {}
    inputs = {"contexts": asked["context"][:], "questions": asked["question"][:]}
    return NewData(inputs, known, bool(own.answers_column), len(rejected))
