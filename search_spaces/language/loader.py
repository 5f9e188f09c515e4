"""Load a search space from the name of a preset, a YAML file or a mapping.

    include: lora-plain                # a preset or a file to start from, or a list; see includes.py
    families: [lora, ia3, head]        # each has its own parameters; `all` for all families
    parameters:                        # overrides by name; see overrides.py for the forms
      lora.rank: {low: 1, high: 16}
      lora.layers: {mask: true}
      lora.scale: {when: {lora.dora: true}}
      batch_size: 16
    constraints:                       # constraints on every configuration; see constraints.py
      - trainable_params <= 0.5%

The space consists of `family`, then the parameters of each family as `family.name`, which are active only if that
family is chosen, then the training parameters (`parameters/training.py`), which all families share. Every key is
optional except `families`, which an included file may provide. The guide is `docs/guides/search-spaces.md`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from search_spaces.errors import InvalidInputError, Problem, did_you_mean
from search_spaces.families import REGISTRY
from search_spaces.families.framework.base import Family, TaskType, unsupported_reason
from search_spaces.language.amounts import bind_split
from search_spaces.language.conditions import add_conditions, drop_impossible, sort_by_dependency
from search_spaces.language.constraints import Constraint, read_constraints
from search_spaces.language.expert_targets import expert_problems, roles_of_family, selected_by_family
from search_spaces.language.includes import PRESETS, Composed, compose, find_spec, is_preset, preset_names
from search_spaces.language.override_forms import override_entry
from search_spaces.language.overrides import Override
from search_spaces.model.parts import FUSED, TARGETS, Matrix
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.structured import Sides, TargetSubset
from search_spaces.parameters.training import ON_REQUEST, TRAINING, missing_libraries, training_parameters
from search_spaces.parameters.types import Categorical, Int, Parameter, Structured, Value
from search_spaces.space import SearchSpace

__all__ = ["PRESETS", "TRAINING", "LoadedSpace", "is_preset", "load_space", "preset_names"]


@dataclass(frozen=True)
class LoadedSpace:
    """A search space with the specification it was loaded from.

    Args:
        space: the search space, bound to the model if a shape was given.
        spec: the complete mapping with all ranges; `load_space(spec)` gives the same space.
        left_out: reasons, by family, why a family of the specification does not work on the model and task.
        narrowed: notes, by parameter, on choices that the model cannot offer and on parameters that can never be
            active.
        constraints: constraints on every configuration. They are not part of `space`, because constraints on
            costs need a cost model.
    """

    space: SearchSpace
    spec: dict[str, object]
    left_out: dict[str, str] = field(default_factory=dict)
    narrowed: dict[str, str] = field(default_factory=dict)
    constraints: tuple[Constraint, ...] = ()


@dataclass(frozen=True)
class _Read:
    """A space specification, validated except against the model."""

    families: list[Family]
    training: tuple[Parameter, ...]
    parameters: dict[str, Parameter]
    constraints: tuple[Constraint, ...]

    @property
    def spec(self) -> dict[str, object]:
        originals = _originals(self.families, self.training)
        spelled: dict[str, object] = {
            "families": [family.name for family in self.families],
            "parameters": {name: override_entry(self.parameters[name], p) for name, p in originals.items()},
        }
        return spelled | ({"constraints": [str(c) for c in self.constraints]} if self.constraints else {})


def load_space(
    spec: str | Path | Mapping[str, object],
    *,
    shape: ModelShape | None = None,
    task: TaskType | None = None,
    folder: str | Path = "",
    loss: str | None = None,
    examples: int | None = None,
) -> LoadedSpace:
    """Load a search space and, if the model is known, bind it to the model.

    Args:
        spec: the name of a preset, the path of a YAML file, or a mapping with the contents of such a file.
        shape: shape of the model. Families that do not work on it are left out, choices of `targets` that match
            no module (or the same modules as another choice) are dropped, and structured parameters expand.
        task: type of the task; by default that of the shape.
        folder: folder for relative paths; those in a file are relative to the folder of the file.
        loss: loss of a task on preference pairs, which adds parameters to the space.
        examples: number of training examples, to which shares and numbers of them are bound.

    Raises:
        InvalidInputError: The specification is invalid (with all problems), or no family works on the model.

    Example:
        >>> load_space({"families": ["lora"], "parameters": {"lora.rank": {"high": 16}}}).space["lora.rank"].high
        16
    """
    problems: list[Problem] = []
    mapping, inner = find_spec(spec, Path(folder))
    within = () if isinstance(spec, Mapping) else (_key(spec, Path(folder)),)
    composed = compose(mapping, inner, _check, problems, within)
    if composed.families is None and problems:  # an include that failed may have provided them
        raise InvalidInputError(problems)
    read, narrowed = _read(composed, problems, loss), dict[str, str]()
    bound = bind_split(read.parameters, examples, narrowed, problems)
    if problems:
        raise InvalidInputError(problems)
    if shape is None:
        space = _assemble(read.families, bound, narrowed, problems)
        return LoadedSpace(space, read.spec, {}, narrowed, read.constraints)
    left_out = {
        f.name: why for f in read.families if (why := unsupported_reason(f, shape, task or shape.task))
    }
    families = [family for family in read.families if family.name not in left_out]
    if not families:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise InvalidInputError(
            Problem("families", f"none works on this model and task ({reasons})", "Add others, such as head.")
        )
    names = _originals(families, read.training)
    fitted = {name: _fit(bound[name], shape, narrowed, problems) for name in names}
    if not problems:
        problems += expert_problems(fitted.values(), shape)
    if problems:
        raise InvalidInputError(problems)
    space = _assemble(families, fitted, narrowed, problems)
    space = space.bind(shape.depth, [matrix.role for matrix in shape.matrices], shape.decoder_depth)
    return LoadedSpace(space, read.spec, left_out, narrowed, read.constraints)


def _key(spec: str | Path, folder: Path) -> str:
    if isinstance(spec, str) and is_preset(spec):
        return spec
    return str((folder / Path(spec).expanduser()).resolve())


def _check(part: Composed) -> list[Problem]:
    """Return the problems of an included part; a part without families is validated with the whole."""
    problems: list[Problem] = []
    if part.families is not None:
        _read(part, problems)
    elif not isinstance(part.parameters, Mapping):
        problems.append(_no_mapping(part.parameters))
    elif not isinstance(part.constraints, list):
        read_constraints(part.constraints, {}, problems)
    return problems


def _read(composed: Composed, problems: list[Problem], loss: str | None = None) -> _Read:
    families = _families(composed.families, problems)
    training = training_parameters(composed.parameters, loss)
    originals = _originals(families, training)
    entries = _entries(composed, originals, families, problems)
    changed = {
        name: Override(f"parameters.{name}", problems).apply(original, entries[name])
        if name in entries
        else original
        for name, original in originals.items()
    }
    if families:
        family = _family(families)
        needed = [p.name for p in TRAINING] + [f"{f.name}.learning_rate" for f in families]
        conditional = add_conditions({"family": family, **changed}, entries, needed, problems)
        changed = {name: conditional[name] for name in originals}
        sort_by_dependency([family, *changed.values()], problems)
    concrete: dict[str, Parameter] = {"family": _family(families)} if families else {}
    concrete |= {part.name: part for p in changed.values() for part in _parts(p)}
    if not problems:
        problems += missing_libraries(changed)
    return _Read(families, training, changed, read_constraints(composed.constraints, concrete, problems))


def _parts(parameter: Parameter) -> tuple[Parameter, ...]:
    """Return the concrete parameters that a constraint can name, for a model with all roles and two layers."""
    if not isinstance(parameter, Structured):
        return (parameter,)
    return parameter.bind(2, (*TARGETS["all"], *dict.fromkeys(FUSED.values())), 1)


def _family(families: Sequence[Family]) -> Categorical:
    return Categorical(name="family", choices=tuple(f.name for f in families))


def _families(raw: object, problems: list[Problem]) -> list[Family]:
    names = list(REGISTRY) if raw == "all" else [raw] if isinstance(raw, str) else raw
    if not isinstance(names, list | tuple) or not names:
        known = ", ".join(REGISTRY)
        what = "missing" if raw is None else f"{raw!r} is not a list of families"
        problems.append(Problem("families", what, f"Write all, or a list of some of: {known}."))
        return []
    families: list[Family] = []
    for index, name in enumerate(names):
        if not isinstance(name, str) or name not in REGISTRY:
            problems.append(
                Problem(f"families[{index}]", f"unknown family {name!r}", did_you_mean(str(name), REGISTRY))
            )
        elif REGISTRY[name] in families:
            problems.append(Problem(f"families[{index}]", f"{name!r} appears twice", "Keep one."))
        else:
            families.append(REGISTRY[name])
    return families


def _family_parameters(families: Sequence[Family]) -> list[Parameter]:
    """Return the parameters of the families under their full names."""
    return [
        replace(
            parameter,
            name=f"{family.name}.{parameter.name}",
            when={"family": (family.name,)}
            | {f"{family.name}.{p}": values for p, values in parameter.when.items()},
        )
        for family in families
        for parameter in family.parameters
    ]


def _originals(families: Sequence[Family], training: Sequence[Parameter]) -> dict[str, Parameter]:
    """Return every parameter without overrides, by name."""
    return {p.name: p for p in (*_family_parameters(families), *training)}


def _entries(
    composed: Composed,
    originals: Mapping[str, Parameter],
    families: Sequence[Family],
    problems: list[Problem],
) -> dict[str, object]:
    """Return the file's entries for parameters of the space; report entries for any other parameter."""
    raw = composed.parameters
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        problems.append(_no_mapping(raw))
        return {}
    names = [family.name for family in families]
    for name in raw:
        where = f"parameters.{name}"
        family = str(name).partition(".")[0]
        absent = family in REGISTRY and family not in names
        if name in originals or (absent and name in composed.inherited):
            continue
        if name == "family":
            problems.append(Problem(where, "cannot be set here", "List the families under families."))
        elif absent:
            fix = f"Add {family} to families, or drop this line."
            problems.append(Problem(where, f"family {family!r} is not in the space", fix))
        elif name in ON_REQUEST:
            problems.append(Problem(where, "is not in this space", ON_REQUEST[str(name)]))
        else:
            problems.append(
                Problem(where, "unknown parameter", did_you_mean(str(name), (*originals, *ON_REQUEST)))
            )
    return {name: entry for name, entry in raw.items() if name in originals}


def _no_mapping(raw: object) -> Problem:
    return Problem("parameters", f"{raw!r} is not a mapping", "Write name: value pairs below it.")


def _assemble(
    families: Sequence[Family],
    parameters: Mapping[str, Parameter],
    narrowed: dict[str, str],
    problems: list[Problem],
) -> SearchSpace:
    ordered = sort_by_dependency([_family(families), *parameters.values()], problems)
    assert not problems, "cycles are reported when the space is read"
    switches = tuple(f"{f.name}.{group}" for f in families for group in f.switches)
    return SearchSpace(tuple(drop_impossible(ordered, narrowed)), switches)


def _fit(
    parameter: Parameter,
    shape: ModelShape,
    narrowed: dict[str, str],
    problems: list[Problem],
    side: str = "",
) -> Parameter:
    """Restrict a parameter, or one side of it, to what the model offers."""
    local_name = parameter.name.rpartition(".")[2]
    if isinstance(parameter, Sides):
        return _fit_sides(parameter, shape, narrowed, problems)
    if isinstance(parameter, TargetSubset):
        return _fit_subset(parameter, shape, problems)
    if local_name == "targets" and isinstance(parameter, Categorical):
        return _fit_targets(parameter, shape, narrowed, problems, side)
    if isinstance(parameter, Categorical):
        parameter = _fit_choices(parameter, shape, narrowed, problems)
    if local_name == "layers" and not isinstance(parameter, Structured):
        assert isinstance(parameter, Categorical | Int)
        deepest = max(map(int, parameter.choices)) if isinstance(parameter, Categorical) else parameter.high
        depth = {"": shape.depth, "encoder": shape.encoder_depth, "decoder": shape.decoder_depth}[side]
        if deepest > depth:
            whole = f"{'an' if side == 'encoder' else 'a'} {side or 'model'}"
            what = f"selects {deepest} layers of {whole} with {depth}"
            problems.append(Problem(f"parameters.{parameter.name}", what, f"Use at most {depth}."))
    return parameter


def _fit_sides(
    parameter: Sides, shape: ModelShape, narrowed: dict[str, str], problems: list[Problem]
) -> Parameter:
    if shape.decoder_depth:
        return replace(
            parameter,
            encoder=_fit(parameter.encoder, shape, narrowed, problems, "encoder"),
            decoder=_fit(parameter.decoder, shape, narrowed, problems, "decoder"),
        )
    if parameter.encoder != parameter.decoder:
        what = f"its encoder and its decoder differ, and a {shape.model_type} has one stack"
        problems.append(Problem(f"parameters.{parameter.name}.sides", what, "Write it without sides."))
        return parameter
    narrowed[parameter.name] = f"one for both sides, because a {shape.model_type} has one stack"
    return _fit(replace(parameter.encoder, when=parameter.when), shape, narrowed, problems)


def _fit_targets(
    parameter: Categorical,
    shape: ModelShape,
    narrowed: dict[str, str],
    problems: list[Problem],
    side: str,
) -> Parameter:
    of_model = f"the {side} of a {shape.model_type}" if side else f"a {shape.model_type}"
    kept: dict[tuple[Matrix, ...], Value] = {}
    dropped: list[str] = []
    for choice in parameter.choices:
        try:
            matrices = selected_by_family(parameter.name, f"{side}.{choice}" if side else str(choice), shape)
        except ValueError as error:
            matches_none = "matches no module" in str(error)
            why = f"matches no module in {of_model}" if matches_none else str(error).partition(" ")[2]
            dropped.append(f"{choice} {why}" if matches_none else why)
            continue
        if matrices in kept:
            dropped.append(f"{choice} is the same as {kept[matrices]} in {of_model}")
        else:
            kept[matrices] = choice
    if not kept:
        fix = "Name matrices that the model has: attention, feed-forward or all."
        problems.append(Problem(f"parameters.{parameter.name}", "; ".join(dropped), fix))
        return parameter
    if dropped:
        narrowed[f"{parameter.name}.{side}" if side else parameter.name] = "; ".join(dropped)
    choices = tuple(kept.values())
    default = parameter.default if parameter.default in choices else choices[0]
    return replace(parameter, choices=choices, default=default)


def _fit_choices(
    parameter: Categorical, shape: ModelShape, narrowed: dict[str, str], problems: list[Problem]
) -> Categorical:
    """Drop the choices that the family excludes on the model."""
    family, _, local_name = parameter.name.partition(".")
    excluded = REGISTRY[family].excluded(shape).get(local_name, {}) if family in REGISTRY else {}
    dropped = [choice for choice in parameter.choices if choice in excluded]
    if not dropped:
        return parameter
    by_reason: dict[str, list[str]] = {}
    for choice in dropped:
        by_reason.setdefault(excluded[choice], []).append(local_name if choice is True else str(choice))
    what = "; ".join(
        f"{', '.join(names)}{': each' if len(names) > 1 else ''} {reason}"
        for reason, names in by_reason.items()
    )
    choices = tuple(choice for choice in parameter.choices if choice not in excluded)
    if not choices:
        problems.append(Problem(f"parameters.{parameter.name}", what, "Give another value."))
        return parameter
    narrowed[parameter.name] = what
    default = parameter.default if parameter.default in choices else choices[0]
    return replace(parameter, choices=choices, default=default)


def _fit_subset(parameter: TargetSubset, shape: ModelShape, problems: list[Problem]) -> Parameter:
    try:
        parameter.bind(shape.depth, [matrix.role for matrix in shape.matrices])
    except ValueError as error:
        what = str(error).removeprefix(f"{parameter.name}: ")
        problems.append(Problem(f"parameters.{parameter.name}.subset", what, "Name roles that it has."))
        return parameter
    usable = roles_of_family(parameter.name, shape)
    return replace(parameter, roles=tuple(role for role in parameter.roles or usable if role in usable))
