"""Texts of users' exceptions and objects, in a form that can always be stored and logged.

The text of an exception may hold half a character, as the name of a file does that is not UTF-8. It
may be 17 MB long, and asking for it may raise. None of that may keep a failure from being stored.
So every text of an error that is stored or logged is made here.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from typing import Any, Final

LINE: Final = 2_000
"""How many characters of what an error says are kept."""
TRACEBACK: Final = 4_000
"""How many characters of a traceback are kept in a saga: its end, where the cause is."""
TRACEBACK_LINE: Final = 500
"""How many characters of what the error says stand before a traceback that was cut."""

_CUT: Final = "..."
_NAME: Final = 200
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters except for the tab and the end of a line."""
_QUALNAME: Final[Any] = vars(type)["__qualname__"]


def cleaned(text: str, most: int = LINE) -> str:
    """Return the beginning of *text*, with control characters and halves of characters escaped."""
    text = str.__str__(text)  # a subclass of str may do anything when it is sliced
    clean = _cleaned(text[:most])
    return clean if len(clean) <= most and len(text) <= most else f"{clean[:most]}{_CUT}"


def shortened(error: str, most: int) -> str:
    """Return the part that tells most of what is stored of an error: of a traceback the end."""
    is_line = "\n" not in error.rstrip("\n")
    return cleaned(error, most) if is_line or len(error) <= most else f"{_CUT}{error[-most:]}"


def name_of(cls: type) -> str:
    """Return the name of a class, whatever its metaclass says."""
    name: str = _QUALNAME.__get__(cls)
    return cleaned(name.rpartition(">.")[2], _NAME)


def text_of(value: object, most: int = LINE) -> str:
    """Return what an error says, or what another object is as a text."""
    return cleaned(_asked(lambda: str(value), "<its text cannot be had>"), most)


def line_of(error: BaseException, most: int = LINE) -> str:
    """Return the class of *error* and its text, in one line."""
    said = text_of(error, most)
    return f"{name_of(type(error))}: {said}" if said else name_of(type(error))


def traceback_of(error: BaseException, most: int = TRACEBACK) -> str:
    """Return the traceback of *error*; of a long one its end, after what the error says."""
    text = _asked(lambda: "".join(traceback.format_exception(error)), "")
    if not text:  # formatting fails, such as for a frame without a name
        calls = _asked(lambda: "".join(traceback.format_tb(error.__traceback__)), "")
        text = f"{calls}{line_of(error, TRACEBACK_LINE)}\n"
    clean = _cleaned(text[-most:])
    if len(text) <= most and len(clean) <= most:
        return clean
    head = f"{line_of(error, TRACEBACK_LINE)}\n{_CUT}"
    return head + clean[len(head) - most :]


def repr_of(value: object, shown: Callable[[Any], str] = repr, most: int = LINE) -> str:
    """Return how *value* is shown by *shown*, or at least what it is."""
    return cleaned(_asked(lambda: shown(value), f"a value of type {name_of(type(value))}"), most)


def _asked(ask: Callable[[], str], instead: str) -> str:
    try:
        return str.__str__(ask())
    except (KeyboardInterrupt, SystemExit):  # they end the program, whatever object was asked
        raise
    except BaseException:  # noqa: BLE001 - code that does not wait has no cancellation to hand on
        return instead


def _cleaned(text: str) -> str:
    whole = text.encode("utf-8", "backslashreplace").decode()
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", whole)
