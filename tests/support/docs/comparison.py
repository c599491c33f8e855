"""What a page shows, compared with what came."""

import json
import re

_TEXT = r'"(?:[^"\\]|\\.)*"'
_TEXT_OR_SPACE = re.compile(rf"{_TEXT}|\s+")
_FIGURE = re.compile(r"\d+(\\\.\d+)?")
_ID = re.compile(r"\b(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{64})\b|(?<=msg_)[0-9a-f]{32}\b")
_STATUS_LINE = re.compile(r"(HTTP/[\d.]+) (\d{3})")


def as_pattern(shown: str) -> str:
    """Return the pattern of what a page shows: figures, ids and hashes may differ, and `…` stands for anything.

    A status line of HTTP (`HTTP/1.1 404`) is what it is.
    """
    held: list[str] = []

    def hold(match: re.Match[str]) -> str:
        held.append(re.escape(match[0]).replace(r"\ ", " "))
        return f"\0{chr(ord('a') + len(held) - 1)}\0"

    parts = [re.escape(" ".join(part.split())) for part in _STATUS_LINE.sub(hold, _ID.sub("…", shown)).split("…")]
    # White space around an ellipsis belongs to what it stands for.
    pattern = _FIGURE.sub(r"\\d+(\\.\\d+)?", r".*".join(parts)).replace(r"\ ", " ")
    for index, status in enumerate(held):
        pattern = pattern.replace(re.escape(f"\0{chr(ord('a') + index)}\0"), status)
    return pattern


def matches(shown: str, given: str, *, is_tail: bool = False) -> bool:
    """Whether `given` is what the page shows; the layout of JSON does not count, nor any other white space.

    Args:
        shown: What the page has.
        given: What came.
        is_tail: Whether something may have come before it.
    """
    if _is_json(given):
        shown, given = _packed(shown), _packed(given)
    pattern = as_pattern(shown)
    return re.fullmatch(f".*{pattern}" if is_tail else pattern, " ".join(given.split()), re.DOTALL) is not None


def _is_json(text: str) -> bool:
    if text.lstrip()[:1] not in {"{", "["}:
        return False
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _packed(text: str) -> str:
    """Return JSON, or what a page has left of it, without white space between its parts."""
    return _TEXT_OR_SPACE.sub(lambda match: "" if match[0].isspace() else match[0], text)
