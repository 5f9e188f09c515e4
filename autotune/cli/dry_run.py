"""What a sweep will do, as `autotune run --dry-run` prints it."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from autotune.cli.example_preview import example_json, example_preview, visible
from autotune.engine.events import WARNING
from autotune.engine.plan import Adapter, SweepPlan
from autotune.estimate.sweep_time import Range, slots_of
from autotune.formatting.compact import short_config
from autotune.formatting.units import counted, duration, quantity, si
from trials.data.preview import preview_examples


def dry_run_overview(plan: SweepPlan, examples: int) -> RenderableType:
    """Return what a sweep will do, with a number of examples as the model sees them."""
    sweep = plan.sweep
    title = Text(f"{sweep.name}: a dry run; nothing is trained or written", style="bold")
    notes = [
        Text(f"· {visible(note)}", "yellow" if note.startswith(WARNING) else "dim") for note in plan.notes
    ]
    shown = preview_examples(plan.start.prepared.data, sweep.task, examples)
    drawn = [Padding(example_preview(example), (1, 0, 0, 0)) for example in shown]
    return Group(title, *notes, *drawn, Text(), _facts(plan))


def _facts(plan: SweepPlan) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, value in _rows(plan).items():
        table.add_row(name, Text(value))
    return table


def _rows(plan: SweepPlan) -> dict[str, str]:
    sweep, sizes, time = plan.sweep, plan.sizes, plan.time
    evaluations = sweep.fidelity.evaluations
    rows = {
        "examples": ", ".join(f"{count:,} {split}" for split, count in plan.examples.items()),
        "per trial": f"{_examples(plan)} training examples per epoch; {sizes.evaluated:,} validation examples, "
        f"scored {'once' if evaluations == 1 else f'{evaluations} times'}",
        "space": f"{len(plan.families)} {'family' if len(plan.families) == 1 else 'families'} "
        f"({', '.join(plan.families)}), {counted(plan.parameters, 'parameter')}",
        **_tried_first(plan),
        "smallest": _adapter(plan.smallest),
        "largest": _adapter(plan.largest),
        "training": f"{_range('train_flops', plan.train_flops)} per trial{_span(plan)}",
    }
    if not time.speed.is_measured:
        return {**rows, "time": "unknown: no configuration could be trained here", **_memory(plan)}
    slots = slots_of(sweep)
    beside = f", {slots} at a time" if slots > 1 else ""
    rows["per trial, time"] = f"{_range('seconds', time.trial)}{beside}"
    rows["search"] = f"{_range('seconds', time.search)} for {counted(time.trials, 'trial')}"
    if time.confirmation.typical:
        rows["confirmation"] = _range("seconds", time.confirmation)
    rows["in all"] = _range("seconds", time.total)
    if plan.finished:
        rows["finished"] = f"{counted(plan.finished, 'trial')} of this sweep; a run resumes after them"
    rows["ended by"] = _end(plan)
    rate = si(1 / time.speed.seconds_per_flop, "FLOP/s")
    overhead = 1000 * time.speed.seconds_per_step
    steps = f" and {overhead:.2g} ms per step" if overhead else ""
    rows["speed"] = f"{rate}{steps}, measured on this machine now"
    return {**rows, **_memory(plan)}


def _examples(plan: SweepPlan) -> str:
    least, most = plan.train_samples
    return f"{most:,}" if least == most else f"{least:,} to {most:,}"


def _span(plan: SweepPlan) -> str:
    """Return over how many decades the training FLOPs of the trials span, where there is more than one."""
    decades = math.log10(plan.flops_span)
    return f", {decades:.1f} decades from the smallest to the largest" if decades >= 1 else ""


def _tried_first(plan: SweepPlan) -> dict[str, str]:
    """Return the configurations that are trained before the sampler proposes any, one per line."""
    first = plan.start.search.first
    lines = [f"{each.origin}: {short_config(each.config)}" for each in first]
    return {"tried first": "\n".join(lines)} if lines else {}


def _end(plan: SweepPlan) -> str:
    """Return what ends the search."""
    if plan.time.ended_by == "space":
        return f"the space, which has {counted(plan.time.trials, 'configuration')}"
    return f"budget.{plan.time.ended_by}: {_limit(plan)}"


def _limit(plan: SweepPlan) -> str:
    budget = plan.sweep.budget
    if plan.time.ended_by == "hours" and budget.seconds is not None:
        return duration(budget.seconds)
    if plan.time.ended_by == "flops" and budget.flops is not None:
        return quantity("train_flops", budget.flops)
    return f"{budget.trials:,}"


def _memory(plan: SweepPlan) -> dict[str, str]:
    memory = plan.memory
    needed = memory.base + memory.trial
    free = "" if memory.free is None else f"; {si(memory.free, 'B')} are free"
    short = memory.free is not None and needed > memory.free
    warning = ". The largest configurations may not fit" if short else ""
    return {"memory": f"up to {si(needed, 'B')}, the base model {si(memory.base, 'B')} of it{free}{warning}"}


def _adapter(adapter: Adapter) -> str:
    count, share = quantity("trainable_params", adapter.trainable_params), f"{100 * adapter.share:.2g} %"
    return f"{count} parameters, {share} of the base model: {short_config(adapter.config)}"


def _range(name: str, value: Range) -> str:
    return f"{quantity(name, value.typical)} ({quantity(name, value.low)} to {quantity(name, value.high)})"


def dry_run_json(plan: SweepPlan, examples: int) -> dict[str, Any]:
    """Return the same as values that JSON can represent; seconds, bytes and FLOPs as numbers."""
    shown = preview_examples(plan.start.prepared.data, plan.sweep.task, examples)
    return {**plan.as_mapping(), "preview": [example_json(example) for example in shown]}
