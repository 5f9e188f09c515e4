"""Attention on a CPU in fp32 and in bf16, by PyTorch's fused kernel and in separate products.

    python -m benchmarks.attention [--repeats N] [--write]

Forward and backward pass of one layer of MiniLM's shape (12 heads of width 32) on 2,048 tokens, divided into texts of
one length, with a mask for padding, on one thread. Times are processor seconds, which other work on the machine
changes less than wall time. The kinds take turns; a ratio is the median over the turns, in brackets the lowest and
the highest one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional

from benchmarks.result_files import Table, store

TOKENS, HEADS, WIDTH = 2048, 12, 32
LENGTHS = (8, 16, 32, 64, 128, 512)
CALLS = 5


def kernels(length: int) -> dict[str, Callable[[], None]]:
    """Return a forward and backward pass of each kind, by its name."""
    rows = TOKENS // length
    torch.manual_seed(0)
    tensors = [torch.randn(rows, length, HEADS, WIDTH).transpose(1, 2) for _ in range(3)]
    mask = torch.ones(rows, 1, length, length, dtype=torch.bool)
    added = torch.zeros(rows, 1, length, length)
    gradient = torch.randn(rows, length, HEADS, WIDTH).transpose(1, 2)

    def fused(dtype: torch.dtype) -> None:
        inputs = [each.detach().to(dtype).requires_grad_() for each in tensors]
        mixed = functional.scaled_dot_product_attention(*inputs, attn_mask=mask)
        mixed.backward(gradient.to(dtype))

    def eager() -> None:
        query, key, value = (each.detach().requires_grad_() for each in tensors)
        scores = query @ key.transpose(2, 3) * WIDTH**-0.5 + added
        (functional.softmax(scores, -1) @ value).backward(gradient)

    return {
        "fp32": lambda: fused(torch.float32),
        "bf16": lambda: fused(torch.bfloat16),
        "eager": eager,
    }


def timed(call: Callable[[], None]) -> float:
    """Return the processor seconds of one call."""
    started = time.process_time()
    for _ in range(CALLS):
        call()
    return (time.process_time() - started) / CALLS


def measure(length: int, repeats: int) -> tuple[str, ...]:
    """Return the row of one length: milliseconds of each kind, and the ratios to the fused kernel in fp32."""
    calls = kernels(length)
    for call in calls.values():
        call()
    turns = [{name: timed(call) for name, call in calls.items()} for _ in range(repeats)]
    seconds = {name: np.array([turn[name] for turn in turns]) for name in calls}
    row = [f"{1000 * np.median(each):.1f}" for each in seconds.values()]
    for name in ("bf16", "eager"):
        ratios = seconds[name] / seconds["fp32"]
        row.append(f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})")
    return (str(length), *row)


def table(rows: Sequence[tuple[str, ...]], repeats: int) -> Table:
    """Return the rows as a table for the page of results."""
    columns = (
        "tokens per text",
        "fused, fp32, ms",
        "fused, bf16, ms",
        "eager, fp32, ms",
        "fused bf16 / fused fp32",
        "eager / fused, fp32",
    )
    caption = (
        f"Forward and backward pass of attention on {TOKENS:,} tokens, {HEADS} heads of width {WIDTH}, one thread, "
        f"processor time; medians of {repeats} turns."
    )
    return Table(caption, columns, tuple(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--write", action="store_true", help="store the table in benchmarks/results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    made = table([measure(length, arguments.repeats) for length in LENGTHS], arguments.repeats)
    print(f"{made.caption}\n\n{made.as_markdown()}")
    if arguments.write:
        store("precision", {"attention": made})


if __name__ == "__main__":
    main()
