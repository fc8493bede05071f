"""How the values of a declared type are stored, and read back.

One `Form` has both ways, made from one look at the declaration, so whatever a type may hold when
it is stored is what it holds when it is read. A value of another type is refused: it would be
stored and could never be read back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, get_origin

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
from sagaflow._forms.form import Form, FormOf
from sagaflow._forms.instances import instance, is_message_class
from sagaflow._forms.scalars import DYNAMIC, PRIMITIVES, enum, literal
from sagaflow._forms.unions import union
from sagaflow._forms.values import MOST_LEVELS, TooDeepError, UnfitValueError, levels
from sagaflow._model.redaction import is_secret, revealed

_MOST_WITHIN: Final = 30
"""How often a value of a recursive type may be within another of it."""

_SHALLOW: Final = 15
"""So often it may be without being looked at: each time takes at most five levels of documents and
arrays, of which `MOST_LEVELS` may be."""


_known: dict[Any, Form] = {}


def form_of(declared: Any) -> Form:
    """Return how the values of a declared type are stored and read back.

    :raises TypeError: if the type cannot be stored.
    :raises NameError: if a name in an annotation within it is not defined, yet.
    """
    try:
        known = _known.get(declared)
    except TypeError:  # what is annotated with a list is no key
        known = None
    if known is not None:
        return known
    started: dict[Any, Form] = {}
    try:
        form = _form(declared, started)
    except NameError as exc:
        raise undefined(exc, declared) from exc
    except RecursionError:
        raise TypeError(
            f"{declared} is made of ever more types: let it contain itself for the same type, or "
            "declare an attrs class"
        ) from None
    _known.update(started)  # only now: nothing that is known leads to what has failed
    return form


def _form(declared: Any, started: dict[Any, Form]) -> Form:
    if is_secret(declared):
        return _guarded(_plain_form(plain(revealed(declared)), started))
    return _plain_form(plain(declared), started)


def _plain_form(declared: Any, started: dict[Any, Form]) -> Form:
    def form_of(part: Any) -> Form:
        return _form(part, started)

    try:
        known = _known.get(declared) or started.get(declared)
    except TypeError:
        return _made(declared, form_of)
    if known is None:
        # A type may be part of itself, so it is known before it is complete.
        later = _Later()
        started[declared] = Form(later.encode, later.decode)
        known = started[declared] = later.form = _made(declared, form_of)
    return known


class _Nesting(threading.local):
    """How deep a value is that is being encoded, of a type that is part of itself."""

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


def _made(declared: Any, form_of: FormOf) -> Form:
    if is_dynamic(declared):
        return DYNAMIC
    if is_unresolved(declared):
        raise unresolved(declared)
    primitive = PRIMITIVES.get(declared)
    if primitive is not None:
        return primitive
    for fits, make in _MAKERS:
        if fits(declared):
            return make(declared, form_of)
    raise TypeError(
        f"{declared} is not among the types that can be stored; "
        "declare an attrs class of such types, or keep it outside of the saga"
    )


def _guarded(form: Form) -> Form:
    """Keep a secret out of the errors about it."""

    def encode_secret(value: object) -> object:
        try:
            return form.encode(value)
        except Exception:  # noqa: BLE001 - whatever it says may say too much
            raise UnfitValueError(_UNFIT_SECRET) from None

    def decode_secret(stored: object) -> object:
        try:
            return form.decode(stored)
        except Exception:  # noqa: BLE001
            raise ValueError(_UNFIT_SECRET) from None

    return Form(encode_secret, decode_secret)


_UNFIT_SECRET: Final = "its secret value does not fit its type"  # noqa: S105


_MAKERS: Final[tuple[tuple[Callable[[Any], bool], Callable[[Any, FormOf], Form]], ...]] = (
    (is_union, union),
    (is_literal, literal),
    (is_enum, enum),
    (is_mapping, mapping),
    (is_collection, collection),
    (lambda declared: is_message_class(get_origin(declared) or declared), instance),
)
