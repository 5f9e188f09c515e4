"""Tables from module names to their roles in a transformer.

Names are dotted paths below a layer, or below the base model for modules around the layers. `read_shape` rejects
models with modules that are in no table.
"""

from __future__ import annotations

from search_spaces.model.shape import Place, Role

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

POSITION_MATRICES = ("attention.self.pos_key_proj", "attention.self.pos_query_proj")
"""Matrices of a layer that only relative positions pass through (DeBERTa-v2 with `share_att_key` off)."""

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
    # T5
    "layer.0.layer_norm": "attention",
    "layer.1.layer_norm": "feed-forward",
    "layer.2.layer_norm": "feed-forward",
}
"""What reads the output of a normalization, by its name below its layer."""

DECODER_PLACES: dict[str, Place] = {**PLACES, "layer.1.layer_norm": "cross-attention"}
"""The same as `PLACES` for a layer with cross-attention."""

ENCODER_NORM = "encoder.final_layer_norm"
"""Name below the base model of the normalization between an encoder and the decoder above it."""

FINAL_NORMS = ("ln_f", "norm", "final_norm", "final_layer_norm", "layernorm", "decoder.final_layer_norm")
"""Names below the base model of the last normalization."""

POSITION_NORM = "encoder.LayerNorm"
"""DeBERTa's normalization of the embeddings of relative positions."""
