"""`autotune probe`: the points of a front on parts of the data, and what that foretells."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autotune.cli import terminal
from autotune.cli.terminal import console, polite, print_error

if TYPE_CHECKING:
    from rich.table import Table

    from autotune.probe.forecast import BaseForecast, ProbeForecast
    from autotune.results.probe_runs import ProbeRun
    from trials.records import TrialResult

_SHARES = "0.125,0.18,0.25,0.35,0.5,0.71,1"


def probe(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a sweep that has a front.")],
    points: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="best, knee, smallest or numbers of trials; by default all that were confirmed.",
            show_default=False,
        ),
    ] = "",
    shares: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Of the examples that the search trained on; above 1 they take more of the training split. "
            f"By default {_SHARES}.",
            show_default=False,
        ),
    ] = "",
    rates: Annotated[
        str, typer.Option(metavar="LIST", help="Multiples of the learning rate, at every second share.")
    ] = "0.5,1,2,4",
    batches: Annotated[
        str, typer.Option(metavar="LIST", help="Multiples of the batch size, likewise.")
    ] = "1",
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="BASE", help="A further base, such as the next larger one: a hub id or folder."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each kind.")] = 1,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say how many runs it takes, and train nothing.")
    ] = False,
) -> None:
    """Train a front's points on parts of the data, and foretell what more data or another base would bring.

    The report then shows it, and [bold]autotune export --scale-to[/] carries learning rate and batch size along.
    What is finished is kept: the same command goes on after Ctrl-C.

    \b[dim]$[/] autotune probe sweeps/quickstart --plan
    [dim]$[/] autotune probe sweeps/quickstart
    [dim]$[/] autotune probe sweeps/reviews --points knee,best --model roberta-large --shares 0.1,0.15,0.2,0.3,0.4
    """
    with polite():
        from autotune.probe.runner import RATES, SHARES, missing_probes, plan_probe, run_probe
        from autotune.results.sweep_tables import read_tables

        results = read_tables(folder)
        wanted = plan_probe(
            results,
            [part.strip() for part in points.split(",") if part.strip()],
            _numbers("--shares", shares) or SHARES,
            _numbers("--rates", rates) or RATES,
            _numbers("--batches", batches) or (1.0,),
            [_base(name) for name in model or []],
            seeds,
        )
        todo = missing_probes(folder, results.sweep, wanted)
        whole = sum(run.share for run in todo)
        said = f"{len(todo)} of {len(wanted)} runs are to be done, as much training as {whole:.1f} trials"
        if plan:
            typer.echo(f"{said}.")
            return
        terminal.quiet_optuna()
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from trials.execution.errors import ExecutorError

        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=console(stderr=True), transient=True) as progress:
            bar = progress.add_task("loading", total=whole)

            def on_run(run: ProbeRun, result: TrialResult) -> None:
                progress.update(bar, advance=run.share, description="training")
                progress.console.print(_line(run, result, results.sweep.task.metric))

            if todo:
                progress.console.print(f"[dim]{said}. Results go to {folder}.[/]")
            try:
                run_probe(results, wanted, on_run)
            except ExecutorError as error:
                print_error(error)
                raise typer.Exit(1) from None
            except KeyboardInterrupt:
                progress.console.print("Stopped; what is finished is kept. Go on with the same command.")
                raise typer.Exit(130) from None
        _finish(folder)


def _finish(folder: Path) -> None:
    """The report anew, and what the probe foretells."""
    from autotune.probe.excluded_points import missing
    from autotune.probe.forecast import forecast
    from autotune.probe.text import missing_words, order_words, rule_words
    from autotune.report.page import write_report
    from autotune.results.sweep_tables import read_tables

    results = read_tables(folder)
    found = forecast(results)
    left_out = missing_words(missing(results, found))
    if found is None:
        console().print("No point has five shares of the data yet, so nothing can be foretold.")
        if left_out:
            console().print(left_out, soft_wrap=True, markup=False)
        return
    for base in found.bases:
        console().print(_table(found, base))
        console().print(f"[dim]{order_words(base)} {rule_words(base)}[/]", soft_wrap=True)
    if left_out:
        console().print(left_out, soft_wrap=True, markup=False)
    console().print(f"Report: {write_report(results)}", soft_wrap=True)
    again = f"autotune export {shlex.quote(str(folder))} --scale-to tokens=NUMBER --to RUN"
    console().print(f"Carry a point to a larger run with: {again}", soft_wrap=True)


def _table(found: ProbeForecast, base: BaseForecast) -> Table:
    from rich.table import Table

    from autotune.probe.text import base_title, columns, rows

    table = Table(title=base_title(found, base), title_justify="left")
    for heading in columns(base):
        table.add_column(heading, justify="right")
    for row in rows(found, base):
        table.add_row(*row)
    return table


def _line(run: ProbeRun, result: TrialResult, metric: str) -> str:
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


def _base(name: str) -> str:
    """A folder as an absolute path; a hub id as it is."""
    from autotune.sweep.paths import model_name
    from search_spaces.errors import InvalidInputError

    found, problems = model_name(name, "--model", Path.cwd())
    if problems:
        raise InvalidInputError(problems)
    return found
