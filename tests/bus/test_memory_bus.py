"""The bus within one process."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from attrs import frozen

from sagaflow import BusError, CorrelationError, Envelope, MemoryBus, NoHandlerError, SagaflowError

pytestmark = pytest.mark.anyio


@frozen
class Ping:
    text: str = ""


@frozen
class LoudPing(Ping):
    """A kind of ping."""


@frozen
class Pong:
    text: str = ""


@frozen
class Done:
    text: str = ""


class PingError(Exception):
    """What handlers of these tests raise."""


COMMAND = {"kind": "command"}


# Subscribing


async def test_handler_may_be_plain_or_asynchronous() -> None:
    bus, seen = MemoryBus(), list[object]()

    async def asynchronous(ping: Ping) -> None:
        await checkpoint()
        seen.append(ping)

    assert bus.subscribe(Ping, seen.append) == seen.append
    assert bus.subscribe(Ping, asynchronous) is asynchronous
    await bus.publish(Ping("a"))
    assert seen == [Ping("a"), Ping("a")]


async def test_subscribe_is_a_decorator_that_returns_the_handler() -> None:
    bus, seen = MemoryBus(), list[object]()

    @bus.subscribe(Ping)
    def plain(ping: Ping) -> None:
        seen.append(ping)

    @bus.subscribe(Ping, envelope=True)
    def enveloped(envelope: Envelope[Ping]) -> None:
        seen.append(envelope.body)

    await bus.publish(Ping("a"))
    assert seen == [Ping("a")] * 2
    plain(Ping("b"))
    enveloped(Envelope(body=Ping("c"), id=1))
    assert seen[2:] == [Ping("b"), Ping("c")]


async def test_envelope_holds_what_the_publisher_said() -> None:
    bus, seen = MemoryBus(), list[Envelope[Ping]]()
    bus.subscribe(Ping, seen.append, envelope=True)
    await bus.publish(
        Ping("a"), correlation_id=7, message_id="m-1", headers={"causation_id": "m-0", "x": [1]}
    )
    (envelope,) = seen
    assert envelope.body == Ping("a")
    assert (envelope.id, envelope.correlation_id, envelope.causation_id) == ("m-1", 7, "m-0")
    assert dict(envelope.headers) == {"causation_id": "m-0", "x": [1]}
    with pytest.raises(TypeError):
        envelope.headers["y"] = 1  # type: ignore[index]


async def test_message_without_id_is_given_one_of_its_own() -> None:
    bus, seen = MemoryBus(), list[Envelope[Ping]]()
    bus.subscribe(Ping, seen.append, envelope=True)
    for _ in range(2):
        await bus.publish(Ping())
    first, second = seen
    assert first.id
    assert first.id != second.id
    assert (first.correlation_id, first.causation_id, dict(first.headers)) == (None, None, {})


async def test_handler_of_a_class_takes_its_subclasses_and_nothing_else() -> None:
    bus, pings, loud = MemoryBus(), list[Ping](), list[LoudPing]()
    bus.subscribe(Ping, pings.append)
    bus.subscribe(LoudPing, loud.append)
    for message in (Ping("a"), LoudPing("b"), Pong("c")):
        await bus.publish(message)
    assert pings == [Ping("a"), LoudPing("b")]
    assert loud == [LoudPing("b")]


async def test_handler_of_a_class_and_of_its_subclass_is_called_once() -> None:
    bus, seen = MemoryBus(), list[object]()
    bus.subscribe(Ping, seen.append)
    bus.subscribe(LoudPing, seen.append)
    await bus.publish(LoudPing())
    assert seen == [LoudPing()]


async def test_handlers_are_called_in_the_order_of_their_subscription() -> None:
    bus, seen = MemoryBus(), list[int]()
    for number in range(5):
        bus.subscribe(Ping, lambda _, number=number: seen.append(number))  # type: ignore[misc]
    await bus.publish(Ping())
    assert seen == list(range(5))


async def test_unsubscribed_handler_is_called_no_more() -> None:
    bus, seen, others = MemoryBus(), list[object](), list[object]()
    bus.subscribe(Ping, seen.append)
    bus.subscribe(Pong, seen.append)
    bus.subscribe(Ping, others.append)
    bus.unsubscribe(seen.append)
    await bus.publish(Ping())
    await bus.publish(Pong())
    assert (seen, others) == ([], [Ping()])
    bus.unsubscribe(print)  # not there: nothing to do


async def test_handler_may_unsubscribe_itself() -> None:
    bus, seen = MemoryBus(), list[object]()

    @bus.subscribe(Ping)
    def once(ping: Ping) -> None:
        bus.unsubscribe(once)
        seen.append(ping)

    bus.subscribe(Ping, seen.append)
    await bus.publish(Ping("a"))
    await bus.publish(Ping("b"))
    assert seen == [Ping("a"), Ping("a"), Ping("b")]


@pytest.mark.parametrize(
    ("message_type", "handler", "says"),
    [
        ("Ping", print, "takes a class of messages first, not 'Ping'"),
        (Ping(), print, r"takes a class of messages first, not Ping\("),
        (Ping, "handler", r"subscribe\(Ping, \.\.\.\) takes a handler, not 'handler'"),
    ],
)
def test_what_cannot_be_subscribed_is_refused(message_type: Any, handler: Any, says: str) -> None:
    with pytest.raises(BusError, match=says):
        MemoryBus().subscribe(message_type, handler)
    with pytest.raises(BusError, match=says):
        MemoryBus().subscribe(message_type)(handler)


@pytest.mark.parametrize("refused", [{"$ne": 1}, "", True, 1.5], ids=repr)
async def test_what_is_no_id_is_refused(refused: Any) -> None:
    bus, seen = MemoryBus(), list[object]()
    bus.subscribe(Ping, seen.append)
    with pytest.raises(CorrelationError, match="cannot be a message id"):
        await bus.publish(Ping(), message_id=refused)
    with pytest.raises(CorrelationError, match="cannot be a correlation id"):
        await bus.publish(Ping(), correlation_id=refused)
    assert seen == []


# Nobody there


async def test_event_that_nobody_takes_is_accepted() -> None:
    await MemoryBus().publish(Ping())
    await MemoryBus().publish(Ping(), headers={"kind": "event"})


async def test_command_that_nobody_takes_is_refused() -> None:
    bus = MemoryBus()
    bus.subscribe(Pong, print)
    with pytest.raises(NoHandlerError, match="nobody handles the command Ping") as caught:
        await bus.publish(Ping(), headers=COMMAND)
    assert caught.value.message_type is Ping
    assert isinstance(caught.value, SagaflowError)


# Order and concurrency


async def test_messages_of_one_id_are_handled_one_after_another_in_order() -> None:
    bus, log = MemoryBus(), list[str]()
    entered, go_on = anyio.Event(), anyio.Event()

    @bus.subscribe(Ping)
    async def handle(ping: Ping) -> None:
        log.append(f"{ping.text} begins")
        if ping.text == "0":
            entered.set()
            await go_on.wait()
        await checkpoint()
        log.append(f"{ping.text} ends")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_publish, bus, Ping("0"), "id")
        await entered.wait()
        for number in range(1, 6):
            tasks.start_soon(_publish, bus, Ping(str(number)), "id")
            await anyio.wait_all_tasks_blocked()
        assert log == ["0 begins"]
        go_on.set()
    assert log == [f"{number} {what}" for number in range(6) for what in ("begins", "ends")]


async def _publish(bus: MemoryBus, message: object, correlation_id: str | int | None) -> None:
    await bus.publish(message, correlation_id=correlation_id)


@pytest.mark.parametrize("ids", [("a", "b"), (7, "7"), (None, None), (None, "a")], ids=repr)
async def test_messages_of_different_ids_are_handled_at_the_same_time(
    ids: tuple[str | int | None, ...],
) -> None:
    """Each waits for the other: one after another would never end."""
    bus, arrived = MemoryBus(), {"0": anyio.Event(), "1": anyio.Event()}

    @bus.subscribe(Ping)
    async def meet(ping: Ping) -> None:
        arrived[ping.text].set()
        await arrived["1" if ping.text == "0" else "0"].wait()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for number, correlation_id in enumerate(ids):
                tasks.start_soon(_publish, bus, Ping(str(number)), correlation_id)


async def test_publisher_is_not_kept_by_the_messages_behind_its_own() -> None:
    """It has the first turn; those that come meanwhile are their publishers' affair."""
    bus, entered = MemoryBus(), {"0": anyio.Event(), "1": anyio.Event()}
    go_on = {"0": anyio.Event(), "1": anyio.Event()}
    returned = anyio.Event()

    @bus.subscribe(Ping)
    async def handle(ping: Ping) -> None:
        entered[ping.text].set()
        await go_on[ping.text].wait()

    async def first() -> None:
        await bus.publish(Ping("0"), correlation_id="id")
        returned.set()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first)
            await entered["0"].wait()
            tasks.start_soon(_publish, bus, Ping("1"), "id")
            await anyio.wait_all_tasks_blocked()
            go_on["0"].set()
            await entered["1"].wait()
            await returned.wait()
            go_on["1"].set()


# Publishing within a handler


async def test_nested_message_of_the_same_id_waits_its_turn_and_the_publisher_for_it() -> None:
    bus, log = MemoryBus(), list[str]()

    @bus.subscribe(Ping)
    async def ping(_: Ping) -> None:
        await bus.publish(Pong())
        log.append("ping ends")

    @bus.subscribe(Pong)
    async def pong(_: Pong) -> None:
        await bus.publish(Done())
        log.append("pong ends")

    bus.subscribe(Done, lambda _: log.append("done"))
    with anyio.fail_after(20):
        await bus.publish(Ping(), correlation_id="id")
    assert log == ["ping ends", "pong ends", "done"]


async def test_nested_message_of_another_id_is_handled_within() -> None:
    bus, log = MemoryBus(), list[str]()

    @bus.subscribe(Ping)
    async def ping(_: Ping) -> None:
        await bus.publish(Pong(), correlation_id="other")
        log.append("ping ends")

    bus.subscribe(Pong, lambda _: log.append("pong"))
    await bus.publish(Ping(), correlation_id="id")
    assert log == ["pong", "ping ends"]


async def test_handlers_of_two_ids_that_publish_to_each_other_do_not_block() -> None:
    bus, log = MemoryBus(), list[str]()
    entered = {"a": anyio.Event(), "b": anyio.Event()}
    other = {"a": "b", "b": "a"}

    @bus.subscribe(Ping)
    async def ping(message: Ping) -> None:
        entered[message.text].set()
        await entered[other[message.text]].wait()  # both are in the middle now
        await bus.publish(Pong(message.text), correlation_id=other[message.text])
        log.append(f"ping {message.text}")

    @bus.subscribe(Pong)
    async def pong(message: Pong) -> None:
        await bus.publish(Done(message.text), correlation_id=message.text)
        log.append(f"pong {message.text}")

    bus.subscribe(Done, lambda done: log.append(f"done {done.text}"))
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_publish, bus, Ping("a"), "a")
            tasks.start_soon(_publish, bus, Ping("b"), "b")
    assert sorted(log) == ["done a", "done b", "ping a", "ping b", "pong a", "pong b"]


async def test_long_conversation_of_one_id_comes_to_its_end() -> None:
    bus, seen = MemoryBus(), list[int]()

    @bus.subscribe(Ping)
    async def ping(message: Ping) -> None:
        number = int(message.text)
        seen.append(number)
        if number < 2000:
            await bus.publish(Ping(str(number + 1)))

    await bus.publish(Ping("0"), correlation_id="id")
    assert seen == list(range(2001))


async def test_publisher_waits_for_what_waits_elsewhere() -> None:
    """Its message caused one that is queued behind another publisher's."""
    bus, log = MemoryBus(), list[str]()
    entered, go_on = anyio.Event(), anyio.Event()

    @bus.subscribe(Pong)
    async def pong(message: Pong) -> None:
        if message.text == "busy":
            entered.set()
            await go_on.wait()
        log.append(f"pong {message.text}")

    @bus.subscribe(Ping)
    async def ping(_: Ping) -> None:
        await bus.publish(Pong("caused"), correlation_id="other")
        log.append("ping ends")

    async def publish() -> None:
        await bus.publish(Ping(), correlation_id="id")
        log.append("published")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_publish, bus, Pong("busy"), "other")
        await entered.wait()
        tasks.start_soon(publish)
        await anyio.wait_all_tasks_blocked()
        assert log == ["ping ends"]
        go_on.set()
    assert log == ["ping ends", "pong busy", "pong caused", "published"]


async def test_nested_message_inherits_the_correlation_id_and_names_its_cause() -> None:
    bus, seen = MemoryBus(), list[tuple[object, object, object]]()

    @bus.subscribe(Ping)
    async def ping(_: Ping) -> None:
        await bus.publish(Pong("same"))
        await bus.publish(Pong("other"), correlation_id=8, headers={"causation_id": "x"})

    bus.subscribe(
        Pong,
        lambda e: seen.append((e.body.text, e.correlation_id, e.causation_id)),
        envelope=True,
    )
    await bus.publish(Ping(), correlation_id=7, message_id="m-1")
    assert sorted(seen, key=repr) == [("other", 8, "x"), ("same", 7, "m-1")]


async def test_nested_message_belongs_to_the_trace_of_its_cause() -> None:
    bus, seen = MemoryBus(), list[dict[str, object]]()
    outer = {"traceparent": "00-1", "tracestate": "a=1", "tenant": "t"}

    @bus.subscribe(Ping)
    async def ping(_: Ping) -> None:
        await bus.publish(Pong())
        await bus.publish(Pong(), headers={"traceparent": "00-2"})

    bus.subscribe(Pong, lambda e: seen.append(dict(e.headers)), envelope=True)
    await bus.publish(Ping(), headers=outer)
    await bus.publish(Pong())
    assert seen == [
        {"traceparent": "00-1", "tracestate": "a=1"},
        {"traceparent": "00-2"},
        {},
    ]


async def test_task_of_a_handler_is_part_of_its_delivery() -> None:
    bus, log = MemoryBus(), list[str]()

    @bus.subscribe(Ping)
    async def ping(_: Ping) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bus.publish, Pong("1"))
            tasks.start_soon(bus.publish, Pong("2"))
        log.append("ping ends")

    bus.subscribe(Pong, lambda pong: log.append(pong.text))
    await bus.publish(Ping(), correlation_id="id")
    assert log[0] == "ping ends"
    assert sorted(log[1:]) == ["1", "2"]


async def test_task_that_outlives_its_delivery_publishes_on_its_own() -> None:
    """What it publishes later must not count as part of what is settled by then."""
    bus, log = MemoryBus(), list[str]()
    inner_settled, published, go_on = anyio.Event(), anyio.Event(), anyio.Event()

    async def later() -> None:
        await inner_settled.wait()
        with pytest.raises(PingError):
            await bus.publish(Done())
        published.set()

    async with anyio.create_task_group() as tasks:

        @bus.subscribe(Ping)
        async def ping(_: Ping) -> None:
            log.append("ping begins")
            await bus.publish(Pong(), correlation_id="other")
            inner_settled.set()
            await published.wait()
            await go_on.wait()
            log.append("ping ends")

        @bus.subscribe(Pong)
        async def pong(_: Pong) -> None:
            tasks.start_soon(later)

        @bus.subscribe(Done)
        async def done(_: Done) -> None:
            log.append("done")
            raise PingError

        async def publish() -> None:
            await bus.publish(Ping(), correlation_id="id")
            log.append("published")

        with anyio.fail_after(20):
            tasks.start_soon(publish)
            await published.wait()
            await anyio.wait_all_tasks_blocked()
            assert log == ["ping begins", "done"]
            go_on.set()
    assert log == ["ping begins", "done", "ping ends", "published"]


# Errors


@pytest.mark.parametrize("correlation_id", ["id", None])
async def test_error_of_a_handler_reaches_the_publisher_after_every_handler_had_its_turn(
    correlation_id: str | None,
) -> None:
    bus, seen, error = MemoryBus(), list[object](), PingError("first")

    @bus.subscribe(Ping)
    async def fail(_: Ping) -> None:
        raise error

    bus.subscribe(Ping, seen.append)
    with pytest.raises(PingError) as caught:
        await bus.publish(Ping("a"), correlation_id=correlation_id)
    assert caught.value is error
    assert seen == [Ping("a")]


async def test_bus_goes_on_after_an_error() -> None:
    bus, seen = MemoryBus(), list[str]()

    @bus.subscribe(Ping)
    def handle(ping: Ping) -> None:
        seen.append(ping.text)
        if ping.text == "bad":
            raise PingError

    with pytest.raises(PingError):
        await bus.publish(Ping("bad"), correlation_id="id")
    await bus.publish(Ping("good"), correlation_id="id")
    assert seen == ["bad", "good"]


async def test_error_reaches_its_own_publisher_only() -> None:
    bus = MemoryBus()
    entered, go_on = anyio.Event(), anyio.Event()
    outcomes: dict[str, str] = {}

    @bus.subscribe(Ping)
    async def handle(ping: Ping) -> None:
        entered.set()
        await go_on.wait()
        if ping.text == "bad":
            raise PingError

    async def publish(text: str) -> None:
        try:
            await bus.publish(Ping(text), correlation_id="id")
            outcomes[text] = "fine"
        except PingError:
            outcomes[text] = "failed"

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(publish, "first")
        await entered.wait()
        for text in ("bad", "last"):
            tasks.start_soon(publish, text)
            await anyio.wait_all_tasks_blocked()
        go_on.set()
    assert outcomes == {"first": "fine", "bad": "failed", "last": "fine"}


async def test_errors_of_several_handlers_come_as_a_group() -> None:
    bus = MemoryBus()

    @bus.subscribe(Ping)
    async def first(_: Ping) -> None:
        raise PingError("first")

    @bus.subscribe(Ping)
    def second(_: Ping) -> None:
        raise ZeroDivisionError("second")

    with pytest.raises(ExceptionGroup, match="several handlers failed on Ping") as caught:
        await bus.publish(Ping())
    assert [type(error) for error in caught.value.exceptions] == [PingError, ZeroDivisionError]


@pytest.mark.parametrize("inner", ["id", "other", None])
async def test_error_of_a_nested_message_reaches_the_first_publisher(inner: str | None) -> None:
    bus, log = MemoryBus(), list[str]()

    @bus.subscribe(Ping)
    async def ping(_: Ping) -> None:
        await bus.publish(Pong(), correlation_id=inner)
        log.append("ping ends")

    @bus.subscribe(Pong)
    async def pong(_: Pong) -> None:
        await bus.publish(Done())

    @bus.subscribe(Done)
    async def done(_: Done) -> None:
        raise PingError("deep down")

    with pytest.raises(PingError, match="deep down"):
        await bus.publish(Ping(), correlation_id="id")
    assert log == ["ping ends"]  # its handler has done its part


async def test_unhandled_command_of_a_handler_is_an_error_of_that_handler() -> None:
    bus = MemoryBus()

    @bus.subscribe(Ping)
    async def ping(_: Ping) -> None:
        await bus.publish(Pong(), headers=COMMAND)

    with pytest.raises(NoHandlerError, match="nobody handles the command Pong"):
        await bus.publish(Ping(), correlation_id="id")


# Cancellation


async def test_cancelled_publisher_cancels_its_own_delivery_and_others_are_still_made() -> None:
    bus, log = MemoryBus(), list[str]()
    entered, cancelled = anyio.Event(), anyio.CancelScope()

    @bus.subscribe(Ping)
    async def handle(ping: Ping) -> None:
        if ping.text == "hangs":
            entered.set()
            await anyio.sleep_forever()
        log.append(ping.text)

    async def hang() -> None:
        with cancelled:
            await bus.publish(Ping("hangs"), correlation_id="id")

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hang)
            await entered.wait()
            for text in "abcdefgh":
                tasks.start_soon(_publish, bus, Ping(text), "id")
                await anyio.wait_all_tasks_blocked()
            cancelled.cancel()
    assert cancelled.cancelled_caught
    assert log == list("abcdefgh")  # in their order still


async def test_queue_is_free_after_a_cancelled_delivery() -> None:
    bus, seen = MemoryBus(), list[str]()
    entered = anyio.Event()

    @bus.subscribe(Ping)
    async def handle(ping: Ping) -> None:
        seen.append(ping.text)
        if ping.text == "hangs":
            entered.set()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_publish, bus, Ping("hangs"), "id")
        await entered.wait()
        tasks.cancel_scope.cancel()
    with anyio.fail_after(20):
        await bus.publish(Ping("next"), correlation_id="id")
    assert seen == ["hangs", "next"]


async def test_message_whose_waiting_publisher_is_cancelled_does_not_stop_the_queue() -> None:
    bus, seen = MemoryBus(), list[str]()
    entered, go_on = anyio.Event(), anyio.Event()

    @bus.subscribe(Ping)
    async def handle(ping: Ping) -> None:
        seen.append(ping.text)
        if ping.text == "first":
            entered.set()
            await go_on.wait()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_publish, bus, Ping("first"), "id")
            await entered.wait()
            async with anyio.create_task_group() as impatient:
                impatient.start_soon(_publish, bus, Ping("given up"), "id")
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(_publish, bus, Ping("last"), "id")
                await anyio.wait_all_tasks_blocked()
                impatient.cancel_scope.cancel()
            go_on.set()
    assert seen == ["first", "last"]


async def test_heir_that_is_cancelled_at_once_passes_the_queue_on() -> None:
    bus, seen = MemoryBus(), list[str]()
    entered = anyio.Event()

    @bus.subscribe(Ping)
    async def handle(ping: Ping) -> None:
        if ping.text == "hangs":
            entered.set()
            await anyio.sleep_forever()
        seen.append(ping.text)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks, anyio.create_task_group() as impatient:
            impatient.start_soon(_publish, bus, Ping("hangs"), "id")
            await entered.wait()
            impatient.start_soon(_publish, bus, Ping("cancelled too"), "id")
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(_publish, bus, Ping("last"), "id")
            await anyio.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
    assert seen == ["last"]


async def test_nested_message_in_a_queue_that_nobody_goes_on_with_is_reported() -> None:
    """It was caused by another publisher's message; that one must not wait for ever."""
    bus, log = MemoryBus(), list[str]()
    entered = anyio.Event()

    @bus.subscribe(Pong)
    async def pong(message: Pong) -> None:
        if message.text == "hangs":
            entered.set()
            await anyio.sleep_forever()
        log.append(message.text)

    @bus.subscribe(Ping)
    async def ping(_: Ping) -> None:
        await bus.publish(Pong("caused"), correlation_id="other")

    async def publish() -> None:
        try:
            await bus.publish(Ping(), correlation_id="id")
            log.append("delivered")
        except BusError as error:
            log.append(str(error))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks, anyio.create_task_group() as impatient:
            impatient.start_soon(_publish, bus, Pong("hangs"), "other")
            await entered.wait()
            tasks.start_soon(publish)
            await anyio.wait_all_tasks_blocked()
            impatient.cancel_scope.cancel()
    assert log == ["the delivery was cancelled"]


async def test_cancelled_handler_of_a_nested_message_leaves_nothing_waiting() -> None:
    bus, entered = MemoryBus(), anyio.Event()

    @bus.subscribe(Ping)
    async def ping(_: Ping) -> None:
        await bus.publish(Pong("queued"))
        await bus.publish(Pong("hangs"), correlation_id="other")

    @bus.subscribe(Pong)
    async def pong(message: Pong) -> None:
        if message.text == "hangs":
            entered.set()
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_publish, bus, Ping(), "id")
        await entered.wait()
        tasks.cancel_scope.cancel()
    with anyio.fail_after(20):
        for correlation_id in ("id", "other"):
            await bus.publish(Pong(), correlation_id=correlation_id)


# A participant that calls back, whatever it is


@pytest.mark.parametrize("ids", [("id", "id"), ("id", "other"), (None, "id"), ("id", None)])
async def test_many_publishers_that_cause_each_other_come_to_an_end(
    ids: tuple[str | None, str | None],
) -> None:
    bus, seen = MemoryBus(), list[str]()
    first, second = ids

    async def react(message: Ping) -> None:
        await checkpoint()
        seen.append(message.text)
        if len(message.text) < 4:
            await bus.publish(Ping(message.text + "x"), correlation_id=second)
            await bus.publish(Ping(message.text + "y"), correlation_id=first)

    handler: Callable[[Ping], Any] = react
    bus.subscribe(Ping, handler)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(_publish, bus, Ping(str(number)), first)
    assert len(seen) == 5 * 15
    assert len(set(seen)) == 5 * 15


# What waits for nothing


async def wait_for(message: Pong) -> None:
    """Take another message, as if that might take a while."""


class Plain:
    @staticmethod
    def drop(message: Ping) -> None:
        """Take a message, without any object."""

    def take(self, message: Ping) -> None:
        """Take a message."""

    async def wait(self, message: Ping) -> None:
        """Take a message, as if that might take a while."""


@pytest.mark.parametrize(
    ("handlers", "at_once"),
    [
        ([], True),
        ([Plain.drop], True),
        ([Plain().take, print], True),
        ([Plain().wait], False),
        ([Plain().take, Plain().wait], False),
        ([partial(Plain().take)], False),  # it cannot be told
    ],
)
async def test_only_plain_functions_wait_for_nothing(
    handlers: list[Callable[[Any], Any]], *, at_once: bool
) -> None:
    bus = MemoryBus()
    for handler in handlers:
        bus.subscribe(Ping, handler)
    bus.subscribe(Pong, wait_for)
    assert bus.delivers_at_once(LoudPing, "id") is at_once
    for handler in handlers:
        bus.unsubscribe(handler)
    assert bus.delivers_at_once(LoudPing, "id")


async def test_function_that_has_returned_something_to_wait_for_waits() -> None:
    bus = MemoryBus()
    bus.subscribe(Ping, lambda message: Plain().wait(message))
    assert bus.delivers_at_once(Ping, "id")
    await bus.publish(Ping())
    assert not bus.delivers_at_once(Ping, "id")


async def test_message_waits_for_the_one_of_its_id_that_is_being_handled() -> None:
    bus, told = MemoryBus(), list[bool]()

    def look(_: Ping) -> None:
        told.extend(bus.delivers_at_once(Ping, one) for one in ("id", "other"))

    bus.subscribe(Ping, look)
    await bus.publish(Ping(), correlation_id="id")
    assert told == [False, True]


async def test_others_have_their_turn_though_nothing_waits() -> None:
    bus, turns = MemoryBus(), list[int]()
    bus.subscribe(Ping, lambda _: None)

    async def count() -> None:
        while True:
            turns.append(len(turns))
            await checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        for _ in range(100):
            await bus.publish(Ping(), correlation_id="id")
        tasks.cancel_scope.cancel()
    assert len(turns) > 3
