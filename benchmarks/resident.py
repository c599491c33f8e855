"""How much memory this process has in use, as the kernel counts it."""

import contextlib
from pathlib import Path

STATUS = Path("/proc/self/status")
RESET_PEAK = "5"  # see proc(5), /proc/pid/clear_refs


def resident_bytes() -> int:
    """Return what is in use now."""
    return _status_bytes("VmRSS")


def peak_bytes() -> int:
    """Return the most that was in use since `reset_peak`."""
    return _status_bytes("VmHWM")


def reset_peak() -> None:
    """Forget what was in use until now."""
    with contextlib.suppress(OSError):  # a kernel without it: the peak is then the process's whole life's
        Path("/proc/self/clear_refs").write_text(RESET_PEAK, encoding="ascii")


def _status_bytes(field: str) -> int:
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    message = f"{STATUS} has no {field}"
    raise RuntimeError(message)
