"""The log of a worker: one line a record, nothing secret, nothing that moves a cursor."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from attrs import frozen

from sagaflow import Secret
from sagaflow.commands.running.logs import logging_to
from sagaflow.commands.secrets import hide, keeping_secrets, redactor

FIELDS = {"service": "orders", "process": "orders-1"}
logger = logging.getLogger("shop")


@frozen
class Payment:
    card: Secret[str]


def fail(text: str) -> None:
    raise ValueError(text)


@contextmanager
def logged(*, in_json: bool, level: str = "info") -> Generator[io.StringIO]:
    sink = io.StringIO()
    with keeping_secrets():
        hide("nats://user:s3cret@h")
        with logging_to(sink, level=level, in_json=in_json, fields=FIELDS, redacted=redactor()):
            yield sink


def test_a_line_for_people() -> None:
    with logged(in_json=False) as sink:
        logger.info("paid %s", "\x1b[31m4\n5")
        logger.debug("not this")
    (line,) = sink.getvalue().splitlines()
    assert line.endswith("Z INFO orders-1 shop: paid \\x1b[31m4\\n5")


def test_a_traceback_stands_behind_its_line() -> None:
    with logged(in_json=False) as sink:
        try:
            fail("\x1b]0;s3cret")
        except ValueError:
            logger.exception("it failed")
    first, *rest = sink.getvalue().splitlines()
    assert first.endswith("ERROR orders-1 shop: it failed")
    assert rest[0] == "  Traceback (most recent call last):"
    assert rest[-1] == "  ValueError: \\x1b]0;***"


def test_a_line_for_programs() -> None:
    extra: dict[str, Any] = {
        "saga": "Order",
        "version": 2,
        "event": None,
        "payment": Payment("4000"),
        "ratio": float("nan"),
        "url": "nats://user:s3cret@h",
    }
    with logged(in_json=True) as sink:
        try:
            fail("s3cret")
        except ValueError:
            logger.exception("paid %s", "s3cret", extra=extra)
    (line,) = sink.getvalue().splitlines()
    found = json.loads(line)
    assert found.pop("time").endswith("Z")
    assert found.pop("error").endswith("ValueError: ***\n")
    assert found == {
        "level": "error",
        "logger": "shop",
        "message": "paid ***",
        **FIELDS,
        "saga": "Order",
        "version": 2,
        "payment": "Payment(card=<secret>)",
        "ratio": "nan",
        "url": "nats://user:***@h",
    }


def test_a_wrong_call_and_a_warning_are_logged_as_well() -> None:
    with logged(in_json=True) as sink:
        logger.info("%d orders", "no")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", DeprecationWarning, stacklevel=1)
    first, second = (json.loads(line) for line in sink.getvalue().splitlines())
    assert first["message"] == "%d orders ('no',)"
    assert "DeprecationWarning: old" in second["message"]


def test_the_log_is_as_before_afterwards() -> None:
    root = logging.getLogger()
    before = (root.level, root.handlers[:], warnings.showwarning)
    with logged(in_json=False, level="debug"):
        assert root.level == logging.DEBUG
    assert (root.level, root.handlers[:], warnings.showwarning) == before


@pytest.mark.parametrize("level", ["info", "error"])
def test_the_driver_is_quiet(level: str) -> None:
    with logged(in_json=False, level=level) as sink:
        logging.getLogger("pymongo.topology").info("a server was seen")
    assert sink.getvalue() == ""
