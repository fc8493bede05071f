"""What of a saga's data a person is shown: all but its secrets."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from sagaflow._definition.saga import Saga
from sagaflow._model.redaction import HIDDEN, secret_fields
from sagaflow._model.shown import shown


def shown_fields(saga: Saga) -> Mapping[str, str]:
    """Return the data of *saga* as text, by the names of its fields, without secrets."""
    hidden = secret_fields(type(saga))
    return {
        field.name: HIDDEN if field.name in hidden else shown(getattr(saga, field.name))
        for field in attrs.fields(type(saga))
    }


def shown_error(error: str) -> str:
    """Return what a failure said, without its traceback."""
    lines = [line.strip() for line in error.splitlines() if line.strip()]
    return lines[-1] if lines else "nothing"
