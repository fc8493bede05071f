"""A connection to RabbitMQ by pika, with futures instead of callbacks. Runs on asyncio."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final, TypeVar

from sagaflow._model.errors import BusError
from sagaflow._model.texts import text_of

T = TypeVar("T")

LOCKED: Final = 405
"""What RabbitMQ answers about a queue that another connection has for itself."""
OTHER: Final = 406
"""What RabbitMQ answers about a queue or an exchange that is there with other arguments."""

_KEPT_BACK: Final = 32
"""How many acknowledgements RabbitMQ hands on to a quorum queue that has written none of them."""
_GOODBYE: Final = 1.0
"""Seconds that a connection has to end, once it was cut off."""


class AmqpError(Exception):
    """RabbitMQ has refused something, or cannot be reached.

    :ivar code: the code of AMQP; 0 if there is none.
    """

    def __init__(self, said: str, code: int = 0) -> None:
        super().__init__(said)
        self.code = code


def load_pika() -> Any:
    """Return pika, which is an extra.

    :raises BusError: if it is not installed.
    """
    try:
        pika: Any = import_module("pika")
        import_module("pika.adapters.asyncio_connection")
    except ImportError as exc:
        raise BusError(
            "RabbitBus needs pika, which is not installed: pip install 'sagaflow[rabbitmq]'"
        ) from exc
    log = logging.getLogger("pika")
    if log.level == logging.NOTSET:
        # It logs each refusal in several lines of its own; what matters is in our errors.
        log.setLevel(logging.CRITICAL)
    return pika


class Link:
    """A connection.

    :ivar blocked: why RabbitMQ takes no messages from this connection at present; "" if it does.
    """

    def __init__(self, parameters: Any) -> None:
        self._parameters = parameters
        self._connection: Any = None
        self._ended = asyncio.Event()
        self.blocked = ""

    @property
    def is_open(self) -> bool:
        """Whether it was opened, and was not lost since."""
        return self._connection is not None and bool(self._connection.is_open)

    async def open(self) -> None:
        """Connect. The caller limits the time.

        :raises AmqpError: if that is refused.
        """
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[Any] = loop.create_future()
        ended = asyncio.Event()

        def on_done(found: Any) -> None:
            ended.set()
            if not isinstance(found, adapter.AsyncioConnection):
                _fail(opened, said_by(found))
            elif opened.done():  # nobody waits for it any more
                found.close()
            else:
                opened.set_result(found)

        adapter: Any = import_module("pika.adapters.asyncio_connection")
        attempt = adapter.AsyncioConnection.create_connection([self._parameters], on_done, loop)
        try:
            self._connection = await opened
        except asyncio.CancelledError:
            if not ended.is_set():
                _abort(attempt)
                await asyncio.wait([asyncio.ensure_future(ended.wait())], timeout=_GOODBYE)
            raise
        self._connection.add_on_close_callback(self._on_close)
        self._connection.add_on_connection_blocked_callback(self._on_blocked)
        self._connection.add_on_connection_unblocked_callback(self._on_unblocked)

    @property
    def server(self) -> Mapping[str, Any]:
        """What the server says of itself."""
        found: Mapping[str, Any] = self._connection.server_properties or {}
        return found

    async def channel(self) -> Channel:
        """Open a channel.

        :raises AmqpError: if the connection is lost.
        """
        opened: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def on_open(found: Any) -> None:
            _answer(opened, found)

        def on_close(_: Any, reason: BaseException) -> None:
            _fail(opened, said_by(reason))

        try:
            raw = self._connection.channel(on_open_callback=on_open)
        except Exception as exc:  # noqa: BLE001 - pika raises what it raises
            raise said_by(exc) from None
        raw.add_on_close_callback(on_close)
        await opened
        return Channel(raw)

    def cut(self) -> None:
        """Let go of the connection without waiting for the server."""
        connection = self._connection
        if connection is None or connection.is_closed:
            return
        if not connection.is_closing:
            connection.close()
        if not connection.is_closed:
            # There is no public way to leave a server that has ceased to answer.
            lost: Any = import_module("pika.exceptions").StreamLostError
            connection._terminate_stream(lost("left"))  # noqa: SLF001

    async def close(self, patience: float) -> None:
        """Close the connection; cut it off if that takes longer than so many seconds."""
        connection = self._connection
        if connection is None or connection.is_closed:
            return
        if not connection.is_closing:
            connection.close()
        for limit in (patience, _GOODBYE):
            try:
                await asyncio.wait_for(self._ended.wait(), limit)
            except TimeoutError:
                self.cut()
            else:
                return

    def _on_close(self, _: Any, __: Any) -> None:
        self._ended.set()

    def _on_blocked(self, _: Any, frame: Any) -> None:
        self.blocked = text_of(frame.method.reason, 200) or "no reason given"

    def _on_unblocked(self, _: Any, __: Any) -> None:
        self.blocked = ""


class Channel:
    """A channel of a connection.

    :ivar on_close: called with what has happened, once the channel is closed by anybody.
    """

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._waiting: set[asyncio.Future[Any]] = set()
        self._acks = 0
        self.on_close: Callable[[AmqpError], None] | None = None
        raw.add_on_close_callback(self._closed)

    @property
    def is_open(self) -> bool:
        """Whether it can be used."""
        return bool(self._raw.is_open)

    async def declare_exchange(
        self, name: str, kind: str, arguments: Mapping[str, Any] | None = None
    ) -> None:
        """Make a durable exchange, if there is none of this name."""
        await self._ask(
            self._raw.exchange_declare,
            exchange=name,
            exchange_type=kind,
            durable=True,
            arguments=dict(arguments or {}),
        )

    async def declare_queue(self, name: str, arguments: Mapping[str, Any]) -> None:
        """Make a durable queue, if there is none of this name."""
        await self._ask(
            self._raw.queue_declare, queue=name, durable=True, arguments=dict(arguments)
        )

    async def lock(self, name: str) -> None:
        """Make a queue that belongs to this connection alone, and ends with it.

        :raises AmqpError: with the code `LOCKED`, if another connection has it.
        """
        await self._ask(self._raw.queue_declare, queue=name, exclusive=True)

    async def delete_queue(self, name: str) -> None:
        """Remove a queue."""
        await self._ask(self._raw.queue_delete, queue=name)

    async def count(self, queue: str) -> tuple[int, int]:
        """Return how many messages of a queue are ready, and how many consumers it has."""
        frame = await self._ask(self._raw.queue_declare, queue=queue, passive=True)
        return frame.method.message_count, frame.method.consumer_count

    async def bind_exchange(self, destination: str, source: str, key: str) -> None:
        """Have an exchange get what another one gets with this key."""
        await self._ask(
            self._raw.exchange_bind, destination=destination, source=source, routing_key=key
        )

    async def bind_queue(self, queue: str, exchange: str, key: str) -> None:
        """Have a queue get what an exchange gets with this key."""
        await self._ask(self._raw.queue_bind, queue=queue, exchange=exchange, routing_key=key)

    async def consume(
        self, queue: str, prefetch: int, deliver: Callable[[int, Any, bytes], None]
    ) -> None:
        """Have messages of a queue delivered: their tag, properties and body.

        :param prefetch: how many may be there at the same time that were not acknowledged.
        """

        def delivered(_: Any, method: Any, properties: Any, body: bytes) -> None:
            deliver(method.delivery_tag, properties, body)

        def cancelled(_: Any) -> None:
            self._raw.close()

        self._raw.add_on_cancel_callback(cancelled)
        # pika cancels consumers before it closes a channel. RabbitMQ would then give back at once
        # what is on its way to the consumer, and the rest, which comes before it, only later.
        self._raw.basic_cancel = _cancel_nothing
        await self._ask(self._raw.basic_qos, prefetch_count=prefetch)
        await self._ask(self._raw.basic_consume, queue=queue, on_message_callback=delivered)

    def ack(self, tag: int) -> None:
        """Acknowledge a message.

        :raises AmqpError: if the channel is closed: the message comes again.
        """
        self._do(self._raw.basic_ack, delivery_tag=tag)
        self._acks += 1

    async def settle(self, queue: str) -> None:
        """Wait until a quorum queue with a single active consumer has what was acknowledged.

        RabbitMQ's side of a channel hands acknowledgements on to the queue, but keeps back those
        beyond the first few that the queue has not written yet; it forgets them if it is closed. A
        second consumer, which gets nothing as long as there is the first, is written behind the
        first few; then the rest is handed on.

        :raises AmqpError: if the channel is closed.
        """
        if self._acks > _KEPT_BACK:
            await self._ask(self._raw.basic_consume, queue=queue, on_message_callback=_ignore)

    async def confirm(
        self, confirmed: Callable[[Any], None], returned: Callable[[Any, Any], None]
    ) -> None:
        """Have RabbitMQ confirm what is published.

        :param confirmed: called with each confirmation.
        :param returned: called with how a message that no queue got was sent, and its properties,
            before it is confirmed.
        """

        def came_back(_: Any, method: Any, properties: Any, __: Any) -> None:
            returned(method, properties)

        self._raw.add_on_return_callback(came_back)
        await self._ask(self._raw.confirm_delivery, ack_nack_callback=confirmed)

    def publish(self, exchange: str, key: str, properties: Any, body: bytes) -> None:
        """Send a message, which is to come back if no queue gets it.

        :raises AmqpError: if the channel is closed.
        """
        self._do(
            self._raw.basic_publish,
            exchange=exchange,
            routing_key=key,
            properties=properties,
            body=body,
            mandatory=True,
        )

    async def close(self) -> None:
        """Close the channel; RabbitMQ then has back what was not acknowledged."""
        if not self._raw.is_open:
            return
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_close(_: Any, __: Any) -> None:
            _answer(gone, None)

        self._raw.add_on_close_callback(on_close)
        self._raw.close()
        await gone

    async def _ask(self, method: Callable[..., Any], **arguments: Any) -> Any:
        """Call a method of pika, and return the frame that answers.

        :raises AmqpError: if the channel is closed instead.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.add(answer)

        def answered(frame: Any) -> None:
            _answer(answer, frame)

        try:
            self._do(method, **arguments, callback=answered)
            return await answer
        finally:
            self._waiting.discard(answer)

    def _do(self, method: Callable[..., Any], **arguments: Any) -> None:
        try:
            method(**arguments)
        except Exception as exc:  # noqa: BLE001 - pika raises what it raises
            raise said_by(exc) from None

    def _closed(self, _: Any, reason: BaseException) -> None:
        error = said_by(reason)
        for answer in self._waiting:
            _fail(answer, error)
        if self.on_close is not None:
            self.on_close(error)


def _abort(attempt: Any) -> None:
    """Give up an attempt to connect."""
    try:
        attempt.abort()
    except AssertionError:
        # pika does not expect that AMQP's part of it has begun; then that is what has to end.
        begun = attempt._connector._amqp_conn  # noqa: SLF001
        if not begun.is_closing:
            begun.close()


def _ignore(*_: Any) -> None:
    """Take no notice of a message that cannot come."""


def _cancel_nothing(**_: Any) -> None:
    """Leave a consumer to end with its channel."""


def said_by(error: Any) -> AmqpError:
    """Return what an error of pika says, in one line and without its class names."""
    if not isinstance(error, BaseException):  # pika also reports a class, such as of a time-out
        return AmqpError("the connection was given up")
    code: int = getattr(error, "reply_code", 0)
    text: str = getattr(error, "reply_text", "")
    if text:
        return AmqpError(text_of(text, 300), code)
    causes = [*error.args, *getattr(error, "exceptions", ()), getattr(error, "exception", None)]
    inner = [cause for cause in causes if isinstance(cause, BaseException)]
    if inner:
        return said_by(inner[-1])
    return AmqpError(text_of(error, 300) or type(error).__name__)


def _answer(future: asyncio.Future[T], value: T) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
