"""`autotune law`: fit scaling laws to a table of finished runs, and ask them."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autotune.cli.terminal import console, polite

if TYPE_CHECKING:
    from rich.table import Table

    from autotune.laws.fit_table import LossAnswer, StepAnswer

law_app = typer.Typer(
    name="law",
    help="Scaling laws from a table of finished runs: what larger budgets bring, and how to set them.",
    epilog="Begin with:  autotune law fit points.csv",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class LawName(StrEnum):
    """The laws that can be asked for."""

    AUTO = "auto"
    CHINCHILLA = "chinchilla"
    JOINT = "joint"
    REPEATED = "repeated"
    POWER = "power"
    RECTIFIED = "rectified"
    STEP = "step"


_COLUMN = "The column, if its name should not be guessed."
Points = Annotated[
    Path, typer.Argument(metavar="FILE", help="One row a finished run: csv, tsv, json, jsonl or parquet.")
]
Law = Annotated[
    LawName, typer.Option(help="Which law; auto takes what suits the columns and foretells best.")
]
Loss = Annotated[str | None, typer.Option(metavar="COL", help="The loss, lower is better. " + _COLUMN)]
Params = Annotated[str | None, typer.Option(metavar="COL", help="Parameters. " + _COLUMN)]
Tokens = Annotated[str | None, typer.Option(metavar="COL", help="Tokens, or examples. " + _COLUMN)]
Unique = Annotated[str | None, typer.Option(metavar="COL", help="Tokens without repeats. " + _COLUMN)]
Steps = Annotated[str | None, typer.Option(metavar="COL", help="Training steps. " + _COLUMN)]
Flops = Annotated[str | None, typer.Option(metavar="COL", help="Training compute. " + _COLUMN)]
Rate = Annotated[str | None, typer.Option(metavar="COL", help="Learning rate. " + _COLUMN)]
Batch = Annotated[str | None, typer.Option(metavar="COL", help="Batch size. " + _COLUMN)]
Insist = Annotated[
    bool,
    typer.Option("--insist", help="Use the law even where a simple rule foretells hidden budgets better."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write JSON, for scripts.")]
Level = Annotated[
    float, typer.Option(min=0.05, max=0.99, help="The probability that the interval should hold.")
]


@law_app.command()
def fit(
    points: Points,
    law: Law = LawName.AUTO,
    loss: Loss = None,
    params: Params = None,
    tokens: Tokens = None,
    unique_tokens: Unique = None,
    steps: Steps = None,
    flops: Flops = None,
    learning_rate: Rate = None,
    batch: Batch = None,
    insist: Insist = False,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a figure with bands, as html.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a law: its coefficients with intervals, how well it extrapolates, and what to measure next.

    [bold]chinchilla[/]  L = E + A/N^a + B/D^b, for runs that vary parameters N and tokens D
    [bold]joint[/]       L = E + A/(N^a·D^b), for adapters: N their size, D the fine-tuning data
    [bold]repeated[/]    chinchilla with data seen several times: epochs are not new tokens
    [bold]power[/]       L = E + B/D^b, with and without E, for runs that vary one scale
    [bold]rectified[/]   L = E + B/(D_l + D^b), fine-tuning that starts from what the model knows
    [bold]step[/]        the best learning rate and batch size over N and D, from grids at several scales

    The largest budgets are hidden and predicted from the others. A law that loses there to the slope of the last
    three points, or to the last value, is not used, and the answer says so.

    \b[dim]$[/] autotune law fit points.csv
    [dim]$[/] autotune law fit points.csv --law chinchilla --loss test_nll --figure law.html
    [dim]$[/] autotune law fit sweep.csv --law step --batch batch_size --json
    """

    with polite():
        found = _answer(points, law, locals(), insist)
        if figure is not None:
            from autotune.figures.scaling_laws import plot_answer

            figure.write_text(plot_answer(found).to_html(include_plotlyjs="cdn"), encoding="utf-8")
        if as_json:
            typer.echo(json.dumps(finite(found.as_json()), indent=2))
            return
        for part in shown(found):
            console().print(part, soft_wrap=True)
        if figure is not None:
            typer.echo(figure)


@law_app.command()
def predict(
    points: Points,
    at: Annotated[
        str,
        typer.Option(metavar="SCALES", help="Where: params=7B,tokens=1.4e11; k, M, B and T are understood."),
    ],
    law: Law = LawName.AUTO,
    loss: Loss = None,
    params: Params = None,
    tokens: Tokens = None,
    unique_tokens: Unique = None,
    steps: Steps = None,
    flops: Flops = None,
    learning_rate: Rate = None,
    batch: Batch = None,
    level: Level = 0.8,
    insist: Insist = False,
    as_json: AsJson = False,
) -> None:
    """Predict: the loss at scales not run yet, or the best learning rate and batch size there, with intervals.

    The law is fitted anew from the table. The interval is of a new run: it holds what the points leave open, their
    noise, and how wrong the law was about the largest budgets when they were hidden.

    \b[dim]$[/] autotune law predict points.csv --at params=7B,tokens=140B
    [dim]$[/] autotune law predict curve.csv --law rectified --at tokens=1e6 --level 0.9
    [dim]$[/] autotune law predict sweep.csv --law step --at params=1e9,tokens=1e11
    """

    with polite():
        from autotune.laws.fit_table import StepAnswer

        found = _answer(points, law, locals(), insist)
        said = (
            _step_prediction(found, at, level)
            if isinstance(found, StepAnswer)
            else _prediction(found, at, level)
        )
        if as_json:
            typer.echo(json.dumps(finite(said), indent=2))
        else:
            for line in _prediction_lines(said):
                console().print(line, soft_wrap=True)


@law_app.command()
def trends(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A sweep's folder.")],
    cost: Annotated[
        str | None, typer.Option(metavar="NAME", help="The objective to follow; the second one by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read off a sweep's front how each hyperparameter moves with cost, and how surely it does.

    Points that cost nothing, such as a head alone where adapters' parameters count, have no place on the logarithm of
    cost and are left out.

    \b[dim]$[/] autotune law trends sweeps/quickstart
    """

    with polite():
        from dataclasses import asdict

        from autotune.results.sweep_tables import read_tables
        from search_spaces.errors import InvalidInputError, Problem, did_you_mean
        from surrogates.laws import trends_along

        results = read_tables(folder)
        names = [objective.name for objective in results.objectives]
        cost = cost or names[1]
        if cost not in names:
            raise InvalidInputError(
                Problem("cost", f"{cost!r} is not an objective", did_you_mean(cost, names))
            )
        front = results.front[results.front[cost] > 0]
        free = len(results.front) - len(front)
        knobs = [str(column) for column in front.columns if str(column).startswith("param.")]
        found = trends_along(front[[cost, *knobs]], cost)
        if as_json:
            typer.echo(json.dumps(finite([asdict(trend) for trend in found]), indent=2))
        else:
            console().print(_trend_table(found, cost))
            if free:
                console().print(f"[dim]Left out, as they cost nothing: {free}[/]")


def _answer(path: Path, law: LawName, options: dict[str, Any], insist: bool) -> LossAnswer | StepAnswer:
    from autotune.laws.fit_table import answer, read_table

    roles = ("loss", "params", "tokens", "unique_tokens", "steps", "flops", "learning_rate", "batch")
    return answer(read_table(path), law.value, {role: options[role] for role in roles}, insist)


def _prediction(found: LossAnswer, at: str, level: float) -> dict[str, Any]:
    import numpy as np

    from autotune.laws.fit_table import target_of

    scales = target_of(at, found.roles)
    target = np.array([[scales[role] for role in found.roles]])
    said = found.choice.predict(target, level)
    return {
        "at": scales,
        "loss": {"value": float(said.value[0]), "low": float(said.low[0]), "high": float(said.high[0])},
        "level": level,
        "law": found.choice.chosen,
        "verdict": found.choice.verdict,
        "measure_next": found.advice(target[0])[:1],
    }


def _step_prediction(found: StepAnswer, at: str, level: float) -> dict[str, Any]:
    from autotune.laws.fit_table import target_of

    scales = target_of(at, found.law.scales)
    best = found.law.optimum(scales, level=level)
    return {
        "at": scales,
        "level": level,
        "law": "step",
        "optima": {
            name: {"value": o.value, "low": o.low, "high": o.high, "plateau": list(o.plateau)}
            for name, o in best.items()
        },
    }


def _prediction_lines(said: dict[str, Any]) -> list[str]:
    percent = f"{100 * said['level']:.0f} %"
    where = ", ".join(f"{role} {value:.4g}" for role, value in said["at"].items())
    if "loss" in said:
        loss = said["loss"]
        lines = [
            f"[bold]{loss['value']:.4g}[/]  ({percent}: {loss['low']:.4g} to {loss['high']:.4g})  at {where}",
            said["verdict"] + ".",
        ]
        return lines + [_next_words(run, "there") for run in said["measure_next"]]
    return [
        f"{name}: [bold]{best['value']:.4g}[/]  ({percent}: {best['low']:.4g} to {best['high']:.4g}); anything from "
        f"{best['plateau'][0]:.3g} to {best['plateau'][1]:.3g} costs at most 0.2 % of the loss"
        for name, best in said["optima"].items()
    ]


def shown(found: LossAnswer | StepAnswer) -> list[Any]:
    """The answer in parts for the console."""
    said = found.as_json()
    columns = ", ".join(f"{role} = {column}" for role, column in said["columns"].items())
    if said["law"] == "step":
        parts: list[Any] = [f"[bold]step[/]: {said['points']} runs at {said['cells']} scales ({columns})"]
        for knob, rows in said["optima"].items():
            formula = "factor" + "".join(f" · {name}^…" for name in rows if name != "factor")
            parts.append(_interval_table(f"best {knob} = {formula}", rows))
            if said["best_at_the_edge"][knob]:
                parts.append(
                    f"[yellow]At {said['best_at_the_edge'][knob]} scales the best {knob} is at the edge of its grid: "
                    "widen it there.[/]"
                )
        return parts
    parts = [f"[bold]{said['law']}[/]: {said['points']} points ({columns})"]
    if said["coefficients"]:
        parts.append(_interval_table(said["formula"], said["coefficients"]))
    parts += [_held_out_table(said), said["verdict"] + "."]
    if said["not_identified"]:
        parts.append(f"[yellow]These points do not identify {', '.join(said['not_identified'])}.[/]")
    for point in said["outliers"][:3]:
        parts.append(
            f"[yellow]Row {point['row']} lies {100 * point['off']:+.1f} % off the law: check that run.[/]"
        )
    return parts + [_next_words(run, "at four times the budget") for run in said["measure_next"][:1]]


def _next_words(run: dict[str, Any], where: str) -> str:
    scales = ", ".join(f"{role} = {value:.3g}" for role, value in run["scales"].items())
    return (
        f"Measure next: {scales}. It shrinks the law's uncertainty {where} from {100 * run['before']:.2g} % to "
        f"{100 * run['after']:.2g} %."
    )


def _interval_table(title: str, rows: dict[str, dict[str, float]]) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("", "value", "80 % from", "to"):
        table.add_column(name, justify="right" if name else "left")
    for name, row in rows.items():
        table.add_row(name, *(f"{row[key]:.4g}" for key in ("value", "low", "high")))
    return table


def _held_out_table(said: dict[str, Any]) -> Table:
    from rich.table import Table

    table = Table(title="the largest budgets, foretold from the others", box=None, pad_edge=False)
    table.add_column("rule")
    table.add_column("mean error", justify="right")
    for one in said["held_out"]:
        table.add_row(one["name"], one["why"] if one["error"] is None else f"{100 * one['error']:.2f} %")
    return table


def _trend_table(found: list[Any], cost: str) -> Table:
    from rich.table import Table

    table = Table(title=f"along the front, over {cost}", title_justify="left", box=None, pad_edge=False)
    for name in ("hyperparameter", "moves with cost", "how (80 %)", "points"):
        table.add_column(name)
    for trend in found:
        if trend.slope is None:
            how = "; ".join(
                f"{option}: {100 * a:.0f} % → {100 * b:.0f} %" for option, (a, b) in trend.shares.items()
            )
        else:
            kind = "∝ cost^" if trend.log else "per factor e of cost: "
            how = f"{kind}{trend.slope[0]:.3g} ({trend.slope[1]:.3g} to {trend.slope[2]:.3g})"
        table.add_row(
            trend.name.removeprefix("param."), f"{100 * trend.probability:.0f} %", how, str(trend.points)
        )
    return table


def finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: they become null."""
    import math

    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
