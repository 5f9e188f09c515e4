"""Tiny models and data that every test can afford, written once per run."""

from __future__ import annotations

import os

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("AUTOTUNE_PREFIX_CACHE", "0")  # nothing of the tests stays in the user's folder
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side; two thread pools on a core crawl

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

GOOD = ["good", "great", "lovely", "fine", "happy", "bright", "warm", "clever"]
BAD = ["bad", "awful", "dull", "poor", "sad", "dark", "cold", "stupid"]
FILLER = ["the", "film", "was", "a", "story", "with", "some", "people", "in", "it", "and", "an", "end", "one"]
FILLER += ["that", "saw"]
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "user", "assistant", ":", "|"]


def sentence(rng: np.random.Generator, label: int) -> str:
    """Three to fourteen words, a quarter of them telling."""
    words = rng.choice(FILLER, size=int(rng.integers(2, 11))).tolist()
    telling = rng.choice(GOOD if label else BAD, size=1 + len(words) // 4).tolist()
    mixed = [*words, *telling]
    rng.shuffle(mixed)
    return " ".join(mixed)


def reviews_frame(rows: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows)
    return pd.DataFrame({"sentence": [sentence(rng, label) for label in labels], "label": labels})


@pytest.fixture(scope="session")
def reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.tsv (240 rows), validation.tsv (120) and test.tsv (120)."""
    folder = tmp_path_factory.mktemp("reviews")
    for name, rows, seed in (("train", 240, 1), ("validation", 120, 2), ("test", 120, 3)):
        reviews_frame(rows, seed).to_csv(folder / f"{name}.tsv", sep="\t", index=False)
    return folder


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


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny_model("bert")` (or gpt2, llama, deberta, t5) is a folder with a small random model."""
    made: dict[str, Path] = {}

    def make(kind: str) -> Path:
        if kind not in made:
            made[kind] = _write_model(tmp_path_factory.mktemp(kind), kind)
        return made[kind]

    return make


@pytest.fixture(scope="session")
def deep_model(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny BERT with twice the layers."""
    from transformers import AutoConfig, AutoModel

    folder = tmp_path_factory.mktemp("deep") / "bert"
    shutil.copytree(tiny_model("bert"), folder)
    config = AutoConfig.from_pretrained(folder)
    config.num_hidden_layers = 4
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


def _write_model(folder: Path, kind: str) -> Path:
    import torch
    from transformers import (
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
    else:
        model = LlamaForCausalLM(
            LlamaConfig(**size, intermediate_size=64, num_key_value_heads=2, max_position_embeddings=64)
        )
    model.save_pretrained(str(folder))
    write_tokenizer(folder)
    return folder


@pytest.fixture
def write_jsonl(tmp_path: Path) -> Callable[[str, list[dict[str, object]]], Path]:
    def write(name: str, rows: list[dict[str, object]]) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write
