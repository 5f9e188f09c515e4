"""Families that other packages bring: every installed entry point of the group `autotune.families`.

A space file names families and never modules: what a file says is data, and only what somebody has installed
is run. Worker processes import the same packages, so they know the same families.
"""

from __future__ import annotations

from importlib.metadata import entry_points

GROUP = "autotune.families"


def load_plugins() -> None:
    """Import what the entry points name; their modules register the families themselves.

    Raises:
        ImportError: one cannot be imported, or brings a family whose name is taken.
    """
    for entry in entry_points(group=GROUP):
        try:
            entry.load()
        except (ImportError, AttributeError, ValueError) as error:
            owner = entry.dist.name if entry.dist else "an unknown package"
            raise ImportError(
                f"{GROUP}: {entry.value!r} of {owner} cannot be used ({error}); repair or uninstall it"
            ) from error
