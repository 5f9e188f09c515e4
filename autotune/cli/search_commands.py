"""`autotune init`, `run`, `status` and `resume`: from a data file to a finished sweep."""

from __future__ import annotations

import shlex
import signal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autotune.cli import terminal
from autotune.cli.parameters import Code, Folder, Json
from autotune.cli.terminal import Settings

if TYPE_CHECKING:
    from autotune.results.sweep_tables import SweepTables
    from autotune.sweep.schema import Sweep
    from autotune.transfer.old_front import OldFront


class TaskName(StrEnum):
    """Tasks that a sweep can train."""

    CLASSIFICATION = "sequence-classification"
    TOKENS = "token-classification"
    SETS = "multi-label-classification"
    IMAGES = "image-classification"
    REGRESSION = "regression"
    CAUSAL_LM = "causal-lm"
    SEQ2SEQ = "seq2seq"
    PREFERENCE = "preference"


Trials = Annotated[
    int | None,
    typer.Option(
        min=1, help="Total number of trials; replaces budget.trials of the sweep.", show_default=False
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the final result only.")]


def init(
    model: Annotated[str, typer.Option(help="A Hugging Face model id, or the folder of a model.")],
    data: Annotated[
        list[str],
        typer.Option(
            metavar="DATA",
            help="The training data: a file (csv, tsv, txt, json, jsonl or parquet), a folder, or a Hugging Face "
            "data set id. Repeat it for several files.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The sweep file to write.")] = Path("sweep.yaml"),
    task: Annotated[
        TaskName | None, typer.Option(help="The task; by default inferred from the data.", show_default=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the sweep file if it exists.")] = False,
) -> None:
    """Write a sweep file for a model and data.

    The columns, the task, the metric and the maximum length are inferred from the data. The file explains every line
    in a comment. Files beside the data named like its validation and test splits are used as such. The first example
    is shown as the model sees it, if the tokenizer is on this machine.

    \b[dim]$[/] autotune init --model roberta-base --data data/train.tsv
    [dim]$[/] autotune init --model ./gpt2 --data chats.jsonl --task causal-lm --out chats.yaml
    """
    from autotune.cli.example_preview import example_preview
    from autotune.scaffold.first_example import first_example
    from autotune.scaffold.sweep_file import write_scaffold
    from autotune.sweep.sweep_file import load_sweep

    scaffold = write_scaffold(model, data, out, task=task.value if task else None, force=force)
    for note in scaffold.notes:
        typer.echo(f"· {note}")
    example = first_example(load_sweep(out))
    if isinstance(example, str):
        typer.echo(f"· {example}")
    else:
        terminal.console().print(example_preview(example))
    command = f"autotune run {shlex.quote(str(out))}"
    typer.echo(f"Wrote {out}. Check it, and see what it will take: {command} --dry-run")
    typer.echo(f"Then run: {command}")


def run(
    context: typer.Context,
    sweep: Annotated[
        str, typer.Argument(metavar="SWEEP", help="A sweep file (YAML), or a built-in sweep: quickstart.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The folder for all results; by default sweeps/NAME.", show_default=False
        ),
    ] = None,
    trials: Trials = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Replaces the seed of the sweep.", show_default=False)
    ] = None,
    code: Code = None,
    quiet: Quiet = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Read and check everything, show an example as the model sees it and what the sweep will take, and "
            "train and write nothing.",
        ),
    ] = False,
    examples: Annotated[int, typer.Option(min=0, help="Examples that --dry-run shows.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result of --dry-run as JSON.")] = False,
) -> None:
    """Run a sweep: search configurations, confirm the Pareto front, and write a report.

    The folder receives sweep.yaml, study.db, report.html, front.csv and trials.parquet. Ctrl-C stops the sweep after
    saving its state; [bold]autotune resume[/] continues it.

    \b[dim]$[/] autotune run quickstart --dry-run
    [dim]$[/] autotune run quickstart
    [dim]$[/] autotune run reviews.yaml --trials 60 --out sweeps/reviews-60
    [dim]$[/] autotune run reviews.yaml --code my_score.py
    """
    from autotune.sweep.sweep_file import load_sweep

    if as_json and not dry_run:
        raise typer.BadParameter("is an option of --dry-run; add --dry-run", param_hint="--json")
    with terminal.problems_in(sweep):
        loaded = _with_options(load_sweep(sweep), trials, seed, code)
        folder = out or Path("sweeps") / loaded.name
        if dry_run:
            _plan(loaded, folder, context.obj, examples, as_json=as_json)
        else:
            _search(loaded, folder, context.obj, quiet=quiet)


def status(
    folder: Folder,
    as_json: Json = False,
    traceback: Annotated[
        int | None,
        typer.Option(metavar="TRIAL", help="Print only the traceback of a failed trial.", show_default=False),
    ] = None,
) -> None:
    """Show the trials, the budget and the Pareto front of a sweep, and the next command to run.

    The sweep may be running in another process.

    \b[dim]$[/] autotune status sweeps/quickstart
    [dim]$[/] autotune status sweeps/quickstart --json | jq .front
    """
    import json

    from autotune.cli.status import failure_traceback, overview, overview_json
    from autotune.results.sweep_tables import read_tables

    results = read_tables(folder)
    if traceback is not None:
        typer.echo(failure_traceback(results, traceback))
    elif as_json:
        typer.echo(json.dumps(overview_json(results), indent=2))
    else:
        terminal.console().print(overview(results))


def resume(
    context: typer.Context, folder: Folder, trials: Trials = None, code: Code = None, quiet: Quiet = False
) -> None:
    """Resume a sweep that was interrupted, or extend a finished sweep with --trials.

    No finished trial is lost or repeated. A trial that was running starts again with the same configuration and seed.

    \b[dim]$[/] autotune resume sweeps/quickstart
    [dim]$[/] autotune resume sweeps/quickstart --trials 60
    """
    from autotune.ledger.ledger import read_sweep

    with terminal.problems_in(str(folder)):
        loaded = _with_options(read_sweep(folder), trials, None, code)
        _search(loaded, folder, context.obj, quiet=quiet)


def confirm(
    context: typer.Context,
    folder: Folder,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Training runs per point on average.", show_default=False)
    ] = None,
    points: Annotated[
        int | None, typer.Option(min=1, help="Maximum number of points of the front.", show_default=False)
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Examples of a run: search, or full for all data.", show_default=False)
    ] = None,
    stop: Annotated[
        str | None,
        typer.Option(help="End of a run and its score: search, none, last or best.", show_default=False),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="Evaluations without an improvement that end a run.", show_default=False),
    ] = None,
    evaluations: Annotated[
        int | None, typer.Option(min=1, help="Evaluations of a run that may stop.", show_default=False)
    ] = None,
    code: Code = None,
    quiet: Quiet = False,
) -> None:
    """Confirm the front of a finished search again, with other options: on all data, on more seeds or points.

    Options that are not given are those of the sweep. Runs of earlier confirmations are kept, and count where their
    data and their end are the same.

    \b[dim]$[/] autotune confirm sweeps/quickstart --data full --stop best
    [dim]$[/] autotune confirm sweeps/quickstart --seeds 5 --points 12
    """
    from autotune.ledger.ledger import read_sweep
    from autotune.results.completion import is_spent
    from autotune.results.sweep_tables import read_tables
    from search_spaces.errors import InvalidInputError, Problem

    given = {
        "seeds": seeds, "points": points, "data": data, "stop": stop, "patience": patience,
        "evaluations": evaluations,
    }  # fmt: skip
    from autotune.sweep.sweep_file import changed_confirm

    with terminal.problems_in(str(folder)):
        sweep = changed_confirm(read_sweep(folder), {k: v for k, v in given.items() if v is not None})
        sweep = _with_options(sweep, None, None, code)
        if not is_spent(read_tables(folder)):
            fix = f"Run: autotune resume {shlex.quote(str(folder))}"
            raise InvalidInputError(Problem("DIR", "the search of the sweep has not ended", fix))
        _search(sweep, folder, context.obj, quiet=quiet)


def transfer(
    context: typer.Context,
    folder: Folder,
    to: Annotated[
        str, typer.Option(metavar="SWEEP", help="The sweep file of the new task.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="The folder for all results; by default sweeps/NAME.", show_default=False
        ),
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of configurations; by default the front, and others up to 6 where it is smaller.",
            show_default=False,
        ),
    ] = None,
    code: Code = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train only the front of a finished sweep on another task, and say how far its order held.

    The points are carried over to the new task, model and space by relative depth and role of matrices. Each is
    trained once, at the fidelity of the new sweep. The table has the scores and places there and here, the rank
    correlation with its interval, the points that stay on the front, and what choosing the old best point costs.

    On a front, larger adapters are better, so its order alone says little. Points that it dominates are trained, too,
    if it has fewer than 6, or if --points asks for more.

    The folder is that of a sweep like any other: [bold]autotune run[/] with the same sweep file and --out searches on
    from these trials.

    \b[dim]$[/] autotune transfer sweeps/sst2 --to reviews.yaml
    [dim]$[/] autotune transfer sweeps/sst2 --to reviews.yaml --points 12 --out sweeps/reviews --json
    [dim]$[/] autotune run reviews.yaml --out sweeps/reviews
    """
    import json

    from autotune.sweep.sweep_file import load_sweep
    from autotune.transfer.old_front import OldFront, check_earlier_folder
    from autotune.transfer.outcome import source_outcomes
    from autotune.transfer.text import transfer_overview

    with terminal.problems_in(to):
        loaded = _with_options(load_sweep(to), None, None, code)
    target = out or Path("sweeps") / loaded.name
    check_earlier_folder(folder, target)
    with terminal.problems_in(to):
        results = _run(
            loaded, target, context.obj, quiet=quiet or as_json, old_front=OldFront(folder, points)
        )
    outcomes = source_outcomes(results)
    if as_json:
        found = [outcome.as_mapping() for outcome in outcomes]
        typer.echo(json.dumps({"folder": str(target), "sources": found}, indent=2))
        return
    command = f"autotune run {shlex.quote(to)} --out {shlex.quote(str(target))}"
    terminal.console().print(transfer_overview(outcomes, command))


def _with_options(
    sweep: Sweep, trials: int | None, seed: int | None, code: list[Path] | None = None
) -> Sweep:
    """Return the sweep with the values that the command line replaces."""
    changes: dict[str, object] = {}
    if trials is not None:
        changes["budget"] = sweep.budget.model_copy(update={"trials": trials})
    if seed is not None:
        changes["seed"] = seed
    sweep = sweep.model_copy(update=changes)
    if not code:
        return sweep
    from autotune.prepare.own_scores import with_code

    return with_code(sweep, code)


def _plan(sweep: Sweep, folder: Path, settings: Settings, examples: int, *, as_json: bool) -> None:
    """Print what a sweep would do in a folder, with a number of examples as the model sees them."""
    import json

    from autotune.cli.dry_run import dry_run_json, dry_run_overview
    from autotune.engine.plan import plan_sweep

    terminal.quiet_optuna(settings)
    plan = plan_sweep(sweep, folder)
    if as_json:
        typer.echo(json.dumps(dry_run_json(plan, examples), indent=2, ensure_ascii=False, default=str))
    else:
        terminal.console().print(dry_run_overview(plan, examples))


def _search(sweep: Sweep, folder: Path, settings: Settings, *, quiet: bool) -> None:
    """Run a sweep with a live display, and print its state; the arguments are those of `_run`."""
    results = _run(sweep, folder, settings, quiet=quiet)
    from autotune.cli.status import overview

    terminal.console().print(overview(results))


def _run(
    sweep: Sweep, folder: Path, settings: Settings, *, quiet: bool, old_front: OldFront | None = None
) -> SweepTables:
    """Run a sweep with a live display; after Ctrl-C, print the command that continues it.

    Args:
        sweep: the sweep to run.
        folder: receives the study and all results.
        settings: whether other libraries may print messages.
        quiet: print the final result only.
        old_front: the front of an earlier sweep that is trained alone; None for a search.
    """
    console = terminal.console()
    if not quiet:
        from rich.markup import escape

        console.print(f"[dim]Loading libraries ...[/] (results: {escape(str(folder))})", highlight=False)
    if (
        sweep.executor.uses_processes and not (folder / "study.db").is_file()
    ):  # an existing sweep may be finished
        from trials.execution.fork_server import preload_libraries

        preload_libraries(sweep.model.device)  # beside the imports of this process
    from autotune.cli.live_display import watch
    from autotune.engine.sweep_run import SweepInterruptedError, run_sweep

    terminal.quiet_optuna(settings)
    # Cluster schedulers stop a job with SIGTERM, which must save the state like Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with watch(console, quiet=quiet) as listener:
            return run_sweep(sweep, folder, listener, old_front=old_front)
    except (KeyboardInterrupt, SweepInterruptedError):
        if old_front is not None and (folder / "study.db").is_file():
            message = "Stopped. All finished trials are saved. Run the same command to go on."
        elif (folder / "study.db").is_file():
            command = f"autotune resume {shlex.quote(str(folder))}"
            message = f"Stopped. All finished trials are saved. Continue with: {command}"
        else:
            message = "Stopped before the search started. Run the same command to start again."
        terminal.console(stderr=True).print(message, soft_wrap=True, markup=False)
        raise typer.Exit(terminal.EXIT_INTERRUPTED) from None
