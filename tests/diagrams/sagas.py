"""A saga with all that is hard to draw."""

from __future__ import annotations

from datetime import timedelta

from attrs import frozen

from sagaflow import Context, Saga, State, compensates, during, during_any, initially


@frozen
class Begun:
    number: str


@frozen
class Again:
    number: str


@frozen
class Back:
    number: str


@frozen
class Next:
    number: str


@frozen
class AnEventWithANameThatIsLongerThanAnybodyWouldLikeToReadInAPicture:
    number: str


def is_a_predicate_with_a_rather_long_name(saga: object, event: object) -> bool:
    return True


class Hard(Saga, correlate_by="number", name="Hard"):
    first = State('a <b> & "c" \\ [state]: with; #odd % characters')
    second = State()
    third = State()
    ended = State(final=True)

    begin = initially.on(Begun).goto(first)
    loop = during(first).on(Again).when(is_a_predicate_with_a_rather_long_name).goto(first)

    @during(first).on(Again).goto(second)
    def fall(self, event: Again, ctx: Context) -> None:
        pass

    @compensates(fall)
    def rise(self, event: Again, ctx: Context) -> None:
        pass

    on = during(second).on(Next).goto(third)
    back = during(third).on(Back).goto(first)
    half_back = during(second).on(Back).goto(first)
    keep = (
        during(second)
        .on(AnEventWithANameThatIsLongerThanAnybodyWouldLikeToReadInAPicture, Begun)
        .stay()
    )
    turn = (
        during(third)
        .on(AnEventWithANameThatIsLongerThanAnybodyWouldLikeToReadInAPicture)
        .compensate()
        .goto(ended)
    )
    wait = during(third).on(Again).defer()
    late = during(ended).on(Next).ignore()
    stale = during_any.after(timedelta(days=1, hours=2)).goto(ended)
    note = during_any.on(Begun).stay()
