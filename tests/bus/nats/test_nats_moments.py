"""What the bus over NATS does when something happens at an awkward moment.

The moment is that at which certain bytes pass a proxy between the bus and a real server.
"""

# Some promises are those of the transport below the bus.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

import anyio
import pytest
from anyio import to_thread

from sagaflow import RetryPolicy
from sagaflow._model.verdict import ACCEPTED, RetryLater, Verdict
from sagaflow.bus.transport import DeadLetter, Delivery
from sagaflow.exceptions import BusError
from sagaflow.nats import NatsBus
from sagaflow.nats.names import LANES, Names, lane_of
from sagaflow.testing._bus_contract.kit import Noted, Remarked, Seen
from tests.bus.nats.opened import SHORT, OpenNats, ask, is_down, limit_size, subscribe_once
from tests.bus.nats.plain import request
from tests.bus.nats.proxy import Gate, Proxy

pytestmark = pytest.mark.anyio
AT_ONCE = RetryPolicy(max_age=timedelta(milliseconds=1))
HOUR = timedelta(hours=1)


async def become(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.01)


def has(items: list[int], number: int) -> bool:
    return len(items) == number


async def letters_of(bus: NatsBus) -> list[DeadLetter]:
    return [one async for one in bus.dead_letters()]


async def readers(port: int, prefix: str) -> Any:
    async def read(context: Any) -> Any:
        return await (await context.key_value(prefix)).get("readers")

    return json.loads((await ask(port, read)).value)


def failing(message: object) -> None:
    raise ValueError("never")


# Streams


async def test_stream_that_another_process_has_just_made_gets_our_settings(
    open_bus: OpenNats, own_proxy: Proxy, own_port: int, prefix: str
) -> None:
    """As while a new version with other settings takes the place of the old one."""
    names = Names(prefix, "billing")
    create = f"$JS.API.STREAM.CREATE.{names.inbox}"
    theirs = {
        "name": names.inbox,
        "subjects": [names.inbox_subjects],
        "retention": "workqueue",
        "max_age": 3600 * 10**9,
    }
    own_proxy.before(f"CREATE.{names.inbox} ", partial(request, own_port, create, theirs))
    bus = open_bus("billing", uri=own_proxy.uri, max_age=timedelta(days=3))
    await subscribe_once(bus, Seen())
    info = await ask(own_port, lambda context: context.stream_info(names.inbox))
    assert info.config.max_age == 3 * 86_400


async def test_stream_that_the_server_refuses_is_told(open_bus: OpenNats) -> None:
    bus = open_bus("billing", replicas=3)
    bus.subscribe(Noted, Seen().add)
    with pytest.raises(BusError, match="cannot make the streams of billing: replicas > 1"):
        await bus._announce()
    await bus._transport.aclose()


# The registry


async def test_service_that_is_noted_at_the_same_time_is_not_overwritten(
    open_bus: OpenNats, own_proxy: Proxy, own_port: int, prefix: str
) -> None:
    subject = Names(prefix, "billing").readers
    note = partial(request, own_port, subject, {"audit": ["Noted"]})
    own_proxy.before(f"PUB \\{subject} ", note)
    await subscribe_once(open_bus("billing", uri=own_proxy.uri), Seen())
    assert await readers(own_port, prefix) == {
        "audit": ["Noted"],
        "billing": ["Noted", "NotedTwice"],
    }


async def test_registry_that_others_change_all_the_time_is_given_up(
    open_bus: OpenNats, own_proxy: Proxy, own_port: int, prefix: str
) -> None:
    subject, numbers = Names(prefix, "billing").readers, count(1)

    def note() -> None:
        request(own_port, subject, {"audit": [f"Name{next(numbers)}"]})

    own_proxy.before(f"PUB \\{subject} ", note, times=1000)
    bus = open_bus("billing", uri=own_proxy.uri)
    bus.subscribe(Noted, Seen().add)
    with pytest.raises(BusError, match="cannot note what billing takes: others change it all the"):
        await bus._announce()
    assert next(numbers) == 51
    assert await readers(own_port, prefix) == {"audit": ["Name50"]}
    await bus._transport.aclose()


async def test_registry_that_refuses_is_told_and_not_tried_again_at_once(
    open_bus: OpenNats, own_proxy: Proxy, own_port: int, prefix: str
) -> None:
    names, tried = Names(prefix, "billing"), list[int]()
    await subscribe_once(open_bus("audit"), Seen())
    await limit_size(own_port, names.registry, 10)
    own_proxy.before(f"PUB \\{names.readers} ", partial(tried.append, 1), times=1000)
    bus = open_bus("billing", uri=own_proxy.uri)
    bus.subscribe(Noted, Seen().add)
    with pytest.raises(BusError, match="cannot note what the service takes: message size exceeds"):
        await bus._announce()
    assert len(tried) == 1
    await bus._transport.aclose()


async def test_more_names_than_the_server_takes_are_refused(open_bus: OpenNats) -> None:
    transport = open_bus("billing")._transport
    with pytest.raises(BusError, match="takes no message of that size"):
        await transport.subscribe([f"{number:01000}" for number in range(1_100)])
    await transport.aclose()


async def test_publications_that_begin_while_another_reads_the_registry_share_one_more_reading(
    open_bus: OpenNats, own_proxy: Proxy, prefix: str
) -> None:
    """What the other is about to hear may be older than a service that has just subscribed."""
    seen, answer, reads, stored = Seen(), Gate(), list[int](), list[int]()
    readers = f"\\{Names(prefix, '').readers}"
    await subscribe_once(open_bus("billing"), Seen())

    async def publish(shop: NatsBus, number: int) -> None:
        await shop.publish(Noted("s-1", number), message_id=f"m-{number}")

    async with open_bus("shop", uri=own_proxy.uri) as shop:
        await publish(shop, 0)  # from now on it knows of billing, and publishes to it at once
        own_proxy.before(f'"last_by_subj": ?"{readers}"', partial(reads.append, 1), times=99)
        own_proxy.before(f'"subject": ?"{readers}"', answer)
        own_proxy.before(f"PUB {prefix}.inbox.billing", partial(stored.append, 1), times=99)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publish, shop, 1)
            await answer.reached()
            await subscribe_once(open_bus("audit"), seen)
            for number in range(2, 6):
                tasks.start_soon(publish, shop, number)
                await become(partial(has, stored, number))
            answer.open()
    assert len(reads) == 2
    audit = open_bus("audit")
    audit.subscribe(Noted, seen.add)
    async with audit:
        await seen.stays_at(4)
    assert {found.number for found in seen.items} == {2, 3, 4, 5}


# Publishing


async def test_publication_whose_connection_is_cut_ends_at_once(
    open_bus: OpenNats, own_proxy: Proxy, prefix: str
) -> None:
    await subscribe_once(open_bus("billing"), Seen())
    async with open_bus("shop", uri=own_proxy.uri, operation_timeout=HOUR) as shop:
        await shop.publish(Noted("s-1", 1), correlation_id="s-1")
        own_proxy.before(f"PUB {prefix}.inbox", own_proxy.cut)
        with (
            anyio.fail_after(5),
            pytest.raises(BusError, match="for billing: the connection to NATS was lost"),
        ):
            await shop.publish(Noted("s-1", 2), correlation_id="s-1")
        await shop.publish(Noted("s-1", 3), correlation_id="s-1")


async def test_publication_that_is_not_answered_ends_after_the_time_of_one_operation(
    open_bus: OpenNats, own_proxy: Proxy
) -> None:
    """That is long before the connection is given up."""
    await subscribe_once(open_bus("billing"), Seen())
    short = timedelta(milliseconds=300)
    async with open_bus("shop", uri=own_proxy.uri, operation_timeout=short) as shop:
        await shop.publish(Noted("s-1", 1), correlation_id="s-1")
        with (
            own_proxy.silent(),
            anyio.fail_after(3),
            pytest.raises(BusError, match=r"no answer from NATS at .* within 0:00:00\.3"),
        ):
            await shop.publish(Noted("s-1", 2), correlation_id="s-1")


async def test_publication_is_over_when_the_stream_has_the_message(
    open_bus: OpenNats, own_proxy: Proxy, own_port: int, prefix: str
) -> None:
    await subscribe_once(open_bus("billing"), Seen())
    gate, done, inbox = Gate(), list[int](), Names(prefix, "billing").inbox

    async def publish(shop: NatsBus) -> None:
        await shop.publish(Noted("s-1", 1), correlation_id="s-1")
        done.append(1)

    async with open_bus("shop", uri=own_proxy.uri) as shop, anyio.create_task_group() as tasks:
        await shop.ping()
        own_proxy.before(f"PUB {prefix}.inbox", gate)
        tasks.start_soon(publish, shop)
        await gate.reached()
        assert (await ask(own_port, lambda js: js.stream_info(inbox))).state.messages == 0
        assert done == []
        gate.open()
    assert (await ask(own_port, lambda js: js.stream_info(inbox))).state.messages == 1


async def test_acknowledgement_goes_through_no_other_connection(
    open_bus: OpenNats, own_proxy: Proxy
) -> None:
    """There it would say nothing; and what waits for a connection would hold up others."""
    transport: Any = open_bus("billing", uri=own_proxy.uri)._transport
    await transport.ping()
    assert transport.link.is_open
    own_proxy.cut()
    await become(lambda: not transport.link.is_open)
    with pytest.raises(BusError, match="the connection to NATS was lost"):
        await transport._portal.call(transport.link.say, "somewhere")
    assert not transport.link.is_open
    await transport.aclose()


# Owning


async def test_lanes_that_the_server_refuses_are_told(
    open_bus: OpenNats, own_port: int, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = Names(prefix, "billing")
    limited = {
        "name": names.inbox,
        "subjects": [names.inbox_subjects],
        "retention": "workqueue",
        "max_consumers": 3,
    }
    request(own_port, f"$JS.API.STREAM.CREATE.{names.inbox}", limited)
    billing = open_bus("billing")
    billing.subscribe(Noted, Seen().add)
    async with billing:
        await become(lambda: is_down(billing))
    assert "cannot own messages: maximum consumers limit reached" in caplog.text


async def test_lane_whose_owner_another_process_has_just_removed_is_taken(
    open_bus: OpenNats,
    own_proxy: Proxy,
    own_port: int,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    names, seen = Names(prefix, "billing"), Seen()
    await subscribe_once(open_bus("billing"), seen)
    for lane in range(LANES):
        config = {
            "name": f"lane-{lane}-dead",
            "description": "me",
            "ack_policy": "explicit",
            "filter_subject": names.lane_subjects(lane),
        }
        subject = f"$JS.API.CONSUMER.CREATE.{names.inbox}.lane-{lane}-dead"
        subject = f"{subject}.{names.lane_subjects(lane)}"
        request(own_port, subject, {"stream_name": names.inbox, "config": config})
    delete = f"$JS.API.CONSUMER.DELETE.{names.inbox}.lane-0-dead"
    own_proxy.before(f"\\{delete} ", partial(request, own_port, delete))
    billing = open_bus("billing", uri=own_proxy.uri, owner="me", lease_duration=HOUR)
    billing.subscribe(Noted, seen.add)
    async with billing:
        for number in range(30):
            await billing.publish(Noted(f"s-{number}", number), correlation_id=f"s-{number}")
        await seen.wait_for(30)
    assert "the bus is down" not in caplog.text


async def test_lane_that_another_process_was_faster_to_own_is_left_to_it(
    open_bus: OpenNats,
    own_proxy: Proxy,
    own_port: int,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = Names(prefix, "billing")
    await subscribe_once(open_bus("billing"), Seen())
    theirs = f"$JS.API.CONSUMER.CREATE.{names.inbox}.lane-0-dead.{names.lane_subjects(0)}"
    config = {
        "name": "lane-0-dead",
        "description": "another",
        "ack_policy": "explicit",
        "filter_subject": names.lane_subjects(0),
    }
    body = {"stream_name": names.inbox, "config": config}
    own_proxy.before("CONSUMER.CREATE.*lane-0-", partial(request, own_port, theirs, body))
    billing = open_bus("billing", uri=own_proxy.uri, lease_duration=HOUR)
    seen = Seen()
    billing.subscribe(Noted, seen.add)
    async with billing:
        for number in range(30):
            await billing.publish(Noted(f"s-{number}", number), correlation_id=f"s-{number}")
        mine = [number for number in range(30) if lane_of(f"s-{number}") != 0]
        await seen.wait_for(len(mine))
    assert sorted(one.number for one in seen.items) == mine
    assert "is given up" not in caplog.text


async def test_lane_that_is_lost_before_its_work_begins_is_owned_again(
    open_bus: OpenNats, own_proxy: Proxy, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen, gate = Seen(), Gate()
    await subscribe_once(open_bus("billing"), seen)
    own_proxy.before(f'"\\$KV.{prefix}.failing', gate)
    billing = open_bus("billing", uri=own_proxy.uri, lease_duration=SHORT)
    billing.subscribe(Noted, seen.add)
    async with billing, open_bus("shop") as shop:
        await shop.publish(Noted("s-1", 1), correlation_id="s-1")
        await gate.reached()
        await become(lambda: "the server was not heard of" in caplog.text)
        gate.open()
        await become(lambda: seen.items)


# Taking


async def test_more_than_is_asked_for_at_once_comes_without_waiting(open_bus: OpenNats) -> None:
    seen = Seen()

    async def take(message: Noted) -> None:
        if message.number == 0:
            await anyio.sleep(0.1)  # all others have come meanwhile
        seen.add(message)

    await subscribe_once(open_bus("billing"), seen)
    async with open_bus("shop") as shop:
        for number in range(101):
            await shop.publish(Noted("s-1", number), correlation_id="s-1")
    billing = open_bus("billing", lease_duration=HOUR)
    billing.subscribe(Noted, take)
    async with billing:
        with anyio.fail_after(10):
            await seen.wait_for(101)
    assert [one.number for one in seen.items] == list(range(101))


async def test_process_that_is_drained_asks_for_no_more(
    open_bus: OpenNats, own_proxy: Proxy, own_port: int, prefix: str
) -> None:
    begun, end, arriving, asked = Seen(), anyio.Event(), Gate(), list[int]()
    inbox = Names(prefix, "billing").inbox

    async def take(message: Noted) -> None:
        begun.add(message)
        await end.wait()

    billing = open_bus("billing", uri=own_proxy.uri, lease_duration=HOUR, shutdown_timeout=HOUR)
    billing.subscribe(Noted, take)
    async with billing, open_bus("shop") as shop:
        await shop.publish(Noted("s-1", 0), correlation_id="s-1")
        await begun.wait_for(1)
        own_proxy.before(f"MSG {prefix}.inbox.billing", arriving)
        for number in range(1, 120):
            await shop.publish(Noted("s-1", number), correlation_id="s-1")
        await arriving.reached()
        own_proxy.before("MSG.NEXT", partial(asked.append, 1), times=1000)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(billing.drain)
            with anyio.fail_after(10):  # all other lanes are let go of: this one is ending as well
                while len(await ask(own_port, lambda js: js.consumers_info(inbox))) > 1:
                    await anyio.sleep(0.01)
            arriving.open()
            for _ in range(3):  # what the server has sent before is there when it has answered
                await billing.ping()
            end.set()
    assert asked == []
    assert [one.number for one in begun.items] == [0]


# Failing


async def test_message_is_tried_again_after_the_time_that_the_verdict_says(
    open_bus: OpenNats,
) -> None:
    transport, seen, pause = open_bus("billing")._transport, Seen(), timedelta(seconds=0.3)
    await transport.subscribe({"Noted"})
    async with open_bus("shop") as shop:
        await shop.publish(Noted("s-1", 1), correlation_id="s-1")
    stopping = anyio.Event()

    async def handle(delivery: Delivery) -> Verdict:
        seen.add(anyio.current_time())
        if len(seen.items) == 1:
            return RetryLater(pause, "not yet")
        stopping.set()
        return ACCEPTED

    await transport.consume(handle, concurrency=1, stopping=stopping)
    first, second = seen.items
    assert second - first >= pause.total_seconds()
    await transport.aclose()


async def test_attempt_whose_note_is_cut_off_is_repeated(
    open_bus: OpenNats, own_proxy: Proxy, prefix: str
) -> None:
    attempts = Seen()

    def take(message: Noted) -> None:
        attempts.add(message)
        if len(attempts.items) < 3:
            raise ValueError("not yet")

    own_proxy.before(f"PUB \\$KV.{prefix}.failing.billing", own_proxy.cut)
    billing = open_bus("billing", uri=own_proxy.uri)
    billing.subscribe(Noted, take)
    async with billing, open_bus("shop") as shop:
        await shop.publish(Noted("s-1", 1), correlation_id="s-1")
        await attempts.wait_for(3)
        await become(lambda: not is_down(billing))
        await attempts.stays_at(3)


async def test_attempt_that_cannot_be_noted_is_followed_by_others(
    open_bus: OpenNats, own_port: int, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sagaflow")
    attempts = Seen()

    def take(message: Noted) -> None:
        attempts.add(message)
        if len(attempts.items) < 3:
            raise ValueError("not yet")

    billing = open_bus("billing")
    billing.subscribe(Noted, take)
    async with billing:
        await billing.announce()
        await limit_size(own_port, Names(prefix, "billing").registry, 10)
        await billing.publish(Noted("s-1", 1), correlation_id="s-1")
        await attempts.stays_at(3)
        assert not is_down(billing)
    assert "cannot note a failed attempt: message size exceeds" in caplog.text
    assert "the bus is down" not in caplog.text


async def test_dead_letter_whose_storing_is_cut_off_is_stored_once(
    open_bus: OpenNats, own_proxy: Proxy, prefix: str
) -> None:
    own_proxy.before(f"PUB {prefix}.dead.billing", own_proxy.cut)
    billing = open_bus("billing", uri=own_proxy.uri, retry=AT_ONCE)
    billing.subscribe(Remarked, failing)
    async with billing, open_bus("shop") as shop:
        await shop.publish(Remarked("s-1", 1), correlation_id="s-1")
        found = list[DeadLetter]()
        with anyio.fail_after(20):
            while not found:
                await anyio.sleep(0.02)
                operator = open_bus("billing")
                found = await letters_of(operator)
                await operator._transport.aclose()
    assert [one.name for one in found] == ["Remarked"]


async def test_message_whose_acknowledgement_is_cut_off_is_one_dead_letter(
    open_bus: OpenNats, own_proxy: Proxy, own_port: int, prefix: str
) -> None:
    """It is acknowledged anew, or comes anew, whichever is first."""
    stored, cut, inbox = list[int](), threading.Event(), Names(prefix, "billing").inbox

    def cut_off() -> None:
        own_proxy.cut()
        cut.set()

    def store() -> None:
        stored.append(1)
        if len(stored) == 1:  # what is acknowledged before that is a failed attempt
            own_proxy.before(f"PUB \\$JS.ACK.{inbox}", cut_off)

    def left() -> int:
        """Return how many messages wait in the inbox."""
        told = request(own_port, f"$JS.API.STREAM.INFO.{inbox}", {})
        number: int = told["state"]["messages"]
        return number

    own_proxy.before(f"PUB {prefix}.dead.billing", store, times=99)
    billing = open_bus("billing", uri=own_proxy.uri, retry=AT_ONCE)
    billing.subscribe(Remarked, failing)
    async with billing, open_bus("shop") as shop:
        await shop.publish(Remarked("s-1", 1), correlation_id="s-1")
        await become(cut.is_set)
        with anyio.fail_after(30):
            while await to_thread.run_sync(left):
                await anyio.sleep(0.05)
    async with open_bus("billing") as operator:
        assert len(await letters_of(operator)) == 1


async def test_letter_whose_removal_is_cut_off_is_handled_again_once(
    open_bus: OpenNats, own_proxy: Proxy, prefix: str
) -> None:
    seen, found = Seen(), list[DeadLetter]()

    def take(message: Remarked) -> None:
        if not found:
            raise ValueError("not yet")
        seen.add(message)

    billing = open_bus("billing", retry=AT_ONCE)
    billing.subscribe(Remarked, take)
    operator = open_bus("billing", uri=own_proxy.uri)
    async with billing:
        await billing.publish(Remarked("s-1", 1), correlation_id="s-1")
        with anyio.fail_after(10):
            while not found:
                found += await letters_of(operator)
        own_proxy.before(f"STREAM.MSG.DELETE.{Names(prefix, '').dead}", own_proxy.cut)
        with pytest.raises(BusError, match="cannot remove a dead letter"):
            await operator.retry_dead_letter(found[0].id)
        assert await operator.retry_dead_letter(found[0].id)
        await seen.stays_at(1)
        assert await letters_of(operator) == []
    await operator._transport.aclose()


async def test_letter_that_another_has_just_dropped_is_not_there(
    open_bus: OpenNats, own_proxy: Proxy, own_port: int, prefix: str
) -> None:
    names = Names(prefix, "billing")
    billing = open_bus("billing", uri=own_proxy.uri, retry=AT_ONCE)
    billing.subscribe(Remarked, failing)
    async with billing:
        await billing.publish(Remarked("s-1", 1), correlation_id="s-1")
        found = list[DeadLetter]()
        with anyio.fail_after(10):
            while not found:
                found = await letters_of(billing)
        delete = f"$JS.API.STREAM.MSG.DELETE.{names.dead}"
        own_proxy.before(f"\\{delete} ", partial(request, own_port, delete, {"seq": 1}))
        assert not await billing.drop_dead_letter(found[0].id)


# Closing


async def test_process_that_closes_does_not_wait_for_a_letter_that_is_refused(
    open_bus: OpenNats, own_port: int, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    dead = Names(prefix, "billing").dead

    def process() -> NatsBus:
        bus = open_bus("billing", retry=AT_ONCE, lease_duration=HOUR, shutdown_timeout=HOUR)
        bus.subscribe(Remarked, failing)
        return bus

    with anyio.fail_after(20):
        async with process() as first:
            await first.announce()
            await limit_size(own_port, dead, 10)
            await first.publish(Remarked("s-1", 1), correlation_id="s-1")
            await become(lambda: "cannot store the dead letter" in caplog.text)
        await limit_size(own_port, dead, -1)
        async with process() as second:
            while not await letters_of(second):
                await anyio.sleep(0.02)


async def test_process_whose_lane_is_taken_while_it_closes_closes_in_order(
    open_bus: OpenNats,
    own_proxy: Proxy,
    own_port: int,
    prefix: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nobody confirms the last acknowledgement of a consumer that is gone."""
    caplog.set_level(logging.INFO, "sagaflow")
    seen, inbox = Seen(), Names(prefix, "billing").inbox

    def take_lane() -> None:
        names = request(own_port, f"$JS.API.CONSUMER.NAMES.{inbox}")["consumers"]
        (mine,) = (one for one in names if one.startswith(f"lane-{lane_of('s-1')}-"))
        request(own_port, f"$JS.API.CONSUMER.DELETE.{inbox}.{mine}")

    billing = open_bus("billing", uri=own_proxy.uri)
    billing.subscribe(Noted, seen.add)
    with anyio.fail_after(20):
        async with billing, open_bus("shop") as shop:
            await shop.publish(Noted("s-1", 1), correlation_id="s-1")
            await seen.wait_for(1)
            own_proxy.before(f"PUB \\$JS.ACK.{inbox}\\S+ _INBOX", take_lane)
    assert "cannot acknowledge messages: nats: no responders" in caplog.text
    assert "the bus is down" not in caplog.text


async def test_process_closes_in_time_though_the_server_is_silent(
    open_bus: OpenNats, own_proxy: Proxy
) -> None:
    billing = open_bus(
        "billing",
        uri=own_proxy.uri,
        operation_timeout=timedelta(milliseconds=300),
        shutdown_timeout=HOUR,
    )
    seen = Seen()
    billing.subscribe(Noted, seen.add)
    async with billing, open_bus("shop") as shop:
        await shop.publish(Noted("s-1", 1), correlation_id="s-1")
        await seen.wait_for(1)
        with own_proxy.silent(), anyio.fail_after(10):
            await billing.drain()
