"""A saga class whose methods tell when they are called, and raise when they are told to."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FunctionType
from typing import Any

from attrs import define, field

from sagaflow._definition.saga import Saga
from sagaflow._model.errors import SagaflowError


class InjectedError(SagaflowError):
    """The error of a method that was told to raise."""


@define
class Instruments:
    """Which methods of a saga were called, and which are to raise.

    :ivar once: a method that raises when it is called next.
    :ivar broken: methods that raise whenever they are called.
    :ivar called: the methods that the library has called, in order.
    :ivar errors: the errors that methods have raised without being told to.
    """

    once: str | None = None
    broken: frozenset[str] = frozenset()
    called: list[str] = field(factory=list[str])
    errors: list[tuple[str, Exception]] = field(factory=list[tuple[str, Exception]])
    _depth: int = 0

    def reset(self, once: str | None, broken: frozenset[str]) -> None:
        """Forget what has happened, and have these methods raise from now on."""
        self.once, self.broken = once, broken
        self.called, self.errors, self._depth = [], [], 0

    @contextmanager
    def within(self, name: str) -> Generator[None]:
        """Note a call of a method, and raise if the method is to raise."""
        outermost = self._depth == 0
        if outermost:
            self.called.append(name)
            if name == self.once or name in self.broken:
                self.once = None
                raise InjectedError(f"{name!r} was told to fail")
        self._depth += 1
        try:
            yield
        except Exception as exc:
            if outermost:
                self.errors.append((name, exc))
            raise
        finally:
            self._depth -= 1


def instrumented(saga: type[Saga], instruments: Instruments) -> type[Saga]:
    """Return a subclass of *saga* that is stored as *saga* is and tells *instruments*."""
    body: dict[str, Any] = {
        name: _told(name, function, instruments) for name, function in _methods(saga)
    }
    body |= {"__module__": saga.__module__, "__qualname__": saga.__qualname__}
    metaclass: Any = type(saga)
    made: type[Saga] = metaclass(saga.__name__, (saga,), body, name=saga.table.saga)
    return made


def _methods(saga: type[Saga]) -> Iterator[tuple[str, FunctionType]]:
    """Yield what the library may call: methods that users wrote."""
    for name in dict.fromkeys(name for cls in saga.__mro__ for name in vars(cls)):
        function = inspect.getattr_static(saga, name)
        if isinstance(function, FunctionType) and not name.startswith("_"):
            yield name, function


def _told(name: str, function: FunctionType, instruments: Instruments) -> Callable[..., Any]:
    # Without its `__dict__`, which says that the method is a transition.
    if inspect.iscoroutinefunction(function):

        @wraps(function, updated=())
        async def asynchronous(self: object, *args: Any, **kwargs: Any) -> Any:
            with instruments.within(name):
                return await function(self, *args, **kwargs)

        return asynchronous

    @wraps(function, updated=())
    def synchronous(self: object, *args: Any, **kwargs: Any) -> Any:
        with instruments.within(name):
            return function(self, *args, **kwargs)

    return synchronous
