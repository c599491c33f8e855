"""How much memory can still be used: of the machine, and of the container that the worker is in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

_KIB: Final = 1024
_RECLAIMABLE: Final = ("inactive_file", "active_file")
"""Lines of memory.stat: pages of files, which the kernel gives up before anybody runs short."""


def available_bytes(*, proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the bytes that can be had without anybody else's running short; None where nothing tells.

    What holds cached files counts as available. Wire sources: proc_meminfo(5) MemAvailable; the kernel's cgroup-v2
    (memory.max, memory.current, memory.stat) and cgroup-v1 (memory.limit_in_bytes, …).

    Args:
        proc: Where the kernel's files are.
        cgroups: Where its control groups are.
    """
    found = [_of_machine(proc), *_of_groups(proc, cgroups)]
    return min((each for each in found if each is not None), default=None)


def _of_machine(proc: Path) -> int | None:
    try:
        lines = (proc / "meminfo").read_text().splitlines()
    except OSError:
        return None
    number = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return int(number) * _KIB if number is not None else None


def _of_groups(proc: Path, cgroups: Path) -> Iterator[int | None]:
    """Yield what each group leaves that this process is in; a container often sees its own as the topmost."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in (*lines, "0::/", "0:memory:/"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            names, root = ("memory.max", "memory.current", ""), cgroups
        elif "memory" in controllers.split(","):
            names, root = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_"), cgroups / "memory"
        else:
            continue
        folder = root / path.lstrip("/")
        for group in (folder, *folder.parents):
            if group.is_relative_to(root):
                yield _of_group(group, *names)


def _of_group(group: Path, limit_name: str, used_name: str, prefix: str) -> int | None:
    """Return what one group leaves; None where it has no limit, or is not there."""
    try:
        limit, used = (group / limit_name).read_text().strip(), int((group / used_name).read_text())
        fields = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        reclaimable = sum(int(fields.get(f"{prefix}{name}", 0)) for name in _RECLAIMABLE)
        return int(limit) - used + reclaimable
    except (OSError, ValueError):  # `max` is no number
        return None
