"""The adapter families. To add one, write its file and import it here; see CONTRIBUTING.md."""

from search_spaces.families import head, ia3, lora, norm, prefix, prompt
from search_spaces.families.base import REGISTRY, AdapterCost, Family, TaskType, local_config, register

__all__ = [
    "REGISTRY",
    "AdapterCost",
    "Family",
    "TaskType",
    "head",
    "ia3",
    "local_config",
    "lora",
    "norm",
    "prefix",
    "prompt",
    "register",
]
