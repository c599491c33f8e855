"""The page on troubleshooting, as the tests read it."""

import re

from support.source import REPOSITORY

PAGE = REPOSITORY / "docs/troubleshooting.md"
SYMPTOMS, CODES = "What you see", "By error code"


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


def messages_of(code: str) -> list[str]:
    """Return the messages that the page has for an error code; `…` stands for what differs."""
    return codes_in(bullets(sections(CODES)[code])["Message"])


def codes_of(symptom: str) -> set[str]:
    """Return the error codes that a symptom's section leads to."""
    return set(re.findall(r"\]\(#([a-z_]+)\)", sections(SYMPTOMS)[symptom]))


def pattern_of(message: str) -> re.Pattern[str]:
    """Return what finds a message of the page."""
    return re.compile(".*?".join(re.escape(part) for part in message.split("…") if part), re.DOTALL)
