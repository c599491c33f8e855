"""ComfyUI's own validation, asked in its interpreter: nothing is served, queued or run."""

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfyworker.jobs import Graph
from support.real_comfyui import LAUNCHER, TESTS, Install, comfyui_environ

SCRIPT = TESTS / "comfyui_validate.py"
LOG = "judge.log"


@dataclass
class Judge:
    """A ComfyUI that has loaded its nodes, the paid API's included, and answers questions."""

    object_info: dict[str, Any]
    _process: "subprocess.Popen[str]"
    _folder: Path

    def judge(self, workflows: Mapping[str, Graph]) -> dict[str, dict[str, Any]]:
        """Return by name what ComfyUI says of each workflow: valid, error, node_errors."""
        (self._folder / "workflows.json").write_text(json.dumps(workflows))
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        _await_line(self._process, "answered\n", self._folder)
        answers: dict[str, dict[str, Any]] = json.loads((self._folder / "answers.json").read_text())
        return answers


@contextmanager
def open_judge(install: Install, folder: Path, environ: Mapping[str, str]) -> Iterator[Judge]:
    """Start the interpreter of `install` with its nodes; its files lie in `folder`."""
    names = ("object_info.json", "workflows.json", "answers.json")
    command = [str(install.python), str(LAUNCHER), str(SCRIPT), *(str(folder / name) for name in names)]
    with (
        (folder / LOG).open("w+") as log,
        subprocess.Popen(
            command,
            cwd=install.path,
            env=comfyui_environ(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            _await_line(process, "ready\n", folder)
            yield Judge(json.loads((folder / names[0]).read_text()), process, folder)
        finally:
            process.kill()


def _await_line(process: "subprocess.Popen[str]", line: str, folder: Path) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == line, (folder / LOG).read_text()[-4000:]
