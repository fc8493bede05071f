"""The saga classes that an orchestrator runs: checked when it is made, chosen for each event."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sagaflow._codec.data import fields_of
from sagaflow._definition.saga import Saga
from sagaflow._model.errors import (
    AmbiguousSagaError,
    SagaDefinitionError,
    SagaflowError,
    UnknownEventError,
)


def checked_sagas(sagas: Iterable[type[Saga]]) -> tuple[type[Saga], ...]:
    """Return the saga classes that an orchestrator is to run, each once.

    :raises SagaDefinitionError: if there are none, or one is no saga, has no transitions, shares
        its name with another or has a field whose type cannot be stored.
    """
    found: list[type[Saga]] = []
    names: dict[str, type[Saga]] = {}
    for saga in sagas:
        given: Any = saga
        if not (isinstance(given, type) and issubclass(given, Saga)):
            raise SagaDefinitionError(f"an Orchestrator runs subclasses of Saga, not {saga!r}")
        if saga in found:
            continue
        if not saga.table.initial:
            raise SagaDefinitionError("this class has no transitions to run", saga=saga.__name__)
        other = names.setdefault(saga.table.saga, saga)
        if other is not saga:
            raise SagaDefinitionError(
                f"{saga.__module__}.{saga.__qualname__} and {other.__module__}."
                f"{other.__qualname__} are stored under one name: give one of them another, "
                f"class {saga.__name__}(Saga, name=...)",
                saga=saga.__name__,
            )
        fields_of(saga)
        found.append(saga)
    if not found:
        raise SagaDefinitionError(
            "an Orchestrator needs a saga class: Orchestrator([OrderSaga], …)"
        )
    return tuple(found)


def saga_for(
    sagas: tuple[type[Saga], ...], event_type: type, saga_type: type[Saga] | None
) -> type[Saga]:
    """Return the one of *sagas* that an event of this type is for.

    :param saga_type: the one that the caller named.
    :raises SagaflowError: if it is none of them.
    :raises UnknownEventError: if none takes such events, or the named one does not.
    :raises AmbiguousSagaError: if several do and none was named.
    """
    if saga_type is not None:
        if saga_type not in sagas:
            raise SagaflowError(
                f"{saga_type!r} is not run by this orchestrator: pass it in "
                "Orchestrator([...], ...)"
            )
        if not saga_type.table.takes(event_type):
            raise UnknownEventError(event_type, (saga_type.table.saga,))
        return saga_type
    found = tuple(saga for saga in sagas if saga.table.takes(event_type))
    match found:
        case ():
            raise UnknownEventError(event_type, tuple(saga.table.saga for saga in sagas))
        case (only,):
            return only
        case _:
            raise AmbiguousSagaError(event_type, tuple(saga.__name__ for saga in found))
