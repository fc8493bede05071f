"""The forms of attrs classes and dataclasses: documents of their fields.

An instance that is read is the one that was stored: its class does not make it anew. Converters,
validators, ``__init__`` and post-init methods do not run, and fields that ``__init__`` does not
take are stored like the other fields.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property
from typing import Any, Final, get_origin

import attrs
from attrs import frozen

from sagaflow._forms.collections import is_defaultdict, mapping_with
from sagaflow._forms.declared import field_types, is_union, members, plain, undetermined
from sagaflow._forms.form import Form, FormOf
from sagaflow._forms.values import (
    MisfitError,
    UnfitValueError,
    expected,
    faults_of,
    is_document,
)

assign: Final = object.__setattr__
"""Sets an attribute even if its class is frozen, or would validate or convert the value."""


def is_message_class(candidate: object) -> bool:
    """Tell whether *candidate* is an attrs class or a dataclass, so that it can be stored."""
    return isinstance(candidate, type) and (
        "__attrs_attrs__" in vars(candidate)  # the usual case, and the quickest to ask
        or attrs.has(candidate)
        or dataclasses.is_dataclass(candidate)
    )


@frozen
class Declared:
    """A field as its class declares it.

    :ivar default: makes the value for an instance that lacks the field; None without a default.
    :ivar init: whether ``__init__`` takes the field.
    """

    name: str
    type: Any
    default: Callable[[Any], Any] | None
    init: bool


@frozen
class Field:
    """A field with its form."""

    name: str
    form: Form
    default: Callable[[Any], Any] | None
    init: bool


def declared_fields(declared: Any) -> Iterator[Declared]:
    """Yield the fields of an attrs class or a dataclass, also of a generic one made for a type.

    :raises NameError: if a name in an annotation is not defined.
    :raises TypeError: if a field has no annotation, or an instance does not keep what it was given.
    """
    cls: Any = get_origin(declared) or declared
    types = field_types(declared)
    for name, given in types.items():
        if given is dataclasses.InitVar or isinstance(given, dataclasses.InitVar):
            raise TypeError(
                f"the field {cls.__name__}.{name} is an InitVar, which an instance does not keep: "
                "make it a field"
            )
    if attrs.has(cls):
        for attribute in attrs.fields(cls):
            found = types.get(attribute.name, attribute.type)
            yield Declared(
                attribute.name,
                _annotated(cls, attribute.name, found),
                _default_of_attrs(attribute),
                attribute.init,
            )
    else:
        for field in dataclasses.fields(cls):
            yield Declared(
                field.name,
                _annotated(cls, field.name, types.get(field.name)),
                _default_of_dataclass(field),
                field.init,
            )


@cache
def field_names(cls: Any) -> tuple[str, ...]:
    """Return the names of the fields of a class; none if it is neither of attrs nor a dataclass."""
    if attrs.has(cls):
        return tuple(attribute.name for attribute in attrs.fields(cls))
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls))
    return ()


def _annotated(cls: Any, name: str, found: Any) -> Any:
    if found is None:
        raise TypeError(f"the field {name!r} of {cls.__name__} has no annotation")
    return found


def _default_of_attrs(attribute: Any) -> Callable[[Any], Any] | None:
    default: Any = attribute.default
    convert: Any = attribute.converter
    if default is attrs.NOTHING:
        return None

    def make(instance: Any) -> Any:
        value = default
        if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
            value = default.factory(instance) if default.takes_self else default.factory()
        if convert is None:
            return value
        if isinstance(convert, attrs.Converter):
            return _converted(convert, value, instance, attribute)
        return convert(value)

    return make


def _converted(convert: Any, value: Any, instance: Any, attribute: Any) -> Any:
    further = (instance,) * convert.takes_self + (attribute,) * convert.takes_field
    return convert.converter(value, *further)


def _default_of_dataclass(field: dataclasses.Field[Any]) -> Callable[[Any], Any] | None:
    if field.default_factory is not dataclasses.MISSING:
        make = field.default_factory
        return lambda _: make()
    if field.default is not dataclasses.MISSING:
        value = field.default
        return lambda _: value
    return None


def field_of(declared: Declared, form_of: FormOf) -> Field:
    """Return a field with its form.

    A defaultdict makes its values as the default of its field does: code cannot be stored.

    :raises TypeError: if the type of the field cannot be stored.
    """
    form = form_of(declared.type)
    kind = _without_none(declared.type)
    if declared.default is not None and is_defaultdict(kind):
        with_default = _defaultdict(declared.default)
        if with_default is not None:
            form = mapping_with(kind, form_of, with_default.default_factory)
    return Field(declared.name, form, declared.default, declared.init)


def _without_none(declared: Any) -> Any:
    kind = plain(declared)
    if is_union(kind):
        others = [member for member in members(kind) if member is not type(None)]
        if len(others) == 1:
            return others[0]
    return kind


def _defaultdict(make: Callable[[Any], Any]) -> Any:
    try:
        made = make(None)
    except Exception:  # noqa: BLE001 - it may need an instance, or more
        return None
    return made if is_defaultdict(type(made)) else None


def instance(declared: Any, form_of: FormOf) -> Form:
    """Return the form of an attrs class or a dataclass.

    :raises TypeError: naming a field that cannot be stored.
    """
    cls: Any = get_origin(declared) or declared
    _check_made(declared, cls)
    fields: list[Field] = []
    for one in declared_fields(declared):
        try:
            fields.append(field_of(one, form_of))
        except TypeError as exc:
            raise TypeError(f"the field {cls.__name__}.{one.name}: {exc}") from exc
    return Form(_encoder(cls, fields), _decoder(cls, fields))


def _check_made(declared: Any, cls: Any) -> None:
    open_ = undetermined(cls)
    if declared is cls and open_:
        raise TypeError(
            f"{cls.__name__} is generic and nothing says what {open_[0]} is: write "
            f"{cls.__name__}[...], or a subclass of that"
        )
    if inspect.isabstract(cls):
        raise TypeError(f"{cls.__name__} is abstract, so it has no instances: name its subclasses")
    try:
        object.__new__(cls)
    except TypeError:
        raise TypeError(
            f"{cls.__name__} is made of a builtin class that holds data beside its fields: let it "
            "hold that in a field"
        ) from None


def _encoder(cls: Any, fields: list[Field]) -> Callable[[Any], object]:
    encoders = [(field.name, field.form.encode, field.form.stored_as_is) for field in fields]
    may_be_unset = {field.name for field in fields if not field.init and field.default is None}
    has_dict = any("__dict__" in vars(base) for base in cls.__mro__)
    count = len(fields)

    def encode(value: Any) -> object:
        if type(value) is not cls:  # the fields that a subclass adds would be lost
            raise expected(cls.__name__, value)
        if has_dict and len(vars(value)) != count:  # pyright: ignore[reportUnknownArgumentType]
            _check_attributes(cls, value)
        document: dict[str, object] = {}
        for name, encode_field, as_is in encoders:
            try:
                held = getattr(value, name)
                document[name] = held if type(held) in as_is else encode_field(held)
            except UnfitValueError as exc:
                raise exc.within(f".{name}") from exc.__cause__
            except AttributeError:
                if name not in may_be_unset or hasattr(value, name):
                    raise
        return document

    return encode


def _check_attributes(cls: Any, value: object) -> None:
    """Refuse attributes that are no fields, which would be lost."""
    for name in vars(value).keys() - set(field_names(cls)):
        if name != _HASH and not isinstance(getattr(cls, name, None), cached_property):
            raise UnfitValueError(
                f"the attribute {name!r} of {cls.__name__} is no field, so it would be lost: "
                "declare it, with field(init=False) if need be"
            )


_HASH: Final = "_attrs_cached_hash"


def _decoder(cls: Any, fields: list[Field]) -> Callable[[Any], Any]:
    new = object.__new__
    given = [(f.name, f.form.decode, f.form.read_as_is, f.default) for f in fields if f.init]
    others = [f for f in fields if not f.init]
    caches_hash = _HASH in getattr(getattr(cls, "__hash__", None), "__code__", _NoCode).co_names

    def decode(document: Any) -> Any:
        if not is_document(document):
            raise expected(f"a stored {cls.__name__}", document)
        made = new(cls)
        if caches_hash:
            assign(made, _HASH, None)
        faults: list[tuple[str, str]] = []
        for name, decode_field, as_is, default in given:
            try:
                if name in document:
                    stored = document[name]
                    assign(made, name, stored if type(stored) in as_is else decode_field(stored))
                elif default is not None:
                    assign(made, name, default(made))
                else:
                    raise KeyError(name)  # noqa: TRY301 - a fault like the others
            except Exception as exc:  # noqa: BLE001 - each fault is told
                faults += faults_of(exc, f".{name}")
        if others and not faults:
            _decode_others(made, others, document, faults)
        if faults:
            raise MisfitError(faults)
        return made

    return decode


class _NoCode:
    co_names = ()


def _decode_others(
    made: Any,
    others: list[Field],
    document: Mapping[str, Any],
    faults: list[tuple[str, str]],
) -> None:
    """Set the fields that ``__init__`` does not take.

    Earlier releases did not store these fields. If one is missing, the defaults and the post-init
    method of the class make these fields anew, before the stored ones are set.
    """
    if any(field.name not in document for field in others):
        for field in others:
            if field.default is not None:
                assign(made, field.name, field.default(made))
        follow_up = getattr(made, "__attrs_post_init__", getattr(made, "__post_init__", None))
        if follow_up is not None:
            follow_up()
    for field in others:
        if field.name in document:
            try:
                assign(made, field.name, field.form.decode(document[field.name]))
            except Exception as exc:  # noqa: BLE001 - each fault is told
                faults += faults_of(exc, f".{field.name}")
