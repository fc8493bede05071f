"""What is particular to the bus over Kafka."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import anyio
import confluent_kafka
import pytest
from attrs import define, field

from sagaflow._model.verdict import RetryLater, Undeliverable, Verdict
from sagaflow.bus import BrokerBus, Delivery
from sagaflow.bus.dispatcher import Dispatcher
from sagaflow.exceptions import BusError, NoHandlerError
from sagaflow.kafka import KafkaBus, session
from sagaflow.kafka.client import Client
from sagaflow.kafka.member import Event, Handover, Member
from sagaflow.kafka.progress import Reached
from sagaflow.testing._bus_contract.kit import MESSAGES, PATIENT, Noted, Seen
from tests.bus.kafka.servers import KafkaCluster

pytestmark = pytest.mark.anyio

HEARTBEAT = 12
OFFSET_COMMIT = 8
PRODUCE = 0
FETCH = 1
UNKNOWN_MEMBER = 25
TOO_LARGE = 10
REBALANCE_IN_PROGRESS = 27
NOT_AUTHORIZED = 29
FENCED = 82
UNKNOWN_TOPIC = 3
COMMAND = {"kind": "command"}

Open = Callable[..., KafkaBus]


@pytest.fixture
def open_bus(kafka_cluster: KafkaCluster, prefix: str) -> Open:
    def opened(service: str = "billing", **settings: Any) -> KafkaBus:
        given: dict[str, Any] = {
            "messages": MESSAGES,
            "retry": PATIENT,
            "lease_duration": timedelta(seconds=2.5),
            "operation_timeout": timedelta(seconds=2),
            **settings,
        }
        return KafkaBus(kafka_cluster.uri, service=service, prefix=prefix, **given)

    return opened


@pytest.fixture
def inbox(kafka_cluster: KafkaCluster, prefix: str) -> str:
    """The topic of the service, with one partition."""
    topic = f"{prefix}.service.billing"
    kafka_cluster.make(topic, 1)
    return topic


def plain_consumer(cluster: KafkaCluster, group: str) -> Any:
    place = cluster.uri.removeprefix("kafka://")
    return confluent_kafka.Consumer({"bootstrap.servers": place, "group.id": group})


def committed(cluster: KafkaCluster, inbox: str) -> int:
    """Return the offset that is committed for the only partition."""
    consumer = plain_consumer(cluster, inbox)
    place = confluent_kafka.TopicPartition(inbox, 0)
    (found,) = consumer.committed([place], timeout=5)
    consumer.close()
    offset: int = found.offset
    return offset


def write(
    cluster: KafkaCluster,
    topic: str,
    value: bytes | None,
    key: bytes | None = None,
    headers: list[tuple[str, str | bytes | None]] | None = None,
) -> None:
    """Write a record as another program would."""
    place = cluster.uri.removeprefix("kafka://")
    producer = confluent_kafka.Producer({"bootstrap.servers": place, "linger.ms": 0})
    producer.produce(topic, value=value, key=key, headers=headers or [], partition=0)
    assert producer.flush(5) == 0


@asynccontextmanager
async def publishing(bus: KafkaBus, *events: Noted) -> AsyncGenerator[None]:
    """Have events published once the bus runs."""
    async with bus:
        for event in events:
            await bus.publish(event, correlation_id=event.saga)
        yield


async def test_what_comes_later_carries_nothing_away(
    open_bus: Open, inbox: str, kafka_cluster: KafkaCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first message fails, those of other sagas behind it are done, and the process ends."""
    seen, later, attempts = Seen(), Seen(), list[int]()

    def take(message: Noted) -> Verdict | None:
        if message.saga == "bad":
            return RetryLater(timedelta(hours=1), "not yet")
        seen.add(message)
        return None

    first = open_bus()
    first.subscribe(Noted, take)
    others = [Noted(f"s-{number}", number) for number in range(20)]
    async with publishing(first, Noted("bad", 0), *others):
        await seen.wait_for(20)
    assert committed(kafka_cluster, inbox) == 0
    second = open_bus()
    handle = Dispatcher.handle

    async def noting(dispatcher: Dispatcher, delivery: Delivery) -> Verdict:
        attempts.append(delivery.attempts)
        return await handle(dispatcher, delivery)

    monkeypatch.setattr(Dispatcher, "handle", noting)
    second.subscribe(Noted, later.add)
    async with publishing(second, Noted("s-0", 20)):
        await later.stays_at(2)
    left = sorted(later.items, key=lambda one: one.number)
    assert left == [Noted("bad", 0), Noted("s-0", 20)], "what was done is not done again"
    assert sorted(attempts) == [0, 1], "how often it has failed is known to who comes next"
    assert committed(kafka_cluster, inbox) == 22


async def test_partition_moves_when_its_handlers_have_ended(open_bus: Open, inbox: str) -> None:
    """A process that joins gets nothing that somebody is still at work on."""
    begun, may_end, done, other = Seen(), anyio.Event(), Seen(), Seen()

    async def take(message: Noted) -> None:
        begun.add(message)
        await may_end.wait()
        done.add(message)

    first, second = open_bus(), open_bus()
    first.subscribe(Noted, take)
    second.subscribe(Noted, other.add)
    async with publishing(first, Noted("s-1", 0)):
        await begun.wait_for(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.drain)
            async with second:
                may_end.set()
                await done.wait_for(1)
                await second.publish(Noted("s-1", 1), correlation_id="s-1")
                async with first_closed(first):
                    await other.wait_for(1)
    assert other.items == [Noted("s-1", 1)]


@pytest.mark.parametrize("every", [0.05, 3600], ids=["meanwhile", "at the end"])
async def test_commit_that_is_refused_is_made_again(
    every: float,
    open_bus: Open,
    inbox: str,
    kafka_cluster: KafkaCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Kafka refuses commits while a group is put together anew."""
    monkeypatch.setattr(session, "_COMMITTING", every)
    seen = Seen()
    bus = open_bus()
    bus.subscribe(Noted, seen.add)
    kafka_cluster.fail(OFFSET_COMMIT, REBALANCE_IN_PROGRESS)
    async with publishing(bus, Noted("s-1", 0)):
        await seen.wait_for(1)
        with anyio.fail_after(10):
            while every < 1 and committed(kafka_cluster, inbox) != 1:
                await anyio.sleep(0.05)
    assert committed(kafka_cluster, inbox) == 1


async def test_commits_that_are_refused_for_long_are_told_once(
    open_bus: Open, inbox: str, kafka_cluster: KafkaCluster, caplog: pytest.LogCaptureFixture
) -> None:
    bus = open_bus(operation_timeout=timedelta(seconds=1))
    bus.subscribe(Noted, Seen().add)
    kafka_cluster.fail(OFFSET_COMMIT, *[NOT_AUTHORIZED] * 5)
    async with publishing(bus, Noted("s-1", 0)):
        with anyio.fail_after(20):
            while committed(kafka_cluster, inbox) != 1:
                await anyio.sleep(0.05)
    told = [record for record in caplog.records if "cannot be committed" in record.getMessage()]
    assert len(told) == 1


@define
class Consumer:
    """Notes in which order it is asked for what."""

    asked: list[tuple[str, int, int]] = field(factory=list[tuple[str, int, int]])

    def commit(self, *, offsets: list[Any], asynchronous: bool) -> list[Any]:
        assert not asynchronous
        self.asked += [("commit", place.partition, place.offset) for place in offsets]
        return offsets

    def incremental_unassign(self, places: list[Any]) -> None:
        self.asked += [("unassign", place.partition, -1) for place in places]


@pytest.mark.parametrize("ends", [False, True], ids=["goes on", "ends"])
def test_what_was_told_before_a_partition_is_given_away_is_committed(ends: bool) -> None:
    """Also what was told just before the event loop hears that the group asks for it."""

    def receive(event: Event) -> None:
        assert isinstance(event, Handover)
        assert event.reached == []
        event.is_ready.set()

    def do_at_once(do: Callable[[], object]) -> None:
        do()

    member: Any = Member(
        client=Client("nowhere", {}, timedelta(seconds=1)),
        topic="inbox",
        settings={},
        patience=1,
        tell=do_at_once,
        receive=receive,
    )
    consumer = Consumer()
    member._consumer = consumer
    member.commit(Reached(3, 7, ""))
    member.commit(Reached(4, 8, ""))
    if ends:
        member.end()
    place = confluent_kafka.TopicPartition("inbox", 3)
    member._revoked(consumer, [place])
    assert consumer.asked == [("commit", 3, 7), ("unassign", 3, -1)]
    member._revoked(consumer, [place])
    assert consumer.asked[2:] == [("unassign", 3, -1)], "what is known of it is forgotten"


async def becomes(bus: BrokerBus, *, is_down: bool) -> None:
    while (bus.down_since is not None) is not is_down:
        await anyio.sleep(0.02)


@asynccontextmanager
async def first_closed(bus: BrokerBus) -> AsyncGenerator[None]:
    """Wait until a bus that is drained has left the group."""
    await bus.drain()
    yield


async def test_handler_that_does_not_end_loses_its_partition(open_bus: Open) -> None:
    """After `handover_timeout` it is cancelled, and its message is handled by the other process."""
    begun, cancelled, seen = Seen(), Seen(), Seen()

    async def hang(message: Noted) -> None:
        begun.add(message)
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.add(message)

    first = open_bus(
        handover_timeout=timedelta(milliseconds=100), shutdown_timeout=timedelta(milliseconds=100)
    )
    second = open_bus()
    first.subscribe(Noted, hang)
    second.subscribe(Noted, seen.add)
    events = [Noted(f"s-{number}", number) for number in range(12)]  # in each of four partitions
    async with publishing(first, *events):
        await begun.wait_for(12)
        async with second:
            await seen.wait_for(1)
            assert seen.items[0] in cancelled.items
            assert len(cancelled.items) < 12, "what stays is not touched"


async def test_process_that_the_group_has_given_up_is_broken_off(
    open_bus: Open, inbox: str, kafka_cluster: KafkaCluster
) -> None:
    """Its message is handled again, by whoever has the partition then."""
    seen, cancelled = Seen(), Seen()

    async def take(message: Noted) -> None:
        seen.add(message)
        if len(seen.items) == 1:
            try:
                await anyio.sleep_forever()
            finally:
                cancelled.add(message)

    bus = open_bus()
    bus.subscribe(Noted, take)
    async with publishing(bus, Noted("s-1", 0)):
        await seen.wait_for(1)
        kafka_cluster.fail(HEARTBEAT, UNKNOWN_MEMBER)
        await cancelled.wait_for(1)
        await seen.wait_for(2)


async def test_second_process_of_an_owner_takes_the_place_of_the_first(
    open_bus: Open, kafka_cluster: KafkaCluster, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Seen()
    bus = open_bus(owner="billing-1")
    bus.subscribe(Noted, seen.add)
    async with publishing(bus, Noted("s-1", 0)):
        await seen.wait_for(1)
        kafka_cluster.fail(HEARTBEAT, FENCED)
        with anyio.fail_after(20):
            while "another process with the same owner=" not in caplog.text:
                await anyio.sleep(0.02)


async def test_message_that_is_published_twice_is_handled_once(open_bus: Open) -> None:
    seen = Seen()
    bus = open_bus()
    bus.subscribe(Noted, seen.add)
    async with bus:
        for _ in range(2):
            await bus.publish(Noted("s-1", 0), correlation_id="s-1", message_id="m-1")
        await bus.publish(Noted("s-1", 1), correlation_id="s-1", message_id="m-2")
        await seen.wait_for(2)
    assert [found.number for found in seen.items] == [0, 1]


async def test_what_a_stranger_has_written_is_a_dead_letter(
    open_bus: Open, inbox: str, kafka_cluster: KafkaCluster
) -> None:
    seen = Seen()
    bus = open_bus()
    bus.subscribe(Noted, seen.add)
    write(kafka_cluster, inbox, b"hello", b"\xff", [("ce_id", b"\xe9"), ("other", None)])
    write(kafka_cluster, inbox, None)
    async with publishing(bus, Noted("s-1", 0)):
        await seen.wait_for(1)
        letters = [letter async for letter in bus.dead_letters()]
        assert [letter.reason for letter in letters] == ["not_cloudevents"] * 2
        assert {letter.id for letter in letters} == {"0-0", "0-1"}
        found = await bus.find_dead_letter("0-0")
        assert found is not None
        assert (found.key, found.body, found.headers["ce_id"]) == ("\udcff", b"hello", "\udce9")
        assert await bus.retry_dead_letter("0-0")
        while await bus.find_dead_letter("0-3") is None:
            await anyio.sleep(0.02)
        assert not await bus.retry_dead_letter("0-0")
        assert not await bus.retry_dead_letter("1-1")
        assert not await bus.drop_dead_letter("no id")


async def test_message_that_cannot_be_put_aside_is_not_done(
    open_bus: Open,
    inbox: str,
    kafka_cluster: KafkaCluster,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(session, "_PAUSE", timedelta(milliseconds=20))
    may_refuse, refused = anyio.Event(), Seen()

    async def refuse(message: Noted) -> Verdict:
        refused.add(message)
        await may_refuse.wait()
        return Undeliverable("unhandled")

    bus = open_bus()
    bus.subscribe(Noted, refuse)
    async with publishing(bus, Noted("s-1", 0)):
        await refused.wait_for(1)
        kafka_cluster.fail(PRODUCE, TOO_LARGE, TOO_LARGE)
        may_refuse.set()
        with anyio.fail_after(20):
            while [letter async for letter in bus.dead_letters()] == []:
                await anyio.sleep(0.02)
    assert caplog.text.count("a message could not be put aside") == 2
    assert len(refused.items) == 1
    assert committed(kafka_cluster, inbox) == 1


async def test_full_partition_is_left_alone_for_a_while(
    open_bus: Open, inbox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others go on until then, and all goes on afterwards."""
    monkeypatch.setattr(session, "IN_HAND", 4)
    attempts, seen, may_succeed = Seen(), Seen(), anyio.Event()

    def take(message: Noted) -> Verdict | None:
        attempts.add(message)
        if message.saga == "bad" and not may_succeed.is_set():
            return RetryLater(timedelta(milliseconds=20), "not yet")
        seen.add(message)
        return None

    bus = open_bus()
    bus.subscribe(Noted, take)
    async with publishing(bus, *(Noted("bad", number) for number in range(6))):
        await attempts.wait_for(3)
        # What arrives before the thread is told counts as well.
        for number in range(10):
            await bus.publish(Noted("good", number), correlation_id="good")
            with anyio.move_on_after(2) as waiting:
                await seen.wait_for(number + 1)
            if waiting.cancelled_caught:
                break
        else:
            pytest.fail("it is never left alone")
        held = len(seen.items)
        may_succeed.set()
        await seen.wait_for(held + 7)
        await bus.publish(Noted("last", 0), correlation_id="last")
        while Noted("last", 0) not in seen.items:
            await seen.wait_for(len(seen.items) + 1)
    assert [one.number for one in seen.items if one.saga == "bad"] == list(range(6))


async def test_service_that_is_taken_out_gets_nothing_more(
    open_bus: Open, prefix: str, kafka_cluster: KafkaCluster
) -> None:
    bus = open_bus()
    bus.subscribe(Noted, Seen().add)
    async with bus:
        pass
    async with open_bus("shop") as shop:
        await shop.publish(Noted("s-1", 0), correlation_id="s-1", headers=COMMAND)
        write(kafka_cluster, f"{prefix}.services", None, b"billing Noted")
        with pytest.raises(NoHandlerError):
            await shop.publish(Noted("s-1", 1), correlation_id="s-1", headers=COMMAND)


async def test_what_the_topic_of_services_has_lost_is_warned_of(
    open_bus: Open, prefix: str, kafka_cluster: KafkaCluster, caplog: pytest.LogCaptureFixture
) -> None:
    if not kafka_cluster.can_forget:
        pytest.skip("this librdkafka has no retention in its cluster: a newer one has")
    bus = open_bus()
    bus.subscribe(Noted, Seen().add)
    async with bus:
        pass
    kafka_cluster.forget(f"{prefix}.services", 0, 1)
    async with open_bus("shop") as shop:
        await shop.publish(Noted("s-1", 0), correlation_id="s-1")
    assert "give it cleanup.policy=compact" in caplog.text


async def test_topic_that_is_missing_is_named(
    open_bus: Open, prefix: str, kafka_cluster: KafkaCluster
) -> None:
    kafka_cluster.refuse(f"{prefix}.services", UNKNOWN_TOPIC)
    async with open_bus(operation_timeout=timedelta(milliseconds=500)) as bus:
        with pytest.raises(BusError, match=rf"has no topic {prefix}\.services: make it"):
            await bus.publish(Noted("s-1", 0))


async def test_broker_that_goes_away_is_told_and_waited_for(
    open_bus: Open, kafka_cluster: KafkaCluster
) -> None:
    seen = Seen()
    bus = open_bus()
    bus.subscribe(Noted, seen.add)
    async with publishing(bus, Noted("s-1", 0)):
        await seen.wait_for(1)
        with kafka_cluster.down(), anyio.fail_after(20):
            with pytest.raises(BusError, match=r"Kafka at 127\.0\.0\.1:\d+"):
                await bus.publish(Noted("s-1", 1), correlation_id="s-1")
            with pytest.raises(BusError, match="cannot reach a broker"):
                await bus.ping()
            await becomes(bus, is_down=True)
        await becomes(bus, is_down=False)
        await bus.ping()
        while Noted("s-1", 2) not in seen.items:
            try:
                await bus.publish(Noted("s-1", 2), correlation_id="s-1", message_id="m-2")
            except BusError:
                continue
            await seen.wait_for(2)


async def test_dead_letters_that_may_not_be_read(
    open_bus: Open, prefix: str, kafka_cluster: KafkaCluster
) -> None:
    async with open_bus() as bus:
        assert [letter async for letter in bus.dead_letters()] == []
        write(kafka_cluster, f"{prefix}.service.billing.dead", b"{}", b"0-0")
        kafka_cluster.fail(FETCH, NOT_AUTHORIZED)
        with pytest.raises(BusError, match=r"cannot read .*\.dead: Kafka at .*: .*[Aa]uthoriz"):
            await bus.find_dead_letter("0-0")
        assert await bus.drop_dead_letter("0-0")


async def test_nobody_is_there() -> None:
    bus = KafkaBus(
        "kafka://me:s3cret@127.0.0.1:1",
        service="billing",
        messages=MESSAGES,
        prefix=uuid4().hex,
        operation_timeout=timedelta(milliseconds=300),
    )
    async with bus:
        with pytest.raises(BusError, match=r"Kafka at 127\.0\.0\.1:1 has not answered") as caught:
            await bus.publish(Noted("s-1", 0))
    assert "s3cret" not in str(caught.value)
    with pytest.raises(BusError, match="the bus is closed"):
        await bus.ping()
