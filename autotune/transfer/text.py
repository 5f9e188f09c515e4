"""What earlier sweeps said about this one, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from autotune.formatting.compact import short_config
from autotune.formatting.units import counted, label, quantity, within_sentence
from autotune.transfer.outcome import SourceOutcome, TransferredPoint


def transfer_overview(outcomes: Sequence[SourceOutcome], next_step: str) -> RenderableType:
    """Return how far the order of each earlier front held.

    Args:
        outcomes: one per earlier sweep.
        next_step: the command that goes on from here.
    """
    parts: list[RenderableType] = []
    for outcome in outcomes:
        parts += [Text(outcome.note, "dim"), Text(), points_table(outcome), Text()]
        parts += [Text(f"· {sentence}") for sentence in sentences(outcome)]
    return Group(*parts, Text(), Text(f"search on   {next_step}"))


def points_table(outcome: SourceOutcome) -> Table:
    """Return the points that both sweeps have trained, the best here first."""
    table = Table(box=None, padding=(0, 1), header_style="dim")
    score = within_sentence(label(outcome.objective.name))
    table.add_column("trial", justify="right")
    table.add_column("configuration", min_width=len("configuration"))
    for heading in (f"{score} there", "place", f"{score} here", "place", *_cost_names(outcome)):
        table.add_column(heading, justify="right")
    table.add_column("front")
    for row in point_rows(outcome):
        table.add_row(*map(Text, row))
    return table


def point_columns(outcome: SourceOutcome) -> list[str]:
    """Return the headings of `point_rows`, for the report."""
    score = within_sentence(label(outcome.objective.name))
    costs = [label(name) for name in _cost_names(outcome, is_raw=True)]
    return ["Trial", "Configuration", f"There: {score}", "Place", f"Here: {score}", "Place", *costs, "Front"]


def point_rows(outcome: SourceOutcome) -> list[list[str]]:
    """Return the cells of the table of points as text."""
    name = outcome.objective.name
    return [
        [
            str(point.trial),
            short_config(point.config),
            quantity(name, point.earlier_score),
            str(point.earlier_rank),
            quantity(name, point.score),
            str(point.rank),
            *(quantity(cost, value) for cost, value in point.costs.items()),
            _front_words(point),
        ]
        for point in outcome.points
    ]


def sentences(outcome: SourceOutcome) -> list[str]:
    """Return what the points say, in sentences."""
    found = [f"order: {outcome.summary}"]
    was = [point for point in outcome.points if point.was_on_front]
    if was:
        stay = sum(point.is_on_front for point in was)
        found.append(
            f"front: {stay} of {counted(len(was), 'point')} of the earlier front stay on the front of these points"
        )
    best = outcome.best_before
    if best is not None and math.isfinite(outcome.regret):
        name = outcome.objective.name
        which = f"regret: the point that was best in {outcome.name} (trial {best.trial}) is"
        worse = f"{quantity(name, outcome.regret)} worse in {within_sentence(label(name))} than the best here"
        found.append(f"{which} {worse}" if outcome.regret > 0 else f"{which} the best here, too")
    if outcome.failed:
        found.append(f"{counted(outcome.failed, 'point')} failed here")
    if outcome.waiting:
        found.append(f"{counted(outcome.waiting, 'point')} still to be trained here")
    if outcome.points:
        found.append(
            "scores are estimates: confirmed means, or what a search estimates from one seed (a posterior mean where "
            "it has one), so close places may be noise"
        )
    return found


def _front_words(point: TransferredPoint) -> str:
    if point.was_on_front and point.is_on_front:
        return "stays"
    if point.was_on_front:
        return "leaves"
    return "enters" if point.is_on_front else ""


def _cost_names(outcome: SourceOutcome, *, is_raw: bool = False) -> list[str]:
    names = list(outcome.points[0].costs) if outcome.points else []
    return names if is_raw else [within_sentence(label(name)) for name in names]
