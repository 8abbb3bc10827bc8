"""Run any trained recipe's model on a file: a folder, a Hub id; whole, merged or adapter. Which recipe it was, the model knows.

    python recipes/predict.py --model runs/content_generation --input_file lesson.csv --quiz_format gift --output_file quiz.csv
    python recipes/predict.py --model runs/essay_scoring --input_file new_essays.csv --output_file scores.csv
    python recipes/predict.py --model runs/knowledge_tracing --input_file answers.csv --output_file mastery.csv
    python recipes/predict.py --model runs/learning_path --input_file answers.csv --goal "linear functions" --output_file path.csv
    python recipes/predict.py --model runs/outcome_prediction --input_file this_year.csv --output_file outcomes.csv
    python recipes/predict.py --model runs/qa_tutoring --input_file open_dialogues.jsonl --output_file replies.csv
    python recipes/predict.py --model runs/question_answering --input_file questions.csv --output_file answers.csv
    python recipes/predict.py --model runs/resource_recommendation --input_file topics.csv --languages en --output_file lists.csv

What the file needs and what the output has, each model tells: python recipes/predict.py --model runs/essay_scoring --help

Rows that cannot be used end the run, or with --skip_bad_rows are left out and listed in <output>.rejected.csv.
"""

import importlib
import logging
import pkgutil
import sys
from pathlib import Path

import predictions
from predictions import PredictArguments

from edu_datasets.files import require_file
from trainers import report
from trainers.artifact import load_artifact
from trainers.checkpoints import find_checkpoint
from trainers.parser import ConfigurationError, RecipeParser, options_named, run


def main(argv: list[str] | None = None) -> Path:
    """Predict for a file. Returns the path of the output; raises on error."""
    # 1. Which recipe the model is of: its options and its predictions are in the module of that name
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    words = sys.argv[1:] if argv is None else argv
    named = options_named(words, model=None, model_revision="main")
    if named.model is None:  # prints the help, or says that a model is missing
        RecipeParser((PredictArguments,), description=__doc__).parse(words)
    name = load_artifact(find_checkpoint(named.model, named.model_revision)).task
    if name not in (names := [module.name for module in pkgutil.iter_modules(predictions.__path__)]):
        raise ConfigurationError(f"{named.model} was trained for {name}; expected a model of {', '.join(names)}.")
    task = importlib.import_module(f"predictions.{name}")

    # 2. Options
    args, own = RecipeParser((PredictArguments, task.Arguments), description=task.__doc__).parse(words)
    if not Path(args.output_file).absolute().parent.is_dir():
        raise ConfigurationError(f"--output_file: there is no folder {Path(args.output_file).parent}.")
    require_file(args.input_file)
    if Path(args.output_file).is_dir():
        raise ConfigurationError(f"--output_file: {args.output_file} is a folder; name a file in it.")
    if Path(args.output_file).exists() and Path(args.output_file).samefile(args.input_file):
        raise ConfigurationError("--output_file: that is the input file, which would be lost; name another one.")

    # 3. Predict; list what was left out
    rejected = task.predict(args, own)
    if rejected:
        names, numbers, reasons = zip(*rejected, strict=True)
        listed = Path(args.output_file).with_suffix(".rejected.csv")
        report.write_csv(listed, {"file": names, "row": numbers, "reason": reasons})
    logging.info("%d rows left out; written: %s", len(rejected), Path(args.output_file).name)
    return Path(args.output_file)


if __name__ == "__main__":
    run(main)
