"""Transports with one mistake each, such as somebody may make who writes another one."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import ClassVar

import anyio
from attrs import evolve

from sagaflow._model.verdict import ACCEPTED, RetryLater, Undeliverable, Verdict
from sagaflow.bus.transport import Delivery, Handle, Outgoing
from sagaflow.mongo.queue_transport import MongoTransport


class Mistaken(MongoTransport):
    """What the mistakes have in common: another look at what is delivered.

    :cvar bound: how long one operation on the database may take.
    """

    bound: ClassVar[timedelta] = timedelta(seconds=1)

    async def consume(self, handle: Handle, *, concurrency: int, stopping: anyio.Event) -> None:
        async def changed(delivery: Delivery) -> Verdict:
            return await self.handled(handle, delivery)

        await super().consume(changed, concurrency=concurrency, stopping=stopping)

    async def handled(self, handle: Handle, delivery: Delivery) -> Verdict:
        return await handle(delivery)


class AcknowledgesBeforeTheHandler(Mistaken):
    async def consume(self, handle: Handle, *, concurrency: int, stopping: anyio.Event) -> None:
        async with anyio.create_task_group() as tasks:

            async def late(delivery: Delivery) -> None:
                await handle(delivery)

            async def acknowledged(delivery: Delivery) -> Verdict:
                tasks.start_soon(late, delivery)
                return ACCEPTED

            await super().consume(acknowledged, concurrency=concurrency, stopping=stopping)


class LosesWhatIsToBeRetried(Mistaken):
    async def handled(self, handle: Handle, delivery: Delivery) -> Verdict:
        verdict = await handle(delivery)
        return ACCEPTED if isinstance(verdict, RetryLater) else verdict


class DeliversWhatWasAccepted(Mistaken):
    async def handled(self, handle: Handle, delivery: Delivery) -> Verdict:
        await handle(delivery)
        return await handle(delivery)


class ForgetsAttempts(Mistaken):
    """So that no message ever fails for too long."""

    async def handled(self, handle: Handle, delivery: Delivery) -> Verdict:
        return await handle(evolve(delivery, attempts=0, since=self.clock.now()))


class WaitsInPlace(Mistaken):
    """One message that fails holds up everybody."""

    async def consume(self, handle: Handle, *, concurrency: int, stopping: anyio.Event) -> None:
        one = anyio.Lock()

        async def in_turn(delivery: Delivery) -> Verdict:
            async with one:
                while isinstance(verdict := await handle(delivery), RetryLater):
                    await anyio.sleep(verdict.after.total_seconds())
                return verdict

        await super().consume(in_turn, concurrency=concurrency, stopping=stopping)


class DropsDeadLetters(Mistaken):
    async def handled(self, handle: Handle, delivery: Delivery) -> Verdict:
        verdict = await handle(delivery)
        return ACCEPTED if isinstance(verdict, Undeliverable) else verdict


class DropsUnknownClasses(Mistaken):
    async def handled(self, handle: Handle, delivery: Delivery) -> Verdict:
        verdict = await handle(delivery)
        is_unknown = isinstance(verdict, Undeliverable) and verdict.reason == "unknown_type"
        return ACCEPTED if is_unknown else verdict


class RetriesWhatCannotBeRead(Mistaken):
    async def handled(self, handle: Handle, delivery: Delivery) -> Verdict:
        verdict = await handle(delivery)
        is_broken = isinstance(verdict, Undeliverable) and verdict.reason == "wrong_fields"
        return RetryLater(timedelta(milliseconds=20), "broken") if is_broken else verdict


class ReordersASaga(Mistaken):
    async def publish(self, message: Outgoing) -> bool:
        return await super().publish(evolve(message, key=None))


class ForgetsHeaders(Mistaken):
    async def publish(self, message: Outgoing) -> bool:
        headers = {name: value for name, value in message.headers.items() if name != "headers"}
        return await super().publish(evolve(message, headers=headers))


class ForgetsTheTypesOfIds(Mistaken):
    async def publish(self, message: Outgoing) -> bool:
        kept = {n: value for n, value in message.headers.items() if n != "correlationidtype"}
        return await super().publish(evolve(message, headers=kept))


class HangsOnPublish(Mistaken):
    bound = timedelta(hours=1)


class TellsNobodyThatNoServiceIsThere(Mistaken):
    async def publish(self, message: Outgoing) -> bool:
        await super().publish(message)
        return True


class SubscribesOnlyOnce(Mistaken):
    async def subscribe(self, names: Collection[str]) -> None:
        if not self._has_indexes:
            await super().subscribe(names)


class BreaksOffHandlers(Mistaken):
    """Closing cancels what is being handled."""

    async def consume(self, handle: Handle, *, concurrency: int, stopping: anyio.Event) -> None:
        async with anyio.create_task_group() as tasks:

            async def break_off() -> None:
                await stopping.wait()
                tasks.cancel_scope.cancel()

            tasks.start_soon(break_off)
            await super().consume(handle, concurrency=concurrency, stopping=stopping)


class KeepsNoLimit(Mistaken):
    async def consume(self, handle: Handle, *, concurrency: int, stopping: anyio.Event) -> None:
        await super().consume(handle, concurrency=concurrency * 100, stopping=stopping)


class CountsWaitingAsFailing(Mistaken):
    async def handled(self, handle: Handle, delivery: Delivery) -> Verdict:
        verdict = await handle(delivery)
        if isinstance(verdict, RetryLater):
            return RetryLater(verdict.after, verdict.error)
        return verdict


class HandsOutOneAtATime(Mistaken):
    """So that one that waits for its turn keeps others from being handled."""

    async def consume(self, handle: Handle, *, concurrency: int, stopping: anyio.Event) -> None:
        await super().consume(handle, concurrency=1, stopping=stopping)


class LosesWhatWaits(Mistaken):
    async def handled(self, handle: Handle, delivery: Delivery) -> Verdict:
        verdict = await handle(delivery)
        is_waiting = isinstance(verdict, RetryLater) and not verdict.failed
        return ACCEPTED if is_waiting else verdict
