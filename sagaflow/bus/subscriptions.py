"""Who takes which messages on a bus."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final, cast

from attrs import define, field, frozen

from sagaflow._model.errors import BusError
from sagaflow.bus.rate import Terms
from sagaflow.bus.turns import MakeTurns, Turns

_PLAIN: Final[tuple[type[object], ...]] = (BuiltinFunctionType, FunctionType, MethodType)


@define(eq=False)
class Subscription:
    """A handler, and the messages that it takes.

    :ivar name: the same in every process that runs this program.
    :ivar waits: whether the handler may wait for something; a plain function does not.
    :ivar turns: what it waits for before it is called; None if it has no limits.
    """

    message_type: type
    handler: Callable[[Any], Any]
    envelope: bool
    name: str
    waits: bool
    turns: Turns | None = None


@frozen
class Takers:
    """The handlers that take messages of one class, each once even if it takes several classes.

    :ivar wait: whether any of these handlers may wait for something.
    """

    subscriptions: tuple[Subscription, ...]
    wait: bool


@define
class Subscriptions:
    """The subscriptions of one bus.

    :ivar make_turns: makes the turns of a subscription that has limits.
    :ivar check: called with the class of a new subscription; raises if its messages cannot come.
    :ivar on_change: called after each change.
    :ivar is_open: whether a subscription with limits may be added.
    """

    make_turns: MakeTurns
    check: Callable[[type], object] | None = None
    on_change: Callable[[], None] | None = None
    is_open: bool = True
    _all: list[Subscription] = field(factory=list[Subscription], init=False)
    _takers: dict[type, Takers] = field(factory=dict[type, Takers], init=False)

    def add(
        self,
        message_type: object,
        handler: object,
        *,
        envelope: bool,
        rate: object = None,
        concurrency: object = None,
    ) -> object:
        """Add a handler for messages of a class and its subclasses; return the handler.

        :raises BusError: if *message_type* is no class, *handler* is no callable, *rate* or
            *concurrency* is no limit, or there is one and limits come too late.
        :raises WireError: if no such message can come, since the class is not registered.
        """
        if not isinstance(message_type, type):
            raise BusError(f"subscribe() takes a class of messages first, not {message_type!r}")
        if not callable(handler):
            raise BusError(
                f"subscribe({message_type.__name__}, ...) takes a handler, not {handler!r}"
            )
        if self.check is not None:
            self.check(message_type)
        kind: type[object] = type(handler)
        waits = inspect.iscoroutinefunction(handler) or kind not in _PLAIN
        name = self._new_name(handler)
        where = f"subscribe({message_type.__name__}, {name})"
        terms = Terms.of(where, rate, concurrency)
        turns = None
        if terms is not None:
            if not self.is_open:
                raise BusError(
                    f"{where} has limits and the bus is open: subscribe with rate= or concurrency= "
                    "before `async with bus`, since the bus makes room for what waits"
                )
            turns = self.make_turns(f"{message_type.__module__}.{where}", terms)
            waits = True
        self._all.append(Subscription(message_type, handler, envelope, name, waits, turns))
        self._has_changed()
        return handler

    def remove(self, handler: Callable[..., Any]) -> None:
        """Remove all subscriptions of a handler."""
        self._all = [known for known in self._all if known.handler != handler]
        self._has_changed()

    def message_types(self) -> tuple[type, ...]:
        """Return the classes that somebody subscribes to, each once."""
        return tuple(dict.fromkeys(known.message_type for known in self._all))

    def limited(self) -> int:
        """Return how many subscriptions have limits."""
        return sum(known.turns is not None for known in self._all)

    def takers(self, message_type: type) -> Takers:
        """Return the handlers for messages of a class; kept until a subscription changes."""
        takers = self._takers.get(message_type)
        if takers is None:
            found: list[Subscription] = []
            for known in self._all:
                if issubclass(message_type, known.message_type) and all(
                    known.handler != other.handler for other in found
                ):
                    found.append(known)
            takers = Takers(tuple(found), any(one.waits for one in found))
            self._takers[message_type] = takers
        return takers

    def note_that_it_waits(self, subscription: Subscription) -> None:
        """Note that a plain function has returned something to wait for."""
        subscription.waits = True
        self._takers.clear()

    def _has_changed(self) -> None:
        self._takers.clear()
        if self.on_change is not None:
            self.on_change()

    def _new_name(self, handler: Callable[..., Any]) -> str:
        """Return a name for a handler: that of its code, and which one of this name it is."""
        code: object = handler
        while isinstance(code, partial):
            code = code.func
        named: Any = code if hasattr(code, "__qualname__") else cast("type[Any]", type(code))
        name = f"{named.__module__}.{named.__qualname__}"
        same = {id(known.handler) for known in self._all if known.name.partition("#")[0] == name}
        same.discard(id(handler))
        return f"{name}#{len(same) + 1}" if same else name
