"""What an orchestrator tells about itself, and to whom."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from datetime import datetime, timedelta
from enum import Enum
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar

from attrs import define, field, frozen

from sagaflow._forms.size import document_size
from sagaflow._forms.values import decode_dynamic, encode_dynamic
from sagaflow._model.errors import RepositoryError, SagaflowError
from sagaflow._model.ids import MessageId, SagaId
from sagaflow._model.log import about, get_logger
from sagaflow._model.record import SuspensionReason
from sagaflow._model.shown import shown

__all__ = [
    "Activity",
    "ActivityKind",
    "Backlog",
    "BusCondition",
    "Ended",
    "Fact",
    "Observer",
    "Retrying",
    "StoreFails",
    "StoreIsBack",
    "Suspended",
]

logger = get_logger(__name__)


class ActivityKind(Enum):
    """What an orchestrator is doing."""

    EVENT = "event"
    """A saga takes an event: one that arrives, that was parked, or a timer's."""
    HANDLER = "handler"
    """A handler runs."""
    COMPENSATION = "compensation"
    """A step is undone."""
    COMMIT = "commit"
    """A saga is written."""
    PUBLISH = "publish"
    """A stored message is offered to the bus."""


@define(kw_only=True, eq=False)
class Activity:
    """Something that an orchestrator does. What became of it is known when it ends.

    :ivar kind: what it does.
    :ivar saga: the name of the saga's class, as it is stored.
    :ivar correlation_id: which saga; None for an event that does not say.
    :ivar name: the class of the event or message (``timeout`` for a timer of ``.after()``), or the
        step that is run, undone or written.
    :ivar message_id: the id of the event or message; for a step, the id of the event that the step
        handles or has handled.
    :ivar headers: the headers of the event or message, decoded; a trace goes on from there.
    :ivar body: the event itself, for an event that arrives and for a handler; it may hold business
        data, and fields marked as secret: show it with `redact`.
    :ivar version: the version of the saga that a handler sees, a write makes or an event leaves
        behind; 0 if there is none.
    :ivar attempt: which attempt this is, counted from 1.
    :ivar late: how long after it was due the work began or, for a message, after it was stored;
        None for what was not due.
    :ivar timer: the name of the timer that fired; None for anything else.
    :ivar outcome: what became of it: of an event, the value of its `OutcomeKind`, or ``failed``,
        ``dropped`` or ``conflict`` for parked events and timers; of a write, ``won`` or ``lost``;
        of a message, ``accepted`` or ``refused``; ``done`` or ``failed`` otherwise.
    :ivar error: what went wrong, also if it is tried again and nobody sees it raised.
    """

    kind: ActivityKind
    saga: str
    correlation_id: SagaId | None
    name: str
    message_id: MessageId | None = None
    headers: Mapping[str, object] = field(factory=dict[str, object])
    body: object = field(default=None, repr=False)
    version: int = 0
    attempt: int = 1
    late: timedelta | None = None
    timer: str | None = None
    outcome: str = ""
    error: BaseException | None = None


@frozen(kw_only=True)
class Retrying:
    """Work has failed and is tried again.

    :ivar saga: the name of the saga's class.
    :ivar correlation_id: which saga.
    :ivar attempts: how often the work has failed.
    :ivar due: when the work is tried again.
    """

    saga: str
    correlation_id: SagaId
    attempts: int
    due: datetime


@frozen(kw_only=True)
class Suspended:
    """A saga stands still until an operator decides.

    :ivar saga: the name of the saga's class.
    :ivar correlation_id: which saga.
    :ivar reason: what kept failing.
    """

    saga: str
    correlation_id: SagaId
    reason: SuspensionReason


@frozen(kw_only=True)
class Ended:
    """A saga has reached its end.

    :ivar saga: the name of the saga's class.
    :ivar correlation_id: which saga.
    :ivar state: the state that the saga ended in.
    :ivar took: how long after its start the saga ended.
    """

    saga: str
    correlation_id: SagaId
    state: str
    took: timedelta


@frozen(kw_only=True)
class StoreFails:
    """The store does not answer; told once for each outage.

    :ivar error: what the store raised.
    """

    error: RepositoryError


@frozen(kw_only=True)
class StoreIsBack:
    """The store answers again."""


@frozen(kw_only=True)
class Backlog:
    """What waits in the store for the sagas of one class; told every 15 seconds.

    :ivar saga: the name of the class.
    :ivar due: how many sagas have work that is due, 1,000 at most.
    :ivar late: for how long the work that is due longest has been due.
    :ivar outbox_age: how long the oldest message waits, among the sagas that have been due longest.
    :ivar suspended: how many sagas wait for an operator, 1,000 at most.
    :ivar damaged: how many documents this process leaves alone, since they cannot be read.
    :ivar newer: how many due sagas this process leaves to other code: 1,000 at most that are stored
        with a later schema, and those in a state that the class here does not know.
    """

    saga: str
    due: int
    late: timedelta
    outbox_age: timedelta
    suspended: int = 0
    damaged: int = 0
    newer: int = 0


@frozen(kw_only=True)
class BusCondition:
    """How the bus of an orchestrator is, as this process sees it; told every 15 seconds.

    :ivar bus: the name of the service, for a bus that has one; otherwise that of its class.
    :ivar down_for: for how long its broker cannot be reached for taking messages; zero if it can,
        or if the bus does not tell.
    :ivar silent_for: for how long it has neither accepted nor refused any message of some class, if
        that lasts for half of ``send_timeout=`` or one was given up; otherwise zero.
    """

    bus: str
    down_for: timedelta
    silent_for: timedelta


Fact: TypeAlias = Retrying | Suspended | Ended | StoreFails | StoreIsBack | Backlog | BusCondition
"""Something that has happened, or how things are."""

_NOTHING: Final = nullcontext()
_MOST_HEADERS: Final = 8 * 1024
"""How many bytes an observer may add to the headers of whatever is stored."""

T = TypeVar("T")


class Observer:
    """Is told what an orchestrator does. Override what you want to know; the rest does nothing.

    The methods are called while sagas do their work, so they must be quick and not wait. An error
    that an observer raises, or a useless value that it returns, is logged once and hurts no saga.
    """

    def observe(self, activity: Activity) -> AbstractContextManager[object]:  # noqa: ARG002
        """Return a context manager to enter before *activity* and to leave after it.

        Both happen in the same task. No error is raised into the context manager: when it is left,
        ``activity.outcome`` and ``activity.error`` say what became of the activity.
        """
        return _NOTHING

    def note(self, fact: Fact) -> None:
        """Take note of a fact, after the write that makes it true."""

    def headers(self) -> Mapping[str, str]:
        """Return what to add to the headers of all that the present activity causes.

        The headers are stored with messages, timers, parked events and recorded compensations, and
        come back as ``activity.headers`` in whichever process goes on with one of these. Headers
        that cannot be stored, or take more than 8 KiB in all, are left out.
        """
        return {}


_current: ContextVar[Activity | None] = ContextVar("current_activity", default=None)


def current_activity() -> Activity | None:
    """Return what is being done in this task, if anybody observes it."""
    return _current.get()


@frozen
class Observers:
    """Several observers as one that cannot fail."""

    all: tuple[Observer, ...]
    _failed: set[int] = field(factory=set[int], init=False)

    @contextmanager
    def observe(self, activity: Activity) -> Generator[Activity]:
        """Have everyone observe what happens in the block."""
        entered: list[tuple[Observer, AbstractContextManager[object]]] = []
        token = _current.set(activity)
        try:
            for observer in self.all:
                entering = partial(_entered, observer, activity)
                observation = self._asked(observer, entering, None)
                if observation is not None:
                    entered.append((observer, observation))
            try:
                yield activity
            except BaseException as exc:
                activity.error = exc
                raise
            finally:
                for observer, observation in reversed(entered):
                    self._asked(observer, partial(observation.__exit__, None, None, None), None)
        finally:
            _current.reset(token)

    def note(self, fact: Fact) -> None:
        """Have everyone take note of *fact*."""
        for observer in self.all:
            self._asked(observer, partial(observer.note, fact), None)

    def carried(self, stored: object) -> object:
        """Return *stored* headers, with what the observers add."""
        added, nothing = dict[str, object](), dict[str, object]()
        for observer in self.all:
            added |= self._asked(observer, partial(_added, observer), nothing)
        if not added:
            return stored
        known = _mapping(stored)
        return stored if known is None else encode_dynamic({**known, **added})

    def _asked(self, observer: Observer, ask: Callable[[], T], default: T) -> T:
        """Return what an observer answers, or *default* if it raises; its error is logged.

        An observer does not wait, so nobody can have cancelled the task while it ran: a
        cancellation that comes out of an observer is an error like any other.
        """
        try:
            return ask()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:  # noqa: BLE001 - a stranger's code
            self._report(observer, exc)
            return default

    def _report(self, observer: Observer, error: BaseException) -> None:
        if id(observer) not in self._failed:
            self._failed.add(id(observer))
            logger.error(
                "the observer %r failed; what it says from now on is not logged: %s",
                observer,
                error,
                exc_info=error,
                extra=about(),
            )


def observers_of(given: Observer | Iterable[Observer] | None) -> Observers | None:
    """Return the given observers as one, or None if there are none.

    :raises SagaflowError: if something else than observers was given.
    """
    if given is None:
        return None
    found = (given,) if isinstance(given, Observer) else tuple(given)
    for observer in found:
        known: Any = observer
        if not isinstance(known, Observer):
            raise SagaflowError(
                f"observers= takes an Observer or several, not {known!r}: derive it from "
                "sagaflow.observing.Observer"
            )
    return Observers(found) if found else None


def decoded(stored: object) -> Mapping[str, object]:
    """Return headers from their stored form; no headers if it is none of sagaflow's."""
    return _mapping(stored) or {}


def _mapping(stored: object) -> Mapping[str, object] | None:
    try:
        headers: Any = decode_dynamic(stored)
        return dict(headers)
    except Exception:  # noqa: BLE001 - a stranger's document
        return None


def _entered(observer: Observer, activity: Activity) -> AbstractContextManager[object]:
    observation = observer.observe(activity)
    observation.__enter__()
    return observation


def _added(observer: Observer) -> dict[str, object]:
    """Return what an observer adds to headers, if it can be stored with them.

    :raises Exception: if it cannot.
    """
    added: dict[str, object] = dict(observer.headers())
    wrong = [name for name in added if type(name) is not str]
    if wrong:
        raise SagaflowError(f"headers() has names that are no texts, such as {shown(wrong[0])}")
    size = document_size({"headers": encode_dynamic(added)}) if added else 0
    if size > _MOST_HEADERS:
        raise SagaflowError(f"headers() has {size:,} bytes; {_MOST_HEADERS:,} are allowed")
    return added
