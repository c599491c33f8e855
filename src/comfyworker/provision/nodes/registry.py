"""The Comfy Registry: which versions of a custom node there are, and their archives.

Wire source: https://api.comfy.org/openapi, `GET /nodes/{nodeId}` and, below it, `/install` and `/versions`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from comfyworker.deferred import aiohttp, load_aiohttp
from comfyworker.errors import NodeInstallFailed
from comfyworker.provision.nodes.versions import read_version
from comfyworker.wording import nearest

MAX_ARCHIVE_BYTES = 1_000_000_000
_MAX_ANSWER_BYTES = 10_000_000
_CHUNK_BYTES = 256 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_WITHDRAWN = {"NodeVersionStatusBanned": "banned", "NodeVersionStatusDeleted": "deleted"}
_FLAGGED = "NodeVersionStatusFlagged"
_HINT = "Is the network up? Try again; what was placed before stays."


class Release(BaseModel):
    """A version of a custom node, as the registry answers."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str
    download_url: str = Field(default="", alias="downloadUrl")
    dependencies: tuple[str, ...] = ()
    status: str | None = None
    deprecated: bool = False

    @property
    def is_flagged(self) -> bool:
        """Whether the registry's own examination found something in it."""
        return self.status == _FLAGGED


class Registry:
    """Asks the Comfy Registry."""

    def __init__(self, url: str, *, connect_s: float, read_s: float) -> None:
        """Keep where it is, and how long it may take to connect and may be silent."""
        self._url = url.rstrip("/")
        self._connect_s = connect_s
        self._read_s = read_s

    async def find_release(self, name: str, version: str | None) -> Release:
        """Return a version of a custom node, the newest if `version` is None.

        Raises:
            NodeInstallFailed: there is no such node or version, it was withdrawn, or the registry cannot be asked.
        """
        query = {"version": version} if version else {}
        answer = await self._ask(f"/nodes/{_check(name)}/install", query)
        if answer is None:
            raise await self._explain_missing(name, version)
        try:
            release = Release.model_validate(answer)
        except ValidationError as error:
            raise _strange(name) from error
        word = _WITHDRAWN.get(release.status or "")
        if word is not None:
            raise NodeInstallFailed(
                f"version {release.version} of '{name}' was {word} by the registry", hint="Choose another version."
            )
        if not release.download_url.startswith(("https://", "http://")):
            raise NodeInstallFailed(
                f"the registry has no archive of '{name}' {release.version}",
                hint="Choose another version, or name its git repository with `url`.",
            )
        return release

    async def find_repository(self, name: str) -> str:
        """Return the git repository of a custom node.

        Raises:
            NodeInstallFailed: there is no such node, it names none, or the registry cannot be asked.
        """
        answer = await self._ask(f"/nodes/{_check(name)}", {})
        if answer is None:
            raise await self._explain_missing(name, None)
        repository = answer.get("repository") if isinstance(answer, dict) else None
        if not isinstance(repository, str) or not repository:
            raise NodeInstallFailed(
                f"the registry names no repository of '{name}'", hint="Name a version, or the repository with `url`."
            )
        return repository

    async def download(self, release: Release, name: str, target: Path) -> None:
        """Write a version's archive into `target`.

        Raises:
            NodeInstallFailed: it could not be had whole.
        """
        what = f"the archive of '{name}' {release.version}"
        await load_aiohttp()
        try:
            async with self._session() as session, session.get(release.download_url) as response:
                if response.status != 200:
                    raise NodeInstallFailed(
                        f"{what} could not be fetched: its host answers {response.status}", hint=_HINT,
                        retryable=response.status >= 500,
                    )  # fmt: skip
                size = 0
                with target.open("wb") as file:
                    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                        size += len(chunk)
                        if size > MAX_ARCHIVE_BYTES:
                            raise NodeInstallFailed(f"{what} is larger than 1 GB", hint="Name its git repository.")
                        file.write(chunk)
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = type(error).__name__
            raise NodeInstallFailed(f"{what} could not be fetched: {reason}", hint=_HINT, retryable=True) from error

    async def _explain_missing(self, name: str, version: str | None) -> NodeInstallFailed:
        answer = await self._ask(f"/nodes/{name}/versions", {}) if version else None
        rows = answer if isinstance(answer, list) else []
        versions = [str(row["version"]) for row in rows if isinstance(row, dict) and row.get("version")]
        if not versions:
            return NodeInstallFailed(
                f"the Comfy Registry has no custom node '{name}'",
                hint="Names are those in the address of its page on registry.comfy.org; or give its `url`.",
            )
        ordered = sorted(versions, key=lambda text: (read_version(text) is not None, read_version(text)), reverse=True)
        near = nearest(version or "", ordered)
        return NodeInstallFailed(
            f"the Comfy Registry has no version {version} of '{name}'", hint=f"There are: {', '.join(near.listed)}."
        )

    async def _ask(self, path: str, query: dict[str, str]) -> Any:  # noqa: ANN401  # JSON of another's making
        """Return the registry's answer as JSON, or None for 404."""
        await load_aiohttp()
        try:
            async with self._session() as session, session.get(self._url + path, params=query) as response:
                if response.status in {404, 400}:
                    return None
                if response.status != 200:
                    raise NodeInstallFailed(
                        f"the Comfy Registry answers {response.status}", hint=_HINT,
                        retryable=response.status >= 500 or response.status == 429,
                    )  # fmt: skip
                body = await response.content.read(_MAX_ANSWER_BYTES)
                while not response.content.at_eof() and len(body) < _MAX_ANSWER_BYTES:
                    body += await response.content.read(_MAX_ANSWER_BYTES - len(body))
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = type(error).__name__
            raise NodeInstallFailed(
                f"the Comfy Registry could not be asked: {reason}", hint=_HINT, retryable=True
            ) from error
        return _parse(body, path)

    def _session(self) -> aiohttp.ClientSession:
        # No limit on the whole: an archive may take as long as bytes come.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_s, sock_read=self._read_s)
        return aiohttp.ClientSession(timeout=timeout, trust_env=True)


def _parse(body: bytes, path: str) -> Any:  # noqa: ANN401  # JSON of another's making
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _strange(path.split("/")[2]) from error


def _check(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise NodeInstallFailed(
            f"'{name}' can be no name in the Comfy Registry",
            hint="Names are those in the address of its page on registry.comfy.org, as comfyui-impact-pack.",
        )
    return name


def _strange(name: str) -> NodeInstallFailed:
    return NodeInstallFailed(
        f"the Comfy Registry's answer for '{name}' is not understood", hint="Is COMFY_REGISTRY_URL right?"
    )
