"""Whatever an exception or another object says, its text can be stored and logged."""

from __future__ import annotations

import io
import logging
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NoReturn

import pytest
from bson import encode
from hypothesis import given
from hypothesis import strategies as st

from sagaflow._model.log import Repeats, get_logger
from sagaflow._model.shown import shown
from sagaflow._model.texts import LINE, TRACEBACK, cleaned, line_of, name_of, text_of, traceback_of
from sagaflow.testing import ManualClock

ALL = st.text(st.characters(exclude_categories=()), max_size=60)


class Odd(type):
    """Makes classes that do not tell their names."""

    def __getattribute__(cls, name: str) -> object:
        if name in {"__name__", "__qualname__", "__module__"}:
            raise LookupError(name)
        return super().__getattribute__(name)


class SilentError(ValueError):
    def __str__(self) -> str:
        raise LookupError("no text")

    __repr__ = __str__


class CancellingError(ValueError):
    def __str__(self) -> str:
        raise BaseException("of a code that does not wait")  # noqa: TRY002

    __repr__ = __str__


class NumberError(ValueError):
    def __str__(self) -> Any:
        number: Any = 7
        return number

    __repr__ = __str__


class NamelessError(ValueError, metaclass=Odd):
    pass


class _Text(str):
    __slots__ = ()

    def __getitem__(self, key: object) -> NoReturn:
        raise LookupError("not to be cut")

    def __str__(self) -> NoReturn:
        raise LookupError("not to be shown")

    def encode(self, encoding: str = "", errors: str = "") -> NoReturn:
        raise LookupError("not to be encoded")


class SubclassError(ValueError):
    def __str__(self) -> str:
        return _Text("its own kind of text")


def _with_notes() -> Exception:
    error: Any = ValueError("has notes")
    error.__notes__ = [object(), "\udce9", SilentError()]
    return error  # type: ignore[no-any-return]


def _caused() -> Exception:
    error = ValueError("has a cause")
    error.__cause__ = SilentError()
    error.__context__ = error
    return error


ODD: dict[str, Exception] = {
    "half a character": ValueError("cannot read caf\udce9.txt"),
    "control characters": ValueError("a\0b\x1b[31mc\r\x9b"),
    "17 MB": ValueError("x" * 17_000_000),
    "17 MB of halves": ValueError("\udce9" * 17_000_000),
    "a text that raises": SilentError("x"),
    "a text that is no text": NumberError("x"),
    "a text of its own kind": SubclassError("x"),
    "a text that raises more than an exception": CancellingError("x"),
    "no name": NamelessError("x"),
    "a number without digits": ValueError(10**5000),
    "notes": _with_notes(),
    "a cause": _caused(),
    "a group": ExceptionGroup("\udce9", [SilentError(), NamelessError("y"), ValueError("\0")]),
    "nothing": ValueError(),
    "no syntax": SyntaxError("\udce9", ("\udce9", 1, 1, "\udce9\0", 1, 1)),
}


def raised(error: Exception) -> Exception:
    """Give an error a traceback."""
    try:
        raise error  # noqa: TRY301
    except Exception as exc:  # noqa: BLE001
        return exc


def is_clean(text: str) -> bool:
    """Tell whether a text can be stored, shown in a terminal and written to any log."""
    text.encode()
    return not any(c not in "\n\t" and (c < " " or "\x7f" <= c <= "\x9f") for c in text)


@pytest.mark.parametrize("error", ODD.values(), ids=ODD)
def test_every_error_has_texts(error: Exception) -> None:
    for text, most in (
        (text_of(error), LINE + 3),
        (line_of(error), LINE + 250),
        (traceback_of(raised(error)), TRACEBACK),
        (shown(error), 203),
    ):
        assert type(text) is str
        assert is_clean(text)
        assert len(text) <= most
        assert encode({"error": text})
    assert name_of(type(error)) in line_of(error)
    assert name_of(type(error)).rpartition(".")[2] in traceback_of(error)


@given(ALL)
def test_every_text_can_be_stored(text: str) -> None:
    for kept in (cleaned(text), traceback_of(raised(ValueError(text)))):
        assert is_clean(kept)
    if is_storable(text) and is_clean(text):
        assert cleaned(text) == text


def is_storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@given(ALL, st.integers(1, 30))
def test_text_is_as_long_as_it_may_be(text: str, most: int) -> None:
    kept = cleaned(text, most)
    assert len(kept) <= most + 3
    assert kept.startswith(cleaned(text, 10**6)[:most])


def test_what_is_cut_still_says_what_went_wrong() -> None:
    text = traceback_of(raised(ValueError("the order o-1 is unknown: " + "x" * 50_000)))
    assert text.startswith("ValueError: the order o-1 is unknown: xxx")

    def deeper(depth: int) -> int:
        return deeper(depth - 1) + 1 if depth else int("no number")

    chain: Exception = ValueError("at the bottom")
    for number in range(60):
        chain, before = ValueError(f"error {number}"), chain
        chain.__cause__ = before
    text = traceback_of(raised(chain))
    assert text.startswith("ValueError: error 59\n...")
    assert text.endswith("ValueError: error 59\n")  # the end of the traceback, where the cause is


def test_half_a_character_is_escaped_and_not_left_out() -> None:
    assert text_of(ODD["half a character"]) == "cannot read caf\\udce9.txt"
    assert text_of(ODD["control characters"]) == "a\\x00b\\x1b[31mc\\x0d\\x9b"
    assert line_of(ODD["nothing"]) == "ValueError"
    assert line_of(ODD["a text that raises"]) == "SilentError: <its text cannot be had>"


def test_end_of_the_program_is_no_text() -> None:
    class StopsError(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        text_of(StopsError())


# The log


@contextmanager
def written() -> Generator[io.BytesIO]:
    """Collect what a log file would hold."""
    collected = io.BytesIO()
    text = io.TextIOWrapper(collected, "utf-8", write_through=True)
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = get_logger("sagaflow.texts")
    logger.addHandler(handler)
    try:
        yield collected
    finally:
        logger.removeHandler(handler)
        text.detach()


class Unshown:
    def __repr__(self) -> str:
        raise LookupError


@pytest.mark.parametrize("error", ODD.values(), ids=ODD)
def test_every_error_is_logged(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    """A record whose text cannot be made or written is lost: `logging` says so on stderr."""
    logger = get_logger("sagaflow.texts")
    with written() as collected:
        logger.error("%s %r %r: %s", "Order", "o\x1b", Unshown(), error, exc_info=raised(error))
    text = collected.getvalue().decode()
    assert text.startswith("Order 'o\\x1b' a value of type Unshown: ")
    assert "raise error" in text or len(text_of(error)) > 1_000
    assert is_clean(text)
    assert len(text) < 20_000
    assert capsys.readouterr().err == ""


def test_error_itself_stays_with_its_record(caplog: pytest.LogCaptureFixture) -> None:
    error = raised(ValueError("x"))
    get_logger("sagaflow.texts").error("%d failed: %s", 2, error, exc_info=error)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert record.getMessage() == "2 failed: x"


# What is told again and again


def test_what_repeats_is_told_now_and_then_with_how_often_it_was_left_out() -> None:
    clock, repeats = ManualClock(), Repeats()
    assert [repeats.left_out("a", clock.now()) for _ in range(3)] == [0, None, None]
    assert repeats.left_out("b", clock.now()) == 0
    clock.advance(repeats.every - timedelta(seconds=1))
    assert repeats.left_out("a", clock.now()) is None
    assert repeats.count == 3
    clock.advance(timedelta(seconds=1))
    assert [repeats.left_out("a", clock.now()) for _ in range(2)] == [3, None]


def test_clock_that_goes_back_silences_nothing() -> None:
    clock, repeats = ManualClock(), Repeats()
    later = clock.now() + timedelta(days=1)
    assert repeats.left_out("a", later) == 0
    assert repeats.left_out("a", clock.now()) == 0


def test_few_topics_are_remembered() -> None:
    clock, repeats = ManualClock(), Repeats()
    for number in range(1_001):
        assert repeats.left_out(number, clock.now()) == 0
    assert repeats.left_out(1_000, clock.now()) is None
    assert repeats.left_out(0, clock.now()) == 0
