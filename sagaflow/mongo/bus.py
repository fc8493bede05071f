"""A bus that needs no server beside the database."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final, Literal

from motor.motor_asyncio import AsyncIOMotorDatabase
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database

from sagaflow._model.clock import Clock, SystemClock
from sagaflow._model.errors import BusError
from sagaflow._model.policy import RetryPolicy
from sagaflow.bus.broker import BrokerBus
from sagaflow.bus.bus_settings import check_service, check_times, owner_of
from sagaflow.bus.wire import MOST_BYTES
from sagaflow.mongo.drivers import driver_for
from sagaflow.mongo.queue_transport import MongoTransport

_PREFIX: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_MOST_BYTES: Final = 4 * 1024 * 1024


class MongoBus(BrokerBus):
    """Carries messages between processes through a MongoDB database, on asyncio and trio.

    It keeps the order of a saga's messages for each service, also with several processes. A message
    that fails holds up those behind it of its saga, and no others. Receivers look for messages: one
    of another process arrives within *poll_interval*, one of the same process at once. Use a broker
    when thousands of messages a second, or milliseconds between processes, matter.

    :param database: a database of Motor, of PyMongo's ``AsyncMongoClient`` or of PyMongo's
        ``MongoClient``, as for `MongoRepository`. The client is not closed here.
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
    :param prefix: what the names of its collections begin with; the same in all programs.
    :param lease_duration: for how long others leave the messages of a saga alone that this process
        handles; renewed for as long as that takes.
    :param poll_interval: how often it looks for messages of other processes where there were none.
    :param operation_timeout: how long one operation on the database may take. A thread of PyMongo's
        ``MongoClient`` waits on: give that client a ``socketTimeoutMS``.
    :raises BusError: if *service*, *owner* or *prefix* is no such name.
    :raises ValueError: if *concurrency* is less than 1, a time is not positive, *unhandled* is none
        of the two, or *max_bytes* is more than 4 MiB.
    :raises SagaDefinitionError: if two classes share a name, or one cannot travel.
    :raises SagaflowError: if *database* is of none of these drivers.
    """

    def __init__(  # noqa: PLR0913
        self,
        database: AsyncIOMotorDatabase[Any] | AsyncDatabase[Any] | Database[Any],
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
        poll_interval: timedelta = timedelta(milliseconds=100),
        operation_timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        check_service(service)
        check_times(
            lease_duration=lease_duration,
            poll_interval=poll_interval,
            operation_timeout=operation_timeout,
        )
        if not _PREFIX.fullmatch(prefix):
            raise BusError(
                "prefix= is what the names of the collections begin with: letters, digits, _, - "
                f"and ., at most 64 of them, not {prefix!r}"
            )
        if max_bytes > _MOST_BYTES:
            raise ValueError(
                f"max_bytes can be {_MOST_BYTES:,} at most, not {max_bytes:,}: all messages of a "
                "saga that wait for a service are one document, of 16 MiB at most"
            )
        clock = clock or SystemClock()
        super().__init__(
            MongoTransport(
                driver=driver_for(database, abandons_writes=True),
                service=service,
                prefix=prefix,
                owner=owner_of(owner),
                clock=clock,
                lease=lease_duration,
                poll_interval=poll_interval,
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
