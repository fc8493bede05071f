"""The order saga of the examples: the demo runs the file that a user would write."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from sagaflow._model.errors import SagaflowError

__all__ = ["DIRECTORIES", "OrderSaga", "load", "orders"]

_PACKAGE = Path(__file__).parents[1]

DIRECTORIES = (_PACKAGE / "examples", _PACKAGE.parent / "examples")
"""Where the examples are: within an installed package, beside it in a source checkout."""


def load(name: str, directories: tuple[Path, ...] = DIRECTORIES) -> ModuleType:
    """Import the example *name* from the first of *directories* that has it.

    :raises SagaflowError: if none of them has it.
    """
    path = next((found for d in directories if (found := d / f"{name}.py").is_file()), None)
    spec = None if path is None else spec_from_file_location(f"sagaflow.demo.{name}", path)
    if spec is None or spec.loader is None:
        raise SagaflowError(
            f"the example {name}.py is missing from {' and '.join(map(str, directories))}: "
            "install sagaflow again"
        )
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # the annotations of its classes are resolved there
    spec.loader.exec_module(module)
    return module


if TYPE_CHECKING:
    from examples import orders
else:
    orders = load("orders")

OrderSaga = orders.OrderSaga
"""What the demo stores, for the commands: ``sagaflow ls sagaflow.demo.example:OrderSaga``."""
