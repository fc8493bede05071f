"""How handlers are subscribed, the same on every bus."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeVar, overload

from sagaflow._model.clock import Clock
from sagaflow._model.envelope import Envelope
from sagaflow.bus.rate import Rate, Terms
from sagaflow.bus.subscriptions import Subscriptions
from sagaflow.bus.turns import MakeTurns, OwnTurns

MessageT = TypeVar("MessageT")
ReplyT = TypeVar("ReplyT")


class SubscribingBus:
    """A bus whose handlers are functions of this process."""

    def __init__(self, clock: Clock) -> None:
        def turns(_: str, terms: Terms) -> OwnTurns:
            return OwnTurns(terms, clock)

        self._subscriptions = Subscriptions(turns)

    @overload
    def subscribe(
        self,
        message_type: type[MessageT],
        handler: Callable[[MessageT], ReplyT],
        /,
        *,
        rate: Rate | None = None,
        concurrency: int | None = None,
    ) -> Callable[[MessageT], ReplyT]: ...

    @overload
    def subscribe(
        self,
        message_type: type[MessageT],
        handler: Callable[[Envelope[MessageT]], ReplyT],
        /,
        *,
        envelope: Literal[True],
        rate: Rate | None = None,
        concurrency: int | None = None,
    ) -> Callable[[Envelope[MessageT]], ReplyT]: ...

    @overload
    def subscribe(
        self,
        message_type: type[MessageT],
        /,
        *,
        rate: Rate | None = None,
        concurrency: int | None = None,
    ) -> Callable[[Callable[[MessageT], ReplyT]], Callable[[MessageT], ReplyT]]: ...

    @overload
    def subscribe(
        self,
        message_type: type[MessageT],
        /,
        *,
        envelope: Literal[True],
        rate: Rate | None = None,
        concurrency: int | None = None,
    ) -> Callable[
        [Callable[[Envelope[MessageT]], ReplyT]], Callable[[Envelope[MessageT]], ReplyT]
    ]: ...

    @overload
    def subscribe(
        self,
        message_type: type[Any],
        handler: Callable[..., Any],
        /,
        *,
        envelope: bool,
        rate: Rate | None = None,
        concurrency: int | None = None,
    ) -> Any: ...

    def subscribe(
        self,
        message_type: type[Any],
        handler: Any = None,
        /,
        *,
        envelope: bool = False,
        rate: Rate | None = None,
        concurrency: int | None = None,
    ) -> Any:
        """Have *handler* called with every message of this class or a subclass.

        Also a decorator: ``@bus.subscribe(ProcessPayment)``. What a handler returns is the reply:
        it is published like what the handler publishes itself. A message that a handler publishes
        without an id gets one made from the id of the message that it handles, so that a second
        delivery is answered with the same ids.

        A subscription may have limits, which all processes of one ``sagaflow run`` keep together.
        A message that has to wait for its turn holds up those behind it of its saga, and no others;
        the time for which it waits is none of the handler's time. Calls that try a message again
        count like others.

        :param message_type: the class of the messages.
        :param handler: ``def`` or ``async def``; takes the message, and returns a message or None.
        :param envelope: whether the handler takes the `Envelope` instead: body, id, correlation
            id, headers.
        :param rate: how often the handler is called at most, such as
            ``Rate(50, per=timedelta(seconds=1))``.
        :param concurrency: how many messages the handler has at the same time, at most. On a
            broker there are never more than the bus handles at the same time.
        :return: the handler itself.
        :raises BusError: if *message_type* is no class, *handler* is no callable, a limit is none,
            or, on a broker, a subscription with limits comes after the bus was entered.
        :raises WireError: on a broker, if neither the class nor a subclass is among ``messages=``.
        """
        add = partial(
            self._subscriptions.add,
            message_type,
            envelope=envelope,
            rate=rate,
            concurrency=concurrency,
        )
        return add if handler is None else add(handler)

    def unsubscribe(self, handler: Callable[..., Any], /) -> None:
        """Stop calling *handler*."""
        self._subscriptions.remove(handler)


def share_turns(bus: SubscribingBus, make: MakeTurns) -> None:
    """Have a bus keep the limits of subscriptions that come from now on together with others.

    :param make: gives the turns of a subscription, which others take as well.
    """
    bus._subscriptions.make_turns = make  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
