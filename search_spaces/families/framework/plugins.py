"""Families of other packages, from the entry points of the group `autotune.families`.

A space file names families and never modules: files are data, and only installed code runs. Worker processes import
the same packages, so they have the same families.
"""

from __future__ import annotations

from importlib.metadata import entry_points

GROUP = "autotune.families"
"""The entry point group of adapter families."""


def load_plugins() -> None:
    """Import the modules of the entry points, which register their families.

    Raises:
        ImportError: A module cannot be imported, or the name of its family is already registered.
    """
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except (ImportError, AttributeError, ValueError) as error:
            owner = entry.dist.name if entry.dist else "an unknown package"
            raise ImportError(
                f"{GROUP}: {entry.value!r} of {owner} cannot be used ({error}); repair or uninstall it"
            ) from error
