"""Text in requests that is none: JSON can name half of a surrogate pair, which no answer and no workflow can hold."""

from __future__ import annotations

from collections.abc import Mapping


def broken_text_path(value: object, path: str) -> str | None:
    """Return where in `value`, parsed JSON, there is half of a surrogate pair; None if nowhere.

    Args:
        value: What was parsed.
        path: Its own place.
    """
    rest: list[tuple[object, str]] = [(value, path)]
    while rest:
        found, place = rest.pop()
        if isinstance(found, str):
            if not _is_whole(found):
                return place
        elif isinstance(found, Mapping):
            if not all(_is_whole(key) for key in found if isinstance(key, str)):
                return place
            rest.extend((item, f"{place}.{key}") for key, item in found.items())
        elif isinstance(found, list):
            rest.extend((item, f"{place}[{index}]") for index, item in enumerate(found))
    return None


def _is_whole(text: str) -> bool:
    if text.isascii():  # known of every string: megabytes of base64 cost nothing
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
