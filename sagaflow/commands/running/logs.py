"""What a worker logs: a line for people, or one JSON object a line for programs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from attrs import define

from sagaflow._model.shown import shown
from sagaflow._model.texts import cleaned, text_of, traceback_of
from sagaflow.commands.output import plain

LEVELS: Final = ("debug", "info", "warning", "error")
_MOST: Final = 16_000
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_PLAIN: Final = (str, int, float, bool)


@contextmanager
def logging_to(
    sink: TextIO,
    *,
    level: str,
    in_json: bool,
    fields: Mapping[str, str],
    redacted: Callable[[str], str],
) -> Generator[None]:
    """Write all that is logged, and all warnings, to *sink* within the block.

    :param fields: what each line says of the process.
    :param redacted: leaves secrets out of a text.
    """
    handler = logging.StreamHandler(sink)
    lines = _Lines(fields, redacted)
    handler.setFormatter(_Formatter(lines.in_json if in_json else lines.for_people))
    root = logging.getLogger()
    before, others = root.level, root.handlers[:]
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(capture=True)
    # The driver logs each server and command that it knows of; its warnings are worth reading.
    driver = logging.getLogger("pymongo")
    driver_before = driver.level
    driver.setLevel(max(root.level, logging.WARNING))
    try:
        yield
    finally:
        logging.captureWarnings(capture=False)
        driver.setLevel(driver_before)
        root.setLevel(before)
        root.handlers[:] = others


class _Formatter(logging.Formatter):
    def __init__(self, line: Callable[[logging.LogRecord], str]) -> None:
        super().__init__()
        self._line = line

    def format(self, record: logging.LogRecord) -> str:
        return self._line(record)


@define
class _Lines:
    """Makes lines of records.

    :ivar fields: what each line says of the process.
    """

    fields: Mapping[str, str]
    redacted: Callable[[str], str]

    def for_people(self, record: logging.LogRecord) -> str:
        """Return one line, and those of a traceback behind it."""
        head = f"{_time(record)} {record.levelname} {self.fields['process']} {record.name}"
        line = f"{head}: {plain(self._message(record))}"
        error = self._error(record)
        behind = "" if error is None else "".join(f"\n  {plain(x)}" for x in error.splitlines())
        return line + behind

    def in_json(self, record: logging.LogRecord) -> str:
        """Return one JSON object, in one line."""
        said: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self._message(record),
            **self.fields,
        }
        for name, value in vars(record).items():
            if name not in _OWN and name not in said and value is not None:
                said[name] = self.redacted(value) if isinstance(value, str) else _scalar(value)
        error = self._error(record)
        if error is not None:
            said["error"] = error
        return json.dumps(said, ensure_ascii=True)

    def _message(self, record: logging.LogRecord) -> str:
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - a wrong call of a logger must not hide that it was made
            text = f"{text_of(record.msg)} {shown(record.args)}"
        return self.redacted(cleaned(text, _MOST))

    def _error(self, record: logging.LogRecord) -> str | None:
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return None
        return self.redacted(record.exc_text or traceback_of(error, _MOST))


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _scalar(value: Any) -> object:
    is_plain = isinstance(value, _PLAIN) and value == value  # noqa: PLR0124 - NaN is no JSON
    return value if is_plain else shown(value)
