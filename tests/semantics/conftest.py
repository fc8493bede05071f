"""What the tests of the semantics share."""

from __future__ import annotations

import pytest

from sagaflow import MemoryRepository, SagaRepository
from sagaflow.testing import ManualClock
from tests.semantics.patient import FAULTS


@pytest.fixture
def memory(clock: ManualClock) -> SagaRepository:
    """A repository in memory: for what no store has a say in."""
    return MemoryRepository(clock=clock)


@pytest.fixture(autouse=True)
def _nothing_fails() -> None:
    """What one test has broken works in the next."""
    FAULTS.__init__()  # type: ignore[misc]
