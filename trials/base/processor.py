"""The capabilities of the CPU, on which precisions and kernels depend.

    python -m trials.base.processor

prints them, with the versions of the packages that choose kernels by them. Results that differ between two
machines are often explained by these lines.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from trials.base.cores import usable_cores

INSTRUCTIONS = (
    "avx2",
    "avx512_f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_int8",
    "amx_bf16",
    "amx_fp16",
)
"""The instruction sets, as PyTorch calls them, by which kernels are chosen."""
VNNI = ("avx512_vnni", "avx_vnni", "amx_int8")
"""Those that multiply int8 faster than fp32."""
LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")
"""Environment variables that keep PyTorch and oneDNN from using all of them."""
_PACKAGES = ("torch", "bitsandbytes", "transformers", "peft", "numpy")


def instructions() -> tuple[str, ...]:
    """Return which of `INSTRUCTIONS` the CPU has; none where PyTorch is too old to know."""
    has: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return tuple(name for name in INSTRUCTIONS if has.get(name))


def multiplies_int8() -> bool:
    """Return whether the CPU multiplies int8 faster than fp32."""
    return not set(VNNI).isdisjoint(instructions())


def multiplies_bf16() -> bool:
    """Return whether the CPU has matrix units for bf16, which `precision: auto` is then where nothing is measured."""
    return "amx_bf16" in instructions()


def model_name() -> str:
    """Return the CPU's name, as the operating system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    found = (
        re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    )
    return found[1].strip() if found else platform.processor() or platform.machine()


def memory_gib() -> float:
    """Return the machine's memory in GiB; NaN where the operating system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (AttributeError, ValueError, OSError):
        return float("nan")


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that choose kernels by the CPU."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def onednn_isa() -> str:
    """Return oneDNN's own line on version and instruction set; it prints them in a new process alone (2 s)."""
    code = "import torch; x = torch.randn(64, 64).bfloat16(); x @ x"
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ONEDNN_VERBOSE": "1"},
        capture_output=True,
        text=True,
    ).stdout
    found = [re.search(pattern, printed) for pattern in (r"oneDNN (v[\d.]+)", r"cpu,isa:(.+)")]
    return ", ".join(match[1] for match in found if match) or "not used"


def describe() -> list[str]:
    """Return lines with the CPU, its instruction sets, what follows from them, and the packages' versions."""
    limits = ", ".join(f"{name}={os.environ[name]}" for name in LIMITS if os.environ.get(name))
    return [
        f"processor: {model_name()}, {usable_cores()} cores, {memory_gib():.0f} GiB",
        f"instructions: {' '.join(instructions()) or 'unknown'}",
        f"kernels: PyTorch uses {torch.backends.cpu.get_cpu_capability()}"
        + (f", limited by {limits}" if limits else ""),
        f"precision: auto is {'bf16' if multiplies_bf16() else 'fp32'} where it is not measured; "
        f"int8 is {'available' if multiplies_int8() else 'refused (no VNNI)'}",
        "versions: " + ", ".join(f"{name} {number}" for name, number in versions().items()),
    ]


if __name__ == "__main__":
    print(*describe(), f"oneDNN: {onednn_isa()}", sep="\n")
