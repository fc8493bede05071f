"""Runs the program of the examples, and makes lines for it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from attrs import field, frozen

from examples import travel
from examples.read_events import main
from examples.travel import TravelSaga


@frozen
class Report:
    """What a run of the program said, taken apart."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> dict[int, str]:
        """What it said about each line of the file."""
        found = re.findall(r"^ *(\d+)  (.+)$", self.out.partition("\n\n")[0], re.MULTILINE)
        return {int(number): " ".join(said.split()) for number, said in found}

    @property
    def refused(self) -> dict[int, str]:
        """Why lines were refused."""
        return {
            number: said.removeprefix("REFUSED: ")
            for number, said in self.lines.items()
            if said.startswith("REFUSED: ")
        }

    @property
    def sent(self) -> list[str]:
        """Which messages were sent, line by line."""
        return re.findall(r"^ {31}sent (.+)$", self.out, re.MULTILINE)

    @property
    def summary(self) -> str:
        """The table at the end."""
        return self.out.partition("\n\n")[2]


@frozen
class Program:
    """Runs the program within this process."""

    _capture: pytest.CaptureFixture[str]
    _options: list[str] = field(factory=list[str])

    def run(self, *arguments: str | Path) -> Report:
        """Run it and return what it said."""
        command = [*map(str, arguments), *self._options]
        status = main(TravelSaga, travel.EVENTS, travel.MESSAGES, travel.FILE, command)
        out, err = self._capture.readouterr()
        return Report(status, out, err)


def line(
    event: str = "TripEnded", data: str = '{"booking": "T-1"}', message_id: str = '"m-1"'
) -> bytes:
    """Return a line of a file."""
    return f'{{"id": {message_id}, "event": "{event}", "data": {data}}}'.encode()


def requested(**changes: str) -> bytes:
    """Return a line that requests a trip; values are JSON."""
    data = {
        "booking": '"T-1"',
        "traveller": '{"name": "Zoë"}',
        "flight": '"SF 1"',
        "departure": '"2026-08-01"',
        "budget": '"500"',
    }
    listed = ", ".join(f'"{name}": {value}' for name, value in (data | changes).items())
    return line("TripRequested", f"{{{listed}}}")
