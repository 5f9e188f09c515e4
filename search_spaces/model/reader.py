"""Reading the shape of a model from its network on torch's meta device, where tensors have no storage.

Modules are identified by their names below the layer. Models with a module that is not in the tables are rejected,
because its part in the computation, and so its cost, is unknown.
"""

from __future__ import annotations

import copy
import inspect
import math
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from search_spaces.model.module_names import (
    CROSS_ROLES,
    DECODER_PLACES,
    ENCODER_NORM,
    FINAL_NORMS,
    PLACES,
    POSITION_MATRICES,
    POSITION_NORM,
    ROLES,
)
from search_spaces.model.shape import HeadMatrix, Matrix, ModelShape, Norm, TaskType
from search_spaces.model.task_heads import missing_heads

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig


def empty_network(model: str | PretrainedConfig, task: TaskType, labels: int, trust_remote_code: bool) -> Any:
    """Build the network of a model on torch's meta device, without weights.

    Args:
        model: a configuration, a local folder with a config.json, or a hub id.
        task: type of the task, which determines the head.
        labels: number of classes of a classification.
        trust_remote_code: whether to run code that comes with the model.
    """
    import torch
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForImageClassification,
        AutoModelForSequenceClassification,
    )

    if isinstance(model, str):
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
    else:
        config = copy.deepcopy(model)
    if task == "causal-lm":
        auto = AutoModelForCausalLM
    else:
        image = task == "image-classification"
        auto = AutoModelForImageClassification if image else AutoModelForSequenceClassification
        config.num_labels = 1 if task == "regression" else labels
    with torch.device("meta"), missing_heads():
        return auto.from_config(config, trust_remote_code=trust_remote_code)


def shape_of_network(network: Any, task: TaskType) -> ModelShape:
    """Return the shape of a network that `empty_network` built.

    Raises:
        ValueError: The model is not supported; see `read_shape`.
    """
    config = network.config
    base = getattr(network, network.base_model_prefix)
    stacks = _find_stacks(network)
    matrices: list[Matrix] = []
    norms: list[Norm] = []
    for index, (path, layers) in enumerate(stacks):
        its_matrices, its_norms = _read_layers(path, layers, index, len(stacks[0][1]) if index else 0)
        matrices.extend(its_matrices)
        norms.extend(its_norms)
    depths = [len(layers) for _, layers in stacks]
    image = task == "image-classification"
    around = _Surroundings(network, base, [path for path, _ in stacks], task)
    positions = _Positions(config, base, stacks[0][1][0])
    width, heads = int(config.hidden_size), int(config.num_attention_heads)
    vocabulary, embedding_width = (0, width) if image else network.get_input_embeddings().weight.shape
    accepted = inspect.signature(network.forward).parameters
    return ModelShape(
        model_type=config.model_type,
        task=task,
        labels=0 if task == "causal-lm" else int(config.num_labels),
        depth=sum(depths),
        width=width,
        heads=heads,
        kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
        head_width=int(getattr(config, "head_dim", None) or width // heads),
        vocabulary=vocabulary,
        embedding_width=embedding_width,
        max_positions=None if image else getattr(config, "max_position_embeddings", None),
        layers_path=stacks[0][0],
        matrices=tuple(positions.mark(matrices)),
        norms=(*norms, *around.final_norms(depths)),
        input_matrices=tuple(around.input_matrices),
        head=tuple(around.head),
        head_modules=tuple(around.head_modules),
        head_parameters=around.head_parameters,
        base_parameters=around.base_parameters,
        body_parameters=around.body_parameters,
        parallel=bool(getattr(config, "use_parallel_residual", False)),
        accepts_prefix=len(stacks) == 1 and _accepts_prefix(base),
        attention_interface=base._can_set_attn_implementation(),
        accepts_embeddings=len(stacks) == 1 and "inputs_embeds" in accepted,
        decoder_path=stacks[1][0] if len(stacks) == 2 else None,
        decoder_depth=depths[1] if len(stacks) == 2 else 0,
        positions=positions.rows,
        position_terms=positions.terms,
        position_matrices=positions.matrices,
        patches=around.patches,
        patch_matrix=around.patch_matrix,
    )


def _find_stacks(network: Any) -> list[tuple[str, list[nn.Module]]]:
    """Return the module path and the layers of each stack: one, or those of encoder and decoder."""
    from torch import nn

    config = network.config
    if getattr(config, "do_layer_norm_before", True) is False:
        raise ValueError(
            "model: do_layer_norm_before is off; the positions of its normalizations are not supported"
        )
    depth = getattr(config, "num_hidden_layers", 0)
    depths = [depth]
    if getattr(config, "is_encoder_decoder", False):
        depths.append(getattr(config, "num_decoder_layers", None) or depth)
    stacks: list[tuple[str, list[nn.Module]]] = []
    for name, module in network.named_modules():
        if isinstance(module, nn.ModuleList) and len(stacks) < len(depths):
            roles = {ROLES.get(below) for below, _ in module[0].named_modules()} if len(module) else set()
            if len(module) == depths[len(stacks)] and roles & {"q", "qkv"} and "o" in roles:
                stacks.append((name, list(module)))
    if len(stacks) == len(depths):
        return stacks
    raise ValueError(
        f"model: no list of {depths[len(stacks)]} layers with known attention matrices in "
        f"{type(network).__name__}; its modules are "
        f"{_summary(name for name, m in network.named_modules() if _own_parameters(m))}"
    )


def _read_layers(
    path: str, layers: list[nn.Module], stack: int, first: int
) -> tuple[tuple[Matrix, ...], tuple[Norm, ...]]:
    """Return the matrices of one layer and all normalizations of a stack whose lowest layer has index `first`."""
    from torch import nn

    found: list[tuple[Matrix, ...]] = []
    norms: list[Norm] = []
    unknown: list[str] = []
    places = DECODER_PLACES if stack else PLACES
    for index, layer in enumerate(layers):
        matrices = []
        for name, module in layer.named_modules():
            sizes = _own_parameters(module)
            if name in ROLES | CROSS_ROLES and len(sizes.get("weight", ())) == 2:
                matrices.append(_matrix(name, module, stack))
            elif name in places and len(sizes.get("weight", ())) == 1:
                full = f"{path}.{index}.{name}"
                norms.append(Norm(first + index, full, places[name], sizes["weight"][0], "bias" in sizes))
            elif sizes and name not in POSITION_MATRICES and not isinstance(module, nn.Embedding):
                unknown.append(f"{path}.{index}.{name}")
        found.append(tuple(matrices))
    if unknown:
        raise ValueError(f"model: unknown modules in the layers: {_summary(unknown)}")
    if any(matrices != found[0] for matrices in found):
        raise ValueError(
            f"model: the layers in {path} differ from one another; only uniform stacks are supported"
        )
    return found[0], tuple(norms)


def _matrix(name: str, module: nn.Module, stack: int) -> Matrix:
    from transformers.pytorch_utils import Conv1D

    conv1d = isinstance(module, Conv1D)
    rows, columns = _own_parameters(module)["weight"]
    inputs, outputs = (rows, columns) if conv1d else (columns, rows)
    return Matrix(
        role=CROSS_ROLES.get(name) or ROLES[name],
        name=name,
        inputs=inputs,
        outputs=outputs,
        bias="bias" in _own_parameters(module),
        conv1d=conv1d,
        stack=stack,
        cross=name in CROSS_ROLES,
    )


class _Positions:
    """Relative positions of DeBERTa: their number, their products in attention, and their matrices."""

    def __init__(self, config: Any, base: Any, layer: nn.Module) -> None:
        self.rows = 0
        self.terms: tuple[str, ...] = ()
        self.matrices: tuple[tuple[int, int], ...] = ()
        self._shared = False
        if not getattr(config, "relative_attention", False):
            return
        self.rows = int(base.encoder.rel_embeddings.weight.shape[0])
        self.terms = tuple(term for term in ("c2p", "p2c") if term in (config.pos_att_type or ()))
        self._shared = bool(getattr(config, "share_att_key", False))
        if self._shared and len(self.terms) < 2:
            raise ValueError(
                f"model: with share_att_key, pos_att_type {config.pos_att_type} projects positions that are not "
                "used; only 'c2p|p2c' is supported"
            )
        modules: dict[str, Any] = dict(layer.named_modules())
        apart = [modules[name] for name in POSITION_MATRICES if name in modules]
        self.matrices = tuple((module.in_features, module.out_features) for module in apart)

    def mark(self, matrices: list[Matrix]) -> list[Matrix]:
        """Return the matrices, with the number of positions on those that positions share with the tokens."""
        if not self._shared:
            return matrices
        return [replace(m, positions=self.rows) if m.role in ("q", "k") else m for m in matrices]


class _Surroundings:
    """The modules below and above the layers."""

    def __init__(self, network: Any, base: nn.Module, paths: list[str], task: TaskType) -> None:
        self.input_matrices: list[tuple[int, int]] = []
        self.head: list[HeadMatrix] = []
        self.head_modules: list[str] = []
        self.patches = 0
        self.patch_matrix: tuple[int, int] | None = None
        self._norms: list[tuple[str, int, bool]] = []
        self._inside = inside = network.base_model_prefix
        embeddings = {id(network.get_output_embeddings())} if task == "causal-lm" else set()
        unknown = []
        for name, module in base.named_modules(prefix=inside):
            below = name.removeprefix(f"{inside}.")
            if not _own_parameters(module) or name.startswith(tuple(f"{path}." for path in paths)):
                continue
            if not self._place(name, below, module, embeddings):
                unknown.append(name)
        if unknown:
            raise ValueError(f"model: unknown modules around the layers: {_summary(unknown)}")
        if task == "causal-lm":
            self._language_head(network, inside)
        else:
            self._trained_head(network, inside)
        self._count(network, embeddings)

    def _place(self, name: str, below: str, module: Any, embeddings: set[int]) -> bool:
        """Record the role of one module of the base model; return False if it is unknown."""
        from torch import nn

        sizes = _own_parameters(module)
        if isinstance(module, nn.Embedding) or below == "embeddings":  # ViT's class token and positions
            embeddings.add(id(module))
        elif below in (*FINAL_NORMS, ENCODER_NORM):
            self._norms.append((name, sizes["weight"][0], "bias" in sizes))
        elif below in ("embeddings_project", "embeddings.embed_proj"):
            self.input_matrices.append((module.in_features, module.out_features))
        elif below == "embeddings.patch_embeddings.projection":
            outputs, *window = sizes["weight"]
            self.patch_matrix = (math.prod(window), outputs)
        elif below == "encoder.conv.conv":
            # A convolution over neighboring embeddings, whose output is added to that of layer 0.
            outputs, *window = sizes["weight"]
            self.input_matrices.append((math.prod(window), outputs))
        elif below == "pooler.dense":
            self.head.append(_head_matrix(name, module, trained=False, per_token=False))
        else:
            return below.startswith("embeddings.") or below in (POSITION_NORM, "encoder.conv.LayerNorm")
        if below == "embeddings":
            self.patches = module.patch_embeddings.num_patches
        return True

    def _language_head(self, network: Any, inside: str) -> None:
        output = network.get_output_embeddings()
        for name, module in network.named_modules():
            if not _own_parameters(module) or name.startswith(f"{inside}."):
                continue
            if module is not output:
                raise ValueError(
                    f"task: causal-lm needs a decoder such as gpt2 or llama, with only output embeddings above "
                    f"its layers; {network.config.model_type} also has {name}"
                )
            self.head.append(_head_matrix(name, module, trained=False, per_token=True))

    def _trained_head(self, network: Any, inside: str) -> None:
        for child, part in network.named_children():
            if child == inside or not list(part.parameters()):
                continue
            self.head_modules.append(child)
            for name, module in part.named_modules(prefix=child):
                if len(_own_parameters(module).get("weight", ())) == 2:
                    # In transformers, decoders score every token and select the last; encoders pool first.
                    self.head.append(_head_matrix(name, module, trained=True, per_token=child == "score"))

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
        encoder = f"{self._inside}.{ENCODER_NORM}"
        return [
            Norm(depths[0] - 1 if name == encoder else sum(depths), name, "final", size, bias)
            for name, size, bias in self._norms
        ]


def _head_matrix(name: str, module: Any, *, trained: bool, per_token: bool) -> HeadMatrix:
    bias = "bias" in _own_parameters(module)
    return HeadMatrix(name, module.in_features, module.out_features, trained, per_token, bias)


def _accepts_prefix(base: nn.Module) -> bool:
    """Return whether the base model has the argument `past_key_values`, through which peft passes a prefix."""
    return "past_key_values" in inspect.signature(base.forward).parameters


def _own_parameters(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in module.named_parameters(recurse=False)}


def _summary(names: Iterable[str]) -> str:
    """Join the distinct names, with every number replaced by '*', in order."""
    return ", ".join(dict.fromkeys(re.sub(r"\.\d+(?=\.|$)", ".*", name) for name in names)) or "none"


def read_shape(
    model: str | PretrainedConfig,
    task: TaskType,
    labels: int = 2,
    *,
    trust_remote_code: bool = False,
    quantized: bool = False,
) -> ModelShape:
    """Read the shape of a model from its configuration, without loading or allocating weights.

    Args:
        model: a configuration, a local folder with a config.json, or a hub id.
        task: type of the task, which determines the head.
        labels: number of classes of a classification; ignored for regressions and language models.
        trust_remote_code: whether to run code that comes with the model.
        quantized: whether the model will be loaded with its matrices in 8 or 4 bits.

    Raises:
        MissingHeadError: transformers has no head for the task on the architecture.
        ValueError: The task is causal-lm and the model is not a decoder, or the model has unknown modules, so
            that its costs would be wrong.

    Example:
        >>> read_shape("roberta-base", "sequence-classification").depth
        12
    """
    shape = shape_of_network(empty_network(model, task, labels, trust_remote_code), task)
    return replace(shape, quantized=quantized)
