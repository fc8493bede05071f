"""What a handler sees and asks for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import NAMESPACE_OID, uuid5

from attrs import define, field, frozen

from sagaflow._definition.state import State
from sagaflow._forms.instances import is_message_class
from sagaflow._model.clock import to_milliseconds
from sagaflow._model.envelope import COMMAND, EVENT
from sagaflow._model.errors import SagaflowError, SerializationError
from sagaflow._model.fresh import new_dict, new_list, new_set
from sagaflow._model.ids import MessageId, SagaId
from sagaflow._model.services import svcs
from sagaflow._model.value import value


@value
class Outgoing:
    """A message that a handler asked to send; it leaves after the state is stored."""

    kind: str
    body: object


@frozen
class AddedCompensation:
    """A method of the saga to call with these arguments, should the saga be undone."""

    method: str
    arguments: tuple[object, ...]


def _unchecked(method: Callable[..., object], arguments: tuple[object, ...]) -> AddedCompensation:
    return AddedCompensation(method.__name__, arguments)


@frozen
class ScheduledEvent:
    """An event that a handler wants to see again at an instant."""

    event: object
    due: datetime


@define
class Effects:
    """What a handler asked for. The engine turns it into one write.

    :ivar closed: whether the handler has returned: what is asked for from then on would be lost.
    :ivar check: puts an added compensation into stored form, or raises where it is added.
    """

    outgoing: list[Outgoing] = field(factory=new_list)
    compensations: list[AddedCompensation] = field(factory=new_list)
    compensate: bool = False
    scheduled: dict[str, ScheduledEvent] = field(factory=new_dict)
    unscheduled: set[str] = field(factory=new_set)
    closed: bool = False
    check: Callable[[Callable[..., object], tuple[object, ...]], AddedCompensation] = _unchecked


_NO_SERVICES: Final = (
    "this orchestrator has no services: pass Orchestrator(..., services=registry), "
    "where registry is an svcs.Registry"
)


@frozen(kw_only=True)
class Context:
    """What a handler is given beside the event: facts to read and effects to ask for.

    Effects are collected while the handler runs, stored with the new state in one write, and
    carried out only then. A handler that raises has asked for nothing. Once it has returned, asking
    for more raises a `SagaflowError`: nobody would carry it out.

    :ivar correlation_id: which saga this is.
    :ivar message_id: the id of the event that is handled, or of the one that is undone.
    :ivar version: the version of the saga that the handler sees; 0 at its start.
    :ivar state: the state that the saga is in; None at its start.
    :ivar now: the instant of this attempt, from the orchestrator's clock: aware, UTC.
    """

    correlation_id: SagaId
    message_id: MessageId
    version: int
    state: State | None
    now: datetime
    _saga: str = field(alias="saga", repr=False)
    _cause: str = field(default="", alias="cause", repr=False)
    _effects: Effects = field(factory=Effects, alias="effects", repr=False)
    _services: svcs.Container | None = field(default=None, alias="services", repr=False)

    @property
    def services(self) -> svcs.Container:
        """The services of this event: an `svcs.Container` that is closed after the handler.

        :raises SagaflowError: if the orchestrator was given no registry.
        """
        if self._services is None:
            raise SagaflowError(_NO_SERVICES)
        return self._services

    def send(self, command: object) -> None:
        """Send *command*, which exactly one party should carry out, after the state is stored.

        :param command: an instance of an attrs class or a dataclass.
        :raises SerializationError: if it is something else.
        """
        self._ask(COMMAND, command)

    def publish(self, event: object) -> None:
        """Publish *event* to whoever is interested, after the state is stored.

        :param event: an instance of an attrs class or a dataclass.
        :raises SerializationError: if it is something else.
        """
        self._ask(EVENT, event)

    def schedule(
        self,
        event: object,
        *,
        after: timedelta | None = None,
        at: datetime | None = None,
        name: str | None = None,
    ) -> None:
        """Have *event* handed to this saga later; the schedule is stored with the new state.

        It takes the transition that the saga's state then has for it. It is gone once the saga has
        ended.

        :param event: an instance of a class that the saga takes.
        :param after: how long from now; or
        :param at: an aware instant. One that has passed means at once.
        :param name: scheduling a name again replaces it; the name of the event's class by default.
        :raises SerializationError: if *event* is no message.
        :raises SagaflowError: if not exactly one of *after* and *at* is given, or it is wrong.
        """
        call = f"{self._saga}: ctx.schedule({type(event).__name__})"
        if not is_message_class(type(event)):
            raise SerializationError(call, "an event is an instance of an attrs class or dataclass")
        if (after is None) is (at is None):
            raise SagaflowError(f"{call} takes either after= or at=")
        if at is None:
            given: object = after
            if not isinstance(given, timedelta) or given < timedelta(0):
                raise SagaflowError(f"{call}: after= takes a timedelta of 0 or more, not {after!r}")
            due = to_milliseconds(self.now + given)
        else:
            if getattr(at, "tzinfo", None) is None:
                raise SagaflowError(f"{call}: at= takes an aware datetime, not {at!r}")
            due = to_milliseconds(at.astimezone(UTC))
        self._open("schedule").scheduled[name or type(event).__name__] = ScheduledEvent(event, due)

    def cancel(self, name: str) -> None:
        """Forget what was scheduled under *name*. It is no error if there is nothing."""
        effects = self._open("cancel")
        effects.scheduled.pop(name, None)
        effects.unscheduled.add(name)

    def compensate(self) -> None:
        """Undo the completed steps, last first, before the saga enters the next state."""
        self._open("compensate").compensate = True

    def add_compensation(self, method: Callable[..., Any], *args: object) -> None:
        """Record that ``method(*args, ctx)`` undoes something which this handler did.

        :param method: a method of this saga, such as ``self.release_room``.
        :param args: data to store until then: what JSON knows, and bytes, Decimal, date, datetime,
            timedelta, UUID, ObjectId and instances of the saga's message classes.
        """
        effects = self._open("add_compensation")
        effects.compensations.append(effects.check(method, args))

    def idempotency_key(self, name: str = "") -> str:
        """Return a key for a call to a foreign service: the same on every retry of this event.

        :param name: tells apart several calls of one handler.
        :return: 36 characters; it tells nothing about the saga.
        """
        parts = (
            self._saga,
            *_typed(self.correlation_id),
            *_typed(self.message_id),
            self._cause,
            name,
        )
        return str(uuid5(NAMESPACE_OID, ascii(parts)))

    def _ask(self, kind: str, message: object) -> None:
        verb = "send" if kind == COMMAND else "publish"
        if isinstance(message, type) or not is_message_class(type(message)):
            if isinstance(message, type):
                given, problem = f"the class {message.__qualname__}", "send an instance of it"
            else:
                given, problem = f"a {type(message).__qualname__}", "declare an attrs class for it"
            raise SerializationError(
                f"{self._saga}: ctx.{verb}() was given {given}",
                f"a message is an instance of an attrs class or a dataclass: {problem}",
            )
        self._open(verb).outgoing.append(Outgoing(kind, message))

    def _open(self, call: str) -> Effects:
        """Return what is asked for so far, while more can be."""
        if self._effects.closed:
            raise SagaflowError(
                f"{self._saga} {self.correlation_id!r}: ctx.{call}() was called after the handler "
                f"of {self.message_id!r} had returned, so it would be lost: call it within the "
                "handler, and await there whatever calls it"
            )
        return self._effects


def _typed(identity: SagaId) -> tuple[str, str]:
    """Return the kind of an id and its text: the same for a member of an enum and for its value."""
    if isinstance(identity, str):
        return "str", str.__str__(identity)
    if isinstance(identity, int):
        return "int", str(int(identity))
    return type(identity).__name__, str(identity)
