"""From what a person writes to a search space: a preset's name, a YAML file or an inline mapping.

    families: [lora, ia3, head]        # each brings its own knobs
    parameters:                        # change them by name; see overrides.py for what can be written
      lora.rank: {low: 1, high: 16}
      batch_size: 16

The space is `family`, then each family's knobs as `family.knob`, which exist only where the family is the
one chosen, then the knobs of training, which every family shares (training.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from search_spaces.errors import InvalidInputError, Problem, did_you_mean
from search_spaces.families import REGISTRY
from search_spaces.families.base import Family, TaskType
from search_spaces.overrides import Override, spell_out
from search_spaces.parameters import Categorical, Int, Parameter, TopLayers
from search_spaces.shapes import ModelShape
from search_spaces.space import SearchSpace
from search_spaces.training import ON_REQUEST, missing_libraries, training_knobs
from search_spaces.yamls import load_yaml

PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class LoadedSpace:
    """A search space and how it came about.

    Args:
        space: bound to the model's depth where a shape was given.
        spec: the plain mapping that spells every range out; `load_space(spec)` gives the same space.
        left_out: why a family that the spec names cannot be used on this model and task, by family.
        narrowed: which choices the model cannot offer, by parameter.
    """

    space: SearchSpace
    spec: dict[str, Any]
    left_out: dict[str, str] = field(default_factory=dict)
    narrowed: dict[str, str] = field(default_factory=dict)


def preset_names() -> list[str]:
    """The presets that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def is_preset(spec: str) -> bool:
    """Whether a string is meant as a preset's name and not as a file's path."""
    return not spec.endswith((".yaml", ".yml")) and "/" not in spec and "\\" not in spec


def load_space(
    spec: str | Path | Mapping[str, Any], *, shape: ModelShape | None = None, task: TaskType | None = None
) -> LoadedSpace:
    """Read a search space and, where the model is known, fit it to the model.

    Args:
        spec: a preset's name, a YAML file's path, or the mapping that such a file holds.
        shape: of the model. Families that cannot work on it are left out, choices of `targets` that name
            nothing in it (or the same matrices as another choice) are dropped, layers become concrete.
        task: what the model is to learn; by default what the shape's head is for.

    Raises:
        InvalidInputError: every problem of the spec at once, or that no family is left for the model.
    """
    mapping = read_spec(spec)
    problems: list[Problem] = []
    for key in mapping:
        if key not in ("families", "parameters"):
            problems.append(
                Problem(str(key), "unknown key", did_you_mean(str(key), ("families", "parameters")))
            )
    families = _families(mapping.get("families"), problems)
    training = training_knobs(mapping.get("parameters"))
    originals = {p.name: p for p in (*_knobs(families), *training)}
    changed = _changed(originals, mapping.get("parameters"), [f.name for f in families], problems)
    if not problems:
        problems += missing_libraries(changed)
    if problems:
        raise InvalidInputError(problems)
    spelt = {
        "families": [family.name for family in families],
        "parameters": {name: spell_out(changed[name], original) for name, original in originals.items()},
    }
    if shape is None:
        return LoadedSpace(_assemble(families, training, changed), spelt)
    left_out = {f.name: reason for f in families if (reason := f.unsupported(shape, task or shape.task))}
    families = [family for family in families if family.name not in left_out]
    if not families:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise InvalidInputError(
            Problem(
                "families", f"none can work on this model and task ({reasons})", "Add others, such as head."
            )
        )
    narrowed: dict[str, str] = {}
    fitted = {
        p.name: _fit(changed[p.name], shape, narrowed, problems) for p in (*_knobs(families), *training)
    }
    if problems:
        raise InvalidInputError(problems)
    return LoadedSpace(_assemble(families, training, fitted).bind(shape.depth), spelt, left_out, narrowed)


def read_spec(spec: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    """The mapping behind a preset's name or a file's path, unchecked.

    Raises:
        InvalidInputError: there is no such preset or file, or it does not hold a mapping.
    """
    if isinstance(spec, Mapping):
        return spec
    path = Path(spec)
    if isinstance(spec, str) and is_preset(spec):
        path = PRESETS / f"{spec}.yaml"
        if not path.exists():
            fix = did_you_mean(spec, preset_names())
            raise InvalidInputError(
                Problem("", f"no preset is called {spec!r}", f"{fix} A file ends in .yaml.")
            )
    mapping = load_yaml(path)
    if not isinstance(mapping, Mapping):
        raise InvalidInputError(
            Problem(str(path), "holds no mapping", "Begin with a line families: [lora, head].")
        )
    return mapping


def _families(given: object, problems: list[Problem]) -> list[Family]:
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not names:
        known = ", ".join(REGISTRY)
        what = "missing" if given is None else f"{given!r} is not a list of families"
        problems.append(Problem("families", what, f"Write a list of some of: {known}."))
        return []
    families: list[Family] = []
    for index, name in enumerate(names):
        if not isinstance(name, str) or name not in REGISTRY:
            problems.append(
                Problem(f"families[{index}]", f"unknown family {name!r}", did_you_mean(str(name), REGISTRY))
            )
        elif REGISTRY[name] in families:
            problems.append(Problem(f"families[{index}]", f"{name!r} is there twice", "Keep one."))
        else:
            families.append(REGISTRY[name])
    return families


def _knobs(families: Sequence[Family]) -> list[Parameter]:
    """The families' own parameters under their full names."""
    return [
        replace(
            knob,
            name=f"{family.name}.{knob.name}",
            when={"family": (family.name,)}
            | {f"{family.name}.{p}": values for p, values in knob.when.items()},
        )
        for family in families
        for knob in family.knobs
    ]


def _changed(
    originals: Mapping[str, Parameter], given: object, families: list[str], problems: list[Problem]
) -> dict[str, Parameter]:
    """Every parameter with the file's entry applied."""
    changed = dict(originals)
    if given is None:
        return changed
    if not isinstance(given, Mapping):
        problems.append(
            Problem("parameters", f"{given!r} is not a mapping", "Write name: value pairs below it.")
        )
        return changed
    for name, entry in given.items():
        where = f"parameters.{name}"
        if name in originals:
            changed[name] = Override(where, problems).apply(originals[name], entry)
            continue
        family = str(name).partition(".")[0]
        if name == "family":
            problems.append(Problem(where, "not set here", "List the families under families."))
        elif family in REGISTRY and family not in families:
            fix = f"Add {family} to families, or drop this line."
            problems.append(Problem(where, f"family {family!r} is not in the space", fix))
        elif name in ON_REQUEST:
            problems.append(Problem(where, "has nothing to act on in this space", ON_REQUEST[str(name)]))
        else:
            known = (*originals, *ON_REQUEST)
            problems.append(Problem(where, "unknown parameter", did_you_mean(str(name), known)))
    return changed


def _assemble(
    families: Sequence[Family], training: Sequence[Parameter], parameters: Mapping[str, Parameter]
) -> SearchSpace:
    family = Categorical(name="family", choices=tuple(f.name for f in families))
    switches = tuple(f"{f.name}.{group}" for f in families for group in f.switches)
    knobs = (*_knobs(families), *training)
    return SearchSpace((family, *(parameters[p.name] for p in knobs)), switches)


def _fit(
    parameter: Parameter, shape: ModelShape, narrowed: dict[str, str], problems: list[Problem]
) -> Parameter:
    """The parameter with what this model can offer."""
    knob = parameter.name.rpartition(".")[2]
    if knob == "targets" and isinstance(parameter, Categorical):
        return _fit_targets(parameter, shape, narrowed, problems)
    if knob == "layers" and not isinstance(parameter, TopLayers):
        assert isinstance(parameter, Categorical | Int)
        deepest = max(map(int, parameter.choices)) if isinstance(parameter, Categorical) else parameter.high
        if deepest > shape.depth:
            what = f"asks for {deepest} layers of a model that has {shape.depth}"
            problems.append(Problem(f"parameters.{parameter.name}", what, f"Use at most {shape.depth}."))
    return parameter


def _fit_targets(
    parameter: Categorical, shape: ModelShape, narrowed: dict[str, str], problems: list[Problem]
) -> Parameter:
    kept: dict[tuple[Any, ...], Any] = {}
    dropped: list[str] = []
    for choice in parameter.choices:
        try:
            matrices = shape.select(str(choice))
        except ValueError:
            dropped.append(f"{choice} names nothing in a {shape.model_type}")
            continue
        if matrices in kept:
            dropped.append(f"{choice} is the same as {kept[matrices]} in a {shape.model_type}")
        else:
            kept[matrices] = choice
    if not kept:
        fix = "Name matrices that the model has: attention, feed-forward or all."
        problems.append(Problem(f"parameters.{parameter.name}", "; ".join(dropped), fix))
        return parameter
    if dropped:
        narrowed[parameter.name] = "; ".join(dropped)
    choices = tuple(kept.values())
    default = parameter.default if parameter.default in choices else choices[0]
    return replace(parameter, choices=choices, default=default)
