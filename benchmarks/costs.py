"""How long costs take: one configuration, and many of them at once.

    python -m benchmarks.costs --json costs.json

BERT-base's shape, random configurations of each preset. A single call is timed over blocks of a thousand, of
which the fastest is printed (what the formula takes) and the median (what a busy machine made of it).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from transformers import BertConfig

from autotune.sampler.candidates import EncodedSpace
from search_spaces.costs.cost_model import CostModel
from search_spaces.costs.workload import Workload
from search_spaces.language.loader import load_space, preset_names
from search_spaces.model.reader import read_shape
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.types import Configuration

BLOCK = 1_000


def drawn(shape: ModelShape, preset: str, count: int) -> list[Configuration]:
    columns = EncodedSpace(load_space(preset, shape=shape).space)
    return columns.configurations(columns.random(count, np.random.default_rng(0)))


def single(costs: CostModel, configs: Sequence[Configuration]) -> list[float]:
    """Microseconds a call, a value for each block."""
    blocks = [configs[start : start + BLOCK] for start in range(0, len(configs), BLOCK)]
    found = []
    for block in blocks:
        start = time.perf_counter()
        for config in block:
            costs(config)
        found.append(1e6 * (time.perf_counter() - start) / len(block))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=100_000, help="configurations at once")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    arguments = parser.parse_args()
    shape = read_shape(BertConfig(), "sequence-classification", 2)
    costs = CostModel(shape, shape.task, Workload(128, 128**2, 2_000))
    measured = {}
    for preset in preset_names():
        configs = drawn(shape, preset, arguments.count)
        calls = single(costs, configs[: 20 * BLOCK])
        seconds = []
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            table = costs.many(configs)
            seconds.append(time.perf_counter() - start)
        assert len(table) == len(configs)
        measured[preset] = {
            "configurations": len(configs),
            "many_seconds": min(seconds),
            "many_seconds_median": float(np.median(seconds)),
            "single_microseconds": min(calls),
            "single_microseconds_median": float(np.median(calls)),
        }
        print(
            f"{preset:20s} {len(configs):,} at once {min(seconds):.2f} s (median {np.median(seconds):.2f}), "
            f"one {min(calls):.1f} µs (median {np.median(calls):.1f})",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
