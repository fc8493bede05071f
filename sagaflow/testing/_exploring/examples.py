"""Examples of events: checked, and made up from the fields of their classes where there is none."""

from __future__ import annotations

import dataclasses
import datetime as dt
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import attrs

from sagaflow._definition.saga import Saga
from sagaflow._definition.table import TransitionTable
from sagaflow._engine.correlation import correlate
from sagaflow._forms.instances import is_message_class
from sagaflow._model.errors import SagaflowError
from sagaflow._model.ids import SagaId

_START: Final = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_VALUES: Final[Mapping[Any, object]] = {
    int: 1,
    float: 1.0,
    bool: True,
    bytes: b"",
    Decimal: Decimal(1),
    dt.datetime: _START,
    dt.date: _START.date(),
    dt.time: _START.time(),
    dt.timedelta: dt.timedelta(hours=1),
    UUID: UUID(int=1),
    object: "",
    Any: "",
}
_EMPTY: Final[Mapping[type, Any]] = {
    Mapping: dict,
    AbstractSet: set,
    tuple: tuple,
    Sequence: list,
}


class _CannotMakeError(Exception):
    """An example cannot be made up."""


def checked(saga: type[Saga], events: Iterable[object]) -> tuple[object, ...]:
    """Return *events*.

    :raises SagaflowError: if the saga does not take one, or one does not say which saga it is for.
    """
    found = tuple(events)
    for event in found:
        if not saga.table.takes(type(event)):
            raise SagaflowError(f"events: {saga.__name__} does not take {event!r}")
        if correlate(saga.table, event, None) is None:
            raise SagaflowError(
                f"events: {event!r} does not say which saga it is for: declare by= or "
                f"correlate_by= in {saga.__name__}"
            )
    return found


def made_up(
    saga: type[Saga], events: Sequence[object], wanted: Iterable[type]
) -> tuple[object, ...]:
    """Return an event of each class in *wanted* that has no example, all for one saga.

    :raises SagaflowError: naming every class of which none can be made, and why.
    """
    table = saga.table
    correlation_id = next(
        (found for event in events if (found := correlate(table, event, None)) is not None), None
    )
    made: list[object] = []
    problems: list[str] = []
    for cls in wanted:
        if any(isinstance(event, cls) for event in events):
            continue
        try:
            made.append(_made(table, cls, correlation_id))
        except _CannotMakeError as exc:
            problems.append(f"{cls.__name__}: {exc}")
        else:
            correlation_id = correlation_id or correlate(table, made[-1], None)
    if problems:
        raise SagaflowError(
            f"give an example of each of these in explore({saga.__name__}, events=[...]), since "
            "none could be made up: " + "; ".join(problems)
        )
    return tuple(made)


def _made(table: TransitionTable, cls: type, correlation_id: SagaId | None) -> object:
    by = table.correlator(cls) or table.correlate_by or "correlation_id"
    given = {by: correlation_id} if isinstance(by, str) and correlation_id is not None else {}
    event = _instance(cls, given)
    try:
        found = correlate(table, event, None)
    except SagaflowError as exc:
        raise _CannotMakeError(str(exc)) from exc
    if found is None or (correlation_id is not None and found != correlation_id):
        raise _CannotMakeError(f"{event!r} is not for the saga {correlation_id!r}")
    return event


def _instance(cls: type, given: Mapping[str, object]) -> object:
    try:
        hints = get_type_hints(cls)
    except Exception as exc:
        raise _CannotMakeError(f"its annotations cannot be read: {exc}") from exc
    arguments: dict[str, object] = {}
    for name, argument, has_default in _fields(cls):
        if name in given:
            arguments[argument] = given[name]
        elif not has_default:
            arguments[argument] = _value(name, hints.get(name, Any))
    try:
        return cls(**arguments)
    except Exception as exc:  # a validator of the user may raise anything
        raise _CannotMakeError(f"{type(exc).__name__}: {exc}") from exc


def _fields(cls: Any) -> Iterator[tuple[str, str, bool]]:
    """Yield the name of each field, what its argument is called, and whether it has a default."""
    if attrs.has(cls):
        for attribute in attrs.fields(cls):
            if attribute.init:
                has_default = attribute.default is not attrs.NOTHING
                yield attribute.name, attribute.alias or attribute.name, has_default
    else:
        for entry in dataclasses.fields(cls):
            missing = dataclasses.MISSING
            if entry.init:
                has_default = entry.default is not missing or entry.default_factory is not missing
                yield entry.name, entry.name, has_default


def _value(name: str, hint: Any) -> object:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is str:
        return name
    if hint in _VALUES:
        return _VALUES[hint]
    if origin is Literal:
        return arguments[0]
    if origin in (Union, types.UnionType):
        return None if type(None) in arguments else _value(name, arguments[0])
    container = origin or hint
    if isinstance(container, type):
        return _contained(name, container, arguments)
    raise _cannot(name, hint)


def _contained(name: str, given: type, arguments: tuple[Any, ...]) -> object:
    container: Any = given
    if issubclass(given, Enum):
        return next(iter(container))
    if issubclass(given, tuple) and arguments and arguments[-1] is not Ellipsis:
        return tuple(_value(name, argument) for argument in arguments)
    if container is frozenset:
        return frozenset[object]()
    for kind in _EMPTY:
        if issubclass(given, kind):
            empty: object = _EMPTY[kind]()
            return empty
    if is_message_class(container):
        return _instance(container, {})
    raise _cannot(name, container)


def _cannot(name: str, hint: object) -> _CannotMakeError:
    return _CannotMakeError(f"nothing can be made up for its field {name!r}: {hint!r}")
