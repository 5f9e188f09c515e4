"""The README of an exported run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from autotune.export.exported_trial import ExportedTrial
from autotune.export.head_notes import head_notes, target_notes
from autotune.export.processes import launch_note
from autotune.export.training_arguments import accumulation_note, exported_evaluations
from autotune.objectives import Objective, is_cost
from autotune.results.sweep_tables import SweepTables
from autotune.results.tables import confirmation_statistics
from autotune.sweep.schema import Sweep
from search_spaces.parameters.amounts import TRAIN_SAMPLES
from search_spaces.parameters.training import OPTIMIZERS, optimizer_of
from trials.base.pretrained import layer_settings
from trials.kinds.registry import find_kind

if TYPE_CHECKING:
    from autotune.export.scaling import Change


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


def readme(export: ExportedTrial, arguments: Mapping[str, Any], model: str, own_tuner: bool) -> str:
    """Return the text of the README.

    Args:
        export: what is exported.
        arguments: those of `transformers.TrainingArguments`.
        model: the base model as the run names it: a hub id, or a folder, which may be relative to the run's.
        own_tuner: whether the run carries the adapter's method in a folder `tuners`.
    """
    results, sweep, config = export.results, export.sweep, export.config
    objectives = "\n".join(f"* {o.name}: {_value_text(results, export.trial, o)}" for o in results.objectives)
    settings = "\n".join(f"* `{name}`: {value}" for name, value in config.items())
    package = OPTIMIZERS[optimizer_of(config)].package
    needs = "" if package is None else f"\nThe optimizer also needs `pip install {package}`.\n"
    if sweep.task.image:
        needs += "\nIt reads images with Pillow: `pip install pillow`.\n"
    if sweep.model.quantized:
        needs += f"\nThe base model in {sweep.model.weights} also needs `pip install bitsandbytes`.\n"
    needs += layers_note(sweep, model, own_tuner)
    loading = (
        "Run `import tuners` (the folder here) once before peft loads this adapter.\n\n" if own_tuner else ""
    )
    return (
        f"# Trial {export.trial} of the sweep `{sweep.name}`\n\n{objectives}\n\n"
        "Train it with `python train.py`: it needs transformers, peft and datasets. The adapter is saved in\n"
        f"`adapter/` and the scores in `scores.json`. {_extent(export)}\n"
        f"{_end_note(sweep)}{accumulation_note(arguments)}{further_note(sweep)}{launch_note(sweep)}{needs}\n"
        f"{loading}{head_notes(export.shape, export.data.class_names)}"
        f"{target_notes(sweep.task, export.data.target_scale)}{_changes(export.changes)}"
        f"## The configuration\n\n{settings}\n"
    )


def _extent(export: ExportedTrial) -> str:
    """Return on which data the search trained, and on which this run trains."""
    searched = export.results.config(export.trial).get(TRAIN_SAMPLES.name)
    whole = len(export.data.splits["train"])
    if searched is not None and export.tokens is None:
        return (
            f"It trains on the {searched:,} of {whole:,} training examples\nthat the search trained on. For all of "
            "them, export it with `--scale-to tokens=NUMBER`, which also moves the\nlearning rate where the sweep "
            "has a law for it."
        )
    examples = searched or export.sweep.fidelity.train_samples or "all"
    extent = (
        "all examples" if export.tokens is None else f"{export.tokens:,.0f} tokens, in {export.steps:,} steps"
    )
    return f"The search trained on {examples} examples per epoch; this run trains on {extent}."


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


def layers_note(sweep: Sweep, model: str, own_tuner: bool) -> str:
    """Return how to load a base model without its upper layers and the adapter; empty for a whole one.

    Args:
        sweep: with the base model of the run.
        model: that base model as the run names it: a hub id, or a folder, which may be relative to the run's.
        own_tuner: whether the run carries the adapter's method in a folder `tuners`.
    """
    if not (settings := layer_settings(sweep.model)):
        return ""
    kind = find_kind(sweep.task.type)
    hub: dict[str, Any] = {"trust_remote_code": True} if sweep.model.trust_remote_code else {}
    revision = {} if sweep.model.revision is None else {"revision": sweep.model.revision}
    lines = [*(["import tuners"] if own_tuner else []), "from peft import PeftModel"]
    if kind.base_has_head:
        saved = "the adapter"
        lines += [f"from transformers import {kind.auto_model}", ""]
        given = _arguments(model, **settings, **hub, **revision)
    else:  # The new head has as many outputs as the adapter's, whatever head the checkpoint has.
        saved = "the adapter and the configuration of its base model"
        lines += [f"from transformers import AutoConfig, {kind.auto_model}", ""]
        lines.append(f"config = AutoConfig.from_pretrained({_arguments('adapter', **hub)})")
        given = _arguments(model, **hub, **revision, ignore_mismatched_sizes=True) + ", config=config"
    lines.append(f"model = {kind.auto_model}.from_pretrained({given})")
    lines.append("model = PeftModel.from_pretrained(model, 'adapter')")
    code = "\n".join(lines)
    return (
        f"\nThe base model is {sweep.model.name} with the lowest {sweep.model.layers} of its layers; on the whole\n"
        f"model the adapter computes something else. `train.py` saves {saved}\n"
        "in `adapter/`. To load them, run this in the folder of this README:\n\n"
        f"```python\n{code}\n```\n"
    )


def _arguments(name: str, **named: Any) -> str:
    """Return the arguments of a call of `from_pretrained`, as Python writes them."""
    return ", ".join([repr(name), *(f"{key}={value!r}" for key, value in named.items())])


def further_note(sweep: Sweep) -> str:
    """Return that the run does not score further data; empty if the task has none."""
    if not sweep.task.also:
        return ""
    names = ", ".join(each.name for each in sweep.task.also)
    return f"\nThe search also scored further data ({names}); `train.py` does not, so `scores.json` lacks them.\n"


def _changes(changes: Sequence[Change]) -> str:
    """Return the table of the settings that differ from the search; empty without changes."""
    if not changes:
        return ""
    rows = "\n".join(f"| {c.name} | {c.searched} | {c.exported} | {c.why} |" for c in changes)
    head = "| | search | this run | reason |\n| --- | --- | --- | --- |"
    return f"## Changes from the search\n\n{head}\n{rows}\n\n"
