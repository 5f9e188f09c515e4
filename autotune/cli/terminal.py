"""Terminal output shared by all commands: consoles, settings, error messages and exit statuses."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from rich.console import Console

    from search_spaces.errors import InvalidInputError

EXIT_FAILURE = 1
"""The work failed: trials, a worker, the disk."""
EXIT_INVALID_INPUT = 2
"""A file or an option is invalid; typer uses the same status for options that it cannot parse."""
EXIT_INTERNAL_ERROR = 70
"""A defect of autotune itself (`EX_SOFTWARE` of sysexits.h)."""
EXIT_INTERRUPTED = 130
"""Ctrl-C: 128 plus the number of SIGINT, as shells report it."""


@dataclass(frozen=True)
class Settings:
    """Options of `autotune` that hold for every command, stored as the `obj` of typer's context.

    Args:
        verbose: show the messages of other libraries, and tracebacks.
    """

    verbose: bool = False


class Commands(TyperGroup):
    """The group of all commands, which reports their errors in one place."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]  # its class is private in typer
        """Run the command that the user chose."""
        with _report_errors(ctx):
            return super().invoke(ctx)


@contextmanager
def _report_errors(context: typer.Context) -> Iterator[None]:
    """Print an error on standard error and exit with the status of its kind.

    `AutotuneError` and `OSError` are expected: they are printed as messages, without a traceback. Every other
    exception is a defect of autotune: the message says so, and how to see the traceback.

    Args:
        context: of the group of all commands; its option `--verbose` adds the traceback of every error.

    Raises:
        typer.Exit: after any error, with one of the `EXIT_...` statuses.
    """
    from search_spaces.errors import AutotuneError, InvalidInputError

    verbose = bool(context.params.get("verbose"))
    try:
        yield
    except KeyboardInterrupt:
        console(stderr=True).print("Stopped.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except BrokenPipeError:  # the reader of a pipe has closed it: typer ends the command silently
        raise
    except Exception as error:
        if hasattr(error, "exit_code"):  # typer's own: an exit, or an option that cannot be parsed
            raise
        if verbose:
            traceback.print_exception(error)
        if isinstance(error, InvalidInputError):
            _print_problems(error)
            raise typer.Exit(EXIT_INVALID_INPUT) from None
        if isinstance(error, AutotuneError | OSError):
            print_error(error)
            raise typer.Exit(EXIT_FAILURE) from None
        if not verbose:
            _print_internal_error(error, context.invoked_subcommand or "")
        raise typer.Exit(EXIT_INTERNAL_ERROR) from None


@contextmanager
def problems_in(source: str) -> Iterator[None]:
    """Name the file that invalid input comes from, where the error does not name it."""
    from search_spaces.errors import InvalidInputError

    try:
        yield
    except InvalidInputError as error:
        error.source = error.source or source
        raise


def console(stderr: bool = False) -> Console:
    """Return a console on standard output or standard error that highlights nothing by itself."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


def quiet_optuna(settings: Settings) -> None:
    """Silence optuna unless the settings are verbose. Call it after importing optuna, which sets its own level."""
    if not settings.verbose:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)


def print_error(error: Exception) -> None:
    """Print the message of an error on standard error."""
    console(stderr=True).print(f"[bold red]Error:[/] {_escape(str(error))}", soft_wrap=True)


def _print_problems(error: InvalidInputError) -> None:
    out = console(stderr=True)
    count = len(error.problems)
    place = f" in {_escape(error.source)}" if error.source else ""
    out.print(f"[bold red]{count} error{'' if count == 1 else 's'}{place}:[/]", soft_wrap=True)
    for problem in error.problems:
        where = f"[bold]{_escape(problem.where)}[/]: " if problem.where else ""
        out.print(f"  [red]•[/] {where}{_escape(problem.what)}", soft_wrap=True)
        if problem.fix:
            out.print(f"    [green]→[/] {_escape(problem.fix)}", soft_wrap=True)


def _print_internal_error(error: Exception, command: str) -> None:
    last = traceback.extract_tb(error.__traceback__)[-1]
    what = f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno})"
    out = console(stderr=True)
    out.print(f"[bold red]Internal error:[/] {_escape(what)}", soft_wrap=True)
    hint = f"This is a defect of autotune. To see the traceback, run: autotune --verbose {command} ..."
    out.print(_escape(hint), soft_wrap=True)


def _escape(text: str) -> str:
    """Protect square brackets from rich's markup."""
    from rich.markup import escape

    return escape(text)
