"""How large a document is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bson import encode
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from bson.errors import BSONError

from sagaflow._model.errors import SerializationError

_OPTIONS: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    uuid_representation=UuidRepresentation.STANDARD
)


def document_size(document: Mapping[str, Any]) -> int:
    """Return how many bytes *document* takes as BSON.

    :raises SerializationError: if BSON cannot hold it.
    """
    return len(encoded(document))


def encoded(document: Mapping[str, Any]) -> bytes:
    """Return *document* as BSON.

    :raises SerializationError: if BSON cannot hold it.
    """
    try:
        return encode(document, codec_options=_OPTIONS)
    except (BSONError, OverflowError, RecursionError, UnicodeError) as exc:
        raise SerializationError(str(document.get("_id")), f"cannot be stored: {exc}") from exc


def field_sizes(fields: Mapping[str, Any]) -> dict[str, int]:
    """Return how many bytes each field takes, the largest field first.

    :raises SerializationError: if BSON cannot hold a field.
    """
    sizes = {name: document_size({name: value}) for name, value in fields.items()}
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))
