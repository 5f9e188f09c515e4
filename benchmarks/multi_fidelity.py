"""What scores on the lower rungs of a ladder are worth: how well they predict the top, and what a search gains.

    python -m benchmarks.multi_fidelity predict [--seeds 10] [--configs 60]
    python -m benchmarks.multi_fidelity process [--seeds 10] [--configs 60] [--only NAME]
    python -m benchmarks.multi_fidelity search [--seeds 10] [--only NAME]

`predict` puts configurations of recorded curves (see `benchmarks.ladder`) on a ladder and looks at those who stayed
behind, whose final loss the table holds. Reported are the median absolute errors of four rules, relative to doing
nothing, and how often the 80 % interval of the rule that was chosen held.

`process` compares two Gaussian processes of the final loss on configurations of the TaskSet tables that were not
tried: the one of the sampler, which has one corrected score with more noise per configuration, and the one of
`surrogates.gaussian_processes.multi_fidelity`, which has every score of every rung and fits the law itself.

`search` runs `autotune.optimize` on black boxes with low fidelities that are biased and noisy, each arm with the same
training in all, and reports the noise-free hypervolume (or, with one objective, the regret) of what reached the top.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import FloatDistribution, IntDistribution
from scipy.stats import norm, rankdata

from autotune.blackbox.objectives import Budget, Objective
from autotune.blackbox.optimization import optimize
from autotune.blackbox.result import OptimizeTrial
from autotune.ladder import promotion
from autotune.ladder.rungs import Ladder
from autotune.pareto import hypervolume
from benchmarks.ladder import DATA, Curves, InOrder, read_tables
from benchmarks.sampler_toy import PROBLEMS
from search_spaces.parameters.types import Value
from search_spaces.space import SearchSpace
from surrogates.gaussian_processes.embedding import Embedding
from surrogates.gaussian_processes.gaussian_process import GaussianProcess
from surrogates.gaussian_processes.multi_fidelity import MultiFidelityProcess
from surrogates.multi_fidelity import LAW, MEDIAN, NONE, FidelityModel, offsets_by

Array = NDArray[np.float64]
_SURE = 1.2816
"""Standard deviations to each side of an 80 % interval."""


# --- how well the lower rungs predict the top


def left_behind(table: Curves, seed: int) -> tuple[Array, Array, list[int]]:
    """Scores as the ladder leaves them, NaN above, all scores of these configurations, and their rows.

    Shapes [n, K], [n, K] and [n].
    """

    def evaluate(config: dict[str, Value], fidelity: float, state: Any) -> tuple[dict[str, float], Any]:
        return {"loss": float(table.losses[int(config["row"]), int(fidelity) - 1])}, int(fidelity)

    n, rungs = len(table.losses), table.ladder.rungs
    rows = {"row": IntDistribution(0, n - 1)}
    result = optimize(evaluate, rows, ["loss"], table.ladder, Budget(trials=n), sampler=InOrder(), seed=seed)
    seen = [[t.rungs.get(rung, (np.nan,))[0] for rung in rungs] for t in result.trials if t.rungs]
    order = [int(str(t.config["row"])) for t in result.trials if t.rungs]
    return np.array(seen), table.losses[np.ix_(order, [int(rung) - 1 for rung in rungs])], order


def predict(table: Curves, seeds: int, configs: int) -> list[dict[str, float | str]]:
    """Return one row per rung: each rule's median absolute error, and how often the chosen interval held."""
    errors: dict[tuple[int, str], list[float]] = {}
    held: dict[int, list[bool]] = {}
    chosen: list[str] = []
    for seed in range(seeds):
        seen, whole, _ = left_behind(table.drawn(configs, seed), seed)
        model = FidelityModel.fit(table.ladder.rungs, seen)
        chosen.append(model.rule)
        law, steps = (model.coefficient, model.exponent), np.diff(seen, axis=1)
        offsets = {rule: offsets_by(rule, model.budgets, steps, law) for rule in (NONE, MEDIAN, LAW)}
        offsets["chosen"] = model.offset
        for rung in range(table.ladder.top):
            behind = np.isfinite(seen[:, rung]) & np.isnan(seen[:, rung + 1]) & np.isfinite(whole[:, -1])
            for rule, offset in offsets.items():
                off = np.abs(seen[behind, rung] - offset[rung] - whole[behind, -1])
                errors.setdefault((rung, rule), []).extend(off)
                if rule == "chosen":
                    held.setdefault(rung, []).extend(off < _SURE * math.sqrt(model.variance[rung]))
    often = ", ".join(f"{rule} {chosen.count(rule)}" for rule in (LAW, MEDIAN, NONE))
    rows: list[dict[str, float | str]] = []
    for rung in range(table.ladder.top):
        unit = float(np.median(errors[rung, NONE]))
        ratios = {rule: float(np.median(errors[rung, rule])) / unit for rule in (MEDIAN, LAW, "chosen")}
        share = table.ladder.rungs[rung] / table.ladder.max
        rows.append(
            {"table": table.name, "rung": share, **ratios, "held": float(np.mean(held[rung])), "rule": often}
        )
    return rows


# --- the Gaussian process over configurations and budgets


def process(part: str, seed: int, configs: int) -> dict[str, tuple[float, float]]:
    """Return mean absolute error and mean log density of the final loss, both in logarithms, by surrogate."""
    losses, places, _ = _taskset_table(part)
    table = Curves(part, losses, Ladder(2, 50, eta=3))
    order = np.random.default_rng(seed).permutation(len(losses))
    tried, fresh = order[:configs], order[configs : configs + 200]
    seen, _, places_of = left_behind(replace(table, losses=losses[tried]), seed)
    X, embedding = places[tried][places_of], Embedding(np.zeros(places.shape[1], dtype=int))
    model = FidelityModel.fit(table.ladder.rungs, seen)
    last = np.isfinite(seen).sum(axis=1) - 1
    corrected = seen[np.arange(len(seen)), last] - model.offset[last]
    rows, rungs = np.nonzero(np.isfinite(seen))
    two_step = GaussianProcess.fit(X, corrected, embedding, extra_noise=model.variance[last])
    joint = MultiFidelityProcess.fit(X[rows], model.budgets[rungs], seen[rows, rungs], embedding)
    truth = losses[fresh, -1]
    found = {}
    for name, (mean, std) in {
        "two-step": two_step.predict(places[fresh]),
        "joint": joint.predict(places[fresh]),
    }.items():
        density = norm.logpdf(truth, mean, std)
        found[name] = float(np.abs(truth - mean).mean()), float(density.mean())
    return found


# --- what a search gains


@dataclass(frozen=True)
class BlackBox:
    """A search problem.

    Args:
        space: what is searched.
        goals: `error` first.
        error: the noise-free error at the top.
        bias, noise: (configuration, share of the top) -> what the error there is above that, and its deviation.
        quality: of the configurations that reached the top; higher is better.
        training: in all, in full trainings.
    """

    space: SearchSpace | dict[str, FloatDistribution]
    objectives: tuple[Objective, ...]
    error: Callable[[Mapping[str, Value]], float]
    bias: Callable[[Mapping[str, Value], float], float]
    noise: Callable[[float], float]
    quality: Callable[[list[OptimizeTrial]], float]
    training: float = 16.0


_LADDER = Ladder(1, 9, random_share=0.1)


def _adapters() -> BlackBox:
    """The toy of `benchmarks.sampler_toy`: what warms up for longer has gained less so far."""
    problem = PROBLEMS["adapters"]()

    def cost(config: Mapping[str, Value]) -> float:
        return 10.0 ** problem.cost(dict(config))

    def bias(config: Mapping[str, Value], share: float) -> float:
        return 0.02 * (0.5 + 3 * float(config["warmup"])) * (share**-0.5 - 1)

    def quality(trials: list[OptimizeTrial]) -> float:
        points = [(problem.error(t.config), problem.cost(t.config)) for t in trials]
        return hypervolume(points, problem.reference) / problem.best if points else 0.0

    objectives = (Objective("error"), Objective("cost", known=cost, log=True))
    return BlackBox(
        problem.space,
        objectives,
        lambda config: problem.error(dict(config)),
        bias,
        lambda share: 0.005 + 0.03 * (1 - share),
        quality,
    )


def _taskset_table(part: str) -> tuple[Array, Array, list[str]]:
    """Return logarithms of the losses [n, 50], ranks of the hyperparameters [n, d], and the names of these."""
    (file,) = (DATA / "taskset").glob(f"*{part}*.parquet")
    frame = pd.read_parquet(file)
    table = frame[[f"loss_{step:02d}" for step in range(1, 51)]].to_numpy(float)
    names = [name for name in frame if not str(name).startswith("loss") and name != "config"]
    places = np.column_stack([rankdata(frame[name]) / len(frame) for name in names])
    finite = np.isfinite(table).all(axis=1)
    # Diverged runs are as bad as an untrained one.
    losses, places = np.log(np.minimum(table[finite], 2 * np.median(table[finite, 0]))), places[finite]
    return losses, places, [str(name) for name in names]


def _taskset(part: str) -> BlackBox:
    """The nearest configuration of a table, by the ranks of its hyperparameters; its own curve is the bias."""
    losses, places, names = _taskset_table(part)

    def row(config: Mapping[str, Value]) -> Array:
        at = np.array([float(config[str(name)]) for name in names])
        return np.asarray(losses[((places - at) ** 2).sum(axis=1).argmin()])

    def bias(config: Mapping[str, Value], share: float) -> float:
        curve = row(config)
        return float(curve[max(math.ceil(share * 50) - 1, 0)] - curve[-1])

    def quality(trials: list[OptimizeTrial]) -> float:
        return losses[:, -1].min() - min((float(row(t.config)[-1]) for t in trials), default=math.inf)

    space = {str(name): FloatDistribution(0.0, 1.0) for name in names}
    return BlackBox(
        space,
        (Objective("error"),),
        lambda c: float(row(c)[-1]),
        bias,
        lambda share: 0.01 + 0.05 * (1 - share),
        quality,
    )


BOXES: dict[str, Callable[[], BlackBox]] = {
    "adapters": _adapters,
    "TaskSet, LSTM": lambda: _taskset("LSTM"),
    "TaskSet, GRU": lambda: _taskset("GRU"),
    "TaskSet, IRNN": lambda: _taskset("IRNN"),
    "TaskSet, VRNN": lambda: _taskset("VRNN"),
}


class _Fits:
    """Stands in for `FidelityModel` on a ladder, to fit something else."""

    def __init__(self, rule: str, sure: bool) -> None:
        self._rule, self._sure = rule, sure

    def fit(self, budgets: Array, scores: Array) -> FidelityModel:
        model = FidelityModel.fit(budgets, scores)
        if self._rule:
            law, steps = (model.coefficient, model.exponent), np.diff(scores, axis=1)
            model = replace(model, offset=offsets_by(self._rule, model.budgets, steps, law))
        return replace(model, variance=np.zeros(len(model.variance))) if self._sure else model


ARMS: dict[str, _Fits] = {
    "median lift, no noise": _Fits(MEDIAN, sure=True),
    "chosen rule, no noise": _Fits("", sure=True),
    "median lift and noise": _Fits(MEDIAN, sure=False),
    "chosen rule and noise": _Fits("", sure=False),
}


def search(box: BlackBox, arm: str, seed: int) -> tuple[float, float]:
    """The quality of what reached the top, and milliseconds a trial."""
    rng = np.random.default_rng([seed, 7])

    def evaluate(
        config: dict[str, Value], fidelity: float, state: float | None
    ) -> tuple[dict[str, float], float]:
        share = fidelity / _LADDER.max
        error = box.error(config) + box.bias(config, share) + box.noise(share) * rng.standard_normal()
        return {"error": error}, fidelity

    start = time.perf_counter()
    with mock.patch.object(promotion, "FidelityModel", ARMS[arm]):
        result = optimize(evaluate, box.space, box.objectives, _LADDER, box.training * _LADDER.max, seed=seed)
    seconds = time.perf_counter() - start
    complete = [trial for trial in result.trials if trial.status == "complete"]
    return box.quality(complete), 1000 * seconds / len(result.trials)


def _print_processes(part: str, seeds: int, configs: int) -> None:
    runs = [process(part, seed, configs) for seed in range(seeds)]
    gains = {
        measure: np.array([run["joint"][k] - run["two-step"][k] for run in runs])
        for k, measure in enumerate(("error", "log density"))
    }
    for name in ("two-step", "joint"):
        error, density = np.mean([run[name] for run in runs], axis=0)
        print(f"TaskSet, {part:4s} {name:9s} error {error:.4f}  log density {density:+.3f}")
    for measure, gain in gains.items():
        print(
            f"  {measure}, joint minus two-step: {gain.mean():+.4f} ± {gain.std(ddof=1) / len(gain) ** 0.5:.4f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("predict", "process", "search"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--configs", type=int, default=60)
    parser.add_argument("--only", default="", help="part of a table's or black box's name")
    parser.add_argument("--arm", default="", help="part of an arm's name")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    if options.what == "predict":
        for table in read_tables():
            for ladder in (table.ladder, replace(table.ladder, min=table.ladder.max // 5, eta=2, share=0.5)):
                if options.only in table.name:
                    for row in predict(replace(table, ladder=ladder), options.seeds, options.configs):
                        print(
                            {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()},
                            flush=True,
                        )
        return
    if options.what == "process":
        for part in ("LSTM", "GRU", "IRNN", "VRNN"):
            if options.only in part:
                _print_processes(part, options.seeds, options.configs)
        return
    arms = [arm for arm in ARMS if options.arm in arm]
    for name, build in BOXES.items():
        if options.only not in name:
            continue
        box, first = build(), None
        for arm in arms:
            found = np.array([search(box, arm, seed) for seed in range(options.seeds)])
            first = found[:, 0] if first is None else first
            gain, each = found[:, 0] - first, found[:, 1].mean()
            print(
                f"{name:14s} {arm:22s} {found[:, 0].mean():.4f} ± {found[:, 0].std(ddof=1):.4f}, against the first "
                f"{gain.mean():+.4f} ± {gain.std(ddof=1) / len(gain) ** 0.5:.4f} (error)  {each:4.0f} ms a trial",
                flush=True,
            )


if __name__ == "__main__":
    main()
