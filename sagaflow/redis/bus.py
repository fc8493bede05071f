"""A bus over Redis."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final, Literal

from sagaflow._model.clock import Clock, SystemClock
from sagaflow._model.errors import BusError
from sagaflow._model.policy import RetryPolicy
from sagaflow.bus.broker import BrokerBus
from sagaflow.bus.bus_settings import check_service, check_times, owner_of
from sagaflow.bus.wire import MOST_BYTES
from sagaflow.redis.client import Client
from sagaflow.redis.transport import RedisTransport

_PREFIX: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class RedisBus(BrokerBus):
    """Carries messages between processes over Redis Streams, on asyncio and trio.

    It keeps the order of a saga's messages for each service, also with several processes. A message
    that fails holds up those behind it of its saga, and no others. It needs Redis 7 or later, one
    server and not Redis Cluster, and the extra ``redis``. The server has to keep what it was given:
    ``appendonly yes``, ``appendfsync always`` and ``maxmemory-policy noeviction``; the bus warns
    once where that is not so.

    :param url: where the server is, such as ``redis://localhost:6379/0``, ``rediss://`` with TLS,
        or ``unix://`` with the path of a socket.
    :param service: the name of the program, the same in each of its processes: letters, digits,
        ``_`` and ``-``, at most 64.
    :param messages: the classes of all messages that it publishes or subscribes to, or a mapping of
        the names under which they travel. The names have to be the same in all programs.
    :param retry: when a message on which a handler has failed is tried again, and when it becomes
        a dead letter.
    :param concurrency: of how many sagas messages are handled at the same time.
    :param handler_timeout: how long a handler may take for one message.
    :param shutdown_timeout: how long closing waits for handlers; the rest is given back.
    :param unhandled: what becomes of a message that no saga has a use for: it is put aside as a
        dead letter, or accepted; the orchestrator has logged it in both cases.
    :param max_bytes: how large a message may be, with its headers.
    :param clock: where the time comes from.
    :param owner: the name of this process, the same when it is started again, and of no other that
        runs at the same time: it then goes on at once with what it has left behind. Made up if it
        is missing; others then go on after *lease_duration*.
    :param prefix: what the keys on the server begin with; the same in all programs. Letters,
        digits and ``_.:-``, at most 64.
    :param lease_duration: for how long others leave the messages alone that this process handles;
        renewed for as long as that takes.
    :param duplicate_window: for how long a message that is published again with the same id is
        recognised, and not delivered again. The server keeps some hundred bytes for each message
        meanwhile.
    :param operation_timeout: how long one operation on the server may take.
    :raises BusError: if *service*, *url*, *prefix* or *owner* is of no use, or the extra is
        missing.
    :raises ValueError: if *concurrency* is less than 1, or a time is not positive.
    :raises SagaDefinitionError: if two classes share a name, or one cannot travel.
    """

    def __init__(  # noqa: PLR0913
        self,
        url: str,
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
        prefix: str = "sagaflow_bus",
        lease_duration: timedelta = timedelta(seconds=10),
        duplicate_window: timedelta = timedelta(minutes=5),
        operation_timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        check_service(service)
        if not _PREFIX.fullmatch(prefix):
            raise BusError(
                "prefix= is what the keys on the server begin with: letters, digits, _, ., : and "
                f"-, at most 64 of them, not {prefix!r}"
            )
        check_times(
            lease_duration=lease_duration,
            duplicate_window=duplicate_window,
            operation_timeout=operation_timeout,
        )
        clock = clock or SystemClock()
        super().__init__(
            RedisTransport(
                client=Client(url, timeout=operation_timeout),
                service=service,
                prefix=prefix,
                owner=owner_of(owner),
                clock=clock,
                lease=lease_duration,
                remembered=duplicate_window,
                timeout=operation_timeout,
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
