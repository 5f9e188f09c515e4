"""The work of `autotune spaces` and `autotune cost`: read the shape of a model, compute, print or write."""

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
from autotune.spaces.task_forms import usual_form
from search_spaces.errors import InvalidInputError, Problem
from search_spaces.language.loader import load_space


def show_spaces(
    console: Console, model: str | None, task: str | None, space: str | None, as_json: bool
) -> None:
    """Print the presets, the families that a model supports, a space, or a space on a model.

    Args:
        console: receives the output.
        model: a model id, a folder, or a model type; None for no model.
        task: by default the model's usual one.
        space: a preset or a file; None for no space.
        as_json: print JSON instead of tables.

    Raises:
        InvalidInputError: the model or the space cannot be used.
    """
    if model is None and space is None:
        found = presets()
        if as_json:
            _print_json(console, presets_json(found))
        else:
            console.print(presets_table(found))
        return
    shape = None
    if model is not None:
        task = task or usual_task(model)
        shape = shape_of_model(model, usual_form(task).shape_task)
    form = None if task is None else usual_form(task)
    view = None if space is None else view_space(space, shape, form)
    if as_json:
        data: dict[str, Any] = {}
        if model is not None and shape is not None:
            data |= {
                "model": model_json(model, shape),
                "families": families_json(supported(shape, shape.task)),
            }
        if view is not None:
            data |= space_json(view)
        _print_json(console, data)
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
    task: str | None,
    space: str,
    tokens: int,
    samples: int,
    as_json: bool,
    html: Path | None,
) -> None:
    """Print the costs of random configurations of a space on a model.

    Args:
        console: receives the output.
        model: a model id, a folder, or a model type.
        task: by default the model's usual one.
        space: a preset or a file.
        tokens: per text, padding included.
        samples: configurations per family.
        as_json: print JSON instead of tables.
        html: also write a figure to this file.

    Raises:
        InvalidInputError: the model or the space cannot be used, or the folder of `html` does not exist.
    """
    from autotune.spaces.costs import costs_json, costs_tables, view_costs

    if html is not None and not html.parent.is_dir():
        raise InvalidInputError(
            Problem("--html", f"there is no folder {str(html.parent)!r}", "Create it, or choose another.")
        )
    form = usual_form(task or usual_task(model))
    shape = shape_of_model(model, form.shape_task)
    loaded = load_space(space, shape=shape, task=form.shape_task, loss=form.loss)
    view = view_costs(space, loaded.space, shape, tokens, samples, form)
    if as_json:
        _print_json(
            console, {"model": model_json(model, shape), **costs_json(view), "left_out": loaded.left_out}
        )
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
            console.print(f"Wrote {html}", markup=False)


def _print_json(console: Console, data: dict[str, Any]) -> None:
    """Print JSON, which must not be wrapped to the width of the terminal."""
    console.print(json.dumps(data, indent=2), markup=False, soft_wrap=True)
