"""The device of the tests in `tests/gpu`, and a base model whose activations outweigh the rest of its memory.

`AUTOTUNE_GPU_TESTS=cpu pytest -m gpu` runs those tests on a CPU that need no card, to see that they are right.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests.support.base_models import write_tokenizer

DEVICE = os.environ.get("AUTOTUNE_GPU_TESTS", "cuda")
_HAS_CARD = torch.cuda.is_available()
needs_device = pytest.mark.skipif(DEVICE == "cuda" and not _HAS_CARD, reason="needs a CUDA device")
"""Of every module in `tests/gpu`."""
needs_card = pytest.mark.skipif(DEVICE != "cuda", reason="needs a CUDA device, also to try the test")
"""Of tests of what a CPU does not have."""


def write_wide_model(folder: Path) -> None:
    """A random BERT of 4 layers of 256 in the tests' words."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=64,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=1024,
        max_position_embeddings=64,
        pad_token_id=0,
    )
    BertModel(config).save_pretrained(str(folder))
    write_tokenizer(folder)
