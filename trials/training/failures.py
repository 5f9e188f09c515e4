"""The conversion of an exception in a trial to the trial's result, and the classification of such exceptions."""

from __future__ import annotations

import gc
import traceback

import torch

from search_spaces.errors import InvalidInputError, first_line
from trials.records import FailureKind, TrialResult, TrialStatus
from trials.scoring.own import OwnScoreError
from trials.training.out_of_memory import is_out_of_memory
from trials.training.run import DivergedError

_OUR_PACKAGES = ("search_spaces", "trials", "surrogates", "autotune")
_REJECTIONS = (ValueError, RuntimeError, IndexError)
"""The exceptions with which peft, transformers and torch reject a configuration that does not suit the model."""
_MAX_TRACEBACK = 20_000
"""Characters of a traceback that are kept, from its end: a result is one row of a database."""


def failure(error: Exception, device: torch.device, seconds: float) -> TrialResult:
    """Build the result of a trial that an exception ended, and free the memory of the failed step.

    Args:
        error: The exception, of any kind: one trial's error never ends the other trials.
        device: The device of the base model.
        seconds: The wall time of the trial so far, in seconds.

    Raises:
        OSError: The exception itself, because it concerns the machine (a full disk) and would end every trial.
    """
    if isinstance(error, OSError):
        raise error
    kind, line = failure_kind(error), first_line(error)
    match kind:
        case FailureKind.DIVERGED:
            message = str(error)
        case FailureKind.OUT_OF_MEMORY:
            message = f"out of memory: {line}"
        case FailureKind.REJECTED if isinstance(error, OwnScoreError):
            message = f"your own score: {line}"
        case FailureKind.REJECTED:
            message = f"{type(error).__name__}: {line}"
        case FailureKind.INTERNAL:
            message = f"internal error ({type(error).__name__}: {line})"
    text = "".join(traceback.format_exception(error))[-_MAX_TRACEBACK:]
    # The frames of the traceback hold the tensors of the failed step.
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return TrialResult(TrialStatus.FAILED, error=message, failure=kind, traceback=text, seconds=seconds)


def failure_kind(error: Exception) -> FailureKind:
    """Classify an exception that ended a trial.

    An error of the user's own score counts as a rejection. A ValueError, RuntimeError or IndexError is a rejection of
    the configuration if another library raised it, and an internal error if the innermost frame is code of this
    project. Exceptions of other types, such as AssertionError and TypeError, are internal errors wherever they come
    from.
    """
    if isinstance(error, DivergedError):
        return FailureKind.DIVERGED
    if is_out_of_memory(error):
        return FailureKind.OUT_OF_MEMORY
    if isinstance(error, InvalidInputError | OwnScoreError):
        return FailureKind.REJECTED
    if isinstance(error, _REJECTIONS) and not _is_raised_by_us(error):
        return FailureKind.REJECTED
    return FailureKind.INTERNAL


def _is_raised_by_us(error: Exception) -> bool:
    """Return whether the innermost Python frame of the traceback is code of this project."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not frames:
        return False
    module = str(frames[-1].f_globals.get("__name__", ""))
    return module.partition(".")[0] in _OUR_PACKAGES
