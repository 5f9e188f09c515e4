"""The table of the sub-packages, from their docstrings and the import graph."""

from __future__ import annotations

import ast

from docs.generators.markdown import table
from tests.import_graph import PACKAGES, ROOT, module_graph, package_graph, sub_package


def packages_table() -> str:
    """Return one table per package: sub-packages, what they are for, what they import of the same package."""
    graph = module_graph()
    imports = package_graph(graph)
    sizes: dict[str, int] = {}
    for module in graph:
        sizes[sub_package(module, graph)] = sizes.get(sub_package(module, graph), 0) + 1
    parts = []
    for package in PACKAGES:
        rows = [
            (f"`{name}`", _purpose(name), str(sizes[name]), _listed(imports[name], package))
            for name in sorted(imports)
            if name.startswith(f"{package}.")
        ]
        parts.append(
            f"### `{package}`\n\n{table(('module', 'purpose', 'files', f'imports from {package}'), rows)}"
        )
    return "\n".join(parts)


def _purpose(name: str) -> str:
    """Return the first sentence of a module's docstring."""
    path = ROOT.joinpath(*name.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    return " ".join(docstring.split("\n\n")[0].split())


def _listed(names: set[str], package: str) -> str:
    own = sorted(name.removeprefix(f"{package}.") for name in names if name.startswith(f"{package}."))
    return ", ".join(f"`{name}`" for name in own)
