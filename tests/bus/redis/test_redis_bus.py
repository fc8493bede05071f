"""What the bus over Redis does beyond the contract."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from sagaflow.bus import Undeliverable
from sagaflow.exceptions import BusError
from sagaflow.redis import RedisBus
from sagaflow.redis.client import Client
from sagaflow.redis.scripts import Script
from sagaflow.testing._bus_contract.kit import (
    MESSAGES,
    PATIENT,
    QUICK,
    Noted,
    Remarked,
    Seen,
)
from tests.bus.redis.servers import RedisServer, Way, free_port, running

session: Any = import_module("sagaflow.redis.session")  # tests and mistakes replace its scripts
pytestmark = pytest.mark.anyio
HOUR = timedelta(hours=1)


class Opened:
    """Makes buses on a server, with a prefix of their own."""

    def __init__(self, url: str, prefix: str) -> None:
        self.url, self.prefix = url, prefix

    def __call__(self, service: str = "billing", **settings: Any) -> RedisBus:
        given: dict[str, Any] = {"messages": MESSAGES, "retry": PATIENT, "prefix": self.prefix}
        return RedisBus(self.url, service=service, **{**given, **settings})

    def key(self, name: str, service: str = "billing") -> str:
        return f"{self.prefix}:service:{service}:{name}"


@pytest.fixture
def opened(redis_server: RedisServer, prefix: str) -> Opened:
    return Opened(redis_server.uri, prefix)


async def subscribed(opened: Opened, *services: str) -> None:
    """Have messages kept for services from now on."""
    for service in services or ("billing",):
        bus = opened(service)
        bus.subscribe(Noted, print)
        async with bus:
            pass


async def noted(bus: RedisBus, *numbers: int, saga: str = "s-1") -> None:
    for number in numbers:
        await bus.publish(Noted(saga, number), correlation_id=saga, message_id=f"{saga}-{number}")


async def test_message_that_is_published_twice_is_handled_once(opened: Opened) -> None:
    """Its answer was lost, and it was handled meanwhile or not."""
    seen = Seen()
    billing = opened()
    billing.subscribe(Noted, seen.add)
    async with billing:
        await noted(billing, 1, 1, 2)
        await seen.wait_for(2)
        await noted(billing, 2, 3)
        await seen.stays_at(3)
    assert [found.number for found in seen.items] == [1, 2, 3]


async def test_messages_of_different_classes_may_have_one_id(opened: Opened) -> None:
    seen = Seen()
    billing = opened()
    billing.subscribe(Noted, seen.add)
    billing.subscribe(Remarked, seen.add)
    async with billing:
        for message in (Noted("s-1", 1), Remarked("s-1", 1)):
            await billing.publish(message, correlation_id="s-1", message_id="m-1")
        await seen.wait_for(2)


async def test_published_id_is_remembered_for_a_while_only(
    opened: Opened, redis_client: Any
) -> None:
    async with opened("shop") as shop:
        await subscribed(opened)
        await noted(shop, 1)
    (mark,) = redis_client.keys(f"{opened.prefix}:published:*")
    assert 0 < redis_client.pttl(mark) <= 300_000


async def test_nothing_is_left_of_what_was_handled(opened: Opened, redis_client: Any) -> None:
    """Neither in the stream nor beside it, whatever became of it."""
    done = Seen()

    async def take(message: Noted) -> Undeliverable | None:
        done.add(message)
        if len(done.items) == 2:
            raise RuntimeError("once")
        return Undeliverable("unhandled") if message.number == 3 else None

    billing = opened()
    billing.subscribe(Noted, take)
    async with billing:
        for saga in ("s-1", "s-2"):
            await noted(billing, 1, 2, 3, saga=saga)
        await billing.publish(Noted("none", 1))
        await done.wait_for(8)
    assert redis_client.xlen(opened.key("stream")) == 0
    assert redis_client.xpending(opened.key("stream"), "billing")["pending"] == 0
    assert redis_client.xlen(opened.key("dead")) == 2
    left = set(redis_client.keys(opened.key("*")))
    assert left == {opened.key(name) for name in ("stream", "dead", "last")}


async def test_entry_can_be_read_by_a_person(opened: Opened, redis_client: Any) -> None:
    await subscribed(opened)
    async with opened("shop") as shop:
        await shop.publish(Noted("s-1", 1, Decimal("9.90")), correlation_id="s-1", message_id="m-1")
    ((_, fields),) = redis_client.xrange(opened.key("stream"))
    assert fields == {
        "specversion": "1.0",
        "type": "Noted",
        "source": "/shop",
        "id": "m-1",
        "correlationid": "s-1",
        "subject": "s-1",
        "datacontenttype": "application/json",
        "partitionkey": "s-1",
        "data": '{"saga":"s-1","number":1,"amount":"9.90"}',
    }


async def test_message_is_held_for_as_long_as_it_takes(opened: Opened) -> None:
    """Longer than a lease lasts: no other process takes it meanwhile."""
    seen = Seen()

    async def take(message: Noted) -> None:
        seen.add(message)
        await anyio.sleep(1.0)  # several leases

    both = [opened(lease_duration=timedelta(milliseconds=300)) for _ in range(2)]
    for bus in both:
        bus.subscribe(Noted, take)
    async with both[0], both[1]:
        await noted(both[0], 1)
        await seen.stays_at(1)
        await anyio.sleep(0.5)
        assert len(seen.items) == 1


async def test_message_of_a_dead_process_is_handed_out_when_its_lease_ends(
    opened: Opened,
) -> None:
    await subscribed(opened)
    await abandon(opened, owner="dead", lease=timedelta(milliseconds=300))
    seen = Seen()
    other = opened()
    other.subscribe(Noted, seen.add)
    async with other:
        await seen.wait_for(2)
    assert [found.number for found in seen.items] == [1, 2]


async def test_process_that_is_started_again_goes_on_at_once(opened: Opened) -> None:
    """By its owner's name; the lease of the one that was killed has not ended."""
    await subscribed(opened)
    await abandon(opened, owner="billing-1", lease=HOUR)
    seen = Seen()
    other = opened(owner="billing")
    other.subscribe(Noted, seen.add)
    async with other:
        await seen.stays_at(0)
    again = opened(owner="billing-1")
    again.subscribe(Noted, seen.add)
    async with again:
        await seen.wait_for(2)


async def abandon(opened: Opened, *, owner: str, lease: timedelta) -> None:
    """Publish two messages, and have a process take them that then does nothing more."""
    async with opened("shop") as shop:
        await noted(shop, 1, 2)
    client = Client(opened.url, timeout=timedelta(seconds=5))
    taken = anyio.Event()

    async def run(what: str, script: Script, *arguments: Any) -> Any:
        if taken.is_set():
            raise BusError("the process is dead")
        answer = await Client.run(client, what, script, *arguments)
        if script is session.TURN and answer[4]:
            taken.set()
        return answer

    bus = opened(owner=owner, lease_duration=lease)
    dying: Any = bus
    dying._transport.client.run = run
    bus.subscribe(Noted, hang)
    try:
        with anyio.CancelScope() as scope:
            async with bus:
                await taken.wait()
                scope.cancel()
                await anyio.lowlevel.checkpoint()
    finally:
        with anyio.CancelScope(shield=True):
            await client.aclose()


async def hang(message: Noted) -> None:
    await anyio.sleep_forever()


async def test_process_that_has_lost_its_session_stops_and_changes_nothing(
    opened: Opened, redis_client: Any
) -> None:
    """Another one holds its messages now."""
    begun, broken_off = anyio.Event(), anyio.Event()

    async def take(message: Noted) -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            broken_off.set()

    slow = opened(lease_duration=timedelta(milliseconds=600))
    slow.subscribe(Noted, take)
    async with slow:
        await noted(slow, 1)
        await begun.wait()
        redis_client.zadd(opened.key("sessions"), {"another/": 2**52})
        (held,) = redis_client.keys(opened.key("held:*"))
        redis_client.rename(held, opened.key("held:another/"))
        redis_client.zrem(opened.key("sessions"), held.partition(":held:")[2])
        await broken_off.wait()
    assert redis_client.smembers(opened.key("held:another/")) == {"key:s-1"}
    assert redis_client.xlen(opened.key("stream")) == 1


async def test_server_that_says_nothing_ends_handling_when_the_lease_ends(
    prefix: str, redis_way: Way
) -> None:
    """Others might have the message by then."""
    opened = Opened(f"redis://127.0.0.1:{redis_way.port}", prefix)
    begun, broken_off = anyio.Event(), anyio.Event()

    async def take(message: Noted) -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            broken_off.set()

    billing = opened(
        lease_duration=timedelta(milliseconds=400),
        operation_timeout=timedelta(seconds=2),
        shutdown_timeout=timedelta(milliseconds=100),
    )
    billing.subscribe(Noted, take)
    async with billing:
        await noted(billing, 1)
        await begun.wait()
        with redis_way.silenced():
            with anyio.fail_after(1.5):
                await broken_off.wait()


async def test_messages_whose_answer_was_lost_are_handed_out_again(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and not when a lease ends: the session goes on."""
    seen, lost, begun, may_end = Seen(), Seen(), anyio.Event(), anyio.Event()
    run = Client.run

    async def lose(self: Client, what: str, script: Script, *arguments: Any) -> Any:
        answer = await run(self, what, script, *arguments)
        if script is session.TURN and answer[4] and begun.is_set() and len(lost.items) < 2:
            lost.add(answer[4])
            raise BusError("the answer was lost")
        return answer

    async def take(message: Noted) -> None:
        if message.saga == "slow":
            begun.set()
            await may_end.wait()
        else:
            seen.add(message)

    monkeypatch.setattr(Client, "run", lose)
    billing = opened(lease_duration=HOUR)
    billing.subscribe(Noted, take)
    async with billing, opened("shop") as shop:
        await noted(shop, 1, saga="slow")
        await begun.wait()
        await noted(shop, 1, 2, 3)
        await noted(shop, 1, saga="s-2")
        await seen.stays_at(4)
        may_end.set()
    assert [found.number for found in seen.items if found.saga == "s-1"] == [1, 2, 3]
    assert len(lost.items) == 2


async def test_outcome_whose_answer_was_lost_is_told_again(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, redis_client: Any
) -> None:
    """It was written, and the next message of the saga was handed out with the lost answer."""
    seen = Seen()
    run = Client.run
    lost = list[Any]()

    async def lose(self: Client, what: str, script: Script, *arguments: Any) -> Any:
        answer = await run(self, what, script, *arguments)
        if (
            script is session.TURN
            and b"accept" in [str(one).encode() for one in arguments]
            and not lost
        ):
            lost.append(answer[4])
            raise BusError("the answer was lost")
        return answer

    monkeypatch.setattr(Client, "run", lose)
    await subscribed(opened)
    async with opened("shop") as shop:
        await noted(shop, 1, 2)
    billing = opened(lease_duration=HOUR)
    billing.subscribe(Noted, seen.add)
    async with billing:
        await seen.stays_at(2)
    assert [found.number for found in seen.items] == [1, 2]
    assert len(lost) == 1
    assert lost[0][0][1] != b"", "the second message was handed out with the answer"
    assert redis_client.xlen(opened.key("stream")) == 0


async def test_outcome_that_is_told_again_does_not_disturb_who_has_the_message_now(
    opened: Opened, redis_client: Any
) -> None:
    """It was to be retried, which was written; the answer was lost, and another has taken it."""
    await subscribed(opened)
    async with opened("shop") as shop:
        await noted(shop, 1)
    client = Client(opened.url, timeout=timedelta(seconds=5))
    try:
        await _tell_again(opened, client, redis_client)
    finally:
        await client.aclose()


async def _tell_again(opened: Opened, client: Client, redis_client: Any) -> None:
    base, lease = opened.key(""), 3_600_000

    async def turn(name: str, room: int, *outcome: Any) -> list[Any]:
        words = (base, "billing", f"{name}/{'0' * 32}", lease, room, 0, -1, *outcome)
        answer = await client.run("take", session.TURN, *words)
        taken: list[Any] = answer[4]
        return taken

    for name in ("first", "second", "third"):
        await client.run("open", session.OPEN, base, f"{name}/{'0' * 32}", name, lease)
    ((lane, entry, _, _),) = await turn("first", 1)
    retry = ("retry", lane, entry, 1, 1, 1_700_000_000_000, "")
    assert await turn("first", 0, *retry) == []
    while not (taken := await turn("second", 1)):
        await anyio.sleep(0.001)
    assert taken[0][3] == b"1 1700000000000"
    assert await turn("first", 0, *retry) == []
    await anyio.sleep(0.01)
    assert await turn("third", 1) == [], "the second has it"
    assert await turn("first", 0, "accept", lane, entry, "", "", "", "") == []
    assert redis_client.xlen(opened.key("stream")) == 1
    assert await turn("second", 0, "accept", lane, entry, "", "", "", "") == []
    assert redis_client.xlen(opened.key("stream")) == 0


async def test_publication_that_was_refused_half_way_can_be_tried_again(
    opened: Opened, redis_client: Any
) -> None:
    """The services that lack the message get it then."""
    await subscribed(opened, "audit", "billing")
    for service in ("audit", "billing"):
        redis_client.rename(opened.key("stream", service), f"{opened.prefix}:aside")
        redis_client.set(opened.key("stream", service), "of another kind")
        async with opened("shop") as shop:
            with pytest.raises(BusError, match="WRONGTYPE"):
                await noted(shop, 1)
            redis_client.rename(f"{opened.prefix}:aside", opened.key("stream", service))
            await noted(shop, 1)
        assert redis_client.xlen(opened.key("stream", service)) >= 1
        redis_client.delete(*redis_client.keys(f"{opened.prefix}:published:*"))
        for one in ("audit", "billing"):
            redis_client.xtrim(opened.key("stream", one), maxlen=0)


async def test_handler_goes_on_while_the_server_is_started_again(
    tmp_path: Path, prefix: str
) -> None:
    """What it has done is told afterwards, and it is not called again."""
    begun, may_end, seen = Seen(), anyio.Event(), Seen()

    async def take(message: Noted) -> None:
        begun.add(message)
        await may_end.wait()
        seen.add(message)

    with running(tmp_path / "redis") as server:
        opened = Opened(server.uri, prefix)
        billing = opened(lease_duration=timedelta(seconds=30))
        billing.subscribe(Noted, take)
        async with billing:
            await noted(billing, 1)
            await begun.wait_for(1)
            server.kill()
            with pytest.raises(BusError, match="cannot publish Noted"):
                await noted(billing, 2)
            may_end.set()
            await seen.wait_for(1)
            server.start()
            while True:
                try:
                    await noted(billing, 2)
                except BusError:
                    await anyio.sleep(0.05)
                else:
                    break
            await seen.stays_at(2)
    assert [found.number for found in begun.items] == [1, 2]


async def test_count_of_failures_outlives_the_process(opened: Opened) -> None:
    """So that a service which is deployed again and again gives up in the end."""
    failed = Seen()

    async def take(message: Noted) -> None:
        failed.add(message)
        raise RuntimeError("not now")

    before, after = opened(), opened(retry=QUICK)
    before.subscribe(Noted, take)
    after.subscribe(Noted, take)
    async with before:
        await noted(before, 1)
        await failed.wait_for(3)
        await anyio.sleep(QUICK.max_age.total_seconds())
    tries = len(failed.items)
    async with after:
        await failed.wait_for(tries + 1)
        while not (letters := [letter async for letter in after.dead_letters()]):
            assert len(failed.items) == tries + 1, "it was tried once more"
            await anyio.sleep(0.01)
    assert letters[0].attempts == tries + 1
    assert len(failed.items) == tries + 1


async def test_group_that_was_removed_is_made_again(opened: Opened, redis_client: Any) -> None:
    """From the beginning: nothing is lost, and nothing doubled of what was read before."""
    seen, begun, may_end = Seen(), anyio.Event(), anyio.Event()

    async def take(message: Noted) -> None:
        begun.set()
        if message.number == 1:
            await may_end.wait()
        seen.add(message)

    await subscribed(opened)
    async with opened("shop") as shop:
        await noted(shop, 1, 2, 3)
    billing = opened(concurrency=2)
    billing.subscribe(Noted, take)
    async with billing, opened("shop") as shop:
        await begun.wait()
        while redis_client.llen(opened.key("lane:key:s-1")) < 3:
            await anyio.sleep(0.01)
        redis_client.xgroup_destroy(opened.key("stream"), "billing")
        await noted(shop, 4)
        await noted(shop, 9, saga="s-2")
        await seen.wait_for(1)
        may_end.set()
        await seen.stays_at(5)
    assert [found.number for found in seen.items] == [9, 1, 2, 3, 4]
    assert redis_client.xlen(opened.key("stream")) == 0


async def test_stream_that_was_removed_is_made_again(
    opened: Opened, redis_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """What was in it is lost, which is said; messages that come later are handled."""
    seen, begun, may_end = Seen(), anyio.Event(), anyio.Event()

    async def take(message: Noted) -> None:
        begun.set()
        if message.number == 1:
            await may_end.wait()
        seen.add(message)

    await subscribed(opened)
    async with opened("shop") as shop:
        await noted(shop, 1, 2)
    billing = opened()
    billing.subscribe(Noted, take)
    async with billing, opened("shop") as shop:
        await begun.wait()
        while redis_client.llen(opened.key("lane:key:s-1")) < 2:
            await anyio.sleep(0.01)
        redis_client.delete(opened.key("stream"))
        may_end.set()
        await noted(shop, 3)
        await noted(shop, 4, saga="s-2")
        await seen.stays_at(3)
    assert {found.number for found in seen.items} == {1, 3, 4}
    assert "is no longer in the stream, and is passed over" in caplog.text


async def test_entry_that_was_removed_is_passed_over(
    opened: Opened, redis_client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Which is said; those behind it are handled."""
    seen, begun, may_end = Seen(), anyio.Event(), anyio.Event()

    async def take(message: Noted) -> None:
        begun.set()
        await may_end.wait()
        seen.add(message)

    await subscribed(opened)
    async with opened("shop") as shop:
        await noted(shop, 1, 2, 3)
    billing = opened()
    billing.subscribe(Noted, take)
    async with billing:
        await begun.wait()
        while redis_client.llen(opened.key("lane:key:s-1")) < 3:
            await anyio.sleep(0.01)
        entry = redis_client.xrange(opened.key("stream"))[1][0]
        redis_client.xdel(opened.key("stream"), entry)
        may_end.set()
        await seen.stays_at(2)
    assert [found.number for found in seen.items] == [1, 3]
    assert f"the message {entry} is no longer in the stream, and is passed over" in caplog.text


async def test_server_without_memory_refuses_messages_and_lets_go_of_them(
    opened: Opened, redis_client: Any
) -> None:
    seen, begun, may_end = Seen(), anyio.Event(), anyio.Event()

    async def take(message: Noted) -> None:
        begun.set()
        await may_end.wait()
        seen.add(message)

    billing = opened(lease_duration=timedelta(milliseconds=300))
    billing.subscribe(Noted, take)
    async with billing:
        await noted(billing, 1, 2)
        await begun.wait()
        redis_client.config_set("maxmemory", "1")
        try:
            with pytest.raises(BusError, match=r"cannot publish Noted 's-1-3': .* 'maxmemory'"):
                await noted(billing, 3)
            may_end.set()
            await seen.wait_for(2)
            while redis_client.xlen(opened.key("stream")):
                await anyio.sleep(0.01)
        finally:
            redis_client.config_set("maxmemory", "0")
        await noted(billing, 3)
        await seen.stays_at(3)


@pytest.mark.parametrize(
    "fields",
    [
        {"hello": "world"},
        {"specversion": "1.0", "id": "m", "source": "x", "type": b"\xff", "data": "{}"},
        {"specversion": "1.0", "type": "Noted", "source": "x", "id": "m", "data": b"\xff\x00"},
        {f"field-{number}": "x" for number in range(5_000)},
        {"partitionkey": b"\xff", "dead_since": "9" * 30, "dead_attempts": "many"},
    ],
    ids=["other", "type", "body", "many", "hostile"],
)
async def test_entry_of_a_stranger_is_a_dead_letter(
    opened: Opened, redis_client: Any, fields: dict[Any, Any]
) -> None:
    """Those behind it are handled."""
    seen = Seen()
    billing = opened()
    billing.subscribe(Noted, seen.add)
    async with billing:
        redis_client.xadd(opened.key("stream"), fields)
        await noted(billing, 1)
        await seen.wait_for(1)
        while not (letters := [letter async for letter in billing.dead_letters()]):
            await anyio.sleep(0.01)
        assert letters[0].reason in {"not_cloudevents", "unknown_type", "not_json", "too_large"}
        assert await billing.drop_dead_letter(letters[0].id)


async def test_all_dead_letters_are_listed(opened: Opened, redis_client: Any) -> None:
    """More than are read at once; one that was damaged, too."""
    await subscribed(opened)
    for number in range(250):
        redis_client.xadd(opened.key("dead"), {"type": "Noted", "dead_attempts": number})
    async with opened() as billing:
        letters = [letter async for letter in billing.dead_letters()]
        assert [letter.attempts for letter in letters] == list(range(250))
        assert letters[0].name == "Noted"
        for odd in ("+", "-", "0", "1-1 ", "", "9" * 40):
            assert await billing.find_dead_letter(odd) is None
            assert not await billing.retry_dead_letter(odd)
            assert not await billing.drop_dead_letter(odd)


@pytest.fixture
def careless_server(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path / "redis", ("--maxmemory-policy", "allkeys-lru")) as server:
        yield server


async def test_settings_that_lose_messages_are_warned_of_once(
    careless_server: RedisServer, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    opened = Opened(careless_server.uri, prefix)
    billing = opened()
    billing.subscribe(Noted, print)
    async with billing:
        await billing.ping()
        await noted(billing, 1, 2)
    (warning,) = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert warning.getMessage() == (
        "billing: Redis may lose messages: it does not write them to disk at once (set appendonly "
        "yes and appendfsync always); with maxmemory-policy allkeys-lru when its memory is full "
        "(set maxmemory-policy noeviction)"
    )


async def test_safe_settings_are_not_warned_of(
    opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened("shop") as shop:
        await noted(shop, 1)
    assert caplog.records == []


async def test_server_that_is_away_is_named_without_secrets() -> None:
    port = free_port()
    bus = RedisBus(f"redis://me:secret@127.0.0.1:{port}/0", service="shop", messages=MESSAGES)
    assert "secret" not in repr(bus)
    async with bus:
        with pytest.raises(BusError) as caught:
            await noted(bus, 1)
    said = str(caught.value)
    assert said.startswith(f"cannot ask for the settings: Redis at 127.0.0.1:{port}: ")
    assert "\n" not in said
    assert "secret" not in said


async def test_wrong_password_is_said_without_it(tmp_path: Path) -> None:
    with running(tmp_path / "redis") as server:
        url = f"redis://:wrong-one@127.0.0.1:{server.port}"
        bus = RedisBus(url, service="shop", messages=MESSAGES)
        async with bus:
            with pytest.raises(BusError, match="AUTH") as caught:
                await noted(bus, 1)
    assert "wrong-one" not in str(caught.value)


async def test_bus_without_the_client_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(BusError, match=r"pip install 'sagaflow\[redis\]'"):
        RedisBus("redis://localhost", service="shop", messages=MESSAGES)


async def test_connections_survive_handlers_that_are_cancelled(prefix: str, redis_way: Way) -> None:
    """More often than there are connections."""
    opened = Opened(f"redis://127.0.0.1:{redis_way.port}", prefix)
    async with opened("shop") as shop:
        await shop.ping()
        with redis_way.silenced():
            for _ in range(40):
                with anyio.move_on_after(0.005):
                    await shop.ping()
        await shop.ping()


async def test_bus_that_is_cancelled_while_it_is_entered_leaves_no_connection(
    prefix: str, redis_way: Way
) -> None:
    """What is left open is warned of when it is collected."""
    billing = Opened(f"redis://127.0.0.1:{redis_way.port}", prefix)()
    billing.subscribe(Noted, print)
    async with anyio.create_task_group() as tasks:
        for _ in range(2):  # one connection each, of which the bus then uses one
            tasks.start_soon(billing.ping)
    with redis_way.silenced():
        with anyio.move_on_after(0.1) as scope:
            async with billing:
                pass
    assert scope.cancelled_caught
    del billing
    gc.collect()
