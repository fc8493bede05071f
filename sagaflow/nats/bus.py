"""A bus over NATS JetStream."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from datetime import timedelta
from os import PathLike, fspath
from typing import Literal

from sagaflow._model.clock import Clock, SystemClock
from sagaflow._model.errors import BusError
from sagaflow._model.late import Late
from sagaflow._model.policy import RetryPolicy
from sagaflow.bus.broker import BrokerBus
from sagaflow.bus.bus_settings import check_service, check_times, owner_of
from sagaflow.bus.transport import Transport
from sagaflow.bus.wire import MOST_BYTES
from sagaflow.nats.monitoring import check_monitoring
from sagaflow.nats.names import Names, check_prefix
from sagaflow.nats.uris import servers_of


class NatsBus(BrokerBus):
    """Carries messages between processes through NATS JetStream, on asyncio and trio.

    It needs the extra ``nats`` and a server 2.9 or later with JetStream. It keeps the order of a
    saga's messages for each service, also with several processes; up to 16 processes of a service
    are at work at the same time. A message that fails holds up those behind it of its saga, and
    others only when a thousand wait behind it. Have the server run with ``sync_interval: always``,
    or with three replicas: otherwise a machine that loses its power may lose what was published in
    the two minutes before.

    :param uri: the servers, such as ``nats://localhost:4222``, or several, separated by commas.
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
    :param owner: the name of this process, the same when it is started again, and of no other that
        runs at the same time: it then goes on at once with what it has left behind. Made up if it
        is missing; others then go on after *lease_duration*.
    :param prefix: what the names of its streams and subjects begin with, the same in all programs:
        letters, digits and ``_``, at most 32.
    :param lease_duration: after how long without a word from this process others take its messages.
    :param operation_timeout: how long one operation on the server may take.
    :param replicas: on how many servers of a cluster each message is stored: 1, 3 or 5.
    :param max_age: how long messages wait for this service; then the server removes those that no
        process has dealt with. None, the default, keeps them until they are dealt with.
    :param duplicate_window: for how long the server recognises a message that is published twice.
    :param credentials: the file with the user's credentials (JWT and key).
    :param tls: how the connection is encrypted, for ``tls://``.
    :param monitoring: where the server can be asked about itself, such as
        ``http://localhost:8222``. The bus then warns once if the server confirms what it has not
        written to disk; it cannot learn that otherwise.
    :raises BusError: if *uri*, *service*, *prefix*, *owner* or *monitoring* is none, or the client
        is missing.
    :raises ValueError: if *concurrency* is less than 1, a time is not positive, *replicas* is not
        1, 3 or 5, or *unhandled* is none of the two.
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
        lease_duration: timedelta = timedelta(seconds=10),
        operation_timeout: timedelta = timedelta(seconds=10),
        replicas: Literal[1, 3, 5] = 1,
        max_age: timedelta | None = None,
        duplicate_window: timedelta = timedelta(minutes=2),
        credentials: str | PathLike[str] | None = None,
        tls: ssl.SSLContext | None = None,
        monitoring: str | None = None,
    ) -> None:
        check_service(service)
        check_prefix(prefix)
        if monitoring is not None:
            check_monitoring(monitoring)
        check_times(
            lease_duration=lease_duration,
            operation_timeout=operation_timeout,
            max_age=max_age,
            duplicate_window=duplicate_window,
        )
        if replicas not in {1, 3, 5}:
            raise ValueError(f"replicas must be 1, 3 or 5, not {replicas!r}")
        clock = clock or SystemClock()
        transport = _transport(
            servers=servers_of(uri),
            names=Names(prefix, service),
            owner=owner_of(owner),
            clock=clock,
            lease=lease_duration,
            timeout=operation_timeout,
            replicas=replicas,
            max_age=max_age,
            duplicate_window=duplicate_window,
            credentials=None if credentials is None else fspath(credentials),
            tls=tls,
            monitoring=monitoring,
        )
        super().__init__(
            transport,
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


def _transport(  # noqa: PLR0913
    *,
    servers: list[str],
    names: Names,
    owner: str,
    clock: Clock,
    lease: timedelta,
    timeout: timedelta,
    replicas: int,
    max_age: timedelta | None,
    duplicate_window: timedelta,
    credentials: str | None,
    tls: ssl.SSLContext | None,
    monitoring: str | None,
) -> Transport:
    """Return the transport; it is imported here, since the client may not be installed.

    :raises BusError: if the client is missing.
    """
    try:
        from sagaflow.nats.link import Link  # noqa: PLC0415
        from sagaflow.nats.streams import StreamSettings  # noqa: PLC0415
        from sagaflow.nats.transport import NatsTransport  # noqa: PLC0415

        if credentials is not None:
            _ = Late("nkeys").from_seed  # the client looks for it when it connects
    except ModuleNotFoundError as exc:
        missing = (exc.name or "").partition(".")[0]
        if missing == "nkeys":
            raise BusError("credentials= needs nkeys: pip install 'sagaflow[nats]'") from None
        if missing != "nats":
            raise
        raise BusError("NatsBus needs the client nats-py: pip install 'sagaflow[nats]'") from None
    link = Link(
        servers=servers,
        name=f"sagaflow {names.service}",
        timeout=timeout,
        credentials=credentials,
        tls=tls,
    )
    return NatsTransport(
        link=link,
        names=names,
        owner=owner,
        clock=clock,
        lease=lease,
        monitoring=monitoring,
        settings=StreamSettings(
            replicas=replicas, max_age=max_age, duplicate_window=duplicate_window
        ),
    )
