"""Kernels for CPUs with fewer instructions compute the same, up to rounding: PyTorch and oneDNN are limited to them.

The kernels of CPUs with more instructions cannot be forced. What they do otherwise is imitated where it matters:
`with_inference_kernel` in test_quantization.py, `multiplied_as_by_amx` in test_int8_linear.py.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.processors import needs_vnni, run_limited
from trials.base import processor

INT8 = "tests/unit/trials/base/test_int8_linear.py"
FOUR_BITS = "tests/contract/trials/base/test_quantization.py"
PACKS = "tests/contract/trials/packing/test_pack.py"

WITHOUT_AVX = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
AVX512 = {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}
VNNI = {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}
BF16 = {"ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}


def limited(limits: dict[str, str], needs: str, *marks: pytest.MarkDecorator) -> object:
    """Limits as a parameter; skipped where the CPU lacks the instruction set `needs`, which they leave."""
    lacks = pytest.mark.skipif(needs not in processor.instructions(), reason=f"needs a CPU with {needs}")
    return pytest.param(limits, id=limits["ONEDNN_MAX_CPU_ISA"], marks=[lacks, *marks])


WITHOUT_VNNI = [
    limited(WITHOUT_AVX, "avx2", pytest.mark.slow),
    limited(AVX2, "avx2"),
    limited(AVX512, "avx512_f", pytest.mark.slow),
]
WITH_VNNI = [limited(VNNI, "avx512_vnni"), limited(BF16, "avx512_bf16")]


@pytest.mark.parametrize("limits", WITHOUT_VNNI)
def test_int8_is_refused_where_its_sums_would_saturate(limits):
    code = "from tests.support.processors import refusal_of_int8; print(refusal_of_int8())"
    environment = {**os.environ, **limits}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    why = "its sums saturate" if processor.multiplies_int8() else "it has no VNNI instructions"
    assert why in done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("limits", [*WITHOUT_VNNI, *WITH_VNNI])
def test_trials_in_four_bits_and_packs(limits):
    assert run_limited(limits, "keep_their_layout or same_trial or not_in_fp32", FOUR_BITS) >= 9
    assert run_limited(limits, "trains_in_a_pack_as_alone and bert", PACKS) == 1


@needs_vnni
@pytest.mark.slow
@pytest.mark.parametrize("limits", WITH_VNNI)
def test_products_and_trials_in_int8(limits):
    assert run_limited(limits, "test", INT8) > 20
