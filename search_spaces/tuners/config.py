"""The configuration of a composite adapter: a list of parts with their modules and sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from peft import PeftConfig
from peft.utils.constants import DUMMY_TARGET_MODULES
from peft.utils.peft_types import PeftType

from .part import build_part

PEFT_TYPE = "COMPOSITE"
"""The name of the method in peft."""


@dataclass
class CompositeConfig(PeftConfig):
    """The configuration of a composite adapter.

    Args:
        parts: one mapping per part. `kind` is the kind of part (see `part.KINDS`), and `targets` are its modules: a
            regular expression that matches whole module paths, or a list of paths. The other entries are the settings
            of the kind. Parts of one kind with different targets give sizes that differ by layer. Without parts, only
            `modules_to_save` are trained.
        modules_to_save: names of modules that are trained in full with the adapter, as in other peft methods.
        target_modules: ignored; peft requires the field.

    Raises:
        ValueError: The kind of a part is unknown, or its settings are invalid.
    """

    parts: list[dict[str, Any]] = field(default_factory=list)
    modules_to_save: list[str] | None = None
    target_modules: list[str] | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType[PEFT_TYPE]
        for number, settings in enumerate(self.parts):
            try:
                build_part(settings)
            except (TypeError, ValueError) as error:
                raise ValueError(f"parts[{number}]: {error}") from error
        # peft skips its search for target modules at the dummy name, and accepts any other name.
        self.target_modules = ["composite"] if self.parts else DUMMY_TARGET_MODULES
