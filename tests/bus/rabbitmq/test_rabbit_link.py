"""A connection to RabbitMQ: what becomes of it when it is lost, hangs or is not wanted any more."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import pytest

from sagaflow.rabbitmq import RabbitBus, bus
from sagaflow.rabbitmq.amqp import AmqpError, Link
from sagaflow.rabbitmq.client import RabbitClient
from sagaflow.rabbitmq.lanes import Failure, Memory
from sagaflow.rabbitmq.letters import DeadLetters, take_letters
from sagaflow.rabbitmq.messages import Content
from sagaflow.rabbitmq.names import Names, routing_key
from sagaflow.testing._bus_contract.kit import MESSAGES
from tests.bus.rabbitmq.broker import channel_at
from tests.bus.rabbitmq.proxy import TcpProxy
from tests.bus.rabbitmq.test_rabbit_bus import through
from tests.bus.rabbitmq.test_rabbit_client import on_asyncio, parameters, process_of, publish


@on_asyncio
async def test_connection_that_was_closed_opens_no_channels(rabbitmq_uri: str) -> None:
    link = Link(parameters(rabbitmq_uri))
    await link.close(5)  # it was never opened
    link.cut()
    await link.open()
    await link.close(5)
    assert not link.is_open
    with pytest.raises(AmqpError, match="requires an open connection"):
        await link.channel()
    await link.close(5)
    link.cut()


@on_asyncio
async def test_connection_to_a_silent_server_is_cut_off(
    rabbitmq_uri: str, rabbitmq_proxy: TcpProxy
) -> None:
    link = Link(parameters(through(rabbitmq_proxy, rabbitmq_uri)))
    await link.open()
    channel = await link.channel()
    rabbitmq_proxy.hold()
    try:
        began = time.monotonic()
        await link.close(0.05)
        assert time.monotonic() - began < 5
        assert not link.is_open
        with pytest.raises(AmqpError):
            await channel.count("any")
    finally:
        rabbitmq_proxy.release()


@on_asyncio
async def test_connection_that_opens_when_nobody_waits_any_more_is_closed(
    rabbitmq_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt is given up in the very moment in which it succeeds."""
    adapter: Any = import_module("pika.adapters.asyncio_connection")
    create = adapter.AsyncioConnection.create_connection
    found: list[Any] = []

    def create_connection(configs: Any, on_done: Callable[[Any], None], loop: Any) -> Any:
        def given_up_first(connection: Any) -> None:
            found.append(connection)
            opening.cancel()
            on_done(connection)

        return create(configs, given_up_first, loop)

    monkeypatch.setattr(adapter.AsyncioConnection, "create_connection", create_connection)
    link = Link(parameters(rabbitmq_uri))
    opening = asyncio.ensure_future(link.open())
    with suppress(asyncio.CancelledError):
        await opening
    assert opening.cancelled()
    assert not link.is_open
    while not found[0].is_closed:
        await asyncio.sleep(0)


@on_asyncio
async def test_message_that_rabbitmq_refuses_is_told(rabbitmq_uri: str, prefix: str) -> None:
    """Such as one for a queue that is full, and does not take more."""
    async with process_of(rabbitmq_uri, prefix) as client:
        with channel_at(rabbitmq_uri) as channel:
            full = {"x-max-length": 1, "x-overflow": "reject-publish"}
            channel.queue_declare(f"{prefix}.full", exclusive=True, arguments=full)
            channel.queue_bind(f"{prefix}.full", prefix, "#")
            await publish(client, range(1))
            with pytest.raises(AmqpError, match="RabbitMQ has refused the message"):
                await publish(client, range(1, 2))


@on_asyncio
async def test_publications_that_are_on_their_way_when_a_channel_is_closed_are_told(
    rabbitmq_uri: str, prefix: str
) -> None:
    """An exchange that is gone is made again for those that come later."""
    async with process_of(rabbitmq_uri, prefix) as client:
        await publish(client, range(1))
        with channel_at(rabbitmq_uri) as channel:
            channel.exchange_delete(prefix)
        content = Content("1", {}, b"")
        results = await asyncio.gather(
            *(client.publisher.publish(prefix, routing_key(0, "Noted"), content) for _ in range(3)),
            return_exceptions=True,
        )
        assert {type(result) for result in results} == {AmqpError}
        assert all("NOT_FOUND" in str(result) for result in results)
        assert not await client.publisher.publish(prefix, routing_key(0, "Noted"), content)


@on_asyncio
async def test_letters_whose_channel_is_closed_while_they_are_read_are_told(
    rabbitmq_uri: str, prefix: str
) -> None:
    """An operator has taken one out and removes the queue; the next reader finds a new one."""
    async with process_of(rabbitmq_uri, prefix) as client:
        dead = client.names.dead
        assert await client.publisher.publish("", dead, Content("1", {}, b""))
        found: list[Any] = []
        channel = await (await client.link()).channel()
        reading = asyncio.ensure_future(take_letters(channel, dead, 2, found))
        while not found:
            await asyncio.sleep(0.01)
        with channel_at(rabbitmq_uri) as operator:
            operator.queue_delete(dead)
        with pytest.raises(AmqpError):
            await reading
        assert found == []
        assert await DeadLetters(client).read() == []


@on_asyncio
async def test_queue_of_dead_letters_that_somebody_else_has_made_is_told(
    rabbitmq_uri: str, prefix: str
) -> None:
    """Whoever reads next is told as well, and does not wait for the one who was told first."""
    async with process_of(rabbitmq_uri, prefix) as client:
        dead = client.names.dead
        with channel_at(rabbitmq_uri) as channel:
            channel.queue_delete(dead)
            channel.queue_declare(dead, durable=True)
        for _ in range(2):
            with pytest.raises(AmqpError, match="inequivalent arg"):
                await DeadLetters(client).read()


@on_asyncio
async def test_reader_whose_server_falls_silent_lets_go_of_the_letters(
    rabbitmq_uri: str, rabbitmq_proxy: TcpProxy, prefix: str
) -> None:
    """Within the time that it has; others may read them afterwards."""
    silent = RabbitClient(
        parameters(through(rabbitmq_proxy, rabbitmq_uri)), Names(prefix, "billing"), 1, 0.1
    )
    async with process_of(rabbitmq_uri, prefix) as client:
        dead = client.names.dead
        assert await client.publisher.publish("", dead, Content("1", {}, b""))

        async def hold(_: Content) -> None:
            rabbitmq_proxy.hold()

        try:
            link = await silent.link()
            assert await DeadLetters(silent).take_out("1", hold)
            assert not link.is_open
        finally:
            rabbitmq_proxy.release()
        await silent.close()


@on_asyncio
async def test_old_server_is_warned_of_once(
    rabbitmq_uri: str,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("sagaflow.rabbitmq.client._OLDEST", (1000, 0))
    caplog.set_level(logging.WARNING)
    client = RabbitClient(parameters(rabbitmq_uri), Names(prefix, "billing"), 1, 5.0)
    first = await client.link()
    first.cut()
    while first.is_open:
        await asyncio.sleep(0)
    assert await client.link() is not first
    await client.close()
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("billing: RabbitMQ ")
    assert told.endswith(" is older than 3.10, with which this bus was tested")


def test_memory_of_messages_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was noted first is forgotten first."""
    monkeypatch.setattr("sagaflow.rabbitmq.lanes._REMEMBERED", 2)
    memory, failure = Memory(), Failure(1, datetime.now(UTC), 0.0)
    for message_id in ("m-1", "m-2", "m-3"):
        memory.note_failure(message_id, failure)
        memory.note_handled("s-1", message_id)
    assert list(memory.failures) == ["m-2", "m-3"]
    assert list(memory.handled) == [("s-1", "m-2"), ("s-1", "m-3")]


@pytest.mark.parametrize(("options", "seconds"), [("", 10), ("?heartbeat=30", 30)])
def test_heartbeat_may_be_chosen(
    options: str, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a choice a host that is gone is noticed sooner than RabbitMQ itself proposes."""
    given: list[Any] = []

    def client_of(parameters: Any, *_: Any) -> None:
        given.append(parameters)

    monkeypatch.setattr(bus, "RabbitClient", client_of)
    RabbitBus(f"amqp://host/{options}", service="billing", messages=MESSAGES)
    assert given[0].heartbeat == seconds
