"""Messages as headers and bytes: CloudEvents 1.0 in binary mode, with a body of JSON.

Any broker carries them and any language reads them; `docs/reference/wire.md` says how.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes
from uuid import UUID

from attrs import field, frozen
from bson import ObjectId

from sagaflow._codec.messages import MessageTypes
from sagaflow._forms.form import Form
from sagaflow._forms.forms import json_form_of
from sagaflow._forms.json_forms import read_int, read_object_id, read_uuid
from sagaflow._forms.json_text import read_json, write_json
from sagaflow._forms.values import cannot_encode, faults_of
from sagaflow._model.envelope import COMMAND, EVENT, MESSAGE_KIND, TRACE, Envelope
from sagaflow._model.errors import CorrelationError, SagaDefinitionError, WireError
from sagaflow._model.ids import SagaId, check_new_id
from sagaflow._model.texts import cleaned, name_of

__all__ = ["Binding", "Wire", "WireMessage", "WireReason"]

MOST_BYTES: Final = 1_000_000
"""How many bytes a message may have, headers included, unless a `Wire` says otherwise. NATS takes
1 MiB by default."""


class Binding(Enum):
    """How a protocol names the attributes of CloudEvents."""

    NATS = "ce-"
    KAFKA = "ce_"
    AMQP = "cloudEvents_"
    PLAIN = ""
    """Bare names, for the fields of a document or of an entry in a Redis stream."""

    @property
    def content_type(self) -> str:
        """The name of the header that says of which type the body is."""
        if self in (Binding.NATS, Binding.PLAIN):  # an attribute like the others
            return f"{self.value}datacontenttype"
        return "content-type"


class WireReason(StrEnum):
    """Which kind of fault a `WireError` tells. The names stay the same between releases."""

    NOT_CLOUDEVENTS = "not_cloudevents"
    """The attributes that CloudEvents 1.0 requires are missing or wrong."""
    UNKNOWN_TYPE = "unknown_type"
    """No class is registered under the type, or a class is not registered."""
    TOO_LARGE = "too_large"
    CONTENT_TYPE = "content_type"
    """The body is of another type than JSON."""
    NOT_JSON = "not_json"
    WRONG_FIELDS = "wrong_fields"
    """The body does not fit the class: a field too many or too few, or of another type."""
    BAD_ID = "bad_id"
    BAD_HEADER = "bad_header"
    """Another header cannot be read."""


@frozen
class WireMessage:
    """What a broker carries.

    :ivar headers: texts by name, read-only.
    :ivar body: JSON in UTF-8.
    """

    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


class Wire:
    """Turns envelopes into headers and bytes, and back.

    Nothing that is received names something to import: a type is looked up among *messages*.

    :param messages: the classes that may travel, or a mapping of the names under which they do. A
        class that was renamed has its earlier names as well: the first name of a class is the one
        that is written.
    :param binding: how the protocol names the attributes.
    :param source: who sends, such as ``payments``: a URI reference.
    :param max_bytes: how many bytes a message may have, headers included: 1,000,000 by default.
    :raises SagaDefinitionError: if two classes have one name, a class cannot be written as JSON, or
        *source* or *max_bytes* is of no use.
    """

    def __init__(
        self,
        messages: Iterable[type] | Mapping[str, type],
        *,
        binding: Binding,
        source: str,
        max_bytes: int = MOST_BYTES,
    ) -> None:
        if not _SOURCE.fullmatch(source):
            raise SagaDefinitionError(f"source={source!r} is no URI reference, such as 'payments'")
        if max_bytes < 1:
            raise SagaDefinitionError(f"max_bytes={max_bytes!r} leaves no room for a message")
        self._types = MessageTypes((), messages)
        self._classes = self._types.registered()
        self._forms = {cls: _form_of(cls) for cls in self._classes.values()}
        self._binding = binding
        self._source = source
        self._max_bytes = max_bytes
        usual = (binding.content_type, *(binding.value + attribute for attribute in _READ))
        self._usual = {name: self._attribute(name) for name in usual}

    def encode(self, envelope: Envelope[Any]) -> WireMessage:
        """Return an envelope as headers and bytes.

        :raises WireError: if the class of its body is not registered, or it would be too large.
        :raises SerializationError: if a value in it does not fit its declared type.
        :raises CorrelationError: if one of its ids is none.
        """
        message: object = envelope.body
        cls = type(message)
        name = self.name_of(cls)
        body = _json(self._forms[cls], message, name).encode()
        attributes = {"specversion": "1.0", "type": name, "source": self._source}
        _write_id(attributes, "id", check_new_id(envelope.id, "message id"))
        if envelope.correlation_id is not None:
            _write_id(attributes, "correlationid", check_new_id(envelope.correlation_id))
            attributes["subject"] = attributes["correlationid"]
        if envelope.causation_id is not None:
            _write_id(attributes, "causationid", check_new_id(envelope.causation_id, "message id"))
        others = dict(envelope.headers)
        for header in _OWN:
            if _is_own(header, others.get(header)):
                attributes[header] = str(others.pop(header))
        if others:
            attributes["headers"] = _json(_HEADERS, others, "headers")
        prefix = self._binding.value
        headers = {prefix + key: self._written(value) for key, value in attributes.items()}
        headers[self._binding.content_type] = _JSON
        self._check_size(headers, body)
        return WireMessage(MappingProxyType(headers), body)

    def decode(self, headers: Mapping[str, str | bytes], body: bytes) -> Envelope[Any]:
        """Return the envelope that headers and bytes say.

        :param headers: texts, or texts in UTF-8. Names that are not of CloudEvents are passed over.
        :raises WireError: if it is no message that is known here, or is not sound.
        """
        self._check_size(headers, body)
        attributes = self._read(headers)
        if attributes.get("specversion") != "1.0":
            raise WireError(
                WireReason.NOT_CLOUDEVENTS,
                f"the header {self._binding.value}specversion is not 1.0",
            )
        for name in ("id", "type", "source"):
            if not attributes.get(name):
                raise WireError(
                    WireReason.NOT_CLOUDEVENTS, f"the header {self._binding.value}{name} is missing"
                )
        content_type = attributes.get("datacontenttype", _JSON).partition(";")[0].strip().lower()
        if content_type != _JSON:
            raise WireError(WireReason.CONTENT_TYPE, f"the content type is not {_JSON}")
        cls = self.type_of(attributes["type"])
        message_id = _read_id(attributes, "id")
        assert message_id is not None  # noqa: S101 - it was found above
        return Envelope(
            body=_decoded(self._forms[cls], body, WireReason.NOT_JSON, WireReason.WRONG_FIELDS),
            id=message_id,
            correlation_id=_read_id(attributes, "correlationid"),
            causation_id=_read_id(attributes, "causationid"),
            headers=_read_headers(attributes),
        )

    def name_of(self, message_type: type) -> str:
        """Return the name under which messages of exactly this class travel.

        :raises WireError: if the class is not registered; a base of it may be.
        """
        name = self._types.written_name(message_type)
        if name is None:
            raise _unregistered(message_type)
        return name

    def type_of(self, name: str) -> type:
        """Return the class that is registered under a name, or was under this earlier one.

        :raises WireError: if there is none.
        """
        cls = self._classes.get(name)
        if cls is None:
            raise WireError(
                WireReason.UNKNOWN_TYPE,
                f"no message class is registered under the type {cleaned(name, _SHOWN)!r}: pass "
                "it with messages=[...]",
            )
        return cls

    def takes(self, message_type: type) -> bool:
        """Tell whether messages of exactly this class can travel."""
        return message_type in self._forms

    def names_for(self, message_type: type) -> tuple[str, ...]:
        """Return the names of a class and of its subclasses, earlier names too, as registered."""
        return tuple(n for n, cls in self._classes.items() if issubclass(cls, message_type))

    def check_registered(self, message_type: type) -> None:
        """Refuse a class of which no message can come.

        :raises WireError: if neither the class nor a subclass is registered.
        """
        if not self.names_for(message_type):
            raise _unregistered(message_type)

    def _check_size(self, headers: Mapping[Any, str | bytes], body: bytes) -> None:
        size = len(body)
        for name, value in headers.items():
            size += _size(name) + _size(value)
            if not isinstance(name, str):
                raise WireError(WireReason.NOT_CLOUDEVENTS, "the name of a header is no text")
        if size > self._max_bytes:
            raise WireError(
                WireReason.TOO_LARGE,
                f"the message has {size:,} bytes; {self._max_bytes:,} are allowed (max_bytes=)",
            )

    def _written(self, value: str) -> str:
        if self._binding is not Binding.NATS or _AS_IT_IS.fullmatch(value):
            return value
        return quote(value, safe=_UNCHANGED)

    def _read(self, headers: Mapping[str, str | bytes]) -> dict[str, str]:
        found: dict[str, str] = {}
        usual = self._usual
        for name, value in headers.items():
            attribute = usual[name] if name in usual else self._attribute(name)
            if attribute is None:
                continue
            if attribute in found:
                raise WireError(
                    WireReason.NOT_CLOUDEVENTS, f"the attribute {attribute} comes twice"
                )
            given = _bytes(value)
            if self._binding is Binding.NATS and attribute != "datacontenttype":
                given = unquote_to_bytes(given)
            try:
                found[attribute] = given.decode()
            except UnicodeDecodeError:
                raise WireError(
                    WireReason.NOT_CLOUDEVENTS, f"the attribute {attribute} is not valid UTF-8"
                ) from None
        return found

    def _attribute(self, name: str) -> str | None:
        """Return which attribute a header holds; None if it holds none that is read here."""
        low, prefix = name.lower(), self._binding.value.lower()
        if low == self._binding.content_type:
            return "datacontenttype"
        if self._binding is Binding.AMQP and low.startswith("cloudevents:"):
            low = prefix + low.removeprefix("cloudevents:")  # the specification has both
        attribute = low.removeprefix(prefix) if low.startswith(prefix) else ""
        return attribute if attribute in _READ else None


_JSON: Final = "application/json"
_SOURCE: Final = re.compile(r"[!-~]{1,256}")
_OWN: Final = (MESSAGE_KIND, *TRACE)
"""The headers of an envelope that are attributes of their own."""
_READ: Final = frozenset(
    {
        *("specversion", "id", "type", "source", "idtype", "headers", *_OWN),
        *("correlationid", "correlationidtype", "causationid", "causationidtype"),
    }
)
_HEADERS: Final = json_form_of(dict[str, Any])
_SHOWN: Final = 100
_UNCHANGED: Final = "!#$&'()*+,/:;<=>?@[\\]^`{|}"
"""What is not percent-encoded, beside letters, digits and ``_.-~``: the HTTP binding encodes the
space, the double quote, the percent sign, and all that is not visible ASCII."""
_AS_IT_IS: Final = re.compile(r"[!#$&-~]*")
"""A text of which nothing is to be encoded, as most are: to see that takes less than to encode."""


def _form_of(cls: type) -> Form:
    try:
        return json_form_of(cls)
    except (TypeError, NameError) as exc:
        raise SagaDefinitionError(f"{cls.__name__} cannot be written as JSON: {exc}") from exc


def _json(form: Form, value: object, path: str) -> str:
    try:
        return write_json(form.encode(value))
    except Exception as exc:
        raise cannot_encode(path, exc) from exc


def _is_own(header: str, value: object) -> bool:
    if header == MESSAGE_KIND:
        return type(value) is str and value in (COMMAND, EVENT)
    return type(value) is str and value.isascii() and value.isprintable() and value != ""


def _size(value: object) -> int:
    """Return how many bytes a text has in UTF-8; it is written out only if that may be more."""
    return len(value) if isinstance(value, str) and value.isascii() else len(_bytes(value))


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return value
    raise WireError(WireReason.NOT_CLOUDEVENTS, "a header is neither a text nor bytes")


# Ids

_ID_TYPES: Final[Mapping[str, Any]] = {"uuid": read_uuid, "objectid": read_object_id}
_NAMES: Final[Mapping[type, str]] = {int: "int", UUID: "uuid", ObjectId: "objectid"}


def _write_id(attributes: dict[str, str], name: str, value: SagaId) -> None:
    attributes[name] = str(value)
    if type(value) is not str:
        attributes[f"{name}type"] = _NAMES[type(value)]


def _read_id(attributes: Mapping[str, str], name: str) -> SagaId | None:
    text, kind = attributes.get(name), attributes.get(f"{name}type")
    if text is None:
        if kind is not None:
            raise WireError(WireReason.BAD_ID, f"there is {name}type, but no {name}")
        return None
    try:
        if kind == "int":
            return read_int(text)
        if kind is not None:
            return check_new_id(_ID_TYPES[kind](text))
        return check_new_id(text)
    except (CorrelationError, ValueError, KeyError):
        raise WireError(
            WireReason.BAD_ID,
            f"{name} is no id: a text of 1 to 1,024 bytes, or with {name}type an int of 64 bits "
            "(int), a UUID (uuid) or an ObjectId (objectid)",
        ) from None


# What stands in JSON


def _read_headers(attributes: Mapping[str, str]) -> dict[str, object]:
    found: dict[str, object] = {}
    if "headers" in attributes:
        bad = WireReason.BAD_HEADER
        found = _decoded(_HEADERS, attributes["headers"].encode(), bad, bad)
    return found | {name: attributes[name] for name in _OWN if name in attributes}


def _decoded(form: Form, text: bytes, not_json: WireReason, misfit: WireReason) -> Any:
    try:
        value = read_json(text)
    except ValueError as exc:
        raise WireError(not_json, str(exc)) from None
    try:
        return form.decode(value)
    except Exception as exc:  # noqa: BLE001 - whatever a stranger's data leads to
        raise WireError(misfit, _told(exc)) from None


def _told(error: Exception) -> str:
    """Return where each fault is and what was expected there, without the value that was found."""
    faults = faults_of(error)
    told = [f"{cleaned(path, _SHOWN) or 'the whole'}: {_kind(r)}" for path, r in faults[:_FAULTS]]
    return "; ".join(told + ["..."] * (len(faults) > _FAULTS))


_FAULTS: Final = 5


def _kind(reason: str) -> str:
    told = reason.partition(", found ")[0]
    known = told.startswith("expected ") or told in ("required field missing", "unknown field")
    return told if known else "it does not fit its type"


def _unregistered(message_type: type) -> WireError:
    called = name_of(message_type)
    return WireError(
        WireReason.UNKNOWN_TYPE,
        f"the message class {called} is not registered: pass it with messages=[{called}], in the "
        "program that sends it and in those that receive it",
    )
