"""The shape of a transformer: what costs and adapter families need to know about it, and no weights.

A layer is described by the roles of its matrices. `q`, `k`, `v` and `o` belong to attention; `up`, `gate`
and `down` to the feed-forward part. A fused projection is one matrix with a role of its own: `qkv` (GPT-2's
c_attn) or `gate_up` (ModernBERT's Wi). Layer 0 is next to the input. All sizes are in units of one number
(not bytes), all names are dotted module paths as in `torch.nn.Module.named_modules`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from transformers import PretrainedConfig

TaskType = Literal["sequence-classification", "regression", "causal-lm"]
Role = Literal["q", "k", "v", "qkv", "o", "gate", "up", "gate_up", "down"]
Place = Literal["attention", "q", "k", "feed-forward", "output", "final"]
"""What a normalisation feeds: attention (or its queries or keys alone), the feed-forward part, the output of
its layer, or, as the last of all, the head."""

FUSED: dict[str, Role] = {"q": "qkv", "k": "qkv", "v": "qkv", "gate": "gate_up", "up": "gate_up"}
"""The fused matrix that stands for a role where the model has no matrix of that role alone."""

TARGETS: dict[str, tuple[str, ...]] = {
    "attention": ("q", "k", "v", "o"),
    "feed-forward": ("gate", "up", "down"),
    "all": ("q", "k", "v", "o", "gate", "up", "down"),
}
"""Names for sets of roles."""

_ASKABLE = (*TARGETS["all"], "qkv", "gate_up")


@dataclass(frozen=True)
class Matrix:
    """One weight matrix of a layer; `conv1d` where it is stored transposed (transformers' Conv1D)."""

    role: Role
    name: str
    inputs: int
    outputs: int
    bias: bool
    conv1d: bool = False


@dataclass(frozen=True)
class Norm:
    """One normalisation with trainable parameters: a scale and, with `bias` (LayerNorm), a shift.

    `layer` is the depth for the last one of all; `name` is the full module path.
    """

    layer: int
    name: str
    place: Place
    size: int
    bias: bool

    @property
    def parameters(self) -> int:
        return self.size * (2 if self.bias else 1)


@dataclass(frozen=True)
class HeadMatrix:
    """One matrix above the layers: run on each token or once a sequence, trained or frozen."""

    name: str
    inputs: int
    outputs: int
    trained: bool
    per_token: bool


@dataclass(frozen=True)
class ModelShape:
    """A base model with its head for one task.

    Args:
        model_type: transformers' name of the architecture.
        task, labels: what the head is for; one label for a regression, none for a language model.
        depth, width: layers, and the size of the hidden state.
        heads, kv_heads, head_width: attention heads, those of keys and values, the size of each.
        vocabulary, embedding_width: rows and columns of the word embeddings.
        max_positions: the longest sequence that the configuration allows, None if it sets no limit.
        layers_path: the module path of the list of layers.
        matrices: of each layer (all layers are alike), named below the layer, in the order of the module.
        norms: of all layers, and the last one; without that of the embeddings, which no family trains.
        input_matrices: (inputs, outputs) of matrices between the embeddings and layer 0 (ELECTRA).
        head: the matrices above the layers, in the order in which they run.
        head_modules: modules trained in full beside the adapter, for peft's `modules_to_save`.
        head_parameters: numbers in `head_modules`.
        base_parameters: numbers in everything else, tied weights counted once.
        body_parameters: `base_parameters` without embeddings and without the output embeddings.
        parallel: the feed-forward part reads the layer's input, not attention's output (GPT-NeoX).
        accepts_prefix: the model takes keys and values computed elsewhere, as prefix tuning needs.
        attention_interface: attention runs through transformers' exchangeable functions.
    """

    model_type: str
    task: TaskType
    labels: int
    depth: int
    width: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int
    embedding_width: int
    max_positions: int | None
    layers_path: str
    matrices: tuple[Matrix, ...]
    norms: tuple[Norm, ...]
    input_matrices: tuple[tuple[int, int], ...]
    head: tuple[HeadMatrix, ...]
    head_modules: tuple[str, ...]
    head_parameters: int
    base_parameters: int
    body_parameters: int
    parallel: bool
    accepts_prefix: bool
    attention_interface: bool

    @property
    def attention_width(self) -> int:
        """The width of the queries, and of keys and values once repeated for grouped heads."""
        return self.heads * self.head_width

    @property
    def kv_width(self) -> int:
        """The width of the keys (and of the values) as a cache stores them."""
        return self.kv_heads * self.head_width

    @property
    def conv1d(self) -> bool:
        """Whether the layers' matrices are stored transposed; peft's `fan_in_fan_out`."""
        return self.matrices[0].conv1d

    @cached_property
    def _selections(self) -> dict[str, tuple[Matrix, ...]]:
        return {}

    def select(self, targets: str) -> tuple[Matrix, ...]:
        """The matrices of a layer that `targets` names.

        It is "attention", "feed-forward", "all", or roles joined as in "q+v". A role inside a fused matrix
        selects that matrix, once. A role that the model does not have (a gate) selects nothing.

        Raises:
            ValueError: a word is not a role, or nothing is selected.
        """
        if targets not in self._selections:
            self._selections[targets] = self._select(targets)
        return self._selections[targets]

    def _select(self, targets: str) -> tuple[Matrix, ...]:
        asked = TARGETS.get(targets) or tuple(targets.split("+"))
        unknown = [role for role in asked if role not in _ASKABLE]
        if unknown:
            raise ValueError(
                f"targets: {targets!r} names {unknown}; write {', '.join(TARGETS)}, or roles among "
                f"{', '.join(_ASKABLE)} joined by '+'"
            )
        present = {matrix.role for matrix in self.matrices}
        roles = {role if role in present else FUSED.get(role) for role in asked}
        selected = tuple(matrix for matrix in self.matrices if matrix.role in roles)
        if not selected:
            raise ValueError(
                f"targets: {targets!r} selects nothing in {self.model_type}; it has {sorted(present)}"
            )
        return selected

    def modules(self, layers: Iterable[int], matrices: Iterable[Matrix]) -> str:
        """A regular expression that matches exactly those matrices of those layers, as peft reads it."""
        numbers = "|".join(str(layer) for layer in layers)
        names = "|".join(re.escape(matrix.name) for matrix in matrices)
        return rf"{re.escape(self.layers_path)}\.({numbers})\.({names})"


def read_shape(
    model: str | PretrainedConfig, task: TaskType, labels: int = 2, *, trust_remote_code: bool = False
) -> ModelShape:
    """The shape of a model, from its configuration alone: no weights are read, and none take up memory.

    Args:
        model: a configuration, a local folder with a config.json, or a hub id.
        labels: classes of a classification; a regression has one output and a language model none.
        trust_remote_code: run code that comes with the model. Off unless the caller says so.

    Raises:
        ValueError: the model is no decoder but the task is causal-lm, or it has modules whose part in the
            computation is not known here, so that costs would be wrong.
    """
    from search_spaces.reading import empty_network, shape_of_network

    return shape_of_network(empty_network(model, task, labels, trust_remote_code), task)
