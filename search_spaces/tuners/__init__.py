"""The peft method COMPOSITE: any combination of adapter parts on one model, in one adapter file.

Importing this package registers the method, which is necessary before peft builds or loads such an adapter:

    from search_spaces import tuners
    PeftModel.from_pretrained(base, folder)

The package depends only on torch, peft and transformers and has relative imports, so that it works from any folder:
an exported run contains a copy of it.
"""

from . import (  # each module registers its kinds of parts
    bottleneck,
    compacter,
    copies,
    low_rank,
    mixture,
    prefix,
    rescaling,
)
from .config import CompositeConfig
from .layer import CompositeLayer
from .model import CompositeModel
from .registration import register_composite

register_composite()

__all__ = [
    "CompositeConfig",
    "CompositeLayer",
    "CompositeModel",
    "bottleneck",
    "compacter",
    "copies",
    "low_rank",
    "mixture",
    "prefix",
    "rescaling",
]
