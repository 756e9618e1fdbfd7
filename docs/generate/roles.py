"""Docstrings speak of other names as ``:class:`NAME```; the site shows the name."""

import re

import griffe

_ROLE = re.compile(r":\w+:`~?([^`]+)`")


class PlainRoles(griffe.Extension):
    """Turns such roles into code, in every docstring."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """A module, class, function or attribute was read."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value)
