"""What may identify a saga or a message."""

from __future__ import annotations

import os
from itertools import count
from typing import Final, TypeAlias
from uuid import UUID, uuid4

from bson import Code, ObjectId

from sagaflow._model.errors import CorrelationError

SagaId: TypeAlias = str | int | UUID | ObjectId
"""A correlation id: which saga of its class. ``7`` and ``"7"`` are two ids."""

MessageId: TypeAlias = str | int | UUID | ObjectId
"""A message id: what a second delivery is recognised by. ``7`` and ``"7"`` are two ids."""

SagaKey: TypeAlias = tuple[str, type, SagaId]
"""What a saga is found by among those of all classes: the name of its class, and its id."""

MOST_BYTES: Final = 1024
"""How long an id may be that comes in: the ids of handled messages stay in the saga for a while."""
MOST_STORED: Final = 16 * 1024 * 1024
"""How long one can be that an earlier release has stored: no document is larger."""
INT64_MIN: Final = -(2**63)
INT64_MAX: Final = 2**63 - 1


def saga_key(saga: str, correlation_id: SagaId) -> SagaKey:
    """Return the key of the saga with that id, of the class that is stored under that name."""
    return (saga, type(correlation_id), correlation_id)


def check_new_id(value: object, what: str = "correlation id") -> SagaId:
    """Return *value* if it may come in as an id: this is asked where events do, and nowhere else.

    What an earlier release has stored with a longer one is worked on, found and removed.

    :param what: what the value is meant to be, for the error.
    :raises CorrelationError: if it can be no id, or is longer than 1 KiB in UTF-8.
    """
    if type(value) is str and value and len(value) <= MOST_BYTES and value.isascii():
        return value  # the usual case, at once
    return check_id(value, what, most=MOST_BYTES)


def check_id(  # noqa: C901
    value: object, what: str = "correlation id", *, most: int = MOST_STORED
) -> SagaId:
    """Return *value* if it can be an id, so that data never reaches a query as an operator.

    :param what: what the value is meant to be, for the error.
    :param most: how many bytes it may have in UTF-8.
    :raises CorrelationError: if it is of another type, empty, longer than a document can be, or an
        int of more than 64 bits.
    """
    if type(value) is str and value and len(value) <= MOST_BYTES and value.isascii():
        return value  # the usual case, at once
    if isinstance(value, bool | Code):  # an int and a str to Python, and neither to the database
        raise CorrelationError(what, value, f"it is a {type(value).__qualname__}")
    if isinstance(value, str):
        if not value:
            raise CorrelationError(what, value, "it is empty")
        try:
            size = len(value.encode())
        except UnicodeEncodeError as exc:
            raise CorrelationError(what, value, "it is not valid Unicode") from exc
        if size > most:
            raise CorrelationError(what, value, f"it has {size:,} bytes")
        return str.__str__(value)  # a member of an enum is the same id as its value
    if isinstance(value, int):
        if not INT64_MIN <= value <= INT64_MAX:
            raise CorrelationError(what, value, "it needs more than 64 bits")
        return int(value)
    if isinstance(value, UUID):  # some drivers have a subclass
        return value if type(value) is UUID else UUID(int=value.int)
    if isinstance(value, ObjectId):
        return value
    raise CorrelationError(what, value, f"it is a {type(value).__qualname__}")


class Unique:
    """Makes up texts that nobody else makes up: a random part, and a number.

    A fork goes on with the random part, so the process is in it as well.
    """

    def __init__(self) -> None:
        self._random = uuid4().hex
        self._process = _process
        self._begin = f"{self._random}-{_process:x}-"
        self._numbers = count(1)

    def __call__(self) -> str:
        """Return the next one."""
        if self._process != _process:
            self._process, self._begin = _process, f"{self._random}-{_process:x}-"
        return f"{self._begin}{next(self._numbers):x}"


_process = os.getpid()
"""This process. To ask for it each time would take longer than all the rest."""


def _note_process() -> None:
    global _process  # noqa: PLW0603 - there is one process
    _process = os.getpid()


if hasattr(os, "register_at_fork"):  # where there is a fork
    os.register_at_fork(after_in_child=_note_process)
