"""Configurations of tiny models of every supported architecture.

The sizes all differ, so that a formula that confuses two of them fails.
"""

from __future__ import annotations

from collections.abc import Callable

from transformers import (
    AlbertConfig,
    BambaConfig,
    BartConfig,
    BertConfig,
    BloomConfig,
    DebertaConfig,
    DebertaV2Config,
    DeepseekV3Config,
    DistilBertConfig,
    ElectraConfig,
    FalconConfig,
    FalconH1Config,
    GemmaConfig,
    GPT2Config,
    GPTJConfig,
    GPTNeoConfig,
    GPTNeoXConfig,
    GptOssConfig,
    GraniteMoeHybridConfig,
    JambaConfig,
    Lfm2Config,
    LlamaConfig,
    LongformerConfig,
    Mamba2Config,
    MambaConfig,
    MBartConfig,
    MistralConfig,
    MixtralConfig,
    ModernBertConfig,
    MPNetConfig,
    MptConfig,
    NemotronHConfig,
    OPTConfig,
    Phi3Config,
    PhiConfig,
    PretrainedConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3Config,
    Qwen3MoeConfig,
    RobertaConfig,
    T5Config,
    ViTConfig,
    XLNetConfig,
    Zamba2Config,
)

DEPTH = 3
_BERT = {
    "vocab_size": 90,
    "hidden_size": 32,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "intermediate_size": 56,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
}
_LLAMA = {**_BERT, "num_key_value_heads": 2}
_DEBERTA = {
    **_BERT,
    "type_vocab_size": 0,
    "position_biased_input": False,
    "relative_attention": True,
    "position_buckets": 5,
    "norm_rel_ebd": "layer_norm",
    "pos_att_type": "p2c|c2p",
}
_T5 = {
    "vocab_size": 90,
    "d_model": 32,
    "d_kv": 6,
    "num_layers": DEPTH,
    "num_decoder_layers": 2,
    "num_heads": 4,
}
_MARKS = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}

_BART = {
    "vocab_size": 90,
    "d_model": 32,
    "encoder_layers": DEPTH,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 56,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "decoder_start_token_id": 1,
}
_GPT = {"vocab_size": 90, "n_embd": 32, "n_layer": DEPTH, "n_head": 4, "n_inner": 56, "pad_token_id": 0}
_FALCON = {
    "vocab_size": 90,
    "hidden_size": 32,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "ffn_hidden_size": 56,
    "pad_token_id": 0,
}
_EXPERTS = {**_LLAMA, "num_experts_per_tok": 2}

_SCAN = {
    "mamba_d_state": 5,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_n_groups": 2,
    "mamba_chunk_size": 5,
}
"""Sizes of the mixer of Mamba-2, in chunks of which 12 tokens are no multiple."""

CONFIGS: dict[str, Callable[[], PretrainedConfig]] = {
    "bert": lambda: BertConfig(**_BERT),
    "gpt2": lambda: GPT2Config(vocab_size=90, n_embd=32, n_layer=DEPTH, n_head=4, n_inner=56, pad_token_id=0),
    "llama": lambda: LlamaConfig(**_LLAMA),
    "roberta": lambda: RobertaConfig(**_BERT),
    "electra": lambda: ElectraConfig(**_BERT, embedding_size=20),
    "distilbert": lambda: DistilBertConfig(
        vocab_size=90, dim=32, n_layers=DEPTH, n_heads=4, hidden_dim=56, pad_token_id=0
    ),
    "modernbert": lambda: ModernBertConfig(**_BERT, **_MARKS),
    "mistral": lambda: MistralConfig(**_LLAMA),
    "qwen2": lambda: Qwen2Config(**_LLAMA),
    "qwen3": lambda: Qwen3Config(**_LLAMA, head_dim=12),
    "gpt_neox": lambda: GPTNeoXConfig(**_BERT),
    "deberta": lambda: DebertaV2Config(**_DEBERTA, share_att_key=True),
    "deberta_apart": lambda: DebertaV2Config(**_DEBERTA, share_att_key=False, conv_kernel_size=3),
    "vit": lambda: ViTConfig(
        **{name: _BERT[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")},
        intermediate_size=56,
        image_size=12,
        patch_size=4,
        num_channels=2,
    ),
    "t5": lambda: T5Config(**_T5, d_ff=56, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1),
    "t5_gated": lambda: T5Config(
        **_T5,
        d_ff=56,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=1,
        feed_forward_proj="gated-gelu",
    ),
    "opt": lambda: OPTConfig(
        vocab_size=90,
        hidden_size=32,
        num_hidden_layers=DEPTH,
        num_attention_heads=4,
        ffn_dim=56,
        word_embed_proj_dim=32,
        max_position_embeddings=128,
        pad_token_id=0,
    ),
    "phi3": lambda: Phi3Config(**_LLAMA, original_max_position_embeddings=128),
    "gemma": lambda: GemmaConfig(**_LLAMA, head_dim=12),
    "bart": lambda: BartConfig(**_BART),
    "mbart": lambda: MBartConfig(**_BART),
    "phi": lambda: PhiConfig(**_LLAMA),
    "falcon": lambda: FalconConfig(**_FALCON, new_decoder_architecture=False),
    "falcon_sequential": lambda: FalconConfig(
        **_FALCON, new_decoder_architecture=False, parallel_attn=False, multi_query=False, bias=True
    ),
    "falcon_new": lambda: FalconConfig(**_FALCON, num_kv_heads=2, new_decoder_architecture=True),
    "gptj": lambda: GPTJConfig(**_GPT, rotary_dim=4),
    "gpt_neo": lambda: GPTNeoConfig(
        vocab_size=90,
        hidden_size=32,
        num_layers=DEPTH,
        num_heads=4,
        intermediate_size=56,
        attention_types=[[["global", "local", "global"], 1]],
        pad_token_id=0,
    ),
    "bloom": lambda: BloomConfig(vocab_size=90, hidden_size=32, n_layer=DEPTH, n_head=4, pad_token_id=0),
    "mpt": lambda: MptConfig(
        vocab_size=90,
        d_model=32,
        n_layers=DEPTH,
        n_heads=4,
        expansion_ratio=2,
        max_seq_len=128,
        pad_token_id=0,
    ),
    "deberta_v1": lambda: DebertaConfig(
        **{**_BERT, "type_vocab_size": 0},
        relative_attention=True,
        pos_att_type="c2p|p2c",
        position_biased_input=False,
    ),
    "albert": lambda: AlbertConfig(**_BERT, embedding_size=20),
    "mpnet": lambda: MPNetConfig(**_BERT),
    "xlnet": lambda: XLNetConfig(
        vocab_size=90, d_model=32, n_layer=DEPTH, n_head=4, d_inner=56, pad_token_id=0
    ),
    "longformer": lambda: LongformerConfig(**_BERT, attention_window=4),
    "mixtral": lambda: MixtralConfig(**_EXPERTS, num_local_experts=4),
    "qwen3_moe": lambda: Qwen3MoeConfig(**_EXPERTS, num_experts=4, moe_intermediate_size=24, head_dim=12),
    "qwen2_moe": lambda: Qwen2MoeConfig(
        **_EXPERTS, num_experts=4, moe_intermediate_size=24, shared_expert_intermediate_size=20
    ),
    "gpt_oss": lambda: GptOssConfig(
        **_EXPERTS,
        num_local_experts=4,
        head_dim=8,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    ),
    "deepseek_v3": lambda: DeepseekV3Config(
        **{**_BERT, "num_key_value_heads": 4, "num_experts_per_tok": 2},
        n_routed_experts=4,
        n_group=2,
        topk_group=1,
        first_k_dense_replace=1,
        moe_intermediate_size=24,
        q_lora_rank=12,
        kv_lora_rank=10,
        qk_rope_head_dim=4,
        qk_nope_head_dim=6,
        v_head_dim=8,
    ),
    "mamba": lambda: MambaConfig(
        vocab_size=90, hidden_size=32, num_hidden_layers=DEPTH, state_size=4, pad_token_id=0
    ),
    "mamba2": lambda: Mamba2Config(
        vocab_size=90,
        hidden_size=32,
        num_hidden_layers=DEPTH,
        state_size=5,
        num_heads=4,
        head_dim=16,
        n_groups=2,
        chunk_size=5,
        pad_token_id=0,
    ),
    "jamba": lambda: JambaConfig(
        **_EXPERTS,
        num_experts=4,
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=3,
        expert_layer_offset=2,
        mamba_d_state=5,
        mamba_dt_rank=3,
        use_mamba_kernels=False,
    ),
    "bamba": lambda: BambaConfig(**_LLAMA, **_SCAN, attn_layer_indices=[1]),
    "falcon_h1": lambda: FalconH1Config(**_LLAMA, **_SCAN, head_dim=12, mamba_d_ssm=64),
    "granitemoehybrid": lambda: GraniteMoeHybridConfig(
        **_EXPERTS,
        **_SCAN,
        num_local_experts=4,
        shared_intermediate_size=20,
        layer_types=["mamba", "attention", "mamba"],
    ),
    "nemotron_h": lambda: NemotronHConfig(
        **{**_LLAMA, "num_hidden_layers": None},
        layers_block_type=["mamba", "attention", "mlp"],
        head_dim=12,
        mamba_num_heads=4,
        mamba_head_dim=16,
        ssm_state_size=5,
        n_groups=2,
        chunk_size=5,
    ),
    "zamba2": lambda: Zamba2Config(
        **_LLAMA,
        layers_block_type=["hybrid", "mamba", "hybrid"],
        mamba_d_state=5,
        mamba_ngroups=2,
        n_mamba_heads=4,
        chunk_size=5,
        num_mem_blocks=1,
        adapter_rank=3,
    ),
    "lfm2": lambda: Lfm2Config(
        **_LLAMA, block_auto_adjust_ff_dim=False, layer_types=["conv", "full_attention", "conv"]
    ),
}
"""The configuration of each architecture, with another value for each size."""
