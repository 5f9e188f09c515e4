"""`autotune spaces` and `autotune cost`: search spaces before any training."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from autotune.cli import terminal
from autotune.cli.parameters import Json


class CostTask(StrEnum):
    """Tasks whose costs are known: those that a sweep can train."""

    CLASSIFICATION = "sequence-classification"
    TOKENS = "token-classification"
    LABELS = "multi-label-classification"
    IMAGES = "image-classification"
    REGRESSION = "regression"
    CAUSAL_LM = "causal-lm"
    SEQ2SEQ = "seq2seq"
    PREFERENCE = "preference"


Task = Annotated[
    CostTask | None,
    typer.Option(
        help="The task; by default text classification, or image classification for an image model.",
        show_default=False,
    ),
]
_MODEL = typer.Option(
    help="A Hugging Face model id, a folder with a config.json, or a model type such as bert.",
    show_default=False,
)
_SPACE = typer.Option(help="The name of a preset, or a YAML file with a search space.", show_default=False)


def spaces(
    model: Annotated[str | None, _MODEL] = None,
    task: Task = None,
    space: Annotated[str | None, _SPACE] = None,
    as_json: Json = False,
) -> None:
    """Show the presets, the adapter families that a model supports, or the contents of a search space.

    With --space: the number of configurations, the parameters, and the smallest and largest adapters. The model's
    weights are not needed.

    \b[dim]$[/] autotune spaces
    [dim]$[/] autotune spaces --model gpt2 --task causal-lm
    [dim]$[/] autotune spaces --model roberta-base --space adapters --json | jq .trainable_params
    """
    from autotune.cli.spaces import show_spaces

    show_spaces(terminal.console(), model, task.value if task else None, space, as_json)


def cost(
    model: Annotated[str, _MODEL],
    space: Annotated[str, _SPACE],
    task: Task = None,
    tokens: Annotated[
        int, typer.Option(min=1, help="Tokens per text, padding included; ignored for images.")
    ] = 128,
    samples: Annotated[int, typer.Option(min=1, help="Random configurations per family.")] = 2000,
    as_json: Json = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a figure as HTML.", show_default=False)
    ] = None,
) -> None:
    """Show the costs of a search space before any training, absolute and relative to full fine-tuning.

    Parameters, stored bytes and FLOPs follow from the shape of the model. Its weights are not needed. An example of
    preference is two texts, one with each answer; training includes the base model's pass over both, as for dpo.

    \b[dim]$[/] autotune cost --model bert --space adapters
    [dim]$[/] autotune cost --model ./llama --space lora --task causal-lm --tokens 1024 --html costs.html
    """
    from autotune.cli.spaces import show_costs

    show_costs(terminal.console(), model, task.value if task else None, space, tokens, samples, as_json, html)
