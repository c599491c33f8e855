"""Why a block of a page may not be run."""

import re
from collections import Counter
from collections.abc import Iterable

from support.docs.blocks import DocBlock
from support.source import REPOSITORY

_NEEDS = ("RunPod", "Vast", "Docker", "a GPU", "GitHub", "the internet", "root", "another machine")
_RUN_BY = re.compile(r"run by (tests/[\w./-]+\.py)$")
_OTHERS = "others' format"
_REASON = re.compile(rf"(?P<head>needs ({'|'.join(_NEEDS)})|takes minutes|{_OTHERS})(: .+)?$")


def reason_fault(reason: str) -> str:
    """Return what is wrong with a reason; nothing if it is one."""
    if found := _RUN_BY.match(reason):
        return "" if (REPOSITORY / found[1]).is_file() else f"there is no {found[1]}"
    return (
        "" if _REASON.match(reason) else f"{reason!r} is none of the reasons that tests/support/docs/reasons.py knows"
    )


def summary(blocks: Iterable[DocBlock]) -> list[str]:
    """Return the lines that tell which blocks are not run, and why."""
    blocks = list(blocks)
    left_out = [block for block in blocks if block.not_run]
    languages = Counter(block.language or "no language" for block in blocks if not block.not_run)
    counted = ", ".join(f"{count} {language}" for language, count in sorted(languages.items()))
    lines = [f"{len(blocks)} code blocks: {len(blocks) - len(left_out)} run or read ({counted})"]
    lines += [f"not run: {block.place} [{block.language}] {block.not_run}" for block in left_out]
    return lines
