from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, ClassVar, Generic, TypeVar

import attrs
import pytest
from attrs import define, field, fields_dict

from sagaflow import Context, Saga, State, compensates, during, during_any, initially
from sagaflow._definition.table import Action
from tests.definition.support import Cancelled, Paid, PaidByCard, Shipped, Started, row, steps

T = TypeVar("T")


class Order(Saga):
    unpaid = State()
    paid = State()
    done = State(final=True)

    amount: int = 0
    notes: list[str] = field(factory=list[str])

    @initially.on(Started).goto(unpaid)
    def place(self, event: Started, ctx: Context) -> None:
        self.notes.append("placed")

    @during(unpaid).on(Paid).goto(paid)
    def pay(self, event: Paid, ctx: Context) -> None:
        self.amount += event.amount

    @compensates(pay)
    def refund(self, event: Paid, ctx: Context) -> None:
        self.amount -= event.amount

    ship = during(paid).on(Shipped).goto(done)
    cancel = during_any.on(Cancelled).compensate().goto(done)


def context() -> Context:
    return Context(
        correlation_id="o-1",
        message_id="m-1",
        version=0,
        state=None,
        now=datetime(2030, 1, 1, tzinfo=UTC),
        saga="Order",
    )


def test_subclass_inherits_states_transitions_and_compensations() -> None:
    class WebOrder(Order):
        pass

    assert WebOrder.table.states == Order.table.states
    assert WebOrder.table.rows == Order.table.rows
    assert WebOrder.table.compensations == Order.table.compensations
    assert WebOrder.table.saga == "WebOrder"


def test_undecorated_override_keeps_the_transition() -> None:
    class WebOrder(Order):
        def pay(self, event: Paid, ctx: Context) -> None:
            self.notes.append("paid on the web")

    assert WebOrder.table.rows == Order.table.rows
    assert WebOrder.table.compensations == {"pay": "refund"}


def test_override_reaches_the_inherited_handler_through_super() -> None:
    class WebOrder(Order):
        def pay(self, event: Paid, ctx: Context) -> None:
            super().pay(event, ctx)
            self.notes.append("paid on the web")

    order = WebOrder()
    order.pay(Paid(amount=3), context())
    assert (order.amount, order.notes) == (3, ["paid on the web"])


def test_override_with_more_parameters_is_kept_if_they_have_defaults() -> None:
    class WebOrder(Order):
        def pay(self, event: Paid, ctx: Context, note: str = "") -> None: ...

    assert WebOrder.table.rows == Order.table.rows


def test_named_transition_may_be_given_code_by_a_method_of_that_name() -> None:
    class WebOrder(Order):
        def ship(self, event: Shipped, ctx: Context) -> None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
            self.notes.append("shipped")

    assert WebOrder.table.rows == Order.table.rows


def test_decorated_override_replaces_every_transition_of_the_step() -> None:
    class WebOrder(Order):
        partly_paid = State()

        @during(Order.unpaid).on(PaidByCard).goto(partly_paid)
        def pay(self, event: Paid, ctx: Context) -> None: ...

        rest = during(partly_paid).on(Paid).goto(Order.paid)

    assert steps(WebOrder, "unpaid", Paid) == []
    assert steps(WebOrder, "unpaid", PaidByCard) == ["pay"]
    assert row(WebOrder, "pay").targets == (WebOrder.partly_paid,)


def test_transition_of_the_subclass_replaces_the_inherited_one_for_state_and_event() -> None:
    class WebOrder(Order):
        pay_on_the_web = during(Order.unpaid).on(Paid).goto(Order.paid)

    assert steps(WebOrder, "unpaid", Paid) == ["pay_on_the_web"]
    assert steps(Order, "unpaid", Paid) == ["pay"]


def test_guarded_transition_of_the_subclass_replaces_the_inherited_one_too() -> None:
    class WebOrder(Order):
        small = during(Order.unpaid).on(Paid).when(lambda _, e: e.amount < 10).goto(Order.paid)
        large = during(Order.unpaid).on(Paid).goto(Order.paid)

    assert steps(WebOrder, "unpaid", Paid) == ["small", "large"]


def test_start_of_the_subclass_replaces_the_inherited_one() -> None:
    class WebOrder(Order):
        place_on_the_web = initially.on(Started).goto(Order.unpaid)

    assert steps(WebOrder, None, Started) == ["place_on_the_web"]


def test_during_any_of_the_subclass_replaces_only_during_any() -> None:
    class Base(Saga):
        waiting = State()
        packed = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        pack = during(waiting).on(Paid).goto(packed)
        cancel = during_any.on(Cancelled).goto(done)
        unpack = during(packed).on(Cancelled).goto(waiting)

    class Child(Base):
        abort = during_any.on(Cancelled).compensate().goto(Base.done)

    assert steps(Child, "waiting", Cancelled) == ["abort"]
    assert steps(Child, "packed", Cancelled) == ["unpack", "abort"]


def test_inherited_during_any_covers_the_states_of_the_subclass() -> None:
    class WebOrder(Order):
        packed = State()
        pack = during(Order.paid).on(PaidByCard).goto(packed)

    assert steps(WebOrder, "packed", Cancelled) == ["cancel"]


def test_subclass_adds_states_transitions_and_data() -> None:
    class WebOrder(Order):
        packed = State()
        browser: str | None = None
        pack = during(Order.paid).on(PaidByCard).goto(packed)
        send = during(packed).on(Shipped).goto(Order.done)

    assert WebOrder.table.states == (*Order.table.states, WebOrder.packed)
    assert [row.step for row in WebOrder.table.rows][-2:] == ["pack", "send"]
    assert list(fields_dict(WebOrder)) == ["amount", "notes", "browser"]


def test_subclass_may_declare_a_state_anew() -> None:
    class WebOrder(Order):
        paid = State(final=True)
        ship = during(paid).on(Shipped).ignore()
        archive = during(Order.unpaid).on(PaidByCard).goto(Order.done)

    paid = WebOrder.table.state("paid")
    assert paid is WebOrder.paid
    assert WebOrder.paid.final
    assert row(WebOrder, "pay").targets[0].final
    assert steps(WebOrder, "paid", Cancelled) == []
    assert not Order.paid.final


def test_base_may_be_abstract_and_leave_the_states_to_its_subclasses() -> None:
    class Base(Saga, correlate_by="key"):
        notes: list[str] = field(factory=list[str])
        reminded = during_any.on(Shipped).stay()

        def note(self, text: str) -> None:
            self.notes.append(text)

    class Child(Base):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        end = during(waiting).on(Paid).goto(done)

    assert Base.table.states == Base.table.rows == ()
    assert steps(Child, "waiting", Shipped) == ["reminded"]
    assert row(Child, "reminded").action is Action.STAY
    child = Child()
    child.note("hello")
    assert child.notes == ["hello"]


def test_inheritance_may_go_over_several_classes() -> None:
    class WebOrder(Order):
        def pay(self, event: Paid, ctx: Context) -> None:
            self.notes.append("web")
            super().pay(event, ctx)

    class MobileOrder(WebOrder):
        def pay(self, event: Paid, ctx: Context) -> None:
            self.notes.append("mobile")
            super().pay(event, ctx)

    order = MobileOrder()
    order.pay(Paid(amount=2), context())
    assert (order.notes, order.amount) == (["mobile", "web"], 2)
    assert MobileOrder.table.rows == Order.table.rows


def test_first_base_wins_over_the_second() -> None:
    class Left(Saga):
        reminded = during_any.on(Shipped).stay()

    class Right(Saga):
        noted = during_any.on(Shipped).stay()
        asked = during_any.on(Paid).stay()

    class Both(Left, Right):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        end = during(waiting).on(Cancelled).goto(done)

    assert steps(Both, "waiting", Shipped) == ["reminded"]
    assert steps(Both, "waiting", Paid) == ["asked"]


def test_diamond_is_resolved_in_method_resolution_order() -> None:
    class Left(Order):
        pass

    class Right(Order):
        pay_on_the_right = during(Order.unpaid).on(Paid).goto(Order.paid)

    class Both(Left, Right):
        pass

    assert steps(Both, "unpaid", Paid) == ["pay_on_the_right"]


def test_mixin_that_is_no_saga_adds_states_transitions_and_compensations() -> None:
    class Returnable:
        __slots__ = ()
        returned = State(final=True)

        @during_any.on(PaidByCard).goto(returned)
        def take_back(self, event: PaidByCard, ctx: Context) -> None: ...

        sent_twice = during_any.on(Shipped).stay()

        @compensates(sent_twice)
        def collect(self, event: Shipped, ctx: Context) -> None: ...

    class WebOrder(Returnable, Order):
        pass

    assert WebOrder.table.states == (*Order.table.states, Returnable.returned)
    assert steps(WebOrder, "paid", PaidByCard) == ["take_back"]
    assert WebOrder.table.compensations == {"pay": "refund", "sent_twice": "collect"}


def test_transitions_of_a_mixin_are_inherited_through_a_saga() -> None:
    class Reminding:
        reminded = during_any.on(PaidByCard).stay()

    class WebOrder(Reminding, Order):
        pass

    class MobileOrder(WebOrder):
        pass

    assert steps(MobileOrder, "paid", PaidByCard) == ["reminded"]


def test_mixin_may_rely_on_data_of_the_saga_and_declare_constants() -> None:
    class Noting:
        limit: ClassVar[int] = 3
        notes: list[str]

        def note(self, text: str) -> None:
            self.notes.append(text)

    class WebOrder(Noting, Order):
        pass

    order = WebOrder()
    order.note("hello")
    assert order.notes == ["hello"]
    assert list(fields_dict(WebOrder)) == ["amount", "notes"]


def test_attrs_class_as_a_base_brings_its_fields() -> None:
    @define(kw_only=True)
    class Audited:
        auditor: str | None = None

    class Parcel(Audited, Saga):
        done = State(final=True)
        number: int = 0
        start = initially.on(Started).goto(done)

    make: Any = Parcel  # mypy knows the fields of bases that are sagas only
    assert make(auditor="me", number=7).auditor == "me"
    assert list(fields_dict(Parcel)) == ["auditor", "number"]


def test_base_may_be_generic() -> None:
    class Base(Saga, Generic[T]):
        reminded = during_any.on(Shipped).stay()

        def echo(self, value: T) -> T:
            return value

    class Child(Base[int]):
        done = State(final=True)
        start = initially.on(Started).goto(done)

    assert Child().echo(3) == 3


def test_handlers_of_base_and_subclass_may_be_called_in_a_unit_test() -> None:
    class WebOrder(Order):
        pass

    order = WebOrder(amount=5)
    order.refund(Paid(amount=2), context())
    assert order.amount == 3


def test_properties_and_methods_of_a_subclass_are_no_data() -> None:
    class WebOrder(Order):
        @property
        def is_paid(self) -> bool:
            return self.amount > 0

        @staticmethod
        def currency() -> str:
            return "EUR"

        @classmethod
        def empty(cls) -> WebOrder:
            return cls()

    assert not WebOrder.empty().is_paid
    assert [a.name for a in attrs.fields(WebOrder)] == ["amount", "notes"]
    with pytest.raises(TypeError):
        WebOrder(currency="USD")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
