"""What a saga keeps: its fields, and events that wait in it or may have to be undone.

Whether all of that can be stored and read back is found out when the class statement runs. Where
an annotation names what is defined further down, it is found out when the orchestrator is made.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from sagaflow._definition.table import Action, TransitionRow, TransitionTable
from sagaflow._forms.forms import form_of
from sagaflow._forms.instances import Declared, Field, declared_fields, field_of, is_message_class
from sagaflow._model.errors import SagaDefinitionError


def saga_fields(saga_type: Any) -> tuple[Field, ...]:
    """Return the fields of a saga class with their forms.

    :raises SagaDefinitionError: naming the field that cannot be stored. Its cause is a `NameError`
        if the annotation names something that is not defined yet.
    """
    fields: list[Field] = []
    declared: Declared | None = None
    try:
        for declared in declared_fields(saga_type):
            fields.append(field_of(declared, form_of))
    except Exception as exc:
        name = None if declared is None else declared.name
        what = "a type" if declared is None else f"its type {declared.type}"
        problem = str(exc) if isinstance(exc, NameError) else f"{what} cannot be stored: {exc}"
        raise SagaDefinitionError(problem, saga=saga_type.__name__, method=name) from exc
    return tuple(fields)


def check_kept(table: TransitionTable, saga: str) -> None:
    """Refuse events that are to be kept in the saga, but cannot be stored.

    :raises SagaDefinitionError: naming the event, the transition that keeps it and its line.
    """
    for row, event, why in _kept(table):
        problem: str | None = None
        cause: Exception | None = None
        if not is_message_class(event):
            problem = "is no attrs class or dataclass: declare it as one"
        else:
            try:
                form_of(event)
            except Exception as exc:  # noqa: BLE001 - whatever an annotation raises
                problem, cause = f"cannot be stored: {exc}", exc
        if problem is not None:
            raise SagaDefinitionError(
                f"{event.__name__} is kept, because {why}, but it {problem}",
                saga=saga,
                method=row.step,
                filename=row.filename,
                line=row.line,
            ) from cause


def _kept(table: TransitionTable) -> Iterator[tuple[TransitionRow, type, str]]:
    """Yield the events that may have to be stored, with the transition that says so.

    An abstract class has no instances. Events of its subclasses are checked when they arrive.
    """
    for row in table.rows:
        if row.event is None or inspect.isabstract(row.event):
            continue
        undone_by = table.compensations.get(row.step)
        if row.action is Action.DEFER:
            yield row, row.event, "it waits in the saga until another transition"
        elif undone_by is not None:
            yield row, row.event, f"{undone_by!r} undoes what it has done"
