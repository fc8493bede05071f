"""How the values of a declared type are stored, and read back.

A converter of cattrs finds the encoder and the decoder of each type by the kind of the type, and
keeps both. The two are a `Form`: they are made from one look at the declaration, so that they agree
about what a value of the type may hold. A value of another type is refused: it would be stored and
could never be read back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple, NoReturn, TypeAlias, get_origin

from attrs import evolve, frozen
from cattrs import Converter

from sagaflow._forms.collections import collection, is_collection, is_mapping, mapping
from sagaflow._forms.declared import (
    is_dynamic,
    is_enum,
    is_literal,
    is_union,
    is_unresolved,
    plain,
    undefined,
    unresolved,
)
from sagaflow._forms.form import Encoder, Form, FormOf
from sagaflow._forms.instances import instance, is_message_class
from sagaflow._forms.json_forms import json_instance, json_primitive, json_union, tagged
from sagaflow._forms.scalars import dynamic, enum, is_primitive, literal, primitive
from sagaflow._forms.unions import union
from sagaflow._forms.values import MOST_LEVELS, TooDeepError, UnfitValueError, levels
from sagaflow._model.redaction import is_secret, revealed

_MOST_WITHIN: Final = 30
"""How often a value of a recursive type may be within another of it."""

_SHALLOW: Final = 15
"""How often it may be without its levels being counted: each time takes at most five levels of
documents and arrays, and a stored value may have `MOST_LEVELS`."""


class Resolved(NamedTuple):
    """What a declaration means. The converter has hooks for this, not for the type itself.

    For a subclass of a builtin class, such as an enum of texts, cattrs would use its own hook for
    texts before it asks any predicate. And an error that a predicate raises would be lost, so that
    the types behind aliases are found before.

    :ivar type: the type, with no alias before it.
    :ivar secret: whether values of the type are kept out of errors.
    :ivar json: whether the form is for JSON, which has fewer kinds of values than a document.
    """

    type: Any
    secret: bool = False
    json: bool = False


def _resolved(declared: Any, *, json: bool = False) -> Resolved:
    if is_secret(declared):
        return Resolved(_key(plain(revealed(declared))), secret=True, json=json)
    return Resolved(_key(plain(declared)), json=json)


def _key(declared: Any) -> Any:
    try:
        hash(declared)
    except TypeError:  # something within it is annotated with a list
        return revealed(declared)
    return declared


def form_of(declared: Any) -> Form:
    """Return how the values of a declared type are stored and read back.

    :raises TypeError: if the type cannot be stored.
    :raises NameError: if a name in an annotation within it is not defined, yet.
    """
    return _whole(declared, json=False)


def json_form_of(declared: Any) -> Form:
    """Return how the values of a declared type are written as JSON values and read back.

    :raises TypeError: if the type cannot be written.
    :raises NameError: if a name in an annotation within it is not defined, yet.
    """
    return _whole(declared, json=True)


def _whole(declared: Any, *, json: bool) -> Form:
    try:
        return _found(_resolved(declared, json=json))
    except NameError as exc:
        raise undefined(exc, declared) from exc
    except RecursionError:
        raise TypeError(
            f"{declared} is made of ever more types: let it contain itself for the same type, or "
            "declare an attrs class"
        ) from None


def _form(meant: Resolved, *, keep: bool) -> Form:
    write: Encoder = _converter.get_unstructure_hook(meant, cache_result=keep)
    read: Any = _converter.get_structure_hook(meant, cache_result=keep)
    form: Form = read.form
    return evolve(form, encode=write)


class _Making(threading.local):
    """The forms that this thread is making: of the type that was asked for, and of its parts.

    The converter keeps none of these forms before all of them are complete, so that no form that it
    keeps leads to one that has failed, and no other thread finds an incomplete form.

    :ivar forms: the forms made so far; None while this thread makes none.
    """

    forms: dict[Resolved, Form] | None = None


_making = _Making()
_complete: Final[set[Resolved]] = set()
"""The types whose forms the converter keeps; it cannot be asked for them."""


def _made(meant: Resolved, make: _Make) -> Form:
    """Return the form of a type that the converter does not know, for encoder and decoder."""
    forms = _making.forms
    if forms is not None:
        return forms.get(meant) or _begin(meant, make, forms)
    forms = _making.forms = {}
    try:
        made = _begin(meant, make, forms)
        for part in forms:
            _form(part, keep=True)
        _complete.update(forms)
    finally:
        _making.forms = None
    return made


def _begin(meant: Resolved, make: _Make, forms: dict[Resolved, Form]) -> Form:
    # A type may be part of itself: another form stands for its form until that is complete.
    later = _Later()
    forms[meant] = Form(later.encode, later.decode)
    form = forms[meant] = later.form = make(meant.type, _json_part if meant.json else _part)
    return form


def _part(declared: Any) -> Form:
    return _found(_resolved(declared))


def _json_part(declared: Any) -> Form:
    return _found(_resolved(declared, json=True))


def _found(meant: Resolved) -> Form:
    begun = _making.forms
    if begun is None:
        return _form(meant, keep=True)
    return begun.get(meant) or _form(meant, keep=meant in _complete)


class _Nesting(threading.local):
    """How deeply values of types that are part of themselves are nested while being encoded."""

    depth = 0
    deepest = 0


_nesting = _Nesting()


class _Later:
    """Stands for a form that is not complete yet."""

    form: Form

    def encode(self, value: object) -> object:
        if _nesting.depth >= _MOST_WITHIN:
            raise TooDeepError
        if _nesting.depth == 0:
            _nesting.deepest = 0
        _nesting.depth += 1
        _nesting.deepest = max(_nesting.depth, _nesting.deepest)
        try:
            stored = self.form.encode(value)
        finally:
            _nesting.depth -= 1
        if _nesting.depth == 0 and _nesting.deepest > _SHALLOW and levels(stored) > MOST_LEVELS:
            raise TooDeepError
        return stored

    def decode(self, stored: object) -> object:
        return self.form.decode(stored)


def _secret(declared: Any, _: FormOf) -> Form:
    return _hidden(_found(Resolved(declared)))


def _json_secret(declared: Any, _: FormOf) -> Form:
    return _hidden(_found(Resolved(declared, json=True)))


def _hidden(form: Form) -> Form:
    """Return the form of a secret, whose value is kept out of the errors about it."""

    def encode_secret(value: object) -> object:
        try:
            return form.encode(value)
        except Exception:  # noqa: BLE001 - any error may show the secret
            raise UnfitValueError(_UNFIT_SECRET) from None

    def decode_secret(stored: object) -> object:
        try:
            return form.decode(stored)
        except Exception:  # noqa: BLE001
            raise ValueError(_UNFIT_SECRET) from None

    return Form(encode_secret, decode_secret, form.stored_as_is, form.read_as_is)


_UNFIT_SECRET: Final = "its secret value does not fit its type"  # noqa: S105


def _refuse_unresolved(declared: Any, _: FormOf) -> NoReturn:
    raise unresolved(declared)


def _refuse(declared: Any, _: FormOf) -> NoReturn:
    raise TypeError(
        f"{declared} is not among the types that can be stored; "
        "declare an attrs class of such types, or keep it outside of the saga"
    )


_Make: TypeAlias = Callable[[Any, FormOf], Form]

_KINDS: Final[tuple[tuple[Callable[[Any], bool], _Make], ...]] = (
    (is_dynamic, dynamic),
    (is_unresolved, _refuse_unresolved),
    (is_primitive, primitive),
    (is_union, union),
    (is_literal, literal),
    (is_enum, enum),
    (is_mapping, mapping),
    (is_collection, collection),
    (lambda declared: is_message_class(get_origin(declared) or declared), instance),
    (lambda _: True, _refuse),
)
"""The kinds of types, each with the function that makes a form. The first kind that fits counts."""


def _as_json(make: _Make) -> _Make:
    """Make the document's form of a value without parts, and write what that holds as JSON."""
    return lambda declared, _: tagged(make(declared, _part))


def _json_union(declared: Any, form_of: FormOf) -> Form:
    return json_union(declared, form_of, _part)


_JSON_KINDS: Final[tuple[tuple[Callable[[Any], bool], _Make], ...]] = (
    (is_dynamic, _as_json(dynamic)),
    (is_primitive, json_primitive),
    (is_union, _json_union),
    (is_literal, _as_json(literal)),
    (is_enum, _as_json(enum)),
    (lambda declared: is_message_class(get_origin(declared) or declared), json_instance),
)
"""The kinds whose JSON is not made as their documents are; they are asked for before the others."""


@frozen
class _Structure:
    """A decoder as cattrs calls it: with the type as well, which a form knows already."""

    form: Form

    def __call__(self, stored: object, _: object) -> object:
        return self.form.decode(stored)


def _register(converter: Converter, fits: Callable[[Resolved], bool], make: _Make) -> None:
    def encoder(meant: Resolved) -> Encoder:
        return _made(meant, make).encode

    def decoder(meant: Resolved) -> _Structure:
        return _Structure(_made(meant, make))

    converter.register_unstructure_hook_factory(fits, encoder)
    converter.register_structure_hook_factory(fits, decoder)


def _converter_of_kinds() -> Converter:
    converter = Converter()
    for fits, make in reversed(_KINDS):  # cattrs asks the predicate first that was registered last
        _register(converter, _of_the_type(fits), make)
    for fits, make in reversed(_JSON_KINDS):
        _register(converter, _of_the_type_in_json(fits), make)
    _register(converter, lambda meant: meant.secret, _secret)
    _register(converter, lambda meant: meant.secret and meant.json, _json_secret)
    return converter


def _of_the_type(fits: Callable[[Any], bool]) -> Callable[[Resolved], bool]:
    return lambda meant: fits(meant.type)


def _of_the_type_in_json(fits: Callable[[Any], bool]) -> Callable[[Resolved], bool]:
    return lambda meant: meant.json and fits(meant.type)


_converter: Final = _converter_of_kinds()
