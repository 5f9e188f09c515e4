"""An exported run in several processes: the same adapter as in one, and how it is started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainingArguments

from autotune.export import processes
from autotune.export.processes import CONFIG, launch_command, launch_note, write_config
from autotune.sweep.executor_spec import ExecutorSpec
from tests.unit.autotune.export.test_training_arguments import (
    adapted,
    learned,
    search_trainer,
    settings,
    trainer_of,
)
from trials.tasks.specs import ModelSpec

__all__ = ["search_trainer"]

SCRIPT = """
import os, sys, torch
from pathlib import Path
for folder in sys.argv[2:]:
    sys.path.insert(0, folder)
import search_trainer
from tests.unit.autotune.export.test_training_arguments import adapted, learned, settings, trainer_of
given = {**settings(), "use_cpu": False}  # of a sweep on the device `auto`
arguments = search_trainer.divided(given, int(os.environ["WORLD_SIZE"]))
model = adapted("causal-lm")
trainer = trainer_of(search_trainer, Path(sys.argv[1]).parent, arguments, model, "causal-lm", rows_of=8)
assert trainer.args.world_size == 2
trainer.train()
if trainer.is_world_process_zero():
    torch.save(learned(model), sys.argv[1])
"""


@pytest.mark.slow
def test_two_processes_train_what_one_trains(search_trainer: Any, tmp_path: Path) -> None:
    """Each runs two of the four examples of a step, which have different numbers of targets."""
    model = adapted("causal-lm")
    trainer_of(search_trainer, tmp_path, settings(), model, "causal-lm", rows_of=8).train()
    (tmp_path / "script.py").write_text(SCRIPT)
    folders = [path for path in sys.path if path.endswith(("templates", "trials/base", "trials/training"))]
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    ran = subprocess.run(
        [sys.executable, *command, str(tmp_path / "script.py"), str(tmp_path / "found.pt"), *folders],
        env={**os.environ, "PYTHONPATH": os.getcwd(), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    start = learned(adapted("causal-lm"))
    for name, tensor in learned(model).items():
        torch.testing.assert_close(found[name], tensor, atol=1e-5, rtol=1e-5)
        assert not torch.equal(start[name], tensor)


@pytest.mark.parametrize(
    ("micro", "count", "number", "expected"),
    [(8, 4, 2, (8, 2)), (8, 4, 4, (8, 1)), (8, 1, 2, (4, 1)), (6, 1, 3, (2, 1)), (4, 3, 2, (3, 2))],
)
def test_a_batch_stays_as_large(
    search_trainer: Any, micro: int, count: int, number: int, expected: tuple[int, int]
) -> None:
    given = {"per_device_train_batch_size": micro, "gradient_accumulation_steps": count}
    found = search_trainer.divided(given, number)
    assert (found["per_device_train_batch_size"], found["gradient_accumulation_steps"]) == expected
    assert expected[0] * expected[1] * number == micro * count
    assert found.get("use_cpu", False) == (not torch.cuda.is_available())
    with pytest.raises(SystemExit, match="cannot be divided among 7 processes"):
        search_trainer.divided(given, 7)


def test_processes_that_are_not_joined_are_refused(
    search_trainer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would train alone on a part of every batch."""
    arguments = TrainingArguments(str(tmp_path), **settings())
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit, match="2 processes were started, and transformers joins 1"):
        search_trainer.SearchTrainer(model=adapted("causal-lm"), args=arguments)


def sweep_with(executor: dict[str, Any], device: str = "cpu") -> Any:
    return SimpleNamespace(
        executor=ExecutorSpec.model_validate(executor), model=ModelSpec(name="x", device=device)
    )


def test_a_run_starts_in_the_processes_of_its_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together, alone = sweep_with({"name": "accelerate", "processes": 3}), sweep_with({"name": "local"})
    assert launch_note(alone) == ""
    assert processes.processes_of(sweep_with({"name": "accelerate"})) == 2, "on a CPU"
    assert "torchrun --nproc-per-node 3 train.py" in launch_note(together)
    for number in (1, 3):
        (tmp_path / "run.json").write_text(json.dumps({"processes": number}))
        command = launch_command(tmp_path)
        assert command[-1].endswith("train.py")
        assert ("--nproc-per-node" in command) == (number > 1)
    write_config(together, tmp_path)
    assert not (tmp_path / CONFIG).exists(), "accelerate starts processes on CPUs by MPI only"
    monkeypatch.setattr("trials.base.model.choose_device", lambda name: torch.device("cuda"))
    for sweep in (alone, together):
        write_config(sweep, tmp_path)
        assert (tmp_path / CONFIG).exists() == (sweep is together)
    from accelerate.commands.config.config_args import load_config_from_file

    assert load_config_from_file(str(tmp_path / CONFIG)).num_processes == 3
