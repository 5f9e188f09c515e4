"""The laws of a sweep in words and table cells, for the console and the report."""

from __future__ import annotations

from collections.abc import Sequence

from autotune.formatting.units import counted
from autotune.laws.sweep_laws import POOLED_RATE, TENFOLD, SweepLaws
from surrogates.laws import SearchLaw
from surrogates.laws.fitting import LEVEL
from surrogates.laws.search_laws import FEWEST_TRIALS, SMALLEST_SPAN

_INTERVAL = f"{100 * LEVEL:.0f} %"


def columns(found: SweepLaws) -> tuple[str, ...]:
    """Return the headings of the table of laws."""
    largest = found.costs[1]
    return (
        "hyperparameter", f"best at {largest:.2g} ({_INTERVAL})", f"at {TENFOLD * largest:.2g} ({_INTERVAL})",
        f"trend ({_INTERVAL})", "P(changes)", "trials", "remark",
    )  # fmt: skip


def rows(found: SweepLaws) -> list[tuple[str, ...]]:
    """Return one row of cells per hyperparameter with a law."""
    return [_row(law, found.costs[1]) for law in order(found)]


def _row(law: SearchLaw, cost: float) -> tuple[str, ...]:
    return (
        law.name, interval_text(law.at(cost)), interval_text(law.at(TENFOLD * cost)), trend_text(law),
        f"{100 * law.changes:.0f} %", str(law.trials), remark(law, cost),
    )  # fmt: skip


def reasons(found: SweepLaws) -> list[str]:
    """Return why the other hyperparameters have no law, in one line each."""
    return [f"{law.name}: {law.reason}" for law in found.laws if not isinstance(law, SearchLaw)]


def interval_text(ends: tuple[float, float, float]) -> str:
    """Return a value with its interval."""
    value, low, high = (f"{end:.3g}" for end in ends)
    return f"{value} ({low} to {high})"


def trend_text(law: SearchLaw) -> str:
    """Return the change with cost: an exponent, or a change per tenfold cost."""
    value, low, high = law.slope()
    if law.scale == "log":
        return f"∝ cost^{value:.2f} ({low:.2f} to {high:.2f})"
    unit = " in log odds" if law.scale == "logit" else ""
    tenfold = 2.302585
    return f"{tenfold * value:+.2g}{unit} per 10× cost ({tenfold * low:+.2g} to {tenfold * high:+.2g})"


def remark(law: SearchLaw, cost: float) -> str:
    """Return what limits the reading of a law: flat, at an edge of the range, or its plateau."""
    low, high = (f"{end:.3g}" for end in law.plateau(cost))
    if law.is_flat:
        return f"flat from {low} to {high}"
    if edge := law.edge(cost):
        tried = law.tried[0] if edge == "lower" else law.tried[1]
        return f"at the {edge} end of its range ({tried:.3g}): widen it"
    return f"{low} to {high} does as well"


def footnote(found: SweepLaws) -> str:
    """Return how to read the columns, in a few sentences."""
    text = (
        "P(changes) is the probability that the best value depends on cost, at even prior odds. Values that do as "
        "well differ from the best by less than the noise of a trial; a flat hyperparameter has no best value."
    )
    if any(law.name == POOLED_RATE for law in found.found):
        text += f" {POOLED_RATE} is in multiples of the mean rate of each family."
    return text


def summary(found: SweepLaws) -> str:
    """Return which trials and which cost the laws are about, in one sentence."""
    if not found.trials:
        return "No finished trial has a score and a positive cost."
    trials = counted(found.trials, "finished trial")
    return f"From {trials} over {found.cost}, which spans a factor of {found.span:.3g}."


def missing(found: SweepLaws) -> str:
    """Return what a sweep lacks for any law, in one sentence; empty if it has one."""
    if found.found:
        return ""
    if not found.trials:
        return summary(found)
    if found.trials < FEWEST_TRIALS:
        return f"{counted(found.trials, 'finished trial')}; a law needs {FEWEST_TRIALS}."
    if not found.span >= SMALLEST_SPAN:
        return (
            f"The cost ({found.cost}) spans a factor of {found.span:.2g}; a law needs {SMALLEST_SPAN:g}, and decades "
            "are better: add train_samples, epochs or model to the space."
        )
    return (
        f"No ordered hyperparameter has a law: {'; '.join(reasons(found)) or 'none has more than one value'}."
    )


def as_json(found: SweepLaws, level: float = LEVEL) -> dict[str, object]:
    """Return the laws as JSON values, with the best values at the largest cost and at ten times that."""
    laws: list[dict[str, object]] = []
    for law in found.laws:
        if not isinstance(law, SearchLaw):
            laws.append({"name": law.name, "trials": law.trials, "reason": law.reason})
            continue
        cost = found.costs[1]
        laws.append(
            {
                "name": law.name, "scale": law.scale, "trials": law.trials, "tried": list(law.tried),
                "slope": list(law.slope(level)), "changes": law.changes, "flat": law.is_flat, "edge": law.edge(cost),
                "best": list(law.at(cost, level)), "plateau": list(law.plateau(cost)),
                "best_at_tenfold_cost": list(law.at(TENFOLD * cost, level)),
            }
        )  # fmt: skip
    return {
        "cost": found.cost,
        "costs": list(found.costs),
        "level": level,
        "trials": found.trials,
        "laws": laws,
    }


def order(found: SweepLaws) -> Sequence[SearchLaw]:
    """Return the laws, the most probable change first; flat ones last."""
    return sorted(found.found, key=lambda law: (law.is_flat, -law.changes))
