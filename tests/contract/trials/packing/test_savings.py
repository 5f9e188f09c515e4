"""What a pack need not compute: it leaves it out, and the numbers stay."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import BertConfig, BertModel

from tests.support.packs import agree, alone, packed, spec
from trials.execution.runner import Runner
from trials.kinds.registry import find_kind
from trials.packing.joined_model import CannotJoinError, Rows, frozen_layers, join
from trials.packing.layer_gates import EarlyExit, Gate, LayerSchedule, first_token_of, reads_first_token
from trials.packing.lora import add_products, plain_factors
from trials.packing.pack import Pack
from trials.packing.prefix_cache import PrefixCache
from trials.tasks.specs import ModelSpec, TaskSpec
from trials.training.run import Run, train_to_end


def test_products_are_those_of_peft():
    """Forward and every gradient, with one part that has no adapter."""
    torch.manual_seed(0)
    base = nn.Linear(12, 20).requires_grad_(False)
    layers = []
    for rank in (2, 5):
        config = LoraConfig(r=rank, lora_alpha=3 * rank, target_modules=["0"], init_lora_weights=False)
        layer = get_peft_model(nn.Sequential(base), config).base_model.model[0]
        base = layer.get_base_layer()
        layers.append(layer)
    x = torch.randn(7, 3, 12, requires_grad=True)
    weights = torch.randn(7, 3, 20)
    expected = torch.cat([layers[0](x[:2]), base(x[2:3]), layers[1](x[3:])])
    tensors = [x, *(p for layer in layers for p in layer.parameters() if p.requires_grad)]
    wanted = torch.autograd.grad((expected * weights).sum(), tensors)
    first, second = (plain_factors(layer, base) for layer in layers)
    y = add_products(x, base, [(slice(0, 2), first), (slice(2, 3), None), (slice(3, 7), second)])
    torch.testing.assert_close(y, expected)
    for got, want in zip(torch.autograd.grad((y * weights).sum(), tensors), wanted, strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("changes", [{"use_dora": True}, {"lora_bias": True}, {"init_lora_weights": "pissa"}])
def test_other_layers_than_plain_ones_are_left_to_peft(changes):
    base = nn.Linear(12, 20).requires_grad_(False)
    own = nn.Linear(12, 20).requires_grad_(False)
    own.load_state_dict(base.state_dict())
    own.weight.data = base.weight.data  # shared, as in a skeleton
    config = LoraConfig(r=2, target_modules=["0"], **changes)
    layer = get_peft_model(nn.Sequential(own), config).base_model.model[0]
    assert plain_factors(layer, base) is None


@pytest.mark.parametrize(
    "changes",
    [{"lora.init": "pissa"}, {"lora.dora": True}, {"lora.freeze_a": True}, {"lora.layers": 1}],
    ids=str,
)
def test_lora_in_its_forms(runner, changes):
    specs = [spec(runner, "lora", 1, **changes), spec(runner, "lora", 2)]
    for s, result in zip(specs, packed(runner, specs), strict=True):
        agree(result, train_to_end(Run(runner.base, runner.data, s)), rel=1e-5)


def test_frozen_layers_are_counted_from_the_input(runner):
    counted = {}
    for name, layers in (("lora", 2), ("lora", 1), ("head", None)):
        if name in {"head"} and runner.base.shape.task == "causal-lm":
            continue
        changes = {} if layers is None else {f"{name}.layers": layers}
        model = runner.base.adapted(spec(runner, name, **changes).config, 0)
        counted[name, layers] = frozen_layers(runner.base.model, model, runner.base.shape)
    assert counted == {("lora", 2): 0, ("lora", 1): 1, ("head", None): 2}


def test_each_example_passes_the_frozen_layers_once(runner):
    specs = [spec(runner, "lora", seed, **{"lora.layers": 1, "epochs": 3}) for seed in (1, 2)]
    pack, computed = Pack(runner.base, runner.data), []
    real = pack._compute

    def noting(missing, start, below, stop):
        computed.extend(id(example) for example in missing)
        return real(missing, start, below, stop)

    pack._compute = noting
    for ticket, s in enumerate(specs):
        assert pack.enter(ticket, s) is None
    results = {}
    while len(pack):
        results.update(pack.advance())
    assert len(computed) == len(set(computed)) == 96 + 40
    for ticket, s in enumerate(specs):
        agree(results[ticket], train_to_end(Run(runner.base, runner.data, s)), rel=1e-5)


def test_a_cache_that_is_full_changes_nothing_but_time(runner):
    s = spec(runner, "lora", 1, **{"lora.layers": 1})
    pack = Pack(runner.base, runner.data)
    pack.prefixes = PrefixCache(limit=20_000)
    assert pack.enter(0, s) is None
    results = {}
    while len(pack):
        results.update(pack.advance())
    assert 10_000 < pack.prefixes.bytes <= 20_000
    agree(results[0], train_to_end(Run(runner.base, runner.data, s)), rel=1e-5)


def test_configurations_with_other_frozen_layers_reuse_hidden_states(tiny_model, reviews, tmp_path):
    """Four layers, of which three, one, two and none stay frozen: each example passes each layer once."""
    folder = shutil.copytree(tiny_model("bert"), tmp_path / "deep")
    BertModel(BertConfig.from_pretrained(folder, num_hidden_layers=4)).save_pretrained(folder)
    named = {name: str(reviews / f"{name}.tsv") for name in ("train", "validation", "test")}
    task = TaskSpec(text="sentence", label="label", **named)
    runner = Runner(ModelSpec(name=str(folder), precision="fp32"), task)
    specs = [spec(runner, "lora", seed, **{"lora.layers": n}) for seed, n in ((1, 1), (2, 3), (3, 2), (4, 4))]
    pack = Pack(runner.base, runner.data)
    passed: list[tuple[int, int, int]] = []
    real = pack._compute

    def noting(missing, start, below, stop):
        passed.extend((id(example), start, stop) for example in missing)
        return real(missing, start, below, stop)

    pack._compute = noting
    for ticket, s in enumerate(specs):
        assert pack.enter(ticket, s) is None
    together = {}
    while len(pack):
        together.update(pack.advance())
    assert len(passed) == len(set(passed))
    assert {(start, stop) for _, start, stop in passed} == {(0, 1), (1, 2), (2, 3)}
    for ticket, s in enumerate(specs):
        agree(together[ticket], train_to_end(Run(runner.base, runner.data, s)), rel=1e-5)


def test_missing_states_begin_at_the_highest_layers_known():
    cache, calls = PrefixCache(), []
    examples = [{"input_ids": [1] * n} for n in (3, 2, 1)]

    def compute(missing, start, below, stop):
        calls.append((len(missing), start, None if below is None else tuple(below.shape), stop))
        return torch.arange(3.0).view(1, 3, 1).expand(len(missing), 3, 4) + stop

    assert cache.get(examples[:2], 2, compute).shape == (2, 3, 4)
    found = cache.get(examples, 5, compute)
    assert torch.equal(
        found[:, :, 0], torch.tensor([[5.0, 6, 7], [5, 6, 0], [5, 0, 0]])
    )  # padding is not kept
    cache.get(examples[1:], 5, compute)
    assert calls == [(2, 0, None, 2), (2, 2, (2, 3, 4), 5), (1, 0, None, 5)]
    assert cache.bytes == (5 + 6) * 4 * 4
    cache.get(examples[2:], 7, compute, stops={6, 7, 8})
    assert calls[3:] == [(1, 5, (1, 1, 4), 6), (1, 6, (1, 1, 4), 7)]


def test_the_first_token_alone_gives_the_same_logits_and_gradients(
    tiny_model: Callable[[str], Path], runner: Runner
):
    base = runner.base
    if not reads_first_token(base.model):
        assert base.model.config.model_type in {"gpt2", "llama"}
        pytest.skip("its classifier reads the last token")
    model = base.adapted(spec(runner, "lora").config, 0)
    kind = find_kind(runner.base.task.type)
    whole = kind.collate(runner.data.splits["train"][:8], runner.data.tokenizer)
    batch, labels = whole.inputs, whole.targets["labels"]
    rows = Rows([(0, slice(0, 8))])
    joined = join(base.model, {0: model}, rows, base.shape.layers_path, LayerSchedule())
    last = joined.get_submodule(base.shape.layers_path)[-1]
    assert isinstance(last, Gate)
    assert last._first_token is not None
    parameters = [p for p in model.parameters() if p.requires_grad]
    found = []
    for forward in (lambda: model(**batch).logits, lambda: joined(**batch).logits):
        logits = forward()
        loss = nn.functional.cross_entropy(logits, labels)
        found.append((logits, torch.autograd.grad(loss, parameters)))
    torch.testing.assert_close(found[0][0], found[1][0])
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other)


def test_a_gate_begins_and_ends_where_it_is_told():
    way = LayerSchedule()
    layers = nn.Sequential(*(Gate(nn.Linear(4, 4), number, way) for number in range(3)))
    x = torch.randn(2, 4)
    whole, first = layers(x), layers[0](x)
    way.start, way.hidden = 1, first
    torch.testing.assert_close(layers(torch.zeros(2, 4)), whole)
    way.stop = 2
    with pytest.raises(EarlyExit):
        layers(x)
    torch.testing.assert_close(way.hidden, layers[1].layer(first))
    assert layers[0].in_features == 4
    assert first_token_of(layers[0].layer) is None


def test_a_model_with_a_trained_tensor_of_its_own_cannot_join(runner):
    model = runner.base.adapted(spec(runner, "lora").config, 0)
    model.register_parameter("more", nn.Parameter(torch.zeros(1)))
    with pytest.raises(CannotJoinError, match="outside the base model's modules"):
        join(runner.base.model, {0: model}, Rows())


def test_a_runner_trains_in_a_pack_of_one_and_uses_what_earlier_trials_computed(runner):
    fresh = Runner(ModelSpec(name=runner.base.model.config._name_or_path, precision="fp32"), runner.base.task)
    top = spec(fresh, "lora", 3, **{"lora.layers": 1})
    first = fresh.run(top)
    kept = fresh.pack().prefixes.bytes
    assert kept > 0
    agree(first, alone(fresh, top), rel=1e-5)
    again = fresh.run(top)
    assert again.metrics == first.metrics
    assert fresh.pack().prefixes.bytes == kept
    assert not len(fresh.pack())


def test_a_trial_whose_time_is_its_own_uses_nothing_of_others(runner):
    fresh = Runner(ModelSpec(name=runner.base.model.config._name_or_path, precision="fp32"), runner.base.task)
    result = alone(fresh, spec(fresh, "lora", 3, **{"lora.layers": 1}))
    assert result.train_seconds > 0
    assert not fresh.packs


def test_runners_beside_each_other_share_what_may_be_kept(runner, monkeypatch):
    monkeypatch.setattr("trials.execution.runner.free_memory", lambda device: 4 * 10**6)
    setup = (ModelSpec(name=runner.base.model.config._name_or_path, precision="fp32"), runner.base.task)
    assert Runner(*setup).pack().prefixes.limit == 10**6
    assert Runner(*setup, 5).pack().prefixes.limit == 2 * 10**5
