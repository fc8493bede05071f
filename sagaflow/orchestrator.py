"""The door: what users hold. It puts the parts together and hands on what it is asked."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import ClassVar, Literal, Self, TypeVar, overload

import anyio
from anyio.abc import TaskGroup

from sagaflow._codec.instance import Instance
from sagaflow._codec.messages import MessageTypes
from sagaflow._definition.saga import Saga
from sagaflow._definition.state import State
from sagaflow._engine.outcome import Outcome
from sagaflow._model.clock import Clock, SystemClock
from sagaflow._model.envelope import Envelope
from sagaflow._model.errors import (
    OrchestratorClosedError,
    SagaflowError,
    WireError,
)
from sagaflow._model.ids import MessageId, SagaId
from sagaflow._model.policy import Limits, RetryPolicy
from sagaflow._model.services import svcs
from sagaflow._model.verdict import Verdict
from sagaflow._runtime.following import Follower
from sagaflow._runtime.health import Health
from sagaflow._runtime.lanes import Lane
from sagaflow._runtime.operations import Cancellation
from sagaflow._runtime.pace import Pace
from sagaflow._runtime.parts import put_together
from sagaflow._runtime.reports import report_not_on_bus
from sagaflow._runtime.sagas import checked_sagas
from sagaflow._runtime.trace import Trace
from sagaflow._runtime.waiting import goal_of
from sagaflow.abc import Bus, SagaRepository
from sagaflow.observing import Observer, observers_of

SagaT = TypeVar("SagaT", bound=Saga)


class Orchestrator:
    """Runs sagas: takes events, runs handlers, stores what they do and sends what they say.

    Used as an async context manager it listens to the bus and does in the background what is due:
    timers, retries, messages, and what a dead process has left. What was passed in is not closed.
    Outside of that, `handle` and `run_due` do all of their work before they return.

    :param sagas: the saga classes.
    :param repository: where they are stored.
    :param bus: where their messages go, and their events come from; without one, messages wait in
        the stored saga.
    :param listen: whether it takes events from the bus. A process that only hands events in, such
        as a web process, does not: on a broker it would take its share of what is for the workers.
    :param services: what ``ctx.services`` offers; each event has a container of its own.
    :param clock: where the time comes from.
    :param messages: message classes that the sagas' own code does not mention, or a mapping of the
        names under which classes are stored.
    :param retry: how failing work is tried again.
    :param limits: how large a saga may become.
    :param background: whether to do due work in the background; without it, call `run_due`.
    :param poll_interval: how often the background looks for work that other processes have left:
        one query for each saga class, which finds nothing as a rule. Once it has found nothing for
        a minute, it looks up to five times less often.
    :param concurrency: for how many sagas the background works at the same time; what is being
        sent does not count.
    :param send_timeout: how long the bus may take to accept one message. What takes longer is
        cancelled, counts as refused, and is offered again later. On a `MemoryBus` this includes the
        work of the participants: give it more time than the slowest of them needs.
    :param lease_duration: how long others leave it to this process to finish what it has stored.
        Within ``async with``, it is renewed for as long as that takes.
    :param owner: the name of this process, the same when it is started again, and of no other that
        runs at the same time: what it has left behind is then its own at once, and does not wait
        until its leases have run out. Made up if it is missing.
    :param shutdown_timeout: how long closing waits for what is being sent or worked on; the rest
        is handed back.
    :param conflict_deadline: how long an event, an operator's command or a piece of due work
        competes for a saga that others change as well. Due work is then left for later.
    :param hot_sagas: how many of the sagas that were used last it keeps in memory, so that their
        next event is one write and no read; 0 for none. At most 64 MiB of them.
    :param observers: who is told what it does: one `Observer` or several.
    :raises ValueError: if *hot_sagas* is negative, *send_timeout* is not positive, or *owner* is
        empty.
    :raises SagaDefinitionError: if two sagas or two message classes share a name, a class has no
        transitions, or the type of a field cannot be stored.
    :raises SagaflowError: if *observers* are none, or it is entered a second time.
    """

    _pace: ClassVar = Pace()

    def __init__(  # noqa: PLR0913
        self,
        sagas: Iterable[type[Saga]],
        repository: SagaRepository,
        *,
        bus: Bus | None = None,
        listen: bool = True,
        services: svcs.Registry | None = None,
        clock: Clock | None = None,
        messages: Iterable[type] | Mapping[str, type] = (),
        retry: RetryPolicy | None = None,
        limits: Limits | None = None,
        background: bool = True,
        poll_interval: timedelta = timedelta(milliseconds=100),
        concurrency: int = 20,
        send_timeout: timedelta = timedelta(seconds=30),
        lease_duration: timedelta = timedelta(seconds=10),
        owner: str | None = None,
        shutdown_timeout: timedelta = timedelta(seconds=10),
        conflict_deadline: timedelta = timedelta(seconds=30),
        hot_sagas: int = 5_000,
        observers: Observer | Iterable[Observer] | None = None,
    ) -> None:
        if send_timeout <= timedelta(0):
            raise ValueError(f"send_timeout must be more than nothing, not {send_timeout!r}")
        if owner == "":
            raise ValueError("owner must be the name of this process, not an empty one")
        self._sagas = checked_sagas(sagas)
        self._bus = bus
        self._bus_heard = bus if listen else None
        self._works_in_background = background
        self._shutdown_timeout = shutdown_timeout
        self._observers = observers_of(observers)
        self._parts = put_together(
            sagas=self._sagas,
            repository=repository,
            bus=bus,
            services=services,
            clock=clock or SystemClock(),
            messages=MessageTypes(self._sagas, messages),
            retry=retry or RetryPolicy(),
            limits=limits or Limits(),
            background=background,
            poll_interval=poll_interval,
            concurrency=concurrency,
            send_timeout=send_timeout,
            lease_duration=lease_duration,
            owner=owner,
            conflict_deadline=conflict_deadline,
            hot_sagas=hot_sagas,
            trace=Trace(self._observers),
            pace=self._pace,
            resume=self._resume,
        )
        self._tasks: TaskGroup | None = None
        self._background_scope: anyio.CancelScope | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        if self._tasks is not None or self._closed:
            raise SagaflowError("an Orchestrator is entered once: make another one")
        self._tasks = await anyio.create_task_group().__aenter__()
        self._parts.store.repository.settle_with(self._parts.removals.settle)
        try:
            await self._subscribe()
        except BaseException as exc:
            self._unsubscribe()
            await self._tasks.__aexit__(type(exc), exc, exc.__traceback__)
            raise
        self._background_scope = anyio.CancelScope()
        self._tasks.start_soon(self._parts.leases.run, name="sagaflow leases")
        if self._observers is not None and self._bus is not None:
            self._tasks.start_soon(self._parts.bus_watch.tell, self._observers)
        if self._works_in_background:
            self._parts.store.on_stored = self._parts.background.note
            self._tasks.start_soon(self._run_background, name="sagaflow workers")
            if self._observers is not None:
                self._tasks.start_soon(self._parts.backlogs.tell, self._observers, self._tasks)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._tasks is not None  # noqa: S101 - __aenter__ has run
        assert self._background_scope is not None  # noqa: S101
        self._background_scope.cancel()
        try:
            if exc is None:
                # Answers to what is being sent are still taken meanwhile.
                with anyio.move_on_after(self._shutdown_timeout.total_seconds()):
                    await self._parts.background.wait_until_idle()
                    await self._parts.outbox.wait_until_idle()
            self._tasks.cancel_scope.cancel()
        finally:
            try:
                # What the body raised goes on as it is: given to the task group, it would come
                # out in a group.
                await self._tasks.__aexit__(None, None, None)
            finally:
                self._closed = True
                self._tasks = None
                self._unsubscribe()
                await self._settle()

    async def _subscribe(self) -> None:
        """Have the bus hand the events of the sagas to this orchestrator."""
        if self._bus_heard is None:
            return
        for event in dict.fromkeys(e for saga in self._sagas for e in saga.table.events):
            try:
                self._bus_heard.subscribe(event, self._receive, envelope=True)
            except WireError as exc:  # such events come by handle() only
                report_not_on_bus(event, exc)
        announce: Callable[[], Awaitable[None]] | None = getattr(self._bus_heard, "announce", None)
        if announce is not None:
            await announce()

    def _leaves(self, *, wait: bool) -> bool:
        """Tell whether what an operation makes due is left to other processes."""
        if wait:
            return False
        follower = self._parts.follow_up.follower_of_call(self._tasks, wait=False)
        return follower is Follower.OTHERS

    def _unsubscribe(self) -> None:
        unsubscribe = getattr(self._bus_heard, "unsubscribe", None)
        if unsubscribe is not None:
            unsubscribe(self._receive)

    async def handle(
        self,
        event: object,
        *,
        correlation_id: SagaId | None = None,
        message_id: MessageId | None = None,
        headers: Mapping[str, object] | None = None,
        saga_type: type[Saga] | None = None,
        wait: bool = True,
    ) -> Outcome:
        """Have a saga take *event*; returns once that is stored and its messages are sent.

        :param event: an instance of a class that a saga takes.
        :param correlation_id: which saga; otherwise the event says so (``by=``, ``correlate_by=``
            or an attribute ``correlation_id``).
        :param message_id: what a second delivery of this event is recognised by; without one, it
            is not.
        :param headers: what goes along with the messages that this event causes.
        :param saga_type: the class of the saga, where several take such events.
        :param wait: whether to do here what is due at once, and to wait until the messages are
            sent. Otherwise this returns once the event is stored, however the bus is, and leaves
            the rest to the background of this process; or, if it has none, has no bus or is not
            entered, to other processes, which need not wait for a lease of this one. An event that
            has steps undone is then COMPENSATING: the undoing has yet to begin.
        :return: what became of the event.
        :raises UnknownEventError: if no saga takes such events.
        :raises AmbiguousSagaError: if several do and *saga_type* is missing.
        :raises SagaflowError: if *saga_type* is not one of its sagas, or ``by=`` raised.
        :raises CorrelationError: if an id is of no allowed type.
        :raises ConcurrencyError: if it was overtaken until the deadline; nothing was stored.
        :raises NewerSchemaError: if newer code has stored the saga; nothing was stored.
        :raises UnknownStateError: if it is in a state that the class does not know; nothing was
            stored.
        :raises DamagedDocumentError: if its document cannot be read; nothing was stored.
        :raises SagaDefinitionError: if the handler returned what its chain does not allow, or
            a predicate of ``when()`` something to await; nothing was stored.
        :raises SerializationError: if something cannot be stored; nothing was.
        :raises LimitExceededError: if the saga would become too large; nothing was stored.
        :raises StrayCancellationError: if what the handler waited for was cancelled by somebody
            else; nothing was stored.
        :raises ServerUnavailableError: if no server could be reached; nothing was stored.
        :raises UnknownOutcomeError: if the answer of the store was lost, and what is stored could
            not be read either: it may have taken place or not.
        :raises RepositoryError: if the store failed otherwise.
        :raises OrchestratorClosedError: if this orchestrator has been closed.
        :raises Exception: whatever the handler raises; then nothing was stored and nothing sent.
        """
        self._refuse_if_closed()
        return await self._parts.intake.handle(
            event, correlation_id, message_id, headers, saga_type, self._tasks, wait
        )

    async def run_due(self) -> int:
        """Do once all work that is due now: timers, retries, compensation, messages that wait.

        Leases are not looked at: this is for tests, cron jobs and tools, which mean it. A saga
        that fails does not keep the others from their turn. Inside its `async with` block, messages
        of up to ``concurrency`` sagas are sent at the same time: one that hangs does not keep the
        others waiting. A saga that newer code has stored, or that is in a state which the class
        does not know, is left to other code. Work that other writers overtake until the deadline
        stays due, and the log says so.

        :return: how many sagas there was work for.
        :raises DamagedDocumentError: if a document that is due cannot be read.
        :raises ServerUnavailableError: if no server could be reached.
        :raises UnknownOutcomeError: if the answer of the store was lost, and what is stored could
            not be read either: it may have taken place or not.
        :raises RepositoryError: if the store failed otherwise.
        :raises OrchestratorClosedError: if this orchestrator has been closed.
        :raises ExceptionGroup: if several sagas failed.
        """
        self._refuse_if_closed()
        return await self._parts.resuming.run_due(self._sagas, self._tasks)

    async def retry(
        self, saga_type: type[Saga], correlation_id: SagaId, *, wait: bool = True
    ) -> None:
        """Try what suspended a saga again, now, and then what has been parked, in order.

        :param wait: whether to do that here before this returns; otherwise it is left to the
            background, of this process or of another one.
        :raises OperationError: if there is no such saga, or it is not suspended.
        :raises CorrelationError: if *correlation_id* cannot be an id.
        :raises ConcurrencyError: if it was overtaken until the deadline; nothing was stored.
        :raises NewerSchemaError: if newer code has stored the saga; nothing was stored.
        :raises UnknownStateError: if it is in a state that the class does not know; nothing was
            stored.
        :raises DamagedDocumentError: if its document cannot be read; nothing was stored.
        :raises ServerUnavailableError: if no server could be reached; nothing was stored.
        :raises UnknownOutcomeError: if the answer of the store was lost, and what is stored could
            not be read either: it may have taken place or not.
        :raises RepositoryError: if the store failed otherwise.
        :raises OrchestratorClosedError: if this orchestrator has been closed.
        """
        self._refuse_if_closed()
        await self._parts.operations.resume(
            saga_type, correlation_id, "retry", leaves=self._leaves(wait=wait)
        )
        if wait:
            await self._resume_now(saga_type, correlation_id)

    async def resume(self, saga_type: type[Saga], correlation_id: SagaId) -> None:
        """Put a suspended saga back to work: the background tries what failed again.

        :raises OperationError: if there is no such saga, or it is not suspended.
        :raises CorrelationError: if *correlation_id* cannot be an id.
        :raises ConcurrencyError: if it was overtaken until the deadline; nothing was stored.
        :raises NewerSchemaError: if newer code has stored the saga; nothing was stored.
        :raises UnknownStateError: if it is in a state that the class does not know; nothing was
            stored.
        :raises DamagedDocumentError: if its document cannot be read; nothing was stored.
        :raises ServerUnavailableError: if no server could be reached; nothing was stored.
        :raises UnknownOutcomeError: if the answer of the store was lost, and what is stored could
            not be read either: it may have taken place or not.
        :raises RepositoryError: if the store failed otherwise.
        :raises OrchestratorClosedError: if this orchestrator has been closed.
        """
        self._refuse_if_closed()
        await self._parts.operations.resume(
            saga_type, correlation_id, "resume", leaves=self._leaves(wait=False)
        )

    async def skip(
        self, saga_type: type[Saga], correlation_id: SagaId, *, wait: bool = True
    ) -> None:
        """Leave out what suspended a saga, and go on with what has been parked, in order.

        :param wait: whether to go on here before this returns; otherwise it is left to the
            background, of this process or of another one.
        :raises OperationError: if there is no such saga, or it is not suspended.
        :raises CorrelationError: if *correlation_id* cannot be an id.
        :raises ConcurrencyError: if it was overtaken until the deadline; nothing was stored.
        :raises NewerSchemaError: if newer code has stored the saga; nothing was stored.
        :raises UnknownStateError: if it is in a state that the class does not know; nothing was
            stored.
        :raises DamagedDocumentError: if its document cannot be read; nothing was stored.
        :raises ServerUnavailableError: if no server could be reached; nothing was stored.
        :raises UnknownOutcomeError: if the answer of the store was lost, and what is stored could
            not be read either: it may have taken place or not.
        :raises RepositoryError: if the store failed otherwise.
        :raises OrchestratorClosedError: if this orchestrator has been closed.
        """
        self._refuse_if_closed()
        await self._parts.operations.skip(saga_type, correlation_id, leaves=self._leaves(wait=wait))
        if wait:
            await self._resume_now(saga_type, correlation_id)

    async def cancel(
        self,
        saga_type: type[Saga],
        correlation_id: SagaId,
        *,
        state: State | None = None,
        wait: bool = True,
    ) -> Cancellation:
        """Have a saga undo its completed steps, last first, and end. Parked events are dropped.

        What it has sent and the bus has not taken is withdrawn, but for what undoes its steps.

        :param state: the final state it ends in; the one it is in by default.
        :param wait: whether to undo the steps here before this returns; otherwise it is left to the
            background, of this process or of another one.
        :return: what was in flight, and what becomes of it.
        :raises OperationError: if there is no such saga or state, or it has ended.
        :raises CorrelationError: if *correlation_id* cannot be an id.
        :raises ConcurrencyError: if it was overtaken until the deadline; nothing was stored.
        :raises NewerSchemaError: if newer code has stored the saga; nothing was stored.
        :raises UnknownStateError: if it is in a state that the class does not know; nothing was
            stored.
        :raises DamagedDocumentError: if its document cannot be read; nothing was stored.
        :raises ServerUnavailableError: if no server could be reached; nothing was stored.
        :raises UnknownOutcomeError: if the answer of the store was lost, and what is stored could
            not be read either: it may have taken place or not.
        :raises RepositoryError: if the store failed otherwise.
        :raises OrchestratorClosedError: if this orchestrator has been closed.
        """
        self._refuse_if_closed()
        cancellation = await self._parts.operations.cancel(
            saga_type, correlation_id, state, leaves=self._leaves(wait=wait)
        )
        if wait:
            await self._resume_now(saga_type, correlation_id)
        return cancellation

    async def health(self, *, within: timedelta = timedelta(seconds=2)) -> Health:
        """Say how this orchestrator is: one short query for each saga class, cheap enough to probe.

        :param within: how long to wait for the store; it then counts as unreachable.
        """
        backlogs = await self._parts.backlogs.due(self._tasks, within)
        works = self._works_in_background and (self._tasks is not None or self._closed)
        return Health(
            workers_alive=self._parts.background.is_alive() if works else None,
            last_sweep=self._parts.background.sweep.last,
            late=max((backlog.late for backlog in backlogs or ()), default=None),
            store_reachable=backlogs is not None,
            outage_since=self._parts.outages.since,
            bus_silent_since=self._parts.bus_watch.silent_since(),
            bus_down_since=self._parts.bus_watch.down_since(),
            damaged=sum(backlog.damaged for backlog in backlogs or ()),
            newer=sum(backlog.newer for backlog in backlogs or ()),
        )

    async def find(self, saga_type: type[SagaT], correlation_id: SagaId) -> Instance[SagaT] | None:
        """Return a copy of one saga as it is stored, or None.

        :raises CorrelationError: if *correlation_id* cannot be an id.
        :raises SerializationError: if its data does not fit the class, or a migration fails.
        :raises NewerSchemaError: if newer code has stored it.
        :raises DamagedDocumentError: if it is no document of sagaflow's.
        :raises ServerUnavailableError: if no server could be reached.
        :raises RepositoryError: if the store failed otherwise.
        """
        return await self._parts.store.repository.find(
            saga_type, correlation_id, now=self._parts.process.clock.now()
        )

    @overload
    async def wait_for(
        self,
        saga_type: type[SagaT],
        correlation_id: SagaId,
        *,
        finished: Literal[True],
        timeout: timedelta = ...,  # noqa: ASYNC109
    ) -> Instance[SagaT]: ...

    @overload
    async def wait_for(
        self,
        saga_type: type[SagaT],
        correlation_id: SagaId,
        *,
        state: State | str,
        timeout: timedelta = ...,  # noqa: ASYNC109
    ) -> Instance[SagaT]: ...

    async def wait_for(
        self,
        saga_type: type[SagaT],
        correlation_id: SagaId,
        *,
        finished: bool = False,
        state: State | str | None = None,
        timeout: timedelta = timedelta(seconds=30),  # noqa: ASYNC109 - tells what took too long
    ) -> Instance[SagaT]:
        """Wait until a saga has ended or is in *state*, and return a copy of it.

        Whichever process stores the saga: what this one stores is seen at once, and for what others
        store it looks with growing pauses, of at most 250 ms. A saga that is not there yet is
        waited for, too. A state that the saga passes through between two looks is missed.

        :param finished: wait until it has ended, in whatever final state; its messages may still
            be on their way. Either this or *state* is given.
        :param state: wait until it is in this state.
        :param timeout: how long to wait at most, by the clock of the event loop.
        :raises WaitTimeoutError: if that takes longer; it says in which state the saga is, and is a
            `TimeoutError`, too.
        :raises WaitError: at once, if it will not come by itself: the saga is suspended until an
            operator sees to it, or has ended in another state.
        :raises SagaflowError: if the class has no such state.
        :raises ValueError: if neither *finished* nor *state* is given, or both are, or *timeout* is
            not positive.
        :raises CorrelationError: if *correlation_id* cannot be an id.
        :raises SerializationError: if its data does not fit the class, or a migration fails.
        :raises NewerSchemaError: if newer code has stored it.
        :raises DamagedDocumentError: if it is no document of sagaflow's.
        :raises RepositoryError: if the store failed; but while no server can be reached, it goes on
            waiting.
        """
        goal = goal_of(saga_type, finished=finished, state=state)
        if timeout <= timedelta(0):
            raise ValueError(f"timeout must be more than nothing, not {timeout!r}")
        return await self._parts.waiting.wait_for(saga_type, correlation_id, goal, timeout)

    def find_by_state(
        self, saga_type: type[SagaT], state: State | str
    ) -> AsyncGenerator[Instance[SagaT], None]:
        """Yield every saga in *state*, the one that changed longest ago first.

        Whoever leaves the loop early closes it: `contextlib.aclosing`.

        :raises SagaflowError: if the class has no such state.
        :raises ServerUnavailableError: if no server could be reached.
        :raises RepositoryError: if the store failed otherwise.
        :raises NewerSchemaError: at the end, after all others, if newer code has stored one.
        :raises DamagedDocumentError: at the end, if one is no document of sagaflow's.
        :raises SerializationError: at the end, if the data of one does not fit the class.
        """
        return self._parts.store.repository.find_by_state(
            saga_type, state, now=self._parts.process.clock.now()
        )

    def find_stale(
        self, saga_type: type[SagaT], older_than: timedelta | datetime
    ) -> AsyncGenerator[Instance[SagaT], None]:
        """Yield every unfinished saga that has not changed for so long, or since that instant.

        Whoever leaves the loop early closes it: `contextlib.aclosing`.

        :param older_than: how long ago, or an aware instant.
        :raises SagaflowError: if it is neither.
        :raises ServerUnavailableError: if no server could be reached.
        :raises RepositoryError: if the store failed otherwise.
        :raises NewerSchemaError: at the end, after all others, if newer code has stored one.
        :raises DamagedDocumentError: at the end, if one is no document of sagaflow's.
        :raises SerializationError: at the end, if the data of one does not fit the class.
        """
        return self._parts.store.repository.find_stale(
            saga_type, older_than, now=self._parts.process.clock.now()
        )

    async def _resume_now(self, saga_type: type[Saga], correlation_id: SagaId) -> None:
        """Do what an operator has put back to work, whoever has a lease on it."""
        await self._parts.resuming.resume(saga_type, correlation_id, self._tasks, take_over=True)

    async def _settle(self) -> None:
        """Remove what was sent from its sagas, also when cancelled; others would send it again."""
        try:
            with anyio.move_on_after(self._shutdown_timeout.total_seconds(), shield=True):
                await self._parts.removals.settle_all()
        finally:
            self._parts.store.repository.settle_without(self._parts.removals.settle)

    async def _resume(self, saga_type: type[Saga], correlation_id: SagaId) -> Lane | None:
        return await self._parts.resuming.resume(
            saga_type, correlation_id, self._tasks, take_over=False, wait=False
        )

    async def _run_background(self) -> None:
        assert self._tasks is not None  # noqa: S101 - they run in it
        assert self._background_scope is not None  # noqa: S101
        with self._background_scope:
            await self._parts.background.run(self._tasks)

    async def _receive(self, envelope: Envelope[object]) -> Verdict:
        self._refuse_if_closed()
        return await self._parts.intake.receive(envelope, self._tasks)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise OrchestratorClosedError(
                "this Orchestrator is closed: use it inside its `async with` block"
            )
