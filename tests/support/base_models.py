"""Tiny base models with random weights, and a tokenizer of the words of the tests."""

from __future__ import annotations

from pathlib import Path

from tests.support.texts import BAD, FILLER, GOOD, MARKS


def write_tokenizer(folder: Path) -> None:
    """A word-level tokenizer of the tests' words, with a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [*MARKS, *GOOD, *BAD, *dict.fromkeys(FILLER)]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        eos_token="[SEP]",
        model_max_length=64,
    )
    fast.chat_template = (
        "{% for m in messages %}{{ m.role }} : {{ m.content }} | {% endfor %}"
        "{% if add_generation_prompt %}assistant : {% endif %}"
    )
    fast.save_pretrained(str(folder))


_BART_SIZES = {"layers": 2, "attention_heads": 4, "ffn_dim": 64}


def write_model(folder: Path, kind: str) -> Path:
    import torch
    from transformers import (
        BartConfig,
        BartModel,
        BertConfig,
        BertForSequenceClassification,
        DebertaV2Config,
        DebertaV2Model,
        GPT2Config,
        GPT2LMHeadModel,
        LlamaConfig,
        LlamaForCausalLM,
        T5Config,
        T5Model,
    )

    torch.manual_seed(0)
    # Wide initial weights: random features are then worth something to an adapter.
    size = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    size["initializer_range"] = 0.2
    if kind == "bert":
        config = BertConfig(**size, intermediate_size=64, max_position_embeddings=64, pad_token_id=0)
        model = BertForSequenceClassification(config).bert
    elif kind == "gpt2":
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=64,
                n_embd=32,
                n_layer=2,
                n_head=4,
                n_positions=64,
                bos_token_id=2,
                eos_token_id=3,
                initializer_range=0.2,
            )
        )
    elif kind == "deberta":
        config = DebertaV2Config(
            **size,
            intermediate_size=64,
            type_vocab_size=0,
            position_biased_input=False,
            relative_attention=True,
            position_buckets=8,
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            pos_att_type="p2c|c2p",
        )
        model = DebertaV2Model(config)
    elif kind == "t5":
        config = T5Config(
            vocab_size=64,
            d_model=32,
            d_kv=8,
            d_ff=64,
            num_layers=2,
            num_heads=4,
            pad_token_id=0,
            eos_token_id=3,
            decoder_start_token_id=0,
        )
        model = T5Model(config)
    elif kind == "bart":
        sizes = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in _BART_SIZES.items()}
        model = BartModel(
            BartConfig(
                **sizes,
                vocab_size=64,
                d_model=32,
                max_position_embeddings=64,
                pad_token_id=0,
                bos_token_id=2,
                eos_token_id=3,
                decoder_start_token_id=3,
                forced_eos_token_id=3,
            )
        )
    elif kind == "vit":
        return _write_image_model(folder)
    else:
        model = LlamaForCausalLM(
            LlamaConfig(**size, intermediate_size=64, num_key_value_heads=2, max_position_embeddings=64)
        )
    model.save_pretrained(str(folder))
    write_tokenizer(folder)
    return folder


def _write_image_model(folder: Path) -> Path:
    """Write a model of images of 8 × 8 pixels in 4 patches, and its processor."""
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        image_size=8,
        patch_size=4,
        initializer_range=0.2,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(str(folder))
    ViTImageProcessor(size={"height": 8, "width": 8}).save_pretrained(str(folder))
    return folder
