"""A bus over RabbitMQ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final, Literal
from urllib.parse import parse_qs, urlsplit

from sagaflow._model.clock import Clock, SystemClock
from sagaflow._model.errors import BusError
from sagaflow._model.policy import RetryPolicy
from sagaflow.bus.broker import BrokerBus
from sagaflow.bus.bus_settings import check_service, check_times, owner_of
from sagaflow.bus.wire import MOST_BYTES
from sagaflow.rabbitmq.amqp import load_pika
from sagaflow.rabbitmq.client import RabbitClient
from sagaflow.rabbitmq.names import SLOTS, Names, check_prefix
from sagaflow.rabbitmq.transport import RabbitTransport

_HEARTBEAT: Final = 10
"""Seconds: a host that is gone is noticed after two or three of them."""


class RabbitBus(BrokerBus):
    """Carries messages between processes over RabbitMQ 3.10 or later, on asyncio and trio.

    It keeps the order of a saga's messages for each service, also with several processes: a service
    has a number of partitions, which its processes divide among them. A message that fails holds up
    those behind it of its saga, and no others. Messages are persistent, in quorum queues, and
    confirmed.

    :param uri: where RabbitMQ is, such as ``amqp://user:password@host:5672/vhost``, with
        ``amqps://`` for TLS. The options of pika's ``URLParameters`` may follow, such as
        ``?heartbeat=30``. The password is shown nowhere.
    :param service: the name of the program, the same in each of its processes: letters, digits,
        ``_`` and ``-``, at most 64.
    :param messages: the classes of all messages that it publishes or subscribes to, or a mapping of
        the names under which they travel. The names have to be the same in all programs.
    :param retry: when a message on which a handler has failed is tried again, and when it becomes
        a dead letter.
    :param concurrency: of how many sagas messages are handled at the same time.
    :param handler_timeout: how long a handler may take for one message; less than the
        ``consumer_timeout`` of the server, which is 30 minutes.
    :param shutdown_timeout: how long closing waits for handlers; the rest is given back.
    :param unhandled: what becomes of a message that no saga has a use for: it is put aside as a
        dead letter, or accepted; the orchestrator has logged it in both cases.
    :param max_bytes: how large a message may be, with its headers; headers have at most 100,000.
    :param clock: where the time comes from.
    :param owner: the name of this process, by which RabbitMQ shows its connections; made up if it
        is missing.
    :param prefix: what the names of exchanges and queues begin with; the same in all programs.
    :param partitions: into how many queues the messages of the service are divided, a power of 2
        up to 32: more processes than that find nothing to do. It is the same in all processes of
        the service, and is not changed later on.
    :param balance_interval: how often a process looks whether there are partitions that nobody
        has, or others that have fewer.
    :param operation_timeout: how long one operation may take, such as a publication.
    :raises BusError: if *uri*, *service* or *prefix* is of no use, or pika is not installed.
    :raises ValueError: if *concurrency* is less than 1, *partitions* is no such number, or a time
        is not positive.
    :raises SagaDefinitionError: if two classes share a name, or one cannot travel.
    """

    def __init__(  # noqa: PLR0913
        self,
        uri: str,
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
        owner: str | None = None,
        prefix: str = "sagaflow",
        partitions: int = 8,
        balance_interval: timedelta = timedelta(seconds=1),
        operation_timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        check_service(service)
        check_prefix(prefix)
        if partitions not in _NUMBERS:
            raise ValueError(f"partitions must be a power of 2 up to {SLOTS}, not {partitions!r}")
        check_times(balance_interval=balance_interval, operation_timeout=operation_timeout)
        clock = clock or SystemClock()
        seconds = operation_timeout.total_seconds()
        parameters = _parameters(uri, f"sagaflow {service} {owner_of(owner)}", seconds)
        super().__init__(
            RabbitTransport(
                client=RabbitClient(parameters, Names(prefix, service), partitions, seconds),
                place=f"{parameters.host}:{parameters.port}",
                clock=clock,
                timeout=operation_timeout,
                balance_interval=balance_interval,
            ),
            service=service,
            messages=messages,
            retry=retry,
            concurrency=concurrency,
            handler_timeout=handler_timeout,
            shutdown_timeout=shutdown_timeout,
            unhandled=unhandled,
            max_bytes=max_bytes,
            clock=clock,
        )


_NUMBERS: Final = frozenset({1, 2, 4, 8, 16, SLOTS})


def _parameters(uri: object, name: str, timeout: float) -> Any:
    """Return pika's parameters for one attempt to connect.

    :raises BusError: if the URI is none of RabbitMQ, or pika is not installed. It does not say
        more of the URI, which may hold a password.
    """
    pika = load_pika()
    try:
        if not isinstance(uri, str) or not uri.startswith(("amqp://", "amqps://")):
            raise ValueError  # noqa: TRY301 - told below, like what pika finds
        options = parse_qs(urlsplit(uri).query)
        found: Any = pika.URLParameters(uri)
    except Exception:  # noqa: BLE001 - whatever pika finds wrong
        raise BusError(
            "the URI of RabbitMQ cannot be read: write amqp://user:password@host:5672/vhost, or "
            "amqps:// for TLS, and percent-encode what is special in a user name or a password"
        ) from None
    if "heartbeat" not in options:
        found.heartbeat = _HEARTBEAT
    found.connection_attempts = 1
    found.retry_delay = 0
    found.socket_timeout = timeout
    found.stack_timeout = 2 * timeout  # not at the same moment as our own limit
    found.client_properties = {"connection_name": name}
    return found
