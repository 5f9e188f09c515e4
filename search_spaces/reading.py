"""Read a model's shape from its network on torch's meta device, where tensors have shapes and no storage.

Modules are recognised by their names below the layer. A module that is not in the tables is refused, since
its part in the computation, and so its cost, would be a guess.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from search_spaces.shapes import HeadMatrix, Matrix, ModelShape, Norm, Place, Role, TaskType

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig

_ROLES: dict[str, Role] = {
    # BERT, RoBERTa, ELECTRA and their kin
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "o",
    "intermediate.dense": "up",
    "output.dense": "down",
    # DistilBERT
    "attention.q_lin": "q",
    "attention.k_lin": "k",
    "attention.v_lin": "v",
    "attention.out_lin": "o",
    "ffn.lin1": "up",
    "ffn.lin2": "down",
    # ModernBERT
    "attn.Wqkv": "qkv",
    "attn.Wo": "o",
    "mlp.Wi": "gate_up",
    "mlp.Wo": "down",
    # GPT-2
    "attn.c_attn": "qkv",
    "attn.c_proj": "o",
    "mlp.c_fc": "up",
    "mlp.c_proj": "down",
    # GPT-NeoX (Pythia)
    "attention.query_key_value": "qkv",
    "attention.dense": "o",
    "mlp.dense_h_to_4h": "up",
    "mlp.dense_4h_to_h": "down",
    # Llama, Mistral, Qwen, Gemma, SmolLM, …
    "self_attn.q_proj": "q",
    "self_attn.k_proj": "k",
    "self_attn.v_proj": "v",
    "self_attn.o_proj": "o",
    "mlp.gate_proj": "gate",
    "mlp.up_proj": "up",
    "mlp.down_proj": "down",
    # Phi-3
    "self_attn.qkv_proj": "qkv",
    "mlp.gate_up_proj": "gate_up",
}
"""The role of a matrix by its name below its layer."""

_PLACES: dict[str, Place] = {
    "attention.output.LayerNorm": "feed-forward",
    "output.LayerNorm": "output",
    "sa_layer_norm": "feed-forward",
    "output_layer_norm": "output",
    "attn_norm": "attention",
    "mlp_norm": "feed-forward",
    "ln_1": "attention",
    "ln_2": "feed-forward",
    "input_layernorm": "attention",
    "post_attention_layernorm": "feed-forward",
    "pre_feedforward_layernorm": "feed-forward",
    "post_feedforward_layernorm": "output",
    "self_attn.q_norm": "q",
    "self_attn.k_norm": "k",
}
"""What a normalisation feeds by its name below its layer."""

_FINAL_NORMS = ("ln_f", "norm", "final_norm", "final_layer_norm")


def empty_network(model: str | PretrainedConfig, task: TaskType, labels: int, trust_remote_code: bool) -> Any:
    """The network on torch's meta device: every shape, no storage."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    if isinstance(model, str):
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
    else:
        config = copy.deepcopy(model)
    if task == "causal-lm":
        auto = AutoModelForCausalLM
    else:
        auto = AutoModelForSequenceClassification
        config.num_labels = 1 if task == "regression" else labels
    with torch.device("meta"):
        return auto.from_config(config, trust_remote_code=trust_remote_code)


def shape_of_network(network: Any, task: TaskType) -> ModelShape:
    """The shape of a transformers model that `empty_network` built; ValueError as `read_shape` says."""
    config = network.config
    base = getattr(network, network.base_model_prefix)
    path, layers = _find_layers(network, getattr(config, "num_hidden_layers", 0))
    matrices, norms = _read_layers(path, layers)
    around = _Surroundings(network, base, path, task)
    embedding = network.get_input_embeddings()
    width, heads = int(config.hidden_size), int(config.num_attention_heads)
    return ModelShape(
        model_type=config.model_type,
        task=task,
        labels=0 if task == "causal-lm" else int(config.num_labels),
        depth=len(layers),
        width=width,
        heads=heads,
        kv_heads=int(getattr(config, "num_key_value_heads", None) or heads),
        head_width=int(getattr(config, "head_dim", None) or width // heads),
        vocabulary=embedding.weight.shape[0],
        embedding_width=embedding.weight.shape[1],
        max_positions=getattr(config, "max_position_embeddings", None),
        layers_path=path,
        matrices=matrices,
        norms=(*norms, *around.final_norms(len(layers))),
        input_matrices=tuple(around.input_matrices),
        head=tuple(around.head),
        head_modules=tuple(around.head_modules),
        head_parameters=around.head_parameters,
        base_parameters=around.base_parameters,
        body_parameters=around.body_parameters,
        parallel=bool(getattr(config, "use_parallel_residual", False)),
        accepts_prefix=_accepts_prefix(base),
        attention_interface=base._can_set_attn_implementation(),
    )


def _find_layers(network: nn.Module, depth: int) -> tuple[str, list[nn.Module]]:
    from torch import nn

    for name, module in network.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == depth:
            roles = {_ROLES.get(below) for below, _ in module[0].named_modules()}
            if roles & {"q", "qkv"} and "o" in roles:
                return name, list(module)
    raise ValueError(
        f"model: no list of {depth} layers with known attention matrices in {type(network).__name__}; "
        f"its modules are {_summary(name for name, m in network.named_modules() if _own_parameters(m))}"
    )


def _read_layers(path: str, layers: list[nn.Module]) -> tuple[tuple[Matrix, ...], tuple[Norm, ...]]:
    found: list[tuple[Matrix, ...]] = []
    norms: list[Norm] = []
    unknown: list[str] = []
    for index, layer in enumerate(layers):
        matrices = []
        for name, module in layer.named_modules():
            sizes = _own_parameters(module)
            if name in _ROLES and len(sizes.get("weight", ())) == 2:
                matrices.append(_matrix(name, module))
            elif name in _PLACES and len(sizes.get("weight", ())) == 1:
                full = f"{path}.{index}.{name}"
                norms.append(Norm(index, full, _PLACES[name], sizes["weight"][0], "bias" in sizes))
            elif sizes:
                unknown.append(f"{path}.{index}.{name}")
        found.append(tuple(matrices))
    if unknown:
        raise ValueError(f"model: layers with modules of unknown purpose: {_summary(unknown)}")
    if any(matrices != found[0] for matrices in found):
        raise ValueError(
            f"model: the layers in {path} differ from one another; only uniform stacks are supported"
        )
    return found[0], tuple(norms)


def _matrix(name: str, module: nn.Module) -> Matrix:
    from transformers.pytorch_utils import Conv1D

    conv1d = isinstance(module, Conv1D)
    rows, columns = _own_parameters(module)["weight"]
    inputs, outputs = (rows, columns) if conv1d else (columns, rows)
    return Matrix(_ROLES[name], name, inputs, outputs, "bias" in _own_parameters(module), conv1d)


class _Surroundings:
    """What lies below and above the layers, read from the network on the meta device."""

    def __init__(self, network: Any, base: nn.Module, path: str, task: TaskType) -> None:
        from torch import nn

        self.input_matrices: list[tuple[int, int]] = []
        self.head: list[HeadMatrix] = []
        self.head_modules: list[str] = []
        self._norms: list[tuple[str, int, bool]] = []
        inside = network.base_model_prefix
        embeddings = {id(network.get_output_embeddings())} if task == "causal-lm" else set()
        unknown = []
        for name, module in base.named_modules(prefix=inside):
            sizes = _own_parameters(module)
            if not sizes or name.startswith(f"{path}."):
                continue
            below = name.removeprefix(f"{inside}.")
            if isinstance(module, nn.Embedding):
                embeddings.add(id(module))
            elif below in _FINAL_NORMS:
                self._norms.append((name, sizes["weight"][0], "bias" in sizes))
            elif below == "embeddings_project":
                self.input_matrices.append((module.in_features, module.out_features))
            elif below == "pooler.dense":
                self.head.append(_head_matrix(name, module, trained=False, per_token=False))
            elif not below.startswith("embeddings."):
                unknown.append(name)
        if unknown:
            raise ValueError(f"model: modules of unknown purpose around the layers: {_summary(unknown)}")
        if task == "causal-lm":
            self._language_head(network, inside)
        else:
            self._trained_head(network, inside)
        self._count(network, embeddings)

    def _language_head(self, network: Any, inside: str) -> None:
        output = network.get_output_embeddings()
        for name, module in network.named_modules():
            if not _own_parameters(module) or name.startswith(f"{inside}."):
                continue
            if module is not output:
                raise ValueError(
                    f"task: causal-lm needs a decoder such as gpt2 or llama, with output embeddings alone "
                    f"above its layers; {network.config.model_type} has {name} there"
                )
            self.head.append(_head_matrix(name, module, trained=False, per_token=True))

    def _trained_head(self, network: Any, inside: str) -> None:
        for child, part in network.named_children():
            if child == inside or not list(part.parameters()):
                continue
            self.head_modules.append(child)
            for name, module in part.named_modules(prefix=child):
                if len(_own_parameters(module).get("weight", ())) == 2:
                    # transformers' decoders score every token, then pick the last; its encoders pool first.
                    self.head.append(_head_matrix(name, module, trained=True, per_token=child == "score"))

    def _count(self, network: Any, embeddings: set[int]) -> None:
        trained = {id(p) for name in self.head_modules for p in network.get_submodule(name).parameters()}
        embedded = {
            id(p) for m in network.modules() if id(m) in embeddings for p in m.parameters(recurse=False)
        }
        parameters = list(network.parameters())  # each tied one once
        self.head_parameters = sum(p.numel() for p in parameters if id(p) in trained)
        self.base_parameters = sum(p.numel() for p in parameters if id(p) not in trained)
        self.body_parameters = sum(p.numel() for p in parameters if id(p) not in trained | embedded)

    def final_norms(self, depth: int) -> list[Norm]:
        return [Norm(depth, name, "final", size, bias) for name, size, bias in self._norms]


def _head_matrix(name: str, module: Any, *, trained: bool, per_token: bool) -> HeadMatrix:
    return HeadMatrix(name, module.in_features, module.out_features, trained, per_token)


def _accepts_prefix(base: nn.Module) -> bool:
    """peft hands the prefix over as `past_key_values`; a base without that argument cannot take it."""
    return "past_key_values" in inspect.signature(base.forward).parameters


def _own_parameters(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in module.named_parameters(recurse=False)}


def _summary(names: Iterable[str]) -> str:
    """The distinct names with every number as '*', in their order."""
    return ", ".join(dict.fromkeys(re.sub(r"\.\d+(?=\.|$)", ".*", name) for name in names)) or "none"
