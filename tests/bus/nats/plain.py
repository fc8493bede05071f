"""Asks a NATS server something without a client: in a thread, on no event loop."""

from __future__ import annotations

import json
import socket
from typing import Any
from uuid import uuid4


def request(port: int, subject: str, body: object = None) -> dict[str, Any]:
    """Send what the server, or a stream, answers, and return the answer; an error raises."""
    inbox, sent = f"_INBOX.{uuid4().hex}", b"" if body is None else json.dumps(body).encode()
    command = f'CONNECT {{"verbose":false}}\r\nSUB {inbox} 1\r\nPUB {subject} {inbox} {len(sent)}'
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
        connection.makefile("rb") as answers,
    ):
        connection.sendall(command.encode() + b"\r\n" + sent + b"\r\n")
        for line in answers:
            if line.startswith(b"MSG"):
                found: dict[str, Any] = json.loads(answers.read(int(line.split()[-1])))
                assert "error" not in found, found
                return found
    raise AssertionError(f"no answer to {subject}")
