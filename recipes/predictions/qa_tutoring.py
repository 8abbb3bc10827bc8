"""Reply to learners with a model of recipes/qa_tutoring.py.

The file has dialogues that end with the learner's turn, a turn a row or a list of messages a row. The output has a row a
dialogue: its id, the move and the words of the tutor's next turn, and whether it gives the solution away. --move asks for a
move.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from edu_datasets import DialogueColumns, mastery_in_words, read_dialogues, read_mastery
from trainers import report
from trainers.qa_tutoring import load

from . import PredictArguments


@dataclass
class Arguments:
    """The columns of the file, and what to ask for."""

    _argument_group_name = "tutoring"

    dialogue_column: str = field(default="dialogue_id", metadata={"help": "column that names the dialogue of a turn"})
    role_column: str = field(default="role", metadata={"help": "column with the speaker: learner or tutor (user, assistant ...)"})
    text_column: str = field(default="text", metadata={"help": "column with the turn, where a row is a turn"})
    messages_column: str = field(default="messages", metadata={"help": "column with a list of turns, where a row is a dialogue"})
    problem_column: str | None = field(default=None, metadata={"help": "column with the exercise"})
    solution_column: str | None = field(default=None, metadata={"help": "column with the solution"})
    context_column: str | None = field(default=None, metadata={"help": "column with the course text"})
    profile_column: str | None = field(default=None, metadata={"help": "column with what is known of the learner"})
    learner_column: str = field(default="learner", metadata={"help": "column that names the learner, for --mastery_file"})
    mastery_file: str | None = field(default=None, metadata={"help": "mastery.csv of knowledge_tracing, joined by learner"})
    move: str | None = field(default=None, metadata={"help": "the move to ask the tutor for; its own choice where not given"})


def predict(args: PredictArguments, own: Arguments) -> Sequence[tuple]:
    """A row a dialogue; returns the rows that were left out."""
    columns = DialogueColumns(
        own.dialogue_column, own.role_column, own.text_column, own.messages_column, problem=own.problem_column,
        solution=own.solution_column, context=own.context_column, profile=own.profile_column,
        learner=own.learner_column if own.mastery_file else None,
    )  # fmt: skip
    dialogues, rows, rejected = read_dialogues(
        args.input_file, columns, args.file_encoding, args.separator, args.skip_bad_rows, merge_turns=True
    )
    mastery = mastery_in_words(read_mastery(own.mastery_file)) if own.mastery_file else {}
    tutor = load(args.model, args.model_revision, args.trust_remote_code)
    asked = [row | {"mastery": mastery.get(row["learner_id"], "")} for row in dialogues]
    columns = tutor.predict_columns(asked, [own.move] * len(asked), args.batch_size)
    report.write_csv(args.output_file, {"dialogue_id": dialogues["dialogue_id"], "row": rows, **columns})
    return rejected
