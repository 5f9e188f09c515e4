"""Mixtures of experts in packs: without a balance loss together, with one alone."""

from __future__ import annotations

import pytest

from tests.contract.trials.packing.test_memory_model import counted
from tests.support.packs import agree, alone, packed, spec
from trials.packing.pack import Pack


@pytest.mark.parametrize("router", ["top-k", "threshold", "soft"])
def test_without_a_balance_loss_they_train_in_a_pack_as_alone(runner, router):
    changes = {"molora.router": router, **({} if router == "soft" else {"molora.balance": 0.0})}
    specs = [spec(runner, "molora", 0, epochs=1, **changes), spec(runner, "lora", 1, epochs=1)]
    pack = Pack(runner.base, runner.data)
    assert pack.enter(0, specs[0]) is None
    for result, s in zip(packed(runner, specs), specs, strict=True):
        agree(result, alone(runner, s))


@pytest.mark.parametrize("router", ["top-k", "soft"])
def test_their_activations_are_those_that_autograd_keeps(runner, router):
    changes = {"molora.router": router, **({} if router == "soft" else {"molora.balance": 0.0})}
    predicted, exact = counted(runner, [spec(runner, "molora", **changes)])
    assert predicted == pytest.approx(exact, rel=0.15)


def test_a_balance_loss_is_a_mean_over_the_batch_and_so_trains_alone(runner):
    result = Pack(runner.base, runner.data).enter(0, spec(runner, "molora", epochs=1))
    assert result is not None
    agree(result, alone(runner, spec(runner, "molora", epochs=1)))
