"""The tables of threads beside other work and of the memory of a long sweep, from measurements of the test's own."""

from __future__ import annotations

import pytest

from benchmarks import long_sweep, oversubscription
from benchmarks.oversubscription import WIDTHS, Case, Seconds


def test_the_rows_compare_a_policy_with_itself_on_an_idle_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oversubscription, "usable_cores", lambda: 2)
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    monkeypatch.setattr("trials.base.cores.usable_cores", lambda: 2)
    found = {}
    for model in WIDTHS:
        for threads, policy in oversubscription._policies():
            found[Case(model, threads, policy, 0)] = Seconds([1.0, 3.0, 2.0])
            found[Case(model, threads, policy, 2)] = Seconds([20.0], is_cut=policy == "spin")
    small, *_, large = oversubscription.rows(found, busy=2)
    assert small[1:4] == ("1 (default)", "none", "2.00 (1.00 to 3.00)")
    assert small[5:] == ("10.0", "1.5")
    assert large[1:3] == ("2 (default)", "sleep")
    cut = oversubscription.rows(found, busy=2)[1]
    assert cut[2:] == ("spin", "2.00 (1.00 to 3.00)", "more than 20.0", "more than 10.0", "2.0")


def test_the_memory_after_the_tenth_trial_is_compared_with_that_until_it() -> None:
    mebi = 2**20
    peaks = [700 * mebi] + [800 * mebi] * 9 + [840 * mebi, 820 * mebi]
    found = {
        "executor": "packed",
        "peaks": peaks,
        "current": [size - mebi for size in peaks],
        "kept": [5 * mebi],
        "seconds": 90.0,
    }
    assert long_sweep.row(found) == ("packed", "12", "800", "840", "+5.0%", "819", "5", "1.5")


@pytest.mark.parametrize("executor", long_sweep.EXECUTORS)
def test_the_long_sweep_is_the_built_in_one_with_short_trials(executor: str) -> None:
    sweep = long_sweep.sweep_for(executor, "pocket", 200)
    assert sweep.budget.trials == 200
    assert sweep.executor.name == executor
    assert sweep.confirm.seeds == 0
