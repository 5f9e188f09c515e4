"""Every adapter family trains, counts its parameters as its cost predicts, and never writes to the base model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from search_spaces.families import REGISTRY
from search_spaces.families.framework.base import local_config
from search_spaces.language.loader import load_space
from tests.support.grids import pairwise
from tests.support.trials import COMMON, classification
from trials.execution.runner import Runner
from trials.records import Fidelity, TrialSpec, TrialStatus
from trials.tasks.specs import ModelSpec

FIDELITY = Fidelity(train_samples=32, eval_samples=40, evaluations=1)


@pytest.fixture(scope="module")
def runners(tiny_model: Callable[[str], Path], reviews: Path) -> Callable[[str], Runner]:
    """`runners("bert")` is a runner on the tiny model of that architecture."""
    made: dict[str, Runner] = {}

    def make(kind: str) -> Runner:
        if kind not in made:
            made[kind] = Runner(ModelSpec(name=str(tiny_model(kind))), classification(reviews))
        return made[kind]

    return make


@pytest.mark.parametrize("kind", ["t5", "bart"])
@pytest.mark.parametrize("family", sorted(REGISTRY))
def test_every_family_trains_an_encoder_decoder_or_gives_a_reason(family, kind, runners, caplog):
    """In the pack, also where the decoder or the head alone is trained."""
    shape = runners(kind).base.shape
    reason = REGISTRY[family].unsupported(shape, shape.task)
    if reason is not None:
        assert kind in reason or family == "cpt", "which is for language models alone"
        assert family in (
            "cpt",
            "p_tuning",
            "prefix",
            "prompt",
            "trainable_tokens",
            *(["bitfit"] if kind == "t5" else []),
        )
        return
    check_trial(family, runners(kind))
    assert "outside the pack" not in caplog.text


@pytest.mark.parametrize(("family", "kind"), pairwise(sorted(REGISTRY), ("bert", "gpt2", "llama")))
def test_every_family_trains_and_leaves_the_base_untouched(family, kind, runners):
    runner = runners(kind)
    if REGISTRY[family].unsupported(runner.base.shape, runner.base.shape.task):
        pytest.skip(f"{family} does not fit {kind}")
    check_trial(family, runner)


def check_trial(family: str, runner: Runner) -> None:
    """Run a trial of the family's default, and check its status, its parameters and the base model's weights."""
    shape = runner.base.shape
    before = {name: tensor.clone() for name, tensor in runner.base.model.state_dict().items()}
    space = load_space({"families": [family]}, shape=shape, task=shape.task).space
    config = {**space.default(family=family), **COMMON, "epochs": 1}
    result = runner.run(TrialSpec(config, seed=0, fidelity=FIDELITY))
    assert result.status == TrialStatus.COMPLETE, result.error
    after = runner.base.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    cost = REGISTRY[family].cost(local_config(family, config), shape)
    assert result.trainable_params == cost.parameters + shape.head_parameters
