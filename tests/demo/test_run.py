"""The run: on memory and on MongoDB, with each driver, on both runtimes."""

from __future__ import annotations

from decimal import Decimal

import attrs
import pytest

from sagaflow._model.envelope import Envelope
from sagaflow.abc import SagaRepository
from sagaflow.demo.books import Books, Ledger
from sagaflow.demo.example import orders
from sagaflow.demo.participants import Payment
from sagaflow.demo.run import run, work_here
from sagaflow.demo.server import Server
from sagaflow.demo.settings import Settings, Watcher
from sagaflow.exceptions import RepositoryError, SagaflowError, ServerUnavailableError
from sagaflow.memory import MemoryRepository
from sagaflow.orchestrator import Orchestrator
from tests.demo.support import SERVER, Counting


class Failing(Watcher):
    """Fails once the server answers."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def begun(self, settings: Settings, server: Server, placed: int) -> None:
        raise self.error


@pytest.mark.anyio
@pytest.mark.parametrize("kept", [True, False], ids=["durable books", "books in memory"])
async def test_orders_are_completed_or_undone_and_it_adds_up(
    repository: SagaRepository, kept: bool
) -> None:
    watcher = Counting()
    settings = Settings(orders=12, failures=0.5, concurrency=5, seed=4)
    server = attrs.evolve(SERVER, kept=kept)
    result = await work_here(settings, server, repository, watcher)
    assert result.reconciles, result.equations
    assert {state: number for state, number in result.states.items() if number} == {
        "completed": 6,
        "failed": 6,
    }
    assert (watcher.placed_before, watcher.done, result.placed) == (0, 12, 12)
    assert result.elapsed.total_seconds() > 0
    books = result.books
    assert len(books.payment.declined) == 2
    assert len(books.inventory.out_of_stock) == 2
    assert len(books.shipping.refused) == 2
    assert len(books.payment.refunded) == 4
    assert books.inventory.released.total() == 2
    assert await Ledger(repository).read() == (books if kept else Books())
    stored = [found async for found in repository.find_by_state(orders.OrderSaga, "completed")]
    assert sum(found.saga.total for found in stored) == result.equations[0].expected


@pytest.mark.anyio
async def test_the_outcome_depends_on_the_seed_only() -> None:
    """Not on how many orders are under way at a time."""
    results = [
        await work_here(
            Settings(orders=30, failures=0.4, seed=9, concurrency=concurrency),
            SERVER,
            MemoryRepository(),
            Watcher(),
        )
        for concurrency in (1, 30)
    ]
    first, second = results
    assert first.states == second.states
    assert first.states["failed"] == 12
    assert first.books == second.books


@pytest.mark.anyio
async def test_what_is_stored_counts_and_not_what_the_run_believes() -> None:
    """An order that somebody else has placed: it is worked off, and it is one too many."""
    repository = MemoryRepository()
    settings = Settings(orders=2, failures=0)
    await work_here(settings, SERVER, repository, Watcher())
    async with Orchestrator([orders.OrderSaga], repository) as without_a_bus:
        await without_a_bus.handle(orders.OrderPlaced("stranger", Decimal(5)))
    resumed = attrs.evolve(settings, resume=True)
    result = await work_here(resumed, SERVER, repository, Watcher())
    assert result.states["completed"] == 3
    assert result.crashes.leftovers == 1
    wrong = [equation for equation in result.equations if not equation.holds]
    assert [equation.name for equation in wrong] == ["sagas stored = orders placed"]
    assert wrong[0].faults == ("stranger (completed): never placed",)


@pytest.mark.anyio
async def test_what_fails_once_is_waited_for(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message is offered again after a while."""
    failing, refunded = ["once"], Payment.refund

    async def refund(self: Payment, envelope: Envelope[orders.RefundPayment]) -> None:
        if failing:
            raise OSError(failing.pop())
        await refunded(self, envelope)

    monkeypatch.setattr(Payment, "refund", refund)
    settings = Settings(orders=3, failures=1, seed=4)
    result = await work_here(settings, SERVER, MemoryRepository(), Watcher())
    assert result.reconciles, result.equations
    assert not failing


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_one_error_stands_for_all_tasks_that_met_it(runtime: str, mongodb_uri: str) -> None:
    lost = ServerUnavailableError("lost")
    watcher = Failing(ExceptionGroup("several", [lost, ExceptionGroup("x", [RepositoryError()])]))
    with pytest.raises(SagaflowError) as raised:
        run(Settings(mongodb=mongodb_uri, runtime=runtime), watcher)
    assert raised.value is lost


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_an_interrupt_counts_more_than_what_it_causes(runtime: str, mongodb_uri: str) -> None:
    group = BaseExceptionGroup("both", [RepositoryError("lost"), KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        run(Settings(mongodb=mongodb_uri, runtime=runtime), Failing(group))


def test_an_error_that_nobody_foresaw_is_not_hidden(mongodb_uri: str) -> None:
    group = ExceptionGroup("both", [RepositoryError("lost"), ZeroDivisionError()])
    with pytest.raises(ExceptionGroup) as raised:
        run(Settings(mongodb=mongodb_uri), Failing(group))
    assert raised.value is group


def test_a_single_error_is_raised_as_it_is(mongodb_uri: str) -> None:
    error = RepositoryError("lost")
    with pytest.raises(RepositoryError) as raised:
        run(Settings(mongodb=mongodb_uri), Failing(error))
    assert raised.value is error


def test_settings_do_not_show_the_uri() -> None:
    assert "secret" not in repr(Settings(mongodb="mongodb://user:secret@h"))
