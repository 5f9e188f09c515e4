"""The adapter families: every module of this folder, and every installed plugin, registers its families.

CONTRIBUTING.md explains how to add one, here or in another package.
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
