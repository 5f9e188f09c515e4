"""The command line. Heavy imports happen inside the commands, so that help is there at once."""

from __future__ import annotations

import os
import shlex
import signal
import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autotune import __version__
from autotune.cli import terminal
from autotune.cli.law import law_app
from autotune.cli.law_experiment import sweep as scale_sweep
from autotune.cli.probe import probe

if TYPE_CHECKING:
    from autotune.sweep.schema import Sweep

app = typer.Typer(
    name="autotune",
    help="Find out which adapter, where, how large and with which learning rate, for your model and data.",
    epilog="Begin with:  autotune run quickstart",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

law_app.command("sweep")(scale_sweep)
app.add_typer(law_app)
app.command("probe")(probe)

QUIETING = {
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "PYTHONWARNINGS": "ignore",
}
"""What keeps other libraries' bars and remarks out of the display; workers inherit it."""


class TaskName(StrEnum):
    """The task types that commands can be told."""

    CLASSIFICATION = "sequence-classification"
    REGRESSION = "regression"
    CAUSAL_LM = "causal-lm"


class PricedTask(StrEnum):
    """The task types whose costs are known: what can be trained, and images."""

    CLASSIFICATION = "sequence-classification"
    REGRESSION = "regression"
    CAUSAL_LM = "causal-lm"
    IMAGES = "image-classification"


Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A sweep's folder, such as sweeps/quickstart.")]
Trials = Annotated[int | None, typer.Option(min=1, help="Trials in all, instead of the sweep's own number.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON, for scripts.")]
Task = Annotated[
    PricedTask | None,
    typer.Option(
        help="What the model is to learn; by default to classify texts, or images.", show_default=False
    ),
]
_MODEL = typer.Option(help="A folder with config.json, a hub id, or a model type such as bert.")
_SPACE = typer.Option(help="A preset's name, or a YAML file.")
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but the result.")]


def main() -> None:
    """The entry point of the command `autotune`."""
    # The tokenizers' threads do not survive the forks of data loaders and workers.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"autotune {__version__}")
        raise typer.Exit


@app.callback()
def options(
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show other libraries' messages, and where an error came from.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options that hold for every command."""
    terminal.verbose = verbose
    if not verbose:
        for name, value in QUIETING.items():
            os.environ.setdefault(name, value)
        warnings.simplefilter("ignore")


@app.command()
def run(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP", help="A YAML file, or a built-in sweep's name.")],
    out: Annotated[
        Path | None, typer.Option(help="The folder for everything; sweeps/NAME by default.", metavar="DIR")
    ] = None,
    trials: Trials = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the sweep's own seed.")] = None,
    quiet: Quiet = False,
) -> None:
    """Search: from a model and data to a front, a report and training runs.

    Ctrl-C stops tidily at any time, and [bold]autotune resume[/] goes on.

    \b[dim]$[/] autotune run quickstart
    [dim]$[/] autotune run reviews.yaml --trials 60 --out sweeps/reviews-2
    """
    with terminal.polite():
        from autotune.sweep.schema import load_sweep

        loaded = _changed(load_sweep(sweep), trials, seed)
    _search(loaded, out or Path("sweeps") / loaded.name, quiet, again=f"autotune run {shlex.quote(sweep)}")


@app.command()
def resume(folder: Folder, trials: Trials = None, quiet: Quiet = False) -> None:
    """Go on with a sweep that was stopped, or give a finished one more trials.

    Nothing is lost and nothing is repeated: a trial that was under way runs again with the same seed.

    \b[dim]$[/] autotune resume sweeps/quickstart
    [dim]$[/] autotune resume sweeps/quickstart --trials 60
    """
    with terminal.polite():
        from autotune.ledger.ledger import read_sweep

        loaded = _changed(read_sweep(folder), trials, None)
    _search(loaded, folder, quiet)


@app.command()
def status(
    folder: Folder,
    as_json: Json = False,
) -> None:
    """Show where a sweep stands: trials, budget, front, and what to do next. It may be running.

    \b[dim]$[/] autotune status sweeps/quickstart
    [dim]$[/] autotune status sweeps/quickstart --json | jq .front
    """
    with terminal.polite():
        import json

        from autotune.cli.status import overview, overview_json
        from autotune.results.sweep_tables import read_tables

        results = read_tables(folder)
        if as_json:
            typer.echo(json.dumps(overview_json(results), indent=2))
        else:
            terminal.console().print(overview(results))


@app.command()
def report(folder: Folder) -> None:
    """Write report.html, front.csv and trials.parquet anew from what the folder holds.

    \b[dim]$[/] autotune report sweeps/quickstart
    """
    with terminal.polite():
        from autotune.report.page import write_report
        from autotune.results.sweep_tables import read_tables
        from autotune.results.tables import write_tables

        results = read_tables(folder)
        for path in (*write_tables(results), write_report(results)):
            typer.echo(path)


@app.command()
def export(
    folder: Folder,
    to: Annotated[Path, typer.Option(metavar="RUN", help="The folder to write; it must be new or empty.")],
    pick: Annotated[
        str, typer.Option(metavar="POINT", help="knee, best, smallest, or the number of a trial.")
    ] = "knee",
    where: Annotated[
        list[str] | None, typer.Option(metavar="EXPR", help="A condition, such as 'trainable_params<=1%'.")
    ] = None,
    scale_to: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET",
            help="Carry it to a larger run: tokens=20M of training, model=BASE, or both. Learning rate and batch "
            "size follow what autotune probe measured.",
        ),
    ] = None,
    law: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="With --scale-to: a table of runs to take the law from instead."),
    ] = None,
) -> None:
    """Write a training run of one point: adapter_config.json, training arguments, a short train.py.

    The knee is where more cost stops paying; best is the best score; smallest has the fewest parameters.
    With --scale-to, the run's README says what was changed for the larger scale, and why.

    \b[dim]$[/] autotune export sweeps/quickstart --to runs/knee
    [dim]$[/] autotune export sweeps/quickstart --pick best --where 'trainable_params<=1%' --to runs/best
    [dim]$[/] autotune export sweeps/quickstart --pick 17 --to runs/17
    [dim]$[/] autotune export sweeps/reviews --scale-to tokens=20M,model=roberta-large --to runs/large
    """
    with terminal.polite():
        from autotune.export.run_folder import export_run
        from autotune.export.scaling import law_of_table, read_target
        from autotune.laws.fit_table import read_table
        from autotune.results.sweep_tables import read_tables
        from search_spaces.errors import InvalidInputError, Problem

        if law is not None and scale_to is None:
            raise InvalidInputError(Problem("--law", "nothing is scaled", "Add --scale-to tokens=NUMBER."))
        target = None if scale_to is None else read_target(scale_to)
        table = None if law is None else law_of_table(read_table(law), law.name)
        written = export_run(read_tables(folder), pick, where or [], to, target, table)
        typer.echo(f"{written}\nTrain it with: autotune train {shlex.quote(str(written))}")


@app.command()
def train(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A folder that autotune export wrote.")],
) -> None:
    """Train an exported run at full budget, score it and save the adapter.

    The adapter loads with peft's PeftModel.from_pretrained. The same as running RUN/train.py.

    \b[dim]$[/] autotune train runs/knee
    """
    with terminal.polite():
        from autotune.export.run_folder import train_run

        try:
            found = train_run(folder)
        except RuntimeError as error:  # train.py's own output has said why
            terminal.print_error(error)
            raise typer.Exit(1) from None
        for split, scores in found.items():
            typer.echo(f"{split}: " + ", ".join(f"{name} {value:.4g}" for name, value in scores.items()))


@app.command()
def init(
    model: Annotated[str, typer.Option(help="A hub id, or a model's folder.")],
    data: Annotated[
        Path, typer.Option(metavar="FILE", help="The training data: csv, tsv, json, jsonl or parquet.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The sweep file to write.")] = Path("sweep.yaml"),
    task: Annotated[
        TaskName | None, typer.Option(help="The kind of task, if it should not be guessed.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a commented sweep for a model and a data file, after looking at both.

    \b[dim]$[/] autotune init --model roberta-base --data data/train.tsv
    [dim]$[/] autotune init --model ./gpt2 --data chats.jsonl --task causal-lm --out chats.yaml
    """
    with terminal.polite():
        from autotune.scaffold.sweep_file import write_scaffold

        scaffold = write_scaffold(model, data, out, task=task.value if task else None, force=force)
        for note in scaffold.notes:
            typer.echo(f"· {note}")
        typer.echo(f"{out} written. Look through it, then: autotune run {shlex.quote(str(out))}")


@app.command()
def spaces(
    model: Annotated[str | None, _MODEL] = None,
    task: Task = None,
    space: Annotated[str | None, _SPACE] = None,
    as_json: Json = False,
) -> None:
    """Show the presets, the families that a model can have, or what a space holds. No weights are needed.

    With --space: how many configurations it has, its dimensions, its smallest and largest adapters.

    \b[dim]$[/] autotune spaces
    [dim]$[/] autotune spaces --model gpt2 --task causal-lm
    [dim]$[/] autotune spaces --model roberta-base --space adapters --json | jq .trainable_params
    """
    with terminal.polite():
        from autotune.cli.spaces import show_spaces

        show_spaces(terminal.console(), model, task.value if task else None, space, as_json)


@app.command()
def cost(
    model: Annotated[str, _MODEL],
    space: Annotated[str, _SPACE],
    task: Task = None,
    tokens: Annotated[
        int, typer.Option(min=1, help="Tokens of a text, padding included; an image has its patches.")
    ] = 128,
    samples: Annotated[int, typer.Option(min=1, help="Configurations drawn of each family.")] = 2000,
    as_json: Json = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it as a web page.")] = None,
) -> None:
    """Show what a space can cost before anything is run, in numbers and as shares of full fine-tuning.

    \b[dim]$[/] autotune cost --model bert --space adapters
    [dim]$[/] autotune cost --model ./llama --space lora --task causal-lm --tokens 1024 --html costs.html
    """
    with terminal.polite():
        from autotune.cli.spaces import show_costs

        show_costs(
            terminal.console(), model, task.value if task else None, space, tokens, samples, as_json, html
        )


def _changed(sweep: Sweep, trials: int | None, seed: int | None) -> Sweep:
    """The sweep with what the command line says instead of the file."""
    changes: dict[str, Any] = {}
    if trials is not None:
        changes["budget"] = sweep.budget.model_copy(update={"trials": trials})
    if seed is not None:
        changes["seed"] = seed
    return sweep.model_copy(update=changes)


def _search(sweep: Sweep, folder: Path, quiet: bool, *, again: str = "") -> None:
    console = terminal.console()
    with terminal.polite(folder, again):
        from autotune.cli.live_display import watch

        if not quiet:
            console.print(f"[dim]Loading what training needs …[/] (results go to {folder})", highlight=False)
        from autotune.cli.status import overview
        from autotune.engine.sweep_run import SearchFailedError, SweepInterruptedError, run_sweep
        from autotune.ledger.ledger import LedgerError
        from trials.execution.errors import ExecutorError

        terminal.quiet_optuna()
        # A cluster's polite way to stop a job is to be as good as Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with watch(console, quiet=quiet) as listener:
                results = run_sweep(sweep, folder, listener)
        except SweepInterruptedError:
            raise KeyboardInterrupt from None
        except (LedgerError, SearchFailedError, ExecutorError) as error:
            terminal.print_error(error)
            raise typer.Exit(1) from None
        console.print(overview(results))
