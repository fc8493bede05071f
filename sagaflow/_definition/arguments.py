"""Checks the arguments of a chain: states, classes of events, handlers, predicates."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Final, is_typeddict

import attrs

from sagaflow._definition.origin import Origin
from sagaflow._definition.state import State


def check_state(state: object, call: str, origin: Origin) -> None:
    """Refuse a value that is no state.

    :raises SagaDefinitionError: naming the call and the line.
    """
    if not isinstance(state, State):
        raise origin.error(
            f"{call}() takes a State, not {state!r}: declare it as a class attribute, "
            "`name = State()`, above this line"
        )


def check_event_class(event: object, by: object, origin: Origin) -> None:
    """Refuse a class that cannot be one of events, or lacks the attribute that ``by=`` names."""
    if not isinstance(event, type):
        raise origin.error(
            f"on() takes classes of events, not {event!r}: name them one by one, as in "
            ".on(Paid, Declined)"
        )
    if event.__module__ in ("builtins", "typing") or is_typeddict(event):  # its instances are dicts
        raise origin.error(
            f"{event.__name__} is no class of events: declare an attrs class for the event"
        )
    if not isinstance(by, str) or hasattr(event, by):
        return
    if attrs.has(event):
        names = [attribute.name for attribute in attrs.fields(event)]
    elif dataclasses.is_dataclass(event):
        names = [attribute.name for attribute in dataclasses.fields(event)]
    else:  # it sets its attributes when an instance is made
        return
    if by not in names:
        raise origin.error(
            f"{event.__name__} has no attribute {by!r}, which by= names; "
            f"it has: {', '.join(names) or 'none'}"
        )


def may_correlate(given: object) -> bool:
    """Tell whether *given* is an attribute's name or a callable, or None."""
    return given is None or (isinstance(given, str) and given != "") or callable(given)


EVENT_HANDLER: Final = "(self, event, ctx)"
TIMEOUT_HANDLER: Final = "(self, ctx)"


def check_handler(handler: object, origin: Origin, expected: str = EVENT_HANDLER) -> None:
    """Refuse a handler that cannot be called as *expected* shows.

    :raises SagaDefinitionError: naming the handler and its line.
    """
    problem = handler_problem(handler, expected)
    if problem is None:
        return
    place = origin
    if isinstance(handler, FunctionType):
        code = handler.__code__
        place = attrs.evolve(origin, filename=code.co_filename, line=code.co_firstlineno)
    raise place.error(problem, method=getattr(handler, "__name__", None))


def handler_problem(handler: object, expected: str = EVENT_HANDLER) -> str | None:
    """Tell what keeps *handler* from being called as *expected* shows, if anything."""
    if not isinstance(handler, FunctionType):
        return (
            f"a handler is a method, this is of type {type(handler).__name__}: write it with def "
            f"or async def {expected}, and leave out decorators that make something else of it"
        )
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        return "a handler returns, it does not yield: its code would never run; remove the yield"
    signature = _signature(handler)
    try:
        signature.bind(*[None] * len(expected.split(",")))
    except TypeError:
        what = "a handler" if expected == EVENT_HANDLER else "the handler of a timeout"
        return f"{what} takes {expected}, but this one takes {signature}: change that"
    return None


def check_guard(guard: object, origin: Origin) -> None:
    """Refuse a guard that is no predicate of (saga, event), or does not answer at once.

    :raises SagaDefinitionError: naming the line.
    """
    if not callable(guard):
        raise origin.error(f"when() takes a predicate of (saga, event), not {guard!r}")
    name = getattr(guard, "__qualname__", repr(guard))
    called = inspect.getattr_static(
        type(guard), "__call__", None
    )  # if the guard is an instance with a __call__
    for function in (getattr(guard, "__func__", guard), called):
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise origin.error(
                f"when() takes a predicate that answers at once, but {name} is to be awaited, so "
                "it would always hold: make it a plain function, and await in the handler"
            )
        if inspect.isgeneratorfunction(function):
            raise origin.error(
                f"when() takes a predicate that returns, but {name} yields, so it would always "
                "hold: return a bool"
            )
    try:
        signature = _signature(guard)
    except (TypeError, ValueError):  # a function that is written in C
        return
    try:
        signature.bind(None, None)
    except TypeError:
        raise origin.error(
            f"when() takes a predicate of (saga, event), but {name} takes {signature}: change that"
        ) from None


def _signature(function: Callable[..., object]) -> inspect.Signature:
    """Return the names of the parameters. Annotations are never evaluated."""
    if sys.version_info >= (3, 14):
        import annotationlib  # noqa: PLC0415

        found = inspect.signature(function, annotation_format=annotationlib.Format.STRING)
    else:
        found = inspect.signature(function)
    plain = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in found.parameters.values()
    ]
    return inspect.Signature(plain)
