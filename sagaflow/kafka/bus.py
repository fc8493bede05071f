"""A bus over Kafka."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Final, Literal

from sagaflow._model.clock import Clock, SystemClock
from sagaflow._model.policy import RetryPolicy
from sagaflow.bus.broker import BrokerBus
from sagaflow.bus.bus_settings import check_service, check_times, owner_of
from sagaflow.bus.wire import MOST_BYTES
from sagaflow.kafka.client import Client
from sagaflow.kafka.names import Names, check_prefix
from sagaflow.kafka.producing import Publisher
from sagaflow.kafka.transport import KafkaTransport
from sagaflow.kafka.uris import servers_of

_BESIDE: Final = 40_000
"""Bytes that a dead letter may have beside its message, and Kafka beside headers and body."""


class KafkaBus(BrokerBus):
    """Carries messages between processes over Kafka, on asyncio and trio.

    It keeps the order of a saga's messages for each service, also with several processes, which
    share the partitions of the service's topic. A message that fails holds up those behind it of
    its saga, and no others. What is committed never passes over a message that is not dealt with.
    Messages are on all replicas in sync before they count as published. It needs the extra
    ``kafka``, and topics that keep what they are given: see the page on brokers.

    :param uri: where brokers are, such as ``kafka://one:9092,two:9092``, or
        ``kafkas://user:password@host:9093`` with TLS. Settings of librdkafka for the connection may
        follow, such as ``?sasl.mechanism=SCRAM-SHA-512&ssl.ca.location=/etc/ca.pem``. The password
        is shown nowhere.
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
    :param max_bytes: how large a message may be, with its headers. The topics have to take 40,000
        bytes more (``max.message.bytes``, by default 1,048,588).
    :param clock: where the time comes from.
    :param owner: the name of this process, the same when it is started again, and of no other that
        runs at the same time: it then has its partitions again at once, but they also wait for it
        for *lease_duration* when it ends. If it is missing, others have the partitions at once of
        a process that ends, and after *lease_duration* those of one that is killed.
    :param prefix: what the names of topics and groups begin with; the same in all programs.
        Letters, digits, ``_``, ``-`` and dots, at most 64.
    :param lease_duration: for how long Kafka leaves a process that it does not hear from its
        partitions. Brokers allow 6 seconds to 30 minutes by default.
    :param handover_timeout: for how long a handler may go on when another process is to have the
        partition; then it is cancelled, and the message is handled there.
    :param operation_timeout: how long one operation may take, such as a publication.
    :raises BusError: if *uri*, *service*, *prefix* or *owner* is of no use, or the extra is
        missing.
    :raises ValueError: if *concurrency* is less than 1, or a time is not positive.
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
        handover_timeout: timedelta = timedelta(seconds=30),
        operation_timeout: timedelta = timedelta(seconds=10),
    ) -> None:
        check_service(service)
        check_prefix(prefix)
        check_times(
            lease_duration=lease_duration,
            handover_timeout=handover_timeout,
            operation_timeout=operation_timeout,
        )
        servers = servers_of(uri)
        process = owner_of(owner)
        clock = clock or SystemClock()
        settings = {"client.id": f"sagaflow {service} {process}", **servers.settings}
        client = Client(servers.place, settings, operation_timeout)
        if servers.has_options:
            client.check()
        super().__init__(
            KafkaTransport(
                client=client,
                publisher=Publisher(client, max_bytes + _BESIDE),
                names=Names(prefix, service),
                owner=None if owner is None else process,
                clock=clock,
                lease=lease_duration,
                handover=handover_timeout,
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
