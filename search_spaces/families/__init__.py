"""The adapter families: every file of this folder registers its own, and so does what others install.

To add one, here or in a package of your own, see CONTRIBUTING.md.
"""

from importlib import import_module
from pkgutil import iter_modules

from search_spaces.families.framework.base import (
    REGISTRY,
    AdapterCost,
    Family,
    TaskType,
    local_config,
    register,
)
from search_spaces.families.framework.plugins import load_plugins

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
load_plugins()

__all__ = ["REGISTRY", "AdapterCost", "Family", "TaskType", "local_config", "register"]
