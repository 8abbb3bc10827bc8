"""Choose what to learn next: from a learner's answers and goals to an order of concepts that heeds prerequisites.

Two models are trained. One tells from the texts of two concepts which comes first. The other, a policy, tells the next concept;
it learns from logs of simulated learners and is judged on others. A table of concepts and one of their prerequisites are enough:

    concept,text
    ratio,comparing two quantities by division

    before,after
    equivalent fractions,ratio

With answers of learners as well (--train_file: learner, concepts, correct) the simulated learners are made of these.

Train on the embedded sample (fictional, a few minutes on a laptop):

    accelerate launch recipes/learning_path.py

Train on your own tables, or on a public data set with a configuration:

    accelerate launch recipes/learning_path.py --concepts_file concepts.csv --prerequisites_file prerequisites.csv \
      --text_column text --train_file answers.csv --output_dir runs/mine
    accelerate launch recipes/learning_path.py --config recipes/configs/learning_path/knowledge_space.yaml

On several GPUs:

    accelerate launch --multi_gpu --num_processes 4 recipes/learning_path.py --dataset_name lecturebank --simulator none

In --output_dir: the policy, prerequisite_model/, edu_recipes.json, metrics.json (beside baselines), predictions.csv (paths of
some judged learners), figures/, README.md (card). recipes/predict.py proposes paths to your own learners.
"""

import logging
from dataclasses import dataclass, field

from datasets import DatasetDict
from peft import TaskType
from transformers import set_seed

from edu_datasets import ConceptColumns, ResponseColumns, load_paths
from trainers.adapters import add_lora
from trainers.arguments import AdapterArguments, DataArguments, ModelArguments, RecipeTrainingArguments
from trainers.best_lr import fit_best_lr
from trainers.checkpoints import find_checkpoint, load_tokenizer
from trainers.cohorts import make_cohorts, which_simulator
from trainers.learning_path import PathTrainer, check_options, new_path_transformer, print_check, publish
from trainers.model_selection import changed, search_hyperparameters
from trainers.parser import RecipeParser, run
from trainers.path_settings import PathSettings, make_logs, stacked
from trainers.prerequisites import PrerequisiteTrainer, new_prerequisite_encoder, part_arguments

DEFAULTS = dict(
    output_dir="runs/learning_path", num_train_epochs=8, learning_rate=2e-3, weight_decay=1e-2,
    per_device_train_batch_size=64, per_device_eval_batch_size=256, logging_steps=50, metric_for_best_model="loss",
)  # fmt: skip
SEARCH_SPACE = {
    "learning_rate": ("float", 5e-4, 5e-3), "weight_decay": ("float", 1e-4, 1e-1), "num_train_epochs": ("int", 4, 16),
}  # fmt: skip


@dataclass
class PathArguments:
    """Options of this recipe alone."""

    _argument_group_name = "learning path"

    concepts_file: str | None = field(default=None, metadata={"help": "table of concepts: concept, and a text if there is one"})
    prerequisites_file: str | None = field(default=None, metadata={"help": "table of pairs: before, after, and a label (1, 0)"})
    concept_column: str = field(default="concept", metadata={"help": "column with the concept, as the other tables name it"})
    text_column: str | None = field(default=None, metadata={"help": "column with its text; its name is read where not given"})
    before_column: str = field(default="before", metadata={"help": "column with the prerequisite"})
    after_column: str = field(default="after", metadata={"help": "column with the concept that needs it"})
    label_column: str | None = field(default=None, metadata={"help": "column with 1 for a prerequisite, 0 for none"})
    break_cycles: bool = field(default=False, metadata={"help": "take out prerequisites that close a circle, by a stated rule"})
    learner_column: str = field(default="learner", metadata={"help": "answers: column that names the learner"})
    correct_column: str = field(default="correct", metadata={"help": "answers: column with 1 or 0 (true or false)"})
    answered_column: str = field(default="concepts", metadata={"help": "answers: column with the concepts, separated by ';'"})
    time_column: str | None = field(default=None, metadata={"help": "answers: column with the time"})
    simulator: str | None = field(
        default=None,
        metadata={"help": "knowledge_space, school_term, tracer (fitted on answers) or none; by the data where not given"},
    )
    split: str = field(default="concepts", metadata={"help": "concepts are held out, or published (lecturebank), or none"})
    negatives: int = field(default=3, metadata={"help": "pairs without a relation that are drawn for each prerequisite"})
    pair_epochs: float = field(default=6, metadata={"help": "epochs of the prerequisite model"})
    pair_learning_rate: float = field(default=1e-4, metadata={"help": "its learning rate; its readout learns ten times as fast"})
    max_length: int = field(default=64, metadata={"help": "tokens of a concept's text at most"})
    steps: int = field(default=20, metadata={"help": "moves of a path"})
    warm_up: int = field(default=20, metadata={"help": "answers of a simulated learner before the first move"})
    train_learners: int = field(default=4000, metadata={"help": "simulated learners whose logs are learnt from"})
    judged_learners: int = field(default=50, metadata={"help": "other learners of each judged cohort"})
    judge_seeds: int = field(default=20, metadata={"help": "cohorts that every policy teaches, in pairs"})
    most_violations: float = field(default=0.02, metadata={"help": "share of moves that may go before what they need"})
    tracer_epochs: float = field(default=8, metadata={"help": "epochs of the tracers that simulate learners"})
    hidden_size: int = field(default=64, metadata={"help": "width of the policy"})
    num_hidden_layers: int = field(default=2, metadata={"help": "layers of the policy"})
    num_attention_heads: int = field(default=4, metadata={"help": "heads of the policy"})


OPTIONS = (PathArguments, DataArguments, ModelArguments, AdapterArguments, RecipeTrainingArguments)


def main(argv: list[str] | None = None) -> dict:
    """Train, evaluate, save. Returns the content of metrics.json; raises on error."""
    # 1. Options: the defaults above < --config files < the command line
    parser = RecipeParser(OPTIONS, description=__doc__)
    parser.set_defaults(**DEFAULTS)
    args, data_args, model_args, adapter_args, training_args = parser.parse(argv)
    check_options(data_args, training_args)

    # 2. Log
    logging.basicConfig(level=logging.INFO if training_args.process_index == 0 else logging.ERROR, format="%(message)s")

    # 3. Data: a graph of concepts; pairs of them, whose concepts stand on one side; answers, whose learners do
    data = load_paths(
        data_args.dataset_name, data_dir=data_args.data_dir, concepts_file=args.concepts_file,
        prerequisites_file=args.prerequisites_file, answers_file=data_args.train_file, break_cycles=args.break_cycles,
        concept_columns=ConceptColumns(
            args.concept_column, args.text_column, args.before_column, args.after_column, args.label_column
        ),
        answer_columns=ResponseColumns(args.learner_column, args.correct_column, args.answered_column, None, args.time_column),
        with_answers=args.simulator == "tracer", split=args.split, negatives=args.negatives, fold=data_args.fold,
        seed=data_args.split_seed, encoding=data_args.file_encoding, separator=data_args.separator,
        skip_bad_rows=data_args.skip_bad_rows, max_learners=data_args.max_train_samples,
        streaming=data_args.streaming,
    )  # fmt: skip
    simulator = which_simulator(args.simulator, data_args.dataset_name, bool(data.answers), bool(data.concepts), bool(data.pairs))
    logging.info("%s", data.summary())
    settings = PathSettings(data.graph.names, data.texts, data.graph.edges.tolist(), steps=args.steps, warm_up=args.warm_up)
    facts = {"options": parser.resolved, **data.facts()}

    # 4. The first model: a pretrained encoder that reads two concepts, with LoRA if asked for
    pair_trainer = pairs = None
    if data.pairs:
        set_seed(training_args.seed)
        checkpoint = find_checkpoint(model_args.model_name_or_path, model_args.model_revision)
        encoder = new_prerequisite_encoder(checkpoint, model_args)
        if adapter_args.use_peft:
            encoder = add_lora(encoder, adapter_args, TaskType.SEQ_CLS, checkpoint.name)
        pair_trainer = PrerequisiteTrainer(
            settings=settings, splits=data.pairs, checkpoint=checkpoint, max_length=args.max_length, model=encoder,
            processing_class=load_tokenizer(checkpoint, model_args.trust_remote_code),
            args=part_arguments(training_args, simulator != "none", args.pair_epochs, args.pair_learning_rate),
        )  # fmt: skip
    if data_args.check_data:
        return print_check(data.summary(), facts["rejected_rows"], pair_trainer)
    if pair_trainer:
        pairs = pair_trainer.fit_and_score(adapter_args.merges())
    if simulator == "none":
        metrics = pair_trainer.save_run(pairs, facts, adapter_args.merges())
        publish(pair_trainer)
        pair_trainer.end()
        return metrics

    if "precision" not in parser.given:
        training_args = changed(training_args, precision="fp32")  # what follows is small: bf16 would slow it down

    # 5. Simulated learners: some to learn from, others to choose the masks on, others to be judged
    cohorts = make_cohorts(
        simulator, settings, data.halves, training_args, train_learners=args.train_learners,
        judged_learners=args.judged_learners, judge_seeds=args.judge_seeds, tracer_epochs=args.tracer_epochs,
    )  # fmt: skip
    logs = DatasetDict({part: make_logs(cohorts[part], args.steps) for part in ("train", "validation")})

    # 6. What the policy sees of a learner: mastery, estimated from the answers
    settings.learn_estimator(fit_best_lr(*stacked(logs["train"]), len(settings.concepts), settings.edges, training_args.seed))

    def make_trainer(splits, training_args, _=None) -> PathTrainer:
        # 7. The second model, from scratch, and its Trainer
        set_seed(training_args.seed)
        model = new_path_transformer(
            settings, hidden_size=args.hidden_size, num_hidden_layers=args.num_hidden_layers,
            num_attention_heads=args.num_attention_heads, dropout=model_args.dropout,
        )  # fmt: skip
        return PathTrainer(
            settings=settings, splits=splits, choosing=cohorts["choosing"], judging=cohorts["judging"],
            most_violations=args.most_violations, model=model, args=training_args,
        )  # fmt: skip

    # 8. Which hyperparameters: a search on the validation logs; then train or resume
    if training_args.hp_search:
        facts["search"] = search_hyperparameters(make_trainer, logs, training_args, SEARCH_SPACE)
    trainer = make_trainer(logs, training_args)
    facts["cost"] = trainer.fit()

    # 9. Judge once, beside the baselines: all teach the same learners
    results = trainer.score_beside_baselines()

    # 10. Save and report; publish where --push_to_hub was given
    metrics = trainer.save_run(results, facts, pairs)
    publish(trainer)
    trainer.end()
    return metrics


if __name__ == "__main__":
    run(main)
