"""Predict outcomes: from what is known of a learner on a day, what will become of her or him.

A row of data is a learner (or an enrolment), with what was known on the day of the prediction, in your own names:

    learner,grade,attendance,homework_share,quiz_mean,passed
    L009,8,0.93,0.58,0.61,no

Train on the embedded sample (fictional, a minute on a laptop):

    accelerate launch recipes/outcome_prediction.py

Train on your own file, or on a public data set with a configuration:

    accelerate launch recipes/outcome_prediction.py --train_file records.csv --target_column passed --output_dir runs/mine
    accelerate launch recipes/outcome_prediction.py --config recipes/configs/outcome_prediction/dropout_numeric.yaml --fold 0

On several GPUs:

    accelerate launch --multi_gpu --num_processes 4 recipes/outcome_prediction.py --train_file records.csv --encoding text

In --output_dir: the model, edu_recipes.json, metrics.json (beside baselines), predictions.csv, figures/, README.md (card).
"""

import logging
from dataclasses import dataclass, field, replace

from peft import TaskType
from transformers import set_seed

from edu_datasets import RecordColumns, halve_validation, load_records
from trainers.adapters import add_lora
from trainers.arguments import AdapterArguments, DataArguments, ModelArguments, RecipeTrainingArguments
from trainers.checkpoints import find_checkpoint, load_classifier, load_tokenizer
from trainers.model_selection import changed, cross_validate, fit_best, search_hyperparameters
from trainers.outcome_prediction import OutcomeTrainer, new_record_transformer
from trainers.parser import RecipeParser, run
from trainers.record_settings import ENCODINGS, RecordSettings, bin_edges, encode

DEFAULTS = dict(
    output_dir="runs/outcome_prediction", num_train_epochs=40, learning_rate=1e-3, weight_decay=1e-2,
    per_device_train_batch_size=64, per_device_eval_batch_size=256, dropout=0.2, precision="fp32",
    early_stopping_patience=6, metric_for_best_model="loss",
)  # fmt: skip
FOR_TEXT = dict(
    num_train_epochs=6, learning_rate=5e-5, head_learning_rate=1e-3, per_device_train_batch_size=16, precision="auto"
)  # fmt: skip
SEARCH_SPACE = {
    "learning_rate": ("float", 1e-4, 3e-3), "weight_decay": ("float", 1e-4, 1e-1), "num_train_epochs": ("int", 10, 60),
}  # fmt: skip
SEARCH_SPACE_OF_TEXT = SEARCH_SPACE | {"learning_rate": ("float", 1e-5, 2e-4), "num_train_epochs": ("int", 2, 8)}


@dataclass
class OutcomeArguments:
    """Options of this recipe alone."""

    _argument_group_name = "outcome prediction"

    target_column: str = field(default="target", metadata={"help": "column with the outcome: a number, or a class"})
    task: str | None = field(default=None, metadata={"help": "regression, binary or multiclass; found out where not given"})
    positive_class: str | None = field(
        default=None, metadata={"help": "the class an alert is for; the rarer of two if not given"}
    )
    learner_column: str | None = field(default=None, metadata={"help": "column that names the learner, who stays in one split"})
    id_column: str | None = field(default=None, metadata={"help": "column with an id of the record, kept in predictions.csv"})
    time_column: str | None = field(default=None, metadata={"help": "column with the day a row was known; none after --cutoff"})
    outcome_time_column: str | None = field(
        default=None, metadata={"help": "column with the day of the outcome, for the lead time"}
    )
    category_columns: list[str] = field(default_factory=list, metadata={"help": "columns of numbers that are codes"})
    drop_columns: list[str] = field(default_factory=list, metadata={"help": "columns that are no features"})
    cutoff: str | None = field(default=None, metadata={"help": "day of the prediction, or a stage that the data set names"})
    earlier_grades: bool = field(default=False, metadata={"help": "student_mat: keep the grades of the first two periods"})
    split: str = field(default="forward", metadata={"help": "oulad: train on the earlier year, or random to see the inflation"})
    withdrawn: bool = field(default=False, metadata={"help": "oulad: count learners who leave later as failed, with lead times"})
    encoding: str = field(
        default="numeric",
        metadata={
            "help": "numeric (a small transformer over the columns), text (a pretrained encoder reads the record) or best "
            "(both, the better on validation stays)",
            "choices": ["numeric", "text", "best"],
        },
    )
    class_weights: bool = field(default=False, metadata={"help": "weigh rare classes more; probabilities are calibrated after"})
    alert_share: float = field(default=0.2, metadata={"help": "share of learners that somebody has the time to look after"})
    hidden_size: int = field(default=64, metadata={"help": "numeric: width"})
    num_hidden_layers: int = field(default=2, metadata={"help": "numeric: layers"})
    num_attention_heads: int = field(default=4, metadata={"help": "numeric: heads"})
    num_members: int = field(default=1, metadata={"help": "numeric: transformers that learn side by side and are averaged"})
    max_length: int = field(default=256, metadata={"help": "text: tokens of a record at most"})


OPTIONS = (OutcomeArguments, DataArguments, ModelArguments, AdapterArguments, RecipeTrainingArguments)


def main(argv: list[str] | None = None) -> dict:
    """Train, evaluate, save. Returns the content of metrics.json; raises on error."""
    # 1. Options: the defaults above < --config files < the command line
    parser = RecipeParser(OPTIONS, description=__doc__)
    parser.set_defaults(**DEFAULTS)
    args, data_args, model_args, adapter_args, training_args = parser.parse(argv)

    # 2. Log
    logging.basicConfig(level=logging.INFO if training_args.process_index == 0 else logging.ERROR, format="%(message)s")

    # 3. Data: what was known on the day, one record a row; no learner on two sides of a split
    columns = RecordColumns(
        args.target_column, args.learner_column, args.id_column, args.time_column, args.outcome_time_column,
        data_args.subgroup_columns, args.category_columns, args.drop_columns,
    )  # fmt: skip
    data = load_records(
        data_args.dataset_name, data_dir=data_args.data_dir, revision=data_args.dataset_revision,
        train_file=data_args.train_file, validation_file=data_args.validation_file, test_file=data_args.test_file,
        columns=columns, task=args.task, positive_class=args.positive_class, cutoff=args.cutoff,
        earlier_grades=args.earlier_grades, split=args.split, withdrawn=args.withdrawn,
        split_by=data_args.split_by, fold=data_args.fold,
        seed=data_args.split_seed, encoding=data_args.file_encoding, separator=data_args.separator,
        skip_bad_rows=data_args.skip_bad_rows, max_train_samples=data_args.max_train_samples,
        max_eval_samples=data_args.max_eval_samples, streaming=data_args.streaming,
    )  # fmt: skip
    logging.info("%s", data.summary())
    encodings = ENCODINGS if args.encoding == "best" else [args.encoding]

    def make_trainer(splits, training_args, model_name=model_args.model_name_or_path, encoding=encodings[0]) -> OutcomeTrainer:
        # 4. What the model reads and what its output means; saved with the model
        splits = halve_validation(splits, data_args.split_seed)
        settings = RecordSettings.fit(data, splits["train"], encoding, args.class_weights, args.max_length)

        # 5. Seed and model: a pretrained encoder with its tokenizer and LoRA, or a new one over the columns
        set_seed(training_args.seed)
        checkpoint = tokenizer = None
        if encoding == "text":
            checkpoint = find_checkpoint(model_name, model_args.model_revision)
            tokenizer = load_tokenizer(checkpoint, model_args.trust_remote_code)
            dropout = model_args.dropout if "dropout" in parser.given else 0.0
            model = load_classifier(checkpoint, settings.num_labels(), replace(model_args, dropout=dropout), tokenizer)
            if adapter_args.use_peft:
                model = add_lora(model, adapter_args, TaskType.SEQ_CLS, checkpoint.name)
            still = [k for k in FOR_TEXT if k not in parser.given and getattr(training_args, k) == DEFAULTS.get(k)]
            training_args = changed(training_args, **{k: FOR_TEXT[k] for k in still})  # a search may have set others
        else:
            model = new_record_transformer(
                settings, bin_edges(splits["train"], settings), hidden_size=args.hidden_size,
                num_hidden_layers=args.num_hidden_layers, num_attention_heads=args.num_attention_heads,
                dropout=model_args.dropout, num_members=args.num_members,
            )  # fmt: skip

        # 6. Encode; one half of validation chooses the checkpoint, the other calibrates
        encoded = splits.map(
            encode, batched=True, fn_kwargs={"settings": settings, "tokenizer": tokenizer},
            num_proc=data_args.preprocessing_num_workers,
        )  # fmt: skip

        # 7. Trainer
        return OutcomeTrainer(
            settings=settings, splits=encoded, checkpoint=checkpoint,
            alert_share=args.alert_share, subgroup_columns=data.subgroup_columns, model=model, args=training_args,
            processing_class=tokenizer,
        )  # fmt: skip

    if data_args.check_data:
        return make_trainer(data.splits, training_args).check(data.summary(), data.rejected)

    # 8. Which hyperparameters: a search on validation, cross-validation on train + validation; test is in neither
    selection, name = {}, model_args.model_name_or_path
    if training_args.hp_search:
        space = SEARCH_SPACE_OF_TEXT if encodings[0] == "text" else SEARCH_SPACE
        selection["search"] = search_hyperparameters(make_trainer, data.splits, training_args, space, model_args)
    if training_args.cv_folds:
        folds = data.fold_splits(training_args.cv_folds, data_args.split_seed)
        selection["cross_validation"] = cross_validate(make_trainer, folds, training_args, name)

    # 9. Train or resume; of several encodings the best on validation stays
    trainer, cost, losses = fit_best(make_trainer, data.splits, training_args, encodings)
    selection |= {"encodings": losses} if len(encodings) > 1 else {}

    # 10. Evaluate once on test, beside the baselines
    results, predictions = trainer.score_beside_baselines()

    # 11. Save and report; publish where --push_to_hub was given
    facts = {"options": parser.resolved, "cost": cost, **selection, **data.facts()}
    metrics = trainer.save_run(results, predictions, facts, merge_adapter=adapter_args.merges())
    trainer.publish()
    trainer.end()
    return metrics


if __name__ == "__main__":
    run(main)
