"""What a stranger may publish: each is refused with its reason, and nothing is imported."""

from __future__ import annotations

import sys
from typing import Any, Final

import pytest

from sagaflow import WireError
from sagaflow.bus.wire import Binding, WireReason
from tests.bus.wire_messages import pay, wire
from tests.naming import named

SENT: Final = wire().encode(pay())
KINDS: Final = WireReason
NODE: Final = {**SENT.headers, "ce-type": "Node"}

HEADERS: Final[list[tuple[dict[Any, Any], WireReason]]] = [
    ({"ce-specversion": None}, KINDS.NOT_CLOUDEVENTS),
    ({"ce-specversion": "0.3"}, KINDS.NOT_CLOUDEVENTS),
    ({"ce-specversion": ""}, KINDS.NOT_CLOUDEVENTS),
    ({"ce-id": None}, KINDS.NOT_CLOUDEVENTS),
    ({"ce-id": ""}, KINDS.NOT_CLOUDEVENTS),
    ({"ce-type": None}, KINDS.NOT_CLOUDEVENTS),
    ({"ce-source": None}, KINDS.NOT_CLOUDEVENTS),
    ({"ce-id": "%ff"}, KINDS.NOT_CLOUDEVENTS),
    ({"ce-id": b"\xff"}, KINDS.NOT_CLOUDEVENTS),
    ({"ce-id": "\ud800"}, KINDS.NOT_CLOUDEVENTS),
    ({"ce-id": 5}, KINDS.NOT_CLOUDEVENTS),
    ({5: "x"}, KINDS.NOT_CLOUDEVENTS),
    ({b"ce-id": "x"}, KINDS.NOT_CLOUDEVENTS),
    ({"CE-ID": "other"}, KINDS.NOT_CLOUDEVENTS),
    ({"ce-type": "os.system"}, KINDS.UNKNOWN_TYPE),
    ({"ce-type": "tests.bus.wire_messages.Pay"}, KINDS.UNKNOWN_TYPE),
    ({"ce-type": "antigravity"}, KINDS.UNKNOWN_TYPE),
    ({"ce-type": "PaidTwice"}, KINDS.UNKNOWN_TYPE),
    ({"ce-type": "__class__"}, KINDS.UNKNOWN_TYPE),
    ({"ce-type": "P" * 100_000}, KINDS.UNKNOWN_TYPE),
    ({"ce-type": "Pay\n\x1b[31m"}, KINDS.UNKNOWN_TYPE),
    ({"ce-type": "%50ay%00"}, KINDS.UNKNOWN_TYPE),
    ({"ce-datacontenttype": "application/x-python-pickle"}, KINDS.CONTENT_TYPE),
    ({"ce-datacontenttype": ""}, KINDS.CONTENT_TYPE),
    ({"ce-id": "x" * 1025}, KINDS.BAD_ID),
    ({"ce-idtype": "int"}, KINDS.BAD_ID),
    ({"ce-idtype": "os.system"}, KINDS.BAD_ID),
    ({"ce-id": "07", "ce-idtype": "int"}, KINDS.BAD_ID),
    ({"ce-id": "9" * 5000, "ce-idtype": "int"}, KINDS.BAD_ID),
    ({"ce-id": "9223372036854775808", "ce-idtype": "int"}, KINDS.BAD_ID),
    ({"ce-correlationid": ""}, KINDS.BAD_ID),
    ({"ce-correlationid": "no-uuid"}, KINDS.BAD_ID),
    ({"ce-correlationid": "xyz", "ce-correlationidtype": "objectid"}, KINDS.BAD_ID),
    ({"ce-causationid": None}, KINDS.BAD_ID),
    ({"ce-headers": "{"}, KINDS.BAD_HEADER),
    ({"ce-headers": "[]"}, KINDS.BAD_HEADER),
    ({"ce-headers": '{"a":{"@type":"os.system","value":1}}'}, KINDS.BAD_HEADER),
    ({"ce-headers": "[" * 5000}, KINDS.BAD_HEADER),
    ({"ce-tenant": "x" * 1_000_000}, KINDS.TOO_LARGE),
]

BODIES: Final[list[tuple[bytes, WireReason]]] = [
    (b"", KINDS.NOT_JSON),
    (b"\x80\x04\x95", KINDS.NOT_JSON),
    (b"{", KINDS.NOT_JSON),
    (b'{"child":null,"child":null}', KINDS.NOT_JSON),
    (b'{"notes":{"a":NaN}}', KINDS.NOT_JSON),
    (b'{"notes":{"a":1e999}}', KINDS.NOT_JSON),
    (b'{"notes":{"a":"\\ud800"}}', KINDS.NOT_JSON),
    (b'{"notes":{"\xff":1}}', KINDS.NOT_JSON),
    (b"[" * 100_000, KINDS.NOT_JSON),
    (b'{"child":' * 500 + b"null" + b"}" * 500, KINDS.NOT_JSON),
    (b"\xef\xbb\xbf{}", KINDS.NOT_JSON),
    (b"[]", KINDS.WRONG_FIELDS),
    (b"null", KINDS.WRONG_FIELDS),
    (b'"Node"', KINDS.WRONG_FIELDS),
    (b'{"foreign":1}', KINDS.WRONG_FIELDS),
    (b'{"__class__":"os.system"}', KINDS.WRONG_FIELDS),
    (b'{"child":5}', KINDS.WRONG_FIELDS),
    (b'{"child":{"foreign":1}}', KINDS.WRONG_FIELDS),
    (b'{"notes":[]}', KINDS.WRONG_FIELDS),
    (b'{"notes":{"a":{"@type":"os.system","value":"id"}}}', KINDS.WRONG_FIELDS),
    (b'{"notes":{"@type":"dict","value":[[[],1]]}}', KINDS.WRONG_FIELDS),
    (b'{"notes":{"a":{"@type":"date"}}}', KINDS.WRONG_FIELDS),
    (b'{"notes":{"a":{"@type":"bytes","value":"*"}}}', KINDS.WRONG_FIELDS),
    (b'{"notes":{"a":18446744073709551616}}', KINDS.WRONG_FIELDS),
    (b'"' + b"x" * 1_000_000 + b'"', KINDS.TOO_LARGE),
]


def refusal(headers: Any, body: bytes, binding: Binding = Binding.NATS) -> WireError:
    before = set(sys.modules)
    with pytest.raises(WireError) as caught:
        wire(binding).decode(headers, body)
    assert set(sys.modules) == before
    assert len(caught.value.detail) < 1_000
    assert caught.value.detail.isprintable()
    return caught.value


@pytest.mark.parametrize(("changes", "reason"), HEADERS, ids=lambda value: named(value)[:40])
def test_message_with_hostile_headers_is_refused(
    changes: dict[Any, Any], reason: WireReason
) -> None:
    given = {
        name: value for name, value in {**SENT.headers, **changes}.items() if value is not None
    }
    assert refusal(given, SENT.body).reason == reason


@pytest.mark.parametrize(("body", "reason"), BODIES, ids=lambda value: named(value)[:40])
def test_message_with_a_hostile_body_is_refused(body: bytes, reason: WireReason) -> None:
    assert refusal(NODE, body).reason == reason


@pytest.mark.parametrize("binding", [Binding.KAFKA, Binding.AMQP, Binding.PLAIN], ids=named)
def test_message_of_another_protocol_is_no_cloudevent(binding: Binding) -> None:
    assert refusal(SENT.headers, SENT.body, binding).reason == KINDS.NOT_CLOUDEVENTS


def test_no_value_of_the_message_is_told() -> None:
    body = b'{"order":"4111","amount":4111,"at":4111,"card":4111,"items":[["4111"]]}'
    found = refusal(SENT.headers, body)
    assert found.reason == KINDS.WRONG_FIELDS
    assert "4111" not in str(found)
    assert ".amount: " in found.detail
    assert found.__cause__ is None


def test_of_many_faults_the_first_are_told() -> None:
    body = b"{" + b",".join(b'"%d":1' % number for number in range(1000)) + b"}"
    assert refusal(NODE, body).detail.endswith("...")
