"""The cases of `benchmarks.search_laws`: trials at low cost, and what was best at ten or more times their cost."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks import fcnet
from benchmarks.laws import data_folder
from surrogates.laws.search_laws import ValueScale

_STEP_LAW_NOISE = 0.0015
"""Losses this close to the best are within the noise: the scatter of neighboring grid points around a fitted bowl."""
_LORA_NOISE = 0.003
"""Likewise, of test NLL."""
_FCNET = {"development": fcnet.DATA_SETS[:2], "held out": fcnet.DATA_SETS[2:]}
_ACTIVE = {"deepseek-ai/DeepSeek-V3.1-Base": 37.0, "moonshotai/Kimi-K2.5": 32.0, "openai/gpt-oss-20b": 3.6}
"""Billions of parameters that a token passes through, from the model cards of names that do not state them."""


@dataclass(frozen=True)
class Best:
    """The measured best value.

    Args:
        value: the best value.
        low: the smallest value within the noise of the best.
        high: the largest one.
        step: half a step of the grid around it, added to both ends of an interval: on a log scale a factor.
        is_log: whether the scale is logarithmic.
    """

    value: float
    low: float
    high: float
    step: float
    is_log: bool

    def _widened(self, low: float, high: float) -> tuple[float, float]:
        return (low / self.step, high * self.step) if self.is_log else (low - self.step, high + self.step)

    def is_within(self, low: float, high: float) -> bool:
        """Return whether an interval contains the best value, to half a step of the grid."""
        low, high = self._widened(low, high)
        return low <= self.value <= high

    def overlaps(self, low: float, high: float) -> bool:
        """Return whether an interval contains a value within the noise of the best, to half a step."""
        low, high = self._widened(low, high)
        return low <= self.high and self.low <= high


@dataclass(frozen=True)
class Case:
    """Trials of a search, and the measured best at a higher cost.

    Args:
        group: the row of the table that the case belongs to.
        target: what is predicted, equal for other draws of trials.
        trials: columns `cost`, `loss` and those of the hyperparameters.
        parameters: scales of the ordered hyperparameters.
        groups: the categorical ones.
        determine_cost: those that set the scale of a run.
        cost: the cost at which the best is measured.
        best: the measured best by hyperparameter.
        measured: runs at that cost, with the columns of `trials`; None for a simulation.
        is_log10: whether losses are logarithms to base 10.
    """

    group: str
    target: str
    trials: pd.DataFrame
    parameters: Mapping[str, ValueScale]
    groups: Sequence[str]
    determine_cost: Sequence[str]
    cost: float
    best: Mapping[str, Best]
    measured: pd.DataFrame | None = None
    is_log10: bool = False

    def loss_of(self, values: Mapping[str, object]) -> float:
        """Return the mean loss of the runs at the target's cost that are nearest to a configuration.

        Args:
            values: the values of `parameters` and `groups`; those that set the scale of a run are ignored.
        """
        assert self.measured is not None
        rows = self.measured
        for name in self.groups:
            if name not in self.determine_cost:
                rows = rows[rows[name] == values[name]]
        for name, scale in self.parameters.items():
            if name in self.determine_cost or name.startswith("n_units"):
                continue
            column, value = rows[name].to_numpy(dtype=float), float(values[name])  # type: ignore[arg-type]
            away = np.abs(np.log(column / value)) if scale == "log" else np.abs(column - value)
            rows = rows[away <= away.min() + 1e-9]
        return float(rows["loss"].mean())


def _measured(cell: pd.DataFrame, name: str, noise: float, is_log: bool) -> Best:
    """Return the best of a grid: the minimum, the values whose runs are within the noise of it, and half a step."""
    loss = cell.groupby(name)["loss"].min()
    near = loss[loss <= loss.min() + noise].index.to_numpy(dtype=float)
    values = loss.index.to_numpy(dtype=float)
    steps = np.diff(np.log(values) if is_log else values)
    half = float(np.median(steps)) / 2
    return Best(
        float(values[int(loss.to_numpy().argmin())]),
        float(near.min()),
        float(near.max()),
        float(np.exp(half)) if is_log else half,
        is_log,
    )


def step_law_cases(seeds: int, draws: int = 80) -> Iterator[Case]:
    """Yield cases of Step Law: random runs of its cheap cells, and the best cell at ten (four) times their cost."""
    frame = pd.read_csv(data_folder() / "steplaw" / "dense.csv").astype(float)
    frame = frame.assign(cost=6 * frame["non_embedding_params"] * frame["tokens"], loss=frame["smooth_loss"])
    for times, group in ((4.0, "Step Law at 4× (development)"), (10.0, "Step Law")):
        for cap in (2.1e19, 2.35e19, 2.65e19, 3.3e19):
            cheap = frame[frame["cost"] <= cap]
            for target in _best_cells(frame[frame["cost"] >= times * cap]):
                cost = float(target["cost"].iloc[0])
                best = {
                    name: _measured(target, name, _STEP_LAW_NOISE, True)
                    for name in ("learning_rate", "batch_size_sequences")
                }
                for seed in range(seeds):
                    yield Case(
                        group, f"{cost:.3g} from {cap:.3g}", cheap.sample(draws, random_state=seed),
                        dict.fromkeys((*best, "tokens", "non_embedding_params"), "log"),
                        (), ("tokens", "non_embedding_params"), cost, best, target,
                    )  # fmt: skip


def _best_cells(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield, by decreasing cost, the cell with the lowest loss among those within a factor of 1.3."""
    while len(frame):
        band = frame[frame["cost"] >= frame["cost"].max() / 1.3]
        frame = frame.drop(band.index)
        first = band.loc[band["loss"].idxmin()]
        same = (band["non_embedding_params"] == first["non_embedding_params"]) & (
            band["tokens"] == first["tokens"]
        )
        yield band[same]


def fcnet_cases(seeds: int, draws: int = 100) -> Iterator[Case]:
    """Yield cases of FCNet: half random, half good networks, and the best of all of ten times the parameters."""
    names = ("init_lr", "batch_size", "dropout_1", "dropout_2")
    scales: dict[str, ValueScale] = {
        "init_lr": "log",
        "batch_size": "log",
        "dropout_1": "linear",
        "dropout_2": "linear",
    }
    for role, data_sets in _FCNET.items():
        for data_set in data_sets:
            frame, losses = _fcnet_frame(data_set)
            for share in (1.0, 0.5, 0.25):
                cost = share * float(frame["cost"].max())
                cheap = frame[frame["cost"] <= cost / 12.5]
                cell = frame[frame["cost"].between(cost / 1.25, cost * 1.25)]
                top = losses[cell.nsmallest(100, "loss").index]
                noise = 2.0 * float(np.median(top.std(axis=1, ddof=1))) / np.sqrt(losses.shape[1])
                best = {name: _measured(cell, name, noise, scales[name] == "log") for name in names}
                for seed in range(seeds):
                    rng = np.random.default_rng(seed)
                    rows = _as_searched(cheap, draws, rng)
                    run = losses[rows.index, rng.integers(losses.shape[1], size=len(rows))]
                    yield Case(
                        f"FCNet, {role}", f"{data_set} {share:g}", rows.assign(loss=run),
                        {**scales, "n_units_1": "log"}, ("activation_fn_1", "activation_fn_2", "lr_schedule"), (),
                        cost, best, cell, is_log10=True,
                    )  # fmt: skip


def _as_searched(frame: pd.DataFrame, count: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return rows as a search has them: half at random, half the best of 40 random ones of a similar cost."""
    rows = list(rng.choice(frame.index.to_numpy(), count // 2, replace=False))
    for cost in frame["cost"].loc[rng.choice(frame.index.to_numpy(), count - len(rows))]:
        band = frame[frame["cost"].between(cost / 1.5, cost * 1.5)]
        rows.append(band.loc[rng.choice(band.index.to_numpy(), 40), "loss"].idxmin())
    return frame.loc[sorted(set(rows))]


def _fcnet_frame(data_set: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the configurations with their mean log10 losses, and the losses of all runs, shape [rows, runs]."""
    grids, losses = fcnet._load(data_set)
    places = np.indices(losses.shape[:-1]).reshape(len(grids), -1)
    columns = {
        name: np.array(values, dtype=object)[place]
        for (name, values), place in zip(grids.items(), places, strict=True)
    }
    frame = pd.DataFrame(columns)
    for name in ("init_lr", "batch_size", "dropout_1", "dropout_2", "n_units_1", "n_units_2"):
        frame[name] = frame[name].astype(float)
    inputs, units_1, units_2 = fcnet._INPUTS[data_set], frame["n_units_1"], frame["n_units_2"]
    frame["cost"] = (inputs + 1) * units_1 + (units_1 + 1) * units_2 + units_2 + 1
    return frame.assign(loss=losses.mean(axis=-1).ravel()), losses.reshape(-1, losses.shape[-1])


def lora_cases(seeds: int, draws: int = 60) -> Iterator[Case]:
    """Yield cases of the LoRA grid: runs of small models, and the best rate of models ten times as large."""
    frame = pd.read_csv(data_folder() / "lora_grid" / "sft_sweep.csv").dropna(subset=["test_nll"])
    frame = frame.assign(cost=frame["model"].map(_active_parameters), loss=frame["test_nll"])
    for cap in (3.6, 4.0):
        cheap = frame[frame["cost"] <= cap]
        for model, cell in frame[frame["cost"] >= 10 * cap].groupby("model"):
            for seed in range(seeds):
                yield Case(
                    "LoRA grid", str(model), cheap.sample(draws, random_state=seed),
                    {"learning_rate": "log", "lora_rank": "log"}, ("model",), ("model",),
                    float(cell["cost"].iloc[0]),
                    {"learning_rate": _measured(cell, "learning_rate", _LORA_NOISE, True)}, cell,
                )  # fmt: skip


def _active_parameters(model: str) -> float:
    if model in _ACTIVE:
        return _ACTIVE[model]
    found = re.search(r"A(\d+)[bB]", model) or re.search(r"(?<![\d.A-Za-z])(\d+(?:\.\d+)?)[bB]", model)
    assert found is not None
    return float(found.group(1))


def simulated_cases(seeds: int) -> Iterator[Case]:
    """Yield searches whose best values follow known laws, with much and with little noise, of 60 and 120 trials.

    Half of the trials are random and half near the optimum. Exponents are -0.4, -0.2, 0, 0.2 or 0.4, the slope of
    dropout is 0 or ±0.02 per factor e; the bowls are asymmetric, and a family shifts the loss.
    """
    for trials, noise in ((60, 0.03), (120, 0.01)):
        for seed in range(seeds):
            rng = np.random.default_rng([seed, trials])
            yield _simulated(rng, trials, noise, f"simulation, {trials} trials, noise {noise:g}", str(seed))


def _simulated(rng: np.random.Generator, n: int, noise: float, group: str, target: str) -> Case:
    names = ("learning_rate", "batch_size", "dropout")
    ends = np.array([[np.log(1e-5), np.log(1e-2)], [np.log(4), np.log(256)], [0.0, 0.4]])
    slopes = np.array([*rng.choice([-0.4, -0.2, 0.0, 0.2, 0.4], 2), rng.choice([-0.02, 0.0, 0.02])])
    start = ends.mean(axis=1) + np.ptp(ends, axis=1) * rng.uniform(-0.2, 0.2, 3)
    span = rng.uniform(np.log(10.0), np.log(300.0))
    u = rng.uniform(-span / 2, span / 2, n)
    optimum = start + slopes * u[:, None]
    z = rng.uniform(ends[:, 0], ends[:, 1], (n, 3))
    is_good = rng.random(n) < 0.5
    z[is_good] = optimum[is_good] + 0.12 * np.ptp(ends, axis=1) * rng.normal(size=(int(is_good.sum()), 3))
    z = np.clip(z, ends[:, 0], ends[:, 1])
    away = (z - optimum) / np.ptp(ends, axis=1)
    steep = rng.uniform(0.3, 1.5, 3) * np.where(away > 0, 1.5, 0.75)
    kind = rng.integers(3, size=n)
    loss = 2.0 * np.exp(-0.15 * u) + (steep * away**2).sum(axis=1) + 0.1 * kind + noise * rng.normal(size=n)
    values = np.column_stack([np.exp(z[:, :2]), z[:, 2]])
    frame = pd.DataFrame(dict(zip(names, values.T, strict=True)))
    frame = frame.assign(family=kind.astype(str), cost=np.exp(u), loss=loss)
    cost = 10.0 * float(frame["cost"].max())
    true = start + slopes * np.log(cost)
    exact = [*np.exp(true[:2]), true[2]]
    best = {
        name: Best(float(value), float(value), float(value), 1.0 if i < 2 else 0.0, i < 2)
        for i, (name, value) in enumerate(zip(names, exact, strict=True))
    }
    scales: dict[str, ValueScale] = {"learning_rate": "log", "batch_size": "log", "dropout": "linear"}
    return Case(group, target, frame, scales, ("family",), (), cost, best)
