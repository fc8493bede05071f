"""The connection is cut, stands still or carries errors: nothing wrong, and nothing done twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Final

import anyio
import pytest
from anyio import to_thread
from pymongo.collection import Collection
from pymongo.database import Database

from examples.orders import OrderPlaced
from sagaflow import (
    MemoryBus,
    Orchestrator,
    Outcome,
    OutcomeKind,
    RepositoryError,
    RetryPolicy,
    ServerUnavailableError,
    UnknownOutcomeError,
)
from sagaflow._codec.documents import Bookkeeping, DocumentChange
from sagaflow._model.record import Lease
from sagaflow.mongo import MongoRepository
from tests.reliability.books import Books, audit, employ_participants, unfinished
from tests.reliability.proxy import DONE, Fault, Harm, Proxy
from tests.reliability.shop import Counted, Opened, Reverted, ShopOrder, Tally, total_of

pytestmark = pytest.mark.anyio

Document = dict[str, Any]

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
CUTS: Final = (
    Harm.CUT_BEFORE,
    Harm.CUT_WITHIN_REQUEST,
    Harm.CUT_AFTER,
    Harm.CUT_WITHIN_ANSWER,
)
STEPPED_DOWN: Final = {"ok": 0.0, "errmsg": "not primary", "code": 10107}
FORBIDDEN: Final = {"ok": 0.0, "errmsg": "not authorized", "code": 13}
NOT_REPLICATED: Final = {
    "writeConcernError": {"code": 64, "codeName": "WriteConcernTimeout", "errmsg": "too slow"}
}


def tally(**fields: object) -> Document:
    """Return a document as sagaflow would store it."""
    document: Document = {"_id": "t", "incarnation": "i", "version": 1, "state": "counting"}
    document["outbox"] = [{"id": "m-1"}]
    document["wake"] = NOW
    return document | fields


def to_version_2() -> DocumentChange:
    """Return a change of that document."""
    return DocumentChange(
        correlation_id="t", incarnation="i", version=1, set={"version": 2, "data.total": 5}
    )


Write = Callable[[MongoRepository], Awaitable[bool]]

WRITES: Final[dict[str, tuple[str, Write, Document]]] = {
    "insert": (
        "insert",
        lambda repository: repository.insert_document("Tally", tally(_id="new")),
        {"_id": "new", "version": 1},
    ),
    "update": (
        "update",
        lambda repository: repository.update_document("Tally", to_version_2()),
        {"_id": "t", "version": 2, "data": {"total": 5}},
    ),
    "bookkeep": (
        "update",
        lambda repository: repository.bookkeep(
            "Tally",
            Bookkeeping(correlation_id="t", incarnation="i", version=1, sent=("m-1",)),
        ),
        {"_id": "t", "outbox": []},
    ),
    "claim": (
        "update",
        lambda repository: repository.claim(
            "Tally", "t", Lease(owner="o", until=NOW + timedelta(seconds=1)), NOW
        ),
        {"_id": "t", "lease.owner": "o"},
    ),
}
"""The command of each write, the write, and what finds its document once it is done."""


@pytest.fixture
def collection(database: Database[Document]) -> Collection[Document]:
    """The documents of tallies, with one in it, behind the library's back."""
    collection = database["Tally"]
    collection.insert_one(tally())
    return collection


@pytest.mark.parametrize("harm", CUTS)
@pytest.mark.parametrize("name", WRITES)
async def test_write_without_an_answer_has_an_unknown_outcome(
    name: str, harm: Harm, wired: MongoRepository, proxy: Proxy, collection: Collection[Document]
) -> None:
    command, write, done = WRITES[name]
    fault = proxy.plant(Fault(harm, command))
    with pytest.raises(UnknownOutcomeError, match="the connection was lost"):
        await write(wired)
    assert fault.reached.is_set()
    assert (collection.find_one(done) is not None) == (harm in DONE)


@pytest.mark.parametrize("name", WRITES)
async def test_write_refused_by_a_server_that_steps_down_has_an_unknown_outcome(
    name: str, wired: MongoRepository, proxy: Proxy, collection: Collection[Document]
) -> None:
    command, write, done = WRITES[name]
    proxy.plant(Fault(Harm.REFUSE, command, answer=STEPPED_DOWN))
    with pytest.raises(UnknownOutcomeError):
        await write(wired)
    assert collection.find_one(done) is None


@pytest.mark.parametrize("name", WRITES)
async def test_write_that_is_not_replicated_in_time_has_an_unknown_outcome(
    name: str, wired: MongoRepository, proxy: Proxy, collection: Collection[Document]
) -> None:
    command, write, done = WRITES[name]
    proxy.plant(Fault(Harm.AMEND, command, answer=NOT_REPLICATED))
    with pytest.raises(UnknownOutcomeError, match="acknowledgement was lost"):
        await write(wired)
    assert collection.find_one(done) is not None


@pytest.mark.parametrize("name", WRITES)
async def test_write_that_the_server_forbids_has_failed_for_certain(
    name: str, wired: MongoRepository, proxy: Proxy, collection: Collection[Document]
) -> None:
    command, write, done = WRITES[name]
    proxy.plant(Fault(Harm.REFUSE, command, answer=FORBIDDEN))
    with pytest.raises(RepositoryError, match="not authorized") as raised:
        await write(wired)
    assert not isinstance(raised.value, UnknownOutcomeError)
    assert collection.find_one(done) is None


@pytest.mark.parametrize("harm", CUTS)
@pytest.mark.usefixtures("collection")
async def test_read_without_an_answer_says_that_the_server_is_unavailable(
    harm: Harm, wired: MongoRepository, proxy: Proxy
) -> None:
    proxy.plant(Fault(harm, "find", times=2))
    with pytest.raises(ServerUnavailableError):
        await wired.load_document("Tally", "t", message_id="m")
    with pytest.raises(ServerUnavailableError):
        [found async for found in wired.due("Tally", NOW, unclaimed=False)]
    found = await wired.load_document("Tally", "t", message_id=None)
    assert found is not None
    assert found["version"] == 1


@pytest.mark.parametrize("harm", CUTS)
async def test_start_whose_answer_is_lost_is_stored_once_and_told_truly(
    harm: Harm, wired: MongoRepository, proxy: Proxy
) -> None:
    orchestrator = Orchestrator([Tally], wired)
    fault = proxy.plant(Fault(harm, "insert"))
    outcome = await orchestrator.handle(Opened("a"), message_id="m-1")
    assert (outcome.kind, outcome.version) == (OutcomeKind.STARTED, 1)
    assert fault.seen == (1 if harm in DONE else 2)


@pytest.mark.parametrize("harm", CUTS)
async def test_update_whose_answer_is_lost_is_stored_once_and_told_truly(
    harm: Harm, wired: MongoRepository, proxy: Proxy
) -> None:
    orchestrator = Orchestrator([Tally], wired)
    await orchestrator.handle(Opened("a"))
    fault = proxy.plant(Fault(harm, "update"))
    outcome = await orchestrator.handle(Counted("a", 5), message_id="m-2")
    assert (outcome.kind, outcome.version) == (OutcomeKind.STAYED, 2)
    assert fault.seen == (1 if harm in DONE else 2)
    instance = await orchestrator.find(Tally, "a")
    assert instance is not None
    assert (instance.saga.total, len(instance.compensations)) == (5, 1)


@pytest.mark.parametrize("harm", [Harm.CUT_BEFORE, Harm.CUT_AFTER])
@pytest.mark.parametrize("number", [1, 2, 3])
async def test_compensation_whose_answers_are_lost_undoes_each_step_once(
    number: int, harm: Harm, wired: MongoRepository, proxy: Proxy
) -> None:
    orchestrator = Orchestrator([Tally], wired)
    for event in (Opened("a"), Counted("a", 5), Counted("a", 7)):
        await orchestrator.handle(event)
    fault = proxy.plant(Fault(harm, "update", number=number))
    outcome = await orchestrator.handle(Reverted("a"))
    assert fault.reached.is_set()
    assert (outcome.kind, outcome.state) == (OutcomeKind.TRANSITIONED, Tally.reverted)
    assert outcome.version == 6
    instance = await orchestrator.find(Tally, "a")
    assert instance is not None
    assert instance.saga.taken_back == 12


async def test_event_that_was_stored_is_not_told_as_failed_if_what_follows_fails(
    wired: MongoRepository, proxy: Proxy
) -> None:
    orchestrator = Orchestrator([Tally], wired)
    for event in (Opened("a"), Counted("a", 5)):
        await orchestrator.handle(event)
    proxy.plant(Fault(Harm.REFUSE, "update", number=2, answer=FORBIDDEN))
    outcome = await orchestrator.handle(Reverted("a"), message_id="m-3")
    assert (outcome.kind, outcome.version) == (OutcomeKind.COMPENSATING, 3)
    proxy.plant(Fault(Harm.REFUSE, "update", number=2, answer=FORBIDDEN))
    outcome = await orchestrator.handle(Counted("a", 7), message_id="m-4")
    assert (outcome.kind, outcome.version) == (OutcomeKind.DEFERRED, 4)
    await orchestrator.run_due()
    instance = await orchestrator.find(Tally, "a")
    assert instance is not None
    assert (instance.state, instance.saga.taken_back) == (Tally.reverted, 5)


@pytest.mark.parametrize("harm", [Harm.CUT_BEFORE, Harm.CUT_AFTER])
async def test_lost_answer_is_found_out_although_others_have_written_since(
    harm: Harm, wired: MongoRepository, proxy: Proxy, database: Database[Document]
) -> None:
    orchestrator = Orchestrator([Tally], wired)
    await orchestrator.handle(Opened("a"))
    proxy.plant(Fault(harm, "update"))
    resolution = proxy.plant(Fault(Harm.HOLD, "find"))
    outcomes: list[Outcome] = []

    async def count() -> None:
        outcomes.append(await orchestrator.handle(Counted("a", 5), message_id="m-2"))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count)
            await to_thread.run_sync(resolution.reached.wait)
            other = Orchestrator([Tally], MongoRepository(database))
            await other.handle(Counted("a", 7), message_id="m-3")
            resolution.released.set()
    [outcome] = outcomes
    assert (outcome.kind, outcome.version) == (OutcomeKind.STAYED, 2 if harm in DONE else 3)
    instance = await orchestrator.find(Tally, "a")
    assert instance is not None
    assert (instance.version, instance.saga.total) == (3, 12)


async def test_event_whose_task_is_cancelled_while_it_is_stored_is_stored_once(
    wired: MongoRepository, proxy: Proxy
) -> None:
    """The task does not end before the answer is there: nobody is left with an unknown outcome."""
    orchestrator = Orchestrator([Tally], wired)
    await orchestrator.handle(Opened("a"))
    fault = proxy.plant(Fault(Harm.HOLD, "update"))
    scope, ended = anyio.CancelScope(), anyio.Event()

    async def count() -> None:
        with scope:
            await orchestrator.handle(Counted("a", 5), message_id="m-2")
        ended.set()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count)
            await to_thread.run_sync(fault.reached.wait)
            scope.cancel()
            await anyio.wait_all_tasks_blocked()
            assert not ended.is_set()
            fault.released.set()
    outcome = await orchestrator.handle(Counted("a", 5), message_id="m-2")
    assert (outcome.kind, outcome.version) == (OutcomeKind.DUPLICATE, 2)


async def test_saga_that_waits_for_the_server_keeps_no_other_waiting(
    wired: MongoRepository, proxy: Proxy
) -> None:
    orchestrator = Orchestrator([Tally], wired)
    await orchestrator.handle(Opened("a"))
    await orchestrator.handle(Opened("b"))
    fault = proxy.plant(Fault(Harm.HOLD, "update"))
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(orchestrator.handle, Counted("a", 5))
            await to_thread.run_sync(fault.reached.wait)
            assert (await orchestrator.handle(Counted("b", 7))).kind is OutcomeKind.STAYED
            fault.released.set()


PLACES: Final = (("insert", 1), ("find", 2), ("update", 1), ("update", 3), ("update", 6))


@pytest.mark.parametrize("harm", [Harm.CUT_BEFORE, Harm.CUT_AFTER])
async def test_order_is_completed_or_undone_although_the_connection_is_cut(
    harm: Harm, wired: MongoRepository, proxy: Proxy, database: Database[Document]
) -> None:
    orders = [f"{number}-unshippable" for number in range(len(PLACES))]
    for order, (command, number) in zip(orders, PLACES, strict=True):
        fault = Fault(harm, command, number=number, about="OrderSaga")
        proxy.plant(fault)
        await _run_order(order, wired, database, reads=command == "find")
        proxy.clear()
        assert fault.reached.is_set()
    audit(database, orders)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("harm", CUTS)
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_order_is_completed_or_undone_wherever_the_connection_is_cut(
    times: int, harm: Harm, wired: MongoRepository, proxy: Proxy, database: Database[Document]
) -> None:
    orders: list[str] = []
    for command, at_least in (("insert", 1), ("find", 3), ("update", 5)):
        for number in count(1):
            orders.append(f"{len(orders)}-unshippable")
            fault = Fault(harm, command, number=number, times=times, about="OrderSaga")
            proxy.plant(fault)
            await _run_order(orders[-1], wired, database, reads=command == "find")
            proxy.clear()
            if not fault.reached.is_set():  # an order has no more of these requests
                assert number > at_least
                break
    audit(database, orders)


async def _run_order(
    order: str, repository: MongoRepository, database: Database[Document], *, reads: bool
) -> None:
    """Place an order and do all of its work, whatever happens to it.

    :param reads: read the saga for each event, rather than rest on what is kept of it.
    """
    bus = MemoryBus()
    employ_participants(bus, Books(database))
    soon = RetryPolicy(initial_delay=timedelta(milliseconds=1), max_delay=timedelta(milliseconds=1))
    # An orchestrator that is entered only listens here: what is due is done by run_due().
    async with Orchestrator(
        [ShopOrder],
        repository,
        bus=bus,
        background=False,
        retry=soon,
        hot_sagas=0 if reads else 5_000,
    ) as orchestrator:
        await _place(orchestrator, order)
        with anyio.fail_after(30):
            while await to_thread.run_sync(unfinished, database, [order]):
                with suppress(RepositoryError, ExceptionGroup):
                    await orchestrator.run_due()


async def _place(orchestrator: Orchestrator, order: str) -> None:
    """Place an order as a client does: again and again, until it is accepted."""
    event = OrderPlaced(order, total_of(order))
    while True:
        with suppress(RepositoryError):
            outcome = await orchestrator.handle(event, message_id=f"placing {order}")
            assert outcome.kind in {OutcomeKind.STARTED, OutcomeKind.DUPLICATE}
            return
