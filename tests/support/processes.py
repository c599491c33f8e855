"""Whether a process is still there."""

from pathlib import Path


def is_running(pid: int) -> bool:
    """Whether `pid` runs; one that has ended and was not yet waited for does not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(") ")[2][0] not in "ZX"


def parent_of(pid: int) -> int:
    """Return the id of the process that `pid` is a child of."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    return int(text.rpartition(") ")[2].split()[1])
