"""The memory model against an exact count of what autograd keeps, and what packs make of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from search_spaces.families import REGISTRY
from search_spaces.families.lora import Lora
from search_spaces.language.loader import load_space
from search_spaces.model.reader import read_shape
from tests.support.packs import agree, packed, spec, supported
from trials.execution.in_process import PackedExecutor
from trials.execution.runner import Runner
from trials.packing import memory
from trials.packing import pack as pack_module
from trials.packing.memory import SavedTensors, free_memory
from trials.packing.memory_model import Computation, MemoryModel
from trials.packing.pack import Pack
from trials.records import TrialSpec
from trials.tasks.specs import ModelSpec, TaskSpec

ROUGH = {"boft", "compacter", "deft", "delora", "fourierft", "gralora", "hira", "hra", "oft", "psoft"}
ROUGH |= {"randlora", "road", "vera", "waveft"}
"""Families that build their matrices in many steps: half as much again, or a third less, in the smallest models."""
UNCOUNTED = {"head", "shira"}
"""Nothing but the head's own input, a few numbers; sparse tensors, which have no memory that can be told."""


def counted(runner: Runner, specs: Sequence[TrialSpec]) -> tuple[float, float] | None:
    """Of the largest chunk of a pack's first step, bytes as the model has them and as they are; None where the
    configurations train alone."""
    pack = Pack(runner.base, runner.data)
    for ticket, s in enumerate(specs):
        if pack.enter(ticket, s) is not None:
            return None
    models = [runner.base.model, *(run.model for run in pack._runs.values())]
    apart = [tensor for model in models for tensor in (*model.parameters(), *model.buffers())]
    real, found = pack._losses_of, []

    def noting(batch, configs):
        with SavedTensors(apart) as saved:
            losses = real(batch, configs)
        rows, length = batch.inputs["input_ids"].shape
        configs = [specs[ticket].config for ticket, _ in pack._rows.parts]
        found.append((saved.bytes, pack.memory.kept(configs, rows * length, length)))
        return losses

    pack._losses_of = noting
    pack.advance()
    assert not pack.unjoined
    bytes_, predicted = max(found)
    return predicted, float(bytes_)


def test_saved_tensors_are_counted_once_and_parameters_not():
    weight, x = torch.ones(3, requires_grad=True), torch.ones(5, 3)
    with SavedTensors([weight]) as saved:
        y = (x * weight) * (x + 0)  # each product keeps the factor that needs no gradient
        y[:, 1:].exp().sum()
    assert sorted(t.untyped_storage().nbytes() for t in saved.kept.values()) == [40, 60, 60]
    assert saved.bytes == 160


def test_activations_of_every_family_are_those_that_autograd_keeps(runner):
    off = {}
    for name in supported(runner):
        if name in UNCOUNTED or (found := counted(runner, [spec(runner, name)])) is None:
            continue
        ratio = found[0] / found[1]
        low, high = (0.66, 1.5) if name in ROUGH else (0.85, 1.15)
        if not low <= ratio <= high:
            off[name] = ratio
    assert not off, off


LORAS = [
    {"lora.targets": "q+v"},
    {"lora.targets": "attention", "lora.layers": 1},
    {"lora.targets": "feed-forward"},
    {"lora.dropout": 0.1},
    {"lora.rank": 32},
]


def test_activations_of_lora_and_of_mixed_packs(runner):
    packs = [[spec(runner, "lora", **changes)] for changes in LORAS]
    packs += [[spec(runner, "lora", i) for i in range(4)]]
    packs += [[spec(runner, name) for name in ("lora", "ia3", "serial", "norm")]]
    for specs in packs:
        predicted, exact = counted(runner, specs)
        assert predicted == pytest.approx(exact, rel=0.15), specs[0].config


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_activations_of_a_language_model(tiny_model, reviews, kind):
    named = {name: str(reviews / f"{name}.tsv") for name in ("train", "validation", "test")}
    task = TaskSpec(type="causal-lm", text="sentence", **named)
    runner = Runner(ModelSpec(name=str(tiny_model(kind)), precision="fp32"), task)
    for name in ("lora", "ia3", "serial"):
        predicted, exact = counted(runner, [spec(runner, name), spec(runner, name, 1)])
        assert predicted == pytest.approx(exact, rel=0.1), name


def test_eager_attention_keeps_its_probabilities(tiny_model, reviews):
    named = {name: str(reviews / f"{name}.tsv") for name in ("train", "validation", "test")}
    made = Runner(
        ModelSpec(name=str(tiny_model("llama")), precision="fp32"),
        TaskSpec(text="sentence", label="label", **named),
    )
    made.base.model.set_attn_implementation("eager")
    assert Computation.of(made.base).attention == "eager"
    predicted, exact = counted(made, [spec(made, "lora")])
    assert predicted == pytest.approx(exact, rel=0.15)


@pytest.mark.parametrize("weights", ["fp32", "bf16"])
def test_activations_in_half_precision(tiny_model, reviews, weights):
    """Casts are many there, and the model knows the large ones: it is held to a third."""
    named = {name: str(reviews / f"{name}.tsv") for name in ("train", "validation", "test")}
    task = TaskSpec(text="sentence", label="label", **named)
    made = Runner(ModelSpec(name=str(tiny_model("bert")), precision="bf16", weights=weights), task)
    assert Computation.of(made.base).number == (4 if weights == "fp32" else 2)
    for name in ("lora", "ia3", "serial"):
        predicted, exact = counted(made, [spec(made, name), spec(made, name, 1)])
        assert predicted == pytest.approx(exact, rel=0.33), name


def test_the_base_and_what_a_configuration_has_for_itself(runner):
    model = MemoryModel(runner.base.shape)
    exact = sum(p.nbytes for p in runner.base.model.parameters())
    assert model.base_bytes() == exact
    assert model.base_bytes("bf16") < model.base_bytes("int8") + 2 * exact
    assert exact < model.base_bytes(precision="bf16") < 1.5 * exact
    assert model.base_bytes(precision="bf16", device="cuda") < model.base_bytes()
    assert model.base_bytes("nf4") < model.base_bytes("int8") < model.base_bytes()
    s = spec(runner, "lora")
    pack = Pack(runner.base, runner.data)
    assert pack.enter(0, s) is None
    run = pack._runs[0]
    assert pack._unallocated() == model.own(s.config)
    pack.advance()
    assert pack._unallocated() == 0
    parameters = sum(p.nbytes for p in run.parameters)
    state = sum(t.nbytes for kept in run._optimizer.state.values() for t in kept.values() if t.ndim)
    assert model.own(s.config) == 2 * parameters + state
    assert model.own({**s.config, "optimizer": "lion"}) == 3 * parameters


def test_memory_grows_with_the_chunk_the_length_and_lower_layers(runner):
    low, high = (spec(runner, "lora", **{"lora.layers": n}).config for n in (2, 1))
    model = Pack(runner.base, runner.data).memory
    assert model.step([low], 2048, 64) > 1.9 * model.step([low], 1024, 64) - model.own(low)
    assert model.kept([low], 2048, 64) > model.kept([low], 2048, 16)
    assert model.kept([high, low], 2048, 64) == pytest.approx(model.kept([low], 2048, 64), rel=0.1)
    assert model.kept([high], 2048, 64) < 0.75 * model.kept([low], 2048, 64)
    assert model.step([low, low], 1024, 64) - model.step([low], 1024, 64) == pytest.approx(model.own(low))


@pytest.mark.parametrize("kind", ["bert", "llama", "deberta", "t5"])
def test_every_configuration_has_a_prediction(tiny_model, kind):
    """Also those that will train alone: who enters is asked before that is known."""
    shape = read_shape(str(tiny_model(kind)), "sequence-classification")
    model = MemoryModel(shape, Computation(first_token=kind == "bert"))
    space, rng = (
        load_space("everything", shape=shape, task="sequence-classification").space,
        np.random.default_rng(0),
    )
    drawn = [space.sample(rng) for _ in range(300)]
    assert len({config["family"] for config in drawn}) > 20
    for config in drawn:
        assert 0 < model.step([config], 512, 16) < model.step([config] * 3, 2048, 64)


def test_a_trained_scale_without_a_shift_keeps_both_factors(tiny_model, reviews):
    named = {name: str(reviews / f"{name}.tsv") for name in ("train", "validation", "test")}
    task = TaskSpec(text="sentence", label="label", **named)
    made = Runner(ModelSpec(name=str(tiny_model("llama")), precision="fp32"), task)
    predicted, exact = counted(made, [spec(made, "norm")])
    assert predicted == pytest.approx(exact, rel=0.1)


def test_a_family_says_itself_what_it_keeps(tiny_model, monkeypatch):
    shape = read_shape(str(tiny_model("bert")), "sequence-classification")
    model = MemoryModel(shape)

    def kept(saved_copies=0.0, saved_copies_of_rank=0.0, sides=("input",)):
        own = {"saved_copies": saved_copies, "saved_copies_of_rank": saved_copies_of_rank}
        kind = type("Mine", (Lora,), {"name": "mine", **own, "saved_sides": lambda self, matrix: sides})
        monkeypatch.setitem(REGISTRY, "mine", kind())
        config = {"family": "mine", "mine.rank": 4, "mine.layers": 2, "mine.targets": "down"}
        return model.kept([config], 100, 10)

    down = next(m for m in shape.matrices if m.role == "down")
    config = {"family": "lora", "lora.rank": 4, "lora.layers": 2, "lora.targets": "down"}
    assert kept() == model.kept([config], 100, 10)
    assert kept(3.0, 0.5) - kept() == 2 * (3.0 + 0.5 * 4) * down.inputs * down.outputs * 4
    assert kept() - kept(sides=()) == 2 * 100 * down.inputs * 4
    assert kept(sides=("input", "output")) - kept() == 2 * 100 * down.outputs * 4


def tight(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr(pack_module, "free_memory", lambda device: int(free))


def test_chunks_are_as_large_as_memory_lets_them(runner, monkeypatch):
    s = spec(runner, "lora")
    pack = Pack(runner.base, runner.data)
    pack.prefixes.limit = 0
    whole = pack._chunk_bytes([s.config], 2048)
    tight(monkeypatch, (0.4 * whole + pack.memory.own(s.config)) / pack_module._USABLE_MEMORY)
    assert pack.enter(0, s) is None
    assert pack.chunk_tokens == 512
    tight(monkeypatch, 1)
    pack._fit_chunks()
    assert pack.chunk_tokens == pack_module._MIN_CHUNK_TOKENS
    monkeypatch.setattr(pack_module, "free_memory", lambda device: None)
    pack._fit_chunks()
    assert pack.chunk_tokens == 2048


def test_packs_that_share_memory_take_a_part_of_it_each(runner, monkeypatch):
    tight(monkeypatch, 1000)
    free = []
    for sharers in (1, 4):
        pack = Pack(runner.base, runner.data, sharers=sharers)
        pack.prefixes.limit = 100  # promised to this pack's own states
        free.append(pack._free())
    assert free == [900, 150]


def test_one_that_does_not_fit_waits_until_another_leaves(runner, monkeypatch):
    specs = [spec(runner, "lora", seed, epochs=1) for seed in range(3)]
    setup = (
        ModelSpec(name=runner.base.model.config._name_or_path, precision="fp32"),
        runner.base.task,
    )
    executor = PackedExecutor(workers=3)
    executor.start(*setup)
    pack: Pack = executor.runner.pack()
    pack.prefixes.limit = 0
    configs = [s.config for s in specs]
    own, least = pack.memory.own(configs[0]), 512
    # Two and the chunk of both fit, a third does not.
    tight(monkeypatch, (2.5 * own + pack._chunk_bytes(configs, least)) / pack_module._USABLE_MEMORY)
    for ticket, s in enumerate(specs):
        executor.submit(ticket, s)
    sizes, real = [], pack.advance
    monkeypatch.setattr(pack, "advance", lambda: sizes.append(len(pack)) or real())
    results = dict(executor.next_result() for _ in specs)
    executor.stop()
    assert max(sizes) == 2
    assert sizes[-1] == 1
    for result, alone in zip((results[i] for i in range(3)), packed(runner, specs), strict=True):
        agree(result, alone, rel=1e-5)


def test_the_first_is_tried_whatever_the_model_says(runner, monkeypatch):
    tight(monkeypatch, 0)
    pack = Pack(runner.base, runner.data)
    assert pack.fits(spec(runner, "lora"))
    assert pack.enter(0, spec(runner, "lora")) is None
    assert not pack.fits(spec(runner, "lora"))


def test_free_memory_is_the_kernels_within_the_control_group(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    cpu = torch.device("cpu")
    assert free_memory(cpu) is None
    (tmp_path / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable:   500 kB\n")
    assert free_memory(cpu) == 500 * 1024
    (tmp_path / "memory.current").write_text("300000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(cpu) == 500 * 1024
    (tmp_path / "memory.max").write_text("400000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 50000\n")
    assert free_memory(cpu) == 150_000
    assert free_memory(torch.device("meta")) is None
