"""`autotune law`: fit scaling laws to a table of finished runs, and predict with them."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autotune.cli.law_experiment import sweep
from autotune.cli.law_suggest import suggest
from autotune.cli.parameters import Json, help_text
from autotune.cli.terminal import console, problems_in

if TYPE_CHECKING:
    from autotune.laws.fits import LossFit, StepFit

law_app = typer.Typer(
    name="law",
    help="Fit scaling laws to a table of finished runs, and predict larger runs: their loss, and the learning rate "
    "and batch size to use.",
    epilog="Start with: autotune law fit points.csv",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class LawName(StrEnum):
    """Laws that can be fitted."""

    AUTO = "auto"
    CHINCHILLA = "chinchilla"
    JOINT = "joint"
    REPEATED = "repeated"
    POWER = "power"
    RECTIFIED = "rectified"
    STEP = "step"


Table = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A table with one row per finished run: csv, tsv, json, jsonl or parquet.",
        show_default=False,
    ),
]
Law = Annotated[
    LawName,
    typer.Option(
        help="The law; auto picks the one that fits the columns and predicts held-out budgets best."
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="ROLE=COLUMN",
        help="The column that holds a role, where its name is not recognized: loss, params, tokens, unique_tokens, "
        "steps, flops, learning_rate or batch; can be repeated.",
        show_default=False,
    ),
]
ForceLaw = Annotated[
    bool,
    typer.Option("--force-law", help="Use the law even if a baseline predicts held-out budgets better."),
]


def fit(
    table: Table,
    law: Law = LawName.AUTO,
    column: Columns = None,
    force_law: ForceLaw = False,
    figure: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also write a figure with intervals as HTML.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fit a law to finished runs, test its predictions, and recommend the next run.

    \b[bold]chinchilla[/]  L = E + A/N^a + B/D^b, for runs that vary parameters N and tokens D
    [bold]joint[/]       L = E + A/(N^a·D^b), for adapters: N their size, D the fine-tuning data
    [bold]repeated[/]    chinchilla for data that is repeated over several epochs
    [bold]power[/]       L = E + B/D^b, with and without E, for runs that vary one scale
    [bold]rectified[/]   L = E + B/(D_l + D^b), for fine-tuning, where the base model already knows part of the task
    [bold]step[/]        the best learning rate and batch size over N and D, from grids at several scales

    Each law is fitted without the largest budgets and predicts them. If a baseline (the slope of the last three
    points, or the last value) predicts them better, the baseline is used and the output says so.

    \b[dim]$[/] autotune law fit points.csv
    [dim]$[/] autotune law fit points.csv --law chinchilla --column loss=test_nll --figure law.html
    [dim]$[/] autotune law fit grid.csv --law step --column batch=batch_size --json
    """
    from autotune.laws.console_tables import fit_parts

    found = _fit(table, law, column or [], force_law)
    if figure is not None:
        from autotune.figures.scaling_laws import plot_fit

        figure.write_text(plot_fit(found).to_html(include_plotlyjs="cdn"), encoding="utf-8")
    if as_json:
        _print_json(found.as_json())
        return
    for part in fit_parts(found):
        console().print(part, soft_wrap=True)
    if figure is not None:
        typer.echo(f"Wrote {figure}")


def predict(
    table: Table,
    at: Annotated[
        str,
        typer.Option(
            metavar="SCALES",
            help="The scales to predict at: params=7B,tokens=1.4e11. Suffixes: k, M, B and T.",
        ),
    ],
    law: Law = LawName.AUTO,
    column: Columns = None,
    force_law: ForceLaw = False,
    level: Annotated[float, typer.Option(min=0.05, max=0.99, help="The probability of the interval.")] = 0.8,
    as_json: Json = False,
) -> None:
    """Predict the loss of a larger run, or its best learning rate and batch size, with an interval.

    The law is fitted to the table as autotune law fit does. The interval is for a new run: it includes the
    uncertainty of the coefficients, the noise of the runs, and the error of the law on held-out budgets.

    \b[dim]$[/] autotune law predict points.csv --at params=7B,tokens=140B
    [dim]$[/] autotune law predict curve.csv --law rectified --at tokens=1e6 --level 0.9
    [dim]$[/] autotune law predict grid.csv --law step --at params=1e9,tokens=1e11
    """
    from autotune.laws.console_tables import loss_lines, optimum_lines
    from autotune.laws.fit_table import target_of
    from autotune.laws.fits import StepFit

    found = _fit(table, law, column or [], force_law)
    if isinstance(found, StepFit):
        optima = found.predict(target_of(at, found.law.scales), level)
        prediction, lines = optima.as_json(), optimum_lines(optima)
    else:
        loss = found.predict(target_of(at, found.roles), level)
        prediction, lines = loss.as_json(), loss_lines(loss)
    if as_json:
        _print_json(prediction)
        return
    for line in lines:
        console().print(line, soft_wrap=True)


def trends(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder of a sweep, such as sweeps/quickstart.")
    ],
    cost: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The cost; by default train_flops, or the second objective if that cost spans more.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the best value of each ordered hyperparameter as a function of cost, from all finished trials of a sweep.

    Each law has 80 % intervals at the largest cost of a trial and at ten times that. A hyperparameter without a law
    is listed with the reason. Below, the choices along the Pareto front are compared at low and at high cost. Trials
    of cost 0, such as a classification head without an adapter, are left out, since cost is on a log scale.

    \b[dim]$[/] autotune law trends sweeps/quickstart
    [dim]$[/] autotune law trends sweeps/reviews --cost trainable_params --json
    """
    from dataclasses import asdict

    from autotune.laws.console_tables import law_table, trend_table
    from autotune.laws.front_trends import choices_along
    from autotune.laws.sweep_law_text import as_json as laws_as_json
    from autotune.laws.sweep_law_text import footnote, missing, reasons, summary
    from autotune.laws.sweep_laws import laws_of_sweep
    from autotune.results.sweep_tables import read_tables

    results = read_tables(folder)
    found = laws_of_sweep(results, cost)
    front = choices_along(results, found.cost)
    if as_json:
        _print_json(laws_as_json(found) | {"front": [asdict(trend) for trend in front.trends]})
        return
    for line in (summary(found), f"Cost: {found.cost} ({found.why_cost})."):
        console().print(line, soft_wrap=True, markup=False)
    if found.found:
        console().print(law_table(found))
        console().print(footnote(found), soft_wrap=True, markup=False, style="dim")
    else:
        console().print(missing(found), soft_wrap=True, markup=False)
    for line in reasons(found) if found.found else []:  # without a law, `missing` gives the reasons
        console().print(f"  no law for {line}", soft_wrap=True, markup=False, style="dim")
    if front.trends:
        console().print(trend_table(front.trends, found.cost))
    elif front.reason:
        console().print(front.reason, soft_wrap=True, markup=False, style="dim")
    if found.left_out:
        console().print(f"[dim]Trials of cost 0, left out: {found.left_out}[/]")


def _fit(table: Path, law: LawName, pairs: list[str], force_law: bool) -> LossFit | StepFit:
    """Fit a law to a file; `pairs` are the arguments of `--column`."""
    from autotune.laws.fit_table import fit_law, read_columns, read_table

    columns = read_columns(pairs)
    with problems_in(str(table)):
        return fit_law(read_table(table), law.value, columns, force_law)


def _print_json(value: object) -> None:
    from autotune.formatting.json_values import finite

    typer.echo(json.dumps(finite(value), indent=2))


for _command in (fit, predict, suggest, trends, sweep):
    law_app.command(help=help_text(_command))(_command)
