"""Pages followed as their reader would: commands are entered, and what comes of them is what the page shows."""

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from support.markdown import Step, blocks, steps

NOT_RUN = re.compile(r"(make|\.|export|pip)\s")
"""`make` runs these very tests, or installs a ComfyUI; the others set up the reader's machine, as the tests do."""


def page_steps(page: Path) -> Iterator[Step]:
    """Yield what a page has to be run, in its order; a Python program as the command that runs it."""
    for block in blocks(page):
        if block.language == "python":
            yield Step(f"python - <<'END'\n{block.text}END")
        yield from (step for step in steps(block) if not NOT_RUN.match(step.command))


def as_pattern(shown: str) -> str:
    """Return the pattern of what a page shows: figures may differ, and `…` stands for anything."""
    parts = [re.escape(" ".join(part.split())) for part in shown.split("…")]
    return re.sub(r"\d+(\\\.\d+)?", r"\\d+(\\.\\d+)?", r".*".join(parts)).replace(r"\ ", " ")


def enter(step: Step, folder: Path, environ: Mapping[str, str]) -> str:
    """Run one step in `folder` and return what is wrong with what came of it; nothing if all is well."""
    command = ["bash", "-o", "pipefail", "-c", step.command]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
    if done.returncode != step.exit_code:
        return f"{step.command}\nexit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    # What a failing command says to people is on stderr, below its progress.
    given = done.stdout or done.stderr
    shown = as_pattern(step.shown) if done.stdout else rf".*{as_pattern(step.shown)}"
    if step.shown and not re.fullmatch(shown, " ".join(given.split()), re.DOTALL):
        return f"{step.command}\nshows\n{given[:2000]}\nthe page has\n{step.shown}"
    return ""
