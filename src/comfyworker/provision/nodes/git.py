"""git, run as a program: what a repository offers, one commit of it, and what was changed in a checkout.

Nothing here waits for somebody at a keyboard, runs hooks, or follows a transport that could run a program.
"""

from __future__ import annotations

import base64
import codecs
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, SecretStr

from comfyworker.comfyui.running import CommandFailed, ignore_line, run_command
from comfyworker.errors import NodeInstallFailed
from comfyworker.provision.nodes.remotes import show_url
from comfyworker.redaction import redact
from comfyworker.settings import process_environment

_REF_LINE = re.compile(r"^(?:ref: (\S+)|([0-9a-f]{40,64}))\t(\S+)$")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_LFS_HEADER = b"version https://git-lfs.github.com/spec/"
_LFS_POINTER_BYTES = 1024
_GITHUB = "https://github.com/"
_ASK_LIMIT_S = 90.0
_HERE_LIMIT_S = 120.0
_OPTIONS = (
    *("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "protocol.ext.allow=never"),
    *("-c", "advice.detachedHead=false", "-c", "gc.auto=0", "-c", "maintenance.auto=false"),
    # A volume's files may belong to another user; hooks and monitors, the danger in that, are off.
    *("-c", "safe.directory=*", "-c", "submodule.recurse=false"),
    # A connection over which nothing comes is given up.
    *("-c", "http.lowSpeedLimit=100", "-c", "http.lowSpeedTime=60"),
)
_ENVIRONMENT = {
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "true",
    "SSH_ASKPASS": "true",
    "GCM_INTERACTIVE": "never",
    "GIT_OPTIONAL_LOCKS": "0",
    "LC_ALL": "C",
}
_SSH = "ssh -o BatchMode=yes -o ConnectTimeout=15 -o StrictHostKeyChecking=accept-new"
# git has no codes for these; its words, in the C locale, are all there is.
_REFUSED = re.compile(
    r"could not read Username|could not read Password|Authentication failed|[Rr]epository .*not found|"
    r"does not appear to be a git repository|does not exist|Permission denied|returned error: 40[134]|"
    r"not found|Could not read from remote repository"
)
_NETWORK = re.compile(
    r"Could not resolve host|Couldn't connect|Failed to connect|Connection (?:refused|reset|closed)|timed out|"
    r"early EOF|RPC failed|unexpected disconnect|returned error: 5\d\d|returned error: 429|SSL|Operation too slow|"
    r"Network is unreachable|took longer"
)


class Refs(BaseModel):
    """What a repository offers."""

    model_config = ConfigDict(frozen=True)

    head: str | None = None
    """The commit of the default branch; None when the repository is empty."""
    head_branch: str | None = None
    tags: dict[str, str] = {}
    """Tag → commit; for an annotated tag the commit that it names."""
    branches: dict[str, str] = {}


class Git:
    """Runs git."""

    def __init__(self, *, limit_s: float, token: SecretStr | None = None) -> None:
        """Keep how long a fetch may take, and the token for private repositories on github.com."""
        self._limit_s = limit_s
        self._token = token
        self._private: set[str] = set()

    async def list_refs(self, url: str) -> Refs:
        """Return the default branch, tags and branches of a repository, without fetching any of it.

        Raises:
            NodeInstallFailed: there is no such repository, it is private, or the network failed (then retryable).
        """
        lines: list[str] = []
        what = ("ls-remote", "--symref", "--", url, "HEAD", "refs/heads/*", "refs/tags/*")
        try:
            await self._ask(url, what, lines)
        except CommandFailed as error:
            raise _translate(error, url) from error
        return parse_refs(lines)

    async def fetch_commit(
        self, folder: Path, url: str, commit: str, *, ref: str | None, on_line: Callable[[str], None] = ignore_line
    ) -> None:
        """Bring one commit of a repository into `folder`, which must be empty, with its submodules.

        Only that commit is fetched where the server hands it out by its hash or by `ref`; else all of the history.

        Raises:
            NodeInstallFailed: the repository, the commit or a submodule cannot be had.
        """
        try:
            await self._here(folder, "init", "--quiet", "--template=")
            await self._here(folder, "remote", "add", "origin", url)
            await self._fetch(folder, url, commit, ref, on_line)
            await self._here(folder, "checkout", "--quiet", "--force", "--detach", commit, on_line=on_line)
            if (folder / ".gitmodules").is_file():
                await self._bring_submodules(folder, url, on_line)
        except CommandFailed as error:
            raise _translate(error, url) from error

    async def find_commit(self, folder: Path, url: str, short: str) -> str | None:
        """Return the whole hash of a commit of which the first digits are known, or None if there is no such commit.

        Args:
            folder: An empty folder to work in.
            url: The repository.
            short: The first digits.
        """
        try:
            await self._here(folder, "init", "--quiet", "--bare", "--template=")
            refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
            # Without files: only which commits there are matters.
            fetch = ("fetch", "--quiet", "--filter=tree:0", "--no-tags", "--", url, *refs)
            await self._ask(url, ("-C", str(folder), *fetch), limit_s=self._limit_s)
        except CommandFailed as error:
            raise _translate(error, url) from error
        return await self._revision(folder, f"{short}^{{commit}}")

    async def read_head(self, folder: Path) -> str | None:
        """Return the commit that is checked out in `folder`, or None if that is no checkout."""
        return await self._revision(folder, "HEAD") if (folder / ".git").exists() else None

    async def read_remote(self, folder: Path) -> str | None:
        """Return where a checkout came from, or None if it does not say or is no checkout."""
        if not (folder / ".git").exists():
            return None
        try:
            lines = await self._here(folder, "config", "--get", "remote.origin.url")
        except CommandFailed:
            return None
        return lines[-1] if lines else None

    async def list_changes(self, folder: Path) -> list[str]:
        """Return the files of the version in a checkout that were changed or deleted, submodules included.

        Raises:
            CommandFailed: git cannot read the checkout.
        """
        lines: list[str] = []
        status = ("status", "--porcelain=v1", "--untracked-files=no", "--ignore-submodules=none")
        await self._here(folder, *status, on_line=lines.append)
        return [_unquote(line.strip().partition(" ")[2].strip()) for line in lines]

    async def has_own_commits(self, folder: Path) -> bool:
        """Tell whether a checkout is at a commit that no branch of its remote was seen to have."""
        try:
            lines = await self._here(folder, "rev-list", "--max-count=1", "HEAD", "--not", "--remotes", "--tags")
        except CommandFailed:
            return True
        return bool(lines)

    async def list_files(self, folder: Path) -> set[str]:
        """Return the files of the version in a checkout, submodules included.

        Raises:
            CommandFailed: git cannot read the checkout.
        """
        lines: list[str] = []
        await self._here(folder, "ls-files", "--recurse-submodules", on_line=lines.append)
        return {_unquote(line) for line in lines}

    async def _fetch(
        self, folder: Path, url: str, commit: str, ref: str | None, on_line: Callable[[str], None]
    ) -> None:
        shallow = ("fetch", "--progress", "--depth", "1", "--no-tags", "origin")
        for wanted in (commit, ref):
            try:
                if wanted:
                    await self._ask(url, ("-C", str(folder), *shallow, wanted), on_line=on_line, limit_s=self._limit_s)
            except CommandFailed as error:
                if _NETWORK.search(_text(error)):
                    raise
                continue  # The server hands out no commits by their hash, or cannot leave history out.
            if await self._revision(folder, f"{commit}^{{commit}}"):
                return
        refs = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
        whole = ("-C", str(folder), "fetch", "--progress", "--no-tags", "origin", *refs)
        await self._ask(url, whole, on_line=on_line, limit_s=self._limit_s)
        if not await self._revision(folder, f"{commit}^{{commit}}"):
            raise NodeInstallFailed(
                f"'{show_url(url)}' has no commit {commit[:12]}",
                hint="Was its history rewritten? Name a commit, tag or branch that exists; a lock file may be stale.",
            )

    async def _bring_submodules(self, folder: Path, url: str, on_line: Callable[[str], None]) -> None:
        here = ("-C", str(folder), "submodule", "update", "--init", "--recursive", "--jobs", "4")
        try:
            await self._ask(url, (*here, "--depth", "1"), on_line=on_line, limit_s=self._limit_s)
        except CommandFailed:
            # Some servers hand out no commit by its hash; with the whole history it is found.
            try:
                await self._ask(url, here, on_line=on_line, limit_s=self._limit_s)
            except CommandFailed as error:
                raise NodeInstallFailed(
                    f"a submodule of '{show_url(url)}' could not be fetched",
                    hint="Its .gitmodules names where from; see the output in the details.",
                    details={"output": redact("\n".join(error.tail))},
                    retryable=bool(_NETWORK.search(_text(error))),
                ) from error

    async def _revision(self, folder: Path, name: str) -> str | None:
        try:
            lines = await self._here(folder, "rev-parse", "--quiet", "--verify", "--end-of-options", name)
        except CommandFailed:
            return None
        found = [line for line in lines if _COMMIT.fullmatch(line)]
        return found[-1] if found else None

    async def _here(self, folder: Path, *args: str, on_line: Callable[[str], None] = ignore_line) -> tuple[str, ...]:
        return await self._run(("-C", str(folder), *args), {}, on_line, _HERE_LIMIT_S)

    async def _ask(
        self,
        url: str,
        args: Sequence[str],
        lines: list[str] | None = None,
        *,
        on_line: Callable[[str], None] = ignore_line,
        limit_s: float = _ASK_LIMIT_S,
    ) -> None:
        """Run git against a remote; with the token only where it is needed, since a stale one bars public ones too."""
        hear = on_line if lines is None else lines.append
        if url not in self._private:
            try:
                await self._run(args, _transports(url), hear, limit_s)
            except CommandFailed as error:
                if self._token is None or not url.startswith(_GITHUB) or not _REFUSED.search(_text(error)):
                    raise
                self._private.add(url)
            else:
                return
        if lines is not None:
            lines.clear()
        await self._run(args, {**_transports(url), **_authorization(self._token)}, hear, limit_s)

    async def _run(
        self, args: Sequence[str], extra: Mapping[str, str], on_line: Callable[[str], None], limit_s: float
    ) -> tuple[str, ...]:
        git = shutil.which("git")
        if git is None:
            raise NodeInstallFailed("git is not installed", hint="Install git, or name custom nodes by the registry.")
        environment = {**_ENVIRONMENT, **extra}
        if "GIT_SSH_COMMAND" not in process_environment():
            environment["GIT_SSH_COMMAND"] = _SSH
        return await run_command([git, *_OPTIONS, *args], on_line=on_line, extra_env=environment, limit_s=limit_s)


def parse_refs(lines: Sequence[str]) -> Refs:
    """Return what `git ls-remote --symref` said; lines of another shape are passed over."""
    head, head_branch = None, None
    tags: dict[str, str] = {}
    branches: dict[str, str] = {}
    for line in lines:
        match = _REF_LINE.match(line)
        if match is None:
            continue
        target, commit, name = match.groups()
        if name == "HEAD" and target:
            head_branch = target.removeprefix("refs/heads/")
        elif name == "HEAD":
            head = commit
        elif name.startswith("refs/tags/"):
            # `name^{}` comes behind `name` and is the commit of an annotated tag.
            tags[name.removeprefix("refs/tags/").removesuffix("^{}")] = commit
        elif name.startswith("refs/heads/"):
            branches[name.removeprefix("refs/heads/")] = commit
    return Refs(head=head, head_branch=head_branch, tags=tags, branches=branches)


def count_lfs_pointers(folder: Path) -> int:
    """Return how many files below `folder` are pointers to files that Git LFS keeps elsewhere."""
    count = 0
    for path in folder.rglob("*"):
        if ".git" in path.relative_to(folder).parts or path.is_symlink() or not path.is_file():
            continue
        if path.stat().st_size <= _LFS_POINTER_BYTES and path.read_bytes().startswith(_LFS_HEADER):
            count += 1
    return count


def _transports(url: str) -> dict[str, str]:
    # A repository from the network must not have its submodules read from this disk.
    is_local = url.startswith(("/", "file:"))
    return {"GIT_ALLOW_PROTOCOL": "https:http:ssh:file" if is_local else "https:http:ssh"}


def _authorization(token: SecretStr | None) -> dict[str, str]:
    if token is None:
        return {}
    # In the environment and for one host: a command line can be read by all, and no other host may see it.
    pair = base64.b64encode(f"x-access-token:{token.get_secret_value()}".encode()).decode()
    own = process_environment().get("GIT_CONFIG_COUNT", "0")
    number = int(own) if own.isdigit() else 0
    return {
        "GIT_CONFIG_COUNT": str(number + 1),
        f"GIT_CONFIG_KEY_{number}": f"http.{_GITHUB}.extraHeader",
        f"GIT_CONFIG_VALUE_{number}": f"Authorization: Basic {pair}",
    }


def _translate(error: CommandFailed, url: str) -> NodeInstallFailed:
    text = _text(error)
    shown = show_url(url)
    details = {"output": redact("\n".join(error.tail))}
    if _NETWORK.search(text):
        return NodeInstallFailed(
            f"'{shown}' could not be reached: {error}",
            hint="Is the network up? Try again; what was placed before stays.", details=details, retryable=True,
        )  # fmt: skip
    if _REFUSED.search(text):
        return NodeInstallFailed(
            f"there is no repository at '{shown}', or it is private",
            hint="Look at the URL; for a private repository on github.com set GITHUB_TOKEN.", details=details,
        )  # fmt: skip
    return NodeInstallFailed(
        f"git failed for '{shown}': {error}", hint="See git's output in the details.", details=details
    )


def _text(error: CommandFailed) -> str:
    return "\n".join([str(error), *error.tail])


def _unquote(name: str) -> str:
    if not name.startswith('"'):
        return name
    raw, _ = codecs.escape_decode(name.strip('"').encode())
    return bytes(raw).decode(errors="surrogateescape")
