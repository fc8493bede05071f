"""The indexes that the queries and workers use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from attrs import field, frozen


@frozen(kw_only=True)
class Index:
    """An index of a saga's collection.

    :ivar keys: what it is over, ascending.
    :ivar options: what else the server is told.
    """

    name: str
    keys: tuple[str, ...]
    options: Mapping[str, Any] = field(factory=dict[str, Any])

    def is_made(self, known: Mapping[str, Any]) -> bool:
        """Tell whether the server has it as it should be.

        :param known: the server's indexes, as its driver tells them.
        """
        found = known.get(self.name)
        if found is None:
            return False
        keys = tuple(name for name, _ in found["key"])
        return keys == self.keys and all(
            found.get(name) == value for name, value in self.options.items()
        )


INDEXES: Final = (
    # Sparse: a saga that waits for nothing has no entry.
    Index(name="sagaflow_wake", keys=("wake",), options={"sparse": True}),
    Index(name="sagaflow_state", keys=("state", "updated_at")),
    Index(name="sagaflow_stale", keys=("status", "updated_at")),
    Index(
        name="sagaflow_expire",
        keys=("expire_at",),
        options={
            "expireAfterSeconds": 0,
            "partialFilterExpression": {"expire_at": {"$exists": True}},
        },
    ),
)
