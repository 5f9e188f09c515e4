"""The device of each worker process."""

from __future__ import annotations

import pytest

from trials.execution.workers import place
from trials.tasks.specs import ModelSpec


@pytest.mark.parametrize(
    ("count", "gpus", "placed"),
    [
        (2, 0, [("auto", 2), ("auto", 2)]),
        (2, 1, [("cuda:0", 2), ("cuda:0", 2)]),
        (2, 2, [("cuda:0", 1), ("cuda:1", 1)]),
        (3, 2, [("cuda:0", 2), ("cuda:1", 1), ("cuda:0", 2)]),
        (1, 8, [("cuda:0", 1)]),
    ],
)
def test_workers_take_the_gpus_in_turn(count: int, gpus: int, placed: list[tuple[str, int]]) -> None:
    found = [place(ModelSpec(name="m"), index, count, gpus) for index in range(count)]
    assert [(model.device, sharers) for model, sharers in found] == placed


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:1"])
def test_a_named_device_is_that_of_all_workers(device: str) -> None:
    given = ModelSpec(name="m", device=device)
    assert [place(given, index, 2, gpus=4) for index in range(2)] == [(given, 2)] * 2
