"""What happens to runs (kills, signals, full disks, broken checkpoints, losses that are no number) costs no work.

The kills are few here; `python -m pytest tests/test_faults.py --full -s` makes 20 of each run.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import killed_runs
import pytest
import torch
from conftest import ROOT, load_recipe
from safetensors.torch import load_file, save_file
from transformers import Trainer

from trainers import survival
from trainers.arguments import RecipeTrainingArguments
from trainers.failures import is_out_of_space
from trainers.parser import ConfigurationError
from trainers.resuming import SEAL, checkpoint_to_resume, seal, what_is_wrong

TEXT = ["--model_name_or_path", "TINY", "--max_train_samples", "24", "--dropout", "0.1", "--per_device_train_batch_size", "4"]
CHAT = [
    "--model_name_or_path", "TINY_CHAT", "--max_train_samples", "24", "--max_length", "1600", "--max_new_tokens", "8",
    "--per_device_train_batch_size", "2",
]  # fmt: skip
STEPS = ["--save_strategy", "steps", "--save_steps", "3", "--eval_strategy", "steps", "--eval_steps", "3"]
RUNS = {
    "essay_scoring": [*TEXT, *STEPS, "--max_length", "48", "--gradient_accumulation_steps", "2", "--num_train_epochs", "4"],
    "outcome_prediction": [
        "--max_train_samples", "48", "--hidden_size", "16", "--learning_rate", "0.03", "--num_train_epochs", "12",
        "--early_stopping_patience", "3",
    ],
    "knowledge_tracing": [*STEPS, "--max_train_samples", "48", "--hidden_size", "16", "--num_train_epochs", "4.5"],
    "question_answering": [*TEXT, "--max_length", "112", "--doc_stride", "32", "--max_question_length", "32",
                           "--num_train_epochs", "3", "--per_device_train_batch_size", "32"],
    "qa_tutoring": [*CHAT, *STEPS, "--use_peft", "true", "--lora_dropout", "0.1", "--max_steps", "9", "--dropout", "0.1"],
    "content_generation": [*CHAT, "--use_peft", "false", "--num_train_epochs", "3", "--dropout", "0.1"],
    "resource_recommendation": [*TEXT, *STEPS, "--max_length", "32", "--hard_negatives", "1", "--rerank", "4",
                                "--num_train_epochs", "2", "--per_device_train_batch_size", "16"],
    "resource_recommendation, histories": [*TEXT, "--query", "history", "--hidden_size", "16", "--num_train_epochs", "4"],
    "learning_path": [
        *TEXT, *STEPS, "--max_train_samples", "60", "--train_learners", "60", "--judged_learners", "20", "--judge_seeds", "2",
        "--steps", "4", "--hidden_size", "16", "--pair_epochs", "3", "--num_train_epochs", "2",
        "--per_device_train_batch_size", "16",
    ],
}  # a recipe and what of it -> options, on the sample school  # fmt: skip
SHORT = ["--precision", "fp32", "--max_eval_samples", "8", "--disable_tqdm", "true", "--logging_steps", "2"]


class Runs:
    """Starts trainings in children of one process, which has another hash seed than this one."""

    def __init__(self, models: dict[str, str]):
        self.models = models
        env = os.environ | {"PYTHONHASHSEED": "7", "TOKENIZERS_PARALLELISM": "false"}
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests"), str(ROOT), env.get("PYTHONPATH", "")])
        command = [sys.executable, str(ROOT / "tests/killed_runs.py")]
        self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.logs = 0

    def argv(self, run: str, out: Path, *more: str) -> list[str]:
        words = [self.models.get(word, word) for word in RUNS[run]]
        return [*words, *SHORT, "--output_dir", str(out), *more]

    def __call__(self, run: str, out: Path, *more: str, fault: list | None = None, **job) -> tuple[list[int], str, dict | None]:
        """The exit codes, what was printed, and the weights where it trained to the end."""
        self.logs += 1
        log, weights = out.with_name(f"{out.name}.{self.logs}.log"), out.with_name(f"{out.name}.{self.logs}.safetensors")
        log.touch()
        job |= {"recipe": run.split(",")[0], "argv": self.argv(run, out, *more), "log": str(log), "weights": str(weights)}
        self.process.stdin.write(json.dumps(job | {"fault": fault}) + "\n")
        self.process.stdin.flush()
        codes = json.loads(self.process.stdout.readline())
        return codes, log.read_text(errors="replace"), load_file(weights) if weights.is_file() else None


@pytest.fixture(scope="module")
def runs(tiny_model, tiny_chat_model):
    runs = Runs({"TINY": tiny_model, "TINY_CHAT": tiny_chat_model})
    yield runs
    runs.process.stdin.close()
    runs.process.wait(60)


WHOLE: dict[str, tuple[dict, dict]] = {}


def whole(run: str, runs: Runs, folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """The weights of a run that nothing happens to, and how many batches, evaluations and saves it has; in this process."""
    if run not in WHOLE:
        counts, largest = {"update": 0, "evaluation": 0, "save": 0}, [0]

        def count(name):
            return killed_runs.counted(lambda *args: counts.__setitem__(name, counts[name] + 1))

        def measure(rotate):
            def rotate_measured(folder, *args, **kwargs):
                largest.extend(file.stat().st_size for file in Path(folder).rglob("checkpoint-*/*") if file.is_file())
                return rotate(folder, *args, **kwargs)

            return rotate_measured

        with pytest.MonkeyPatch.context() as patch:
            for owner, name, make in (
                (Trainer, "training_step", count("update")), (Trainer, "evaluate", count("evaluation")),
                (Trainer, "_save_checkpoint", count("save")), (survival, "rotate_checkpoints", measure),
            ):  # fmt: skip
                patch.setattr(owner, name, make(getattr(owner, name)))
            weights = killed_runs.train(load_recipe(run.split(",")[0]), runs.argv(run, folder / "whole"))
        WHOLE[run] = weights, counts | {"largest": max(largest)}
    return WHOLE[run]


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor] | None) -> bool:
    return two is not None and one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def checkpoints(out: Path) -> list[Path]:
    """Those that are sealed, of the training that was last at work; the newest last."""
    found = sorted(out.rglob(f"checkpoint-*/{SEAL}"), key=lambda file: file.stat().st_mtime_ns)
    return [file.parent for file in found if found[-1].parent.parent == file.parent.parent]


def corrupt(folder: Path, rng: random.Random) -> str:
    """Damage a file of a checkpoint; what was done."""
    file = rng.choice(sorted(file for file in folder.rglob("*") if file.is_file() and file.stat().st_size))
    content, how = bytearray(file.read_bytes()), rng.choice(["cut", "emptied", "missing", "changed"])
    if how == "missing":
        file.unlink()
    elif how == "changed":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        file.write_bytes(content)
    else:
        file.write_bytes(content[: rng.randrange(len(content)) if how == "cut" else 0])
    return f"{file.name} {how}"


def draw_faults(counts: dict[str, int], number: int, rng: random.Random) -> list[list]:
    """Faults at random moments: the first before a batch, the second inside a save, then of all kinds."""
    kinds = ["update", "save", *rng.choices(["update", "evaluation", "save", "rotation", "end"], [10, 2, 5, 2, 1], k=number - 2)]
    most = counts | {"rotation": counts["save"], "end": 1}
    return [[kind, rng.randint(1, most[kind]), rng.random()] for kind in kinds]


@pytest.mark.parametrize("run", RUNS)
def test_a_killed_run_ends_as_if_it_had_not_been(run, runs, tmp_path, request, record_property):
    """A random moment, and a random damage to the newest checkpoint after every other kill; bit for bit the same weights."""
    expected, counts = whole(run, runs, tmp_path)
    rng, kills = random.Random(f"{run}, 9"), 20 if request.config.getoption("--full") else 2
    told, damaged = [], 0
    for i, fault in enumerate(draw_faults(counts, kills, rng)):
        out = tmp_path / f"run{i}"
        codes, log, _ = runs(run, out, fault=fault, largest=counts["largest"])
        assert -codes[0] in (signal.SIGKILL, signal.SIGXFSZ), f"{fault}: it was not killed\n{log[-3000:]}"
        left, damage = checkpoints(out), ""
        if i % 2 == 0 and len(left) > 1:
            damage = f"{left[-1].name}: {corrupt(left[-1], rng)}"
            damaged += 1
        codes, log, weights = runs(run, out, "--resume_from_checkpoint", "auto")
        what = f"{run}: {fault}, then {damage or 'no damage'}"
        assert codes == [0], f"{what}\n{log[-3000:]}"
        assert equal(expected, weights), f"{what}: other weights\n{log[-3000:]}"
        if left:
            assert int(re.search(r"batches: (\d+)", log)[1]) < counts["update"], f"{what}: it began anew"
        if damage:
            assert f"{left[-1].name} is not whole" in log and f"Resuming from {left[-2].name}" in log, what
        told.append(what)
        shutil.rmtree(out)
    done = f"{len(told)} killed, {damaged} with a damaged newest checkpoint, {len(told)} resumed to equal weights"
    record_property("count", f"{run}: {done}")


# ---- whole or not ---------------------------------------------------------------------------------------------------


def write_checkpoint(folder: Path, step: int, best: int | None = None) -> Path:
    """As a save leaves it."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    save_file({"weight": torch.arange(1000.0) + step}, path / "model.safetensors")
    torch.save({"state": torch.zeros(100)}, path / "optimizer.pt")
    (path / "rng_state.pth").write_bytes(b"numbers")
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step, "best_global_step": best}))
    seal(path)
    return path


def resume(folder: Path, word: str = "auto") -> str | None:
    found = checkpoint_to_resume(RecipeTrainingArguments(output_dir=str(folder), resume_from_checkpoint=word))
    return found and Path(found).name


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json", SEAL])
@pytest.mark.parametrize("how", ["missing", "emptied", "cut by a byte", "a bit turned"])
def test_whatever_is_missing_or_changed_is_noticed(name, how, tmp_path, caplog):
    folder = [write_checkpoint(tmp_path, step) for step in (3, 6)][1]
    assert what_is_wrong(folder) is None and resume(tmp_path) == "checkpoint-6"
    content = (folder / name).read_bytes()
    if how == "missing":
        (folder / name).unlink()
    elif how == "a bit turned":
        middle = len(content) // 2
        (folder / name).write_bytes(content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :])
    else:
        (folder / name).write_bytes(content[:-1] if how == "cut by a byte" else b"")
    assert name in what_is_wrong(folder) or name == SEAL and what_is_wrong(folder)
    assert resume(tmp_path) == "checkpoint-3"
    assert "checkpoint-6 is not whole" in caplog.text and "Resuming from checkpoint-3" in caplog.text
    assert not folder.exists(), "it would be taken for the newest once more"


def test_a_run_without_a_whole_checkpoint_is_told_so(tmp_path):
    for step in (3, 6):
        (write_checkpoint(tmp_path, step) / "optimizer.pt").unlink()
    with pytest.raises(ConfigurationError, match=r"no checkpoint in .* is whole .*checkpoint-6: optimizer.pt is missing.*-3: "):
        resume(tmp_path)
    assert (tmp_path / "checkpoint-3").is_dir() and (tmp_path / "checkpoint-6").is_dir()
    with pytest.raises(ConfigurationError, match="checkpoint-3 is not whole: optimizer.pt is missing"):
        resume(tmp_path, str(tmp_path / "checkpoint-3"))


def test_a_run_that_ended_inside_its_first_save_begins_anew(tmp_path, caplog):
    (write_checkpoint(tmp_path, 3) / SEAL).unlink()
    assert resume(tmp_path) is None and "its save was not finished" in caplog.text
    with pytest.raises(ConfigurationError, match="no checkpoint in .* is whole"):
        resume(tmp_path, "true")


def test_a_run_whose_best_checkpoint_is_broken_is_not_ended_with_it(tmp_path):
    write_checkpoint(tmp_path, 3)
    (write_checkpoint(tmp_path, 6, best=6) / "model.safetensors").write_bytes(b"")
    write_checkpoint(tmp_path, 9, best=6)
    assert resume(tmp_path) == "checkpoint-3"


# ---- signals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "run, name, more",
    [
        ("essay_scoring", "SIGTERM", ["--save_strategy", "no", "--load_best_model_at_end", "false", "--eval_strategy", "no"]),
        ("outcome_prediction", "SIGTERM", []),
        ("learning_path", "SIGINT", []),
    ],
)
def test_a_run_that_is_asked_to_stop_saves_and_goes_on_later(run, name, more, runs, tmp_path):
    _, counts = whole(run, runs, tmp_path)
    expected = runs(run, tmp_path / "expected", *more)[2] if more else whole(run, runs, tmp_path)[0]
    out, at = tmp_path / "run", counts["update"] // 2 + 1  # inside an epoch
    codes, log, _ = runs(run, out, *more, fault=[name, at])
    assert codes == [{"SIGTERM": 143, "SIGINT": 130}[name]], log[-3000:]
    saved = checkpoints(out)[-1]
    assert log.count("error: ") == 1 and f"stopped by {name} after update" in log and saved.name in log
    assert "Traceback" not in log and what_is_wrong(saved) is None
    codes, log, _ = runs(run, out, *more)
    assert codes == [2] and "unfinished run. Add --resume_from_checkpoint auto" in log, "it is not overwritten unasked"
    codes, log, weights = runs(run, out, *more, "--resume_from_checkpoint", "true")
    assert codes == [0] and equal(expected, weights), log[-3000:]
    assert int(re.search(r"batches: (\d+)", log)[1]) < counts["update"]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_all_processes_stop_at_the_same_update(runs, tmp_path):
    """One of two is asked to; both save, and go on to the weights that they would have had."""
    two = {"processes": 2, "port": free_port()}
    more = ["--gradient_accumulation_steps", "1"]
    codes, log, expected = runs("essay_scoring", tmp_path / "whole", *more, **two)
    assert codes == [0, 0], log[-3000:]
    codes, log, _ = runs("essay_scoring", tmp_path / "run", *more, fault=["SIGTERM", 5], faulty_process=1, **two)
    assert codes == [143, 143] and log.count("error: ") == 1 and "Traceback" not in log, log[-3000:]
    saved = checkpoints(tmp_path / "run")[-1]
    assert what_is_wrong(saved) is None and {f"rng_state_{i}.pth" for i in (0, 1)} <= {file.name for file in saved.iterdir()}
    codes, log, weights = runs("essay_scoring", tmp_path / "run", *more, "--resume_from_checkpoint", "auto", **two)
    assert codes == [0, 0] and equal(expected, weights), log[-3000:]


def test_a_process_that_is_killed_ends_the_others_with_one_message(tmp_path, tiny_model):
    """Under torchrun; a hang would meet the limit of time."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\nimport killed_runs\nfrom conftest import load_recipe\nfrom trainers.parser import run\n"
        "if os.environ['RANK'] == '1':\n    killed_runs.inject(['update', 4], 0)\n"
        "run(load_recipe('essay_scoring').main)\n"
    )
    argv = [tiny_model if word == "TINY" else word for word in RUNS["essay_scoring"]]
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script), *argv, *SHORT,
         "--output_dir", str(tmp_path / "run")],
        env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode != 0
    ours = done.stderr.split("torch/distributed/elastic")[0]  # what follows is torchrun's own report
    assert done.stderr.count("error: another process of this run has ended") == 1, done.stderr[-4000:]
    assert "Traceback" not in ours, ours[-4000:]


# ---- losses ---------------------------------------------------------------------------------------------------------


def test_an_infinite_loss_stops_the_run_and_names_its_rows(runs, tmp_path):
    codes, log, _ = runs("essay_scoring", tmp_path / "run", fault=["poison", 17])
    assert codes == [2] and log.count("error: ") == 1 and "Traceback" not in log, log[-3000:]
    told = re.search(r"the loss is no finite number at update (\d+) of \d+\. .*counted from 0: ([\d, ]+)\. Look", log)
    rows = [int(row) for row in told[2].split(", ")]
    assert 17 in rows and len(rows) == 8, "a batch of 4 and one that is added to it"
    assert "--learning_rate" in log and int(told[1]) <= 3, "the first epoch has three updates"
    essays = load_recipe("essay_scoring").load_essays("sample_school").splits["train"]
    assert not any(str(row["essay_id"]) in log.split("error: ")[1] for row in essays)
    for saved in checkpoints(tmp_path / "run"):
        assert all(value.isfinite().all() for value in load_file(saved / "model.safetensors").values())


def test_of_two_processes_the_one_with_the_infinite_loss_is_named(runs, tmp_path):
    codes, log, _ = runs("essay_scoring", tmp_path / "run", fault=["poison", 17], processes=2, port=free_port())
    assert codes == [2, 2] and log.count("error: ") == 1 and "Traceback" not in log, log[-3000:]
    rows = [int(row) for row in re.search(r"counted from 0: ([\d, ]+)\. Look", log)[1].split(", ")]
    assert 17 in rows and len(rows) <= 8, "half of an update of 16 rows"


def test_a_search_goes_on_after_settings_that_give_no_finite_loss(runs, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    recipe, step, tried = load_recipe("outcome_prediction"), Trainer.training_step, []

    def spoil_the_first(trainer, *args, **kwargs):
        if trainer not in tried:
            tried.append(trainer)
        return step(trainer, *args, **kwargs) * (float("nan") if trainer is tried[0] else 1)

    monkeypatch.setattr(Trainer, "training_step", spoil_the_first)
    killed_runs.train(recipe, runs.argv("outcome_prediction", tmp_path / "run", "--hp_search", "3", "--max_steps", "4"))
    trials = [json.loads(line) for line in (tmp_path / "run/search/trials.jsonl").read_text().splitlines()]
    assert [trial["value"] is None for trial in trials] == [True, False, False] and len(tried) == 4


@pytest.mark.parametrize("run", ["question_answering", "content_generation", "qa_tutoring"])
def test_the_rows_that_are_named_are_those_of_the_training_split(run, runs, tmp_path, monkeypatch):
    """A batch is made of windows, or of several rows about one text; one that is left out counts, too."""
    recipe, given = load_recipe(run), []
    kind = next(kind for kind in killed_runs.last_trainers() if kind.__module__ == f"trainers.{run}")
    make = kind.__init__
    monkeypatch.setattr(kind, "__init__", lambda self, *, splits, **k: given.append(splits) or make(self, splits=splits, **k))
    monkeypatch.setattr(killed_runs.EduTrainer, "fit", killed_runs.finish)
    with pytest.raises(killed_runs.Trained) as stopped:
        recipe.main(runs.argv(run, tmp_path, "--max_train_samples", "60"))
    trainer, rows = stopped.value.args[0], given[-1]["train"]
    trainer.get_train_dataloader()
    for update in (0, 3):
        examples = trainer._batch_sampler.examples_of(update, [0])
        read = [trainer.processing_class.decode(trainer.train_dataset[i]["input_ids"]) for i in examples]
        named = trainer.rows_of_update(update, [0])
        texts = [rows[i]["turns"][0]["text"] if run == "qa_tutoring" else rows[i]["question"] for i in named]
        if run == "question_answering":  # its tokenizer does not know every word
            texts = [trainer.processing_class.decode(trainer.processing_class(t)["input_ids"][1:20]) for t in texts]
        assert named and all(any(text in whole for whole in read) for text in texts)
        assert all(any(text in whole for text in texts) for whole in read), "of each example a row is named"


# ---- a full disk ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("run, save, share", [("essay_scoring", 2, 0.3), ("outcome_prediction", 1, 0.9)])
def test_a_full_disk_costs_no_checkpoint(run, save, share, runs, tmp_path):
    """In the middle of the weights, and of the optimizer's state."""
    expected, counts = whole(run, runs, tmp_path)
    codes, log, _ = runs(run, tmp_path / "run", fault=["full", save, share], largest=counts["largest"])
    assert codes == [2] and log.count("error: ") == 1 and "Traceback" not in log, log[-3000:]
    assert "could not be saved" in log and "no space left" in log
    left = checkpoints(tmp_path / "run")
    assert len(left) == save - 1 == len(list((tmp_path / "run").glob("checkpoint-*"))), "the half of one takes up no room"
    assert all(what_is_wrong(saved) is None for saved in left) and (not left or f"{left[-1].name} stays" in log)
    codes, log, weights = runs(run, tmp_path / "run", "--resume_from_checkpoint", "auto")
    assert codes == [0] and equal(expected, weights), log[-3000:]


def test_a_full_disk_at_the_very_end_costs_no_training(runs, tmp_path):
    _, counts = whole("outcome_prediction", runs, tmp_path)
    out = tmp_path / "run"
    codes, log, _ = runs("outcome_prediction", out, fault=["full", "results", 0.1], largest=counts["largest"])
    assert codes == [2] and log.count("error: ") == 1 and "Traceback" not in log, log[-3000:]
    assert "there is no space left" in log and not (out / "metrics.json").exists() and what_is_wrong(checkpoints(out)[-1]) is None
    codes, log, weights = runs("outcome_prediction", out, "--resume_from_checkpoint", "auto")
    assert codes == [0] and equal(whole("outcome_prediction", runs, tmp_path)[0], weights) and "batches: 0" in log


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="no device that is always full")
@pytest.mark.parametrize(
    "write",
    [
        lambda: Path("/dev/full").write_text("x" * 100_000),
        lambda: torch.save({"weight": torch.zeros(100_000)}, "/dev/full"),
    ],
    ids=["text", "torch"],
)
def test_a_full_disk_is_known_whoever_writes(write):
    with pytest.raises(Exception) as error:  # noqa: PT011
        write()
    assert is_out_of_space(error.value)
    assert not any(map(is_out_of_space, (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), PermissionError(13))))
