"""The folders that a ComfyUI shares with us on disk, and the way from a name that it reports to a file in them."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from comfyworker.errors import DeliveryFailed


class Folders(BaseModel):
    """Where one ComfyUI keeps its files, by the `type` that it reports for them."""

    model_config = ConfigDict(frozen=True)

    input: Path
    output: Path
    temp: Path
    models: Path | None = None
    """Its own folder of models, with a folder for each kind; None if it is not known."""

    def of(self, folder_type: str) -> Path:
        """Return the folder for ComfyUI's `type`: input, output or temp.

        Raises:
            DeliveryFailed: ComfyUI has no such folder.
        """
        folders = {"input": self.input, "output": self.output, "temp": self.temp}
        if folder_type not in folders:
            raise DeliveryFailed(f"ComfyUI reported a file in a folder of the unknown type {_shown(folder_type)}")
        return folders[folder_type]

    def resolve(self, folder_type: str, subfolder: str, filename: str) -> Path:
        """Return where a reported file lies, symbolic links followed; the file itself need not exist.

        Custom nodes report what they like, so nothing that they report may lead out of the folder: we read, deliver
        and delete what this returns.

        Raises:
            DeliveryFailed: the names lead out of the folder, or name no file.
        """
        base = self.of(folder_type).resolve()
        try:
            path = (base / subfolder / filename).resolve()
        except (RuntimeError, ValueError) as error:
            # A loop of links (up to Python 3.12), or a name with a NUL in it.
            raise _refused(folder_type, subfolder, filename) from error
        if not filename or path == base or not path.is_relative_to(base):
            raise _refused(folder_type, subfolder, filename)
        return path


def _refused(folder_type: str, subfolder: str, filename: str) -> DeliveryFailed:
    where = f" in subfolder {_shown(subfolder)}" if subfolder else ""
    return DeliveryFailed(
        f"ComfyUI reported the file {_shown(filename)}{where}, which is not inside its {folder_type} folder",
        hint="A custom node writes outside ComfyUI's folders or reports a wrong name; have it save into the output "
        "folder.",
    )


def _shown(name: str) -> str:
    """Return a reported name for people: on one line, cut, and without the folders above a file outside of ours."""
    last = name.replace("\\", "/").rstrip("/").rpartition("/")[2] if name.startswith("/") else name
    return repr(last if len(last) <= 80 else f"{last[:79]}…")
