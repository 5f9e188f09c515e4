"""The report: one HTML file that says what was searched, what was found and how far to believe it.

Everything is inlined, plotly's script among it, and a content security policy forbids the page to load
anything, so it opens offline and tells nobody. Text from data sets and parameters is escaped by the template.
"""

from __future__ import annotations

import html
import json
import logging
import math
import shlex
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from autotune.figures import FIGURES, FigureEntry
from autotune.figures.style import TITLE_ROOM
from autotune.figures.trial_points import count_by_status, families
from autotune.formatting.units import (
    config_lines,
    counted,
    difference,
    duration,
    label,
    percent,
    plus_minus,
    quantity,
    si,
    within_sentence,
)
from autotune.probe import text as forecast_text
from autotune.probe.excluded_points import missing
from autotune.probe.forecast import ProbeForecast, forecast
from autotune.results.selection import knee_position
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import configuration, confirmed, is_cost, quality, selection_bias, write_whole
from autotune.sweep.schema import as_mapping

_TEMPLATES = Path(__file__).parent
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fact:
    """One card of the headline: a name, a value in large type and a note under it."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class PointRow:
    """One point of the front as printed.

    Args:
        trial: its number.
        marks: what is special about it (`knee`, `best`).
        cells: the numbers, in the order of `point_columns`.
        config: the configuration, a line a parameter.
        command: what exports it.
    """

    trial: int
    marks: tuple[str, ...]
    cells: tuple[str, ...]
    config: tuple[str, ...]
    command: str


@dataclass(frozen=True)
class FigureBlock:
    """A figure as the page holds it: `data` is plotly's JSON; None where `reason` says why."""

    key: str
    heading: str
    seen: str
    reading: str
    data: Markup | None
    height: int
    min_width: int
    reason: str = ""


def write_report(results: SweepTables, path: Path | None = None) -> Path:
    """Write the report, by default as `report.html` in the sweep's folder, in one step.

    A figure that cannot be drawn is replaced by the reason; it does not stop the report.

    Returns:
        where it was written.
    """
    path = results.folder / "report.html" if path is None else Path(path)
    page = report_html(results)
    write_whole(path, lambda draft: draft.write_text(page, encoding="utf-8"))
    return path


def report_html(results: SweepTables) -> str:
    """The report as a string."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    template = environment.get_template("report.html.jinja")
    predicted = forecast(results)
    return template.render(
        sweep=results.sweep,
        summary=summary(results),
        facts=headline(results),
        columns=point_columns(results),
        points=point_rows(results),
        figures=[figure_block(entry, results) for entry in FIGURES],
        ladder=results.ladder,
        forecast=forecast_tables(predicted),
        forecast_missing=forecast_text.missing_words(missing(results, predicted)),
        ladder_used=percent(results.ladder.used) if results.ladder else "",
        failures=failure_rows(results),
        statuses=count_by_status(results),
        selection_bias=mean_selection_bias(results),
        confirmed=not results.confirmations.empty,
        quality=within_sentence(label(quality(results).name)),
        yaml=yaml.safe_dump(as_mapping(results.sweep), sort_keys=False, allow_unicode=True),
        plotly=Markup(get_plotlyjs()),
        version=_version(),
    )


def _version() -> str:
    try:
        return metadata.version("autotune")
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return ""


def summary(results: SweepTables) -> str:
    """What was searched, in a sentence."""
    sweep = results.sweep
    data = sweep.task.dataset or Path(sweep.task.train).name
    names = [within_sentence(label(objective.name)) for objective in results.objectives]
    found = families(results)
    kinds = f" over {len(found)} adapter families ({', '.join(found)})" if len(found) > 1 else ""
    return (
        f"{sweep.model.name} on {data} ({sweep.task.type}): {counted(len(results.trials), 'trial')}{kinds} "
        f"for {', '.join(names[:-1])} and {names[-1]}."
    )


def headline(results: SweepTables) -> list[Fact]:
    """The cards at the top of the report."""
    return [
        _best_fact(results),
        _knee_fact(results),
        Fact(
            "Front",
            counted(len(results.front), "point"),
            f"hypervolume {percent(results.hypervolume)} of the box",
        ),
        _budget_fact(results),
        _seeds_fact(results),
    ]


def _best_fact(results: SweepTables) -> Fact:
    best = quality(results)
    found = confirmed(results, best.name)
    found = found[found.index.isin(results.front["trial"])]
    if found.empty:
        front = results.front
        if front.empty:
            return Fact(f"Best {within_sentence(label(best.name))}", "–", "no trial is on the front")
        row = front.iloc[int(np.argmin(best.loss(front[best.name])))]
        note = f"trial {row['trial']}, one search seed, not confirmed: expect less"
        return Fact(
            f"Best {within_sentence(label(best.name))}, as searched",
            quantity(best.name, row[best.name]),
            note,
        )
    trial = found.index[int(np.argmin(best.loss(found["mean"])))]
    row = found.loc[trial]
    notes = [f"trial {trial}", f"mean of {counted(int(row['seeds']), 'report seed')}"]
    if not math.isnan(row["test"]):
        notes.append(f"test {quantity(best.name, row['test'])}")
    return Fact(
        f"Best {within_sentence(label(best.name))}, confirmed",
        interval_text(best.name, row),
        ", ".join(notes),
    )


def _knee_fact(results: SweepTables) -> Fact:
    trial = knee_trial(results)
    if trial is None:
        return Fact("Knee", "–", "no trial is on the front")
    row = results.front.set_index("trial").loc[trial].to_dict()
    parts = []
    for objective in results.objectives:
        name, means = objective.name, confirmed(results, objective.name)["mean"]
        again = not is_cost(name) and trial in means.index
        shown = f"{quantity(name, means[trial])} confirmed" if again else quantity(name, row[name])
        parts.append(f"{within_sentence(label(name))} {shown}")
    return Fact("Knee", f"trial {trial}", ", ".join(parts))


def knee_trial(results: SweepTables) -> int | None:
    """The trial that `autotune export --pick knee` takes: it gives up least of all. None without a front."""
    front = results.front
    if front.empty:
        return None
    return int(front["trial"].iloc[knee_position(results, front)])


def _budget_fact(results: SweepTables) -> Fact:
    trials, budget = results.trials, results.sweep.budget
    limit = f" of {budget.trials}" if budget.trials is not None else ""
    notes = [f"{duration(results.search_seconds)} of search"]
    if budget.hours is not None:
        notes[0] += f" (limit {duration(3600 * budget.hours)})"
    if "cost.train_flops" in trials:
        done = trials[trials["status"].isin(["complete", "paused", "stopped"])]
        flops = float((done["cost.train_flops"] * done["share"]).sum())
        words = si(flops, "FLOPs")
        if results.ladder is not None and math.isfinite(results.ladder.used):
            words += f", {percent(results.ladder.used)} of full training"
        notes.append(words if budget.flops is None else f"{words} (limit {si(budget.flops, 'FLOPs')})")
    if not results.confirmations.empty:
        seconds = duration(float(results.confirmations["elapsed"].max()))
        notes.append(f"then {counted(len(results.confirmations), 'confirmation run')}, {seconds}")
    return Fact("Budget used", f"{len(trials)}{limit} trials", ", ".join(notes))


def _seeds_fact(results: SweepTables) -> Fact:
    search = set(results.trials["seed"].dropna())
    report = set(results.confirmations["seed"]) if not results.confirmations.empty else set()
    shared = len(search & report)
    note = "none is in both" if not shared else f"{shared} in both: confirmed values are not independent"
    counts = f"{counted(len(search), 'search seed')}, {counted(len(report), 'report seed')}"
    return Fact("Seeds", f"{len(search)} + {len(report)}", f"{counts}; {note}")


def interval_text(name: str, row: pd.Series) -> str:
    """`81.6 % ± 0.7 %`, or the mean alone where there is no interval."""
    if math.isnan(row["low"]):
        return quantity(name, row["mean"])
    return plus_minus(name, row["mean"], (row["high"] - row["low"]) / 2)


def mean_selection_bias(results: SweepTables) -> str:
    """How much better, on average, the search saw the confirmed points; empty if nothing was confirmed."""
    best = quality(results)
    found = confirmed(results, best.name)
    searched = results.trials.set_index("trial")[best.name].reindex(found.index)
    gaps = [
        selection_bias(best, s, m) for s, m in zip(searched, found["mean"], strict=True) if not math.isnan(s)
    ]
    return difference(best.name, float(np.mean(gaps))) if gaps else ""


def point_columns(results: SweepTables) -> list[str]:
    """The headings of the table of the front."""
    names: list[str] = []
    for objective in results.objectives:
        names.append(label(objective.name) + (", as searched" if not is_cost(objective.name) else ""))
        if not is_cost(objective.name) and not confirmed(results, objective.name).empty:
            names += ["Confirmed (95 % interval)", "Seeds", "Luck", "Test"]
    if not any(objective.name == "trainable_params" for objective in results.objectives):
        names.append(label("trainable_params"))
    return [*names, label("head_params")]


def point_rows(results: SweepTables) -> list[PointRow]:
    """The table of the front, in the order of `results.front`."""
    front = results.front
    if front.empty:
        return []
    best = quality(results)
    found = {o.name: confirmed(results, o.name) for o in results.objectives if not is_cost(o.name)}
    means = front.set_index("trial")[best.name]
    if best.name in found and not found[best.name].empty:
        means = found[best.name]["mean"].reindex(front["trial"])
    top = means.index[int(np.nanargmin(best.loss(means)))]
    knee_at = knee_trial(results)
    rows = []
    for _, row in front.iterrows():
        trial = int(row["trial"])
        marks = [mark for mark, holder in (("best", top), ("knee", knee_at)) if holder == trial]
        rows.append(
            PointRow(
                trial=trial,
                marks=tuple(marks),
                cells=tuple(_cells(results, row, found)),
                config=tuple(config_lines(configuration(row))),
                command=export_command(results, trial),
            )
        )
    return rows


def _cells(results: SweepTables, row: pd.Series, found: dict[str, pd.DataFrame]) -> list[str]:
    cells = []
    for objective in results.objectives:
        name = objective.name
        cells.append(quantity(name, row[name]))
        if name in found and not found[name].empty:
            if row["trial"] in found[name].index:
                one = found[name].loc[row["trial"]]
                cells += [interval_text(name, one), str(int(one["seeds"]))]
                cells += [
                    difference(name, selection_bias(objective, row[name], one["mean"])),
                    quantity(name, one["test"]),
                ]
            else:
                cells += ["–"] * 4
    if not any(objective.name == "trainable_params" for objective in results.objectives):
        cells.append(quantity("trainable_params", row.get("cost.trainable_params", math.nan)))
    return [*cells, quantity("head_params", row.get("cost.head_params", math.nan))]


def export_command(results: SweepTables, trial: int) -> str:
    """The command that exports a trial of this sweep as a training run."""
    target = f"runs/{results.sweep.name}-{trial}"
    return f"autotune export {shlex.quote(str(results.folder))} --pick {trial} --to {shlex.quote(target)}"


def forecast_tables(found: ProbeForecast | None) -> list[dict[str, Any]]:
    """What a probe foretells, a table a base: `title`, `columns`, `rows`, and `words` about both; empty without."""
    if found is None:
        return []
    return [
        {
            "title": forecast_text.base_title(found, base),
            "columns": forecast_text.columns(base),
            "rows": forecast_text.rows(found, base),
            "words": f"{forecast_text.order_words(base)} {forecast_text.rule_words(base)}",
        }
        for base in found.bases
    ]


def failure_rows(results: SweepTables) -> list[dict[str, Any]]:
    """What went wrong, the most frequent first: `status`, `message`, `count` and the `trials`."""
    trials = results.trials
    bad = trials[trials["status"].isin(["failed", "lost"])]
    if bad.empty:
        return []
    messages = bad["error"].fillna("no message").map(str)
    rows = [
        {
            "status": status,
            "message": message,
            "count": len(part),
            "trials": ", ".join(map(str, part["trial"])),
        }
        for (status, message), part in bad.groupby([bad["status"], messages], sort=False)
    ]
    return sorted(rows, key=lambda row: -row["count"])


def figure_block(entry: FigureEntry, results: SweepTables) -> FigureBlock:
    """Draw one figure for the page; what goes wrong becomes its reason."""
    try:
        figure = entry.plot(results)
        meta = figure.layout.meta or {}
        if "reason" in meta:
            return _missing(entry, meta["reason"])
        seen = html.unescape(figure.layout.title.text or "")
        # The page shows the title as text that wraps, so the figure gives its room back.
        height = int(figure.layout.height or 450) - TITLE_ROOM
        top = (figure.layout.margin.t or 96) - TITLE_ROOM
        figure.update_layout(title=None, height=height, margin_t=max(top, 24), width=None)
        data = script_json(figure)
    except Exception as error:  # a fault in one figure must not cost the user the report
        _log.warning("the figure %r could not be drawn", entry.key, exc_info=True)
        first = (str(error).strip().splitlines() or [""])[0][:200]
        return _missing(entry, f"This figure could not be drawn ({type(error).__name__}: {first}).")
    return FigureBlock(entry.key, entry.heading, seen, entry.reading, data, height, meta.get("min_width", 0))


def _missing(entry: FigureEntry, reason: str) -> FigureBlock:
    return FigureBlock(entry.key, entry.heading, "", "", None, 0, 0, reason)


def script_json(figure: go.Figure) -> Markup:
    """A figure's JSON, safe inside a script element: no `<`, so no end tag, and no line separators."""
    text = json.dumps(json.loads(figure.to_json()), ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
