"""A newcomer's walk by README's own commands: a fresh clone, own files, two models, the Hub, and back from it.

In CI the commands run in the environment of the tests; with --full in a fresh one that README's commands make.
"""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from loopback_hub import LoopbackHub

TASKS = ("homework", "library")


def commands(title: str) -> list[str]:
    """The commands of README under a heading, whole lines."""
    section = (ROOT / "README.md").read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"^```\n(.*?)^```", section, re.S | re.M)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def clone(folder: Path) -> Path:
    """The files that git knows, and those it does not ignore, as they are now."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:  # not a checkout
        return Path(shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns("runs", "venv", ".*")))
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def write(path: Path, header: list[str], rows: list[list]) -> None:
    with path.open("w", newline="", encoding="cp1252") as file:  # as a spreadsheet of this part of the world saves it
        csv.writer(file, delimiter=";").writerows([header, *rows])


def bring_own_files(folder: Path) -> None:
    """Essays whose grade is how much they argue, and answers of learners who get better."""
    rng = np.random.default_rng(0)
    claims = ["Pupils read more", "The café was full", "It costs money", "Nobody asked us", "We would walk there", "It is quiet"]
    reasons = ["because they choose the books", "since the bus is late", "so that all can come", "although it rains", "if we try"]

    def essay(task: str, grade: int) -> str:
        ends = [rng.choice(reasons) if rng.random() < grade / 5 else "and so on" for _ in range(4 + grade)]
        return f"About the {task}. " + " ".join(f"{rng.choice(claims)} {end}." for end in ends)

    graded = [(f"e{i}", f"pupil {i // 2}", TASKS[i % 2], int(rng.integers(1, 6))) for i in range(80)]
    write(folder / "essays.csv", ["id", "pupil", "task", "essay", "grade"], [[*g[:3], essay(g[2], g[3]), g[3]] for g in graded])
    write(folder / "new.csv", ["task", "essay"], [[TASKS[i % 2], essay(TASKS[i % 2], 1 + i % 5)] for i in range(6)])

    def answers(pupils: range) -> list[list]:
        rows = []
        for pupil in pupils:
            for n in range(24):
                skill = ["fractions", "decimals", "percentages"][n % 3]
                right = int(rng.random() < 0.3 + 0.02 * n + 0.2 * (skill == "fractions"))
                rows.append([f"p{pupil}", skill, f"{skill} {n % 4}", right, f"2026-09-{1 + n:02}T08:{pupil % 60:02}:00"])
        return rows

    header = ["pupil", "skill", "item", "right", "answered_at"]
    write(folder / "answers.csv", header, answers(range(60)))
    write(folder / "this_week.csv", header, answers(range(100, 104)))


@pytest.fixture(scope="module")
def walk(tmp_path_factory, request):
    """(the clone, what runs a command in it, what each printed)."""
    folder, hub = clone(tmp_path_factory.mktemp("newcomer") / "edu-recipes"), LoopbackHub()
    bring_own_files(folder)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING")) and not k.lower().endswith("_proxy")}
    env |= {
        "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder.parent / "home"), "HF_TOKEN": "hf_writer", "PYTHONPATH": str(folder),
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_XET_XORB_COMPRESSION_POLICY": "none",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    before = ""
    if request.config.getoption("--full"):
        make, install, _ = commands("Try it")
        env.pop("PYTHONPATH")
        before = ". venv/bin/activate && "
        subprocess.run(["bash", "-euc", f"{make}\n{install}"], cwd=folder, env=env, check=True, timeout=1800)

    def run(command: str) -> str:
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(["bash", "-euc", before + command], cwd=folder, env=env, text=True, timeout=900, **both)
        assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}"
        return done.stdout

    yield folder, run
    hub.close()


def rows_of(path: Path) -> list[dict]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_own_essays_become_a_model_that_scores_the_same_from_the_hub(walk):
    folder, run = walk
    train, predict = commands("Bring your own data")[:2]
    assert "80 rows read, 0 left out" in run(train) and (folder / "runs/mine/README.md").is_file()
    run(f"{predict} --output_file here.csv")
    login, publish, reload = commands("Publish")[:3]
    assert login == "hf auth login" and "teacher/essay-scorer" in publish
    run(publish)
    shutil.rmtree(folder / "runs/mine")
    run(f"{reload} --output_file there.csv")
    here, there = rows_of(folder / "here.csv"), rows_of(folder / "there.csv")
    assert len(here) == 6 and here == there


def test_own_answers_become_a_tracer_that_tells_what_is_mastered(walk):
    folder, run = walk
    train, predict = commands("Bring your own data")[2:4]
    run(train)
    run(predict)
    mastery = rows_of(folder / "mastery.csv")
    assert {row["concept"] for row in mastery} == {"fractions", "decimals", "percentages"}
    assert len(mastery) == 4 * 3 and (folder / "mastery.png").is_file()
