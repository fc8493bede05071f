"""`sagaflow run`: a worker from its start to its end, each in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sagaflow.mongo import EmbeddedServer
from tests.commands.support import invoke, refused
from tests.commands.workers import (
    AT_WORK,
    Workers,
    asked,
    children,
    descendants_end,
    free_port,
    until_found,
)
from tests.commands.working import Charge
from tests.counting import counted

APP = "tests.commands.working"
IN_TIME = "serverSelectionTimeoutMS=200"
RUN = ("run", APP, "--service", "orders")
DATABASE = ("--mongodb", "mongodb://h", "--database", "d")


def test_sagas_of_a_module_and_a_participant_in_another_process(workers: Workers) -> None:
    orders = workers.at_work("working")
    payments = workers.at_work(
        "working:payments", "--runtime", "trio", "--owner", "till-1", service="payments"
    )
    workers.place("o-1")
    assert workers.charged("o-1") == "till-1"
    assert (orders.stop(), payments.stop()) == (0, 0)
    assert "has ended" in orders.lines[-1]
    assert not any("ERROR" in line for line in (*orders.lines, *payments.lines))


def test_what_a_factory_opens_is_closed_at_the_end(workers: Workers) -> None:
    worker = workers.at_work("working:entered", "--owner", "w")
    assert worker.process.stdout is not None
    assert worker.process.stdout.readline() == "opened\n"
    workers.place("o-1")
    assert workers.charged("o-1") == "w"
    assert worker.stop() == 0
    assert worker.process.stdout.read() == "closed\n"
    workers.written("till closed")


def test_ctrl_c_has_what_has_begun_end_and_takes_nothing_more(workers: Workers) -> None:
    worker = workers.at_work("working:slow", service="payments")
    workers.send(Charge("o-1"))
    workers.written("begun o-1")
    worker.tell(signal.SIGINT)
    worker.until("takes no more messages")
    workers.send(Charge("o-2"))
    workers.notes.insert_one({"_id": "go on"})
    assert worker.end() == 0
    assert {note["_id"] for note in workers.notes.find()} == {"begun o-1", "go on", "ended o-1"}
    queues = workers.client[workers.database]["sagaflow_bus_queues"]
    assert [queue["key"] for queue in queues.find({"messages": {"$ne": []}})] == ["o-2"]


def test_a_second_ctrl_c_ends_it_at_once(workers: Workers) -> None:
    worker = workers.at_work("working:slow", "--shutdown-timeout", "1h", service="payments")
    workers.send(Charge("o-1"))
    workers.written("begun o-1")
    worker.tell(signal.SIGINT)
    worker.until("takes no more messages")
    worker.tell(signal.SIGINT)
    assert worker.end() == 130


def test_a_database_that_is_away_is_waited_for() -> None:
    port, health = free_port(), free_port()
    uri = f"mongodb://127.0.0.1:{port}/?retryWrites=false&{IN_TIME}"
    workers = Workers(uri, "shop", None)  # type: ignore[arg-type]
    try:
        worker = workers.begin("working:Order", "--health", f"127.0.0.1:{health}")
        worker.until("WARNING", "waits for the database", "no MongoDB server was reached")
        assert asked(health, "/live") == (200, {"live": True, "problems": WAITS})
        assert asked(health, "/ready") == (503, {"ready": False, "problems": WAITS})
        with EmbeddedServer(port=port):
            worker.until("has reached the database")
            worker.until(AT_WORK)
            until_found(lambda: True if asked(health, "/ready")[0] == 200 else None)
            assert worker.stop() == 0
    finally:
        workers.close()
    assert len([line for line in worker.lines if "waits for the database" in line]) == 1


WAITS = ["it waits for the database"]


def test_a_worker_that_waits_for_its_database_can_be_stopped_and_tells_no_secret() -> None:
    workers = Workers(f"mongodb://admin:s3cret@127.0.0.1:1/?{IN_TIME}", "shop", None)  # type: ignore[arg-type]
    try:
        worker = workers.begin("working:Order")
        worker.until("waits for the database")
        assert worker.stop() == 0
    finally:
        workers.close()
    assert "s3cret" not in "".join(worker.lines)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lends names")
def test_two_workers_of_one_name_do_not_run_at_the_same_time(workers: Workers) -> None:
    first = workers.at_work("working:Order", "--owner", "w")
    where = ("--mongodb", workers.uri, "--database", workers.database)
    line = refused(invoke(*RUN, *where, "--owner", "w"))
    assert line.startswith("error: a worker of the name 'w' runs on this machine already")
    assert first.stop() == 0


def test_a_fault_at_the_end_is_told_with_its_traceback(workers: Workers) -> None:
    worker = workers.at_work("working:cannot_close", "--owner", "w")
    assert worker.stop() == 1
    log = "\n".join(worker.lines)
    assert "w has failed" in log
    assert "ZeroDivisionError: the till is off" in log


def test_the_log_in_json(workers: Workers) -> None:
    worker = workers.at_work("working:Order", "--log-json", "--owner", "w")
    assert worker.stop() == 0
    found: list[dict[str, Any]] = [json.loads(line) for line in worker.lines]
    assert {one["process"] for one in found} == {"w"}
    assert {one["service"] for one in found} == {"orders"}
    assert found[-1]["message"] == "w has ended"
    (indexes,) = (one for one in found if "has no index" in one["message"])
    assert (indexes["level"], indexes["saga"]) == ("warning", "Order")


def test_an_error_in_json(mongodb_uri: str, database_name: str) -> None:
    where = ("--mongodb", mongodb_uri, "--database", database_name)
    result = invoke("run", f"{APP}:raises", "--service", "orders", *where, "--log-json")
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert "ValueError: no till" in json.loads(line)["message"]


class TestSeveralProcesses:
    def test_one_that_dies_is_started_again(self, workers: Workers) -> None:
        health = free_port()
        worker = workers.begin(
            "working:everything",
            *("--processes", "2", "--owner", "w", "--health", f"127.0.0.1:{health}"),
        )
        names = {worker.until(AT_WORK).split()[2], worker.until(AT_WORK).split()[2]}
        assert names == {"w-1", "w-2"}
        before = children(worker.process.pid)
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        again = worker.until("has ended by itself (SIGKILL), and is started again in 0.1 s")
        worker.until(AT_WORK)
        after = children(worker.process.pid)
        assert len(before) == len(after) == 2
        assert before & after == before - {killed}
        assert again.split()[4] in {"w-1", "w-2"}
        until_found(lambda: True if asked(health, "/ready")[0] == 200 else None)
        workers.place("o-1")
        assert workers.charged("o-1") in names
        assert worker.stop() == 0
        descendants_end(after)

    def test_one_that_dies_is_started_again_though_what_it_has_forked_lives(
        self, workers: Workers
    ) -> None:
        """That one has the pipes open by whose end the death would show."""
        worker = workers.begin("working:forking", "--processes", "2", "--owner", "w")
        try:
            worker.until(AT_WORK)
            worker.until(AT_WORK)
            os.kill(min(children(worker.process.pid)), signal.SIGKILL)
            worker.until("has ended by itself (SIGKILL), and is started again")
            worker.until(AT_WORK)
        finally:
            for note in workers.notes.find({"_id": {"$regex": "^forked "}}):
                os.kill(int(note["_id"].split()[1]), signal.SIGKILL)
        assert worker.stop() == 0

    def test_they_end_with_the_one_that_has_started_them(self, workers: Workers) -> None:
        worker = workers.begin("working:slow", "--processes", "2", service="payments")
        worker.until(AT_WORK)
        worker.until(AT_WORK)
        found = children(worker.process.pid)
        worker.process.kill()
        descendants_end(found)

    def test_one_that_starts_is_not_ready(self, workers: Workers) -> None:
        health = free_port()
        options = ("--processes", "2", "--owner", "w", "--health", f"127.0.0.1:{health}")
        worker = workers.begin("working:Order", *options)
        worker.until("health is answered")
        problems = ["w-1: it is starting", "w-2: it is starting"]
        assert asked(health, "/ready") == (503, {"ready": False, "problems": problems})
        worker.until(AT_WORK)
        worker.until(AT_WORK)
        assert worker.stop() == 0

    def test_a_fault_at_the_end_is_told_with_its_traceback(self, workers: Workers) -> None:
        worker = workers.begin("working:cannot_close", "--processes", "2", "--owner", "w")
        worker.until(AT_WORK)
        worker.until(AT_WORK)
        worker.stop()
        log = "\n".join(worker.lines)
        for owner in ("w-1", "w-2"):
            assert f"{owner} has failed" in log
        assert "ZeroDivisionError: the till is off" in log

    def test_one_without_anybody_who_has_started_it_ends(self) -> None:
        with Path(os.devnull).open("w") as output:
            ended = subprocess.run(
                [sys.executable, "-m", "sagaflow.commands.running.child", str(output.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(output.fileno(),),
                env=counted(),
                timeout=60,
                check=False,
            )
        assert ended.returncode == 1

    def test_a_second_signal_ends_all_at_once(self, workers: Workers) -> None:
        worker = workers.begin(
            "working:slow", "--processes", "2", "--shutdown-timeout", "1h", service="payments"
        )
        worker.until(AT_WORK)
        worker.until(AT_WORK)
        found = children(worker.process.pid)
        workers.send(Charge("o-1"))
        workers.written("begun o-1")
        worker.tell(signal.SIGTERM)
        worker.until("takes no more messages")
        worker.tell(signal.SIGTERM)
        assert worker.end() == 143
        descendants_end(found)

    def test_what_could_be_set_up_before_is_tried_again_with_growing_pauses(
        self, workers: Workers
    ) -> None:
        worker = workers.begin("working:once", "--processes", "2")
        worker.until(AT_WORK)
        worker.until(AT_WORK)
        before = children(worker.process.pid)
        os.kill(min(before), 60)  # it has no name
        worker.until("has ended by itself (signal 60), and is started again in 0.1 s")
        worker.until("ValueError: no till")
        worker.until("has ended by itself (status 2), and is started again in 0.2 s")
        assert max(before) in children(worker.process.pid)
        assert worker.stop() == 0

    def test_what_cannot_be_set_up_is_not_tried_again(self, workers: Workers) -> None:
        worker = workers.begin("working:raises", "--processes", "2")
        assert worker.end() == 2
        assert "cannot be set up: its log says why" in worker.lines[-1]
        assert any("ValueError: no till" in line for line in worker.lines)
        assert not any("started again" in line for line in worker.lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "no_such", "--service", "s", *DATABASE), "there is no module 'no_such'"),
        (("run", "json", "--service", "s", *DATABASE), "json has no saga class"),
        (("run", f"{APP}:NUMBER", "--service", "s", *DATABASE), "neither a saga class"),
        (("run", f"{APP}:Placed", "--service", "s", *DATABASE), "neither a saga class"),
        (("run", f"{APP}:none", "--service", "s", *DATABASE), "has no 'none'"),
        (("run", f"{APP}:Order", *DATABASE), "Missing option '--service'"),
        (("run", APP, "--service", "a b", *DATABASE), "letters, digits"),
        ((*RUN, *DATABASE, "--owner", "a.b"), "--owner is a name of letters"),
        ((*RUN, "--mongodb", "mongodb://h"), "Missing option '--database'"),
        ((*RUN, "--database", "d"), "Missing option '--mongodb'"),
        (RUN, "Missing option '--mongodb': the bus mongodb is in the database"),
        ((*RUN, *DATABASE, "--bus", "mysql://u:s3cret@h"), "mysql://... is no bus"),
        ((*RUN, *DATABASE, "--bus", "nats://"), "nats://... is no bus"),
        ((*RUN, *DATABASE, "--bus", "somewhere"), "what was given is no bus"),
        ((*RUN, *DATABASE, "--health", "localhost"), "--health is HOST:PORT"),
        ((*RUN, *DATABASE, "--health", "h:99999"), "--health is HOST:PORT"),
        ((*RUN, *DATABASE, "--retry-for", "0s"), "more than nothing"),
        ((*RUN, *DATABASE, "--handler-timeout", "5"), "a span of time is such as"),
        ((*RUN, *DATABASE, "--messages", f"{APP}:NUMBER"), "no collection of message classes"),
        ((*RUN, "--mongodb", "nothing", "--database", "d"), "--mongodb is no URI"),
        ((*RUN, "--mongodb", "mongodb://h:p", "--database", "d"), "cannot connect"),
        ((*RUN, "--mongodb", "mongodb://u:s3/cret@h", "--database", "d"), "percent-encode"),
    ],
)
def test_what_cannot_be_is_one_line(arguments: tuple[str, ...], said: str) -> None:
    line = refused(invoke(*arguments))
    assert said in line
    assert "cret" not in line


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("nothing", "gives the worker nothing to do"),
        ("yields", "decorate it with contextlib.asynccontextmanager"),
        ("returns", "returned 3: a factory sets up the worker"),
        ("raises", f"{APP}:raises failed: ValueError: no till (File "),
        ("late", "worker.messages is set before worker.bus is used"),
    ],
)
def test_a_wrong_factory_is_one_line(
    factory: str, said: str, mongodb_uri: str, database_name: str
) -> None:
    options = ("--service", "s", "--mongodb", mongodb_uri, "--database", database_name)
    assert said in refused(invoke("run", f"{APP}:{factory}", *options))


def test_an_address_that_another_program_has_is_one_line(
    mongodb_uri: str, database_name: str
) -> None:
    port = int(mongodb_uri.partition("/?")[0].rpartition(":")[2])
    options = ("--mongodb", mongodb_uri, "--database", database_name)
    line = refused(invoke(*RUN, *options, "--health", f"127.0.0.1:{port}"))
    assert f"cannot answer at --health 127.0.0.1:{port}: " in line


def test_wrong_credentials_are_not_waited_for(mongodb_uri: str) -> None:
    server = mongodb_uri.partition("://")[2].partition("/")[0]
    uri = f"mongodb://somebody:s3cret@{server}/?authSource=admin"
    line = refused(invoke(*RUN, "--mongodb", uri, "--database", "d"))
    assert "the server refused" in line
    assert "s3cret" not in line
