"""Data never becomes code: nothing in the package could turn the one into the other."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.test_architecture import sources

MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "copyreg",
    "cloudpickle",
    "dill",
    "shelve",
    "marshal",
    "importlib",
    "imp",
    "pkgutil",
    "runpy",
    "code",
    "codeop",
    "yaml",
    "subprocess",
    "ctypes",
}
CALLS = {"eval", "exec", "compile", "__import__", "globals", "import_module", "exec_module"}
ALLOWED = {
    ("", "importlib.metadata"),  # its own version
    ("_codec.layout", "exec"),  # what encodes its own classes, made of the names of their fields
    ("_model.late", "importlib"),  # svcs, Hypothesis: named in the code, imported when used
    ("_model.late", "import_module"),
    ("_model.value", "exec"),  # what makes its own values, made of the names of their fields
    ("_model.value", "compile"),
    ("cli", "importlib"),  # its own commands, each imported when it is used
    ("cli", "import_module"),
    ("commands.running.buses", "importlib"),  # the client of a scheme in its own table
    ("commands.running.buses", "import_module"),
    ("commands.running.supervising", "subprocess"),  # this interpreter, with a module of its own
    ("commands.targets", "importlib"),  # the module that the user of a command names
    ("commands.targets", "import_module"),
    ("demo.example", "exec_module"),
    ("demo.example", "importlib.util"),  # the example that comes with the package
    ("demo.run", "importlib.util"),  # whether an optional package is there
    ("mongo.embedded", "importlib.util"),
    ("rabbitmq.amqp", "importlib"),  # the client, named in the code, imported when used
    ("rabbitmq.amqp", "import_module"),
    ("demo.brokers", "subprocess"),  # a server that is installed, with arguments of its own
    ("demo.ends_with_parent", "runpy"),  # the package's own command line
    ("demo.over_broker", "subprocess"),  # this interpreter, with arguments of its own
    ("demo.crash", "subprocess"),  # this interpreter, with arguments of its own
    ("mongo.embedded", "subprocess"),
}
"""What a module may do after all: none of it with what a bus or a database said."""


def faults(module: str, text: str) -> Iterator[str]:
    """Yield every way in which *text* could run what it read."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if name in CALLS and not _is_method_of_re(node.func) and (module, name) not in ALLOWED:
                yield f"{module} calls {name}()"
            continue
        else:
            continue
        for name in names:
            root = name.partition(".")[0]
            if root in MODULES and not {(module, root), (module, name)} & ALLOWED:
                yield f"{module} imports {name}"


def _is_method_of_re(function: ast.expr) -> bool:
    """Tell whether it is `re.compile`."""
    return isinstance(function, ast.Attribute) and ast.unparse(function) == "re.compile"


def test_package_cannot_run_what_it_reads() -> None:
    assert [fault for module, text in sources().items() for fault in faults(module, text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from pickle import loads",
        "def f():\n    import importlib.util",
        "if TYPE_CHECKING:\n    from marshal import loads",
        "eval(stored)",
        "exec(stored)",
        "__import__(stored)",
        "builtins.eval(stored)",
        "compile(stored, '', 'eval')",
        "util.import_module(stored)",
    ],
)
def test_fault_is_found(text: str) -> None:
    (fault,) = faults("_codec.messages", text)
    assert fault.startswith("_codec.messages ")


def test_what_is_allowed_is_no_fault() -> None:
    assert list(faults("_codec.messages", "import re\nre.compile('a')")) == []
    assert list(faults("cli", "import importlib")) == []
