"""A worker is killed, and goes on within two seconds once it is started again."""

from __future__ import annotations

import time

from tests.commands.workers import AT_WORK, Workers

GOES_ON: float = 2
"""Seconds; without its name, a worker would wait for its leases of 10 seconds."""


def test_a_message_that_was_being_handled(workers: Workers) -> None:
    options = ("--owner", "w", "--runtime", "trio")
    worker = workers.at_work("working:hanging", *options)
    workers.place("o-1")
    workers.written("begun o-1")
    worker.process.kill()
    worker.end()
    worker = workers.at_work("working:hanging", *options)
    began = time.monotonic()
    assert workers.charged("o-1") == "w"
    took = time.monotonic() - began
    print(f"goes on {took:.2f} s after it is at work")
    assert took < GOES_ON


def test_an_order_whose_messages_were_not_sent(workers: Workers) -> None:
    """The process is killed between the write and the bus; the one beside it starts it again."""
    worker = workers.begin("working:killing", "--owner", "w", "--processes", "2")
    worker.until(AT_WORK)
    worker.until(AT_WORK)
    workers.place("o-1")
    killed = worker.until("has ended by itself (SIGKILL)").split()[4]
    ended = time.monotonic()
    worker.until(AT_WORK, killed)
    began = time.monotonic()
    workers.charged("o-1")
    took = time.monotonic() - began
    print(f"at work {began - ended:.2f} s after the kill, goes on {took:.2f} s later")
    assert took < GOES_ON
    assert worker.stop() == 0
