"""The house: imports between rooms point downwards only, and run in no circle anywhere.

A room is a folder or a module directly in the package. Imports for typing only and those in
functions count, too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import pytest

# From the ground up: a room imports from lower floors only. The facade has the name "".
FLOORS: list[set[str]] = [
    {"_model"},
    {"_concurrency", "_forms", "exceptions"},
    {"_definition"},
    {"_codec", "_engine"},
    {"abc", "diagrams", "inspection", "observing"},
    {"_runtime", "bus", "memory", "otel"},
    {"kafka", "mongo", "nats", "orchestrator", "rabbitmq", "redis", "worker"},
    {"", "testing"},
    {"demo"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
DRIVERS = {
    **dict.fromkeys(("pymongo", "motor", "secantus", "secantusdb"), "mongo"),
    "confluent_kafka": "kafka",
    "nats": "nats",
    "pika": "rabbitmq",
    "redis": "redis",
}
"""Which room may import a driver."""
ADAPTERS = set(DRIVERS.values())
IMPURE = {"anyio", "asyncio", "random", "time"}
PURE = {"_definition", "_engine", "_forms", "_model", "diagrams", "inspection"}
KNOW_ASYNCIO = ("_concurrency.cancellation", "_concurrency.single_cancellation")
"""Of the core only: anyio does not tell what `asyncio.Task.cancel` has asked for, and cancels more
often than clients written for asyncio bear."""
MOST_FLOORS = 12
MOST_ENTRIES = 29
"""Directly in the package, those for Python and for checkers included."""


def package() -> Path:
    spec = find_spec("sagaflow")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


@cache
def sources() -> dict[str, str]:
    """Return the text of every module of the package, by its name without `sagaflow.`."""
    root, found = package(), dict[str, str]()
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[0] != "examples":  # the wheel carries them along; they are users of the facade
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = path.read_text(encoding="utf-8")
    return found


@cache
def imports(text: str) -> list[str]:
    """Return the full name of everything that *text* imports."""
    found: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names = [f"{module}.{alias.name}" for alias in node.names]
            found += [module] if module == "sagaflow" else names
    return found


def module_of(imported: str, modules: Mapping[str, str]) -> str:
    """Return the module of the package that holds an imported name."""
    name = imported.removeprefix("sagaflow.")
    return name if name in modules or "." not in name else name.rpartition(".")[0]


def room_of(module: str) -> str:
    return module.partition(".")[0]


def faults(modules: Mapping[str, str]) -> Iterator[str]:
    """Yield every import that points in the wrong direction."""
    for module, text in modules.items():
        room = room_of(module)
        if room not in FLOOR_OF:
            yield f"{module} is in no room that has a floor"
            continue
        for imported in imports(text):
            root = imported.partition(".")[0]
            if root == "":
                yield f"{module} has a relative import, {imported}"
            elif imported == "sagaflow":
                yield f"{module} imports the facade"
            elif root == "sagaflow":
                target = room_of(module_of(imported, modules))
                if target != room and FLOOR_OF.get(target, len(FLOORS)) >= FLOOR_OF[room]:
                    yield f"{module} imports {imported}, which is not below it"
            elif root in DRIVERS and room != DRIVERS[root]:
                yield f"{module} imports a driver, {root}"
            elif root == "asyncio" and room not in ADAPTERS and module not in KNOW_ASYNCIO:
                yield f"{module} imports asyncio"
            elif root in IMPURE and room in PURE:
                yield f"{module} is pure but imports {root}"


def needs(modules: Mapping[str, str]) -> dict[str, set[str]]:
    """Return which modules of the package each module imports."""
    return {
        module: {
            module_of(imported, modules)
            for imported in imports(text)
            if imported.startswith("sagaflow.")
        }
        for module, text in modules.items()
    }


def circle(modules: Mapping[str, str]) -> list[str]:
    """Return modules that import one another in a circle, if there are such."""
    try:
        TopologicalSorter(needs(modules)).prepare()
    except CycleError as exc:
        found: list[str] = exc.args[1]
        return found
    return []


def test_imports_point_downwards_only() -> None:
    assert list(faults(sources())) == []


def test_no_modules_import_one_another_in_a_circle() -> None:
    assert circle(sources()) == []


def test_house_is_no_higher_than_a_person_can_climb() -> None:
    assert len(FLOORS) <= MOST_FLOORS
    assert sum(map(len, FLOORS)) == len(FLOOR_OF)
    assert set(FLOOR_OF) == {room_of(module) for module in sources()}


def test_few_things_stand_directly_in_the_package() -> None:
    entries = [path.name for path in package().iterdir() if path.name != "__pycache__"]
    assert len([name for name in entries if name != "examples"]) <= MOST_ENTRIES, sorted(entries)


@pytest.mark.parametrize(
    ("module", "text", "fault"),
    [
        ("_engine.decision", "import sagaflow.orchestrator", "orchestrator, which is not below"),
        ("_engine.decision", "from sagaflow.orchestrator import Orchestrator", "is not below it"),
        ("_engine.decision", "from sagaflow._codec.data import x", "_codec.data.x, which is not"),
        ("_codec.values", "from sagaflow import orchestrator", "imports the facade"),
        ("_model.ids", "from sagaflow._definition import saga", "_definition.saga, which is not"),
        ("memory", "from sagaflow.mongo import MongoRepository", "which is not below it"),
        ("orchestrator", "import sagaflow", "imports the facade"),
        ("cli", "from sagaflow import Saga", "imports the facade"),
        ("cli", "def main():\n    import sagaflow as s", "imports the facade"),
        ("cli", "from sagaflow import *", "imports the facade"),
        ("cli", "import sagaflow.no_such_module", "which is not below it"),
        ("_model.ids", "if TYPE_CHECKING:\n    from sagaflow.abc import X", "abc.X, which is not"),
        ("_model.ids", "def f():\n    from sagaflow.abc import X", "abc.X, which is not below"),
        ("_model.ids", "from . import record", "has a relative import"),
        ("_definition.saga", "import anyio", "is pure but imports anyio"),
        ("_definition.saga", "from time import monotonic", "is pure but imports time"),
        ("_engine.backoff", "import random", "is pure but imports random"),
        ("_engine.backoff", "import anyio.abc", "is pure but imports anyio"),
        ("_engine.backoff", "import asyncio", "imports asyncio"),
        ("diagrams.layout", "import random", "is pure but imports random"),
        ("inspection.explanation", "import time", "is pure but imports time"),
        ("orchestrator", "import asyncio", "imports asyncio"),
        ("bus.memory", "async def f():\n    from asyncio import sleep", "imports asyncio"),
        ("memory", "from pymongo import MongoClient", "imports a driver, pymongo"),
        ("demo.run", "import motor.motor_asyncio", "imports a driver, motor"),
        ("_definition.graph", "import secantus", "imports a driver, secantus"),
        ("brand_new", "", "is in no room"),
    ],
)
def test_fault_is_found(module: str, text: str, fault: str) -> None:
    (found,) = faults({**sources(), module: text})
    assert found.startswith(module)
    assert fault in found


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("mongo.drivers", "import pymongo.errors, motor.motor_asyncio, asyncio"),
        ("orchestrator", "import random\nfrom sagaflow._definition import saga, state"),
        ("cli", "from sagaflow.orchestrator import Orchestrator"),
        ("", "from sagaflow.orchestrator import Orchestrator as Orchestrator"),
        ("_model.brand_new", "from sagaflow._model.ids import SagaId"),
    ],
)
def test_import_that_is_allowed(module: str, text: str) -> None:
    assert list(faults({**sources(), module: text})) == []


def test_circle_is_found() -> None:
    text = "from sagaflow._model.record import SagaRecord\n"
    assert {"_model.ids", "_model.record"} <= set(circle({**sources(), "_model.ids": text}))
