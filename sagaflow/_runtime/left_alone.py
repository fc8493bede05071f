"""The sagas that one process leaves alone for a while, and when it looks at them again."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from attrs import define, field

from sagaflow._codec.reading import is_id, own_id_in
from sagaflow._engine.backoff import bound
from sagaflow._model.errors import (
    DamagedDocumentError,
    LeftAloneError,
    NewerSchemaError,
    UnknownStateError,
)
from sagaflow._model.log import about, get_logger
from sagaflow._model.shown import shown

logger = get_logger(__name__)

FIRST_PAUSE: Final = timedelta(seconds=5)
LONGEST_PAUSE: Final = timedelta(minutes=10)
MOST_REMEMBERED: Final = 10_000
"""How many sagas of each class are remembered. A sweep goes past further ones a few at a time."""

_NEWER: Final = "newer"

_Key = tuple[type, object]


@define
class _Pause:
    """How long a saga is left alone.

    :ivar looks: how often the saga was looked at in vain.
    """

    until: datetime
    looks: int
    error: LeftAloneError


@define
class LeftAlone:
    """Remembers sagas that are damaged or in a state that their class does not know.

    Each such saga is looked at again with growing pauses: its document may have been mended, or
    other code may have led it to a state that is known here. Each damaged document is logged once;
    sagas in unknown states are logged once for each state, and sagas of newer code once for each
    class.

    :ivar most: how many sagas of each class are remembered.
    """

    most: int = MOST_REMEMBERED
    _pauses: dict[str, dict[_Key, _Pause]] = field(
        factory=dict[str, dict[_Key, _Pause]], init=False
    )
    _told: set[tuple[str, object]] = field(factory=set[tuple[str, object]], init=False)

    def add(self, error: LeftAloneError, now: datetime) -> None:
        """Leave a saga alone for a while, and log that.

        A saga with a newer schema is logged only: the next sweep does not ask for such sagas.
        """
        self._tell(error)
        if isinstance(error, NewerSchemaError):
            return
        known, key = self._pauses.setdefault(error.saga, {}), _key(error.correlation_id)
        before = known.get(key)
        if before is None and len(known) >= self.most:
            return
        looks = 0 if before is None else before.looks
        pause = bound(FIRST_PAUSE, LONGEST_PAUSE, looks)
        known[key] = _Pause(now + pause, looks + 1, error)

    def rests(self, saga: str, correlation_id: object, now: datetime) -> bool:
        """Tell whether a saga is left alone now."""
        pause = self._pauses.get(saga, {}).get(_key(correlation_id))
        return pause is not None and now < pause.until

    def forget(self, saga: str, correlation_id: object) -> None:
        """Note that a saga could be read, and is left alone no longer."""
        self._pauses.get(saga, {}).pop(_key(correlation_id), None)

    def keep_only(self, saga: str, correlation_ids: Collection[object]) -> None:
        """Forget all sagas of a class but these: there is no work for the others any more."""
        known = self._pauses.get(saga)
        if known:
            still = {_key(correlation_id) for correlation_id in correlation_ids}
            self._pauses[saga] = {key: pause for key, pause in known.items() if key in still}

    def count(self, saga: str, kind: type[LeftAloneError] = LeftAloneError) -> int:
        """Return how many sagas of a class are left alone because of that kind of error."""
        return sum(isinstance(pause.error, kind) for pause in self._pauses.get(saga, {}).values())

    def is_full(self, saga: str) -> bool:
        """Tell whether no more sagas of a class can be remembered."""
        return len(self._pauses.get(saga, {})) >= self.most

    def knows_newer(self, saga: str) -> bool:
        """Tell whether a saga of a newer schema has been met."""
        return (saga, _NEWER) in self._told

    def _tell(self, error: LeftAloneError) -> None:
        match error:
            case DamagedDocumentError():
                what: object = _key(error.correlation_id)
                more = "It is set aside, and looked at again with growing pauses."
            case UnknownStateError():
                what, more = (
                    (UnknownStateError, error.state),
                    "Further sagas in this state are passed over silently.",
                )
            case _:
                what, more = _NEWER, "Further sagas of this class are passed over silently."
        told = (error.saga, what)
        if told in self._told or len(self._told) >= MOST_REMEMBERED:
            return
        self._told.add(told)
        logger.warning("%s %s", error, more, extra=about(error.saga))


def check_stored_id(saga: str, stored: object) -> None:
    """Refuse a stored ``_id`` that cannot be the id of a saga: it must never get into a query.

    :raises DamagedDocumentError: if *stored* cannot be an id.
    """
    try:
        own_id_in({"_id": stored})
    except TypeError as exc:
        raise DamagedDocumentError(saga, stored, str(exc)) from exc


def _key(correlation_id: object) -> _Key:
    """Return a hashable key for a stored ``_id``, even for one that is not hashable itself."""
    kind = type(correlation_id)
    return (kind, correlation_id if is_id(correlation_id) else shown(correlation_id))
