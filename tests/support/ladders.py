"""Sweeps on ladders, the files that their paused trials need, and what such a sweep found."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from autotune.ledger.folder_reader import FolderReader
from autotune.ledger.ledger import read_sweep
from autotune.results.ladder_view import read_scheduler
from autotune.results.sweep_tables import SweepTables
from autotune.sweep.schema import Sweep
from tests.support.sweeps import SPACE, small_sweep

EPOCHS_3 = {**SPACE, "parameters": {**SPACE["parameters"], "epochs": 3}}  # type: ignore[dict-item]
"""Nine steps a trial: rungs after 2, 5 and 9 of them."""
KINDS = ("data", "length")
"""What the rungs of `partial_sweep` are a part of."""
LENGTH = 12
"""Tokens of the longest text that `partial_sweep` trains on; its lowest rung has 8, as no text is cut to fewer."""


def ladder_sweep(tiny_model: Any, reviews: Path, **changes: Any) -> Sweep:
    """Ten trials with rungs of steps."""
    given = {"ladder": True, "space": EPOCHS_3, "budget": {"trials": 10}, "confirm": {"seeds": 0}, **changes}
    return small_sweep(tiny_model("bert"), reviews, **given)


def partial_sweep(tiny_model: Any, reviews: Path, of: str, **changes: Any) -> Sweep:
    """Six trials with rungs of examples or of text lengths."""
    ladder = changes.pop("ladder", {"of": of, "min": "40%", "eta": 1.6})
    given = {"ladder": ladder, "budget": {"trials": 6}, "confirm": {"seeds": 0}, **changes}
    sweep = small_sweep(tiny_model("bert"), reviews, **given)
    return sweep.model_copy(update={"task": sweep.task.model_copy(update={"max_length": LENGTH})})


def states(folder: Path) -> set[str]:
    """The names of the saved training states of a sweep."""
    return {path.name for path in (folder / "states").glob("*")}


def waiting_states(folder: Path) -> set[str]:
    """The files that the paused trials of a folder need, by what its ledger says."""
    on = read_scheduler(read_sweep(folder), FolderReader(folder, read_sweep(folder)).trials())
    waiting = (c for c in on.promotion.candidates.values() if c.status == "waiting")
    return {f"{candidate.number}-{candidate.rung}.safetensors" for candidate in waiting}


def what_was_found(results: SweepTables, *further: str) -> list[tuple[Any, ...]]:
    """Configuration, seed, status, share, `further` columns and accuracy of each trial that was not lost."""
    table = results.trials[results.trials["status"] != "lost"]
    columns = [table["config"].map(repr), *(table[name] for name in ("seed", "status", "share", *further))]
    return list(zip(*columns, table["accuracy"].fillna(-1), strict=True))


def with_config(source: Path, folder: Path, **changes: Any) -> Path:
    """Write another model with random weights, as `source` but for its configuration."""
    from transformers import AutoConfig, AutoModel

    shutil.copytree(source, folder)
    config = AutoConfig.from_pretrained(folder)
    config.update(changes)
    AutoModel.from_config(config).save_pretrained(folder)
    return folder
