"""What `autotune spaces` and `autotune cost` do: read the model's shape, find out, print or write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from autotune.scaffold.model_shape import shape_of_model, usual_task
from autotune.spaces.summary import presets, supported, view_space
from autotune.spaces.tables import (
    families_json,
    families_table,
    model_json,
    model_line,
    presets_json,
    presets_table,
    space_json,
    space_table,
)
from search_spaces.errors import InvalidInputError, Problem
from search_spaces.families.framework.base import TaskType
from search_spaces.language.loader import load_space


def show_spaces(
    console: Console, model: str | None, task: TaskType | None, space: str | None, as_json: bool
) -> None:
    """The presets, the families for a model, a space, or a space on a model; without a task for its usual one.

    Raises:
        InvalidInputError: the model or the space cannot be used.
    """
    if model is None and space is None:
        found = presets()
        _show(console, presets_json(found) if as_json else presets_table(found))
        return
    shape = None
    if model is not None:
        task = task or usual_task(model)
        shape = shape_of_model(model, task)
    view = None if space is None else view_space(space, shape, task)
    if as_json:
        data: dict[str, Any] = {}
        if model is not None and shape is not None:
            data |= {
                "model": model_json(model, shape),
                "families": families_json(supported(shape, shape.task)),
            }
        if view is not None:
            data |= space_json(view)
        _show(console, data)
        return
    if model is not None and shape is not None:
        console.print(model_line(model, shape))
        if view is None:
            console.print(families_table(supported(shape, shape.task)))
    if view is not None:
        console.print(space_table(view, shape))


def show_costs(
    console: Console,
    model: str,
    task: TaskType | None,
    space: str,
    tokens: int,
    samples: int,
    as_json: bool,
    html: Path | None,
) -> None:
    """What the configurations of a space cost on a model; without a task for its usual one.

    Raises:
        InvalidInputError: the model or the space cannot be used, or the page has no folder to go to.
    """
    from autotune.spaces.costs import costs_json, costs_tables, view_costs

    if html is not None and not html.parent.is_dir():
        raise InvalidInputError(
            Problem("--html", f"there is no folder {str(html.parent)!r}", "Make it first.")
        )
    task = task or usual_task(model)
    shape = shape_of_model(model, task)
    loaded = load_space(space, shape=shape, task=task)
    view = view_costs(space, loaded.space, shape, tokens, samples)
    if as_json:
        _show(console, {"model": model_json(model, shape), **costs_json(view), "left_out": loaded.left_out})
    else:
        console.print(model_line(model, shape))
        console.print(costs_tables(view))
        for family, reason in loaded.left_out.items():
            console.print(f"{family} left out: {reason}", markup=False)
    if html is not None:
        from autotune.figures.space_costs import plot_space_costs
        from autotune.results.tables import write_whole

        page = plot_space_costs(view).to_html(include_plotlyjs=True)
        write_whole(html, lambda partial: partial.write_text(page, encoding="utf-8"))
        if not as_json:
            console.print(f"{html} written", markup=False)


def _show(console: Console, what: Any) -> None:
    """A table as it is, plain values as JSON that no terminal's width breaks."""
    if isinstance(what, dict):
        console.print(json.dumps(what, indent=2), markup=False, soft_wrap=True)
    else:
        console.print(what)
