"""Write questions for a text: fine-tune a language model, write many, check them, keep the best, and make a quiz of them.

A row of data is a question about a text, in your own names if you say so (--context_column lesson --answer_column solution ...):

    text,question,answer,distractors,difficulty
    "The first mill was built in 1342 by ...",Who built the first mill?,monks,"[""farmers"", ""a merchant""]",easy

Train on the embedded sample (fictional; a few minutes on a laptop, then the evaluation):

    accelerate launch recipes/content_generation.py

Train on your own questions, or on a public data set with a configuration:

    accelerate launch recipes/content_generation.py --train_file questions.csv --context_column text --answer_column answer
    accelerate launch recipes/content_generation.py --config recipes/configs/content_generation/fairytaleqa_smollm2.yaml

On several GPUs:

    accelerate launch --multi_gpu --num_processes 4 recipes/content_generation.py --train_file questions.jsonl --use_peft false

In --output_dir: the model, edu_recipes.json, metrics.json (beside baselines), predictions.csv, figures/, README.md (card).
A quiz for a lesson: python recipes/predict.py --model runs/content_generation --input_file lesson.csv --quiz_format gift
"""

import logging
from dataclasses import dataclass, field

from peft import TaskType
from transformers import set_seed

from edu_datasets import PassageColumns, load_passages
from trainers.adapters import add_lora
from trainers.arguments import (
    DEFAULT_LANGUAGE_MODEL,
    AdapterArguments,
    DataArguments,
    ModelArguments,
    RecipeTrainingArguments,
)  # fmt: skip
from trainers.checkpoints import find_checkpoint, load_tokenizer
from trainers.content_generation import ContentGenerationTrainer, EvaluationSize
from trainers.generation_settings import INSTRUCTION, GenerationSettings, known_controls
from trainers.language_models.arguments import LanguageModelArguments
from trainers.language_models.loading import check_adapter, load_language_model
from trainers.model_selection import cross_validate, search_hyperparameters
from trainers.parser import ConfigurationError, RecipeParser, run

DEFAULTS = dict(
    output_dir="runs/content_generation", model_name_or_path=DEFAULT_LANGUAGE_MODEL, use_peft=True, num_train_epochs=1.5,
    learning_rate=1e-3, per_device_train_batch_size=2, max_length=640, max_new_tokens=48, metric_for_best_model="perplexity",
)  # fmt: skip
SEARCH_SPACE = {
    "learning_rate": ("float", 1e-4, 3e-3), "num_train_epochs": ("int", 1, 4), "weight_decay": ("float", 1e-4, 1e-1),
}  # fmt: skip


@dataclass
class GenerationArguments:
    """Options of this recipe alone."""

    _argument_group_name = "content generation"

    context_column: str = field(default="context", metadata={"help": "column with the text"})
    question_column: str = field(default="question", metadata={"help": "column with the question"})
    answer_column: list[str] = field(
        default_factory=lambda: ["answers"], metadata={"help": "column with the answer, in any words; several are references"}
    )
    distractor_columns: list[str] = field(
        default_factory=list, metadata={"help": "columns with wrong answers; a cell may hold a list"}
    )
    attribute_columns: list[str] = field(
        default_factory=list,
        metadata={"help": "what a question can be asked to be: its kind, difficulty, explicit or implicit ..."},
    )
    id_column: str | None = field(default=None, metadata={"help": "column with an id of the question, kept in predictions.csv"})
    story_column: str | None = field(default=None, metadata={"help": "story or lesson of the text, which stays in one split"})
    controls: list[str] | None = field(
        default=None, metadata={"help": "attributes that the model learns to be asked for; all of them where not given"}
    )
    reading_levels: bool = field(
        default=True, metadata={"help": "let questions be asked for that are easy, medium or hard to read"}
    )
    write_answers: bool = field(default=True, metadata={"help": "learn to find answers worth asking for, for texts without any"})
    write_distractors: bool = field(default=True, metadata={"help": "learn wrong answers, where the data has some"})
    share_texts: bool = field(default=True, metadata={"help": "let all requests about one text share it; false repeats it"})
    instruction: str = field(default=INSTRUCTION, metadata={"help": "the system turn"})
    qa_model: str | None = field(
        default=None,
        metadata={"help": "a model of recipes/question_answering.py that tries to answer what is written; else a lexical reader"},
    )
    candidates: int = field(default=5, metadata={"help": "questions written for each that is kept"})
    test_questions: int | None = field(default=None, metadata={"help": "test questions to write; all where not given"})
    ranking_questions: int = field(
        default=60, metadata={"help": "validation questions on which the ranking is fitted; 0 keeps it"}
    )


OPTIONS = (GenerationArguments, DataArguments, ModelArguments, AdapterArguments, LanguageModelArguments, RecipeTrainingArguments)


def main(argv: list[str] | None = None) -> dict:
    """Train, evaluate, save. Returns the content of metrics.json; raises on error."""
    # 1. Options: the defaults above < --config files < the command line
    parser = RecipeParser(OPTIONS, description=__doc__)
    parser.set_defaults(**DEFAULTS)
    args, data_args, model_args, adapter_args, language_args, training_args = parser.parse(argv)

    # 2. Log
    logging.basicConfig(level=logging.INFO if training_args.process_index == 0 else logging.ERROR, format="%(message)s")

    # 3. Data: a question a row; no story and no text on two sides of a split
    columns = PassageColumns(
        args.context_column, args.question_column, args.answer_column, question_id=args.id_column,
        story=args.story_column or data_args.split_by, attributes=args.attribute_columns, distractors=args.distractor_columns,
    )  # fmt: skip
    data = load_passages(
        data_args.dataset_name, data_dir=data_args.data_dir, revision=data_args.dataset_revision,
        train_file=data_args.train_file, validation_file=data_args.validation_file, test_file=data_args.test_file,
        columns=columns, free_answers=True, seed=data_args.split_seed, encoding=data_args.file_encoding,
        separator=data_args.separator, skip_bad_rows=data_args.skip_bad_rows, max_train_samples=data_args.max_train_samples,
        max_eval_samples=data_args.max_eval_samples, streaming=data_args.streaming,
    )  # fmt: skip
    logging.info("%s", data.summary())
    if "train" not in data.splits:
        raise ConfigurationError(f"{data.name} is for evaluation alone: name another data set to train on.")

    def make_trainer(splits, training_args, model_name=model_args.model_name_or_path) -> ContentGenerationTrainer:
        # 4. Seed, tokenizer and model, LoRA
        set_seed(training_args.seed)
        checkpoint = find_checkpoint(model_name, model_args.model_revision)
        check_adapter(checkpoint, adapter_args, language_args.load_in_4bit, training_args.hub_strategy)
        tokenizer = load_tokenizer(checkpoint, model_args.trust_remote_code)
        model = load_language_model(checkpoint, model_args, language_args.load_in_4bit)
        if adapter_args.use_peft:
            kind = TaskType.SEQ_2_SEQ_LM if model.config.is_encoder_decoder else TaskType.CAUSAL_LM
            model = add_lora(model, adapter_args, kind, checkpoint.name)

        # 5. What the model reads and can be asked for; saved with it
        settings = GenerationSettings(
            known_controls(splits["train"], data.attribute_names, args.controls), args.reading_levels,
            instruction=args.instruction, max_length=language_args.max_length, max_new_tokens=language_args.max_new_tokens,
        )  # fmt: skip
        wanted = (args.write_answers, args.write_distractors, language_args.chat_template)
        settings = settings.for_model(model, tokenizer, splits["train"], *wanted)

        # 6. Trainer: lays requests out as tokens, of which it learns what is to be written
        return ContentGenerationTrainer(
            settings=settings, splits=splits, attribute_names=data.attribute_names, share_texts=args.share_texts,
            size=EvaluationSize(args.candidates, args.test_questions, args.ranking_questions), qa_model=args.qa_model,
            checkpoint=checkpoint, model_args=model_args, packing=language_args.packing,
            workers=data_args.preprocessing_num_workers, model=model, args=training_args, processing_class=tokenizer,
        )  # fmt: skip

    if data_args.check_data:
        return make_trainer(data.splits, training_args).check(data.summary(), data.rejected)

    # 7. Which hyperparameters: a search on validation, cross-validation on train + validation; test is in neither
    selection = {}
    if training_args.hp_search:
        selection["search"] = search_hyperparameters(make_trainer, data.splits, training_args, SEARCH_SPACE, model_args)
    name = model_args.model_name_or_path  # the search may have chosen it
    if training_args.cv_folds:
        folds = data.fold_splits(training_args.cv_folds, data_args.split_seed)
        selection["cross_validation"] = cross_validate(make_trainer, folds, training_args, name)

    # 8. Train or resume
    trainer = make_trainer(data.splits, training_args, name)
    cost = trainer.fit()

    # 9. Fit the ranking on validation; write for test once, beside people, the baselines and the base model
    results, predictions = trainer.score_beside_baselines()

    # 10. Save and report; publish where --push_to_hub was given
    facts = {"options": parser.resolved, "cost": cost, **selection, **data.facts()}
    metrics = trainer.save_run(results, predictions, facts, merge_adapter=adapter_args.merges())
    trainer.publish()
    trainer.end()
    return metrics


if __name__ == "__main__":
    run(main)
