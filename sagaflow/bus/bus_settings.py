"""What buses over brokers are told, and what of it is refused."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final
from uuid import uuid4

from sagaflow._model.errors import BusError

_SERVICE: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST_OWNER: Final = 200


def check_service(service: object) -> None:
    """Refuse what is no name of a service.

    :raises BusError: if it has other characters than letters, digits, ``_`` and ``-``, none at
        all, or more than 64.
    """
    if not isinstance(service, str) or not _SERVICE.fullmatch(service):
        raise BusError(
            "service= is the name of the program: letters, digits, _ and -, at most 64 of them, "
            f"not {service!r}"
        )


def owner_of(owner: str | None) -> str:
    """Return the name of this process: the one that was given, or one that nobody else has.

    :raises BusError: if it is empty, has more than 200 characters or some that cannot be printed.
    """
    if owner is None:
        return uuid4().hex
    if not 0 < len(owner) <= _LONGEST_OWNER or not owner.isprintable():
        raise BusError(
            f"owner= is the name of this process, 1 to {_LONGEST_OWNER} printable characters, not "
            f"{owner!r}; leave it out to have one made up"
        )
    return owner


def check_times(**times: timedelta | None) -> None:
    """Refuse times that are not positive.

    :param times: by the names of their parameters; None stands for no limit.
    :raises ValueError: if one is not positive.
    """
    for name, given in times.items():
        if given is not None and given <= timedelta(0):
            raise ValueError(f"{name} must be more than nothing, not {given!r}")
