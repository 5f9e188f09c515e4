"""The display of a running sweep: a live table in a terminal, and one line per trial in a log or a pipe."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from autotune.engine.events import WARNING, Listener, Progress, SilentListener
from autotune.formatting.compact import clock, points, short_config, sparkline
from autotune.formatting.units import label, quantity
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
_NAMES = {
    "trainable_params": "params",
    "stored_bytes": "stored",
    "train_flops": "train FLOPs",
    "inference_flops": "infer FLOPs",
    "train_seconds": "train time",
    "peak_memory": "memory",
}
"""Short names of costs, for the columns of the live table."""
_MAX_ROWS = 10
_FRAME = 9
"""Lines of the live display without the rows of trials."""


def watch(console: Console, *, quiet: bool = False) -> AbstractContextManager[Listener]:
    """Return a listener for a console, for use in a `with` statement.

    Args:
        console: receives the display; a terminal gets a live table, anything else one line per trial.
        quiet: show nothing.
    """
    if quiet:
        return nullcontext(SilentListener())
    return LiveProgress(console) if console.is_terminal else PlainProgress(console)


@dataclass
class _Row:
    """A training run on display.

    Args:
        number: of the trial.
        config: the configuration.
        origin: where it comes from; empty if the sampler proposed it.
        started: the time on the monotonic clock, in seconds.
        result: None while the run is in progress.
        values: the objectives of a complete run.
        on_front: whether the run is on the Pareto front now.
        confirms: whether the run is a confirmation of an earlier trial.
    """

    number: int
    config: Configuration
    origin: str = ""
    started: float = field(default_factory=time.monotonic)
    result: TrialResult | None = None
    values: dict[str, float] | None = None
    on_front: bool = False
    confirms: bool = False

    @property
    def text(self) -> str:
        """The configuration on one line, after its origin."""
        return f"{self.origin}: {short_config(self.config)}" if self.origin else short_config(self.config)


class _Watcher:
    """State that both displays share. The engine's thread writes it, and the display's thread reads it."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.sweep: Sweep | None = None
        self.state = Progress(phase="loading")
        self.received = time.monotonic()
        self.rows: list[_Row] = []
        self.hypervolumes: list[float] = []
        self.lock = threading.Lock()

    def sweep_started(self, sweep: Sweep, notes: list[str]) -> None:
        """Store the sweep, and print its notes."""
        with self.lock:
            self.sweep = sweep
        for note in notes:
            self._say(Text(f"· {note}", style="yellow" if note.startswith(WARNING) else "dim"))

    def trial_started(self, number: int, config: Configuration, *, seed: int, origin: str = "") -> None:
        """Add a row for the run."""
        with self.lock:
            confirms = self.state.phase == "confirm"
            self.rows.append(_Row(number, dict(config), origin=origin, confirms=confirms))

    def trial_finished(
        self, number: int, result: TrialResult, values: dict[str, float], on_front: bool
    ) -> None:
        """Store the result in the row of the run, and update which rows are on the front."""
        with self.lock:
            row = next((r for r in self.rows if r.number == number and r.result is None), None)
            if row is None:  # the run started before this display
                row = _Row(number, {})
                self.rows.append(row)
            row.result, row.values, row.on_front = result, values, on_front
            if not row.confirms:
                self._drop_stars(row)
        self._ended(row)

    def _ended(self, row: _Row) -> None:
        """React to the end of a run; called without the lock."""

    def progress(self, progress: Progress) -> None:
        """Store the progress of the sweep."""
        with self.lock:
            if progress.phase == "search" and progress.finished > self.state.finished:
                self.hypervolumes.append(progress.hypervolume)
            self.state, self.received = progress, time.monotonic()

    def _say(self, text: Text) -> None:
        self.console.print(text)

    def _drop_stars(self, newest: _Row) -> None:
        """Take the points off the front that the newest point dominates."""
        assert self.sweep is not None
        if not newest.on_front or not newest.values:
            return
        objectives = self.sweep.objectives
        new = np.array([float(o.loss(newest.values[o.name])) for o in objectives])
        for row in self.rows:
            if row is newest or not row.on_front or not row.values or row.confirms:
                continue
            old = np.array([float(o.loss(row.values[o.name])) for o in objectives])
            row.on_front = not (np.all(new <= old) and np.any(new < old))


class LiveProgress(_Watcher):
    """A panel that is redrawn in place and removed when the sweep ends; use it in a `with` statement."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live = Live(
            console=console,
            get_renderable=self.render,
            refresh_per_second=2,
            transient=True,
            auto_refresh=True,
        )

    def __enter__(self) -> LiveProgress:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def _ended(self, row: _Row) -> None:
        # The table truncates the error and drops the row later; the line above the panel remains.
        assert row.result is not None
        if row.result.error:
            self._say(Text(f"trial {row.number} {row.result.status}: {row.result.error}", style=_style(row)))

    def render(self) -> RenderableType:
        """Return what the terminal shows now."""
        with self.lock:
            if self.sweep is None:
                return Text(f"{_PHASES[self.state.phase]} … {clock(time.monotonic() - self.received)}")
            parts = [self._bar(), self._numbers()]
            shown = self.rows[-max(3, min(_MAX_ROWS, self.console.height - _FRAME)) :]
            if shown:
                parts.append(self._table(shown))
            title = f"[bold]{escape(self.sweep.name)}[/] · {escape(_short_path(self.sweep.model.name))}"
            # Narrower than the terminal, so that the ^C which the terminal echoes needs no line of its own.
            width = max(40, self.console.width - 3)
            return Panel(Group(*parts), title=title, title_align="left", border_style="dim", width=width)

    def _bar(self) -> RenderableType:
        state, passed = self.state, time.monotonic() - self.received
        left = None if state.remaining is None else state.remaining - passed
        bar = ProgressBar(total=state.total, completed=state.finished, width=None, pulse=not state.total)
        done = f"{state.finished}/{state.total}" if state.total else str(state.finished)
        failed = f"  [red]{state.failed} failed[/]" if state.failed else ""
        running = state.phase in ("search", "confirm")
        times = f"{clock(state.elapsed + (passed if running else 0))}, {clock(left)} left" if running else ""
        grid = Table.grid(padding=(0, 2), expand=True)
        for ratio in (None, 1, None, None):
            grid.add_column(ratio=ratio, no_wrap=True)
        grid.add_row(Text(_PHASES[state.phase], style="bold"), bar, f"{done}{failed}", times)
        return grid

    def _numbers(self) -> RenderableType:
        assert self.sweep is not None
        line = Text()
        if len(self.sweep.objectives) > 1:
            line.append(f"{self.state.front_name} ", "dim").append(points(self.state.front_size), "bold")
            line.append("  hypervolume ", "dim").append(f"{self.state.hypervolume:.3f} ", "bold")
        else:
            line.append("progress ", "dim")
        line.append(sparkline(self.hypervolumes), "cyan")
        if self.state.rungs:
            line.append("  rungs ", "dim").append(_rungs(self.state), "bold")
        best = {name: value for name, value in (self.state.best or {}).items() if np.isfinite(value)}
        for index, (name, value) in enumerate(best.items()):
            line.append(", " if index else "  best ", "dim").append(
                f"{_NAMES.get(name, _name(name))} ", "dim"
            )
            line.append(quantity(name, value), "bold")
        return line

    def _table(self, rows: list[_Row]) -> Table:
        assert self.sweep is not None
        table = Table(box=None, expand=True, padding=(0, 1), header_style="dim")
        table.add_column("", width=1)
        table.add_column("trial", justify="right", no_wrap=True)
        table.add_column("configuration", ratio=1, no_wrap=True, overflow="ellipsis")
        for objective in self.sweep.objectives:
            name = _NAMES.get(objective.name, _name(objective.name))
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("time", justify="right", no_wrap=True)
        for row in rows:
            table.add_row(*self._cells(row), style=_style(row))
        return table

    def _cells(self, row: _Row) -> list[RenderableType]:
        assert self.sweep is not None
        names = [objective.name for objective in self.sweep.objectives]
        seconds = time.monotonic() - row.started if row.result is None else row.result.seconds
        text = Text(row.text)
        if row.result is not None and row.result.error:
            text = Text(f"{row.result.status}: {row.result.error}")
        values = [quantity(name, row.values[name]) if row.values else "" for name in names]
        if row.result is None:
            values[0] = "running"
        elif row.result.status == TrialStatus.PAUSED:
            values[0] = f"at {_percent(row.result)}"
        number = f"{row.number}↻" if row.confirms else str(row.number)
        expected = self.state.trial_seconds if row.result is None else None
        spent = clock(seconds) if expected is None else f"{clock(seconds)} of about {clock(expected)}"
        return ["★" if row.on_front and not row.confirms else "", number, text, *values, spent]


class PlainProgress(_Watcher):
    """One line per training run, for logs and pipes; use it in a `with` statement."""

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing: every line is printed already."""

    def sweep_started(self, sweep: Sweep, notes: list[str]) -> None:
        """Print the notes, and a line with the sweep's model and objectives."""
        super().sweep_started(sweep, notes)
        names = ", ".join(f"{_name(o.name)} ({o.direction})" for o in sweep.objectives)
        self._line(f"{sweep.name}: {sweep.model.name}; {names}")

    def trial_started(self, number: int, config: Configuration, *, seed: int, origin: str = "") -> None:
        """Print a line until the first trial has ended: a long trial is silent otherwise."""
        super().trial_started(number, config, seed=seed, origin=origin)
        if self.state.trial_seconds is not None:
            expected = quantity("seconds", self.state.trial_seconds)
            shown = self.rows[-1].text
            self._line(f"trial {number} started; a trial takes about {expected}: {shown}")

    def progress(self, progress: Progress) -> None:
        """Print a line for a new phase, and one for every run that has ended."""
        if progress.phase != self.state.phase or self.sweep is None:
            self._line(_PHASES[progress.phase])
        super().progress(progress)
        with self.lock:
            ended = [row for row in self.rows if row.result is not None]
            self.rows = [row for row in self.rows if row.result is None]
        for row in ended:
            self._line(self._describe(row))

    def _describe(self, row: _Row) -> str:
        assert row.result is not None
        state = self.state
        of = f"{state.finished}/{state.total}" if state.total else str(state.finished)
        what = f"confirm {row.number}" if row.confirms else f"trial {row.number}"
        if row.result.status == TrialStatus.COMPLETE and row.values:
            star = " ★" if row.on_front and not row.confirms else ""
            outcome = ", ".join(f"{_name(n)} {quantity(n, v)}" for n, v in row.values.items()) + star
        elif row.result.status == TrialStatus.PAUSED:
            loss = quantity("eval_loss", row.result.metrics["eval_loss"])
            share, ladder = _percent(row.result), self.sweep.ladder if self.sweep is not None else None
            # Rungs of data, length or bases train from scratch, so the shares of the rungs add up.
            from_scratch = ladder is not None and ladder.of != "training"
            far = (
                f"after a total of {share} of a full training"
                if from_scratch
                else f"after {share} of its training"
            )
            outcome = f"paused {far}, {_name('eval_loss')} {loss}"
        else:
            outcome = f"{row.result.status}: {row.result.error}"
        where = f"{self._progress_text()}, {clock(state.remaining)} left"
        if state.rungs:
            where = f"rungs {_rungs(state)}, {where}"
        return f"[{of}] {what}: {row.text} → {outcome} ({row.result.seconds:.1f} s; {where})"

    def _progress_text(self) -> str:
        """Return the size and the hypervolume of the front, or the best value of a single objective."""
        state = self.state
        if self.sweep is None or len(self.sweep.objectives) > 1:
            return f"{state.front_name} {state.front_size}, hypervolume {state.hypervolume:.3f}"
        name = self.sweep.objectives[0].name
        best = (state.best or {}).get(name)
        return "best –" if best is None else f"best {quantity(name, best)}"

    def _line(self, text: str) -> None:
        self._say(Text(text))

    def _say(self, text: Text) -> None:
        self.console.print(text, soft_wrap=True)  # a log is not wrapped


def _name(objective: str) -> str:
    """Return the printed name of an objective in the middle of a line."""
    name = label(objective)
    return name if name[:2].isupper() else name[:1].lower() + name[1:]


def _percent(result: TrialResult) -> str:
    return f"{100 * result.flops_share:.3g} %"


def _rungs(state: Progress) -> str:
    return " › ".join(map(str, state.rungs))


def _short_path(model: str) -> str:
    """Return a hub id unchanged, and the last two parts of a folder."""
    path = Path(model)
    return "/".join(path.parts[-2:]) if path.is_absolute() else model


def _style(row: _Row) -> str:
    if row.result is None:
        return "italic"
    if row.result.status == TrialStatus.COMPLETE:
        return "bold" if row.on_front else ""
    if row.result.status == TrialStatus.PAUSED:
        return "dim"
    return "red" if row.result.status == TrialStatus.FAILED else "yellow"
