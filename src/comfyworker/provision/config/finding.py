"""Which config.yml applies: CONFIG_YML, then the volume's, then the one beside the worker."""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import re
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

import orjson
from pydantic import BaseModel, ConfigDict

from comfyworker.errors import InsufficientStorage, InvalidConfig, Problem
from comfyworker.provision.config.reading import parse_config
from comfyworker.provision.entries import Config
from comfyworker.replacing import replace_file
from comfyworker.settings import ProvisionSettings

CONFIG_NAME = "config.yml"
_SPELLINGS = (CONFIG_NAME, "config.yaml")
_BAKED_IN = Path("/app")
_BASE64 = re.compile(r"^[A-Za-z0-9+/_-]+={0,2}$")
_MOST_BYTES = 5_000_000
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class ConfigOrigin(StrEnum):
    """Where a config was found."""

    VARIABLE = "CONFIG_YML"
    NAMED = "CONFIG_PATH"
    VOLUME = "volume"
    FOLDER = "working directory"
    BAKED_IN = "baked in"


class FoundConfig(BaseModel):
    """The config that applies."""

    model_config = ConfigDict(frozen=True)

    config: Config
    text: str
    """As it was written."""
    origin: ConfigOrigin
    path: Path | None = None
    """The file; None for CONFIG_YML."""

    @property
    def digest(self) -> str:
        """SHA-256 of what it asks for, in hexadecimal: comments and order of keys do not count."""
        return digest_of(self.config)


def digest_of(config: Config) -> str:
    """Return the SHA-256 of what a config asks for."""
    return sha256(orjson.dumps(config_as_json(config), option=orjson.OPT_SORT_KEYS)).hexdigest()


def config_as_json(config: Config) -> dict[str, object]:
    """Return a config as plain JSON, without the lines where things stood."""
    lines = {"models": {"__all__": {"line"}}, "nodes": {"__all__": {"line"}}}
    return config.model_dump(mode="json", exclude=lines)


def find_config(settings: ProvisionSettings, *, volume: Path | None, cwd: Path) -> FoundConfig | None:
    """Return the config that applies, or None if there is none.

    Order: CONFIG_YML, CONFIG_PATH, config.yml on the volume, in the working directory, in the image (`/app`).

    Args:
        settings: CONFIG_YML and CONFIG_PATH.
        volume: Where what shall last is kept; None if there is no volume.
        cwd: The working directory.

    Raises:
        InvalidConfig: the first of them that is there is wrong; the next is never taken instead.
    """
    if settings.config_yml is not None:
        text = decode_variable(settings.config_yml)
        return FoundConfig(config=parse_config(text, name="CONFIG_YML"), text=text, origin=ConfigOrigin.VARIABLE)
    if settings.config_path is not None:
        return read_config(cwd / settings.config_path.expanduser(), ConfigOrigin.NAMED)
    places = [(ConfigOrigin.VOLUME, volume), (ConfigOrigin.FOLDER, cwd), (ConfigOrigin.BAKED_IN, _BAKED_IN)]
    for origin, folder in places:
        for name in _SPELLINGS:
            if folder is not None and (folder / name).is_file():
                return read_config(folder / name, origin)
    return None


def read_config(path: Path, origin: ConfigOrigin) -> FoundConfig:
    """Return the config in a file.

    Raises:
        InvalidConfig: it cannot be read, or is wrong.
    """
    try:
        content = path.read_bytes()[: _MOST_BYTES + 1]
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise _unreadable(path.name, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _unreadable(path.name, "is no text (UTF-8)") from error
    if len(content) > _MOST_BYTES:
        raise _unreadable(path.name, "is larger than any config is")
    return FoundConfig(config=parse_config(text, name=path.name), text=text, origin=origin, path=path)


def decode_variable(value: str) -> str:
    """Return the YAML in CONFIG_YML, which may be base64 of it.

    Raises:
        InvalidConfig: it looks like base64 and is none.
    """
    joined = "".join(value.split())
    if ":" in value or not _BASE64.match(joined):
        return value
    try:
        padded = joined.rstrip("=") + "=" * (-len(joined.rstrip("=")) % 4)
        return base64.b64decode(padded, altchars=b"-_" if set(joined) & set("-_") else None, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise _unreadable("CONFIG_YML", "is neither YAML nor base64 of it") from error


def write_config(found: FoundConfig, volume: Path) -> bool:
    """Write a config that came by CONFIG_YML to the volume; return whether that changed anything.

    What was there is kept beside it as `config.yml.previous`. The file is whole at every moment.

    Raises:
        InsufficientStorage: the volume is full.
        InvalidConfig: the volume cannot be written.
    """
    path = volume / CONFIG_NAME
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if path.read_text(encoding="utf-8") == found.text:
            return False
    try:
        volume.mkdir(parents=True, exist_ok=True)
        if path.exists():
            replace_file(path.with_name(f"{CONFIG_NAME}.previous"), path.read_bytes(), mode=0o644, is_durable=True)
        replace_file(path, found.text.encode(), mode=0o644, is_durable=True)
    except OSError as error:
        if error.errno in _FULL:
            raise InsufficientStorage("the volume has no room for config.yml", hint="Free some of it.") from error
        raise _unreadable("config.yml on the volume", f"cannot be written: {error.strerror}") from error
    return True


def _unreadable(name: str, what: str) -> InvalidConfig:
    message = f"{name} {what}"
    return InvalidConfig(message, problems=[Problem(message=message, code="unreadable", path=name)])
