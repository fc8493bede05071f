"""A saga that does everything a harness has to show."""

from __future__ import annotations

from datetime import timedelta

from attrs import field, frozen

from sagaflow import Context, Saga, State, compensates, during, during_any, initially


@frozen
class Hired:
    job: str


@frozen
class Asked:
    """Says nowhere which job it is about."""

    what: str


@frozen
class Reminded:
    job: str
    times: int


@frozen
class Broken:
    job: str
    error: str


@frozen
class Finished:
    job: str


@frozen
class CalledOff:
    job: str


@frozen
class Early:
    job: str


@frozen
class Remind:
    job: str


@frozen
class Dismiss:
    job: str


@frozen
class Welcomed:
    job: str


@frozen
class Echo:
    """Published by the saga, and taken by it."""

    job: str


class Job(Saga, correlate_by="job"):
    working = State()
    resting = State()
    done = State(final=True)
    gone = State(final=True)

    job: str = ""
    heard: list[str] = field(factory=list[str])
    failures: int = 0

    @initially.on(Hired).goto(working)
    def hire(self, event: Hired, ctx: Context) -> None:
        self.job = event.job
        ctx.publish(Welcomed(event.job))
        ctx.schedule(Reminded(event.job, 1), after=timedelta(days=1))
        ctx.add_compensation(self.apologise, "sorry")

    @compensates(hire)
    def dismiss(self, event: Hired, ctx: Context) -> None:
        self.heard.append("dismissed")
        ctx.send(Dismiss(event.job))

    def apologise(self, word: str, ctx: Context) -> None:
        """Undo what cannot be undone: fails as often as the saga says."""
        if self.failures:
            raise ConnectionError("nobody answers the phone")
        self.heard.append(word)

    @during(working, resting).on(Reminded).stay()
    def remind(self, event: Reminded, ctx: Context) -> None:
        self.heard.append(f"reminded {event.times}")
        ctx.send(Remind(self.job))
        if event.times < 3:
            ctx.schedule(Reminded(self.job, event.times + 1), after=timedelta(days=1))

    @during_any.on(Asked).stay()
    async def answer(self, event: Asked, ctx: Context) -> None:
        self.heard.append(event.what)
        if event.what == "echo":
            ctx.publish(Echo(self.job))

    @during_any.on(Echo).stay()
    def hear(self, event: Echo, ctx: Context) -> None:
        self.heard.append("echo heard")

    @during(working).on(Broken).stay()
    def fail(self, event: Broken, ctx: Context) -> None:
        if event.error:
            raise ValueError(event.error)
        self.failures = 1

    @during(working).after(timedelta(days=2)).goto(resting)
    def rest(self, ctx: Context) -> None:
        self.heard.append("tired")

    early = during(working).on(Early).defer()
    wake = during(resting).on(Early).goto(working)
    finish = during(working).on(Finished).goto(done)
    call_off = during_any.on(CalledOff).compensate().goto(gone)


class Patient(Saga, correlate_by="job", timeout=timedelta(hours=1)):
    waiting = State()
    over = State(final=True)

    start = initially.on(Hired).goto(waiting)
    end = during(waiting).on(Finished).goto(over)
