"""Values as errors show them."""

from __future__ import annotations

from typing import Final

_LENGTH: Final = 200


def shown(value: object) -> str:
    """Return *value* as an error shows it: not too long, and whatever its `repr` does."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - an int of very many digits has none, a stranger's may raise
        return f"a value of type {type(value).__qualname__}"
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}..."
