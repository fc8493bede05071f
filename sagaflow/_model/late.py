"""Modules that are imported when somebody uses them."""

from __future__ import annotations

from importlib import import_module

from attrs import frozen


@frozen
class Late:
    """Stands for a module, also in annotations: `typing.get_type_hints` finds its classes."""

    _module: str

    def __getattr__(self, name: str) -> object:
        value: object = getattr(import_module(self._module), name)
        return value
