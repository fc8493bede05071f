"""What the tests of the semantics share."""

from __future__ import annotations

import pytest

from sagaflow import MemoryRepository, SagaRepository
from sagaflow.testing import ManualClock


@pytest.fixture
def memory(clock: ManualClock) -> SagaRepository:
    """A repository in memory: for what no store has a say in."""
    return MemoryRepository(clock=clock)
