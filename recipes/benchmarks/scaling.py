"""Measure how much faster two processes train than one: samples a second, and the efficiency.

    python recipes/benchmarks/scaling.py
    python recipes/benchmarks/scaling.py --processes 1 2 4 --steps 30 --result_file scaling.json

The recipe's own trainer trains the sample school, every process with one thread and a batch of its own (so the batch that counts
grows with them), gloo between them. Efficiency is samples a second by those of one process times the number of processes. Runs go
up and down (1, 2, 2, 1), so that a drift of the machine meets all alike; a rate is the mean of both. An update is timed from the
end of the third to the end of the last, with its collating, its exchange of gradients and its optimizer step.

No more processes than cores, or they take each other's.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

RECIPES = {
    "essay_scoring": ["--per_device_train_batch_size", "16"],
    "knowledge_tracing": ["--per_device_train_batch_size", "32"],
}
WARM_UP = 3  # untimed updates


class _Trained(Exception):
    """What is to be measured is measured; the rest of the recipe is not needed."""


def work(recipe: str, steps: int, result_file: str) -> None:
    """What a process does: train so many updates, and write samples a second of all processes."""
    import torch
    from transformers import EarlyStoppingCallback, TrainerCallback

    from trainers import base
    from trainers.throughput import load_script

    class Clock(TrainerCallback):
        start = seconds = epochs = 0.0

        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == WARM_UP:
                self.start = time.perf_counter()
            self.seconds, self.epochs = time.perf_counter() - self.start, state.epoch

    def fit(trainer):
        clock = Clock()
        trainer.remove_callback(EarlyStoppingCallback)  # nothing is evaluated
        trainer.add_callback(clock)
        trainer.train()
        if trainer.is_world_process_zero():
            samples = clock.epochs * len(trainer.train_dataset) * (1 - WARM_UP / steps)
            Path(result_file).write_text(json.dumps(samples / clock.seconds))
        raise _Trained

    torch.set_num_threads(1)
    base.use_all_cores = lambda: None  # one thread it is
    base.EduTrainer.fit = fit
    module = load_script(Path(__file__).parent.parent / f"{recipe}.py")
    words = ["--max_steps", str(steps), "--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "false"]
    try:
        with tempfile.TemporaryDirectory() as folder:
            module.main([*RECIPES[recipe], *words, "--output_dir", folder, "--disable_tqdm", "true"])
    except _Trained:
        pass


def rate(recipe: str, processes: int, steps: int) -> float:
    """Samples a second of one run."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), __file__]
        words = ["--work", recipe, "--steps", str(steps), "--result_file", str(result)]
        done = subprocess.run([*command, *words], env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-3000:])
        return json.loads(result.read_text())


def main(argv: list[str] | None = None) -> dict:
    """Measure, print a table, and return recipe -> processes -> samples a second of each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=list(RECIPES), help="which to run")
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2], help="numbers of processes, 1 first")
    parser.add_argument("--steps", type=int, default=15, help="updates of a run, three of them untimed")
    parser.add_argument("--result_file", help="write the rates there, too (json)")
    parser.add_argument("--work", choices=list(RECIPES), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.steps <= WARM_UP or args.processes[0] != 1:
        parser.error(f"--steps must be more than {WARM_UP}, and --processes begins with 1")
    if args.work:
        return work(args.work, args.steps, args.result_file)
    found = {}
    for recipe in args.recipes:
        found[recipe] = {n: [] for n in args.processes}
        for n in [*args.processes, *reversed(args.processes)]:
            found[recipe][n].append(rate(recipe, n, args.steps))
    print("| recipe | processes | samples a second, up and down | mean | efficiency |\n| --- | --- | --- | --- | --- |")
    for recipe, rates in found.items():
        for n, own in rates.items():
            each = ", ".join(f"{value:.1f}" for value in own)
            print(f"| {recipe} | {n} | {each} | {mean(own):.1f} | {mean(own) / mean(rates[1]) / n:.0%} |")
    if args.result_file:
        Path(args.result_file).write_text(json.dumps(found, indent=1) + "\n")
    return found


if __name__ == "__main__":
    main()
