"""Takes a world through one step, with the real orchestrator."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, cast

from attrs import define, evolve, field, frozen

from sagaflow._definition.saga import Saga
from sagaflow._definition.table import Action
from sagaflow._engine.correlation import correlate
from sagaflow._engine.outcome import Outcome, OutcomeKind
from sagaflow._model.envelope import Envelope
from sagaflow._model.errors import SagaflowError
from sagaflow._model.ids import MessageId
from sagaflow._model.policy import RetryPolicy
from sagaflow._model.record import TRANSITIONS, SagaRecord, Status
from sagaflow._model.services import svcs
from sagaflow.orchestrator import Orchestrator
from sagaflow.testing._exploring.instruments import InjectedError, Instruments, instrumented
from sagaflow.testing._exploring.process import (
    Death,
    DyingRepository,
    ProcessGoneError,
    RecordingBus,
    TickingClock,
)
from sagaflow.testing._exploring.steps import Advance, Deliver, Retry, Silence, Step
from sagaflow.testing._exploring.world import (
    AnsweringEvents,
    AnswersByClass,
    Delivered,
    InFlight,
    World,
)

AT_ONCE: Final = RetryPolicy(
    initial_delay=timedelta(milliseconds=1),
    max_delay=timedelta(milliseconds=1),
    max_age=timedelta(milliseconds=1),
)
"""Failing work is tried again in the same step; if it goes on failing, its saga is suspended."""

HANDLED: Final = frozenset(
    {
        OutcomeKind.STARTED,
        OutcomeKind.TRANSITIONED,
        OutcomeKind.STAYED,
        OutcomeKind.COMPENSATING,
    }
)


@frozen(kw_only=True)
class Ran:
    """The result of a step.

    :ivar world: the world after the step.
    :ivar said: what became of the step, in words.
    :ivar outcome: what became of an event; None if nobody was told.
    :ivar called: the methods that ran, in order.
    :ivar writes: how often the process has written, or tried to.
    :ivar is_handled: whether a transition took the event, or deferred it.
    :ivar changed: whether anything that is stored or was sent is different now.
    :ivar errors: what went wrong without being told to: where, and what.
    """

    world: World
    said: str
    outcome: Outcome | None = None
    called: tuple[str, ...] = ()
    writes: int = 0
    is_handled: bool = False
    changed: bool = False
    errors: tuple[tuple[str, Exception], ...] = ()


@define(kw_only=True)
class Runner:
    """Runs one saga class, a step at a time.

    :ivar saga: the class.
    :ivar participants: what answers its commands.
    :ivar services: what its handlers find in ``ctx.services``.
    :ivar messages: further message classes.
    """

    saga: type[Saga]
    participants: AnswersByClass
    services: svcs.Registry | None
    messages: Iterable[type] | Mapping[str, type]
    _instruments: Instruments = field(factory=Instruments, init=False)
    _instrumented: type[Saga] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._instrumented = instrumented(self.saga, self._instruments)

    async def run(self, world: World, step: Step) -> Ran:
        """Return what *step* makes of *world*, which stays as it is."""
        if isinstance(step, Silence):
            return Ran(world=world, said="")
        clock = TickingClock(world.now)
        if isinstance(step, Advance) and world.wake is not None:
            clock.advance(max(world.wake - world.now, timedelta(0)))
        death = Death() if isinstance(step, Retry) else Death(step.crash_before, step.crash_after)
        broken = frozenset[str]() if isinstance(step, Retry) else world.broken
        once: str | None = None
        if not isinstance(step, Retry) and step.fails is not None:
            once, broken = (None, broken | {step.fails}) if step.always else (step.fails, broken)
        self._instruments.reset(once, broken)
        repository, bus = DyingRepository(clock, death), RecordingBus(death)
        name = self.saga.table.saga
        for document in world.documents:
            await repository.restore(name, document)
        orchestrator = Orchestrator(
            [self._instrumented],
            repository,
            bus=bus,
            services=self.services,
            clock=clock,
            messages=self.messages,
            retry=AT_ONCE,
            background=False,
        )
        outcome: Outcome | None = None
        raised: Exception | None = None
        try:
            with _quiet():
                outcome = await self._taken(orchestrator, bus, step, by_bus=bool(broken))
        except* ProcessGoneError:
            pass
        except* Exception as group:  # noqa: BLE001 - a finding; the exploration goes on
            raised = _first(group)
        after = evolve(
            world,
            documents=tuple([d async for d in repository.stored(name)]),
            now=clock.now(),
            broken=broken,
            undoing={**world.undoing, **repository.undoing},
        )
        after = self._with_sent(after, bus)
        lost = raised is not None or death.is_dead
        # An event that came before its saga was refused where all can see it: it comes again.
        early = outcome is not None and outcome.kind is OutcomeKind.NOT_FOUND
        if isinstance(step, Deliver) and not lost and not early:
            after = _delivered(self.saga, world, after, step, outcome)
        return Ran(
            world=after,
            said=_said(after, outcome, raised, death),
            outcome=outcome,
            called=tuple(self._instruments.called),
            writes=death.writes,
            is_handled=after.promised != world.promised,
            changed=_version(after) != _version(world) or after.sent != world.sent,
            errors=self._errors(raised),
        )

    async def _taken(
        self, orchestrator: Orchestrator, bus: RecordingBus, step: Step, *, by_bus: bool
    ) -> Outcome | None:
        match step:
            case Deliver(event):
                found = correlate(self.saga.table, event, None, step.correlation_id)
                if not by_bus:
                    return await orchestrator.handle(
                        event, correlation_id=found, message_id=_id(step)
                    )
                # Nobody is told of a failure then: the saga keeps what has failed.
                async with orchestrator:
                    envelope = Envelope[object](
                        body=event,
                        id=_id(step),
                        correlation_id=found,
                    )
                    assert bus.receive is not None  # noqa: S101 - it has subscribed
                    await bus.receive(envelope)
                return None
            case Retry(correlation_id):
                await orchestrator.retry(self._instrumented, correlation_id)
            case _:
                await orchestrator.run_due()
        return None

    def _with_sent(self, world: World, bus: RecordingBus) -> World:
        """Return *world* with what was sent, each message once, and with what answers it."""
        known = {message.id for message in world.sent}
        sent, pending = list(world.sent), list(world.pending)
        for message in bus.accepted:
            if message.id in known:
                continue
            known.add(message.id)
            sent.append(message)
            answers = self._answers(message.body)
            if answers:
                name = type(message.body).__name__
                number = sum(type(earlier.body).__name__ == name for earlier in sent)
                pending.append(
                    InFlight(
                        id=f"{name}-{number}", answers=answers, answer_to=message.correlation_id
                    )
                )
        return evolve(world, sent=tuple(sent), pending=tuple(pending))

    def _answers(self, command: object) -> tuple[AnsweringEvents, ...]:
        """Return what a participant may answer: nothing at all, or one of several answers."""
        participant = next(
            (self.participants[c] for c in type(command).__mro__ if c in self.participants), None
        )
        if participant is None:
            return ()
        given = participant(command)
        if given is None:
            return ()
        several = cast("list[object]", given) if isinstance(given, list | tuple) else [given]
        answers = tuple(dict.fromkeys(_answer(one) for one in several))
        for event in (event for answer in answers for event in answer):
            if not self.saga.table.takes(type(event)):
                raise SagaflowError(
                    f"the participant of {type(command).__name__} answers {event!r}, which "
                    f"{self.saga.__name__} does not take"
                )
        return answers

    def _errors(self, raised: Exception | None) -> tuple[tuple[str, Exception], ...]:
        errors = list(self._instruments.errors)
        known = raised is None or isinstance(raised, InjectedError)
        if not known and all(error is not raised for _, error in errors):
            errors.append((self.saga.__name__, cast("Exception", raised)))
        return tuple(errors)


def _answer(given: object) -> AnsweringEvents:
    if given is None:
        return ()
    return tuple(cast("list[object]", given)) if isinstance(given, list | tuple) else (given,)


def _delivered(
    saga: type[Saga], before: World, after: World, step: Deliver, outcome: Outcome | None
) -> World:
    """Return the world *after* an event, with what became of it."""
    kind = None if outcome is None else outcome.kind
    delivered = Delivered(_id(step), step.event, kind)
    promised = after.promised
    if kind is None:
        handled = any(_handled(record, _id(step)) for record in after.records)
    elif kind is OutcomeKind.DEFERRED:
        handled = _is_deferred(saga, before, step)
    else:
        handled = kind in HANDLED
    if handled:
        promised |= {_id(step)}
    return evolve(after, delivered=(*after.delivered, delivered), promised=promised)


def _handled(record: SagaRecord, message_id: MessageId) -> bool:
    """Tell whether a transition of the saga took a message."""
    return any(
        entry.kind in TRANSITIONS for entry in record.history if entry.message_id == message_id
    )


def _is_deferred(saga: type[Saga], world: World, step: Deliver) -> bool:
    """Tell whether the saga defers an event, rather than keeping it because it is at work."""
    found = correlate(saga.table, step.event, None, step.correlation_id)
    state: str | None = None
    for record in world.records:
        if record.correlation_id == found:
            if record.status not in (Status.ACTIVE, Status.EMBRYO):
                return False
            state = record.state or None
    rows = saga.table.candidates(state, type(step.event))
    return any(row.action is Action.DEFER for row in rows)


def _id(step: Deliver) -> MessageId:
    return type(step.event).__name__ if step.message_id is None else step.message_id


def _version(world: World) -> list[tuple[str, int]]:
    return [(record.incarnation, record.version) for record in world.records]


def _said(world: World, outcome: Outcome | None, raised: Exception | None, death: Death) -> str:
    states = ", ".join(
        f"{record.state or 'not started'}"
        + (
            ""
            if record.status.value in {"active", "finished", "embryo"}
            else f" ({record.status.value})"
        )
        for record in world.records
    )
    if death.is_dead:
        happened = "the process is gone"
    elif raised is not None:
        happened = f"{type(raised).__name__}: {raised}"
    else:
        happened = "done" if outcome is None else outcome.kind.value
    return f"{happened}; {states or 'no saga'}"


def _first(error: BaseException) -> Exception:
    """Return the first error in a group that may hold groups."""
    found: Any = error
    while isinstance(found, BaseExceptionGroup):
        found = cast("Any", found).exceptions[0]
    return cast("Exception", found)


@contextmanager
def _quiet() -> Generator[None]:
    """Keep the library from logging the failures that are made on purpose."""
    logger = logging.getLogger("sagaflow")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)
