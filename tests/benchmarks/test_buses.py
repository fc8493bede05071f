"""The suite of buses on very little: with a NATS server of its own, and others where they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from attrs import evolve
from click.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks.buses import in_memory, planned
from benchmarks.buses.bare import BARE
from benchmarks.buses.planned import ASYNCHRONOUS, COMPUTING, COST, DELAY, ORDERS, PLAIN
from benchmarks.buses.servers import SERVERS, AbsentError, Server
from benchmarks.contests import EARLIER, NOW, Contest, Sizes
from benchmarks.output import BUSES, markdown, parts
from benchmarks.results import Entry
from benchmarks.runner import hold
from benchmarks.targets import BUS_TARGETS, judged
from tests.benchmarks.support import DEFAULT, entry, results

TINY = Sizes(scale=0.0)
NATS = planned.title("nats")


@pytest.fixture(scope="module")
def brokers() -> Iterator[dict[str, str]]:
    """The URI of a NATS server."""
    try:
        with SERVERS["nats"].ready() as uri:
            yield {"nats": uri}
    except AbsentError as exc:
        pytest.skip(str(exc))


def contest(scenario: str, *names: str) -> Contest:
    """Return a contest of the plan with these contestants, or with all of them."""
    (found,) = (one for one in planned.bus_contests(TINY, "commit x") if one.scenario == scenario)
    chosen = tuple(one for one in found.contestants if not names or one.name in names)
    return evolve(found, contestants=chosen, most_runs=1)


def held(found: Contest, uri: str | None, brokers: Mapping[str, str]) -> list[Entry]:
    """Return what a contest came to; nobody has failed."""
    entries, _ = hold(found, runs=2, uri=uri, report=lambda _: None, brokers=brokers)
    assert [one.failure for one in entries if not one.missing] == [""] * len(entries)
    assert [len(one.runs) for one in entries] == [1] * len(entries)
    return entries


@pytest.mark.parametrize(
    ("scenario", "metrics"),
    [
        (ORDERS, {"orders_one", "orders_two", "message_one", "message_two"}),
        (COMPUTING, {"handled_one", "handled_two", "gain"}),
        (DELAY, {"beside", "apart"}),
    ],
)
def test_workers_over_a_broker(
    scenario: str, metrics: set[str], mongodb_uri: str, brokers: dict[str, str]
) -> None:
    (found,) = held(contest(scenario, NATS), mongodb_uri, brokers)
    (run,) = found.runs
    assert run.keys() == metrics
    assert min(run.values()) > 0


def test_orders_within_a_process(mongodb_uri: str) -> None:
    (found,) = held(contest(ORDERS, "MemoryBus"), mongodb_uri, {})
    assert found.runs[0].keys() == {"orders_one", "message_one"}


def test_messages_over_the_database(mongodb_uri: str) -> None:
    (found,) = held(contest(COST, planned.title("mongodb")), mongodb_uri, {})
    assert found.runs[0]["message_cpu"] > 0


@pytest.mark.parametrize("name", BARE)
def test_a_bus_beside_the_client_alone(name: str, brokers: dict[str, str]) -> None:
    try:
        with SERVERS[name].ready() as uri:
            beside = contest(COST, planned.title(name), planned.bare_title(name))
            found = held(beside, None, {**brokers, name: uri})
    except AbsentError as exc:
        pytest.skip(str(exc))
    assert [one.contestant for one in found] == [planned.title(name), planned.bare_title(name)]
    assert all(one.runs[0]["message_cpu"] > 0 for one in found)


def test_messages_in_memory() -> None:
    for measure in (in_memory.plain, in_memory.asynchronous):
        assert measure(number=5).metrics["message_cpu"] > 0


@pytest.mark.parametrize("given", ["nats", "nats=", "pigeons=nats://localhost"])
def test_a_broker_is_given_by_a_known_name_and_its_uri(given: str) -> None:
    done = CliRunner().invoke(command.main, ["run", f"--broker={given}"])
    assert done.exit_code == 2
    assert "it is NAME=URI, with a name of kafka, nats, rabbitmq, redis." in done.output


def test_a_broker_that_cannot_be_had_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise AbsentError("needs a server that nobody has")

    monkeypatch.setitem(SERVERS, "nats", Server("NatsBus", "nats-py", missing))  # type: ignore[arg-type]
    (found,) = hold(contest(DELAY, NATS), runs=1, uri="nowhere", report=lambda _: None)[0]
    assert (found.failure, found.missing) == ("needs a server that nobody has", True)


def test_targets_are_those_of_the_issue_and_judged_within_one_run() -> None:
    one = (1.0,)
    measured = results(
        entry("buses", COST, NATS, message_cpu=(150.0,)),
        entry("buses", COST, planned.bare_title("nats"), message_cpu=(100.0,)),
        entry("buses", DELAY, NATS, beside=(4.9,), apart=(100.0,)),
        entry("buses", COMPUTING, NATS, handled_one=one, handled_two=one, gain=(1.49,)),
        *(
            entry("buses", scenario, name, message_cpu=(cpu,))
            for scenario, cpu in ((PLAIN, 10.0), (ASYNCHRONOUS, 10.1))
            for name, cpu in ((NOW, cpu), (EARLIER, 10.0))
        ),
    )
    known = [target for target in judged(measured, BUS_TARGETS) if target.met is not None]
    assert [(target.measured, target.met) for target in known] == [
        (1.5, True),
        (4.9, True),
        (100.0, False),
        (1.49, False),
        (1.0, True),
        (1.01, False),
    ]
    text = markdown(measured)
    assert text.startswith("## Targets: buses")
    assert "## Targets\n" not in text


def test_buses_have_a_place_of_their_own_and_fewer_runs() -> None:
    bus = Entry(suite="buses", scenario=DELAY, contestant=NATS, runs=({"beside": 1.0},))
    measured = results(*DEFAULT, bus)
    assert [one.contestant for one in parts(measured)[BUSES].entries] == [NATS]
    assert "the median of 1 to 3 runs" in markdown(measured)
    assert "the median of 1 run " in markdown(parts(measured)[BUSES])
