"""Run a sweep from Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from autotune.api.notebook_display import NotebookProgress, in_notebook
from autotune.api.quiet import quiet_libraries
from autotune.api.results import SweepResults, load_results
from autotune.cli.live_display import watch
from autotune.cli.terminal import console
from autotune.engine.events import Listener
from autotune.engine.plan import SweepPlan, plan_sweep
from autotune.engine.sweep_run import run_sweep
from autotune.prepare.own_scores import with_code
from autotune.sweep.schema import Sweep
from autotune.sweep.start_spec import START_FROM, TRY
from autotune.sweep.sweep_file import as_mapping, load_sweep, parse_sweep
from trials.execution.interface import Executor

_UNNAMED = "sweep"
"""The name of a sweep that is given as a mapping without one."""


def run(
    sweep: Sweep | Mapping[str, Any] | str | PathLike[str],
    out: str | PathLike[str] | None = None,
    *,
    executor: Executor | Mapping[str, Any] | str | None = None,
    sampler: Mapping[str, Any] | str | None = None,
    trials: int | None = None,
    seed: int | None = None,
    try_: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
    start_from: str | PathLike[str] | Sequence[str | PathLike[str]] | None = None,
    code: str | PathLike[str] | Sequence[str | PathLike[str]] = (),
    quiet: bool = False,
) -> SweepResults:
    """Run a sweep to its end and return its results.

    A folder that already holds the same sweep is resumed: no trial is repeated, and a finished sweep is only read.
    Progress is shown live in a notebook and in a terminal, and as one line per trial elsewhere.

    Args:
        sweep: a sweep file, the name of a built-in sweep (`quickstart`), the mapping that a sweep file holds, or a
            `Sweep`. Relative paths in a file are relative to the file, and in a mapping to the working directory.
        out: the folder for everything that the sweep writes; `sweeps/NAME` by default.
        executor: where trials run, instead of the sweep's own: a name (`local`, `packed`, `processes`, `ray`), a
            mapping as in a sweep file, or an `Executor`, which is started and stopped here.
        sampler: what proposes configurations, instead of the sweep's own: a name (`pareto`, `tpe`) or a mapping as in
            a sweep file.
        trials: the number of trials in all, instead of the sweep's own.
        seed: of the search, instead of the sweep's own.
        try_: configurations to train first, instead of the sweep's own, such as
            `[{"family": "lora", "lora.rank": 8}]`; a `Point.configuration` of other results is one.
        start_from: folders of earlier sweeps to start from, instead of the sweep's own.
        code: a file of Python code, or several, with the scores of your own that the sweep names.
        quiet: whether to show no progress.

    Returns:
        the results, read from the folder.

    Raises:
        InvalidInputError: the sweep cannot be run; nothing was written.
        SweepInterruptedError: Ctrl-C, or the notebook's stop button; call `run` again to resume.
        SearchFailedError: the first trials all fail.
        LedgerError: the disk is full or read-only.

    Example:
        >>> results = autotune.run("quickstart")
        >>> results.knee().configuration
    """
    loaded = _with_code(_changed(_load(sweep), executor, sampler, trials, seed, try_, start_from), code)
    folder = Path("sweeps") / loaded.name if out is None else Path(out)
    instance = executor if isinstance(executor, Executor) else None
    with quiet_libraries(), _listener(quiet) as listener:
        run_sweep(loaded, folder, listener, executor=instance)
    return load_results(folder)


def plan(
    sweep: Sweep | Mapping[str, Any] | str | PathLike[str],
    out: str | PathLike[str] | None = None,
    *,
    executor: Mapping[str, Any] | str | None = None,
    sampler: Mapping[str, Any] | str | None = None,
    trials: int | None = None,
    seed: int | None = None,
    try_: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
    start_from: str | PathLike[str] | Sequence[str | PathLike[str]] | None = None,
    code: str | PathLike[str] | Sequence[str | PathLike[str]] = (),
) -> SweepPlan:
    """Return what a sweep will do, without training a trial or writing anything.

    The sweep is read, checked and prepared exactly as `run` does it, and the speed of this machine is measured for
    about two seconds.

    Args:
        sweep: as for `run`.
        out: as for `run`. If the sweep was started there, the folder has its fidelity.
        executor: as for `run`.
        sampler: as for `run`.
        trials: as for `run`.
        seed: as for `run`.
        try_: as for `run`.
        start_from: as for `run`.
        code: as for `run`.

    Returns:
        the examples, the range of the adapters, the resolved sweep, and the predicted FLOPs, seconds and memory.

    Raises:
        InvalidInputError: the sweep cannot be run.

    Example:
        >>> plan = autotune.plan("quickstart")
        >>> plan.time.total.typical
        104.2
    """
    loaded = _with_code(_changed(_load(sweep), executor, sampler, trials, seed, try_, start_from), code)
    folder = Path("sweeps") / loaded.name if out is None else Path(out)
    with quiet_libraries():
        return plan_sweep(loaded, folder)


def _load(sweep: Sweep | Mapping[str, Any] | str | PathLike[str]) -> Sweep:
    if isinstance(sweep, Sweep):
        return sweep
    if isinstance(sweep, Mapping):
        return parse_sweep({"name": _UNNAMED, **sweep}, Path.cwd())
    return load_sweep(fspath(sweep))


def _with_code(sweep: Sweep, code: str | PathLike[str] | Sequence[str | PathLike[str]]) -> Sweep:
    files = [code] if isinstance(code, str | PathLike) else list(code)
    return with_code(sweep, [Path(file) for file in files]) if files else sweep


def _changed(
    sweep: Sweep,
    executor: Executor | Mapping[str, Any] | str | None,
    sampler: Mapping[str, Any] | str | None,
    trials: int | None,
    seed: int | None,
    try_: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
    start_from: str | PathLike[str] | Sequence[str | PathLike[str]] | None = None,
) -> Sweep:
    """Return the sweep with the arguments of `run` in place of its own values, checked as a file is."""
    mapping = as_mapping(sweep)
    if trials is not None:
        mapping["budget"] = {**mapping["budget"], "trials": trials}
    if seed is not None:
        mapping["seed"] = seed
    if isinstance(executor, str):
        mapping["executor"] = {"name": executor}
    elif isinstance(executor, Mapping):
        mapping["executor"] = dict(executor)
    if sampler is not None:
        mapping["sampler"] = sampler if isinstance(sampler, str) else dict(sampler)
    if try_ is not None:
        mapping[TRY] = try_
    if start_from is not None:
        folders = [start_from] if isinstance(start_from, str | PathLike) else start_from
        mapping[START_FROM] = [fspath(folder) for folder in folders]
    return sweep if mapping == as_mapping(sweep) else parse_sweep(mapping, check_files=False)


@contextmanager
def _listener(quiet: bool) -> Iterator[Listener]:
    """Yield the listener that suits where this process runs."""
    if in_notebook() and not quiet:
        yield NotebookProgress()
    else:
        with watch(console(), quiet=quiet) as listener:
            yield listener
