"""The fields of a saga as they are stored, and back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TypeVar

from sagaflow._definition.kept import check_kept, saga_fields
from sagaflow._definition.saga import Saga
from sagaflow._forms.instances import Field, assign
from sagaflow._forms.values import UnfitValueError, cannot_decode, cannot_encode

SagaT = TypeVar("SagaT", bound=Saga)

_fields: dict[type[Saga], tuple[Field, ...]] = {}


def encode_saga(saga: Saga) -> dict[str, object]:
    """Return the fields of *saga* in stored form.

    :raises SagaDefinitionError: if its class cannot be stored.
    :raises SerializationError: naming the field that cannot be stored.
    """
    encoded: dict[str, object] = {}
    for field in _fields.get(type(saga)) or fields_of(type(saga)):
        name, form = field.name, field.form
        try:
            value = getattr(saga, name)
            encoded[name] = value if type(value) in form.stored_as_is else form.encode(value)
        except Exception as exc:
            raise cannot_encode(f"{type(saga).__name__}.{name}", exc) from exc
    return encoded


def decode_saga(saga_type: type[SagaT], data: Mapping[str, object]) -> SagaT:
    """Return a new instance with these fields; a field that is missing has its default.

    The stored values are not converted or validated again.

    :raises SagaDefinitionError: if the class cannot be stored.
    :raises SerializationError: naming the field that cannot be read.
    """
    saga = object.__new__(saga_type)
    for field in _fields.get(saga_type) or fields_of(saga_type):
        name, form = field.name, field.form
        try:
            if name in data:
                stored = data[name]
                as_is = type(stored) in form.read_as_is
                assign(saga, name, stored if as_is else form.decode(stored))
            elif field.default is not None:
                assign(saga, name, field.default(saga))
        except Exception as exc:
            raise cannot_decode(f"{saga_type.__name__}.{name}", exc) from exc
    return saga


def migrated_saga(saga_type: type[SagaT], data: Mapping[str, object]) -> SagaT:
    """Return an instance with the fields that a migration left, each in stored form or as a value.

    :raises SagaDefinitionError: if the class cannot be stored.
    :raises SerializationError: naming the field that holds neither.
    """
    known = (field for field in fields_of(saga_type) if field.name in data)
    stored = {field.name: _in_stored_form(field, data[field.name]) for field in known}
    return decode_saga(saga_type, stored)


def _in_stored_form(field: Field, value: object) -> object:
    try:
        field.form.decode(value)
    except Exception:  # noqa: BLE001 - then it may be a value of the declared type
        with suppress(UnfitValueError):
            return field.form.encode(value)
    return value


def fields_of(saga_type: type[Saga]) -> tuple[Field, ...]:
    """Return the fields of *saga_type* with their forms.

    :raises SagaDefinitionError: if an annotation cannot be resolved, or a field or an event that
        the saga keeps cannot be stored.
    """
    found = _fields.get(saga_type)
    if found is None:
        check_kept(saga_type.table, saga_type.__name__)
        found = _fields[saga_type] = saga_fields(saga_type)
    return found
