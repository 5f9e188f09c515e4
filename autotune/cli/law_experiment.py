"""`autotune law sweep`: a scaling experiment that trains its own small models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autotune.cli.parameters import Json
from autotune.cli.terminal import console

if TYPE_CHECKING:
    from autotune.laws.scaling_experiment import ExtrapolationCheck
    from trials.tasks.pocket.language_models import ScaleRun


def sweep(
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="The csv file for the runs; an existing file is continued."),
    ] = Path("scale-sweep.csv"),
    workers: Annotated[int, typer.Option(min=1, help="Worker processes, with one thread each.")] = 2,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Train small models on small budgets only: two minutes, and a less exact law."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train small language models, fit a law to all but the largest, and validate it on the largest.

    Five sizes from 0.06 to 5 million parameters train from scratch on up to a million tokens of the docstrings of the
    installed packages, each token once. This takes about a quarter of an hour on two cores. Finished runs are saved;
    run the same command again to continue after Ctrl-C.

    \b[dim]$[/] autotune law sweep
    [dim]$[/] autotune law sweep --quick --out small.csv
    [dim]$[/] autotune law fit scale-sweep.csv --figure law.html
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from autotune.formatting.json_values import finite
    from autotune.laws.console_tables import fit_parts
    from autotune.laws.scaling_experiment import check_largest, plan, run_scale_sweep
    from trials.tasks.pocket.language_models import BUDGETS, SIZES

    planned = plan(SIZES[:3], BUDGETS[:3]) if quick else plan()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        bar = progress.add_task("reading docstrings", total=sum(map(len, planned.values())))

        def on_point(run: ScaleRun) -> None:
            progress.update(bar, advance=1, description="training")
            progress.console.print(_run_text(run))

        frame = run_scale_sweep(out, planned, workers=workers, on_point=on_point)
    check = check_largest(frame)
    if as_json:
        typer.echo(json.dumps(finite(check.as_json()), indent=2))
        return
    for part in fit_parts(check.law):
        console().print(part, soft_wrap=True)
    console().print(_verdict(check), soft_wrap=True)
    typer.echo(f"Wrote {out}")


def _run_text(run: ScaleRun) -> str:
    return (
        f"[dim]{run.params / 1e6:.2f} M parameters, {run.tokens / 1e3:,.0f} k tokens:[/] loss {run.loss:.3f} "
        f"[dim]after {run.seconds:,.0f} s[/]"
    )


def _verdict(check: ExtrapolationCheck) -> str:
    run = check.largest
    return (
        f"The largest model, {run.params / 1e6:.2f} M parameters on {run.tokens / 1e3:,.0f} k tokens: predicted loss "
        f"[bold]{check.predicted:.3f}[/] ({100 * check.level:.0f} %: {check.low:.3f} to {check.high:.3f}), measured "
        f"[bold]{run.loss:.3f}[/]. The error is {100 * abs(check.error):.1f} %, and the measured loss is "
        f"{'inside' if check.is_within else 'outside'} the interval."
    )
