"""Tables and sentences of `autotune law`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from autotune.laws import sweep_law_text
from autotune.laws.fits import Interval, LossFit, LossPrediction, OptimumPrediction, StepFit
from autotune.laws.sweep_laws import SweepLaws
from surrogates.laws.fitting import LEVEL

if TYPE_CHECKING:
    from surrogates.laws import Trend
    from surrogates.laws.experimental_design import NextRun

_SHOWN_OUTLIERS = 3


def fit_parts(found: LossFit | StepFit) -> list[RenderableType]:
    """Return a fit in the parts that the console prints one below another."""
    return _step_parts(found) if isinstance(found, StepFit) else _loss_parts(found)


def _loss_parts(found: LossFit) -> list[RenderableType]:
    law = found.choice.law
    parts: list[RenderableType] = [
        f"[bold]{found.choice.chosen}[/]: {len(found.points.loss)} points ({_columns_text(found)})"
    ]
    if law is not None:
        parts.append(_interval_table(f"L = {law.form.formula}", law.table()))
    parts += [_held_out_table(found), f"{found.choice.verdict}."]
    unidentified = [] if law is None else law.unidentified()
    if unidentified:
        parts.append(f"[yellow]These points do not identify {', '.join(unidentified)}.[/]")
    for outlier in found.outliers()[:_SHOWN_OUTLIERS]:
        parts.append(
            f"[yellow]Row {outlier.row} deviates from the law by {100 * outlier.deviation:+.1f} %: check that run.[/]"
        )
    return parts + [_next_run_text(found, run, "at four times the budget") for run in found.next_runs()[:1]]


def _step_parts(found: StepFit) -> list[RenderableType]:
    law = found.law
    parts: list[RenderableType] = [
        f"[bold]step[/]: {len(found.points.loss)} runs at {law.cells} scales ({_columns_text(found)})"
    ]
    for (name, rows), edge in zip(law.table().items(), law.edge, strict=True):
        formula = "factor" + "".join(f" · {scale}^…" for scale in rows if scale != "factor")
        parts.append(_interval_table(f"best {name} = {formula}", rows))
        if edge:
            parts.append(
                f"[yellow]At {edge} scales the best {name} is the smallest or largest value tried: widen the grid "
                "there.[/]"
            )
    return parts


def loss_lines(prediction: LossPrediction) -> list[str]:
    """Return a predicted loss in lines for the console."""
    loss = prediction.loss
    interval = f"({100 * prediction.level:.0f} %: {loss.low:.4g} to {loss.high:.4g})"
    lines = [
        f"[bold]{loss.value:.4g}[/]  {interval}  at {_scales_text(prediction.at)}",
        f"{prediction.fit.choice.verdict}.",
    ]
    return lines + [_next_run_text(prediction.fit, run, "there") for run in prediction.next_runs[:1]]


def optimum_lines(prediction: OptimumPrediction) -> list[str]:
    """Return predicted hyperparameters in lines for the console."""
    level = f"{100 * prediction.level:.0f} %"
    return [
        f"{name}: [bold]{best.value:.4g}[/]  ({level}: {best.low:.4g} to {best.high:.4g}); any value from "
        f"{best.plateau[0]:.3g} to {best.plateau[1]:.3g} increases the loss by at most 0.2 %"
        for name, best in prediction.optima.items()
    ]


def law_table(found: SweepLaws) -> Table:
    """Return the laws of a sweep, one row per hyperparameter that has one."""
    table = Table(
        title=f"best hyperparameters over {found.cost}", title_justify="left", box=None, pad_edge=False
    )
    for name in sweep_law_text.columns(found):
        table.add_column(name)
    for row in sweep_law_text.rows(found):
        table.add_row(*map(escape, row))
    return table


def trend_table(found: Sequence[Trend], cost: str) -> Table:
    """Return the trends of hyperparameters along a front, one row per hyperparameter."""
    title = f"hyperparameters along the front, over {cost}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("hyperparameter", "P(changes)", f"change ({100 * LEVEL:.0f} %)", "points"):
        table.add_column(name)
    for trend in found:
        probability = f"{100 * trend.probability:.0f} %"
        table.add_row(trend.name.removeprefix("param."), probability, _change_text(trend), str(trend.points))
    return table


def _change_text(trend: Trend) -> str:
    if trend.slope is None:
        shares = [f"{option}: {100 * a:.0f} % → {100 * b:.0f} %" for option, (a, b) in trend.shares.items()]
        return "; ".join(shares)
    value, low, high = trend.slope
    kind = "∝ cost^" if trend.log else "per factor e of cost: "
    return f"{kind}{value:.3g} ({low:.3g} to {high:.3g})"


def _columns_text(found: LossFit | StepFit) -> str:
    return ", ".join(f"{role} = {column}" for role, column in found.columns.items())


def _scales_text(scales: Mapping[str, float]) -> str:
    return ", ".join(f"{role} {value:.4g}" for role, value in scales.items())


def _next_run_text(found: LossFit, run: NextRun, where: str) -> str:
    scales = zip(found.roles, run.scales.values(), strict=True)
    return (
        f"Recommended next run: {', '.join(f'{role} = {value:.3g}' for role, value in scales)}. It reduces the "
        f"uncertainty {where} from {100 * run.before:.2g} % to {100 * run.after:.2g} %."
    )


def _interval_table(title: str, rows: Mapping[str, Interval]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("", "value", f"{100 * LEVEL:.0f} % from", "to"):
        table.add_column(name, justify="right" if name else "left")
    for name, ends in rows.items():
        table.add_row(name, *(f"{end:.4g}" for end in ends))
    return table


def _held_out_table(found: LossFit) -> Table:
    table = Table(
        title="the largest budgets, predicted from the others", title_justify="left", box=None, pad_edge=False
    )
    table.add_column("law or baseline")
    table.add_column("mean error", justify="right")
    for test in found.choice.held_out:
        table.add_row(test.name, test.why or f"{100 * test.error:.2f} %")
    return table
