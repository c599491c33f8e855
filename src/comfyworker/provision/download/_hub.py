"""Files of Hugging Face's Hub.

What is the Hub's own goes through huggingface_hub: the file's size, its SHA-256, its commit, and what refusals mean.
The bytes do not. Its own download, by hf_xet, cannot go on where a killed process stopped, and its speed comes from
many ranges at once, which ours has too; the Hub answers ranges of every file, at a URL that is signed for an hour. One
way for all sources also means that one set of tests speaks for all of them.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from comfyworker.finishing import in_thread
from comfyworker.provision.download._answers import MAX_FILE_BYTES, Facts
from comfyworker.provision.download._faults import Fault, status_fault
from comfyworker.settings import ProvisionSettings

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata
    from huggingface_hub.errors import HfHubHTTPError

ENDPOINT = "https://huggingface.co"
_HOSTS = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})
_WAYS = frozenset({"resolve", "blob", "raw"})
_KINDS = {"datasets": "dataset", "spaces": "space"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HubFile:
    """A file in a repository of the Hub."""

    repository: str
    """`owner/name`, or `name` for the oldest ones."""
    path: str
    revision: str = "main"
    kind: str = "model"
    """model | dataset | space"""

    def page(self, endpoint: str) -> str:
        """Return the URL of the repository's page."""
        folder = next((folder for folder, kind in _KINDS.items() if kind == self.kind), None)
        return f"{endpoint}/{folder}/{self.repository}" if folder else f"{endpoint}/{self.repository}"


def endpoint_of(settings: ProvisionSettings) -> str:
    """Return the Hub, or the mirror of it, that is asked."""
    return (settings.hf_endpoint or ENDPOINT).strip().rstrip("/")


def find_hub_file(url: str, endpoint: str) -> HubFile | None:
    """Return the Hub's file that a URL means; None if it is no URL of the Hub.

    Raises:
        Fault: it is one, but of no file.
    """
    parts = urlsplit(url.strip())
    if parts.scheme == "hf":
        return _short(unquote(f"{parts.netloc}{parts.path}"))
    own = urlsplit(endpoint)
    is_own = (parts.scheme, parts.netloc) == (own.scheme, own.netloc)
    if parts.scheme not in {"http", "https"} or not (is_own or (parts.hostname or "") in _HOSTS):
        return None
    path = parts.path.removeprefix(own.path) if is_own else parts.path
    names = [name for name in path.split("/") if name]
    kind = _KINDS.get(names[0], "model") if names else "model"
    names = names[1:] if kind != "model" else names
    at = next((index for index in (1, 2) if len(names) > index and names[index] in _WAYS), None)
    if (at is None or len(names) < at + 3) and (parts.hostname or "") not in _HOSTS:
        return None  # A mirror may serve other things, too.
    if at is None or len(names) < at + 3:
        raise _no_file("https://huggingface.co/owner/name/resolve/main/file.safetensors")
    revision, rest = unquote(names[at + 1]), names[at + 2 :]
    if revision == "refs" and len(rest) > 2:
        revision, rest = "/".join(["refs", *rest[:2]]), rest[2:]
    return _checked("/".join(names[:at]), "/".join(unquote(name) for name in rest), revision, kind)


def _short(text: str) -> HubFile:
    names = [name for name in text.split("/") if name]
    kind = _KINDS.get(names[0], "model") if names else "model"
    names = names[1:] if names and names[0] in {*_KINDS, "models"} else names
    if len(names) < 3:
        raise _no_file("hf://owner/name/file.safetensors")
    name, _, revision = names[1].partition("@")
    return _checked(f"{names[0]}/{name}", "/".join(names[2:]), revision or "main", kind)


def _checked(repository: str, path: str, revision: str, kind: str) -> HubFile:
    names = repository.split("/")
    if not all(_NAME.fullmatch(name) for name in names) or any(part in {"", ".", ".."} for part in path.split("/")):
        raise _no_file("https://huggingface.co/owner/name/resolve/main/file.safetensors")
    return HubFile(repository, path, revision, kind)


def _no_file(example: str) -> Fault:
    return Fault("names no file of a repository on Hugging Face", "invalid_url", hint=f"Write it as {example}.")


class HubSource:
    """What the Hub says of one file."""

    def __init__(self, file: HubFile, settings: ProvisionSettings, *, is_guarded: bool = False) -> None:
        """Ask for `file` as the settings say; under guard, with no token but that of the settings."""
        self._is_guarded = is_guarded
        self._file = file
        self._settings = settings
        self._endpoint = endpoint_of(settings)

    async def look(self) -> tuple[str, Facts]:
        """Return the URL of the file at its commit, and what the Hub says of it.

        Raises:
            Fault: there is no such file, or it may not be had.
        """
        if self._settings.hf_offline:
            hint = "Unset HF_HUB_OFFLINE, or have the file in its folder before."
            raise Fault("is not fetched: HF_HUB_OFFLINE is set", "offline", hint=hint)
        metadata = await in_thread(functools.partial(_metadata, self))
        return self._url(metadata.commit_hash or self._file.revision), self._facts(metadata)

    @property
    def token(self) -> SecretStr | None:
        """The token for the Hub: HF_TOKEN, else what `hf auth login` has stored, which is for the Hub itself only."""
        if self._settings.hf_token is not None:
            return self._settings.hf_token
        if self._is_guarded or self._endpoint != ENDPOINT:
            return None
        from huggingface_hub import get_token  # noqa: PLC0415  # heavy

        stored = get_token()
        return None if stored is None else SecretStr(stored)

    def ask(self) -> HfFileMetadata:
        """Return the Hub's metadata of the file; in a thread, since huggingface_hub blocks."""
        from huggingface_hub import get_hf_file_metadata  # noqa: PLC0415  # heavy

        token = self.token
        return get_hf_file_metadata(
            self._url(self._file.revision),
            token=token.get_secret_value() if token else False,
            timeout=self._settings.connect_timeout_s,
            endpoint=self._endpoint,
            library_name="comfyworker",
        )

    def _url(self, revision: str) -> str:
        from huggingface_hub import hf_hub_url  # noqa: PLC0415  # heavy

        file = self._file
        kind = None if file.kind == "model" else file.kind
        return hf_hub_url(file.repository, file.path, repo_type=kind, revision=revision, endpoint=self._endpoint)

    def _facts(self, metadata: HfFileMetadata) -> Facts:
        etag = (metadata.etag or "").strip('"').lower()
        size = metadata.size
        if size is not None and not 0 <= size <= MAX_FILE_BYTES:
            raise Fault(f"claims to have {size} bytes, which no model has", "broken_ranges")
        return Facts(
            filename=self._file.path.rpartition("/")[2],
            size_bytes=size,
            takes_ranges=False,  # The host of the bytes says that.
            etag=metadata.etag,
            identity=f"hub {etag}" if etag else None,
            sha256=etag if _SHA256.fullmatch(etag) else None,
        )

    def meaning(self, status: int, code: str, message: str) -> Fault | None:
        """Return what a refusal of the Hub means; None if that is no peculiarity of the Hub.

        Args:
            status: The HTTP status.
            code: Its X-Error-Code.
            message: Its X-Error-Message.
        """
        page = self._file.page(self._endpoint)
        if code == "GatedRepo":
            return self._gated(page, status)
        missing = {
            "RevisionNotFound": f"has no revision '{self._file.revision}'",
            "EntryNotFound": f"has no file '{self._file.path}' at '{self._file.revision}'",
        }.get(code)
        if missing is not None:
            text = f"is not there: {self._file.repository} {missing}"
            return Fault(text, "not_found", status=status, hint=f"Look at {page}.")
        if status == HTTPStatus.FORBIDDEN and "disabled" in message.lower():
            return Fault(f"is in {self._file.repository}, which the Hub has disabled", "forbidden", status=status)
        if code == "RepoNotFound" or status == HTTPStatus.UNAUTHORIZED:
            return self._private(page, status, message)
        return None

    def _gated(self, page: str, status: int) -> Fault:
        has_token = self._settings.hf_token is not None
        who = "the account of HF_TOKEN" if has_token else "your account, and set HF_TOKEN to a token of it"
        why = "which the account of HF_TOKEN may not read yet" if has_token else "and HF_TOKEN is not set"
        hint = f"Accept its terms at {page} with {who}; a fine-grained token must allow gated repositories."
        return Fault(f"is in the gated repository {self._file.repository}, {why}", "gated", status=status, hint=hint)

    def _private(self, page: str, status: int, message: str) -> Fault:
        has_token = self._settings.hf_token is not None
        if has_token and "invalid" in message.lower():
            hint = "Make a new token at https://huggingface.co/settings/tokens, and set HF_TOKEN to it."
            return Fault("is not given out: the Hub does not know HF_TOKEN", "unauthorized", status=status, hint=hint)
        told = "HF_TOKEN may not read it" if has_token else "it is private: HF_TOKEN is not set"
        text = f"is not given out: there is no repository {self._file.repository}, or {told}"
        hint = f"Look at {page}, and use a token that may read it."
        return Fault(text, "unauthorized", status=status, hint=hint)


def _metadata(source: HubSource) -> HfFileMetadata:
    """Ask the Hub; what huggingface_hub raises is translated, without its chain: its text shows whole URLs."""
    from huggingface_hub import errors  # noqa: PLC0415  # heavy

    try:
        return source.ask()
    except errors.HfHubHTTPError as error:
        raise _refusal(error, source) from None
    except errors.OfflineModeIsEnabled:
        raise Fault("is not fetched: huggingface_hub is set to be offline", "offline") from None
    except (errors.HTTPError, OSError):  # type: ignore[attr-defined]  # its HTTP client's, of whichever name
        text = "could not be looked up: the Hub cannot be reached"
        raise Fault(text, "unreachable", hint="Look at the network, and at HF_ENDPOINT.", may_pass=True) from None


def _refusal(error: HfHubHTTPError, source: HubSource) -> Fault:
    response = error.response
    headers = response.headers
    found = source.meaning(response.status_code, headers.get("X-Error-Code", ""), headers.get("X-Error-Message", ""))
    return found or status_fault(response.status_code, headers.get("Retry-After"))
