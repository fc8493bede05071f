"""The way to a Redis server: the official client, which knows asyncio and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Final, TypeAlias

import anyio

from sagaflow._concurrency.asyncio_portal import AsyncioPortal
from sagaflow._model.errors import BusError
from sagaflow._model.texts import text_of
from sagaflow.redis.scripts import Script
from sagaflow.redis.urls import check_url, options, place

Word: TypeAlias = str | bytes | int

_CONNECTIONS: Final = 32


class Client:
    """Runs commands and scripts on a server. Each ends within *timeout*.

    It connects when it has to, and again after a connection was lost. No command is sent twice.

    :raises BusError: if the package `redis` is missing, or *url* says of no server.
    """

    def __init__(self, url: str, *, timeout: timedelta) -> None:
        self._place = place(check_url(url))
        self._timeout = timeout
        self._exceptions = _exceptions()
        self._make = _maker(url, timeout)
        self._portal = AsyncioPortal()
        self._redis: Any = None

    async def run(self, what: str, script: Script, *arguments: Word) -> Any:
        """Run a script, and return what the server answers: bytes, numbers, and lists of them.

        :param what: what it does, for errors.
        :raises BusError: if the server cannot be reached, refuses, or does not answer in time.
        """
        with self._translated(what):
            return await self._portal.call(self._run, script, arguments)

    async def command(self, what: str, *words: Word) -> Any:
        """Run a command, and return what the server answers.

        :param what: what it does, for errors.
        :raises BusError: if the server cannot be reached, refuses, or does not answer in time.
        """
        with self._translated(what):
            return await self._portal.call(self._execute, words)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._redis is not None:
            redis, self._redis = self._redis, None
            # They are of no use any more, whatever the server says.
            with suppress(BusError), self._translated("close the connections"):
                await self._portal.call(redis.aclose, True)  # noqa: FBT003 - the client's
        await self._portal.aclose()

    async def _run(self, script: Script, arguments: tuple[Word, ...]) -> Any:
        try:
            return await self._execute(("EVALSHA", script.digest, 0, *arguments))
        except self._exceptions.NoScriptError:
            return await self._execute(("EVAL", script.text, 0, *arguments))

    async def _execute(self, words: tuple[Word, ...]) -> Any:
        if self._redis is None:
            self._redis = self._make()
        return await self._redis.execute_command(*words)

    @contextmanager
    def _translated(self, what: str) -> Generator[None]:
        try:
            with anyio.fail_after(self._timeout.total_seconds()):
                yield
        except (TimeoutError, self._exceptions.TimeoutError) as exc:
            raise BusError(
                f"cannot {what}: Redis at {self._place} does not answer within {self._timeout}"
            ) from exc
        except (OSError, self._exceptions.RedisError) as exc:
            raise BusError(f"cannot {what}: Redis at {self._place}: {text_of(exc)}") from exc


def _exceptions() -> Any:
    """Return the module of the client's exceptions.

    :raises BusError: if the client is not installed.
    """
    try:
        from redis import exceptions  # noqa: PLC0415 - an extra
    except ImportError as exc:
        raise BusError("RedisBus needs the client of Redis: pip install 'sagaflow[redis]'") from exc
    return exceptions


def _maker(url: str, timeout: timedelta) -> Callable[[], Any]:
    """Return what makes the client; it has to be called where asyncio runs."""
    from redis.asyncio import BlockingConnectionPool, Redis  # noqa: PLC0415 - an extra
    from redis.asyncio.connection import parse_url  # noqa: PLC0415
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    seconds = timeout.total_seconds()
    given = options(url, parse_url)

    def make() -> Any:
        pool = BlockingConnectionPool(
            **given,
            max_connections=_CONNECTIONS,
            timeout=seconds,
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            decode_responses=False,
        )
        return Redis(connection_pool=pool)

    return make
