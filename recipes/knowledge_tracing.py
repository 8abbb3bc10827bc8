"""Trace knowledge: from a learner's answers so far, how likely the next one is correct, and what is mastered by now.

A row of data is an answer, oldest first, in your own names if you say so (--learner_column student ...); a question with several
concepts is one row, its concepts separated by ';':

    learner,time,question,concepts,correct
    L009,2026-09-01T08:30:00,q17,fractions;word problems,1

Train on the embedded sample (fictional, a minute on a laptop):

    accelerate launch recipes/knowledge_tracing.py

Train on your own log, or on a public data set with a configuration:

    accelerate launch recipes/knowledge_tracing.py --train_file answers.csv --time_column time --output_dir runs/mine
    accelerate launch recipes/knowledge_tracing.py --config recipes/configs/knowledge_tracing/assist2015_lstm.yaml

On several GPUs:

    accelerate launch --multi_gpu --num_processes 4 recipes/knowledge_tracing.py --train_file answers.csv

In --output_dir: the model, edu_recipes.json, metrics.json (beside baselines), predictions.csv, mastery.csv (what each test
learner can do, with intervals; other recipes take it as --mastery_file), mastery.png, figures/, README.md (card).
"""

import logging
from dataclasses import dataclass, field

from transformers import set_seed

from edu_datasets import ResponseColumns, halve_validation, load_responses
from trainers.arguments import DataArguments, RecipeTrainingArguments
from trainers.knowledge_tracing import KnowledgeTracingTrainer, new_tracer
from trainers.model_selection import cross_validate, search_hyperparameters
from trainers.parser import RecipeParser, run
from trainers.tracing_settings import TracingSettings, share_correct

DEFAULTS = dict(
    output_dir="runs/knowledge_tracing", num_train_epochs=20, learning_rate=2e-3, per_device_train_batch_size=32,
    per_device_eval_batch_size=128, precision="fp32", early_stopping_patience=3, metric_for_best_model="roc_auc",
)  # fmt: skip
SEARCH_SPACE = {
    "learning_rate": ("float", 5e-4, 5e-3), "weight_decay": ("float", 1e-4, 1e-1), "num_train_epochs": ("int", 5, 20),
}  # fmt: skip


@dataclass
class TracingArguments:
    """Options of this recipe alone."""

    _argument_group_name = "knowledge tracing"

    learner_column: str = field(default="learner", metadata={"help": "column that names the learner, who stays in one split"})
    correct_column: str = field(default="correct", metadata={"help": "column with 1 or 0 (true or false)"})
    concept_column: str | None = field(default="concepts", metadata={"help": "column with the concepts, separated by ';'"})
    question_column: str | None = field(default=None, metadata={"help": "column that names the question"})
    time_column: str | None = field(default=None, metadata={"help": "column with the time: seconds, or a date with a time"})
    sort_by_time: bool = field(default=False, metadata={"help": "sort a learner's answers by time instead of refusing disorder"})
    architecture: str = field(
        default="lstm", metadata={"help": "lstm (DKT) or attention (with a recency bias)", "choices": ["lstm", "attention"]}
    )
    hidden_size: int = field(default=128, metadata={"help": "width of the model"})
    num_hidden_layers: int = field(default=1, metadata={"help": "layers over the answers"})
    num_attention_heads: int = field(default=4, metadata={"help": "heads of the attention"})
    dropout: float = field(default=0.2, metadata={"help": "dropout of embeddings, layers and readout"})
    num_members: int = field(default=1, metadata={"help": "tracers that learn side by side, whose logits are averaged"})
    window: int = field(default=150, metadata={"help": "answers of a window; longer sequences become several windows"})
    context: int = field(default=50, metadata={"help": "answers before a window that are read along with it"})


OPTIONS = (TracingArguments, DataArguments, RecipeTrainingArguments)


def main(argv: list[str] | None = None) -> dict:
    """Train, evaluate, save. Returns the content of metrics.json; raises on error."""
    # 1. Options: the defaults above < --config files < the command line
    parser = RecipeParser(OPTIONS, description=__doc__)
    parser.set_defaults(**DEFAULTS)
    args, data_args, training_args = parser.parse(argv)

    # 2. Log
    logging.basicConfig(level=logging.INFO if training_args.process_index == 0 else logging.ERROR, format="%(message)s")

    # 3. Data: all answers of one learner a row; no learner on two sides of a split
    data = load_responses(
        data_args.dataset_name, data_dir=data_args.data_dir, train_file=data_args.train_file,
        validation_file=data_args.validation_file, test_file=data_args.test_file,
        columns=ResponseColumns(
            args.learner_column, args.correct_column, args.concept_column, args.question_column, args.time_column
        ),
        sort_by_time=args.sort_by_time, seed=data_args.split_seed, encoding=data_args.file_encoding,
        separator=data_args.separator,
        skip_bad_rows=data_args.skip_bad_rows, max_train_samples=data_args.max_train_samples,
        max_eval_samples=data_args.max_eval_samples, streaming=data_args.streaming,
    )  # fmt: skip
    logging.info("%s", data.summary())

    def make_trainer(splits, training_args, _=None) -> KnowledgeTracingTrainer:
        # 4. What the model reads; saved with it
        splits = halve_validation(splits, data_args.split_seed)
        settings = TracingSettings(
            data.concepts, data.questions, args.window, args.context, data.most_concepts(),
            base_rate=share_correct(splits["train"]),
        )  # fmt: skip

        # 5. Seed and model, from scratch
        set_seed(training_args.seed)
        model = new_tracer(
            settings, architecture=args.architecture, hidden_size=args.hidden_size, num_hidden_layers=args.num_hidden_layers,
            num_attention_heads=args.num_attention_heads, dropout=args.dropout, num_members=args.num_members,
        )  # fmt: skip

        # 6. Trainer: cuts learners into windows; one half of validation chooses the checkpoint, the other calibrates
        return KnowledgeTracingTrainer(
            settings=settings, splits=splits, model=model, args=training_args, num_proc=data_args.preprocessing_num_workers
        )

    if data_args.check_data:
        return make_trainer(data.splits, training_args).check(data.summary(), data.rejected)

    # 7. Which hyperparameters: a search on validation, cross-validation on train + validation; test is in neither
    selection = {}
    if training_args.hp_search:
        selection["search"] = search_hyperparameters(make_trainer, data.splits, training_args, SEARCH_SPACE)
    if training_args.cv_folds:
        folds = data.fold_splits(training_args.cv_folds, data_args.split_seed)
        selection["cross_validation"] = cross_validate(make_trainer, folds, training_args)

    # 8. Train or resume
    trainer = make_trainer(data.splits, training_args)
    cost = trainer.fit()

    # 9. Evaluate once on test, beside the baselines
    results, predictions = trainer.score_beside_baselines()

    # 10. Save and report; publish where --push_to_hub was given
    metrics = trainer.save_run(results, predictions, {"options": parser.resolved, "cost": cost, **selection, **data.facts()})
    trainer.publish()
    trainer.end()
    return metrics


if __name__ == "__main__":
    run(main)
