"""edu_recipes.json: what a trained model needs beside its weights, in one file in its folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .parser import ConfigurationError

if TYPE_CHECKING:  # a model is published without torch
    from .checkpoints import Checkpoint

FILE_NAME = "edu_recipes.json"
Settings = TypeVar("Settings")


@dataclass
class Artifact:
    """The content of edu_recipes.json.

    Attributes:
        task: The recipe.
        settings: The task's own: template, length, ranges, calibration.
        base_model: Name, revision and sha256 of the checkpoint the training started from; empty where there was none.
        version: Of edu-recipes.
        license: Of the base checkpoint, where known.
    """

    task: str
    settings: dict
    base_model: dict
    version: str
    license: str | None = None

    def save(self, folder: str | Path) -> None:
        """Write it into a model's folder."""
        (Path(folder) / FILE_NAME).write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def read_settings(self, kind: type[Settings]) -> Settings:
        """The settings as the dataclass `kind` of its task.

        Raises:
            ConfigurationError: Another version wrote other settings.
        """
        try:
            return kind(**self.settings)
        except TypeError as error:
            raise ConfigurationError(
                f"{FILE_NAME} was written by version {self.version}: {error}. Update edu-recipes."
            ) from error


def new_artifact(task: str, settings: dict, base: Checkpoint | None) -> Artifact:
    """An artifact of this version of edu-recipes; `base` is None for a model that was trained from scratch."""
    if base is None:
        return Artifact(task, settings, {}, edu_recipes_version(), "apache-2.0")
    base_model = {"name": base.name, "revision": base.revision, "sha256": base.sha256()}
    base_model["quantization"] = base.quantization
    return Artifact(task, settings, base_model, edu_recipes_version(), base.licence)


def load_artifact(checkpoint: Checkpoint, task: str | None = None) -> Artifact:
    """Read edu_recipes.json of a trained model; of any task where none is named.

    Raises:
        ConfigurationError: The model has none, or is another task's.
    """
    path = checkpoint.file(FILE_NAME)
    if path is None:
        raise ConfigurationError(
            f"{checkpoint.name} has no {FILE_NAME}: it was not trained by a recipe, or was copied without that file."
        )
    try:
        artifact = Artifact(**json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, TypeError) as error:
        raise ConfigurationError(f"{path.name} of {checkpoint.name} is damaged: {error}") from error
    if task is not None and artifact.task != task:
        raise ConfigurationError(f"{checkpoint.name} was trained for {artifact.task}, not for {task}.")
    return artifact


def edu_recipes_version() -> str:
    """The installed version; 'unknown' where the sources run without being installed."""
    try:
        return metadata.version("edu-recipes")
    except metadata.PackageNotFoundError:
        return "unknown"
