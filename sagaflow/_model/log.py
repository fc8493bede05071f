"""Log records: the fields that each of them has, and texts that can always be written."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from datetime import datetime, timedelta
from typing import Final

from attrs import define, field

from sagaflow._model.ids import MessageId, SagaId
from sagaflow._model.shown import shown
from sagaflow._model.texts import cleaned, text_of, traceback_of

_TRACEBACK: Final = 16_000
"""How many characters of a traceback are logged."""
_TOPICS: Final = 1_000
_PLAIN: Final = (bool, int, float, type(None))


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module. It makes the arguments of its records safe to write.

    The name of the logger is that of the module, without ``_runtime``.

    A record that a log handler cannot write is lost. Half a character in the text of an error, or a
    `__str__` that raises, is enough for that.
    """
    logger = logging.getLogger(name.replace("._runtime.", "."))
    logger.addFilter(_READABLE)
    return logger


def about(
    saga: str | None = None,
    correlation_id: SagaId | None = None,
    *,
    event: str | None = None,
    message_id: MessageId | None = None,
    version: int | None = None,
) -> dict[str, object]:
    """Return the fields of a log record: all of them on every record, None where unknown.

    :param saga: the name of the saga's class.
    :param correlation_id: which saga.
    :param event: the class of the event or message.
    :param message_id: its id.
    :param version: the version of the saga.
    """
    return {
        "saga": saga,
        "correlation_id": correlation_id,
        "event": event,
        "message_id": message_id,
        "version": version,
    }


@define
class Repeats:
    """Keeps the log from repeating a record again and again, and counts what was left out.

    :ivar every: how long after a record about a topic the next one about it is logged.
    """

    every: timedelta = timedelta(minutes=5)
    _told: dict[Hashable, tuple[datetime, int]] = field(
        factory=dict[Hashable, tuple[datetime, int]], init=False
    )

    def left_out(self, topic: Hashable, now: datetime) -> int | None:
        """Return how many records about *topic* were left out; None if one more is to be.

        :param topic: what the record is about. Nothing that differs each time, such as an id.
        """
        told, count = self._told.get(topic, (None, 0))
        if told is not None and timedelta(0) <= now - told < self.every:
            self._told[topic] = (told, count + 1)
            return None
        self._told.pop(topic, None)
        self._told[topic] = (now, 0)
        if len(self._told) > _TOPICS:
            del self._told[next(iter(self._told))]
        return count

    @property
    def count(self) -> int:
        """How many records about any topic were left out since the last one about it."""
        return sum(count for _, count in self._told.values())


class _Readable(logging.Filter):
    """Makes the arguments of a record safe to write; its exception stays with it."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_readable(given) for given in record.args)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not record.exc_text:
            record.exc_text = traceback_of(
                error, _TRACEBACK
            )  # formatters use this text if it is there
        return True


class _Shown:
    """An argument of a record, as the text that is logged for it."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return text_of(self._value)

    def __repr__(self) -> str:
        return shown(self._value)


def _readable(given: object) -> object:
    is_plain = cleaned(given) == given if type(given) is str else isinstance(given, _PLAIN)
    return given if is_plain else _Shown(given)


_READABLE: Final = _Readable()
