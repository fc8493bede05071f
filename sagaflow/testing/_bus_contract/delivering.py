"""Who gets a message, and what arrives."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

from sagaflow._model.envelope import Envelope
from sagaflow._model.errors import NoHandlerError
from sagaflow.testing._bus_contract.kit import (
    BusTests,
    Charge,
    Noted,
    NotedTwice,
    OpenBus,
    Refused,
    Remarked,
    Seen,
    promise,
)

_COMMAND = {"kind": "command"}


class DeliveryTests(BusTests):
    """Who gets a message, and what arrives."""

    @promise
    async def test_each_service_gets_a_message_once(self, open_bus: OpenBus) -> None:
        """Whatever number of processes it has."""
        both, one = Seen(), Seen()
        first, second, other = open_bus("billing"), open_bus("billing"), open_bus("audit")
        for bus in (first, second):
            bus.subscribe(Noted, both.add)
        other.subscribe(Noted, one.add)
        async with first, second, other, open_bus("shop") as shop:
            sent = [Noted(f"s-{number}", number) for number in range(20)]
            for event in sent:
                await shop.publish(event, correlation_id=event.saga)
            await both.stays_at(20)
            await one.stays_at(20)
        assert sorted(both.items, key=lambda found: found.number) == sent
        assert sorted(one.items, key=lambda found: found.number) == sent

    @promise
    async def test_message_arrives_as_it_was(self, open_bus: OpenBus) -> None:
        """With its id, its correlation id, its causation id and all of its headers."""
        seen = Seen()
        billing = open_bus("billing")
        billing.subscribe(Charge, seen.add, envelope=True)
        headers = {
            **_COMMAND,
            "causation_id": 7,
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "tenant": 'größte "1" %\n',
            "$odd.name": {"at": datetime(2026, 1, 1, tzinfo=UTC), "price": Decimal("1.50")},
        }
        sent: Envelope[object] = Envelope(
            body=Charge("s-1", Decimal("9.90")),
            id=UUID(int=9),
            correlation_id=42,
            causation_id=7,
            headers=headers,
        )
        async with billing, open_bus("shop") as shop:
            await shop.publish(
                sent.body, message_id=UUID(int=9), correlation_id=42, headers=headers
            )
            (found,) = await seen.wait_for(1)
        assert found == sent
        assert type(found.id) is UUID
        assert type(found.correlation_id) is int

    @promise
    async def test_message_without_saga_arrives(self, open_bus: OpenBus) -> None:
        seen = Seen()
        billing = open_bus("billing")
        billing.subscribe(Noted, seen.add, envelope=True)
        async with billing, open_bus("shop") as shop:
            await shop.publish(Noted("s-1", 1))
            (found,) = await seen.wait_for(1)
        assert (found.body, found.correlation_id) == (Noted("s-1", 1), None)

    @promise
    async def test_handler_gets_messages_of_subclasses(self, open_bus: OpenBus) -> None:
        seen, special = Seen(), Seen()
        billing = open_bus("billing")
        billing.subscribe(Noted, seen.add)
        billing.subscribe(NotedTwice, special.add)
        async with billing, open_bus("shop") as shop:
            await shop.publish(NotedTwice("s-1", 1), correlation_id="s-1")
            await shop.publish(Noted("s-1", 2), correlation_id="s-1")
            await seen.wait_for(2)
        assert seen.items == [NotedTwice("s-1", 1), Noted("s-1", 2)]
        assert special.items == [NotedTwice("s-1", 1)]

    @promise
    async def test_service_that_is_not_running_gets_its_messages_later(
        self, open_bus: OpenBus
    ) -> None:
        seen = Seen()
        before = open_bus("billing")
        before.subscribe(Noted, seen.add)
        async with before:
            pass
        async with open_bus("shop") as shop:
            for number in range(3):
                await shop.publish(Noted("s-1", number), correlation_id="s-1")
        after = open_bus("billing")
        after.subscribe(Noted, seen.add)
        async with after:
            await seen.wait_for(3)
        assert [found.number for found in seen.items] == [0, 1, 2]

    @promise
    async def test_handler_may_be_subscribed_later(self, open_bus: OpenBus) -> None:
        noted, remarked = Seen(), Seen()
        async with open_bus("billing") as billing:
            billing.subscribe(Noted, noted.add)
            await billing.publish(Noted("s-1", 1), correlation_id="s-1")
            await noted.wait_for(1)
            billing.subscribe(Remarked, remarked.add)
            await billing.publish(Remarked("s-1", 2), correlation_id="s-1")
            await remarked.wait_for(1)

    @promise
    async def test_what_nobody_subscribes_to_keeps_nobody_waiting(self, open_bus: OpenBus) -> None:
        async with open_bus("shop") as shop:
            await shop.publish(Refused("s-1"), correlation_id="s-1")

    @promise
    async def test_command_that_no_service_takes_is_not_lost(self, open_bus: OpenBus) -> None:
        """Its sender is told, or the broker keeps it until a service takes it."""
        seen, is_kept = Seen(), True
        async with open_bus("shop") as shop:
            command = Charge("s-1", Decimal(1))
            try:
                await shop.publish(command, correlation_id="s-1", headers=_COMMAND)
            except NoHandlerError:
                is_kept = False
        billing = open_bus("billing")
        billing.subscribe(Charge, seen.add)
        async with billing:
            if not is_kept:
                await billing.publish(command, correlation_id="s-1", headers=_COMMAND)
            await seen.wait_for(1)
