"""A saga that is full can still be undone, suspended and operated on; ids are bounded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest
from attrs import evolve, frozen

from sagaflow import (
    Context,
    CorrelationError,
    Envelope,
    Failing,
    LimitExceededError,
    Limits,
    MemoryRepository,
    OperationError,
    Orchestrator,
    OutcomeKind,
    RetryPolicy,
    Saga,
    SagaRepository,
    SerializationError,
    State,
    Status,
    Suspension,
    SuspensionReason,
    compensates,
    during,
    initially,
)
from sagaflow._codec.documents import DocumentChange, decode_record
from sagaflow._forms.size import document_size
from sagaflow._model.ids import MOST_STORED
from sagaflow._runtime.headroom import FEW_ENTRIES, NEARLY_FULL, RESERVE, slimmed
from sagaflow._runtime.hot_sagas import HotSagas
from sagaflow.testing import ManualClock
from tests.contract.records import record
from tests.semantics.support import RecordingBus, stored

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
LIMITS = Limits(warn_bytes=20_000, max_bytes=20_000)


@frozen
class Filled:
    vat: str
    bytes: int


@frozen
class Stirred:
    vat: str


@frozen
class Drain:
    vat: str
    text: str = ""


class Vat(Saga, correlate_by="vat"):
    """Takes as much as it may."""

    full = State()
    empty = State(final=True)

    content: str = ""

    @initially.on(Filled).goto(full)
    def fill(self, event: Filled, ctx: Context) -> None:
        self.content = "x" * event.bytes

    @compensates(fill)
    def drain(self, event: Filled, ctx: Context) -> None:
        ctx.send(Drain(event.vat, "y" * _drained[0]))

    @during(full).on(Stirred).stay()
    def stir(self, event: Stirred, ctx: Context) -> None:
        raise ValueError("it is too full to be stirred: " + "z" * 10_000)

    @during(full).after(MINUTE).goto(empty)
    def give_up(self, ctx: Context) -> None:
        raise ValueError("it cannot be given up: " + "z" * 10_000)


_drained = [100]


def orchestrator(
    repository: SagaRepository, clock: ManualClock, limits: Limits = LIMITS
) -> Orchestrator:
    return Orchestrator(
        [Vat],
        repository,
        bus=RecordingBus(),
        clock=clock,
        limits=limits,
        retry=RetryPolicy(max_age=5 * MINUTE),
    )


async def filled(vats: Orchestrator) -> None:
    """Fill a vat to the last byte that it may take."""
    with pytest.raises(LimitExceededError) as caught:
        await vats.handle(Filled("v", 30_000))
    room = 30_000 - (caught.value.count - caught.value.limit)
    with pytest.raises(LimitExceededError):
        await vats.handle(Filled("v", room + 1))
    assert (await vats.handle(Filled("v", room))).kind is OutcomeKind.STARTED


async def test_full_saga_is_cancelled_and_undone(
    repository: SagaRepository, clock: ManualClock
) -> None:
    _drained[0] = 5_000
    vats = orchestrator(repository, clock)
    await filled(vats)
    await vats.cancel(Vat, "v", state=Vat.empty)
    found = await vats.find(Vat, "v")
    assert found is not None
    assert found.status is Status.FINISHED


async def test_step_that_takes_too_much_to_be_undone_is_suspended_and_skipped(
    repository: SagaRepository, clock: ManualClock
) -> None:
    _drained[0] = RESERVE
    vats = orchestrator(repository, clock)
    await filled(vats)
    await vats.cancel(Vat, "v", state=Vat.empty)
    for _ in range(3):
        clock.advance(5 * MINUTE)
        await vats.run_due()
    found = await vats.find(Vat, "v")
    assert found is not None
    assert found.suspension is not None
    assert "LimitExceededError" in found.suspension.error
    await vats.skip(Vat, "v")
    found = await vats.find(Vat, "v")
    assert found is not None
    assert found.status is Status.FINISHED


async def test_full_saga_is_suspended_with_what_its_timer_said(
    repository: SagaRepository, clock: ManualClock
) -> None:
    _drained[0] = 100
    vats = orchestrator(repository, clock)
    await filled(vats)
    for _ in range(3):
        clock.advance(5 * MINUTE)
        await vats.run_due()
    found = await vats.find(Vat, "v")
    assert found is not None
    assert found.suspension is not None
    assert "it cannot be given up" in found.suspension.error
    await vats.retry(Vat, "v")
    await vats.cancel(Vat, "v", state=Vat.empty)
    found = await vats.find(Vat, "v")
    assert found is not None
    assert found.status is Status.FINISHED


async def test_saga_that_the_database_can_hardly_hold_is_slimmed_by_what_an_operator_decides(
    clock: ManualClock, anyio_backend: str
) -> None:
    repository = MemoryRepository(clock=clock)
    vats = orchestrator(repository, clock, Limits(warn_bytes=2**40, max_bytes=2**40))
    await vats.handle(Filled("v", NEARLY_FULL))
    for _ in range(80):
        clock.advance(5 * MINUTE)
        await vats.run_due()
        found = await vats.find(Vat, "v")
        assert found is not None
        if found.status is Status.SUSPENDED:
            await vats.resume(Vat, "v")
            document = await stored(repository, Vat, "v")
            assert document is not None
            assert len(document["history"]) <= FEW_ENTRIES
            record = decode_record(document, "Vat")
            texts = [t.failing.error for t in record.timers if t.failing is not None]
            assert texts
            assert max(map(len, texts)) < 250
            return
    raise AssertionError("it was never suspended")


class Narrow(MemoryRepository):
    """Refuses what is larger than so many bytes, as a server does."""

    most = 20_000

    async def update_document(self, saga: str, change: DocumentChange) -> bool:
        before = await self.load_document(saga, change.correlation_id, message_id=None)
        stored = await super().update_document(saga, change)
        if not stored:
            return False
        after = await self.load_document(saga, change.correlation_id, message_id=None)
        assert after is not None
        if document_size(after) > self.most:
            assert before is not None
            await self.delete_document(saga, change.correlation_id)
            await self.insert_document(saga, before)
            raise SerializationError(saga, "the saga would be larger than the server allows")
        return True


async def test_saga_that_the_server_refuses_to_undo_is_suspended_all_the_same(
    clock: ManualClock, anyio_backend: str
) -> None:
    _drained[0] = 5_000
    repository = Narrow(clock=clock)
    vats = orchestrator(repository, clock, Limits())
    await vats.handle(Filled("v", 15_900))
    await vats.cancel(Vat, "v", state=Vat.empty)
    for _ in range(20):
        clock.advance(MINUTE)
        await vats.run_due()
    found = await vats.find(Vat, "v")
    assert found is not None
    assert found.status is Status.SUSPENDED
    assert found.suspension is not None
    await vats.skip(Vat, "v")
    found = await vats.find(Vat, "v")
    assert found is not None
    assert found.status is Status.FINISHED


def test_slimmed_saga_has_the_same_failures() -> None:
    failing = Failing(
        attempts=3, since=ManualClock().now(), due=ManualClock().now(), error="x" * 4_000
    )
    clock = ManualClock()

    async def made() -> None:
        repository = MemoryRepository(clock=clock)
        await orchestrator(repository, clock).handle(Filled("v", 5))
        document = await stored(repository, Vat, "v")
        assert document is not None
        before = evolve(decode_record(document, "Vat"), sending=failing)
        after = slimmed(before)
        assert after.sending == evolve(failing, error="x" * 200 + "...")
        assert evolve(after, sending=None) == evolve(before, sending=None)

    anyio.run(made)


def test_slimmed_failure_tells_what_was_wrong(clock: ManualClock) -> None:
    now, frames = clock.now(), '  File "handlers.py", line 1, in handler\n' * 50
    said = f"Traceback (most recent call last):\n{frames}ValueError: no funds\n"
    full = record(
        suspension=Suspension(
            reason=SuspensionReason.HANDLER,
            subject="Filled",
            error=said,
            since=now,
        ),
        sending=Failing(attempts=1, since=now, due=now, error=f"BusError: {'x' * 4_000}"),
    )
    after = slimmed(full)
    assert after.suspension is not None
    assert after.suspension.error.endswith("ValueError: no funds\n")
    assert len(after.suspension.error) == 203
    assert after.sending is not None
    assert after.sending.error.startswith("BusError: xxx")


# Ids


@pytest.mark.parametrize("size", [1_025, 17_000_000])
@pytest.mark.parametrize("letter", ["x", "é"])
async def test_long_ids_are_refused_with_a_clear_error(
    size: int, letter: str, repository: SagaRepository, clock: ManualClock
) -> None:
    long = letter * (size // len(letter.encode()) + 1)
    vats = orchestrator(repository, clock)
    with pytest.raises(CorrelationError, match=r"cannot be a correlation id: it has .* bytes"):
        await vats.handle(Filled(long, 1))
    with pytest.raises(CorrelationError, match=r"cannot be a message id: it has .* bytes"):
        await vats.handle(Filled("v", 1), message_id=long)
    for asked in (vats.retry, vats.skip, vats.resume, vats.cancel):
        with pytest.raises((CorrelationError, OperationError)) as caught:
            await asked(Vat, long)
        assert isinstance(caught.value, CorrelationError) is (size > MOST_STORED)
    if size > MOST_STORED:  # no document can hold it
        for of_it in (vats.find(Vat, long), repository.delete(Vat, long)):
            with pytest.raises(CorrelationError, match="1 to 1,024 bytes"):
                await of_it
    else:
        assert await vats.find(Vat, long) is None
        assert not await repository.delete(Vat, long)
    assert not any((await repository.count_by_state(Vat)).values())


async def test_id_may_have_1_kib(repository: SagaRepository, clock: ManualClock) -> None:
    vats = orchestrator(repository, clock)
    await vats.handle(Filled("é" * 512, 1), message_id="x" * 1024)
    assert (await vats.handle(Filled("é" * 512, 1), message_id="x" * 1024)).kind is (
        OutcomeKind.DUPLICATE
    )


async def test_long_id_of_a_delivery_is_told_and_never_stored(
    clock: ManualClock, anyio_backend: str
) -> None:
    class Careless(RecordingBus):
        """Hands on whatever id a message came with."""

        def subscribe(
            self, message_type: type[Any], handler: Callable[..., Any], /, *, envelope: bool = False
        ) -> None:
            self.deliver = handler

    repository, bus = MemoryRepository(clock=clock), Careless()
    delivered: Envelope[object] = Envelope(
        body=Filled("v", 1), id="x" * 2_000, correlation_id=None, causation_id=None, headers={}
    )
    async with Orchestrator([Vat], repository, bus=bus, clock=clock, background=False):
        with pytest.raises(CorrelationError, match=r"cannot be a message id: it has 2,000 bytes"):
            await bus.deliver(delivered)
    assert await repository.find(Vat, "v") is None


# The cache of hot sagas


async def test_sagas_that_are_only_read_count_in_the_cache(
    repository: SagaRepository, clock: ManualClock
) -> None:
    writer = orchestrator(repository, clock)
    await writer.handle(Filled("v", 10_000))
    reader = orchestrator(repository, clock)
    await reader._parts.store.load_hot(Vat, "v")  # pyright: ignore[reportPrivateUsage]
    hot: HotSagas = reader._parts.store.hot  # pyright: ignore[reportPrivateUsage]
    document = await stored(repository, Vat, "v")
    assert document is not None
    del document["history"]
    known = hot.get("Vat", "v")
    assert known is not None
    assert known.size == document_size(document)
