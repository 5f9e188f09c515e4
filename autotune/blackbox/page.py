"""The report of `autotune.optimize`: the page of a sweep's report with what a black box has."""

from __future__ import annotations

from pathlib import Path

from autotune.blackbox.tables import OptimizeTables
from autotune.figures import FIGURES
from autotune.figures.trial_points import count_by_status
from autotune.formatting.units import (
    config_lines,
    counted,
    duration,
    label,
    percent,
    quantity,
    within_sentence,
)
from autotune.ladder.rank_correlation import Trust
from autotune.report.front_rows import PointRow
from autotune.report.headline import Fact
from autotune.report.page import failure_rows, figure_block, render_page
from autotune.results.tables import configuration, quality, write_whole

_FIGURES = ("front", "hypervolume", "parallel", "importance", "curves")
"""The figures of a sweep's report that a black box has."""


def write_optimize_report(
    tables: OptimizeTables, path: Path, title: str, *, used: float, trust: Trust
) -> Path:
    """Write the report atomically, and return its path.

    Args:
        tables: of the search.
        path: of the file.
        title: of the page.
        used: training in all, in the ladder's unit of fidelity.
        trust: how well the lower rungs ranked.
    """
    names = [within_sentence(label(objective.name)) for objective in tables.objectives]
    page = render_page(
        title=title,
        summary=f"{counted(len(tables.trials), 'trial')} for {' and '.join(names)}.",
        facts=_facts(tables, used, trust),
        columns=[label(objective.name) for objective in tables.objectives],
        points=_points(tables),
        figures=[figure_block(entry, tables) for entry in FIGURES if entry.key in _FIGURES],
        failures=failure_rows(tables),
        statuses=count_by_status(tables),
        quality=within_sentence(label(quality(tables).name)),
    )
    write_whole(path, lambda draft: draft.write_text(page, encoding="utf-8"))
    return path


def _facts(tables: OptimizeTables, used: float, trust: Trust) -> list[Fact]:
    facts = []
    front = tables.front
    for objective in tables.objectives:
        name = f"Best {within_sentence(label(objective.name))}"
        if front.empty:
            facts.append(Fact(name, "–", "no trial is on the front"))
            continue
        row = front.iloc[int(objective.loss(front[objective.name]).argmin())]
        facts.append(Fact(name, quantity(objective.name, row[objective.name]), f"trial {row['trial']}"))
    if not tables.has_single_objective:
        words = f"hypervolume: {percent(tables.hypervolume)} of the box between ideal and reference"
        facts.append(Fact("Front", counted(len(front), "point"), words))
    spent = f"{used:g} of fidelity, {duration(tables.search_seconds)}"
    facts.append(Fact("Budget used", counted(len(tables.trials), "trial"), spent))
    if trust.rungs:
        facts.append(Fact("Ladder", counted(len(trust.rungs) + 1, "rung"), trust.verdict))
    return facts


def _points(tables: OptimizeTables) -> list[PointRow]:
    front = tables.front
    best = [
        int(front["trial"].iloc[int(objective.loss(front[objective.name]).argmin())])
        for objective in tables.objectives
        if not front.empty
    ]
    rows = []
    for _, row in front.iterrows():
        trial = int(row["trial"])
        marks = [
            f"best {within_sentence(label(objective.name))}"
            for objective, holder in zip(tables.objectives, best, strict=True)
            if holder == trial
        ]
        values = [float(row[objective.name]) for objective in tables.objectives]
        cells = [quantity(o.name, value) for o, value in zip(tables.objectives, values, strict=True)]
        rows.append(PointRow(trial, tuple(marks), tuple(cells), tuple(config_lines(configuration(row))), ""))
    return rows
