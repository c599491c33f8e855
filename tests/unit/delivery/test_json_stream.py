"""JSON stream: a document in pieces that make up the same JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from comfyworker.delivery.json_stream import iter_json

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=30,
)


@given(document=DOCUMENTS, slice_chars=st.integers(1, 12))
def test_the_pieces_make_up_the_document(document: JsonValue, slice_chars: int) -> None:
    """Reading the joined pieces gives the document back, however strings are cut."""
    assert json.loads(b"".join(iter_json(document, slice_chars=slice_chars))) == document


def test_the_json_is_compact() -> None:
    """No byte goes over the wire that says nothing."""
    document: JsonValue = {"images": [{"filename": "ä.png", "data": "x" * 5}], "n": 1.5}
    pieces = list(iter_json(document, slice_chars=2))
    whole = '{"images":[{"filename":"ä.png","data":"xxxxx"}],"n":1.5}'
    assert b"".join(pieces).decode() == whole


def test_no_piece_is_much_longer_than_a_slice() -> None:
    """A long string is never held a second time: each piece of it is one slice."""
    assert max(len(piece) for piece in iter_json({"data": "x" * 10_000}, slice_chars=100)) == 100


def test_a_document_without_long_strings_is_one_piece() -> None:
    """Small answers go the fast way."""
    assert list(iter_json({"images": []})) == [b'{"images":[]}']


@pytest.mark.parametrize("document", ["\ud800", 2**70, [2**70, "\udfff" * 3]])
def test_what_orjson_refuses_is_written_all_the_same(document: JsonValue) -> None:
    """Half a surrogate pair and numbers above 64 bits are legal in a Python document, so they are delivered."""
    assert json.loads(b"".join(iter_json(document, slice_chars=2))) == document
