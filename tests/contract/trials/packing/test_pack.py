"""Packed training does what training alone does, for every family and for mixed packs."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from search_spaces.families import REGISTRY
from tests.support.packs import agree, alone, packed, spec, supported
from tests.support.texts import same_splits
from trials.execution.runner import Runner
from trials.kinds.kind import Batch
from trials.packing import pack as pack_module
from trials.packing.pack import Pack
from trials.records import Fidelity, TrialResult, TrialStatus
from trials.tasks.specs import ModelSpec, TaskSpec
from trials.training.length_batching import chunks
from trials.training.run import Run, train_to_end


@pytest.mark.parametrize("half", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_every_family_trains_in_a_pack_as_alone(runner, half):
    """Every other family on BERT and the rest on GPT-2; the slow test swaps them."""
    start = half if runner.base.shape.model_type == "bert" else 1 - half
    names = [name for name in supported(runner) if sorted(REGISTRY).index(name) % 2 == start]
    assert names
    specs = [spec(runner, name, seed=number, epochs=1) for number, name in enumerate(names)]
    together = packed(runner, specs)
    for name, s, result in zip(names, specs, together, strict=True):
        try:
            agree(result, alone(runner, s))
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


ONE_ARCHITECTURE = ["bert", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("gpt2", "llama"))]
GENTLE = {"delora": 1e-4, "fourierft": 1e-4}
"""Learning rates of families that do not agree with themselves otherwise: after a hundred steps at the default
rate, training alone ends 1e-3 to 1e-2 away from training alone with the rows of each batch in reverse."""
NOISE = 1e-6
"""Gradients, root mean square, that are rounding alone: attention does not change with a key's bias. Adam
divides by that, so such elements wander, and nothing depends on them."""


@pytest.mark.slow  # five minutes
def test_every_packable_family_keeps_losses_and_weights_for_a_hundred_steps(runner):
    few = Fidelity(train_samples=104, eval_samples=16, evaluations=1)
    pack = Pack(runner.base, runner.data)
    names, specs = supported(runner), {}
    for ticket, name in enumerate(names):
        changes = {f"{name}.learning_rate": GENTLE[name]} if name in GENTLE else {}
        s = replace(spec(runner, name, ticket, batch_size=4, epochs=4, **changes), fidelity=few)
        if pack.enter(ticket, s) is None:
            specs[ticket] = s
            leave_zero(pack._runs[ticket])
    assert len(specs) >= 21
    runs, together = dict(pack._runs), {}
    while len(pack):
        together.update(pack.advance())
        assert not pack.unjoined
    for ticket, s in specs.items():
        by_itself = Run(runner.base, runner.data, s)
        leave_zero(by_itself)
        agree(train_to_end(by_itself), together[ticket], rel=1e-5)
        assert by_itself.steps == 104
        mine, theirs = learned(by_itself), learned(runs[ticket])
        gradients = root_mean_square_gradients(by_itself)
        heard = (gradients == 0) | (gradients > NOISE)
        assert heard.double().mean() > 0.5, names[ticket]
        off = float((mine - theirs)[heard].norm() / mine[heard].norm())
        assert off < 1e-5, f"{names[ticket]}: weights differ by {off:.1e}"


def leave_zero(run: Run) -> None:
    """DeLoRA divides by the norm of its B, which is zero at first: there rounding decides where it goes."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in run.model.named_parameters():
        if "delora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)


def learned(run: Run) -> torch.Tensor:
    return torch.cat([p.detach().ravel() for p in run.parameters])


def root_mean_square_gradients(run: Run) -> torch.Tensor:
    """By element of `learned`, from Adam's second moment (its correction for the start is under 4 at 104 steps)."""
    states = run._optimizer.state
    return torch.cat([states[p]["exp_avg_sq"].sqrt().ravel() for p in run.parameters])


def test_an_adapter_that_mixes_rows_trains_alone(runner):
    """Lily weighs its experts by their mean over the batch, which a pack would divide."""
    if "lily" not in supported(runner):
        assert runner.base.shape.model_type == "gpt2", "Lily supports linear layers alone, and GPT-2 has none"
        pytest.skip("Lily does not fit GPT-2")
    result = Pack(runner.base, runner.data).enter(0, spec(runner, "lily"))
    assert result is not None
    agree(result, alone(runner, spec(runner, "lily")))


def test_position_embeddings_belong_to_no_row(runner):
    """Full fine-tuning trains them in BERT and GPT-2, and so runs alone; Llama has none."""
    own = Pack(runner.base, runner.data).enter(0, spec(runner, "full", epochs=1))
    assert (own is None) == (runner.base.shape.model_type == "llama")
    assert own is None or own.status == TrialStatus.COMPLETE


def test_relative_positions_belong_to_no_row(tiny_model, reviews):
    named = {name: str(reviews / f"{name}.tsv") for name in ("train", "validation", "test")}
    task = TaskSpec(text="sentence", label="label", **named)
    runner = Runner(ModelSpec(name=str(tiny_model("deberta")), precision="fp32"), task)
    own = Pack(runner.base, runner.data).enter(0, spec(runner, "lora", epochs=1))
    assert own is not None
    assert own.status == TrialStatus.COMPLETE


@pytest.mark.parametrize("runner", ONE_ARCHITECTURE, indirect=True)
def test_a_mixed_pack_keeps_losses_and_weights_for_a_hundred_steps(runner):
    """Rank, targets, layers, scale, learning rate, schedule, batch size, length of the run and seed differ."""
    few = {"lora.dropout": 0.0, "lora.learning_rate": 3e-4}
    specs = [
        spec(runner, "lora", 1, **{**few, "lora.rank": 2, "batch_size": 4, "epochs": 5}),
        spec(runner, "lora", 2, **{**few, "lora.rank": 7, "lora.dora": True, "lora.layers": 1}),
        spec(runner, "lora", 3, **{**few, "lora.targets": "q+v", "schedule": "cosine", "batch_size": 8}),
        spec(runner, "ia3", 4, batch_size=32, weight_decay=0.2),
        spec(runner, "norm", 5, warmup=0.0, schedule="constant"),
    ]
    pack = Pack(runner.base, runner.data)
    for ticket, s in enumerate(specs):
        assert pack.enter(ticket, s) is None
    runs = dict(pack._runs)
    together: dict[int, TrialResult] = {}
    while len(pack):
        together.update(pack.advance())
    for ticket, s in enumerate(specs):
        by_itself = Run(runner.base, runner.data, s)
        agree(train_to_end(by_itself), together[ticket], rel=1e-5)
        mine, theirs = (
            torch.cat([p.detach().ravel() for p in r.parameters]) for r in (by_itself, runs[ticket])
        )
        assert float((mine - theirs).norm() / mine.norm()) < 1e-5
    assert runs[0].steps == 120


@pytest.mark.parametrize("runner", ONE_ARCHITECTURE, indirect=True)
def test_configurations_enter_and_leave_between_steps(runner):
    first, second = spec(runner, "lora", 1, epochs=3), spec(runner, "ia3", 2, epochs=1)
    third = spec(runner, "norm", 3, epochs=1)
    pack, results = Pack(runner.base, runner.data), {}
    assert pack.enter(1, first) is None
    pack.advance()
    assert pack.enter(2, second) is None
    for _ in range(3):
        results.update(pack.advance())
    assert pack.enter(3, third) is None
    while len(pack):
        results.update(pack.advance())
    assert list(results) == [2, 3, 1]
    for ticket, s in ((1, first), (2, second), (3, third)):
        agree(results[ticket], alone(runner, s))


@pytest.mark.parametrize("runner", ONE_ARCHITECTURE, indirect=True)
def test_one_that_diverges_fails_alone(runner):
    wild = spec(runner, "lora", 1, **{"lora.learning_rate": 1e30, "lora.scale": 8.0})
    calm = spec(runner, "lora", 2)
    failed, complete = packed(runner, [wild, calm])
    assert failed.status == TrialStatus.FAILED
    assert "loss became" in str(failed.error)
    agree(complete, alone(runner, calm))


@pytest.mark.parametrize("runner", ONE_ARCHITECTURE, indirect=True)
def test_memory_that_runs_out_shrinks_the_chunks_and_loses_nothing(runner, monkeypatch):
    specs = [spec(runner, "lora", 1), spec(runner, "ia3", 2)]
    real, refused = Pack._losses_of, []

    def tight(self: Pack, batch: Batch, configs: list) -> torch.Tensor:
        if (tokens := batch.inputs["input_ids"].numel()) > 128:
            refused.append(tokens)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, batch, configs)

    monkeypatch.setattr(Pack, "_losses_of", tight)
    results = packed(runner, specs, chunk_tokens=512)
    assert 1 <= len(refused) <= 3
    for s, result in zip(specs, results, strict=True):
        assert result.chunk_tokens == 512 // 2 ** len(refused), "what the export divides its batches by"
        assert alone(runner, s).chunk_tokens is None
        agree(result, alone(runner, s))


@pytest.mark.parametrize("runner", ONE_ARCHITECTURE, indirect=True)
def test_an_error_that_is_no_shortage_is_traced_to_its_configuration(runner, monkeypatch):
    specs = [spec(runner, "lora", 1), spec(runner, "ia3", 2)]
    real = pack_module.train_batch

    def blamed(run: Run, examples: list) -> tuple[float, float]:
        if run.spec.config["family"] == "ia3":
            raise RuntimeError("shapes do not fit")
        return real(run, examples)

    def broken(*_: object) -> torch.Tensor:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(pack_module, "train_batch", blamed)
    monkeypatch.setattr(Pack, "_losses_of", broken)
    complete, failed = packed(runner, specs, apart=True)
    assert failed.status == TrialStatus.FAILED
    assert failed.error == "RuntimeError: shapes do not fit"
    agree(complete, alone(runner, specs[0]))


@pytest.mark.parametrize("runner", ONE_ARCHITECTURE, indirect=True)
def test_one_that_the_joined_model_cannot_run_leaves_the_others_together(runner, monkeypatch, caplog):
    specs = [spec(runner, name, seed) for seed, name in ((1, "lora"), (2, "ia3"), (3, "norm"))]
    pack, real, sizes = Pack(runner.base, runner.data), Pack._pass, []

    def refusing(self: Pack, batches: dict) -> dict[int, float]:
        if 1 in batches:
            raise RuntimeError("a view is being modified inplace")
        sizes.append(len(batches))
        return real(self, batches)

    monkeypatch.setattr(Pack, "_pass", refusing)
    for ticket, s in enumerate(specs):
        assert pack.enter(ticket, s) is None
    results = pack.advance()
    assert pack.unjoined == {1}
    assert "ia3" in caplog.text
    while len(pack):
        results.update(pack.advance())
    assert sizes == [1, 1] + [2] * 11
    assert not pack.unjoined
    for ticket, s in enumerate(specs):
        agree(results[ticket], alone(runner, s), rel=1e-5)


def test_the_test_split_is_scored_where_asked(runner):
    specs = [replace(spec(runner, "lora", 1), score_test=asked) for asked in (True, False)]
    scored, unscored = packed(runner, specs)
    assert scored.test_metrics["accuracy"] == alone(runner, specs[0]).test_metrics["accuracy"]
    assert unscored.test_metrics == {}
    assert scored.example_scores["accuracy"] == alone(runner, specs[0]).example_scores["accuracy"]
    assert unscored.example_scores == {}


def test_a_language_model_in_a_pack(tiny_model, write_jsonl):
    """The loss is a mean over learned tokens, of which rows have different numbers."""
    pairs = {"the film was": "good", "the story was a": "bad sad", "one": "the end", "people in it": "sad"}
    rows = [{"p": p, "c": c} for p, c in pairs.items()] * 24
    columns = {"prompt": "p", "completion": "c", "chat_template": "none"}
    task = TaskSpec(type="causal-lm", **same_splits(write_jsonl("c.jsonl", rows)), **columns)
    runner = Runner(ModelSpec(name=str(tiny_model("llama")), precision="fp32"), task)
    specs = [spec(runner, "lora", 1), spec(runner, "ia3", 2, batch_size=8)]
    for s, result in zip(specs, packed(runner, specs), strict=True):
        agree(result, alone(runner, s), rel=1e-5)


def test_chunks_are_the_cheapest_cut():
    rng = np.random.default_rng(0)
    for _ in range(20):
        lengths = rng.integers(1, 9, size=12)
        found = list(chunks(lengths, limit=10_000, cost=6))
        assert sorted(np.concatenate(found).tolist()) == list(range(12))
        ordered, least = np.sort(lengths), np.inf
        for cuts in itertools.product([False, True], repeat=11):
            pieces = np.split(ordered, np.flatnonzero(cuts) + 1)
            least = min(least, sum(6 + len(piece) * piece[-1] for piece in pieces))
        assert sum(6 + len(chunk) * lengths[chunk].max() for chunk in found) == least


def test_chunks_keep_within_the_limit_where_a_row_does():
    lengths = np.array([7] * 30 + [50])
    found = list(chunks(lengths, limit=40, cost=1000))
    assert all(len(chunk) * lengths[chunk].max() <= 40 or len(chunk) == 1 for chunk in found)
    assert sorted(np.concatenate(found).tolist()) == list(range(31))


def test_chunks_hold_no_more_rows_than_they_may():
    found = list(chunks(np.array([7] * 30 + [50]), limit=10_000, cost=1, most=8))
    assert sorted(map(len, found)) == [1, 7, 7, 8, 8]


def test_a_regression_of_large_targets_in_a_pack(tiny_model, write_jsonl):
    """Losses are of standardized targets, and the other scores in their own units, as without a pack."""
    rows = [{"text": f"the film was {'good ' * (i % 7)} {i}", "price": 3e5 * (i % 7)} for i in range(120)]
    task = TaskSpec(type="regression", train=str(write_jsonl("r.jsonl", rows)), text="text", label="price")
    runner = Runner(ModelSpec(name=str(tiny_model("bert")), precision="fp32"), task)
    specs = [spec(runner, "lora", 1), spec(runner, "ia3", 2, batch_size=8)]
    variance = np.var(runner.data.raw["train"]["price"])
    for s, result in zip(specs, packed(runner, specs), strict=True):
        expected = alone(runner, s)
        agree(result, expected, rel=1e-5)
        assert result.metrics == pytest.approx(expected.metrics, rel=5e-3)  # ranks may tie
        assert result.metrics["mse"] == pytest.approx(variance * result.metrics["eval_loss"], rel=1e-5)
