"""install.py of custom nodes: run once per version, in ComfyUI's interpreter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from comfyworker.comfyui.launching import child_environment
from comfyworker.comfyui.locate import Installation
from comfyworker.comfyui.running import CommandFailed, ignore_line, run_command
from comfyworker.errors import NodeInstallFailed
from comfyworker.provision.nodes.shelf import read_record, write_record
from comfyworker.redaction import redact
from comfyworker.settings import process_environment

SCRIPT_NAME = "install.py"


async def run_install_script(
    installation: Installation, folder: Path, *, limit_s: float, on_line: Callable[[str], None] = ignore_line
) -> bool:
    """Run a custom node's install.py, unless it has been run at this version; return whether it was run.

    Killed in the middle it is run again the next time. It sees none of the worker's secrets.

    Raises:
        NodeInstallFailed: it failed or took too long.
    """
    record = read_record(folder)
    if record is None or record.is_script_done:
        return False
    is_run = (folder / SCRIPT_NAME).is_file()
    if is_run:
        # What node packs' scripts look at to find ComfyUI.
        extra = {"COMFYUI_PATH": str(installation.path), "COMFYUI_FOLDERS_BASE_PATH": str(installation.base_dir)}
        try:
            await run_command(
                [str(installation.python), "-u", SCRIPT_NAME], on_line=on_line, cwd=folder, extra_env=extra,
                environment=child_environment(process_environment(), gpu=None), limit_s=limit_s,
            )  # fmt: skip
        except CommandFailed as error:
            last = redact(error.tail[-1]) if error.tail else "it said nothing"
            raise NodeInstallFailed(
                f"{folder.name}: its install.py {error.reason}: {last}",
                hint="The output in the details says more; it is run again the next time.",
                details={"output": redact("\n".join(error.tail))},
            ) from error
    write_record(folder, record.model_copy(update={"is_script_done": True}))
    return is_run
