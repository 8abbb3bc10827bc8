"""A recipe gives the same model on one process, on two, and sharded over two; the launchers' files say what they mean."""

from __future__ import annotations

import argparse
import functools
import json
import os
import socket
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import AcceleratorState, DistributedType, PartialState
from accelerate.utils import FullyShardedDataParallelPlugin, prepare_deepspeed_cmd_env, prepare_multi_gpu_env
from conftest import ROOT, load_recipe
from torch.distributed.fsdp import StateDictType
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

from trainers.base import EduTrainer
from trainers.parser import ConfigurationError

TEXT = ["--model_name_or_path", "TINY", "--max_train_samples", "24", "--learning_rate", "0.05"]
ESSAYS = [*TEXT, "--head_learning_rate", "0.1", "--max_length", "48", "--gaming_essays", "0"]
CHAT = [
    "--model_name_or_path", "TINY_CHAT", "--max_train_samples", "24", "--learning_rate", "0.5", "--max_length", "1600",
    "--max_new_tokens", "8", "--use_peft", "false",
]  # fmt: skip
FEW_REPLIES = ["--test_replies", "2", "--asked_moves", "0", "--simulated_students", "0"]
RUNS = {
    "essay_scoring": ESSAYS,
    "essay_scoring, ordinal": [*ESSAYS, "--loss", "corn"],
    "essay_scoring, ranked": [*ESSAYS, "--loss", "mse+rank"],
    "essay_scoring, with LoRA": [*ESSAYS, "--use_peft", "true"],
    "outcome_prediction": ["--max_train_samples", "64", "--learning_rate", "0.1", "--hidden_size", "16", "--dropout", "0"],
    "knowledge_tracing": ["--max_train_samples", "32", "--learning_rate", "1", "--hidden_size", "16", "--dropout", "0"],
    "question_answering": [*TEXT, "--max_length", "112", "--doc_stride", "32", "--max_question_length", "32"],
    "qa_tutoring": [*CHAT, *FEW_REPLIES],
    "qa_tutoring, with LoRA": [*CHAT, *FEW_REPLIES, "--use_peft", "true"],
    "content_generation": [*CHAT, "--candidates", "2", "--ranking_questions", "2", "--test_questions", "2"],
    "resource_recommendation": [*TEXT, "--max_length", "32", "--mix", "false", "--hard_negatives", "1"],
    "resource_recommendation, in parts": [*TEXT, "--max_length", "32", "--mix", "false", "--chunk_size", "4"],
    "resource_recommendation, histories": [*TEXT, "--query", "history", "--learning_rate", "1", "--hidden_size", "16"],
    "learning_path": [
        *TEXT, "--max_train_samples", "60", "--train_learners", "60", "--judged_learners", "20", "--judge_seeds", "2",
        "--steps", "4", "--hidden_size", "16", "--pair_epochs", "1", "--pair_learning_rate", "0.005",
    ],
}  # a recipe and what of it -> options, on the sample school  # fmt: skip
SHORT = [
    "--optim", "sgd", "--max_grad_norm", "0", "--precision", "fp32", "--num_train_epochs", "1", "--max_eval_samples", "8",
    "--disable_tqdm", "true", "--warmup_steps", "0", "--lr_scheduler_type", "constant", "--gradient_accumulation_steps", "1",
]  # SGD without clipping, since Adam would hide a wrong scale of the gradient  # fmt: skip
BATCH = 16  # examples of an update
REFUSED = {("resource_recommendation, in parts", "sharded"): "--chunk_size"}
"""What cannot be, and is said before the training."""


def train(run: str, models: dict[str, str], output: Path, processes: int) -> dict[str, torch.Tensor]:
    """Run a recipe to its end. Of each of its Trainers: the weights before and after the training, and the logits."""
    found, fit = {}, EduTrainer.fit

    def fit_and_keep(trainer):
        name = type(trainer).__name__
        found.update({f"{name} before {n}": p.detach().clone() for n, p in trainer.model.named_parameters()})
        cost = fit(trainer)
        found.update({f"{name} after {n}": p.detach().clone() for n, p in trainer.model.named_parameters()})
        found[f"{name} logits"] = torch.as_tensor(trainer.logits(trainer.eval_dataset))
        return cost

    recipe = load_recipe(run.split(",")[0])
    if hasattr(recipe, "new_sequential_recommender"):  # each process would draw its own dropout
        recipe.new_sequential_recommender = functools.partial(recipe.new_sequential_recommender, dropout=0.0, id_dropout=0.0)
    words = [models.get(word, word) for word in RUNS[run]]
    EduTrainer.fit = fit_and_keep
    try:
        recipe.main([*words, *SHORT, "--output_dir", str(output), "--per_device_train_batch_size", str(BATCH // processes)])
    finally:
        EduTrainer.fit = fit
    return found


def work(folder: Path, models: dict[str, str], sharded: dict[str, str]) -> None:
    """What each of two processes does: all recipes one after the other, each replicated and then sharded."""
    PartialState.destroy_process_group = lambda self, group=None: None  # the next recipe needs it
    own = AcceleratorState.__init__

    def shard_on_cpu(self, *args, fsdp_plugin=None, **options):
        """accelerate looks at ACCELERATE_USE_FSDP on GPUs alone; what it does then (state.py) it does here."""
        own(self, *args, fsdp_plugin=fsdp_plugin, **options)
        if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type, self.fsdp_plugin = DistributedType.FSDP, fsdp_plugin
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = shard_on_cpu
    for i, run in enumerate(RUNS):
        for launch, environment in (("two", {}), ("sharded", sharded)):
            for name in sharded:
                os.environ.pop(name, None)
            os.environ.update(environment)
            if (run, launch) in REFUSED:
                with pytest.raises(ConfigurationError, match=REFUSED[run, launch]):
                    train(run, models, folder / launch / str(i), processes=2)
                continue
            found = train(run, models, folder / launch / str(i), processes=2)
            if int(os.environ["RANK"]) == 0:
                torch.save(found, folder / launch / f"{i}.pt")


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_model, tiny_chat_model) -> Path:
    """Every recipe on two processes, replicated ("two") and cut ("sharded"); they are started once for all."""
    folder, models = tmp_path_factory.mktemp("launch"), {"TINY": tiny_model, "TINY_CHAT": tiny_chat_model}
    for launch in ("one", "two", "sharded"):
        (folder / launch).mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", __file__]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "tests"), str(ROOT)])}
    words = [str(folder), json.dumps(models), json.dumps(sharding())]
    done = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, timeout=900)
    failed = sorted(path.read_text() for path in folder.glob("failed *"))
    assert done.returncode == 0, failed[0] if failed else done.stderr[-5000:]
    for i, run in enumerate(RUNS):
        torch.save(train(run, models, folder / "one" / str(i), processes=1), folder / "one" / f"{i}.pt")
    return folder


@pytest.mark.parametrize("run, launch", [(r, how) for r in RUNS for how in ("two", "sharded") if (r, how) not in REFUSED])
def test_two_processes_give_the_model_of_one(run, launch, runs):
    """The weights when the training ends, the logits, and what stands in metrics.json after evaluation."""
    i = list(RUNS).index(run)
    one, other = (torch.load(runs / name / f"{i}.pt", weights_only=True) for name in ("one", launch))
    assert one.keys() == other.keys() and any(name.endswith(" logits") for name in one)
    for name in one:
        assert torch.allclose(one[name], other[name], atol=1e-4, rtol=1e-4), name
    moved = [(one[name] - one[name.replace(" after ", " before ")]).abs().max() for name in one if " after " in name]
    assert max(moved) > 1e-3, "a model that learns nothing would pass"
    one, other = (json.loads((runs / name / str(i) / "metrics.json").read_text())["test"] for name in ("one", launch))
    assert other.keys() == one.keys()
    if run != "learning_path":  # of two moves that are nearly equal another may come first
        numbers = {k: v for k, v in one.items() if isinstance(v, float)}
        assert numbers and {k: other[k] for k in numbers} == pytest.approx(numbers, abs=2e-3, rel=1e-4)


# ---- the launchers' files -------------------------------------------------------------------------------------------

CONFIGS = sorted((ROOT / "recipes/accelerate_configs").glob("*.yaml"))


def launched(config: Path, *words: str) -> argparse.Namespace:
    """What `accelerate launch` makes of a file and of options beside it."""
    args = launch_command_parser().parse_args(["--config_file", str(config), *words, "recipes/essay_scoring.py"])
    return _validate_launch_command(args)[0]


@pytest.fixture
def plain_environment(monkeypatch):
    for name in [n for n in os.environ if n.startswith(("ACCELERATE_", "FSDP_"))]:
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_launch_file_parses_and_says_what_it_is_for(path):
    first, *_ = lines = path.read_text().splitlines()
    assert first.startswith("# ") and any(f"accelerate launch --config_file {path.relative_to(ROOT)}" in line for line in lines)
    assert load_config_from_file(str(path)).distributed_type in {
        "cpu": "NO", "ddp": "MULTI_GPU", "fsdp2": "FSDP", "zero3": "DEEPSPEED", "multi_node": "MULTI_GPU"
    }[path.stem]  # fmt: skip


def test_the_launch_files_spread_a_model_as_they_say(plain_environment):
    folder = ROOT / "recipes/accelerate_configs"
    cpu, ddp, zero3 = (launched(folder / f"{name}.yaml") for name in ("cpu", "ddp", "zero3"))
    assert (cpu.use_cpu, cpu.num_processes, cpu.multi_gpu) == (True, 1, False)
    assert ddp.multi_gpu and prepare_multi_gpu_env(ddp).get("ACCELERATE_USE_FSDP") is None and ddp.nproc_per_node == "2"
    assert launched(folder / "ddp.yaml", "--num_processes", "8").num_processes == 8

    plain_environment.setattr(os, "environ", {**os.environ, **sharding()})
    plugin = FullyShardedDataParallelPlugin()
    assert (plugin.fsdp_version, plugin.reshard_after_forward, plugin.activation_checkpointing) == (2, True, False)
    assert plugin.state_dict_type == StateDictType.FULL_STATE_DICT and plugin.auto_wrap_policy is transformer_auto_wrap_policy

    assert zero3.use_deepspeed and zero3.zero_stage == 3 and zero3.zero3_save_16bit_model is True
    assert zero3.offload_optimizer_device == zero3.offload_param_device == "none"
    zero3.deepspeed_fields_from_accelerate_config = ""  # as launch_command does
    assert prepare_deepspeed_cmd_env(zero3)[1]["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == "3"

    node = launched(folder / "multi_node.yaml", "--machine_rank", "1", "--main_process_ip", "10.0.0.1")
    prepare_multi_gpu_env(node)
    assert (node.nnodes, node.nproc_per_node, node.node_rank, node.rdzv_endpoint) == ("2", "4", 1, "10.0.0.1:29500")


def sharding() -> dict[str, str]:
    """The variables that tell accelerate of fsdp2.yaml."""
    environment = prepare_multi_gpu_env(launched(ROOT / "recipes/accelerate_configs/fsdp2.yaml"))
    return {k: v for k, v in environment.items() if k.startswith(("FSDP_", "ACCELERATE_USE_FSDP"))}


# ---- slurm ----------------------------------------------------------------------------------------------------------

SRUN = """#!{python}
# two machines of two processes: a task each, and when all have begun the signal that --signal asks for, to the tasks alone
import os, pathlib, signal, subprocess, sys, time
words = [w for w in sys.argv[1:] if not w.startswith("--kill")] if sys.argv[1].startswith("--kill") else sys.argv[1:]
tasks = [subprocess.Popen(words, env=os.environ | {{"SLURM_NODEID": str(i)}}) for i in range(2)]
deadline = time.time() + 120
while len(list(pathlib.Path({seen!r}).glob("begun*"))) < 4 and time.time() < deadline and all(t.poll() is None for t in tasks):
    time.sleep(0.05)
for task in tasks:
    task.send_signal(signal.SIGTERM)
sys.exit(max(task.wait() for task in tasks))
"""
STAND_IN = """
import os, pathlib, signal, sys, time
rank, seen = os.environ["RANK"], pathlib.Path({seen!r})
def save(*_):
    time.sleep(0.5)  # the launcher must not end a process that saves
    (seen / f"saved{{rank}}").write_text(" ".join([os.environ["WORLD_SIZE"], *sys.argv[1:]]))
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
(seen / f"begun{{rank}}").touch()
while True:
    time.sleep(0.05)
"""


def test_a_slurm_job_starts_all_ranks_and_each_saves_before_the_end(tmp_path):
    script = ROOT / "recipes/accelerate_configs/launch.slurm"
    assert "#SBATCH --signal=TERM@" in script.read_text()
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0
    seen, programs = tmp_path / "seen", tmp_path / "bin"
    seen.mkdir(), programs.mkdir()
    (programs / "srun").write_text(SRUN.format(python=sys.executable, seen=str(seen)))
    (programs / "scontrol").write_text("#!/bin/sh\necho 127.0.0.1\nsleep 0.2\necho 127.0.0.2\n")  # in parts
    for program in programs.iterdir():
        program.chmod(0o755)
    (tmp_path / "recipe.py").write_text(STAND_IN.format(seen=str(seen)))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}", "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "2", "MASTER_PORT": str(port),
    }  # fmt: skip
    words = [str(tmp_path / "recipe.py"), "--train_file", "my essays.csv"]
    done = subprocess.run(["bash", str(script), *words], env=environment, capture_output=True, text=True, timeout=300)
    saved = {path.name: path.read_text() for path in seen.glob("saved*")}
    assert saved == {f"saved{i}": "4 --train_file my essays.csv --resume_from_checkpoint auto" for i in range(4)}, done.stderr
    assert done.returncode == 0, done.stderr
    none = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True)
    assert none.returncode == 2 and none.stderr.startswith("usage: sbatch")


if __name__ == "__main__":
    try:
        work(Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3]))
    except BaseException:  # the other process will say that this one is gone
        (Path(sys.argv[1]) / f"failed {os.environ['RANK']}").write_text(f"{time.time()} {traceback.format_exc()}")
        raise
