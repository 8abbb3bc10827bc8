"""Trainings that are ended in the middle, each in a child that a process forks which imported everything once.

A job is a line of json: recipe, argv, weights (a file), log (a file), fault (kind, number, share), processes. The answer is a
with the exit codes of its processes. Kinds of faults, the number counted from 1 over all trainings of a run:

    update n         killed before the nth batch
    evaluation n     killed before the nth evaluation
    save n share     killed inside the nth save, when a file of it has that share of its bytes
    rotation n       killed after the nth save, before an older checkpoint is removed
    end              killed when all is trained and nothing is judged yet
    SIGTERM n, SIGINT n   this signal before the nth batch
    full n share     the disk is full inside the nth save, as above
    full results share   the disk is full when the results are saved; here the run goes on to its end
    poison n         the training row n has infinite labels (one that is no number is a score that is not there)
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import Trainer

from trainers import survival
from trainers.base import EduTrainer
from trainers.parser import run

PART = "PrerequisiteTrainer"  # trained before the model of its recipe


class Trained(Exception):
    """All is trained; what would follow is judged elsewhere."""


def patch(owner: object, name: str, make):
    """Replace owner.name by make(owner.name)."""
    setattr(owner, name, make(getattr(owner, name)))


def counted(act):
    """A function that calls act(n) before its nth call."""

    def make(function):
        calls = []

        @functools.wraps(function)
        def counting(*args, **kwargs):
            calls.append(None)
            act(len(calls), *args)
            return function(*args, **kwargs)

        return counting

    return make


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def limit_files(share: float, bytes_of_largest: int) -> None:
    """From now on no file can be larger than a share of the largest one of a checkpoint."""
    limit = max(1, int(share * bytes_of_largest))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def inject(fault: list | None, largest: int) -> None:
    """Let this process meet a fault."""
    kind, number, share = [*(fault or []), None, None, None][:3]
    at = lambda act: counted(lambda n, *args: act() if n == number else None)  # noqa: E731
    if kind == "update":
        patch(Trainer, "training_step", at(die))
    elif kind == "evaluation":
        patch(Trainer, "evaluate", at(die))
    elif kind == "rotation":
        patch(survival, "rotate_checkpoints", at(die))
    elif kind == "end":
        patch(sys.modules[__name__], "finish", lambda finish: lambda trainer: die())
    elif kind in ("SIGTERM", "SIGINT"):
        patch(Trainer, "training_step", at(lambda: os.kill(os.getpid(), getattr(signal, kind))))
    elif kind == "save":  # the kernel ends who writes beyond the limit, in the middle of the file
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        patch(Trainer, "_save_checkpoint", at(lambda: limit_files(share, largest)))
        patch(survival, "seal", at(die))  # whose files are all smaller is ended in front of the seal
    elif kind == "full" and number != "results":  # Python ignores the signal: the write fails, as on a full disk
        patch(Trainer, "_save_checkpoint", at(lambda: limit_files(share, largest)))
    elif kind == "full":
        patch(EduTrainer, "save_results", counted(lambda *args: limit_files(share, largest)))
    elif kind == "poison":

        def poison(fit):
            def fit_poisoned(trainer):
                spoil = lambda row, i: {"labels": [float("inf")] * len(row["labels"])} if i == number else {}  # noqa: E731
                trainer.train_dataset = trainer.train_dataset.map(spoil, with_indices=True)
                return fit(trainer)

            return fit_poisoned

        patch(EduTrainer, "fit", poison)


def finish(trainer: EduTrainer) -> None:
    raise Trained(trainer)


def last_trainers(kind: type = EduTrainer) -> list[type]:
    """The Trainers that judge what was trained; a part of a larger run is none."""
    own = [kind] if "score_beside_baselines" in vars(kind) and kind.__name__ != PART else []
    return own + [found for sub in kind.__subclasses__() for found in last_trainers(sub)]


@contextlib.contextmanager
def training_alone():
    """A recipe's `main` raises `Trained` when it has trained."""
    before = {kind: kind.score_beside_baselines for kind in last_trainers()}
    for kind in before:
        kind.score_beside_baselines = lambda trainer: finish(trainer)
    try:
        yield
    finally:
        for kind, judge in before.items():
            kind.score_beside_baselines = judge


def weights_of(trainer: EduTrainer) -> dict[str, torch.Tensor]:
    """All that was trained: of the model, of a cross-encoder beside it, of the model that was trained before it."""
    parts = {"model": trainer.model.state_dict()}
    if getattr(trainer, "reranker", None) is not None:
        parts["reranker"] = trainer.reranker.model.state_dict()
    for file in Path(trainer.args.output_dir).glob("prerequisite_model/*model.safetensors"):
        parts[file.name] = load_file(file)
    return {f"{part} {name}": value.detach().clone() for part, values in parts.items() for name, value in values.items()}


def train(recipe, argv: list[str]) -> dict[str, torch.Tensor]:
    """The weights when a recipe has trained; how many batches that took is printed."""
    batches = []
    step, Trainer.training_step = Trainer.training_step, counted(lambda n, *args: batches.append(n))(Trainer.training_step)
    try:
        with training_alone():
            recipe.main(argv)
    except Trained as done:
        print(f"batches: {len(batches)}")
        return weights_of(done.args[0])
    finally:
        Trainer.training_step = step
    raise AssertionError("the recipe did not train")


def keep(weights: dict[str, torch.Tensor], file: str | None) -> None:
    if file:
        save_file(weights, file)


def child(job: dict, process: int) -> None:
    """Do a job in this process, and leave it."""
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1), os.dup2(log, 2)
    code = 1
    try:
        from conftest import load_recipe

        fault, processes = job.get("fault"), job.get("processes", 1)
        if processes > 1:
            os.environ |= {"RANK": str(process), "LOCAL_RANK": str(process), "WORLD_SIZE": str(processes)}
            os.environ |= {"LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(job["port"])}
        recipe = load_recipe(job["recipe"])
        if fault is None or process == job.get("faulty_process", process):
            inject(fault, job.get("largest", 0))
        sys.argv = ["recipe"]
        if fault and fault[:2] == ["full", "results"]:
            run(lambda: recipe.main(job["argv"]))
        else:
            run(lambda: keep(train(recipe, job["argv"]), job["weights"] if process == 0 else None))
        code = 0
    except SystemExit as left:
        code = left.code or 0
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Answer jobs until there are no more."""
    from conftest import ROOT

    for name in {path.stem for path in ROOT.glob("recipes/*.py")} & {path.stem for path in ROOT.glob("trainers/*.py")}:
        importlib.import_module(f"trainers.{name}")
    for line in sys.stdin:
        job, children = json.loads(line), []
        for process in range(job.get("processes", 1)):
            pid = os.fork()
            if pid == 0:
                child(job, process)
            children.append(pid)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        print(json.dumps(codes), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
