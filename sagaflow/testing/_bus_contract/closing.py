"""How a bus ends, and that it keeps nobody waiting for ever."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import anyio

from sagaflow._model.errors import BusError
from sagaflow.bus.broker import BrokerBus
from sagaflow.testing._bus_contract.kit import BusTests, Charge, Noted, OpenBus, Seen, promise

_SOON = 20.0
"""Seconds within which a call has to come to an end, though the broker says nothing."""


class ClosingTests(BusTests):
    """How a bus ends, and that it keeps nobody waiting for ever."""

    @promise
    async def test_bus_that_closes_lets_its_handlers_end(self, open_bus: OpenBus) -> None:
        """What they have dealt with is acknowledged, and not delivered again."""
        begun, may_end, seen = Seen(), anyio.Event(), Seen()

        async def take(message: Noted) -> None:
            begun.add(message)
            await may_end.wait()
            seen.add(message)

        first, second = open_bus("billing"), open_bus("billing")
        first.subscribe(Noted, take)
        second.subscribe(Noted, take)
        async with open_bus("shop") as shop:
            async with anyio.create_task_group() as tasks, first:
                await shop.publish(Noted("s-1", 1), correlation_id="s-1")
                await begun.wait_for(1)
                tasks.start_soon(self._end_soon, may_end)
            async with second:
                await seen.stays_at(1)
        assert len(begun.items) == 1, "the handler was broken off, and begun again"

    @staticmethod
    async def _end_soon(may_end: anyio.Event) -> None:
        await anyio.sleep(0.05)
        may_end.set()

    @promise
    async def test_bus_closes_in_time_though_a_handler_hangs(self, open_bus: OpenBus) -> None:
        begun, seen = anyio.Event(), Seen()

        async def hang(message: Noted) -> None:
            begun.set()
            await anyio.sleep_forever()

        first = open_bus("billing", shutdown_timeout=timedelta(milliseconds=100))
        first.subscribe(Noted, hang)
        with anyio.fail_after(_SOON):
            async with first:
                await first.publish(Noted("s-1", 1), correlation_id="s-1")
                await begun.wait()
        second = open_bus("billing")
        second.subscribe(Noted, seen.add)
        async with second:
            await seen.wait_for(1)

    @promise
    async def test_publishing_ends_though_the_broker_is_silent(self, open_bus: OpenBus) -> None:
        """The publisher is told that the message was not accepted; later it is."""
        seen = Seen()
        billing = open_bus("billing")
        billing.subscribe(Charge, seen.add)
        async with billing:
            await billing.publish(Charge("s-1", Decimal(1)), correlation_id="s-1")
            await seen.wait_for(1)
            silence = self.silence()
            if silence is None:
                return
            async with silence:
                with anyio.fail_after(_SOON):
                    try:
                        await billing.publish(Charge("s-1", Decimal(2)), correlation_id="s-1")
                    except BusError:
                        is_refused = True
                    else:
                        is_refused = False
                assert is_refused, "a broker that says nothing has accepted nothing"
            await self._publish_again(billing)
            while Charge("s-1", Decimal(3)) not in seen.items:
                await seen.wait_for(len(seen.items) + 1)

    @staticmethod
    async def _publish_again(bus: BrokerBus) -> None:
        while True:
            try:
                await bus.publish(Charge("s-1", Decimal(3)), correlation_id="s-1")
            except BusError:
                await anyio.sleep(0.05)
            else:
                return
