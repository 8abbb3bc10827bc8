"""`edu-recipes`: what it lists, what it copies and never overwrites, what it deletes and what it leaves alone."""

import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import datasets
import evaluate
import pytest
from conftest import ROOT
from datasets import Dataset

import trainers.metrics
from edu_datasets.arrow_cache import cache_folder
from edu_datasets.responses import three_lines_dataset
from edu_datasets.schema import RESPONSES
from trainers.command_line import ANSWER_COLUMNS, METRICS, cached_files, copy_recipe, main
from trainers.metrics.replies import ReplyMetrics
from trainers.parser import ConfigurationError

# ---- ls and cp ------------------------------------------------------------------------------------------------------


def test_ls_names_every_recipe_configuration_and_benchmark(capsys):
    main(["ls"])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for path in [*(ROOT / "recipes").glob("*.py"), *(ROOT / "recipes/benchmarks").glob("*.py")]:
        told = next(line.removeprefix(path.stem).strip() for line in lines if line.split()[:1] == [path.stem])
        assert len(told) > 20 and path.read_text().startswith(f'"""{told}')
    for path in (ROOT / "recipes/configs").rglob("*.yaml"):
        assert any(path.stem in line.split(", ") for line in lines)


def test_cp_copies_a_recipe_with_its_configurations_and_overwrites_nothing(tmp_path, capsys):
    folder = tmp_path / "my recipes"
    main(["cp", "essay_scoring", str(folder), "--configs"])
    assert f"accelerate launch '{folder}/essay_scoring.py' --config '{folder}/configs/essay_scoring/" in capsys.readouterr().out
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {
        "essay_scoring.py",
        *(f"configs/essay_scoring/{p.name}" for p in ROOT.glob("recipes/configs/essay_scoring/*")),
    }
    for name in names:
        assert (folder / name).read_bytes() == (ROOT / "recipes" / name).read_bytes()
    (folder / "essay_scoring.py").write_text("mine")
    shutil.rmtree(folder / "configs")
    with pytest.raises(ConfigurationError, match=r"essay_scoring.py is there already"):
        main(["cp", "essay_scoring.py", str(folder), "--configs"])
    assert (folder / "essay_scoring.py").read_text() == "mine" and not (folder / "configs").exists(), "all or nothing"


def test_cp_brings_what_a_script_imports_from_beside_it(tmp_path, capsys):
    main(["cp", "predict", str(tmp_path)])
    assert {p.name for p in (tmp_path / "predictions").iterdir()} == {p.name for p in ROOT.glob("recipes/predictions/*.py")}
    assert f"python {tmp_path}/predict.py --help" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name", ["../trainers/report", "/etc/passwd", "..", "", "configs", "essay_scorin", "benchmarks/throughput"]
)
def test_cp_copies_recipes_alone(name, tmp_path):
    with pytest.raises(ConfigurationError, match="there is no recipe"):
        main(["cp", name, str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_cp_says_where_it_cannot_write(tmp_path):
    (tmp_path / "notes.txt").write_text("keep me")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        main(["cp", "essay_scoring", str(tmp_path / "notes.txt/below")])
    (tmp_path / "essay_scoring.py").symlink_to(tmp_path / "nowhere.py")
    with pytest.raises(ConfigurationError, match="is there already"):
        copy_recipe(ROOT / "recipes", "essay_scoring", tmp_path)
    assert not (tmp_path / "nowhere.py").exists(), "a link is not written through"


# ---- from the wheel -------------------------------------------------------------------------------------------------


@dataclass
class Installed:
    """A wheel of this checkout, and an environment of its own that it is installed in."""

    wheel: Path
    prefix: Path

    def run(self, *words: str, cwd: Path, code: int = 0) -> str:
        packages = next(self.prefix.glob("lib/python*/site-packages"))
        environment = {**os.environ, "PYTHONPATH": str(packages)}
        done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == code, done.stderr[-3000:]
        return done.stdout + done.stderr


@pytest.fixture(scope="session")
def installed(tmp_path_factory) -> Installed:
    pytest.importorskip("setuptools")
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("edu_datasets", "trainers", "recipes"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-index"]
    wheel = [*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run(wheel, check=True, timeout=300)
    (path,) = folder.glob("*.whl")
    install = ["install", *offline, "--ignore-installed", "--no-compile", "--prefix", str(folder), str(path)]
    subprocess.run([*pip, *install], check=True, timeout=300)
    return Installed(path, folder)


def test_the_wheel_holds_every_file_of_the_recipes(installed):
    """Those of a new folder too, which setup.cfg must name."""
    names = zipfile.ZipFile(installed.wheel).namelist()
    there = {name.partition("/data/share/edu-recipes/")[2] for name in names}
    files = {
        p.relative_to(ROOT).as_posix() for p in (ROOT / "recipes").rglob("*") if p.is_file() and "__pycache__" not in p.parts
    }
    assert sorted(files - there) == []
    assert not {name for name in names if name.startswith(("recipes/", "tests/"))}


def test_a_recipe_from_the_wheel_runs_where_it_was_copied(installed, tmp_path):
    command = str(installed.prefix / "bin/edu-recipes")
    listed = installed.run(command, "ls", cwd=tmp_path)
    assert "essay_scoring" in listed and f"They lie in {installed.prefix.resolve()}" in listed
    told = installed.run(command, "cp", "knowledge_tracing", "mine", "--configs", cwd=tmp_path)
    assert "accelerate launch mine/knowledge_tracing.py --config mine/configs/knowledge_tracing/" in told
    helped = installed.run(sys.executable, "knowledge_tracing.py", "--help", cwd=tmp_path / "mine")
    assert "--train_file" in helped
    refused = installed.run(command, "cp", "knowledge_tracing", "mine", cwd=tmp_path, code=2)
    assert len(refused.strip().splitlines()) == 1 and refused.strip().startswith(
        "error: mine/knowledge_tracing.py is there already"
    )


# ---- clear-cache ----------------------------------------------------------------------------------------------------


@pytest.fixture
def caches(tmp_path, monkeypatch) -> Path:
    """A folder with our cache and that of datasets, as runs and other programs have left them."""
    monkeypatch.setenv("EDU_RECIPES_CACHE", str(tmp_path / "ours"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "theirs")
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "home/metrics")
    for name in ("0a1b.arrow", "tokens/cache-77.arrow", "broken.part", "tmpab_12xyz", "notes.txt"):
        path = cache_folder() / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 1000)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.arrow").write_bytes(b"keep me")
    (cache_folder() / "link").symlink_to(elsewhere)
    (cache_folder() / "link.arrow").symlink_to(elsewhere / "mine.arrow")
    log = tmp_path / "log.csv"
    log.write_text("2\n1,2\n0,1\n3\n1,1,2\n1,0,1\n")
    answers = three_lines_dataset(log)
    answers.map(lambda row: {"n": len(row["correct"])})
    Dataset.from_generator(lambda: iter([{"learner_id": "of another program"}]), cache_dir=str(tmp_path / "theirs"))
    replies = ReplyMetrics(cache_dir=str(tmp_path / "home/metrics"))
    replies.add_batch(predictions=["Try again."], references=[["Look again."]])
    replies._finalize()  # as where a run was killed before it could compute and clean up
    return tmp_path


def contents(folder: Path) -> set[str]:
    kept = {".json", ".lock", ".csv"}  # names of columns, and nothing
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.suffix not in kept}


def test_clear_cache_deletes_what_runs_have_cached_and_nothing_else(caches, capsys):
    before = contents(caches)
    answers = {name for name in before if name.startswith("theirs/")}
    assert len(answers) == 3, "the answers, what was made of them, and another program's rows"
    assert len([name for name in before if name.startswith("home/metrics/reply_metrics/")]) == 1
    main(["clear-cache", "--dry_run"])
    told = capsys.readouterr().out
    assert "would be free" in told and contents(caches) == before
    main(["clear-cache"])
    told = capsys.readouterr().out
    assert f"{caches / 'ours'}: 5 files" in told and "MiB are free" in told
    left = contents(caches)
    assert {name for name in left if name.startswith("ours/")} == {"ours/notes.txt"}
    (other,) = (name for name in left if name.startswith("theirs/"))
    assert not any(name.startswith("home/") for name in left)
    assert Dataset.from_file(str(caches / other))["learner_id"][:] == ["of another program"]
    assert (caches / "elsewhere/mine.arrow").read_bytes() == b"keep me", "a link goes, what it points to stays"
    main(["clear-cache"])
    assert "0 files" in capsys.readouterr().out


@pytest.mark.parametrize("variables", [{"EDU_RECIPES_CACHE": "a"}, {"XDG_CACHE_HOME": "b"}, {"HOME": "c"}])
def test_clear_cache_looks_where_streaming_writes(variables, tmp_path, monkeypatch):
    for name in ("EDU_RECIPES_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    assert next(iter(cached_files())) == cache_folder() and cache_folder().is_relative_to(tmp_path)
    assert set(RESPONSES) == ANSWER_COLUMNS
    modules = [importlib.import_module(f"trainers.metrics.{m.name}") for m in pkgutil.iter_modules(trainers.metrics.__path__)]
    ours = {c for m in modules for c in vars(m).values() if isinstance(c, type) and issubclass(c, evaluate.Metric)}
    assert {c().name for c in ours} == set(METRICS), "what our metrics are given"
