"""Names of test cases."""

from __future__ import annotations

import re
from typing import cast


def named(value: object) -> str:
    """Return what a value is called: the same in each of the processes that share the tests."""
    if isinstance(value, dict):
        items = cast("dict[object, object]", value).items()
        return f"{{{', '.join(f'{named(key)}: {named(one)}' for key, one in items)}}}"
    if isinstance(value, set | frozenset):
        return f"{type(value).__name__} of {sorted(map(repr, value))}"  # pyright: ignore[reportUnknownArgumentType]
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
