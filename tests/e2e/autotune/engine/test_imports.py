"""Commands that only read a finished sweep do not import the libraries of its sampler."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.import_graph import ROOT

CODE = """
import importlib, os, sys
from typer.testing import CliRunner
from autotune.cli.app import app

def check(of, *heavy):
    loaded = {name for name in heavy if name in sys.modules}
    assert not loaded, (of, loaded)

def check_command(command, *heavy):
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    check(command, *heavy)

def check_modules(modules, *heavy):
    for module in modules:
        importlib.import_module(module)
    check(modules, *heavy)

folder, run = sys.argv[1:]
slow = ["gpytorch", "botorch", "datasets", "bitsandbytes"]
child = os.fork()  # the modules below must not import the report, which these commands do
if not child:
    light = [*slow, "torch", "transformers"]
    check_command(["status", folder], *light, "scipy.stats", "scipy.optimize", "sklearn", "plotly")
    check_command(["report", folder], *light)
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
strategies = ["autotune.sampler.strategies", "autotune.sampler.pareto_sampler", "autotune.blackbox.optimization"]
check_modules(strategies, "torch", "gpytorch", "botorch")
check_modules(["autotune.engine.sweep_run"], "peft", "autotune.report", "autotune.figures", "scipy.stats")
check_modules(
    ["autotune.export.run_folder"], "peft", "surrogates.laws", "autotune.laws", "scipy.stats", "sklearn"
)
check_modules(["autotune.engine.plan", "autotune.scaffold.sweep_file"], "peft", "botorch", "datasets")
check_command(["export", folder, "--to", run, "--pick", "best"], *slow)
"""
"""What a check imports stays imported for those after it, so that none sees less than in a process of its own."""


def test_commands_and_their_modules_import_no_more_than_they_need(
    finished_sweep: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep"
    shutil.copytree(finished_sweep, folder)
    command = [sys.executable, "-c", CODE, str(folder), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert (folder / "report.html").stat().st_mtime > (finished_sweep / "report.html").stat().st_mtime
    assert (tmp_path / "run" / "train.py").is_file()
