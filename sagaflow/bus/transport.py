"""The port to a broker: headers and bytes. All else is the same on every broker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from datetime import datetime
from typing import ClassVar, TypeAlias

import anyio
from attrs import field, frozen

from sagaflow._model.verdict import Verdict
from sagaflow.bus.wire import Binding


@frozen(kw_only=True)
class Outgoing:
    """A message that a broker is to take.

    :ivar name: the registered name of its class: services subscribe to names.
    :ivar id: by which a broker may recognise that it was given the message before.
    :ivar key: messages of one key keep their order; None if it does not matter.
    :ivar headers: what a receiver needs to read the message, as text.
    """

    name: str
    id: str
    key: str | None
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@frozen(kw_only=True)
class Delivery:
    """A message that a broker hands to a service.

    :ivar attempts: how often the message was handed to the service before.
    :ivar since: when it was handed to the service for the first time.
    """

    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    attempts: int = 0
    since: datetime


@frozen(kw_only=True)
class DeadLetter:
    """A message that was put aside, since its service could not deal with it.

    :ivar id: by which it is shown, sent again and dropped.
    :ivar service: the service that could not deal with it.
    :ivar name: the registered name of its class, as the message says it; untrusted.
    :ivar key: the key by which it had its order; None if there was none.
    :ivar reason: why it was put aside, in a few words.
    :ivar detail: what is known beyond that, such as a traceback.
    :ivar attempts: how often it was handed to the service.
    :ivar since: when it was put aside.
    """

    id: str
    service: str
    name: str
    key: str | None
    reason: str
    detail: str = field(repr=False)
    attempts: int
    since: datetime
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


Handle: TypeAlias = Callable[[Delivery], Awaitable[Verdict]]
"""Deals with one delivery. Raises only cancellations: then the delivery is given back."""


class Transport(ABC):
    """What sagaflow asks of a broker, for one service.

    A service is one program, in one process or in several, which share its messages. Each message
    is kept for every service that subscribes to its name. Each call comes to an end in bounded
    time, whatever the broker does, and raises a `BusError` if the broker does not do what it is
    asked. Any of them may be the first: a transport connects when it needs to, and again after a
    connection was lost.

    :cvar binding: how the names of headers are written on this broker.
    """

    binding: ClassVar[Binding]

    @abstractmethod
    async def subscribe(self, names: Collection[str]) -> None:
        """Have the broker keep the messages of these names for the service, from now on.

        That outlasts the process. Repeating it does no harm.

        :raises BusError: if the broker cannot be reached, or refuses.
        """

    @abstractmethod
    async def publish(self, message: Outgoing) -> bool:
        """Give a message to the broker; once this returns, the message is durable there.

        A message of the same key is kept behind those whose publication has ended before.

        :return: whether any service subscribes to messages of this name, as far as the broker
            tells; True if it does not tell.
        :raises BusError: if the broker cannot be reached, refuses, or does not answer in time; then
            it is unknown whether the broker has the message.
        """

    @abstractmethod
    async def consume(self, handle: Handle, *, concurrency: int, stopping: anyio.Event) -> None:
        """Hand the messages of the service to *handle*, and do with each what the verdict says.

        Messages of one key are handled one after another, in the order in which they were
        published, whatever number of processes the service has; a message that is to be retried
        holds up those behind it of its key, and no others. A delivery that is cancelled, or whose
        verdict is a `RetryLater` that is not ``failed``, is given back, and is handed out again
        without counting as an attempt that failed.

        :param concurrency: how many messages are handed to *handle* at the same time, at most. Some
            of them may wait there; their claims are kept like those of the others.
        :param stopping: once it is set, no further message is taken, and this returns when what was
            taken is settled.
        :raises BusError: if the broker cannot be reached; the caller tries again later.
        """

    @abstractmethod
    def dead_letters(self) -> AsyncIterator[DeadLetter]:
        """Yield the dead letters of the service, the oldest first.

        :raises BusError: if the broker cannot be reached.
        """

    @abstractmethod
    async def find_dead_letter(self, letter_id: str) -> DeadLetter | None:
        """Return one dead letter of the service, or None.

        :raises BusError: if the broker cannot be reached.
        """

    @abstractmethod
    async def retry_dead_letter(self, letter_id: str) -> bool:
        """Hand a dead letter to its service again, as if it had just come; tell if it was there.

        :raises BusError: if the broker cannot be reached.
        """

    @abstractmethod
    async def drop_dead_letter(self, letter_id: str) -> bool:
        """Remove a dead letter for good, and tell whether it was there.

        :raises BusError: if the broker cannot be reached.
        """

    @abstractmethod
    async def ping(self) -> None:
        """Check that the broker answers.

        :raises BusError: if it does not.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of what was opened here. What was passed in is not closed."""
