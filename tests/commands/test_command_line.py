"""What all commands have in common: help, start-up, secrets, exit statuses."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest

from sagaflow.cli import COMMANDS, main
from sagaflow.commands.secrets import hide as hide_secrets
from sagaflow.commands.secrets import keeping_secrets, redacted, secrets_of
from sagaflow.mongo.uris import hosts
from tests.commands.support import LOAN, Stored, good, invoke, loan, refused

NOBODY = "mongodb://admin:s3cret@127.0.0.1:1/?serverSelectionTimeoutMS=100"
READING = [
    ("ls", LOAN),
    ("show", LOAN, "l-1"),
    ("explain", LOAN, "l-1"),
    ("stats", LOAN),
    ("indexes", LOAN),
    ("retry", LOAN, "l-1", "--yes"),
    ("graph", LOAN, "--saga", "l-1"),
]


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_says_its_exit_statuses(name: str) -> None:
    lines = good(invoke(name, "--help"))
    assert "exit status is 0" in " ".join(" ".join(lines).split())


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_is_listed_and_known_by_its_name(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert any(line.split()[:1] == [name] for line in good(invoke("--help")))


def test_help_imports_nothing_that_is_slow() -> None:
    program = (
        "import sys; from sagaflow.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('rich', 'motor', 'pymongo', 'trio') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("arguments", READING, ids=lambda arguments: arguments[0])
def test_a_server_that_is_not_there_is_one_line(arguments: tuple[str, ...]) -> None:
    env = {"SAGAFLOW_MONGODB_URI": NOBODY, "SAGAFLOW_DATABASE": "shop"}
    line = refused(invoke(*arguments, env=env))
    assert "no MongoDB server was reached" in line
    assert "s3cret" not in line


@pytest.mark.parametrize("arguments", READING[:-1], ids=lambda arguments: arguments[0])
def test_what_is_not_said_is_asked_for(arguments: tuple[str, ...]) -> None:
    assert "Missing option '--mongodb'" in refused(invoke(*arguments))
    line = refused(invoke(*arguments, "--mongodb", "mongodb://h"))
    assert "Missing option '--database'" in line


@pytest.mark.parametrize(
    ("uri", "secrets"),
    [
        ("mongodb://h/?retryWrites=false", set[str]()),
        ("mongodb://user@h", set[str]()),
        ("mongodb://user:p%40ss@h:1,g:2/db", {"p%40ss", "p@ss"}),
        ("mongodb://h/?tlsCertificateKeyFilePassword=pw&w=1", {"pw"}),
        ("mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:abc", {"AWS_SESSION_TOKEN:abc"}),
        ("nats://t0ken@h:4222", {"t0ken"}),
        ("nats://user:pw@h:4222,nats://user:other@g:4222", {"pw", "other"}),
        ("redis://:pw@h/0", {"pw"}),
        ("kafka://user:p%2Cw@h:1,g:2?ssl.key.password=other", {"p%2Cw", "p,w", "other"}),
        ("amqp://guest:pw@h/%2F", {"pw"}),
        ("no uri", set[str]()),
    ],
)
def test_what_is_secret_in_a_uri(uri: str, secrets: set[str]) -> None:
    assert secrets_of(uri) == secrets


def test_secrets_are_left_out_of_what_is_said() -> None:
    with keeping_secrets():
        hide_secrets("mongodb://user:p%40ss@h/?tlsCertificateKeyFilePassword=x")
        hide_secrets(None)
        assert redacted("p%40ss, p@ss and x: exactly") == "***, *** and ***: exactly"
    assert redacted("p@ss") == "p@ss"
    hide_secrets("mongodb://user:later@h")
    assert redacted("later") == "later"


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://user:s3cret@localhost:s3cret",
        "mongodb://user:s3cret@h/?readPreference=s3cret",
        "mongodb://h/?tlsCertificateKeyFilePassword=s3cret&tlsCertificateKeyFile=/no/s3cret",
        "mongodb://h/?authMechanismProperties=s3cret&authMechanism=s3cret",
        "mongodb://user:s3/cret@h",
    ],
)
@pytest.mark.parametrize("how", ["--mongodb", "--against"])
@pytest.mark.filterwarnings("default")
def test_a_secret_is_never_printed(uri: str, how: str) -> None:
    command = ("ls", LOAN) if how == "--mongodb" else ("check", LOAN)
    uri = f"{uri}{'&' if '?' in uri else '/?'}serverSelectionTimeoutMS=100"
    result = invoke(*command, how, uri, "--database", "d")
    assert result.exit_code == 2, result.output
    for secret in ("s3cret", "s3/cret"):
        assert secret not in result.output


@pytest.mark.parametrize("command", [("ls", LOAN, "--mongodb"), ("demo", "--mongodb")])
def test_an_error_that_repeats_a_secret_does_not_tell_it(command: tuple[str, ...]) -> None:
    option = "--limit" if command[0] == "ls" else "--orders"
    line = refused(invoke(*command, "mongodb://user:s3cret@h", option, "s3cret"))
    assert "'***' is not a valid int" in line


def test_wrong_credentials_are_told_and_not_shown(stored: Stored) -> None:
    uri = f"mongodb://somebody:s3cret@{hosts(stored.uri)}/?authSource=admin"
    line = refused(invoke("ls", LOAN, "--mongodb", uri, "--database", "d"))
    assert "the server refused" in line
    assert "s3cret" not in line


def test_a_database_that_cannot_be_is_told(stored: Stored) -> None:
    line = refused(invoke("ls", LOAN, "--mongodb", stored.uri, "--database", "a b"))
    assert "database name" in line.lower()


def test_a_pipe_gets_plain_lines_whatever_the_width(stored: Stored) -> None:
    stored.put(loan("x" * 300))
    done = subprocess.run(
        [sys.executable, "-m", "sagaflow", "ls", LOAN],
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "SAGAFLOW_MONGODB_URI": stored.uri,
            "SAGAFLOW_DATABASE": stored.database,
            "COLUMNS": "40",
        },
    )
    assert (done.returncode, done.stderr) == (0, "")
    _, line = done.stdout.splitlines()
    assert line.split()[:3] == ["x" * 300, "held", "active"]
    assert "\x1b" not in done.stdout
