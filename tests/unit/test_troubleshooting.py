"""Whoever has an error, or only a symptom, finds what to do; and what the page says of the worker is so."""

import re

import pytest

from support.markdown import anchors
from support.migration import Origin, origins
from support.our_names import error_codes, is_command, is_said, literal_texts, routes
from support.source import REPOSITORY
from support.troubleshooting import CODES, PAGE, SYMPTOMS, bullets, codes_in, codes_of, messages_of, sections

BULLETS = ["Message", "Why", "Do", "Ask"]
EVENT = re.compile(r"[a-z]+\.[a-z_]+")


def is_there(span: str) -> bool:
    """Tell whether a command can be called, a route is served, an event is logged; all else is others' to hold."""
    if span.startswith("comfyworker "):
        return is_command(span)
    if span.startswith(("GET", "HEAD", "POST")):
        return span in routes() | {"GET /docs"}
    return not EVENT.fullmatch(span) or span in literal_texts()


def test_each_error_code_has_an_entry() -> None:
    """In the order of the errors' own page, each with message, reason, remedy and whom to ask."""
    entries = sections(CODES)
    assert list(entries) == list(error_codes())
    assert {code: list(bullets(text)) for code, text in entries.items() if list(bullets(text)) != BULLETS} == {}


def test_each_message_is_one_that_the_worker_says() -> None:
    """Word for word, but for what differs."""
    told = {code: messages_of(code) for code in sections(CODES)}
    assert {code: message for code, messages in told.items() for message in messages if not is_said(message)} == {}
    assert [code for code, messages in told.items() if not messages] == ["provisioning_failed"]


def test_whom_to_ask_is_there() -> None:
    """Commands can be called, routes are served, events are logged."""
    asked = {code: codes_in(bullets(text)["Ask"]) for code, text in sections(CODES).items()}
    wrong = {(code, span) for code, spans in asked.items() for span in spans if not is_there(span)}
    assert wrong == set()


def test_each_symptom_leads_to_a_code() -> None:
    """Or says that there is none."""
    without = {heading for heading, text in sections(SYMPTOMS).items() if "no error code" in text}
    assert {heading for heading in sections(SYMPTOMS) if not codes_of(heading) & set(error_codes())} <= without


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
