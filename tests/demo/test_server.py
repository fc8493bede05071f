"""The server of the demo: what is said of it, and how long it may take to answer."""

from __future__ import annotations

import pytest

from sagaflow.demo.server import serving
from sagaflow.exceptions import SagaflowError
from sagaflow.mongo.uris import hosts


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("mongodb://localhost", "localhost"),
        ("mongodb://localhost:27017/shop?appName=x", "localhost:27017"),
        ("mongodb://user:secret@a:1,b:2/?replicaSet=r", "a:1,b:2"),
        ("mongodb://user:se%40cret@[::1]:27017", "[::1]:27017"),
        ("mongodb+srv://user:secret@cluster.example.org", "cluster.example.org"),
        ("mongodb://h?authMechanismProperties=AWS_SESSION_TOKEN:secret", "h"),
    ],
)
def test_credentials_and_options_are_not_shown(uri: str, shown: str) -> None:
    assert hosts(uri) == shown
    with serving(uri) as server:
        assert server.name == f"MongoDB at {shown}"
        assert "secret" not in repr(server)


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://user:se/cret@localhost",
        "mongodb://user:se?cret@localhost",
        "mongodb://user:se?w=cret@localhost",
    ],
)
def test_an_unescaped_password_is_refused_without_repeating_it(uri: str) -> None:
    with pytest.raises(SagaflowError, match="percent-encode") as raised, serving(uri):
        pass
    assert "cret" not in str(raised.value)


def test_an_option_with_an_at_sign_is_no_password() -> None:
    assert hosts("mongodb://user:secret@h/?appName=a@b") == "h"


def test_every_run_has_a_database_of_its_own() -> None:
    with serving("mongodb://h") as one, serving("mongodb://h") as other:
        assert one.database != other.database
        assert one.database.startswith("sagaflow_demo_")
        assert one.kept


@pytest.mark.parametrize(
    ("uri", "milliseconds"),
    [
        ("mongodb://h", 5000),
        ("mongodb://h/?serverSelectionTimeoutMS=soon", 5000),
        ("mongodb://h/?serverSelectionTimeoutMS=800", None),
        ("mongodb://h/?w=1&serverselectiontimeoutms=800", None),
    ],
)
def test_a_server_has_five_seconds_unless_the_uri_says_otherwise(
    uri: str, milliseconds: int | None
) -> None:
    with serving(uri) as server:
        assert server.options.get("serverSelectionTimeoutMS") == milliseconds
