"""Whether worker processes can be started where a sweep is run.

A worker process imports the main module of its parent again (`multiprocessing.spawn`). A script that runs a sweep on
its top level, outside `if __name__ == "__main__":`, would run it again in each worker.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import FrameType, ModuleType


def can_start_workers() -> bool:
    """Return whether the main module can be imported again without running the caller of this function.

    It can if it has no file, as in a notebook or an interactive interpreter, if it is a package that Python runs
    (`python -m autotune`), or if what it runs now stands in the block of `if __name__ == "__main__":`.
    """
    main = sys.modules.get("__main__")
    name = getattr(getattr(main, "__spec__", None), "name", "")
    path = getattr(main, "__file__", None)
    if main is None or path is None or name.endswith("__main__"):
        return True
    line = _line_of(main, sys._getframe())
    return line is not None and _is_guarded(Path(path), line)


def _line_of(main: ModuleType, frame: FrameType | None) -> int | None:
    """Return the line that the main module runs on its top level; None if this thread was not started by it."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals is main.__dict__:
            return frame.f_lineno
        frame = frame.f_back
    return None


def _is_guarded(path: Path, line: int) -> bool:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):  # a launcher that is no text: it starts what it starts
        return True
    blocks = (node for node in tree.body if isinstance(node, ast.If) and _asks_for_main(node.test))
    return any(block.lineno <= line <= (block.end_lineno or block.lineno) for block in blocks)


def _asks_for_main(test: ast.expr) -> bool:
    match test:
        case ast.Compare(
            left=ast.Name(id="__name__"), ops=[ast.Eq()], comparators=[ast.Constant("__main__")]
        ):
            return True
        case ast.Compare(
            left=ast.Constant("__main__"), ops=[ast.Eq()], comparators=[ast.Name(id="__name__")]
        ):
            return True
    return False
