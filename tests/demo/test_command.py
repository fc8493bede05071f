"""``sagaflow demo`` as it is typed: what it prints and how it ends."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from typing import Any

import click
import pymongo
import pytest
from click.testing import CliRunner, Result

from sagaflow._model.envelope import Envelope
from sagaflow.cli import main
from sagaflow.demo import participants, shop
from sagaflow.demo.books import Entry
from sagaflow.demo.example import orders
from sagaflow.demo.participants import Payment, Shipping

needs_embedded = pytest.mark.skipif(
    "SAGAFLOW_TEST_MONGODB_URI" in os.environ, reason="another server is tested"
)
RUNTIMES = ("asyncio", "trio")


def invoke(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, arguments, prog_name="sagaflow", env={"COLUMNS": "120"})


def report(*arguments: str) -> dict[str, Any]:
    """Run the demo in this process and return what it printed for programs."""
    result = invoke("demo", "--json", *arguments)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


@needs_embedded
def test_the_demo_starts_a_server_of_its_own_and_adds_up() -> None:
    command = [sys.executable, "-m", "sagaflow", "demo", "--orders", "15", "--seed", "3"]
    done = subprocess.run(
        [*command, "--failures", "0.4", "--runtime", "trio", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["sagas"]["completed"] == 9
    assert found["sagas"]["failed"] == 6
    assert found["reconciles"] is True
    assert found["runtime"] == "trio"
    assert found["server"].startswith("SecantusDB at 127.0.0.1:")
    assert found["database"] is None


def test_the_report_for_programs(mongodb_uri: str) -> None:
    found = report("--orders", "10", "--failures", "0.3", "--seed", "5", "--mongodb", mongodb_uri)
    assert {name: found[name] for name in ("orders", "failures", "concurrency", "seed")} == {
        "orders": 10,
        "failures": 0.3,
        "concurrency": 50,
        "seed": 5,
    }
    assert found["sagas"] == {
        "awaiting_payment": 0,
        "awaiting_inventory": 0,
        "awaiting_shipment": 0,
        "completed": 7,
        "failed": 3,
        "expired": 0,
    }
    assert {name: found[name] for name in ("resumed", "placed", "kills", "leftovers")} == {
        "resumed": False,
        "placed": 10,
        "kills": 0,
        "leftovers": 0,
    }
    assert found["seconds"] > 0
    assert found["orders_per_second"] > 0
    payment = found["books"]["payment"]
    assert (payment["orders_charged"], payment["orders_refunded"]) == (9, 2)
    assert payment["orders_declined"] == 1
    assert found["books"]["inventory"] == {
        "reserved": 8,
        "released": 1,
        "shipped": 7,
        "orders_out_of_stock": 1,
    }
    assert found["books"]["shipping"] == {"parcels": 7, "orders_refused": 1}
    money, *others = found["reconciliation"]
    assert money["terms"] == [payment["charged"], payment["refunded"]]
    assert Decimal(payment["charged"]) - Decimal(payment["refunded"]) == Decimal(money["expected"])
    assert all(equation["holds"] and not equation["faults"] for equation in others)
    assert all(type(equation["expected"]) is int for equation in others)
    assert found["reconciles"] is True


def test_the_same_seed_has_the_same_outcome_on_both_runtimes(mongodb_uri: str) -> None:
    arguments = ("--orders", "10", "--failures", "0.5", "--seed", "8", "--mongodb", mongodb_uri)
    one, other = (report(*arguments, "--runtime", runtime) for runtime in RUNTIMES)
    assert one["database"] != other["database"]
    for name in ("sagas", "books", "reconciliation"):
        assert one[name] == other[name]


def test_without_a_seed_one_is_drawn_and_told(mongodb_uri: str) -> None:
    one, other = (report("--orders", "1", "--mongodb", mongodb_uri) for _ in range(2))
    assert one["seed"] != other["seed"]


def test_the_sagas_stay_in_the_given_server_with_their_indexes(
    mongodb_uri: str, mongodb_client: pymongo.MongoClient[dict[str, Any]]
) -> None:
    name = report("--orders", "4", "--failures", "0.5", "--mongodb", mongodb_uri)["database"]
    try:
        collection = mongodb_client[name]["OrderSaga"]
        assert collection.count_documents({}) == 4
        assert collection.count_documents({"state": "completed"}) == 2
        assert collection.count_documents({"wake": {"$exists": True}}) == 0
        assert "sagaflow_wake" in collection.index_information()
    finally:
        mongodb_client.drop_database(name)


def test_the_report_for_people(mongodb_uri: str) -> None:
    result = invoke("demo", "--orders", "10", "--failures", "0.3", "--mongodb", mongodb_uri)
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert lines[0].startswith("10 orders, 3 of them to be refused, 50 at a time; seed ")
    assert lines[1].startswith("MongoDB at ")
    assert lines[2].startswith("the sagas stay there in the database sagaflow_demo_")
    for line in ("completed 7", "failed 3", "all 10", "sagas stored = orders placed 10 = 10 OK"):
        assert line in lines
    assert "stock reserved - released = shipped 8 - 1 = 7 OK" in lines
    assert "inventory reserved 8 8" in lines
    assert "declined 1" in lines
    assert "orders/s" in lines[-2]
    assert lines[-1] == "Everything adds up."
    assert "\x1b" not in result.output


@pytest.mark.parametrize("forced", [False, True])
def test_a_pipe_gets_plain_lines_of_80_columns(forced: bool, mongodb_uri: str) -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"}
    }
    if forced:  # colours, if somebody wants them, but no progress bar
        environment["FORCE_COLOR"] = "1"
    done = subprocess.run(
        [sys.executable, "-m", "sagaflow", "demo", "--orders", "3", "--mongodb", mongodb_uri],
        capture_output=True,
        check=False,
        env=environment | {"PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"3/3" not in done.stdout
    assert (b"\x1b" in done.stdout) is forced
    *table, _, _ = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout.decode("ascii")).splitlines()
    assert max(len(line) for line in table[3:]) <= 80


async def lose_refunds(_: Payment, __: Envelope[orders.RefundPayment]) -> None:
    """Forget to give money back."""


async def charge_twice(self: Payment, envelope: Envelope[orders.ProcessPayment]) -> None:
    """Charge every customer twice."""
    order_id, amount = envelope.body.order_id, envelope.body.amount
    ledger = self._ledger  # pyright: ignore[reportPrivateUsage]
    await ledger.enter(Entry.CHARGED, f"{envelope.id}:again", order_id, amount)
    await CHARGE(self, envelope)


async def never_answer(_: Shipping, __: Envelope[orders.CreateShipment]) -> None:
    """Leave the saga waiting."""


CHARGE = Payment.process


@pytest.mark.parametrize(
    ("participant", "method", "fault", "said"),
    [
        ("Payment", "refund", lose_refunds, "(failed): left behind money "),
        ("Payment", "process", charge_twice, "(completed): "),
        ("Shipping", "create", never_answer, "sagas left unfinished = 0: order-"),
    ],
    ids=["lost refund", "double charge", "unfinished saga"],
)
def test_a_fault_is_told_and_the_exit_status_is_1(
    participant: str,
    method: str,
    fault: object,
    said: str,
    mongodb_uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(getattr(participants, participant), method, fault)
    arguments = ("demo", "--orders", "9", "--failures", "0.5", "--mongodb", mongodb_uri)
    result = invoke(*arguments)
    assert result.exit_code == 1
    assert "WRONG" in result.output
    assert ", not " in result.output
    assert said in result.output
    assert "It does not add up: " in result.output.splitlines()[-1]
    result = invoke(*arguments, "--json")
    assert result.exit_code == 1
    found = json.loads(result.output)
    assert found["reconciles"] is False
    assert any(equation["faults"] for equation in found["reconciliation"])


def test_of_many_faults_only_the_first_are_shown(
    mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Payment, "process", charge_twice)
    result = invoke("demo", "--orders", "8", "--failures", "0", "--mongodb", mongodb_uri)
    assert result.output.count("(completed): ") == 5
    assert "money of completed orders: 3 more orders" in result.output


def test_a_participant_that_fails_is_told_without_a_traceback(
    mongodb_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands stay in the sagas; the demo does not wait for ever for better times."""

    async def fail(*_: object) -> None:
        raise OSError("the card terminal\nis broken")

    monkeypatch.setattr(Payment, "process", fail)
    monkeypatch.setattr(shop, "_PATIENCE", timedelta(milliseconds=200))
    result = invoke("demo", "--orders", "3", "--failures", "0", "--mongodb", mongodb_uri)
    assert result.exit_code == 1
    told = [line for line in result.output.splitlines() if line.startswith("error: OrderSaga ")]
    assert told
    assert all(line.endswith("the card terminal is broken") for line in told)
    assert "Traceback" not in result.output
    assert "sagas left unfinished = 0: order-1 (awaiting_payment)" in result.output


def test_of_many_log_messages_only_the_first_are_shown() -> None:
    def chatter() -> None:
        for number in range(7):
            logging.getLogger("sagaflow").warning("this is message %d", number)

    main.add_command(click.Command("probe", callback=chatter))
    try:
        result = invoke("probe")
    finally:
        del main.commands["probe"]
    shown = [f"warning: this is message {number}" for number in range(5)]
    assert result.output.splitlines() == [*shown, "and 2 messages more"]
    assert logging.getLogger("sagaflow").handlers == []


def test_the_version_is_shown() -> None:
    result = invoke("--version")
    assert result.exit_code == 0
    assert result.output.startswith("sagaflow 0.")


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_help_names_the_commands(arguments: tuple[str, ...]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 0
    assert "nothing is lost" in result.output
    assert "demo" in result.output


def test_help_of_the_demo_names_every_option_and_exit_status() -> None:
    result = invoke("demo", "--help")
    assert result.exit_code == 0
    for option in (
        "orders",
        "failures",
        "concurrency",
        "seed",
        "mongodb",
        "database",
        "resume",
        "bus",
        "crash",
        "runtime",
        "json",
    ):
        assert f"--{option}" in result.output
    assert "exit status" in result.output
