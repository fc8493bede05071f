"""Ids as they are typed and shown: ``7`` and ``"7"`` are two ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

from bson import ObjectId
from bson.errors import InvalidId

from sagaflow._model.errors import SagaflowError
from sagaflow._model.ids import SagaId, check_id

KINDS: Final[Mapping[str, Callable[[str], SagaId]]] = {
    "str": str,
    "int": int,
    "uuid": UUID,
    "objectid": ObjectId,
}


def parse_id(text: str, kind: str | None = None) -> SagaId:
    """Return the id that *text* is: a str, unless it has a prefix such as ``int:``.

    :param kind: what kind of id it is; then *text* is taken as it stands.
    :raises SagaflowError: if it is no such id.
    """
    if kind is None:
        prefix, colon, rest = text.partition(":")
        kind, text = (prefix, rest) if colon and prefix in KINDS else ("str", text)
    try:
        found = KINDS[kind](text)
    except (ValueError, InvalidId) as exc:
        raise SagaflowError(f"{text!r} is no id of the kind {kind}: {exc}") from exc
    return check_id(found)


def kind_of(correlation_id: SagaId) -> str:
    """Return what kind of id it is, in the words of `parse_id`."""
    if isinstance(correlation_id, str):
        return "str"
    if isinstance(correlation_id, int):
        return "int"
    return "uuid" if isinstance(correlation_id, UUID) else "objectid"


def json_id(correlation_id: SagaId) -> dict[str, object]:
    """Return an id for programs, with its kind."""
    plain = correlation_id if isinstance(correlation_id, int) else str(correlation_id)
    return {"id": plain, "id_type": kind_of(correlation_id)}


def show_id(correlation_id: SagaId) -> str:
    """Return an id as it can be typed: `parse_id` gives the same one.

    Only a str with characters that a terminal would not show as they are is escaped.
    """
    if not isinstance(correlation_id, str):
        return f"{kind_of(correlation_id)}:{correlation_id}"
    prefix, colon, _ = correlation_id.partition(":")
    ambiguous = bool(colon) and prefix in KINDS
    plain = correlation_id if correlation_id.isprintable() else ascii(correlation_id)
    return f"str:{plain}" if ambiguous else plain


def not_found(saga: str, correlation_id: SagaId) -> SagaflowError:
    """Return the error that no saga has that id, and how to type ids of other kinds."""
    kind = kind_of(correlation_id)
    text = str(correlation_id)
    others = [other for other in KINDS if other != kind and _is_a(other, text)]
    hint = "" if not others else f"; or was {' or '.join(f'{k}:{text}' for k in others)} meant?"
    return SagaflowError(
        f"{saga}: there is no saga with the id {correlation_id!r}, of the kind {kind}{hint}"
    )


def _is_a(kind: str, text: str) -> bool:
    try:
        check_id(KINDS[kind](text))
    except (ValueError, InvalidId, SagaflowError):
        return False
    return True
