"""Run any trained recipe's model on a file: a folder, a Hub id; whole, merged or adapter. Which recipe it was, the model knows.

    python recipes/predict.py --model runs/essay_scoring --input_file new_essays.csv --output_file scores.csv
    python recipes/predict.py --model runs/knowledge_tracing --input_file answers.csv --output_file mastery.csv
    python recipes/predict.py --model runs/outcome_prediction --input_file this_year.csv --output_file outcomes.csv
    python recipes/predict.py --model runs/qa_tutoring --input_file open_dialogues.jsonl --output_file replies.csv
    python recipes/predict.py --model runs/question_answering --input_file questions.csv --output_file answers.csv

Essay scoring: the file needs a column with the text (--text_column), and one with the prompt (--prompt_column) where the model
knows several. The output has one row an essay: its id or row number, its prompt, the rounded score and the unrounded one, the
lowest and highest score of its 90% interval, and whether a human should read it (send_to_human, reason). --explain also writes
scores.html: the essays, each sentence coloured by what it did to the score, and how near the next score is. An empty essay gets
the lowest score and goes to a human. A model trained with --protocol cross_prompt also takes new prompts: name them with their
range in --prompts_file.

Knowledge tracing: the file is a log with an answer a row (--learner_column, --concept_column, --correct_column ...). The output
has a row a learner and concept: the probability of a correct answer now, its 90% interval, and how many answers were seen;
mastery.png beside it is the same as a heat map.

Outcome prediction: the file has the columns the model was trained on, without the outcome. The output has a row a record: what is
predicted, the probability of each class, and whether that is an alert; --explain adds what each group of features did to it.

Question answering: the file has a column with the text (--context_column) and one with the question (--question_column). The
output has a row a question: the answer, where it stands in the text (answer_start, answer_end, in characters from 0 on), how
likely it is right, and whether the model abstained. --explain also writes a page (.html) with the answers marked in the texts.

Tutoring: the file has dialogues that end with the learner's turn, a turn a row or a list of messages a row. The output has a row
a dialogue: its id, the move and the words of the tutor's next turn, and whether it gives the solution away. --move asks for a
move.

Rows that cannot be used end the run, or with --skip_bad_rows are left out and listed in <output>.rejected.csv.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edu_datasets import (
    DataError,
    DialogueColumns,
    EssayColumns,
    PassageColumns,
    RecordColumns,
    ResponseColumns,
    read_dialogues,
    read_mastery,
    read_passages,
)
from edu_datasets.essays import read_essays, read_prompts
from edu_datasets.files import require_file
from edu_datasets.records import read_records
from edu_datasets.responses import number_answers, read_log
from trainers import (
    answering_report,
    essay_report,
    essay_scoring,
    knowledge_tracing,
    outcome_prediction,
    qa_tutoring,
    question_answering,
    report,
    tracing_report,
)
from trainers.artifact import load_artifact
from trainers.checkpoints import find_checkpoint
from trainers.parser import ConfigurationError, RecipeParser, run


@dataclass
class PredictArguments:
    """What to predict, with which model."""

    _argument_group_name = "prediction"

    model: str = field(metadata={"help": "folder of a trained recipe, or a Hub id"})
    input_file: str = field(metadata={"help": "csv, tsv, json, jsonl or parquet, .gz too"})
    output_file: str = field(default="predictions.csv", metadata={"help": "where the predictions are written"})
    file_encoding: str | None = field(default=None, metadata={"help": "encoding of the file; found out where not given"})
    separator: str | None = field(default=None, metadata={"help": "separator of a csv; found out where not given"})
    id_column: str | None = field(default=None, metadata={"help": "column with an id, copied to the output"})
    explain: bool = field(default=False, metadata={"help": "tell what moved each prediction, or mark answers in the texts"})
    skip_bad_rows: bool = field(default=False, metadata={"help": "leave rows that cannot be used out and list them"})
    batch_size: int = field(default=32, metadata={"help": "rows a step"})
    model_revision: str = field(default="main", metadata={"help": "branch, tag or commit on the Hub"})
    trust_remote_code: bool = field(default=False, metadata={"help": "run code that the model's repository brings"})


@dataclass
class EssayArguments:
    """For a model of essay_scoring."""

    _argument_group_name = "essay scoring"

    text_column: str = field(default="text", metadata={"help": "column with the essay"})
    prompt_column: str | None = field(default=None, metadata={"help": "column that names the prompt"})
    prompts_file: str | None = field(
        default=None, metadata={"help": "table of new prompts: prompt_id, prompt, score_min, score_max"}
    )


@dataclass
class TracingArguments:
    """For a model of knowledge_tracing."""

    _argument_group_name = "knowledge tracing"

    learner_column: str = field(default="learner", metadata={"help": "column that names the learner"})
    correct_column: str = field(default="correct", metadata={"help": "column with 1 or 0 (true or false)"})
    concept_column: str | None = field(default="concepts", metadata={"help": "column with the concepts, separated by ';'"})
    question_column: str | None = field(default=None, metadata={"help": "column that names the question, or holds it"})
    time_column: str | None = field(default=None, metadata={"help": "column with the time: seconds, or a date with a time"})
    sort_by_time: bool = field(default=False, metadata={"help": "sort a learner's answers by time instead of refusing disorder"})


@dataclass
class AnsweringArguments:
    """For a model of question_answering; its columns are called question and context where not given."""

    _argument_group_name = "question answering"

    context_column: str | None = field(
        default=None, metadata={"help": "column with the text that is asked about, or of the course text of a dialogue"}
    )


@dataclass
class TutoringArguments:
    """For a model of qa_tutoring."""

    _argument_group_name = "tutoring"

    dialogue_column: str = field(default="dialogue_id", metadata={"help": "column that names the dialogue of a turn"})
    role_column: str = field(default="role", metadata={"help": "column with the speaker: learner or tutor (user, assistant ...)"})
    turn_column: str = field(default="text", metadata={"help": "column with the turn, where a row is a turn"})
    messages_column: str = field(default="messages", metadata={"help": "column with a list of turns, where a row is a dialogue"})
    problem_column: str | None = field(default=None, metadata={"help": "column with the exercise"})
    solution_column: str | None = field(default=None, metadata={"help": "column with the solution"})
    profile_column: str | None = field(default=None, metadata={"help": "column with what is known of the learner"})
    mastery_file: str | None = field(default=None, metadata={"help": "mastery.csv of knowledge_tracing, joined by learner"})
    move: str | None = field(default=None, metadata={"help": "the move to ask the tutor for; its own choice where not given"})


def main(argv: list[str] | None = None) -> Path:
    """Predict for a file. Returns the path of the output; raises on error."""
    options = (PredictArguments, EssayArguments, TracingArguments, AnsweringArguments, TutoringArguments)
    args, essay_args, tracing_args, answering_args, tutoring_args = RecipeParser(options, description=__doc__).parse(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not Path(args.output_file).absolute().parent.is_dir():
        raise ConfigurationError(f"--output_file: there is no folder {Path(args.output_file).parent}.")
    require_file(args.input_file)
    task = load_artifact(find_checkpoint(args.model, args.model_revision)).task
    if task == "essay_scoring":
        rejected = score_essays(args, essay_args)
    elif task == "knowledge_tracing":
        rejected = trace_answers(args, tracing_args)
    elif task == "question_answering":
        asked = answering_args.context_column or "context", tracing_args.question_column or "question"
        rejected = answer_questions(args, *asked)
    elif task == "qa_tutoring":
        learner_column = tracing_args.learner_column if tutoring_args.mastery_file else None
        rejected = reply_to_learners(args, tutoring_args, answering_args.context_column, learner_column)
    else:
        rejected = predict_outcomes(args)
    if rejected:
        names, numbers, reasons = zip(*rejected, strict=True)
        listed = Path(args.output_file).with_suffix(".rejected.csv")
        report.write_csv(listed, {"file": names, "row": numbers, "reason": reasons})
    logging.info("%d rows left out; written: %s", len(rejected), Path(args.output_file).name)
    return Path(args.output_file)


def score_essays(args: PredictArguments, own: EssayArguments) -> Sequence[tuple]:
    """A row an essay; returns the rows that were left out."""
    # 1. Read and check all rows before anything is computed
    columns = EssayColumns(own.text_column, (), own.prompt_column, args.id_column)
    essays, rows, rejected = read_essays(args.input_file, columns, args.file_encoding, args.separator, args.skip_bad_rows)

    # 2. Load the model and check that it knows every prompt
    scorer = essay_scoring.load(args.model, args.model_revision, args.trust_remote_code)
    if own.prompts_file:
        wordings, ranges = read_prompts(own.prompts_file)
        for prompt in set(ranges) - set(scorer.settings.prompt_ids):
            scorer.add_prompt(prompt, *ranges[prompt], wordings[prompt])
    known = scorer.settings.prompt_ids
    prompts = list(essays["prompt_id"]) if own.prompt_column else known * len(rows)
    if not own.prompt_column and len(known) > 1:
        raise ConfigurationError(f"the model knows the prompts {', '.join(known)}: name the column with --prompt_column.")
    for row, prompt in zip(rows, prompts, strict=True):
        if prompt not in known:
            raise DataError(
                "the model was not trained on this prompt.", file=args.input_file, row=row, column=own.prompt_column,
                found=prompt, expected=f"one of {', '.join(known)}",
            )  # fmt: skip

    # 3. Score and write
    columns = scorer.predict_columns(essays["text"], prompts, args.batch_size)
    ids = essays["essay_id"] if args.id_column else rows
    report.write_csv(args.output_file, {"essay_id": ids, "prompt_id": prompts, **columns})
    if args.explain:
        explanations = [scorer.explain(text, prompt) for text, prompt in zip(essays["text"], prompts, strict=True)]
        page = Path(args.output_file).with_suffix(".html")
        essay_report.write_explanations(page, ids, explanations, columns, scorer.settings)
    return rejected


def trace_answers(args: PredictArguments, own: TracingArguments) -> Sequence[tuple]:
    """A row a learner and concept; returns the rows that were left out."""
    columns = ResponseColumns(own.learner_column, own.correct_column, own.concept_column, own.question_column, own.time_column)
    log = read_log(args.input_file, columns, args.file_encoding, args.separator, own.sort_by_time, args.skip_bad_rows)
    tracer = knowledge_tracing.load(args.model, args.model_revision, args.trust_remote_code)
    mastery = tracer.mastery(number_answers(log, tracer.settings.concepts, tracer.settings.questions))
    report.write_csv(args.output_file, mastery)
    tracing_report.draw_mastery(Path(args.output_file).with_suffix(".png"), mastery, tracer.settings.concepts)
    return log.rejected


def answer_questions(args: PredictArguments, context_column: str, question_column: str) -> Sequence[tuple]:
    """A row a question; returns the rows that were left out."""
    columns = PassageColumns(context_column, question_column, answers=(), question_id=args.id_column)
    asked, rows, rejected = read_passages(args.input_file, columns, args.file_encoding, args.separator, args.skip_bad_rows)
    reader = question_answering.load(args.model, args.model_revision, args.trust_remote_code)
    contexts, questions = asked["context"][:], asked["question"][:]
    answers = reader.predict_columns(contexts, questions, args.batch_size)
    ids = asked["question_id"][:] if args.id_column else rows
    report.write_csv(args.output_file, {"question_id": ids, **answers})
    if args.explain:
        page = Path(args.output_file).with_suffix(".html")
        answering_report.write_marked_texts(page, ids, questions, contexts, answers)
    return rejected


def predict_outcomes(args: PredictArguments) -> Sequence[tuple]:
    """A row a record; returns the rows that were left out."""
    predictor = outcome_prediction.load(args.model, args.model_revision, args.trust_remote_code)
    settings, columns = predictor.settings, RecordColumns(record_id=args.id_column)
    features = settings.number_columns, settings.category_columns
    records, rows, rejected = read_records(
        args.input_file, *features, columns, args.file_encoding, args.separator, args.skip_bad_rows
    )
    numbers, categories = records["numbers"][:], records["categories"][:]
    written = {"record_id": records["record_id"][:] if args.id_column else rows, **predictor.predict_columns(numbers, categories)}
    if args.explain:
        effects = predictor.explain(numbers, categories)
        written |= {f"effect_{group}": effects.effects[:, i].round(4) for i, group in enumerate(effects.groups)}
    report.write_csv(args.output_file, written)
    return rejected


def reply_to_learners(
    args: PredictArguments, own: TutoringArguments, context_column: str | None, learner_column: str | None
) -> Sequence[tuple]:
    """A row a dialogue; returns the rows that were left out."""
    columns = DialogueColumns(
        own.dialogue_column, own.role_column, own.turn_column, own.messages_column, problem=own.problem_column,
        solution=own.solution_column, context=context_column, profile=own.profile_column, learner=learner_column,
    )  # fmt: skip
    dialogues, rows, rejected = read_dialogues(
        args.input_file, columns, args.file_encoding, args.separator, args.skip_bad_rows, merge_turns=True
    )
    mastery = read_mastery(own.mastery_file) if own.mastery_file else {}
    tutor = qa_tutoring.load(args.model, args.model_revision, args.trust_remote_code)
    asked = [row | {"mastery": mastery.get(row["learner_id"], "")} for row in dialogues]
    columns = tutor.predict_columns(asked, [own.move] * len(asked), args.batch_size)
    report.write_csv(args.output_file, {"dialogue_id": dialogues["dialogue_id"], "row": rows, **columns})
    return rejected


if __name__ == "__main__":
    run(main)
