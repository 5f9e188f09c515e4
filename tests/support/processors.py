"""Tests that depend on the CPU: when they are skipped, and how others run as on a CPU with fewer instructions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping

import pytest
import torch

from search_spaces.errors import InvalidInputError
from trials.base import processor
from trials.base.int8_linear import check_int8


def refusal_of_int8() -> str | None:
    """Return why `precision: int8` is refused on this machine; None if it is not."""
    try:
        check_int8(torch.device("cpu"))
    except InvalidInputError as error:
        return str(error)
    return None


needs_vnni = pytest.mark.skipif(
    (reason := refusal_of_int8()) is not None,
    reason=f"needs a CPU with one of {', '.join(processor.VNNI)}; of {processor.model_name()}: {reason}",
)

ROUNDING = 2**-21
"""How far a product in int8 may be from that of another kernel, relative to it. The sums of up to 500 columns are
exact in fp32. Each kernel then rounds four times at most, by 2**-24 each: the row's scale, the output's scale, their
product, and the row's largest magnitude."""


def run_limited(limits: Mapping[str, str], selected: str, *paths: str) -> int:
    """Run tests in another process under environment variables that limit the instruction sets.

    Args:
        limits: The variables, such as ONEDNN_MAX_CPU_ISA, that libraries read when they start.
        selected: The expression after `-k`.
        paths: The files with the tests, relative to the repository.

    Returns:
        How many tests passed; none failed.
    """
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-o",
        "addopts=",
        "-p",
        "no:cacheprovider",
        "-k",
        selected,
        *paths,
    ]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(command, env={**environment, **limits}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    header = next(line for line in done.stdout.splitlines() if line.startswith("kernels: "))
    assert all(f"{name}={value}" in header for name, value in limits.items()), header
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None, done.stdout
    return int(passed[1])
