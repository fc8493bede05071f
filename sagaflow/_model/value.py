"""Frozen values that are made as fast as objects that can be changed.

attrs has a frozen class set each field by a call of ``object.__setattr__``, which for values that
are made anew with each event is a large part of its time. Here all fields are set at once, as one
dict; everything else about the class is what attrs makes of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["value"]

if TYPE_CHECKING:
    from attrs import frozen as value
else:
    from collections.abc import Callable

    import attrs

    def value(cls: type | None = None, *, kw_only: bool = False) -> type | Callable[[type], type]:
        """Make a frozen attrs class of *cls*; also a decorator with arguments.

        :param kw_only: whether the fields are given by name only.
        :raises TypeError: if a field has a validator or a factory that takes the instance, or is
            none of ``__init__``: such classes are made by `attrs.frozen`.
        """
        if cls is None:
            return lambda given: value(given, kw_only=kw_only)
        made = attrs.frozen(cls, kw_only=kw_only, slots=False)
        made.__init__ = _init_of(made)
        return made

    def _init_of(cls: type) -> Callable[..., None]:
        """Return an ``__init__`` that sets all fields at once."""
        names = {"_set": vars(cls)["__dict__"].__set__, "_nothing": attrs.NOTHING}
        parameters, items = [], []
        for one in attrs.fields(cls):
            given, default = one.alias, one.default
            parameter = text = given
            if isinstance(default, attrs.Factory):
                names[f"_new_{given}"] = default.factory
                parameter = f"{given}=_nothing"
                text = f"_new_{given}() if {given} is _nothing else {given}"
            elif default is not attrs.NOTHING:
                names[f"_default_{given}"] = default
                parameter = f"{given}=_default_{given}"
            if one.converter is not None:
                names[f"_convert_{given}"] = one.converter
                text = f"_convert_{given}({text})"
            if one.validator is not None or not one.init or getattr(default, "takes_self", False):
                raise TypeError(f"{cls.__qualname__}.{one.name}: make it with attrs.frozen")
            parameters.append((one.kw_only, parameter))
            items.append(f"{one.name!r}: {text}")
        by_place = [text for kw_only, text in parameters if not kw_only]
        by_name = [text for kw_only, text in parameters if kw_only]
        signature = ", ".join(["self", *by_place, *(["*", *by_name] if by_name else [])])
        source = f"def __init__({signature}):\n    _set(self, {{{', '.join(items)}}})\n"
        exec(compile(source, f"<the fields of {cls.__qualname__}>", "exec"), names)  # noqa: S102
        init: Callable[..., None] = names["__init__"]
        init.__qualname__ = f"{cls.__qualname__}.__init__"
        return init
