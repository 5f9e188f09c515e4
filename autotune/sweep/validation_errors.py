"""Translation of pydantic's errors for the author of a sweep file: the path, the value and the fix."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from search_spaces.errors import InvalidInputError, Problem, did_you_mean

Location = Sequence[int | str]

_TYPES: dict[str, tuple[str, str]] = {
    "int": ("a whole number", "Write a whole number, such as 30."),
    "float": ("a number", "Write a number, such as 0.5."),
    "bool": ("true or false", "Write true or false."),
    "string": ("a text", "Put it in quotes."),
    "tuple": ("a list", "Write [a, b], or one entry per line after a dash."),
    "model": ("a mapping", "Write {key: value}, or key: value lines below it."),
    "dict": ("a mapping", "Write {key: value}, or key: value lines below it."),
    "dataclass": ("a mapping", "Write {key: value}, or key: value lines below it."),
}
"""The expected type and how to write it, by the beginning of pydantic's error type."""


def problems_of(
    error: ValidationError,
    data: object,
    fields: Mapping[str, Sequence[str]],
    examples: Mapping[str, str],
    inside: Location = (),
) -> list[Problem]:
    """Return the problems that pydantic found, in order, one per path.

    Args:
        error: the error of the validation.
        data: the validated data. A location ends where the data end, so that pydantic's tags for the members of a
            union do not show.
        fields: the valid keys of each part of the file, by the path of the part without indices.
        examples: the fix for a missing required key, by path.
        inside: the location of `data` in the file.
    """
    found: dict[str, Problem] = {}
    for item in error.errors():
        cause = item.get("ctx", {}).get("error")
        if isinstance(cause, InvalidInputError):
            found.update({f"{p.where} {p.what}": p for p in cause.problems})
            continue
        location = [*inside, *_within(data, item["loc"], missing=item["type"] == "missing")]
        where = dotted(location)
        problem = _problem(where, location, dict(item), fields, examples)
        if where in found:  # each member of a union reports the type that it expects
            wanted = problem.what.partition(" is not ")[2]
            if wanted and wanted not in found[where].what:
                problem = Problem(where, f"{found[where].what} or {wanted}", found[where].fix)
            else:
                problem = found[where]
        found[where] = problem
    return list(found.values())


def dotted(location: Location) -> str:
    """Return a location as text, such as `objectives[1].max` for ("objectives", 1, "max")."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".")


def _within(data: object, location: Location, *, missing: bool) -> list[int | str]:
    path: list[int | str] = []
    for index, part in enumerate(location):
        inside = (isinstance(data, Mapping) and part in data) or (
            isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)
        )
        if not inside:
            return [*path, part] if missing and index == len(location) - 1 else path
        data = data[part]  # type: ignore[index]
        path.append(part)
    return path


def _problem(
    where: str,
    location: list[int | str],
    item: dict[str, Any],
    fields: Mapping[str, Sequence[str]],
    examples: Mapping[str, str],
) -> Problem:
    kind, value, context = item["type"], item.get("input"), item.get("ctx", {})
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        parent = ".".join(str(part) for part in location[:-1] if isinstance(part, str))
        return Problem(where, "unknown key", did_you_mean(str(location[-1]), fields.get(parent, ())))
    if kind == "missing":
        return Problem(where, "missing", examples.get(where, f"Add {location[-1]}."))
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        return Problem(where, f"{value!r} is not one of the choices", did_you_mean(str(value), choices))
    if kind.startswith(("greater_than", "less_than")):
        bound = next(iter(context.values()))
        words = {"greater_than": "above", "less_than": "below"}.get(kind)
        words = words or ("at least" if kind.startswith("greater") else "at most")
        return Problem(where, f"{value!r} is out of range", f"It must be {words} {bound:g}.")
    if kind in ("too_short", "too_long", "string_too_short"):
        bound = context.get("min_length", context.get("max_length"))
        few = kind.endswith("short")
        what = "is empty" if few and not value else f"has too {'few' if few else 'many'} entries"
        return Problem(where, what, f"Write at {'least' if few else 'most'} {bound}.")
    if kind == "value_error":
        what, _, fix = str(context["error"]).partition("; ")
        return Problem(where, what, f"{fix[:1].upper()}{fix[1:]}." if fix else examples.get(where, ""))
    if kind == "int_from_float":
        return Problem(where, f"{value!r} is not a whole number", f"Write {round(item['input'])}.")
    for beginning, (wanted, fix) in _TYPES.items():
        if kind.startswith(beginning):
            return Problem(where, f"{value!r} is not {wanted}", fix)
    return Problem(where, f"{value!r}: {item['msg']}", examples.get(where, "Correct the value."))
