"""How much memory can be had."""

from pathlib import Path

import pytest

from comfyworker.prefetch.memory import available_bytes

GB = 1_000_000_000


def lay_out(root: Path, files: dict[str, str]) -> tuple[Path, Path]:
    """Write the kernel's files; return where /proc and the control groups are."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / "proc", root / "cgroup"


MEMINFO = "MemTotal:       32000000 kB\nMemFree:         1000000 kB\nMemAvailable:   20000000 kB\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/meminfo": MEMINFO}, 20_000_000 * 1024),
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "0::/\n",
                "cgroup/memory.max": f"{8 * GB}\n",
                "cgroup/memory.current": f"{6 * GB}\n",
                "cgroup/memory.stat": f"anon {2 * GB}\ninactive_file {3 * GB}\nactive_file {GB}\n",
            },
            6 * GB,
        ),
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "0::/pod/box\n",
                "cgroup/pod/memory.max": f"{4 * GB}\n",
                "cgroup/pod/memory.current": f"{3 * GB}\n",
                "cgroup/pod/memory.stat": "inactive_file 0\nactive_file 0\n",
                "cgroup/pod/box/memory.max": "max\n",
                "cgroup/pod/box/memory.current": f"{3 * GB}\n",
                "cgroup/pod/box/memory.stat": "inactive_file 0\nactive_file 0\n",
            },
            1 * GB,
        ),
        (
            {
                "proc/meminfo": MEMINFO,
                # Docker with version 1: the path is the machine's, the folder is the container's.
                "proc/self/cgroup": "9:name=systemd:/\n4:memory:/docker/0123\n0::/\n",
                "cgroup/memory/memory.limit_in_bytes": f"{10 * GB}\n",
                "cgroup/memory/memory.usage_in_bytes": f"{9 * GB}\n",
                "cgroup/memory/memory.stat": f"total_inactive_file {GB}\ntotal_active_file {GB}\nactive_file 5\n",
            },
            3 * GB,
        ),
        ({}, None),
    ],
    ids=["machine", "version 2", "a group above", "version 1", "nothing"],
)
def test_what_leaves_the_least_counts(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    """The machine, or the group with the least left; pages of files count as available."""
    proc, cgroups = lay_out(tmp_path, files)
    assert available_bytes(proc=proc, cgroups=cgroups) == expected


def test_this_machine_tells() -> None:
    """The kernel's own files can be read."""
    assert (available_bytes() or 0) > 0
