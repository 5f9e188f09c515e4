"""The report's section on the best hyperparameters by cost: the table and the figure of the sweep's laws."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import plotly.graph_objects as go

from autotune.figures.search_laws import plot_found_laws
from autotune.laws import sweep_law_text
from autotune.laws.sweep_laws import SweepLaws, laws_of_sweep
from autotune.results.sweep_tables import SweepTables

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LawSection:
    """The section of the laws.

    Args:
        found: the laws; None if they could not be fitted.
        words: which trials and which cost the laws are about.
        columns: headings of the table.
        rows: its cells.
        reading: how to read it.
        without: the hyperparameters without a law and the reasons, where others have one.
        fault: why the laws could not be fitted; empty if they were.
    """

    found: SweepLaws | None
    words: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    reading: str = ""
    without: tuple[str, ...] = ()
    fault: str = ""

    def plot(self, results: SweepTables) -> go.Figure:
        """Draw the figure of the laws.

        Raises:
            RuntimeError: The laws could not be fitted.
        """
        if self.found is None:
            raise RuntimeError(self.fault)
        return plot_found_laws(results, self.found)


def law_section(results: SweepTables) -> LawSection:
    """Fit the laws of a sweep for the report; a fault in them does not stop the report."""
    try:
        found = laws_of_sweep(results)
    except Exception as error:
        _log.warning("the laws of the sweep could not be fitted", exc_info=True)
        return LawSection(None, fault=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}")
    if not found.found:
        return LawSection(found)
    return LawSection(
        found,
        f"{sweep_law_text.summary(found)} Intervals are 80 % intervals of the best value.",
        sweep_law_text.columns(found),
        tuple(sweep_law_text.rows(found)),
        f"{sweep_law_text.footnote(found)} autotune export --scale-to uses these laws.",
        tuple(sweep_law_text.reasons(found)),
    )
