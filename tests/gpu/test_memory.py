"""Memory on a CUDA device: the memory model, and packs and evaluations for which memory does not suffice."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.step_memory import StepMemory, step_memory
from search_spaces.language.loader import load_space
from tests.support.gpu import DEVICE, needs_card, needs_device
from trials.execution.runner import Runner
from trials.packing.pack import Pack
from trials.records import Fidelity, TrialSpec, TrialStatus
from trials.tasks.specs import ModelSpec, TaskSpec

pytestmark = [needs_device, needs_card]
BATCH, STEPS, TOKENS = 128, 2, 64


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> TaskSpec:
    """Different texts of exactly `TOKENS` tokens."""
    from tests.support.texts import BAD, FILLER, GOOD

    folder, words = tmp_path_factory.mktemp("texts"), [*GOOD, *BAD, *FILLER]
    generator = torch.Generator().manual_seed(0)
    lines = ["text\tlabel"]
    for number in range(BATCH * (STEPS + 3)):
        drawn = torch.randint(len(words), (TOKENS - 2,), generator=generator)
        lines.append(" ".join(words[i] for i in drawn) + f"\t{('good', 'bad')[number % 2]}")
    path = folder / "train.tsv"
    path.write_text("\n".join(lines) + "\n")
    return TaskSpec(text="text", label="label", train=str(path), max_length=TOKENS)


def specs(runner: Runner, count: int, targets: str) -> list[TrialSpec]:
    """LoRA without dropout; one step more than are run."""
    space = load_space({"families": ["lora"]}, shape=runner.base.shape, task=runner.base.task.type).space
    changes = {"lora.targets": targets, "lora.rank": 8, "lora.dropout": 0.0, "lora.dora": False}
    changes |= {"batch_size": BATCH // count, "epochs": 1}
    fidelity = Fidelity(train_samples=BATCH // count * (STEPS + 1), eval_samples=16, evaluations=1)
    config = {**space.default(family="lora"), **changes}
    return [TrialSpec(config, seed, fidelity) for seed in range(count)]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("count", "targets"), [(1, "all"), (8, "all"), (8, "q+v")])
def test_the_memory_model_predicts_the_peak_within_a_quarter(
    precision: str, count: int, targets: str, wide_model: Path, texts: TaskSpec
) -> None:
    runner = Runner(ModelSpec(name=str(wide_model), device=DEVICE, precision=precision), texts)
    found: StepMemory = step_memory(
        runner.base, runner.data, specs(runner, count, targets), STEPS, BATCH * TOKENS
    )
    assert (found.tokens, found.length) == (BATCH * TOKENS, TOKENS)
    assert found.predicted == pytest.approx(found.measured, rel=0.25)


@pytest.fixture
def little_memory() -> Iterator[None]:
    """At most 150 MB more than are allocated, which the driver's free memory does not say."""
    gc.collect()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 150e6) / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_a_chunk_that_runs_out_of_memory_is_halved(
    request: pytest.FixtureRequest, wide_model: Path, texts: TaskSpec
) -> None:
    runner = Runner(ModelSpec(name=str(wide_model), device=DEVICE, precision="fp32"), texts)
    given = specs(runner, 1, "all")
    whole = Pack(runner.base, runner.data).run(given[0])
    request.getfixturevalue("little_memory")
    pack = Pack(runner.base, runner.data, BATCH * TOKENS)
    halved = pack.run(given[0])
    assert whole.status == halved.status == TrialStatus.COMPLETE, (whole.error, halved.error)
    assert pack.chunk_tokens < BATCH * TOKENS
    assert halved.metrics["eval_loss"] == pytest.approx(whole.metrics["eval_loss"], rel=1e-3)


def test_a_failed_trial_leaves_no_memory_behind(wide_model: Path, texts: TaskSpec) -> None:
    runner = Runner(ModelSpec(name=str(wide_model), device=DEVICE, precision="fp32"), texts)
    (given,) = specs(runner, 1, "all")
    runner.run(given)  # the device's libraries have their workspaces now
    gc.collect()
    before = torch.cuda.memory_allocated()
    wrong = {**given.config, "lora.learning_rate": 1e30}
    failed = runner.run(TrialSpec(wrong, 0, given.fidelity))
    assert failed.status == TrialStatus.FAILED
    gc.collect()
    assert torch.cuda.memory_allocated() <= before + 5e6
