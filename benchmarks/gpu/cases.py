"""What each part measures."""

from __future__ import annotations

from pathlib import Path

from benchmarks.gpu.comparison import Case, compare
from benchmarks.gpu.models import FULL, TINY
from benchmarks.gpu.operations import count_operations
from benchmarks.gpu.parts import run_quickstart, run_tests
from benchmarks.gpu.report import Report

CASES = {
    "minilm-bf16": Case("encoder", 0, "fp32", "bf16", batch=32, steps=40, held_out=256),
    "minilm-fp32": Case("encoder", 0, "fp32", "fp32", batch=32, steps=40, held_out=256),
    "decoder-256-bf16": Case("decoder", 256, "bf16", "bf16", batch=8, steps=12),
    "decoder-1024-bf16": Case("decoder", 1024, "bf16", "bf16", batch=4, steps=8, held_out=16),
    "decoder-256-nf4": Case("decoder", 256, "nf4", "bf16", batch=8, steps=12),
    "decoder-1024-nf4": Case("decoder", 1024, "nf4", "bf16", batch=4, steps=8, held_out=16),
}
"""By the part that compares it with Trainer."""
PROFILED = {"operations-decoder": "decoder-256-bf16", "operations-minilm": "minilm-bf16"}
"""By the part that counts its operations, the case."""
_TINY_TRIALS = 2


def run(part: str, device: str, tiny: bool, folder: Path, report: Report) -> None:
    """Run a part in this process."""
    import transformers

    transformers.logging.set_verbosity_error()
    sizes = TINY if tiny else FULL
    case = CASES.get(PROFILED.get(part, part))
    if case is not None:
        measure = count_operations if part in PROFILED else compare
        measure(case.tiny() if tiny else case, device, folder, sizes, report)
    elif part == "card":
        import torch

        from benchmarks.gpu.card import describe, measured_peaks

        report.add(card=describe(torch.device(device)))
        report.add(peaks=measured_peaks(torch.device(device), sizes.peak))
    elif part == "tests":
        run_tests(report, folder)
    else:
        run_quickstart(report, folder, device, _TINY_TRIALS if tiny else None)
