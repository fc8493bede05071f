"""What topics, groups and their members are called. Pure."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Final

from attrs import frozen

from sagaflow._model.errors import BusError

_PREFIX: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LEGAL: Final = re.compile(r"[A-Za-z0-9_.-]{1,249}")
_ID: Final = re.compile(r"[0-9]{1,10}-[0-9]{1,19}")


@frozen
class Names:
    """The topics of a service, and those that all services share.

    :ivar prefix: what the names begin with.
    """

    prefix: str
    service: str

    @property
    def services(self) -> str:
        """Says which service takes which names."""
        return f"{self.prefix}.services"

    @property
    def dead(self) -> str:
        """Holds the dead letters of the service."""
        return f"{self.inbox}.dead"

    @property
    def inbox(self) -> str:
        """Holds the messages of the service; its consumer group has the same name."""
        return self.inbox_of(self.service)

    def inbox_of(self, service: str) -> str:
        """Return the topic with the messages of a service."""
        return f"{self.prefix}.service.{service}"


def check_prefix(prefix: object) -> None:
    """Refuse what topics cannot begin with.

    :raises BusError: if it has other characters than letters, digits, ``_``, ``-`` and dots, none
        at all, or more than 64.
    """
    if not isinstance(prefix, str) or not _PREFIX.fullmatch(prefix):
        raise BusError(
            "prefix= is what the names of topics begin with: letters, digits, _, - and dots, at "
            f"most 64 of them, not {prefix!r}"
        )


def member_of(owner: str) -> str:
    """Return the name of a process as Kafka takes it, which allows fewer characters."""
    return owner if _LEGAL.fullmatch(owner) else sha256(owner.encode()).hexdigest()


def letter_id_of(partition: int, offset: int) -> str:
    """Return the id of the dead letter that a message becomes, by its place in the inbox."""
    return f"{partition}-{offset}"


def is_letter_id(letter_id: str) -> bool:
    """Tell whether a dead letter may have this id."""
    return _ID.fullmatch(letter_id) is not None
