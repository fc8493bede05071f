"""The stage of a test: an orchestrator, a clock, participants, and what has happened to a saga."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Generic, TypeVar, cast
from uuid import uuid4

from attrs import define, field, frozen

from sagaflow._codec.data import encode_saga
from sagaflow._codec.documents import encode_record
from sagaflow._codec.instance import Instance
from sagaflow._codec.messages import MessageTypes
from sagaflow._concurrency.generators import closing
from sagaflow._definition.saga import Saga, definition_of
from sagaflow._definition.state import State
from sagaflow._engine.correlation import correlate
from sagaflow._engine.outcome import Outcome, OutcomeKind
from sagaflow._model.errors import SagaflowError
from sagaflow._model.ids import MessageId, SagaId
from sagaflow._model.policy import RetryPolicy
from sagaflow._model.record import (
    CompensationStatus,
    HistoryEntry,
    HistoryKind,
    RecordedCompensation,
    SagaRecord,
    StoredMessage,
    Timer,
    TimerKind,
)
from sagaflow._model.services import svcs
from sagaflow.abc import SagaRepository
from sagaflow.memory import MemoryRepository
from sagaflow.orchestrator import Orchestrator
from sagaflow.testing._clock import ManualClock
from sagaflow.testing._participants import Participants, Told

SagaT = TypeVar("SagaT", bound=Saga)

_MOST: Final = 10_000
"""How many things may happen within one call; a saga that goes on for ever is an error."""

_ACCEPTED: Final = frozenset(
    {
        OutcomeKind.STARTED,
        OutcomeKind.TRANSITIONED,
        OutcomeKind.STAYED,
        OutcomeKind.DEFERRED,
        OutcomeKind.COMPENSATING,
        OutcomeKind.SUSPENDED,
    }
)
"""The outcomes that an event of ``given`` may have."""


@frozen
class Taken:
    """An event that was handed to the saga, and what became of it."""

    at: datetime
    event: object
    outcome: Outcome


@define(kw_only=True, eq=False)
class Stage(Generic[SagaT]):
    """Plays one saga. Nothing runs in the background: all is done before a call returns.

    :ivar told: the messages that left the saga since the last `forget`.
    :ivar undone: the steps that were undone since then, in order.
    :ivar taken: every event that it was handed.
    :ivar asserted: whether the test has asserted something since; then the next action forgets what
        has happened before.
    """

    saga_type: type[SagaT]
    correlation_id: SagaId | None
    clock: ManualClock
    repository: SagaRepository
    orchestrator: Orchestrator
    participants: Participants
    messages: MessageTypes
    instance: Instance[SagaT] | None = field(default=None, init=False)
    outcome: Outcome | None = field(default=None, init=False)
    undone: list[RecordedCompensation] = field(factory=list[RecordedCompensation], init=False)
    taken: list[Taken] = field(factory=list[Taken], init=False)
    asserted: bool = field(default=False, init=False)
    _begun: int = field(default=0, init=False)

    @property
    def told(self) -> list[Told]:
        """The messages that left the saga since the last `forget` and were not refused."""
        return [told for told in self.participants.told[self._begun :] if not told.refused]

    def forget(self) -> None:
        """Begin to count anew what is sent and undone."""
        self._begun = len(self.participants.told)
        self.undone.clear()
        self.outcome, self.asserted = None, False

    async def given(self, events: Sequence[object]) -> None:
        """Have the saga take *events* with nobody listening to it."""
        self.participants.listening = False
        try:
            for event in events:
                taken = await self._hand_over(event)
                if taken.kind not in _ACCEPTED:
                    raise SagaflowError(
                        f"given({type(event).__name__}) cannot be: a {self.saga_type.__name__} in "
                        f"the state {_name(taken.state)} says {taken.kind.value} to it"
                    )
        finally:
            self.participants.listening = True
        self.forget()

    async def put(
        self, state: State, saga: SagaT | None, completed: Iterable[tuple[object, object]]
    ) -> None:
        """Store a saga that is in *state*, as if it had just entered it."""
        if self.correlation_id is None:
            raise SagaflowError(
                f"given_state() needs to know which saga: SagaTest({self.saga_type.__name__}, id)"
            )
        table = self.saga_type.table
        if table.state(state.name) is None:
            states = ", ".join(known.name for known in table.states)
            raise SagaflowError(f"{self.saga_type.__name__} has no {state!r}; it has: {states}")
        if state.final:
            raise SagaflowError(f"{state!r} is final: a saga gets there by an event only")
        now, token, timers = self.clock.now(), uuid4().hex, self._armed(state)
        entry = HistoryEntry(
            at=now,
            event="(given)",
            step="",
            source=None,
            target=state.name,
            message_id="given",
            version=1,
            token=token,
            kind=HistoryKind.OTHER,
        )
        record = SagaRecord(
            correlation_id=self.correlation_id,
            incarnation=uuid4().hex,
            version=1,
            token=token,
            schema=definition_of(self.saga_type).options.schema,
            state=state.name,
            data=encode_saga(saga or self.saga_type()),
            compensations=tuple(
                self._completed(number, step, event)
                for number, (step, event) in enumerate(completed)
            ),
            history=(entry,),
            timers=timers,
            wake=min((timer.due for timer in timers), default=None),
            created_at=now,
            updated_at=now,
        )
        if not await self.repository.insert_document(table.saga, encode_record(record)):
            raise SagaflowError(f"there is a saga {self.correlation_id!r} already")
        await self._look()
        self.forget()

    async def when(
        self, event: object, *, message_id: MessageId | None, correlation_id: SagaId | None
    ) -> None:
        """Have the saga take *event*, and everything that follows from it at this instant."""
        self._act()
        self.outcome = await self._hand_over(event, message_id, given=correlation_id)
        await self._settle()

    async def advance(self, by: timedelta) -> None:
        """Move the clock, stopping wherever something is due, and do that."""
        if by < timedelta(0):
            raise SagaflowError(f"a clock does not go back: advance({by!r})")
        self._act()
        end, done = self.clock.now() + by, None
        for _ in range(_MOST):
            due = await self._next_due(done)
            if due is None or due > end:
                break
            self.clock.advance(max(due - self.clock.now(), timedelta(0)))
            await self._settle()
            await self.orchestrator.run_due()
            await self._look()
            await self._settle()
            done = self.clock.now()
        else:
            raise SagaflowError(f"advance({by}): more than {_MOST:,} things happen until then")
        self.clock.advance(end - self.clock.now())

    async def operate(self, operation: Callable[[type[Saga], SagaId], Any]) -> None:
        """Do to the saga what an operator does."""
        if self.correlation_id is None:
            raise SagaflowError("there is no saga yet: start one, or put it into a state")
        self._act()
        await operation(self.saga_type, self.correlation_id)
        await self._look()
        await self._settle()

    def name_of(self, step: object) -> str:
        """Return the name of a step or of another method of the saga."""
        if isinstance(step, str):
            return step
        for owner in self.saga_type.__mro__:
            for name, value in vars(owner).items():
                if value is step:
                    return name
        raise SagaflowError(f"{self.saga_type.__name__} has no step {step!r}")

    def decode(self, stored: StoredMessage) -> object:
        """Return a message that is stored in the saga."""
        return cast("object", self.messages.decode(stored, self.saga_type.__name__))

    def _act(self) -> None:
        if self.asserted:
            self.forget()

    async def _hand_over(
        self,
        event: object,
        message_id: MessageId | None = None,
        *,
        given: SagaId | None = None,
        answered: MessageId | None = None,
    ) -> Outcome:
        """Have the saga take *event*, also if the event does not say which saga it is for."""
        table, known = self.saga_type.table, answered or self.correlation_id
        outcome = await self.orchestrator.handle(
            event,
            correlation_id=correlate(table, event, given, known),
            message_id=message_id,
            saga_type=self.saga_type,
        )
        self.taken.append(Taken(self.clock.now(), event, outcome))
        if self.correlation_id is None:
            self.correlation_id = outcome.correlation_id
        await self._look()
        return outcome

    async def _settle(self) -> None:
        """Hand answers over to the saga, until there are no more."""
        for _ in range(_MOST):
            answer = self.participants.next_answer(self.clock.now())
            if answer is None:
                return
            await self._hand_over(answer.event, answer.id, answered=answer.correlation_id)
        raise SagaflowError(
            f"{self.saga_type.__name__} and its participants do not come to rest: more than "
            f"{_MOST:,} answers at one instant"
        )

    async def _next_due(self, after: datetime | None) -> datetime | None:
        """Return when something happens next, after an instant that has been dealt with."""
        due = [answer.due for answer in self.participants.answers]
        scanned = self.repository.scan_documents(self.saga_type.table.saga)
        async with closing(scanned) as documents:
            due += [document["wake"] async for document in documents if "wake" in document]
        return min((when for when in due if after is None or when > after), default=None)

    async def _look(self) -> None:
        """See what has become of the saga, and which of its steps are undone now."""
        if self.correlation_id is None:
            return
        before, found = (
            self.instance,
            await self.orchestrator.find(self.saga_type, self.correlation_id),
        )
        self.instance = found
        known = {c.id for c in (before.compensations if before else ()) if _is_done(c)}
        done = found.compensations if found else ()
        self.undone += [c for c in reversed(done) if _is_done(c) and c.id not in known]

    def _armed(self, state: State) -> tuple[Timer, ...]:
        now = self.clock.now()
        armed = [
            (row.step, TimerKind.TIMEOUT, row.after)
            for row in self.saga_type.table.timeouts(state.name)
            if row.after is not None
        ]
        default = definition_of(self.saga_type).options.timeout
        if not armed and default is not None:
            armed = [("timeout", TimerKind.DEFAULT, default)]
        return tuple(
            Timer(
                id=f"given timer {number}",
                name=name,
                due=now + delay,
                kind=kind,
                delay=delay,
                causation_id="given",
            )
            for number, (name, kind, delay) in enumerate(armed)
        )

    def _completed(self, number: int, step: object, event: object) -> RecordedCompensation:
        name, table = self.name_of(step), self.saga_type.table
        if name not in table.compensations:
            raise SagaflowError(
                f"{table.saga}: nothing undoes {name!r}; steps that are undone: "
                f"{', '.join(table.compensations) or 'none'}"
            )
        return RecordedCompensation(
            id=f"0.{number}",
            step=name,
            method=table.compensations[name],
            event=self.messages.encode(event, f"given {name}"),
            message_id=f"given {number}",
        )


def build_stage(
    saga_type: type[SagaT],
    correlation_id: SagaId | None,
    *,
    clock: ManualClock | None,
    repository: SagaRepository | None,
    services: svcs.Registry | None,
    messages: Iterable[type],
    retry: RetryPolicy | None,
) -> Stage[SagaT]:
    """Return a stage on which nothing has happened yet."""
    clock = clock or ManualClock()
    repository = repository or MemoryRepository(clock=clock)
    participants = Participants(clock, saga_type.table.takes)
    known = tuple(messages)
    return Stage(
        saga_type=saga_type,
        correlation_id=correlation_id,
        clock=clock,
        repository=repository,
        participants=participants,
        messages=MessageTypes([saga_type], known),
        orchestrator=Orchestrator(
            [saga_type],
            repository,
            bus=participants,
            services=services,
            clock=clock,
            messages=known,
            retry=retry,
        ),
    )


def _is_done(compensation: RecordedCompensation) -> bool:
    return compensation.status is CompensationStatus.DONE


def _name(state: State | None) -> str:
    return "(none)" if state is None else state.name
