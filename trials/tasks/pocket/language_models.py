"""A family of small language models, trained from scratch: a scaling-law experiment for two CPU cores.

The text is the docstrings of the installed packages (`pocket.corpus`), read once, so no token is repeated. Every size
is trained once at a constant learning rate. Before each budget a copy branches off and cools down linearly over the
budget's last fifth (Hägele et al., 2024, arXiv 2405.18392), so several budgets cost little more than the largest. All
sizes see the same tokens in the same order.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

VOCABULARY, CONTEXT, BATCH = 1024, 128, 4
"""Vocabulary size, tokens per sequence, and sequences per step: 512 tokens per step."""
COOLDOWN, WARMUP_STEPS = 0.2, 100
HELD_OUT = 20
"""One text in this many is held out."""
WEIGHT_DECAY, BETAS, CLIP = 0.1, (0.9, 0.95), 1.0
HEAD_WIDTH = 16


@dataclass(frozen=True)
class Size:
    """The size of a model: its width and number of layers."""

    width: int
    layers: int


SIZES = (Size(32, 2), Size(48, 3), Size(80, 4), Size(128, 5), Size(224, 8))
"""From 0.06 to 5 million parameters; the law of the others predicts the last."""
BUDGETS = (262_144, 370_688, 524_288, 741_376, 1_048_576)
"""Training tokens; the largest model is trained on the last budget."""


@dataclass(frozen=True)
class ScaleRun:
    """One point of a scaling law.

    Args:
        params: The number of trainable parameters, embeddings (which are also the output matrix) included.
        tokens: The number of training tokens, each seen once.
        loss: The mean loss on held-out text, in nats per token.
        flops: The training FLOPs, 6 · params · tokens (Kaplan et al., 2020, arXiv 2001.08361).
        learning_rate: The learning rate before the cool-down.
        width: The width of the model.
        layers: The number of layers of the model.
        seconds: The wall time since the size's training began, evaluation included, in seconds.
    """

    params: int
    tokens: int
    loss: float
    flops: float
    learning_rate: float
    width: int
    layers: int
    seconds: float


@dataclass(frozen=True)
class Tokens:
    """Token ids.

    Args:
        train: The training tokens in their order, shape [n].
        held_out: The held-out sequences, shape [m, context].
    """

    train: NDArray[np.int64]
    held_out: NDArray[np.int64]


@lru_cache(maxsize=1)
def read_tokens() -> Tokens:
    """Return the docstrings as tokens of a byte-level BPE that is trained on the texts that are not held out.

    They are ordered by SHA-256, which is random and yet the same on every machine.
    """
    from tokenizers import ByteLevelBPETokenizer

    from trials.tasks.pocket.corpus import pretraining_texts

    texts = pretraining_texts()
    kept = [text for i, text in enumerate(texts) if i % HELD_OUT]
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(kept, VOCABULARY, special_tokens=["<end>"], show_progress=False)

    def ids(some: Sequence[str]) -> NDArray[np.int64]:
        return np.array(
            [i for one in tokenizer.encode_batch(list(some)) for i in (*one.ids, 0)], dtype=np.int64
        )

    held_out = ids(texts[::HELD_OUT])
    return Tokens(ids(kept), held_out[: len(held_out) // CONTEXT * CONTEXT].reshape(-1, CONTEXT))


def learning_rate(size: Size) -> float:
    """Return the peak learning rate, inversely proportional to the width (Yang et al., 2021, arXiv 2203.03466)."""
    return 0.4 / size.width


def run_size(
    size: Size, budgets: Sequence[int], tokens: Tokens, *, seed: int = 0, rate: float | None = None
) -> Iterator[ScaleRun]:
    """Train one size and yield a point for each budget, the smallest first.

    Args:
        size: The size of the model.
        budgets: The training tokens of each point, increasing; rounded down to whole steps.
        tokens: The text.
        seed: The seed of the initial weights.
        rate: The peak learning rate; by default `learning_rate` of the size.

    Raises:
        ValueError: The text has fewer tokens than the largest budget.
    """
    began = time.perf_counter()
    steps = [budget // (BATCH * CONTEXT) for budget in budgets]
    _check(steps, tokens)
    model = build(size, seed)
    params = sum(parameter.numel() for parameter in model.parameters())
    peak = learning_rate(size) if rate is None else rate
    optimizer = _optimizer(model, peak)
    done = 0
    for last in steps:
        leaves = last - max(round(COOLDOWN * last), 1)
        for step in range(done, leaves):
            _step(model, optimizer, tokens, step, peak * min(1.0, (step + 1) / WARMUP_STEPS))
        done = max(done, leaves)
        branch, its_optimizer = _copied(model, optimizer, peak)
        for step in range(leaves, last):
            _step(branch, its_optimizer, tokens, step, peak * (last - step) / (last - leaves + 1))
        seen = last * BATCH * CONTEXT
        yield ScaleRun(
            params=params,
            tokens=seen,
            loss=held_out_loss(branch, tokens),
            flops=6.0 * params * seen,
            learning_rate=peak,
            width=size.width,
            layers=size.layers,
            seconds=time.perf_counter() - began,
        )


def build(size: Size, seed: int) -> torch.nn.Module:
    """Build a Llama of a size with tied embeddings, initialized from `seed`.

    The output matrices of each layer start at zero. Otherwise the deeper models learn less than the shallow ones in
    the few available steps.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=size.width,
            num_hidden_layers=size.layers,
            num_attention_heads=size.width // HEAD_WIDTH,
            intermediate_size=8 * math.ceil(size.width / 3),
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            initializer_range=0.5 / math.sqrt(size.width),
            use_cache=False,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    for layer in model.model.layers:
        torch.nn.init.zeros_(layer.self_attn.o_proj.weight)
        torch.nn.init.zeros_(layer.mlp.down_proj.weight)
    return model


@torch.no_grad()
def held_out_loss(model: torch.nn.Module, tokens: Tokens) -> float:
    """Return the mean loss on the held-out text, in nats per token."""
    losses = [
        _loss(model, chunk).item() * len(chunk) for chunk in torch.from_numpy(tokens.held_out).split(32)
    ]
    return sum(losses) / len(tokens.held_out)


def _check(steps: Sequence[int], tokens: Tokens) -> None:
    needed, there = steps[-1] * BATCH * CONTEXT, len(tokens.train)
    if needed > there:
        raise ValueError(f"budgets: {needed:,} tokens are requested, and the available text has {there:,}")
    if steps[0] < 2 * WARMUP_STEPS or any(b <= a for a, b in itertools.pairwise(steps)):
        least = 2 * WARMUP_STEPS * BATCH * CONTEXT
        raise ValueError(f"budgets: they must increase and start at {least:,} tokens or more")


def _optimizer(model: torch.nn.Module, peak: float) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=peak, betas=BETAS, fused=True)


def _copied(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, peak: float
) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    branch = copy.deepcopy(model)
    its_optimizer = _optimizer(branch, peak)
    its_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    return branch, its_optimizer


def _step(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, tokens: Tokens, step: int, rate: float
) -> None:
    size = BATCH * CONTEXT
    batch = torch.from_numpy(tokens.train[step * size : (step + 1) * size].reshape(BATCH, CONTEXT))
    for group in optimizer.param_groups:
        group["lr"] = rate
    _loss(model, batch).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()


def _loss(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    logits = model(input_ids=ids).logits[:, :-1]
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))
