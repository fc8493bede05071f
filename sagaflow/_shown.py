"""Values as errors show them."""

from __future__ import annotations

from typing import Final

from sagaflow.redaction import safe_repr

_LENGTH: Final = 200


def shown(value: object) -> str:
    """Return *value* as an error shows it: without secrets, not too long, whatever its `repr`."""
    try:
        text = safe_repr(value)
    except Exception:  # noqa: BLE001 - an int of very many digits has none, a stranger's may raise
        return f"a value of type {type(value).__qualname__}"
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}..."
