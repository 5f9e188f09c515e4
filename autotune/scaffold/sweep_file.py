"""`autotune init`: a commented sweep for a given model and data file, after looking at both."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from autotune.scaffold.inspection import (
    DataInspection,
    ModelInspection,
    inspect_data,
    inspect_model,
    read_rows,
)
from autotune.sweep.schema import parse_sweep
from search_spaces.errors import InvalidInputError, Problem
from search_spaces.families.framework.base import TaskType
from search_spaces.language.yaml_io import dump_yaml, parse_yaml
from trials.tasks.metrics import metrics_for

_VALIDATION = ("validation", "valid", "val", "dev", "eval")
_TEST = ("test",)
_TOKENS_PER_WORD = 1.4
_TRIAL_SAMPLES, _EVAL_SAMPLES = 2_000, 1_000
"""Examples that a trial trains and is judged on, where there are more: enough to tell them apart."""

_SEARCH = """\
# What may be tried. `lora` searches where LoRA goes, its rank, scale and variants, its learning rate and the
# knobs of training. Others: lora-plain (few knobs), adapters (every family), tiny-adapters. To change a
# preset write it out: {{families: [lora, head], parameters: {{lora.rank: {{high: 16}}}}}}.
space: lora

# What counts, two to four at once. Scores of the task, or costs: trainable_params, stored_bytes, train_flops,
# inference_flops, train_seconds, peak_memory. A limit is hard: nothing beyond it counts.
objectives:
  - {metric}
  - trainable_params    # with a limit: {{name: trainable_params, max: 1%}} of the base's parameters
  # - train_flops

# When the search ends: after so many trials or hours, whichever comes first.
budget: {{trials: 30, hours: 2}}

# A trial's share of the data, an epoch: enough to tell configurations apart. What is exported at the end
# trains on everything.{few}
{comment}fidelity: {{train_samples: {train}, eval_samples: {evaluate}}}

# At the end, points of the front run again on seeds that the search never saw. seeds: 0 skips it.
confirm: {{seeds: 3, points: 8}}

# ladder: true     # train every trial a little and let the best go on; see docs/guides/ladder.md
sampler: pareto    # | tpe | nsga2 | random
executor: local    # | {{name: processes, workers: 2}} | {{name: ray, address: auto}}
seed: 0
"""


@dataclass(frozen=True)
class Scaffold:
    """A sweep file's text, and what was guessed and why."""

    text: str
    notes: list[str]


def write_scaffold(
    model: str, data: Path, out: Path, *, task: TaskType | None = None, force: bool = False
) -> Scaffold:
    """Write a sweep file that `load_sweep` reads.

    Raises:
        InvalidInputError: the file exists (and not `force`), or model or data cannot be used; nothing is
            written.
    """
    if out.exists() and not force:
        fix = "Choose another name with --out, or add --force to replace it."
        raise InvalidInputError(Problem("--out", f"{str(out)!r} is there already", fix))
    if not out.parent.is_dir():
        raise InvalidInputError(Problem("--out", f"there is no folder {str(out.parent)!r}", "Make it first."))
    scaffold = make_scaffold(model, data, out, task=task)
    parse_sweep({"name": "check", **parse_yaml(scaffold.text, str(out))}, out.parent)
    partial = out.with_name(f".{out.name}.partial")
    try:
        partial.write_text(scaffold.text, encoding="utf-8")
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    return scaffold


def make_scaffold(model: str, data: Path, out: Path, *, task: TaskType | None = None) -> Scaffold:
    """The text of a sweep file that will be `out`."""
    folder = out.parent
    look, about = inspect_data(data, task), inspect_model(model)
    notes = [about.note if isinstance(about, ModelInspection) else about, *look.notes]
    if isinstance(about, ModelInspection) and about.encoder and look.type == "causal-lm":
        fix = "Choose a decoder such as gpt2, or give --task and data with a label column."
        raise InvalidInputError(Problem("--model", f"{about.architecture} cannot continue a text", fix))
    siblings = _siblings(data, look, notes)
    max_length = _max_length(look, about, notes)
    metric = _metric(look, notes)
    lines = [
        f"# What to try on {data.name}, and for how long. Run it with",
        "#",
        f"#     autotune run {out}",
        "#",
        "# Paths are relative to the folder of this file. Lines that say `guessed` deserve a look.",
        "",
        f"model: {_inline(_path(model, folder) if Path(model).expanduser().is_dir() else model)}"
        "    # a hub id, or a folder",
        "",
        *_task_lines(look, data, siblings, folder, metric, max_length),
        "",
    ]
    few = look.rows <= 1.5 * _TRIAL_SAMPLES
    search = _SEARCH.format(
        metric=metric,
        few=" These data are few enough." if few else "",
        comment="# " if few else "",
        train=_TRIAL_SAMPLES,
        evaluate=_EVAL_SAMPLES,
    )
    return Scaffold("\n".join(lines) + "\n" + search, notes)


def _task_lines(
    look: DataInspection, data: Path, siblings: dict[str, Path], folder: Path, metric: str, max_length: int
) -> list[str]:
    lines = [
        "task:",
        f"  type: {look.type}    # guessed; sequence-classification | regression | causal-lm",
        f"  train: {_inline(_path(data, folder))}    # about {look.rows:,} rows",
    ]
    for split, role in (("validation", "chooses"), ("test", "reports, and never chooses")):
        if split in siblings:
            lines.append(f"  {split}: {_inline(_path(siblings[split], folder))}    # {role}")
        else:
            lines.append(f"  # {split}: …    # {role}; without a file, a share of train is set aside for it")
    others = [c for c in look.columns if c not in look.used]
    seen = f"; other columns: {', '.join(others)}" if others else ""
    if look.messages:
        lines.append(
            f"  messages: {_inline(look.messages)}    # chats; the assistant's turns are learned{seen}"
        )
    elif look.prompt:
        lines.append(f"  prompt: {_inline(look.prompt)}    # given")
        lines.append(f"  completion: {_inline(look.completion)}    # learned{seen}")
    else:
        text = _inline(look.text if len(look.text) > 1 else look.text[0])
        lines.append(f"  text: {text}    # guessed; one column, or [two, columns] as a pair{seen}")
    if look.label:
        lines.append(f"  label: {_inline(look.label)}    # guessed; the column to predict")
    lines.append(f"  metric: {metric}    # {' | '.join(metrics_for(look.type))}")
    lines.append(f"  max_length: {max_length}    # tokens after which an example is cut; 98 % are shorter")
    return lines


def _siblings(data: Path, look: DataInspection, notes: list[str]) -> dict[str, Path]:
    """Files beside the training file that are named as its other splits and have its columns."""
    found: dict[str, Path] = {}
    for split, words in (("validation", _VALIDATION), ("test", _TEST)):
        for word in words:
            path = data.with_name(re.sub("train", word, data.name, flags=re.IGNORECASE))
            if "train" not in data.name.lower() or not path.is_file():
                continue
            rows = read_rows(path)
            missing = [c for c in look.used if c not in rows.columns or rows[c].isna().any()]
            if missing:
                notes.append(f"{path.name} was left out: {', '.join(missing)} is missing or has gaps there")
                continue
            notes.append(f"{split}: {path.name}, found beside {data.name}")
            found[split] = path
            break
        else:
            notes.append(f"{split}: no file for it beside {data.name}, so a share of the data is set aside")
    return found


def _max_length(look: DataInspection, about: ModelInspection | str, notes: list[str]) -> int:
    tokens = look.words * _TOKENS_PER_WORD + 8
    length = max(32, 32 * -(-int(tokens) // 32))
    ceiling = 1024 if look.type == "causal-lm" else 512
    if isinstance(about, ModelInspection) and about.positions:
        ceiling = min(ceiling, about.positions)
    chosen = min(length, ceiling)
    cut = " and no more fit the model or the budget" if chosen < length else ""
    notes.append(
        f"max_length: {chosen} tokens, since 98 % of the examples have at most {look.words} words{cut}"
    )
    return chosen


def _metric(look: DataInspection, notes: list[str]) -> str:
    if look.type == "regression":
        return "pearson"
    if look.type == "causal-lm":
        return "eval_loss"
    if look.majority > 0.75:
        notes.append(f"metric: f1, since one class alone makes up {look.majority:.0%} of the rows")
        return "f1"
    return "accuracy"


def _path(path: str | Path, folder: Path) -> str:
    """Relative to the sweep's folder where the file is inside it, else absolute."""
    full, base = Path(path).expanduser().resolve(), folder.resolve()
    return str(full.relative_to(base)) if full.is_relative_to(base) else str(full)


def _inline(value: object) -> str:
    """A value as YAML on one line."""
    text = dump_yaml([value] if isinstance(value, str) else value).strip()
    return text[1:-1] if isinstance(value, str) else text
