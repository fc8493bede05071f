"""The saga classes that an orchestrator runs: checked when it is made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sagaflow._codec.data import fields_of
from sagaflow._definition.saga import Saga
from sagaflow._model.errors import SagaDefinitionError


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
