"""Export of a trial as a training run that needs only transformers, peft and datasets."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import search_spaces
import trials
from autotune.export.head_notes import head_notes, target_notes
from autotune.export.training_arguments import (
    exported_attention,
    exported_evaluations,
    exported_precision,
    training_arguments,
)
from autotune.objectives import Objective, is_cost
from autotune.prepare.bound_base import model_shape, read_base
from autotune.prepare.fingerprint import load_unchanged
from autotune.prepare.own_scores import CODE_FOLDER
from autotune.results.selection import pick_trial
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import confirmation_statistics
from autotune.sweep.schema import Sweep
from search_spaces.errors import InvalidInputError, Problem
from search_spaces.families import REGISTRY
from search_spaces.families.framework.base import local_config
from search_spaces.model.shape import ModelShape
from search_spaces.parameters.training import OPTIMIZERS, optimizer_of
from search_spaces.parameters.types import Configuration
from search_spaces.transfer import transfer_configuration
from trials.base import added_loss, initialization, parameter_groups
from trials.base.quantization import unquantized
from trials.data.fingerprint import data_fingerprint, hub_commit, model_fingerprint
from trials.data.sources import SPLITS
from trials.data.task_data import TaskData
from trials.reading.encoding import Encoded
from trials.reading.fingerprint import Fingerprint
from trials.tasks.own_code import as_reference
from trials.tasks.specs import POCKET, TaskSpec, resolve_model
from trials.training import early_stopping
from trials.training.run import count_tokens, sequence_length
from trials.training.subsets import subset

if TYPE_CHECKING:
    from autotune.export.scaling import Change, RateLaw, Target

_TEMPLATES = Path(__file__).parent / "templates"
_SHARED_MODULES = (parameter_groups, initialization, early_stopping, added_loss)
"""Modules of the search that need none of its other modules, and that train.py imports beside itself."""
_TASK = "task"
"""The package in an exported run that holds copies of the packages of `_OF_TASKS`."""
_OF_TASKS = ("reading", "kinds", "scoring")
_TUNERS = Path(search_spaces.__file__).parent / "tuners"
"""A package with relative imports, of which a run with a composite adapter carries a copy."""


@dataclass(frozen=True)
class _Export:
    """What is exported: a configuration, possibly scaled, on a base model and all of the data.

    Args:
        results: The sweep.
        trial: The number of the exported trial.
        sweep: The sweep with the target's base model.
        data: The task's data, encoded for that model.
        shape: The shape of that model.
        config: The configuration for that model.
        steps: The number of optimizer steps.
        tokens: The number of training tokens, if the target sets it.
        changes: The settings that differ from the search, with reasons.
    """

    results: SweepTables
    trial: int
    sweep: Sweep
    data: TaskData
    shape: ModelShape
    config: Configuration
    steps: int
    tokens: float | None = None
    changes: tuple[Change, ...] = ()


def export_run(
    results: SweepTables,
    pick: str,
    where: Sequence[str],
    to: str | Path,
    scale_to: Target | None = None,
    law: RateLaw | None = None,
) -> Path:
    """Write a training run of a trial's configuration into a new folder.

    The folder gets adapter_config.json, training_args.json, run.json, train.py with the modules that it shares with
    the search, a README, a copy of data or base models that have no public name and of the user's own code, and for a
    composite adapter the folder `tuners`.

    Args:
        results: The sweep.
        pick: The point to export, see `pick_trial`.
        where: Conditions on the point, see `pick_trial`.
        to: The new folder.
        scale_to: The training tokens and the base model, if they differ from the search.
        law: The law by which learning rate and batch size are scaled; by default that of the sweep's own probe.

    Returns:
        The folder.

    Raises:
        InvalidInputError: `pick_trial` raises it, the folder is not empty, the data or the base model changed since
            the sweep began, or the target's base model does not support the configuration.
    """
    to = Path(to)
    trial = pick_trial(results, pick, where)
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise InvalidInputError(
            Problem("--to", f"{str(to)!r} exists and is not empty", "Give a folder that does not exist yet.")
        )
    export = _as_searched(results, trial)
    if scale_to is not None:
        from autotune.export.scaling import law_of_probe

        export = _scaled(export, scale_to, law or law_of_probe(results, trial))
    sweep, config, data = export.sweep, export.config, export.data
    family = REGISTRY[str(config["family"])]
    adapter = family.peft_config(local_config(family.name, config), export.shape, sweep.task.shape_task)
    preparation = family.preparation(local_config(family.name, config))
    to.mkdir(parents=True, exist_ok=True)
    model = _place_model(sweep, to)
    adapter.base_model_name_or_path = model
    seed = int(results.trials.set_index("trial")["seed"][trial])
    settings = training_arguments(config, sweep.model, export.steps, seed, export.tokens)
    family.schedule(adapter, export.steps)
    adapter.save_pretrained(str(to))
    _write_json(to / "training_args.json", settings)
    _write_json(to / "run.json", {
        "sweep": sweep.name,
        "trial": trial,
        "configuration": config,
        "model": model,
        "revision": hub_commit(sweep.model) or sweep.model.revision,
        "trust_remote_code": sweep.model.trust_remote_code,
        "precision": exported_precision(sweep.model),
        "weights": sweep.model.weights,
        "attn_implementation": exported_attention(sweep.model),
        "unquantized": unquantized(export.shape),
        "task": sweep.task.model_dump(),
        "sequence_length": min(sequence_length(config) or sweep.task.max_length, sweep.task.max_length),
        "optimizer": optimizer_of(config),
        "evaluations": exported_evaluations(sweep),
        "columns": list(sweep.task.columns),
        "required": list(sweep.task.required_columns),
        "classes": data.classes,
        "class_names": data.class_names,
        "own_metrics": {name: as_reference(name) for name in sweep.task.own_metrics},
        "evaluate": as_reference(sweep.task.evaluate) if sweep.task.evaluate else None,
        "target_scale": None if data.target_scale is None else asdict(data.target_scale),
        "learning_rate_factors": family.learning_rate_factors(local_config(family.name, config)),
        "preparation": None if preparation is None else preparation._asdict(),
        "splits": {name: _place_split(data, name, to, sweep.task) for name in SPLITS},
        "fingerprint": {name: _split_fingerprint(data, name, sweep.task) for name in SPLITS},
        "model_fingerprint": model_fingerprint(sweep.model, data.tokenizer, sweep.task),
    })  # fmt: skip
    for template in _TEMPLATES.glob("*.py"):
        shutil.copyfile(template, to / template.name)
    for module in _SHARED_MODULES:
        source = Path(str(module.__file__))
        shutil.copyfile(source, to / source.name)
    (to / _TASK).mkdir()
    (to / _TASK / "__init__.py").write_text(
        '"""From a row of data to the scores of a model, as in the search."""\n'
    )
    for name in _OF_TASKS:
        _copy_package(Path(trials.__file__).parent / name, to / _TASK)
    if (results.folder / CODE_FOLDER).is_dir():
        _copy_package(results.folder / CODE_FOLDER, to)
    if adapter.peft_type == "COMPOSITE":
        _copy_package(_TUNERS, to)
    readme = _readme(export, own_tuner=(to / "tuners").is_dir())
    (to / "README.md").write_text(readme, encoding="utf-8")
    return to


def _copy_package(package: Path, to: Path) -> None:
    shutil.copytree(package, to / package.name, ignore=shutil.ignore_patterns("__pycache__"))


def _as_searched(results: SweepTables, trial: int) -> _Export:
    """Return the trial with its own configuration and base model, on all of the data."""
    sweep, config = results.sweep, results.config(trial)
    data = load_unchanged(results.folder, sweep)
    steps = int(config["epochs"]) * -(-len(_train_split(sweep, data, config)) // int(config["batch_size"]))
    return _Export(results, trial, sweep, data, model_shape(sweep, data), config, steps)


def _scaled(export: _Export, target: Target, law: RateLaw) -> _Export:
    """Return the trial scaled to the target's base model and tokens by a law."""
    from autotune.export.scaling import Change, Scale, scaled

    sweep, config, changes = export.sweep, export.config, list[Change]()
    searched = subset(_train_split(sweep, export.data, config), sweep.fidelity.train_samples, seed=0)
    searched_tokens = count_tokens(searched)
    here = Scale(int(config["epochs"]) * searched_tokens, export.shape.base_parameters)
    data, shape = export.data, export.shape
    if target.model is not None and target.model != sweep.model.name:
        changes.append(Change("base", sweep.model.name, target.model, "requested"))
        sweep, data, shape = read_base(sweep, target.model)
        config = transfer_configuration(config, sweep.space, export.shape, shape)
        changes += [
            Change(
                name,
                str(export.config.get(name, "–")),
                str(config.get(name, "–")),
                "the same relative depth",
            )
            for name in sorted({*export.config, *config})
            if export.config.get(name) != config.get(name)
        ]
    train = _train_split(sweep, data, config)
    one_pass = count_tokens(train)
    passes = int(config["epochs"]) * one_pass
    tokens = float(passes) if target.tokens is None else target.tokens
    config, moved = scaled(config, law, here, Scale(tokens, shape.base_parameters))
    batch_tokens = int(config["batch_size"]) * one_pass / len(train)
    steps = max(1, round(tokens / batch_tokens))
    why = "requested" if target.tokens is not None else "all epochs of all the data"
    if tokens > 1.01 * passes:
        why += f"; {tokens / one_pass:.1f} passes over the data, against {config['epochs']} in the search"
    changes += [*moved, Change("training tokens", f"{here.tokens:,.0f}", f"{tokens:,.0f}", why)]
    before = round(here.tokens / (int(export.config["batch_size"]) * searched_tokens / len(searched)))
    changes.append(
        Change("steps", f"{before:,}", f"{steps:,}", "training tokens divided by the tokens per batch")
    )
    return _Export(export.results, export.trial, sweep, data, shape, config, steps, tokens, tuple(changes))


def _train_split(sweep: Sweep, data: TaskData, config: Configuration) -> Sequence[Encoded]:
    return data.at_length(sweep.task, sequence_length(config)).splits["train"]


def train_run(run: str | Path, *, changed_data: bool = False) -> dict[str, dict[str, float]]:
    """Run an exported `train.py` in a process of its own.

    Args:
        run: The folder of the run.
        changed_data: Whether the data and the base model may differ from those of the search.

    Returns:
        The scores by split and metric.

    Raises:
        InvalidInputError: The folder is not an exported run.
        RuntimeError: The training failed; the output of train.py contains the error.
    """
    run = Path(run)
    for name in ("train.py", "run.json", "training_args.json", "adapter_config.json"):
        if not (run / name).is_file():
            raise InvalidInputError(
                Problem("RUN", f"{str(run)!r} has no {name}", "Give a folder that autotune export wrote.")
            )
    options = ["--changed-data"] if changed_data else []
    code = subprocess.call([sys.executable, str(run.resolve() / "train.py"), *options])
    if code:
        raise RuntimeError(f"{run / 'train.py'} ended with exit code {code}")
    found: dict[str, dict[str, float]] = json.loads((run / "scores.json").read_text(encoding="utf-8"))
    return found


def _place_model(sweep: Sweep, to: Path) -> str:
    """Return the name of the base model in the run; the embedded model is copied, so that the run is independent."""
    name = sweep.model.name
    if name == POCKET:
        shutil.copytree(resolve_model(name), to / "base")
        return "./base"
    return name


def _place_split(data: TaskData, name: str, to: Path, task: TaskSpec) -> dict[str, Any]:
    """Return the source of a split in the run; a split without a public source is written beside the script.

    Only the columns of the task are written: others may hold images, which JSON lines cannot express.
    """
    if name in data.sources:
        return data.sources[name]
    file = Path("data") / f"{name}.jsonl"
    (to / "data").mkdir(exist_ok=True)
    data.raw[name].only(task.columns).write(to / file)
    return {"file": str(file)}


def _split_fingerprint(data: TaskData, name: str, task: TaskSpec) -> Fingerprint:
    """Return the fingerprint of the rows that the run reads; those that it contains all have target tokens."""
    return (
        data.fingerprint[name]
        if name in data.sources
        else data_fingerprint({name: data.raw[name]}, task)[name]
    )


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _value_text(results: SweepTables, trial: int, objective: Objective) -> str:
    """Return the value of an objective in the search and, for a score, on the confirmation seeds."""
    value = f"{results.trials.set_index('trial')[objective.name][trial]:,.6g}"
    if is_cost(objective.name):
        return value
    seen = confirmation_statistics(results, objective.name)
    first = results.first_trials[trial]
    if first not in seen.index:
        return f"{value} (search, one seed)"
    row = seen.loc[first]
    test = f", {row['test']:.4g} on the test split" if np.isfinite(row["test"]) else ""
    seeds = f"mean of {row['seeds']:.0f} seeds that the search did not use"
    return f"{row['mean']:.4g} ({seeds}){test}; {value} in the search"


def _readme(export: _Export, own_tuner: bool) -> str:
    results, sweep, config = export.results, export.sweep, export.config
    objectives = "\n".join(f"* {o.name}: {_value_text(results, export.trial, o)}" for o in results.objectives)
    settings = "\n".join(f"* `{name}`: {value}" for name, value in config.items())
    package = OPTIMIZERS[optimizer_of(config)].package
    needs = "" if package is None else f"\nThe optimizer also needs `pip install {package}`.\n"
    if sweep.model.quantized:
        needs += f"\nThe base model in {sweep.model.weights} also needs `pip install bitsandbytes`.\n"
    loading = (
        "Run `import tuners` (the folder here) once before peft loads this adapter.\n\n" if own_tuner else ""
    )
    extent = (
        "all examples" if export.tokens is None else f"{export.tokens:,.0f} tokens, in {export.steps:,} steps"
    )
    return (
        f"# Trial {export.trial} of the sweep `{sweep.name}`\n\n{objectives}\n\n"
        "Train it with `python train.py`: it needs transformers, peft and datasets. The adapter is saved in\n"
        "`adapter/` and the scores in `scores.json`. The search trained on "
        f"{sweep.fidelity.train_samples or 'all'} examples per epoch; this run trains on {extent}.\n"
        f"{_end_note(sweep)}{needs}\n"
        f"{loading}{head_notes(export.shape, export.data.class_names)}"
        f"{target_notes(sweep.task, export.data.target_scale)}{_changes(export.changes)}"
        f"## The configuration\n\n{settings}\n"
    )


def _end_note(sweep: Sweep) -> str:
    """Return which evaluation of the run counts; empty if it is the last one in any case."""
    if (evaluations := exported_evaluations(sweep)) is None:
        return ""
    patience, score = evaluations["selection"]["patience"], evaluations["selection"]["score"]
    ends = "" if patience is None else f" It ends after {patience} in a row without a better value."
    return (
        f"\nThe run is scored on the validation split {evaluations['count']} times by `{sweep.task.metric}`, as "
        f"in the sweep.{ends} The adapter of the {score} evaluation is saved.\n"
    )


def _changes(changes: Sequence[Change]) -> str:
    """Return the table of the settings that differ from the search; empty without changes."""
    if not changes:
        return ""
    rows = "\n".join(f"| {c.name} | {c.searched} | {c.exported} | {c.why} |" for c in changes)
    head = "| | search | this run | reason |\n| --- | --- | --- | --- |"
    return f"## Changes for the larger run\n\n{head}\n{rows}\n\n"
