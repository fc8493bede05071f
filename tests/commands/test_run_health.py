"""Health over HTTP: two answers, whatever comes in."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
import pytest

from sagaflow import Orchestrator
from sagaflow.commands.running import health
from sagaflow.commands.running.health import Address, answering
from sagaflow.commands.running.status import Progress, Report
from sagaflow.exceptions import SagaflowError
from tests.commands.sagas import Loan
from tests.commands.workers import free_port

pytestmark = pytest.mark.anyio
WELL = Report(live=True, ready=True)


@asynccontextmanager
async def served(report: Report | Exception = WELL) -> AsyncGenerator[int]:
    async def ask() -> Report:
        if isinstance(report, Exception):
            raise report
        return report

    port = free_port()
    async with answering(Address("127.0.0.1", port), ask):
        yield port


async def sent(port: int, request: bytes) -> bytes:
    """Return all that is answered until the connection is closed."""
    answer = b""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        try:
            await stream.send(request)
            while True:
                answer += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return answer


async def asked(port: int, path: str, method: str = "GET") -> tuple[int, bytes]:
    request = f"{method} {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    head, _, body = (await sent(port, request)).partition(b"\r\n\r\n")
    return int(head.split()[1]), body


async def test_well() -> None:
    async with served() as port:
        assert await asked(port, "/live") == (200, b'{"live": true, "problems": []}\n')
        assert await asked(port, "/ready?verbose=1") == (200, b'{"ready": true, "problems": []}\n')
        assert await asked(port, "/ready", "HEAD") == (200, b"")


async def test_not_well() -> None:
    async with served(Report(live=True, ready=False, problems=("the bus is down",))) as port:
        assert (await asked(port, "/live"))[0] == 200
        status, body = await asked(port, "/ready")
        assert (status, json.loads(body)["problems"]) == (503, ["the bus is down"])
    async with served(Report(live=False, ready=False)) as port:
        assert (await asked(port, "/live"))[0] == 503


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 404),
        (b"GET /live/../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"POST /live HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"GET /live\r\n\r\n", 400),
        (b"GET /live HTTP/2\r\n\r\n", 400),
        (b"GET http://h/live HTTP/1.1\r\n\r\n", 400),
        (b"GET /" + b"x" * 1_000 + b" HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\n" + b"A: " + b"b" * 4_000 + b"\r\n\r\n", 200),
        (b"GET /live HTTP/1.0\n\n", 200),
    ],
)
async def test_whatever_comes_in_is_answered(request_: bytes, status: int) -> None:
    async with served() as port:
        answer = await sent(port, request_)
        assert int(answer.split()[1]) == status
        assert (await asked(port, "/live"))[0] == 200


async def test_a_request_without_an_end_is_not_read_to_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "_PATIENCE", 3600)
    async with served() as port:
        assert await sent(port, b"GET /live HTTP/1.1\r\n" + b"A" * 100_000) == b""
        assert (await asked(port, "/live"))[0] == 200


async def test_who_says_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_PATIENCE", 0.05)
    async with served() as port:
        async with await anyio.connect_tcp("127.0.0.1", port) as silent:
            with anyio.fail_after(5), pytest.raises(anyio.EndOfStream):
                await silent.receive()


async def test_more_connections_than_there_may_be_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "_MOST_CONNECTIONS", 1)
    async with served() as port, await anyio.connect_tcp("127.0.0.1", port) as first:
        await first.send(b"GET /live ")
        assert await sent(port, b"GET /live HTTP/1.1\r\n\r\n") == b""
        await first.send(b"HTTP/1.1\r\n\r\n")
        assert (await first.receive()).startswith(b"HTTP/1.1 200 ")


async def test_health_that_cannot_be_told(caplog: pytest.LogCaptureFixture) -> None:
    async with served(ValueError("no")) as port:
        assert (await asked(port, "/live"))[0] == 500
    assert "the health cannot be told: ValueError: no" in caplog.text


async def test_where_it_is_answered_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="sagaflow.worker")
    async with served() as port:
        assert f"http://127.0.0.1:{port}/live" in caplog.text


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("h:1", "h", 1), (":80", "", 80), ("[::1]:8080", "::1", 8080), ("10.0.0.1:0", "10.0.0.1", 0)],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert Address.of(text) == Address(host, port)


@pytest.mark.parametrize("text", ["", "8080", "h:", "::1:8080", "h:70000", "h:1/x", "[x]:1"])
def test_no_address(text: str) -> None:
    with pytest.raises(SagaflowError, match="--health is HOST:PORT"):
        Address.of(text)


class _Store:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def health(self, *, within: timedelta) -> Any:
        self.asked += 1
        return await Orchestrator([Loan], _repository()).health(within=within)


def _repository() -> Any:
    from sagaflow import MemoryRepository  # noqa: PLC0415 - one place only

    return MemoryRepository()


async def test_many_questions_are_one_for_the_store() -> None:
    store, progress = _Store(), Progress()
    progress.orchestrator = store  # type: ignore[assignment]
    first = await progress.report()
    assert (first.live, first.ready, first.problems) == (True, False, ("it is starting",))
    progress.note(None)
    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(progress.report)
    assert store.asked == 1
    assert (await progress.report()).ready


def test_a_report_survives_the_way_to_another_process() -> None:
    report = Report(live=True, ready=False, problems=("é\n",))
    assert Report.of_json(report.to_json().encode()) == report
