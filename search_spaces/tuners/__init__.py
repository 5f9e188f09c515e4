"""A peft method of our own, COMPOSITE: any set of adapter parts at once on one model, in one adapter file.

Import this package before peft is to read or build such an adapter; importing it registers the method:

    from search_spaces import tuners
    PeftModel.from_pretrained(base, folder)

It needs torch, peft and transformers and nothing else of this project, and its imports are relative, so that
the folder works from anywhere: an exported run has a copy of it.
"""

from . import bottleneck, compacter, copies, low_rank, prefix, rescaling  # each enters its kinds of part
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
    "prefix",
    "rescaling",
]
