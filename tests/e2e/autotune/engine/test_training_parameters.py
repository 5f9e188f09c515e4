"""Sweeps over the optimizer, the cool-down and the sequence length: costs, search and resumption."""

from __future__ import annotations

import pytest

from autotune.engine.sweep_run import run_sweep
from autotune.formatting.compact import short_config
from autotune.prepare.prepared_sweep import prepare
from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.workload import Workload
from search_spaces.errors import InvalidInputError
from tests.support.sweeps import SPACE, small_sweep
from tests.support.texts import same_splits
from trials.training.length_batching import padded_lengths
from trials.training.subsets import subset

ASKED = {
    "optimizer": ["adamw", "lion", "adafactor"],
    "schedule": ["linear", "constant-cooldown"],
    "sequence_length": [8, 16],
}


def asking(model, data, **parameters):
    space = {**SPACE, "parameters": {**SPACE["parameters"], **parameters}}
    return small_sweep(model, data, space=space, objectives=["accuracy", "train_flops"])


def test_costs_follow_the_truncated_examples(tiny_model, reviews):
    prepared = prepare(asking(tiny_model("bert"), reviews, sequence_length=[8, 128]))
    config = prepared.space.default(sequence_length=8)
    cut = prepared.data.at_length(prepared.sweep.task, 8)
    examples = subset(cut.splits["train"], 48, seed=0)
    mean, square = padded_lengths(examples, 32)
    assert mean <= 8
    expected = CostModel(prepared.shape, "sequence-classification", Workload(mean, square, 48))
    plain = {name: value for name, value in config.items() if name != "sequence_length"}
    assert prepared.costs(config) == expected(plain)
    assert prepared.costs({**config, "sequence_length": 128}) == prepared.costs(plain)
    assert prepared.costs(config).train_flops < 0.9 * prepared.costs(plain).train_flops


def test_inference_of_a_language_model_is_on_untruncated_examples(tiny_model, write_jsonl, tmp_path):
    rows = [{"text": "the film was a story with some good people in it and an end"}] * 40
    task = {"type": "causal-lm", **same_splits(write_jsonl("c.jsonl", rows)), "text": "text"}
    parameters = {"sequence_length": [8, 32]}
    sweep = small_sweep(
        tiny_model("llama"), tmp_path, task=task, space={"families": ["lora"], "parameters": parameters},
        objectives=["eval_loss", "train_flops"],
    )  # fmt: skip
    prepared = prepare(sweep)
    short, whole = (prepared.costs(prepared.space.default(sequence_length=n)) for n in (8, 32))
    assert short.inference_flops == whole.inference_flops
    assert short.train_flops < whole.train_flops


def test_a_sequence_length_above_max_length_is_refused(tiny_model, reviews):
    with pytest.raises(InvalidInputError, match=r"256 is above task\.max_length, 128"):
        prepare(asking(tiny_model("bert"), reviews, sequence_length=[64, 256]))


@pytest.mark.slow
def test_a_search_over_them_runs_and_resumes(tiny_model, reviews, tmp_path):
    sweep = asking(tiny_model("bert"), reviews, **ASKED)
    results = run_sweep(sweep, tmp_path / "out")
    assert (results.trials["status"] == "complete").all()
    configs = [results.config(trial) for trial in results.trials["trial"]]
    for config in configs:
        assert ("cooldown" in config) == (config["schedule"] == "constant-cooldown")
        assert ("lion.learning_rate_factor" in config) == (config["optimizer"] == "lion")
        assert config["sequence_length"] in (8, 16)
    assert len({config["optimizer"] for config in configs}) > 1
    more = sweep.model_copy(update={"budget": sweep.budget.model_copy(update={"trials": 8})})
    assert len(run_sweep(more, tmp_path / "out").trials) == 8


def test_a_short_configuration_shows_training_parameters():
    config = {"family": "lora", "lora.learning_rate": 1e-3, "optimizer": "lion",
              "lion.learning_rate_factor": 0.1, "sequence_length": 64, "cooldown": 0.2}  # fmt: skip
    assert short_config(config) == "lora lr 1e-3 · lion · lr ×0.1 · 64 long"
