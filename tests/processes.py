"""A process for the parts of an orchestrator that are tested by themselves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from sagaflow._model.clock import Clock
from sagaflow._runtime.process import Process
from sagaflow.testing import ManualClock


def process_at(
    clock: Clock | None = None,
    *,
    lease: timedelta = timedelta(seconds=10),
    class_of: Callable[[str], type | None] = lambda _: None,
) -> Process:
    """Return a process by that clock, whose chance is always one half."""
    return Process(
        clock=clock or ManualClock(),
        owner="this process",
        lease=lease,
        random=lambda: 0.5,
        class_of=class_of,
    )
