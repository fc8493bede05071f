"""Messages leave after the state is stored, in order, and stay until the bus has taken them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import anyio
import pytest
from attrs import frozen

from sagaflow import (
    Context,
    Instance,
    MemoryBus,
    MessageId,
    Orchestrator,
    OutcomeKind,
    OutgoingMessage,
    Saga,
    SagaId,
    SagaRepository,
    SerializationError,
    ServerUnavailableError,
    State,
    during,
    initially,
)
from sagaflow._codec.documents import Bookkeeping
from sagaflow._codec.elements import Document
from sagaflow.testing import ManualClock
from tests.semantics.support import Passing, Published, RecordingBus, stored

pytestmark = pytest.mark.anyio


@frozen
class Opened:
    shop: str


@frozen
class Sold:
    shop: str
    items: tuple[str, ...] = ("a",)


@frozen
class Shut:
    shop: str


@frozen
class Pack:
    item: str


@frozen
class Sale:
    item: str


class Shop(Saga, correlate_by="shop"):
    open_ = State()
    shut = State(final=True)

    sold: int = 0

    @initially.on(Opened).goto(open_)
    def open(self, event: Opened, ctx: Context) -> None:
        ctx.publish(Sale("opening"))

    @during(open_).on(Sold).stay()
    async def sell(self, event: Sold, ctx: Context) -> None:
        for item in event.items:
            self.sold += 1
            ctx.send(Pack(item))
            ctx.publish(Sale(item))

    shutting = during(open_).on(Shut).goto(shut)


async def shop(repository: SagaRepository) -> Instance[Shop]:
    """Return the shop as it is stored."""
    instance = await repository.find(Shop, "s")
    assert instance is not None
    return instance


async def test_message_is_published_after_it_is_stored_with_the_state_and_then_removed(
    repository: SagaRepository, clock: ManualClock
) -> None:
    seen: list[Instance[Shop]] = []

    async def look(_: Published) -> None:
        seen.append(await shop(repository))

    bus = RecordingBus(on_publish=look)
    orchestrator = Orchestrator([Shop], repository, clock=clock, bus=bus)
    await orchestrator.handle(Opened("s"))
    await orchestrator.handle(Sold("s"))
    assert bus.bodies == [Sale("opening"), Pack("a"), Sale("a")]
    start, first, second = seen
    assert (start.version, [m.message.type for m in start.outbox]) == (1, ["Sale"])
    assert (first.version, first.saga.sold) == (2, 1)
    assert [(m.kind, m.message.type) for m in first.outbox] == [
        ("command", "Pack"),
        ("event", "Sale"),
    ]
    assert second.version == 2
    now = await shop(repository)
    assert (now.outbox, now.version) == ((), 2)
    document = await stored(repository, Shop, "s")
    assert document is not None
    assert "wake" not in document  # an idle saga is not looked at again


async def test_stored_message_tells_what_it_is(
    repository: SagaRepository, clock: ManualClock
) -> None:
    orchestrator = Orchestrator([Shop], repository, clock=clock)
    await orchestrator.handle(Opened("s"), message_id="m-1", headers={"trace": "t-1"})
    document = await stored(repository, Shop, "s")
    assert document is not None
    (message,) = (await shop(repository)).outbox
    assert message == OutgoingMessage(
        id=f"{document['incarnation']}-1",
        sequence=1,
        kind="event",
        message=message.message,
        causation_id="m-1",
        headers={"trace": "t-1"},
        created_at=clock.now(),
    )
    assert (message.message.type, message.message.body) == ("Sale", {"item": "opening"})
    assert document["wake"] == clock.now()


async def test_ids_count_the_messages_of_one_life_of_a_saga(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus = RecordingBus()
    orchestrator = Orchestrator([Shop], repository, clock=clock, bus=bus)
    await orchestrator.handle(Opened("s"))
    await orchestrator.handle(Sold("s", ("a", "b")))
    document = await stored(repository, Shop, "s")
    assert document is not None
    first = document["incarnation"]
    assert [m.message_id for m in bus.published] == [f"{first}-{n}" for n in range(1, 6)]
    await repository.delete(Shop, "s")
    await orchestrator.handle(Opened("s"))
    assert bus.published[-1].message_id not in [m.message_id for m in bus.published[:-1]]


async def test_message_carries_correlation_cause_and_headers(
    repository: SagaRepository, clock: ManualClock
) -> None:
    headers: dict[str, object] = {
        "trace": "t-1",
        "$set": {"a.b": 1, "@type": "x"},
        "a.b": [1, (2, 3)],
        "": None,
    }
    bus = RecordingBus()
    for event, message_id in ((Opened("s"), "m-1"), (Sold("s"), 7)):
        orchestrator = Orchestrator([Shop], repository, clock=clock, bus=bus)
        await orchestrator.handle(event, message_id=message_id, headers=headers)
    assert [message.correlation_id for message in bus.published] == ["s"] * 3
    assert [dict(message.headers) for message in bus.published] == [
        {**headers, "causation_id": "m-1", "kind": "event"},
        {**headers, "causation_id": 7, "kind": "command"},
        {**headers, "causation_id": 7, "kind": "event"},
    ]


async def test_headers_of_the_cause_are_not_taken_for_the_messages_own(
    clock: ManualClock, memory: SagaRepository
) -> None:
    bus = MemoryBus()
    received: list[tuple[object, object, dict[str, object]]] = []
    bus.subscribe(
        Sale,
        lambda sale: received.append((sale.id, sale.causation_id, dict(sale.headers))),
        envelope=True,
    )
    async with Orchestrator([Shop], memory, clock=clock, bus=bus):
        await bus.publish(
            Opened("s"),
            message_id="m-1",
            headers={"causation_id": "m-0", "kind": "command", "trace": "t"},
        )
    ((_, causation_id, headers),) = received
    assert causation_id == "m-1"
    assert headers == {"causation_id": "m-1", "kind": "event", "trace": "t"}


class FullError(Exception):
    """The bus takes nothing more."""


async def test_refused_message_is_kept_and_sent_later_with_the_same_id_in_order(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    bus = RecordingBus(refusal=FullError("queue is full"))
    outcome = await Orchestrator([Shop], repository, clock=clock, bus=bus).handle(Opened("s"))
    assert outcome.kind is OutcomeKind.STARTED  # it is stored: that is what was asked for
    outcome = await Orchestrator([Shop], repository, clock=clock, bus=bus).handle(Sold("s"))
    assert outcome.kind is OutcomeKind.STAYED
    assert [m.message.type for m in (await shop(repository)).outbox] == ["Sale", "Pack", "Sale"]
    # Those behind the first wait for it, and it for its time: the event did not offer it again.
    assert [m.body for m in bus.attempts] == [Sale("opening")]
    clock.advance(timedelta(seconds=1))
    assert await Orchestrator([Shop], repository, clock=clock, bus=bus).run_due() == 1
    # Once per attempt it was offered, and logged.
    assert [m.body for m in bus.attempts] == [Sale("opening")] * 2
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "Shop 's': the bus did not accept Sale" in caplog.records[0].message
    assert "it stays in the outbox and is offered again" in caplog.records[0].message
    assert "queue is full" in caplog.records[0].message
    assert caplog.records[0].exc_info is not None
    bus.refusal = None
    clock.advance(timedelta(seconds=2))
    assert await Orchestrator([Shop], repository, clock=clock, bus=bus).run_due() == 1
    assert bus.bodies == [Sale("opening"), Pack("a"), Sale("a")]
    assert {m.message_id for m in bus.attempts[:2]} == {bus.published[0].message_id}
    assert (await shop(repository)).outbox == ()
    assert await Orchestrator([Shop], repository, clock=clock, bus=bus).run_due() == 0


async def test_next_event_sends_what_was_kept_first(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus = RecordingBus(refusal=FullError())
    orchestrator = Orchestrator([Shop], repository, clock=clock, bus=bus)
    await orchestrator.handle(Opened("s"))
    bus.refusal = None
    clock.advance(timedelta(seconds=1))
    await orchestrator.handle(Sold("s"))
    assert bus.bodies == [Sale("opening"), Pack("a"), Sale("a")]
    assert (await shop(repository)).outbox == ()


async def test_what_was_sent_before_the_refusal_is_removed(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus = RecordingBus()
    orchestrator = Orchestrator([Shop], repository, clock=clock, bus=bus)
    await orchestrator.handle(Opened("s"))

    async def refuse_b(message: Published) -> None:
        bus.refusal = FullError() if message.body == Pack("b") else None

    bus.on_publish = refuse_b
    await orchestrator.handle(Sold("s", ("a", "b", "c")))
    assert bus.bodies == [Sale("opening"), Pack("a"), Sale("a")]
    kept = (await shop(repository)).outbox
    assert [m.sequence for m in kept] == [4, 5, 6, 7]
    bus.on_publish, bus.refusal = None, None
    clock.advance(timedelta(seconds=1))
    await orchestrator.run_due()
    assert bus.bodies[3:] == [Pack("b"), Sale("b"), Pack("c"), Sale("c")]


async def test_message_that_could_not_be_removed_is_delivered_again_with_the_same_id(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    class KeepsMessages(Passing):
        async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
            raise ServerUnavailableError("nobody there")

    bus = RecordingBus()
    orchestrator = Orchestrator([Shop], KeepsMessages(repository), clock=clock, bus=bus)
    assert (await orchestrator.handle(Opened("s"))).kind is OutcomeKind.STARTED
    assert "the store fails; work is tried again until it is back: nobody there" in caplog.text
    assert await Orchestrator([Shop], repository, clock=clock, bus=bus).run_due() == 1
    first, second = bus.published
    assert (first.body, first.message_id) == (second.body, second.message_id)
    assert (await shop(repository)).outbox == ()


async def test_events_at_once_send_in_the_order_in_which_they_were_stored(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus = RecordingBus()
    async with Orchestrator([Shop], repository, clock=clock, bus=bus) as orchestrator:
        await orchestrator.handle(Opened("s"))
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(orchestrator.handle, Sold("s", (str(number),)))
    sequences = [int(str(m.message_id).rpartition("-")[2]) for m in bus.published]
    firsts = list(dict.fromkeys(sequences))  # again is allowed, too early is not
    assert firsts == list(range(1, 22))
    assert (await shop(repository)).outbox == ()


# Nobody there


async def test_command_that_nobody_handles_is_reported_and_kept_until_somebody_does(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    bus = MemoryBus()
    async with Orchestrator(
        [Shop], repository, clock=clock, bus=bus, background=False
    ) as orchestrator:
        await orchestrator.handle(Opened("s"))  # nobody subscribes to Sale, an event: accepted
        assert (await shop(repository)).outbox == ()
        assert caplog.records == []
        await orchestrator.handle(Sold("s"))
        assert [m.message.type for m in (await shop(repository)).outbox] == ["Pack", "Sale"]
        (record,) = caplog.records
        assert record.levelname == "ERROR"
        assert "nobody handles the command Pack" in record.message
        assert "bus.subscribe(Pack, ...)" in record.message
        assert record.exc_info is None  # it is no fault in any code
        packed: list[Pack] = []
        bus.subscribe(Pack, packed.append)
        clock.advance(timedelta(seconds=1))
        assert await orchestrator.run_due() == 1
        assert packed == [Pack("a")]
        assert (await shop(repository)).outbox == ()


@frozen
class Note:
    """A message that the saga's code does not mention by itself."""

    text: str


_make: list[Callable[[str], object]] = [Note]


class Notebook(Saga, correlate_by="shop"):
    written = State()
    shut = State(final=True)

    @initially.on(Opened).goto(written)
    def write(self, event: Opened, ctx: Context) -> None:
        ctx.send(_make[0](event.shop))

    close = during(written).on(Shut).goto(shut)


async def test_stored_message_of_an_unknown_class_is_reported_and_kept_until_it_is_known(
    repository: SagaRepository, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    bus = RecordingBus()
    await Orchestrator([Notebook], repository, clock=clock).handle(Opened("n"))
    stranger = Orchestrator([Notebook], repository, clock=clock, bus=bus)
    assert await stranger.run_due() == 1
    assert bus.attempts == []
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "the message class 'Note' is not known to this orchestrator" in record.message
    assert "messages=[Note]" in record.message
    assert "Traceback" not in caplog.text
    instance = await repository.find(Notebook, "n")
    assert instance is not None
    assert [m.message.type for m in instance.outbox] == ["Note"]
    told = Orchestrator([Notebook], repository, clock=clock, bus=bus, messages=[Note])
    clock.advance(timedelta(seconds=1))
    assert await told.run_due() == 1
    assert bus.bodies == [Note("n")]


async def test_message_class_may_be_stored_under_another_name(
    repository: SagaRepository, clock: ManualClock
) -> None:
    bus = RecordingBus()
    names: dict[str, type] = {"shop.note.v1": Note}
    first = Orchestrator([Notebook], repository, clock=clock, messages=names)
    await first.handle(Opened("n"))
    instance = await repository.find(Notebook, "n")
    assert instance is not None
    assert [m.message.type for m in instance.outbox] == ["shop.note.v1"]
    await Orchestrator([Notebook], repository, clock=clock, bus=bus, messages=names).run_due()
    assert bus.bodies == [Note("n")]


async def test_without_a_bus_messages_wait_in_the_saga(
    repository: SagaRepository, clock: ManualClock
) -> None:
    async with Orchestrator([Shop], repository, clock=clock) as orchestrator:
        await orchestrator.handle(Opened("s"))
        await orchestrator.handle(Sold("s"))
        assert [m.sequence for m in (await shop(repository)).outbox] == [1, 2, 3]
        assert await orchestrator.run_due() == 1
        assert [m.sequence for m in (await shop(repository)).outbox] == [1, 2, 3]
    bus = RecordingBus()
    await Orchestrator([Shop], repository, clock=clock, bus=bus).run_due()
    assert bus.bodies == [Sale("opening"), Pack("a"), Sale("a")]


async def test_messages_of_a_finished_saga_are_still_sent(
    repository: SagaRepository, clock: ManualClock
) -> None:
    quiet = Orchestrator([Shop], repository, clock=clock)
    await quiet.handle(Opened("s"))
    await quiet.handle(Shut("s"))
    bus = RecordingBus()
    assert await Orchestrator([Shop], repository, clock=clock, bus=bus).run_due() == 1
    assert bus.bodies == [Sale("opening")]


# run_due


class Kiosk(Shop):
    """Another kind of shop."""


async def test_run_due_tells_how_many_sagas_there_was_work_for(
    repository: SagaRepository, clock: ManualClock
) -> None:
    quiet = Orchestrator([Shop, Kiosk], repository, clock=clock)
    for name in ("u", "s", "t"):
        await quiet.handle(Opened(name), saga_type=Shop)
        clock.advance(timedelta(seconds=1))
    await quiet.handle(Opened("k"), saga_type=Kiosk)
    bus = RecordingBus()
    assert await Orchestrator([Kiosk], repository, clock=clock, bus=bus).run_due() == 1
    both = Orchestrator([Kiosk, Shop], repository, clock=clock, bus=bus)
    assert await both.run_due() == 3
    assert await both.run_due() == 0
    assert [m.correlation_id for m in bus.published] == ["k", "u", "s", "t"]  # longest due first


async def test_nothing_is_due_before_its_time(clock: ManualClock, memory: SagaRepository) -> None:
    await Orchestrator([Shop], memory, clock=clock).handle(Opened("s"))
    past = Orchestrator([Shop], memory, clock=ManualClock(), bus=RecordingBus())
    assert await past.run_due() == 1
    clock.advance(timedelta(hours=1))
    await Orchestrator([Shop], memory, clock=clock).handle(Opened("t"))
    assert await past.run_due() == 0


async def test_saga_that_cannot_be_read_does_not_keep_others_from_their_turn(
    repository: SagaRepository, clock: ManualClock
) -> None:
    """It would every time: nothing has been due for longer."""

    class Damaged(Passing):
        async def load_document(
            self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
        ) -> Document | None:
            if correlation_id in damaged:
                raise SerializationError("Shop", f"{correlation_id} is damaged")
            return await super().load_document(saga, correlation_id, message_id=message_id)

    damaged = {"s"}
    quiet = Orchestrator([Shop], repository, clock=clock)
    for name in ("s", "t", "u"):
        await quiet.handle(Opened(name))
        clock.advance(timedelta(seconds=1))
    bus = RecordingBus()
    orchestrator = Orchestrator([Shop], Damaged(repository), clock=clock, bus=bus)
    with pytest.raises(SerializationError, match="s is damaged"):
        await orchestrator.run_due()
    assert [message.correlation_id for message in bus.published] == ["t", "u"]
    for name in ("t", "u"):
        await quiet.handle(Sold(name))
    damaged.add("t")
    with pytest.raises(ExceptionGroup, match="several sagas failed") as caught:
        await orchestrator.run_due()
    assert len(caught.value.exceptions) == 2
    assert [message.correlation_id for message in bus.published[2:]] == ["u", "u"]


async def test_run_due_stops_when_the_store_cannot_be_reached(
    clock: ManualClock, memory: SagaRepository
) -> None:
    reads: list[SagaId] = []

    class Unreachable(Passing):
        async def load_document(
            self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
        ) -> Document | None:
            reads.append(correlation_id)
            raise ServerUnavailableError("nobody there")

    for name in ("s", "t"):
        await Orchestrator([Shop], memory, clock=clock).handle(Opened(name))
    with pytest.raises(ServerUnavailableError):
        await Orchestrator([Shop], Unreachable(memory), clock=clock).run_due()
    assert reads == ["s"]


async def test_saga_that_was_deleted_meanwhile_is_passed_over(
    clock: ManualClock, memory: SagaRepository
) -> None:
    class Deletes(Passing):
        async def load_document(
            self, saga: str, correlation_id: SagaId, *, message_id: MessageId | None
        ) -> Document | None:
            await self.inner.delete_document(saga, correlation_id)
            return await super().load_document(saga, correlation_id, message_id=message_id)

    await Orchestrator([Shop], memory, clock=clock).handle(Opened("s"))
    bus = RecordingBus()
    orchestrator = Orchestrator([Shop], Deletes(memory), clock=clock, bus=bus)
    assert await orchestrator.run_due() == 1
    assert bus.attempts == []
