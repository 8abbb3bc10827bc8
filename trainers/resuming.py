"""Which checkpoint a run goes on from: the last one that is whole."""

from __future__ import annotations

import json
import logging
import shutil
import zlib
from pathlib import Path

from accelerate.utils import broadcast_object_list
from transformers.trainer_utils import sort_checkpoints

from .arguments import RecipeTrainingArguments
from .parser import ConfigurationError

logger = logging.getLogger(__name__)

SEAL = "files.json"
"""Written into a checkpoint when all else is there: the size and the checksum of each of its files."""
END = 1 << 27
"""So many bytes at the beginning and at the end of a file are in its checksum: all of most files. A larger one would take long to
read, and its size tells whether it was cut."""


def seal(folder: str | Path) -> None:
    """Note what a finished checkpoint consists of; `what_is_wrong` compares it with what is there."""
    folder = Path(folder)
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.startswith(SEAL)]
    found = {file.relative_to(folder).as_posix(): _fingerprint(file) for file in files}
    unfinished = folder / f"{SEAL}.part"
    unfinished.write_text(json.dumps(found, indent=1), encoding="utf-8")
    unfinished.replace(folder / SEAL)


def what_is_wrong(folder: str | Path) -> str | None:
    """Why a checkpoint cannot be resumed; None where it is whole."""
    folder = Path(folder)
    try:
        sealed = json.loads((folder / SEAL).read_text(encoding="utf-8"))
        for name, (size, checksum) in sealed.items():
            if not (folder / name).is_file():
                return f"{name} is missing"
            found, now = _fingerprint(folder / name)
            if found != size:
                return f"{name} has {found:,} bytes and had {size:,}"
            if now != checksum:
                return f"{name} is no longer what was written"
    except FileNotFoundError:
        return f"its save was not finished (there is no {SEAL})"
    except (OSError, ValueError, TypeError, AttributeError):
        return f"{SEAL} cannot be read"
    return None


def _fingerprint(file: Path) -> list[int]:
    size, checksum = file.stat().st_size, 0
    with file.open("rb") as content:
        for start, end in ((0, min(END, size)), (max(END, size - END), size)):
            content.seek(start)
            while start < end and (part := content.read(min(1 << 20, end - start))):
                checksum, start = zlib.crc32(part, checksum), start + len(part)
    return [size, checksum]


def checkpoint_to_resume(args: RecipeTrainingArguments) -> str | None:
    """The checkpoint that `--resume_from_checkpoint` means: true (must exist), auto, a path, or none for false.

    A checkpoint that is not whole is told and passed over for the one before it, and removed: it will be written again. All
    processes must call this together, and get the same.

    Raises:
        ConfigurationError: There is nothing to resume, nothing that is whole, or it was not said whether to.
    """
    found: list = [None, None]
    if args.process_index == 0:  # one process looks, and all do the same
        try:
            found[0] = _checkpoint_to_resume(args)
        except ConfigurationError as error:
            found[1] = str(error)
    checkpoint, refusal = broadcast_object_list(found) if args.world_size > 1 else found
    if refusal is not None:
        raise ConfigurationError(refusal)
    return checkpoint


def _checkpoint_to_resume(args: RecipeTrainingArguments) -> str | None:
    wanted = args.resume_from_checkpoint
    word = str(wanted).strip().lower() if wanted is not None else None
    checkpoints = sort_checkpoints(args.output_dir)[::-1] if Path(args.output_dir).is_dir() else []
    if word in ("false", "0"):
        return None
    if word is None:
        if checkpoints:
            raise ConfigurationError(
                f"{args.output_dir} holds checkpoints of an unfinished run. Add --resume_from_checkpoint auto to go on, "
                "false to start anew, or name another --output_dir."
            )
        return None
    if word not in ("auto", "true", "1"):
        if not (Path(wanted) / "trainer_state.json").is_file():
            raise ConfigurationError(f"--resume_from_checkpoint {wanted} is no checkpoint: it has no trainer_state.json.")
        if wrong := _what_is_wrong_with_it_or_its_best(Path(wanted), args):
            raise ConfigurationError(f"--resume_from_checkpoint {wanted} is not whole: {wrong}. Name another, or say auto.")
        return str(wanted)
    broken = {}
    for checkpoint in checkpoints:
        if not (wrong := _what_is_wrong_with_it_or_its_best(Path(checkpoint), args)):
            for folder, reason in broken.items():
                logger.warning("%s is not whole: %s. It is passed over and removed.", Path(folder).name, reason)
                shutil.rmtree(folder, ignore_errors=True)
            if broken:
                logger.warning("Resuming from %s, the one before.", Path(checkpoint).name)
            return checkpoint
        broken[checkpoint] = wrong
    told = "; ".join(f"{Path(folder).name}: {reason}" for folder, reason in broken.items())
    if word == "auto" and not any((Path(folder) / SEAL).is_file() for folder in broken):
        if broken:  # it ended inside its first save
            logger.warning("Starting anew, since nothing was saved yet: %s.", told)
        return None
    if broken:
        raise ConfigurationError(
            f"no checkpoint in {args.output_dir} is whole ({told}). Start anew with --resume_from_checkpoint false, or name "
            "another --output_dir."
        )
    raise ConfigurationError(f"there is no checkpoint in {args.output_dir} to resume from.")


def _what_is_wrong_with_it_or_its_best(checkpoint: Path, args: RecipeTrainingArguments) -> str | None:
    """The run ends with the best checkpoint so far, so that has to be whole, too; where it is gone, Trainer does without."""
    if wrong := what_is_wrong(checkpoint):
        return wrong
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    best = checkpoint.parent / f"checkpoint-{state.get('best_global_step')}"
    if args.load_best_model_at_end and best != checkpoint and best.is_dir() and (wrong := what_is_wrong(best)):
        return f"{best.name}, the best before it, is not whole ({wrong})"
    return None
