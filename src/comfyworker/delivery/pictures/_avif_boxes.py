"""AVIF's boxes (ISO/IEC 14496-12 and 23008-12): where its metadata lies.

Every item's place is told in bytes from the file's start, so nothing is taken out: what an item held is overwritten.
The orientation is a property of the picture (`irot`, `imir`), which the EXIF data only repeats.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from comfyworker.delivery.pictures.pieces import CannotStrip, Piece, require

_CONTAINERS = frozenset({b"moov", b"trak"})
_METADATA_ITEMS = frozenset({b"Exif", b"mime"})

# What readers accept in their place: EXIF data without an entry, XMP without a statement.
_EMPTY_EXIF = b"\0\0\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"
_EMPTY_XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


class _Box(NamedTuple):
    kind: bytes
    start: int
    """Where its content begins."""
    end: int


class _Cursor:
    """Reads numbers one after the other."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self.position = position

    def take(self, size: int) -> int:
        """Return the next number of so many bytes; of none it is 0."""
        require(self.position + size <= len(self._data))
        self.position += size
        return int.from_bytes(self._data[self.position - size : self.position], "big")


def strip_avif(data: bytes) -> list[Piece]:
    """Return the file with its EXIF data and XMP overwritten."""
    blanks: dict[int, bytes] = {}
    for meta in _metas(data, 0, len(data)):
        blanks.update(_blanks(data, meta))
    blanks = {start: blank for start, blank in blanks.items() if data[start : start + len(blank)] != blank}
    view = memoryview(data)
    pieces: list[Piece] = []
    position = 0
    for start in sorted(blanks):
        require(position <= start)
        pieces += [view[position:start], blanks[start]]
        position = start + len(blanks[start])
    return [*pieces, view[position:]]


def _boxes(data: bytes, start: int, end: int) -> Iterator[_Box]:
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        header = 8
        if size == 1:
            require(start + 16 <= end)
            (size,), header = struct.unpack_from(">Q", data, start + 8), 16
        elif size == 0:
            size = end - start
        require(header <= size <= end - start)
        yield _Box(kind, start + header, start + size)
        start += size


def _metas(data: bytes, start: int, end: int) -> Iterator[_Box]:
    """Yield every `meta`: the picture's, and each track's where it is animated."""
    for box in _boxes(data, start, end):
        if box.kind == b"meta":
            yield _Box(box.kind, box.start + 4, box.end)
        elif box.kind in _CONTAINERS:
            yield from _metas(data, box.start, box.end)


def _blanks(data: bytes, meta: _Box) -> Iterator[tuple[int, bytes]]:
    """Yield what to write over each stretch of metadata, with its place."""
    parts = {box.kind: box for box in _boxes(data, meta.start, meta.end)}
    if b"iinf" not in parts or b"iloc" not in parts:
        return
    kinds = dict(_items(data, parts[b"iinf"]))
    inside = parts[b"idat"].start if b"idat" in parts else None
    for item, extents in _extents(data, parts[b"iloc"], inside):
        if kinds.get(item) not in _METADATA_ITEMS:
            continue
        blank = _EMPTY_EXIF if kinds[item] == b"Exif" else _EMPTY_XMP
        filler = b"\0" if kinds[item] == b"Exif" else b" "
        for start, size in extents:
            require(start + size <= len(data))
            yield start, blank.ljust(size, filler)[:size]
            blank = b""


def _items(data: bytes, box: _Box) -> Iterator[tuple[int, bytes]]:
    """Yield each item's number and type."""
    first = box.start + (6 if data[box.start] == 0 else 8)
    for entry in _boxes(data, first, box.end):
        version = data[entry.start]
        if entry.kind == b"infe" and version >= 2:
            cursor = _Cursor(data, entry.start + 4)
            item = cursor.take(2 if version == 2 else 4)
            cursor.take(2)
            yield item, data[cursor.position : cursor.position + 4]


def _extents(data: bytes, box: _Box, inside: int | None) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Yield each item's number and the stretches of the file that it lies in."""
    cursor = _Cursor(data, box.start)
    version = cursor.take(1)
    cursor.take(3)
    sizes = cursor.take(2)
    offset_bytes, length_bytes, base_bytes = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_bytes = sizes & 15 if version in {1, 2} else 0
    for _ in range(cursor.take(4 if version == 2 else 2)):
        item = cursor.take(4 if version == 2 else 2)
        method = cursor.take(2) & 15 if version in {1, 2} else 0
        cursor.take(2)
        base = cursor.take(base_bytes)
        if method == 1 and inside is not None:
            base += inside
        elif method:
            raise CannotStrip("its metadata lies where it cannot be found")
        extents = []
        for _ in range(cursor.take(2)):
            cursor.take(index_bytes)
            start = base + cursor.take(offset_bytes)
            extents.append((start, cursor.take(length_bytes)))
        yield item, extents
