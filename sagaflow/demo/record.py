"""What a database says about the demo in it, so that it can be continued."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs

from sagaflow._model.errors import SagaflowError
from sagaflow.abc import SagaRepository
from sagaflow.demo.brokers import MEMORY
from sagaflow.demo.example import orders
from sagaflow.demo.settings import Settings

_COLLECTION: Final = "sagaflow_demo"
_ID: Final = "settings"
_ORDERED: Final = ("orders", "failures", "seed")


async def begin(settings: Settings, repository: SagaRepository, database: str) -> Settings:
    """Note what is ordered, before anything is done.

    :raises SagaflowError: if the database is in use: its sagas would take part in the demo.
    """
    record = {
        "_id": _ID,
        "orders": settings.orders,
        "failures": float(settings.failures),
        "seed": str(settings.seed),  # may need more than 64 bits
    }
    if settings.bus != MEMORY:
        record["bus"] = True  # what is under way is not in the sagas alone
    known = await repository.load_document(_COLLECTION, _ID, message_id=None)
    if known is None and any((await repository.count_by_state(orders.OrderSaga)).values()):
        raise SagaflowError(
            f"the database {database!r} has a collection OrderSaga that is not of a demo: choose "
            "another one"
        )
    if known is not None or not await repository.insert_document(_COLLECTION, record):
        raise SagaflowError(
            f"there is a demo in the database {database!r}: continue it with --resume, or choose "
            "another one"
        )
    return settings


async def resume(settings: Settings, repository: SagaRepository, database: str) -> Settings:
    """Return *settings* with what was ordered when the demo began.

    :raises SagaflowError: if there is no demo in the database, or another one than was said.
    """
    record = await repository.load_document(_COLLECTION, _ID, message_id=None)
    if record is None:
        raise SagaflowError(
            f"there is no demo in the database {database!r}: check its name, or leave --resume out"
        )
    if "bus" in record:
        raise SagaflowError(
            f"the demo in the database {database!r} was begun with --bus, and cannot be continued: "
            "choose another one"
        )
    found = attrs.evolve(settings, **_read(record, database))
    for name in _ORDERED:
        said, stored = getattr(settings, name), getattr(found, name)
        if name in settings.given and said != stored:
            raise SagaflowError(
                f"the demo in the database {database!r} was begun with --{name} {stored}, "
                f"not {said}: leave --{name} out"
            )
    return found


async def ordered(repository: SagaRepository) -> Settings:
    """Return what was ordered when the demo began.

    :raises SagaflowError: if there is no demo in the database.
    """
    record = await repository.load_document(_COLLECTION, _ID, message_id=None)
    return Settings(**_read(record or {}, "of this service"))


def _read(record: Mapping[str, Any], database: str) -> dict[str, Any]:
    match record:
        case {"orders": int(number), "failures": float(share), "seed": str(seed)} if (
            number > 0 and 0 <= share <= 1 and seed.isdecimal()
        ):
            return {"orders": number, "failures": share, "seed": int(seed)}
        case _:
            raise SagaflowError(
                f"what is in the collection {_COLLECTION} of the database {database!r} is not of "
                "a demo"
            )
