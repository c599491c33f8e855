"""Workflow files on disk, read and written with errors that a person can use."""

from __future__ import annotations

import sys
from pathlib import Path

from comfyworker.errors import InvalidRequest
from comfyworker.hosts.local import parse_json
from comfyworker.replacing import replace_file

_SHAPE = "It must hold a workflow as JSON, in API format or as ComfyUI's page saves it."


def read_workflow_file(path: Path) -> object:
    """Return the JSON that a file holds; `-` is standard input.

    Raises:
        InvalidRequest: it cannot be read, or is no JSON.
    """
    try:
        content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise InvalidRequest(f"{path}: {reason}", hint="Check the name; paths are relative to this folder.") from error
    return parse_json(content, name=str(path), hint=_SHAPE)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        InvalidRequest: it cannot be written.
    """
    try:
        replace_file(path, content)
    except OSError as error:
        reason = (error.strerror or "it cannot be written").lower()
        raise InvalidRequest(f"--output {path}: {reason}", hint="Choose a place that can be written.") from error
