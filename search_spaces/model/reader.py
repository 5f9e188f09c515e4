"""Reading the shape of a model from its network on torch's meta device, where tensors have no storage.

The matrices of a layer are found by their names and sizes, and normalizations also by the order of the calls. Other
weights of a layer stay frozen and are priced by their sizes. A model is rejected if its layers have no matrix in
common that an adapter can be put on.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from search_spaces.model.call_order import Calls, record_calls
from search_spaces.model.forward_flops import corrected
from search_spaces.model.frozen_parts import expert_count, longformer_parts, xlnet_parts
from search_spaces.model.layers import KNOWN, find_stacks, known_types, read_layers
from search_spaces.model.module_names import POSITION_MATRICES, UNADAPTABLE
from search_spaces.model.parts import Matrix
from search_spaces.model.shape import ModelShape, TaskType
from search_spaces.model.surroundings import WITHOUT_LABELS, Surroundings
from search_spaces.model.task_heads import missing_heads
from search_spaces.truncation import truncated_config

if TYPE_CHECKING:
    from torch import nn
    from transformers import PretrainedConfig


def empty_network(
    model: str | PretrainedConfig,
    task: TaskType,
    labels: int,
    trust_remote_code: bool,
    layers: float | None = None,
) -> Any:
    """Build the network of a model on torch's meta device, without weights.

    Args:
        model: a configuration, a local folder with a config.json, or a hub id.
        task: type of the task, which determines the head.
        labels: number of classes of a classification.
        trust_remote_code: whether to run code that comes with the model.
        layers: the share of the lowest layers that the network has; None for all of them.
    """
    import torch
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForImageClassification,
        AutoModelForSeq2SeqLM,
        AutoModelForSequenceClassification,
        AutoModelForTokenClassification,
    )

    if isinstance(model, str):
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
    else:
        config = copy.deepcopy(model)
    if layers is not None:
        config = truncated_config(config, layers)
    encoder_decoder = bool(getattr(config, "is_encoder_decoder", False))  # a language model's is switched off
    heads = {
        "causal-lm": AutoModelForCausalLM,
        "seq2seq": AutoModelForSeq2SeqLM,
        "image-classification": AutoModelForImageClassification,
        "token-classification": AutoModelForTokenClassification,
    }
    auto = heads.get(task, AutoModelForSequenceClassification)
    if task not in WITHOUT_LABELS:
        config.num_labels = 1 if task == "regression" else labels
    # Experts are chosen by the values of the router, which are absent here; this form computes them for every token.
    config._experts_implementation = "batched_mm"
    with torch.device("meta"), missing_heads():
        # The masks of torch's attention depend on their values, which are absent here.
        network = auto.from_config(config, trust_remote_code=trust_remote_code, attn_implementation="eager")
    if task == "causal-lm":
        _check_causal(encoder_decoder, config.model_type)
    return network


def _check_causal(encoder_decoder: bool, kind: str) -> None:
    """Reject a language model whose attention sees the tokens that it predicts, or that has an encoder."""
    if encoder_decoder:
        raise ValueError(
            f"task: causal-lm needs a decoder such as gpt2 or llama; {kind} is an encoder-decoder"
        )
    if kind == "xlnet":
        raise ValueError(
            "task: causal-lm needs a decoder such as gpt2 or llama; xlnet also attends to later tokens"
        )


def shape_of_network(network: Any, task: TaskType) -> ModelShape:
    """Return the shape of a network that `empty_network` built.

    Raises:
        ValueError: The model is not supported; see `read_shape`.
    """
    config = text_config(network.config)
    if (reason := UNADAPTABLE.get(network.config.model_type)) is not None:
        raise ValueError(f"model: {network.config.model_type} cannot be adapted: {reason}")
    inside, base = base_of(network)
    image = task == "image-classification"
    calls = Calls() if image else record_calls(network)
    stacks = find_stacks(network, config, calls)
    depths = [len(layers) for _, layers in stacks]
    read = [
        read_layers(index, path, layers, depths[0] if index else 0, config, calls)
        for index, (path, layers) in enumerate(stacks)
    ]
    matrices = [matrix for stack in read for matrix in stack.matrices]
    around = Surroundings(network, inside, base, [path for path, _ in stacks], task, calls.order)
    positions = _Positions(config, base, stacks[0][1][0])
    attention = _Attention(config, matrices)
    width = int(config.hidden_size)
    vocabulary, embedding_width = (0, width) if image else _embedding_size(network)
    accepted = inspect.signature(network.forward).parameters
    frozen = [part for stack in read for part in stack.frozen]
    if config.model_type == "xlnet":
        frozen = xlnet_parts(depths[0], width)
    elif config.model_type == "longformer":
        frozen = longformer_parts(depths[0], width)
    shape = ModelShape(
        model_type=config.model_type,
        task=task,
        labels=0 if task in WITHOUT_LABELS else int(network.config.num_labels),
        depth=sum(depths),
        width=width,
        heads=attention.heads,
        kv_heads=attention.kv_heads,
        head_width=attention.head_width,
        vocabulary=vocabulary,
        embedding_width=embedding_width,
        max_positions=None if image else _max_positions(config),
        layers_path=stacks[0][0],
        matrices=tuple(positions.mark(matrices)),
        norms=(*(norm for stack in read for norm in stack.norms), *around.final_norms(depths)),
        input_matrices=tuple(around.input_matrices),
        head=tuple(around.head),
        head_modules=tuple(around.head_modules),
        head_parameters=around.head_parameters,
        base_parameters=around.base_parameters,
        body_parameters=around.body_parameters,
        parallel=_is_parallel(config) or read[0].parallel,
        accepts_prefix=len(stacks) == 1
        and _accepts_prefix(base)
        and attention.takes_prefix
        and not any(matrix.role == "mixer" for matrix in matrices),
        attention_interface=base._can_set_attn_implementation() and attention.has_keys,
        accepts_embeddings=len(stacks) == 1
        and "inputs_embeds" in accepted
        and config.model_type != "longformer",
        decoder_path=stacks[1][0] if len(stacks) == 2 else None,
        decoder_depth=depths[1] if len(stacks) == 2 else 0,
        positions=positions.rows,
        position_terms=positions.terms,
        position_matrices=positions.matrices,
        patches=around.patches,
        patch_matrix=around.patch_matrix,
        score_width=attention.score_width,
        frozen_parts=tuple(frozen),
        repeats=_runs(config),
        positions_per_token=positions.per_token,
        window=_window(config),
        experts=expert_count(config) if any(stack.has_experts for stack in read) else 0,
        plain_linear=all(stack.plain_linear for stack in read),
        has_tied_head=task == "causal-lm" and _has_tied_head(network),
        unused_parameters=sum(p.numel() for p in base.parameters(recurse=False)) if not image else 0,
        expert_matrices=tuple(matrix for stack in read for matrix in stack.experts),
        without_attention=tuple(layer for stack in read for layer in stack.without_attention),
    )
    if image or config.model_type in KNOWN:
        return shape
    return corrected(shape, network) or replace(shape, flops_are_estimates=True)


def base_of(network: Any) -> tuple[str, Any]:
    """Return the name and the module of the model without its head."""
    from transformers import PreTrainedModel

    prefix = network.base_model_prefix
    if hasattr(network, prefix):
        return prefix, getattr(network, prefix)
    if getattr(network.config, "is_encoder_decoder", False):  # T5's head is beside its two stacks
        return "", network
    return next((name, part) for name, part in network.named_children() if isinstance(part, PreTrainedModel))


def text_config(config: Any) -> Any:
    """Return the configuration of the part that reads text, in a model that also reads images or sound."""
    return config if getattr(config, "is_encoder_decoder", False) else config.get_text_config()


def _has_tied_head(network: Any) -> bool:
    """Return whether the output embeddings are the input embeddings."""
    return bool(network.get_output_embeddings().weight is network.get_input_embeddings().weight)


def _embedding_size(network: Any) -> tuple[int, int]:
    """Return the number of word embeddings and their width."""
    try:
        rows, columns = network.get_input_embeddings().weight.shape
    except (AttributeError, NotImplementedError) as error:
        kind = network.config.model_type
        raise ValueError(f"model: {kind} has no word embeddings in one matrix; {known_types()}") from error
    return rows, columns


def _window(config: Any) -> int:
    """Return the largest number of tokens in each direction to which a token of Longformer attends, else 0."""
    if config.model_type != "longformer":
        return 0
    windows = config.attention_window
    return int(max(windows) if isinstance(windows, list | tuple) else windows) // 2


def _max_positions(config: Any) -> int | None:
    """Return the maximum sequence length, or None without a limit, for which XLNet writes -1."""
    limit = getattr(config, "max_position_embeddings", None)
    return int(limit) if limit and limit > 0 else None


def _runs(config: Any) -> int:
    """Return how often each layer runs in a forward pass: more than once where layers share their weights."""
    if getattr(config, "num_hidden_groups", None) is None:
        return 1
    return int(config.num_hidden_layers)


def _is_parallel(config: Any) -> bool:
    """Return whether the configuration says that the feed-forward network reads the layer's input."""
    return bool(
        getattr(config, "use_parallel_residual", False) or getattr(config, "new_decoder_architecture", False)
    )


class _Attention:
    """The heads and widths of attention, from the sizes of its matrices.

    The output matrix reads the values of all heads. A model without attention has no heads.
    """

    def __init__(self, config: Any, matrices: list[Matrix]) -> None:
        by_role = {matrix.role: matrix for matrix in reversed(matrices) if not matrix.cross}
        self.heads = int(getattr(config, "num_attention_heads", None) or 0)
        self.has_keys = bool(self.heads) and "o" in by_role and "kv" not in by_role
        # peft reads the number of key and value heads under its usual name only.
        self.takes_prefix = self.has_keys and config.model_type != "falcon"
        self.score_width = 0
        self.kv_heads, self.head_width = self.heads, 0
        if "o" not in by_role or not self.heads:
            if self.heads:
                self.head_width = int(config.hidden_size) // self.heads
            return
        values = by_role["o"].inputs
        self.head_width = values // self.heads
        if "k" in by_role and "q" in by_role:
            self.kv_heads = by_role["k"].outputs // self.head_width
        elif "qkv" in by_role:
            self.kv_heads = (by_role["qkv"].outputs - values) // 2 // self.head_width
        if "q" in by_role and by_role["q"].outputs != values:
            self.score_width = by_role["q"].outputs


class _Positions:
    """Relative positions of DeBERTa: their number, their products in attention, and their matrices."""

    def __init__(self, config: Any, base: Any, layer: nn.Module) -> None:
        self.rows = 0
        self.terms: tuple[str, ...] = ()
        self.matrices: tuple[tuple[int, int], ...] = ()
        self.per_token = 0
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
        if (
            config.model_type == "deberta"
        ):  # it takes as many positions as the texts of a batch have distances
            self.per_token = 2

    def mark(self, matrices: list[Matrix]) -> list[Matrix]:
        """Return the matrices, with the number of positions on those that positions share with the tokens."""
        if not self._shared:
            return matrices
        return [replace(m, positions=self.rows) if m.role in ("q", "k") else m for m in matrices]


def _accepts_prefix(base: nn.Module) -> bool:
    """Return whether the base model has the argument `past_key_values`, through which peft passes a prefix."""
    return "past_key_values" in inspect.signature(base.forward).parameters


def read_shape(
    model: str | PretrainedConfig,
    task: TaskType,
    labels: int = 2,
    *,
    trust_remote_code: bool = False,
    quantized: bool = False,
    layers: float | None = None,
) -> ModelShape:
    """Read the shape of a model from its configuration, without loading or allocating weights.

    Args:
        model: a configuration, a local folder with a config.json, or a hub id.
        task: type of the task, which determines the head.
        labels: number of classes of a classification; ignored for regressions and language models.
        trust_remote_code: whether to run code that comes with the model.
        quantized: whether the model will be loaded with its matrices in 8 or 4 bits.
        layers: the share of its lowest layers with which the model will be loaded; None for all of them.

    Raises:
        MissingHeadError: transformers has no head for the task on the architecture.
        ValueError: The task is causal-lm and the model is not a decoder, or the layers of the model have no matrix
            in common that an adapter can be put on, or cannot be cut.

    Example:
        >>> read_shape("roberta-base", "sequence-classification").depth
        12
    """
    shape = shape_of_network(empty_network(model, task, labels, trust_remote_code, layers), task)
    return replace(shape, quantized=quantized)
