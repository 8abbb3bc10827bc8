"""What each recipe must do, whatever its task; a new recipe joins by its name."""

import ast
import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, load_recipe
from loopback_hub import card_errors

from trainers.arguments import AdapterArguments
from trainers.base import use_all_cores
from trainers.comparison import compare_runs
from trainers.parser import ConfigurationError, RecipeParser

FINISHED = {
    "content_generation": "finished_writer",
    "essay_scoring": "finished_run", "knowledge_tracing": "finished_tracer", "outcome_prediction": "finished_predictor",
    "learning_path": "finished_path",
    "resource_recommendation": "finished_recommender",
    "qa_tutoring": "finished_tutor",
    "question_answering": "finished_reader",
}  # recipe -> the fixture of a whole run  # fmt: skip
RECIPES = list(FINISHED)
CONFIGS = sorted((ROOT / "recipes/configs").rglob("*.yaml"))


@pytest.mark.parametrize("name", RECIPES)
def test_help_prints_every_option(name, capsys):
    recipe = load_recipe(name)
    with pytest.raises(SystemExit) as stopped:
        recipe.main(["--help"])
    printed = capsys.readouterr().out
    assert stopped.value.code == 0 and "--config" in printed and "--output_dir" in printed and "--train_file" in printed
    assert ("--lora_r" in printed) is (AdapterArguments in recipe.OPTIONS)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_configuration_parses_and_says_how_to_launch_it(path, tmp_path):
    recipe = load_recipe(path.parent.name)
    parser = RecipeParser(recipe.OPTIONS)
    parser.set_defaults(**recipe.DEFAULTS)
    parser.parse(["--config", str(path), "--output_dir", str(tmp_path)])
    assert set(parser.resolved) <= set(yaml.safe_load(path.read_text())) | set(recipe.DEFAULTS)  # nothing else changed
    head = "".join(path.read_text().splitlines(keepends=True)[:4])
    assert f"accelerate launch recipes/{path.parent.name}.py --config {path.relative_to(ROOT)}" in head


def test_every_recipe_has_a_configuration_a_trainer_and_tests():
    for path in (ROOT / "recipes").glob("*.py"):
        if path.stem not in ("chat", "predict", "publish", "compare", "serve", "export_onnx", "check_drift"):
            assert path.stem in RECIPES and any(c.parent.name == path.stem for c in CONFIGS)
            assert (ROOT / "trainers" / path.name).is_file() and (ROOT / "tests" / f"test_{path.name}").is_file()


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_reads_like_a_page(name):
    source = (ROOT / "recipes" / f"{name}.py").read_text()
    tree = ast.parse(source)
    assert 120 <= len(source.splitlines()) <= 200
    header, row = re.search(r"\n {4}(\w+(?:,\w+)+)\n {4}(\S.*,.*)\n", ast.get_docstring(tree)).groups()
    assert source.count("accelerate launch") >= 3 and len(next(csv.reader([row]))) == len(header.split(",")), "a sample row"
    assert not re.search(r"^from recipes|^import recipes", source, re.M)


@pytest.mark.parametrize("name", RECIPES)
def test_every_card_is_valid_and_tells_what_a_user_asks(name, request):
    folder = request.getfixturevalue(FINISHED[name])
    card, metrics = (folder / "README.md").read_text(), json.loads((folder / "metrics.json").read_text())
    header = yaml.safe_load(card.split("---")[1])
    assert not card_errors(card) and "More information needed" not in card
    assert (
        header["license"]
        and header["pipeline_tag"]
        and header["library_name"] in ("transformers", "peft", "sentence-transformers")
    )
    index = {m["name"]: m["value"] for r in header["model-index"][0]["results"] for m in r["metrics"]}
    for metric, value in metrics["test"].items():
        if metric != "prompts":
            assert index[metric] == pytest.approx(value, abs=1e-4), "Trainer's own card would drop it"
    asked = ("Results on the test split", "How it was measured", "How to use it", "Intended use and limits", "Reproduce")
    assert all(f"## {title}" in card for title in asked)
    assert all(f"| {baseline} |" in card for baseline in metrics["baselines"]) and "licence:" in card and "95% interval" in card
    figures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", card)
    assert figures and all((folder / figure).is_file() for figure in figures)
    assert re.search(r"python recipes/\w+\.py", card) and re.search(r"transformers \d+\.\d+\.\d+", card)


@pytest.mark.parametrize("name", RECIPES)
def test_two_runs_can_be_compared_by_the_metrics_that_the_recipe_reports(name, request):
    folder = request.getfixturevalue(FINISHED[name])
    if name == "learning_path":  # its predictions are examples
        with pytest.raises(ConfigurationError, match="example paths"):
            load_recipe("compare").main([str(folder), str(folder)])
        return
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {column: [row[column] for row in rows] for column in rows[0]}
    compared = compare_runs(columns, columns)
    assert compared.task == name and compared.unit != "row", "the file says what the split did not cut"
    reported = json.loads((folder / "metrics.json").read_text())["test"]
    same = [d for d in compared.differences if d.metric in reported]
    assert same or name in ("qa_tutoring", "content_generation")
    for d in same:
        assert d.first == pytest.approx(reported[d.metric], abs=2e-4), d.metric
        assert d.difference == 0 and d.verdict() == "may be chance"


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


def test_the_arrows_go_one_way():
    for path in (ROOT / "edu_datasets").rglob("*.py"):
        assert not imports(path) & {"torch", "transformers", "trainers", "recipes"}, path
    for path in (ROOT / "trainers").rglob("*.py"):
        assert not imports(path) & {"edu_datasets", "recipes"}, path


def test_public_names_are_documented_and_typed():
    for folder in ("edu_datasets", "trainers"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                    assert ast.get_docstring(node), f"{path.name}: {node.name}"
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                    assert node.returns is not None, f"{path.name}: {node.name}"


def test_the_sources_are_ruff_clean():
    done = subprocess.run([sys.executable, "-m", "ruff", "check", str(ROOT)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_cores_are_shared_under_a_launcher(monkeypatch):
    """`accelerate launch` gives a lone CPU process one thread."""
    threads, cores = torch.get_num_threads(), len(os.sched_getaffinity(0))
    try:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        for name in ("ACCELERATE_MIXED_PRECISION", "LOCAL_WORLD_SIZE"):
            monkeypatch.delenv(name, raising=False)
        torch.set_num_threads(1)
        use_all_cores()
        assert torch.get_num_threads() == 1  # the user's own choice
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
        use_all_cores()
        assert torch.get_num_threads() == cores
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(cores))
        use_all_cores()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
