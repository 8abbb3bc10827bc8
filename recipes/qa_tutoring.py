"""Tutor in dialogue: fine-tune a language model to write a tutor's next turn, grounded in the exercise, and to say its move.

A row of data is a turn, the turns of a dialogue one below the other, in your own names if you say so (--role_column speaker ...);
a jsonl file with a list of chat messages a line ({"messages": [{"role": "user", "content": ...}, ...]}) does as well:

    dialogue_id,role,text,move
    D007,tutor,"Is 2/5 more or less than 1/2?",question

Train on the embedded sample (fictional; two minutes on a laptop, then the evaluation):

    accelerate launch recipes/qa_tutoring.py

Train on your own dialogues, or on public data sets with a configuration:

    accelerate launch recipes/qa_tutoring.py --train_file dialogues.csv --move_column move --problem_column exercise
    accelerate launch recipes/qa_tutoring.py --config recipes/configs/qa_tutoring/cima_bridge_smollm2.yaml

On several GPUs:

    accelerate launch --multi_gpu --num_processes 4 recipes/qa_tutoring.py --train_file dialogues.jsonl --load_in_4bit

In --output_dir: the model, edu_recipes.json, metrics.json (beside baselines), predictions.csv, figures/, README.md (card).
Talk to it: python recipes/chat.py --model runs/qa_tutoring
"""

import logging
from dataclasses import dataclass, field

from datasets import DatasetDict
from peft import TaskType
from transformers import set_seed

from edu_datasets import DialogueColumns, add_mastery, every_reply, load_dialogues, mastery_in_words, read_mastery
from trainers.adapters import add_lora
from trainers.arguments import (
    DEFAULT_LANGUAGE_MODEL,
    AdapterArguments,
    DataArguments,
    ModelArguments,
    RecipeTrainingArguments,
)  # fmt: skip
from trainers.checkpoints import find_checkpoint, load_tokenizer
from trainers.language_models.arguments import LanguageModelArguments
from trainers.language_models.chat import check_template, stop_tokens, use_chat_template
from trainers.language_models.loading import check_adapter, load_language_model
from trainers.model_selection import cross_validate, search_hyperparameters
from trainers.parser import RecipeParser, run
from trainers.qa_tutoring import EvaluationSize, TutoringTrainer
from trainers.tutoring_settings import INSTRUCTION, PARTS, TutoringSettings

DEFAULTS = dict(
    output_dir="runs/qa_tutoring", model_name_or_path=DEFAULT_LANGUAGE_MODEL, use_peft=True, num_train_epochs=3,
    learning_rate=5e-4, per_device_train_batch_size=4, gradient_accumulation_steps=2, group_lengths=False,
    metric_for_best_model="perplexity",
)  # fmt: skip
SEARCH_SPACE = {
    "learning_rate": ("float", 1e-4, 2e-3), "num_train_epochs": ("int", 1, 4), "weight_decay": ("float", 1e-4, 1e-1),
}  # fmt: skip


@dataclass
class TutoringArguments:
    """Options of this recipe alone."""

    _argument_group_name = "tutoring"

    dialogue_column: str = field(default="dialogue_id", metadata={"help": "column that names the dialogue of a turn"})
    role_column: str = field(default="role", metadata={"help": "column with the speaker: learner or tutor (user, assistant ...)"})
    text_column: str = field(default="text", metadata={"help": "column with the turn"})
    messages_column: str = field(default="messages", metadata={"help": "column with a list of turns, where a row is a dialogue"})
    move_column: str | None = field(default=None, metadata={"help": "column with the tutor's move"})
    problem_id_column: str | None = field(default=None, metadata={"help": "column that names the exercise, kept in one split"})
    problem_column: str | None = field(default=None, metadata={"help": "column with the exercise"})
    solution_column: str | None = field(default=None, metadata={"help": "column with the solution"})
    context_column: str | None = field(default=None, metadata={"help": "column with the course text"})
    profile_column: str | None = field(default=None, metadata={"help": "column with what is known of the learner"})
    learner_column: str | None = field(default=None, metadata={"help": "column that names the learner"})
    mastery_file: str | None = field(default=None, metadata={"help": "mastery.csv of knowledge_tracing, joined by learner"})
    merge_turns: bool = field(default=False, metadata={"help": "make one turn of several in a row of one speaker"})
    overlaps: str | None = field(
        default=None,
        metadata={"help": "what leaves training because a given test split has it too: dialogues, problems, or keep"},
    )
    grounding: list[str] = field(default_factory=lambda: list(PARTS), metadata={"help": "what the tutor is told"})
    instruction: str = field(default=INSTRUCTION, metadata={"help": "the first lines of the system turn"})
    moves: bool = field(default=True, metadata={"help": "let the tutor name its move, and be asked for one"})
    all_replies: bool = field(default=True, metadata={"help": "learn every good reply where people gave several"})
    share_histories: bool = field(default=True, metadata={"help": "let the good replies of a turn share what was said before"})
    test_replies: int | None = field(default=None, metadata={"help": "test turns to reply to; all where not given"})
    asked_moves: int = field(default=40, metadata={"help": "test turns for which each move is asked for; 0 for none"})
    simulated_students: int = field(default=20, metadata={"help": "test turns from which a simulated student is tutored"})


OPTIONS = (TutoringArguments, DataArguments, ModelArguments, AdapterArguments, LanguageModelArguments, RecipeTrainingArguments)


def main(argv: list[str] | None = None) -> dict:
    """Train, evaluate, save. Returns the content of metrics.json; raises on error."""
    # 1. Options: the defaults above < --config files < the command line
    parser = RecipeParser(OPTIONS, description=__doc__)
    parser.set_defaults(**DEFAULTS)
    args, data_args, model_args, adapter_args, language_args, training_args = parser.parse(argv)

    # 2. Log
    logging.basicConfig(level=logging.INFO if training_args.process_index == 0 else logging.ERROR, format="%(message)s")

    # 3. Data: one dialogue a row; no problem on two sides of a split
    columns = DialogueColumns(
        args.dialogue_column, args.role_column, args.text_column, args.messages_column, args.move_column, args.problem_id_column,
        args.problem_column, args.solution_column, args.context_column, args.profile_column, args.learner_column,
    )  # fmt: skip
    data = load_dialogues(
        data_args.dataset_name, data_dir=data_args.data_dir, revision=data_args.dataset_revision,
        train_file=data_args.train_file, validation_file=data_args.validation_file, test_file=data_args.test_file,
        columns=columns, split_by=data_args.split_by, overlaps=args.overlaps, merge_turns=args.merge_turns,
        seed=data_args.split_seed, encoding=data_args.file_encoding, separator=data_args.separator,
        skip_bad_rows=data_args.skip_bad_rows, max_train_samples=data_args.max_train_samples,
        max_eval_samples=data_args.max_eval_samples, streaming=data_args.streaming,
    )  # fmt: skip
    mastery = mastery_in_words(read_mastery(args.mastery_file)) if args.mastery_file else {}
    logging.info("%s", data.summary())

    def make_trainer(splits, training_args, model_name=model_args.model_name_or_path) -> TutoringTrainer:
        # 4. Seed, tokenizer, and what the model reads; saved with it
        set_seed(training_args.seed)
        checkpoint = find_checkpoint(model_name, model_args.model_revision)
        check_adapter(checkpoint, adapter_args, language_args.load_in_4bit, training_args.hub_strategy)
        tokenizer = load_tokenizer(checkpoint, model_args.trust_remote_code)
        use_chat_template(tokenizer, language_args.chat_template)
        settings = TutoringSettings(
            list(filter(None, data.move_counts("train"))) if args.moves else [], args.grounding, args.instruction,
            language_args.max_length, language_args.max_new_tokens, replies_found_by=check_template(tokenizer),
            stop=stop_tokens(tokenizer),
        )  # fmt: skip

        # 5. Model, LoRA
        model = load_language_model(checkpoint, model_args, language_args.load_in_4bit)
        if adapter_args.use_peft:
            model = add_lora(model, adapter_args, TaskType.CAUSAL_LM, checkpoint.name)

        # 6. Trainer: lays dialogues out as tokens, of which it learns the tutor's, and every good reply where there are several
        if args.all_replies:
            splits = DatasetDict({**splits, "train": every_reply(splits["train"])})
        return TutoringTrainer(
            settings=settings, splits=add_mastery(splits, mastery), checkpoint=checkpoint, model_args=model_args,
            size=EvaluationSize(args.test_replies, args.asked_moves, args.simulated_students), share=args.share_histories,
            packing=language_args.packing, workers=data_args.preprocessing_num_workers, model=model, args=training_args,
            processing_class=tokenizer,
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

    # 9. Evaluate once on test, beside people, the baselines and the base model
    results, predictions = trainer.score_beside_baselines()

    # 10. Save and report; publish where --push_to_hub was given
    facts = {"options": parser.resolved, "cost": cost, **selection, **data.facts()}
    metrics = trainer.save_run(results, predictions, facts, merge_adapter=adapter_args.merges())
    trainer.publish()
    trainer.end()
    return metrics


if __name__ == "__main__":
    run(main)
