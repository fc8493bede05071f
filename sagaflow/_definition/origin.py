"""Where a piece of a definition stands in the user's source."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final, Protocol

from attrs import field, frozen

from sagaflow._model.errors import SagaDefinitionError

_HERE: Final = str(Path(__file__).parent)


class Chain(Protocol):
    """A part of a chain that may be left unfinished."""

    def unused(self) -> SagaDefinitionError:
        """Return the error for a chain that is left unfinished."""
        ...


class SagaBody(dict[str, Any]):
    """The namespace of a saga's class body. It remembers the chains that begin there.

    A chain that ends neither at a handler nor at a name would otherwise vanish without a word.
    """

    def __init__(self) -> None:
        super().__init__()
        self.chains: dict[int, Chain] = {}


@frozen
class Origin:
    """The line of the user's source that began a chain."""

    filename: str
    line: int
    scope: str
    body: SagaBody | None = field(eq=False, repr=False)

    @classmethod
    def of_caller(cls) -> Origin:
        """Return the innermost line that is outside of this package."""
        frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
        while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
            frame = frame.f_back
        # In a class body the locals are the very mapping that __prepare__ returned.
        namespace = frame.f_locals
        return cls(
            frame.f_code.co_filename,
            frame.f_lineno,
            frame.f_code.co_name,
            namespace if isinstance(namespace, SagaBody) else None,
        )

    def error(
        self, problem: str, *, method: str | None = None, saga: str | None = None
    ) -> SagaDefinitionError:
        """Return an error that names the class and this line.

        :param saga: the class, where the chain was begun outside of a class body.
        """
        return SagaDefinitionError(
            problem,
            saga=saga if self.body is None else self.scope,
            method=method,
            filename=self.filename,
            line=self.line,
        )

    def begin(self, chain: Chain) -> None:
        """Note that *chain* is begun and not used yet."""
        if self.body is not None:
            self.body.chains[id(chain)] = chain

    def end(self, chain: Chain) -> None:
        """Note that *chain* was continued, or found in the class under a name."""
        if self.body is not None:
            self.body.chains.pop(id(chain), None)
