"""Runs with `train_samples` and fractional epochs: their examples, their steps, their FLOPs, in packs and resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.workload import Workload
from search_spaces.language.loader import load_space
from tests.support.packs import agree, packed
from tests.support.texts import same_splits
from tests.support.trials import COMMON
from trials.execution.runner import Runner
from trials.records import Fidelity, PartialRun, Segment, TrialSpec
from trials.tasks.specs import ModelSpec, TaskSpec
from trials.training.run import Run, train_batch, train_to_end, training_examples

ONCE = Fidelity(eval_samples=8, evaluations=1)


@pytest.fixture(scope="module", params=["bert", "deberta"])
def runner(request: pytest.FixtureRequest, tiny_model: Callable[[str], Path], tmp_path_factory) -> Runner:
    """Forty texts of the same length, so that the mean length is that of every subset."""
    torch.set_num_threads(1)
    words = ["good", "bad", "film", "story", "people"]
    rows = [{"text": f"the {words[i % 5]} end was {words[i // 8]}", "label": i % 2} for i in range(40)]
    file = tmp_path_factory.mktemp("same") / "same.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    task = TaskSpec(text="text", label="label", **same_splits(file))
    return Runner(
        ModelSpec(name=str(tiny_model(request.param)), precision="fp32", attn_implementation="eager"), task
    )


def config_of(runner: Runner, family: str = "lora", **changes: object) -> dict[str, object]:
    space = load_space({"families": [family]}, shape=runner.base.shape, task=runner.base.task.type).space
    return {**space.default(family=family), **COMMON, "batch_size": 4, **changes}


def texts(examples) -> list[tuple[int, ...]]:
    return [tuple(example["input_ids"]) for example in examples]


@pytest.mark.parametrize(
    ("family", "amount", "samples", "steps"),
    [
        ("lora", {"train_samples": 10, "epochs": 1.5}, 15, 3 + 2),
        ("oft", {"train_samples": 3, "epochs": 2}, 6, 2),  # an epoch that is smaller than a batch
        ("lora", {"train_samples": 4, "epochs": 0.1}, 1, 1),
        ("lora", {"epochs": 0.3}, 12, 3),
        ("lora", {"train_samples": 500, "epochs": 1}, 40, 10),
    ],
)
def test_counted_flops_are_those_of_the_closed_form(family, amount, samples, steps, runner: Runner) -> None:
    config = config_of(runner, family, **amount)
    run = Run(runner.base, runner.data, TrialSpec(config, fidelity=ONCE))
    counted = seen = 0
    while not run.is_done:
        batch = run.next_batch() or []
        seen += len(batch)
        with FlopCounterMode(display=False) as counter:
            loss, _ = train_batch(run, batch)
        counted += counter.get_total_flops()
        run.update(loss)
    assert (seen, run.steps) == (samples, steps)
    tokens = float(runner.data.lengths("train")[0])
    costs = CostModel(runner.base.shape, runner.base.task.type, Workload(tokens, tokens**2, train_samples=40))
    assert costs(config).train_flops == pytest.approx(counted, rel=1e-9)
    assert costs.many([config, config]).train_flops == pytest.approx([counted, counted], rel=1e-9)


def test_the_examples_of_a_smaller_number_are_among_those_of_a_larger_one(runner: Runner) -> None:
    train = runner.data.splits["train"]

    def chosen(count: int, part: PartialRun | None = None) -> list[tuple[int, ...]]:
        return texts(training_examples(train, TrialSpec({"train_samples": count}, partial_run=part)))

    assert chosen(30)[:12] == chosen(12)
    assert sorted(chosen(40)) == sorted(texts(train))
    assert chosen(20, PartialRun("data", 0.25)) == chosen(20)[:5]
    assert chosen(12)[:8] == texts(
        training_examples(train, TrialSpec({}, fidelity=Fidelity(train_samples=8)))
    )


def test_a_last_partial_epoch_begins_as_the_whole_epoch_does(runner: Runner) -> None:
    def order(epochs: float) -> list[list[int]]:
        from trials.training.length_batching import batches

        return list(batches(runner.data.splits["train"], 4, epochs, seed=3))

    whole, partial = order(2), order(1.5)
    assert partial[:10] == whole[:10]
    first_half = {index for batch in partial[10:] for index in batch}
    assert len(first_half) == 20
    assert order(2.0) == whole


def test_trials_of_different_amounts_train_in_a_pack_as_alone(runner: Runner) -> None:
    amounts = [{"train_samples": 40}, {"train_samples": 3, "epochs": 0.5}, {"epochs": 0.75}, {"epochs": 2}]
    specs = [TrialSpec(config_of(runner, **amount), seed, ONCE) for seed, amount in enumerate(amounts)]
    for one, together in zip(specs, packed(runner, specs), strict=True):
        agree(train_to_end(Run(runner.base, runner.data, one)), together)


def test_a_run_resumes_within_its_last_partial_epoch(runner: Runner, tmp_path: Path) -> None:
    config = config_of(runner, train_samples=12, epochs=1.7, **{"lora.learning_rate": 1e-2})
    spec = TrialSpec(config, seed=4, fidelity=ONCE)
    expected = train_to_end(Run(runner.base, runner.data, spec))
    paths = [str(tmp_path / f"{place}.safetensors") for place in range(2)]
    for segment in (Segment(0.7, None, paths[0]), Segment(1.0, paths[0], paths[1])):
        run = Run(runner.base, runner.data, replace(spec, segment=segment))
        resumed = train_to_end(run)
    assert run.steps == 3 + 3
    assert resumed.metrics == pytest.approx(expected.metrics, abs=1e-6)
    assert resumed.curve[-1].samples == expected.curve[-1].samples == 21
