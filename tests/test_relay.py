"""Handing stored messages to the bus."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from attrs import define, evolve, field, frozen

from sagaflow import (
    Context,
    Envelope,
    MemoryRepository,
    MessageId,
    OutgoingMessage,
    RetryPolicy,
    Saga,
    SagaId,
    SagaRepository,
    State,
    Status,
    StoredMessage,
    SuspensionReason,
    UnknownOutcomeError,
    initially,
)
from sagaflow._codec.documents import Bookkeeping, decode_record, encode_record
from sagaflow._codec.messages import MessageTypes
from sagaflow._model.envelope import current_envelope
from sagaflow._model.record import Lease, SagaRecord
from sagaflow._runtime.leases import Leases
from sagaflow._runtime.outages import Outages
from sagaflow._runtime.outbox import Outbox, make_outbox
from sagaflow._runtime.removals import Removals
from sagaflow._runtime.store import Store
from sagaflow.testing import ManualClock
from tests.contract.records import record as plain_record
from tests.processes import process_at
from tests.semantics.support import Away, Interrupted

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@frozen
class Started:
    """Starts the saga."""


@frozen
class Note:
    text: str


class Notes(Saga):
    written = State(final=True)

    @initially.on(Started).goto(written)
    def write(self, event: Started, ctx: Context) -> None:
        ctx.send(Note(""))


async def _nothing(_: str) -> None: ...


@define
class Bus:
    """Notes the texts of what it is given; `then` happens before one is taken."""

    taken: list[str] = field(factory=list[str])
    then: Callable[[str], Awaitable[None]] = _nothing

    def subscribe(
        self, message_type: type[Any], handler: Callable[..., Any], /, *, envelope: bool
    ) -> None:
        """Nothing comes from this bus."""

    async def publish(
        self,
        message: object,
        /,
        *,
        correlation_id: SagaId | None = None,
        message_id: MessageId | None = None,
        headers: Mapping[str, object] | None = None,
    ) -> None:
        assert isinstance(message, Note)
        await self.then(message.text)
        self.taken.append(message.text)


def outgoing(sequence: int) -> OutgoingMessage:
    return OutgoingMessage(
        id=f"life-{sequence}",
        sequence=sequence,
        kind="command",
        message=StoredMessage(type="Note", body={"text": str(sequence)}),
        causation_id="m",
        created_at=NOW,
    )


def record(*sequences: int, version: int = 1) -> SagaRecord:
    return plain_record(
        "n",
        version=version,
        state="written",
        status=Status.FINISHED,
        data={},
        outbox=tuple(outgoing(sequence) for sequence in sequences),
        wake=NOW if sequences else None,
        finished_at=NOW,
    )


RETRY = RetryPolicy(initial_delay=timedelta(seconds=8), max_age=timedelta(minutes=1))
"""With the chance of these tests, a half, the first retry is due after 4 seconds."""


@define
class World:
    """A relay with its surroundings, and what is stored."""

    bus: Bus | None = field(factory=Bus)
    clock: ManualClock = field(factory=lambda: ManualClock(NOW))
    repository: SagaRepository = field(factory=MemoryRepository)
    noted: list[SagaRecord] = field(factory=list[SagaRecord])

    def relay(self) -> Outbox:
        process = process_at(self.clock, class_of={"Note": Note}.get)
        store = Store(
            process=process,
            repository=self.repository,
            on_stored=lambda _, record: self.noted.append(record),
        )
        outages = Outages(clock=self.clock)
        return make_outbox(
            process,
            store,
            outages,
            self.bus,
            MessageTypes([Notes], ()),
            retry=RETRY,
            removals=Removals(process, store, outages),
            leases=Leases(process, store),
            send_timeout=timedelta(seconds=30),
        )

    async def store(self, stored: SagaRecord) -> None:
        await self.repository.delete_document("Notes", "n")
        await self.repository.insert_document("Notes", encode_record(stored))

    async def stored(self) -> SagaRecord:
        document = await self.repository.load_document("Notes", "n", message_id=None)
        assert document is not None
        return decode_record(document)

    async def outbox(self) -> tuple[list[int], datetime | None]:
        """Return which messages are stored, and when the saga wakes."""
        found = await self.stored()
        return [message.sequence for message in found.outbox], found.wake

    @property
    def taken(self) -> list[str]:
        """What the bus has accepted."""
        assert self.bus is not None
        return self.bus.taken

    def when_publishing(self, then: Callable[[str], Awaitable[None]]) -> None:
        """Have this happen before the bus accepts a message."""
        assert self.bus is not None
        self.bus.then = then


@pytest.fixture
def world() -> World:
    return World()


async def test_messages_are_published_in_order_and_removed(world: World) -> None:
    await world.store(record(1, 2, 3))
    await world.relay().send(Notes, record(1, 2, 3), None, wait=True)
    assert world.taken == ["1", "2", "3"]
    assert await world.outbox() == ([], None)


async def test_nothing_is_sent_where_nobody_can_wait_for_it(world: World) -> None:
    await world.store(record(1))
    await world.relay().send(Notes, record(1), None, wait=False)
    assert world.taken == []
    assert await world.outbox() == ([1], NOW)


async def test_nothing_is_sent_without_a_bus(world: World) -> None:
    await world.store(record(1))
    world.bus = None
    await world.relay().send(Notes, record(1), None, wait=True)
    assert await world.outbox() == ([1], NOW)


async def test_caller_that_does_not_wait_goes_on_at_once(world: World) -> None:
    await world.store(record(1))
    go_on = anyio.Event()

    async def pause(_: str) -> None:
        await go_on.wait()

    world.when_publishing(pause)
    async with anyio.create_task_group() as tasks:
        await world.relay().send(Notes, record(1), tasks, wait=False)
        assert world.taken == []
        go_on.set()
    assert world.taken == ["1"]
    assert await world.outbox() == ([], None)


async def test_caller_that_waits_goes_on_when_nothing_is_left(world: World) -> None:
    await world.store(record(1, 2))
    async with anyio.create_task_group() as tasks:
        await world.relay().send(Notes, record(1, 2), tasks, wait=True)
        assert world.taken == ["1", "2"]
        assert await world.outbox() == ([], None)


async def test_same_messages_are_not_sent_twice_at_once(world: World) -> None:
    await world.store(record(1, 2))
    relay, publishing, go_on = world.relay(), anyio.Event(), anyio.Event()

    async def pause(_: str) -> None:
        publishing.set()
        await go_on.wait()

    world.when_publishing(pause)
    async with anyio.create_task_group() as tasks:
        await relay.send(Notes, record(1, 2), tasks, wait=False)
        await publishing.wait()
        await relay.send(Notes, record(1, 2), tasks, wait=True)  # under way: does not wait
        assert world.taken == []
        go_on.set()
    assert world.taken == ["1", "2"]


async def test_messages_that_come_meanwhile_follow_in_order(world: World) -> None:
    await world.store(record(1))
    relay, later = world.relay(), record(1, 2, 3, version=2)

    async def more(text: str) -> None:
        if text == "1":
            await world.store(later)
            await relay.send(Notes, later, None, wait=True)

    world.when_publishing(more)
    await relay.send(Notes, record(1), None, wait=True)
    assert world.taken == ["1", "2", "3"]
    assert await world.outbox() == ([], None)


async def test_messages_that_come_while_sent_ones_are_removed_follow(world: World) -> None:
    await world.store(record(1))
    later = record(2, version=2)

    async def add(_: Bookkeeping) -> None:
        if not added:
            added.append(True)
            await world.store(later)
            await relay.send(Notes, later, None, wait=True)

    added: list[bool] = []
    world.repository = Interrupted(MemoryRepository(), noted=add)
    await world.store(record(1))
    relay = world.relay()
    await relay.send(Notes, record(1), None, wait=True)
    assert world.taken == ["1", "2"]
    assert await world.outbox() == ([], None)


async def test_refused_message_stays_with_those_behind_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.store(record(1, 2, 3))

    async def refuse_second(text: str) -> None:
        if text == "2":
            raise OSError("full")

    world.when_publishing(refuse_second)
    relay = world.relay()
    await relay.send(Notes, record(1, 2, 3), None, wait=True)
    assert world.taken == ["1"]
    assert await world.outbox() == ([2, 3], NOW + timedelta(seconds=4))  # awake still
    assert [line.levelname for line in caplog.records] == ["ERROR"]
    world.when_publishing(_nothing)
    world.clock.advance(timedelta(seconds=4))
    await relay.send(Notes, record(2, 3), None, wait=True)
    assert world.taken == ["1", "2", "3"]


async def test_sagas_do_not_wait_for_each_other(world: World) -> None:
    relay, arrived = world.relay(), list[str]()
    both = anyio.Event()

    async def meet(text: str) -> None:
        arrived.append(text)
        if len(arrived) == 2:
            both.set()
        await both.wait()

    world.when_publishing(meet)
    other = evolve(record(2), correlation_id="other", outbox=(outgoing(2),))
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            await relay.send(Notes, record(1), tasks, wait=False)
            await relay.send(Notes, other, tasks, wait=True)


OTHERS = Lease(owner="another process", until=NOW + timedelta(seconds=10))


async def test_what_others_have_added_meanwhile_follows_in_order(world: World) -> None:
    await world.store(record(1, 2, version=2))
    await world.relay().send(Notes, record(1), None, wait=True)
    assert world.taken == ["1", "2"]
    assert await world.outbox() == ([], None)


async def test_what_others_have_added_meanwhile_is_left_to_the_holder_of_the_lease(
    world: World,
) -> None:
    await world.store(evolve(record(1, 2, version=2), lease=OTHERS))
    await world.relay().send(Notes, record(1), None, wait=True)
    assert world.taken == ["1"]
    assert await world.outbox() == ([2], NOW)
    assert (await world.stored()).lease == OTHERS


async def test_work_that_others_have_added_meanwhile_keeps_its_wake(world: World) -> None:
    """A timer, say, of which the record that is being sent for knows nothing."""
    later = NOW + timedelta(hours=1)
    await world.store(evolve(record(1, version=2), wake=later))
    await world.relay().send(Notes, record(1), None, wait=True)
    assert await world.outbox() == ([], later)


async def test_nothing_is_sent_a_second_time_for_a_record_that_was_read_before(
    world: World,
) -> None:
    await world.store(record(1, 2))
    relay = world.relay()
    await relay.send(Notes, record(1, 2), None, wait=True)
    await relay.send(Notes, record(1, 2), None, wait=True)
    assert world.taken == ["1", "2"]


async def test_sent_message_that_a_write_has_put_back_is_removed_and_not_sent_again(
    world: World,
) -> None:
    """A write that sets the whole outbox may not know yet that a message was removed."""
    await world.store(record(1, 2))
    relay = world.relay()
    await relay.send(Notes, record(1, 2), None, wait=True)
    await world.store(record(2))
    await relay.send(Notes, record(2), None, wait=True)
    assert world.taken == ["1", "2"]
    assert await world.outbox() == ([], None)


async def test_lease_is_given_back_when_all_is_sent(world: World) -> None:
    leased = evolve(record(1), lease=Lease(owner="this process", until=NOW + RETRY.initial_delay))
    await world.store(leased)
    await world.relay().send(Notes, leased, None, wait=True)
    assert (await world.stored()).lease is None


# Refusals


async def refuse(_: str) -> None:
    raise OSError("full")


async def test_refused_message_is_offered_again_ever_later(world: World) -> None:
    await world.store(record(1))
    world.when_publishing(refuse)
    relay = world.relay()
    for attempt, seconds in ((1, 4), (2, 8), (3, 16)):
        await relay.send(Notes, await world.stored(), None, wait=True)
        found = await world.stored()
        assert found.sending is not None
        assert (found.sending.attempts, found.sending.since) == (attempt, NOW)
        assert found.sending.error == "OSError: full"
        assert found.wake == found.sending.due == world.clock.now() + timedelta(seconds=seconds)
        assert world.noted[-1].wake == found.wake  # the background is told
        world.clock.advance(timedelta(seconds=seconds))
    world.when_publishing(_nothing)
    await relay.send(Notes, await world.stored(), None, wait=True)
    found = await world.stored()
    assert (found.sending, found.wake, found.version) == (None, None, 1)


async def test_refusal_of_the_next_message_is_counted_anew(world: World) -> None:
    await world.store(record(1, 2))
    world.when_publishing(refuse)
    relay = world.relay()
    await relay.send(Notes, record(1, 2), None, wait=True)

    async def only_first(text: str) -> None:
        if text == "2":
            await refuse(text)

    world.when_publishing(only_first)
    world.clock.advance(timedelta(seconds=30))
    await relay.send(Notes, await world.stored(), None, wait=True)
    found = await world.stored()
    assert found.sending is not None
    assert (found.sending.attempts, found.sending.since) == (1, world.clock.now())


async def test_message_that_comes_while_one_is_refused_does_not_overtake_it(world: World) -> None:
    """It is stored between the refusal and the note of it."""
    later, added = record(1, 2, version=2), list[bool]()

    async def add(_: Bookkeeping) -> None:
        if not added:
            added.append(True)
            await world.store(later)
            await relay.send(Notes, later, None, wait=True)

    async def refuse_first(text: str) -> None:
        if text == "1":
            await refuse(text)

    world.repository = Interrupted(MemoryRepository(), note=add)
    await world.store(record(1))
    world.when_publishing(refuse_first)
    relay = world.relay()
    await relay.send(Notes, record(1), None, wait=True)
    assert world.taken == []
    assert (await world.outbox())[0] == [1, 2]
    world.when_publishing(_nothing)
    world.clock.advance(timedelta(seconds=4))
    await relay.send(Notes, await world.stored(), None, wait=True)
    assert world.taken == ["1", "2"]


@pytest.mark.parametrize(("rivals", "noted"), [(3, True), (4, False)])
async def test_refusal_is_noted_though_others_write_and_else_only_this_process_knows_of_it(
    world: World,
    rivals: int,
    noted: bool,
) -> None:
    class Contended(MemoryRepository):
        async def bookkeep(self, saga: str, note: Bookkeeping) -> bool:
            calls.append(note.version)
            if len(calls) <= rivals:
                await world.store(record(1, version=note.version + 1))
            return await super().bookkeep(saga, note)

    calls = list[int]()
    world.repository = Contended()
    await world.store(record(1))
    world.when_publishing(refuse)
    await world.relay().send(Notes, record(1), None, wait=True)
    assert calls == [1, 2, 3, 4]
    found = await world.stored()
    assert (found.sending is not None) is noted
    assert world.noted[-1].wake == NOW + timedelta(seconds=4)
    assert world.noted[-1].version == found.version


async def test_refused_message_that_others_have_sent_meanwhile_is_none_of_its_business(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def overtake(note: Bookkeeping) -> None:
        if "life-1" in note.sent:
            await relay.send(Notes, record(1, 2, version=2), None, wait=True)
            await world.store(record(version=3))
            world.when_publishing(refuse)

    world.repository = Interrupted(MemoryRepository(), note=overtake)
    await world.store(record(1))
    relay = world.relay()
    await relay.send(Notes, record(1), None, wait=True)
    assert world.taken == ["1"]
    assert await world.outbox() == ([], None)
    assert "sending failed" not in caplog.text


async def test_message_that_is_refused_for_too_long_suspends_its_saga(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.store(record(1, 2))
    world.when_publishing(refuse)
    relay = world.relay()
    await relay.send(Notes, record(1, 2), None, wait=True)
    world.clock.advance(RETRY.max_age)
    await relay.send(Notes, await world.stored(), None, wait=True)
    found = await world.stored()
    assert found.suspension is not None
    assert (found.status, found.version, found.wake) == (Status.SUSPENDED, 2, None)
    assert found.suspension.reason is SuspensionReason.MESSAGE
    assert (found.suspension.subject, found.suspension.error) == ("life-1", "OSError: full")
    assert "suspended, since the bus has refused Note 'life-1' for too long" in caplog.text
    world.when_publishing(_nothing)
    await relay.send(Notes, found, None, wait=True)  # an operator decides first
    assert world.taken == []


async def test_message_that_cannot_be_read_stays_and_is_told_without_a_traceback(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = evolve(outgoing(1), message=StoredMessage(type="Gone", body={}))
    stored = evolve(record(1), outbox=(unknown,))
    await world.store(stored)
    await world.relay().send(Notes, stored, None, wait=True)
    assert world.taken == []
    (line,) = caplog.records
    assert "'Gone' is not known" in line.message
    assert line.exc_info is None


# A store that fails


async def test_message_whose_removal_failed_is_removed_later_and_by_others_delivered_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    away = Away(UnknownOutcomeError("the connection was lost"))
    world.repository = Interrupted(MemoryRepository(), note=away.fail)
    await world.store(record(1))
    relay = world.relay()
    await relay.send(Notes, record(1), None, wait=True)
    assert world.taken == ["1"]
    assert await world.outbox() == ([1], NOW)
    assert [line.levelname for line in caplog.records] == ["ERROR"]  # the outage, once
    away.error = None
    await relay.send(Notes, record(1), None, wait=True)
    assert world.taken == ["1"]
    assert await world.outbox() == ([], None)
    await world.store(record(1))
    await world.relay().send(Notes, record(1), None, wait=True)  # of a process that knows nothing
    assert world.taken == ["1", "1"]
    assert await world.outbox() == ([], None)


async def test_foreign_error_is_logged_and_stops_the_sending_of_that_saga_only(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.store(record(1))
    broken = Away(LookupError("a bug in a store"))
    world.repository = Interrupted(world.repository, note=broken.fail)
    relay = world.relay()
    async with anyio.create_task_group() as tasks:
        await relay.send(Notes, record(1), tasks, wait=True)
        await relay.wait_until_idle()
    assert "Notes 'n': sending failed" in caplog.text
    assert await world.outbox() == ([1], NOW)


async def test_idle_relay_has_nothing_to_be_waited_for(world: World) -> None:
    relay, publishing, go_on = world.relay(), anyio.Event(), anyio.Event()
    await relay.wait_until_idle()
    await world.store(record(1))

    async def pause(_: str) -> None:
        publishing.set()
        await go_on.wait()

    world.when_publishing(pause)
    async with anyio.create_task_group() as tasks:
        await relay.send(Notes, record(1), tasks, wait=False)
        await publishing.wait()
        with anyio.move_on_after(0) as scope:
            await relay.wait_until_idle()
        assert scope.cancelled_caught
        tasks.start_soon(relay.wait_until_idle)
        go_on.set()
    assert await world.outbox() == ([], None)


async def test_message_of_another_life_of_the_saga_is_not_removed(world: World) -> None:
    await world.store(evolve(record(1), incarnation="another"))
    await world.relay().send(Notes, record(1), None, wait=True)
    assert await world.outbox() == ([1], NOW)


async def test_delivery_of_the_caller_is_not_the_cause_of_what_is_sent(world: World) -> None:
    seen: list[Envelope[object] | None] = []

    async def look(_: str) -> None:
        seen.append(current_envelope.get())

    world.when_publishing(look)
    envelope: Envelope[object] = Envelope(body=None, id="x")
    token = current_envelope.set(envelope)
    await world.relay().send(Notes, record(1), None, wait=True)
    async with anyio.create_task_group() as tasks:
        await world.relay().send(Notes, record(1), tasks, wait=True)
    assert seen == [None, None]
    assert current_envelope.get() is envelope
    current_envelope.reset(token)


async def test_cancelled_sending_removes_what_was_sent_and_can_go_on(world: World) -> None:
    await world.store(record(1, 2))
    publishing = anyio.Event()

    async def hang(text: str) -> None:
        if text == "2":
            publishing.set()
            await anyio.sleep_forever()

    world.when_publishing(hang)
    relay = world.relay()
    async with anyio.create_task_group() as tasks:
        await relay.send(Notes, record(1, 2), tasks, wait=False)
        await publishing.wait()
        tasks.cancel_scope.cancel()
    assert world.taken == ["1"]
    assert await world.outbox() == ([2], NOW)
    world.when_publishing(_nothing)
    await relay.send(Notes, record(2), None, wait=True)
    assert world.taken == ["1", "2"]


async def test_task_group_that_is_closed_leaves_the_messages_in_the_saga(world: World) -> None:
    await world.store(record(1))
    async with anyio.create_task_group() as tasks:
        pass
    relay = world.relay()
    with anyio.fail_after(20):
        await relay.send(Notes, record(1), tasks, wait=True)
    assert await world.outbox() == ([1], NOW)
    await relay.send(Notes, record(1), None, wait=True)  # nothing of it is left behind
    assert world.taken == ["1"]
