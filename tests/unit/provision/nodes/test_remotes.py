"""Which URLs git may be given, and what folder they lead to."""

import pytest

from comfyworker.errors import NodeInstallFailed
from comfyworker.provision.nodes.remotes import check_url, folder_from_url, same_remote, show_url


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/ltdrdata/ComfyUI-Manager.git",
        "http://127.0.0.1:8000/a/b",
        "git@github.com:owner/pack.git",
        "ssh://git@example.org:22/owner/pack",
        "file:///srv/git/pack",
        "/srv/git/pack",
    ],
)
def test_urls_of_repositories_are_taken(url: str) -> None:
    """All ways in which people name a repository."""
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% /tmp/pwned",
        "--upload-pack=touch /tmp/pwned",
        "git://github.com/owner/pack",
        "fd::17",
        "pack",
        "https://github.com/owner/pack\nurl",
        "",
    ],
)
def test_what_could_run_a_program_or_is_no_url_is_refused(url: str) -> None:
    """Nothing that git would read as an option or as a helper to run gets to it."""
    with pytest.raises(NodeInstallFailed, match="is no URL of a git repository"):
        check_url(url)


def test_a_page_of_github_is_told_apart() -> None:
    """Who copies the address of a branch's page is told what to write."""
    with pytest.raises(NodeInstallFailed) as caught:
        check_url("https://github.com/owner/pack/tree/dev")
    assert caught.value.hint == "Write `url: https://github.com/owner/pack` and `version: dev`."


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("https://github.com/ltdrdata/ComfyUI-Manager.git", "ComfyUI-Manager"),
        ("https://github.com/owner/pack/", "pack"),
        ("git@github.com:owner/pack.git", "pack"),
        ("git@host:pack", "pack"),
        ("file:///srv/my%20pack", "my pack"),
    ],
)
def test_a_repository_leads_to_the_folder_that_git_would_take(url: str, folder: str) -> None:
    """The last part, without `.git`."""
    assert folder_from_url(url) == folder


@pytest.mark.parametrize("url", ["https://github.com/owner/..", "https://h/x.disabled", "https://h/.git", "https://h/"])
def test_a_folder_that_comfyui_would_not_load_is_refused(url: str) -> None:
    """Nor one that is none."""
    with pytest.raises(NodeInstallFailed, match="gives no name"):
        folder_from_url(url)


def test_the_same_repository_is_known_by_any_of_its_urls() -> None:
    """`git@` and `https://`, with and without `.git`, in any letter case on hosts that have none."""
    assert same_remote("git@github.com:Owner/Pack.git", "https://github.com/owner/pack/")
    assert same_remote("https://user:secret@github.com/owner/pack", "https://www.github.com/owner/pack.git")
    assert not same_remote("https://github.com/owner/pack", "https://github.com/other/pack")
    assert not same_remote("file:///srv/Pack", "file:///srv/pack")


def test_a_shown_url_holds_no_secret() -> None:
    """Neither password nor query."""
    assert show_url("https://user:secret@host/pack?token=abc") == "https://…@host/pack?…"
