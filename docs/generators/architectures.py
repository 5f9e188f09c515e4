"""The page of architectures: for each that transformers knows, what can be adapted and by which families, or why not.

    python -m docs.generators.architectures

A few of an architecture's layers are read without weights, so that all of them take about a minute.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import transformers
from transformers import CONFIG_MAPPING, PretrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from docs.generators.families import built_in
from docs.generators.markdown import table
from search_spaces.errors import first_line
from search_spaces.model.layers import KNOWN
from search_spaces.model.parts import Role
from search_spaces.model.reader import read_shape
from search_spaces.model.shape import ModelShape, TaskType

PAGE = Path(__file__).parents[1] / "reference" / "architectures.md"

_INTRODUCTION = """\
# Architectures

This page is made by `python -m docs.generators.architectures` from a few layers of each architecture for text in
transformers. `autotune spaces --model MODEL` says the same and more of a model of yours, also of one that is not
here: its matrices are found by their names, or by their sizes and by what reads the same tensor. What is unknown
stays frozen.

* **matrices**: the roles of the matrices that carry adapters. In layers that differ, each layer has some of them;
  `mixer` is the input of a state-space mixer or of a recurrence. `experts` are routed experts, which only `lora`
  adapts and only where `targets` names them.
* **FLOPs**: *exact* if those of training equal what torch counts, to rounding. *counted* if those of a forward pass
  are counted, and those of the backward pass follow from them. *estimate* where torch cannot count without weights.
* **families that do not work**, by the number of the reason below the table. All others of the {families} families
  do.

"""

_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "bamba": {"num_hidden_layers": 2, "attn_layer_indices": [1]},
    "deepseek_v3": {"num_hidden_layers": 4},
    "deepseek_v32": {"num_hidden_layers": 4},
    "gpt_neo": {"num_layers": 2, "attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"num_hidden_layers": 2, "layer_types": ["mamba", "attention"]},
    "jamba": {"num_hidden_layers": 5},
    "lfm2": {"num_hidden_layers": 2, "layer_types": ["conv", "full_attention"]},
    "nemotron_h": {"num_hidden_layers": None, "layers_block_type": ["mamba", "attention", "mlp", "moe"]},
    "qwen3_5_text": {"num_hidden_layers": 4},
    "qwen3_next": {"num_hidden_layers": 4},
    "zamba2": {"num_hidden_layers": 3, "layers_block_type": ["hybrid", "mamba", "hybrid"]},
}
"""Fields of configurations of architectures in which two layers are not enough, or have another name."""


@dataclass(frozen=True)
class Reading:
    """What was read of one architecture.

    Args:
        kind: its type in transformers.
        tasks: the tasks that transformers has a head for and that it can be trained on.
        shape: its shape for the first of them, or None if nothing can be adapted.
        reason: why nothing can be adapted.
    """

    kind: str
    tasks: tuple[str, ...] = ()
    shape: ModelShape | None = None
    reason: str = ""


def kinds() -> list[str]:
    """Return the types of models for text that transformers has a head for."""
    return sorted({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES})


def read(kind: str) -> Reading:
    """Read a few layers of one architecture."""
    heads: dict[TaskType, Mapping[str, Any]] = {
        "causal-lm": MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        "sequence-classification": MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    }
    reason, shape, tasks = "", None, []
    for task, names in heads.items():
        if kind not in names:
            continue
        if shape is not None:
            tasks.append(_SHORT[task])
            continue
        try:
            shape = read_shape(_configuration(kind), task)
            tasks.append(_SHORT[task])
        except (
            Exception
        ) as error:  # of any kind: some of transformers' own default configurations are invalid
            reason = _reason(error)
    return Reading(kind, tuple(tasks), shape, reason)


_SHORT: Mapping[str, str] = {"causal-lm": "causal-lm", "sequence-classification": "classification"}


def _configuration(kind: str) -> PretrainedConfig:
    if kind in _FIELDS:
        return CONFIG_MAPPING[kind](**_FIELDS[kind])
    usual = CONFIG_MAPPING[kind]()
    if hasattr(usual, "text_config"):
        return CONFIG_MAPPING[kind](text_config={"num_hidden_layers": 2})
    return CONFIG_MAPPING[kind](num_hidden_layers=2) if hasattr(usual, "num_hidden_layers") else usual


def _reason(error: Exception) -> str:
    text = first_line(error).partition("; its modules are ")[0].partition("; known types")[0]
    if not isinstance(error, ValueError):
        return (
            f"transformers does not build it from its default configuration ({type(error).__name__}: {text})"
        )
    return re.sub(r"^(model|task): ", "", text)


def row(reading: Reading, notes: dict[str, int]) -> tuple[str, ...]:
    """Return the cells of an architecture; new reasons get the next number in `notes`."""
    shape = reading.shape
    assert shape is not None
    by_number: dict[int, list[str]] = {}
    for family in built_in():
        reason = family.unsupported(shape, shape.task)
        if reason is not None:
            reason = re.sub(rf"\b{re.escape(shape.model_type)}\b", "the model", reason)
            reason = reason.replace(f"the {shape.experts} experts", "the experts")
            reason = re.sub(r"supports .* for (torch\.)?nn", "supports the family for nn", reason)
            by_number.setdefault(notes.setdefault(reason, len(notes) + 1), []).append(f"`{family.name}`")
    flops = "estimate" if shape.flops_are_estimates else "exact" if shape.model_type in KNOWN else "counted"
    refused = "; ".join(f"{number}: {', '.join(names)}" for number, names in sorted(by_number.items()))
    return f"`{reading.kind}`", ", ".join(reading.tasks), ", ".join(_matrices(shape)), flops, refused or "–"


def _matrices(shape: ModelShape) -> Iterator[str]:
    present = {matrix.role for matrix in shape.matrices}
    yield from (role for role in get_args(Role) if role in present)
    if any(matrix.cross for matrix in shape.matrices):
        yield "cross-attention"
    if shape.expert_matrices:
        yield "`experts`"


def architectures_page(readings: Sequence[Reading]) -> str:
    """Return the page as Markdown."""
    notes: dict[str, int] = {}
    headings = ("type", "tasks", "matrices", "FLOPs", "families that do not work")
    rows = [row(reading, notes) for reading in readings if reading.shape is not None]
    refused = [(f"`{r.kind}`", r.reason) for r in readings if r.shape is None]
    parts = [_INTRODUCTION.format(families=len(built_in())), table(headings, rows), "\n"]
    parts += [f"{number}. {reason}\n" for reason, number in notes.items()]
    parts += ["\n## Refused\n\n", table(("type", "reason"), refused)]
    return "".join(parts)


if __name__ == "__main__":
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    warnings.simplefilter("ignore")
    PAGE.write_text(architectures_page([read(kind) for kind in kinds()]), encoding="utf-8")
    print(PAGE)
