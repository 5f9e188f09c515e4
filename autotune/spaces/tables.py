"""Output of `autotune spaces`: tables for the terminal, and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from autotune.formatting.units import counted, si, significant
from autotune.spaces.summary import Extent, SpaceView, describe, families_of
from search_spaces.families import REGISTRY
from search_spaces.language.loader import LoadedSpace
from search_spaces.model.parts import SIDES
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.structured import Sides
from search_spaces.parameters.types import Categorical, Float, Int, LayerMask, Parameter

CONTINUOUS = "continuous"
"""Replaces the number of configurations in JSON if a parameter is continuous."""


def presets_json(found: dict[str, tuple[str, LoadedSpace]]) -> dict[str, Any]:
    """Return the presets as values that JSON can represent; `found` comes from `summary.presets`."""
    return {
        "presets": {
            name: {
                "about": about,
                "families": families_of(loaded.space),
                "parameters": len(loaded.space),
            }
            for name, (about, loaded) in found.items()
        }
    }


def presets_table(found: dict[str, tuple[str, LoadedSpace]]) -> RenderableType:
    """Return the presets as a table; `found` comes from `summary.presets`."""
    table = _table("preset", "description", "families", "parameters")
    table.columns[3].justify = "right"
    for name, (about, loaded) in found.items():
        table.add_row(name, about, ", ".join(families_of(loaded.space)), str(len(loaded.space)))
    return Group(
        table, Text(), Text("Show the contents of one: autotune spaces --space adapters --model bert")
    )


def families_json(reasons: dict[str, str | None]) -> dict[str, Any]:
    """Return the families as values that JSON can represent; `reasons` comes from `summary.supported`."""
    return {
        name: {"title": REGISTRY[name].title, "supported": reason is None, "reason": reason}
        for name, reason in reasons.items()
    }


def families_table(reasons: dict[str, str | None]) -> RenderableType:
    """Return the families as a table; `reasons` comes from `summary.supported`."""
    table = _table("family", "name", "supported", "reason")
    for name, reason in reasons.items():
        works = Text("yes", style="green") if reason is None else Text("no", style="yellow")
        table.add_row(name, Text(REGISTRY[name].title), works, Text(reason or ""))
    return table


def model_json(name: str, shape: ModelShape) -> dict[str, Any]:
    """Return the facts of a model as values that JSON can represent."""
    return {
        "name": name,
        "type": shape.model_type,
        "task": shape.task,
        "layers": shape.depth,
        "width": shape.width,
        "matrices": [
            {"targets": targets, "layers": list(layers)} for layers, targets in _by_layers(shape).items()
        ],
        "routed_experts": shape.experts if shape.expert_matrices else 0,
        "flops_are_estimates": shape.flops_are_estimates,
        "base_params": shape.base_parameters,
        "head_params": shape.head_parameters,
    }


def model_line(name: str, shape: ModelShape) -> RenderableType:
    """Return a line on the model and one on its targets.

    `bert (bert): 12 layers of width 768, 109 M parameters, for sequence-classification`
    `targets: q, k, v, o, up, down`
    """
    size = f"{counted(shape.depth, 'layer')} of width {shape.width}, {si(shape.base_parameters)} parameters"
    return Text(f"{name} ({shape.model_type}): {size}, for {shape.task}\n{_matrices(shape)}\n")


def _matrices(shape: ModelShape) -> str:
    """Return which matrices can be adapted, with their layers where not every layer has them."""
    groups = []
    for layers, targets in _by_layers(shape).items():
        word = "layer" if len(layers) == 1 else "layers"
        where = "" if len(layers) == shape.depth else f" (of {word} {_ranges(layers)})"
        groups.append(f"{', '.join(targets)}{where}")
    text = f"targets: {'; '.join(groups)}"
    if shape.expert_matrices:
        text += f"; experts ({shape.experts} routed ones in a layer, for lora, only where named)"
    return text + ("; the FLOPs of this type of model are estimates" if shape.flops_are_estimates else "")


def _by_layers(shape: ModelShape) -> dict[tuple[int, ...], list[str]]:
    """Return the sites of the matrices by the layers that have them."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for matrix in shape.matrices:
        sites = groups.setdefault(tuple(shape.layers_of(matrix)), [])
        sites.extend([matrix.site] if matrix.site not in sites else [])
    return groups


def _ranges(layers: Sequence[int]) -> str:
    """Return numbers in ascending order, with runs of three or more as ranges, as in `0, 2, 4–7`."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and runs[-1][-1] == layer - 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def space_json(view: SpaceView) -> dict[str, Any]:
    """Return a space as values that JSON can represent; None for values that depend on a model."""
    size, extent = view.size, view.trainable_params
    return {
        "space": view.name,
        "size": size and (CONTINUOUS if size.configurations is None else size.configurations),
        "discrete_combinations": size and size.combinations,
        "continuous": size and list(size.continuous),
        "trainable_params": extent and _extent_json(extent),
        "by_family": {
            name: {
                "discrete_combinations": family.configurations,
                "trainable_params": _extent_json(family.trainable_params),
            }
            for name, family in view.families.items()
        },
        "parameters": [describe(parameter) for parameter in view.loaded.space.parameters],
        "left_out": view.loaded.left_out,
        "narrowed": view.loaded.narrowed,
    }


def space_table(view: SpaceView, shape: ModelShape | None) -> RenderableType:
    """Return a space for the terminal: its size, its families on the model, and its parameters."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column()
    facts.add_row("space", view.name)
    facts.add_row("size", _size_text(view))
    for family, reason in view.loaded.left_out.items():
        facts.add_row("left out", Text(f"{family}: {reason}"))
    for name, what in view.loaded.narrowed.items():
        facts.add_row("narrowed", Text(f"{name}: {what}"))
    parts: list[RenderableType] = [facts, Text()]
    if shape is not None:
        parts += [_extents_table(view, shape), Text()]
    return Group(*parts, _parameters_table(view))


def _extents_table(view: SpaceView, shape: ModelShape) -> Table:
    table = _table("family", "combinations", "min", "median", "max", "of the base model")
    for column in table.columns[1:]:
        column.justify = "right"
    table.title = "trainable parameters without the head"
    table.title_justify, table.title_style = "left", "dim"
    rows = [(name, f"{f.configurations:,}", f.trainable_params) for name, f in view.families.items()]
    assert view.trainable_params is not None
    for name, combinations, extent in [*rows, ("all families", "", view.trainable_params)]:
        ends = [extent.smallest, extent.median, extent.largest]
        share = " to ".join(share_text(end / shape.base_parameters) for end in (ends[0], ends[2]))
        about = "" if extent.is_exact else "≈ "
        table.add_row(name, combinations, about + si(ends[0]), si(ends[1]), about + si(ends[2]), share)
    return table


def _parameters_table(view: SpaceView) -> Table:
    table = _table("parameter", "values", "default")
    space = view.loaded.space
    done: set[str] = set()
    for parameter in space.parameters:
        mask = next((m for m in space.masks if parameter.name.startswith(f"{m}.")), None)
        if mask in done:
            continue
        if mask and isinstance(parameter, Categorical):
            done.add(mask)
            switches = sum(name.startswith(f"{mask}.") for name in space.names)
            table.add_row(mask, f"{switches} switches, one per layer, not all off", "all on")
        else:
            table.add_row(parameter.name, Text(_values_text(parameter)), Text(_usual(parameter)))
    return table


def _values_text(parameter: Parameter) -> str:
    """Return the values of a parameter, such as `1 to 64, log`, `0 to 0.2 by 0.05` or `linear | cosine`."""
    match parameter:
        case Categorical():
            return " | ".join(_value(choice) for choice in parameter.choices)
        case Float() | Int():
            text = f"{_value(parameter.low)} to {_value(parameter.high)}"
            if parameter.log:
                return f"{text}, log"
            stepped = parameter.step is not None and not (isinstance(parameter, Int) and parameter.step == 1)
            return f"{text} by {_value(parameter.step)}" if stepped else text
        case LayerMask():
            return "one switch per layer, not all off"
        case Sides():
            return "; ".join(f"{side}: {_values_text(parameter.on(side))}" for side in SIDES)
        case _:
            return "1 to all layers, counted from the output"


def _usual(parameter: Parameter) -> str:
    if isinstance(parameter, Categorical) and len(parameter.choices) == 1:
        return "fixed"
    return "all" if parameter.default is None else _value(parameter.default)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return significant(float(value)) if isinstance(value, int | float) else str(value)


def _size_text(view: SpaceView) -> str:
    parameters = f"{len(view.loaded.space)} search parameters"
    if view.size is None:
        return f"{parameters}; add --model for the number of configurations, which depends on the number of layers"
    number = f"{view.size.combinations:,}"
    if view.size.configurations is not None:
        return f"{number} configurations, {parameters}"
    names = dict.fromkeys(name.rpartition(".")[2] for name in view.size.continuous)
    return f"continuous ({', '.join(names)}); {number} combinations of the other parameters, {parameters}"


def share_text(share: float) -> str:
    """Return a share in [0, 1] as a percentage with three significant digits."""
    return "0" if share == 0 else f"{significant(100 * share, 3)} %"


def _extent_json(extent: Extent) -> dict[str, Any]:
    return {
        "smallest": extent.smallest,
        "median": extent.median,
        "largest": extent.largest,
        "exact": extent.is_exact,
    }


def _table(*headings: str) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
