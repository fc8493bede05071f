"""Envelopes to headers and bytes and back; golden messages; another language."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen
from bson import ObjectId

from sagaflow import CorrelationError, Envelope, SagaDefinitionError, SerializationError, WireError
from sagaflow.bus.wire import Binding, Wire, WireMessage, WireReason
from tests.bus.wire_messages import A_UUID, MESSAGES, Node, Paid, PaidTwice, Pay, pay, wire
from tests.naming import named

GOLDEN = Path(__file__).parent / "golden"
BINDINGS = list(Binding)


def same(found: Envelope[Any], wanted: Envelope[Any]) -> None:
    assert found == wanted
    for name in ("body", "id", "correlation_id", "causation_id"):
        assert type(getattr(found, name)) is type(getattr(wanted, name))
    assert {k: type(v) for k, v in found.headers.items()} == {
        k: type(v) for k, v in wanted.headers.items()
    }


@pytest.mark.parametrize("binding", BINDINGS, ids=named)
def test_envelope_is_read_back(binding: Binding) -> None:
    sent = wire(binding).encode(pay())
    assert all(type(text) is str for item in sent.headers.items() for text in item)
    same(wire(binding).decode(sent.headers, sent.body), pay())
    as_bytes = {name: value.encode() for name, value in sent.headers.items()}
    same(wire(binding).decode(as_bytes, sent.body), pay())


@pytest.mark.parametrize("binding", BINDINGS, ids=named)
def test_golden_message(binding: Binding) -> None:
    """If it fails on purpose, other languages fail as well: add an attribute instead."""
    golden = json.loads((GOLDEN / f"{binding.name.lower()}.json").read_text(encoding="utf-8"))
    sent = wire(binding).encode(pay())
    assert dict(sent.headers) == golden["headers"]
    assert sent.body.decode() == golden["body"]
    same(wire(binding).decode(golden["headers"], golden["body"].encode()), pay())


def test_headers_for_nats_are_visible_ascii() -> None:
    values = wire().encode(pay()).headers.values()
    assert all("!" <= c <= "~" and c != '"' for value in values for c in value)


@pytest.mark.parametrize(
    "identity",
    [
        "7",
        7,
        -7,
        0,
        2**63 - 1,
        A_UUID,
        str(A_UUID),
        ObjectId("0123456789abcdef01234567"),
        "\u00e9\n%41",
    ],
    ids=named,
)
@pytest.mark.parametrize("binding", BINDINGS, ids=named)
def test_ids_keep_their_types(binding: Binding, identity: Any) -> None:
    given = Envelope(body=Node(), id=identity, correlation_id=identity, causation_id=identity)
    sent = wire(binding).encode(given)
    assert (f"{binding.value}idtype" in sent.headers) is (type(identity) is not str)
    same(wire(binding).decode(sent.headers, sent.body), given)


def test_absent_ids_stay_absent() -> None:
    given = Envelope(body=Node(), id="m")
    sent = wire().encode(given)
    assert set(sent.headers) == {
        "ce-specversion",
        "ce-type",
        "ce-source",
        "ce-id",
        "ce-datacontenttype",
    }
    same(wire().decode(sent.headers, sent.body), given)


@pytest.mark.parametrize(
    "headers",
    [
        {"kind": 5},
        {"kind": "other"},
        {"traceparent": None},
        {"tracestate": ""},
        {"tracestate": "\u00e9"},
        {"a b:\n%": [1, None, {"@type": "x"}], "": b"\xff", "id": "mine", "headers": {}},
    ],
    ids=named,
)
@pytest.mark.parametrize("binding", BINDINGS, ids=named)
def test_any_headers_are_read_back(binding: Binding, headers: dict[str, Any]) -> None:
    given = Envelope(body=Node(), id="m", headers=headers)
    sent = wire(binding).encode(given)
    same(wire(binding).decode(sent.headers, sent.body), given)


def test_headers_of_others_are_passed_over_and_case_does_not_matter() -> None:
    sent = wire().encode(pay())
    headers = {name.upper(): value for name, value in sent.headers.items()}
    headers |= {"Nats-Msg-Id": "x", "ce-partitionkey": "y", "tenant": "z", "ce-time": "now"}
    same(wire().decode(headers, sent.body), pay())


def test_amqp_has_two_prefixes() -> None:
    sent = wire(Binding.AMQP).encode(pay())
    headers = {k.replace("cloudEvents_", "cloudEvents:"): v for k, v in sent.headers.items()}
    same(wire(Binding.AMQP).decode(headers, sent.body), pay())


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", None]
)
def test_content_type_may_have_parameters_or_be_missing(content_type: str | None) -> None:
    sent = wire().encode(pay())
    headers = {k: v for k, v in sent.headers.items() if k != "ce-datacontenttype"}
    if content_type:
        headers["CE-DataContentType"] = content_type
    same(wire().decode(headers, sent.body), pay())


# Names


def test_earlier_name_is_read_and_the_first_one_written() -> None:
    sent = wire().encode(Envelope(body=Paid(A_UUID, pay().body.amount, 1), id="m"))
    assert sent.headers["ce-type"] == "Paid"
    headers = {**sent.headers, "ce-type": "Settled"}
    assert type(wire().decode(headers, sent.body).body) is Paid


def test_names_of_a_class() -> None:
    both = Wire({**MESSAGES, "Again": PaidTwice}, binding=Binding.NATS, source="s")
    assert both.names_for(Paid) == ("Paid", "Settled", "Again")
    assert both.names_for(PaidTwice) == ("Again",)
    assert both.names_for(ObjectId) == ()
    assert both.name_of(Paid) == "Paid"
    assert both.type_of("Settled") is Paid
    assert both.takes(PaidTwice)
    assert not wire().takes(PaidTwice)
    assert Wire([Pay], binding=Binding.KAFKA, source="s").name_of(Pay) == "Pay"


@pytest.mark.parametrize("body", [PaidTwice(A_UUID, pay().body.amount, 1), "text", 5], ids=named)
def test_class_that_is_not_registered_is_refused(body: Any) -> None:
    with pytest.raises(WireError, match=r"pass it with messages=\[") as caught:
        wire().encode(Envelope(body=body, id="m"))
    assert caught.value.reason == WireReason.UNKNOWN_TYPE


@frozen
class Wave:
    phase: complex


@pytest.mark.parametrize(
    ("messages", "options", "says"),
    [
        ([Wave], {}, "complex"),
        ([int], {}, "attrs classes"),
        ({"": Pay}, {}, "names"),
        ([Pay], {"source": ""}, "no URI reference"),
        ([Pay], {"source": "a b"}, "no URI reference"),
        ([Pay], {"max_bytes": 0}, "no room"),
    ],
    ids=named,
)
def test_declaration_that_cannot_work_is_refused(
    messages: Any, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(SagaDefinitionError, match=says):
        given: dict[str, Any] = {"source": "s", **options}
        Wire(messages, binding=Binding.NATS, **given)


def test_class_that_documents_take_and_json_does_not_is_refused() -> None:
    named_as_a_tag = type("UUID", (), {"__annotations__": {}})
    cls: Any = frozen(type("Given", (), {"__annotations__": {"one": frozen(named_as_a_tag) | int}}))
    with pytest.raises(SagaDefinitionError, match="cannot be written as JSON"):
        Wire([cls], binding=Binding.NATS, source="s")


WRONG: Any = {"items": (5,)}


def test_value_that_does_not_fit_is_named() -> None:
    wrong = evolve(pay(), body=evolve(pay().body, **WRONG))
    with pytest.raises(SerializationError, match=r"Pay\.items\[0\]"):
        wire().encode(wrong)
    with pytest.raises(SerializationError, match="headers"):
        wire().encode(evolve(pay(), headers={"a": object()}))
    no_id: Any = 1.5
    with pytest.raises(CorrelationError):
        wire().encode(evolve(pay(), id=no_id))


@pytest.mark.parametrize("saga", ["order-7", "Bestellung Übergröße"])
def test_message_is_measured_both_ways_in_bytes(saga: str) -> None:
    message = evolve(pay(), correlation_id=saga)
    sent = wire(Binding.PLAIN).encode(message)
    size = len(sent.body) + sum(len(k.encode()) + len(v.encode()) for k, v in sent.headers.items())
    exact = wire(Binding.PLAIN, max_bytes=size)
    short = wire(Binding.PLAIN, max_bytes=size - 1)
    same(exact.decode(sent.headers, exact.encode(message).body), message)
    for attempt in (lambda: short.encode(message), lambda: short.decode(sent.headers, sent.body)):
        with pytest.raises(WireError) as caught:
            attempt()
        assert caught.value.reason == WireReason.TOO_LARGE


def test_message_shows_nothing_of_what_it_carries() -> None:
    assert repr(WireMessage({"ce-id": "x"}, b"4111")) == "WireMessage()"


# One message for each reason; more of them are in tests/security


@pytest.mark.parametrize(
    ("changes", "body", "reason"),
    [
        ({"ce-specversion": "0.3"}, None, WireReason.NOT_CLOUDEVENTS),
        ({"ce-id": ""}, None, WireReason.NOT_CLOUDEVENTS),
        ({"ce-source": "%ff"}, None, WireReason.NOT_CLOUDEVENTS),
        ({"CE-ID": "again"}, None, WireReason.NOT_CLOUDEVENTS),
        ({"ce-type": "os.system"}, None, WireReason.UNKNOWN_TYPE),
        ({"ce-datacontenttype": "text/plain"}, None, WireReason.CONTENT_TYPE),
        ({"ce-correlationid": "no uuid"}, None, WireReason.BAD_ID),
        ({"ce-idtype": "float"}, None, WireReason.BAD_ID),
        ({"ce-headers": "{"}, None, WireReason.BAD_HEADER),
        ({"ce-headers": "{%22a%22:{%22@type%22:%22x%22}}"}, None, WireReason.BAD_HEADER),
        ({}, b"{", WireReason.NOT_JSON),
        ({}, b"[]", WireReason.WRONG_FIELDS),
        ({}, b"{}", WireReason.WRONG_FIELDS),
    ],
    ids=named,
)
def test_reason_of_a_refusal(
    changes: dict[str, str], body: bytes | None, reason: WireReason
) -> None:
    sent = wire().encode(pay())
    with pytest.raises(WireError) as caught:
        wire().decode({**sent.headers, **changes}, sent.body if body is None else body)
    assert caught.value.reason == reason


# Another language


def test_script_in_another_language_reads_a_message_and_answers() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not on this machine")
    sent = wire().encode(pay())
    asked = json.dumps({"headers": dict(sent.headers), "body": sent.body.decode()})
    script = Path(__file__).with_name("answer.mjs")
    ran = subprocess.run(
        [node, str(script)], input=asked, capture_output=True, text=True, timeout=60, check=True
    )
    answer = json.loads(ran.stdout)
    found = wire().decode(answer["headers"], answer["body"].encode())
    assert found.body == Paid(A_UUID, pay().body.amount, "receipt for t\u00e9 \U0001f4e6")
    assert (found.id, found.correlation_id, found.causation_id) == (
        f"answer to {pay().id}",
        A_UUID,
        pay().id,
    )
    assert found.headers == {"kind": "event", "traceparent": pay().headers["traceparent"]}
