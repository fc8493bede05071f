"""What is refused before anything is sent."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sagaflow.exceptions import BusError
from sagaflow.redis import RedisBus
from sagaflow.redis.settings import check_server, dangers
from sagaflow.redis.urls import check_url, place
from sagaflow.testing._bus_contract.kit import MESSAGES

SAFE = {"aof_enabled": 1, "maxmemory_policy": "noeviction"}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:6379", "begins with redis://"),
        ("http://localhost", "begins with redis://"),
        ("", "begins with redis://"),
        ("redis://", "names no server"),
        ("redis://:secret@", "names no server"),
        ("redis://localhost:0", "names no server"),
        ("unix://", "names no server"),
        ("redis://localhost/orders", "the number of a database"),
        ("redis://localhost:secret", "percent-encode"),
        ("redis://me:sec/ret@localhost", "percent-encode"),
        ("redis://me:7/secret@localhost", "percent-encode"),
        ("redis://me:7#secret@localhost", "percent-encode"),
        ("redis://me:7?secret@localhost", "percent-encode"),
        ("redis://[::1", "percent-encode"),
        ("redis://localhost?decode_responses=true", "'decode_responses'"),
        ("redis://localhost?db=orders", "percent-encode"),
    ],
)
def test_wrong_url_is_refused_in_one_line_without_secrets(url: str, said: str) -> None:
    with pytest.raises(BusError, match=said) as caught:
        RedisBus(url, service="shop", messages=MESSAGES)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("redis://localhost", "localhost:6379"),
        ("redis://me:sec%2Fret@db.example:7000/3", "db.example:7000"),
        ("rediss://db.example?ssl_cert_reqs=none&client_name=x", "db.example:6379"),
        ("unix:///run/redis.sock?db=2", "/run/redis.sock"),
    ],
)
def test_place_is_shown_without_secrets(url: str, where: str) -> None:
    assert place(check_url(url)) == where
    RedisBus(url, service="shop", messages=MESSAGES)


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ({"prefix": "with space"}, BusError),
        ({"prefix": ""}, BusError),
        ({"service": "a/b"}, BusError),
        ({"lease_duration": timedelta(0)}, ValueError),
        ({"duplicate_window": timedelta(0)}, ValueError),
        ({"operation_timeout": timedelta(seconds=-1)}, ValueError),
        ({"concurrency": 0}, ValueError),
    ],
)
def test_wrong_setting_is_refused(setting: dict[str, Any], error: type[Exception]) -> None:
    given: dict[str, Any] = {"service": "shop", "messages": MESSAGES, **setting}
    with pytest.raises(error):
        RedisBus("redis://localhost", **given)


def test_server_that_is_too_old_or_a_cluster_is_refused() -> None:
    check_server({"redis_version": "7.0.0", "redis_mode": "standalone"})
    with pytest.raises(BusError, match=r"needs Redis 7 or later, and this is Redis 6\.2\.5"):
        check_server({"redis_version": "6.2.5", "redis_mode": "standalone"})
    with pytest.raises(BusError, match="Redis Cluster"):
        check_server({"redis_version": "7.0.0", "redis_mode": "cluster"})


def test_what_a_server_does_not_tell_is_not_warned_of() -> None:
    assert dangers(SAFE, None) is None
    assert dangers(SAFE, "always") is None
    assert dangers(SAFE, "everysec") == (
        "Redis may lose messages: with appendfsync everysec those of the last moment "
        "(set appendfsync always)"
    )
