"""Imports point downwards only; those for typing only and those in functions count, too."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

# From the bottom up: a module imports from lower layers only. The facade has the name "".
LAYERS: list[set[str]] = [
    {"redaction", "_texts"},
    {"_new", "_shown", "_instants"},
    {"exceptions", "_definition", "_engine", "_codec", "commands", "demo", "inspection"},
    {"_strangers", "ids", "clock", "policy", "_definition.origin"},
    {"envelope", "_codec.reading", "_log", "_definition.state", "_definition.messages"},
    {"context", "_definition.table", "_definition.arguments"},
    {"_codec.declared", "_codec.form", "_codec.size", "_codec.values"},
    {"_codec.collections", "_codec.scalars"},
    {"_codec.instances"},
    {"_codec.sameness"},
    {"_codec.unions"},
    {"_codec.forms"},
    {"_codec.kept"},
    {"record"},
    {"_loops", "room", "survey", "mongo.uris"},
    {"_definition.chain", "_definition.graph"},
    {"_definition.timeout", "_definition.migrations"},
    {"_definition.sources"},
    {"_definition.build"},
    {"_definition.body"},
    {"_definition.evolution"},
    {"_definition.saga"},
    {"outcome", "instance"},
    {"_engine.backoff", "_engine.correlation", "_engine.work"},
    {"_engine.decision", "_engine.writing"},
    {"_engine.conclusion"},
    {"_engine.failure"},
    {"_codec.elements"},
    {"observing"},
    {"_codec.data", "_codec.documents", "_codec.messages"},
    {"_codec.upgrade"},
    {"diagrams.text", "diagrams.order", "diagrams.model"},
    {"diagrams.layout", "diagrams.mermaid", "diagrams.dot", "diagrams.trail"},
    {"diagrams.svg"},
    {"diagrams"},
    {"inspection.finding", "inspection.shown"},
    {"inspection.definition", "inspection.compatibility", "inspection.explanation"},
    {"mongo.indexes", "mongo.survey"},
    {"abc", "aside", "hot", "trace"},
    {
        "memory",
        "bus",
        "commits",
        "handling",
        "mongo.batches",
        "mongo.drivers",
        "mongo.embedded",
        "lanes",
        "sagas",
    },
    {"leases", "offers", "refusals", "removals", "mongo.errors", "mongo.statements"},
    {"mailbox"},
    {"mongo.writes"},
    {
        "mongo.repository",
        "health",
        "relay",
        "workers",
        "working",
    },
    {"deciding", "operations"},
    {"processing"},
    {"orchestrator", "mongo", "otel"},
    {
        "testing._clock",
        "testing._contract.records",
        "testing._expected",
        "testing._participants",
    },
    {"testing._contract.kit"},
    {
        "testing._contract.copies",
        "testing._contract.documents",
        "testing._contract.ids",
        "testing._contract.queries",
        "testing._contract.simultaneous",
        "testing._contract.surveys",
        "testing._contract.transitions",
        "testing._contract.work",
    },
    {"testing._contract"},
    {"testing._stage"},
    {"testing._report"},
    {"testing._checks"},
    {"testing._saga_test"},
    {"testing._exploring"},
    {"testing._exploring.instruments", "testing._exploring.source", "testing._exploring.steps"},
    {"testing._exploring.examples", "testing._exploring.findings", "testing._exploring.world"},
    {"testing._exploring.process"},
    {"testing._exploring.runner"},
    {"testing._exploring.checks"},
    {"testing._exploring.telling"},
    {"testing._exploring.search"},
    {"testing._exploring.explore", "testing._exploring.rules"},
    {"testing._exploring.machine"},
    {"testing"},
    {""},
    {"demo.example", "demo.plan", "demo.server"},
    {"demo.books", "demo.settings"},
    {"demo.participants", "demo.reconcile", "demo.record"},
    {"demo.shop"},
    {"demo.worker"},
    {"demo.crash"},
    {"demo.run"},
    {"demo.report"},
    {"commands.ids", "commands.secrets", "commands.output", "commands.targets"},
    {"commands.connection", "commands.options"},
    {"commands.damaged"},
    {
        "commands.check",
        "commands.demo",
        "commands.explain",
        "commands.graph",
        "commands.indexes",
        "commands.ls",
        "commands.operate",
        "commands.show",
        "commands.stats",
    },
    {"cli"},
    {"__main__"},
]
LAYER_OF = {module: number for number, modules in enumerate(LAYERS) for module in modules}
KNOWS_ASYNCIO = "_strangers"
"""Only asyncio can tell whether its `Task.cancel` was called: anyio knows its own scopes only."""
DRIVERS = {"pymongo", "motor", "secantus", "secantusdb"}
IMPURE = {"anyio", "asyncio", "random", "time"}
PURE = {"_definition", "_engine", "diagrams", "inspection", "survey"}


@cache
def sources() -> dict[str, str]:
    """Return the text of every module of the package, by its name without `sagaflow.`."""
    spec = find_spec("sagaflow")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    found: dict[str, str] = {}
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


def faults(modules: Mapping[str, str]) -> Iterator[str]:
    """Yield every import that points in the wrong direction."""
    for module, text in modules.items():
        if module not in LAYER_OF:
            yield f"{module} has no layer"
            continue
        package = module.partition(".")[0]
        for imported in imports(text):
            root, _, rest = imported.partition(".")
            if root == "":
                yield f"{module} has a relative import, {imported}"
            elif imported == "sagaflow":
                yield f"{module} imports the facade"
            elif root == "sagaflow":
                known = rest in modules or "." not in rest
                target = rest if known else rest.rpartition(".")[0]
                if LAYER_OF.get(target, len(LAYERS)) >= LAYER_OF[module]:
                    yield f"{module} imports {target}, which is not below it"
            elif root in DRIVERS and package != "mongo":
                yield f"{module} imports a driver, {root}"
            elif root == "asyncio" and package != "mongo" and module != KNOWS_ASYNCIO:
                yield f"{module} imports asyncio"
            elif root in IMPURE and package in PURE:
                yield f"{module} is pure but imports {root}"


def test_module_that_knows_asyncio_exists() -> None:
    assert "import asyncio" in sources()[KNOWS_ASYNCIO]


def test_imports_point_downwards_only() -> None:
    assert list(faults(sources())) == []


def test_no_module_has_two_layers() -> None:
    assert sum(map(len, LAYERS)) == len(LAYER_OF)


@pytest.mark.parametrize(
    ("module", "text", "fault"),
    [
        ("_engine.decision", "import sagaflow.orchestrator", "orchestrator, which is not below"),
        ("_engine.decision", "from sagaflow.orchestrator import Orchestrator", "is not below it"),
        ("_codec.values", "from sagaflow import orchestrator", "imports the facade"),
        ("context", "from sagaflow._definition import saga", "_definition.saga, which is not"),
        ("outcome", "from sagaflow.instance import Instance", "instance, which is not below it"),
        ("record", "from sagaflow.record import SagaRecord", "record, which is not below it"),
        ("orchestrator", "import sagaflow", "imports the facade"),
        ("cli", "from sagaflow import Saga", "imports the facade"),
        ("cli", "def main():\n    import sagaflow as s", "imports the facade"),
        ("cli", "from sagaflow import *", "imports the facade"),
        ("cli", "import sagaflow.no_such_module", "which is not below it"),
        ("ids", "if TYPE_CHECKING:\n    from sagaflow.record import X", "record, which is not"),
        ("ids", "def f():\n    from sagaflow.record import X", "record, which is not below it"),
        ("ids", "from . import record", "has a relative import"),
        ("_definition.saga", "import anyio", "is pure but imports anyio"),
        ("_definition.saga", "from time import monotonic", "is pure but imports time"),
        ("_engine.backoff", "import random", "is pure but imports random"),
        ("_engine.backoff", "import anyio.abc", "is pure but imports anyio"),
        ("_engine.backoff", "import asyncio", "imports asyncio"),
        ("diagrams.layout", "import random", "is pure but imports random"),
        ("inspection.explanation", "import time", "is pure but imports time"),
        ("orchestrator", "import asyncio", "imports asyncio"),
        ("bus", "async def f():\n    from asyncio import sleep", "imports asyncio"),
        ("memory", "from pymongo import MongoClient", "imports a driver, pymongo"),
        ("demo.run", "import motor.motor_asyncio", "imports a driver, motor"),
        ("_definition.graph", "import secantus", "imports a driver, secantus"),
        ("brand_new", "", "has no layer"),
        ("mongo.brand_new", "", "has no layer"),
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
    ],
)
def test_import_that_is_allowed(module: str, text: str) -> None:
    assert list(faults({**sources(), module: text})) == []
