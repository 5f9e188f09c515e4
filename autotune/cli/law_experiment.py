"""`autotune law sweep`: the built-in experiment in scaling laws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autotune.cli.law import AsJson, finite, shown
from autotune.cli.terminal import console, polite

if TYPE_CHECKING:
    from autotune.laws.scaling_experiment import ExtrapolationCheck
    from trials.tasks.pocket.language_models import ScaleRun


def sweep(
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The table of points: a csv file, made or gone on with.")
    ] = Path("scale-sweep.csv"),
    workers: Annotated[int, typer.Option(min=1, help="Processes, one thread each.")] = 2,
    quick: Annotated[
        bool, typer.Option("--quick", help="Small models and budgets only: two minutes, and a rougher law.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train small language models from scratch, fit a law to all but the largest, and hold it against the largest.

    Five sizes from 0.06 to 5 million parameters read up to a million tokens of the docstrings found here, each token
    once. On two cores it takes about a quarter of an hour; what is finished is kept, and the same command goes on.

    \b[dim]$[/] autotune law sweep
    [dim]$[/] autotune law fit scale-sweep.csv --figure law.html
    """

    with polite():
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        from autotune.laws.scaling_experiment import check_largest, plan, run_scale_sweep
        from trials.tasks.pocket.language_models import BUDGETS, SIZES

        wanted = plan(SIZES[:3], BUDGETS[:3]) if quick else plan()
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        with Progress(*columns, console=console(stderr=True), transient=True) as progress:
            bar = progress.add_task("reading docstrings", total=sum(map(len, wanted.values())))

            def on_point(run: ScaleRun) -> None:
                progress.update(bar, advance=1, description="training")
                progress.console.print(_line(run))

            frame = run_scale_sweep(out, wanted, workers=workers, on_point=on_point)
        found = check_largest(frame)
        if as_json:
            typer.echo(json.dumps(finite(found.as_json()), indent=2))
            return
        for part in shown(found.law):
            console().print(part, soft_wrap=True)
        console().print(_verdict(found), soft_wrap=True)
        typer.echo(out)


def _line(run: ScaleRun) -> str:
    return (
        f"[dim]{run.params / 1e6:.2f} M parameters, {run.tokens / 1e3:,.0f} k tokens:[/] loss {run.loss:.3f} "
        f"[dim]after {run.seconds:,.0f} s[/]"
    )


def _verdict(found: ExtrapolationCheck) -> str:
    run, percent = found.largest, f"{100 * found.level:.0f} %"
    return (
        f"The largest, {run.params / 1e6:.2f} M parameters on {run.tokens / 1e3:,.0f} k tokens, was foretold at "
        f"[bold]{found.predicted:.3f}[/] ({percent}: {found.low:.3f} to {found.high:.3f}) and came to "
        f"[bold]{run.loss:.3f}[/]: {100 * abs(found.error):.1f} % off, {'within' if found.within else 'outside'} the "
        "interval."
    )
