from __future__ import annotations

from dataclasses import dataclass

from attrs import frozen

from sagaflow import Saga, State, during, initially
from tests.definition.support import Cancelled, Paid, PaidByCard, PaidByDebitCard, Shipped, Started


def key_of(event: Paid) -> str:
    return event.key


def other_key_of(event: object) -> str:
    return repr(event)


def test_by_names_an_attribute_of_the_event() -> None:
    class Order(Saga):
        done = State(final=True)
        start = initially.on(Started, by="key").goto(done)

    assert Order.table.correlator(Started) == "key"


def test_by_may_be_a_callable() -> None:
    class Order(Saga):
        done = State(final=True)
        start = initially.on(Paid, by=key_of).goto(done)

    assert Order.table.correlator(Paid) is key_of


def test_by_holds_for_every_event_of_its_chain() -> None:
    class Order(Saga):
        done = State(final=True)
        start = initially.on(Started, Paid, by="key").goto(done)

    assert Order.table.correlators == {Started: "key", Paid: "key"}


def test_by_holds_for_the_event_in_every_other_chain() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        pay = during(waiting).on(Paid).goto(done)
        late = during(done).on(Paid, by="key").ignore()

    assert Order.table.correlators == {Paid: "key"}


def test_by_that_is_repeated_is_no_contradiction() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        pay = during(waiting).on(Paid, by=key_of).goto(done)
        late = during(done).on(Paid, by=key_of).ignore()

    assert Order.table.correlator(Paid) is key_of


def test_by_of_the_most_specific_class_holds() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        pay = during(waiting).on(Paid, by="key").goto(done)
        pay_by_card = during(waiting).on(PaidByCard, by=key_of).goto(done)

    assert Order.table.correlator(Paid) == "key"
    assert Order.table.correlator(PaidByCard) is key_of
    assert Order.table.correlator(PaidByDebitCard) is key_of


def test_by_wins_over_the_class_keyword() -> None:
    class Order(Saga, correlate_by="key"):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started).goto(waiting)
        pay = during(waiting).on(Paid, by=key_of).goto(done)

    assert Order.table.correlator(Started) == "key"
    assert Order.table.correlator(Paid) is key_of


def test_event_without_by_and_class_keyword_has_no_correlator() -> None:
    class Order(Saga):
        done = State(final=True)
        start = initially.on(Started).goto(done)

    assert Order.table.correlator(Started) is None


def test_by_of_a_subclass_replaces_the_inherited_one() -> None:
    class Order(Saga):
        waiting = State()
        done = State(final=True)
        start = initially.on(Started, by="key").goto(waiting)
        pay = during(waiting).on(Paid, by=key_of).goto(done)

    class WebOrder(Order):
        cancel = during(Order.waiting).on(Cancelled, by="key").goto(Order.done)
        late = during(Order.done).on(Paid, by=other_key_of).ignore()

    assert WebOrder.table.correlators == {Started: "key", Paid: other_key_of, Cancelled: "key"}
    assert Order.table.correlators == {Started: "key", Paid: key_of}


def test_by_may_name_a_field_of_a_dataclass() -> None:
    @dataclass
    class Mailed:
        reference: str

    class Order(Saga):
        done = State(final=True)
        start = initially.on(Mailed, by="reference").goto(done)

    assert Order.table.correlator(Mailed) == "reference"


def test_by_may_name_a_property() -> None:
    @frozen
    class Mailed:
        address: str

        @property
        def reference(self) -> str:
            return self.address

    class Order(Saga):
        done = State(final=True)
        start = initially.on(Mailed, by="reference").goto(done)

    assert Order.table.correlator(Mailed) == "reference"


def test_by_is_taken_on_trust_for_a_class_whose_attributes_are_not_declared() -> None:
    class Mailed:
        def __init__(self, reference: str) -> None:
            self.reference = reference

    class Order(Saga):
        done = State(final=True)
        start = initially.on(Mailed, by="reference").goto(done)

    assert Order.table.correlator(Mailed) == "reference"


def test_events_of_another_saga_have_no_correlator_here() -> None:
    class Order(Saga):
        done = State(final=True)
        start = initially.on(Started, by="key").goto(done)

    assert Order.table.correlator(Shipped) is None
