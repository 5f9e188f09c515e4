"""What the commands say besides their results: errors as people want to read them, and where to go on."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

verbose = False
"""Whether other libraries may speak and errors of values keep their traceback; an option of every command."""


def console(stderr: bool = False) -> Console:
    """Standard output, or standard error, without colors of rich's own choice."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


@contextmanager
def polite(folder: Path | None = None, again: str = "") -> Iterator[None]:
    """Errors as people want to read them, and exit codes as shells do: 2 for bad input, 130 for Ctrl-C."""
    from search_spaces.errors import InvalidInputError

    try:
        yield
    except InvalidInputError as error:
        _print_problems(error)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        _print_interrupted(folder, again)
        raise typer.Exit(130) from None
    except ValueError as error:
        if verbose:
            raise
        print_error(error)
        raise typer.Exit(2) from None


def quiet_optuna() -> None:
    """Keep optuna from speaking, whose import sets its own level; unless other libraries may speak."""
    if not verbose:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)


def print_error(error: Exception) -> None:
    console(stderr=True).print(f"[bold red]Error:[/] {_escaped(str(error))}", soft_wrap=True)


def _print_problems(error: Any) -> None:
    out = console(stderr=True)
    count = len(error.problems)
    out.print(f"[bold red]{'One thing is' if count == 1 else f'{count} things are'} wrong:[/]")
    for problem in error.problems:
        where = f"[bold]{_escaped(problem.where)}[/]: " if problem.where else ""
        out.print(f"  [red]•[/] {where}{_escaped(problem.what)}", soft_wrap=True)
        if problem.fix:
            out.print(f"    [green]→[/] {_escaped(problem.fix)}", soft_wrap=True)


def _print_interrupted(folder: Path | None, again: str) -> None:
    out = console(stderr=True)
    if folder is not None and (folder / "study.db").is_file():
        out.print(
            f"Stopped; nothing is lost. Go on with: autotune resume {shlex.quote(str(folder))}",
            soft_wrap=True,
        )
    else:
        out.print(f"Stopped before the search began. Begin again with: {again}" if again else "Stopped.")


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
