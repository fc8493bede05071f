"""The forms of unions."""

from __future__ import annotations

import types
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from typing import Any, get_args, get_origin

from attrs import frozen

from sagaflow._forms.declared import is_dynamic, is_literal, members, tag_of
from sagaflow._forms.form import Decoder, Encoder, Form, FormOf
from sagaflow._forms.sameness import same_value
from sagaflow._forms.values import NATIVE, TAG, VALUE, UnfitValueError, is_document
from sagaflow._model.shown import shown


def union(declared: Any, form_of: FormOf) -> Form:
    """Return the form of a union: a value that is not stored as it is gets its type's name.

    :raises TypeError: if its members cannot be told apart.
    """
    found = members(declared)
    others = [member for member in found if member is not types.NoneType]
    if len(others) == 1:
        return _optional(form_of(others[0])) if len(found) > 1 else form_of(others[0])
    if any(map(is_dynamic, others)):
        raise TypeError(
            f"{declared} says nothing about its values, and yet something: declare Any alone for "
            "plain data, or leave it out"
        )
    literals = [member for member in others if is_literal(member)]
    if any(isinstance(value, Enum) for member in literals for value in get_args(member)):
        raise TypeError(f"{declared} mixes a Literal of enum members with other types")
    native = {member: form_of(member) for member in found if member in NATIVE}
    kept = [form_of(member) for member in literals]
    tagged: dict[str, _Tagged] = {}
    for member in others:
        if member not in NATIVE and not is_literal(member):
            tag = tag_of(member)
            if tag in tagged:
                raise TypeError(f"several types of {declared} have the same name")
            tagged[tag] = _Tagged(get_origin(member) or member, tag, form_of(member))
    return Form(
        _union_encoder(declared, native, kept, list(tagged.values())),
        _union_decoder(declared, native, kept, tagged),
    )


def _optional(form: Form) -> Form:
    encode, decode = form.encode, form.decode
    return Form(
        lambda value: None if value is None else encode(value),
        lambda stored: None if stored is None else decode(stored),
        form.stored_as_is | {types.NoneType},
        form.read_as_is | {types.NoneType},
    )


@frozen
class _Tagged:
    """A member of a union that is stored with its name."""

    cls: Any
    tag: str
    form: Form

    def encode(self, value: object) -> object:
        return {TAG: self.tag, VALUE: self.form.encode(value)}

    def decode(self, stored: Any) -> object:
        return self.form.decode(stored[VALUE])


def _union_encoder(
    declared: Any, native: Mapping[Any, Form], literals: list[Form], tagged: list[_Tagged]
) -> Encoder:
    def encode(value: object) -> object:
        cls = type(value)
        if cls in native:
            return native[cls].encode(value)
        for literal in literals:
            try:
                return literal.encode(value)
            except UnfitValueError:
                continue
        own: list[_Tagged | Form] = [member for member in tagged if member.cls is cls]
        wider: list[_Tagged | Form] = [
            member for member in tagged if member.cls is not cls and isinstance(value, member.cls)
        ]
        fitting = own or wider
        fitting += [
            form
            for member, form in native.items()
            if isinstance(value, (float, int) if member is float else member)
        ]
        perhaps = wider if own else []
        if len(fitting) == 1 and not perhaps:
            return fitting[0].encode(value)
        return _best(fitting, perhaps, declared, value)

    return encode


def _best(
    fitting: list[_Tagged | Form], perhaps: list[_Tagged | Form], declared: Any, value: object
) -> object:
    """Return the stored form by the first member that reads the very same back.

    There may be several collections of one kind: ``[1]`` is a ``list[int]``, and a ``list[float]``
    would take it, too. If no member reads the very same back, the first of *fitting* that takes the
    value counts.

    :param perhaps: members for a wider class than the value's own, where *fitting* are for that:
        ``["a"]`` may be meant for ``Sequence[str]`` beside ``list[int]``. They take only what they
        read back as it was: ``[True]`` beside ``list[str]`` is wrong, and no ``Sequence[int]``.
    :raises UnfitValueError: if no member takes the value.
    """
    problem: UnfitValueError | None = None
    taken: list[object] = []
    for member in fitting:
        try:
            stored = member.encode(value)
        except UnfitValueError as exc:
            problem = exc
        else:
            if same_value(member.decode(stored), value):
                return stored
            taken.append(stored)
    for member in perhaps:
        with suppress(UnfitValueError):
            stored = member.encode(value)
            if same_value(member.decode(stored), value):
                return stored
    if taken:
        return taken[0]
    raise problem or UnfitValueError(f"{shown(value)} is none of {declared}")


def _union_decoder(
    declared: Any, native: Mapping[Any, Form], literals: list[Form], tagged: dict[str, _Tagged]
) -> Decoder:
    def decode(stored: Any) -> object:
        tag = stored.get(TAG) if is_document(stored) else None
        if isinstance(tag, str):
            # Python before 3.14 has two names for a union; early releases stored `UnionType`, too.
            member = tagged.get(tag) or tagged.get(tag.replace("UnionType[", "Union["))
            if member is not None:
                return member.decode(stored)
        for cls, form in native.items():
            if isinstance(stored, cls) and isinstance(stored, bool) is (cls is bool):
                return form.decode(stored)
        for literal in literals:
            try:
                return literal.decode(stored)
            except ValueError:
                continue
        raise ValueError(f"{shown(stored)} is none of {declared}")

    return decode
