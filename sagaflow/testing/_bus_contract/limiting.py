"""What becomes of messages that wait since their handler has limits.

A limit is kept by each bus for itself: that two processes keep one together is no matter of the
broker.
"""

from __future__ import annotations

from datetime import timedelta

import anyio

from sagaflow._model.errors import BusError
from sagaflow.bus.rate import Rate
from sagaflow.testing._bus_contract.kit import (
    QUICK,
    BusTests,
    Noted,
    OpenBus,
    Remarked,
    Seen,
    promise,
)

_SAGAS = 5


class LimitTests(BusTests):
    """What becomes of messages that wait since their handler has limits."""

    @promise
    async def test_message_that_waits_for_its_turn_holds_up_no_other(
        self, open_bus: OpenBus
    ) -> None:
        """More wait than the bus handles at once; that they have waited is no failure."""
        begun, seen, others = Seen(), Seen(), Seen()
        now, most, may_end = 0, 0, anyio.Event()

        async def take(message: Noted) -> None:
            nonlocal now, most
            begun.add(message)
            now += 1
            most = max(most, now)
            await may_end.wait()
            now -= 1
            if message != begun.items[0] and begun.items.count(message) == 1:
                raise RuntimeError("not yet")
            seen.add(message)

        billing = open_bus("billing", concurrency=2, retry=QUICK)
        billing.subscribe(Noted, take, concurrency=1)
        billing.subscribe(Remarked, others.add)
        async with billing, open_bus("shop") as shop:
            for saga in range(_SAGAS):
                await shop.publish(Noted(f"s-{saga}", 0), correlation_id=f"s-{saga}")
            await begun.wait_for(1)
            await shop.publish(Remarked("other", 0), correlation_id="other")
            await others.wait_for(1)
            await anyio.sleep(2 * QUICK.max_age.total_seconds())
            may_end.set()
            await seen.wait_for(_SAGAS)
            assert [letter async for letter in billing.dead_letters()] == []
        assert most == 1
        assert len(begun.items) == 2 * _SAGAS - 1

    @promise
    async def test_message_that_waits_for_its_turn_is_given_back_at_the_end(
        self, open_bus: OpenBus
    ) -> None:
        """A bus that closes does not wait for its turn; another process handles the message."""
        begun, seen = Seen(), Seen()

        async def take(message: Noted) -> None:
            begun.add(message)

        first, second = open_bus("billing"), open_bus("billing")
        first.subscribe(Noted, take, rate=Rate(1, per=timedelta(hours=1)))
        second.subscribe(Noted, seen.add)
        async with open_bus("shop") as shop:
            async with first:
                for number in range(3):
                    await shop.publish(Noted("s-1", number), correlation_id="s-1")
                await begun.wait_for(1)
                await shop.publish(Noted("s-2", 0), correlation_id="s-2")
                await begun.stays_at(1)
            async with second:
                await seen.stays_at(3)
        numbers = [found.number for found in seen.items if found.saga == "s-1"]
        assert numbers == [1, 2]

    @promise
    async def test_limits_are_said_before_the_bus_is_entered(self, open_bus: OpenBus) -> None:
        billing = open_bus("billing")
        async with billing:
            try:
                billing.subscribe(Noted, print, concurrency=1)
            except BusError as exc:
                assert "before `async with bus`" in str(exc)  # noqa: PT017 - no plugins
            else:
                raise AssertionError("it was not refused")
