"""The bus over RabbitMQ: what only it does."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from attrs import evolve

from sagaflow.bus import BrokerBus, DeadLetter
from sagaflow.exceptions import BusError, NoHandlerError
from sagaflow.rabbitmq import RabbitBus, letters
from sagaflow.rabbitmq.names import SLOTS, pattern, routing_key, slot_of
from sagaflow.testing._bus_contract.kit import (
    MESSAGES,
    PATIENT,
    Charge,
    Noted,
    Refused,
    Remarked,
    Seen,
)
from tests.bus.rabbitmq.broker import channel_at
from tests.bus.rabbitmq.proxy import TcpProxy

pytestmark = pytest.mark.anyio
Open = Callable[..., RabbitBus]


@pytest.fixture
def opened(rabbitmq_uri: str, prefix: str) -> Open:
    def open_bus(service: str = "billing", uri: str = rabbitmq_uri, **settings: Any) -> RabbitBus:
        given: dict[str, Any] = {
            "messages": MESSAGES,
            "retry": PATIENT,
            "prefix": prefix,
            "partitions": 2,
            "balance_interval": timedelta(milliseconds=100),
        }
        return RabbitBus(uri, service=service, **{**given, **settings})

    return open_bus


def through(proxy: TcpProxy, uri: str) -> str:
    return uri.replace(f":{urlsplit(uri).port}", f":{proxy.port}")


async def letters_of(bus: BrokerBus, count: int) -> list[DeadLetter]:
    with anyio.fail_after(30):
        while True:
            found = [letter async for letter in bus.dead_letters()]
            if len(found) == count:
                return found
            await anyio.sleep(0.02)


def send(uri: str, prefix: str, name: str, body: bytes, **properties: Any) -> None:
    """Publish as another program does."""
    pika: Any = import_module("pika")
    with channel_at(uri) as channel:
        channel.confirm_delivery()
        channel.basic_publish(
            prefix, f"0.{name}", body, pika.BasicProperties(**properties), mandatory=True
        )


# Order, and who gets what


async def test_order_survives_that_messages_are_taken_back_again_and_again(opened: Open) -> None:
    """More messages than a process takes at a time."""
    number = 300
    before = opened()
    before.subscribe(Noted, print)
    async with before:
        pass
    async with opened("shop") as shop:
        for one in range(number):
            await shop.publish(Noted("s-1", one), correlation_id="s-1")
    for _ in range(3):
        some = Seen()

        async def take(message: Noted, some: Seen = some) -> None:
            some.add(message)
            if len(some.items) > 5:
                await anyio.sleep_forever()

        broken_off = opened(shutdown_timeout=timedelta(milliseconds=50))
        broken_off.subscribe(Noted, take)
        async with broken_off:
            await some.wait_for(6)
    seen = Seen()
    after = opened()
    after.subscribe(Noted, seen.add)
    async with after:
        await seen.wait_for(number - 15)
    assert [found.number for found in seen.items] == list(range(15, number))


async def test_what_was_handled_is_acknowledged_though_the_time_to_close_is_up(
    opened: Open,
) -> None:
    """A handler that shields its work, as an orchestrator does, ends after it was cancelled."""
    begun, is_over = Seen(), anyio.Event()

    async def take(message: Noted) -> None:
        begun.add(message)
        if message.saga == "s-1":
            with anyio.CancelScope(shield=True):
                await is_over.wait()
        else:
            try:
                await anyio.sleep_forever()
            finally:
                is_over.set()

    before = opened(shutdown_timeout=timedelta(milliseconds=10))
    before.subscribe(Noted, take)
    async with before:
        await before.publish(Noted("s-1", 1), correlation_id="s-1")
        await before.publish(Noted("s-2", 1), correlation_id="s-2")
        await begun.wait_for(2)
    seen, after = Seen(), opened()
    after.subscribe(Noted, seen.add)
    async with after:
        await after.publish(Noted("s-1", 2), correlation_id="s-1")
        await seen.wait_for(2)
    assert {(found.saga, found.number) for found in seen.items} == {("s-1", 2), ("s-2", 1)}


async def test_processes_divide_the_partitions(opened: Open) -> None:
    """Also if one of them was there first; and the other one has all when it closes."""
    ones, others = Seen(), Seen()
    first, second = opened(partitions=4), opened(partitions=4)
    first.subscribe(Noted, ones.add)
    second.subscribe(Noted, others.add)
    keys = [f"s-{number}" for number in range(16)]
    assert {slot_of(key) % 4 for key in keys} == {0, 1, 2, 3}
    async with opened("shop") as shop, second:
        async with first:
            with anyio.fail_after(30):
                while not (ones.items and others.items):
                    for key in keys:
                        await shop.publish(Noted(key, 1), correlation_id=key)
        count = len(others.items)
        with anyio.fail_after(30):
            for key in keys:
                await shop.publish(Noted(key, 2), correlation_id=key)
            while sum(found.number == 2 for found in others.items) < len(keys):
                await others.wait_for(count := count + 1)


async def test_message_that_was_published_twice_is_handled_once(opened: Open) -> None:
    """Publishing it was tried again, before and after it was handled."""
    seen, long_id = Seen(), "m" * 1_000
    before, after = opened(), opened()
    for bus in (before, after):
        bus.subscribe(Noted, seen.add)
    async with before:
        pass
    async with opened("shop") as shop:
        for _ in range(2):
            await shop.publish(Noted("s-1", 1), correlation_id="s-1", message_id=long_id)
        async with after:
            await seen.wait_for(1)
            await shop.publish(Noted("s-1", 1), correlation_id="s-1", message_id=long_id)
            await shop.publish(Noted("s-1", 2), correlation_id="s-1", message_id="m-2")
            await seen.stays_at(2)
    assert [found.number for found in seen.items] == [1, 2]


async def test_name_may_have_any_characters(opened: Open) -> None:
    """Dots, stars and hashes have a meaning in routing keys."""
    seen, other = Seen(), Seen()
    names: dict[str, type] = {"a.*.#": Noted, "a.b.c": Remarked, "größe/1 %": Charge}
    billing = opened(messages=names)
    billing.subscribe(Noted, seen.add)
    billing.subscribe(Charge, seen.add)
    audit = opened("audit", messages=names)
    audit.subscribe(Remarked, other.add)
    async with billing, audit:
        await billing.publish(Remarked("s-1", 1), correlation_id="s-1")
        await billing.publish(Noted("s-1", 2), correlation_id="s-1")
        await billing.publish(Charge("s-1", Decimal(3)), correlation_id="s-1")
        await seen.stays_at(2)
        await other.stays_at(1)
    assert seen.items == [Noted("s-1", 2), Charge("s-1", Decimal(3))]


def test_slots_are_the_same_for_ever() -> None:
    """Programs in other languages compute them, too."""
    assert [slot_of(key) for key in ("s-1", "o-17", "int\n7", "")] == [14, 7, 24, 0]
    assert routing_key(17, "a.b*#") == "17.a%2Eb%2A%23"
    assert pattern("Noted") == "*.Noted"


async def test_name_that_is_too_long_is_told(opened: Open) -> None:
    async with opened(messages={"n" * 300: Noted}) as billing:
        with pytest.raises(BusError, match="too long for RabbitMQ"):
            await billing.publish(Noted("s-1", 1))


async def test_headers_that_are_too_large_are_told(opened: Open) -> None:
    seen = Seen()
    billing = opened()
    billing.subscribe(Noted, seen.add, envelope=True)
    async with billing:
        with pytest.raises(BusError, match="put less into headers="):
            await billing.publish(Noted("s-1", 1), headers={"note": "x" * 100_000})
        await billing.publish(Noted("s-1", 1), headers={"note": "x" * 90_000})
        (found,) = await seen.wait_for(1)
    assert len(found.headers["note"]) == 90_000


async def test_command_that_nobody_takes_is_told(opened: Open) -> None:
    async with opened("shop") as shop:
        with pytest.raises(NoHandlerError, match="nobody handles the command Refused"):
            await shop.publish(Refused("s-1"), headers={"kind": "command"})
        await shop.publish(Refused("s-1"))


async def test_other_number_of_partitions_is_refused(opened: Open) -> None:
    """Two processes that divide the messages otherwise would reorder them."""
    billing, wrong = opened(), opened(partitions=4)
    for bus in (billing, wrong):
        bus.subscribe(Noted, print)
    async with billing, wrong:
        assert wrong.down_since is not None
        with pytest.raises(BusError, match="billing has another number of partitions than 4"):
            await wrong.publish(Noted("s-1", 1))


# Connections


async def test_what_is_known_of_a_failure_outlasts_the_connection(
    opened: Open, rabbitmq_uri: str, rabbitmq_proxy: TcpProxy
) -> None:
    """A message that fails becomes a dead letter, though RabbitMQ takes it back meanwhile."""
    failed = Seen()

    async def take(message: Noted) -> None:
        failed.add(message)
        raise RuntimeError("not now")

    uri = through(rabbitmq_proxy, rabbitmq_uri)
    billing = opened(uri=uri, retry=evolve(PATIENT, max_age=timedelta(seconds=1.5)))
    billing.subscribe(Noted, take)
    async with billing:
        await billing.publish(Noted("s-1", 1), correlation_id="s-1")
        await failed.wait_for(3)
        rabbitmq_proxy.cut()
        count = len(failed.items)
        await failed.wait_for(count + 1)
        async with opened() as reader:
            (letter,) = await letters_of(reader, 1)
    assert letter.attempts == len(failed.items)


async def test_bus_waits_for_a_server_that_is_away(
    opened: Open, rabbitmq_uri: str, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One line says so, and one that it is back; meanwhile whoever publishes is told."""
    seen = Seen()
    caplog.set_level(logging.WARNING)
    server = urlsplit(rabbitmq_uri)
    proxy = TcpProxy(server.hostname or "", server.port or 5672)
    with proxy.running():
        proxy.hold()
        away = opened("shop", uri="amqp://guest:s3cret@127.0.0.1:1/")
        async with away:
            with pytest.raises(BusError, match=r"cannot publish .* at 127.0.0.1:1: .*refused"):
                await away.publish(Noted("s-1", 1))
        wrong = opened("shop", uri=rabbitmq_uri.replace("guest:guest", "guest:s3cret"))
        async with wrong:
            with pytest.raises(BusError, match="ACCESS_REFUSED"):
                await wrong.publish(Noted("s-1", 1))
        uri = through(proxy, rabbitmq_uri)
        billing = opened(uri=uri, operation_timeout=timedelta(milliseconds=500))
        billing.subscribe(Noted, seen.add)
        async with billing:
            assert is_down(billing)
            with pytest.raises(BusError, match="has not answered within"):
                await billing.ping()
            proxy.release()
            while is_down(billing):
                await anyio.sleep(0.02)
            await billing.ping()
            await billing.publish(Noted("s-1", 1), correlation_id="s-1")
            await seen.wait_for(1)
            proxy.cut()
            while not is_down(billing):
                await anyio.sleep(0.02)
            while is_down(billing):
                await anyio.sleep(0.02)
            await publish_at_last(billing, Noted("s-1", 2))
            await seen.wait_for(2)
    told = [record.getMessage() for record in caplog.records]
    assert len([text for text in told if "the bus is down" in text]) == 2
    assert len([text for text in told if "the bus is back" in text]) == 2
    assert [text for text in told if "s3cret" in text] == []
    assert {record.name for record in caplog.records} == {"sagaflow.bus"}


def is_down(bus: BrokerBus) -> bool:
    return bus.down_since is not None


async def publish_at_last(bus: BrokerBus, message: object) -> None:
    while True:
        try:
            await bus.publish(message, correlation_id="s-1", message_id="m-1")
        except BusError:
            await anyio.sleep(0.02)
        else:
            return


async def test_queue_that_was_removed_is_made_again(
    opened: Open, rabbitmq_uri: str, prefix: str
) -> None:
    seen = Seen()
    billing = opened()
    billing.subscribe(Noted, seen.add)
    async with billing:
        await billing.publish(Noted("s-1", 1), correlation_id="s-1")
        await seen.wait_for(1)
        with channel_at(rabbitmq_uri) as channel:
            for partition in range(2):
                channel.queue_delete(f"{prefix}.billing.{partition}")
        with anyio.fail_after(30):
            while len(seen.items) < 2:
                await billing.publish(Noted("s-1", 2), correlation_id="s-1", message_id="m-2")
                await anyio.sleep(0.02)


# Messages of other programs


async def test_message_of_another_program_is_handled(
    opened: Open, rabbitmq_uri: str, prefix: str
) -> None:
    seen = Seen()
    billing = opened()
    billing.subscribe(Noted, seen.add, envelope=True)
    attributes = {"specversion": "1.0", "id": "m-1", "type": "Noted", "source": "/js"}
    headers: dict[str, Any] = {f"cloudEvents:{name}": text for name, text in attributes.items()}
    headers |= {"cloudEvents:correlationid": "s-1", "x-trail": [1], "priority": 7}
    async with billing:
        send(rabbitmq_uri, prefix, "Noted", b'{"saga":"s-1","number":1}', headers=headers)
        (found,) = await seen.wait_for(1)
    assert (found.body, found.id, found.correlation_id) == (Noted("s-1", 1), "m-1", "s-1")


@pytest.mark.parametrize(
    ("properties", "body", "reason"),
    [
        ({}, b"", "not_cloudevents"),
        ({"headers": {"cloudEvents_specversion": b"\xff"}}, b"", "not_cloudevents"),
        ({"content_type": "text/xml"}, b"<a/>", "content_type"),
        ({"message_id": "m-1"}, b"[", "not_json"),
        ({"headers": {"note": "x" * 125_000}}, b"", "not_cloudevents"),
    ],
    ids=["nothing", "no text", "xml", "no json", "large"],
)
async def test_message_that_cannot_be_read_is_a_dead_letter(
    properties: dict[str, Any],
    body: bytes,
    reason: str,
    opened: Open,
    rabbitmq_uri: str,
    prefix: str,
) -> None:
    billing = opened()
    billing.subscribe(Noted, print)
    if reason != "not_cloudevents":
        attributes = {"specversion": "1.0", "id": "m-1", "type": "Noted", "source": "/js"}
        properties["headers"] = {f"cloudEvents_{name}": text for name, text in attributes.items()}
    async with billing:
        send(rabbitmq_uri, prefix, "Noted", body, **properties)
        (letter,) = await letters_of(billing, 1)
        assert (letter.reason, letter.body) == (reason, body)
        assert await billing.drop_dead_letter(letter.id)


# Dead letters


async def test_readers_of_dead_letters_see_all_of_them(opened: Open) -> None:
    """At the same time, in one process and in several; and in their order."""
    number = 20
    at_once = evolve(PATIENT, max_age=timedelta(microseconds=1))
    async with opened(retry=at_once) as billing, opened() as other:
        await fill(billing, number)
        found: list[list[str]] = []

        async def read(bus: BrokerBus) -> None:
            found.append([letter.id async for letter in bus.dead_letters()])

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(read, billing)
                tasks.start_soon(read, other)
        assert found == [[f"m-{one}" for one in range(number)]] * 6
        assert await other.drop_dead_letter("m-7")
        await read(billing)
    assert found[-1] == [f"m-{one}" for one in range(number) if one != 7]


async def fill(bus: BrokerBus, number: int) -> None:
    """Leave so many dead letters."""

    def refuse(message: Noted) -> None:
        raise ValueError("never")

    bus.subscribe(Noted, refuse)
    for one in range(number):
        await bus.publish(Noted("s-1", one), correlation_id="s-1", message_id=f"m-{one}")
    await letters_of(bus, number)


async def test_reader_that_gives_up_keeps_no_other_from_reading(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = evolve(PATIENT, max_age=timedelta(microseconds=1))
    patient = opened(retry=at_once)
    hasty = opened(operation_timeout=timedelta(seconds=1))
    async with patient, hasty:
        await fill(patient, 3)
        take = letters.take_letters

        async def hang(*given: Any) -> None:
            await take(*given)
            await asyncio.sleep(3600)

        with monkeypatch.context() as patch:
            patch.setattr(letters, "take_letters", hang)
            with pytest.raises(BusError, match="cannot list the dead letters"):
                await letters_of(hasty, 3)
        assert [letter.id for letter in await letters_of(patient, 3)] == ["m-0", "m-1", "m-2"]


async def test_dead_letter_is_sent_again_to_its_service_alone(opened: Open) -> None:
    seen, others, is_broken = Seen(), Seen(), True

    async def take(message: Noted) -> None:
        if is_broken:
            raise ValueError("the part is broken")
        seen.add(message)

    billing = opened(retry=evolve(PATIENT, max_age=timedelta(microseconds=1)))
    billing.subscribe(Noted, take, envelope=True)
    audit = opened("audit")
    audit.subscribe(Noted, others.add)
    async with billing, audit:
        await billing.publish(Noted("s-1", 1), correlation_id=7, message_id="m-1")
        (letter,) = await letters_of(billing, 1)
        assert letter.key == "int\n7"
        is_broken = False
        assert await billing.retry_dead_letter(letter.id)
        (found,) = await seen.wait_for(1)
        await others.stays_at(1)
    assert (found.id, found.correlation_id, found.headers) == ("m-1", 7, {})


async def test_message_stays_until_it_can_be_put_aside(
    opened: Open, rabbitmq_uri: str, prefix: str
) -> None:
    seen = Seen()
    billing = opened(retry=evolve(PATIENT, max_age=timedelta(microseconds=1)))

    async def refuse(message: Noted) -> None:
        with channel_at(rabbitmq_uri) as channel:
            if not seen.items:
                channel.queue_delete(f"{prefix}.billing.dead")
        seen.add(message)
        raise ValueError("never")

    billing.subscribe(Noted, refuse)
    async with billing:
        await billing.publish(Noted("s-1", 1), correlation_id="s-1", message_id="m-1")
        await seen.wait_for(2)
        assert [letter.id for letter in await letters_of(billing, 1)] == ["m-1"]


# Settings


@pytest.mark.parametrize(
    "uri",
    ["", "rabbit", "http://guest:s3cret@host/", "amqp://u:s3cret@host:port/", 7, None],
)
def test_wrong_uri_is_told_without_its_password(uri: Any) -> None:
    with pytest.raises(BusError, match="the URI of RabbitMQ cannot be read") as caught:
        RabbitBus(uri, service="billing", messages=MESSAGES)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "a b", "amq.x", "a*", "x" * 65, None])
def test_wrong_prefix_is_told(prefix: Any) -> None:
    with pytest.raises(BusError, match="prefix= is what names"):
        RabbitBus("amqp://host/", service="billing", messages=MESSAGES, prefix=prefix)


@pytest.mark.parametrize(
    "settings",
    [
        {"partitions": 3},
        {"partitions": 2 * SLOTS},
        {"balance_interval": timedelta(0)},
        {"operation_timeout": timedelta(seconds=-1)},
    ],
    ids=str,
)
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        RabbitBus("amqp://host/", service="billing", messages=MESSAGES, **settings)


def test_missing_client_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pika", None)
    with pytest.raises(BusError, match=r"pip install 'sagaflow\[rabbitmq\]'"):
        RabbitBus("amqp://host/", service="billing", messages=MESSAGES)
