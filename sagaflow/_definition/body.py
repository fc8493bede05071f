"""Checks over the body of a saga class, and where in the source a complaint belongs."""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import re
import sys
from collections.abc import Mapping
from types import FrameType, FunctionType
from typing import Any, ClassVar, Final, get_origin

import attrs
from attrs import frozen

from sagaflow._definition.arguments import EVENT_HANDLER, TIMEOUT_HANDLER, handler_problem
from sagaflow._definition.build import Layer
from sagaflow._definition.chain import Finished, Link
from sagaflow._definition.graph import flaws
from sagaflow._definition.kept import check_kept, saga_fields
from sagaflow._definition.migrations import Migration
from sagaflow._definition.origin import SagaBody
from sagaflow._definition.state import State
from sagaflow._definition.table import TransitionTable
from sagaflow._forms.declared import undetermined, written_annotations
from sagaflow._model.errors import SagaDefinitionError

_METHODS: Final = (
    FunctionType,
    classmethod,
    staticmethod,
    property,
    functools.cached_property,
    functools.partialmethod,
    functools.singledispatchmethod,
    State,
    Finished,
    Migration,
    type,
)


@frozen
class Place:
    """Where a class statement stands.

    :ivar saga: the name of the class.
    :ivar filename: its file.
    :ivar line: the line where it begins.
    """

    saga: str
    filename: str
    line: int

    @classmethod
    def of_caller(cls, name: str) -> Place:
        """Return the place of the class statement that runs the metaclass."""
        frame = sys._getframe(2)  # pyright: ignore[reportPrivateUsage]
        while frame.f_back is not None and _is_of_attrs(frame):
            frame = frame.f_back
        return cls(name, frame.f_code.co_filename, frame.f_lineno)

    def error(self, problem: str, attribute: str | None = None) -> SagaDefinitionError:
        """Return an error that names the class, and the attribute and its line if there is one."""
        return SagaDefinitionError(
            problem,
            saga=self.saga,
            method=attribute,
            filename=self.filename,
            line=self.line if attribute is None else self._line_of(attribute),
        )

    def _line_of(self, attribute: str) -> int:
        """Return the last line of the class body that gives *attribute* a value or annotation."""
        try:
            tree = ast.parse("".join(linecache.getlines(self.filename)))
        except SyntaxError:  # the file has changed since it was imported
            return self.line
        found = self.line
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.ClassDef)
                and node.name == self.saga
                and node.lineno <= self.line <= node.body[0].lineno
            ):
                for statement in node.body:
                    if attribute in _bound_names(statement):
                        found = statement.lineno
        return found


def _is_of_attrs(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__", ""))
    return module.partition(".")[0] in {"attr", "attrs"}


def _bound_names(statement: ast.stmt) -> set[str]:
    match statement:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {statement.name}
        case _:
            return {
                node.id
                for node in ast.walk(statement)
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            }


def check_body(place: Place, plain: type, namespace: Mapping[str, Any]) -> None:
    """Refuse a class body with chains left unfinished or attributes that are neither data nor code.

    :param plain: the class before attrs has seen it; it has named the states.
    :raises SagaDefinitionError: naming the attribute and its line.
    """
    annotated = written_annotations(plain)
    _check_names(place, plain, namespace, annotated)
    _check_chains(place, namespace)
    _check_unannotated(place, namespace, annotated)
    _check_annotated(place, namespace, annotated)
    _check_states(place, namespace)


def _is_class_var(annotation: object) -> bool:
    if isinstance(annotation, str):
        return re.match(r"(\w+\.)?ClassVar\b", annotation) is not None
    return annotation is ClassVar or get_origin(annotation) is ClassVar


def _check_names(
    place: Place, plain: type, namespace: Mapping[str, Any], annotated: Mapping[str, Any]
) -> None:
    """Refuse names of states and steps that would be hidden by properties of the class.

    The metaclass has properties, such as `table`: a state or a step of that name could not be
    reached. Fields and methods are reached by way of an instance, so they may have such names.
    """
    for name, value in namespace.items():
        is_field = name in annotated and not _is_class_var(annotated[name])
        of_instance = is_field or isinstance(value, FunctionType | property)
        of_class = inspect.getattr_static(type(plain), name, None)
        if isinstance(of_class, property) and not of_instance:
            raise place.error(
                f"{place.saga}.{name} is {_first_line(of_class)}, so that nothing could name this "
                f"{name!r}: give it another name",
                name,
            )
    if "self" in annotated:
        raise place.error("a field cannot be called 'self': give it another name", "self")


def _first_line(documented: object) -> str:
    text = (inspect.getdoc(documented) or "an attribute of its own").partition("\n")[0]
    return (text[:1].lower() + text[1:]).partition(":")[0]


def _check_chains(place: Place, namespace: Mapping[str, Any]) -> None:
    for name, value in namespace.items():
        if isinstance(value, Link) and not isinstance(value, Finished):
            raise place.error(value.problem, name)
    if isinstance(namespace, SagaBody):
        for chain in namespace.chains.values():
            raise chain.unused()


def _check_states(place: Place, namespace: Mapping[str, Any]) -> None:
    seen: dict[str, tuple[str, State]] = {}
    for attribute, state in namespace.items():
        if not isinstance(state, State):
            continue
        earlier, same = seen.setdefault(state.name, (attribute, state))
        if same is not state:
            raise place.error(
                f"the state's name {state.name!r} is already that of {earlier!r}: "
                "give each state a name of its own",
                attribute,
            )


def _check_unannotated(
    place: Place, namespace: Mapping[str, Any], annotated: Mapping[str, Any]
) -> None:
    for name, value in namespace.items():
        if name in annotated or (name.startswith("__") and name.endswith("__")):
            continue
        if not isinstance(value, _METHODS) and not _is_descriptor(value):
            raise place.error(
                f"{name!r} has a value but no annotation: persisted data is written "
                f"`{name}: type = ...`, a constant `{name}: ClassVar[type] = ...`",
                name,
            )


def _is_descriptor(value: object) -> bool:
    return hasattr(type(value), "__get__")


def check_mixin(place: Place, cls: type, base: type) -> None:
    """Refuse data in a base class that is neither a saga nor an attrs class.

    :raises SagaDefinitionError: naming the class and the data that would not be stored.
    """
    stored = {attribute.name for attribute in attrs.fields(cls)}
    for name, annotation in written_annotations(base).items():
        if not _is_class_var(annotation) and name not in stored:
            raise place.error(
                f"the base class {base.__name__} declares the data {name!r} but is no saga, so it "
                f"would not be stored: write class {base.__name__}(Saga), declare the data in "
                f"{place.saga}, or make it a ClassVar"
            )


def check_overrides(
    place: Place, namespace: Mapping[str, Any], layer: Layer, table: TransitionTable
) -> None:
    """Hold a method that overrides a handler without a decorator to the same parameters.

    :raises SagaDefinitionError: naming the method and its line.
    """
    called = dict.fromkeys(table.compensations.values(), EVENT_HANDLER)
    for row in table.rows:
        called[row.step] = TIMEOUT_HANDLER if row.event is None else EVENT_HANDLER
    decorated = {name for name, _ in (*layer.steps, *layer.compensations)}
    for name, value in namespace.items():
        if name in called and name not in decorated:
            problem = handler_problem(value, called[name])
            if problem is not None:
                raise place.error(f"this overrides an inherited handler: {problem}", name)


def _check_annotated(
    place: Place, namespace: Mapping[str, Any], annotated: Mapping[str, Any]
) -> None:
    for name, annotation in annotated.items():
        if _is_class_var(annotation):
            continue
        if isinstance(namespace.get(name), State | Finished | Migration):
            raise place.error(f"{name!r} is no data: leave out its annotation", name)
        if name.startswith("_"):
            written = name.removeprefix(f"_{place.saga.lstrip('_')}") if "__" in name else name
            raise place.error(
                f"the field {written!r} is private: persisted data is public; "
                "name it without the underscore, or make it a ClassVar",
                written,
            )


def check_fields(place: Place, cls: type) -> None:
    """Refuse data without a default, or with one that all sagas would share.

    :raises SagaDefinitionError: naming the field and its line.
    """
    for attribute in attrs.fields(cls):
        name, default = attribute.name, attribute.default
        if default is attrs.NOTHING:
            raise place.error(
                f"the field {name!r} has no default: a saga exists before its first event is "
                f"handled, so write `{name}: type | None = None` or another default",
                name,
            )
        if type(default).__hash__ is None:
            raise place.error(
                f"the default of {name!r} is mutable and would be shared by every saga: "
                f"write field(factory={type(default).__name__})",
                name,
            )


def check_data(place: Place, cls: Any, table: TransitionTable) -> None:
    """Refuse data and events to keep that could not be stored and read back.

    Annotations that name a class defined further down, and type variables, are checked later.

    :raises SagaDefinitionError: naming the field or the transition, and its line.
    """
    try:
        if not undetermined(cls):
            saga_fields(cls)
    except SagaDefinitionError as exc:
        if not isinstance(exc.__cause__, NameError):
            raise place.error(exc.problem, exc.method) from exc.__cause__
    try:
        check_kept(table, place.saga)
    except SagaDefinitionError as exc:
        if not isinstance(exc.__cause__, NameError):
            raise


def check_graph(place: Place, table: TransitionTable) -> None:
    """Refuse a table with states that cannot be reached or left.

    :raises SagaDefinitionError: naming the state or the transition, and its line.
    """
    for flaw in flaws(table):
        if flaw.row is None:
            raise place.error(flaw.problem, flaw.name)
        raise SagaDefinitionError(
            flaw.problem,
            saga=place.saga,
            method=flaw.row.step,
            filename=flaw.row.filename,
            line=flaw.row.line,
        )
