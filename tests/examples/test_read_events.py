"""The program of the examples: whatever a file says, each line is taken or refused."""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import re
import subprocess
import sys
from datetime import date
from decimal import Decimal
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import IO, ClassVar

import anyio
import pytest
from attrs import frozen

from examples import travel
from examples.read_events import LONGEST_LINE, RefusedLineError, decode, main, process
from examples.travel import CarClass, Stay, Traveller, TravelSaga, TripEnded, TripRequested
from sagaflow import Context, Saga, State, initially
from sagaflow.mongo import EmbeddedServer
from tests.examples.support import Program, Report, line, requested

EVENTS = {event.__name__: event for event in travel.EVENTS}


def noted(at: str) -> bytes:
    """Return a line with a note of that instant, which is JSON."""
    return line("NoteAdded", f'{{"booking": "T-1", "note": {{"at": {at}, "text": ""}}}}')


MALFORMED = {
    b"{": "it is not JSON: Expecting property name enclosed in double quotes (character 2)",
    b"nonsense": "it is not JSON: Expecting value (character 1)",
    b"{} {}": "it is not JSON: Extra data (character 4)",
    b"9" * 4096: "line: expected an object, found 99999",
    b"[" * 4096: "it is not JSON: ",
    b'"\xff"': "it is not UTF-8 from byte 2 on",
    b"\x00": "it is not JSON: Expecting value (character 1)",
    b" " * LONGEST_LINE + b"{}": f"it is longer than {LONGEST_LINE} bytes",
    b"x" * 3_000_000: f"it is longer than {LONGEST_LINE} bytes",
    b"[]": "line: expected an object, found []",
    b"null": "line: expected an object, found None",
    b"{}": "line.id: it is missing; line.event: it is missing; line.data: it is missing",
    line(message_id='{"$ne": 1}'): "line.id: expected a text, found {'$ne': 1}",
    line(message_id="7"): "line.id: expected a text, found 7",
    line(message_id='""'): "'' cannot be a message id: it is empty",
    line(data="[]"): "TripEnded: expected an object, found []",
    line("builtins.exec"): "there is no event 'builtins.exec'",
    line("BookFlight"): "there is no event 'BookFlight'",
    line(data="{}"): "TripEnded.booking: it is missing",
    line(data='{"booking": "T-1", "a": 1, "b": 2}'): "TripEnded: it has no 'a', 'b'",
    line(data='{"booking": {"$gt": ""}}'): "TripEnded.booking: expected a text, found {'$gt': ''}",
    line(data='{"booking": null}'): "TripEnded.booking: expected a text, found None",
    line(data='{"booking": ""}'): "'' cannot be a correlation id: it is empty",
    line(data='{"booking": "\\ud800"}'): "TripEnded.booking: a text that can be printed",
    line(data='{"booking": "\\u001b[2J"}'): "TripEnded.booking: a text that can be printed",
    line(data=f'{{"booking": "{"T" * 201}"}}'): "TripEnded.booking: a text has at most 200",
    requested(budget='"-1.00"'): "TripRequested: 'budget' must be > 0: -1.00",
    requested(budget='"0"'): "TripRequested: 'budget' must be > 0: 0",
    requested(budget="NaN"): "TripRequested.budget: expected an amount",
    requested(budget='"NaN"'): "TripRequested.budget: expected an amount",
    requested(budget='"Infinity"'): "TripRequested.budget: expected an amount",
    requested(budget='"1e999999"'): "TripRequested.budget: expected an amount",
    requested(budget='"٣"'): "TripRequested.budget: expected an amount",
    requested(budget="12.5"): "TripRequested.budget: expected an amount",
    requested(miles="true"): "TripRequested.miles: expected a whole number of at most",
    requested(miles="-1"): "TripRequested: 'miles' must be > 0: -1",
    requested(miles=str(2**63)): "TripRequested.miles: expected a whole number of at most 64 bits",
    requested(miles="9" * 3000): "TripRequested.miles: expected a whole number of at most 64 bits",
    requested(departure='"2026-02-30"'): "TripRequested.departure: day ",
    requested(departure="20260801"): "TripRequested.departure: expected a date",
    requested(car='"tank"'): "TripRequested.car: 'tank' is not a valid CarClass",
    requested(car="{}"): "TripRequested.car: {} is not a valid CarClass",
    requested(traveller='"Zoë"'): "TripRequested.traveller: expected an object, found 'Zoë'",
    requested(traveller="{}"): "TripRequested.traveller.name: it is missing",
    requested(hotel='{"hotel": "Sea", "arrival": "2026-08-01", "nights": 0}'): (
        "TripRequested.hotel: 'nights' must be > 0: 0"
    ),
    requested(flight="1", miles="0.5"): (
        "TripRequested.flight: expected a text, found 1; "
        "TripRequested.miles: expected a whole number of at most 64 bits, found 0.5"
    ),
    noted('"2026-08-01T12:00"'): "NoteAdded.note.at: it has no time zone",
    noted('"noon"'): "NoteAdded.note.at: Invalid isoformat string: 'noon'",
    noted("0"): "NoteAdded.note.at: expected an instant",
}


@pytest.fixture
def malformed(tmp_path: Path) -> Path:
    """A file with every malformed line, one that is good, an empty one and a malformed one."""
    path = tmp_path / "malformed.jsonl"
    end = [requested(booking='"T-é"'), b"", line("TripCancelled", '{"booking": "T-é"}')]
    path.write_bytes(b"\r\n".join([*MALFORMED, *end]))
    return path


def assert_malformed_lines_are_refused(report: Report) -> None:
    last = len(MALFORMED) + 1
    for number, reason in enumerate(MALFORMED.values(), 1):
        assert reason in report.refused[number], number
    assert report.lines[last] == "T-é TripRequested started: awaiting_flight"
    assert report.lines[last + 1] == "skipped: it is empty"
    assert report.refused[last + 2] == "TripCancelled.reason: it is missing"
    assert list(report.lines) == list(range(1, last + 3))
    table, _, counts = report.summary.partition("\n\n")
    assert len(table.splitlines()) == 2, "a refused line left a saga behind"
    assert counts.startswith(f"lines: {last + 2} (empty=1, refused={last}, started=1)\n")
    assert (report.status, report.err) == (1, "")


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_malformed_lines_are_refused_one_by_one(
    program: Program, malformed: Path, runtime: str
) -> None:
    assert_malformed_lines_are_refused(program.run(malformed, "--runtime", runtime))


def test_malformed_lines_never_show_a_traceback(tmp_path: Path, malformed: Path) -> None:
    """As a user would run it: from elsewhere, on a terminal that knows ASCII only."""
    done = subprocess.run(
        [sys.executable, travel.FILE.with_suffix(".py"), malformed],
        cwd=tmp_path,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    out, err = done.stdout.decode("ascii"), done.stderr.decode("ascii")
    assert "Traceback" not in out + err
    shown = re.sub(r"\\x(e9|eb)|\\u0663", lambda escaped: ESCAPED[escaped[0]], out)
    assert_malformed_lines_are_refused(Report(done.returncode, shown, err))


ESCAPED = {r"\xe9": "é", r"\xeb": "ë", r"\u0663": "٣"}


def test_line_of_the_longest_length_is_read(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    longest = requested().ljust(LONGEST_LINE)
    too_long = requested(booking='"T-2"').ljust(LONGEST_LINE + 1)
    path.write_bytes(b"\r\n".join([longest, too_long, line()]))
    report = program.run(path)
    assert report.lines == {
        1: "T-1 TripRequested started: awaiting_flight",
        2: f"REFUSED: it is longer than {LONGEST_LINE} bytes",
        3: "T-1 TripEnded nothing done: handled before",
    }


def test_file_without_a_refused_line_ends_with_status_0(program: Program, tmp_path: Path) -> None:
    """Events out of place could be read; a byte order mark and empty lines do no harm."""
    path = tmp_path / "fine.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + line() + b"\n\n  \n" + requested())
    report = program.run(path)
    assert report.lines == {
        1: "T-1 TripEnded nothing done: unknown id",
        2: "skipped: it is empty",
        3: "skipped: it is empty",
        4: "T-1 TripRequested started: awaiting_flight",
    }
    assert report.status == 0


def test_long_id_leaves_the_summary_readable(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_bytes(requested(booking=f'"{"T" * 200}"', miles="1"))
    row = program.run(path).summary.splitlines()[1]
    assert row == f"{'T' * 200} awaiting_flight  sent    RedeemMiles, BookFlight"


def test_empty_file_ends_with_status_0(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.touch()
    report = program.run(path)
    assert report.out == "\nlines: 0 (none)\n"
    assert report.status == 0


@pytest.mark.parametrize(("name", "reason"), [("missing", "No such file"), ("", "Is a directory")])
def test_file_that_cannot_be_opened_ends_with_status_2(
    program: Program, tmp_path: Path, name: str, reason: str
) -> None:
    path = tmp_path / name
    report = program.run(path)
    assert (report.status, report.out) == (2, "")
    assert report.err.startswith(f"error: cannot read {path}: {reason}")
    assert report.err.count("\n") == 1


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_server_that_does_not_answer_ends_with_status_2(program: Program, runtime: str) -> None:
    uri = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100"
    report = program.run("--mongodb", uri, "--runtime", runtime)
    assert (report.status, report.out) == (2, "")
    assert report.err.startswith("error: cannot reach the server: ")


def test_uri_that_is_none_ends_with_status_2(program: Program) -> None:
    report = program.run("--mongodb", "http://localhost")
    assert (report.status, report.out) == (2, "")
    assert report.err.startswith("error: cannot connect: ")


def test_runtime_that_is_not_installed_ends_with_status_2(
    program: Program, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "trio", None)
    with pytest.raises(SystemExit) as caught:
        program.run("--runtime", "trio")
    assert caught.value.code == 2
    assert capsys.readouterr().err.endswith("error: trio is not installed\n")


class FailingFile(io.BytesIO):
    """A file on a disk that fails after the first line."""

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return the first line only."""
        if self.tell() > 0:
            raise OSError("the disk is gone")
        return super().readline(size)


def handed(file: IO[bytes], runtime: str, uri: str | None) -> int:
    """Have the program process an open file."""
    options = argparse.Namespace(mongodb=uri, database="sagaflow_examples")
    run = partial(process, TravelSaga, travel.EVENTS, travel.MESSAGES, file, options)
    return anyio.run(run, backend=runtime)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_file_that_fails_midway_ends_with_status_2(
    runtime: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert handed(FailingFile(requested() + b"\n" + line()), runtime, None) == 2
    out, err = capsys.readouterr()
    assert list(Report(2, out, err).lines) == [1]
    assert err == "error: the disk is gone\n"


@pytest.mark.skipif(find_spec("secantus") is None, reason="needs the extra sagaflow[embedded]")
@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_server_that_dies_midway_ends_with_status_2(
    runtime: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with EmbeddedServer() as server:

        class Deadly(io.BytesIO):
            def readline(self, size: int | None = -1, /) -> bytes:
                if self.tell() > 0:
                    server.kill()
                return super().readline(size)

        uri = f"{server.uri}&serverSelectionTimeoutMS=200"
        status = handed(Deadly(requested() + b"\n" + line()), runtime, uri)
    out, err = capsys.readouterr()
    assert status == 2
    assert list(Report(2, out, err).lines) == [1]
    assert err.startswith("error: cannot read TravelSaga 'T-1'")


def test_only_declared_events_are_decoded() -> None:
    """A class that is imported, and is no event, is refused all the same."""
    with pytest.raises(RefusedLineError, match="there is no event 'TripEnded'"):
        decode(line(), {})
    assert decode(line(), EVENTS) == ("m-1", TripEnded("T-1"))


def test_truth_value_is_taken_as_it_is() -> None:
    @frozen
    class Answered:
        yes: bool

    known = {"Answered": Answered}
    assert decode(line("Answered", '{"yes": false}'), known) == ("m-1", Answered(yes=False))
    with pytest.raises(
        RefusedLineError, match=r"Answered\.yes: expected true or false, found 'no'"
    ):
        decode(line("Answered", '{"yes": "no"}'), known)


def test_event_has_the_types_that_its_class_declares() -> None:
    message_id, event = decode(
        requested(
            hotel='{"hotel": "Sea", "arrival": "2026-08-01", "nights": 3}',
            car='"van"',
            miles="7",
            budget='"500.25"',
        ),
        EVENTS,
    )
    assert message_id == "m-1"
    assert event == TripRequested(
        "T-1",
        Traveller("Zoë"),
        "SF 1",
        date(2026, 8, 1),
        Decimal("500.25"),
        Stay("Sea", date(2026, 8, 1), 3),
        CarClass.VAN,
        7,
    )


def test_number_of_more_digits_than_python_reads_is_refused() -> None:
    usual = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        with pytest.raises(RefusedLineError, match="it is not JSON: Exceeds the limit"):
            decode(requested(miles="9" * 641), EVENTS)
    finally:
        sys.set_int_max_str_digits(usual)


@frozen
class Asked:
    """Starts a saga that notes which runtime it is on."""

    correlation_id: str


class Noting(Saga):
    """Notes which runtime it is on."""

    done = State(final=True)
    runtimes: ClassVar[list[str]] = []

    @initially.on(Asked).goto(done)
    def note(self, event: Asked, ctx: Context) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self.runtimes.append("trio")
        else:
            self.runtimes.append("asyncio")


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_program_runs_any_saga_on_the_runtime_that_is_asked_for(
    runtime: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "asked.jsonl"
    path.write_bytes(line("Asked", '{"correlation_id": "a-1"}'))
    Noting.runtimes.clear()
    assert main(Noting, [Asked], [], path, ["--runtime", runtime]) == 0
    assert Noting.runtimes == [runtime]
    assert "a-1      done             sent    nothing" in capsys.readouterr().out
