"""The report: one HTML file with the search, the front, the figures and the limitations.

Everything is inlined, plotly's script among it, and a content security policy forbids the page to load anything, so
that it opens offline and sends nothing. The template escapes text from data sets and parameters.
"""

from __future__ import annotations

import html
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from autotune.figures import FIGURES, FigureEntry
from autotune.figures.style import TITLE_LINE, TITLE_ROOM
from autotune.figures.trial_points import count_by_status
from autotune.formatting.units import counted, label, percent, within_sentence
from autotune.probe import text as forecast_text
from autotune.probe.excluded_points import excluded_points
from autotune.probe.forecast import ProbeForecast, forecast
from autotune.report.agreement import rank_agreement
from autotune.report.best_hyperparameters import LawSection, law_section
from autotune.report.detail_tables import details
from autotune.report.front_rows import PointRow, point_columns, point_rows
from autotune.report.headline import Fact, headline, mean_selection_bias, summary
from autotune.results.confirmation_runs import is_as_search
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import quality, write_whole
from autotune.results.trial_tables import TrialTables
from autotune.sweep.sweep_file import as_mapping
from autotune.transfer import text as transfer_text
from autotune.transfer.outcome import readable_outcomes
from autotune.version import __version__

_TEMPLATES = Path(__file__).parent
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FigureBlock:
    """A figure as the page holds it.

    Args:
        key: its identifier in the page.
        heading: its subject.
        seen: what it shows, in one sentence.
        reading: how to read it.
        data: plotly's JSON; None where the figure is missing.
        height: pixels.
        min_width: pixels below which it scrolls.
        reason: why it is missing.
    """

    key: str
    heading: str
    seen: str
    reading: str
    data: Markup | None
    height: int
    min_width: int
    reason: str = ""


def write_report(results: SweepTables, path: Path | None = None) -> Path:
    """Write the report atomically, by default as `report.html` in the sweep's folder.

    A figure that cannot be drawn is replaced by the reason and does not stop the report.

    Returns:
        the path of the report.
    """
    path = results.folder / "report.html" if path is None else Path(path)
    page = report_html(results)
    write_whole(path, lambda draft: draft.write_text(page, encoding="utf-8"))
    return path


def report_html(results: SweepTables) -> str:
    """Return the report as a string."""
    predicted = forecast(results)
    laws = law_section(results)
    return render_page(
        title=results.sweep.name,
        summary=summary(results),
        facts=headline(results),
        columns=point_columns(results),
        points=point_rows(results),
        figures=[figure_block(_with_laws(entry, laws), results) for entry in FIGURES],
        laws=laws,
        failures=failure_rows(results),
        statuses=count_by_status(results),
        quality=within_sentence(label(quality(results).name)),
        ladder=results.ladder,
        forecast=forecast_tables(predicted),
        forecast_missing=forecast_text.exclusions_text(excluded_points(results, predicted)),
        ladder_used=percent(results.ladder.used) if results.ladder else "",
        notes=results.notes,
        selection_bias=mean_selection_bias(results),
        confirmed=not results.confirmations.empty,
        is_as_search=is_as_search(results.confirmations),
        agreement=rank_agreement(results),
        earlier=earlier_sweeps(results),
        detailed=details(results),
        yaml=yaml.safe_dump(as_mapping(results.sweep), sort_keys=False, allow_unicode=True),
    )


def render_page(
    *,
    title: str,
    summary: str,
    facts: Sequence[Fact],
    columns: Sequence[str],
    points: Sequence[PointRow],
    figures: Sequence[FigureBlock],
    failures: Sequence[Mapping[str, Any]],
    statuses: str,
    quality: str,
    **of_sweep: Any,
) -> str:
    """Return the page of a search.

    Args:
        title: of the page.
        summary: one sentence on the search.
        facts: the cards at the top.
        columns: headings of the table of the front.
        points: rows of that table.
        figures: in their order.
        failures: see `failure_rows`.
        statuses: number of trials by status, in words.
        quality: the printed name of the objective that counts as the quality.
        of_sweep: what only a sweep has, by its name in the template.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    template = environment.get_template("report.html.jinja")
    only_of_sweeps: dict[str, Any] = {
        "ladder": None, "forecast": [], "forecast_missing": "", "ladder_used": "", "notes": (),
        "selection_bias": "", "confirmed": False, "yaml": "", "is_as_search": True, "agreement": None,
        "earlier": [], "detailed": (None, []), "laws": None,
    }  # fmt: skip
    return template.render(
        title=title,
        summary=summary,
        facts=facts,
        columns=columns,
        points=points,
        figures=figures,
        failures=failures,
        statuses=statuses,
        quality=quality,
        **{**only_of_sweeps, **of_sweep},
        plotly=Markup(get_plotlyjs()),
        version=__version__,
    )


def _with_laws(entry: FigureEntry, laws: LawSection) -> FigureEntry:
    """Return the figure of laws with the laws that are fitted already, and other figures as they are."""
    return replace(entry, plot=laws.plot) if entry.key == "laws" else entry


def earlier_sweeps(results: SweepTables) -> list[dict[str, Any]]:
    """Return what each earlier sweep that the search started from said, for the template."""
    outcomes, problem = readable_outcomes(results)
    if problem:
        return [{"name": "", "lines": [problem], "columns": [], "rows": []}]
    return [
        {
            "name": outcome.name,
            "lines": [
                outcome.note,
                *filter(None, [outcome.trust_words]),
                *transfer_text.sentences(outcome),
                f"final front: {counted(outcome.on_final_front, 'point')} of {len(results.front)} from this sweep",
            ],
            "columns": transfer_text.point_columns(outcome),
            "rows": transfer_text.point_rows(outcome),
        }
        for outcome in outcomes
    ]


def forecast_tables(found: ProbeForecast | None) -> list[dict[str, Any]]:
    """Return the forecasts of a probe, one table per base model; empty without a probe.

    Returns:
        mappings of `title`, `columns`, `rows`, and `words` about both.
    """
    if found is None:
        return []
    return [
        {
            "title": forecast_text.base_title(found, base),
            "columns": forecast_text.columns(base),
            "rows": forecast_text.rows(found, base),
            "words": f"{forecast_text.order_text(base)} {forecast_text.method_text(base)}",
        }
        for base in found.bases
    ]


def failure_rows(results: TrialTables) -> list[dict[str, Any]]:
    """Return the failures by message, the most frequent first: `status`, `message`, `count` and `trials`."""
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


def figure_block(entry: FigureEntry, results: TrialTables) -> FigureBlock:
    """Draw one figure for the page; an exception becomes the reason why it is missing."""
    try:
        figure = entry.plot(results)
        meta = figure.layout.meta or {}
        if "reason" in meta:
            return _missing(entry, meta["reason"])
        title = figure.layout.title.text or ""
        room = TITLE_ROOM + TITLE_LINE * title.count("<br>")
        seen = html.unescape(title.replace("<br>", " "))
        # The page shows the title as text that wraps, so the figure needs no room for it.
        height = int(figure.layout.height or 450) - room
        top = (figure.layout.margin.t or figure.layout.template.layout.margin.t) - room
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
    """Return a figure's JSON without `<`, so that it cannot end the script element that holds it."""
    text = json.dumps(json.loads(figure.to_json()), ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
