"""What is said of the CPU, and what follows from it."""

from __future__ import annotations

import re
import runpy

import pytest
import torch

from search_spaces.errors import InvalidInputError
from trials.base import processor
from trials.base.cores import usable_cores
from trials.base.int8_linear import check_int8
from trials.base.model import choose_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("has", "dtype", "int8"),
    [
        ((), torch.float32, False),
        (("avx2", "avx512_f"), torch.float32, False),
        (("avx2", "avx_vnni"), torch.float32, True),
        (("avx512_f", "avx512_vnni", "avx512_bf16"), torch.float32, True),
        (("avx512_f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"), torch.bfloat16, True),
    ],
)
def test_precision_follows_the_instructions(has, dtype, int8, monkeypatch):
    known = {**dict.fromkeys(processor.INSTRUCTIONS, False), **dict.fromkeys(has, True), "cpu_name": "any"}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    assert set(processor.instructions()) == set(has)
    assert choose_dtype("auto", CPU) == dtype
    if int8:
        check_int8(CPU)
    else:
        with pytest.raises(InvalidInputError, match="no VNNI instructions"):
            check_int8(CPU)


def test_a_pytorch_that_does_not_know_the_processor_computes_in_fp32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert processor.instructions() == ()
    assert choose_dtype("auto", CPU) == torch.float32


def test_the_description_has_the_name_limits_and_versions(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
    monkeypatch.setattr(processor, "version", lambda name: {"torch": "1.2.3"}.get(name) or missing(name))
    text = "\n".join(processor.describe())
    assert f"processor: {processor.model_name()}, {usable_cores()} cores" in text
    assert "limited by ONEDNN_MAX_CPU_ISA=AVX2" in text
    assert "torch 1.2.3, bitsandbytes not installed" in text
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    assert "limited" not in "\n".join(processor.describe())


def missing(name: str) -> str:
    raise processor.PackageNotFoundError(name)


def test_the_command_prints_the_description_and_what_onednn_says(capsys):
    runpy.run_path(processor.__file__, run_name="__main__")
    *described, onednn = capsys.readouterr().out.splitlines()
    assert described == processor.describe()
    if torch.backends.mkldnn.is_available():
        assert re.fullmatch(r"oneDNN: v[\d.]+, .+", onednn)
