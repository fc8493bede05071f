"""What sagaflow does with RabbitMQ, one step after another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from importlib import import_module
from typing import Any

from sagaflow.rabbitmq.client import PREFETCH, Lost, RabbitClient, Received, Taken
from sagaflow.rabbitmq.messages import Content
from sagaflow.rabbitmq.names import Names, routing_key
from tests.bus.rabbitmq.broker import channel_at

Test = Callable[..., Coroutine[Any, Any, None]]


def on_asyncio(test: Test) -> Callable[..., None]:
    """Run a test on the one runtime that the client knows, for a limited time."""

    @wraps(test)
    def run(**fixtures: Any) -> None:
        asyncio.run(asyncio.wait_for(test(**fixtures), 60))

    return run


def parameters(uri: str) -> Any:
    return import_module("pika").URLParameters(uri)


@asynccontextmanager
async def process_of(uri: str, prefix: str) -> AsyncGenerator[RabbitClient]:
    """A process of a service with one partition, which takes nothing yet."""
    client = RabbitClient(parameters(uri), Names(prefix, "billing"), 1, 5.0)
    try:
        await client.begin(["Noted"])
        yield client
    finally:
        await client.close()


async def publish(client: RabbitClient, numbers: range) -> None:
    """Publish messages that are known by their numbers."""
    names = client.names
    publications = [
        client.publisher.publish(
            names.exchange, routing_key(0, "Noted"), Content(str(number), {}, b"")
        )
        for number in numbers
    ]
    assert all(await asyncio.gather(*publications))


async def taken(client: RabbitClient) -> Taken:
    """Take the partition as soon as nobody has it."""
    while (await client.survey(()))[1] == []:
        pass
    found = Taken(0)
    assert await client.take(found)
    return found


async def received(client: RabbitClient, partition: Taken, count: int) -> list[Received]:
    """Return so many messages of a partition; what came before it was taken does not count."""
    found: list[Received] = []
    while len(found) < count:
        arrivals = [one for one in await client.pull() if one.taken is partition]
        assert not [one for one in arrivals if isinstance(one, Lost)]
        found += [one for one in arrivals if isinstance(one, Received)]
    return found


def numbers_of(messages: list[Received]) -> list[int]:
    return [int(message.content.id) for message in messages]


@on_asyncio
async def test_message_that_comes_while_a_partition_is_given_back_keeps_its_place(
    rabbitmq_uri: str, prefix: str
) -> None:
    """What was acknowledged last makes room for one more, which is on its way just then."""
    async with process_of(rabbitmq_uri, prefix) as client:
        await publish(client, range(PREFETCH + 10))
        for first in range(5):
            partition = await taken(client)
            messages = await received(client, partition, PREFETCH)
            assert numbers_of(messages) == list(range(first, first + PREFETCH))
            await client.ack(messages[0])
            await client.release(partition)


@on_asyncio
async def test_what_was_acknowledged_before_a_partition_is_given_back_does_not_come_again(
    rabbitmq_uri: str, prefix: str
) -> None:
    """RabbitMQ hands some of many acknowledgements on, and would forget the others."""
    async with process_of(rabbitmq_uri, prefix) as client:
        await publish(client, range(PREFETCH))
        partition = await taken(client)
        for message in (await received(client, partition, PREFETCH))[:200]:
            await client.ack(message)
        await client.release(partition)
        partition = await taken(client)
        left = await received(client, partition, PREFETCH - 200)
        assert numbers_of(left) == list(range(200, PREFETCH))


@on_asyncio
async def test_process_does_not_take_a_partition_that_another_one_has(
    rabbitmq_uri: str, prefix: str
) -> None:
    """Two processes have found it free at the same time."""
    async with (
        process_of(rabbitmq_uri, prefix) as first,
        process_of(rabbitmq_uri, prefix) as second,
    ):
        await publish(first, range(2))
        partition = await taken(first)
        assert not await second.take(Taken(0))
        assert numbers_of(await received(first, partition, 2)) == [0, 1]
        await first.release(partition)
        partition = await taken(second)
        assert numbers_of(await received(second, partition, 2)) == [0, 1]


@on_asyncio
async def test_partition_whose_lock_is_gone_is_fenced_while_its_messages_are_out(
    rabbitmq_uri: str, prefix: str
) -> None:
    """RabbitMQ removes the lock of a connection that was lost before it takes the messages back."""
    async with (
        process_of(rabbitmq_uri, prefix) as first,
        process_of(rabbitmq_uri, prefix) as second,
    ):
        await publish(first, range(PREFETCH + 5))
        partition = await taken(first)
        messages = await received(first, partition, PREFETCH)
        await first.ack(messages[0])
        channel = partition.channel
        assert channel is not None
        await channel.delete_queue(first.names.owner(0))
        taken_too_early = Taken(0)
        assert await second.take(taken_too_early)
        await channel.close()
        left = await received(second, taken_too_early, PREFETCH)
        assert numbers_of(left) == list(range(1, PREFETCH + 1))


@on_asyncio
async def test_messages_and_queues_outlast_the_server(rabbitmq_uri: str, prefix: str) -> None:
    """RabbitMQ refuses to declare a queue that is there with other arguments."""
    quorum = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}
    of_a_partition = {
        **quorum,
        "x-single-active-consumer": True,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": f"{prefix}.billing.dead",
    }
    async with process_of(rabbitmq_uri, prefix) as client:
        with channel_at(rabbitmq_uri) as channel:
            channel.queue_declare(f"{prefix}.billing.0", durable=True, arguments=of_a_partition)
            channel.queue_declare(f"{prefix}.billing.dead", durable=True, arguments=quorum)
            channel.exchange_declare(prefix, "topic", durable=True)
            copies = channel.queue_declare("", exclusive=True).method.queue
            channel.queue_bind(copies, prefix, "#")
            await publish(client, range(1))
            _, properties, _ = channel.basic_get(copies, auto_ack=True)
    assert properties.delivery_mode == 2
