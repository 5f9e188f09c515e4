"""Where a sweep stands, on one screen or as JSON: trials by state, the front, the budget, what to do next."""

from __future__ import annotations

import math
import shlex
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from autotune.formatting.compact import clock, points, short_config
from autotune.formatting.units import label, quantity
from autotune.results.ladder_view import LadderView
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import configuration, confirmed, is_cost
from autotune.trial_attributes import SPENT

_STATUSES = ("complete", "paused", "stopped", "failed", "pruned", "lost", "running")
_MEASURES = ("trials", "hours", "flops")


def budget_used(results: SweepTables) -> dict[str, tuple[float, float | None]]:
    """Spent and allowed (None where unlimited) by measure; hours are those of the search, on the wall."""
    trials = results.trials
    ended = trials[trials["status"].isin(SPENT)]
    flops = float((ended["cost.train_flops"] * ended["share"]).sum()) if "cost.train_flops" in ended else 0.0
    spent = {"trials": float(len(ended)), "hours": results.search_seconds / 3600, "flops": flops}
    return {name: (spent[name], getattr(results.sweep.budget, name)) for name in _MEASURES}


def finished(results: SweepTables) -> bool:
    """Whether a limit of the budget is reached and, where confirmation is on, the front is confirmed.

    On a ladder the number of trials is a limit on those that begin; then nobody may be left to go on.
    """
    over = {
        name for name, (used, limit) in budget_used(results).items() if limit is not None and used >= limit
    }
    spent = bool(over)
    if over == {"trials"} and results.ladder is not None:
        spent = results.ladder.settled
    return spent and (not results.sweep.confirm.seeds or not results.confirmations.empty)


def overview_json(results: SweepTables) -> dict[str, Any]:
    """The state of a sweep as plain JSON values; NaN becomes null."""
    names = [objective.name for objective in results.objectives]
    front = [
        {"trial": int(row["trial"]), "config": configuration(row), **{n: _plain(row[n]) for n in names}}
        for _, row in results.front.iterrows()
    ]
    return {
        "name": results.sweep.name,
        "folder": str(results.folder),
        "finished": finished(results),
        "trials": {str(k): int(v) for k, v in results.trials["status"].value_counts().items()},
        "hypervolume": _plain(results.hypervolume),
        "budget": {n: {"used": used, "limit": limit} for n, (used, limit) in budget_used(results).items()},
        "baselines": {name: _plain(value) for name, value in results.baselines.items()},
        "confirmations": len(results.confirmations),
        "front": front,
        **({} if results.ladder is None else {"ladder": _ladder_json(results.ladder)}),
    }


def _ladder_json(ladder: LadderView) -> dict[str, Any]:
    rungs: list[dict[str, Any]] = [
        {"share": share, "reached": reached}
        for share, reached in zip(ladder.shares, ladder.reached, strict=True)
    ]
    for rung, base in zip(rungs, ladder.spec.bases or (), strict=False):
        rung["base"] = base
    for rung, trust in zip(rungs, ladder.trust.rungs, strict=False):
        rung |= {"correlation": _plain(trust.correlation), "measured": trust.count, "climbing": trust.share}
    return {"rungs": rungs, "used": _plain(ladder.used), "verdict": ladder.trust.verdict}


def overview(results: SweepTables, *, next_steps: bool = True) -> RenderableType:
    """The state of a sweep for a terminal."""
    counts = results.trials["status"].value_counts()
    states = ", ".join(f"{counts[s]} {s}" for s in _STATUSES if s in counts)
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    facts.add_row("sweep", f"{results.sweep.name} ({results.sweep.model.name})")
    facts.add_row("folder", str(results.folder))
    facts.add_row("trials", states or "none yet")
    facts.add_row("budget", _budget_text(results))
    if results.ladder is not None:
        facts.add_row("ladder", _ladder_text(results.ladder))
    facts.add_row("front", f"{points(len(results.front))}, hypervolume {results.hypervolume:.3f}")
    metric = results.sweep.task.metric
    for name, value in results.baselines.items():
        facts.add_row("to beat", f"{name}: {label(metric).lower()} {quantity(metric, value)}")
    parts: list[RenderableType] = [facts, Text()]
    if len(results.front):
        parts += [front_table(results), Text()]
    if next_steps:
        parts.append(Text("\n".join(_next_steps(results))))
    return Group(*parts)


def _ladder_text(ladder: LadderView) -> str:
    far = "to" if ladder.spec.bases is None else "on"
    lines = [f"{row.reached} trained {far} {row.share}: {row.trust}" for row in ladder.rows[:-1]]
    lines.append(f"{ladder.reached[-1]} trained to the end")
    if math.isfinite(ladder.used):
        lines[-1] += f"; {100 * ladder.used:.0f} % of what all in full would have taken"
    return "\n".join(lines)


def front_table(results: SweepTables) -> Table:
    """The front, cheapest first, with what confirmation found."""
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("trial", justify="right")
    table.add_column("configuration", min_width=len("configuration"))
    for objective in results.objectives:
        table.add_column(label(objective.name), justify="right")
    score = next((o.name for o in results.objectives if not is_cost(o.name)), None)
    found = confirmed(results, score) if score else None
    if found is not None and len(found):
        table.add_column("confirmed", justify="right")
        table.add_column("test", justify="right")
    for _, row in results.front.iterrows():
        cells = [str(row["trial"]), short_config(configuration(row))]
        cells += [quantity(o.name, float(row[o.name])) for o in results.objectives]
        if found is not None and len(found):
            known = found.loc[row["trial"]] if row["trial"] in found.index else None
            cells += (
                ["", ""] if known is None else [_mean(str(score), known), quantity(str(score), known["test"])]
            )
        table.add_row(*cells)
    return table


def _mean(name: str, row: Any) -> str:
    mean = quantity(name, row["mean"])
    if not math.isfinite(row["low"]):
        return mean
    return f"{mean} ± {quantity(name, (row['high'] - row['low']) / 2)}"


def _budget_text(results: SweepTables) -> str:
    parts = []
    for name, (used, limit) in budget_used(results).items():
        if name == "trials":
            parts.append(f"{used:.0f} of {limit} trials" if limit else f"{used:.0f} trials")
        elif name == "hours":
            parts.append(clock(used * 3600) + (f" of {clock(limit * 3600)}" if limit else ""))
        else:
            spent = quantity("train_flops", used)
            parts.append(f"{spent} of {quantity('train_flops', limit)}" if limit else spent)
    return ", ".join(parts)


def _next_steps(results: SweepTables) -> list[str]:
    folder = shlex.quote(str(results.folder))
    steps = []
    if not finished(results):
        steps.append(f"go on      autotune resume {folder}")
    report = results.folder / "report.html"
    if report.is_file():
        steps.append(f"look       {report}")
    elif len(results.front):
        steps.append(f"look       autotune report {folder}")
    if len(results.front):
        steps.append(f"export     autotune export {folder} --pick knee --to RUN")
    return steps


def _plain(value: Any) -> float | int | None:
    number = float(value)
    if not np.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) >= 2 else number
