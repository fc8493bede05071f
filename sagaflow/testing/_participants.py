"""The participants that a saga sends messages to, played from a script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, Generic, Protocol, Self, TypeAlias, TypeVar, cast, overload

from attrs import define, evolve, field, frozen

from sagaflow._forms.instances import is_message_class
from sagaflow._model.clock import Clock
from sagaflow._model.envelope import COMMAND, EVENT, MESSAGE_KIND
from sagaflow._model.errors import SagaflowError
from sagaflow._model.ids import MessageId, SagaId
from sagaflow._model.shown import shown

MessageT = TypeVar("MessageT")


class _Attrs(Protocol):
    # An attrs class as mypy sees it. Other checkers see nothing in the protocol of attrs.
    __attrs_attrs__: ClassVar[Any]


class _Dataclass(Protocol):
    # A dataclass as every checker sees it; checkers without a plugin see an attrs class like that.
    __dataclass_fields__: ClassVar[dict[str, Any]]


Event: TypeAlias = _Attrs | _Dataclass
"""What an answer is: an instance of an attrs class or a dataclass."""

_AT_ONCE: Final = timedelta(0)


@frozen(kw_only=True)
class Answer:
    """An event on its way back to the saga."""

    event: object
    id: str
    correlation_id: SagaId | None
    due: datetime


@frozen(kw_only=True)
class Told:
    """A message that has left the saga.

    :ivar kind: ``command`` or ``event``.
    :ivar fate: what became of the message, in words; empty if no participant was listening.
    """

    at: datetime
    kind: str
    body: object
    fate: str = ""
    refused: bool = False


@frozen
class _Move:
    """What a participant does about one message."""

    answer: Callable[[Any], object] | None = None
    after: timedelta = _AT_ONCE
    times: int = 1
    error: Exception | None = None


@define(eq=False)
class Participant(Generic[MessageT]):
    """Says what becomes of the messages of one class, one after another.

    Each call adds what is done about one more message; the last call counts for all that follow.
    """

    _moves: list[_Move] = field(factory=list[_Move], init=False)
    _made: int = field(default=0, init=False)

    @overload
    def reply(
        self, answer: Callable[[MessageT], object], *, after: timedelta = _AT_ONCE
    ) -> Self: ...

    @overload
    def reply(self, answer: Event, *, after: timedelta = _AT_ONCE) -> Self: ...

    def reply(self, answer: object, *, after: timedelta = _AT_ONCE) -> Self:
        """Answer with an event.

        :param answer: the event, or a function that makes it of the message; a list of events is
            several answers, and None is no answer.
        :param after: how much later the answer arrives, by the clock of the test.
        :raises SagaflowError: if *answer* is neither, or *after* is negative.
        """
        return self._add(_Move(_maker(answer), _checked(after)))

    @overload
    def reply_twice(
        self, answer: Callable[[MessageT], object], *, after: timedelta = _AT_ONCE
    ) -> Self: ...

    @overload
    def reply_twice(self, answer: Event, *, after: timedelta = _AT_ONCE) -> Self: ...

    def reply_twice(self, answer: object, *, after: timedelta = _AT_ONCE) -> Self:
        """Answer with an event that is delivered twice, with one message id; see `reply`."""
        return self._add(_Move(_maker(answer), _checked(after), times=2))

    def never(self) -> Self:
        """Take the message and do not answer."""
        return self._add(_Move())

    def raises(self, error: Exception) -> Self:
        """Refuse the message: it stays in the saga's outbox and is offered again later."""
        return self._add(_Move(error=error))

    def next_move(self) -> _Move | None:
        """Return what is done about the next message; None if nothing was said."""
        if not self._moves:
            return None
        move = self._moves[min(self._made, len(self._moves) - 1)]
        self._made += 1
        return move

    def _add(self, move: _Move) -> Self:
        self._moves.append(move)
        return self


@define(eq=False)
class Participants:
    """A bus with a script: it keeps the messages of sagas, and the answers to them.

    :ivar takes: whether the saga takes events of a class, which then come back to it.
    :ivar listening: whether participants answer; messages of given events are past, and are not
        answered.
    """

    clock: Clock
    takes: Callable[[type], bool]
    told: list[Told] = field(factory=list[Told], init=False)
    answers: list[Answer] = field(factory=list[Answer], init=False)
    listening: bool = field(default=True, init=False)
    _scripts: dict[type, Participant[Any]] = field(factory=dict[type, Participant[Any]], init=False)

    def on(self, message_type: type[MessageT]) -> Participant[MessageT]:
        """Return a new script for messages of this class and its subclasses."""
        participant = self._scripts[message_type] = Participant[MessageT]()
        return participant

    def subscribe(
        self, message_type: type[Any], handler: Callable[..., Any], /, *, envelope: bool
    ) -> None:
        """Do nothing: events reach the saga from the test itself."""

    async def publish(
        self,
        message: object,
        /,
        *,
        correlation_id: SagaId | None = None,
        message_id: MessageId | None = None,
        headers: Mapping[str, object] | None = None,
    ) -> None:
        """Keep *message* and do about it what the script says."""
        now, kind = self.clock.now(), (headers or {}).get(MESSAGE_KIND)
        told = Told(at=now, kind=COMMAND if kind == COMMAND else EVENT, body=message)
        if not self.listening:
            self.told.append(told)
            return
        move = self._move(type(message))
        if move is None and self.takes(type(message)):
            move = _Move(lambda own: own)
        if move is None:
            self.told.append(told)
            return
        if move.error is not None:
            self.told.append(evolve(told, fate=f"refused: {move.error!r}", refused=True))
            raise move.error
        made = [] if move.answer is None else _events(move.answer(message))
        self.told.append(evolve(told, fate=_fate(move, message, made)))
        for number, event in enumerate(made, 1):
            answer = Answer(
                event=event,
                id=f"answer {number} to {message_id}",
                correlation_id=correlation_id,
                due=now + move.after,
            )
            self.answers += [answer] * move.times

    def next_answer(self, now: datetime) -> Answer | None:
        """Remove and return the answer that arrives first, if it has arrived by *now*."""
        first = min(self.answers, key=lambda answer: answer.due, default=None)
        if first is None or first.due > now:
            return None
        self.answers.remove(first)
        return first

    def _move(self, message_type: type) -> _Move | None:
        for ancestor in message_type.__mro__:
            if ancestor in self._scripts:
                return self._scripts[ancestor].next_move()
        return None


def _maker(answer: object) -> Callable[[Any], object]:
    if not isinstance(answer, type):
        if is_message_class(type(answer)):
            return lambda _: answer
        if callable(answer):
            return answer
    raise SagaflowError(
        f"a reply is an event or a function that makes one of the message, not {shown(answer)}"
    )


def _fate(move: _Move, message: object, made: list[object]) -> str:
    if not made:
        return "never answered"
    if made == [message]:
        return "comes back to the saga"
    names = ", ".join(type(event).__name__ for event in made)
    later = f" after {move.after}" if move.after else ""
    return f"answered with {names}{later}" + (" twice" if move.times > 1 else "")


def _events(made: object) -> list[object]:
    if made is None:
        return []
    if isinstance(made, list | tuple):
        return [*cast("list[object]", made)]
    return [made]


def _checked(after: timedelta) -> timedelta:
    if after < _AT_ONCE:
        raise SagaflowError(f"an answer does not come before its question: after={after!r}")
    return after
