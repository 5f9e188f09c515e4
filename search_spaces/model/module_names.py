"""Tables from module names to their roles in a transformer.

Names are dotted paths below a layer, or below the base model for modules around the layers. A module that is in no
table gets its role from the last part of its name and from its sizes (`role_of`); without a role it stays frozen.
"""

from __future__ import annotations

import re

from search_spaces.model.parts import Place, Role

ROLES: dict[str, Role] = {
    # BERT, RoBERTa, ELECTRA and similar
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "o",
    "intermediate.dense": "up",
    "output.dense": "down",
    # DeBERTa-v2 and v3
    "attention.self.query_proj": "q",
    "attention.self.key_proj": "k",
    "attention.self.value_proj": "v",
    # ViT
    "attention.q_proj": "q",
    "attention.k_proj": "k",
    "attention.v_proj": "v",
    "attention.o_proj": "o",
    "mlp.fc1": "up",
    "mlp.fc2": "down",
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
    # ALBERT
    "attention.query": "q",
    "attention.key": "k",
    "attention.value": "v",
    "ffn": "up",
    "ffn_output": "down",
    # DeBERTa (version 1)
    "attention.self.in_proj": "qkv",
    # XLNet, whose attention has no modules
    "ff.layer_1": "up",
    "ff.layer_2": "down",
    # Mamba: the two inputs of the gated product are one matrix
    "mixer.in_proj": "gate_up",
    "mixer.out_proj": "down",
    # OPT
    "self_attn.out_proj": "o",
    "fc1": "up",
    "fc2": "down",
    # T5: the feed-forward network is the second block of an encoder layer and the third of a decoder layer
    "layer.0.SelfAttention.q": "q",
    "layer.0.SelfAttention.k": "k",
    "layer.0.SelfAttention.v": "v",
    "layer.0.SelfAttention.o": "o",
    "layer.1.DenseReluDense.wi": "up",
    "layer.1.DenseReluDense.wi_0": "gate",
    "layer.1.DenseReluDense.wi_1": "up",
    "layer.1.DenseReluDense.wo": "down",
    "layer.2.DenseReluDense.wi": "up",
    "layer.2.DenseReluDense.wi_0": "gate",
    "layer.2.DenseReluDense.wi_1": "up",
    "layer.2.DenseReluDense.wo": "down",
}
"""The role of a matrix by its name below its layer."""

CROSS_ROLES: dict[str, Role] = {
    "layer.1.EncDecAttention.q": "q",
    "layer.1.EncDecAttention.k": "k",
    "layer.1.EncDecAttention.v": "v",
    "layer.1.EncDecAttention.o": "o",
}
"""The role of a matrix of cross-attention by its name below its layer."""

_ATTENTION_TAILS: dict[Role, tuple[str, ...]] = {
    "q": ("q", "q_proj", "query", "query_proj", "q_lin", "wq", "q_b_proj"),
    "k": ("k", "k_proj", "key", "key_proj", "k_lin", "wk"),
    "v": ("v", "v_proj", "value", "value_proj", "v_lin", "wv"),
    "kv": ("kv_b_proj",),
    "qkv": ("qkv", "qkv_proj", "query_key_value", "wqkv", "c_attn", "in_proj", "qkv_lin"),
    "mixer": ("in_proj_qkvz", "in_proj_qkv"),
    "o": ("o", "o_proj", "out_proj", "out_lin", "wo", "dense", "c_proj", "output_proj"),
}
_FEED_FORWARD_TAILS: dict[Role, tuple[str, ...]] = {
    "gate": ("gate_proj", "wi_0", "w1"),
    "up": ("up_proj", "wi_1", "wi", "fc1", "fc_in", "c_fc", "lin1", "linear1", "w3", "dense_h_to_4h"),
    "gate_up": ("gate_up_proj", "wi_gate_up", "input_linear"),
    "down": (
        "down_proj",
        "wo",
        "fc2",
        "fc_out",
        "c_proj",
        "lin2",
        "linear2",
        "w2",
        "dense_4h_to_h",
        "output_linear",
    ),
}
"""The last part of a matrix's name, in lower case, by its role; attention and feed-forward blocks share some."""

_OF_ATTENTION = (
    *("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "query_key_value"),
    *("q_lin", "k_lin", "v_lin", "out_lin"),
)
"""Names that only matrices of attention have, whatever the module that they are in."""
_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
_CROSS = re.compile(r"cross|encoder_attn|encdec", re.IGNORECASE)
_UNREAD = re.compile(r"(^|\.)indexer\.")
_EXPERTS = re.compile(r"(^|\.)experts(\.|$)")
_SHARED_EXPERTS = re.compile(r"(^|\.)shared_(experts?|mlp)\.")


def role_of(name: str) -> tuple[Role | None, bool]:
    """Return the role of a matrix by its name below its layer, or None, and whether it is in cross-attention.

    The matrices of single experts have no role: which of them a token passes depends on the token. Those that choose
    the keys of sparse attention have none either: nothing differentiates through the choice.
    """
    if name in CROSS_ROLES:
        return CROSS_ROLES[name], True
    if name in ROLES:
        return ROLES[name], False
    if _EXPERTS.search(name) or _UNREAD.search(name):
        return None, False
    tail = name.rpartition(".")[2].lower()
    tails = _ATTENTION_TAILS if is_in_attention(name) else _FEED_FORWARD_TAILS
    found = next((role for role, names in tails.items() if tail in names), None)
    return found, bool(found and is_in_attention(name) and _CROSS.search(name))


def is_in_attention(name: str) -> bool:
    """Return whether a module is a part of attention, by its name below its layer."""
    return bool(_ATTENTION.search(name)) or name.rpartition(".")[2] in _OF_ATTENTION


def is_expert(name: str) -> bool:
    """Return whether a module holds the weights of experts, by its name below its layer."""
    return bool(_EXPERTS.search(name))


def is_in_shared_expert(name: str) -> bool:
    """Return whether a module is a part of a shared expert, by its name below its layer."""
    return bool(_SHARED_EXPERTS.search(name))


def expert_role(path: str) -> Role | None:
    """Return the role of a matrix of experts by the path of its weight below its layer, or None."""
    tail = path.removesuffix(".weight").rpartition(".")[2].lower()
    return next((role for role, names in _FEED_FORWARD_TAILS.items() if tail in names), None)


POSITION_MATRICES = (
    "attention.self.pos_key_proj",
    "attention.self.pos_query_proj",
    "attention.self.pos_proj",
    "attention.self.pos_q_proj",
)
"""Matrices of a layer that only relative positions pass through (DeBERTa, with `share_att_key` off in version 2)."""

PLACES: dict[str, Place] = {
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
    # ViT
    "layernorm_before": "attention",
    "layernorm_after": "feed-forward",
    # OPT with do_layer_norm_before
    "self_attn_layer_norm": "attention",
    "final_layer_norm": "feed-forward",
    # MPNet, ALBERT
    "attention.LayerNorm": "feed-forward",
    "full_layer_layer_norm": "output",
    # XLNet
    "rel_attn.layer_norm": "feed-forward",
    "ff.layer_norm": "output",
    # MPT
    "norm_1": "attention",
    "norm_2": "feed-forward",
    # Falcon with two normalizations before the layer
    "ln_attn": "attention",
    "ln_mlp": "feed-forward",
    # Mamba
    "norm": "feed-forward",
    # T5
    "layer.0.layer_norm": "attention",
    "layer.1.layer_norm": "feed-forward",
    "layer.2.layer_norm": "feed-forward",
}
"""What reads the output of a normalization, by its name below its layer."""

DECODER_PLACES: dict[str, Place] = {**PLACES, "layer.1.layer_norm": "cross-attention"}
"""The same as `PLACES` for a layer with cross-attention."""

ENCODER_NORMS = ("encoder.final_layer_norm", "encoder.layer_norm")
"""Names below the base model of the normalization between an encoder and the decoder above it."""

FINAL_NORMS = (
    *("ln_f", "norm", "norm_f", "final_norm", "final_layernorm", "final_layer_norm", "layernorm"),
    *("decoder.final_layer_norm", "decoder.layer_norm"),
)
"""Names below the base model of the last normalization."""

UNADAPTABLE = {
    "canine": "its characters are embedded by hashes, without a table of embeddings that a tokenizer could index",
    "funnel": "its blocks shorten the sequence, so that its layers are no list over the same tokens",
    "ibert": "its matrices are quantized modules of its own, which peft does not adapt",
    "jetmoe": "all of its matrices, also those of attention, belong to routed experts of a kind of their own",
    "perceiver": "its layers read latents and not tokens",
    "reformer": "its layers are reversible and recompute their inputs in the backward pass",
    "xlstm": "its kernels do not run on torch's meta device, and its matrices have names of their own",
}
"""Why nothing can be adapted in some types of models."""

POSITION_NORM = "encoder.LayerNorm"
"""DeBERTa's normalization of the embeddings of relative positions."""
