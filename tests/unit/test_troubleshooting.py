"""Whoever has an error, or only a symptom, finds what to do; and what the page says of the worker is so."""

import re

import pytest

from support.markdown import anchors
from support.migration import Origin, origins
from support.our_names import error_codes, is_command, is_said, literal_texts, routes
from support.source import REPOSITORY

PAGE = REPOSITORY / "docs/troubleshooting.md"
BULLETS = ["Message", "Why", "Do", "Ask"]
EVENT = re.compile(r"[a-z]+\.[a-z_]+")


def sections(part: str) -> dict[str, str]:
    """Return the third-level sections below a heading of the page, by their headings without backticks."""
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(f"\n## {part}\n")
    found = re.split(r"^### (.+)$", rest.partition("\n## ")[0], flags=re.MULTILINE)
    return {heading.strip("`"): text for heading, text in zip(found[1::2], found[2::2], strict=True)}


def bullets(text: str) -> dict[str, str]:
    """Return a section's bullets by the bold words that they begin with."""
    return dict(re.findall(r"^- \*\*(\w+):\*\* (.+)$", text, re.MULTILINE))


def codes_in(text: str) -> list[str]:
    """Return what stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def is_there(span: str) -> bool:
    """Tell whether a command can be called, a route is served, an event is logged; all else is others' to hold."""
    if span.startswith("comfyworker "):
        return is_command(span)
    if span.startswith(("GET", "HEAD", "POST")):
        return span in routes() | {"GET /docs"}
    return not EVENT.fullmatch(span) or span in literal_texts()


def test_each_error_code_has_an_entry() -> None:
    """In the order of the errors' own page, each with message, reason, remedy and whom to ask."""
    entries = sections("By error code")
    assert list(entries) == list(error_codes())
    assert {code: list(bullets(text)) for code, text in entries.items() if list(bullets(text)) != BULLETS} == {}


def test_each_message_is_one_that_the_worker_says() -> None:
    """Word for word, but for what differs."""
    told = {code: codes_in(bullets(text)["Message"]) for code, text in sections("By error code").items()}
    assert {code: message for code, messages in told.items() for message in messages if not is_said(message)} == {}
    assert [code for code, messages in told.items() if not messages] == ["provisioning_failed"]


def test_whom_to_ask_is_there() -> None:
    """Commands can be called, routes are served, events are logged."""
    asked = {code: codes_in(bullets(text)["Ask"]) for code, text in sections("By error code").items()}
    wrong = {(code, span) for code, spans in asked.items() for span in spans if not is_there(span)}
    assert wrong == set()


def test_each_symptom_leads_to_a_code() -> None:
    """Or says that there is none."""
    known = {f"#{code}" for code in error_codes()}
    links = {heading: set(re.findall(r"\]\((#\w+)\)", text)) for heading, text in sections("What you see").items()}
    without = {heading for heading, text in sections("What you see").items() if "no error code" in text}
    assert {heading for heading, found in links.items() if not found & known} <= without


def test_the_page_of_the_errors_leads_here() -> None:
    """Each code is linked to its entry."""
    page = (REPOSITORY / "docs/reference/errors.md").read_text(encoding="utf-8")
    assert re.findall(r"\(\.\./troubleshooting\.md#(\w+)\)", page) == list(error_codes())


@pytest.mark.parametrize("origin", origins(), ids=lambda origin: origin.name)
def test_each_issue_of_other_workers_has_its_place(origin: Origin) -> None:
    """What their documents say of troubles is told here, too."""
    assert {issue: anchor for issue, anchor in origin.issues.items() if anchor not in anchors(PAGE)} == {}


def test_a_message_that_is_gone_would_be_seen() -> None:
    """The comparison works: other words between what differs are told."""
    assert [is_said(text) for text in ("there is no asset …", "there is no colour …")] == [True, False]
