"""Asks a web process: one of this process by ASGI, or another one by HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection
from typing import Any

from attrs import frozen
from fastapi import FastAPI


@frozen
class Answer:
    """What a web process has answered."""

    status: int
    headers: Mapping[str, str]
    body: Any


def over_http(place: str, target: str, posted: object = None, **headers: str) -> Answer:
    """Post JSON to a path at a host and port, or get what is there."""
    method, body = ("GET", None) if posted is None else ("POST", json.dumps(posted))
    given = {"Content-Type": "application/json", **_named(headers)}
    with closing(HTTPConnection(place, timeout=60)) as connection:
        connection.request(method, target, body, given)
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.headers), json.load(answer))


async def by_asgi(app: FastAPI, target: str, posted: object = None, **headers: str) -> Answer:
    """Post JSON to a path of this process, or get what is there."""
    path, _, query = target.partition("?")
    given = {"Content-Type": "application/json", **_named(headers)}
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET" if posted is None else "POST",
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": json.dumps(posted).encode(), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *rest = sent
    answered = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], answered, json.loads(b"".join(part["body"] for part in rest)))


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
