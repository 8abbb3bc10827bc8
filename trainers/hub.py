"""What goes to the Hub and how: a model's folder in one commit, and a look at it as a stranger has it."""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError

from .artifact import FILE_NAME
from .parser import ConfigurationError

logger = logging.getLogger(__name__)
logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for each request would drown the rest

TRAINING_BRANCH = "training"
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "adapter_config.json", "hybrid.json")
PUBLISHED = (
    *WEIGHTS, "README.md", FILE_NAME, "metrics.json", "config.json", "generation_config.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt",
    "*.model", "chat_template.jinja", "knowledge_tracing.py", "record_transformer.py", "sequential_recommender.py",
    "path_transformer.py", "prerequisite_encoder.py",
    "openings.json", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "1_Pooling/config.json",
    "reranker/*.json", "reranker/model.safetensors", "figures/*.png",
)  # fmt: skip
"""What of a model's folder goes to the Hub. Not what was learnt from (predictions.csv and rejected_rows.csv name rows), not
options.yaml (paths of this machine), no checkpoint, no pickle."""
LOCAL = ("catalogue.safetensors",)
"""What a name above would let through: embeddings of a school's own texts."""
PARTS = ("prerequisite_model",)
"""Folders of a model's folder that hold a model of their own."""
OWN_CACHES_AND_TOKENS = (
    "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_XET_CACHE", "HF_ASSETS_CACHE", "TRANSFORMERS_CACHE", "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH",
)  # fmt: skip
"""Environment variables that a stranger does not share."""
TOLERANCE = 1e-3
"""How far, in units of the prediction, that of a published model may lie from the local one."""


class PublishingError(RuntimeError):
    """The model is complete on disk but not, or not rightly, on the Hub."""

    exit_code = 2


def published_files(folder: Path) -> list[str]:
    """The files of a model's folder that are published, as paths in it.

    Raises:
        ConfigurationError: The folder holds no finished model.
    """
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    inside = {f: f.partition("/")[2] if f.partition("/")[0] in PARTS else f for f in files}
    files = [f for f in files if "checkpoint-" not in f and any(fnmatch(inside[f], pattern) for pattern in PUBLISHED)]
    files = [
        f for f in files if f not in LOCAL and ("/" not in inside[f] or f.startswith(("figures/", "1_Pooling/", "reranker/")))
    ]
    for name in files:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise ConfigurationError(f"{name} in {folder} is a link to elsewhere; put the file itself there to publish it.")
    for name in (FILE_NAME, "README.md"):
        if name not in files:
            raise ConfigurationError(f"{folder} holds no finished model: there is no {name} in it.")
    return files


def check_access(name: str, token: str | None = None, private: bool | None = None) -> str:
    """Create the repository if need be. Returns its full name, user/name.

    Raises:
        PublishingError: The Hub cannot be reached or refuses.
    """
    try:
        if constants.HF_HUB_OFFLINE:
            raise ConnectionError("HF_HUB_OFFLINE is set")
        api = HfApi(token=token)
        name = api.create_repo(name, private=private, exist_ok=True).repo_id
        try:  # a repository that is there already may be somebody else's
            api.auth_check(name, write=True)
        except HfHubHTTPError as error:
            if error.response.status_code in (401, 403):  # a Hub that does not know this question says something else
                raise
        return name
    except Exception as error:  # the client raises HfHubHTTPError, OSError, RuntimeError, ConnectionError, ValueError
        raise PublishingError(what_went_wrong(error)) from error


def publish(
    folder: str | Path, name: str, token: str | None = None, private: bool | None = None, message: str = "Publish the model"
) -> CommitInfo:
    """Upload a model's folder in one commit, so that the branch holds all of it or nothing.

    What was uploaded before a failure is not uploaded again. Weights that lie on the Hub from an earlier publication and are
    not in the folder are deleted in the same commit.

    Args:
        folder: Written by a recipe.
        name: user/name, or a name alone for the token's user.
        token: None for the one of `hf auth login` or HF_TOKEN.
        private: Whether a new repository is private.
        message: Of the commit.

    Raises:
        ConfigurationError: The folder holds no finished model.
        PublishingError: The Hub could not be reached or refused; the message says how to finish.
    """
    folder = Path(folder)
    files = published_files(folder)
    api = HfApi(token=token)
    try:
        name = check_access(name, token, private)
        there = api.list_repo_files(name)
        stale = [f for f in there if f not in files and any(fnmatch(f, pattern) for pattern in WEIGHTS)]
        operations = [CommitOperationAdd(f, _for_the_hub(folder / f, folder.absolute().name, name)) for f in files]
        operations += [CommitOperationDelete(f) for f in stale]
        return api.create_commit(name, operations, commit_message=message)
    except PublishingError as error:
        raise PublishingError(f"{error} {how_to_finish(folder, name)}") from error
    except Exception as error:
        raise PublishingError(f"{what_went_wrong(error)} {how_to_finish(folder, name)}") from error


def push_checkpoint(folder: str | Path, name: str, token: str | None, step: int) -> Future:
    """Push the weights, configuration and tokenizer of a checkpoint to the branch `TRAINING_BRANCH`, in the background.

    The files are copied first: the checkpoint may be deleted while they are on their way.
    """
    copy = Path(tempfile.mkdtemp(prefix="edu_recipes_"))
    files = [p for p in Path(folder).iterdir() if p.is_file() and any(fnmatch(p.name, pattern) for pattern in PUBLISHED)]
    for path in files:
        shutil.copy(path, copy / path.name)

    def push() -> CommitInfo:
        try:
            api = HfApi(token=token)
            api.create_branch(name, branch=TRAINING_BRANCH, exist_ok=True)
            operations = [CommitOperationAdd(path.name, str(copy / path.name)) for path in files]
            return api.create_commit(name, operations, commit_message=f"Step {step}", revision=TRAINING_BRANCH)
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    pool = ThreadPoolExecutor(max_workers=1)
    try:
        return pool.submit(push)
    finally:
        pool.shutdown(wait=False)


def _for_the_hub(path: Path, local_name: str, name: str) -> str | bytes:
    """A file as it is; the card names the model as it is called on the Hub."""
    if path.name != "README.md":
        return str(path)
    return path.read_text(encoding="utf-8").replace(f'("{local_name}"', f'("{name}"').encode()


def how_to_finish(folder: str | Path, name: str) -> str:
    """The one command that publishes what lies in the folder."""
    return f"The model is complete in {folder}. To finish: python recipes/publish.py --model {folder} --hub_model_id {name}"


def what_went_wrong(error: BaseException) -> str:
    """An error of the Hub's client in one line, without addresses that hold secrets."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    cause = error.__cause__
    while status is None and cause is not None:
        status, cause = getattr(getattr(cause, "response", None), "status_code", None), cause.__cause__
    reasons = {
        401: "the Hub does not know the token (401): run `hf auth login`, or set HF_TOKEN.",
        403: "the token may not write there (403): use one with write access, or your own name in --hub_model_id.",
        404: "the Hub does not find the repository (404): check --hub_model_id.",
        412: "somebody else has just changed the repository (412).",
        429: "the Hub asks to wait (429).",
    }
    if status in reasons:
        return f"not published: {reasons[status]}"
    if status is not None and status >= 500:
        return f"not published: the Hub has a problem of its own ({status})."
    first = re.sub(r"https?://\S+", "the Hub", str(error).strip().split("\n")[0])[:200]
    return f"not published: {type(error).__name__}: {first}."


# ---- a stranger's view ----------------------------------------------------------------------------------------------


def predict_as_a_stranger(
    name: str, revision: str, task: str, inputs: dict[str, Sequence], token: str | None = None
) -> dict[str, list]:
    """Load a published model by its name in a fresh process with an empty cache, and predict.

    Args:
        name: user/name.
        revision: A commit.
        task: Module of `trainers` whose `load` gives something with `predict_columns`.
        inputs: What `predict_columns` takes; goes through a pipe and is written nowhere.
        token: Passed on only where the repository is private.

    Raises:
        PublishingError: The model cannot be loaded.
    """
    job = json.dumps({"name": name, "revision": revision, "task": task, "inputs": inputs})
    private = HfApi(token=token).model_info(name).private
    with tempfile.TemporaryDirectory() as home:
        env = {k: v for k, v in os.environ.items() if k not in OWN_CACHES_AND_TOKENS} | {"HF_HOME": home}
        if private and (token := token or get_token()):
            env["HF_TOKEN"] = token
        done = subprocess.run([sys.executable, "-m", __name__], input=job, capture_output=True, text=True, env=env)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise PublishingError(f"--verify_push: {name} cannot be loaded from the Hub: {last[0][:300]}")
    return json.loads(done.stdout.splitlines()[-1])


def verify(commit: CommitInfo, model: Any, task: str, inputs: dict[str, Sequence], token: str | None = None) -> None:
    """Whether what was published predicts as `model` does; see `predict_as_a_stranger` and `compare_predictions`.

    Args:
        commit: See `publish`.
        model: What the task's `load` gives for the folder here.
        task: The recipe's name.
        inputs: What `model.predict_columns` takes.
        token: For a private repository.

    Raises:
        PublishingError: The model cannot be loaded from the Hub, or predicts otherwise.
    """
    name = commit.repo_url.repo_id
    published = predict_as_a_stranger(name, commit.oid, task, inputs, token)
    compare_predictions(model.predict_columns(**inputs), published, name)
    logger.info("verified: %s predicts as the model here, in a fresh process", name)


def compare_predictions(local: dict[str, Sequence], published: dict[str, Sequence], name: str) -> None:
    """Whether two tables of predictions are the same.

    Raises:
        PublishingError: A column is missing, a number differs by more than `TOLERANCE`, or anything else differs at all.
    """
    for column, values in local.items():
        ours, theirs = np.asarray(values), np.asarray(published.get(column, []))
        if ours.shape != theirs.shape:
            raise PublishingError(f"--verify_push: {name} gives {len(theirs)} rows of '{column}', here there are {len(ours)}.")
        if ours.dtype.kind in "fiu":
            differ = ~np.isclose(ours.astype(float), theirs.astype(float), atol=TOLERANCE, rtol=0, equal_nan=True)
        else:
            differ = ours.astype(str) != theirs.astype(str)
        if differ.any():
            raise PublishingError(
                f"--verify_push: {name} predicts otherwise than the model here: '{column}' differs in {int(differ.sum())} of "
                f"{len(ours)} rows."
            )


def main() -> None:
    """The fresh process: a job from standard input, predictions to standard output."""
    job = json.load(sys.stdin)
    scorer = importlib.import_module(f"trainers.{job['task']}").load(job["name"], job["revision"])
    columns: dict[str, Any] = scorer.predict_columns(**job["inputs"])
    print(json.dumps({name: np.asarray(values).tolist() for name, values in columns.items()}))


if __name__ == "__main__":
    main()
