"""What becomes of a message that cannot be handled, or not now."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import anyio
import anyio.lowlevel

from sagaflow._model.verdict import Undeliverable
from sagaflow.testing._bus_contract.kit import (
    MESSAGES,
    QUICK,
    BusTests,
    Charge,
    Noted,
    OpenBus,
    Remarked,
    Seen,
    foreign_noted,
    promise,
)


class FailureTests(BusTests):
    """What becomes of a message that cannot be handled, or not now."""

    @promise
    async def test_message_on_which_a_handler_fails_is_delivered_again(
        self, open_bus: OpenBus
    ) -> None:
        """With the same id, until the handler has dealt with it."""
        seen = Seen()

        async def take(message: object) -> None:
            seen.add(message)
            if len(seen.items) < 3:
                raise RuntimeError("not yet")

        billing = open_bus("billing")
        billing.subscribe(Noted, take, envelope=True)
        async with billing, open_bus("shop") as shop:
            await shop.publish(Noted("s-1", 1), correlation_id="s-1", message_id="m-1")
            await seen.stays_at(3)
        assert {found.id for found in seen.items} == {"m-1"}

    @promise
    async def test_message_is_not_lost_with_the_process_that_handles_it(
        self, open_bus: OpenBus
    ) -> None:
        """It is acknowledged after it was handled; another process then gets it."""
        begun, seen = anyio.Event(), Seen()

        async def hang(message: Noted) -> None:
            begun.set()
            await anyio.sleep_forever()

        first, second = open_bus("billing"), open_bus("billing")
        first.subscribe(Noted, hang)
        second.subscribe(Noted, seen.add)
        async with open_bus("shop") as shop:
            with anyio.CancelScope() as scope:
                async with first:
                    await shop.publish(Noted("s-1", 1), correlation_id="s-1")
                    await begun.wait()
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()
            async with second:
                await seen.wait_for(1)

    @promise
    async def test_handler_that_takes_too_long_is_cancelled_and_tried_again(
        self, open_bus: OpenBus
    ) -> None:
        seen = Seen()

        async def take(message: Noted) -> None:
            seen.add(message)
            if len(seen.items) == 1:
                await anyio.sleep_forever()

        billing = open_bus("billing", handler_timeout=timedelta(milliseconds=50))
        billing.subscribe(Noted, take)
        async with billing, open_bus("shop") as shop:
            await shop.publish(Noted("s-1", 1), correlation_id="s-1")
            await seen.stays_at(2)

    @promise
    async def test_message_that_fails_for_too_long_is_a_dead_letter(
        self, open_bus: OpenBus
    ) -> None:
        """It tells why, and those behind it are handled; it can be sent again, once."""
        seen, is_broken = Seen(), True

        async def take(message: Noted) -> None:
            if message.number == 0 and is_broken:
                raise ValueError("the part is broken")
            seen.add(message)

        billing = open_bus("billing", retry=QUICK)
        billing.subscribe(Noted, take)
        async with billing, open_bus("shop") as shop:
            await shop.publish(Noted("s-1", 0), correlation_id="s-1", message_id="m-0")
            await shop.publish(Noted("s-1", 1), correlation_id="s-1", message_id="m-1")
            await seen.wait_for(1)
            (letter,) = [letter async for letter in billing.dead_letters()]
            assert (letter.service, letter.name, letter.reason) == ("billing", "Noted", "failed")
            assert "ValueError: the part is broken" in letter.detail
            assert letter.attempts > 1
            assert await billing.find_dead_letter(letter.id) == letter
            assert await billing.find_dead_letter("another") is None
            is_broken = False
            assert await billing.retry_dead_letter(letter.id)
            assert not await billing.retry_dead_letter(letter.id)
            await seen.stays_at(2)
            assert [letter async for letter in billing.dead_letters()] == []
        assert [found.number for found in seen.items] == [1, 0]

    @promise
    async def test_dead_letter_can_be_dropped(self, open_bus: OpenBus) -> None:
        def refuse(message: Noted) -> Undeliverable:
            return Undeliverable("unhandled", "no saga wants it")

        billing = open_bus("billing")
        billing.subscribe(Noted, refuse)
        after = Seen()
        billing.subscribe(Remarked, after.add)
        async with billing:
            await billing.publish(Noted("s-1", 0), correlation_id="s-1")
            await billing.publish(Remarked("s-1", 1), correlation_id="s-1")
            await after.wait_for(1)
            (letter,) = [letter async for letter in billing.dead_letters()]
            assert (letter.reason, letter.detail) == ("unhandled", "no saga wants it")
            assert await billing.drop_dead_letter(letter.id)
            assert not await billing.drop_dead_letter(letter.id)
            assert [letter async for letter in billing.dead_letters()] == []

    @promise
    async def test_message_that_no_saga_wants_may_be_accepted(self, open_bus: OpenBus) -> None:
        after = Seen()

        def refuse(message: Noted) -> Undeliverable:
            return Undeliverable("not_found")

        billing = open_bus("billing", unhandled="accept")
        billing.subscribe(Noted, refuse)
        billing.subscribe(Remarked, after.add)
        async with billing:
            await billing.publish(Noted("s-1", 0), correlation_id="s-1")
            await billing.publish(Remarked("s-1", 1), correlation_id="s-1")
            await after.wait_for(1)
            assert [letter async for letter in billing.dead_letters()] == []

    @promise
    async def test_message_that_cannot_be_read_is_a_dead_letter(self, open_bus: OpenBus) -> None:
        """It is neither dropped nor delivered for ever, and those behind it are handled."""
        seen, foreign = Seen(), foreign_noted()
        billing = open_bus("billing")
        billing.subscribe(Noted, seen.add)
        stranger = open_bus("stranger", messages=[foreign])
        async with billing, stranger, open_bus("shop") as shop:
            await stranger.publish(foreign([1]), correlation_id="s-1")
            await shop.publish(Noted("s-1", 1), correlation_id="s-1")
            await seen.wait_for(1)
            (letter,) = [letter async for letter in billing.dead_letters()]
        assert (letter.name, letter.reason) == ("Noted", "wrong_fields")
        assert letter.body

    @promise
    async def test_message_of_an_unknown_class_is_a_dead_letter(self, open_bus: OpenBus) -> None:
        """A later release of the service no longer knows the class."""
        seen = Seen()
        before = open_bus("billing")
        before.subscribe(Charge, seen.add)
        async with before:
            pass
        others = [message for message in MESSAGES if message is not Charge]
        after = open_bus("billing", messages=others)
        after.subscribe(Noted, seen.add)
        async with after, open_bus("shop") as shop:
            await shop.publish(Charge("s-1", Decimal(1)), correlation_id="s-1")
            await shop.publish(Noted("s-1", 1), correlation_id="s-1")
            await seen.wait_for(1)
            (letter,) = [letter async for letter in after.dead_letters()]
        assert (letter.name, letter.reason) == ("Charge", "unknown_type")
