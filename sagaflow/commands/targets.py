"""Saga classes by name: ``MODULE:CLASS``, as the command line says, never as data does."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, cast

from sagaflow._definition.saga import Saga
from sagaflow._model.errors import SagaflowError


def load_saga(target: str) -> type[Saga]:
    """Import the one saga class that *target* names.

    :param target: ``MODULE:CLASS``, or ``MODULE`` if it has one saga.
    :raises SagaflowError: if there is none, or several.
    """
    first, *others = load_sagas(target)
    if others:
        names = " or ".join(f"{target}:{saga.__name__}" for saga in (first, *others))
        raise SagaflowError(f"{target} has several sagas: say {names}")
    return first


def load_sagas(target: str) -> tuple[type[Saga], ...]:
    """Import the saga classes that *target* names.

    :param target: ``MODULE:CLASS``, or ``MODULE`` for every saga in it.
    :raises SagaflowError: if it cannot be imported, or has no such saga.
    """
    module, name = _split(target)
    if name:
        found = _load(module, name)
        if not _is_saga(found):
            raise SagaflowError(f"{target} is no saga class with transitions")
        return (cast("type[Saga]", found),)
    values = vars(_import(module)).values()
    sagas: tuple[type[Saga], ...] = tuple(dict.fromkeys(v for v in values if _is_saga(v)))
    if not sagas:
        raise SagaflowError(f"{module} has no saga class: name the module that defines it")
    return sagas


def load_application(
    target: str,
) -> tuple[tuple[type[Saga], ...], Callable[..., object] | None]:
    """Import what a worker is to run: the sagas, or the factory that says what they are.

    :param target: ``MODULE`` for every saga in it, ``MODULE:CLASS`` for one, or ``MODULE:FACTORY``.
    :raises SagaflowError: if it cannot be imported, or is none of these.
    """
    module, name = _split(target)
    found = _load(module, name) if name else None
    if not name or _is_saga(found):
        return load_sagas(target), None
    if isinstance(found, type) or not callable(found):
        raise SagaflowError(
            f"{target} is neither a saga class with transitions nor a function that sets a "
            "worker up"
        )
    return (), found


def load_messages(target: str | None) -> Iterable[type] | Mapping[str, type]:
    """Import what an orchestrator is given as ``messages=``.

    :param target: ``MODULE:NAME`` of a collection of classes, or of a mapping of names to them.
    :raises SagaflowError: if it is neither.
    """
    if target is None:
        return ()
    module, name = _split(target)
    found: Any = _load(module, name) if name else None
    if not isinstance(found, Iterable) or not all(
        isinstance(cls, type) for cls in _values(cast("Iterable[object]", found))
    ):
        raise SagaflowError(f"{target} is no collection of message classes: MODULE:NAME of one")
    return cast("Iterable[type] | Mapping[str, type]", found)


def _values(found: Iterable[object]) -> Iterable[object]:
    return cast("Mapping[str, object]", found).values() if isinstance(found, Mapping) else found


def _split(target: str) -> tuple[str, str]:
    module, _, name = target.partition(":")
    if module.endswith(".py") or os.sep in module:
        dotted = module.removesuffix(".py").replace(os.sep, ".").strip(".")
        raise SagaflowError(f"{module!r} is a file: name its module, such as {dotted}")
    return module, name


def _load(module: str, name: str) -> object:
    found: Any = _import(module)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise SagaflowError(f"{module} has no {name!r}") from None
    return found


def _import(name: str) -> ModuleType:
    here = os.getcwd()  # noqa: PTH109 - sys.path holds strings
    if here not in sys.path:
        sys.path.append(here)  # last: a `dns.py` there is not what PyMongo means by that name
    try:
        return import_module(name)
    except SagaflowError:
        raise
    except Exception as exc:
        missing = getattr(exc, "name", None)
        if (
            isinstance(exc, ModuleNotFoundError)
            and missing
            and f"{name}.".startswith(f"{missing}.")
        ):
            raise SagaflowError(
                f"there is no module {missing!r}: call sagaflow from the directory that has it, or "
                "install it beside sagaflow"
            ) from exc
        place = traceback.extract_tb(exc.__traceback__)[-1]
        raise SagaflowError(
            f"{name} cannot be imported: {type(exc).__name__}: {exc} "
            f'(File "{place.filename}", line {place.lineno})'
        ) from exc


def _is_saga(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Saga) and bool(value.table.initial)
