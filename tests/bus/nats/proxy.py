"""A proxy before a server, which tests can have hold all bytes, or cut all connections.

By what passes it knows where client and server are: tests have something done just before.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from typing import Final, Self

from anyio import to_thread
from attrs import define

_LONGEST: Final = 20


class Gate:
    """Holds what has to pass here until it is opened: all bytes of one connection, one way."""

    def __init__(self) -> None:
        self._reached, self._opened = threading.Event(), threading.Event()

    def __call__(self) -> None:
        """Hold the bytes."""
        self._reached.set()
        self._opened.wait(_LONGEST)

    async def reached(self) -> None:
        """Wait until something is held."""
        assert await to_thread.run_sync(self._reached.wait, _LONGEST), "nothing has come here"

    def open(self) -> None:
        """Let pass what is held, and all that comes later."""
        self._opened.set()


@define
class _Act:
    """What is to be done before bytes pass, and how often yet."""

    where: re.Pattern[bytes]
    do: Callable[[], object]
    times: int


class Proxy:
    """Passes bytes on, both ways, unless it is told otherwise."""

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._may_pass = threading.Event()
        self._may_pass.set()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._acts: list[_Act] = []

    @property
    def uri(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @contextmanager
    def running(self) -> Generator[Self]:
        with closing(self._listener):
            threading.Thread(target=self._accept, daemon=True).start()
            try:
                yield self
            finally:
                self._may_pass.set()
                self.cut()
                self._listener.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def silent(self) -> Generator[None]:
        """Hold all bytes for a while, in both directions."""
        self._may_pass.clear()
        try:
            yield
        finally:
            self._may_pass.set()

    def before(self, pattern: str, do: Callable[[], object], *, times: int = 1) -> None:
        """Have something done, in a thread, just before bytes pass in which a pattern is found.

        :param times: how often, if such bytes come again.
        """
        self._acts.append(_Act(re.compile(pattern.encode()), do, times))

    def cut(self) -> None:
        """Break off all connections."""
        with self._lock:
            for one in self._open:
                with one:
                    _shut(one)
            self._open.clear()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _act_on(self, data: bytes) -> None:
        for act in self._acts:
            with self._lock:
                is_due = act.times > 0 and act.where.search(data) is not None
                act.times -= is_due
            if is_due:
                act.do()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        while True:
            try:
                data = one.recv(65_536)
                self._act_on(data)
                self._may_pass.wait()
                if data:
                    other.sendall(data)
            except OSError:
                data = b""
            if not data:
                with self._lock:
                    for each in (one, other):
                        _shut(each)
                        each.close()
                    self._open -= {one, other}
                return


def _shut(one: socket.socket) -> None:
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
