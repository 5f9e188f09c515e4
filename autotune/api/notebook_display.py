"""A sweep's progress in a notebook: one HTML block that is updated in place."""

from __future__ import annotations

import html
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from autotune.engine.events import Progress, SilentListener
from autotune.formatting.compact import clock, points, short_config
from autotune.formatting.units import label, quantity, within_sentence
from search_spaces.parameters.types import Configuration
from trials.records import TrialResult, TrialStatus

if TYPE_CHECKING:
    from autotune.sweep.schema import Sweep

_PHASES = {
    "loading": "Loading model and data",
    "search": "Searching",
    "confirm": "Confirming the front on new seeds",
    "report": "Writing the report",
    "done": "Done",
}
_FIXED = "\u00a0"
"""A space that does not break the line."""
_SHOWN = 8
"""Ended training runs that the block lists."""
_PAUSE = 0.5
"""Seconds between two updates within a phase: each sends the whole block to the browser."""


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook (Jupyter, VS Code, Colab)."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


class NotebookProgress(SilentListener):
    """A listener that shows the state of the sweep and its latest training runs below the running cell."""

    def __init__(self) -> None:
        self._sweep: Sweep | None = None
        self._state = Progress(phase="loading")
        self._configs: dict[int, Configuration] = {}
        self._origins: dict[int, str] = {}
        self._rows: deque[tuple[str, str, str, str]] = deque(maxlen=_SHOWN)
        self._handle: Any = None
        self._updated = 0.0

    def sweep_started(self, sweep: Sweep, notes: list[str]) -> None:
        self._sweep = sweep

    def trial_started(self, number: int, config: Configuration, *, seed: int, origin: str = "") -> None:
        self._configs[number] = dict(config)
        self._origins[number] = f"{origin}: " if origin else ""

    def trial_finished(
        self, number: int, result: TrialResult, values: dict[str, float], on_front: bool
    ) -> None:
        if result.status == TrialStatus.COMPLETE:
            outcome = ", ".join(f"{within_sentence(label(n))} {quantity(n, v)}" for n, v in values.items())
        else:
            outcome = str(result.status) + (f": {result.error}" if result.error else "")
        confirms = self._state.phase == "confirm"
        what = f"confirm {number}" if confirms else f"trial {number}{' ★' if on_front else ''}"
        config = self._origins.get(number, "") + short_config(self._configs.get(number, {}))
        self._rows.append((what.replace(" ", _FIXED), config, outcome, f"{result.seconds:.1f}{_FIXED}s"))

    def progress(self, progress: Progress) -> None:
        has_new_phase = progress.phase != self._state.phase
        self._state = progress
        now = time.monotonic()
        if self._handle is None or has_new_phase or now - self._updated >= _PAUSE:
            self._updated = now
            self._show()

    def _show(self) -> None:
        from IPython.display import HTML, display

        if self._handle is None:
            self._handle = display(HTML(self.html()), display_id=True)
        else:
            self._handle.update(HTML(self.html()))

    def html(self) -> str:
        """Return the block; text from the sweep is escaped."""
        state = self._state
        title = "" if self._sweep is None else f"<b>{html.escape(self._sweep.name)}</b> · "
        total = f"/{state.total}" if state.total else ""
        head = f"{title}{_PHASES[state.phase]}"
        if state.phase not in ("loading", "done"):
            head += f" · {state.finished}{total} · {clock(state.elapsed)}, {clock(state.remaining)} left"
        parts = [f"<div>{head}</div>", self._bar(), f"<div>{html.escape(self._numbers())}</div>"]
        if self._rows and state.phase != "done":
            cells = ("<tr>" + "".join(_cell(text) for text in row) + "</tr>" for row in reversed(self._rows))
            parts.append(f'<table style="font-size: 12px">{"".join(cells)}</table>')
        return f'<div style="font-size: 13px; line-height: 1.6">{"".join(parts)}</div>'

    def _bar(self) -> str:
        state = self._state
        if not state.total:
            return ""
        share = 1.0 if state.phase == "done" else min(1.0, state.finished / state.total)
        inner = f'<div style="width: {100 * share:.0f}%; height: 100%; background: #0072b2"></div>'
        outer = "height: 6px; max-width: 640px; background: #e3e7ed; border-radius: 3px; overflow: hidden"
        return f'<div style="{outer}">{inner}</div>'

    def _numbers(self) -> str:
        state = self._state
        if state.phase == "loading":
            return ""
        parts = []
        if self._sweep is None or len(self._sweep.objectives) > 1:
            parts += [
                f"{state.front_name}: {points(state.front_size)}",
                f"hypervolume {state.hypervolume:.3f}",
            ]
        parts += [
            f"best {within_sentence(label(name))} {quantity(name, value)}"
            for name, value in (state.best or {}).items()
        ]
        if state.failed:
            parts.append(f"{state.failed} failed")
        return " · ".join(parts)


def _cell(text: str) -> str:
    return f'<td style="text-align: left; vertical-align: top; padding: 0 12px 0 0">{html.escape(text)}</td>'
