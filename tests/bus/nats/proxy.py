"""A proxy before a server, which tests can have hold all bytes, or cut all connections."""

from __future__ import annotations

import socket
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from typing import Self


class Proxy:
    """Passes bytes on, both ways, unless it is told otherwise."""

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._may_pass = threading.Event()
        self._may_pass.set()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

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

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        while True:
            try:
                data = one.recv(65_536)
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
