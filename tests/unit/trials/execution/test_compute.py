"""The number of threads that suits the cores, the processes and the base model."""

from __future__ import annotations

import pytest
import torch

from trials.execution.compute import Compute, ThreadCount


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen logical cores, of which PyTorch uses eight."""
    monkeypatch.setattr("trials.base.cores.usable_cores", lambda: 16)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)


@pytest.mark.parametrize(("processes", "threads"), [(1, 8), (2, 8), (3, 5), (8, 2), (40, 1)])
def test_processes_divide_the_cores(processes, threads):
    compute = Compute(processes=processes)
    assert compute.most_threads() == threads
    assert compute.threads_for(768, "cpu") == threads


def test_a_small_model_gets_one_thread():
    assert Compute().threads_for(96, "cpu") == 1
    assert Compute(chunk_tokens=256).threads_for(768, "cpu") == 1
    assert Compute(chunk_tokens=8192).threads_for(96, "cpu") == 8


def test_what_the_sweep_file_says_counts():
    compute = Compute(threads=3, processes=40)
    assert compute.most_threads() == compute.threads_for(96, "cpu") == 3


def test_the_first_number_is_restored(monkeypatch):
    monkeypatch.undo()
    before, count = torch.get_num_threads(), ThreadCount()
    count.restore()
    count.set(before + 1)
    count.set(before + 2)
    assert torch.get_num_threads() == before + 2
    count.restore()
    count.restore()
    assert torch.get_num_threads() == before
