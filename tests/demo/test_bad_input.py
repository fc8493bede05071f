"""Whatever is wrong with what was typed: one line, exit status 2, no traceback."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys

import anyio
import click
import pytest
from click.testing import CliRunner, Result

from sagaflow.cli import main
from sagaflow.demo.settings import Watcher
from sagaflow.exceptions import RepositoryError
from sagaflow.mongo import MongoRepository
from sagaflow.mongo.uris import hosts

RUNTIMES = ("asyncio", "trio")
NOBODY = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200"


def invoke(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(main, arguments, prog_name="sagaflow")


def refused(result: Result) -> str:
    """Check that *result* is one error in one line, and return it."""
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    (line,) = result.output.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--failures", "1.5"), "'--failures': 1.5 is not in the range 0<=x<=1"),
        (("--failures", "-0.1"), "'--failures': -0.1 is not in the range 0<=x<=1"),
        (("--failures", "nan"), "'--failures': it is not a number between 0 and 1"),
        (("--failures", "many"), "'--failures': 'many' is not a valid float"),
        (("--orders", "0"), "'--orders': 0 is not in the range"),
        (("--orders", "2.5"), "'--orders': '2.5' is not a valid integer"),
        (("--concurrency", "0"), "'--concurrency': 0 is not in the range"),
        (("--seed", "-1"), "'--seed': -1 is not in the range"),
        (("--runtime", "curio"), "'--runtime': 'curio' is not one of"),
        (("--mongodb",), "--mongodb"),
        (("--no-such-option",), "--no-such-option"),
        (("more",), "unexpected extra argument"),
        (("--database", "shop"), "--database needs --mongodb"),
        (("--resume",), "--resume needs --mongodb and --database"),
        (("--resume", "--mongodb", NOBODY), "--resume needs --mongodb and --database"),
        (("--resume", "--database", "shop"), "--database needs --mongodb"),
        (("--bus", "pigeons"), "'--bus': it is one of memory, mongodb, kafka, nats, rabbitmq,"),
        (
            ("--bus", "nats", "--resume", "--mongodb", NOBODY, "--database", "shop"),
            "--resume continues a demo without --bus",
        ),
    ],
)
def test_a_wrong_option_is_named(arguments: tuple[str, ...], said: str) -> None:
    line = refused(invoke("demo", *arguments))
    assert said in line
    assert re.search("; see sagaflow( demo)? --help$", line)


@pytest.mark.parametrize("arguments", [("nothing",), ("--nothing",)])
def test_a_wrong_command_is_named(arguments: tuple[str, ...]) -> None:
    line = refused(invoke(*arguments))
    assert "nothing" in line
    assert line.endswith("; see sagaflow --help")


MALFORMED = [
    ("localhost,", "cannot connect: Empty host"),
    ("", "cannot connect: Empty host"),
    ("http://localhost", "cannot connect: Invalid URI scheme"),
    ("mongodb://", "cannot connect: Must provide at least one hostname"),
    ("mongodb://localhost:many", "cannot connect: Port contains non-digit characters"),
    ("mongodb://localhost:70000", "cannot connect: Port must be an integer"),
    ("mongodb://[::1", "cannot connect: an IPv6 address literal"),
    ("mongodb://a%zz:b@localhost", "cannot connect: Username and password must be escaped"),
    ("mongodb://localhost/?tls=true&tlsCAFile=/no/such/file", "cannot connect: [Errno 2]"),
    ("mongodb://user:se/cret@localhost", "percent-encode"),
]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(("uri", "said"), MALFORMED)
def test_a_malformed_uri_is_refused(uri: str, said: str, runtime: str) -> None:
    assert said in refused(invoke("demo", "--mongodb", uri, "--runtime", runtime))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("uri", ["mongodb://localhost:70000", "mongodb://h/?tlsCAFile=/no/file"])
def test_a_repository_refuses_a_malformed_uri_with_its_own_error(uri: str, runtime: str) -> None:
    async def connect() -> None:
        async with MongoRepository.connect(uri, database="never"):
            pass

    with pytest.raises(RepositoryError, match="cannot connect: "):
        anyio.run(connect, backend=runtime)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("output", [(), ("--json",)])
def test_a_server_that_is_not_there_is_named(output: tuple[str, ...], runtime: str) -> None:
    line = refused(invoke("demo", "--mongodb", NOBODY, "--runtime", runtime, *output))
    assert "no MongoDB server was reached" in line
    assert "127.0.0.1:1" in line


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_wrong_credentials_are_told_and_not_shown(runtime: str, mongodb_uri: str) -> None:
    uri = f"mongodb://somebody:s3cret@{hosts(mongodb_uri)}/?authSource=admin"
    line = refused(invoke("demo", "--mongodb", uri, "--runtime", runtime))
    assert line.lower() == (
        "error: cannot reach the server: the server refused (authentication failed)"
    )


def test_a_warning_of_the_driver_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sagaflow", "demo", "--mongodb", f"{NOBODY}&colour=blue"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    warning, error = done.stderr.splitlines()
    assert warning.startswith("warning: Unknown option")
    assert error.startswith("error: cannot reach the server")


def test_a_runtime_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trio", None)
    line = refused(invoke("demo", "--runtime", "trio"))
    assert line == (
        "error: trio is not installed: pip install 'sagaflow[trio]', or choose --runtime asyncio"
    )


def test_a_server_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "secantus", None)
    line = refused(invoke("demo"))
    assert "pip install 'sagaflow[embedded]'" in line


def test_an_error_of_the_system_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", os.devnull)
    assert "Not a directory" in refused(invoke("demo"))


def test_a_reader_that_has_had_enough_ends_the_output_in_silence() -> None:
    def give_up(*_: object, **__: object) -> None:
        raise OSError(errno.EPIPE, "broken pipe")

    command = click.Command("probe", callback=give_up)
    main.add_command(command)
    try:
        result = invoke("probe")
    finally:
        del main.commands["probe"]
    assert (result.exit_code, result.output) == (1, "")


def test_an_interrupt_is_one_line_and_has_its_own_exit_status(
    monkeypatch: pytest.MonkeyPatch, mongodb_uri: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Watcher, "begun", interrupt)
    result = invoke("demo", "--json", "--mongodb", mongodb_uri)
    assert (result.exit_code, result.output) == (130, "interrupted\n")


def test_a_url_of_no_bus_is_refused_without_its_password() -> None:
    line = refused(invoke("demo", "--bus", "ftp://u:s3cret@h"))
    assert "ftp://... is no bus" in line
    assert "s3cret" not in line
