"""How trials are divided among processes and threads, and how many train at a time in each process."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from autotune.calibrate.bench import Bench
from autotune.calibrate.candidates import Candidate
from autotune.calibrate.race import Race
from autotune.calibrate.spawning import can_start_workers
from autotune.estimate.speed import computing_with
from autotune.estimate.sweep_time import USUAL_TRIALS, is_isolated, processes_of, slots_of
from autotune.estimate.training_steps import Step
from autotune.sweep.executor_spec import ExecutorSpec
from autotune.sweep.schema import Sweep
from search_spaces.model.shape import ModelShape
from trials.base.cores import usable_cores
from trials.execution.compute import Compute

CONTENTION = 0.9
"""The speed of a process beside others that each have a core, as a share of its speed without them. On two cores of
an AMD EPYC (Zen 4), a second process left 0.90 to 1.02 of the examples per second of processor time."""
_PROCESSES_PAY = 1.1
"""Several processes must be so many times as fast as one: each loads the base model and takes memory."""
_TRIALS_PAY = 1.15
"""Twice as many trials at a time must be so many times as fast: a sampler that knows fewer results proposes worse."""
_TRIALS_PER_SLOT = 8
"""The trials of a budget per trial at a time, at least, for the same reason."""
STEPS = 3
"""The steps per contender for which a race must have time: one to warm up, and two that are timed."""
_PRODUCTS, _PRODUCTS_SECONDS = 20, 0.1
"""The products of matrices whose mean time shows whether threads wait for others, and the most seconds of them."""
_PACK = {"cpu": (1, 2, 4), "cuda": (1, 2, 4, 8, 16)}
"""The numbers of trials of a pack that are measured, by device."""
_PROCESS_BYTES = 2**29
"""The memory of a worker process without its base model: Python, PyTorch and the data."""
_BASES = 1.5
"""The memory of a base model in int8, as a multiple of that in fp32; the other precisions need less."""
_MEMORY_SHARE = 0.5
"""The share of the free memory that the base models of all processes may take."""


@dataclass(frozen=True)
class Layout:
    """The processes of an executor.

    Args:
        processes: the number of processes.
        threads: of each of them; None for what the executor sets.
        trials: that train at a time in each.
    """

    processes: int
    threads: int | None
    trials: int

    def __str__(self) -> str:
        threads = "" if self.threads is None else f" × {_counted(self.threads, 'thread')}"
        processes = _counted(self.processes, "process", "es")
        each = " in each" if self.processes > 1 else ""
        return f"{processes}{threads}, {_counted(self.trials, 'trial')} at a time{each}"

    def of(self, spec: ExecutorSpec, *, is_open: bool = False) -> ExecutorSpec:
        """Return an executor with this layout.

        Args:
            spec: the executor of the sweep.
            is_open: whether the sweep names no executor.
        """
        changes: dict[str, int | str | None] = {"threads": self.threads}
        if is_open and self.processes * self.trials > 1:
            changes["name"] = "packed"
        if spec.name == "packed" or "name" in changes:
            workers = None if is_open else spec.workers
            changes |= {"workers": workers or self.processes * self.trials, "processes": self.processes}
        return spec.model_copy(update=changes)


def _counted(count: int, name: str, plural: str = "s") -> str:
    return f"{count} {name}{'' if count == 1 else plural}"


@dataclass(frozen=True)
class Layouts:
    """The layouts that a sweep leaves open.

    Args:
        divisions: the numbers of processes, the smallest first, with the threads of each.
        trials: the numbers of trials of a process, the smallest first; empty if the sweep sets `slots`.
        slots: the most trials at a time of all processes, or the number that the sweep sets.
        note: why several processes are not considered, in a clause; empty if they are.
    """

    divisions: tuple[tuple[int, int | None], ...]
    trials: tuple[int, ...]
    slots: int
    note: str = ""

    @property
    def are_several(self) -> bool:
        """Whether there is something to choose."""
        return len(self.divisions) > 1 or len(self.trials) > 1

    @property
    def divided(self) -> tuple[Layout, ...]:
        """The layouts that differ in the division among processes."""
        return tuple(
            Layout(count, threads, self.trials[0] if self.trials else -(-self.slots // count))
            for count, threads in self.divisions
        )

    @property
    def of_one_process(self) -> Layouts:
        """The same without several processes where there is a choice."""
        least = min(count for count, _ in self.divisions)
        return replace(self, divisions=tuple(pair for pair in self.divisions if pair[0] == least))

    def packs(self, layout: Layout) -> tuple[Layout, ...]:
        """Return the layouts that differ from one in the number of trials of each process."""
        fitting = (trials for trials in self.trials if trials * layout.processes <= self.slots)
        return tuple(replace(layout, trials=trials) for trials in fitting)


def layouts(sweep: Sweep, shape: ModelShape) -> Layouts:
    """Return the layouts that the sweep leaves open and this machine has room for."""
    from trials.base.model import choose_device

    spec, device = sweep.executor, choose_device(sweep.model.device).type
    is_free = sweep.is_executor_open and not is_isolated(sweep)
    if not is_free and spec.name != "packed":
        processes, slots = processes_of(sweep), slots_of(sweep)
        threads = _threads(spec, device, 1) if processes is None else ((processes, spec.threads),)
        return Layouts(threads, (), slots)
    is_set = not is_free and spec.workers is not None
    slots = slots_of(sweep) if is_set else _most_slots(sweep, device)
    divisions, note = _divisions(spec, device, slots, shape)
    smallest = divisions[0][0]
    sizes = [n for n in _PACK.get(device, _PACK["cuda"]) if n == 1 or n * smallest <= slots]
    return Layouts(divisions, () if is_set else tuple(sizes), max(slots, smallest), note)


def _divisions(
    spec: ExecutorSpec, device: str, slots: int, shape: ModelShape
) -> tuple[tuple[tuple[int, int | None], ...], str]:
    """Return the divisions of packs among processes, and why there are not several."""
    if spec.processes is not None or device != "cpu":
        return _threads(spec, device, spec.processes or 1), ""
    if not can_start_workers():
        is_said = usable_cores() > 1
        why = 'one process, since no `if __name__ == "__main__":` of the script is around the run'
        return _threads(spec, device, 1), why if is_said else ""
    counts = [n for n in _powers(min(usable_cores(), slots)) if n == 1 or n <= _room(shape)]
    return tuple((n, Compute(spec.threads, processes=n).most_threads()) for n in counts), ""


def _threads(spec: ExecutorSpec, device: str, processes: int) -> tuple[tuple[int, int | None], ...]:
    """Return the divisions of a number of processes: all their cores, or a single thread, which needs no other."""
    if device != "cpu" or spec.threads is not None:
        return ((processes, spec.threads),)
    return tuple(
        (processes, threads) for threads in dict.fromkeys([Compute(processes=processes).most_threads(), 1])
    )


def _most_slots(sweep: Sweep, device: str) -> int:
    """Return the most trials at a time of a budget."""
    trials = sweep.budget.trials or USUAL_TRIALS
    return max(2 if device == "cpu" else 8, trials // _TRIALS_PER_SLOT)


def _room(shape: ModelShape) -> float:
    """Return the number of processes for which the memory suffices."""
    import torch

    from trials.packing.memory import free_memory
    from trials.packing.memory_model import MemoryModel

    free = free_memory(torch.device("cpu"))
    each = _BASES * MemoryModel(shape).base_bytes() + _PROCESS_BYTES
    return math.inf if free is None else _MEMORY_SHARE * free / each


def _powers(most: int) -> tuple[int, ...]:
    """Return 1, 2, 4, ... up to a number, and the number itself."""
    return tuple(sorted({2**k for k in range(most.bit_length()) if 2**k <= most} | {most}))


def choose_layout(
    bench: Bench, candidate: Candidate, found: Layouts, *, batch_size: int, rate: float, deadline: float
) -> tuple[Layout, bool]:
    """Measure the layouts and choose one: first the division among processes, then the trials of each.

    Several processes are not started: one process with the threads of each of them is measured.

    Args:
        bench: what is measured on.
        candidate: how the base model computes.
        found: the layouts.
        batch_size: of a typical configuration.
        rate: the training examples per second of one core, roughly.
        deadline: the time of the bench's clock at which the measurement ends.

    Returns:
        the layout, and whether all divisions were measured, so that it does not depend on what else ran meanwhile.
    """
    middle = (bench.clock() + deadline) / 2
    race = _Race(bench, candidate, batch_size, rate)
    # Where other processes are at work, a step of several threads may take fifty times as long.
    divided = [layout for layout in found.divided if threads_pay(layout.threads or 1)] or found.divided
    rates = race.rates(divided, middle)
    chosen = best_division(rates, divided)
    layout = best_pack(race.rates(found.packs(chosen), deadline, whole=True), chosen)
    return layout, len(found.divided) in (1, len(rates))


def best_division(rates: Mapping[Layout, float], simplest_first: Sequence[Layout]) -> Layout:
    """Return the division among processes with the most examples per second; the simplest if none was timed.

    A division that could not be timed, although another one could, is too slow.

    Args:
        rates: examples per second of one process of each division.
        simplest_first: all divisions.
    """
    timed = [layout for layout in simplest_first if layout in rates]
    best = timed[0] if timed else simplest_first[0]
    for layout in timed:
        if _total(layout, rates) >= _PROCESSES_PAY * _total(best, rates):
            best = layout
    return best


def _total(layout: Layout, rates: Mapping[Layout, float]) -> float:
    contention = CONTENTION if layout.processes > 1 else 1.0
    return layout.processes * contention * rates[layout]


def threads_pay(threads: int) -> bool:
    """Return whether several threads now multiply matrices at least as fast as one, since their cores are free."""
    if threads == 1:
        return True
    import torch

    x, weight = torch.ones(256, 512), torch.ones(512, 512)

    def seconds(count: int) -> float:
        with computing_with(count):
            x @ weight
            began, products = time.perf_counter(), 0
            while products < _PRODUCTS and time.perf_counter() - began < _PRODUCTS_SECONDS:
                x @ weight
                products += 1
            return (time.perf_counter() - began) / products

    return seconds(threads) <= seconds(1)


def best_pack(rates: Mapping[Layout, float], simplest: Layout) -> Layout:
    """Return the number of trials at a time: twice as many only if they are so much faster.

    Args:
        rates: examples per second of one process of each layout, the smallest pack first.
        simplest: the layout with the smallest pack.
    """
    best = simplest
    for layout in rates:
        doublings = math.log2(layout.trials / best.trials)
        if best in rates and layout != best and rates[layout] >= _TRIALS_PAY**doublings * rates[best]:
            best = layout
    return best


@dataclass(frozen=True)
class _Race:
    """Races of layouts on a bench; the arguments are those of `choose_layout`."""

    bench: Bench
    candidate: Candidate
    batch_size: int
    rate: float

    def rates(
        self, contenders: Sequence[Layout], deadline: float, *, whole: bool = False
    ) -> dict[Layout, float]:
        """Return the examples per second of one process of each layout; none if there is nothing to choose.

        Args:
            contenders: the layouts.
            deadline: as in `choose_layout`.
            whole: whether batches must have their full size. Packs make small batches faster, so smaller ones than
                those of the trials would mislead; and if whole ones take too long, there is no overhead to save.
        """
        if len(contenders) < 2:
            return {}
        trials = sum(layout.trials for layout in contenders)
        examples = (deadline - self.bench.clock()) * self.rate / (STEPS * trials)
        size = min(self.batch_size, int(examples))
        if size < (self.batch_size if whole else 1):
            return {}
        is_serial = self.bench.is_on_cpu and all(layout.threads == 1 for layout in contenders)
        race = Race(deadline, self.bench.clock, time.process_time if is_serial else time.perf_counter)
        seconds = race.run(
            {layout: partial(begin_in, layout, self.bench, self.candidate, size) for layout in contenders}
        )
        return {layout: layout.trials * size / took for layout, took in seconds.items()}


def begin_in(
    layout: Layout, bench: Bench, candidate: Candidate, size: int, chunk_tokens: int | None = None
) -> Step:
    """Start the trials of one process of a layout, and return one step of them with its threads.

    Args:
        layout: of the processes.
        bench: what is measured on.
        candidate: how the base model computes.
        size: the examples of a batch.
        chunk_tokens: the maximum number of tokens of one forward pass; by default what suits the device.
    """
    with computing_with(layout.threads):
        step = bench.steps(candidate, layout.trials, size, chunk_tokens)()

    def one() -> None:
        with computing_with(layout.threads):
            step()

    return one
