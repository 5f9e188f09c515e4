"""The chunk sizes that a sweep leaves open, and the choice among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotune.calibrate.bench import Bench
from autotune.calibrate.candidates import Candidate
from autotune.calibrate.chunk_size import choose_chunk_size, chunk_sizes, differing
from autotune.calibrate.layout import Layout
from autotune.calibrate.race import Race
from autotune.prepare.bound_base import bind_base
from autotune.sweep.schema import Sweep
from tests.support.sweeps import small_sweep
from trials.packing.pack import Pack

SIZES = (64, 32, 128)


@pytest.fixture
def sweep(tiny_model: Callable[[str], Path], reviews: Path) -> Sweep:
    return small_sweep(tiny_model("bert"), reviews)


@pytest.fixture
def bench(sweep: Sweep) -> Bench:
    own = bind_base(sweep)
    return Bench(sweep.model, sweep.task, own.data, own.space.defaults()[0], False, 1)


def open_sizes(
    sweep: Sweep, longest: int = 128, *, family: str = "lora", is_isolated: bool = False, **executor: Any
) -> tuple[int, ...]:
    own = sweep.model_copy(update={"executor": sweep.executor.model_copy(update=executor)})
    return chunk_sizes(own, {"family": family}, longest, is_isolated=is_isolated)


def choose(bench: Bench, batch_size: int = 32, rate: float = 1e6, trials: int = 2) -> tuple[int, str]:
    return choose_chunk_size(
        bench,
        Candidate("fp32"),
        Layout(1, 1, trials),
        SIZES,
        batch_size=batch_size,
        rate=rate,
        deadline=bench.clock() + 60.0,
    )


def test_half_and_twice_the_usual_size_are_open(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_sizes(sweep) == (2048, 1024, 4096)
    monkeypatch.setattr("trials.base.model.choose_device", lambda name: __import__("torch").device("cuda"))
    assert open_sizes(sweep) == (65536, 32768, 131072)


def test_a_smaller_chunk_holds_the_longest_example(sweep: Sweep) -> None:
    assert open_sizes(sweep, longest=1024) == (2048, 1024, 4096)
    assert open_sizes(sweep, longest=1025) == (2048, 4096)
    assert open_sizes(sweep, longest=3000) == (2048, 4096)


def test_nothing_is_open_if_it_is_set_or_cannot_matter(sweep: Sweep) -> None:
    assert open_sizes(sweep, chunk_tokens=512) == ()
    assert open_sizes(sweep, name="ray") == ()
    assert open_sizes(sweep, is_isolated=True) == ()
    assert open_sizes(sweep, family="lily") == (), "its adapters mix the rows of a batch"


def test_sizes_that_divide_rows_alike_do_not_race() -> None:
    rows = np.full(48, 32)  # 1,536 tokens
    assert differing(rows, (2048, 1024, 4096), cost=64) == [2048, 1024]
    assert differing(rows[:32], (2048, 1024, 4096), cost=64) == [2048]
    assert differing(np.tile(rows, 3), (2048, 1024, 4096), cost=64) == [2048, 1024, 4096]


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({64: 1.0, 32: 0.97, 128: 0.96}, 64),
        ({64: 1.0, 32: 0.97, 128: 0.8}, 128),
        ({64: 1.0, 32: 0.5}, 32),
        ({32: 0.5, 128: 0.6}, 64),  # the usual one was not timed
        ({}, 64),
    ],
)
def test_the_usual_size_is_kept_unless_another_is_faster(
    seconds: Mapping[int, float], best: int, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Race, "run", lambda *_: seconds)
    found, reason = choose(bench)
    assert found == best
    assert bool(reason) == (best != 64)


def test_the_reason_names_both_sizes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Race, "run", lambda *_: {64: 1.0, 128: 0.8})
    assert choose(bench) == (128, "chunks of 128 tokens instead of the usual 64, 1.25 times as fast")


def test_small_batches_and_little_time_keep_the_usual_size(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Race, "run", lambda *_: {64: 1.0, 32: 0.1, 128: 0.1})
    assert choose(bench, rate=1.0) == (64, "")
    assert choose(bench, batch_size=1, trials=1) == (64, "")


def test_packs_of_the_race_have_the_sizes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    advance = Pack.advance

    def spied(pack: Pack) -> Any:
        seen.append(pack.chunk_tokens)
        return advance(pack)

    monkeypatch.setattr(Pack, "advance", spied)
    assert choose(bench)[0] in SIZES
    assert tuple(seen[:3]) == SIZES
