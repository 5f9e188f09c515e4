"""Registration of the method COMPOSITE with peft, and of its attention functions with transformers."""

from __future__ import annotations

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils.peft_types import PeftType, register_peft_method

from .attention import register_attention
from .config import PEFT_TYPE, CompositeConfig
from .model import CompositeModel


def register_composite() -> None:
    """Register the method; a second call, also from a second copy of this package, has no effect.

    peft accepts only names of its enumeration, so a member is added to the enumeration.
    """
    if PEFT_TYPE not in PeftType.__members__:
        _extend(PEFT_TYPE)
    if PEFT_TYPE not in PEFT_TYPE_TO_CONFIG_MAPPING:
        register_attention()
        register_peft_method(
            name=PEFT_TYPE.lower(), config_cls=CompositeConfig, model_cls=CompositeModel, prefix="composite_"
        )


def _extend(name: str) -> None:
    member = str.__new__(PeftType, name)
    member._name_ = name
    member._value_ = name
    type.__setattr__(PeftType, name, member)
    PeftType._member_names_.append(name)
    PeftType._member_map_[name] = member
    PeftType._value2member_map_[name] = member
