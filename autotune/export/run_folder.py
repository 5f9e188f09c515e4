"""Export of a trial as a training run that needs only transformers, peft and datasets."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import search_spaces
import trials
from autotune.export.exported_trial import as_searched, scaled_trial
from autotune.export.processes import launch_command, processes_of, write_config
from autotune.export.readme import readme
from autotune.export.training_arguments import (
    exported_attention,
    exported_evaluations,
    exported_precision,
    training_arguments,
)
from autotune.prepare.own_scores import CODE_FOLDER
from autotune.results.selection import pick_trial
from autotune.results.sweep_tables import SweepTables
from autotune.sweep.schema import Sweep
from search_spaces.errors import InvalidInputError, Problem
from search_spaces.families import REGISTRY
from search_spaces.families.framework.base import local_config
from search_spaces.parameters.training import optimizer_of
from trials.base import added_loss, initialization, parameter_groups, token_choice
from trials.base.pretrained import layer_settings
from trials.base.quantization import unquantized
from trials.data.fingerprint import data_fingerprint, hub_commit, model_fingerprint
from trials.data.sources import SPLITS
from trials.data.task_data import TaskData
from trials.reading.fingerprint import Fingerprint
from trials.tasks.own_code import as_reference
from trials.tasks.specs import POCKET, TaskSpec, resolve_model
from trials.training import early_stopping, subsets
from trials.training.run import sequence_length

if TYPE_CHECKING:
    from autotune.export.scaling import RateLaw, Target

_TEMPLATES = Path(__file__).parent / "templates"
_SHARED_MODULES = (parameter_groups, initialization, token_choice, early_stopping, added_loss, subsets)
"""Modules of the search that need none of its other modules, and that train.py imports beside itself."""
_TASK = "task"
"""The package in an exported run that holds copies of the packages of `_OF_TASKS`."""
_OF_TASKS = ("reading", "kinds", "scoring")
_TUNERS = Path(search_spaces.__file__).parent / "tuners"
"""A package with relative imports, of which a run with a composite adapter carries a copy."""


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
    export = as_searched(results, trial)
    if scale_to is not None:
        from autotune.export.scaling import law_of_probe

        export = scaled_trial(export, scale_to, law or law_of_probe(results, trial))
    sweep, config, data = export.sweep, export.config, export.data
    family = REGISTRY[str(config["family"])]
    adapter = family.peft_config(local_config(family.name, config), export.shape, sweep.task.shape_task)
    preparation = family.preparation(local_config(family.name, config))
    to.mkdir(parents=True, exist_ok=True)
    model = _place_model(sweep, to)
    adapter.base_model_name_or_path = model
    settings = training_arguments(export)
    family.schedule(adapter, export.steps)
    adapter.save_pretrained(str(to))
    _write_json(to / "training_args.json", settings)
    _write_json(to / "run.json", {
        "sweep": sweep.name,
        "trial": trial,
        "configuration": config,
        "model": model,
        "revision": hub_commit(sweep.model) or sweep.model.revision,
        "layers": layer_settings(sweep.model),
        "trust_remote_code": sweep.model.trust_remote_code,
        "precision": exported_precision(sweep.model),
        "weights": sweep.model.weights,
        "attn_implementation": exported_attention(sweep.model),
        "device_map": sweep.model.device_map,
        "processes": processes_of(sweep),
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
    write_config(sweep, to)
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
    text = readme(export, settings, model, own_tuner=(to / "tuners").is_dir())
    (to / "README.md").write_text(text, encoding="utf-8")
    return to


def _copy_package(package: Path, to: Path) -> None:
    shutil.copytree(package, to / package.name, ignore=shutil.ignore_patterns("__pycache__"))


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
    code = subprocess.call([*launch_command(run), *options])
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
