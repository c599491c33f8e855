"""Processes under the guard, with small programs in ComfyUI's place: logs, ends, and that nothing is left behind."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from comfyworker.comfyui.process import ComfyUIProcess
from support.eventually import eventually
from support.processes import is_running

WAIT = "import signal\nsignal.pause()"
FAMILY = """
import json, os, subprocess, sys, pathlib
child = subprocess.Popen(["sleep", "3600"])
reader, writer = os.pipe()
output = "" if HOLDS_LOG else ">/dev/null 2>&1"
script = f"setsid sleep 3600 {output} </dev/null {writer}>&- & echo $! >&{writer}"
subprocess.run(["sh", "-c", script], pass_fds=[writer])
daemon = int(os.read(reader, 20))
target = pathlib.Path(sys.argv[1])
partial = target.with_suffix(".part")
partial.write_text(json.dumps({"main": os.getpid(), "guard": os.getppid(), "child": child.pid, "daemon": daemon}))
partial.replace(target)
"""
"""A program with a child, and a daemon that has a session of its own and whose parent is gone; tells their ids."""

WORKER = """
import asyncio, sys
from pathlib import Path
from comfyworker.comfyui.process import ComfyUIProcess

async def main():
    command = [sys.executable, *sys.argv[1:]]
    async with ComfyUIProcess(command, name="test", environment={}, cwd=Path.cwd(), grace_s=3600):
        await asyncio.Event().wait()

asyncio.run(main())
"""


def process(tmp_path: Path, source: str, *args: str, grace_s: float = 5.0) -> ComfyUIProcess:
    """Return a process that runs Python source."""
    command = [sys.executable, "-u", "-c", source, *args]
    return ComfyUIProcess(command, name="test", environment=dict(os.environ), cwd=tmp_path, grace_s=grace_s)


async def read_ids(path: Path) -> dict[str, int]:
    """Return the ids that a FAMILY tells, once it does."""

    def read() -> dict[str, int]:
        ids: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
        return ids

    return await eventually(read)


def open_descriptors() -> int:
    """Return how many descriptors this process has."""
    return int(psutil.Process().num_fds())


def family(*, holds_log: bool = False) -> str:
    """Return a program with descendants that goes on until it is ended."""
    return f"HOLDS_LOG = {holds_log}\n{FAMILY}\n{WAIT}"


@pytest.fixture
def ids_file(tmp_path: Path) -> Iterator[Path]:
    """Return the file for the ids of a FAMILY, whose members are ended after the test whatever became of it."""
    path = tmp_path / "ids.json"
    yield path
    for pid in json.loads(path.read_text()).values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ("", 0, "exit code 0"),
        ("raise SystemExit(3)", 3, "exit code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", 137, "signal SIGKILL"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 139, "signal SIGSEGV"),
    ],
)
async def test_how_it_ended(tmp_path: Path, source: str, code: int, words: str) -> None:
    """The exit code is the program's own, or 128 and the signal that ended it."""
    async with process(tmp_path, source) as running:
        assert await running.wait() == code
    assert (running.exit_code, running.describe_end()) == (code, words)


async def test_its_log(tmp_path: Path) -> None:
    """Each line is an event; of a line that was rewritten, the last state; the very last line need not be ended."""
    source = "import sys\nprint('one')\nprint('', end='10%\\r90%\\r100%\\n')\nsys.stderr.write('two\\n\\nü')"
    with capture_logs() as events:
        async with process(tmp_path, source) as running:
            await running.wait()
    lines = [event["line"] for event in events if event["event"] == "comfyui.log"]
    assert lines == running.last_lines == ["one", "100%", "two", "ü"]


async def test_a_line_without_end(tmp_path: Path) -> None:
    """A line of several MB, and bytes that are no text, neither stop the program nor the log behind them."""
    source = (
        "import sys\nsys.stdout.buffer.write(b'x' * 5_000_000 + b'\\n' + b'\\xff\\xfe\\n')\n"
        "sys.stdout.flush()\nprint('after')"
    )
    async with process(tmp_path, source) as running:
        assert await running.wait() == 0
    assert running.last_lines[-2:] == ["\ufffd\ufffd", "after"]
    assert max(len(line) for line in running.last_lines) <= 1 << 20


async def test_the_crash_tells_the_last_lines(tmp_path: Path) -> None:
    """The error for a job holds the exit code and the last lines, without folders and secrets."""
    source = f"print('cannot open {tmp_path}/model.pt token=abc')\nraise SystemExit(4)"
    async with process(tmp_path, source) as running:
        await running.wait()
    error = running.crash("it ended")
    assert error.details == {"exit_code": 4, "log": ["cannot open …/model.pt token=…"]}


async def test_stopped_it_ends_by_itself(tmp_path: Path) -> None:
    """When it is stopped, it is asked as by Ctrl-C and may clean up."""
    source = "import signal\nprint('ready')\ntry:\n    signal.pause()\nexcept KeyboardInterrupt:\n    print('bye')"
    async with process(tmp_path, source) as running:
        await eventually(lambda: running.last_lines == ["ready"])
    assert (running.exit_code, running.last_lines) == (0, ["ready", "bye"])


async def test_stopped_it_does_not_end(tmp_path: Path) -> None:
    """When it does not end within its grace period, it is killed."""
    source = f"import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('ready')\n{WAIT}"
    async with process(tmp_path, source, grace_s=0.1) as running:
        await eventually(lambda: running.last_lines == ["ready"])
    assert running.describe_end() == "signal SIGKILL"


async def test_stopped_before_it_began(tmp_path: Path) -> None:
    """A process that is stopped at once ends, whatever it was at."""
    async with process(tmp_path, WAIT, grace_s=0.1) as running:
        pass
    assert running.exit_code is not None


async def test_stopping_is_cancelled(tmp_path: Path, ids_file: Path) -> None:
    """Who is cancelled again and again, as by Ctrl-C, leaves no process behind either."""
    source = f"import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n{family()}"
    running = process(tmp_path, source, str(ids_file), grace_s=0.2)

    async def hold() -> None:
        async with running:
            await asyncio.Event().wait()

    task = asyncio.ensure_future(hold())
    ids = await read_ids(ids_file)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert {name: is_running(pid) for name, pid in ids.items()} == dict.fromkeys(ids, False)


@pytest.mark.parametrize("end", ["stopped", "by itself"])
async def test_nothing_it_started_is_left(tmp_path: Path, ids_file: Path, end: str) -> None:
    """Its children, and daemons with sessions of their own, end with it."""
    source = family() if end == "stopped" else f"HOLDS_LOG = True\n{FAMILY}"
    async with process(tmp_path, source, str(ids_file)) as running:
        ids = await read_ids(ids_file)
        if end == "by itself":
            assert await running.wait() == 0
    assert {name: is_running(pid) for name, pid in ids.items()} == dict.fromkeys(ids, False)


async def test_the_worker_is_killed(ids_file: Path) -> None:
    """When the worker is killed with SIGKILL, the program and everything it started end, without any grace."""
    stubborn = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{family()}"
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, "-c", stubborn, str(ids_file))
    ids = await read_ids(ids_file)
    assert {name: is_running(pid) for name, pid in ids.items()} == dict.fromkeys(ids, True)
    worker.kill()
    await worker.wait()
    await eventually(lambda: not any(is_running(pid) for pid in ids.values()))


@pytest.mark.parametrize("holds_log", [False, True])
async def test_the_guard_is_killed(tmp_path: Path, ids_file: Path, holds_log: bool) -> None:
    """When the guard is killed, program and children end, and we hear of it, even if a daemon keeps the log open."""
    async with process(tmp_path, family(holds_log=holds_log), str(ids_file)) as running:
        ids = await read_ids(ids_file)
        os.kill(ids["guard"], signal.SIGKILL)
        async with asyncio.timeout(10):
            assert await running.wait() == 137
    await eventually(lambda: [is_running(ids[name]) for name in ("guard", "main", "child")] == [False] * 3)


async def test_the_program_does_not_exist(tmp_path: Path) -> None:
    """A program that cannot be started is said in one line, without a traceback."""
    command = [str(tmp_path / "nothing"), "main.py"]
    async with ComfyUIProcess(command, name="test", environment={}, cwd=tmp_path, grace_s=1.0) as running:
        assert await running.wait() == 127
    assert running.last_lines == ["…/nothing cannot be started: No such file or directory"]


async def test_the_working_directory_does_not_exist(tmp_path: Path) -> None:
    """A folder that is not there is an OSError of the start."""
    running = ComfyUIProcess([sys.executable], name="test", environment={}, cwd=tmp_path / "nothing", grace_s=1.0)
    with pytest.raises(FileNotFoundError):
        async with running:
            pass


async def test_orphans_that_end_are_let_go(tmp_path: Path) -> None:
    """Processes that custom nodes left to themselves do not stay as zombies when they end, job after job."""
    source = (
        f"import subprocess\nfor _ in range(20):\n    subprocess.run(['sh', '-c', 'true &'])\nprint('ready')\n{WAIT}"
    )
    async with process(tmp_path, source) as running:
        await eventually(lambda: running.last_lines == ["ready"])
        guard = psutil.Process().children()[-1]
        await eventually(lambda: len(guard.children()) == 1)
        assert running.exit_code is None


async def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """Starting and stopping takes no descriptors for good."""
    async with process(tmp_path, ""):
        pass
    before = open_descriptors()
    for _ in range(3):
        async with process(tmp_path, "") as running:
            await running.wait()
    assert open_descriptors() <= before
