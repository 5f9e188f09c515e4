"""An extension of griffe: a docstring's section `Example:` is rendered as code, as `Examples:` is."""

from __future__ import annotations

import re
from typing import Any

import griffe


class DocstringExamples(griffe.Extension):
    """Rename the section `Example:`, which griffe takes for a remark, to `Examples:`."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rename the section in an object's docstring; griffe calls this for every object."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
