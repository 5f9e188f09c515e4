"""Reading of the modules below and above the layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from search_spaces.model.layer_matrices import own_parameters
from search_spaces.model.module_names import ENCODER_NORMS, FINAL_NORMS
from search_spaces.model.parts import HeadMatrix, Norm
from search_spaces.model.shape import TaskType

if TYPE_CHECKING:
    from torch import nn


WITHOUT_LABELS = ("causal-lm", "seq2seq")
"""The tasks whose head is the output embeddings, which the model has before training."""


class Surroundings:
    """The modules below and above the layers.

    Args:
        network: the model with its head.
        inside: name of the model without its head.
        base: that model.
        paths: module paths of the lists of layers.
        task: type of the task, which determines the head.
        order: position of each module's first call, where it is known (see `Calls`).

    Raises:
        ValueError: The task is causal-lm and the model has more than output embeddings above its layers.
    """

    def __init__(
        self,
        network: Any,
        inside: str,
        base: nn.Module,
        paths: list[str],
        task: TaskType,
        order: Mapping[str, int],
    ) -> None:
        self.input_matrices: list[tuple[int, int]] = []
        self.head: list[HeadMatrix] = []
        self.head_modules: list[str] = []
        self.patches = 0
        self.patch_matrix: tuple[int, int] | None = None
        self._norms: list[tuple[str, int, bool]] = []
        self._prefix = prefix = f"{inside}." if inside else ""
        self._order = order
        self._first_layer = min(
            (at for name, at in order.items() if name.startswith(f"{paths[0]}.")), default=None
        )
        from torch import nn

        embeddings = {id(network.get_output_embeddings())} if task in WITHOUT_LABELS else set()
        for name, module in base.named_modules(prefix=inside):
            below = name.removeprefix(prefix).removeprefix("language_model.")
            is_head = task in WITHOUT_LABELS and id(module) in embeddings and isinstance(module, nn.Linear)
            if (
                own_parameters(module)
                and not is_head
                and not name.startswith(tuple(f"{path}." for path in paths))
            ):
                self._place(name, below, module, embeddings)
        if task in WITHOUT_LABELS:
            self._language_head(network, set(base.modules()) if inside else set())
        else:
            self._trained_head(network, inside, task)
        self._count(network, embeddings)

    def _place(self, name: str, below: str, module: Any, embeddings: set[int]) -> None:
        """Record the role of one module of the base model; without one it stays frozen."""
        from torch import nn

        sizes = own_parameters(module)
        if isinstance(module, nn.Embedding) or below == "embeddings":  # ViT's class token and positions
            embeddings.add(id(module))
        elif below in (*FINAL_NORMS, *ENCODER_NORMS):
            self._norms.append((name, sizes["weight"][0], "bias" in sizes))
        elif below == "embeddings.patch_embeddings.projection":
            outputs, *window = sizes["weight"]
            self.patch_matrix = (math.prod(window), outputs)
        elif below == "encoder.conv.conv":
            # A convolution over neighboring embeddings, whose output is added to that of layer 0.
            outputs, *window = sizes["weight"]
            self.input_matrices.append((math.prod(window), outputs))
        elif isinstance(module, nn.Linear):
            self._place_matrix(name, below, module)
        if below == "embeddings" and hasattr(module, "patch_embeddings"):
            self.patches = module.patch_embeddings.num_patches

    def _place_matrix(self, name: str, below: str, module: Any) -> None:
        """Record a matrix below or above the layers, by its name or by the order of the calls.

        One that is not called, such as that of ESM's contacts, multiplies nothing.
        """
        at = self._order.get(name)
        if below in ("embeddings_project", "embeddings.embed_proj", "encoder.embedding_hidden_mapping_in"):
            self.input_matrices.append((module.in_features, module.out_features))
        elif below in ("pooler.dense", "pooler"):
            self.head.append(_head_matrix(name, module, trained=False, per_token=False))
        elif at is not None and self._first_layer is not None:
            if at < self._first_layer:
                self.input_matrices.append((module.in_features, module.out_features))
            else:
                self.head.append(_head_matrix(name, module, trained=False, per_token="pooler" not in name))

    def _language_head(self, network: Any, below: set[nn.Module]) -> None:
        output = network.get_output_embeddings()
        if not below:
            below = {module for module in network.modules() if module is not output}
        for name, module in network.named_modules():
            if not own_parameters(module) or module in below:
                continue
            if module is not output:
                raise ValueError(
                    f"task: causal-lm needs a decoder such as gpt2 or llama, with only output embeddings above "
                    f"its layers; {network.config.model_type} also has {name}"
                )
            self.head.append(_head_matrix(name, module, trained=False, per_token=True))

    def _trained_head(self, network: Any, inside: str, task: TaskType) -> None:
        for child, part in network.named_children():
            if child == inside or not list(part.parameters()):
                continue
            self.head_modules.append(child)
            for name, module in part.named_modules(prefix=child):
                if len(own_parameters(module).get("weight", ())) == 2:
                    # In transformers, decoders score every token and select the last; encoders pool first.
                    per_token = child == "score" or task == "token-classification"
                    self.head.append(_head_matrix(name, module, trained=True, per_token=per_token))

    def _count(self, network: Any, embeddings: set[int]) -> None:
        trained = {id(p) for name in self.head_modules for p in network.get_submodule(name).parameters()}
        embedded = {
            id(p) for m in network.modules() if id(m) in embeddings for p in m.parameters(recurse=False)
        }
        parameters = list(network.parameters())  # tied ones appear once
        self.head_parameters = sum(p.numel() for p in parameters if id(p) in trained)
        self.base_parameters = sum(p.numel() for p in parameters if id(p) not in trained)
        self.body_parameters = sum(p.numel() for p in parameters if id(p) not in trained | embedded)

    def final_norms(self, depths: list[int]) -> list[Norm]:
        """Return the last normalization of each stack, for stacks with the given numbers of layers."""
        encoder = [f"{self._prefix}{name}" for name in ENCODER_NORMS] if len(depths) == 2 else []
        return [
            Norm(depths[0] - 1 if name in encoder else sum(depths), name, "final", size, bias)
            for name, size, bias in self._norms
        ]


def _head_matrix(name: str, module: Any, *, trained: bool, per_token: bool) -> HeadMatrix:
    bias = "bias" in own_parameters(module)
    return HeadMatrix(name, module.in_features, module.out_features, trained, per_token, bias)
