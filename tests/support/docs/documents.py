"""JSON, YAML and `.env` files of the pages, read by what reads them in the worker."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from comfyworker.dialects import dialect_named
from comfyworker.errors import WorkerError
from comfyworker.provision.config.reading import parse_config
from comfyworker.settings import list_settings, load_settings
from comfyworker.settings.dotenv import read_setting_files
from comfyworker.workflow import read_workflow
from comfyworker.workflow.modifiers import read_modifier

_DIALECTS = {"input": "worker-comfyui", "payload": "pyworker", "workflow": "comfy-api-v2"}
"""By the key that a request of each has at its top."""
_NODE = {"class_type", "inputs"}
_CUT_BASE64 = re.compile(r"(?<=[\w+/])…$")


def json_fault(text: str, *, is_others: bool = False) -> str:
    """Return what is wrong with a JSON document of a page; nothing if all is well.

    Args:
        text: The document; texts in it may be cut with `…`.
        is_others: Whether it is for somebody else's program: then it has to be JSON, and no more.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        return f"is no JSON: {error}"
    if is_others:
        return ""
    try:
        return _fault_of(_whole(document))
    except WorkerError as error:
        return f"is refused: {error.to_dict()}"


def yaml_fault(text: str, *, is_others: bool = False) -> str:
    """Return what is wrong with a YAML document of a page: it is a config.yml, or somebody else's (`is_others`)."""
    try:
        if is_others:
            list(yaml.safe_load_all(text))
        else:
            parse_config(text)
    except yaml.YAMLError as error:
        return f"is no YAML: {error}"
    except WorkerError as error:
        return f"is refused: {error.to_dict()}"
    return ""


def env_fault(text: str, folder: Path) -> str:
    """Return what is wrong with the lines of an `.env` file; `folder` is empty and used to read it."""
    (folder / ".env").write_text(text, encoding="utf-8")
    try:
        files = read_setting_files(folder, {})
        load_settings({}, files)
    except WorkerError as error:
        return f"is refused: {error.to_dict()}"
    finally:
        (folder / ".env").unlink()
    known = {name for entry in list_settings() for name in entry.names}
    unknown = sorted(name for file in files for name in file.values if name not in known)
    return f"has names that are no settings: {unknown}" if unknown else ""


def _fault_of(document: Any) -> str:
    if not isinstance(document, dict):
        return "is no object: which kind of document is it?"
    keys = set(document)
    if {"workflow", "parameters"} <= keys:
        read_modifier(document, path="modifier")
    elif found := [name for key, name in _DIALECTS.items() if key in keys]:
        warnings = dialect_named(found[0]).parse(document, new_id=lambda: "job").warnings
        return f"has what nobody knows: {warnings}" if warnings else ""
    elif keys == {"name", "image"}:
        return _fault_of({"input": {"workflow": {"1": {"class_type": "A", "inputs": {}}}, "images": [document]}})
    elif keys >= _NODE and keys <= {*_NODE, "_meta"}:
        read_workflow({"1": document})
    elif all(isinstance(value, dict) and value.keys() >= _NODE for value in document.values()):
        read_workflow(document)
    else:
        return f"is of no known kind: it has the keys {sorted(keys)}"
    return ""


def _whole(value: Any) -> Any:
    """Return a document whose base64 is whole where the page has cut it."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, str) and _CUT_BASE64.search(value) and not value.startswith("http"):
        kept = _CUT_BASE64.sub("", value)
        head, mark, data = kept.rpartition(",")
        return f"{head}{mark}{data[: len(data) // 4 * 4]}"
    return value
