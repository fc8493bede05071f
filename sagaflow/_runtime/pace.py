"""How long the parts of an orchestrator wait for one another."""

from __future__ import annotations

from datetime import timedelta

from attrs import frozen


@frozen(kw_only=True)
class Pace:
    """Spans that are no setting, since no program is better for another value; tests are.

    :ivar longest_turn: after which the next event of a saga need not wait any longer for a handler,
        so that handlers which wait for one another cannot do so for ever.
    :ivar batch: how long events that share a write wait for the handler of the next one.
    :ivar resolution: for how long an unknown outcome of a write is looked into.
    """

    longest_turn: timedelta = timedelta(seconds=1)
    batch: timedelta = timedelta(milliseconds=50)
    resolution: timedelta = timedelta(seconds=30)
