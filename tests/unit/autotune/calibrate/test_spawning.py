"""Whether worker processes can be started from a script, a module, or without a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.import_graph import ROOT

ASK = "from autotune.calibrate.spawning import can_start_workers\n"
SHOW = "print(can_start_workers())"
SCRIPTS = {
    "top level": (SHOW, False),
    "guarded": (f"if __name__ == '__main__':\n    {SHOW}", True),
    "guarded function": (f"def main():\n    {SHOW}\nif '__main__' == __name__:\n    main()", True),
    "function outside the guard": (
        f"def main():\n    {SHOW}\nif __name__ == '__main__':\n    pass\nmain()",
        False,
    ),
    "another condition": (f"if __name__ != 'x':\n    {SHOW}", False),
    "thread": (f"import threading\nthreading.Thread(target=lambda: {SHOW}).start()", False),
}


def printed(*command: str, folder: Path) -> str:
    found = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
    )
    return found.stdout.strip()


@pytest.mark.parametrize("case", SCRIPTS)
def test_a_script_can_if_its_guard_is_around_the_caller(case: str, tmp_path: Path) -> None:
    body, can = SCRIPTS[case]
    (tmp_path / "script.py").write_text(ASK + body)
    assert printed("script.py", folder=tmp_path) == str(can)


def test_a_module_that_python_runs_is_a_script_and_a_package_is_not(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(ASK + SHOW)
    (tmp_path / "module.py").write_text(ASK + SHOW)
    assert printed("-m", "package", folder=tmp_path) == "True"
    assert printed("-m", "module", folder=tmp_path) == "False"


def test_code_without_a_file_can(tmp_path: Path) -> None:
    assert printed("-c", ASK + SHOW, folder=tmp_path) == "True"
