"""Code of the user that a sweep runs: a file that the command line names, or an installed package.

A sweep file alone never runs code, since reading a file that somebody shared must not: its `module:function` names
code, and the module is imported when the sweep runs, if it belongs to an installed package or to a file that the
command line names. The text of such a file travels with the task to worker processes.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.util
import sys
from importlib.metadata import entry_points, packages_distributions
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from search_spaces.errors import InvalidInputError, Problem, first_line
from trials.scoring.own import Function, OwnScoreError, is_reference, load_function

ENTRY_POINTS = "autotune.metrics"
"""The group of entry points by which a package gives its scores short names."""


class OwnCode(BaseModel):
    """A file of the user's code.

    Args:
        path: The path of the file.
        text: Its content.
    """

    model_config = ConfigDict(frozen=True)

    path: str
    text: str

    @classmethod
    def read(cls, path: Path) -> OwnCode:
        """Read a file of Python code.

        Raises:
            InvalidInputError: It cannot be read, or its name is not that of a module of its own.
        """
        try:
            code = cls(
                path=str(path.expanduser().resolve()), text=path.expanduser().read_text(encoding="utf-8")
            )
        except (OSError, UnicodeDecodeError) as error:
            what = f"{str(path)!r} cannot be read ({first_line(error, 120)})"
            raise InvalidInputError(Problem("--code", what, "Give the path of a Python file.")) from error
        if path.suffix != ".py" or not code.module.isidentifier():
            what = f"{path.name!r} is not the name of a Python module"
            raise InvalidInputError(Problem("--code", what, "Name the file like my_score.py."))
        if not code.is_loaded and not _is_same_file(importlib.util.find_spec(code.module), code.path):
            what = f"{path.name!r} has the name of the module {code.module!r}, which exists"
            raise InvalidInputError(Problem("--code", what, "Give the file another name."))
        return code

    @property
    def module(self) -> str:
        """The name of the module."""
        return Path(self.path).stem

    @property
    def is_loaded(self) -> bool:
        """Whether this process has imported this text."""
        spec = getattr(sys.modules.get(self.module), "__spec__", None)
        return spec is not None and isinstance(spec.loader, _TextLoader) and spec.loader.text == self.text

    @property
    def digest(self) -> str:
        """The SHA-256 of the text."""
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()

    @property
    def is_importable(self) -> bool:
        """Whether an import in this process gives the module with this text."""
        found = next((f for f in sys.meta_path if getattr(f, "module", None) == self.module), None)
        is_found = isinstance(found, _Finder) and found.text == self.text
        return is_found and (self.module not in sys.modules or self.is_loaded)

    def install(self) -> None:
        """Make the module importable in this process, without what was imported before."""
        sys.modules.pop(self.module, None)
        sys.meta_path[:] = [f for f in sys.meta_path if getattr(f, "module", None) != self.module]
        sys.meta_path.insert(0, _Finder(self.module, self.path, self.text))


class _TextLoader(importlib.abc.SourceLoader):
    """Loads a module from its text, with the path of its file in tracebacks."""

    def __init__(self, path: str, text: str) -> None:
        self._path, self.text = path, text

    def get_filename(self, fullname: str) -> str:
        return self._path

    def get_data(self, path: str | bytes) -> bytes:
        if path != self._path:
            raise OSError("no compiled form is kept")
        return self.text.encode("utf-8")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the module of one file."""

    def __init__(self, module: str, path: str, text: str) -> None:
        self.module, self.text, self._loader = module, text, _TextLoader(path, text)

    def find_spec(
        self, fullname: str, path: object, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.module:
            return None
        return importlib.util.spec_from_loader(fullname, self._loader)


def short_names() -> dict[str, str]:
    """Return the references of the scores that installed packages give short names; nothing is imported."""
    return {
        entry.name: entry.value for entry in entry_points(group=ENTRY_POINTS) if is_reference(entry.value)
    }


def as_reference(name: str) -> str | None:
    """Return the reference that a name stands for, or None if it is the name of no code."""
    return name if is_reference(name) else short_names().get(name)


def load(name: str, code: tuple[OwnCode, ...]) -> Function:
    """Import a function of the user.

    Args:
        name: Its reference, or its short name.
        code: The files that the command line names.

    Raises:
        OwnScoreError: It cannot be imported, or belongs neither to one of the files nor to an installed package.
    """
    reference = as_reference(name)
    if reference is None:
        raise OwnScoreError(f"no installed package has a score with the name {name!r}")
    module = reference.partition(":")[0]
    if any(each.module == module for each in code):
        _install(code)
        return load_function(reference)
    if not is_installed(module):
        raise OwnScoreError(f"{module!r} is not an installed package, and no file of this name is given")
    return load_function(reference)


def _install(code: tuple[OwnCode, ...]) -> None:
    """Make all files importable, since one may import another; if one has changed, all are imported again."""
    if not all(each.is_importable for each in code):
        for each in code:
            each.install()


def is_installed(module: str) -> bool:
    """Return whether a module can be imported, and not only because its file lies in the working directory."""
    top = module.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return False
    if spec is None:
        return False
    places = [*(spec.submodule_search_locations or ()), *([spec.origin] if spec.origin else [])]
    is_here = any(Path(place).parent.resolve() == Path.cwd() for place in places)
    return not is_here or top in packages_distributions()


def digest(name: str, code: tuple[OwnCode, ...]) -> str:
    """Return the SHA-256 of the file that has a function, which was loaded."""
    function = load(name, code)
    module = (as_reference(name) or "").partition(":")[0]
    text = next((each.text.encode("utf-8") for each in code if each.module == module), None)
    if text is None:
        file = getattr(sys.modules.get(getattr(function, "__module__", module)), "__file__", None)
        text = Path(file).read_bytes() if file and Path(file).is_file() else repr(function).encode("utf-8")
    return hashlib.sha256(text).hexdigest()


def _is_same_file(spec: importlib.machinery.ModuleSpec | None, path: str) -> bool:
    """Return whether a module does not exist, or is this file, which the working directory makes importable."""
    if spec is None or isinstance(spec.loader, _TextLoader):
        return True
    return spec.origin is not None and Path(spec.origin).resolve() == Path(path)
