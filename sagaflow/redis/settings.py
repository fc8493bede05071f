"""What the settings of a server mean for messages. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sagaflow._model.errors import BusError

_OLDEST: Final = 7


def check_server(info: Mapping[str, Any]) -> None:
    """Refuse a server on which the scripts do not work.

    :param info: what the command INFO answers.
    :raises BusError: if it is older than Redis 7, or a node of a cluster.
    """
    version = str(info.get("redis_version", "0"))
    if int(version.partition(".")[0]) < _OLDEST:
        raise BusError(f"RedisBus needs Redis {_OLDEST} or later, and this is Redis {version}")
    if info.get("redis_mode") == "cluster":
        raise BusError("RedisBus does not work with Redis Cluster: use a server, or Sentinel's")


def dangers(info: Mapping[str, Any], fsync: str | None) -> str | None:
    """Return in one line by which settings of a server messages may be lost; None if by none.

    :param info: what the command INFO answers.
    :param fsync: the setting `appendfsync`; None if the server does not tell.
    """
    found = list(_dangers(info, fsync))
    if not found:
        return None
    return f"Redis may lose messages: {'; '.join(found)}"


def _dangers(info: Mapping[str, Any], fsync: str | None) -> Iterator[str]:
    if not info.get("aof_enabled"):
        yield "it does not write them to disk at once (set appendonly yes and appendfsync always)"
    elif fsync not in (None, "always"):
        yield f"with appendfsync {fsync} those of the last moment (set appendfsync always)"
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        yield (
            f"with maxmemory-policy {policy} when its memory is full (set maxmemory-policy "
            "noeviction)"
        )
