"""Laws fitted to the cheap trials of a sweep, beside the best values of a grid at ten times their cost."""

from __future__ import annotations

from collections.abc import Sequence

from autotune.prepare.prepared_sweep import prepare
from autotune.results.sweep_tables import SweepTables
from benchmarks.scale.cases import Case
from benchmarks.scale.grids import CENTER_BATCH, GRID, RANK, TIMES, best_on_grid
from benchmarks.scale.runs import FinishedRun
from benchmarks.scale.tables import RATE, LawCheck
from search_spaces.parameters.training import learning_rate_name
from surrogates.laws import SearchLaw, search_laws

COST, LOSS = "train_flops", "eval_loss"
_SCALES = ("train_samples",)
_MODEL, _RANK = "model", "lora.rank"


def searched_names(case: Case) -> dict[str, str]:
    """Return the hyperparameters whose laws are checked, chosen before any run, with their names in tables."""
    names = {learning_rate_name(case.center): RATE, "batch_size": "batch size"}
    return names if case.decoder else {**names, _RANK: "rank"}


def fitted_laws(case: Case, results: SweepTables, most: float) -> dict[str, SearchLaw]:
    """Fit the laws of the searched hyperparameters to the trials of at most a cost.

    Args:
        case: The task and the base model.
        results: The sweep.
        most: The largest training FLOPs of a trial that is used.

    Returns:
        The laws by the name of the hyperparameter; those without a law are left out, and their reason is printed.
    """
    trials = results.trials
    cheap = trials[(trials["status"] == "complete") & (trials[COST] <= most)]
    frame = cheap.rename(columns=lambda name: str(name).removeprefix("param."))
    names = [
        name for name in (*searched_names(case), *_SCALES) if name in frame and frame[name].nunique() > 1
    ]
    groups = [_MODEL] if _MODEL in frame and frame[_MODEL].nunique() > 1 else []
    found = search_laws(
        frame,
        COST,
        LOSS,
        dict.fromkeys(names, "log"),
        maximize=False,
        groups=groups,
        determine_cost=[*_SCALES, *groups],
    )
    for each in found:
        if not isinstance(each, SearchLaw):
            print(f"no law of {each.name}: {each.reason}")
    laws = {each.name: each for each in found if isinstance(each, SearchLaw)}
    return {name: laws[name] for name in searched_names(case) if name in laws}


def held_out_cost(case: Case, results: SweepTables) -> float:
    """Return the training FLOPs of the grid's central run: on the whole base model, with many examples."""
    config = {**case.center, "batch_size": CENTER_BATCH, "train_samples": case.held_out}
    any_trial = results.config(int(results.trials["trial"].iloc[0]))
    config = {**any_trial, **config}
    if _MODEL in config:
        config[_MODEL] = "100%"
    return float(prepare(results.sweep).costs(config).train_flops)


def checked_laws(name: str, case: Case, results: SweepTables, runs: Sequence[FinishedRun]) -> list[LawCheck]:
    """Return the laws of a sweep beside the best values of the runs at the held-out cost.

    Args:
        name: The name of the sweep.
        case: The case of its grid.
        results: The sweep.
        runs: The runs at the held-out cost.
    """
    cost = held_out_cost(case, results)
    laws = fitted_laws(case, results, cost / TIMES)
    checks = []
    for parameter, title in searched_names(case).items():
        arm = RANK if parameter == _RANK else GRID
        grid = [run for run in runs if run.arm == arm]
        if parameter in laws and grid:
            law = laws[parameter]
            value, low, high = law.at(cost)
            best = best_on_grid(grid, parameter)
            times = cost / law.costs[1]
            checks.append(LawCheck(name, title, law.trials, times, value, low, high, best))
    return checks
