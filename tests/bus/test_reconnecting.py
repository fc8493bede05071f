"""How long a bus waits before it tries a broker again."""

from __future__ import annotations

import anyio
import pytest
from attrs import define, field

from sagaflow.bus.transport import Handle
from sagaflow.exceptions import BusError
from tests.bus.test_two_buses import Loop, Pay, bus_over
from tests.virtual_time import run_in_virtual_time

WELL = 60.0


@define
class Failing(Loop):
    """A broker that is well for a while, and then lost.

    :ivar lasts: for how many seconds it is well, one connection after another.
    :ivar pauses: how long it was not asked after it had failed.
    """

    lasts: list[float] = field(factory=list[float])
    pauses: list[float] = field(factory=list[float])
    _failed_at: float | None = None

    async def consume(self, handle: Handle, *, concurrency: int, stopping: anyio.Event) -> None:
        if self._failed_at is not None:
            self.pauses.append(anyio.current_time() - self._failed_at)
        if not self.lasts:
            await stopping.wait()
            return
        await anyio.sleep(self.lasts.pop(0))
        self._failed_at = anyio.current_time()
        raise BusError("the connection was lost")


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_bus_is_said_to_be_back_when_it_is(runtime: str, caplog: pytest.LogCaptureFixture) -> None:
    """And not each time that it is tried again."""
    failing = Failing(lasts=[0.0] * 12)
    caplog.set_level("WARNING", "sagaflow.bus")

    async def main() -> None:
        bus = bus_over(failing)
        bus.subscribe(Pay, print)
        async with bus:
            while failing.lasts:
                await anyio.sleep(0.01)
                assert (bus.down_since is None) == (len(failing.lasts) == 12)
            await anyio.sleep(WELL)
            assert bus.down_since is None

    run_in_virtual_time(runtime, main)
    down, back = (record.getMessage() for record in caplog.records)
    assert "the bus is down, and is tried again: BusError: the connection was lost" in down
    assert back.endswith("the bus is back")


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_pauses_grow_while_a_broker_fails_and_are_short_again_after_it_was_well(
    runtime: str,
) -> None:
    failing = Failing(lasts=[*[0.0] * 12, WELL, WELL])

    async def main() -> None:
        bus = bus_over(failing)
        bus.subscribe(Pay, print)
        async with bus:
            await anyio.sleep(10 * WELL)

    run_in_virtual_time(runtime, main)
    assert len(failing.pauses) == 14
    assert all(0.05 <= pause <= 0.1 for pause in (failing.pauses[0], *failing.pauses[-2:]))
    assert all(2.5 <= pause <= 5 for pause in failing.pauses[8:12])
