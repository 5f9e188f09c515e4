"""Every kind of task from the search to a loaded adapter, on real data.

    python -m benchmarks.tasks [--kinds causal-lm …] [--trials 6] [--write]

For each kind a short sweep runs on real data; the best point is exported and trained by its `train.py`, and the saved
adapter is loaded and scored in a new process. A row shows the front, the score of the search, that of the exported
run on the same split, and the largest difference between the scores of the exported run and those of the new process.
The loss of a batch is compared with that of the reference library: transformers' own model loss, or TRL's trainer
where the model has no such loss.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import autotune
from autotune.export.run_folder import train_run
from benchmarks.result_files import Table, store
from benchmarks.task_cases import CASES, DATA, Case
from trials.base.model import load_base
from trials.data.task_data import load_task
from trials.kinds.registry import KINDS, find_kind
from trials.tasks.specs import ModelSpec, TaskSpec

_COLUMNS = (
    "task",
    "data, base model",
    "metric",
    "points of the front",
    "search, validation",
    "exported run, validation",
    "exported run, test",
    "largest difference in a new process",
    "loss, difference from the library's",
)
_LOADED = """
import json, sys
from contextlib import nullcontext
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
import torch, train
from peft import PeftModel
base, splits = train.load_model(), {name: train.load_split(name) for name in ("validation", "test")}
arguments = SimpleNamespace(device=torch.device("cpu"), per_device_eval_batch_size=16, bf16=False)
if train.KIND.needs_reference(train.TASK):
    for examples in splits.values():
        train.add_reference(base, arguments, examples)
model = PeftModel.from_pretrained(base, sys.argv[1] + "/adapter")
trainer = SimpleNamespace(model=model, args=arguments, compute_loss_context_manager=nullcontext)
print(json.dumps({name: train.score_split(trainer, splits[name], name) for name in splits}))
"""
_BATCHES, _ROWS = 3, 8


def loaded_scores(run: Path) -> dict[str, dict[str, float]]:
    """Return the scores of the saved adapter of an exported run, by split, in a new process."""
    command = [sys.executable, "-c", _LOADED, str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def loss_difference(sweep: dict[str, Any]) -> float | None:
    """Return the largest relative difference between the kind's loss and the model's own over some batches.

    None where the model has no such loss.
    """
    import torch

    model, task = ModelSpec(**sweep["model"]), TaskSpec(**sweep["task"])
    kind = find_kind(task.type)
    if not kind.model_computes_loss:
        return None
    data = load_task(task, model)
    base, largest = load_base(model, task, data), 0.0
    for start in range(0, _BATCHES * _ROWS, _ROWS):
        examples = data.splits["train"][start : start + _ROWS]
        batch = kind.collate(examples, data.tokenizer)
        with torch.no_grad():
            theirs = float(base.model(**batch.inputs, **batch.targets).loss)
            losses = kind.losses(base.model(**batch.inputs), batch.targets)
        ours = float(losses.sum()) / sum(map(kind.target_count, examples))
        largest = max(largest, abs(ours - theirs) / abs(theirs))
    return largest


def row(case: Case, folder: Path, trials: int) -> tuple[str, ...]:
    """Run a case, and return its row."""
    sweep, metric = case.sweep(folder, trials), case.objectives[0]
    results = autotune.run(sweep, folder / "sweep", quiet=True)
    best = results.best()
    run = best.export(folder / "run")
    trained = train_run(run)
    again = loaded_scores(run)
    differences = [
        abs(trained[split][name] - again[split][name]) for split in trained for name in trained[split]
    ]
    difference = loss_difference(sweep)
    return (
        case.kind,
        case.about,
        metric,
        str(len(results.front)),
        f"{best.scores[metric].searched:.4g}",
        f"{trained['validation'][metric]:.4g}",
        f"{trained['test'][metric]:.4g}",
        f"{max(differences):.1e}",
        "see the tests" if difference is None else f"{difference:.1e}",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, print its table, and store it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(CASES))
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--write", action="store_true", help="store the table in benchmarks/results")
    options = parser.parse_args(arguments)
    if not DATA.is_dir():
        sys.exit(f"skipped: no {DATA}; set AUTOTUNE_DATA to the folder of the data")
    rows = []
    for name in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row(CASES[name], Path(folder), options.trials))
        print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    caption = f"{options.trials} trials of LoRA each, one seed; scores of the best point."
    table = Table(caption, _COLUMNS, tuple(rows))
    print(table.as_markdown())
    if options.write:
        store("tasks", {"tasks": table})


if __name__ == "__main__":
    main()
