"""Writes values as Python that makes them again."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any, Final, cast
from uuid import UUID

import attrs
from attrs import define, field

from sagaflow._forms.instances import is_message_class

_PLAIN: Final = (bool, int, float, str, bytes, type(None), type(...))
_TIMES: Final = (dt.date, dt.time, dt.timedelta, dt.tzinfo)


@define
class SourceText:
    """Writes expressions, and collects the imports that they need.

    :ivar names: what is imported, by its module.
    :ivar missing: names that cannot be imported, since they were defined within a function.
    """

    names: dict[str, set[str]] = field(factory=dict[str, set[str]])
    modules: set[str] = field(factory=set[str])
    missing: set[str] = field(factory=set[str])

    def name(self, thing: Any) -> str:
        """Return the name of a class or function."""
        qualified: str = thing.__qualname__
        if "<" in qualified:
            self.missing.add(thing.__name__)
            return str(thing.__name__)
        self.names.setdefault(thing.__module__, set()).add(qualified.partition(".")[0])
        return qualified

    def value(self, value: object) -> str:  # noqa: C901, PLR0911 - one answer for each kind of value
        """Return an expression for *value*."""
        given: Any = value
        match value:
            case Enum():
                return f"{self.name(type(given))}.{given.name}"
            case Decimal() | UUID():
                return f"{self.name(type(given))}({str(given)!r})"
            case list():
                return f"[{self._all(given)}]"
            case tuple():
                return f"({self._all(given)}{',' * (len(given) == 1)})"
            case set() | frozenset() if not given:
                return f"{type(given).__name__}()"
            case set():
                return f"{{{self._sorted(given)}}}"
            case frozenset():
                return f"frozenset({{{self._sorted(given)}}})"
            case Mapping():
                pairs = (f"{self.value(key)}: {self.value(item)}" for key, item in given.items())
                return f"{{{', '.join(pairs)}}}"
            case _ if isinstance(given, _TIMES):
                self.modules.add("datetime")
                return repr(given)
            case _ if isinstance(given, _PLAIN):
                return repr(given)
            case _ if is_message_class(cast("Any", type(given))):
                pairs = (f"{name}={self.value(item)}" for name, item in _arguments(given))
                return f"{self.name(type(given))}({', '.join(pairs)})"
            case _:
                return repr(given)

    def imports(self) -> list[str]:
        """Return the import statements, in order."""
        lines = [f"import {module}" for module in sorted(self.modules)]
        for module, names in sorted(self.names.items()):
            if module != "builtins":
                lines.append(f"from {module} import {', '.join(sorted(names))}")
        return lines

    def _all(self, values: Iterable[Any]) -> str:
        return ", ".join(map(self.value, values))

    def _sorted(self, values: Iterable[Any]) -> str:
        return ", ".join(sorted(map(self.value, values)))


def _arguments(value: Any) -> Iterator[tuple[str, object]]:
    """Yield what an instance of an attrs class or dataclass is made with."""
    cls = cast("Any", type(value))
    if attrs.has(cls):
        for attribute in attrs.fields(cls):
            if attribute.init:
                yield attribute.alias or attribute.name, getattr(value, attribute.name)
    else:
        for entry in dataclasses.fields(value):
            if entry.init:
                yield entry.name, getattr(value, entry.name)
