"""What the tests of the examples share."""

from __future__ import annotations

import pytest

from tests.examples.support import Program


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str]) -> Program:
    """The program on asyncio, in memory."""
    return Program(capsys)
