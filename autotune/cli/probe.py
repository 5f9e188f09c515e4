"""`autotune probe`: train the points of a front on shares of the data, and predict their scores on more data."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autotune.cli import terminal
from autotune.cli.parameters import Code, Folder
from autotune.cli.terminal import console

if TYPE_CHECKING:
    from rich.table import Table

    from autotune.probe.forecast import BaseForecast, ProbeForecast
    from autotune.results.probe_runs import ProbeRun
    from autotune.results.sweep_tables import SweepTables
    from trials.records import TrialResult

DEFAULT_SHARES = "0.125,0.18,0.25,0.35,0.5,0.71,1"
"""`autotune.probe.runner.SHARES` rounded for the help, which must not import the runner."""


def probe(
    context: typer.Context,
    folder: Folder,
    points: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="The points to train: best, knee, smallest, or numbers of trials; by default all points that were "
            "confirmed.",
            show_default=False,
        ),
    ] = "",
    shares: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Shares of the examples that the search trained on, at least five; above 1 they use more of the "
            f"training split. By default {DEFAULT_SHARES}.",
            show_default=False,
        ),
    ] = "",
    rates: Annotated[
        str,
        typer.Option(metavar="LIST", help="Multiples of the learning rate, tried at every second share."),
    ] = "0.5,1,2,4",
    batches: Annotated[
        str, typer.Option(metavar="LIST", help="Multiples of the batch size, tried at every second share.")
    ] = "1",
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="An additional base model, such as the next larger one: a Hugging Face model id or a folder; can be "
            "repeated.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each kind, with different seeds.")] = 1,
    code: Code = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print the number of runs and their cost, and train nothing.")
    ] = False,
) -> None:
    """Train the points of the Pareto front on shares of the data, and predict their scores on more data.

    Learning rate and batch size are varied as well, so that [bold]autotune export --scale-to[/] can adapt them to a
    larger run. The forecast is added to report.html. Finished runs are saved; run the same command again to continue
    after Ctrl-C.

    \b[dim]$[/] autotune probe sweeps/quickstart --plan
    [dim]$[/] autotune probe sweeps/quickstart
    [dim]$[/] autotune probe sweeps/reviews --points knee,best --model roberta-large --shares 0.1,0.15,0.2,0.3,0.4
    """
    from autotune.probe.runner import RATES, SHARES, missing_probes, plan_probe
    from autotune.results.sweep_tables import read_tables

    results = read_tables(folder)
    if code:
        from autotune.prepare.own_scores import with_code

        results = replace(results, sweep=with_code(results.sweep, code))
    runs = plan_probe(
        results,
        [part.strip() for part in points.split(",") if part.strip()],
        _numbers("--shares", shares) or SHARES,
        _numbers("--rates", rates) or RATES,
        _numbers("--batches", batches) or (1.0,),
        [_model(name) for name in model or []],
        seeds,
    )
    missing = missing_probes(folder, results.sweep, runs)
    cost = sum(run.share for run in missing)
    summary = (
        f"{len(missing)} of {len(runs)} runs are missing; they cost as much training as {cost:.1f} trials."
    )
    if plan:
        typer.echo(summary)
        return
    terminal.quiet_optuna(context.obj)
    if missing:
        console(stderr=True).print(f"{summary} Results: {folder}", style="dim", markup=False, soft_wrap=True)
    _train(results, runs, cost)
    _print_forecast(folder)


def _train(results: SweepTables, runs: Sequence[ProbeRun], cost: float) -> None:
    """Train the missing runs with a progress bar; after Ctrl-C, say how to continue.

    Args:
        results: the sweep.
        runs: the runs of the probe; those that are recorded already are skipped.
        cost: of the missing runs, in trials of the search.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from autotune.probe.runner import run_probe

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        bar = progress.add_task("loading", total=cost)

        def on_run(run: ProbeRun, result: TrialResult) -> None:
            progress.update(bar, advance=run.share, description="training")
            progress.console.print(_run_text(run, result, results.sweep.task.metric))

        try:
            run_probe(results, runs, on_run)
        except KeyboardInterrupt:
            progress.console.print(
                "Stopped. All finished runs are saved. Run the same command again to continue."
            )
            raise typer.Exit(terminal.EXIT_INTERRUPTED) from None


def _print_forecast(folder: Path) -> None:
    """Print the forecast of the probe, and regenerate the report."""
    from autotune.probe.excluded_points import excluded_points
    from autotune.probe.forecast import forecast
    from autotune.probe.text import exclusions_text, method_text, no_forecast, order_text
    from autotune.report.page import write_report
    from autotune.results.sweep_tables import read_tables

    results = read_tables(folder)
    found = forecast(results)
    exclusions = exclusions_text(excluded_points(results, found))
    if found is None:
        console().print(no_forecast(results), soft_wrap=True, markup=False)
        if exclusions:
            console().print(exclusions, soft_wrap=True, markup=False)
        return
    for base in found.bases:
        console().print(_table(found, base))
        console().print(f"[dim]{order_text(base)} {method_text(base)}[/]", soft_wrap=True)
    if exclusions:
        console().print(exclusions, soft_wrap=True, markup=False)
    console().print(f"Report: {write_report(results)}", soft_wrap=True)
    export = f"autotune export {shlex.quote(str(folder))} --scale-to tokens=NUMBER --to RUN"
    console().print(f"Export a point at a larger scale with: {export}", soft_wrap=True)


def _table(found: ProbeForecast, base: BaseForecast) -> Table:
    from rich.table import Table

    from autotune.probe.text import base_title, columns, rows

    table = Table(title=base_title(found, base), title_justify="left")
    for heading in columns(base):
        table.add_column(heading, justify="right")
    for row in rows(found, base):
        table.add_row(*row)
    return table


def _run_text(run: ProbeRun, result: TrialResult, metric: str) -> str:
    from rich.markup import escape

    from autotune.formatting.units import quantity
    from trials.records import TrialStatus

    what = f"trial {run.trial}, {100 * run.share:.3g} % of the data"
    what += f", learning rate × {run.rate:g}" if run.rate != 1 else ""
    what += f", batch size × {run.batch:g}" if run.batch != 1 else ""
    if result.status != TrialStatus.COMPLETE:
        return f"[dim]{what}:[/] [red]{escape(str(result.error))}[/]"
    score = quantity(metric, result.metrics[metric])
    return f"[dim]{what}:[/] {score} [dim]after {result.seconds:.1f} s[/]"


def _numbers(option: str, text: str) -> tuple[float, ...]:
    """Return the numbers of a list such as `0.5,1/4,12.5%`."""
    from search_spaces.errors import InvalidInputError, Problem
    from search_spaces.percentages import parse_share

    numbers = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        number = parse_share(part)
        if number is None:
            fix = "Write a list such as 1/4,0.5,100%."
            raise InvalidInputError(Problem(option, f"{part!r} is not a number", fix))
        numbers.append(number)
    return tuple(numbers)


def _model(name: str) -> str:
    """Return a folder as an absolute path, and a Hugging Face model id unchanged."""
    from autotune.sweep.paths import model_name
    from search_spaces.errors import InvalidInputError

    found, problems = model_name(name, "--model", Path.cwd())
    if problems:
        raise InvalidInputError(problems)
    return found
