"""An extension of griffe, which reads docstrings for the site: our sections `Example:` are sessions of Python."""

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Give the sections of examples the name under which griffe knows them."""

    def on_object(self, *, obj: griffe.Object, **arguments: Any) -> None:
        """Rename the section in the docstring of an object."""
        if obj.docstring:
            obj.docstring.value = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
