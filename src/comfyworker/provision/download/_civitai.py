"""Files of Civitai: its pages' URLs understood, its token shown to it alone, its refusals explained."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

from yarl import URL

from comfyworker.provision.download._faults import Fault

HOSTS = frozenset({"civitai.com", "www.civitai.com", "civitai.red", "civitai.green"})
ORIGINS = frozenset(f"https://{host}" for host in HOSTS)
_PAGE = re.compile(r"/models/\d+(?:/[^/]*)?/?")


def is_civitai(url: str) -> bool:
    """Tell whether a URL is one of Civitai's."""
    try:
        return (urlsplit(url.strip()).hostname or "") in HOSTS
    except ValueError:
        return False


def download_url(url: str) -> str:
    """Return the URL of the download, of a model's page the version's that it shows.

    Raises:
        Fault: it is the page of a model, but names no version.
    """
    parts = urlsplit(url.strip())
    if _PAGE.fullmatch(parts.path) is None:
        return url
    version = parse_qs(parts.query).get("modelVersionId", [""])[0]
    if not version.isdecimal():
        hint = "Choose the version on the page, and take the URL of its Download button."
        raise Fault("is the page of a model, which has several files", "invalid_url", hint=hint)
    return f"{parts.scheme}://{parts.netloc}/api/download/models/{version}"


def explain(status: int, _headers: Mapping[str, str], _text: str, *, has_token: bool) -> Fault | None:
    """Return what a refusal means; None for the usual meaning."""
    if status not in {401, 403}:
        return None
    return _refused(has_token=has_token, status=status)


def check_redirect(target: URL, *, has_token: bool) -> None:
    """Look where a download leads to: whoever must log in is led to a page.

    Raises:
        Fault: it is the page for logging in.
    """
    if target.host in HOSTS and target.path.startswith("/login"):
        raise _refused(has_token=has_token)


def _refused(*, has_token: bool, status: int | None = None) -> Fault:
    if has_token:
        hint = "Look on Civitai's page whether it is in early access, or was hidden; or make a new CIVITAI_TOKEN."
        return Fault("may not be fetched with CIVITAI_TOKEN", "forbidden", status=status, hint=hint)
    hint = "Make an API key at https://civitai.com/user/account, and set CIVITAI_TOKEN to it."
    return Fault("asks for a login, and CIVITAI_TOKEN is not set", "unauthorized", status=status, hint=hint)
