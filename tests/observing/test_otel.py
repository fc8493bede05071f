"""Spans and metrics, as an exporter sees them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from sagaflow import MemoryRepository, Orchestrator, RetryPolicy, SagaRepository
from sagaflow.exceptions import ServerUnavailableError
from sagaflow.observing import Backlog, BusCondition, StoreFails, StoreIsBack
from sagaflow.otel import OpenTelemetryObserver
from sagaflow.testing import ManualClock
from tests.observing.shop import Order, Paid, Pay, Placed, Rated, SoldOut, shop
from tests.observing.spans import Telemetry, trace_ids
from tests.semantics.support import (
    Crash,
    DiesAfterUpdate,
    Published,
    ReadsTogether,
    RecordingBus,
)

pytestmark = pytest.mark.anyio


async def test_spans_of_an_order_are_one_tree(
    repository: SagaRepository, clock: ManualClock
) -> None:
    telemetry = Telemetry()
    orders = Orchestrator(
        [Order], repository, clock=clock, bus=shop(), observers=telemetry.observer()
    )
    async with orders:
        await orders.handle(Placed("o"))
    assert telemetry.tree() == [
        "process Placed",
        "  Order.place",
        "    send Pay",
        "      process Paid",
        "        Order.reserve",
        "          send Reserve",
        "            process SoldOut",
        "              Order.sold_out",
        "              commit Order",
        "              undo Order.reserve",
        "                commit Order",
        "                send Refund",
        "        commit Order",
        "  commit Order",
    ]
    assert len(trace_ids(telemetry.spans())) == 1


async def test_spans_say_what_happened_and_nothing_of_the_content(
    repository: SagaRepository, clock: ManualClock
) -> None:
    telemetry, bus = Telemetry(), RecordingBus()
    orders = Orchestrator([Order], repository, clock=clock, bus=bus, observers=telemetry.observer())
    await orders.handle(Placed("o", card="4111-1111"), message_id="m-1")
    place = {
        "sagaflow.saga": "Order",
        "sagaflow.correlation_id": "o",
        "sagaflow.step": "place",
    }
    messaging = {
        "sagaflow.saga": "Order",
        "sagaflow.correlation_id": "o",
        "messaging.system": "sagaflow",
        "messaging.message.conversation_id": "o",
        "sagaflow.version": 1,
    }
    (sent,) = bus.published
    assert {span.name: (span.kind, dict(span.attributes or {})) for span in telemetry.spans()} == {
        "process Placed": (
            SpanKind.CONSUMER,
            {
                **messaging,
                "sagaflow.event": "Placed",
                "messaging.operation.name": "process",
                "messaging.operation.type": "process",
                "messaging.destination.name": "Placed",
                "messaging.message.id": "m-1",
                "sagaflow.outcome": "started",
            },
        ),
        "Order.place": (
            SpanKind.INTERNAL,
            {**place, "sagaflow.version": 0, "sagaflow.outcome": "done"},
        ),
        "commit Order": (
            SpanKind.INTERNAL,
            {**place, "sagaflow.version": 1, "sagaflow.outcome": "won"},
        ),
        "send Pay": (
            SpanKind.PRODUCER,
            {
                **messaging,
                "sagaflow.event": "Pay",
                "messaging.operation.name": "send",
                "messaging.operation.type": "send",
                "messaging.destination.name": "Pay",
                "messaging.message.id": sent.message_id,
                "sagaflow.outcome": "accepted",
            },
        ),
    }
    assert {span.status.status_code for span in telemetry.spans()} == {StatusCode.UNSET}


@pytest.mark.parametrize("content", [False, True])
async def test_exceptions_are_recorded_and_their_text_if_asked_for(
    clock: ManualClock, content: bool
) -> None:
    telemetry = Telemetry()
    observer = telemetry.observer(content=content)
    orders = Orchestrator([Order], MemoryRepository(), clock=clock, observers=observer)
    await orders.handle(Placed("o"))
    with pytest.raises(RuntimeError, match="card of o was refused"):
        await orders.handle(Paid("o", fails=True))
    for name in ("process Paid", "Order.reserve"):
        span = telemetry.span(name)
        assert span.status.status_code is StatusCode.ERROR
        (event,) = span.events
        attributes = dict(event.attributes or {})
        stack = str(attributes["exception.stacktrace"])
        assert (event.name, attributes["exception.type"]) == ("exception", "RuntimeError")
        assert dict(span.attributes or {})["error.type"] == "RuntimeError"
        assert 'raise RuntimeError(f"card' in stack
        assert ("card of o" in f"{attributes}{span.status.description}") is content


@pytest.mark.parametrize("content", [False, True])
async def test_events_are_shown_without_secrets_and_if_asked_for(
    clock: ManualClock, content: bool
) -> None:
    telemetry = Telemetry()
    observer = telemetry.observer(content=content)
    orders = Orchestrator([Order], MemoryRepository(), clock=clock, observers=observer)
    await orders.handle(Placed("o", card="4111-1111", gift="a ring"))
    everything = str([span.attributes for span in telemetry.spans()])
    assert ("a ring" in everything) is content
    assert "4111-1111" not in everything
    for name in ("process Placed", "Order.place"):
        attributes = dict(telemetry.span(name).attributes or {})
        shown = "{'order': 'o', 'card': '<secret>', 'gift': 'a ring'}"
        assert attributes.get("sagaflow.content") == (shown if content else None)


def remote(span: ReadableSpan) -> str:
    """Return the W3C header that names a span."""
    assert span.context is not None
    return f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"


async def test_trace_goes_along_with_what_is_stored_and_published(
    repository: SagaRepository, clock: ManualClock
) -> None:
    telemetry = Telemetry()
    orders = Orchestrator([Order], repository, clock=clock, observers=telemetry.observer())
    given = {"traceparent": f"00-{7:032x}-{8:016x}-01", "tracestate": "vendor=x", "tenant": "t"}
    await orders.handle(Placed("o"), headers=given)
    assert trace_ids(telemetry.spans()) == {7}
    arrived = telemetry.span("process Placed").parent
    assert arrived is not None and (arrived.span_id, arrived.is_remote) == (8, True)
    stored = {**given, "traceparent": remote(telemetry.span("Order.place"))}
    found = await repository.find(Order, "o")
    assert found is not None
    assert [message.headers for message in found.outbox] == [stored]
    assert [timer.headers for timer in found.timers] == [stored] * 2

    bus, other = RecordingBus(), Telemetry()
    sender = Orchestrator([Order], repository, clock=clock, bus=bus, observers=other.observer())
    await sender.run_due()
    sent = other.span("send Pay")
    assert trace_ids(other.spans()) == {7}
    assert sent.parent is not None
    assert sent.parent.span_id == int(stored["traceparent"].split("-")[2], 16)
    (published,) = bus.published
    assert published.headers["traceparent"] == remote(sent)
    assert (published.headers["tracestate"], published.headers["tenant"]) == ("vendor=x", "t")


async def test_order_is_one_trace_across_a_crash(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """Three processes: one dies after it has stored the payment, others end what it began."""
    telemetry, bus = Telemetry(), RecordingBus()
    dying = Orchestrator(
        [Order],
        DiesAfterUpdate(repository, updates=1),
        clock=clock,
        bus=bus,
        observers=telemetry.observer(),
    )
    await dying.handle(Placed("o"), message_id="m-1")
    (pay,) = bus.published
    assert pay.body == Pay("o")
    with pytest.raises(Crash):
        await dying.handle(Paid("o"), message_id="m-2", headers=dict(pay.headers))
    assert bus.bodies == [Pay("o")]  # what came after the payment was not sent

    clock.advance(timedelta(minutes=1))
    fresh = Orchestrator([Order], repository, clock=clock, bus=bus, observers=telemetry.observer())
    await fresh.run_due()
    reserve = bus.published[-1]
    third = Orchestrator([Order], repository, clock=clock, bus=bus, observers=telemetry.observer())
    await third.handle(SoldOut("o"), headers=dict(reserve.headers))
    found = await repository.find(Order, "o")
    assert found is not None and found.state == Order.failed
    assert len(trace_ids(telemetry.spans())) == 1
    assert [line for line in telemetry.tree() if "commit" not in line] == [
        "process Placed",
        "  Order.place",
        "    send Pay",
        "      process Paid",
        "        Order.reserve",
        "          send Reserve",
        "            process SoldOut",
        "              Order.sold_out",
        "              undo Order.reserve",
        "                send Refund",
    ]
    crashed = telemetry.spans("process Paid")[0]
    assert crashed.status.status_code is StatusCode.ERROR


async def test_timers_and_parked_events_belong_to_the_trace_that_caused_them(
    repository: SagaRepository, clock: ManualClock
) -> None:
    telemetry = Telemetry()
    await Orchestrator([Order], repository, clock=clock, observers=telemetry.observer()).handle(
        Placed("o")
    )
    (order,) = trace_ids(telemetry.spans())
    await Orchestrator([Order], repository, clock=clock, observers=telemetry.observer()).handle(
        Rated("o"), headers={"traceparent": f"00-{7:032x}-{8:016x}-01"}
    )
    await Orchestrator([Order], repository, clock=clock, observers=telemetry.observer()).handle(
        Paid("o"), headers={"traceparent": remote(telemetry.span("Order.place"))}
    )
    arrived, handled = telemetry.spans("process Rated")
    assert handled.parent is not None and arrived.context is not None
    assert handled.parent.span_id == arrived.context.span_id
    assert trace_ids([arrived, handled]) == {7}
    clock.advance(timedelta(hours=2))
    with telemetry.tracers.get_tracer("test").start_as_current_span("cron job"):
        await Orchestrator(
            [Order], repository, clock=clock, observers=telemetry.observer()
        ).run_due()
    fired = telemetry.spans("process timeout") + telemetry.spans("process Reminded")
    assert trace_ids(fired) == {order}
    assert [span.kind for span in fired] == [SpanKind.INTERNAL] * 2
    timers = [dict(span.attributes or {})["sagaflow.timer"] for span in fired]
    assert timers == ["give_up", "Reminded"]


async def test_work_without_a_stored_trace_does_not_belong_to_whoever_does_it(
    clock: ManualClock,
) -> None:
    telemetry, repository, bus = Telemetry(), MemoryRepository(clock=clock), RecordingBus()
    await Orchestrator([Order], repository, clock=clock).handle(Placed("o"))  # nobody observes it
    clock.advance(timedelta(minutes=10))
    orders = Orchestrator([Order], repository, clock=clock, bus=bus, observers=telemetry.observer())
    with telemetry.tracers.get_tracer("test").start_as_current_span("cron job"):
        await orders.run_due()
    parents = {span.name: span.parent for span in telemetry.spans()}
    assert (parents["process Reminded"], parents["send Pay"]) == (None, None)


async def test_compensation_that_a_worker_does_belongs_to_the_trace_of_its_step(
    repository: SagaRepository, clock: ManualClock
) -> None:
    telemetry = Telemetry()
    orders = Orchestrator([Order], repository, clock=clock, observers=telemetry.observer())
    await orders.handle(Placed("o"))
    await orders.handle(Paid("o"), headers={"traceparent": f"00-{7:032x}-{8:016x}-01"})
    await orders.cancel(Order, "o")
    undo = telemetry.span("undo Order.reserve")
    assert trace_ids([undo]) == {7}
    assert dict(undo.attributes or {})["sagaflow.outcome"] == "done"


async def test_event_without_headers_belongs_to_the_span_that_it_is_handled_in(
    clock: ManualClock,
) -> None:
    telemetry = Telemetry()
    orders = Orchestrator([Order], MemoryRepository(), clock=clock, observers=telemetry.observer())
    with telemetry.tracers.get_tracer("test").start_as_current_span("POST /orders"):
        await orders.handle(Placed("o"))
    assert telemetry.tree()[:3] == ["POST /orders", "  process Placed", "    Order.place"]


async def test_what_a_stranger_puts_into_the_headers_does_no_harm(clock: ManualClock) -> None:
    telemetry = Telemetry()
    orders = Orchestrator([Order], MemoryRepository(), clock=clock, observers=telemetry.observer())
    for number, wrong in enumerate([7, "nonsense", b"x", ["00-1-1-01"], None]):
        await orders.handle(Placed(str(number)), headers={"traceparent": wrong})
    assert len(telemetry.spans("process Placed")) == 5
    assert {span.parent for span in telemetry.spans("process Placed")} == {None}


async def test_metrics_of_an_order(repository: SagaRepository, clock: ManualClock) -> None:
    telemetry, bus = Telemetry(), RecordingBus()
    orders = Orchestrator([Order], repository, clock=clock, bus=bus, observers=telemetry.observer())
    await orders.handle(Placed("o"), message_id="m-1")
    await orders.handle(Placed("o"), message_id="m-1")
    await orders.handle(SoldOut("o"))
    clock.advance(timedelta(minutes=5, seconds=3))
    await orders.run_due()
    await orders.handle(Paid("o"))
    clock.advance(timedelta(seconds=7))
    await orders.handle(SoldOut("o"))
    assert telemetry.counts("sagaflow.events", "saga", "event", "outcome") == {
        ("Order", "Placed", "started"): 1,
        ("Order", "Placed", "duplicate"): 1,
        ("Order", "SoldOut", "unhandled"): 1,
        ("Order", "Reminded", "stayed"): 1,
        ("Order", "Paid", "transitioned"): 1,
        ("Order", "SoldOut", "transitioned"): 1,
    }
    (duration,) = telemetry.points("sagaflow.saga.duration")
    assert (duration.count, duration.sum) == (1, 310)
    assert dict(duration.attributes) == {"sagaflow.saga": "Order", "sagaflow.state": "failed"}
    (latency,) = telemetry.points("sagaflow.wake.latency")
    assert (latency.count, latency.sum) == (1, 3)
    assert telemetry.counts("sagaflow.handler.duration", "step", "outcome") == {
        ("place", "done"): 1,
        ("remind", "done"): 1,
        ("reserve", "done"): 2,
        ("sold_out", "done"): 1,
    }
    assert telemetry.counts("sagaflow.commit.duration", "outcome") == {("won",): 5}
    ages = telemetry.counts("sagaflow.outbox.age", "event")
    assert ages == {("Pay",): 1, ("Remind",): 1, ("Reserve",): 1, ("Refund",): 1}


async def test_metrics_of_what_goes_wrong(repository: SagaRepository, clock: ManualClock) -> None:
    telemetry, bus = Telemetry(), RecordingBus(refusal=RuntimeError("queue is full"))
    orders = Orchestrator(
        [Order],
        repository,
        clock=clock,
        bus=bus,
        observers=telemetry.observer(),
        retry=RetryPolicy(max_age=timedelta(minutes=1)),
    )
    await orders.handle(Placed("o"))
    clock.advance(timedelta(minutes=2))
    await orders.run_due()
    assert telemetry.counts("sagaflow.retries", "saga") == {("Order",): 2}
    assert telemetry.counts("sagaflow.suspensions", "saga", "reason") == {("Order", "message"): 1}
    assert telemetry.points("sagaflow.outbox.age") == []


async def test_lost_race_is_counted(clock: ManualClock) -> None:
    telemetry, memory = Telemetry(), MemoryRepository(clock=clock)
    racing = ReadsTogether(memory, 2)
    await Orchestrator([Order], memory, clock=clock).handle(Placed("o"))
    async with anyio.create_task_group() as tasks:
        for event in (Paid("o"), Rated("o")):
            orders = Orchestrator([Order], racing, clock=clock, observers=telemetry.observer())
            tasks.start_soon(orders.handle, event)
    assert telemetry.counts("sagaflow.conflicts", "saga") == {("Order",): 1}


async def test_backlog_is_shown_until_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = Telemetry()
    observer = telemetry.observer()
    assert telemetry.counts("sagaflow.overdue", "saga") == {}
    observer.note(
        Backlog(
            saga="Order",
            due=3,
            late=timedelta(seconds=9),
            outbox_age=timedelta(milliseconds=1500),
            suspended=2,
        )
    )
    assert telemetry.counts("sagaflow.overdue", "saga") == {("Order",): 3}
    assert telemetry.counts("sagaflow.suspended", "saga") == {("Order",): 2}
    assert telemetry.counts("sagaflow.overdue.age", "saga") == {("Order",): 9}
    assert telemetry.counts("sagaflow.outbox.oldest", "saga") == {("Order",): 1.5}
    error = ServerUnavailableError("nobody there")
    observer.note(StoreFails(error=error))
    observer.note(StoreIsBack())
    assert [point.value for point in telemetry.points("sagaflow.outages")] == [1]
    later: Any = 1e12
    monkeypatch.setattr("sagaflow.otel.time.monotonic", lambda: later)
    assert telemetry.counts("sagaflow.overdue", "saga") == {}


async def test_condition_of_buses_is_shown_until_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = Telemetry()
    observer = telemetry.observer()
    assert telemetry.counts("sagaflow.bus.down", "bus") == {}
    for bus, down, silent in (("orders", 9, 0), ("payments", 0, 1), ("payments", 0, 2)):
        observer.note(
            BusCondition(
                bus=bus, down_for=timedelta(seconds=down), silent_for=timedelta(seconds=silent)
            )
        )
    assert telemetry.counts("sagaflow.bus.down", "bus") == {("orders",): 9, ("payments",): 0}
    assert telemetry.counts("sagaflow.bus.silent", "bus") == {("orders",): 0, ("payments",): 2}
    assert telemetry.counts("sagaflow.overdue", "saga") == {}
    later: Any = 1e12
    monkeypatch.setattr("sagaflow.otel.time.monotonic", lambda: later)
    assert telemetry.counts("sagaflow.bus.down", "bus") == {}


async def test_without_a_provider_nothing_is_emitted_and_nothing_is_added(
    clock: ManualClock,
) -> None:
    bus = RecordingBus()
    orders = Orchestrator(
        [Order], MemoryRepository(), clock=clock, bus=bus, observers=OpenTelemetryObserver()
    )
    await orders.handle(Placed("o"), headers={"tenant": "t"})
    headers = [set(message.headers) for message in bus.published]
    assert headers == [{"tenant", "causation_id", "kind"}]
    assert isinstance(bus.published[0], Published)
