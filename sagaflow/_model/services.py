"""svcs, which is imported when somebody uses it: it imports every web framework that it finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sagaflow._model.late import Late

__all__ = ["svcs"]

if TYPE_CHECKING:
    import svcs
else:
    svcs = Late("svcs")
