"""`autotune spaces` and `autotune cost`: what they find out, print and refuse. Models are config files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import BertConfig, DebertaV2Config, DistilBertConfig, GPT2Config, T5Config, ViTConfig
from typer.testing import CliRunner, Result

from autotune.cli.app import QUIETING, app
from autotune.figures.space_costs import plot_space_costs
from autotune.sampler.candidates import enumerate_configurations
from autotune.scaffold.model_shape import shape_of_model
from autotune.spaces.costs import QUANTILES, strip, view_costs
from autotune.spaces.summary import presets, view_space
from search_spaces.costs.cost_model import KNOWN_COSTS, CostModel
from search_spaces.costs.workload import Workload
from search_spaces.families import REGISTRY
from search_spaces.language.loader import load_space, preset_names
from search_spaces.model.reader import read_shape
from search_spaces.model.shape import ModelShape
from tests.support.tiny_configs import CONFIGS

SMALL = {"vocab_size": 90, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 56}
FINITE = """
families: [lora, head]
parameters:
  lora.targets: [q+v, all]
  lora.rank: {low: 1, high: 4}
  lora.scale: 2.0
  lora.init: kaiming
  lora.freeze_a: false
  lora.lr_ratio: 1.0
  lora.dropout: 0.0
  lora.learning_rate: [1e-4, 3e-4]
  head.learning_rate: 1e-3
  weight_decay: 0.01
  batch_size: [16, 32]
  warmup: 0.06
  schedule: linear
"""


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in QUIETING.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config.json and nothing else."""
    folder = tmp_path_factory.mktemp("bert")
    BertConfig(**SMALL, num_hidden_layers=3).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def shape(bert: Path) -> ModelShape:
    return shape_of_model(str(bert), "sequence-classification")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def asked(*arguments: object) -> dict[str, Any]:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def words(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


# --- spaces


def test_presets_are_shown_with_their_contents() -> None:
    found = asked("spaces")["presets"]
    assert list(found) == preset_names()
    assert found["lora-plain"]["families"] == ["lora"]
    text = words(invoke("spaces"))
    for name, (about, _) in presets().items():
        assert name in text
        assert len(about) > 20
        assert found[name]["parameters"] == len(load_space(name).space)


def test_every_family_is_supported_or_has_a_reason(tmp_path: Path) -> None:
    DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=56).save_pretrained(tmp_path)
    found = asked("spaces", "--model", tmp_path)
    assert list(found["families"]) == list(REGISTRY)
    assert found["families"]["lora"] == {
        "title": REGISTRY["lora"].title,
        "supported": True,
        "reason": None,
    }
    assert found["families"]["prefix"]["supported"] is False
    assert "no past_key_values" in found["families"]["prefix"]["reason"]
    text = words(invoke("spaces", "--model", tmp_path))
    assert "no distilbert accepts no keys and values from outside" in text
    assert "2 layers of width 32" in text


def test_targets_name_their_layers_where_layers_differ(tmp_path: Path) -> None:
    CONFIGS["jamba"]().save_pretrained(tmp_path)
    found = asked("spaces", "--model", tmp_path, "--task", "causal-lm")["model"]
    assert found["matrices"] == [
        {"targets": ["mixer"], "layers": [0, 2]},
        {"targets": ["gate", "up", "down"], "layers": [0, 1]},
        {"targets": ["q", "k", "v", "o"], "layers": [1]},
    ]
    assert found["routed_experts"] == 4
    text = words(invoke("spaces", "--model", tmp_path, "--task", "causal-lm"))
    assert (
        "targets: mixer (of layers 0, 2); gate, up, down (of layers 0, 1); q, k, v, o (of layer 1); " in text
    )
    assert "experts (4 routed ones in a layer, for lora, only where named)" in text
    T5Config(d_model=32, d_kv=8, d_ff=56, num_layers=3, num_heads=4, vocab_size=90).save_pretrained(tmp_path)
    text = words(invoke("spaces", "--model", tmp_path))
    assert "targets: q, k, v, o, up, down (of layers 0–2); q, k, v, o, cross-q, " in text


def test_preference_pairs_cost_two_texts_and_the_reference(tmp_path: Path) -> None:
    GPT2Config(vocab_size=90, n_embd=32, n_layer=2, n_head=4).save_pretrained(tmp_path)
    place = ("--model", tmp_path, "--space", "lora-plain")
    assert "beta" in json.dumps(asked("spaces", *place, "--task", "preference")["parameters"])
    found = {
        task: asked("cost", *place, "--tokens", 20, "--samples", 3, "--task", task)
        for task in ("causal-lm", "preference")
    }
    one, two = found["causal-lm"]["full_fine_tuning"], found["preference"]["full_fine_tuning"]
    assert (found["causal-lm"]["texts"], found["preference"]["texts"]) == (1, 2)
    assert two["inference_flops"] == one["inference_flops"]
    assert two["trainable_params"] == one["trainable_params"]
    assert two["train_flops"] == pytest.approx(2 * (one["train_flops"] + one["inference_flops"]), rel=1e-9)


def test_support_depends_on_the_task(tmp_path: Path) -> None:
    GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=90).save_pretrained(tmp_path)
    classified = asked("spaces", "--model", tmp_path)["families"]
    continued = asked("spaces", "--model", tmp_path, "--task", "causal-lm")["families"]
    assert (classified["prompt"]["supported"], continued["prompt"]["supported"]) == (False, True)
    assert (classified["head"]["supported"], continued["head"]["supported"]) == (True, False)


def test_every_kind_of_architecture_is_read_from_its_config(tmp_path: Path) -> None:
    """Two stacks, relative positions, images; the task of an image model need not be said."""
    configs = {
        "t5": T5Config(d_model=32, d_kv=8, d_ff=56, num_layers=2, num_heads=4, vocab_size=90),
        "deberta-v2": DebertaV2Config(
            **SMALL, num_hidden_layers=2, relative_attention=True, pos_att_type="c2p"
        ),
        "vit": ViTConfig(
            **{name: size for name, size in SMALL.items() if name != "vocab_size"},
            num_hidden_layers=2,
            image_size=12,
            patch_size=4,
        ),
    }
    reasons = {
        "t5": {"bitfit": "no biases", "prompt": "no embeddings in place"},
        "deberta-v2": {"prefix": "no keys and values", "layer-prefix": "its own attention code"},
        "vit": {"adalora": "penalty", "prompt": "no embeddings in place"},
    }
    for name, config in configs.items():
        config.save_pretrained(tmp_path / name)
        families = asked("spaces", "--model", tmp_path / name)["families"]
        assert families["lora"]["supported"] is True
        for family, reason in reasons[name].items():
            assert reason in families[family]["reason"]
        costs = asked("cost", "--model", tmp_path / name, "--space", "adapters", "--samples", 20)
        assert costs["tokens"] == (10 if name == "vit" else 128)
        shares = costs["families"]["lora"]["train_flops"]["share"]
        assert 0.3 < shares["min"] < shares["max"] < 3
        assert costs["families"]["lora"]["inference_flops"]["share"]["max"] == pytest.approx(1)


def test_a_finite_space_is_counted_exactly(bert: Path, shape: ModelShape, tmp_path: Path) -> None:
    file = tmp_path / "finite.yaml"
    file.write_text(FINITE)
    found = asked("spaces", "--model", bert, "--space", file)
    every = enumerate_configurations(load_space(file, shape=shape).space)
    assert every is not None
    configs = list(every)
    assert found["size"] == found["discrete_combinations"] == len(configs)
    assert found["continuous"] == []
    costs = CostModel(shape, shape.task, Workload(128, 128**2, 1)).many(configs)
    extent = found["trainable_params"]
    assert extent["smallest"] == costs.trainable_params.min() == 0
    assert extent["largest"] == costs.trainable_params.max()
    assert extent["exact"] is True
    lora = found["by_family"]["lora"]
    assert (
        lora["discrete_combinations"] == 2 * 3 * 4 * 2 * 2 * 2
    )  # targets, layers, ranks, two switches, rates
    assert lora["trainable_params"]["smallest"] == 2 * (32 + 32)
    assert f"{len(configs):,} configurations" in words(invoke("spaces", "--model", bert, "--space", file))


def test_a_continuous_space_is_reported_as_continuous(bert: Path) -> None:
    found = asked("spaces", "--model", bert, "--space", "lora-plain")
    assert found["size"] == "continuous"
    assert found["continuous"] == ["lora.learning_rate"]
    assert found["discrete_combinations"] == 2 * 3 * 64 * 5
    rank = next(d for d in found["parameters"] if d["name"] == "lora.rank")
    assert (rank["type"], rank["low"], rank["high"], rank["log"], rank["default"]) == ("int", 1, 64, True, 8)
    assert rank["when"] == {"family": ["lora"]}
    text = words(invoke("spaces", "--model", bert, "--space", "lora-plain"))
    assert "continuous (learning_rate); 1,920 combinations of the other parameters" in text
    assert "lora.rank 1 to 64, log 8" in text


def test_without_a_model_a_space_has_parameters_but_no_size() -> None:
    found = asked("spaces", "--space", "lora-layers")
    assert found["size"] is None
    assert found["trainable_params"] is None
    assert "families" not in found
    text = words(invoke("spaces", "--space", "lora-layers"))
    assert "add --model" in text
    assert "lora.layers one switch per layer, not all off" in text


def test_excluded_families_are_listed_with_the_reason(tmp_path: Path) -> None:
    DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=56).save_pretrained(tmp_path)
    found = asked("spaces", "--model", tmp_path, "--space", "adapters")
    assert list(found["left_out"]) == ["prefix"]
    assert "prefix" not in found["by_family"]
    assert "left out prefix: distilbert accepts no keys" in words(
        invoke("spaces", "--model", tmp_path, "--space", "adapters")
    )


def test_a_mask_is_one_line() -> None:
    text = words(invoke("spaces", "--model", "bert", "--space", "lora-layers"))
    assert "lora.layers 12 switches, one per layer, not all off" in text
    assert "lora.layers.0" not in text


def test_extremes_are_searched_in_large_spaces() -> None:
    """LoRA on any subset of 24 layers: the fewest parameters on one, the most on all with DoRA."""
    shape = read_shape(BertConfig(**SMALL, num_hidden_layers=24), "sequence-classification")
    view = view_space("lora-layers", shape)
    extent = view.families["lora"].trainable_params
    assert not extent.is_exact
    layer = sum(64 * (m.inputs + m.outputs) + m.outputs for m in shape.matrices)
    assert (extent.smallest, extent.largest) == (2 * (32 + 32), 24 * layer)
    assert extent.smallest < extent.median < extent.largest


# --- cost


def test_costs_are_quantiles_of_the_cost_model(bert: Path, shape: ModelShape) -> None:
    found = asked("cost", "--model", bert, "--space", "adapters", "--tokens", 20, "--samples", 200)
    model = CostModel(shape, shape.task, Workload(20, 400, 1))
    full = found["full_fine_tuning"]
    assert full["trainable_params"] == shape.base_parameters + shape.head_parameters
    assert full["train_flops"] == model.full_fine_tuning_flops()
    assert full["inference_flops"] == pytest.approx(model({"family": "head"}).inference_flops, rel=1e-12)
    assert list(found["families"]) == list(load_space("adapters", shape=shape).space["family"].choices)
    for family in found["families"].values():
        assert family["configurations"] == 200
        for cost in KNOWN_COSTS:
            absolute, share = family[cost]["absolute"], family[cost]["share"]
            assert list(absolute) == list(QUANTILES)
            assert list(absolute.values()) == sorted(absolute.values())
            assert share["median"] == pytest.approx(absolute["median"] / full[cost])
    head = found["families"]["head"]
    expected = model({"family": "head"})
    assert head["trainable_params"]["absolute"]["max"] == 0
    assert head["train_flops"]["absolute"]["min"] == head["train_flops"]["absolute"]["max"]
    assert head["train_flops"]["absolute"]["min"] == expected.train_flops
    assert found["families"]["prompt"]["inference_flops"]["share"]["max"] > 1.5
    assert found["families"]["lora"]["inference_flops"]["share"]["max"] == pytest.approx(1)


def test_costs_are_of_one_epoch(shape: ModelShape) -> None:
    spec = {"families": ["head"], "parameters": {"epochs": [5]}}
    loaded = load_space(spec, shape=shape)
    view = view_costs("five", loaded.space, shape, 20, 3)
    model = CostModel(shape, shape.task, Workload(20, 400, 1))
    assert view.costs["head"]["train_flops"].tolist() == [model({"family": "head"}).train_flops] * 3


def test_the_terminal_shows_one_table_per_cost(bert: Path) -> None:
    text = words(invoke("cost", "--model", bert, "--space", "lora", "--samples", 50))
    for heading in ("Adapter parameters", "Stored size", "Training FLOPs", "Inference FLOPs"):
        assert f"{heading} (full fine-tuning: " in text
    assert text.count(" lora ") == len(KNOWN_COSTS)
    assert "█" in text


def test_the_page_opens_offline(bert: Path, tmp_path: Path) -> None:
    page = tmp_path / "costs.html"
    result = invoke("cost", "--model", bert, "--space", "lora", "--samples", 20, "--html", page)
    assert f"Wrote {page}" in words(result)
    text = page.read_text()
    assert "Training FLOPs, share of full fine-tuning" in text
    assert "<script src=" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["costs.html"]


def test_the_figure_has_both_panels_and_every_family(shape: ModelShape) -> None:
    loaded = load_space("adapters", shape=shape)
    view = view_costs("a <b>", loaded.space, shape, 20, 30)
    figure = plot_space_costs(view)
    assert len(figure.data) == 2 * len(view.costs)
    assert sum(bool(trace.showlegend) for trace in figure.data) == len(view.costs)
    for trace in figure.data:
        family, column = trace.name, 1 if trace.xaxis == "x" else 2
        cost = ("train_flops", "inference_flops")[column - 1]
        assert np.allclose(trace.y, view.costs[family][cost] / view.full[cost])
        positive = view.costs[family]["trainable_params"] > 0
        assert np.allclose(np.asarray(trace.x)[positive], view.costs[family]["trainable_params"][positive])
        assert (np.asarray(trace.x) > 0).all()  # a logarithmic axis has no 0
    assert figure.layout.xaxis.ticktext[0] == "0"
    assert "a &lt;b&gt;" in figure.layout.title.text


def test_strips_by_hand() -> None:
    assert strip([0, 2, 3, 5, 9], 0, 9, False, width=10) == "──████────"
    assert strip([1, 10, 10, 100, 1000], 1, 1000, True, width=4) == "─██─"
    assert strip([0, 0, 0, 0, 0], 1, 1000, True, width=4) == "█   "
    assert strip([5, 5, 5, 5, 5], 5, 5, False, width=4) == "█   "


# --- what is refused


def test_a_model_type_stands_for_its_default_configuration() -> None:
    shape = shape_of_model("bert", "sequence-classification")
    assert (shape.model_type, shape.depth, shape.width) == ("bert", 12, 768)
    assert shape_of_model("builtin:pocket", "regression").head_parameters > 0


@pytest.mark.parametrize(
    ("arguments", "where", "what"),
    [
        (("spaces", "--model", "./nowhere"), "--model", "there is no folder './nowhere'"),
        (("spaces", "--model", "bert", "--task", "causal-lm"), "--task", "needs a decoder"),
        (
            ("spaces", "--model", "resnet", "--task", "sequence-classification"),
            "--task",
            "does not support sequence-classification",
        ),
        (("spaces", "--model", "resnet"), "--model", "cannot be used: no list of"),
        (("spaces", "--space", "lara"), "", "unknown preset 'lara'"),
        (("cost", "--model", "bert", "--space", "lora", "--html", "no/x.html"), "--html", "no folder 'no'"),
    ],
)
def test_invalid_arguments_are_reported_by_option(arguments: tuple[str, ...], where: str, what: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("1 error:")
    assert f"• {where}" in result.stderr
    assert what in result.stderr
    assert "→ " in result.stderr


def test_folders_without_a_model(tmp_path: Path) -> None:
    assert "has no config.json" in invoke("spaces", "--model", tmp_path).stderr
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of"}')
    assert "cannot be read" in invoke("spaces", "--model", tmp_path).stderr
    assert "is a file" in invoke("spaces", "--model", tmp_path / "config.json").stderr


def test_cost_needs_a_model_and_a_space() -> None:
    assert invoke("cost", "--model", "bert").exit_code == 2
    assert invoke("cost", "--space", "lora").exit_code == 2
