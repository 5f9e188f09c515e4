"""What can go wrong in a trial, and the result that it then has."""

from __future__ import annotations

import gc

import torch

from search_spaces.errors import first_line
from trials.records import TrialResult, TrialStatus
from trials.training.run import DivergedError

FAILURES = (DivergedError, MemoryError, ValueError, RuntimeError, IndexError)
"""What is the configuration's doing: divergence, running out of memory (torch.OutOfMemoryError is a
RuntimeError), and what peft or the model raises for it. Everything else is raised."""


def failure(error: BaseException, device: torch.device, seconds: float) -> TrialResult:
    """The result of a trial that one of FAILURES ended: the one place where exceptions become statuses."""
    if isinstance(error, DivergedError):
        reason = str(error)
    elif out_of_memory(error):
        reason = f"out of memory: {first_line(error)}"
    else:
        reason = f"{type(error).__name__}: {first_line(error)}"
    gc.collect()  # the failed step's tensors hang on the traceback's frames
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return TrialResult(TrialStatus.FAILED, error=reason, seconds=seconds)


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on the device or in this process."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("can't allocate memory", "not enough memory")
    )
