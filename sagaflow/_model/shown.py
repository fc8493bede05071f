"""Values as errors show them."""

from __future__ import annotations

from typing import Final

from sagaflow._model.redaction import safe_repr
from sagaflow._model.texts import repr_of

_LENGTH: Final = 200


def shown(value: object) -> str:
    """Return *value* as an error shows it: without secrets, not too long, whatever its `repr`."""
    return repr_of(value, safe_repr, _LENGTH)
