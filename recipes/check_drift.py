"""Check whether a new term's data look like those a model was tested on, without labels; and with labels whether it became worse.

    python recipes/check_drift.py --model runs/essay_scoring --input_file new_term.csv --prompt_column prompt
    python recipes/check_drift.py --model runs/outcome_prediction --input_file this_year.csv
    python recipes/check_drift.py --model runs/knowledge_tracing --input_file answers.csv
    python recipes/check_drift.py --model runs/essay_scoring --input_file graded.csv --score_column score

It compares inputs and predictions, signal by signal, with the counts that training left in the model's folder (reference.json:
no text, no id), or with --reference_file, last term's data. Where nothing has changed a check raises an alarm in --alpha of all
terms at most (0.05: one in twenty), whatever the number of signals and rows. Of each learner one row is taken, where a column
names the learners. A change is not yet a harm: it says which predictions to look at before they are trusted. With people's labels
(--score_column, --target_column; answers of learners always have them) it also tells the drop of the metric, with an interval.

All is printed and written to --output_file as json.
"""

import importlib
import logging
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from new_data import FileArguments, module_of

from edu_datasets.files import require_file
from trainers import drift, report
from trainers.artifact import load_artifact
from trainers.checkpoints import find_checkpoint
from trainers.parser import ConfigurationError, RecipeParser, options_named, run


@dataclass
class DriftArguments:
    """What is checked, and against what."""

    _argument_group_name = "drift"

    model: str = field(metadata={"help": "folder of a trained recipe, or a Hub id"})
    reference_file: str | None = field(
        default=None, metadata={"help": "compare with this file of an earlier term, not with the test split of the training"}
    )
    alpha: float = field(default=0.05, metadata={"help": "how often an unchanged term may raise an alarm"})
    output_file: str = field(default="drift.json", metadata={"help": "where the result is written"})
    seed: int = field(default=0, metadata={"help": "of the draws"})
    model_revision: str = field(default="main", metadata={"help": "branch, tag or commit on the Hub"})
    trust_remote_code: bool = field(default=False, metadata={"help": "run code that the model's repository brings"})

    def __post_init__(self):
        if not 0 < self.alpha < 1:
            raise ConfigurationError(f"--alpha is {self.alpha}; expected a share between 0 and 1.")


def main(argv: list[str] | None = None) -> dict:
    """Check. Returns the content of --output_file; raises on error."""
    # 1. Options; the columns of the file depend on the recipe of the model
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    words = sys.argv[1:] if argv is None else argv
    named = options_named(words, model=None, model_revision="main")
    task = load_artifact(find_checkpoint(named.model, named.model_revision)).task if named.model else "essay_scoring"
    if task not in drift.SIGNALS:
        raise ConfigurationError(f"there is no drift check for models of {task}; there is one for {', '.join(drift.SIGNALS)}.")
    reading = module_of(task, "the drift check")
    args, file, own = RecipeParser((DriftArguments, FileArguments, reading.Arguments), description=__doc__).parse(words)
    if file.input_file is None:
        raise ConfigurationError("name the new data with --input_file.")
    for path in filter(None, (file.input_file, args.reference_file)):
        require_file(path)

    # 2. The model; its reference, or that of a file
    predictor = importlib.import_module(f"trainers.{task}").load(args.model, args.model_revision, args.trust_remote_code)
    settings, kept = predictor.settings, Path(args.model) / drift.FILE_NAME

    def predicted(path: str) -> tuple:
        data = reading.read(path, file, own, predictor)
        return data, {**data.known, **predictor.predict_columns(**data.inputs)}

    reference = drift.read_reference(kept, task) if kept.is_file() or not args.reference_file else {}
    vocabulary = reference.get("vocabulary")  # of the training, whatever is compared with
    if args.reference_file:
        data, columns = predicted(args.reference_file)
        reference = drift.make_reference(task, settings, data.inputs, columns, data.judged, vocabulary, args.seed)

    # 3. The new data beside it
    data, columns = predicted(file.input_file)
    signals = drift.signals_of(task, settings, data.inputs, columns, vocabulary, args.seed)
    changes = drift.compare_signals(reference, signals, seed=args.seed)
    drop = drift.measure_drop(reference, task, columns) if data.judged else None

    # 4. Report
    changed = [c.signal for c in changes if c.corrected <= args.alpha]
    rows = len(next(iter(signals.values())))
    told = "learners" if task == "knowledge_tracing" or any(map(str, columns.get("group_id", ()))) else "rows"
    print(report.as_text(drift.changes_table(changes, args.alpha)))
    print(f"\n{rows:,} {told} compared with {reference['rows']:,}; {data.rejected} rows left out.")
    if changed:
        print(f"ALARM: {len(changed)} of {len(changes)} signals changed: {', '.join(changed)}.")
        print("Look at these rows before you trust their predictions; grade a sample by hand and check again with it.")
    else:
        print(f"No change is shown (an unchanged term raises an alarm in {100 * args.alpha:g}% of checks at most).")
    if drop:
        print(drop.sentence())
    result = {
        "task": task, "alarm": bool(changed), "changed": changed, "alpha": args.alpha, "rows": rows,
        "reference_rows": reference["rows"], "signals": [asdict(c) for c in changes],
        "metric": drop.facts() if drop else None,
    }  # fmt: skip
    report.write_json(args.output_file, result)
    return result


if __name__ == "__main__":
    run(main)
