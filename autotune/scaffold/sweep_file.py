"""Generation of a commented sweep file for a model and a data file, for `autotune init`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from autotune.scaffold.data_form import DataForm
from autotune.scaffold.inspection import (
    DataInspection,
    ModelInspection,
    as_seq2seq,
    inspect_model,
    inspect_rows,
)
from autotune.scaffold.token_lengths import TokenLengths, measure_lengths
from autotune.scaffold.training_data import TrainingData, add_sibling_files, read_training_data
from autotune.sweep.sweep_file import parse_sweep
from search_spaces.errors import InvalidInputError, Problem
from search_spaces.language.yaml_io import dump_yaml, parse_yaml
from trials.kinds.registry import KINDS
from trials.reading.lengths import Cut
from trials.tasks.metrics import default_metric, metrics_for
from trials.tasks.specs import GENERATING, PreferenceLoss, TrialTask

_TOKENS_PER_WORD = 1.4
_KINDS = " | ".join(KINDS)

_SEARCH = """\
# The search space. `lora` searches the placement, rank, scale and variants of LoRA, its learning rate and the
# training parameters. Other presets: lora-plain (few parameters), adapters (every family), tiny-adapters. To
# change a preset, write families and parameters: {{families: [lora, head], parameters: {{lora.rank: {{high: 16}}}}}}.
space: lora

# One to four objectives: metrics of the task, or costs: trainable_params, stored_bytes, train_flops,
# inference_flops, train_seconds, peak_memory. A configuration that exceeds a limit is never on the front.
objectives:
  - {metric}
  - trainable_params    # with a limit: {{name: trainable_params, max: 1%}} of the base model's parameters
  # - train_flops

# The search ends after this many trials or hours, whichever comes first.
budget: {{trials: 30, hours: 2}}

# Examples per epoch of a trial, and examples for its evaluation. By default as many as the budget allows, by the
# measured speed of this machine: `autotune run --dry-run` says how many. An exported run trains on all data.
# fidelity: {{train_samples: 2000, eval_samples: 1000}}    # | all

# At the end, points of the Pareto front are trained again with new seeds. seeds: 0 skips this.
confirm: {{seeds: 3, points: 8}}

# start_from: sweeps/NAME    # an earlier sweep on another task or model; see docs/guides/transfer.md
# ladder: true     # train each trial in steps and promote only the best; see docs/guides/ladder.md
sampler: pareto    # | {{strategy: carbs}} | {{strategy: autopeft}} | gp | tpe | nsga2 | random

# Where trials run, and how many at a time; by default the processes and threads that are measured as the fastest.
# executor: local    # | packed | {{name: processes, workers: 2}} | {{name: ray, address: auto}}
seed: 0
"""


@dataclass(frozen=True)
class Scaffold:
    """The text of a sweep file, and notes on every inferred value with its reason."""

    text: str
    notes: list[str]


def write_scaffold(
    model: str, data: Sequence[str | Path], out: Path, *, task: TrialTask | None = None, force: bool = False
) -> Scaffold:
    """Write a sweep file that `load_sweep` reads.

    Args:
        model: a Hugging Face model id or a folder.
        data: the training data: one file or several, a folder, or the id of a data set of the hub.
        out: the file to write.
        task: by default inferred from the data.
        force: overwrite the file if it exists.

    Raises:
        InvalidInputError: the file exists and `force` is off, or the model or the data cannot be used. Then nothing
            is written.
    """
    if out.exists() and not force:
        fix = "Choose another file with --out, or overwrite it with --force."
        raise InvalidInputError(Problem("--out", f"{str(out)!r} exists already", fix))
    if not out.parent.is_dir():
        fix = "Create it, or choose another with --out."
        raise InvalidInputError(Problem("--out", f"there is no folder {str(out.parent)!r}", fix))
    scaffold = make_scaffold(model, data, out, task=task)
    parse_sweep({"name": "check", **parse_yaml(scaffold.text, str(out))}, out.parent)
    partial = out.with_name(f".{out.name}.partial")
    try:
        partial.write_text(scaffold.text, encoding="utf-8")
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return scaffold


def make_scaffold(
    model: str, data: Sequence[str | Path], out: Path, *, task: TrialTask | None = None
) -> Scaffold:
    """Return the text of a sweep file.

    Args:
        model: a Hugging Face model id or a folder.
        data: the training data: one file or several, a folder, or the id of a data set of the hub.
        out: where the file will be; paths in it are relative to this file's folder.
        task: by default inferred from the data.

    Raises:
        InvalidInputError: the model or the data cannot be used.
    """
    folder = out.parent
    training = read_training_data(data)
    wanted: TrialTask | None = "causal-lm" if task == "seq2seq" else task
    found, about = inspect_rows(training.train, training.name, wanted), inspect_model(model)
    if task == "seq2seq":
        found = as_seq2seq(found, training.train, "--task says so")
    elif task is None and isinstance(about, ModelInspection) and about.encoder_decoder:
        reason = "the model is an encoder-decoder, and the data are prompts with completions"
        found = as_seq2seq(found, training.train, reason) if found.type == "causal-lm" else found
    notes = [about.note if isinstance(about, ModelInspection) else about, *found.notes]
    if isinstance(about, ModelInspection) and about.encoder and found.type in GENERATING:
        fix = "Choose a decoder such as gpt2, or data with a label column and another --task."
        what = f"{about.architecture} is an encoder, which cannot generate text for {found.type}"
        raise InvalidInputError(Problem("--model", what, fix))
    add_sibling_files(training, found.used, notes)
    measured = None if found.image else measure_lengths(model, training.train, found)
    max_length = 0 if found.image else _max_length(found, about, measured, notes)
    metric = _metric(found, notes)
    lines = [
        f"# A sweep on {training.name}. Run it with",
        "#",
        f"#     autotune run {out}",
        "#",
        "# Paths are relative to the folder of this file. Check the lines marked `inferred`.",
        "",
        f"model: {_inline(_path(model, folder) if Path(model).expanduser().is_dir() else model)}"
        "    # a Hugging Face model id, or a folder",
        "",
        *_task_lines(found, training, folder, metric, max_length),
        *_target_lines(about, measured, notes),
        *_template_lines(measured, notes),
        "",
    ]
    search = _SEARCH.format(metric=metric)
    return Scaffold("\n".join(lines) + "\n" + search, notes)


def _task_lines(
    found: DataInspection, data: TrainingData, folder: Path, metric: str, max_length: int
) -> list[str]:
    lines = [
        "task:",
        f"  type: {found.type}    # inferred; {_KINDS}",
        *_data_lines(data, folder),
    ]
    if found.type == "preference":
        lines[1] = "  type: preference    # inferred; or causal-lm, which learns the chosen answers only"
        lines.append(f"  loss: dpo    # | {' | '.join(get_args(PreferenceLoss)[1:])}")
    others = [c for c in found.columns if c not in found.used]
    seen = f"; other columns: {', '.join(others)}" if others else ""
    if found.form is not None:
        lines += [_form_line(name, value, found.form) for name, value in found.form.fields.items()]
        lines[-1] += seen.replace("; ", "    # ", 1) if "#" not in lines[-1] else seen
    elif found.image:
        lines.append(f"  image: {_inline(found.image)}    # inferred; the column of images{seen}")
    else:
        text = _inline(found.text if len(found.text) > 1 else found.text[0])
        lines.append(f"  text: {text}    # inferred; one column, or [two, columns] for text pairs{seen}")
    if found.label or found.label_columns:
        label, what = found.label or found.label_columns, "column" if found.label else "columns of 0 and 1"
        lines.append(f"  label: {_inline(label)}    # inferred; the {what} to predict")
    lines.append(f"  metric: {metric}    # {' | '.join(metrics_for(found.type))}")
    if metric == "f1" and found.rarer is not None:
        lines.append(
            f"  positive: {_inline([found.rarer])[1:-1]}    # the class that f1 scores; inferred, the rarer one"
        )
    if found.image is None:
        lines.append(f"  max_length: {max_length}    # longer examples are truncated to this many tokens")
    return lines


def _form_line(name: str, value: object, form: DataForm) -> str:
    comment = form.comments.get(name)
    return f"  {name}: {_inline(value)}" + (f"    # {comment}" if comment else "")


def _data_lines(data: TrainingData, folder: Path) -> list[str]:
    rows = f"    # {len(data.train):,} rows"
    if data.dataset is not None:
        lines = [f"  dataset: {_inline(data.dataset)}    # a data set of the hub", f"  train: train{rows}"]
    else:
        paths = [_path(path, folder) for path in data.paths]
        lines = [f"  train: {_inline(paths if len(paths) > 1 else paths[0])}{rows}"]
    for split, role in (("validation", "for the search"), ("test", "for the final scores only")):
        if split in data.files:
            lines.append(f"  {split}: {_inline(_path(data.files[split], folder))}    # {role}")
        elif split in data.others:
            lines.append(
                f"  # {split}: ...    # {role}; by default {len(data.others[split]):,} rows of {data.name}"
            )
        else:
            lines.append(f"  # {split}: ...    # {role}; without a file, a share of train is held out")
    return lines


def _target_lines(about: ModelInspection | str, measured: TokenLengths | None, notes: list[str]) -> list[str]:
    """Return the line of the limit of a decoder's completions; none for other tasks, or without a tokenizer."""
    if measured is None or not measured.targets:
        return []
    length = max(32, 32 * math.ceil(measured.targets / 32))
    positions = about.positions if isinstance(about, ModelInspection) else None
    chosen = min(length, positions or length)
    limited = f", limited to {chosen} by the model" if chosen < length else ""
    reason = f"since 98 % of the completions have at most {measured.targets:,} tokens{limited}"
    notes.append(f"max_target_length: {chosen} tokens, {reason}")
    return [f"  max_target_length: {chosen}    # longer completions are truncated to this many tokens"]


def _template_lines(measured: TokenLengths | None, notes: list[str]) -> list[str]:
    lines = []
    if measured is not None and measured.chat_template is not None:
        name = measured.chat_template
        notes.append(f"chat_template: {name}, since the model's tokenizer has no chat template")
        lines.append(
            f"  chat_template: {name}    # the model's tokenizer has none; or the path of a Jinja file"
        )
    if measured is not None and measured.merge_system:
        notes.append("merge_system: true, since the chat template refuses every row with its system turn")
        lines.append("  merge_system: true    # puts system messages before the first user turn's text")
    if measured is not None and measured.bad:
        notes.append(f"bad_rows: {measured.bad}")
        if "(roles: system" in measured.bad:
            lines.append("  # merge_system: true    # puts system messages before the first user turn's text")
        lines.append("  # bad_rows: drop    # leaves out the rows that the chat template refuses")
    return lines


def _max_length(
    found: DataInspection, about: ModelInspection | str, measured: TokenLengths | None, notes: list[str]
) -> int:
    ceiling = 1024 if found.type in GENERATING else 512
    if isinstance(about, ModelInspection) and about.positions:
        ceiling = min(ceiling, about.positions)
    if measured is None:
        tokens = found.words * _TOKENS_PER_WORD + 8
        reason = (
            f"estimated, since 98 % of the examples have at most {found.words} words and the model's tokenizer "
            "is not on this machine"
        )
    else:
        tokens = float(np.quantile(measured.tokens, 0.98)) if len(measured.tokens) else 1.0
        reason = f"since 98 % of the examples have at most {tokens:,.0f} tokens of the model's tokenizer"
    length = max(32, 32 * math.ceil(tokens / 32))
    chosen = min(length, ceiling)
    limited = f", limited to {ceiling} by the model or the cost" if chosen < length else ""
    notes.append(f"max_length: {chosen} tokens, {reason}{limited}")
    if measured is not None and (cut := Cut(chosen, measured.tokens)).count:
        notes.append(f"max_length: {cut.text('measured')}")
    return chosen


def _metric(found: DataInspection, notes: list[str]) -> str:
    if found.metric:
        return found.metric
    if found.type == "regression":
        return "pearson"
    if found.type in GENERATING:
        return default_metric(found.type)
    if found.majority > 0.75:
        notes.append(f"metric: f1, since one class makes up {found.majority:.0%} of the examples")
        return "f1"
    return "accuracy"


def _path(path: str | Path, folder: Path) -> str:
    """Return a path relative to a folder if it is inside that folder, and an absolute path otherwise."""
    full, base = Path(path).expanduser().resolve(), folder.resolve()
    return str(full.relative_to(base)) if full.is_relative_to(base) else str(full)


def _inline(value: object) -> str:
    """Return a value as YAML on one line."""
    text = dump_yaml([value] if isinstance(value, str) else value).strip()
    return text[1:-1] if isinstance(value, str) else text
