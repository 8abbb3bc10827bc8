"""Export a trained model as an ONNX file, which onnxruntime runs on a CPU in torch's place; with --int8 at a quarter of the size.

    pip install 'edu-recipes[onnx]'
    python recipes/export_onnx.py --model runs/essay_scoring --output_dir runs/essay_onnx
    python recipes/export_onnx.py --model runs/essay_scoring --int8 --output_dir runs/essay_int8 --input_file graded.csv \\
        --score_column score
    python recipes/predict.py --model runs/essay_int8 --input_file new_essays.csv

It is for models of essay_scoring, question_answering, resource_recommendation (the encoder), outcome_prediction and
knowledge_tracing; language models are not exported. The file takes any number of rows of any length, and is refused where its
outputs are not those of the torch model within 1e-4. --int8 changes predictions a little: by how much is printed, on texts of our
own or on --input_file, and with people's scores (--score_column and the like, see --help with --model) also what it costs in the
recipe's metrics, with an interval. All is written to onnx.json.
"""

import importlib
import logging
import sys
from dataclasses import dataclass, field
from pathlib import Path

from new_data import FileArguments, module_of

from trainers import onnx_model, report
from trainers.artifact import load_artifact
from trainers.checkpoints import find_checkpoint
from trainers.comparison import compare_runs
from trainers.parser import ConfigurationError, RecipeParser, options_named, run


@dataclass
class ExportArguments:
    """What to export, and where to."""

    _argument_group_name = "export"

    model: str = field(metadata={"help": "folder of a trained recipe"})
    output_dir: str = field(metadata={"help": "a new folder"})
    int8: bool = field(default=False, metadata={"help": "hold the weights as int8 (dynamic quantisation, a scale a channel)"})
    reduce_range: bool = field(
        default=False, metadata={"help": "7 bits a weight: for x86 processors without VNNI, whose int8 products overflow"}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "run code that the model's folder brings"})


def main(argv: list[str] | None = None) -> dict:
    """Export. Returns the content of onnx.json; raises on error."""
    # 1. Options; those of the file depend on the recipe of the model
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    words = sys.argv[1:] if argv is None else argv
    named = options_named(words, model=None, input_file=None)
    task = load_artifact(find_checkpoint(named.model)).task if named.model else None
    reading = [module_of(task, "--input_file: measuring the export")] if named.input_file and task else []
    args, file, *own = RecipeParser(
        (ExportArguments, FileArguments, *(m.Arguments for m in reading)), description=__doc__
    ).parse(words)  # fmt: skip
    source, target = Path(args.model), Path(args.output_dir)
    if not source.is_dir():
        raise ConfigurationError(f"--model: there is no folder {source}; download a model of the Hub first, by hf download.")
    if target.exists() and any(target.iterdir()):
        raise ConfigurationError(f"--output_dir: {target} is not empty.")

    # 2. Load, and read the file that the export is measured on
    module = importlib.import_module(f"trainers.{task}")
    predictor = module.load(args.model, trust_remote_code=args.trust_remote_code)
    graph = onnx_model.graph_of(task, predictor)
    data = reading[0].read(file.input_file, file, own[0], predictor) if reading else None
    inputs = data.inputs if data else module.probe(predictor)

    # 3. Export and compare; then quantise
    target.mkdir(parents=True, exist_ok=True)
    before = predictor.predict_columns(**inputs)
    path = target / onnx_model.FILE_NAME
    facts = {"task": task, "precision": "int8" if args.int8 else "fp32", "rows_compared": len(next(iter(before.values())))}
    facts |= {"fp32_difference": onnx_model.export_model(graph, path), "fp32_mib": round(path.stat().st_size / 2**20, 1)}
    if args.int8:
        onnx_model.quantize(path, args.reduce_range)
        difference = onnx_model.largest_difference(graph, path)
        facts |= {"int8_difference": difference, "int8_mib": round(path.stat().st_size / 2**20, 1)}
    onnx_model.copy_beside(source, target)
    predictor.model.config.save_pretrained(target)
    if task == "resource_recommendation":
        module.embed_again(target)

    # 4. What that does to predictions
    after = module.load(target).predict_columns(**inputs)
    facts["largest_changes"] = onnx_model.largest_changes(before, after)
    print(f"\n{path.name}, {facts['precision']}: outputs within {facts['fp32_difference']:.1e} of torch before quantisation")
    print(f"the largest change of a prediction, {facts['rows_compared']} rows of {'the file' if data else 'our own'}:")
    print(*(f"  {name}: {value:.4g}" for name, value in facts["largest_changes"].items()), sep="\n")
    if data and data.judged:
        compared = compare_runs({**data.known, **before}, {**data.known, **after}, names=("torch", "onnx"))
        facts["metrics"] = [d.facts() for d in compared.differences]
        print(f"\nA: torch, B: {path.name}\n{report.as_text(compared.table())}\n\n{compared.sentence(('torch', path.name))}")
    report.write_json(target / onnx_model.FACTS, facts)
    print(f"\nSaved in {target}")
    return facts


if __name__ == "__main__":
    run(main)
