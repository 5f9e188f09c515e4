"""The GPU: its name, its software, and how fast it multiplies."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from typing import Any

import torch

from benchmarks.trainer_and_packs import peak_flops
from trials.base.processor import model_name

BF16_PEAKS = (
    ("H200", 989e12),
    ("H100 NVL", 835e12),
    ("H100 PCIe", 756e12),
    ("H100", 989e12),
    ("H800", 989e12),
    ("GH200", 989e12),
    ("B200", 2250e12),
    ("A100", 312e12),
    ("A800", 312e12),
    ("A40", 150e12),
    ("A30", 165e12),
    ("A10G", 70e12),
    ("A10", 125e12),
    ("L40S", 362e12),
    ("L40", 181e12),
    ("L4", 121e12),
    ("RTX 6000 Ada", 364e12),
    ("RTX 4090", 165e12),
    ("RTX 3090", 71e12),
)
"""Words of a card's name and its dense bf16 products with sums in fp32, in FLOPs per second, from NVIDIA's data
sheets; the first row whose words are in the name counts."""


def bf16_peak(name: str) -> float | None:
    """Return the dense bf16 peak of a card in FLOPs per second, or None for a card that is not in the table."""
    for words, peak in BF16_PEAKS:
        if re.search(rf"\b{re.escape(words)}\b", name, re.IGNORECASE):
            return peak
    return None


def describe(device: torch.device) -> dict[str, Any]:
    """Return the names and versions of a device and its software, without computing anything on it."""
    found: dict[str, Any] = {
        "card": model_name(),
        "processor": model_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {"card": properties.name, "memory": properties.total_memory, "driver": _driver()}
    found["nominal_peak"] = bf16_peak(found["card"]) if device.type == "cuda" else None
    return found


def measured_peaks(device: torch.device, size: int) -> dict[str, float]:
    """Return the best products of two square matrices of a size, in FLOPs per second, by dtype."""
    dtypes = {"bf16": torch.bfloat16, "fp32": torch.float32}
    return {name: peak_flops(device, size, 20, dtype) for name, dtype in dtypes.items()}


def _driver() -> str:
    """Return the version of the driver, or `unknown` without nvidia-smi."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return "unknown"
    query = [command, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        ran = subprocess.run(query, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return ran.stdout.split("\n")[0].strip() or "unknown"
