"""Which messages a handler's code mentions."""

from __future__ import annotations

from collections.abc import Iterator
from dis import get_instructions
from functools import lru_cache
from types import CodeType, FunctionType, ModuleType
from typing import Final

from sagaflow._forms.instances import is_message_class

_CLOSURE: Final = frozenset({"LOAD_DEREF"})
_GLOBAL: Final = frozenset({"LOAD_GLOBAL"})
_ATTRIBUTE: Final = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_HAVE_NAMES: Final = (ModuleType, type)
_REMEMBERED: Final = 4096
_BETWEEN: Final = frozenset({"CACHE", "EXTENDED_ARG", "PUSH_NULL"})


def mentioned_messages(function: FunctionType) -> Iterator[type]:
    """Yield the message classes that the code of *function* names.

    A message that was stored before a crash is read back by another process. That process knows
    its class, without any registration, because the saga's own code mentions it: the names are
    taken from the code, never from stored data.
    """
    closure: dict[str, object] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            closure[name] = cell.cell_contents
        except ValueError:  # a class that is defined further down: its name is not bound yet
            continue
    for scope, path in _paths(function.__code__):
        value: object = (closure if scope in _CLOSURE else function.__globals__).get(path[0])
        for name in path[1:]:
            if not isinstance(value, _HAVE_NAMES):
                break
            value = getattr(value, name, None)
        if isinstance(value, type) and is_message_class(value):
            yield value


@lru_cache(maxsize=_REMEMBERED)  # cached, since a test makes many orchestrators of one saga
def _paths(code: CodeType) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return every name and every dotted name that *code* loads, and where it loads it from."""
    found: list[tuple[str, tuple[str, ...]]] = []
    scope, path = "", tuple[str, ...]()
    for instruction in get_instructions(code):
        if instruction.opname in _CLOSURE | _GLOBAL:
            scope, path = instruction.opname, (instruction.argval,)
            found.append((scope, path))
        elif instruction.opname in _ATTRIBUTE and path:
            path = (*path, instruction.argval)
            found.append((scope, path))
        elif instruction.opname not in _BETWEEN:
            path = ()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found.extend(_paths(constant))
    return tuple(found)
