"""`sagaflow dead-letters`, on a bus over MongoDB."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import anyio
import pytest
from attrs import frozen

from sagaflow import Secret
from sagaflow.bus import Undeliverable
from sagaflow.mongo import MongoBus
from tests.commands.support import Stored, good, invoke, refused

PLACED = "tests.commands.test_dead_letters:MESSAGES"


@frozen
class Paid:
    number: str
    amount: int
    card: Secret[str] = "4000-1234"


MESSAGES = {"Paid": Paid}


def put_aside(stored: Stored, *ids: object, reason: str = "unhandled", detail: str = "") -> None:
    """Have a service put messages aside."""

    async def run() -> None:
        bus = MongoBus(
            stored.client[stored.database],
            service="orders",
            messages=MESSAGES,
            poll_interval=timedelta(milliseconds=10),
        )
        bus.subscribe(Paid, lambda _: Undeliverable(reason, detail))
        async with bus:
            for one in ids:
                given: Any = one
                await bus.publish(Paid("n-1", 7), message_id=given, headers={"password": "s3cret"})
            with anyio.fail_after(20):
                while len([letter async for letter in bus.dead_letters()]) < len(ids):
                    await anyio.sleep(0.01)

    anyio.run(run)


def letters(stored: Stored, *arguments: str, **given: Any) -> Any:
    return stored.run("dead-letters", *arguments, "--service", "orders", **given)


def listed(stored: Stored) -> list[str]:
    document = json.loads(letters(stored, "ls", "--json").stdout)
    return [letter["id"] for letter in document["dead_letters"]]


def test_list(stored: Stored) -> None:
    put_aside(stored, "m-1", "m-2")
    heading, first, _ = good(letters(stored, "ls"))
    assert heading.split() == ["ID", "MESSAGE", "KEY", "REASON", "ATTEMPTS", "SINCE", "AGE"]
    assert first.split()[:5] == ["m-1", "Paid", "m-1", "unhandled", "1"]
    result = letters(stored, "ls", "--limit", "1")
    assert len(result.stdout.splitlines()) == 2
    assert result.stderr == "there are more: say --limit\n"
    document = json.loads(letters(stored, "ls", "--limit", "1", "--json").stdout)
    assert document["more"] is True
    (letter,) = document["dead_letters"]
    assert letter.pop("since").endswith("+00:00")
    assert letter == {
        "id": "m-1",
        "service": "orders",
        "name": "Paid",
        "key": "m-1",
        "reason": "unhandled",
        "attempts": 1,
    }


def test_nothing_to_list(stored: Stored) -> None:
    result = letters(stored, "ls")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "orders: no dead letters\n"


def test_one_is_shown_without_what_may_be_secret(stored: Stored) -> None:
    put_aside(
        stored, "m-1", reason="failed", detail="Traceback ...\n  frame\nOSError: \x1b[2J till"
    )
    lines = good(letters(stored, "show", "m-1"))
    text = "\n".join(lines)
    assert lines[0] == "orders m-1"
    assert "  reason    failed" in lines
    assert "  it said   OSError: \\x1b[2J till" in lines
    assert "  amount  int" in lines
    assert "headers" in lines
    assert "frame" not in text
    assert "4000" not in text
    assert "s3cret" not in text
    assert "  headers          21 characters" in lines
    text = "\n".join(good(letters(stored, "show", "m-1", "--traceback")))
    assert "  frame" in text


def test_what_may_be_shown_is_shown_with_its_classes(stored: Stored) -> None:
    put_aside(stored, "m-1")
    lines = good(letters(stored, "show", "m-1", "--messages", PLACED))
    assert "  amount  7" in lines
    assert "  card    <secret>" in lines
    document = json.loads(
        letters(stored, "show", "m-1", "--messages", PLACED, "--json", "--traceback").stdout
    )
    assert document["fields"] == {"number": "'n-1'", "amount": "7", "card": "<secret>"}
    assert document["detail"] == ""
    document = json.loads(letters(stored, "show", "m-1", "--json").stdout)
    assert document["types"] == {"number": "str", "amount": "int", "card": "str"}
    assert document["headers"]["id"] == "m-1"


def damage(stored: Stored, **message: object) -> None:
    change = {f"message.{name}": value for name, value in message.items()}
    stored.client[stored.database]["sagaflow_bus_dead_letters"].update_one({}, {"$set": change})


@pytest.mark.parametrize("body", ["[1]", "{", "[" * 100_000, ""])
def test_what_cannot_be_read_is_shown_all_the_same(stored: Stored, body: str) -> None:
    put_aside(stored, "m-1")
    damage(stored, body=body)
    lines = good(letters(stored, "show", "m-1", "--messages", PLACED))
    assert "  no JSON object" in lines
    assert "it cannot be read: " in lines[-1]


def test_what_strangers_write_does_not_move_the_cursor(stored: Stored) -> None:
    put_aside(stored, "m-1\x1b[2J", reason="bad\x1b[1m")
    damage(stored, headers=[["id", "\x1b[5m"], ["type\x1b[0m", "x"]])
    for arguments in (("ls",), ("show", "m-1\x1b[2J"), ("show", r"m-1\x1b[2J")):
        good(letters(stored, *arguments))


def test_id_of_another_kind_can_be_typed_as_it_is_listed(stored: Stored) -> None:
    put_aside(stored, 7)
    shown = good(letters(stored, "ls"))[1].split()[0]
    assert shown == r"int\n7"
    assert good(letters(stored, "drop", shown, "--yes")) == [r"int\n7 was dropped"]


@pytest.mark.parametrize(
    ("action", "done"), [("retry", "is handled again"), ("drop", "was dropped")]
)
def test_one_is_retried_or_dropped(stored: Stored, action: str, done: str) -> None:
    put_aside(stored, "m-1", "m-2")
    result = letters(stored, action, "m-1", "m-3", "--yes")
    assert result.stdout.splitlines() == [f"m-1 {done}", "m-3 was not there"]
    assert result.exit_code == 1
    assert listed(stored) == ["m-2"]
    assert good(letters(stored, action, "--all", "--yes")) == [f"m-2 {done}"]
    assert listed(stored) == []
    queues = stored.client[stored.database]["sagaflow_bus_queues"]
    waiting = sorted(queue["key"] for queue in queues.find({"messages": {"$ne": []}}))
    assert waiting == (["m-1", "m-2"] if action == "retry" else [])


def test_all_of_a_reason(stored: Stored) -> None:
    put_aside(stored, "m-1")
    assert letters(stored, "drop", "--all", "--reason", "failed", "--yes").exit_code == 0
    assert listed(stored) == ["m-1"]
    good(letters(stored, "drop", "--all", "--reason", "unhandled", "--yes"))
    assert listed(stored) == []


def test_nothing_is_done_without_a_yes(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    put_aside(stored, "m-1")
    assert "no terminal to ask on: say drop --yes" in refused(letters(stored, "drop", "m-1"))
    monkeypatch.setattr("sagaflow.commands.dead_letters._is_terminal", lambda: True)
    result = letters(stored, "drop", "m-1", input="n\n")
    assert result.exit_code == 1
    assert "Remove 1 dead letter of orders for good?" in result.stderr
    assert listed(stored) == ["m-1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("drop",), "say the ids of dead letters, or --all"),
        (("drop", "m-1", "--all"), "say the ids of dead letters, or --all"),
        (("retry", "m-1", "--reason", "failed"), "--reason goes with --all"),
        (("show", "m-1"), "orders has no dead letter 'm-1'"),
        (("show",), "Missing argument 'ID'"),
    ],
)
def test_wrong_words(stored: Stored, arguments: tuple[str, ...], said: str) -> None:
    assert said in refused(letters(stored, *arguments))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing option '--mongodb': the bus mongodb is in the database"),
        (("--mongodb", "mongodb://h"), "Missing option '--database'"),
        (("--bus", "ftp://u:s3cret@h"), "ftp://... is no bus"),
        (
            (
                "--mongodb",
                "mongodb://u:s3cret@127.0.0.1:1/?serverSelectionTimeoutMS=50",
                "--database",
                "d",
            ),
            "no MongoDB server was reached",
        ),
    ],
)
def test_no_bus(arguments: tuple[str, ...], said: str) -> None:
    line = refused(invoke("dead-letters", "ls", "--service", "orders", *arguments))
    assert said in line
    assert "s3cret" not in line
