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
    :ivar decode: returns the value; raises `ValueError` if nothing that *encode* makes is given.
    :ivar stored_as_is: the types of which every value is its own stored form; with one of exactly
        such a type *encode* need not be called.
    :ivar read_as_is: the types of stored forms of which each is the value; with one of exactly such
        a type *decode* need not be called.
    """

    encode: Encoder
    decode: Decoder
    stored_as_is: frozenset[type] = frozenset()
    read_as_is: frozenset[type] = frozenset()


FormOf: TypeAlias = Callable[[Any], Form]
"""Returns the form of a part, while that of the whole is made."""
