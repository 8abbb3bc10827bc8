"""What can end a run that nobody's options are to blame for, in words: a full disk, a process that is gone, a signal."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FAILED_WRITE = re.compile(  # as safetensors, torch.save and Arrow say it, without a number to ask for
    rf"os error ({'|'.join(map(str, OUT_OF_SPACE))})\b|[Nn]o space left on device|Disk quota exceeded|File too large"
    "|PytorchStreamWriter failed writing|file write failed|unexpected pos|iostream error"
)
LOST_CONNECTION = re.compile(
    "[Cc]onnection ((closed|reset) by peer|refused)|Broken pipe|Socket closed|remote process exited|communicator was aborted"
)


class RunStopped(RuntimeError):
    """A run that ends before its time, with all that was saved. `parser.run` prints it and ends with its exit code.

    Args:
        message: What happened, what is kept, and what to do.
        exit_code: 2, or 128 and the number of the signal that asked for it.
        of_all: Every process of the run stops with this message; else this one alone, and the others end because it does.
    """

    def __init__(self, message: str, exit_code: int = 2, of_all: bool = True):
        super().__init__(message)
        self.exit_code, self.of_all = exit_code, of_all


class NoFiniteLoss(RunStopped):
    """A loss or a gradient that is not a number, or infinite."""


def is_out_of_space(error: BaseException) -> bool:
    """Whether something could not be written since the disk, the quota or the largest file is full."""
    return any(
        getattr(e, "errno", None) in OUT_OF_SPACE or (isinstance(e, Exception) and bool(FAILED_WRITE.search(str(e))))
        for e in _causes(error)
    )


def in_words(error: Exception) -> Exception:
    """What the user can do something about as a `RunStopped`; any other error as it is."""
    if getattr(error, "exit_code", None):
        return error
    if is_out_of_space(error):
        name = next((e.filename for e in _causes(error) if getattr(e, "filename", None)), None)
        return RunStopped(
            f"there is no space left on the device{f' for {name}' if name else ''} (or the quota is used up). Make room and "
            "start again; a training goes on from its last checkpoint with --resume_from_checkpoint auto.",
            of_all=False,
        )
    of_torch = [str(e) for e in _causes(error) if isinstance(e, RuntimeError)]
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and any(map(LOST_CONNECTION.search, of_torch)):
        return RunStopped(
            "another process of this run has ended, so this one ends, too; if it had a message, that stands above, and if it was "
            "killed, there may have been too little memory. --resume_from_checkpoint auto goes on from the last checkpoint."
        )
    return error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
