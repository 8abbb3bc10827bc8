"""Score essays: fine-tune an encoder on graded essays, one model for all prompts, each on its own scale.

A row of data, in your own names if you say so (--text_column essay --score_column grade ...):

    essay_id,prompt_id,text,score
    E017,phones,"Dear Ms Okafor, our school should not lock the phones away, because ...",5

Train on the embedded sample (fictional, two minutes on a laptop):

    accelerate launch recipes/essay_scoring.py

Train on your own file, or on a public data set with a configuration:

    accelerate launch recipes/essay_scoring.py --train_file essays.csv --prompt_column prompt --output_dir runs/mine
    accelerate launch recipes/essay_scoring.py --config recipes/configs/essay_scoring/asap_minilm.yaml --fold 0

On several GPUs:

    accelerate launch --multi_gpu --num_processes 4 recipes/essay_scoring.py --train_file essays.csv

In --output_dir: the model, edu_recipes.json, metrics.json (beside baselines), predictions.csv, figures/, README.md (card).
"""

import logging
from dataclasses import dataclass, field

from peft import TaskType
from transformers import set_seed

from edu_datasets import EssayColumns, halve_validation, load_essays
from trainers.adapters import add_lora
from trainers.arguments import AdapterArguments, DataArguments, ModelArguments, RecipeTrainingArguments
from trainers.checkpoints import find_checkpoint, load_classifier, load_tokenizer
from trainers.essay_scoring import EssayTrainer
from trainers.essay_settings import EssayCollator, EssaySettings, encode
from trainers.model_selection import cross_validate, learning_curve, search_hyperparameters
from trainers.parser import RecipeParser, run

DEFAULTS = dict(
    output_dir="runs/essay_scoring", num_train_epochs=10, learning_rate=1e-4, head_learning_rate=3e-4,
    metric_for_best_model="quadratic_weighted_kappa",
)  # fmt: skip
SEARCH_SPACE = {
    "learning_rate": ("float", 3e-5, 3e-4), "head_learning_rate": ("float", 1e-4, 1e-3), "num_train_epochs": ("int", 2, 8),
}  # add "model_name_or_path": ("choice", "first/checkpoint", "second/checkpoint") to search over checkpoints  # fmt: skip


@dataclass
class EssayArguments:
    """Options of this recipe alone."""

    _argument_group_name = "essay scoring"

    text_column: str = field(default="text", metadata={"help": "column with the essay"})
    score_column: list[str] = field(default_factory=lambda: ["score"], metadata={"help": "score; several are traits"})
    prompt_column: str | None = field(default=None, metadata={"help": "column that names the prompt; none is one prompt"})
    id_column: str | None = field(default=None, metadata={"help": "column with an id of the essay, kept in predictions.csv"})
    learner_column: str | None = field(default=None, metadata={"help": "column that names the writer, who stays in one split"})
    rater1_column: list[str] = field(default_factory=list, metadata={"help": "first rater's scores, for human-human agreement"})
    rater2_column: list[str] = field(default_factory=list, metadata={"help": "second rater's scores"})
    prompts_file: str | None = field(default=None, metadata={"help": "table: prompt_id, prompt, score_min, score_max"})
    prompt_ids: list[str] = field(default_factory=list, metadata={"help": "keep only these prompts"})
    score_range: list[float] = field(default_factory=list, metadata={"help": "lowest and highest score, if not as seen"})
    score_step: float | None = field(default=None, metadata={"help": "distance of neighbouring scores, if not 1, 0.5 or 0.25"})
    input_template: str | None = field(
        default=None, metadata={"help": "of {text}, {prompt_id}, {prompt}; 'Prompt {prompt_id}: {text}' if not given"}
    )
    max_length: int = field(default=512, metadata={"help": "tokens of an input at most"})
    long_essays: str = field(default="head_tail", metadata={"help": "longer essays keep head_tail or head"})
    loss: str = field(default="mse", metadata={"help": "mse, corn (ordinal) or mse+rank"})
    hybrid: bool = field(default=True, metadata={"help": "fuse the model's score with words and surface features"})
    human_share: float = field(default=0.1, metadata={"help": "share of essays, the least certain, that go to a human"})
    protocol: str = field(
        default="in_domain",
        metadata={
            "help": "cross_prompt: also leave each prompt out in turn, and let the model score new prompts",
            "choices": ["in_domain", "cross_prompt"],
        },
    )
    learning_curve: list[int] = field(
        default_factory=list, metadata={"help": "numbers of graded essays a prompt to train on, for a curve"}
    )
    learning_curve_draws: int = field(default=3, metadata={"help": "random choices of essays for each number"})
    gaming_essays: int = field(default=20, metadata={"help": "test essays a prompt to try attacks on; 0 for none"})


OPTIONS = (EssayArguments, DataArguments, ModelArguments, AdapterArguments, RecipeTrainingArguments)


def main(argv: list[str] | None = None) -> dict:
    """Train, evaluate, save. Returns the content of metrics.json; raises on error."""
    # 1. Options: the defaults above < --config files < the command line
    parser = RecipeParser(OPTIONS, description=__doc__)
    parser.set_defaults(**DEFAULTS)
    args, data_args, model_args, adapter_args, training_args = parser.parse(argv)

    # 2. Log
    logging.basicConfig(level=logging.INFO if training_args.process_index == 0 else logging.ERROR, format="%(message)s")

    # 3. Data: canonical columns; no learner and no text on two sides of a split
    columns = EssayColumns(
        args.text_column, args.score_column, args.prompt_column, args.id_column, args.learner_column,
        args.rater1_column, args.rater2_column, data_args.subgroup_columns,
    )  # fmt: skip
    data = load_essays(
        data_args.dataset_name, data_dir=data_args.data_dir, revision=data_args.dataset_revision,
        train_file=data_args.train_file, validation_file=data_args.validation_file, test_file=data_args.test_file,
        columns=columns, prompts_file=args.prompts_file, prompt_ids=args.prompt_ids, score_range=args.score_range,
        score_step=args.score_step, split_by=data_args.split_by, fold=data_args.fold, seed=data_args.split_seed,
        encoding=data_args.file_encoding, separator=data_args.separator, skip_bad_rows=data_args.skip_bad_rows,
        max_train_samples=data_args.max_train_samples, max_eval_samples=data_args.max_eval_samples,
        streaming=data_args.streaming,
    )  # fmt: skip
    logging.info("%s", data.summary())

    # 4. What the model reads and what its output means; saved with the model
    new_prompts = args.protocol == "cross_prompt"
    settings = EssaySettings(
        args.input_template or ("{text}" if new_prompts else "Prompt {prompt_id}: {text}"), args.max_length, args.long_essays,
        data.score_names, data.score_ranges, data.score_step, data.prompts, args.loss, new_prompts=new_prompts,
    )  # fmt: skip

    def make_trainer(splits, training_args, model_name=model_args.model_name_or_path) -> EssayTrainer:
        # 5. Seed, tokenizer and model, LoRA
        set_seed(training_args.seed)
        checkpoint = find_checkpoint(model_name, model_args.model_revision)
        tokenizer = load_tokenizer(checkpoint, model_args.trust_remote_code)
        model = load_classifier(checkpoint, settings.num_labels(), model_args, tokenizer)
        if adapter_args.use_peft:
            model = add_lora(model, adapter_args, TaskType.SEQ_CLS, checkpoint.name)

        # 6. Encode; one half of validation chooses the checkpoint, the other calibrates
        own = settings.for_model(model, tokenizer)
        splits = halve_validation(splits, data_args.split_seed)
        encoded = splits.map(
            encode, batched=True, fn_kwargs={"tokenizer": tokenizer, "settings": own},
            num_proc=data_args.preprocessing_num_workers,
        )  # fmt: skip

        # 7. Trainer; its metric is the mean over prompts of quadratic weighted kappa
        return EssayTrainer(
            settings=own, splits=encoded, checkpoint=checkpoint, hybrid=args.hybrid, human_share=args.human_share,
            subgroup_columns=data.subgroup_columns, model=model, args=training_args, processing_class=tokenizer,
            data_collator=EssayCollator(tokenizer),
        )  # fmt: skip

    if data_args.check_data:
        return make_trainer(data.splits, training_args).check(data.summary(), data.rejected)

    # 8. Which hyperparameters: a search on validation, cross-validation on train + validation; test is in neither
    selection = {}
    if training_args.hp_search:
        selection["search"] = search_hyperparameters(make_trainer, data.splits, training_args, SEARCH_SPACE, model_args)
    name = model_args.model_name_or_path  # the search may have chosen it
    if training_args.cv_folds:
        folds = data.fold_splits(training_args.cv_folds, data_args.split_seed)
        selection["cross_validation"] = cross_validate(make_trainer, folds, training_args, name)

    # A school's first questions: what of a new prompt without graded essays, and how many essays must be graded?
    if new_prompts:
        selection["cross_prompt"] = cross_validate(make_trainer, data.prompt_splits(), training_args, name)
    if args.learning_curve:
        seeds = range(training_args.seed, training_args.seed + args.learning_curve_draws)
        drawn = {n: [data.graded(n, seed) for seed in seeds] for n in sorted(args.learning_curve)}
        selection["learning_curve"] = learning_curve(
            make_trainer, drawn, training_args, name, training_args.metric_for_best_model
        )

    # 9. Train or resume
    trainer = make_trainer(data.splits, training_args, name)
    cost = trainer.fit()

    # 10. Evaluate once on test, beside the baselines; then try to fool it
    results, predictions = trainer.score_beside_baselines()
    results["gaming"] = trainer.try_to_fool(args.gaming_essays)

    # 11. Save and report; publish where --push_to_hub was given
    facts = {"options": parser.resolved, "cost": cost, **selection, **data.facts()}
    metrics = trainer.save_run(results, predictions, facts, merge_adapter=adapter_args.merges())
    trainer.publish()
    trainer.end()
    return metrics


if __name__ == "__main__":
    run(main)
