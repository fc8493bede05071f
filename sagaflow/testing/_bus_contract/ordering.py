"""In which order messages are handled, and how many at the same time."""

from __future__ import annotations

import anyio

from sagaflow.testing._bus_contract.kit import (
    BusTests,
    Noted,
    OpenBus,
    Remarked,
    Seen,
    promise,
)

_SAGAS = 8
_EACH = 8


class OrderTests(BusTests):
    """In which order messages are handled, and how many at the same time."""

    @promise
    async def test_messages_of_a_saga_keep_their_order(self, open_bus: OpenBus) -> None:
        """Across classes of messages, and with two processes that compete for them."""
        seen = Seen()
        ended: dict[str, int] = {}
        early: list[Noted | Remarked] = []

        async def take(message: Noted | Remarked) -> None:
            if ended.get(message.saga, -1) != message.number - 1:
                early.append(message)
            await anyio.sleep(0.1 if message.number == 0 else 0.001)
            ended[message.saga] = message.number
            seen.add(message)

        before, *both = [open_bus("billing") for _ in range(3)]
        for bus in (before, *both):
            bus.subscribe(Noted, take)
            bus.subscribe(Remarked, take)
        async with before:
            pass  # from now on, messages are kept for the service
        async with open_bus("shop") as shop:
            for number in range(_EACH):
                for saga in range(_SAGAS):
                    make = Noted if number % 2 else Remarked
                    await shop.publish(make(f"s-{saga}", number), correlation_id=f"s-{saga}")
        async with both[0], both[1]:
            await seen.stays_at(_SAGAS * _EACH)
        assert early == [], "the one before each of these was not done yet"
        for saga in range(_SAGAS):
            numbers = [found.number for found in seen.items if found.saga == f"s-{saga}"]
            assert numbers == list(range(_EACH))

    @promise
    async def test_message_that_fails_holds_up_its_saga_and_no_other(
        self, open_bus: OpenBus
    ) -> None:
        """Those behind it wait for it; the others do not."""
        seen, attempts, may_succeed = Seen(), Seen(), anyio.Event()

        async def take(message: Noted) -> None:
            if message.saga == "bad" and message.number == 0:
                attempts.add(message)
                if not may_succeed.is_set():
                    raise RuntimeError("not yet")
            seen.add(message)

        billing = open_bus("billing")
        billing.subscribe(Noted, take)
        async with billing, open_bus("shop") as shop:
            for number in range(3):
                await shop.publish(Noted("bad", number), correlation_id="bad")
            await attempts.wait_for(2)
            for saga in range(_SAGAS):
                await shop.publish(Noted(f"s-{saga}", 0), correlation_id=f"s-{saga}")
            await seen.wait_for(_SAGAS)
            assert all(found.saga != "bad" for found in seen.items)
            may_succeed.set()
            await seen.stays_at(_SAGAS + 3)
        assert [found.number for found in seen.items if found.saga == "bad"] == [0, 1, 2]

    @promise
    async def test_sagas_are_handled_at_the_same_time_up_to_the_limit(
        self, open_bus: OpenBus
    ) -> None:
        begun, seen, may_end = Seen(), Seen(), anyio.Event()

        async def take(message: Noted) -> None:
            begun.add(message)
            await may_end.wait()
            seen.add(message)

        before = open_bus("billing")
        before.subscribe(Noted, take)
        async with before:
            pass
        async with open_bus("shop") as shop:
            for saga in range(_SAGAS):
                await shop.publish(Noted(f"s-{saga}", 0), correlation_id=f"s-{saga}")
        billing = open_bus("billing", concurrency=3)
        billing.subscribe(Noted, take)
        async with billing:
            await begun.stays_at(3)
            may_end.set()
            await seen.stays_at(_SAGAS)
