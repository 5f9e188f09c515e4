"""Commands that only read a finished sweep do not import the libraries of its sampler."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

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
check(["status", folder], "torch", "gpytorch", "botorch")
check(["report", folder], "torch", "gpytorch", "botorch")
check(["export", folder, "--to", run, "--pick", "best"], "gpytorch", "botorch")
"""


def test_reading_a_sweep_does_not_import_its_sampler(finished_sweep: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    shutil.copytree(finished_sweep, folder)
    command = [sys.executable, "-c", CODE, str(folder), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr


def test_the_registry_of_strategies_imports_none_of_them() -> None:
    code = (
        "import sys, autotune.sampler.strategies, autotune.sampler.pareto_sampler, autotune.blackbox.optimization\n"
        "print([name for name in ('torch', 'gpytorch', 'botorch') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert ran.stdout.strip() == "[]"
