"""The adapter families: every file of this folder registers its own. To add one, see CONTRIBUTING.md."""

from importlib import import_module
from pkgutil import iter_modules

from search_spaces.families.base import REGISTRY, AdapterCost, Family, TaskType, local_config, register

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["REGISTRY", "AdapterCost", "Family", "TaskType", "local_config", "register"]
