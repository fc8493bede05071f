"""Strict JSON: what is read twice alike, whoever reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, Final, NoReturn, cast

MOST_JSON_LEVELS: Final = 100
"""How many levels of objects and arrays a JSON value may have: as many as a document of MongoDB."""


def write_json(value: object) -> str:
    """Return a value made of None, bool, int, float, str, list and dict as JSON.

    :raises ValueError: if it is nested too deeply, or holds what JSON cannot say.
    """
    _check_levels(value)
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def read_json(text: bytes | str) -> object:
    """Return the value that JSON says.

    :raises ValueError: if it is not valid JSON in UTF-8, an object has a key twice, a number is too
        large, a text is half a character, or it is nested too deeply. The error shows none of it.
    """
    try:
        decoded = text.decode("utf-8", "strict") if isinstance(text, bytes) else text
        found: object = json.loads(
            decoded,
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
        if "\\u" in decoded:  # the only way to half a character
            json.dumps(found, ensure_ascii=False).encode()
    except json.JSONDecodeError as exc:
        raise ValueError(f"not valid JSON at character {exc.pos}") from None
    except UnicodeError:
        raise ValueError("not valid UTF-8") from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check_levels(found)
    return found


_TOO_DEEP: Final = f"nested more than {MOST_JSON_LEVELS} levels deep"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has a key twice")
    return found


def _no_constant(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON: write them as texts")


def _finite(digits: str) -> float:
    found = float(digits)
    if math.isinf(found):
        raise ValueError("a number is too large")
    return found


def _check_levels(value: object) -> None:
    level: list[object] = [value]
    for _ in range(MOST_JSON_LEVELS):
        level = [part for item in level for part in _parts(item)]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def _parts(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return cast("dict[str, object]", value).values()
    return cast("list[object]", value) if isinstance(value, list) else ()
