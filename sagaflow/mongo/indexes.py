"""The indexes that the queries and workers use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import field, frozen

from sagaflow._definition.saga import Saga, definition_of
from sagaflow._definition.table import Action


@frozen(kw_only=True)
class Index:
    """An index of a saga's collection.

    :ivar name: the name of the index.
    :ivar keys: the fields that the index is over, ascending.
    :ivar options: further options of the index, for the server.
    """

    name: str
    keys: tuple[str, ...]
    options: Mapping[str, Any] = field(factory=dict[str, Any])

    def is_made(self, known: Mapping[str, Any]) -> bool:
        """Tell whether the server has an index of this name with the same keys and options.

        :param known: the server's indexes, as its driver returns them.
        """
        found = known.get(self.name)
        if found is None:
            return False
        keys = tuple(name for name, _ in found["key"])
        return keys == self.keys and all(
            found.get(name) == value for name, value in self.options.items()
        )


_WAKE: Final = Index(name="sagaflow_wake", keys=("wake",), options={"sparse": True})
"""Sparse: a saga that waits for nothing has no entry."""
_STATE: Final = Index(name="sagaflow_state", keys=("state", "status", "updated_at"))
"""One for all queries by state, by status and by age: every write of a saga pays for an index."""
_EXPIRE: Final = Index(
    name="sagaflow_expire",
    keys=("expire_at",),
    options={"expireAfterSeconds": 0, "sparse": True},
)


def indexes_of(saga_type: type[Saga]) -> tuple[Index, ...]:
    """Return the indexes of a class: the one on expiry only if its documents may expire."""
    if _may_expire(saga_type):
        return (_WAKE, _STATE, _EXPIRE)
    return (_WAKE, _STATE)


def _may_expire(saga_type: type[Saga]) -> bool:
    """Tell whether ended sagas are removed, or events may come before their saga starts."""
    if definition_of(saga_type).options.retain is not None:
        return True
    return any(row.source is None and row.action is Action.DEFER for row in saga_type.table.rows)
