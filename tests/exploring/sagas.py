"""A small saga for each kind of mistake, and one that does it right."""

from __future__ import annotations

from datetime import timedelta

from attrs import frozen

from sagaflow import Context, Saga, State, compensates, during, during_any, initially


@frozen
class Begun:
    key: str = "k"


@frozen
class Left:
    key: str = "k"


@frozen
class Right:
    key: str = "k"


@frozen
class Stopped:
    key: str = "k"


@frozen
class Do:
    key: str = "k"


@frozen
class Undo:
    key: str = "k"


@frozen
class Help:
    key: str = "k"


def has_left(saga: Join, event: Right) -> bool:
    return saga.left


def has_right(saga: Join, event: Left) -> bool:
    return saga.right


class Join(Saga, correlate_by="key"):
    """Waits for two events, in either order."""

    waiting = State()
    done = State(final=True)
    left: bool = False
    right: bool = False

    begin = initially.on(Begun).goto(waiting)
    left_last = during(waiting).on(Left).when(has_right).goto(done)
    right_last = during(waiting).on(Right).when(has_left).goto(done)

    @during(waiting).on(Left).stay()
    def keep_left(self, event: Left, ctx: Context) -> None:
        self.left = True

    @during(waiting).on(Right).stay()
    def keep_right(self, event: Right, ctx: Context) -> None:
        self.right = True


class ForgetfulJoin(Join):
    """Does not look for the other event when the right one is the last."""

    @during(Join.waiting).on(Right).stay()
    def keep_right(self, event: Right, ctx: Context) -> None:
        self.right = True


class Deferring(Saga, correlate_by="key"):
    """Keeps an event that comes early, and takes it in each state that follows."""

    waiting = State()
    going = State()
    done = State(final=True)

    begin = initially.on(Begun).goto(waiting)
    early = during(waiting).on(Right).defer()
    go = during(waiting).on(Left).goto(going)
    end = during(going).on(Right).goto(done)


class Dropping(Deferring):
    """Keeps an event that comes early, and may end without it."""

    stop = during(Deferring.waiting).on(Stopped).goto(Deferring.done)


class Unprepared(Deferring):
    """Keeps an event that comes early, and then has no use for it."""

    other = State()
    go = during(Deferring.waiting).on(Left).goto(other)
    came_back = during(other).on(Stopped).goto(Deferring.going)


class Undoing(Saga, correlate_by="key"):
    """Does two things, and undoes them if it is stopped."""

    asked = State()
    doing = State()
    ready = State()
    done = State(final=True)
    failed = State(final=True)

    begin = initially.on(Begun).goto(asked)

    @during(asked).on(Left).goto(doing)
    def first(self, event: Left, ctx: Context) -> None:
        ctx.send(Do("first"))

    @compensates(first)
    def undo_first(self, event: Left, ctx: Context) -> None:
        ctx.send(Undo("first"))

    @during(doing).on(Right).goto(ready)
    def second(self, event: Right, ctx: Context) -> None:
        ctx.send(Do("second"))

    @compensates(second)
    def undo_second(self, event: Right, ctx: Context) -> None:
        ctx.send(Undo("second"))

    @during_any.on(Stopped).compensate().goto(failed)
    def stop(self, event: Stopped, ctx: Context) -> None:
        pass

    end = during(ready).after(timedelta(hours=2)).goto(done)


class Unundone(Undoing):
    """Fails without undoing anything, where others undo."""

    @during(Undoing.ready).on(Stopped).goto(Undoing.failed)
    def stop_at_once(self, event: Stopped, ctx: Context) -> None:
        pass


class UndoneTwice(Undoing):
    """Undoes by hand what is undone anyway."""

    def stop(self, event: Stopped, ctx: Context) -> None:
        if ctx.state == self.ready:
            ctx.send(Undo("second"))


class Unchecked(Saga, correlate_by="key"):
    """Counts on an order of events."""

    waiting = State()
    done = State(final=True)
    found: str | None = None

    begin = initially.on(Begun).goto(waiting)

    @during(waiting).on(Left).stay()
    def look(self, event: Left, ctx: Context) -> None:
        self.found = event.key

    @during(waiting).on(Right).goto(done)
    async def use(self, event: Right, ctx: Context) -> None:
        if self.found is None:
            raise LookupError("nothing was found")


class Checked(Unchecked):
    """Does not."""

    async def use(self, event: Right, ctx: Context) -> None:
        pass


class Asking(Saga, correlate_by="key"):
    """Asks somebody, and takes any answer."""

    asked = State()
    done = State(final=True)

    @initially.on(Begun).goto(asked)
    def ask(self, event: Begun, ctx: Context) -> None:
        ctx.send(Do())

    answered = during(asked).on(Left).goto(done)


class Patient(Asking):
    """Does not wait for the answer for ever."""

    @during(Asking.asked).after(timedelta(days=2)).goto(Asking.done)
    def give_up(self, ctx: Context) -> None:
        ctx.send(Help())


class Overdue(Asking, timeout=timedelta(days=1)):
    """Asks for an operator if there is no answer."""


class Scheduling(Saga, correlate_by="key"):
    """Reminds itself."""

    waiting = State()
    reminded = State()
    done = State(final=True)

    @initially.on(Begun).goto(waiting)
    def begin(self, event: Begun, ctx: Context) -> None:
        ctx.schedule(Left(event.key), after=timedelta(minutes=5), name="reminder")

    remind = during(waiting).on(Left).goto(reminded)
    end = during(reminded).on(Right).goto(done)


class ShortMemory(Saga, correlate_by="key", inbox_size=1):
    """Recognises only the last message when it is delivered again."""

    waiting = State()
    done = State(final=True)
    lefts: int = 0

    begin = initially.on(Begun).goto(waiting)

    @during(waiting).on(Left).stay()
    def count(self, event: Left, ctx: Context) -> None:
        self.lefts += 1

    look = during(waiting).on(Stopped).stay()
    end = during(waiting).on(Right).goto(done)


class LongMemory(ShortMemory, inbox_size=10):
    """Recognises every message."""
