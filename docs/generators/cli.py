"""The reference page of the command line, from the typer application."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from typing import Any

import typer
from rich.text import Text

from autotune.cli.app import app
from docs.generators.markdown import table

_INTRODUCTION = """\
# Command line

Every command prints its help with `--help`. An error names the place, the value and a fix.

| exit status | meaning |
| --- | --- |
| 0 | success |
| 1 | a failure: of trials, of a worker, of the disk |
| 2 | invalid input: a file, an option |
| 70 | an internal error, a defect of autotune; `autotune --verbose` shows its traceback |
| 130 | Ctrl-C |
"""

_TYPES = {int: "INTEGER", float: "NUMBER"}


def cli_page() -> str:
    """Return the page as Markdown."""
    root = typer.main.get_command(app)
    sections = [_section(name, command) for name, command in commands(root, "autotune")]
    return "\n".join([_INTRODUCTION, *sections])


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield every command with its full name, groups before their members."""
    yield name, command
    for child, member in getattr(command, "commands", {}).items():
        yield from commands(member, f"{name} {child}")


def _section(name: str, command: Any) -> str:
    prose, examples = _help(command.help or "")
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and "--help" not in p.opts]
    parts = [f"{'##' if ' ' not in name else '###'} `{name}`", prose]
    if examples:
        parts.append("```console\n" + "\n".join(examples) + "\n```")
    members = getattr(command, "commands", {})
    if members:
        rows = [(f"`{child}`", _first_line(member)) for child, member in members.items()]
        parts.append(table(("command", "purpose"), rows))
    if arguments:
        rows = [
            (f"`{argument.metavar or argument.name.upper()}`", argument.help or "") for argument in arguments
        ]
        parts.append(table(("argument", "meaning"), rows))
    if options:
        rows = [(_names(option), _default(option), _meaning(option)) for option in options]
        parts.append(table(("option", "default", "meaning"), rows))
    return "\n\n".join(part.strip("\n") for part in parts if part) + "\n"


def _help(text: str) -> tuple[str, list[str]]:
    """Split a command's help into its prose and its example commands."""
    lines = [_plain(line).strip() for line in text.replace("\b", "").splitlines()]
    examples = [line for line in lines if line.startswith("$ ")]
    prose = "\n".join(line for line in lines if not line.startswith("$ "))
    return _fenced_tables(prose.strip()), examples


def _fenced_tables(prose: str) -> str:
    """Put paragraphs whose lines are aligned in columns into code blocks."""
    paragraphs = re.split(r"\n{2,}", prose)
    aligned = [f"```text\n{p}\n```" if re.search(r"^\S+ {2,}\S", p, re.MULTILINE) else p for p in paragraphs]
    return "\n\n".join(aligned)


def _plain(text: str) -> str:
    """Remove rich's markup."""
    return Text.from_markup(text).plain


def _first_line(command: Any) -> str:
    return _help(command.help or "")[0].split("\n\n")[0].replace("\n", " ")


def _names(option: Any) -> str:
    names = ", ".join(
        f"`{name}`" for name in sorted([*option.opts, *option.secondary_opts], key=len, reverse=True)
    )
    return names if option.is_flag else f"{names} `{_value(option)}`"


def _value(option: Any) -> str:
    if _choices(option):
        return "CHOICE"
    return option.metavar or _TYPES.get(option.type_descriptor.annotation, "TEXT")


def _meaning(option: Any) -> str:
    choices = ", ".join(f"`{choice}`" for choice in _choices(option))
    return _plain(option.help or "") + (f" One of {choices}." if choices else "")


def _choices(option: Any) -> list[str]:
    annotation = option.type_descriptor.annotation
    is_choice = isinstance(annotation, type) and issubclass(annotation, Enum)
    return [str(choice.value) for choice in annotation] if is_choice else []


def _default(option: Any) -> str:
    if option.required:
        return "required"
    default = getattr(option.default, "value", option.default)
    if option.is_flag or default is None or default == "":
        return ""
    return f"`{default}`"
