"""Packs of models with experts or with layers that differ compute what training alone computes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.support.base_models import write_tokenizer
from tests.support.packs import agree, alone, packed, spec
from tests.support.texts import same_splits
from tests.support.tiny_configs import CONFIGS
from trials.execution.runner import Runner
from trials.packing.joined_model import Joined, Rows
from trials.packing.pack import Pack
from trials.records import Fidelity, TrialStatus
from trials.tasks.specs import ModelSpec, TaskSpec

FEW = Fidelity(train_samples=24, eval_samples=8, evaluations=1)


@pytest.fixture(scope="module")
def language_runner(tmp_path_factory) -> Callable[[str], Runner]:
    """A runner of a language model with the configuration of that name."""
    made: dict[str, Runner] = {}

    def make(kind: str) -> Runner:
        if kind not in made:
            folder: Path = tmp_path_factory.mktemp(kind)
            torch.manual_seed(0)
            config = CONFIGS[kind]()
            config.eos_token_id = 3
            AutoModelForCausalLM.from_config(config).save_pretrained(folder)
            write_tokenizer(folder)
            texts = {
                "the film was": "good",
                "the story was a": "bad sad",
                "one": "the end",
                "people in it": "sad",
            }
            rows = [{"p": p, "c": c} for p, c in texts.items()] * 8
            columns = {"prompt": "p", "completion": "c", "chat_template": "none"}
            data = folder / "rows.jsonl"
            data.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
            task = TaskSpec(type="causal-lm", **same_splits(data), **columns)
            made[kind] = Runner(ModelSpec(name=str(folder), precision="fp32"), task)
        return made[kind]

    return make


@pytest.mark.parametrize("kind", ["jamba", "qwen2_moe", "nemotron_h", "zamba2"])
def test_a_pack_trains_as_alone(kind, language_runner):
    """In Qwen2-MoE the shared expert reads the tokens of all rows one after another."""
    runner = language_runner(kind)
    specs = [
        spec(runner, "lora", 1, epochs=1),
        spec(runner, "hra", 2, epochs=1, batch_size=8, **{"hra.layers": 1}),
    ]
    specs = [dataclasses.replace(s, fidelity=FEW) for s in specs]
    for s, result in zip(specs, packed(runner, specs), strict=True):
        agree(result, alone(runner, s), rel=1e-5)


def test_routed_experts_train_alone(language_runner):
    """peft replaces the parameters of all experts, which a pack would have to do for each configuration."""
    runner = language_runner("qwen2_moe")
    own = {"lora.targets": "experts", "lora.dora": False, "lora.dropout": 0.0, "lora.init": "kaiming"}
    s = dataclasses.replace(spec(runner, "lora", 1, epochs=1, **own), fidelity=FEW)
    result = Pack(runner.base, runner.data).enter(0, s)
    assert result is not None
    assert result.status == TrialStatus.COMPLETE
    agree(result, alone(runner, s))


def test_an_input_that_is_no_rows_is_refused():
    rows = Rows([(0, slice(0, 2)), (1, slice(2, 4))])
    module = Joined(torch.nn.Linear(3, 3), {0: torch.nn.Linear(3, 3)}, rows)
    assert module(torch.ones(8, 3)).shape == (8, 3)
    for sizes in ((7, 3), (2, 3), (8, 2, 3)):
        with pytest.raises(RuntimeError, match="are no rows of the batch"):
            module(torch.ones(*sizes))
