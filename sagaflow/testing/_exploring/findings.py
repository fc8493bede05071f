"""What an exploration has found: the shortest path to each mistake."""

from __future__ import annotations

import warnings
from enum import Enum

from attrs import frozen

from sagaflow.testing._exploring.steps import Step


class FindingKind(Enum):
    """What is wrong with a path."""

    STUCK = "stuck"
    """The saga has not ended, and nothing that is still to come leads on."""
    LOST_EVENT = "lost event"
    """An event was accepted, and then neither handled nor kept."""
    COMPENSATION = "compensation"
    """A completed step was not undone, or more than once, or out of order."""
    INVARIANT = "invariant"
    """A predicate that the user has given does not hold."""
    ERROR = "error"
    """A method raised that was not told to."""


@frozen
class Happened:
    """A step of a path, and what became of it.

    :ivar said: what became of it.
    :ivar time: what the passing of time means here.
    :ivar again: whether it is a second delivery.
    """

    step: Step
    said: str
    time: str = ""
    again: bool = False


@frozen(kw_only=True)
class Finding:
    """A mistake, and the shortest path to it.

    :ivar kind: what is wrong.
    :ivar problem: what is wrong, in a sentence.
    :ivar path: the steps that lead there.
    :ivar told: the same in words, and what became of each.
    :ivar history: the saga's history at the end, one write a line.
    :ivar sent: the messages that were sent, in order.
    :ivar paths: how many of the explored paths end like this.
    :ivar snippet: a test that fails as long as the mistake is there.
    """

    kind: FindingKind
    problem: str
    path: tuple[Step, ...]
    told: tuple[str, ...]
    history: tuple[str, ...]
    sent: tuple[object, ...]
    paths: int
    snippet: str

    def __str__(self) -> str:
        steps = f"{len(self.path)} step{'s' * (len(self.path) != 1)}"
        parts = [
            f"{self.kind.value}: {self.problem}",
            f"  shortest path, {steps} (of {self.paths} that end like this):",
            *(f"    {number}. {line}" for number, line in enumerate(self.told, 1)),
            "  history:",
            *(f"    {line}" for line in self.history or ("nothing was stored",)),
            "  sent:",
            *(f"    {message!r}" for message in self.sent or ("nothing",)),
            "  as a test:",
            "",
            self.snippet,
        ]
        return "\n".join(parts)


@frozen(kw_only=True)
class Exploration:
    """What was explored, and what was found.

    :ivar saga: the name of the saga class.
    :ivar findings: one for each mistake, with the shortest path to it; the shortest first.
    :ivar paths: how many histories were run to their last step.
    :ivar worlds: how many different situations they led to.
    :ivar finished: in how many of them the saga had ended.
    :ivar too_long: how many situations were not looked beyond, since *depth* was reached.
    :ivar left: how many were waiting to be explored when the *budget* was used up.
    :ivar budget: how many histories were allowed.
    :ivar depth: how many steps a history may have.
    :ivar made_up: events without an example, for which one was made from its fields.
    """

    saga: str
    findings: tuple[Finding, ...]
    paths: int
    worlds: int
    finished: int
    too_long: int = 0
    left: int = 0
    budget: int
    depth: int
    made_up: tuple[object, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether everything was explored that can happen within *depth* steps."""
        return self.left == 0

    def check(self) -> None:
        """Do nothing if nothing was found; a budget that was used up is a warning.

        :raises AssertionError: with all findings, the shortest path first.
        """
        if self.findings:
            raise AssertionError(str(self))
        if not self.is_complete:
            warnings.warn(self._cut(), stacklevel=2)

    def __str__(self) -> str:
        found = f"{len(self.findings)} finding{'s' * (len(self.findings) != 1)}"
        summary = (
            f"{self.saga}: {found} in {self.paths} paths, {self.worlds} situations, of which "
            f"{self.finished} are at their end"
        )
        lines = [summary, *(f"made up: {event!r}" for event in self.made_up)]
        if self.too_long:
            lines.append(f"{self.too_long} situations at depth={self.depth} were not looked beyond")
        if not self.is_complete:
            lines.append(self._cut())
        return "\n\n".join(["\n".join(lines), *map(str, self.findings)])

    def _cut(self) -> str:
        return (
            f"{self.saga} was not explored to the end: budget={self.budget} paths are used up, and "
            f"{self.left} situations wait; give a larger budget, or a smaller depth"
        )
