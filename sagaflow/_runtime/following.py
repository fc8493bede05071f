"""Sees to what follows from a stored event: work that is due at once, and the sending of messages.

An event is taken once it is stored. Whoever brings it says who sees to the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from anyio.abc import TaskGroup
from attrs import frozen

from sagaflow._definition.saga import Saga
from sagaflow._engine.work import Undo, has_work, next_work
from sagaflow._model.errors import ConcurrencyError, RepositoryError
from sagaflow._model.record import SagaRecord
from sagaflow._runtime.due import DueWork
from sagaflow._runtime.invoke import Event
from sagaflow._runtime.leases import Leases
from sagaflow._runtime.outages import Outages
from sagaflow._runtime.outbox import Outbox
from sagaflow._runtime.process import Process
from sagaflow._runtime.reports import report_left_to_workers, report_overtaken
from sagaflow._runtime.store import Store


class Follower(Enum):
    """Who sees to what follows from an event, once that is stored."""

    CALLER = "caller"
    """The call that brings the event: it does the work, and returns once the messages are sent."""
    DELIVERY = "delivery"
    """The delivery of a message: it does the work, and has a task send. It does not wait for that,
    since the bus may be waiting for this very delivery."""
    BACKGROUND = "background"
    """The background of this process; the call returns at once."""
    OTHERS = "others"
    """Other processes: the event is stored without a lease of this one, and the call returns."""


@frozen(kw_only=True)
class FollowUp:
    """Does what follows from an event, or leaves that to whom it is left.

    :ivar begin: has the background of this process do at once what is due for a saga.
    :ivar has_background: whether this process has a background while it is entered.
    """

    process: Process
    store: Store
    outages: Outages
    due: DueWork
    outbox: Outbox
    leases: Leases
    begin: Callable[[type[Saga], SagaRecord], None]
    has_background: bool

    def follower_of_call(self, tasks: TaskGroup | None, *, wait: bool) -> Follower:
        """Return who sees to what follows from an event whose caller does not wait for that.

        :param tasks: None if this process is not entered.
        :param wait: whether the caller would wait, but is part of a delivery, perhaps the very one
            that would be waited for.
        """
        if wait:
            return Follower.DELIVERY
        sends_later = self.has_background and self.process.sends and tasks is not None
        return Follower.BACKGROUND if sends_later else Follower.OTHERS

    async def see_to(
        self,
        saga_type: type[Saga],
        event: Event,
        stored: SagaRecord,
        tasks: TaskGroup | None,
        follower: Follower,
        *,
        works: bool = True,
    ) -> SagaRecord:
        """Do what is due after a write, and send; return the saga after it was undone, if it is.

        The event itself is stored: what fails here does not make it fail.

        :param works: whether to do what is due; otherwise only to send.
        """
        if follower is Follower.OTHERS:
            return stored
        own = last = stored
        try:
            if works and has_work(stored):
                if follower is Follower.BACKGROUND:
                    self._leave_to_background(saga_type, stored)
                else:
                    held = self.leases.hold(saga_type, stored.correlation_id)
                    try:
                        own = await self.due.advance(saga_type, stored, only=Undo)
                        last = await self.due.advance(saga_type, own)
                    finally:
                        self.leases.release(held)
        except RepositoryError as exc:
            self.outages.report(exc)
            report_left_to_workers(saga_type.table.saga, event, exc)
        except ConcurrencyError as exc:
            report_overtaken(saga_type.table.saga, event.correlation_id, exc)
        else:
            if last.outbox:
                await self.outbox.send(
                    saga_type, last, tasks, wait=follower is Follower.CALLER, lingers=True
                )
        return own

    async def send_earlier(
        self,
        saga_type: type[Saga],
        stored: SagaRecord,
        tasks: TaskGroup | None,
        follower: Follower,
    ) -> None:
        """Send what a saga had to send before the event, which itself was not stored after all.

        Where nobody sends here, the lease for that is given up, so that others need not wait.
        """
        if follower is Follower.OTHERS and tasks is None and stored.lease is not None:
            try:
                await self.store.bookkeep(
                    saga_type, stored, sending=stored.sending, wake=stored.wake
                )
            except RepositoryError as exc:
                self.outages.report(exc)
            return
        wait = follower is Follower.CALLER
        await self.outbox.send(saga_type, stored, tasks, wait=wait, lingers=True)

    def _leave_to_background(self, saga_type: type[Saga], stored: SagaRecord) -> None:
        now = self.process.clock.now()
        if next_work(stored, self.process.machine(saga_type), now) is not None:
            self.begin(saga_type, stored)
