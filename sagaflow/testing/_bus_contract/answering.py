"""What handlers publish, and how their answers are recognised."""

from __future__ import annotations

from decimal import Decimal

from sagaflow._model.envelope import Envelope
from sagaflow.testing._bus_contract.kit import (
    BusTests,
    Charge,
    Charged,
    Noted,
    OpenBus,
    Seen,
    promise,
)

_TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class AnswerTests(BusTests):
    """What handlers publish, and how their answers are recognised."""

    @promise
    async def test_what_a_handler_returns_is_the_answer(self, open_bus: OpenBus) -> None:
        """It belongs to the same saga and trace, and names the command as its cause."""
        seen = Seen()

        def charge(command: Charge) -> Charged:
            return Charged(command.saga)

        billing, shop = open_bus("billing"), open_bus("shop")
        billing.subscribe(Charge, charge)
        shop.subscribe(Charged, seen.add, envelope=True)
        async with billing, shop:
            await shop.publish(
                Charge("s-1", Decimal(1)),
                correlation_id=7,
                message_id="m-1",
                headers={"traceparent": _TRACE, "kind": "command"},
            )
            (answer,) = await seen.wait_for(1)
        assert answer.body == Charged("s-1")
        assert (answer.correlation_id, answer.causation_id) == (7, "m-1")
        assert answer.headers["traceparent"] == _TRACE

    @promise
    async def test_second_delivery_is_answered_with_the_same_ids(self, open_bus: OpenBus) -> None:
        """Whoever takes the answers can tell that they are the same."""
        seen, attempts = Seen(), Seen()
        billing, shop = open_bus("billing"), open_bus("shop")

        async def charge(command: Charge) -> Charged:
            await billing.publish(Noted(command.saga, 0))
            await billing.publish(Noted(command.saga, 1))
            attempts.add(command)
            if len(attempts.items) == 1:
                raise RuntimeError("not yet")
            return Charged(command.saga)

        billing.subscribe(Charge, charge)
        shop.subscribe(Noted, seen.add, envelope=True)
        shop.subscribe(Charged, seen.add, envelope=True)
        async with billing, shop:
            await shop.publish(Charge("s-1", Decimal(1)), correlation_id="s-1", message_id="m-1")
            await attempts.wait_for(2)
            found = await self._ids(seen)
        assert len(found) == 3

    @staticmethod
    async def _ids(seen: Seen) -> set[object]:
        """Return the ids of what has come, once the answer has; a bus may leave out a duplicate."""
        while not any(isinstance(found.body, Charged) for found in seen.items):
            await seen.wait_for(len(seen.items) + 1)
        return {found.id for found in seen.items}

    @promise
    async def test_services_answer_one_event_with_ids_of_their_own(self, open_bus: OpenBus) -> None:
        seen = Seen()

        def answer(event: Envelope[Noted]) -> Charged:
            return Charged(event.body.saga)

        first, second, shop = open_bus("billing"), open_bus("audit"), open_bus("shop")
        for bus in (first, second):
            bus.subscribe(Noted, answer, envelope=True)
        shop.subscribe(Charged, seen.add, envelope=True)
        async with first, second, shop:
            await shop.publish(Noted("s-1", 1), correlation_id="s-1", message_id="m-1")
            one, other = await seen.wait_for(2)
        assert one.id != other.id
