"""`autotune report`, `export` and `train`: what a finished sweep is used for."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autotune.cli import terminal
from autotune.cli.parameters import Folder

if TYPE_CHECKING:
    from autotune.export.scaling import RateLaw, Target


def report(folder: Folder) -> None:
    """Regenerate report.html, front.csv and trials.parquet from the study of a sweep.

    \b[dim]$[/] autotune report sweeps/quickstart
    """
    from autotune.report.page import write_report
    from autotune.results.sweep_tables import read_tables
    from autotune.results.tables import write_tables

    results = read_tables(folder)
    for path in (*write_tables(results), write_report(results)):
        typer.echo(path)


def export(
    folder: Folder,
    to: Annotated[Path, typer.Option(metavar="RUN", help="The folder to write; it must be new or empty.")],
    pick: Annotated[
        str, typer.Option(metavar="POINT", help="knee, best, smallest, or the number of a trial.")
    ] = "knee",
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="A condition that the point must meet, such as 'trainable_params<=1%'; can be repeated.",
            show_default=False,
        ),
    ] = None,
    scale_to: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET",
            help="Adapt the run to a larger scale: tokens=20M (training tokens), model=NAME, or both, separated by a "
            "comma. Learning rate and batch size follow the scaling measured by autotune probe, all other "
            "hyperparameters the laws of the sweep's own trials.",
            show_default=False,
        ),
    ] = None,
    law: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --scale-to: fit the scaling to this table of finished runs instead of the probe.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a training run for one point of the Pareto front.

    The run has an adapter_config.json, training arguments and a short train.py that needs no autotune.

    \b[bold]knee[/]      the point after which more cost buys little quality, or, if the front has no bend,
              the smallest point within one standard error of the best
    [bold]best[/]      the point with the best quality
    [bold]smallest[/]  the point with the fewest trainable parameters that beats the untrained baseline

    With --scale-to, the README of the run lists what was changed for the larger scale, and why.

    \b[dim]$[/] autotune export sweeps/quickstart --to runs/knee
    [dim]$[/] autotune export sweeps/quickstart --pick best --where 'trainable_params<=1%' --to runs/best
    [dim]$[/] autotune export sweeps/quickstart --pick 17 --to runs/17
    [dim]$[/] autotune export sweeps/reviews --scale-to tokens=20M,model=roberta-large --to runs/large
    """
    from autotune.export.peft_import import import_peft_alone
    from autotune.export.run_folder import export_run
    from autotune.results.selection import pick_with_reason
    from autotune.results.sweep_tables import read_tables

    target, table = _target_and_law(scale_to, law)
    results = read_tables(folder)
    if not results.sweep.model.quantized:
        import_peft_alone()
    written = export_run(results, pick, where or [], to, target, table)
    if pick == "knee":
        found = pick_with_reason(results, pick, where or [])
        typer.echo(f"Trial {found.trial}: {found.reason}.")
    typer.echo(f"Wrote {written}. Train it with: autotune train {shlex.quote(str(written))}")


def _target_and_law(scale_to: str | None, law: Path | None) -> tuple[Target | None, RateLaw | None]:
    """Read `--scale-to` and `--law`; without them, nothing of the scaling laws is imported."""
    from search_spaces.errors import InvalidInputError, Problem

    if scale_to is None:
        if law is not None:
            fix = "Add --scale-to tokens=NUMBER, or remove --law."
            raise InvalidInputError(Problem("--law", "has no effect without --scale-to", fix))
        return None, None
    from autotune.export.scaling import law_of_table, read_target
    from autotune.laws.fit_table import read_table

    target = read_target(scale_to)
    return target, None if law is None else law_of_table(read_table(law), law.name)


def train(
    folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="A folder that autotune export wrote.", show_default=False)
    ],
    changed_data: Annotated[
        bool,
        typer.Option(
            "--changed-data",
            help="Train although the data or the base model changed since the search.",
        ),
    ] = False,
) -> None:
    """Train an exported run on all training data, evaluate it, and save the adapter.

    The command runs RUN/train.py. The adapter loads with peft.PeftModel.from_pretrained.

    \b[dim]$[/] autotune train runs/knee
    """
    from autotune.export.run_folder import train_run

    try:
        train_run(folder, changed_data=changed_data)  # train.py prints the scores
    except RuntimeError as error:  # the output of train.py has the cause
        terminal.print_error(error)
        raise typer.Exit(terminal.EXIT_FAILURE) from None
