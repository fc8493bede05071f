"""Runs the methods of a saga and puts what they asked for into stored form."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import FunctionType
from typing import Any, Final

from attrs import frozen

from sagaflow._codec.data import decode_saga, encode_saga
from sagaflow._codec.messages import MessageTypes
from sagaflow._definition.chain import Finished
from sagaflow._definition.context import AddedCompensation, Context, Effects
from sagaflow._definition.saga import Saga
from sagaflow._definition.state import State
from sagaflow._definition.table import Action, TransitionRow
from sagaflow._engine.conclusion import Run, Scheduled, Undoing
from sagaflow._engine.writing import Sent
from sagaflow._forms.instances import is_message_class
from sagaflow._forms.values import cannot_encode, decode_dynamic, encode_dynamic
from sagaflow._model.clock import Clock
from sagaflow._model.envelope import CAUSATION_ID, MESSAGE_KIND
from sagaflow._model.errors import CompensationError, SagaDefinitionError, UnknownEventError
from sagaflow._model.ids import MessageId, SagaId
from sagaflow._model.record import RecordedCompensation, SagaRecord, StoredMessage
from sagaflow._model.services import svcs
from sagaflow._model.shown import shown
from sagaflow._model.value import value
from sagaflow._runtime.trace import SILENT, Trace

_MESSAGE: Final = {"@type": "message"}
"""Marks an argument that is a message. A user's dict with such a key is stored as pairs."""


@value
class Event:
    """An event on its way to a saga.

    :ivar body: the event itself; None for a timeout.
    :ivar correlation_id: which saga it is for.
    :ivar message_id: what a second delivery is recognised by.
    :ivar headers: what goes along with the messages that it causes, in stored form.
    """

    body: object
    correlation_id: SagaId
    message_id: MessageId
    headers: object


@frozen(kw_only=True)
class Invoker:
    """Runs the methods of saga classes, each with a context and services of its own."""

    messages: MessageTypes
    clock: Clock
    services: svcs.Registry | None
    trace: Trace = SILENT

    async def run(
        self, row: TransitionRow, saga: Saga, event: Event, record: SagaRecord | None
    ) -> Run:
        """Run the handler of *row* on *saga*, which is a copy, and return what it came to.

        :raises Exception: whatever the handler raises.
        :raises SagaDefinitionError: if it returns a state that its chain does not name.
        :raises SerializationError: if what it leaves behind cannot be stored.
        """
        handler = getattr(saga, row.step)
        if isinstance(handler, Finished):  # a transition with a name and nothing to run
            return self._run_of(row, saga, event, Effects(), _entered(saga, row, None))
        if self.trace.observers is None:
            return await self._run(row, saga, event, record, handler)
        with self.trace.handler(
            type(saga),
            row.step,
            event.correlation_id,
            event.body,
            event.message_id,
            event.headers,
            record,
        ) as telling:
            run = await self._run(row, saga, event, record, handler)
            telling.ended(None)
            return run

    async def _run(
        self,
        row: TransitionRow,
        saga: Saga,
        event: Event,
        record: SagaRecord | None,
        handler: Callable[..., object],
    ) -> Run:
        effects = Effects(check=partial(self._added, saga))
        context = partial(
            Context,
            correlation_id=event.correlation_id,
            message_id=event.message_id,
            version=0 if record is None else record.version,
            state=row.source,
            now=self.clock.now(),
            saga=type(saga).table.saga,
            effects=effects,
        )
        arguments = () if row.event is None else (event.body,)
        result = await self._call(handler, arguments, context, effects)
        return self._run_of(row, saga, event, effects, _entered(saga, row, result))

    def _run_of(
        self,
        row: TransitionRow,
        saga: Saga,
        event: Event,
        effects: Effects,
        target: State | None,
    ) -> Run:
        """Return what a handler's run came to, with what it asked for in stored form."""
        is_silent = self.trace.observers is None
        return Run(
            step=row.step,
            event="timeout" if row.event is None else self.messages.name(type(event.body)),
            message_id=event.message_id,
            headers=event.headers if is_silent else self.trace.carried(event.headers),
            target=target,
            compensate=row.compensates or effects.compensate,
            data=encode_saga(saga),
            sent=self._sent(type(saga).table.saga, effects) if effects.outgoing else (),
            undoing=self._undoing(saga, row, event, effects),
            scheduled=self._scheduled(saga, effects) if effects.scheduled else (),
            unscheduled=frozenset(effects.unscheduled),
        )

    async def undo(
        self, saga: Saga, entry: RecordedCompensation, record: SagaRecord
    ) -> tuple[Mapping[str, object], tuple[Sent, ...]]:
        """Run the method that undoes *entry*; return the saga's fields after it and what it sent.

        :raises Exception: whatever the method raises.
        :raises CompensationError: if the class has no such method any more.
        """
        name = type(saga).table.saga
        method = _method(saga, entry.method)
        if method is None:
            raise CompensationError(
                name,
                record.correlation_id,
                entry.step,
                f"the class no longer has the method {entry.method!r}: put it back",
            )
        path = f"{name}: compensation of {entry.step}"
        if entry.event is not None:
            arguments = [self.messages.decode(entry.event, path)]
        else:
            arguments = [self._decoded(argument, path) for argument in entry.arguments or ()]
        effects = Effects()
        context = partial(
            Context,
            correlation_id=record.correlation_id,
            message_id=entry.message_id,
            version=record.version,
            state=type(saga).table.state(record.state),
            now=self.clock.now(),
            saga=name,
            cause=f"compensation {entry.id}",
            effects=effects,
        )
        await self._call(method, arguments, context, effects)
        if effects.compensate or effects.compensations or effects.scheduled or effects.unscheduled:
            raise CompensationError(
                name,
                record.correlation_id,
                entry.step,
                f"{entry.method!r} can send and publish, but not ask for compensation or schedule "
                "events: remove those calls of ctx",
            )
        return encode_saga(saga), self._sent(name, effects)

    def decode(self, message: StoredMessage, record: SagaRecord, saga: str) -> object:
        """Return a message that the saga has kept."""
        body: object = self.messages.decode(message, f"{saga} {record.correlation_id!r}")
        return body

    def _sent(self, name: str, effects: Effects) -> tuple[Sent, ...]:
        encode = self.messages.encode
        return tuple([Sent(out.kind, encode(out.body, name)) for out in effects.outgoing])

    def _scheduled(self, saga: Saga, effects: Effects) -> tuple[Scheduled, ...]:
        table = type(saga).table
        scheduled: list[Scheduled] = []
        for name, wanted in effects.scheduled.items():
            if not table.takes(type(wanted.event)):
                raise UnknownEventError(type(wanted.event), (table.saga,))
            stored = self.messages.encode(wanted.event, f"{table.saga}: ctx.schedule({name!r})")
            scheduled.append(Scheduled(name=name, event=stored, due=wanted.due))
        return tuple(scheduled)

    def _undoing(
        self, saga: Saga, row: TransitionRow, event: Event, effects: Effects
    ) -> tuple[Undoing, ...]:
        method = type(saga).table.compensations.get(row.step)
        if method is None and not effects.compensations:
            return ()
        undoing: list[Undoing] = []
        if method is not None:  # also if it compensates: what it acknowledges has happened
            stored = self.messages.encode(event.body, f"{type(saga).table.saga}.{row.step}")
            undoing.append(Undoing(method=method, event=stored))
        undoing.extend(
            Undoing(method=added.method, arguments=added.arguments)
            for added in effects.compensations
        )
        return tuple(undoing)

    def _added(
        self, saga: Saga, method: Callable[..., object], given: tuple[object, ...]
    ) -> AddedCompensation:
        """Check a compensation that a handler adds, while the handler can still be blamed."""
        name = _method_name(saga, method, given)
        call = f"{type(saga).__name__}: ctx.add_compensation({name}), argument"
        return AddedCompensation(
            name,
            tuple(
                self._encoded(value, f"{call} {number}") for number, value in enumerate(given, 1)
            ),
        )

    def _encoded(self, argument: object, path: str) -> object:
        if is_message_class(type(argument)):
            stored = self.messages.encode(argument, path)
            return {**_MESSAGE, "name": stored.type, "body": stored.body}
        try:
            return encode_dynamic(argument)
        except ValueError as exc:
            raise cannot_encode(path, exc) from exc

    def _decoded(self, argument: object, path: str) -> object:
        stored: Any = argument
        if isinstance(argument, Mapping) and stored.items() >= _MESSAGE.items():
            message = StoredMessage(type=stored["name"], body=stored["body"])
            return self.messages.decode(message, path)
        return decode_dynamic(stored)

    async def _call(
        self,
        method: Callable[..., object],
        arguments: Iterable[object],
        context: Callable[..., Context],
        effects: Effects,
    ) -> object:
        """Call a method of a saga, which has services of its own meanwhile if there are any.

        What is asked of its context later, when nobody would carry it out, is an error.
        """
        try:
            if self.services is None:
                result = method(*arguments, context())
                return await result if inspect.isawaitable(result) else result
            async with svcs.Container(self.services) as services:
                result = method(*arguments, context(services=services))
                return await result if inspect.isawaitable(result) else result
        finally:
            effects.closed = True


def stored_headers(headers: Mapping[str, object]) -> object:
    """Return what goes along of the headers of an event, in stored form.

    :raises SerializationError: if it cannot be stored.
    """
    if not headers:
        return {}
    passed_on = {k: v for k, v in headers.items() if k not in (CAUSATION_ID, MESSAGE_KIND)}
    try:
        return encode_dynamic(passed_on)
    except ValueError as exc:
        raise cannot_encode("headers", exc) from exc


def read_saga(saga_type: type[Saga], record: SagaRecord | None) -> Saga:
    """Return an instance of its own with the data of *record*, or a fresh one."""
    return saga_type() if record is None else decode_saga(saga_type, record.data)


def _entered(saga: Saga, row: TransitionRow, result: object) -> State | None:
    """Return the state to enter, if any: a branch into the present state stays there.

    :raises SagaDefinitionError: if the handler has returned what its chain does not name.
    """
    if row.action is Action.BRANCH:
        target = next((known for known in row.targets if known == result), None)
        if target is not None:
            return None if target == row.source else target
        names = " or ".join(known.name for known in row.targets)
        problem = f"a branch handler returns {names}, this one returned {shown(result)}"
    elif isinstance(result, State):
        problem = (
            f"the handler returned {result!r}, but its chain ends with .{row.action.value}(): "
            "return nothing, or end the chain with .branch(...)"
        )
    else:
        return row.targets[0] if row.targets else None
    raise SagaDefinitionError(
        problem,
        saga=type(saga).table.saga,
        method=row.step,
        filename=row.filename,
        line=row.line,
    )


def _method_name(saga: Saga, method: Callable[..., object], given: tuple[object, ...]) -> str:
    """Return the name of a method that a handler adds as a compensation, if it is one."""
    cls = type(saga)
    function = getattr(method, "__func__", method)
    name: str = getattr(function, "__name__", repr(function))
    problem: str | None = None
    if not isinstance(function, FunctionType) or not _has_method(cls, name, function):
        problem = f"takes a method of {cls.__name__}, not {method!r}"
    elif getattr(method, "__self__", saga) is not saga:
        problem = f"takes a method of this saga, not of another instance: self.{name}"
    else:
        signature = inspect.signature(function)
        try:
            signature.bind(saga, *given, None)
        except TypeError as exc:
            problem = f"cannot call {name}{signature} with these arguments and ctx: {exc}"
    if problem is not None:
        raise SagaDefinitionError(f"ctx.add_compensation() {problem}", saga=cls.__name__)
    return name


def _method(saga: Saga, name: str) -> Callable[..., Any] | None:
    """Return a method that a stored saga names, which is data: nothing but a method of its class.

    Neither what Python or attrs adds to it, nor what its fields hold.
    """
    function: object = inspect.getattr_static(type(saga), name, None)
    if not isinstance(function, FunctionType) or name.startswith("__"):
        return None
    method: Callable[..., Any] = getattr(saga, name)
    return method


def _has_method(cls: type, name: str, function: FunctionType) -> bool:
    """Tell whether *function* is a method of *cls*, perhaps one that a subclass has overridden."""
    return any(vars(base).get(name) is function for base in cls.__mro__)
