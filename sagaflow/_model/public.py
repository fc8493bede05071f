"""Where users find what is defined in a module of which they need not know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def public_in(module: str, *functions: Callable[..., Any]) -> None:
    """Have functions name the module from which they are imported as theirs.

    Classes keep their own: `typing.get_type_hints` reads the annotations of a class there.
    """
    for function in functions:
        function.__module__ = module
