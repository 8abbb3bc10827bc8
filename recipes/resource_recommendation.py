"""Recommend learning resources: what answers a topic, or what a learner opens next; the query is a topic or a history.

A row of data is a resource, in your own names if you say so (--text_column description --licence_column license ...):

    resource,title,text,topics,level,language,licence
    R009,The calculator detective,"A bill was added up wrongly and ...",order of operations,7,en,cc-by-4.0

--topics_column names the topics (separated by ';') that a resource answers; --interactions_file is a log with learner, resource
and time. Train on the embedded sample (fictional, a minute on a laptop):

    accelerate launch recipes/resource_recommendation.py
    accelerate launch recipes/resource_recommendation.py --query history

Train on your own tables, or on a public data set with a configuration:

    accelerate launch recipes/resource_recommendation.py --resources_file library.csv --topics_column topics --output_dir runs/my
    accelerate launch recipes/resource_recommendation.py --config recipes/configs/resource_recommendation/lecturebank_minilm.yaml

On several GPUs, a batch of 512 pairs on each, held in memory 64 texts at a time:

    accelerate launch --multi_gpu --num_processes 4 recipes/resource_recommendation.py --resources_file library.csv \
      --topics_column topics --per_device_train_batch_size 512 --chunk_size 64

In --output_dir: the model (SentenceTransformer loads it), catalogue, metrics.json (beside baselines), lists, figures/, README.md.
"""

import logging
from dataclasses import dataclass, field

from peft import TaskType
from transformers import set_seed

from edu_datasets import ResourceColumns, load_resources
from trainers.adapters import add_lora
from trainers.arguments import AdapterArguments, DataArguments, ModelArguments, RecipeTrainingArguments
from trainers.checkpoints import find_checkpoint, load_encoder, load_tokenizer
from trainers.model_selection import changed, cross_validate, search_hyperparameters
from trainers.next_resource import NextResourceTrainer, new_sequential_recommender
from trainers.parser import ConfigurationError, RecipeParser, run
from trainers.recommendation_settings import RecommendationSettings
from trainers.resource_recommendation import RecommendationTrainer
from trainers.retrieval import RetrievalTrainer
from trainers.text_encoder import embed_texts, pooling_of

DEFAULTS = dict(
    output_dir="runs/resource_recommendation", num_train_epochs=3, learning_rate=3e-5, per_device_train_batch_size=32,
    per_device_eval_batch_size=64, early_stopping_patience=2, metric_for_best_model="ndcg_at_10",
)  # fmt: skip
FOR_HISTORIES = dict(
    num_train_epochs=40, learning_rate=1e-3, weight_decay=0.01, per_device_train_batch_size=64, precision="fp32",
    early_stopping_patience=5,
)  # of the sequential model, which starts from nothing  # fmt: skip
SEARCH_SPACE = {
    "learning_rate": ("float", 5e-6, 2e-4), "num_train_epochs": ("int", 1, 6), "per_device_train_batch_size": ("choice", 16, 64),
}  # add "model_name_or_path": ("choice", "first/checkpoint", "second/checkpoint") to search over checkpoints  # fmt: skip


@dataclass
class RecommendationArguments:
    """Options of this recipe alone."""

    _argument_group_name = "resource recommendation"

    query: str = field(default="topic", metadata={"help": "what resources are asked for", "choices": ["topic", "history"]})
    architecture: str | None = field(
        default=None,
        metadata={"help": "encoder (reads texts) or sequential (reads histories); encoder for topics, sequential for histories"},
    )
    resources_file: str | None = field(default=None, metadata={"help": "table of your resources; replaces dataset_name"})
    interactions_file: str | None = field(default=None, metadata={"help": "log of who opened what, when"})
    topics_file: str | None = field(default=None, metadata={"help": "table that describes the topics (topic, text, parent)"})
    resource_column: str = field(default="resource", metadata={"help": "column with the id of a resource"})
    text_column: str = field(default="text", metadata={"help": "column with its text or description"})
    title_column: str | None = field(default=None, metadata={"help": "column with its title"})
    kind_column: str | None = field(default=None, metadata={"help": "column with its kind (text, video ...)"})
    licence_column: str | None = field(default="licence", metadata={"help": "column with its licence"})
    level_column: str | None = field(default="level", metadata={"help": "column with its level"})
    language_column: str | None = field(default="language", metadata={"help": "column with its language (en, pt-BR)"})
    topics_column: str | None = field(default=None, metadata={"help": "column with the topics it answers, separated by ';'"})
    learner_column: str = field(default="learner", metadata={"help": "log: column that names the learner"})
    time_column: str = field(default="time", metadata={"help": "log: column with the time"})
    topic_column: str = field(default="topic", metadata={"help": "topics: column that names the topic"})
    parent_column: str | None = field(default=None, metadata={"help": "topics: column with the topic above"})
    opt_out_file: str | None = field(default=None, metadata={"help": "table of learners whose history is used for nothing"})
    min_resources: int | None = field(default=None, metadata={"help": "topics with fewer resources are no queries"})
    folds: int = field(default=5, metadata={"help": "the topics are cut into so many folds; --fold is the test"})
    validation_from: str | None = field(default=None, metadata={"help": "time from which on openings are validation"})
    test_from: str | None = field(default=None, metadata={"help": "time from which on openings are test"})
    rolling: bool = field(default=False, metadata={"help": "a query for each opening, with all that came before it"})
    query_template: str = field(default="{text}", metadata={"help": "of {text}, {path}, {language}"})
    resource_template: str = field(default="{title} {text}", metadata={"help": "of {title}, {text}, {kind}, {level}, {language}"})
    max_length: int = field(default=128, metadata={"help": "tokens of a text at most"})
    scale: float = field(default=20.0, metadata={"help": "factor of the cosine in the softmax (1 / temperature)"})
    chunk_size: int = field(default=0, metadata={"help": "texts held in memory at a time (gradient caching); 0 holds all"})
    hard_negatives: int = field(default=0, metadata={"help": "for each pair, from the encoder as it was before the epoch"})
    rerank: int = field(default=0, metadata={"help": "a cross-encoder reads so many of the best with the query; 0 is none"})
    mix: bool = field(default=True, metadata={"help": "take the mean with the weights before training, if better on validation"})
    fuse: bool = field(default=True, metadata={"help": "weigh the model's score with words, or with what was opened lately"})
    history_length: int = field(default=50, metadata={"help": "sequential: resources of a history that are read"})
    hidden_size: int = field(default=64, metadata={"help": "sequential: width"})
    num_hidden_layers: int = field(default=2, metadata={"help": "sequential: layers"})
    num_attention_heads: int = field(default=2, metadata={"help": "sequential: heads"})


OPTIONS = (RecommendationArguments, DataArguments, ModelArguments, AdapterArguments, RecipeTrainingArguments)


def main(argv: list[str] | None = None) -> dict:
    """Train, evaluate, save. Returns the content of metrics.json; raises on error."""
    # 1. Options: the defaults above < --config files < the command line
    parser = RecipeParser(OPTIONS, description=__doc__)
    parser.set_defaults(**DEFAULTS)
    args, data_args, model_args, adapter_args, training_args = parser.parse(argv)

    # 2. Log
    logging.basicConfig(level=logging.INFO if training_args.process_index == 0 else logging.ERROR, format="%(message)s")

    if data_args.train_file or data_args.validation_file or data_args.test_file:
        raise ConfigurationError("your tables go to --resources_file and --interactions_file; they are split here.")

    # 3. Data: the catalogue, topics split by parent, openings by time; nothing of a held-out topic and no later time in training
    columns = ResourceColumns(
        args.resource_column, args.text_column, args.title_column, args.kind_column, args.licence_column, args.level_column,
        args.language_column, args.topics_column, args.learner_column, args.time_column, args.topic_column, args.parent_column,
    )  # fmt: skip
    data = load_resources(
        data_args.dataset_name, data_dir=data_args.data_dir, resources_file=args.resources_file,
        interactions_file=args.interactions_file, topics_file=args.topics_file, opt_out_file=args.opt_out_file, columns=columns,
        min_resources=args.min_resources, fold=data_args.fold, folds=args.folds, validation_from=args.validation_from,
        test_from=args.test_from, seed=data_args.split_seed, encoding=data_args.file_encoding, separator=data_args.separator,
        skip_bad_rows=data_args.skip_bad_rows, max_train_samples=data_args.max_train_samples,
        max_eval_samples=data_args.max_eval_samples, streaming=data_args.streaming,
    )  # fmt: skip
    logging.info("%s", data.summary())
    queries = data.queries(args.query, args.rolling)
    architecture = args.architecture or {"topic": "encoder", "history": "sequential"}[args.query]
    if architecture == "sequential":
        if adapter_args.use_peft or args.rerank:
            raise ConfigurationError("--use_peft and --rerank are for texts: add --architecture encoder.")
        training_args = changed(training_args, **{k: v for k, v in FOR_HISTORIES.items() if k not in parser.given})

    def make_trainer(splits, training_args, model_name=model_args.model_name_or_path) -> RecommendationTrainer:
        # 4. What the model reads; saved with it
        checkpoint = find_checkpoint(model_name, model_args.model_revision)
        settings = RecommendationSettings(
            args.query, architecture, args.query_template, args.resource_template, args.max_length, pooling_of(checkpoint),
            args.scale, args.history_length,
        )  # fmt: skip
        shared = dict(settings=settings, splits=splits, resources=data.resources, opened=data.interactions, fuse=args.fuse)

        # 5. Seed, tokenizer and text encoder
        set_seed(training_args.seed)
        tokenizer, model = load_tokenizer(checkpoint, model_args.trust_remote_code), load_encoder(checkpoint, model_args)

        # 6. Trainer: its metric ranks the full catalogue for the validation queries
        if architecture == "sequential":
            texts = embed_texts(model, tokenizer, settings, [settings.read_resource(row) for row in data.resources])
            model = new_sequential_recommender(
                settings, texts, data.rows(data.interactions["train"]["resource_id"]), hidden_size=args.hidden_size,
                num_hidden_layers=args.num_hidden_layers, num_attention_heads=args.num_attention_heads,
            )  # fmt: skip
            return NextResourceTrainer(**shared, model=model, args=training_args, checkpoint=checkpoint)
        if adapter_args.use_peft:
            model = add_lora(model, adapter_args, TaskType.FEATURE_EXTRACTION, checkpoint.name)
        return RetrievalTrainer(
            **shared, model=model, workers=data_args.preprocessing_num_workers, hard_negatives=args.hard_negatives, mix=args.mix,
            args=training_args, checkpoint=checkpoint, processing_class=tokenizer, chunk_size=args.chunk_size, rerank=args.rerank,
        )  # fmt: skip

    if data_args.check_data:
        return make_trainer(queries, training_args).check(data.summary(), data.rejected)

    # 7. Which hyperparameters: a search on validation, cross-validation over topics of train + validation; test is in neither
    selection, name = {}, model_args.model_name_or_path
    if training_args.hp_search:
        selection["search"] = search_hyperparameters(make_trainer, queries, training_args, SEARCH_SPACE, model_args)
        name = model_args.model_name_or_path
    if training_args.cv_folds and args.query == "history":
        raise ConfigurationError("--cv_folds cuts topics; openings have one order in time: leave it out with --query history.")
    if training_args.cv_folds:
        folds = data.fold_splits(training_args.cv_folds, data_args.split_seed)
        selection["cross_validation"] = cross_validate(make_trainer, folds, training_args, name)

    # 8. Train or resume
    trainer = make_trainer(queries, training_args, name)
    cost = trainer.fit()

    # 9. Evaluate once on test, beside the baselines
    results, predictions = trainer.score_beside_baselines()

    # 10. Save and report; publish where --push_to_hub was given
    facts = {"options": parser.resolved, "cost": cost, **selection, **data.facts()}
    metrics = trainer.save_run(results, predictions, facts, merge_adapter=adapter_args.merges())
    trainer.publish()
    trainer.end()
    return metrics


if __name__ == "__main__":
    run(main)
