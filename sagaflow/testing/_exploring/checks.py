"""What must hold in every world that a history leads to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from attrs import field, frozen

from sagaflow._definition.chain import Finished
from sagaflow._definition.saga import Saga
from sagaflow._definition.table import Action, TransitionRow
from sagaflow._engine.correlation import correlate
from sagaflow._engine.outcome import OutcomeKind
from sagaflow._engine.writing import ENDED
from sagaflow._model.record import (
    TRANSITIONS,
    CompensationStatus,
    HistoryEntry,
    HistoryKind,
    SagaRecord,
    Status,
    SuspensionReason,
)
from sagaflow.testing._exploring.findings import FindingKind
from sagaflow.testing._exploring.runner import Ran
from sagaflow.testing._exploring.world import Delivered, World, instances

_UNSETTLED = (HistoryKind.PARKED, HistoryKind.ATTEMPT)
_REFUSED = (OutcomeKind.UNHANDLED, OutcomeKind.IGNORED)


@frozen
class Problem:
    """Something that does not hold.

    :ivar kind: what kind of mistake it is.
    :ivar text: the mistake in words; two paths with the same text have the same mistake.
    :ivar detail: what else there is to say about one of the paths.
    """

    kind: FindingKind
    text: str
    detail: str = field(default="", eq=False)


@frozen(kw_only=True)
class Checks:
    """What one exploration looks for.

    :ivar saga: the class.
    :ivar invariants: predicates of the user.
    :ivar nothing_to_undo: steps that need no compensation.
    :ivar names: the names under which message classes are stored, if not their own.
    """

    saga: type[Saga]
    invariants: Sequence[Callable[..., object]]
    nothing_to_undo: frozenset[str]
    names: Mapping[type, str]
    _undone_states: frozenset[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        rows = [row for row in self.saga.table.rows if row.compensates]
        found = frozenset(target.name for row in rows for target in row.targets)
        object.__setattr__(self, "_undone_states", found)

    def after(self, ran: Ran) -> Iterator[Problem]:
        """Yield what does not hold after a step."""
        for name, error in ran.errors:
            yield Problem(FindingKind.ERROR, f"{name} raised {type(error).__name__}: {error}")
        for record in ran.world.records:
            yield from self._lost(ran.world, record)
            yield from self._compensations(ran.world, record)
        yield from self._broken_invariants(ran.world)

    def stuck(self, world: World, *, nothing_else_comes: bool) -> Iterator[tuple[Problem, bool]]:
        """Yield which sagas wait for what does not come, and whether it has come before.

        :param nothing_else_comes: whether that is known; otherwise only a saga is stuck that
            waits for an event which it has refused.
        """
        for record in world.records:
            if not _waits(record):
                continue
            taken = self._taken(record.state)
            missed = [d for d in world.delivered if self._missed(record, d)]
            if missed or nothing_else_comes:
                yield self._waiting(record, taken, missed), bool(missed)

    def _waiting(
        self, record: SagaRecord, taken: Sequence[TransitionRow], missed: Sequence[Delivered]
    ) -> Problem:
        names = list(dict.fromkeys(row.event.__name__ for row in taken if row.event is not None))
        text = f"{self.saga.__name__} waits in {record.state} and nothing that comes leads on"
        text += f"; it takes {', '.join(names)} there" if names else "; it takes nothing there"
        came = dict.fromkeys(
            f"; {type(d.event).__name__} came before and was {d.kind.value.replace('_', ' ')}"
            for d in missed
            if d.kind is not None
        )
        return Problem(FindingKind.STUCK, text, "".join(came))

    def _taken(self, state: str) -> list[TransitionRow]:
        return [
            row
            for row in self.saga.table.rows
            if row.source is not None
            and row.source.name == state
            and row.action not in (Action.IGNORE, Action.DEFER)
        ]

    def _missed(self, record: SagaRecord, delivered: Delivered) -> bool:
        """Tell whether a saga waits for an event that it has refused before."""
        if delivered.kind not in _REFUSED:
            return False
        if correlate(self.saga.table, delivered.event, None, record.correlation_id) != (
            record.correlation_id
        ):
            return False
        rows = self.saga.table.candidates(record.state, type(delivered.event))
        return any(row.action in (Action.GOTO, Action.BRANCH) for row in rows)

    def _lost(self, world: World, record: SagaRecord) -> Iterator[Problem]:
        kept = {event.id for event in record.parked}
        steps: dict[object, list[HistoryEntry]] = {}
        for entry in record.history:
            steps.setdefault(entry.message_id, []).append(entry)
        for delivered in world.delivered:
            message_id = delivered.message_id
            if message_id not in world.promised or message_id in kept:
                continue
            found = correlate(self.saga.table, delivered.event, None, record.correlation_id)
            if found != record.correlation_id:
                continue
            entries = steps.get(message_id, [])
            name = type(delivered.event).__name__
            dropped = [
                entry
                for entry in entries
                if entry.kind is HistoryKind.DROPPED and entry.step == "unhandled"
            ]
            if dropped:
                yield Problem(
                    FindingKind.LOST_EVENT,
                    f"{self.saga.__name__} kept {name} and then dropped it as unhandled in "
                    f"{dropped[0].target}",
                )
            elif all(entry.kind in _UNSETTLED or entry.step == ENDED for entry in entries):
                yield Problem(
                    FindingKind.LOST_EVENT,
                    f"{self.saga.__name__} accepted {name}, and it is neither handled nor kept in "
                    f"{record.state}",
                )

    def _compensations(self, world: World, record: SagaRecord) -> Iterator[Problem]:
        undone = [e for e in record.history if e.kind is HistoryKind.COMPENSATION]
        recorded = [(entry.step, entry.message_id) for entry in record.compensations]
        yield from self._undoing(record, undone)
        yield from self._repeated(world, record)
        steps = [entry for entry in record.history if entry.kind in TRANSITIONS]
        happened = {(entry.step, entry.message_id) for entry in steps}
        for entry in undone:
            if (entry.step, entry.message_id) not in happened:
                yield self._problem(f"{entry.step} was undone and has never happened")
        if undone or any(entry.compensates for entry in record.history):
            for entry in steps:
                if (entry.step, entry.message_id) not in recorded and self._needs_undoing(entry):
                    yield self._problem(
                        f"{entry.step} was completed, and nothing undoes it when the saga "
                        f"compensates: declare @compensates({entry.step}), or pass "
                        f"nothing_to_undo=[{self.saga.__name__}.{entry.step}]"
                    )

    def _undoing(self, record: SagaRecord, undone: Sequence[HistoryEntry]) -> Iterator[Problem]:
        """Compare what is recorded with what was undone."""
        pending = [e.step for e in record.compensations if e.status is CompensationStatus.PENDING]
        ends_undone = undone or record.state in self._undone_states
        if record.finished_at is not None and pending and ends_undone:
            yield self._problem(
                f"the saga ended in {record.state} and has not undone {', '.join(pending)}"
            )
        done = [(entry.step, entry.message_id) for entry in undone]
        expected = [
            (entry.step, entry.message_id)
            for entry in reversed(record.compensations)
            if entry.status is CompensationStatus.DONE
        ]
        if done != expected:
            yield self._problem(
                f"undone were {_steps(done)}, where {_steps(expected)} was to be undone, "
                "last first and each once"
            )

    def _repeated(self, world: World, record: SagaRecord) -> Iterator[Problem]:
        """Find messages of a compensation that were sent by something else as well."""
        sent = [m for m in world.sent if m.correlation_id == record.correlation_id]
        for message in sent:
            step = world.undoing.get(message.id)
            times = 0 if step is None else sum(m.body == message.body for m in sent)
            if times > 1:
                yield self._problem(
                    f"undoing {step} sends {message.body!r}, which was sent {times} times"
                )

    def _needs_undoing(self, entry: HistoryEntry) -> bool:
        """Tell whether an entry is a step forward that did something, and has to be undone."""
        # A transition that compensates ends the way forward: it has the steps before it undone.
        if entry.source is None or entry.compensates or entry.step in self.nothing_to_undo:
            return False
        return any(
            row.event is not None
            and row.action in (Action.GOTO, Action.BRANCH)
            and not all(target.final for target in row.targets)
            for row in self._rows(entry)
        ) and not isinstance(getattr(self.saga, entry.step, None), Finished)

    def _rows(self, entry: HistoryEntry) -> list[TransitionRow]:
        """Return the transitions that an entry may stand for."""
        return [
            row
            for row in self.saga.table.rows
            if row.step == entry.step
            and (row.source is None if entry.source is None else row.source is not None)
            and (row.source is None or row.source.name == entry.source)
            and (
                entry.kind is HistoryKind.TIMEOUT
                if row.event is None
                else entry.event in self._names(row.event)
            )
        ]

    def _names(self, event: type) -> set[str]:
        """Return the names under which events of a class and its subclasses are stored."""
        found = {self.names.get(event, event.__name__)}
        subclasses: list[type] = event.__subclasses__()
        for subclass in subclasses:
            found |= self._names(subclass)
        return found

    def _broken_invariants(self, world: World) -> Iterator[Problem]:
        for instance in instances(self.saga, world) if self.invariants else ():
            sent = tuple(m.body for m in world.sent if m.correlation_id == instance.correlation_id)
            for invariant in self.invariants:
                name = getattr(invariant, "__name__", repr(invariant))
                try:
                    holds = invariant(instance, sent)
                except AssertionError as exc:
                    said = str(exc).partition("\n")[0]
                    holds, name = False, f"{name}: {said}" if said else name
                if holds is not None and not holds:
                    yield Problem(FindingKind.INVARIANT, f"{name} does not hold")

    def _problem(self, text: str) -> Problem:
        return Problem(FindingKind.COMPENSATION, text)


def _waits(record: SagaRecord) -> bool:
    """Tell whether only an event, or an operator, can move a saga that has not ended."""
    if record.status is Status.SUSPENDED and not record.parked:
        suspension = record.suspension
        return suspension is not None and suspension.reason is SuspensionReason.TIMEOUT
    return record.status is Status.ACTIVE and record.wake is None


def _steps(entries: Sequence[tuple[str, object]]) -> str:
    return ", ".join(step for step, _ in entries) or "nothing"
