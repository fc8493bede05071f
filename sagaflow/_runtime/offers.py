"""Offers messages to the bus, each within a limit of time, and notes where no answer comes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import anyio
from attrs import Factory, define, field

from sagaflow._model.clock import Clock
from sagaflow._model.errors import BusError
from sagaflow._model.ids import SagaId
from sagaflow.abc import Bus


@define
class _Destination:
    """What the bus does with the messages of one class.

    :ivar under_way: how many messages are offered at the moment.
    :ivar silent_since: since when the bus has neither accepted nor refused one that was offered.
    :ivar hung_at: when a message was given up, if the bus has not answered to any other since.
    """

    under_way: int = 0
    silent_since: datetime | None = None
    hung_at: datetime | None = None


def _never(message_type: type, correlation_id: SagaId) -> bool:  # noqa: ARG001
    """Say of a bus that does not tell that it may wait before it answers."""
    return False


@define(kw_only=True)
class Offers:
    """Offers messages to the bus.

    :ivar timeout: how long a message may take until it is accepted or refused.
    :ivar memory: for how long a message that was given up is taken for a sign that the bus is
        silent; by then it is offered again.
    :ivar is_answered_at_once: tells by the class of a message and the id of its saga whether the
        bus waits for nothing before it answers.
    """

    bus: Bus
    timeout: timedelta
    clock: Clock
    memory: timedelta
    is_answered_at_once: Callable[[type, SagaId], bool] = field(
        default=Factory(
            lambda self: getattr(self.bus, "delivers_at_once", _never), takes_self=True
        ),
        init=False,
    )
    _destinations: dict[str, _Destination] = field(factory=dict[str, _Destination], init=False)

    async def offer(
        self,
        body: object,
        name: str,
        *,
        correlation_id: SagaId,
        message_id: str,
        headers: Mapping[str, object],
    ) -> None:
        """Give a message to the bus.

        :param name: under which its class is stored.
        :raises BusError: if the bus takes too long.
        :raises Exception: whatever the bus raises.
        """
        bus = self.bus
        if self.is_answered_at_once(type(body), correlation_id):
            await bus.publish(
                body, correlation_id=correlation_id, message_id=message_id, headers=headers
            )
            return
        destination = self._begin(name)
        hung, answered = False, False
        try:
            with anyio.move_on_after(self.timeout.total_seconds()) as limit:
                await bus.publish(
                    body, correlation_id=correlation_id, message_id=message_id, headers=headers
                )
            hung = limit.cancelled_caught
            answered = not hung
        except Exception:
            answered = True
            raise
        finally:
            self._end(destination, answered=answered, hung=hung)
        if hung:
            raise BusError(
                f"the bus has neither accepted nor refused it within {self.timeout}, and one "
                "message may take no longer (Orchestrator(send_timeout=...)); the attempt was "
                "cancelled"
            )

    def silent_since(self) -> datetime | None:
        """Return since when nothing of some class is accepted or refused; None if all is well.

        The bus is silent if it has not answered for half of the time that a message may take, or a
        message took longer than that time.
        """
        now = self.clock.now()
        return min(
            (
                since
                for one in self._destinations.values()
                if (since := one.silent_since) is not None
                and (
                    (one.under_way and now - since >= self.timeout / 2)
                    or (one.hung_at is not None and now - one.hung_at <= self.memory)
                )
            ),
            default=None,
        )

    def _begin(self, name: str) -> _Destination:
        destination = self._destinations.get(name)
        if destination is None:
            destination = self._destinations[name] = _Destination()
        destination.under_way += 1
        if destination.silent_since is None:
            destination.silent_since = self.clock.now()
        return destination

    def _end(self, destination: _Destination, *, answered: bool, hung: bool) -> None:
        destination.under_way -= 1
        if answered:
            destination.hung_at = None
            destination.silent_since = self.clock.now() if destination.under_way else None
        elif hung:
            destination.hung_at = self.clock.now()
        elif not destination.under_way and destination.hung_at is None:
            destination.silent_since = None
