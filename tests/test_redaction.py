"""What is marked as secret is stored and sent, and shown nowhere."""

from __future__ import annotations

import dataclasses
import logging
import traceback
from collections import defaultdict, deque
from typing import Annotated, Any, NewType

import pytest
from attrs import field, frozen

from sagaflow import (
    Context,
    Envelope,
    MemoryBus,
    MemoryRepository,
    Orchestrator,
    Saga,
    Secret,
    SerializationError,
    State,
    Status,
    StoredMessage,
    during,
    initially,
    redact,
)
from sagaflow._codec.data import decode_saga, encode_saga
from sagaflow._codec.messages import MessageTypes
from sagaflow._model.redaction import HIDDEN, is_secret, safe_repr, secret_fields
from sagaflow._model.shown import shown
from sagaflow.testing import ManualClock

CARD = "4111-1111-1111-1111"
CardNumber = NewType("CardNumber", str)


@frozen
class Owner:
    name: str
    birthday: Secret[str]


@frozen
class Paid:
    key: str
    card: Secret[str]
    owner: Owner = Owner("Ada", CARD)
    others: list[Owner] = field(factory=list[Owner])
    anything: Any = None


@dataclasses.dataclass(frozen=True)
class Told:
    key: str
    codes: list[Secret[str]]
    pin: Secret[str] | None = None
    unseen: int = dataclasses.field(default=1, repr=False)


class Payment(Saga, correlate_by="key"):
    waiting = State()
    done = State(final=True)

    key: str = ""
    card: Secret[str] = ""
    number: Secret[int | None] = None
    codes: list[Secret[str]] = field(factory=list[str])
    owner: Owner | None = None

    @initially.on(Told).goto(waiting)
    async def told(self, event: Told, ctx: Context) -> None:
        self.card = event.codes[0]

    @during(waiting).on(Paid).goto(done)
    async def paid(self, event: Paid, ctx: Context) -> None:
        self.number = event.card  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]


def paid() -> Paid:
    return Paid("k", CARD, others=[Owner("Bob", CARD)], anything={"deep": (Owner("Eve", CARD),)})


@pytest.mark.parametrize(
    ("declared", "secret"),
    [
        (Secret[str], True),
        (Secret[CardNumber], True),
        (Secret[str] | None, True),
        (dict[str, list[Secret[str]]], True),
        (Annotated[Secret[str], "more"], True),
        (NewType("Pin", Secret[str]), True),  # pyright: ignore[reportGeneralTypeIssues]
        (Annotated[str, "other"], False),
        (CardNumber, False),
        (list[str], False),
        (str, False),
        (None, False),
    ],
)
def test_what_is_secret(declared: Any, secret: bool) -> None:
    assert is_secret(declared) is secret


def test_redact_replaces_secrets_wherever_they_are() -> None:
    assert redact(paid()) == {
        "key": "k",
        "card": HIDDEN,
        "owner": {"name": "Ada", "birthday": HIDDEN},
        "others": [{"name": "Bob", "birthday": HIDDEN}],
        "anything": {"deep": [{"name": "Eve", "birthday": HIDDEN}]},
    }
    assert redact(Told("k", [CARD])) == {"key": "k", "codes": HIDDEN, "pin": HIDDEN, "unseen": 1}
    assert redact(Payment(card=CARD))["card"] == HIDDEN
    assert CARD not in str(redact(Holder({Owner("Ada", CARD): 1})))


@frozen
class Holder:
    by_owner: Any


def test_redact_takes_messages_only() -> None:
    with pytest.raises(TypeError, match="not of dict"):
        redact({"card": CARD})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Told("k", [CARD]), f"Told(key='k', codes={HIDDEN}, pin={HIDDEN})"),
        (Owner("Ada", CARD), f"Owner(name='Ada', birthday={HIDDEN})"),
        ([1, "a"], "[1, 'a']"),
        ((1,), "(1,)"),
        ((), "()"),
        ({"a": (1, 2)}, "{'a': (1, 2)}"),
        (deque([1]), "deque([1])"),
        (defaultdict(int, a=1), "defaultdict({'a': 1})"),
        ({1}, "{1}"),
        (set[int](), "set()"),
        (frozenset({1}), "frozenset({1})"),
        (b"a", "b'a'"),
        (list(range(60)), "[" + ", ".join(map(str, range(50))) + ", ...]"),
    ],
)
def test_repr_without_secrets(value: object, text: str) -> None:
    assert safe_repr(value) == text


def test_sagaflow_s_own_objects_show_no_secret() -> None:
    message = StoredMessage(type="Paid", body={"card": CARD})
    for value in (Payment(card=CARD, codes=[CARD], owner=Owner("Ada", CARD)), message):
        assert CARD not in repr(value)
        assert CARD not in shown([value])
        assert CARD not in str(redact(value))
    assert CARD not in repr(Envelope(body=paid(), id="1"))


def test_class_that_cannot_be_resolved_hides_what_is_called_secret() -> None:
    @frozen
    class Local:
        card: Secret[str]
        other: Nowhere  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable, reportUnknownVariableType]

    assert secret_fields(Local) == {"card"}
    assert CARD not in shown(Local(CARD, 1))


@pytest.mark.parametrize(
    "changes",
    [{"card": 4111}, {"number": CARD}, {"codes": [CARD, 4111]}, {"codes": 4111}],
)
def test_errors_of_the_codec_show_no_secret(changes: dict[str, Any]) -> None:
    with pytest.raises(SerializationError, match="secret value does not fit") as caught:
        encode_saga(Payment(**changes))
    assert "4111" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(SerializationError, match="secret value does not fit") as caught:
        decode_saga(Payment, changes)
    assert "4111" not in "".join(traceback.format_exception(caught.value))


def test_errors_about_messages_show_no_secret() -> None:
    messages = MessageTypes([Payment], [Paid])
    number: Any = int(CARD[:4])
    stranger: Any = Told("k", [CARD])
    wrong = [Paid("k", number), Paid("k", "", owner=stranger)]
    for message in wrong:
        with pytest.raises(SerializationError) as caught:
            messages.encode(message, "here")
        assert "4111" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(SerializationError) as caught:
        messages.decode(StoredMessage(type="Paid", body={"key": "k", "card": number}), "here")
    assert "4111" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.path == "here: Paid.card"


def test_secrets_are_stored_as_what_they_are() -> None:
    saga = Payment(card=CARD, number=7, codes=[CARD])
    assert encode_saga(saga)["card"] == CARD
    read = decode_saga(Payment, encode_saga(saga))
    assert (read.card, read.number, read.codes) == (CARD, 7, [CARD])


@pytest.mark.anyio
async def test_logs_and_suspensions_show_no_secret(
    anyio_backend: str, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    repository, bus = MemoryRepository(clock=clock), MemoryBus()
    orchestrator = Orchestrator([Payment], repository, clock=clock)
    await orchestrator.handle(Told("k", [CARD]))
    with pytest.raises(SerializationError):
        await orchestrator.handle(paid())
    async with Orchestrator([Payment], repository, clock=clock, bus=bus):
        await bus.publish(Paid("k", CARD), correlation_id="k", message_id="m")
    found = await repository.find(Payment, "k")
    assert found is not None
    (kept,) = found.parked
    assert kept.failing is not None
    assert "secret value does not fit" in kept.failing.error
    assert (found.status, found.saga.card) == (Status.ACTIVE, CARD)
    assert CARD not in kept.failing.error + caplog.text + repr(found)
