"""Commands that only read a finished sweep do not import the libraries of its sampler."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.import_graph import ROOT

CODE = """
import sys
from typer.testing import CliRunner
from autotune.cli.app import app

def check(command, *heavy):
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    loaded = {name for name in heavy if name in sys.modules}
    assert not loaded, (command, loaded)

folder, run = sys.argv[1:]
slow = ["gpytorch", "botorch", "datasets", "bitsandbytes"]
check(["status", folder], *slow, "torch", "transformers", "scipy.stats", "scipy.optimize", "sklearn", "plotly")
check(["report", folder], *slow, "torch", "transformers")
check(["export", folder, "--to", run, "--pick", "best"], *slow)
"""


def test_reading_a_sweep_does_not_import_its_sampler(finished_sweep: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    shutil.copytree(finished_sweep, folder)
    command = [sys.executable, "-c", CODE, str(folder), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        (
            "autotune.export.run_folder",
            ["peft", "surrogates.laws", "autotune.laws", "scipy.stats", "sklearn"],
        ),
        ("autotune.engine.plan", ["peft", "botorch", "datasets"]),
        ("autotune.engine.sweep_run", ["peft", "autotune.report", "autotune.figures", "scipy.stats"]),
        ("autotune.scaffold.sweep_file", ["peft", "datasets"]),
    ],
)
def test_a_module_of_a_command_imports_what_few_calls_need_later(module: str, heavy: list[str]) -> None:
    code = f"import sys, {module}\nprint([name for name in {heavy} if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert ran.stdout.strip() == "[]"


def test_the_registry_of_strategies_imports_none_of_them() -> None:
    code = (
        "import sys, autotune.sampler.strategies, autotune.sampler.pareto_sampler, autotune.blackbox.optimization\n"
        "print([name for name in ('torch', 'gpytorch', 'botorch') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert ran.stdout.strip() == "[]"
