"""The command line. Commands import what they need when they run, so that `autotune --help` is fast."""

from __future__ import annotations

import os
import warnings
from typing import Annotated

import typer

from autotune.cli.law import law_app
from autotune.cli.parameters import help_text
from autotune.cli.probe import probe
from autotune.cli.result_commands import export, report, train
from autotune.cli.search_commands import confirm, init, resume, run, status, transfer
from autotune.cli.space_commands import cost, spaces
from autotune.cli.terminal import Commands, Settings
from autotune.version import __version__
from trials.base.cores import wait_passively

app = typer.Typer(
    name="autotune",
    cls=Commands,
    help="Find the adapter, its placement, its size and its learning rate for your model, data and budget.\n\n"
    "A sweep trains many configurations briefly and keeps the Pareto front of quality against cost. Any point of the "
    "front can be exported as a training run.",
    epilog="Start with: autotune run quickstart",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

QUIETING = {
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "PYTHONWARNINGS": "ignore",
}
"""Environment variables that silence other libraries; worker processes inherit them."""

_PANELS = {
    "Search": (init, run, status, resume, confirm, transfer),
    "Use the result": (report, export, train),
    "Scaling laws": (probe,),
    "Search spaces and costs": (spaces, cost),
}
"""The commands in the order of the work, by panel of the help."""


def main() -> None:
    """Run the command `autotune`."""
    # The tokenizers' threads do not survive the forks of data loaders and workers.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    wait_passively()
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"autotune {__version__}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", help="Show messages of other libraries, and the traceback of an error."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Apply the options that hold for every command."""
    context.obj = Settings(verbose)
    if not verbose:
        for name, value in QUIETING.items():
            os.environ.setdefault(name, value)
        warnings.simplefilter("ignore")


for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(help=help_text(_command), rich_help_panel=_panel)(_command)
app.add_typer(law_app, rich_help_panel="Scaling laws")
