"""Models without their upper layers, against the whole models of every architecture."""

from __future__ import annotations

import pytest

from search_spaces.model.reader import empty_network, shape_of_network
from search_spaces.truncation import truncated_config, truncated_settings
from tests.support.tiny_configs import CONFIGS
from tests.support.tiny_models import HEADLESS, LABELS

TASKS = {
    **dict.fromkeys(CONFIGS, "sequence-classification"),
    **dict.fromkeys(HEADLESS, "causal-lm"),
    "vit": "image-classification",
}


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "albert"])
def test_a_truncated_model_has_the_weights_of_the_lowest_layers(name):
    config, task = CONFIGS[name](), TASKS[name]
    cut = empty_network(config, task, LABELS, False, layers=0.67)
    own = {path: weight.shape for path, weight in cut.named_parameters()}
    whole = empty_network(config, task, LABELS, False)
    theirs = {path: weight.shape for path, weight in whole.named_parameters()}
    assert own == {path: theirs[path] for path in own}
    shape = shape_of_network(cut, task)
    stacks = [shape.depth - shape.decoder_depth, shape.decoder_depth]
    assert stacks == ([2, 1] if shape.decoder_depth else [2, 0])
    assert shape.base_parameters + shape.head_parameters == sum(p.numel() for p in cut.parameters())
    left = set(theirs) - set(own)
    assert left
    assert all(path.startswith((shape.layers_path, shape.decoder_path or shape.layers_path)) for path in left)


def test_the_list_of_a_value_per_layer_is_cut_to_its_beginning():
    config = CONFIGS["granitemoehybrid"]()
    assert truncated_settings(config, 0.34)["layer_types"] == config.layer_types[:1]
    assert truncated_settings(CONFIGS["bamba"](), 0.3)["attn_layer_indices"] == []


def test_a_model_keeps_at_least_one_layer_and_all_of_them_at_most():
    config = CONFIGS["bert"]()
    assert truncated_settings(config, 0.001) == {"num_hidden_layers": 1}
    assert truncated_settings(config, 1.0) == {}
    assert truncated_config(config, 0.34).num_hidden_layers == 1
    assert config.num_hidden_layers == 3


def test_layers_that_share_their_weights_are_refused_by_name():
    with pytest.raises(ValueError, match=r"albert cannot be used without its upper layers: its layers share"):
        truncated_settings(CONFIGS["albert"](), 0.5)
