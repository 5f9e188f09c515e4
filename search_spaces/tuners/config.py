"""The configuration of a composite adapter: a list of parts, each with its modules and sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from peft import PeftConfig
from peft.utils.constants import DUMMY_TARGET_MODULES
from peft.utils.peft_types import PeftType

from .part import build_part

PEFT_TYPE = "COMPOSITE"


@dataclass
class CompositeConfig(PeftConfig):
    """A composite adapter.

    Args:
        parts: one mapping a part. `kind` names it (see `part.KINDS`), `targets` its modules: a regular
            expression that matches whole module paths, or a list of paths. The rest are the kind's own
            settings. Sizes that differ from layer to layer are several parts of one kind with different
            targets. No parts: nothing but `modules_to_save` is trained.
        modules_to_save: names of modules trained in full beside the adapter, as everywhere in peft.
        target_modules: not read; peft asks every configuration for it.

    Raises:
        ValueError: a part is of no known kind, or its settings are wrong.
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
        # peft skips its search for targets at the dummy, and takes any other name for granted.
        self.target_modules = ["composite"] if self.parts else DUMMY_TARGET_MODULES
