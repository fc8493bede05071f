"""What annotations that are written in unusual ways declare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pytest
from attrs import frozen

from sagaflow._forms.declared import field_types, plain

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]

Lists: TypeAlias = "list[Missing]"


def test_final_says_nothing_about_the_type() -> None:
    assert plain(Final[int]) is int


@frozen
class ByName:
    item: Missing


@frozen
class ByAlias:
    items: Lists


@pytest.mark.parametrize(("declared", "place"), [(ByName, "ByName.item"), (ByAlias, "ByAlias")])
def test_name_that_is_not_defined_is_told_with_its_place(declared: Any, place: str) -> None:
    with pytest.raises(NameError, match=rf"'Missing' cannot be resolved \(in {place}\)"):
        field_types(declared)
