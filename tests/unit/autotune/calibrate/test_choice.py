"""What a calibration chooses, where it measures and where it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import autotune.calibrate.choice as choice_module
from autotune.calibrate.bench import Bench
from autotune.calibrate.candidates import Candidate, by_rule, candidates, other_attention
from autotune.calibrate.choice import VARIABLE, Calibration, calibrate
from autotune.calibrate.measurement import Measurement
from autotune.calibrate.race import Race
from autotune.estimate import speed as speed_module
from autotune.prepare.bound_base import bind_base
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import parse_sweep
from tests.support.sweeps import small_sweep
from trials.base import processor
from trials.tasks.specs import ModelSpec


@pytest.fixture
def sweep(tiny_model: Callable[[str], Path], reviews: Path) -> Sweep:
    return small_sweep(tiny_model("bert"), reviews)


@pytest.fixture
def capable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that multiplies all formats, but has no matrix units for bf16."""
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(processor, "instructions", lambda: ("avx2", "avx512_vnni", "avx512_bf16"))
    monkeypatch.setattr("trials.base.int8_linear._sums_are_exact", lambda: True)


def with_model(sweep: Sweep, **changes: Any) -> Sweep:
    return sweep.model_copy(update={"model": sweep.model.model_copy(update=changes)})


def chosen(sweep: Sweep) -> Calibration:
    own = bind_base(sweep)
    return calibrate(sweep, own.data, own.space, own.costs)


@pytest.mark.usefixtures("capable")
def test_the_candidates_follow_the_device_and_the_sweep(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [str(each) for each in candidates(sweep)] == ["fp32", "bf16", "int8"]
    assert candidates(with_model(sweep, precision="bf16")) == [Candidate("bf16")]
    assert candidates(with_model(sweep, weights="bf16")) == [Candidate("bf16")]
    assert candidates(with_model(sweep, weights="nf4")) == [Candidate("fp32")]
    monkeypatch.setattr(processor, "instructions", lambda: ("avx2",))
    assert candidates(sweep) == [Candidate("fp32")]


@pytest.mark.usefixtures("capable")
def test_bases_of_a_ladder_are_not_multiplied_in_int8(
    sweep: Sweep, tiny_model: Callable[[str], Path]
) -> None:
    bases = {"of": "base", "bases": [str(tiny_model("deberta"))]}
    laddered = parse_sweep({**sweep.model_dump(mode="json", exclude_none=True), "ladder": bases})
    assert [str(each) for each in candidates(laddered)] == ["fp32", "bf16"]


def test_a_precision_that_is_set_is_kept(sweep: Sweep) -> None:
    model = ModelSpec(name=sweep.model.name, precision="bf16")
    assert chosen(with_model(sweep, precision="bf16")) == Calibration(model, sweep.executor)


def test_the_attention_is_that_of_the_sweep_or_open(sweep: Sweep) -> None:
    usual = by_rule(sweep.model)
    assert usual.attention == "auto"
    assert other_attention(usual, sweep.model) == Candidate(usual.precision, "eager")
    given = with_model(sweep, attn_implementation="sdpa").model
    assert by_rule(given).attention == "sdpa"
    assert other_attention(by_rule(given), given) is None


@pytest.mark.parametrize(("seconds", "chosen_attention"), [(1.0, "auto"), (0.97, "auto"), (0.5, "eager")])
def test_the_other_attention_is_chosen_if_it_is_faster(
    seconds: float, chosen_attention: str, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = bind_base(sweep)
    bench = Bench(sweep.model, sweep.task, own.data, own.space.defaults()[0], False, 1)
    fp32 = by_rule(with_model(sweep, precision="fp32").model)
    measurement = Measurement(bench, [fp32], trials=1, batch_size=8, seconds=60.0)
    monkeypatch.setattr(measurement, "_rates", lambda: (8, {fp32: 100.0}))
    other = Candidate("fp32", "eager")
    monkeypatch.setattr(Race, "run", lambda *_: {fp32: 1.0, other: seconds})
    found = measurement.choose()
    assert found.candidate.attention == chosen_attention
    assert bench.base(fp32).is_fused
    assert not bench.base(other).is_fused


@pytest.mark.usefixtures("capable")
def test_a_short_sweep_is_not_measured(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice_module, "Bench", None)
    found = chosen(sweep)
    assert found.model.precision == "fp32"
    why = "by the instruction sets of this device, since a sweep of less than a minute is not measured"
    assert found.notes == (f"precision: fp32, {why}",)
    monkeypatch.setattr(processor, "instructions", lambda: ("avx512_bf16", "amx_bf16"))
    assert chosen(sweep).model.precision == "bf16"


@pytest.mark.usefixtures("capable")
def test_the_variable_switches_measurements_off(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    assert chosen(sweep).notes[0].endswith("since AUTOTUNE_CALIBRATION is 0")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(choice_module, "SHORT", 0.0)
    monkeypatch.setattr(speed_module, "SECONDS", 0.1)
    monkeypatch.setattr(choice_module, "SECONDS", 0.5)


@pytest.mark.usefixtures("measured")
def test_a_long_sweep_is_measured_and_its_speed_is_kept(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[object, object] = {}
    monkeypatch.setattr(speed_module, "_measured", kept)
    monkeypatch.setattr(
        "autotune.calibrate.question.candidates", lambda _: [Candidate("fp32"), Candidate("bf16")]
    )
    found = chosen(sweep)
    assert found.model.precision in ("fp32", "bf16")
    assert found.notes[0].startswith("calibration (")
    assert found.executor.chunk_tokens == 2048, (
        "a tiny batch fills no smaller chunk, and the size is set anyway"
    )
    assert "chunks of" not in found.notes[0]
    ((model, *_),) = kept  # type: ignore[misc]
    assert model == found.model


@pytest.mark.usefixtures("measured")
def test_a_measurement_that_fails_is_said(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("out of memory\nmore")

    monkeypatch.setattr(Bench, "seconds_per_example", fails)
    monkeypatch.setattr(
        "autotune.calibrate.question.candidates", lambda _: [Candidate("fp32"), Candidate("bf16")]
    )
    assert chosen(sweep).notes[0].endswith("since the measurement failed (out of memory)")


def test_a_faster_precision_that_differs_is_not_chosen(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """The candidate here halves every normalization, and the race finds it faster."""
    own = bind_base(sweep)
    config = own.space.defaults()[0]
    bench = Bench(sweep.model, sweep.task, own.data, config, False, 1)
    fp32, bf16 = Candidate("fp32"), Candidate("bf16")
    for name, parameter in bench.base(bf16).model.named_parameters():
        if "LayerNorm" in name:
            parameter.data *= 0.5
    measurement = Measurement(bench, [fp32, bf16], trials=1, batch_size=8, seconds=60.0)
    monkeypatch.setattr(measurement, "_rates", lambda: (8, {fp32: 100.0, bf16: 300.0}))
    found = measurement.choose()
    assert found.candidate == fp32
    assert found.reasons[0].startswith("bf16 differs from fp32 (loss within ")


def test_a_faster_precision_that_agrees_is_chosen(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    own = bind_base(sweep)
    bench = Bench(sweep.model, sweep.task, own.data, own.space.defaults()[0], False, 1)
    fp32, bf16 = Candidate("fp32"), Candidate("bf16")
    measurement = Measurement(bench, [fp32, bf16], trials=1, batch_size=8, seconds=60.0)
    monkeypatch.setattr(measurement, "_rates", lambda: (8, {fp32: 100.0, bf16: 300.0}))
    found = measurement.choose()
    assert found.candidate == bf16
    assert found.is_complete
