"""How the processes talk: lines of JSON over sockets in the run's directory, and durable paper."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
from pathlib import Path
from typing import Any, Final, Self

_PATIENCE: Final = 1.0
ACCEPTED: Final = frozenset(
    {
        "started",
        "transitioned",
        "stayed",
        "compensating",
        "deferred",
        "suspended",
        "duplicate",
        "ignored",
        "finished",
    }
)
"""The outcomes by which an event is accepted, as docs/reliability.md says."""


def worker_socket(path: Path, number: int) -> Path:
    """Return where a worker listens, whichever of its lives it is in."""
    return path / f"worker-{number}.sock"


def participant_socket(path: Path) -> Path:
    """Return where the participant listens."""
    return path / "participant.sock"


class Line:
    """A connection to a process that answers a line with a line.

    :raises OSError: if nobody listens.
    """

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_PATIENCE)
        try:
            self._socket.connect(str(path))
        except BaseException:
            self._socket.close()
            raise
        self._file = self._socket.makefile("rb")

    def say(self, what: dict[str, Any]) -> None:
        """Send a line.

        :raises OSError: if nobody takes it.
        """
        self._socket.sendall(json.dumps(what).encode() + b"\n")

    def hear(self) -> dict[str, Any]:
        """Return the answer.

        :raises OSError: if there is none in time.
        """
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("it ended before it had answered")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self._socket.close()


class Paper:
    """A SQLite file of one process at a time; what it has noted survives its end.

    :param path: where it is.
    :param schema: the tables.
    """

    def __init__(self, path: Path, schema: str) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(schema)
        self.lock = threading.RLock()

    def note(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        """Write all of it or nothing, and return once it is durable."""
        with self.lock:
            self._database.execute("BEGIN IMMEDIATE")
            for statement, values in statements:
                self._database.execute(statement, values)
            self._database.execute("COMMIT")

    def read(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows."""
        with self.lock:
            return self._database.execute(query).fetchall()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


ACCEPTANCES: Final = """
CREATE TABLE IF NOT EXISTS accepted (
    message TEXT, errand TEXT, kind TEXT, version INTEGER, worker TEXT
);
CREATE TABLE IF NOT EXISTS surprises (said TEXT);
"""
LEDGER: Final = f"""
CREATE TABLE IF NOT EXISTS deliveries (
    number INTEGER PRIMARY KEY, message TEXT, errand TEXT, command TEXT, place INTEGER, undoes TEXT
);
CREATE TABLE IF NOT EXISTS effects (
    message TEXT PRIMARY KEY, errand TEXT, command TEXT, place INTEGER, undoes TEXT
);
CREATE TABLE IF NOT EXISTS answers (message TEXT PRIMARY KEY, said TEXT);
{ACCEPTANCES}"""


class Sender:
    """Hands events to workers, and notes durably what they say.

    :param path: the directory of the run.
    :param workers: how many workers there are.
    """

    def __init__(self, path: Path, paper: Paper, workers: int) -> None:
        self._path = path
        self._paper = paper
        self._workers = workers
        self._local = threading.local()

    def deliver(self, said: dict[str, Any], errand: str, to: list[int]) -> bool:
        """Hand an event to some workers at the same time; tell whether one has accepted it."""
        lines: dict[int, Line] = self._local.__dict__.setdefault("lines", {})
        asked: list[int] = []
        for number in to:
            try:
                if number not in lines:
                    lines[number] = Line(worker_socket(self._path, number))
                lines[number].say(said)
            except OSError:
                self._drop(lines, number)
            else:
                asked.append(number)
        answers: list[dict[str, Any]] = []
        for number in asked:
            try:
                answers.append(lines[number].hear())
            except (OSError, ValueError):
                self._drop(lines, number)
        statements: list[tuple[str, tuple[object, ...]]] = []
        accepted = False
        for answer in answers:
            if "surprise" in answer:
                statements.append(("INSERT INTO surprises VALUES (?)", (answer["surprise"],)))
            elif answer.get("kind") in ACCEPTED:
                accepted = True
                row = (said["id"], errand, answer["kind"], answer["version"], answer["worker"])
                statements.append(("INSERT INTO accepted VALUES (?, ?, ?, ?, ?)", row))
        if statements:
            self._paper.note(*statements)
        return accepted

    def _drop(self, lines: dict[int, Line], number: int) -> None:
        line = lines.pop(number, None)
        if line is not None:
            line.close()
