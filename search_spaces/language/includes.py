"""Composition of spaces: `include` names presets and files, and later entries override earlier ones.

    include: lora                        # one preset or file, or a list; relative to the folder of this file
    families: [lora]                     # replaces the included families
    parameters: {lora.rank: {high: 8}}   # overrides the included parameters, field by field
    constraints: ["trainable_params <= 1%"]        # added to the included constraints

Included files may include others. The families of several included files are united. A file without families is a
part of a space, to be included with other files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search_spaces.errors import InvalidInputError, Problem, did_you_mean
from search_spaces.language.yaml_io import load_yaml

PRESETS = Path(__file__).parent.parent / "presets"
"""The folder of the presets."""

KEYS = ("include", "families", "parameters", "constraints")
"""The keys of a space file."""

_FORMS = ("choices", "mask", "range", "subset", "profile", "center")
_BOUNDS = {"low", "high", "log", "step"}


@dataclass
class Composed:
    """A space file merged with all files it includes; only the includes are validated.

    Args:
        families: the families of the file, or else the union of the included ones.
        parameters: merged entries by parameter name.
        constraints: the constraints of all files.
        inherited: names of parameters whose entry comes from included files only; such an entry is ignored
            without an error if its family is not in the space.
    """

    families: object = None
    parameters: Any = field(default_factory=dict)
    constraints: Any = field(default_factory=list)
    inherited: set[str] = field(default_factory=set)


def preset_names() -> list[str]:
    """Return the names of the presets of the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def is_preset(spec: str) -> bool:
    """Return whether a string is the name of a preset rather than the path of a file."""
    return not spec.endswith((".yaml", ".yml")) and "/" not in spec and "\\" not in spec


def find_spec(spec: str | Path | Mapping[str, object], folder: Path) -> tuple[Mapping[str, object], Path]:
    """Read the mapping of a preset or a file.

    Args:
        spec: the name of a preset, the path of a file, or a mapping, which is returned unchanged.
        folder: folder for a relative path.

    Returns:
        The mapping, not validated, and the folder for relative paths in it.

    Raises:
        InvalidInputError: The preset or file does not exist, or it does not contain a mapping.
    """
    if isinstance(spec, Mapping):
        return spec, folder
    if isinstance(spec, str) and is_preset(spec):
        path = PRESETS / f"{spec}.yaml"
        if not path.exists():
            fix = did_you_mean(spec, preset_names())
            raise InvalidInputError(Problem("", f"unknown preset {spec!r}", f"{fix} A file ends in .yaml."))
    else:
        path = folder / Path(spec).expanduser()
    mapping = load_yaml(path)
    if not isinstance(mapping, Mapping):
        raise InvalidInputError(
            Problem(str(path), "does not contain a mapping", "Begin with a line families: [lora, head].")
        )
    return mapping, path.parent


def compose(
    mapping: Mapping[str, object],
    folder: Path,
    check: Callable[[Composed], list[Problem]],
    problems: list[Problem],
    within: tuple[str, ...] = (),
) -> Composed:
    """Merge a mapping with the files it includes, depth first.

    Args:
        mapping: contents of a space file.
        folder: folder for relative paths of included files.
        check: returns the problems of an included file on its own.
        problems: list to which problems of the includes and of the mapping's keys are appended.
        within: the files that are being included, outermost first, to detect cycles.
    """
    for key in mapping:
        if key not in KEYS:
            problems.append(Problem(str(key), "unknown key", did_you_mean(str(key), KEYS)))
    total = Composed()
    raw = mapping.get("include")
    names = [] if raw is None else raw if isinstance(raw, list | tuple) else [raw]
    for index, name in enumerate(names):
        where = f"include[{index}]" if isinstance(raw, list | tuple) else "include"
        part = _included(name, where, folder, check, problems, within)
        if part is not None:
            _add(total, part)
    own = Composed(mapping.get("families"), mapping.get("parameters"), mapping.get("constraints"))
    return _override(total, own)


def _included(
    name: object,
    where: str,
    folder: Path,
    check: Callable[[Composed], list[Problem]],
    problems: list[Problem],
    within: tuple[str, ...],
) -> Composed | None:
    if not isinstance(name, str | Path) or not str(name):
        problems.append(
            Problem(where, f"{name!r} is not a name or path", "Write a preset's name or a file's path.")
        )
        return None
    preset = isinstance(name, str) and is_preset(name)
    key = str(name) if preset else str((folder / Path(name).expanduser()).resolve())
    if key in within:
        circle = " -> ".join((*within[within.index(key) :], key))
        problems.append(Problem(where, f"includes itself ({circle})", "Drop one of these includes."))
        return None
    found: list[Problem] = []
    try:
        mapping, inner = find_spec(name, folder)
        part = compose(mapping, inner, check, found, (*within, key))
        found = found or check(part)
    except InvalidInputError as error:
        found = error.problems
        part = None
    problems.extend(
        Problem(f"{where}: {problem.where}".removesuffix(": "), problem.what, problem.fix)
        for problem in found
    )
    return None if found else part


def _add(total: Composed, part: Composed) -> None:
    """Merge an included file into those before it."""
    names = [
        name for found in (total.families, part.families) if found is not None for name in _listed(found)
    ]
    total.families = "all" if "all" in names else list(dict.fromkeys(names)) or None
    for name, entry in part.parameters.items():
        total.parameters[name] = merged(total.parameters[name], entry) if name in total.parameters else entry
    total.constraints.extend(
        constraint for constraint in part.constraints if constraint not in total.constraints
    )
    total.inherited = set(total.parameters)


def _override(total: Composed, own: Composed) -> Composed:
    """Merge a file's own entries into its included files; entries of a wrong type are kept for validation."""
    families = total.families if own.families is None else own.families
    if own.parameters is not None and not isinstance(own.parameters, Mapping):
        return Composed(families, own.parameters, own.constraints)
    parameters = dict(total.parameters)
    for name, entry in (own.parameters or {}).items():
        parameters[name] = merged(parameters[name], entry) if name in parameters else entry
    inherited = total.inherited - set(own.parameters or {})
    constraints = [own.constraints] if isinstance(own.constraints, str) else own.constraints
    if constraints is not None and not isinstance(constraints, list | tuple):
        return Composed(families, parameters, constraints, inherited)
    return Composed(families, parameters, [*total.constraints, *(constraints or [])], inherited)


def merged(earlier: object, later: object) -> object:
    """Merge two entries of one parameter; fields of the later entry override those of the earlier one.

    A value or a list replaces everything except a condition, and so does a mapping that changes the kind of the
    parameter, such as from a range to a mask. The earlier default is clipped to later bounds.
    """
    if later is None or (earlier is None and not isinstance(later, Mapping)):
        return later
    if not isinstance(earlier, Mapping):
        only_adds = isinstance(later, Mapping) and set(later) <= {"when", "default"}
        earlier = {"choices": _listed(earlier)} if only_adds and earlier is not None else {}
    when = {"when": earlier["when"]} if "when" in earlier else {}
    if not isinstance(later, Mapping):
        return {"choices": _listed(later), **when} if when else later
    old, new = _form(earlier), _form(later)
    if new is None or old is None or old == new or (new == "bounds" and old in ("profile", "center")):
        return _with_default_inside({**earlier, **later}, earlier, later)
    if new == "profile" and old == "bounds":
        kept = {name: value for name, value in earlier.items() if name not in ("log", "step")}
        return _with_default_inside({**kept, **later}, earlier, later)
    return {**when, **later}


def _form(entry: Mapping[str, object]) -> str | None:
    """Return the kind of parameter an entry defines; None if it has only a default or a condition."""
    for form in _FORMS:
        if form in entry:
            return form
    return "bounds" if _BOUNDS & set(entry) else None


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _with_default_inside(
    entry: dict[str, object], earlier: Mapping[str, object], later: Mapping[str, object]
) -> dict[str, object]:
    default = earlier.get("default")
    if "default" in later or not isinstance(default, int | float) or isinstance(default, bool):
        return entry
    for bound, beyond in (("low", min), ("high", max)):
        value = later.get(bound)
        if isinstance(value, int | float) and beyond(default, value) == default:
            entry["default"] = value
    return entry
