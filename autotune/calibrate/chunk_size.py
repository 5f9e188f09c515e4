"""How many tokens one forward pass of a pack has at most, as far as a sweep leaves it open."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from autotune.calibrate.bench import Bench
from autotune.calibrate.candidates import Candidate
from autotune.calibrate.layout import STEPS, Layout, begin_in
from autotune.calibrate.race import Race, ranking
from autotune.estimate.training_steps import typical_examples
from autotune.sweep.schema import Sweep
from search_spaces.families import REGISTRY
from search_spaces.parameters.types import Configuration
from trials.kinds.registry import find_kind

_FACTORS = (1.0, 0.5, 2.0)
"""The chunk sizes that are measured, as multiples of what usually suits the device; that one comes first."""


def chunk_sizes(sweep: Sweep, config: Configuration, longest: int, *, is_isolated: bool) -> tuple[int, ...]:
    """Return the chunk sizes that a sweep leaves open, in tokens, the usual one first.

    Args:
        sweep: the sweep.
        config: a typical configuration.
        longest: the tokens of the longest training example, which smaller chunks than the usual ones must hold.
        is_isolated: whether trials train by themselves.

    Returns:
        the sizes; none if the sweep sets one, if trials train without a pack, or on Ray, whose nodes may have other
        devices than this machine.
    """
    from trials.base.model import choose_device
    from trials.training.length_batching import suited_tokens

    spec = sweep.executor
    mixes_rows = REGISTRY[str(config["family"])].mixes_rows
    has_packs = (
        not is_isolated and not mixes_rows and find_kind(sweep.task.type).packs(sweep.task.model_dump())
    )
    if spec.chunk_tokens is not None or spec.name == "ray" or not has_packs:
        return ()
    usual = suited_tokens(choose_device(sweep.model.device))
    sizes = (int(factor * usual) for factor in _FACTORS)
    return tuple(size for size in sizes if size == usual or size >= longest)


def choose_chunk_size(
    bench: Bench,
    candidate: Candidate,
    layout: Layout,
    sizes: Sequence[int],
    *,
    batch_size: int,
    rate: float,
    deadline: float,
) -> tuple[int, str]:
    """Measure chunk sizes and choose one: the usual one unless another is faster, or if no time is left.

    Args:
        bench: what is measured on.
        candidate: how the base model computes.
        layout: the processes, and the trials of each.
        sizes: the chunk sizes in tokens, the usual one first.
        batch_size: of a typical configuration.
        rate: the training examples per second of one core, roughly.
        deadline: the time of the bench's clock at which the measurement ends.

    Returns:
        the chunk size in tokens, and why it is not the usual one, in a clause; empty if it is.
    """
    usual = sizes[0]
    lengths = typical_examples(bench.data, batch_size).tokens("train")
    contenders = differing(np.tile(lengths, layout.trials), sizes, cost=_starting_cost(bench))
    examples = STEPS * len(contenders) * layout.trials * batch_size
    if len(contenders) < 2 or examples > (deadline - bench.clock()) * rate:
        return usual, ""
    meter = time.process_time if bench.is_on_cpu and layout.threads == 1 else time.perf_counter
    seconds = Race(deadline, bench.clock, meter).run(
        {size: partial(begin_in, layout, bench, candidate, batch_size, size) for size in contenders}
    )
    if usual not in seconds:
        return usual, ""
    best = ranking(seconds, contenders)[0]
    if best == usual:
        return usual, ""
    faster = seconds[usual] / seconds[best]
    return best, f"chunks of {best:,} tokens instead of the usual {usual:,}, {faster:.2f} times as fast"


def differing(lengths: NDArray[np.int64], sizes: Sequence[int], cost: int) -> list[int]:
    """Return the first chunk size, and those that divide rows of some lengths in another way than all before.

    Args:
        lengths: the tokens of each row, shape [rows].
        sizes: the chunk sizes in tokens.
        cost: of starting a chunk, in tokens.
    """
    from trials.training.length_batching import chunks

    found: dict[tuple[int, ...], int] = {}
    for size in sizes:
        found.setdefault(tuple(len(rows) for rows in chunks(lengths, size, cost)), size)
    return list(found.values())


def _starting_cost(bench: Bench) -> int:
    from trials.base.model import choose_device
    from trials.training.length_batching import starting_cost

    return starting_cost(choose_device(bench.model.device))
