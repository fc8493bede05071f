"""A bus over a broker: what is the same on every broker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime, timedelta
from random import random
from types import TracebackType
from typing import Any, Final, Literal, Self, cast

import anyio
from anyio.abc import TaskGroup

from sagaflow._concurrency.cancellation import failure
from sagaflow._engine.backoff import bound
from sagaflow._model.clock import Clock, SystemClock
from sagaflow._model.envelope import COMMAND, MESSAGE_KIND, Envelope, current_envelope
from sagaflow._model.errors import BusError, NoHandlerError, SagaflowError
from sagaflow._model.ids import MessageId, SagaId, Unique
from sagaflow._model.log import about, get_logger
from sagaflow._model.policy import RetryPolicy
from sagaflow._model.texts import line_of
from sagaflow.bus.admission import Admission
from sagaflow.bus.bus_settings import check_service, check_times
from sagaflow.bus.causation import current_handling, envelope_of
from sagaflow.bus.dispatcher import Dispatcher
from sagaflow.bus.subscribing import SubscribingBus
from sagaflow.bus.transport import DeadLetter, Outgoing, Transport
from sagaflow.bus.wire import MOST_BYTES, Wire

logger = get_logger("sagaflow.bus")

_FIRST_PAUSE: Final = timedelta(milliseconds=100)
_LONGEST_PAUSE: Final = timedelta(seconds=5)


class BrokerBus(SubscribingBus):
    """Carries messages between processes, over a broker.

    A service is one program, in one process or several. Each message is handed to every service
    that subscribes to its class, there to one process. It is acknowledged after it was handled, and
    handed out again if it was not: handlers recognise by its id what they have done.

    Use it as an async context manager, around that of the `Orchestrator`: it is connected before
    the orchestrator starts, and closed after the orchestrator has closed. A process that is asked
    to end calls `drain` first.

    :param transport: the broker.
    :param service: the name of the program, the same in each of its processes: letters, digits,
        ``_`` and ``-``, at most 64.
    :param messages: the classes of all messages that it publishes or subscribes to, or a mapping of
        the names under which they travel. The names have to be the same in all programs.
    :param retry: when a message on which a handler has failed is tried again, and when it becomes
        a dead letter.
    :param concurrency: how many messages are handled at the same time.
    :param handler_timeout: how long a handler may take for one message.
    :param shutdown_timeout: how long closing waits for handlers; the rest is given back.
    :param unhandled: what becomes of a message that no saga has a use for: it is put aside as a
        dead letter, or accepted; the orchestrator has logged it in both cases.
    :param max_bytes: how large a message may be, with its headers.
    :param clock: where the time comes from.
    :raises BusError: if *service* is no such name.
    :raises ValueError: if *concurrency* is less than 1, a time is not positive, or *unhandled* is
        none of the two.
    :raises SagaDefinitionError: if two classes share a name, or one cannot travel.
    """

    def __init__(  # noqa: PLR0913
        self,
        transport: Transport,
        *,
        service: str,
        messages: Iterable[type] | Mapping[str, type],
        retry: RetryPolicy | None = None,
        concurrency: int = 20,
        handler_timeout: timedelta = timedelta(minutes=5),
        shutdown_timeout: timedelta = timedelta(seconds=10),
        unhandled: Literal["dead_letter", "accept"] = "dead_letter",
        max_bytes: int = MOST_BYTES,
        clock: Clock | None = None,
    ) -> None:
        self._clock: Clock = clock or SystemClock()
        super().__init__(self._clock)
        check_service(service)
        if unhandled not in {"dead_letter", "accept"}:
            raise ValueError(f"unhandled must be 'dead_letter' or 'accept', not {unhandled!r}")
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, not {concurrency!r}")
        check_times(handler_timeout=handler_timeout, shutdown_timeout=shutdown_timeout)
        self._transport = transport
        self._service = service
        self._in_hand = concurrency
        self._shutdown_timeout = shutdown_timeout
        self._wire = Wire(
            messages, binding=transport.binding, source=f"/{service}", max_bytes=max_bytes
        )
        self._admission = Admission(concurrency)
        self._dispatcher = Dispatcher(
            service=service,
            wire=self._wire,
            subscriptions=self._subscriptions,
            publish=self.publish,
            retry=retry or RetryPolicy(),
            clock=self._clock,
            timeout=handler_timeout,
            accepts_unhandled=unhandled == "accept",
            admission=self._admission,
        )
        self._new_id = Unique()
        self._subscriptions.check = self._wire.check_registered
        self._subscriptions.on_change = self._note_change
        self._changed = anyio.Event()
        self._wanted: frozenset[str] = frozenset()
        self._announced: frozenset[str] = frozenset()
        self._stopping = anyio.Event()
        self._taken = anyio.Event()
        self._taking: anyio.CancelScope | None = None
        self._down_since: datetime | None = None
        self._tasks: TaskGroup | None = None
        self._is_closed = False

    @property
    def service(self) -> str:
        """The name of the service."""
        return self._service

    @property
    def down_since(self) -> datetime | None:
        """Since when the broker cannot be reached for taking messages; None if it can."""
        return self._down_since

    async def __aenter__(self) -> Self:
        if self._tasks is not None or self._is_closed:
            raise SagaflowError("a bus is entered once: make another one")
        try:
            await self.announce()
        except BaseException:  # a cancellation: nobody leaves what was not entered
            with anyio.CancelScope(shield=True):
                await self._transport.aclose()
            raise
        self._subscriptions.is_open = False
        self._in_hand = self._admission.open(self._subscriptions.limited())
        self._tasks = await anyio.create_task_group().__aenter__()
        self._taking = anyio.CancelScope()
        self._tasks.start_soon(self._run, self._taking, name=f"bus of {self._service}")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._tasks is not None  # noqa: S101 - __aenter__ has run
        self._stop()
        if exc is not None:
            self._tasks.cancel_scope.cancel()
        self._tasks.cancel_scope.deadline = (
            anyio.current_time() + self._shutdown_timeout.total_seconds()
        )
        try:
            await self._tasks.__aexit__(None, None, None)
        finally:
            self._is_closed = True
            self._tasks = None
            with anyio.move_on_after(self._shutdown_timeout.total_seconds(), shield=True):
                await self._transport.aclose()

    async def publish(
        self,
        message: object,
        /,
        *,
        correlation_id: SagaId | None = None,
        message_id: MessageId | None = None,
        headers: Mapping[str, object] | None = None,
    ) -> None:
        """Give *message* to the broker, for every service that subscribes to its class.

        A message that a handler publishes inherits the correlation id and the trace (the headers
        ``traceparent`` and ``tracestate``) of the message that it handles, names that message as
        its cause, and gets an id that is the same each time that message is handled.

        :param correlation_id: the saga that the message belongs to; messages of one saga keep their
            order.
        :param message_id: the id by which receivers recognise duplicates; made up if missing.
        :param headers: what else travels with the message.
        :raises CorrelationError: if an id is of no allowed type.
        :raises WireError: if the class is not registered, or the message is too large.
        :raises SerializationError: if a value of the message cannot travel.
        :raises NoHandlerError: if the message is a command of a saga and no service takes it.
        :raises BusError: if the broker cannot be reached, refuses, or does not answer in time; then
            it may have the message or not.
        """
        handling = current_handling.get()
        envelope = envelope_of(
            message,
            current_envelope.get(),
            correlation_id=correlation_id,
            message_id=message_id,
            headers=headers,
            new_id=self._new_id if handling is None else handling.id_of_next,
        )
        written = self._wire.encode(envelope)
        outgoing = Outgoing(
            name=self._wire.name_of(type(message)),
            id=text_of_id(envelope.id),
            key=None if envelope.correlation_id is None else text_of_id(envelope.correlation_id),
            headers=written.headers,
            body=written.body,
        )
        if not self._wanted <= self._announced:
            await self._announce()  # what is published now is for those who have just subscribed
        is_taken = await self._transport.publish(outgoing)
        if not is_taken and envelope.headers.get(MESSAGE_KIND) == COMMAND:
            raise NoHandlerError(type(message))

    async def announce(self) -> None:
        """Tell the broker now which messages this service takes, rather than with the next one.

        An orchestrator calls it when it has subscribed. If the broker cannot be reached, that is
        logged, and it is told as soon as it can be.
        """
        try:
            await self._announce()
        except BusError as exc:
            self._note_outage(exc)

    async def drain(self) -> None:
        """Take no more messages, and wait for the handlers of those that were taken.

        Called before the orchestrator closes, so that the bus hands it nothing any more, while both
        still publish. What its handlers have not ended after *shutdown_timeout* is given back.

        :raises SagaflowError: outside of the bus's ``async with`` block.
        """
        if self._taking is None or self._tasks is None:
            raise SagaflowError("a bus is drained within its `async with` block")
        self._stop()
        with anyio.move_on_after(self._shutdown_timeout.total_seconds()):
            await self._taken.wait()
        self._taking.cancel()
        await self._taken.wait()

    def dead_letters(self) -> AsyncIterator[DeadLetter]:
        """Yield the dead letters of this service, the oldest first.

        :raises BusError: if the broker cannot be reached.
        """
        return self._transport.dead_letters()

    async def find_dead_letter(self, letter_id: str) -> DeadLetter | None:
        """Return one dead letter of this service, or None.

        :raises BusError: if the broker cannot be reached.
        """
        return await self._transport.find_dead_letter(letter_id)

    def read_dead_letter(self, letter: DeadLetter) -> Envelope[Any]:
        """Return the message that a dead letter holds.

        :raises WireError: if it cannot be read, which may be why it is a dead letter.
        """
        return self._wire.decode(letter.headers, letter.body)

    async def retry_dead_letter(self, letter_id: str) -> bool:
        """Have a dead letter handled again, as if it had just come, and tell whether it was there.

        :raises BusError: if the broker cannot be reached.
        """
        return await self._transport.retry_dead_letter(letter_id)

    async def drop_dead_letter(self, letter_id: str) -> bool:
        """Remove a dead letter for good, and tell whether it was there.

        :raises BusError: if the broker cannot be reached.
        """
        return await self._transport.drop_dead_letter(letter_id)

    async def ping(self) -> None:
        """Check that the broker answers.

        :raises BusError: if it does not.
        """
        await self._transport.ping()

    def _stop(self) -> None:
        """Take no more messages; those that wait for their turn go back."""
        self._stopping.set()
        self._changed.set()
        self._admission.close()

    def _names(self) -> frozenset[str]:
        types = self._subscriptions.message_types()
        return frozenset(name for one in types for name in self._wire.names_for(one))

    def _note_change(self) -> None:
        self._wanted = self._names()
        if self._tasks is not None:  # before, nobody waits, and there may be no event loop yet
            self._changed.set()

    async def _announce(self) -> None:
        """Tell the broker which messages this service takes, if it was not told yet.

        :raises BusError: if the broker cannot be reached.
        """
        names = self._wanted
        if not names <= self._announced:
            await self._transport.subscribe(names)
            self._announced |= names

    async def _run(self, scope: anyio.CancelScope) -> None:
        try:
            with scope:
                await self._take()
        finally:
            self._taken.set()

    async def _take(self) -> None:
        """Take messages until the bus is closed, whatever becomes of the connection meanwhile."""
        attempt = 0
        while not self._stopping.is_set():
            began = anyio.current_time()
            try:
                await self._wait_for_subscription()
                await self._announce()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._announce_changes)
                    tasks.start_soon(self._confirm_recovery)
                    await self._transport.consume(
                        self._dispatcher.handle,
                        concurrency=self._in_hand,
                        stopping=self._stopping,
                    )
                    tasks.cancel_scope.cancel()
            except BaseException as caught:  # noqa: BLE001 - the broker is tried again
                self._note_outage(failure(caught))
                if anyio.current_time() - began > _LONGEST_PAUSE.total_seconds():
                    attempt = 0  # it was well meanwhile
                pause = bound(_FIRST_PAUSE, _LONGEST_PAUSE, attempt) * (1 + random()) / 2  # noqa: S311
                attempt += 1
                with anyio.move_on_after(pause.total_seconds()):
                    await self._stopping.wait()

    async def _wait_for_subscription(self) -> None:
        while not self._wanted and not self._stopping.is_set():
            self._changed = anyio.Event()
            await self._changed.wait()

    async def _announce_changes(self) -> None:
        """Tell the broker of each handler that is subscribed while messages are being taken."""
        while True:
            await self._announce()
            self._changed = anyio.Event()
            if self._wanted <= self._announced:
                await self._changed.wait()

    def _note_outage(self, error: Exception) -> None:
        if self._down_since is None:
            self._down_since = self._clock.now()
            logger.warning(
                "%s: the bus is down, and is tried again: %s",
                self._service,
                _said(error),
                extra=about(),
            )

    async def _confirm_recovery(self) -> None:
        """Note that the bus is back once it has taken messages for a moment and the broker answers.

        :raises BusError: if it does not.
        """
        if self._down_since is not None:
            await anyio.sleep(_FIRST_PAUSE.total_seconds())
            await self._transport.ping()
            self._down_since = None
            logger.warning("%s: the bus is back", self._service, extra=about())


def text_of_id(value: SagaId) -> str:
    """Return an id as text in which ids of different types differ: ``7`` and ``"7"`` are two."""
    if isinstance(value, str):
        return value if "\n" not in value else f"str\n{value}"
    return f"{type(value).__name__}\n{value}"


def _said(error: Exception) -> str:
    """Return what went wrong, in one line; the errors of a group for the group."""
    if not isinstance(error, ExceptionGroup):
        return line_of(error)
    causes = cast("ExceptionGroup[Exception]", error).exceptions
    return _said(causes[0]) if len(causes) == 1 else "; ".join(map(_said, causes))
