"""The state of a sweep, on one screen or as JSON: trials by status, budget, Pareto front, next commands."""

from __future__ import annotations

import math
import shlex
from typing import Any, SupportsFloat

import numpy as np
import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from autotune.formatting.compact import clock, points, short_config
from autotune.formatting.units import counted, label, quantity, with_interval
from autotune.objectives import is_cost
from autotune.report.agreement import rank_agreement
from autotune.results.completion import budget_used, confirmation_plan, has_confirmed, is_finished, is_spent
from autotune.results.confirmation_plan import ConfirmationPlan
from autotune.results.estimates import POSTERIOR
from autotune.results.ladder_view import LadderView
from autotune.results.recommendation import Recommendation, recommend
from autotune.results.sweep_tables import SweepTables, confirms_as_search
from autotune.results.tables import configuration, confirmation_statistics
from autotune.sweep.schema import Sweep
from autotune.transfer.outcome import SourceOutcome, readable_outcomes
from search_spaces.errors import InvalidInputError, Problem

_STATUSES = ("complete", "paused", "stopped", "failed", "pruned", "lost", "running")


def overview_json(results: SweepTables) -> dict[str, Any]:
    """Return the state of a sweep as values that JSON can represent; NaN becomes None."""
    names = [objective.name for objective in results.objectives]
    front = [
        {
            "trial": int(row["trial"]),
            **({"origin": row["origin"]} if isinstance(row["origin"], str) else {}),
            "config": configuration(row),
            **{n: _plain(row[n]) for n in names},
        }
        for _, row in results.front.iterrows()
    ]
    return {
        "name": results.sweep.name,
        "folder": str(results.folder),
        "finished": is_finished(results),
        "trials": {str(k): int(v) for k, v in results.trials["status"].value_counts().items()},
        "tried_first": {str(origin): int(trial) for trial, origin in _tried_first(results)},
        "hypervolume": _plain(results.hypervolume),
        "budget": {n: {"used": used, "limit": limit} for n, (used, limit) in budget_used(results).items()},
        "baselines": {name: _plain(value) for name, value in results.baselines.items()},
        "confirmations": len(results.confirmations),
        "confirmation": _confirmation_json(results),
        "agreement": _agreement_json(results),
        **_sources_json(results),
        "front": front,
        "recommended": recommend(results, results.front).trial,
        **({} if results.ladder is None else {"ladder": _ladder_json(results.ladder)}),
    }


def _confirmation_json(results: SweepTables) -> dict[str, Any] | None:
    plan = confirmation_plan(results)
    if plan is None:
        return None
    return {"ended": plan.ended, "total": plan.total, "complete": not plan.runs}


def _sources_json(results: SweepTables) -> dict[str, Any]:
    """Return what earlier sweeps said, without their points; empty for a sweep that started from none."""
    outcomes, problem = readable_outcomes(results)
    if problem:
        return {"start_from": problem}
    found = [outcome.as_mapping() for outcome in outcomes]
    for each in found:
        del each["points"]
    return {"start_from": found} if found else {}


def _agreement_json(results: SweepTables) -> dict[str, Any] | None:
    found = rank_agreement(results)
    if found is None:
        return None
    correlations = {"spearman": found.spearman, "kendall": found.kendall}
    return {
        "points": len(found.points),
        **{
            n: {"value": _plain(c.value), "low": _plain(c.low), "high": _plain(c.high)}
            for n, c in correlations.items()
        },
        "reversed_pairs": found.reversed_pairs,
        "clearly_reversed": found.clearly_reversed,
        "moved": [point.trial for point in found.moved],
        "recommended_by_search": found.search_choice,
    }


def _ladder_json(ladder: LadderView) -> dict[str, Any]:
    rungs: list[dict[str, Any]] = [
        {"share": share, "reached": reached}
        for share, reached in zip(ladder.shares, ladder.reached, strict=True)
    ]
    for rung, base in zip(rungs, ladder.spec.bases or (), strict=False):
        rung["base"] = base
    for rung, trust in zip(rungs, ladder.trust.rungs, strict=False):
        rung |= {
            "correlation": _plain(trust.correlation),
            "trials": trust.count,
            "promoted_share": trust.share,
        }
    return {"rungs": rungs, "flops_share": _plain(ladder.used), "verdict": ladder.trust.verdict}


def overview(results: SweepTables, *, next_steps: bool = True) -> RenderableType:
    """Return the state of a sweep for a terminal.

    Args:
        results: the sweep.
        next_steps: whether to list the next commands.
    """
    counts = results.trials["status"].value_counts()
    states = ", ".join(f"{counts[s]} {s}" for s in _STATUSES if s in counts)
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    facts.add_row("sweep", Text(f"{results.sweep.name} ({results.sweep.model.name})"))
    facts.add_row("folder", Text(str(results.folder)))
    facts.add_row("trials", states or "none yet")
    if first := _tried_first(results):
        facts.add_row("tried first", Text(", ".join(f"trial {trial} ({origin})" for trial, origin in first)))
    if "failed" in counts:
        facts.add_row("failures", Text(_failures_text(results)))
    facts.add_row("budget", _budget_text(results))
    if results.ladder is not None:
        facts.add_row("ladder", _ladder_text(results.ladder))
    plan = confirmation_plan(results)
    if plan is not None:
        facts.add_row("confirmation", _confirmation_text(plan, results.sweep))
    agreement = rank_agreement(results)
    if agreement is not None:
        facts.add_row("ranking", f"{agreement.summary}. {agreement.choice_words}")
    outcomes, problem = readable_outcomes(results)
    for words in [problem, *(". ".join(filter(None, _source_words(each))) for each in outcomes)]:
        if words:
            facts.add_row("started from", Text(words))
    facts.add_row(*_front_row(results))
    metric = results.sweep.task.metric
    found = recommend(results, results.front)
    if len(results.front):
        if found.trial is None:
            facts.add_row("recommended", found.reason)
        elif not results.has_single_objective:
            facts.add_row("recommended", f"trial {found.trial}: {found.reason}")
    for name, value in results.baselines.items():
        facts.add_row("baseline", f"{name}: {label(metric).lower()} {quantity(metric, value)}")
    parts: list[RenderableType] = [facts, Text()]
    if len(results.front):
        parts += [front_table(results), Text()]
    if next_steps:
        is_over = is_spent(results) and has_confirmed(plan)
        parts.append(Text("\n".join(_next_steps(results, found, is_over))))
    return Group(*parts)


def _source_words(outcome: SourceOutcome) -> list[str]:
    """Return what an earlier sweep said: what was carried over, how far its order held, and its weight."""
    points = counted(outcome.on_final_front, "point")
    come = "come" if outcome.on_final_front != 1 else "comes"
    return [outcome.note, outcome.summary, outcome.trust_words, f"{points} of the front {come} from it"]


def _tried_first(results: SweepTables) -> list[tuple[int, str]]:
    """Return the trials whose configuration no sampler proposed, with its origin; a lost trial runs again."""
    rows = results.trials[results.trials["origin"].notna() & (results.trials["status"] != "lost")]
    return list(zip(rows["trial"], rows["origin"], strict=True))


def _confirmation_text(plan: ConfirmationPlan, sweep: Sweep) -> str:
    """Return how many runs have ended; a confirmation may be complete with fewer than its budget."""
    words = f"{plan.ended} of {plan.total} runs" if plan.runs else f"{counted(plan.ended, 'run')}, complete"
    if confirms_as_search(sweep):
        return words
    data = "all data" if sweep.confirm.data == "full" else "the examples of the search"
    return f"{words}; on {data}, stop: {sweep.confirm.stop}"


def _front_row(results: SweepTables) -> tuple[str, str]:
    """Return the name and the size of the front, or the best trial of a single objective."""
    if not results.has_single_objective:
        return "front", f"{points(len(results.front))}, hypervolume {results.hypervolume:.3f}"
    if results.front.empty:
        return "best", "none yet"
    (objective,), best = results.objectives, results.front.iloc[0]
    value = quantity(objective.name, float(best[objective.name]))
    return "best", f"trial {best['trial']}: {label(objective.name).lower()} {value}"


def failure_traceback(results: SweepTables, number: int) -> str:
    """Return the traceback of a failed trial.

    Raises:
        InvalidInputError: There is no such trial, or no traceback is stored with it.
    """
    tracebacks = results.trials.set_index("trial")["traceback"].dropna()
    if number not in tracebacks.index:
        stored = ", ".join(map(str, tracebacks.index)) or "no trial"
        raise InvalidInputError(
            Problem("--traceback", f"trial {number} has no traceback", f"These trials have one: {stored}.")
        )
    return str(tracebacks[number])


def _failures_text(results: SweepTables) -> str:
    """Return the last error of each kind, and the command that shows its traceback."""
    failed = results.trials[results.trials["status"] == "failed"]
    lines = []
    for _, row in failed.groupby(failed["failure"].fillna(""), sort=False).tail(1).iterrows():
        lines.append(f"trial {row['trial']}: {row['error']}")
        if isinstance(row["traceback"], str):
            folder = shlex.quote(str(results.folder))
            lines.append(f"    autotune status {folder} --traceback {row['trial']}")
    return "\n".join(lines)


def _ladder_text(ladder: LadderView) -> str:
    far = "to" if ladder.spec.bases is None else "on"
    lines = [f"{row.reached} trained {far} {row.share}: {row.trust}" for row in ladder.rows[:-1]]
    lines.append(f"{ladder.reached[-1]} trained in full")
    if math.isfinite(ladder.used):
        lines[-1] += f"; {100 * ladder.used:.0f} % of the FLOPs of training all trials in full"
    return "\n".join(lines)


def front_table(results: SweepTables) -> Table:
    """Return the Pareto front as a table, cheapest first, with confirmed means and test scores if there are any."""
    table = Table(box=None, padding=(0, 1), header_style="dim")
    table.add_column("trial", justify="right")
    table.add_column("configuration", min_width=len("configuration"))
    for objective in results.objectives:
        table.add_column(label(objective.name), justify="right")
    score = next((o.name for o in results.objectives if not is_cost(o.name)), None)
    found = confirmation_statistics(results, score) if score else None
    posterior = f"{POSTERIOR}{score}" if f"{POSTERIOR}{score}" in results.trials else None
    if posterior is not None:
        table.add_column("posterior mean", justify="right")
    if found is not None and len(found):
        for heading in ("confirmed", "seeds", "test"):
            table.add_column(heading, justify="right")
    for _, row in results.front.iterrows():
        origin = f"{row['origin']}: " if isinstance(row["origin"], str) else ""
        cells: list[RenderableType] = [str(row["trial"]), Text(origin + short_config(configuration(row)))]
        cells += [quantity(o.name, float(row[o.name])) for o in results.objectives]
        if posterior is not None:
            cells.append(quantity(str(score), float(row[posterior])))
        if found is not None and len(found):
            known = found.loc[row["trial"]] if row["trial"] in found.index else None
            cells += [""] * 3 if known is None else _confirmed_cells(str(score), known)
        table.add_row(*cells)
    return table


def _confirmed_cells(name: str, known: pd.Series) -> list[str]:
    return [
        with_interval(name, known["mean"], known["low"], known["high"]),
        f"{known['seeds']:.0f}",
        quantity(name, known["test"]),
    ]


def _budget_text(results: SweepTables) -> str:
    parts = []
    for name, (used, limit) in budget_used(results).items():
        if name == "trials":
            words = f"{used:.0f} of {limit} trials" if limit else f"{used:.0f} trials"
            every = f" (the space has {counted(results.configurations or 0, 'configuration')})"
            parts.append(words + (every if results.has_tried_all else ""))
        elif name == "hours":
            parts.append(clock(used * 3600) + (f" of {clock(limit * 3600)}" if limit else ""))
        else:
            spent = quantity("train_flops", used)
            parts.append(f"{spent} of {quantity('train_flops', limit)}" if limit else spent)
    return ", ".join(parts)


def _next_steps(results: SweepTables, found: Recommendation, is_over: bool) -> list[str]:
    folder = shlex.quote(str(results.folder))
    steps = []
    if not is_over:
        steps.append(f"continue   autotune resume {folder}")
    report = results.folder / "report.html"
    if report.is_file():
        steps.append(f"report     {report}")
    elif len(results.front):
        steps.append(f"report     autotune report {folder}")
    if found.trial is not None:
        steps.append(f"export     autotune export {folder} --pick knee --to RUN")
    return steps


def _plain(value: SupportsFloat) -> float | int | None:
    """Return a number as a Python number, whole ones above 1 as integers, and None if it is not finite."""
    number = float(value)
    if not np.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) >= 2 else number
