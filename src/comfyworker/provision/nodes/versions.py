"""Which of a repository's tags is its newest release; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from packaging.version import InvalidVersion, Version

_PREFIX = re.compile(r"^(?:(?:release|rel|version|ver|stable)[-_/.]?)?(?=v?\d)", re.IGNORECASE)


def newest_release(tags: Iterable[str]) -> str | None:
    """Return the tag that names the highest version, pre-releases left out; None if no tag names a release.

    `v1.10.0` is higher than `v1.9`; `2.0-beta.1`, `v2.0rc1` and `nightly` are no releases.
    """
    releases = [(version, tag) for tag in tags if (version := read_version(tag)) and not version.is_prerelease]
    # Of two tags for one version, the one with a `v` is what GitHub shows as the release.
    return max(releases, key=lambda pair: (pair[0], pair[1].startswith("v")), default=(None, None))[1]


def read_version(tag: str) -> Version | None:
    """Return the version that a tag names, or None if it names none."""
    try:
        return Version(_PREFIX.sub("", tag))
    except InvalidVersion:
        return None


def same_release(wanted: str, tags: Iterable[str]) -> str | None:
    """Return the tag that names the version `wanted` in another spelling: `1.2.3` for `v1.2.3`."""
    version = read_version(wanted)
    return next((tag for tag in tags if version is not None and read_version(tag) == version), None)
