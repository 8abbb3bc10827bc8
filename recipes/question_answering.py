"""Answer questions: find the words of a course text that answer a learner's question, or abstain.

A row of data is a question about a text, in your own names if you say so (--context_column text ...); no answer is an empty cell:

    context,question,answers
    "The ferry leaves at seven in the morning. In winter it does not run on Sundays.",When does the ferry leave?,at seven

Train on the embedded sample (fictional, five minutes on two CPU cores):

    accelerate launch recipes/question_answering.py

Train on your own file, or on a public data set with a configuration:

    accelerate launch recipes/question_answering.py --train_file questions.csv --story_column lesson --output_dir runs/mine
    accelerate launch recipes/question_answering.py --config recipes/configs/question_answering/fairytaleqa_minilm.yaml

On several GPUs:

    accelerate launch --multi_gpu --num_processes 4 recipes/question_answering.py --train_file questions.csv

In --output_dir: the model, edu_recipes.json, metrics.json (beside baselines), predictions.csv, figures/, README.md (card).
"""

import logging
from dataclasses import dataclass, field

from datasets import DatasetDict
from peft import TaskType
from transformers import set_seed

from edu_datasets import PassageColumns, add_unanswerable, halve_validation, load_passages
from trainers.adapters import add_lora
from trainers.answering_settings import AnsweringSettings
from trainers.arguments import AdapterArguments, DataArguments, ModelArguments, RecipeTrainingArguments
from trainers.checkpoints import find_checkpoint, load_reader, load_tokenizer
from trainers.model_selection import cross_validate, search_hyperparameters
from trainers.parser import ConfigurationError, RecipeParser, run
from trainers.question_answering import MADE, QuestionAnsweringTrainer

DEFAULTS = dict(
    output_dir="runs/question_answering", num_train_epochs=15, learning_rate=2e-4, head_learning_rate=1e-3,
    per_device_train_batch_size=8, per_device_eval_batch_size=32, metric_for_best_model="rouge_l",
)  # fmt: skip
SEARCH_SPACE = {
    "learning_rate": ("float", 3e-5, 5e-4), "head_learning_rate": ("float", 3e-4, 3e-3), "num_train_epochs": ("int", 2, 8),
}  # add "model_name_or_path": ("choice", "first/checkpoint", "second/checkpoint") to search over checkpoints  # fmt: skip


@dataclass
class QuestionArguments:
    """Options of this recipe alone."""

    _argument_group_name = "question answering"

    context_column: str = field(default="context", metadata={"help": "column with the text"})
    question_column: str = field(default="question", metadata={"help": "column with the question"})
    answer_column: list[str] = field(
        default_factory=lambda: ["answers"], metadata={"help": "answer; several are references; empty is unanswerable"}
    )
    answer_start_column: str | None = field(default=None, metadata={"help": "column with the character the answer begins at"})
    impossible_column: str | None = field(default=None, metadata={"help": "column that says true where there is no answer"})
    id_column: str | None = field(default=None, metadata={"help": "column with an id of the question, kept in predictions.csv"})
    story_column: str | None = field(default=None, metadata={"help": "story or lesson of the text, which stays in one split"})
    attribute_columns: list[str] = field(default_factory=list, metadata={"help": "kinds of questions, told apart in the card"})
    free_answers: bool = field(default=False, metadata={"help": "answers are in their writers' own words: train on near spans"})
    unanswerable_share: float = field(
        default=0.0, metadata={"help": "share of unanswerable questions to reach by putting some to another text of their story"}
    )
    also_test_on: list[str] = field(default_factory=list, metadata={"help": "other data sets to score the trained model on"})
    max_length: int = field(default=512, metadata={"help": "tokens of a window; longer texts are read in several"})
    doc_stride: int = field(default=128, metadata={"help": "tokens that two windows of a text share"})
    max_question_length: int = field(default=64, metadata={"help": "tokens of a question at most"})
    max_answer_length: int = field(default=30, metadata={"help": "tokens of an answer at most"})
    n_best: int = field(default=20, metadata={"help": "spans of a question that are weighed against each other"})
    choose_by: str = field(
        default="overlap",
        metadata={"help": "overlap takes the span that shares most with all likely ones, score the likeliest",
                  "choices": ["overlap", "score"]},
    )  # fmt: skip


OPTIONS = (QuestionArguments, DataArguments, ModelArguments, AdapterArguments, RecipeTrainingArguments)


def main(argv: list[str] | None = None) -> dict:
    """Train, evaluate, save. Returns the content of metrics.json; raises on error."""
    # 1. Options: the defaults above < --config files < the command line
    parser = RecipeParser(OPTIONS, description=__doc__)
    parser.set_defaults(**DEFAULTS)
    args, data_args, model_args, adapter_args, training_args = parser.parse(argv)

    # 2. Log
    logging.basicConfig(level=logging.INFO if training_args.process_index == 0 else logging.ERROR, format="%(message)s")

    # 3. Data: canonical columns; no story and no text on two sides of a split
    columns = PassageColumns(
        args.context_column, args.question_column, args.answer_column, args.answer_start_column, args.impossible_column,
        args.id_column, args.story_column or data_args.split_by, args.attribute_columns,
    )  # fmt: skip
    data = load_passages(
        data_args.dataset_name, data_dir=data_args.data_dir, revision=data_args.dataset_revision,
        train_file=data_args.train_file, validation_file=data_args.validation_file, test_file=data_args.test_file,
        columns=columns, free_answers=args.free_answers, seed=data_args.split_seed, encoding=data_args.file_encoding,
        separator=data_args.separator, skip_bad_rows=data_args.skip_bad_rows, max_train_samples=data_args.max_train_samples,
        max_eval_samples=data_args.max_eval_samples, streaming=data_args.streaming,
    )  # fmt: skip
    elsewhere = {name: load_passages(name, data_dir=data_args.data_dir).splits["test"] for name in args.also_test_on}
    logging.info("%s", data.summary())
    if "train" not in data.splits:
        raise ConfigurationError(f"{data.name} is for evaluation alone: name it with --also_test_on, and another to train on.")

    # 4. How texts are read; saved with the model
    settings = AnsweringSettings(
        args.max_length, args.doc_stride, args.max_question_length, args.max_answer_length, args.n_best, args.choose_by
    )

    def make_trainer(splits, training_args, model_name=model_args.model_name_or_path) -> QuestionAnsweringTrainer:
        # 5. Seed, tokenizer and model, LoRA
        set_seed(training_args.seed)
        checkpoint = find_checkpoint(model_name, model_args.model_revision)
        tokenizer = load_tokenizer(checkpoint, model_args.trust_remote_code)
        model = load_reader(checkpoint, model_args)
        if adapter_args.use_peft:
            model = add_lora(model, adapter_args, TaskType.QUESTION_ANS, checkpoint.name)

        # 6. One half of validation chooses the checkpoint, the other calibrates; the test questions stay as they are, and
        # those made from them stand apart
        splits = halve_validation(splits, data_args.split_seed)
        if args.unanswerable_share:
            more = {s: add_unanswerable(rows, args.unanswerable_share, data_args.split_seed) for s, rows in splits.items()}
            made = more["test"].select(range(len(splits["test"]), len(more["test"])))
            splits = DatasetDict({**more, "test": splits["test"], MADE: made})

        # 7. Trainer: cuts texts into windows
        return QuestionAnsweringTrainer(
            settings=settings.for_model(model, tokenizer), splits=splits, checkpoint=checkpoint,
            attribute_names=data.attribute_names, workers=data_args.preprocessing_num_workers, model=model, args=training_args,
            processing_class=tokenizer,
        )  # fmt: skip

    if data_args.check_data:
        return make_trainer(data.splits, training_args).check(data.summary(), data.rejected, data.ceiling())

    # 8. Which hyperparameters: a search on validation, cross-validation on train + validation; test is in neither
    selection = {}
    if training_args.hp_search:
        selection["search"] = search_hyperparameters(make_trainer, data.splits, training_args, SEARCH_SPACE, model_args)
    name = model_args.model_name_or_path  # the search may have chosen it
    if training_args.cv_folds:
        folds = data.fold_splits(training_args.cv_folds, data_args.split_seed)
        selection["cross_validation"] = cross_validate(make_trainer, folds, training_args, name)

    # 9. Train or resume
    trainer = make_trainer(data.splits, training_args, name)
    cost = trainer.fit()

    # 10. Evaluate once on test, beside the baselines; then on other data sets, without further training
    results, predictions = trainer.score_beside_baselines()
    results["elsewhere"] = {name: trainer.score(rows)[0] for name, rows in elsewhere.items()}

    # 11. Save and report; publish where --push_to_hub was given
    facts = {"options": parser.resolved, "cost": cost, "ceiling": data.ceiling(), **selection, **data.facts()}
    metrics = trainer.save_run(results, predictions, facts, merge_adapter=adapter_args.merges())
    trainer.publish()
    trainer.end()
    return metrics


if __name__ == "__main__":
    run(main)
