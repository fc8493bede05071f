"""`run_due` when several sagas fail: each failure is told, whatever comes after it."""

from __future__ import annotations

from typing import Any

import pytest

from sagaflow import (
    DamagedDocumentError,
    MemoryRepository,
    Orchestrator,
    RepositoryError,
    ServerUnavailableError,
)
from sagaflow.testing import ManualClock
from tests.semantics.sagas import Account, Opened
from tests.semantics.support import Passing

pytestmark = pytest.mark.anyio


class Failing(Passing):
    """Reads some sagas with an error."""

    errors: dict[object, Exception]

    async def load_document(self, saga: str, correlation_id: Any, **options: Any) -> Any:
        if correlation_id in self.errors:
            raise self.errors[correlation_id]
        return await super().load_document(saga, correlation_id, **options)


async def due_account(*errors: Exception) -> Orchestrator:
    """Return an orchestrator with as many due sagas, which cannot be read for these reasons."""
    clock = ManualClock()
    memory = MemoryRepository(clock=clock)
    for number in range(len(errors)):
        await Orchestrator([Account], memory, clock=clock).handle(Opened(f"a-{number}"))
        document = await memory.load_document("Account", f"a-{number}", message_id=None)
        assert document is not None
        await memory.delete_document("Account", f"a-{number}")
        await memory.insert_document("Account", document | {"wake": clock.now()})
    failing = Failing(memory)
    failing.errors = {f"a-{number}": error for number, error in enumerate(errors)}
    return Orchestrator([Account], failing, clock=clock)


async def test_outage_does_not_hide_what_has_failed_before(anyio_backend: str) -> None:
    damaged = DamagedDocumentError("Account", "a-0", "it is damaged")
    away = ServerUnavailableError("nobody there")
    orchestrator = await due_account(damaged, away, RepositoryError("not asked any more"))
    with pytest.raises(ExceptionGroup) as raised:
        await orchestrator.run_due()
    assert raised.value.exceptions == (damaged, away)


async def test_outage_alone_is_raised_as_it_is(anyio_backend: str) -> None:
    orchestrator = await due_account(ServerUnavailableError("nobody there"))
    with pytest.raises(ServerUnavailableError, match="nobody there"):
        await orchestrator.run_due()
