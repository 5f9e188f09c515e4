"""The import graph of the project's packages, read from the sources without importing them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("search_spaces", "trials", "surrogates", "autotune")

Graph = dict[str, set[str]]
"""The names that each name imports."""


def sources(package: str) -> Iterator[Path]:
    """Yield the Python files of a package, without the templates that an export copies."""
    return (path for path in sorted((ROOT / package).rglob("*.py")) if "templates" not in path.parts)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def module_graph() -> Graph:
    """Return what each module imports, at its top, inside functions and for type checking alone."""
    modules = {module_name(path): path for package in PACKAGES for path in sources(package)}
    return {name: _imports(path, modules) - {name} for name, path in modules.items()}


def _imports(path: Path, modules: Mapping[str, Path]) -> set[str]:
    found: set[str] = set()
    folders = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & set(modules)
        elif isinstance(node, ast.ImportFrom):
            above = folders[: len(folders) - node.level + 1] if node.level else ()
            source = ".".join((*above, *filter(None, [node.module])))
            for (
                alias
            ) in node.names:  # `from package import module` imports the module, else a name of the source
                below = f"{source}.{alias.name}"
                found |= {below if below in modules else source} & set(modules)
    return found


def sub_package(module: str, modules: Mapping[str, object]) -> str:
    """Return the package that a module lies in; a module at the top of one of the four stands for itself."""
    is_package = any(other.startswith(f"{module}.") for other in modules)
    parent = module.rpartition(".")[0]
    return module if is_package or "." not in parent else parent


def package_graph(graph: Graph) -> Graph:
    """Return what each sub-package imports of the others."""
    packages: Graph = {}
    for module, imported in graph.items():
        package = sub_package(module, graph)
        packages.setdefault(package, set()).update(sub_package(name, graph) for name in imported)
    return {package: imported - {package} for package, imported in packages.items()}


def circles(graph: Graph) -> list[list[str]]:
    """Return the strongly connected components with more than one member (Tarjan, 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            component = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(component) > 1:
                found.append(sorted(component))

    for name in graph:
        if name not in index:
            visit(name)
    return found
