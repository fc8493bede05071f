"""What an operator can do to one saga: each operation is one conditional write, and audited."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from attrs import frozen

from sagaflow._definition.saga import Saga
from sagaflow._definition.state import State
from sagaflow._engine.failure import cancelled, resumed, skipped
from sagaflow._engine.work import Machine
from sagaflow._engine.writing import is_leased_to_others
from sagaflow._model.errors import OperationError, UnknownStateError
from sagaflow._model.ids import SagaId, check_id
from sagaflow._model.record import (
    CompensationStatus,
    OutgoingMessage,
    SagaRecord,
    Status,
    has_expired,
)
from sagaflow._runtime.outbox import Outbox
from sagaflow._runtime.process import Process
from sagaflow._runtime.races import Race
from sagaflow._runtime.store import Store

_TRIES_AGAIN = ("retry", "resume")
"""Operations that are allowed although the saga's migration fails: it may be mended by now."""
_SAY_THEMSELVES = ("skip", "cancel")
"""Operations that may find a saga in a state unknown to its class: they check that themselves."""


@frozen(kw_only=True)
class Cancellation:
    """What a cancelled saga undoes, and what becomes of the messages that it had sent so far.

    :ivar state: the state that the saga ends in.
    :ivar undone: the steps that are undone before that, in this order.
    :ivar withdrawn: messages that the bus never accepted; they are not offered to it any more.
    :ivar under_way: messages that this process or another one is offering to the bus at this
        moment, or may be. They are not offered again, but may still arrive.
    :ivar kept: messages that undo steps and still have to be sent.
    :ivar sent: how many messages the bus has accepted before. The commands among them may still be
        carried out, and their answers will find the saga ended.
    """

    state: str
    undone: tuple[str, ...]
    withdrawn: tuple[OutgoingMessage, ...]
    under_way: tuple[OutgoingMessage, ...]
    kept: tuple[OutgoingMessage, ...]
    sent: int


@frozen(kw_only=True)
class Operations:
    """Lifts suspensions and ends sagas. The caller does the work that is due after that."""

    process: Process
    store: Store
    outbox: Outbox
    conflict_deadline: timedelta

    async def resume(
        self, saga_type: type[Saga], correlation_id: SagaId, action: str, *, leaves: bool
    ) -> None:
        """Lift a suspension: what failed is tried again, and then what has waited behind it.

        :param leaves: whether what is due after that is left to other processes.
        :raises OperationError: if there is no such saga, or it is not suspended.
        """
        machine = self.process.machine(saga_type)

        def change(record: SagaRecord) -> SagaRecord:
            self._check_suspended(saga_type, record, action)
            return resumed(record, action, machine, self.process.write(leaves=leaves))

        await self._change(saga_type, correlation_id, action, change)

    async def skip(self, saga_type: type[Saga], correlation_id: SagaId, *, leaves: bool) -> None:
        """Lift a suspension and leave out what failed.

        :param leaves: whether what is due after that is left to other processes.
        :raises OperationError: if there is no such saga, it is not suspended, or it is on its way
            to a state that its class no longer has.
        :raises UnknownStateError: if it is in such a state.
        :raises ConcurrencyError: if other writers were faster until the deadline.
        """
        machine = self.process.machine(saga_type)

        def change(record: SagaRecord) -> SagaRecord:
            self._check_suspended(saga_type, record, "skip")
            goal = None if record.goal is None else machine.table.state(record.goal)
            if record.goal is not None and goal is None:  # it could never end
                raise OperationError(
                    f"{machine.table.saga} {correlation_id!r}: cannot skip, since its compensation "
                    f"leads to the state {record.goal!r}, which the class no longer has: put it "
                    "back, or cancel the saga"
                )
            self._known(machine, record)
            return skipped(record, goal, machine, self.process.write(leaves=leaves))

        await self._change(saga_type, correlation_id, "skip", change)

    async def cancel(
        self, saga_type: type[Saga], correlation_id: SagaId, state: State | None, *, leaves: bool
    ) -> Cancellation:
        """Have a saga undo its steps and end; withdraw messages that the bus has not accepted.

        :param state: the final state it ends in; the one it is in by default.
        :param leaves: whether what is due after that is left to other processes.
        :return: what is undone, and what becomes of its messages.
        :raises OperationError: if there is no such saga or state, or it has ended.
        :raises UnknownStateError: if it would end in a state that the class does not know.
        :raises ConcurrencyError: if other writers were faster until the deadline.
        """
        machine = self.process.machine(saga_type)
        if state is not None and (machine.table.state(state.name) is None or not state.final):
            finals = ", ".join(known.name for known in machine.table.states if known.final)
            raise OperationError(
                f"{machine.table.saga} cannot end in {state.name!r}; its final states: {finals}"
            )

        def change(record: SagaRecord) -> SagaRecord:
            if record.finished_at is not None:
                raise self._refused(saga_type, record, "cancel", "it has ended")
            goal = state or self._known(machine, record)
            return cancelled(record, goal, machine, self.process.write(leaves=leaves))

        before, after = await self._change(saga_type, correlation_id, "cancel", change)
        return self._told(saga_type, before, after)

    def _told(self, saga_type: type[Saga], before: SagaRecord, after: SagaRecord) -> Cancellation:
        """Withdraw the messages of a saga that was cancelled, and say what became of each."""
        taken, under_way = self.outbox.withdraw(saga_type, before)
        if is_leased_to_others(before, self.process.owner, self.process.clock.now()):
            under_way = frozenset(message.id for message in before.outbox) - taken
        left = [m for m in before.outbox if m.undoes is None and m.id not in taken]
        pending = (
            e.step for e in reversed(after.compensations) if e.status is CompensationStatus.PENDING
        )
        return Cancellation(
            state=after.state if after.goal is None else after.goal,
            undone=tuple(pending),
            withdrawn=tuple(message for message in left if message.id not in under_way),
            under_way=tuple(message for message in left if message.id in under_way),
            kept=tuple(message for message in after.outbox if message.id not in taken),
            sent=before.sequence - len(before.outbox) + len(taken),
        )

    async def _change(
        self,
        saga_type: type[Saga],
        correlation_id: SagaId,
        action: str,
        change: Callable[[SagaRecord], SagaRecord],
    ) -> tuple[SagaRecord, SagaRecord]:
        """Apply *change*, again after each lost race; return the saga before and after it."""
        saga = saga_type.table.saga
        race: Race | None = None
        while True:
            record = await self.store.load(
                saga_type, check_id(correlation_id), None, any_state=action in _SAY_THEMSELVES
            )
            if (
                record is None
                or record.status is Status.EMBRYO
                or has_expired(record.expire_at, self.process.clock.now())
            ):
                raise OperationError(
                    f"{saga} {correlation_id!r}: there is no such saga to {action}"
                )
            if record.fault is not None and action not in _TRIES_AGAIN:
                raise record.fault
            after = change(record)
            if await self.store.update(saga_type, record, after):
                return record, after
            race = race or Race(
                process=self.process,
                saga=saga,
                correlation_id=correlation_id,
                deadline=self.conflict_deadline,
                operation=action,
            )
            await race.lose()

    def _known(self, machine: Machine, record: SagaRecord) -> State:
        """Return the state of a saga, or refuse one that its class does not know."""
        state = machine.table.state(record.state)
        if state is None:
            raise UnknownStateError(machine.table.saga, record.correlation_id, record.state)
        return state

    def _check_suspended(self, saga_type: type[Saga], record: SagaRecord, action: str) -> None:
        if record.suspension is None:
            raise self._refused(saga_type, record, action, f"it is {record.status.value}")

    def _refused(
        self, saga_type: type[Saga], record: SagaRecord, action: str, why: str
    ) -> OperationError:
        saga = saga_type.table.saga
        return OperationError(
            f"{saga} {record.correlation_id!r}: cannot {action}, since {why}"
            + ("" if action == "cancel" else "; only a suspended saga can be put back to work")
        )
