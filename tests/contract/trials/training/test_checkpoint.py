"""A run that stops and resumes computes what it computes in one piece."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from search_spaces.language.loader import load_space
from tests.support.grids import every_family, pairwise
from tests.support.texts import same_splits
from tests.support.trials import COMMON, classification
from trials.execution.runner import Runner
from trials.packing.pack import Pack
from trials.records import Fidelity, Segment, TrialResult, TrialSpec, TrialStatus
from trials.tasks.specs import ModelSpec, TaskSpec
from trials.training.checkpoint import TrainingState
from trials.training.run import Run, train_to_end

SHARES = (0.1, 10**-0.5, 1.0)
SHORT = Fidelity(train_samples=48, eval_samples=40, evaluations=2)
"""Nine steps in three epochs."""


@pytest.fixture(scope="module")
def runner(tiny_model: Callable[[str], Path], reviews: Path) -> Runner:
    torch.set_num_threads(1)
    return Runner(ModelSpec(name=str(tiny_model("bert")), precision="fp32"), classification(reviews))


def config_of(runner: Runner, family: str, **changes: object) -> dict[str, object]:
    space = load_space({"families": [family]}, shape=runner.base.shape, task=runner.base.task.type).space
    return {**space.default(family=family), **COMMON, **changes}


def segments(folder: Path, shares: tuple[float, ...] = SHARES) -> list[Segment]:
    paths = [str(folder / f"{place}.safetensors") for place in range(len(shares))]
    starts = [None, *paths]
    return [Segment(*args) for args in zip(shares, starts, paths, strict=False)]


def in_segments(runner: Runner, spec: TrialSpec, folder: Path) -> tuple[Run, list[TrialResult]]:
    """The last run and all results, with other draws and another configuration between the segments."""
    results = []
    for segment in segments(folder):
        run = Run(runner.base, runner.data, replace(spec, segment=segment))
        results.append(train_to_end(run))
        torch.manual_seed(12345)
    return run, results


def weights(run: Run) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in run.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("family", every_family())
def test_every_family_resumes_as_if_it_had_never_stopped(family: str, runner: Runner, tmp_path: Path) -> None:
    spec = TrialSpec(config_of(runner, family), seed=5, fidelity=SHORT)
    whole = Run(runner.base, runner.data, spec)
    expected = train_to_end(whole)
    run, results = in_segments(runner, spec, tmp_path)
    assert [r.status for r in results] == ["paused", "paused", "complete"]
    assert [r.steps_share for r in results] == pytest.approx([1 / 9, 3 / 9, 1.0])
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(run)[name], tensor, rtol=0, atol=1e-6)
    assert results[-1].metrics == pytest.approx(expected.metrics, abs=1e-6)
    # Each segment adds its end to the curve; the points in between are those of the run in one piece.
    points = {point.step: point for point in results[-1].curve}
    assert set(points) == {p.step for p in expected.curve} | {1, 3, 9}
    for point in expected.curve:
        assert points[point.step].samples == point.samples
        assert points[point.step].metrics == pytest.approx(point.metrics, abs=1e-6)


@pytest.mark.parametrize(
    ("schedule", "optimizer"),
    pairwise(["linear", "cosine", "constant", "constant-cooldown"], ["adamw", "lion", "adafactor"]),
)
def test_every_optimizer_and_schedule_resumes(optimizer, schedule, runner, tmp_path) -> None:
    pytest.importorskip("lion_pytorch" if optimizer == "lion" else "torch")
    changes = {"optimizer": optimizer, "schedule": schedule, "lora.dropout": 0.3, "lora.learning_rate": 1e-2}
    spec = TrialSpec(config_of(runner, "lora", **changes), seed=7, fidelity=SHORT)
    whole = Run(runner.base, runner.data, spec)
    expected = train_to_end(whole)
    run, results = in_segments(runner, spec, tmp_path)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(weights(run)[name], tensor, rtol=0, atol=1e-6)
    assert results[-1].metrics == pytest.approx(expected.metrics, abs=1e-6)


def test_dropout_is_drawn_in_the_test_above(runner: Runner) -> None:
    """Without random generators that go on, the equality above would have to fail."""
    losses = set()
    for dropout in (0.0, 0.3):
        config = config_of(runner, "lora", **{"lora.dropout": dropout, "lora.learning_rate": 1e-2})
        losses.add(runner.run(TrialSpec(config, seed=7, fidelity=SHORT)).metrics["eval_loss"])
    assert len(losses) == 2


def test_a_language_model_resumes(tiny_model, write_jsonl, tmp_path: Path) -> None:
    rows = [{"p": "the film was", "c": "good"}, {"p": "the end was", "c": "sad"}] * 40
    columns = {"prompt": "p", "completion": "c", "chat_template": "none"}
    task = TaskSpec(type="causal-lm", **same_splits(write_jsonl("c.jsonl", rows)), **columns)
    runner = Runner(ModelSpec(name=str(tiny_model("llama")), precision="fp32"), task)
    spec = TrialSpec(config_of(runner, "lora", **{"lora.learning_rate": 1e-2}), seed=1)
    expected = runner.run(spec)
    _, results = in_segments(runner, spec, tmp_path)
    assert results[-1].metrics == pytest.approx(expected.metrics, abs=1e-6)


@pytest.mark.parametrize("damage", ["gone", "cut short", "another run's"])
def test_without_its_state_a_run_begins_again(damage: str, runner: Runner, tmp_path: Path) -> None:
    spec = TrialSpec(config_of(runner, "lora"), seed=5, fidelity=SHORT)
    first, second, _ = segments(tmp_path)
    runner.run(replace(spec, segment=first))
    expected = runner.run(replace(spec, segment=second))
    file = Path(str(first.end))
    if damage == "gone":
        file.unlink()
    elif damage == "cut short":
        file.write_bytes(file.read_bytes()[:-100])
    else:
        runner.run(replace(spec, seed=6, segment=first))
    again = runner.run(replace(spec, segment=second))
    assert again.status == TrialStatus.PAUSED
    assert again.metrics == pytest.approx(expected.metrics, abs=1e-6)


def test_a_state_is_read_back_and_holds_no_weights_of_the_base(runner: Runner, tmp_path: Path) -> None:
    spec = TrialSpec(config_of(runner, "lora", **{"lora.rank": 1}), seed=5, fidelity=SHORT)
    segment = segments(tmp_path)[0]
    result = runner.run(replace(spec, segment=segment))
    state = TrainingState.load(str(segment.end), spec)
    assert state is not None
    numbers = sum(x.numel() for n, x in state.tensors.items() if n.startswith("weights/"))
    assert numbers == result.trainable_params
    moments = sum(x.numel() for n, x in state.tensors.items() if n.startswith("optimizer/") and x.ndim)
    assert moments == 2 * result.trainable_params
    assert [path.name for path in tmp_path.iterdir()] == ["0.safetensors"]


def test_a_run_too_short_for_its_rungs_has_a_step_in_each_segment(runner: Runner, tmp_path: Path) -> None:
    spec = TrialSpec(
        config_of(runner, "norm", epochs=1), fidelity=Fidelity(train_samples=32, eval_samples=20)
    )
    results = [runner.run(replace(spec, segment=segment)) for segment in segments(tmp_path, (0.01, 0.02))]
    assert [(r.status, r.curve[-1].step) for r in results] == [("paused", 1), ("complete", 2)]
    assert not (tmp_path / "1.safetensors").exists()


def test_a_disk_without_room_is_said(runner: Runner, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    spec = TrialSpec(
        config_of(runner, "norm"), fidelity=SHORT, segment=Segment(0.1, None, str(blocked / "x"))
    )
    with pytest.raises(OSError, match="file"):
        runner.run(spec)


def test_packed_segments_end_where_they_end_alone(runner: Runner, tmp_path: Path) -> None:
    families = ["lora", "norm", "adalora"]
    specs = [TrialSpec(config_of(runner, f), seed=i, fidelity=SHORT) for i, f in enumerate(families)]
    expected = [runner.run(spec).metrics["eval_loss"] for spec in specs]
    ended: dict[int, TrialResult] = {}
    for place in range(len(SHARES)):
        pack = Pack(runner.base, runner.data)
        for ticket, spec in enumerate(specs):
            segment = segments(tmp_path / str(ticket))[place]
            alone = pack.enter(ticket, replace(spec, segment=segment))
            ended |= {} if alone is None else {ticket: alone}
        while len(pack):
            ended |= pack.advance()
        statuses = {result.status for result in ended.values()}
        assert statuses == {TrialStatus.COMPLETE if place == 2 else TrialStatus.PAUSED}
    losses = [ended[ticket].metrics["eval_loss"] for ticket in range(len(specs))]
    assert losses == pytest.approx(expected, abs=1e-4)
    assert all(math.isfinite(loss) for loss in losses)


def test_specs_and_results_survive_json() -> None:
    spec = TrialSpec({"family": "lora"}, segment=Segment(0.1, "a", "b"))
    assert TrialSpec.from_json(spec.to_json()) == spec
    assert TrialSpec.from_json(TrialSpec({"family": "lora"}).to_json()).segment is None
    result = TrialResult(TrialStatus.PAUSED, steps_share=0.1)
    assert TrialResult.from_json(result.to_json()) == result
