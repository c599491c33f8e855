"""Processes that are begun while another thread forks."""

import os
import subprocess
import sys
from pathlib import Path

FORK_MEANWHILE = """
import os, threading
from comfyworker.spawning import let_forks_wait, spawning

inside, about_to_fork = threading.Event(), threading.Event()
let_forks_wait()
os.register_at_fork(before=about_to_fork.set)  # before ours: the last one is called first

def begin():
    global near, far
    with spawning(), spawning():  # as two that are begun by one event loop
        near, far = os.pipe()
        inside.set()
        about_to_fork.wait()
        os.close(far)

thread = threading.Thread(target=begin)
thread.start()
inside.wait()
for _ in range(2):
    if not os.fork():
        try:
            os.fstat(far)
        except OSError:
            with spawning():  # a fork may begin processes, too
                os._exit(0)
        os._exit(1)
    thread.join()
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0, "the fork has the far end"
assert os.read(near, 1) == b""
"""


def test_a_fork_has_no_pipe_of_a_process_that_is_being_begun(tmp_path: Path) -> None:
    """It waits until the far end is closed; the next one has nothing to wait for."""
    done = subprocess.run(
        [sys.executable, "-c", FORK_MEANWHILE],
        cwd=tmp_path,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
