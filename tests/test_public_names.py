from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_type_hints

import attrs
import pytest
import svcs

import sagaflow
import sagaflow.abc
import sagaflow.bus
import sagaflow.bus.wire
import sagaflow.diagrams
import sagaflow.exceptions
import sagaflow.kafka
import sagaflow.mongo
import sagaflow.nats
import sagaflow.observing
import sagaflow.otel
import sagaflow.rabbitmq
import sagaflow.redis
import sagaflow.testing
import sagaflow.worker
from sagaflow import (
    Context,
    Envelope,
    Instance,
    Limits,
    MemoryBus,
    MemoryRepository,
    Orchestrator,
    Outcome,
    OutcomeKind,
    RetryPolicy,
    Saga,
    SagaDefinitionError,
    SagaflowError,
    State,
    Status,
    during,
    during_any,
    initially,
)
from sagaflow._definition import chain, sources
from sagaflow.mongo import MongoRepository
from sagaflow.testing import (
    AsyncSagaTest,
    ManualClock,
    Participant,
    RepositoryContract,
    SagaTest,
)

MODULES = [
    sagaflow,
    sagaflow.bus,
    sagaflow.diagrams,
    sagaflow.exceptions,
    sagaflow.kafka,
    sagaflow.mongo,
    sagaflow.nats,
    sagaflow.rabbitmq,
    sagaflow.redis,
    sagaflow.testing,
]
# Of these, only what `__all__` lists is public.
PARTLY_PUBLIC = [
    sagaflow.abc,
    sagaflow.bus.wire,
    sagaflow.observing,
    sagaflow.otel,
    sagaflow.worker,
]
ALL_MODULES = [*MODULES, *PARTLY_PUBLIC]


@attrs.frozen
class Happened:
    pass


SAGA_TEST: type[SagaTest[Any]] = SagaTest
PARTICIPANT: type[Participant[Any]] = Participant
EVENT_CHAIN = during(State("here")).on(Happened)

# What the design fixes.
NAMES: list[tuple[ModuleType, str]] = [
    (sagaflow, "Saga State initially during during_any compensates Context"),
    (sagaflow, "Orchestrator Outcome OutcomeKind Instance MemoryBus Envelope MemoryRepository"),
    (sagaflow, "SystemClock SagaflowError SagaDefinitionError ConcurrencyError CompensationError"),
    (sagaflow, "SerializationError RepositoryError __version__"),
    (sagaflow.abc, "SagaRepository Bus Bookkeeping DocumentChange Document Lease Push"),
    (sagaflow, "MessageId SagaId"),
    (sagaflow.abc, "MessageId SagaId"),
    (sagaflow.bus.wire, "Wire WireMessage WireReason Binding"),
    (sagaflow.diagrams, "Diagram Trail Step diagram_of trail_of to_mermaid to_dot to_svg"),
    (sagaflow.kafka, "KafkaBus"),
    (sagaflow.mongo, "MongoBus MongoRepository"),
    (sagaflow.nats, "NatsBus"),
    (sagaflow.rabbitmq, "RabbitBus"),
    (sagaflow.redis, "RedisBus"),
    (sagaflow, "Observer Health"),
    (sagaflow.observing, "Activity ActivityKind Fact Observer Backlog Ended Retrying Suspended"),
    (sagaflow.observing, "BusCondition StoreFails StoreIsBack"),
    (sagaflow.otel, "OpenTelemetryObserver"),
    (sagaflow.worker, "Worker"),
    (sagaflow.testing, "ManualClock SagaTest AsyncSagaTest Participant RepositoryContract"),
    (sagaflow.testing, "BusContract"),
    (sagaflow.testing, "containing in_any_order"),
    (sagaflow.testing, "explore replay saga_state_machine Deliver Advance Retry"),
    (sagaflow.testing, "Exploration Finding FindingKind"),
]
MEMBERS: list[tuple[object, str]] = [
    (initially, "on"),
    (during(State("here")), "on after"),
    (during_any, "on after"),
    (EVENT_CHAIN, "when goto stay branch ignore defer compensate"),
    (EVENT_CHAIN.compensate(), "goto branch"),
    (during(State("here")).after(timedelta(1)), "goto stay branch compensate"),
    (type(Saga), "table"),
    (Context, "correlation_id message_id version state now services"),
    (Context, "send publish schedule cancel compensate add_compensation idempotency_key"),
    (Orchestrator, "find_by_state find_stale"),
    (Orchestrator, "health handle run_due find retry skip resume cancel __aenter__ __aexit__"),
    (Instance, "saga state status suspension version created_at updated_at finished_at"),
    (Instance, "history outbox timers compensations parked"),
    (Outcome, "kind saga_type correlation_id state version"),
    (OutcomeKind, "STARTED TRANSITIONED STAYED DUPLICATE IGNORED UNHANDLED FINISHED NOT_FOUND"),
    (OutcomeKind, "UNCORRELATED COMPENSATING DEFERRED SUSPENDED"),
    (Status, "ACTIVE COMPENSATING SUSPENDED FINISHED"),
    (MemoryBus, "subscribe publish"),
    (sagaflow.bus.wire.Wire, "encode decode name_of type_of takes names_for"),
    (Envelope, "body id correlation_id causation_id headers"),
    (ManualClock, "now advance"),
    (SagaTest, "given given_state when advance then on retry skip cancel clock"),
    (SagaTest, "instance saga state outcome sent published unanswered"),
    (AsyncSagaTest, "given given_state when advance then on retry skip cancel clock"),
    (Participant, "reply reply_twice never raises"),
    (RepositoryContract, "open runtime"),
    (MemoryRepository, "find find_by_state find_stale count_by_state delete create_indexes"),
    (MongoRepository, "find find_by_state find_stale count_by_state delete create_indexes connect"),
]
KEYWORDS: list[tuple[Any, str]] = [
    (State, "final"),
    (EVENT_CHAIN.when, "predicate"),
    (Orchestrator, "sagas repository bus services clock observers poll_interval lease_duration"),
    (Orchestrator.retry, "saga_type correlation_id wait"),
    (Orchestrator.skip, "saga_type correlation_id wait"),
    (Orchestrator.cancel, "saga_type correlation_id state wait"),
    (RetryPolicy, "initial_delay max_delay max_age"),
    (Limits, "max_outbox max_parked max_timers max_compensations max_bytes warn_bytes"),
    (Orchestrator.handle, "event correlation_id message_id headers saga_type"),
    (Context.send, "command"),
    (Context.publish, "event"),
    (Context.schedule, "event after at name"),
    (Context.cancel, "name"),
    (Context.idempotency_key, "name"),
    (sagaflow.bus.wire.Wire, "messages binding source max_bytes"),
    (MemoryBus.publish, "message correlation_id message_id headers"),
    (MemoryBus.subscribe, "envelope"),
    (MemoryRepository.find_stale, "saga_type older_than"),
    (MongoRepository.connect, "uri database"),
    (ManualClock, "start"),
    (SagaTest, "saga_type correlation_id clock repository services messages retry runtime"),
    (SAGA_TEST.given_state, "state saga completed"),
    (SAGA_TEST.when, "event message_id correlation_id raises match"),
    (SAGA_TEST.then, "holds exists state status outcome data sent published messages unanswered"),
    (SAGA_TEST.then, "scheduled timers parked compensated"),
    (PARTICIPANT.reply, "answer after"),
    (sagaflow.testing.explore, "saga events optional participants invariants nothing_to_undo"),
    (sagaflow.testing.explore, "faults depth budget services messages backend"),
    (sagaflow.testing.replay, "saga steps invariants nothing_to_undo nothing_else_comes"),
    (sagaflow.testing.saga_state_machine, "saga events optional participants invariants faults"),
]


def exported(module: ModuleType) -> list[str]:
    names: list[str] = module.__all__
    return names


def public_classes() -> Iterator[type]:
    """Yield every class that users meet: by name, or as a part of a chain."""
    found = [getattr(module, name) for module in ALL_MODULES for name in exported(module)]
    for module in (chain, sources):
        found += [value for name, value in vars(module).items() if not name.startswith("_")]
    for value in dict.fromkeys(v for v in found if inspect.isclass(v)):
        if value.__module__.startswith("sagaflow"):
            yield value


def public_members() -> Iterator[tuple[str, object]]:
    """Yield every method and property of these classes that is not private."""
    for owner in public_classes():
        for name, value in vars(owner).items():
            given: object = getattr(value, "__func__", value)
            if not name.startswith("_") and (
                inspect.isfunction(given) or isinstance(given, property)
            ):
                yield f"{owner.__module__}.{owner.__qualname__}.{name}", getattr(owner, name)


@pytest.mark.parametrize("module", ALL_MODULES, ids=lambda module: module.__name__)
def test_exported_names_are_sorted_and_there(module: ModuleType) -> None:
    names = exported(module)
    assert names == sorted(set(names))
    assert [name for name in names if not hasattr(module, name)] == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_nothing_is_public_by_accident(module: ModuleType) -> None:
    # pytest rewrites the assertions of packages that bring a plugin; its names begin with "@".
    names = {name for name in vars(module) if not name.startswith(("_", "@"))}
    submodules = {n for n in names if getattr(module, n).__class__ is ModuleType}
    found = names - submodules - {"annotations"}
    assert found == {name for name in exported(module) if not name.startswith("_")}
    foreign = {n for n in submodules if getattr(module, n).__name__ != f"{module.__name__}.{n}"}
    assert foreign == set()


def test_star_import_gives_the_exported_names() -> None:
    namespace: dict[str, object] = {}
    exec("from sagaflow import *", namespace)  # noqa: S102
    assert sorted(namespace.keys() - {"__builtins__"}) == exported(sagaflow)


def test_facade_has_every_error() -> None:
    assert set(exported(sagaflow.exceptions)) <= set(exported(sagaflow))
    defined = {n for n, v in vars(sagaflow.exceptions).items() if inspect.isclass(v)}
    assert {n for n in defined if not n.startswith("_")} == set(exported(sagaflow.exceptions))


def test_every_error_belongs_to_the_family() -> None:
    errors = [getattr(sagaflow.exceptions, name) for name in exported(sagaflow.exceptions)]
    assert [error for error in errors if not issubclass(error, SagaflowError)] == []
    assert issubclass(SagaDefinitionError, TypeError)


@pytest.mark.parametrize(("module", "names"), NAMES)
def test_module_has_the_fixed_names(module: ModuleType, names: str) -> None:
    assert set(names.split()) <= set(exported(module))


@pytest.mark.parametrize(("owner", "names"), MEMBERS)
def test_object_has_the_fixed_members(owner: object, names: str) -> None:
    assert [name for name in names.split() if not hasattr(owner, name)] == []


@pytest.mark.parametrize(("function", "names"), KEYWORDS)
def test_function_takes_the_fixed_parameters(function: Any, names: str) -> None:
    assert [n for n in names.split() if n not in inspect.signature(function).parameters] == []


@pytest.mark.parametrize("module", ALL_MODULES, ids=lambda module: module.__name__)
def test_every_public_name_says_what_it_is_for(module: ModuleType) -> None:
    assert inspect.getdoc(module)
    for name in exported(module):
        value = getattr(module, name)
        if inspect.isclass(value) and value.__module__.startswith("sagaflow"):
            # Not one that it inherits.
            assert value.__dict__.get("__doc__"), name
        elif inspect.isfunction(value):
            assert value.__doc__, name


@pytest.mark.parametrize("name", ["MessageId", "SagaId", "during_any", "initially"])
def test_every_public_value_says_what_it_is_for(name: str) -> None:
    """A value has no docstring of its own: a string under it is what editors show."""
    paths = Path(sagaflow.__file__).parent.rglob("*.py")
    source = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    assert re.search(rf'^{name}: (Final|TypeAlias) = .+\n"""\w', source, re.MULTILINE)


def test_public_functions_and_values_say_where_they_are_imported_from() -> None:
    found: dict[str, object] = {}
    for module in MODULES:
        for name in exported(module):
            value = getattr(module, name)
            if inspect.isfunction(value):
                found[f"{module.__name__}.{name}"] = f"{value.__module__}.{value.__qualname__}"
            elif isinstance(value, sources.Source):
                found[name] = repr(value)
    assert {"sagaflow.during", "sagaflow.testing.explore", "during_any"} <= set(found)
    assert {name: shown for name, shown in found.items() if name != shown} == {}
    assert repr(during(State("here"), State("there"))) == "during(here, there)"


def test_errors_are_named_by_their_public_module() -> None:
    errors = [getattr(sagaflow.exceptions, name) for name in exported(sagaflow.exceptions)]
    assert {error.__module__ for error in errors} == {"sagaflow.exceptions"}


def test_no_text_for_users_names_a_private_module() -> None:
    package = Path(sagaflow.__file__).parent
    found = [
        (path.name, node.value)
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if "sagaflow._" in node.value
    ]
    assert found == []


def test_every_public_member_says_what_it_does() -> None:
    members = dict(public_members())
    assert len(members) > 50
    assert [name for name, member in members.items() if not inspect.getdoc(member)] == []


def signatures() -> Iterator[tuple[str, object]]:
    """Yield every public class and function, and what classes can do, their constructors too."""
    for module in ALL_MODULES:
        for name in exported(module):
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                yield f"{module.__name__}.{name}", value
    yield from public_members()
    for owner in public_classes():
        if "__init__" in vars(owner):
            yield f"{owner.__module__}.{owner.__qualname__}.__init__", vars(owner)["__init__"]


def test_types_of_every_public_name_can_be_looked_at_while_a_program_runs() -> None:
    """Which brings svcs along at last: whoever asks for the types wants its classes, too."""
    found: dict[str, object] = {}
    for name, value in signatures():
        asked = value.fget if isinstance(value, property) else value
        found |= {f"{name}.{what}": hint for what, hint in get_type_hints(asked).items()}
    assert found["sagaflow.Context._services"] == svcs.Container | None
    assert found["sagaflow.orchestrator.Orchestrator.__init__.services"] == svcs.Registry | None
    assert len(found) > 500


def test_port_exports_all_that_its_signatures_name() -> None:
    ports = [
        node
        for node in ast.parse(inspect.getsource(sagaflow.abc)).body
        if isinstance(node, ast.ClassDef) and node.name in ("SagaRepository", "Bus")
    ]
    methods = [
        member
        for port in ports
        for member in port.body
        if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef)
        and (member.name == "__init__" or not member.name.startswith("_"))
    ]
    hints = [
        hint
        for method in methods
        for hint in (
            method.returns,
            *(a.annotation for a in ast.walk(method.args) if isinstance(a, ast.arg)),
        )
        if hint is not None
    ]
    named = {name.id for hint in hints for name in ast.walk(hint) if isinstance(name, ast.Name)}
    ours = {
        name
        for name in named
        if getattr(value := vars(sagaflow.abc).get(name), "__module__", "").startswith("sagaflow")
        and not isinstance(value, TypeVar)
    }
    assert {"DocumentChange", "Lease", "Instance"} <= ours
    assert ours <= {*exported(sagaflow.abc), *exported(sagaflow)}


def test_examples_use_public_names_alone() -> None:
    public = {module.__name__: set(exported(module)) for module in ALL_MODULES}
    found: list[tuple[str, str]] = []
    for page in (Path(__file__).parent.parent / "examples").rglob("*.py"):
        for node in ast.walk(ast.parse(page.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found += [(alias.name, "") for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found += [(node.module or "", alias.name) for alias in node.names]
    ours = [(module, name) for module, name in found if module.startswith("sagaflow")]
    assert ("sagaflow.abc", "DocumentChange") in ours
    assert [(module, n) for module, n in ours if n not in public.get(module, ())] == []
