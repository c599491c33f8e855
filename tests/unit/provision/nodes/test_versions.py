"""Which tag is the newest release."""

import pytest

from comfyworker.provision.nodes.versions import newest_release, same_release


@pytest.mark.parametrize(
    ("tags", "newest"),
    [
        (["v1.9", "v1.10.0", "v1.2"], "v1.10.0"),
        (["1.0.0", "2.0.0-beta.1", "v2.0rc1", "2.1.dev3"], "1.0.0"),
        (["nightly", "latest", "stable"], None),
        (["v2.0.0-rc.1"], None),
        (["release-1.2", "v1.1"], "release-1.2"),
        (["1.2.3", "v1.2.3"], "v1.2.3"),
        (["v1.0.0", "v1.0.0.post1"], "v1.0.0.post1"),
        ([], None),
    ],
)
def test_the_highest_version_that_is_no_pre_release_is_the_newest(tags: list[str], newest: str | None) -> None:
    """Versions are ordered as numbers; pre-releases and names that are no versions do not count."""
    assert newest_release(tags) == newest


def test_a_version_is_found_in_another_spelling() -> None:
    """Who writes 1.2 means the tag v1.2.0."""
    assert same_release("1.2", ["v1.1", "v1.2.0"]) == "v1.2.0"
    assert same_release("main", ["v1.1", "v1.2.0"]) is None
