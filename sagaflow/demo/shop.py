"""Where the work of the demo is done, in whatever process: sagas, participants, and customers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import anyio
from attrs import frozen

from sagaflow._concurrency.generators import closing
from sagaflow.abc import SagaRepository
from sagaflow.bus.memory import MemoryBus
from sagaflow.demo.books import Ledger
from sagaflow.demo.example import orders
from sagaflow.demo.participants import take_part
from sagaflow.demo.plan import Order
from sagaflow.orchestrator import Orchestrator

_PATIENCE: Final = timedelta(seconds=5)
_PAUSE: Final = timedelta(milliseconds=50)


@frozen
class Shop:
    """An orchestrator with participants."""

    _orchestrator: Orchestrator
    _repository: SagaRepository

    @classmethod
    @asynccontextmanager
    async def open(
        cls, repository: SagaRepository, ledger: Ledger, planned: Collection[Order]
    ) -> AsyncGenerator[Shop]:
        """Open a shop, and close it at the end.

        :param repository: where the sagas are.
        :param ledger: where the books are.
        :param planned: which orders will be refused.
        """
        bus = MemoryBus()
        take_part(bus, ledger, planned)
        async with Orchestrator([orders.OrderSaga], repository, bus=bus) as orchestrator:
            yield cls(orchestrator, repository)

    async def catch_up(self) -> int:
        """Do what a shop that was closed by force has left; return for how many orders."""
        return await self._orchestrator.run_due()

    async def place(
        self, waiting: Collection[Order], concurrency: int, placed: Callable[[Order], object]
    ) -> None:
        """Place orders, and report each one that is accepted; an order that was there already, too.

        :param concurrency: how many orders are placed at a time.
        """
        queue = iter(waiting)
        async with anyio.create_task_group() as customers:
            for _ in range(min(concurrency, len(waiting))):
                customers.start_soon(self._place, queue, placed)

    async def settle(self) -> None:
        """Do what is left to do.

        A message that the bus did not accept at once is still in its saga, and is offered again
        after a while. If it is not accepted within some seconds, it never will be.
        """
        deadline = anyio.current_time() + _PATIENCE.total_seconds()
        while await self._orchestrator.run_due() or await self._is_waiting():
            if anyio.current_time() > deadline:
                return
            await anyio.sleep(_PAUSE.total_seconds())

    async def _is_waiting(self) -> bool:
        """Tell whether something will be due soon; an order that waits for an answer is not."""
        soon = datetime.now(UTC) + _PATIENCE
        due = self._repository.due(orders.OrderSaga.table.saga, soon, unclaimed=False)
        async with closing(due) as waiting:
            return await anext(aiter(waiting), None) is not None

    async def _place(self, queue: Iterator[Order], placed: Callable[[Order], object]) -> None:
        """Be one of the customers: place an order that is waiting, then the next."""
        for order in queue:
            event = orders.OrderPlaced(order.order_id, order.total)
            message_id = f"{order.order_id}:placed"  # also if it is placed once more
            await self._orchestrator.handle(event, message_id=message_id)
            placed(order)
