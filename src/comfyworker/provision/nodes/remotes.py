"""URLs of git repositories: which are taken, what folder they lead to, and which are the same; pure."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from comfyworker.errors import NodeInstallFailed
from comfyworker.redaction import hide_credentials, hide_queries

_SCP = re.compile(r"^(?:[\w.+-]+@)?([\w.-]+):(?!//)([^:\s]+)$")
_SCHEMES = frozenset({"https", "http", "ssh", "file"})
_PAGE = re.compile(r"^(https?://(?:www\.)?github\.com/[^/]+/[^/]+)/(?:tree|commit|releases/tag)/([^?#]+)")
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@ -]*")
_CASELESS_HOSTS = frozenset({"github.com", "gitlab.com", "codeberg.org", "bitbucket.org"})


def check_url(url: str) -> None:
    """See that `url` is one that git may be given.

    Raises:
        NodeInstallFailed: it is no URL of a repository, or of a kind that could run programs.
    """
    page = _PAGE.match(url)
    if page:
        raise NodeInstallFailed(
            f"'{show_url(url)}' is a page of GitHub, not a repository",
            hint=f"Write `url: {page.group(1)}` and `version: {page.group(2)}`.",
        )
    if "::" in url or url.startswith("-") or any(char.isspace() or not char.isprintable() for char in url):
        raise NodeInstallFailed(f"'{show_url(url)}' is no URL of a git repository", hint=_hint())
    if not url.startswith("/") and not _SCP.match(url) and urlsplit(url).scheme not in _SCHEMES:
        raise NodeInstallFailed(f"'{show_url(url)}' is no URL of a git repository", hint=_hint())


def folder_from_url(url: str) -> str:
    """Return the folder in custom_nodes that a repository is placed in: its name, as `git clone` would take it.

    Raises:
        NodeInstallFailed: the URL ends in nothing that could be a folder of ComfyUI's.
    """
    scp = _SCP.match(url)
    path = scp.group(2) if scp else urlsplit(url).path
    name = unquote(path).rstrip("/").rpartition("/")[2].removesuffix(".git")
    return require_folder(name, f"'{show_url(url)}'")


def require_folder(name: str, what: str) -> str:
    """Return `name` if custom_nodes can hold a folder of that name which ComfyUI loads.

    Raises:
        NodeInstallFailed: it cannot; the message begins with `what`.
    """
    if not _FOLDER.fullmatch(name) or name.endswith((".disabled", ".", " ")) or name == "__pycache__":
        raise NodeInstallFailed(
            f"{what} gives no name that a folder in custom_nodes can have", hint="Look at the end of the URL or name."
        )
    return name


def same_remote(one: str, other: str) -> bool:
    """Tell whether two URLs lead to the same repository: `git@github.com:A/b.git` is `https://github.com/a/b`."""
    return _identity(one) == _identity(other)


def repository_id(url: str) -> str:
    """Return host and path of a repository, in lower case and without `.git`, as `github.com/someone/pack`."""
    return "/".join(_identity(url)).lower()


def show_url(url: str) -> str:
    """Return `url` as it may be shown to people: without user, password and query."""
    return hide_queries(hide_credentials(url))


def _identity(url: str) -> tuple[str, str]:
    scp = _SCP.match(url)
    parts = urlsplit(url)
    host, path = (scp.group(1), scp.group(2)) if scp else (parts.hostname or "", parts.path)
    host = host.lower().removeprefix("www.")
    path = unquote(path).strip("/").removesuffix(".git")
    return host, path.lower() if host in _CASELESS_HOSTS else path


def _hint() -> str:
    return "Give one as https://github.com/OWNER/REPOSITORY."
