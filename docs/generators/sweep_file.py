"""The reference page of the sweep file, from the pydantic models that read it and their docstrings."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Any

from griffe import Docstring, DocstringSectionKind, parse_google
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from docs.generators.markdown import table

_INTRODUCTION = """\
# Sweep file

A sweep file is YAML. `model`, `task` and `budget` are required; `autotune init` writes a commented file, and
`sweep.yaml` in a sweep's folder shows every default. Unknown keys are errors. Relative paths are relative to the
file.

| short form | stands for |
| --- | --- |
| `model: roberta-base` | `model: {name: roberta-base}` |
| `executor: packed` | `executor: {name: packed}` |
| `sampler: tpe` | `sampler: {name: tpe}` |
| `priors: {schedule: cosine}` | `priors: {schedule: {cosine: 4}}`, the weight against 1 of every other choice |
| `ladder: true` | a ladder with its defaults |
| `objectives: [accuracy, train_flops]` | objectives with their usual directions and scales |
| `budget: {minutes: 30}` | `budget: {hours: 0.5}` |
| `20%` | 0.2, for shares; a share of the base model's parameters, for limits on `trainable_params` |
"""
_DERIVED = {
    ("", "name"): "the file's name",
    ("", "objectives"): "the metric and `trainable_params`",
    ("objectives", "direction"): "by the name",
    ("objectives", "scale"): "by the name",
    ("task", "metric"): "by the type",
    ("task", "loss"): "`dpo` for preference",
    ("executor", "workers"): "by the name",
    ("executor", "threads"): "by the cores",
    ("executor", "chunk_tokens"): "by the device",
}
"""Defaults that validation fills in, by section and key."""
_HEADINGS = {"ParetoSpec": "`sampler: pareto`", "NamedSamplerSpec": "`sampler` by other names"}
"""Headings of models that one key of the file can hold, by the model's name."""


def sweep_file_page() -> str:
    """Return the page as Markdown."""
    from autotune import Sweep

    sections = [_section(key, model) for key, model in models(Sweep)]
    return "\n".join([_INTRODUCTION, *sections])


def models(root: type[BaseModel]) -> Iterator[tuple[str, type]]:
    """Yield the root and every model that one of its keys holds, with the key's name."""
    yield "", root
    for name, field in root.model_fields.items():
        for nested in _nested(field.annotation):
            yield name, nested
            yield from _inside(name, nested)


def _inside(key: str, model: type) -> Iterator[tuple[str, type]]:
    """Yield the models that the keys of a model can hold, with their paths in the file."""
    if issubclass(model, BaseModel):
        for name, field in model.model_fields.items():
            if not field.exclude:
                yield from ((f"{key}.{name}", nested) for nested in _nested(field.annotation))


def documented_fields(model: type) -> dict[str, str]:
    """Return the description of each field, from the section `Args` of the model's docstring."""
    docstring = Docstring(model.__doc__ or "", parser_options={"warnings": False})
    described: dict[str, str] = {}
    for section in parse_google(docstring, warnings=False):
        if section.kind is DocstringSectionKind.parameters:
            for parameter in section.value:
                for name in parameter.name.split(","):
                    described[name.strip()] = " ".join(parameter.description.split())
    return described


def _nested(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, type) and (
        issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation)
    ):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _nested(argument)


def heading(key: str, model: type) -> str:
    """Return the heading of the section on a model that a key of the file holds."""
    return f"## {_HEADINGS.get(model.__name__) or (f'`{key}`' if key else 'Top level')}"


def _section(key: str, model: type) -> str:
    summary = " ".join((model.__doc__ or "").split("\n\n")[0].split())
    described = documented_fields(model)
    rows = [
        (
            f"`{shown}`",
            _type(annotation),
            _DERIVED.get((key, name), _default(default)),
            described.get(name, ""),
        )
        for name, shown, annotation, default in _fields(model)
    ]
    return f"{heading(key, model)}\n\n{summary}\n\n{table(('key', 'value', 'default', 'meaning'), rows)}"


def _fields(model: type) -> Iterator[tuple[str, str, Any, Any]]:
    """Yield the name in Python and in the file, the type and the default of each field."""
    if issubclass(model, BaseModel):
        for name, field in model.model_fields.items():
            if field.exclude:
                continue
            default = field.default_factory() if field.default_factory else field.default  # type: ignore[call-arg]
            yield name, field.alias or name, field.annotation, default
        return
    hints = typing.get_type_hints(model)
    for item in dataclasses.fields(model):
        yield item.name, item.name, hints[item.name], item.default


_NAMES = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    type(None): "",
    dict: "mapping",
}


def _type(annotation: Any) -> str:
    """Return a field's type in words, with `Literal` as its choices and None left out."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return " or ".join(filter(None, (_type(argument) for argument in arguments)))
    if origin in (tuple, list):
        of = _type(arguments[0])
        return "list, see below" if of == "see below" else f"list of {of}"
    if origin is dict:
        return "mapping"
    if isinstance(annotation, type) and annotation not in _NAMES:
        return "see below"
    return _NAMES.get(annotation, str(annotation))


def _default(value: Any) -> str:
    if value is PydanticUndefined or value is dataclasses.MISSING:
        return "required"
    if value is None or value == () or value == "":
        return ""
    if isinstance(value, BaseModel) or dataclasses.is_dataclass(value):
        return "its defaults"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return f"`{value}`"
