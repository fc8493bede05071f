"""The two ways of a declared type: into its stored form, and back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from attrs import frozen

Encoder: TypeAlias = Callable[[Any], object]
Decoder: TypeAlias = Callable[[Any], Any]


@frozen
class Form:
    """How the values of a declared type are stored, and read back.

    :ivar encode: returns the stored form; raises `UnfitValueError` for a value that is of another
        type or cannot be stored.
    :ivar decode: returns the value; raises `ValueError` for a stored form that *encode* cannot have
        made.
    :ivar stored_as_is: the types whose values are their own stored forms: *encode* need not be
        called for a value of exactly such a type.
    :ivar read_as_is: the types whose stored forms are the values: *decode* need not be called for a
        stored form of exactly such a type.
    """

    encode: Encoder
    decode: Decoder
    stored_as_is: frozenset[type] = frozenset()
    read_as_is: frozenset[type] = frozenset()


FormOf: TypeAlias = Callable[[Any], Form]
"""Returns the form of a part of a type, while the form of the whole type is made."""
