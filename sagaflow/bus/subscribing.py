"""How handlers are subscribed, the same on every bus."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar, overload

from sagaflow._model.envelope import Envelope
from sagaflow.bus.subscriptions import Subscriptions

MessageT = TypeVar("MessageT")
ReplyT = TypeVar("ReplyT")


class SubscribingBus:
    """A bus whose handlers are functions of this process."""

    def __init__(self) -> None:
        self._subscriptions = Subscriptions()

    @overload
    def subscribe(
        self, message_type: type[MessageT], handler: Callable[[MessageT], ReplyT], /
    ) -> Callable[[MessageT], ReplyT]: ...

    @overload
    def subscribe(
        self,
        message_type: type[MessageT],
        handler: Callable[[Envelope[MessageT]], ReplyT],
        /,
        *,
        envelope: Literal[True],
    ) -> Callable[[Envelope[MessageT]], ReplyT]: ...

    @overload
    def subscribe(
        self, message_type: type[MessageT], /
    ) -> Callable[[Callable[[MessageT], ReplyT]], Callable[[MessageT], ReplyT]]: ...

    @overload
    def subscribe(
        self, message_type: type[MessageT], /, *, envelope: Literal[True]
    ) -> Callable[
        [Callable[[Envelope[MessageT]], ReplyT]], Callable[[Envelope[MessageT]], ReplyT]
    ]: ...

    @overload
    def subscribe(
        self, message_type: type[Any], handler: Callable[..., Any], /, *, envelope: bool
    ) -> Any: ...

    def subscribe(
        self, message_type: type[Any], handler: Any = None, /, *, envelope: bool = False
    ) -> Any:
        """Have *handler* called with every message of this class or a subclass.

        Also a decorator: ``@bus.subscribe(ProcessPayment)``. What a handler returns is the reply:
        it is published like what the handler publishes itself. A message that a handler publishes
        without an id gets one made from the id of the message that it handles, so that a second
        delivery is answered with the same ids.

        :param message_type: the class of the messages.
        :param handler: ``def`` or ``async def``; takes the message, and returns a message or None.
        :param envelope: whether the handler takes the `Envelope` instead: body, id, correlation
            id, headers.
        :return: the handler itself.
        :raises BusError: if *message_type* is no class, or *handler* is no callable.
        :raises WireError: on a broker, if neither the class nor a subclass is among ``messages=``.
        """
        if handler is None:
            return partial(self._subscriptions.add, message_type, envelope=envelope)
        return self._subscriptions.add(message_type, handler, envelope=envelope)

    def unsubscribe(self, handler: Callable[..., Any], /) -> None:
        """Stop calling *handler*."""
        self._subscriptions.remove(handler)
