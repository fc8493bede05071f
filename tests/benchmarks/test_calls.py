"""How much an event in memory may call: a number that does not depend on the machine."""

from __future__ import annotations

from benchmarks.work import calls

MOST = 350
MOST_IN_PYTHON = 190
"""They are lowered with each thing that an event no longer does."""


def test_an_event_in_memory_takes_few_calls() -> None:
    found = calls().metrics
    assert found["python_calls"] <= MOST_IN_PYTHON
    assert found["calls"] <= MOST
