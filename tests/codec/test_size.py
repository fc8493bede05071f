"""How large a document is, and what BSON cannot hold."""

from __future__ import annotations

import pytest
from bson import encode

from sagaflow import SerializationError
from sagaflow._forms.size import document_size, field_sizes


def test_size_is_what_bson_takes() -> None:
    document = {"_id": "o-1", "data": {"text": "x" * 100}}
    assert document_size(document) == len(encode(document))


def test_fields_are_ordered_by_size() -> None:
    assert list(field_sizes({"small": 1, "large": "x" * 100, "middle": "x" * 10})) == [
        "large",
        "middle",
        "small",
    ]


@pytest.mark.parametrize("value", [object(), 2**64, "\ud800"])
def test_document_that_bson_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(SerializationError, match=r"^o-1: cannot be stored: "):
        document_size({"_id": "o-1", "data": value})
