"""The composite tuner by itself: any parts at once, by name, across processes, and never a write to the base."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from search_spaces import tuners
from search_spaces.families import REGISTRY
from search_spaces.families.autopeft import OFF, size_of
from search_spaces.families.composite import PARTS
from search_spaces.language.loader import load_space
from search_spaces.model.shape import TaskType
from search_spaces.parameters.types import Categorical, Configuration, Int
from search_spaces.tuners.attention import _attention
from search_spaces.tuners.compacter import _projection
from tests.support.tiny_models import (
    CONFIGS,
    DEPTH,
    LABELS,
    batch,
    build,
    largest,
    logits,
    shape_of,
    step,
)

LAYER = r"bert\.encoder\.layer\.{}\."
SUBSETS = [s for n in range(1, 6) for s in itertools.combinations(PARTS, n)]


def composite(parts: tuple[str, ...]) -> Configuration:
    """The parts, each with layers of its own: 1, 2, 3, 1 and 2 from the top."""
    config: Configuration = {f"parts.{part}": part in parts for part in PARTS}
    for number, part in enumerate(PARTS):
        config[f"{part}.layers"] = number % DEPTH + 1
    return {**config, "lora.rank": 3, "serial.size": 5, "parallel.size": 4, "prefix.tokens": 2}


def adapted(family: str, config: Configuration, model: str = "bert", task: TaskType = "regression") -> Any:
    base = build(model, task)
    torch.manual_seed(2)
    return get_peft_model(base, REGISTRY[family].peft_config(config, shape_of(model, task), task))


def configured(parts: list[dict[str, Any]], base: nn.Module | None = None) -> Any:
    config = tuners.CompositeConfig(task_type="SEQ_CLS", parts=parts)
    return get_peft_model(base or build("bert", "regression"), config)


def trained(model: Any, task: TaskType = "regression") -> Any:
    step(model, batch(task, padded=True))
    return model


@pytest.mark.parametrize("parts", SUBSETS, ids="+".join)
def test_any_subset_of_parts_trains_saves_and_loads(parts: tuple[str, ...], tmp_path: Path) -> None:
    model = adapted("composite", composite(parts))
    inputs = batch("regression", padded=True)
    before = logits(model, inputs)
    own = {name for name, p in model.named_parameters() if p.requires_grad}
    assert own == {n for n, _ in model.named_parameters() if "composite_" in n or "modules_to_save" in n}
    step(model, inputs)
    assert {name for name, p in model.named_parameters() if p.grad is not None} == own
    after = logits(model, inputs)
    assert largest(after - before) > 1e-3
    model.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(build("bert", "regression"), tmp_path)
    assert largest(logits(loaded, inputs) - after) < 1e-6
    with loaded.disable_adapter():
        plain = logits(loaded, inputs)
    assert largest(plain - logits(build("bert", "regression"), inputs)) == 0


def test_every_family_of_ours_loads_in_a_new_process(tmp_path: Path) -> None:
    """One process that knows of the base and the folders alone."""
    inputs = batch("regression", padded=True)
    own = {}
    for name, family in REGISTRY.items():
        config: Configuration = {"layers": 2, **(composite(PARTS) if name == "composite" else {})}
        peft_config = family.peft_config(config, shape_of("bert", "regression"), "regression")
        if isinstance(peft_config, tuners.CompositeConfig):
            model = trained(adapted(name, config))
            model.save_pretrained(tmp_path / name)
            own[name] = logits(model, inputs)
    assert {"serial", "parallel", "layer-prefix", "compacter", "autopeft", "ssf", "bitfit", "full"} < set(own)
    build("bert", "regression").save_pretrained(tmp_path / "base")
    save_file({k: v for k, v in inputs.items() if k != "labels"}, tmp_path / "inputs.safetensors")
    found = in_new_process(tmp_path, list(own))
    for name, expected in own.items():
        assert largest(found[name] - expected) < 1e-6, name


def in_new_process(folder: Path, names: list[str]) -> dict[str, torch.Tensor]:
    """The logits of each adapter in `folder`, computed by a process that imports the tuners by themselves."""
    code = f"""
import sys, torch
sys.path.insert(0, {str(Path(tuners.__file__).parents[1])!r})
import tuners
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification
folder, found = {str(folder)!r}, {{}}
inputs = load_file(folder + "/inputs.safetensors")
for name in {names!r}:
    base = AutoModelForSequenceClassification.from_pretrained(folder + "/base", attn_implementation="eager")
    with torch.no_grad():
        found[name] = PeftModel.from_pretrained(base, folder + "/" + name).eval()(**inputs).logits
assert not any(module.startswith("search_spaces") for module in sys.modules)
save_file(found, folder + "/found.safetensors")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return load_file(folder / "found.safetensors")


@pytest.mark.parametrize("family", ["composite", "compacter", "full"])
def test_adapters_by_name(family: str, tmp_path: Path) -> None:
    config: Configuration = composite(PARTS) if family == "composite" else {"layers": 2}
    inputs = batch("regression")
    model = adapted(family, config)
    step(model, inputs)
    first = logits(model, inputs)
    other = {**composite(("serial", "ia3")), "serial.layers": DEPTH} if family == "composite" else config
    shape = shape_of("bert", "regression")
    model.add_adapter("second", REGISTRY[family].peft_config(other, shape, "regression"))
    model.set_adapter("second")
    assert all(
        p.requires_grad == (".second" in name)
        for name, p in model.named_parameters()
        if "composite_" in name or "modules_to_save" in name
    )
    for p in model.parameters():
        p.grad = None
    step(model, inputs, size=0.2)
    second = logits(model, inputs)
    model.set_adapter("default")
    assert largest(logits(model, inputs) - first) == 0
    model.save_pretrained(tmp_path)
    assert not any("second" in key for key in load_file(tmp_path / "adapter_model.safetensors"))
    model.load_adapter(tmp_path / "second", "third")
    model.set_adapter("third")
    assert largest(logits(model, inputs) - second) < 1e-6
    model.set_adapter("second")
    model.delete_adapter("default")
    model.delete_adapter("third")
    assert largest(logits(model, inputs) - second) == 0


MERGING: dict[str, Configuration] = {
    "composite": composite(("lora", "ia3")),
    "ssf": {"layers": 2},
    "bitfit": {"layers": 2},
    "half": {},
    "full": {},
    "top-layers": {"layers": 1},
}


@pytest.mark.parametrize("model_name", ["bert", "gpt2"])
@pytest.mark.parametrize("family", MERGING)
def test_merging_writes_into_no_tensor_of_the_base(family: str, model_name: str) -> None:
    inputs = batch("regression", padded=True)
    base = build(model_name, "regression")
    tensors = dict(base.named_parameters())
    copies = {name: p.detach().clone() for name, p in tensors.items()}
    shape = shape_of(model_name, "regression")
    model = get_peft_model(base, REGISTRY[family].peft_config(MERGING[family], shape, "regression"))
    step(model, inputs)
    expected = logits(model, inputs)
    model.merge_adapter(safe_merge=True)
    assert largest(logits(model, inputs) - expected) < 1e-5
    model.unmerge_adapter()
    assert largest(logits(model, inputs) - expected) == 0
    merged = copy.deepcopy(model).merge_and_unload()
    assert not any(isinstance(module, tuners.CompositeLayer) for module in merged.modules())
    assert largest(logits(merged, inputs) - expected) < 1e-5
    plain = model.unload()
    assert {type(m) for m in plain.modules()} >= {type(m) for m in build(model_name, "regression").modules()}
    for name, original in copies.items():
        assert torch.equal(tensors[name], original), name


def test_what_cannot_be_merged_says_so() -> None:
    with pytest.raises(ValueError, match="parts of kind parallel, prefix, serial cannot be merged"):
        adapted("composite", composite(PARTS)).merge_adapter()


def test_unloading_puts_the_attention_back() -> None:
    model = adapted("layer-prefix", {})
    assert model.config._attn_implementation == "eager_with_prefix"
    inputs = batch("regression")
    with model.disable_adapter():
        expected = logits(model, inputs)
    base = model.unload()
    assert base.config._attn_implementation == "eager"
    assert largest(logits(base, inputs) - expected) == 0


def test_sizes_by_layer() -> None:
    targets = LAYER + r"output\.dense"
    model = configured(
        [{"kind": "serial", "targets": targets.format(layer), "size": 2 + layer} for layer in range(DEPTH)]
    )
    downs = [p.shape[0] for name, p in model.named_parameters() if name.endswith("serial_down.default")]
    assert downs == [2, 3, 4]
    named = [f"bert.encoder.layer.{layer}.output.dense" for layer in (0, 2)]
    model = configured([{"kind": "serial", "targets": named, "size": 1}])
    hit = [name for name, m in model.base_model.model.named_modules() if isinstance(m, tuners.CompositeLayer)]
    assert hit == named


@pytest.mark.parametrize("model_name", ["bert", "llama"])
def test_gradient_checkpointing_changes_nothing(model_name: str) -> None:
    inputs = batch("regression", padded=True)

    def gradients(checkpointing: bool) -> list[torch.Tensor]:
        model = adapted("composite", composite(PARTS), model_name).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model(**inputs).loss.backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    for plain, checkpointed in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(plain, checkpointed)


@pytest.mark.parametrize(
    ("model_name", "task"), [("bert", "regression"), ("modernbert", "regression"), ("llama", "causal-lm")]
)
@pytest.mark.parametrize("padded", [False, True])
def test_eager_and_sdpa_agree(model_name: str, task: TaskType, padded: bool) -> None:
    auto = AutoModelForCausalLM if task == "causal-lm" else AutoModelForSequenceClassification
    outputs = []
    for implementation in ("eager", "sdpa"):
        config = copy.deepcopy(build(model_name, task).config)
        torch.manual_seed(0)
        base = auto.from_config(config, attn_implementation=implementation)
        torch.manual_seed(2)
        prefix = REGISTRY["layer-prefix"].peft_config(
            {"layers": 2, "tokens": 3}, shape_of(model_name, task), task
        )
        model = get_peft_model(base, prefix)
        with torch.no_grad():
            for name, p in model.named_parameters():
                if "composite_" in name:
                    p.normal_()
        outputs.append(logits(model, batch(task, padded=padded)))
    seen = batch(task, padded=padded)["attention_mask"].bool()
    if task == "causal-lm":
        outputs = [output[seen] for output in outputs]
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-4)


def test_generation_with_a_cache_sees_the_prefix_at_every_step() -> None:
    model = trained(
        adapted("layer-prefix", {"layers": 2, "tokens": 3}, "llama", "causal-lm"), "causal-lm"
    ).eval()
    ids = batch("causal-lm")["input_ids"]
    with torch.no_grad():
        whole = model(input_ids=ids).logits
        first = model(input_ids=ids[:, :-2], use_cache=True)
        second = model(input_ids=ids[:, -2:-1], past_key_values=first.past_key_values, use_cache=True)
        third = model(input_ids=ids[:, -1:], past_key_values=second.past_key_values)
    torch.testing.assert_close(third.logits[:, 0], whole[:, -1], atol=1e-5, rtol=1e-4)


def test_attention_with_a_prefix_by_hand() -> None:
    """softmax of [q·k_prefix, q·k] over the prefix's and the module's own values, for grouped heads."""
    model = adapted("layer-prefix", {"layers": 1, "tokens": 2}, "llama", "causal-lm")
    module = model.base_model.model.model.layers[DEPTH - 1].self_attn
    part, own = next(iter(module.k_proj.active()))
    assert (part.heads, part.size, part.width) == (2, 2, 8)
    query, key, value = torch.randn(1, 4, 3, 8), torch.randn(1, 2, 3, 8), torch.randn(1, 2, 3, 8)
    mask = torch.full((1, 1, 3, 3), -1e9).triu(1)
    found, _ = _attention("eager")(module, query, key, value, mask, scaling=0.5, dropout=0.0)
    keys = torch.cat((own["keys"], key[0]), dim=1).repeat_interleave(2, dim=0)
    values = torch.cat((own["values"], value[0]), dim=1).repeat_interleave(2, dim=0)
    scores = 0.5 * query[0] @ keys.transpose(1, 2) + torch.cat((torch.zeros(3, 2), mask[0, 0]), dim=1)
    torch.testing.assert_close(found[0], (scores.softmax(-1) @ values).transpose(0, 1))


def test_compacter_projections_are_sums_of_kronecker_products() -> None:
    rules, columns, rows = torch.randn(2, 2, 2), torch.randn(2, 3), torch.randn(2, 5)
    expected = sum(torch.kron(rules[i], torch.outer(columns[i], rows[i])) for i in range(2))
    torch.testing.assert_close(_projection(rules, columns, rows), expected)


def test_tied_embeddings_stay_tied() -> None:
    model = trained(adapted("full", {}, "gpt2", "causal-lm"), "causal-lm")
    names = [name for name, _ in model.named_parameters() if "composite_" in name]
    assert sum("wte" in name for name in names) == 1
    assert not any("lm_head" in name for name in names)
    merged = model.merge_and_unload()
    head, embedding = merged.get_output_embeddings().weight, merged.get_input_embeddings().weight
    assert head.data_ptr() == embedding.data_ptr()
    assert merged.config.tie_word_embeddings


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"kind": "lorra", "targets": "x"}, r"parts\[0\]: kind: unknown kind 'lorra'"),
        ({"kind": "serial", "targets": "x", "size": 0}, r"parts\[0\]: size: 0 is not a positive"),
        ({"kind": "serial", "targets": "x", "activation": "rellu"}, r"activation: 'rellu'"),
        ({"kind": "serial"}, r"parts\[0\]: .*targets"),
        ({"kind": "compacter", "targets": "x", "size": 6, "terms": 4}, "size: 6 is not a multiple"),
        ({"kind": "rescale", "targets": "x", "side": "up"}, "side: 'up'"),
        ({"kind": "parallel", "targets": "x"}, "reads: it is empty"),
        ({"kind": "serial", "targets": "nowhere"}, "'nowhere' of part serial matches no module"),
        ({"kind": "serial", "targets": ".*LayerNorm"}, "LayerNorm is not a matrix"),
        ({"kind": "parallel", "targets": r".*\.output\.dense", "reads": "x"}, "matches 0 modules for 6"),
    ],
)
def test_a_wrong_part_says_what_is_wrong(part: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        configured([part])


def test_two_parts_of_a_kind_on_one_module_are_refused() -> None:
    part = {"kind": "serial", "targets": LAYER.format(0) + r"output\.dense"}
    with pytest.raises(ValueError, match="two of kind serial have the same target"):
        configured([part, {**part, "size": 3}])


# --- AutoPEFT's space


def test_autopeft_has_as_many_configurations_as_the_paper() -> None:
    """11³ · 2¹² = 5,451,776 for the 12 layers of BERT-base."""
    space = load_space("autopeft").space.bind(12)
    count = 1
    for parameter in space.parameters:
        assert isinstance(parameter, Categorical | Int)
        values = len(parameter.choices) if isinstance(parameter, Categorical) else parameter.high + 1
        count *= values
    assert count == 11**3 * 2**12 == 5_451_776
    off = {f"autopeft.layers.{layer}": False for layer in range(12)}
    assert space.problems({**space.default(), **off}) == ["autopeft.layers: every switch is off; turn one on"]


def test_autopeft_sizes_are_those_of_the_paper() -> None:
    assert [size_of(k, 768) for k in range(OFF + 1)] == [768, 384, 192, 96, 48, 24, 12, 6, 3, 1, 0]


def test_autopeft_with_everything_off_is_the_head_alone() -> None:
    config: Configuration = {"serial": OFF, "parallel": OFF, "prefix": OFF}
    shape = shape_of("bert", "regression")
    assert REGISTRY["autopeft"].cost(config, shape) == REGISTRY["head"].cost({}, shape)
    model = adapted("autopeft", config)
    assert all("modules_to_save" in name for name, p in model.named_parameters() if p.requires_grad)
    with pytest.raises(ValueError, match="no head to train"):
        REGISTRY["autopeft"].peft_config(config, shape_of("gpt2", "causal-lm"), "causal-lm")


def test_a_composite_without_any_part_is_no_configuration() -> None:
    space = load_space("composite").space.bind(4)
    assert "composite.parts: every switch is off; turn one on" in space.problems(
        {**space.default(), **{f"composite.parts.{part}": False for part in PARTS}}
    )


@pytest.mark.slow
def test_two_hundred_configurations_of_autopeft(tmp_path: Path) -> None:
    """Random configurations on twelve layers: each trains, and gives the same outputs in another process."""
    import numpy as np

    from search_spaces.families import local_config
    from search_spaces.model.reader import read_shape

    config = CONFIGS["bert"]()
    config.num_hidden_layers, config.num_labels = 12, LABELS
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    shape = read_shape(config, "sequence-classification", LABELS)
    torch.manual_seed(0)
    base = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    base.save_pretrained(tmp_path / "base")
    copies = {name: p.detach().clone() for name, p in base.named_parameters()}
    inputs = batch("sequence-classification", padded=True)
    save_file({k: v for k, v in inputs.items() if k != "labels"}, tmp_path / "inputs.safetensors")
    space, rng = load_space("autopeft", shape=shape).space, np.random.default_rng(0)
    expected: dict[str, torch.Tensor] = {}
    for number in range(200):
        local = local_config("autopeft", space.sample(rng))
        model = copy.deepcopy(base, {id(p): p for p in base.parameters()})
        family = REGISTRY["autopeft"]
        model = get_peft_model(model, family.peft_config(local, shape, "sequence-classification"))
        before = logits(model, inputs)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
        for _ in range(3):
            optimizer.zero_grad()
            model.train()(**inputs).loss.backward()
            optimizer.step()
        own = sum(p.numel() for name, p in model.named_parameters() if "composite_" in name)
        assert own == family.cost(local, shape).parameters, local
        expected[str(number)] = logits(model, inputs)
        assert largest(expected[str(number)] - before) > 1e-3, local
        assert bool(expected[str(number)].isfinite().all())
        model.save_pretrained(tmp_path / str(number), save_embedding_layers=False)
    assert all(
        torch.equal(p, copies[name]) for name, p in base.named_parameters() if "classifier" not in name
    )
    found = in_new_process(tmp_path, list(expected))
    errors = {name: largest(found[name] - output) for name, output in expected.items()}
    print(json.dumps({"configurations": len(errors), "largest_difference": max(errors.values())}))
    assert max(errors.values()) < 1e-6
