"""The fields of a saga as they are stored, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import attrs
from attrs import frozen

from sagaflow._codec.decoding import cannot_decode, converter
from sagaflow._codec.encoding import encoder_for
from sagaflow._codec.values import UnfitValueError, cannot_encode
from sagaflow._definition.saga import Saga
from sagaflow.exceptions import SagaDefinitionError

SagaT = TypeVar("SagaT", bound=Saga)


@frozen
class _Field:
    name: str
    argument: str | None
    declared: Any
    encode: Callable[[Any], object]
    decode: Callable[[Any, Any], Any]


_fields: dict[type[Saga], tuple[_Field, ...]] = {}


def encode_saga(saga: Saga) -> dict[str, object]:
    """Return the fields of *saga* in stored form.

    :raises SerializationError: naming the field that cannot be stored.
    """
    encoded: dict[str, object] = {}
    for declared in fields_of(type(saga)):
        try:
            encoded[declared.name] = declared.encode(getattr(saga, declared.name))
        except Exception as exc:
            raise cannot_encode(f"{type(saga).__name__}.{declared.name}", exc) from exc
    return encoded


def decode_saga(saga_type: type[SagaT], data: Mapping[str, object]) -> SagaT:
    """Return an instance of its own with these fields; a field that is missing has its default.

    :raises SerializationError: naming the field that cannot be read.
    """
    arguments: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for declared in fields_of(saga_type):
        if declared.name not in data:
            continue
        try:
            value = declared.decode(data[declared.name], declared.declared)
        except Exception as exc:
            raise cannot_decode(f"{saga_type.__name__}.{declared.name}", exc) from exc
        if declared.argument is None:
            others[declared.name] = value
        else:
            arguments[declared.argument] = value
    saga = saga_type(**arguments)
    for name, value in others.items():
        setattr(saga, name, value)
    return saga


def migrated_saga(saga_type: type[SagaT], data: Mapping[str, object]) -> SagaT:
    """Return an instance with the fields that a migration left: in stored form, or as values.

    :raises SerializationError: naming the field that is neither.
    """
    known = (declared for declared in fields_of(saga_type) if declared.name in data)
    stored = {declared.name: _in_stored_form(declared, data[declared.name]) for declared in known}
    return decode_saga(saga_type, stored)


def _in_stored_form(declared: _Field, value: object) -> object:
    try:
        declared.decode(value, declared.declared)
    except Exception:  # noqa: BLE001 - then it may be a value of the declared type
        with suppress(UnfitValueError):
            return declared.encode(value)
    return value


def fields_of(saga_type: type[Saga]) -> tuple[_Field, ...]:
    """Return the fields of *saga_type* with their encoders.

    :raises SagaDefinitionError: if an annotation cannot be resolved or is of no known kind.
    """
    found = _fields.get(saga_type)
    if found is None:
        found = _fields[saga_type] = tuple(_resolve(saga_type))
    return found


def _resolve(saga_type: Any) -> list[_Field]:
    try:
        attrs.resolve_types(saga_type)
    except NameError as exc:
        raise SagaDefinitionError(
            f"the annotation {exc.name!r} cannot be resolved: define or import that class at "
            "module level, outside of `if TYPE_CHECKING`",
            saga=saga_type.__name__,
        ) from exc
    fields: list[_Field] = []
    for attribute in attrs.fields(saga_type):
        try:
            encode = encoder_for(attribute.type)
            decode = converter.get_structure_hook(attribute.type)
        except Exception as exc:
            raise SagaDefinitionError(
                f"its type {attribute.type} cannot be stored: {exc}",
                saga=saga_type.__name__,
                method=attribute.name,
            ) from exc
        argument = attribute.alias if attribute.init else None
        fields.append(_Field(attribute.name, argument, attribute.type, encode, decode))
    return fields
