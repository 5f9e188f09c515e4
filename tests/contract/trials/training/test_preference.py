"""Training on preference pairs: every loss, alone and in a pack, against the frozen base model."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.workload import Workload
from tests.support.packs import COMMON, agree, alone, packed, spec
from tests.support.task_samples import task_sample
from trials.base.added_loss import added_loss
from trials.execution.runner import Runner
from trials.kinds.kind import REFERENCE
from trials.kinds.preference_losses import LOSSES, WITH_REFERENCE
from trials.kinds.registry import find_kind
from trials.packing.pack import Pack
from trials.packing.prefix_cache import PrefixCache
from trials.records import TrialSpec
from trials.training.references import with_references
from trials.training.run import Run, training_step

Runners = Callable[[str], Runner]


@pytest.fixture(scope="module")
def runner_of(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Runners:
    """Return the runner of a loss; all of them read the same files."""
    model, task = task_sample("preference", tmp_path_factory.mktemp("pairs"), tiny_model)
    found: dict[str, Runner] = {}

    def of(loss: str) -> Runner:
        if loss not in found:
            found[loss] = Runner(model, task.model_copy(update={"loss": loss}))
        return found[loss]

    return of


def learning(runner: Runner, family: str = "lora", **changes: object) -> TrialSpec:
    """Return a trial that learns the pairs of the sample: better answers end with one word."""
    values = {**COMMON, "epochs": 4, "batch_size": 8, f"{family}.learning_rate": 0.02}
    return spec(runner, family, 1, **{**values, **changes})


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_the_pairs_alone_as_in_a_pack(loss: str, runner_of: Runners) -> None:
    runner = runner_of(loss)
    trial = learning(runner)
    by_itself, in_pack = alone(runner, trial), packed(runner, [trial])[0]
    agree(in_pack, by_itself)
    assert by_itself.metrics["reward_accuracy"] > 0.9
    assert by_itself.metrics["reward_margin"] > 0


@pytest.mark.parametrize("loss", ["dpo", "orpo"])
def test_frozen_layers_run_once_per_row(loss: str, runner_of: Runners) -> None:
    runner = runner_of(loss)
    trials = [learning(runner, **{"lora.layers": 1, "epochs": 2}), learning(runner, epochs=2)]
    pack = Pack(runner.base, runner.data, prefixes=PrefixCache())
    for result, trial in zip(packed(runner, trials), trials, strict=True):
        agree(result, alone(runner, trial))
    result = pack.run(trials[0])
    agree(result, alone(runner, trials[0]))
    states = {key for known in pack.prefixes._states.values() for key in known}
    kind, splits = find_kind("preference"), runner.data.splits
    rows = {id(r) for name in ("train", "validation") for e in splits[name] for r in kind.rows(e)}
    assert states == rows


def test_a_loss_that_reads_the_batch_trains_alone(runner_of: Runners) -> None:
    for loss, runs_at_once in (("kto", True), ("dpo", False)):
        runner = runner_of(loss)
        result = Pack(runner.base, runner.data).enter(0, learning(runner, epochs=1))
        assert (result is not None) == runs_at_once, loss


def test_the_base_model_is_no_better_than_chance_against_itself(runner_of: Runners) -> None:
    found = runner_of("dpo").run(TrialSpec({}, 0)).metrics
    assert found["reward_accuracy"] == 0.5
    assert found["reward_margin"] == 0.0
    assert found["eval_loss"] == pytest.approx(math.log(2), abs=1e-9)
    of_means = runner_of("simpo").run(TrialSpec({}, 0)).metrics
    assert of_means["reward_accuracy"] == of_means["likelihood_accuracy"] == found["likelihood_accuracy"]


@pytest.mark.parametrize("family", ["lora", "norm", "prompt"])
def test_the_first_loss_compares_with_the_plain_base_model(family: str, runner_of: Runners) -> None:
    """A new adapter that changes nothing has the log-ratio 0, so that DPO's loss is log 2; a prompt changes it."""
    runner = runner_of("dpo")
    run = Run(runner.base, runner.data, learning(runner, family))
    examples = run.next_batch() or []
    loss = training_step(run, run.kind.collate(examples, run.data.tokenizer), len(examples), len(examples))
    assert (loss == pytest.approx(math.log(2), abs=1e-6)) == (family != "prompt")
    rows = [row for example in examples for row in run.kind.rows(example)]
    for row, expected in zip(rows, np.concatenate([e[REFERENCE] for e in examples]), strict=True):
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
        with torch.no_grad():
            logits = runner.base.model(input_ids=ids).logits[:, :-1]
        found = -torch.nn.functional.cross_entropy(logits[0], labels[0, 1:], reduction="sum")
        assert float(found) == pytest.approx(expected, abs=1e-4)


def test_the_reference_is_computed_once_per_example(
    runner_of: Runners, monkeypatch: pytest.MonkeyPatch
) -> None:
    for loss in LOSSES:
        runner = runner_of(loss)
        examples = runner.data.splits["test"]
        first = with_references(runner.base, runner.data, examples)
        assert (first is examples) == (loss not in WITH_REFERENCE)
        with monkeypatch.context() as patch:
            patch.setattr(runner.base.model, "forward", None)  # a second pass would fail
            again = with_references(runner.base, runner.data, examples)
        assert all(one is other for one, other in zip(first, again, strict=True))


def test_flops_count_both_rows_and_the_reference(runner_of: Runners) -> None:
    runner = runner_of("dpo")
    config = learning(runner).config
    kind = find_kind("preference")
    length = int(runner.data.lengths("train").max())
    examples = [e for e in runner.data.splits["train"] if kind.row_length(e) == length][:3]
    batch = kind.collate(examples, runner.data.tokenizer)
    runner.base.model.set_attn_implementation("eager")
    try:
        model = runner.base.adapted(config, 0)
        with FlopCounterMode(display=False) as counter:
            with torch.no_grad():
                reference = kind.columns(runner.base.model(**batch.inputs), batch.targets)
            batch.targets[REFERENCE] = torch.stack(reference[:2], 1)
            values = [{**config, "loss": "dpo"}] * len(examples)
            kind.losses(model(**batch.inputs), batch.targets, values).mean().backward()
    finally:
        runner.base.model.set_attn_implementation("sdpa")
    size = len(examples)
    workload = Workload(length, length**2, size, size, rows=2, has_reference=True)
    costs = CostModel(runner.base.shape, "causal-lm", workload)
    one = {**config, "epochs": 1, "batch_size": size}
    assert costs(one).train_flops == pytest.approx(counter.get_total_flops(), rel=1e-9)
    assert costs.many([one]).train_flops[0] == pytest.approx(costs(one).train_flops, rel=1e-12)


def test_the_penalty_of_adalora_is_that_of_peft(runner_of: Runners) -> None:
    runner = runner_of("dpo")
    model = runner.base.adapted(learning(runner, "adalora").config, 0)
    model.peft_config["default"].total_step = 10
    batch = torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        with_penalty = model(input_ids=batch, labels=batch).loss
        without = model.get_base_model()(input_ids=batch, labels=batch).loss
        found = added_loss(model)
    assert float(found) > 0.01
    assert float(found) == pytest.approx(float(with_penalty - without), rel=1e-4)


def test_lengths_are_of_rows_and_tokens_of_pairs(runner_of: Runners) -> None:
    data = runner_of("dpo").data
    rows = [[len(row["input_ids"]) for row in example["rows"]] for example in data.splits["train"]]
    assert data.lengths("train").tolist() == [max(pair) for pair in rows]
    assert data.tokens("train").tolist() == [2 * max(pair) for pair in rows]
    limit = min(max(pair) for pair in rows) + 1
    cut = data.at_length(runner_of("dpo").base.task, limit)
    assert cut.lengths("train").max() == limit
    assert cut.lengths("validation").max() > limit  # held-out pairs are scored whole
    kept = {id(example) for example in data.splits["train"]} & {
        id(example) for example in cut.splits["train"]
    }
    assert len(kept) == sum(max(pair) <= limit for pair in rows)
