"""Whether hidden states of frozen layers are read from disk faster than they are computed.

    python -m benchmarks.prefix_disk [--examples 1000]

all-MiniLM-L6-v2 on SST-2 sentences and the built-in sweep's model on its data, one thread; processor seconds and, in
brackets, wall seconds. What is read has just been written, so it lies in the kernel's page cache.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from autotune.sweep.sweep_file import load_sweep
from benchmarks.throughput import setting
from trials.execution.runner import Runner
from trials.packing.joined_model import join
from trials.packing.pack import Pack
from trials.packing.prefix_cache import PrefixCache
from trials.packing.prefix_store import PrefixStore, base_digest
from trials.reading.encoding import Encoded
from trials.training.length_batching import chunks


def states(
    runner: Runner, examples: Sequence[Encoded], layers: int, store: PrefixStore | None
) -> tuple[float, float]:
    """Processor and wall seconds of bringing the states of all examples, with nothing kept in memory."""
    pack = Pack(runner.base, runner.data, prefixes=PrefixCache(limit=0, store=store))
    pack._joined = join(
        runner.base.model, {}, pack._rows, runner.base.shape.layers_path, pack._layer_schedule
    )
    lengths = np.array([len(example["input_ids"]) for example in examples])
    cpu, wall = time.process_time(), time.perf_counter()
    for chunk in chunks(lengths, limit=2048, cost=64):
        pack.prefixes.get([examples[i] for i in chunk], layers, pack._compute)
    pack.prefixes.flush()
    return time.process_time() - cpu, time.perf_counter() - wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--examples", type=int, default=1000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    quickstart = load_sweep("quickstart")
    settings = {"MiniLM": setting("cpu", "fp32"), "built-in": (quickstart.model, quickstart.task)}
    for name, (model, task) in settings.items():
        runner = Runner(model, task)
        examples = runner.data.splits["train"][: arguments.examples]
        cpu = time.process_time()
        digest = base_digest(runner.base)
        print(f"{name}: the digest of the weights takes {time.process_time() - cpu:.2f} s")
        for layers in range(1, runner.base.shape.depth):
            with tempfile.TemporaryDirectory() as folder:
                shown = []
                for act, keep in (("compute", False), ("compute and write", True), ("read", True)):
                    store = PrefixStore(Path(folder), 2**33, partial(str, digest), runner.base.device)
                    taken = states(runner, examples, layers, store if keep else None)
                    shown.append(f"{act} {taken[0]:.3f} s ({taken[1]:.3f})")
                size = sum(path.stat().st_size for path in Path(folder).rglob("*.safetensors"))
            print(f"{name}: {layers} layers, {size / 1e6:.1f} MB: {', '.join(shown)}", flush=True)


if __name__ == "__main__":
    main()
